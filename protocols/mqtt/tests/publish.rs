//! What clients publish.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod peer;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peer::{ALL, Peer, V3, V5, publish, story, story_with};
use trivium_core::{Command, Event, Grammar, Message, Persistence, Refusal, Reply, Token};
use trivium_mqtt::{
    Strict,
    packet::{
        Ack, Packet, Publish, Qos, Reason, Version,
        property::{id, put_binary, put_u8, put_user},
    },
};

fn published(peer: &mut Peer) -> Vec<(Option<Token>, std::sync::Arc<Message>)> {
    let commands = peer.take_commands().into_iter();
    commands
        .map(|command| match command {
            Command::Publish {
                token,
                message,
                mandatory: false,
            } => (token, message),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn connected(mut peer: Peer) -> Peer {
    peer.connect();
    peer.take_commands();
    peer
}

fn tokens(published: &[(Option<Token>, std::sync::Arc<Message>)]) -> Vec<Token> {
    published.iter().map(|(token, _)| token.unwrap()).collect()
}

#[test]
fn mqtt_3_3_a_publish_is_a_publish_to_amq_topic() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        for (qos, id) in [(Qos::AtMostOnce, 0), (Qos::AtLeastOnce, 1)] {
            peer.send(Packet::Publish(Publish {
                retain: true,
                ..publish("orders/eu", qos, id)
            }))
            .unwrap();
        }
        let [(None, zero), (Some(_), one)] = &published(&mut peer)[..] else {
            panic!()
        };
        for message in [zero, one] {
            assert_eq!(
                (&*message.exchange, &**message.topic.text()),
                ("amq.topic", "orders/eu")
            );
            assert_eq!(message.topic.grammar(), Grammar::Slashes);
            assert_eq!(message.body.as_deref(), Some(&b"hello"[..]));
            assert_eq!(
                (
                    &*message.origin.client,
                    &*message.origin.user,
                    &*message.origin.protocol
                ),
                ("c", "guest", "mqtt")
            );
            assert_eq!(
                message.native.dialect.id(),
                if peer.version.is_5() { 2 } else { 3 }
            );
            assert!(message.retain);
        }
        assert_eq!(
            (zero.persistence, one.persistence),
            (Persistence::Transient, Persistence::Persistent)
        );
        assert!(peer.take_bytes().is_empty());
    });
}

#[test]
fn mqtt_4_6_0_2_pubacks_come_in_the_order_of_publishes() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        for id in [5, 3, 9] {
            peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, id)))
                .unwrap();
        }
        let tokens = tokens(&published(&mut peer));
        peer.event(Event::Confirmed {
            tokens: vec![tokens[2], tokens[1]],
        })
        .unwrap();
        assert!(peer.take_bytes().is_empty());
        peer.event(Event::Confirmed {
            tokens: vec![tokens[0]],
        })
        .unwrap();
        let acks = [5, 3, 9].map(|id| Packet::PubAck(Ack::new(id, Reason::SUCCESS)));
        assert_eq!(peer.take_packets(), acks);
    });
}

#[test]
fn mqtt_3_4_2_1_a_publish_without_subscribers_is_told_in_version_5() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, 1)))
            .unwrap();
        let token = tokens(&published(&mut peer))[0];
        peer.event(Event::Unrouted { token }).unwrap();
        assert!(peer.take_bytes().is_empty());
        peer.event(Event::Confirmed {
            tokens: vec![token],
        })
        .unwrap();
        let reason = if peer.version.is_5() {
            Reason::NO_MATCHING_SUBSCRIBERS
        } else {
            Reason::SUCCESS
        };
        assert_eq!(peer.take_packet(), Packet::PubAck(Ack::new(1, reason)));
    });
}

#[test]
fn mqtt_3_4_2_what_is_not_retained_for_want_of_room_is_told_when_it_is_durable() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, 1)))
            .unwrap();
        let tokens = tokens(&published(&mut peer));
        peer.event(Event::Unretained { token: tokens[0] }).unwrap();
        assert!(peer.take_bytes().is_empty());
        peer.event(Event::Confirmed { tokens }).unwrap();
        let reason = match peer.version.is_5() {
            true => Reason::QUOTA_EXCEEDED,
            false => Reason::SUCCESS,
        };
        assert_eq!(peer.take_packet(), Packet::PubAck(Ack::new(1, reason)));
    });
}

#[test]
fn design_3_5_refusals_have_their_reason() {
    let cases = [
        (Refusal::Denied("no".into()), Reason::NOT_AUTHORIZED),
        (
            Refusal::StorageFailed("disk is full".into()),
            Reason::QUOTA_EXCEEDED,
        ),
        (
            Refusal::TooLarge {
                name: "l".into(),
                size: 2,
                limit: 1,
            },
            Reason::QUOTA_EXCEEDED,
        ),
        (
            Refusal::Invalid("null key".into()),
            Reason::IMPLEMENTATION_SPECIFIC,
        ),
        (Refusal::Stopping, Reason::UNSPECIFIED),
    ];
    for (refusal, reason) in cases {
        story(V5, |peer| {
            let mut peer = connected(peer);
            peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, 1)))
                .unwrap();
            let tokens = tokens(&published(&mut peer));
            peer.event(Event::Refused {
                tokens,
                reason: refusal.clone(),
            })
            .unwrap();
            let reason_string = Some(refusal.to_string().into());
            assert_eq!(
                peer.take_packet(),
                Packet::PubAck(Ack {
                    packet_id: 1,
                    reason,
                    reason_string
                })
            );
        });
        story(V3, |peer| {
            let mut peer = connected(peer);
            peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, 1)))
                .unwrap();
            let tokens = tokens(&published(&mut peer));
            let result = peer.event(Event::Refused {
                tokens,
                reason: refusal.clone(),
            });
            // 3.3.5-2 of 3.1.1; and a failed write never looks like an acknowledgement.
            assert_eq!(result.is_ok(), matches!(refusal, Refusal::Denied(_)));
            assert_eq!(result.is_ok(), !peer.take_bytes().is_empty());
        });
    }
}

#[test]
fn mqtt_3_1_2_28_reason_strings_are_left_out_on_request_and_when_too_large() {
    for (information, size, explained) in [
        (true, None, true),
        (false, None, false),
        (true, Some(15), false),
    ] {
        story(V5, |mut peer| {
            peer.connect_with(|connect| {
                (
                    connect.request_problem_information,
                    connect.maximum_packet_size,
                ) = (information, size)
            });
            peer.take_commands();
            peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, 1)))
                .unwrap();
            let tokens = tokens(&published(&mut peer));
            peer.event(Event::Refused {
                tokens,
                reason: Refusal::Denied("no".into()),
            })
            .unwrap();
            let Packet::PubAck(ack) = peer.take_packet() else {
                panic!()
            };
            assert_eq!(
                (ack.reason, ack.reason_string.is_some()),
                (Reason::NOT_AUTHORIZED, explained)
            );
        });
    }
}

#[test]
fn mqtt_3_3_2_properties_travel_as_they_came() {
    let mut block = BytesMut::new();
    put_user(&mut block, "b", "1");
    put_user(&mut block, "a", "2");
    put_u8(&mut block, id::PAYLOAD_FORMAT, Some(1));
    put_binary(&mut block, id::RESPONSE_TOPIC, Some("re/ply"));
    put_binary(&mut block, id::CORRELATION_DATA, Some([0, 255]));
    put_user(&mut block, "b", "1");
    put_binary(&mut block, id::CONTENT_TYPE, Some("text/plain"));
    let block = block.freeze();
    story(V5, |peer| {
        let mut peer = connected(peer);
        // The expiry comes before them, between them and behind them.
        for at in [0, 7, block.len()] {
            let mut mixed = BytesMut::from(&block[..at]);
            mixed.extend_from_slice(&[id::MESSAGE_EXPIRY, 0, 0, 0, 7]);
            mixed.extend_from_slice(&block[at..]);
            peer.send(Packet::Publish(Publish {
                block: mixed.freeze(),
                ..publish("a", Qos::AtMostOnce, 0)
            }))
            .unwrap();
            let (_, message) = published(&mut peer).remove(0);
            assert_eq!(message.native.block, block);
            assert_eq!(message.expiry_ms, Some(7_000));
            let properties = message.properties();
            assert_eq!(properties.reply_to.as_deref(), Some("re/ply"));
            assert_eq!(properties.correlation_id.as_deref(), Some(&[0, 255][..]));
            assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
            let names: Vec<_> = properties.headers.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names, ["b", "a", "mq.utf8", "b"]);
        }
        peer.send(Packet::Publish(Publish {
            expiry: Some(0),
            ..publish("a", Qos::AtMostOnce, 0)
        }))
        .unwrap();
        assert_eq!(published(&mut peer)[0].1.expiry_ms, Some(0));
    });
}

#[test]
fn mqtt_3_3_2_7_topic_aliases() {
    story(V5, |mut peer| {
        assert_eq!(peer.connect_with(|_| ()).topic_alias_maximum, Some(16));
        peer.take_commands();
        for (topic, alias, meant) in [
            ("a", 16, "a"),
            ("", 16, "a"),
            ("b", 16, "b"),
            ("", 16, "b"),
            ("c", 1, "c"),
            ("", 1, "c"),
        ] {
            peer.send(Packet::Publish(Publish {
                alias: Some(alias),
                ..publish(topic, Qos::AtMostOnce, 0)
            }))
            .unwrap();
            let (_, message) = published(&mut peer).remove(0);
            assert_eq!(message.topic.text(), meant);
            assert!(message.native.block.is_empty());
        }
    });
    for (topic, alias, reason) in [
        ("a", 17, Reason::TOPIC_ALIAS_INVALID),
        ("a", 0, Reason::TOPIC_ALIAS_INVALID),
        ("", 2, Reason::PROTOCOL_ERROR),
    ] {
        story(V5, |peer| {
            let mut peer = connected(peer);
            let result = peer.send(Packet::Publish(Publish {
                alias: Some(alias),
                ..publish(topic, Qos::AtMostOnce, 0)
            }));
            peer.assert_closed(result, reason);
        });
    }
}

/// While disk or memory is short: version 5 is told, and whoever cannot be told waits in its socket.
#[test]
fn design_3_5_a_shortage_is_told_or_holds_back() {
    let blocked = || Event::Blocked {
        reason: "low on disk".into(),
    };
    story(V5, |mut peer| {
        // It began before the client came.
        peer.event(blocked()).unwrap();
        let mut peer = connected(peer);
        for (qos, id) in [(Qos::AtLeastOnce, 1), (Qos::ExactlyOnce, 2)] {
            peer.send(Packet::Publish(publish("a", qos, id))).unwrap();
            let ack = Ack {
                packet_id: id,
                reason: Reason::QUOTA_EXCEEDED,
                reason_string: Some("the broker is low on disk or memory".into()),
            };
            let expected = match qos {
                Qos::AtLeastOnce => Packet::PubAck(ack),
                _ => Packet::PubRec(ack),
            };
            assert_eq!(peer.take_packet(), expected);
        }
        assert_eq!(peer.take_commands().len(), 0);
        assert!(peer.protocol.wants_input());
        peer.event(Event::Unblocked).unwrap();
        peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, 1)))
            .unwrap();
        assert_eq!(published(&mut peer).len(), 1);
    });
    story(ALL, |peer| {
        let mut peer = connected(peer);
        peer.event(blocked()).unwrap();
        peer.send(Packet::PingReq).unwrap();
        assert_eq!(peer.take_packet(), Packet::PingResp);
        let qos = match peer.version.is_5() {
            true => Qos::AtMostOnce,
            false => Qos::AtLeastOnce,
        };
        peer.send(Packet::Publish(publish("a", qos, 1))).unwrap();
        assert_eq!(published(&mut peer).len(), 1, "it has been read");
        assert!(!peer.protocol.wants_input());
        // It is not read, so its silence does not count.
        peer.wait(Duration::from_secs(100_000)).unwrap();
        peer.event(Event::Unblocked).unwrap();
        assert!(peer.protocol.wants_input());
        peer.wait(Duration::from_secs(1)).unwrap();
        assert!(!peer.protocol.is_closed());
    });
}

#[test]
fn mqtt_3_3_4_9_the_receive_maximum_holds_back_publishers() {
    story(ALL, |mut peer| {
        let ack = peer.connect_with(|_| ());
        assert_eq!(ack.receive_maximum, peer.version.is_5().then_some(4));
        peer.take_commands();
        for id in 1..=4 {
            peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, id)))
                .unwrap();
        }
        assert_eq!(peer.protocol.wants_input(), peer.version.is_5());
        // Version 5 breaks the rule with the next one, is served on, and from then on waits as the others do.
        for id in 5..=6 {
            peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, id)))
                .unwrap();
        }
        assert!(!peer.protocol.wants_input());
        let published = published(&mut peer);
        assert_eq!(published.len(), if peer.version.is_5() { 5 } else { 4 });
        peer.event(Event::Confirmed {
            tokens: tokens(&published),
        })
        .unwrap();
        let rest = peer.take_commands().len();
        assert_eq!(published.len() + rest, 6);
    });
}

#[test]
fn mqtt_3_3_4_9_the_receive_maximum_disconnects_where_rules_are_strict() {
    story_with(
        V5,
        |options| options.strict = Strict::everywhere(),
        |peer| {
            let mut peer = connected(peer);
            for id in 1..=4 {
                peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, id)))
                    .unwrap();
            }
            let result = peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, 5)));
            peer.assert_closed(result, Reason::RECEIVE_MAXIMUM_EXCEEDED);
        },
    );
}

#[test]
fn mqtt_3_3_2_payloads_are_as_they_say_where_that_is_asked_for() {
    let utf8 = Bytes::from_static(&[0x03, 0, 1, b't', 0x01, 1]);
    let bad = |qos, id| Publish {
        block: utf8.clone(),
        payload: Bytes::from_static(&[0xff]),
        alias: Some(1),
        ..publish("topic", qos, id)
    };
    story_with(
        V5,
        |options| options.validate_payload_format = true,
        |peer| {
            let mut peer = connected(peer);
            peer.send(Packet::Publish(bad(Qos::AtLeastOnce, 7)))
                .unwrap();
            let Packet::PubAck(ack) = peer.take_packet() else {
                panic!("PUBACK");
            };
            assert_eq!(
                (ack.packet_id, ack.reason),
                (7, Reason::PAYLOAD_FORMAT_INVALID)
            );
            assert!(peer.commands.is_empty());
            // The alias holds all the same.
            let good = Publish {
                topic: "".into(),
                payload: "ü".into(),
                ..bad(Qos::AtMostOnce, 0)
            };
            peer.send(Packet::Publish(good)).unwrap();
            assert_eq!(published(&mut peer).len(), 1);
            let result = peer.send(Packet::Publish(bad(Qos::AtMostOnce, 0)));
            peer.assert_closed(result, Reason::PAYLOAD_FORMAT_INVALID);
        },
    );
    story(V5, |peer| {
        let mut peer = connected(peer);
        peer.send(Packet::Publish(bad(Qos::AtMostOnce, 0))).unwrap();
        assert_eq!(published(&mut peer).len(), 1);
    });
}

#[test]
fn mqtt_4_7_2_topics_of_the_broker_are_not_published_to() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        for (qos, id) in [(Qos::AtMostOnce, 0), (Qos::AtLeastOnce, 1)] {
            peer.send(Packet::Publish(publish("$SYS/broker", qos, id)))
                .unwrap();
        }
        assert!(peer.commands.is_empty());
        let Packet::PubAck(ack) = peer.take_packet() else {
            panic!()
        };
        let reason = if peer.version.is_5() {
            Reason::NOT_AUTHORIZED
        } else {
            Reason::SUCCESS
        };
        assert_eq!((ack.packet_id, ack.reason), (1, reason));
    });
}

#[test]
fn design_3_4_a_reply_to_a_queue_goes_by_the_default_exchange() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        peer.send(Packet::Publish(publish(
            "$queue/replies.1",
            Qos::AtMostOnce,
            0,
        )))
        .unwrap();
        let (_, message) = published(&mut peer).remove(0);
        assert_eq!(
            (&*message.exchange, &**message.topic.text()),
            ("", "replies.1")
        );
        assert_eq!(message.topic.grammar(), Grammar::Dots);
    });
}

#[test]
fn malformed_publishes_close() {
    let cases: &[(&[u8], &[u8], Reason)] = &[
        // 3.3.1-4: QoS 3.
        (
            &[0x36, 5, 0, 1, b'a', 0, 1],
            &[0x36, 6, 0, 1, b'a', 0, 1, 0],
            Reason::MALFORMED_PACKET,
        ),
        // 2.2.1-2: packet identifier 0.
        (
            &[0x32, 5, 0, 1, b'a', 0, 0],
            &[0x32, 6, 0, 1, b'a', 0, 0, 0],
            Reason::MALFORMED_PACKET,
        ),
        // 3.3.2-2: wildcards.
        (
            &[0x30, 3, 0, 1, b'#'],
            &[0x30, 4, 0, 1, b'#', 0],
            Reason::MALFORMED_PACKET,
        ),
        (
            &[0x30, 5, 0, 3, b'a', b'/', b'+'],
            &[0x30, 6, 0, 3, b'a', b'/', b'+', 0],
            Reason::MALFORMED_PACKET,
        ),
        // 4.7.3-2: U+0000.
        (
            &[0x30, 4, 0, 2, b'a', 0],
            &[0x30, 5, 0, 2, b'a', 0, 0],
            Reason::MALFORMED_PACKET,
        ),
        // 1.5.4-1: not UTF-8.
        (
            &[0x30, 3, 0, 1, 0xff],
            &[0x30, 4, 0, 1, 0xff, 0],
            Reason::MALFORMED_PACKET,
        ),
        // A topic longer than the packet.
        (
            &[0x30, 3, 0, 9, b'a'],
            &[0x30, 3, 0, 9, b'a'],
            Reason::MALFORMED_PACKET,
        ),
    ];
    for (v3, v5, reason) in cases {
        story(ALL, |peer| {
            let mut peer = connected(peer);
            let result = peer.send_bytes(if peer.version.is_5() { v5 } else { v3 });
            assert!(peer.commands.is_empty());
            peer.assert_closed(result, *reason);
        });
    }
    // 3.3.1-2: DUP at QoS 0; 4.7.3-1: an empty topic.
    for bytes in [[0x38, 3, 0, 1, b'a'], [0x30, 3, 0, 0, b'a']] {
        story(&[Version::V311], |peer| {
            assert!(connected(peer).send_bytes(&bytes).is_err())
        });
    }
}

#[test]
fn malformed_properties_close() {
    let cases: &[(&[u8], Reason)] = &[
        // 3.3.4-6: a subscription identifier from a client.
        (&[0x0b, 1], Reason::PROTOCOL_ERROR),
        // 3.3.2.3.4 and elsewhere: twice.
        (
            &[0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1],
            Reason::PROTOCOL_ERROR,
        ),
        (&[0x01, 1, 0x01, 1], Reason::PROTOCOL_ERROR),
        (&[0x01, 2], Reason::PROTOCOL_ERROR),
        // 3.3.2-14: a wildcard in the response topic.
        (&[0x08, 0, 1, b'#'], Reason::PROTOCOL_ERROR),
        // 2.2.2.2: a property of another packet; an unknown one.
        (&[0x11, 0, 0, 0, 1], Reason::MALFORMED_PACKET),
        (&[0x7f, 0], Reason::MALFORMED_PACKET),
        (&[0x26, 0, 1, b'a', 0, 1, 0], Reason::MALFORMED_PACKET),
        (&[0x03, 0, 9, b'a'], Reason::MALFORMED_PACKET),
    ];
    for (block, reason) in cases {
        story(V5, |peer| {
            let mut peer = connected(peer);
            let mut bytes = vec![0x30, 4 + block.len() as u8, 0, 1, b'a', block.len() as u8];
            bytes.extend_from_slice(block);
            let result = peer.send_bytes(&bytes);
            peer.assert_closed(result, *reason);
        });
    }
}

#[test]
fn a_run_of_packets_is_taken_in_one_turn() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let mut bytes = BytesMut::new();
        for topic in ["a", "a", "b", "a"] {
            Packet::Publish(publish(topic, Qos::AtMostOnce, 0)).encode(peer.version, &mut bytes);
        }
        peer.send_bytes(&bytes).unwrap();
        let topics: Vec<_> = published(&mut peer)
            .into_iter()
            .map(|(_, message)| message.topic.text().clone())
            .collect();
        assert_eq!(topics, ["a", "a", "b", "a"]);
    });
}

#[test]
fn an_empty_payload_is_empty_and_not_absent() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        peer.send(Packet::Publish(Publish {
            payload: Bytes::new(),
            ..publish("a", Qos::AtMostOnce, 0)
        }))
        .unwrap();
        assert_eq!(published(&mut peer)[0].1.body, Some(Bytes::new()));
    });
}

#[test]
fn mqtt311_2_2_2_1_dup_where_3_1_had_it_is_a_switch() {
    // SUBSCRIBE, UNSUBSCRIBE and PUBREL with DUP.
    let packets: [&[u8]; 3] = [
        &[0x8a, 6, 0, 1, 0, 1, b'a', 0],
        &[0xaa, 5, 0, 1, 0, 1, b'a'],
        &[0x6a, 2, 0, 1],
    ];
    for bytes in packets {
        story(V3, |peer| {
            let mut peer = connected(peer);
            peer.send_bytes(bytes).unwrap();
            for command in peer.answer(false) {
                if let Command::Retained { token, .. } = command {
                    peer.done(token, Reply::Retained(Vec::new()));
                }
            }
            assert!(!peer.take_packets().is_empty());
            // Any other bit still closes.
            let result = peer.send_bytes(&[&[bytes[0] | 1], &bytes[1..]].concat());
            assert!(result.is_err());
        });
        story_with(
            &[Version::V311],
            |options| options.strict = Strict::everywhere(),
            |peer| {
                let mut peer = connected(peer);
                assert!(peer.send_bytes(bytes).is_err());
            },
        );
        story(V5, |peer| {
            let mut peer = connected(peer);
            let result = peer.send_bytes(bytes);
            peer.assert_closed(result, Reason::MALFORMED_PACKET);
        });
    }
}

#[test]
fn mqtt_4_4_0_1_sending_again_on_a_live_connection_is_a_switch() {
    let again = Publish {
        dup: true,
        ..publish("a", Qos::AtLeastOnce, 1)
    };
    let send = |peer: &mut Peer| {
        peer.send(Packet::Publish(publish("a", Qos::AtLeastOnce, 1)))
            .unwrap();
        peer.send(Packet::Publish(again.clone()))
    };
    story(ALL, |peer| {
        let mut peer = connected(peer);
        send(&mut peer).unwrap();
        assert_eq!(published(&mut peer).len(), 2);
    });
    story_with(
        V5,
        |options| options.strict = Strict::everywhere(),
        |peer| {
            let mut peer = connected(peer);
            let result = send(&mut peer);
            peer.assert_closed(result, Reason::PROTOCOL_ERROR);
        },
    );
}
