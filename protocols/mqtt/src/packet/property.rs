//! Properties (MQTT 5 section 2.2.2).
//!
//! Each packet lists the properties it allows in the `match` that reads them; [`Properties`] checks what is
//! common: the length of the block, one byte identifiers, and that only some may come twice.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::{
    reason::Violation,
    wire::{self, Reader},
};
use crate::topic;

#[allow(missing_docs, reason = "the names are the specification's")]
pub mod id {
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0b;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1a;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub const SHARED_AVAILABLE: u8 = 0x2a;
}

/// The properties of one packet, one after the other.
pub struct Properties<'a> {
    /// Reads the value of the property that [`Properties::next_id`] announced.
    pub value: Reader<'a>,
    seen: u64,
}

impl<'a> Properties<'a> {
    /// Takes the property block off `reader`.
    pub fn read(reader: &mut Reader<'a>) -> Result<Properties<'a>, Violation> {
        let length = reader.varint()?;
        Ok(Properties {
            value: reader.section(length)?,
            seen: 0,
        })
    }

    /// As [`Properties::read`]; none when the packet ends here, as some packets may.
    pub fn read_optional(reader: &mut Reader<'a>) -> Result<Properties<'a>, Violation> {
        if reader.remaining() == 0 {
            return Ok(Properties {
                value: reader.clone(),
                seen: 0,
            });
        }
        Properties::read(reader)
    }

    /// The identifier of the next property, whose value must be read before the next call.
    pub fn next_id(&mut self) -> Result<Option<u8>, Violation> {
        if self.value.remaining() == 0 {
            return Ok(None);
        }
        let id = self.value.u8()?;
        if id > id::SHARED_AVAILABLE {
            return Err(Violation::malformed("unknown property"));
        }
        let bit = 1 << id;
        if self.seen & bit != 0 && id != id::USER_PROPERTY && id != id::SUBSCRIPTION_ID {
            return Err(Violation::protocol("property is given twice"));
        }
        self.seen |= bit;
        Ok(Some(id))
    }

    /// Reads a user property, which any packet may carry and nobody here has a use for; any other is not allowed.
    pub fn skip_common(&mut self, id: u8) -> Result<(), Violation> {
        if id != id::USER_PROPERTY {
            return Err(not_allowed());
        }
        self.value.str()?;
        self.value.str()?;
        Ok(())
    }

    /// Reads the value of a number that must not be 0.
    pub fn non_zero_u16(&mut self) -> Result<u16, Violation> {
        match self.value.u16()? {
            0 => Err(Violation::protocol("property must not be 0")),
            value => Ok(value),
        }
    }
}

/// The property has no place in the packet.
pub fn not_allowed() -> Violation {
    Violation::malformed("property is not allowed in this packet")
}

/// The properties of a PUBLISH or will that travel with the message, as they came and in order.
#[derive(Default)]
pub struct Kept(SmallVec<[Range<usize>; 2]>);

impl Kept {
    /// Reads the value of a property that travels, whose identifier has been read.
    pub fn read(&mut self, id: u8, value: &mut Reader<'_>) -> Result<(), Violation> {
        let start = value.position() - 1;
        match id {
            id::PAYLOAD_FORMAT => {
                value.flag()?;
            }
            id::CONTENT_TYPE => {
                value.str()?;
            }
            id::RESPONSE_TOPIC => {
                // 3.3.2-14
                if !topic::is_name(value.str()?) {
                    return Err(Violation::protocol("response topic is not a topic name"));
                }
            }
            id::CORRELATION_DATA => drop(field(value)?),
            id::USER_PROPERTY => {
                value.str()?;
                value.str()?;
            }
            _ => return Err(not_allowed()),
        }
        match self.0.last_mut() {
            Some(last) if last.end == start => last.end = value.position(),
            _ => self.0.push(start..value.position()),
        }
        Ok(())
    }

    /// What was kept: a part of the buffer, or a copy when something else lay between.
    pub fn into_block(self, reader: &Reader<'_>) -> Bytes {
        match self.0.as_slice() {
            [] => Bytes::new(),
            [one] => reader.part(one.clone()),
            many => many
                .iter()
                .map(|range| reader.part(range.clone()))
                .collect::<Vec<_>>()
                .concat()
                .into(),
        }
    }
}

/// Whether a block of [`Kept`] says that the payload is UTF-8 (3.3.2.3.2).
pub fn says_utf8(block: &Bytes) -> bool {
    let mut value = Reader::new(block, 0..block.len());
    while let Ok(id) = value.u8() {
        let skipped = match id {
            id::PAYLOAD_FORMAT => return value.flag() == Ok(true),
            id::USER_PROPERTY => user(&mut value).map(drop),
            _ => field(&mut value).map(drop),
        };
        if skipped.is_err() {
            return false;
        }
    }
    false
}

/// Shows the user properties of a block of [`Kept`], names and values.
pub fn each_user(block: &Bytes, mut show: impl FnMut(&[u8], &[u8])) {
    let mut value = Reader::new(block, 0..block.len());
    while let Ok(id) = value.u8() {
        let shown = match id {
            id::PAYLOAD_FORMAT => value.flag().map(drop),
            id::USER_PROPERTY => user(&mut value).map(|(name, value)| show(name, value)),
            _ => field(&mut value).map(drop),
        };
        if shown.is_err() {
            return;
        }
    }
}

fn user<'a>(value: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), Violation> {
    Ok((field(value)?, field(value)?))
}

fn field<'a>(value: &mut Reader<'a>) -> Result<&'a [u8], Violation> {
    let length = value.u16()?;
    value.slice(length.into())
}

/// Appends a property block that `write` fills.
pub fn put_properties(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let mut scratch = BytesMut::new();
    write(&mut scratch);
    wire::put_varint(out, scratch.len());
    out.put_slice(&scratch);
}

/// Appends a property of one byte, when there is one.
pub fn put_u8(out: &mut BytesMut, id: u8, value: Option<u8>) {
    if let Some(value) = value {
        out.put_u8(id);
        out.put_u8(value);
    }
}

/// Appends a property of two bytes, when there is one.
pub fn put_u16(out: &mut BytesMut, id: u8, value: Option<u16>) {
    if let Some(value) = value {
        out.put_u8(id);
        out.put_u16(value);
    }
}

/// Appends a property of four bytes, when there is one.
pub fn put_u32(out: &mut BytesMut, id: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.put_u8(id);
        out.put_u32(value);
    }
}

/// Appends a property of bytes or text, when there is one.
pub fn put_binary(out: &mut BytesMut, id: u8, value: Option<impl AsRef<[u8]>>) {
    if let Some(value) = value {
        out.put_u8(id);
        wire::put_binary(out, value.as_ref());
    }
}

/// Appends a user property.
pub fn put_user(out: &mut BytesMut, name: &str, value: &str) {
    out.put_u8(id::USER_PROPERTY);
    wire::put_text(out, name);
    wire::put_text(out, value);
}
