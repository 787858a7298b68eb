//! CONNACK (section 3.2).

use bytes::{BufMut, Bytes, BytesMut};
use trivium_core::Text;

use super::{
    Qos, Reason, Version, Violation, kind,
    property::{self, Properties, id},
    wire::{self, Reader, expect_flags},
};

/// The answer to CONNECT. The properties are the ones that this broker sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnAck {
    /// Whether state of an earlier session is there.
    pub session_present: bool,
    /// Success or why not; in 3.x as [`Reason::return_code`].
    pub reason: Reason,
    /// Unacknowledged PUBLISH packets of QoS 1 and 2 that the server takes at once.
    pub receive_maximum: Option<u16>,
    /// The greatest QoS that the server takes, when it is not 2.
    pub maximum_qos: Option<Qos>,
    /// The largest packet that the server takes.
    pub maximum_packet_size: Option<u32>,
    /// The identifier that the server chose.
    pub assigned_client_id: Option<Text>,
    /// The greatest topic alias that the server takes.
    pub topic_alias_maximum: Option<u16>,
    /// Text for people.
    pub reason_string: Option<Text>,
    /// `Some(false)` when shared subscriptions are not available.
    pub shared_available: Option<bool>,
    /// The keep alive that the client must use instead of its own, in seconds.
    pub server_keep_alive: Option<u16>,
    /// What the client builds its response topics from.
    pub response_information: Option<Text>,
    /// Another server to use.
    pub server_reference: Option<Text>,
    /// The method of enhanced authentication that the client asked for.
    pub authentication_method: Option<Text>,
    /// The method's last data.
    pub authentication_data: Option<Bytes>,
}

impl ConnAck {
    pub(super) fn decode(
        first: u8,
        reader: &mut Reader<'_>,
        version: Version,
    ) -> Result<ConnAck, Violation> {
        expect_flags(first, 0)?;
        // 3.1 has no session present flag: the byte is reserved and means nothing.
        let session_present = reader.flag()? && version != Version::V31;
        let reason = read_reason(reader.u8()?, version)?;
        let mut ack = ConnAck {
            session_present,
            reason,
            ..ConnAck::default()
        };
        if version.is_5() {
            ack.read_properties(Properties::read(reader)?)?;
        }
        Ok(ack)
    }

    fn read_properties(&mut self, mut properties: Properties<'_>) -> Result<(), Violation> {
        while let Some(id) = properties.next_id()? {
            let value = &mut properties.value;
            match id {
                id::RECEIVE_MAXIMUM => self.receive_maximum = Some(properties.non_zero_u16()?),
                id::MAXIMUM_QOS => self.maximum_qos = Some(Qos::from_bits(value.u8()?)?),
                id::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(value.u32()?),
                id::ASSIGNED_CLIENT_ID => self.assigned_client_id = Some(value.text()?),
                id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = Some(value.u16()?),
                id::REASON_STRING => self.reason_string = Some(value.text()?),
                id::SHARED_AVAILABLE => self.shared_available = Some(value.flag()?),
                id::SERVER_KEEP_ALIVE => self.server_keep_alive = Some(value.u16()?),
                id::RESPONSE_INFORMATION => self.response_information = Some(value.text()?),
                id::SERVER_REFERENCE => self.server_reference = Some(value.text()?),
                id::AUTHENTICATION_METHOD => self.authentication_method = Some(value.text()?),
                id::AUTHENTICATION_DATA => self.authentication_data = Some(value.binary()?),
                other => properties.skip_common(other)?,
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self, version: Version, out: &mut BytesMut) {
        wire::put_packet(out, kind::CONNACK << 4, |out| {
            // 3.1 has no session present flag.
            out.put_u8((self.session_present && version != Version::V31).into());
            out.put_u8(self.reason.in_connack(version));
            if version.is_5() {
                property::put_properties(out, |out| self.put_properties(out));
            }
        });
    }

    fn put_properties(&self, out: &mut BytesMut) {
        property::put_u16(out, id::RECEIVE_MAXIMUM, self.receive_maximum);
        property::put_u8(out, id::MAXIMUM_QOS, self.maximum_qos.map(|qos| qos as u8));
        property::put_u32(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        property::put_binary(
            out,
            id::ASSIGNED_CLIENT_ID,
            self.assigned_client_id.as_deref(),
        );
        property::put_u16(out, id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
        property::put_binary(out, id::REASON_STRING, self.reason_string.as_deref());
        property::put_u8(
            out,
            id::SHARED_AVAILABLE,
            self.shared_available.map(u8::from),
        );
        property::put_u16(out, id::SERVER_KEEP_ALIVE, self.server_keep_alive);
        for (id, text) in [
            (id::RESPONSE_INFORMATION, &self.response_information),
            (id::SERVER_REFERENCE, &self.server_reference),
            (id::AUTHENTICATION_METHOD, &self.authentication_method),
        ] {
            property::put_binary(out, id, text.as_deref());
        }
        property::put_binary(
            out,
            id::AUTHENTICATION_DATA,
            self.authentication_data.as_ref(),
        );
    }
}

fn read_reason(code: u8, version: Version) -> Result<Reason, Violation> {
    if version.is_5() {
        return Ok(Reason(code));
    }
    Reason::from_return_code(code).ok_or(Violation::malformed("unknown return code"))
}
