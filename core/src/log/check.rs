//! The walk through the records of a producer's batch, before it is stored: whether they can be read, what time they
//! are of, and which of them the log's settings refuse. A record is passed over field by field, so that the walk needs
//! no memory but that of the codec, whatever lengths and counts say.

use super::{
    batch::{BatchError, Header},
    codec::Source,
};
use crate::event::RecordFault;

/// So many refused records are named at most.
const FAULTS_MAX: usize = 4096;
/// Records without a time have this one.
const NO_TIME: i64 = -1;

/// Bytes of the longest varints of 32 and of 64 bits.
const INT_BYTES_MAX: usize = 5;
const LONG_BYTES_MAX: usize = 10;

/// What is asked of the records of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Every record needs a key.
    pub keys: bool,
    /// The bounds of a record's time; none where the broker's clock decides.
    pub times: Option<Times>,
    /// Offsets count up from 0, because the records are stored compressed as they are.
    pub offsets: bool,
}

/// Between what a record's time may lie, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub now: i64,
    /// So much before now, and so much after.
    pub before: i64,
    pub after: i64,
}

impl Times {
    /// As Kafka reckons, with what overflows.
    fn hold(&self, time: i64) -> bool {
        let ago = self.now.wrapping_sub(time);
        ago <= self.before && ago.wrapping_neg() <= self.after
    }
}

/// What the records of a batch are like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// The greatest time of a record, or -1.
    pub max_timestamp: i64,
    /// Whether their offsets count up from 0, their times from the first one's, and their attributes are 0, as every
    /// client writes them.
    pub regular: bool,
    /// Places of records that are refused, and why.
    pub faults: Vec<(u32, RecordFault)>,
}

/// Walks through the records of a batch, of which `source` has the expanded bytes: exactly as many records as the
/// header counts, each exactly as long as it says.
pub(super) fn walk(
    header: &Header,
    source: &mut impl Source,
    rules: Rules,
) -> Result<Walked, BatchError> {
    let mut walk = Walk { source, left: 0 };
    let mut walked = Walked {
        max_timestamp: NO_TIME,
        regular: true,
        faults: Vec::new(),
    };
    for place in 0..header.count {
        let record = walk.record()?;
        let counts_up = i64::from(record.offset) == i64::from(place);
        if rules.offsets && !counts_up {
            return Err(BatchError::Offsets);
        }
        let is_base = place > 0 || record.time == 0;
        walked.regular &= counts_up && is_base && record.attributes == 0;
        let time = match header.attributes.is_log_append_time() {
            true => header.max_timestamp,
            false => header.base_timestamp.wrapping_add(record.time),
        };
        walked.max_timestamp = walked.max_timestamp.max(time);
        if let Some(fault) = fault(header, &record, time, rules)
            && walked.faults.len() < FAULTS_MAX
        {
            walked.faults.push((place, fault));
        }
    }
    match walk.source.piece()?.is_empty() {
        true => Ok(walked),
        false => Err(BatchError::Record),
    }
}

/// What is wrong with a record that can be read.
#[inline]
fn fault(header: &Header, record: &Passed, timestamp: i64, rules: Rules) -> Option<RecordFault> {
    let offset = i64::from(record.offset);
    if rules.keys && record.key < 0 {
        return Some(RecordFault::NoKey);
    }
    match rules.times {
        Some(times) if timestamp != NO_TIME => {
            (!times.hold(timestamp)).then(|| RecordFault::Timestamp {
                offset,
                timestamp,
                oldest: times.now.wrapping_sub(times.before),
                newest: times.now.wrapping_add(times.after),
            })
        }
        _ => header
            .attributes
            .is_log_append_time()
            .then_some(RecordFault::TimestampType {
                offset,
                timestamp,
                key: record.key,
                value: record.value,
            }),
    }
}

/// A record that was passed over. Lengths are negative where there is none.
#[derive(Clone, Copy, Debug)]
struct Passed {
    attributes: u8,
    time: i64,
    offset: i32,
    key: i32,
    value: i32,
}

struct Walk<'a, S> {
    source: &'a mut S,
    /// Bytes of the record that are still to come.
    left: usize,
}

impl<S: Source> Walk<'_, S> {
    fn record(&mut self) -> Result<Passed, BatchError> {
        // The length is not part of what it counts.
        self.left = INT_BYTES_MAX;
        let length = self.int()?;
        self.left = usize::try_from(length).map_err(|_| BatchError::Record)?;
        self.fields().map_err(|error| match error {
            BatchError::Number => BatchError::Record,
            error => error,
        })
    }

    #[inline]
    fn fields(&mut self) -> Result<Passed, BatchError> {
        let attributes = self.byte()?;
        let time = self.long()?;
        let offset = self.int()?;
        let (key, value) = (self.section()?, self.section()?);
        let headers = self.int()?;
        if headers < 0 {
            return Err(BatchError::Record);
        }
        for _ in 0..headers {
            if self.section()? < 0 {
                return Err(BatchError::Record);
            }
            self.section()?;
        }
        match self.left {
            0 => Ok(Passed {
                attributes,
                time,
                offset,
                key,
                value,
            }),
            _ => Err(BatchError::Record),
        }
    }

    /// A length and so many bytes.
    #[inline]
    fn section(&mut self) -> Result<i32, BatchError> {
        let length = self.int()?;
        if let Ok(bytes) = usize::try_from(length) {
            self.skip(bytes)?;
        }
        Ok(length)
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Result<(), BatchError> {
        self.left = self.left.checked_sub(bytes).ok_or(BatchError::Record)?;
        let mut left = bytes;
        while left > 0 {
            let there = self.source.piece()?.len().min(left);
            if there == 0 {
                return Err(BatchError::Record);
            }
            self.source.take(there);
            left -= there;
        }
        Ok(())
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, BatchError> {
        self.left = self.left.checked_sub(1).ok_or(BatchError::Record)?;
        let byte = *self.source.piece()?.first().ok_or(BatchError::Record)?;
        self.source.take(1);
        Ok(byte)
    }

    /// A zigzag varint of 32 bits, in at most five bytes; bits beyond those are lost.
    #[inline]
    fn int(&mut self) -> Result<i32, BatchError> {
        let raw = self.raw(INT_BYTES_MAX)? as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zigzag varint of 64 bits, in at most ten bytes.
    #[inline]
    fn long(&mut self) -> Result<i64, BatchError> {
        let raw = self.raw(LONG_BYTES_MAX)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    #[inline]
    fn raw(&mut self, bytes_max: usize) -> Result<u64, BatchError> {
        let mut raw = 0;
        for at in 0..bytes_max {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                return Ok(raw);
            }
        }
        Err(BatchError::Number)
    }
}
