//! Consumers of logs: they read on their own, past all shards, and what they settle makes room for more.

use std::{collections::VecDeque, ops::RangeInclusive, sync::Arc};

use futures_util::stream::FuturesUnordered;
use rustc_hash::FxHashMap;

use super::Link;
use crate::{
    access::Operation,
    catalog::LogEntry,
    command::{ConsumeSpec, StreamStart},
    event::{CancelReason, Delivery, Event, Kind, Refusal, Reply},
    id::{ConsumerId, DeliveryId, Token},
    log::{ConsumerGuard, Position, Reader, Stretch},
    message::{Message, Origin},
    properties::Text,
    queue::{self, WINDOW},
    store::BoxFuture,
};

/// A read that has come back.
pub(super) type Read = (ConsumerId, Result<Stretch, Refusal>);

/// The consumers of logs of one connection.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) consumers: FxHashMap<ConsumerId, Stream>,
    /// What they read.
    pub(super) reads: FuturesUnordered<BoxFuture<'static, Read>>,
}

/// One consumer of a log.
pub(super) struct Stream {
    reader: Reader,
    positions: Vec<Position>,
    /// Read and not delivered; at most what one read fetches.
    ready: VecDeque<Arc<Message>>,
    reading: bool,
    prefetch: u32,
    outstanding: u32,
    last: DeliveryId,
    /// Deliveries up to `last`: whether each is unsettled. The first one is.
    unsettled: VecDeque<bool>,
    /// Bytes that may still be sent before the connection says that it has flushed.
    window: i64,
    _counted: Option<ConsumerGuard>,
}

impl Stream {
    fn takes(&self) -> bool {
        self.outstanding < self.prefetch && self.window > 0
    }

    fn deliver(&mut self, message: Arc<Message>) -> Delivery {
        self.last = self.last.next();
        self.outstanding += 1;
        self.unsettled.push_back(true);
        self.window -= queue::size(&message) as i64;
        Delivery {
            id: self.last,
            accepted: message.timestamp.unwrap_or_default(),
            message,
            redelivered: false,
            returns: 0,
            packet_id: 0,
            tags: Default::default(),
        }
    }

    fn settle(&mut self, deliveries: RangeInclusive<DeliveryId>) {
        let first = self.last.0 + 1 - self.unsettled.len() as u64;
        let (start, end) = (
            deliveries.start().0.max(first),
            deliveries.end().0.min(self.last.0),
        );
        for delivery in start..=end {
            let unsettled = &mut self.unsettled[(delivery - first) as usize];
            self.outstanding -= u32::from(std::mem::replace(unsettled, false));
        }
        while self.unsettled.front() == Some(&false) {
            self.unsettled.pop_front();
        }
    }
}

impl Link {
    fn stream(&mut self, consumer: ConsumerId) -> Option<&mut Stream> {
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
        let (from, filter) = match spec.stream {
            Some(stream) => (stream.from, stream.filter),
            None => (StreamStart::default(), None),
        };
        let origin = Origin {
            protocol: Text::from_static("stream"),
            vhost: log.vhost.clone(),
            ..Origin::default()
        };
        let stream = Stream {
            positions: log
                .tails
                .iter()
                .map(|tail| Position::start(from, tail))
                .collect(),
            reader: Reader {
                store: self.broker.committer.store().clone(),
                vhost: log.vhost.clone(),
                name: log.info.name.clone(),
                log: log.info.id,
                tails: log.tails.clone(),
                filter,
                origin: Arc::new(origin),
            },
            ready: VecDeque::new(),
            reading: false,
            prefetch,
            outstanding: 0,
            last: DeliveryId(0),
            unsettled: VecDeque::new(),
            window: WINDOW,
            _counted: log.tails.first().map(|tail| tail.consume()),
        };
        self.streams.make().consumers.insert(consumer, stream);
        self.done(token, Ok(Reply::Ok));
        self.advance_stream(consumer);
    }

    /// Makes room for more; false if the consumer is not one of a log.
    pub(super) fn settle_stream(
        &mut self,
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
    ) -> bool {
        let Some(stream) = self.stream(consumer) else {
            return false;
        };
        stream.settle(deliveries);
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

    /// A read has come back.
    pub(super) fn stream_read(&mut self, (consumer, result): Read) {
        let Some(stream) = self.stream(consumer) else {
            return;
        };
        stream.reading = false;
        match result {
            Ok(stretch) => {
                stream.ready.extend(stretch.messages);
                stream.positions = stretch.next;
                self.advance_stream(consumer);
            }
            Err(refusal) => {
                self.streams.make().consumers.remove(&consumer);
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
    fn advance_stream(&mut self, consumer: ConsumerId) {
        let Some(stream) = self.stream(consumer) else {
            return;
        };
        let mut deliveries = Vec::new();
        while stream.takes()
            && let Some(message) = stream.ready.pop_front()
        {
            deliveries.push(stream.deliver(message));
        }
        if stream.takes() && !stream.reading {
            stream.reading = true;
            let read = stream.reader.clone().read(stream.positions.clone());
            let read: BoxFuture<'static, Read> = Box::pin(async move { (consumer, read.await) });
            self.streams.make().reads.push(read);
        }
        if !deliveries.is_empty() {
            self.local.push(Event::Deliver {
                consumer,
                deliveries,
            });
        }
    }
}
