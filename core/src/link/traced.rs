//! Spans of what passes through a connection, where there is somebody who takes them.

use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{Link, publish::Plan};
use crate::{
    event::{Delivery, Fetched, Refusal},
    id::{ConsumerId, Offset},
    log::{self, Visible, record_place},
    message::Message,
    properties::Text,
    topic::Grammar,
    trace::{Details, Operation, Span, TraceContext, Tracer},
};

/// A batch is decompressed to so many bytes at most.
const DECOMPRESSED_MAX: usize = 64 << 20;

/// Of a connection whose messages are traced.
pub(super) struct Tracing {
    observer: Observer,
    /// What consumers read from.
    sources: FxHashMap<ConsumerId, Text>,
}

/// Makes spans for the clients of one protocol.
#[derive(Clone)]
pub(super) struct Observer {
    tracer: Arc<Tracer>,
    protocol: Text,
}

/// A publish that is under way.
pub(super) struct Publishing {
    context: TraceContext,
    id: [u8; 8],
    start: u64,
    routed: u64,
}

impl Tracing {
    pub(super) fn new(tracer: Arc<Tracer>, protocol: Text) -> Tracing {
        Tracing {
            observer: Observer { tracer, protocol },
            sources: FxHashMap::default(),
        }
    }
}

impl Observer {
    fn span(
        &self,
        context: &TraceContext,
        operation: Operation,
        destination: Text,
        start: u64,
    ) -> Span {
        Span {
            trace: context.trace,
            id: self.tracer.span_id(),
            parent: context.parent,
            trace_state: context.state.clone(),
            operation,
            protocol: self.protocol.clone(),
            destination,
            start,
            end: self.tracer.now(),
            details: Details::default(),
            error: None,
        }
    }

    /// Records that are in a batch and whose traces are sampled, each with its place in the batch.
    fn traced_records(&self, batch: &Bytes) -> Vec<(u32, TraceContext, u64)> {
        // What cannot be read is another's concern.
        let Ok(records) = log::records(batch, DECOMPRESSED_MAX) else {
            return Vec::new();
        };
        let traced = records.map_while(Result::ok).filter_map(|record| {
            let headers: Vec<_> = log::record_headers(record.headers.clone()).collect();
            let texts = headers.iter().filter_map(|(name, value)| {
                Some((&**name, std::str::from_utf8(value.as_deref()?).ok()?))
            });
            let context = self.tracer.context_of(texts)?;
            let size = record.value.map_or(0, |value| value.len() as u64);
            Some((record.offset_delta, context, size))
        });
        traced.collect()
    }

    /// A producer's batch is appended.
    fn appended(&self, log: &Text, partition: u32, batch: &Bytes, start: u64) {
        for (_, context, size) in self.traced_records(batch) {
            let mut span = self.span(&context, Operation::Publish, log.clone(), start);
            span.details.place = Some((partition, None));
            span.details.body_size = Some(size);
            self.tracer.record(span);
        }
    }

    /// Batches go to a consumer.
    pub(super) fn fetched(&self, fetched: &[Fetched], from: &[Offset]) {
        for (part, from) in fetched.iter().zip(from) {
            let Ok(batches) = &part.result else {
                continue;
            };
            let mut visible = Visible::new(&part.aborted);
            for batch in batches {
                if visible.shows(batch) && self.tracer.has_room() {
                    self.fetched_batch(part, batch.base, &batch.bytes, *from);
                }
            }
        }
    }

    fn fetched_batch(&self, part: &Fetched, base: Offset, batch: &Bytes, from: Offset) {
        let now = self.tracer.now();
        for (delta, context, size) in self.traced_records(batch) {
            let offset = base.0 + u64::from(delta);
            if offset < from.0 {
                continue;
            }
            let mut span = self.span(&context, Operation::Deliver, part.log.clone(), now);
            span.details.place = Some((part.partition, Some(offset)));
            span.details.body_size = Some(size);
            self.tracer.record(span);
        }
    }
}

impl Link {
    /// A message is to be published; `None` where nobody wants to know.
    pub(super) fn begin_publish(&self, message: &Message) -> Option<Publishing> {
        let tracer = &self.tracing.as_ref()?.observer.tracer;
        let context = tracer.has_room().then(|| tracer.context(message))??;
        let start = tracer.now();
        Some(Publishing {
            context,
            id: tracer.span_id(),
            start,
            routed: start,
        })
    }

    /// It is known where the message goes, or that it goes nowhere.
    pub(super) fn planned(
        &self,
        mut publishing: Publishing,
        message: &Message,
        plan: Result<Plan, Refusal>,
    ) -> Result<Plan, Refusal> {
        if let Some(Tracing { observer, .. }) = self.tracing.as_deref() {
            publishing.routed = observer.tracer.now();
        }
        match plan {
            Ok(mut plan) => {
                plan.publishing = Some(Box::new(publishing));
                Ok(plan)
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                self.published(publishing, message, Err(reason.into()));
                Err(refusal)
            }
        }
    }

    /// The message has been handed to so many destinations, or was refused.
    pub(super) fn published(
        &self,
        publishing: Publishing,
        message: &Message,
        sent: Result<u32, Text>,
    ) {
        let Some(Tracing { observer, .. }) = self.tracing.as_deref() else {
            return;
        };
        let Publishing {
            context,
            id,
            start,
            routed,
        } = publishing;
        let key = message.topic.render(Grammar::Dots);
        // What goes to the default exchange goes to the queue or log that its key names.
        let destination = match message.exchange.is_empty() {
            true => key.clone(),
            false => message.exchange.clone(),
        };
        let details = Details {
            body_size: message.body.as_ref().map(|body| body.len() as u64),
            routing_key: Some(key),
            destinations: sent.as_ref().ok().map(|count| u64::from(*count)),
            ..Details::default()
        };
        let route = Span {
            parent: Some(id),
            end: routed,
            details: details.clone(),
            ..observer.span(&context, Operation::Route, destination.clone(), start)
        };
        let publish = Span {
            id,
            details,
            error: sent.err(),
            ..observer.span(&context, Operation::Publish, destination, start)
        };
        observer.tracer.record(publish);
        observer.tracer.record(route);
    }

    /// A producer's batch was appended.
    pub(super) fn trace_append(&self, log: &Text, partition: u32, batch: &Bytes) {
        if let Some(Tracing { observer, .. }) = self.tracing.as_deref()
            && observer.tracer.has_room()
        {
            observer.appended(log, partition, batch, observer.tracer.now());
        }
    }

    /// What watches fetches, if anything does.
    pub(super) fn observer(&self) -> Option<Observer> {
        let tracing = self.tracing.as_ref();
        tracing.map(|tracing| tracing.observer.clone())
    }

    /// A consumer reads from here.
    pub(super) fn trace_source(&mut self, consumer: ConsumerId, source: &Text) {
        if let Some(tracing) = &mut self.tracing {
            tracing.sources.insert(consumer, source.clone());
        }
    }

    /// A consumer has ended.
    pub(super) fn forget_source(&mut self, consumer: ConsumerId) {
        if let Some(tracing) = &mut self.tracing {
            tracing.sources.remove(&consumer);
        }
    }

    /// Messages go to a consumer.
    pub(super) fn delivered(&self, consumer: ConsumerId, deliveries: &[Delivery]) {
        let Some(Tracing { observer, sources }) = self.tracing.as_deref() else {
            return;
        };
        let tracer = &observer.tracer;
        let source = sources.get(&consumer);
        for delivery in deliveries {
            if !tracer.has_room() {
                continue;
            }
            let message = &delivery.message;
            let Some(context) = tracer.context(message) else {
                continue;
            };
            let now = tracer.now();
            let topic = || message.topic.render(Grammar::Slashes);
            let destination = source.cloned().unwrap_or_else(topic);
            let place = record_place(&message.native);
            let accepted = delivery.accepted.0;
            let details = Details {
                body_size: message.body.as_ref().map(|body| body.len() as u64),
                routing_key: Some(message.topic.render(Grammar::Dots)),
                place: place.map(|(partition, offset)| (partition, Some(offset.0))),
                waited_ms: (accepted > 0).then(|| (now / 1_000_000).saturating_sub(accepted)),
                ..Details::default()
            };
            let span = Span {
                details,
                ..observer.span(&context, Operation::Deliver, destination, now)
            };
            tracer.record(span);
        }
    }
}
