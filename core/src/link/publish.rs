//! Publishing: one message to all of its destinations, grouped by shard and handed over by turn.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Attached, Link, Mailbox, Stopped, traced::Publishing};
use crate::{
    broker::Inner,
    catalog::{LogTarget, QueueTarget, SQUARE, Targets},
    commit::Span,
    conversions::ConversionTally,
    event::{Event, Refusal},
    id::Token,
    log::{self, NewRecord},
    message::Message,
    metrics::Metrics,
    queue::{Arrival, BodyChunk},
    rare::Rare,
    replies::Taker,
    shard::{Op, Request},
    topic::{Grammar, Topic},
};

/// Bodies smaller than this are stored in each queue: a reference would cost as much.
const SHARED_BODY_MIN: usize = 256;

impl Link {
    /// Sends a message to wherever its topic and the others lead.
    pub(super) fn publish(
        &mut self,
        token: Option<Token>,
        message: Arc<Message>,
        mandatory: bool,
        also: &[Topic],
    ) {
        let plan = match self.plan(&message, also) {
            Ok(plan) => plan,
            Err(refusal) => return self.refuse(token, message, refusal),
        };
        let (is_routed, (destinations, shards)) =
            (plan.is_routed(), self.send(token, &message, plan));
        if shards.count_ones() > 1 {
            self.outgoing.spanned |= shards;
        }
        match token {
            Some(token) if destinations > 0 => self.confirms.expect(token, destinations),
            Some(token) if is_routed => self.local.push(Event::Confirmed {
                tokens: vec![token],
            }),
            _ => {}
        }
        if !is_routed {
            self.unrouted(token, message, mandatory, destinations == 0);
        }
    }

    /// Says why a message would be refused, if it would.
    pub(super) fn probe(&mut self, token: Token, message: Arc<Message>) {
        if let Err(refusal) = self.find_plan(&message, &[]) {
            self.refuse(Some(token), message, refusal);
        }
    }

    /// Where a message goes, if it may go there and all of these places take it.
    pub(super) fn plan(&mut self, message: &Message, also: &[Topic]) -> Result<Plan, Refusal> {
        match self.begin_publish(message) {
            None => self.find_plan(message, also),
            Some(publishing) => {
                let plan = self.find_plan(message, also);
                self.planned(publishing, message, plan)
            }
        }
    }

    fn find_plan(&mut self, message: &Message, also: &[Topic]) -> Result<Plan, Refusal> {
        let routed = self.routing.route_all(&self.actor.vhost, message, also);
        let targets = routed.inspect_err(|_| {
            let denied = self.routing.take_captures_denied();
            self.broker.metrics.capture_denied(denied);
        })?;
        if let Some(refusal) = self.broker.refusal() {
            return Err(refusal);
        }
        let records = records(message, &targets.logs, self.broker.batch_bytes_max)?;
        let replies = &self.broker.replies;
        let topics = std::iter::once(&message.topic).chain(also);
        let takers = topics.filter_map(|topic| replies.taker(&message.exchange, topic));
        let is_delayed = !targets.delays.is_empty();
        Ok(Plan {
            takers: takers.collect(),
            also: is_delayed.then(|| also.into()),
            targets,
            records,
            publishing: None,
        })
    }

    /// Sends a message where it was planned to go: how many destinations will confirm it, in which shards.
    pub(super) fn send(
        &mut self,
        token: Option<Token>,
        message: &Arc<Message>,
        plan: Plan,
    ) -> (u32, u64) {
        let Plan {
            targets,
            records,
            takers,
            also,
            publishing,
        } = plan;
        self.outgoing.published += 1;
        self.outgoing.publishes = true;
        self.outgoing.is_busy = true;
        targets.remember(message);
        for taker in takers {
            if !taker.put(message.clone()) {
                tracing::debug!("a reply was dropped: its requester does not read");
            }
        }
        let mut destinations = 0;
        let mut shards = 0u64;
        let body = self.share_body(message, &targets.queues);
        for target in &targets.queues {
            let arrival = Arrival {
                body: body.clone(),
                ..Arrival::to(target, message)
            };
            let (shard, op) = self.broker.enqueue(target.queue.id, arrival, token);
            self.outgoing.push(shard, op);
            destinations += 1;
            shards |= 1 << shard;
        }
        for (LogTarget { log, .. }, record) in targets.logs.iter().zip(records) {
            // What is sent to the log by its name is tapped, what an exchange led there is not.
            let captured = !message.exchange.is_empty();
            let publisher = self.actor.connection;
            let (shard, op) = self.broker.to_log(log, record, publisher, captured, token);
            self.outgoing.push(shard, op);
            self.outgoing.count_record(message, &self.broker.metrics);
            destinations += 1;
            shards |= 1 << shard;
        }
        for entry in &targets.delays {
            let also = also.clone().unwrap_or_default();
            let (shard, op) = self.broker.to_delay(entry, message, also, token);
            self.outgoing.push(shard, op);
            destinations += 1;
            shards |= 1 << shard;
        }
        // What is retained is on the town square.
        if message.retain && message.exchange == SQUARE {
            let shard = self
                .broker
                .shard_of_name(&message.topic.render(Grammar::Slashes));
            let vhost = self.actor.vhost.clone();
            let retain = Op::Retain {
                vhost,
                message: message.clone(),
                token,
            };
            // Whoever gets it finds it retained.
            self.outgoing.push_first(shard, retain);
            destinations += 1;
            shards |= 1 << shard;
        }
        if let Some(publishing) = publishing {
            self.published(*publishing, message, Ok(destinations));
        }
        (destinations, shards)
    }

    pub(super) fn refuse(&mut self, token: Option<Token>, message: Arc<Message>, reason: Refusal) {
        self.local.push(match token {
            Some(token) => Event::Refused {
                tokens: vec![token],
                reason,
            },
            None => Event::Rejected { message, reason },
        });
    }

    pub(super) fn unrouted(
        &mut self,
        token: Option<Token>,
        message: Arc<Message>,
        mandatory: bool,
        confirm: bool,
    ) {
        self.outgoing.unroutable += 1;
        if mandatory {
            self.local.push(Event::Returned { token, message });
        }
        if let Some(token) = token {
            self.local.push(Event::Unrouted { token });
            if confirm {
                self.local.push(Event::Confirmed {
                    tokens: vec![token],
                });
            }
        }
    }

    /// Puts a body that several queues will store into the turn's body chunk.
    fn share_body(
        &mut self,
        message: &Message,
        queues: &[QueueTarget],
    ) -> Option<(Arc<BodyChunk>, u32)> {
        let body = message
            .body
            .as_ref()
            .filter(|body| body.len() >= SHARED_BODY_MIN && queues.len() > 1)?;
        let storing = |target: &&QueueTarget| target.queue.spec.durable && !target.best_effort;
        if !message.is_persistent() || queues.iter().filter(storing).count() < 2 {
            return None;
        }
        let index = self.outgoing.bodies.len() as u32;
        self.outgoing.bodies.push(body.clone());
        let broker = &self.broker;
        let chunk = self
            .outgoing
            .body_chunk
            .get_or_insert_with(|| Arc::new(BodyChunk::new(broker.next_body_chunk())));
        Some((chunk.clone(), index))
    }
}

/// Room in inboxes, by shard.
type Permits<'b> = SmallVec<[(usize, mpsc::Permit<'b, Request>); 2]>;

/// Where a message goes.
pub(super) struct Plan {
    targets: Arc<Targets>,
    records: Vec<NewRecord>,
    takers: SmallVec<[Arc<Taker>; 1]>,
    /// Where it is traced.
    pub(super) publishing: Option<Box<Publishing>>,
    /// The other topics, where there are exchanges that route it later.
    also: Option<Arc<[Topic]>>,
}

impl Plan {
    /// Whether it goes anywhere at all.
    pub(super) fn is_routed(&self) -> bool {
        !self.targets.is_empty() || !self.takers.is_empty()
    }
}

/// What each log gets. One that cannot take its record spares all destinations: a publish reaches all or none.
fn records(
    message: &Message,
    logs: &[LogTarget],
    bytes_max: usize,
) -> Result<Vec<NewRecord>, Refusal> {
    logs.iter()
        .map(|LogTarget { log: entry, .. }| {
            let record = log::record_from_message(message, &entry.settings);
            record.check(&entry.info.name, &entry.settings, bytes_max)?;
            Ok(record)
        })
        .collect()
}

/// What a turn of a connection has for each shard.
pub(crate) struct Outgoing {
    ops: Vec<Vec<Op>>,
    /// What is to be in the inboxes before any of `ops` is.
    first: Rare<Vec<(usize, Vec<Op>)>>,
    visited: u64,
    /// Shards with parts of publishes that went to several.
    pub(crate) spanned: u64,
    body_chunk: Option<Arc<BodyChunk>>,
    bodies: Vec<Bytes>,
    published: u64,
    unroutable: u64,
    /// What became records.
    converted: Option<Box<ConversionTally>>,
    /// The session that the connection acts for.
    pub(super) attached: Option<Box<Attached>>,
    /// By the express inboxes.
    is_express: bool,
    /// It has ever published.
    pub(super) publishes: bool,
    /// Messages have come or gone since the link last rested.
    pub(super) is_busy: bool,
}

impl Outgoing {
    pub(crate) fn new(shards: usize) -> Outgoing {
        Outgoing {
            ops: (0..shards).map(|_| Vec::new()).collect(),
            first: Rare::default(),
            visited: 0,
            spanned: 0,
            body_chunk: None,
            bodies: Vec::new(),
            published: 0,
            unroutable: 0,
            converted: None,
            attached: None,
            is_express: false,
            publishes: false,
            is_busy: false,
        }
    }

    /// What the broker does at a time that was set: it does not stand behind what connections have sent.
    pub(crate) fn express(shards: usize) -> Outgoing {
        Outgoing {
            is_express: true,
            ..Outgoing::new(shards)
        }
    }

    pub(crate) fn push(&mut self, shard: usize, op: Op) {
        self.ops[shard].push(op);
    }

    /// A message became a record.
    pub(crate) fn count_record(&mut self, message: &Message, metrics: &Metrics) {
        let converted = &metrics.conversions;
        let converted = self
            .converted
            .get_or_insert_with(|| Box::new(ConversionTally::new(converted)));
        converted.count(message, 0);
    }

    /// As `push`, for what its shard is to hear before any shard hears anything else of this turn, and in a request of
    /// its own: two shards may each have to hear something first.
    pub(crate) fn push_first(&mut self, shard: usize, op: Op) {
        if self.ops.len() == 1 {
            return self.push(shard, op);
        }
        let first = self.first.make();
        match first.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, ops)) => ops.push(op),
            None => first.push((shard, vec![op])),
        }
    }

    /// What is retained and delivered in one shard comes in two requests, and is to be one batch.
    fn keep_retained_together(&mut self) {
        for (shard, ops) in self.first.get().into_iter().flatten() {
            let retains = ops.iter().any(|op| matches!(op, Op::Retain { .. }));
            if retains && !self.ops[*shard].is_empty() {
                self.spanned |= 1 << shard;
            }
        }
    }

    /// The shards that there are requests for, those that go first in front.
    fn receivers(&self) -> impl Iterator<Item = usize> {
        let first = self.first.get().into_iter().flatten();
        let rest = self.ops.iter().enumerate();
        let rest = rest.filter(|(_, ops)| !ops.is_empty());
        first
            .map(|(shard, _)| *shard)
            .chain(rest.map(|(shard, _)| shard))
    }

    /// Shards that have ever heard of this connection.
    pub(crate) fn visited(&self) -> Vec<usize> {
        (0..self.ops.len())
            .filter(|shard| self.visited & (1 << shard) != 0)
            .collect()
    }

    /// All shards hear of this connection, not by way of its commands.
    pub(crate) fn visit_all(&mut self) {
        self.visited = u64::MAX;
    }

    /// Gives back the memory of what was handed over.
    pub(crate) fn rest(&mut self) {
        for ops in &mut self.ops {
            ops.shrink_to_fit();
        }
        self.bodies.shrink_to_fit();
    }

    fn inboxes<'b>(&self, broker: &'b Inner) -> &'b [mpsc::Sender<Request>] {
        if self.is_express {
            &broker.express
        } else {
            &broker.shards
        }
    }

    /// Whether there is nothing but what makes room for deliveries. That does not stand behind what thousands publish: their
    /// subscriber would get a window's worth each time that all of them have had their turn. Who publishes by AMQP may
    /// mean what is published first to be there first; a session's acknowledgements have nothing to do with it.
    fn only_makes_room(&self) -> bool {
        self.spanned == 0
            && (self.attached.is_some() || !self.publishes)
            && self.first.get().is_none_or(Vec::is_empty)
            && self.ops.iter().flatten().all(Op::makes_room)
    }

    /// Room in the inbox of each shard that there is something for, unless one of them is full.
    fn reserve_now<'b>(
        &self,
        inboxes: &'b [mpsc::Sender<Request>],
    ) -> Result<Option<Permits<'b>>, Stopped> {
        let mut permits = Permits::new();
        for shard in self.receivers() {
            match inboxes[shard].try_reserve() {
                Ok(permit) => permits.push((shard, permit)),
                Err(TrySendError::Full(())) => return Ok(None),
                Err(TrySendError::Closed(())) => return Err(Stopped),
            }
        }
        Ok(Some(permits))
    }

    /// As `reserve_now`; waits for room. All connections wait for shards in the same order, and for all the room that they
    /// want of one at once: otherwise each could hold what another waits for.
    async fn reserve<'b>(&self, broker: &'b Inner) -> Result<Permits<'b>, Stopped> {
        let mut permits = Permits::new();
        for (shard, inbox) in self.inboxes(broker).iter().enumerate() {
            let wanted = self.receivers().filter(|of| *of == shard).count();
            if wanted > 0 {
                let room = inbox.reserve_many(wanted).await.map_err(|_| Stopped)?;
                permits.extend(room.map(|permit| (shard, permit)));
            }
        }
        let take = |shard| {
            let at = permits.iter().position(|(of, _)| *of == shard)?;
            Some(permits.swap_remove(at))
        };
        Ok(self.receivers().filter_map(take).collect())
    }

    /// Hands over what there is. Room is reserved in all inboxes first, so that the parts of a span
    /// arrive without anything awaited in between.
    pub(crate) async fn flush(
        &mut self,
        broker: &Inner,
        from: &Arc<Mailbox>,
    ) -> Result<(), Stopped> {
        if let Some(chunk) = self.body_chunk.take() {
            chunk.fill(std::mem::take(&mut self.bodies));
        }
        if self.published > 0 {
            broker.metrics.published(
                std::mem::take(&mut self.published),
                std::mem::take(&mut self.unroutable),
            );
        }
        if let Some(converted) = &mut self.converted {
            converted.fold();
        }
        if self.flush_now(broker, from)? {
            return Ok(());
        }
        // In a box: what is rare must not make every connection larger.
        Box::pin(self.flush_slowly(broker, from)).await
    }

    /// Whether there was room.
    fn flush_now(&mut self, broker: &Inner, from: &Arc<Mailbox>) -> Result<bool, Stopped> {
        let mut permits = None;
        if self.only_makes_room() {
            permits = self.reserve_now(&broker.express)?;
        }
        if permits.is_none() {
            permits = self.reserve_now(self.inboxes(broker))?;
        }
        let has_room = permits.is_some();
        if let Some(permits) = permits {
            self.hand_over(permits, broker, from);
        }
        Ok(has_room)
    }

    async fn flush_slowly(&mut self, broker: &Inner, from: &Arc<Mailbox>) -> Result<(), Stopped> {
        let permits = self.reserve(broker).await?;
        self.hand_over(permits, broker, from);
        Ok(())
    }

    fn hand_over(&mut self, mut permits: Permits<'_>, broker: &Inner, from: &Arc<Mailbox>) {
        let attached = self.attached.take();
        let claimed = attached.as_deref().map(Attached::hold);
        if let Some(None) = claimed {
            // Another connection has the session: what this one still had to say is not said.
            self.ops.iter_mut().for_each(Vec::clear);
            self.first = Rare::default();
            self.spanned = 0;
            permits.clear();
        }
        self.keep_retained_together();
        let spanned = std::mem::take(&mut self.spanned);
        let span = (spanned != 0).then(|| Span {
            id: broker.next_span(),
            parts: permits
                .iter()
                .filter(|(shard, _)| spanned & (1 << shard) != 0)
                .count() as u32,
        });
        let mut first = std::mem::take(&mut self.first).into_inner().into_iter();
        for (shard, permit) in permits {
            self.visited |= 1 << shard;
            let ops = match first.next() {
                Some((_, ops)) => ops,
                None => std::mem::take(&mut self.ops[shard]),
            };
            let span = span.filter(|_| spanned & (1 << shard) != 0);
            permit.send(Request {
                from: from.clone(),
                ops,
                span,
            });
        }
        drop(claimed);
        self.attached = attached;
    }
}
