//! Policies: which counts for what, live, after a restart, and what is wrong with one.

mod support;

use std::{sync::Arc, time::Duration};

use support::{Client, exchange, open};
use trivium_core::{
    Change, Command, Definitions, ExchangeKind, LogSpec, PolicyDefinition, QueueInfo, QueueSpec,
    Refusal, Removal, Reply, Value, store::memory::MemoryStore,
};

fn policy(
    name: &str,
    pattern: &str,
    priority: i64,
    settings: &[(&str, Value)],
) -> PolicyDefinition {
    let definition = settings
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect();
    PolicyDefinition {
        vhost: "/".into(),
        name: name.into(),
        operator: false,
        pattern: pattern.into(),
        apply_to: "all".into(),
        priority,
        definition,
    }
}

async fn set(client: &mut Client, policies: Vec<PolicyDefinition>) -> Result<Reply, Refusal> {
    let definitions = Definitions {
        policies,
        ..Definitions::default()
    };
    let change = Change::Import(Box::new(definitions));
    client.define(change).await
}

async fn info(client: &mut Client, queue: &str) -> QueueInfo {
    let describe = |token| Command::DescribeQueues {
        token,
        vhost: Some("/".into()),
        name: Some(queue.into()),
    };
    match client.ask(describe).await {
        Ok(Reply::Queues(mut queues)) if queues.len() == 1 => queues.remove(0),
        other => panic!("{other:?}"),
    }
}

async fn names(client: &mut Client, queue: &str) -> (Option<String>, Option<String>) {
    let policies = info(client, queue).await.policies;
    let text = |name: Option<trivium_core::Text>| name.map(|name| name.to_string());
    (text(policies.policy), text(policies.operator))
}

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// The policy with the greatest priority counts, live and for what is declared later; it goes as it came.
#[tokio::test]
async fn the_greatest_priority_counts() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    client.queue("orders").await;
    let ttl = |ms| [("message-ttl", Value::I64(ms))];
    let low = policy("low", "", 0, &ttl(1000));
    let high = policy("high", "^ord", 5, &ttl(2000));
    let quorum = PolicyDefinition {
        apply_to: "quorum_queues".into(),
        ..policy("quorum", "", 9, &ttl(3000))
    };
    set(&mut client, vec![low, high, quorum]).await.unwrap();
    client.queue("invoices").await;
    assert_eq!(names(&mut client, "orders").await, (some("high"), None));
    assert_eq!(names(&mut client, "invoices").await, (some("low"), None));
    let operator = PolicyDefinition {
        operator: true,
        ..policy("cap", "", 0, &[("max-length", Value::I64(2))])
    };
    set(&mut client, vec![operator]).await.unwrap();
    let both = (some("high"), some("cap"));
    assert_eq!(names(&mut client, "orders").await, both);
    let effective = info(&mut client, "orders").await.policies.effective;
    assert_eq!(
        effective,
        [
            ("message-ttl".into(), Value::I64(2000)),
            ("max-length".into(), Value::I64(2))
        ]
    );
    let removal = Removal::Policy {
        vhost: "/".into(),
        name: "high".into(),
        operator: false,
    };
    client.define(Change::Remove(removal)).await.unwrap();
    assert_eq!(
        names(&mut client, "orders").await,
        (some("low"), some("cap"))
    );
}

/// A queue that is bound goes on being reached after a policy has changed it, also after a crash.
#[tokio::test]
async fn policies_survive_a_crash() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    client.bind("amq.direct", "k", "q").await;
    let settings = [("expires", Value::I64(86_400_000))];
    set(&mut client, vec![policy("p", "^q$", 0, &settings)])
        .await
        .unwrap();
    client.publish("amq.direct", "k", "1").await;
    drop((client, broker));
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(names(&mut client, "q").await, (some("p"), None));
    client.publish("amq.direct", "k", "2").await;
    assert_eq!(client.get("q").await.as_deref(), Some("1"));
    assert_eq!(client.get("q").await.as_deref(), Some("2"));
}

/// An alternate exchange by policy catches what matches nothing, and the argument wins over it.
#[tokio::test]
async fn a_policy_sets_an_alternate_exchange() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    for (name, alternate) in [("by-policy", None), ("by-argument", Some("amq.direct"))] {
        let mut spec = exchange(ExchangeKind::Direct);
        let argument = |name: &str| ("alternate-exchange".into(), Value::Text(name.into()));
        spec.arguments = alternate.map(argument).into_iter().collect();
        let name = name.into();
        client
            .define(Change::DeclareExchange { name, spec })
            .await
            .unwrap();
    }
    client.queue("caught").await;
    client.bind("amq.fanout", "", "caught").await;
    client.publish("by-policy", "k", "0").await;
    let settings = [("alternate-exchange", Value::Text("amq.fanout".into()))];
    set(&mut client, vec![policy("ae", "^by-", 0, &settings)])
        .await
        .unwrap();
    client.publish("by-policy", "k", "1").await;
    client.publish("by-argument", "k", "2").await;
    assert_eq!(client.get("caught").await.as_deref(), Some("1"));
    assert_eq!(client.get("caught").await, None);
}

/// Policies bound streams live: of argument, policy and operator policy the smaller counts, also after a crash, and
/// what goes is what was declared (RabbitMQ's docs/streams, "Retention"). Kafka topics are nobody's queues.
#[tokio::test]
async fn policies_bound_streams() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let text = |text: &'static str| Value::Text(text.into());
    for (name, age) in [("short", "10s"), ("long", "1h")] {
        let spec = QueueSpec {
            durable: true,
            arguments: vec![
                ("x-queue-type".into(), text("stream")),
                ("x-max-age".into(), text(age)),
                ("x-stream-max-segment-size-bytes".into(), Value::I64(1000)),
            ],
            ..QueueSpec::default()
        };
        let name = name.into();
        client
            .define(Change::DeclareQueue { name, spec })
            .await
            .unwrap();
    }
    let topic = LogSpec {
        partitions: 1,
        settings: vec![("mq.bind".into(), "amq.direct:k".into())],
    };
    client
        .define(Change::CreateLog {
            name: "topic".into(),
            spec: topic,
            validate_only: false,
        })
        .await
        .unwrap();
    for queue in ["short", "long"] {
        client.bind("amq.direct", "k", queue).await;
    }
    let streams = PolicyDefinition {
        apply_to: "streams".into(),
        ..policy("age", "", 0, &[("max-age", text("60s"))])
    };
    set(&mut client, vec![streams]).await.unwrap();
    client.publish("amq.direct", "k", "1").await;
    client.publish("amq.direct", "k", "2").await;
    support::advance(Duration::from_secs(30));
    eventually(&mut client, "short", 0).await;
    assert_eq!(client.queue_counts("long").await.0, 2);
    support::advance(Duration::from_secs(60));
    eventually(&mut client, "long", 0).await;
    assert_eq!(client.queue_counts("topic").await.0, 2);
    assert_eq!(names(&mut client, "long").await, (some("age"), None));
    assert_eq!(names(&mut client, "topic").await, (None, None));

    // It counts for what is there after a crash, and no longer when it goes.
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    client.publish("amq.direct", "k", "3").await;
    support::advance(Duration::from_secs(90));
    eventually(&mut client, "long", 0).await;
    let removal = Removal::Policy {
        vhost: "/".into(),
        name: "age".into(),
        operator: false,
    };
    client.define(Change::Remove(removal)).await.unwrap();
    client.publish("amq.direct", "k", "4").await;
    support::advance(Duration::from_secs(90));
    eventually(&mut client, "short", 0).await;
    assert_eq!(client.queue_counts("long").await.0, 1);
    // By size: the oldest segments go until the rest is small enough, but for the one that is written.
    for _ in 0..3 {
        client
            .publish("amq.direct", "k", &"x".repeat(500_000))
            .await;
    }
    let size = PolicyDefinition {
        operator: true,
        apply_to: "queues".into(),
        ..policy("size", "^long$", 0, &[("max-length-bytes", Value::I64(0))])
    };
    set(&mut client, vec![size]).await.unwrap();
    eventually(&mut client, "long", 0).await;
}

/// What a stream keeps is the smaller of its own setting and the policy's in whatever order they came, and its own when
/// the policy has gone.
#[tokio::test]
async fn settings_of_streams_and_policies_count_in_any_order() {
    let text = |text: &'static str| Value::Text(text.into());
    for policy_first in [true, false] {
        let (_, broker) = support::broker().await;
        let mut client = Client::new(&broker);
        let spec = QueueSpec {
            durable: true,
            arguments: vec![
                ("x-queue-type".into(), text("stream")),
                ("x-stream-max-segment-size-bytes".into(), Value::I64(1000)),
            ],
            ..QueueSpec::default()
        };
        let name = "s".into();
        client
            .define(Change::DeclareQueue { name, spec })
            .await
            .unwrap();
        let streams = PolicyDefinition {
            apply_to: "streams".into(),
            ..policy("age", "", 0, &[("max-age", text("10s"))])
        };
        let own = Change::AlterLog {
            name: "s".into(),
            settings: vec![("retention.ms".into(), Some("60000".into()))],
            validate_only: false,
        };
        if policy_first {
            set(&mut client, vec![streams]).await.unwrap();
            client.define(own).await.unwrap();
        } else {
            client.define(own).await.unwrap();
            set(&mut client, vec![streams]).await.unwrap();
        }
        assert_eq!(names(&mut client, "s").await, (some("age"), None));
        client.publish("", "s", "1").await;
        support::advance(Duration::from_secs(15));
        eventually(&mut client, "s", 0).await;
        let removal = Removal::Policy {
            vhost: "/".into(),
            name: "age".into(),
            operator: false,
        };
        client.define(Change::Remove(removal)).await.unwrap();
        client.publish("", "s", "2").await;
        support::advance(Duration::from_secs(15));
        client.touch_shards().await;
        support::advance(Duration::from_secs(15));
        client.touch_shards().await;
        assert_eq!(client.queue_counts("s").await.0, 1);
        support::advance(Duration::from_secs(60));
        eventually(&mut client, "s", 0).await;
    }
}

/// Waits until so many messages are left, as time passes.
async fn eventually(client: &mut Client, queue: &str, left: u64) {
    for _ in 0..40 {
        if client.queue_counts(queue).await.0 == left {
            return;
        }
        support::advance(Duration::from_millis(500));
        client.touch_shards().await;
    }
    assert_eq!(client.queue_counts(queue).await.0, left, "{queue}");
}

/// What RabbitMQ says of a policy that is wrong.
#[tokio::test]
async fn a_wrong_policy_is_refused() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    let mut why = async |policy| {
        let refused = set(&mut client, vec![policy]).await;
        refused.expect_err("it is wrong").to_string()
    };
    assert_eq!(
        why(policy("p", "", 0, &[("foo", Value::I64(5))])).await,
        "Validation failed\n\n[{<<\"foo\">>,5}] are not recognised policy settings\n"
    );
    assert_eq!(
        why(policy("p", "", 0, &[("message-ttl", Value::I64(-1))])).await,
        "Validation failed\n\n-1 is not a valid message TTL\n"
    );
    assert_eq!(
        why(policy(
            "p",
            "",
            0,
            &[("expires", Value::Text("soon".into()))]
        ))
        .await,
        "Validation failed\n\n<<\"soon\">> is not a valid queue expiry\n"
    );
    assert_eq!(
        why(PolicyDefinition {
            operator: true,
            ..policy(
                "p",
                "",
                0,
                &[("dead-letter-exchange", Value::Text("x".into()))]
            )
        })
        .await,
        "Validation failed\n\n[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings\n"
    );
    assert!(
        why(policy("p", "(", 0, &[("max-length", Value::I64(1))]))
            .await
            .contains("not a regular expression")
    );
    let nowhere = PolicyDefinition {
        vhost: "nope".into(),
        ..policy("p", "", 0, &[("max-length", Value::I64(1))])
    };
    assert_eq!(why(nowhere).await, "vhost nope not found");
}
