//! Section 4: operational behaviour.

use super::close;
use crate::behaviour::leading_wildcards_miss_dollar_topics;
use crate::qos2::{ok, pair, publish, received_once, sent};
use crate::world::*;
use bytes::BytesMut;
use trivium_mqtt::packet::{Ack, Packet, Publish, Qos, Reason};

#[test]
fn mqtt311_4_1_0_1() {
    // The state of a session lasts at least as long as the connection.
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.wait(1_000_000.0);
    client.publish("a", "x");
    assert_eq!(client.take().payload, "x");
}

#[test]
fn mqtt311_4_1_0_2() {
    // A clean session lasts as long as its connection, and no longer.
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.wait(1_000_000.0);
    let mut other = world.connected(V5, "other");
    assert_eq!(other.publish("a", "x"), Reason::SUCCESS);
    assert_eq!(client.take().payload, "x");
    client.vanish();
    let gone = (0..100).any(|_| other.publish("a", "y") == Reason::NO_MATCHING_SUBSCRIBERS);
    assert!(gone);
}

#[test]
fn mqtt311_4_3_1_1() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtMostOnce);
    client.publish("a", "x");
    let got = client.take();
    assert_eq!((got.qos, got.dup), (Qos::AtMostOnce, false));
}

#[test]
fn mqtt311_4_3_2_1() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.publish("a", "1");
    let got = client.message();
    assert!(got.packet_id != 0 && got.qos == Qos::AtLeastOnce && !got.dup);
}

#[test]
fn mqtt311_4_3_2_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtMostOnce);
    // The same identifier again is a new message, with DUP as without.
    for first in [0x32, 0x32, 0x3a] {
        client.bytes(&[first, 5, 0, 1, b'a', 0x55, 0x66]);
        let mut answers = [client.raw_packet(), client.raw_packet()];
        answers.sort();
        assert_eq!(
            answers,
            [vec![0x30, 3, 0, 1, b'a'], vec![0x40, 2, 0x55, 0x66]]
        );
    }
}

#[test]
fn mqtt311_4_3_3_1() {
    let world = World::new();
    let (mut client, got) = sent(&world, V311);
    assert!(got.packet_id != 0 && got.qos == Qos::ExactlyOnce && !got.dup);
    client.send(Packet::PubRec(ok(got.packet_id)));
    assert_eq!(client.packet(), Packet::PubRel(ok(got.packet_id)));
    client.send(Packet::PubComp(ok(got.packet_id)));
    client.vanish();
    assert_eq!(world.durable(V311, "c").before_pong(), []);
}

#[test]
fn mqtt311_4_3_3_2() {
    received_once(V311);
    received_once(V31);
}

#[test]
fn mqtt311_4_4_0_1() {
    let world = World::new();
    for version in V3 {
        let mut client = world.durable(version, "c");
        client.subscribe("a", Qos::AtLeastOnce);
        world.connected(V311, "other").publish("a", "x");
        client.message();
        client.vanish();
        let mut client = world.durable(version, "c");
        assert!(client.take().dup);
        client.unsubscribe(&["a"]);
        client.disconnect();
    }
}

#[test]
fn mqtt311_4_5_0_1() {
    let world = World::new();
    let mut one = world.durable(V311, "one");
    one.subscribe("a", Qos::AtLeastOnce);
    one.disconnect();
    world.connected(V311, "two").publish("a", "x");
    world.durable(V311, "one").take_all(&["x"]);
}

#[test]
fn mqtt311_4_6_0_1() {
    let world = World::new();
    let mut client = world.durable(V311, "c");
    client.subscribe("#", Qos::AtLeastOnce);
    let mut other = world.connected(V311, "other");
    for payload in ["1", "2", "3"] {
        other.publish("a", payload);
        client.message();
    }
    client.vanish();
    world.durable(V311, "c").take_all(&["1", "2", "3"]);
}

#[test]
fn mqtt311_4_6_0_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    let mut packets = BytesMut::new();
    for packet_id in [5, 3, 9] {
        Packet::Publish(Publish {
            packet_id,
            qos: Qos::AtLeastOnce,
            retain: packet_id == 5,
            ..message("a", "x")
        })
        .encode(V311, &mut packets);
    }
    client.bytes(&packets);
    for packet_id in [5, 3, 9] {
        assert_eq!(
            client.packet(),
            Packet::PubAck(Ack::new(packet_id, Reason::SUCCESS))
        );
    }
}

#[test]
fn mqtt311_4_6_0_3() {
    let world = World::new();
    let (_watcher, mut client) = pair(&world, V311);
    for packet_id in [5, 3, 9] {
        client.send(publish(packet_id, "x"));
    }
    for packet_id in [5, 3, 9] {
        assert_eq!(client.packet(), Packet::PubRec(ok(packet_id)));
    }
}

#[test]
fn mqtt311_4_6_0_4() {
    let world = World::new();
    let (mut client, first) = sent(&world, V311);
    world.connected(V5, "other").publish_with(Publish {
        qos: Qos::ExactlyOnce,
        ..message("a", "y")
    });
    let second = client.message();
    for packet_id in [second.packet_id, first.packet_id] {
        client.send(Packet::PubRec(ok(packet_id)));
    }
    for packet_id in [second.packet_id, first.packet_id] {
        assert_eq!(client.packet(), Packet::PubRel(ok(packet_id)));
    }
}

#[test]
fn mqtt311_4_6_0_5() {
    // Topics are ordered without being told to be, at every QoS.
    let world = World::new();
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut client = world.connected(V311, "c");
        client.subscribe("some/+", qos);
        let mut other = world.connected(V311, "other");
        let payloads: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        for payload in &payloads {
            other.publish_with(Publish {
                qos,
                ..message("some/topic", payload)
            });
        }
        for payload in payloads {
            assert_eq!(client.take().payload, payload);
        }
    }
}

#[test]
fn mqtt311_4_6_0_6() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V311, "other");
    for payload in ["1", "2", "3"] {
        other.publish("a", payload);
    }
    client.take_all(&["1", "2", "3"]);
}

#[test]
fn mqtt311_4_7_1_1() {
    close(&[&[0x30, 4, 0, 2, b'a', b'+']]);
}

#[test]
fn mqtt311_4_7_1_2() {
    close(&[
        &[0x82, 7, 0, 1, 0, 2, b'a', b'#', 0],
        &[0x82, 8, 0, 1, 0, 3, b'#', b'/', b'a', 0],
    ]);
}

#[test]
fn mqtt311_4_7_1_3() {
    close(&[&[0x82, 7, 0, 1, 0, 2, b'a', b'+', 0]]);
}

#[test]
fn mqtt311_4_7_2_1() {
    leading_wildcards_miss_dollar_topics(V311);
}

#[test]
fn mqtt311_4_7_3_1() {
    close(&[&[0x82, 5, 0, 1, 0, 0, 0], &[0x30, 2, 0, 0]]);
}

#[test]
fn mqtt311_4_7_3_2() {
    close(&[&[0x30, 4, 0, 2, b'a', 0]]);
}

#[test]
fn mqtt311_4_7_3_3() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    let longest = "x".repeat(65_535);
    assert_eq!(client.subscribe(&longest, Qos::AtLeastOnce), [Reason(1)]);
    client.publish(&longest, "x");
    assert_eq!(client.take().topic, longest);
}

#[test]
fn mqtt311_4_7_3_4() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("Accounts", Qos::AtLeastOnce);
    let mut other = world.connected(V311, "other");
    for topic in ["ACCOUNTS", "accounts", "/Accounts", "Accounts/"] {
        other.publish(topic, "other");
    }
    client.nothing_before(&mut other, "Accounts");
}

#[test]
fn mqtt311_4_8_0_1() {
    // A protocol violation ends the connection.
    close(&[
        &[0x20, 2, 0, 0],
        &[0x90, 3, 0, 1, 0],
        &[0xd0, 0],
        &[0x40, 1, 0],
    ]);
}

#[test]
fn mqtt311_4_8_0_2() {
    // A message that cannot be stored ends its connection; it is not acknowledged, and others are served on.
    let world = World::new();
    world.durable(V311, "away").subscribe("a", Qos::AtLeastOnce);
    let mut client = world.connected(V311, "c");
    let mut other = world.connected(V311, "other");
    world.break_store();
    client.bytes(&[0x32, 5, 0, 1, b'a', 0, 9]).closed();
    assert_eq!(other.before_pong(), []);
}
