//! What the connections of a run share: the clock, the counters, and the wake-up of waiting publishers.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

/// Counters are added to once per write or read, never per message.
pub struct Board {
    origin: Instant,
    origin_ns: u64,
    pub published: AtomicU64,
    pub acknowledged: AtomicU64,
    pub refused: AtomicU64,
    pub consumed: AtomicU64,
    pub consumed_bytes: AtomicU64,
    /// When the last message came in, or the last acknowledgement.
    pub last_ns: AtomicU64,
    /// Latencies of messages sent before this time are not recorded.
    pub measured_from_ns: AtomicU64,
    /// Deliveries that nobody waits for any longer, see [`Board::progress`].
    forgiven: AtomicU64,
    /// Deliveries of one published message.
    pub fan_out: u64,
    /// Deliveries that may be missing before publishers wait; `u64::MAX` is no limit.
    pub max_lag: u64,
    progress: Notify,
}

impl Board {
    pub fn new(fan_out: u64, max_lag: u64) -> Board {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Board {
            origin: Instant::now(),
            origin_ns: nanoseconds(since_epoch.unwrap_or_default()),
            published: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            consumed_bytes: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            measured_from_ns: AtomicU64::new(u64::MAX),
            forgiven: AtomicU64::new(0),
            fan_out,
            max_lag,
            progress: Notify::new(),
        }
    }

    /// Nanoseconds since the Unix epoch, never going back.
    pub fn now_ns(&self) -> u64 {
        self.origin_ns + nanoseconds(self.origin.elapsed())
    }

    /// Messages that may be published before consumers must catch up; `u64::MAX` when nothing limits.
    /// After the limit was reached it opens again by quarters, as [`crate::window::Window`] does.
    pub fn lag_room(&self) -> u64 {
        if self.max_lag == u64::MAX {
            return u64::MAX;
        }
        let room = self.max_lag.saturating_sub(self.lag()) / self.fan_out;
        if room < self.max_lag / self.fan_out / 4 {
            0
        } else {
            room
        }
    }

    /// Deliveries still to come.
    pub fn lag(&self) -> u64 {
        let expected = self.published.load(Relaxed) * self.fan_out;
        expected.saturating_sub(self.consumed.load(Relaxed) + self.forgiven.load(Relaxed))
    }

    pub fn consumed(&self, messages: u64, bytes: u64, now_ns: u64) {
        self.consumed.fetch_add(messages, Relaxed);
        self.consumed_bytes.fetch_add(bytes, Relaxed);
        self.last_ns.fetch_max(now_ns, Relaxed);
        if self.max_lag != u64::MAX {
            self.progress.notify_waiters();
        }
    }

    /// Waits until consumers made progress. When there is none for a while, what is missing is taken for
    /// lost (an MQTT broker may drop QoS 0), so that the run goes on; the report still counts it.
    pub async fn progress(&self, patience: Duration) {
        let seen = self.consumed.load(Relaxed);
        let mut progress = pin!(self.progress.notified());
        progress.as_mut().enable();
        if self.lag_room() > 0 {
            return;
        }
        let waited = tokio::time::timeout(patience, progress).await;
        if waited.is_err() && self.consumed.load(Relaxed) == seen {
            self.forgiven.fetch_add(self.lag(), Relaxed);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_every_delivery_of_a_fan_out() {
        let board = Board::new(10, 1000);
        assert_eq!(board.lag_room(), 100);
        board.published.store(90, Relaxed);
        assert_eq!((board.lag(), board.lag_room()), (900, 0));
        board.consumed(300, 0, 1);
        assert_eq!((board.lag(), board.lag_room()), (600, 40));
    }

    #[tokio::test]
    async fn what_never_comes_is_forgiven() {
        let board = Board::new(1, 100);
        board.published.store(100, Relaxed);
        board.progress(Duration::from_millis(1)).await;
        assert_eq!(board.lag_room(), 100);
    }
}
