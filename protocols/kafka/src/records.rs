//! Stored record batches on their way to a consumer: sent on as they came, but for two fields of their headers.

use bytes::{Buf, BufMut, Bytes};

use crate::wire::{Frame, Malformed, Reader, Wire};

/// Stored record batches on their way to a consumer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records(pub Vec<StoredBatch>);

/// A record batch whose bytes are as its producer sent them, and the offset that it got.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBatch {
    /// The offset of its first record.
    pub base: i64,
    /// The batch; its own base offset and leader epoch mean nothing.
    pub bytes: Bytes,
}

impl StoredBatch {
    /// Base offset, length and leader epoch: what precedes the bytes that are sent on untouched.
    const PREFIX: usize = 16;

    /// The batch at the start of `bytes`, if it is there as a whole.
    fn split_from(bytes: &mut Bytes) -> Option<StoredBatch> {
        let mut head = bytes.get(..StoredBatch::PREFIX)?;
        let base = head.get_i64();
        let length = usize::try_from(head.get_i32()).ok()?.checked_add(12)?;
        let whole = (StoredBatch::PREFIX..=bytes.len()).contains(&length);
        whole.then(|| StoredBatch {
            base,
            bytes: bytes.split_to(length),
        })
    }
}

impl Wire for Records {
    /// Reads whole batches; a last one that is cut off is left out, as the protocol lets a broker cut it off.
    fn read(reader: &mut Reader) -> Result<Self, Malformed> {
        let mut bytes = Option::<Bytes>::read(reader)?.unwrap_or_default();
        Ok(Records(
            std::iter::from_fn(|| StoredBatch::split_from(&mut bytes)).collect(),
        ))
    }

    /// Message format, record batch: base offset and leader epoch are outside of the checksum, so they are
    /// put in place here while the rest goes out as it came.
    fn write(&self, frame: &mut Frame) {
        frame.put_length(Some(self.0.iter().map(|batch| batch.bytes.len()).sum()));
        for StoredBatch { base, bytes } in &self.0 {
            debug_assert!(
                bytes.len() >= StoredBatch::PREFIX,
                "a stored batch is whole"
            );
            frame.buffer().put_i64(*base);
            frame.buffer().put_slice(&bytes[8..12]);
            frame.buffer().put_i32(0);
            frame.body(bytes.slice(StoredBatch::PREFIX..));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use trivium_protocol::Output;

    use super::*;

    #[test]
    fn records_get_their_offset_and_epoch_and_are_not_copied() {
        let mut expected = vec![0xee; 61 + 8000];
        expected[8..12].copy_from_slice(&(49 + 8000i32).to_be_bytes());
        let bytes = Bytes::from(expected.clone());
        let mut frame = Frame::new(0, false);
        Records(vec![StoredBatch {
            base: 7,
            bytes: bytes.clone(),
        }])
        .write(&mut frame);
        let mut output = Output::new();
        frame.send(&mut output);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(output.slices(&mut slices), 2);
        assert_eq!(slices[1].as_ptr(), bytes[16..].as_ptr());

        expected[..8].copy_from_slice(&7i64.to_be_bytes());
        expected[12..16].copy_from_slice(&[0; 4]);
        assert_eq!(output.take()[8..], expected);
    }
}
