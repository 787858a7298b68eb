//! Layouts of what is stored of MQTT sessions besides their messages.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    StoreError,
    messages::{self, Dialects},
    values::{Reader, Writer},
};
use crate::{id::Sequence, message::Message, time::Timestamp};

const SESSION: u8 = 1;
const WILL: u8 = 1;

/// What is stored of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SessionRow {
    /// Messages from here on were not sent yet.
    pub(crate) sent_to: Sequence,
    /// Packet identifiers for which PUBREL is sent, oldest first.
    pub(crate) releasing: Vec<u16>,
    /// Packet identifiers of the client for which PUBREL is expected.
    pub(crate) received: Vec<u16>,
    /// Since when the client is away; none while it is connected.
    pub(crate) away_since: Option<Timestamp>,
}

impl SessionRow {
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::new(SESSION);
        writer.varint(self.sent_to.0);
        writer.option(self.away_since, |writer, since| writer.varint(since.0));
        for ids in [&self.releasing, &self.received] {
            writer.list(ids, |writer, id| writer.varint((*id).into()));
        }
        writer.done()
    }

    pub(crate) fn decode(value: Bytes) -> Result<SessionRow, StoreError> {
        let mut reader = Reader::new(value, SESSION)?;
        let id = |reader: &mut Reader| {
            u16::try_from(reader.varint()?)
                .map_err(|_| StoreError::Corrupt("packet identifier is out of range".into()))
        };
        Ok(SessionRow {
            sent_to: Sequence(reader.varint()?),
            away_since: reader.option(Reader::varint)?.map(Timestamp),
            releasing: reader.list(id)?,
            received: reader.list(id)?,
        })
    }
}

/// What is stored of a will.
#[derive(Clone, Debug)]
pub(crate) struct WillRow {
    /// What to publish.
    pub(crate) message: Arc<Message>,
    /// How long after the client has gone.
    pub(crate) delay: Duration,
    /// When, if the client has gone.
    pub(crate) at: Option<Timestamp>,
}

impl WillRow {
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(WILL, self.message.size() + 96);
        writer.varint(self.delay.as_millis() as u64);
        writer.option(self.at, |writer, at| writer.varint(at.0));
        writer.bytes(&messages::encode_retained(
            &self.message,
            Timestamp::default(),
        ));
        writer.done()
    }

    pub(crate) fn decode(value: Bytes, dialects: &Dialects) -> Result<WillRow, StoreError> {
        let mut reader = Reader::new(value, WILL)?;
        let delay = Duration::from_millis(reader.varint()?);
        let at = reader.option(Reader::varint)?.map(Timestamp);
        let (message, _) = messages::decode_retained(reader.bytes()?, dialects)?;
        Ok(WillRow { message, delay, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip_and_damage_is_an_error() {
        let row = SessionRow {
            sent_to: Sequence(70_000),
            releasing: vec![9, 3, 49_152],
            received: vec![1, 2, 65_535],
            away_since: Some(Timestamp(1_700_000_000_000)),
        };
        let encoded = row.encode();
        assert_eq!(SessionRow::decode(encoded.clone()).unwrap(), row);
        for length in 0..encoded.len() {
            assert!(SessionRow::decode(encoded.slice(..length)).is_err());
        }
        let will = WillRow {
            message: messages::message("a/b", "gone"),
            delay: Duration::from_millis(1500),
            at: Some(Timestamp(7)),
        };
        let decoded = WillRow::decode(will.encode(), &Dialects::new(vec![])).unwrap();
        assert_eq!((decoded.delay, decoded.at), (will.delay, will.at));
        assert_eq!(decoded.message.body, will.message.body);
    }
}
