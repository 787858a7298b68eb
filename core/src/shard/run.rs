//! The loop of a shard: the only part of it that awaits.
//!
//! Take what has arrived, apply all of it, commit one batch, and go on; when a commit resolves,
//! release what was held for it. So a slow disk delays replies, not the shard.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};

use super::{Op, Outbox, Request, Shard, Turn};
use crate::{
    commit::{Commit, Committer, Span},
    dead_letters::DeadLetter,
    delay,
    event::{Event, Refusal},
    id::{ConnectionId, LogId, QueueId},
    link::Mailbox,
    log::{Committed, Compaction},
    metrics::Metrics,
    queue::{DueWill, Read},
    recovery::Loader,
    store::StoreError,
    sweep::Sweep,
    time::Now,
};

/// Requests applied in one turn at most.
const TURN_MAX: usize = 256;

/// Bytes handed to the store and not yet written, after which a shard takes no more.
const IN_FLIGHT_MAX: usize = 64 << 20;

/// What a shard's loop uses of the rest of the broker.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) committer: Arc<Committer>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) loader: Loader,
    /// Messages for dead-letter exchanges. Bounded by what queues let die at once.
    pub(crate) dead: mpsc::UnboundedSender<Vec<DeadLetter>>,
    /// Queues that have become unused and want to go.
    pub(crate) idle: mpsc::UnboundedSender<QueueId>,
    /// Wills whose time has come.
    pub(crate) wills: mpsc::UnboundedSender<DueWill>,
    /// Messages whose time at a delayed exchange has come.
    pub(crate) due: mpsc::UnboundedSender<delay::Ready>,
    /// Body chunks that lost a reference, and stretches of queues whose references are to be dropped.
    pub(crate) sweeper: mpsc::UnboundedSender<Sweep>,
    /// Partitions that want to be compacted, each once until it is done.
    pub(crate) compactor: mpsc::UnboundedSender<Compaction>,
    /// Partitions with something new for the tap.
    pub(crate) tap: Arc<crate::tap::Signals>,
    pub(crate) clock: fn() -> Now,
}

/// A commit under way, and what it holds back.
struct InFlight {
    done: BoxFuture<'static, Result<(), StoreError>>,
    bytes: usize,
    held: Outbox,
    committed: Vec<((LogId, u32), Committed)>,
    reads: Vec<Read>,
    delayed_reads: Vec<delay::Read>,
    drained: Vec<oneshot::Sender<()>>,
}

/// Runs a shard until its inbox is closed and everything is committed.
pub(crate) async fn run(mut shard: Shard, mut inbox: mpsc::Receiver<Request>, services: Services) {
    let mut requests = Vec::with_capacity(TURN_MAX);
    let mut in_flight: VecDeque<InFlight> = VecDeque::new();
    let mut in_flight_bytes = 0;
    let mut reads: FuturesUnordered<BoxFuture<'static, Op>> = FuturesUnordered::new();
    // What was due while nobody ran is due now.
    let mut deadline = Some((services.clock)().instant);
    let broker = Arc::new(Mailbox::new(ConnectionId(0)));
    loop {
        tokio::select! {
            biased;
            Some(result) = next_done(&mut in_flight) => {
                let done = in_flight.pop_front().expect("a commit was under way");
                in_flight_bytes -= done.bytes;
                reads.extend(done.reads.iter().map(|read| services.loader.load(read)));
                let delayed = done.delayed_reads.iter();
                reads.extend(delayed.map(|read| services.loader.load_delayed(read)));
                release(&mut shard, done, result, &services);
                continue;
            }
            count = inbox.recv_many(&mut requests, TURN_MAX), if in_flight_bytes < IN_FLIGHT_MAX => {
                if count == 0 {
                    break;
                }
            }
            Some(loaded) = reads.next() => {
                requests.push(Request { from: broker.clone(), ops: vec![loaded], span: None });
            }
            () = sleep_until(deadline) => {}
        }
        let mut turn = Turn::new((services.clock)());
        let mut spans: Vec<Span> = Vec::new();
        for request in requests.drain(..) {
            spans.extend(request.span);
            shard.apply(request, &mut turn);
        }
        let groups = shard.tick(&mut turn);
        shard.finish(&mut turn);
        deadline = shard.next_deadline(turn.now, groups);
        if let Some(commit) = close(&shard, turn, &spans, &services) {
            in_flight_bytes += commit.bytes;
            in_flight.push_back(commit);
        }
    }
    while let Some(result) = next_done(&mut in_flight).await {
        let done = in_flight.pop_front().expect("a commit was under way");
        release(&mut shard, done, result, &services);
    }
}

async fn next_done(in_flight: &mut VecDeque<InFlight>) -> Option<Result<(), StoreError>> {
    match in_flight.front_mut() {
        Some(front) => Some((&mut front.done).await),
        None => None,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Sends what is free and commits the rest, if there is any.
fn close(shard: &Shard, mut turn: Turn, spans: &[Span], services: &Services) -> Option<InFlight> {
    services.metrics.count(&turn.count);
    send(shard, turn.free.drain());
    if !turn.dead.is_empty() {
        // The receiver ends with the broker.
        let _ = services.dead.send(std::mem::take(&mut turn.dead));
    }
    for queue in turn.idle.drain(..) {
        // The receiver ends with the broker.
        let _ = services.idle.send(queue);
    }
    for will in turn.wills.drain(..) {
        let _ = services.wills.send(will);
    }
    for ready in turn.due.drain(..) {
        let _ = services.due.send(ready);
    }
    for compaction in turn.compactions.drain(..) {
        let _ = services.compactor.send(compaction);
    }
    for sweep in Sweep::of(&mut turn) {
        let _ = services.sweeper.send(sweep);
    }
    let bytes = turn.batch.bytes();
    let nothing_to_write = turn.batch.is_empty() && spans.is_empty();
    let nothing_to_read = turn.reads.is_empty() && turn.delayed_reads.is_empty();
    if nothing_to_write && nothing_to_read && !turn.in_order {
        send(shard, turn.held.drain());
        return None;
    }
    let commit = if nothing_to_write {
        // The reads must see what was committed before, and answers about it must not overtake it.
        Commit {
            done: async { Ok(()) }.boxed(),
            started: true,
        }
    } else if turn.held.is_empty() && turn.committed.is_empty() && turn.drained.is_empty() {
        services.committer.commit_lazily(turn.batch, spans)
    } else {
        services.committer.commit(turn.batch, spans)
    };
    Some(InFlight {
        done: commit.done,
        // What waits for another shard's part of a span must not keep this shard from its own parts.
        bytes: if commit.started { bytes } else { 0 },
        held: turn.held,
        committed: turn.committed,
        reads: turn.reads,
        delayed_reads: turn.delayed_reads,
        drained: turn.drained,
    })
}

/// The commit has resolved: what was held for it goes out, as a refusal if it failed.
fn release(
    shard: &mut Shard,
    mut done: InFlight,
    result: Result<(), StoreError>,
    services: &Services,
) {
    match result {
        Ok(()) => {
            for (partition, committed) in done.committed {
                committed.publish();
                services.tap.signal(partition);
            }
            send(shard, done.held.drain());
        }
        Err(error) => {
            let reason = Refusal::StorageFailed(error.to_string().into());
            services.metrics.storage_failed(&error);
            send(shard, done.held.refuse(&reason));
        }
    }
    for drained in done.drained.drain(..) {
        // Whoever asked may have gone.
        let _ = drained.send(());
    }
}

fn send(shard: &Shard, mail: impl Iterator<Item = (ConnectionId, Vec<Event>)>) {
    for (connection, events) in mail {
        if let Some(mailbox) = shard.mailbox(connection) {
            mailbox.put(events);
        }
    }
}
