//! What a shard gets back of the store when the broker opens, and what the rest of the broker must know of that.

use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use crate::{
    catalog::{LogEntry, QueueEntry},
    delay::{DelayEntry, Delays},
    id::{LogId, Offset},
    log::{self, Bounds},
    properties::Text,
    store::{Store, StoreError, messages},
    time::{Now, Timestamp},
};

impl Shard {
    /// The delayed exchanges found in the store; numbers from `first_number` on are new.
    pub(crate) fn recover_delays(&mut self, delays: Vec<Arc<DelayEntry>>, first_number: u64) {
        self.delays = Delays::new(first_number);
        for entry in delays {
            self.delays.add(entry, false);
        }
    }

    /// A queue found in the store.
    pub(crate) fn recover_queue(
        &mut self,
        entry: Arc<QueueEntry>,
        counters: Option<messages::QueueCounters>,
        now: Now,
    ) {
        self.add_queue(entry, counters, now);
    }

    /// The logs found in the store, and what the store holds of this shard's partitions.
    pub(crate) async fn recover_logs(
        &mut self,
        store: &dyn Store,
        logs: &[Arc<LogEntry>],
    ) -> Result<(), StoreError> {
        for entry in logs {
            self.create_log(entry);
        }
        log::recover(store, &mut self.partitions).await?;
        let used = self.partitions.iter_mut().filter(|(_, it)| it.is_used());
        for (id, partition) in used {
            self.upkeep.soon(*id, partition.upkeep(), Timestamp(0));
        }
        Ok(())
    }

    /// How far the tap has read this shard's partitions.
    pub(crate) fn tap_positions(&self) -> impl Iterator<Item = ((LogId, u32), Offset)> {
        self.partitions
            .iter()
            .filter_map(|(id, partition)| Some((*id, partition.tap()?)))
    }

    /// What is in the store of this shard's partitions.
    pub(crate) fn partition_bounds(&self) -> impl Iterator<Item = ((LogId, u32), Bounds)> {
        self.partitions
            .iter()
            .map(|(id, partition)| (*id, partition.tail().bounds()))
    }

    /// The producers of transactions that were open in partitions when the broker went down.
    pub(crate) fn open_transactions(&self) -> impl Iterator<Item = (i64, (LogId, u32))> {
        self.partitions.iter().flat_map(|(id, partition)| {
            partition
                .open_transactions()
                .map(|producer| (producer, *id))
        })
    }

    /// The producers of transactions that were to commit offsets of groups when the broker went down.
    pub(crate) fn pending_offsets(&self) -> impl Iterator<Item = (i64, Text)> {
        self.groups.pending_offsets()
    }

    /// What a share group knows of a partition.
    pub(crate) fn recover_share(&mut self, key: &Bytes, value: Bytes) -> Result<(), StoreError> {
        self.groups.recover_share(key, value)
    }

    /// The settings of a group, before anything else of it.
    pub(crate) fn recover_group_settings(
        &mut self,
        name: (Text, Text),
        row: Bytes,
    ) -> Result<(), StoreError> {
        self.groups.recover_settings(name, row)
    }

    /// The members of a group.
    pub(crate) fn recover_group_members(
        &mut self,
        now: Now,
        name: (Text, Text),
        row: Bytes,
    ) -> Result<(), StoreError> {
        self.groups.recover_members(now, name, row)
    }

    /// What a group was last.
    pub(crate) fn recover_group_kind(
        &mut self,
        name: (Text, Text),
        row: Bytes,
    ) -> Result<(), StoreError> {
        self.groups.recover_kind(name, row)
    }

    /// An offset that a transaction is to commit.
    pub(crate) fn recover_pending_offset(
        &mut self,
        key: &Bytes,
        value: Bytes,
    ) -> Result<(), StoreError> {
        self.groups.recover_pending(key, value)
    }

    /// An offset that a group has committed.
    pub(crate) fn recover_group_offset(
        &mut self,
        key: &Bytes,
        value: Bytes,
    ) -> Result<(), StoreError> {
        self.groups.recover(key, value)
    }
}
