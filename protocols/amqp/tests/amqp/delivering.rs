//! Consumers, basic.get and acknowledgements (sections 1.8.3.3 to 1.8.3.16).

use std::sync::Arc;

use trivium_amqp::{Options, method::Method};
use trivium_core::{CancelReason, ConsumerId, Event, Message, Refusal, Reply};

use crate::client::{Client, NO_PROPERTIES, consume, delivery, story, story_with};

fn message(client: &mut Client, body: &[u8]) -> Arc<Message> {
    client.publish(1, "amq.topic", "k", NO_PROPERTIES, body);
    client.commands();
    client.published.pop().unwrap().1
}

fn consuming(client: &mut Client, tag: &str, no_ack: bool) {
    client.send(1, consume("q", tag, no_ack));
    client.commands();
    client.answer(Reply::Ok);
    client.frames();
}

fn ack(delivery_tag: u64, multiple: bool) -> Method {
    Method::BasicAck {
        delivery_tag,
        multiple,
    }
}

#[test]
fn a_consumer_gets_messages_and_settles_them() {
    story(|client| {
        let hi = message(client, b"hi");
        client.send(
            1,
            Method::BasicQos {
                prefetch_size: 0,
                prefetch_count: 10,
                global: false,
            },
        );
        client.send(1, consume("q", "tag", false));
        assert_eq!(client.commands(), ["consume c1 q prefetch Some(10)"]);
        client.answer(Reply::Ok);
        assert_eq!(
            client.frames(),
            ["1 BasicQosOk", "1 BasicConsumeOk { consumer_tag: \"tag\" }"]
        );

        client.deliver(1, vec![delivery(1, &hi), delivery(2, &hi)]);
        let deliver = |tag: u64| {
            format!(
                "1 BasicDeliver {{ consumer_tag: \"tag\", delivery_tag: {tag}, redelivered: false, exchange: \
                 \"amq.topic\", routing_key: \"k\" }}"
            )
        };
        let content = ["1 header 2 \\x00\\x00".to_owned(), "1 body hi".to_owned()];
        let expected: Vec<String> = [1, 2]
            .iter()
            .flat_map(|tag| [vec![deliver(*tag)], content.to_vec()].concat())
            .collect();
        assert_eq!(client.frames(), expected);

        client.send(1, ack(1, false));
        client.send(
            1,
            Method::BasicNack {
                delivery_tag: 2,
                multiple: false,
                requeue: true,
            },
        );
        assert_eq!(
            client.commands(),
            ["settle c1 1..=1 Accept", "settle c1 2..=2 Release"]
        );
    });
}

#[test]
fn acknowledgements_of_one_turn_become_ranges() {
    story(|client| {
        let hi = message(client, b"hi");
        consuming(client, "a", false);
        consuming(client, "b", false);
        for id in 1..=3 {
            client.deliver(1, vec![delivery(id, &hi)]);
            client.deliver(2, vec![delivery(id, &hi)]);
        }
        client.send(1, ack(4, true));
        assert_eq!(
            client.commands(),
            ["settle c1 1..=2 Accept", "settle c2 1..=2 Accept"]
        );
        client.send(
            1,
            Method::BasicReject {
                delivery_tag: 5,
                requeue: false,
            },
        );
        client.send(1, ack(6, false));
        assert_eq!(
            client.commands(),
            ["settle c1 3..=3 Reject", "settle c2 3..=3 Accept"]
        );
    });
}

#[test]
fn single_acknowledgements_in_order_are_one_range() {
    story(|client| {
        let hi = message(client, b"hi");
        consuming(client, "a", false);
        client.deliver(1, (1..=5).map(|id| delivery(id, &hi)).collect());
        for tag in 1..=5 {
            client.send(1, ack(tag, false));
        }
        assert_eq!(client.commands(), ["settle c1 1..=5 Accept"]);
    });
}

#[test]
fn an_unknown_delivery_tag_closes_the_channel_and_gives_back_the_rest() {
    for (bad, tag) in [
        (ack(99, false), 99),
        (ack(1, false), 1),
        (ack(0, false), 0),
        (ack(99, true), 99),
    ] {
        story(|client| {
            let hi = message(client, b"hi");
            consuming(client, "a", false);
            client.deliver(1, vec![delivery(1, &hi), delivery(2, &hi)]);
            client.send(1, ack(1, false));
            client.commands();
            client.frames();
            client.send(1, bad.clone());
            let closed = format!(
                "1 channel.close 406 PRECONDITION_FAILED - unknown delivery tag {tag} [60.80]"
            );
            assert_eq!(client.frames(), [closed]);
            assert_eq!(client.commands(), ["cancel c1", "settle c1 2..=2 Requeue"]);
        });
    }
}

#[test]
fn auto_ack_deliveries_count_but_cannot_be_settled() {
    story(|client| {
        let hi = message(client, b"hi");
        consuming(client, "auto", true);
        consuming(client, "manual", false);
        client.deliver(1, vec![delivery(1, &hi)]);
        client.deliver(2, vec![delivery(1, &hi)]);
        let tags: Vec<bool> = client
            .frames()
            .iter()
            .map(|frame| frame.contains("delivery_tag: 2"))
            .collect();
        assert_eq!(tags, [false, false, false, true, false, false]);
        client.send(1, ack(2, true));
        assert_eq!(client.commands(), ["settle c2 1..=1 Accept"]);
        client.send(1, ack(1, false));
        assert!(client.frames()[0].contains("unknown delivery tag 1"));
    });
}

#[test]
fn a_consumer_without_a_tag_gets_one() {
    story(|client| {
        client.send(1, consume("q", "", true));
        assert_eq!(client.commands(), ["consume c1 q auto prefetch None"]);
        client.answer(Reply::Ok);
        assert!(client.frames()[0].starts_with("1 BasicConsumeOk { consumer_tag: \"amq.ctag-"));
    });
}

#[test]
fn a_consumer_tag_is_unique_on_its_channel() {
    story(|client| {
        consuming(client, "t", true);
        client.send(1, consume("q", "t", true));
        assert_eq!(
            client.frames(),
            ["connection.close 530 NOT_ALLOWED - attempt to reuse consumer tag 't' [60.20]"]
        );
    });
}

#[test]
fn a_refused_consumer_leaves_nothing_behind() {
    story(|client| {
        client.send(1, consume("q", "t", true));
        client.refuse(Refusal::ExclusiveUse {
            name: "q".into(),
            vhost: "/".into(),
        });
        assert!(client.frames()[0].starts_with("1 channel.close 403 ACCESS_REFUSED - queue 'q'"));
        assert_eq!(client.commands(), ["consume c1 q auto prefetch None"]);
    });
}

#[test]
fn a_cancelled_consumer_is_answered_after_its_last_message() {
    story(|client| {
        let hi = message(client, b"hi");
        consuming(client, "t", false);
        client.send(
            1,
            Method::BasicCancel {
                consumer_tag: "t".into(),
                no_wait: false,
            },
        );
        assert_eq!(client.commands(), ["cancel c1"]);
        client.deliver(1, vec![delivery(1, &hi)]);
        client.answer(Reply::Ok);
        let frames = client.frames();
        assert!(frames[0].contains("BasicDeliver"));
        assert_eq!(frames[3], "1 BasicCancelOk { consumer_tag: \"t\" }");
        client.send(1, ack(1, false));
        assert_eq!(client.commands(), ["settle c1 1..=1 Accept"]);
    });
}

#[test]
fn cancelling_an_unknown_consumer_succeeds() {
    story(|client| {
        client.send(
            1,
            Method::BasicCancel {
                consumer_tag: "t".into(),
                no_wait: false,
            },
        );
        assert_eq!(client.frames(), ["1 BasicCancelOk { consumer_tag: \"t\" }"]);
    });
}

#[test]
fn a_consumer_whose_queue_is_deleted_is_told() {
    story(|client| {
        consuming(client, "t", false);
        client.event(Event::Cancelled {
            consumer: ConsumerId(1),
            reason: CancelReason::QueueDeleted,
        });
        assert_eq!(
            client.frames(),
            ["1 BasicCancel { consumer_tag: \"t\", no_wait: true }"]
        );
    });
}

#[test]
fn one_message_is_got() {
    story(|client| {
        let hi = message(client, b"hi");
        let get = Method::BasicGet {
            reserved_1: 0,
            queue: "q".into(),
            no_ack: false,
        };
        client.send(1, get.clone());
        assert_eq!(client.commands(), ["get c1 q"]);
        let mut got = delivery(1, &hi);
        got.redelivered = true;
        client.event(Event::Unrouted {
            token: trivium_core::Token(1),
        });
        client.answer(Reply::Got {
            delivery: Some(got),
            remaining: 4,
        });
        let ok = "1 BasicGetOk { delivery_tag: 1, redelivered: true, exchange: \"amq.topic\", routing_key: \"k\", \
                  message_count: 4 }";
        assert_eq!(client.frames(), [ok, "1 header 2 \\x00\\x00", "1 body hi"]);
        client.send(1, ack(1, false));
        client.send(1, get);
        assert_eq!(client.commands(), ["settle c1 1..=1 Accept", "get c1 q"]);
        client.answer(Reply::Got {
            delivery: None,
            remaining: 0,
        });
        assert_eq!(client.frames(), ["1 BasicGetEmpty { reserved_1: \"\" }"]);
    });
}

#[test]
fn recover_gives_everything_back() {
    story(|client| {
        let hi = message(client, b"hi");
        consuming(client, "t", false);
        client.deliver(1, vec![delivery(1, &hi), delivery(2, &hi)]);
        client.frames();
        client.send(1, Method::BasicRecover { requeue: true });
        assert_eq!(client.commands(), ["settle c1 1..=2 Release"]);
        assert_eq!(client.frames(), ["1 BasicRecoverOk"]);
    });
}

#[test]
fn closing_a_channel_ends_its_consumers_and_gives_back_what_is_on_its_way() {
    story(|client| {
        let hi = message(client, b"hi");
        consuming(client, "t", false);
        client.deliver(1, vec![delivery(1, &hi)]);
        client.frames();
        let close = Method::ChannelClose {
            reply_code: 200,
            reply_text: "".into(),
            class_id: 0,
            method_id: 0,
        };
        client.send(1, close);
        assert_eq!(client.commands(), ["cancel c1", "settle c1 1..=1 Requeue"]);
        client.deliver(1, vec![delivery(2, &hi), delivery(3, &hi)]);
        assert_eq!(client.commands(), ["settle c1 2..=3 Requeue"]);
        assert_eq!(client.frames(), ["1 ChannelCloseOk"]);
    });
}

#[test]
fn a_large_body_is_split_by_the_frame_size() {
    story_with(
        Options {
            frame_max: 4096,
            ..Options::default()
        },
        |client| {
            client.send(1, crate::client::publish("", "q", false));
            let body = vec![b'x'; 10_000];
            client.content_header(1, 10_000, NO_PROPERTIES);
            for piece in body.chunks(4000) {
                client.frame(trivium_amqp::frame::FrameKind::Body, 1, piece);
            }
            client.commands();
            let message = client.published[0].1.clone();
            assert_eq!(message.body.as_deref(), Some(&body[..]));
            consuming(client, "t", true);
            client.deliver(1, vec![delivery(1, &message)]);
            let sizes: Vec<usize> = client.raw_frames()[2..]
                .iter()
                .map(|frame| frame.payload.len())
                .collect();
            assert_eq!(sizes, [4088, 4088, 1824]);
        },
    );
}
