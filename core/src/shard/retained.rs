//! A shard's retained messages, by vhost.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Op, Shard, Turn, confirm};
use crate::{
    event::{Event, Reply, Retained},
    id::{ConnectionId, LogId, Offset},
    message::Message,
    properties::Text,
    retained::{Full, Quota, RetainedStore},
    store::{Table, keys, messages, values},
    time::Timestamp,
    topic::{BROKERS, Grammar, Pattern, Step},
};

/// Retained messages that one subscription is sent at most.
const RETAINED_MAX: usize = 1_000_000;

/// Expired messages removed in one turn at most.
const EXPIRED_MAX: usize = 256;

/// What a shard retains.
pub(super) struct RetainedMessages {
    vhosts: FxHashMap<Text, RetainedStore>,
    /// On the broker's own topics: neither stored nor limited.
    announced: FxHashMap<Text, RetainedStore>,
    quota: Arc<Quota>,
    /// When the first of all expires, or has been removed before.
    next_expiry: Option<Timestamp>,
}

impl RetainedMessages {
    pub(super) fn new(quota: Arc<Quota>) -> RetainedMessages {
        RetainedMessages {
            vhosts: FxHashMap::default(),
            announced: FxHashMap::default(),
            quota,
            next_expiry: None,
        }
    }

    fn vhost(&mut self, vhost: &Text) -> &mut RetainedStore {
        self.vhosts
            .entry(vhost.clone())
            .or_insert_with(|| RetainedStore::new(vhost, &self.quota))
    }

    /// Keeps or clears the message of a topic. Beyond the limits nothing changes.
    pub(super) fn retain(
        &mut self,
        vhost: Text,
        message: Arc<Message>,
        turn: &mut Turn,
    ) -> Result<(), Full> {
        if message.topic.is_brokers() {
            return Ok(());
        }
        let key = keys::retained(&vhost, &message.topic.render(Grammar::Slashes));
        if message.body.as_ref().is_none_or(|body| body.is_empty()) {
            self.vhost(&vhost).clear(&message.topic);
            turn.batch.delete(Table::Retained, key);
            return Ok(());
        }
        // A retained message may stay for years.
        let message = Message::detached(message);
        let (topic, now) = (message.topic.clone(), turn.now.wall);
        let retained = self.vhost(&vhost);
        if let Err(Full) = retained.set(&topic, message.clone(), now) {
            turn.count.unretained += 1;
            return Err(Full);
        }
        let first = retained.next_expiry();
        self.expect(first);
        let row = messages::encode_retained(&message, now);
        turn.batch.put(Table::Retained, key, row);
        Ok(())
    }

    /// Keeps a message on one of the broker's own topics.
    pub(super) fn announce(&mut self, vhost: Text, message: Arc<Message>, now: Timestamp) {
        let announced = self.announced.entry(vhost).or_default();
        let topic = message.topic.clone();
        // There is no limit that it could be over.
        let _ = announced.set(&topic, message, now);
    }

    /// What of the vhost matches and is not expired.
    pub(super) fn matching(&self, vhost: &Text, filter: &Pattern, now: Timestamp) -> Vec<Retained> {
        let brokers = filter.steps().next() == Some(Step::Token(BROKERS.into()));
        let vhosts = if brokers {
            &self.announced
        } else {
            &self.vhosts
        };
        let found = vhosts
            .get(vhost)
            .map(|store| store.matching(filter, RETAINED_MAX));
        let alive = |found: &Retained| !found.message.is_expired(found.accepted, now);
        found.into_iter().flatten().filter(alive).collect()
    }

    /// Removes what is expired, as much as one turn may take.
    pub(super) fn expire(&mut self, turn: &mut Turn) {
        let now = turn.now.wall;
        if self.next_expiry.is_none_or(|at| at > now) {
            return;
        }
        let mut left = EXPIRED_MAX;
        for (vhost, store) in &mut self.vhosts {
            while left > 0
                && let Some(topic) = store.expire_one(now)
            {
                turn.batch
                    .delete(Table::Retained, keys::retained(vhost, &topic));
                turn.count.expired += 1;
                left -= 1;
            }
        }
        self.next_expiry = self
            .vhosts
            .values()
            .filter_map(RetainedStore::next_expiry)
            .min();
    }

    /// Removes all that a vhost has.
    pub(super) fn forget(&mut self, vhost: &Text, turn: &mut Turn) {
        let Some(mut store) = self.vhosts.remove(vhost) else {
            return;
        };
        while let Some(topic) = store.pop() {
            turn.batch
                .delete(Table::Retained, keys::retained(vhost, &topic));
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.next_expiry
    }

    fn expect(&mut self, expiry: Option<Timestamp>) {
        self.next_expiry = self.next_expiry.into_iter().chain(expiry).min();
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.vhosts.values().map(RetainedStore::len).sum()
    }

    /// Their size in memory.
    pub(super) fn bytes(&self) -> usize {
        self.vhosts.values().map(RetainedStore::bytes).sum()
    }
}

impl Shard {
    pub(super) fn apply_retained(&mut self, from: ConnectionId, op: Op, turn: &mut Turn) {
        match op {
            Op::Announce { vhost, message } => {
                self.retained.announce(vhost, message, turn.now.wall);
            }
            Op::Retain {
                vhost,
                message,
                token,
            } => {
                let kept = self.retained.retain(vhost, message, turn);
                if let (Err(Full), Some(token)) = (kept, token) {
                    turn.free.push(from, Event::Unretained { token });
                }
                confirm(from, token, turn);
            }
            Op::Retained {
                token,
                vhost,
                filter,
            } => {
                let found = self.retained.matching(&vhost, &filter, turn.now.wall);
                let result = Ok(Reply::Retained(found));
                turn.free.push(from, Event::Done { token, result });
            }
            Op::Filled { log, partition, to } => self.filled(log, partition, to, turn),
            _ => {}
        }
    }

    /// The tap has come so far with what it had passed before the log became a retained store.
    fn filled(&mut self, log: LogId, partition: u32, to: Option<Offset>, turn: &mut Turn) {
        let Some(found) = self.partitions.get(&(log, partition)) else {
            return;
        };
        // Otherwise it has to begin again, which is stored already.
        if found.tail().fill() == to {
            let key = keys::fill(log, partition);
            match to {
                Some(to) => turn
                    .batch
                    .put(Table::State, key, values::write_position(to)),
                None => turn.batch.delete(Table::State, key),
            }
        }
    }

    /// A retained message found in the store.
    pub(crate) fn recover_retained(
        &mut self,
        vhost: Text,
        message: Arc<Message>,
        accepted: Timestamp,
    ) {
        let topic = message.topic.clone();
        let retained = self.retained.vhost(&vhost);
        retained.recover(&topic, message, accepted);
        let first = retained.next_expiry();
        self.retained.expect(first);
    }
}
