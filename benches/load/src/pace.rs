//! When messages are due. At a fixed rate the plan is made beforehand and kept to: a message that the
//! broker's stall delays still counts from its planned time (no coordinated omission).

const SECOND_NS: u128 = 1_000_000_000;

pub struct Pace {
    start_ns: u64,
    /// Messages per `per_ns`; 0 is as fast as possible.
    rate: u64,
    /// A rate is divided among publishers by stretching the period, which keeps it exact.
    per_ns: u128,
}

impl Pace {
    /// `rate` is messages per second of all `publishers` together.
    pub fn new(start_ns: u64, rate: u64, publishers: usize) -> Pace {
        Pace {
            start_ns,
            rate,
            per_ns: SECOND_NS * publishers as u128,
        }
    }

    /// Messages due by `now_ns`, counted from the start.
    pub fn due(&self, now_ns: u64) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let elapsed = u128::from(now_ns.saturating_sub(self.start_ns));
        (elapsed * u128::from(self.rate) / self.per_ns) as u64
    }

    /// When message `number` (from 0) is planned, in ns since the epoch; `now_ns` at full speed.
    pub fn planned_ns(&self, number: u64, now_ns: u64) -> u64 {
        if self.rate == 0 {
            return now_ns;
        }
        let after = (u128::from(number) + 1) * self.per_ns;
        self.start_ns + after.div_ceil(u128::from(self.rate)) as u64
    }
}

/// Sleeps to the time asked for, not to the runtime's next millisecond.
#[cfg(target_os = "linux")]
pub struct Timer(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl Timer {
    pub fn new() -> std::io::Result<Timer> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        // What replaces `new` is unsafe for the sake of types that close their descriptor early; `OwnedFd` does not.
        #[allow(deprecated)]
        tokio::io::unix::AsyncFd::new(fd).map(Timer)
    }

    pub async fn sleep(&self, ns: u64) -> std::io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let ns = i64::try_from(ns.max(1)).unwrap_or(i64::MAX);
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let at = Timespec {
            tv_sec: ns / 1_000_000_000,
            tv_nsec: ns % 1_000_000_000,
        };
        let timer = Itimerspec {
            it_interval: zero,
            it_value: at,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &timer)?;
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut [0u8; 8])?));
            if let Ok(read) = read {
                return read.map(|_| ());
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub fn new() -> std::io::Result<Timer> {
        Ok(Timer)
    }

    pub async fn sleep(&self, ns: u64) -> std::io::Result<()> {
        tokio::time::sleep(std::time::Duration::from_nanos(ns)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_exactly_at_its_planned_time() {
        let pace = Pace::new(1_000, 3, 1);
        for number in 0..10 {
            let planned = pace.planned_ns(number, 0);
            assert_eq!(pace.due(planned), number + 1);
            assert_eq!(pace.due(planned - 1), number);
        }
    }

    #[test]
    fn publishers_share_a_rate() {
        let pace = Pace::new(0, 1_000, 4);
        assert_eq!(pace.due(1_000_000_000), 250);
        assert_eq!(pace.due(0), 0);
    }

    #[test]
    fn full_speed_is_always_due_and_planned_now() {
        let pace = Pace::new(0, 0, 1);
        assert_eq!((pace.due(0), pace.planned_ns(7, 42)), (u64::MAX, 42));
    }

    #[tokio::test]
    async fn the_timer_fires() {
        let timer = Timer::new().unwrap();
        timer.sleep(50_000).await.unwrap();
        timer.sleep(0).await.unwrap();
    }
}
