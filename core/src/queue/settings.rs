//! What a queue's arguments and the policies that match it ask for.
//!
//! Arguments are checked when a queue is declared, with RabbitMQ's texts, because clients match on them.
//! [`QueueSettings::effective`] merges them with the policy and the operator policy by RabbitMQ's rules and never
//! fails: a value that makes no sense counts as absent.

mod arguments;

use std::time::Duration;

use crate::{
    command::{QueueSpec, StreamStart},
    event::{Kind, Refusal},
    filter::RecordFilter,
    properties::{Text, Value},
};

pub(crate) use self::arguments::is_known;
use self::arguments::{ARGUMENTS, argument, stream_start, text, word};

/// How often a message of a quorum queue may be delivered again when nobody says otherwise.
const DELIVERY_LIMIT: u32 = 20;

/// The highest priority that a quorum queue tells apart; it needs no declaration.
const QUORUM_PRIORITY_MAX: u8 = 31;

/// The priority of a message in a quorum queue that has none.
const QUORUM_PRIORITY_DEFAULT: u8 = 4;

/// What a cursor is of.
const SOURCE: &str = "x-source";
/// Where it begins.
const START: &str = "x-stream-offset";
/// The same for one that no client has declared, in milliseconds.
const START_TIME: &str = "x-stream-time";
/// Which records it is for.
const FILTER: &str = "x-filter";

/// Which kind of queue one is: the same engine with different rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// The default.
    #[default]
    Classic,
    /// Counts deliveries and gives up on what nobody can handle.
    Quorum,
    /// Its messages are the records of a log, which stay there.
    Cursor,
}

impl QueueType {
    /// As `x-queue-type` names it.
    pub fn name(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
            QueueType::Cursor => "cursor",
        }
    }

    /// Whether it counts how often a message came back, and may have a limit.
    pub(crate) fn counts_returns(self) -> bool {
        self != QueueType::Classic
    }

    fn parse(name: &str) -> Option<QueueType> {
        [QueueType::Classic, QueueType::Quorum, QueueType::Cursor]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest ready messages make room for it.
    #[default]
    DropHead,
    /// It is refused.
    RejectPublish,
    /// It is refused and dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    fn parse(name: &str) -> Option<Overflow> {
        Some(match name {
            "drop-head" => Overflow::DropHead,
            "reject-publish" => Overflow::RejectPublish,
            "reject-publish-dlx" => Overflow::RejectPublishDlx,
            _ => return None,
        })
    }
}

/// How a queue behaves: its arguments, merged with policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// `x-queue-type`
    pub kind: QueueType,
    /// `x-message-ttl`: milliseconds that a message may wait.
    pub message_ttl: Option<u64>,
    /// `x-expires`, or how long a session outlives its connection.
    pub expires: Option<Duration>,
    /// `x-max-length`: ready messages.
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`: bytes of the bodies of ready messages.
    pub max_length_bytes: Option<u64>,
    /// `x-overflow`
    pub overflow: Overflow,
    /// `x-dead-letter-exchange`; empty is the default exchange.
    pub dead_letter_exchange: Option<Text>,
    /// `x-dead-letter-routing-key`; a message keeps its own without.
    pub dead_letter_routing_key: Option<Text>,
    /// `x-dead-letter-strategy=at-least-once`: dead letters stay until their targets have confirmed them. As in
    /// RabbitMQ it has an effect only where there is a dead-letter exchange and the overflow is `reject-publish`.
    pub dead_letters_must_arrive: bool,
    /// `x-max-priority`. A policy cannot set it.
    pub max_priority: Option<u8>,
    /// `x-single-active-consumer`. A policy cannot set it.
    pub single_active_consumer: bool,
    /// `x-delivery-limit`: how often a message may come back before it is dead-lettered.
    pub delivery_limit: Option<u32>,
    /// `x-consumer-timeout`: how long a delivery may stay unsettled.
    pub consumer_timeout: Option<Duration>,
    /// `x-delayed-retry-type`, `-min` and `-max`: what comes back waits before it is delivered again.
    pub delayed_retry: Option<DelayedRetry>,
}

/// How long messages wait that came back to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedRetry {
    /// Those wait that somebody failed to handle.
    pub failed: bool,
    /// Those wait that came back without a failure.
    pub returned: bool,
    /// For each failure, and at least, in milliseconds.
    pub min: u64,
    /// At most, in milliseconds.
    pub max: u64,
}

impl DelayedRetry {
    /// How long a message waits in milliseconds that somebody has failed to handle so often.
    pub(super) fn delay(&self, failures: u16) -> u64 {
        let times = u64::from(failures.max(1));
        self.min.saturating_mul(times).min(self.max)
    }
}

impl QueueSettings {
    /// Checks what a queue is declared with. `name` is empty when the broker is to choose it.
    pub(crate) fn check(name: &str, vhost: &str, spec: &QueueSpec) -> Result<(), Refusal> {
        if spec.session {
            return Ok(());
        }
        let subject = Subject {
            name,
            vhost,
            arguments: &spec.arguments,
        };
        let kind = subject.queue_type()?;
        if kind != QueueType::Classic && name.is_empty() {
            return Err(invalid(format!(
                "Cannot declare a server-named queue for type rabbit_{}_queue",
                kind.name()
            )));
        }
        subject.dead_letter_exchange()?;
        for known in &ARGUMENTS {
            if known.kinds.takes(kind)
                && let Some(value) = argument(&spec.arguments, known.name)
            {
                (known.check)(value, &spec.arguments)
                    .map_err(|why| subject.invalid(known.name, &why))?;
            }
        }
        if let Some(foreign) = ARGUMENTS.iter().find(|known| {
            !known.kinds.takes(kind) && argument(&spec.arguments, known.name).is_some()
        }) {
            return Err(invalid(format!(
                "invalid arg '{}' for queue '{name}' in vhost '{vhost}' of queue type rabbit_{}_queue",
                foreign.name,
                kind.name()
            )));
        }
        match kind {
            QueueType::Quorum => subject.lasting(spec),
            QueueType::Cursor => subject.cursor(spec),
            QueueType::Classic => Ok(()),
        }
    }

    /// The log that a queue is declared to be a cursor of.
    pub(crate) fn source(spec: &QueueSpec) -> Option<&Text> {
        argument(&spec.arguments, SOURCE).and_then(text)
    }

    /// The arguments of a cursor that no client has declared.
    pub(crate) fn cursor_arguments(log: &Text, from: StreamStart) -> Vec<(Text, Value)> {
        let number = |number: u64| Value::I64(i64::try_from(number).unwrap_or(i64::MAX));
        let (name, start) = match from {
            StreamStart::First => (START, Value::Text("first".into())),
            StreamStart::Last => (START, Value::Text("last".into())),
            StreamStart::Next => (START, Value::Text("next".into())),
            StreamStart::Offset(offset) => (START, number(offset.0)),
            StreamStart::AtTime(milliseconds) => (START_TIME, number(milliseconds)),
        };
        let source = (Text::from_static(SOURCE), Value::Text(log.clone()));
        vec![source, (Text::from_static(name), start)]
    }

    /// Where a cursor was declared to begin.
    pub(crate) fn start(spec: &QueueSpec) -> StreamStart {
        let time = argument(&spec.arguments, START_TIME).and_then(Value::integer);
        if let Some(milliseconds) = time.filter(|_| spec.session) {
            return StreamStart::AtTime(u64::try_from(milliseconds).unwrap_or_default());
        }
        let start = argument(&spec.arguments, START).map(stream_start);
        start.and_then(Result::ok).unwrap_or_default()
    }

    /// Which records a cursor was declared to be for.
    pub(crate) fn filter(spec: &QueueSpec) -> Option<RecordFilter> {
        match argument(&spec.arguments, FILTER)? {
            Value::Table(table) => RecordFilter::new(table).ok(),
            _ => None,
        }
    }

    /// How a queue behaves. `policy` and `operator` are what the policies that match it set, by names without `x-`.
    ///
    /// Of two numbers for the same thing the smaller one counts; otherwise an argument wins over the policy, and
    /// the operator policy over the policy.
    pub(crate) fn effective(
        spec: &QueueSpec,
        policy: &[(Text, Value)],
        operator: &[(Text, Value)],
    ) -> QueueSettings {
        if spec.session {
            // Policies are for queues that have a name of their own.
            let bound = |name| {
                let number = argument(&spec.arguments, name).and_then(Value::integer)?;
                u64::try_from(number).ok()
            };
            return QueueSettings {
                kind: match QueueSettings::source(spec) {
                    Some(_) => QueueType::Cursor,
                    None => QueueType::Classic,
                },
                expires: spec.expires,
                max_length: bound("x-max-length"),
                max_length_bytes: bound("x-max-length-bytes"),
                ..QueueSettings::default()
            };
        }
        let sources = Sources {
            arguments: &spec.arguments,
            policy,
            operator,
        };
        let kind = sources
            .declared_text("x-queue-type")
            .and_then(|name| QueueType::parse(name))
            .unwrap_or_default();
        let milliseconds = |name| sources.least(name).map(Duration::from_millis);
        let max_priority = argument(sources.arguments, "x-max-priority").and_then(Value::integer);
        QueueSettings {
            kind,
            message_ttl: sources.least("message-ttl"),
            expires: milliseconds("expires"),
            // What a log keeps is the log's to say.
            max_length: sources
                .least("max-length")
                .filter(|_| kind != QueueType::Cursor),
            max_length_bytes: sources
                .least("max-length-bytes")
                .filter(|_| kind != QueueType::Cursor),
            overflow: sources.overflow(),
            dead_letters_must_arrive: kind == QueueType::Quorum
                && sources
                    .text("dead-letter-strategy")
                    .is_some_and(|strategy| &**strategy == "at-least-once")
                && sources.text("dead-letter-exchange").is_some()
                && sources.overflow() == Overflow::RejectPublish,
            dead_letter_exchange: sources.text("dead-letter-exchange").cloned(),
            dead_letter_routing_key: sources.text("dead-letter-routing-key").cloned(),
            max_priority: match kind {
                QueueType::Classic => max_priority.and_then(|max| u8::try_from(max).ok()),
                QueueType::Quorum => Some(QUORUM_PRIORITY_MAX),
                QueueType::Cursor => None,
            },
            single_active_consumer: matches!(
                argument(sources.arguments, "x-single-active-consumer"),
                Some(Value::Bool(true))
            ),
            delivery_limit: match kind {
                QueueType::Classic => None,
                QueueType::Quorum | QueueType::Cursor => sources.delivery_limit(),
            },
            consumer_timeout: milliseconds("consumer-timeout"),
            delayed_retry: match kind {
                QueueType::Classic | QueueType::Cursor => None,
                QueueType::Quorum => sources.delayed_retry(),
            },
        }
    }

    /// The priority that a message of the given one has in this queue.
    pub(crate) fn priority(&self, priority: Option<u8>) -> u8 {
        let default = match self.kind {
            QueueType::Classic | QueueType::Cursor => 0,
            QueueType::Quorum => QUORUM_PRIORITY_DEFAULT,
        };
        priority
            .unwrap_or(default)
            .min(self.max_priority.unwrap_or(0))
    }
}

/// Where settings come from.
struct Sources<'a> {
    arguments: &'a [(Text, Value)],
    policy: &'a [(Text, Value)],
    operator: &'a [(Text, Value)],
}

impl<'a> Sources<'a> {
    /// The argument, the policy's and the operator policy's value for a name without `x-`.
    fn values(&self, name: &str) -> [Option<&'a Value>; 3] {
        let declared = self
            .arguments
            .iter()
            .find(|(of, _)| of.strip_prefix("x-") == Some(name))
            .map(|(_, value)| value);
        [
            declared,
            argument(self.policy, name),
            argument(self.operator, name),
        ]
    }

    fn least(&self, name: &str) -> Option<u64> {
        let numbers = self
            .values(name)
            .into_iter()
            .flatten()
            .filter_map(Value::integer);
        numbers
            .filter_map(|number| u64::try_from(number).ok())
            .min()
    }

    fn declared_text(&self, name: &str) -> Option<&'a Text> {
        argument(self.arguments, name).and_then(text)
    }

    fn text(&self, name: &str) -> Option<&'a Text> {
        let [declared, policy, operator] = self.values(name);
        [declared, operator, policy]
            .into_iter()
            .flatten()
            .find_map(text)
    }

    fn overflow(&self) -> Overflow {
        self.text("overflow")
            .and_then(|name| Overflow::parse(name))
            .unwrap_or_default()
    }

    /// Without a smallest delay there is none; without a greatest one it does not grow.
    fn delayed_retry(&self) -> Option<DelayedRetry> {
        let (failed, returned) = match &**self.text("delayed-retry-type")? {
            "all" => (true, true),
            "failed" => (true, false),
            "returned" => (false, true),
            _ => return None,
        };
        let min = self.least("delayed-retry-min").filter(|min| *min > 0)?;
        Some(DelayedRetry {
            failed,
            returned,
            min,
            max: self.least("delayed-retry-max").unwrap_or(min),
        })
    }

    /// A negative number is none, which wins over any limit.
    fn delivery_limit(&self) -> Option<u32> {
        let limits: Vec<i64> = self
            .values("delivery-limit")
            .into_iter()
            .flatten()
            .filter_map(Value::integer)
            .collect();
        if limits.iter().any(|limit| *limit < 0) {
            let limit = limits.into_iter().max().filter(|limit| *limit >= 0);
            return limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
        }
        let limit = limits.into_iter().min();
        Some(limit.map_or(DELIVERY_LIMIT, |limit| {
            u32::try_from(limit).unwrap_or(u32::MAX)
        }))
    }
}

fn invalid(text: String) -> Refusal {
    Refusal::Invalid(text.into())
}

/// The queue that is declared.
struct Subject<'a> {
    name: &'a str,
    vhost: &'a str,
    arguments: &'a [(Text, Value)],
}

impl Subject<'_> {
    fn invalid(&self, argument: &str, why: &str) -> Refusal {
        invalid(format!("invalid arg '{argument}' for {self}: {why}"))
    }

    fn queue_type(&self) -> Result<QueueType, Refusal> {
        const NAME: &str = "x-queue-type";
        let Some(value) = argument(self.arguments, NAME) else {
            return Ok(QueueType::Classic);
        };
        let name = word(value).map_err(|why| self.invalid(NAME, &why))?;
        QueueType::parse(name)
            .ok_or_else(|| self.invalid(NAME, &format!("\"unsupported queue type '{name}'\"")))
    }

    /// Its type is looked at when the permission to publish there is.
    fn dead_letter_exchange(&self) -> Result<(), Refusal> {
        const NAME: &str = "x-dead-letter-exchange";
        match argument(self.arguments, NAME) {
            None | Some(Value::Text(_)) => Ok(()),
            Some(other) => Err(invalid(format!(
                "invalid type '{}' for arg '{NAME}' in {self}",
                other.type_name()
            ))),
        }
    }

    /// A cursor is of a log, and begins somewhere.
    fn cursor(&self, spec: &QueueSpec) -> Result<(), Refusal> {
        self.lasting(spec)?;
        match argument(self.arguments, SOURCE) {
            Some(Value::Text(_)) => {}
            Some(other) => {
                let why = format!("{{unacceptable_type,{}}}", other.type_name());
                return Err(self.invalid(SOURCE, &why));
            }
            None => {
                let text = format!(
                    "{self} of type cursor needs the argument '{SOURCE}': the name of a log"
                );
                return Err(invalid(text));
            }
        }
        if let Some(start) = argument(self.arguments, START) {
            stream_start(start).map_err(|why| self.invalid(START, &why))?;
        }
        match argument(self.arguments, FILTER) {
            None => Ok(()),
            Some(Value::Table(table)) => RecordFilter::new(table)
                .map(drop)
                .map_err(|why| self.invalid(FILTER, &why)),
            Some(other) => {
                let why = format!("\"expected table, got {}\"", other.type_name());
                Err(self.invalid(FILTER, &why))
            }
        }
    }

    /// What must not be lost is durable and shared.
    fn lasting(&self, spec: &QueueSpec) -> Result<(), Refusal> {
        let property = if spec.auto_delete {
            "auto-delete"
        } else if spec.exclusive {
            "exclusive-owner"
        } else if !spec.durable {
            "non-durable"
        } else {
            return Ok(());
        };
        Err(invalid(format!("invalid property '{property}' for {self}")))
    }
}

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} '{}' in vhost '{}'",
            Kind::Queue,
            self.name,
            self.vhost
        )
    }
}

#[cfg(test)]
mod tests;
