//! Consumer groups over links: membership, and offsets that are there when the commit was answered.

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use support::{
    Client,
    logs::{batch, log},
    open,
};
use trivium_core::{
    Change, Command, Event, Offset, Reply, Text, Token,
    group::{
        AssignedLog, CommittedOffset, ConsumerHeartbeat, GroupAnswer, GroupError, GroupReply,
        GroupRequest, Join,
    },
    store::memory::MemoryStore,
};

impl Client {
    async fn group(&mut self, request: GroupRequest) -> GroupReply {
        let group = Text::from_static("g");
        match self
            .ask(|token| Command::Group {
                token,
                group,
                request,
            })
            .await
        {
            Ok(Reply::Group(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    async fn ask_group(&mut self, request: GroupRequest) -> Token {
        let token = self.token();
        let group = "g".into();
        self.submit(Command::Group {
            token,
            group,
            request,
        })
        .await;
        token
    }

    async fn answered(&mut self, token: Token) -> GroupReply {
        self.expect(|event| match event {
            Event::Done {
                token: done,
                result: Ok(Reply::Group(reply)),
            } if *done == token => Some(reply.clone()),
            _ => None,
        })
        .await
    }

    /// The epoch that a heartbeat of the consumer protocol is answered with, and the partitions if it is told any.
    async fn assigned(&mut self, heartbeat: ConsumerHeartbeat) -> (i32, Option<Vec<u32>>) {
        match self
            .group(GroupRequest::ConsumerHeartbeat(Box::new(heartbeat)))
            .await
        {
            Ok(GroupAnswer::Heartbeat(answer)) => {
                let numbers =
                    |logs: Vec<AssignedLog>| logs.into_iter().flat_map(|log| log.partitions);
                let assignment = answer.assignment.map(|logs| numbers(logs).collect());
                (answer.epoch, assignment)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn committed(&mut self) -> Vec<(String, u32, u64)> {
        match self
            .group(GroupRequest::Offsets {
                partitions: None,
                require_stable: false,
                member: None,
            })
            .await
        {
            Ok(GroupAnswer::Offsets { offsets, .. }) => offsets
                .into_iter()
                .map(|found| (found.log.to_string(), found.partition, found.offset.0))
                .collect(),
            other => panic!("{other:?}"),
        }
    }
}

fn join(member: &Text) -> GroupRequest {
    GroupRequest::Join(Box::new(Join {
        member: member.clone(),
        instance: None,
        client: "client".into(),
        host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(30),
        rebalance_timeout: Duration::from_secs(30),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"metadata"))],
        require_member_id: false,
        may_skip_assignment: false,
    }))
}

fn sync(generation: i32, member: &Text, assignments: Vec<(Text, Bytes)>) -> GroupRequest {
    GroupRequest::Sync {
        generation,
        member: member.clone(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments,
    }
}

fn commit(generation: i32, member: &str, log: &str, offset: u64) -> GroupRequest {
    GroupRequest::Commit {
        generation,
        member: member.into(),
        instance: None,
        knows_member_epochs: true,
        offsets: vec![CommittedOffset {
            log: log.into(),
            partition: 0,
            offset: Offset(offset),
            leader_epoch: -1,
            metadata: "note".into(),
        }],
    }
}

fn joined(reply: GroupReply) -> (i32, Text, Text, usize) {
    match reply {
        Ok(GroupAnswer::Joined {
            generation,
            leader,
            member,
            members,
            ..
        }) => (generation, leader, member, members.len()),
        other => panic!("{other:?}"),
    }
}

fn assignment(reply: GroupReply) -> Bytes {
    match reply {
        Ok(GroupAnswer::Synced { assignment, .. }) => assignment,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_members_share_a_generation() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let (mut one, mut two) = (Client::new(&broker), Client::new(&broker));
    let (generation, leader, first, members) = joined(one.group(join(&"".into())).await);
    assert_eq!((&leader, members), (&first, 1));
    let mine = vec![(first.clone(), Bytes::from_static(b"all"))];
    assert_eq!(
        assignment(one.group(sync(generation, &first, mine)).await),
        "all"
    );
    let joining = two.ask_group(join(&"".into())).await;
    // The first member hears of it with its next heartbeat and joins again.
    let heartbeat = || GroupRequest::Heartbeat {
        generation,
        member: first.clone(),
        instance: None,
    };
    while one.group(heartbeat()).await.is_ok() {}
    assert_eq!(
        one.group(heartbeat()).await.unwrap_err(),
        GroupError::RebalanceInProgress
    );
    let (generation, leader, first, members) = joined(one.group(join(&first)).await);
    let (same, _, second, _) = joined(two.answered(joining).await);
    assert_eq!((generation, members), (same, 2));
    assert_eq!(leader, first);
    let waiting = two.ask_group(sync(generation, &second, Vec::new())).await;
    let parts = vec![
        (first.clone(), Bytes::from_static(b"left")),
        (second.clone(), Bytes::from_static(b"right")),
    ];
    assert_eq!(
        assignment(one.group(sync(generation, &first, parts)).await),
        "left"
    );
    assert_eq!(assignment(two.answered(waiting).await), "right");
    assert_eq!(
        one.group(commit(generation - 1, &first, "t", 1))
            .await
            .unwrap_err(),
        GroupError::IllegalGeneration
    );
    one.group(commit(generation, &first, "t", 7))
        .await
        .expect("it is a member");
    assert_eq!(two.committed().await, [("t".to_owned(), 0, 7)]);
}

#[tokio::test]
async fn a_commit_is_answered_once_it_is_durable_and_survives_a_crash() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    store.hold();
    let token = client.ask_group(commit(-1, "", "t", 41)).await;
    while store.held() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!client.has_events().await, "nothing is durable yet");
    store.release();
    client
        .answered(token)
        .await
        .expect("a consumer without membership may commit");
    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.committed().await, [("t".to_owned(), 0, 41)]);
}

#[tokio::test]
async fn every_answered_commit_survives_whenever_the_power_is_cut() {
    for seed in 0..50 {
        let store = Arc::new(MemoryStore::new());
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        for offset in 0..seed % 6 {
            client
                .group(commit(-1, "", "t", offset))
                .await
                .expect("a consumer without membership may commit");
        }
        store.hold();
        client.ask_group(commit(-1, "", "t", 100)).await;
        for _ in 0..seed % 4 {
            tokio::task::yield_now().await;
        }
        let broker = open(Arc::new(store.crash(seed))).await;
        let committed = Client::new(&broker).committed().await;
        let answered = (seed % 6).checked_sub(1);
        match committed.first() {
            Some((_, _, offset)) => {
                assert!(
                    Some(*offset) == answered || *offset == 100,
                    "seed {seed}: {offset}"
                )
            }
            None => assert_eq!(answered, None, "seed {seed}"),
        }
    }
}

#[tokio::test]
async fn a_deleted_log_takes_the_offsets_in_it_along() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    for name in ["gone", "kept"] {
        client
            .log(name, log(1, &[]))
            .await
            .expect("the name is free");
        client
            .append(name, 0, batch(&["a"], None))
            .await
            .expect("the log is there");
        client
            .group(commit(-1, "", name, 1))
            .await
            .expect("a consumer without membership may commit");
    }
    client.delete_log("gone").await.expect("the log is there");
    assert_eq!(client.committed().await, [("kept".to_owned(), 0, 1)]);
    client
        .group(commit(-1, "", "kept", 2))
        .await
        .expect("a consumer without membership may commit");
    let broker = open(Arc::new(store.crash(2))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.committed().await, [("kept".to_owned(), 0, 2)]);
}

#[tokio::test]
async fn an_empty_group_is_deleted_with_its_offsets() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let missing = client.group(GroupRequest::Delete).await;
    assert_eq!(missing.unwrap_err(), GroupError::NotFound);
    client
        .group(commit(-1, "", "t", 1))
        .await
        .expect("a consumer without membership may commit");
    client
        .group(GroupRequest::Delete)
        .await
        .expect("nobody is in it");
    let broker = open(Arc::new(store.crash(2))).await;
    assert!(Client::new(&broker).committed().await.is_empty());
}

/// KIP-848: members are told of partitions that a log gets, by their next heartbeat.
#[tokio::test]
async fn partitions_that_are_added_are_assigned() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    client.log("t", log(1, &[])).await.expect("it is new");
    let join = ConsumerHeartbeat {
        member: "m".into(),
        rebalance_timeout: Some(Duration::from_secs(60)),
        names: Some(vec!["t".into()]),
        owned: Some(Default::default()),
        ..Default::default()
    };
    assert_eq!(client.assigned(join).await, (2, Some(vec![0])));
    let add = Change::AddPartitions {
        name: "t".into(),
        partitions: 3,
        validate_only: false,
    };
    client.define(add).await.expect("three are more than one");
    let alive = ConsumerHeartbeat {
        member: "m".into(),
        epoch: 2,
        ..Default::default()
    };
    assert_eq!(client.assigned(alive).await, (3, Some(vec![0, 1, 2])));
}
