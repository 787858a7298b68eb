//! Transactions of a channel (section 1.9): publishes and acknowledgements that are kept until tx.commit.
//!
//! Whether an exchange is there and may be published to is asked at once, as without a transaction. What was
//! committed goes to the core as one command.

use std::sync::Arc;

use trivium_core::{Command, Message, Outcome, Part, Refusal, Token, Topic};
use trivium_protocol::Effects;

use super::Channel;
use crate::{
    error::Error,
    method::Method,
    session::{Session, Then},
    unsettled::Taken,
};

/// Class and method of tx.commit.
const COMMIT: (u16, u16) = (90, 20);
/// Bytes of messages that a transaction may hold.
const BYTES_MAX: usize = 256 << 20;
/// Publishes and acknowledgements that a transaction may hold.
const PARTS_MAX: usize = 1 << 20;
/// What a part takes besides its message.
const PART_OVERHEAD: usize = 256;

/// What has been done since tx.select or the last commit or rollback.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    parts: Vec<Part>,
    bytes: usize,
    /// The deliveries that `parts` settle.
    settled: Vec<Taken>,
}

impl Transaction {
    fn add(&mut self, part: Part, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes + PART_OVERHEAD;
        if self.bytes > BYTES_MAX || self.parts.len() >= PARTS_MAX {
            let text =
                format!("a transaction holds at most {BYTES_MAX} bytes in {PARTS_MAX} parts");
            return Err(Error::precondition(text));
        }
        self.parts.push(part);
        Ok(())
    }

    fn settle(&mut self, taken: Taken, outcome: Outcome) -> Result<(), Error> {
        self.settled.push(taken);
        if let Some(Part::Settle {
            consumer,
            deliveries,
            outcome: same,
        }) = self.parts.last_mut()
            && *consumer == taken.consumer
            && *same == outcome
            && deliveries.end().next() == taken.delivery
        {
            *deliveries = *deliveries.start()..=taken.delivery;
            return Ok(());
        }
        let part = Part::Settle {
            consumer: taken.consumer,
            deliveries: taken.delivery..=taken.delivery,
            outcome,
        };
        self.add(part, 0)
    }
}

impl Channel {
    pub(super) fn select_transactions(&mut self, effects: &mut Effects) -> Result<(), Error> {
        if self.confirms.is_some() {
            return Err(Error::precondition("cannot switch from confirm to tx mode"));
        }
        self.transaction.get_or_insert_default();
        self.send(Method::TxSelectOk {}, effects)
    }

    pub(super) fn commit(
        &mut self,
        session: &mut Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let transaction = self.transaction.as_mut().ok_or_else(not_transactional)?;
        let Transaction { parts, settled, .. } = std::mem::take(transaction);
        if parts.is_empty() {
            return self.send(Method::TxCommitOk {}, effects);
        }
        let then = Then::Committed { settled };
        session.ask(self.number, COMMIT, then, effects, |token| {
            Command::Transact { token, parts }
        });
        Ok(())
    }

    /// A commit that failed has settled nothing.
    pub(super) fn handle_commit_failed(&mut self, settled: Vec<Taken>, refusal: Refusal) -> Error {
        self.unsettled.restore(settled);
        match refusal {
            Refusal::NotFound { .. }
            | Refusal::Denied(_)
            | Refusal::TooLarge { .. }
            | Refusal::StorageFailed(_)
            | Refusal::Stopping => refusal.into(),
            _ => Error::precondition("partial tx completion"),
        }
    }

    /// Publishes are forgotten, and deliveries are as if they had not been acknowledged.
    pub(super) fn rollback(&mut self, effects: &mut Effects) -> Result<(), Error> {
        if self.transaction.is_none() {
            return Err(not_transactional());
        }
        self.forget_transaction();
        self.transaction = Some(Transaction::default());
        self.send(Method::TxRollbackOk {}, effects)
    }

    /// Ends a transaction that was not committed.
    pub(super) fn forget_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            self.unsettled.restore(transaction.settled);
        }
    }

    pub(super) fn stage(
        &mut self,
        token: Token,
        message: Arc<Message>,
        mandatory: bool,
        also: Box<[Topic]>,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        let probe = message.clone();
        let bytes = message.size();
        let part = Part::Publish {
            token,
            message,
            mandatory,
            also,
        };
        transaction.add(part, bytes)?;
        effects.commands.push(Command::Probe {
            token,
            message: probe,
        });
        Ok(())
    }

    pub(super) fn stage_settlement(
        &mut self,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let taken: Vec<Taken> = if multiple {
            self.unsettled.take_through(tag).map(Iterator::collect)
        } else {
            self.unsettled.take(tag).map(|taken| vec![taken])
        }
        .ok_or_else(|| super::consuming::unknown_tag(tag))?;
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        taken
            .into_iter()
            .try_for_each(|taken| transaction.settle(taken, outcome))
    }
}

fn not_transactional() -> Error {
    Error::precondition("channel is not transactional")
}
