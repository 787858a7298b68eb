//! Consumers of logs: they read on their own, past all shards, and what they settle makes room for more.

use std::{collections::VecDeque, ops::RangeInclusive, sync::Arc};

use futures_util::stream::FuturesUnordered;
use rustc_hash::FxHashMap;

use super::{
    Link,
    follow::{Tracker, resumed},
};
use crate::{
    access::Operation,
    catalog::LogEntry,
    command::{ConsumeSpec, Outcome, StreamSpec},
    event::{CancelReason, Delivery, Event, Kind, Refusal, Reply},
    group::{CommittedOffset, GroupError, Start},
    id::{ConsumerId, DeliveryId, Token},
    log::{ConsumerGuard, Found, FoundRecord, Position, Scan, Wanted},
    queue::{self, WINDOW},
    store::BoxFuture,
};

/// Bytes of batches that are read at once.
const READ_BYTES: usize = 1 << 20;

/// What a consumer waited for.
pub(super) type Read = (ConsumerId, Came);

/// What has come.
pub(super) enum Came {
    /// What it has read.
    Records(Result<Vec<Found>, Refusal>),
    /// What the group says that it goes by.
    Answer(Result<Start, GroupError>),
    /// Its turn, after another consumer of its group.
    Turn(Result<Start, GroupError>),
}

/// The consumers of logs of one connection.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) consumers: FxHashMap<ConsumerId, Stream>,
    /// How many of them go by a name.
    pub(super) followers: usize,
    /// What they read.
    pub(super) reads: FuturesUnordered<BoxFuture<'static, Read>>,
}

/// One consumer of a log.
pub(super) struct Stream {
    scan: Scan,
    /// In each partition.
    positions: Vec<(u32, Position)>,
    /// Read and not delivered; at most what one read fetches.
    ready: VecDeque<FoundRecord>,
    reading: bool,
    prefetch: u32,
    outstanding: u32,
    last: DeliveryId,
    /// Deliveries up to `last`: whether each is unsettled. The first one is.
    unsettled: VecDeque<bool>,
    /// Bytes that may still be sent before the connection says that it has flushed.
    window: i64,
    /// Set where it goes by a name.
    pub(super) tracker: Option<Box<Tracker>>,
    /// Its command, while its group is asked; and then until it is its turn it reads nothing.
    pub(super) asked: Option<Token>,
    _counted: Option<ConsumerGuard>,
}

impl Stream {
    fn takes(&self) -> bool {
        self.outstanding < self.prefetch && self.window > 0
    }

    fn deliver(&mut self, FoundRecord { time, message, .. }: FoundRecord) -> Delivery {
        self.last = self.last.next();
        self.outstanding += 1;
        self.unsettled.push_back(true);
        self.window -= queue::size(&message) as i64;
        if let Some(tracker) = &mut self.tracker {
            tracker.delivered(&message);
        }
        Delivery {
            id: self.last,
            // Lifetimes count from the record's time. That of the message is its publisher's.
            accepted: time,
            message,
            redelivered: false,
            returns: 0,
            failures: 0,
            packet_id: 0,
            tags: Default::default(),
        }
    }

    fn settle(&mut self, deliveries: RangeInclusive<DeliveryId>, outcome: Outcome) {
        let first = self.last.0 + 1 - self.unsettled.len() as u64;
        let (start, end) = (
            deliveries.start().0.max(first),
            deliveries.end().0.min(self.last.0),
        );
        for delivery in start..=end {
            let unsettled = &mut self.unsettled[(delivery - first) as usize];
            let was_unsettled = std::mem::replace(unsettled, false);
            self.outstanding -= u32::from(was_unsettled);
            if let Some(tracker) = &mut self.tracker
                && was_unsettled
                && matches!(outcome, Outcome::Requeue | Outcome::Release)
            {
                tracker.returned(DeliveryId(delivery));
            }
        }
        while self.unsettled.front() == Some(&false) {
            self.unsettled.pop_front();
            if let Some(tracker) = &mut self.tracker {
                tracker.settled(DeliveryId(self.last.0 - self.unsettled.len() as u64));
            }
        }
    }

    /// Goes on with what the group has committed.
    pub(super) fn resume(&mut self, offsets: &[CommittedOffset]) {
        if self.tracker.as_ref().is_none_or(|tracker| !tracker.anew) {
            resumed(&mut self.positions, &self.scan.log.tails, offsets);
        }
        self.reading = false;
        if let Some(tracker) = &mut self.tracker {
            tracker.start();
        }
    }
}

impl Link {
    pub(super) fn stream(&mut self, consumer: ConsumerId) -> Option<&mut Stream> {
        self.streams.get_mut()?.consumers.get_mut(&consumer)
    }

    /// Starts a consumer of a log.
    pub(super) fn consume_log(
        &mut self,
        token: Token,
        consumer: ConsumerId,
        log: &Arc<LogEntry>,
        spec: ConsumeSpec,
    ) {
        let subject = format!("queue '{}' in vhost '{}'", log.info.name, log.vhost);
        let name = &log.info.name;
        if let Err(refusal) = self.routing.permit(Operation::Read, Kind::Queue, name) {
            return self.done(token, Err(refusal));
        }
        let Some(prefetch) = spec.prefetch else {
            let text = format!("consumer prefetch count is not set for stream {subject}");
            return self.done(token, Err(Refusal::Invalid(text.into())));
        };
        if spec.auto_ack {
            let text = format!("automatic acknowledgement not supported by stream {subject}");
            return self.done(token, Err(Refusal::NotImplemented(text.into())));
        }
        if spec
            .channel
            .zip(self.channels.get())
            .is_some_and(|(channel, channels)| channels.is_limited(channel))
        {
            let text = format!("{subject} does not support global qos");
            return self.done(token, Err(Refusal::NotImplemented(text.into())));
        }
        if spec.priority != 0 {
            let text =
                format!("invalid arg 'x-priority' for {subject} of queue type rabbit_stream_queue");
            return self.done(token, Err(Refusal::Invalid(text.into())));
        }
        let StreamSpec {
            from,
            filter,
            follow,
        } = spec.stream.map(|spec| *spec).unwrap_or_default();
        let follow = match follow.map(|follow| self.may_follow(&follow).map(|may| (may, follow))) {
            Some(Ok((true, follow))) => Some(follow),
            Some(Err(refusal)) => return self.done(token, Err(refusal)),
            Some(Ok((false, _))) | None => None,
        };
        let positions: Vec<(u32, Position)> = (0..)
            .zip(log.tails.iter().map(|tail| Position::start(from, tail)))
            .collect();
        let follow = follow.map(|follow| self.ask_to_follow(consumer, log, follow, &positions));
        let (tracker, asked) = follow.unzip();
        let stream = Stream {
            positions,
            scan: Scan::new(
                log.clone(),
                filter.map_or(Wanted::All, |filter| Wanted::Values(Arc::new(filter))),
            ),
            ready: VecDeque::new(),
            reading: asked.is_some(),
            prefetch,
            outstanding: 0,
            last: DeliveryId(0),
            unsettled: VecDeque::new(),
            window: WINDOW,
            tracker: tracker.map(Box::new),
            asked: asked.is_some().then_some(token),
            _counted: log.tails.first().map(|tail| tail.consume()),
        };
        let streams = self.streams.make();
        streams.consumers.insert(consumer, stream);
        match asked {
            // It begins when its group has answered.
            Some(asked) => {
                streams.followers += 1;
                streams.reads.push(asked);
            }
            None => {
                self.done(token, Ok(Reply::Ok));
                self.advance_stream(consumer);
            }
        }
    }

    /// Makes room for more; false if the consumer is not one of a log.
    pub(super) fn settle_stream(
        &mut self,
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
        outcome: Outcome,
    ) -> bool {
        let Some(stream) = self.stream(consumer) else {
            return false;
        };
        stream.settle(deliveries, outcome);
        self.advance_stream(consumer);
        true
    }

    /// All output has reached the peer's socket.
    pub(super) fn streams_flushed(&mut self) {
        let Some(streams) = self.streams.get_mut() else {
            return;
        };
        let mut waiting = Vec::new();
        for (consumer, stream) in &mut streams.consumers {
            if std::mem::replace(&mut stream.window, WINDOW) <= 0 {
                waiting.push(*consumer);
            }
        }
        for consumer in waiting {
            self.advance_stream(consumer);
        }
    }

    /// A consumer has ended.
    pub(super) fn end_stream(&mut self, consumer: ConsumerId, told: bool) {
        let streams = self.streams.get_mut();
        if let Some(stream) = streams.and_then(|it| it.consumers.remove(&consumer)) {
            self.end_following(consumer, stream, told);
        }
    }

    /// Something has come that a consumer waited for.
    pub(super) fn stream_came(&mut self, (consumer, came): Read) {
        match came {
            Came::Records(result) => self.stream_read(consumer, result),
            Came::Answer(answer) => self.follow_answered(consumer, answer),
            Came::Turn(Ok(Start::Now(offsets))) => self.follow_from(consumer, &offsets),
            // The shard has gone, and with it the broker.
            Came::Turn(_) => {}
        }
    }

    fn stream_read(&mut self, consumer: ConsumerId, result: Result<Vec<Found>, Refusal>) {
        let Some(stream) = self.stream(consumer) else {
            return;
        };
        stream.reading = false;
        match result {
            Ok(found) => {
                stream.positions.clear();
                for found in found {
                    let next = Position::At(found.next);
                    stream.positions.push((found.partition, next));
                    stream.ready.extend(found.records);
                }
                self.advance_stream(consumer);
            }
            Err(refusal) => {
                self.end_stream(consumer, false);
                let reason = match refusal {
                    Refusal::NotFound { .. } => CancelReason::QueueDeleted,
                    _ => {
                        tracing::error!(%refusal, "a log cannot be read");
                        CancelReason::Unreadable
                    }
                };
                self.local.push(Event::Cancelled { consumer, reason });
            }
        }
    }

    /// Delivers what there is as far as there is room, and reads on when nothing is left.
    pub(super) fn advance_stream(&mut self, consumer: ConsumerId) {
        let Some(stream) = self.stream(consumer) else {
            return;
        };
        let mut deliveries = Vec::new();
        while stream.takes()
            && let Some(record) = stream.ready.pop_front()
        {
            deliveries.push(stream.deliver(record));
        }
        if let Some(tracker) = &mut stream.tracker
            && stream.ready.is_empty()
        {
            tracker.caught_up(&stream.positions);
        }
        if stream.takes() && !stream.reading {
            stream.reading = true;
            let (scan, positions) = (stream.scan.clone(), stream.positions.clone());
            let store = self.broker.committer.store().clone();
            let read: BoxFuture<'static, Read> = Box::pin(async move {
                let found = scan.read(store, &positions, READ_BYTES, true).await;
                (consumer, Came::Records(found))
            });
            self.streams.make().reads.push(read);
        }
        if !deliveries.is_empty() {
            self.delivered(consumer, &deliveries);
            self.local.push(Event::Deliver {
                consumer,
                deliveries,
            });
        }
    }
}
