//! Stories about one group at a time, and a random walk over many members that checks the protocol's promises.

mod migration;
mod restart;

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

#[test]
fn the_first_member_leads_generation_one() {
    let mut world = World::new(0);
    let member = world.enter(join(""));
    assert_eq!((member.generation, &member.leader), (1, &member.id));
    assert_eq!((member.members.len(), &*member.protocol), (1, "range"));
    assert!(member.id.starts_with("c-"));
    assert_eq!(world.state(), "CompletingRebalance");
}

#[test]
fn a_careful_join_is_sent_away_with_an_id_first() {
    // KIP-394
    let mut world = World::new(0);
    let GroupError::MemberIdRequired(id) = err(world.call(join_carefully(""))) else {
        panic!("no id")
    };
    assert_eq!(world.enter(join_carefully(&id)).id, *id);
    assert_eq!(
        err(world.call(join_carefully("stranger"))),
        GroupError::UnknownMember
    );
}

#[test]
fn an_id_that_is_not_used_expires_and_holds_up_nobody() {
    let mut world = World::new(0);
    let first = world.stable();
    let GroupError::MemberIdRequired(id) = err(world.call(join_carefully(""))) else {
        panic!("no id")
    };
    assert_eq!(world.state(), "Stable", "an id is not yet a member");
    let rejoin = world.ask(join(&first.id));
    assert!(
        !world.answered.contains_key(&rejoin),
        "the newcomer is waited for"
    );
    world.pass(10_000);
    assert_eq!(world.joined(rejoin).members.len(), 1);
    assert_eq!(
        err(world.call(join_carefully(&id))),
        GroupError::UnknownMember
    );
}

#[test]
fn the_initial_delay_gathers_members_and_is_extended_for_newcomers() {
    let mut world = World::new(3_000);
    let first = world.ask(join(""));
    world.pass(2_000);
    let second = world.ask(join(""));
    world.pass(1_000);
    assert!(
        world.answered.is_empty(),
        "a newcomer came, so it waits once more"
    );
    world.pass(3_000);
    let (first, second) = (world.joined(first), world.joined(second));
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!(
        first.members.len() + second.members.len(),
        2,
        "only the leader gets the members"
    );
}

#[test]
fn a_newcomer_starts_a_rebalance_that_ends_when_all_have_joined() {
    let mut world = World::new(0);
    let (first, second) = world.stable_pair();
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!(
        (&first.leader, &second.leader),
        (&first.id, &first.id),
        "the leader stays"
    );
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    assert_eq!(world.state(), "Stable");
}

#[test]
fn who_does_not_rejoin_in_time_is_left_behind() {
    let mut world = World::new(0);
    let first = world.enter(join_with("", None, &[("range", "m")], 60_000, 5_000));
    let parked = world.ask(sync(&first, &[]));
    world.assignment(parked);
    let second = world.ask(join_with("", None, &[("range", "m")], 60_000, 5_000));
    world.pass(4_999);
    assert!(!world.answered.contains_key(&second));
    world.pass(1);
    let second = world.joined(second);
    assert_eq!((second.members.len(), &second.leader), (1, &second.id));
    assert_eq!(
        err(world.call(heartbeat(&first))),
        GroupError::UnknownMember
    );
}

#[test]
fn who_never_syncs_is_dropped_after_the_rebalance_timeout() {
    let mut world = World::new(0);
    let first = world.enter(join_with("", None, &[("range", "m")], 60_000, 5_000));
    let second = world.ask(join_with("", None, &[("range", "m")], 60_000, 5_000));
    let first = world.enter(join_with(&first.id, None, &[("range", "m")], 60_000, 5_000));
    let second = world.joined(second);
    let parked = world.ask(sync(&second, &[]));
    world.pass(5_000);
    assert_eq!(err(world.answer(parked)), GroupError::RebalanceInProgress);
    assert_eq!(
        err(world.call(heartbeat(&first))),
        GroupError::UnknownMember
    );
    assert_eq!(world.enter(join(&second.id)).members.len(), 1);
}

#[test]
fn silence_ends_a_membership_and_heartbeats_keep_it() {
    let mut world = World::new(0);
    let (first, second) = world.stable_pair();
    for _ in 0..4 {
        world.pass(5_000);
        let _ = world.ask(heartbeat(&first));
    }
    assert_eq!(
        err(world.call(heartbeat(&second))),
        GroupError::UnknownMember
    );
    assert_eq!(
        err(world.call(heartbeat(&first))),
        GroupError::RebalanceInProgress
    );
    assert_eq!(world.enter(join(&first.id)).members, [first.id]);
}

#[test]
fn an_abandoned_join_of_a_newcomer_times_out() {
    let mut world = World::new(0);
    let first = world.enter(join_with("", None, &[("range", "m")], 1_000_000, 1_000_000));
    let parked = world.ask(sync(&first, &[]));
    world.assignment(parked);
    let newcomer = world.ask(join(""));
    world.pass(300_000);
    assert_eq!(err(world.answer(newcomer)), GroupError::UnknownMember);
}

#[test]
fn leaving_rebalances_the_rest_and_empties_the_group() {
    let mut world = World::new(0);
    let (first, second) = world.stable_pair();
    world.call(leave(&first.id)).unwrap();
    assert_eq!(
        err(world.call(heartbeat(&second))),
        GroupError::RebalanceInProgress
    );
    let second = world.enter(join(&second.id));
    assert_eq!((&second.leader, second.generation), (&second.id, 3));
    world.call(leave(&second.id)).unwrap();
    assert_eq!(world.state(), "Empty");
    let Ok(GroupAnswer::Left { members }) = world.call(leave("stranger")) else {
        panic!("no answer")
    };
    assert_eq!(members[0].2, Err(GroupError::UnknownMember));
}

#[test]
fn a_member_that_leaves_gets_its_parked_requests_answered() {
    let mut world = World::new(0);
    let (first, second) = world.stable_pair();
    let rejoin = world.ask(join(&first.id));
    world.call(leave(&first.id)).unwrap();
    assert_eq!(err(world.answer(rejoin)), GroupError::UnknownMember);
    let second = world.enter(join(&second.id));
    assert_eq!(second.members.len(), 1);
}

#[test]
fn the_protocol_is_chosen_by_vote_among_the_common_ones() {
    let mut world = World::new(1_000);
    let lists = [
        [("a", ""), ("b", ""), ("x", "")],
        [("b", ""), ("a", ""), ("y", "")],
        [("b", ""), ("z", ""), ("a", "")],
    ];
    let questions =
        lists.map(|protocols| world.ask(join_with("", None, &protocols, 10_000, 30_000)));
    world.pass(1_000);
    world.pass(1_000);
    for question in questions {
        assert_eq!(world.joined(question).protocol, "b");
    }
}

#[test]
fn another_protocol_or_type_is_inconsistent() {
    let mut world = World::new(0);
    let member = world.stable();
    let foreign = join_with("", None, &[("sticky", "m")], 10_000, 30_000);
    assert_eq!(err(world.call(foreign)), GroupError::InconsistentProtocol);
    let mut other_type = sync(&member, &[]);
    if let GroupRequest::Sync { protocol_type, .. } = &mut other_type {
        *protocol_type = Some("connect".into());
    }
    assert_eq!(
        err(world.call(other_type)),
        GroupError::InconsistentProtocol
    );
    let none = World::new(0).call(join_with("", None, &[], 10_000, 30_000));
    assert_eq!(err(none), GroupError::InconsistentProtocol);
}

#[test]
fn session_timeouts_are_bounded() {
    for ms in [5_999, 1_800_001] {
        let reply = World::new(0).call(join_with("", None, &[("range", "m")], ms, 30_000));
        assert_eq!(err(reply), GroupError::InvalidSessionTimeout);
    }
}

#[test]
fn a_follower_that_rejoins_unchanged_does_not_rebalance_and_a_leader_does() {
    let mut world = World::new(0);
    let (first, second) = world.stable_pair();
    assert_eq!(world.enter(join(&second.id)).generation, 2);
    assert_eq!(world.state(), "Stable");
    let rejoin = world.ask(join(&first.id));
    assert_eq!(world.state(), "PreparingRebalance");
    world.enter(join(&second.id));
    assert_eq!(world.joined(rejoin).generation, 3);
}

#[test]
fn changed_metadata_rebalances() {
    let mut world = World::new(0);
    let (_, second) = world.stable_pair();
    world.ask(join_with(
        &second.id,
        None,
        &[("range", "other")],
        10_000,
        30_000,
    ));
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn a_retried_join_gets_the_same_generation_while_it_waits_for_the_leader() {
    let mut world = World::new(0);
    let first = world.enter(join(""));
    let again = world.enter(join(&first.id));
    assert_eq!((again.generation, again.members.len()), (1, 1));
}

#[test]
fn a_sync_after_the_leaders_is_answered_at_once_and_wrong_ones_are_refused() {
    let mut world = World::new(0);
    let member = world.stable();
    let again = world.ask(sync(&member, &[]));
    assert_eq!(world.assignment(again), "all");
    assert_eq!(
        err(world.call(sync_at(7, &member.id, &[]))),
        GroupError::IllegalGeneration
    );
    assert_eq!(
        err(world.call(sync_at(1, "stranger", &[]))),
        GroupError::UnknownMember
    );
    world.ask(join(""));
    assert_eq!(
        err(world.call(sync(&member, &[]))),
        GroupError::RebalanceInProgress
    );
}

#[test]
fn a_static_member_that_restarts_keeps_its_assignment_without_a_rebalance() {
    // KIP-345
    let mut world = World::new(0);
    let member = world.enter(join_static("i"));
    assert!(member.id.starts_with("i-"));
    let question = world.ask(sync(&member, &[(&member.id, "mine")]));
    world.assignment(question);
    let restarted = world.enter(join_static("i"));
    assert_ne!(restarted.id, member.id);
    assert_eq!((restarted.generation, restarted.members.len()), (1, 0));
    assert_eq!(restarted.leader, member.id, "it is not to assign anything");
    let question = world.ask(sync(&restarted, &[]));
    assert_eq!(world.assignment(question), "mine");
    let stale = GroupRequest::Heartbeat {
        generation: 1,
        member: member.id.as_str().into(),
        instance: Some("i".into()),
    };
    assert_eq!(err(world.call(stale)), GroupError::FencedInstance);
    assert_eq!(world.state(), "Stable");
}

#[test]
fn a_static_member_that_comes_twice_fences_its_parked_self() {
    let mut world = World::new(0);
    let first = world.stable();
    let parked = world.ask(join_static("i"));
    let twin = world.ask(join_static("i"));
    assert_eq!(err(world.answer(parked)), GroupError::FencedInstance);
    let leader = world.enter(join(&first.id));
    assert_eq!(leader.members.len(), 2);
    assert!(leader.members.contains(&world.joined(twin).id));
}

#[test]
fn a_static_member_may_be_away_for_its_session_and_leaves_by_name() {
    let mut world = World::new(0);
    let first = world.enter(join_with("", Some("i"), &[("range", "m")], 600_000, 5_000));
    let question = world.ask(sync(&first, &[]));
    world.assignment(question);
    let second = world.ask(join_with("", None, &[("range", "m")], 60_000, 5_000));
    world.pass(5_000);
    let second = world.joined(second);
    assert_eq!(
        second.members.len(),
        2,
        "the static member did not rejoin and still counts"
    );
    let by_name = GroupRequest::Leave {
        members: vec![("".into(), Some("i".into()))],
    };
    world.call(by_name).unwrap();
    assert_eq!(world.enter(join(&second.id)).members, [second.id]);
}

#[test]
fn offsets_are_committed_by_members_of_the_current_generation() {
    let mut world = World::new(0);
    let member = world.stable();
    world.call(commit(1, &member.id, 42)).unwrap();
    assert_eq!(committed(&mut world), [42]);
    let key = keys::group_offset("/", "g", "t", 3);
    assert!(
        matches!(&world.writes[..], [_, Write::Put(Table::State, written, _)] if *written == key)
    );
    assert_eq!(
        err(world.call(commit(2, &member.id, 43))),
        GroupError::IllegalGeneration
    );
    assert_eq!(
        err(world.call(commit(1, "stranger", 43))),
        GroupError::UnknownMember
    );
    assert_eq!(
        err(world.call(commit(-1, "", 43))),
        GroupError::UnknownMember,
        "the group has members"
    );
    world.ask(join(""));
    world.call(commit(1, &member.id, 44)).unwrap();
    world.ask(join(&member.id));
    assert_eq!(
        err(world.call(commit(2, &member.id, 45))),
        GroupError::RebalanceInProgress
    );
    assert_eq!(committed(&mut world), [44]);
}

#[test]
fn consumers_without_membership_commit_to_groups_without_members() {
    let mut world = World::new(0);
    assert_eq!(
        err(world.call(commit(5, "m", 1))),
        GroupError::IllegalGeneration
    );
    world.call(commit(-1, "", 1)).unwrap();
    assert_eq!(committed(&mut world), [1]);
    assert_eq!(world.state(), "Empty");
}

#[test]
fn offsets_of_an_unknown_group_are_none() {
    let mut world = World::new(0);
    assert_eq!(committed(&mut world), [0; 0]);
    assert_eq!(
        err(world.call(GroupRequest::Describe)),
        GroupError::NotFound
    );
    assert_eq!(err(world.call(GroupRequest::Delete)), GroupError::NotFound);
}

#[test]
fn only_an_empty_group_is_deleted_with_its_offsets() {
    let mut world = World::new(0);
    let member = world.stable();
    world.call(commit(1, &member.id, 42)).unwrap();
    assert_eq!(err(world.call(GroupRequest::Delete)), GroupError::NotEmpty);
    world.call(leave(&member.id)).unwrap();
    world.call(GroupRequest::Delete).unwrap();
    assert!(matches!(
        world.writes.last(),
        Some(Write::Delete(Table::State, _))
    ));
    assert_eq!(world.state(), "none");
    world.pass(0);
    assert_eq!(world.deadline, None, "nothing is left to wait for");
}

#[test]
fn an_empty_group_and_its_offsets_are_forgotten_in_the_end() {
    let mut world = World::new(0);
    world.call(commit(-1, "", 1)).unwrap();
    world.pass(6 * 24 * 3_600_000);
    world.call(commit(-1, "", 2)).unwrap();
    world.pass(6 * 24 * 3_600_000);
    assert_eq!(committed(&mut world), [2], "what is still used stays");
    world.pass(24 * 3_600_000);
    assert_eq!(world.state(), "none");
    assert!(matches!(
        world.writes.last(),
        Some(Write::Delete(Table::State, _))
    ));
}

#[test]
fn offsets_survive_a_restart_and_their_retention() {
    let mut world = World::new(0);
    world.call(commit(-1, "", 42)).unwrap();
    let mut reopened = World::new(0);
    for write in world.writes {
        let Write::Put(_, key, value) = write else {
            panic!("not a row")
        };
        assert_eq!(stored_group(&key).unwrap(), "g");
        reopened.groups.recover(&key, value).unwrap();
    }
    reopened.pass(1);
    assert_eq!(committed(&mut reopened), [42]);
    reopened.pass(7 * 24 * 3_600_000);
    assert_eq!(
        (reopened.groups.len(), committed(&mut reopened)),
        (0, vec![])
    );
}

/// A client of the random walk.
#[derive(Default)]
struct Client {
    id: Option<String>,
    generation: i32,
    is_leader: bool,
    members: Vec<String>,
    join: Option<u64>,
    sync: Option<u64>,
    assignment: Option<(i32, Bytes)>,
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Sync(usize),
    Heartbeat(usize),
    Leave(usize),
    Vanish(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..5_usize;
    let step = prop_oneof![
        4 => client.clone().prop_map(Step::Join),
        4 => client.clone().prop_map(Step::Sync),
        2 => client.clone().prop_map(Step::Heartbeat),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.prop_map(Step::Vanish),
        2 => (1_u64..8_000).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What the clients make of the answers that came.
fn read_answers(world: &mut World, clients: &mut [Client]) {
    for client in clients {
        if let Some(reply) = client
            .join
            .and_then(|question| world.answered.remove(&question))
        {
            client.join = None;
            match reply {
                Ok(GroupAnswer::Joined {
                    generation,
                    leader,
                    member,
                    members,
                    ..
                }) => {
                    client.is_leader = leader == member;
                    assert_eq!(
                        client.is_leader,
                        !members.is_empty(),
                        "members are for the leader"
                    );
                    client.members = members
                        .iter()
                        .map(|member| member.member.to_string())
                        .collect();
                    assert!(
                        generation >= client.generation || client.id.as_deref() != Some(&*member)
                    );
                    (client.generation, client.id) = (generation, Some(member.to_string()));
                }
                Err(GroupError::UnknownMember) => client.id = None,
                Err(GroupError::RebalanceInProgress) => {}
                other => panic!("join was answered with {other:?}"),
            }
        }
        if let Some(reply) = client
            .sync
            .and_then(|question| world.answered.remove(&question))
        {
            client.sync = None;
            match reply {
                Ok(GroupAnswer::Synced { assignment, .. }) => {
                    client.assignment = Some((client.generation, assignment))
                }
                Err(GroupError::UnknownMember) => client.id = None,
                Err(GroupError::RebalanceInProgress | GroupError::IllegalGeneration) => {}
                other => panic!("sync was answered with {other:?}"),
            }
        }
    }
}

fn walk(steps: Vec<Step>) {
    let mut world = World::new(1_000);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::default()).collect();
    for step in steps {
        match step {
            Step::Join(n) if clients[n].join.is_none() && clients[n].sync.is_none() => {
                clients[n].join =
                    Some(world.ask(join(clients[n].id.as_deref().unwrap_or_default())));
            }
            Step::Sync(n) if clients[n].join.is_none() && clients[n].sync.is_none() => {
                let Some(id) = clients[n].id.clone() else {
                    continue;
                };
                // The leader says in each part whose it is and of which generation.
                let generation = clients[n].generation;
                let parts: Vec<_> = clients[n]
                    .members
                    .iter()
                    .map(|id| (id.clone(), format!("{generation} {id}")))
                    .collect();
                let parts: Vec<_> = parts
                    .iter()
                    .map(|(id, part)| (id.as_str(), part.as_str()))
                    .collect();
                clients[n].sync = Some(world.ask(sync_at(generation, &id, &parts)));
            }
            Step::Heartbeat(n) => {
                let Some(id) = clients[n].id.clone() else {
                    continue;
                };
                let generation = clients[n].generation;
                let _ = world.call(GroupRequest::Heartbeat {
                    generation,
                    member: id.as_str().into(),
                    instance: None,
                });
            }
            Step::Leave(n) => {
                let Some(id) = clients[n].id.take() else {
                    continue;
                };
                world.call(leave(&id)).unwrap();
            }
            Step::Vanish(n) => clients[n].id = None,
            Step::Pass(ms) => world.pass(ms),
            _ => {}
        }
        read_answers(&mut world, &mut clients);
        check_stable(&mut world);
    }
    // In the end everybody falls silent, and every question has had its one answer.
    for _ in 0..20 {
        world.pass(100_000);
        read_answers(&mut world, &mut clients);
    }
    assert!(
        clients
            .iter()
            .all(|client| client.join.is_none() && client.sync.is_none()),
        "a question is open"
    );
    let answered: HashMap<_, _> = world.answered.iter().collect();
    assert!(answered.is_empty(), "answers to nobody: {answered:?}");
    assert_eq!(world.state(), "none");
}

/// A stable group has one generation, and every member of it a part that is its own.
fn check_stable(world: &mut World) {
    let Ok(GroupAnswer::Described(group)) = world.call(GroupRequest::Describe) else {
        return;
    };
    if group.state != "Stable" {
        return;
    }
    let parts: Vec<String> = group
        .members
        .iter()
        .map(|member| String::from_utf8(member.assignment.to_vec()).unwrap())
        .collect();
    let generation = parts[0].split(' ').next().unwrap().to_string();
    for (member, part) in group.members.iter().zip(&parts) {
        assert_eq!(*part, format!("{generation} {}", member.member));
    }
}

proptest! {
    #[test]
    fn every_question_is_answered_once_and_a_stable_group_is_whole(steps in steps()) {
        walk(steps);
    }
}
