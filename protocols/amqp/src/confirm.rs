//! Publisher confirms of one channel: messages are numbered from 1, confirmations arrive in any order and leave as
//! few basic.ack frames as possible (RabbitMQ's extension `confirm`).
//!
//! An acknowledgement of everything up to a number is one frame; what is confirmed beyond the oldest
//! unconfirmed message is acknowledged one by one, because its publisher may be waiting for it.

use std::collections::VecDeque;

use bytes::BytesMut;
use trivium_core::Token;

use crate::{frame::put_method, method::Method};

/// What a publish carries to the core: its channel and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishToken {
    /// The channel it was published on.
    pub channel: u16,
    /// Counts the tokens of the channel; never used again within the connection.
    pub number: u64,
}

const NUMBER_BITS: u32 = 48;

impl From<PublishToken> for Token {
    fn from(token: PublishToken) -> Token {
        Token(u64::from(token.channel) << NUMBER_BITS | token.number)
    }
}

impl From<Token> for PublishToken {
    fn from(token: Token) -> PublishToken {
        PublishToken {
            channel: (token.0 >> NUMBER_BITS) as u16,
            number: token.0 & ((1 << NUMBER_BITS) - 1),
        }
    }
}

/// The messages of one channel that are not confirmed yet. As many as the client lets be on their way.
#[derive(Debug)]
pub struct Confirms {
    /// The token number of delivery tag 0.
    origin: u64,
    /// The delivery tag of the first of `window`.
    first: u64,
    window: VecDeque<Fate>,
    /// Delivery tags confirmed since the last flush.
    fresh: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// Confirmed, and the client is to be told.
    Confirmed,
    /// The client knows.
    Told,
}

impl Confirms {
    /// Confirms for messages whose token is greater than `origin`.
    pub fn new(origin: u64) -> Confirms {
        Confirms {
            origin,
            first: 1,
            window: VecDeque::new(),
            fresh: Vec::new(),
        }
    }

    /// Another message was published.
    pub fn push(&mut self) {
        self.window.push_back(Fate::Open);
    }

    /// A message is safe.
    pub fn confirm(&mut self, number: u64) {
        if let Some(fate) = self.fate(number) {
            *fate = Fate::Confirmed;
            self.fresh.push(number - self.origin);
        }
    }

    /// A message was refused: appends its basic.nack.
    pub fn refuse(&mut self, number: u64, channel: u16, out: &mut BytesMut) {
        let Some(fate) = self.fate(number) else {
            return;
        };
        *fate = Fate::Told;
        let delivery_tag = number - self.origin;
        put_method(
            out,
            channel,
            &Method::BasicNack {
                delivery_tag,
                multiple: false,
                requeue: false,
            },
        );
    }

    /// Appends basic.ack frames for everything that was confirmed since the last time.
    pub fn flush(&mut self, channel: u16, out: &mut BytesMut) {
        self.flush_prefix(channel, out);
        for tag in std::mem::take(&mut self.fresh) {
            if tag >= self.first {
                self.window[(tag - self.first) as usize] = Fate::Told;
                put_ack(out, channel, tag, false);
            }
        }
    }

    /// Everything before the first open message. What the client was told already may be in it, refusals too.
    fn flush_prefix(&mut self, channel: u16, out: &mut BytesMut) {
        let (mut confirmed, mut last) = (0, 0);
        while let Some(fate) = self.window.front().filter(|fate| **fate != Fate::Open) {
            if *fate == Fate::Confirmed {
                confirmed += 1;
                last = self.first;
            }
            self.window.pop_front();
            self.first += 1;
        }
        if confirmed > 0 {
            put_ack(out, channel, last, confirmed > 1);
        }
    }

    fn fate(&mut self, number: u64) -> Option<&mut Fate> {
        let tag = number.checked_sub(self.origin)?;
        let index = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        self.window
            .get_mut(index)
            .filter(|fate| **fate == Fate::Open)
    }
}

fn put_ack(out: &mut BytesMut, channel: u16, delivery_tag: u64, multiple: bool) {
    put_method(
        out,
        channel,
        &Method::BasicAck {
            delivery_tag,
            multiple,
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::next_frame;

    fn acks(confirms: &mut Confirms) -> Vec<(u64, bool)> {
        let mut out = BytesMut::new();
        confirms.flush(3, &mut out);
        let mut acks = Vec::new();
        while let Some(frame) = next_frame(&mut out, 4096).unwrap() {
            match Method::decode(frame.payload).unwrap() {
                Method::BasicAck {
                    delivery_tag,
                    multiple,
                } => acks.push((delivery_tag, multiple)),
                other => panic!("{other:?}"),
            }
        }
        acks
    }

    fn published(count: usize) -> Confirms {
        let mut confirms = Confirms::new(100);
        (0..count).for_each(|_| confirms.push());
        confirms
    }

    #[test]
    fn a_run_from_the_oldest_is_one_frame() {
        let mut confirms = published(5);
        for number in [102, 101, 103] {
            confirms.confirm(number);
        }
        assert_eq!(acks(&mut confirms), [(3, true)]);
        confirms.confirm(104);
        assert_eq!(acks(&mut confirms), [(4, false)]);
        assert_eq!(acks(&mut confirms), []);
    }

    #[test]
    fn beyond_a_gap_each_is_told_once() {
        let mut confirms = published(4);
        confirms.confirm(103);
        assert_eq!(acks(&mut confirms), [(3, false)]);
        confirms.confirm(101);
        confirms.confirm(102);
        confirms.confirm(104);
        assert_eq!(acks(&mut confirms), [(4, true)]);
    }

    #[test]
    fn a_refused_message_is_never_acknowledged() {
        let mut confirms = published(3);
        confirms.refuse(102, 3, &mut BytesMut::new());
        confirms.confirm(102);
        assert_eq!(acks(&mut confirms), []);
        confirms.confirm(101);
        assert_eq!(acks(&mut confirms), [(1, false)]);
    }

    #[test]
    fn tokens_of_another_life_of_the_channel_are_ignored() {
        let mut confirms = published(1);
        confirms.confirm(7);
        confirms.confirm(102);
        assert_eq!(acks(&mut confirms), []);
    }

    #[test]
    fn a_token_carries_channel_and_number() {
        let token = PublishToken {
            channel: u16::MAX,
            number: (1 << 48) - 1,
        };
        assert_eq!(PublishToken::from(Token::from(token)), token);
    }
}
