//! What a queue's arguments and the policies that match it ask for.
//!
//! Arguments are checked when a queue is declared, with RabbitMQ's texts, because clients match on them.
//! [`QueueSettings::effective`] merges them with the policy and the operator policy by RabbitMQ's rules and never
//! fails: a value that makes no sense counts as absent.

use std::time::Duration;

use crate::{
    command::{QueueSpec, StreamStart},
    event::{Kind, Refusal},
    filter::RecordFilter,
    id::Offset,
    properties::{Text, Value},
};

/// The longest time in milliseconds that RabbitMQ takes: ten years.
const TIMER_MAX: i64 = 315_360_000_000;

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

    /// Where a cursor was declared to begin.
    pub(crate) fn start(spec: &QueueSpec) -> StreamStart {
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

/// Whether RabbitMQ knows an argument, for whatever kind of queue.
pub(crate) fn is_known(name: &str) -> bool {
    name == "x-dead-letter-exchange" || ARGUMENTS.iter().any(|known| known.name == name)
}

/// Which kinds of queue take an argument.
#[derive(Clone, Copy)]
enum Kinds {
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
    fn takes(self, kind: QueueType) -> bool {
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
type Check = fn(&Value, &[(Text, Value)]) -> Result<(), String>;

/// An argument that RabbitMQ knows.
struct Known {
    name: &'static str,
    kinds: Kinds,
    check: Check,
}

const fn known(name: &'static str, kinds: Kinds, check: Check) -> Known {
    Known { name, kinds, check }
}

/// In the order in which RabbitMQ looks at them.
static ARGUMENTS: [Known; 29] = [
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
fn stream_start(value: &Value) -> Result<StreamStart, String> {
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

fn number(value: &Value) -> Result<i64, String> {
    value
        .integer()
        .ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn word(value: &Value) -> Result<&Text, String> {
    text(value).ok_or_else(|| format!("{{unacceptable_type,{}}}", value.type_name()))
}

fn one_of(value: &Value, words: &[&str], otherwise: &str) -> Result<(), String> {
    if words.contains(&&**word(value)?) {
        return Ok(());
    }
    Err(otherwise.to_owned())
}

fn text(value: &Value) -> Option<&Text> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn argument<'a>(arguments: &'a [(Text, Value)], name: &str) -> Option<&'a Value> {
    arguments
        .iter()
        .find(|(of, _)| of == name)
        .map(|(_, value)| value)
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
mod tests {
    use super::*;

    fn table(entries: &[(&str, Value)]) -> Vec<(Text, Value)> {
        entries
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect()
    }

    fn spec(arguments: &[(&str, Value)]) -> QueueSpec {
        QueueSpec {
            durable: true,
            arguments: table(arguments),
            ..QueueSpec::default()
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn refused(arguments: &[(&str, Value)]) -> String {
        match QueueSettings::check("qa", "/", &spec(arguments)) {
            Err(refusal) => refusal.to_string(),
            Ok(()) => panic!("{arguments:?} is accepted"),
        }
    }

    #[test]
    fn arguments_are_refused_in_rabbitmqs_words() {
        let cases: [(&str, Value, &str); 16] = [
            ("x-message-ttl", Value::I32(-1), "{value_negative,-1}"),
            (
                "x-message-ttl",
                Value::I64(315_360_000_001),
                "{value_too_large,315360000001}",
            ),
            (
                "x-message-ttl",
                text("a"),
                "\"expected integer, got longstr\"",
            ),
            ("x-expires", Value::I32(0), "{value_zero,0}"),
            ("x-expires", Value::I32(-5), "{value_negative,-5}"),
            ("x-max-length", Value::I64(-2), "{value_negative,-2}"),
            (
                "x-max-length-bytes",
                Value::Bool(true),
                "\"expected integer, got bool\"",
            ),
            (
                "x-max-priority",
                Value::I32(256),
                "{max_value_exceeded,256}",
            ),
            ("x-max-priority", Value::I32(-1), "{value_negative,-1}"),
            ("x-overflow", text("spill"), "invalid_overflow"),
            ("x-overflow", Value::I32(1), "{unacceptable_type,signedint}"),
            (
                "x-dead-letter-routing-key",
                text("k"),
                "routing_key_but_no_dlx_defined",
            ),
            (
                "x-single-active-consumer",
                Value::I32(1),
                "\"expected bool, got signedint\"",
            ),
            (
                "x-queue-mode",
                text("fast"),
                "\"unsupported queue mode 'fast'\"",
            ),
            (
                "x-queue-version",
                Value::I32(3),
                "\"unsupported queue version '3'\"",
            ),
            (
                "x-queue-type",
                text("bad"),
                "\"unsupported queue type 'bad'\"",
            ),
        ];
        for (name, value, why) in cases {
            assert_eq!(
                refused(&[(name, value)]),
                format!("invalid arg '{name}' for queue 'qa' in vhost '/': {why}")
            );
        }
        assert_eq!(
            refused(&[("x-dead-letter-exchange", Value::I32(1))]),
            "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'qa' in vhost '/'"
        );
    }

    #[test]
    fn an_argument_of_another_type_of_queue_is_refused() {
        assert_eq!(
            refused(&[
                ("x-queue-type", text("quorum")),
                ("x-max-priority", Value::I32(5))
            ]),
            "invalid arg 'x-max-priority' for queue 'qa' in vhost '/' of queue type rabbit_quorum_queue"
        );
        assert_eq!(
            refused(&[("x-delivery-limit", Value::I32(5))]),
            "invalid arg 'x-delivery-limit' for queue 'qa' in vhost '/' of queue type rabbit_classic_queue"
        );
        let unknown = spec(&[("x-max-retries", Value::I32(5)), ("x-mine", text("y"))]);
        assert_eq!(QueueSettings::check("qa", "/", &unknown), Ok(()));
    }

    #[test]
    fn a_quorum_queue_is_durable_named_and_shared() {
        let quorum = spec(&[("x-queue-type", text("quorum"))]);
        assert_eq!(QueueSettings::check("qa", "/", &quorum), Ok(()));
        let of = |name: &str, change: fn(&mut QueueSpec)| {
            let mut spec = quorum.clone();
            change(&mut spec);
            QueueSettings::check(name, "/", &spec)
                .expect_err("it is refused")
                .to_string()
        };
        let property = |name| format!("invalid property '{name}' for queue 'qa' in vhost '/'");
        assert_eq!(
            of("qa", |spec| spec.auto_delete = true),
            property("auto-delete")
        );
        assert_eq!(
            of("qa", |spec| spec.exclusive = true),
            property("exclusive-owner")
        );
        assert_eq!(
            of("qa", |spec| spec.durable = false),
            property("non-durable")
        );
        assert_eq!(
            of("", |_| ()),
            "Cannot declare a server-named queue for type rabbit_quorum_queue"
        );
    }

    #[test]
    fn the_smaller_number_counts_and_an_argument_wins_over_the_policy() {
        let spec = spec(&[
            ("x-message-ttl", Value::I32(500)),
            ("x-max-length", Value::I64(10)),
            ("x-dead-letter-exchange", text("mine")),
            ("x-overflow", text("reject-publish")),
        ]);
        let policy = table(&[
            ("message-ttl", Value::I64(100)),
            ("max-length", Value::I64(20)),
            ("max-length-bytes", Value::I64(4000)),
            ("dead-letter-exchange", text("theirs")),
            ("dead-letter-routing-key", text("key")),
            ("overflow", text("drop-head")),
        ]);
        let operator = table(&[
            ("max-length-bytes", Value::I64(3000)),
            ("expires", Value::I64(7000)),
        ]);
        let settings = QueueSettings::effective(&spec, &policy, &operator);
        assert_eq!(
            settings,
            QueueSettings {
                message_ttl: Some(100),
                expires: Some(Duration::from_secs(7)),
                max_length: Some(10),
                max_length_bytes: Some(3000),
                overflow: Overflow::RejectPublish,
                dead_letter_exchange: Some("mine".into()),
                dead_letter_routing_key: Some("key".into()),
                ..QueueSettings::default()
            }
        );
    }

    #[test]
    fn a_quorum_queue_limits_deliveries() {
        let quorum = |limit: Option<i64>, policy: &[(&str, Value)]| {
            let mut arguments = vec![("x-queue-type", text("quorum"))];
            arguments.extend(limit.map(|limit| ("x-delivery-limit", Value::I64(limit))));
            QueueSettings::effective(&spec(&arguments), &table(policy), &[]).delivery_limit
        };
        assert_eq!(quorum(None, &[]), Some(20));
        assert_eq!(quorum(Some(-1), &[]), None);
        assert_eq!(quorum(Some(3), &[]), Some(3));
        let five = [("delivery-limit", Value::I64(5))];
        assert_eq!(quorum(None, &five), Some(5));
        assert_eq!(quorum(Some(3), &five), Some(3));
        assert_eq!(quorum(Some(-1), &five), Some(5));
        let classic = QueueSettings::effective(&spec(&[]), &table(&five), &[]);
        assert_eq!(classic.delivery_limit, None);
    }

    #[test]
    fn priorities_are_cut_to_the_highest_there_is() {
        let classic =
            QueueSettings::effective(&spec(&[("x-max-priority", Value::U8(10))]), &[], &[]);
        assert_eq!(
            [None, Some(3), Some(200)].map(|p| classic.priority(p)),
            [0, 3, 10]
        );
        let plain = QueueSettings::effective(&spec(&[]), &[], &[]);
        assert_eq!(plain.priority(Some(9)), 0);
        let quorum = QueueSettings::effective(&spec(&[("x-queue-type", text("quorum"))]), &[], &[]);
        assert_eq!(
            [None, Some(3), Some(200)].map(|p| quorum.priority(p)),
            [4, 3, 31]
        );
    }
}
