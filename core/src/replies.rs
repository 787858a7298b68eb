//! Direct replies: addresses that lead to a connection without a queue between.
//!
//! Whoever takes replies has an address, a topic on the default exchange that cannot be guessed. A reply goes from
//! the replier's link into the requester's mailbox, past all shards, and is gone if the requester is.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::{
    event::{Delivery, Event},
    id::{ConsumerId, DeliveryId},
    link::Mailbox,
    message::Message,
    properties::Text,
    queue,
    time::Timestamp,
    topic::{Grammar, Topic},
};

/// What every address begins with; the random part follows.
pub const REPLY_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Bytes of replies that may be on their way to one requester; what comes beyond that is dropped.
const WAITING_MAX: usize = 64 << 20;

/// The addresses of a broker. Bounded by the consumers of its connections.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    takers: RwLock<FxHashMap<Text, Arc<Taker>>>,
}

/// Who takes the replies to one address.
#[derive(Debug)]
pub(crate) struct Taker {
    mailbox: Arc<Mailbox>,
    consumer: ConsumerId,
    last: AtomicU64,
    waiting: AtomicUsize,
}

impl Replies {
    /// A fresh address for a consumer of a connection.
    pub(crate) fn open(&self, mailbox: &Arc<Mailbox>, consumer: ConsumerId) -> (Text, Arc<Taker>) {
        let address = Text::from(format!("{REPLY_PREFIX}{}", Uuid::new_v4().simple()));
        let taker = Arc::new(Taker {
            mailbox: mailbox.clone(),
            consumer,
            last: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        });
        self.takers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address.clone(), taker.clone());
        (address, taker)
    }

    /// Nobody takes replies at this address any more.
    pub(crate) fn close(&self, address: &str) {
        self.takers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(address);
    }

    /// Who takes replies at an address.
    pub(crate) fn find(&self, address: &str) -> Option<Arc<Taker>> {
        self.takers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(address)
            .cloned()
    }

    /// Who a message is a reply to, if its address says so.
    pub(crate) fn taker(&self, exchange: &str, topic: &Topic) -> Option<Arc<Taker>> {
        let is_reply = exchange.is_empty()
            && topic.grammar() == Grammar::Dots
            && topic.text().starts_with(REPLY_PREFIX);
        is_reply.then(|| self.find(topic.text())).flatten()
    }
}

impl Taker {
    /// Hands a reply over; false if it was dropped because the requester does not read.
    pub(crate) fn put(&self, message: Arc<Message>) -> bool {
        let size = queue::size(&message);
        if self.waiting.fetch_add(size, Ordering::Relaxed) > WAITING_MAX {
            self.read(size);
            return false;
        }
        let delivery = Delivery {
            id: DeliveryId(self.last.fetch_add(1, Ordering::Relaxed) + 1),
            message,
            // It was never accepted into anything; nobody lets a reply expire.
            accepted: Timestamp::default(),
            redelivered: false,
            packet_id: 0,
            returns: 0,
            failures: 0,
            tags: Default::default(),
        };
        self.mailbox.put(vec![Event::Deliver {
            consumer: self.consumer,
            deliveries: vec![delivery],
        }]);
        true
    }

    /// Bytes of replies have reached the requester.
    pub(crate) fn read(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}
