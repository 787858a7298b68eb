//! Queues as declared.

use super::*;

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
