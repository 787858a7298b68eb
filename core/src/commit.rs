//! The way from the shards to the store: keeps together what belongs together.
//!
//! A publish whose destinations live in several shards is written in one storage batch or not at
//! all. Its link sends each shard a part with the same [`Span`]; here, parts wait for the rest of
//! their span, and everything committed meanwhile waits behind them, so that the order of commits is
//! kept. A link hands over all parts before it awaits anything else, so a span is open only as long
//! as the slowest shard needs to reach its part.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{FutureExt, future::Shared};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::store::{Batch, BoxFuture, Durability, Store, StoreError};

/// Parts of one publisher's turn that are committed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Names the span.
    pub(crate) id: u64,
    /// How many shards have a part.
    pub(crate) parts: u32,
}

type Committed = Result<(), StoreError>;

/// Commits the batches of all shards.
pub(crate) struct Committer {
    store: Arc<dyn Store>,
    durability: Durability,
    waiting: Mutex<Waiting>,
}

/// What waits for the rest of a span.
#[derive(Default)]
struct Waiting {
    batch: Batch,
    /// Parts still to come, by span.
    open: FxHashMap<u64, u32>,
    commits: Vec<oneshot::Sender<Shared<BoxFuture<'static, Committed>>>>,
}

/// A commit under way.
pub(crate) struct Commit {
    /// Resolves when the batch is as durable as configured, or has failed.
    pub(crate) done: BoxFuture<'static, Committed>,
    /// The store has it: it will resolve without any shard doing more.
    pub(crate) started: bool,
}

impl Committer {
    pub(crate) fn new(store: Arc<dyn Store>, durability: Durability) -> Committer {
        Committer {
            store,
            durability,
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Takes a batch that someone waits for and the spans that it has parts of. The order of calls is
    /// the order of commits.
    pub(crate) fn commit(&self, batch: Batch, spans: &[Span]) -> Commit {
        self.commit_at(batch, spans, self.durability)
    }

    /// Takes a batch that nobody waits for (settlements, positions): it is written, and becomes as durable as
    /// the next one that somebody waits for.
    pub(crate) fn commit_lazily(&self, batch: Batch, spans: &[Span]) -> Commit {
        self.commit_at(batch, spans, self.durability.min(Durability::Written))
    }

    fn commit_at(&self, batch: Batch, spans: &[Span], durability: Durability) -> Commit {
        let mut waiting = self.waiting();
        for span in spans {
            waiting.arrived(*span);
        }
        if waiting.open.is_empty() && waiting.commits.is_empty() {
            // Under the lock, so that no later batch overtakes this one.
            let done = self.store.commit(batch, durability);
            return Commit {
                done,
                started: true,
            };
        }
        waiting.batch.append(batch);
        let (sender, receiver) = oneshot::channel();
        waiting.commits.push(sender);
        let started = waiting.open.is_empty();
        if started {
            // Some of what waited may be waited for.
            waiting.start(&*self.store, self.durability);
        }
        let done = receiver.then(|commit| async { commit.map_err(|_| StoreError::Closed)?.await });
        Commit {
            done: Box::pin(done),
            started,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn arrived(&mut self, span: Span) {
        let left = self.open.entry(span.id).or_insert(span.parts);
        *left -= 1;
        if *left == 0 {
            self.open.remove(&span.id);
        }
    }

    fn start(&mut self, store: &dyn Store, durability: Durability) {
        let commit = store
            .commit(std::mem::take(&mut self.batch), durability)
            .shared();
        for waiter in self.commits.drain(..) {
            // A waiter that has gone does not need to know.
            let _ = waiter.send(commit.clone());
        }
    }
}
