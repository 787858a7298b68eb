//! The statements of 3.1.1, by their numbers there. Where 3.1 has the same rule it is told to 3.1 as well.

use crate::world::*;
use bytes::{Bytes, BytesMut};
use trivium_mqtt::packet::{Ack, Connect, Packet, Publish, Qos, Reason};

const NO_REASON: Reason = Reason::UNSPECIFIED;

fn close(bytes: &[&[u8]]) {
    let cases: Vec<(&[_], &[u8])> = bytes.iter().map(|bytes| (&V3[..], *bytes)).collect();
    each_closes(&cases, NO_REASON);
}

fn close_311(bytes: &[&[u8]]) {
    let cases: Vec<(&[_], &[u8])> = bytes.iter().map(|bytes| (&[V311][..], *bytes)).collect();
    each_closes(&cases, NO_REASON);
}

/// A CONNECT of 3.1.1 with these flags and payload ends without an answer.
fn refused_silently(flags: u8, payload: &[u8]) {
    let world = World::new();
    let body = [&[0, 4], &b"MQTT"[..], &[4, flags, 0, 60], payload].concat();
    let mut client = world.client(V311);
    client
        .bytes(&[&[0x10, body.len() as u8], &body[..]].concat())
        .closed();
}

#[test]
fn mqtt311_1_5_3_1() {
    close(&[
        &[0x30, 4, 0, 2, 0xc0, 0x80],
        &[0x30, 5, 0, 3, 0xed, 0xa0, 0x80],
        &[0x82, 6, 0, 1, 0, 1, 0xff, 0],
    ]);
}

#[test]
fn mqtt311_1_5_3_2() {
    close(&[&[0x30, 3, 0, 1, 0], &[0x82, 6, 0, 1, 0, 1, 0, 0]]);
}

#[test]
fn mqtt311_1_5_3_3() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("\u{feff}", Qos::AtLeastOnce);
    client.publish("\u{feff}", "kept");
    assert_eq!(client.take().topic, "\u{feff}");
}

#[test]
fn mqtt311_2_2_2_1() {
    // The bits of the fixed header that are reserved.
    close(&[
        &[0x41, 2, 0, 1],
        &[0x60, 2, 0, 1],
        &[0xc1, 0],
        &[0xe1, 0],
        &[0x80, 6, 0, 1, 0, 1, b'a', 0],
    ]);
}

#[test]
fn mqtt311_2_2_2_2() {
    close(&[&[0x00, 0], &[0xf0, 0], &[0x52, 2, 0, 1]]);
}

#[test]
fn mqtt311_2_3_1_1() {
    close(&[
        &[0x32, 5, 0, 1, b'a', 0, 0],
        &[0x82, 6, 0, 0, 0, 1, b'a', 0],
        &[0xa2, 5, 0, 0, 0, 1, b'a'],
    ]);
}

#[test]
fn mqtt311_2_3_1_4() {
    let world = World::new();
    for version in V3 {
        let mut client = world.connected(version, "c");
        client.subscribe("a", Qos::AtLeastOnce);
        client.publish("a", "1");
        client.publish("a", "2");
        let ids = (client.message().packet_id, client.message().packet_id);
        assert!(ids.0 != 0 && ids.1 != 0 && ids.0 != ids.1);
    }
}

#[test]
fn mqtt311_2_3_1_5() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtMostOnce);
    client
        .bytes(&[0x30, 5, 0, 1, b'a', 0, 7])
        .expect(&[0x30, 5, 0, 1, b'a', 0, 7]);
}

#[test]
fn mqtt311_2_3_1_6() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0x32, 5, 0, 1, b'a', 0x12, 0x34])
        .expect(&[0x40, 2, 0x12, 0x34]);
}

#[test]
fn mqtt311_2_3_1_7() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0x82, 6, 0x12, 0x34, 0, 1, b'a', 1])
        .expect(&[0x90, 3, 0x12, 0x34, 1]);
    client
        .bytes(&[0xa2, 5, 0x43, 0x21, 0, 1, b'a'])
        .expect(&[0xb0, 2, 0x43, 0x21]);
}

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
fn mqtt311_3_1_3_2() {
    let world = World::new();
    world.durable(V311, "one").disconnect();
    assert!(!world.client(V311).connect("two", lasting).session_present);
    assert!(world.client(V311).connect("one", lasting).session_present);
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
fn mqtt311_3_3_1_1() {
    let world = World::new();
    let mut client = world.durable(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    world.connected(V311, "other").publish("a", "x");
    assert!(!client.message().dup);
    client.vanish();
    assert!(world.durable(V311, "c").take().dup);
}

#[test]
fn mqtt311_3_3_1_2() {
    close_311(&[&[0x38, 3, 0, 1, b'a']]);
}

#[test]
fn mqtt311_3_3_1_3() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V311, "other");
    other.publish_with(Publish {
        dup: true,
        qos: Qos::AtLeastOnce,
        ..message("a", "x")
    });
    assert!(!client.take().dup);
}

#[test]
fn mqtt311_3_3_1_4() {
    close(&[&[0x36, 5, 0, 1, b'a', 0, 1]]);
}

fn kept(world: &World, topic: &str) -> Vec<Publish> {
    let mut late = world.connected(V311, "late");
    late.subscribe(topic, Qos::AtLeastOnce);
    late.subscribe("fence", Qos::AtLeastOnce);
    late.publish("fence", "fence");
    let mut kept = Vec::new();
    loop {
        let got = late.take();
        if got.topic == "fence" {
            return kept;
        }
        kept.push(got);
    }
}

fn retain(world: &World, payload: &str) {
    world.connected(V311, "publisher").publish_with(Publish {
        retain: true,
        qos: Qos::AtLeastOnce,
        ..message("a", payload)
    });
}

#[test]
fn mqtt311_3_3_1_5() {
    let world = World::new();
    retain(&world, "x");
    let found = kept(&world, "a");
    assert_eq!((found.len(), found[0].qos), (1, Qos::AtLeastOnce));
}

#[test]
fn mqtt311_3_3_1_6() {
    let world = World::new();
    retain(&world, "x");
    assert_eq!(kept(&world, "+").len(), 1);
}

#[test]
fn mqtt311_3_3_1_7() {
    let world = World::new();
    retain(&world, "old");
    retain(&world, "new");
    let found = kept(&world, "a");
    assert_eq!((found.len(), &found[0].payload[..]), (1, &b"new"[..]));
}

#[test]
fn mqtt311_3_3_1_8() {
    let world = World::new();
    retain(&world, "x");
    assert!(kept(&world, "a")[0].retain);
}

#[test]
fn mqtt311_3_3_1_9() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    retain(&world, "x");
    assert!(!client.take().retain);
}

#[test]
fn mqtt311_3_3_1_10() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    retain(&world, "x");
    retain(&world, "");
    client.take_all(&["x", ""]);
    assert_eq!(kept(&world, "a"), []);
}

#[test]
fn mqtt311_3_3_1_11() {
    let world = World::new();
    retain(&world, "");
    assert_eq!(kept(&world, "a"), []);
}

#[test]
fn mqtt311_3_3_1_12() {
    let world = World::new();
    retain(&world, "kept");
    world.connected(V311, "publisher").publish("a", "passing");
    assert_eq!(kept(&world, "a")[0].payload, "kept");
}

#[test]
fn mqtt311_3_3_2_1() {
    close(&[&[0x30, 1, 0], &[0x30, 3, 0, 9, b'a'], &[0x30, 2, 0, 0]]);
}

#[test]
fn mqtt311_3_3_2_2() {
    close(&[&[0x30, 3, 0, 1, b'#'], &[0x30, 5, 0, 3, b'a', b'/', b'+']]);
}

#[test]
fn mqtt311_3_3_2_3() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a/+", Qos::AtLeastOnce);
    client.publish("a/b", "x");
    assert_eq!(client.take().topic, "a/b");
}

#[test]
fn mqtt311_3_3_4_1() {
    let world = World::new();
    for version in V3 {
        let mut client = world.connected(version, "c");
        client.bytes(&[0x30, 3, 0, 1, b'a']);
        assert_eq!(client.before_pong(), []);
        client
            .bytes(&[0x32, 5, 0, 1, b'a', 0, 9])
            .expect(&[0x40, 2, 0, 9]);
        client
            .bytes(&[0x34, 5, 0, 1, b'a', 0, 9])
            .expect(&[0x50, 2, 0, 9]);
        client.bytes(&[0x62, 2, 0, 9]).expect(&[0x70, 2, 0, 9]);
    }
}

#[test]
fn mqtt311_3_3_5_1() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a/#", Qos::AtMostOnce);
    client.subscribe("a/+", Qos::AtLeastOnce);
    client.publish("a/b", "x");
    assert_eq!(client.take().qos, Qos::AtLeastOnce);
}

#[test]
fn mqtt311_3_3_5_2() {
    // What is not authorised is acknowledged and goes nowhere.
    let world = World::new();
    for version in V3 {
        assert_eq!(
            world.connected(version, "c").publish("$SYS/x", "x"),
            Reason::SUCCESS
        );
    }
}

#[test]
fn mqtt311_3_6_1_1() {
    close(&[&[0x60, 2, 0, 1], &[0x61, 2, 0, 1]]);
}

#[test]
fn mqtt311_3_8_1_1() {
    close(&[
        &[0x80, 6, 0, 1, 0, 1, b'a', 0],
        &[0x83, 6, 0, 1, 0, 1, b'a', 0],
    ]);
}

#[test]
fn mqtt311_3_8_3_1() {
    close(&[&[0x82, 6, 0, 1, 0, 1, 0xff, 0]]);
}

#[test]
fn mqtt311_3_8_3_3() {
    close(&[&[0x82, 2, 0, 1]]);
}

#[test]
fn mqtt311_3_8_3_4() {
    // The requested QoS byte: 3, and the reserved bits.
    close(&[
        &[0x82, 6, 0, 1, 0, 1, b'a', 3],
        &[0x82, 6, 0, 1, 0, 1, b'a', 4],
        &[0x82, 6, 0, 1, 0, 1, b'a', 0x80],
    ]);
}

#[test]
fn mqtt311_3_8_4_1() {
    let world = World::new();
    assert_eq!(
        world.connected(V311, "c").subscribe("a", Qos::AtLeastOnce),
        [Reason(1)]
    );
}

#[test]
fn mqtt311_3_8_4_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0x82, 6, 0xab, 0xcd, 0, 1, b'a', 0])
        .expect(&[0x90, 3, 0xab, 0xcd, 0]);
}

#[test]
fn mqtt311_3_8_4_3() {
    // Subscribed again: replaced, and retained messages come again.
    let world = World::new();
    retain(&world, "kept");
    let mut client = world.connected(V311, "c");
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        client.subscribe("a", qos);
        let got = client.take();
        assert_eq!((&got.payload[..], got.qos), (&b"kept"[..], qos));
    }
    client.publish("a", "live");
    // The order of PUBACK and delivery was PUBACK's; one copy follows.
    assert_eq!(client.take().payload, "live");
    assert_eq!(client.before_pong(), []);
}

#[test]
fn mqtt311_3_8_4_4() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0x82, 10, 0, 1, 0, 1, b'a', 0, 0, 1, b'b', 1])
        .expect(&[0x90, 4, 0, 1, 0, 1]);
}

#[test]
fn mqtt311_3_8_4_5() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    let filters = vec![
        filter_of("a", Qos::AtMostOnce),
        filter_of("$share//x", Qos::AtMostOnce),
        filter_of("c", Qos::AtLeastOnce),
    ];
    assert_eq!(
        client.subscribe_with(None, filters),
        [Reason(0), Reason(0x80), Reason(1)]
    );
    // 3.1 has no failures: it is granted, and nothing comes.
    let mut client = world.connected(V31, "d");
    assert_eq!(client.subscribe("$share//x", Qos::AtMostOnce), [Reason(0)]);
}

#[test]
fn mqtt311_3_8_4_6() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("zero", Qos::AtMostOnce);
    client.subscribe("one", Qos::AtLeastOnce);
    let mut other = world.connected(V311, "other");
    for (topic, published, delivered) in [
        ("zero", Qos::AtLeastOnce, Qos::AtMostOnce),
        ("one", Qos::AtMostOnce, Qos::AtMostOnce),
        ("one", Qos::AtLeastOnce, Qos::AtLeastOnce),
    ] {
        other.publish_with(Publish {
            qos: published,
            ..message(topic, "x")
        });
        assert_eq!(client.take().qos, delivered);
    }
}

#[test]
fn mqtt311_3_9_3_1() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    let filters = vec![
        filter_of("a", Qos::AtLeastOnce),
        filter_of("b", Qos::AtMostOnce),
    ];
    assert_eq!(client.subscribe_with(None, filters), [Reason(1), Reason(0)]);
}

#[test]
fn mqtt311_3_9_3_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    for filter in ["a", "$share/g/a", "$share//a", "#"] {
        for reason in client.subscribe(filter, Qos::ExactlyOnce) {
            assert!([0, 1, 2, 0x80].contains(&reason.0));
        }
    }
}

#[test]
fn mqtt311_3_10_1_1() {
    close(&[&[0xa0, 5, 0, 1, 0, 1, b'a'], &[0xa3, 5, 0, 1, 0, 1, b'a']]);
}

#[test]
fn mqtt311_3_10_3_1() {
    close(&[&[0xa2, 5, 0, 1, 0, 1, 0xff]]);
}

#[test]
fn mqtt311_3_10_3_2() {
    close(&[&[0xa2, 2, 0, 1]]);
}

#[test]
fn mqtt311_3_10_4_1() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a/+", Qos::AtLeastOnce);
    client.unsubscribe(&["a/b", "A/+"]);
    client.publish("a/b", "still");
    assert_eq!(client.take().payload, "still");
    client.unsubscribe(&["a/+"]);
    client.publish("a/b", "unseen");
    assert_eq!(client.before_pong(), []);
}

#[test]
fn mqtt311_3_10_4_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.unsubscribe(&["a"]);
    assert_eq!(
        world.connected(V5, "other").publish("a", "x"),
        Reason::NO_MATCHING_SUBSCRIBERS
    );
}

#[test]
fn mqtt311_3_10_4_3() {
    let world = World::new();
    let mut client = world.durable(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    world.connected(V311, "other").publish("a", "begun");
    client.message();
    client.unsubscribe(&["a"]);
    client.vanish();
    assert_eq!(world.durable(V311, "c").take().payload, "begun");
}

#[test]
fn mqtt311_3_10_4_4() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0xa2, 5, 0xab, 0xcd, 0, 1, b'a'])
        .expect(&[0xb0, 2, 0xab, 0xcd]);
}

#[test]
fn mqtt311_3_10_4_5() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    assert_eq!(client.unsubscribe(&["never"]), []);
}

#[test]
fn mqtt311_3_10_4_6() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.subscribe("b", Qos::AtLeastOnce);
    client.unsubscribe(&["a", "b"]);
    let mut other = world.connected(V5, "other");
    for topic in ["a", "b"] {
        assert_eq!(other.publish(topic, "x"), Reason::NO_MATCHING_SUBSCRIBERS);
    }
}

#[test]
fn mqtt311_3_12_4_1() {
    let world = World::new();
    for version in V3 {
        world
            .connected(version, "c")
            .bytes(&[0xc0, 0])
            .expect(&[0xd0, 0]);
    }
}

#[test]
fn mqtt311_3_14_1_1() {
    close(&[&[0xe1, 0]]);
}

#[test]
fn mqtt311_3_14_4_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.bytes(&[0xe0, 0, 0xc0, 0]).closed();
}

#[test]
fn mqtt311_3_14_4_3() {
    mqtt311_3_1_2_10();
}

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
    client
        .bytes(&[0x32, 5, 0, 1, b'a', 0x55, 0x66])
        .expect(&[0x40, 2, 0x55, 0x66]);
    // The same identifier again is a new message.
    client.subscribe("a", Qos::AtMostOnce);
    client.publish("a", "new");
    assert_eq!(client.take().payload, "new");
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
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("#", Qos::AtLeastOnce);
    let mut other = world.connected(V311, "other");
    other.publish("$SYS/x", "x");
    client.nothing_before(&mut other, "fence");
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
