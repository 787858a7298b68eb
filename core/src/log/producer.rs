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
};

/// As many batches as a client may have in flight.
const BATCHES_MAX: usize = 5;
const FORMAT: u8 = 1;

/// What one producer last appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    epoch: i16,
    /// Oldest first, at least one.
    batches: SmallVec<[Produced; BATCHES_MAX]>,
    /// When it last appended.
    pub touched: Timestamp,
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
pub(super) fn check(known: Option<&Producer>, header: &Header) -> Result<Arrival, Refusal> {
    let Some(known) = known else {
        return Ok(Arrival::Next);
    };
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
        Some(newest) if advance(newest.last, 1) != first => Err(Refusal::OutOfOrderSequence),
        _ => Ok(Arrival::Next),
    }
}

impl Producer {
    /// A producer with its first batch here.
    pub fn new(header: &Header, base: Offset, now: Timestamp) -> Producer {
        let mut producer = Producer {
            epoch: header.producer_epoch,
            batches: SmallVec::new(),
            touched: now,
        };
        producer.add(header, base, now);
        producer
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
        writer.done()
    }

    pub fn read(value: bytes::Bytes) -> Result<Producer, StoreError> {
        let mut reader = Reader::new(value, FORMAT)?;
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
        Ok(Producer {
            epoch,
            touched,
            batches: batches.into(),
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
