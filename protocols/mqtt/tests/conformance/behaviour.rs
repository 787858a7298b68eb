//! Section 4: operational behaviour.

use crate::world::*;
use bytes::BytesMut;
use trivium_mqtt::packet::{Ack, Packet, Publish, Qos, Reason, Version};

#[test]
fn mqtt_4_1_0_1() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| {
        (connect.clean_start, connect.session_expiry) = (false, 1)
    });
    client.subscribe("a", Qos::AtLeastOnce);
    advance(100.0);
    world.connected(V5, "other").publish("a", "x");
    assert_eq!(client.take().payload, "x");
}

#[test]
fn mqtt_4_1_0_2() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| {
        (connect.clean_start, connect.session_expiry) = (false, 10)
    });
    client.subscribe("a", Qos::AtLeastOnce);
    client.vanish();
    advance(11.0);
    // Shards notice with the next operations; then the session has gone.
    let mut other = world.connected(V5, "other");
    let gone = (0..100).any(|_| other.publish("a", "x") == Reason::NO_MATCHING_SUBSCRIBERS);
    assert!(gone);
    assert!(!world.client(V5).connect("c", lasting).session_present);
}

#[test]
fn mqtt_4_2_0_1() {
    // Any cut of the stream is the same stream.
    let world = World::new();
    let mut client = world.connected(V5, "c");
    for byte in [0xc0, 0, 0xc0, 0] {
        client.bytes(&[byte]);
    }
    client.expect(&[0xd0, 0, 0xd0, 0]);
}

#[test]
fn mqtt_4_3_1_1() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtMostOnce);
    client.publish("a", "x");
    let got = client.take();
    assert_eq!((got.qos, got.dup), (Qos::AtMostOnce, false));
}

#[test]
fn mqtt_4_3_2_1() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.publish("a", "1");
    client.publish("a", "2");
    assert_ne!(client.message().packet_id, client.message().packet_id);
}

#[test]
fn mqtt_4_3_2_2() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.publish("a", "1");
    let got = client.message();
    assert!(got.packet_id != 0 && got.qos == Qos::AtLeastOnce && !got.dup);
}

#[test]
fn mqtt_4_3_2_3() {
    // It counts as unacknowledged until PUBACK.
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    world.connected(V5, "other").publish("a", "x");
    client.message();
    client.vanish();
    let mut client = world.durable(V5, "c");
    let again = client.take();
    assert!(again.dup);
    client.before_pong();
    client.vanish();
    let mut client = world.durable(V5, "c");
    assert_eq!(client.before_pong(), []);
}

#[test]
fn mqtt_4_3_2_4() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtMostOnce);
    client.bytes(&[0x32, 6, 0, 1, b'a', 0x55, 0x66, 0]);
    let mut seen = vec![client.packet(), client.packet()];
    seen.retain(|packet| matches!(packet, Packet::PubAck(_)));
    assert_eq!(seen, [Packet::PubAck(Ack::new(0x5566, Reason::SUCCESS))]);
}

#[test]
fn mqtt_4_3_2_5() {
    // After PUBACK the identifier is a new message's, whatever DUP says.
    let world = World::new();
    let mut subscriber = world.connected(V5, "subscriber");
    subscriber.subscribe("a", Qos::AtLeastOnce);
    let mut client = world.connected(V5, "c");
    client.publish("a", "1");
    client.publish_with(Publish {
        dup: true,
        qos: Qos::AtLeastOnce,
        ..message("a", "2")
    });
    subscriber.take_all(&["1", "2"]);
}

#[test]
fn mqtt_4_4_0_1() {
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    other.publish("a", "1");
    other.publish("a", "2");
    assert_eq!(client.message().payload, "1");
    assert_eq!(client.message().payload, "2");
    // Never on the live connection, however long it takes.
    client.wait(1000.0);
    assert_eq!(client.before_pong(), []);
    client.vanish();
    let mut client = world.durable(V5, "c");
    for payload in ["1", "2"] {
        let again = client.take();
        assert_eq!((&again.payload[..], again.dup), (payload.as_bytes(), true));
    }
}

#[test]
fn mqtt_4_4_0_2() {
    // An acknowledgement with an error is one, at both QoS: nothing follows it, now or after a reconnect.
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let world = World::new();
        let mut client = world.durable(V5, "c");
        client.subscribe("a", qos);
        world.connected(V5, "other").publish_with(Publish {
            qos,
            ..message("a", "x")
        });
        let refusal = Ack::new(client.message().packet_id, Reason::QUOTA_EXCEEDED);
        client.send(match qos {
            Qos::ExactlyOnce => Packet::PubRec(refusal),
            _ => Packet::PubAck(refusal),
        });
        assert_eq!(client.before_pong(), []);
        client.vanish();
        let mut client = world.durable(V5, "c");
        assert_eq!(client.before_pong(), []);
    }
}

#[test]
fn mqtt_4_5_0_1() {
    let world = World::new();
    let mut one = world.durable(V5, "one");
    one.subscribe("a", Qos::AtLeastOnce);
    one.disconnect();
    let mut two = world.connected(V5, "two");
    two.subscribe("a", Qos::AtLeastOnce);
    two.publish("a", "x");
    two.take_all(&["x"]);
    world.durable(V5, "one").take_all(&["x"]);
}

#[test]
fn mqtt_4_6_0_1() {
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("#", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    for number in 0..10 {
        other.publish(&format!("t{number}"), &number.to_string());
    }
    for _ in 0..10 {
        client.message();
    }
    client.vanish();
    let mut client = world.durable(V5, "c");
    client.take_all(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[test]
fn mqtt_4_6_0_2() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    let mut packets = BytesMut::new();
    for packet_id in [5, 3, 9, 1] {
        Packet::Publish(Publish {
            packet_id,
            qos: Qos::AtLeastOnce,
            // One of them is stored, which takes longer.
            retain: packet_id == 5,
            ..message("a", "x")
        })
        .encode(V5, &mut packets);
    }
    client.bytes(&packets);
    for packet_id in [5, 3, 9, 1] {
        assert!(matches!(client.packet(), Packet::PubAck(ack) if ack.packet_id == packet_id));
    }
}

#[test]
fn mqtt_4_6_0_5() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    let payloads: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    for payload in &payloads {
        other.publish("a", payload);
    }
    client.take_all(&payloads.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn mqtt_4_6_0_6() {
    // A topic is ordered for every subscriber that is not shared, whatever else is published.
    let world = World::new();
    let mut one = world.connected(V5, "one");
    let mut two = world.connected(V5, "two");
    one.subscribe("a/#", Qos::AtLeastOnce);
    two.subscribe("+/b", Qos::AtMostOnce);
    let mut other = world.connected(V5, "other");
    for payload in ["1", "2", "3"] {
        other.publish("a/b", payload);
        other.publish("c/b", "-");
    }
    one.take_all(&["1", "2", "3"]);
    two.take_all(&["1", "-", "2", "-", "3", "-"]);
}

/// Which of these topics a filter is sent.
fn matched(filter: &str, topics: &[&str]) -> Vec<String> {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe(filter, Qos::AtLeastOnce);
    client.subscribe("fence", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    for topic in topics {
        other.publish(topic, "x");
    }
    other.publish("fence", "fence");
    let mut found = Vec::new();
    loop {
        let got = client.take();
        if got.payload == "fence" {
            return found;
        }
        found.push(got.topic.to_string());
    }
}

#[test]
fn mqtt_4_7_0_1() {
    each_closes(
        &[
            (&[V5], &[0x30, 5, 0, 2, b'a', b'+', 0]),
            (&[V5], &[0x30, 5, 0, 2, b'/', b'#', 0]),
        ],
        Reason::MALFORMED_PACKET,
    );
}

#[test]
fn mqtt_4_7_1_1() {
    each_closes(
        &[
            (&[V5], &[0x82, 8, 0, 1, 0, 0, 2, b'a', b'#', 0]),
            (&[V5], &[0x82, 10, 0, 1, 0, 0, 4, b'a', b'/', b'#', b'/', 0]),
        ],
        Reason::MALFORMED_PACKET,
    );
    assert_eq!(
        matched("a/#", &["a", "a/b", "a/b/c", "ab", "b/a"]),
        ["a", "a/b", "a/b/c"]
    );
}

#[test]
fn mqtt_4_7_1_2() {
    each_closes(
        &[
            (&[V5], &[0x82, 8, 0, 1, 0, 0, 2, b'a', b'+', 0]),
            (&[V5], &[0x82, 9, 0, 1, 0, 0, 3, b'+', b'b', b'/', 0]),
        ],
        Reason::MALFORMED_PACKET,
    );
    assert_eq!(
        matched("a/+/c", &["a/b/c", "a//c", "a/c", "a/b/c/d"]),
        ["a/b/c", "a//c"]
    );
    assert_eq!(matched("/+", &["/a", "a", "/"]), ["/a", "/"]);
}

#[test]
fn mqtt_4_7_2_1() {
    leading_wildcards_miss_dollar_topics(V5);
}

/// What the broker says below `$` is not for filters that begin with a wildcard, and is for those that name it. No client
/// can publish there.
pub fn leading_wildcards_miss_dollar_topics(version: Version) {
    let world = World::new();
    let mut client = world.connected(version, "c");
    for filter in ["#", "+/x", "+/#"] {
        client.subscribe(filter, Qos::AtLeastOnce);
    }
    let mut named = world.connected(version, "named");
    named.subscribe("$mine/+", Qos::AtLeastOnce);
    world.announce("$mine/x", "x");
    assert_eq!(named.take().payload, "x");
    let mut other = world.connected(version, "other");
    other.publish("$mine/x", "not a client's");
    client.nothing_before(&mut other, "fence");
    assert_eq!(named.before_pong(), []);
}

#[test]
fn mqtt_4_7_3_1() {
    each_closes(
        &[(&[V5], &[0x82, 6, 0, 1, 0, 0, 0, 0])],
        Reason::MALFORMED_PACKET,
    );
    each_closes(&[(&[V5], &[0x30, 3, 0, 0, 0])], Reason::PROTOCOL_ERROR);
    assert_eq!(matched("+", &[" ", "a"]), [" ", "a"]);
}

#[test]
fn mqtt_4_7_3_2() {
    each_closes(
        &[
            (&[V5], &[0x30, 5, 0, 2, b'a', 0, 0]),
            (&[V5], &[0x82, 8, 0, 1, 0, 0, 2, 0, b'a', 0]),
        ],
        Reason::MALFORMED_PACKET,
    );
}

#[test]
fn mqtt_4_7_3_3() {
    let longest = "x".repeat(65_535);
    assert_eq!(matched(&longest, &[&longest]).concat(), longest);
}

#[test]
fn mqtt_4_7_3_4() {
    // Letters that look alike, composed and decomposed, capitals, empty levels: all are different.
    let topics = [
        "ACCOUNTS", "Accounts", "accounts", "\u{e9}", "e\u{301}", "a//b", "a/b", "/a", "a/",
    ];
    for topic in topics {
        assert_eq!(matched(topic, &topics), [topic]);
    }
}

#[test]
fn mqtt_4_9_0_1() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.receive_maximum = 3);
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    for payload in ["1", "2", "3", "4"] {
        other.publish("a", payload);
    }
    for _ in 0..3 {
        client.message();
    }
    assert_eq!(client.before_pong(), []);
}

#[test]
fn mqtt_4_9_0_2() {
    // Each message takes one of the quota, and none is sent without; each acknowledgement adds one, an error as well.
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.receive_maximum = 1);
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    for payload in ["1", "2", "3"] {
        other.publish("a", payload);
    }
    for reason in [Reason::SUCCESS, Reason::UNSPECIFIED] {
        let id = client.message().packet_id;
        assert_eq!(client.before_pong(), []);
        client.send(Packet::PubAck(Ack::new(id, reason)));
    }
    assert_eq!(client.message().payload, "3");
}

#[test]
fn mqtt_4_9_0_3() {
    // QoS 0 passes a window that is full.
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.receive_maximum = 1);
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    other.publish("a", "1");
    client.message();
    assert_eq!(client.before_pong(), []);
    assert_eq!(client.subscribe("b", Qos::AtMostOnce), [Reason(0)]);
    other.publish("b", "passes");
    assert_eq!(client.message().payload, "passes");
}

#[test]
fn mqtt_4_13_1_1() {
    each_closes(
        &[(&[V5], &[0x40, 1, 0]), (&[V5], &[0xd0, 1, 0])],
        Reason::MALFORMED_PACKET,
    );
    // Packets that are a server's to send.
    each_closes(
        &[
            (&[V5], &[0x20, 3, 0, 0, 0]),
            (&[V5], &[0x90, 4, 0, 1, 0, 0]),
            (&[V5], &[0xb0, 4, 0, 1, 0, 0]),
            (&[V5], &[0xd0, 0]),
        ],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn mqtt_4_13_2_1() {
    // An error that the server tells in DISCONNECT or CONNACK, and one that the client tells.
    let world = World::with(|options| options.maximum_packet_size = 100);
    let mut client = world.connected(V5, "c");
    client
        .bytes(&[0x30, 0x80, 0x01])
        .closed_with(Reason::PACKET_TOO_LARGE);
    let mut client = world.client(V5);
    let refused = client.connect("c", |connect| connect.user = Some("bob".into()));
    assert!(refused.reason.is_error());
    client.closed();
    let mut client = world.connected(V5, "c");
    client.bytes(&[0xe0, 1, Reason::UNSPECIFIED.0]).closed();
}
