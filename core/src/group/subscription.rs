//! What the metadata of a consumer says: the subscription that Kafka's consumers send as their protocol's metadata
//! (ConsumerProtocolSubscription), and the assignment that they get (ConsumerProtocolAssignment).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::properties::Text;

/// The protocol type whose metadata this is.
pub(super) const CONSUMER: &str = "consumer";
/// The newest version of both; what is newer begins like it.
const NEWEST: i16 = 3;

/// A log and partitions of it.
pub(super) type Partitions = (Text, Vec<u32>);

/// What a consumer says of itself when it joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Of its encoding, which is the one that it reads assignments in.
    pub version: i16,
    pub logs: Vec<Text>,
    /// What it has and keeps until it is told otherwise.
    pub owned: Vec<Partitions>,
    pub rack: Option<Text>,
}

impl Subscription {
    /// `None` if the metadata is something else.
    pub fn read(metadata: &Bytes) -> Option<Subscription> {
        let mut rest = metadata.clone();
        let mut read = Subscription {
            version: version(metadata)?,
            ..Subscription::default()
        };
        rest.advance(2);
        read.logs = array(&mut rest, 2, text)?;
        bytes(&mut rest)?;
        if read.version >= 1 {
            read.owned = array(&mut rest, 6, partitions)?;
        }
        if read.version >= 2 {
            // The generation that it got it in.
            rest.try_get_i32().ok()?;
        }
        if read.version >= 3 {
            read.rack = nullable_text(&mut rest)?;
        }
        Some(read)
    }
}

/// The logs that a consumer subscribes to; `None` if the metadata is something else.
pub(super) fn logs(metadata: &Bytes) -> Option<Vec<Text>> {
    let mut rest = metadata.clone();
    rest.try_get_i16().ok()?;
    array(&mut rest, 2, text)
}

/// The version that metadata is encoded in, or the newest that is known here.
pub(super) fn version(metadata: &Bytes) -> Option<i16> {
    let version = metadata.clone().try_get_i16().ok()?;
    (version >= 0).then_some(version.min(NEWEST))
}

/// What a consumer is to consume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assignment {
    pub partitions: Vec<Partitions>,
    /// Of an assignor of its own.
    pub user_data: Option<Bytes>,
}

impl Assignment {
    /// An empty assignment is that of a member that has not been given one. `None` if it is something else.
    pub fn read(assignment: &Bytes) -> Option<Assignment> {
        if assignment.is_empty() {
            return Some(Assignment::default());
        }
        version(assignment)?;
        let mut rest = assignment.slice(2..);
        Some(Assignment {
            partitions: array(&mut rest, 6, partitions)?,
            user_data: bytes(&mut rest)?,
        })
    }

    /// As a consumer reads it that speaks this version.
    pub fn write(version: i16, partitions: &[Partitions]) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(version);
        out.put_i32(partitions.len() as i32);
        for (log, numbers) in partitions {
            out.put_i16(log.len() as i16);
            out.put_slice(log.as_bytes());
            out.put_i32(numbers.len() as i32);
            for number in numbers {
                out.put_i32(*number as i32);
            }
        }
        out.put_i32(-1);
        out.freeze()
    }
}

/// Elements that take `min` bytes each at least.
fn array<T>(
    rest: &mut Bytes,
    min: usize,
    mut element: impl FnMut(&mut Bytes) -> Option<T>,
) -> Option<Vec<T>> {
    let count = usize::try_from(rest.try_get_i32().ok()?).ok()?;
    if count > rest.len() / min {
        return None;
    }
    (0..count).map(|_| element(rest)).collect()
}

fn partitions(rest: &mut Bytes) -> Option<Partitions> {
    let log = text(rest)?;
    let number = |rest: &mut Bytes| u32::try_from(rest.try_get_i32().ok()?).ok();
    Some((log, array(rest, 4, number)?))
}

/// Absent is not empty.
fn bytes(rest: &mut Bytes) -> Option<Option<Bytes>> {
    let length = rest.try_get_i32().ok()?;
    if length < 0 {
        return Some(None);
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|it| *it <= rest.len())?;
    Some(Some(rest.split_to(length)))
}

fn text(rest: &mut Bytes) -> Option<Text> {
    nullable_text(rest)?
}

fn nullable_text(rest: &mut Bytes) -> Option<Option<Text>> {
    let length = rest.try_get_i16().ok()?;
    if length < 0 {
        return Some(None);
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|it| *it <= rest.len())?;
    Text::try_from(rest.split_to(length)).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_read_and_noise_is_not() {
        let metadata = Bytes::from_static(b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff");
        assert_eq!(logs(&metadata).unwrap(), ["a", "bc"]);
        for end in 0..13 {
            assert_eq!(logs(&metadata.slice(..end)), None);
        }
        assert_eq!(logs(&Bytes::from_static(b"\0\0\x7f\xff\xff\xff")), None);
    }

    /// ConsumerProtocolSubscription, versions 0 to 3.
    #[test]
    fn what_a_consumer_says_is_read_in_every_version() {
        let all = b"\0\x03\0\0\0\x01\0\x01a\0\0\0\x01u\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\x04\0\0\0\x05\0\0\0\x07\0\x02r1";
        let read = |version: u8, end: usize| {
            let mut metadata = all[..end].to_vec();
            metadata[1] = version;
            Subscription::read(&metadata.into())
        };
        let expected = Subscription {
            version: 0,
            logs: vec!["a".into()],
            ..Subscription::default()
        };
        assert_eq!(read(0, 14), Some(expected.clone()));
        let owned = vec![("a".into(), vec![4, 5])];
        let expected = Subscription {
            owned,
            version: 1,
            ..expected
        };
        assert_eq!(read(1, 33), Some(expected.clone()));
        let expected = Subscription {
            version: 2,
            ..expected
        };
        assert_eq!(read(2, 37), Some(expected.clone()));
        let expected = Subscription {
            rack: Some("r1".into()),
            version: 3,
            ..expected
        };
        assert_eq!(read(3, 41), Some(expected.clone()));
        assert_eq!(read(9, 41), Some(expected));
        for end in 0..all.len() {
            assert_eq!(
                Subscription::read(&Bytes::copy_from_slice(&all[..end])),
                None,
                "{end}"
            );
        }
    }

    /// ConsumerProtocolAssignment.
    #[test]
    fn assignments_are_written_and_read() {
        let partitions = vec![("ab".into(), vec![0, 3])];
        let written = Assignment::write(1, &partitions);
        assert_eq!(
            written[..],
            b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\0\0\0\0\x03\xff\xff\xff\xff"[..]
        );
        let assignment = Assignment {
            partitions,
            user_data: None,
        };
        assert_eq!(Assignment::read(&written), Some(assignment));
        for end in 1..written.len() {
            assert_eq!(Assignment::read(&written.slice(..end)), None);
        }
        assert_eq!(Assignment::read(&Bytes::new()), Some(Assignment::default()));
    }
}
