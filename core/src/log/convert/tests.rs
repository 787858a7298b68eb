//! Keys, names, tombstones and partitions of records that come from messages, and the way back.

use proptest::prelude::*;

use super::*;
use crate::log::{builder::Builder, record::records};

/// A dialect of tests, whose properties are those below.
#[derive(Debug)]
struct Given(fn() -> Properties, u8);

impl Dialect for Given {
    fn id(&self) -> u8 {
        self.1
    }

    fn properties(&self, _: &Bytes) -> Properties {
        self.0()
    }
}

fn message(exchange: &'static str, topic: Topic, dialect: &'static dyn Dialect) -> Message {
    Message {
        exchange: exchange.into(),
        topic,
        body: Some("body".into()),
        key: None,
        timestamp: Some(Timestamp(7)),
        expiry_ms: None,
        persistence: Persistence::Unset,
        priority: None,
        retain: false,
        native: Native {
            dialect,
            block: Bytes::new(),
        },
        origin: Arc::new(Origin {
            client: "dev1".into(),
            ..Origin::default()
        }),
    }
}

fn slashes(text: &'static str) -> Topic {
    Topic::new(text.into(), Grammar::Slashes)
}

fn keyed(key: KeyRule) -> Settings {
    Settings {
        key,
        ..Settings::default()
    }
}

fn shown(record: &NewRecord) -> Vec<(String, Option<String>)> {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    headers(record.headers.clone())
        .map(|(name, value)| (name.to_string(), value.map(text)))
        .collect()
}

fn as_message(record: &NewRecord) -> Message {
    let record = Record {
        offset_delta: 2,
        timestamp: record.timestamp.map_or(-1, |timestamp| timestamp.0 as i64),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    };
    message_from_record(
        &"t".into(),
        4,
        Offset(42),
        record,
        &"amq.topic".into(),
        &Arc::default(),
    )
}

#[test]
fn the_topic_in_dots_is_the_key_but_not_on_the_default_exchange() {
    let key = |exchange, settings: &Settings| {
        record_from_message(
            &message(exchange, slashes("a/b.c"), &crate::message::Plain),
            settings,
        )
        .key
    };
    assert_eq!(key("amq.topic", &Settings::default()).unwrap(), "a.b%2Ec");
    assert_eq!(key("", &Settings::default()), None);
    assert_eq!(key("", &keyed(KeyRule::ClientId)).unwrap(), "dev1");
    assert_eq!(key("amq.topic", &keyed(KeyRule::Level(2))).unwrap(), "b.c");
    assert_eq!(key("amq.topic", &keyed(KeyRule::Level(3))), None);
    assert_eq!(key("amq.topic", &keyed(KeyRule::None)), None);
}

#[test]
fn the_publishers_key_comes_before_the_header_and_the_header_before_the_rule() {
    static DIALECT: Given = Given(
        || Properties {
            headers: vec![("x-key".into(), Value::Text("mine".into()))],
            ..Properties::default()
        },
        1,
    );
    let mut message = message("amq.topic", slashes("t"), &DIALECT);
    let record = record_from_message(&message, &Settings::default());
    assert_eq!(
        (record.key.clone().unwrap(), shown(&record)),
        ("mine".into(), vec![])
    );
    message.key = Some("own".into());
    assert_eq!(
        record_from_message(&message, &Settings::default())
            .key
            .unwrap(),
        "own"
    );
}

#[test]
fn properties_get_their_common_names_and_win_against_headers_of_that_name() {
    static DIALECT: Given = Given(
        || Properties {
            content_type: Some("text/plain".into()),
            correlation_id: Some(Bytes::from_static(b"\xff\x00")),
            kind: Some("event".into()),
            headers: vec![
                ("content-type".into(), Value::Text("loses".into())),
                ("message-id".into(), Value::Text("fills".into())),
                ("n".into(), Value::I32(5)),
                ("n".into(), Value::I32(6)),
                ("none".into(), Value::Null),
                ("BCC".into(), Value::Array(vec![])),
            ],
            ..Properties::default()
        },
        1,
    );
    let mut message = message("", slashes("t"), &DIALECT);
    (message.priority, message.expiry_ms) = (Some(3), Some(60_000));
    message.persistence = Persistence::Transient;
    let record = record_from_message(&message, &Settings::default());
    let names: Vec<String> = shown(&record).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "content-type",
        "correlation-id",
        "mq.type",
        "mq.priority",
        "mq.ttl-ms",
        "mq.persistent",
        "message-id",
        "n",
        "n",
        "none",
        "mq.types",
    ];
    assert_eq!(names, expected);
    assert_eq!(shown(&record)[9], ("none".into(), None));

    let back = as_message(&record);
    assert_eq!(
        (back.priority, back.expiry_ms, back.persistence),
        (Some(3), Some(60_000), Persistence::Transient)
    );
    let properties = back.properties();
    assert_eq!(properties.content_type.unwrap(), "text/plain");
    assert_eq!(
        properties.correlation_id.unwrap(),
        Bytes::from_static(b"\xff\x00")
    );
    assert_eq!(properties.message_id.unwrap(), "fills");
    let n = |n| ("n".into(), Value::I32(n));
    assert_eq!(
        properties.headers,
        [n(5), n(6), ("none".into(), Value::Null)]
    );
}

#[test]
fn what_cannot_be_a_property_stays_a_header() {
    let pair =
        |name: &str, value: &'static [u8]| (Text::from(name), Some(Bytes::from_static(value)));
    let given = [
        pair("mq.priority", b"300"),
        pair("mq.ttl-ms", b"-5"),
        pair("mq.persistent", b"perhaps"),
        pair("message-id", b"\xff"),
        pair("content-type", b"a"),
        pair("content-type", b"b"),
        ("correlation-id".into(), None),
        pair("mq.timestamp-ms", b"77"),
    ];
    let message = as_message(&NewRecord {
        timestamp: Some(Timestamp(7)),
        key: None,
        value: None,
        headers: write_headers(&given),
    });
    let properties = message.properties();
    assert_eq!(properties.content_type, Some("b".into()));
    let names: Vec<&str> = properties.headers.iter().map(|(name, _)| &**name).collect();
    let expected = [
        "mq.priority",
        "mq.ttl-ms",
        "mq.persistent",
        "message-id",
        "content-type",
        "correlation-id",
    ];
    assert_eq!(names, expected);
    // Only a stream says a time beside that of its records.
    assert_eq!(message.timestamp, Some(Timestamp(7)));
    assert_eq!(message.persistence, Persistence::Persistent);
}

/// A dialect whose messages do not say whether they have to survive.
#[derive(Debug)]
struct Open;

impl Dialect for Open {
    fn id(&self) -> u8 {
        1
    }

    fn properties(&self, _: &Bytes) -> Properties {
        Properties::default()
    }

    fn leaves_persistence_open(&self, _: &Bytes) -> bool {
        true
    }
}

#[test]
fn unset_is_not_transient_and_a_stream_remembers_it() {
    let mut message = message("x", slashes("t"), &Open);
    message.persistence = Persistence::Transient;
    assert_eq!(
        shown(&record_from_message(&message, &Settings::default())),
        []
    );
    let stream = Settings {
        envelope: true,
        ..Settings::default()
    };
    let record = record_from_message(&message, &stream);
    assert!(shown(&record).contains(&("mq.persistent".into(), None)));
    assert_eq!(as_message(&record).persistence, Persistence::Unset);
}

#[test]
fn mqtt_marks_its_reply_topic_and_its_quality_of_service() {
    static DIALECT: Given = Given(
        || Properties {
            reply_to: Some("r/1".into()),
            ..Properties::default()
        },
        2,
    );
    let mut message = message("amq.topic", slashes("t"), &DIALECT);
    message.retain = true;
    let pair = |name: &str, value: &str| (name.to_string(), Some(value.to_string()));
    for (persistence, qos) in [
        (Persistence::Transient, "0"),
        (Persistence::ExactlyOnce, "2"),
    ] {
        message.persistence = persistence;
        let expected = [
            pair("reply-to", "mqtt:r/1"),
            pair("mq.qos", qos),
            pair("mq.retain", "1"),
        ];
        assert_eq!(
            shown(&record_from_message(&message, &Settings::default())),
            expected
        );
    }
}

#[test]
fn tombstones_are_null_and_empty_is_not() {
    static DIALECT: Given = Given(
        || Properties {
            headers: vec![("mq.tombstone".into(), Value::Bool(true))],
            ..Properties::default()
        },
        1,
    );
    let tombstone = record_from_message(&message("", slashes("t"), &DIALECT), &Settings::default());
    assert_eq!((tombstone.value.clone(), shown(&tombstone)), (None, vec![]));
    let mut clearing = message("amq.topic", slashes("t"), &crate::message::Plain);
    (clearing.body, clearing.retain) = (Some(Bytes::new()), true);
    assert_eq!(
        record_from_message(&clearing, &Settings::default()).value,
        Some(Bytes::new())
    );
    let compact = Settings {
        compact: Some(Default::default()),
        ..Settings::default()
    };
    assert_eq!(record_from_message(&clearing, &compact).value, None);
}

#[test]
fn keys_are_placed_as_the_java_client_places_them() {
    // Values of the Java client's own test of its hash.
    let known: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
        ("abc", 479_470_107),
    ];
    for (key, hash) in known {
        assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
    }
    assert_eq!(
        partition_for(Some(b"abc"), 4, ConnectionId(9)),
        (479_470_107 % 4) as u32
    );
    assert_eq!(partition_for(None, 4, ConnectionId(9)), 1);
}

#[test]
fn a_record_knows_its_place() {
    let record = NewRecord {
        timestamp: None,
        key: None,
        value: None,
        headers: Bytes::from_static(b"\0"),
    };
    let message = as_message(&record);
    assert_eq!(record_place(&message.native), Some((4, Offset(42))));
    assert_eq!(
        (message.timestamp, message.body, message.topic.text()),
        (None, None, &Text::from("t"))
    );
    let other = Native {
        dialect: &crate::message::Plain,
        block: message.native.block,
    };
    assert_eq!(record_place(&other), None);
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

proptest! {
    /// Kafka → log → Kafka by way of a message: the identity, headers to the byte.
    #[test]
    fn record_to_message_to_record_is_the_identity(
        key in proptest::option::of(bytes()),
        value in proptest::option::of(bytes()),
        timestamp in proptest::option::of(0..1_u64 << 40),
        pairs in proptest::collection::vec(("[a-z.:,-]{0,6}|mq.types|mq.ttl-ms", proptest::option::of(bytes())), 0..6),
    ) {
        let pairs: Vec<RecordHeader> = pairs.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let timestamp = timestamp.map(Timestamp);
        let record = NewRecord { timestamp, key, value, headers: write_headers(&pairs) };
        let message = as_message(&record);
        message.properties();
        prop_assert_eq!(record_from_message(&message, &Settings::default()), record);
    }

    #[test]
    fn built_records_are_read_back(
        given in proptest::collection::vec((0..1_i64 << 40, proptest::option::of(bytes()), proptest::option::of(bytes())), 1..20),
    ) {
        let mut builder = Builder::default();
        let headers = write_headers(&[("h".into(), None), ("h".into(), Some("v".into()))]);
        for (timestamp, key, value) in &given {
            builder.push(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        let batch = builder.finish();
        let header = crate::log::validate(&batch).unwrap();
        prop_assert_eq!(header.max_timestamp, given.iter().map(|(timestamp, ..)| *timestamp).max().unwrap());
        let read: Vec<Record> = records(&batch, 1 << 20).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(read.len(), given.len());
        for (at, (record, (timestamp, key, value))) in read.into_iter().zip(given).enumerate() {
            let expected = Record { offset_delta: at as u32, timestamp, key, value, headers: headers.clone() };
            prop_assert_eq!(record, expected);
        }
    }
}
