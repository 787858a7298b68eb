//! QoS 2 (sections 3.5 to 3.7 and 4.3.3), and the delay of wills.

use crate::world::*;
use trivium_mqtt::packet::{Ack, Packet, Publish, Qos, Reason};

pub fn publish(packet_id: u16, payload: &str) -> Packet {
    Packet::Publish(Publish {
        qos: Qos::ExactlyOnce,
        packet_id,
        ..message("a", payload)
    })
}

pub fn ok(packet_id: u16) -> Ack {
    Ack::new(packet_id, Reason::SUCCESS)
}

/// Somebody who sees what is published, and a session that publishes.
pub fn pair(world: &World, version: trivium_mqtt::packet::Version) -> (Client<'_>, Client<'_>) {
    let mut watcher = world.connected(V5, "watcher");
    watcher.subscribe("a", Qos::ExactlyOnce);
    watcher.subscribe("fence", Qos::AtLeastOnce);
    (watcher, world.durable(version, "c"))
}

/// The receiver's side: the sender's session, the identifier, DUP and a reconnect.
pub fn received_once(version: trivium_mqtt::packet::Version) {
    let world = World::new();
    let (mut watcher, mut client) = pair(&world, version);
    client.send(publish(7, "once"));
    assert_eq!(client.packet(), Packet::PubRec(ok(7)));
    client.send(publish(7, "once"));
    assert_eq!(client.packet(), Packet::PubRec(ok(7)));
    client.vanish();
    let mut client = world.durable(version, "c");
    client.send(Packet::Publish(Publish {
        dup: true,
        qos: Qos::ExactlyOnce,
        packet_id: 7,
        ..message("a", "once")
    }));
    assert_eq!(client.packet(), Packet::PubRec(ok(7)));
    client.send(Packet::PubRel(ok(7)));
    assert_eq!(client.packet(), Packet::PubComp(ok(7)));
    assert_eq!(watcher.take().payload, "once");
    let mut other = world.connected(V5, "other");
    watcher.nothing_before(&mut other, "fence");
}

#[test]
fn mqtt_4_3_3_8() {
    let world = World::new();
    let (mut watcher, mut client) = pair(&world, V5);
    client
        .bytes(&[0x34, 6, 0, 1, b'a', 0x12, 0x34, 0])
        .expect(&[0x50, 2, 0x12, 0x34]);
    assert_eq!(watcher.take().qos, Qos::ExactlyOnce);
}

#[test]
fn mqtt_4_3_3_9() {
    // After a PUBREC that refuses, the identifier is free: what comes under it is a new message.
    let world = World::new();
    let (mut watcher, mut client) = pair(&world, V5);
    client.send(Packet::Publish(Publish {
        qos: Qos::ExactlyOnce,
        packet_id: 7,
        ..message("$SYS/x", "refused")
    }));
    assert!(matches!(client.packet(), Packet::PubRec(ack) if ack.reason.is_error()));
    client.send(publish(7, "new"));
    assert_eq!(client.packet(), Packet::PubRec(ok(7)));
    assert_eq!(watcher.take().payload, "new");
}

#[test]
fn mqtt_4_3_3_10() {
    received_once(V5);
}

#[test]
fn mqtt_4_3_3_11() {
    let world = World::new();
    let (_watcher, mut client) = pair(&world, V5);
    client.send(publish(7, "x"));
    assert_eq!(client.packet(), Packet::PubRec(ok(7)));
    client.bytes(&[0x62, 2, 0, 7]).expect(&[0x70, 2, 0, 7]);
}

#[test]
fn mqtt_4_3_3_12() {
    // After PUBCOMP the identifier is a new message's.
    let world = World::new();
    let (mut watcher, mut client) = pair(&world, V5);
    for payload in ["1", "2"] {
        client.send(publish(7, payload));
        assert_eq!(client.packet(), Packet::PubRec(ok(7)));
        client.send(Packet::PubRel(ok(7)));
        assert_eq!(client.packet(), Packet::PubComp(ok(7)));
        assert_eq!(watcher.take().payload, payload);
    }
}

#[test]
fn mqtt_4_3_3_13() {
    // A lifetime that ends in the middle of the handshake does not end the handshake.
    let world = World::new();
    let (_watcher, mut client) = pair(&world, V5);
    client.send(Packet::Publish(Publish {
        qos: Qos::ExactlyOnce,
        packet_id: 7,
        expiry: Some(1),
        ..message("a", "short")
    }));
    assert_eq!(client.packet(), Packet::PubRec(ok(7)));
    advance(10.0);
    client.send(Packet::PubRel(ok(7)));
    assert_eq!(client.packet(), Packet::PubComp(ok(7)));
}

/// A subscriber at QoS 2 to whom something is published.
pub fn sent<'w>(world: &'w World, version: trivium_mqtt::packet::Version) -> (Client<'w>, Publish) {
    let mut client = world.durable(version, "c");
    client.subscribe("a", Qos::ExactlyOnce);
    world.connected(V5, "other").publish_with(Publish {
        qos: Qos::ExactlyOnce,
        ..message("a", "x")
    });
    let got = client.message();
    (client, got)
}

#[test]
fn mqtt_4_3_3_1() {
    let world = World::new();
    let (mut client, first) = sent(&world, V5);
    world.connected(V5, "other").publish_with(Publish {
        qos: Qos::ExactlyOnce,
        ..message("a", "y")
    });
    let second = client.message();
    assert!(first.packet_id != 0 && second.packet_id != 0);
    assert_ne!(first.packet_id, second.packet_id);
}

#[test]
fn mqtt_4_3_3_2() {
    let world = World::new();
    let (_client, got) = sent(&world, V5);
    assert!(got.qos == Qos::ExactlyOnce && !got.dup);
}

#[test]
fn mqtt_4_3_3_3() {
    // Unacknowledged until PUBREC: PUBLISH comes again.
    let world = World::new();
    let (client, got) = sent(&world, V5);
    client.vanish();
    let again = world.durable(V5, "c").message();
    assert_eq!((again.packet_id, again.dup), (got.packet_id, true));
}

#[test]
fn mqtt_4_3_3_4() {
    let world = World::new();
    let (mut client, got) = sent(&world, V5);
    client.send(Packet::PubRec(ok(got.packet_id)));
    assert_eq!(client.packet(), Packet::PubRel(ok(got.packet_id)));
}

#[test]
fn mqtt_4_3_3_5() {
    // Unacknowledged until PUBCOMP: PUBREL comes again, under the same identifier.
    let world = World::new();
    let (mut client, got) = sent(&world, V5);
    client.send(Packet::PubRec(ok(got.packet_id)));
    assert_eq!(client.packet(), Packet::PubRel(ok(got.packet_id)));
    client.vanish();
    let mut client = world.durable(V5, "c");
    assert_eq!(client.packet(), Packet::PubRel(ok(got.packet_id)));
    client.send(Packet::PubComp(ok(got.packet_id)));
    assert_eq!(client.before_pong(), []);
}

#[test]
fn mqtt_4_3_3_6() {
    // After PUBREL, PUBLISH does not come again.
    let world = World::new();
    let (mut client, got) = sent(&world, V5);
    client.send(Packet::PubRec(ok(got.packet_id)));
    client.packet();
    client.vanish();
    let mut client = world.durable(V5, "c");
    assert_eq!(client.before_pong(), [Packet::PubRel(ok(got.packet_id))]);
}

#[test]
fn mqtt_4_3_3_7() {
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::ExactlyOnce);
    world.connected(V5, "other").publish_with(Publish {
        qos: Qos::ExactlyOnce,
        expiry: Some(5),
        ..message("a", "x")
    });
    let got = client.message();
    advance(10.0);
    client.send(Packet::PubRec(ok(got.packet_id)));
    assert_eq!(client.packet(), Packet::PubRel(ok(got.packet_id)));
}

#[test]
fn mqtt_4_6_0_3() {
    let world = World::new();
    let (_watcher, mut client) = pair(&world, V5);
    for packet_id in [5, 3, 9] {
        client.send(publish(packet_id, "x"));
    }
    for packet_id in [5, 3, 9] {
        assert_eq!(client.packet(), Packet::PubRec(ok(packet_id)));
    }
}

#[test]
fn mqtt_4_6_0_4() {
    let world = World::new();
    let (mut client, first) = sent(&world, V5);
    world.connected(V5, "other").publish_with(Publish {
        qos: Qos::ExactlyOnce,
        ..message("a", "y")
    });
    let second = client.message();
    // In the order of the PUBRECs.
    for packet_id in [second.packet_id, first.packet_id] {
        client.send(Packet::PubRec(ok(packet_id)));
    }
    for packet_id in [second.packet_id, first.packet_id] {
        assert_eq!(client.packet(), Packet::PubRel(ok(packet_id)));
    }
}

#[test]
fn mqtt_3_2_2_9() {
    // No maximum QoS is told, so 2 is taken.
    let world = World::new();
    let mut client = world.client(V5);
    assert_eq!(client.connect("c", |_| ()).maximum_qos, None);
    client.send(publish(1, "x"));
    assert!(matches!(client.packet(), Packet::PubRec(_)));
}

#[test]
fn mqtt_3_2_2_12() {
    // A will of any QoS is taken.
    let world = World::new();
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut client = world.client(V5);
        let ack = client.connect("c", |connect| {
            connect.will = Some(trivium_mqtt::packet::Will {
                qos,
                ..will("w", "x")
            });
        });
        assert_eq!(ack.reason, Reason::SUCCESS);
        client.disconnect();
    }
}

#[test]
fn mqtt_3_1_3_9() {
    // A client that comes back before the delay has passed keeps its will to itself.
    let world = World::new();
    let mut watcher = world.connected(V5, "watcher");
    watcher.subscribe("gone", Qos::AtLeastOnce);
    watcher.subscribe("fence", Qos::AtLeastOnce);
    let connect = |world: &World, text: &str| {
        let mut client = world.client(V5);
        client.connect("c", |connect| {
            lasting(connect);
            connect.will = Some(trivium_mqtt::packet::Will {
                delay: 20,
                retain: true,
                ..will("gone", text)
            });
        });
        client.vanish();
    };
    connect(&world, "kept back");
    let mut other = world.connected(V5, "other");
    advance(10.0);
    watcher.nothing_before(&mut other, "fence");
    connect(&world, "published");
    advance(21.0);
    // Shards notice with the next operations.
    for id in ["1", "2", "3", "4"] {
        world.connected(V5, id).disconnect();
    }
    assert_eq!(watcher.take().payload, "published");
    // It is as much as another one: retained, if it says so.
    let mut late = world.connected(V5, "late");
    late.subscribe("gone", Qos::AtLeastOnce);
    let kept = late.take();
    assert_eq!((&kept.payload[..], kept.retain), (&b"published"[..], true));
}
