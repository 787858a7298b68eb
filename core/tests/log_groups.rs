//! Groups of MQTT clients that share the records of a log: where they are is durable, and how long it is kept.

mod support;

use std::{sync::Arc, time::Duration};

use support::{
    Client, advance, durable,
    logs::{batch, log},
    open,
    queues::{Declaring, settle, store},
};
use trivium_core::{
    BindingTag, Broker, Change, Command, ConsumeSpec, ConsumerId, Outcome, QueueSpec, Refusal,
    Reply, SharedLog, StreamStart, Subscription,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A member's consumer of the group; 1 is its session's.
const MEMBER: u32 = 2;

async fn join(client: &mut Client, id: &str, log: &str) -> Result<Reply, Refusal> {
    let join = Change::Join {
        client: id.into(),
        group: "g".into(),
        filter: "a log".into(),
        subscription: Subscription {
            tag: BindingTag(7),
            best_effort: false,
            no_local: false,
        },
        log: Some(Box::new(SharedLog {
            log: log.into(),
            from: StreamStart::First,
        })),
    };
    client.define(join).await
}

/// A client with a session that lasts or not, in the group that shares `orders` and consuming.
async fn member(broker: &Broker, id: &str, lasts: bool) -> Client {
    let mut client = Client::named(broker, id);
    let spec = QueueSpec {
        session: true,
        durable: lasts,
        expires: (!lasts).then_some(Duration::ZERO),
        ..durable()
    };
    let declare = Change::DeclareSession {
        client: id.into(),
        clean: false,
        spec,
    };
    client.define(declare).await.expect("nothing refuses it");
    let (consumer, prefetch) = (ConsumerId(1), 10);
    let name = id.into();
    client
        .ask(|token| Command::Attach {
            token,
            consumer,
            client: name,
            prefetch,
            will: None,
        })
        .await
        .expect("nothing refuses it");
    join(&mut client, id, "orders")
        .await
        .expect("nothing refuses it");
    let shares = client.ask(|token| Command::Shares { token }).await;
    let Ok(Reply::Shares(shares)) = shares else {
        panic!("{shares:?}")
    };
    let [(group, tag)] = &shares[..] else {
        panic!("{shares:?}")
    };
    assert_eq!(*tag, BindingTag(7));
    let spec = ConsumeSpec {
        session: true,
        prefetch: Some(10),
        ..ConsumeSpec::default()
    };
    client.consume(MEMBER, group, spec).await;
    client
}

async fn lag(broker: &Broker) -> Vec<(String, u64)> {
    let lag = broker.lag().await.expect("nothing refuses it").into_iter();
    lag.map(|it| (it.reader.name.to_string(), it.lag)).collect()
}

fn place(lag: u64) -> Vec<(String, u64)> {
    vec![("$share/g/a log".to_owned(), lag)]
}

#[tokio::test]
async fn where_a_group_is_outlives_its_members_and_a_crash() {
    let store = store();
    let broker = open(store.clone()).await;
    let mut admin = Client::new(&broker);
    let kept = [
        ("mq.tap", "off"),
        ("mq.bind", "off"),
        ("retention.ms", "-1"),
    ];
    admin.log("orders", log(1, &kept)).await.unwrap();
    let records = batch(&["0", "1", "2", "3", "4"], None);
    admin.append("orders", 0, records).await.unwrap();
    let mut one = member(&broker, "one", false).await;
    assert_eq!(one.bodies(5).await, ["0", "1", "2", "3", "4"]);
    for delivery in [1, 2, 4] {
        one.submit(settle(MEMBER, delivery, Outcome::Accept)).await;
    }
    one.touch_shards().await;
    one.make_durable().await;
    assert_eq!(lag(&broker).await, place(2));

    // The one member's session was for as long as the broker; the group stays.
    let broker = open(Arc::new(store.crash(1))).await;
    let mut two = member(&broker, "two", true).await;
    assert_eq!(two.bodies(2).await, ["2", "4"]);
    drop(two);
    let mut admin = Client::new(&broker);
    while lag(&broker).await != place(2) {
        admin.touch_shards().await;
    }
    // It has a member, though that is away: it does not go.
    advance(8 * DAY);
    admin.touch_shards().await;
    assert_eq!(lag(&broker).await, place(2));
    let gone = Change::DeleteQueue {
        name: "two".into(),
        session: true,
        if_unused: false,
        if_empty: false,
    };
    admin.define(gone).await.unwrap();
    admin.touch_shards().await;
    advance(DAY * 13 / 2);
    admin.touch_shards().await;
    assert_eq!(
        lag(&broker).await,
        place(2),
        "as long as the offsets of a group of Kafka's"
    );
    // Whoever comes while it waits keeps it.
    let three = member(&broker, "three", true).await;
    drop(three);
    advance(8 * DAY);
    admin.touch_shards().await;
    assert_eq!(lag(&broker).await, place(2));
    let gone = Change::DeleteQueue {
        name: "three".into(),
        session: true,
        if_unused: false,
        if_empty: false,
    };
    admin.define(gone).await.unwrap();
    admin.touch_shards().await;
    advance(8 * DAY);
    for _ in 0..1000 {
        admin.touch_shards().await;
        if lag(&broker).await.is_empty() {
            return;
        }
    }
    panic!("a group that nobody needs stays");
}

#[tokio::test]
async fn a_group_goes_when_its_last_member_leaves_it_or_its_log_goes() {
    let broker = open(store()).await;
    let mut admin = Client::new(&broker);
    let untapped = || log(1, &[("mq.tap", "off"), ("mq.bind", "off")]);
    admin.log("orders", untapped()).await.unwrap();
    let refused = join(&mut admin, "nobody", "orders").await;
    assert!(matches!(refused, Err(Refusal::NotFound { .. })));
    let mut one = member(&broker, "one", true).await;
    let refused = join(&mut one, "one", "absent").await;
    assert!(matches!(refused, Err(Refusal::NotFound { .. })));
    let mut two = member(&broker, "two", true).await;
    let leave = |client: &str| Change::Leave {
        client: client.into(),
        group: "g".into(),
        filter: "a log".into(),
    };
    one.define(leave("one")).await.unwrap();
    assert_eq!(lag(&broker).await, place(0));
    two.define(leave("two")).await.unwrap();
    assert_eq!(lag(&broker).await, []);
    let again = two.define(leave("two")).await;
    assert!(matches!(again, Ok(Reply::Unbound { existed: false })));

    let mut three = member(&broker, "three", true).await;
    admin.delete_log("orders").await.unwrap();
    let shares = three.ask(|token| Command::Shares { token }).await;
    assert!(matches!(shares, Ok(Reply::Shares(shares)) if shares.is_empty()));
    admin.log("orders", untapped()).await.unwrap();
    assert_eq!(lag(&broker).await, []);
}
