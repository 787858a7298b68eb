//! What MQTT clients ask of their sessions.

use super::{Report, Shard, Turn, confirm, missing, touch};
use crate::{
    catalog::is_group,
    event::{Event, Kind, Reply},
    id::{ConnectionId, QueueId},
    queue::Queue,
    shard::Op,
    store::{
        Table, keys,
        sessions::{SessionRow, WillRow},
    },
    time::Now,
};

impl Shard {
    pub(super) fn apply_session(&mut self, from: ConnectionId, op: Op, turn: &mut Turn) {
        match op {
            Op::Attach {
                token,
                consumer,
                queue,
                prefetch,
                will,
            } => {
                let result = match touch(&mut self.queues, &mut self.touched_queues, queue) {
                    Some(found) => {
                        found.attach(from, consumer, prefetch, will, &mut self.budget, turn)
                    }
                    None => Err(missing(Kind::Queue)),
                };
                if result.is_ok() {
                    self.remember(from, consumer, queue);
                }
                // What it says of handshakes must not be forgotten by a crash.
                turn.in_order = true;
                turn.held.push(from, Event::Done { token, result });
            }
            Op::Detach {
                queue,
                publish_will,
            } => {
                if let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue) {
                    if let Some(session) = &mut found.session {
                        session.say_goodbye(from, publish_will);
                    }
                    found.disconnect(from, &mut self.budget, turn);
                    found.detach(from, turn);
                }
            }
            Op::Receive {
                queue,
                packet_id,
                token,
            } => {
                if let Some(session) = self.session_of(queue) {
                    session.receive(packet_id);
                }
                confirm(from, Some(token), turn);
            }
            Op::Release {
                queue,
                packet_id,
                token,
            } => {
                if let Some(session) = self.session_of(queue) {
                    session.forget_received(packet_id);
                }
                turn.in_order = true;
                confirm(from, Some(token), turn);
            }
            Op::Received {
                consumer,
                deliveries,
                token,
            } => {
                if let Some(queue) = self.consumed(from, consumer)
                    && let Some(found) = touch(&mut self.queues, &mut self.touched_queues, queue)
                {
                    found.received(from, consumer, &deliveries, &mut self.budget, turn);
                }
                turn.in_order = true;
                confirm(from, Some(token), turn);
            }
            Op::Completed { queue, packet_ids } => {
                if let Some(session) = self.session_of(queue) {
                    session.completed(&packet_ids);
                }
            }
            Op::LookUp(queue) => {
                if let Some(found) = self.queues.get_mut(&queue) {
                    found.look_up();
                }
            }
            Op::Replay { queue, replay } => {
                let (queues, touched) = (&mut self.queues, &mut self.touched_queues);
                let (token, is_told) = (replay.token, !replay.direct.is_empty());
                // A session that has gone gets nothing, but its client does not wait for the answer.
                let direct = match touch(queues, touched, queue) {
                    Some(found) => found.replay(*replay, &mut self.budget, turn),
                    None => Vec::new(),
                };
                if is_told {
                    let result = Ok(Reply::Replayed(direct));
                    turn.free.push(from, Event::Done { token, result });
                }
            }
            Op::WillSent(queue) => {
                turn.batch.delete(Table::State, keys::will(queue));
                if let Some(session) = self.session_of(queue) {
                    session.will_sent();
                }
            }
            _ => {}
        }
    }

    fn session_of(&mut self, queue: QueueId) -> Option<&mut crate::queue::Session> {
        touch(&mut self.queues, &mut self.touched_queues, queue)?
            .session
            .as_deref_mut()
    }

    /// Counts a queue that is a client's session or a group's.
    pub(super) fn report_session(&self, queue: &Queue, report: &mut Report) {
        let Some(session) = &queue.session else {
            return;
        };
        report.session_messages += queue.ready() + queue.unsettled();
        report.session_bytes += queue.ready_bytes();
        // One that ends with its connection is not kept for a client that is away.
        let away = session.connection.is_none() && queue.entry.spec.durable;
        report.sessions_away += u64::from(away && !is_group(&queue.entry.name));
    }

    /// A session found in the store. Its will may have outlived it: then it is due.
    pub(crate) fn recover_session(
        &mut self,
        queue: QueueId,
        row: Option<SessionRow>,
        will: Option<WillRow>,
        now: Now,
    ) {
        let Some(found) = self.queues.get_mut(&queue) else {
            return;
        };
        found.recover_session(row, will, now.wall);
        self.deadlines
            .extend(found.new_alarm().map(|at| (at, queue)));
    }
}
