//! Every packet survives encoding and decoding, whole and cut anywhere.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bytes::{Bytes, BytesMut};
use proptest::{option, prelude::*};
use trivium_core::Text;
use trivium_mqtt::packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filter, Packet, Publish, Qos, Reason, RetainHandling,
    SubAck, Subscribe, UnsubAck, Unsubscribe, Version, Will,
    property::{id, put_binary, put_u8, put_user},
};

fn text() -> impl Strategy<Value = Text> {
    "[a-zA-Z0-9äß€ /$.-]{0,12}".prop_map(Text::from)
}

fn name() -> impl Strategy<Value = Text> {
    "[a-z0-9ä/]{1,200}".prop_map(Text::from)
}

fn data() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = Qos> {
    (0u8..3).prop_map(|bits| Qos::from_bits(bits).unwrap())
}

fn block() -> impl Strategy<Value = Bytes> {
    (
        option::of(0u8..2),
        option::of(text()),
        option::of(name()),
        option::of(data()),
        prop::collection::vec((text(), text()), 0..3),
    )
        .prop_map(
            |(format, content_type, response_topic, correlation, users)| {
                let mut out = BytesMut::new();
                put_u8(&mut out, id::PAYLOAD_FORMAT, format);
                put_binary(&mut out, id::CONTENT_TYPE, content_type.as_deref());
                put_binary(&mut out, id::RESPONSE_TOPIC, response_topic.as_deref());
                put_binary(&mut out, id::CORRELATION_DATA, correlation);
                users
                    .iter()
                    .for_each(|(name, value)| put_user(&mut out, name, value));
                out.freeze()
            },
        )
}

prop_compose! {
    fn will(is_5: bool)(topic in name(), payload in data(), qos in qos(), retain: bool, delay: u32, expiry in option::of(any::<u32>()), block in block()) -> Will {
        let properties = if is_5 { (delay, expiry, block) } else { (0, None, Bytes::new()) };
        Will { topic, payload, qos, retain, delay: properties.0, expiry: properties.1, block: properties.2 }
    }
}

prop_compose! {
    fn connect_3(version: Version)(clean_start: bool, keep_alive: u16, client_id in text(), will in option::of(will(false)), login in option::of((text(), option::of(data())))) -> Packet {
        let (user, password) = login.map_or((None, None), |(user, password)| (Some(user), password));
        let session_expiry = if clean_start { 0 } else { u32::MAX };
        Packet::Connect(Box::new(Connect { clean_start, keep_alive, session_expiry, will, user, password, ..Connect::new(version, client_id) }))
    }
}

prop_compose! {
    fn connect_5()(
        clean_start: bool, keep_alive: u16, client_id in text(), will in option::of(will(true)), user in option::of(text()), password in option::of(data()),
        session_expiry: u32, receive_maximum in 1u16.., maximum_packet_size in option::of(1u32..), topic_alias_maximum: u16,
        auth in option::of((text(), option::of(data()))), request: (bool, bool),
    ) -> Packet {
        let (authentication_method, authentication_data) = auth.map_or((None, None), |(method, data)| (Some(method), data));
        Packet::Connect(Box::new(Connect {
            version: Version::V5, bridge: false, clean_start, keep_alive, session_expiry, receive_maximum, maximum_packet_size, topic_alias_maximum,
            request_problem_information: request.0, request_response_information: request.1,
            authentication_method, authentication_data, client_id, will, user, password,
        }))
    }
}

prop_compose! {
    fn publish(is_5: bool)(flags: (bool, bool), qos in qos(), topic in name(), packet_id in 1u16.., alias in option::of(1u16..), block in block(), payload in data()) -> Packet {
        let dup = flags.0 && qos != Qos::AtMostOnce;
        let packet_id = if qos == Qos::AtMostOnce { 0 } else { packet_id };
        let (alias, block) = if is_5 { (alias, block) } else { (None, Bytes::new()) };
        Packet::Publish(Publish { dup, qos, retain: flags.1, topic, packet_id, alias, block, payload, ..Publish::default() })
    }
}

prop_compose! {
    fn subscribe(is_5: bool)(packet_id in 1u16.., subscription in option::of(1u32..=268_435_455), start in option::of("(offset|time)=[a-z0-9]{0,8}"), filters in prop::collection::vec((name(), qos(), any::<(bool, bool)>(), 0u8..3), 1..4)) -> Packet {
        let filter = |(filter, qos, flags, handling): (Text, Qos, (bool, bool), u8)| Filter {
            filter,
            qos,
            no_local: is_5 && flags.0,
            retain_as_published: is_5 && flags.1,
            retain_handling: match handling {
                1 if is_5 => RetainHandling::IfNew,
                2 if is_5 => RetainHandling::Never,
                _ => RetainHandling::Always,
            },
        };
        Packet::Subscribe(Subscribe { packet_id, subscription_id: subscription.filter(|_| is_5), start: start.filter(|_| is_5).map(Text::from), filters: filters.into_iter().map(filter).collect() })
    }
}

fn packet(version: Version) -> BoxedStrategy<Packet> {
    let is_5 = version.is_5();
    let connect = if is_5 {
        connect_5().boxed()
    } else {
        connect_3(version).boxed()
    };
    let ack = move |allowed: &'static [u8]| {
        (1u16.., prop::sample::select(allowed), option::of(text())).prop_map(
            move |(packet_id, reason, text)| match is_5 {
                true => Ack {
                    packet_id,
                    reason: Reason(reason),
                    reason_string: text,
                },
                false => Ack::new(packet_id, Reason::SUCCESS),
            },
        )
    };
    let reasons = || prop::collection::vec(any::<u8>().prop_map(Reason), 1..5);
    let connack = (any::<bool>(), any::<bool>(), option::of(text())).prop_map(
        move |(present, refused, text)| match is_5 {
            true => ConnAck {
                session_present: present,
                reason: Reason(if refused { 0x87 } else { 0 }),
                reason_string: text.clone(),
                receive_maximum: Some(9),
                shared_available: Some(false),
                server_keep_alive: Some(60),
                server_reference: text.clone(),
                response_information: text.clone(),
                authentication_method: text.clone(),
                authentication_data: text.clone().map(|text| text.as_bytes().clone()),
                ..ConnAck::default()
            },
            false => ConnAck {
                session_present: present && version == Version::V311,
                ..ConnAck::default()
            },
        },
    );
    let disconnect = (
        prop::sample::select(&[0u8, 4, 0x81, 0x8e][..]),
        option::of(any::<u32>()),
        option::of(text()),
    )
        .prop_map(move |(reason, session_expiry, reason_string)| match is_5 {
            true => Disconnect {
                reason: Reason(reason),
                session_expiry,
                server_reference: reason_string.clone(),
                reason_string,
            },
            false => Disconnect::default(),
        });
    let auth = (
        prop::sample::select(&[0u8, 0x18, 0x19][..]),
        option::of(text()),
        option::of(data()),
    )
        .prop_map(|(reason, method, data)| Auth {
            reason: Reason(reason),
            method,
            data,
        });
    let mut all = vec![
        connect,
        connack.prop_map(Packet::ConnAck).boxed(),
        publish(is_5).boxed(),
        ack(&[0, 0x10, 0x87, 0x97]).prop_map(Packet::PubAck).boxed(),
        ack(&[0, 0x80, 0x91]).prop_map(Packet::PubRec).boxed(),
        ack(&[0, 0x92]).prop_map(Packet::PubRel).boxed(),
        ack(&[0, 0x92]).prop_map(Packet::PubComp).boxed(),
        subscribe(is_5).boxed(),
        (1u16.., reasons())
            .prop_map(|(packet_id, reasons)| Packet::SubAck(SubAck { packet_id, reasons }))
            .boxed(),
        (1u16.., prop::collection::vec(name(), 1..4))
            .prop_map(|(packet_id, filters)| {
                Packet::Unsubscribe(Unsubscribe { packet_id, filters })
            })
            .boxed(),
        (1u16.., reasons())
            .prop_map(move |(packet_id, reasons)| {
                Packet::UnsubAck(UnsubAck {
                    packet_id,
                    reasons: if is_5 { reasons } else { Vec::new() },
                })
            })
            .boxed(),
        Just(Packet::PingReq).boxed(),
        Just(Packet::PingResp).boxed(),
        disconnect.prop_map(Packet::Disconnect).boxed(),
    ];
    if is_5 {
        all.push(auth.prop_map(Packet::Auth).boxed());
    }
    prop::strategy::Union::new(all).boxed()
}

fn any_packet() -> impl Strategy<Value = (Version, Packet)> {
    prop::sample::select(&[Version::V31, Version::V311, Version::V5][..])
        .prop_flat_map(|version| (Just(version), packet(version)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn packets_round_trip_whole_and_cut_anywhere((version, packet) in any_packet()) {
        let mut out = BytesMut::new();
        packet.encode(version, &mut out);
        let bytes = out.freeze();
        for cut in 0..bytes.len() {
            prop_assert_eq!(Packet::take(&mut bytes.slice(..cut), version, usize::MAX), Ok(None));
        }
        let mut rest = bytes;
        prop_assert_eq!(Packet::take(&mut rest, version, usize::MAX), Ok(Some(packet)));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(version in prop::sample::select(&[Version::V31, Version::V311, Version::V5][..]), first: u8, body in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = BytesMut::from(&[first, body.len() as u8][..]);
        bytes.extend_from_slice(&body);
        let _ = Packet::take(&mut bytes.freeze(), version, usize::MAX);
    }

    /// A packet with one byte changed is refused, or is some packet that round trips itself.
    #[test]
    fn damaged_packets_are_refused_or_consistent((version, packet) in any_packet(), at: prop::sample::Index, byte: u8) {
        let mut out = BytesMut::new();
        packet.encode(version, &mut out);
        let at = at.index(out.len());
        out[at] = byte;
        if let Ok(Some(read)) = Packet::take(&mut out.freeze(), version, 1 << 20) {
            let version = match &read { Packet::Connect(connect) => connect.version, _ => version };
            let mut again = BytesMut::new();
            read.encode(version, &mut again);
            prop_assert_eq!(Packet::take(&mut again.freeze(), version, usize::MAX), Ok(Some(read)));
        }
    }
}

/// MQTT 3.1 section 3.2: the first byte of the variable header is reserved. Found by the fuzz target `packet`.
#[test]
fn connack_of_3_1_has_no_session_present_flag() {
    let mut bytes = Bytes::from_static(&[0x20, 2, 1, 0]);
    let packet = Packet::take(&mut bytes, Version::V31, 1 << 20);
    let Ok(Some(Packet::ConnAck(ack))) = packet else {
        panic!("{packet:?}")
    };
    assert!(!ack.session_present);
}
