//! Negotiation, heartbeats and closing (sections 2.2.4, 4.2.2, 4.2.7, 1.4.2).

use trivium_amqp::{field_table::Table, method::Method};
use trivium_core::{Event, Refusal, Reply, Text, Value};
use trivium_protocol::CloseReason;

use crate::client::{Client, HEADER, from_start, open, start_ok, story};

fn authenticate(client: &mut Client) {
    client.bytes(HEADER);
    client.send(0, start_ok(true));
    client.answer(Reply::Authenticated {
        user: "guest".into(),
        tags: Vec::new(),
    });
    client.output();
}

fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> Method {
    Method::ConnectionTuneOk {
        channel_max,
        frame_max,
        heartbeat,
    }
}

#[test]
fn a_connection_opens_step_by_step() {
    from_start(|client| {
        client.bytes(HEADER);
        let start = client.raw_frames().remove(0);
        let Ok(Method::ConnectionStart {
            version_minor: 9,
            server_properties,
            mechanisms,
            ..
        }) = Method::decode(start.payload)
        else {
            panic!("connection.start is expected");
        };
        assert_eq!(&mechanisms[..], b"PLAIN AMQPLAIN ANONYMOUS");
        for name in [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ] {
            assert_eq!(capability(&server_properties, name), Some(true), "{name}");
        }

        client.send(0, start_ok(true));
        assert_eq!(client.commands(), ["authenticate Password(guest)"]);
        assert!(!client.wants_input());
        client.answer(Reply::Authenticated {
            user: "guest".into(),
            tags: Vec::new(),
        });
        let tune = "0 ConnectionTune { channel_max: 2047, frame_max: 131072, heartbeat: 60 }";
        assert_eq!(client.frames(), [tune]);

        client.send(0, tune_ok(10, 8192, 30));
        client.send(0, open("/shop"));
        assert_eq!(client.commands(), ["enter /shop"]);
        client.answer(Reply::Ok);
        assert_eq!(client.frames(), ["0 ConnectionOpenOk { reserved_1: \"\" }"]);
    });
}

fn capability(server_properties: &Table, wanted: &str) -> Option<bool> {
    let Value::Table(capabilities) = &server_properties
        .iter()
        .find(|(name, _)| name == "capabilities")?
        .1
    else {
        return None;
    };
    capabilities
        .iter()
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| *value == Value::Bool(true))
}

#[test]
fn the_old_header_is_taken_too() {
    from_start(|client| {
        client.bytes(b"AMQP\x01\x01\x00\x09");
        assert_eq!(client.raw_frames().len(), 1);
    });
}

#[test]
fn any_other_header_is_answered_with_ours() {
    for header in [
        &b"AMQP\0\0\x09\x02"[..],
        b"AMQP\x03\x01\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0",
    ] {
        from_start(|client| {
            client.bytes(header);
            assert_eq!(&client.output()[..], HEADER);
            assert!(client.is_closed());
        });
    }
}

#[test]
fn a_refused_login_is_told_to_those_who_understand() {
    from_start(|client| {
        client.bytes(HEADER);
        client.send(0, start_ok(true));
        client.output();
        client.refuse(Refusal::LoginRefused);
        let refused = "connection.close 403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                       For details see the broker logfile. [10.11]";
        assert_eq!(client.frames(), [refused]);
        client.send(0, Method::ConnectionCloseOk {});
        assert!(client.is_closed());
    });
}

#[test]
fn a_refused_login_is_left_in_silence_by_others() {
    from_start(|client| {
        client.bytes(HEADER);
        client.send(0, start_ok(false));
        client.output();
        client.refuse(Refusal::LoginRefused);
        assert!(!client.is_closed());
        client.wait(1).unwrap();
        assert!(client.is_closed());
        assert!(client.output().is_empty());
    });
}

#[test]
fn an_unknown_mechanism_is_refused() {
    from_start(|client| {
        client.bytes(HEADER);
        client.output();
        let Method::ConnectionStartOk {
            client_properties,
            response,
            locale,
            ..
        } = start_ok(true)
        else {
            return;
        };
        client.send(
            0,
            Method::ConnectionStartOk {
                client_properties,
                mechanism: "GSSAPI".into(),
                response,
                locale,
            },
        );
        assert_eq!(
            client.frames(),
            [
                "connection.close 503 COMMAND_INVALID - unknown authentication mechanism 'GSSAPI' [10.11]"
            ]
        );
    });
}

#[test]
fn no_more_than_was_offered_may_be_taken() {
    let cases = [
        (
            tune_ok(0, 131_072, 60),
            "channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
        (
            tune_ok(2048, 131_072, 60),
            "channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
        (
            tune_ok(1, 0, 60),
            "frame_max = 0 (no limit) is higher than the maximum allowed value (131072)",
        ),
        (
            tune_ok(1, 131_073, 60),
            "frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (
            tune_ok(1, 4095, 60),
            "frame_max = 4095 is lower than the minimum allowed value (4096)",
        ),
    ];
    for (tune, expected) in cases {
        from_start(|client| {
            authenticate(client);
            client.send(0, tune.clone());
            assert_eq!(
                client.frames(),
                [format!(
                    "connection.close 530 NOT_ALLOWED - negotiated {expected} [10.31]"
                )]
            );
        });
    }
}

#[test]
fn a_missing_vhost_is_530() {
    from_start(|client| {
        authenticate(client);
        client.send(0, tune_ok(1, 8192, 0));
        client.send(0, open("nope"));
        client.refuse(Refusal::NoVhost("nope".into()));
        assert_eq!(
            client.frames(),
            ["connection.close 530 NOT_ALLOWED - vhost nope not found [10.40]"]
        );
    });
}

#[test]
fn methods_out_of_order_are_refused() {
    from_start(|client| {
        client.bytes(HEADER);
        client.output();
        client.send(0, open("/"));
        let refused = "connection.close 504 CHANNEL_ERROR - unexpected method in connection state starting [10.40]";
        assert_eq!(client.frames(), [refused]);
        assert!(client.commands().is_empty());
    });
    from_start(|client| {
        authenticate(client);
        client.send(
            1,
            Method::ChannelOpen {
                reserved_1: Text::new(),
            },
        );
        assert!(client.frames()[0].starts_with("connection.close 504 CHANNEL_ERROR"));
    });
}

#[test]
fn a_handshake_takes_at_most_ten_seconds() {
    from_start(|client| {
        client.bytes(&HEADER[..4]);
        assert_eq!(client.wait(9), Ok(()));
        assert!(matches!(client.wait(1), Err(CloseReason::Timeout(_))));
    });
}

#[test]
fn heartbeats_are_sent_when_idle_for_half_the_interval() {
    story(|client| {
        client.wait(29).unwrap();
        assert!(client.frames().is_empty());
        client.wait(1).unwrap();
        assert_eq!(client.frames(), ["heartbeat"]);
        client.wait(29).unwrap();
        assert!(client.frames().is_empty());
    });
}

#[test]
fn two_silent_intervals_end_the_connection_and_any_byte_counts() {
    story(|client| {
        client.wait(119).unwrap();
        client.bytes(&[8]);
        client.wait(119).unwrap();
        assert_eq!(
            client.wait(1),
            Err(CloseReason::Timeout(
                "missed heartbeats from client, timeout: 60s".into()
            ))
        );
    });
}

#[test]
fn without_heartbeats_silence_is_fine() {
    from_start(|client| {
        authenticate(client);
        client.send(0, tune_ok(1, 8192, 0));
        client.send(0, open("/"));
        client.answer(Reply::Ok);
        client.output();
        assert_eq!(client.wait(100_000), Ok(()));
        assert!(client.frames().is_empty());
    });
}

fn close() -> Method {
    Method::ConnectionClose {
        reply_code: 200,
        reply_text: "bye".into(),
        class_id: 0,
        method_id: 0,
    }
}

#[test]
fn the_client_closes() {
    story(|client| {
        client.send(0, close());
        assert_eq!(client.frames(), ["0 ConnectionCloseOk"]);
        assert!(client.is_closed());
    });
}

/// RabbitMQ's order, on which clients rely that use the names again.
#[test]
fn queues_of_the_connection_have_gone_when_it_is_closed() {
    story(|client| {
        let declare = Method::QueueDeclare {
            reserved_1: 0,
            queue: "mine".into(),
            passive: false,
            durable: false,
            exclusive: true,
            auto_delete: false,
            no_wait: false,
            arguments: Vec::new(),
        };
        client.send(1, declare);
        client.answer(Reply::Queue {
            name: "mine".into(),
            messages: 0,
            consumers: 0,
            created: true,
        });
        client.frames();
        client.commands();
        client.send(0, close());
        assert_eq!(client.commands(), ["DeleteExclusiveQueues"]);
        assert!(client.frames().is_empty() && !client.is_closed());
        client.answer(Reply::Ok);
        assert_eq!(client.frames(), ["0 ConnectionCloseOk"]);
        assert!(client.is_closed());
    });
}

#[test]
fn a_shutdown_is_told_and_ends_with_close_ok_or_in_time() {
    story(|client| {
        client.event(Event::Shutdown);
        let forced = "connection.close 320 CONNECTION_FORCED - broker forced connection closure with reason 'shutdown' [0.0]";
        assert_eq!(client.frames(), [forced]);
        client.publish(1, "", "q", &[0, 0], b"ignored");
        assert!(client.commands().is_empty());
        client.wait(1).unwrap();
        assert!(client.is_closed());
    });
}

#[test]
fn a_new_secret_is_taken() {
    story(|client| {
        client.send(
            0,
            Method::ConnectionUpdateSecret {
                new_secret: "s".into(),
                reason: "expiry".into(),
            },
        );
        assert_eq!(client.frames(), ["0 ConnectionUpdateSecretOk"]);
    });
}
