//! PUBLISH (section 3.3), in both directions; the hot path of the codec.
//!
//! ```text
//! 0011 dup qos(2) retain  length  topic  [packet id]  [properties]  payload
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;
use trivium_core::Text;
use trivium_protocol::Output;

use super::{
    Qos, Reason, Version, Violation, kind,
    property::{Kept, Properties, id, put_u16},
    wire::{Reader, put_text, put_varint, varint_len},
};
use crate::topic;

const DUP: u8 = 1 << 3;
const RETAIN: u8 = 1;

/// A PUBLISH that came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publish {
    /// Sent before, perhaps.
    pub dup: bool,
    /// How it is delivered.
    pub qos: Qos,
    /// Whether it becomes the topic's retained message; from a server, whether it is one.
    pub retain: bool,
    /// The topic name; empty when the topic alias stands for it.
    pub topic: Text,
    /// 0 at QoS 0.
    pub packet_id: u16,
    /// Stands for the topic, or is to stand for it from now on.
    pub alias: Option<u16>,
    /// Lifetime in seconds.
    pub expiry: Option<u32>,
    /// Subscription identifiers; only from a server.
    pub subscriptions: SmallVec<[u32; 2]>,
    /// The other properties, as they came.
    pub block: Bytes,
    /// The payload.
    pub payload: Bytes,
}

impl Publish {
    /// Decodes the body, which `reader` holds whole; see [`Packet::decode`](super::Packet::decode) for `previous`.
    pub(crate) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        version: Version,
        previous: &mut Text,
    ) -> Result<Publish, Violation> {
        let qos = Qos::from_bits(first >> 1)?;
        let dup = first & DUP != 0;
        // 3.3.1-2; version 3.1 does not say so.
        if dup && qos == Qos::AtMostOnce && version != Version::V31 {
            return Err(Violation::malformed("DUP at QoS 0"));
        }
        let topic = read_topic(reader, version, previous)?;
        let packet_id = if qos == Qos::AtMostOnce {
            0
        } else {
            reader.packet_id()?
        };
        let own = match version {
            Version::V5 => Own::read(reader, topic.is_empty())?,
            _ => Own::default(),
        };
        // Every field is written once: this is the hot path.
        Ok(Publish {
            dup,
            qos,
            retain: first & RETAIN != 0,
            topic,
            packet_id,
            alias: own.alias,
            expiry: own.expiry,
            subscriptions: own.subscriptions,
            block: own.block,
            payload: reader.rest(),
        })
    }

    /// Appends the packet, for clients and tests.
    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        let mut output = Output::new();
        let outgoing = Outgoing {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: self.packet_id,
            alias: self.alias,
            expiry: self.expiry,
            subscriptions: &self.subscriptions,
            block: &self.block,
            payload: &self.payload,
        };
        outgoing.encode(version, &mut output);
        out.put_slice(&output.take());
    }
}

/// The properties of a PUBLISH.
#[derive(Default)]
struct Own {
    alias: Option<u16>,
    expiry: Option<u32>,
    subscriptions: SmallVec<[u32; 2]>,
    block: Bytes,
}

impl Own {
    fn read(reader: &mut Reader<'_>, needs_alias: bool) -> Result<Own, Violation> {
        let mut properties = Properties::read(reader)?;
        let own = match properties.value.remaining() {
            0 => Own::default(),
            _ => Own::read_each(&mut properties)?,
        };
        // 3.3.2.1
        if needs_alias && own.alias.is_none() {
            return Err(Violation::protocol(
                "neither a topic name nor a topic alias",
            ));
        }
        Ok(own)
    }

    fn read_each(properties: &mut Properties<'_>) -> Result<Own, Violation> {
        let (mut own, mut kept) = (Own::default(), Kept::default());
        while let Some(id) = properties.next_id()? {
            match id {
                id::MESSAGE_EXPIRY => own.expiry = Some(properties.value.u32()?),
                id::TOPIC_ALIAS => own.alias = Some(read_alias(&mut properties.value)?),
                id::SUBSCRIPTION_ID => match properties.value.varint()? {
                    0 => return Err(Violation::protocol("subscription identifier is 0")),
                    subscription => own.subscriptions.push(subscription as u32),
                },
                other => kept.read(other, &mut properties.value)?,
            }
        }
        own.block = kept.into_block(&properties.value);
        Ok(own)
    }
}

fn read_topic(
    reader: &mut Reader<'_>,
    version: Version,
    previous: &mut Text,
) -> Result<Text, Violation> {
    let start = reader.position();
    let length = reader.u16()?;
    let bytes = reader.slice(length.into())?;
    if bytes == previous.as_bytes() && !bytes.is_empty() {
        return Ok(previous.clone());
    }
    let topic = reader.rewound(start).text()?;
    let alias_may_stand = version.is_5() && topic.is_empty();
    if !alias_may_stand && !topic::is_name(&topic) {
        // 3.3.2-2
        return Err(Violation::malformed("not a topic name"));
    }
    *previous = topic.clone();
    Ok(topic)
}

fn read_alias(value: &mut Reader<'_>) -> Result<u16, Violation> {
    match value.u16()? {
        0 => Err(Violation {
            reason: Reason::TOPIC_ALIAS_INVALID,
            text: "topic alias is 0",
        }),
        alias => Ok(alias),
    }
}

/// A PUBLISH to be sent, borrowed from where its parts are.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Sent before, perhaps.
    pub dup: bool,
    /// How it is delivered.
    pub qos: Qos,
    /// Whether it is sent because it is retained, or was published so.
    pub retain: bool,
    /// The topic name.
    pub topic: &'a str,
    /// Not written at QoS 0.
    pub packet_id: u16,
    /// Stands for the topic, or is to stand for it from now on.
    pub alias: Option<u16>,
    /// The lifetime that is left, in seconds.
    pub expiry: Option<u32>,
    /// Subscription identifiers.
    pub subscriptions: &'a [u32],
    /// The other properties, encoded.
    pub block: &'a [u8],
    /// The payload.
    pub payload: &'a Bytes,
}

impl Outgoing<'_> {
    /// Length of the whole packet.
    pub fn total(&self, version: Version) -> usize {
        let body = self.body(version);
        1 + varint_len(body) + body
    }

    /// Writes the packet; a large payload goes by reference.
    pub fn encode(&self, version: Version, output: &mut Output) {
        let body = self.body(version);
        let out = output.buffer();
        out.reserve(5 + body.min(4096));
        let dup = if self.dup { DUP } else { 0 };
        out.put_u8(kind::PUBLISH << 4 | dup | (self.qos as u8) << 1 | u8::from(self.retain));
        put_varint(out, body);
        put_text(out, self.topic);
        if self.qos > Qos::AtMostOnce {
            out.put_u16(self.packet_id);
        }
        if version.is_5() {
            self.put_properties(out);
        }
        output.body(self.payload);
    }

    fn body(&self, version: Version) -> usize {
        let packet_id = if self.qos > Qos::AtMostOnce { 2 } else { 0 };
        let properties = if version.is_5() { self.properties() } else { 0 };
        let prefix = if version.is_5() {
            varint_len(properties)
        } else {
            0
        };
        2 + self.topic.len() + packet_id + prefix + properties + self.payload.len()
    }

    fn properties(&self) -> usize {
        let expiry = if self.expiry.is_some() { 5 } else { 0 };
        let subscriptions = self
            .subscriptions
            .iter()
            .map(|id| 1 + varint_len(*id as usize))
            .sum::<usize>();
        let alias = if self.alias.is_some() { 3 } else { 0 };
        expiry + subscriptions + alias + self.block.len()
    }

    fn put_properties(&self, out: &mut BytesMut) {
        put_varint(out, self.properties());
        if let Some(expiry) = self.expiry {
            out.put_u8(id::MESSAGE_EXPIRY);
            out.put_u32(expiry);
        }
        put_u16(out, id::TOPIC_ALIAS, self.alias);
        for subscription in self.subscriptions {
            out.put_u8(id::SUBSCRIPTION_ID);
            put_varint(out, *subscription as usize);
        }
        out.put_slice(self.block);
    }
}
