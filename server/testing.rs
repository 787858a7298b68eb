//! A broker for unit tests that are not about the broker.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use trivium_core::{
    Broker, Options,
    store::{Batch, BoxFuture, Durability, Page, ScanLimit, Store, StoreError, Table},
};

/// Forgets everything.
#[derive(Default)]
pub struct Nowhere {
    /// Writes fail from now on.
    pub broken: AtomicBool,
}

impl Store for Nowhere {
    fn commit(&self, _: Batch, _: Durability) -> BoxFuture<'static, Result<(), StoreError>> {
        let result = if self.broken.load(Ordering::Relaxed) {
            Err(StoreError::Unavailable("no space left on device".into()))
        } else {
            Ok(())
        };
        Box::pin(async { result })
    }

    fn get(&self, _: Table, _: Bytes) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn scan(
        &self,
        _: Table,
        _: Range<Bytes>,
        _: ScanLimit,
    ) -> BoxFuture<'static, Result<Page, StoreError>> {
        Box::pin(async { Ok(Page::default()) })
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A store that forgets everything.
pub fn store() -> Arc<dyn Store> {
    Arc::new(Nowhere::default())
}

/// Of a small broker.
pub fn options() -> Options {
    Options {
        shards: 1,
        durability: Durability::Written,
        dialects: Vec::new(),
        queue_memory: 1 << 20,
        log_memory: 1 << 20,
        retained_messages_max: 0,
        retained_bytes_max: 0,
        session_subscriptions_max: 0,
        limits: Default::default(),
        clock: crate::clock::now,
        batch_bytes_max: 1_048_588,
        initial_rebalance_delay: Duration::ZERO,
        groups: Default::default(),
        user: None,
        default_queue_type: "classic",
    }
}

/// A broker over a store that forgets everything.
pub async fn broker() -> Broker {
    Broker::open(store(), options()).await.unwrap()
}
