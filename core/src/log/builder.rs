//! Packs records into an uncompressed v2 batch, for what other protocols publish into logs.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    batch::{CRC_END, HEADER_BYTES, MAGIC},
    record,
};

/// A batch under construction. One buffer serves batch after batch.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    buffer: BytesMut,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Builder {
    /// Adds a record. `headers` is a header section as [`super::record::write_headers`] makes it.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[u8],
    ) {
        if self.count == 0 {
            self.buffer.reserve(HEADER_BYTES);
            self.buffer.put_bytes(0, HEADER_BYTES);
            (self.base_timestamp, self.max_timestamp) = (timestamp, timestamp);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        record::put_record(
            &mut self.buffer,
            timestamp_delta,
            self.count,
            key,
            value,
            headers,
        );
        self.count += 1;
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// The greatest timestamp so far.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The batch, with base offset 0 and no producer, and an empty builder again.
    pub fn finish(&mut self) -> Bytes {
        debug_assert!(self.count > 0, "an empty batch has no last offset");
        let length = self.buffer.len() - 12;
        let mut header = &mut self.buffer[..HEADER_BYTES];
        header.put_i64(0);
        header.put_i32(length as i32);
        header.put_i32(0);
        header.put_i8(MAGIC);
        header.put_u32(0);
        header.put_i16(0);
        header.put_u32(self.count - 1);
        header.put_i64(self.base_timestamp);
        header.put_i64(self.max_timestamp);
        header.put_i64(-1);
        header.put_i16(-1);
        header.put_i32(-1);
        header.put_u32(self.count);
        let crc = crc32c::crc32c(&self.buffer[CRC_END..]);
        (&mut self.buffer[CRC_END - 4..CRC_END]).put_u32(crc);
        self.count = 0;
        self.buffer.split().freeze()
    }
}
