//! Online migration (KIP-848): stories about members of both protocols in one group, and a random walk of simulated
//! consumers that checks that no partition is ever with two of them.

use std::collections::BTreeSet;

use super::*;
use crate::{
    catalog::LogEntry,
    command::LogSpec,
    event::LogInfo,
    group::subscription::{Assignment, Subscription},
    id::LogId,
};

const UUID: LogUuid = [7; 16];

fn world_with(partitions: u32) -> World {
    let mut world = World::new(0);
    world.know(partitions);
    world
}

impl World {
    /// The log `t` is there.
    pub(super) fn know(&mut self, partitions: u32) {
        let info = LogInfo {
            name: "t".into(),
            id: LogId(1),
            uuid: UUID,
            spec: LogSpec {
                partitions,
                settings: Vec::new(),
            },
        };
        let entry = LogEntry::new("/".into(), info, "guest".into());
        self.groups.know_log(&entry);
    }
}

/// ConsumerProtocolSubscription, version 2.
pub(super) fn metadata(owned: &BTreeSet<u32>, generation: i32) -> Bytes {
    let mut out = b"\0\x02\0\0\0\x01\0\x01t\xff\xff\xff\xff".to_vec();
    match owned.is_empty() {
        true => out.extend(0_i32.to_be_bytes()),
        false => {
            out.extend(b"\0\0\0\x01\0\x01t");
            out.extend((owned.len() as i32).to_be_bytes());
            owned
                .iter()
                .for_each(|it| out.extend((*it as i32).to_be_bytes()));
        }
    }
    out.extend(generation.to_be_bytes());
    out.into()
}

pub(super) fn classic_join(
    id: &str,
    instance: Option<&str>,
    owned: &BTreeSet<u32>,
    generation: i32,
) -> GroupRequest {
    GroupRequest::Join(Box::new(Join {
        member: id.into(),
        instance: instance.map(Text::from),
        client: "c".into(),
        host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(30),
        protocol_type: "consumer".into(),
        protocols: vec![("p".into(), metadata(owned, generation))],
        require_member_id: false,
        may_skip_assignment: false,
    }))
}

fn assignment(partitions: &[u32]) -> Bytes {
    Assignment::write(2, &[("t".into(), partitions.to_vec())])
}

fn partitions(assignment: &Bytes) -> BTreeSet<u32> {
    let read = Assignment::read(assignment).unwrap();
    read.partitions.into_iter().flat_map(|(_, it)| it).collect()
}

pub(super) fn consumer(member: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member: member.into(),
        epoch,
        ..Default::default()
    }
}

pub(super) fn consumer_join(member: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        rebalance_timeout: Some(Duration::from_secs(30)),
        names: Some(vec!["t".into()]),
        owned: Some(BTreeSet::new()),
        ..consumer(member, 0)
    }
}

impl World {
    #[track_caller]
    pub(super) fn beat(&mut self, heartbeat: ConsumerHeartbeat) -> Result<Heartbeat, GroupError> {
        match self.call(GroupRequest::ConsumerHeartbeat(Box::new(heartbeat))) {
            Ok(GroupAnswer::Heartbeat(heartbeat)) => Ok(heartbeat),
            Err(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// A stable group of the classic protocol with one member that has everything.
    #[track_caller]
    pub(super) fn classic(&mut self, instance: Option<&str>, all: &[u32]) -> Joined {
        let member = self.enter(classic_join("", instance, &BTreeSet::new(), -1));
        let question = self.ask(GroupRequest::Sync {
            generation: member.generation,
            member: member.id.as_str().into(),
            instance: None,
            protocol_type: None,
            protocol: None,
            assignments: vec![(member.id.as_str().into(), assignment(all))],
        });
        assert_eq!(partitions(&self.assignment(question)), set(all));
        member
    }

    #[track_caller]
    pub(super) fn described(&mut self) -> ConsumerDescription {
        match self.call(GroupRequest::DescribeConsumer) {
            Ok(GroupAnswer::DescribedConsumer(description)) => description,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(super) fn synced(&mut self, member: &Joined) -> BTreeSet<u32> {
        let question = self.ask(sync(member, &[]));
        partitions(&self.assignment(question))
    }
}

pub(super) fn set(numbers: &[u32]) -> BTreeSet<u32> {
    numbers.iter().copied().collect()
}

#[test]
fn a_consumer_joins_a_classic_group_and_both_share() {
    let mut world = world_with(4);
    let old = world.classic(None, &[0, 1, 2, 3]);
    assert!(world.call(commit(1, &old.id, 5)).is_ok());
    let new = world.beat(consumer_join("new")).unwrap();
    assert_eq!((new.epoch, new.assignment), (2, Some(vec![])));
    let described = world.described();
    assert_eq!(described.state, "Reconciling");
    let is_classic = |it: &ConsumerMemberDescription| (it.member == old.id, it.is_classic);
    let kinds: Vec<_> = described.members.iter().map(is_classic).collect();
    assert!(kinds.contains(&(true, true)) && kinds.contains(&(false, false)));
    assert_eq!(
        err(world.call(GroupRequest::Describe)),
        GroupError::OtherKind("classic")
    );

    // Its generation holds until it has joined again.
    assert!(world.call(commit(1, &old.id, 6)).is_ok());
    assert_eq!(
        err(world.call(heartbeat(&old))),
        GroupError::RebalanceInProgress
    );
    let all = set(&[0, 1, 2, 3]);
    let again = world.enter(classic_join(&old.id, None, &all, 1));
    assert_eq!(
        (again.generation, &*again.leader),
        (1, ""),
        "it is to let go first"
    );
    let kept = world.synced(&again);
    assert_eq!(kept.len(), 2);
    assert_eq!(world.beat(consumer("new", 2)).unwrap().assignment, None);
    let again = world.enter(classic_join(&old.id, None, &kept, 1));
    assert_eq!((again.generation, world.synced(&again)), (2, kept.clone()));
    assert!(world.call(heartbeat(&again)).is_ok());
    let new = world.beat(consumer("new", 2)).unwrap().assignment.unwrap();
    let new: BTreeSet<u32> = new[0].partitions.iter().copied().collect();
    assert_eq!(&new | &kept, all);
    assert!(new.is_disjoint(&kept));
    assert_eq!(world.described().state, "Stable");
    assert_eq!(
        err(world.call(commit(1, &old.id, 7))),
        GroupError::IllegalGeneration
    );
    assert!(world.call(commit(2, &old.id, 8)).is_ok());
    assert_eq!(committed(&mut world), [8]);
}

#[test]
fn the_last_consumer_leaves_and_the_rest_goes_on_classic() {
    let mut world = world_with(2);
    let old = world.classic(None, &[0, 1]);
    world.beat(consumer_join("new")).unwrap();
    let again = world.enter(classic_join(&old.id, None, &BTreeSet::new(), 1));
    assert_eq!((again.generation, world.synced(&again).len()), (2, 1));
    world.beat(consumer("new", -1)).unwrap();
    assert_eq!(world.state(), "PreparingRebalance");
    assert_eq!(
        err(world.call(heartbeat(&again))),
        GroupError::RebalanceInProgress
    );
    assert!(world.call(commit(2, &old.id, 3)).is_ok(), "of what it had");
    let last = world.enter(classic_join(&old.id, None, &BTreeSet::new(), 2));
    assert_eq!((last.generation, &last.leader), (3, &last.id));
    assert_eq!(last.members, std::slice::from_ref(&last.id));
    let question = world.ask(sync(&last, &[(&last.id, "all")]));
    assert_eq!(world.assignment(question), "all");
    assert_eq!(world.state(), "Stable");
    assert_eq!(committed(&mut world), [3]);
}

#[test]
fn a_silent_consumer_counts_as_gone() {
    let mut world = world_with(2);
    let old = world.classic(None, &[0, 1]);
    world.beat(consumer_join("new")).unwrap();
    let again = world.enter(classic_join(&old.id, None, &BTreeSet::new(), 1));
    world.synced(&again);
    for _ in 0..9 {
        world.pass(5_000);
        let _ = world.call(heartbeat(&again));
    }
    assert_eq!(world.state(), "PreparingRebalance");
}

#[test]
fn what_cannot_be_upgraded_stays_as_it_is() {
    let text = |error: GroupError| error.to_string();
    let mut world = world_with(2);
    let mut connect = classic_join("", None, &BTreeSet::new(), -1);
    if let GroupRequest::Join(join) = &mut connect {
        join.protocol_type = "connect".into();
    }
    world.enter(connect);
    assert_eq!(
        text(world.beat(consumer_join("new")).unwrap_err()),
        "Cannot upgrade classic group g to consumer group because the group does not use the consumer embedded protocol."
    );
    assert_eq!(world.state(), "CompletingRebalance");

    let mut world = world_with(2);
    let member = world.stable();
    let error = world.beat(consumer_join("new")).unwrap_err();
    assert!(text(error).contains("the embedded consumer protocol is malformed"));
    assert!(world.call(heartbeat(&member)).is_ok());

    let mut world = world_with(2);
    let member = world.enter(classic_join("", None, &BTreeSet::new(), -1));
    let mut custom = assignment(&[0, 1]).to_vec();
    let at = custom.len() - 4;
    custom.truncate(at);
    custom.extend(b"\0\0\0\x01x");
    let custom = Bytes::from(custom);
    let question = world.ask(GroupRequest::Sync {
        generation: 1,
        member: member.id.as_str().into(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments: vec![(member.id.as_str().into(), custom)],
    });
    world.assignment(question);
    let error = world.beat(consumer_join("new")).unwrap_err();
    assert!(text(error).contains("an unsupported custom assignor is in use."));
    assert_eq!(world.state(), "Stable");
}

#[test]
fn whoever_waits_for_the_old_group_is_to_join_again() {
    let mut world = world_with(2);
    let leader = world.enter(classic_join("", None, &BTreeSet::new(), -1));
    let parked = world.ask(classic_join("", None, &BTreeSet::new(), -1));
    world.beat(consumer_join("new")).unwrap();
    assert_eq!(err(world.answer(parked)), GroupError::RebalanceInProgress);
    let leader = world.enter(classic_join(&leader.id, None, &BTreeSet::new(), -1));
    world.synced(&leader);
    let late = world.enter(classic_join("", None, &BTreeSet::new(), -1));
    assert!(world.synced(&late).len() <= 1);
}

/// KIP-345: whoever has the static name keeps what it had, whatever it speaks.
#[test]
fn a_static_member_changes_its_protocol_in_place() {
    let mut world = world_with(4);
    world.classic(Some("one"), &[0, 1, 2, 3]);
    let new = ConsumerHeartbeat {
        instance: Some("one".into()),
        ..consumer_join("new")
    };
    let told = world.beat(new).unwrap();
    let assigned = told.assignment.unwrap();
    assert_eq!(
        (told.epoch, &assigned[0].partitions[..]),
        (1, &[0, 1, 2, 3][..])
    );
    assert_eq!(world.described().members.len(), 1);

    // Back again: the first to take the name makes it a classic group.
    let away = ConsumerHeartbeat {
        instance: Some("one".into()),
        ..consumer("new", -2)
    };
    world.beat(away).unwrap();
    let mut other = world.beat(consumer_join("other")).unwrap();
    other.epoch = 0;
    let back = world.enter(classic_join("", Some("one"), &BTreeSet::new(), -1));
    assert_eq!(back.generation, 2);
    assert_eq!(world.synced(&back).len(), 2);
    let away = ConsumerHeartbeat {
        instance: Some("one".into()),
        ..consumer("new", -2)
    };
    assert!(matches!(
        world.beat(away),
        Err(GroupError::FencedInstance(_))
    ));
}

#[test]
fn a_classic_newcomer_in_place_of_the_last_consumer_makes_the_group_classic() {
    let mut world = world_with(4);
    let old = world.classic(Some("one"), &[0, 1, 2, 3]);
    let new = ConsumerHeartbeat {
        instance: Some("two".into()),
        ..consumer_join("new")
    };
    world.beat(new).unwrap();
    let away = ConsumerHeartbeat {
        instance: Some("two".into()),
        ..consumer("new", -2)
    };
    world.beat(away).unwrap();
    let parked = world.ask(classic_join("", Some("two"), &BTreeSet::new(), -1));
    assert_eq!(world.state(), "PreparingRebalance");
    let one = world.enter(classic_join(&old.id, None, &BTreeSet::new(), 1));
    let two = world.joined(parked);
    assert_eq!((one.generation, two.generation), (3, 3));
    assert_eq!(one.members.len().max(two.members.len()), 2);
}

#[test]
fn a_member_that_does_not_join_again_is_dropped() {
    let mut world = world_with(2);
    let old = world.classic(None, &[0, 1]);
    world.beat(consumer_join("new")).unwrap();
    for _ in 0..7 {
        let reply = world.call(heartbeat(&old));
        assert_eq!(err(reply), GroupError::RebalanceInProgress);
        assert_eq!(world.beat(consumer("new", 2)).unwrap().assignment, None);
        world.pass(4_900);
    }
    assert_eq!(err(world.call(heartbeat(&old))), GroupError::UnknownMember);
    let told = world.beat(consumer("new", 2)).unwrap();
    assert_eq!(told.assignment.unwrap()[0].partitions, [0, 1]);
}

#[test]
fn only_members_of_the_classic_protocol_take_part_in_it() {
    let mut world = world_with(2);
    world.classic(None, &[0, 1]);
    world.beat(consumer_join("new")).unwrap();
    let beat = GroupRequest::Heartbeat {
        generation: 2,
        member: "new".into(),
        instance: None,
    };
    assert_eq!(err(world.call(beat)), GroupError::UnknownMember);
    match world.call(leave("new")) {
        Ok(GroupAnswer::Left { members }) => {
            assert_eq!(members[0].2, Err(GroupError::UnknownMember));
        }
        other => panic!("{other:?}"),
    }
    let other_protocol = join_with("", None, &[("other", "m")], 10_000, 30_000);
    assert_eq!(
        err(world.call(other_protocol)),
        GroupError::InconsistentProtocol
    );
}

// The random walk

#[derive(Debug)]
struct Client {
    id: String,
    kind: Kind,
    /// Generation or epoch; -1 of a newcomer.
    generation: i32,
    consuming: BTreeSet<u32>,
    doing: Doing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Eager,
    Cooperative,
    Consumer,
}

#[derive(Debug)]
enum Doing {
    Nothing,
    Wants,
    Joining(u64),
    Syncing(u64),
}

impl Client {
    fn new(number: usize, kind: Kind) -> Client {
        Client {
            id: match kind {
                Kind::Consumer => format!("consumer-{number}"),
                _ => String::new(),
            },
            kind,
            generation: -1,
            consuming: BTreeSet::new(),
            doing: Doing::Wants,
        }
    }

    /// It has lost its place.
    fn reset(&mut self) {
        self.consuming.clear();
        (self.generation, self.doing) = (-1, Doing::Wants);
        if self.kind != Kind::Consumer {
            self.id.clear();
        }
    }

    fn step(&mut self, world: &mut World, partitions: u32) {
        match self.kind {
            Kind::Consumer => self.step_consumer(world),
            _ => self.step_classic(world, partitions),
        }
    }

    fn step_consumer(&mut self, world: &mut World) {
        let epoch = self.generation.max(0);
        let heartbeat = ConsumerHeartbeat {
            owned: Some(self.consuming.iter().map(|it| (UUID, *it)).collect()),
            ..match epoch {
                0 => consumer_join(&self.id),
                _ => consumer(&self.id, epoch),
            }
        };
        match world.beat(heartbeat) {
            Ok(told) => {
                self.generation = told.epoch;
                if let Some(assigned) = told.assignment {
                    self.consuming = assigned.into_iter().flat_map(|it| it.partitions).collect();
                }
                self.doing = Doing::Nothing;
            }
            Err(_) => self.reset(),
        }
    }

    fn step_classic(&mut self, world: &mut World, partition_count: u32) {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Nothing => {
                let beat = GroupRequest::Heartbeat {
                    generation: self.generation,
                    member: self.id.as_str().into(),
                    instance: None,
                };
                match world.call(beat) {
                    Ok(_) => {}
                    Err(GroupError::RebalanceInProgress) => self.doing = Doing::Wants,
                    Err(_) => self.reset(),
                }
            }
            Doing::Wants => {
                if self.kind == Kind::Eager {
                    self.consuming.clear();
                }
                let join = classic_join(&self.id, None, &self.consuming, self.generation);
                self.doing = Doing::Joining(world.ask(join));
            }
            Doing::Joining(question) => match world.answered.remove(&question) {
                None => self.doing = Doing::Joining(question),
                Some(Ok(GroupAnswer::Joined {
                    generation,
                    leader,
                    member,
                    members,
                    ..
                })) => {
                    (self.generation, self.id) = (generation, member.to_string());
                    let leads = leader == member;
                    let parts = match leads {
                        true => assigned_by_leader(&members, partition_count),
                        false => Vec::new(),
                    };
                    self.doing = Doing::Syncing(world.ask(GroupRequest::Sync {
                        generation,
                        member,
                        instance: None,
                        protocol_type: None,
                        protocol: None,
                        assignments: parts,
                    }));
                }
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(GroupError::RebalanceInProgress)) => self.doing = Doing::Wants,
                Some(Err(_)) => self.reset(),
            },
            Doing::Syncing(question) => match world.answered.remove(&question) {
                None => self.doing = Doing::Syncing(question),
                Some(Ok(GroupAnswer::Synced { assignment, .. })) => {
                    let assigned = partitions(&assignment);
                    let lost = self.consuming.difference(&assigned).next().is_some();
                    self.consuming = assigned;
                    if lost {
                        self.doing = Doing::Wants;
                    }
                }
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(GroupError::RebalanceInProgress)) => self.doing = Doing::Wants,
                Some(Err(_)) => self.reset(),
            },
        }
    }
}

/// In turns; what another member has not let go of yet is left out, as cooperative assignors do.
fn assigned_by_leader(members: &[JoinedMember], partition_count: u32) -> Vec<(Text, Bytes)> {
    let subscriptions: Vec<_> = members
        .iter()
        .map(|it| Subscription::read(&it.metadata).unwrap())
        .collect();
    let has = |at: usize, number: u32| {
        let owned = &subscriptions[at].owned;
        owned.iter().any(|(_, numbers)| numbers.contains(&number))
    };
    let part = |(at, member): (usize, &JoinedMember)| {
        let own = (0..partition_count).filter(|it| *it as usize % members.len() == at);
        let free = own
            .filter(|number| (0..members.len()).all(|other| other == at || !has(other, *number)));
        (member.member.clone(), assignment(&free.collect::<Vec<_>>()))
    };
    members.iter().enumerate().map(part).collect()
}

#[track_caller]
fn check(clients: &[Client], seed: u64) {
    let mut seen = BTreeSet::new();
    for client in clients {
        for partition in &client.consuming {
            assert!(
                seen.insert(*partition),
                "seed {seed}: {partition} is with two: {clients:#?}"
            );
        }
    }
}

/// Members come and go and are stepped in random order. No partition is with two members at any time, and in the end
/// each is with one.
#[test]
fn no_partition_is_ever_with_two_members() {
    const PARTITIONS: u32 = 6;
    for seed in 0..120_u64 {
        let mut random = seed;
        let mut below = |bound: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % bound
        };
        let mut world = world_with(PARTITIONS);
        let classic = [Kind::Eager, Kind::Cooperative][below(2)];
        let mut clients: Vec<Client> = Vec::new();
        for number in 0..300 {
            match below(20) {
                0 if clients.len() < 5 => {
                    let kind = [classic, Kind::Consumer][below(2)];
                    clients.push(Client::new(number, kind));
                }
                1 if clients.len() > 1 => {
                    let mut client = clients.swap_remove(below(clients.len()));
                    match client.kind {
                        Kind::Consumer => drop(world.beat(consumer(&client.id, -1))),
                        _ => drop(world.call(leave(&client.id))),
                    }
                    client.consuming.clear();
                }
                2 => world.pass(500),
                _ if !clients.is_empty() => {
                    let at = below(clients.len());
                    clients[at].step(&mut world, PARTITIONS);
                }
                _ => {}
            }
            check(&clients, seed);
        }
        if clients.is_empty() {
            continue;
        }
        for _ in 0..60 {
            for at in 0..clients.len() {
                clients[at].step(&mut world, PARTITIONS);
                check(&clients, seed);
            }
            world.pass(500);
        }
        let all: usize = clients.iter().map(|it| it.consuming.len()).sum();
        assert_eq!(all, PARTITIONS as usize, "seed {seed}: {clients:#?}");
    }
}
