//! What exchange and queue methods ask the core to change (classes exchange and queue, sections 1.6 and 1.7), checked
//! as far as that needs no look at what is there.

use std::time::Duration;

use trivium_core::{ExchangeKind, QueueSpec, Text, Value};

use crate::{
    error::{Error, ReplyCode},
    field_table::Table,
};

/// A name as RabbitMQ takes it: without carriage returns and line feeds.
pub fn name(name: Text) -> Text {
    if name.contains(['\r', '\n']) {
        name.replace(['\r', '\n'], "").into()
    } else {
        name
    }
}

/// The kind of exchange that a type names.
pub fn exchange_kind(kind: &str) -> Result<ExchangeKind, Error> {
    Ok(match kind {
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "topic" => ExchangeKind::Topic,
        "headers" => ExchangeKind::Headers,
        unknown => return Err(precondition(format!("unknown exchange type '{unknown}'"))),
    })
}

/// Refuses the default exchange, which nobody may change (3.1.3.1).
pub fn not_default(exchange: &str) -> Result<(), Error> {
    if exchange.is_empty() {
        return Err(refused(
            "operation not permitted on the default exchange".to_owned(),
        ));
    }
    Ok(())
}

/// Refuses exchanges that are always there.
pub fn not_system(exchange: &str, vhost: &str) -> Result<(), Error> {
    if exchange.starts_with("amq.") {
        return Err(refused(format!(
            "deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed"
        )));
    }
    Ok(())
}

/// The flags of queue.declare.
#[derive(Clone, Copy, Debug)]
pub struct QueueFlags {
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to the connection.
    pub exclusive: bool,
    /// Goes away with its last consumer.
    pub auto_delete: bool,
}

/// What queue.declare describes.
pub fn queue_spec(
    queue: &str,
    vhost: &str,
    flags: QueueFlags,
    arguments: Table,
) -> Result<QueueSpec, Error> {
    check_queue_type(queue, vhost, flags, &arguments)?;
    let expires = argument(&arguments, "x-expires")
        .map(|value| expires(value).map_err(|why| invalid("x-expires", queue, vhost, &why)))
        .transpose()?;
    let QueueFlags {
        durable,
        exclusive,
        auto_delete,
    } = flags;
    Ok(QueueSpec {
        durable,
        exclusive,
        auto_delete,
        expires,
        session: false,
        arguments,
    })
}

/// Classic and quorum queues are one kind of queue here, with the promises of the latter.
fn check_queue_type(
    queue: &str,
    vhost: &str,
    flags: QueueFlags,
    arguments: &Table,
) -> Result<(), Error> {
    let property = |property: &str| {
        Err(precondition(format!(
            "invalid property '{property}' for queue '{queue}' in vhost '{vhost}'"
        )))
    };
    match argument(arguments, "x-queue-type") {
        None => Ok(()),
        Some(Value::Text(kind)) => match &**kind {
            "classic" => Ok(()),
            "quorum" if flags.exclusive => property("exclusive-owner"),
            "quorum" if flags.auto_delete => property("auto-delete"),
            "quorum" if !flags.durable => property("non-durable"),
            "quorum" => Ok(()),
            "stream" => Err(Error::connection(
                ReplyCode::NotImplemented,
                "queues of type 'stream' are not supported over AMQP yet",
            )),
            unknown => Err(invalid(
                "x-queue-type",
                queue,
                vhost,
                &format!("\"unsupported queue type '{unknown}'\""),
            )),
        },
        Some(_) => Err(invalid(
            "x-queue-type",
            queue,
            vhost,
            "\"expected longstr\"",
        )),
    }
}

fn expires(value: &Value) -> Result<Duration, String> {
    match integer(value) {
        None => Err("\"expected integer\"".to_owned()),
        Some(0) => Err("{value_zero,0}".to_owned()),
        Some(ms) => u64::try_from(ms)
            .map(Duration::from_millis)
            .map_err(|_| format!("{{value_negative,{ms}}}")),
    }
}

fn argument<'a>(arguments: &'a Table, name: &str) -> Option<&'a Value> {
    arguments
        .iter()
        .find(|(argument, _)| argument == name)
        .map(|(_, value)| value)
}

/// Integers compare by value, whatever their width.
fn integer(value: &Value) -> Option<i64> {
    Some(match value {
        Value::I8(value) => (*value).into(),
        Value::U8(value) => (*value).into(),
        Value::I16(value) => (*value).into(),
        Value::U16(value) => (*value).into(),
        Value::I32(value) => (*value).into(),
        Value::U32(value) => (*value).into(),
        Value::I64(value) => *value,
        _ => return None,
    })
}

fn invalid(argument: &str, queue: &str, vhost: &str, why: &str) -> Error {
    precondition(format!(
        "invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}': {why}"
    ))
}

fn precondition(text: String) -> Error {
    Error::channel(ReplyCode::PreconditionFailed, text)
}

fn refused(text: String) -> Error {
    Error::channel(ReplyCode::AccessRefused, text)
}
