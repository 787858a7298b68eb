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

/// The answer to a PUBLISH that is refused, for clients who take packets of up to `size` bytes; with the identifiers of
/// its properties.
fn refused(qos: Qos, size: u32) -> (Ack, Vec<u8>) {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.maximum_packet_size = Some(size));
    client.send(Packet::Publish(Publish {
        qos,
        packet_id: 5,
        ..message("$SYS/x", "x")
    }));
    let bytes = client.raw_packet();
    assert!(bytes.len() <= size as usize, "{} bytes", bytes.len());
    let ids = if bytes.len() > 5 {
        property_ids(&bytes, 5)
    } else {
        Vec::new()
    };
    match Packet::take(&mut bytes.into(), V5, usize::MAX) {
        Ok(Some(Packet::PubAck(ack) | Packet::PubRec(ack))) => (ack, ids),
        other => panic!("{other:?}"),
    }
}

/// That a reason string is left out from the size on at which it would not fit, and the reason is there all the same.
fn explained_when_it_fits(qos: Qos) {
    let (ack, _) = refused(qos, 1000);
    let text = ack.reason_string.expect("a reason string");
    let explained = 8 + text.len() as u32 + 1;
    for size in 20..explained + 20 {
        let (ack, _) = refused(qos, size);
        assert_eq!(ack.reason, Reason::NOT_AUTHORIZED);
        assert!(
            size < explained || size < explained + 16 || ack.reason_string.is_some(),
            "{size}"
        );
        assert!(size >= explained || ack.reason_string.is_none(), "{size}");
    }
}

/// That an acknowledgement has no user properties, whatever room there is; a client's are passed over.
fn has_no_user_properties(qos: Qos) {
    for size in [20, 1000] {
        let (_, ids) = refused(qos, size);
        assert!(!ids.contains(&0x26), "{ids:x?}");
    }
}

#[test]
fn mqtt_3_4_2_2() {
    explained_when_it_fits(Qos::AtLeastOnce);
}

#[test]
fn mqtt_3_4_2_3() {
    has_no_user_properties(Qos::AtLeastOnce);
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.receive_maximum = 1);
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    other.publish("a", "1");
    other.publish("a", "2");
    let id = client.message().packet_id.to_be_bytes();
    client.bytes(&[0x40, 11, id[0], id[1], 0, 7, 0x26, 0, 1, b'a', 0, 1, b'b']);
    assert_eq!(client.take().payload, "2");
}

#[test]
fn mqtt_3_5_2_1() {
    each_closes(&[(&[V5], &[0x50, 3, 0, 1, 0x92])], Reason::MALFORMED_PACKET);
}

#[test]
fn mqtt_3_5_2_2() {
    explained_when_it_fits(Qos::ExactlyOnce);
}

#[test]
fn mqtt_3_5_2_3() {
    has_no_user_properties(Qos::ExactlyOnce);
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

/// A PUBREL as an answer and one to a stranger's PUBREC, for clients who take packets of up to `size` bytes.
fn releases(size: u32) {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.maximum_packet_size = Some(size));
    client
        .bytes(&[0x50, 2, 0, 9])
        .expect(&[0x62, 3, 0, 9, 0x92]);
    client.subscribe("a", Qos::ExactlyOnce);
    world.connected(V5, "other").publish_with(Publish {
        qos: Qos::ExactlyOnce,
        ..message("a", "x")
    });
    let [high, low] = client.message().packet_id.to_be_bytes();
    client
        .bytes(&[0x50, 2, high, low])
        .expect(&[0x62, 2, high, low]);
}

#[test]
fn mqtt_3_6_2_2() {
    // No reason string is ever in PUBREL, with and without room for one.
    releases(20);
    releases(1000);
}

#[test]
fn mqtt_3_6_2_3() {
    // Nor a user property; a client's is passed over.
    releases(1000);
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.bytes(&[0x34, 6, 0, 1, b'a', 0, 9, 0]);
    client.packet();
    client.bytes(&[0x62, 11, 0, 9, 0, 7, 0x26, 0, 1, b'a', 0, 1, b'b']);
    client.expect(&[0x70, 2, 0, 9]);
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

/// A PUBCOMP as an answer and one to a stranger's PUBREL, for clients who take packets of up to `size` bytes.
fn completions(size: u32) {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.maximum_packet_size = Some(size));
    client
        .bytes(&[0x62, 2, 0, 9])
        .expect(&[0x70, 3, 0, 9, 0x92]);
    client.bytes(&[0x34, 6, 0, 1, b'a', 0, 9, 0]);
    assert!(matches!(client.packet(), Packet::PubRec(_)));
    client.bytes(&[0x62, 2, 0, 9]).expect(&[0x70, 2, 0, 9]);
}

#[test]
fn mqtt_3_7_2_2() {
    // No reason string is ever in PUBCOMP, with and without room for one.
    completions(20);
    completions(1000);
}

#[test]
fn mqtt_3_7_2_3() {
    // Nor a user property; a client's is passed over.
    completions(1000);
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.receive_maximum = 1);
    client.subscribe("a", Qos::ExactlyOnce);
    let mut other = world.connected(V5, "other");
    for payload in ["1", "2"] {
        other.publish_with(Publish {
            qos: Qos::ExactlyOnce,
            ..message("a", payload)
        });
    }
    let [high, low] = client.message().packet_id.to_be_bytes();
    client
        .bytes(&[0x50, 2, high, low])
        .expect(&[0x62, 2, high, low]);
    client.bytes(&[0x70, 11, high, low, 0, 7, 0x26, 0, 1, b'a', 0, 1, b'b']);
    assert_eq!(client.take().payload, "2");
}
