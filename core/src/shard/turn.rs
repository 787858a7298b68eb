//! What one turn of a shard brings about.

use std::ops::Range;

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::{
    dead_letters::DeadLetter,
    delay,
    event::{Event, Refusal},
    group::ShareLetter,
    id::{ConnectionId, LogId, QueueId, Sequence, Token},
    log::{Committed, Compaction},
    queue::{CursorRead, DueWill, Read},
    store::Batch,
    time::Now,
};

/// The effects of the operations that a shard applied together.
pub(crate) struct Turn {
    pub(crate) now: Now,
    /// Of the routes.
    pub(crate) generation: u64,
    /// To be committed.
    pub(crate) batch: Batch,
    /// For connections, once the batch is as durable as it must be.
    pub(crate) held: Outbox,
    /// For connections, at once.
    pub(crate) free: Outbox,
    /// Reads of the store, to be made once the batch is committed.
    pub(crate) reads: Vec<Read>,
    /// The same for delayed exchanges.
    pub(crate) delayed_reads: Vec<delay::Read>,
    /// Reads of logs for cursors.
    pub(crate) cursor_reads: Vec<CursorRead>,
    /// Messages whose time has come.
    pub(crate) due: Vec<delay::Ready>,
    /// Messages for dead-letter exchanges.
    pub(crate) dead: Vec<DeadLetter>,
    /// Records that share groups have given up, for their dead-letter topics.
    pub(crate) share_letters: Vec<ShareLetter>,
    /// Queues that have become unused and want to go.
    pub(crate) idle: Vec<Leaving>,
    /// Wills whose time has come.
    pub(crate) wills: Vec<DueWill>,
    /// Body chunks that lost a reference.
    pub(crate) bodies: Vec<u64>,
    /// Stretches of queues in the store that will never be read: references in them are to be dropped.
    pub(crate) abandoned: Vec<(QueueId, Range<Sequence>)>,
    /// What partitions show to readers once the batch is committed.
    pub(crate) committed: Vec<((LogId, u32), Committed)>,
    /// Partitions that want to be compacted.
    pub(crate) compactions: Vec<Compaction>,
    /// Who wants to know when everything so far is committed.
    pub(crate) drained: Vec<oneshot::Sender<()>>,
    /// What is held must wait for earlier commits even when there is nothing to commit.
    pub(crate) in_order: bool,
    /// For the metrics.
    pub(crate) count: Count,
}

/// A queue that wants to go.
pub(crate) struct Leaving {
    pub(crate) queue: QueueId,
    /// What a connection is told once it has gone: the consumer that it cancelled was the last one.
    pub(crate) told: Option<(ConnectionId, Event)>,
}

impl Leaving {
    pub(crate) fn new(queue: QueueId) -> Leaving {
        Leaving { queue, told: None }
    }
}

/// What happened to messages in a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) delivered: u64,
    pub(crate) settled: u64,
    pub(crate) dropped: u64,
    pub(crate) expired: u64,
    pub(crate) unretained: u64,
    /// Records that retention removed before a cursor had delivered them.
    pub(crate) lost: u64,
}

impl Turn {
    pub(crate) fn new(now: Now, generation: u64) -> Turn {
        Turn {
            now,
            generation,
            batch: Batch::new(),
            held: Outbox::default(),
            free: Outbox::default(),
            reads: Vec::new(),
            delayed_reads: Vec::new(),
            cursor_reads: Vec::new(),
            due: Vec::new(),
            dead: Vec::new(),
            share_letters: Vec::new(),
            idle: Vec::new(),
            wills: Vec::new(),
            bodies: Vec::new(),
            abandoned: Vec::new(),
            committed: Vec::new(),
            compactions: Vec::new(),
            drained: Vec::new(),
            in_order: false,
            count: Count::default(),
        }
    }
}

/// Events by connection, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    mail: FxHashMap<ConnectionId, Mail>,
}

#[derive(Debug, Default)]
struct Mail {
    events: Vec<Event>,
    confirmed: Vec<Token>,
}

impl Outbox {
    pub(crate) fn push(&mut self, connection: ConnectionId, event: Event) {
        self.mail.entry(connection).or_default().events.push(event);
    }

    /// A publish is done with here; all of a turn become one event.
    pub(crate) fn confirm(&mut self, connection: ConnectionId, token: Token) {
        self.mail
            .entry(connection)
            .or_default()
            .confirmed
            .push(token);
    }

    /// A publish was refused.
    pub(crate) fn refuse_one(&mut self, connection: ConnectionId, token: Token, reason: Refusal) {
        let tokens = vec![token];
        self.push(connection, Event::Refused { tokens, reason });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mail.is_empty()
    }

    /// Everything, by connection.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (ConnectionId, Vec<Event>)> {
        self.mail.drain().map(|(connection, mut mail)| {
            if !mail.confirmed.is_empty() {
                mail.events.push(Event::Confirmed {
                    tokens: mail.confirmed,
                });
            }
            (connection, mail.events)
        })
    }

    /// Everything, with each success turned into a refusal: the commit has failed.
    pub(crate) fn refuse(
        &mut self,
        reason: &Refusal,
    ) -> impl Iterator<Item = (ConnectionId, Vec<Event>)> {
        self.mail.drain().map(|(connection, mail)| {
            let refuse = |event| match event {
                Event::Done { token, .. } => Event::Done {
                    token,
                    result: Err(reason.clone()),
                },
                other => other,
            };
            let mut events: Vec<Event> = mail.events.into_iter().map(refuse).collect();
            if !mail.confirmed.is_empty() {
                events.push(Event::Refused {
                    tokens: mail.confirmed,
                    reason: reason.clone(),
                });
            }
            (connection, events)
        })
    }
}
