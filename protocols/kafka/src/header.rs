//! The header of a request.
//!
//! ```text
//! api key i16 · api version i16 · correlation id i32 · client id nullable string (never compact)
//! · tagged fields, in the header of flexible requests
//! ```

use bytes::Bytes;
use trivium_core::Text;
use trivium_protocol::CloseReason;

use crate::{
    api::{ApiKey, Request},
    wire::{Frame, Malformed, Reader, Wire},
};

/// Who asks for what, in which version.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Text,
}

/// A request as far as it can be understood.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and nearly all are requests"
)]
pub(crate) enum Parsed {
    /// A request that is served.
    Request(Header, Request),
    /// An ApiVersions request of a version to come: answered, in version 0.
    NewerApiVersions(Header),
}

impl Header {
    /// Reads a whole request. An API or version that is not served is answered by closing, as Kafka does.
    pub(crate) fn parse(frame: Bytes) -> Result<Parsed, CloseReason> {
        let mut reader = Reader::new(frame, 0, false);
        let read = |reader: &mut Reader| i16::read(reader).map_err(malformed);
        let (code, version) = (read(&mut reader)?, read(&mut reader)?);
        let correlation_id = i32::read(&mut reader).map_err(malformed)?;
        let unsupported =
            || CloseReason::Protocol(format!("api key {code} version {version} is not supported"));
        let key = ApiKey::find(code).ok_or_else(unsupported)?;
        let header = |client_id| Header {
            key,
            version,
            correlation_id,
            client_id,
        };
        if key == ApiKey::ApiVersions && !key.serves(version) {
            return Ok(Parsed::NewerApiVersions(header(Text::new())));
        }
        if !key.serves(version) {
            return Err(unsupported());
        }
        let client_id = Option::<Text>::read(&mut reader)
            .map_err(malformed)?
            .unwrap_or_default();
        let request = Request::read(
            key,
            version,
            header_end(reader, key, version).map_err(malformed)?,
        );
        Ok(Parsed::Request(
            header(client_id),
            request.map_err(malformed)?,
        ))
    }

    /// A frame with the header of the response, for a body in the request's version.
    pub(crate) fn response(&self) -> Frame {
        let mut frame = Frame::new(self.version, self.key.is_flexible(self.version));
        self.correlation_id.write(&mut frame);
        if self.key.has_flexible_response_header(self.version) {
            frame.put_uvarint(0);
        }
        frame
    }
}

/// What is left behind the header.
fn header_end(mut reader: Reader, key: ApiKey, version: i16) -> Result<Bytes, Malformed> {
    if key.is_flexible(version) {
        let mut tags = Reader::new(reader.take(reader.remaining())?, version, true);
        tags.tagged_fields(|_, _| Ok(()))?;
        reader = tags;
    }
    reader.take(reader.remaining())
}

fn malformed(error: Malformed) -> CloseReason {
    CloseReason::Protocol(error.to_string())
}
