//! Seeded random operations on logs, groups and the tap against a naive model, with crashes.
//!
//! `TRIVIUM_SEEDS=from..to` runs other seeds than the default ones.

mod support;

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use support::{
    Client,
    logs::{Producer, batch, log},
    open,
};
use trivium_core::{
    Broker, Command, Offset, Refusal, Reply, Text, Token,
    group::{CommittedOffset, GroupAnswer, GroupRequest},
    store::memory::MemoryStore,
};

const LOGS: usize = 3;
const PARTITIONS: u32 = 2;
const GROUPS: usize = 2;
const STEPS: usize = 150;

/// What a log should hold.
#[derive(Default)]
struct Naive {
    partitions: [Vec<String>; PARTITIONS as usize],
    producer: [NaiveProducer; PARTITIONS as usize],
}

/// The idempotent producer of a partition.
#[derive(Default)]
struct NaiveProducer {
    /// The sequence number that its next batch gets.
    sequence: i32,
    /// Its last batch and where it went.
    last: Option<(Vec<String>, u64)>,
}

struct World {
    rng: SmallRng,
    store: Arc<MemoryStore>,
    broker: Broker,
    client: Client,
    logs: Vec<Option<Naive>>,
    /// What the tap owes to the queue that is bound to each log's name, or gave.
    queues: Vec<BTreeMap<String, u32>>,
    offsets: BTreeMap<(usize, usize), u64>,
    producer: i64,
    written: u64,
}

fn name(log: usize) -> String {
    format!("log.{log}")
}

fn queue(log: usize) -> String {
    format!("q{log}")
}

impl World {
    async fn new(seed: u64) -> World {
        let store = Arc::new(MemoryStore::new());
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        for log in 0..LOGS {
            client.queue(&queue(log)).await;
            // Twice, and still each message comes once.
            client.bind("amq.topic", &name(log), &queue(log)).await;
            client
                .bind("amq.topic", &format!("log.{log}.#"), &queue(log))
                .await;
        }
        let mut world = World {
            rng: SmallRng::seed_from_u64(seed),
            store,
            broker,
            client,
            logs: (0..LOGS).map(|_| None).collect(),
            queues: (0..LOGS).map(|_| BTreeMap::new()).collect(),
            offsets: BTreeMap::new(),
            producer: 0,
            written: 0,
        };
        world.init_producer().await;
        for log in 0..LOGS {
            world.create(log).await;
        }
        world
    }

    async fn init_producer(&mut self) {
        match self
            .client
            .ask(|token| Command::InitProducer { token })
            .await
        {
            Ok(Reply::Producer { id, .. }) => self.producer = id,
            other => panic!("{other:?}"),
        }
    }

    async fn step(&mut self) {
        let log = self.rng.random_range(0..LOGS);
        match self.rng.random_range(0..100) {
            0..25 => self.append(log).await,
            25..45 => self.produce(log).await,
            45..65 => self.publish(log).await,
            65..75 => self.commit(log).await,
            75..90 => self.read(log).await,
            90..93 => self.delete(log).await,
            93..97 => self.create(log).await,
            97..98 => self.crash().await,
            _ => self.take(log).await,
        }
    }

    fn values(&mut self) -> Vec<String> {
        let count = self.rng.random_range(1..5);
        let values = (0..count).map(|at| format!("{} {}", self.written + at, "x".repeat(50)));
        let values = values.collect();
        self.written += count;
        values
    }

    fn partition(&mut self) -> usize {
        self.rng.random_range(0..PARTITIONS) as usize
    }

    fn owe(&mut self, log: usize, values: &[String]) {
        for value in values {
            *self.queues[log].entry(value.clone()).or_default() += 1;
        }
    }

    /// Appends a batch, now and then without waiting for those before.
    async fn append(&mut self, log: usize) {
        let partition = self.partition();
        let mut asked: Vec<(Token, Vec<String>)> = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let values = self.values();
            let token = self.client.token();
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let append = Command::Append {
                id: None,
                token,
                log: name(log).as_str().into(),
                partition: partition as u32,
                batch: batch(&texts, None),
                transaction: None,
            };
            self.client.submit(append).await;
            asked.push((token, values));
        }
        for (token, values) in asked {
            let result = self.client.done(token).await;
            let Some(naive) = &mut self.logs[log] else {
                assert!(
                    matches!(result, Err(Refusal::NotFound { .. })),
                    "{result:?}"
                );
                continue;
            };
            let records = &mut naive.partitions[partition];
            match result {
                Ok(Reply::Appended { base, .. }) => assert_eq!(base.0, records.len() as u64),
                other => panic!("{other:?}"),
            }
            records.extend(values.iter().cloned());
            self.owe(log, &values);
        }
    }

    /// An idempotent producer's batch, sometimes the last one once more.
    async fn produce(&mut self, log: usize) {
        let partition = self.partition();
        let again = self.rng.random_bool(0.3);
        let values = self.values();
        let id = self.producer;
        let Some(naive) = &mut self.logs[log] else {
            return;
        };
        let NaiveProducer { sequence, last } = &mut naive.producer[partition];
        let (values, sequence, expected) = match last {
            Some((values, base)) if again => {
                let first = *sequence - values.len() as i32;
                (values.clone(), first, *base)
            }
            _ => {
                let base = naive.partitions[partition].len() as u64;
                let first = *sequence;
                *sequence += values.len() as i32;
                *last = Some((values.clone(), base));
                naive.partitions[partition].extend(values.iter().cloned());
                self.owe(log, &values);
                (values, first, base)
            }
        };
        let texts: Vec<&str> = values.iter().map(String::as_str).collect();
        let numbered = batch(&texts, Some(Producer { id, sequence }));
        let base = self
            .client
            .append(&name(log), partition as u32, numbered)
            .await;
        assert_eq!(base, Ok(expected));
    }

    /// By the exchange: the log captures it, the queue gets it by its binding. By the default exchange:
    /// only the log gets it, and the tap brings it to the queue.
    async fn publish(&mut self, log: usize) {
        let exchange = ["amq.topic", ""][self.rng.random_range(0..2)];
        let value = self.values().remove(0);
        self.client.publish(exchange, &name(log), &value).await;
        let Some(_) = &self.logs[log] else {
            if !exchange.is_empty() {
                self.owe(log, &[value]);
            }
            return;
        };
        self.owe(log, std::slice::from_ref(&value));
        // The partition is the broker's choice, and for one key and publisher always the same.
        for partition in 0..PARTITIONS {
            let records = self.client.read(&name(log), partition, 0).await;
            let naive = self.logs[log].as_mut().expect("the log is there");
            let known = &mut naive.partitions[partition as usize];
            if records.len() > known.len() {
                known.push(value.clone());
            }
            assert_eq!(records, *known, "{}-{partition}", name(log));
        }
    }

    async fn read(&mut self, log: usize) {
        let partition = self.partition();
        let Some(naive) = &self.logs[log] else {
            return;
        };
        let known = &naive.partitions[partition];
        let from = self.rng.random_range(0..=known.len());
        let read = self
            .client
            .read(&name(log), partition as u32, from as u64)
            .await;
        assert_eq!(read, known[from..], "{}-{partition} from {from}", name(log));
    }

    async fn commit(&mut self, log: usize) {
        let group = self.rng.random_range(0..GROUPS);
        let offset = self.rng.random_range(0..1000);
        let offsets = vec![CommittedOffset {
            log: name(log).as_str().into(),
            partition: 0,
            offset: Offset(offset),
            leader_epoch: -1,
            metadata: Text::new(),
        }];
        let request = GroupRequest::Commit {
            generation: -1,
            member: Text::new(),
            instance: None,
            knows_member_epochs: true,
            offsets,
        };
        self.group(group, request).await;
        self.offsets.insert((group, log), offset);
        self.check_offsets(group).await;
    }

    async fn group(&mut self, group: usize, request: GroupRequest) -> GroupAnswer {
        let group = format!("g{group}").as_str().into();
        let answer = self
            .client
            .ask(|token| Command::Group {
                token,
                group,
                request,
            })
            .await;
        match answer {
            Ok(Reply::Group(Ok(answer))) => answer,
            other => panic!("{other:?}"),
        }
    }

    async fn check_offsets(&mut self, group: usize) {
        let asked = GroupRequest::Offsets {
            partitions: None,
            require_stable: false,
            member: None,
        };
        let GroupAnswer::Offsets { offsets: found, .. } = self.group(group, asked).await else {
            panic!("offsets were asked for");
        };
        let found: Vec<_> = found
            .into_iter()
            .map(|found| (found.log.to_string(), found.offset.0))
            .collect();
        let known: Vec<_> = self
            .offsets
            .iter()
            .filter(|((of, _), _)| *of == group)
            .map(|((_, log), offset)| (name(*log), *offset))
            .collect();
        assert_eq!(found, known, "offsets of g{group}");
    }

    async fn delete(&mut self, log: usize) {
        // What is not tapped yet goes with the log.
        self.settle(log).await;
        let deleted = self.client.delete_log(&name(log)).await;
        assert_eq!(deleted.is_ok(), self.logs[log].is_some());
        if self.logs[log].take().is_some() {
            self.offsets.retain(|(_, of), _| *of != log);
        }
        for group in 0..GROUPS {
            self.check_offsets(group).await;
        }
    }

    async fn create(&mut self, log: usize) {
        let created = self.client.log(&name(log), log_spec()).await;
        assert_eq!(created.is_ok(), self.logs[log].is_none());
        self.logs[log].get_or_insert_default();
    }

    /// Waits until the queue of a log has all that it is owed.
    async fn settle(&mut self, log: usize) {
        let owed: u64 = self.queues[log]
            .values()
            .map(|count| u64::from(*count))
            .sum();
        let all = async {
            while self.client.queue(&queue(log)).await.0 < owed {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(support::PATIENCE, all)
            .await
            .expect("the tap offers what was appended");
    }

    /// Takes everything out of a queue: each record and publish once.
    async fn take(&mut self, log: usize) {
        self.settle(log).await;
        let mut got = BTreeMap::new();
        while let Some(body) = self.client.get(&queue(log)).await {
            *got.entry(body).or_default() += 1;
        }
        assert_eq!(got, std::mem::take(&mut self.queues[log]), "{}", queue(log));
    }

    /// Everything that was answered is there afterwards; what the tap still owes comes then.
    async fn crash(&mut self) {
        for _ in 0..self.rng.random_range(0..10) {
            tokio::task::yield_now().await;
        }
        // Settlements of what was taken are not answered: they are durable with the next commit of the queue.
        for log in 0..LOGS {
            self.client
                .publish("", &queue(log), &format!("barrier {}", self.written))
                .await;
            self.owe(log, &[format!("barrier {}", self.written)]);
        }
        let seed = self.rng.next_u64();
        self.store = Arc::new(self.store.crash(seed));
        self.broker = open(self.store.clone()).await;
        self.client = Client::new(&self.broker);
        for log in 0..LOGS {
            for partition in 0..PARTITIONS {
                let Some(naive) = &self.logs[log] else {
                    continue;
                };
                let read = self.client.read(&name(log), partition, 0).await;
                assert_eq!(read, naive.partitions[partition as usize]);
            }
        }
        for group in 0..GROUPS {
            self.check_offsets(group).await;
        }
        for log in 0..LOGS {
            self.take(log).await;
        }
    }
}

fn log_spec() -> trivium_core::LogSpec {
    log(PARTITIONS, &[])
}

impl Client {
    async fn done(&mut self, token: Token) -> Result<Reply, Refusal> {
        self.expect(|event| match event {
            trivium_core::Event::Done {
                token: done,
                result,
            } if *done == token => Some(std::mem::replace(result, Ok(Reply::Ok))),
            _ => None,
        })
        .await
    }
}

#[test]
fn logs_groups_and_the_tap_agree_with_the_model() {
    support::for_each_seed(0..60, |seed| async move {
        let mut world = World::new(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        for log in 0..LOGS {
            world.take(log).await;
        }
    });
}
