//! The coordinator's knowledge: transactional ids, their producers, and what each open transaction has written to.
//!
//! It decides at once, and writes nothing itself. What must be durable is a [`Change`]: while one is under way
//! nothing else is decided about its transactional id, and [`Coordinator::settle`] ends it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{ProducerIdentity, TransactionError, TransactionInfo};
use crate::{
    id::LogId,
    properties::Text,
    store::{
        StoreError,
        values::{Reader, Writer},
    },
    time::{Now, Timestamp},
};

/// As Kafka's `transaction.max.timeout.ms`.
const TIMEOUT_MAX: Duration = Duration::from_secs(15 * 60);
/// As Kafka's `transactional.id.expiration.ms`.
const EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often unused transactional ids are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3600);
/// The last epoch that a producer gets; the next one is for the marker of its last transaction.
const EPOCH_MAX: i16 = i16::MAX - 1;
const FORMAT: u8 = 2;

/// A vhost and a transactional id in it.
pub(crate) type Name = (Text, Text);

/// All transactional ids of a broker.
#[derive(Debug)]
pub(crate) struct Coordinator {
    ids: FxHashMap<Name, Transactional>,
    /// When open transactions are aborted.
    deadlines: BTreeSet<(Instant, Name)>,
    /// The number of the next transaction. They tell apart what a producer with one epoch writes to one and
    /// to the next; no two transactions of a process share one.
    next_number: u64,
    next_expiry: Option<Instant>,
}

/// A transactional id.
#[derive(Clone, Debug)]
struct Transactional {
    producer: ProducerIdentity,
    /// Whom the producer replaced by its own request: it may not have heard of that.
    previous: Option<ProducerIdentity>,
    timeout: Duration,
    state: State,
    /// When the newest transaction of this producer began.
    began: Option<Timestamp>,
    /// When it last changed.
    used: Timestamp,
}

#[derive(Clone, Debug)]
enum State {
    Empty,
    Ongoing(Open),
    /// A change is being written; what it brings about.
    Changing {
        commit: bool,
    },
    Committed,
    Aborted,
    /// Aborted because its time was up, which its producer does not know.
    TimedOut,
}

/// An open transaction.
#[derive(Clone, Debug)]
struct Open {
    number: u64,
    deadline: Instant,
    /// With the names of their logs.
    partitions: BTreeMap<(LogId, u32), Text>,
    groups: BTreeSet<Text>,
}

/// What is to be written, all at once.
#[derive(Debug)]
pub(crate) struct Change {
    pub name: Name,
    /// The transaction that it ends.
    pub ends: Option<Ends>,
    /// Who the producer is afterwards.
    pub producer: ProducerIdentity,
    after: Transactional,
}

/// A transaction that ends, and how.
#[derive(Debug)]
pub(crate) struct Ends {
    pub number: u64,
    /// As the markers have it.
    pub producer: ProducerIdentity,
    pub commit: bool,
    pub partitions: Vec<(LogId, u32)>,
    pub groups: Vec<Text>,
}

impl Change {
    /// The row of the transactional id afterwards.
    pub fn row(&self) -> Bytes {
        self.after.write()
    }
}

/// What comes of a request that may change something durable.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing: it has been done before, and this was the answer.
    Known(ProducerIdentity),
    Change(Box<Change>),
}

impl Coordinator {
    pub fn new() -> Coordinator {
        Coordinator {
            ids: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            next_number: 1,
            next_expiry: None,
        }
    }

    /// Takes a row that was found when the broker opened.
    pub fn recover(&mut self, name: Name, row: Bytes) -> Result<(), StoreError> {
        self.ids.insert(name, Transactional::read(row)?);
        Ok(())
    }

    /// Takes up the transactions that were open when the broker went down, by producer. Their time begins anew.
    pub fn resume(
        &mut self,
        now: Now,
        partitions: impl Iterator<Item = (i64, (LogId, u32), Text)>,
        groups: impl Iterator<Item = (i64, Text)>,
    ) {
        let names: FxHashMap<i64, Name> = self
            .ids
            .iter()
            .map(|(name, it)| (it.producer.id, name.clone()))
            .collect();
        for (producer, partition, log) in partitions {
            if let Some(open) = names.get(&producer).and_then(|name| self.reopen(now, name)) {
                open.partitions.insert(partition, log);
            }
        }
        for (producer, group) in groups {
            if let Some(open) = names.get(&producer).and_then(|name| self.reopen(now, name)) {
                open.groups.insert(group);
            }
        }
    }

    fn reopen(&mut self, now: Now, name: &Name) -> Option<&mut Open> {
        self.begin(now, name);
        match &mut self.ids.get_mut(name)?.state {
            State::Ongoing(open) => Some(open),
            _ => None,
        }
    }

    // Producers

    /// A producer begins, or wants its epoch raised. `fresh` is a producer id that nobody has.
    pub fn init(
        &mut self,
        now: Now,
        name: &Name,
        timeout: Duration,
        expected: Option<ProducerIdentity>,
        fresh: impl FnOnce() -> i64,
    ) -> Result<Decision, TransactionError> {
        if name.1.is_empty() {
            return Err(TransactionError::Invalid);
        }
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(TransactionError::InvalidTimeout);
        }
        let Some(known) = self.ids.get(name) else {
            let producer = ProducerIdentity {
                id: fresh(),
                epoch: 0,
            };
            let after = Transactional {
                producer,
                previous: None,
                timeout,
                state: State::Empty,
                began: None,
                used: now.wall,
            };
            return Ok(Decision::Change(Box::new(
                self.change(now, name, after, None, producer),
            )));
        };
        if matches!(known.state, State::Changing { .. }) {
            return Err(TransactionError::Concurrent);
        }
        if let Some(expected) = expected.filter(|expected| *expected != known.producer) {
            let is_retry = known.previous == Some(expected) && matches!(known.state, State::Empty);
            return match is_retry {
                true => Ok(Decision::Known(known.producer)),
                false => Err(TransactionError::Fenced),
            };
        }
        let (marker, producer) = successor(known.producer, fresh);
        let after = Transactional {
            producer,
            previous: expected,
            timeout,
            state: State::Empty,
            began: None,
            used: now.wall,
        };
        Ok(Decision::Change(Box::new(self.change(
            now,
            name,
            after,
            Some(false),
            marker,
        ))))
    }

    // Parts of a transaction

    /// A partition into which a batch is to be written; the number of the transaction.
    pub fn admit(
        &mut self,
        now: Now,
        name: &Name,
        producer: ProducerIdentity,
        partition: (LogId, u32),
        log: &Text,
        implicit: bool,
    ) -> Result<u64, TransactionError> {
        if let Some(open) = self.open(name, producer)?
            && open.partitions.contains_key(&partition)
        {
            return Ok(open.number);
        }
        if !implicit {
            return Err(TransactionError::NotAdded);
        }
        let open = self.open_or_begin(now, name)?;
        open.partitions.insert(partition, log.clone());
        Ok(open.number)
    }

    /// A group whose offsets are to be written; the number of the transaction.
    pub fn admit_group(
        &mut self,
        now: Now,
        name: &Name,
        producer: ProducerIdentity,
        group: &Text,
        implicit: bool,
    ) -> Result<u64, TransactionError> {
        if let Some(open) = self.open(name, producer)?
            && open.groups.contains(group)
        {
            return Ok(open.number);
        }
        if !implicit {
            return Err(TransactionError::NotAdded);
        }
        let open = self.open_or_begin(now, name)?;
        open.groups.insert(group.clone());
        Ok(open.number)
    }

    /// Adds partitions to the transaction, and begins one if there is none.
    pub fn add_partitions(
        &mut self,
        now: Now,
        name: &Name,
        producer: ProducerIdentity,
        partitions: Vec<((LogId, u32), Text)>,
    ) -> Result<(), TransactionError> {
        self.open(name, producer)?;
        self.open_or_begin(now, name)?.partitions.extend(partitions);
        Ok(())
    }

    /// Adds a group to the transaction, and begins one if there is none.
    pub fn add_group(
        &mut self,
        now: Now,
        name: &Name,
        producer: ProducerIdentity,
        group: Text,
    ) -> Result<(), TransactionError> {
        self.open(name, producer)?;
        self.open_or_begin(now, name)?.groups.insert(group);
        Ok(())
    }

    /// Which of `partitions` are part of the open transaction.
    pub fn verify(
        &self,
        name: &Name,
        producer: ProducerIdentity,
        partitions: &[(LogId, u32)],
    ) -> Result<Vec<bool>, TransactionError> {
        let open = self.open(name, producer)?;
        let is_part = |partition| open.is_some_and(|open| open.partitions.contains_key(partition));
        Ok(partitions.iter().map(is_part).collect())
    }

    /// The open transaction of a producer, if it has one and may write to it.
    fn open(
        &self,
        name: &Name,
        producer: ProducerIdentity,
    ) -> Result<Option<&Open>, TransactionError> {
        let known = self.known(name)?;
        known.check(producer)?;
        match &known.state {
            State::Ongoing(open) => Ok(Some(open)),
            State::Changing { .. } => Err(TransactionError::Concurrent),
            _ => Ok(None),
        }
    }

    fn known(&self, name: &Name) -> Result<&Transactional, TransactionError> {
        if name.1.is_empty() {
            return Err(TransactionError::Invalid);
        }
        self.ids.get(name).ok_or(TransactionError::WrongProducer)
    }

    fn open_or_begin(&mut self, now: Now, name: &Name) -> Result<&mut Open, TransactionError> {
        self.reopen(now, name).ok_or(TransactionError::InvalidState)
    }

    /// Begins a transaction unless there is one.
    fn begin(&mut self, now: Now, name: &Name) {
        let Some(known) = self.ids.get_mut(name) else {
            return;
        };
        if matches!(known.state, State::Ongoing(_) | State::Changing { .. }) {
            return;
        }
        let deadline = now.instant + known.timeout;
        known.began = Some(now.wall);
        known.state = State::Ongoing(Open {
            number: self.next_number,
            deadline,
            partitions: BTreeMap::new(),
            groups: BTreeSet::new(),
        });
        self.next_number += 1;
        self.deadlines.insert((deadline, name.clone()));
    }

    // The end of a transaction

    /// The producer ends its transaction. With `renew` its epoch goes up, and an abort is taken without a
    /// transaction too: the producer does not know whether it had begun.
    pub fn end(
        &mut self,
        now: Now,
        name: &Name,
        producer: ProducerIdentity,
        commit: bool,
        renew: bool,
        fresh: impl FnOnce() -> i64,
    ) -> Result<Decision, TransactionError> {
        let known = self.known(name)?;
        if renew && known.previous == Some(producer) {
            // The answer that named its successor was lost.
            return match &known.state {
                State::Committed if commit => Ok(Decision::Known(known.producer)),
                State::Aborted if !commit => Ok(Decision::Known(known.producer)),
                State::Changing { .. } => Err(TransactionError::Concurrent),
                State::TimedOut => Err(TransactionError::TimedOut),
                State::Ongoing(_) => Err(TransactionError::Fenced),
                _ => Err(TransactionError::InvalidState),
            };
        }
        known.check(producer)?;
        match &known.state {
            State::Changing { .. } => return Err(TransactionError::Concurrent),
            State::Ongoing(_) => {}
            State::Committed if commit && !renew => return Ok(Decision::Known(producer)),
            State::Aborted | State::TimedOut if !commit && !renew => {
                return Ok(Decision::Known(producer));
            }
            _ if !commit && renew => {}
            _ => return Err(TransactionError::InvalidState),
        }
        let (marker, next) = match renew {
            true => successor(known.producer, fresh),
            false => (producer, producer),
        };
        let after = Transactional {
            producer: next,
            previous: if renew {
                Some(producer)
            } else {
                known.previous
            },
            timeout: known.timeout,
            state: if commit {
                State::Committed
            } else {
                State::Aborted
            },
            began: match &known.state {
                State::Ongoing(_) => known.began,
                // An abort of nothing.
                _ => Some(now.wall),
            },
            used: now.wall,
        };
        Ok(Decision::Change(Box::new(self.change(
            now,
            name,
            after,
            Some(commit),
            marker,
        ))))
    }

    /// A transaction whose time is up: it is to be aborted, and its producer fenced.
    pub fn time_out(&mut self, now: Now, fresh: impl FnOnce() -> i64) -> Option<Change> {
        let (_, name) = self
            .deadlines
            .first()
            .filter(|(deadline, _)| *deadline <= now.instant)?;
        let name = name.clone();
        let known = self.ids.get(&name)?;
        let (marker, producer) = successor(known.producer, fresh);
        let after = Transactional {
            producer,
            previous: Some(known.producer),
            timeout: known.timeout,
            state: State::TimedOut,
            began: known.began,
            used: now.wall,
        };
        Some(self.change(now, &name, after, Some(false), marker))
    }

    /// When the next transaction's time is up.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Begins a change; `ends` says how the open transaction ends, if there is one.
    fn change(
        &mut self,
        now: Now,
        name: &Name,
        after: Transactional,
        ends: Option<bool>,
        marker: ProducerIdentity,
    ) -> Change {
        let commit = ends.unwrap_or_default();
        let during = Transactional {
            state: State::Changing { commit },
            used: now.wall,
            ..after.clone()
        };
        let before = self.ids.insert(name.clone(), during);
        let open = match before.map(|before| before.state) {
            Some(State::Ongoing(open)) => Some(open),
            _ => None,
        };
        if let Some(open) = &open {
            self.deadlines.remove(&(open.deadline, name.clone()));
        }
        Change {
            name: name.clone(),
            ends: open.map(|open| Ends {
                number: open.number,
                producer: marker,
                commit,
                partitions: open.partitions.into_keys().collect(),
                groups: open.groups.into_iter().collect(),
            }),
            producer: after.producer,
            after,
        }
    }

    /// The change is durable.
    pub fn settle(&mut self, change: Change) {
        self.ids.insert(change.name, change.after);
    }

    /// Transactional ids that nobody has used for long are forgotten; their names.
    pub fn expire(&mut self, now: Now) -> Vec<Name> {
        if self.next_expiry.is_some_and(|at| now.instant < at) {
            return Vec::new();
        }
        self.next_expiry = Some(now.instant + EXPIRY_INTERVAL);
        let is_unused = |it: &Transactional| {
            !matches!(it.state, State::Ongoing(_) | State::Changing { .. })
                && it.used.after(EXPIRY) < now.wall
        };
        let unused = self.ids.iter().filter(|(_, it)| is_unused(it));
        let names: Vec<Name> = unused.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| drop(self.ids.remove(name)));
        names
    }

    // Administration

    pub fn describe(&self, now: Now, name: &Name) -> Option<TransactionInfo> {
        self.ids.get(name).map(|it| it.describe(now, &name.1))
    }

    /// All of a vhost, by name.
    pub fn list(&self, now: Now, vhost: &str) -> Vec<TransactionInfo> {
        let own = self.ids.iter().filter(|((of, _), _)| of == vhost);
        let mut list: Vec<_> = own.map(|(name, it)| it.describe(now, &name.1)).collect();
        list.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        list
    }

    /// A log is gone, and what was written to it with it.
    pub fn forget_log(&mut self, log: LogId) {
        for known in self.ids.values_mut() {
            if let State::Ongoing(open) = &mut known.state {
                open.partitions.retain(|(id, _), _| *id != log);
            }
        }
    }
}

/// Who writes the markers of a producer's last transaction, and who the producer is afterwards: the next epoch,
/// or where there is none a new id.
fn successor(
    producer: ProducerIdentity,
    fresh: impl FnOnce() -> i64,
) -> (ProducerIdentity, ProducerIdentity) {
    let next = ProducerIdentity {
        epoch: producer.epoch.saturating_add(1),
        ..producer
    };
    match next.epoch <= EPOCH_MAX {
        true => (next, next),
        false => (
            next,
            ProducerIdentity {
                id: fresh(),
                epoch: 0,
            },
        ),
    }
}

impl Transactional {
    /// Whether this producer may go on.
    fn check(&self, producer: ProducerIdentity) -> Result<(), TransactionError> {
        if producer == self.producer {
            return Ok(());
        }
        if self.previous == Some(producer) && matches!(self.state, State::TimedOut) {
            return Err(TransactionError::TimedOut);
        }
        match producer.id == self.producer.id {
            true => Err(TransactionError::Fenced),
            false => Err(TransactionError::WrongProducer),
        }
    }

    fn describe(&self, now: Now, id: &Text) -> TransactionInfo {
        let (state, open) = match &self.state {
            State::Empty => ("Empty", None),
            State::Ongoing(open) => ("Ongoing", Some(open)),
            State::Changing { commit: true } => ("PrepareCommit", None),
            State::Changing { commit: false } => ("PrepareAbort", None),
            State::Committed => ("CompleteCommit", None),
            State::Aborted | State::TimedOut => ("CompleteAbort", None),
        };
        let partitions = open.into_iter().flat_map(|open| &open.partitions);
        TransactionInfo {
            id: id.clone(),
            state,
            producer: self.producer,
            timeout: self.timeout,
            started: self.began,
            age: Duration::from_millis(now.wall.0.saturating_sub(self.began.unwrap_or_default().0)),
            partitions: partitions
                .map(|((_, number), log)| (log.clone(), *number))
                .collect(),
        }
    }

    fn write(&self) -> Bytes {
        let mut writer = Writer::with_capacity(FORMAT, 48);
        write_identity(&mut writer, self.producer);
        writer.option(self.previous, write_identity);
        writer.varint(self.timeout.as_millis() as u64);
        writer.varint(self.used.0);
        writer.u8(match self.state {
            State::Committed => 1,
            State::Aborted => 2,
            State::TimedOut => 3,
            State::Empty | State::Ongoing(_) | State::Changing { .. } => 0,
        });
        writer.option(self.began, |writer, began| writer.varint(began.0));
        writer.done()
    }

    fn read(row: Bytes) -> Result<Transactional, StoreError> {
        let (format, mut reader) = Reader::versioned(row, FORMAT)?;
        Ok(Transactional {
            producer: read_identity(&mut reader)?,
            previous: reader.option(read_identity)?,
            timeout: Duration::from_millis(reader.varint()?),
            used: Timestamp(reader.varint()?),
            state: match reader.u8()? {
                0 => State::Empty,
                1 => State::Committed,
                2 => State::Aborted,
                3 => State::TimedOut,
                _ => return Err(StoreError::Corrupt("state of a transactional id".into())),
            },
            began: match format {
                1 => None,
                _ => reader.option(|reader| reader.varint().map(Timestamp))?,
            },
        })
    }
}

fn write_identity(writer: &mut Writer, producer: ProducerIdentity) {
    writer.varint(producer.id as u64);
    writer.varint(producer.epoch as u16 as u64);
}

fn read_identity(reader: &mut Reader) -> Result<ProducerIdentity, StoreError> {
    Ok(ProducerIdentity {
        id: reader.varint()? as i64,
        epoch: reader.varint()? as u16 as i16,
    })
}
