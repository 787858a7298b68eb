//! The classic protocol: generations, rebalances, timeouts.

use super::*;

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
