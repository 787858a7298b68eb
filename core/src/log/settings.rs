//! What the settings of a log (Kafka topic configs and `mq.*`) mean to its partitions.

use std::{sync::Arc, time::Duration};

use crate::{
    log::{convert::KeyRule, intake::codec_named, route_key::RouteKey},
    properties::Text,
};

/// As Kafka's `retention.ms`.
const RETENTION_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// As Kafka's `segment.ms`.
const SEGMENT_AGE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// As Kafka's `message.timestamp.after.max.ms`.
const TIMESTAMP_AFTER_DEFAULT: Duration = Duration::from_secs(3600);
/// `mq.tap.max.lag.ms` where it is not set.
const TAP_LAG_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// `mq.tap.max.lag.bytes` where it is not set.
const TAP_LAG_BYTES_DEFAULT: u64 = 1 << 30;

/// The checked settings of a log. A partition acts on them; names that are not here are kept by the catalog only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `retention.ms`: records older than this go; -1 is forever.
    pub retention: Option<Duration>,
    /// `retention.bytes`: the oldest go while a partition is larger; -1 is no bound.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`: records go by stretches of about this size, if it is smaller than the broker's own.
    pub segment_bytes: Option<u64>,
    /// `cleanup.policy` holds `compact`: every record needs a key, and only the newest of a key counts.
    pub compact: Option<Compact>,
    /// `segment.ms`: what is compacted is written no more.
    pub segment_age: Duration,
    /// `cleanup.policy` holds `delete`: retention counts, and clients may delete records.
    pub delete: bool,
    /// `compression.type`: the number of the codec of all batches; none where that is up to producers.
    pub compression: Option<u8>,
    /// `message.timestamp.type`: the broker's clock decides.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`: how much older than now a record may be.
    pub timestamp_before: Option<Duration>,
    /// `message.timestamp.after.max.ms`: how much newer than now a record may be.
    pub timestamp_after: Option<Duration>,
    /// `max.message.bytes`: a larger batch is refused. Without it, the broker's own bound holds.
    pub batch_bytes_max: Option<usize>,
    /// `mq.envelope`: exchange, routing key and timestamp of messages are kept beside them, as headers, so that who
    /// reads the log as a stream gets what was published.
    pub envelope: bool,
    /// `mq.client.id`: the publisher's client identifier is kept beside messages of other protocols, as a header.
    pub client_id: bool,
    /// `mq.key`: what becomes the key of a message from another protocol.
    pub key: KeyRule,
    /// `mq.route.key`: the topic under which the tap offers a record; none for the log's name.
    pub route_key: Option<Arc<RouteKey>>,
    /// `mq.retain.map`: the newest value of each key is the retained message of the topic that `mq.route.key` makes of it,
    /// `${key}` if it is not set.
    pub retain_map: bool,
    /// `mq.retain.compressed`: compressed batches are looked into for the header `mq.retain`.
    pub retain_compressed: bool,
    /// `mq.tap.max.lag.ms`: what the tap has still to read outlives `retention.ms` for so long; -1 is for ever.
    pub tap_lag: Option<Duration>,
    /// `mq.tap.max.lag.bytes`: it may be so much more than `retention.bytes`; -1 is no bound.
    pub tap_lag_bytes: Option<u64>,
}

/// When and how a log is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compact {
    /// `min.compaction.lag.ms`: younger records stay.
    pub lag_min: Duration,
    /// `max.compaction.lag.ms`: older records are looked at whatever the ratio.
    pub lag_max: Duration,
    /// `min.cleanable.dirty.ratio` in thousandths: so much of the log must be new since the last time.
    pub dirty_permille: u64,
    /// `delete.retention.ms`: how long tombstones and transaction markers stay.
    pub delete_retention: Duration,
}

impl Default for Compact {
    fn default() -> Compact {
        Compact {
            lag_min: Duration::ZERO,
            lag_max: Duration::from_millis(i64::MAX as u64),
            dirty_permille: 500,
            delete_retention: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            retention: Some(RETENTION_DEFAULT),
            retention_bytes: None,
            segment_bytes: None,
            compact: None,
            segment_age: SEGMENT_AGE_DEFAULT,
            delete: true,
            compression: None,
            log_append_time: false,
            timestamp_before: None,
            timestamp_after: Some(TIMESTAMP_AFTER_DEFAULT),
            batch_bytes_max: None,
            envelope: false,
            client_id: false,
            key: KeyRule::Topic,
            route_key: None,
            retain_map: false,
            retain_compressed: false,
            tap_lag: Some(TAP_LAG_DEFAULT),
            tap_lag_bytes: Some(TAP_LAG_BYTES_DEFAULT),
        }
    }
}

impl Settings {
    /// Reads settings by name. What is wrong is said in a text that names the setting.
    pub fn parse(settings: &[(Text, Text)]) -> Result<Settings, String> {
        let mut parsed = Settings::default();
        let mut compacts = false;
        let mut compact = Compact::default();
        for (name, value) in settings {
            let invalid = || format!("Invalid value {value} for configuration {name}");
            match &**name {
                "retention.ms" => {
                    parsed.retention = unlimited(value)
                        .ok_or_else(invalid)?
                        .map(Duration::from_millis);
                }
                "retention.bytes" => {
                    parsed.retention_bytes = unlimited(value).ok_or_else(invalid)?
                }
                "segment.bytes" => {
                    parsed.segment_bytes = Some(value.trim().parse().map_err(|_| invalid())?)
                }
                "compression.type" => {
                    parsed.compression = codec_named(value.trim()).ok_or_else(invalid)?
                }
                "message.timestamp.type" => {
                    parsed.log_append_time = match value.trim() {
                        "CreateTime" => false,
                        "LogAppendTime" => true,
                        _ => return Err(invalid()),
                    }
                }
                "message.timestamp.before.max.ms" => {
                    parsed.timestamp_before = Some(milliseconds(value).ok_or_else(invalid)?)
                }
                "message.timestamp.after.max.ms" => {
                    parsed.timestamp_after = Some(milliseconds(value).ok_or_else(invalid)?)
                }
                "max.message.bytes" => {
                    let bytes: u32 = value.trim().parse().map_err(|_| invalid())?;
                    parsed.batch_bytes_max = Some(bytes.min(i32::MAX as u32) as usize);
                }
                "cleanup.policy" => {
                    (compacts, parsed.delete) = cleanup(value).ok_or_else(invalid)?
                }
                "segment.ms" => parsed.segment_age = milliseconds(value).ok_or_else(invalid)?,
                "min.compaction.lag.ms" => {
                    compact.lag_min = milliseconds(value).ok_or_else(invalid)?
                }
                "max.compaction.lag.ms" => {
                    compact.lag_max = milliseconds(value).ok_or_else(invalid)?
                }
                "delete.retention.ms" => {
                    compact.delete_retention = milliseconds(value).ok_or_else(invalid)?
                }
                "min.cleanable.dirty.ratio" => {
                    let ratio: f64 = value.trim().parse().map_err(|_| invalid())?;
                    compact.dirty_permille = (ratio.clamp(0.0, 1.0) * 1000.0) as u64;
                }
                "mq.envelope" => parsed.envelope = value.trim().parse().map_err(|_| invalid())?,
                "mq.client.id" => parsed.client_id = value.trim().parse().map_err(|_| invalid())?,
                "mq.key" => parsed.key = KeyRule::parse(value).ok_or_else(invalid)?,
                "mq.route.key" => {
                    let template = RouteKey::parse(value);
                    let template = template.map_err(|why| format!("{}: {why}", invalid()))?;
                    parsed.route_key = template.map(Arc::new);
                }
                "mq.retain.map" => {
                    parsed.retain_map = value.trim().parse().map_err(|_| invalid())?;
                }
                "mq.retain.compressed" => {
                    parsed.retain_compressed = value.trim().parse().map_err(|_| invalid())?;
                }
                "mq.tap.max.lag.ms" => {
                    let lag = unlimited(value).ok_or_else(invalid)?;
                    parsed.tap_lag = lag.map(Duration::from_millis);
                }
                "mq.tap.max.lag.bytes" => {
                    parsed.tap_lag_bytes = unlimited(value).ok_or_else(invalid)?;
                }
                "mq.tap.root.wildcards" => {
                    let _: bool = value.trim().parse().map_err(|_| invalid())?;
                }
                _ => {}
            }
        }
        parsed.compact = compacts.then_some(compact);
        if parsed.retain_map {
            if !compacts {
                return Err("mq.retain.map needs a log with cleanup.policy=compact".into());
            }
            let by_key = || RouteKey::parse("${key}").ok().flatten().map(Arc::new);
            parsed.route_key = parsed.route_key.or_else(by_key);
        }
        if !parsed.delete {
            (parsed.retention, parsed.retention_bytes) = (None, None);
        }
        Ok(parsed)
    }
}

/// A number of at least 0, or -1 for none.
fn unlimited(value: &str) -> Option<Option<u64>> {
    match value.trim().parse::<i64>().ok()? {
        -1 => Some(None),
        number => Some(Some(u64::try_from(number).ok()?)),
    }
}

fn milliseconds(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_millis)
}

/// Whether a list of policies holds `compact`, and `delete`.
fn cleanup(value: &str) -> Option<(bool, bool)> {
    let (mut compact, mut delete) = (false, false);
    for policy in value.split(',').map(str::trim) {
        match policy {
            "compact" => compact = true,
            "delete" => delete = true,
            // Neither: it keeps everything.
            "" => {}
            _ => return None,
        }
    }
    Some((compact, delete))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(settings: &[(&'static str, &'static str)]) -> Result<Settings, String> {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        Settings::parse(&settings)
    }

    #[test]
    fn defaults_are_those_of_kafka() {
        let settings = parse(&[("segment.ms", "1000")]).unwrap();
        assert_eq!(settings.retention, Some(Duration::from_millis(604_800_000)));
        assert_eq!(settings.retention_bytes, None);
        assert_eq!(settings.batch_bytes_max, None);
    }

    #[test]
    fn minus_one_is_unlimited() {
        let settings = parse(&[("retention.ms", "-1"), ("retention.bytes", "5000")]).unwrap();
        assert_eq!(
            (settings.retention, settings.retention_bytes),
            (None, Some(5000))
        );
    }

    #[test]
    fn a_log_that_is_only_compacted_is_never_trimmed() {
        let settings = parse(&[("retention.ms", "10"), ("cleanup.policy", "compact")]).unwrap();
        assert!(settings.compact.is_some() && settings.retention.is_none());
        let both = parse(&[("retention.ms", "10"), ("cleanup.policy", "compact,delete")]).unwrap();
        assert!(both.compact.is_some() && both.retention.is_some());
    }

    #[test]
    fn wrong_values_name_their_setting() {
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.bytes", "x"),
            ("cleanup.policy", "none"),
            ("mq.key", "level()"),
            ("mq.route.key", "${kee}"),
            ("mq.tap.max.lag.ms", "-2"),
            ("mq.tap.root.wildcards", "yes"),
        ] {
            assert!(parse(&[(name, value)]).unwrap_err().contains(name));
        }
    }
}
