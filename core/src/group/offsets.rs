//! The offsets that a group has committed, in memory and as rows.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::CommittedOffset;
use crate::{
    id::Offset,
    properties::Text,
    store::{
        Batch, StoreError, Table, keys,
        values::{Reader, Writer},
    },
    time::Timestamp,
};

const FORMAT: u8 = 1;

/// Committed offsets by log and partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    offsets: BTreeMap<(Text, u32), CommittedOffset>,
    /// When the newest was committed.
    newest: Timestamp,
}

impl Offsets {
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// When the newest was committed.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    pub fn commit(
        &mut self,
        now: Timestamp,
        (vhost, group): &(Text, Text),
        offsets: Vec<CommittedOffset>,
        batch: &mut Batch,
    ) {
        for committed in offsets {
            let key = keys::group_offset(vhost, group, &committed.log, committed.partition);
            batch.put(Table::State, key, write(now, &committed));
            self.insert(now, committed);
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &CommittedOffset> {
        self.offsets.values()
    }

    /// All, or those of the given partitions that there are.
    pub fn find(&self, partitions: Option<Vec<(Text, u32)>>) -> Vec<CommittedOffset> {
        match partitions {
            None => self.offsets.values().cloned().collect(),
            Some(wanted) => wanted
                .iter()
                .filter_map(|key| self.offsets.get(key))
                .cloned()
                .collect(),
        }
    }

    pub fn delete(&mut self, (vhost, group): &(Text, Text), batch: &mut Batch) {
        for (log, partition) in std::mem::take(&mut self.offsets).into_keys() {
            batch.delete(
                Table::State,
                keys::group_offset(vhost, group, &log, partition),
            );
        }
    }

    pub fn remove(
        &mut self,
        (vhost, group): &(Text, Text),
        partition: &(Text, u32),
        batch: &mut Batch,
    ) {
        if self.offsets.remove(partition).is_some() {
            let (log, number) = partition;
            batch.delete(Table::State, keys::group_offset(vhost, group, log, *number));
        }
    }

    /// Drops the offsets in a log.
    pub fn forget_log(&mut self, (vhost, group): &(Text, Text), log: &str, batch: &mut Batch) {
        self.offsets.retain(|(name, partition), _| {
            if name == log {
                batch.delete(
                    Table::State,
                    keys::group_offset(vhost, group, log, *partition),
                );
            }
            name != log
        });
    }

    /// Takes a row that was found when the broker opened.
    pub fn restore(&mut self, log: Text, partition: u32, value: Bytes) -> Result<(), StoreError> {
        let (committed_at, committed) = read(log, partition, value)?;
        self.insert(committed_at, committed);
        Ok(())
    }

    fn insert(&mut self, at: Timestamp, committed: CommittedOffset) {
        self.newest = self.newest.max(at);
        self.offsets
            .insert((committed.log.clone(), committed.partition), committed);
    }
}

pub(super) fn write(at: Timestamp, committed: &CommittedOffset) -> Bytes {
    let mut writer = Writer::new(FORMAT);
    writer.varint(committed.offset.0);
    writer.varint(committed.leader_epoch as u32 as u64);
    writer.text(&committed.metadata);
    writer.varint(at.0);
    writer.done()
}

pub(super) fn read(
    log: Text,
    partition: u32,
    value: Bytes,
) -> Result<(Timestamp, CommittedOffset), StoreError> {
    let mut reader = Reader::new(value, FORMAT)?;
    let offset = Offset(reader.varint()?);
    let leader_epoch = reader.varint()? as u32 as i32;
    let metadata = reader.text()?;
    let at = Timestamp(reader.varint()?);
    Ok((
        at,
        CommittedOffset {
            log,
            partition,
            offset,
            leader_epoch,
            metadata,
        },
    ))
}
