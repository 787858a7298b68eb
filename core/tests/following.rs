//! Consumers of logs that go by a name: the group keeps where they were.

mod support;

use std::sync::Arc;

use support::{Client, body, broker, logs::log, message, open, queues::publish};
use trivium_core::{
    Broker, Change, Command, ConsumeSpec, ConsumerId, Delivery, FollowSpec, Offset, Outcome,
    Refusal, Reply, StreamFilter, StreamSpec, StreamStart, Text, Token,
    group::{CommittedOffset, GroupAnswer, GroupError, GroupReply, GroupRequest},
    store::memory::MemoryStore,
};

fn as_group(from: StreamStart, group: &str) -> ConsumeSpec {
    ConsumeSpec {
        prefetch: Some(100),
        stream: Some(Box::new(StreamSpec {
            from,
            filter: None,
            follow: Some(FollowSpec {
                group: group.into(),
                client: "me".into(),
                protocol: "amqp",
                required: true,
                own: false,
                anew: false,
            }),
        })),
        ..ConsumeSpec::default()
    }
}

async fn fill(client: &mut Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        client.publish("", "s", &number.to_string()).await;
    }
}

/// The log `s` with so many records, and who has filled it.
async fn log_of(count: u32) -> (Arc<MemoryStore>, Broker, Client) {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("s", &[]).await;
    fill(&mut client, 0..count).await;
    (store, broker, client)
}

async fn deliveries(client: &mut Client, count: usize) -> Vec<Delivery> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(client.delivery().await);
    }
    found
}

async fn settle(client: &mut Client, consumer: u32, delivery: &Delivery, outcome: Outcome) {
    client
        .submit(Command::Settle {
            consumer: ConsumerId(consumer),
            deliveries: delivery.id..=delivery.id,
            outcome,
        })
        .await;
}

async fn ask(client: &mut Client, group: &str, request: GroupRequest) -> GroupReply {
    let command = |token: Token| Command::Group {
        token,
        group: group.into(),
        request,
    };
    match client.ask(command).await {
        Ok(Reply::Group(reply)) => reply,
        other => panic!("{other:?}"),
    }
}

/// What the group has committed of the log's first partition.
async fn committed(client: &mut Client, group: &str) -> Option<u64> {
    let request = GroupRequest::Offsets {
        partitions: Some(vec![("s".into(), 0)]),
        require_stable: false,
        member: None,
    };
    match ask(client, group, request).await {
        Ok(GroupAnswer::Offsets { offsets, .. }) => offsets.first().map(|it| it.offset.0),
        other => panic!("{other:?}"),
    }
}

async fn move_to(client: &mut Client, group: &str, offset: u64) -> GroupReply {
    let request = GroupRequest::Commit {
        generation: -1,
        member: Text::new(),
        instance: None,
        knows_member_epochs: true,
        offsets: vec![CommittedOffset {
            log: "s".into(),
            partition: 0,
            offset: Offset(offset),
            leader_epoch: -1,
            metadata: Text::new(),
        }],
    };
    ask(client, group, request).await
}

#[tokio::test]
async fn a_name_goes_on_behind_what_is_settled_in_order_also_after_a_crash() {
    let (store, _broker, mut client) = log_of(6).await;
    client
        .consume(1, "s", as_group(StreamStart::First, "g"))
        .await;
    let found = deliveries(&mut client, 6).await;
    assert_eq!(committed(&mut client, "g").await, Some(0));
    for settled in [0, 1, 3] {
        settle(&mut client, 1, &found[settled], Outcome::Accept).await;
    }
    assert_eq!(committed(&mut client, "g").await, Some(2));
    // A fence of what is not waited for: the next confirmed publish.
    fill(&mut client, 6..7).await;
    let after = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&after);
    client
        .consume(1, "s", as_group(StreamStart::Next, "g"))
        .await;
    let found = deliveries(&mut client, 5).await;
    assert_eq!(body(&found[0].message), "2");
    for delivery in &found {
        settle(&mut client, 1, delivery, Outcome::Reject).await;
    }
    assert_eq!(committed(&mut client, "g").await, Some(7));
}

#[tokio::test]
async fn what_comes_back_is_read_again_by_the_next() {
    let (_, _broker, mut client) = log_of(3).await;
    client
        .consume(1, "s", as_group(StreamStart::First, "g"))
        .await;
    let found = deliveries(&mut client, 3).await;
    settle(&mut client, 1, &found[1], Outcome::Requeue).await;
    for settled in [0, 2] {
        settle(&mut client, 1, &found[settled], Outcome::Accept).await;
    }
    assert_eq!(committed(&mut client, "g").await, Some(1));
    fill(&mut client, 3..4).await;
    let last = client.delivery().await;
    settle(&mut client, 1, &last, Outcome::Accept).await;
    assert_eq!(committed(&mut client, "g").await, Some(1));
    client.cancel(1).await;
    client
        .consume(2, "s", as_group(StreamStart::First, "g"))
        .await;
    assert_eq!(body(&client.delivery().await.message), "1");
}

#[tokio::test]
async fn what_a_filter_leaves_out_is_done_with() {
    let (_, _broker, mut client) = log_of(0).await;
    let mut spec = as_group(StreamStart::First, "g");
    if let Some(stream) = &mut spec.stream {
        stream.filter = Some(StreamFilter {
            values: vec!["x".into()],
            match_unfiltered: false,
        });
    }
    client.consume(1, "s", spec).await;
    fill(&mut client, 0..3).await;
    while committed(&mut client, "g").await != Some(3) {
        client.flushed().await;
    }
}

#[tokio::test]
async fn one_of_a_name_reads_and_the_next_goes_on_when_it_has_gone() {
    let (_, broker) = broker().await;
    let (mut first, mut second) = (Client::new(&broker), Client::new(&broker));
    let mut third = Client::new(&broker);
    first.log("s", log(1, &[])).await.expect("it is new");
    fill(&mut first, 0..3).await;
    let spec = || as_group(StreamStart::First, "g");
    first.consume(1, "s", spec()).await;
    second.consume(1, "s", spec()).await;
    third.consume(1, "s", spec()).await;
    let found = deliveries(&mut first, 3).await;
    assert!(!second.has_events().await);
    settle(&mut first, 1, &found[0], Outcome::Accept).await;
    first.cancel(1).await;
    let found = deliveries(&mut second, 2).await;
    assert_eq!(body(&found[0].message), "1");
    settle(&mut second, 1, &found[0], Outcome::Accept).await;
    assert!(!third.has_events().await);
    drop(second);
    assert_eq!(body(&third.delivery().await.message), "2");
    // One that waits may leave, too.
    first.consume(2, "s", spec()).await;
    first.cancel(2).await;
    drop(third);
    first.consume(3, "s", spec()).await;
    assert_eq!(body(&first.delivery().await.message), "2");
}

#[tokio::test]
async fn a_group_is_moved_only_while_nobody_reads() {
    let (_, _broker, mut client) = log_of(5).await;
    client
        .consume(1, "s", as_group(StreamStart::Next, "g"))
        .await;
    let refused = move_to(&mut client, "g", 1).await;
    assert!(
        matches!(refused, Err(GroupError::UnknownMember)),
        "{refused:?}"
    );
    let deleted = ask(&mut client, "g", GroupRequest::Delete).await;
    assert!(matches!(deleted, Err(GroupError::NotEmpty)), "{deleted:?}");
    match ask(&mut client, "g", GroupRequest::Describe).await {
        Ok(GroupAnswer::Described(group)) => {
            assert_eq!((group.state, &*group.protocol_type), ("Stable", "consumer"));
            let member = &group.members[0];
            assert_eq!(&*member.client, "me");
            assert_eq!(
                &member.assignment[..],
                b"\0\0\0\0\0\x01\0\x01s\0\0\0\x01\0\0\0\0\xff\xff\xff\xff"
            );
        }
        other => panic!("{other:?}"),
    }
    client.cancel(1).await;
    move_to(&mut client, "g", 1).await.expect("nobody reads");
    client
        .consume(2, "s", as_group(StreamStart::Next, "g"))
        .await;
    assert_eq!(body(&client.delivery().await.message), "1");
}

#[tokio::test]
async fn members_of_other_protocols_and_consumers_of_streams_keep_out_of_each_others_groups() {
    let (_, _broker, mut client) = log_of(0).await;
    let heartbeat = || {
        GroupRequest::ConsumerHeartbeat(Box::new(trivium_core::group::ConsumerHeartbeat {
            member: "m".into(),
            rebalance_timeout: Some(std::time::Duration::from_secs(60)),
            names: Some(vec!["s".into()]),
            owned: Some(Default::default()),
            ..Default::default()
        }))
    };
    client
        .consume(1, "s", as_group(StreamStart::Next, "g"))
        .await;
    let refused = ask(&mut client, "g", heartbeat()).await;
    assert!(
        matches!(refused, Err(GroupError::InconsistentProtocol)),
        "{refused:?}"
    );
    ask(&mut client, "h", heartbeat()).await.expect("it is new");
    let consume = |token| Command::Consume {
        token,
        consumer: ConsumerId(2),
        queue: "s".into(),
        spec: as_group(StreamStart::Next, "h"),
    };
    let refused = client.ask(consume).await;
    assert!(
        matches!(refused, Err(Refusal::NotAllowed(_))),
        "{refused:?}"
    );
    // Nothing of it is left.
    client.cancel(1).await;
    ask(&mut client, "g", heartbeat())
        .await
        .expect("nobody reads");
}

#[tokio::test]
async fn a_log_of_the_same_name_begins_anew() {
    let (_, _broker, mut client) = log_of(3).await;
    client
        .consume(1, "s", as_group(StreamStart::First, "g"))
        .await;
    let found = deliveries(&mut client, 3).await;
    client.delete_log("s").await.expect("it is there");
    settle(&mut client, 1, &found[2], Outcome::Accept).await;
    client.touch_shards().await;
    client.with_log("s", &[]).await;
    assert_eq!(committed(&mut client, "g").await, None);
    client.submit(publish(None, message("", "s", "new"))).await;
    let change = Change::ExpectQueue {
        name: "s".into(),
        session: false,
    };
    client.define(change).await.expect("it is there");
    client
        .consume(2, "s", as_group(StreamStart::First, "g"))
        .await;
    assert_eq!(body(&client.delivery().await.message), "new");
}
