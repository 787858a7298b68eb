//! Hostile input: refused early, without a panic and without memory in proportion to what was announced.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod peer;

use peer::{ALL, Peer, V5, story};
use proptest::prelude::*;
use trivium_mqtt::packet::{Connect, Packet, Qos, Reason};

#[test]
fn a_packet_over_the_maximum_is_refused_on_its_announced_length() {
    // 2.1.4: 256 MiB announced, nothing sent.
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let result = peer.send_bytes(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        peer.assert_closed(result, Reason::PACKET_TOO_LARGE);
    });
    story(ALL, |peer| {
        let mut peer = peer.connected();
        // 100,000 bytes are allowed in all.
        assert_eq!(peer.send_bytes(&[0x30, 0x9c, 0x8d, 0x06]), Ok(()));
        assert!(!peer.protocol.is_closed());
    });
}

#[test]
fn before_connect_128_kib_are_enough() {
    story(ALL, |mut peer| {
        assert!(peer.send_bytes(&[0x10, 0x80, 0x80, 0x08]).is_err());
        assert!(peer.take_bytes().is_empty());
    });
}

#[test]
fn mqtt_1_5_5_1_a_malformed_remaining_length_closes() {
    for bytes in [
        &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01][..],
        &[0xc0, 0x80, 0x00],
        &[0x30, 0x80, 0x80, 0x80, 0x80],
    ] {
        story(ALL, |peer| {
            let mut peer = peer.connected();
            let result = peer.send_bytes(bytes);
            peer.assert_closed(result, Reason::MALFORMED_PACKET);
        });
        story(ALL, |mut peer| {
            assert!(peer.send_bytes(&[&[0x10], &bytes[1..]].concat()).is_err())
        });
    }
}

#[test]
fn mqtt_2_1_3_1_reserved_flags_and_types_close() {
    for bytes in [
        &[0x00, 0][..],
        &[0x41, 2, 0, 1],
        &[0x60, 2, 0, 1],
        &[0xc1, 0],
        &[0xe1, 0],
        &[0xa0, 5, 0, 1, 0, 1, b'a'],
    ] {
        story(ALL, |peer| {
            let mut peer = peer.connected();
            let result = peer.send_bytes(bytes);
            peer.assert_closed(result, Reason::MALFORMED_PACKET);
        });
    }
}

#[test]
fn bytes_behind_the_last_field_close() {
    for bytes in [&[0xc0, 1, 0][..], &[0x40, 3, 0, 1, 0xff], &[0xe0, 1, 0x05]] {
        story(ALL, |peer| {
            let mut peer = peer.connected();
            let result = peer.send_bytes(bytes);
            peer.assert_closed(result, Reason::MALFORMED_PACKET);
        });
    }
}

#[test]
fn mqtt_3_4_2_1_reason_codes_of_other_packets_close() {
    for bytes in [[0x40, 3, 0, 1, 0x92], [0x62, 3, 0, 1, 0x10]] {
        story(V5, |peer| {
            let mut peer = peer.connected();
            let result = peer.send_bytes(&bytes);
            peer.assert_closed(result, Reason::MALFORMED_PACKET);
        });
    }
}

#[test]
fn what_came_before_the_fault_counts() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        let mut bytes = bytes::BytesMut::new();
        Packet::Publish(peer::publish("a", Qos::AtMostOnce, 0)).encode(peer.version, &mut bytes);
        bytes.extend_from_slice(&[0x30, 0xff, 0xff, 0xff, 0xff]);
        let result = peer.send_bytes(&bytes);
        assert_eq!(peer.commands.len(), 1);
        peer.assert_closed(result, Reason::MALFORMED_PACKET);
    });
}

#[test]
fn what_was_acknowledged_before_the_fault_is_settled() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.deliver(vec![peer::delivery(1, peer::message("a"), &[1])]);
        peer.take_commands();
        if peer.send_bytes(&[0x40, 2, 0, 1, 0x00, 0]).is_err() {
            peer.vanish();
        }
        assert!(matches!(
            &peer.commands[..],
            [trivium_core::Command::Settle { .. }]
        ));
    });
}

#[test]
fn too_many_filters_close() {
    story(V5, |peer| {
        let mut peer = peer.connected();
        let filters = vec![peer::subscribe("a", Qos::AtMostOnce).filters.remove(0); 16_385];
        let wanted = trivium_mqtt::packet::Subscribe {
            packet_id: 1,
            subscription_id: None,
            start: None,
            filters,
        };
        let result = peer.send(Packet::Subscribe(wanted));
        peer.assert_closed(result, Reason::QUOTA_EXCEEDED);
    });
}

#[test]
fn mqtt_3_1_a_connect_cut_anywhere_waits_or_closes() {
    for version in ALL {
        let mut whole = bytes::BytesMut::new();
        let connect = Connect {
            user: Some("u".into()),
            password: Some("p".into()),
            ..Connect::new(*version, "c".into())
        };
        Packet::Connect(Box::new(connect)).encode(*version, &mut whole);
        for cut in 0..whole.len() {
            let mut peer = Peer::new(*version, peer::Feed::Whole);
            assert_eq!(peer.send_bytes(&whole[..cut]), Ok(()));
            assert!(peer.commands.is_empty() && !peer.protocol.is_closed());
            // The same bytes, announced as the whole packet.
            let mut peer = Peer::new(*version, peer::Feed::Whole);
            let mut short = whole.to_vec();
            short.truncate(cut.max(2));
            short[1] = (short.len() - 2) as u8;
            let _ = peer.send_bytes(&short);
            assert!(peer.commands.is_empty());
        }
    }
}

proptest! {
    /// Whatever comes, whole or byte by byte, nothing panics and both ways end alike.
    #[test]
    fn any_bytes_end_alike_whole_and_bytewise(version in prop::sample::select(ALL), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut outcomes = Vec::new();
        for feed in [peer::Feed::Whole, peer::Feed::Bytewise] {
            let mut peer = Peer::new(version, feed).connected();
            peer.take_commands();
            let failed = peer.send_bytes(&bytes).is_err();
            outcomes.push((failed, peer.protocol.is_closed(), peer.take_bytes()));
        }
        let whole = &outcomes[0];
        prop_assert_eq!((whole.0, whole.1, &whole.2), (outcomes[1].0, outcomes[1].1, &outcomes[1].2));
    }
}
