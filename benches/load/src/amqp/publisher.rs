//! Publishing: a block of equal messages of which only the stamps change, and the reading of confirms.

use super::Options;
use super::codec::{Frame, MethodFrame, message, method};
use super::connection::CHANNEL;
use crate::publish::{Acknowledgements, Sink};
use crate::stamp::{self, Stamp};

/// One write is about this long.
const BLOCK_BYTES: usize = 64 * 1024;

pub struct Publisher {
    block: Vec<u8>,
    /// Bytes of one message with its frames.
    stride: usize,
    /// Where the body begins in a message.
    body_at: usize,
    /// Body bytes in the first body frame, which hold the stamp.
    body_length: usize,
    window: Option<u64>,
}

impl Publisher {
    pub fn new(options: &Options, index: usize, frame_max: usize) -> Publisher {
        let body = stamp::body(options.load.size, index as u32);
        let (message, body_at) = message(
            CHANNEL,
            &options.exchange,
            &options.routing_key(index),
            options.persistent,
            &body,
            frame_max,
        );
        let window = (options.confirm > 0).then_some(options.confirm);
        let most = usize::try_from(window.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let messages = (BLOCK_BYTES / message.len()).clamp(1, most);
        let body_length = body.len().min(stamp::LENGTH);
        Publisher {
            block: message.repeat(messages),
            stride: message.len(),
            body_at,
            body_length,
            window,
        }
    }
}

impl Sink for Publisher {
    fn block(&self) -> u64 {
        (self.block.len() / self.stride) as u64
    }

    fn window(&self) -> Option<u64> {
        self.window
    }

    fn stamp(&mut self, first: u64, count: u64, sent_ns: &dyn Fn(u64) -> u64) -> &[u8] {
        let length = count as usize * self.stride;
        for (number, message) in (first..).zip(self.block[..length].chunks_exact_mut(self.stride)) {
            Stamp::renew(
                &mut message[self.body_at..self.body_at + self.body_length],
                number,
                sent_ns(number),
            );
        }
        &self.block[..length]
    }

    /// Closing the channel: what was published before is in its queue when the answer comes.
    fn barrier(&mut self) -> Vec<u8> {
        MethodFrame::new(CHANNEL, method::CHANNEL_CLOSE)
            .short(200)
            .short_string("")
            .long(0)
            .finish()
    }

    fn on_input(
        &mut self,
        input: &[u8],
        acknowledgements: &mut Acknowledgements,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some(frame) = Frame::read(&input[used..])? {
            used += frame.length;
            match (frame.method(), confirm(frame.payload)) {
                (method::BASIC_ACK, Some((number, false))) => acknowledgements.accept(number),
                (method::BASIC_ACK, Some((number, true))) => {
                    acknowledgements.accept_through(number)
                }
                (method::BASIC_NACK, Some((number, false))) => acknowledgements.refuse(number),
                (method::BASIC_NACK, Some((number, true))) => {
                    acknowledgements.refuse_through(number)
                }
                (method::CHANNEL_CLOSE_OK, _) => acknowledgements.pass_barrier(),
                _ => {
                    if let Some(reason) = frame.close_reason() {
                        anyhow::bail!(reason);
                    }
                }
            }
        }
        Ok(used)
    }
}

/// The message number (delivery tags begin at 1) and whether it stands for all before it.
fn confirm(payload: &[u8]) -> Option<(u64, bool)> {
    let tag = u64::from_be_bytes(*payload.get(4..12)?.first_chunk()?);
    let multiple = payload.get(12)? & 1 == 1;
    // Tag 0 with `multiple` is everything so far.
    Some((tag.wrapping_sub(1), multiple))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirm_counts_from_the_first_message() {
        let ack = |tag: u64, multiple| {
            MethodFrame::new(1, method::BASIC_ACK)
                .longlong(tag)
                .octet(multiple)
                .finish()
        };
        let read = |bytes: Vec<u8>| confirm(Frame::read(&bytes).unwrap().unwrap().payload);
        assert_eq!(read(ack(1, 0)), Some((0, false)));
        assert_eq!(read(ack(500, 1)), Some((499, true)));
        assert_eq!(read(ack(0, 1)), Some((u64::MAX, true)));
    }
}
