//! All that a client can want, in no protocol's words.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    access::ScramHash,
    client_quota::{QuotaEntity, QuotaKind},
    definitions::{Definitions, Removal},
    event::{Kind, Retained},
    group::GroupRequest,
    id::{BindingTag, ConsumerId, DeliveryId, LogUuid, Offset, Token},
    message::Message,
    properties::{Text, Value},
    queue::Will,
    topic::{Grammar, Pattern, Topic},
    transaction::{ProducerIdentity, TransactionPart, TransactionRequest},
};

/// One wish of a connection. Commands with a token are answered by [`crate::Event::Done`], in the
/// order given for definitions, in any order for the rest.
#[derive(Debug)]
pub enum Command {
    /// Proves who the connection is. Until it is done the connection may do nothing else.
    Authenticate {
        token: Token,
        credentials: Credentials,
    },
    /// Looks up what is known of a user's password for SCRAM; answered by [`Reply::Scram`](crate::Reply::Scram).
    FindScram {
        token: Token,
        user: Text,
        hash: ScramHash,
    },
    /// Makes a vhost the connection's own; names in later commands are names in it. Default `/`.
    Enter { token: Token, vhost: Text },
    /// Declares, binds, deletes. Sees every earlier command of the connection, and later ones see it.
    Define { token: Token, change: Change },
    /// Sends a message to whatever its exchange and topic lead to. With a token, answered by
    /// `Confirmed` or `Refused` once it is as durable as its destinations ask.
    Publish {
        token: Option<Token>,
        message: Arc<Message>,
        mandatory: bool,
    },
    /// As `Publish`, by more topics than the message's own: each destination gets it once (AMQP's CC and BCC).
    PublishCopies {
        token: Option<Token>,
        message: Arc<Message>,
        mandatory: bool,
        also: Box<[Topic]>,
    },
    /// Connects a client to its session, which is declared: messages come to `consumer`, at most `prefetch` that are not
    /// settled or released. Takes the session from another connection. Answered by
    /// [`Reply::Session`](crate::Reply::Session); deliveries may come before that.
    Attach {
        token: Token,
        consumer: ConsumerId,
        client: Text,
        prefetch: u32,
        will: Option<Box<Will>>,
    },
    /// Parts the client from its session, for good or because its connection is lost; `publish_will` says whether its
    /// will is to be published.
    Detach { publish_will: bool },
    /// As `Publish`, by a client that is attached and releases the message later: `packet_id` is stored with it.
    PublishOnce {
        token: Token,
        message: Arc<Message>,
        packet_id: u16,
    },
    /// The client will not send that message again; answered by `Confirmed` once durable.
    Release { token: Token, packet_id: u16 },
    /// The attached client has received these deliveries: they are not sent again, and their packet identifiers are
    /// kept until `Completed`. Answered by `Confirmed` once durable.
    Received {
        token: Token,
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
    },
    /// Follows the answer to each [`Command::Retained`] of an attached client, also when nothing was found. Puts
    /// `messages` into the client's session, as if a subscription with this tag had matched; those of `direct` are the
    /// front end's to send once [`Reply::Replayed`](crate::Reply::Replayed) says so, which comes unless there are none.
    /// A message is left out of both when a newer one on its topic has come to the session since the lookup began.
    Replay {
        token: Token,
        messages: Vec<Arc<Message>>,
        tag: BindingTag,
        direct: Vec<Retained>,
    },
    /// The groups that the attached client is a member of; answered by [`Reply::Shares`](crate::Reply::Shares).
    Shares { token: Token },
    /// Moves a delivery of a group into the session of the attached client, with this tag: the group is done with it,
    /// and it stays with the client (MQTT 5, 4.8.2-4).
    Adopt {
        consumer: ConsumerId,
        delivery: DeliveryId,
        message: Arc<Message>,
        tag: BindingTag,
    },
    /// The attached client has released messages.
    Completed { packet_ids: Vec<u16> },
    /// Asks whether a publish would be taken, without publishing; only a refusal is answered, by `Refused`.
    Probe { token: Token, message: Arc<Message> },
    /// Publishes and settlements that take effect together or not at all, in one storage batch; answered by
    /// `Done`. What had no destination and is mandatory comes back by `Returned` before that.
    Transact { token: Token, parts: Vec<Part> },
    /// Takes replies to an address of its own, which the connection's requests carry: deliveries to `consumer`
    /// that are not queued, stored or settled. Answered by [`Reply::ReplyAddress`](crate::Reply::ReplyAddress); ended by `Cancel`.
    TakeReplies { token: Token, consumer: ConsumerId },
    /// Whether somebody takes replies at an address; answered by `Ok` or `NotFound`.
    FindReplies { token: Token, address: Text },
    /// Appends a validated record batch to a partition; answered by [`Reply::Appended`](crate::Reply::Appended).
    Append {
        token: Token,
        log: Text,
        partition: u32,
        batch: Bytes,
        /// For a transactional batch: whose transaction it is part of.
        transaction: Option<TransactionPart>,
        /// The log of the name has this id: it was not deleted and created again.
        id: Option<LogUuid>,
    },
    /// Reads record batches; answered by [`crate::Event::Fetched`].
    Fetch { token: Token, fetch: Fetch },
    /// Removes the records of a partition before an offset, or all of them; answered by
    /// [`Reply::Trimmed`](crate::Reply::Trimmed).
    Trim {
        token: Token,
        log: Text,
        partition: u32,
        to: Option<Offset>,
    },
    /// What the partitions of logs are; answered by [`Reply::Partitions`](crate::Reply::Partitions).
    DescribePartitions {
        token: Token,
        logs: Option<Vec<Text>>,
    },
    /// Finds offsets; answered by [`Reply::Offset`](crate::Reply::Offset).
    FindOffset {
        token: Token,
        log: Text,
        partition: u32,
        at: OffsetSpec,
        isolation: Isolation,
    },
    /// Starts a consumer on a queue.
    Consume {
        token: Token,
        consumer: ConsumerId,
        queue: Text,
        spec: ConsumeSpec,
    },
    /// Takes one message; answered by [`Reply::Got`](crate::Reply::Got). Unless `auto_ack`, it is to be settled
    /// under `consumer`, which needs no `Consume`.
    Get {
        token: Token,
        consumer: ConsumerId,
        queue: Text,
        auto_ack: bool,
    },
    /// Bounds the unsettled deliveries that the consumers of a channel have together (AMQP's `basic.qos` with `global`).
    /// `unsettled` of them are there already. Not answered.
    LimitChannel {
        channel: u16,
        limit: Option<u32>,
        unsettled: u32,
    },
    /// Decides the fate of deliveries; unknown ones are ignored (front ends check their own tags).
    Settle {
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
        outcome: Outcome,
    },
    /// Ends a consumer; what it holds stays unsettled until it is settled or the connection ends.
    Cancel { token: Token, consumer: ConsumerId },
    /// A request to the coordinator of a consumer group; answered by [`Reply::Group`](crate::Reply::Group).
    Group {
        token: Token,
        group: Text,
        request: GroupRequest,
    },
    /// The retained messages that match; answered by [`Reply::Retained`](crate::Reply::Retained). A client that is
    /// attached to a session answers with [`Command::Replay`].
    Retained { token: Token, filter: Pattern },
    /// What logs there are; answered by [`Reply::Logs`](crate::Reply::Logs).
    DescribeLogs {
        token: Token,
        logs: Option<Vec<Text>>,
    },
    /// What is set up and declared, of all vhosts or of one, as far as the user may see it; answered by
    /// [`Reply::Definitions`](crate::Reply::Definitions). For users with a tag of management.
    Export {
        token: Token,
        vhost: Option<Text>,
        scope: Scope,
    },
    /// The queues and logs of a vhost or of all, or one of them, as they are now; answered by
    /// [`Reply::Queues`](crate::Reply::Queues). For users with a tag of management.
    DescribeQueues {
        token: Token,
        vhost: Option<Text>,
        name: Option<Text>,
    },
    /// How far readers are: groups, taps and sessions, of a vhost or of all; answered by
    /// [`Reply::Lag`](crate::Reply::Lag). For users with a tag of management.
    DescribeLag { token: Token, vhost: Option<Text> },
    /// The same for exchanges; answered by [`Reply::Exchanges`](crate::Reply::Exchanges).
    DescribeExchanges {
        token: Token,
        vhost: Option<Text>,
        name: Option<Text>,
    },
    /// Has a cursor begin anew, in all partitions of its log or in one: what it has delivered and was not settled is not
    /// its any more, and settling that has no effect. Answered by [`Reply::Ok`](crate::Reply::Ok).
    ResetCursor {
        token: Token,
        queue: Text,
        to: StreamStart,
        partition: Option<u32>,
    },
    /// A fresh producer id and epoch (Kafka idempotence); answered by [`Reply::Producer`](crate::Reply::Producer).
    InitProducer { token: Token },
    /// A request to the coordinator of a transactional id; answered by
    /// [`Reply::Transaction`](crate::Reply::Transaction).
    Transaction {
        token: Token,
        id: Text,
        request: TransactionRequest,
    },
    /// All transactional ids of the vhost; answered by [`Reply::Transactions`](crate::Reply::Transactions).
    ListTransactions { token: Token },
    /// Ends what one producer has open in one partition, past its coordinator: for administrators, who free
    /// readers of what nobody will end. Answered by [`Reply::Ok`](crate::Reply::Ok).
    WriteMarker {
        token: Token,
        log: Text,
        partition: u32,
        producer: ProducerIdentity,
        commit: bool,
    },
    /// Describes the logs of these ids, each that is there; answered by [`Reply::Logs`](crate::Reply::Logs).
    FindLogs { token: Token, ids: Vec<LogUuid> },
    /// Asks for what clients are measured by; answered by [`Reply::Meters`](crate::Reply::Meters).
    Measure { token: Token },
    /// Lists the quotas of clients, for administrators; answered by
    /// [`Reply::ClientQuotas`](crate::Reply::ClientQuotas).
    ListClientQuotas { token: Token },
    /// The producers that a partition remembers; answered by [`Reply::Producers`](crate::Reply::Producers).
    DescribeProducers {
        token: Token,
        log: Text,
        partition: u32,
    },
    /// All groups of the vhost; answered by [`Reply::Groups`](crate::Reply::Groups).
    ListGroups { token: Token },
}

/// A part of a [`Command::Transact`].
#[derive(Clone, Debug)]
pub enum Part {
    /// As [`Command::PublishCopies`]; `token` names it in `Returned`.
    Publish {
        token: Token,
        message: Arc<Message>,
        mandatory: bool,
        also: Box<[Topic]>,
    },
    /// As [`Command::Settle`].
    Settle {
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
        outcome: Outcome,
    },
}

/// How much of what there is an export has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// What administrators set up, without what is declared.
    SetUp,
}

/// What a client offers as proof of its identity.
#[derive(Clone)]
pub enum Credentials {
    /// A user name and password. `loopback` says that the peer's own address is a loopback one.
    Password {
        user: Text,
        password: Bytes,
        loopback: bool,
    },
    /// Nothing: allowed from the loopback only, acts as `guest`.
    Anonymous { loopback: bool },
    /// The front end has had the proof itself, against the keys of `FindScram`.
    Proven { user: Text, loopback: bool },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "Password({user})"),
            Credentials::Anonymous { .. } => f.write_str("Anonymous"),
            Credentials::Proven { user, .. } => write!(f, "Proven({user})"),
        }
    }
}

/// A change to what is declared. Names are within the connection's vhost.
#[derive(Clone, Debug)]
pub enum Change {
    /// Creates an exchange, or checks that it is there as described.
    DeclareExchange { name: Text, spec: ExchangeSpec },
    /// Creates a session, or changes one that goes on; `clean`: it begins anew. Answered as `DeclareQueue`.
    DeclareSession {
        client: Text,
        clean: bool,
        spec: QueueSpec,
    },
    /// Checks that an exchange is there.
    ExpectExchange { name: Text },
    /// Removes an exchange. Removing one that is not there succeeds.
    DeleteExchange { name: Text, if_unused: bool },
    /// Creates a queue, or checks that it is there as described; answered by [`Reply::Queue`](crate::Reply::Queue).
    /// An empty name asks for a fresh one.
    DeclareQueue { name: Text, spec: QueueSpec },
    /// Checks that a queue is there; answered as `DeclareQueue`. `session`: it is an MQTT client's.
    ExpectQueue { name: Text, session: bool },
    /// Removes a queue; answered by [`Reply::Deleted`](crate::Reply::Deleted). Removing one that is not there succeeds.
    /// `session`: it is an MQTT client's.
    DeleteQueue {
        name: Text,
        session: bool,
        if_unused: bool,
        if_empty: bool,
    },
    /// Removes the exclusive queues of the connection, as its end would.
    DeleteExclusiveQueues,
    /// Drops the ready messages of a queue; answered by [`Reply::Deleted`](crate::Reply::Deleted).
    PurgeQueue { name: Text },
    /// Adds a binding; adding one again replaces its tag and options.
    Bind(Binding),
    /// Makes a session a member of a group that shares what matches a filter on `amq.topic` (MQTT 5, 4.8.2), or changes
    /// its options. With a `log`, the group shares its records instead, and `filter` is what the front end calls that: the
    /// first member makes a cursor that begins where it says. Answered as `Bind`, and by whoever makes a cursor as
    /// `DeclareQueue`.
    Join {
        client: Text,
        group: Text,
        filter: Text,
        subscription: Subscription,
        log: Option<Box<SharedLog>>,
    },
    /// Ends that; answered as `Unbind`.
    Leave {
        client: Text,
        group: Text,
        filter: Text,
    },
    /// Has a session remember something that its client reads besides its subscriptions, a queue or a log, in the words of
    /// the front end; it comes back with [`Command::Shares`]. Answered as `Bind`.
    Read {
        client: Text,
        what: Text,
        subscription: Subscription,
    },
    /// Ends that; answered as `Unbind`.
    Unread { client: Text, what: Text },
    /// Removes a binding; removing one that is not there succeeds.
    Unbind(Binding),
    /// Creates a log; answered by [`Reply::Logs`](crate::Reply::Logs) with its description.
    CreateLog {
        name: Text,
        spec: LogSpec,
        validate_only: bool,
    },
    /// Sets or, without a value, resets settings of a log; answered as `CreateLog`.
    AlterLog {
        name: Text,
        settings: Vec<(Text, Option<Text>)>,
        validate_only: bool,
    },
    /// Gives a log more partitions, so many in all; answered as `CreateLog`.
    AddPartitions {
        name: Text,
        partitions: u32,
        validate_only: bool,
    },
    /// Removes a log and its records.
    DeleteLog { name: Text },
    /// Sets or, without a value, removes limits of a client quota; for administrators.
    AlterClientQuota {
        entity: QuotaEntity,
        changes: Vec<(QuotaKind, Option<f64>)>,
        validate_only: bool,
    },
    /// Sets up all of this, or refuses all of it; for administrators.
    Import(Box<Definitions>),
    /// Removes one thing that was set up; answered by [`Reply::Removed`](crate::Reply::Removed). For administrators.
    Remove(Removal),
}

/// What an exchange is.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeSpec {
    /// How it routes.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes away with its last binding.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// As declared, in order.
    pub arguments: Vec<(Text, Value)>,
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// To bindings whose key equals the routing key.
    Direct,
    /// To every binding.
    Fanout,
    /// To bindings whose pattern matches the topic.
    Topic,
    /// To bindings whose arguments match the headers.
    Headers,
    /// To one binding, by a hash of the message; keys are weights.
    ConsistentHash,
    /// To one binding, any.
    Random,
    /// The same: all queues are local.
    LocalRandom,
    /// To one binding, by the hash of the key modulo the number of bindings.
    ModulusHash,
    /// To every binding; a new binding gets the latest messages first, as many as `x-recent-history-length` says.
    RecentHistory,
    /// As the kind that the argument `x-delayed-type` names, after the time that the header `x-delay` says.
    Delayed,
    /// To every binding, unless the header `x-received-from` says that the message has come too far.
    FederationUpstream,
}

impl ExchangeKind {
    const ALL: [(ExchangeKind, &'static str); 11] = [
        (ExchangeKind::Direct, "direct"),
        (ExchangeKind::Fanout, "fanout"),
        (ExchangeKind::Topic, "topic"),
        (ExchangeKind::Headers, "headers"),
        (ExchangeKind::ConsistentHash, "x-consistent-hash"),
        (ExchangeKind::Random, "x-random"),
        (ExchangeKind::LocalRandom, "x-local-random"),
        (ExchangeKind::ModulusHash, "x-modulus-hash"),
        (ExchangeKind::RecentHistory, "x-recent-history"),
        (ExchangeKind::Delayed, "x-delayed-message"),
        (ExchangeKind::FederationUpstream, "x-federation-upstream"),
    ];

    /// The kind of that name.
    pub fn named(name: &str) -> Option<ExchangeKind> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(kind, _)| *kind)
    }

    /// Its name, as RabbitMQ has it.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(kind, _)| *kind == self);
        found.map_or("", |(_, name)| name)
    }
}

impl ExchangeSpec {
    /// How it routes in the end; `None` when a delayed exchange does not say it.
    pub(crate) fn routes_as(&self) -> Option<ExchangeKind> {
        if self.kind != ExchangeKind::Delayed {
            return Some(self.kind);
        }
        let mut arguments = self.arguments.iter();
        match arguments.find(|(name, _)| name == "x-delayed-type") {
            Some((_, Value::Text(kind))) => {
                ExchangeKind::named(kind).filter(|kind| *kind != ExchangeKind::Delayed)
            }
            _ => None,
        }
    }
}

/// What a queue is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueSpec {
    /// Survives a restart, with its persistent messages.
    pub durable: bool,
    /// Belongs to the declaring connection and goes away with it.
    pub exclusive: bool,
    /// Goes away when its last consumer has gone.
    pub auto_delete: bool,
    /// Goes away when it has been without a consumer for this long.
    pub expires: Option<Duration>,
    /// An MQTT session's: named by the client identifier, hidden from other protocols' names.
    pub session: bool,
    /// As declared, in order.
    pub arguments: Vec<(Text, Value)>,
}

/// A log whose records a group shares, and where the group begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedLog {
    /// Its name.
    pub log: Text,
    /// In each partition.
    pub from: StreamStart,
}

/// A binding from an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange it leads from.
    pub source: Text,
    /// Where it leads.
    pub destination: Destination,
    /// The routing key or pattern.
    pub key: Text,
    /// The grammar of `key`.
    pub grammar: Grammar,
    /// As declared, in order; what a headers exchange matches.
    pub arguments: Vec<(Text, Value)>,
    /// What MQTT says about its subscriptions.
    pub subscription: Option<Subscription>,
}

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A queue, by name.
    Queue(Text),
    /// The session of an MQTT client, by client identifier.
    Session(Text),
    /// An exchange, by name.
    Exchange(Text),
    /// A log, by name.
    Log(Text),
}

/// The options of an MQTT subscription that decide about routing, and a tag for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// Comes back with each delivery that this binding caused.
    pub tag: BindingTag,
    /// QoS 0: may be dropped, never stored.
    pub best_effort: bool,
    /// Not for what the same client published.
    pub no_local: bool,
}

/// What a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// Settings by name (Kafka topic configs and `mq.*`), as given.
    pub settings: Vec<(Text, Text)>,
}

/// How a consumer wants its messages.
#[derive(Clone, Debug, Default)]
pub struct ConsumeSpec {
    /// Settled by delivery.
    pub auto_ack: bool,
    /// Unsettled deliveries at most; `None` is no bound in number (the bound in bytes of the connection holds).
    pub prefetch: Option<u32>,
    /// Refuses to share the queue with others.
    pub exclusive: bool,
    /// Takes the queue from whoever consumes it (an MQTT session is taken over): the old consumer is cancelled.
    pub takeover: bool,
    /// The queue is a session's, named by client identifier.
    pub session: bool,
    /// Where and what to read, if the queue is a log; from its end without.
    pub stream: Option<Box<StreamSpec>>,
    /// Others get nothing while one of a higher priority takes messages (`x-priority`).
    pub priority: i64,
    /// How long it may keep a delivery unsettled, whatever its queue says (`x-consumer-timeout`).
    pub timeout: Option<Duration>,
    /// Consumers of the connection with the same number here share the bound of [`Command::LimitChannel`].
    pub channel: Option<u16>,
    /// What has the name must be this, a queue or a log; `None` takes either.
    pub only: Option<Kind>,
}

/// How a consumer reads a log: what it has read stays there, and what it settles makes room for more.
#[derive(Clone, Debug, Default)]
pub struct StreamSpec {
    /// Where to begin, in each partition.
    pub from: StreamStart,
    /// Which records.
    pub filter: Option<StreamFilter>,
    /// Whether how far it has come is kept for the next consumer of the same name, which begins there.
    pub follow: Option<FollowSpec>,
}

/// The name that a consumer of a log goes by. Of those of one name one reads a log at a time; the others wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowSpec {
    /// The consumer group whose offsets it reads and commits.
    pub group: Text,
    /// What it is called in descriptions of the group.
    pub client: Text,
    /// The protocol that it speaks, `amqp` or `mqtt`.
    pub protocol: &'static str,
    /// Refused if the user may not read the group; else it reads without a name then.
    pub required: bool,
    /// The name is the session's that reads: nobody has to be allowed to read the group.
    pub own: bool,
    /// It begins where it says, whatever was kept.
    pub anew: bool,
}

/// Where a consumer of a log begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamStart {
    /// With the oldest record kept.
    First,
    /// With the batch that was appended last.
    Last,
    /// With what is appended from now on.
    #[default]
    Next,
    /// With this record, or the one that is kept and nearest to it.
    Offset(Offset),
    /// With the first record at this time (ms) or later.
    AtTime(u64),
}

/// Which records of a log a consumer wants, by their header `x-stream-filter-value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFilter {
    /// One of these.
    pub values: Vec<Text>,
    /// And those without the header.
    pub match_unfiltered: bool,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done with it.
    Accept,
    /// Back to its place in the queue: whoever had it failed.
    Requeue,
    /// Back to its place in the queue, and nobody has failed.
    Release,
    /// Dropped, or dead-lettered.
    Reject,
}

/// A read of one or more partitions.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// What to read, in the order of preference.
    pub partitions: Vec<FetchPartition>,
    /// Waits until there are so many bytes in all …
    pub min_bytes: usize,
    /// … returns about so many at most …
    pub max_bytes: usize,
    /// … and waits no longer than this.
    pub wait: Duration,
    /// Whether it sees transactions that have not ended.
    pub isolation: Isolation,
}

/// What a reader sees of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All records, up to the high watermark.
    #[default]
    Uncommitted,
    /// Nothing from the first record of a transaction on that has not ended; what was aborted is named.
    Committed,
}

/// One partition of a [`Fetch`].
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// The log's name.
    pub log: Text,
    /// The log of the name has this id: it was not deleted and created again.
    pub id: Option<LogUuid>,
    /// Which of its partitions.
    pub partition: u32,
    /// The first record wanted; the batch that holds it is returned whole.
    pub from: Offset,
    /// About so many bytes at most; one batch is always returned when it is the first of the fetch.
    pub max_bytes: usize,
}

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The oldest record kept.
    Earliest,
    /// The end: the offset that the next record gets.
    Latest,
    /// The record with the greatest timestamp.
    MaxTimestamp,
    /// The first record at this time (ms) or later.
    AtTime(u64),
}
