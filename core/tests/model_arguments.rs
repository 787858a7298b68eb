//! Seeded random operations on queues with arguments against a naive model of RabbitMQ's semantics: lifetimes, limits,
//! overflow, dead letters, priorities, delivery limits, with time that passes by hand, restarts and crashes.
//!
//! `TRIVIUM_SEEDS=from..to` runs other seeds than the default ones.

mod support;

use std::{sync::Arc, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use support::{Client, advance, body, durable, message, open};
use trivium_core::{
    Broker, Change, Command, ConsumerId, DeliveryId, Message, Outcome, QueueSpec, Refusal, Reply,
    Text, Value, store::memory::MemoryStore,
};

/// Time passes in steps that no lifetime ends close to.
const STEP: u64 = 60_000;

/// Queues with arguments; as many come behind them without any, one for what dies in each of these.
const WITH_ARGUMENTS: usize = 3;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    body: String,
    /// As published.
    priority: Option<u8>,
    /// As the queue has it.
    place: u8,
    order: u64,
    /// In steps of time.
    expires: Option<u64>,
    returns: u32,
    failures: u32,
    redelivered: bool,
    /// Queue and reason, the latest first.
    deaths: Vec<(usize, &'static str, i64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Overflow {
    #[default]
    Drop,
    Reject,
    RejectAndBury,
}

/// Which messages wait for their next delivery, and for how many steps of time.
#[derive(Clone, Copy, Debug)]
struct Retry {
    failed: bool,
    returned: bool,
    min: u64,
    max: u64,
}

/// A queue as RabbitMQ would have it.
#[derive(Debug, Default)]
struct Naive {
    ttl: Option<u64>,
    length: Option<usize>,
    bytes: Option<usize>,
    overflow: Overflow,
    dead: Option<usize>,
    max_priority: Option<u8>,
    limit: Option<u32>,
    retry: Option<Retry>,
    ready: Vec<Entry>,
    /// What waits for its next delivery, with when it is due, by when it came back.
    waiting: Vec<(u64, Entry)>,
    /// By delivery of the one consumer there is.
    held: Vec<(DeliveryId, Entry)>,
}

impl Naive {
    fn sort(&mut self) {
        self.ready
            .sort_by_key(|entry| (u8::MAX - entry.place, entry.order));
    }

    fn is_over(&self, more: usize, bytes: usize) -> bool {
        let sum: usize = self.ready.iter().map(|entry| entry.body.len()).sum();
        self.length.is_some_and(|max| self.ready.len() + more > max)
            || self.bytes.is_some_and(|max| sum + bytes > max)
    }
}

struct World {
    rng: SmallRng,
    store: Arc<MemoryStore>,
    broker: Broker,
    client: Client,
    consumer: Client,
    queues: Vec<Naive>,
    now: u64,
    published: u64,
}

fn name(queue: usize) -> Text {
    format!("q{queue}").into()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

impl World {
    async fn new(seed: u64) -> World {
        let mut rng = SmallRng::seed_from_u64(seed);
        let store = Arc::new(MemoryStore::new());
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        let mut queues: Vec<Naive> = (0..WITH_ARGUMENTS).map(|at| random(&mut rng, at)).collect();
        queues.resize_with(2 * WITH_ARGUMENTS, Naive::default);
        for (at, queue) in queues.iter().enumerate() {
            let spec = QueueSpec {
                arguments: arguments(queue),
                ..durable()
            };
            let name = name(at);
            client
                .define(Change::DeclareQueue { name, spec })
                .await
                .expect("the arguments are sound");
        }
        World {
            consumer: Client::new(&broker),
            rng,
            store,
            broker,
            client,
            queues,
            now: 0,
            published: 0,
        }
    }

    async fn step(&mut self) {
        let queue = self.rng.random_range(0..self.queues.len());
        match self.rng.random_range(0..100) {
            0..45 => self.publish(queue).await,
            45..65 => self.get(queue).await,
            65..85 => self.settle(queue).await,
            85..92 => self.pass_time(),
            92..94 => self.purge(queue).await,
            94..96 => self.vanish().await,
            96..98 => self.crash().await,
            _ => {}
        }
        self.agree().await;
    }

    async fn publish(&mut self, queue: usize) {
        for _ in 0..self.rng.random_range(1..8) {
            self.published += 1;
            // Long enough that queues outgrow their memory.
            let body = format!(
                "{} {}",
                self.published,
                "x".repeat(self.rng.random_range(0..1500))
            );
            let priority = self
                .rng
                .random_bool(0.5)
                .then(|| self.rng.random_range(0..8));
            let lifetime = self
                .rng
                .random_bool(0.2)
                .then(|| self.rng.random_range(1..4));
            let message = Message {
                priority,
                expiry_ms: lifetime.map(|steps| steps * STEP - STEP / 2),
                ..message("", &name(queue), &body)
            };
            let token = self.client.token();
            let publish = Command::Publish {
                token: Some(token),
                message: Arc::new(message),
                mandatory: false,
            };
            self.client.submit(publish).await;
            let refused = self.client.confirmed(token).await;
            let entry = Entry {
                body,
                priority,
                place: 0,
                order: 0,
                expires: lifetime.map(|steps| self.now + steps),
                returns: 0,
                failures: 0,
                redelivered: false,
                deaths: Vec::new(),
            };
            let taken = self.arrive(queue, entry);
            match refused {
                Ok(()) => assert!(taken, "q{queue} takes {}", self.published),
                Err(Refusal::Full { .. }) => assert!(!taken, "q{queue} is full"),
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    /// A message comes to a queue; false if that refuses it.
    fn arrive(&mut self, at: usize, mut entry: Entry) -> bool {
        self.expire(at);
        let queue = &mut self.queues[at];
        if queue.overflow != Overflow::Drop && queue.is_over(1, entry.body.len()) {
            if queue.overflow == Overflow::RejectAndBury {
                self.die(at, entry, "maxlen");
            }
            return false;
        }
        self.published += 1;
        entry.order = self.published;
        entry.place = match (queue.limit, queue.max_priority) {
            // A quorum queue tells 32 priorities apart without being asked to.
            (Some(_), _) => entry.priority.unwrap_or(4),
            (None, Some(max)) => entry.priority.unwrap_or(0).min(max),
            (None, None) => 0,
        };
        let ttl = queue.ttl.map(|ttl| self.now + ttl);
        entry.expires = [entry.expires, ttl].into_iter().flatten().min();
        queue.ready.push(entry);
        queue.sort();
        self.make_room(at);
        true
    }

    fn make_room(&mut self, at: usize) {
        while self.queues[at].overflow == Overflow::Drop && self.queues[at].is_over(0, 0) {
            let oldest = self.queues[at].ready.remove(0);
            self.die(at, oldest, "maxlen");
        }
    }

    fn expire(&mut self, at: usize) {
        while let Some(head) = self.queues[at].ready.first()
            && head.expires.is_some_and(|at| at <= self.now)
        {
            let head = self.queues[at].ready.remove(0);
            self.die(at, head, "expired");
        }
    }

    fn die(&mut self, at: usize, mut entry: Entry, reason: &'static str) {
        let Some(to) = self.queues[at].dead else {
            return;
        };
        let same = |(queue, of, _): &(usize, &'static str, i64)| *queue == at && *of == reason;
        let count = match entry.deaths.iter().position(same) {
            Some(found) => entry.deaths.remove(found).2 + 1,
            None => 1,
        };
        entry.deaths.insert(0, (at, reason, count));
        let last = entry.deaths.iter().position(|(queue, ..)| *queue == to);
        let automatic = last.is_some_and(|last| {
            entry.deaths[..=last]
                .iter()
                .all(|(_, reason, _)| *reason != "rejected")
        });
        if automatic && reason != "rejected" {
            return;
        }
        entry.expires = None;
        (entry.returns, entry.failures) = (0, 0);
        entry.redelivered = false;
        self.arrive(to, entry);
    }

    async fn get(&mut self, queue: usize) {
        self.expire(queue);
        let consumer = ConsumerId(queue as u32);
        let get = |token| Command::Get {
            token,
            consumer,
            queue: name(queue),
            auto_ack: false,
        };
        let got = match self.consumer.ask(get).await {
            Ok(Reply::Got { delivery, .. }) => delivery,
            other => panic!("{other:?}"),
        };
        let naive = &mut self.queues[queue];
        if naive.ready.is_empty() {
            assert!(got.is_none(), "q{queue} is empty");
            return;
        }
        let entry = naive.ready.remove(0);
        let got = got.unwrap_or_else(|| panic!("q{queue} holds {}", entry.body));
        assert_eq!(body(&got.message), entry.body, "from q{queue}");
        assert_eq!(
            got.redelivered, entry.redelivered,
            "redelivered of {}",
            entry.body
        );
        assert_eq!(
            deaths(&got.message),
            entry.deaths,
            "deaths of {}",
            entry.body
        );
        if naive.limit.is_some() {
            let counts = (u32::from(got.returns), u32::from(got.failures));
            assert_eq!(counts, (entry.returns, entry.failures), "of {}", entry.body);
        }
        naive.held.push((got.id, entry));
    }

    async fn settle(&mut self, queue: usize) {
        let held = &mut self.queues[queue].held;
        if held.is_empty() {
            return;
        }
        let (delivery, entry) = held.remove(self.rng.random_range(0..held.len()));
        let outcome = match self.rng.random_range(0..5) {
            0 | 1 => Outcome::Requeue,
            2 => Outcome::Release,
            3 => Outcome::Reject,
            _ => Outcome::Accept,
        };
        let consumer = ConsumerId(queue as u32);
        let deliveries = delivery..=delivery;
        let settle = Command::Settle {
            consumer,
            deliveries,
            outcome,
        };
        self.consumer.submit(settle).await;
        match outcome {
            Outcome::Accept => {}
            Outcome::Reject => self.die(queue, entry, "rejected"),
            Outcome::Requeue => self.requeue(queue, vec![entry], true),
            Outcome::Release => self.requeue(queue, vec![entry], false),
        }
        // From behind the settlement.
        let consumer = ConsumerId(u32::MAX);
        let cancel = |token| Command::Cancel { token, consumer };
        self.consumer.ask(cancel).await.expect("it is answered");
    }

    /// Messages that come back together are all in their places before any of them expires.
    fn requeue(&mut self, at: usize, entries: Vec<Entry>, failed: bool) {
        for mut entry in entries {
            entry.redelivered = true;
            let queue = &mut self.queues[at];
            entry.returns += 1;
            if failed || queue.retry.is_none() {
                entry.failures += 1;
                if queue.limit.is_some_and(|limit| entry.failures > limit) {
                    self.die(at, entry, "delivery_limit");
                    continue;
                }
            }
            let waits = |retry: &Retry| if failed { retry.failed } else { retry.returned };
            if let Some(retry) = queue.retry.filter(waits) {
                let steps = retry.max.min(retry.min * u64::from(entry.failures.max(1)));
                queue.waiting.push((self.now + steps, entry));
                continue;
            }
            queue.ready.push(entry);
            queue.sort();
        }
        self.expire(at);
        self.make_room(at);
    }

    fn pass_time(&mut self) {
        self.now += 1;
        advance(Duration::from_millis(STEP));
        for queue in 0..self.queues.len() {
            let naive = &mut self.queues[queue];
            let (due, wait) = std::mem::take(&mut naive.waiting)
                .into_iter()
                .partition::<Vec<_>, _>(|(due, _)| *due <= self.now);
            naive.waiting = wait;
            naive.ready.extend(due.into_iter().map(|(_, entry)| entry));
            naive.sort();
            self.expire(queue);
            self.make_room(queue);
        }
    }

    async fn purge(&mut self, queue: usize) {
        self.agree().await;
        let name = name(queue);
        self.client
            .define(Change::PurgeQueue { name })
            .await
            .expect("the queue is there");
        self.queues[queue].ready.clear();
        self.queues[queue].waiting.clear();
    }

    /// The connection that holds messages goes.
    async fn vanish(&mut self) {
        self.consumer = Client::new(&self.broker);
        for queue in 0..self.queues.len() {
            let held = std::mem::take(&mut self.queues[queue].held);
            let held = held.into_iter().map(|(_, entry)| entry).collect();
            self.requeue(queue, held, true);
        }
        self.agree().await;
    }

    async fn crash(&mut self) {
        self.vanish().await;
        self.client.queue("barrier").await;
        self.client.publish("", "barrier", "").await;
        let store = Arc::new(self.store.crash(self.rng.next_u64()));
        self.store = store.clone();
        self.broker = open(store).await;
        self.client = Client::new(&self.broker);
        self.consumer = Client::new(&self.broker);
        for queue in &mut self.queues {
            for entry in &mut queue.ready {
                entry.redelivered = true;
            }
        }
    }

    /// Waits until all queues have what they should: dead letters take a moment.
    async fn agree(&mut self) {
        for queue in 0..self.queues.len() {
            self.expire(queue);
        }
        let mut found = Vec::new();
        for _ in 0..5_000 {
            found.clear();
            for queue in 0..self.queues.len() {
                found.push(self.client.queue_spec(queue).await.0 as usize);
            }
            if found
                .iter()
                .zip(&self.queues)
                .all(|(n, queue)| *n == queue.ready.len())
            {
                return;
            }
            tokio::task::yield_now().await;
        }
        let expected: Vec<_> = self.queues.iter().map(|queue| queue.ready.len()).collect();
        panic!("{found:?} ready, not {expected:?}");
    }
}

/// A queue of random arguments.
fn random(rng: &mut SmallRng, at: usize) -> Naive {
    let (limits, is_quorum) = (rng.random_bool(0.6), rng.random_bool(0.3));
    let overflow = match rng.random_range(0..3) {
        0 => Overflow::Drop,
        1 => Overflow::Reject,
        _ => Overflow::RejectAndBury,
    };
    Naive {
        ttl: rng.random_bool(0.4).then(|| rng.random_range(1..4)),
        length: limits.then(|| rng.random_range(1..15)),
        bytes: rng.random_bool(0.3).then(|| rng.random_range(500..9000)),
        overflow,
        // What arrives in which order from two queues is nobody's promise.
        dead: rng.random_bool(0.7).then(|| {
            if rng.random_bool(0.2) {
                at
            } else {
                WITH_ARGUMENTS + at
            }
        }),
        max_priority: (!is_quorum && rng.random_bool(0.4)).then(|| rng.random_range(1..6)),
        limit: is_quorum.then(|| rng.random_range(0..3)),
        retry: (is_quorum && rng.random_bool(0.6)).then(|| {
            let kind = rng.random_range(0..3);
            Retry {
                failed: kind != 0,
                returned: kind != 1,
                min: rng.random_range(1..3),
                max: rng.random_range(1..5),
            }
        }),
        ..Naive::default()
    }
}

fn arguments(queue: &Naive) -> Vec<(Text, Value)> {
    let mut arguments: Vec<(Text, Value)> = Vec::new();
    let mut put = |name: &'static str, value| arguments.push((name.into(), value));
    if let Some(ttl) = queue.ttl {
        put("x-message-ttl", Value::I64((ttl * STEP - STEP / 2) as i64));
    }
    if let Some(length) = queue.length {
        put("x-max-length", Value::I64(length as i64));
    }
    if let Some(bytes) = queue.bytes {
        put("x-max-length-bytes", Value::I64(bytes as i64));
    }
    put(
        "x-overflow",
        text(match queue.overflow {
            Overflow::Drop => "drop-head",
            Overflow::Reject => "reject-publish",
            Overflow::RejectAndBury => "reject-publish-dlx",
        }),
    );
    if let Some(dead) = queue.dead {
        put("x-dead-letter-exchange", text(""));
        put("x-dead-letter-routing-key", text(&name(dead)));
    }
    if let Some(limit) = queue.limit {
        put("x-queue-type", text("quorum"));
        put("x-delivery-limit", Value::I64(limit.into()));
    }
    if let Some(retry) = queue.retry {
        let steps = |steps: u64| Value::I64((steps * STEP - STEP / 8) as i64);
        put(
            "x-delayed-retry-type",
            text(match (retry.failed, retry.returned) {
                (true, true) => "all",
                (true, false) => "failed",
                (false, _) => "returned",
            }),
        );
        put("x-delayed-retry-min", steps(retry.min));
        put("x-delayed-retry-max", steps(retry.max));
    }
    if let Some(max) = queue.max_priority {
        put("x-max-priority", Value::U8(max));
    }
    arguments
}

/// The deaths of a message, the latest first.
fn deaths(message: &Message) -> Vec<(usize, &'static str, i64)> {
    let Some(deaths) = &message.origin.deaths else {
        return Vec::new();
    };
    let number = |queue: &str| queue[1..].parse().expect("a queue of the model");
    deaths
        .records
        .iter()
        .map(|death| {
            (
                number(&death.queue),
                death.reason.name(),
                death.count as i64,
            )
        })
        .collect()
}

#[test]
fn queues_with_arguments_agree_with_the_model() {
    let seeds = if cfg!(debug_assertions) {
        0..60
    } else {
        0..2000
    };
    support::for_each_seed(seeds, |seed| async move {
        let mut world = World::new(seed).await;
        for _ in 0..80 {
            world.step().await;
        }
    });
}
