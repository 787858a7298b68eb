//! Idempotent producers of a partition: which of their batches came already (Kafka, KIP-98).
//!
//! A producer numbers its records per partition. The last five batches of each are remembered, as many as a
//! client has in flight: one that comes again is acknowledged again and not stored; one that leaves a gap is refused.

use smallvec::SmallVec;

use crate::{
    event::Refusal,
    id::Offset,
    log::Header,
    store::{
        StoreError,
        values::{Reader, Writer},
    },
    time::Timestamp,
    transaction::TransactionError,
};

/// As many batches as a client may have in flight.
const BATCHES_MAX: usize = 5;
/// Format 1 had no transactions.
const FORMAT: u8 = 3;

/// What one producer last appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub epoch: i16,
    /// Oldest first; none when its epoch is newer than all that it appended.
    batches: SmallVec<[Produced; BATCHES_MAX]>,
    /// When it last appended.
    pub touched: Timestamp,
    /// The first record of its open transaction.
    pub open: Option<Offset>,
    /// The newest of its transactions that has ended here, by the coordinator's number. Not stored: what could
    /// still be on its way does not outlive the process.
    ended: u64,
    /// Whether a transaction of its has ended here.
    pub is_marked: bool,
}

/// The end of a producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub producer: i64,
    pub epoch: i16,
    /// The coordinator's number of the transaction; 0 where an administrator ends it.
    pub transaction: u64,
    pub commit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Produced {
    first: i32,
    last: i32,
    base: Offset,
}

/// What a batch is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// To be appended.
    Next,
    /// Stored already, at this offset.
    Duplicate(Offset),
}

/// Judges a batch by what is known of its producer. One that is not known may begin anywhere: what was
/// known of it may have expired.
///
/// `transaction` is the number that the coordinator gave to the transaction which the batch is part of, else 0.
pub(super) fn check(
    known: Option<&Producer>,
    header: &Header,
    transaction: u64,
) -> Result<Arrival, Refusal> {
    let Some(known) = known else {
        return match header.producer_epoch {
            // The epoch of a producer that has none.
            ..-1 => Err(Refusal::ProducerFenced),
            _ => Ok(Arrival::Next),
        };
    };
    let transactional = header.attributes.is_transactional();
    if transactional && transaction <= known.ended || !transactional && known.open.is_some() {
        // It was under way when its transaction ended, or belongs to none while one is open.
        return Err(Refusal::Transaction(TransactionError::InvalidState));
    }
    if header.producer_epoch < known.epoch {
        return Err(Refusal::ProducerFenced);
    }
    if header.producer_epoch > known.epoch {
        return if header.base_sequence == 0 {
            Ok(Arrival::Next)
        } else {
            Err(Refusal::OutOfOrderSequence)
        };
    }
    let (first, last) = (header.base_sequence, last_sequence(header));
    if let Some(duplicate) = known
        .batches
        .iter()
        .find(|batch| batch.first == first && batch.last == last)
    {
        return Ok(Arrival::Duplicate(duplicate.base));
    }
    match known.batches.last() {
        Some(newest) if advance(newest.last, 1) == first => Ok(Arrival::Next),
        // The first of an epoch that a marker began.
        None if first == 0 => Ok(Arrival::Next),
        _ => Err(Refusal::OutOfOrderSequence),
    }
}

impl Producer {
    /// A producer with its first batch here.
    pub fn new(header: &Header, base: Offset, now: Timestamp) -> Producer {
        let mut producer = Producer::silent(header.producer_epoch, now);
        producer.add(header, base, now);
        producer
    }

    /// A producer that has not appended anything.
    pub fn silent(epoch: i16, now: Timestamp) -> Producer {
        Producer {
            epoch,
            batches: SmallVec::new(),
            touched: now,
            open: None,
            ended: 0,
            is_marked: false,
        }
    }

    /// Ends its transaction; where that began, if it had records here. A newer epoch of the marker fences
    /// whoever still has the old one, and begins with sequence number 0.
    pub fn end(&mut self, marker: &Marker, now: Timestamp) -> Option<Offset> {
        if marker.epoch > self.epoch {
            self.epoch = marker.epoch;
            self.batches.clear();
        }
        self.ended = self.ended.max(marker.transaction);
        self.is_marked = true;
        self.touched = now;
        self.open.take()
    }

    /// The sequence number of its newest record, or -1.
    pub fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last)
    }

    /// Takes note of the next batch, checked before.
    pub fn add(&mut self, header: &Header, base: Offset, now: Timestamp) {
        if self.epoch != header.producer_epoch {
            self.epoch = header.producer_epoch;
            self.batches.clear();
        }
        if self.batches.len() == BATCHES_MAX {
            self.batches.remove(0);
        }
        self.batches.push(Produced {
            first: header.base_sequence,
            last: last_sequence(header),
            base,
        });
        if header.attributes.is_transactional() {
            self.open.get_or_insert(base);
        }
        self.touched = now;
    }

    pub fn write(&self) -> bytes::Bytes {
        let mut writer = Writer::with_capacity(FORMAT, 96);
        writer.varint(self.epoch as u16 as u64);
        writer.varint(self.touched.0);
        writer.list(&self.batches, |writer, batch| {
            writer.varint(batch.first as u32 as u64);
            writer.varint(batch.last as u32 as u64);
            writer.varint(batch.base.0);
        });
        writer.option(self.open, |writer, open| writer.varint(open.0));
        writer.u8(self.is_marked.into());
        writer.done()
    }

    pub fn read(value: bytes::Bytes) -> Result<Producer, StoreError> {
        let (format, mut reader) = Reader::versioned(value, FORMAT)?;
        let epoch = reader.varint()? as u16 as i16;
        let touched = Timestamp(reader.varint()?);
        let batches = reader.list(|reader| {
            let (first, last) = (
                reader.varint()? as u32 as i32,
                reader.varint()? as u32 as i32,
            );
            Ok(Produced {
                first,
                last,
                base: Offset(reader.varint()?),
            })
        })?;
        let open = match format {
            1 => None,
            _ => reader.option(|reader| reader.varint().map(Offset))?,
        };
        let is_marked = format >= 3 && reader.u8()? != 0;
        Ok(Producer {
            epoch,
            batches: batches.into(),
            touched,
            open,
            ended: 0,
            is_marked,
        })
    }
}

fn last_sequence(header: &Header) -> i32 {
    advance(header.base_sequence, header.last_offset_delta)
}

/// Sequence numbers go from the greatest `i32` on to 0.
fn advance(sequence: i32, by: u32) -> i32 {
    ((sequence as u32).wrapping_add(by) & i32::MAX as u32) as i32
}
