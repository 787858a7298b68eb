//! Subscribing: messages are counted in the read buffer, and those of one read acknowledged in one write.

use super::codec::{self, Packet, Publish, Version};
use crate::consume::{Source, Tally};

pub struct Subscriber {
    version: Version,
}

impl Subscriber {
    pub fn new(version: Version) -> Subscriber {
        Subscriber { version }
    }
}

impl Source for Subscriber {
    fn on_input(
        &mut self,
        input: &[u8],
        tally: &mut Tally,
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<usize> {
        let mut used = 0;
        while let Some(packet) = Packet::read(&input[used..])? {
            used += packet.length;
            match packet.kind() {
                codec::PUBLISH => {
                    let publish = Publish::read(&packet, self.version)?;
                    tally.message(publish.payload, publish.payload.len());
                    if let Some([high, low]) = publish.identifier {
                        reply.extend_from_slice(&[codec::PUBACK, 2, high, low]);
                    }
                }
                codec::DISCONNECT => {
                    anyhow::bail!("the broker disconnected with reason {:02X?}", packet.body)
                }
                _ => {}
            }
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_one_read_are_acknowledged_together() {
        let (mut bytes, identifier_at, _) = codec::publish(Version::V5, "t", 1, b"xyz");
        bytes[identifier_at + 1] = 9;
        let input = [
            &bytes[..],
            &codec::publish(Version::V5, "t", 0, b"x").0,
            &bytes,
            &bytes[..3],
        ]
        .concat();
        let (mut tally, mut reply) = (Tally::new(true), Vec::new());
        let used = Subscriber::new(Version::V5)
            .on_input(&input, &mut tally, &mut reply)
            .unwrap();
        assert_eq!((used, tally.counted()), (input.len() - 3, (3, 7)));
        assert_eq!(reply, [0x40, 2, 0, 9, 0x40, 2, 0, 9]);
    }
}
