//! One connection's end of the broker: commands are routed and handed to shards by turn, events come back.

mod channels;
mod confirms;
mod consume;
mod cursors;
mod follow;
mod logs;
mod mailbox;
mod manage;
mod producers;
mod publish;
mod replies;
mod routing;
mod seats;
mod session;
mod streams;
mod traced;
mod transact;

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use futures_util::{Stream as _, stream::FuturesUnordered};
use rustc_hash::FxHashMap;

use self::{
    channels::Channels,
    confirms::Confirms,
    logs::{no_partition, replaced},
    replies::Replies,
    seats::Seats,
    streams::Streams,
    traced::Tracing,
    transact::Transaction,
};
pub(crate) use self::{
    mailbox::Mailbox,
    publish::Outgoing,
    routing::Routing,
    session::{Attached, Claim},
};
use crate::{
    access::Operation,
    broker::Inner,
    catalog::{Actor, LogEntry, SQUARE},
    command::{Change, Command, Credentials, Fetch, FetchPartition, Isolation, OffsetSpec},
    event::{Event, Kind, Refusal, Reply, Retained},
    few_map::FewMap,
    group::GroupInfo,
    id::{ConsumerId, Token},
    log,
    message::{Message, Origin},
    properties::Text,
    queue::{self, WINDOW, Wait},
    rare::Rare,
    shard::Op,
    store::BoxFuture,
};

/// The broker has stopped; nothing more will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker has stopped")]
pub struct Stopped;

/// Where a consumer's deliveries come from.
#[derive(Clone, Copy, Debug)]
struct Feed {
    shard: usize,
    /// Bytes delivered for which the shard has had no credit back.
    owed: usize,
}

impl Feed {
    fn from(shard: usize) -> Feed {
        Feed { shard, owed: 0 }
    }
}

/// Answers of some shards.
enum Gathered {
    Retained(Vec<Retained>),
    Groups(Vec<GroupInfo>),
}

/// One connection's end of the broker. Dropping it requeues what its consumers hold, ends them, and
/// deletes its exclusive queues.
pub struct Link {
    broker: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    actor: Actor,
    routing: Routing,
    /// What the connection counts for.
    seats: Seats,
    confirms: Confirms,
    channels: Rare<Channels>,
    outgoing: Outgoing,
    /// Consumers of queues.
    consumers: FewMap<ConsumerId, Feed>,
    /// The addresses at which this connection takes replies.
    replies: Rare<FxHashMap<ConsumerId, Replies>>,
    transactions: Rare<FxHashMap<Token, Transaction>>,
    /// Consumers of logs.
    streams: Rare<Streams>,
    /// Answers of several shards to one command, until all have come.
    gathered: Rare<FxHashMap<Token, (usize, Gathered)>>,
    /// Where messages are traced.
    tracing: Option<Box<Tracing>>,
    /// Events that this link makes itself.
    local: Vec<Event>,
    /// Reads of logs under way.
    reads: Rare<FuturesUnordered<BoxFuture<'static, Event>>>,
    /// A change under way. Once begun it is carried through, also when the connection goes.
    defining: Option<BoxFuture<'static, Defined>>,
    /// Subscribers that are to catch up before more is published.
    waits: Rare<Vec<Wait>>,
}

/// What became of changes, as far as no shard answers for them.
type Defined = Vec<(Token, Result<Reply, Refusal>)>;

/// Bindings that are made in one step, so that others have their turn.
const BINDINGS_TOGETHER: usize = 256;

fn is_binding(change: &Change) -> bool {
    matches!(change, Change::Bind(_) | Change::Unbind(_))
}

impl Link {
    pub(crate) fn new(broker: Arc<Inner>, mailbox: Arc<Mailbox>, origin: Origin) -> Link {
        let traced = |tracer| Box::new(Tracing::new(tracer, origin.protocol.clone()));
        let tracing = broker.tracer.get().cloned().map(traced);
        let mut routing = Routing::new(broker.snapshot.clone());
        let outgoing = Outgoing::new(broker.shards.len());
        let login_enters = !origin.vhost.is_empty();
        let vhost = if login_enters {
            origin.vhost
        } else {
            Text::from_static("/")
        };
        let actor = Actor {
            connection: mailbox.connection,
            user: origin.user,
            vhost,
        };
        routing.set_actor(&actor);
        Link {
            broker,
            mailbox,
            actor,
            routing,
            seats: Seats::new(login_enters),
            confirms: Confirms::default(),
            channels: Rare::default(),
            outgoing,
            consumers: FewMap::default(),
            replies: Rare::default(),
            transactions: Rare::default(),
            streams: Rare::default(),
            gathered: Rare::default(),
            tracing,
            local: Vec::new(),
            reads: Rare::default(),
            defining: None,
            waits: Rare::default(),
        }
    }

    /// Routes and hands over one turn of commands, draining the vector. Waits while a shard's inbox is full and
    /// for definitions to be carried out; never for another connection.
    pub async fn submit(&mut self, commands: &mut Vec<Command>) -> Result<(), Stopped> {
        self.take_quickly(commands);
        if !commands.is_empty() {
            // In a box: what is rare must not make every connection larger.
            Box::pin(self.take_slowly(commands)).await?;
        }
        self.wake_channels();
        self.tell_positions();
        self.outgoing.flush(&self.broker, &self.mailbox).await
    }

    /// Takes commands up to the first that has to be waited for.
    fn take_quickly(&mut self, commands: &mut Vec<Command>) {
        let is_slow = |command: &Command| {
            matches!(
                command,
                Command::Define { .. } | Command::Transaction { .. }
            )
        };
        let slow = commands.iter().position(is_slow);
        for command in commands.drain(..slow.unwrap_or(commands.len())) {
            self.take(command);
        }
    }

    /// Takes commands some of which have to be waited for.
    async fn take_slowly(&mut self, commands: &mut Vec<Command>) -> Result<(), Stopped> {
        let mut commands = commands.drain(..).peekable();
        while let Some(command) = commands.next() {
            match command {
                Command::Transaction { token, id, request } => {
                    self.coordinate(token, id, request).await?;
                }
                // Somebody else's session by now.
                Command::Define {
                    token,
                    change: Change::DeclareSession { .. },
                } if self.has_lost_its_session() => self.done(token, Ok(Reply::Ok)),
                Command::Define { token, change } => {
                    let may_follow = is_binding(&change);
                    let mut changes = vec![(token, change)];
                    while may_follow
                        && changes.len() < BINDINGS_TOGETHER
                        && let Some(Command::Define { token, change }) = commands.next_if(
                            |next| matches!(next, Command::Define { change, .. } if is_binding(change)),
                        )
                    {
                        changes.push((token, change));
                    }
                    // What was published before must be there first.
                    self.outgoing.flush(&self.broker, &self.mailbox).await?;
                    self.define(changes).await;
                }
                command => self.take(command),
            }
        }
        Ok(())
    }

    /// Takes a command that nobody has to be waited for.
    fn take(&mut self, command: Command) {
        match command {
            Command::Publish {
                token,
                message,
                mandatory,
            } => self.publish(token, message, mandatory, &[]),
            Command::PublishCopies {
                token,
                message,
                mandatory,
                also,
            } => self.publish(token, message, mandatory, &also),
            Command::Probe { token, message } => self.probe(token, message),
            Command::Transact { token, parts } => self.transact(token, parts),
            Command::TakeReplies { token, consumer } => self.take_replies(token, consumer),
            Command::FindReplies { token, address } => self.find_replies(token, address),
            Command::Settle {
                consumer,
                deliveries,
                outcome,
            } => {
                self.settle(consumer, deliveries, outcome);
            }
            Command::Attach { .. }
            | Command::Detach { .. }
            | Command::PublishOnce { .. }
            | Command::Release { .. }
            | Command::Received { .. }
            | Command::Replay { .. }
            | Command::Shares { .. }
            | Command::Adopt { .. }
            | Command::Completed { .. } => self.session_command(command),
            Command::Append {
                token,
                log,
                partition,
                batch,
                transaction,
                id,
            } => match self.appendable(&log, partition, id) {
                Ok(entry) => self.append(token, &entry, partition, batch, transaction),
                Err(refusal) => self.done(token, Err(refusal)),
            },
            Command::Fetch { token, fetch } => self.fetch(token, fetch),
            Command::Trim {
                token,
                log,
                partition,
                to,
            } => self.trim(token, &log, partition, to),
            Command::DescribePartitions { token, logs } => self.describe_partitions(token, logs),
            Command::FindOffset {
                token,
                log,
                partition,
                at,
                isolation,
            } => self.find_offset(token, &log, partition, at, isolation),
            Command::Consume {
                token,
                consumer,
                queue,
                spec,
            } => self.consume(token, consumer, queue, spec),
            Command::Get {
                token,
                consumer,
                queue,
                auto_ack,
            } => self.get(token, consumer, &queue, auto_ack),
            Command::LimitChannel {
                channel,
                limit,
                unsettled,
            } => self.channels.make().set_limit(channel, limit, unsettled),
            Command::Cancel { token, consumer } => self.cancel(token, consumer),
            Command::Group {
                token,
                group,
                request,
            } => self.group(token, group, request),
            Command::ListGroups { token } => self.list_groups(token),
            Command::ListTransactions { token } => self.list_transactions(token),
            command @ (Command::WriteMarker { .. } | Command::DescribeProducers { .. }) => {
                self.administer_partition(command);
            }
            Command::Retained { token, filter } => self.look_up_retained(token, &filter),
            Command::FindLogs { token, ids } => self.find_logs(token, &ids),
            Command::Measure { token } => {
                self.done(token, Ok(Reply::Meters(self.broker.meters.clone())));
            }
            Command::ListClientQuotas { token } => {
                let quotas = self.list_client_quotas();
                self.done(token, quotas);
            }
            Command::DescribeLogs { token, logs } => self.describe_logs(token, logs),
            Command::Export {
                token,
                vhost,
                scope,
            } => self.export(token, vhost, scope),
            Command::DescribeQueues { token, vhost, name } => {
                self.describe_queues(token, vhost, name)
            }
            Command::DescribeLag { token, vhost } => self.describe_lag(token, vhost),
            Command::DescribeExchanges { token, vhost, name } => {
                self.describe_exchanges(token, vhost, name)
            }
            Command::ResetCursor {
                token,
                queue,
                to,
                partition,
            } => self.reset_cursor(token, &queue, to, partition),
            Command::InitProducer { token } => {
                let id = self.broker.next_producer();
                self.done(token, Ok(Reply::Producer { id, epoch: 0 }));
            }
            Command::Authenticate { token, credentials } => self.authenticate(token, &credentials),
            Command::FindScram { token, user, hash } => {
                let keys = self.routing.current().access().scram(&user, hash);
                self.done(token, Ok(Reply::Scram(keys)));
            }
            Command::Enter { token, vhost } => self.enter(token, vhost),
            // Taken by `take_slowly`.
            Command::Define { .. } | Command::Transaction { .. } => {}
        }
    }

    /// Until when the connection's input is not to be read, because a subscriber is behind with what it publishes.
    /// It may be later when that time has come.
    pub fn held_until(&self) -> Option<Instant> {
        self.waits.get()?.iter().map(Wait::until).max()
    }

    /// It has waited so long.
    pub fn waited(&mut self, now: Instant) {
        self.keep_waits(|wait| wait.until() > now);
    }

    fn keep_waits(&mut self, keep: impl FnMut(&Wait) -> bool) {
        if let Some(waits) = self.waits.get_mut() {
            waits.retain(keep);
            self.waits.drop_if(Vec::is_empty);
        }
    }

    /// Waits for events and appends them; for none when the connection need not wait any longer with its input. Safe to
    /// drop and call again.
    pub async fn receive(&mut self, events: &mut Vec<Event>) {
        poll_fn(|context| self.poll_receive(events, context)).await;
    }

    /// As [`Link::receive`], for whoever waits for other things, too.
    pub fn poll_receive(&mut self, events: &mut Vec<Event>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            events.append(&mut self.local);
            let was_held = self.waits.get().is_some();
            for event in self.mailbox.take() {
                self.received(event, events);
            }
            if was_held && self.waits.get().is_none() {
                return Poll::Ready(());
            }
            self.poll_reads(events, context);
            events.append(&mut self.local);
            if !events.is_empty() {
                return Poll::Ready(());
            }
            ready!(self.mailbox.poll_arrived(context));
        }
    }

    /// Takes what reads of the store have found.
    fn poll_reads(&mut self, events: &mut Vec<Event>, context: &mut Context<'_>) {
        if let Some(reads) = self.reads.get_mut() {
            while let Poll::Ready(Some(event)) = pin!(&mut *reads).poll_next(context) {
                events.push(event);
            }
        }
        while let Some(streams) = self.streams.get_mut()
            && let Poll::Ready(Some(read)) = pin!(&mut streams.reads).poll_next(context)
        {
            self.stream_came(read);
        }
    }

    /// Tells the core that all output so far has reached the peer's socket, so that consumers whose
    /// deliveries filled their window in bytes may have more.
    pub async fn flushed(&mut self) -> Result<(), Stopped> {
        self.replies_read();
        self.streams_flushed();
        self.tell_positions();
        for (&consumer, feed) in self.consumers.iter_mut() {
            if feed.owed >= WINDOW as usize / 4 {
                let bytes = std::mem::take(&mut feed.owed) as u32;
                self.outgoing
                    .push(feed.shard, Op::Credit { consumer, bytes });
            }
        }
        self.outgoing.flush(&self.broker, &self.mailbox).await
    }

    /// Whether messages have come or gone since [`Link::rest`], so that more are to be expected.
    pub fn is_busy(&self) -> bool {
        self.outgoing.is_busy
    }

    /// The connection has nothing to do: gives back what is made anew when it is needed. Most of all the snapshot of
    /// routes, of which an idle connection would keep an old one alive.
    pub fn rest(&mut self) {
        self.outgoing.is_busy = false;
        self.routing.rest();
        self.outgoing.rest();
        self.local.shrink_to_fit();
        self.gathered.drop_if(FxHashMap::is_empty);
        self.reads.drop_if(FuturesUnordered::is_empty);
    }

    /// Has a change made, or several bindings.
    async fn define(&mut self, mut changes: Vec<(Token, Change)>) {
        if let Some(abandoned) = self.defining.take() {
            let _ = abandoned.await;
        }
        self.outgoing.visit_all();
        // Others change the catalog while this waits for its turn; a snapshot that is held would keep what each of them
        // replaces.
        self.routing.let_go();
        let (broker, actor, mailbox) = (
            self.broker.clone(),
            self.actor.clone(),
            self.mailbox.clone(),
        );
        let change = async move {
            if changes.len() > 1 {
                return broker.define_bindings(&actor, &mailbox, changes).await;
            }
            let Some((token, change)) = changes.pop() else {
                return Vec::new();
            };
            let result = broker.define(&actor, &mailbox, token, change).await;
            // Without a reply it is the owning shard that answers.
            let answer = result.transpose().map(|result| (token, result));
            answer.into_iter().collect()
        };
        let answers = self.defining.insert(Box::pin(change)).await;
        self.defining = None;
        for (token, result) in answers {
            self.done(token, result);
        }
    }

    fn received(&mut self, event: Event, events: &mut Vec<Event>) {
        match event {
            Event::Confirmed { mut tokens } => {
                self.transacted(&mut tokens, None, events);
                self.confirms.confirmed(&mut tokens);
                if !tokens.is_empty() {
                    events.push(Event::Confirmed { tokens });
                }
            }
            Event::Refused { mut tokens, reason } => {
                self.transacted(&mut tokens, Some(&reason), events);
                self.confirms.refused(&mut tokens);
                if !tokens.is_empty() {
                    events.push(Event::Refused { tokens, reason });
                }
            }
            Event::HoldBack(wait) => self.waits.make().push(*wait),
            Event::GoOn(hold) => self.keep_waits(|wait| !wait.is_for(&hold)),
            Event::Deliver {
                consumer,
                deliveries,
            } => {
                let bytes: usize = deliveries
                    .iter()
                    .map(|delivery| queue::size(&delivery.message))
                    .sum();
                if let Some(feed) = self.consumers.get_mut(&consumer) {
                    feed.owed += bytes;
                } else {
                    self.owe_for_replies(consumer, bytes);
                }
                self.outgoing.is_busy = true;
                self.delivered(consumer, &deliveries);
                events.push(Event::Deliver {
                    consumer,
                    deliveries,
                });
            }
            Event::Done {
                token,
                result: Ok(Reply::Retained(found)),
            } => self.gather(token, Gathered::Retained(found), events),
            Event::Done {
                token,
                result: Ok(Reply::Groups(found)),
            } => self.gather(token, Gathered::Groups(found), events),
            event => events.push(event),
        }
    }

    fn gather(&mut self, token: Token, found: Gathered, events: &mut Vec<Event>) {
        let Some(gathered) = self.gathered.get_mut() else {
            return;
        };
        let Some((missing, all)) = gathered.get_mut(&token) else {
            return;
        };
        match (all, found) {
            (Gathered::Retained(all), Gathered::Retained(mut found)) => all.append(&mut found),
            (Gathered::Groups(all), Gathered::Groups(mut found)) => all.append(&mut found),
            _ => return,
        }
        *missing -= 1;
        if *missing == 0
            && let Some((_, all)) = gathered.remove(&token)
        {
            let reply = match all {
                Gathered::Retained(mut all) => {
                    all.retain(|retained| {
                        let Message { topic, origin, .. } = &*retained.message;
                        let (read, client) = (Operation::Read, &*origin.client);
                        let permit = self.routing.permit_topic(read, SQUARE, topic, client);
                        permit.is_ok()
                    });
                    Reply::Retained(all)
                }
                Gathered::Groups(mut all) => {
                    all.retain(|group| self.routing.permit_any(Kind::Group, &group.group).is_ok());
                    Reply::Groups(all)
                }
            };
            events.push(Event::Done {
                token,
                result: Ok(reply),
            });
        }
    }

    fn list_groups(&mut self, token: Token) {
        let shards = self.broker.shards.len();
        self.gathered
            .make()
            .insert(token, (shards, Gathered::Groups(Vec::new())));
        for shard in 0..shards {
            let vhost = self.actor.vhost.clone();
            self.outgoing.push(shard, Op::ListGroups { token, vhost });
        }
    }

    fn done(&mut self, token: Token, result: Result<Reply, Refusal>) {
        self.local.push(Event::Done { token, result });
    }

    fn authenticate(&mut self, token: Token, credentials: &Credentials) {
        let result = self.routing.current().access().authenticate(credentials);
        let result = result.and_then(|user| {
            if self.seats.login_enters {
                self.may_enter(&user.name, &self.actor.vhost.clone())?;
            }
            self.actor.user = user.name.clone();
            self.routing.set_actor(&self.actor);
            Ok(Reply::Authenticated {
                user: user.name.clone(),
                tags: user.tags.clone(),
            })
        });
        self.done(token, result);
    }

    fn enter(&mut self, token: Token, vhost: Text) {
        let result = self.may_enter(&self.actor.user.clone(), &vhost);
        let result = result.map(|()| {
            self.actor.vhost = vhost;
            self.routing.set_actor(&self.actor);
            Reply::Entered {
                channels: self.channel_quota(),
            }
        });
        self.done(token, result);
    }

    fn not_found(&self, kind: Kind, name: &Text) -> Refusal {
        Refusal::NotFound {
            kind,
            name: name.clone(),
            vhost: self.actor.vhost.clone(),
        }
    }

    fn fetch(&mut self, token: Token, fetch: Fetch) {
        self.outgoing.is_busy = true;
        let routing = &mut self.routing;
        let mut permit = |wanted: &FetchPartition| {
            routing
                .permit(Operation::Read, Kind::Log, &wanted.log)
                .err()
        };
        let partitions = fetch.partitions.iter().enumerate();
        let denied = partitions
            .clone()
            .filter_map(|(at, it)| Some((at, permit(it)?)));
        let mut denied = denied.collect::<Vec<_>>().into_iter().peekable();
        let routes = self.routing.current();
        // Few fetches are refused anything.
        let mut refused: Vec<(usize, Refusal)> = Vec::new();
        let mut tails = Vec::with_capacity(fetch.partitions.len());
        for (at, wanted) in partitions {
            let is_other = |log: &LogEntry| wanted.id.is_some_and(|id| id != log.info.uuid);
            let denial = denied.next_if(|(denied, _)| *denied == at);
            let found = match routes.log(&self.actor.vhost, &wanted.log) {
                _ if denial.is_some() => None,
                Some(log) if is_other(log) => {
                    refused.push((at, replaced(log)));
                    None
                }
                found => found,
            };
            refused.extend(denial);
            tails.push(found.and_then(|log| {
                let Some(tail) = log.tails.get(wanted.partition as usize) else {
                    refused.push((at, no_partition(log)));
                    return None;
                };
                Some((log.info.id, tail.clone()))
            }));
        }
        let (store, metrics) = (
            self.broker.committer.store().clone(),
            self.broker.metrics.clone(),
        );
        let vhost = self.actor.vhost.clone();
        let from = |wanted: &FetchPartition| wanted.from;
        let observed = self.observer().map(|observer| {
            let from: Vec<_> = fetch.partitions.iter().map(from).collect();
            (observer, from)
        });
        self.reads.make().push(Box::pin(async move {
            let mut partitions = log::fetch(store, vhost, tails, fetch).await;
            for (at, refusal) in refused {
                partitions[at].result = Err(refusal);
            }
            let batches = partitions
                .iter()
                .filter_map(|fetched| fetched.result.as_ref().ok())
                .flatten();
            metrics.fetched(batches.map(|batch| batch.bytes.len() as u64).sum());
            if let Some((observer, from)) = observed {
                observer.fetched(&partitions, &from);
            }
            Event::Fetched { token, partitions }
        }));
    }

    fn find_offset(
        &mut self,
        token: Token,
        log: &Text,
        partition: u32,
        at: OffsetSpec,
        isolation: Isolation,
    ) {
        if let Err(refusal) = self.routing.permit(Operation::Read, Kind::Log, log) {
            return self.done(token, Err(refusal));
        }
        let found = match self.routing.current().log(&self.actor.vhost, log) {
            Some(entry) => match entry.tails.get(partition as usize) {
                Some(tail) => Ok((entry.info.id, tail.clone())),
                None => Err(no_partition(entry)),
            },
            None => Err(self.not_found(Kind::Log, log)),
        };
        let (id, tail) = match found {
            Ok(found) => found,
            Err(refusal) => return self.done(token, Err(refusal)),
        };
        let store = self.broker.committer.store().clone();
        self.answer_when_read(token, async move {
            let found = log::find_offset(store, id, partition, tail, at, isolation).await?;
            Ok(Reply::Offset { spec: at, found })
        });
    }

    fn look_up_retained(&mut self, token: Token, filter: &crate::Pattern) {
        let square = Text::from_static(SQUARE);
        if let Err(refusal) = self
            .routing
            .permit(Operation::Read, Kind::Exchange, &square)
        {
            return self.done(token, Err(refusal));
        }
        self.announce_lookup();
        let shards = self.broker.shards.len();
        self.gathered
            .make()
            .insert(token, (shards, Gathered::Retained(Vec::new())));
        for shard in 0..shards {
            let vhost = self.actor.vhost.clone();
            self.outgoing.push(
                shard,
                Op::Retained {
                    token,
                    vhost,
                    filter: filter.clone(),
                },
            );
        }
    }

    fn describe_logs(&mut self, token: Token, names: Option<Vec<Text>>) {
        let routes = self.routing.current().clone();
        let vhost = self.actor.vhost.clone();
        let logs = match names {
            None => routes
                .logs(&vhost)
                .filter(|entry| self.routing.permit_any(Kind::Log, &entry.info.name).is_ok())
                .map(|entry| Ok(entry.info.clone()))
                .collect(),
            Some(names) => names
                .iter()
                .map(|name| {
                    self.routing.permit_any(Kind::Log, name)?;
                    routes
                        .log(&vhost, name)
                        .map(|entry| entry.info.clone())
                        .ok_or_else(|| self.not_found(Kind::Log, name))
                })
                .collect(),
        };
        self.done(token, Ok(Reply::Logs(logs)));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let replies = self.replies.get();
        for Replies { address, .. } in replies.into_iter().flat_map(FxHashMap::values) {
            self.broker.replies.close(address);
        }
        let (broker, mailbox) = (self.broker.clone(), self.mailbox.clone());
        let (shards, defining) = (self.outgoing.visited(), self.defining.take());
        // A task, because shards may have to be waited for and a drop cannot.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // It may make something that is to go with the connection.
                if let Some(defining) = defining {
                    let _ = defining.await;
                }
                broker.disconnect(&mailbox, shards).await;
            });
        }
    }
}
