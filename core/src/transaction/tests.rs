//! What the coordinator decides, by scripts and by a model.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Coordinator, ProducerIdentity, TransactionError,
    coordinator::{Change, Decision, Name},
};
use crate::{
    id::LogId,
    properties::Text,
    time::{Now, Timestamp},
};

const MINUTE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "somewhere to count from")]
fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: Timestamp(1_000_000),
    }
}

fn later(now: Now, time: Duration) -> Now {
    Now {
        instant: now.instant + time,
        wall: now.wall.after(time),
    }
}

fn name() -> Name {
    ("/".into(), "tx".into())
}

fn change(decision: Result<Decision, TransactionError>) -> Change {
    match decision {
        Ok(Decision::Change(change)) => *change,
        other => panic!("{other:?}"),
    }
}

/// A coordinator whose changes are durable at once.
struct World {
    now: Now,
    coordinator: Coordinator,
    fresh: i64,
}

impl World {
    fn new() -> World {
        World {
            now: now(),
            coordinator: Coordinator::new(),
            fresh: 100,
        }
    }

    fn init(
        &mut self,
        expected: Option<ProducerIdentity>,
    ) -> Result<(ProducerIdentity, bool), TransactionError> {
        self.fresh += 1;
        let fresh = self.fresh;
        let decision = self
            .coordinator
            .init(self.now, &name(), MINUTE, expected, || fresh)?;
        Ok(self.carry_out(decision))
    }

    fn end(
        &mut self,
        producer: ProducerIdentity,
        commit: bool,
    ) -> Result<(ProducerIdentity, bool), TransactionError> {
        self.fresh += 1;
        let fresh = self.fresh;
        let decision = self
            .coordinator
            .end(self.now, &name(), producer, commit, true, || fresh)?;
        Ok(self.carry_out(decision))
    }

    /// Who the producer is, and whether a transaction ended.
    fn carry_out(&mut self, decision: Decision) -> (ProducerIdentity, bool) {
        match decision {
            Decision::Known(producer) => (producer, false),
            Decision::Change(change) => {
                let told = (change.producer, change.ends.is_some());
                self.coordinator.settle(*change);
                told
            }
        }
    }

    fn write(
        &mut self,
        producer: ProducerIdentity,
        partition: u32,
    ) -> Result<u64, TransactionError> {
        let log = Text::from_static("t");
        let partition = (LogId(1), partition);
        self.coordinator
            .admit(self.now, &name(), producer, partition, &log, true)
    }
}

/// KIP-890: the last epoch is for the marker; then there is a new producer id.
#[test]
fn epochs_run_out_into_a_new_id() {
    let mut world = World::new();
    let (mut producer, _) = world.init(None).unwrap();
    let first = producer.id;
    while producer.id == first {
        world.write(producer, 0).unwrap();
        let fresh = || 7;
        let ending = change(
            world
                .coordinator
                .end(world.now, &name(), producer, true, true, fresh),
        );
        let ends = ending.ends.as_ref().unwrap();
        assert_eq!(
            (ends.producer.id, ends.producer.epoch),
            (first, producer.epoch + 1)
        );
        producer = ending.producer;
        world.coordinator.settle(ending);
    }
    assert_eq!(producer, ProducerIdentity { id: 7, epoch: 0 });
    let last = ProducerIdentity {
        id: first,
        epoch: i16::MAX - 1,
    };
    assert_eq!(
        world.end(last, true),
        Ok((producer, false)),
        "the end is repeated"
    );
}

/// KIP-360: a producer that wants its epoch raised, and repeats that because the answer was lost.
#[test]
fn an_epoch_is_raised_once_for_a_producer_that_asks_twice() {
    let mut world = World::new();
    let (producer, _) = world.init(None).unwrap();
    let (raised, _) = world.init(Some(producer)).unwrap();
    assert_eq!(raised.epoch, producer.epoch + 1);
    assert_eq!(world.init(Some(producer)), Ok((raised, false)));
    let stranger = ProducerIdentity { id: 1, epoch: 0 };
    assert_eq!(world.init(Some(stranger)), Err(TransactionError::Fenced));
}

#[test]
fn nothing_is_decided_while_a_change_is_written() {
    let mut world = World::new();
    let (producer, _) = world.init(None).unwrap();
    world.write(producer, 0).unwrap();
    let ending = change(
        world
            .coordinator
            .end(world.now, &name(), producer, true, true, || 7),
    );
    let next = ending.producer;
    assert_eq!(world.write(next, 0), Err(TransactionError::Concurrent));
    assert_eq!(world.end(next, true), Err(TransactionError::Concurrent));
    assert_eq!(world.end(producer, true), Err(TransactionError::Concurrent));
    assert_eq!(world.init(None), Err(TransactionError::Concurrent));
    world.coordinator.settle(ending);
    assert!(world.write(next, 0).is_ok());
}

#[test]
fn a_row_is_read_as_it_was_written() {
    let mut world = World::new();
    let (producer, _) = world.init(None).unwrap();
    world.write(producer, 0).unwrap();
    let ending = change(
        world
            .coordinator
            .end(world.now, &name(), producer, false, true, || 7),
    );
    let mut reopened = Coordinator::new();
    reopened.recover(name(), ending.row()).unwrap();
    let found = reopened.describe(world.now, &name()).unwrap();
    assert_eq!(
        (found.state, found.producer),
        ("CompleteAbort", ending.producer)
    );
}

#[test]
fn ids_that_nobody_uses_are_forgotten() {
    let mut world = World::new();
    let (producer, _) = world.init(None).unwrap();
    assert!(world.coordinator.expire(world.now).is_empty());
    world.now = later(world.now, Duration::from_secs(8 * 24 * 3600));
    assert_eq!(world.coordinator.expire(world.now), [name()]);
    assert_eq!(
        world.write(producer, 0),
        Err(TransactionError::WrongProducer)
    );
}

/// Random producers of one id against a model: only the newest may write, each transaction ends once, with all that
/// was written to it and nothing else.
#[test]
fn only_the_newest_producer_writes_and_each_transaction_ends_once() {
    for seed in 0..300u64 {
        let mut random = seed;
        let mut below = |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(31_337);
            (random >> 33) % bound
        };
        let mut world = World::new();
        let mut known: Vec<ProducerIdentity> = Vec::new();
        let mut newest: Option<ProducerIdentity> = None;
        // What is written to the open transaction.
        let mut open: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..200 {
            let any = known
                .get(below(known.len().max(1) as u64) as usize)
                .copied();
            let ended = match (below(10), any) {
                (0, _) | (_, None) => {
                    let decision = world
                        .coordinator
                        .init(world.now, &name(), MINUTE, None, || seed as i64);
                    Some(change(decision))
                }
                (1..=2, _) => {
                    world.now = later(world.now, Duration::from_secs(25));
                    world.coordinator.time_out(world.now, || 9)
                }
                (3..=5, Some(producer)) => {
                    let commit = below(2) == 0;
                    match world
                        .coordinator
                        .end(world.now, &name(), producer, commit, true, || 9)
                    {
                        Ok(Decision::Change(change)) => {
                            assert_eq!(newest, Some(producer), "seed {seed}");
                            Some(*change)
                        }
                        _ => None,
                    }
                }
                (_, Some(producer)) => {
                    let partition = below(4) as u32;
                    match world.write(producer, partition) {
                        Ok(number) => {
                            assert_eq!(newest, Some(producer), "seed {seed}");
                            assert!(open.values().all(|it| *it == number), "one transaction");
                            open.insert(partition, number);
                        }
                        Err(_) => assert_ne!(newest, Some(producer), "seed {seed}"),
                    }
                    None
                }
            };
            if let Some(change) = ended {
                let parts: Vec<u32> = change
                    .ends
                    .iter()
                    .flat_map(|ends| ends.partitions.iter().map(|(_, number)| *number))
                    .collect();
                assert_eq!(
                    parts,
                    open.keys().copied().collect::<Vec<_>>(),
                    "seed {seed}"
                );
                open.clear();
                newest = Some(change.producer);
                known.push(change.producer);
                world.coordinator.settle(change);
            }
        }
    }
}
