//! Transactions (DESIGN section 3.2), publishes by several topics, direct replies and holding publishers back.

mod support;

use std::sync::Arc;

use support::{Client, body, broker, for_each_seed, message, open};
use trivium_core::{
    Command, ConsumeSpec, ConsumerId, Event, Grammar, Outcome, Part, Refusal, Reply, Text, Topic,
};

fn part(client: &mut Client, exchange: &str, key: &str, body: &str) -> Part {
    Part::Publish {
        token: client.token(),
        message: Arc::new(message(exchange, key, body)),
        mandatory: true,
        also: Box::default(),
    }
}

const QUEUES: [&str; 6] = ["q0", "q1", "q2", "q3", "q4", "q5"];

async fn six_queues(client: &mut Client) {
    for queue in QUEUES {
        client.queue(queue).await;
    }
}

#[tokio::test]
async fn a_transaction_survives_whole_or_not_at_all() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    six_queues(&mut client).await;
    client.publish("", "q0", "old").await;
    let consumer = ConsumerId(1);
    client.consume(1, "q0", ConsumeSpec::default()).await;
    let delivery = client.delivery().await;
    assert_eq!(body(&delivery.message), "old");
    let mut parts: Vec<Part> = Vec::new();
    for queue in &QUEUES[1..] {
        parts.push(part(&mut client, "", queue, "new"));
    }
    parts.push(Part::Settle {
        consumer,
        deliveries: delivery.id..=delivery.id,
        outcome: Outcome::Accept,
    });
    let answer = client.ask(|token| Command::Transact { token, parts }).await;
    assert!(matches!(answer, Ok(Reply::Ok)), "{answer:?}");

    let after = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&after);
    assert_eq!(client.get("q0").await, None);
    for queue in &QUEUES[1..] {
        assert_eq!(client.drained(queue).await, ["new"]);
    }
}

/// The store is cut off in the middle of transactions: of each, all or nothing is there.
#[test]
fn a_crash_leaves_no_transaction_half_done() {
    for_each_seed(0..60, |seed| async move {
        let (store, broker) = broker().await;
        let mut client = Client::new(&broker);
        six_queues(&mut client).await;
        for at in 0..8 {
            client.publish("", "q0", &at.to_string()).await;
        }
        client.consume(1, "q0", ConsumeSpec::default()).await;
        for at in 0..8 {
            let delivery = client.delivery().await;
            let mut parts: Vec<Part> = QUEUES[1..]
                .iter()
                .map(|queue| part(&mut client, "", queue, &at.to_string()))
                .collect();
            parts.push(Part::Settle {
                consumer: ConsumerId(1),
                deliveries: delivery.id..=delivery.id,
                outcome: Outcome::Accept,
            });
            let token = client.token();
            client.submit(Command::Transact { token, parts }).await;
            for _ in 0..seed % 7 {
                tokio::task::yield_now().await;
            }
        }
        let after = open(Arc::new(store.crash(seed))).await;
        let mut client = Client::new(&after);
        let left = client.drained("q0").await;
        let moved: Vec<String> = (0..8)
            .map(|at| at.to_string())
            .filter(|at| !left.contains(at))
            .collect();
        for queue in &QUEUES[1..] {
            assert_eq!(client.drained(queue).await, moved, "{queue}");
        }
    });
}

#[tokio::test]
async fn one_refused_message_spares_all_and_leaves_deliveries_unsettled() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    six_queues(&mut client).await;
    client.publish("", "q0", "old").await;
    let consumer = ConsumerId(1);
    client.consume(1, "q0", ConsumeSpec::default()).await;
    let delivery = client.delivery().await;
    let parts = vec![
        part(&mut client, "", "q1", "new"),
        Part::Settle {
            consumer,
            deliveries: delivery.id..=delivery.id,
            outcome: Outcome::Accept,
        },
        part(&mut client, "nowhere", "q2", "new"),
    ];
    let answer = client.ask(|token| Command::Transact { token, parts }).await;
    assert!(
        matches!(answer, Err(Refusal::NotFound { .. })),
        "{answer:?}"
    );
    assert_eq!(client.queue("q1").await.0, 0);
    drop(client);
    let mut client = Client::new(&broker);
    let back = async {
        while client.queue("q0").await.0 == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, back)
        .await
        .expect("the delivery was not settled");
}

#[tokio::test]
async fn what_goes_nowhere_is_returned_before_the_answer() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let parts = vec![part(&mut client, "", "nowhere", "x")];
    let token = client.token();
    client.submit(Command::Transact { token, parts }).await;
    let mut order = Vec::new();
    for _ in 0..2 {
        order.push(
            client
                .expect(|event| match event {
                    Event::Returned { .. } => Some("returned"),
                    Event::Done { .. } => Some("done"),
                    _ => None,
                })
                .await,
        );
    }
    assert_eq!(order, ["returned", "done"]);
}

#[tokio::test]
async fn a_probe_answers_only_a_refusal() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let (good, bad) = (client.token(), client.token());
    client
        .submit(Command::Probe {
            token: good,
            message: Arc::new(message("amq.topic", "k", "")),
        })
        .await;
    client
        .submit(Command::Probe {
            token: bad,
            message: Arc::new(message("nowhere", "k", "")),
        })
        .await;
    let refused = client
        .expect(|event| match event {
            Event::Refused { tokens, .. } => Some(tokens.clone()),
            _ => None,
        })
        .await;
    assert_eq!(refused, [bad]);
    assert!(!client.has_events().await);
}

#[tokio::test]
async fn copies_reach_each_queue_once() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    six_queues(&mut client).await;
    let token = client.token();
    let also = ["q1", "q0", "q2", "nowhere", "q1"]
        .map(|name| Topic::new(name.into(), Grammar::Dots))
        .into();
    client
        .submit(Command::PublishCopies {
            token: Some(token),
            message: Arc::new(message("", "q0", "x")),
            mandatory: true,
            also,
        })
        .await;
    client.confirmed(token).await.expect("it is stored");
    for queue in &QUEUES[..3] {
        assert_eq!(client.drained(queue).await, ["x"], "{queue}");
    }
    assert_eq!(client.queue("q3").await.0, 0);
}

async fn reply_address(client: &mut Client, consumer: ConsumerId) -> Text {
    match client
        .ask(|token| Command::TakeReplies { token, consumer })
        .await
    {
        Ok(Reply::ReplyAddress { address }) => address,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reply_goes_straight_to_its_requester() {
    let (_, broker) = broker().await;
    let (mut requester, mut replier) = (Client::new(&broker), Client::new(&broker));
    let consumer = ConsumerId(7);
    let address = reply_address(&mut requester, consumer).await;
    let found = replier
        .ask(|token| Command::FindReplies {
            token,
            address: address.clone(),
        })
        .await;
    assert!(found.is_ok());
    for text in ["one", "two"] {
        replier.publish("", &address, text).await;
    }
    for (id, text) in [(1, "one"), (2, "two")] {
        let delivery = requester.delivery().await;
        assert_eq!(
            (delivery.id.0, body(&delivery.message).as_str()),
            (id, text)
        );
        assert_eq!(*delivery.message.topic.text(), address);
    }
}

#[tokio::test]
async fn replies_to_who_has_gone_have_no_destination() {
    let (_, broker) = broker().await;
    let (mut requester, mut replier) = (Client::new(&broker), Client::new(&broker));
    let cancelled = reply_address(&mut requester, ConsumerId(1)).await;
    let left = reply_address(&mut requester, ConsumerId(2)).await;
    let consumer = ConsumerId(1);
    let answer = requester
        .ask(|token| Command::Cancel { token, consumer })
        .await;
    assert!(answer.is_ok());
    drop(requester);
    for address in [cancelled, left] {
        let found = replier
            .ask(|token| Command::FindReplies {
                token,
                address: address.clone(),
            })
            .await;
        assert!(matches!(found, Err(Refusal::NotFound { .. })));
        let token = replier.token();
        replier
            .submit(Command::Publish {
                token: Some(token),
                message: Arc::new(message("", &address, "late")),
                mandatory: true,
            })
            .await;
        replier
            .expect(|event| matches!(event, Event::Returned { .. }).then_some(()))
            .await;
        replier.confirmed(token).await.expect("nobody keeps it");
    }
}

#[tokio::test]
async fn a_requester_that_does_not_read_costs_a_bounded_amount_of_memory() {
    let (_, broker) = broker().await;
    let (mut requester, mut replier) = (Client::new(&broker), Client::new(&broker));
    let consumer = ConsumerId(1);
    let address = reply_address(&mut requester, consumer).await;
    let large = "x".repeat(8 << 20);
    for _ in 0..20 {
        replier.publish("", &address, &large).await;
    }
    replier.publish("", &address, "last").await;
    let mut count = 0;
    while requester.has_events().await && count < 30 {
        requester.delivery().await;
        count += 1;
    }
    assert!((8..=10).contains(&count), "{count} of 21");
}

#[tokio::test]
async fn publishers_are_told_that_they_are_held_back_also_new_ones() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let blocked = |event: &mut Event| match event {
        Event::Blocked { reason } => Some(reason.clone()),
        _ => None,
    };
    broker.block(Some("low on disk".into()));
    broker.block(Some("low on disk".into()));
    assert_eq!(client.expect(blocked).await, "low on disk");
    let mut late = Client::new(&broker);
    assert_eq!(late.expect(blocked).await, "low on disk");
    broker.block(None);
    for client in [&mut client, &mut late] {
        client
            .expect(|event| matches!(event, Event::Unblocked).then_some(()))
            .await;
        assert!(!client.has_events().await);
    }
}
