//! Seeded random operations on queues against a naive model, with vanishing connections and crashes.
//!
//! `TRIVIUM_SEEDS=from..to` runs other seeds than the default ones.

mod support;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use support::{Client, durable, message, open};
use trivium_core::{
    Broker, Change, Command, ConsumeSpec, ConsumerId, DeliveryId, Message, Outcome, Persistence,
    QueueSpec, store::memory::MemoryStore,
};

const QUEUES: usize = 4;

/// What a queue should hold.
#[derive(Default)]
struct Naive {
    next: u64,
    /// Body, whether it survives a crash, whether it was delivered before.
    ready: BTreeMap<u64, Entry>,
    unsettled: BTreeMap<u64, (u64, Entry)>,
    consumer: Option<Consumer>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    body: String,
    persistent: bool,
    redelivered: bool,
}

struct Consumer {
    client: Client,
    prefetch: u32,
    next: u64,
}

impl Naive {
    fn publish(&mut self, body: &str, persistent: bool) {
        let entry = Entry {
            body: body.to_owned(),
            persistent,
            redelivered: false,
        };
        self.ready.insert(self.next, entry);
        self.next += 1;
    }

    /// Deliveries that must come now.
    fn due(&mut self) -> VecDeque<(u64, Entry)> {
        let mut due = VecDeque::new();
        let Some(consumer) = &mut self.consumer else {
            return due;
        };
        while self.unsettled.len() < consumer.prefetch as usize
            && let Some((sequence, entry)) = self.ready.pop_first()
        {
            due.push_back((consumer.next, entry.clone()));
            self.unsettled.insert(consumer.next, (sequence, entry));
            consumer.next += 1;
        }
        due
    }

    fn requeue(&mut self, delivery: u64) {
        if let Some((sequence, entry)) = self.unsettled.remove(&delivery) {
            self.ready.insert(
                sequence,
                Entry {
                    redelivered: true,
                    ..entry
                },
            );
        }
    }

    fn vanish(&mut self) {
        for delivery in self.unsettled.keys().copied().collect::<Vec<_>>() {
            self.requeue(delivery);
        }
        self.consumer = None;
    }

    /// What a crash leaves: everything unsettled that is persistent, all possibly delivered before.
    fn crash(&mut self) {
        self.vanish();
        self.ready.retain(|_, entry| entry.persistent);
        for entry in self.ready.values_mut() {
            entry.redelivered = true;
        }
    }
}

struct World {
    rng: SmallRng,
    store: Arc<MemoryStore>,
    broker: Broker,
    publisher: Client,
    queues: Vec<Naive>,
    published: u64,
}

impl World {
    async fn new(seed: u64) -> World {
        let store = Arc::new(MemoryStore::new());
        let broker = open(store.clone()).await;
        let mut publisher = Client::new(&broker);
        for queue in 0..QUEUES {
            // The last queue does not survive a restart; its messages are never stored.
            let spec = QueueSpec {
                durable: queue + 1 < QUEUES,
                ..durable()
            };
            let name = format!("q{queue}").as_str().into();
            publisher
                .define(Change::DeclareQueue { name, spec })
                .await
                .expect("the name is free");
            publisher.bind("amq.fanout", "", &format!("q{queue}")).await;
        }
        let queues = (0..QUEUES).map(|_| Naive::default()).collect();
        World {
            rng: SmallRng::seed_from_u64(seed),
            store,
            broker,
            publisher,
            queues,
            published: 0,
        }
    }

    async fn step(&mut self) {
        let queue = self.rng.random_range(0..QUEUES);
        match self.rng.random_range(0..100) {
            0..45 => self.publish(queue).await,
            45..55 => self.consume(queue).await,
            55..85 => self.settle(queue).await,
            85..89 => self.vanish(queue).await,
            89..92 => self.purge(queue).await,
            92..97 => self.count(queue).await,
            97..98 => self.crash().await,
            _ => self.get(queue).await,
        }
        self.deliver(queue).await;
    }

    async fn publish(&mut self, queue: usize) {
        let to_all = self.rng.random_bool(0.3);
        let (exchange, key) = if to_all {
            ("amq.fanout", String::new())
        } else {
            ("", format!("q{queue}"))
        };
        for _ in 0..self.rng.random_range(1..20) {
            self.published += 1;
            let persistent = self.rng.random_bool(0.8);
            // Long enough that some are shared between queues and some queues outgrow their memory.
            let filler = self.rng.random_range(0..3000);
            let body = format!("{} {}", self.published, "x".repeat(filler));
            let persistence = if persistent {
                Persistence::Persistent
            } else {
                Persistence::Transient
            };
            let message = Arc::new(Message {
                persistence,
                ..message(exchange, &key, &body)
            });
            let token = self.publisher.token();
            self.publisher
                .submit(Command::Publish {
                    token: Some(token),
                    message,
                    mandatory: false,
                })
                .await;
            if self.rng.random_bool(0.5) {
                self.publisher
                    .confirmed(token)
                    .await
                    .expect("nothing refuses it");
            }
            for (at, naive) in self.queues.iter_mut().enumerate() {
                if to_all || at == queue {
                    naive.publish(&body, persistent && at + 1 < QUEUES);
                }
            }
        }
        if to_all {
            for other in 0..QUEUES {
                self.deliver(other).await;
            }
        }
    }

    async fn consume(&mut self, queue: usize) {
        if self.queues[queue].consumer.is_some() {
            return;
        }
        let mut client = Client::new(&self.broker);
        let prefetch = self.rng.random_range(1..40);
        let spec = ConsumeSpec {
            prefetch: Some(prefetch),
            ..ConsumeSpec::default()
        };
        client.consume(1, &format!("q{queue}"), spec).await;
        self.queues[queue].consumer = Some(Consumer {
            client,
            prefetch,
            next: 1,
        });
    }

    async fn settle(&mut self, queue: usize) {
        let naive = &mut self.queues[queue];
        let Some(consumer) = &mut naive.consumer else {
            return;
        };
        let open: Vec<u64> = naive.unsettled.keys().copied().collect();
        if open.is_empty() {
            return;
        }
        let first = open[self.rng.random_range(0..open.len())];
        let last = first + self.rng.random_range(0..10);
        let outcome = match self.rng.random_range(0..4) {
            0 if self.rng.random_bool(0.5) => Outcome::Release,
            0 => Outcome::Requeue,
            1 => Outcome::Reject,
            _ => Outcome::Accept,
        };
        let deliveries = DeliveryId(first)..=DeliveryId(last);
        consumer
            .client
            .submit(Command::Settle {
                consumer: ConsumerId(1),
                deliveries,
                outcome,
            })
            .await;
        for delivery in first..=last {
            match outcome {
                Outcome::Requeue | Outcome::Release => naive.requeue(delivery),
                Outcome::Accept | Outcome::Reject => drop(naive.unsettled.remove(&delivery)),
            }
        }
    }

    async fn vanish(&mut self, queue: usize) {
        self.queues[queue].vanish();
        // The disconnection is carried out behind the back of the connection; until then the queue
        // shows its consumer.
        while self.publisher.queue_spec(queue).await.1 > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn purge(&mut self, queue: usize) {
        let name = format!("q{queue}").as_str().into();
        self.publisher
            .define(Change::PurgeQueue { name })
            .await
            .expect("the queue is there");
        self.queues[queue].ready.clear();
    }

    async fn count(&mut self, queue: usize) {
        let (ready, consumers) = self.publisher.queue_spec(queue).await;
        let naive = &self.queues[queue];
        assert_eq!(
            ready,
            naive.ready.len() as u64,
            "ready messages of q{queue}"
        );
        assert_eq!(consumers, u32::from(naive.consumer.is_some()));
    }

    async fn get(&mut self, queue: usize) {
        let got = self.publisher.get(&format!("q{queue}")).await;
        let expected = self.queues[queue]
            .ready
            .pop_first()
            .map(|(_, entry)| entry.body);
        assert_eq!(got, expected, "get from q{queue}");
    }

    async fn crash(&mut self) {
        // Confirmed behind everything before, so that nothing of it may be lost or come back.
        for queue in 0..QUEUES - 1 {
            let body = format!("barrier {}", self.published);
            self.publisher
                .publish("", &format!("q{queue}"), &body)
                .await;
            self.queues[queue].publish(&body, true);
        }
        for queue in 0..QUEUES {
            self.deliver(queue).await;
        }
        let barrier = self.rng.next_u64();
        self.publisher.publish("amq.direct", "nobody", "").await;
        let store = Arc::new(self.store.crash(barrier));
        self.store = store.clone();
        self.broker = open(store).await;
        self.publisher = Client::new(&self.broker);
        for (at, naive) in self.queues.iter_mut().enumerate() {
            naive.crash();
            if at + 1 == QUEUES {
                naive.ready.clear();
            }
        }
        let name = format!("q{}", QUEUES - 1);
        let spec = QueueSpec {
            durable: false,
            ..durable()
        };
        let change = Change::DeclareQueue {
            name: name.as_str().into(),
            spec,
        };
        self.publisher
            .define(change)
            .await
            .expect("the name is free again");
        self.publisher.bind("amq.fanout", "", &name).await;
        for queue in 0..QUEUES {
            self.count(queue).await;
        }
    }

    async fn deliver(&mut self, queue: usize) {
        let due = self.queues[queue].due();
        let Some(consumer) = &mut self.queues[queue].consumer else {
            return;
        };
        for (id, entry) in due {
            let delivery = consumer.client.delivery().await;
            assert_eq!(
                support::body(&delivery.message),
                entry.body,
                "delivery {id} of q{queue}"
            );
            assert_eq!(delivery.id, DeliveryId(id));
            assert_eq!(
                delivery.redelivered, entry.redelivered,
                "redelivered of {id} of q{queue}"
            );
        }
        consumer.client.flushed().await;
    }
}

#[test]
fn queues_agree_with_the_model() {
    support::for_each_seed(0..60, |seed| async move {
        let mut world = World::new(seed).await;
        for _ in 0..150 {
            world.step().await;
        }
    });
}
