//! The broker: opened over a store, it hands out a [`Link`] per connection.

use std::{sync::Arc, time::Duration};

use crate::{
    link::Link,
    message::{Dialect, Origin},
    properties::Text,
    store::{Durability, Store, StoreError},
};

/// What the broker needs to know, checked by whoever built it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of shards, at least 1.
    pub shards: usize,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// How stored properties are read, by [`Dialect::id`].
    pub dialects: Vec<&'static dyn Dialect>,
    /// Bytes of queue messages kept in memory, over all queues.
    pub queue_memory: usize,
    /// Partitions of a log that is created without a number.
    pub partitions: u32,
    /// How long an empty group waits for more members before its first generation.
    pub initial_rebalance_delay: Duration,
    /// A user besides `guest`, and its password; this one may come from anywhere.
    pub user: Option<(Text, Text)>,
}

/// A broker.
#[derive(Clone)]
pub struct Broker {
    _store: Arc<dyn Store>,
}

impl Broker {
    /// Recovers what the store holds and starts the shards.
    pub async fn open(store: Arc<dyn Store>, options: Options) -> Result<Broker, StoreError> {
        let _ = options;
        Ok(Broker { _store: store })
    }

    /// A link for a new connection. `origin` says which protocol and, where it is known, which client.
    pub fn connect(&self, origin: Origin) -> Link {
        Link::new(origin)
    }

    /// Tells every connection to close, waits until what was accepted is durable, and closes the store.
    pub async fn close(&self) -> Result<(), StoreError> {
        self._store.close().await
    }
}
