//! What a shard does for cursors, and for bindings by way of logs.

use bytes::Bytes;

use super::{Op, Shard, Turn, touch};
use crate::{
    id::QueueId,
    store::{StoreError, Table, keys, values},
};

impl Shard {
    /// What a cursor knows of a partition; false if there is no such cursor.
    pub(crate) fn recover_cursor(
        &mut self,
        queue: QueueId,
        partition: u32,
        row: Bytes,
    ) -> Result<bool, StoreError> {
        match touch(&mut self.queues, &mut self.touched_queues, queue) {
            Some(found) => found.restore_cursor(partition, row),
            None => Ok(false),
        }
    }

    pub(super) fn apply_cursor(&mut self, op: Op, turn: &mut Turn) {
        match op {
            Op::LogLoaded { queue, loaded } => {
                if let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue) {
                    found.log_loaded(*loaded, &mut self.budget, turn);
                }
            }
            Op::Fed {
                binding,
                log,
                partition,
                offset,
            } => {
                let key = keys::feed(binding, log, partition);
                turn.batch
                    .put(Table::State, key, values::write_position(offset));
            }
            Op::ResetCursor {
                queue,
                offsets,
                reply,
            } => {
                if let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue) {
                    found.reset(&offsets, &mut self.budget);
                }
                turn.in_order = true;
                turn.drained.push(reply);
            }
            _ => {}
        }
    }
}
