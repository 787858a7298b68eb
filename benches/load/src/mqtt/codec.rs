//! The few MQTT packets that the generator needs, in versions 3.1.1 and 5.

use anyhow::Context;

pub const CONNACK: u8 = 0x20;
pub const PUBLISH: u8 = 0x30;
pub const PUBACK: u8 = 0x40;
pub const SUBACK: u8 = 0x90;
pub const PINGRESP: u8 = 0xD0;
pub const DISCONNECT: u8 = 0xE0;
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// Packet identifiers are 1 to 65,535.
pub const IDENTIFIERS: u64 = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V3,
    V5,
}

/// One packet where it lies in the read buffer.
#[derive(Debug, PartialEq)]
pub struct Packet<'a> {
    /// The first byte: type and flags.
    pub head: u8,
    pub body: &'a [u8],
    /// Bytes with the fixed header.
    pub length: usize,
}

impl<'a> Packet<'a> {
    pub fn kind(&self) -> u8 {
        self.head & 0xF0
    }

    /// The packet at the front of `input`; `None` while it is incomplete.
    #[inline]
    pub fn read(input: &'a [u8]) -> anyhow::Result<Option<Packet<'a>>> {
        let Some((&head, rest)) = input.split_first() else {
            return Ok(None);
        };
        let Some((size, width)) = variable_integer(rest)? else {
            return Ok(None);
        };
        let Some(body) = rest.get(width..width + size) else {
            return Ok(None);
        };
        Ok(Some(Packet {
            head,
            body,
            length: 1 + width + size,
        }))
    }
}

/// What a received PUBLISH says.
#[derive(Debug, PartialEq)]
pub struct Publish<'a> {
    /// `None` at QoS 0.
    pub identifier: Option<[u8; 2]>,
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    #[inline]
    pub fn read(packet: &Packet<'a>, version: Version) -> anyhow::Result<Publish<'a>> {
        Publish::parse(packet, version)?.context("a PUBLISH is shorter than what it holds")
    }

    fn parse(packet: &Packet<'a>, version: Version) -> anyhow::Result<Option<Publish<'a>>> {
        let body = packet.body;
        let Some(topic) = body.first_chunk::<2>() else {
            return Ok(None);
        };
        let mut at = 2 + usize::from(u16::from_be_bytes(*topic));
        let mut identifier = None;
        if packet.head & 0x06 != 0 {
            identifier = body
                .get(at..)
                .and_then(|rest| rest.first_chunk::<2>())
                .copied();
            at += 2;
        }
        if version == Version::V5 {
            let Some((size, width)) = variable_integer(body.get(at..).unwrap_or_default())? else {
                return Ok(None);
            };
            at += width + size;
        }
        Ok(body.get(at..).map(|payload| Publish {
            identifier,
            payload,
        }))
    }
}

/// Value and width of a variable byte integer; `None` while it is incomplete.
#[inline]
fn variable_integer(input: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let mut value = 0;
    for (index, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    anyhow::ensure!(
        input.len() < 4,
        "a length has more than four bytes; does the broker speak MQTT?"
    );
    Ok(None)
}

pub struct Credentials<'a> {
    pub user: Option<&'a str>,
    pub password: Option<&'a str>,
}

/// CONNECT with a clean session and no keep-alive.
pub fn connect(version: Version, client: &str, credentials: &Credentials<'_>) -> Vec<u8> {
    const CLEAN: u8 = 0x02;
    let (user, password) = (credentials.user, credentials.password);
    let flags =
        CLEAN | if user.is_some() { 0x80 } else { 0 } | if password.is_some() { 0x40 } else { 0 };
    let mut body = Vec::new();
    string(&mut body, "MQTT");
    body.extend([if version == Version::V5 { 5 } else { 4 }, flags, 0, 0]);
    if version == Version::V5 {
        body.push(0);
    }
    string(&mut body, client);
    user.iter()
        .chain(&password)
        .for_each(|text| string(&mut body, text));
    packet(0x10, &body)
}

pub fn subscribe(version: Version, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    string(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// A PUBLISH with identifier 0 to be overwritten, and where identifier and payload begin.
pub fn publish(version: Version, topic: &str, qos: u8, payload: &[u8]) -> (Vec<u8>, usize, usize) {
    let mut body = Vec::new();
    string(&mut body, topic);
    let identifier_at = body.len();
    if qos > 0 {
        body.extend([0, 0]);
    }
    if version == Version::V5 {
        body.push(0);
    }
    let payload_at = body.len();
    body.extend(payload);
    let packet = packet(PUBLISH | qos << 1, &body);
    let head = packet.len() - body.len();
    (packet, head + identifier_at, head + payload_at)
}

/// What CONNACK allows: how many QoS 1 messages may be unacknowledged.
pub fn accepted(connack: &[u8], version: Version) -> anyhow::Result<u64> {
    let code = *connack.get(1).context("CONNACK is too short")?;
    anyhow::ensure!(
        code == 0,
        "the broker refused the connection with code {code} (0x{code:02X})"
    );
    match version {
        Version::V3 => Ok(IDENTIFIERS),
        Version::V5 => {
            Ok(receive_maximum(connack.get(2..).unwrap_or_default()).unwrap_or(IDENTIFIERS))
        }
    }
}

/// MQTT 5, 3.2.2.3.3. Walks the properties, whose types follow from their identifiers (2.2.2.2).
fn receive_maximum(input: &[u8]) -> Option<u64> {
    let (size, width) = variable_integer(input).ok()??;
    let mut rest = input.get(width..width + size)?;
    loop {
        let (identifier, value) = rest.split_first()?;
        let string =
            |at: usize| Some(2 + usize::from(u16::from_be_bytes(*value.get(at..)?.first_chunk()?)));
        let width = match identifier {
            0x21 => return Some(u64::from(u16::from_be_bytes(*value.first_chunk()?))),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
            0x13 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x26 => string(0)? + string(string(0)?)?,
            _ => string(0)?,
        };
        rest = value.get(width..)?;
    }
}

fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    let mut left = body.len();
    loop {
        let more = if left > 0x7F { 0x80 } else { 0 };
        bytes.push((left & 0x7F) as u8 | more);
        left >>= 7;
        if left == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// At most 65,535 bytes, which the options are checked for.
fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Credentials<'_> = Credentials {
        user: None,
        password: None,
    };

    #[test]
    fn connect_names_version_and_credentials() {
        assert_eq!(
            connect(Version::V3, "c", &NOBODY),
            b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c"
        );
        let known = Credentials {
            user: Some("u"),
            password: Some("p"),
        };
        assert_eq!(
            connect(Version::V5, "c", &known),
            b"\x10\x14\0\x04MQTT\x05\xc2\0\0\0\0\x01c\0\x01u\0\x01p"
        );
    }

    #[test]
    fn a_publish_reads_back_in_both_versions() {
        for version in [Version::V3, Version::V5] {
            for qos in [0, 1] {
                let (mut bytes, identifier_at, payload_at) = publish(version, "a/b", qos, b"hello");
                assert_eq!(&bytes[payload_at..], b"hello");
                if qos > 0 {
                    bytes[identifier_at..identifier_at + 2].copy_from_slice(&[1, 2]);
                }
                let packet = Packet::read(&bytes).unwrap().unwrap();
                let identifier = (qos > 0).then_some([1, 2]);
                assert_eq!(packet.kind(), PUBLISH);
                assert_eq!(
                    Publish::read(&packet, version).unwrap(),
                    Publish {
                        identifier,
                        payload: b"hello"
                    }
                );
            }
        }
        assert_eq!(publish(Version::V3, "t", 0, b"x").0, b"\x30\x04\0\x01tx");
        assert_eq!(
            publish(Version::V5, "t", 1, b"x").0,
            b"\x32\x07\0\x01t\0\0\0x"
        );
    }

    #[test]
    fn a_packet_is_read_when_its_last_byte_is_there() {
        let (bytes, ..) = publish(Version::V3, "t", 0, &[7; 300]);
        assert_eq!(&bytes[..3], [0x30, 0xAF, 0x02]);
        for length in 0..bytes.len() {
            assert_eq!(Packet::read(&bytes[..length]).unwrap(), None);
        }
        assert_eq!(Packet::read(&bytes).unwrap().unwrap().length, bytes.len());
        assert!(Packet::read(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
    }

    #[test]
    fn a_publish_that_lies_about_its_topic_is_refused() {
        let packet = Packet {
            head: 0x30,
            body: &[0xFF, 0xFF, b't'],
            length: 5,
        };
        assert!(Publish::read(&packet, Version::V3).is_err());
    }

    #[test]
    fn the_receive_maximum_is_found_among_other_properties() {
        let connack = [
            0, 0, 14, 0x22, 0, 10, 0x12, 0, 2, b'i', b'd', 0x24, 1, 0x21, 0, 20, 0x99,
        ];
        assert_eq!(accepted(&connack, Version::V5).unwrap(), 20);
        assert_eq!(accepted(&[0, 0, 0], Version::V5).unwrap(), IDENTIFIERS);
        assert_eq!(accepted(&[0, 0], Version::V3).unwrap(), IDENTIFIERS);
        assert!(accepted(&[0, 5], Version::V3).is_err());
    }
}
