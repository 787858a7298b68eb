//! The loop of a shard: the only part of it that awaits.
//!
//! Take what has arrived, apply all of it, commit one batch, and go on; when a commit resolves,
//! release what was held for it. So a slow disk delays replies, not the shard.
//!
//! What the broker itself asks of a shard at a time of its own, and what makes room for deliveries, does not stand behind
//! what publishers have sent: it comes by a second inbox ([`Inboxes::express`]), which is applied first in each turn.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};

use super::{Leaving, Op, Outbox, Request, Shard, Turn};
use crate::{
    commit::{Commit, Committer, Span},
    dead_letters::DeadLetter,
    delay,
    event::{Event, Refusal},
    group::ShareLetter,
    id::{ConnectionId, LogId, QueueId},
    link::Mailbox,
    log::{Committed, Compaction},
    metrics::Metrics,
    queue::{CursorRead, DueWill, Read},
    recovery::Loader,
    signals::Signals,
    store::StoreError,
    sweep::Sweep,
    time::Now,
};

/// Operations taken from publishers and consumers in one turn, give or take those of one request: what comes by the
/// express inbox waits for a turn of so many at most.
const TURN_OPS_MAX: usize = 2048;

/// Requests that an express inbox holds.
pub(crate) const EXPRESS_MAX: usize = 16;

/// Bytes handed to the store and not yet written, after which a shard takes no more.
const IN_FLIGHT_MAX: usize = 64 << 20;

/// What a connection is told, and where it hears it.
pub(crate) type Told = (Arc<Mailbox>, Event);

/// What a shard's loop uses of the rest of the broker.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) committer: Arc<Committer>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) loader: Loader,
    /// Messages for dead-letter exchanges. Bounded by what queues let die at once.
    pub(crate) dead: mpsc::UnboundedSender<Vec<DeadLetter>>,
    /// Records for the dead-letter topics of share groups. Bounded by the records that groups look at.
    pub(crate) share_letters: mpsc::UnboundedSender<Vec<ShareLetter>>,
    /// Queues that have become unused and want to go, and who is to be told once they have.
    pub(crate) idle: mpsc::UnboundedSender<(QueueId, Option<Told>)>,
    /// Wills whose time has come.
    pub(crate) wills: mpsc::UnboundedSender<DueWill>,
    /// Messages whose time at a delayed exchange has come.
    pub(crate) due: mpsc::UnboundedSender<delay::Ready>,
    /// Body chunks that lost a reference, and stretches of queues whose references are to be dropped.
    pub(crate) sweeper: mpsc::UnboundedSender<Sweep>,
    /// Partitions that want to be compacted, each once until it is done.
    pub(crate) compactor: mpsc::UnboundedSender<Compaction>,
    /// Partitions with something new for the tap.
    pub(crate) tap: Arc<Signals>,
    /// The same for bindings by way of logs.
    pub(crate) feeds: Arc<Signals>,
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
    cursor_reads: Vec<CursorRead>,
    drained: Vec<oneshot::Sender<()>>,
}

/// Where requests come from.
pub(crate) struct Inboxes {
    pub(crate) common: mpsc::Receiver<Request>,
    /// At most [`EXPRESS_MAX`] requests.
    pub(crate) express: mpsc::Receiver<Request>,
}

impl Inboxes {
    /// Adds what is there to the requests of a turn, by what is to be applied first. Common ones are taken before
    /// express ones: whoever sent one may rely on an express one that was sent before.
    fn take(&mut self, express: &mut Vec<Request>, common: &mut Vec<Request>, more: bool) {
        let mut ops: usize = common.iter().map(|request| request.ops.len()).sum();
        while more
            && ops < TURN_OPS_MAX
            && let Ok(request) = self.common.try_recv()
        {
            ops += request.ops.len();
            common.push(request);
        }
        express.extend((0..EXPRESS_MAX).map_while(|_| self.express.try_recv().ok()));
    }
}

/// Runs a shard until its inbox is closed and everything is committed.
pub(crate) async fn run(mut shard: Shard, mut inboxes: Inboxes, services: Services) {
    let (mut express, mut common) = (Vec::with_capacity(EXPRESS_MAX), Vec::new());
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
                let mut done = in_flight.pop_front().expect("a commit was under way");
                in_flight_bytes -= done.bytes;
                reads.extend(done.reads.iter().map(|read| services.loader.load(read)));
                let delayed = done.delayed_reads.iter();
                reads.extend(delayed.map(|read| services.loader.load_delayed(read)));
                let cursors = done.cursor_reads.drain(..);
                reads.extend(cursors.map(|read| services.loader.load_log(read)));
                release(&mut shard, done, result, &services);
                continue;
            }
            // Also while much is in flight: it is little.
            Some(request) = inboxes.express.recv() => express.push(request),
            request = inboxes.common.recv(), if in_flight_bytes < IN_FLIGHT_MAX => {
                let Some(request) = request else { break };
                common.push(request);
            }
            Some(loaded) = reads.next() => {
                common.push(Request { from: broker.clone(), ops: vec![loaded], span: None });
            }
            () = sleep_until(deadline) => {}
        }
        inboxes.take(&mut express, &mut common, in_flight_bytes < IN_FLIGHT_MAX);
        let mut turn = Turn::new((services.clock)(), services.tap.generation());
        let mut spans: Vec<Span> = Vec::new();
        for request in express.drain(..).chain(common.drain(..)) {
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
    if !turn.share_letters.is_empty() {
        let _ = services
            .share_letters
            .send(std::mem::take(&mut turn.share_letters));
    }
    for Leaving { queue, told } in turn.idle.drain(..) {
        let told = told.and_then(|(to, event)| Some((shard.mailbox(to)?.clone(), event)));
        // The receiver ends with the broker.
        let _ = services.idle.send((queue, told));
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
    let nothing_to_read =
        turn.reads.is_empty() && turn.delayed_reads.is_empty() && turn.cursor_reads.is_empty();
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
        cursor_reads: turn.cursor_reads,
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
                if committed.publish(services.tap.generation()) {
                    services.tap.signal(partition);
                }
                if services.feeds.is_fed(partition.0) {
                    services.feeds.signal(partition);
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Token;

    fn request(ops: usize) -> Request {
        let fence = |token| Op::Fence {
            token: Token(token),
        };
        Request {
            from: Arc::new(Mailbox::new(ConnectionId(1))),
            ops: (0..ops as u64).map(fence).collect(),
            span: None,
        }
    }

    /// However much publishers have sent, a turn takes so much of it, and all that came by the other inbox.
    #[test]
    fn a_flood_does_not_keep_express_requests_waiting() {
        let (common_sender, common) = mpsc::channel(64);
        let (express_sender, express) = mpsc::channel(EXPRESS_MAX);
        let mut inboxes = Inboxes { common, express };
        for _ in 0..64 {
            assert!(common_sender.try_send(request(1000)).is_ok());
        }
        assert!(express_sender.try_send(request(1)).is_ok());
        let (mut first, mut then) = (Vec::new(), vec![request(500)]);
        inboxes.take(&mut first, &mut then, true);
        assert_eq!((first.len(), then.len()), (1, 3));
        let (mut first, mut then) = (Vec::new(), Vec::new());
        assert!(express_sender.try_send(request(1)).is_ok());
        inboxes.take(&mut first, &mut then, false);
        assert_eq!(
            (first.len(), then.len()),
            (1, 0),
            "while too much is in flight"
        );
    }
}
