//! Clients that read queues and logs by their names.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod peer;

use peer::{ALL, Peer, V5, message, story, subscribe};
use trivium_core::{
    CancelReason, Change, Command, ConsumerId, Delivery, DeliveryId, Event, Kind, OWN_PACKET_IDS,
    Offset, Outcome, Refusal, Reply, StreamStart, Text, Token,
};
use trivium_mqtt::packet::{Ack, Packet, Qos, Reason, SubAck, Unsubscribe, Version};

/// Sends a SUBSCRIBE of one filter and returns the consumer that the core is asked for.
fn ask(
    peer: &mut Peer,
    filter: &str,
    qos: Qos,
) -> (Token, ConsumerId, Text, trivium_core::ConsumeSpec) {
    peer.send(Packet::Subscribe(subscribe(filter, qos)))
        .unwrap();
    let mut commands = peer.take_commands();
    assert_eq!(commands.len(), 1, "{commands:?}");
    let Some(Command::Consume {
        token,
        consumer,
        queue,
        spec,
    }) = commands.pop()
    else {
        panic!("{commands:?}")
    };
    assert!(peer.take_packets().is_empty() && !peer.protocol.wants_input());
    (token, consumer, queue, spec)
}

/// Has the core start the consumer and the session remember it.
fn grant(peer: &mut Peer, token: Token, what: &str, qos: u8) {
    peer.done(token, Reply::Ok);
    let commands = peer.take_commands();
    let [
        Command::Define {
            token,
            change: Change::Read { what: told, .. },
        },
    ] = &commands[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!(*told, what);
    peer.done(*token, Reply::Bound { created: true });
    assert_eq!(granted(peer), [Reason(qos)]);
}

fn granted(peer: &mut Peer) -> Vec<Reason> {
    match peer.take_packet() {
        Packet::SubAck(SubAck { reasons, .. }) => reasons,
        other => panic!("{other:?}"),
    }
}

fn failure(version: Version, reason: Reason) -> Reason {
    match version {
        Version::V5 => reason,
        Version::V311 => Reason::UNSPECIFIED,
        // 3.1 has no failures, and grants QoS 0.
        Version::V31 => Reason(0),
    }
}

#[test]
fn puback_acknowledges_a_message_of_a_queue() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let (token, consumer, queue, spec) = ask(&mut peer, "$queue/a.b", Qos::AtLeastOnce);
        assert_eq!((&*queue, spec.only), ("a.b", Some(Kind::Queue)));
        assert!(!spec.session && !spec.auto_ack && spec.prefetch.is_some());
        grant(&mut peer, token, "$queue/a.b", 1);
        let delivery = Delivery {
            redelivered: true,
            ..peer::delivery(1, message("a/b"), &[])
        };
        peer.event(Event::Deliver {
            consumer,
            deliveries: vec![delivery],
        })
        .unwrap();
        let Packet::Publish(sent) = peer.take_packet() else {
            panic!()
        };
        assert!(sent.dup && sent.qos == Qos::AtLeastOnce && sent.packet_id > OWN_PACKET_IDS);
        assert!(peer.take_commands().is_empty());
        peer.send(Packet::PubAck(Ack::new(sent.packet_id, Reason::SUCCESS)))
            .unwrap();
        assert!(matches!(
            &peer.take_commands()[..],
            [Command::Settle { consumer: of, deliveries, outcome: Outcome::Accept }]
                if *of == consumer && *deliveries == (DeliveryId(1)..=DeliveryId(1))
        ));
    });
}

#[test]
fn a_log_is_read_from_where_the_filter_says() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let filter = "$stream/log?offset=7";
        let (token, _, log, spec) = ask(&mut peer, filter, Qos::ExactlyOnce);
        assert_eq!((&*log, spec.only), ("log", Some(Kind::Log)));
        let stream = spec.stream.unwrap();
        assert_eq!(stream.from, StreamStart::Offset(Offset(7)));
        // What a log has read stays there: QoS 2 is granted as 1.
        grant(&mut peer, token, filter, 1);
    });
}

#[test]
fn what_cannot_be_read_is_refused_in_suback() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        for bad in [
            "$queue/",
            "$queue/+",
            "$stream/__x",
            "$stream/log?offset=soon",
        ] {
            peer.send(Packet::Subscribe(subscribe(bad, Qos::AtLeastOnce)))
                .unwrap();
            let expected = failure(peer.version, Reason::FILTER_INVALID);
            assert_eq!(granted(&mut peer), [expected], "{bad}");
            assert!(peer.take_commands().is_empty());
        }
        let (name, vhost) = (Text::from("q"), Text::from("/"));
        let kind = Kind::Queue;
        let refusals = [
            (
                Refusal::NotFound {
                    kind,
                    name: name.clone(),
                    vhost: vhost.clone(),
                },
                Reason::FILTER_INVALID,
            ),
            (Refusal::Denied("no".into()), Reason::NOT_AUTHORIZED),
            (Refusal::Locked { name, vhost }, Reason::NOT_AUTHORIZED),
        ];
        for (refusal, reason) in refusals {
            let (token, ..) = ask(&mut peer, "$queue/q", Qos::AtLeastOnce);
            peer.event(Event::Done {
                token,
                result: Err(refusal),
            })
            .unwrap();
            let expected = failure(peer.version, reason);
            assert_eq!(granted(&mut peer), [expected]);
            assert!(peer.take_commands().is_empty());
        }
    });
}

#[test]
fn unsubscribe_ends_the_consumer_whatever_start_it_had() {
    story(ALL, |peer| {
        let mut peer = peer.connected();
        let (token, consumer, ..) = ask(&mut peer, "$stream/log?offset=first", Qos::AtLeastOnce);
        grant(&mut peer, token, "$stream/log?offset=first", 1);
        peer.send(Packet::Unsubscribe(Unsubscribe {
            packet_id: 9,
            filters: vec!["$stream/log".into()],
        }))
        .unwrap();
        let commands = peer.take_commands();
        assert!(
            matches!(
                &commands[..],
                [
                    Command::Cancel { consumer: ended, .. },
                    Command::Define { change: Change::Unread { what, .. }, .. },
                ] if *ended == consumer && *what == "$stream/log?offset=first"
            ),
            "{commands:?}"
        );
    });
}

#[test]
fn a_client_whose_queue_is_deleted_is_sent_away() {
    story(V5, |peer| {
        let mut peer = peer.connected();
        let (token, consumer, ..) = ask(&mut peer, "$queue/q", Qos::AtLeastOnce);
        grant(&mut peer, token, "$queue/q", 1);
        peer.event(Event::Cancelled {
            consumer,
            reason: CancelReason::QueueDeleted,
        })
        .unwrap();
        let commands = peer.take_commands();
        assert!(
            matches!(&commands[0], Command::Define { change: Change::Unread { what, .. }, .. } if *what == "$queue/q"),
            "{commands:?}"
        );
        assert!(matches!(
            peer.take_packet(),
            Packet::Disconnect(it) if it.reason == Reason::ADMINISTRATIVE_ACTION
        ));
    });
}
