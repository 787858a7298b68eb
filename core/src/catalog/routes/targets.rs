//! Where one message goes.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{LogEntry, QueueEntry, Routes};
use crate::{
    access::Operation, command::Subscription, delay::DelayEntry, event::Kind, history::Remembering,
    message::Message, properties::Text, tags::Tags,
};

/// The destinations of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    pub queues: SmallVec<[QueueTarget; 2]>,
    pub logs: SmallVec<[LogTarget; 1]>,
    /// Exchanges that keep it for a while.
    pub delays: SmallVec<[Arc<DelayEntry>; 1]>,
    /// Exchanges that remember it for bindings to come.
    pub histories: SmallVec<[Remembering; 1]>,
    /// More than the topic had a say, so another message of the same topic may go elsewhere.
    pub by_headers: bool,
}

/// A queue that a message goes to.
#[derive(Clone, Debug)]
pub(crate) struct QueueTarget {
    pub queue: Arc<QueueEntry>,
    /// Of all subscriptions that matched.
    pub tags: Tags,
    /// It need not be kept: all that matched are subscriptions with QoS 0.
    pub best_effort: bool,
}

/// A log that a message goes to.
#[derive(Clone, Debug)]
pub(crate) struct LogTarget {
    pub log: Arc<LogEntry>,
    /// The log captures it by its own setting, so whoever published it has to be allowed to write to the log too. What
    /// somebody who may do that has bound by hand is for everybody who may publish to the exchange, as in RabbitMQ.
    pub guarded: bool,
}

impl LogTarget {
    /// Whether what `user` has published before, a dead letter or what was delayed, may be captured now.
    pub(crate) fn takes_from(&self, routes: &Routes, user: &Text) -> bool {
        if !self.guarded || user.is_empty() {
            return true;
        }
        let LogEntry { vhost, info, .. } = &*self.log;
        let access = routes.access();
        let may = access.check(vhost, user, Operation::Write, Kind::Log, &info.name);
        may.is_ok()
    }
}

impl Targets {
    /// Whether the message goes nowhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.logs.is_empty() && self.delays.is_empty()
    }

    /// Has the exchanges that it went through remember the message.
    pub(crate) fn remember(&self, message: &Arc<Message>) {
        for exchange in &self.histories {
            exchange.remember(message);
        }
    }

    /// Makes the targets empty, keeping their memory.
    #[cfg(feature = "testing")]
    pub(crate) fn clear(&mut self) {
        self.queues.clear();
        self.logs.clear();
        self.delays.clear();
        self.histories.clear();
    }

    pub(super) fn push_log(&mut self, log: &Arc<LogEntry>, guarded: bool) {
        let log = log.clone();
        self.logs.push(LogTarget { log, guarded });
    }

    pub(super) fn push_queue(
        &mut self,
        queue: &Arc<QueueEntry>,
        subscription: Option<Subscription>,
    ) {
        self.queues.push(QueueTarget {
            queue: queue.clone(),
            tags: subscription
                .iter()
                .map(|subscription| subscription.tag)
                .collect(),
            best_effort: subscription.is_some_and(|subscription| subscription.best_effort),
        });
    }

    /// Makes each destination appear once.
    pub(crate) fn merge(&mut self) {
        if self.queues.len() > 1 {
            // Each look at an id of many is a miss in the processor's cache, so one look each.
            if self.queues.len() > 32 {
                self.queues.sort_by_cached_key(|target| target.queue.id);
            } else {
                self.queues.sort_unstable_by_key(|target| target.queue.id);
            }
            self.queues.dedup_by(|twin, kept| {
                let same = twin.queue.id == kept.queue.id;
                if same {
                    kept.tags.merge(&twin.tags);
                    kept.best_effort &= twin.best_effort;
                }
                same
            });
        }
        if self.logs.len() > 1 {
            self.logs.sort_unstable_by_key(|target| target.log.info.id);
            self.logs.dedup_by(|twin, kept| {
                let same = twin.log.info.id == kept.log.info.id;
                if same {
                    kept.guarded &= twin.guarded;
                }
                same
            });
        }
        if self.delays.len() > 1 {
            self.delays.sort_unstable_by_key(|delay| delay.id);
            self.delays.dedup_by_key(|delay| delay.id);
        }
        self.histories
            .dedup_by(|twin, kept| Arc::ptr_eq(&twin.history, &kept.history));
    }
}
