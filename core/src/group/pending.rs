//! Offsets that open transactions are to commit for a group, in memory and as rows.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    CommittedOffset,
    offsets::{read, write},
};
use crate::{
    properties::Text,
    store::{Batch, StoreError, Table, keys},
    time::Timestamp,
};

/// By producer, then by log and partition.
#[derive(Debug, Default)]
pub(super) struct PendingOffsets {
    by_producer: BTreeMap<i64, BTreeMap<(Text, u32), CommittedOffset>>,
}

impl PendingOffsets {
    pub fn is_empty(&self) -> bool {
        self.by_producer.is_empty()
    }

    pub fn producers(&self) -> impl Iterator<Item = i64> {
        self.by_producer.keys().copied()
    }

    /// Whether a transaction is to commit an offset of this partition.
    pub fn holds(&self, partition: &(Text, u32)) -> bool {
        self.by_producer
            .values()
            .any(|offsets| offsets.contains_key(partition))
    }

    /// The partitions of which a transaction is to commit an offset.
    pub fn partitions(&self) -> impl Iterator<Item = &(Text, u32)> {
        self.by_producer.values().flat_map(BTreeMap::keys)
    }

    pub fn add(
        &mut self,
        now: Timestamp,
        (vhost, group): &(Text, Text),
        producer: i64,
        offsets: Vec<CommittedOffset>,
        batch: &mut Batch,
    ) {
        let pending = self.by_producer.entry(producer).or_default();
        for offset in offsets {
            let key = keys::pending_offset(vhost, group, producer, &offset.log, offset.partition);
            batch.put(Table::State, key, write(now, &offset));
            pending.insert((offset.log.clone(), offset.partition), offset);
        }
    }

    /// The producer's transaction has ended; what it was to commit.
    pub fn take(
        &mut self,
        (vhost, group): &(Text, Text),
        producer: i64,
        batch: &mut Batch,
    ) -> Vec<CommittedOffset> {
        let pending = self.by_producer.remove(&producer).unwrap_or_default();
        for (log, partition) in pending.keys() {
            batch.delete(
                Table::State,
                keys::pending_offset(vhost, group, producer, log, *partition),
            );
        }
        pending.into_values().collect()
    }

    /// The group goes.
    pub fn delete(&mut self, name: &(Text, Text), batch: &mut Batch) {
        let producers: Vec<i64> = self.producers().collect();
        for producer in producers {
            drop(self.take(name, producer, batch));
        }
    }

    /// Drops the offsets in a log.
    pub fn forget_log(&mut self, (vhost, group): &(Text, Text), log: &str, batch: &mut Batch) {
        self.by_producer.retain(|producer, offsets| {
            offsets.retain(|(name, partition), _| {
                if name == log {
                    let key = keys::pending_offset(vhost, group, *producer, log, *partition);
                    batch.delete(Table::State, key);
                }
                name != log
            });
            !offsets.is_empty()
        });
    }

    /// Takes a row that was found when the broker opened.
    pub fn restore(
        &mut self,
        producer: i64,
        log: Text,
        partition: u32,
        value: Bytes,
    ) -> Result<(), StoreError> {
        let (_, offset) = read(log.clone(), partition, value)?;
        let pending = self.by_producer.entry(producer).or_default();
        pending.insert((log, partition), offset);
        Ok(())
    }
}
