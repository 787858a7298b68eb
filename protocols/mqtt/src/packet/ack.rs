//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7), which look alike.

use bytes::{BufMut, BytesMut};
use trivium_core::Text;

use super::{
    Reason, Version, Violation, kind,
    property::{self, Properties, id},
    wire::{Reader, expect_flags, put_packet},
};

/// One step of the handshake of a PUBLISH.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ack {
    /// Which PUBLISH.
    pub packet_id: u16,
    /// Success or why not; always success in 3.x.
    pub reason: Reason,
    /// Text for people.
    pub reason_string: Option<Text>,
}

impl Ack {
    /// An acknowledgement without a text.
    pub fn new(packet_id: u16, reason: Reason) -> Ack {
        Ack {
            packet_id,
            reason,
            reason_string: None,
        }
    }

    pub(super) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<Ack, Violation> {
        check_flags(first, version)?;
        let mut ack = Ack::new(reader.packet_id()?, Reason::SUCCESS);
        // 3.4.2.1: reason code and properties may be left out.
        if !version.is_5() || reader.remaining() == 0 {
            return Ok(ack);
        }
        ack.reason = Reason(reader.u8()?);
        if !is_allowed(first >> 4, ack.reason) {
            return Err(Violation::malformed(
                "reason code is not allowed in this packet",
            ));
        }
        let mut properties = Properties::read_optional(reader)?;
        while let Some(id) = properties.next_id()? {
            match id {
                id::REASON_STRING => ack.reason_string = Some(properties.value.text()?),
                other => properties.skip_common(other)?,
            }
        }
        Ok(ack)
    }

    /// Appends the packet as short as it can be.
    pub fn encode(&self, kind: u8, version: Version, out: &mut BytesMut) {
        let first = kind << 4 | if kind == kind::PUBREL { 0b0010 } else { 0 };
        if !version.is_5() || (self.reason == Reason::SUCCESS && self.reason_string.is_none()) {
            out.put_slice(&[first, 2]);
            out.put_u16(self.packet_id);
            return;
        }
        put_packet(out, first, |out| {
            out.put_u16(self.packet_id);
            out.put_u8(self.reason.0);
            if let Some(text) = &self.reason_string {
                property::put_properties(out, |out| {
                    property::put_binary(out, id::REASON_STRING, Some(text))
                });
            }
        });
    }
}

fn check_flags(first: u8, version: Version) -> Result<(), Violation> {
    match first >> 4 {
        // 3.1 clients resend PUBREL with DUP.
        kind::PUBREL if version == Version::V31 => expect_flags(first & !0b1000, 0b0010),
        kind::PUBREL => expect_flags(first, 0b0010),
        _ => expect_flags(first, 0),
    }
}

fn is_allowed(kind: u8, reason: Reason) -> bool {
    match kind {
        kind::PUBACK | kind::PUBREC => {
            matches!(
                reason.0,
                0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99
            )
        }
        _ => matches!(reason.0, 0x00 | 0x92),
    }
}
