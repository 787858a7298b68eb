//! A connection's own reply addresses.

use std::sync::Arc;

use super::Link;
use crate::{
    event::{Kind, Reply},
    id::{ConsumerId, Token},
    properties::Text,
    replies::Taker,
};

/// An address of the connection.
#[derive(Debug)]
pub(super) struct Replies {
    pub(super) address: Text,
    taker: Arc<Taker>,
    /// Bytes delivered that have not reached the peer's socket.
    owed: usize,
}

impl Link {
    pub(super) fn take_replies(&mut self, token: Token, consumer: ConsumerId) {
        let (address, taker) = self.broker.replies.open(&self.mailbox, consumer);
        let replies = Replies {
            address: address.clone(),
            taker,
            owed: 0,
        };
        self.replies.make().insert(consumer, replies);
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
        let taken = self.replies.get_mut();
        if let Some(replies) = taken.and_then(|taken| taken.remove(&consumer)) {
            self.broker.replies.close(&replies.address);
        }
    }

    /// Replies are delivered.
    pub(super) fn owe_for_replies(&mut self, consumer: ConsumerId, bytes: usize) {
        let taken = self.replies.get_mut();
        if let Some(replies) = taken.and_then(|taken| taken.get_mut(&consumer)) {
            replies.owed += bytes;
        }
    }

    /// What was delivered has reached the peer's socket.
    pub(super) fn replies_read(&mut self) {
        let taken = self.replies.get_mut();
        for replies in taken.into_iter().flat_map(|taken| taken.values_mut()) {
            replies.taker.read(std::mem::take(&mut replies.owed));
        }
    }
}
