//! Requests and responses of the Kafka protocol that the generator needs, in versions that brokers from
//! 1.0 to 4.x have and that need no tagged fields.

use anyhow::Context;

/// API key and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api(pub i16, pub i16);

pub const PRODUCE: Api = Api(0, 7);
pub const FETCH: Api = Api(1, 11);
pub const LIST_OFFSETS: Api = Api(2, 1);
pub const API_VERSIONS: Api = Api(18, 0);
pub const CREATE_TOPICS: Api = Api(19, 3);
pub const DELETE_TOPICS: Api = Api(20, 3);

pub const UNKNOWN_TOPIC: i16 = 3;
pub const NO_LEADER: i16 = 5;
pub const NOT_LEADER: i16 = 6;

/// Responses longer than this were never asked for.
const RESPONSE_MAX: usize = 1 << 30;
const CLIENT: &str = "trivium-load";

/// Fields being written.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// A request up to its body; [`Writer::finish`] fills in the length.
    pub fn request(api: Api, correlation: i32) -> Writer {
        Writer(vec![0; 4])
            .int16(api.0)
            .int16(api.1)
            .int32(correlation)
            .string(CLIENT)
    }

    pub fn int8(mut self, value: i8) -> Writer {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn int16(mut self, value: i16) -> Writer {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn int32(mut self, value: i32) -> Writer {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn int64(mut self, value: i64) -> Writer {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// At most 32,767 bytes, which the options are checked for.
    pub fn string(self, text: &str) -> Writer {
        let mut writer = self.int16(text.len() as i16);
        writer.0.extend(text.bytes());
        writer
    }

    pub fn finish(mut self) -> Vec<u8> {
        let size = self.0.len() as u32 - 4;
        self.0[..4].copy_from_slice(&size.to_be_bytes());
        self.0
    }
}

/// Fields being read; every read is checked against what is left.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .context("a response is shorter than what it holds")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .context("a response is shorter than what it holds")?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn int16(&mut self) -> anyhow::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn int32(&mut self) -> anyhow::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn int64(&mut self) -> anyhow::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Null is empty.
    pub fn string(&mut self) -> anyhow::Result<&'a [u8]> {
        let length = self.int16()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    /// Null is empty.
    pub fn bytes(&mut self) -> anyhow::Result<&'a [u8]> {
        let length = self.int32()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    /// The number of elements that follow; null is none.
    pub fn count(&mut self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.int32()?).unwrap_or(0))
    }

    #[inline]
    pub fn varint(&mut self) -> anyhow::Result<i64> {
        let mut value = 0u64;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        anyhow::bail!("a record holds a broken number")
    }
}

/// One response where it lies in the read buffer.
pub struct Response<'a> {
    pub correlation: i32,
    pub body: Reader<'a>,
    /// Bytes with the length in front.
    pub length: usize,
}

impl<'a> Response<'a> {
    /// The response at the front of `input`; `None` while it is incomplete.
    pub fn read(input: &'a [u8]) -> anyhow::Result<Option<Response<'a>>> {
        let Some(size) = input.first_chunk::<4>() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes(*size) as usize;
        anyhow::ensure!(
            (4..=RESPONSE_MAX).contains(&size),
            "the broker does not speak Kafka"
        );
        let Some(frame) = input.get(4..4 + size) else {
            return Ok(None);
        };
        let mut body = Reader(frame);
        Ok(Some(Response {
            correlation: body.int32()?,
            body,
            length: 4 + size,
        }))
    }
}

/// Errors that mean something to who reads them; the others are told by number.
pub fn check(error: i16, what: &str) -> anyhow::Result<()> {
    let name = match error {
        0 => return Ok(()),
        1 => "OFFSET_OUT_OF_RANGE",
        2 => "CORRUPT_MESSAGE",
        UNKNOWN_TOPIC => "UNKNOWN_TOPIC_OR_PARTITION",
        NO_LEADER => "LEADER_NOT_AVAILABLE",
        NOT_LEADER => "NOT_LEADER_OR_FOLLOWER",
        7 => "REQUEST_TIMED_OUT",
        10 => "MESSAGE_TOO_LARGE",
        17 => "INVALID_TOPIC_EXCEPTION",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        35 => "UNSUPPORTED_VERSION",
        36 => "TOPIC_ALREADY_EXISTS",
        56 => "KAFKA_STORAGE_ERROR",
        _ => "",
    };
    anyhow::bail!("the broker refused {what} with error {error} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_length_key_version_correlation_and_client() {
        let bytes = Writer::request(API_VERSIONS, 7).finish();
        let expected = [
            &[0, 0, 0, 22, 0, 18, 0, 0, 0, 0, 0, 7, 0, 12][..],
            b"trivium-load",
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_response_is_read_when_its_last_byte_is_there() {
        let bytes = [0, 0, 0, 6, 0, 0, 0, 9, 0, 3];
        assert!((0..10).all(|length| Response::read(&bytes[..length]).unwrap().is_none()));
        let mut response = Response::read(&bytes).unwrap().unwrap();
        assert_eq!(
            (
                response.correlation,
                response.length,
                response.body.int16().unwrap()
            ),
            (9, 10, 3)
        );
        assert!(response.body.int32().is_err());
        assert!(Response::read(b"HTTP/1.1").is_err());
    }

    #[test]
    fn varints_are_zigzag() {
        let read = |bytes: &[u8]| Reader(bytes).varint();
        assert_eq!(read(&[1]).unwrap(), -1);
        assert_eq!(read(&[0xAC, 0x02]).unwrap(), 150);
        assert!(read(&[0x80; 12]).is_err());
        assert!(read(&[0x80]).is_err());
    }
}
