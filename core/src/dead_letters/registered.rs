//! Dead letters that must arrive (`x-dead-letter-strategy=at-least-once`): what each still waits for.
//!
//! Every target is asked to confirm. Only when all have, the letter leaves its source; otherwise it goes back there
//! with the list of those that have it, and is tried again later.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{DeadLetter, Reason};
use crate::{
    id::{LogId, QueueId, Sequence, Token},
    time::Timestamp,
};

/// Where a dead letter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Queue(QueueId),
    Log(LogId),
    /// A delayed exchange.
    Delay(u64),
}

/// A dead letter that has not arrived everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Undelivered {
    pub(crate) sequence: Sequence,
    pub(crate) reason: Reason,
    /// When it died.
    pub(crate) time: Timestamp,
    /// Where it has arrived.
    pub(crate) arrived: SmallVec<[Target; 1]>,
}

/// What became of a dead letter.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Every target has it.
    Arrived(QueueId, Sequence),
    /// Some target has not.
    Undelivered(QueueId, Undelivered),
}

#[derive(Debug)]
struct Letter {
    source: QueueId,
    undelivered: Undelivered,
    /// Targets that have not answered.
    waiting: u32,
    refused: bool,
}

/// The dead letters on their way. Sources bound how many there are.
#[derive(Debug, Default)]
pub(super) struct Registered {
    last: u64,
    letters: FxHashMap<u64, Letter>,
    tokens: FxHashMap<Token, (u64, Target)>,
}

impl Registered {
    /// Takes a letter on; its number.
    pub(super) fn open(&mut self, letter: &DeadLetter, sequence: Sequence) -> u64 {
        self.last += 1;
        let undelivered = Undelivered {
            sequence,
            reason: letter.reason,
            time: letter.time,
            arrived: letter.arrived.clone(),
        };
        self.letters.insert(
            self.last,
            Letter {
                source: letter.queue.id,
                undelivered,
                waiting: 0,
                refused: false,
            },
        );
        self.last
    }

    /// The token with which a target is to confirm a letter; `None` if it has it.
    pub(super) fn expect(&mut self, number: u64, target: Target) -> Option<Token> {
        let letter = self.letters.get_mut(&number)?;
        if letter.undelivered.arrived.contains(&target) {
            return None;
        }
        letter.waiting += 1;
        self.last += 1;
        let token = Token(self.last);
        self.tokens.insert(token, (number, target));
        Some(token)
    }

    /// A letter cannot go where it should.
    pub(super) fn refuse(&mut self, number: u64) {
        if let Some(letter) = self.letters.get_mut(&number) {
            letter.refused = true;
        }
    }

    /// A target has answered.
    pub(super) fn answer(&mut self, token: Token, taken: bool) -> Option<Outcome> {
        let (number, target) = self.tokens.remove(&token)?;
        let letter = self.letters.get_mut(&number)?;
        letter.waiting -= 1;
        if taken {
            letter.undelivered.arrived.push(target);
        } else {
            letter.refused = true;
        }
        self.close(number)
    }

    /// What has become of a letter, once nobody has to answer any more.
    pub(super) fn close(&mut self, number: u64) -> Option<Outcome> {
        if self.letters.get(&number)?.waiting > 0 {
            return None;
        }
        let letter = self.letters.remove(&number)?;
        Some(if letter.refused {
            Outcome::Undelivered(letter.source, letter.undelivered)
        } else {
            Outcome::Arrived(letter.source, letter.undelivered.sequence)
        })
    }
}
