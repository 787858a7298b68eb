//! Stories about one group at a time, and a random walk over many members that checks the protocol's promises.

mod classic;
mod migration;
mod model;
mod offsets;
mod restart;
mod static_members;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{coordinator::Answers, *};
use crate::{
    id::{ConnectionId, Token},
    store::{Batch, Table, Write, keys},
    time::{Now, Timestamp},
};

/// A broker's groups, a clock, and the answers that came.
struct World {
    groups: Groups,
    start: Instant,
    ms: u64,
    asked: u64,
    answered: BTreeMap<u64, GroupReply>,
    writes: Vec<Write>,
    deadline: Option<Instant>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "only differences count")]
    fn new(initial_delay_ms: u64) -> World {
        World {
            groups: Groups::new(
                Duration::from_millis(initial_delay_ms),
                GroupBounds::default(),
            ),
            start: Instant::now(),
            ms: 0,
            asked: 0,
            answered: BTreeMap::new(),
            writes: Vec::new(),
            deadline: None,
        }
    }

    fn now(&self) -> Now {
        Now {
            instant: self.start + Duration::from_millis(self.ms),
            wall: Timestamp(1_000_000 + self.ms),
        }
    }

    fn take(&mut self, answers: Answers, batch: Batch) {
        for ((_, token), reply) in answers {
            assert!(token.0 < self.asked, "an answer to no question");
            assert!(
                self.answered.insert(token.0, reply).is_none(),
                "{token} was answered twice"
            );
        }
        self.writes.extend(batch.into_writes());
    }

    /// Asks, and returns the number of the question.
    fn ask(&mut self, request: GroupRequest) -> u64 {
        let (mut answers, mut batch) = (Vec::new(), Batch::new());
        let from = (ConnectionId(1), Token(self.asked));
        self.asked += 1;
        let now = self.now();
        let (vhost, group) = ("/".into(), "g".into());
        self.groups.handle(
            now,
            from,
            vhost,
            group,
            request,
            0,
            &mut answers,
            &mut batch,
        );
        self.take(answers, batch);
        self.asked - 1
    }

    fn pass(&mut self, ms: u64) {
        self.ms += ms;
        let (mut answers, mut batch) = (Vec::new(), Batch::new());
        self.deadline = self.groups.tick(self.now(), &mut answers, &mut batch);
        self.take(answers, batch);
    }

    #[track_caller]
    fn answer(&mut self, question: u64) -> GroupReply {
        self.answered.remove(&question).expect("an answer")
    }

    #[track_caller]
    fn call(&mut self, request: GroupRequest) -> GroupReply {
        let question = self.ask(request);
        self.answer(question)
    }

    #[track_caller]
    fn joined(&mut self, question: u64) -> Joined {
        match self.answer(question) {
            Ok(GroupAnswer::Joined {
                generation,
                leader,
                member,
                members,
                protocol,
                ..
            }) => {
                let members = members
                    .iter()
                    .map(|member| member.member.to_string())
                    .collect();
                Joined {
                    generation,
                    leader: leader.to_string(),
                    id: member.to_string(),
                    members,
                    protocol,
                }
            }
            other => panic!("not joined: {other:?}"),
        }
    }

    #[track_caller]
    fn enter(&mut self, request: GroupRequest) -> Joined {
        let question = self.ask(request);
        self.joined(question)
    }

    #[track_caller]
    fn assignment(&mut self, question: u64) -> Bytes {
        match self.answer(question) {
            Ok(GroupAnswer::Synced { assignment, .. }) => assignment,
            other => panic!("not synced: {other:?}"),
        }
    }

    fn state(&mut self) -> &'static str {
        match self.call(GroupRequest::Describe) {
            Ok(GroupAnswer::Described(description)) => description.state,
            _ => "none",
        }
    }

    /// A stable group of one member with the assignment `"all"`.
    #[track_caller]
    fn stable(&mut self) -> Joined {
        let member = self.enter(join(""));
        let question = self.ask(sync(&member, &[(&member.id, "all")]));
        assert_eq!(self.assignment(question), "all");
        member
    }

    /// A stable group of two; the leader first.
    #[track_caller]
    fn stable_pair(&mut self) -> (Joined, Joined) {
        let first = self.stable();
        let second = self.ask(join(""));
        assert_eq!(
            err(self.call(heartbeat(&first))),
            GroupError::RebalanceInProgress
        );
        let first = self.enter(join(&first.id));
        let second = self.joined(second);
        let parked = self.ask(sync(&second, &[]));
        let leading = self.ask(sync(&first, &[(&first.id, "1"), (&second.id, "2")]));
        assert_eq!(
            (self.assignment(leading), self.assignment(parked)),
            ("1".into(), "2".into())
        );
        (first, second)
    }
}

#[derive(Clone, Debug)]
struct Joined {
    generation: i32,
    leader: String,
    id: String,
    members: Vec<String>,
    protocol: Text,
}

#[track_caller]
fn err(reply: GroupReply) -> GroupError {
    reply.expect_err("refused")
}

fn join(member: &str) -> GroupRequest {
    join_with(member, None, &[("range", "m")], 10_000, 30_000)
}

fn join_static(instance: &str) -> GroupRequest {
    join_with("", Some(instance), &[("range", "m")], 10_000, 30_000)
}

fn join_with(
    member: &str,
    instance: Option<&str>,
    protocols: &[(&str, &str)],
    session_ms: u64,
    rebalance_ms: u64,
) -> GroupRequest {
    let protocol = |(name, metadata): &(&str, &str)| {
        (
            Text::from(*name),
            Bytes::copy_from_slice(metadata.as_bytes()),
        )
    };
    GroupRequest::Join(Box::new(Join {
        member: member.into(),
        instance: instance.map(Text::from),
        client: "c".into(),
        host: "/127.0.0.1".into(),
        session_timeout: Duration::from_millis(session_ms),
        rebalance_timeout: Duration::from_millis(rebalance_ms),
        protocol_type: "consumer".into(),
        protocols: protocols.iter().map(protocol).collect(),
        require_member_id: false,
        may_skip_assignment: false,
    }))
}

fn join_carefully(member: &str) -> GroupRequest {
    let mut request = join(member);
    if let GroupRequest::Join(join) = &mut request {
        join.require_member_id = true;
    }
    request
}

fn sync(member: &Joined, assignments: &[(&str, &str)]) -> GroupRequest {
    sync_at(member.generation, &member.id, assignments)
}

fn sync_at(generation: i32, member: &str, assignments: &[(&str, &str)]) -> GroupRequest {
    let assignment =
        |(id, part): &(&str, &str)| (Text::from(*id), Bytes::copy_from_slice(part.as_bytes()));
    GroupRequest::Sync {
        generation,
        member: member.into(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments: assignments.iter().map(assignment).collect(),
    }
}

fn heartbeat(member: &Joined) -> GroupRequest {
    GroupRequest::Heartbeat {
        generation: member.generation,
        member: member.id.as_str().into(),
        instance: None,
    }
}

fn leave(member: &str) -> GroupRequest {
    GroupRequest::Leave {
        members: vec![(member.into(), None)],
    }
}

fn commit(generation: i32, member: &str, offset: u64) -> GroupRequest {
    let offsets = vec![CommittedOffset {
        log: "t".into(),
        partition: 3,
        offset: Offset(offset),
        leader_epoch: -1,
        metadata: "note".into(),
    }];
    GroupRequest::Commit {
        generation,
        member: member.into(),
        instance: None,
        knows_member_epochs: true,
        offsets,
    }
}

fn committed(world: &mut World) -> Vec<u64> {
    match world.call(GroupRequest::Offsets {
        partitions: None,
        require_stable: false,
        member: None,
    }) {
        Ok(GroupAnswer::Offsets { offsets, .. }) => {
            offsets.iter().map(|committed| committed.offset.0).collect()
        }
        other => panic!("no offsets: {other:?}"),
    }
}
