//! A member of a consumer group.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use regex::Regex;

use super::{Subscription, TopicPartition, classic::Classic};
use crate::{
    group::{GroupError, assignor::Assignor, directory::Directory},
    properties::Text,
};

/// Partitions, each with the epoch of the assignment by which the member got it: offsets that were read under an
/// earlier epoch are another's (KIP-1251).
pub(in crate::group) type Held = BTreeMap<TopicPartition, i32>;

/// A member, from its first heartbeat until it leaves or falls silent.
#[derive(Debug)]
pub(in crate::group) struct Member {
    pub id: Text,
    /// Its static name.
    pub instance: Option<Text>,
    pub rack: Option<Text>,
    pub client: Text,
    pub host: Text,
    /// Of the target assignment that it has arrived at; 0 when it has just joined, -2 while a static member is away.
    pub epoch: i32,
    /// The one before: what a member has whose last answer was lost.
    pub previous_epoch: i32,
    pub subscription: Subscription,
    pub assignor: Option<Assignor>,
    pub rebalance_timeout: Duration,
    /// What it was told to consume.
    pub assigned: Held,
    /// What it is to let go of, and has not yet.
    pub revoking: Held,
    /// Whether it waits for others to let go of what it is to get.
    pub waits: bool,
    /// Gone if it has not let go until then.
    pub revoke_by: Option<Instant>,
    /// Gone if silent until then.
    pub alive_until: Instant,
    /// Set while it speaks the classic protocol.
    pub classic: Option<Box<Classic>>,
}

impl Member {
    pub fn new(id: Text, instance: Option<Text>, alive_until: Instant) -> Member {
        Member {
            id,
            instance,
            rack: None,
            client: Text::new(),
            host: Text::new(),
            epoch: 0,
            previous_epoch: 0,
            subscription: Subscription::default(),
            assignor: None,
            rebalance_timeout: Duration::ZERO,
            assigned: Held::new(),
            revoking: Held::new(),
            waits: false,
            revoke_by: None,
            alive_until,
            classic: None,
        }
    }

    /// It begins again; what it had is still its own, as nobody else has been given it.
    pub fn rejoin(&mut self) {
        (self.epoch, self.previous_epoch) = (0, 0);
        self.assigned.append(&mut self.revoking);
        self.revoke_by = None;
    }

    /// Takes what a heartbeat says of its subscription; whether it is another.
    pub fn subscribe(
        &mut self,
        names: Option<Vec<Text>>,
        pattern: Option<Option<(Text, Regex)>>,
        vhost: &str,
        directory: &Directory,
    ) -> bool {
        let was_new = std::mem::take(&mut self.subscription.is_pattern_new);
        if names.is_none() && pattern.is_none() && !was_new {
            return false;
        }
        let mut changed = false;
        if let Some(names) = names {
            let names = names.into_iter().collect();
            changed |= self.subscription.names != names;
            self.subscription.names = names;
        }
        if let Some(pattern) = pattern {
            changed |= self.subscription.set_pattern(pattern);
        }
        self.subscription.resolve(vhost, directory) || changed
    }

    /// A static member leaves for a while. It keeps its place, and comes back under an epoch that begins anew.
    pub fn rest(&mut self, epoch: i32) {
        self.epoch = epoch;
        self.revoke_by = None;
        self.assigned.values_mut().for_each(|epoch| *epoch = 0);
    }

    /// What it may be consuming: what it was told to, and what it has not let go of yet.
    pub fn held(&self) -> BTreeSet<TopicPartition> {
        let held = self.assigned.keys().chain(self.revoking.keys());
        held.copied().collect()
    }

    /// By which epoch it got a partition, if it may still be consuming it.
    pub fn held_since(&self, partition: TopicPartition) -> Option<i32> {
        let held = self.assigned.get(&partition);
        held.or_else(|| self.revoking.get(&partition)).copied()
    }

    pub fn has_arrived(&self, target_epoch: i32) -> bool {
        self.epoch == target_epoch && !self.waits && self.revoking.is_empty()
    }

    pub fn arrive(&mut self, epoch: i32, complete: bool) {
        if self.epoch != epoch {
            (self.previous_epoch, self.epoch) = (self.epoch, epoch);
        }
        self.waits = !complete;
    }

    /// What it is told when it speaks under another epoch than its own.
    pub fn stale(&self) -> GroupError {
        match &self.classic {
            Some(_) => GroupError::IllegalGeneration,
            None => GroupError::StaleMemberEpoch,
        }
    }

    pub fn deadline(&self) -> Instant {
        let owed = self.classic.as_ref().and_then(|classic| classic.owes);
        let owed = owed.map(|(_, by)| by);
        let others = self.revoke_by.into_iter().chain(owed);
        others.fold(self.alive_until, Instant::min)
    }

    /// A member of the classic protocol has been heard of.
    pub fn touch(&mut self, now: Instant) {
        if let Some(classic) = &self.classic {
            self.alive_until = now + classic.session_timeout;
        }
    }
}
