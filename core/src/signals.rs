//! Word from shards to the tasks that read partitions behind their tails: the tap, and bindings by way of logs.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use rustc_hash::FxHashSet;
use tokio::sync::Notify;

use crate::{catalog::LogEntry, id::LogId, snapshot::Snapshot};

/// Partitions with something new, each once.
#[derive(Debug)]
pub(crate) struct Signals {
    snapshot: Arc<Snapshot>,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<(LogId, u32)>,
    known: FxHashSet<(LogId, u32)>,
}

impl Signals {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Signals {
        Signals {
            snapshot,
            waiting: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// That of the routes.
    pub(crate) fn generation(&self) -> u64 {
        self.snapshot.generation()
    }

    /// A partition has something new.
    pub(crate) fn signal(&self, partition: (LogId, u32)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.known.insert(partition) {
            waiting.order.push_back(partition);
            self.arrived.notify_one();
        }
    }

    /// Whether there are bindings by way of a log.
    pub(crate) fn is_fed(&self, log: LogId) -> bool {
        self.snapshot.load().feeds_of(log).next().is_some()
    }

    /// All partitions of a log are to be looked at.
    pub(crate) fn signal_all(&self, log: &LogEntry) {
        for partition in 0..log.tails.len() as u32 {
            self.signal((log.info.id, partition));
        }
    }

    pub(crate) async fn next(&self) -> (LogId, u32) {
        loop {
            if let Some(partition) = self.take() {
                return partition;
            }
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<(LogId, u32)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = waiting.order.pop_front()?;
        waiting.known.remove(&partition);
        Some(partition)
    }
}
