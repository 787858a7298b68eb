//! Sections 3.1 and 3.2: CONNECT and CONNACK.

use super::refused_silently;
use crate::world::*;
use bytes::Bytes;
use trivium_mqtt::packet::{Connect, Packet, Publish, Qos, Reason};

#[test]
fn mqtt311_3_1_0_1() {
    let world = World::new();
    for version in V3 {
        world.client(version).bytes(&[0xc0, 0]).closed();
    }
}

#[test]
fn mqtt311_3_1_0_2() {
    let world = World::new();
    for version in V3 {
        let mut client = world.connected(version, "c");
        client
            .send(Packet::Connect(Box::new(Connect::new(version, "c".into()))))
            .closed();
    }
}

#[test]
fn mqtt311_3_1_2_1() {
    let world = World::new();
    let mut client = world.client(V311);
    client
        .bytes(b"\x10\x0d\0\x04MQTX\x04\x02\0\0\0\x01c")
        .closed();
}

#[test]
fn mqtt311_3_1_2_2() {
    let world = World::new();
    let mut client = world.client(V311);
    client
        .bytes(b"\x10\x0d\0\x04MQTT\x01\x02\0\0\0\x01c")
        .expect(&[0x20, 2, 0, 1])
        .closed();
}

#[test]
fn mqtt311_3_1_2_3() {
    refused_silently(3, &[0, 1, b'c']);
}

#[test]
fn mqtt311_3_1_2_4() {
    let world = World::new();
    for version in V3 {
        let mut client = world.durable(version, "c");
        client.subscribe("a", Qos::AtLeastOnce);
        client.disconnect();
        world.connected(V5, "other").publish("a", "kept");
        let mut client = world.durable(version, "c");
        client.take_all(&["kept"]);
        client.unsubscribe(&["a"]);
        client.disconnect();
    }
}

#[test]
fn mqtt311_3_1_2_5() {
    // QoS 1 that arrives while the client is away is stored.
    let world = World::new();
    let mut client = world.durable(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.vanish();
    let mut other = world.connected(V311, "other");
    for payload in ["1", "2"] {
        other.publish("a", payload);
    }
    world.durable(V311, "c").take_all(&["1", "2"]);
}

#[test]
fn mqtt311_3_1_2_6() {
    let world = World::new();
    for version in V3 {
        let mut client = world.durable(version, "c");
        client.subscribe("a", Qos::AtLeastOnce);
        client.disconnect();
        let mut client = world.connected(version, "c");
        assert_eq!(
            world.connected(V5, "other").publish("a", "x"),
            Reason::NO_MATCHING_SUBSCRIBERS
        );
        assert_eq!(client.before_pong(), []);
    }
}

#[test]
fn mqtt311_3_1_2_7() {
    // Retained messages are no part of a session.
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.publish_with(Publish {
        retain: true,
        qos: Qos::AtLeastOnce,
        ..message("a", "kept")
    });
    client.disconnect();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    assert_eq!(client.take().payload, "kept");
}

fn with_will(world: &World, id: &str, retain: bool) {
    let mut client = world.client(V311);
    client.connect(id, |connect| {
        connect.will = Some(trivium_mqtt::packet::Will {
            retain,
            ..will("gone", id)
        });
    });
    client.vanish();
}

#[test]
fn mqtt311_3_1_2_8() {
    let world = World::new();
    let mut watcher = world.connected(V311, "watcher");
    watcher.subscribe("gone", Qos::AtLeastOnce);
    with_will(&world, "c", false);
    watcher.take_all(&["c"]);
}

#[test]
fn mqtt311_3_1_2_9() {
    refused_silently(0x06, &[0, 1, b'c']);
}

#[test]
fn mqtt311_3_1_2_10() {
    let world = World::new();
    let mut watcher = world.connected(V311, "watcher");
    watcher.subscribe("gone", Qos::AtLeastOnce);
    let mut client = world.client(V311);
    client.connect("c", |connect| connect.will = Some(will("gone", "will")));
    client.disconnect();
    let mut other = world.connected(V311, "other");
    watcher.nothing_before(&mut other, "gone");
}

#[test]
fn mqtt311_3_1_2_11() {
    refused_silently(0x0a, &[0, 1, b'c']);
}

#[test]
fn mqtt311_3_1_2_12() {
    let world = World::new();
    let mut watcher = world.connected(V311, "watcher");
    watcher.subscribe("#", Qos::AtLeastOnce);
    world.connected(V311, "c").vanish();
    let mut other = world.connected(V311, "other");
    watcher.nothing_before(&mut other, "fence");
}

#[test]
fn mqtt311_3_1_2_13() {
    // Without the flag, no QoS of a will, also where its fields are there.
    for flags in [0x0a, 0x12] {
        refused_silently(flags, &[0, 1, b'c', 0, 1, b'w', 0, 1, b'x']);
    }
}

#[test]
fn mqtt311_3_1_2_14() {
    refused_silently(0x1e, &[0, 1, b'c', 0, 1, b'w', 0, 1, b'x']);
}

#[test]
fn mqtt311_3_1_2_15() {
    refused_silently(0x22, &[0, 1, b'c']);
}

#[test]
fn mqtt311_3_1_2_16() {
    let world = World::new();
    with_will(&world, "c", false);
    let mut late = world.connected(V311, "late");
    late.subscribe("gone", Qos::AtLeastOnce);
    assert_eq!(late.before_pong(), []);
}

#[test]
fn mqtt311_3_1_2_17() {
    let world = World::new();
    let mut watcher = world.connected(V311, "watcher");
    watcher.subscribe("gone", Qos::AtLeastOnce);
    with_will(&world, "c", true);
    watcher.take_all(&["c"]);
    let mut late = world.connected(V311, "late");
    late.subscribe("gone", Qos::AtLeastOnce);
    assert!(late.take().retain);
}

#[test]
fn mqtt311_3_1_2_18() {
    refused_silently(0x02, &[0, 1, b'c', 0, 1, b'u']);
}

#[test]
fn mqtt311_3_1_2_19() {
    refused_silently(0x82, &[0, 1, b'c']);
}

#[test]
fn mqtt311_3_1_2_20() {
    refused_silently(0x82, &[0, 1, b'c', 0, 1, b'u', 0, 1, b'p']);
}

#[test]
fn mqtt311_3_1_2_21() {
    refused_silently(0xc2, &[0, 1, b'c', 0, 1, b'u']);
}

#[test]
fn mqtt311_3_1_2_22() {
    refused_silently(0x42, &[0, 1, b'c', 0, 1, b'p']);
}

#[test]
fn mqtt311_3_1_2_24() {
    let world = World::new();
    for version in V3 {
        let mut client = world.client(version);
        client.connect("c", |connect| connect.keep_alive = 10);
        client.wait(14.0);
        assert!(!client.is_closed());
        client.wait(1.2).closed();
        // 0 is off.
        let mut client = world.connected(version, "d");
        client.wait(100_000.0);
        assert_eq!(client.before_pong(), []);
    }
}

#[test]
fn mqtt311_3_1_3_1() {
    // Client identifier, will topic, will message, user name, password.
    let world = World::new();
    let mut watcher = world.connected(V311, "watcher");
    watcher.subscribe("topic", Qos::AtLeastOnce);
    let mut client = world.client(V311);
    client
        .bytes(
            b"\x10\x2c\0\x04MQTT\x04\xce\0\0\0\x02id\0\x05topic\0\x07message\0\x05guest\0\x05guest",
        )
        .expect(&[0x20, 2, 0, 0]);
    client.vanish();
    assert_eq!(watcher.take().payload, "message");
}

#[test]
fn mqtt311_3_1_3_2() {
    let world = World::new();
    world.durable(V311, "one").disconnect();
    assert!(!world.client(V311).connect("two", lasting).session_present);
    assert!(world.client(V311).connect("one", lasting).session_present);
}

#[test]
fn mqtt311_3_1_3_3() {
    refused_silently(2, &[]);
    refused_silently(2, &[0]);
}

#[test]
fn mqtt311_3_1_3_4() {
    refused_silently(2, &[0, 1, 0xff]);
}

#[test]
fn mqtt311_3_1_3_5() {
    let world = World::new();
    world
        .connected(V311, "0123456789abcdefghijklm")
        .disconnect();
    world.connected(V311, &"long".repeat(100)).disconnect();
}

#[test]
fn mqtt311_3_1_3_6() {
    let world = World::new();
    let mut one = world.connected(V311, "");
    let mut two = world.connected(V311, "");
    assert_eq!((one.before_pong(), two.before_pong()), (vec![], vec![]));
}

#[test]
fn mqtt311_3_1_3_8() {
    let world = World::new();
    let mut client = world.client(V311);
    client
        .bytes(b"\x10\x0c\0\x04MQTT\x04\0\0\0\0\0")
        .expect(&[0x20, 2, 0, 2])
        .closed();
}

#[test]
fn mqtt311_3_1_3_9() {
    // 3.1 has no empty identifiers.
    let world = World::new();
    let mut client = world.client(V31);
    client
        .bytes(b"\x10\x0e\0\x06MQIsdp\x03\x02\0\0\0\0")
        .expect(&[0x20, 2, 0, 2])
        .closed();
}

#[test]
fn mqtt311_3_1_3_10() {
    refused_silently(0x06, &[0, 1, b'c', 0, 1, 0xff, 0, 1, b'x']);
}

#[test]
fn mqtt311_3_1_3_11() {
    refused_silently(0x82, &[0, 1, b'c', 0, 1, 0xff]);
}

#[test]
fn mqtt311_3_1_4_1() {
    refused_silently(2, &[0, 9, b'c']);
    refused_silently(2, &[0, 1, b'c', 0]);
}

#[test]
fn mqtt311_3_1_4_2() {
    let world = World::new();
    for version in V3 {
        let mut old = world.connected(version, "c");
        let mut new = world.connected(version, "c");
        old.closed();
        assert_eq!(new.before_pong(), []);
    }
}

#[test]
fn mqtt311_3_1_4_3() {
    // A clean session is clean also when it takes over.
    let world = World::new();
    for version in V3 {
        let mut old = world.durable(version, "c");
        old.subscribe("a", Qos::AtLeastOnce);
        let mut new = world.connected(version, "c");
        old.closed();
        world.connected(version, "other").publish("a", "x");
        assert_eq!(new.before_pong(), []);
    }
}

#[test]
fn mqtt311_3_1_4_4() {
    let world = World::new();
    let mut client = world.client(V311);
    client
        .bytes(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c")
        .expect(&[0x20, 2, 0, 0]);
}

#[test]
fn mqtt311_3_1_4_5() {
    let world = World::new();
    let mut client = world.client(V311);
    client
        .bytes(b"\x10\x12\0\x04MQTT\x04\x82\0\0\0\x01c\0\x03bob\xc0\0")
        .expect(&[0x20, 2, 0, 4])
        .closed();
}

#[test]
fn mqtt311_3_2_0_1() {
    let world = World::new();
    let mut client = world.client(V311);
    client
        .bytes(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c\xc0\0")
        .expect(&[0x20, 2, 0, 0, 0xd0, 0]);
}

#[test]
fn mqtt311_3_2_2_1() {
    let world = World::new();
    world.durable(V311, "c").disconnect();
    assert!(!world.client(V311).connect("c", |_| ()).session_present);
}

#[test]
fn mqtt311_3_2_2_2() {
    let world = World::new();
    world.durable(V311, "c").disconnect();
    assert!(world.client(V311).connect("c", lasting).session_present);
}

#[test]
fn mqtt311_3_2_2_3() {
    let world = World::new();
    assert!(!world.client(V311).connect("c", lasting).session_present);
}

#[test]
fn mqtt311_3_2_2_4() {
    let world = World::new();
    world.durable(V311, "c").disconnect();
    let mut client = world.client(V311);
    let ack = client.connect("c", |connect| {
        lasting(connect);
        (connect.user, connect.password) = (Some("guest".into()), Some(Bytes::from_static(b"no")));
    });
    assert!(ack.reason.is_error() && !ack.session_present);
}

#[test]
fn mqtt311_3_2_2_5() {
    let world = World::new();
    let mut client = world.client_from(V311, "192.0.2.7:5");
    assert_eq!(client.connect("c", |_| ()).reason, Reason::NOT_AUTHORIZED);
    client.closed();
}

#[test]
fn mqtt311_3_2_2_6() {
    // No return code says that the packet is malformed: there is no CONNACK.
    refused_silently(2, &[0, 9, b'c']);
    let world = World::new();
    world
        .client(V31)
        .bytes(b"\x10\x0e\0\x06MQIsdp\x03\x06\0\0\0\0")
        .closed();
}
