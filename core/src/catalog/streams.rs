//! Logs as RabbitMQ's clients know them: queues of type stream.

use std::{sync::Arc, time::Duration};

use super::{Actor, Applied, Catalog, Outcome, check, routes::LogEntry};
use crate::{
    access::Operation,
    command::{LogSpec, QueueSpec},
    event::{Kind, Refusal, Reply},
    properties::{Text, Value},
    queue::is_known,
};

/// The largest segment that may be asked for, in bytes.
const SEGMENT_BYTES_MAX: i64 = 3_000_000_000;
/// A record holds whatever AMQP message there may be, with its headers.
const RECORD_BYTES_MAX: usize = (128 << 20) + (1 << 20);

/// What a stream may be declared with; kept with the log's settings, so that declaring it again can be checked.
const ARGUMENTS: [&str; 6] = [
    "x-max-length-bytes",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
];

/// The settings that a stream may be declared with (DESIGN section 3.2).
const SETTINGS: [&str; 10] = [
    "mq.bind",
    "mq.client.id",
    "mq.key",
    "mq.retain.compressed",
    "mq.retain.map",
    "mq.route.key",
    "mq.tap",
    "mq.tap.max.lag.bytes",
    "mq.tap.max.lag.ms",
    "mq.tap.root.wildcards",
];

/// The setting that an argument of this name is: `x-mq.bind` is `mq.bind`, and so is `x-mq-bind`, for clients whose
/// arguments are identifiers. None of arguments that are no such settings.
fn setting_of(argument: &str) -> Option<Text> {
    let name = argument
        .strip_prefix("x-")
        .filter(|it| it.starts_with("mq"))?;
    Some(name.replace('-', ".").into())
}

/// The value of a setting that was given as an argument.
fn setting_text(value: &Value) -> Option<Text> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string().into()),
        other => other.integer().map(|number| number.to_string().into()),
    }
}

/// The setting of logs that keep messages with all that an AMQP publisher said.
const ENVELOPE: &str = "mq.envelope";

/// As in RabbitMQ: a stream gets what is bound to it, and its records have no keys.
const DEFAULTS: [(&str, &str); 4] = [
    ("mq.bind", "off"),
    ("mq.tap", "off"),
    ("mq.key", "none"),
    (ENVELOPE, "true"),
];

/// Whether a queue is declared as a stream.
pub(super) fn is_stream(spec: &QueueSpec) -> bool {
    check::queue_type(spec) == Some("stream")
}

pub(super) fn not_purged(name: &str, by: &Actor) -> Refusal {
    let vhost = &by.vhost;
    let text =
        format!("queue.purge not supported by stream queues queue '{name}' in vhost '{vhost}'");
    Refusal::NotImplemented(text.into())
}

impl Catalog {
    /// The log that is seen as a queue of this name.
    pub(super) fn stream(&self, by: &Actor, name: &str, session: bool) -> Option<Arc<LogEntry>> {
        if session {
            return None;
        }
        self.routes.log(&by.vhost, name).cloned()
    }

    pub(super) fn declare_stream(
        &mut self,
        by: &Actor,
        name: &Text,
        spec: &QueueSpec,
    ) -> Result<Applied, Refusal> {
        self.may(by, Operation::Configure, Kind::Queue, name)?;
        if let Some(log) = self.stream(by, name, false) {
            same_stream(&log, spec)?;
            return Ok(Outcome::Stream {
                log,
                created: false,
            }
            .into());
        }
        let settings = settings(name, &by.vhost, spec)?;
        check::not_reserved(Kind::Queue, name)?;
        self.has_room(by, Kind::Queue, name)?;
        let log = LogSpec {
            partitions: 1,
            settings,
        };
        let mut applied = self.create_log(by, name, &log, false)?;
        if let Some(log) = self.stream(by, name, false) {
            applied.outcome = Outcome::Stream { log, created: true };
        }
        Ok(applied)
    }

    /// As RabbitMQ has it: with messages and consumers or without, and none are counted.
    pub(super) fn delete_stream(&mut self, by: &Actor, name: &Text) -> Result<Applied, Refusal> {
        let applied = self.delete_log(by, name)?;
        Ok(Applied {
            outcome: Outcome::StreamDeleted,
            ..applied
        })
    }
}

impl LogEntry {
    /// Whether it was declared as a stream, and not created as a Kafka topic.
    pub(super) fn is_stream(&self) -> bool {
        let settings = &self.info.spec.settings;
        settings
            .iter()
            .any(|(name, value)| name == ENVELOPE && value == "true")
    }

    /// The arguments that it was declared with as a stream.
    pub(super) fn declared(&self) -> Vec<(Text, Value)> {
        let settings = self.info.spec.settings.iter();
        settings
            .filter_map(|(name, value)| {
                if ARGUMENTS.contains(&&**name) {
                    return Some((name.clone(), as_declared(value)));
                }
                let argument = format!("x-{name}");
                let is_shown = SETTINGS.contains(&&**name) && !is_default(name, value);
                is_shown.then(|| (argument.into(), Value::Text(value.clone())))
            })
            .collect()
    }

    /// The declaration of it as a queue.
    pub(super) fn queue_spec(&self) -> QueueSpec {
        let stream = Value::Text(Text::from_static("stream"));
        let mut arguments = vec![(Text::from_static("x-queue-type"), stream)];
        arguments.extend(self.declared());
        QueueSpec {
            durable: true,
            arguments,
            ..QueueSpec::default()
        }
    }

    /// What queue.declare is told of a log.
    pub(crate) fn as_queue(&self, created: bool) -> Reply {
        let messages = self.tails.iter().map(|tail| {
            let bounds = tail.bounds();
            bounds.high_watermark.0 - bounds.log_start.0
        });
        Reply::Queue {
            name: self.info.name.clone(),
            messages: messages.sum(),
            consumers: self.tails.first().map_or(0, |tail| tail.consumers()),
            created,
        }
    }
}

/// Whether a setting is what a stream has that was declared without it.
fn is_default(name: &str, value: &str) -> bool {
    DEFAULTS.contains(&(name, value))
}

/// A stream that is declared again must be what it is.
fn same_stream(log: &LogEntry, spec: &QueueSpec) -> Result<(), Refusal> {
    let (name, vhost) = (&log.info.name, &log.vhost);
    if spec.exclusive {
        return Err(Refusal::Locked {
            name: name.clone(),
            vhost: vhost.clone(),
        });
    }
    let subject = check::Subject {
        kind: Kind::Queue,
        name,
        vhost,
    };
    subject.same_flag("durable", spec.durable, true)?;
    subject.same_flag("auto_delete", spec.auto_delete, false)?;
    let declared = log.declared();
    let settings = &log.info.spec.settings;
    for (argument, value) in &spec.arguments {
        let Some(setting) = setting_of(argument) else {
            continue;
        };
        let own = settings.iter().find(|(name, _)| *name == setting);
        let (own, received) = (own.map(|(_, value)| value), setting_text(value));
        if own != received.as_ref() {
            let shown = |it: Option<&Text>| format!("'{}'", it.map_or("none", |it| it));
            let (received, own) = (shown(received.as_ref()), shown(own));
            return Err(subject.inequivalent(argument, received, own));
        }
    }
    ARGUMENTS
        .iter()
        .try_for_each(|argument| subject.same_argument(argument, &spec.arguments, &declared))
}

fn as_declared(value: &Text) -> Value {
    value
        .parse()
        .map_or_else(|_| Value::Text(value.clone()), Value::I64)
}

/// The settings of the log that a stream is declared as, or what is wrong with the declaration.
fn settings(name: &str, vhost: &str, spec: &QueueSpec) -> Result<Vec<(Text, Text)>, Refusal> {
    let subject = format!("queue '{name}' in vhost '{vhost}'");
    if name.is_empty() {
        return Err(invalid(
            "Cannot declare a server-named queue for type rabbit_stream_queue".into(),
        ));
    }
    let mut settings: Vec<(Text, Text)> = DEFAULTS
        .map(|(name, value)| (Text::from_static(name), Text::from_static(value)))
        .to_vec();
    let mut given: Vec<(Text, Text)> = Vec::new();
    let mut set = |name: &str, value: String| settings.push((name.into(), value.into()));
    set("max.message.bytes", RECORD_BYTES_MAX.to_string());
    let (mut retention_bytes, mut retention) = ("-1".to_owned(), "-1".to_owned());
    for (argument, value) in &spec.arguments {
        let wrong = |why: String| invalid(format!("invalid arg '{argument}' for {subject}: {why}"));
        let text = match &**argument {
            "x-max-length-bytes" => {
                let bytes = natural(value).map_err(wrong)?;
                retention_bytes = bytes.to_string();
                bytes.to_string()
            }
            "x-max-age" => {
                let Value::Text(text) = value else {
                    let found = value.type_name();
                    return Err(wrong(format!("{{unacceptable_type,{found}}}")));
                };
                let age = max_age(text).ok_or_else(|| wrong("invalid_max_age".into()))?;
                retention = age.as_millis().to_string();
                text.to_string()
            }
            "x-stream-max-segment-size-bytes" => {
                let bytes = natural(value).map_err(wrong)?;
                if bytes > SEGMENT_BYTES_MAX {
                    return Err(invalid(
                        "Exceeded max value for x-stream-max-segment-size-bytes".into(),
                    ));
                }
                set("segment.bytes", bytes.min(i32::MAX.into()).to_string());
                bytes.to_string()
            }
            "x-stream-filter-size-bytes" => {
                let bytes = natural(value).map_err(wrong)?;
                if !(16..=255).contains(&bytes) {
                    return Err(invalid(
                        "Invalid value for  x-stream-filter-size-bytes".into(),
                    ));
                }
                bytes.to_string()
            }
            "x-initial-cluster-size" => match natural(value).map_err(wrong)? {
                0 => return Err(wrong("{value_zero,0}".into())),
                size => size.to_string(),
            },
            "x-queue-leader-locator" => match value {
                Value::Text(text) => text.to_string(),
                _ => return Err(wrong("invalid_queue_locator_arg".into())),
            },
            "x-queue-type" => continue,
            other if let Some(setting) = setting_of(other) => {
                if !SETTINGS.contains(&&*setting) {
                    return Err(wrong(format!("there is no setting {setting}")));
                }
                let found = value.type_name();
                let text = setting_text(value);
                let text = text.ok_or_else(|| wrong(format!("{{unacceptable_type,{found}}}")))?;
                given.push((setting, text));
                continue;
            }
            other if is_known(other) => {
                let text = format!(
                    "invalid arg '{other}' for {subject} of queue type rabbit_stream_queue"
                );
                return Err(invalid(text));
            }
            _ => continue,
        };
        set(argument, text);
    }
    check_flags(&subject, spec)?;
    set("retention.bytes", retention_bytes);
    set("retention.ms", retention);
    settings.retain(|(name, _)| given.iter().all(|(taken, _)| taken != name));
    settings.extend(given);
    Ok(settings)
}

fn check_flags(subject: &str, spec: &QueueSpec) -> Result<(), Refusal> {
    let property = if spec.auto_delete {
        "auto-delete"
    } else if spec.exclusive {
        "exclusive-owner"
    } else if !spec.durable {
        "non-durable"
    } else {
        return Ok(());
    };
    Err(invalid(format!(
        "invalid property '{property}' for {subject}"
    )))
}

fn natural(value: &Value) -> Result<i64, String> {
    match value.integer() {
        None => Err(format!("\"expected integer, got {}\"", value.type_name())),
        Some(negative) if negative < 0 => Err(format!("{{value_negative,{negative}}}")),
        Some(number) => Ok(number),
    }
}

/// A number and a unit: `Y`, `M`, `D`, `h`, `m` or `s`.
pub fn max_age(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "Y" => 365 * 24 * 3600,
        "M" => 30 * 24 * 3600,
        "D" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = is_number.then(|| digits.parse().ok())??;
    // What does not fit is as good as for ever.
    let milliseconds = number.saturating_mul(seconds).saturating_mul(1000);
    Some(Duration::from_millis(milliseconds.min(i64::MAX as u64)))
}

fn invalid(text: String) -> Refusal {
    Refusal::Invalid(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_a_number_and_a_unit() {
        let seconds = |text| max_age(text).map(|age| age.as_secs());
        assert_eq!(seconds("7D"), Some(7 * 24 * 3600));
        assert_eq!(seconds("1Y"), Some(365 * 24 * 3600));
        assert_eq!(seconds("2M"), Some(60 * 24 * 3600));
        assert_eq!(seconds("3h"), Some(10_800));
        assert_eq!(seconds("4m"), Some(240));
        assert_eq!(seconds("0s"), Some(0));
        for wrong in ["", "7", "D", "7d", "-7D", "+7D", "7DD", "7 D", "é"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        assert!(max_age("18446744073709551615Y").is_some());
    }
}
