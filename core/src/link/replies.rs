//! A connection's own reply addresses.

use super::Link;
use crate::{
    event::{Kind, Reply},
    id::{ConsumerId, Token},
    properties::Text,
};

impl Link {
    pub(super) fn take_replies(&mut self, token: Token, consumer: ConsumerId) {
        let (address, taker) = self.broker.replies.open(&self.mailbox, consumer);
        self.owed.insert(consumer, 0);
        self.replies.insert(consumer, (address.clone(), taker));
        self.done(token, Ok(Reply::ReplyAddress { address }));
    }

    pub(super) fn find_replies(&mut self, token: Token, address: Text) {
        let result = match self.broker.replies.find(&address) {
            Some(_) => Ok(Reply::Ok),
            None => Err(self.not_found(Kind::Queue, &address)),
        };
        self.done(token, result);
    }

    pub(super) fn refuse_replies(&mut self, consumer: ConsumerId) {
        if let Some((address, _)) = self.replies.remove(&consumer) {
            self.owed.remove(&consumer);
            self.broker.replies.close(&address);
        }
    }

    /// What was delivered has reached the peer's socket.
    pub(super) fn replies_read(&mut self) {
        for (consumer, (_, taker)) in &self.replies {
            if let Some(owed) = self.owed.get_mut(consumer) {
                taker.read(std::mem::take(owed));
            }
        }
    }
}
