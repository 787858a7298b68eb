//! How messages end other than by being accepted: dropped, or on their way to the dead-letter exchange.
//!
//! A dead letter is routed outside of the shard. Until the batch that puts it where it goes and takes it from here
//! is committed, it is neither ready nor gone: a crash brings it back.
//!
//! Where dead letters must arrive, those that some target refuses, or that have no target, stay here and are sent
//! again every [`RETRY`]. They count for the length of the queue, and when as many as may be dying at once are, nothing
//! more is delivered that could be rejected.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{Budget, Front, Held, Queue, Tally};
use crate::{
    dead_letters::{DeadLetter, Reason, Undelivered},
    id::Sequence,
    message::Message,
    shard::Turn,
    time::Timestamp,
};

/// Dead letters of one queue that are on their way at once, in messages …
const DYING_MAX: usize = 4096;

/// … and in bytes of memory. What has been rejected comes on top: its consumers' prefetch bounds it.
const DYING_BYTES_MAX: usize = 8 << 20;

/// How long after a refusal dead letters are sent again.
const RETRY: Duration = Duration::from_secs(5);

/// Dead letters that could not be delivered.
#[derive(Debug)]
pub(super) struct Returned {
    letters: Vec<Undelivered>,
    /// When they are sent again.
    retry_at: Timestamp,
}

/// What is dead and has not arrived elsewhere.
#[derive(Default)]
pub(super) struct Dying {
    pub(super) messages: BTreeMap<Sequence, Held>,
    /// Of memory.
    bytes: usize,
    tally: Tally,
}

impl Queue {
    /// How many are dying.
    pub(super) fn dying(&self) -> Tally {
        self.dying
            .get()
            .map_or_else(Tally::default, |dying| dying.tally)
    }

    /// When a message's time is up.
    pub(super) fn expires_at(&self, held: &Held) -> Option<Timestamp> {
        let lifetime = [held.message.expiry_ms, self.entry.settings.message_ttl]
            .into_iter()
            .flatten()
            .min()?;
        Some(Timestamp(held.accepted.0.saturating_add(lifetime)))
    }

    /// Drops messages at the head whose time is up, those of this turn only if `fresh`. Those behind an unexpired one
    /// wait for their turn, as in RabbitMQ. True if there were any.
    pub(super) fn expire(&mut self, fresh: bool, budget: &mut Budget, turn: &mut Turn) -> bool {
        let mut any = false;
        while self.timed && self.may_die() && self.head_is_expired(fresh, turn.now.wall) {
            let Some(held) = self.take_head() else { break };
            turn.count.expired += 1;
            self.bury(held, Reason::Expired, budget, turn);
            any = true;
        }
        any
    }

    fn head_is_expired(&self, fresh: bool, now: Timestamp) -> bool {
        let Some(front) = self.front() else {
            return false;
        };
        let held = match front {
            Front::Returned => self.returned.first_key_value().map(|(_, held)| held),
            Front::Lane(at) => self.lanes[at]
                .ready
                .front()
                .filter(|held| fresh || held.sequence < self.lanes[at].fresh_from),
        };
        held.and_then(|held| self.expires_at(held))
            .is_some_and(|at| at <= now)
    }

    /// Whether the message at the head may neither be delivered any more nor die yet.
    pub(super) fn head_must_wait_to_expire(&self, turn: &Turn) -> bool {
        self.timed && !self.may_die() && self.head_is_expired(false, turn.now.wall)
    }

    /// Whether more messages may die now.
    pub(super) fn may_die(&self) -> bool {
        let dying = self.dying.get();
        dying.is_none_or(|dying| dying.messages.len() < DYING_MAX && dying.bytes < DYING_BYTES_MAX)
    }

    /// A message that is in nobody's hands any more ends.
    pub(super) fn bury(
        &mut self,
        held: Held,
        reason: Reason,
        budget: &mut Budget,
        turn: &mut Turn,
    ) {
        let nowhere = self.entry.settings.dead_letter_exchange.is_none();
        if nowhere || held.fleeting || self.is_moved(&held) {
            return self.forget(&held, budget);
        }
        self.dead_letter(Some(held.sequence), held.message.clone(), reason, turn);
        let dying = self.dying.make();
        dying.bytes += held.size;
        dying.tally.add(&held.message);
        dying.messages.insert(held.sequence, held);
    }

    /// Sends a message to the dead-letter exchange, if there is one.
    pub(super) fn dead_letter(
        &self,
        sequence: Option<Sequence>,
        message: Arc<Message>,
        reason: Reason,
        turn: &mut Turn,
    ) {
        if self.entry.settings.dead_letter_exchange.is_some() {
            turn.dead.push(DeadLetter {
                queue: self.entry.clone(),
                sequence,
                message,
                reason,
                time: turn.now.wall,
                arrived: SmallVec::new(),
            });
        }
    }

    /// Dead letters have arrived, or nobody wants them.
    pub(crate) fn buried(&mut self, sequences: &[Sequence], budget: &mut Budget) {
        for sequence in sequences {
            let dying = self.dying.make();
            if let Some(held) = dying.messages.remove(sequence) {
                dying.bytes -= held.size;
                dying.tally.remove(&held.message);
                self.forget(&held, budget);
            }
        }
    }

    /// Dead letters have not arrived everywhere.
    pub(crate) fn undelivered(&mut self, letters: Vec<Undelivered>, now: Timestamp) {
        let returned = self.undelivered.get_or_insert_with(|| {
            Box::new(Returned {
                letters: Vec::new(),
                retry_at: now.after(RETRY),
            })
        });
        returned.letters.extend(letters);
    }

    /// When dead letters are sent again.
    pub(super) fn retries_at(&self) -> Option<Timestamp> {
        Some(self.undelivered.as_ref()?.retry_at)
    }

    /// Sends dead letters again, when it is time to.
    pub(super) fn retry(&mut self, turn: &mut Turn) {
        let now = turn.now.wall;
        let Some(returned) = self
            .undelivered
            .take_if(|returned| returned.retry_at <= now)
        else {
            return;
        };
        for letter in returned.letters {
            if let Some(held) = self.dying.make().messages.get(&letter.sequence) {
                turn.dead.push(DeadLetter {
                    queue: self.entry.clone(),
                    sequence: Some(letter.sequence),
                    message: held.message.clone(),
                    reason: letter.reason,
                    time: letter.time,
                    arrived: letter.arrived,
                });
            }
        }
    }

    /// Whether deliveries are put off because too many dead letters wait for their targets, or too many messages for
    /// their next delivery.
    pub(super) fn is_choked(&self) -> bool {
        (self.entry.settings.dead_letters_must_arrive && !self.may_die()) || self.delays_too_much()
    }
}
