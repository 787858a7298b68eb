//! What arguments and policies come to, and which are refused.

use super::*;

fn table(entries: &[(&str, Value)]) -> Vec<(Text, Value)> {
    entries
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect()
}

fn spec(arguments: &[(&str, Value)]) -> QueueSpec {
    QueueSpec {
        durable: true,
        arguments: table(arguments),
        ..QueueSpec::default()
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn refused(arguments: &[(&str, Value)]) -> String {
    match QueueSettings::check("qa", "/", &spec(arguments)) {
        Err(refusal) => refusal.to_string(),
        Ok(()) => panic!("{arguments:?} is accepted"),
    }
}

#[test]
fn arguments_are_refused_in_rabbitmqs_words() {
    let cases: [(&str, Value, &str); 16] = [
        ("x-message-ttl", Value::I32(-1), "{value_negative,-1}"),
        (
            "x-message-ttl",
            Value::I64(315_360_000_001),
            "{value_too_large,315360000001}",
        ),
        (
            "x-message-ttl",
            text("a"),
            "\"expected integer, got longstr\"",
        ),
        ("x-expires", Value::I32(0), "{value_zero,0}"),
        ("x-expires", Value::I32(-5), "{value_negative,-5}"),
        ("x-max-length", Value::I64(-2), "{value_negative,-2}"),
        (
            "x-max-length-bytes",
            Value::Bool(true),
            "\"expected integer, got bool\"",
        ),
        (
            "x-max-priority",
            Value::I32(256),
            "{max_value_exceeded,256}",
        ),
        ("x-max-priority", Value::I32(-1), "{value_negative,-1}"),
        ("x-overflow", text("spill"), "invalid_overflow"),
        ("x-overflow", Value::I32(1), "{unacceptable_type,signedint}"),
        (
            "x-dead-letter-routing-key",
            text("k"),
            "routing_key_but_no_dlx_defined",
        ),
        (
            "x-single-active-consumer",
            Value::I32(1),
            "\"expected bool, got signedint\"",
        ),
        (
            "x-queue-mode",
            text("fast"),
            "\"unsupported queue mode 'fast'\"",
        ),
        (
            "x-queue-version",
            Value::I32(3),
            "\"unsupported queue version '3'\"",
        ),
        (
            "x-queue-type",
            text("bad"),
            "\"unsupported queue type 'bad'\"",
        ),
    ];
    for (name, value, why) in cases {
        assert_eq!(
            refused(&[(name, value)]),
            format!("invalid arg '{name}' for queue 'qa' in vhost '/': {why}")
        );
    }
    assert_eq!(
        refused(&[("x-dead-letter-exchange", Value::I32(1))]),
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'qa' in vhost '/'"
    );
}

#[test]
fn an_argument_of_another_type_of_queue_is_refused() {
    assert_eq!(
        refused(&[
            ("x-queue-type", text("quorum")),
            ("x-max-priority", Value::I32(5))
        ]),
        "invalid arg 'x-max-priority' for queue 'qa' in vhost '/' of queue type rabbit_quorum_queue"
    );
    assert_eq!(
        refused(&[("x-delivery-limit", Value::I32(5))]),
        "invalid arg 'x-delivery-limit' for queue 'qa' in vhost '/' of queue type rabbit_classic_queue"
    );
    let unknown = spec(&[("x-max-retries", Value::I32(5)), ("x-mine", text("y"))]);
    assert_eq!(QueueSettings::check("qa", "/", &unknown), Ok(()));
}

#[test]
fn a_quorum_queue_is_durable_named_and_shared() {
    let quorum = spec(&[("x-queue-type", text("quorum"))]);
    assert_eq!(QueueSettings::check("qa", "/", &quorum), Ok(()));
    let of = |name: &str, change: fn(&mut QueueSpec)| {
        let mut spec = quorum.clone();
        change(&mut spec);
        QueueSettings::check(name, "/", &spec)
            .expect_err("it is refused")
            .to_string()
    };
    let property = |name| format!("invalid property '{name}' for queue 'qa' in vhost '/'");
    assert_eq!(
        of("qa", |spec| spec.auto_delete = true),
        property("auto-delete")
    );
    assert_eq!(
        of("qa", |spec| spec.exclusive = true),
        property("exclusive-owner")
    );
    assert_eq!(
        of("qa", |spec| spec.durable = false),
        property("non-durable")
    );
    assert_eq!(
        of("", |_| ()),
        "Cannot declare a server-named queue for type rabbit_quorum_queue"
    );
}

#[test]
fn the_smaller_number_counts_and_an_argument_wins_over_the_policy() {
    let spec = spec(&[
        ("x-message-ttl", Value::I32(500)),
        ("x-max-length", Value::I64(10)),
        ("x-dead-letter-exchange", text("mine")),
        ("x-overflow", text("reject-publish")),
    ]);
    let policy = table(&[
        ("message-ttl", Value::I64(100)),
        ("max-length", Value::I64(20)),
        ("max-length-bytes", Value::I64(4000)),
        ("dead-letter-exchange", text("theirs")),
        ("dead-letter-routing-key", text("key")),
        ("overflow", text("drop-head")),
    ]);
    let operator = table(&[
        ("max-length-bytes", Value::I64(3000)),
        ("expires", Value::I64(7000)),
    ]);
    let settings = QueueSettings::effective(&spec, &policy, &operator);
    assert_eq!(
        settings,
        QueueSettings {
            message_ttl: Some(100),
            expires: Some(Duration::from_secs(7)),
            max_length: Some(10),
            max_length_bytes: Some(3000),
            overflow: Overflow::RejectPublish,
            dead_letter_exchange: Some("mine".into()),
            dead_letter_routing_key: Some("key".into()),
            ..QueueSettings::default()
        }
    );
}

#[test]
fn a_quorum_queue_limits_deliveries() {
    let quorum = |limit: Option<i64>, policy: &[(&str, Value)]| {
        let mut arguments = vec![("x-queue-type", text("quorum"))];
        arguments.extend(limit.map(|limit| ("x-delivery-limit", Value::I64(limit))));
        QueueSettings::effective(&spec(&arguments), &table(policy), &[]).delivery_limit
    };
    assert_eq!(quorum(None, &[]), Some(20));
    assert_eq!(quorum(Some(-1), &[]), None);
    assert_eq!(quorum(Some(3), &[]), Some(3));
    let five = [("delivery-limit", Value::I64(5))];
    assert_eq!(quorum(None, &five), Some(5));
    assert_eq!(quorum(Some(3), &five), Some(3));
    assert_eq!(quorum(Some(-1), &five), Some(5));
    let classic = QueueSettings::effective(&spec(&[]), &table(&five), &[]);
    assert_eq!(classic.delivery_limit, None);
}

#[test]
fn priorities_are_cut_to_the_highest_there_is() {
    let classic = QueueSettings::effective(&spec(&[("x-max-priority", Value::U8(10))]), &[], &[]);
    assert_eq!(
        [None, Some(3), Some(200)].map(|p| classic.priority(p)),
        [0, 3, 10]
    );
    let plain = QueueSettings::effective(&spec(&[]), &[], &[]);
    assert_eq!(plain.priority(Some(9)), 0);
    let quorum = QueueSettings::effective(&spec(&[("x-queue-type", text("quorum"))]), &[], &[]);
    assert_eq!(
        [None, Some(3), Some(200)].map(|p| quorum.priority(p)),
        [4, 3, 31]
    );
}
