//! Section 3.1: CONNECT.

use crate::world::*;
use bytes::Bytes;
use trivium_mqtt::packet::{Connect, Packet, Qos, Reason, Will, property};

fn connect_bytes(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let body = [&[0, name.len() as u8], name, &[level, flags, 0, 60], rest].concat();
    [&[0x10, body.len() as u8], &body[..]].concat()
}

fn refused(bytes: &[u8], reason: u8) {
    let world = World::new();
    let mut client = world.client(V5);
    client
        .bytes(bytes)
        .expect(&[0x20, 3, 0, reason, 0])
        .closed();
}

#[test]
fn mqtt_3_1_0_1() {
    let world = World::new();
    for first in [
        &[0xc0, 0][..],
        &[0x30, 4, 0, 1, b'a', 0],
        b"GET / HTTP/1.1\r\n",
    ] {
        let mut client = world.client(V5);
        client.bytes(first).closed();
    }
}

#[test]
fn mqtt_3_1_0_2() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.send(Packet::Connect(Box::new(Connect::new(V5, "c".into()))));
    client.closed_with(Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_1_2_1() {
    let world = World::new();
    let mut client = world.client(V5);
    client
        .bytes(&connect_bytes(b"MQTX", 5, 2, &[0, 0, 1, b'c']))
        .closed();
}

#[test]
fn mqtt_3_1_2_2() {
    refused(&connect_bytes(b"MQTT", 6, 2, &[0, 0, 1, b'c']), 0x84);
}

#[test]
fn mqtt_3_1_2_3() {
    refused(&connect_bytes(b"MQTT", 5, 3, &[0, 0, 1, b'c']), 0x81);
}

#[test]
fn mqtt_3_1_2_4() {
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.disconnect();
    let mut client = world.connected(V5, "c");
    assert_eq!(client.publish("a", "x"), Reason::NO_MATCHING_SUBSCRIBERS);
}

#[test]
fn mqtt_3_1_2_5() {
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.disconnect();
    world.connected(V5, "other").publish("a", "kept");
    let mut client = world.client(V5);
    assert!(client.connect("c", lasting).session_present);
    assert_eq!(client.take().payload, "kept");
}

#[test]
fn mqtt_3_1_2_6() {
    let world = World::new();
    let mut client = world.client(V5);
    assert!(!client.connect("new", lasting).session_present);
}

/// A connection with a will on `gone`, and one that waits for it.
fn with_will<'w>(world: &'w World, change: impl Fn(&mut Will)) -> (Client<'w>, Client<'w>) {
    let mut watcher = world.connected(V5, "watcher");
    watcher.subscribe("gone", Qos::AtLeastOnce);
    watcher.subscribe("fence", Qos::AtLeastOnce);
    let mut client = world.client(V5);
    client.connect("c", |connect| {
        let mut will = will("gone", "will");
        change(&mut will);
        connect.will = Some(will);
    });
    (client, watcher)
}

#[test]
fn mqtt_3_1_2_7() {
    let world = World::new();
    let (client, mut watcher) = with_will(&world, |_| ());
    client.vanish();
    assert_eq!(watcher.take().payload, "will");
}

#[test]
fn mqtt_3_1_2_8() {
    // After an error of the client's, and after its silence.
    let world = World::new();
    let (mut client, mut watcher) = with_will(&world, |_| ());
    client
        .bytes(&[0xc1, 0])
        .closed_with(Reason::MALFORMED_PACKET);
    assert_eq!(watcher.take().payload, "will");
    let mut client = world.client(V5);
    client.connect("d", |connect| {
        connect.keep_alive = 10;
        connect.will = Some(will("gone", "silent"));
    });
    client.wait(15.1).closed_with(Reason::KEEP_ALIVE_TIMEOUT);
    assert_eq!(watcher.take().payload, "silent");
}

#[test]
fn mqtt_3_1_2_9() {
    // A will flag without the fields of a will.
    refused(&connect_bytes(b"MQTT", 5, 0x06, &[0, 0, 1, b'c']), 0x81);
}

#[test]
fn mqtt_3_1_2_10() {
    let world = World::new();
    let (client, mut watcher) = with_will(&world, |_| ());
    client.disconnect();
    let mut other = world.connected(V5, "other");
    watcher.nothing_before(&mut other, "fence");
    // Once published it does not come again.
    let (client, mut watcher) = with_will(&world, |_| ());
    client.vanish();
    assert_eq!(watcher.take().payload, "will");
    world.connected(V5, "c").disconnect();
    watcher.nothing_before(&mut other, "fence");
}

#[test]
fn mqtt_3_1_2_11() {
    refused(&connect_bytes(b"MQTT", 5, 0x0a, &[0, 0, 1, b'c']), 0x81);
}

#[test]
fn mqtt_3_1_2_12() {
    let rest = &[0, 0, 1, b'c', 0, 0, 1, b'w', 0, 1, b'x'];
    refused(&connect_bytes(b"MQTT", 5, 0x1e, rest), 0x81);
}

#[test]
fn mqtt_3_1_2_13() {
    refused(&connect_bytes(b"MQTT", 5, 0x22, &[0, 0, 1, b'c']), 0x81);
}

#[test]
fn mqtt_3_1_2_14() {
    let world = World::new();
    let (client, mut watcher) = with_will(&world, |_| ());
    client.vanish();
    watcher.take();
    let mut late = world.connected(V5, "late");
    late.subscribe("gone", Qos::AtLeastOnce);
    assert_eq!(late.before_pong(), []);
}

#[test]
fn mqtt_3_1_2_15() {
    let world = World::new();
    let (client, mut watcher) = with_will(&world, |will| will.retain = true);
    client.vanish();
    watcher.take();
    let mut late = world.connected(V5, "late");
    late.subscribe("gone", Qos::AtLeastOnce);
    let kept = late.take();
    assert_eq!((&kept.payload[..], kept.retain), (&b"will"[..], true));
}

#[test]
fn mqtt_3_1_2_16() {
    // Without the flags, what follows the client identifier is in excess.
    refused(
        &connect_bytes(b"MQTT", 5, 2, &[0, 0, 1, b'c', 0, 1, b'u']),
        0x81,
    );
}

#[test]
fn mqtt_3_1_2_17() {
    refused(&connect_bytes(b"MQTT", 5, 0x82, &[0, 0, 1, b'c']), 0x81);
}

#[test]
fn mqtt_3_1_2_18() {
    let excess = [0, 0, 1, b'c', 0, 1, b'u', 0, 1, b'p'];
    refused(&connect_bytes(b"MQTT", 5, 0x82, &excess), 0x81);
}

#[test]
fn mqtt_3_1_2_19() {
    refused(&connect_bytes(b"MQTT", 5, 0x42, &[0, 0, 1, b'c']), 0x81);
}

#[test]
fn mqtt_3_1_2_22() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.keep_alive = 10);
    client.wait(14.0);
    assert_eq!(client.before_pong(), []);
    client.wait(14.0);
    assert!(!client.is_closed());
    client.wait(1.2).closed_with(Reason::KEEP_ALIVE_TIMEOUT);
}

#[test]
fn mqtt_3_1_2_23() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| {
        (connect.clean_start, connect.session_expiry) = (false, 100);
    });
    client.subscribe("a", Qos::AtLeastOnce);
    client.vanish();
    advance(90.0);
    world.connected(V5, "other").publish("a", "kept");
    let mut client = world.client(V5);
    assert!(client.connect("c", lasting).session_present);
    assert_eq!(client.take().payload, "kept");
}

#[test]
fn mqtt_3_1_2_24() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.maximum_packet_size = Some(40));
    client.subscribe("#", Qos::AtMostOnce);
    let mut other = world.connected(V5, "other");
    other.publish("a", &"long".repeat(20));
    other.publish("a", "short");
    assert_eq!(client.take().payload, "short");
}

#[test]
fn mqtt_3_1_2_25() {
    // At QoS 1 it counts as acknowledged: the window of one is free again.
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| {
        (connect.maximum_packet_size, connect.receive_maximum) = (Some(40), 1);
    });
    client.subscribe("#", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    other.publish("a", &"long".repeat(20));
    other.publish("a", "short");
    assert_eq!(client.take().payload, "short");
}

#[test]
fn mqtt_3_1_2_26() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.topic_alias_maximum = 1);
    client.subscribe("#", Qos::AtMostOnce);
    let mut other = world.connected(V5, "other");
    for (topic, name, alias) in [
        ("room/1", "room/1", Some(1)),
        ("room/2", "room/2", None),
        ("room/1", "", Some(1)),
    ] {
        other.publish(topic, "x");
        let got = client.take();
        assert_eq!((&*got.topic, got.alias), (name, alias));
    }
}

#[test]
fn mqtt_3_1_2_27() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("#", Qos::AtMostOnce);
    let mut other = world.connected(V5, "other");
    for _ in 0..2 {
        other.publish("room/1", "x");
        let got = client.take();
        assert_eq!((&*got.topic, got.alias), ("room/1", None));
    }
}

#[test]
fn mqtt_3_1_2_28() {
    let world = World::new();
    let mut client = world.client(V5);
    assert_eq!(client.connect("c", |_| ()).response_information, None);
    let mut client = world.client(V5);
    let ack = client.connect("d", |connect| connect.request_response_information = true);
    assert_eq!(ack.response_information.as_deref(), Some("replies/d/"));
}

#[test]
fn mqtt_3_1_2_29() {
    let world = World::new();
    for (wanted, told) in [(true, true), (false, false)] {
        let mut client = world.client(V5);
        client.connect("c", |connect| connect.request_problem_information = wanted);
        client.send(Packet::Publish(trivium_mqtt::packet::Publish {
            qos: Qos::AtLeastOnce,
            packet_id: 5,
            ..message("$SYS/mine", "x")
        }));
        match client.packet() {
            Packet::PubAck(ack) => assert_eq!(ack.reason_string.is_some(), told),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn mqtt_3_1_3_1() {
    // Identifier, will properties, will topic, will payload, user, password, in this order.
    let rest = [
        &[0, 0, 1, b'c'][..],
        &[0, 0, 1, b'w', 0, 1, b'x'],
        b"\0\x05guest\0\x05guest",
    ]
    .concat();
    let world = World::new();
    let mut client = world.client(V5);
    client.bytes(&connect_bytes(b"MQTT", 5, 0xc6, &rest));
    assert!(matches!(client.packet(), Packet::ConnAck(ack) if ack.reason == Reason::SUCCESS));
}

#[test]
fn mqtt_3_1_3_2() {
    // The identifier names the session: another one has another.
    let world = World::new();
    world.durable(V5, "one").disconnect();
    assert!(!world.client(V5).connect("two", lasting).session_present);
    assert!(world.client(V5).connect("one", lasting).session_present);
}

#[test]
fn mqtt_3_1_3_3() {
    refused(&connect_bytes(b"MQTT", 5, 2, &[0]), 0x81);
}

#[test]
fn mqtt_3_1_3_4() {
    refused(&connect_bytes(b"MQTT", 5, 2, &[0, 0, 1, 0xff]), 0x81);
}

#[test]
fn mqtt_3_1_3_5() {
    let world = World::new();
    for id in [
        "a",
        "0123456789ABCDEFGHIJKLM",
        "NOPQRSTUVWXYZabcdefghij",
        "klmnopqrstuvwxyz",
    ] {
        world.connected(V5, id).disconnect();
    }
}

#[test]
fn mqtt_3_1_3_6() {
    let world = World::new();
    for clean_start in [true, false] {
        let mut client = world.client(V5);
        let ack = client.connect("", |connect| connect.clean_start = clean_start);
        assert_eq!(ack.reason, Reason::SUCCESS);
    }
}

#[test]
fn mqtt_3_1_3_7() {
    let world = World::new();
    let mut client = world.client(V5);
    let id = client.connect("", lasting).assigned_client_id.unwrap();
    client.vanish();
    // It is the session's name from then on.
    assert!(world.client(V5).connect(&id, lasting).session_present);
}

#[test]
fn mqtt_3_1_3_8() {
    // The broker takes any identifier of version 5; in 3.1.1 an empty one with a session to keep is refused.
    let world = World::new();
    let mut client = world.client(V311);
    client
        .bytes(&connect_bytes(b"MQTT", 4, 0, &[0, 0]))
        .expect(&[0x20, 2, 0, 2])
        .closed();
}

#[test]
fn mqtt_3_1_3_10() {
    let world = World::new();
    let mut block = bytes::BytesMut::new();
    for (name, value) in [("b", "1"), ("a", "2"), ("b", "3")] {
        property::put_user(&mut block, name, value);
    }
    let block = block.freeze();
    let (client, mut watcher) = with_will(&world, |will| will.block = block.clone());
    client.vanish();
    assert_eq!(watcher.take().block, block);
}

#[test]
fn mqtt_3_1_3_11() {
    let rest = &[0, 0, 1, b'c', 0, 0, 1, 0xff, 0, 1, b'x'];
    refused(&connect_bytes(b"MQTT", 5, 0x06, rest), 0x81);
}

#[test]
fn mqtt_3_1_3_12() {
    refused(
        &connect_bytes(b"MQTT", 5, 0x82, &[0, 0, 1, b'c', 0, 1, 0xff]),
        0x81,
    );
}

#[test]
fn mqtt_3_1_4_1() {
    // Cut short; bytes in excess; a property that is not CONNECT's; a receive maximum of 0.
    refused(&[0x10, 10, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60], 0x81);
    refused(&connect_bytes(b"MQTT", 5, 2, &[0, 0, 1, b'c', 0]), 0x81);
    refused(
        &connect_bytes(b"MQTT", 5, 2, &[3, 0x23, 0, 1, 0, 1, b'c']),
        0x81,
    );
    refused(
        &connect_bytes(b"MQTT", 5, 2, &[3, 0x21, 0, 0, 0, 1, b'c']),
        0x82,
    );
    refused(
        &connect_bytes(b"MQTT", 5, 2, &[5, 0x27, 0, 0, 0, 0, 0, 1, b'c']),
        0x82,
    );
}

#[test]
fn mqtt_3_1_4_2() {
    let world = World::new();
    let mut client = world.client(V5);
    let ack = client.connect("c", |connect| {
        (connect.user, connect.password) = (Some("guest".into()), Some(Bytes::from_static(b"no")));
    });
    assert_eq!(ack.reason, Reason::BAD_USER_OR_PASSWORD);
    client.closed();
    // Nobody comes without a name from elsewhere.
    let mut client = world.client_from(V5, "192.0.2.7:5000");
    assert_eq!(client.connect("c", |_| ()).reason, Reason::NOT_AUTHORIZED);
    client.closed();
}

#[test]
fn mqtt_3_1_4_3() {
    let world = World::new();
    let mut old = world.connected(V5, "c");
    let mut new = world.connected(V5, "c");
    old.closed_with(Reason::SESSION_TAKEN_OVER);
    assert_eq!(new.before_pong(), []);
}

#[test]
fn mqtt_3_1_4_4() {
    let world = World::new();
    world.durable(V5, "c").disconnect();
    assert!(!world.client(V5).connect("c", |_| ()).session_present);
}

#[test]
fn mqtt_3_1_4_5() {
    let world = World::new();
    let mut client = world.client(V5);
    assert_eq!(client.connect("c", |_| ()).reason, Reason::SUCCESS);
}

#[test]
fn mqtt_3_1_4_6() {
    // What came behind a CONNECT that is refused is not looked at.
    let world = World::new();
    let mut watcher = world.connected(V5, "watcher");
    watcher.subscribe("#", Qos::AtMostOnce);
    let mut client = world.client(V5);
    let refused = connect_bytes(b"MQTT", 5, 0x82, &[0, 0, 1, b'c', 0, 3, b'b', b'o', b'b']);
    client.bytes(&[&refused[..], &[0x30, 4, 0, 1, b'a', 0]].concat());
    client.expect(&[0x20, 3, 0, 0x86, 0]).closed();
    let mut other = world.connected(V5, "other");
    watcher.nothing_before(&mut other, "b");
}
