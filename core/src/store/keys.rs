//! Every key layout, in one file. Numbers are big-endian, so that byte order is number order; the
//! first byte of a key in a table that holds several kinds says which kind it is. Letters of retired
//! kinds are never used again.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    id::{LogId, Offset, QueueId, Sequence},
    properties::Text,
};

/// Kinds of rows in [`super::Table::Catalog`].
pub(crate) mod catalog {
    /// `f`: the format of the data directory.
    pub const FORMAT: u8 = b'f';
    /// `n`: the next number for a queue or log.
    pub const NEXT_ID: u8 = b'n';
    /// `x`: an exchange: vhost, name.
    pub const EXCHANGE: u8 = b'x';
    /// `q`: a queue: id.
    pub const QUEUE: u8 = b'q';
    /// `l`: a log: id.
    pub const LOG: u8 = b'l';
    /// `b`: a binding: number.
    pub const BINDING: u8 = b'b';
    /// `s`: that a session takes part in a group: session's id, name of the group's queue. Read after queues.
    pub const SHARE: u8 = b's';
    /// `u`: a user: name.
    pub const USER: u8 = b'u';
    /// `v`: a vhost: name.
    pub const VHOST: u8 = b'v';
    /// `p`: what a user may do in a vhost: vhost, user.
    pub const PERMISSION: u8 = b'p';
    /// `t`: which topics of an exchange a user may use: vhost, user, exchange.
    pub const TOPIC_PERMISSION: u8 = b't';
    /// `o`: a policy: whether it is an operator's, vhost, name.
    pub const POLICY: u8 = b'o';
    /// `m`: a parameter: whether it is a vhost's, vhost, component, name.
    pub const PARAMETER: u8 = b'm';

    /// `c`: a quota of clients: whether it has a user, which, whether it has a client, which; or whether it is of an
    /// address by name, and which.
    pub const CLIENT_QUOTA: u8 = b'c';

    use super::{Bytes, LogId, QueueId, key};
    use crate::client_quota::{QuotaEntity, QuotaName};

    pub(crate) fn next_id() -> Bytes {
        key(1).u8(NEXT_ID).done()
    }

    pub(crate) fn exchange(vhost: &str, name: &str) -> Bytes {
        key(9 + vhost.len() + name.len())
            .u8(EXCHANGE)
            .text(vhost)
            .text(name)
            .done()
    }

    pub(crate) fn queue(id: QueueId) -> Bytes {
        key(9).u8(QUEUE).u64(id.0).done()
    }

    pub(crate) fn log(id: LogId) -> Bytes {
        key(9).u8(LOG).u64(id.0).done()
    }

    pub(crate) fn binding(number: u64) -> Bytes {
        key(9).u8(BINDING).u64(number).done()
    }

    pub(crate) fn user(name: &str) -> Bytes {
        named(USER, &[name])
    }

    pub(crate) fn vhost(name: &str) -> Bytes {
        named(VHOST, &[name])
    }

    pub(crate) fn permission(vhost: &str, user: &str) -> Bytes {
        named(PERMISSION, &[vhost, user])
    }

    pub(crate) fn topic_permission(vhost: &str, user: &str, exchange: &str) -> Bytes {
        named(TOPIC_PERMISSION, &[vhost, user, exchange])
    }

    pub(crate) fn policy(operator: bool, vhost: &str, name: &str) -> Bytes {
        named(
            POLICY,
            &[if operator { "operator" } else { "" }, vhost, name],
        )
    }

    pub(crate) fn parameter(vhost: Option<&str>, component: &str, name: &str) -> Bytes {
        let (scope, vhost) = vhost.map_or(("", ""), |vhost| ("vhost", vhost));
        named(PARAMETER, &[scope, vhost, component, name])
    }

    pub(crate) fn client_quota(entity: &QuotaEntity) -> Bytes {
        let parts = |name: &Option<QuotaName>| match name {
            None => ("", String::new()),
            Some(QuotaName::Default) => ("default", String::new()),
            Some(QuotaName::Of(name)) => ("name", name.to_string()),
        };
        let ((user, user_name), (client, client_name)) =
            (parts(&entity.user), parts(&entity.client));
        let (address, address_name) = parts(&entity.address);
        let of_client = [user, &user_name, client, &client_name];
        match entity.address {
            None => named(CLIENT_QUOTA, &of_client),
            Some(_) => named(CLIENT_QUOTA, &[address, &address_name]),
        }
    }

    fn named(kind: u8, names: &[&str]) -> Bytes {
        let start = key(64).u8(kind);
        names.iter().fold(start, |key, name| key.text(name)).done()
    }

    pub(crate) fn share(session: QueueId, queue: &str) -> Bytes {
        key(9 + queue.len())
            .u8(SHARE)
            .u64(session.0)
            .bytes(queue.as_bytes())
            .done()
    }

    /// The session and the name in the key of a share.
    pub(crate) fn share_parts(key: &[u8]) -> Option<(QueueId, crate::properties::Text)> {
        let session = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
        let name = std::str::from_utf8(key.get(9..)?).ok()?;
        Some((QueueId(session), name.into()))
    }

    /// The number in the key of a queue, log or binding.
    pub(crate) fn number(key: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
    }
}

/// Kinds of rows in [`super::Table::State`].
mod state {
    /// `q`: a queue's counters.
    pub const QUEUE: u8 = b'q';
    /// `s`: what is settled of a chunk.
    pub const SETTLED: u8 = b's';
    /// `r`: that a queue's chunk refers to a body chunk.
    pub const BODY_REFERENCE: u8 = b'r';
    /// `p`: a partition's counters, producers and tap position.
    pub const PARTITION: u8 = b'p';
    /// `o`: a group's committed offset.
    pub const GROUP_OFFSET: u8 = b'o';
    /// `d`: what an idempotent producer last appended to a partition.
    pub const PRODUCER: u8 = b'd';
    /// `g`: a full segment of a partition.
    pub const SEGMENT: u8 = b'g';
    /// `m`: an MQTT session besides its messages.
    pub const SESSION: u8 = b'm';
    /// `w`: the will of a session.
    pub const WILL: u8 = b'w';
    /// `e`: how often this store was opened.
    pub const EPOCH: u8 = b'e';
    /// `a`: an aborted transaction of a partition.
    pub const ABORTED: u8 = b'a';
    /// `t`: a transactional id.
    pub const TRANSACTION: u8 = b't';
    /// `h`: what a share group knows of a partition.
    pub const SHARE_WINDOW: u8 = b'h';
    /// `v`: what a cursor knows of a partition.
    pub const CURSOR: u8 = b'v';
    /// `b`: how far a binding by way of a log is.
    pub const FEED: u8 = b'b';
    /// `f`: that a partition's records are still to be retained.
    pub const FILL: u8 = b'f';
    /// `n`: the members of a group.
    pub const GROUP_MEMBERS: u8 = b'n';
    /// `c`: the settings of a group.
    pub const GROUP_SETTINGS: u8 = b'c';
    /// `u`: an offset that a transaction is to commit for a group.
    pub const PENDING_OFFSET: u8 = b'u';
    pub const GROUP_KIND: u8 = b'k';
}

/// The bit of a [`QueueId`] that says: not durable. What such queues leave behind is forgotten when
/// the broker opens.
pub(crate) const TRANSIENT_QUEUE: u64 = 1 << 63;

/// `State`: counters of a queue.
pub(crate) fn queue_state(queue: QueueId) -> Bytes {
    key(9).u8(state::QUEUE).u64(queue.0).done()
}

/// The queue in the key of its counters, session or will.
pub(crate) fn queue_of_state(key: &[u8]) -> Option<QueueId> {
    Some(QueueId(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?)))
}

/// `State`: every queue's counters.
pub(crate) fn queue_states() -> Range<Bytes> {
    prefix(&[state::QUEUE])
}

/// `State`: a session besides its messages.
pub(crate) fn session(queue: QueueId) -> Bytes {
    key(9).u8(state::SESSION).u64(queue.0).done()
}

/// `State`: every session.
pub(crate) fn all_sessions() -> Range<Bytes> {
    prefix(&[state::SESSION])
}

/// `State`: the will of a session, which may have ended.
pub(crate) fn will(queue: QueueId) -> Bytes {
    key(9).u8(state::WILL).u64(queue.0).done()
}

/// `State`: every will.
pub(crate) fn all_wills() -> Range<Bytes> {
    prefix(&[state::WILL])
}

/// `State`: what is settled of the chunk that begins at `first`.
pub(crate) fn settled(queue: QueueId, first: Sequence) -> Bytes {
    key(17).u8(state::SETTLED).u64(queue.0).u64(first.0).done()
}

/// The sequence in the key of what is settled of a chunk.
pub(crate) fn settled_first(key: &[u8]) -> Option<Sequence> {
    Some(Sequence(u64::from_be_bytes(
        key.get(9..17)?.try_into().ok()?,
    )))
}

/// `State`: what is settled of a queue's chunks from `from` up to and without `to`.
pub(crate) fn settled_range(queue: QueueId, from: Sequence, to: Sequence) -> Range<Bytes> {
    settled(queue, from)..settled(queue, to)
}

/// `State`: what is settled, of all queues.
pub(crate) fn all_settled() -> Range<Bytes> {
    prefix(&[state::SETTLED])
}

/// `Messages`: the chunk of a queue that begins at `first`.
pub(crate) fn chunk(queue: QueueId, first: Sequence) -> Bytes {
    key(16).u64(queue.0).u64(first.0).done()
}

/// `Messages`: a queue's chunks from `from` up to and without `to`.
pub(crate) fn chunk_range(queue: QueueId, from: Sequence, to: Sequence) -> Range<Bytes> {
    chunk(queue, from)..chunk(queue, to)
}

/// The sequence in a chunk's key.
pub(crate) fn chunk_first(key: &[u8]) -> Option<Sequence> {
    Some(Sequence(u64::from_be_bytes(
        key.get(8..16)?.try_into().ok()?,
    )))
}

/// `Bodies`: a chunk of bodies that several queues share.
pub(crate) fn body_chunk(number: u64) -> Bytes {
    key(8).u64(number).done()
}

/// The number in a body chunk's key.
pub(crate) fn body_chunk_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(..8)?.try_into().ok()?))
}

/// `State`: that the chunk at `first` of `queue` refers to a body chunk. A body chunk without
/// references is garbage.
pub(crate) fn body_reference(number: u64, queue: QueueId, first: Sequence) -> Bytes {
    key(25)
        .u8(state::BODY_REFERENCE)
        .u64(number)
        .u64(queue.0)
        .u64(first.0)
        .done()
}

/// The queue and chunk in the key of a reference to a body chunk.
pub(crate) fn body_referrer(key: &[u8]) -> Option<(QueueId, Sequence)> {
    let queue = u64::from_be_bytes(key.get(9..17)?.try_into().ok()?);
    let first = u64::from_be_bytes(key.get(17..25)?.try_into().ok()?);
    Some((QueueId(queue), Sequence(first)))
}

/// `State`: every reference to a body chunk.
pub(crate) fn body_references(number: u64) -> Range<Bytes> {
    key(9).u8(state::BODY_REFERENCE).u64(number).done()
        ..key(9).u8(state::BODY_REFERENCE).u64(number + 1).done()
}

/// `State`: a partition's counters.
pub(crate) fn partition_state(log: LogId, partition: u32) -> Bytes {
    key(13)
        .u8(state::PARTITION)
        .u64(log.0)
        .u32(partition)
        .done()
}

/// `State`: the counters of all partitions of a log.
pub(crate) fn partition_states(log: LogId) -> Range<Bytes> {
    key(9).u8(state::PARTITION).u64(log.0).done()..key(9).u8(state::PARTITION).u64(log.0 + 1).done()
}

/// `State`: the counters of all partitions of all logs.
pub(crate) fn all_partition_states() -> Range<Bytes> {
    prefix(&[state::PARTITION])
}

/// `State`: what a producer last appended to a partition.
pub(crate) fn producer(log: LogId, partition: u32, id: i64) -> Bytes {
    key(21)
        .u8(state::PRODUCER)
        .u64(log.0)
        .u32(partition)
        .u64(id as u64)
        .done()
}

/// `State`: the producers of all partitions of a log.
pub(crate) fn producers(log: LogId) -> Range<Bytes> {
    key(9).u8(state::PRODUCER).u64(log.0).done()..key(9).u8(state::PRODUCER).u64(log.0 + 1).done()
}

/// `State`: the producers of all logs.
pub(crate) fn all_producers() -> Range<Bytes> {
    prefix(&[state::PRODUCER])
}

/// `State`: the segment whose last record is at `last`.
pub(crate) fn segment(log: LogId, partition: u32, last: Offset) -> Bytes {
    key(21)
        .u8(state::SEGMENT)
        .u64(log.0)
        .u32(partition)
        .u64(last.0)
        .done()
}

/// `State`: segments of a partition that hold an offset in `[from, to)`, by their last records.
pub(crate) fn segments(log: LogId, partition: u32, from: Offset, to: Offset) -> Range<Bytes> {
    segment(log, partition, from)..segment(log, partition, to)
}

/// `State`: the segments of all partitions of a log.
pub(crate) fn log_segments(log: LogId) -> Range<Bytes> {
    key(9).u8(state::SEGMENT).u64(log.0).done()..key(9).u8(state::SEGMENT).u64(log.0 + 1).done()
}

/// `State`: the segments of all logs.
pub(crate) fn all_segments() -> Range<Bytes> {
    prefix(&[state::SEGMENT])
}

/// `State`: the transaction that was aborted by the marker at this offset.
pub(crate) fn aborted(log: LogId, partition: u32, marker: Offset) -> Bytes {
    key(21)
        .u8(state::ABORTED)
        .u64(log.0)
        .u32(partition)
        .u64(marker.0)
        .done()
}

/// `State`: the aborted transactions of a partition whose markers are in `[from, to)`.
pub(crate) fn aborted_range(log: LogId, partition: u32, from: Offset, to: Offset) -> Range<Bytes> {
    aborted(log, partition, from)..aborted(log, partition, to)
}

/// `State`: the aborted transactions of all partitions of a log.
pub(crate) fn log_aborted(log: LogId) -> Range<Bytes> {
    key(9).u8(state::ABORTED).u64(log.0).done()..key(9).u8(state::ABORTED).u64(log.0 + 1).done()
}

/// `State`: the aborted transactions of all logs.
pub(crate) fn all_aborted() -> Range<Bytes> {
    prefix(&[state::ABORTED])
}

/// `State`: a transactional id.
pub(crate) fn transaction(vhost: &str, id: &str) -> Bytes {
    key(9 + vhost.len() + id.len())
        .u8(state::TRANSACTION)
        .text(vhost)
        .text(id)
        .done()
}

/// `State`: all transactional ids.
pub(crate) fn transactions() -> Range<Bytes> {
    prefix(&[state::TRANSACTION])
}

/// The vhost and name in the key of a transactional id.
pub(crate) fn transaction_parts(mut key: Bytes) -> Option<(Text, Text)> {
    key.try_get_u8()
        .ok()
        .filter(|kind| *kind == state::TRANSACTION)?;
    Some((take_text(&mut key)?, take_text(&mut key)?))
}

/// `State`: an offset that the open transaction of a producer is to commit for a group.
pub(crate) fn pending_offset(
    vhost: &str,
    group: &str,
    producer: i64,
    log: &str,
    partition: u32,
) -> Bytes {
    key(24 + vhost.len() + group.len() + log.len())
        .u8(state::PENDING_OFFSET)
        .text(vhost)
        .text(group)
        .u64(producer as u64)
        .text(log)
        .u32(partition)
        .done()
}

/// `State`: what open transactions are to commit, of all groups.
pub(crate) fn all_pending_offsets() -> Range<Bytes> {
    prefix(&[state::PENDING_OFFSET])
}

/// The vhost, group, producer, log and partition in the key of an offset that is to be committed.
pub(crate) fn pending_offset_parts(mut key: Bytes) -> Option<(Text, Text, i64, Text, u32)> {
    key.try_get_u8()
        .ok()
        .filter(|kind| *kind == state::PENDING_OFFSET)?;
    let (vhost, group) = (take_text(&mut key)?, take_text(&mut key)?);
    let producer = key.try_get_u64().ok()? as i64;
    Some((
        vhost,
        group,
        producer,
        take_text(&mut key)?,
        key.try_get_u32().ok()?,
    ))
}

/// `State`: what a share group knows of a partition.
pub(crate) fn share_window(vhost: &str, group: &str, log: &[u8; 16], partition: u32) -> Bytes {
    key(32 + vhost.len() + group.len())
        .u8(state::SHARE_WINDOW)
        .text(vhost)
        .text(group)
        .bytes(log)
        .u32(partition)
        .done()
}

/// `State`: what a cursor knows of a partition.
pub(crate) fn cursor(queue: QueueId, partition: u32) -> Bytes {
    key(13).u8(state::CURSOR).u64(queue.0).u32(partition).done()
}

/// `State`: what all cursors know.
pub(crate) fn cursors() -> Range<Bytes> {
    prefix(&[state::CURSOR])
}

/// The queue and partition in the key of what a cursor knows.
pub(crate) fn cursor_parts(key: &[u8]) -> Option<(QueueId, u32)> {
    let partition = u32::from_be_bytes(key.get(9..)?.try_into().ok()?);
    Some((queue_of_state(key)?, partition))
}

/// `State`: how far a binding by way of a log is in a partition.
pub(crate) fn feed(binding: u64, log: LogId, partition: u32) -> Bytes {
    key(21)
        .u8(state::FEED)
        .u64(binding)
        .u64(log.0)
        .u32(partition)
        .done()
}

/// `State`: how far all bindings by way of logs are.
pub(crate) fn feeds() -> Range<Bytes> {
    prefix(&[state::FEED])
}

/// The binding, log and partition in the key of how far one is.
pub(crate) fn feed_parts(mut key: Bytes) -> Option<(u64, LogId, u32)> {
    key.try_get_u8().ok().filter(|kind| *kind == state::FEED)?;
    let (binding, log) = (key.try_get_u64().ok()?, key.try_get_u64().ok()?);
    Some((binding, LogId(log), key.try_get_u32().ok()?))
}

/// `State`: from which record on a partition is still to be retained.
pub(crate) fn fill(log: LogId, partition: u32) -> Bytes {
    key(13).u8(state::FILL).u64(log.0).u32(partition).done()
}

/// `State`: the same for all partitions of all logs.
pub(crate) fn fills() -> Range<Bytes> {
    prefix(&[state::FILL])
}

/// `State`: what all share groups know.
pub(crate) fn share_windows() -> Range<Bytes> {
    prefix(&[state::SHARE_WINDOW])
}

/// The vhost, group, log and partition in the key of what a share group knows.
pub(crate) fn share_window_parts(mut key: Bytes) -> Option<(Text, Text, [u8; 16], u32)> {
    key.try_get_u8()
        .ok()
        .filter(|kind| *kind == state::SHARE_WINDOW)?;
    let (vhost, group) = (take_text(&mut key)?, take_text(&mut key)?);
    let log = key.get(..16)?.try_into().ok()?;
    key.advance(16);
    Some((vhost, group, log, key.try_get_u32().ok()?))
}

/// A text with its length in front.
fn take_text(key: &mut Bytes) -> Option<Text> {
    let length = key
        .try_get_u32()
        .ok()
        .filter(|length| *length as usize <= key.len())?;
    Text::try_from(key.split_to(length as usize)).ok()
}

/// The partition in the key of a partition's state, producer or segment.
pub(crate) fn state_partition(key: &[u8]) -> Option<(LogId, u32)> {
    let log = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
    Some((
        LogId(log),
        u32::from_be_bytes(key.get(9..13)?.try_into().ok()?),
    ))
}

/// The number after the partition in the key of a producer or segment.
pub(crate) fn state_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(13..21)?.try_into().ok()?))
}

/// Flags in the last byte of a record batch's key: facts about the batch that are not the producer's.
pub(crate) mod record_flags {
    /// Appended by a capture from an exchange, so never tapped.
    pub const CAPTURED: u8 = 1;
}

/// `Records`: the batch whose *last* record is at `last`, so that one seek finds the batch that
/// holds an offset.
pub(crate) fn record_batch(log: LogId, partition: u32, last: Offset, flags: u8) -> Bytes {
    key(21)
        .u64(log.0)
        .u32(partition)
        .u64(last.0)
        .u8(flags)
        .done()
}

/// `Records`: batches of a partition that hold an offset in `[from, to)`, by their last records.
pub(crate) fn record_batches(log: LogId, partition: u32, from: Offset, to: Offset) -> Range<Bytes> {
    record_batch(log, partition, from, 0)..record_batch(log, partition, to, 0)
}

/// The last offset and flags in a record batch's key.
pub(crate) fn record_batch_last(key: &[u8]) -> Option<(Offset, u8)> {
    Some((
        Offset(u64::from_be_bytes(key.get(12..20)?.try_into().ok()?)),
        *key.get(20)?,
    ))
}

/// `Records`: all batches of a log.
pub(crate) fn log_records(log: LogId) -> Range<Bytes> {
    key(8).u64(log.0).done()..key(8).u64(log.0 + 1).done()
}

/// `State`: an offset that a group committed. Names are length-prefixed, so no name reaches into another's rows.
pub(crate) fn group_offset(vhost: &str, group: &str, log: &str, partition: u32) -> Bytes {
    key(16 + vhost.len() + group.len() + log.len())
        .u8(state::GROUP_OFFSET)
        .text(vhost)
        .text(group)
        .text(log)
        .u32(partition)
        .done()
}

/// The vhost, group, log and partition in the key of a committed offset.
pub(crate) fn group_offset_parts(mut key: Bytes) -> Option<(Text, Text, Text, u32)> {
    key.try_get_u8()
        .ok()
        .filter(|kind| *kind == state::GROUP_OFFSET)?;
    let mut text = || take_text(&mut key);
    let (vhost, group, log) = (text()?, text()?, text()?);
    Some((vhost, group, log, key.try_get_u32().ok()?))
}

/// `State`: the offsets of all groups.
pub(crate) fn all_group_offsets() -> Range<Bytes> {
    prefix(&[state::GROUP_OFFSET])
}

/// `State`: the members of a group.
pub(crate) fn group_members(vhost: &str, group: &str) -> Bytes {
    key(9 + vhost.len() + group.len())
        .u8(state::GROUP_MEMBERS)
        .text(vhost)
        .text(group)
        .done()
}

/// `State`: the members of all groups.
pub(crate) fn all_group_members() -> Range<Bytes> {
    prefix(&[state::GROUP_MEMBERS])
}

/// `State`: the settings of a group.
pub(crate) fn group_settings(vhost: &str, group: &str) -> Bytes {
    key(9 + vhost.len() + group.len())
        .u8(state::GROUP_SETTINGS)
        .text(vhost)
        .text(group)
        .done()
}

/// `State`: the settings of all groups.
pub(crate) fn all_group_settings() -> Range<Bytes> {
    prefix(&[state::GROUP_SETTINGS])
}

/// `State`: what kind of group one was last.
pub(crate) fn group_kind(vhost: &str, group: &str) -> Bytes {
    key(9 + vhost.len() + group.len())
        .u8(state::GROUP_KIND)
        .text(vhost)
        .text(group)
        .done()
}

/// `State`: the kinds of all groups.
pub(crate) fn all_group_kinds() -> Range<Bytes> {
    prefix(&[state::GROUP_KIND])
}

/// The vhost and group in the key of a group's settings, members or kind.
pub(crate) fn group_parts(mut key: Bytes) -> Option<(Text, Text)> {
    const KINDS: [u8; 3] = [
        state::GROUP_SETTINGS,
        state::GROUP_MEMBERS,
        state::GROUP_KIND,
    ];
    key.try_get_u8().ok().filter(|kind| KINDS.contains(kind))?;
    Some((take_text(&mut key)?, take_text(&mut key)?))
}

/// `State`: how often this store was opened.
pub(crate) fn epoch() -> Bytes {
    key(1).u8(state::EPOCH).done()
}

/// `Retained`: the retained message of a topic, by its text in the grammar of slashes.
pub(crate) fn retained(vhost: &str, topic: &str) -> Bytes {
    key(4 + vhost.len() + topic.len())
        .text(vhost)
        .bytes(topic.as_bytes())
        .done()
}

/// The vhost in the key of a retained message.
pub(crate) fn retained_vhost(key: &Bytes) -> Option<Text> {
    let length = u32::from_be_bytes(key.get(..4)?.try_into().ok()?) as usize;
    let end = length.checked_add(4).filter(|end| *end <= key.len())?;
    Text::try_from(key.slice(4..end)).ok()
}

/// `Delayed`: a message that waits at an exchange until a time in milliseconds; `number` makes it unique.
pub(crate) fn delayed(exchange: u64, at: u64, number: u64) -> Bytes {
    key(24).u64(exchange).u64(at).u64(number).done()
}

/// `Delayed`: everything that waits at an exchange.
pub(crate) fn delayed_of(exchange: u64) -> Range<Bytes> {
    prefix(&exchange.to_be_bytes())
}

/// `Delayed`: everything of exchanges between two, without these.
pub(crate) fn delayed_between(after: Option<u64>, before: Option<u64>) -> Range<Bytes> {
    let start = after.map_or(Bytes::new(), |after| delayed_of(after).end);
    start..before.map_or_else(end, |before| delayed(before, 0, 0))
}

/// The time and number in the key of a message that waits.
pub(crate) fn delayed_due(key: &[u8]) -> Option<(u64, u64)> {
    let at = u64::from_be_bytes(key.get(8..16)?.try_into().ok()?);
    let number = u64::from_be_bytes(key.get(16..24)?.try_into().ok()?);
    Some((at, number))
}

/// Above every key.
pub(crate) fn end() -> Bytes {
    Bytes::from_static(&[u8::MAX; 64])
}

/// All keys that begin with `start`.
pub(crate) fn prefix(start: &[u8]) -> Range<Bytes> {
    let mut end = start.to_vec();
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Bytes::copy_from_slice(start)..Bytes::from(end)
}

/// A key under construction.
pub(crate) struct KeyBuilder(BytesMut);

/// Begins a key of about `capacity` bytes.
pub(crate) fn key(capacity: usize) -> KeyBuilder {
    KeyBuilder(BytesMut::with_capacity(capacity))
}

impl KeyBuilder {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.put_u8(value);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    /// A length and the text.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.put_u32(text.len() as u32);
        self.0.put_slice(text.as_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.put_slice(bytes);
        self
    }

    pub(crate) fn done(self) -> Bytes {
        self.0.freeze()
    }
}
