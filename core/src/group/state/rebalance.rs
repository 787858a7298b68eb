//! The joining of a generation: from the first join or the loss of a member to a leader and a protocol.

use std::{collections::BTreeMap, time::Duration};

use super::{Group, State};
use crate::{
    group::{GroupError, coordinator::Answers, member::Member},
    properties::Text,
    time::Now,
};

/// The first rebalance of an empty group waits for more members, again for each that came meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Initial {
    delay: Duration,
    remaining: Duration,
    pub newcomers: bool,
}

impl Group {
    pub(super) fn rebalance_or_complete(&mut self, now: Now, answers: &mut Answers) {
        match self.state {
            State::Preparing => self.complete_if_all_joined(now, answers),
            _ => self.prepare(now, answers),
        }
    }

    /// Begins a rebalance: all members are to join again.
    pub(super) fn prepare(&mut self, now: Now, answers: &mut Answers) {
        for member in self.members.values_mut() {
            member.owes_sync = false;
            if let Some(caller) = member.syncing.take() {
                member.touch(now.instant);
                answers.push((caller, Err(GroupError::RebalanceInProgress)));
            }
        }
        self.sync_by = None;
        let was_empty = self.state == State::Empty;
        self.state = State::Preparing;
        if was_empty {
            let delay = self.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.initial = Some(Initial {
                delay,
                remaining,
                newcomers: false,
            });
            self.join_by = Some(now.instant + delay);
            if delay.is_zero() {
                self.complete(now, answers);
            }
            return;
        }
        self.join_by = Some(now.instant + self.rebalance_timeout());
        self.complete_if_all_joined(now, answers);
    }

    pub(super) fn complete_if_all_joined(&mut self, now: Now, answers: &mut Answers) {
        let all_joined =
            self.members.values().all(|member| member.joining.is_some()) && self.pending.is_empty();
        if self.state == State::Preparing && self.initial.is_none() && all_joined {
            self.complete(now, answers);
        }
    }

    /// The longest that any member allows.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    pub(super) fn join_time_is_up(&mut self, now: Now, answers: &mut Answers) {
        if let Some(Initial {
            delay,
            remaining,
            newcomers: true,
        }) = self.initial.filter(|it| !it.remaining.is_zero())
        {
            let next = self.initial_rebalance_delay.min(remaining);
            let remaining = remaining.saturating_sub(delay);
            self.initial = Some(Initial {
                delay: next,
                remaining,
                newcomers: false,
            });
            self.join_by = Some(now.instant + next);
            return;
        }
        self.complete(now, answers);
    }

    /// Ends the joining: whoever is there makes up the next generation.
    pub(super) fn complete(&mut self, now: Now, answers: &mut Answers) {
        self.initial = None;
        self.join_by = None;
        // Static members may be away for as long as their session lasts.
        let absent = |member: &Member| member.joining.is_none() && member.instance.is_none();
        self.members.retain(|_, member| !absent(member));
        if !self.members.is_empty() && !self.elect_leader() {
            self.join_by = Some(now.instant + self.rebalance_timeout());
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty();
            return;
        }
        self.protocol = self.select_protocol();
        self.state = State::Completing;
        self.sync_by = Some(now.instant + self.rebalance_timeout());
        let ids: Vec<Text> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id, self.leader.clone(), self.leader == id);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            answers.extend(member.joining.take().map(|caller| (caller, Ok(answer))));
            (member.is_new, member.owes_sync) = (false, true);
            member.touch(now.instant);
        }
    }

    pub(super) fn become_empty(&mut self) {
        self.state = State::Empty;
        (self.protocol, self.leader) = (Text::new(), Text::new());
        (self.join_by, self.initial, self.sync_by) = (None, None, None);
    }

    /// The leader stays if it is there, else one of those that are takes over. False if nobody is.
    pub(super) fn elect_leader(&mut self) -> bool {
        let is_here = |member: &&Member| member.joining.is_some();
        if self.members.get(&self.leader).filter(is_here).is_some() {
            return true;
        }
        let next = self
            .members
            .values()
            .find(is_here)
            .map(|member| member.id.clone());
        let found = next.is_some();
        self.leader = next.unwrap_or_else(|| self.leader.clone());
        found
    }

    /// Each member votes for the protocol it prefers among those that all support; the most votes win, and
    /// where several have as many, the first that Kafka comes by.
    pub(super) fn select_protocol(&self) -> Text {
        let by_all = |name: &Text| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&Text, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .map(|(name, _)| name)
                .find(|name| by_all(name));
            if let Some(vote) = vote {
                *votes.entry(vote).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(name, count)| (*count, std::cmp::Reverse(place(name))))
            .map(|(name, _)| name.clone())
            .unwrap_or_default()
    }
}

/// The place of a name in one of Java's hash maps, as long as that holds a dozen at most.
fn place(name: &str) -> u32 {
    let add = |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit));
    let hash = name.encode_utf16().fold(0, add);
    (hash ^ hash >> 16) & 15
}
