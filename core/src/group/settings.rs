//! The settings of a group: those of Kafka's groups (KIP-1240 and before) and of their dead letters (KIP-1191).

use std::time::Duration;

use bytes::Bytes;

use super::bounds::{Bounds, GroupBounds};
use crate::{
    properties::Text,
    store::{
        StoreError,
        values::{Reader, Writer},
    },
};

const FORMAT: u8 = 1;
/// The setting that names the log for what a share group gives up.
pub(crate) const DEAD_LETTER_LOG: &str = "errors.deadletterqueue.topic.name";

/// What a group's settings come to. Names that are not here have no meaning to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupSettings {
    /// As they were given, by name.
    pub given: Vec<(Text, Text)>,
    /// `consumer.session.timeout.ms`: members of the consumer protocol are gone when silent for so long.
    pub consumer_session: Duration,
    /// `consumer.heartbeat.interval.ms`: what they are told to leave between two heartbeats.
    pub consumer_interval: Duration,
    /// `consumer.assignment.interval.ms`: how long an assignment stands before another one is computed, where the group
    /// speaks the consumer protocol alone.
    pub consumer_assignment: Duration,
    /// `share.assignment.interval.ms`: the same of a share group.
    pub share_assignment: Duration,
    /// `share.session.timeout.ms`: the same of a share group.
    pub share_session: Duration,
    /// `share.heartbeat.interval.ms`
    pub share_interval: Duration,
    /// `share.record.lock.duration.ms`: how long a record is a member's alone.
    pub lock: Duration,
    /// `share.delivery.count.limit`: a record that is back after so many deliveries is given up.
    pub deliveries_max: u16,
    /// `share.partition.max.record.locks`: records of a partition that are looked at, ahead of the first that is not
    /// done with.
    pub records_max: u64,
    /// `share.auto.offset.reset`
    pub begin: Begin,
    /// `share.isolation.level` is `read_committed`: records of a transaction are given out once it has committed.
    pub committed_only: bool,
    /// `share.renew.acknowledge.enable`: members may lengthen their locks.
    pub renewable: bool,
    /// `errors.deadletterqueue.topic.name`: the log for what is given up.
    pub dead_letters: Option<Text>,
    /// `errors.deadletterqueue.copy.record.enable`: with its key and value.
    pub dead_letters_whole: bool,
}

/// Where a share group begins with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what comes from now on.
    Latest,
    /// With what there is.
    Earliest,
    /// With what is not older than this.
    Ago(Duration),
}

impl GroupSettings {
    /// Those of a group that has none of its own.
    pub fn new(bounds: &GroupBounds) -> GroupSettings {
        let millis = |bounds: Bounds| Duration::from_millis(bounds.default.into());
        GroupSettings {
            given: Vec::new(),
            consumer_session: millis(bounds.consumer_session),
            consumer_interval: millis(bounds.consumer_interval),
            consumer_assignment: millis(bounds.consumer_assignment),
            share_assignment: millis(bounds.share_assignment),
            share_session: millis(bounds.share_session),
            share_interval: millis(bounds.share_interval),
            lock: millis(bounds.lock),
            deliveries_max: bounds.deliveries.default.try_into().unwrap_or(u16::MAX),
            records_max: bounds.records.default.into(),
            begin: Begin::Latest,
            committed_only: false,
            renewable: true,
            dead_letters: None,
            dead_letters_whole: false,
        }
    }

    /// Reads settings by name. What is wrong is said in a text that names the setting.
    pub fn parse(given: Vec<(Text, Text)>, bounds: &GroupBounds) -> Result<GroupSettings, String> {
        let mut parsed = GroupSettings::new(bounds);
        let default = |name| bounds.of(name).map_or(0, |it| it.default.into());
        let mut streams_session = Duration::from_millis(default("streams.session.timeout.ms"));
        let mut streams_interval = Duration::from_millis(default("streams.heartbeat.interval.ms"));
        for (name, value) in &given {
            let value = value.trim();
            let invalid = || format!("Invalid value {value} for configuration {name}");
            let millis = || Some(Duration::from_millis(value.parse().ok()?));
            let flag = || value.to_ascii_lowercase().parse::<bool>().ok();
            let done = match &**name {
                "consumer.session.timeout.ms" => set(&mut parsed.consumer_session, millis()),
                "consumer.heartbeat.interval.ms" => set(&mut parsed.consumer_interval, millis()),
                "consumer.assignment.interval.ms" => set(&mut parsed.consumer_assignment, millis()),
                "share.assignment.interval.ms" => set(&mut parsed.share_assignment, millis()),
                "streams.session.timeout.ms" => set(&mut streams_session, millis()),
                "streams.heartbeat.interval.ms" => set(&mut streams_interval, millis()),
                // Of groups that are not served: checked by who sets them, and kept.
                "streams.assignment.interval.ms"
                | "streams.num.standby.replicas"
                | "streams.initial.rebalance.delay.ms" => Some(()),
                "share.session.timeout.ms" => set(&mut parsed.share_session, millis()),
                "share.heartbeat.interval.ms" => set(&mut parsed.share_interval, millis()),
                "share.record.lock.duration.ms" => set(&mut parsed.lock, millis()),
                "share.delivery.count.limit" => set(
                    &mut parsed.deliveries_max,
                    value.parse().ok().filter(|it| *it > 0),
                ),
                "share.partition.max.record.locks" => set(
                    &mut parsed.records_max,
                    value.parse().ok().filter(|it| *it > 0),
                ),
                "share.auto.offset.reset" => set(&mut parsed.begin, Begin::read(value)),
                "share.isolation.level" => set(
                    &mut parsed.committed_only,
                    match value {
                        "read_committed" => Some(true),
                        "read_uncommitted" => Some(false),
                        _ => None,
                    },
                ),
                "share.renew.acknowledge.enable" => set(&mut parsed.renewable, flag()),
                DEAD_LETTER_LOG => {
                    parsed.dead_letters = (!value.is_empty()).then(|| value.into());
                    Some(())
                }
                "errors.deadletterqueue.copy.record.enable" => {
                    set(&mut parsed.dead_letters_whole, flag())
                }
                _ => return Err(format!("Unknown group config name: {name}")),
            };
            done.ok_or_else(invalid)?;
        }
        for (kind, session, interval) in [
            (
                "consumer",
                parsed.consumer_session,
                parsed.consumer_interval,
            ),
            ("share", parsed.share_session, parsed.share_interval),
            ("streams", streams_session, streams_interval),
        ] {
            if session <= interval {
                return Err(format!(
                    "{kind}.session.timeout.ms must be greater than {kind}.heartbeat.interval.ms"
                ));
            }
        }
        parsed.given = given;
        Ok(parsed)
    }

    /// With some of them set or, without a value, reset.
    pub fn changed(
        &self,
        changes: &[(Text, Option<Text>)],
        bounds: &GroupBounds,
    ) -> Result<GroupSettings, String> {
        let mut given = self.given.clone();
        for (changed, value) in changes {
            given.retain(|(name, _)| name != changed);
            given.extend(value.clone().map(|value| (changed.clone(), value)));
        }
        given.sort();
        GroupSettings::parse(given, bounds)
    }

    /// As a row.
    pub fn write(&self) -> Bytes {
        let mut writer = Writer::new(FORMAT);
        writer.list(&self.given, |writer, (name, value)| {
            writer.text(name);
            writer.text(value);
        });
        writer.done()
    }

    /// From a row. Settings were checked when they were made: what a newer program has written is the default here.
    pub fn read(row: Bytes, bounds: &GroupBounds) -> Result<GroupSettings, StoreError> {
        let mut reader = Reader::new(row, FORMAT)?;
        let given = reader.list(|reader| Ok((reader.text()?, reader.text()?)))?;
        Ok(
            GroupSettings::parse(given.clone(), bounds).unwrap_or_else(|_| GroupSettings {
                given,
                ..GroupSettings::new(bounds)
            }),
        )
    }
}

fn set<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

impl Begin {
    /// `latest`, `earliest` or `by_duration:` with a duration as ISO 8601 has it (`P1DT2H30M5.5S`), not negative.
    pub fn read(text: &str) -> Option<Begin> {
        match text {
            "latest" => Some(Begin::Latest),
            "earliest" => Some(Begin::Earliest),
            _ => duration(text.strip_prefix("by_duration:")?).map(Begin::Ago),
        }
    }
}

/// Days, hours, minutes and seconds, as Java's `Duration` reads them.
fn duration(text: &str) -> Option<Duration> {
    let text = text.to_ascii_uppercase();
    let rest = text.strip_prefix('P')?;
    let (days, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (rest, ""),
    };
    let mut millis = 0_u64;
    let mut add = |number: &str, unit: u64| {
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        Some(())
    };
    let mut any = false;
    if !days.is_empty() {
        add(days.strip_suffix('D')?, 86_400_000)?;
        any = true;
    }
    let mut time = time;
    for (letter, unit) in [('H', 3_600_000), ('M', 60_000)] {
        if let Some((number, rest)) = time.split_once(letter) {
            add(number, unit)?;
            (time, any) = (rest, true);
        }
    }
    if !time.is_empty() {
        let seconds = time.strip_suffix('S')?;
        let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
        if fraction.len() > 9 || !fraction.bytes().all(|it| it.is_ascii_digit()) {
            return None;
        }
        add(whole, 1000)?;
        let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
        add(&thousandths, 1)?;
        any = true;
    }
    any.then(|| Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pairs: &[(&'static str, &'static str)]) -> Vec<(Text, Text)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).into(), (*b).into()))
            .collect()
    }

    #[test]
    fn settings_are_read_changed_and_stored() {
        let bounds = GroupBounds::default();
        let given = text(&[
            ("share.auto.offset.reset", "by_duration:PT1H"),
            ("share.delivery.count.limit", "7"),
        ]);
        let settings = GroupSettings::parse(given, &bounds).unwrap();
        assert_eq!(settings.begin, Begin::Ago(Duration::from_secs(3600)));
        assert_eq!(settings.deliveries_max, 7);
        let changes = [
            ("share.delivery.count.limit".into(), None),
            (
                "errors.deadletterqueue.topic.name".into(),
                Some("dlq".into()),
            ),
        ];
        let changed = settings.changed(&changes, &bounds).unwrap();
        assert_eq!(
            (changed.deliveries_max, changed.dead_letters.as_deref()),
            (5, Some("dlq"))
        );
        assert_eq!(
            GroupSettings::read(changed.write(), &bounds).unwrap(),
            changed
        );
        let error = settings.changed(&[("share.x".into(), Some("1".into()))], &bounds);
        assert_eq!(error.unwrap_err(), "Unknown group config name: share.x");
        let error = settings.changed(
            &[("share.session.timeout.ms".into(), Some("5000".into()))],
            &bounds,
        );
        assert!(
            error
                .unwrap_err()
                .contains("must be greater than share.heartbeat.interval.ms")
        );
        let wrong = GroupSettings::parse(text(&[("share.isolation.level", "x")]), &bounds);
        assert!(wrong.unwrap_err().contains("share.isolation.level"));
    }

    /// ISO 8601, as Java's `Duration.parse`.
    #[test]
    fn durations_are_read() {
        for (given, millis) in [
            ("P2D", Some(172_800_000)),
            ("PT1H30M", Some(5_400_000)),
            ("p1dt2h3m4.5s", Some(93_784_500)),
            ("PT0S", Some(0)),
            ("PT-1S", None),
            ("-PT1S", None),
            ("P", None),
            ("PT", None),
            ("P1H", None),
            ("PT1M1H", None),
            ("PT1X", None),
            ("PT99999999999999999999S", None),
        ] {
            assert_eq!(
                duration(given),
                millis.map(Duration::from_millis),
                "{given}"
            );
        }
    }
}
