//! Stories of the catalog: one rule each, with the texts that clients see; a seeded comparison with a
//! list of bindings; recovery.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    command::{Binding, Destination, ExchangeKind, ExchangeSpec, LogSpec, QueueSpec, Subscription},
    id::BindingTag,
    properties::{Properties, Value},
    store::Write,
    topic::{Grammar, Topic},
};

/// A catalog, the rows it wrote, and the connection that acts.
struct Story {
    catalog: Catalog,
    rows: BTreeMap<Bytes, Bytes>,
    by: Actor,
}

impl Story {
    fn new() -> Story {
        let by = Actor {
            connection: ConnectionId(1),
            user: "guest".into(),
            vhost: "/".into(),
        };
        Story {
            catalog: Catalog::recover(Vec::new(), None).unwrap().0,
            rows: BTreeMap::new(),
            by,
        }
    }

    fn write(&mut self, batch: Batch) {
        for write in batch.into_writes() {
            match write {
                Write::Put(Table::Catalog, key, value) => drop(self.rows.insert(key, value)),
                Write::Delete(Table::Catalog, key) => drop(self.rows.remove(&key)),
                other => panic!("the catalog does not write {other:?}"),
            }
        }
    }

    fn apply(&mut self, change: Change) -> Result<Applied, Refusal> {
        let mut applied = self.catalog.apply(&self.by, &change)?;
        self.write(std::mem::take(&mut applied.batch));
        Ok(applied)
    }

    fn ok(&mut self, change: Change) -> Outcome {
        self.apply(change).unwrap().outcome
    }

    fn refused(&mut self, change: Change) -> String {
        let (generation, rows) = (self.catalog.routes.generation, self.rows.clone());
        let refusal = self.apply(change).unwrap_err().to_string();
        assert_eq!(
            (generation, rows),
            (self.catalog.routes.generation, self.rows.clone()),
            "changed nothing"
        );
        refusal
    }

    fn remove(&mut self, name: &str) -> Vec<Effect> {
        let id = self.catalog.routes.queue("/", name).unwrap().id;
        let applied = self.catalog.remove_queue(id).unwrap();
        self.write(applied.batch);
        applied.effects
    }

    fn restart(&mut self) {
        let rows = self
            .rows
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let (catalog, batch) = Catalog::recover(rows, None).unwrap();
        self.catalog = catalog;
        self.write(batch);
    }

    /// The names of the destinations, queues first.
    fn route(&self, exchange: &str, key: &str) -> Vec<String> {
        names(&self.targets(exchange, key, ""))
    }

    fn targets(&self, exchange: &str, key: &str, client: &str) -> Targets {
        let mut targets = Targets::default();
        let topic = Topic::new(key.into(), Grammar::Dots);
        self.catalog
            .routes()
            .route(
                "/",
                exchange,
                &topic,
                &mut Facts::default,
                client,
                &mut targets,
            )
            .unwrap();
        targets
    }

    fn tapped(&self, log: &str) -> Vec<String> {
        let routes = self.catalog.routes();
        let mut targets = Targets::default();
        let topic = Topic::new(log.into(), Grammar::Dots);
        routes.route_tapped(
            routes.log("/", log).unwrap(),
            &topic,
            &mut Facts::default,
            &mut targets,
        );
        names(&targets)
    }
}

fn names(targets: &Targets) -> Vec<String> {
    let queues = targets
        .queues
        .iter()
        .map(|target| target.queue.name.to_string());
    queues
        .chain(targets.logs.iter().map(|log| log.info.name.to_string()))
        .collect()
}

fn plain() -> QueueSpec {
    QueueSpec {
        durable: true,
        exclusive: false,
        auto_delete: false,
        expires: None,
        session: false,
        arguments: Vec::new(),
    }
}

fn queue(name: &str) -> Change {
    Change::DeclareQueue {
        name: name.into(),
        spec: plain(),
    }
}

fn queue_as(name: &str, spec: QueueSpec) -> Change {
    Change::DeclareQueue {
        name: name.into(),
        spec,
    }
}

fn queue_with(name: &str, argument: &str, value: Value) -> Change {
    queue_as(
        name,
        QueueSpec {
            arguments: vec![(argument.into(), value)],
            ..plain()
        },
    )
}

fn session(client: &str, durable: bool) -> Change {
    queue_as(
        client,
        QueueSpec {
            session: true,
            durable,
            ..plain()
        },
    )
}

fn exchange_spec(kind: ExchangeKind) -> ExchangeSpec {
    ExchangeSpec {
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Vec::new(),
    }
}

fn exchange(name: &str, kind: ExchangeKind) -> Change {
    Change::DeclareExchange {
        name: name.into(),
        spec: exchange_spec(kind),
    }
}

fn log(name: &str) -> Change {
    Change::CreateLog {
        name: name.into(),
        spec: LogSpec {
            partitions: 1,
            settings: Vec::new(),
        },
        validate_only: false,
    }
}

fn log_with(name: &str, settings: &[(&str, &str)]) -> Change {
    let settings = settings
        .iter()
        .map(|(name, value)| (Text::from(*name), Text::from(*value)))
        .collect();
    Change::CreateLog {
        name: name.into(),
        spec: LogSpec {
            partitions: 2,
            settings,
        },
        validate_only: false,
    }
}

fn binding(source: &str, key: &str, destination: Destination) -> Binding {
    Binding {
        source: source.into(),
        destination,
        key: key.into(),
        grammar: Grammar::Dots,
        arguments: Vec::new(),
        subscription: None,
    }
}

fn bind(source: &str, key: &str, queue: &str) -> Change {
    Change::Bind(binding(source, key, Destination::Queue(queue.into())))
}

fn unbind(source: &str, key: &str, queue: &str) -> Change {
    Change::Unbind(binding(source, key, Destination::Queue(queue.into())))
}

fn bind_exchange(source: &str, key: &str, to: &str) -> Change {
    Change::Bind(binding(source, key, Destination::Exchange(to.into())))
}

fn subscribe(client: &str, filter: &str, tag: u64, best_effort: bool, no_local: bool) -> Change {
    Change::Bind(Binding {
        grammar: Grammar::Slashes,
        subscription: Some(Subscription {
            tag: BindingTag(tag),
            best_effort,
            no_local,
        }),
        ..binding("amq.topic", filter, Destination::Session(client.into()))
    })
}

fn delete_exchange(name: &str) -> Change {
    Change::DeleteExchange {
        name: name.into(),
        if_unused: false,
    }
}

#[test]
fn a_queue_declared_again_must_be_the_same() {
    let mut story = Story::new();
    assert!(matches!(
        story.ok(queue("q1")),
        Outcome::Queue { created: true, .. }
    ));
    assert!(matches!(
        story.ok(queue("q1")),
        Outcome::Queue { created: false, .. }
    ));
    assert_eq!(
        story.refused(queue_as(
            "q1",
            QueueSpec {
                durable: false,
                ..plain()
            }
        )),
        "inequivalent arg 'durable' for queue 'q1' in vhost '/': received 'false' but current is 'true'"
    );
    assert_eq!(
        story.refused(queue_as(
            "q1",
            QueueSpec {
                auto_delete: true,
                ..plain()
            }
        )),
        "inequivalent arg 'auto_delete' for queue 'q1' in vhost '/': received 'true' but current is 'false'"
    );
    assert_eq!(
        story.refused(queue_with("q1", "x-message-ttl", Value::I32(100))),
        "inequivalent arg 'x-message-ttl' for queue 'q1' in vhost '/': received the value '100' of type 'signedint' but current is none"
    );
}

#[test]
fn queue_arguments_are_compared_by_value() {
    let mut story = Story::new();
    story.ok(queue_with("q", "x-max-length", Value::I32(5)));
    story.ok(queue_with("q", "x-max-length", Value::I64(5)));
    assert_eq!(
        story.refused(queue_with("q", "x-max-length", Value::U8(6))),
        "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'"
    );
    story.ok(queue("r"));
    story.ok(queue_with("r", "x-nobody-knows", Value::Bool(true)));
    story.ok(queue_with(
        "r",
        "x-queue-type",
        Value::Text("classic".into()),
    ));
}

#[test]
fn queue_types_must_exist_and_agree() {
    let mut story = Story::new();
    assert_eq!(
        story.refused(queue_with("q", "x-queue-type", Value::Text("bad".into()))),
        "invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type 'bad'\""
    );
    story.ok(queue_with(
        "q",
        "x-queue-type",
        Value::Text("classic".into()),
    ));
    assert_eq!(
        story.refused(queue_with(
            "q",
            "x-queue-type",
            Value::Text("quorum".into())
        )),
        "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'"
    );
}

#[test]
fn reserved_names_are_refused() {
    let mut story = Story::new();
    assert_eq!(
        story.refused(queue("amq.foo")),
        "queue name 'amq.foo' contains reserved prefix 'amq.*'"
    );
    let foo = exchange("amq.foo", ExchangeKind::Direct);
    assert_eq!(
        story.refused(foo),
        "exchange name 'amq.foo' contains reserved prefix 'amq.*'"
    );
    assert_eq!(
        story.refused(log("amq.foo")),
        "log name 'amq.foo' contains reserved prefix 'amq.*'"
    );
}

#[test]
fn a_queue_without_a_name_gets_one() {
    let mut story = Story::new();
    let Outcome::Queue {
        queue: first,
        created: true,
    } = story.ok(queue(""))
    else {
        panic!()
    };
    let Outcome::Queue { queue: second, .. } = story.ok(queue("")) else {
        panic!()
    };
    assert_ne!(first.name, second.name);
    let random = first.name.strip_prefix("amq.gen-").unwrap();
    assert_eq!(random.len(), 22);
    assert!(
        random
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    );
    assert!(matches!(
        story.ok(queue(&first.name)),
        Outcome::Queue { created: false, .. }
    ));
}

#[test]
fn an_exclusive_queue_is_its_connections_alone() {
    let mut story = Story::new();
    let exclusive = queue_as(
        "ex1",
        QueueSpec {
            exclusive: true,
            ..plain()
        },
    );
    let Outcome::Queue { queue: created, .. } = story.ok(exclusive.clone()) else {
        panic!()
    };
    assert!(!created.spec.durable && created.id.0 & crate::store::keys::TRANSIENT_QUEUE != 0);
    story.ok(exclusive.clone());
    let locked = "cannot obtain exclusive access to locked queue 'ex1' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    assert_eq!(
        story.refused(queue_as(
            "ex1",
            QueueSpec {
                durable: false,
                ..plain()
            }
        )),
        locked
    );
    assert_eq!(
        story.catalog.exclusive_queues(ConnectionId(1)),
        [created.id]
    );
    story.by.connection = ConnectionId(2);
    let name = Text::from("ex1");
    assert_eq!(story.refused(exclusive), locked);
    assert_eq!(
        story.refused(Change::ExpectQueue {
            name: name.clone(),
            session: false
        }),
        locked
    );
    assert_eq!(
        story.refused(Change::PurgeQueue { name: name.clone() }),
        locked
    );
    let delete = Change::DeleteQueue {
        name,
        session: false,
        if_unused: false,
        if_empty: false,
    };
    assert_eq!(story.refused(delete), locked);
    assert_eq!(story.refused(bind("amq.topic", "a", "ex1")), locked);
    assert_eq!(story.refused(unbind("amq.topic", "a", "ex1")), locked);
    story.remove("ex1");
    assert!(story.catalog.exclusive_queues(ConnectionId(1)).is_empty());
}

#[test]
fn what_is_not_there_is_not_found_but_may_be_deleted() {
    let mut story = Story::new();
    let name = Text::from("nope");
    let expect = Change::ExpectQueue {
        name: name.clone(),
        session: false,
    };
    assert_eq!(story.refused(expect), "no queue 'nope' in vhost '/'");
    assert_eq!(
        story.refused(Change::PurgeQueue { name: name.clone() }),
        "no queue 'nope' in vhost '/'"
    );
    assert_eq!(
        story.refused(Change::ExpectExchange { name: name.clone() }),
        "no exchange 'nope' in vhost '/'"
    );
    assert_eq!(
        story.refused(bind("nope", "k", "q")),
        "no exchange 'nope' in vhost '/'"
    );
    assert_eq!(
        story.refused(bind("amq.topic", "k", "nope")),
        "no queue 'nope' in vhost '/'"
    );
    assert_eq!(
        story.refused(Change::DeleteLog { name: name.clone() }),
        "no log 'nope' in vhost '/'"
    );
    let delete = Change::DeleteQueue {
        name,
        session: false,
        if_unused: true,
        if_empty: true,
    };
    assert!(matches!(story.ok(delete), Outcome::NoQueue));
    assert!(matches!(story.ok(delete_exchange("nope")), Outcome::Ok));
    assert!(matches!(
        story.ok(unbind("nope", "k", "nope")),
        Outcome::Unbound { existed: false }
    ));
    story.by.vhost = "elsewhere".into();
    assert_eq!(story.refused(queue("q")), "vhost elsewhere not found");
}

#[test]
fn the_default_exchange_cannot_be_touched() {
    let mut story = Story::new();
    story.ok(queue("q"));
    let text = "operation not permitted on the default exchange";
    assert_eq!(story.refused(exchange("", ExchangeKind::Direct)), text);
    assert_eq!(story.refused(delete_exchange("")), text);
    assert_eq!(story.refused(bind("", "q", "q")), text);
    assert_eq!(story.refused(unbind("", "q", "q")), text);
    assert_eq!(story.refused(bind_exchange("amq.topic", "q", "")), text);
    assert_eq!(story.route("", "q"), ["q"]);
    assert_eq!(
        story.refused(Change::ExpectExchange { name: "".into() }),
        text
    );
}

#[test]
fn an_alternate_exchange_is_a_string() {
    let mut story = Story::new();
    let spec = ExchangeSpec {
        arguments: vec![("alternate-exchange".into(), Value::I32(5))],
        ..exchange_spec(ExchangeKind::Direct)
    };
    let name = "x".into();
    assert_eq!(
        story.refused(Change::DeclareExchange { name, spec }),
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
    );
}

#[test]
fn an_exchange_declared_again_must_be_the_same() {
    let mut story = Story::new();
    story.ok(exchange("amq.match", ExchangeKind::Headers));
    story.ok(exchange("x", ExchangeKind::Direct));
    story.ok(exchange("x", ExchangeKind::Direct));
    assert_eq!(
        story.refused(exchange("x", ExchangeKind::Fanout)),
        "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'"
    );
    let alternate = vec![("alternate-exchange".into(), Value::Text("ae".into()))];
    let spec = ExchangeSpec {
        arguments: alternate,
        ..exchange_spec(ExchangeKind::Direct)
    };
    assert_eq!(
        story.refused(Change::DeclareExchange {
            name: "x".into(),
            spec
        }),
        "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received the value 'ae' of type 'longstr' but current is none"
    );
}

#[test]
fn exchanges_are_deleted_with_their_bindings() {
    let mut story = Story::new();
    story.ok(queue("q"));
    story.ok(exchange("x", ExchangeKind::Direct));
    story.ok(bind("x", "k", "q"));
    story.ok(bind_exchange("amq.topic", "t", "x"));
    let unused = Change::DeleteExchange {
        name: "x".into(),
        if_unused: true,
    };
    assert_eq!(story.refused(unused), "exchange 'x' in vhost '/' in use");
    assert_eq!(
        story.refused(delete_exchange("amq.direct")),
        "deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    );
    story.ok(delete_exchange("x"));
    story.ok(exchange("x", ExchangeKind::Fanout));
    assert_eq!(story.route("x", "k"), [""; 0]);
    assert_eq!(story.route("amq.topic", "t"), [""; 0]);
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding() {
    let mut story = Story::new();
    for name in ["a", "b"] {
        let spec = ExchangeSpec {
            auto_delete: true,
            ..exchange_spec(ExchangeKind::Fanout)
        };
        story.ok(Change::DeclareExchange {
            name: name.into(),
            spec,
        });
    }
    story.ok(queue("q"));
    story.ok(bind_exchange("a", "", "b"));
    story.ok(bind("b", "1", "q"));
    story.ok(bind("b", "2", "q"));
    story.ok(unbind("b", "1", "q"));
    assert!(story.catalog.routes().exchange_exists("/", "b"));
    story.remove("q");
    // With b its binding from a goes, which was a's last.
    assert!(!story.catalog.routes().exchange_exists("/", "b"));
    assert!(!story.catalog.routes().exchange_exists("/", "a"));
}

#[test]
fn internal_exchanges_take_from_exchanges_only() {
    let mut story = Story::new();
    story.ok(queue("q"));
    let spec = ExchangeSpec {
        internal: true,
        ..exchange_spec(ExchangeKind::Fanout)
    };
    story.ok(Change::DeclareExchange {
        name: "xi".into(),
        spec,
    });
    story.ok(bind("xi", "", "q"));
    story.ok(bind_exchange("amq.fanout", "", "xi"));
    assert_eq!(story.route("amq.fanout", "k"), ["q"]);
    let topic = Topic::new("k".into(), Grammar::Dots);
    let refusal = story
        .catalog
        .routes()
        .route(
            "/",
            "xi",
            &topic,
            &mut Facts::default,
            "",
            &mut Targets::default(),
        )
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "cannot publish to internal exchange 'xi' in vhost '/'"
    );
}

#[test]
fn cycles_of_exchanges_end_and_destinations_come_once() {
    let mut story = Story::new();
    story.ok(queue("q"));
    for name in ["a", "b", "c"] {
        story.ok(exchange(name, ExchangeKind::Fanout));
        story.ok(bind(name, "", "q"));
    }
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"), ("a", "a")] {
        story.ok(bind_exchange(from, "", to));
    }
    assert_eq!(story.route("a", "k"), ["q"]);
}

#[test]
fn the_alternate_exchange_takes_what_matches_nothing() {
    let mut story = Story::new();
    let to = |name: &str| vec![("alternate-exchange".into(), Value::Text(name.into()))];
    for (name, alternate) in [("a", "b"), ("b", "a")] {
        let spec = ExchangeSpec {
            arguments: to(alternate),
            ..exchange_spec(ExchangeKind::Direct)
        };
        story.ok(Change::DeclareExchange {
            name: name.into(),
            spec,
        });
    }
    story.ok(queue("q"));
    story.ok(queue("spare"));
    story.ok(bind("a", "k", "q"));
    story.ok(bind("b", "other", "spare"));
    assert_eq!(story.route("a", "k"), ["q"]);
    assert_eq!(story.route("a", "other"), ["spare"]);
    assert_eq!(story.route("a", "nothing"), [""; 0]);
}

#[test]
fn headers_exchanges_ask_for_headers_once() {
    let mut story = Story::new();
    story.ok(queue("q"));
    let arguments = vec![("x-match".into(), Value::Text("some".into()))];
    let bad = Binding {
        arguments,
        ..binding("amq.headers", "", Destination::Queue("q".into()))
    };
    assert!(
        story
            .refused(Change::Bind(bad))
            .starts_with("Invalid x-match field value \"some\"")
    );
    for format in ["pdf", "txt"] {
        let arguments = vec![("format".into(), Value::Text(format.into()))];
        story.ok(Change::Bind(Binding {
            arguments,
            ..binding("amq.headers", "", Destination::Queue("q".into()))
        }));
    }
    let mut asked = 0;
    let mut targets = Targets::default();
    let mut headers = || {
        asked += 1;
        let headers = vec![("format".into(), Value::Text("pdf".into()))];
        let properties = Properties {
            headers,
            ..Properties::default()
        };
        Facts {
            properties,
            timestamp: None,
        }
    };
    let topic = Topic::default();
    story
        .catalog
        .routes()
        .route("/", "amq.headers", &topic, &mut headers, "", &mut targets)
        .unwrap();
    assert_eq!((names(&targets), asked), (vec!["q".to_string()], 1));
}

#[test]
fn a_session_is_out_of_reach_of_names_and_changes_with_its_client() {
    let mut story = Story::new();
    story.ok(queue("c1"));
    story.ok(session("c1", false));
    story.ok(subscribe("c1", "a/+", 1, false, false));
    assert_eq!(story.route("", "c1"), ["c1"]);
    assert!(!story.targets("", "c1", "").queues[0].queue.spec.session);
    let Outcome::DeleteQueue { queue: found, .. } = story.ok(Change::DeleteQueue {
        name: "c1".into(),
        session: false,
        if_unused: false,
        if_empty: false,
    }) else {
        panic!()
    };
    assert!(!found.spec.session);
    let applied = story.apply(session("c1", true)).unwrap();
    assert!(matches!(
        applied.outcome,
        Outcome::Queue { created: false, .. }
    ));
    assert!(matches!(&applied.effects[..], [Effect::QueueChanged(queue)] if queue.spec.durable));
    assert!(
        story.targets("amq.topic", "a.b", "").queues[0]
            .queue
            .spec
            .durable
    );
    story.restart();
    assert_eq!(story.route("amq.topic", "a.b"), ["c1"]);
    let id = story.catalog.routes().session("/", "c1").unwrap().id;
    assert_eq!(id.0 & crate::store::keys::TRANSIENT_QUEUE, 0);
    story.ok(session("c1", false));
    story.restart();
    assert_eq!(story.route("amq.topic", "a.b"), [""; 0]);
}

#[test]
fn overlapping_subscriptions_deliver_once_with_all_tags() {
    let mut story = Story::new();
    story.ok(session("c1", true));
    story.ok(subscribe("c1", "a/+", 1, true, false));
    let first = story.targets("amq.topic", "a.b", "c1");
    assert!(first.queues[0].best_effort);
    story.ok(subscribe("c1", "a/#", 2, false, true));
    let both = story.targets("amq.topic", "a.b", "other");
    assert_eq!(both.queues.len(), 1);
    assert_eq!(both.queues[0].tags[..], [BindingTag(1), BindingTag(2)]);
    assert!(!both.queues[0].best_effort);
    // MQTT 5, 3.8.3.1: no local leaves out what the same client published.
    assert_eq!(
        story.targets("amq.topic", "a.b", "c1").queues[0].tags[..],
        [BindingTag(1)]
    );
    // Subscribing again replaces the options.
    assert!(matches!(
        story.ok(subscribe("c1", "a/+", 7, true, false)),
        Outcome::Bound { created: false }
    ));
    story.restart();
    assert_eq!(
        story.targets("amq.topic", "a.b", "").queues[0].tags[..],
        [BindingTag(2), BindingTag(7)]
    );
}

#[test]
fn logs_and_queues_share_names() {
    let mut story = Story::new();
    story.ok(log("orders"));
    story.ok(queue("jobs"));
    let text = "inequivalent arg 'x-queue-type' for queue 'orders' in vhost '/': received 'classic' but current is 'stream'";
    assert_eq!(story.refused(queue("orders")), text);
    assert_eq!(
        story.refused(log("orders")),
        "log 'orders' in vhost '/' exists already"
    );
    assert_eq!(
        story.refused(log("jobs")),
        "queue 'jobs' in vhost '/' exists already"
    );
}

#[test]
fn a_log_captures_and_is_tapped_under_its_name() {
    let mut story = Story::new();
    story.ok(log("orders.eu"));
    story.ok(queue("q"));
    story.ok(queue("all"));
    story.ok(bind("amq.topic", "orders.*", "q"));
    story.ok(bind("amq.topic", "#", "all"));
    assert_eq!(
        story.route("amq.topic", "orders.eu"),
        ["q", "all", "orders.eu"]
    );
    assert_eq!(story.route("", "orders.eu"), ["orders.eu"]);
    // Neither the log itself nor a pattern that begins with a wildcard.
    assert_eq!(story.tapped("orders.eu"), ["q"]);
    story.restart();
    assert_eq!(
        story.route("amq.topic", "orders.eu"),
        ["q", "all", "orders.eu"]
    );
    assert_eq!(story.tapped("orders.eu"), ["q"]);
    story.ok(Change::DeleteLog {
        name: "orders.eu".into(),
    });
    assert_eq!(story.route("amq.topic", "orders.eu"), ["q", "all"]);
}

#[test]
fn settings_say_otherwise() {
    let mut story = Story::new();
    story.ok(queue("all"));
    story.ok(bind("amq.topic", "#", "all"));
    let settings = [
        ("mq.bind", "amq.topic:a.#, amq.direct:k"),
        ("mq.tap.root.wildcards", "true"),
    ];
    story.ok(log_with("l", &settings));
    assert_eq!(story.route("amq.topic", "a.b"), ["all", "l"]);
    assert_eq!(story.route("amq.topic", "l"), ["all"]);
    assert_eq!(story.route("amq.direct", "k"), ["l"]);
    assert_eq!(story.tapped("l"), ["all"]);
    story.ok(log_with("off", &[("mq.tap", "off")]));
    assert_eq!(story.tapped("off"), [""; 0]);
    assert_eq!(
        story.refused(log_with("m", &[("mq.bind", "nope:k")])),
        "no exchange 'nope' in vhost '/'"
    );
    assert_eq!(
        story.refused(log_with("m", &[("mq.bind", "k")])),
        "mq.bind: expected exchange:pattern, not 'k'"
    );
}

#[test]
fn a_log_is_checked_before_it_is_made() {
    let mut story = Story::new();
    let spec = |partitions| LogSpec {
        partitions,
        settings: Vec::new(),
    };
    let create = |partitions, validate_only| Change::CreateLog {
        name: "l".into(),
        spec: spec(partitions),
        validate_only,
    };
    assert_eq!(
        story.refused(create(0, false)),
        "a log has between 1 and 10000 partitions, not 0"
    );
    assert_eq!(
        story.refused(create(u32::MAX, false)),
        "a log has between 1 and 10000 partitions, not 4294967295"
    );
    assert!(matches!(story.ok(create(3, true)), Outcome::Log(_)));
    assert!(story.catalog.routes().log("/", "l").is_none() && story.rows.is_empty());
    story.ok(create(3, false));
    assert_eq!(story.catalog.routes().log("/", "l").unwrap().tails.len(), 3);
}

#[test]
fn transient_things_and_their_bindings_end_with_the_process() {
    let mut story = Story::new();
    story.ok(queue("durable"));
    story.ok(queue_as(
        "transient",
        QueueSpec {
            durable: false,
            ..plain()
        },
    ));
    let spec = ExchangeSpec {
        durable: false,
        ..exchange_spec(ExchangeKind::Fanout)
    };
    story.ok(Change::DeclareExchange {
        name: "tx".into(),
        spec,
    });
    story.ok(exchange("dx", ExchangeKind::Fanout));
    for source in ["tx", "dx"] {
        for name in ["durable", "transient"] {
            story.ok(bind(source, "", name));
        }
    }
    assert_eq!(story.route("tx", ""), ["durable", "transient"]);
    let before = story.catalog.next_id;
    story.restart();
    assert!(!story.catalog.routes().exchange_exists("/", "tx"));
    assert_eq!(story.route("dx", ""), ["durable"]);
    assert!(story.catalog.next_id <= before);
    assert!(
        story
            .catalog
            .queues()
            .all(|queue| queue.id.0 < story.catalog.next_id)
    );
}

#[test]
fn numbers_are_not_used_again() {
    let mut story = Story::new();
    story.ok(queue("q"));
    let first = story.catalog.routes().queue("/", "q").unwrap().id;
    story.remove("q");
    story.restart();
    story.ok(queue("q"));
    assert!(story.catalog.routes().queue("/", "q").unwrap().id > first);
}

#[test]
fn dangling_rows_are_removed_and_damaged_ones_reported() {
    let mut story = Story::new();
    story.ok(queue("q"));
    story.ok(exchange("x", ExchangeKind::Direct));
    story.ok(bind("x", "k", "q"));
    story.rows.remove(&keys::exchange("/", "x"));
    story.restart();
    assert!(!story.rows.keys().any(|key| key[0] == keys::BINDING));
    let damaged = vec![(keys::queue(QueueId(1)), Bytes::from_static(b"\x01\xff"))];
    assert!(Catalog::recover(damaged, None).is_err());
    assert!(Catalog::recover(vec![(Bytes::from_static(b"?"), Bytes::new())], None).is_err());
}

#[test]
fn snapshots_stay_as_they_were() {
    let mut story = Story::new();
    let before = story.catalog.routes();
    story.ok(queue("q"));
    assert!(before.queue("/", "q").is_none());
    assert!(story.catalog.routes().queue("/", "q").is_some());
    assert!(story.catalog.routes().generation > before.generation);
}

#[test]
fn filters_have_a_bounded_depth() {
    let mut story = Story::new();
    story.ok(session("c", true));
    let text = story.refused(subscribe("c", &"/".repeat(60_000), 1, false, false));
    assert_eq!(text, "a binding key has at most 256 levels");
}

/// The model: a list of bindings between what is there.
#[derive(Default)]
struct Model {
    queues: Vec<String>,
    exchanges: Vec<(String, ExchangeKind)>,
    bindings: Vec<(String, String, Destination)>,
}

impl Model {
    fn route(&self, exchange: &str, key: &str, seen: &mut Vec<String>, found: &mut Vec<String>) {
        if seen.iter().any(|name| name == exchange) {
            return;
        }
        seen.push(exchange.into());
        let Some((_, kind)) = self.exchanges.iter().find(|(name, _)| name == exchange) else {
            return;
        };
        for (_, pattern, to) in self
            .bindings
            .iter()
            .filter(|(source, ..)| source == exchange)
        {
            let matched = match kind {
                ExchangeKind::Direct => pattern == key,
                ExchangeKind::Topic => fits(
                    &pattern.split('.').collect::<Vec<_>>(),
                    &key.split('.').collect::<Vec<_>>(),
                ),
                ExchangeKind::Fanout | ExchangeKind::Headers => true,
                other => unreachable!("the model has no {other:?}"),
            };
            match to {
                Destination::Queue(name) if matched => found.push(name.to_string()),
                Destination::Exchange(name) if matched => self.route(name, key, seen, found),
                _ => {}
            }
        }
    }
}

fn fits(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => (0..=key.len()).any(|skip| fits(rest, &key[skip..])),
        (["*", pattern @ ..], [_, key @ ..]) => fits(pattern, key),
        ([token, pattern @ ..], [first, key @ ..]) => token == first && fits(pattern, key),
        _ => false,
    }
}

/// A step of the model test; numbers choose among few names.
#[derive(Clone, Debug)]
enum Act {
    Queue(u8),
    RemoveQueue(u8),
    Exchange(u8),
    RemoveExchange(u8),
    Bind(bool, u8, u8, bool, String),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = "([ab*#])(\\.[ab*#]){0,3}";
    let act = prop_oneof![
        2 => (0u8..12).prop_map(Act::Queue),
        1 => (0u8..12).prop_map(Act::RemoveQueue),
        2 => (0u8..6).prop_map(Act::Exchange),
        1 => (0u8..6).prop_map(Act::RemoveExchange),
        9 => (prop::bool::weighted(0.8), 0u8..6, 0u8..12, any::<bool>(), key)
            .prop_map(|(add, from, to, queue, key)| Act::Bind(add, from, to, queue, key)),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..80)
}

fn perform(story: &mut Story, model: &mut Model, act: Act) {
    const KINDS: [ExchangeKind; 3] = [
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::Topic,
    ];
    match act {
        Act::Queue(n) => {
            let name = format!("q{n:02}");
            story.ok(queue(&name));
            if !model.queues.contains(&name) {
                model.queues.push(name);
            }
        }
        Act::RemoveQueue(n) => {
            let name = format!("q{n:02}");
            if model.queues.contains(&name) {
                story.remove(&name);
                model.queues.retain(|queue| *queue != name);
                model
                    .bindings
                    .retain(|(.., to)| *to != Destination::Queue(name.as_str().into()));
            }
        }
        Act::Exchange(n) => {
            let (name, kind) = (format!("x{n}"), KINDS[usize::from(n) % 3]);
            story.ok(exchange(&name, kind));
            if !model
                .exchanges
                .iter()
                .any(|(exchange, _)| *exchange == name)
            {
                model.exchanges.push((name, kind));
            }
        }
        Act::RemoveExchange(n) => {
            let name = format!("x{n}");
            story.ok(delete_exchange(&name));
            model.exchanges.retain(|(exchange, _)| *exchange != name);
            let end = Destination::Exchange(name.as_str().into());
            model
                .bindings
                .retain(|(source, _, to)| *source != name && *to != end);
        }
        Act::Bind(add, from, to, to_queue, key) => {
            let source = format!("x{from}");
            let to = if to_queue {
                Destination::Queue(format!("q{to:02}").into())
            } else {
                Destination::Exchange(format!("x{}", to % 6).into())
            };
            let change = binding(&source, &key, to.clone());
            let entry = (source, key, to);
            if !add {
                story.ok(Change::Unbind(change));
                model.bindings.retain(|bound| *bound != entry);
                return;
            }
            let source_there = model.exchanges.iter().any(|(name, _)| *name == entry.0);
            let end_there = match &entry.2 {
                Destination::Queue(name) => model.queues.iter().any(|queue| **name == *queue),
                Destination::Exchange(name) => model
                    .exchanges
                    .iter()
                    .any(|(exchange, _)| **name == *exchange),
                _ => false,
            };
            assert_eq!(
                story.apply(Change::Bind(change)).is_ok(),
                source_there && end_there
            );
            if source_there && end_there && !model.bindings.contains(&entry) {
                model.bindings.push(entry);
            }
        }
        Act::Restart => story.restart(),
    }
}

proptest! {
    #[test]
    fn routes_as_a_list_of_bindings_would(
        acts in acts(),
        keys in prop::collection::vec("[ab](\\.[ab]){0,3}", 1..6),
    ) {
        let (mut story, mut model) = (Story::new(), Model::default());
        for act in acts {
            perform(&mut story, &mut model, act);
        }
        for (exchange, _) in &model.exchanges {
            for key in &keys {
                let mut expected = Vec::new();
                model.route(exchange, key, &mut Vec::new(), &mut expected);
                expected.sort();
                expected.dedup();
                let mut found = story.route(exchange, key);
                found.sort();
                prop_assert_eq!(found, expected, "{} {}", exchange, key);
            }
        }
    }
}
