//! Transactions: publishes and settlements of one connection that are one storage batch.
//!
//! All of it is handed over in one go and as one span, so the shards' parts are committed together or not at all.
//! Every part is confirmed by its shard when that is done; the last confirmation is the transaction's.

use std::{ops::RangeInclusive, sync::Arc};

use smallvec::SmallVec;

use super::{Link, publish::Plan};
use crate::{
    command::{Outcome, Part},
    event::{Event, Refusal, Reply},
    id::{ConsumerId, DeliveryId, Token},
    message::Message,
    shard::Op,
};

/// A transaction under way.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Confirmations still to come.
    left: u32,
    /// Why a part of it was refused.
    refusal: Option<Refusal>,
}

type Planned = (Token, Arc<Message>, bool, Plan);

impl Link {
    /// Carries out all parts or, when one of the messages is refused, none.
    pub(super) fn transact(&mut self, token: Token, parts: Vec<Part>) {
        let planned = match self.plan_all(&parts) {
            Ok(planned) => planned,
            Err(refusal) => return self.done(token, Err(refusal)),
        };
        let (mut left, mut shards) = (0, 0);
        for (of, message, mandatory, plan) in planned {
            if !plan.is_routed() && mandatory {
                let message = message.clone();
                self.local.push(Event::Returned {
                    token: Some(of),
                    message,
                });
            }
            let (destinations, sent) = self.send(Some(token), &message, plan);
            left += destinations;
            shards |= sent;
        }
        let settling = self.settle_all(parts);
        for shard in (0..u64::BITS as usize).filter(|shard| settling & (1 << shard) != 0) {
            self.outgoing.push(shard, Op::Fence { token });
            left += 1;
        }
        shards |= settling;
        if shards.count_ones() > 1 {
            self.outgoing.spanned |= shards;
        }
        if left == 0 {
            return self.done(token, Ok(Reply::Ok));
        }
        let refusal = None;
        self.transactions
            .make()
            .insert(token, Transaction { left, refusal });
    }

    fn plan_all(&mut self, parts: &[Part]) -> Result<Vec<Planned>, Refusal> {
        parts
            .iter()
            .filter_map(|part| match part {
                Part::Publish {
                    token,
                    message,
                    mandatory,
                    also,
                } => Some((*token, message, *mandatory, also)),
                Part::Settle { .. } => None,
            })
            .map(|(token, message, mandatory, also)| {
                let plan = self.plan(message, also)?;
                Ok((token, message.clone(), mandatory, plan))
            })
            .collect()
    }

    /// Hands over the settlements; in which shards they are.
    fn settle_all(&mut self, parts: Vec<Part>) -> u64 {
        let mut shards = 0;
        for part in parts {
            if let Part::Settle {
                consumer,
                deliveries,
                outcome,
            } = part
                && let Some(shard) = self.settle(consumer, deliveries, outcome)
            {
                shards |= 1 << shard;
            }
        }
        shards
    }

    /// Hands over one settlement; to which shard.
    pub(super) fn settle(
        &mut self,
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
        outcome: Outcome,
    ) -> Option<usize> {
        self.outgoing.is_busy = true;
        let Some(shard) = self.consumers.get(&consumer).map(|feed| feed.shard) else {
            self.settle_stream(consumer, deliveries, outcome);
            return None;
        };
        let count = (deliveries.end().0.saturating_add(1)).saturating_sub(deliveries.start().0);
        if let Some(channels) = self.channels.get_mut() {
            channels.settled(consumer, count);
        }
        self.outgoing.push(
            shard,
            Op::Settle {
                consumer,
                deliveries,
                outcome,
            },
        );
        Some(shard)
    }

    /// Takes the confirmations of transactions out of `tokens`; those that are complete are answered.
    pub(super) fn transacted(
        &mut self,
        tokens: &mut Vec<Token>,
        refusal: Option<&Refusal>,
        events: &mut Vec<Event>,
    ) {
        let Some(transactions) = self.transactions.get_mut() else {
            return;
        };
        if transactions.is_empty() {
            return;
        }
        let mut complete: SmallVec<[Token; 1]> = SmallVec::new();
        tokens.retain(|token| {
            let Some(transaction) = transactions.get_mut(token) else {
                return true;
            };
            transaction.left -= 1;
            if transaction.refusal.is_none() {
                transaction.refusal = refusal.cloned();
            }
            if transaction.left == 0 {
                complete.push(*token);
            }
            false
        });
        for token in complete {
            let transaction = transactions.remove(&token).unwrap_or_default();
            let result = transaction.refusal.map_or(Ok(Reply::Ok), Err);
            events.push(Event::Done { token, result });
        }
    }
}
