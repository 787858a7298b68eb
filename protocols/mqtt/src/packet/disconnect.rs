//! DISCONNECT and AUTH (sections 3.14 and 3.15).

use bytes::{BufMut, Bytes, BytesMut};
use trivium_core::Text;

use super::{
    Reason, Version, Violation, kind,
    property::{self, Properties, id},
    wire::{Reader, expect_flags, put_packet},
};

/// The last packet of a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disconnect {
    /// Why.
    pub reason: Reason,
    /// Changes how long the session outlives the connection.
    pub session_expiry: Option<u32>,
    /// Text for people.
    pub reason_string: Option<Text>,
    /// Another server to use; only from a server.
    pub server_reference: Option<Text>,
}

impl Disconnect {
    /// A DISCONNECT with a reason only.
    pub fn new(reason: Reason) -> Disconnect {
        Disconnect {
            reason,
            ..Disconnect::default()
        }
    }

    pub(super) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<Disconnect, Violation> {
        expect_flags(first, 0)?;
        let mut disconnect = Disconnect::default();
        // 3.14.2.1: reason code and properties may be left out.
        if !version.is_5() || reader.remaining() == 0 {
            return Ok(disconnect);
        }
        disconnect.reason = Reason(reader.u8()?);
        if !is_allowed(disconnect.reason) {
            return Err(Violation::malformed(
                "reason code is not allowed in this packet",
            ));
        }
        let mut properties = Properties::read_optional(reader)?;
        while let Some(id) = properties.next_id()? {
            match id {
                id::SESSION_EXPIRY => disconnect.session_expiry = Some(properties.value.u32()?),
                id::REASON_STRING => disconnect.reason_string = Some(properties.value.text()?),
                id::SERVER_REFERENCE => {
                    disconnect.server_reference = Some(properties.value.text()?)
                }
                other => properties.skip_common(other)?,
            }
        }
        Ok(disconnect)
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        if !version.is_5() || *self == Disconnect::default() {
            out.put_slice(&[kind::DISCONNECT << 4, 0]);
            return;
        }
        put_packet(out, kind::DISCONNECT << 4, |out| {
            out.put_u8(self.reason.0);
            if self.has_properties() {
                property::put_properties(out, |out| {
                    property::put_u32(out, id::SESSION_EXPIRY, self.session_expiry);
                    property::put_binary(out, id::REASON_STRING, self.reason_string.as_deref());
                    property::put_binary(
                        out,
                        id::SERVER_REFERENCE,
                        self.server_reference.as_deref(),
                    );
                });
            }
        });
    }

    fn has_properties(&self) -> bool {
        self.session_expiry.is_some()
            || self.reason_string.is_some()
            || self.server_reference.is_some()
    }
}

fn is_allowed(reason: Reason) -> bool {
    matches!(reason.0, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b | 0x8d..=0x90 | 0x93..=0xa2)
}

/// A step of enhanced authentication.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth {
    /// Success, continue or re-authenticate.
    pub reason: Reason,
    /// The method.
    pub method: Option<Text>,
    /// The method's data.
    pub data: Option<Bytes>,
}

impl Auth {
    pub(super) fn decode(first: u8, reader: &mut Reader<'_>) -> Result<Auth, Violation> {
        expect_flags(first, 0)?;
        let mut auth = Auth::default();
        // 3.15.2.1
        if reader.remaining() == 0 {
            return Ok(auth);
        }
        auth.reason = Reason(reader.u8()?);
        if !matches!(auth.reason.0, 0x00 | 0x18 | 0x19) {
            return Err(Violation::malformed(
                "reason code is not allowed in this packet",
            ));
        }
        let mut properties = Properties::read_optional(reader)?;
        while let Some(id) = properties.next_id()? {
            match id {
                id::AUTHENTICATION_METHOD => auth.method = Some(properties.value.text()?),
                id::AUTHENTICATION_DATA => auth.data = Some(properties.value.binary()?),
                id::REASON_STRING => drop(properties.value.str()?),
                other => properties.skip_common(other)?,
            }
        }
        Ok(auth)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        if *self == Auth::default() {
            out.put_slice(&[kind::AUTH << 4, 0]);
            return;
        }
        put_packet(out, kind::AUTH << 4, |out| {
            out.put_u8(self.reason.0);
            property::put_properties(out, |out| {
                property::put_binary(out, id::AUTHENTICATION_METHOD, self.method.as_deref());
                property::put_binary(out, id::AUTHENTICATION_DATA, self.data.as_deref());
            });
        });
    }
}
