//! Direct reply-to: a pseudo-queue whose consumer gets replies without a queue (RabbitMQ's extension).
//!
//! A request whose `reply_to` is the pseudo-queue carries the consumer's own address instead, a routing key of the
//! default exchange that leads straight to this channel.

use trivium_core::{Command, ConsumerId, REPLY_PREFIX, Text};
use trivium_protocol::Effects;

use super::Channel;
use crate::{
    error::Error,
    method::Method,
    session::{Session, Then},
};

/// The queue that replies are consumed from.
pub const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";

/// The consumer of replies, of which a channel has at most one.
#[derive(Debug)]
pub(super) struct Replies {
    pub consumer: ConsumerId,
    /// Where they are sent; empty until the core has said it.
    address: Text,
}

impl Channel {
    pub(super) fn check_reply_consumer(&self, auto_ack: bool) -> Result<(), Error> {
        match self.replies {
            _ if !auto_ack => Err(Error::precondition("reply consumer cannot acknowledge")),
            Some(_) => Err(Error::precondition("reply consumer already set")),
            None => Ok(()),
        }
    }

    pub(super) fn take_replies(
        &mut self,
        consumer: ConsumerId,
        no_wait: bool,
        session: &mut Session,
        effects: &mut Effects,
    ) {
        self.replies = Some(Replies {
            consumer,
            address: Text::new(),
        });
        let then = Then::Consuming { consumer, no_wait };
        session.ask(self.number, (60, 20), then, effects, |token| {
            Command::TakeReplies { token, consumer }
        });
    }

    pub(super) fn set_reply_address(&mut self, address: Text) {
        if let Some(replies) = &mut self.replies {
            replies.address = address;
        }
    }

    /// Where replies to this channel's requests go.
    pub(super) fn reply_address(&self) -> Option<&Text> {
        self.replies.as_ref().map(|replies| &replies.address)
    }

    /// queue.declare of the pseudo-queue or an address says whether anybody is there; nothing is declared.
    pub(super) fn declare_replies(
        &mut self,
        queue: Text,
        no_wait: bool,
        session: &mut Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        if queue == PSEUDO_QUEUE {
            return self.replies_declared(queue, no_wait, effects);
        }
        let then = Then::FoundReplies {
            queue: queue.clone(),
            no_wait,
        };
        session.ask(self.number, (50, 10), then, effects, |token| {
            Command::FindReplies {
                token,
                address: queue,
            }
        });
        Ok(())
    }

    pub(super) fn replies_declared(
        &mut self,
        queue: Text,
        no_wait: bool,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        self.last_queue = queue.clone();
        if no_wait {
            return Ok(());
        }
        let declared = Method::QueueDeclareOk {
            queue,
            message_count: 0,
            consumer_count: 1,
        };
        self.send(declared, effects)
    }
}

/// Whether a queue name is the pseudo-queue's or an address.
pub(super) fn is_reply_name(queue: &str) -> bool {
    queue == PSEUDO_QUEUE || queue.starts_with(REPLY_PREFIX)
}
