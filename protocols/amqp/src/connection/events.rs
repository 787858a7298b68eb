//! What the core tells, handed to the channel it is for.

use smallvec::SmallVec;
use trivium_core::{
    CancelReason, ConsumerId, Delivery, Message, Now, Outcome, Refusal, Reply, Token,
};
use trivium_protocol::Effects;

use super::{Connection, Slot};
use crate::{
    channel::PUBLISH,
    confirm::PublishToken,
    session::{Pending, Then},
    settle::settle,
};

impl Connection {
    pub(super) fn handle_done(
        &mut self,
        token: Token,
        result: Result<Reply, Refusal>,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(pending) = self
            .session
            .pending
            .take_if(|pending| pending.token == token)
        else {
            return;
        };
        // The client was not read meanwhile, so its silence does not count.
        self.last_received = now.instant;
        let Pending {
            channel,
            method,
            then,
            ..
        } = pending;
        let handled = match (then, self.channels.get_mut(&channel)) {
            (Then::Authenticated { mechanism }, _) => {
                self.handle_authenticated(result, &mechanism, now, effects)
            }
            (Then::Entered { vhost }, _) => self.handle_entered(vhost, result, effects),
            (Then::Left, _) => {
                self.leave(effects);
                Ok(())
            }
            (then, Some(Slot::Open(channel))) => {
                channel.handle_reply(then, result, &mut self.session, effects)
            }
            (then, _) => {
                give_back(then, result, effects);
                Ok(())
            }
        };
        if let Err(error) = handled {
            self.fail(error, method, channel, now, effects);
        }
    }

    pub(super) fn handle_confirmed(&mut self, tokens: &[Token], effects: &mut Effects) {
        let mut touched: SmallVec<[u16; 8]> = SmallVec::new();
        for token in tokens.iter().map(|token| PublishToken::from(*token)) {
            if let Some(Slot::Open(channel)) = self.channels.get_mut(&token.channel) {
                channel.handle_confirmed(token.number);
                if !touched.contains(&token.channel) {
                    touched.push(token.channel);
                }
            }
        }
        for number in touched {
            if let Some(Slot::Open(channel)) = self.channels.get_mut(&number) {
                channel.flush_confirms(&mut effects.output);
            }
        }
    }

    pub(super) fn handle_refused(
        &mut self,
        tokens: &[Token],
        reason: &Refusal,
        now: Now,
        effects: &mut Effects,
    ) {
        if matches!(reason, Refusal::StorageFailed(_)) {
            self.tell_failure(effects);
        }
        for token in tokens.iter().map(|token| PublishToken::from(*token)) {
            if let Some(Slot::Open(channel)) = self.channels.get_mut(&token.channel)
                && let Err(error) =
                    channel.handle_refused(token.number, reason, &mut effects.output)
            {
                self.fail(error, PUBLISH, token.channel, now, effects);
            }
        }
    }

    pub(super) fn handle_returned(
        &mut self,
        token: Option<Token>,
        message: &Message,
        effects: &mut Effects,
    ) {
        let Some(token) = token.map(PublishToken::from) else {
            return;
        };
        if let Some(Slot::Open(channel)) = self.channels.get_mut(&token.channel) {
            channel.handle_returned(token.number, message, &self.session, &mut effects.output);
        }
    }

    pub(super) fn handle_deliver(
        &mut self,
        id: ConsumerId,
        deliveries: &[Delivery],
        effects: &mut Effects,
    ) {
        let number = self
            .session
            .consumers
            .get(&id)
            .map(|consumer| consumer.channel);
        match number.and_then(|number| self.channels.get_mut(&number)) {
            Some(Slot::Open(channel)) => {
                channel.deliver(id, deliveries, &mut self.session, &mut effects.output)
            }
            // They were on their way when the channel closed.
            _ => deliveries.iter().for_each(|delivery| {
                settle(&mut effects.commands, id, delivery.id, Outcome::Requeue)
            }),
        }
    }

    pub(super) fn handle_cancelled(
        &mut self,
        consumer: ConsumerId,
        reason: CancelReason,
        now: Now,
        effects: &mut Effects,
    ) {
        let number = self
            .session
            .consumers
            .get(&consumer)
            .map(|consumer| consumer.channel);
        let Some(number) = number else { return };
        if let Some(Slot::Open(channel)) = self.channels.get_mut(&number)
            && let Err(error) =
                channel.handle_cancelled(consumer, reason, &mut self.session, effects)
        {
            self.fail(error, (0, 0), number, now, effects);
        }
    }
}

/// A message that came for a channel that closed meanwhile goes back.
fn give_back(then: Then, result: Result<Reply, Refusal>, effects: &mut Effects) {
    if let (
        Then::Got {
            consumer,
            auto_ack: false,
        },
        Ok(Reply::Got {
            delivery: Some(delivery),
            ..
        }),
    ) = (then, result)
    {
        settle(
            &mut effects.commands,
            consumer,
            delivery.id,
            Outcome::Requeue,
        );
    }
}
