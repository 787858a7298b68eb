//! The classic protocol against what clients know: random steps of random clients.

use super::*;

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
