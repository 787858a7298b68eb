//! A client that sends anything.

use bytes::{BufMut, BytesMut};
use trivium_mqtt::packet::{
    Ack, Connect, Disconnect, Packet, Publish, Qos, Reason, Subscribe, Unsubscribe, Version,
};

use super::Chance;

/// Some bytes: a packet, one with a byte changed, or anything.
pub fn bytes(chance: &mut Chance<'_>, version: Version) -> BytesMut {
    let mut out = BytesMut::new();
    if chance.below(4) == 0 {
        for _ in 0..chance.below(12) {
            out.put_u8(chance.below(256) as u8);
        }
        return out;
    }
    packet(chance).encode(version, &mut out);
    if chance.below(3) == 0 {
        let at = chance.below(out.len() as u64) as usize;
        out[at] = chance.below(256) as u8;
    }
    out
}

/// The packet with which it begins.
pub fn hello(version: Version, chance: &mut Chance<'_>) -> BytesMut {
    let mut connect = Connect::new(version, "stranger".into());
    connect.clean_start = chance.is(2);
    connect.session_expiry = if version.is_5() {
        chance.below(2) as u32 * 100
    } else {
        0
    };
    if !version.is_5() {
        connect.session_expiry = if connect.clean_start { 0 } else { u32::MAX };
    }
    connect.receive_maximum = if version.is_5() { 2 } else { u16::MAX };
    let mut out = BytesMut::new();
    Packet::Connect(Box::new(connect)).encode(version, &mut out);
    out
}

fn packet(chance: &mut Chance<'_>) -> Packet {
    let packet_id = chance.below(4) as u16;
    let ack = Ack::new(
        packet_id,
        *chance.of(&[Reason::SUCCESS, Reason::UNSPECIFIED]),
    );
    match chance.below(12) {
        0 => Packet::PubAck(ack),
        1 => Packet::PubRec(ack),
        2 => Packet::PubRel(Ack::new(packet_id, Reason::SUCCESS)),
        3 => Packet::PubComp(Ack::new(packet_id, Reason::SUCCESS)),
        4 => Packet::PingReq,
        5 => Packet::Disconnect(Disconnect::default()),
        6 | 7 => Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            start: None,
            filters: vec![trivium_mqtt::packet::Filter {
                filter: (*chance.of(&["#", "a", "+/+", "x/#", "$share/h/#"])).into(),
                qos: *chance.of(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]),
                no_local: false,
                retain_as_published: false,
                retain_handling: Default::default(),
            }],
        }),
        8 => Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters: vec![(*chance.of(&["#", "a", "$share/h/#"])).into()],
        }),
        _ => {
            let qos = *chance.of(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]);
            Packet::Publish(Publish {
                dup: qos > Qos::AtMostOnce && chance.is(3),
                qos,
                retain: chance.is(3),
                topic: (*chance.of(&["a", "b", "x/y", "s/1"])).into(),
                packet_id: if qos == Qos::AtMostOnce { 0 } else { packet_id },
                payload: "stranger".into(),
                ..Publish::default()
            })
        }
    }
}
