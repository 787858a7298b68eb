//! A client that subscribes while a topic changes never sees an older retained message after a newer one.

mod support;

use std::{sync::Arc, time::Duration};

use support::{Client, body, durable, message, options};
use trivium_core::{
    Binding, BindingTag, Broker, Change, Command, ConsumerId, Delivery, DeliveryId, Destination,
    Event, Grammar, Message, Options, Outcome, Pattern, Reply, Retained, Subscription, Token,
    Topic, store::memory::MemoryStore,
};

const TOPIC: &str = "site/door";
const LIVE: u64 = 1;
const REPLAYED: u64 = 2;

fn state(text: &str) -> Message {
    Message {
        topic: Topic::new(TOPIC.into(), Grammar::Slashes),
        retain: true,
        ..message("amq.topic", "", text)
    }
}

async fn open(shards: usize) -> Broker {
    let options = Options {
        shards,
        ..options()
    };
    let store = Arc::new(MemoryStore::new());
    Broker::open(store, options)
        .await
        .expect("nothing is there")
}

/// A client with a session and a subscription for what is live.
async fn subscriber(broker: &Broker, client: &str) -> Client {
    let mut subscriber = Client::named(broker, client);
    let name = client.into();
    let mut spec = durable();
    spec.session = true;
    let declared = subscriber.define(Change::DeclareQueue { name, spec }).await;
    declared.expect("there is room");
    let attached = subscriber
        .ask(|token| Command::Attach {
            token,
            consumer: ConsumerId(1),
            client: client.into(),
            prefetch: 1000,
            will: None,
        })
        .await;
    attached.expect("the session is there");
    let binding = Binding {
        source: "amq.topic".into(),
        destination: Destination::Session(client.into()),
        key: "site/#".into(),
        grammar: Grammar::Slashes,
        arguments: Vec::new(),
        subscription: Some(Subscription {
            tag: BindingTag(LIVE),
            best_effort: false,
            no_local: false,
        }),
    };
    let bound = subscriber.define(Change::Bind(binding)).await;
    bound.expect("both ends are there");
    subscriber
}

async fn publish(publisher: &mut Client, text: &str) {
    let reply = publisher.token();
    publisher
        .submit(Command::Publish {
            token: Some(reply),
            message: Arc::new(state(text)),
            mandatory: false,
        })
        .await;
    publisher.confirmed(reply).await.expect("it is stored");
}

async fn look_up(subscriber: &mut Client) -> Vec<Retained> {
    let filter = Pattern::new("site/+".into(), Grammar::Slashes);
    let found = subscriber
        .ask(|token| Command::Retained { token, filter })
        .await;
    match found {
        Ok(Reply::Retained(found)) => found,
        other => panic!("{other:?}"),
    }
}

/// Has what was found replayed through the session, or told to be sent past it.
async fn replay(subscriber: &mut Client, found: Vec<Retained>, through: bool) -> Token {
    let token = subscriber.token();
    let (through, direct) = if through {
        (found, Vec::new())
    } else {
        (Vec::new(), found)
    };
    let replay = Command::Replay {
        token,
        messages: through.into_iter().map(|it| it.message).collect(),
        tag: BindingTag(REPLAYED),
        direct,
    };
    subscriber.submit(replay).await;
    token
}

async fn told(subscriber: &mut Client, token: Token) -> Vec<String> {
    let found = subscriber.expect(|event| match event {
        Event::Done {
            token: done,
            result: Ok(Reply::Replayed(found)),
        } if *done == token => Some(std::mem::take(found)),
        _ => None,
    });
    found.await.iter().map(|it| body(&it.message)).collect()
}

fn is_replayed(delivery: &Delivery) -> bool {
    delivery.tags.iter().any(|tag| tag.0 == REPLAYED)
}

#[tokio::test]
async fn what_was_overtaken_is_not_replayed() {
    for shards in [1, 3] {
        // Sessions of several names, in several shards.
        for client in ["a", "b", "c", "d"] {
            let broker = open(shards).await;
            let mut publisher = Client::new(&broker);
            publish(&mut publisher, "old").await;
            let mut subscriber = subscriber(&broker, client).await;
            let found = look_up(&mut subscriber).await;
            publish(&mut publisher, "new").await;
            replay(&mut subscriber, found.clone(), true).await;
            assert_eq!(subscriber.bodies(1).await, ["new"]);
            // The lookup is over: another one starts afresh.
            let found = look_up(&mut subscriber).await;
            let token = replay(&mut subscriber, found.clone(), false).await;
            assert_eq!(told(&mut subscriber, token).await, ["new"]);
            let found = look_up(&mut subscriber).await;
            publish(&mut publisher, "newest").await;
            let token = replay(&mut subscriber, found, false).await;
            assert_eq!(told(&mut subscriber, token).await, [""; 0]);
            assert_eq!(subscriber.bodies(1).await, ["newest"]);
        }
    }
}

#[tokio::test]
async fn a_topic_that_was_cleared_is_not_replayed() {
    let broker = open(3).await;
    let mut publisher = Client::new(&broker);
    publish(&mut publisher, "old").await;
    let mut subscriber = subscriber(&broker, "c").await;
    let found = look_up(&mut subscriber).await;
    publish(&mut publisher, "").await;
    replay(&mut subscriber, found, true).await;
    publish(&mut publisher, "next").await;
    assert_eq!(subscriber.bodies(2).await, ["", "next"]);
}

/// Overlapping filters each have the same retained message sent (MQTT 3.1.1, 3.8.4).
#[tokio::test]
async fn lookups_do_not_overtake_each_other() {
    let broker = open(3).await;
    let mut publisher = Client::new(&broker);
    publish(&mut publisher, "state").await;
    let mut subscriber = subscriber(&broker, "c").await;
    let first = look_up(&mut subscriber).await;
    let second = look_up(&mut subscriber).await;
    replay(&mut subscriber, first, true).await;
    replay(&mut subscriber, second, true).await;
    assert_eq!(subscriber.bodies(2).await, ["state", "state"]);
}

/// Real threads: a publisher that does not stop, and clients that look up all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_nothing_goes_back_in_time() {
    const STATES: u32 = 3000;
    let broker = open(3).await;
    let mut publisher = Client::new(&broker);
    publish(&mut publisher, "0").await;
    let mut clients = Vec::new();
    for client in ["a", "b", "c", "d", "e", "f"] {
        let subscriber = subscriber(&broker, client).await;
        clients.push(tokio::spawn(follow(subscriber, STATES)));
    }
    for number in 1..=STATES {
        publish(&mut publisher, &number.to_string()).await;
    }
    let mut replays = 0;
    for client in clients {
        let ended = tokio::time::timeout(Duration::from_secs(60), client).await;
        replays += ended.expect("the last state comes").expect("no panic");
    }
    assert!(replays > 0, "lookups were under way");
}

/// More publishers than an inbox has room for, each of which wants room for what is retained and for what is delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_that_wait_for_room_do_not_wait_for_each_other() {
    const PUBLISHERS: usize = 600;
    const TURNS: usize = 10;
    let broker = open(3).await;
    let mut subscribers = Vec::new();
    for client in ["a", "b", "c", "d"] {
        subscribers.push(subscriber(&broker, client).await);
    }
    let mut publishers = Vec::new();
    for _ in 0..PUBLISHERS {
        let mut publisher = Client::new(&broker);
        publishers.push(tokio::spawn(async move {
            for _ in 0..TURNS {
                publish(&mut publisher, "busy").await;
            }
        }));
    }
    let all = async {
        for publisher in publishers {
            publisher.await.expect("no panic");
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(60), all).await;
    all.expect("all are served");
}

/// Looks up again and again until the last state has come. How many replays came through.
async fn follow(mut client: Client, last: u32) -> usize {
    let (mut seen, mut replays, mut through) = (0, 0, true);
    while seen < last {
        let found = look_up(&mut client).await;
        through = !through;
        let token = replay(&mut client, found, through).await;
        // What comes is looked at in its order: deliveries, and what may be sent past them.
        let mut done = through;
        while !done || client.has_events().await {
            let states = client
                .expect(|event| match event {
                    Event::Deliver { deliveries, .. } => Some((std::mem::take(deliveries), false)),
                    Event::Done {
                        token: of,
                        result: Ok(Reply::Replayed(found)),
                    } if *of == token => {
                        let found = std::mem::take(found).into_iter();
                        Some((found.map(past).collect(), true))
                    }
                    _ => None,
                })
                .await;
            done |= states.1;
            for delivery in states.0 {
                if delivery.id != DeliveryId(0) {
                    client
                        .submit(Command::Settle {
                            consumer: ConsumerId(1),
                            deliveries: delivery.id..=delivery.id,
                            outcome: Outcome::Accept,
                        })
                        .await;
                }
                let state = body(&delivery.message).parse().expect("a number");
                assert!(seen <= state, "{state} came after {seen}");
                seen = state;
                replays += usize::from(is_replayed(&delivery));
            }
        }
    }
    replays
}

/// A message that is sent past the session, as if it were delivered.
fn past(found: Retained) -> Delivery {
    Delivery {
        id: DeliveryId(0),
        message: found.message,
        accepted: found.accepted,
        redelivered: false,
        returns: 0,
        failures: 0,
        packet_id: 0,
        tags: BindingTag(REPLAYED).into(),
    }
}
