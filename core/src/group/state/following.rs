//! Consumers of streams as members of a group.

use super::Group;
use crate::{
    group::{
        CommittedOffset, GroupError, GroupRequest, ShareRequest,
        directory::Directory,
        followers::{Beginning, FollowStep, Start},
    },
    id::{ConnectionId, ConsumerId},
    properties::Text,
    store::Batch,
    time::Now,
};

impl Group {
    /// A consumer of a stream begins, has read, or ends.
    pub fn follow(
        &mut self,
        now: Now,
        directory: &Directory,
        by: (ConnectionId, ConsumerId),
        step: FollowStep,
        batch: &mut Batch,
    ) {
        match step {
            FollowStep::Begin(beginning) => self.begin(now, by, beginning, batch),
            FollowStep::Advance(offsets) => self.advance(now, directory, by, offsets, batch),
            FollowStep::End(offsets) => {
                self.advance(now, directory, by, offsets, batch);
                if let Some(log) = self.followers.remove(by) {
                    self.promote(now, &log, batch);
                }
            }
        }
        self.note_emptiness(now.instant);
    }

    /// A connection has ended, and with it its consumers.
    pub fn unfollow(&mut self, now: Now, connection: ConnectionId, batch: &mut Batch) {
        for log in self.followers.remove_all(connection) {
            self.promote(now, &log, batch);
        }
        self.note_emptiness(now.instant);
    }

    /// Why a request cannot be carried out while consumers of streams are the group's members.
    pub(super) fn is_followed(&self, request: &GroupRequest) -> bool {
        !self.followers.is_empty()
            && match request {
                GroupRequest::Join { .. } => true,
                GroupRequest::ConsumerHeartbeat(heartbeat) => heartbeat.epoch == 0,
                GroupRequest::Share(ShareRequest::Heartbeat(heartbeat)) => heartbeat.epoch == 0,
                _ => false,
            }
    }

    fn begin(
        &mut self,
        now: Now,
        by: (ConnectionId, ConsumerId),
        mut beginning: Beginning,
        batch: &mut Batch,
    ) {
        let is_other = self.share.is_some() || (self.followers.is_empty() && !self.is_idle());
        let answer = if is_other {
            Err(GroupError::InconsistentProtocol)
        } else if self.followers.reads(&beginning.log) {
            let turn = self.followers.add_waiting(by, &mut beginning);
            Ok(Start::Later(turn))
        } else {
            // A group of consumers that is empty is one of anything.
            self.consumers = None;
            self.followers.add(by, &beginning);
            self.note_kind(batch);
            let otherwise = std::mem::take(&mut beginning.otherwise);
            let (log, partitions) = (beginning.log.clone(), beginning.partitions);
            Ok(Start::Now(
                self.starts(now, &log, partitions, otherwise, batch),
            ))
        };
        // Who has gone meanwhile is removed as its connection ends.
        let _ = beginning.reply.send(answer);
    }

    /// Where a consumer begins: with what is committed, else with what it says itself, which is committed with that.
    fn starts(
        &mut self,
        now: Now,
        log: &Text,
        partitions: u32,
        otherwise: Vec<CommittedOffset>,
        batch: &mut Batch,
    ) -> Vec<CommittedOffset> {
        let all = || Some((0..partitions).map(|it| (log.clone(), it)).collect());
        let known = self.offsets.find(all());
        let is_new = |it: &CommittedOffset| known.iter().all(|of| of.partition != it.partition);
        let new = otherwise.into_iter().filter(is_new).collect();
        self.offsets.commit(now.wall, &self.name, new, batch);
        known
    }

    fn promote(&mut self, now: Now, log: &Text, batch: &mut Batch) {
        while let Some((turn, otherwise, partitions)) = self.followers.promote(log) {
            let starts = self.starts(now, log, partitions, otherwise, batch);
            // One that has gone is still in the list until its connection's end is heard of.
            if turn.send(starts).is_ok() {
                return;
            }
        }
    }

    fn advance(
        &mut self,
        now: Now,
        directory: &Directory,
        by: (ConnectionId, ConsumerId),
        offsets: Vec<CommittedOffset>,
        batch: &mut Batch,
    ) {
        let is_there = |it: &CommittedOffset| directory.find(&self.name.0, &it.log).is_some();
        if self.followers.is_reading(by) && offsets.iter().all(is_there) {
            self.offsets.commit(now.wall, &self.name, offsets, batch);
        }
    }
}
