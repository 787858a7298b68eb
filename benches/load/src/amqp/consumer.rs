//! Consuming: deliveries are counted frame by frame, acknowledged many at once.

use super::codec::{self, Frame, MethodFrame, method};
use super::connection::CHANNEL;
use crate::consume::{Source, Tally};

pub struct Consumer {
    /// 0 is automatic acknowledgement.
    ack_every: u64,
    unacknowledged: u64,
    delivery_tag: u64,
    /// Body bytes of the message in progress, and how many are still to come.
    size: usize,
    left: usize,
}

impl Consumer {
    pub fn new(ack_every: u64) -> Consumer {
        Consumer {
            ack_every,
            unacknowledged: 0,
            delivery_tag: 0,
            size: 0,
            left: 0,
        }
    }

    fn on_method(&mut self, frame: &Frame<'_>) -> anyhow::Result<()> {
        match frame.method() {
            method::BASIC_DELIVER => {
                self.delivery_tag = delivery_tag(frame.payload).unwrap_or(self.delivery_tag)
            }
            method::BASIC_CANCEL => anyhow::bail!("the broker cancelled a consumer"),
            _ => {
                if let Some(reason) = frame.close_reason() {
                    anyhow::bail!(reason);
                }
            }
        }
        Ok(())
    }

    fn on_header(&mut self, payload: &[u8], tally: &mut Tally, reply: &mut Vec<u8>) {
        let size = payload.get(4..12).and_then(|size| size.first_chunk());
        self.size = size.map_or(0, |size| u64::from_be_bytes(*size) as usize);
        self.left = self.size;
        if self.size == 0 {
            tally.message(&[], 0);
            self.delivered(reply);
        }
    }

    fn on_body(&mut self, payload: &[u8], tally: &mut Tally, reply: &mut Vec<u8>) {
        if self.left == self.size {
            tally.message(payload, self.size);
        }
        self.left = self.left.saturating_sub(payload.len());
        if self.left == 0 {
            self.delivered(reply);
        }
    }

    fn delivered(&mut self, reply: &mut Vec<u8>) {
        if self.ack_every == 0 {
            return;
        }
        self.unacknowledged += 1;
        if self.unacknowledged == self.ack_every {
            self.acknowledge(reply);
        }
    }

    fn acknowledge(&mut self, reply: &mut Vec<u8>) {
        const MULTIPLE: u8 = 1;
        self.unacknowledged = 0;
        let ack = MethodFrame::new(CHANNEL, method::BASIC_ACK)
            .longlong(self.delivery_tag)
            .octet(MULTIPLE);
        reply.extend(ack.finish());
    }
}

impl Source for Consumer {
    fn on_input(
        &mut self,
        input: &[u8],
        tally: &mut Tally,
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some(frame) = Frame::read(&input[used..])? {
            used += frame.length;
            match frame.kind {
                codec::METHOD => self.on_method(&frame)?,
                codec::HEADER => self.on_header(frame.payload, tally, reply),
                codec::BODY => self.on_body(frame.payload, tally, reply),
                _ => {}
            }
        }
        Ok(used)
    }

    fn farewell(&mut self, reply: &mut Vec<u8>) {
        if self.unacknowledged > 0 {
            self.acknowledge(reply);
        }
    }
}

/// basic.deliver: class, method, consumer tag (short string), delivery tag.
fn delivery_tag(payload: &[u8]) -> Option<u64> {
    let tag_at = 5 + usize::from(*payload.get(4)?);
    Some(u64::from_be_bytes(*payload.get(tag_at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(tag: u64, body: &[&[u8]]) -> Vec<u8> {
        let deliver = MethodFrame::new(1, method::BASIC_DELIVER)
            .short_string("c")
            .longlong(tag)
            .octet(0);
        let mut bytes = deliver.short_string("").short_string("q").finish();
        let size: usize = body.iter().map(|part| part.len()).sum();
        bytes.extend([
            2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, size as u8, 0, 0, 0xCE,
        ]);
        for part in body {
            bytes.extend([3, 0, 1, 0, 0, 0, part.len() as u8]);
            bytes.extend(*part);
            bytes.push(0xCE);
        }
        bytes
    }

    #[test]
    fn deliveries_are_counted_and_acknowledged_together() {
        let input = [
            delivery(1, &[b"ab", b"c"]),
            delivery(2, &[]),
            delivery(3, &[b"d"]),
        ]
        .concat();
        let (mut consumer, mut tally, mut reply) = (Consumer::new(2), Tally::new(true), Vec::new());
        assert_eq!(
            consumer.on_input(&input, &mut tally, &mut reply).unwrap(),
            input.len()
        );
        assert_eq!(tally.counted(), (3, 4));
        assert_eq!(
            reply,
            [
                1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0xCE
            ]
        );
        let mut last = Vec::new();
        consumer.farewell(&mut last);
        assert_eq!(last[18], 3, "the third delivery is acknowledged at the end");
    }

    #[test]
    fn bytes_that_come_one_at_a_time_make_the_same_messages() {
        let input = [delivery(1, &[b"ab", b"c"]), delivery(2, &[b"d"])].concat();
        let (mut consumer, mut tally, mut reply) = (Consumer::new(0), Tally::new(true), Vec::new());
        let mut used = 0;
        for end in 0..=input.len() {
            used += consumer
                .on_input(&input[used..end], &mut tally, &mut reply)
                .unwrap();
        }
        assert_eq!((used, tally.counted()), (input.len(), (2, 4)));
        assert!(reply.is_empty());
    }
}
