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

/// Of all settings, as the broker's configuration has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBounds {
    /// `consumer.session.timeout.ms`
    pub consumer_session: Bounds,
    /// `consumer.heartbeat.interval.ms`
    pub consumer_interval: Bounds,
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
            "share.session.timeout.ms" => self.share_session,
            "share.heartbeat.interval.ms" => self.share_interval,
            "share.record.lock.duration.ms" => self.lock,
            "share.delivery.count.limit" => self.deliveries,
            "share.partition.max.record.locks" => self.records,
            _ => return None,
        })
    }
}

impl Default for GroupBounds {
    /// Kafka's.
    fn default() -> GroupBounds {
        let bounds = |default, min, max| Bounds { default, min, max };
        GroupBounds {
            consumer_session: bounds(45_000, 45_000, 60_000),
            consumer_interval: bounds(5_000, 5_000, 15_000),
            share_session: bounds(45_000, 45_000, 60_000),
            share_interval: bounds(5_000, 5_000, 15_000),
            lock: bounds(30_000, 15_000, 60_000),
            deliveries: bounds(5, 2, 10),
            records: bounds(2_000, 100, 10_000),
        }
    }
}
