//! What a group does by the clock: members that are silent, rebalances whose time is up, and its own end.

use std::time::{Duration, Instant};

use super::Group;
use crate::{
    group::{coordinator::Answers, directory::Directory, member::Member},
    properties::Text,
    store::Batch,
    time::Now,
};

/// As Kafka's `offsets.retention.minutes`: offsets of a group without members.
pub(super) const OFFSETS_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// A group without members and offsets; as Kafka's `offsets.retention.check.interval.ms`.
pub(super) const EMPTY_RETENTION: Duration = Duration::from_secs(600);

impl Group {
    /// When [`Group::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let members = self.members.values().filter_map(Member::deadline);
        let pending = self.pending.values().copied();
        members
            .chain(pending)
            .chain(self.join_by)
            .chain(self.sync_by)
            .chain(self.forget_at)
            .chain(self.consumers.as_ref().and_then(|it| it.next_deadline()))
            .chain(self.share.as_ref().and_then(|it| it.next_deadline()))
            .min()
    }

    /// Does what is due.
    pub fn tick(
        &mut self,
        now: Now,
        directory: &Directory,
        answers: &mut Answers,
        batch: &mut Batch,
    ) {
        let is_due =
            |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now.instant);
        if let Some(consumers) = &mut self.consumers {
            consumers.tick(now, directory);
            self.downgrade_if_due(now, directory, answers);
        }
        if let Some(share) = &mut self.share {
            share.tick(now, &self.name, batch);
        }
        if self.drop_silent(now, answers) {
            self.members_left(now, answers);
        }
        if is_due(self.join_by) {
            self.join_time_is_up(now, answers);
        }
        if is_due(self.sync_by) {
            self.sync_time_is_up(now, answers);
        }
        self.store_members(batch);
        self.note_emptiness(now.instant);
        if is_due(self.forget_at) && self.uncommitted.is_empty() {
            self.forget(batch);
        }
    }

    /// Whether anybody was dropped.
    pub(super) fn drop_silent(&mut self, now: Now, answers: &mut Answers) -> bool {
        let pending_before = self.pending.len();
        self.pending.retain(|_, until| *until > now.instant);
        let is_silent = |member: &&Member| {
            member
                .deadline()
                .is_some_and(|deadline| deadline <= now.instant)
        };
        let silent: Vec<Text> = self
            .members
            .values()
            .filter(is_silent)
            .map(|member| member.id.clone())
            .collect();
        for id in &silent {
            self.remove(id, answers);
        }
        if !silent.is_empty() {
            return true;
        }
        if self.pending.len() < pending_before {
            self.complete_if_all_joined(now, answers);
        }
        false
    }

    /// Members that joined and never asked for their part hold up nobody any longer.
    pub(super) fn sync_time_is_up(&mut self, now: Now, answers: &mut Answers) {
        self.sync_by = None;
        let owing: Vec<Text> = self
            .members
            .values()
            .filter(|member| member.owes_sync)
            .map(|member| member.id.clone())
            .collect();
        for id in &owing {
            self.remove(id, answers);
        }
        if !owing.is_empty() {
            self.members_left(now, answers);
        }
    }

    /// A group is forgotten when it has been without members for long.
    pub(super) fn note_emptiness(&mut self, now: Instant) {
        let is_share = self.share.as_ref().is_some_and(|share| share.has_windows());
        if !self.is_idle() || !self.uncommitted.is_empty() || is_share {
            self.forget_at = None;
        } else if self.forget_at.is_none() {
            let retention = if self.offsets.is_empty() {
                EMPTY_RETENTION
            } else {
                OFFSETS_RETENTION
            };
            self.forget_at = Some(now + retention);
        }
    }
}
