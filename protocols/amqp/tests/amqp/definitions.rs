//! Channels, exchanges and queues (sections 1.5 to 1.7).

use trivium_amqp::{Options, method::Method};
use trivium_core::{Kind, Refusal, Reply, Text};

use crate::client::{Client, consume, declare, story, story_with};

fn channel_open() -> Method {
    Method::ChannelOpen {
        reserved_1: Text::new(),
    }
}

fn channel_close() -> Method {
    Method::ChannelClose {
        reply_code: 200,
        reply_text: Text::new(),
        class_id: 0,
        method_id: 0,
    }
}

fn declare_exchange(exchange: &str, kind: &str) -> Method {
    Method::ExchangeDeclare {
        reserved_1: 0,
        exchange: exchange.into(),
        kind: kind.into(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: vec![],
    }
}

fn bind(queue: &str, exchange: &str, key: &str) -> Method {
    Method::QueueBind {
        reserved_1: 0,
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: key.into(),
        no_wait: false,
        arguments: vec![],
    }
}

fn queue(name: &str, messages: u64, consumers: u32) -> Reply {
    Reply::Queue {
        name: name.into(),
        messages,
        consumers,
        created: true,
    }
}

fn not_found(name: &str) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Queue,
        name: name.into(),
        vhost: "/".into(),
    }
}

#[track_caller]
fn closes_channel(client: &mut Client, method: Method, expected: &str) {
    client.send(1, method);
    assert_eq!(client.frames(), [format!("1 channel.close {expected}")]);
    client.send(1, Method::ChannelCloseOk {});
    client.send(1, channel_open());
    assert_eq!(client.frames(), ["1 ChannelOpenOk { reserved_1: b\"\" }"]);
}

#[test]
fn channels_open_and_close() {
    story(|client| {
        client.send(2, channel_open());
        client.send(2, channel_close());
        client.send(2, channel_open());
        assert_eq!(
            client.frames(),
            [
                "2 ChannelOpenOk { reserved_1: b\"\" }",
                "2 ChannelCloseOk",
                "2 ChannelOpenOk { reserved_1: b\"\" }"
            ]
        );
    });
}

#[test]
fn a_channel_that_is_not_open_or_open_already_is_504() {
    story(|client| {
        client.send(7, declare("q"));
        assert_eq!(
            client.frames(),
            ["connection.close 504 CHANNEL_ERROR - expected 'channel.open' [50.10]"]
        );
    });
    story(|client| {
        client.send(1, channel_open());
        assert_eq!(
            client.frames(),
            ["connection.close 504 CHANNEL_ERROR - second 'channel.open' seen [20.10]"]
        );
    });
}

#[test]
fn there_are_as_many_channels_as_negotiated() {
    story(|client| {
        client.send(2048, channel_open());
        let refused = "connection.close 530 NOT_ALLOWED - number of channels opened (1) has reached the negotiated \
                       channel_max (2047) [20.10]";
        assert_eq!(client.frames(), [refused]);
    });
}

#[test]
fn flow_can_only_be_on() {
    story(|client| {
        client.send(1, Method::ChannelFlow { active: true });
        assert_eq!(client.frames(), ["1 ChannelFlowOk { active: true }"]);
        client.send(1, Method::ChannelFlow { active: false });
        assert_eq!(
            client.frames(),
            ["connection.close 540 NOT_IMPLEMENTED - active=false [20.20]"]
        );
    });
}

#[test]
fn a_queue_is_declared_and_then_meant_by_an_empty_name() {
    story(|client| {
        client.send(1, declare(""));
        assert!(
            client.commands()[0]
                .starts_with("DeclareQueue { name: \"\", spec: QueueSpec { durable: true")
        );
        client.answer(queue("amq.gen-1", 3, 2));
        let ok = "1 QueueDeclareOk { queue: \"amq.gen-1\", message_count: 3, consumer_count: 2 }";
        assert_eq!(client.frames(), [ok]);

        client.send(1, bind("", "amq.topic", ""));
        let bound = &client.commands()[0];
        assert!(
            bound.contains("destination: Queue(\"amq.gen-1\"), key: \"amq.gen-1\""),
            "{bound}"
        );
        client.answer(Reply::Ok);
        assert_eq!(client.frames(), ["1 QueueBindOk"]);

        client.send(1, consume("", "c", false));
        assert_eq!(client.commands(), ["consume c1 amq.gen-1 prefetch None"]);
    });
}

#[test]
fn without_a_declared_queue_an_empty_name_means_nothing() {
    story(|client| {
        let expected = "404 NOT_FOUND - no previously declared queue [50.20]";
        closes_channel(client, bind("", "amq.topic", "k"), expected);
    });
}

#[test]
fn line_ends_are_taken_out_of_names() {
    story(|client| {
        client.send(1, declare("a\r\nb"));
        assert!(client.commands()[0].starts_with("DeclareQueue { name: \"ab\""));
    });
}

#[test]
fn what_follows_a_definition_waits_for_it() {
    story(|client| {
        client.send(1, declare("q"));
        client.publish(1, "", "q", &[0, 0], b"after");
        assert_eq!(client.commands().len(), 1);
        client.answer(queue("q", 0, 0));
        assert_eq!(client.commands(), ["publish '' q \"after\""]);
    });
}

#[test]
fn a_failing_definition_closes_the_channel_before_what_follows_is_carried_out() {
    story(|client| {
        client.send(1, bind("nope", "amq.topic", "k"));
        client.publish(1, "", "q", &[0, 0], b"too late");
        client.commands();
        client.refuse(not_found("nope"));
        assert_eq!(
            client.frames(),
            ["1 channel.close 404 NOT_FOUND - no queue 'nope' in vhost '/' [50.20]"]
        );
        assert!(client.commands().is_empty());
        client.send(1, Method::ChannelCloseOk {});
        client.send(1, channel_open());
        assert_eq!(client.frames(), ["1 ChannelOpenOk { reserved_1: b\"\" }"]);
    });
}

#[test]
fn no_wait_has_no_answer_but_fails_all_the_same() {
    story(|client| {
        let delete = Method::QueueDelete {
            reserved_1: 0,
            queue: "q".into(),
            if_unused: false,
            if_empty: false,
            no_wait: true,
        };
        client.send(1, delete.clone());
        client.answer(Reply::Deleted { messages: 4 });
        assert!(client.frames().is_empty());
        client.send(1, delete);
        client.refuse(Refusal::Locked {
            name: "q".into(),
            vhost: "/".into(),
        });
        assert!(
            client.frames()[0].starts_with(
                "1 channel.close 405 RESOURCE_LOCKED - cannot obtain exclusive access"
            )
        );
    });
}

#[test]
fn each_definition_has_its_answer() {
    let queue = || Text::from_static("q");
    let exchange = || Text::from_static("x");
    let cases = [
        (
            declare_exchange("x", "headers"),
            Reply::Ok,
            "1 ExchangeDeclareOk",
        ),
        (
            Method::ExchangeDelete {
                reserved_1: 0,
                exchange: exchange(),
                if_unused: true,
                no_wait: false,
            },
            Reply::Ok,
            "1 ExchangeDeleteOk",
        ),
        (
            Method::ExchangeBind {
                reserved_1: 0,
                destination: exchange(),
                source: "y".into(),
                routing_key: Text::new(),
                no_wait: false,
                arguments: vec![],
            },
            Reply::Ok,
            "1 ExchangeBindOk",
        ),
        (
            Method::QueueUnbind {
                reserved_1: 0,
                queue: queue(),
                exchange: exchange(),
                routing_key: Text::new(),
                arguments: vec![],
            },
            Reply::Ok,
            "1 QueueUnbindOk",
        ),
        (
            Method::QueuePurge {
                reserved_1: 0,
                queue: queue(),
                no_wait: false,
            },
            Reply::Deleted { messages: 5 },
            "1 QueuePurgeOk { message_count: 5 }",
        ),
        (
            Method::QueueDelete {
                reserved_1: 0,
                queue: queue(),
                if_unused: true,
                if_empty: true,
                no_wait: false,
            },
            Reply::Deleted { messages: 6 },
            "1 QueueDeleteOk { message_count: 6 }",
        ),
    ];
    for (method, reply, expected) in cases {
        let reply = std::cell::RefCell::new(Some(reply));
        crate::client::once(|client| {
            client.send(1, method.clone());
            client.answer(reply.take().expect("the story runs once"));
            assert_eq!(client.frames(), [expected]);
        });
    }
}

#[test]
fn passive_declarations_only_look() {
    story(|client| {
        let Method::QueueDeclare { queue: name, .. } = declare("q") else {
            return;
        };
        let passive = Method::QueueDeclare {
            reserved_1: 0,
            queue: name,
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: vec![],
        };
        client.send(1, passive);
        assert!(client.commands()[0].starts_with("ExpectQueue { name: \"q\""));
        client.refuse(not_found("q"));
        assert_eq!(
            client.frames(),
            ["1 channel.close 404 NOT_FOUND - no queue 'q' in vhost '/' [50.10]"]
        );
    });
}

#[test]
fn an_unknown_exchange_type_is_406() {
    story(|client| {
        let expected = "406 PRECONDITION_FAILED - unknown exchange type 'nosuch' [40.10]";
        closes_channel(client, declare_exchange("x", "nosuch"), expected);
    });
}

#[test]
fn refusals_have_rabbitmqs_codes_and_texts() {
    let (name, vhost) = (Text::from_static("q"), Text::from_static("/"));
    let inequivalent = Refusal::Inequivalent {
        kind: Kind::Queue,
        name: name.clone(),
        vhost: vhost.clone(),
        argument: "durable".into(),
        received: "'false'".into(),
        current: "'true'".into(),
    };
    let cases = [
        (
            inequivalent,
            "406 PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but \
             current is 'true'",
        ),
        (
            Refusal::InUse {
                kind: Kind::Queue,
                name: name.clone(),
                vhost: vhost.clone(),
            },
            "406 PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
        ),
        (
            Refusal::NotEmpty {
                name: name.clone(),
                vhost: vhost.clone(),
            },
            "406 PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
        ),
        (
            Refusal::ExclusiveUse { name, vhost },
            "403 ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
        ),
        (Refusal::Denied("no".into()), "403 ACCESS_REFUSED - no"),
    ];
    for (refusal, expected) in cases {
        story(|client| {
            client.send(1, declare("q"));
            client.refuse(refusal.clone());
            assert_eq!(
                client.frames(),
                [format!("1 channel.close {expected} [50.10]")]
            );
        });
    }
}

#[test]
fn a_storage_failure_closes_the_connection() {
    story_with(
        Options {
            heartbeat: 10,
            ..Options::default()
        },
        |client| {
            client.send(1, declare("q"));
            client.refuse(Refusal::StorageFailed("disk full".into()));
            assert_eq!(
                client.frames(),
                ["connection.close 541 INTERNAL_ERROR - disk full [50.10]"]
            );
        },
    );
}

#[test]
fn a_reply_text_fits_a_short_string() {
    story(|client| {
        client.send(1, declare("q"));
        client.refuse(Refusal::Denied("é".repeat(300).into()));
        let told = client.frames().remove(0);
        let text = "ACCESS_REFUSED - ";
        let kept = "é".repeat((252 - text.len()) / 2);
        assert!(told.contains(&format!("{text}{kept}...")), "{told}");
    });
}

#[test]
fn what_rabbitmq_does_not_do_is_540() {
    for (method, text) in [
        (
            Method::ChannelFlow { active: false },
            "active=false [20.20]",
        ),
        (
            Method::BasicQos {
                prefetch_size: 1,
                prefetch_count: 0,
                global: false,
            },
            "prefetch_size!=0 (1) [60.10]",
        ),
        (
            Method::BasicRecover { requeue: false },
            "requeue=false [60.110]",
        ),
    ] {
        story(|client| {
            client.send(1, method.clone());
            assert_eq!(
                client.frames(),
                [format!("connection.close 540 NOT_IMPLEMENTED - {text}")]
            );
        });
    }
}
