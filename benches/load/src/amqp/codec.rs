//! The few AMQP 0-9-1 frames that the generator needs, specification section 4.2.
//!
//! ```text
//!   | type u8 | channel u16 | size u32 | payload … | 0xCE |
//! ```

pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
pub const METHOD: u8 = 1;
pub const HEADER: u8 = 2;
pub const BODY: u8 = 3;
/// Bytes of a frame around its payload.
pub const FRAME_OVERHEAD: usize = 8;
const FRAME_END: u8 = 0xCE;
/// Frames longer than this were never negotiated.
const FRAME_MAX: usize = 1 << 27;
const BASIC_CLASS: u16 = 60;

/// Class and method of the methods used, as one number.
pub mod method {
    pub const CONNECTION_START: u32 = 10 << 16 | 10;
    pub const CONNECTION_START_OK: u32 = 10 << 16 | 11;
    pub const CONNECTION_TUNE: u32 = 10 << 16 | 30;
    pub const CONNECTION_TUNE_OK: u32 = 10 << 16 | 31;
    pub const CONNECTION_OPEN: u32 = 10 << 16 | 40;
    pub const CONNECTION_OPEN_OK: u32 = 10 << 16 | 41;
    pub const CONNECTION_CLOSE: u32 = 10 << 16 | 50;
    pub const CHANNEL_OPEN: u32 = 20 << 16 | 10;
    pub const CHANNEL_OPEN_OK: u32 = 20 << 16 | 11;
    pub const CHANNEL_CLOSE: u32 = 20 << 16 | 40;
    pub const CHANNEL_CLOSE_OK: u32 = 20 << 16 | 41;
    pub const QUEUE_DECLARE: u32 = 50 << 16 | 10;
    pub const QUEUE_DECLARE_OK: u32 = 50 << 16 | 11;
    pub const QUEUE_BIND: u32 = 50 << 16 | 20;
    pub const QUEUE_BIND_OK: u32 = 50 << 16 | 21;
    pub const QUEUE_PURGE: u32 = 50 << 16 | 30;
    pub const QUEUE_PURGE_OK: u32 = 50 << 16 | 31;
    pub const QUEUE_DELETE: u32 = 50 << 16 | 40;
    pub const QUEUE_DELETE_OK: u32 = 50 << 16 | 41;
    pub const BASIC_QOS: u32 = 60 << 16 | 10;
    pub const BASIC_QOS_OK: u32 = 60 << 16 | 11;
    pub const BASIC_CONSUME: u32 = 60 << 16 | 20;
    pub const BASIC_CONSUME_OK: u32 = 60 << 16 | 21;
    pub const BASIC_CANCEL: u32 = 60 << 16 | 30;
    pub const BASIC_PUBLISH: u32 = 60 << 16 | 40;
    pub const BASIC_DELIVER: u32 = 60 << 16 | 60;
    pub const BASIC_ACK: u32 = 60 << 16 | 80;
    pub const BASIC_NACK: u32 = 60 << 16 | 120;
    pub const CONFIRM_SELECT: u32 = 85 << 16 | 10;
    pub const CONFIRM_SELECT_OK: u32 = 85 << 16 | 11;
}

/// One frame where it lies in the read buffer.
#[derive(Debug, PartialEq)]
pub struct Frame<'a> {
    pub kind: u8,
    pub payload: &'a [u8],
    /// Bytes with what is around the payload.
    pub length: usize,
}

impl<'a> Frame<'a> {
    /// The frame at the front of `input`; `None` while it is incomplete.
    #[inline]
    pub fn read(input: &'a [u8]) -> anyhow::Result<Option<Frame<'a>>> {
        let Some(head) = input.first_chunk::<7>() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        anyhow::ensure!(
            head[0] != b'A' && size <= FRAME_MAX,
            "the broker does not speak AMQP 0-9-1"
        );
        let Some(payload) = input.get(7..7 + size) else {
            return Ok(None);
        };
        let Some(end) = input.get(7 + size) else {
            return Ok(None);
        };
        anyhow::ensure!(
            *end == FRAME_END,
            "a frame does not end where its size says"
        );
        Ok(Some(Frame {
            kind: head[0],
            payload,
            length: size + FRAME_OVERHEAD,
        }))
    }

    /// Class and method as one number; 0 for frames that are no methods.
    #[inline]
    pub fn method(&self) -> u32 {
        match self.payload.first_chunk::<4>() {
            Some(number) if self.kind == METHOD => u32::from_be_bytes(*number),
            _ => 0,
        }
    }

    /// What the broker gave as its reason in connection.close or channel.close.
    pub fn close_reason(&self) -> Option<String> {
        if !matches!(
            self.method(),
            method::CONNECTION_CLOSE | method::CHANNEL_CLOSE
        ) {
            return None;
        }
        let code = u16::from_be_bytes(*self.payload.get(4..6)?.first_chunk()?);
        let length = usize::from(*self.payload.get(6)?);
        let text = self.payload.get(7..7 + length)?;
        Some(format!(
            "the broker closed with {code} {}",
            String::from_utf8_lossy(text)
        ))
    }
}

/// A method frame being written.
pub struct MethodFrame(Vec<u8>);

impl MethodFrame {
    pub fn new(channel: u16, method: u32) -> MethodFrame {
        let mut bytes = vec![METHOD];
        bytes.extend(channel.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(method.to_be_bytes());
        MethodFrame(bytes)
    }

    pub fn octet(mut self, value: u8) -> MethodFrame {
        self.0.push(value);
        self
    }

    pub fn short(mut self, value: u16) -> MethodFrame {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn long(mut self, value: u32) -> MethodFrame {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn longlong(mut self, value: u64) -> MethodFrame {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// At most 255 bytes, which the options are checked for.
    pub fn short_string(mut self, text: &str) -> MethodFrame {
        let bytes = &text.as_bytes()[..text.len().min(255)];
        self.0.push(bytes.len() as u8);
        self.0.extend(bytes);
        self
    }

    /// A long string; a table is one too, of its encoded fields.
    pub fn long_string(mut self, bytes: &[u8]) -> MethodFrame {
        self.0.extend((bytes.len() as u32).to_be_bytes());
        self.0.extend(bytes);
        self
    }

    pub fn finish(mut self) -> Vec<u8> {
        let size = (self.0.len() - 7) as u32;
        self.0[3..7].copy_from_slice(&size.to_be_bytes());
        self.0.push(FRAME_END);
        self.0
    }
}

/// A field table of string fields.
pub fn string_table(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut table = Vec::new();
    for (name, value) in fields {
        table.push(name.len() as u8);
        table.extend(name.bytes());
        table.push(b'S');
        table.extend((value.len() as u32).to_be_bytes());
        table.extend(value.bytes());
    }
    table
}

/// A whole message, and where in it the first body byte is.
pub fn message(
    channel: u16,
    exchange: &str,
    key: &str,
    persistent: bool,
    body: &[u8],
    frame_max: usize,
) -> (Vec<u8>, usize) {
    let publish = MethodFrame::new(channel, method::BASIC_PUBLISH)
        .short(0)
        .short_string(exchange)
        .short_string(key);
    let mut bytes = publish.octet(0).finish();
    let mut header = Vec::new();
    header.extend(BASIC_CLASS.to_be_bytes());
    header.extend([0, 0]);
    header.extend((body.len() as u64).to_be_bytes());
    // 4.2.6.1: the property flags; bit 12 is delivery-mode, of which 2 is persistent.
    match persistent {
        true => header.extend([0x10, 0x00, 2]),
        false => header.extend([0x00, 0x00]),
    }
    frame(&mut bytes, HEADER, channel, &header);
    let body_at = bytes.len() + 7;
    for chunk in body.chunks(frame_max - FRAME_OVERHEAD) {
        frame(&mut bytes, BODY, channel, chunk);
    }
    (bytes, body_at)
}

fn frame(bytes: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    bytes.push(kind);
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(FRAME_END);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persistent_message_is_a_method_a_header_and_a_body_frame() {
        let (bytes, body_at) = message(1, "", "q", true, b"hi", 131_072);
        let expected = [
            &[
                1, 0, 1, 0, 0, 0, 10, 0, 60, 0, 40, 0, 0, 0, 1, b'q', 0, 0xCE,
            ][..],
            &[
                2, 0, 1, 0, 0, 0, 15, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x10, 0, 2, 0xCE,
            ],
            &[3, 0, 1, 0, 0, 0, 2, b'h', b'i', 0xCE],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(&bytes[body_at..body_at + 2], b"hi");
    }

    #[test]
    fn a_body_larger_than_a_frame_is_split() {
        let (bytes, body_at) = message(1, "", "q", false, b"abcde", 11);
        let body: Vec<u8> = [
            &[3, 0, 1, 0, 0, 0, 3][..],
            b"abc\xCE",
            &[3, 0, 1, 0, 0, 0, 2],
            b"de\xCE",
        ]
        .concat();
        assert_eq!(bytes[body_at - 7..], body);
    }

    #[test]
    fn a_frame_is_read_when_its_last_byte_is_there() {
        let bytes = MethodFrame::new(1, method::BASIC_ACK)
            .longlong(7)
            .octet(1)
            .finish();
        for length in 0..bytes.len() {
            assert_eq!(Frame::read(&bytes[..length]).unwrap(), None);
        }
        let frame = Frame::read(&bytes).unwrap().unwrap();
        assert_eq!(
            (frame.method(), frame.length),
            (method::BASIC_ACK, bytes.len())
        );
    }

    #[test]
    fn what_is_not_amqp_is_refused() {
        assert!(Frame::read(b"AMQP\x00\x00\x09\x01").is_err());
        assert!(Frame::read(&[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
        assert!(Frame::read(&[1, 0, 1, 0, 0, 0, 1, 9, 9]).is_err());
    }

    #[test]
    fn the_reason_of_a_close_is_told() {
        let close = MethodFrame::new(1, method::CHANNEL_CLOSE)
            .short(404)
            .short_string("NOT_FOUND")
            .long(0)
            .finish();
        let frame = Frame::read(&close).unwrap().unwrap();
        assert_eq!(
            frame.close_reason().unwrap(),
            "the broker closed with 404 NOT_FOUND"
        );
        assert_eq!(Frame::read(&close[..]).unwrap().unwrap().kind, METHOD);
    }
}
