//! What the tap promises beside offering records (DESIGN section 3.2): addresses by `mq.route.key`, permissions, lag and
//! losses, and that it costs nothing where nobody listens.

mod support;

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use support::{
    Client, body, broker,
    logs::{batch, damage_records, keyed, log},
    open,
    queues::text,
};
use trivium_core::{
    Binding, Change, Command, Destination, ExchangeKind, Grammar, Pattern, Reply,
    store::{ScanLimit, Store, Table},
};

async fn append(client: &mut Client, log: &str, batch: Bytes) {
    client
        .append(log, 0, batch)
        .await
        .expect("the log is there");
}

/// A queue with everything under `key`.
async fn listens(client: &mut Client, queue: &str, key: &str) {
    client.queue(queue).await;
    client.bind("amq.topic", key, queue).await;
}

#[tokio::test]
async fn records_go_by_their_own_keys() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client
        .with_log("commands", &[("mq.route.key", "${key}")])
        .await;
    listens(&mut client, "one", "devices.1.#").await;
    listens(&mut client, "all", "devices.*.cmd").await;
    let records = [
        ("devices.1.cmd", Some("a")),
        ("devices.2.cmd", Some("b")),
        ("devices.1.x", Some("c")),
        ("$SYS.up", Some("never")),
        ("devices.*.cmd", Some("a star is a name like any other")),
    ];
    append(&mut client, "commands", keyed(&records)).await;
    append(&mut client, "commands", batch(&["no key"], None)).await;
    append(
        &mut client,
        "commands",
        keyed(&[("devices.9.cmd", Some("end"))]),
    )
    .await;
    client.filled("all", 4).await;
    assert_eq!(client.drained("one").await, ["a", "c"]);
    let all = client.drained("all").await;
    assert_eq!(all, ["a", "b", "a star is a name like any other", "end"]);
}

#[tokio::test]
async fn a_template_makes_one_level_of_a_key() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client
        .with_log("l", &[("mq.route.key", "d.${key}.out")])
        .await;
    listens(&mut client, "q", "d.*.out").await;
    let records = [("1.out.d", Some("a")), ("#", Some("b")), ("", Some("c"))];
    append(&mut client, "l", keyed(&records)).await;
    client.filled("q", 3).await;
}

#[tokio::test]
async fn a_wrong_setting_is_refused_by_name() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    for (name, value) in [
        ("mq.route.key", "${nothing}"),
        ("mq.tap.max.lag.ms", "soon"),
        ("mq.tap.root.wildcards", "maybe"),
        ("mq.key", "level(0)"),
        ("mq.bind", "no-colon"),
    ] {
        let refusal = client.log("l", log(1, &[(name, value)])).await.unwrap_err();
        assert!(refusal.to_string().contains(name), "{refusal}");
    }
    client.with_log("l", &[]).await;
    let wrong = Change::AlterLog {
        name: "l".into(),
        settings: vec![("mq.route.key".into(), Some("${".into()))],
        validate_only: false,
    };
    let refusal = client.define(wrong).await.unwrap_err();
    assert!(refusal.to_string().contains("mq.route.key"), "{refusal}");
}

#[tokio::test]
async fn a_headers_exchange_behind_a_tap_looks_at_each_record() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client
        .declare_exchange("by-headers", ExchangeKind::Headers)
        .await;
    client.queue("q").await;
    client
        .define(Change::Bind(Binding {
            source: "by-headers".into(),
            destination: Destination::Queue("q".into()),
            key: "".into(),
            grammar: Grammar::Dots,
            arguments: vec![("region".into(), text("eu"))],
            subscription: None,
        }))
        .await
        .expect("both are there");
    client.with_log("l", &[("mq.tap", "by-headers")]).await;
    for (region, body) in [("us", "no"), ("eu", "yes"), ("eu", "too")] {
        append(
            &mut client,
            "l",
            support::logs::with_header("region", region, body),
        )
        .await;
    }
    client.filled("q", 2).await;
    assert_eq!(client.drained("q").await, ["yes", "too"]);
}

/// A record that nobody heard is not heard by whoever comes later, also not after a restart.
#[tokio::test]
async fn who_comes_later_hears_what_comes_later() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("l", &[]).await;
    append(&mut client, "l", batch(&["1"], None)).await;
    for n in 0..20 {
        append(&mut client, "l", batch(&[&n.to_string()], None)).await;
    }
    drop((client, broker));
    let broker = open(Arc::new(store.kill(1))).await;
    let mut client = Client::new(&broker);
    listens(&mut client, "q", "l").await;
    append(&mut client, "l", batch(&["heard"], None)).await;
    client.filled("q", 1).await;
    assert_eq!(client.drained("q").await, ["heard"]);
}

#[tokio::test]
async fn a_header_retains_and_an_empty_value_clears() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("state", &[]).await;
    append(&mut client, "state", batch(&["quiet"], None)).await;
    append(
        &mut client,
        "state",
        support::logs::with_header("mq.retain", "1", "on"),
    )
    .await;
    until_retained(&mut client, "state", Some("on")).await;
    append(&mut client, "state", batch(&["not retained"], None)).await;
    append(
        &mut client,
        "state",
        support::logs::with_header("mq.retain", "true", "off"),
    )
    .await;
    until_retained(&mut client, "state", Some("off")).await;
    append(
        &mut client,
        "state",
        support::logs::with_header("mq.retain", "1", ""),
    )
    .await;
    until_retained(&mut client, "state", None).await;
}

/// The bodies that are retained under a topic.
async fn retained(client: &mut Client, topic: &str) -> Vec<String> {
    let filter = Pattern::new(topic.into(), Grammar::Slashes);
    let reply = client
        .ask(|token| Command::Retained { token, filter })
        .await;
    let Ok(Reply::Retained(found)) = reply else {
        panic!("not {reply:?}")
    };
    let mut bodies: Vec<_> = found.iter().map(|it| body(&it.message)).collect();
    bodies.sort();
    bodies
}

/// A compacted log is the retained store of its keys (DESIGN section 3.4).
#[tokio::test]
async fn the_newest_value_of_each_key_is_retained() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    let settings = [
        ("cleanup.policy", "compact"),
        ("mq.retain.map", "true"),
        ("mq.bind", "amq.topic:plant.#"),
    ];
    client.with_log("plant", &settings).await;
    let records = [
        ("plant.1.state", Some("off")),
        ("plant.2.state", Some("on")),
        ("plant.1.state", Some("on")),
        ("plant.3.state", Some("gone")),
        ("plant.3.state", None),
    ];
    append(&mut client, "plant", keyed(&records)).await;
    // What is captured counts too, retained or not.
    client.publish("amq.topic", "plant.4.state", "new").await;
    until_retained(&mut client, "plant/4/state", Some("new")).await;
    assert_eq!(
        retained(&mut client, "plant/+/state").await,
        ["new", "on", "on"]
    );
    drop((client, broker));
    let broker = open(Arc::new(store.kill(3))).await;
    let mut client = Client::new(&broker);
    assert_eq!(retained(&mut client, "plant/#").await, ["new", "on", "on"]);
    append(&mut client, "plant", keyed(&[("plant.1.state", None)])).await;
    until_retained(&mut client, "plant/1/state", None).await;
    assert_eq!(retained(&mut client, "plant/#").await, ["new", "on"]);
}

/// A setting of a log is another from now on.
fn alter(log: &str, setting: &'static str, value: Option<&'static str>) -> Change {
    Change::AlterLog {
        name: log.into(),
        settings: vec![(setting.into(), value.map(Into::into))],
        validate_only: false,
    }
}

/// What a log has when it becomes the retained store of its keys is retained, and what it is no more stays.
#[tokio::test]
async fn a_log_with_records_becomes_the_retained_store() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    let settings = [("cleanup.policy", "compact"), ("mq.bind", "amq.topic:p.#")];
    client.with_log("plant", &settings).await;
    listens(&mut client, "q", "plant").await;
    append(&mut client, "plant", keyed(&[("p.1", Some("old"))])).await;
    append(&mut client, "plant", keyed(&[("p.2", Some("gone"))])).await;
    client.publish("amq.topic", "p.3", "captured").await;
    let records = [("p.1", Some("new")), ("p.2", None)];
    append(&mut client, "plant", keyed(&records)).await;
    client.filled("q", 4).await;
    assert_eq!(retained(&mut client, "p/#").await, [""; 0]);

    let on = alter("plant", "mq.retain.map", Some("true"));
    client.define(on.clone()).await.expect("it is compacted");
    until_retained(&mut client, "p/3", Some("captured")).await;
    until_retained(&mut client, "p/1", Some("new")).await;
    until_retained(&mut client, "p/2", None).await;
    append(&mut client, "plant", keyed(&[("p.4", Some("then"))])).await;
    until_retained(&mut client, "p/4", Some("then")).await;
    let all = ["captured", "new", "then"];
    assert_eq!(retained(&mut client, "p/#").await, all);
    let (offered, _) = client.queue("q").await;
    assert_eq!(offered, 4, "nothing is offered twice");

    let off = alter("plant", "mq.retain.map", None);
    client.define(off).await.expect("it is there");
    let records = [("p.1", None), ("p.5", Some("late"))];
    append(&mut client, "plant", keyed(&records)).await;
    client.filled("q", 6).await;
    assert_eq!(
        retained(&mut client, "p/#").await,
        all,
        "all stays as it was"
    );
    client.define(on).await.expect("it is compacted");
    until_retained(&mut client, "p/5", Some("late")).await;
    let all = ["captured", "late", "then"];
    assert_eq!(retained(&mut client, "p/#").await, all);

    let under = alter("plant", "mq.route.key", Some("now.${key:levels}"));
    client.define(under).await.expect("it is a template");
    until_retained(&mut client, "now/p/5", Some("late")).await;
    assert_eq!(retained(&mut client, "now/#").await, all);
}

/// How many rows of a table are stored whose keys begin with this.
async fn rows(store: &dyn Store, table: Table, prefix: &'static [u8]) -> usize {
    let limit = ScanLimit {
        entries: 100,
        bytes: 1 << 20,
    };
    let mut end = prefix.to_vec();
    end.extend([u8::MAX; 64]);
    let range = Bytes::from_static(prefix)..Bytes::from(end);
    let page = store.scan(table, range, limit).await;
    page.expect("it can be read").entries.len()
}

/// Wherever the process is killed while a log is read into the retained store, all of it is there in the end.
#[tokio::test]
async fn filling_the_retained_store_goes_on_after_a_kill() {
    const PARTITIONS: u32 = 16;
    let mut open_ends = 0;
    for steps in 0..60 {
        let (store, broker) = broker().await;
        let mut client = Client::new(&broker);
        let compacted = log(PARTITIONS, &[("cleanup.policy", "compact")]);
        client.log("plant", compacted).await.expect("it is new");
        for partition in 0..PARTITIONS {
            let (one, two) = (format!("p.{partition}.a"), format!("p.{partition}.b"));
            let records = [(&*one, Some("old")), (&*two, Some("gone"))];
            for records in [records, [(&*one, Some("new")), (&*two, None)]] {
                let appended = client.append("plant", partition, keyed(&records)).await;
                appended.expect("it is there");
            }
        }
        let token = client.token();
        let change = alter("plant", "mq.retain.map", Some("true"));
        {
            let mut is_defined = false;
            let mut defined = pin!(client.submit(Command::Define { token, change }));
            for _ in 0..steps {
                tokio::select! {
                    biased;
                    _ = &mut defined, if !is_defined => is_defined = true,
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        let store = Arc::new(store.kill(steps));
        drop((client, broker));
        let filled = rows(&*store, Table::Retained, b"").await;
        let is_due = rows(&*store, Table::State, b"f").await > 0;
        open_ends += usize::from(is_due);
        let broker = open(store).await;
        let mut client = Client::new(&broker);
        if is_due || filled > 0 {
            for partition in 0..PARTITIONS {
                until_retained(&mut client, &format!("p/{partition}/a"), Some("new")).await;
                until_retained(&mut client, &format!("p/{partition}/b"), None).await;
            }
            let all = ["new"; PARTITIONS as usize];
            assert_eq!(retained(&mut client, "p/#").await, all);
        }
    }
    assert!(open_ends > 0, "killed before the end");
}

#[tokio::test]
async fn a_map_needs_keys_and_the_square() {
    let (_, broker) = broker().await;
    let mut client = Client::new(&broker);
    for settings in [
        &[("mq.retain.map", "true")][..],
        &[
            ("mq.retain.map", "true"),
            ("cleanup.policy", "compact"),
            ("mq.tap", "off"),
        ],
        &[("mq.retain.map", "perhaps"), ("cleanup.policy", "compact")],
    ] {
        let refusal = client.log("l", log(1, settings)).await.unwrap_err();
        assert!(refusal.to_string().contains("mq.retain.map"), "{refusal}");
    }
}

async fn until_retained(client: &mut Client, topic: &str, expected: Option<&str>) {
    let reached = async {
        loop {
            let found = retained(client, topic).await;
            if found.first().map(String::as_str) == expected {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, reached)
        .await
        .expect("the tap retains what asks for it");
}

/// A batch that is damaged in the store is left out and counted, and what comes behind it is offered.
#[tokio::test]
async fn damage_does_not_stop_the_tap() {
    let (store, broker) = broker().await;
    let mut client = Client::new(&broker);
    client.with_log("l", &[]).await;
    listens(&mut client, "q", "l").await;
    // The record is committed, that it was offered is not.
    store.hold();
    let token = client.token();
    client
        .submit(Command::Append {
            id: None,
            token,
            log: "l".into(),
            partition: 0,
            batch: batch(&["b", "c"], None),
            transaction: None,
        })
        .await;
    while store.held() == 0 {
        tokio::task::yield_now().await;
    }
    store.release_one();
    let store = Arc::new(store.kill(1));
    drop((client, broker));
    damage_records(&*store, 1).await;
    let broker = open(store).await;
    let mut client = Client::new(&broker);
    append(&mut client, "l", batch(&["behind"], None)).await;
    client.filled("q", 1).await;
    assert_eq!(client.drained("q").await, ["behind"]);
    let taps = broker.taps();
    let tap = &taps[0];
    assert_eq!((&*tap.log, tap.partition), ("l", 0));
    assert_eq!((tap.lost, tap.position.0, tap.end.0), (2, 3, 3));
}
