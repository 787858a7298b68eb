//! Sessions against a naive receiver: random publishes, receipts, lost connections, restarts and crashes. QoS 1 is
//! never lost, QoS 2 never doubled, the order holds, and a message keeps its packet identifier.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use support::{Client, body, durable, for_each_seed, message, open};
use trivium_core::{
    Binding, BindingTag, Broker, Change, Command, ConsumerId, Delivery, Destination, Grammar,
    Message, Outcome, Persistence, QueueSpec, Reply, Subscription, Topic,
    store::memory::MemoryStore,
};

const CONSUMER: ConsumerId = ConsumerId(1);
const PREFETCH: u32 = 6;

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
    /// What is finished as far as the receiver knows.
    finished: BTreeSet<String>,
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

    fn finish(&mut self, text: &str) {
        self.ids.remove(text);
        self.finished.insert(text.to_owned());
    }

    /// PUBREL.
    fn release(&mut self, id: u16) {
        if let Some(text) = self.held.remove(&id) {
            self.finish(&text);
        }
    }
}

fn is_sure(message: &Message) -> bool {
    message.persistence == Persistence::ExactlyOnce
}

async fn attach(broker: &Broker, receiver: &mut Receiver) -> Client {
    let mut client = Client::named(broker, "c");
    let spec = QueueSpec {
        session: true,
        ..durable()
    };
    let change = Change::DeclareSession {
        client: "c".into(),
        clean: false,
        spec,
    };
    client.define(change).await.expect("it may be declared");
    let reply = client
        .ask(|token| Command::Attach {
            token,
            consumer: CONSUMER,
            client: "c".into(),
            prefetch: PREFETCH,
            will: None,
        })
        .await;
    let Ok(Reply::Session { releasing, .. }) = reply else {
        panic!("{reply:?}")
    };
    for id in &releasing {
        receiver.release(*id);
    }
    client
        .submit(Command::Completed {
            packet_ids: releasing,
        })
        .await;
    client
}

async fn acknowledge(client: &mut Client, receiver: &mut Receiver, delivery: &Delivery, all: bool) {
    let deliveries = delivery.id..=delivery.id;
    if !is_sure(&delivery.message) {
        client
            .submit(Command::Settle {
                consumer: CONSUMER,
                deliveries,
                outcome: Outcome::Accept,
            })
            .await;
        return receiver.finish(&body(&delivery.message));
    }
    let token = client.token();
    client
        .submit(Command::Received {
            token,
            consumer: CONSUMER,
            deliveries,
        })
        .await;
    client.confirmed(token).await.expect("it is stored");
    if all {
        receiver.release(delivery.packet_id);
        let packet_ids = vec![delivery.packet_id];
        client.submit(Command::Completed { packet_ids }).await;
    }
}

async fn story(seed: u64) {
    let mut dice = Dice(seed);
    let mut store = Arc::new(MemoryStore::new());
    let mut broker = open(store.clone()).await;
    let mut receiver = Receiver::default();
    let mut client = attach(&broker, &mut receiver).await;
    let binding = Binding {
        source: "amq.topic".into(),
        destination: Destination::Session("c".into()),
        key: "t".into(),
        grammar: Grammar::Slashes,
        arguments: Vec::new(),
        subscription: Some(Subscription {
            tag: BindingTag(2),
            best_effort: false,
            no_local: false,
        }),
    };
    client
        .define(Change::Bind(binding))
        .await
        .expect("it binds");
    let (mut published, mut unsettled, mut stuck) = (0u64, 0, 0);
    for _ in 0..60 {
        match dice.below(10) {
            0..=3 => {
                let sure = dice.below(2) == 0;
                let text = format!("{}{published}", if sure { 's' } else { 'q' });
                let message = Message {
                    topic: Topic::new("t".into(), Grammar::Slashes),
                    persistence: match sure {
                        true => Persistence::ExactlyOnce,
                        false => Persistence::Persistent,
                    },
                    ..message("amq.topic", "", &text)
                };
                let mut publisher = Client::new(&broker);
                let token = publisher.token();
                publisher
                    .submit(Command::Publish {
                        token: Some(token),
                        message: Arc::new(message),
                        mandatory: false,
                    })
                    .await;
                publisher.confirmed(token).await.expect("it is taken");
                published += 1;
            }
            4..=7 => {
                let here = (receiver.finished.len() + stuck) as u64 + unsettled;
                if here < published && unsettled + (stuck as u64) < u64::from(PREFETCH) {
                    let delivery = client.delivery().await;
                    receiver.receive(&delivery);
                    match dice.below(4) {
                        0 => unsettled += 1,
                        1 if is_sure(&delivery.message) => {
                            acknowledge(&mut client, &mut receiver, &delivery, false).await;
                            stuck += 1;
                        }
                        _ => acknowledge(&mut client, &mut receiver, &delivery, true).await,
                    }
                }
            }
            event => {
                if event == 8 {
                    drop(client);
                } else {
                    // Settlements wait for no one, so the store may forget the latest.
                    store = Arc::new(store.crash(dice.below(1 << 20)));
                    broker = open(store.clone()).await;
                    receiver.finished.retain(|text| text.starts_with('s'));
                    return drain(&broker, receiver, published).await;
                }
                client = attach(&broker, &mut receiver).await;
                (unsettled, stuck) = (0, 0);
            }
        }
    }
    drop(client);
    drain(&broker, receiver, published).await;
}

/// Takes the rest, and looks at everything that was received.
async fn drain(broker: &Broker, mut receiver: Receiver, published: u64) {
    let mut client = attach(broker, &mut receiver).await;
    while (receiver.seen.len() as u64) < published {
        let delivery = client.delivery().await;
        receiver.receive(&delivery);
        acknowledge(&mut client, &mut receiver, &delivery, true).await;
    }
    let twice = |(text, count): (&String, &u32)| text.starts_with('s') && *count > 1;
    assert!(!receiver.seen.iter().any(twice), "{:?}", receiver.seen);
    assert!(receiver.order.is_sorted(), "{:?}", receiver.order);
}

#[test]
fn mqtt_4_3_and_4_4_sessions_lose_nothing_and_double_nothing() {
    for_each_seed(0..300, story);
}
