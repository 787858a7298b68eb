//! What a shard does for queues: their messages, and the queues themselves.

use std::sync::Arc;

use super::{Op, Shard, Turn, confirm, missing, touch};
use crate::{
    catalog::QueueEntry,
    event::{Event, Kind, Refusal, Reply},
    id::{ConnectionId, ConsumerId, QueueId},
    queue::{self, Queue},
    store::messages,
    time::Now,
};

impl Shard {
    /// What publishers and consumers do with a queue's messages.
    pub(super) fn apply_delivery(&mut self, from: ConnectionId, op: Op, turn: &mut Turn) {
        match op {
            Op::Enqueue {
                queue,
                arrival,
                token,
            } => {
                // A queue that has just gone took the message with it.
                let found = touch(&mut self.queues, &mut self.touched_queues, queue);
                let taken = found.map_or(Ok(()), |found| {
                    let fleeting = found.is_fleeting(&arrival);
                    let fleeting = fleeting.then(|| queue::size(&arrival.message));
                    let taken = found.enqueue(arrival, &mut self.budget, turn);
                    if let Some(bytes) = fleeting {
                        found.press(from, bytes, &self.budget, turn);
                    }
                    taken
                });
                match (taken, token) {
                    (Err(reason), Some(token)) => turn.free.refuse_one(from, token, reason),
                    _ => confirm(from, token, turn),
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
                match got.map_err(Err) {
                    Ok(()) => self.pump(queue, turn),
                    Err(result) => turn.free.push(from, Event::Done { token, result }),
                }
            }
            Op::Settle {
                consumer,
                deliveries,
                outcome,
            } => {
                if let Some(queue) = self.consumed(from, consumer)
                    && let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue)
                {
                    found.settle(from, consumer, deliveries, outcome, &mut self.budget, turn);
                }
            }
            Op::Credit { consumer, bytes } => {
                if let Some(found) = self.consumed_queue(from, consumer) {
                    found.credit(from, consumer, bytes, turn);
                }
            }
            Op::Cancel { token, consumer } => {
                let leaving = turn.idle.len();
                if let Some(queue) = self.consumed(from, consumer)
                    && let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue)
                {
                    found.cancel(from, consumer, &mut self.budget, turn);
                }
                let result = Ok(Reply::Ok);
                let done = Event::Done { token, result };
                match turn.idle.get_mut(leaving) {
                    Some(leaving) => leaving.told = Some((from, done)),
                    None => turn.free.push(from, done),
                }
            }
            _ => {}
        }
    }

    /// What becomes of queues themselves, and of what the tasks behind them have read or carried away.
    pub(super) fn apply_queue(&mut self, from: ConnectionId, op: Op, turn: &mut Turn) {
        match op {
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
            Op::Buried { queue, sequences } => {
                if let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue) {
                    found.buried(&sequences, &mut self.budget);
                }
            }
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
            _ => {}
        }
    }

    pub(super) fn pump(&mut self, id: QueueId, turn: &mut Turn) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.pump(&mut self.budget, turn);
        }
    }

    pub(super) fn remember(&mut self, from: ConnectionId, consumer: ConsumerId, queue: QueueId) {
        if let Some(connection) = self.connections.get_mut(&from) {
            connection.consumers.insert(consumer, queue);
        }
    }

    pub(super) fn consumed(&self, from: ConnectionId, consumer: ConsumerId) -> Option<QueueId> {
        self.connections
            .get(&from)?
            .consumers
            .get(&consumer)
            .copied()
    }

    pub(super) fn consumed_queue(
        &mut self,
        from: ConnectionId,
        consumer: ConsumerId,
    ) -> Option<&mut Queue> {
        let queue = self.consumed(from, consumer)?;
        touch(&mut self.queues, &mut self.touched_queues, queue)
    }

    pub(super) fn add_queue(
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
}
