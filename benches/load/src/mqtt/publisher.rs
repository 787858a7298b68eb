//! Publishing: a block of equal packets of which only stamps and identifiers change.

use super::Options;
use super::codec::{self, IDENTIFIERS, Packet};
use crate::publish::{Acknowledgements, Sink};
use crate::stamp::{self, Stamp};

/// One write is about this long.
const BLOCK_BYTES: usize = 64 * 1024;

pub struct Publisher {
    block: Vec<u8>,
    /// Bytes of one packet.
    stride: usize,
    identifier_at: usize,
    payload_at: usize,
    /// `None` at QoS 0.
    window: Option<u64>,
}

impl Publisher {
    /// `allowed` is how many unacknowledged messages the broker accepts.
    pub fn new(options: &Options, index: usize, allowed: u64) -> Publisher {
        let payload = stamp::body(options.load.size, index as u32);
        let topic = options.topic_name(index);
        let (packet, identifier_at, payload_at) =
            codec::publish(options.mqtt, &topic, options.qos, &payload);
        let window = (options.qos > 0).then_some(options.window.clamp(1, allowed.max(1)));
        let most = window.map_or(usize::MAX, |window| window as usize);
        let packets = (BLOCK_BYTES / packet.len()).clamp(1, most);
        Publisher {
            block: packet.repeat(packets),
            stride: packet.len(),
            identifier_at,
            payload_at,
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
        for (number, packet) in (first..).zip(self.block[..length].chunks_exact_mut(self.stride)) {
            Stamp::renew(&mut packet[self.payload_at..], number, sent_ns(number));
            if self.window.is_some() {
                let identifier = (number % IDENTIFIERS + 1) as u16;
                packet[self.identifier_at..self.identifier_at + 2]
                    .copy_from_slice(&identifier.to_be_bytes());
            }
        }
        &self.block[..length]
    }

    fn barrier(&mut self) -> Vec<u8> {
        codec::PINGREQ.to_vec()
    }

    fn on_input(
        &mut self,
        input: &[u8],
        acknowledgements: &mut Acknowledgements,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some(packet) = Packet::read(&input[used..])? {
            used += packet.length;
            match (packet.kind(), packet.body) {
                (codec::PUBACK, [high, low, reason @ ..]) => {
                    let identifier = u64::from(u16::from_be_bytes([*high, *low]));
                    let number = acknowledgements
                        .number_of((identifier + IDENTIFIERS - 1) % IDENTIFIERS, IDENTIFIERS);
                    // MQTT 5, 3.4.2.1: 0x10 is "no matching subscribers"; from 0x80 on the message was refused.
                    match reason.first() {
                        Some(0x80..) => acknowledgements.refuse(number),
                        _ => acknowledgements.accept(number),
                    }
                }
                (codec::PINGRESP, _) => acknowledgements.pass_barrier(),
                (codec::DISCONNECT, body) => {
                    anyhow::bail!("the broker disconnected with reason {body:02X?}")
                }
                _ => {}
            }
        }
        Ok(used)
    }
}
