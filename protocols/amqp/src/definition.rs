//! What exchange.declare and queue.declare describe (sections 1.6.2.1 and 1.7.2.1), as far as it is spelled the AMQP
//! way. Whether it may be declared is for the core to say.

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
    check_quorum(queue, vhost, flags, &arguments)?;
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

/// A quorum queue is durable and shared; apart from that it is a queue like any other.
fn check_quorum(
    queue: &str,
    vhost: &str,
    flags: QueueFlags,
    arguments: &Table,
) -> Result<(), Error> {
    let property = match argument(arguments, "x-queue-type") {
        Some(Value::Text(kind)) if kind == "quorum" && flags.exclusive => "exclusive-owner",
        Some(Value::Text(kind)) if kind == "quorum" && flags.auto_delete => "auto-delete",
        Some(Value::Text(kind)) if kind == "quorum" && !flags.durable => "non-durable",
        _ => return Ok(()),
    };
    Err(precondition(format!(
        "invalid property '{property}' for queue '{queue}' in vhost '{vhost}'"
    )))
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
