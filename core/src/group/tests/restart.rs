//! The broker goes down, and members go on where they were.

use super::*;

impl World {
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

#[test]
fn a_group_without_members_leaves_no_row() {
    let mut world = World::new(0);
    let member = world.stable();
    world.call(leave(&member.id)).unwrap();
    let mut world = world.reopened();
    assert_eq!(world.state(), "none");
}
