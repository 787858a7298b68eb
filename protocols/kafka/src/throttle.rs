//! What quotas mean for a connection (KIP-13, KIP-124, KIP-219, KIP-599): a client that is too fast is answered at
//! once, told for how long it is to wait, and not read from until then.
//!
//! Who has no quota pays one atomic load per request.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use trivium_core::{ClientMeter, Meters, Now, QuotaKind, Text};

/// Who a connection without authentication is to quotas.
const ANONYMOUS: &str = "ANONYMOUS";
/// However much of the processors' time a client takes, it waits for one window at most.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(1);

/// How fast a connection's client is, and until when it is left alone.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    meters: Option<Meters>,
    /// Of the client id that came last.
    meter: Option<ClientMeter>,
    muted_until: Option<Instant>,
}

impl Throttle {
    /// Quotas hold from now on.
    pub(crate) fn begin(&mut self, meters: Meters) {
        self.meters = Some(meters);
    }

    /// The next requests are of a client of this id.
    pub(crate) fn meet(&mut self, client: &Text) {
        let is_known = |meter: &ClientMeter| meter.client() == client;
        if let Some(meters) = &self.meters
            && !self.meter.as_ref().is_some_and(is_known)
        {
            self.meter = Some(meters.of(Text::from_static(ANONYMOUS), client.clone()));
        }
    }

    /// What the client is measured by, if there is a limit of this kind.
    fn metered(&self, kind: QuotaKind) -> Option<&ClientMeter> {
        self.meter.as_ref().filter(|meter| meter.limits(kind))
    }

    /// Leaves the client alone for so long from now.
    pub(crate) fn mute(&mut self, now: Instant, wait: Duration) {
        if !wait.is_zero() {
            let until = now + wait;
            self.muted_until = Some(self.muted_until.map_or(until, |at| at.max(until)));
        }
    }

    /// Ends what is over.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.muted_until = self.muted_until.filter(|until| *until > now);
    }

    pub(crate) fn muted_until(&self) -> Option<Instant> {
        self.muted_until
    }
}

/// What the steps of a request have cost its client so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    time: Duration,
    wait: Duration,
}

/// What one step of one request costs its client.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) now: Now,
    /// Bytes of the request, with its header.
    pub(crate) bytes: usize,
    /// When this step began, where its time counts, and the time of those before it.
    begun: Option<Instant>,
    before: Duration,
    clock: Option<fn() -> Now>,
    wait: Cell<Duration>,
    is_answered: Cell<bool>,
}

impl Cost {
    pub(crate) fn new(
        throttle: &Throttle,
        now: Now,
        bytes: usize,
        before: Spent,
        clock: Option<fn() -> Now>,
    ) -> Cost {
        let clock = clock.filter(|_| throttle.metered(QuotaKind::Request).is_some());
        Cost {
            now,
            bytes,
            begun: clock.map(|clock| clock().instant),
            before: before.time,
            clock,
            wait: Cell::new(before.wait),
            is_answered: Cell::default(),
        }
    }

    /// What the request has cost so far.
    pub(crate) fn spent(&self) -> Spent {
        Spent {
            time: self.time(),
            wait: self.wait(),
        }
    }

    fn time(&self) -> Duration {
        let step = match (self.begun, self.clock) {
            (Some(begun), Some(clock)) => clock().instant.saturating_duration_since(begun),
            _ => Duration::ZERO,
        };
        self.before + step
    }

    /// How long the client is to wait.
    pub(crate) fn wait(&self) -> Duration {
        self.wait.get()
    }

    fn wait_for(&self, wait: Duration) {
        self.wait.set(self.wait.get().max(wait));
    }

    /// The request is about to be answered: its time counts, once.
    pub(crate) fn answer(&self, throttle: &Throttle) {
        if self.begun.is_none() || self.is_answered.replace(true) {
            return;
        }
        if let Some(meter) = throttle.metered(QuotaKind::Request) {
            let percent = self.time().as_secs_f64() * 100.0;
            let wait = meter.record(QuotaKind::Request, percent, self.now.wall);
            self.wait_for(wait.min(REQUEST_WAIT_MAX));
        }
    }

    /// The request appends: its bytes count.
    pub(crate) fn produce(&self, throttle: &Throttle) {
        if let Some(meter) = throttle.metered(QuotaKind::Produce) {
            let bytes = self.bytes as f64;
            self.wait_for(meter.record(QuotaKind::Produce, bytes, self.now.wall));
        }
    }

    /// The response is about to carry so many bytes; whether it may. If not, they do not count, because the client
    /// gets none and asks again.
    pub(crate) fn may_consume(&self, throttle: &Throttle, bytes: impl FnOnce() -> usize) -> bool {
        let Some(meter) = throttle.metered(QuotaKind::Consume) else {
            return true;
        };
        let bytes = bytes() as f64;
        let wait = meter.record(QuotaKind::Consume, bytes, self.now.wall);
        if !wait.is_zero() {
            meter.unrecord(QuotaKind::Consume, bytes, self.now.wall);
        }
        self.wait_for(wait);
        wait.is_zero()
    }

    /// So many partitions are to be created or deleted; whether they may. A client that is not told so waits
    /// afterwards instead (KIP-599: `strict` from the version on that has the error).
    pub(crate) fn may_change(&self, throttle: &Throttle, partitions: u32, strict: bool) -> bool {
        let Some(meter) = throttle.metered(QuotaKind::Mutation) else {
            return true;
        };
        let (kind, amount) = (QuotaKind::Mutation, f64::from(partitions));
        if !strict {
            self.wait_for(meter.record(kind, amount, self.now.wall));
            return true;
        }
        match meter.try_record(kind, amount, self.now.wall) {
            Ok(()) => true,
            Err(wait) => {
                self.wait_for(wait);
                false
            }
        }
    }
}

/// Bytes that a fetch may return at most so that it fits into its quota.
pub(crate) fn fetch_bytes_max(throttle: &Throttle) -> Option<usize> {
    let window = throttle.meter.as_ref()?.window(QuotaKind::Consume)?;
    Some(window as usize)
}
