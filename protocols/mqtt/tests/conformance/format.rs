//! Sections 1.5 and 2: the format of packets.

use crate::world::*;
use trivium_mqtt::packet::{Ack, Connect, Packet, Publish, Qos, Reason, property};

const MALFORMED: Reason = Reason::MALFORMED_PACKET;

#[test]
fn mqtt_1_5_4_1() {
    // Overlong, surrogate, cut: as topic, filter and user property.
    each_closes(
        &[
            (&[V5], &[0x30, 5, 0, 2, 0xc0, 0x80, 0]),
            (&[V5], &[0x30, 6, 0, 3, 0xed, 0xa0, 0x80, 0]),
            (&[V5], &[0x82, 8, 0, 1, 0, 0, 2, 0xc3, b'(', 0]),
            (&[V5], &[0x30, 10, 0, 1, b'a', 6, 0x26, 0, 1, 0xff, 0, 0]),
        ],
        MALFORMED,
    );
}

#[test]
fn mqtt_1_5_4_2() {
    each_closes(
        &[
            (&[V5], &[0x30, 4, 0, 1, 0, 0]),
            (&[V5], &[0x82, 7, 0, 1, 0, 0, 1, 0, 0]),
            (&[V5], &[0x30, 10, 0, 1, b'a', 6, 0x26, 0, 1, 0, 0, 0]),
        ],
        MALFORMED,
    );
}

#[test]
fn mqtt_1_5_4_3() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("\u{feff}", Qos::AtLeastOnce);
    client.publish("\u{feff}", "kept");
    assert_eq!(client.take().topic, "\u{feff}");
}

#[test]
fn mqtt_1_5_5_1() {
    each_closes(
        &[
            (&[V5], &[0xc0, 0x80, 0x00]),
            (&[V5], &[0x30, 5, 0, 1, b'a', 0x80, 0]),
            (&[V5], &[0x30, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ],
        MALFORMED,
    );
}

#[test]
fn mqtt_1_5_7_1() {
    // The name and the value of a pair alike.
    each_closes(
        &[
            (&[V5], &[0x30, 10, 0, 1, b'a', 6, 0x26, 0, 1, 0xff, 0, 0]),
            (&[V5], &[0x30, 10, 0, 1, b'a', 6, 0x26, 0, 0, 0, 1, 0xff]),
            (&[V5], &[0x30, 10, 0, 1, b'a', 6, 0x26, 0, 0, 0, 1, 0]),
        ],
        MALFORMED,
    );
}

#[test]
fn mqtt_2_1_3_1() {
    each_closes(
        &[
            (&[V5], &[0x41, 2, 0, 1]),
            (&[V5], &[0x52, 2, 0, 1]),
            (&[V5], &[0x60, 2, 0, 1]),
            (&[V5], &[0x71, 2, 0, 1]),
            (&[V5], &[0x80, 7, 0, 1, 0, 0, 1, b'a', 0]),
            (&[V5], &[0xa0, 6, 0, 1, 0, 0, 1, b'a']),
            (&[V5], &[0xc1, 0]),
            (&[V5], &[0xe1, 0]),
            (&[V5], &[0xf1, 0]),
            (&[V5], &[0x00, 0]),
        ],
        MALFORMED,
    );
}

#[test]
fn mqtt_2_2_1_2() {
    // At QoS 0 the payload begins where an identifier would be.
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtMostOnce);
    client.bytes(&[0x30, 6, 0, 1, b'a', 0, 0, 7]);
    client.expect(&[0x30, 6, 0, 1, b'a', 0, 0, 7]);
}

#[test]
fn mqtt_2_2_1_3() {
    each_closes(
        &[
            (&[V5], &[0x32, 6, 0, 1, b'a', 0, 0, 0]),
            (&[V5], &[0x82, 7, 0, 0, 0, 0, 1, b'a', 0]),
            (&[V5], &[0xa2, 6, 0, 0, 0, 0, 1, b'a']),
        ],
        MALFORMED,
    );
}

#[test]
fn mqtt_2_2_1_4() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        client.publish("a", "x");
        let id = client.message().packet_id;
        assert!(id != 0 && seen.insert(id), "{id} is in use");
    }
    // Once acknowledged, an identifier may come again.
    for id in seen {
        client.send(Packet::PubAck(Ack::new(id, Reason::SUCCESS)));
    }
    client.publish("a", "y");
    assert_ne!(client.take().packet_id, 0);
}

#[test]
fn mqtt_2_2_1_5() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    // 0x10: nobody subscribes.
    client.bytes(&[0x32, 6, 0, 1, b'a', 0x12, 0x34, 0]);
    client.expect(&[0x40, 3, 0x12, 0x34, 0x10]);
}

#[test]
fn mqtt_2_2_1_6() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.bytes(&[0x82, 7, 0x12, 0x34, 0, 0, 1, b'a', 1]);
    client.expect(&[0x90, 4, 0x12, 0x34, 0, 1]);
    client.bytes(&[0xa2, 6, 0x43, 0x21, 0, 0, 1, b'a']);
    client.expect(&[0xb0, 4, 0x43, 0x21, 0, 0]);
}

#[test]
fn mqtt_2_2_2_1() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtMostOnce);
    client.bytes(&[0x30, 4, 0, 1, b'a', 0]);
    client.expect(&[0x30, 4, 0, 1, b'a', 0]);
    // A packet without the length of its properties is cut short.
    each_closes(&[(&[V5], &[0x30, 3, 0, 1, b'a'])], MALFORMED);
}

/// 2.2.2.2: what may not come twice, and what has no place in a packet.
#[test]
fn properties_come_once_and_in_their_place() {
    each_closes(
        &[
            (&[V5], &[0x30, 8, 0, 1, b'a', 4, 0x01, 0, 0x01, 0]),
            (
                &[V5],
                &[0xe0, 12, 0, 10, 0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0],
            ),
        ],
        Reason::PROTOCOL_ERROR,
    );
    each_closes(
        &[
            (&[V5], &[0x30, 9, 0, 1, b'a', 5, 0x11, 0, 0, 0, 1]),
            (&[V5], &[0x82, 10, 0, 1, 3, 0x23, 0, 1, 0, 1, b'a', 0]),
            (&[V5], &[0x30, 6, 0, 1, b'a', 2, 0x7e, 0]),
        ],
        MALFORMED,
    );
    let world = World::new();
    let mut client = world.client(V5);
    let mut block = bytes::BytesMut::new();
    property::put_u8(&mut block, property::id::PAYLOAD_FORMAT, Some(7));
    let will = trivium_mqtt::packet::Will {
        block: block.freeze(),
        ..will("w", "x")
    };
    let connect = Connect {
        will: Some(will),
        ..Connect::new(V5, "c".into())
    };
    client.send(Packet::Connect(Box::new(connect)));
    client.expect(&[0x20, 3, 0, 0x82, 0]).closed();
}

/// 3.3.2-1: the topic name is the first field, and is not left out without an alias.
#[test]
fn mqtt_3_3_2_1() {
    each_closes(&[(&[V5], &[0x30, 3, 0, 0, 0])], Reason::PROTOCOL_ERROR);
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtMostOnce);
    client.send(Packet::Publish(Publish {
        qos: Qos::AtMostOnce,
        ..message("a", "x")
    }));
    client.expect(&[0x30, 5, 0, 1, b'a', 0, b'x']);
}
