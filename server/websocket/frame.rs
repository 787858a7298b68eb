//! Frames of WebSocket (RFC 6455 section 5), as a server reads and writes them.
//!
//! [`Decoder`] works in place and keeps nothing but a header and a control frame: a data frame goes on byte by byte
//! as it comes, so a connection takes the same memory whatever length its frames announce.

/// Close codes (section 7.4.1).
pub mod code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// The peer sent a type of data that is not taken here.
    pub const UNSUPPORTED_DATA: u16 = 1003;
}

/// The payload of a control frame at most (section 5.5).
pub const CONTROL_MAX: usize = 125;
/// A header at most: two bytes, eight of length, four of mask.
const HEADER_MAX: usize = 14;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FIN: u8 = 0x80;
const MASK: u8 = 0x80;

/// Takes frames of a client apart.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The header as far as it has come.
    header: [u8; HEADER_MAX],
    header_length: u8,
    /// What the payload belongs to; `None` between frames.
    opcode: Option<u8>,
    mask: [u8; 4],
    /// Where in the mask the next byte of the payload is.
    mask_at: u8,
    /// Bytes of payload still to come.
    left: u64,
    /// Whether a message has begun that this or a later frame ends.
    fragmented: bool,
    /// The payload of a control frame as far as it has come.
    control: Vec<u8>,
}

/// What the peer wants besides sending data.
#[derive(Debug, PartialEq, Eq)]
pub enum Control {
    /// An answer with the same payload.
    Ping(Vec<u8>),
    /// The end, with this code in the answer.
    Close(u16),
}

/// What came of some input.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of data, which are now at the front of the input.
    pub data: usize,
    /// Behind that data in time. Pings before the last are not answered (section 5.5.3); after a close nothing is read.
    pub control: Option<Control>,
}

impl Decoder {
    /// Takes `input` apart, in place: what is data moves to its front, unmasked.
    pub fn decode(&mut self, input: &mut [u8]) -> Decoded {
        let (mut at, mut data, mut ping) = (0, 0, None);
        while at < input.len() {
            let step = match self.opcode {
                None => self.take_header(&input[at..]),
                Some(CLOSE | PING | PONG) => self.take_control(&input[at..]),
                Some(_) => {
                    let taken = self.take_data(input, at, data);
                    data += taken;
                    Ok(taken)
                }
            };
            match step {
                Ok(taken) => at += taken,
                Err(code) => return closed(data, code),
            }
            match self.end_frame() {
                Some(Control::Close(code)) => return closed(data, code),
                Some(answer) => ping = Some(answer),
                None => {}
            }
        }
        Decoded {
            data,
            control: ping,
        }
    }

    /// Takes what of the header is there; how many bytes those are.
    fn take_header(&mut self, input: &[u8]) -> Result<usize, u16> {
        let mut taken = 0;
        for byte in input {
            self.header[usize::from(self.header_length)] = *byte;
            self.header_length += 1;
            taken += 1;
            if self.header_length == 2 {
                self.check_start()?;
            }
            if self.header_length >= 2 && self.header_length == self.wanted() {
                self.begin_frame()?;
                break;
            }
        }
        Ok(taken)
    }

    /// The first two bytes: sections 5.2, 5.4 and 5.5.
    fn check_start(&self) -> Result<(), u16> {
        let [first, second, ..] = self.header;
        let (fin, opcode) = (first & FIN != 0, first & 0x0f);
        let control = opcode >= CLOSE;
        let order = match opcode {
            CONTINUATION => self.fragmented,
            // MQTT 5, 6.0.0-1.
            TEXT => return Err(code::UNSUPPORTED_DATA),
            BINARY => !self.fragmented,
            CLOSE | PING | PONG => fin && second & !MASK <= CONTROL_MAX as u8,
            _ => false,
        };
        let reserved = first & 0x70 != 0;
        let unmasked = second & MASK == 0;
        debug_assert!(!control || opcode >= 8);
        match order && !reserved && !unmasked {
            true => Ok(()),
            false => Err(code::PROTOCOL_ERROR),
        }
    }

    /// The length of the whole header, once two bytes are there.
    fn wanted(&self) -> u8 {
        match self.header[1] & !MASK {
            126 => 8,
            127 => 14,
            _ => 6,
        }
    }

    fn begin_frame(&mut self) -> Result<(), u16> {
        let header = &self.header[..usize::from(self.header_length)];
        let (lengths, mask) = header.split_at(header.len() - 4);
        self.mask.copy_from_slice(mask);
        let length = match lengths.len() {
            2 => u64::from(lengths[1] & !MASK),
            _ => lengths[2..]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if length >> 63 != 0 {
            return Err(code::PROTOCOL_ERROR);
        }
        let (fin, opcode) = (self.header[0] & FIN != 0, self.header[0] & 0x0f);
        if opcode < CLOSE {
            self.fragmented = !fin;
        }
        self.opcode = Some(opcode);
        (self.header_length, self.mask_at, self.left) = (0, 0, length);
        Ok(())
    }

    /// Moves the data at `at` to `to`.
    fn take_data(&mut self, input: &mut [u8], at: usize, to: usize) -> usize {
        let length = self.here(input.len() - at);
        input.copy_within(at..at + length, to);
        self.unmask(&mut input[to..to + length]);
        length
    }

    fn take_control(&mut self, input: &[u8]) -> Result<usize, u16> {
        let length = self.here(input.len());
        let start = self.control.len();
        self.control.extend_from_slice(&input[..length]);
        let mut control = std::mem::take(&mut self.control);
        self.unmask(&mut control[start..]);
        self.control = control;
        Ok(length)
    }

    /// How much of the payload is among `available` bytes; it counts as taken.
    fn here(&mut self, available: usize) -> usize {
        let length = usize::try_from(self.left).map_or(available, |left| left.min(available));
        self.left -= length as u64;
        length
    }

    fn unmask(&mut self, payload: &mut [u8]) {
        let mut mask = self.mask;
        mask.rotate_left(self.mask_at.into());
        for part in payload.chunks_mut(4) {
            for (byte, key) in part.iter_mut().zip(mask) {
                *byte ^= key;
            }
        }
        self.mask_at = ((usize::from(self.mask_at) + payload.len()) % 4) as u8;
    }

    /// At the end of a frame: what it asks for.
    fn end_frame(&mut self) -> Option<Control> {
        let opcode = self.opcode.filter(|_| self.left == 0)?;
        self.opcode = None;
        let payload = std::mem::take(&mut self.control);
        match opcode {
            PING => Some(Control::Ping(payload)),
            CLOSE => Some(Control::Close(close_code(&payload))),
            _ => None,
        }
    }
}

fn closed(data: usize, code: u16) -> Decoded {
    Decoded {
        data,
        control: Some(Control::Close(code)),
    }
}

/// What to answer to a close frame with this payload (sections 5.5.1, 7.4).
fn close_code(payload: &[u8]) -> u16 {
    match payload {
        [] => code::NORMAL,
        [high, low, reason @ ..] if std::str::from_utf8(reason).is_ok() => {
            match u16::from_be_bytes([*high, *low]) {
                code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => code,
                _ => code::PROTOCOL_ERROR,
            }
        }
        _ => code::PROTOCOL_ERROR,
    }
}

/// Appends the header of a binary frame with `length` bytes of payload.
pub fn put_binary_header(length: usize, out: &mut Vec<u8>) {
    out.push(FIN | BINARY);
    match length {
        0..126 => out.push(length as u8),
        126..0x1_0000 => {
            out.push(126);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((length as u64).to_be_bytes());
        }
    }
}

/// Appends a pong.
pub fn put_pong(payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(CONTROL_MAX)];
    out.extend([FIN | PONG, payload.len() as u8]);
    out.extend(payload);
}

/// Appends a close frame.
pub fn put_close(code: u16, out: &mut Vec<u8>) {
    out.extend([FIN | CLOSE, 2]);
    out.extend(code.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_binary_header(payload.len(), &mut bytes);
        bytes[0] = first;
        bytes[1] |= MASK;
        bytes.extend(KEY);
        bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(a, b)| a ^ b));
        bytes
    }

    /// All data and the last wish, however the bytes come.
    fn decode(bytes: &[u8], step: usize) -> (Vec<u8>, Option<Control>) {
        let (mut decoder, mut data, mut last) = (Decoder::default(), Vec::new(), None);
        for part in bytes.chunks(step) {
            let mut part = part.to_vec();
            let decoded = decoder.decode(&mut part);
            data.extend(&part[..decoded.data]);
            let over = matches!(decoded.control, Some(Control::Close(_)));
            last = decoded.control.or(last);
            if over {
                break;
            }
        }
        (data, last)
    }

    fn each_way(bytes: &[u8], data: &[u8], control: Option<Control>) {
        for step in [1, 2, 3, 5, 1 << 20] {
            let (found, last) = decode(bytes, step);
            assert_eq!((&*found, &last), (data, &control), "{bytes:x?} by {step}");
        }
    }

    #[test]
    fn rfc6455_5_4_frames_are_joined_whatever_their_lengths() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut bytes = frame(0x02, &payload);
            bytes.extend(frame(0x89, b"in between"));
            bytes.extend(frame(0x80, b"end"));
            each_way(
                &bytes,
                &[&payload, &b"end"[..]].concat(),
                Some(Control::Ping(b"in between".to_vec())),
            );
        }
    }

    #[test]
    fn rfc6455_5_5_what_breaks_the_protocol_closes() {
        let text = frame(0x81, b"a");
        each_way(&text, b"", Some(Control::Close(code::UNSUPPORTED_DATA)));
        let mut unmasked = frame(0x82, b"a");
        unmasked[1] &= !MASK;
        let mut endless = frame(0x82, &[0; 70_000]);
        endless[2] = 0x80;
        let long_ping = frame(0x89, &[0; 126]);
        for bytes in [
            unmasked,
            endless,
            long_ping,
            frame(0xc2, b"reserved bit"),
            frame(0x83, b"reserved opcode"),
            frame(0x09, b"ping in parts"),
            frame(0x80, b"nothing to continue"),
            frame(0x88, &[3]),
            frame(0x88, &1005u16.to_be_bytes()),
            frame(0x88, &[3, 232, 0xff]),
        ] {
            each_way(&bytes, b"", Some(Control::Close(code::PROTOCOL_ERROR)));
        }
        let twice = [frame(0x02, b"begun"), frame(0x82, b"again")].concat();
        each_way(&twice, b"begun", Some(Control::Close(code::PROTOCOL_ERROR)));
    }

    #[test]
    fn rfc6455_5_5_1_a_close_is_answered_with_its_code_and_ends() {
        for (payload, answer) in [
            (&b""[..], code::NORMAL),
            (&[3, 233], 1001),
            (&[0x0f, 0xa0, b'!'], 4000),
        ] {
            let bytes = [frame(0x88, payload), frame(0x82, b"late")].concat();
            each_way(&bytes, b"", Some(Control::Close(answer)));
        }
    }
}
