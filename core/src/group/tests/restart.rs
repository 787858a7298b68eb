//! The broker goes down, and members go on where they were.

use super::{
    migration::{classic_join, consumer, consumer_join, set},
    *,
};

impl World {
    #[track_caller]
    fn share(&mut self, heartbeat: ConsumerHeartbeat) -> Result<Heartbeat, GroupError> {
        let request = ShareRequest::Heartbeat(Box::new(heartbeat));
        match self.call(GroupRequest::Share(request)) {
            Ok(GroupAnswer::Share(ShareAnswer::Heartbeat(heartbeat))) => Ok(heartbeat),
            Err(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// What a broker knows that opens the store as it is now.
    fn reopened(&self) -> World {
        let mut rows = BTreeMap::new();
        for write in &self.writes {
            match write {
                Write::Put(Table::State, key, value) => {
                    rows.insert(key.clone(), value.clone());
                }
                Write::Delete(Table::State, key) => drop(rows.remove(key)),
                _ => {}
            }
        }
        let mut world = World::new(0);
        world.ms = self.ms + 60_000;
        let now = world.now();
        for (key, row) in rows {
            let write = Write::Put(Table::State, key.clone(), row.clone());
            world.writes.push(write);
            if keys::all_group_members().contains(&key) {
                let name = keys::group_parts(key).unwrap();
                world.groups.recover_members(now, name, row).unwrap();
            } else if keys::all_group_kinds().contains(&key) {
                let name = keys::group_parts(key).unwrap();
                world.groups.recover_kind(name, row).unwrap();
            } else if keys::all_group_offsets().contains(&key) {
                world.groups.recover(&key, row).unwrap();
            }
        }
        world.pass(0);
        world
    }
}

#[test]
fn members_go_on_in_their_generation() {
    let mut world = World::new(0);
    let (first, second) = world.stable_pair();
    assert!(world.call(commit(first.generation, &first.id, 7)).is_ok());
    let mut world = world.reopened();
    assert_eq!(world.state(), "Stable");
    assert!(world.call(heartbeat(&first)).is_ok());
    assert!(world.call(heartbeat(&second)).is_ok());
    assert!(world.call(commit(first.generation, &first.id, 8)).is_ok());
    assert_eq!(
        err(world.call(commit(first.generation - 1, &first.id, 9))),
        GroupError::IllegalGeneration
    );
    assert_eq!(committed(&mut world), [8]);
    let question = world.ask(sync(&second, &[]));
    assert_eq!(world.assignment(question), "2");
    // One leaves, the other is told.
    world.call(leave(&second.id)).unwrap();
    assert_eq!(
        err(world.call(heartbeat(&first))),
        GroupError::RebalanceInProgress
    );
    let again = world.enter(join(&first.id));
    assert_eq!(again.generation, first.generation + 1);
}

#[test]
fn who_does_not_come_back_is_dropped_after_its_session() {
    let mut world = World::new(0);
    let (first, second) = world.stable_pair();
    let mut world = world.reopened();
    world.pass(9_000);
    assert!(world.call(heartbeat(&first)).is_ok());
    world.pass(2_000);
    assert_eq!(
        err(world.call(heartbeat(&first))),
        GroupError::RebalanceInProgress
    );
    assert_eq!(
        err(world.call(heartbeat(&second))),
        GroupError::UnknownMember
    );
}

/// Between two generations the store knows the last one that was complete.
#[test]
fn whoever_was_about_to_join_joins_again() {
    let mut world = World::new(0);
    let first = world.stable();
    world.ask(join(""));
    let again = world.ask(join(&first.id));
    let again = world.joined(again);
    assert_eq!(again.generation, 2);
    let mut world = world.reopened();
    assert_eq!(
        err(world.call(commit(2, &first.id, 1))),
        GroupError::IllegalGeneration
    );
    let question = world.ask(sync(&again, &[(&first.id, "all")]));
    assert_eq!(err(world.answer(question)), GroupError::IllegalGeneration);
    assert_eq!(world.enter(join(&first.id)).generation, 2);
}

#[test]
fn a_static_member_keeps_its_place() {
    let mut world = World::new(0);
    let member = world.enter(join_static("one"));
    let question = world.ask(sync(&member, &[(&member.id, "all")]));
    world.assignment(question);
    let mut world = world.reopened();
    let back = world.enter(join_static("one"));
    assert_eq!(back.generation, member.generation, "no rebalance");
    assert_ne!(back.id, member.id);
    // Its new id is known after another restart.
    let mut world = world.reopened();
    assert!(world.call(heartbeat(&back)).is_ok());
}

/// What there is of a group that is listed.
fn listed(world: &World) -> (String, &'static str, &'static str) {
    let group = world.groups.list("/").pop().unwrap();
    (group.protocol_type.to_string(), group.state, group.kind)
}

#[test]
fn a_group_without_members_stays_what_it_is_until_it_is_forgotten() {
    let mut world = World::new(0);
    let member = world.stable();
    world.call(leave(&member.id)).unwrap();
    let before = listed(&world);
    assert_eq!((before.1, before.2), ("Empty", "Classic"));
    let mut world = world.reopened();
    assert_eq!(listed(&world), before);
    world.call(leave("nobody")).unwrap();
    let next = world.enter(join(""));
    assert!(next.generation > member.generation, "they go on");
    let mut world = world.reopened();
    world.pass(9 * 60_000);
    assert_eq!(listed(&world), before);
    world.pass(2 * 60_000);
    assert_eq!(world.groups.list("/"), []);
    assert_eq!(world.reopened().groups.list("/"), [], "nor is a row left");
}

#[test]
fn a_group_without_consumers_stays_one_of_the_consumer_protocol() {
    let mut world = settled_consumers(None);
    for member in ["first", "second"] {
        world.beat(consumer(member, -1)).unwrap();
    }
    let (before, epoch) = (listed(&world), world.described().epoch);
    assert_eq!(before, ("consumer".into(), "Empty", "Consumer"));
    for offsets in [false, true] {
        if offsets {
            world.call(commit(-1, "", 7)).unwrap();
        }
        world = reopened_with_log(&world);
        assert_eq!(listed(&world), before);
        let described = world.described();
        assert_eq!((described.state, described.epoch), ("Empty", epoch));
        assert_eq!(
            err(world.call(GroupRequest::Describe)),
            GroupError::OtherKind("classic")
        );
    }
    assert_eq!(world.beat(consumer_join("third")).unwrap().epoch, epoch + 1);
    world.beat(consumer("third", -1)).unwrap();
    // The classic protocol takes it over, and so it stays.
    let member = world.enter(join(""));
    world.call(leave(&member.id)).unwrap();
    assert_eq!(listed(&world).2, "Classic");
    let mut world = reopened_with_log(&world);
    assert_eq!(listed(&world).2, "Classic");
    world.call(GroupRequest::Delete).unwrap();
    assert_eq!(world.reopened().groups.list("/"), []);
}

#[test]
fn a_share_group_stays_one() {
    let mut world = World::new(0);
    world.know(4);
    world.share(consumer_join("m")).unwrap();
    world.share(consumer("m", -1)).unwrap();
    assert_eq!(listed(&world), ("share".into(), "Empty", "Share"));
    let mut world = reopened_with_log(&world);
    assert_eq!(listed(&world), ("share".into(), "Empty", "Share"));
    assert_eq!(world.share(consumer_join("m")).unwrap().epoch, 4);
    world.share(consumer("m", -1)).unwrap();
    world.call(GroupRequest::Delete).unwrap();
    assert_eq!(world.reopened().groups.list("/"), []);
}

/// Kafka stores the members of share groups as those of others: they go on under their epochs, and those who say nothing
/// are dropped after a session.
#[test]
fn members_of_a_share_group_go_on_under_their_epochs() {
    let mut world = World::new(0);
    world.know(4);
    assert_eq!(told(&world.share(consumer_join("a")).unwrap()).len(), 4);
    world.share(consumer_join("b")).unwrap();
    let a = world.share(consumer("a", 2)).unwrap();
    assert_eq!((a.epoch, told(&a)), (3, set(&[0, 2])));
    let mut world = reopened_with_log(&world);
    assert_eq!(listed(&world), ("share".into(), "Stable", "Share"));
    let again = world.share(consumer("a", 3)).unwrap();
    assert_eq!((again.epoch, told(&again)), (3, set(&[0, 2])));
    assert_eq!(world.share(consumer("a", 3)).unwrap().assignment, None);
    // Its answer was on its way, under the epoch before.
    assert_eq!(world.share(consumer("b", 2)).unwrap().epoch, 3);
    let beyond = GroupError::FencedMemberEpoch {
        known: 3,
        previous: Some(0),
    };
    assert_eq!(world.share(consumer("b", 4)), Err(beyond));
    let mut world = reopened_with_log(&world);
    world.pass(30_000);
    world.share(consumer("a", 3)).unwrap();
    world.pass(16_000);
    assert_eq!(
        world.share(consumer("b", 3)).unwrap_err(),
        GroupError::UnknownMember
    );
    let rest = world.share(consumer("a", 3)).unwrap();
    assert_eq!((rest.epoch, told(&rest)), (4, set(&[0, 1, 2, 3])));
}

/// Partitions of the log `t` that a member is told.
fn told(heartbeat: &Heartbeat) -> BTreeSet<u32> {
    let logs = heartbeat.assignment.iter().flatten();
    logs.flat_map(|log| log.partitions.iter().copied())
        .collect()
}

/// A group of the consumer protocol in which two members have two partitions each, in epoch 3.
fn settled_consumers(static_name: Option<&str>) -> World {
    let mut world = World::new(0);
    world.know(4);
    let first = ConsumerHeartbeat {
        instance: static_name.map(Text::from),
        ..consumer_join("first")
    };
    assert_eq!(told(&world.beat(first).unwrap()), set(&[0, 1, 2, 3]));
    world.beat(consumer_join("second")).unwrap();
    let kept = told(&world.beat(consumer("first", 2)).unwrap());
    let confirmed = ConsumerHeartbeat {
        owned: Some(kept.iter().map(|it| ([7; 16], *it)).collect()),
        ..consumer("first", 2)
    };
    assert_eq!(world.beat(confirmed).unwrap().epoch, 3);
    let second = world.beat(consumer("second", 3)).unwrap();
    assert_eq!(&told(&second) | &kept, set(&[0, 1, 2, 3]));
    world
}

fn reopened_with_log(world: &World) -> World {
    let mut world = world.reopened();
    world.know(4);
    world
}

/// KIP-848: members, epochs and assignments are the coordinator's, and outlive it.
#[test]
fn members_of_the_consumer_protocol_go_on_under_their_epochs() {
    let mut world = settled_consumers(None);
    assert!(world.call(commit(3, "first", 7)).is_ok());
    let before = world.described();
    let mut world = reopened_with_log(&world);
    let after = world.described();
    assert_eq!((after.state, after.epoch), ("Stable", before.epoch));
    let assigned = |it: &ConsumerDescription| -> Vec<_> {
        let members = it.members.iter();
        members
            .map(|it| (it.member.clone(), it.assigned[0].partitions.clone()))
            .collect()
    };
    assert_eq!(assigned(&after), assigned(&before));
    for member in ["first", "second"] {
        let beat = world.beat(consumer(member, 3)).unwrap();
        assert_eq!((beat.epoch, beat.assignment), (3, None), "nothing moves");
    }
    assert!(world.call(commit(3, "second", 8)).is_ok());
    assert_eq!(
        err(world.call(commit(1, "first", 9))),
        GroupError::StaleMemberEpoch
    );
    // One leaves, and the other gets all.
    world.beat(consumer("second", -1)).unwrap();
    let rest = world.beat(consumer("first", 3)).unwrap();
    assert_eq!((rest.epoch, told(&rest)), (4, set(&[0, 1, 2, 3])));
}

#[test]
fn a_silent_consumer_is_dropped_after_its_session_also_over_a_restart() {
    let world = settled_consumers(None);
    let mut world = reopened_with_log(&world);
    world.pass(40_000);
    world.beat(consumer("first", 3)).unwrap();
    world.pass(6_000);
    let rest = world.beat(consumer("first", 3)).unwrap();
    assert_eq!((rest.epoch, told(&rest)), (4, set(&[0, 1, 2, 3])));
    assert_eq!(
        world.beat(consumer("second", 3)).unwrap_err(),
        GroupError::UnknownMember
    );
}

/// The store knows the last assignment that all had arrived at: who was beyond it begins again.
#[test]
fn whoever_was_beyond_what_is_stored_is_fenced() {
    let mut world = settled_consumers(None);
    world.beat(consumer("second", -1)).unwrap();
    let stored = world.reopened();
    assert_eq!(world.beat(consumer("first", 3)).unwrap().epoch, 4);
    let mut world = stored;
    world.know(4);
    assert_eq!(
        world.beat(consumer("first", 4)).unwrap_err(),
        GroupError::FencedMemberEpoch {
            known: 3,
            previous: None
        }
    );
    let again = world.beat(consumer_join("first")).unwrap();
    assert_eq!(again.epoch, 3);
    assert_eq!(told(&again).len(), 2, "the other's session is not over");
}

#[test]
fn a_static_consumer_that_is_away_finds_its_place() {
    let mut world = settled_consumers(Some("one"));
    let before = world.described().members;
    let had = before.iter().find(|it| it.member == "first").unwrap();
    let had: BTreeSet<u32> = had.assigned[0].partitions.iter().copied().collect();
    let named = |member: &str, epoch| ConsumerHeartbeat {
        instance: Some("one".into()),
        ..consumer(member, epoch)
    };
    world.beat(named("first", -2)).unwrap();
    let mut world = reopened_with_log(&world);
    let back = ConsumerHeartbeat {
        instance: Some("one".into()),
        ..consumer_join("again")
    };
    let back = world.beat(back).unwrap();
    assert_eq!((back.epoch, told(&back)), (3, had));
}

/// Online migration: a member of the classic protocol in the same group goes on in its generation.
#[test]
fn members_of_both_protocols_go_on() {
    let mut world = World::new(0);
    world.know(2);
    let old = world.classic(None, &[0, 1]);
    world.beat(consumer_join("new")).unwrap();
    let again = world.enter(classic_join(&old.id, None, &BTreeSet::new(), 1));
    assert_eq!((again.generation, world.synced(&again).len()), (2, 1));
    world.beat(consumer("new", 2)).unwrap();
    assert_eq!(world.described().state, "Stable");
    let mut world = world.reopened();
    world.know(2);
    assert!(world.call(heartbeat(&again)).is_ok());
    assert_eq!(world.beat(consumer("new", 2)).unwrap().assignment, None);
    // No member is left when the last has gone.
    world.beat(consumer("new", -1)).unwrap();
    world.call(leave(&again.id)).unwrap();
    let mut world = world.reopened();
    assert_eq!(
        err(world.call(heartbeat(&again))),
        GroupError::UnknownMember
    );
}

/// Nothing of a group is left for another one of its name, in another vhost of the same name.
#[test]
fn a_group_goes_with_its_vhost() {
    let mut world = World::new(0);
    let member = world.stable();
    assert!(world.call(commit(member.generation, &member.id, 7)).is_ok());
    let settings = vec![("consumer.session.timeout.ms".into(), Some("50000".into()))];
    let configure = GroupRequest::Configure {
        settings,
        replaces: false,
        validate_only: false,
    };
    assert!(world.call(configure).is_ok());
    let rows = |world: &World| {
        let mut rows = BTreeSet::new();
        for write in &world.writes {
            match write {
                Write::Put(_, key, _) => drop(rows.insert(key.clone())),
                Write::Delete(_, key) => drop(rows.remove(key)),
                _ => {}
            }
        }
        rows.len()
    };
    assert_eq!(rows(&world), 3, "members, an offset, settings");
    let mut batch = Batch::new();
    world.groups.forget_vhost(&"other".into(), &mut batch);
    assert!(batch.into_writes().is_empty());
    let mut batch = Batch::new();
    world.groups.forget_vhost(&"/".into(), &mut batch);
    world.take(Vec::new(), batch);
    assert_eq!(rows(&world), 0);
    assert_eq!(world.state(), "none");
}
