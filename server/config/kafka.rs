//! `kafka.*`: what the Kafka front end and the coordinator of groups can be told.

use std::{net::SocketAddr, num::NonZeroU32, ops::RangeInclusive};

use serde::Deserialize;
use trivium_core::group::{Bounds, GroupBounds};

use super::{
    loopback,
    values::{HostPort, Millis, parsed, parsed_some},
};

/// What times may be.
const MILLIS: RangeInclusive<u32> = 1..=i32::MAX as u32;
/// What times that may be none at all may be.
const INTERVALS: RangeInclusive<u32> = 0..=i32::MAX as u32;
/// What times of a record's lock may be.
const LOCKS: RangeInclusive<u32> = 1_000..=3_600_000;

/// `kafka.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// Whether the protocol is spoken at all.
    #[serde(deserialize_with = "parsed")]
    pub enabled: bool,
    /// Address and port to listen on.
    #[serde(deserialize_with = "parsed")]
    pub listen: SocketAddr,
    /// Whether connections begin with a PROXY header.
    #[serde(deserialize_with = "parsed")]
    pub proxy_protocol: bool,
    /// The host and port that clients are told to connect to; the address they reached us by when unset.
    #[serde(deserialize_with = "parsed_some")]
    pub advertised: Option<HostPort>,
    /// Partitions of a topic that is created without a number.
    #[serde(deserialize_with = "parsed")]
    pub partitions: NonZeroU32,
    /// Bytes of a record batch at most, in topics without a `max.message.bytes` of their own.
    #[serde(deserialize_with = "parsed")]
    pub max_message_bytes: NonZeroU32,
    /// How long an empty consumer group waits for more members before its first generation.
    #[serde(deserialize_with = "parsed")]
    pub initial_rebalance_delay_ms: Millis,
    /// What groups have without settings of their own, and between what these may lie.
    pub group: Group,
}

impl Default for Kafka {
    fn default() -> Kafka {
        Kafka {
            enabled: true,
            listen: loopback(9092),
            proxy_protocol: false,
            advertised: None,
            partitions: NonZeroU32::MIN,
            max_message_bytes: const { NonZeroU32::new(1_048_588).unwrap() },
            initial_rebalance_delay_ms: Millis(250),
            group: Group::default(),
        }
    }
}

/// `kafka.group.*`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Group {
    /// Groups of the consumer protocol.
    pub consumer: ConsumerGroups,
    /// Share groups.
    pub share: ShareGroups,
}

impl Group {
    /// All of them; the error names the key of one that is not between its bounds.
    pub fn bounds(&self) -> Result<GroupBounds, String> {
        let (consumer, share) = (&self.consumer, &self.share);
        Ok(GroupBounds {
            consumer_session: consumer.session_timeout_ms()?,
            consumer_interval: consumer.heartbeat_interval_ms()?,
            consumer_assignment: consumer.assignment_interval_ms()?,
            share_assignment: share.assignment_interval_ms()?,
            share_session: share.session_timeout_ms()?,
            share_interval: share.heartbeat_interval_ms()?,
            lock: share.record_lock_duration_ms()?,
            deliveries: share.delivery_count_limit()?,
            records: share.partition_max_record_locks()?,
        })
    }
}

/// Settings with their bounds: three keys each, which may have values of a range.
macro_rules! bounded {
    ($(#[$about:meta])* $name:ident: $table:literal {
        $($setting:ident, $min:ident, $max:ident: $range:expr => $bounds:ident;)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                #[serde(deserialize_with = "parsed")]
                $setting: u32,
                #[serde(deserialize_with = "parsed")]
                $min: u32,
                #[serde(deserialize_with = "parsed")]
                $max: u32,
            )*
        }

        impl $name {
            $(fn $setting(&self) -> Result<Bounds, String> {
                let key = concat!($table, ".", stringify!($setting));
                checked(key, [self.$setting, self.$min, self.$max], $range)
            })*
        }

        impl Default for $name {
            fn default() -> $name {
                let bounds = GroupBounds::default();
                $name {
                    $(
                        $setting: bounds.$bounds.default,
                        $min: bounds.$bounds.min,
                        $max: bounds.$bounds.max,
                    )*
                }
            }
        }
    };
}

bounded! {
    /// `kafka.group.consumer.*`
    ConsumerGroups: "kafka.group.consumer" {
        session_timeout_ms, min_session_timeout_ms, max_session_timeout_ms: MILLIS => consumer_session;
        heartbeat_interval_ms, min_heartbeat_interval_ms, max_heartbeat_interval_ms: MILLIS => consumer_interval;
        assignment_interval_ms, min_assignment_interval_ms, max_assignment_interval_ms: INTERVALS => consumer_assignment;
    }
}

bounded! {
    /// `kafka.group.share.*`
    ShareGroups: "kafka.group.share" {
        session_timeout_ms, min_session_timeout_ms, max_session_timeout_ms: MILLIS => share_session;
        heartbeat_interval_ms, min_heartbeat_interval_ms, max_heartbeat_interval_ms: MILLIS => share_interval;
        assignment_interval_ms, min_assignment_interval_ms, max_assignment_interval_ms: INTERVALS => share_assignment;
        record_lock_duration_ms, min_record_lock_duration_ms, max_record_lock_duration_ms: LOCKS => lock;
        delivery_count_limit, min_delivery_count_limit, max_delivery_count_limit: 2..=25 => deliveries;
        partition_max_record_locks, min_partition_max_record_locks, max_partition_max_record_locks: 100..=10_000
            => records;
    }
}

/// One that is between its bounds, which are in `range`.
fn checked(
    key: &str,
    [default, min, max]: [u32; 3],
    range: RangeInclusive<u32>,
) -> Result<Bounds, String> {
    if !(range.contains(&min) && range.contains(&max)) {
        let (least, most) = range.into_inner();
        return Err(format!(
            "the bounds of '{key}' are not between {least} and {most}"
        ));
    }
    match (min..=max).contains(&default) {
        true => Ok(Bounds { default, min, max }),
        false => Err(format!(
            "'{key}' is {default}, and not between its bounds {min} and {max}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kafkas_and_hold_for_themselves() {
        let mut group = Group::default();
        assert_eq!(group.bounds(), Ok(GroupBounds::default()));
        group.consumer.session_timeout_ms = 10_000;
        assert_eq!(
            group.bounds().unwrap_err(),
            "'kafka.group.consumer.session_timeout_ms' is 10000, and not between its bounds 45000 and 60000"
        );
        group.consumer.min_session_timeout_ms = 6_000;
        assert_eq!(group.bounds().unwrap().consumer_session.default, 10_000);
        group.share.max_delivery_count_limit = 26;
        assert_eq!(
            group.bounds().unwrap_err(),
            "the bounds of 'kafka.group.share.delivery_count_limit' are not between 2 and 25"
        );
    }
}
