//! A shard: owns a share of the queues, partitions, groups and retained messages, by hash of their ids.
//!
//! A shard is synchronous and deterministic: [`Shard::apply`] does not await, lock, read a clock, or
//! fail for reasons outside its input. Only [`run`] awaits.

mod cursors;
mod delays;
mod groups;
mod logs;
mod op;
mod queues;
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

use self::{groups::answer, retained::RetainedMessages, upkeep::Upkeep};
use crate::{
    delay::Delays,
    event::{Kind, Refusal},
    few_map::FewMap,
    group::{Answers, Groups},
    id::{ConnectionId, ConsumerId, LogId, QueueId, Token},
    link::Mailbox,
    log::{Partition, TailBudget},
    properties::Text,
    queue::{Budget, Queue},
    retained::Quota,
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
            Op::Enqueue { .. }
            | Op::Consume { .. }
            | Op::Get { .. }
            | Op::Settle { .. }
            | Op::Credit { .. }
            | Op::Cancel { .. } => self.apply_delivery(from, op, turn),
            Op::CreateQueue(_)
            | Op::ChangeQueue(_)
            | Op::Inspect { .. }
            | Op::Purge { .. }
            | Op::RemoveQueue { .. }
            | Op::Buried { .. }
            | Op::Undelivered { .. }
            | Op::Loaded { .. }
            | Op::Count { .. } => self.apply_queue(from, op, turn),
            Op::Capture { .. }
            | Op::Append { .. }
            | Op::Trim { .. }
            | Op::Tapped { .. }
            | Op::Compact { .. }
            | Op::Compacted { .. }
            | Op::CreateLog(_)
            | Op::ChangeLog(_)
            | Op::RemoveLog(_)
            | Op::EndTransaction { .. }
            | Op::WriteMarker { .. }
            | Op::DescribeProducers { .. } => self.apply_log(from, op, turn),
            Op::Attach { .. }
            | Op::Detach { .. }
            | Op::Receive { .. }
            | Op::Release { .. }
            | Op::Received { .. }
            | Op::Completed { .. }
            | Op::LookUp(_)
            | Op::Replay { .. }
            | Op::WillSent(_) => self.apply_session(from, op, turn),
            Op::Fed { .. } | Op::LogLoaded { .. } | Op::ResetCursor { .. } => {
                self.apply_cursor(op, turn);
            }
            Op::Group { .. } | Op::Follow(_) | Op::ListGroups { .. } | Op::BuriedShare(_) => {
                self.apply_group(from, op, turn);
            }
            Op::Announce { .. } | Op::Retain { .. } | Op::Retained { .. } | Op::Filled { .. } => {
                self.apply_retained(from, op, turn);
            }
            Op::Delay(_)
            | Op::Moved(_)
            | Op::CreateDelay(_)
            | Op::RemoveDelay(_)
            | Op::DelayedRead { .. } => self.apply_delay(from, op, turn),
            Op::Fence { token } => confirm(from, Some(token), turn),
            Op::Disconnect => self.disconnect(from, turn),
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
            // Whoever asked for these has gone if nobody takes the answer.
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
