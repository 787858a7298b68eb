//! To be replaced.
use super::*;
use crate::shard::Outbox;
use crate::store::{Batch, StoreError};
use crate::*;
pub(crate) struct Groups {}
impl Groups {
    pub(crate) fn new(_delay: Duration) -> Groups {
        Groups {}
    }
    pub(crate) fn recover(&mut self, _key: &Bytes, _value: Bytes) -> Result<(), StoreError> {
        Ok(())
    }
    pub(crate) fn handle(
        &mut self,
        _now: Now,
        _from: (ConnectionId, Token),
        _vhost: Text,
        _group: Text,
        _request: GroupRequest,
        _held: &mut Outbox,
        _batch: &mut Batch,
    ) {
    }
    pub(crate) fn tick(
        &mut self,
        _now: Now,
        _held: &mut Outbox,
        _batch: &mut Batch,
    ) -> Option<std::time::Instant> {
        None
    }
    pub(crate) fn len(&self) -> usize {
        0
    }
}
pub(crate) fn stored_group(_key: &[u8]) -> Result<Text, StoreError> {
    Ok(Text::new())
}
