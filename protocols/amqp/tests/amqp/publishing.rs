//! basic.publish, confirms and returns (sections 1.8.3.7, 1.8.3.9, 4.2.6, and RabbitMQ's confirm).

use trivium_amqp::{Options, frame::FrameKind, method::Method};
use trivium_core::{Event, Kind, Persistence, Refusal, Timestamp, Token};

use crate::client::{Client, NO_PROPERTIES, once, publish, story, story_with};

fn confirming(script: impl Fn(&mut Client)) {
    story(|client| {
        client.send(1, Method::ConfirmSelect { no_wait: false });
        assert_eq!(client.frames(), ["1 ConfirmSelectOk"]);
        script(client);
    });
}

fn missing_exchange() -> Refusal {
    Refusal::NotFound {
        kind: Kind::Exchange,
        name: "x".into(),
        vhost: "/".into(),
    }
}

#[test]
fn a_body_comes_in_any_split() {
    let splits: [&[&[u8]]; 4] = [
        &[b"hello"],
        &[b"h", b"ello"],
        &[b"", b"hel", b"", b"lo"],
        &[b"h", b"e", b"l", b"l", b"o"],
    ];
    for split in splits {
        story(|client| {
            client.send(1, publish("amq.topic", "a.b", false));
            client.content_header(1, 5, NO_PROPERTIES);
            for piece in split {
                client.frame(FrameKind::Body, 1, piece);
            }
            assert_eq!(client.commands(), ["publish 'amq.topic' a.b \"hello\""]);
        });
    }
}

#[test]
fn an_empty_body_has_no_frame() {
    story(|client| {
        client.publish(1, "", "q", NO_PROPERTIES, b"");
        client.publish(1, "", "q", NO_PROPERTIES, b"next");
        assert_eq!(
            client.commands(),
            ["publish '' q \"\"", "publish '' q \"next\""]
        );
    });
}

#[test]
fn contents_of_two_channels_interleave() {
    story(|client| {
        client.send(
            2,
            Method::ChannelOpen {
                reserved_1: "".into(),
            },
        );
        client.send(1, publish("", "a", false));
        client.send(2, publish("", "b", false));
        client.content_header(2, 1, NO_PROPERTIES);
        client.content_header(1, 1, NO_PROPERTIES);
        client.frame(FrameKind::Body, 1, b"1");
        client.frame(FrameKind::Body, 2, b"2");
        assert_eq!(
            client.commands(),
            ["publish '' a \"1\"", "publish '' b \"2\""]
        );
    });
}

#[test]
fn the_core_is_told_what_it_acts_on() {
    story(|client| {
        // Headers x-key and x-mqtt-retain, delivery mode 2, priority 7, expiration "60000", timestamp 1700000000.
        let headers = b"\x05x-keyS\0\0\0\x04user\x0dx-mqtt-retaint\x01";
        let mut block = vec![0x39, 0x40, 0, 0, 0, headers.len() as u8];
        block.extend_from_slice(headers);
        block.extend_from_slice(b"\x02\x07\x0560000");
        block.extend_from_slice(&1_700_000_000u64.to_be_bytes());
        client.publish(1, "", "q", &block, b"x");
        client.commands();
        let (_, message) = &client.published[0];
        assert_eq!(message.persistence, Persistence::Persistent);
        assert_eq!(message.priority, Some(7));
        assert_eq!(message.expiry_ms, Some(60_000));
        assert_eq!(message.timestamp, Some(Timestamp(1_700_000_000_000)));
        assert_eq!(message.key.as_deref(), Some(&b"user"[..]));
        assert!(message.retain);
        assert_eq!(message.native.block, block);
        assert_eq!(message.origin.user, "guest");
    });
}

#[test]
fn no_delivery_mode_is_transient() {
    story(|client| {
        client.publish(1, "", "q", NO_PROPERTIES, b"x");
        client.commands();
        assert_eq!(client.published[0].1.persistence, Persistence::Transient);
    });
}

#[test]
fn bad_properties_close_the_channel_and_the_body_is_ignored() {
    let cases: [(&[u8], &str); 3] = [
        (b"\x01\0\x03abc", "invalid expiration 'abc': no_integer"),
        (
            b"\x01\0\x02-1",
            "invalid expiration '-1': {value_negative,-1}",
        ),
        (
            b"\0\x10\x03bob",
            "user_id property set to 'bob' but authenticated user was 'guest'",
        ),
    ];
    for (block, text) in cases {
        story(|client| {
            client.publish(1, "", "q", block, b"body");
            assert_eq!(
                client.frames(),
                [format!(
                    "1 channel.close 406 PRECONDITION_FAILED - {text} [60.40]"
                )]
            );
            assert!(client.commands().is_empty());
        });
    }
}

#[test]
fn a_message_over_the_limit_is_refused_at_its_header() {
    story_with(
        Options {
            max_message_size: 100,
            ..Options::default()
        },
        |client| {
            client.publish(1, "", "q", NO_PROPERTIES, &[b'x'; 100]);
            assert_eq!(client.commands().len(), 1);
            client.send(1, publish("", "q", false));
            client.content_header(1, 101, NO_PROPERTIES);
            let refused = "1 channel.close 406 PRECONDITION_FAILED - message size 101 is larger than configured max size \
                       100 [60.40]";
            assert_eq!(client.frames(), [refused]);
        },
    );
}

#[test]
fn immediate_is_not_implemented() {
    story(|client| {
        let publish = Method::BasicPublish {
            reserved_1: 0,
            exchange: "".into(),
            routing_key: "q".into(),
            mandatory: false,
            immediate: true,
        };
        client.send(1, publish);
        assert_eq!(
            client.frames(),
            ["connection.close 540 NOT_IMPLEMENTED - immediate=true [60.40]"]
        );
    });
}

#[test]
fn confirms_count_from_one_and_leave_together() {
    confirming(|client| {
        for body in [b"1", b"2", b"3"] {
            client.publish(1, "", "q", NO_PROPERTIES, body);
        }
        let tokens = client.tokens();
        client.event(Event::Confirmed {
            tokens: vec![tokens[1]],
        });
        assert_eq!(
            client.frames(),
            ["1 BasicAck { delivery_tag: 2, multiple: false }"]
        );
        client.event(Event::Confirmed {
            tokens: vec![tokens[0], tokens[2]],
        });
        assert_eq!(
            client.frames(),
            ["1 BasicAck { delivery_tag: 3, multiple: true }"]
        );
    });
}

#[test]
fn what_was_published_before_confirm_select_is_not_confirmed() {
    story(|client| {
        client.publish(1, "", "q", NO_PROPERTIES, b"before");
        client.send(1, Method::ConfirmSelect { no_wait: true });
        client.publish(1, "", "q", NO_PROPERTIES, b"after");
        let tokens = client.tokens();
        client.event(Event::Confirmed { tokens });
        assert_eq!(
            client.frames(),
            ["1 BasicAck { delivery_tag: 1, multiple: false }"]
        );
    });
}

#[test]
fn a_failed_write_is_never_acknowledged() {
    confirming(|client| {
        client.publish(1, "", "q", NO_PROPERTIES, b"lost");
        client.publish(1, "", "q", NO_PROPERTIES, b"safe");
        let tokens = client.tokens();
        client.event(Event::Refused {
            tokens: vec![tokens[0]],
            reason: Refusal::StorageFailed("disk full".into()),
        });
        client.event(Event::Confirmed {
            tokens: vec![tokens[1]],
        });
        assert_eq!(
            client.frames(),
            [
                "0 ConnectionBlocked { reason: \"storage failed\" }",
                "1 BasicNack { delivery_tag: 1, multiple: false, requeue: false }",
                "1 BasicAck { delivery_tag: 2, multiple: false }"
            ]
        );
    });
}

#[test]
fn a_missing_exchange_closes_the_channel() {
    story(|client| {
        client.publish(1, "x", "k", NO_PROPERTIES, b"1");
        let tokens = client.tokens();
        client.event(Event::Refused {
            tokens,
            reason: missing_exchange(),
        });
        assert_eq!(
            client.frames(),
            ["1 channel.close 404 NOT_FOUND - no exchange 'x' in vhost '/' [60.40]"]
        );
    });
}

#[test]
fn without_confirms_one_publish_per_turn_and_exchange_is_watched() {
    once(|client| {
        let mut turn = bytes::BytesMut::new();
        for exchange in ["a", "a", "b", "b"] {
            append_empty(&mut turn, exchange);
        }
        client.bytes(&turn);
        client.bytes(&turn);
        client.commands();
        let watched: Vec<bool> = client
            .published
            .iter()
            .map(|(token, _)| token.is_some())
            .collect();
        assert_eq!(
            watched,
            [true, false, true, false, true, false, true, false]
        );
    });
}

fn append_empty(out: &mut bytes::BytesMut, exchange: &str) {
    use bytes::BufMut;
    trivium_amqp::frame::put_method(out, 1, &publish(exchange, "k", false));
    trivium_amqp::frame::put_frame(out, FrameKind::Header, 1, |out| {
        out.put_u32(60 << 16);
        out.put_u64(0);
        out.put_slice(NO_PROPERTIES);
    });
}

#[test]
fn a_mandatory_message_without_destination_comes_back_on_its_channel() {
    story(|client| {
        client.send(1, publish("amq.direct", "nowhere", true));
        client.content_header(1, 2, b"\x10\0\x02");
        client.frame(FrameKind::Body, 1, b"hi");
        assert_eq!(
            client.commands(),
            ["publish 'amq.direct' nowhere \"hi\" mandatory"]
        );
        let (token, message) = client.published[0].clone();
        client.event(Event::Returned { token, message });
        assert_eq!(
            client.frames(),
            [
                "1 BasicReturn { reply_code: 312, reply_text: \"NO_ROUTE\", exchange: \"amq.direct\", \
                 routing_key: \"nowhere\" }",
                "1 header 2 \\x10\\x00\\x02",
                "1 body hi",
            ]
        );
    });
}

#[test]
fn confirms_of_a_closed_channel_do_not_reach_its_successor() {
    confirming(|client| {
        client.publish(1, "", "q", NO_PROPERTIES, b"old");
        let old: Vec<Token> = client.tokens();
        let close = Method::ChannelClose {
            reply_code: 200,
            reply_text: "".into(),
            class_id: 0,
            method_id: 0,
        };
        client.send(1, close);
        client.send(
            1,
            Method::ChannelOpen {
                reserved_1: "".into(),
            },
        );
        client.send(1, Method::ConfirmSelect { no_wait: true });
        client.publish(1, "", "q", NO_PROPERTIES, b"new");
        client.frames();
        client.event(Event::Confirmed {
            tokens: old.clone(),
        });
        client.event(Event::Refused {
            tokens: old,
            reason: missing_exchange(),
        });
        assert!(client.frames().is_empty());
        let newest = *client.tokens().last().unwrap();
        client.event(Event::Confirmed {
            tokens: vec![newest],
        });
        assert_eq!(
            client.frames(),
            ["1 BasicAck { delivery_tag: 1, multiple: false }"]
        );
    });
}

#[test]
fn a_reply_to_an_mqtt_requester_goes_to_its_topic() {
    story(|client| {
        client.publish(
            1,
            "",
            "amq.mqtt-reply.clients.7.answers",
            NO_PROPERTIES,
            b"42",
        );
        assert_eq!(
            client.commands(),
            ["publish 'amq.topic' clients.7.answers \"42\""]
        );
    });
}
