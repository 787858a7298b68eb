//! Packet identifiers of what is under way to the client, and the window that bounds it.

use rustc_hash::FxHashMap;

/// PUBLISH packets that were sent and not acknowledged, by packet identifier, each with what `T` says of it.
///
/// Invariant: no more than `window` at once, so there is always a free identifier.
#[derive(Debug)]
pub struct Inflight<T> {
    sent: FxHashMap<u16, T>,
    window: usize,
    last: u16,
}

impl<T> Inflight<T> {
    /// Nothing under way.
    pub fn new(window: u16) -> Inflight<T> {
        Inflight {
            sent: FxHashMap::default(),
            window: window.into(),
            last: 0,
        }
    }

    /// Gives back memory that is made anew when it is needed.
    pub fn rest(&mut self) {
        self.sent.shrink_to_fit();
    }

    /// Whether nothing more may be sent for now (4.9).
    pub fn is_full(&self) -> bool {
        self.sent.len() >= self.window
    }

    /// Takes a packet identifier that is not under way (2.2.1-4), unless the window is full.
    pub fn take(&mut self, value: T) -> Option<u16> {
        if self.is_full() {
            return None;
        }
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.sent.contains_key(&self.last) {
                self.sent.insert(self.last, value);
                return Some(self.last);
            }
        }
    }

    /// Gives a packet identifier back; `None` when it is not under way.
    pub fn release(&mut self, packet_id: u16) -> Option<T> {
        self.sent.remove(&packet_id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set: an identifier is never 0, never one that is under way, and the window holds.
        #[test]
        fn mqtt_2_2_1_identifiers_are_unused_when_taken(window in 1u16..6, steps in prop::collection::vec(any::<Option<u16>>(), 0..200)) {
            let (mut inflight, mut model) = (Inflight::new(window), BTreeSet::new());
            inflight.last = u16::MAX - 3;
            for step in steps {
                match step {
                    None => match inflight.take(()) {
                        Some(id) => prop_assert!(id != 0 && model.insert(id)),
                        None => prop_assert_eq!(model.len(), usize::from(window)),
                    },
                    Some(pick) => {
                        let known = model.iter().nth(usize::from(pick) % (model.len() + 1)).copied();
                        let id = known.unwrap_or(pick);
                        prop_assert_eq!(inflight.release(id).is_some(), model.remove(&id));
                    }
                }
            }
        }
    }

    #[test]
    fn a_slow_acknowledgement_is_stepped_over() {
        let mut inflight = Inflight::new(2);
        assert_eq!(inflight.take("kept"), Some(1));
        for _ in 0..70_000 {
            let id = inflight.take("short").unwrap();
            assert_ne!(id, 1);
            inflight.release(id);
        }
        assert_eq!(inflight.release(1), Some("kept"));
    }
}
