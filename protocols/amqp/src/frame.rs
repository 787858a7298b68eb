//! Frames (section 4.2.3): how bytes become frames, and how frames are begun and ended.
//!
//! ```text
//! 0      1         3             7                  size+7 size+8
//! +------+---------+-------------+  +------------+  +-----------+
//! | type | channel |    size     |  |  payload   |  | end = 206 |
//! +------+---------+-------------+  +------------+  +-----------+
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{
    error::{Error, ReplyCode},
    method::Method,
};

/// Bytes around the payload of a frame.
pub const OVERHEAD: usize = 8;
/// The last byte of every frame.
pub const END: u8 = 206;
/// No limit below this may be negotiated (4.2.3: FRAME-MIN-SIZE), nor is a smaller frame refused.
pub const SIZE_MIN: u32 = 4096;

const HEADER: usize = 7;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A method.
    Method = 1,
    /// A content header: size and properties.
    Header = 2,
    /// A piece of content.
    Body = 3,
    /// Nothing: a sign of life.
    Heartbeat = 8,
}

/// A frame off the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it holds.
    pub kind: FrameKind,
    /// The channel it is for; 0 is the connection itself.
    pub channel: u16,
    /// Without header and end, a slice of the read buffer.
    pub payload: Bytes,
}

/// Takes the next whole frame off `input`, whose size with all overhead must not exceed `frame_max` by
/// more than [`OVERHEAD`] (RabbitMQ counts the payload only). `None` until it is complete.
pub fn next_frame(input: &mut BytesMut, frame_max: u32) -> Result<Option<Frame>, Error> {
    if input.len() < HEADER {
        return Ok(None);
    }
    let kind = kind(input[0])?;
    let channel = u16::from_be_bytes([input[1], input[2]]);
    let size = u32::from_be_bytes([input[3], input[4], input[5], input[6]]);
    if size > frame_max {
        return Err(frame_error(format!(
            "frame of {size} bytes is larger than the negotiated {frame_max}"
        )));
    }
    let size = size as usize;
    if input.len() < size + OVERHEAD {
        return Ok(None);
    }
    if input[HEADER + size] != END {
        return Err(frame_error(format!(
            "frame ends with {} instead of {END}",
            input[HEADER + size]
        )));
    }
    let mut payload = input.split_to(size + OVERHEAD).freeze();
    payload.advance(HEADER);
    payload.truncate(size);
    Ok(Some(Frame {
        kind,
        channel,
        payload,
    }))
}

fn kind(octet: u8) -> Result<FrameKind, Error> {
    Ok(match octet {
        1 => FrameKind::Method,
        2 => FrameKind::Header,
        3 => FrameKind::Body,
        8 => FrameKind::Heartbeat,
        unknown => return Err(frame_error(format!("unknown frame type {unknown}"))),
    })
}

fn frame_error(text: String) -> Error {
    Error::connection(ReplyCode::FrameError, text)
}

/// Appends a frame whose payload `write` appends.
pub fn put_frame(
    out: &mut BytesMut,
    kind: FrameKind,
    channel: u16,
    write: impl FnOnce(&mut BytesMut),
) {
    out.put_u8(kind as u8);
    out.put_u16(channel);
    crate::wire::put_sized(out, write);
    out.put_u8(END);
}

/// Appends the header of a frame whose payload has a known size. The payload and [`END`] must follow.
pub fn put_header(out: &mut BytesMut, kind: FrameKind, channel: u16, size: usize) {
    out.put_u8(kind as u8);
    out.put_u16(channel);
    out.put_u32(size as u32);
}

/// Appends a method frame.
pub fn put_method(out: &mut BytesMut, channel: u16, method: &Method) {
    put_frame(out, FrameKind::Method, channel, |out| method.encode(out));
}

/// Appends a heartbeat frame (4.2.7).
pub fn put_heartbeat(out: &mut BytesMut) {
    put_frame(out, FrameKind::Heartbeat, 0, |_| ());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let kind = prop_oneof![
            Just(FrameKind::Method),
            Just(FrameKind::Header),
            Just(FrameKind::Body),
            Just(FrameKind::Heartbeat)
        ];
        (
            kind,
            any::<u16>(),
            proptest::collection::vec(any::<u8>(), 0..50),
        )
            .prop_map(|(kind, channel, payload)| Frame {
                kind,
                channel,
                payload: payload.into(),
            })
    }

    proptest! {
        #[test]
        fn frames_come_back_whole_and_byte_by_byte(frames in proptest::collection::vec(any_frame(), 1..5)) {
            let mut bytes = BytesMut::new();
            for frame in &frames {
                put_frame(&mut bytes, frame.kind, frame.channel, |out| out.put_slice(&frame.payload));
            }
            let mut input = BytesMut::new();
            let mut read = Vec::new();
            for byte in bytes {
                input.put_u8(byte);
                read.extend(next_frame(&mut input, SIZE_MIN).expect("frames are well formed"));
            }
            prop_assert_eq!(read, frames);
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn a_length_of_two_gibibytes_is_refused_before_it_arrives() {
        let mut input = BytesMut::from(&b"\x01\0\0\x7f\xff\xff\xff"[..]);
        assert!(next_frame(&mut input, 131_072).is_err());
    }
}
