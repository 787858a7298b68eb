//! The bound that the consumers of one channel share (AMQP's `basic.qos` with `global`).
//!
//! The consumers may be in several shards, so this is one of the few things that shards share: each takes a place per
//! delivery, and the channel's link gives places back when it passes on what settles them.

use std::sync::atomic::{AtomicU32, Ordering};

/// Unsettled deliveries of a channel.
#[derive(Debug, Default)]
pub(crate) struct ChannelLimit {
    /// 0 is no bound, and nothing is counted then.
    limit: AtomicU32,
    taken: AtomicU32,
}

impl ChannelLimit {
    /// Sets the bound; `None` takes it away. Where nothing has been counted, `unsettled` places are taken.
    pub(crate) fn set(&self, limit: Option<u32>, unsettled: u32) {
        if !self.is_set() {
            self.taken.store(unsettled, Ordering::Relaxed);
        }
        self.limit.store(limit.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether there is a bound.
    pub(crate) fn is_set(&self) -> bool {
        self.limit.load(Ordering::Relaxed) != 0
    }

    /// Whether another delivery would be within the bound now.
    pub(crate) fn has_room(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        limit == 0 || self.taken.load(Ordering::Relaxed) < limit
    }

    /// Takes a place for a delivery, if there is one.
    pub(crate) fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let within = |taken| (taken < limit).then_some(taken + 1);
        limit == 0
            || self
                .taken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
                .is_ok()
    }

    /// Gives places back.
    pub(crate) fn give_back(&self, places: u32) {
        let less = |taken: u32| taken.saturating_sub(places);
        // Cannot fail: there is always something to put.
        let _ = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                Some(less(taken))
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_once_there_is_a_bound() {
        let limit = ChannelLimit::default();
        assert!(limit.take() && limit.take() && limit.take());
        limit.set(Some(4), 2);
        assert!(limit.take() && limit.has_room() && limit.take());
        assert!(!limit.has_room() && !limit.take());
        limit.give_back(1);
        assert!(limit.take() && !limit.take());
        limit.set(Some(5), 0);
        assert!(limit.take() && !limit.take());
        limit.set(None, 5);
        assert!(limit.take());
    }
}
