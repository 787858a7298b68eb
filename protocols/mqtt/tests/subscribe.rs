//! SUBSCRIBE, UNSUBSCRIBE and retained messages.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod peer;

use std::sync::Arc;

use bytes::Bytes;
use peer::{ALL, Peer, V3, V5, message, story, subscribe};
use trivium_core::{
    BindingTag, CancelReason, Change, Command, Delivery, DeliveryId, Destination, Event, Grammar,
    Message, OWN_PACKET_IDS, Offset, Outcome, Persistence, Refusal, Reply, Retained, StreamStart,
    Subscription, Timestamp, Token,
};
use trivium_mqtt::packet::{
    Filter, Packet, Publish, Qos, Reason, RetainHandling, SubAck, Subscribe, UnsubAck, Unsubscribe,
    Version,
};

fn bindings(commands: &[Command]) -> Vec<(String, Subscription)> {
    let bind = |command: &Command| match command {
        Command::Define {
            change: Change::Bind(binding),
            ..
        } => {
            assert_eq!(binding.source, "amq.topic");
            assert_eq!(binding.destination, Destination::Session("c".into()));
            assert_eq!(binding.grammar, Grammar::Slashes);
            Some((binding.key.to_string(), binding.subscription.unwrap()))
        }
        _ => None,
    };
    commands.iter().filter_map(bind).collect()
}

fn retained_tokens(commands: &[Command]) -> Vec<Token> {
    let token = |command: &Command| match command {
        Command::Retained { token, .. } => Some(*token),
        _ => None,
    };
    commands.iter().filter_map(token).collect()
}

#[test]
fn mqtt_3_8_4_a_subscription_is_a_binding_of_the_session() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let mut wanted = subscribe("a/+/#", Qos::ExactlyOnce);
        wanted
            .filters
            .push(subscribe("b", Qos::AtMostOnce).filters.remove(0));
        if peer.version.is_5() {
            wanted.subscription_id = Some(268_435_455);
            wanted.filters[0].no_local = true;
            wanted.filters[0].retain_as_published = true;
        }
        peer.send(Packet::Subscribe(wanted)).unwrap();
        // 3.8.4-1: nothing else is taken until it is carried out.
        assert!(!peer.protocol.wants_input() && peer.take_bytes().is_empty());
        let commands = peer.answer(false);
        let bound = bindings(&commands);
        let is_5 = peer.version.is_5();
        let tags = if is_5 {
            [0xffff_fffe, 0xffff_fff0]
        } else {
            [2, 0]
        };
        assert_eq!(
            bound[0],
            (
                "a/+/#".into(),
                Subscription {
                    tag: BindingTag(tags[0]),
                    best_effort: false,
                    no_local: is_5
                }
            )
        );
        assert_eq!(
            bound[1],
            (
                "b".into(),
                Subscription {
                    tag: BindingTag(tags[1]),
                    best_effort: true,
                    no_local: false
                }
            )
        );
        assert_eq!(
            peer.take_packet(),
            Packet::SubAck(SubAck {
                packet_id: 7,
                reasons: vec![Reason(2), Reason(0)]
            })
        );
        // What the client publishes next would overtake what is retained.
        for command in commands {
            if let Command::Retained { token, .. } = command {
                assert!(!peer.protocol.wants_input());
                peer.done(token, Reply::Retained(Vec::new()));
            }
        }
        assert!(peer.protocol.wants_input());
    });
}

#[test]
fn mqtt_3_8_4_5_a_long_subscribe_is_carried_out_in_order() {
    story(V5, |peer| {
        let mut peer = peer.connected();
        let filters: Vec<_> = (0..300)
            .map(|i| {
                subscribe(&format!("t/{i}"), Qos::AtLeastOnce)
                    .filters
                    .remove(0)
            })
            .collect();
        peer.send(Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscription_id: None,
            start: None,
            filters,
        }))
        .unwrap();
        let bound = bindings(&peer.answer(false));
        assert!(
            bound
                .iter()
                .enumerate()
                .all(|(i, (key, _))| *key == format!("t/{i}"))
        );
        assert_eq!(
            peer.take_packet(),
            Packet::SubAck(SubAck {
                packet_id: 1,
                reasons: vec![Reason(1); 300]
            })
        );
    });
}

#[test]
fn mqtt_3_9_3_refusals_are_told_as_the_version_can() {
    for (refusal, reason) in [
        (Refusal::Denied("no".into()), 0x87),
        (Refusal::Quota("too many".into()), 0x97),
    ] {
        refused_subscriptions(&refusal, reason);
    }
}

fn refused_subscriptions(refusal: &Refusal, reason: u8) {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let mut wanted = subscribe("secret", Qos::AtLeastOnce);
        wanted
            .filters
            .push(subscribe("open", Qos::AtLeastOnce).filters.remove(0));
        peer.send(Packet::Subscribe(wanted)).unwrap();
        let commands = peer.take_commands();
        for command in &commands {
            let Command::Define {
                token,
                change: Change::Bind(binding),
            } = command
            else {
                panic!()
            };
            let result = if binding.key == "open" {
                Ok(Reply::Bound { created: true })
            } else {
                Err(refusal.clone())
            };
            peer.event(Event::Done {
                token: *token,
                result,
            })
            .unwrap();
        }
        let refused = match peer.version {
            Version::V31 => 0,
            Version::V311 => 0x80,
            Version::V5 => reason,
        };
        assert_eq!(
            peer.take_packet(),
            Packet::SubAck(SubAck {
                packet_id: 7,
                reasons: vec![Reason(refused), Reason(1)]
            })
        );
        // No retained messages for what was refused.
        assert_eq!(retained_tokens(&peer.take_commands()).len(), 1);
    });
}

#[test]
fn mqtt_4_8_2_a_shared_subscription_is_a_part_in_a_group() {
    story(ALL, |mut peer| {
        let ack = peer.connect_with(|_| ());
        assert_eq!(ack.shared_available, None);
        let joined = peer.subscribe("$share/g/a/+", Qos::ExactlyOnce);
        let [
            Command::Define {
                change:
                    Change::Join {
                        client,
                        group,
                        filter,
                        subscription,
                        log: None,
                    },
                ..
            },
            Command::Shares { token },
        ] = &joined[..]
        else {
            panic!("{joined:?}")
        };
        assert_eq!((&**client, &**group, &**filter), ("c", "g", "a/+"));
        peer.done(
            *token,
            Reply::Shares(vec![("queue".into(), subscription.tag)]),
        );
        let commands = peer.take_commands();
        let [
            Command::Consume {
                consumer,
                queue,
                spec,
                ..
            },
        ] = &commands[..]
        else {
            panic!("{commands:?}")
        };
        assert!(queue == "queue" && spec.session && !spec.takeover && !spec.auto_ack);
        let consumer = *consumer;
        let take = |peer: &mut Peer, delivery| {
            let deliveries = vec![delivery];
            peer.event(Event::Deliver {
                consumer,
                deliveries,
            })
            .unwrap();
        };
        // QoS 1: a packet identifier that the session never uses, and no DUP.
        take(
            &mut peer,
            Delivery {
                redelivered: true,
                ..peer::delivery(1, message("a/b"), &[])
            },
        );
        assert!(
            matches!(peer.take_packet(), Packet::Publish(sent) if sent.packet_id > OWN_PACKET_IDS && !sent.dup)
        );
        // 4.8.2-4: QoS 2 stays with this client, so it becomes its session's.
        let sure = Message {
            persistence: Persistence::ExactlyOnce,
            ..message("a/b")
        };
        take(&mut peer, peer::delivery(2, sure, &[]));
        assert!(matches!(
            &peer.take_commands()[..],
            [Command::Adopt { delivery: DeliveryId(2), tag, .. }] if *tag == subscription.tag
        ));
        assert!(peer.take_packets().is_empty());
        let unsubscribe = Packet::Unsubscribe(Unsubscribe {
            packet_id: 9,
            filters: vec!["$share/g/a/+".into()],
        });
        peer.send(unsubscribe).unwrap();
        let left = peer.answer(false);
        let [
            Command::Define {
                change: Change::Leave { .. },
                ..
            },
            Command::Shares { token },
        ] = &left[..]
        else {
            panic!("{left:?}")
        };
        peer.done(*token, Reply::Shares(Vec::new()));
        assert!(matches!(peer.take_commands()[..], [Command::Cancel { .. }]));
        // What was on its way is another member's.
        take(&mut peer, peer::delivery(3, message("a/b"), &[]));
        assert!(matches!(
            peer.take_commands()[..],
            [Command::Settle {
                outcome: Outcome::Requeue,
                ..
            }]
        ));
    });
}

#[test]
fn a_shared_subscription_of_a_log_is_a_part_in_a_group_that_shares_it() {
    story(ALL, |mut peer| {
        peer.connect();
        let joined = peer.subscribe("$share/g/$stream/a.b?offset=7", Qos::AtLeastOnce);
        let [
            Command::Define {
                change:
                    Change::Join {
                        group,
                        filter,
                        subscription,
                        log: Some(log),
                        ..
                    },
                ..
            },
            Command::Shares { token },
        ] = &joined[..]
        else {
            panic!("{joined:?}")
        };
        // Where it begins is no part of what the group is called.
        assert_eq!(
            (&**group, &**filter, &*log.log),
            ("g", "$stream/a.b", "a.b")
        );
        assert_eq!(log.from, StreamStart::Offset(Offset(7)));
        let queue = "\0g/$stream/a.b";
        let shares = Reply::Shares(vec![(queue.into(), subscription.tag)]);
        peer.done(*token, shares);
        let commands = peer.take_commands();
        let [Command::Consume { consumer, spec, .. }] = &commands[..] else {
            panic!("{commands:?}")
        };
        assert!(spec.session && !spec.auto_ack);
        let consumer = *consumer;
        // The QoS is the subscription's, and a topic that MQTT cannot say is that of the log.
        let transient = Message {
            persistence: Persistence::Transient,
            ..message("a/#")
        };
        let deliveries = vec![peer::delivery(1, transient, &[])];
        peer.event(Event::Deliver {
            consumer,
            deliveries,
        })
        .unwrap();
        assert!(
            matches!(peer.take_packet(), Packet::Publish(sent) if sent.qos == Qos::AtLeastOnce && sent.topic == "$stream/a.b")
        );
        // Who leaves is not told that the group has gone with its last member.
        let unsubscribe = Packet::Unsubscribe(Unsubscribe {
            packet_id: 9,
            filters: vec!["$share/g/$stream/a.b?offset=first".into()],
        });
        peer.send(unsubscribe).unwrap();
        let left = peer.answer(false);
        assert!(
            matches!(&left[..], [
                Command::Cancel { consumer: ended, .. },
                Command::Define { change: Change::Leave { filter, .. }, .. },
                Command::Shares { .. },
            ] if *ended == consumer && *filter == "$stream/a.b"),
            "{left:?}"
        );
        let reason = CancelReason::QueueDeleted;
        peer.event(Event::Cancelled { consumer, reason }).unwrap();
        peer.take_packets();
        peer.subscribe("a/b", Qos::AtMostOnce);
    });
}

#[test]
fn a_member_of_a_group_is_told_that_its_log_was_deleted() {
    story(V5, |mut peer| {
        peer.connect();
        let joined = peer.subscribe("$share/g/$stream/log", Qos::AtLeastOnce);
        let Some(Command::Shares { token }) = joined.last() else {
            panic!("{joined:?}")
        };
        let shares = vec![("\0g/$stream/log".into(), BindingTag(1))];
        peer.done(*token, Reply::Shares(shares));
        let commands = peer.take_commands();
        let [Command::Consume { consumer, .. }] = commands[..] else {
            panic!("{commands:?}")
        };
        let reason = CancelReason::QueueDeleted;
        peer.event(Event::Cancelled { consumer, reason }).unwrap();
        assert!(
            matches!(peer.take_packet(), Packet::Disconnect(it) if it.reason == Reason::ADMINISTRATIVE_ACTION)
        );
    });
}

#[test]
fn what_cannot_be_shared_is_no_filter() {
    story(V5, |mut peer| {
        peer.connect();
        for bad in [
            "$share/g/$queue/q",
            "$share/g/$stream/",
            "$share/g/$stream/+",
            "$share/g/$stream/__x",
            "$share/g/$stream/log?offset=soon",
        ] {
            peer.send(Packet::Subscribe(peer::subscribe(bad, Qos::AtLeastOnce)))
                .unwrap();
            assert!(
                matches!(peer.take_packet(), Packet::SubAck(ack) if ack.reasons == [Reason::FILTER_INVALID]),
                "{bad}"
            );
        }
    });
}

#[test]
fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_closes() {
    story(V5, |peer| {
        let mut peer = peer.connected();
        let mut wanted = subscribe("$share/g/a", Qos::AtLeastOnce);
        wanted.filters[0].no_local = true;
        let result = peer.send(Packet::Subscribe(wanted));
        peer.assert_closed(result, Reason::PROTOCOL_ERROR);
    });
}

#[test]
fn mqtt_4_8_2_1_a_group_has_a_name_and_a_filter() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.send(Packet::Subscribe(subscribe("$share/g", Qos::AtLeastOnce)))
            .unwrap();
        let reason = match peer.version {
            Version::V5 => 0x8f,
            Version::V311 => 0x80,
            Version::V31 => 0,
        };
        let Packet::SubAck(ack) = peer.take_packet() else {
            panic!()
        };
        assert_eq!(ack.reasons, [Reason(reason)]);
    });
}

#[test]
fn mqtt_3_10_4_unsubscribe_tells_whether_there_was_a_subscription() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        peer.send(Packet::Unsubscribe(Unsubscribe {
            packet_id: 3,
            filters: vec!["a".into(), "b".into()],
        }))
        .unwrap();
        for (command, existed) in peer.take_commands().into_iter().zip([true, false]) {
            let Command::Define {
                token,
                change: Change::Unbind(binding),
            } = command
            else {
                panic!()
            };
            assert_eq!(binding.destination, Destination::Session("c".into()));
            peer.done(token, Reply::Unbound { existed });
        }
        let reasons = if peer.version.is_5() {
            vec![Reason(0), Reason(0x11)]
        } else {
            Vec::new()
        };
        assert_eq!(
            peer.take_packet(),
            Packet::UnsubAck(UnsubAck {
                packet_id: 3,
                reasons
            })
        );
    });
}

#[test]
fn mqtt_3_3_1_9_retain_handling() {
    for (handling, created, wanted) in [
        (RetainHandling::Always, false, true),
        (RetainHandling::IfNew, true, true),
        (RetainHandling::IfNew, false, false),
        (RetainHandling::Never, true, false),
    ] {
        story(V5, |peer| {
            let mut peer = peer.connected();
            peer.take_commands();
            let filter = Filter {
                retain_handling: handling,
                ..subscribe("a/#", Qos::AtLeastOnce).filters.remove(0)
            };
            peer.send(Packet::Subscribe(Subscribe {
                packet_id: 1,
                subscription_id: None,
                start: None,
                filters: vec![filter],
            }))
            .unwrap();
            let commands = peer.take_commands();
            let [Command::Define { token, .. }] = &commands[..] else {
                panic!()
            };
            peer.done(*token, Reply::Bound { created });
            assert_eq!(
                !retained_tokens(&peer.take_commands()).is_empty(),
                wanted,
                "{handling:?} {created}"
            );
        });
    }
    // 3.8.4-3 of 3.1.1: at every SUBSCRIBE.
    story(V3, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        peer.send(Packet::Subscribe(subscribe("a/#", Qos::AtLeastOnce)))
            .unwrap();
        let Some(Command::Define { token, .. }) = peer.take_commands().pop() else {
            panic!()
        };
        peer.done(token, Reply::Bound { created: false });
        assert_eq!(retained_tokens(&peer.take_commands()).len(), 1);
    });
}

fn retained(topic: &str, persistence: Persistence) -> Retained {
    let message = Message {
        retain: true,
        persistence,
        expiry_ms: Some(10_000),
        ..message(topic)
    };
    Retained {
        message: Arc::new(message),
        accepted: Timestamp(998_500),
    }
}

#[test]
fn mqtt_3_3_1_8_retained_messages_are_sent_with_retain() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let mut wanted = subscribe("a/#", Qos::AtLeastOnce);
        wanted.subscription_id = peer.version.is_5().then_some(6);
        peer.send(Packet::Subscribe(wanted)).unwrap();
        let token = retained_tokens(&peer.answer(false))[0];
        peer.take_packets();
        let messages = vec![
            retained("a/0", Persistence::Transient),
            retained("a/1", Persistence::Persistent),
        ];
        peer.done(token, Reply::Retained(messages));
        let is_5 = peer.version.is_5();
        let expected = |topic: &str, qos, packet_id| {
            Packet::Publish(Publish {
                retain: true,
                qos,
                packet_id,
                topic: topic.into(),
                // 3.3.2-6: 8.5 seconds are left.
                expiry: is_5.then_some(9),
                subscriptions: is_5.then_some(6).into_iter().collect(),
                payload: Bytes::from_static(b"hello"),
                ..Publish::default()
            })
        };
        // One goes through the session, with what is left of its lifetime; the other is sent once it is certain that
        // nothing newer has been delivered.
        assert_eq!(peer.take_packets(), []);
        let mut commands = peer.take_commands();
        let Some(Command::Replay {
            token,
            messages,
            tag,
            direct,
        }) = commands.pop()
        else {
            panic!("{commands:?}")
        };
        assert_eq!((direct.len(), commands.len()), (1, 0));
        peer.done(token, Reply::Replayed(direct));
        assert_eq!(peer.take_packets(), [expected("a/0", Qos::AtMostOnce, 0)]);
        let [message] = &messages[..] else { panic!() };
        assert_eq!(message.expiry_ms, Some(8500));
        let mut replayed = peer::delivery(1, (**message).clone(), &[tag.0]);
        replayed.accepted = peer.now.wall;
        assert_eq!(
            peer.deliver(vec![replayed]),
            [expected("a/1", Qos::AtLeastOnce, 1)]
        );
    });
}

#[test]
fn malformed_subscriptions_close() {
    let cases: &[(&[u8], &[u8], Reason)] = &[
        // 3.8.1-1: reserved flags.
        (
            &[0x80, 6, 0, 1, 0, 1, b'a', 0],
            &[0x80, 7, 0, 1, 0, 0, 1, b'a', 0],
            Reason::MALFORMED_PACKET,
        ),
        // 3.8.3-2: no filter.
        (
            &[0x82, 2, 0, 1],
            &[0x82, 3, 0, 1, 0],
            Reason::PROTOCOL_ERROR,
        ),
        // 3.8.3-5: reserved options, QoS 3.
        (
            &[0x82, 6, 0, 1, 0, 1, b'a', 0xc0],
            &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0xc0],
            Reason::MALFORMED_PACKET,
        ),
        (
            &[0x82, 6, 0, 1, 0, 1, b'a', 3],
            &[0x82, 7, 0, 1, 0, 0, 1, b'a', 3],
            Reason::MALFORMED_PACKET,
        ),
        // 4.7.1-1, 4.7.3-1: not a filter.
        (
            &[0x82, 7, 0, 1, 0, 2, b'a', b'#', 0],
            &[0x82, 8, 0, 1, 0, 0, 2, b'a', b'#', 0],
            Reason::MALFORMED_PACKET,
        ),
        (
            &[0x82, 5, 0, 1, 0, 0, 0],
            &[0x82, 6, 0, 1, 0, 0, 0, 0],
            Reason::MALFORMED_PACKET,
        ),
        // 3.10.3-2: UNSUBSCRIBE without a filter.
        (
            &[0xa2, 2, 0, 1],
            &[0xa2, 3, 0, 1, 0],
            Reason::PROTOCOL_ERROR,
        ),
        // A filter without options.
        (
            &[0x82, 5, 0, 1, 0, 1, b'a'],
            &[0x82, 6, 0, 1, 0, 0, 1, b'a'],
            Reason::MALFORMED_PACKET,
        ),
    ];
    for (v3, v5, reason) in cases {
        story(ALL, |peer| {
            let mut peer = peer.connected();
            peer.take_commands();
            let result = peer.send_bytes(if peer.version.is_5() { v5 } else { v3 });
            assert!(peer.commands.is_empty());
            peer.assert_closed(result, *reason);
        });
    }
    // 3.8.2.1.2: identifier 0, two identifiers; retain handling 3.
    for bytes in [
        &[0x82, 9, 0, 1, 2, 0x0b, 0, 0, 1, b'a', 0][..],
        &[0x82, 11, 0, 1, 4, 0x0b, 1, 0x0b, 2, 0, 1, b'a', 0],
        &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30],
    ] {
        story(V5, |peer| {
            let mut peer = peer.connected();
            let result = peer.send_bytes(bytes);
            peer.assert_closed(result, Reason::PROTOCOL_ERROR);
        });
    }
}

#[test]
fn mqtt31_clients_may_resend_with_dup() {
    story(&[Version::V31], |peer| {
        let mut peer = peer.connected();
        peer.send_bytes(&[0x8a, 6, 0, 1, 0, 1, b'a', 0]).unwrap();
        assert_eq!(bindings(&peer.answer(false)).len(), 1);
        assert!(matches!(peer.take_packet(), Packet::SubAck(_)));
    });
}
