//! Sections 3.4 to 3.7: PUBACK, PUBREC, PUBREL, PUBCOMP.

use crate::world::*;
use trivium_mqtt::packet::{Ack, Packet, Publish, Qos, Reason};

#[test]
fn mqtt_3_4_2_1() {
    each_closes(
        &[
            (&[V5], &[0x40, 3, 0, 1, 0x92]),
            (&[V5], &[0x40, 3, 0, 1, 0x01]),
        ],
        Reason::MALFORMED_PACKET,
    );
    let world = World::new();
    let mut client = world.connected(V5, "c");
    assert_eq!(
        client.publish("nobody", "x"),
        Reason::NO_MATCHING_SUBSCRIBERS
    );
    assert_eq!(client.publish("$SYS/x", "x"), Reason::NOT_AUTHORIZED);
}

/// A PUBACK that has a reason string, for clients who take packets of up to `size` bytes.
fn refused(size: u32) -> Ack {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.maximum_packet_size = Some(size));
    client.send(Packet::Publish(Publish {
        qos: Qos::AtLeastOnce,
        packet_id: 5,
        ..message("$SYS/x", "x")
    }));
    match client.packet() {
        Packet::PubAck(ack) => ack,
        other => panic!("{other:?}"),
    }
}

#[test]
fn mqtt_3_4_2_2() {
    assert!(refused(1000).reason_string.is_some());
    let ack = refused(20);
    assert_eq!(
        (ack.reason, ack.reason_string),
        (Reason::NOT_AUTHORIZED, None)
    );
}

#[test]
fn mqtt_3_4_2_3() {
    // No acknowledgement of ours carries user properties; a client's are passed over.
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.publish("a", "x");
    let id = client.message().packet_id as u8;
    client.bytes(&[0x40, 11, 0, id, 0, 7, 0x26, 0, 1, b'a', 0, 1, b'b']);
    assert_eq!(client.before_pong(), []);
}

#[test]
fn mqtt_3_5_2_1() {
    each_closes(&[(&[V5], &[0x50, 3, 0, 1, 0x92])], Reason::MALFORMED_PACKET);
}

#[test]
fn mqtt_3_6_1_1() {
    each_closes(
        &[(&[V5], &[0x60, 2, 0, 1]), (&[V5], &[0x6a, 2, 0, 1])],
        Reason::MALFORMED_PACKET,
    );
}

#[test]
fn mqtt_3_6_2_1() {
    each_closes(&[(&[V5], &[0x62, 3, 0, 1, 0x10])], Reason::MALFORMED_PACKET);
}

#[test]
fn mqtt_3_7_2_1() {
    each_closes(&[(&[V5], &[0x70, 3, 0, 1, 0x10])], Reason::MALFORMED_PACKET);
    // PUBREL for what is not under way.
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client
        .bytes(&[0x62, 2, 0, 9])
        .expect(&[0x70, 3, 0, 9, 0x92]);
}
