//! A client of the core for tests: one link, and waiting for what it expects.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod logs;
pub mod queues;
pub mod sessions;

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use trivium_core::{
    Binding, Broker, Change, Command, ConsumeSpec, ConsumerId, Delivery, Destination, Event,
    ExchangeKind, ExchangeSpec, Grammar, Limits, Link, Message, Native, Now, Options, Origin,
    Pattern, Persistence, Plain, QueueSpec, Refusal, Reply, Text, Timestamp, Token, Topic,
    store::{Durability, Store, memory::MemoryStore},
};

/// What is waited for comes within this, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

thread_local! {
    /// How far this thread's clocks are ahead. A test and its broker share a thread.
    static AHEAD: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
    /// When they stopped, if they have: since then they go on with [`advance`] only.
    static STOPPED: std::cell::Cell<Option<(std::time::Instant, Duration)>> = const { std::cell::Cell::new(None) };
}

/// Makes the time pass; shards notice with the next operation.
pub fn advance(time: Duration) {
    AHEAD.set(AHEAD.get() + time);
}

/// Stops this thread's clocks: from now on time passes with [`advance`] only, however slow the machine is.
pub fn stop_the_clocks() {
    STOPPED.set(Some(real()));
}

/// The monotonic clock, and the time since the epoch.
#[expect(clippy::disallowed_methods, reason = "a test is a server to the core")]
fn real() -> (std::time::Instant, Duration) {
    let wall = std::time::SystemTime::UNIX_EPOCH.elapsed();
    (std::time::Instant::now(), wall.unwrap_or_default())
}

/// Both clocks.
pub fn now() -> Now {
    let (instant, wall) = STOPPED.get().unwrap_or_else(real);
    Now {
        instant: instant + AHEAD.get(),
        wall: Timestamp((wall + AHEAD.get()).as_millis() as u64),
    }
}

/// Options of a small broker with several shards.
pub fn options() -> Options {
    Options {
        shards: 3,
        durability: Durability::Synced,
        dialects: vec![&Plain],
        queue_memory: 1 << 20,
        log_memory: 1 << 20,
        retained_messages_max: 0,
        retained_bytes_max: 0,
        session_subscriptions_max: 0,
        limits: Limits::default(),
        batch_bytes_max: 1_048_588,
        initial_rebalance_delay: Duration::ZERO,
        groups: Default::default(),
        user: None,
        default_queue_type: "classic",
        clock: now,
    }
}

/// A broker over a store.
pub async fn open(store: Arc<dyn Store>) -> Broker {
    Broker::open(store, options())
        .await
        .expect("the store is sound")
}

/// One connection.
pub struct Client {
    link: Link,
    waiting: VecDeque<Event>,
    token: u64,
}

impl Client {
    pub fn new(broker: &Broker) -> Client {
        Client::named(broker, "")
    }

    pub fn named(broker: &Broker, client: &str) -> Client {
        Client::of(broker, client, "/")
    }

    /// One that is in no vhost until it enters one.
    pub fn outside(broker: &Broker) -> Client {
        Client::of(broker, "", "")
    }

    fn of(broker: &Broker, client: &str, vhost: &str) -> Client {
        let origin = Origin {
            protocol: "test".into(),
            client: client.into(),
            user: "guest".into(),
            vhost: vhost.into(),
            ..Origin::default()
        };
        Client {
            link: broker.connect(origin),
            waiting: VecDeque::new(),
            token: 0,
        }
    }

    pub fn token(&mut self) -> Token {
        self.token += 1;
        Token(self.token)
    }

    pub async fn submit(&mut self, command: Command) {
        self.submit_all(vec![command]).await;
    }

    pub async fn submit_all(&mut self, mut commands: Vec<Command>) {
        self.link
            .submit(&mut commands)
            .await
            .expect("the broker is up");
    }

    /// Waits for the first event that `pick` takes; others stay.
    pub async fn expect<T>(&mut self, mut pick: impl FnMut(&mut Event) -> Option<T>) -> T {
        let found = async {
            loop {
                for at in 0..self.waiting.len() {
                    if let Some(found) = pick(&mut self.waiting[at]) {
                        self.waiting.remove(at);
                        return found;
                    }
                }
                let mut events = Vec::new();
                self.link.receive(&mut events).await;
                self.waiting.extend(events.into_iter().flat_map(singly));
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .expect("the event comes")
    }

    /// Has every shard do something, so that it notices the time.
    pub async fn touch_shards(&mut self) {
        let filter = Pattern::new(Text::from_static("nothing"), Grammar::Slashes);
        self.ask(|token| Command::Retained { token, filter })
            .await
            .expect("all shards answer");
    }

    /// Whether something is there now.
    pub async fn has_events(&mut self) -> bool {
        let mut events = Vec::new();
        let arrived =
            tokio::time::timeout(Duration::from_millis(5), self.link.receive(&mut events)).await;
        self.waiting.extend(events.into_iter().flat_map(singly));
        arrived.is_ok() || !self.waiting.is_empty()
    }

    /// Submits a command and waits for its answer.
    pub async fn ask(&mut self, command: impl FnOnce(Token) -> Command) -> Result<Reply, Refusal> {
        let token = self.token();
        self.submit(command(token)).await;
        self.expect(|event| match event {
            Event::Done {
                token: done,
                result,
            } if *done == token => Some(std::mem::replace(result, Ok(Reply::Ok))),
            _ => None,
        })
        .await
    }

    pub async fn define(&mut self, change: Change) -> Result<Reply, Refusal> {
        self.ask(|token| Command::Define { token, change }).await
    }

    /// Declares a durable queue.
    pub async fn queue(&mut self, name: &str) -> (u64, u32) {
        match self
            .define(Change::DeclareQueue {
                name: name.into(),
                spec: durable(),
            })
            .await
        {
            Ok(Reply::Queue {
                messages,
                consumers,
                ..
            }) => (messages, consumers),
            other => panic!("{other:?}"),
        }
    }

    /// Ready messages and consumers of the model's queue of this number.
    pub async fn queue_spec(&mut self, queue: usize) -> (u64, u32) {
        self.queue_counts(&format!("q{queue}")).await
    }

    /// Ready messages and consumers of a queue that is there.
    pub async fn queue_counts(&mut self, name: &str) -> (u64, u32) {
        match self
            .define(Change::ExpectQueue {
                name: name.into(),
                session: false,
            })
            .await
        {
            Ok(Reply::Queue {
                messages,
                consumers,
                ..
            }) => (messages, consumers),
            other => panic!("{other:?}"),
        }
    }

    pub async fn bind(&mut self, exchange: &str, key: &str, queue: &str) {
        let binding = Binding {
            source: exchange.into(),
            destination: Destination::Queue(queue.into()),
            key: key.into(),
            grammar: Grammar::Dots,
            arguments: Vec::new(),
            subscription: None,
        };
        self.define(Change::Bind(binding))
            .await
            .expect("both ends are there");
    }

    /// Publishes and waits for the confirm.
    pub async fn publish(&mut self, exchange: &str, key: &str, body: &str) {
        let token = self.token();
        let message = Arc::new(message(exchange, key, body));
        self.submit(Command::Publish {
            token: Some(token),
            message,
            mandatory: false,
        })
        .await;
        self.confirmed(token).await.expect("nothing refuses it");
    }

    pub async fn confirmed(&mut self, token: Token) -> Result<(), Refusal> {
        self.expect(|event| match event {
            Event::Confirmed { tokens } => tokens.contains(&token).then_some(Ok(())),
            Event::Refused { tokens, reason } => {
                tokens.contains(&token).then(|| Err(reason.clone()))
            }
            _ => None,
        })
        .await
    }

    pub async fn consume(&mut self, consumer: u32, queue: &str, spec: ConsumeSpec) {
        let (consumer, queue) = (ConsumerId(consumer), queue.into());
        self.ask(|token| Command::Consume {
            token,
            consumer,
            queue,
            spec,
        })
        .await
        .expect("the queue is there");
    }

    /// The next delivery of any consumer.
    pub async fn delivery(&mut self) -> Delivery {
        self.expect(|event| match event {
            Event::Deliver { deliveries, .. } if !deliveries.is_empty() => {
                Some(deliveries.remove(0))
            }
            _ => None,
        })
        .await
    }

    /// The deliveries that shards have made until now.
    pub async fn deliveries(&mut self) -> Vec<Delivery> {
        self.touch_shards().await;
        let (deliveries, others) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|event| matches!(event, Event::Deliver { .. }));
        self.waiting = others;
        let of = |event| match event {
            Event::Deliver { deliveries, .. } => deliveries,
            _ => Vec::new(),
        };
        deliveries.into_iter().flat_map(of).collect()
    }

    /// The bodies of the next deliveries.
    pub async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            bodies.push(body(&self.delivery().await.message));
        }
        bodies
    }

    /// Takes one message and acknowledges it.
    pub async fn get(&mut self, queue: &str) -> Option<String> {
        let (consumer, queue) = (ConsumerId(u32::MAX), Text::from(queue));
        match self
            .ask(|token| Command::Get {
                token,
                consumer,
                queue,
                auto_ack: true,
            })
            .await
        {
            Ok(Reply::Got { delivery, .. }) => delivery.map(|delivery| body(&delivery.message)),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a queue has so many messages: what leads there may be a task of the broker's.
    pub async fn filled(&mut self, queue: &str, count: u64) {
        let full = async {
            while self.queue(queue).await.0 < count {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, full).await.is_err() {
            panic!("{queue} does not get {count} messages");
        }
    }

    /// All that a queue has.
    pub async fn drained(&mut self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        while let Some(body) = self.get(queue).await {
            bodies.push(body);
        }
        bodies
    }

    pub async fn declare_exchange(&mut self, name: &str, kind: ExchangeKind) {
        let (name, spec) = (name.into(), exchange(kind));
        let declared = self.define(Change::DeclareExchange { name, spec }).await;
        declared.expect("the name is free");
    }

    pub async fn cancel(&mut self, consumer: u32) {
        let consumer = ConsumerId(consumer);
        let ended = self.ask(|token| Command::Cancel { token, consumer }).await;
        ended.expect("it ends");
    }

    /// Whether it was told to wait with its input. What shards said until now counts.
    pub async fn is_held_back(&mut self) -> bool {
        self.touch_shards().await;
        self.link.held_until().is_some()
    }

    /// It looks at the clock.
    pub fn wait_no_longer(&mut self) {
        self.link.waited(now().instant);
    }

    pub async fn flushed(&mut self) {
        self.link.flushed().await.expect("the broker is up");
    }
}

/// A broker, and the store that it leaves behind.
pub async fn broker() -> (Arc<MemoryStore>, Broker) {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    (store, broker)
}

/// Deliveries and confirms one by one, so that what is expected can be taken out.
fn singly(event: Event) -> Vec<Event> {
    match event {
        Event::Deliver {
            consumer,
            deliveries,
        } => deliveries
            .into_iter()
            .map(|delivery| Event::Deliver {
                consumer,
                deliveries: vec![delivery],
            })
            .collect(),
        Event::Confirmed { tokens } => tokens
            .into_iter()
            .map(|token| Event::Confirmed {
                tokens: vec![token],
            })
            .collect(),
        event => vec![event],
    }
}

pub fn durable() -> QueueSpec {
    QueueSpec {
        durable: true,
        exclusive: false,
        auto_delete: false,
        expires: None,
        session: false,
        arguments: Vec::new(),
    }
}

pub fn exchange(kind: ExchangeKind) -> ExchangeSpec {
    ExchangeSpec {
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Vec::new(),
    }
}

pub fn message(exchange: &str, key: &str, body: &str) -> Message {
    Message {
        exchange: exchange.into(),
        topic: Topic::new(key.into(), Grammar::Dots),
        body: Some(Bytes::copy_from_slice(body.as_bytes())),
        key: None,
        timestamp: None,
        expiry_ms: None,
        persistence: Persistence::Persistent,
        priority: None,
        retain: false,
        native: Native {
            dialect: &Plain,
            block: Bytes::new(),
        },
        origin: Arc::default(),
    }
}

pub fn body(message: &Message) -> String {
    String::from_utf8(message.body.as_ref().expect("it has a body").to_vec()).expect("it is text")
}

/// Runs a test once per seed, each in a runtime of its own, and says which seed it was that failed.
/// `TRIVIUM_SEEDS=from..to` runs other seeds than the default ones.
#[expect(clippy::print_stderr, reason = "how a test says what to run again")]
pub fn for_each_seed<F: Future<Output = ()>>(seeds: Range<u64>, test: impl Fn(u64) -> F) {
    #[expect(clippy::disallowed_methods, reason = "a switch of the tests")]
    let wanted = std::env::var("TRIVIUM_SEEDS").ok();
    let seeds = wanted.map_or(seeds, |wanted| {
        let (from, to) = wanted.split_once("..").expect("TRIVIUM_SEEDS is from..to");
        from.parse().expect("a number")..to.parse().expect("a number")
    });
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let run = std::panic::AssertUnwindSafe(|| runtime.block_on(test(seed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!(
                "failed with seed {seed}: TRIVIUM_SEEDS={seed}..{}",
                seed + 1
            );
            std::panic::resume_unwind(panic);
        }
    }
}
