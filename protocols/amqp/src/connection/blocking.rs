//! Holding publishers back while the broker takes no more messages (RabbitMQ's connection.blocked).
//!
//! A connection is held back from its next basic.publish on: its socket is not read, so that content stays with the
//! client. Consumers that do not publish never notice.

use trivium_core::{Now, Text};
use trivium_protocol::Effects;

use super::Connection;
use crate::{
    channel::PUBLISH,
    frame::{Frame, FrameKind},
    method::{self, Method},
};

/// Whether publishers are held back, and this one.
#[derive(Debug, Default)]
pub(super) struct Blocking {
    /// The client wants to hear of it.
    pub is_told: bool,
    reason: Option<Text>,
    /// This connection has published since, and is not read.
    held_back: bool,
    /// The client was told of a store that has failed.
    failure_told: bool,
}

impl Blocking {
    pub fn begin(&mut self, reason: Text) {
        self.reason = Some(reason);
    }

    pub fn is_on(&self) -> bool {
        self.reason.is_some()
    }

    pub fn holds_back(&self) -> bool {
        self.held_back
    }
}

impl Connection {
    /// Stops reading if the frame begins a message.
    pub(super) fn hold_back_publisher(&mut self, frame: &Frame, effects: &mut Effects) {
        let publishes = frame.kind == FrameKind::Method && method::ids(&frame.payload) == PUBLISH;
        if !publishes {
            return;
        }
        self.blocking.held_back = true;
        if let Some(reason) = self
            .blocking
            .reason
            .clone()
            .filter(|_| self.blocking.is_told)
        {
            self.send(&Method::ConnectionBlocked { reason }, effects);
        }
    }

    /// Reads again.
    pub(super) fn unblock(&mut self, now: Now, effects: &mut Effects) {
        self.blocking.reason = None;
        if std::mem::take(&mut self.blocking.held_back) {
            // It was not read meanwhile, so its silence does not count.
            self.last_received = now.instant;
            if self.blocking.is_told {
                self.send(&Method::ConnectionUnblocked {}, effects);
            }
        }
    }

    /// A message was refused because the store has failed, which lasts until the broker is restarted. Nothing is held
    /// back, so that every message gets its refusal.
    pub(super) fn tell_failure(&mut self, effects: &mut Effects) {
        if self.blocking.is_told && !std::mem::replace(&mut self.blocking.failure_told, true) {
            let reason = Text::from_static("storage failed");
            self.send(&Method::ConnectionBlocked { reason }, effects);
        }
    }
}
