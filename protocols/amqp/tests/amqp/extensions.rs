//! RabbitMQ's extensions: CC and BCC, direct reply-to, connection.blocked.

use trivium_amqp::{Options, method::Method};
use trivium_core::{Event, Kind, Refusal, Reply};

use crate::client::{
    Client, NO_PROPERTIES, consume, declare, delivery, publish, start_ok, story, story_with,
};

/// A property block with headers only.
fn headers(table: &[u8]) -> Vec<u8> {
    let mut block = vec![0x20, 0, 0, 0, 0, table.len() as u8];
    block.extend_from_slice(table);
    block
}

const REPLY_TO: u8 = 0x02;

fn reply_to(address: &str) -> Vec<u8> {
    let mut block = vec![REPLY_TO, 0, address.len() as u8];
    block.extend_from_slice(address.as_bytes());
    block
}

#[test]
fn cc_and_bcc_name_more_keys_and_bcc_is_not_seen() {
    story(|client| {
        let block = headers(
            b"\x02CCA\0\0\0\x0cS\0\0\0\x01aS\0\0\0\x01b\x03BCCA\0\0\0\x08t\x01S\0\0\0\x01c",
        );
        client.publish(1, "x", "k", &block, b"1");
        assert_eq!(
            client.commands(),
            ["publish 'x' k \"1\" also a also b also c"]
        );
        let seen = headers(b"\x02CCA\0\0\0\x0cS\0\0\0\x01aS\0\0\0\x01b");
        assert_eq!(client.published[0].1.native.block, seen);
    });
}

#[test]
fn cc_must_be_an_array() {
    let cases: [(&[u8], &str); 3] = [
        (b"\x02CCS\0\0\0\x01a", "\"CC\",longstr"),
        (b"\x03BCCI\0\0\0\x01", "\"BCC\",signedint"),
        (b"\x03BCCV", "\"BCC\",void"),
    ];
    for (table, found) in cases {
        story(|client| {
            client.publish(1, "x", "k", &headers(table), b"1");
            assert_eq!(
                client.frames(),
                [format!(
                    "1 channel.close 406 PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,{found}}} [60.40]"
                )]
            );
            assert!(client.commands().is_empty());
        });
    }
}

const ADDRESS: &str = "amq.rabbitmq.reply-to.0123";

fn taking_replies(client: &mut Client) {
    client.send(1, consume("amq.rabbitmq.reply-to", "t", true));
    assert_eq!(client.commands(), ["take replies c1"]);
    client.answer(Reply::ReplyAddress {
        address: ADDRESS.into(),
    });
    assert_eq!(
        client.frames(),
        ["1 BasicConsumeOk { consumer_tag: \"t\" }"]
    );
}

#[test]
fn a_request_carries_the_address_of_its_channel() {
    story(|client| {
        taking_replies(client);
        client.publish(1, "", "rpc", &reply_to("amq.rabbitmq.reply-to"), b"1");
        client.commands();
        assert_eq!(client.published[0].1.native.block, reply_to(ADDRESS));
        client.publish(1, "", "rpc", &reply_to("elsewhere"), b"1");
        client.commands();
        assert_eq!(client.published[1].1.native.block, reply_to("elsewhere"));
    });
}

#[test]
fn replies_are_delivered_to_the_consumer() {
    story(|client| {
        taking_replies(client);
        client.publish(1, "", ADDRESS, NO_PROPERTIES, b"answer");
        let message = client.message();
        client.deliver(1, vec![delivery(1, &message)]);
        let frames = client.frames();
        assert_eq!(
            frames[0],
            "1 BasicDeliver { consumer_tag: \"t\", delivery_tag: 1, redelivered: false, exchange: \"\", routing_key: \"amq.rabbitmq.reply-to.0123\" }"
        );
        assert_eq!(frames[2], "1 body answer");
    });
}

#[test]
fn only_one_consumer_takes_replies_and_none_acknowledges() {
    story(|client| {
        client.send(1, consume("amq.rabbitmq.reply-to", "t", false));
        let refused =
            "1 channel.close 406 PRECONDITION_FAILED - reply consumer cannot acknowledge [60.20]";
        assert_eq!(client.frames(), [refused]);
    });
    story(|client| {
        taking_replies(client);
        client.send(1, consume("amq.rabbitmq.reply-to", "u", true));
        let refused =
            "1 channel.close 406 PRECONDITION_FAILED - reply consumer already set [60.20]";
        assert_eq!(client.frames(), [refused]);
    });
}

#[test]
fn without_a_consumer_there_are_no_replies() {
    let refused =
        "1 channel.close 406 PRECONDITION_FAILED - fast reply consumer does not exist [60.40]";
    story(|client| {
        client.publish(1, "", "rpc", &reply_to("amq.rabbitmq.reply-to"), b"1");
        assert_eq!(client.frames(), [refused]);
    });
    story(|client| {
        taking_replies(client);
        client.send(
            1,
            Method::BasicCancel {
                consumer_tag: "t".into(),
                no_wait: false,
            },
        );
        client.answer(Reply::Ok);
        client.frames();
        client.publish(1, "", "rpc", &reply_to("amq.rabbitmq.reply-to"), b"1");
        assert_eq!(client.frames(), [refused]);
    });
}

#[test]
fn declaring_the_pseudo_queue_or_an_address_tells_who_is_there() {
    let passively = |queue: &str| {
        let Method::QueueDeclare { arguments, .. } = declare(queue) else {
            unreachable!("declare() declares");
        };
        Method::QueueDeclare {
            reserved_1: 0,
            queue: queue.into(),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments,
        }
    };
    story(|client| {
        for method in [
            passively("amq.rabbitmq.reply-to"),
            declare("amq.rabbitmq.reply-to"),
        ] {
            client.send(1, method);
            let declared = "1 QueueDeclareOk { queue: \"amq.rabbitmq.reply-to\", message_count: 0, consumer_count: 1 }";
            assert_eq!(client.frames(), [declared]);
        }
        client.send(1, passively(ADDRESS));
        assert_eq!(client.commands(), [format!("find replies {ADDRESS}")]);
        client.answer(Reply::Ok);
        assert_eq!(
            client.frames(),
            [format!(
                "1 QueueDeclareOk {{ queue: \"{ADDRESS}\", message_count: 0, consumer_count: 1 }}"
            )]
        );
        client.send(1, passively(ADDRESS));
        client.refuse(Refusal::NotFound {
            kind: Kind::Queue,
            name: ADDRESS.into(),
            vhost: "/".into(),
        });
        assert_eq!(
            client.frames(),
            [format!(
                "1 channel.close 404 NOT_FOUND - no queue '{ADDRESS}' in vhost '/' [50.10]"
            )]
        );
    });
}

#[test]
fn an_impersonator_may_claim_to_be_another_user() {
    crate::client::from_start(|client| {
        client.open_as(&["impersonator"]);
        client.publish(1, "", "q", b"\0\x10\x03bob", b"x");
        assert_eq!(client.commands(), ["publish '' q \"x\""]);
    });
}

fn low_on_disk() -> Event {
    Event::Blocked {
        reason: "low on disk".into(),
    }
}

#[test]
fn a_publisher_is_told_and_held_back_from_its_next_message_on() {
    story(|client| {
        client.event(low_on_disk());
        client.send(1, declare("q"));
        client.answer(Reply::Queue {
            name: "q".into(),
            messages: 0,
            consumers: 0,
            created: true,
        });
        client.commands();
        assert_eq!(client.frames().len(), 1, "who does not publish is not told");
        client.publish(1, "", "q", NO_PROPERTIES, b"held back");
        assert_eq!(
            client.frames(),
            ["0 ConnectionBlocked { reason: \"low on disk\" }"]
        );
        assert!(!client.wants_input());
        assert!(client.commands().is_empty());
        // Silence does not count while nothing is read, and heartbeats go on.
        client.wait(130).unwrap();
        assert_eq!(client.frames(), ["heartbeat"]);
        client.event(Event::Unblocked);
        assert_eq!(client.frames(), ["0 ConnectionUnblocked"]);
        assert_eq!(client.commands(), ["publish '' q \"held back\""]);
        client.publish(1, "", "q", NO_PROPERTIES, b"more");
        assert_eq!(client.commands(), ["publish '' q \"more\""]);
    });
}

#[test]
fn clients_without_the_capability_are_held_back_in_silence() {
    crate::client::from_start(|client| {
        client.open_with(start_ok(false));
        client.event(low_on_disk());
        client.publish(1, "", "q", NO_PROPERTIES, b"held back");
        assert!(client.frames().is_empty() && client.commands().is_empty());
        client.event(Event::Unblocked);
        assert!(client.frames().is_empty());
        assert_eq!(client.commands(), ["publish '' q \"held back\""]);
    });
}

#[test]
fn who_did_not_publish_meanwhile_hears_nothing() {
    story(|client| {
        client.event(low_on_disk());
        client.event(Event::Unblocked);
        assert!(client.frames().is_empty());
    });
}

#[test]
fn a_failed_store_is_told_once_and_every_message_is_refused() {
    story(|client| {
        client.send(1, Method::ConfirmSelect { no_wait: true });
        for body in [b"1", b"2"] {
            client.publish(1, "", "q", NO_PROPERTIES, body);
        }
        for token in client.tokens() {
            client.event(Event::Refused {
                tokens: vec![token],
                reason: Refusal::StorageFailed("no space left".into()),
            });
        }
        let frames = client.frames();
        assert_eq!(
            frames[0],
            "0 ConnectionBlocked { reason: \"storage failed\" }"
        );
        assert!(
            frames[1..]
                .iter()
                .all(|frame| frame.starts_with("1 BasicNack"))
        );
        assert_eq!(frames.len(), 3);
    });
}

/// A body of many frames, one of them short (section 4.2.6).
#[test]
fn a_large_body_is_put_together() {
    const SIZE: usize = 16 << 20;
    let options = Options {
        max_message_size: SIZE,
        ..Options::default()
    };
    let mut client = Client::whole(options);
    client.open();
    client.send(1, publish("", "q", false));
    client.content_header(1, SIZE as u64, NO_PROPERTIES);
    let piece: Vec<u8> = (0..131_064u32).map(|at| (at % 251) as u8).collect();
    let mut sent = 0;
    while sent < SIZE {
        let length = piece.len().min(SIZE - sent);
        client.frame(trivium_amqp::frame::FrameKind::Body, 1, &piece[..length]);
        sent += length;
    }
    client.tokens();
    let body = client.published[0].1.body.clone().unwrap();
    assert_eq!(body.len(), SIZE);
    assert!(
        body.chunks(piece.len())
            .all(|chunk| chunk == &piece[..chunk.len()])
    );
}

#[test]
fn too_large_a_body_is_refused_at_its_header() {
    let options = Options {
        max_message_size: 10,
        ..Options::default()
    };
    story_with(options, |client| {
        client.send(1, publish("", "q", false));
        client.content_header(1, 11, NO_PROPERTIES);
        let refused = "1 channel.close 406 PRECONDITION_FAILED - message size 11 is larger than configured max size 10 [60.40]";
        assert_eq!(client.frames(), [refused]);
    });
}
