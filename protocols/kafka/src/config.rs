//! The settings of topics: their names, types and defaults, those of Kafka 4.3 and our own (`mq.*`).
//!
//! All that Kafka has are taken and kept, because tools set and compare them; `docs/kafka.md` says which
//! of them have an effect.

use trivium_core::{LogSpec, Text};

/// A setting that a topic can have.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
}

/// What values a setting takes.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Boolean,
    /// Any text.
    Text,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A 32-bit number from this one on.
    Int(i32),
    /// A 64-bit number from this one on.
    Long(i64),
    /// A fraction from 0 to 1.
    Ratio,
    /// A 32-bit number between two.
    IntBetween(i32, i32),
    /// -1, or a 32-bit number between two.
    Level(i32, i32),
    /// Words between commas.
    List,
    /// Any of these words.
    Words(&'static [&'static str]),
    /// `*`, or pairs of a partition and a broker between commas.
    Replicas,
    /// `false`: there is no tiered storage.
    Untiered,
}

impl Kind {
    /// The type's number in DescribeConfigs.
    pub(crate) fn code(self) -> i8 {
        match self {
            Kind::Boolean | Kind::Untiered => 1,
            Kind::Text | Kind::Choice(_) => 2,
            Kind::Int(_) | Kind::IntBetween(..) | Kind::Level(..) => 3,
            Kind::Long(_) => 5,
            Kind::Ratio => 6,
            Kind::List | Kind::Words(_) | Kind::Replicas => 7,
        }
    }

    /// A value as it is kept: without space around it, and as Kafka shows it.
    fn kept(self, value: &str) -> String {
        let value = value.trim();
        match self {
            Kind::Boolean | Kind::Untiered => value.to_ascii_lowercase(),
            Kind::Words(_) | Kind::Replicas => words(value).collect::<Vec<_>>().join(","),
            _ => value.to_owned(),
        }
    }

    /// What is wrong with a value, in the words of Kafka's `ConfigDef`.
    fn fault(self, name: &str, value: &str) -> Option<String> {
        let invalid = |value: &str, why: &str| {
            let value = value.escape_debug();
            Some(format!(
                "Invalid value {value} for configuration {name}: {why}"
            ))
        };
        let bounded = |number: Option<i64>, kind: &str, min: i64, max: i64| match number {
            None => invalid(value, &format!("Not a number of type {kind}")),
            Some(number) if number < min => {
                invalid(value, &format!("Value must be at least {min}"))
            }
            Some(number) if number > max => {
                invalid(value, &format!("Value must be no more than {max}"))
            }
            Some(_) => None,
        };
        let int = || value.parse::<i32>().ok().map(i64::from);
        let one_of = |choices: &[&str]| format!("String must be one of: {}", choices.join(", "));
        match self {
            Kind::Text | Kind::List => None,
            Kind::Boolean | Kind::Untiered if !matches!(value, "true" | "false") => {
                invalid(value, "Expected value to be either true or false")
            }
            Kind::Untiered if value == "true" => Some(
                "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                    .to_owned(),
            ),
            Kind::Boolean | Kind::Untiered => None,
            Kind::Choice(choices) if choices.contains(&value) => None,
            Kind::Choice(choices) => invalid(value, &one_of(choices)),
            Kind::Int(min) => bounded(int(), "INT", min.into(), i32::MAX.into()),
            Kind::IntBetween(min, max) => bounded(int(), "INT", min.into(), max.into()),
            Kind::Level(min, max) => match int() {
                Some(-1) => None,
                Some(level) if level < min.into() || level > max.into() => invalid(
                    value,
                    &format!("Value must be between {min} and {max} or equal to -1"),
                ),
                level => bounded(level, "INT", min.into(), max.into()),
            },
            Kind::Long(min) => bounded(value.parse().ok(), "LONG", min, i64::MAX),
            Kind::Ratio => match value.parse::<f64>() {
                Err(_) => invalid(value, "Not a number of type DOUBLE"),
                Ok(ratio) if ratio > 1.0 => invalid(value, "Value must be no more than 1"),
                Ok(ratio) if ratio >= 0.0 => None,
                Ok(_) => invalid(value, "Value must be at least 0"),
            },
            Kind::Words(known) => {
                let unknown = words(value).find(|word| !known.contains(word));
                unknown.and_then(|word| invalid(word, &one_of(known)))
            }
            Kind::Replicas => {
                let is_pair = |word: &str| {
                    let pair = word.split_once(':');
                    pair.is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok())
                };
                let why = format!(
                    "{name} must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                );
                let is_well = value == "*" || words(value).all(is_pair);
                (!is_well).then(|| invalid(&format!("[{value}]"), &why)).flatten()
            }
        }
    }
}

/// The words of a list.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

const fn setting(name: &'static str, kind: Kind, default: &'static str) -> Setting {
    Setting {
        name,
        kind,
        default,
    }
}

const NEVER: &str = "9223372036854775807";
const DAY: &str = "86400000";
const WEEK: &str = "604800000";

/// The number of lists among types.
const LIST: i8 = 7;

/// All of them, in alphabetical order.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "cleanup.policy",
        Kind::Words(&["compact", "delete"]),
        "delete",
    ),
    setting("compression.gzip.level", Kind::Level(1, 9), "-1"),
    setting("compression.lz4.level", Kind::IntBetween(1, 17), "9"),
    setting(
        "compression.type",
        Kind::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
    ),
    setting(
        "compression.zstd.level",
        Kind::IntBetween(-131_072, 22),
        "3",
    ),
    setting("delete.retention.ms", Kind::Long(0), DAY),
    setting("file.delete.delay.ms", Kind::Long(0), "60000"),
    setting("flush.messages", Kind::Long(1), NEVER),
    setting("flush.ms", Kind::Long(0), NEVER),
    setting(
        "follower.replication.throttled.replicas",
        Kind::Replicas,
        "",
    ),
    setting("index.interval.bytes", Kind::Int(0), "4096"),
    setting("leader.replication.throttled.replicas", Kind::Replicas, ""),
    setting("local.retention.bytes", Kind::Long(-2), "-2"),
    setting("local.retention.ms", Kind::Long(-2), "-2"),
    setting("max.compaction.lag.ms", Kind::Long(1), NEVER),
    setting("max.message.bytes", Kind::Int(0), "1048588"),
    setting("message.timestamp.after.max.ms", Kind::Long(0), "3600000"),
    setting("message.timestamp.before.max.ms", Kind::Long(0), NEVER),
    setting(
        "message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
    ),
    setting("min.cleanable.dirty.ratio", Kind::Ratio, "0.5"),
    setting("min.compaction.lag.ms", Kind::Long(0), "0"),
    setting("min.insync.replicas", Kind::Int(1), "1"),
    setting("mq.bind", Kind::List, ""),
    setting("mq.client.id", Kind::Boolean, "false"),
    setting("mq.key", Kind::Text, "topic"),
    setting("mq.retain.compressed", Kind::Boolean, "false"),
    setting("mq.retain.map", Kind::Boolean, "false"),
    setting("mq.route.key", Kind::Text, "${topic}"),
    setting("mq.tap", Kind::Text, "off"),
    setting("mq.tap.max.lag.bytes", Kind::Long(-1), "1073741824"),
    setting("mq.tap.max.lag.ms", Kind::Long(-1), DAY),
    setting("mq.tap.root.wildcards", Kind::Boolean, "false"),
    setting("preallocate", Kind::Boolean, "false"),
    setting("remote.log.copy.disable", Kind::Boolean, "false"),
    setting("remote.log.delete.on.disable", Kind::Boolean, "false"),
    setting("remote.storage.enable", Kind::Untiered, "false"),
    setting("retention.bytes", Kind::Long(-1), "-1"),
    setting("retention.ms", Kind::Long(-1), WEEK),
    setting("segment.bytes", Kind::Int(1 << 20), "1073741824"),
    setting("segment.index.bytes", Kind::Int(4), "10485760"),
    setting("segment.jitter.ms", Kind::Long(0), "0"),
    setting("segment.ms", Kind::Long(1), WEEK),
    setting("unclean.leader.election.enable", Kind::Boolean, "false"),
];

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Whether a topic can have this setting; the error is for the one who set it.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let unknown = || format!("Unknown topic config name: {}", name.escape_debug());
    find(name).map(|_| ()).ok_or_else(unknown)
}

/// The value of a setting that was not set; empty where there is no such setting.
pub(crate) fn default(name: &str) -> &'static str {
    find(name).map_or("", |setting| setting.default)
}

/// Whether values of this setting are lists, to which words can be added.
pub(crate) fn is_list(name: &str) -> bool {
    find(name).is_some_and(|setting| setting.kind.code() == LIST)
}

/// A value of a setting as a topic keeps it; the error is for the one who set it.
pub(crate) fn checked(name: &str, value: &str) -> Result<Text, String> {
    check_name(name)?;
    let Some(setting) = find(name) else {
        return Ok(value.into());
    };
    let kept = setting.kind.kept(value);
    match setting.kind.fault(name, &kept) {
        None => Ok(kept.into()),
        Some(fault) => Err(fault),
    }
}

/// What is wrong with settings that are each well for themselves.
pub(crate) fn check_together(settings: &[(Text, Text)]) -> Result<(), String> {
    let number = |name: &str| {
        let given = settings.iter().find(|(it, _)| it == name);
        let value = given.map_or(default(name), |(_, value)| &**value);
        value.parse::<i64>().unwrap_or_default()
    };
    let (min, max) = (
        number("min.compaction.lag.ms"),
        number("max.compaction.lag.ms"),
    );
    match min > max {
        true => Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )),
        false => Ok(()),
    }
}

/// The broker's setting from which topics have the value of one that they do not set, if Kafka has such.
pub(crate) fn broker_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "cleanup.policy" => "log.cleanup.policy",
        "compression.gzip.level" => "compression.gzip.level",
        "compression.lz4.level" => "compression.lz4.level",
        "compression.type" => "compression.type",
        "compression.zstd.level" => "compression.zstd.level",
        "delete.retention.ms" => "log.cleaner.delete.retention.ms",
        "file.delete.delay.ms" => "log.segment.delete.delay.ms",
        "flush.messages" => "log.flush.interval.messages",
        "index.interval.bytes" => "log.index.interval.bytes",
        "local.retention.bytes" => "log.local.retention.bytes",
        "local.retention.ms" => "log.local.retention.ms",
        "max.compaction.lag.ms" => "log.cleaner.max.compaction.lag.ms",
        "max.message.bytes" => "message.max.bytes",
        "message.timestamp.after.max.ms" => "log.message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms" => "log.message.timestamp.before.max.ms",
        "message.timestamp.type" => "log.message.timestamp.type",
        "min.cleanable.dirty.ratio" => "log.cleaner.min.cleanable.ratio",
        "min.compaction.lag.ms" => "log.cleaner.min.compaction.lag.ms",
        "min.insync.replicas" => "min.insync.replicas",
        "preallocate" => "log.preallocate",
        "retention.bytes" => "log.retention.bytes",
        "segment.bytes" => "log.segment.bytes",
        "segment.index.bytes" => "log.index.size.max.bytes",
        "unclean.leader.election.enable" => "unclean.leader.election.enable",
        _ => return None,
    })
}

/// What a topic of this name is created as. A topic is what is published on `amq.topic` under its name, and
/// what is written to it is offered there (DESIGN section 3.2), unless its settings say otherwise.
pub(crate) fn spec(name: &str, partitions: u32, mut settings: Vec<(Text, Text)>) -> LogSpec {
    for (setting, value) in [
        ("mq.bind", format!("amq.topic:{name}")),
        ("mq.tap", "amq.topic".to_owned()),
    ] {
        if settings.iter().all(|(given, _)| given != setting) {
            settings.push((Text::from_static(setting), value.into()));
        }
    }
    LogSpec {
        partitions,
        settings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_is_taken() {
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
        for setting in SETTINGS {
            let default = setting.default;
            assert_eq!(checked(setting.name, default), Ok(default.into()));
        }
    }

    /// As Kafka's `ConfigDef` reads them and shows them afterwards.
    #[test]
    fn values_are_kept_as_kafka_reads_them() {
        for (name, given, kept) in [
            ("delete.retention.ms", " 5 ", "5"),
            ("preallocate", "TRUE", "true"),
            ("cleanup.policy", "compact, delete", "compact,delete"),
            ("cleanup.policy", "", ""),
            (
                "leader.replication.throttled.replicas",
                "0:1, 1:1",
                "0:1,1:1",
            ),
        ] {
            assert_eq!(checked(name, given), Ok(kept.into()));
        }
    }

    /// The texts of Kafka's `ConfigDef` and its validators.
    #[test]
    fn bad_names_and_values_are_told() {
        let invalid = |name: &str, value: &str| checked(name, value).unwrap_err();
        assert_eq!(
            invalid("retention.msx", "1"),
            "Unknown topic config name: retention.msx"
        );
        for (name, value, why) in [
            ("retention.ms", "-2", "Value must be at least -1"),
            ("retention.ms", "x", "Not a number of type LONG"),
            ("segment.bytes", "13", "Value must be at least 1048576"),
            (
                "preallocate",
                "maybe",
                "Expected value to be either true or false",
            ),
            (
                "min.cleanable.dirty.ratio",
                "1.5",
                "Value must be no more than 1",
            ),
            (
                "compression.gzip.level",
                "10",
                "Value must be between 1 and 9 or equal to -1",
            ),
            (
                "compression.zstd.level",
                "100",
                "Value must be no more than 22",
            ),
            (
                "cleanup.policy",
                "none",
                "String must be one of: compact, delete",
            ),
        ] {
            let expected = format!("Invalid value {value} for configuration {name}: {why}");
            assert_eq!(invalid(name, value), expected);
        }
        assert!(invalid("cleanup.policy", "compact,never").starts_with("Invalid value never for"));
        assert!(invalid("remote.storage.enable", "true").starts_with("Tiered Storage"));
        assert!(invalid("leader.replication.throttled.replicas", "x").contains("[x]"));
    }

    #[test]
    fn lags_of_compaction_do_not_contradict_each_other() {
        let lags = |min: &'static str, max: &'static str| {
            check_together(&[
                ("min.compaction.lag.ms".into(), min.into()),
                ("max.compaction.lag.ms".into(), max.into()),
            ])
        };
        assert_eq!(lags("5", "5"), Ok(()));
        assert_eq!(
            lags("10", "5").unwrap_err(),
            "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
        );
    }
}
