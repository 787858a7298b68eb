//! Transactions (section 1.9: tx.select, tx.commit, tx.rollback).

use trivium_amqp::method::Method;
use trivium_core::{Event, Kind, Refusal, Reply};

use crate::client::{Client, NO_PROPERTIES, consume, delivery, publish, story};

fn transacting(script: impl Fn(&mut Client)) {
    story(|client| {
        client.send(1, Method::TxSelect {});
        assert_eq!(client.frames(), ["1 TxSelectOk"]);
        script(client);
    });
}

fn ack(delivery_tag: u64, multiple: bool) -> Method {
    Method::BasicAck {
        delivery_tag,
        multiple,
    }
}

/// A consumer that holds deliveries 1 to 4.
fn holding(client: &mut Client) {
    client.send(1, consume("q", "t", false));
    client.answer(Reply::Ok);
    let message = client.message();
    client.deliver(1, (1..=4).map(|id| delivery(id, &message)).collect());
    client.frames();
    client.commands();
}

fn missing_exchange() -> Refusal {
    Refusal::NotFound {
        kind: Kind::Exchange,
        name: "x".into(),
        vhost: "/".into(),
    }
}

#[test]
fn publishes_wait_for_the_commit_and_are_one_command() {
    transacting(|client| {
        client.publish(1, "", "a", NO_PROPERTIES, b"1");
        client.publish(1, "x", "b", NO_PROPERTIES, b"2");
        assert_eq!(client.commands(), ["probe '' a", "probe 'x' b"]);
        client.send(1, Method::TxCommit {});
        assert_eq!(
            client.commands(),
            ["transact [publish '' a \"1\", publish 'x' b \"2\"]"]
        );
        assert!(!client.wants_input());
        client.answer(Reply::Ok);
        assert_eq!(client.frames(), ["1 TxCommitOk"]);
        client.send(1, Method::TxCommit {});
        assert_eq!(client.frames(), ["1 TxCommitOk"], "nothing is left");
        assert!(client.commands().is_empty());
    });
}

#[test]
fn acknowledgements_wait_with_the_publishes_in_order() {
    transacting(|client| {
        holding(client);
        client.send(1, ack(2, true));
        client.publish(1, "", "a", NO_PROPERTIES, b"1");
        client.send(
            1,
            Method::BasicNack {
                delivery_tag: 3,
                multiple: false,
                requeue: true,
            },
        );
        client.send(
            1,
            Method::BasicReject {
                delivery_tag: 4,
                requeue: false,
            },
        );
        assert_eq!(client.commands(), ["probe '' a"]);
        client.send(1, Method::TxCommit {});
        assert_eq!(
            client.commands(),
            [
                "transact [settle c1 1..=2 Accept, publish '' a \"1\", settle c1 3..=3 Release, settle c1 4..=4 Reject]"
            ]
        );
    });
}

#[test]
fn a_rollback_forgets_publishes_and_keeps_deliveries_as_they_were() {
    transacting(|client| {
        holding(client);
        client.publish(1, "", "a", NO_PROPERTIES, b"1");
        client.send(1, ack(3, true));
        client.send(1, Method::TxRollback {});
        assert_eq!(client.frames(), ["1 TxRollbackOk"]);
        client.commands();
        client.send(1, ack(2, false));
        client.send(1, Method::TxCommit {});
        assert_eq!(client.commands(), ["transact [settle c1 2..=2 Accept]"]);
        client.answer(Reply::Ok);
        client.frames();
        client.send(1, ack(2, false));
        let unknown = "1 channel.close 406 PRECONDITION_FAILED - unknown delivery tag 2 [60.80]";
        assert_eq!(client.frames(), [unknown]);
        let mut requeued = client.commands();
        requeued.retain(|command| command.starts_with("settle"));
        assert_eq!(
            requeued,
            ["settle c1 1..=1 Requeue", "settle c1 3..=4 Requeue"]
        );
    });
}

#[test]
fn closing_the_channel_gives_back_what_was_not_committed() {
    transacting(|client| {
        holding(client);
        client.send(1, ack(4, true));
        client.send(
            1,
            Method::ChannelClose {
                reply_code: 200,
                reply_text: "".into(),
                class_id: 0,
                method_id: 0,
            },
        );
        assert_eq!(client.commands(), ["cancel c1", "settle c1 1..=4 Requeue"]);
    });
}

#[test]
fn a_missing_exchange_is_heard_of_at_the_publish() {
    transacting(|client| {
        client.publish(1, "x", "k", NO_PROPERTIES, b"1");
        let token = client.probed();
        client.event(Event::Refused {
            tokens: vec![token],
            reason: missing_exchange(),
        });
        assert_eq!(
            client.frames(),
            ["1 channel.close 404 NOT_FOUND - no exchange 'x' in vhost '/' [60.40]"]
        );
    });
}

#[test]
fn a_failed_commit_closes_the_channel_and_settles_nothing() {
    let cases = [
        (
            missing_exchange(),
            "404 NOT_FOUND - no exchange 'x' in vhost '/'",
        ),
        (
            Refusal::Invalid("full".into()),
            "406 PRECONDITION_FAILED - partial tx completion",
        ),
    ];
    for (refusal, text) in cases {
        transacting(|client| {
            holding(client);
            client.publish(1, "x", "k", NO_PROPERTIES, b"1");
            client.send(1, ack(4, true));
            client.send(1, Method::TxCommit {});
            client.commands();
            client.refuse(refusal.clone());
            assert_eq!(client.frames(), [format!("1 channel.close {text} [90.20]")]);
            assert_eq!(client.commands(), ["cancel c1", "settle c1 1..=4 Requeue"]);
        });
    }
}

#[test]
fn what_is_mandatory_is_returned_before_commit_ok() {
    transacting(|client| {
        client.send(1, publish("", "nowhere", true));
        client.content_header(1, 0, NO_PROPERTIES);
        client.send(1, Method::TxCommit {});
        let (token, message) = client.staged();
        client.event(Event::Returned {
            token: Some(token),
            message,
        });
        client.answer(Reply::Ok);
        let frames = client.frames();
        assert!(
            frames[0].starts_with("1 BasicReturn { reply_code: 312"),
            "{frames:?}"
        );
        assert_eq!(frames.last().unwrap(), "1 TxCommitOk");
    });
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    transacting(|client| {
        client.send(1, Method::ConfirmSelect { no_wait: false });
        let refused = "1 channel.close 406 PRECONDITION_FAILED - cannot switch from tx to confirm mode [85.10]";
        assert_eq!(client.frames(), [refused]);
    });
    story(|client| {
        client.send(1, Method::ConfirmSelect { no_wait: true });
        client.send(1, Method::TxSelect {});
        let refused = "1 channel.close 406 PRECONDITION_FAILED - cannot switch from confirm to tx mode [90.10]";
        assert_eq!(client.frames(), [refused]);
    });
}

#[test]
fn without_select_there_is_no_transaction() {
    for method in [Method::TxCommit {}, Method::TxRollback {}] {
        story(|client| {
            let (class, id) = method.id();
            client.send(1, method.clone());
            assert_eq!(
                client.frames(),
                [format!(
                    "1 channel.close 406 PRECONDITION_FAILED - channel is not transactional [{class}.{id}]"
                )]
            );
        });
    }
}
