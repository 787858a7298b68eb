//! To be replaced.
use super::*;
use crate::*;
use std::sync::Arc;
pub(crate) async fn fetch(
    _store: Arc<dyn crate::store::Store>,
    _vhost: Text,
    _tails: Vec<Option<(LogId, Arc<Tail>)>>,
    _fetch: Fetch,
) -> Vec<Fetched> {
    Vec::new()
}
pub(crate) async fn find_offset(
    _store: Arc<dyn crate::store::Store>,
    _id: LogId,
    _partition: u32,
    _tail: Arc<Tail>,
    _at: OffsetSpec,
) -> Result<Option<(Offset, Option<Timestamp>)>, Refusal> {
    Ok(None)
}
pub(crate) fn record_from_message(
    _message: &Message,
    _rule: &super::convert::KeyRule,
) -> NewRecord {
    unreachable!()
}
pub(crate) fn message_from_record(
    _log: &str,
    _partition: u32,
    _offset: Offset,
    _record: Record,
    _vhost: &Text,
) -> Message {
    unreachable!()
}
pub(crate) fn partition_for(
    _key: Option<&[u8]>,
    _partitions: usize,
    _connection: ConnectionId,
) -> u32 {
    0
}
