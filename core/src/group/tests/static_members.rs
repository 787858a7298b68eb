//! Static members (KIP-345).

use super::*;

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
    assert!(matches!(
        err(world.call(stale)),
        GroupError::FencedInstance(_)
    ));
    assert_eq!(world.state(), "Stable");
}

#[test]
fn a_static_member_that_comes_twice_fences_its_parked_self() {
    let mut world = World::new(0);
    let first = world.stable();
    let parked = world.ask(join_static("i"));
    let twin = world.ask(join_static("i"));
    assert!(matches!(
        err(world.answer(parked)),
        GroupError::FencedInstance(_)
    ));
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
