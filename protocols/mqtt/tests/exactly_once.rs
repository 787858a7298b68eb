//! QoS 2 in both directions, and where a connection goes on for an earlier one (sections 4.3.3, 4.4 and 4.6).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod peer;

use peer::{ALL, Peer, V3, V5, delivery, message, publish, story};
use trivium_core::{Command, ConsumerId, Delivery, Event, Message, Persistence, Reply, Token};
use trivium_mqtt::packet::{Ack, ConnAck, Connect, Packet, Publish, Qos, Reason};

fn rec(id: u16) -> Packet {
    Packet::PubRec(Ack::new(id, Reason::SUCCESS))
}

fn rel(id: u16) -> Packet {
    Packet::PubRel(Ack::new(id, Reason::SUCCESS))
}

fn comp(id: u16) -> Packet {
    Packet::PubComp(Ack::new(id, Reason::SUCCESS))
}

fn confirm(peer: &mut Peer, token: Token) {
    let tokens = vec![token];
    peer.event(Event::Confirmed { tokens }).unwrap();
}

/// Connects a client whose session remembers handshakes.
fn resumed(mut peer: Peer, received: &[u16], releasing: &[u16]) -> Peer {
    let connect = Connect {
        clean_start: false,
        ..Connect::new(peer.version, "c".into())
    };
    peer.send(Packet::Connect(Box::new(connect))).unwrap();
    let tags = Vec::new();
    let user = "guest".into();
    peer.done(Token(1), Reply::Authenticated { user, tags });
    peer.take_commands();
    let (received, releasing) = (received.to_vec(), releasing.to_vec());
    peer.done(
        Token(4),
        Reply::Session {
            received,
            releasing,
        },
    );
    peer
}

fn the_publish(peer: &mut Peer) -> Token {
    match &peer.take_commands()[..] {
        [
            Command::PublishOnce {
                token,
                message,
                packet_id: 8,
            },
        ] => {
            assert_eq!(message.persistence, Persistence::ExactlyOnce);
            *token
        }
        other => panic!("{other:?}"),
    }
}

fn sure(id: u64) -> Delivery {
    let message = Message {
        persistence: Persistence::ExactlyOnce,
        ..message("a")
    };
    delivery(id, message, &[2])
}

#[test]
fn mqtt_3_2_2_9_maximum_qos_is_absent() {
    story(V5, |mut peer| {
        assert_eq!(peer.connect_with(|_| ()).maximum_qos, None);
    });
}

#[test]
fn mqtt_4_3_3_9_pubrec_waits_until_the_message_is_durable() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        peer.send(Packet::Publish(publish("a", Qos::ExactlyOnce, 8)))
            .unwrap();
        let token = the_publish(&mut peer);
        assert!(peer.take_packets().is_empty());
        confirm(&mut peer, token);
        assert_eq!(peer.take_packets(), [rec(8)]);
    });
}

#[test]
fn mqtt_4_3_3_10_until_pubrel_it_is_the_same_message() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        let sent = publish("a", Qos::ExactlyOnce, 8);
        peer.send(Packet::Publish(sent.clone())).unwrap();
        let token = the_publish(&mut peer);
        let again = Packet::Publish(Publish { dup: true, ..sent });
        peer.send(again.clone()).unwrap();
        assert!(peer.commands.is_empty() && peer.take_packets().is_empty());
        confirm(&mut peer, token);
        assert_eq!(peer.take_packets(), [rec(8), rec(8)]);
        peer.send(again).unwrap();
        assert!(peer.commands.is_empty());
        assert_eq!(peer.take_packets(), [rec(8)]);
    });
}

#[test]
fn mqtt_4_3_3_11_pubcomp_waits_until_the_release_is_durable() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        let sent = Packet::Publish(publish("a", Qos::ExactlyOnce, 8));
        peer.send(sent.clone()).unwrap();
        let token = the_publish(&mut peer);
        confirm(&mut peer, token);
        peer.take_packets();
        peer.send(rel(8)).unwrap();
        peer.send(rel(8)).unwrap();
        let commands = peer.take_commands();
        let [
            Command::Release {
                token,
                packet_id: 8,
            },
        ] = commands[..]
        else {
            panic!("{commands:?}")
        };
        assert!(peer.take_packets().is_empty());
        confirm(&mut peer, token);
        assert_eq!(peer.take_packets(), [comp(8)]);
        // 4.3.3-12: after PUBREL it is a new one.
        peer.send(sent).unwrap();
        the_publish(&mut peer);
    });
}

#[test]
fn mqtt_4_3_3_an_unknown_pubrel_is_answered() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.send(rel(9)).unwrap();
        let reason = match peer.version.is_5() {
            true => Reason::PACKET_ID_NOT_FOUND,
            false => Reason::SUCCESS,
        };
        assert_eq!(peer.take_packet(), Packet::PubComp(Ack::new(9, reason)));
    });
}

#[test]
fn mqtt_4_4_0_what_an_earlier_connection_published_is_known() {
    story(ALL, |peer| {
        let mut peer = resumed(peer, &[8], &[]);
        peer.take_packets();
        let again = Publish {
            dup: true,
            ..publish("a", Qos::ExactlyOnce, 8)
        };
        peer.send(Packet::Publish(again)).unwrap();
        assert!(peer.commands.is_empty());
        assert_eq!(peer.take_packets(), [rec(8)]);
        peer.send(rel(8)).unwrap();
        assert!(matches!(
            peer.commands[..],
            [Command::Release { packet_id: 8, .. }]
        ));
    });
}

#[test]
fn mqtt_4_9_0_a_message_counts_for_the_receive_maximum_until_pubcomp() {
    story(V5, |peer| {
        let mut peer = resumed(peer, &[1, 2, 3, 4], &[]);
        peer.take_packets();
        let mut result = Ok(());
        for id in 10..=14 {
            result = peer.send(Packet::Publish(publish("a", Qos::ExactlyOnce, id)));
        }
        // It is noted only; the fifth waits in the socket.
        assert_eq!(result, Ok(()));
        assert!(!peer.protocol.wants_input());
    });
}

#[test]
fn mqtt_4_3_3_a_refused_publish_frees_its_identifier() {
    story(V5, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        let sent = Packet::Publish(publish("a", Qos::ExactlyOnce, 8));
        peer.send(sent.clone()).unwrap();
        let token = the_publish(&mut peer);
        peer.event(Event::Refused {
            tokens: vec![token],
            reason: trivium_core::Refusal::Denied("no".into()),
        })
        .unwrap();
        assert!(
            matches!(peer.take_packet(), Packet::PubRec(ack) if ack.reason == Reason::NOT_AUTHORIZED)
        );
        // Another destination may have stored the identifier; nobody asked for a PUBCOMP.
        let token = the_release(&mut peer);
        peer.send(sent).unwrap();
        let published = the_publish(&mut peer);
        confirm(&mut peer, token);
        assert!(peer.take_bytes().is_empty());
        confirm(&mut peer, published);
        assert!(matches!(peer.take_packet(), Packet::PubRec(ack) if ack.reason == Reason::SUCCESS));
    });
}

#[test]
fn mqtt_4_3_3_a_publish_that_is_not_retained_frees_its_identifier_if_the_client_can_know() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        let sent = Packet::Publish(publish("a", Qos::ExactlyOnce, 8));
        peer.send(sent.clone()).unwrap();
        let token = the_publish(&mut peer);
        peer.event(Event::Unretained { token }).unwrap();
        confirm(&mut peer, token);
        if peer.version.is_5() {
            assert!(
                matches!(peer.take_packet(), Packet::PubRec(ack) if ack.reason == Reason::QUOTA_EXCEEDED)
            );
            the_release(&mut peer);
            peer.send(sent).unwrap();
            the_publish(&mut peer);
        } else {
            assert_eq!(peer.take_packet(), rec(8));
            peer.send(sent).unwrap();
            assert_eq!(peer.take_packet(), rec(8));
            assert!(peer.take_commands().is_empty());
        }
    });
}

fn the_release(peer: &mut Peer) -> Token {
    match &peer.take_commands()[..] {
        [
            Command::Release {
                token,
                packet_id: 8,
            },
        ] => *token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn mqtt_4_3_3_4_pubrel_waits_until_the_receipt_is_durable() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        let sent = peer.deliver(vec![sure(1), sure(2)]);
        assert!(
            matches!(&sent[..], [Packet::Publish(first), Packet::Publish(_)] if first.qos == Qos::ExactlyOnce && first.packet_id == 1)
        );
        peer.send(rec(1)).unwrap();
        let commands = peer.take_commands();
        let [
            Command::Received {
                token,
                consumer: ConsumerId(1),
                deliveries,
            },
        ] = &commands[..]
        else {
            panic!("{commands:?}")
        };
        assert_eq!((deliveries.start().0, deliveries.end().0), (1, 1));
        // 4.3.3-6: nothing more is said until then, and never PUBLISH again.
        peer.send(rec(1)).unwrap();
        assert!(peer.commands.is_empty() && peer.take_packets().is_empty());
        confirm(&mut peer, *token);
        assert_eq!(peer.take_packets(), [rel(1)]);
        peer.send(comp(1)).unwrap();
        assert!(
            matches!(&peer.take_commands()[..], [Command::Completed { packet_ids }] if packet_ids == &[1])
        );
        // A second PUBCOMP is nothing.
        peer.send(comp(1)).unwrap();
        assert!(peer.commands.is_empty());
    });
}

#[test]
fn mqtt_4_3_3_a_pubrec_of_failure_ends_the_handshake() {
    story(V5, |peer| {
        let mut peer = peer.connected();
        peer.take_commands();
        peer.deliver(vec![sure(1)]);
        let failed = Ack::new(1, Reason::QUOTA_EXCEEDED);
        peer.send(Packet::PubRec(failed)).unwrap();
        assert!(matches!(
            &peer.take_commands()[..],
            [Command::Settle { .. }]
        ));
        assert!(peer.take_packets().is_empty());
    });
}

#[test]
fn mqtt_3_6_a_pubrec_for_nothing_is_released() {
    story(V3, |peer| {
        let mut peer = peer.connected();
        peer.send(rec(5)).unwrap();
        assert_eq!(peer.take_packets(), [rel(5)]);
    });
}

#[test]
fn mqtt_4_4_0_pubrel_is_sent_again_before_anything_else() {
    story(ALL, |mut peer| {
        let connect = Connect {
            clean_start: false,
            ..Connect::new(peer.version, "c".into())
        };
        peer.send(Packet::Connect(Box::new(connect))).unwrap();
        // Deliveries may overtake the answer that CONNACK waits for.
        let early = Delivery {
            redelivered: true,
            ..sure(7)
        };
        peer.event(Event::Deliver {
            consumer: ConsumerId(1),
            deliveries: vec![early],
        })
        .unwrap();
        let mut peer = resumed_after(peer);
        let packets = peer.take_packets();
        let [
            Packet::ConnAck(ConnAck { .. }),
            first,
            second,
            Packet::Publish(again),
        ] = &packets[..]
        else {
            panic!("{packets:?}")
        };
        assert_eq!([first, second], [&rel(40), &rel(3)]);
        assert!(again.dup && again.packet_id == 7);
        peer.send(comp(40)).unwrap();
        assert!(
            matches!(&peer.take_commands()[..], [Command::Completed { packet_ids }] if packet_ids == &[40])
        );
    });
}

fn resumed_after(mut peer: Peer) -> Peer {
    let tags = Vec::new();
    let user = "guest".into();
    peer.done(Token(1), Reply::Authenticated { user, tags });
    peer.take_commands();
    peer.done(
        Token(4),
        Reply::Session {
            received: Vec::new(),
            releasing: vec![40, 3],
        },
    );
    peer
}

#[test]
fn mqtt_4_9_0_the_window_is_open_again_after_pubcomp() {
    story(V5, |mut peer| {
        peer.connect_with(|connect| connect.receive_maximum = 1);
        peer.take_commands();
        assert_eq!(peer.deliver(vec![sure(1), sure(2)]).len(), 1);
        peer.send(rec(1)).unwrap();
        let commands = peer.take_commands();
        let [Command::Received { token, .. }] = commands[..] else {
            panic!("{commands:?}")
        };
        confirm(&mut peer, token);
        assert_eq!(peer.take_packets(), [rel(1)]);
        peer.send(comp(1)).unwrap();
        assert!(
            matches!(&peer.take_packets()[..], [Packet::Publish(second)] if second.packet_id == 2)
        );
    });
}
