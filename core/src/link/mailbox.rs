//! Where shards leave events for a connection.

use std::{
    future::poll_fn,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use crate::{event::Event, id::ConnectionId, properties::Text};

/// Events for one connection, in the order in which each shard left them.
///
/// It has no bound of its own: replies are bounded by the commands that the connection sent, and
/// deliveries by each consumer's window in bytes.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) connection: ConnectionId,
    /// What the connection speaks; empty for the broker's own.
    pub(crate) protocol: Text,
    events: Mutex<Vec<Event>>,
    reader: AtomicWaker,
}

impl Mailbox {
    pub(crate) fn new(connection: ConnectionId) -> Mailbox {
        Mailbox::of(connection, Text::new())
    }

    /// Of a client's connection.
    pub(crate) fn of(connection: ConnectionId, protocol: Text) -> Mailbox {
        Mailbox {
            connection,
            protocol,
            events: Mutex::default(),
            reader: AtomicWaker::new(),
        }
    }

    /// Leaves events and wakes the connection.
    pub(crate) fn put(&self, mut events: Vec<Event>) {
        let mut waiting = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = waiting.is_empty();
        if was_empty {
            *waiting = events;
        } else {
            waiting.append(&mut events);
        }
        drop(waiting);
        if was_empty {
            self.reader.wake();
        }
    }

    /// Takes what is there.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ready if something is there; otherwise whoever asked last is woken when something comes.
    pub(crate) fn poll_arrived(&self, context: &mut Context<'_>) -> Poll<()> {
        self.reader.register(context.waker());
        let waiting = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Waits until something is there.
    pub(crate) async fn arrived(&self) {
        poll_fn(|context| self.poll_arrived(context)).await;
    }
}
