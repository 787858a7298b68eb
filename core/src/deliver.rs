//! What has to be done, and by which shard, for a message to be at one of its destinations.

use std::sync::Arc;

use crate::{
    broker::Inner,
    catalog::{LogEntry, QueueTarget, Targets},
    delay::{self, DelayEntry, Waiting, delay_ms},
    id::{ConnectionId, QueueId, Token},
    link::Outgoing,
    log::{self, NewRecord},
    message::Message,
    queue::Arrival,
    shard::Op,
    tap,
    topic::Topic,
};

impl Inner {
    /// Sends a message of the broker's own account to all of its targets, in one storage batch. Nobody is told of a
    /// log that cannot take it, but for the operator.
    pub(crate) fn forward(
        &self,
        message: &Arc<Message>,
        targets: &Targets,
        outgoing: &mut Outgoing,
    ) {
        let send = |outgoing: &mut Outgoing, (shard, op)| {
            outgoing.push(shard, op);
            outgoing.spanned |= 1 << shard;
        };
        for target in &targets.queues {
            send(outgoing, self.to_queue(target, message, None));
        }
        // What is tapped goes to queues, also when an exchange has kept it for a while: otherwise there would be loops.
        let logs = targets.logs.iter();
        for target in logs.filter(|_| !tap::is_offered(message)) {
            let publisher = &message.origin.user;
            if target.guarded && !target.takes_from(&self.snapshot.load(), publisher) {
                self.metrics.capture_denied(1);
                continue;
            }
            let entry = &target.log;
            let record = log::record_from_message(message, &entry.settings);
            let name = &entry.info.name;
            match record.check(name, &entry.settings, self.batch_bytes_max) {
                Ok(()) => {
                    let append = self.to_log(entry, record, ConnectionId(0), true, None);
                    send(outgoing, append);
                    outgoing.count_record(message, &self.metrics);
                }
                Err(refusal) => tracing::warn!(log = %name, %refusal, "a message is not captured"),
            }
        }
        for entry in &targets.delays {
            send(
                outgoing,
                self.to_delay(entry, message, Arc::default(), None),
            );
        }
    }

    /// For a message to be in a queue.
    pub(crate) fn to_queue(
        &self,
        target: &QueueTarget,
        message: &Arc<Message>,
        token: Option<Token>,
    ) -> (usize, Op) {
        self.enqueue(target.queue.id, Arrival::to(target, message), token)
    }

    /// For an arrival to be in a queue.
    pub(crate) fn enqueue(
        &self,
        queue: QueueId,
        arrival: Arrival,
        token: Option<Token>,
    ) -> (usize, Op) {
        let op = Op::Enqueue {
            queue,
            arrival,
            token,
        };
        (self.shard_of_queue(queue), op)
    }

    /// For a record to be in a log: in the partition of its key, or in that of its publisher. What was `captured` from
    /// an exchange is not tapped.
    pub(crate) fn to_log(
        &self,
        entry: &LogEntry,
        record: NewRecord,
        publisher: ConnectionId,
        captured: bool,
        token: Option<Token>,
    ) -> (usize, Op) {
        let log = entry.info.id;
        let partition = log::partition_for(record.key.as_deref(), entry.tails.len(), publisher);
        let op = Op::Capture {
            log,
            partition,
            record: Box::new(record),
            token,
            captured,
        };
        (self.shard_of_partition(log, partition), op)
    }

    /// For a message to wait at an exchange, to go on by its own topic and the others.
    pub(crate) fn to_delay(
        &self,
        entry: &Arc<DelayEntry>,
        message: &Arc<Message>,
        also: Arc<[Topic]>,
        token: Option<Token>,
    ) -> (usize, Op) {
        let arrival = delay::Arrival {
            entry: entry.clone(),
            delay_ms: delay_ms(&message.properties().headers).unwrap_or_default(),
            waiting: Waiting {
                message: message.clone(),
                also,
            },
            token,
        };
        (
            self.shard_of_exchange(entry.id),
            Op::Delay(Box::new(arrival)),
        )
    }
}
