//! Sessions against naive clients: random publishes both ways, receipts, lost connections, time that passes, and
//! crashes, over and over. QoS 1 is never lost, QoS 2 never doubled in either direction, the order holds, a message
//! keeps its packet identifier, and a session lasts as long as its expiry says.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use support::{Client, advance, body, durable, for_each_seed, message, open};
use trivium_core::{
    Binding, BindingTag, Broker, Change, Command, ConsumerId, Delivery, Destination, Grammar,
    Message, Outcome, Persistence, QueueSpec, Reply, Subscription, Topic,
    store::memory::MemoryStore,
};

const CONSUMER: ConsumerId = ConsumerId(1);
const PREFETCH: u32 = 6;
/// How long the session outlives its connection.
const EXPIRY: Duration = Duration::from_secs(60);

/// As deterministic as the seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// What an MQTT client remembers over connections.
#[derive(Default)]
struct Receiver {
    /// QoS 2: received and not released, by packet identifier.
    held: BTreeMap<u16, String>,
    /// How often each message was passed on to the application.
    seen: BTreeMap<String, u32>,
    /// In the order of their first receipt.
    order: Vec<u64>,
    /// The identifier of each message that was received and is not finished.
    ids: BTreeMap<String, u16>,
}

impl Receiver {
    fn receive(&mut self, delivery: &Delivery) {
        let text = body(&delivery.message);
        let id = delivery.packet_id;
        assert_ne!(id, 0);
        if let Some(before) = self.ids.insert(text.clone(), id) {
            assert_eq!(before, id, "{text} has another identifier");
            assert!(delivery.redelivered, "{text} comes again without DUP");
        }
        if is_sure(&delivery.message) {
            if let Some(held) = self.held.get(&id) {
                assert_eq!(*held, text, "the identifier is in use");
                return;
            }
            self.held.insert(id, text.clone());
        }
        let number = text[1..].parse().expect("a number");
        let count = self.seen.entry(text).or_default();
        *count += 1;
        if *count == 1 {
            self.order.push(number);
        }
    }

    /// PUBREL.
    fn release(&mut self, id: u16) {
        if let Some(text) = self.held.remove(&id) {
            self.ids.remove(&text);
        }
    }
}

fn is_sure(message: &Message) -> bool {
    message.persistence == Persistence::ExactlyOnce
}

/// The client's own publishes at QoS 2.
#[derive(Default)]
struct Sender {
    /// Not known to be released, by packet identifier.
    under_way: BTreeMap<u16, Outgoing>,
    published: u64,
    /// What must arrive: PUBREC has come.
    sure: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Outgoing {
    text: String,
    /// PUBREC has come.
    received: bool,
    /// PUBREL has been sent.
    releasing: bool,
}

impl Sender {
    /// PUBREC.
    fn has_come(&mut self, packet_id: u16) {
        let outgoing = self.under_way.get_mut(&packet_id).expect("a message");
        outgoing.received = true;
        self.sure.insert(outgoing.text.clone());
    }
}

/// What both sides hold of one client, and the broker.
struct World {
    dice: Dice,
    store: Arc<MemoryStore>,
    broker: Broker,
    client: Client,
    receiver: Receiver,
    sender: Sender,
    /// Published to the session's subscription so far.
    published: u64,
    /// Those before this were for an earlier session.
    first: u64,
    /// In the session and not acknowledged.
    remaining: u64,
    /// Of those, delivered over this connection.
    unsettled: u64,
    /// Received at QoS 2 and not released.
    stuck: u64,
    /// QoS 1 acknowledged since the last crash: the store may forget the latest.
    settled: u64,
}

impl World {
    async fn new(seed: u64) -> World {
        let store = Arc::new(MemoryStore::new());
        let broker = open(store.clone()).await;
        let mut client = Client::named(&broker, "c");
        client.queue("sink").await;
        client
            .define(Change::Bind(binding(
                "in",
                Destination::Queue("sink".into()),
            )))
            .await
            .expect("it binds");
        let mut world = World {
            dice: Dice(seed),
            store,
            broker,
            client,
            receiver: Receiver::default(),
            sender: Sender::default(),
            published: 0,
            first: 0,
            remaining: 0,
            unsettled: 0,
            stuck: 0,
            settled: 0,
        };
        assert!(world.attach().await, "the session is new");
        world
    }

    /// Connects, and goes on with all handshakes. True if the session is new.
    async fn attach(&mut self) -> bool {
        self.client = Client::named(&self.broker, "c");
        let spec = QueueSpec {
            session: true,
            expires: Some(EXPIRY),
            ..durable()
        };
        let change = Change::DeclareSession {
            client: "c".into(),
            clean: false,
            spec,
        };
        let declared = self.client.define(change).await;
        let Ok(Reply::Queue { created, .. }) = declared else {
            panic!("{declared:?}")
        };
        let reply = self
            .client
            .ask(|token| Command::Attach {
                token,
                consumer: CONSUMER,
                client: "c".into(),
                prefetch: PREFETCH,
                will: None,
            })
            .await;
        let Ok(Reply::Session {
            received,
            releasing,
        }) = reply
        else {
            panic!("{reply:?}")
        };
        (self.unsettled, self.stuck) = (0, 0);
        if created {
            self.begin().await;
        }
        for id in &releasing {
            self.receiver.release(*id);
        }
        self.client
            .submit(Command::Completed {
                packet_ids: releasing,
            })
            .await;
        self.resume_sending(&received).await;
        created
    }

    /// A session that nobody has used before.
    async fn begin(&mut self) {
        self.receiver = Receiver::default();
        self.sender.under_way.clear();
        (self.first, self.remaining, self.settled) = (self.published, 0, 0);
        let bound = binding("t", Destination::Session("c".into()));
        self.client
            .define(Change::Bind(bound))
            .await
            .expect("it binds");
    }

    /// The session knows what it has received; the rest is sent again (MQTT 5, 4.4).
    async fn resume_sending(&mut self, received: &[u16]) {
        for id in received {
            assert!(self.sender.under_way.contains_key(id), "{id} is not in use");
        }
        for (id, outgoing) in self.sender.under_way.clone() {
            let known = received.contains(&id);
            assert!(
                known || !outgoing.received || outgoing.releasing,
                "{id} is forgotten: {outgoing:?}"
            );
            if outgoing.releasing {
                self.release(id, true).await;
            } else if !known {
                self.send(id, true).await;
            } else {
                self.sender.has_come(id);
            }
        }
    }

    /// Publishes at QoS 2, and waits for PUBREC or not.
    async fn send(&mut self, packet_id: u16, wait: bool) {
        let outgoing = &self.sender.under_way[&packet_id];
        let token = self.client.token();
        let message = Arc::new(Message {
            topic: Topic::new("in".into(), Grammar::Slashes),
            persistence: Persistence::ExactlyOnce,
            ..message("amq.topic", "", &outgoing.text)
        });
        self.client
            .submit(Command::PublishOnce {
                token,
                message,
                packet_id,
            })
            .await;
        if wait {
            self.client.confirmed(token).await.expect("it is stored");
            self.sender.has_come(packet_id);
        }
    }

    /// PUBREL, and waits for PUBCOMP or not.
    async fn release(&mut self, packet_id: u16, wait: bool) {
        if let Some(outgoing) = self.sender.under_way.get_mut(&packet_id) {
            outgoing.releasing = true;
        }
        let token = self.client.token();
        self.client
            .submit(Command::Release { token, packet_id })
            .await;
        if wait {
            self.client.confirmed(token).await.expect("it is stored");
            self.sender.under_way.remove(&packet_id);
        }
    }

    /// The client begins or goes on with a publish of its own.
    async fn step_of_sender(&mut self, wait: bool) {
        let id = 1 + self.dice.below(4) as u16;
        match self.sender.under_way.get(&id).cloned() {
            None => {
                let outgoing = Outgoing {
                    text: format!("in{}", self.sender.published),
                    received: false,
                    releasing: false,
                };
                self.sender.published += 1;
                self.sender.under_way.insert(id, outgoing);
                self.send(id, wait).await;
            }
            Some(outgoing) if outgoing.received && !outgoing.releasing => {
                self.release(id, wait).await;
            }
            Some(_) => {}
        }
    }

    async fn publish(&mut self) {
        let sure = self.dice.below(2) == 0;
        let text = format!("{}{}", if sure { 's' } else { 'q' }, self.published);
        let message = Message {
            topic: Topic::new("t".into(), Grammar::Slashes),
            persistence: match sure {
                true => Persistence::ExactlyOnce,
                false => Persistence::Persistent,
            },
            ..message("amq.topic", "", &text)
        };
        let mut publisher = Client::new(&self.broker);
        let token = publisher.token();
        publisher
            .submit(Command::Publish {
                token: Some(token),
                message: Arc::new(message),
                mandatory: false,
            })
            .await;
        publisher.confirmed(token).await.expect("it is taken");
        self.published += 1;
        self.remaining += 1;
    }

    async fn receive(&mut self) {
        let room = self.unsettled + self.stuck < u64::from(PREFETCH);
        if self.remaining == self.unsettled || !room {
            return;
        }
        let delivery = self.client.delivery().await;
        self.receiver.receive(&delivery);
        match self.dice.below(4) {
            0 => self.unsettled += 1,
            1 if is_sure(&delivery.message) => self.acknowledge(&delivery, false).await,
            _ => self.acknowledge(&delivery, true).await,
        }
    }

    async fn acknowledge(&mut self, delivery: &Delivery, all: bool) {
        let deliveries = delivery.id..=delivery.id;
        self.remaining -= 1;
        if !is_sure(&delivery.message) {
            self.client
                .submit(Command::Settle {
                    consumer: CONSUMER,
                    deliveries,
                    outcome: Outcome::Accept,
                })
                .await;
            self.settled += 1;
            self.receiver.ids.remove(&body(&delivery.message));
            return;
        }
        let token = self.client.token();
        self.client
            .submit(Command::Received {
                token,
                consumer: CONSUMER,
                deliveries,
            })
            .await;
        self.client.confirmed(token).await.expect("it is stored");
        if all {
            self.receiver.release(delivery.packet_id);
            let packet_ids = vec![delivery.packet_id];
            self.client.submit(Command::Completed { packet_ids }).await;
        } else {
            self.stuck += 1;
        }
    }

    /// The power fails, while a publish may be under way between shards.
    async fn crash(&mut self) {
        self.store.hold();
        self.step_of_sender(false).await;
        for _ in 0..self.dice.below(8) {
            tokio::task::yield_now().await;
        }
        self.store = Arc::new(self.store.crash(self.dice.below(1 << 20)));
        self.broker = open(self.store.clone()).await;
        let there = self.session().await.expect("the session is durable");
        let known = self.remaining..=self.remaining + self.settled;
        assert!(known.contains(&there), "{there} messages, not {known:?}");
        (self.remaining, self.settled) = (there, 0);
        assert!(!self.attach().await, "the session was there");
    }

    /// The client leaves for shorter or longer than its session lasts.
    async fn leave(&mut self) {
        let publish_will = false;
        self.client.submit(Command::Detach { publish_will }).await;
        self.client.touch_shards().await;
        let long = self.dice.below(3) == 0;
        advance(if long { EXPIRY } else { EXPIRY / 2 });
        self.client.touch_shards().await;
        if long {
            while self.session().await.is_some() {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(self.attach().await, long, "the session is new");
    }

    /// How many messages wait in the session, if it is there.
    async fn session(&mut self) -> Option<u64> {
        let change = Change::ExpectQueue {
            name: "c".into(),
            session: true,
        };
        match Client::new(&self.broker).define(change).await {
            Ok(Reply::Queue { messages, .. }) => Some(messages),
            _ => None,
        }
    }

    /// Takes the rest, and looks at everything that was received on either side.
    async fn end(mut self) {
        assert!(!self.attach().await, "the session was there");
        while self.remaining > 0 {
            let delivery = self.client.delivery().await;
            self.receiver.receive(&delivery);
            self.acknowledge(&delivery, true).await;
        }
        let Receiver { seen, order, .. } = &self.receiver;
        assert_eq!(seen.len() as u64, self.published - self.first, "{seen:?}");
        let twice = |(text, count): (&String, &u32)| text.starts_with('s') && *count > 1;
        assert!(!seen.iter().any(twice), "{seen:?}");
        assert!(order.is_sorted(), "{order:?}");
        let mut sink = Client::new(&self.broker);
        let (count, _) = sink.queue_counts("sink").await;
        let (spec, consumer) = (Default::default(), 2);
        sink.consume(consumer, "sink", spec).await;
        let arrived = sink.bodies(count as usize).await;
        let once: BTreeSet<_> = arrived.iter().collect();
        assert_eq!(once.len(), arrived.len(), "{arrived:?}");
        assert!(once.len() as u64 <= self.sender.published);
        for outgoing in self.sender.under_way.values() {
            assert!(once.contains(&outgoing.text), "{outgoing:?}");
        }
        for number in self.sender.sure.iter() {
            assert!(once.contains(number), "{number} is lost");
        }
    }
}

fn binding(key: &str, destination: Destination) -> Binding {
    let is_session = matches!(destination, Destination::Session(_));
    Binding {
        source: "amq.topic".into(),
        destination,
        key: key.into(),
        grammar: Grammar::Slashes,
        arguments: Vec::new(),
        subscription: is_session.then_some(Subscription {
            tag: BindingTag(2),
            best_effort: false,
            no_local: false,
        }),
    }
}

async fn story(seed: u64) {
    let mut world = World::new(seed).await;
    for _ in 0..60 {
        match world.dice.below(20) {
            0..=5 => world.publish().await,
            6..=12 => world.receive().await,
            13..=16 => {
                let wait = world.dice.below(4) > 0;
                world.step_of_sender(wait).await;
            }
            17 => {
                world.attach().await;
            }
            18 => world.leave().await,
            _ => world.crash().await,
        }
    }
    world.end().await;
}

#[test]
fn mqtt_4_3_and_4_4_sessions_lose_nothing_and_double_nothing() {
    for_each_seed(0..200, story);
}
