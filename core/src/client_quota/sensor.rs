//! How rates are measured: over the last windows, or by a bucket of tokens.

use std::{collections::VecDeque, time::Duration};

use crate::time::Timestamp;

/// As Kafka's `quota.window.num`: the window that is being filled, and those before it.
pub(super) const SAMPLES: usize = 11;
/// As Kafka's `quota.window.size.seconds`.
pub(super) const WINDOW: Duration = Duration::from_secs(1);

const WINDOW_MS: u64 = WINDOW.as_millis() as u64;

/// What came in the last windows.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Oldest first.
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    start: u64,
    last: u64,
    amount: f64,
}

impl Rate {
    pub(super) fn record(&mut self, amount: f64, Timestamp(now): Timestamp) {
        match self.samples.back_mut() {
            // A clock that was put back adds to the newest sample.
            Some(newest) if now < newest.start + WINDOW_MS => {
                newest.amount += amount;
                newest.last = newest.last.max(now);
            }
            _ => {
                // One more than counts, because the oldest reaches into the window with its end.
                if self.samples.len() > SAMPLES {
                    self.samples.pop_front();
                }
                self.samples.push_back(Sample {
                    start: now,
                    last: now,
                    amount,
                });
            }
        }
    }

    /// How long it takes for the rate to come down to the limit when nothing more comes.
    pub(super) fn wait(&mut self, limit: f64, now: Timestamp) -> Duration {
        let (rate, window_ms) = self.measure(now);
        if rate <= limit {
            return Duration::ZERO;
        }
        Duration::from_millis(((rate - limit) / limit * window_ms as f64).round() as u64)
    }

    /// Amount per second, and the milliseconds that it is measured over.
    fn measure(&mut self, Timestamp(now): Timestamp) -> (f64, u64) {
        let is_over = |sample: &Sample| sample.last + SAMPLES as u64 * WINDOW_MS <= now;
        while self.samples.front().is_some_and(is_over) {
            self.samples.pop_front();
        }
        let oldest = self.samples.front().map_or(now, |oldest| oldest.start);
        let mut elapsed = now.saturating_sub(oldest);
        // A client that has just begun is measured over the whole window, or its first request would be too much.
        let missing = (SAMPLES as u64 - 1).saturating_sub(elapsed / WINDOW_MS);
        elapsed = (elapsed + missing * WINDOW_MS).max(WINDOW_MS);
        let amount: f64 = self.samples.iter().map(|sample| sample.amount).sum();
        (amount * 1000.0 / elapsed as f64, elapsed)
    }
}

/// Fills at the limit, up to what the whole window allows, and may be overdrawn by one request (KIP-599).
#[derive(Debug, Default)]
pub(super) struct Bucket {
    tokens: f64,
    filled: u64,
}

impl Bucket {
    pub(super) fn take(&mut self, amount: f64, limit: f64, now: Timestamp) {
        self.fill(limit, now);
        self.tokens -= amount;
    }

    /// How long until it is not overdrawn.
    pub(super) fn wait(&mut self, limit: f64, now: Timestamp) -> Duration {
        self.fill(limit, now);
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_millis((-self.tokens / limit * 1000.0).round() as u64)
    }

    /// A new one is full, as it was last filled long ago.
    fn fill(&mut self, limit: f64, Timestamp(now): Timestamp) {
        let most = limit * SAMPLES as f64 * WINDOW.as_secs_f64();
        let since = now.saturating_sub(self.filled) as f64 / 1000.0;
        self.tokens = (self.tokens + limit * since).min(most);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn at(ms: u64) -> Timestamp {
        Timestamp(START + ms)
    }

    /// Kafka's Rate over 11 samples of a second: what has just begun is spread over ten seconds.
    #[test]
    fn the_wait_is_the_excess_over_the_limit_times_the_window() {
        let mut rate = Rate::default();
        rate.record(10_000.0, at(0));
        assert_eq!(rate.wait(1000.0, at(0)), Duration::ZERO);
        rate.record(5_000.0, at(0));
        // 15,000 in 10 s are 1,500 a second: (1,500 − 1,000) ÷ 1,000 × 10 s.
        assert_eq!(rate.wait(1000.0, at(0)), Duration::from_secs(5));
        // Half a second later it is measured over 10.5 s.
        assert_eq!(rate.measure(at(500)), (15_000.0 / 10.5, 10_500));
        assert_eq!(rate.wait(1000.0, at(500)), Duration::from_millis(4_500));
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let mut rate = Rate::default();
        for second in 0..20 {
            rate.record(1000.0, at(second * 1000));
        }
        let (measured, window) = rate.measure(at(19_000));
        assert_eq!((measured, window), (1100.0, 10_000));
        assert_eq!(rate.measure(at(40_000)), (0.0, 10_000));
        assert!(rate.samples.is_empty());
    }

    /// KIP-599: a burst of the whole window is free, then it fills at the limit.
    #[test]
    fn a_bucket_lets_a_burst_pass_and_may_be_overdrawn_once() {
        let mut bucket = Bucket::default();
        bucket.take(110.0, 10.0, at(0));
        assert_eq!(bucket.wait(10.0, at(0)), Duration::ZERO);
        bucket.take(25.0, 10.0, at(0));
        assert_eq!(bucket.wait(10.0, at(0)), Duration::from_millis(2_500));
        assert_eq!(bucket.wait(10.0, at(1_000)), Duration::from_millis(1_500));
        assert_eq!(bucket.wait(10.0, at(2_500)), Duration::ZERO);
        bucket.take(0.0, 10.0, at(1_000_000));
        assert!(
            (bucket.tokens - 110.0).abs() < 1e-9,
            "not more than the burst"
        );
    }

    #[test]
    fn a_clock_that_is_put_back_does_no_harm() {
        let (mut rate, mut bucket) = (Rate::default(), Bucket::default());
        rate.record(1.0, at(5_000));
        rate.record(1.0, at(0));
        assert_eq!(rate.wait(1.0, at(0)), Duration::ZERO);
        bucket.take(1.0, 1.0, at(5_000));
        bucket.take(1.0, 1.0, at(0));
        assert_eq!(bucket.wait(1.0, at(0)), Duration::ZERO);
    }
}
