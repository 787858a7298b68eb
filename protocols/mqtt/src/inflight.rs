//! Packet identifiers of what is under way to the client, and the window that bounds it.

use rustc_hash::FxHashMap;
use trivium_core::{ConsumerId, DeliveryId, OWN_PACKET_IDS};

/// What is expected for a packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// PUBACK, which settles this delivery.
    AtLeastOnce(ConsumerId, DeliveryId),
    /// PUBREC, which settles this delivery of the session.
    ExactlyOnce(DeliveryId),
    /// PUBREC has come; PUBREL is sent once that is durable.
    Received,
    /// PUBCOMP.
    Released,
}

/// PUBLISH and PUBREL packets that were sent and not acknowledged, by packet identifier.
///
/// The core gives messages of the session their identifiers, up to [`OWN_PACKET_IDS`]; those of shared subscriptions
/// get theirs here, above.
#[derive(Debug)]
pub struct Inflight {
    sent: FxHashMap<u16, Sent>,
    window: usize,
    last_shared: u16,
}

impl Inflight {
    /// Nothing under way.
    pub fn new(window: u16) -> Inflight {
        Inflight {
            sent: FxHashMap::default(),
            window: window.into(),
            last_shared: OWN_PACKET_IDS,
        }
    }

    /// Gives back memory that is made anew when it is needed.
    pub fn rest(&mut self) {
        self.sent.shrink_to_fit();
    }

    /// Whether nothing more may be sent for now (4.9), with so many about to be.
    pub fn is_full_with(&self, coming: usize) -> bool {
        self.sent.len() + coming >= self.window
    }

    /// A packet identifier for a message of a shared subscription (2.2.1-4); `None` when all are taken.
    pub fn shared_id(&mut self) -> Option<u16> {
        for _ in OWN_PACKET_IDS..u16::MAX {
            self.last_shared = self
                .last_shared
                .checked_add(1)
                .unwrap_or(OWN_PACKET_IDS + 1);
            if !self.sent.contains_key(&self.last_shared) {
                return Some(self.last_shared);
            }
        }
        None
    }

    /// A packet goes out under this identifier.
    pub fn insert(&mut self, packet_id: u16, sent: Sent) {
        self.sent.insert(packet_id, sent);
    }

    /// What is expected for an identifier.
    pub fn get(&self, packet_id: u16) -> Option<Sent> {
        self.sent.get(&packet_id).copied()
    }

    /// The identifier is free again.
    pub fn remove(&mut self, packet_id: u16) {
        self.sent.remove(&packet_id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set: a shared identifier is never one of the session's and never one that is under way.
        #[test]
        fn mqtt_2_2_1_4_identifiers_are_unused_when_taken(steps in prop::collection::vec(any::<Option<u16>>(), 0..200)) {
            let (mut inflight, mut model) = (Inflight::new(100), BTreeSet::new());
            inflight.last_shared = u16::MAX - 3;
            for step in steps {
                match step {
                    None => {
                        let id = inflight.shared_id().unwrap();
                        inflight.insert(id, Sent::Released);
                        prop_assert!(id > OWN_PACKET_IDS && model.insert(id));
                    }
                    Some(pick) => {
                        let known = model.iter().nth(usize::from(pick) % (model.len() + 1)).copied();
                        let id = known.unwrap_or(pick);
                        prop_assert_eq!(inflight.get(id).is_some(), model.remove(&id));
                        inflight.remove(id);
                    }
                }
                prop_assert_eq!(inflight.is_full_with(0), model.len() >= 100);
            }
        }
    }

    #[test]
    fn a_slow_acknowledgement_is_stepped_over() {
        let mut inflight = Inflight::new(2);
        let kept = inflight.shared_id().unwrap();
        inflight.insert(kept, Sent::Released);
        for _ in 0..70_000 {
            assert_ne!(inflight.shared_id(), Some(kept));
        }
    }
}
