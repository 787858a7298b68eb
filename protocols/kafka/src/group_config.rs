//! The settings of groups: their names, types, defaults and bounds, those of Kafka 4.3 for consumer, share and streams
//! groups (which are not served, so these mean nothing), and those for dead letters that Kafka has accepted for its next release (KIP-1191).

use trivium_core::{
    Text,
    group::{Begin, GroupBounds},
};

use crate::{config::Kind, topics};

/// A setting that a group can have.
pub(crate) struct GroupSetting {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    takes: Takes,
}

/// What values a setting takes.
#[derive(Clone, Copy)]
enum Takes {
    /// A number of at least this, which the broker bounds further.
    Number(i32),
    Boolean,
    Isolation,
    Reset,
    Topic,
}

impl GroupSetting {
    /// The type, as DescribeConfigs has it.
    pub(crate) fn kind(&self) -> Kind {
        match self.takes {
            Takes::Number(min, ..) => Kind::Int(min),
            Takes::Boolean => Kind::Boolean,
            Takes::Isolation | Takes::Reset | Takes::Topic => Kind::Text,
        }
    }
}

const fn setting(name: &'static str, default: &'static str, takes: Takes) -> GroupSetting {
    GroupSetting {
        name,
        default,
        takes,
    }
}

/// All of them, in alphabetical order.
pub(crate) const GROUP_SETTINGS: &[GroupSetting] = &[
    setting("consumer.assignment.interval.ms", "0", Takes::Number(0)),
    setting("consumer.heartbeat.interval.ms", "5000", Takes::Number(1)),
    setting("consumer.session.timeout.ms", "45000", Takes::Number(1)),
    setting(
        "errors.deadletterqueue.copy.record.enable",
        "false",
        Takes::Boolean,
    ),
    setting("errors.deadletterqueue.topic.name", "", Takes::Topic),
    setting("share.assignment.interval.ms", "0", Takes::Number(0)),
    setting("share.auto.offset.reset", "latest", Takes::Reset),
    setting("share.delivery.count.limit", "5", Takes::Number(2)),
    setting("share.heartbeat.interval.ms", "5000", Takes::Number(1)),
    setting(
        "share.isolation.level",
        "read_uncommitted",
        Takes::Isolation,
    ),
    setting(
        "share.partition.max.record.locks",
        "2000",
        Takes::Number(100),
    ),
    setting(
        "share.record.lock.duration.ms",
        "30000",
        Takes::Number(1000),
    ),
    setting("share.renew.acknowledge.enable", "true", Takes::Boolean),
    setting("share.session.timeout.ms", "45000", Takes::Number(1)),
    setting("streams.assignment.interval.ms", "1000", Takes::Number(0)),
    setting("streams.heartbeat.interval.ms", "5000", Takes::Number(1)),
    setting(
        "streams.initial.rebalance.delay.ms",
        "3000",
        Takes::Number(0),
    ),
    setting("streams.num.standby.replicas", "0", Takes::Number(0)),
    setting("streams.session.timeout.ms", "45000", Takes::Number(1)),
];

/// The broker's settings behind a group's: the default, the least and the most.
pub(crate) fn broker_names(name: &str) -> [String; 3] {
    let (kind, rest) = name.split_once('.').unwrap_or((name, ""));
    let bounded = rest.strip_prefix("num.").unwrap_or(rest);
    [("", rest), ("min.", bounded), ("max.", bounded)]
        .map(|(bound, rest)| format!("group.{kind}.{bound}{rest}"))
}

/// Whether a group can have this setting with this value, or at all; the error is for the one who set it.
pub(crate) fn check(name: &str, value: Option<&Text>, bounds: &GroupBounds) -> Result<(), String> {
    if value.is_none() {
        // What there is not is not set.
        return Ok(());
    }
    let found = GROUP_SETTINGS.iter().find(|setting| setting.name == name);
    let setting =
        found.ok_or_else(|| format!("Unknown group config name: {}", name.escape_debug()))?;
    let Some(given) = value else {
        return Ok(());
    };
    let invalid = |why: &str| {
        let given = given.escape_debug();
        Err(format!(
            "Invalid value {given} for configuration {name}: {why}"
        ))
    };
    let value = given.trim();
    match setting.takes {
        Takes::Number(least) => {
            let Ok(number) = value.parse::<i32>() else {
                return invalid("Not a number of type INT");
            };
            if number < least {
                return invalid(&format!("Value must be at least {least}"));
            }
            let (number, bounds) = (i64::from(number), bounds.of(name));
            let [_, min_name, max_name] = broker_names(name);
            match bounds {
                Some(bounds) if number < bounds.min.into() => Err(format!(
                    "{name} must be greater than or equal to {min_name}"
                )),
                Some(bounds) if number > bounds.max.into() => {
                    Err(format!("{name} must be less than or equal to {max_name}"))
                }
                _ => Ok(()),
            }
        }
        Takes::Boolean
            if ["true", "false"]
                .iter()
                .any(|it| it.eq_ignore_ascii_case(value)) =>
        {
            Ok(())
        }
        Takes::Boolean => invalid("Expected value to be either true or false"),
        Takes::Isolation if ["read_committed", "read_uncommitted"].contains(&value) => Ok(()),
        Takes::Isolation => invalid("String must be one of: read_committed, read_uncommitted"),
        Takes::Reset if Begin::read(value).is_some() => Ok(()),
        Takes::Reset => invalid(&format!(
            "Invalid value `{}` for configuration {name}. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.",
            value.escape_debug()
        )),
        Takes::Topic if value.is_empty() => Ok(()),
        Takes::Topic if topics::is_legal(value) && !topics::is_internal(value) => Ok(()),
        Takes::Topic => invalid("not the name of a topic that can be written to"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_is_taken() {
        assert!(GROUP_SETTINGS.is_sorted_by_key(|setting| setting.name));
        for setting in GROUP_SETTINGS {
            assert_eq!(
                check(
                    setting.name,
                    Some(&setting.default.into()),
                    &GroupBounds::default()
                ),
                Ok(())
            );
        }
    }

    /// The texts of Kafka's ConfigDef and GroupConfig.
    #[test]
    fn bad_names_and_values_are_told() {
        for (name, value, text) in [
            ("x.y", "1", "Unknown group config name: x.y"),
            (
                "consumer.session.timeout.ms",
                "a",
                "Invalid value a for configuration consumer.session.timeout.ms: Not a number of type INT",
            ),
            (
                "share.record.lock.duration.ms",
                "999",
                "Invalid value 999 for configuration share.record.lock.duration.ms: Value must be at least 1000",
            ),
            (
                "consumer.session.timeout.ms",
                "44999",
                "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
            ),
            (
                "share.delivery.count.limit",
                "11",
                "share.delivery.count.limit must be less than or equal to group.share.max.delivery.count.limit",
            ),
            (
                "share.isolation.level",
                "x",
                "Invalid value x for configuration share.isolation.level: String must be one of: read_committed, read_uncommitted",
            ),
            (
                "share.renew.acknowledge.enable",
                "yes",
                "Invalid value yes for configuration share.renew.acknowledge.enable: Expected value to be either true or false",
            ),
        ] {
            assert_eq!(
                check(name, Some(&value.into()), &GroupBounds::default()),
                Err(text.into())
            );
        }
        let reset = check(
            "share.auto.offset.reset",
            Some(&"by_duration:x".into()),
            &GroupBounds::default(),
        );
        assert!(
            reset
                .unwrap_err()
                .ends_with("or of the format 'by_duration:<PnDTnHnMn.nS>'.")
        );
        assert!(
            check(
                "errors.deadletterqueue.topic.name",
                Some(&"__x".into()),
                &GroupBounds::default()
            )
            .is_err()
        );
    }
}
