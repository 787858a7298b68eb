//! Kafka record batches v2, the storage format of logs: the header and its checks.
//!
//! ```text
//!  0 base offset i64 │ 8 length i32 │ 12 leader epoch i32 │ 16 magic i8 │ 17 crc u32 │ 21 attributes i16
//! 23 last offset delta i32 │ 27 base timestamp i64 │ 35 max timestamp i64 │ 43 producer id i64
//! 51 producer epoch i16 │ 53 base sequence i32 │ 57 count i32 │ 61 records, compressed as the attributes say
//! ```
//!
//! The length counts what follows it; the checksum covers everything from the attributes on, so base offset
//! and leader epoch may be changed without it.

use bytes::{Buf, Bytes};

use crate::event::Refusal;

/// Bytes before the records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes before those that the length field counts.
const LENGTH_END: usize = 12;
/// Where the part under the checksum begins.
pub(super) const CRC_END: usize = 21;
pub(super) const MAGIC: i8 = 2;

/// The fixed part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// As stored in the bytes: a producer sends 0, whoever serves a batch knows the true one.
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: Attributes,
    /// The last record's offset is the base offset and this.
    pub last_offset_delta: u32,
    /// Milliseconds, or -1.
    pub base_timestamp: i64,
    /// Milliseconds, or -1.
    pub max_timestamp: i64,
    /// -1 when the producer is not idempotent.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// Number of records. Compaction may make it less than `last_offset_delta + 1`.
    pub count: u32,
}

impl Header {
    /// The header of a stored batch, without a look at its checksum.
    pub fn peek(bytes: &[u8]) -> Option<Header> {
        parse(bytes).ok()
    }
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    /// Bits 0 to 2, the number of the codec.
    pub fn codec(self) -> u8 {
        (self.0 & 0b111) as u8
    }

    /// Bit 3: the broker's clock decides; every record has the batch's greatest timestamp.
    pub fn is_log_append_time(self) -> bool {
        self.0 & 0b1000 != 0
    }

    /// Bit 4: part of a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & 0b1_0000 != 0
    }

    /// Bit 5: a transaction marker, which only brokers write.
    pub fn is_control(self) -> bool {
        self.0 & 0b10_0000 != 0
    }

    /// Bit 6: see [`Header::delete_horizon`].
    pub(super) const DELETE_HORIZON: i16 = 0b100_0000;

    /// Bit 3, see [`Attributes::is_log_append_time`].
    pub(super) const LOG_APPEND_TIME: i16 = 0b1000;

    /// Bits 0 to 2, see [`Attributes::codec`].
    pub(super) const CODEC: i16 = 0b111;

    /// What a broker keeps when it writes attributes again: all that has a meaning but for the clock that decides.
    pub(super) const KEPT: i16 = 0b111_0111;
}

impl Header {
    /// From when on tombstones in the batch may go, in milliseconds; compaction puts it in the place of the base
    /// timestamp (KIP-534).
    pub(super) fn delete_horizon(&self) -> Option<i64> {
        (self.attributes.0 & Attributes::DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }
}

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not exactly one whole batch.
    #[error("batch length does not match its bytes")]
    Length,
    /// An older format, which no broker of today takes.
    #[error("batch has magic {0}, only 2 is supported")]
    Magic(i8),
    /// The bytes were damaged on the way or on disk.
    #[error("batch checksum does not match")]
    Crc,
    /// Counts or offsets contradict each other.
    #[error("batch holds {count} records but its last offset delta is {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    /// A producer numbers records from 0; what they are numbered by is for the log.
    #[error("base offset of a batch should be 0, but it is {0}")]
    BaseOffset(i64),
    /// An idempotent producer's batch without a sequence number.
    #[error("invalid sequence number {sequence} in a batch of producer {producer}")]
    Sequence { producer: i64, sequence: i32 },
    /// A transaction marker from a client.
    #[error("control batches are written by brokers only")]
    Control,
    /// A codec that does not exist.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// What the codec cannot read.
    #[error("compressed records are damaged")]
    Compression,
    /// More than the reader wants to hold.
    #[error("records are larger than {0} bytes when decompressed")]
    TooLarge(usize),
    /// A length or number inside the records, or there are not as many as the header says.
    #[error("records are malformed, or not as many as the batch counts")]
    Record,
    /// The length of a record is no number at all.
    #[error("a record has no length")]
    Number,
    /// Compressed records cannot be numbered again without writing them again.
    #[error("offsets of compressed records do not count up from 0")]
    Offsets,
}

impl From<BatchError> for Refusal {
    fn from(error: BatchError) -> Refusal {
        Refusal::Batch(error)
    }
}

/// The number of the newest codec, zstd.
const CODEC_MAX: u8 = 4;

/// Checks that `bytes` are exactly one batch that a client may append, as far as its header says. What is wrong first
/// is said, in Kafka's order.
pub fn validate(bytes: &[u8]) -> Result<Header, BatchError> {
    let (header, ..) = fields(bytes)?;
    check_crc(bytes, header.crc)?;
    if header.attributes.codec() > CODEC_MAX {
        return Err(BatchError::Codec(header.attributes.codec()));
    }
    // Only compaction leaves holes, and clients do not compact.
    let header = parse(bytes)?;
    if header.count != header.last_offset_delta + 1 {
        return Err(count_mismatch(
            header.count as i32,
            header.last_offset_delta as i32,
        ));
    }
    if header.attributes.is_control() {
        return Err(BatchError::Control);
    }
    let (producer, sequence) = (header.producer_id, header.base_sequence);
    if producer >= 0 && sequence < 0 {
        return Err(BatchError::Sequence { producer, sequence });
    }
    Ok(header)
}

/// Checks that `bytes` are exactly one undamaged batch, as when it is read back from the store.
pub(crate) fn verify(bytes: &[u8]) -> Result<Header, BatchError> {
    let header = parse(bytes)?;
    check_crc(bytes, header.crc)?;
    Ok(header)
}

fn check_crc(bytes: &[u8], crc: u32) -> Result<(), BatchError> {
    match crc32c::crc32c(&bytes[CRC_END..]) == crc {
        true => Ok(()),
        false => Err(BatchError::Crc),
    }
}

/// Reads the header of `bytes`, which must be exactly one batch; does not look at the checksum.
pub(crate) fn parse(bytes: &[u8]) -> Result<Header, BatchError> {
    let (header, count, last_offset_delta) = fields(bytes)?;
    if count < 0 || last_offset_delta < 0 || i64::from(count) > i64::from(last_offset_delta) + 1 {
        return Err(count_mismatch(count, last_offset_delta));
    }
    Ok(header)
}

/// The header, with its counts as they are there: those of the header itself mean nothing if they are negative.
fn fields(bytes: &[u8]) -> Result<(Header, i32, i32), BatchError> {
    if bytes.len() < HEADER_BYTES {
        return Err(BatchError::Length);
    }
    let mut fields = &bytes[..HEADER_BYTES];
    let base_offset = fields.get_i64();
    let length = fields.get_i32();
    let leader_epoch = fields.get_i32();
    let magic = fields.get_i8();
    if magic != MAGIC {
        return Err(BatchError::Magic(magic));
    }
    if usize::try_from(length) != Ok(bytes.len() - LENGTH_END) {
        return Err(BatchError::Length);
    }
    let crc = fields.get_u32();
    let attributes = Attributes(fields.get_i16());
    let last_offset_delta = fields.get_i32();
    let (base_timestamp, max_timestamp) = (fields.get_i64(), fields.get_i64());
    let (producer_id, producer_epoch, base_sequence) =
        (fields.get_i64(), fields.get_i16(), fields.get_i32());
    let count = fields.get_i32();
    let header = Header {
        base_offset,
        leader_epoch,
        crc,
        attributes,
        last_offset_delta: last_offset_delta as u32,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        count: count as u32,
    };
    Ok((header, count, last_offset_delta))
}

fn count_mismatch(count: i32, last_offset_delta: i32) -> BatchError {
    BatchError::Count {
        count,
        last_offset_delta,
    }
}

/// The records of a batch, still compressed.
pub(super) fn payload(batch: &Bytes) -> Bytes {
    batch.slice(HEADER_BYTES.min(batch.len())..)
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::{BufMut, BytesMut};
    use proptest::prelude::*;

    use super::*;
    use crate::log::builder::Builder;

    /// A batch of records with these values, as a client without idempotence sends it.
    pub(crate) fn batch(values: &[&str]) -> Bytes {
        batch_at(1_000, values)
    }

    pub(crate) fn batch_at(timestamp: i64, values: &[&str]) -> Bytes {
        let mut builder = Builder::default();
        for value in values {
            builder.push(timestamp, None, Some(value.as_bytes()), b"\0");
        }
        builder.finish()
    }

    /// The same batch from an idempotent producer.
    pub(crate) fn produced(batch: Bytes, id: i64, epoch: i16, sequence: i32) -> Bytes {
        let mut bytes = BytesMut::from(batch);
        let mut fields = &mut bytes[43..57];
        fields.put_i64(id);
        fields.put_i16(epoch);
        fields.put_i32(sequence);
        resealed(bytes)
    }

    /// With the right length and checksum again.
    pub(crate) fn resealed(mut bytes: BytesMut) -> Bytes {
        let length = bytes.len() - LENGTH_END;
        (&mut bytes[8..12]).put_i32(length as i32);
        let crc = crc32c::crc32c(&bytes[CRC_END..]);
        (&mut bytes[17..21]).put_u32(crc);
        bytes.freeze()
    }

    fn changed(batch: Bytes, at: usize, with: &[u8]) -> Bytes {
        let mut bytes = BytesMut::from(batch);
        bytes[at..at + with.len()].copy_from_slice(with);
        resealed(bytes)
    }

    #[test]
    fn a_built_batch_is_valid() {
        let header = validate(&batch(&["a", "b", "c"])).unwrap();
        assert_eq!((header.count, header.last_offset_delta), (3, 2));
        assert_eq!(
            (
                header.producer_id,
                header.base_timestamp,
                header.max_timestamp
            ),
            (-1, 1_000, 1_000)
        );
    }

    #[test]
    fn base_offset_and_leader_epoch_are_outside_of_the_checksum() {
        let mut bytes = BytesMut::from(batch(&["a"]));
        (&mut bytes[..8]).put_i64(77);
        (&mut bytes[12..16]).put_i32(5);
        let header = validate(&bytes).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (77, 5));
    }

    #[test]
    fn damage_is_found() {
        let good = batch(&["some value"]);
        for at in CRC_END..good.len() {
            let mut bad = BytesMut::from(&good[..]);
            bad[at] ^= 1;
            assert!(verify(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_is_not_exactly_one_batch_is_refused() {
        let good = batch(&["a", "b"]);
        for length in 0..good.len() {
            assert_eq!(validate(&good[..length]), Err(BatchError::Length));
        }
        let two = [&good[..], &good[..]].concat();
        assert_eq!(validate(&two), Err(BatchError::Length));
    }

    #[test]
    fn fields_that_contradict_each_other_are_refused() {
        let good = batch(&["a", "b"]);
        for count in [0, 1, 3, -1, i32::MAX, i32::MIN] {
            let bad = changed(good.clone(), 57, &count.to_be_bytes());
            assert!(
                matches!(validate(&bad), Err(BatchError::Count { .. })),
                "{count}"
            );
        }
        for delta in [0, 2, -1, i32::MAX] {
            let bad = changed(good.clone(), 23, &delta.to_be_bytes());
            assert!(
                matches!(validate(&bad), Err(BatchError::Count { .. })),
                "{delta}"
            );
        }
        assert_eq!(
            validate(&changed(good.clone(), 16, &[1])),
            Err(BatchError::Magic(1))
        );
        assert_eq!(
            validate(&changed(good, 21, &[0, 0x20])),
            Err(BatchError::Control)
        );
    }

    proptest! {
        #[test]
        fn nothing_panics_on_noise(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = validate(&bytes);
            let mut framed = BytesMut::from(&batch(&["x"])[..HEADER_BYTES]);
            framed.extend_from_slice(&bytes);
            let framed = resealed(framed);
            validate(&framed).unwrap();
            if let Ok(records) = crate::log::record::records(&framed, 1 << 20) {
                records.for_each(drop);
            }
        }
    }
}
