//! Streams (RabbitMQ's docs/streams): what basic.consume asks of the core, and what is answered.

use trivium_amqp::method::Method;
use trivium_core::{Command, Offset, Refusal, Reply, StreamFilter, StreamStart, Text, Value};

use crate::client::{Client, consume, story};

fn consume_with(arguments: Vec<(Text, Value)>) -> Method {
    let Method::BasicConsume {
        queue,
        consumer_tag,
        ..
    } = consume("s", "t", false)
    else {
        unreachable!("consume() consumes");
    };
    Method::BasicConsume {
        reserved_1: 0,
        queue,
        consumer_tag,
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments,
    }
}

fn asked(
    client: &mut Client,
    arguments: Vec<(Text, Value)>,
) -> (StreamStart, Option<StreamFilter>) {
    client.send(1, consume_with(arguments));
    match client.last_command() {
        Command::Consume { spec, .. } => {
            let stream = spec.stream.as_ref().expect("it says where to begin");
            (stream.from, stream.filter.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_consumer_says_where_it_begins_and_what_it_wants() {
    let offset = |value| ("x-stream-offset".into(), value);
    story(|client| {
        let begins = asked(client, vec![offset(Value::Text("last".into()))]);
        assert_eq!(begins, (StreamStart::Last, None));
        client.answer(Reply::Ok);
        client.send(
            1,
            Method::BasicCancel {
                consumer_tag: "t".into(),
                no_wait: true,
            },
        );
        client.answer(Reply::Ok);
        let filter = ("x-stream-filter".into(), Value::Text("eu".into()));
        let begins = asked(client, vec![offset(Value::I64(7)), filter]);
        let wanted = StreamFilter {
            values: vec!["eu".into()],
            match_unfiltered: false,
        };
        assert_eq!(begins, (StreamStart::Offset(Offset(7)), Some(wanted)));
    });
}

#[test]
fn an_offset_that_is_none_is_406() {
    for (value, why) in [
        (Value::Text("soon".into()), "invalid_max_age"),
        (Value::Bool(true), "invalid_offset_arg"),
    ] {
        story(|client| {
            client.send(
                1,
                consume_with(vec![("x-stream-offset".into(), value.clone())]),
            );
            assert_eq!(
                client.frames(),
                [format!(
                    "1 channel.close 406 PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 's' in vhost '/': {why} [60.20]"
                )]
            );
            assert!(client.commands().is_empty());
        });
    }
}

#[test]
fn what_a_stream_does_not_do_ends_the_connection() {
    story(|client| {
        client.send(1, consume("s", "t", true));
        client.refuse(Refusal::NotImplemented("automatic acknowledgement".into()));
        assert_eq!(
            client.frames(),
            ["connection.close 540 NOT_IMPLEMENTED - automatic acknowledgement [60.20]"]
        );
    });
}
