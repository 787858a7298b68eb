//! All that a client can be told, in no protocol's words.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    access::ScramKeys,
    client_quota::{Meters, QuotaEntity, QuotaValues},
    command::{ExchangeSpec, LogSpec, OffsetSpec, QueueSpec},
    definitions::Definitions,
    group::{GroupInfo, GroupReply},
    id::{BindingTag, ConsumerId, DeliveryId, LogId, LogUuid, Offset, Token},
    lag::Lag,
    log::BatchError,
    message::Message,
    properties::{Text, Value},
    queue::{Hold, Wait},
    quota::ChannelQuota,
    tags::Tags,
    time::Timestamp,
    transaction::{ProducerInfo, TransactionError, TransactionInfo, TransactionReply},
};

/// Something for one connection.
#[derive(Debug)]
pub enum Event {
    /// A command with a token has been carried out or refused.
    Done {
        token: Token,
        result: Result<Reply, Refusal>,
    },
    /// These publishes are as durable as their destinations ask (or had none).
    Confirmed { tokens: Vec<Token> },
    /// These publishes were refused; nothing of them is stored.
    Refused { tokens: Vec<Token>, reason: Refusal },
    /// A publish without a token was refused.
    Rejected {
        message: Arc<Message>,
        reason: Refusal,
    },
    /// A mandatory publish that had no destination, with the token it was published under. Comes before its
    /// `Confirmed`.
    Returned {
        token: Option<Token>,
        message: Arc<Message>,
    },
    /// A publish had no destination; only for those with a token, before its `Confirmed` (MQTT 5 reason 0x10).
    Unrouted { token: Token },
    /// There is no room to retain a publish, which its subscribers get all the same; as [`Event::Unrouted`]
    /// (MQTT 5 reason 0x97).
    Unretained { token: Token },
    /// A subscriber is to catch up with what this connection publishes: its input is not to be read until then, or until
    /// it is told that it need not wait. For the link, which shows it to nobody.
    HoldBack(Box<Wait>),
    /// It need not wait any longer for what this is of. For the link.
    GoOn(Arc<Hold>),
    /// Messages for a consumer, oldest first.
    Deliver {
        consumer: ConsumerId,
        deliveries: Vec<Delivery>,
    },
    /// A [`crate::Command::Fetch`] has something, or waited long enough.
    Fetched {
        token: Token,
        partitions: Vec<Fetched>,
    },
    /// The consumer ended from the broker's side.
    Cancelled {
        consumer: ConsumerId,
        reason: CancelReason,
    },
    /// The broker takes no more messages until `Unblocked`: publishers are to be held back. Also the first event of
    /// a connection that is made meanwhile.
    Blocked { reason: Text },
    /// What `Blocked` said is over.
    Unblocked,
    /// The broker is shutting down: say so to the peer and close.
    Shutdown,
}

/// Why a consumer ended from the broker's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// Its queue was deleted.
    QueueDeleted,
    /// Another connection took its session over.
    TakenOver,
    /// It kept a delivery unsettled for longer than its queue allows. What it held is back in the queue.
    TimedOut,
    /// What its queue holds in the store cannot be read. It is still there, and consuming again tries again.
    Unreadable,
}

/// One message for one consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// For settling; counts up per consumer.
    pub id: DeliveryId,
    /// What was published.
    pub message: Arc<Message>,
    /// When the broker accepted it.
    pub accepted: Timestamp,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The packet identifier of a message of an MQTT session, the same at every delivery; otherwise 0.
    pub packet_id: u16,
    /// How often it came back, in queues that limit that.
    pub returns: u16,
    /// How many of these times count for the limit.
    pub failures: u16,
    /// Tags of the subscriptions that matched; empty for queues without subscriptions.
    pub tags: Tags,
}

/// What a successful command answers.
#[derive(Debug)]
pub enum Reply {
    /// Nothing more to say.
    Ok,
    /// Who the connection now is.
    Authenticated { user: Text, tags: Vec<Text> },
    /// The connection is in a vhost. Where it has channels, each takes a place of its user's.
    Entered { channels: ChannelQuota },
    /// What is known of a user's password for SCRAM, if anything is.
    Scram(Option<ScramKeys>),
    /// A queue is there.
    Queue {
        name: Text,
        messages: u64,
        consumers: u32,
        created: bool,
    },
    /// So many messages went.
    Deleted { messages: u64 },
    /// A binding is there; `created` when it was not there before.
    Bound { created: bool },
    /// A binding is not there; `existed` when it was there before.
    Unbound { existed: bool },
    /// One message, with how many are left; or the queue is empty.
    Got {
        delivery: Option<Delivery>,
        remaining: u64,
    },
    /// The first offset of an appended batch. `timestamp` is set when the broker's clock decided (log append time).
    Appended {
        base: Offset,
        timestamp: Option<Timestamp>,
        log_start: Offset,
    },
    /// A batch was refused by its partition, which begins at this offset.
    NotAppended {
        refusal: Box<Refusal>,
        log_start: Offset,
    },
    /// An offset and, where it belongs to a record, its timestamp. `None` when no record matches.
    Offset {
        spec: OffsetSpec,
        found: Option<(Offset, Option<Timestamp>)>,
    },
    /// A partition now begins at this offset.
    Trimmed { log_start: Offset },
    /// The partitions of logs, in order; a named log that is not there is left out.
    Partitions(Vec<PartitionInfo>),
    /// From a group's coordinator.
    Group(GroupReply),
    /// Whether there was what is now removed.
    Removed { existed: bool },
    /// What is set up and declared.
    Definitions(Box<Definitions>),
    /// Queues as they are now.
    Queues(Vec<QueueInfo>),
    /// How far readers are, by vhost, kind and name.
    Lag(Vec<Lag>),
    /// Exchanges as they are now.
    Exchanges(Vec<ExchangeInfo>),
    /// Retained messages.
    Retained(Vec<Retained>),
    /// Those of [`Command::Replay`](crate::Command::Replay) that are to be sent now: nothing newer has been delivered.
    Replayed(Vec<Retained>),
    /// Descriptions; a named log that is not there is an `Err`.
    Logs(Vec<Result<LogInfo, Refusal>>),
    /// A connection has its session: what its client has published and not released, and what it has received
    /// and not released, by packet identifier.
    Session {
        received: Vec<u16>,
        releasing: Vec<u16>,
    },
    /// Groups that a session is a member of: queues to consume as sessions, and the tags of its subscriptions.
    Shares(Vec<(Text, BindingTag)>),
    /// Where replies are to be sent: a topic on the default exchange.
    ReplyAddress { address: Text },
    /// A producer id and epoch.
    Producer { id: i64, epoch: i16 },
    /// From the coordinator of transactions.
    Transaction(TransactionReply),
    /// Transactional ids.
    Transactions(Vec<TransactionInfo>),
    /// What a partition remembers of producers.
    Producers(Vec<ProducerInfo>),
    /// Groups.
    Groups(Vec<GroupInfo>),
    /// What clients are measured by.
    Meters(Meters),
    /// Quotas of clients, as they are set.
    ClientQuotas(Vec<(QuotaEntity, QuotaValues)>),
}

/// How far the tap is in a partition (DESIGN section 3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapStatus {
    /// Where the log is.
    pub vhost: Text,
    /// Its name.
    pub log: Text,
    /// Its partition.
    pub partition: u32,
    /// The next record that the tap reads.
    pub position: Offset,
    /// Where it has read all that is committed: the lag is the difference.
    pub end: Offset,
    /// Offsets that were gone or damaged before it had read them, since the broker was opened.
    pub lost: u64,
}

/// The retained message of a topic.
#[derive(Clone, Debug)]
pub struct Retained {
    /// What was published.
    pub message: Arc<Message>,
    /// When the broker accepted it; its lifetime counts from then.
    pub accepted: Timestamp,
}

/// What is known about a log.
#[derive(Clone, Debug)]
pub struct LogInfo {
    /// Its name.
    pub name: Text,
    /// The core's number.
    pub id: LogId,
    /// A random id that differs when a log of the same name is created again.
    pub uuid: LogUuid,
    /// As created.
    pub spec: LogSpec,
}

/// What is known about a partition of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The log's name.
    pub log: Text,
    /// Which of its partitions.
    pub partition: u32,
    /// Its oldest record.
    pub log_start: Offset,
    /// Where the next record goes.
    pub end: Offset,
    /// Bytes of its batches, compressed as they are.
    pub bytes: u64,
}

/// A queue, or a log as a queue of type stream, as it is now.
#[derive(Clone, Debug)]
pub struct QueueInfo {
    /// Where.
    pub vhost: Text,
    /// Its name.
    pub name: Text,
    /// `classic`, `quorum` or `stream`.
    pub kind: &'static str,
    /// As declared.
    pub spec: QueueSpec,
    /// The policies that count for it.
    pub policies: PolicyInfo,
    /// Messages ready for delivery.
    pub ready: u64,
    /// Messages delivered and not settled.
    pub unsettled: u64,
    /// Messages that came back and wait for their next delivery.
    pub delayed: u64,
    /// Consumers.
    pub consumers: u64,
}

/// An exchange, as it is now.
#[derive(Clone, Debug)]
pub struct ExchangeInfo {
    /// Where.
    pub vhost: Text,
    /// Its name; empty for the default exchange.
    pub name: Text,
    /// As declared.
    pub spec: ExchangeSpec,
    /// The policies that count for it.
    pub policies: PolicyInfo,
}

/// The policies that count for something.
#[derive(Clone, Debug, Default)]
pub struct PolicyInfo {
    /// The policy's name.
    pub policy: Option<Text>,
    /// The operator policy's name.
    pub operator: Option<Text>,
    /// What both together set; of two numbers for the same thing the smaller one.
    pub effective: Vec<(Text, Value)>,
}

/// What a fetch read from one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The log's name.
    pub log: Text,
    /// Which of its partitions.
    pub partition: u32,
    /// Whole batches in order, from the one that holds the wanted offset; or why not.
    pub result: Result<Vec<FetchedBatch>, Refusal>,
    /// The end of what may be read.
    pub high_watermark: Offset,
    /// The oldest record kept.
    pub log_start: Offset,
    /// Everything before it is decided: no transaction that has not ended has a record there.
    pub last_stable: Offset,
    /// For readers of committed records: aborted transactions with records among `result`, by first offset.
    pub aborted: Vec<Aborted>,
}

/// A transaction whose records are to be skipped, up to its producer's next abort marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Its producer's id.
    pub producer: i64,
    /// Its first record in the partition.
    pub first: Offset,
}

/// A stored record batch. The first eight bytes (base offset) and bytes 12 to 16 (leader epoch) of
/// `bytes` are as the producer sent them: whoever sends it on puts `base` and 0 in their place.
#[derive(Clone, Debug)]
pub struct FetchedBatch {
    /// The offset of its first record.
    pub base: Offset,
    /// Facts about it that are not the producer's: 1 says that the broker packed it for a capture.
    pub flags: u8,
    /// The whole v2 batch, verbatim.
    pub bytes: Bytes,
}

/// Why a record is refused. Times are in milliseconds, offsets from the beginning of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// A compacted log takes none without.
    #[error("Compacted topic cannot accept message without key")]
    NoKey,
    /// Before or after what the log's settings allow.
    #[error("timestamp {timestamp} is not within {oldest} and {newest}")]
    Timestamp {
        offset: i64,
        timestamp: i64,
        oldest: i64,
        newest: i64,
    },
    /// The batch says that the broker's clock decides, which is for the broker to say. Lengths are negative for null.
    #[error("a producer does not say that the broker's clock decides")]
    TimestampType {
        offset: i64,
        timestamp: i64,
        key: i32,
        value: i32,
    },
}

/// Why the core would not.
///
/// Each front end maps it in one function by exhaustive match.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The name means nothing here.
    #[error("no {kind} '{name}' in vhost '{vhost}'")]
    NotFound { kind: Kind, name: Text, vhost: Text },
    /// The name is taken by another kind of thing, or the thing exists and must not.
    #[error("{kind} '{name}' in vhost '{vhost}' exists already")]
    Exists { kind: Kind, name: Text, vhost: Text },
    /// It is there, but not as described.
    #[error(
        "inequivalent arg '{argument}' for {kind} '{name}' in vhost '{vhost}': received {received} but current is {current}"
    )]
    Inequivalent {
        kind: Kind,
        name: Text,
        vhost: Text,
        argument: Text,
        received: Text,
        current: Text,
    },
    /// It has consumers or bindings and was to go only without.
    #[error("{kind} '{name}' in vhost '{vhost}' in use")]
    InUse { kind: Kind, name: Text, vhost: Text },
    /// It holds messages and was to go only without.
    #[error("queue '{name}' in vhost '{vhost}' not empty")]
    NotEmpty { name: Text, vhost: Text },
    /// It has no room for another message.
    #[error("queue '{name}' in vhost '{vhost}' is full")]
    Full { name: Text, vhost: Text },
    /// A limit of the broker is reached.
    #[error("{0}")]
    Quota(Text),
    /// It belongs to another connection.
    #[error(
        "cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
    )]
    Locked { name: Text, vhost: Text },
    /// It has one consumer at a time, and cannot be asked for single messages.
    #[error(
        "cannot obtain access to locked queue '{name}' in vhost '{vhost}'. basic.get operations are not supported by quorum queues with single active consumer"
    )]
    NoGet { name: Text, vhost: Text },
    /// Another consumer has it to itself.
    #[error("queue '{name}' in vhost '{vhost}' in exclusive use")]
    ExclusiveUse { name: Text, vhost: Text },
    /// The user may not, or the name is the broker's own.
    #[error("{0}")]
    Denied(Text),
    /// The rules of the broker or a limit do not allow it, whatever the connection does next.
    #[error("{0}")]
    NotAllowed(Text),
    /// User or password is wrong, or not from there.
    #[error("login was refused")]
    LoginRefused,
    /// The vhost is not there.
    #[error("vhost {0} not found")]
    NoVhost(Text),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(Text),
    /// It makes sense, but not here.
    #[error("{0}")]
    NotImplemented(Text),
    /// Some records of a batch are refused, and with them the batch: their places in it, from 0, and what is wrong.
    #[error("{} of the records are refused", .0.len())]
    Records(Vec<(u32, RecordFault)>),
    /// A batch is refused as a whole.
    #[error("{0}")]
    Batch(BatchError),
    /// A message or batch is over a destination's limit.
    #[error("message of {size} bytes is larger than the {limit} that '{name}' takes")]
    TooLarge {
        name: Text,
        size: usize,
        limit: usize,
    },
    /// Stored batches are damaged, or a batch sent in is.
    #[error("corrupt batch: {0}")]
    Corrupt(Text),
    /// The log was deleted and another one of its name created.
    #[error(
        "log '{name}' in vhost '{vhost}' is not the one that is meant, but was created after it"
    )]
    Replaced { name: Text, vhost: Text },
    /// The offset is below what is kept or beyond the end.
    #[error("offset {0} is out of range")]
    OffsetOutOfRange(Offset),
    /// A producer's sequence number is not the next one.
    #[error("out of order sequence number")]
    OutOfOrderSequence,
    /// A producer's epoch is older than the newest seen.
    #[error("producer epoch is fenced")]
    ProducerFenced,
    /// Why a transaction cannot go on so.
    #[error(transparent)]
    Transaction(TransactionError),
    /// The store failed; nothing is acknowledged until the broker is restarted.
    #[error("{0}")]
    StorageFailed(Text),
    /// The broker is going away.
    #[error("broker is shutting down")]
    Stopping,
}

/// Kinds of declared things, as error texts name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
    /// A log.
    Log,
    /// A partition of a log that is there.
    Partition,
    /// A consumer.
    Consumer,
    /// A consumer group.
    Group,
    /// The transactional id of a producer.
    TransactionalId,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Exchange => "exchange",
            Kind::Queue => "queue",
            Kind::Log => "log",
            Kind::Partition => "partition",
            Kind::Consumer => "consumer",
            Kind::Group => "group",
            Kind::TransactionalId => "transactional id",
        })
    }
}
