//! CONNECT, keep alive, DISCONNECT, wills and takeover: bytes and events in, bytes and commands out.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod peer;

use std::time::Duration;

use bytes::Bytes;
use peer::{ALL, Peer, V3, V5, publish, story, story_with};
use trivium_core::{
    CancelReason, Change, Command, ConsumerId, Credentials, Event, Persistence, Refusal, Reply,
    Token,
};
use trivium_mqtt::{
    Strict,
    packet::{Auth, Connect, Disconnect, Packet, Qos, Reason, Version, Will},
};

fn refusal(peer: &mut Peer, connect: Connect) -> Reason {
    peer.send(Packet::Connect(Box::new(connect))).unwrap();
    match peer.take_packet() {
        Packet::ConnAck(ack) => {
            assert!(peer.protocol.is_closed() && !ack.session_present);
            ack.reason
        }
        other => panic!("{other:?}"),
    }
}

fn will() -> Will {
    Will {
        topic: "gone".into(),
        payload: Bytes::from_static(b"c"),
        qos: Qos::AtLeastOnce,
        retain: true,
        delay: 0,
        expiry: None,
        block: Bytes::new(),
    }
}

/// How often the session was told to publish the will.
fn wills(peer: &mut Peer) -> usize {
    usize::from(peer.parted == Some(true))
}

#[test]
fn mqtt_3_1_0_1_the_first_packet_is_connect() {
    for first in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"AMQP\0\0\x09\x01",
        &[0x30, 3, 0, 1, b'a'],
        &[0xc0, 0],
        &[0x11, 0],
        &[0x16, 3, 1],
    ] {
        story(ALL, |mut peer| {
            assert!(peer.send_bytes(first).is_err(), "{first:x?}");
            assert!(peer.take_bytes().is_empty() && peer.commands.is_empty());
        });
    }
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_closes() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let again = peer.send(Packet::Connect(Box::new(Connect::new(
            peer.version,
            "c".into(),
        ))));
        peer.assert_closed(again, Reason::PROTOCOL_ERROR);
    });
}

#[test]
fn mqtt_3_1_2_2_unknown_levels_are_told() {
    let cases: [(u8, &[u8]); 3] = [
        (0x83, &[0x20, 2, 0, 1]),
        (2, &[0x20, 2, 0, 1]),
        (6, &[0x20, 3, 0, 0x84, 0]),
    ];
    for (level, answer) in cases {
        story(V3, |mut peer| {
            let _ = peer.send_bytes(&[
                0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60, 0, 1, b'a',
            ]);
            assert_eq!(peer.take_bytes(), answer);
            assert!(peer.protocol.is_closed());
        });
    }
    story(V3, |mut peer| {
        assert!(
            peer.send_bytes(&[
                0x10, 13, 0, 4, b'N', b'O', b'T', b'T', 4, 2, 0, 60, 0, 1, b'a'
            ])
            .is_err()
        );
        assert!(peer.take_bytes().is_empty());
    });
}

#[test]
fn bridges_are_served_or_told_to_try_without_the_bit() {
    let bridge = |peer: &mut Peer| {
        let connect = Connect {
            bridge: true,
            ..Connect::new(peer.version, "b".into())
        };
        let _ = peer.send(Packet::Connect(Box::new(connect)));
    };
    story(ALL, |mut peer| {
        bridge(&mut peer);
        peer.answer(false);
        assert!(
            matches!(peer.take_packet(), Packet::ConnAck(ack) if ack.reason == Reason::SUCCESS)
        );
        let commands = peer.subscribe("a", Qos::AtLeastOnce);
        assert!(
            commands.iter().any(|command| matches!(
                command,
                Command::Define {
                    change: Change::Bind(binding),
                    ..
                } if binding.subscription.is_some_and(|it| it.no_local)
            )),
            "{commands:?}"
        );
    });
    story_with(
        ALL,
        |options| options.strict = Strict::everywhere(),
        |mut peer| {
            bridge(&mut peer);
            assert_eq!(peer.take_bytes(), &[0x20, 2, 0, 1][..]);
            assert!(peer.protocol.is_closed());
        },
    );
}

#[test]
fn mqtt31_client_identifiers_over_23_characters_are_a_switch() {
    let long = "ä".repeat(24);
    story(&[Version::V31], |mut peer| {
        let ack = peer.connect_with(|connect| connect.client_id = long.as_str().into());
        assert_eq!(ack.reason, Reason::SUCCESS);
    });
    story_with(
        &[Version::V31],
        |options| options.strict = Strict::everywhere(),
        |mut peer| {
            let connect = Connect::new(peer.version, long.as_str().into());
            assert_eq!(refusal(&mut peer, connect), Reason::CLIENT_ID_NOT_VALID);
        },
    );
}

#[test]
fn mqtt_3_2_2_21_the_server_keep_alive_counts() {
    for (wanted, told, closes) in [(0, Some(10), 15), (11, Some(10), 15), (9, None, 14)] {
        story_with(
            V5,
            |options| options.keep_alive_max = 10,
            |mut peer| {
                let ack = peer.connect_with(|connect| connect.keep_alive = wanted);
                assert_eq!(ack.server_keep_alive, told);
                if wanted == 9 {
                    assert_eq!(peer.wait(Duration::from_millis(13_400)), Ok(()));
                    assert!(!peer.protocol.is_closed());
                }
                let late = peer.wait(Duration::from_secs(closes));
                peer.assert_closed(late, Reason::KEEP_ALIVE_TIMEOUT);
            },
        );
    }
    story_with(
        V3,
        |options| options.keep_alive_max = 10,
        |mut peer| {
            assert_eq!(
                peer.connect_with(|connect| connect.keep_alive = 0).reason,
                Reason::SUCCESS
            );
            assert_eq!(peer.wait(Duration::from_secs(86_400)), Ok(()));
            assert!(!peer.protocol.is_closed());
        },
    );
}

#[test]
fn mqtt_3_1_2_28_response_information_is_for_who_asks() {
    story(V5, |mut peer| {
        let ack = peer.connect_with(|connect| connect.request_response_information = true);
        assert_eq!(ack.response_information.as_deref(), Some("replies/c/"));
    });
    story(V5, |mut peer| {
        assert_eq!(peer.connect_with(|_| ()).response_information, None);
    });
}

#[test]
fn mqtt_4_11_clients_are_sent_to_another_server() {
    let change = |moved: bool| {
        move |options: &mut trivium_mqtt::Options| {
            options.server_reference = "other.example:1883".into();
            options.server_moved = moved;
        }
    };
    story_with(V5, change(true), |mut peer| {
        let connect = Connect::new(peer.version, "c".into());
        peer.send(Packet::Connect(Box::new(connect))).unwrap();
        let Packet::ConnAck(ack) = peer.take_packet() else {
            panic!("CONNACK");
        };
        assert_eq!(ack.reason, Reason::SERVER_MOVED);
        assert_eq!(ack.server_reference.as_deref(), Some("other.example:1883"));
        assert!(peer.protocol.is_closed());
    });
    story_with(V5, change(false), |peer| {
        let mut peer = peer.connected();
        peer.event(Event::Shutdown).unwrap();
        let Packet::Disconnect(last) = peer.take_packet() else {
            panic!("DISCONNECT");
        };
        assert_eq!(last.reason, Reason::USE_ANOTHER_SERVER);
        assert_eq!(last.server_reference.as_deref(), Some("other.example:1883"));
    });
}

#[test]
fn mqtt_3_2_2_20_connack_fits_the_client() {
    let long = "i".repeat(100);
    let connect = |size: u32| {
        let id = long.as_str();
        move |connect: &mut Connect| {
            connect.client_id = id.into();
            connect.request_response_information = true;
            connect.maximum_packet_size = Some(size);
        }
    };
    story(V5, |mut peer| {
        assert!(
            peer.connect_with(connect(200))
                .response_information
                .is_some()
        );
    });
    story(V5, |mut peer| {
        assert_eq!(peer.connect_with(connect(60)).response_information, None);
    });
    // Limits that it will not reach are left out.
    story(V5, |mut peer| {
        let ack = peer.connect_with(|connect| connect.maximum_packet_size = Some(12));
        assert_eq!((ack.receive_maximum, ack.maximum_packet_size), (None, None));
    });
    // 3.1.2-24: nothing can be said to who takes packets of three bytes.
    story(V5, |mut peer| {
        let mut packet = Connect::new(peer.version, "c".into());
        connect(3)(&mut packet);
        peer.send(Packet::Connect(Box::new(packet))).unwrap();
        peer.answer(false);
        assert!(peer.take_bytes().is_empty() && peer.protocol.is_closed());
    });
}

#[test]
fn mqtt_3_14_2_3_reason_strings_of_disconnect_fit_the_client() {
    for (size, explained) in [(None, true), (Some(40), true), (Some(20), false)] {
        story(V5, |mut peer| {
            peer.connect_with(|connect| connect.maximum_packet_size = size);
            let result = peer.send_bytes(&[0x30, 4, 0, 1, b'#', 0]);
            assert_eq!(result, Ok(()));
            let Packet::Disconnect(last) = peer.take_packet() else {
                panic!("DISCONNECT");
            };
            assert_eq!(last.reason, Reason::MALFORMED_PACKET);
            assert_eq!(last.reason_string.is_some(), explained);
        });
    }
}

#[test]
fn mqtt_3_1_2_connect_flags_are_checked() {
    // Reserved bit; will QoS 3; will QoS and will retain without a will.
    for flags in [0x03, 0x1e, 0x0a, 0x22] {
        story(&[Version::V311], |mut peer| {
            let bytes = [
                0x10, 20, 0, 4, b'M', b'Q', b'T', b'T', 4, flags, 0, 60, 0, 1, b'a', 0, 1, b't', 0,
                2, b'x', b'y',
            ];
            assert!(peer.send_bytes(&bytes).is_err(), "{flags:x}");
        });
        story(V5, |mut peer| {
            let bytes = [
                0x10, 22, 0, 4, b'M', b'Q', b'T', b'T', 5, flags, 0, 60, 0, 0, 1, b'a', 0, 0, 1,
                b't', 0, 2, b'x', b'y',
            ];
            assert_eq!(peer.send_bytes(&bytes), Ok(()));
            assert_eq!(peer.take_bytes(), &[0x20, 3, 0, 0x81, 0][..]);
        });
    }
}

#[test]
fn mqtt311_3_1_2_22_a_password_needs_a_user() {
    story(&[Version::V311], |mut peer| {
        let connect = Connect {
            password: Some(Bytes::from_static(b"p")),
            ..Connect::new(peer.version, "c".into())
        };
        assert!(peer.send(Packet::Connect(Box::new(connect))).is_err());
    });
    story(V5, |mut peer| {
        assert_eq!(
            peer.connect_with(|connect| connect.password = Some(Bytes::from_static(b"p")))
                .reason,
            Reason::SUCCESS
        );
    });
}

#[test]
fn mqtt_3_1_3_client_identifiers() {
    story(ALL, |mut peer| {
        let long = "ä/".repeat(200);
        assert_eq!(
            peer.connect_with(|connect| connect.client_id = long.into())
                .reason,
            Reason::SUCCESS
        );
    });
    // 3.1.3-6, 3.2.2-16: assigned for both values of clean start.
    for clean_start in [true, false] {
        story(V5, |mut peer| {
            let ack = peer.connect_with(|connect| {
                (connect.client_id, connect.clean_start) = ("".into(), clean_start)
            });
            assert!(ack.assigned_client_id.is_some_and(|id| !id.is_empty()));
        });
    }
    // 3.1.3-7, 3.1.3-8 of 3.1.1
    story(&[Version::V311], |mut peer| {
        assert_eq!(
            peer.connect_with(|connect| connect.client_id = "".into())
                .reason,
            Reason::SUCCESS
        );
    });
    story(V3, |mut peer| {
        let connect = Connect {
            clean_start: false,
            ..Connect::new(peer.version, "".into())
        };
        assert_eq!(refusal(&mut peer, connect), Reason::CLIENT_ID_NOT_VALID);
    });
}

#[test]
fn mqtt_3_1_4_the_session_is_declared_and_attached() {
    story(ALL, |mut peer| {
        let connect = Connect {
            clean_start: false,
            session_expiry: 100,
            receive_maximum: 9,
            ..Connect::new(peer.version, "c".into())
        };
        peer.send(Packet::Connect(Box::new(connect))).unwrap();
        assert!(!peer.protocol.wants_input());
        let commands = peer.answer(true);
        let [
            Command::Authenticate {
                credentials: Credentials::Anonymous { loopback: true },
                ..
            },
            Command::Define {
                change:
                    Change::DeclareSession {
                        client: declared,
                        spec,
                        clean: false,
                    },
                ..
            },
            Command::Attach {
                consumer: ConsumerId(1),
                client,
                prefetch,
                will: None,
                ..
            },
            Command::Shares { .. },
        ] = &commands[..]
        else {
            panic!("{commands:?}")
        };
        assert_eq!((&**declared, &**client), ("c", "c"));
        assert!(spec.session && spec.durable);
        let is_5 = peer.version.is_5();
        assert_eq!(spec.expires, is_5.then_some(Duration::from_secs(100)));
        assert_eq!(*prefetch, if is_5 { 9 } else { 1024 });
        let Packet::ConnAck(ack) = peer.take_packet() else {
            panic!()
        };
        assert_eq!(ack.session_present, peer.version != Version::V31);
        assert!(peer.protocol.wants_input());
    });
}

#[test]
fn mqtt_3_1_2_4_clean_start_ends_the_old_session() {
    story(ALL, |mut peer| {
        peer.send(Packet::Connect(Box::new(Connect::new(
            peer.version,
            "c".into(),
        ))))
        .unwrap();
        let commands = peer.answer(false);
        let Command::Define {
            change: Change::DeclareSession {
                spec, clean: true, ..
            },
            ..
        } = &commands[1]
        else {
            panic!()
        };
        assert!(!spec.durable && spec.expires == Some(Duration::ZERO));
        assert!(matches!(peer.take_packet(), Packet::ConnAck(ack) if !ack.session_present));
    });
}

#[test]
fn mqtt_3_1_4_2_logins_are_checked() {
    story(ALL, |mut peer| {
        let login = (Some("u".into()), Some(Bytes::from_static(b"p")));
        let connect = Connect {
            user: login.0,
            password: login.1,
            ..Connect::new(peer.version, "c".into())
        };
        peer.send(Packet::Connect(Box::new(connect))).unwrap();
        let commands = peer.take_commands();
        let [
            Command::Authenticate {
                token,
                credentials:
                    Credentials::Password {
                        user,
                        password,
                        loopback: true,
                    },
            },
        ] = &commands[..]
        else {
            panic!("{commands:?}")
        };
        assert_eq!((&**user, &**password), ("u", &b"p"[..]));
        peer.event(Event::Done {
            token: *token,
            result: Err(Refusal::LoginRefused),
        })
        .unwrap();
        let answer: &[u8] = if peer.version.is_5() {
            &[0x20, 3, 0, 0x86, 0]
        } else {
            &[0x20, 2, 0, 4]
        };
        assert_eq!(peer.take_bytes(), answer);
        assert!(peer.protocol.is_closed() && peer.commands.is_empty());
    });
}

#[test]
fn mqtt_3_1_4_1_packets_behind_connect_wait_for_it() {
    story(ALL, |mut peer| {
        let mut bytes = bytes::BytesMut::new();
        Packet::Connect(Box::new(Connect::new(peer.version, "c".into())))
            .encode(peer.version, &mut bytes);
        Packet::PingReq.encode(peer.version, &mut bytes);
        peer.send_bytes(&bytes).unwrap();
        assert!(peer.take_bytes().is_empty());
        peer.answer(false);
        assert!(matches!(
            &peer.take_packets()[..],
            [Packet::ConnAck(_), Packet::PingResp]
        ));
    });
}

#[test]
fn mqtt_4_12_0_1_enhanced_authentication_is_refused() {
    story(V5, |mut peer| {
        let connect = Connect {
            authentication_method: Some("SCRAM".into()),
            ..Connect::new(Version::V5, "c".into())
        };
        assert_eq!(
            refusal(&mut peer, connect),
            Reason::BAD_AUTHENTICATION_METHOD
        );
    });
    story(V5, |peer| {
        let mut peer = peer.connected();
        let auth = peer.send(Packet::Auth(Auth::default()));
        peer.assert_closed(auth, Reason::PROTOCOL_ERROR);
    });
}

#[test]
fn mqtt_3_1_2_14_a_will_goes_to_the_session_with_its_qos_and_delay() {
    story(ALL, |mut peer| {
        let connect = Connect {
            will: Some(Will {
                qos: Qos::ExactlyOnce,
                delay: 7,
                ..will()
            }),
            ..Connect::new(peer.version, "c".into())
        };
        peer.send(Packet::Connect(Box::new(connect))).unwrap();
        let commands = peer.answer(false);
        let wills = commands.iter().filter_map(|command| match command {
            Command::Attach { will, .. } => will.clone(),
            _ => None,
        });
        let wills: Vec<_> = wills.collect();
        let [will] = &wills[..] else {
            panic!("{commands:?}")
        };
        let message = &will.message;
        assert!(message.retain && message.persistence == Persistence::ExactlyOnce);
        assert_eq!(message.topic.text(), "gone");
        let delay = if peer.version.is_5() { 7 } else { 0 };
        assert_eq!(will.delay, Duration::from_secs(delay));
    });
}

#[test]
fn mqtt_3_1_2_22_silence_of_one_and_a_half_keep_alives_closes() {
    story(ALL, |mut peer| {
        peer.connect_with(|connect| (connect.keep_alive, connect.will) = (10, Some(will())));
        peer.wait(Duration::from_millis(14_999)).unwrap();
        peer.send(Packet::PingReq).unwrap();
        assert_eq!(peer.take_packet(), Packet::PingResp);
        peer.wait(Duration::from_millis(14_999)).unwrap();
        assert!(!peer.protocol.is_closed());
        let timeout = peer.wait(Duration::from_millis(1));
        let silent = timeout.is_err();
        peer.assert_closed(timeout, Reason::KEEP_ALIVE_TIMEOUT);
        if silent {
            peer.vanish();
        }
        assert_eq!(wills(&mut peer), 1);
    });
}

#[test]
fn a_client_that_is_not_listened_to_is_not_silent() {
    story(ALL, |mut peer| {
        peer.connect_with(|connect| connect.keep_alive = 10);
        peer.wait(Duration::from_millis(14_999)).unwrap();
        let now = peer.now;
        peer.protocol.was_unheard(now);
        peer.wait(Duration::from_millis(14_999)).unwrap();
        assert!(!peer.protocol.is_closed());
        let late = peer.wait(Duration::from_millis(1));
        peer.assert_closed(late, Reason::KEEP_ALIVE_TIMEOUT);
    });
}

#[test]
fn mqtt_3_1_2_10_keep_alive_0_is_off() {
    story(ALL, |peer| {
        assert_eq!(peer.connected().protocol.next_timeout(), None)
    });
}

#[test]
fn a_peer_that_says_nothing_is_closed() {
    story(ALL, |mut peer| {
        assert!(peer.wait(Duration::from_secs(10)).is_err())
    });
}

#[test]
fn mqtt_3_1_2_8_the_will_is_published_when_the_client_vanishes() {
    story(ALL, |mut peer| {
        peer.connect_with(|connect| connect.will = Some(will()));
        peer.vanish();
        assert_eq!(wills(&mut peer), 1);
        assert!(peer.protocol.is_closed());
    });
}

#[test]
fn mqtt_3_14_4_3_the_will_is_dropped_at_disconnect() {
    story(ALL, |mut peer| {
        peer.connect_with(|connect| connect.will = Some(will()));
        peer.send(Packet::Disconnect(Disconnect::default()))
            .unwrap();
        assert!(peer.protocol.is_closed() && peer.take_bytes().is_empty());
        assert_eq!(wills(&mut peer), 0);
    });
    story(V5, |mut peer| {
        peer.connect_with(|connect| connect.will = Some(will()));
        peer.send(Packet::Disconnect(Disconnect::new(
            Reason::DISCONNECT_WITH_WILL,
        )))
        .unwrap();
        assert_eq!(wills(&mut peer), 1);
    });
}

#[test]
fn mqtt_3_1_2_7_a_violation_publishes_the_will() {
    story(ALL, |mut peer| {
        peer.connect_with(|connect| connect.will = Some(will()));
        let result = peer.send_bytes(&[0x36, 0]);
        let silent = result.is_err();
        peer.assert_closed(result, Reason::MALFORMED_PACKET);
        if silent {
            peer.vanish();
        }
        assert_eq!(wills(&mut peer), 1);
    });
}

#[test]
fn mqtt_3_14_2_2_disconnect_may_change_the_session_expiry() {
    story(V5, |mut peer| {
        peer.connect_with(|connect| (connect.session_expiry, connect.clean_start) = (60, false));
        peer.send(Packet::Disconnect(Disconnect {
            session_expiry: Some(5),
            ..Disconnect::default()
        }))
        .unwrap();
        let commands = peer.take_commands();
        let [
            Command::Define {
                change:
                    Change::DeclareSession {
                        spec, clean: false, ..
                    },
                ..
            },
        ] = &commands[..]
        else {
            panic!("{commands:?}")
        };
        assert_eq!(spec.expires, Some(Duration::from_secs(5)));
    });
    story(V5, |peer| {
        let mut peer = peer.connected();
        let result = peer.send(Packet::Disconnect(Disconnect {
            session_expiry: Some(5),
            ..Disconnect::default()
        }));
        peer.assert_closed(result, Reason::PROTOCOL_ERROR);
    });
}

#[test]
fn mqtt_3_1_4_3_a_session_that_is_taken_over_closes() {
    story(ALL, |mut peer| {
        peer.connect_with(|connect| connect.will = Some(will()));
        let result = peer.event(Event::Cancelled {
            consumer: ConsumerId(1),
            reason: CancelReason::TakenOver,
        });
        assert_eq!(wills(&mut peer), 1);
        peer.assert_closed(result, Reason::SESSION_TAKEN_OVER);
    });
}

#[test]
fn mqtt_3_14_shutdown_is_told() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let result = peer.event(Event::Shutdown);
        peer.assert_closed(result, Reason::SERVER_SHUTTING_DOWN);
    });
    story(V5, |mut peer| {
        peer.send(Packet::Connect(Box::new(Connect::new(
            Version::V5,
            "c".into(),
        ))))
        .unwrap();
        peer.event(Event::Shutdown).unwrap();
        assert!(
            matches!(peer.take_packet(), Packet::ConnAck(ack) if ack.reason == Reason::SERVER_UNAVAILABLE)
        );
    });
}

#[test]
fn mqtt_3_2_2_a_session_that_cannot_be_attached_is_refused() {
    story(ALL, |mut peer| {
        let connect = Connect::new(peer.version, "c".into());
        peer.send(Packet::Connect(Box::new(connect))).unwrap();
        let token = Token(1);
        let user = "guest".into();
        let tags = Vec::new();
        peer.done(token, Reply::Authenticated { user, tags });
        peer.event(Event::Done {
            token: Token(4),
            result: Err(Refusal::Stopping),
        })
        .unwrap();
        assert!(
            matches!(peer.take_packet(), Packet::ConnAck(ack) if ack.reason == Reason::SERVER_UNAVAILABLE)
        );
        assert!(peer.protocol.is_closed());
    });
}

#[test]
fn mqtt_4_13_1_packets_of_the_server_close() {
    // CONNACK, SUBACK, UNSUBACK, PINGRESP.
    for (v3, v5) in [
        (&[0x20, 2, 0, 0][..], &[0x20, 3, 0, 0, 0][..]),
        (&[0x90, 3, 0, 1, 0], &[0x90, 4, 0, 1, 0, 0]),
        (&[0xb0, 2, 0, 1], &[0xb0, 4, 0, 1, 0, 0]),
        (&[0xd0, 0], &[0xd0, 0]),
    ] {
        story(ALL, |peer| {
            let mut peer = peer.connected();
            let result = peer.send_bytes(if peer.version.is_5() { v5 } else { v3 });
            peer.assert_closed(result, Reason::PROTOCOL_ERROR);
        });
    }
}

#[test]
fn nothing_is_read_after_disconnect() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let mut bytes = bytes::BytesMut::new();
        Packet::Disconnect(Disconnect::default()).encode(peer.version, &mut bytes);
        Packet::Publish(publish("a", Qos::AtMostOnce, 0)).encode(peer.version, &mut bytes);
        peer.take_commands();
        peer.send_bytes(&bytes).unwrap();
        assert!(peer.commands.is_empty());
    });
}
