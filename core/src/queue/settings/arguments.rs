//! The arguments of queues that RabbitMQ knows: which kinds of queue take each, and what is wrong with a value.

use super::QueueType;
use crate::{
    command::StreamStart,
    id::Offset,
    properties::{Text, Value},
};

/// The longest time in milliseconds that RabbitMQ takes: ten years.
const TIMER_MAX: i64 = 315_360_000_000;

/// Whether RabbitMQ knows an argument, for whatever kind of queue.
pub(crate) fn is_known(name: &str) -> bool {
    name == "x-dead-letter-exchange" || ARGUMENTS.iter().any(|known| known.name == name)
}

/// Which kinds of queue take an argument.
#[derive(Clone, Copy)]
pub(super) enum Kinds {
    All,
    /// Classic and quorum queues: those that messages are published to.
    Both,
    Classic,
    Quorum,
    /// Quorum queues and cursors: those that count.
    Counting,
    /// Logs do.
    Neither,
}

impl Kinds {
    pub(super) fn takes(self, kind: QueueType) -> bool {
        match self {
            Kinds::All => true,
            Kinds::Both => kind != QueueType::Cursor,
            Kinds::Counting => kind.counts_returns(),
            Kinds::Classic => kind == QueueType::Classic,
            Kinds::Quorum => kind == QueueType::Quorum,
            Kinds::Neither => false,
        }
    }
}

/// What is wrong with a value among all arguments, as Erlang prints it.
pub(super) type Check = fn(&Value, &[(Text, Value)]) -> Result<(), String>;

/// An argument that RabbitMQ knows.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) kinds: Kinds,
    pub(super) check: Check,
}

const fn known(name: &'static str, kinds: Kinds, check: Check) -> Known {
    Known { name, kinds, check }
}

/// In the order in which RabbitMQ looks at them.
pub(super) static ARGUMENTS: [Known; 29] = [
    known("x-expires", Kinds::All, expires),
    known("x-message-ttl", Kinds::All, time),
    known("x-dead-letter-routing-key", Kinds::All, routing_key),
    known("x-dead-letter-strategy", Kinds::Quorum, strategy),
    known("x-max-length", Kinds::Both, natural),
    known("x-max-length-bytes", Kinds::Both, natural),
    known("x-max-in-memory-length", Kinds::Quorum, natural),
    known("x-max-in-memory-bytes", Kinds::Quorum, natural),
    known("x-max-priority", Kinds::Classic, max_priority),
    known("x-overflow", Kinds::Both, overflow),
    known("x-queue-mode", Kinds::Classic, mode),
    known("x-queue-version", Kinds::Classic, version),
    known("x-single-active-consumer", Kinds::All, boolean),
    known("x-queue-master-locator", Kinds::Classic, anything),
    known("x-queue-leader-locator", Kinds::All, locator),
    known("x-quorum-initial-group-size", Kinds::Quorum, positive),
    known("x-quorum-target-group-size", Kinds::Quorum, positive),
    known("x-delivery-limit", Kinds::Counting, whole),
    known("x-consumer-timeout", Kinds::All, natural),
    known("x-consumer-disconnected-timeout", Kinds::Quorum, natural),
    known("x-delayed-retry-type", Kinds::Quorum, retry_type),
    known("x-delayed-retry-min", Kinds::Quorum, time),
    known("x-delayed-retry-max", Kinds::Quorum, time),
    known("x-member-placement-tag", Kinds::Quorum, anything),
    known("x-max-age", Kinds::Neither, anything),
    known("x-stream-max-segment-size-bytes", Kinds::Neither, anything),
    known("x-stream-filter-size-bytes", Kinds::Neither, anything),
    known("x-initial-cluster-size", Kinds::Neither, anything),
    known("x-initial-retention", Kinds::Neither, anything),
];

fn anything(_: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    Ok(())
}

fn whole(value: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    number(value).map(drop)
}

fn natural(value: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    match number(value)? {
        negative if negative < 0 => Err(format!("{{value_negative,{negative}}}")),
        _ => Ok(()),
    }
}

fn positive(value: &Value, all: &[(Text, Value)]) -> Result<(), String> {
    natural(value, all)?;
    match number(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        _ => Ok(()),
    }
}

fn time(value: &Value, all: &[(Text, Value)]) -> Result<(), String> {
    natural(value, all)?;
    match number(value)? {
        great if great > TIMER_MAX => Err(format!("{{value_too_large,{great}}}")),
        _ => Ok(()),
    }
}

fn expires(value: &Value, all: &[(Text, Value)]) -> Result<(), String> {
    match number(value)? {
        0 => Err("{value_zero,0}".to_owned()),
        _ => time(value, all),
    }
}

fn max_priority(value: &Value, all: &[(Text, Value)]) -> Result<(), String> {
    natural(value, all)?;
    match number(value)? {
        great if great > i64::from(u8::MAX) => Err(format!("{{max_value_exceeded,{great}}}")),
        _ => Ok(()),
    }
}

fn routing_key(value: &Value, all: &[(Text, Value)]) -> Result<(), String> {
    word(value)?;
    match argument(all, "x-dead-letter-exchange") {
        None => Err("routing_key_but_no_dlx_defined".to_owned()),
        Some(_) => Ok(()),
    }
}

fn strategy(value: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    one_of(
        value,
        &["at-most-once", "at-least-once"],
        "invalid_dlx_strategy",
    )
}

fn retry_type(value: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    one_of(
        value,
        &["disabled", "all", "failed", "returned"],
        "invalid_delayed_retry_type",
    )
}

fn overflow(value: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    one_of(
        value,
        &["drop-head", "reject-publish", "reject-publish-dlx"],
        "invalid_overflow",
    )
}

fn mode(value: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    let mode = word(value)?;
    match &**mode {
        "default" | "lazy" => Ok(()),
        other => Err(format!("\"unsupported queue mode '{other}'\"")),
    }
}

fn locator(value: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    one_of(
        value,
        &["client-local", "balanced", "min-masters", "random"],
        "invalid_queue_locator_arg",
    )
}

/// There were two formats; a client may ask for either.
fn version(value: &Value, all: &[(Text, Value)]) -> Result<(), String> {
    natural(value, all)?;
    match number(value)? {
        1 | 2 => Ok(()),
        other => Err(format!("\"unsupported queue version '{other}'\"")),
    }
}

fn boolean(value: &Value, _: &[(Text, Value)]) -> Result<(), String> {
    match value {
        Value::Bool(_) => Ok(()),
        other => Err(format!("\"expected bool, got {}\"", other.type_name())),
    }
}

/// Where to begin, as consumers of streams say it.
pub(super) fn stream_start(value: &Value) -> Result<StreamStart, String> {
    match value {
        Value::Text(word) => match &**word {
            "first" => Ok(StreamStart::First),
            "last" => Ok(StreamStart::Last),
            "next" => Ok(StreamStart::Next),
            other => Err(format!(
                "\"first, last, next, a number or a timestamp, not '{other}'\""
            )),
        },
        // In seconds, as AMQP has it.
        Value::Timestamp(seconds) => Ok(StreamStart::AtTime(seconds.saturating_mul(1000))),
        value => {
            natural(value, &[])?;
            let offset = u64::try_from(number(value)?).unwrap_or_default();
            Ok(StreamStart::Offset(Offset(offset)))
        }
    }
}

pub(super) fn number(value: &Value) -> Result<i64, String> {
    value
        .integer()
        .ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

pub(super) fn word(value: &Value) -> Result<&Text, String> {
    text(value).ok_or_else(|| format!("{{unacceptable_type,{}}}", value.type_name()))
}

fn one_of(value: &Value, words: &[&str], otherwise: &str) -> Result<(), String> {
    if words.contains(&&**word(value)?) {
        return Ok(());
    }
    Err(otherwise.to_owned())
}

pub(super) fn text(value: &Value) -> Option<&Text> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

pub(super) fn argument<'a>(arguments: &'a [(Text, Value)], name: &str) -> Option<&'a Value> {
    arguments
        .iter()
        .find(|(of, _)| of == name)
        .map(|(_, value)| value)
}
