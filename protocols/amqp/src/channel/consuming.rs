//! The consumer's side of a channel: consumers, deliveries and what becomes of them.

use trivium_core::{CancelReason, Command, ConsumeSpec, ConsumerId, Delivery, Outcome, Text};
use trivium_protocol::{Effects, Output};

use super::{Channel, direct_reply};
use crate::{
    error::{Error, ReplyCode},
    frame::put_method,
    method::Method,
    session::{Consumer, Session, Then},
    settle::{settle, settle_all},
};

impl Channel {
    /// Bounds what is unsettled: of each consumer started from now on, or of all of the channel together, as RabbitMQ
    /// reads `global`.
    pub(super) fn set_prefetch(&mut self, count: u16, global: bool, effects: &mut Effects) {
        let limit = (count > 0).then_some(count.into());
        if !global {
            self.prefetch = limit;
            return;
        }
        self.is_limited = limit.is_some();
        let getters = self.getters.values().copied().collect();
        let unsettled = self.unsettled.count_without(&getters);
        effects.commands.push(Command::LimitChannel {
            channel: self.number,
            limit,
            unsettled: u32::try_from(unsettled).unwrap_or(u32::MAX),
        });
    }

    pub(super) fn consume(
        &mut self,
        queue: Text,
        tag: Text,
        spec: ConsumeSpec,
        no_wait: bool,
        session: &mut Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let takes_replies = queue == direct_reply::PSEUDO_QUEUE;
        let most = session.options.consumer_max;
        if most > 0 && self.consumers.len() >= most && !takes_replies {
            return Err(Error::connection(
                ReplyCode::NotAllowed,
                format!("reached maximum ({most}) of consumers per channel"),
            ));
        }
        if self.consumers.contains_key(&tag) {
            return Err(Error::connection(
                ReplyCode::NotAllowed,
                format!("attempt to reuse consumer tag '{tag}'"),
            ));
        }
        let tag = if tag.is_empty() {
            session.next_consumer_tag()
        } else {
            tag
        };
        if takes_replies {
            self.check_reply_consumer(spec.auto_ack)?;
        }
        let consumer = session.next_consumer();
        self.consumers.insert(tag.clone(), consumer);
        session.consumers.insert(
            consumer,
            Consumer {
                channel: self.number,
                tag,
                auto_ack: spec.auto_ack,
            },
        );
        if takes_replies {
            self.take_replies(consumer, no_wait, session, effects);
            return Ok(());
        }
        session.ask(
            self.number,
            (60, 20),
            Then::Consuming { consumer, no_wait },
            effects,
            |token| Command::Consume {
                token,
                consumer,
                queue,
                spec,
            },
        );
        Ok(())
    }

    /// Cancelling an unknown consumer succeeds: it may have ended on its own.
    pub(super) fn cancel(
        &mut self,
        tag: Text,
        no_wait: bool,
        session: &mut Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let Some(&consumer) = self.consumers.get(&tag) else {
            return if no_wait {
                Ok(())
            } else {
                self.send(Method::BasicCancelOk { consumer_tag: tag }, effects)
            };
        };
        let then = Then::Cancelled {
            consumer,
            tag,
            no_wait,
        };
        session.ask(self.number, (60, 30), then, effects, |token| {
            Command::Cancel { token, consumer }
        });
        Ok(())
    }

    /// A consumer ended from the broker's side (RabbitMQ's consumer cancel notification). A client that knows nothing
    /// of such notifications loses its channel when it was too slow, as with RabbitMQ before 4.3.
    pub fn handle_cancelled(
        &mut self,
        consumer: ConsumerId,
        reason: CancelReason,
        session: &mut Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let Some(Consumer { tag, .. }) = self.forget(consumer, session) else {
            return Ok(());
        };
        if session.cancel_notify {
            let cancel = Method::BasicCancel {
                consumer_tag: tag,
                no_wait: true,
            };
            put_method(effects.output.buffer(), self.number, &cancel);
        } else if reason == CancelReason::TimedOut {
            let text = format!(
                "delivery acknowledgement on channel {} timed out. This timeout value can be configured, see consumers doc guide to learn more",
                self.number
            );
            return Err(Error::precondition(text));
        }
        Ok(())
    }

    pub(super) fn forget(
        &mut self,
        consumer: ConsumerId,
        session: &mut Session,
    ) -> Option<Consumer> {
        let forgotten = session.consumers.remove(&consumer)?;
        self.consumers.remove(&forgotten.tag);
        self.replies.take_if(|replies| replies.consumer == consumer);
        Some(forgotten)
    }

    pub(super) fn get(
        &mut self,
        queue: Text,
        auto_ack: bool,
        session: &mut Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let queue = self.queue(queue)?;
        let consumer = *self
            .getters
            .entry(queue.clone())
            .or_insert_with(|| session.next_consumer());
        let then = Then::Got { consumer, auto_ack };
        session.ask(self.number, (60, 70), then, effects, |token| Command::Get {
            token,
            consumer,
            queue,
            auto_ack,
        });
        Ok(())
    }

    /// Sends messages to a consumer of this channel.
    pub fn deliver(
        &mut self,
        id: ConsumerId,
        deliveries: &[Delivery],
        session: &mut Session,
        output: &mut Output,
    ) {
        let consumer = &session.consumers[&id];
        for delivery in deliveries {
            let tag = self.tag(id, consumer.auto_ack, delivery);
            let converted =
                self.destination(session.frame_max, output)
                    .deliver(&consumer.tag, tag, delivery);
            if let Some(dropped) = converted {
                session.converted.count(&delivery.message, dropped);
            }
        }
    }

    pub(super) fn tag(&mut self, consumer: ConsumerId, auto_ack: bool, delivery: &Delivery) -> u64 {
        if auto_ack {
            self.unsettled.skip()
        } else {
            self.unsettled.push(consumer, delivery.id)
        }
    }

    pub(super) fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        if self.transaction.is_some() {
            return self.stage_settlement(tag, multiple, outcome);
        }
        let unknown = || unknown_tag(tag);
        if multiple {
            let taken = self.unsettled.take_through(tag).ok_or_else(unknown)?;
            settle_all(&mut effects.commands, taken, outcome);
        } else {
            let taken = self.unsettled.take(tag).ok_or_else(unknown)?;
            settle(
                &mut effects.commands,
                taken.consumer,
                taken.delivery,
                outcome,
            );
        }
        Ok(())
    }

    pub(super) fn requeue_all(&mut self, outcome: Outcome, effects: &mut Effects) {
        if let Some(all) = self.unsettled.take_through(0) {
            settle_all(&mut effects.commands, all, outcome);
        }
    }
}

pub(super) fn unknown_tag(tag: u64) -> Error {
    Error::precondition(format!("unknown delivery tag {tag}"))
}
