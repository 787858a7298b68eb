//! Section 3.2: CONNACK.

use crate::world::*;
use trivium_mqtt::packet::{Connect, Packet, Qos, Reason};

#[test]
fn mqtt_3_2_0_1() {
    // Packets behind CONNECT are answered behind CONNACK.
    let world = World::new();
    let mut client = world.client(V5);
    let mut bytes = bytes::BytesMut::new();
    Packet::Connect(Box::new(Connect::new(V5, "c".into()))).encode(V5, &mut bytes);
    Packet::PingReq.encode(V5, &mut bytes);
    client.bytes(&bytes);
    assert!(matches!(client.packet(), Packet::ConnAck(_)));
    assert_eq!(client.packet(), Packet::PingResp);
}

#[test]
fn mqtt_3_2_0_2() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.send(Packet::Connect(Box::new(Connect::new(V5, "c".into()))));
    // DISCONNECT, not another CONNACK.
    client.closed_with(Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_2_2_1() {
    let world = World::new();
    for (clean, flags) in [(true, 0), (false, 1)] {
        world.durable(V5, "c").disconnect();
        let mut client = world.client(V5);
        let connect = Connect {
            clean_start: clean,
            ..Connect::new(V5, "c".into())
        };
        client.send(Packet::Connect(Box::new(connect)));
        let bytes = client.raw(3);
        assert_eq!((bytes[0], bytes[2]), (0x20, flags));
    }
}

#[test]
fn mqtt_3_2_2_2() {
    let world = World::new();
    world.durable(V5, "c").disconnect();
    assert!(!world.client(V5).connect("c", |_| ()).session_present);
}

#[test]
fn mqtt_3_2_2_3() {
    let world = World::new();
    world.durable(V5, "c").disconnect();
    assert!(world.client(V5).connect("c", lasting).session_present);
    assert!(!world.client(V5).connect("d", lasting).session_present);
}

#[test]
fn mqtt_3_2_2_6() {
    let world = World::new();
    world.durable(V5, "c").disconnect();
    let mut client = world.client(V5);
    let ack = client.connect("c", |connect| {
        lasting(connect);
        connect.user = Some("bob".into());
    });
    assert!(ack.reason.is_error() && !ack.session_present);
}

#[test]
fn mqtt_3_2_2_7() {
    let world = World::new();
    let mut client = world.client(V5);
    assert!(
        client
            .connect("c", |connect| connect.user = Some("bob".into()))
            .reason
            .is_error()
    );
    client.closed();
}

#[test]
fn mqtt_3_2_2_8() {
    let world = World::new();
    let codes = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95,
        0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
    ];
    for user in [None, Some("bob")] {
        let ack = world
            .client(V5)
            .connect("c", |connect| connect.user = user.map(Into::into));
        assert!(codes.contains(&ack.reason.0));
    }
}

#[test]
fn mqtt_3_2_2_10() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let granted = client.subscribe("a", qos);
        assert!(
            granted.len() == 1 && granted[0].0 <= qos as u8,
            "{granted:?}"
        );
    }
}

#[test]
fn mqtt_3_2_2_13() {
    // Retained messages are available: nothing says that they are not, and a will that is to be retained is taken.
    let world = World::new();
    let mut client = world.client(V5);
    client.bytes(b"\x10\x15\0\x04MQTT\x05\x26\0\0\0\0\x01c\0\0\x01w\0\x01x");
    let ack = client.raw_packet();
    assert_eq!(ack[3], 0);
    assert!(!property_ids(&ack, 4).contains(&0x25));
    client.vanish();
    let mut late = world.connected(V5, "late");
    late.subscribe("w", Qos::AtLeastOnce);
    assert!(late.take().retain);
}

#[test]
fn mqtt_3_2_2_16() {
    let world = World::new();
    let mut assigned = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let id = world
            .client(V5)
            .connect("", lasting)
            .assigned_client_id
            .unwrap();
        assert!(assigned.insert(id.to_string()));
    }
}

#[test]
fn mqtt_3_2_2_19() {
    // Nothing that is there for people makes CONNACK too long for its client.
    let world = World::new();
    for size in 5..60 {
        let mut client = world.client(V5);
        let mut connect = Connect::new(V5, "client".into());
        connect.maximum_packet_size = Some(size);
        connect.request_response_information = true;
        client.send(Packet::Connect(Box::new(connect)));
        let mut bytes = bytes::BytesMut::new();
        match client.packet_or_end() {
            Some(packet) => packet.encode(V5, &mut bytes),
            None => continue,
        }
        assert!(bytes.len() <= size as usize, "{size}");
    }
}

#[test]
fn mqtt_3_2_2_20() {
    // CONNACK carries no user properties at all.
    let world = World::new();
    let mut client = world.client(V5);
    client.bytes(b"\x10\x0f\0\x04MQTT\x05\x02\0\0\x02\x19\x01\0\0");
    let ids = property_ids(&client.raw_packet(), 4);
    assert!(ids.contains(&0x12) && ids.contains(&0x1a), "{ids:x?}");
    assert!(!ids.contains(&0x26), "{ids:x?}");
}

#[test]
fn mqtt_3_2_2_22() {
    // Without a server keep alive the client's own counts; with one, that one does.
    let world = World::new();
    let mut client = world.client(V5);
    let ack = client.connect("c", |connect| connect.keep_alive = 20);
    assert_eq!(ack.server_keep_alive, None);
    client.wait(29.0);
    assert!(!client.is_closed());
    client.wait(1.2).closed_with(Reason::KEEP_ALIVE_TIMEOUT);
    let world = World::with(|options| options.keep_alive_max = 10);
    let mut client = world.client(V5);
    let ack = client.connect("c", |connect| connect.keep_alive = 20);
    assert_eq!(ack.server_keep_alive, Some(10));
    client.wait(15.2).closed_with(Reason::KEEP_ALIVE_TIMEOUT);
}
