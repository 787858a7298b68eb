//! The compactor: rewrites the batches of compacted logs, one partition after the other, in the background.
//!
//! A shard says what is to be compacted ([`Compaction`]). One task reads the committed batches twice, first for where
//! the newest record of each key is, then for what is left of each, and hands the shard the batches that change, in
//! runs that are one storage batch each. So a crash leaves a log that is compacted up to some offset, and a producer
//! never waits for more than one run.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    broker::Inner,
    command::{Fetch, FetchPartition, Isolation},
    event::{FetchedBatch, Refusal},
    id::{ConnectionId, Offset},
    link::Mailbox,
    log::{self, Change, Compaction, Left, Newest, Rule, Visible, hole},
    properties::Text,
    shard::{Op, Request},
};

/// Bytes of batches read at once.
const READ_BYTES: usize = 1 << 20;
/// A run is written when it has so many bytes or batches.
const RUN_BYTES: usize = 1 << 20;
const RUN_BATCHES: usize = 1024;

/// Compacts what the shards ask for.
pub(crate) async fn run(inner: Arc<Inner>, mut wanted: mpsc::UnboundedReceiver<Compaction>) {
    let mailbox = Arc::new(Mailbox::new(ConnectionId(0)));
    while let Some(compaction) = wanted.recv().await {
        let (log, partition) = (compaction.log, compaction.number);
        let mut compactor = Compactor {
            inner: &inner,
            mailbox: &mailbox,
            compaction,
        };
        let to = match compactor.compact().await {
            Ok(to) => Some(to),
            Err(Stop::Broker) => return,
            Err(Stop::Gone) => continue,
            Err(Stop::Unreadable(reason)) => {
                tracing::error!(%log, partition, %reason, "a log cannot be compacted");
                None
            }
        };
        let done = Op::Compacted { log, partition, to };
        if compactor.send(vec![done]).await.is_err() {
            return;
        }
    }
}

enum Stop {
    Broker,
    /// The log was deleted.
    Gone,
    Unreadable(Text),
}

struct Compactor<'a> {
    inner: &'a Inner,
    mailbox: &'a Arc<Mailbox>,
    compaction: Compaction,
}

impl Compactor<'_> {
    /// Up to which offset the log is compacted now.
    async fn compact(&mut self) -> Result<Offset, Stop> {
        let (newest, to) = self.find_newest().await?;
        let rule = Rule {
            newest: &newest,
            now: self.compaction.now,
            delete_retention: self.compaction.delete_retention,
        };
        let mut run = Run::default();
        let mut from = self.compaction.from;
        while from < to {
            let page = self.read(from).await?;
            let Some(last) = page.last() else { break };
            from = last.0.last.next();
            for (batch, shown) in page {
                if batch.base >= to {
                    break;
                }
                let left = rule
                    .apply(&batch.fetched, shown)
                    // Damage that a producer sent: the batch stays as it is.
                    .unwrap_or(Left::All);
                run.add(&batch, left);
                if run.is_full() {
                    self.write(&mut run).await?;
                }
            }
        }
        self.write(&mut run).await?;
        Ok(to)
    }

    /// The newest records among those that were never compacted, and up to where they are known.
    async fn find_newest(&mut self) -> Result<(Newest, Offset), Stop> {
        let mut newest = Newest::default();
        let Compaction { dirty, to, .. } = self.compaction;
        let mut from = dirty;
        while from < to {
            let page = self.read(from).await?;
            if page.is_empty() {
                return Ok((newest, from));
            }
            for (batch, shown) in page {
                if batch.base >= to {
                    break;
                }
                // A batch that cannot be read says nothing about any key.
                let has_room = !shown || newest.note(&batch.fetched).unwrap_or(true);
                if !has_room && batch.base > dirty {
                    return Ok((newest, batch.base));
                }
                from = batch.last.next();
            }
        }
        Ok((newest, to))
    }

    /// Committed batches from an offset on, with whether applications see them.
    async fn read(&self, from: Offset) -> Result<Vec<(Stored, bool)>, Stop> {
        let Compaction {
            log, number, tail, ..
        } = &self.compaction;
        let fetch = Fetch {
            partitions: vec![FetchPartition {
                log: Text::new(),
                id: None,
                partition: *number,
                from: from.max(tail.bounds().log_start),
                max_bytes: READ_BYTES,
            }],
            min_bytes: 0,
            max_bytes: READ_BYTES,
            wait: Duration::ZERO,
            isolation: Isolation::Committed,
        };
        let store = self.inner.committer.store().clone();
        let tails = vec![Some((*log, tail.clone()))];
        let fetched = log::fetch(store, Text::new(), tails, fetch).await;
        let Some(fetched) = fetched.into_iter().next() else {
            return Ok(Vec::new());
        };
        let batches = match fetched.result {
            Ok(batches) => batches,
            // Retention was faster.
            Err(Refusal::OffsetOutOfRange(_)) => return Ok(Vec::new()),
            Err(Refusal::NotFound { .. }) => return Err(Stop::Gone),
            Err(refusal) => return Err(Stop::Unreadable(refusal.to_string().into())),
        };
        let mut visible = Visible::new(&fetched.aborted);
        let read = |batch| {
            let shown = visible.shows(&batch);
            Stored::new(batch).map(|stored| (stored, shown))
        };
        batches.into_iter().map(read).collect()
    }

    /// Has the shard write a run, and waits until it is committed.
    async fn write(&self, run: &mut Run) -> Result<(), Stop> {
        let changes = run.take();
        if changes.is_empty() {
            return Ok(());
        }
        let (committed, done) = oneshot::channel();
        let compact = Op::Compact {
            log: self.compaction.log,
            partition: self.compaction.number,
            changes,
        };
        self.send(vec![compact, Op::Drain(committed)]).await?;
        done.await.map_err(|_| Stop::Broker)
    }

    async fn send(&self, ops: Vec<Op>) -> Result<(), Stop> {
        let Compaction { log, number, .. } = self.compaction;
        let shard = &self.inner.shards[self.inner.shard_of_partition(log, number)];
        let request = Request {
            from: self.mailbox.clone(),
            ops,
            span: None,
        };
        shard.send(request).await.map_err(|_| Stop::Broker)
    }
}

/// A batch and where it is.
#[derive(Debug)]
struct Stored {
    base: Offset,
    last: Offset,
    is_hole: bool,
    fetched: FetchedBatch,
}

impl Stored {
    fn new(fetched: FetchedBatch) -> Result<Stored, Stop> {
        let header = log::parse(&fetched.bytes)
            .map_err(|error| Stop::Unreadable(error.to_string().into()))?;
        let base = fetched.base;
        Ok(Stored {
            base,
            last: Offset(base.0 + u64::from(header.last_offset_delta)),
            is_hole: header.count == 0,
            fetched,
        })
    }
}

/// Changes that are written together. Batches of which nothing is left become one hole.
#[derive(Debug, Default)]
struct Run {
    changes: Vec<Change>,
    bytes: usize,
    hole: Option<Hole>,
}

/// Neighbours of which nothing is left.
#[derive(Debug)]
struct Hole {
    base: Offset,
    /// Last offset, flags and size of the last of them.
    end: (Offset, u8, usize),
    /// It is in the store as it is.
    is_stored: bool,
}

impl Run {
    fn add(&mut self, batch: &Stored, left: Left) {
        let (last, flags, old_bytes) = (batch.last, batch.fetched.flags, batch.fetched.bytes.len());
        match left {
            Left::Nothing => self.widen_hole(batch),
            Left::All => self.close_hole(),
            Left::Some(new) => {
                self.close_hole();
                self.bytes += new.len();
                self.changes.push(Change {
                    last,
                    flags,
                    old_bytes,
                    new: Some(new),
                });
            }
        }
    }

    fn widen_hole(&mut self, batch: &Stored) {
        let end = (batch.last, batch.fetched.flags, batch.fetched.bytes.len());
        // The distance must fit into the format.
        let fits = |hole: &Hole| batch.last.0 - hole.base.0 < i32::MAX as u64;
        match self.hole.take() {
            Some(hole) if fits(&hole) => {
                let (last, flags, old_bytes) = hole.end;
                self.changes.push(Change {
                    last,
                    flags,
                    old_bytes,
                    new: None,
                });
                self.hole = Some(Hole {
                    end,
                    is_stored: false,
                    ..hole
                });
            }
            before => {
                self.hole = before;
                self.close_hole();
                self.hole = Some(Hole {
                    base: batch.base,
                    end,
                    is_stored: batch.is_hole,
                });
            }
        }
    }

    fn close_hole(&mut self) {
        let Some(Hole {
            base,
            end: (last, flags, old_bytes),
            is_stored,
        }) = self.hole.take()
        else {
            return;
        };
        if !is_stored {
            self.changes.push(Change {
                last,
                flags,
                old_bytes,
                new: Some(hole((last.0 - base.0) as u32)),
            });
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= RUN_BYTES || self.changes.len() >= RUN_BATCHES
    }

    /// All changes, and the hole that is open.
    fn take(&mut self) -> Vec<Change> {
        self.close_hole();
        self.bytes = 0;
        std::mem::take(&mut self.changes)
    }
}
