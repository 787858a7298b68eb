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
    /// Words between commas.
    List,
    /// Of these words, at least one.
    Words(&'static [&'static str]),
}

impl Kind {
    /// The type's number in DescribeConfigs.
    pub(crate) fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::Text | Kind::Choice(_) => 2,
            Kind::Int(_) => 3,
            Kind::Long(_) => 5,
            Kind::Ratio => 6,
            Kind::List | Kind::Words(_) => 7,
        }
    }

    fn takes(self, value: &str) -> bool {
        match self {
            Kind::Boolean => matches!(value, "true" | "false"),
            Kind::Text | Kind::List => true,
            Kind::Choice(choices) => choices.contains(&value),
            Kind::Int(min) => value.parse().is_ok_and(|number: i32| number >= min),
            Kind::Long(min) => value.parse().is_ok_and(|number: i64| number >= min),
            Kind::Ratio => value
                .parse()
                .is_ok_and(|number: f64| (0.0..=1.0).contains(&number)),
            Kind::Words(words) => value.split(',').all(|word| words.contains(&word.trim())),
        }
    }
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

/// All of them, in alphabetical order.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "cleanup.policy",
        Kind::Words(&["delete", "compact"]),
        "delete",
    ),
    setting("compression.gzip.level", Kind::Int(-1), "-1"),
    setting("compression.lz4.level", Kind::Int(1), "9"),
    setting(
        "compression.type",
        Kind::Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "producer",
    ),
    setting("compression.zstd.level", Kind::Int(-131_072), "3"),
    setting("delete.retention.ms", Kind::Long(0), DAY),
    setting("file.delete.delay.ms", Kind::Long(0), "60000"),
    setting("flush.messages", Kind::Long(1), NEVER),
    setting("flush.ms", Kind::Long(0), NEVER),
    setting("follower.replication.throttled.replicas", Kind::List, ""),
    setting("index.interval.bytes", Kind::Int(0), "4096"),
    setting("leader.replication.throttled.replicas", Kind::List, ""),
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
    setting("remote.storage.enable", Kind::Choice(&["false"]), "false"),
    setting("retention.bytes", Kind::Long(-1), "-1"),
    setting("retention.ms", Kind::Long(-1), WEEK),
    setting("segment.bytes", Kind::Int(14), "1073741824"),
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
    find(name).is_some_and(|setting| matches!(setting.kind, Kind::List | Kind::Words(_)))
}

/// Whether a topic can have this setting with this value; the error is for the one who set it.
pub(crate) fn check(name: &str, value: Option<&str>) -> Result<(), String> {
    check_name(name)?;
    let Some(setting) = find(name) else {
        return Ok(());
    };
    let value = value.ok_or_else(|| format!("null value not supported for topic config {name}"))?;
    match setting.kind.takes(value) {
        true => Ok(()),
        false => Err(format!(
            "invalid value {} for configuration {name}",
            value.escape_debug()
        )),
    }
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
            assert_eq!(check(setting.name, Some(setting.default)), Ok(()));
        }
    }

    #[test]
    fn bad_names_and_values_are_told() {
        assert!(
            check("retention.msx", Some("1"))
                .unwrap_err()
                .contains("retention.msx")
        );
        assert!(
            check("retention.ms", Some("-2"))
                .unwrap_err()
                .contains("-2")
        );
        assert!(check("cleanup.policy", Some("compact,delete")).is_ok());
        assert!(check("cleanup.policy", Some("")).is_err());
        assert!(check("retention.ms", None).is_err());
    }
}
