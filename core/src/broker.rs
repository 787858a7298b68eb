//! The broker: opened over a store, it hands out a [`Link`] per connection.

mod define;

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
    catalog::{Actor, Catalog, Routes},
    census::Census,
    client_quota::Meters,
    command::Change,
    commit::Committer,
    definitions::Definitions,
    event::{Event, QueueInfo, Refusal, TapStatus},
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
    store::{Durability, Store, StoreError},
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
    /// The same for the tap.
    pub(crate) taps: Arc<Signals>,
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
            taps: Arc::new(Signals::new(snapshot.clone())),
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
