//! One connection's end of the broker.

use crate::{command::Command, event::Event, message::Origin, time::Now};

/// The broker has stopped; nothing more will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker has stopped")]
pub struct Stopped;

/// One connection's end of the broker. Dropping it requeues what its consumers hold, ends them, and
/// deletes its exclusive queues.
pub struct Link {
    _origin: Origin,
}

impl Link {
    pub(crate) fn new(origin: Origin) -> Link {
        Link { _origin: origin }
    }

    /// Routes and hands over one turn of commands, draining the vector. Waits while a shard's inbox is full and
    /// for definitions to be carried out; never for another connection.
    pub async fn submit(&mut self, now: Now, commands: &mut Vec<Command>) -> Result<(), Stopped> {
        let _ = now;
        commands.clear();
        Ok(())
    }

    /// Waits for events and appends them. Safe to drop and call again.
    pub async fn receive(&mut self, events: &mut Vec<Event>) -> Result<(), Stopped> {
        let _ = events;
        std::future::pending().await
    }

    /// Tells the core that all output so far has reached the peer's socket, so that consumers whose
    /// deliveries filled the connection's window in bytes may have more.
    pub async fn flushed(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}
