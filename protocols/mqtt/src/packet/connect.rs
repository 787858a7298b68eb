//! CONNECT (section 3.1).
//!
//! ```text
//! name u16+text  level u8  flags u8  keep alive u16  [properties]  client id
//! [will properties]  [will topic  will payload]  [user]  [password]
//! flags: user password will-retain will-qos(2) will clean-start 0
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use trivium_core::Text;

use super::{
    Qos, Reason, Version, Violation, kind,
    property::{self, Kept, Properties, id},
    wire::{self, FIELD_MAX, Reader},
};
use crate::topic;

/// A client asks for a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// What the client speaks.
    pub version: Version,
    /// Whether the high bit of the level says that the client is a bridge.
    pub bridge: bool,
    /// Starts without the state of an earlier session (clean session in 3.x).
    pub clean_start: bool,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
    /// Seconds the session outlives the connection; `u32::MAX` is for ever.
    pub session_expiry: u32,
    /// Unacknowledged PUBLISH packets of QoS 1 and 2 that the client takes at once.
    pub receive_maximum: u16,
    /// The largest packet that the client takes.
    pub maximum_packet_size: Option<u32>,
    /// The greatest topic alias that the client takes.
    pub topic_alias_maximum: u16,
    /// Whether any packet may carry a reason string.
    pub request_problem_information: bool,
    /// Whether CONNACK may carry response information.
    pub request_response_information: bool,
    /// Asks for enhanced authentication.
    pub authentication_method: Option<Text>,
    /// Data for it.
    pub authentication_data: Option<Bytes>,
    /// The client identifier, or empty.
    pub client_id: Text,
    /// What to publish when the connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// The user's name.
    pub user: Option<Text>,
    /// The password, or any other proof.
    pub password: Option<Bytes>,
}

/// A will message.
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    /// Where it is published.
    pub topic: Text,
    /// Its payload.
    pub payload: Bytes,
    /// Its QoS.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds to wait for the client to come back.
    pub delay: u32,
    /// Its lifetime in seconds.
    pub expiry: Option<u32>,
    /// The other properties, as they came.
    pub block: Bytes,
}

/// What the protocol name and level at the start of a CONNECT say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A version that is spoken here.
    Spoken(Version),
    /// A version that is spoken here, with the high bit set as bridges do.
    Bridge(Version),
    /// MQTT of another level.
    Other(u8),
    /// Not MQTT.
    Foreign,
}

impl Level {
    /// Reads name and level.
    pub fn read(reader: &mut Reader<'_>) -> Result<Level, Violation> {
        let length = reader.u16()?;
        let name = reader.slice(length.into())?;
        let level = reader.u8()?;
        Ok(match (name, level) {
            (b"MQIsdp", 3) => Level::Spoken(Version::V31),
            (b"MQTT", 4) => Level::Spoken(Version::V311),
            (b"MQTT", 5) => Level::Spoken(Version::V5),
            (b"MQIsdp", 0x83) => Level::Bridge(Version::V31),
            (b"MQTT", 0x84) => Level::Bridge(Version::V311),
            (b"MQTT", 0x85) => Level::Bridge(Version::V5),
            (b"MQTT" | b"MQIsdp", level) => Level::Other(level),
            _ => Level::Foreign,
        })
    }
}

const RESERVED: u8 = 1;
const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER: u8 = 1 << 7;

impl Connect {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Connect, Violation> {
        let (version, bridge) = match Level::read(reader)? {
            Level::Spoken(version) => (version, false),
            Level::Bridge(version) => (version, true),
            Level::Other(_) | Level::Foreign => {
                return Err(Violation {
                    reason: Reason::UNSUPPORTED_VERSION,
                    text: "protocol level is not supported",
                });
            }
        };
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let mut connect = Connect::new(version, Text::new());
        connect.bridge = bridge;
        connect.clean_start = flags & CLEAN_START != 0;
        connect.keep_alive = reader.u16()?;
        if version.is_5() {
            connect.session_expiry = 0;
            connect.read_properties(Properties::read(reader)?)?;
        } else {
            connect.session_expiry = if connect.clean_start { 0 } else { u32::MAX };
        }
        connect.client_id = reader.text()?;
        if flags & WILL != 0 {
            connect.will = Some(Will::decode(flags, reader, version)?);
        }
        if flags & USER != 0 {
            connect.user = Some(reader.text()?);
        }
        if flags & PASSWORD != 0 {
            connect.password = Some(reader.binary()?);
        }
        Ok(connect)
    }

    /// A request with every option at its default.
    pub fn new(version: Version, client_id: Text) -> Connect {
        Connect {
            version,
            bridge: false,
            clean_start: true,
            keep_alive: 0,
            session_expiry: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_problem_information: true,
            request_response_information: false,
            authentication_method: None,
            authentication_data: None,
            client_id,
            will: None,
            user: None,
            password: None,
        }
    }

    fn read_properties(&mut self, mut properties: Properties<'_>) -> Result<(), Violation> {
        while let Some(id) = properties.next_id()? {
            match id {
                id::SESSION_EXPIRY => self.session_expiry = properties.value.u32()?,
                id::RECEIVE_MAXIMUM => self.receive_maximum = properties.non_zero_u16()?,
                id::MAXIMUM_PACKET_SIZE => match properties.value.u32()? {
                    0 => return Err(Violation::protocol("maximum packet size is 0")),
                    size => self.maximum_packet_size = Some(size),
                },
                id::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = properties.value.u16()?,
                id::REQUEST_PROBLEM_INFORMATION => {
                    self.request_problem_information = properties.value.flag()?
                }
                id::REQUEST_RESPONSE_INFORMATION => {
                    self.request_response_information = properties.value.flag()?
                }
                id::AUTHENTICATION_METHOD => {
                    self.authentication_method = Some(properties.value.text()?)
                }
                id::AUTHENTICATION_DATA => {
                    self.authentication_data = Some(properties.value.binary()?)
                }
                other => properties.skip_common(other)?,
            }
        }
        // 3.1.2.11.10
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(Violation::protocol("authentication data without a method"));
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let (name, level) = match self.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        wire::put_packet(out, kind::CONNECT << 4, |out| {
            wire::put_text(out, name);
            out.put_u8(level | if self.bridge { 0x80 } else { 0 });
            out.put_u8(self.flags());
            out.put_u16(self.keep_alive);
            if self.version.is_5() {
                property::put_properties(out, |out| self.put_properties(out));
            }
            wire::put_text(out, &self.client_id);
            if let Some(will) = &self.will {
                will.encode(self.version, out);
            }
            for field in [
                self.user.as_ref().map(Text::as_bytes),
                self.password.as_ref(),
            ]
            .into_iter()
            .flatten()
            {
                wire::put_binary(out, field);
            }
        });
    }

    fn flags(&self) -> u8 {
        let will =
            |will: &Will| WILL | (will.qos as u8) << 3 | if will.retain { WILL_RETAIN } else { 0 };
        self.will.as_ref().map_or(0, will)
            | if self.clean_start { CLEAN_START } else { 0 }
            | if self.user.is_some() { USER } else { 0 }
            | if self.password.is_some() { PASSWORD } else { 0 }
    }

    fn put_properties(&self, out: &mut BytesMut) {
        property::put_u32(
            out,
            id::SESSION_EXPIRY,
            Some(self.session_expiry).filter(|&expiry| expiry != 0),
        );
        property::put_u16(
            out,
            id::RECEIVE_MAXIMUM,
            Some(self.receive_maximum).filter(|&maximum| maximum != u16::MAX),
        );
        property::put_u32(out, id::MAXIMUM_PACKET_SIZE, self.maximum_packet_size);
        property::put_u16(
            out,
            id::TOPIC_ALIAS_MAXIMUM,
            Some(self.topic_alias_maximum).filter(|&maximum| maximum != 0),
        );
        property::put_u8(
            out,
            id::REQUEST_PROBLEM_INFORMATION,
            (!self.request_problem_information).then_some(0),
        );
        property::put_u8(
            out,
            id::REQUEST_RESPONSE_INFORMATION,
            self.request_response_information.then_some(1),
        );
        property::put_binary(
            out,
            id::AUTHENTICATION_METHOD,
            self.authentication_method.as_deref(),
        );
        property::put_binary(
            out,
            id::AUTHENTICATION_DATA,
            self.authentication_data.as_deref(),
        );
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), Violation> {
    // 3.1.2-3; version 3.1 does not say that the bit must be 0.
    if flags & RESERVED != 0 && version != Version::V31 {
        return Err(Violation::malformed("reserved connect flag is set"));
    }
    // 3.1.2-11, 3.1.2-13
    if flags & WILL == 0 && flags & 0b0011_1000 != 0 {
        return Err(Violation::malformed(
            "will QoS or will retain without a will",
        ));
    }
    // 3.1.2-22 of version 3.1.1; version 5 allows a password alone.
    if flags & PASSWORD != 0 && flags & USER == 0 && !version.is_5() {
        return Err(Violation::malformed("password without a user name"));
    }
    Ok(())
}

impl Will {
    fn decode(flags: u8, reader: &mut Reader<'_>, version: Version) -> Result<Will, Violation> {
        let qos = Qos::from_bits(flags >> 3)?;
        let (mut delay, mut expiry, mut kept) = (0, None, Kept::default());
        if version.is_5() {
            let mut properties = Properties::read(reader)?;
            while let Some(id) = properties.next_id()? {
                match id {
                    id::WILL_DELAY => delay = properties.value.u32()?,
                    id::MESSAGE_EXPIRY => expiry = Some(properties.value.u32()?),
                    other => kept.read(other, &mut properties.value)?,
                }
            }
        }
        let block = kept.into_block(reader);
        let topic = reader.text()?;
        if !topic::is_name(&topic) {
            return Err(Violation::malformed("will topic is not a topic name"));
        }
        Ok(Will {
            topic,
            payload: reader.binary()?,
            qos,
            retain: flags & WILL_RETAIN != 0,
            delay,
            expiry,
            block,
        })
    }

    fn encode(&self, version: Version, out: &mut BytesMut) {
        if version.is_5() {
            property::put_properties(out, |out| {
                property::put_u32(
                    out,
                    id::WILL_DELAY,
                    Some(self.delay).filter(|&delay| delay != 0),
                );
                property::put_u32(out, id::MESSAGE_EXPIRY, self.expiry);
                out.put_slice(&self.block);
            });
        }
        wire::put_text(out, &self.topic);
        debug_assert!(self.payload.len() <= FIELD_MAX);
        wire::put_binary(out, &self.payload);
    }
}
