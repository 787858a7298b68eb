//! What a Produce request holds for a partition: record batches one behind the other, of which there must be one. It is
//! looked at here as far as its frame and its format go; the core checks the batch itself.
//!
//! ```text
//!  0 base offset i64 · 8 length i32 · 12 partition leader epoch i32 · 16 magic i8 · 17 crc u32 · 21 attributes i16 · …
//! ```
//! `length` counts what follows it. Older formats have base offset, length and magic at the same places.

use bytes::Bytes;

use crate::error::ErrorCode;

/// Bytes up to and with `length`.
const PREFIX: usize = 12;
const MAGIC: usize = 16;
/// Where the codec and the mark of a transaction are, in the lower of two bytes.
const ATTRIBUTES: usize = 22;
/// The least that `length` may be, whatever the format.
const LENGTH_MIN: i32 = 14;

const CODEC: u8 = 0x07;
const ZSTD: u8 = 4;
const TRANSACTIONAL: u8 = 0x10;

/// From this version of Produce on, batches may be compressed with zstd (KIP-110).
const WITH_ZSTD: i16 = 7;

/// Why a batch is not stored: the code for the client and a word for the human.
pub(crate) type Fault = (ErrorCode, String);

/// The batch at the beginning of `records`, of whatever format, if it is there as a whole.
fn split(records: &Bytes) -> Result<Option<Bytes>, Fault> {
    let Some(length) = records.get(8..PREFIX) else {
        return Ok(None);
    };
    let length = length.iter().fold(0, |it, byte| it << 8 | i32::from(*byte));
    let corrupt = |text| Err((ErrorCode::CORRUPT_MESSAGE, text));
    if length < LENGTH_MIN {
        let least = format!("the minimum record overhead ({LENGTH_MIN})");
        return corrupt(format!("Record size {length} is less than {least}"));
    }
    let Some(magic) = records.get(MAGIC).map(|magic| *magic as i8) else {
        return Ok(None);
    };
    if !(0..=2).contains(&magic) {
        return corrupt(format!("Invalid magic found in record: {magic}"));
    }
    let size = PREFIX + length as usize;
    Ok((size <= records.len()).then(|| records.slice(..size)))
}

/// Whether what is at the beginning is part of a transaction.
///
/// # Errors
/// It cannot even be told where it ends, for which Kafka refuses the whole request.
pub(crate) fn is_transactional(records: &Bytes, version: i16) -> Result<bool, Fault> {
    let Some(batch) = split(records)?.filter(|batch| batch[MAGIC] == 2) else {
        return Ok(false);
    };
    let Some(attributes) = batch.get(ATTRIBUTES) else {
        return Ok(false);
    };
    if version < WITH_ZSTD && attributes & CODEC > ZSTD {
        let text = format!("Unknown compression type id: {}", attributes & CODEC);
        return Err((ErrorCode::UNKNOWN_SERVER_ERROR, text));
    }
    Ok(attributes & TRANSACTIONAL != 0)
}

/// Whether its records are compressed.
pub(crate) fn is_compressed(batch: &Bytes) -> bool {
    batch.get(ATTRIBUTES).is_some_and(|it| it & CODEC != 0)
}

/// The one batch that there must be. Less than a batch behind it is left aside.
pub(crate) fn only(records: &Bytes, version: i16) -> Result<Bytes, Fault> {
    let invalid = |text| (ErrorCode::INVALID_RECORD, String::from(text));
    let batch = split(records)?.ok_or(invalid("there must be exactly one record batch"))?;
    if batch[MAGIC] != 2 {
        return Err(invalid("message formats before v2 are not supported"));
    }
    let is_zstd = batch.get(ATTRIBUTES).is_some_and(|it| it & CODEC == ZSTD);
    if is_zstd && version < WITH_ZSTD {
        let text = "zstd needs version 7 of Produce".into();
        return Err((ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, text));
    }
    match split(&records.slice(batch.len()..))? {
        Some(_) => Err(invalid("there must be exactly one record batch")),
        None => Ok(batch),
    }
}

/// A batch of one record with the given value, for tests.
#[cfg(test)]
pub(crate) fn sample(value: &[u8]) -> Bytes {
    use bytes::{BufMut, BytesMut};

    let mut record = vec![0, 0, 0, 1];
    // Zigzag: a key of length -1 above; lengths in these tests fit in two bytes.
    let put_varint = |out: &mut Vec<u8>, value: usize| {
        let zigzag = value << 1;
        if zigzag < 0x80 {
            out.push(zigzag as u8);
        } else {
            out.extend([zigzag as u8 | 0x80, (zigzag >> 7) as u8]);
        }
    };
    put_varint(&mut record, value.len());
    record.extend(value);
    record.push(0);
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_i32(0);
    body.put_i64(1_700_000_000_000);
    body.put_i64(1_700_000_000_000);
    body.put_i64(-1);
    body.put_i16(-1);
    body.put_i32(-1);
    body.put_i32(1);
    let mut records = vec![];
    put_varint(&mut records, record.len());
    records.extend(record);
    body.put_slice(&records);
    seal(&body)
}

/// A batch with the given bytes from `attributes` on, its length and checksum right.
#[cfg(test)]
pub(crate) fn seal(body: &[u8]) -> Bytes {
    use bytes::{BufMut, BytesMut};

    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(9 + body.len() as i32);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(body));
    batch.put_slice(body);
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn code(records: impl Into<Bytes>, version: i16) -> ErrorCode {
        only(&records.into(), version).map_or_else(|(code, _)| code, |_| ErrorCode::NONE)
    }

    /// The batch of `sample` with another byte.
    fn changed(at: usize, byte: u8) -> Bytes {
        let mut bytes = BytesMut::from(&sample(b"value")[..]);
        bytes[at] = byte;
        bytes.freeze()
    }

    #[test]
    fn one_whole_batch_is_taken_and_less_than_one_behind_it_left_aside() {
        let batch = sample(b"value");
        for behind in [&b""[..], b"x", b"eleven byte", &batch[..50]] {
            let records = [&batch[..], behind].concat();
            assert_eq!(only(&records.into(), 9), Ok(batch.clone()));
        }
    }

    #[test]
    fn anything_but_one_batch_is_invalid() {
        let batch = sample(b"value");
        for records in [&b""[..], b"abc", &batch[..70], &batch[..16]] {
            assert_eq!(code(records.to_vec(), 9), ErrorCode::INVALID_RECORD);
        }
        let two = [&batch[..], &batch[..]].concat();
        assert_eq!(code(two, 9), ErrorCode::INVALID_RECORD);
        assert_eq!(code(changed(MAGIC, 1), 9), ErrorCode::INVALID_RECORD);
        // The length of what is behind it cannot be.
        let zeros = [&batch[..], &[0; 30]].concat();
        assert_eq!(code(zeros, 9), ErrorCode::CORRUPT_MESSAGE);
    }

    #[test]
    fn what_has_no_end_refuses_the_request() {
        for (at, byte) in [(MAGIC, 3), (MAGIC, 0xff), (8, 0x80), (11, 13)] {
            let (code, _) = is_transactional(&changed(at, byte), 9).unwrap_err();
            assert_eq!(code, ErrorCode::CORRUPT_MESSAGE, "{at}");
        }
        let unknown = changed(ATTRIBUTES, 5);
        assert_eq!(is_transactional(&unknown, 7), Ok(false));
        let (code, _) = is_transactional(&unknown, 6).unwrap_err();
        assert_eq!(code, ErrorCode::UNKNOWN_SERVER_ERROR);
    }

    #[test]
    fn transactions_are_told_by_their_bit() {
        assert_eq!(is_transactional(&sample(b"v"), 9), Ok(false));
        assert_eq!(is_transactional(&changed(ATTRIBUTES, 0x10), 9), Ok(true));
        assert_eq!(is_transactional(&Bytes::new(), 9), Ok(false));
    }

    /// KIP-110.
    #[test]
    fn zstd_needs_version_7() {
        let zstd = changed(ATTRIBUTES, ZSTD);
        assert_eq!(
            code(zstd.clone(), 6),
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        );
        assert_eq!(code(zstd, 7), ErrorCode::NONE);
    }
}
