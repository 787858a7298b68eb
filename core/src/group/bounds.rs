//! What the numbers among a group's settings are where it has none of its own, and between what they may lie: Kafka's
//! broker settings `group.consumer.*` and `group.share.*`.

/// Of one setting; times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// `group.KIND.NAME`
    pub default: u32,
    /// `group.KIND.min.NAME`
    pub min: u32,
    /// `group.KIND.max.NAME`
    pub max: u32,
}

const fn bounds(default: u32, min: u32, max: u32) -> Bounds {
    Bounds { default, min, max }
}

// Streams groups (KIP-1071) are not served: their settings are kept within Kafka's bounds, and have no effect.
const STREAMS_SESSION: Bounds = bounds(45_000, 45_000, 60_000);
const STREAMS_INTERVAL: Bounds = bounds(5_000, 5_000, 15_000);
const STREAMS_ASSIGNMENT: Bounds = bounds(1_000, 0, 15_000);
const STREAMS_STANDBYS: Bounds = bounds(0, 0, 2);
const STREAMS_DELAY: Bounds = bounds(3_000, 0, i32::MAX as u32);

/// Of all settings, as the broker's configuration has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBounds {
    /// `consumer.session.timeout.ms`
    pub consumer_session: Bounds,
    /// `consumer.heartbeat.interval.ms`
    pub consumer_interval: Bounds,
    /// `consumer.assignment.interval.ms`
    pub consumer_assignment: Bounds,
    /// `share.assignment.interval.ms`
    pub share_assignment: Bounds,
    /// `share.session.timeout.ms`
    pub share_session: Bounds,
    /// `share.heartbeat.interval.ms`
    pub share_interval: Bounds,
    /// `share.record.lock.duration.ms`
    pub lock: Bounds,
    /// `share.delivery.count.limit`
    pub deliveries: Bounds,
    /// `share.partition.max.record.locks`
    pub records: Bounds,
}

impl GroupBounds {
    /// Of the setting of this name, if it is a number.
    pub fn of(&self, setting: &str) -> Option<Bounds> {
        Some(match setting {
            "consumer.session.timeout.ms" => self.consumer_session,
            "consumer.heartbeat.interval.ms" => self.consumer_interval,
            "consumer.assignment.interval.ms" => self.consumer_assignment,
            "share.assignment.interval.ms" => self.share_assignment,
            "share.session.timeout.ms" => self.share_session,
            "share.heartbeat.interval.ms" => self.share_interval,
            "share.record.lock.duration.ms" => self.lock,
            "share.delivery.count.limit" => self.deliveries,
            "share.partition.max.record.locks" => self.records,
            "streams.session.timeout.ms" => STREAMS_SESSION,
            "streams.heartbeat.interval.ms" => STREAMS_INTERVAL,
            "streams.assignment.interval.ms" => STREAMS_ASSIGNMENT,
            "streams.num.standby.replicas" => STREAMS_STANDBYS,
            "streams.initial.rebalance.delay.ms" => STREAMS_DELAY,
            _ => return None,
        })
    }
}

impl Default for GroupBounds {
    /// Kafka's, but that nobody waits for an assignment.
    fn default() -> GroupBounds {
        GroupBounds {
            consumer_session: bounds(45_000, 45_000, 60_000),
            consumer_interval: bounds(5_000, 5_000, 15_000),
            consumer_assignment: bounds(0, 0, 15_000),
            share_assignment: bounds(0, 0, 15_000),
            share_session: bounds(45_000, 45_000, 60_000),
            share_interval: bounds(5_000, 5_000, 15_000),
            lock: bounds(30_000, 15_000, 60_000),
            deliveries: bounds(5, 2, 10),
            records: bounds(2_000, 100, 4_000),
        }
    }
}
