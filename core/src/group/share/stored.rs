//! That there is a share group, and its epoch, as a row: its members join again after a restart of the broker, and what
//! it knows of partitions has rows of its own.

use bytes::Bytes;

use super::ShareGroup;
use crate::store::{
    StoreError,
    values::{Reader, Writer},
};

/// Beside formats 1 and 2, the members of groups of the classic and of the consumer protocol.
pub(in crate::group) const FORMAT: u8 = 3;

impl ShareGroup {
    /// The row, if it is to be written.
    pub fn due_row(&mut self) -> Option<Bytes> {
        if self.stored_epoch == self.epoch {
            return None;
        }
        self.stored_epoch = self.epoch;
        let mut writer = Writer::new(FORMAT);
        writer.varint(u64::from(self.epoch as u32));
        Some(writer.done())
    }

    /// Takes the row that was found when the broker opened.
    pub fn restore_epoch(&mut self, row: Bytes) -> Result<(), StoreError> {
        self.epoch = Reader::new(row, FORMAT)?.varint()? as u32 as i32;
        self.stored_epoch = self.epoch;
        Ok(())
    }
}
