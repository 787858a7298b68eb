//! Committed offsets.

use super::{
    migration::{consumer, consumer_join},
    *,
};

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
    assert_eq!(err(world.call(commit(5, "m", 1))), GroupError::NotFound);
    assert_eq!(
        err(world.call(in_generations(commit(5, "m", 1)))),
        GroupError::IllegalGeneration,
        "who does not know of epochs"
    );
    world.call(commit(-1, "", 1)).unwrap();
    assert_eq!(committed(&mut world), [1]);
    assert_eq!(world.state(), "Empty");
}

/// KIP-848: OffsetCommit below version 9 has no word for a member epoch.
#[test]
fn members_of_the_consumer_protocol_commit_under_epochs_alone() {
    let mut world = World::new(0);
    world.know(4);
    world.beat(consumer_join("m")).unwrap();
    world.call(commit(2, "m", 1)).unwrap();
    assert_eq!(
        err(world.call(in_generations(commit(2, "m", 2)))),
        GroupError::WithoutMemberEpoch
    );
    assert_eq!(
        err(world.call(in_generations(commit(2, "stranger", 2)))),
        GroupError::UnknownMember
    );
    assert_eq!(
        err(world.call(commit(3, "m", 2))),
        GroupError::StaleMemberEpoch
    );
    world.beat(consumer("m", -1)).unwrap();
    world.call(in_generations(commit(-1, "", 3))).unwrap();
    assert_eq!(committed(&mut world), [3]);
}

/// The same request by one who knows generations only.
fn in_generations(request: GroupRequest) -> GroupRequest {
    match request {
        GroupRequest::Commit {
            generation,
            member,
            instance,
            offsets,
            ..
        } => GroupRequest::Commit {
            generation,
            member,
            instance,
            knows_member_epochs: false,
            offsets,
        },
        other => other,
    }
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
