//! The broker: opened over a store, it hands out a [`Link`] per connection.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    catalog::{Actor, Catalog, Effect, Outcome, QueueEntry, Routes, is_group},
    census::{Census, Group},
    client_quota::Meters,
    command::{Change, Scope},
    commit::{Committer, Span},
    definitions::{Definitions, Removal},
    event::{Event, QueueInfo, Refusal, Reply, TapStatus},
    group::GroupBounds,
    id::{ConnectionId, LogId, QueueId, Token},
    lag::{Lag, Standing},
    link::{Link, Mailbox, Stopped},
    message::{Dialect, Message, Origin},
    metrics::{Metrics, Sample},
    properties::Text,
    quota::Limits,
    recovery,
    replies::Replies,
    shard::{EXPRESS_MAX, Inboxes, Op, Report, Request},
    signals::Signals,
    snapshot::Snapshot,
    store::{Batch, BoxFuture, Durability, Store, StoreError},
    time::Now,
    trace::Tracer,
    transaction::Transactions,
};

/// Requests that may wait for a shard: each is at most one turn of one connection.
const INBOX_MAX: usize = 128;

/// Shards at most, so that a set of them is a number.
pub const SHARDS_MAX: usize = 64;

/// What the broker needs to know, checked by whoever built it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of shards, 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// How stored properties are read, by [`Dialect::id`].
    pub dialects: Vec<&'static dyn Dialect>,
    /// Bytes of queue messages kept in memory, over all queues. Messages are slices of the buffers that they were
    /// read into, and a buffer stays while anything in it does: where one message of many is left behind, the
    /// process takes more than this.
    pub queue_memory: usize,
    /// Bytes of record batches kept in memory for readers at the ends of logs.
    pub log_memory: usize,
    /// Bytes of a batch in a log without a bound of its own, at most.
    pub batch_bytes_max: usize,
    /// How long an empty group waits for more members before its first generation.
    pub initial_rebalance_delay: Duration,
    /// What groups have without settings of their own, and between what these may lie.
    pub groups: GroupBounds,
    /// Retained messages of one vhost at most; 0 is no limit.
    pub retained_messages_max: u64,
    /// As `retained_messages_max`, in bytes of topics, payloads and properties.
    pub retained_bytes_max: u64,
    /// Subscriptions of one session at most; 0 is no limit.
    pub session_subscriptions_max: usize,
    /// What there may be at most of all that is connected and declared.
    pub limits: Limits,
    /// A user besides `guest`, and its password; this one may come from anywhere.
    pub user: Option<(Text, Text)>,
    /// The type of queues that are declared without one, in vhosts that have no default of their own: `classic`,
    /// `quorum` or `stream`. What ends with a connection or is not durable is classic.
    pub default_queue_type: &'static str,
    /// The clocks.
    pub clock: fn() -> Now,
}

/// A broker. Clones are the same broker.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// Who is connected, and what a new connection must be told.
#[derive(Default)]
struct Connections {
    mailboxes: Vec<Weak<Mailbox>>,
    /// Why publishers are held back.
    blocked: Option<Text>,
}

/// What links share.
pub(crate) struct Inner {
    pub(crate) shards: Vec<mpsc::Sender<Request>>,
    /// A second way to each shard, which does not stand behind what connections have sent.
    pub(crate) express: Vec<mpsc::Sender<Request>>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) committer: Arc<Committer>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) replies: Replies,
    /// Partitions with something new for bindings by way of logs.
    pub(crate) feeds: Arc<Signals>,
    pub(crate) census: Arc<Census>,
    catalog: AsyncMutex<Catalog>,
    connections: Mutex<Connections>,
    next_connection: AtomicU64,
    next_span: AtomicU64,
    first_body_chunk: u64,
    next_body_chunk: AtomicU64,
    next_producer: AtomicU64,
    pub(crate) transactions: Transactions,
    pub(crate) clock: fn() -> Now,
    pub(crate) meters: Meters,
    pub(crate) batch_bytes_max: usize,
    pub(crate) limits: Limits,
    /// Set where messages are traced.
    pub(crate) tracer: OnceLock<Arc<Tracer>>,
}

/// What came of removing a queue.
struct RemovedQueue {
    /// How many messages were ready, and the queues that nobody needs without it.
    result: Result<(u64, Vec<QueueId>), Refusal>,
    committed: BoxFuture<'static, Result<(), StoreError>>,
}

impl Broker {
    /// Recovers what the store holds and starts the shards.
    pub async fn open(store: Arc<dyn Store>, options: Options) -> Result<Broker, StoreError> {
        assert!(
            (1..=SHARDS_MAX).contains(&options.shards),
            "options are checked by whoever built them"
        );
        let recovered = recovery::recover(&store, &options).await?;
        let committer = Arc::new(Committer::new(store, options.durability));
        let metrics = Arc::new(Metrics::default());
        let (mut shards, mut express, mut inboxes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..options.shards {
            let (common_sender, common) = mpsc::channel(INBOX_MAX);
            let (express_sender, express_inbox) = mpsc::channel(EXPRESS_MAX);
            shards.push(common_sender);
            express.push(express_sender);
            inboxes.push(Inboxes {
                common,
                express: express_inbox,
            });
        }
        let snapshot = Arc::new(Snapshot::new(recovered.catalog.routes()));
        let inner = Arc::new(Inner {
            shards,
            express,
            meters: Meters::new(snapshot.clone()),
            feeds: Arc::new(Signals::new(snapshot.clone())),
            snapshot,
            committer,
            metrics,
            replies: Replies::default(),
            census: Arc::default(),
            catalog: AsyncMutex::new(recovered.catalog),
            connections: Mutex::default(),
            next_connection: AtomicU64::new(1),
            next_span: AtomicU64::new(1),
            first_body_chunk: recovered.epoch << 32,
            next_body_chunk: AtomicU64::new(recovered.epoch << 32),
            next_producer: AtomicU64::new(recovered.epoch << 24),
            transactions: Transactions::new(recovered.transactions),
            clock: options.clock,
            batch_bytes_max: options.batch_bytes_max,
            limits: options.limits,
            tracer: OnceLock::new(),
        });
        let tasks = recovery::start(
            &inner,
            recovered.shards,
            recovered.stored,
            recovered.feeds,
            recovered.wills,
            inboxes,
            &options,
        );
        Ok(Broker {
            inner,
            tasks: Arc::new(Mutex::new(tasks)),
        })
    }

    /// Has messages traced that connections publish and consume from now on. The first call counts.
    pub fn trace(&self, tracer: Arc<Tracer>) {
        let _ = self.inner.tracer.set(tracer);
    }

    /// A link for a new connection. `origin` says which protocol and, where it is known, which client and vhost.
    pub fn connect(&self, origin: Origin) -> Link {
        self.inner.clone().connect(origin)
    }

    /// A link for one request. It does not count for the limits of connections of its user and vhost.
    pub fn visit(&self, origin: Origin) -> Link {
        let mut link = self.connect(origin);
        link.make_visit();
        link
    }

    /// Everything that is counted.
    pub async fn samples(&self) -> Vec<Sample> {
        let mut samples = self.inner.metrics.samples();
        let mut total = Report::default();
        // What is asked for here does not stand behind publishers.
        for shard in &self.inner.express {
            if let Some(report) = self.inner.report(shard).await {
                total.add(&report);
            }
        }
        samples.extend(total.samples());
        samples.extend(self.inner.catalog.lock().await.samples());
        samples
    }

    /// How far all readers of logs are, of all vhosts, by vhost, kind and name.
    pub async fn lag(&self) -> Result<Vec<Lag>, Stopped> {
        let routes = self.inner.snapshot.load();
        let vhosts: Vec<Text> = routes.vhosts().map(|about| about.name.clone()).collect();
        let lag = self.inner.lag(&routes, &vhosts, false).await;
        lag.map_err(|_| Stopped)
    }

    /// How far the tap is in each partition of the logs that are tapped, by vhost and name.
    pub fn taps(&self) -> Vec<TapStatus> {
        let routes = self.inner.snapshot.load();
        let mut taps = Vec::new();
        for log in routes.all_logs().filter(|log| log.tap.is_some()) {
            for (partition, tail) in log.tails.iter().enumerate() {
                taps.extend(tail.tap().map(|at| TapStatus {
                    vhost: log.vhost.clone(),
                    log: log.info.name.clone(),
                    partition: partition as u32,
                    position: at.position,
                    end: at.end,
                    lost: at.lost,
                }));
            }
        }
        taps
    }

    /// Publishes messages on topics of the broker's own (`$SYS/…`), where nobody else can. They are retained for as
    /// long as the broker runs, and never stored.
    pub async fn announce(&self, vhost: &Text, messages: Vec<Arc<Message>>) -> Result<(), Stopped> {
        let ops = self.inner.announcements(vhost, messages);
        let ops = ops
            .into_iter()
            .flat_map(|ops| self.inner.shards.iter().zip(ops));
        for (shard, ops) in ops {
            if !ops.is_empty() {
                self.inner.send(shard, ops).await.map_err(|_| Stopped)?;
            }
        }
        Ok(())
    }

    /// Sets up all of this on the broker's own behalf, or nothing of it.
    pub async fn import(&self, definitions: Definitions) -> Result<(), Refusal> {
        let from = Arc::new(Mailbox::new(ConnectionId(0)));
        let change = Change::Import(Box::new(definitions));
        let actor = Actor::broker("/".into());
        self.inner
            .define(&actor, &from, Token(0), change)
            .await
            .map(drop)
    }

    /// Why the store has failed, if it has: nothing more is acknowledged then.
    pub fn failure(&self) -> Option<String> {
        self.inner.metrics.failure()
    }

    /// Has publishers held back, for the given reason, or takes messages again. Said to every connection, once per
    /// change; what they sent before is still taken.
    pub fn block(&self, reason: Option<Text>) {
        let mut connections = self.inner.connections();
        if connections.blocked == reason {
            return;
        }
        for mailbox in connections.mailboxes.iter().filter_map(Weak::upgrade) {
            mailbox.put(vec![match &reason {
                Some(reason) => Event::Blocked {
                    reason: reason.clone(),
                },
                None => Event::Unblocked,
            }]);
        }
        connections.blocked = reason;
    }

    /// Tells every connection to close. Whoever serves them waits for that before [`Broker::close`].
    pub fn shut_down(&self) {
        let mailboxes = std::mem::take(&mut self.inner.connections().mailboxes);
        for mailbox in mailboxes.iter().filter_map(Weak::upgrade) {
            mailbox.put(vec![Event::Shutdown]);
        }
    }

    /// Ends the broker: what shards have accepted is made durable, then the store is closed.
    pub async fn close(self) -> Result<(), StoreError> {
        self.shut_down();
        let mut tasks =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for shard in &self.inner.shards {
            let (reply, applied) = oneshot::channel();
            if self.inner.send(shard, vec![Op::Drain(reply)]).await.is_ok() {
                // A shard that has stopped has nothing left to drain.
                let _ = applied.await;
            }
        }
        tasks.shutdown().await;
        self.inner.committer.store().close().await
    }
}

impl Inner {
    pub(crate) fn connect(self: Arc<Inner>, origin: Origin) -> Link {
        let id = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let mailbox = Arc::new(Mailbox::of(id, origin.protocol.clone()));
        let mut connections = self.connections();
        let mailboxes = &mut connections.mailboxes;
        if mailboxes.len() == mailboxes.capacity() {
            mailboxes.retain(|mailbox| mailbox.strong_count() > 0);
        }
        mailboxes.push(Arc::downgrade(&mailbox));
        if let Some(reason) = connections.blocked.clone() {
            mailbox.put(vec![Event::Blocked { reason }]);
        }
        drop(connections);
        Link::new(self, mailbox, origin)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shard_of_queue(&self, id: QueueId) -> usize {
        shard_of_queue(id, self.shards.len())
    }

    pub(crate) fn shard_of_partition(&self, log: LogId, partition: u32) -> usize {
        shard_of_partition(log, partition, self.shards.len())
    }

    pub(crate) fn shard_of_exchange(&self, id: u64) -> usize {
        shard_of_queue(QueueId(id), self.shards.len())
    }

    pub(crate) fn shard_of_name(&self, name: &str) -> usize {
        shard_of_name(name, self.shards.len())
    }

    /// Body chunks from this number on are of this process.
    pub(crate) fn first_body_chunk(&self) -> u64 {
        self.first_body_chunk
    }

    pub(crate) fn next_span(&self) -> u64 {
        self.next_span.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_body_chunk(&self) -> u64 {
        self.next_body_chunk.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_producer(&self) -> i64 {
        self.next_producer.fetch_add(1, Ordering::Relaxed) as i64
    }

    /// Why nothing is accepted, if the store has failed.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if !self.metrics.has_failed() {
            return None;
        }
        self.metrics
            .failure()
            .map(|failure| Refusal::StorageFailed(failure.into()))
    }

    /// What a shard knows of its readers.
    pub(crate) async fn standings(
        &self,
        shard: usize,
        sessions: bool,
    ) -> Result<Vec<Standing>, Refusal> {
        let (reply, standings) = oneshot::channel();
        let op = Op::Standings { sessions, reply };
        // Whoever asks for all of it has acted before; a scrape does not stand behind publishers.
        let way = if sessions {
            &self.shards
        } else {
            &self.express
        };
        self.send(&way[shard], vec![op]).await?;
        standings.await.map_err(|_| Refusal::Stopping)
    }

    /// Has the logs of new bindings by way of them read.
    fn begin_feeds(&self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Fed(log) = effect {
                self.feeds.signal_all(log);
            }
        }
    }

    /// Sends what exchanges remember to where new bindings lead.
    async fn recall_all(&self, effects: &[Effect]) -> Result<(), Refusal> {
        for effect in effects {
            if let Effect::Recalled(recall) = effect {
                self.recall(recall).await?;
            }
        }
        Ok(())
    }

    /// Sends an operation to the shard of a queue.
    pub(crate) async fn ask_shard_of(&self, queue: QueueId, op: Op) -> Result<(), Refusal> {
        let shard = &self.shards[self.shard_of_queue(queue)];
        self.send(shard, vec![op]).await
    }

    async fn report(&self, shard: &mpsc::Sender<Request>) -> Option<Report> {
        let (reply, report) = oneshot::channel();
        self.send(shard, vec![Op::Report(reply)]).await.ok()?;
        report.await.ok()
    }

    async fn send(&self, shard: &mpsc::Sender<Request>, ops: Vec<Op>) -> Result<(), Refusal> {
        let from = Arc::new(Mailbox::new(ConnectionId(0)));
        self.send_from(&from, shard, ops).await
    }

    async fn send_from(
        &self,
        from: &Arc<Mailbox>,
        shard: &mpsc::Sender<Request>,
        ops: Vec<Op>,
    ) -> Result<(), Refusal> {
        let request = Request {
            from: from.clone(),
            ops,
            span: None,
        };
        shard.send(request).await.map_err(|_| Refusal::Stopping)
    }

    /// Carries out a definition. `None`: the owning shard answers with the token.
    pub(crate) async fn define(
        &self,
        actor: &Actor,
        from: &Arc<Mailbox>,
        token: Token,
        change: Change,
    ) -> Result<Option<Reply>, Refusal> {
        let mut catalog = self.catalog.lock().await;
        if let Change::DeclareSession { client, clean, .. } = &change
            && let Some(old) = catalog.outdated_session(actor, client, *clean)
        {
            self.remove_queue(&mut catalog, old, false, false).await?;
        }
        let applied = catalog.apply(actor, &change)?;
        match &change {
            Change::Remove(Removal::User(name)) => self.census.evict(&Group::User(name.clone())),
            Change::Remove(Removal::Vhost(name)) => self.census.evict(&Group::Vhost(name.clone())),
            _ => {}
        }
        let committed =
            (!applied.batch.is_empty()).then(|| self.committer.commit(applied.batch, &[]).done);
        self.carry_out(from, &applied.effects).await?;
        self.snapshot.store(catalog.routes());
        self.begin_feeds(&applied.effects);
        for unused in applied.unused {
            self.remove_queue(&mut catalog, unused, false, false)
                .await?;
        }
        let outcome = match applied.outcome {
            Outcome::DeleteQueue {
                queue,
                if_unused,
                if_empty,
            } => {
                let messages = self
                    .remove_queue(&mut catalog, queue.id, if_unused, if_empty)
                    .await?;
                return Ok(Some(Reply::Deleted { messages }));
            }
            Outcome::DeleteVhost { vhost } => {
                self.remove_vhost(&mut catalog, from, &vhost).await?;
                return Ok(Some(Reply::Removed { existed: true }));
            }
            outcome => outcome,
        };
        drop(catalog);
        self.recall_all(&applied.effects).await?;
        if let Some(committed) = committed {
            self.durable(committed).await?;
        }
        self.answer(from, token, outcome).await
    }

    /// Carries out bindings and unbindings of one connection: all are stored in one batch, and published as one change
    /// of the routes. The answers are in order.
    pub(crate) async fn define_bindings(
        &self,
        actor: &Actor,
        from: &Arc<Mailbox>,
        changes: Vec<(Token, Change)>,
    ) -> Vec<(Token, Result<Reply, Refusal>)> {
        let mut catalog = self.catalog.lock().await;
        let (mut batch, mut effects) = (Batch::new(), Vec::new());
        let mut answers = Vec::with_capacity(changes.len());
        for (token, change) in changes {
            let result = catalog.apply(actor, &change).map(|applied| {
                batch.append(applied.batch);
                effects.extend(applied.effects);
                match applied.outcome {
                    Outcome::Bound { created } => Reply::Bound { created },
                    Outcome::Unbound { existed } => Reply::Unbound { existed },
                    _ => Reply::Ok,
                }
            });
            answers.push((token, result));
        }
        let committed = (!batch.is_empty()).then(|| self.committer.commit(batch, &[]).done);
        let carried_out = self.carry_out(from, &effects).await;
        self.snapshot.store(catalog.routes());
        self.begin_feeds(&effects);
        drop(catalog);
        let carried_out = carried_out.and(self.recall_all(&effects).await);
        let done = match committed {
            Some(committed) => carried_out.and(self.durable(committed).await),
            None => carried_out,
        };
        if let Err(refusal) = done {
            for (_, result) in answers.iter_mut().filter(|(_, result)| result.is_ok()) {
                *result = Err(refusal.clone());
            }
        }
        answers
    }

    /// What is set up and declared, as far as `by` may see it.
    pub(crate) async fn export(
        &self,
        by: &Actor,
        vhost: Option<&Text>,
        scope: Scope,
    ) -> Result<Definitions, Refusal> {
        self.catalog.lock().await.export(by, vhost, scope)
    }

    /// The queues and logs of some vhosts, or those of that name, as they are now.
    pub(crate) async fn describe_queues(
        &self,
        routes: &Routes,
        vhosts: &[Text],
        name: Option<&Text>,
    ) -> Result<Vec<QueueInfo>, Refusal> {
        let wanted = |found: &Text| name.is_none_or(|name| name == found);
        let mut found = Vec::new();
        let mut places: Vec<Vec<(QueueId, usize)>> = vec![Vec::new(); self.shards.len()];
        for vhost in vhosts {
            for queue in routes.queues(vhost).filter(|queue| wanted(&queue.name)) {
                places[self.shard_of_queue(queue.id)].push((queue.id, found.len()));
                found.push(queue.describe());
            }
            let logs = routes.logs(vhost).filter(|log| wanted(&log.info.name));
            found.extend(logs.map(|log| log.describe()));
        }
        for (shard, places) in self.express.iter().zip(places) {
            if places.is_empty() {
                continue;
            }
            let (reply, counts) = oneshot::channel();
            let queues = places.iter().map(|(queue, _)| *queue).collect();
            self.send(shard, vec![Op::Count { queues, reply }]).await?;
            let counts = counts.await.map_err(|_| Refusal::Stopping)?;
            for ((_, at), [ready, unsettled, delayed, consumers]) in places.into_iter().zip(counts)
            {
                let info = &mut found[at];
                (info.ready, info.unsettled) = (ready, unsettled);
                (info.delayed, info.consumers) = (delayed, consumers);
            }
        }
        found.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
        Ok(found)
    }

    /// Waits for a change of the catalog. After the first that fails, nothing is accepted.
    pub(crate) async fn durable(
        &self,
        committed: BoxFuture<'static, Result<(), StoreError>>,
    ) -> Result<(), Refusal> {
        committed.await.map_err(|error| {
            self.metrics.storage_failed(&error);
            Refusal::StorageFailed(error.to_string().into())
        })
    }

    async fn answer(
        &self,
        from: &Arc<Mailbox>,
        token: Token,
        outcome: Outcome,
    ) -> Result<Option<Reply>, Refusal> {
        let (queue, op) = match outcome {
            Outcome::Ok | Outcome::DeleteQueue { .. } | Outcome::DeleteVhost { .. } => {
                return Ok(Some(Reply::Ok));
            }
            Outcome::Removed { existed } => return Ok(Some(Reply::Removed { existed })),
            Outcome::Stream { log, created } => return Ok(Some(log.as_queue(created))),
            Outcome::NoQueue | Outcome::StreamDeleted => {
                return Ok(Some(Reply::Deleted { messages: 0 }));
            }
            Outcome::Bound { created } => return Ok(Some(Reply::Bound { created })),
            Outcome::Unbound { existed } => return Ok(Some(Reply::Unbound { existed })),
            Outcome::Log(info) => return Ok(Some(Reply::Logs(vec![Ok(info)]))),
            // Its shard has heard of it before it hears anything else of this connection.
            Outcome::Queue {
                queue,
                created: true,
            } if queue.source.is_none() => {
                return Ok(Some(Reply::Queue {
                    name: queue.name.clone(),
                    messages: 0,
                    consumers: 0,
                    created: true,
                }));
            }
            Outcome::Queue { queue, created } => (
                queue.id,
                Op::Inspect {
                    token,
                    queue,
                    created,
                },
            ),
            Outcome::Purge { queue } => (
                queue.id,
                Op::Purge {
                    token,
                    queue: queue.id,
                },
            ),
        };
        let shard = &self.shards[self.shard_of_queue(queue)];
        self.send_from(from, shard, vec![op]).await?;
        Ok(None)
    }

    /// Tells the shards what has changed. They hear of it before the new routes can lead anything to them: of what is
    /// new by the express inbox, since things may come that way.
    async fn carry_out(&self, from: &Arc<Mailbox>, effects: &[Effect]) -> Result<(), Refusal> {
        for effect in effects {
            match effect {
                Effect::QueueCreated(entry) => {
                    let shard = &self.express[self.shard_of_queue(entry.id)];
                    self.send_from(from, shard, vec![Op::CreateQueue(entry.clone())])
                        .await?;
                }
                Effect::QueueChanged(entry) => {
                    let shard = &self.shards[self.shard_of_queue(entry.id)];
                    self.send_from(from, shard, vec![Op::ChangeQueue(entry.clone())])
                        .await?;
                }
                Effect::LogCreated(entry) => {
                    for shard in &self.express {
                        self.send_from(from, shard, vec![Op::CreateLog(entry.clone())])
                            .await?;
                    }
                }
                Effect::DelayCreated(entry) => {
                    let shard = &self.express[self.shard_of_exchange(entry.id)];
                    self.send_from(from, shard, vec![Op::CreateDelay(entry.clone())])
                        .await?;
                }
                Effect::DelayRemoved(entry) => {
                    let shard = &self.shards[self.shard_of_exchange(entry.id)];
                    self.send_from(from, shard, vec![Op::RemoveDelay(entry.id)])
                        .await?;
                }
                Effect::LogChanged(entry) => {
                    for shard in &self.express {
                        self.send_from(from, shard, vec![Op::ChangeLog(entry.clone())])
                            .await?;
                    }
                }
                // Once the new routes are there.
                Effect::Fed(_) | Effect::Recalled(_) => {}
                Effect::LogRemoved(entry) => {
                    self.transactions.lock().forget_log(entry.info.id);
                    for shard in &self.shards {
                        self.send_from(from, shard, vec![Op::RemoveLog(entry.clone())])
                            .await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes a queue if its shard agrees, and what nobody needs without it; how many messages were ready.
    async fn remove_queue(
        &self,
        catalog: &mut Catalog,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<u64, Refusal> {
        let removed = self.remove_one(catalog, id, if_unused, if_empty).await?;
        self.durable(removed.committed).await?;
        let (messages, unused) = removed.result?;
        for id in unused {
            // A group, which nothing else depends on.
            let removed = self.remove_one(catalog, id, false, false).await?;
            self.durable(removed.committed).await?;
        }
        Ok(messages)
    }

    /// Removes a queue if its shard agrees, without waiting until that is durable.
    async fn remove_one(
        &self,
        catalog: &mut Catalog,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<RemovedQueue, Refusal> {
        let (reply, removed) = oneshot::channel();
        // What is declared and what it holds go together, or a crash would leave one without the other.
        let stored = catalog.queue(id).is_some_and(|queue| queue.spec.durable);
        let span = stored.then(|| Span {
            id: self.next_span(),
            parts: 2,
        });
        let from = Arc::new(Mailbox::new(ConnectionId(0)));
        let request = Request {
            from: from.clone(),
            ops: vec![Op::RemoveQueue {
                queue: id,
                if_unused,
                if_empty,
                reply,
            }],
            span,
        };
        let shard = &self.shards[self.shard_of_queue(id)];
        shard.send(request).await.map_err(|_| Refusal::Stopping)?;
        let removed = removed.await.map_err(|_| Refusal::Stopping)?;
        let (batch, unused) = match removed.is_ok().then(|| catalog.remove_queue(id)).flatten() {
            Some(applied) => {
                self.snapshot.store(catalog.routes());
                self.carry_out(&from, &applied.effects).await?;
                (applied.batch, applied.unused)
            }
            None => (Batch::new(), Vec::new()),
        };
        let committed = if span.is_some() || !batch.is_empty() {
            self.committer.commit(batch, span.as_slice()).done
        } else {
            Box::pin(async { Ok(()) })
        };
        Ok(RemovedQueue {
            result: removed.map(|messages| (messages, unused)),
            committed,
        })
    }

    /// Removes a vhost with everything in it. Its row goes last, so that a crash leaves no part of it behind that
    /// another of its name would find.
    async fn remove_vhost(
        &self,
        catalog: &mut Catalog,
        from: &Arc<Mailbox>,
        vhost: &Text,
    ) -> Result<(), Refusal> {
        let mut queues: Vec<QueueId> = catalog
            .queues()
            .filter(|queue| queue.vhost == *vhost)
            .map(|queue| queue.id)
            .collect();
        let mut committed = Vec::with_capacity(queues.len());
        while let Some(queue) = queues.pop() {
            let removed = self.remove_one(catalog, queue, false, false).await?;
            committed.push(removed.committed);
            let (_, unused) = removed.result?;
            queues.extend(unused);
        }
        let removed = catalog.remove_vhost(vhost);
        self.carry_out(from, &removed.effects).await?;
        self.snapshot.store(catalog.routes());
        self.forget_vhost(vhost).await?;
        committed.push(self.committer.commit(removed.batch, &[]).done);
        for committed in committed {
            self.durable(committed).await?;
        }
        Ok(())
    }

    /// Has the shards forget what they know of a vhost beside queues and logs.
    async fn forget_vhost(&self, vhost: &Text) -> Result<(), Refusal> {
        let mut replies = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let (reply, forgotten) = oneshot::channel();
            let vhost = vhost.clone();
            self.send(shard, vec![Op::ForgetVhost { vhost, reply }])
                .await?;
            replies.push(forgotten);
        }
        for forgotten in replies {
            forgotten.await.map_err(|_| Refusal::Stopping)?;
        }
        Ok(())
    }

    /// A crash may have left groups whose members were there for as long as their connections.
    pub(crate) async fn remove_unused_groups(&self) {
        let mut catalog = self.catalog.lock().await;
        for id in catalog.unused_groups() {
            if let Err(refusal) = self.remove_queue(&mut catalog, id, true, false).await {
                tracing::debug!(queue = %id, %refusal, "unused group stays");
            }
        }
    }

    /// A queue has told that it is unused and wants to go.
    pub(crate) async fn remove_idle_queue(&self, id: QueueId) {
        let mut catalog = self.catalog.lock().await;
        if catalog.has_members(id) {
            // They have come while it was about to go.
            return;
        }
        let queue = catalog.queue(id).cloned();
        let is_session = |queue: &QueueEntry| queue.spec.session && !is_group(&queue.name);
        match self.remove_queue(&mut catalog, id, true, false).await {
            Ok(_) if queue.is_some_and(|queue| is_session(&queue) && queue.spec.durable) => {
                self.metrics.session_expired();
            }
            Ok(_) => {}
            Err(refusal) => tracing::debug!(queue = %id, %refusal, "unused queue stays"),
        }
    }

    /// A link has gone.
    pub(crate) async fn disconnect(&self, mailbox: &Arc<Mailbox>, shards: Vec<usize>) {
        for shard in shards {
            if self
                .send_from(mailbox, &self.shards[shard], vec![Op::Disconnect])
                .await
                .is_err()
            {
                return;
            }
        }
        let mut catalog = self.catalog.lock().await;
        for queue in catalog.exclusive_queues(mailbox.connection) {
            if let Err(refusal) = self.remove_queue(&mut catalog, queue, false, false).await {
                tracing::warn!(%queue, %refusal, "exclusive queue outlives its connection");
            }
        }
    }
}

/// Which of `shards` owns a queue.
pub(crate) fn shard_of_queue(id: QueueId, shards: usize) -> usize {
    (id.0 % shards as u64) as usize
}

/// Which of `shards` owns a partition.
pub(crate) fn shard_of_partition(log: LogId, partition: u32, shards: usize) -> usize {
    ((log.0 + u64::from(partition)) % shards as u64) as usize
}

/// Which of `shards` owns what is known by a name.
pub(crate) fn shard_of_name(name: &str, shards: usize) -> usize {
    use std::hash::Hasher;
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(name.as_bytes());
    (hasher.finish() % shards as u64) as usize
}
