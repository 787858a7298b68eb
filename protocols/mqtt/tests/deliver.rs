//! What clients receive.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod peer;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use peer::{ALL, Peer, V3, V5, delivery, foreign, message, story};
use trivium_core::{
    Command, Death, Deaths, Delivery, Dialect, Message, Native, Origin, Outcome, Persistence,
    Reason as DeathReason, Timestamp, Value,
};
use trivium_mqtt::{
    Mqtt3, Mqtt5,
    packet::{Ack, Packet, Publish, Qos, Reason, property::put_user},
};

fn settled(peer: &mut Peer) -> Vec<(u64, u64)> {
    let commands = peer.take_commands().into_iter();
    commands
        .map(|command| match command {
            Command::Settle {
                deliveries,
                outcome: Outcome::Accept,
                ..
            } => (deliveries.start().0, deliveries.end().0),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn connected(mut peer: Peer) -> Peer {
    peer.connect();
    peer.take_commands();
    peer
}

fn publishes(packets: Vec<Packet>) -> Vec<Publish> {
    let publish = |packet| match packet {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    };
    packets.into_iter().map(publish).collect()
}

/// Tags: QoS, retain as published, identifier.
fn tag(qos: u64, retain_as_published: bool, identifier: u64) -> u64 {
    qos | u64::from(retain_as_published) << 2 | identifier << 4
}

#[test]
fn mqtt_4_3_2_deliveries_at_qos_1_are_settled_by_puback_in_ranges() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let sent =
            publishes(peer.deliver((1..=5).map(|id| delivery(id, message("a"), &[1])).collect()));
        assert_eq!(
            sent.iter()
                .map(|publish| publish.packet_id)
                .collect::<Vec<_>>(),
            [1, 2, 3, 4, 5]
        );
        assert!(
            sent.iter()
                .all(|publish| publish.qos == Qos::AtLeastOnce && !publish.dup && !publish.retain)
        );
        assert!(peer.commands.is_empty());
        let mut acks = BytesMut::new();
        for id in [1, 2, 3, 5, 77] {
            Packet::PubAck(Ack::new(id, Reason::SUCCESS)).encode(peer.version, &mut acks);
        }
        peer.send_bytes(&acks).unwrap();
        let ranges = settled(&mut peer);
        let ids: Vec<u64> = ranges
            .iter()
            .flat_map(|(first, last)| *first..=*last)
            .collect();
        assert_eq!(ids, [1, 2, 3, 5]);
    });
}

#[test]
fn mqtt_4_3_1_deliveries_at_qos_0_need_no_settling() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let sent = publishes(peer.deliver(vec![
            delivery(0, message("a"), &[0]),
            delivery(0, message("b"), &[1]),
        ]));
        assert!(
            sent.iter()
                .all(|publish| publish.qos == Qos::AtMostOnce && publish.packet_id == 0)
        );
        assert!(peer.commands.is_empty());
        // A core that does not settle them itself is told.
        let transient = Message {
            persistence: Persistence::Transient,
            ..message("a")
        };
        let sent = peer.deliver(vec![
            delivery(1, transient, &[1]),
            delivery(2, message("a"), &[0]),
        ]);
        assert!(
            publishes(sent)
                .iter()
                .all(|publish| publish.qos == Qos::AtMostOnce)
        );
        assert_eq!(settled(&mut peer), [(1, 2)]);
    });
}

#[test]
fn mqtt_3_3_4_2_overlapping_subscriptions_make_one_publish_of_the_greatest_qos_with_all_identifiers()
 {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let tags = [
            tag(0, false, 1),
            tag(1, false, 268_435_455),
            tag(0, false, 0),
        ];
        let sent = publishes(peer.deliver(vec![delivery(1, message("a"), &tags)])).remove(0);
        assert_eq!(sent.qos, Qos::AtLeastOnce);
        let identifiers: &[u32] = if peer.version.is_5() {
            &[1, 268_435_455]
        } else {
            &[]
        };
        assert_eq!(&sent.subscriptions[..], identifiers);
    });
}

#[test]
fn mqtt_3_3_1_12_retain_is_kept_when_asked_for() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let retained = || Message {
            retain: true,
            ..message("a")
        };
        let sent = peer.deliver(vec![
            delivery(1, retained(), &[tag(1, false, 0)]),
            delivery(2, retained(), &[tag(1, true, 0)]),
            delivery(3, message("a"), &[tag(1, true, 0)]),
        ]);
        let flags: Vec<_> = publishes(sent)
            .iter()
            .map(|publish| publish.retain)
            .collect();
        assert_eq!(flags, [false, true, false]);
    });
}

#[test]
fn mqtt_4_4_0_1_redelivered_messages_have_dup() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let again = Delivery {
            redelivered: true,
            ..delivery(1, message("a"), &[1])
        };
        let lost = Delivery {
            redelivered: true,
            ..delivery(0, message("a"), &[0])
        };
        let sent = publishes(peer.deliver(vec![again, lost]));
        // 3.3.1-2: never at QoS 0.
        assert_eq!((sent[0].dup, sent[1].dup), (true, false));
    });
}

#[test]
fn mqtt_3_3_4_9_the_clients_receive_maximum_holds() {
    story(V5, |mut peer| {
        peer.connect_with(|connect| connect.receive_maximum = 2);
        peer.take_commands();
        let mut sent =
            publishes(peer.deliver((1..=4).map(|id| delivery(id, message("a"), &[1])).collect()));
        assert_eq!(sent.len(), 2);
        // 3.3.4-7: QoS 0 does not wait.
        assert_eq!(
            publishes(peer.deliver(vec![delivery(0, message("b"), &[0])])).len(),
            1
        );
        // 4.3.2: an error acknowledges as well.
        peer.send(Packet::PubAck(Ack::new(
            sent[0].packet_id,
            Reason::UNSPECIFIED,
        )))
        .unwrap();
        sent.extend(publishes(peer.take_packets()));
        assert_eq!(sent.len(), 3);
        assert_eq!(settled(&mut peer), [(1, 1)]);
        peer.send(Packet::PubAck(Ack::new(sent[1].packet_id, Reason::SUCCESS)))
            .unwrap();
        assert_eq!(publishes(peer.take_packets()).len(), 1);
    });
}

#[test]
fn mqtt_3_1_2_25_what_is_too_large_for_the_client_counts_as_sent() {
    story(V5, |mut peer| {
        // 2 + 3 + 2 + 1 + 5 bytes.
        for (size, fits) in [(13, true), (12, false)] {
            let mut connect = Peer::new(peer.version, peer::Feed::Whole);
            connect.connect_with(|connect| connect.maximum_packet_size = Some(size));
            connect.take_commands();
            let sent = connect.deliver(vec![delivery(1, message("a"), &[1])]);
            assert_eq!(!sent.is_empty(), fits);
            assert_eq!(
                settled(&mut connect),
                if fits { vec![] } else { vec![(1, 1)] }
            );
        }
        assert!(peer.take_bytes().is_empty());
    });
}

#[test]
fn mqtt_3_3_2_6_the_expiry_is_what_is_left() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let lasting = |ms| {
            delivery(
                1,
                Message {
                    expiry_ms: Some(ms),
                    ..message("a")
                },
                &[0],
            )
        };
        // It is delivered 1,500 ms after it was accepted.
        peer.now.wall.0 += 1_500;
        for (lifetime, left) in [
            (10_000, Some(9)),
            (2_500, Some(1)),
            (1_501, Some(1)),
            (1_500, Some(0)),
            (u64::MAX, Some(u32::MAX)),
        ] {
            let sent = publishes(peer.deliver(vec![lasting(lifetime)])).remove(0);
            assert_eq!(sent.expiry, left.filter(|_| peer.version.is_5()));
        }
        // 3.3.2-5, for clients of every version.
        assert!(peer.deliver(vec![lasting(1_499)]).is_empty());
    });
}

#[test]
fn mqtt_3_3_2_17_properties_travel_as_they_came_and_not_at_all_to_version_3() {
    let mut block = BytesMut::new();
    put_user(&mut block, "b", "1");
    put_user(&mut block, "a", "2");
    put_user(&mut block, "b", "1");
    let block = block.freeze();
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let mut published = message("a");
        published.native.block = block.clone();
        let sent = publishes(peer.deliver(vec![delivery(0, published, &[0])])).remove(0);
        assert_eq!(
            sent.block,
            if peer.version.is_5() {
                block.clone()
            } else {
                Bytes::new()
            }
        );
    });
}

#[test]
fn design_3_4_messages_of_other_protocols() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        let sent = peer.deliver(vec![
            delivery(1, foreign("orders.eu%2Ewest"), &[1]),
            delivery(
                2,
                Message {
                    body: None,
                    ..foreign("a")
                },
                &[1],
            ),
            // The subscription decides about QoS, not AMQP's delivery mode.
            delivery(
                3,
                Message {
                    persistence: Persistence::Transient,
                    ..foreign("a")
                },
                &[1],
            ),
        ]);
        let sent = publishes(sent);
        assert_eq!(sent[0].topic, "orders/eu.west");
        assert!(sent[1].payload.is_empty());
        let mut tombstone = BytesMut::new();
        put_user(&mut tombstone, "mq.tombstone", "true");
        assert_eq!(
            sent[1].block,
            if peer.version.is_5() {
                tombstone.freeze()
            } else {
                Bytes::new()
            }
        );
        assert!(sent.iter().all(|publish| publish.qos == Qos::AtLeastOnce));
    });
}

#[test]
fn what_no_topic_can_say_counts_as_sent() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        assert!(
            peer.deliver(vec![
                delivery(1, foreign(""), &[1]),
                delivery(2, foreign("a\0"), &[1])
            ])
            .is_empty()
        );
        assert_eq!(settled(&mut peer), [(1, 2)]);
    });
}

#[test]
fn mqtt_4_3_3_strange_handshakes_are_answered() {
    story(ALL, |peer| {
        let mut peer = connected(peer);
        peer.send(Packet::PubRec(Ack::new(9, Reason::SUCCESS)))
            .unwrap();
        peer.send(Packet::PubRel(Ack::new(9, Reason::SUCCESS)))
            .unwrap();
        peer.send(Packet::PubComp(Ack::new(9, Reason::SUCCESS)))
            .unwrap();
        let reason = if peer.version.is_5() {
            Reason::PACKET_ID_NOT_FOUND
        } else {
            Reason::SUCCESS
        };
        assert_eq!(
            peer.take_packets(),
            [
                Packet::PubRel(Ack::new(9, reason)),
                Packet::PubComp(Ack::new(9, reason))
            ]
        );
    });
}

#[test]
fn large_payloads_go_by_reference() {
    story(V3, |peer| {
        let mut peer = connected(peer);
        let body = Bytes::from(vec![7; 90_000]);
        let sent = peer.deliver(vec![delivery(
            1,
            Message {
                body: Some(body.clone()),
                ..message("a")
            },
            &[1],
        )]);
        assert_eq!(publishes(sent)[0].payload, body);
    });
    story(V5, |peer| {
        let mut peer = connected(peer);
        assert_eq!(
            publishes(peer.deliver(vec![delivery(1, message("a"), &[1])]))[0].payload,
            "hello"
        );
    });
}

#[test]
fn mqtt_3_3_2_topic_aliases_towards_the_client() {
    story(V5, |mut peer| {
        peer.connect_with(|connect| connect.topic_alias_maximum = 2);
        let mut send = |topic: &str| {
            let sent = publishes(peer.deliver(vec![delivery(0, message(topic), &[0])]));
            (sent[0].topic.to_string(), sent[0].alias)
        };
        assert_eq!(send("room/1"), ("room/1".into(), Some(1)));
        assert_eq!(send("room/1"), (String::new(), Some(1)));
        assert_eq!(send("room/2"), ("room/2".into(), Some(2)));
        // 3.1.2-26: not more than the client takes.
        assert_eq!(send("room/3"), ("room/3".into(), None));
        assert_eq!(send("room/2"), (String::new(), Some(2)));
    });
    // 3.1.2-27: none when the client takes none.
    story(ALL, |peer| {
        let mut peer = connected(peer);
        for _ in 0..2 {
            let sent = publishes(peer.deliver(vec![delivery(0, message("room/1"), &[0])]));
            assert_eq!((&*sent[0].topic, sent[0].alias), ("room/1", None));
        }
    });
    // What did not fit introduces nothing.
    story(V5, |mut peer| {
        peer.connect_with(|connect| {
            (connect.topic_alias_maximum, connect.maximum_packet_size) = (9, Some(30));
        });
        let long = "long/".repeat(6);
        assert!(
            peer.deliver(vec![delivery(0, message(&long), &[0])])
                .is_empty()
        );
        let sent = publishes(peer.deliver(vec![delivery(0, message("room/1"), &[0])]));
        assert_eq!((&*sent[0].topic, sent[0].alias), ("room/1", Some(1)));
    });
}

#[test]
fn what_died_in_a_queue_says_so_in_user_properties() {
    let death = Death {
        queue: "q".into(),
        reason: DeathReason::Rejected,
        count: 1,
        time: Timestamp(5000),
        exchange: "amq.topic".into(),
        routing_keys: vec!["a".into()],
        original_expiration: None,
    };
    let deaths = Deaths {
        records: vec![death],
        first: ("q".into(), DeathReason::Rejected),
        without_copies: false,
    };
    let origin = Arc::new(Origin {
        deaths: Some(Arc::new(deaths)),
        ..Origin::default()
    });
    let mut block = BytesMut::new();
    put_user(&mut block, "mine", "1");
    for native in [
        Native {
            dialect: &Mqtt5,
            block: block.freeze(),
        },
        Native {
            dialect: &Mqtt3,
            block: Bytes::new(),
        },
    ] {
        let has_own = !native.block.is_empty();
        story(V5, |peer| {
            let dead = Message {
                origin: origin.clone(),
                native: native.clone(),
                ..message("a")
            };
            let mut peer = connected(peer);
            let sent = publishes(peer.deliver(vec![delivery(1, dead, &[1])]));
            let headers = Mqtt5.properties(&sent[0].block).headers;
            let of = |name: &str| headers.iter().find(|(of, _)| of == name);
            assert_eq!(of("mine").is_some(), has_own);
            assert!(
                matches!(of("x-death"), Some((_, Value::Array(_)))),
                "{headers:?}"
            );
            let queue = ("x-first-death-queue".into(), Value::Text("q".into()));
            assert_eq!(of("x-first-death-queue"), Some(&queue));
        });
    }
}
