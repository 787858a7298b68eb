//! Transactions over links (KIP-98, KIP-890): partitions and group offsets, all or nothing.

mod support;

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use support::{
    Client, advance,
    logs::{Producer, batch, from, log, values},
    open,
};
use trivium_core::{
    Aborted, Broker, Command, Event, Fetch, Fetched, Isolation, Offset, OffsetSpec, Refusal, Reply,
    Text, Visible,
    group::{
        CommittedOffset, ConsumerHeartbeat, GroupAnswer, GroupError, GroupReply, GroupRequest,
    },
    store::memory::MemoryStore,
    transaction::{
        OffsetsInTransaction, ProducerIdentity, TransactionAnswer, TransactionError,
        TransactionInfo, TransactionPart, TransactionReply, TransactionRequest,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// A batch of a producer's transaction.
fn part(values: &[&str], producer: ProducerIdentity, sequence: i32) -> Bytes {
    let idempotent = Producer {
        id: producer.id,
        sequence,
    };
    let mut bytes = BytesMut::from(batch(values, Some(idempotent)));
    (&mut bytes[21..23]).put_i16(0x10);
    (&mut bytes[51..53]).put_i16(producer.epoch);
    let crc = crc32c::crc32c(&bytes[21..]);
    (&mut bytes[17..21]).put_u32(crc);
    bytes.freeze()
}

impl Client {
    async fn transaction(&mut self, request: TransactionRequest) -> TransactionReply {
        let id = Text::from_static("tx");
        let command = |token| Command::Transaction { token, id, request };
        match self.ask(command).await {
            Ok(Reply::Transaction(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    async fn init(&mut self) -> ProducerIdentity {
        identity(self.transaction(init(MINUTE)).await)
    }

    async fn end(&mut self, producer: ProducerIdentity, commit: bool) -> ProducerIdentity {
        identity(self.transaction(end(producer, commit)).await)
    }

    /// Appends as a producer of Kafka 4: the partition becomes part of the transaction.
    async fn write(
        &mut self,
        partition: u32,
        producer: ProducerIdentity,
        sequence: i32,
        values: &[&str],
    ) -> Result<u64, Refusal> {
        let batch = part(values, producer, sequence);
        let command = |token| Command::Append {
            id: None,
            token,
            log: "t".into(),
            partition,
            batch,
            transaction: Some(TransactionPart {
                id: "tx".into(),
                implicit: true,
            }),
        };
        match self.ask(command).await? {
            Reply::Appended { base, .. } => Ok(base.0),
            Reply::NotAppended { refusal, .. } => Err(*refusal),
            other => panic!("{other:?}"),
        }
    }

    async fn part_of(&mut self, partition: u32, offset: u64, isolation: Isolation) -> Fetched {
        let token = self.token();
        let fetch = Fetch {
            partitions: vec![from("t", partition, offset)],
            min_bytes: 0,
            max_bytes: 1 << 20,
            wait: Duration::ZERO,
            isolation,
        };
        self.submit(Command::Fetch { token, fetch }).await;
        self.expect(|event| match event {
            Event::Fetched {
                token: done,
                partitions,
            } if *done == token => Some(partitions.remove(0)),
            _ => None,
        })
        .await
    }

    /// What an application of a reader of committed records gets to see.
    async fn committed(&mut self, partition: u32) -> Vec<String> {
        let fetched = self.part_of(partition, 0, Isolation::Committed).await;
        let mut visible = Visible::new(&fetched.aborted);
        let batches = fetched.result.expect("the log is there");
        let shown = batches.iter().filter(|batch| visible.shows(batch));
        shown.flat_map(values).collect()
    }

    async fn group(&mut self, request: GroupRequest) -> Result<GroupReply, Refusal> {
        let group = Text::from_static("g");
        let command = |token| Command::Group {
            token,
            group,
            request,
        };
        match self.ask(command).await? {
            Reply::Group(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    async fn commit_offset(
        &mut self,
        producer: ProducerIdentity,
        offset: u64,
    ) -> Result<GroupReply, Refusal> {
        let commit = OffsetsInTransaction {
            id: "tx".into(),
            producer,
            implicit: true,
            generation: -1,
            member: Text::new(),
            instance: None,
            offsets: vec![CommittedOffset {
                log: "t".into(),
                partition: 0,
                offset: Offset(offset),
                leader_epoch: -1,
                metadata: Text::new(),
            }],
        };
        self.group(GroupRequest::CommitInTransaction(Box::new(commit)))
            .await
    }

    /// The offset of the group, and whether a transaction is about to replace it.
    async fn group_offset(&mut self) -> (Option<u64>, bool) {
        let request = GroupRequest::Offsets {
            partitions: Some(vec![("t".into(), 0)]),
            require_stable: true,
            member: None,
        };
        match self.group(request).await {
            Ok(Ok(GroupAnswer::Offsets { offsets, unstable })) => {
                let offset = offsets.first().map(|offset| offset.offset.0);
                (offset, !unstable.is_empty())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn describe_transaction(&mut self) -> TransactionInfo {
        match self.transaction(TransactionRequest::Describe).await {
            Ok(TransactionAnswer::Described(info)) => info,
            other => panic!("{other:?}"),
        }
    }
}

fn init(timeout: Duration) -> TransactionRequest {
    TransactionRequest::Init {
        timeout,
        expected: None,
    }
}

fn end(producer: ProducerIdentity, commit: bool) -> TransactionRequest {
    TransactionRequest::End {
        producer,
        commit,
        renew: true,
    }
}

fn identity(reply: TransactionReply) -> ProducerIdentity {
    match reply {
        Ok(TransactionAnswer::Producer(producer)) => producer,
        other => panic!("{other:?}"),
    }
}

/// A broker, which lives as long as it is held, and a client that has made a log.
async fn begin(store: &Arc<MemoryStore>) -> (Broker, Client) {
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.log("t", log(3, &[])).await.expect("it is new");
    (broker, client)
}

/// KIP-98: what is written becomes visible in all partitions at once, with the offsets of the group.
#[tokio::test]
async fn a_commit_shows_all_partitions_and_offsets_at_once() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let producer = client.init().await;
    for partition in 0..3 {
        assert_eq!(
            client.write(partition, producer, 0, &["a", "b"]).await,
            Ok(0)
        );
    }
    assert!(client.commit_offset(producer, 7).await.unwrap().is_ok());
    assert_eq!(client.group_offset().await, (None, true));
    assert_eq!(client.describe_transaction().await.state, "Ongoing");
    for partition in 0..3 {
        assert!(client.committed(partition).await.is_empty());
        let fetched = client.part_of(partition, 0, Isolation::Uncommitted).await;
        assert_eq!(fetched.result.unwrap().len(), 1);
        assert_eq!(
            (fetched.last_stable, fetched.high_watermark),
            (Offset(0), Offset(2))
        );
    }
    let next = client.end(producer, true).await;
    assert_eq!((next.id, next.epoch), (producer.id, producer.epoch + 1));
    for partition in 0..3 {
        assert_eq!(client.committed(partition).await, ["a", "b"]);
        let fetched = client.part_of(partition, 0, Isolation::Committed).await;
        // The marker has an offset of its own.
        assert_eq!(
            (fetched.last_stable, fetched.high_watermark),
            (Offset(3), Offset(3))
        );
        assert_eq!(fetched.result.unwrap().len(), 2);
    }
    assert_eq!(client.group_offset().await, (Some(7), false));
    assert_eq!(client.describe_transaction().await.state, "CompleteCommit");
    // KIP-890: the next transaction begins with the new epoch and sequence number 0.
    assert_eq!(client.write(0, next, 0, &["c"]).await, Ok(3));
    client.end(next, true).await;
    assert_eq!(client.committed(0).await, ["a", "b", "c"]);
}

/// KIP-98: aborted transactions are named to readers, by first offset, and their offsets are dropped.
#[tokio::test]
async fn an_abort_hides_all_of_it() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let mut producer = client.init().await;
    client
        .append("t", 0, batch(&["before"], None))
        .await
        .unwrap();
    client.write(0, producer, 0, &["x"]).await.unwrap();
    client.commit_offset(producer, 7).await.unwrap().unwrap();
    client
        .append("t", 0, batch(&["between"], None))
        .await
        .unwrap();
    assert_eq!(client.committed(0).await, ["before"]);
    producer = client.end(producer, false).await;
    assert_eq!(client.committed(0).await, ["before", "between"]);
    assert_eq!(client.group_offset().await, (None, false));
    client.write(0, producer, 0, &["y"]).await.unwrap();
    producer = client.end(producer, false).await;
    client.write(0, producer, 0, &["z"]).await.unwrap();
    client.end(producer, true).await;
    assert_eq!(client.committed(0).await, ["before", "between", "z"]);
    let aborted = |first| Aborted {
        producer: producer.id,
        first: Offset(first),
    };
    let read = |fetched: Fetched| fetched.aborted;
    let all = client.part_of(0, 0, Isolation::Committed).await;
    assert_eq!(read(all), [aborted(1), aborted(4)]);
    let later = client.part_of(0, 4, Isolation::Committed).await;
    assert_eq!(read(later), [aborted(4)]);
    // Beyond the last abort, nothing is looked up.
    assert_eq!(read(client.part_of(0, 6, Isolation::Committed).await), []);
}

/// KIP-98: two producers with overlapping transactions; the one that began first and aborts last is named first.
#[tokio::test]
async fn aborted_transactions_are_sorted_by_first_offset() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let first = client.init().await;
    let named = |request| {
        |token| Command::Transaction {
            token,
            id: "other".into(),
            request,
        }
    };
    let second = match client.ask(named(init(MINUTE))).await {
        Ok(Reply::Transaction(reply)) => identity(reply),
        other => panic!("{other:?}"),
    };
    client.write(0, first, 0, &["x"]).await.unwrap();
    let batch = part(&["y"], second, 0);
    let transaction = Some(TransactionPart {
        id: "other".into(),
        implicit: true,
    });
    let append = |token| Command::Append {
        id: None,
        token,
        log: "t".into(),
        partition: 0,
        batch,
        transaction,
    };
    client.ask(append).await.unwrap();
    client.ask(named(end(second, false))).await.unwrap();
    assert!(
        client.committed(0).await.is_empty(),
        "the first is still open"
    );
    client.end(first, false).await;
    let aborted = client.part_of(0, 0, Isolation::Committed).await.aborted;
    let ids: Vec<_> = aborted.iter().map(|it| (it.producer, it.first.0)).collect();
    assert_eq!(ids, [(first.id, 0), (second.id, 1)]);
    assert!(client.committed(0).await.is_empty());
}

/// All that was acknowledged survives, and what was open is open again: it can be ended by its producer.
#[tokio::test]
async fn transactions_survive_a_crash() {
    for seed in 0..4 {
        let store = Arc::new(MemoryStore::new());
        let (_broker, mut client) = begin(&store).await;
        let mut producer = client.init().await;
        client.write(0, producer, 0, &["x"]).await.unwrap();
        producer = client.end(producer, false).await;
        client.write(1, producer, 0, &["a"]).await.unwrap();
        client.write(2, producer, 0, &["b"]).await.unwrap();
        client.commit_offset(producer, 3).await.unwrap().unwrap();
        let store = Arc::new(store.crash(seed));
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        let info = client.describe_transaction().await;
        assert_eq!((info.state, info.producer), ("Ongoing", producer));
        assert_eq!(info.partitions, [("t".into(), 1), ("t".into(), 2)]);
        assert_eq!(client.group_offset().await, (None, true));
        assert!(client.committed(1).await.is_empty());
        assert!(client.committed(0).await.is_empty(), "aborted before");
        client.end(producer, true).await;
        let broker = open(Arc::new(store.crash(seed))).await;
        let mut client = Client::new(&broker);
        assert_eq!(client.committed(1).await, ["a"]);
        assert_eq!(client.committed(2).await, ["b"]);
        assert_eq!(client.group_offset().await, (Some(3), false));
        assert_eq!(client.describe_transaction().await.state, "CompleteCommit");
    }
}

/// KIP-98: a new producer with the same transactional id fences the old one and aborts what it left open.
#[tokio::test]
async fn a_new_producer_fences_the_old_one() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let old = client.init().await;
    client.write(0, old, 0, &["x"]).await.unwrap();
    let new = client.init().await;
    assert_eq!((new.id, new.epoch), (old.id, old.epoch + 1));
    let fenced = Err(Refusal::Transaction(TransactionError::Fenced));
    assert_eq!(client.write(0, old, 1, &["late"]).await, fenced);
    let refused = client.transaction(end(old, true)).await;
    assert_eq!(refused, Err(TransactionError::Fenced));
    client.write(0, new, 0, &["y"]).await.unwrap();
    client.end(new, true).await;
    assert_eq!(client.committed(0).await, ["y"]);
}

/// KIP-890: the answer to the end was lost. The same end again says the same; another is refused.
#[tokio::test]
async fn an_end_may_be_repeated() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let producer = client.init().await;
    client.write(0, producer, 0, &["a"]).await.unwrap();
    let next = client.end(producer, true).await;
    assert_eq!(client.end(producer, true).await, next);
    let other = client.transaction(end(producer, false)).await;
    assert_eq!(other, Err(TransactionError::InvalidState));
    // An abort of what never began is taken, a commit is not.
    let refused = client.transaction(end(next, true)).await;
    assert_eq!(refused, Err(TransactionError::InvalidState));
    assert_eq!(client.end(next, false).await.epoch, next.epoch + 1);
    assert_eq!(client.committed(0).await, ["a"]);
}

/// `transaction.timeout.ms`: the coordinator aborts, and the late commit is refused for its epoch.
#[tokio::test]
async fn a_transaction_whose_time_is_up_is_aborted() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let longest = client.transaction(init(Duration::from_secs(901))).await;
    assert_eq!(longest, Err(TransactionError::InvalidTimeout));
    let none = client.transaction(init(Duration::ZERO)).await;
    assert_eq!(none, Err(TransactionError::InvalidTimeout));
    let producer = client.init().await;
    client.write(0, producer, 0, &["x"]).await.unwrap();
    advance(MINUTE + MINUTE);
    // Whatever the coordinator is asked has it look at its clock.
    while client.describe_transaction().await.state != "CompleteAbort" {
        tokio::task::yield_now().await;
    }
    let late = client.transaction(end(producer, true)).await;
    assert_eq!(late, Err(TransactionError::TimedOut));
    let write = client.write(0, producer, 1, &["y"]).await;
    assert_eq!(write, Err(Refusal::Transaction(TransactionError::TimedOut)));
    assert!(client.committed(0).await.is_empty());
    let fetched = client.part_of(0, 0, Isolation::Committed).await;
    assert_eq!(fetched.last_stable, fetched.high_watermark);
}

/// Before KIP-890 a partition must be added first, and the epoch stays.
#[tokio::test]
async fn without_implicit_parts_what_was_not_added_is_refused() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let producer = client.init().await;
    let append = |sequence| {
        let batch = part(&["a"], producer, sequence);
        move |token| Command::Append {
            id: None,
            token,
            log: "t".into(),
            partition: 0,
            batch,
            transaction: Some(TransactionPart {
                id: "tx".into(),
                implicit: false,
            }),
        }
    };
    let refused = client.ask(append(0)).await.unwrap_err();
    assert_eq!(refused, Refusal::Transaction(TransactionError::NotAdded));
    let add = |partition| TransactionRequest::AddPartitions {
        producer,
        partitions: vec![("t".into(), 0), ("t".into(), partition)],
        verify_only: false,
    };
    let Ok(TransactionAnswer::Added(results)) = client.transaction(add(9)).await else {
        panic!("answered per partition")
    };
    assert!(results.iter().all(Result::is_err), "all or none");
    let added = client.transaction(add(1)).await;
    assert_eq!(added, Ok(TransactionAnswer::Added(vec![Ok(()), Ok(())])));
    client.ask(append(0)).await.unwrap();
    let keep = TransactionRequest::End {
        producer,
        commit: true,
        renew: false,
    };
    assert_eq!(identity(client.transaction(keep.clone()).await), producer);
    assert_eq!(
        identity(client.transaction(keep).await),
        producer,
        "repeated"
    );
    // Kafka writes the marker to every partition that was added.
    let untouched = client.part_of(1, 0, Isolation::Committed).await;
    assert_eq!(untouched.high_watermark, Offset(1));
    let late = client.ask(append(1)).await.unwrap_err();
    assert_eq!(late, Refusal::Transaction(TransactionError::NotAdded));
}

/// ListOffsets with isolation: the latest that a reader of committed records may read.
#[tokio::test]
async fn the_end_for_committed_readers_is_the_last_stable_offset() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let producer = client.init().await;
    client.append("t", 0, batch(&["a"], None)).await.unwrap();
    client.write(0, producer, 0, &["b"]).await.unwrap();
    for (isolation, expected) in [(Isolation::Committed, 1), (Isolation::Uncommitted, 2)] {
        let find = |token| Command::FindOffset {
            token,
            log: "t".into(),
            partition: 0,
            at: OffsetSpec::Latest,
            isolation,
        };
        match client.ask(find).await {
            Ok(Reply::Offset { found, .. }) => {
                assert_eq!(found.map(|(offset, _)| offset.0), Some(expected));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A member that is not in the group's generation cannot hand in offsets.
#[tokio::test]
async fn offsets_of_strangers_are_refused() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let producer = client.init().await;
    let commit = OffsetsInTransaction {
        id: "tx".into(),
        producer,
        implicit: true,
        generation: 3,
        member: "nobody".into(),
        instance: None,
        offsets: Vec::new(),
    };
    let reply = client
        .group(GroupRequest::CommitInTransaction(Box::new(commit)))
        .await;
    assert_eq!(reply.unwrap().unwrap_err(), GroupError::IllegalGeneration);
}

/// Older producers do not say who consumed (KAFKA-18060): that holds for groups with members too, in transactions only.
#[tokio::test]
async fn offsets_without_a_member_are_taken_in_a_transaction() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let join = ConsumerHeartbeat {
        member: "m".into(),
        rebalance_timeout: Some(std::time::Duration::from_secs(60)),
        names: Some(vec!["t".into()]),
        owned: Some(Default::default()),
        ..Default::default()
    };
    let joined = client
        .group(GroupRequest::ConsumerHeartbeat(Box::new(join)))
        .await;
    assert!(joined.unwrap().is_ok());
    let producer = client.init().await;
    assert!(client.commit_offset(producer, 4).await.unwrap().is_ok());
    let outside = GroupRequest::Commit {
        generation: -1,
        member: Text::new(),
        instance: None,
        knows_member_epochs: true,
        offsets: Vec::new(),
    };
    let refused = client.group(outside).await.unwrap();
    assert_eq!(refused.unwrap_err(), GroupError::UnknownMember);
}

/// `kafka-transactions abort`: an administrator ends what a producer has open in a partition.
#[tokio::test]
async fn an_administrator_may_write_the_marker() {
    let store = Arc::new(MemoryStore::new());
    let (_broker, mut client) = begin(&store).await;
    let producer = client.init().await;
    client.write(0, producer, 0, &["x"]).await.unwrap();
    let producers = |token| Command::DescribeProducers {
        token,
        log: "t".into(),
        partition: 0,
    };
    let Ok(Reply::Producers(found)) = client.ask(producers).await else {
        panic!("the partition is there")
    };
    assert_eq!((found[0].id, found[0].open), (producer.id, Some(Offset(0))));
    let mark = |token| Command::WriteMarker {
        token,
        log: "t".into(),
        partition: 0,
        producer,
        commit: false,
    };
    client.ask(mark).await.unwrap();
    let fetched = client.part_of(0, 0, Isolation::Committed).await;
    assert_eq!((fetched.last_stable, fetched.aborted.len()), (Offset(2), 1));
}
