//! A shard: owns a share of the queues, partitions, groups and retained messages, by hash of their ids.
//!
//! A shard is synchronous and deterministic: [`Shard::apply`] does not await, lock, read a clock, or
//! fail for reasons outside its input. Only [`run`] awaits.

mod cursors;
mod op;
mod recover;
mod retained;
mod run;
mod sessions;
mod standing;
mod turn;
mod upkeep;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};

pub(crate) use op::{Op, Report, Request};
pub(crate) use run::{EXPRESS_MAX, Inboxes, Services, run};
pub(crate) use turn::{Count, Leaving, Outbox, Turn};
pub(crate) use upkeep::LOG_UPKEEP;

use self::{retained::RetainedMessages, upkeep::Upkeep};
use crate::{
    broker::shard_of_partition,
    catalog::{LogEntry, QueueEntry},
    delay::Delays,
    event::{Event, Kind, Refusal, Reply},
    few_map::FewMap,
    group::{Answers, GroupRequest, Groups},
    id::{ConnectionId, ConsumerId, LogId, Offset, QueueId, Token},
    link::Mailbox,
    log::{self, Marker, Partition, Tail, TailBudget},
    properties::Text,
    queue::{Budget, Queue},
    retained::{Full, Quota},
    store::messages,
    time::{Now, Timestamp},
};

/// Which of how many shards one is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) count: usize,
}

/// A connection that this shard has heard of.
struct Connection {
    mailbox: Arc<Mailbox>,
    /// What its consumers (and gets) take from; also queues that have gone since.
    consumers: FewMap<ConsumerId, QueueId>,
}

/// A share of everything that holds messages.
pub(crate) struct Shard {
    /// In boxes: a table has room for more than it holds.
    queues: FxHashMap<QueueId, Box<Queue>>,
    partitions: FxHashMap<(LogId, u32), Partition>,
    groups: Groups,
    retained: RetainedMessages,
    connections: FxHashMap<ConnectionId, Connection>,
    /// When queues have something to do by themselves; some may have been put off since.
    deadlines: BTreeSet<(Timestamp, QueueId)>,
    budget: Budget,
    touched_queues: Vec<QueueId>,
    touched_partitions: BTreeSet<(LogId, u32)>,
    tails: Arc<TailBudget>,
    place: Place,
    delays: Delays,
    upkeep: Upkeep,
}

impl Shard {
    pub(crate) fn new(
        place: Place,
        memory: usize,
        tails: Arc<TailBudget>,
        groups: Groups,
        quota: Arc<Quota>,
    ) -> Shard {
        Shard {
            queues: FxHashMap::default(),
            partitions: FxHashMap::default(),
            groups,
            retained: RetainedMessages::new(quota),
            connections: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            budget: Budget {
                used: 0,
                limit: memory,
            },
            touched_queues: Vec::new(),
            touched_partitions: BTreeSet::new(),
            tails,
            place,
            delays: Delays::new(0),
            upkeep: Upkeep::default(),
        }
    }

    /// Where events for a connection go.
    pub(crate) fn mailbox(&self, connection: ConnectionId) -> Option<&Arc<Mailbox>> {
        self.connections
            .get(&connection)
            .map(|connection| &connection.mailbox)
    }

    /// Applies one connection's operations.
    pub(crate) fn apply(&mut self, request: Request, turn: &mut Turn) {
        let from = request.from.connection;
        let mailbox = request.from;
        self.connections.entry(from).or_insert_with(|| Connection {
            mailbox,
            consumers: FewMap::default(),
        });
        for op in request.ops {
            self.apply_op(from, op, turn);
        }
    }

    fn apply_op(&mut self, from: ConnectionId, op: Op, turn: &mut Turn) {
        match op {
            Op::Enqueue {
                queue,
                arrival,
                token,
            } => {
                // A queue that has just gone took the message with it.
                let taken = touch(&mut self.queues, &mut self.touched_queues, queue).map_or(
                    Ok(()),
                    |found| {
                        let fleeting = found.is_fleeting(&arrival);
                        let fleeting = fleeting.then(|| crate::queue::size(&arrival.message));
                        let taken = found.enqueue(arrival, &mut self.budget, turn);
                        if let Some(bytes) = fleeting {
                            found.press(from, bytes, &self.budget, turn);
                        }
                        taken
                    },
                );
                match (taken, token) {
                    (Err(reason), Some(token)) => turn.free.refuse_one(from, token, reason),
                    _ => confirm(from, token, turn),
                }
            }
            Op::Capture {
                log,
                partition,
                record,
                token,
                captured,
            } => {
                if let Some(found) = self.partition(log, partition) {
                    found.collect(turn.now, &record, captured);
                }
                confirm(from, token, turn);
            }
            Op::Append {
                log,
                partition,
                header,
                batch,
                transaction,
                token,
            } => {
                let appended = match self.partition(log, partition) {
                    Some(found) => found.append(turn.now, &header, batch, transaction),
                    None => Err(missing(Kind::Log)),
                };
                // A duplicate repeats what may still be in flight; being held behind it, its answer is true then.
                let result = appended.map(|appended| Reply::Appended {
                    base: appended.base,
                    timestamp: appended.timestamp,
                    log_start: appended.log_start,
                });
                turn.in_order = true;
                turn.held.push(from, Event::Done { token, result });
            }
            Op::Trim {
                token,
                partition: (log, number),
                to,
            } => {
                let result = match self.partition(log, number) {
                    Some(found) => found
                        .delete_records(to)
                        .map(|log_start| Reply::Trimmed { log_start }),
                    None => Err(missing(Kind::Log)),
                };
                turn.in_order = true;
                turn.held.push(from, Event::Done { token, result });
            }
            Op::Tapped {
                log,
                partition,
                offset,
            } => {
                if let Some(found) = self.partition(log, partition) {
                    found.set_tap(Some(offset));
                }
            }
            Op::Filled { log, partition, to } => self.filled(log, partition, to, turn),
            Op::Compact {
                log,
                partition,
                changes,
            } => {
                if let Some(found) = self.partition(log, partition) {
                    found.compact(changes);
                }
            }
            Op::Compacted { log, partition, to } => {
                if let Some(found) = self.partition(log, partition) {
                    found.compacted(to);
                }
            }
            Op::Consume {
                token,
                consumer,
                queue,
                spec,
                channel,
            } => {
                let result = match touch(&mut self.queues, &mut self.touched_queues, queue) {
                    Some(found) => found
                        .consume(from, consumer, &spec, channel, &mut self.budget, turn)
                        .map(|()| Reply::Ok),
                    None => Err(missing(Kind::Queue)),
                };
                if result.is_ok() {
                    self.remember(from, consumer, queue);
                }
                turn.free.push(from, Event::Done { token, result });
            }
            Op::Get {
                token,
                consumer,
                queue,
                auto_ack,
            } => {
                self.remember(from, consumer, queue);
                let got = match touch(&mut self.queues, &mut self.touched_queues, queue) {
                    Some(found) => found.get(from, token, consumer, auto_ack, turn),
                    None => Err(missing(Kind::Queue)),
                };
                match got {
                    Ok(()) => self.pump(queue, turn),
                    Err(refusal) => turn.free.push(
                        from,
                        Event::Done {
                            token,
                            result: Err(refusal),
                        },
                    ),
                }
            }
            Op::Settle {
                consumer,
                deliveries,
                outcome,
            } => {
                if let Some(queue) = self.consumed(from, consumer) {
                    let (queues, touched) = (&mut self.queues, &mut self.touched_queues);
                    if let Some(found) = touch(queues, touched, queue) {
                        found.settle(from, consumer, deliveries, outcome, &mut self.budget, turn);
                    }
                }
            }
            Op::Attach { .. }
            | Op::Detach { .. }
            | Op::Receive { .. }
            | Op::Release { .. }
            | Op::Received { .. }
            | Op::Completed { .. }
            | Op::LookUp(_)
            | Op::Replay { .. }
            | Op::WillSent(_) => self.apply_session(from, op, turn),
            Op::Fence { token } => confirm(from, Some(token), turn),
            Op::Credit { consumer, bytes } => {
                if let Some(found) = self.consumed_queue(from, consumer) {
                    found.credit(from, consumer, bytes, turn);
                }
            }
            Op::Cancel { token, consumer } => {
                let leaving = turn.idle.len();
                if let Some(queue) = self.consumed(from, consumer) {
                    let (queues, touched) = (&mut self.queues, &mut self.touched_queues);
                    if let Some(found) = touch(queues, touched, queue) {
                        found.cancel(from, consumer, &mut self.budget, turn);
                    }
                }
                let result = Ok(Reply::Ok);
                let done = Event::Done { token, result };
                match turn.idle.get_mut(leaving) {
                    Some(leaving) => leaving.told = Some((from, done)),
                    None => turn.free.push(from, done),
                }
            }
            Op::Disconnect => self.disconnect(from, turn),
            Op::CreateQueue(entry) => self.add_queue(entry, None, turn.now),
            Op::ChangeQueue(entry) => {
                let (queues, touched) = (&mut self.queues, &mut self.touched_queues);
                if let Some(found) = touch(queues, touched, entry.id) {
                    found.change(entry, from, turn.now.wall);
                }
            }
            Op::Inspect {
                token,
                queue,
                created,
            } => {
                self.pump(queue.id, turn);
                let found = touch(&mut self.queues, &mut self.touched_queues, queue.id);
                let (messages, consumers) = found.map_or((0, 0), |found| {
                    found.renew(turn.now.wall);
                    (found.ready(), found.consumers())
                });
                let reply = Reply::Queue {
                    name: queue.name.clone(),
                    messages,
                    consumers,
                    created,
                };
                // Where a new cursor begins has to be known before anybody relies on it.
                let begins = created && queue.source.is_some();
                turn.in_order |= begins;
                let told = if begins {
                    &mut turn.held
                } else {
                    &mut turn.free
                };
                let result = Ok(reply);
                told.push(from, Event::Done { token, result });
            }
            Op::Purge { token, queue } => {
                let result = match touch(&mut self.queues, &mut self.touched_queues, queue) {
                    Some(found) => Ok(Reply::Deleted {
                        messages: found.purge(&mut self.budget, turn),
                    }),
                    None => Err(missing(Kind::Queue)),
                };
                turn.held.push(from, Event::Done { token, result });
            }
            Op::RemoveQueue {
                queue,
                if_unused,
                if_empty,
                reply,
            } => {
                // Whoever asked has gone if nobody takes the answer.
                let _ = reply.send(self.remove_queue(queue, if_unused, if_empty, turn));
            }
            Op::Delay(arrival) => {
                let token = arrival.token;
                self.delays.put(*arrival, turn.now.wall, &mut turn.batch);
                confirm(from, token, turn);
            }
            Op::Moved(ready) => self.delays.moved(&ready, &mut turn.batch),
            Op::CreateDelay(entry) => self.delays.add(entry, true),
            Op::RemoveDelay(id) => self.delays.remove(id, &mut turn.batch),
            Op::DelayedRead { read, found } => self.delays.loaded(&read, found),
            Op::CreateLog(entry) => self.create_log(&entry),
            Op::ChangeLog(entry) => self.change_log(&entry),
            Op::RemoveLog(entry) => self.remove_log(&entry, turn),
            Op::Group {
                token,
                vhost,
                group,
                request,
                transaction,
            } => {
                let mut answers = Answers::new();
                let (now, from) = (turn.now, (from, token));
                // What is read may still be in flight, and must not be told before it is durable.
                turn.in_order |= matches!(*request, GroupRequest::Offsets { .. });
                self.groups.handle(
                    now,
                    from,
                    vhost,
                    group,
                    *request,
                    transaction,
                    &mut answers,
                    &mut turn.batch,
                );
                answer(answers, turn);
            }
            Op::Follow(follow) => {
                self.groups.follow(turn.now, from, *follow, &mut turn.batch);
            }
            Op::ListGroups { token, vhost } => {
                let result = Ok(Reply::Groups(self.groups.list(&vhost)));
                turn.free.push(from, Event::Done { token, result });
            }
            Op::EndTransaction {
                marker,
                partitions,
                groups,
            } => self.end_transaction(&marker, &partitions, groups, turn),
            Op::WriteMarker {
                token,
                partition: (log, number),
                marker,
            } => {
                let result = match self.partition(log, number) {
                    Some(found) => found.end_transaction(turn.now, &marker).map(|()| Reply::Ok),
                    None => Err(missing(Kind::Log)),
                };
                turn.held.push(from, Event::Done { token, result });
            }
            Op::DescribeProducers { token, partition } => {
                let result = match self.partitions.get(&partition) {
                    Some(found) => Ok(Reply::Producers(found.describe_producers())),
                    None => Err(missing(Kind::Log)),
                };
                turn.free.push(from, Event::Done { token, result });
            }
            Op::Announce { vhost, message } => {
                self.retained.announce(vhost, message, turn.now.wall);
            }
            Op::Retain {
                vhost,
                message,
                token,
            } => {
                let kept = self.retained.retain(vhost, message, turn);
                if let (Err(Full), Some(token)) = (kept, token) {
                    turn.free.push(from, Event::Unretained { token });
                }
                confirm(from, token, turn);
            }
            Op::Retained {
                token,
                vhost,
                filter,
            } => {
                let found = self.retained.matching(&vhost, &filter, turn.now.wall);
                turn.free.push(
                    from,
                    Event::Done {
                        token,
                        result: Ok(Reply::Retained(found)),
                    },
                );
            }
            Op::Buried { queue, sequences } => {
                if let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue) {
                    found.buried(&sequences, &mut self.budget);
                }
            }
            Op::BuriedShare(burial) => self.groups.bury(*burial, &mut turn.batch),
            Op::Undelivered { queue, letters } => {
                if let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue) {
                    found.undelivered(letters, turn.now.wall);
                }
            }
            Op::Loaded { queue, loaded } => {
                if let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue) {
                    found.loaded(*loaded, &mut self.budget, turn.now.wall);
                }
            }
            Op::Fed { .. } | Op::LogLoaded { .. } | Op::ResetCursor { .. } => {
                self.apply_cursor(op, turn)
            }
            Op::ForgetVhost { vhost, reply } => {
                self.retained.forget(&vhost, turn);
                self.groups.forget_vhost(&vhost, &mut turn.batch);
                turn.in_order = true;
                turn.drained.push(reply);
            }
            Op::Drain(reply) => {
                turn.in_order = true;
                turn.drained.push(reply);
            }
            Op::Count { queues, reply } => {
                let counts = queues.iter().map(|id| match self.queues.get(id) {
                    Some(queue) => [
                        queue.ready(),
                        queue.unsettled(),
                        queue.delayed(),
                        queue.consumers().into(),
                    ],
                    None => [0; 4],
                });
                let _ = reply.send(counts.collect());
            }
            Op::Standings { sessions, reply } => {
                let _ = reply.send(self.standings(sessions));
            }
            Op::Report(reply) => {
                let _ = reply.send(self.report());
            }
        }
    }

    /// Delivers and writes what the turn left behind. To be called once, after the last operation.
    pub(crate) fn finish(&mut self, turn: &mut Turn) {
        for id in std::mem::take(&mut self.touched_queues) {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.touched = false;
                queue.pump(&mut self.budget, turn);
                queue.seal(turn);
                if let Some(at) = queue.new_alarm() {
                    self.deadlines.insert((at, id));
                }
            }
        }
        turn.share_letters = self.groups.take_letters();
        for (log, number) in std::mem::take(&mut self.touched_partitions) {
            if let Some(partition) = self.partitions.get_mut(&(log, number)) {
                self.upkeep
                    .soon((log, number), partition.upkeep(), turn.now.wall);
                let committed = partition.seal(&mut turn.batch, turn.generation);
                turn.committed
                    .extend(committed.map(|committed| ((log, number), committed)));
            }
        }
    }

    /// Does what time brings; when groups want to be called again.
    pub(crate) fn tick(&mut self, turn: &mut Turn) -> Option<Instant> {
        while let Some(&(at, id)) = self.deadlines.first()
            && at <= turn.now.wall
        {
            self.deadlines.pop_first();
            if let Some(queue) = touch(&mut self.queues, &mut self.touched_queues, id) {
                queue.alarmed(at, &mut self.budget, turn);
            }
        }
        self.delays.due(turn.now.wall, &mut turn.due);
        self.delays.reads(&mut turn.delayed_reads);
        self.keep_logs(turn);
        self.retained.expire(turn);
        let mut answers = Answers::new();
        let groups = self.groups.tick(turn.now, &mut answers, &mut turn.batch);
        answer(answers, turn);
        groups
    }

    /// When [`Shard::tick`] is next wanted.
    pub(crate) fn next_deadline(&self, now: Now, groups: Option<Instant>) -> Option<Instant> {
        let queues = self.deadlines.first().map(|(at, _)| *at);
        let logs = self.upkeep.next();
        let instant =
            |at: Timestamp| now.instant + Duration::from_millis(at.0.saturating_sub(now.wall.0));
        let retained = self.retained.next_expiry();
        [queues, logs, self.delays.next_due(), retained]
            .into_iter()
            .flatten()
            .map(instant)
            .chain(groups)
            .min()
    }

    /// Retention and what else partitions do by the clock, for those whose time has come.
    fn keep_logs(&mut self, turn: &mut Turn) {
        for id in self.upkeep.due(turn.now.wall) {
            let Some(partition) = self.partitions.get_mut(&id) else {
                continue;
            };
            partition.tick(turn.now);
            turn.compactions.extend(partition.compaction(turn.now.wall));
            if partition.has_changed() {
                self.touched_partitions.insert(id);
            }
            let wanted = partition.next_tick(turn.now);
            self.upkeep.put(id, partition.upkeep(), wanted);
        }
    }

    /// Ends a transaction in what this shard owns of it. What has been deleted meanwhile needs no end.
    fn end_transaction(
        &mut self,
        marker: &Marker,
        partitions: &[(LogId, u32)],
        groups: Vec<(Text, Text)>,
        turn: &mut Turn,
    ) {
        for (log, number) in partitions {
            if let Some(found) = self.partition(*log, *number) {
                // Only an administrator's markers are refused.
                let _ = found.end_transaction(turn.now, marker);
            }
        }
        for group in groups {
            self.groups
                .end_transaction(turn.now, group, marker, &mut turn.batch);
        }
    }

    fn pump(&mut self, id: QueueId, turn: &mut Turn) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.pump(&mut self.budget, turn);
        }
    }

    fn partition(&mut self, log: LogId, number: u32) -> Option<&mut Partition> {
        let partition = self.partitions.get_mut(&(log, number))?;
        self.touched_partitions.insert((log, number));
        Some(partition)
    }

    fn remember(&mut self, from: ConnectionId, consumer: ConsumerId, queue: QueueId) {
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.consumers.insert(consumer, queue);
        }
    }

    fn consumed(&self, from: ConnectionId, consumer: ConsumerId) -> Option<QueueId> {
        self.connections
            .get(&from)?
            .consumers
            .get(&consumer)
            .copied()
    }

    fn consumed_queue(&mut self, from: ConnectionId, consumer: ConsumerId) -> Option<&mut Queue> {
        let queue = self.consumed(from, consumer)?;
        touch(&mut self.queues, &mut self.touched_queues, queue)
    }

    fn disconnect(&mut self, from: ConnectionId, turn: &mut Turn) {
        self.groups.disconnected(turn.now, from, &mut turn.batch);
        let Some(connection) = self.connections.remove(&from) else {
            return;
        };
        let queues: FxHashSet<QueueId> = connection.consumers.into_values().collect();
        for queue in queues {
            if let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue) {
                found.disconnect(from, &mut self.budget, turn);
                found.detach(from, turn);
            }
        }
    }

    fn add_queue(
        &mut self,
        entry: Arc<QueueEntry>,
        counters: Option<messages::QueueCounters>,
        now: Now,
    ) {
        let (id, timed) = (
            entry.id,
            counters.as_ref().is_some_and(|counters| counters.timed),
        );
        let mut queue = Queue::new(entry, counters, now.wall);
        // What expires first in a queue that was found in the store is for the store to say.
        let look = timed.then_some(now.wall);
        self.deadlines
            .extend(look.into_iter().chain(queue.new_alarm()).map(|at| (at, id)));
        self.queues.insert(id, Box::new(queue));
    }

    fn remove_queue(
        &mut self,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
        turn: &mut Turn,
    ) -> Result<u64, Refusal> {
        // What consumers take at once does not keep it.
        self.pump(id, turn);
        let Some(queue) = self.queues.get_mut(&id) else {
            return Ok(0);
        };
        let (name, vhost) = (queue.entry.name.clone(), queue.entry.vhost.clone());
        if if_unused && queue.is_used(turn.now.wall) {
            return Err(Refusal::InUse {
                kind: Kind::Queue,
                name,
                vhost,
            });
        }
        if if_empty && queue.ready() > 0 {
            return Err(Refusal::NotEmpty { name, vhost });
        }
        let ready = queue.remove(&mut self.budget, turn);
        self.queues.remove(&id);
        Ok(ready)
    }

    fn create_log(&mut self, entry: &LogEntry) {
        self.groups.know_log(entry);
        for (number, tail) in entry.tails.iter().enumerate() {
            let number = number as u32;
            if self.owns(entry.info.id, number) {
                let partition = self.new_partition(entry, number, tail);
                self.partitions.insert((entry.info.id, number), partition);
            }
        }
    }

    fn change_log(&mut self, entry: &LogEntry) {
        self.groups.know_log(entry);
        for (number, tail) in entry.tails.iter().enumerate() {
            let id = (entry.info.id, number as u32);
            if !self.owns(id.0, id.1) {
                continue;
            }
            match self.partition(id.0, id.1) {
                Some(found) => found.change(entry.settings.clone(), entry.tap.is_some()),
                None => {
                    let partition = self.new_partition(entry, id.1, tail);
                    self.partitions.insert(id, partition);
                }
            }
        }
    }

    fn remove_log(&mut self, entry: &LogEntry, turn: &mut Turn) {
        self.groups.forget_log(entry, &mut turn.batch);
        for number in 0..entry.tails.len() as u32 {
            if let Some(partition) = self.partitions.remove(&(entry.info.id, number)) {
                partition.tail().close();
                log::delete_log(entry.info.id, &mut turn.batch);
            }
        }
    }

    fn owns(&self, log: LogId, number: u32) -> bool {
        shard_of_partition(log, number, self.place.count) == self.place.index
    }

    fn new_partition(&self, entry: &LogEntry, number: u32, tail: &Arc<Tail>) -> Partition {
        tail.share(self.tails.clone());
        let mut partition =
            Partition::new(entry.info.id, number, entry.settings.clone(), tail.clone());
        partition.set_tap(entry.tap.is_some().then_some(Offset(0)));
        partition
    }

    fn report(&self) -> Report {
        let mut report = Report {
            queues: self.queues.len() as u64,
            held_bytes: self.budget.used as u64,
            partitions: self.partitions.len() as u64,
            groups: self.groups.len() as u64,
            retained: self.retained.len() as u64,
            retained_bytes: self.retained.bytes() as u64,
            ..Report::default()
        };
        for queue in self.queues.values() {
            report.ready += queue.ready();
            report.unsettled += queue.unsettled();
            report.delayed_retries += queue.delayed();
            report.consumers += u64::from(queue.consumers());
            self.report_session(queue, &mut report);
        }
        report
    }
}

/// Marks a queue as changed in this turn.
fn touch<'a>(
    queues: &'a mut FxHashMap<QueueId, Box<Queue>>,
    touched: &mut Vec<QueueId>,
    id: QueueId,
) -> Option<&'a mut Queue> {
    let queue = queues.get_mut(&id)?;
    if !std::mem::replace(&mut queue.touched, true) {
        touched.push(id);
    }
    Some(queue)
}

/// Answers of group coordinators wait until what they say is durable.
fn answer(answers: Answers, turn: &mut Turn) {
    for ((connection, token), reply) in answers {
        let result = Ok(Reply::Group(reply));
        turn.held.push(connection, Event::Done { token, result });
    }
}

fn confirm(from: ConnectionId, token: Option<Token>, turn: &mut Turn) {
    if let Some(token) = token {
        turn.held.confirm(from, token);
    }
}

/// What was asked for has gone since it was looked up.
fn missing(kind: Kind) -> Refusal {
    Refusal::NotFound {
        kind,
        name: Text::new(),
        vhost: Text::new(),
    }
}
