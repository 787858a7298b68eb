//! Scripts of a consumer group (KIP-848): who is told what, and when.

use std::time::{Duration, Instant};

use super::*;
use crate::{
    catalog::LogEntry, command::LogSpec, event::LogInfo, group::GroupBounds, id::LogId,
    time::Timestamp,
};

struct World {
    now: Now,
    directory: Directory,
    group: ConsumerGroup,
}

fn entry(name: &'static str, partitions: u32) -> LogEntry {
    let info = LogInfo {
        name: name.into(),
        id: LogId(1),
        uuid: [name.len() as u8; 16],
        spec: LogSpec {
            partitions,
            settings: Vec::new(),
        },
    };
    LogEntry::new("/".into(), info, "guest".into())
}

#[expect(clippy::disallowed_methods, reason = "somewhere to count from")]
fn world(logs: &[(&'static str, u32)]) -> World {
    let mut directory = Directory::default();
    for (name, partitions) in logs {
        directory.insert(&entry(name, *partitions));
    }
    let settings = Arc::new(GroupSettings::new(&GroupBounds::default()));
    World {
        now: Now {
            instant: Instant::now(),
            wall: Timestamp(0),
        },
        directory,
        group: ConsumerGroup::new("/".into(), settings, 0),
    }
}

fn join(member: &'static str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member: member.into(),
        rebalance_timeout: Some(Duration::from_secs(60)),
        names: Some(vec!["t".into()]),
        owned: Some(BTreeSet::new()),
        ..Default::default()
    }
}

fn owns(member: &'static str, epoch: i32, owned: &[u32]) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member: member.into(),
        epoch,
        owned: Some(owned.iter().map(|number| ([1; 16], *number)).collect()),
        ..Default::default()
    }
}

fn alive(member: &'static str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member: member.into(),
        epoch,
        ..Default::default()
    }
}

impl World {
    fn beat(&mut self, request: ConsumerHeartbeat) -> Result<Heartbeat, GroupError> {
        self.group.heartbeat(self.now, &self.directory, request)
    }

    /// The epoch and, if it was told, the partitions.
    fn told(&mut self, request: ConsumerHeartbeat) -> (i32, Option<Vec<u32>>) {
        let heartbeat = self.beat(request).unwrap();
        let numbers = |logs: Vec<AssignedLog>| logs.into_iter().flat_map(|log| log.partitions);
        let assignment = heartbeat.assignment.map(|logs| numbers(logs).collect());
        (heartbeat.epoch, assignment)
    }

    fn commit(
        &self,
        member: &'static str,
        epoch: i32,
        partitions: &[u32],
    ) -> Result<(), GroupError> {
        let offset = |partition: &u32| CommittedOffset {
            log: "t".into(),
            partition: *partition,
            offset: crate::id::Offset(1),
            leader_epoch: -1,
            metadata: Text::new(),
        };
        let offsets: Vec<_> = partitions.iter().map(offset).collect();
        self.group
            .may_commit(&self.directory, &member.into(), epoch, &offsets)
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.group.tick(self.now, &self.directory);
    }
}

#[test]
fn a_partition_is_given_on_only_after_its_owner_has_let_go() {
    let mut world = world(&[("t", 4)]);
    assert_eq!(world.told(join("a")), (1, Some(vec![0, 1, 2, 3])));
    assert_eq!(world.group.state(), "Stable");
    let (epoch, nothing) = world.told(join("b"));
    assert_eq!((epoch, nothing), (2, Some(vec![])), "a has not let go yet");
    assert_eq!(world.group.state(), "Reconciling");
    let (epoch, kept) = world.told(owns("a", 1, &[0, 1, 2, 3]));
    assert_eq!((epoch, kept.as_ref().map(Vec::len)), (1, Some(2)));
    let kept = kept.unwrap();
    assert_eq!(world.told(alive("a", 1)), (1, None), "still revoking");
    assert_eq!(world.told(alive("b", 2)), (2, None));
    assert_eq!(world.told(owns("a", 1, &kept)).0, 2);
    let rest: Vec<u32> = (0..4).filter(|number| !kept.contains(number)).collect();
    assert_eq!(world.told(alive("b", 2)), (2, Some(rest)));
    assert_eq!(world.group.state(), "Stable");
}

#[test]
fn a_member_that_does_not_let_go_is_dropped_when_its_time_is_up() {
    let mut world = world(&[("t", 2)]);
    world.told(ConsumerHeartbeat {
        rebalance_timeout: Some(Duration::from_secs(10)),
        ..join("a")
    });
    world.told(join("b"));
    world.told(owns("a", 1, &[0, 1]));
    world.pass(Duration::from_secs(11));
    assert_eq!(world.beat(alive("a", 1)), Err(GroupError::UnknownMember));
    assert_eq!(world.told(alive("b", 2)), (3, Some(vec![0, 1])));
}

/// `consumer.assignment.interval.ms`, as Kafka 4.3 has it: an assignment stands for so long, and the first heartbeat
/// after that computes the next.
#[test]
fn an_assignment_stands_for_its_interval() {
    let mut world = world(&[("t", 2)]);
    let mut settings = GroupSettings::new(&GroupBounds::default());
    settings.consumer_assignment = Duration::from_secs(5);
    world.group.settings = Arc::new(settings);
    assert_eq!(world.told(join("a")), (1, Some(vec![0, 1])));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.told(join("b")), (1, Some(vec![])));
    assert_eq!(world.group.state(), "Assigning");
    assert_eq!(world.told(owns("a", 1, &[0, 1])), (1, None));
    world.pass(Duration::from_secs(4));
    let (_, kept) = world.told(owns("a", 1, &[0, 1]));
    let kept = kept.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(world.told(owns("a", 1, &kept)), (2, None));
    let (epoch, given) = world.told(alive("b", 1));
    assert_eq!((epoch, given.unwrap().len()), (2, 1));
    // An empty group has nothing that could stand.
    world.told(alive("a", -1));
    world.told(alive("b", -1));
    assert_eq!(world.group.state(), "Empty");
    assert_eq!(world.told(join("c")).1, Some(vec![0, 1]));
}

#[test]
fn epochs_that_are_not_the_members_are_fenced() {
    let mut world = world(&[("t", 2)]);
    assert_eq!(world.beat(alive("x", 3)), Err(GroupError::UnknownMember));
    world.told(join("a"));
    world.told(join("b"));
    world.told(owns("a", 1, &[0, 1]));
    world.told(owns("a", 1, &[0]));
    assert_eq!(
        world.beat(alive("a", 9)),
        Err(GroupError::FencedMemberEpoch {
            known: 2,
            previous: None
        })
    );
    // The answer that told it its new epoch was lost: it says the same again.
    assert_eq!(world.told(owns("a", 1, &[0])), (2, None));
    assert_eq!(
        world.beat(owns("a", 0, &[0])),
        Err(GroupError::Invalid(
            "RebalanceTimeoutMs must be provided in first request."
        ))
    );
    let commit = |epoch| world.commit("a", epoch, &[1]);
    assert_eq!(
        (commit(2), commit(1), commit(3)),
        (
            Ok(()),
            Err(GroupError::StaleMemberEpoch),
            Err(GroupError::StaleMemberEpoch)
        )
    );
}

/// KIP-1251: a commit that left before its member was told of the new epoch is taken where the member has had the
/// partition since; what it got later was another's then.
#[test]
fn an_earlier_epoch_commits_what_its_member_has_had_since() {
    let mut world = world(&[("t", 4)]);
    let stale = Err(GroupError::StaleMemberEpoch);
    world.told(join("a"));
    world.told(join("b"));
    let (_, kept) = world.told(owns("a", 1, &[0, 1, 2, 3]));
    let kept = kept.unwrap();
    let gone: Vec<u32> = (0..4).filter(|it| !kept.contains(it)).collect();
    assert_eq!(world.commit("a", 1, &[0, 1, 2, 3]), Ok(()), "revoking");
    world.told(owns("a", 1, &kept));
    assert_eq!(
        world.commit("a", 1, &kept),
        Ok(()),
        "its answer is on its way"
    );
    assert_eq!(
        world.commit("a", 1, &[kept[0], gone[0]]),
        stale,
        "all or nothing"
    );
    assert_eq!(
        world.commit("a", 2, &gone),
        Ok(()),
        "under its own epoch, anything"
    );
    assert_eq!(world.commit("a", 3, &kept), stale);
    assert_eq!(world.told(alive("b", 2)), (2, Some(gone.clone())));
    assert_eq!(world.commit("b", 1, &gone), stale, "it was a's");
    world.beat(alive("b", -1)).unwrap();
    world.told(alive("a", 2));
    assert_eq!(world.group.members["a"].epoch, 3);
    assert_eq!(world.commit("a", 2, &kept), Ok(()));
    assert_eq!(
        world.commit("a", 2, &gone),
        stale,
        "b may have committed since"
    );
}

#[test]
fn silence_and_leaving_free_what_a_member_had() {
    let mut world = world(&[("t", 2)]);
    world.told(join("a"));
    world.told(join("b"));
    let left = world.beat(alive("a", -1)).unwrap();
    assert_eq!((left.epoch, left.assignment), (-1, None));
    assert_eq!(world.told(alive("b", 2)), (3, Some(vec![0, 1])));
    world.pass(Duration::from_secs(45));
    assert!(world.group.is_empty());
    assert_eq!(world.group.state(), "Empty");
}

/// KIP-848, static membership: the place is kept while the member is away, and nobody else gets in meanwhile.
#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut world = world(&[("t", 2)]);
    let named = |member| ConsumerHeartbeat {
        instance: Some("i".into()),
        ..join(member)
    };
    assert_eq!(world.told(named("a")), (1, Some(vec![0, 1])));
    assert_eq!(
        world.beat(named("b")),
        Err(GroupError::UnreleasedInstance("a".into()))
    );
    let away = ConsumerHeartbeat {
        instance: Some("i".into()),
        ..alive("a", -2)
    };
    assert_eq!(world.told(away), (-2, None));
    assert_eq!(
        world.told(named("b")),
        (1, Some(vec![0, 1])),
        "no rebalance"
    );
    let old = ConsumerHeartbeat {
        instance: Some("i".into()),
        ..alive("a", 1)
    };
    assert_eq!(world.beat(old), Err(GroupError::FencedInstance("b".into())));
}

#[test]
fn patterns_follow_the_logs_that_come_and_go() {
    let mut world = world(&[("t", 1), ("other", 1)]);
    let pattern = |text: &'static str| ConsumerHeartbeat {
        names: None,
        pattern: Some(text.into()),
        ..join("a")
    };
    assert_eq!(world.beat(pattern("(")), Err(GroupError::InvalidPattern));
    let (epoch, assigned) = world.told(pattern("t.*"));
    assert_eq!((epoch, assigned.unwrap().len()), (1, 1), "as a whole");
    world.directory.insert(&entry("t-new", 2));
    let (epoch, assigned) = world.told(alive("a", 1));
    assert_eq!((epoch, assigned.unwrap().len()), (2, 3));
    world.directory.remove(&entry("t-new", 2));
    assert_eq!(world.told(alive("a", 2)).1.unwrap().len(), 1);
}

/// Kafka looks patterns up aside: what is named is assigned first, what is matched by the next heartbeat.
#[test]
fn a_pattern_beside_names_counts_from_the_next_heartbeat_on() {
    let mut world = world(&[("t", 1), ("other", 1)]);
    let both = ConsumerHeartbeat {
        pattern: Some("o.*".into()),
        ..join("a")
    };
    let (epoch, assigned) = world.told(both.clone());
    assert_eq!((epoch, assigned.unwrap().len()), (1, 1));
    let (epoch, assigned) = world.told(owns("a", 1, &[0]));
    assert_eq!((epoch, assigned.unwrap().len()), (2, 2));
    let again = ConsumerHeartbeat { epoch: 2, ..both };
    let (epoch, assigned) = world.told(again);
    assert_eq!((epoch, assigned.unwrap().len()), (2, 2), "it is known");
}

/// Random members come, go, fall silent and confirm at random: no partition ever has two owners, and when all is
/// quiet each has one.
#[test]
fn whatever_happens_no_partition_has_two_owners() {
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    for seed in 0..200u64 {
        let mut random = seed;
        let mut below = |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99_991);
            (random >> 33) % bound
        };
        let mut world = world(&[("t", 7)]);
        // What each client believes to have, and its epoch.
        let mut clients: BTreeMap<&'static str, (i32, BTreeSet<u32>)> = BTreeMap::new();
        for step in 0..300 {
            let name = NAMES[below(5) as usize];
            let quiet = step > 200;
            let request = match clients.get(name) {
                None if quiet => continue,
                None => join(name),
                Some((epoch, owned)) => match below(10) {
                    0 if !quiet => alive(name, -1),
                    1 if !quiet => join(name),
                    _ => owns(name, *epoch, &owned.iter().copied().collect::<Vec<_>>()),
                },
            };
            let (leaves, joins) = (request.epoch == -1, request.epoch == 0);
            let heartbeat = world
                .beat(request)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            if leaves {
                clients.remove(name);
                continue;
            }
            let client = clients.entry(name).or_default();
            client.0 = heartbeat.epoch;
            if joins {
                client.1.clear();
            }
            if let Some(logs) = heartbeat.assignment {
                // Revoked at once, or kept until the next heartbeat.
                client.1 = logs.into_iter().flat_map(|log| log.partitions).collect();
            }
            let all: Vec<u32> = clients
                .values()
                .flat_map(|(_, owned)| owned.iter().copied())
                .collect();
            let unique: BTreeSet<u32> = all.iter().copied().collect();
            assert_eq!(
                all.len(),
                unique.len(),
                "seed {seed}, step {step}: {clients:?}"
            );
        }
        if !clients.is_empty() {
            assert_eq!(
                world.group.state(),
                "Stable",
                "seed {seed}: {clients:?} {:?}",
                world.group
            );
            let owned: usize = clients.values().map(|(_, owned)| owned.len()).sum();
            assert_eq!(owned, 7, "seed {seed}");
        }
    }
}
