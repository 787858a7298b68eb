//! Sections 3.12 to 3.15: PINGREQ, DISCONNECT, AUTH.

use crate::world::*;
use trivium_mqtt::packet::{Connect, Disconnect, Packet, Qos, Reason};

#[test]
fn mqtt_3_12_4_1() {
    let world = World::new();
    world
        .connected(V5, "c")
        .bytes(&[0xc0, 0])
        .expect(&[0xd0, 0]);
}

#[test]
fn mqtt_3_14_0_1() {
    // Before CONNACK there is no DISCONNECT.
    let world = World::new();
    let mut client = world.client(V5);
    client.bytes(&[0x10, 10, 0, 4, b'M', b'Q', b'T', b'T', 5, 3, 0, 0, 0, 0]);
    client.expect(&[0x20, 3, 0, 0x81, 0]).closed();
    let mut client = world.client(V5);
    client.bytes(&[0xe0, 0]).closed();
}

#[test]
fn mqtt_3_14_1_1() {
    each_closes(&[(&[V5], &[0xe1, 0])], Reason::MALFORMED_PACKET);
}

#[test]
fn mqtt_3_14_2_1() {
    each_closes(&[(&[V5], &[0xe0, 1, 0x05])], Reason::MALFORMED_PACKET);
    // A reason that only servers give.
    each_closes(&[(&[V5], &[0xe0, 1, 0x8e])], Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_14_2_2() {
    let world = World::new();
    let mut old = world.durable(V5, "c");
    let _new = world.connected(V5, "c");
    match old.packet() {
        Packet::Disconnect(last) => assert_eq!(last.session_expiry, None),
        other => panic!("{other:?}"),
    }
    // From the client: not from 0 to anything else.
    let mut client = world.connected(V5, "d");
    client.send(Packet::Disconnect(Disconnect {
        session_expiry: Some(10),
        ..Disconnect::default()
    }));
    client.closed_with(Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_14_2_3() {
    let world = World::new();
    for (size, explained) in [(100, true), (12, false)] {
        let mut client = world.client(V5);
        client.connect("c", |connect| connect.maximum_packet_size = Some(size));
        client.bytes(&[0xc1, 0]);
        match client.packet() {
            Packet::Disconnect(last) => assert_eq!(last.reason_string.is_some(), explained),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn mqtt_3_14_2_4() {
    // No user properties, and never more than the client takes.
    let world = World::new();
    for size in 12..60 {
        let mut client = world.client(V5);
        client.connect("c", |connect| connect.maximum_packet_size = Some(size));
        client.bytes(&[0xc1, 0]);
        let last = client.raw_packet();
        assert!(last.len() <= size as usize && last[2] == 0x81, "{last:x?}");
        if last.len() > 3 {
            assert!(!property_ids(&last, 3).contains(&0x26));
        }
    }
}

#[test]
fn mqtt_3_14_4_1() {
    // After our DISCONNECT nothing is said, whatever comes.
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client
        .bytes(&[0xc1, 0, 0xc0, 0])
        .closed_with(Reason::MALFORMED_PACKET);
}

#[test]
fn mqtt_3_14_4_2() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.bytes(&[0xe0, 0]).closed();
}

#[test]
fn mqtt_3_14_4_3() {
    let world = World::new();
    let mut watcher = world.connected(V5, "watcher");
    watcher.subscribe("gone", Qos::AtLeastOnce);
    watcher.subscribe("fence", Qos::AtLeastOnce);
    let with_will = |connect: &mut Connect| connect.will = Some(will("gone", "will"));
    let mut client = world.client(V5);
    client.connect("c", with_will);
    client.disconnect();
    let mut other = world.connected(V5, "other");
    watcher.nothing_before(&mut other, "fence");
    // 0x04 asks for the will.
    let mut client = world.client(V5);
    client.connect("c", with_will);
    client.send(Packet::Disconnect(Disconnect::new(
        Reason::DISCONNECT_WITH_WILL,
    )));
    client.closed();
    assert_eq!(watcher.take().payload, "will");
}

#[test]
fn mqtt_3_15_1_1() {
    each_closes(&[(&[V5], &[0xf1, 0])], Reason::MALFORMED_PACKET);
}

#[test]
fn mqtt_3_15_2_1() {
    each_closes(&[(&[V5], &[0xf0, 2, 0x17, 0])], Reason::MALFORMED_PACKET);
}
