//! What is stored of a partition besides its records, and reading it back.

use std::ops::Range;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{Partition, Producer, Segment};
use crate::{
    id::{LogId, Offset},
    store::{
        Batch, ScanLimit, Store, StoreError, Table, keys,
        values::{Reader, Writer},
    },
};

/// Format 1 had no transactions, 2 no compaction.
const FORMAT: u8 = 3;

impl Partition {
    pub(super) fn write(&self) -> Bytes {
        let mut writer = Writer::with_capacity(FORMAT, 64);
        writer.varint(self.next.0);
        writer.varint(self.log_start.0);
        writer.option(self.tap, |writer, tap| writer.varint(tap.0));
        self.open.write_fields(&mut writer);
        writer.varint(self.aborted_to.0);
        writer.varint(self.clean_to.0);
        writer.done()
    }

    pub(super) fn restore(&mut self, value: Bytes) -> Result<(), StoreError> {
        let (format, mut reader) = Reader::versioned(value, FORMAT)?;
        self.next = Offset(reader.varint()?);
        self.log_start = Offset(reader.varint()?);
        self.tap = reader.option(|reader| reader.varint().map(Offset))?;
        self.open = Segment::read_fields(&mut reader)?;
        if format > 1 {
            self.aborted_to = Offset(reader.varint()?);
        }
        if format > 2 {
            self.clean_to = Offset(reader.varint()?);
        }
        Ok(())
    }

    pub(super) fn restore_segment(&mut self, _last: u64, value: Bytes) -> Result<(), StoreError> {
        let segment = Segment::read(value)?;
        self.full_bytes += segment.bytes;
        self.segments.push_back(segment);
        Ok(())
    }

    pub(super) fn restore_producer(&mut self, id: u64, value: Bytes) -> Result<(), StoreError> {
        let id = id as i64;
        let producer = Producer::read(value)?;
        self.open_transactions
            .extend(producer.open.map(|open| (open, id)));
        self.producers.insert(id, producer);
        Ok(())
    }
}

/// Removes everything of a log whose partitions' tails were closed.
pub(crate) fn delete_log(log: LogId, batch: &mut Batch) {
    batch.forget(Table::Records, keys::log_records(log));
    for range in [
        keys::partition_states(log),
        keys::producers(log),
        keys::log_segments(log),
        keys::log_aborted(log),
    ] {
        batch.forget(Table::State, range);
    }
}

/// Entries that recovery reads at a time.
const RECOVERY_PAGE: ScanLimit = ScanLimit {
    entries: 4096,
    bytes: 1 << 20,
};

/// Reads the state of the given new partitions from the store. Rows of other partitions are left alone.
pub(crate) async fn recover(
    store: &dyn Store,
    partitions: &mut FxHashMap<(LogId, u32), Partition>,
) -> Result<(), StoreError> {
    type Restore = fn(&mut Partition, u64, Bytes) -> Result<(), StoreError>;
    let kinds: [(Range<Bytes>, Restore); 3] = [
        (keys::all_partition_states(), |partition, _, value| {
            partition.restore(value)
        }),
        (keys::all_segments(), Partition::restore_segment),
        (keys::all_producers(), Partition::restore_producer),
    ];
    for (mut range, restore) in kinds {
        loop {
            let page = store
                .scan(Table::State, range.clone(), RECOVERY_PAGE)
                .await?;
            for (key, value) in page.entries {
                let Some(id) = keys::state_partition(&key) else {
                    return Err(StoreError::Corrupt(
                        "the key of a partition's row is too short".into(),
                    ));
                };
                if let Some(partition) = partitions.get_mut(&id) {
                    restore(
                        partition,
                        keys::state_number(&key).unwrap_or_default(),
                        value,
                    )?;
                }
            }
            match page.next {
                Some(next) => range.start = next,
                None => break,
            }
        }
    }
    for partition in partitions.values() {
        partition.show();
    }
    Ok(())
}
