//! Transactions in a partition: markers, the last stable offset, and the index of what was aborted.

use bytes::Bytes;

use super::{Partition, Producer};
use crate::{
    event::Refusal,
    id::Offset,
    log::{Marker, control},
    store::{
        StoreError, Table, keys,
        values::{Reader, Writer},
    },
    time::Now,
    transaction::ProducerInfo,
};

impl Partition {
    /// Writes the marker that ends a producer's transaction. From the coordinator it is never refused.
    pub fn end_transaction(&mut self, now: Now, marker: &Marker) -> Result<(), Refusal> {
        let id = marker.producer;
        let known = self.producers.get(&id);
        if marker.transaction == 0 && known.is_some_and(|known| known.epoch > marker.epoch) {
            return Err(Refusal::ProducerFenced);
        }
        self.pack();
        let base = self.next;
        let bytes = control::marker(id, marker.epoch, marker.commit, now.wall);
        self.push(now, 0, 0, now.wall.0 as i64, bytes);
        if !self.producers.contains_key(&id) {
            self.make_room_for_producer();
        }
        let producer = self
            .producers
            .entry(id)
            .or_insert_with(|| Producer::silent(marker.epoch, now.wall));
        let began = producer.end(marker, now.wall);
        self.turn.producers.insert(id);
        if let Some(first) = began {
            self.open_transactions.remove(&(first, id));
            if !marker.commit {
                self.note_aborted(id, first, base);
            }
        }
        Ok(())
    }

    fn note_aborted(&mut self, producer: i64, first: Offset, marker: Offset) {
        let aborted = AbortedRow {
            producer,
            first,
            last_stable: self.last_stable(),
        };
        self.turn.rows.put(
            Table::State,
            keys::aborted(self.log, self.number, marker),
            aborted.write(),
        );
        self.aborted_to = marker.next();
    }

    /// The first record of an open transaction, or the end.
    pub(super) fn last_stable(&self) -> Offset {
        self.open_transactions
            .first()
            .map_or(self.next, |(first, _)| *first)
    }

    /// The producers of open transactions.
    pub fn open_transactions(&self) -> impl Iterator<Item = i64> {
        self.open_transactions.iter().map(|(_, producer)| *producer)
    }

    /// What is known of the producers, for administration.
    pub fn describe_producers(&self) -> Vec<ProducerInfo> {
        let describe = |(id, producer): (&i64, &Producer)| ProducerInfo {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.touched,
            open: producer.open,
            is_marked: producer.is_marked,
        };
        let mut producers: Vec<_> = self.producers.iter().map(describe).collect();
        producers.sort_unstable_by_key(|producer| producer.id);
        producers
    }
}

/// The row of an aborted transaction; its key is the offset of the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct AbortedRow {
    pub producer: i64,
    pub first: Offset,
    /// The last stable offset behind it: what was aborted later begins here or beyond.
    pub last_stable: Offset,
}

impl AbortedRow {
    fn write(&self) -> Bytes {
        let mut writer = Writer::with_capacity(1, 24);
        writer.varint(self.producer as u64);
        writer.varint(self.first.0);
        writer.varint(self.last_stable.0);
        writer.done()
    }

    pub fn read(value: Bytes) -> Result<AbortedRow, StoreError> {
        let mut reader = Reader::new(value, 1)?;
        Ok(AbortedRow {
            producer: reader.varint()? as i64,
            first: Offset(reader.varint()?),
            last_stable: Offset(reader.varint()?),
        })
    }
}
