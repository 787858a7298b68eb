//! Between messages of other protocols and records (DESIGN section 3.4).

use bytes::Bytes;

use crate::{properties::Text, time::Timestamp};

/// A record to be packed by the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewRecord {
    /// The broker's clock decides where there is none.
    pub timestamp: Option<Timestamp>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// A header section: see [`super::record::write_headers`].
    pub headers: Bytes,
}

/// What becomes the key of a message whose publisher gave none (`mq.key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum KeyRule {
    /// The topic, as AMQP and Kafka spell it.
    #[default]
    Topic,
    /// The publisher's client identifier.
    ClientId,
    /// A level of the topic, the first is 1.
    Level(usize),
    /// A property or header.
    Property(Text),
    /// No key.
    None,
}

impl KeyRule {
    /// Reads `topic`, `clientid`, `level(n)`, `property(name)` or `none`.
    pub fn parse(text: &str) -> Option<KeyRule> {
        let argument = |name: &str| {
            text.strip_prefix(name)?
                .strip_prefix('(')?
                .strip_suffix(')')
        };
        match text {
            "topic" => Some(KeyRule::Topic),
            "clientid" => Some(KeyRule::ClientId),
            "none" => Some(KeyRule::None),
            _ => match argument("level") {
                Some(level) => level
                    .parse()
                    .ok()
                    .filter(|level| *level > 0)
                    .map(KeyRule::Level),
                None => argument("property")
                    .filter(|name| !name.is_empty())
                    .map(|name| KeyRule::Property(name.into())),
            },
        }
    }
}
