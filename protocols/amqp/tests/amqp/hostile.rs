//! What no client should send: each answered by the specification's own code, without a panic (section 4.2).

use trivium_amqp::{frame::FrameKind, method::Method};

use crate::client::{Client, HEADER, NO_PROPERTIES, from_start, publish, story};

#[track_caller]
fn closes(client: &mut Client, expected: &str) {
    let frames = client.frames();
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert!(
        frames[0].starts_with(&format!("connection.close {expected}")),
        "{frames:?}"
    );
    assert!(client.commands().is_empty());
    client.wait(10).unwrap();
    assert!(client.is_closed());
}

#[test]
fn a_frame_over_the_negotiated_size_is_501() {
    story(|client| {
        client.bytes(b"\x01\0\x01\0\x02\0\x01");
        closes(
            client,
            "501 FRAME_ERROR - frame of 131073 bytes is larger than the negotiated 131072",
        );
    });
}

#[test]
fn before_the_handshake_frames_are_small() {
    from_start(|client| {
        client.bytes(HEADER);
        client.output();
        client.bytes(b"\x01\0\0\0\0\x20\x01");
        closes(client, "501 FRAME_ERROR - frame of 8193 bytes");
    });
}

#[test]
fn a_length_of_two_gibibytes_is_501_at_once() {
    story(|client| {
        client.bytes(b"\x03\0\x01\x7f\xff\xff\xff");
        closes(client, "501 FRAME_ERROR - frame of 2147483647 bytes");
    });
}

#[test]
fn a_bad_frame_end_and_an_unknown_type_are_501() {
    story(|client| {
        client.bytes(b"\x08\0\0\0\0\0\0\0");
        closes(client, "501 FRAME_ERROR - frame ends with 0 instead of 206");
    });
    story(|client| {
        client.bytes(b"\x05\0\0\0\0\0\0\xce");
        closes(client, "501 FRAME_ERROR - unknown frame type 5");
    });
}

#[test]
fn unknown_methods_are_503() {
    story(|client| {
        client.frame(FrameKind::Method, 1, b"\0\x3c\x03\xe7");
        closes(
            client,
            "503 COMMAND_INVALID - unknown method 60.999 [60.999]",
        );
    });
    story(|client| {
        client.send(
            1,
            Method::BasicGetEmpty {
                reserved_1: "".into(),
            },
        );
        closes(
            client,
            "503 COMMAND_INVALID - method 60.72 is not for a broker on a channel [60.72]",
        );
    });
    story(|client| {
        client.send(1, crate::client::open("/"));
        closes(client, "503 COMMAND_INVALID");
    });
}

#[test]
fn truncated_methods_are_502() {
    story(|client| {
        client.frame(FrameKind::Method, 1, b"\0\x32\0");
        closes(client, "502 SYNTAX_ERROR - method 0.0: truncated");
    });
    story(|client| {
        client.frame(FrameKind::Method, 1, b"\0\x32\0\x0a\0\0\x05ab");
        closes(client, "502 SYNTAX_ERROR - method 50.10: truncated");
    });
}

#[test]
fn truncated_and_too_deep_tables_are_502() {
    story(|client| {
        client.frame(
            FrameKind::Method,
            1,
            b"\0\x32\0\x0a\0\0\0\0\x7f\xff\xff\xff\x01a",
        );
        closes(client, "502 SYNTAX_ERROR - method 50.10: truncated");
    });
    story(|client| {
        let mut table = Vec::new();
        for _ in 0..100 {
            let mut outer = b"\0F".to_vec();
            outer.extend((table.len() as u32).to_be_bytes());
            outer.extend(table);
            table = outer;
        }
        let mut method = b"\0\x32\0\x0a\0\0\0\0".to_vec();
        method.extend((table.len() as u32).to_be_bytes());
        method.extend(table);
        client.frame(FrameKind::Method, 1, &method);
        closes(
            client,
            "502 SYNTAX_ERROR - method 50.10: field table is nested too deeply",
        );
    });
}

#[test]
fn frames_in_the_wrong_order_are_505() {
    story(|client| {
        client.content_header(1, 1, NO_PROPERTIES);
        closes(
            client,
            "505 UNEXPECTED_FRAME - expected method frame, got non method frame instead [0.0]",
        );
    });
    story(|client| {
        client.frame(FrameKind::Body, 1, b"x");
        closes(
            client,
            "505 UNEXPECTED_FRAME - expected method frame, got non method frame instead [0.0]",
        );
    });
    story(|client| {
        client.send(1, publish("", "q", false));
        client.send(1, publish("", "q", false));
        closes(
            client,
            "505 UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead [60.40]",
        );
    });
    story(|client| {
        client.send(1, publish("", "q", false));
        client.frame(FrameKind::Body, 1, b"x");
        closes(
            client,
            "505 UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead [60.40]",
        );
    });
    story(|client| {
        client.send(1, publish("", "q", false));
        client.content_header(1, 5, NO_PROPERTIES);
        client.send(1, publish("", "q", false));
        closes(
            client,
            "505 UNEXPECTED_FRAME - expected content body, got non content body frame instead",
        );
    });
    story(|client| {
        client.send(1, publish("", "q", false));
        client.frame(FrameKind::Header, 1, b"\0\x32\0\0\0\0\0\0\0\0\0\x01\0\0");
        closes(
            client,
            "505 UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
        );
    });
    story(|client| {
        client.frame(FrameKind::Body, 0, b"x");
        closes(client, "505 UNEXPECTED_FRAME");
    });
}

#[test]
fn a_body_larger_than_announced_is_501() {
    story(|client| {
        client.send(1, publish("", "q", false));
        client.content_header(1, 3, NO_PROPERTIES);
        client.frame(FrameKind::Body, 1, b"ab");
        client.frame(FrameKind::Body, 1, b"cd");
        closes(
            client,
            "501 FRAME_ERROR - content body of 4 bytes exceeds the 3 announced",
        );
    });
}

#[test]
fn bad_property_blocks_are_502() {
    for block in [
        &b""[..],
        b"\0",
        b"\x80\0",
        b"\x80\0\x05ab",
        b"\0\x01\0\0",
        b"\0\0\0",
        b"\x20\0\xff\xff\xff\xff",
        b"\0\x40\0",
    ] {
        story(|client| {
            client.send(1, publish("", "q", false));
            client.content_header(1, 0, block);
            closes(client, "502 SYNTAX_ERROR");
        });
    }
    story(|client| {
        client.send(1, publish("", "q", false));
        client.frame(FrameKind::Header, 1, b"\0\x3c\0");
        closes(client, "502 SYNTAX_ERROR - truncated");
    });
}

#[test]
fn channel_methods_on_channel_0_are_504() {
    story(|client| {
        client.send(
            0,
            Method::ChannelOpen {
                reserved_1: "".into(),
            },
        );
        closes(
            client,
            "504 CHANNEL_ERROR - unexpected method in connection state running [20.10]",
        );
    });
}

#[test]
fn names_that_are_not_utf8_are_502() {
    story(|client| {
        client.frame(FrameKind::Method, 1, b"\0\x3c\0\x28\0\0\x01\xff\x01q\0");
        closes(
            client,
            "502 SYNTAX_ERROR - method 60.40: short string is not UTF-8",
        );
    });
}

#[test]
fn a_login_that_is_no_login_is_502() {
    from_start(|client| {
        client.bytes(HEADER);
        client.output();
        let Method::ConnectionStartOk {
            client_properties,
            mechanism,
            locale,
            ..
        } = crate::client::start_ok(true)
        else {
            return;
        };
        let response = bytes::Bytes::from_static(b"guest");
        client.send(
            0,
            Method::ConnectionStartOk {
                client_properties,
                mechanism,
                response,
                locale,
            },
        );
        closes(client, "502 SYNTAX_ERROR - invalid PLAIN response [10.11]");
    });
}

#[test]
fn crossing_closes_are_both_answered() {
    story(|client| {
        client.send(
            1,
            Method::BasicAck {
                delivery_tag: 1,
                multiple: false,
            },
        );
        client.output();
        let close = Method::ChannelClose {
            reply_code: 200,
            reply_text: "".into(),
            class_id: 0,
            method_id: 0,
        };
        client.send(1, Method::BasicQosOk {});
        client.send(1, close);
        client.send(1, Method::ChannelCloseOk {});
        client.send(
            1,
            Method::ChannelOpen {
                reserved_1: "".into(),
            },
        );
        assert_eq!(
            client.frames(),
            ["1 ChannelCloseOk", "1 ChannelOpenOk { reserved_1: b\"\" }"]
        );
    });
}

/// Whatever bytes come, the state machine stays upright and its memory within what came.
mod noise {
    use proptest::prelude::*;

    fn any_frame() -> impl Strategy<Value = (u8, u16, Vec<u8>)> {
        let ids = (
            prop_oneof![Just(10u8), Just(20), Just(40), Just(50), Just(60), Just(85)],
            0u8..13,
        );
        let rest = proptest::collection::vec(any::<u8>(), 0..40);
        let method = (0u16..3, ids, rest).prop_map(|(channel, (class, id), rest)| {
            (1, channel, [vec![0, class, 0, id * 10], rest].concat())
        });
        let other = (
            prop_oneof![Just(2u8), Just(3), Just(8)],
            0u16..3,
            proptest::collection::vec(any::<u8>(), 0..40),
        );
        prop_oneof![method, other]
    }

    proptest! {
        #[test]
        fn frames_of_noise_do_not_panic(frames in proptest::collection::vec(any_frame(), 1..12)) {
            crate::client::once(|client| {
                let mut bytes = Vec::new();
                for (kind, channel, payload) in frames {
                    bytes.push(kind);
                    bytes.extend(channel.to_be_bytes());
                    bytes.extend((payload.len() as u32).to_be_bytes());
                    bytes.extend(payload);
                    bytes.push(206);
                }
                client.bytes(&bytes);
                client.frames();
            });
        }
    }
}
