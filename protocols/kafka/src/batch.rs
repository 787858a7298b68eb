//! The header of a record batch (v2), as far as a broker checks it before it stores the batch.
//!
//! ```text
//!  0 base offset i64 · 8 length i32 · 12 partition leader epoch i32 · 16 magic i8 · 17 crc u32
//! 21 attributes i16 · 23 last offset delta i32 · 27 base timestamp i64 · 35 max timestamp i64
//! 43 producer id i64 · 51 producer epoch i16 · 53 base sequence i32 · 57 record count i32 · 61 records
//! ```
//! `length` counts what follows it; `crc` (CRC-32C) covers everything from `attributes` on.

use bytes::{Buf, Bytes};

use crate::error::ErrorCode;

/// Bytes of the header.
const HEADER: usize = 61;
/// Bytes up to and with `length`.
const PREFIX: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const PRODUCER: usize = 43;
const SEQUENCE: usize = 53;

const COMPRESSION: i16 = 0x07;
const ZSTD: i16 = 4;
const CONTROL: i16 = 0x20;

/// Why a batch is not stored: the code for the client and a word for the human.
pub(crate) type Fault = (ErrorCode, &'static str);

/// Checks that `batch` is exactly one record batch that a client may append through this version of Produce. How
/// large it may be is for the log to say.
pub(crate) fn validate(batch: &Bytes, version: i16) -> Result<(), Fault> {
    // Every older format has its magic at the same place.
    if batch.get(MAGIC).is_some_and(|magic| *magic < 2) {
        return Err((
            ErrorCode::INVALID_RECORD,
            "message formats before v2 are not supported",
        ));
    }
    if batch.len() < HEADER {
        return Err((
            ErrorCode::INVALID_RECORD,
            "there must be exactly one record batch",
        ));
    }
    if batch[MAGIC] != 2 {
        return Err((ErrorCode::CORRUPT_MESSAGE, "unknown magic"));
    }
    match i32_at(batch, 8) as i64 - (batch.len() - PREFIX) as i64 {
        0 => {}
        ..0 => {
            return Err((
                ErrorCode::INVALID_RECORD,
                "there must be exactly one record batch",
            ));
        }
        _ => return Err((ErrorCode::INVALID_RECORD, "the batch ends early")),
    }
    if crc32c::crc32c(&batch[ATTRIBUTES..]) != i32_at(batch, CRC) as u32 {
        return Err((ErrorCode::CORRUPT_MESSAGE, "the checksum does not match"));
    }
    let count = i32_at(batch, 57);
    if count < 1 || i32_at(batch, 23) != count - 1 {
        return Err((
            ErrorCode::INVALID_RECORD,
            "the record count does not match the last offset delta",
        ));
    }
    if i64_at(batch, PRODUCER) > -1 && i32_at(batch, SEQUENCE) < 0 {
        return Err((
            ErrorCode::INVALID_RECORD,
            "a producer id needs a sequence number",
        ));
    }
    check_attributes(
        i16::from_be_bytes([batch[ATTRIBUTES], batch[ATTRIBUTES + 1]]),
        version,
    )
}

fn check_attributes(attributes: i16, version: i16) -> Result<(), Fault> {
    let codec = attributes & COMPRESSION;
    if attributes & CONTROL != 0 {
        return Err((
            ErrorCode::INVALID_RECORD,
            "clients cannot write control batches",
        ));
    }
    // KIP-110: what cannot be read by the consumers of the producer's own release is not taken.
    if codec > ZSTD || codec == ZSTD && version < 7 {
        return Err((
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            "the compression type is not supported",
        ));
    }
    Ok(())
}

fn i32_at(batch: &Bytes, at: usize) -> i32 {
    (&batch[at..at + 4]).get_i32()
}

fn i64_at(batch: &Bytes, at: usize) -> i64 {
    (&batch[at..at + 8]).get_i64()
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
    use super::*;

    fn code(batch: impl Into<Bytes>) -> ErrorCode {
        validate(&batch.into(), 9).map_or_else(|(code, _)| code, |()| ErrorCode::NONE)
    }

    /// The batch of `sample` with other bytes from `attributes` on.
    fn changed(at: usize, bytes: &[u8]) -> Bytes {
        let mut body = sample(b"value")[ATTRIBUTES..].to_vec();
        body[at - ATTRIBUTES..at - ATTRIBUTES + bytes.len()].copy_from_slice(bytes);
        seal(&body)
    }

    #[test]
    fn one_whole_batch_is_taken() {
        assert_eq!(code(sample(b"value")), ErrorCode::NONE);
        assert_eq!(code(changed(21, &[0, 4])), ErrorCode::NONE);
    }

    #[test]
    fn anything_but_one_batch_is_invalid() {
        assert_eq!(code(Bytes::new()), ErrorCode::INVALID_RECORD);
        assert_eq!(
            code([sample(b"a"), sample(b"b")].concat()),
            ErrorCode::INVALID_RECORD
        );
        assert_eq!(
            code(sample(b"value").slice(..70)),
            ErrorCode::INVALID_RECORD
        );
    }

    #[test]
    fn damage_is_corrupt() {
        let whole = sample(b"value");
        for at in 17..whole.len() {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0x10;
            assert_eq!(code(damaged), ErrorCode::CORRUPT_MESSAGE, "byte {at}");
        }
    }

    #[test]
    fn what_clients_may_not_write_is_refused() {
        assert_eq!(code(changed(21, &[0, 0x20])), ErrorCode::INVALID_RECORD);
        assert_eq!(code(changed(21, &[0, 0x10])), ErrorCode::NONE);
        assert_eq!(
            code(changed(21, &[0, 5])),
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        );
        assert_eq!(code(changed(23, &[0, 0, 0, 1])), ErrorCode::INVALID_RECORD);
        assert_eq!(code(changed(57, &[0, 0, 0, 0])), ErrorCode::INVALID_RECORD);
        let mut old = sample(b"value").to_vec();
        old[MAGIC] = 1;
        assert_eq!(code(old), ErrorCode::INVALID_RECORD);
        // A producer's id without a sequence.
        assert_eq!(code(changed(PRODUCER, &[0; 8])), ErrorCode::INVALID_RECORD);
    }

    #[test]
    fn zstd_needs_version_7() {
        let zstd = changed(21, &[0, 4]);
        assert_eq!(
            validate(&zstd, 6).map_err(|(code, _)| code),
            Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE)
        );
        assert_eq!(validate(&zstd, 7), Ok(()));
    }
}
