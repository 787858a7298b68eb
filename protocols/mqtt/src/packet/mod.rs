//! Control packets of MQTT 3.1, 3.1.1 and 5: bytes ↔ [`Packet`], strict and without copies.
//!
//! ```text
//! input buffer ── run() ──► whole packets, one shared buffer ── frame() ──► Frame ── Packet::decode() ──► Packet
//! ```
//!
//! Nothing is allocated for a length that the peer announced: sizes are checked on the fixed header, and
//! texts and payloads are slices of the buffer that holds the whole packet.

mod ack;
mod connack;
mod connect;
mod disconnect;
pub mod property;
mod publish;
mod reason;
mod subscribe;
pub mod wire;

pub use ack::Ack;
pub use connack::ConnAck;
pub use connect::{Connect, Level, Will};
pub use disconnect::{Auth, Disconnect};
pub use publish::{Outgoing, Publish};
pub use reason::{Reason, Violation};
pub use subscribe::{Filter, RetainHandling, SubAck, Subscribe, UnsubAck, Unsubscribe};

use bytes::{BufMut, Bytes, BytesMut};
use trivium_core::Text;

use self::wire::{Reader, expect_flags, varint};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1 (`MQIsdp`, level 3).
    V31,
    /// MQTT 3.1.1 (level 4).
    V311,
    /// MQTT 5 (level 5).
    V5,
}

impl Version {
    /// Whether packets have properties and reason codes.
    pub fn is_5(self) -> bool {
        self == Version::V5
    }
}

/// Quality of service (4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// 0
    #[default]
    AtMostOnce,
    /// 1
    AtLeastOnce,
    /// 2
    ExactlyOnce,
}

impl Qos {
    /// Reads two bits; 3 is malformed.
    pub fn from_bits(bits: u8) -> Result<Qos, Violation> {
        match bits & 0b11 {
            0 => Ok(Qos::AtMostOnce),
            1 => Ok(Qos::AtLeastOnce),
            2 => Ok(Qos::ExactlyOnce),
            _ => Err(Violation::malformed("QoS is 3")),
        }
    }
}

/// Packet types: the high four bits of the fixed header.
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod kind {
    pub const CONNECT: u8 = 1;
    pub const CONNACK: u8 = 2;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREC: u8 = 5;
    pub const PUBREL: u8 = 6;
    pub const PUBCOMP: u8 = 7;
    pub const SUBSCRIBE: u8 = 8;
    pub const SUBACK: u8 = 9;
    pub const UNSUBSCRIBE: u8 = 10;
    pub const UNSUBACK: u8 = 11;
    pub const PINGREQ: u8 = 12;
    pub const PINGRESP: u8 = 13;
    pub const DISCONNECT: u8 = 14;
    pub const AUTH: u8 = 15;
}

/// A fixed header (2.1): where the packet's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Packet type and flags.
    pub first: u8,
    /// Length of the fixed header.
    pub header: usize,
    /// Length of what follows it.
    pub body: usize,
}

impl Frame {
    /// The packet type.
    pub fn kind(self) -> u8 {
        self.first >> 4
    }

    /// Length of the whole packet.
    pub fn total(self) -> usize {
        self.header + self.body
    }
}

/// Reads the fixed header at the start of `input`; `None` while it is incomplete. A packet over `max` bytes is
/// refused on its announced length, before any of it is buffered.
pub fn frame(input: &[u8], max: usize) -> Result<Option<Frame>, Violation> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(None);
    };
    let Some((body, length)) = varint(rest)? else {
        return Ok(None);
    };
    let frame = Frame {
        first,
        header: 1 + length,
        body,
    };
    if frame.total() > max {
        return Err(Violation {
            reason: Reason::PACKET_TOO_LARGE,
            text: "packet is over the maximum packet size",
        });
    }
    Ok(Some(frame))
}

/// The whole packets at the start of an input buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// Bytes they take.
    pub length: usize,
    /// What is wrong with the packet behind them, if anything.
    pub fault: Option<Violation>,
}

/// Finds the whole packets at the start of `input`, up to and including the first one for which `last` is true.
pub fn run(input: &[u8], max: usize, last: impl Fn(Frame) -> bool) -> Run {
    let mut length = 0;
    loop {
        match frame(&input[length..], max) {
            Ok(Some(frame)) if length + frame.total() <= input.len() => {
                length += frame.total();
                if last(frame) {
                    return Run {
                        length,
                        fault: None,
                    };
                }
            }
            Ok(_) => {
                return Run {
                    length,
                    fault: None,
                };
            }
            Err(fault) => {
                return Run {
                    length,
                    fault: Some(fault),
                };
            }
        }
    }
}

/// A control packet.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    UnsubAck(UnsubAck),
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    Auth(Auth),
}

impl Packet {
    /// Decodes the body of a packet, which `reader` holds whole. `topic` is the topic of the PUBLISH before
    /// this one: when the bytes are the same, the text is shared instead of checked again.
    pub fn decode(
        first: u8,
        mut reader: Reader<'_>,
        version: Version,
        topic: &mut Text,
    ) -> Result<Packet, Violation> {
        let reader = &mut reader;
        let packet = match first >> 4 {
            kind::CONNECT => {
                expect_flags(first, 0)?;
                Packet::Connect(Box::new(Connect::decode(reader)?))
            }
            kind::CONNACK => Packet::ConnAck(ConnAck::decode(first, reader, version)?),
            kind::PUBLISH => Packet::Publish(Publish::decode(first, reader, version, topic)?),
            kind::PUBACK => Packet::PubAck(Ack::decode(first, reader, version)?),
            kind::PUBREC => Packet::PubRec(Ack::decode(first, reader, version)?),
            kind::PUBREL => Packet::PubRel(Ack::decode(first, reader, version)?),
            kind::PUBCOMP => Packet::PubComp(Ack::decode(first, reader, version)?),
            kind::SUBSCRIBE => Packet::Subscribe(Subscribe::decode(first, reader, version)?),
            kind::SUBACK => Packet::SubAck(SubAck::decode(first, reader, version)?),
            kind::UNSUBSCRIBE => Packet::Unsubscribe(Unsubscribe::decode(first, reader, version)?),
            kind::UNSUBACK => Packet::UnsubAck(UnsubAck::decode(first, reader, version)?),
            kind::PINGREQ => {
                expect_flags(first, 0)?;
                Packet::PingReq
            }
            kind::PINGRESP => {
                expect_flags(first, 0)?;
                Packet::PingResp
            }
            kind::DISCONNECT => Packet::Disconnect(Disconnect::decode(first, reader, version)?),
            kind::AUTH if version.is_5() => Packet::Auth(Auth::decode(first, reader)?),
            _ => return Err(Violation::malformed("unknown packet type")),
        };
        reader.finish()?;
        Ok(packet)
    }

    /// Appends the packet. PUBLISH, which has a payload to keep out of the way, has [`Outgoing`] instead;
    /// here it is copied.
    pub fn encode(&self, version: Version, out: &mut BytesMut) {
        match self {
            Packet::Connect(packet) => packet.encode(out),
            Packet::ConnAck(packet) => packet.encode(version, out),
            Packet::Publish(packet) => packet.encode(version, out),
            Packet::PubAck(packet) => packet.encode(kind::PUBACK, version, out),
            Packet::PubRec(packet) => packet.encode(kind::PUBREC, version, out),
            Packet::PubRel(packet) => packet.encode(kind::PUBREL, version, out),
            Packet::PubComp(packet) => packet.encode(kind::PUBCOMP, version, out),
            Packet::Subscribe(packet) => packet.encode(version, out),
            Packet::SubAck(packet) => packet.encode(version, out),
            Packet::Unsubscribe(packet) => packet.encode(version, out),
            Packet::UnsubAck(packet) => packet.encode(version, out),
            Packet::PingReq => out.put_slice(&[kind::PINGREQ << 4, 0]),
            Packet::PingResp => out.put_slice(&[kind::PINGRESP << 4, 0]),
            Packet::Disconnect(packet) => packet.encode(version, out),
            Packet::Auth(packet) => packet.encode(out),
        }
    }

    /// Takes the first packet off `input`, for tests and clients.
    pub fn take(
        input: &mut Bytes,
        version: Version,
        max: usize,
    ) -> Result<Option<Packet>, Violation> {
        let Some(frame) = frame(input, max)? else {
            return Ok(None);
        };
        if frame.total() > input.len() {
            return Ok(None);
        }
        let whole = input.split_to(frame.total());
        let reader = Reader::new(&whole, frame.header..frame.total());
        Packet::decode(frame.first, reader, version, &mut Text::new()).map(Some)
    }
}
