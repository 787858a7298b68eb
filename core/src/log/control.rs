//! Control batches: the markers that end transactions (Kafka message format, section "Control Records").

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    batch::{CRC_END, HEADER_BYTES, MAGIC},
    record::put_section,
};
use crate::time::Timestamp;

/// Transactional and control.
const ATTRIBUTES: i16 = 0b11_0000;
/// The type in the key of a marker's record.
const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// The marker that ends the transaction of a producer: a batch of one record.
pub(super) fn marker(producer: i64, epoch: i16, commit: bool, now: Timestamp) -> Bytes {
    // Version 0, then the type.
    let kind = if commit { COMMIT } else { ABORT };
    let key = [[0, 0], kind.to_be_bytes()].concat();
    // Version 0, then the epoch of the coordinator: there has only been one.
    let value = [0; 6];
    let mut record = BytesMut::with_capacity(32);
    // Attributes, timestamp delta and offset delta; the headers are none.
    record.put_bytes(0, 3);
    put_section(&mut record, Some(&key));
    put_section(&mut record, Some(&value));
    record.put_u8(0);
    let mut batch = BytesMut::with_capacity(HEADER_BYTES + 1 + record.len());
    batch.put_i64(0);
    batch.put_i32((HEADER_BYTES - 12 + 1 + record.len()) as i32);
    batch.put_i32(0);
    batch.put_i8(MAGIC);
    batch.put_u32(0);
    batch.put_i16(ATTRIBUTES);
    batch.put_i32(0);
    batch.put_i64(now.0 as i64);
    batch.put_i64(now.0 as i64);
    batch.put_i64(producer);
    batch.put_i16(epoch);
    batch.put_i32(-1);
    batch.put_i32(1);
    // The record's length is one byte as a varint.
    batch.put_u8((record.len() as u8) << 1);
    batch.put_slice(&record);
    let crc = crc32c::crc32c(&batch[CRC_END..]);
    (&mut batch[CRC_END - 4..CRC_END]).put_u32(crc);
    batch.freeze()
}

/// Whether a control batch is the marker of a commit; `None` for what it is not.
pub(super) fn is_commit(batch: &Bytes) -> Option<bool> {
    let record = super::records(batch, 1 << 16).ok()?.next()?.ok()?;
    let key = record.key?;
    match i16::from_be_bytes(key.get(2..4)?.try_into().ok()?) {
        ABORT => Some(false),
        COMMIT => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch;

    #[test]
    fn a_marker_is_a_batch_of_one_control_record() {
        for commit in [false, true] {
            let marker = marker(7, 3, commit, Timestamp(1000));
            let header = batch::verify(&marker).unwrap();
            assert!(header.attributes.is_control() && header.attributes.is_transactional());
            assert_eq!(
                (header.producer_id, header.producer_epoch, header.count),
                (7, 3, 1)
            );
            assert_eq!((header.base_sequence, header.max_timestamp), (-1, 1000));
            assert_eq!(is_commit(&marker), Some(commit));
        }
    }
}
