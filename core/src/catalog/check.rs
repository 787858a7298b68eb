//! Whether something may be declared as asked: names, equivalence with what is there, ownership. The
//! texts are RabbitMQ's, because clients match on them.

use super::{
    Actor,
    headers::same_value,
    routes::{LogEntry, QueueEntry},
};
use crate::{
    command::{ExchangeSpec, QueueSpec},
    event::{Kind, Refusal},
    properties::{Text, Value},
    typed::scalar_text,
};

/// Queue arguments that a declaration must repeat; RabbitMQ ignores those it does not know.
const COMPARED: [&str; 22] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-consumer-timeout",
    "x-consumer-disconnected-timeout",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-quorum-initial-group-size",
    "x-source",
    "x-stream-offset",
    "x-filter",
];

const QUEUE_TYPE: &str = "x-queue-type";

pub(super) fn not_found(kind: Kind, name: &Text, by: &Actor) -> Refusal {
    Refusal::NotFound {
        kind,
        name: name.clone(),
        vhost: by.vhost.clone(),
    }
}

pub(super) fn default_exchange() -> Refusal {
    Refusal::Denied("operation not permitted on the default exchange".into())
}

/// Names that begin with `amq.` are the broker's own.
pub(super) fn not_reserved(kind: Kind, name: &str) -> Result<(), Refusal> {
    if !name.starts_with("amq.") {
        return Ok(());
    }
    Err(Refusal::Denied(
        format!("{kind} name '{name}' contains reserved prefix 'amq.*'").into(),
    ))
}

/// An exclusive queue is for its owner only.
pub(super) fn may_use(queue: &QueueEntry, by: &Actor) -> Result<(), Refusal> {
    match queue.owner {
        Some(owner) if owner != by.connection => Err(locked(queue)),
        _ => Ok(()),
    }
}

/// A queue that is declared again must be what it is (AMQP 0-9-1, queue.declare).
pub(super) fn same_queue(queue: &QueueEntry, spec: &QueueSpec, by: &Actor) -> Result<(), Refusal> {
    may_use(queue, by)?;
    if spec.exclusive != queue.owner.is_some() {
        return Err(locked(queue));
    }
    let subject = Subject {
        kind: Kind::Queue,
        name: &queue.name,
        vhost: &queue.vhost,
    };
    subject.same_flag("durable", spec.durable, queue.spec.durable)?;
    subject.same_flag("auto_delete", spec.auto_delete, queue.spec.auto_delete)?;
    // Who does not say what it should be takes what is there.
    if let Some(received) = queue_type(spec) {
        let current = queue_type(&queue.spec).unwrap_or("classic");
        subject.same_word(QUEUE_TYPE, received, current)?;
    }
    for name in COMPARED {
        subject.same_argument(name, &spec.arguments, &queue.spec.arguments)?;
    }
    Ok(())
}

/// Queues and logs share one name space, and a log is what RabbitMQ calls a queue of type stream.
pub(super) fn is_a_log(log: &LogEntry, received: Option<&str>) -> Refusal {
    let subject = Subject {
        kind: Kind::Queue,
        name: &log.info.name,
        vhost: &log.vhost,
    };
    subject.inequivalent(
        QUEUE_TYPE,
        format!("'{}'", received.unwrap_or("classic")),
        "'stream'".into(),
    )
}

/// The type that a queue was asked to have.
pub(super) fn queue_type(spec: &QueueSpec) -> Option<&str> {
    text_argument(&spec.arguments, QUEUE_TYPE).map(|kind| &**kind)
}

/// An exchange that is declared again must be what it is (AMQP 0-9-1, exchange.declare).
pub(super) fn same_exchange(
    name: &Text,
    current: &ExchangeSpec,
    received: &ExchangeSpec,
    by: &Actor,
) -> Result<(), Refusal> {
    let subject = Subject {
        kind: Kind::Exchange,
        name,
        vhost: &by.vhost,
    };
    subject.same_word("type", received.kind.name(), current.kind.name())?;
    subject.same_flag("durable", received.durable, current.durable)?;
    subject.same_flag("auto_delete", received.auto_delete, current.auto_delete)?;
    subject.same_flag("internal", received.internal, current.internal)?;
    subject.same_argument("x-delayed-type", &received.arguments, &current.arguments)?;
    subject.same_argument(
        "alternate-exchange",
        &received.arguments,
        &current.arguments,
    )
}

fn locked(queue: &QueueEntry) -> Refusal {
    Refusal::Locked {
        name: queue.name.clone(),
        vhost: queue.vhost.clone(),
    }
}

/// What an equivalence check is about.
pub(super) struct Subject<'a> {
    pub kind: Kind,
    pub name: &'a Text,
    pub vhost: &'a Text,
}

impl Subject<'_> {
    pub fn same_flag(&self, argument: &str, received: bool, current: bool) -> Result<(), Refusal> {
        self.same_word(
            argument,
            if received { "true" } else { "false" },
            if current { "true" } else { "false" },
        )
    }

    fn same_word(&self, argument: &str, received: &str, current: &str) -> Result<(), Refusal> {
        if received == current {
            return Ok(());
        }
        Err(self.inequivalent(argument, format!("'{received}'"), format!("'{current}'")))
    }

    pub fn same_argument(
        &self,
        name: &str,
        received: &[(Text, Value)],
        current: &[(Text, Value)],
    ) -> Result<(), Refusal> {
        match (argument(received, name), argument(current, name)) {
            (None, None) => Ok(()),
            (Some(received), Some(current)) if same_value(received, current) => Ok(()),
            (Some(received), Some(current)) => Err(self.inequivalent(
                name,
                format!("'{}'", plain(received)),
                format!("'{}'", plain(current)),
            )),
            (received, current) => Err(self.inequivalent(name, typed(received), typed(current))),
        }
    }

    pub(super) fn inequivalent(
        &self,
        argument: &str,
        received: String,
        current: String,
    ) -> Refusal {
        Refusal::Inequivalent {
            kind: self.kind,
            name: self.name.clone(),
            vhost: self.vhost.clone(),
            argument: argument.into(),
            received: received.into(),
            current: current.into(),
        }
    }
}

fn argument<'a>(arguments: &'a [(Text, Value)], name: &str) -> Option<&'a Value> {
    arguments
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value)
}

/// The name of an alternate exchange is a string.
pub(super) fn alternate_exchange(
    name: &Text,
    spec: &ExchangeSpec,
    by: &Actor,
) -> Result<(), Refusal> {
    match argument(&spec.arguments, "alternate-exchange") {
        None | Some(Value::Text(_)) => Ok(()),
        Some(other) => Err(Refusal::Invalid(
            format!(
                "invalid type '{}' for arg 'alternate-exchange' in exchange '{name}' in vhost '{}'",
                other.type_name(),
                by.vhost
            )
            .into(),
        )),
    }
}

/// The value of an argument that is text.
pub(super) fn text_argument<'a>(arguments: &'a [(Text, Value)], name: &str) -> Option<&'a Text> {
    match argument(arguments, name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn typed(value: Option<&Value>) -> String {
    match value {
        None => "none".into(),
        Some(value) => format!(
            "the value '{}' of type '{}'",
            plain(value),
            value.type_name()
        ),
    }
}

/// A value as it is shown in a text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "undefined".into(),
        Value::Text(v) => v.to_string(),
        Value::Bytes(v) => String::from_utf8_lossy(v).into_owned(),
        Value::Array(_) | Value::Table(_) => format!("{value:?}"),
        scalar => scalar_text(scalar),
    }
}
