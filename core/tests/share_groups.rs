//! Share groups over links (KIP-932): what is done with and how often records were delivered survives a crash.

mod support;

use std::{sync::Arc, time::Duration};

use support::{Client, advance, logs::log, open};
use trivium_core::{
    Command, Offset, OffsetSpec, Reply, Text,
    group::{
        Acknowledgement, Acquired, ConsumerHeartbeat, GroupAnswer, GroupError, GroupRequest,
        LogUuid, Position, ShareAnswer, SharePartition, ShareRead, ShareRequest,
    },
    store::memory::MemoryStore,
};

impl Client {
    async fn share(&mut self, request: ShareRequest) -> Result<ShareAnswer, GroupError> {
        let group = Text::from_static("s");
        let command = |token| Command::Group {
            token,
            group,
            request: GroupRequest::Share(request),
        };
        match self.ask(command).await {
            Ok(Reply::Group(Ok(GroupAnswer::Share(answer)))) => Ok(answer),
            Ok(Reply::Group(Err(error))) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// The partition of the log, and a group that begins with it at 0.
    async fn begin(&mut self) -> SharePartition {
        self.log("t", log(1, &[])).await.expect("it is new");
        let partition = self.partition().await;
        let start = Offset(0);
        let begun = self
            .share(ShareRequest::Initialise { partition, start })
            .await;
        assert!(
            matches!(begun, Ok(ShareAnswer::Positions { positions, .. }) if positions == [Position::At(start)])
        );
        partition
    }

    async fn partition(&mut self) -> SharePartition {
        let logs = Some(vec!["t".into()]);
        match self
            .ask(|token| Command::DescribeLogs { token, logs })
            .await
        {
            Ok(Reply::Logs(found)) => (found[0].as_ref().expect("it is there").uuid, 0),
            other => panic!("{other:?}"),
        }
    }

    /// Takes what is available of the records from `first` to `last`: first, last, deliveries.
    async fn acquire(
        &mut self,
        member: &'static str,
        partition: SharePartition,
        (first, last): (u64, u64),
    ) -> Vec<(u64, u64, u16)> {
        let read = ShareRead {
            partition,
            log_start: Offset(0),
            shown: vec![(Offset(first), Offset(last))],
            skipped: Vec::new(),
        };
        let request = ShareRequest::Acquire {
            member: member.into(),
            reads: vec![read],
            records_max: 500,
            strict: false,
        };
        let run = |it: &Acquired| (it.first.0, it.last.0, it.deliveries);
        match self.share(request).await {
            Ok(ShareAnswer::Acquired(acquired)) => acquired[0].iter().map(run).collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn acknowledge(
        &mut self,
        member: &'static str,
        partition: SharePartition,
        (first, last): (u64, u64),
        acknowledgement: Acknowledgement,
    ) -> Result<(), GroupError> {
        let range = (Offset(first), Offset(last), acknowledgement);
        let request = ShareRequest::Acknowledge {
            member: member.into(),
            acknowledgements: vec![(partition, vec![range])],
        };
        match self.share(request).await {
            Ok(ShareAnswer::Acknowledged(mut results)) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }

    async fn start(&mut self) -> u64 {
        match self.share(ShareRequest::Offsets { partitions: None }).await {
            Ok(ShareAnswer::Offsets(offsets)) => offsets[0].start.expect("it has begun").0,
            other => panic!("{other:?}"),
        }
    }
}

fn heartbeat(epoch: i32) -> ShareRequest {
    ShareRequest::Heartbeat(Box::new(ConsumerHeartbeat {
        member: "a".into(),
        epoch,
        names: Some(vec!["t".into()]),
        ..Default::default()
    }))
}

#[tokio::test]
async fn what_is_done_with_survives_a_crash() {
    for seed in 0..4 {
        let store = Arc::new(MemoryStore::new());
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        let partition = client.begin().await;
        assert_eq!(client.acquire("a", partition, (0, 9)).await, [(0, 9, 1)]);
        let accept = Acknowledgement::Accept;
        assert_eq!(
            client.acknowledge("a", partition, (0, 3), accept).await,
            Ok(())
        );
        assert_eq!(
            client.acknowledge("a", partition, (6, 6), accept).await,
            Ok(())
        );
        let broker = open(Arc::new(store.crash(seed))).await;
        let mut client = Client::new(&broker);
        assert_eq!(client.start().await, 4);
        let again = client.acquire("b", partition, (0, 9)).await;
        assert_eq!(
            again,
            [(4, 5, 2), (7, 9, 2)],
            "available again, and counted"
        );
    }
}

#[tokio::test]
async fn only_who_has_records_decides_about_them() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let partition = client.begin().await;
    client.acquire("a", partition, (0, 4)).await;
    let refused = Err(GroupError::InvalidRecordState);
    let accept = Acknowledgement::Accept;
    assert_eq!(
        client.acknowledge("b", partition, (0, 0), accept).await,
        refused
    );
    assert_eq!(
        client.acknowledge("a", partition, (4, 5), accept).await,
        Err(GroupError::PastAcquired("last"))
    );
    assert_eq!(
        client.acknowledge("a", partition, (0, 4), accept).await,
        Ok(())
    );
    assert_eq!(
        client.acknowledge("a", partition, (0, 0), accept).await,
        Ok(()),
        "it is done with"
    );
    let nowhere = ([9; 16], 0);
    assert_eq!(
        client.acknowledge("a", nowhere, (0, 0), accept).await,
        Err(GroupError::UnknownSharePartition),
        "as of a log that was deleted"
    );
}

/// `group.share.record.lock.duration.ms`, and renewal.
#[tokio::test]
async fn locks_end_unless_they_are_renewed() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let partition = client.begin().await;
    client.acquire("a", partition, (0, 1)).await;
    advance(Duration::from_secs(20));
    let renew = Acknowledgement::Renew;
    assert_eq!(
        client.acknowledge("a", partition, (0, 0), renew).await,
        Ok(())
    );
    advance(Duration::from_secs(15));
    // Time is looked at after the first request.
    client.acquire("b", partition, (0, 1)).await;
    assert_eq!(client.acquire("b", partition, (0, 1)).await, [(1, 1, 2)]);
}

#[tokio::test]
async fn a_group_with_members_is_not_moved() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let partition = client.begin().await;
    let to = |offset| ShareRequest::Alter {
        offsets: vec![(partition, Some(Offset(offset)))],
    };
    let Ok(ShareAnswer::Heartbeat(joined)) = client.share(heartbeat(0)).await else {
        panic!("it may join")
    };
    assert_eq!(joined.assignment.map(|logs| logs.len()), Some(1));
    assert_eq!(client.share(to(5)).await.unwrap_err(), GroupError::NotEmpty);
    client.share(heartbeat(-1)).await.unwrap();
    client.share(to(5)).await.unwrap();
    assert_eq!(client.start().await, 5);
}

/// A group stands in what it has begun with and in what its members subscribe to, until it is told to forget that.
#[tokio::test]
async fn a_group_is_moved_to_where_it_begins_and_forgets() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.log("t", log(1, &[])).await.expect("it is new");
    let partition = client.partition().await;
    let to = |start| ShareRequest::Alter {
        offsets: vec![(partition, start)],
    };
    let nowhere = ShareRequest::Alter {
        offsets: Vec::new(),
    };
    client.share(nowhere).await.unwrap();
    let refused = client.share(ShareRequest::Describe).await.unwrap_err();
    assert_eq!(refused, GroupError::NotFound, "nothing makes no group");

    client.share(to(Some(Offset(3)))).await.unwrap();
    assert_eq!(client.standing().await, [Some(3)]);
    client.share(to(None)).await.unwrap();
    assert_eq!(client.standing().await, []);
    client.share(heartbeat(0)).await.unwrap();
    client.share(heartbeat(-1)).await.unwrap();
    assert_eq!(client.standing().await, [None], "it was subscribed to");
    client.share(to(Some(Offset(5)))).await.unwrap();
    drop((client, broker));

    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.standing().await, [Some(5)]);
    client.share(to(None)).await.unwrap();
    assert_eq!(client.standing().await, [None]);
    assert_eq!(client.forget(partition.0).await, [partition.0]);
    assert_eq!(client.standing().await, []);
    assert!(client.forget(partition.0).await.is_empty());
}

impl Client {
    async fn standing(&mut self) -> Vec<Option<u64>> {
        match self.share(ShareRequest::Offsets { partitions: None }).await {
            Ok(ShareAnswer::Offsets(found)) => {
                found.iter().map(|it| it.start.map(|it| it.0)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    async fn forget(&mut self, log: LogUuid) -> Vec<LogUuid> {
        match self.share(ShareRequest::Delete { logs: vec![log] }).await {
            Ok(ShareAnswer::Forgotten(logs)) => logs,
            other => panic!("{other:?}"),
        }
    }

    async fn group(&mut self, request: GroupRequest) -> Result<GroupAnswer, GroupError> {
        let group = Text::from_static("s");
        let command = |token| Command::Group {
            token,
            group,
            request,
        };
        match self.ask(command).await {
            Ok(Reply::Group(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    async fn configure(&mut self, name: &'static str, value: &'static str) {
        let configure = GroupRequest::Configure {
            settings: vec![(name.into(), Some(value.into()))],
            replaces: false,
            validate_only: false,
        };
        self.group(configure).await.expect("a good value");
    }
}

/// KIP-1240: of groups that are there and of those that are not, at once and after a crash.
#[tokio::test]
async fn settings_hold_at_once_and_survive_a_crash() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.configure("share.delivery.count.limit", "2").await;
    let partition = client.begin().await;
    client
        .configure("share.partition.max.record.locks", "100")
        .await;
    client
        .configure("share.renew.acknowledge.enable", "false")
        .await;
    client.acquire("a", partition, (0, 99)).await;
    let positions = ShareRequest::Positions {
        partitions: vec![partition],
    };
    let answer = client.share(positions).await;
    assert!(
        matches!(answer, Ok(ShareAnswer::Positions { positions, .. }) if positions == [Position::Full])
    );
    let (release, renew) = (Acknowledgement::Release, Acknowledgement::Renew);
    let renewed = client.acknowledge("a", partition, (0, 99), renew).await;
    assert_eq!(renewed, Err(GroupError::InvalidRecordState));
    client
        .acknowledge("a", partition, (0, 99), release)
        .await
        .unwrap();

    let broker = open(Arc::new(store.crash(1))).await;
    let mut client = Client::new(&broker);
    match client.group(GroupRequest::Settings).await {
        Ok(GroupAnswer::Settings(given)) => assert_eq!(given.len(), 3),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.acquire("a", partition, (0, 9)).await, [(0, 9, 2)]);
    client
        .acknowledge("a", partition, (0, 9), release)
        .await
        .unwrap();
    assert_eq!(client.start().await, 10, "delivered twice is enough");
    let reset = GroupRequest::Configure {
        settings: Vec::new(),
        replaces: true,
        validate_only: false,
    };
    client.group(reset).await.unwrap();
    client.acquire("a", partition, (10, 19)).await;
    client
        .acknowledge("a", partition, (10, 19), release)
        .await
        .unwrap();
    assert_eq!(client.start().await, 10, "five times are allowed again");
}

/// Kafka ends the share session of a connection that breaks, and has others get what its member had.
#[tokio::test]
async fn a_broken_connection_gives_back_what_its_member_had() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut other = Client::new(&broker);
    let partition = other.begin().await;
    let mut client = Client::new(&broker);
    assert_eq!(client.acquire("a", partition, (0, 9)).await, [(0, 9, 1)]);
    let mut again = Client::new(&broker);
    assert_eq!(again.acquire("a", partition, (10, 19)).await, [(10, 19, 1)]);
    drop(client);
    assert_eq!(
        other.acquire("b", partition, (0, 19)).await,
        [],
        "the member goes on behind another connection"
    );
    drop(again);
    for _ in 0..1000 {
        let acquired = other.acquire("b", partition, (0, 19)).await;
        if !acquired.is_empty() {
            assert_eq!(acquired, [(0, 19, 2)]);
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("not given back");
}

/// KIP-1191: what is given up arrives once in the dead-letter log, whenever the broker goes down.
#[tokio::test]
async fn each_dead_letter_arrives_once_over_crashes() {
    for seed in 0..20 {
        let mut store = Arc::new(MemoryStore::new());
        let mut broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        client
            .configure("errors.deadletterqueue.topic.name", "dead")
            .await;
        client.log("dead", log(2, &[])).await.expect("it is new");
        let partition = client.begin().await;
        client.acquire("a", partition, (0, 9)).await;
        let reject = Acknowledgement::Reject;
        client
            .acknowledge("a", partition, (0, 3), reject)
            .await
            .unwrap();
        client
            .acknowledge("a", partition, (5, 9), reject)
            .await
            .unwrap();
        for crash in 0..3 {
            for _ in 0..seed {
                tokio::task::yield_now().await;
            }
            store = Arc::new(store.crash(seed * 3 + crash));
            broker = open(store.clone()).await;
            client = Client::new(&broker);
        }
        let accept = Acknowledgement::Accept;
        client.acquire("a", partition, (0, 9)).await;
        client
            .acknowledge("a", partition, (4, 4), accept)
            .await
            .unwrap();
        for _ in 0..10_000 {
            if client.start().await == 10 {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(client.start().await, 10, "seed {seed}: all are done with");
        let end = client.offset("dead", OffsetSpec::Latest).await;
        assert_eq!(end, Some(9), "seed {seed}: one dead letter for each");
    }
}

#[tokio::test]
async fn without_its_dead_letter_log_a_group_goes_on() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client
        .configure("errors.deadletterqueue.topic.name", "missing")
        .await;
    let partition = client.begin().await;
    client.acquire("a", partition, (0, 9)).await;
    let reject = Acknowledgement::Reject;
    client
        .acknowledge("a", partition, (0, 9), reject)
        .await
        .unwrap();
    for _ in 0..10_000 {
        if client.start().await == 10 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("its start does not move");
}

/// A client that closes leaves the group and acknowledges what it has, over two connections: in any order.
#[tokio::test]
async fn a_member_that_has_left_still_decides_about_what_it_has() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let partition = client.begin().await;
    for epoch in [0, -1] {
        let told = client.share(heartbeat(epoch)).await;
        assert!(matches!(told, Ok(ShareAnswer::Heartbeat(_))), "{told:?}");
        if epoch == 0 {
            client.acquire("a", partition, (0, 4)).await;
        }
    }
    let accept = Acknowledgement::Accept;
    assert_eq!(
        client.acknowledge("a", partition, (0, 4), accept).await,
        Ok(())
    );
}
