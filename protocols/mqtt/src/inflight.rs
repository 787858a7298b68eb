//! Packet identifiers of what is under way to the client, and the window that bounds it.

use rustc_hash::FxHashMap;
use trivium_core::{ConsumerId, DeliveryId};

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
/// The core gives messages their identifiers.
#[derive(Debug)]
pub struct Inflight {
    sent: FxHashMap<u16, Sent>,
    window: usize,
}

impl Inflight {
    /// Nothing under way.
    pub fn new(window: u16) -> Inflight {
        Inflight {
            sent: FxHashMap::default(),
            window: window.into(),
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
