//! Bounds that the consumers of a channel share.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Link;
use crate::{id::ConsumerId, queue::ChannelLimit, shard::Op};

/// The channels of a connection that have consumers or a bound.
#[derive(Debug, Default)]
pub(super) struct Channels {
    limits: FxHashMap<u16, Arc<ChannelLimit>>,
    consumers: FxHashMap<ConsumerId, u16>,
    /// Channels with more room than their consumers' shards know of.
    freed: FxHashSet<u16>,
}

impl Channels {
    /// Adds a consumer to a channel: the bound that it shares.
    pub(super) fn join(&mut self, channel: u16, consumer: ConsumerId) -> Arc<ChannelLimit> {
        self.consumers.insert(consumer, channel);
        self.limits.entry(channel).or_default().clone()
    }

    pub(super) fn set_limit(&mut self, channel: u16, limit: Option<u32>, unsettled: u32) {
        let shared = self.limits.entry(channel).or_default();
        shared.set(limit, unsettled);
        self.freed.insert(channel);
    }

    /// Whether the consumers of a channel share a bound.
    pub(super) fn is_limited(&self, channel: u16) -> bool {
        self.limits
            .get(&channel)
            .is_some_and(|limit| limit.is_set())
    }

    /// Deliveries of a consumer are being settled.
    pub(super) fn settled(&mut self, consumer: ConsumerId, deliveries: u64) {
        let Some(channel) = self.consumers.get(&consumer) else {
            return;
        };
        if let Some(limit) = self.limits.get(channel).filter(|limit| limit.is_set()) {
            limit.give_back(u32::try_from(deliveries).unwrap_or(u32::MAX));
            self.freed.insert(*channel);
        }
    }
}

impl Link {
    /// Has consumers go on whose channel has room again.
    pub(super) fn wake_channels(&mut self) {
        let Some(channels) = self.channels.get_mut() else {
            return;
        };
        if channels.freed.is_empty() {
            return;
        }
        let freed = std::mem::take(&mut channels.freed);
        for (&consumer, channel) in &channels.consumers {
            if freed.contains(channel)
                && let Some(feed) = self.consumers.get(&consumer)
            {
                self.outgoing
                    .push(feed.shard, Op::Credit { consumer, bytes: 0 });
            }
        }
    }
}
