//! Messages of other protocols to AMQP clients, and AMQP messages in neutral form (DESIGN section 3.4).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use trivium_amqp::{
    field_table,
    foreign::routing_key,
    properties::{Basic, Block, encode},
    rewrite::Returns,
};
use trivium_core::{
    Dialect, Grammar, Message, Native, Origin, Persistence, Plain, Properties, Text, Timestamp,
    Topic, Value, laws,
};

use crate::client::{consume, delivery, story};

/// A dialect whose messages all have the same properties.
struct Fixed(Properties);

impl Dialect for Fixed {
    fn id(&self) -> u8 {
        200
    }

    fn properties(&self, _block: &Bytes) -> Properties {
        self.0.clone()
    }
}

fn foreign(properties: Properties) -> Message {
    let dialect: &'static dyn Dialect = Box::leak(Box::new(Fixed(properties)));
    Message {
        exchange: "amq.topic".into(),
        topic: Topic::new("orders/eu".into(), Grammar::Slashes),
        body: Some(Bytes::from_static(b"{}")),
        key: None,
        timestamp: None,
        expiry_ms: None,
        persistence: Persistence::Unset,
        priority: None,
        retain: false,
        native: Native {
            dialect,
            block: Bytes::new(),
        },
        origin: Arc::new(Origin::default()),
    }
}

/// What an AMQP client would find in the encoded block.
fn seen(message: &Message) -> Properties {
    let mut out = BytesMut::new();
    encode(message, Returns::default(), usize::MAX, &mut out);
    Basic.properties(&out.freeze())
}

fn block(message: &Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(message, Returns::default(), usize::MAX, &mut out);
    out.to_vec()
}

#[test]
fn common_properties_are_native_ones() {
    let properties = Properties {
        content_type: Some("application/json".into()),
        content_encoding: Some("gzip".into()),
        message_id: Some("m-1".into()),
        correlation_id: Some(Bytes::from_static(b"c-1")),
        reply_to: None,
        kind: Some("order".into()),
        app_id: Some("shop".into()),
        user_id: Some("alice".into()),
        headers: vec![
            ("traceparent".into(), Value::Text("00-1".into())),
            ("n".into(), Value::I32(4)),
        ],
    };
    assert_eq!(seen(&foreign(properties.clone())), properties);
}

#[test]
fn a_record_keeps_key_and_time() {
    let mut message = foreign(Properties::default());
    message.key = Some(Bytes::from_static(b"user-1"));
    message.timestamp = Some(Timestamp(1_700_000_000_123));
    message.body = None;
    let block = block(&message);
    // Flags: headers, delivery mode, timestamp; the last eight bytes are seconds, before them delivery mode 2.
    assert_eq!(&block[..2], &[0x30, 0x40]);
    assert_eq!(&block[block.len() - 8..], &1_700_000_000u64.to_be_bytes());
    assert_eq!(block[block.len() - 9], 2);
    let table = field_table::decode(&Bytes::copy_from_slice(&block[6..block.len() - 9])).unwrap();
    assert_eq!(
        table,
        [
            ("x-key".into(), Value::Text("user-1".into())),
            ("mq.tombstone".into(), Value::Bool(true)),
            ("timestamp_in_ms".into(), Value::I64(1_700_000_000_123)),
        ]
    );
}

/// The dialect of records, whose blocks begin with partition and offset.
#[derive(Debug)]
struct OfLog;

impl Dialect for OfLog {
    fn id(&self) -> u8 {
        0
    }

    fn properties(&self, _block: &Bytes) -> Properties {
        let copied = ("x-stream-offset".into(), Value::Text("9".into()));
        Properties {
            headers: vec![copied],
            ..Properties::default()
        }
    }
}

#[test]
fn a_record_says_where_it_is_whatever_it_was_copied_from() {
    let mut message = foreign(Properties::default());
    message.native = Native {
        dialect: &OfLog,
        block: Bytes::from_static(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 42]),
    };
    // A stream remembers that a publisher set no delivery mode.
    assert_eq!(block(&message)[..2], [0x20, 0]);
    message.persistence = Persistence::Persistent;
    let block = block(&message);
    assert_eq!(&block[..2], &[0x30, 0]);
    let table = field_table::decode(&Bytes::copy_from_slice(&block[6..block.len() - 1])).unwrap();
    assert_eq!(
        table,
        [
            ("x-stream-offset".into(), Value::I64(42)),
            ("x-stream-partition".into(), Value::I64(4)),
        ]
    );
}

#[test]
fn a_key_that_is_not_text_is_bytes() {
    let mut message = foreign(Properties::default());
    message.key = Some(Bytes::from_static(b"\xff\0"));
    let block = block(&message);
    assert!(block.windows(9).any(|window| window == b"x-keyx\0\0\0"));
}

#[test]
fn lifetime_priority_and_transience_are_kept() {
    let mut message = foreign(Properties::default());
    message.expiry_ms = Some(1500);
    message.priority = Some(3);
    message.persistence = Persistence::Transient;
    assert_eq!(block(&message), b"\x19\0\x01\x03\x041500");
}

#[test]
fn what_does_not_fit_becomes_a_header() {
    let long: Text = "é".repeat(200).into();
    let correlation = Bytes::from_static(b"\xff\xfe");
    let properties = Properties {
        message_id: Some(long.clone()),
        correlation_id: Some(correlation.clone()),
        ..Properties::default()
    };
    let message = foreign(properties);
    let block = block(&message);
    let holds = |name: &[u8]| block.windows(name.len()).any(|window| window == name);
    assert!(holds(b"\x10x-correlation-idx\0\0\0\x02\xff\xfe"));
    assert!(holds(b"\x0cx-message-idS\0\0\x01\x90"));
    // Who takes it on to another protocol finds it in its place.
    let seen = seen(&message);
    let found = (seen.message_id, seen.correlation_id, seen.headers);
    assert_eq!(found, (Some(long), Some(correlation), vec![]));
}

#[test]
fn of_duplicates_the_last_wins() {
    let text = |text: &'static str| Value::Text(text.into());
    let properties = Properties {
        headers: vec![
            ("n".into(), text("7")),
            ("tag".into(), text("a")),
            ("tag".into(), text("b")),
        ],
        ..Properties::default()
    };
    let duplicates = Value::Table(vec![(
        "tag".into(),
        Value::Array(vec![text("a"), text("b")]),
    )]);
    let block = Bytes::from(block(&foreign(properties)));
    let table = block.slice(6..6 + usize::from(block[5]) + (usize::from(block[4]) << 8));
    assert_eq!(
        field_table::decode(&table).unwrap(),
        [
            ("n".into(), text("7")),
            ("tag".into(), text("b")),
            ("x-dup-headers".into(), duplicates),
        ]
    );
}

#[test]
fn an_mqtt_response_topic_is_an_address_for_replies() {
    let properties = Properties {
        reply_to: Some("clients/7/a.b".into()),
        ..Properties::default()
    };
    let reply_to = seen(&foreign(properties)).reply_to;
    assert_eq!(reply_to.as_deref(), Some("amq.mqtt-reply.clients.7.a%2Eb"));
}

#[test]
fn a_topic_is_seen_as_a_routing_key() {
    story(|client| {
        client.send(1, consume("q", "t", true));
        client.answer(trivium_core::Reply::Ok);
        client.frames();
        let message = Arc::new(foreign(Properties::default()));
        client.deliver(1, vec![delivery(1, &message)]);
        let frames = client.frames();
        assert!(
            frames[0].contains("exchange: \"amq.topic\", routing_key: \"orders.eu\""),
            "{frames:?}"
        );
        assert_eq!(frames[1], "1 header 2 \\x10\\x00\\x02");
        assert_eq!(frames[2], "1 body {}");
    });
}

#[test]
fn a_topic_over_255_bytes_is_shortened_and_kept_as_a_header() {
    story(|client| {
        client.send(1, consume("q", "t", true));
        client.answer(trivium_core::Reply::Ok);
        client.frames();
        let mut message = foreign(Properties::default());
        message.topic = Topic::new("level/".repeat(60).into(), Grammar::Slashes);
        let full = message.topic.render(Grammar::Dots);
        assert_eq!(
            seen(&message).headers,
            [("x-mqtt-topic".into(), Value::Text(full.clone()))]
        );
        client.deliver(1, vec![delivery(1, &Arc::new(message))]);
        let frames = client.frames();
        let key = frames[0]
            .split("routing_key: \"")
            .nth(1)
            .unwrap()
            .trim_end_matches("\" }");
        assert_eq!(key.len(), 255);
        assert_eq!(key[..214], full[..214]);
        assert_eq!(&key[214..215], "~");
    });
}

#[test]
fn a_message_without_properties_is_persistent_by_default() {
    let mut message = foreign(Properties::default());
    message.native = Native {
        dialect: &Plain,
        block: Bytes::new(),
    };
    assert_eq!(block(&message), b"\x10\0\x02");
}

/// A property block of these flags, with the fields behind them.
fn basic(flags: u16, fields: &[u8]) -> Bytes {
    [&flags.to_be_bytes(), fields].concat().into()
}

#[test]
fn design_3_4_what_has_no_place_elsewhere_is_a_header_there() {
    // Message id, which is no UTF-8, and cluster id.
    let block = basic(1 << 7 | 1 << 2, b"\x02\xff\0\x01c");
    let expected = [
        (
            "message-id".into(),
            Value::Bytes(Bytes::from_static(b"\xff\0")),
        ),
        ("mq.cluster-id".into(), Value::Text("c".into())),
    ];
    let properties = Basic.properties(&block);
    assert_eq!(properties.headers, expected);
    assert!(Basic.leaves_persistence_open(&block));
    assert!(!Basic.leaves_persistence_open(&basic(1 << 12, b"\x01")));
    // Back in AMQP.
    let back = self::block(&foreign(properties));
    assert_eq!(back[..2], [0x30, 4]);
    assert_eq!(back[back.len() - 2..], *b"\x01c");
    let headers = field_table::decode(&Bytes::copy_from_slice(&back[6..back.len() - 3])).unwrap();
    let bytes = Value::Bytes(Bytes::from_static(b"\xff\0"));
    assert_eq!(headers, [("x-message-id".into(), bytes.clone())]);
    // And from there again.
    let table = b"\0\0\0\x14\x0cx-message-idx\0\0\0\x02\xff\0";
    let headers = Basic.properties(&basic(1 << 13, table)).headers;
    assert_eq!(headers, [("message-id".into(), bytes)]);
}

#[test]
fn headers_that_came_several_times_come_so_again() {
    let text = |name: &str, value: &str| (Text::from(name), Value::Text(value.into()));
    let given = vec![
        text("a", "1"),
        text("a", "2"),
        text("b", "x"),
        ("a".into(), Value::I32(3)),
    ];
    let properties = |headers| Properties {
        headers,
        ..Properties::default()
    };
    let there = block(&foreign(properties(given.clone())));
    let back = Basic.properties(&there.into()).headers;
    // Those of a name are together; their order is kept.
    assert_eq!(back, [&given[..2], &given[3..], &given[2..3]].concat());
    // A client that has changed one of them means what it says.
    let all = Value::Array(vec![Value::Text("1".into()), Value::Text("2".into())]);
    for all in [all, Value::Array(vec![]), Value::Null] {
        let duplicates = Value::Table(vec![("a".into(), all)]);
        let changed = vec![text("a", "3"), ("x-dup-headers".into(), duplicates)];
        let there = block(&foreign(properties(changed.clone())));
        assert_eq!(Basic.properties(&there.into()).headers, changed);
    }
}

#[test]
fn headers_that_no_frame_can_hold_are_left_out_and_counted() {
    let header = |name: String, size| (name.into(), Value::Text("v".repeat(size).into()));
    let headers = vec![
        header("a".into(), 10),
        header("n".repeat(256), 1),
        header("large".into(), 3000),
        header("b".into(), 20),
        header("larger".into(), 5000),
    ];
    let message = foreign(Properties {
        headers,
        ..Properties::default()
    });
    let mut names = Vec::new();
    for (frame_max, dropped) in [(usize::MAX, 1), (8192, 2), (4096, 3)] {
        let mut out = BytesMut::new();
        let found = encode(&message, Returns::default(), frame_max, &mut out);
        assert_eq!(found, dropped, "{frame_max}");
        assert!(out.len() <= frame_max);
        names.push(seen_in(out.freeze()));
    }
    let names: Vec<String> = names.iter().map(|it| it.join(" ")).collect();
    assert_eq!(names, ["a large b larger", "a large b", "a b"]);
}

fn seen_in(block: Bytes) -> Vec<String> {
    let headers = Basic.properties(&block).headers;
    headers.iter().map(|(name, _)| name.to_string()).collect()
}

#[test]
fn a_block_that_cannot_be_read_has_no_properties() {
    assert_eq!(
        Basic.properties(&Bytes::from_static(b"\xff\xff\0")),
        Properties::default()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(laws::CASES))]

    #[test]
    fn whatever_both_can_express_comes_through(properties in laws::properties()) {
        prop_assert_eq!(seen(&foreign(properties.clone())), properties);
    }

    /// Details are in the block too, where it is parsed as that of a publisher.
    #[test]
    fn details_come_through(details in laws::details()) {
        let message = details.clone().put(foreign(Properties::default()));
        let bytes = block(&message);
        let found = Block::parse(&bytes).unwrap();
        prop_assert_eq!(found.priority(), details.priority);
        prop_assert_eq!(found.persistence(), details.persistence);
        prop_assert_eq!(found.retain(), details.retain);
        prop_assert_eq!(found.key().map(Bytes::copy_from_slice), details.key);
        prop_assert_eq!(found.timestamp(), details.timestamp);
        let expiration = details.expiry_ms.map(|ms| ms.to_string().into_bytes());
        prop_assert_eq!(found.expiration().map(<[u8]>::to_vec), expiration);
    }

    /// A topic that is cut to fit a routing key is still to be had whole.
    #[test]
    fn topics_are_reversible_whatever_their_length(text in "[a-z/.%*25E]{0,20}|[a-zé/.]{230,300}") {
        let topic = Topic::new(text.into(), Grammar::Slashes);
        let message = Message { topic: topic.clone(), ..foreign(Properties::default()) };
        let key = routing_key(&topic).into_owned();
        prop_assert!(key.len() <= 255);
        let headers = seen(&message).headers;
        let full = headers.into_iter().find_map(|(name, value)| match value {
            Value::Text(text) if name == "x-mqtt-topic" => Some(text),
            _ => None,
        });
        let back = Topic::new(full.unwrap_or_else(|| key.into()), Grammar::Dots);
        prop_assert!(back.tokens().eq(topic.tokens()));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        Basic.properties(&bytes.into());
    }
}

/// A header that the core changes on the way (`x-delay`) leaves everything else to the byte.
#[test]
fn a_header_is_replaced_in_its_place() {
    let properties = Properties {
        content_type: Some("text/plain".into()),
        message_id: Some("m".into()),
        headers: vec![
            ("before".into(), Value::I64(1)),
            ("x-delay".into(), Value::I32(5000)),
            ("after".into(), Value::Text("t".into())),
        ],
        ..Properties::default()
    };
    let original = Bytes::from(block(&foreign(properties)));
    let changed = Basic.with_header(&original, "x-delay", &Value::I32(-5000));
    assert_eq!(changed.len(), original.len());
    let mut expected = Basic.properties(&original);
    expected.headers[1].1 = Value::I32(-5000);
    assert_eq!(Basic.properties(&changed), expected);
    let back = Basic.with_header(&changed, "x-delay", &Value::I32(5000));
    assert_eq!(back, original);
    assert_eq!(
        Basic.with_header(&original, "absent", &Value::Null),
        original
    );
    let none = Bytes::from_static(&[0, 0]);
    assert_eq!(Basic.with_header(&none, "x-delay", &Value::I32(1)), none);
}
