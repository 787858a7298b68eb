//! What a shard is asked to do.

use std::{ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    catalog::{LogEntry, QueueEntry},
    command::{ConsumeSpec, Outcome},
    commit::Span,
    dead_letters::Undelivered,
    delay::{self, DelayEntry},
    event::Refusal,
    group::{Follow, GroupRequest, ShareBurial},
    id::{ConsumerId, DeliveryId, LogId, Offset, QueueId, Sequence, Token},
    lag::Standing,
    link::Mailbox,
    log::{Change, Header, Marker, NewRecord},
    message::Message,
    metrics::Sample,
    properties::Text,
    queue::{Arrival, ChannelLimit, CursorLoaded, Loaded, Replay, Will},
    topic::Pattern,
};

/// One connection's operations for one shard.
pub(crate) struct Request {
    pub(crate) from: Arc<Mailbox>,
    pub(crate) ops: Vec<Op>,
    /// Set when the operations are to be committed together with those for other shards.
    pub(crate) span: Option<Span>,
}

/// One operation. It is moved several times on its way: what is large or rare is boxed.
pub(crate) enum Op {
    /// Puts a message into a queue; confirmed when durable.
    Enqueue {
        queue: QueueId,
        arrival: Arrival,
        token: Option<Token>,
    },
    /// Puts a message into a log, by way of an exchange or its name; confirmed when durable.
    Capture {
        log: LogId,
        partition: u32,
        record: Box<NewRecord>,
        token: Option<Token>,
        captured: bool,
    },
    /// Appends a producer's batch.
    Append {
        log: LogId,
        partition: u32,
        header: Box<Header>,
        batch: Bytes,
        /// The coordinator's number of the transaction that it is part of, else 0.
        transaction: u64,
        token: Token,
    },
    /// A transaction ends in these partitions and groups.
    EndTransaction {
        marker: Marker,
        partitions: Vec<(LogId, u32)>,
        groups: Vec<(Text, Text)>,
    },
    /// An administrator ends what a producer has open in a partition.
    WriteMarker {
        token: Token,
        partition: (LogId, u32),
        marker: Marker,
    },
    DescribeProducers {
        token: Token,
        partition: (LogId, u32),
    },
    /// Removes records from the beginning; all where `to` is `None`.
    Trim {
        token: Token,
        partition: (LogId, u32),
        to: Option<Offset>,
    },
    /// The tap has offered everything below `offset`.
    Tapped {
        log: LogId,
        partition: u32,
        offset: Offset,
    },
    /// The tap has retained everything below an offset of what it had passed before its log became a retained store; all
    /// of it with none.
    Filled {
        log: LogId,
        partition: u32,
        to: Option<Offset>,
    },
    /// A binding by way of a log has put everything below `offset` into its queue, which this shard owns.
    Fed {
        binding: u64,
        log: LogId,
        partition: u32,
        offset: Offset,
    },
    /// Stored batches of a log are replaced by what compaction has left of them.
    Compact {
        log: LogId,
        partition: u32,
        changes: Vec<Change>,
    },
    /// A log is compacted up to an offset, or could not be.
    Compacted {
        log: LogId,
        partition: u32,
        to: Option<Offset>,
    },
    Consume {
        token: Token,
        consumer: ConsumerId,
        queue: QueueId,
        spec: ConsumeSpec,
        channel: Option<Arc<ChannelLimit>>,
    },
    Get {
        token: Token,
        consumer: ConsumerId,
        queue: QueueId,
        auto_ack: bool,
    },
    Settle {
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
        outcome: Outcome,
    },
    Attach {
        token: Token,
        consumer: ConsumerId,
        queue: QueueId,
        prefetch: u32,
        will: Option<Box<Will>>,
    },
    Detach {
        queue: QueueId,
        publish_will: bool,
    },
    /// The session's part of a publish that is exactly once; confirmed when durable.
    Receive {
        queue: QueueId,
        packet_id: u16,
        token: Token,
    },
    /// The client will not send that again; confirmed when durable.
    Release {
        queue: QueueId,
        packet_id: u16,
        token: Token,
    },
    /// As `Settle`, for messages whose identifiers are kept; confirmed when durable.
    Received {
        consumer: ConsumerId,
        deliveries: RangeInclusive<DeliveryId>,
        token: Token,
    },
    Completed {
        queue: QueueId,
        packet_ids: Vec<u16>,
    },
    /// The will of a session is published in the same batch.
    WillSent(QueueId),
    /// Confirmed once everything before it is committed.
    Fence {
        token: Token,
    },
    Credit {
        consumer: ConsumerId,
        bytes: u32,
    },
    Cancel {
        token: Token,
        consumer: ConsumerId,
    },
    /// The connection has gone.
    Disconnect,
    CreateQueue(Arc<QueueEntry>),
    ChangeQueue(Arc<QueueEntry>),
    /// Answers a declaration.
    Inspect {
        token: Token,
        queue: Arc<QueueEntry>,
        created: bool,
    },
    Purge {
        token: Token,
        queue: QueueId,
    },
    RemoveQueue {
        queue: QueueId,
        if_unused: bool,
        if_empty: bool,
        reply: oneshot::Sender<Result<u64, Refusal>>,
    },
    /// Keeps a message until its time has come; confirmed when durable.
    Delay(Box<delay::Arrival>),
    /// A message whose time has come is in its queues.
    Moved(Box<delay::Ready>),
    CreateDelay(Arc<DelayEntry>),
    RemoveDelay(u64),
    /// A read that a delayed exchange asked for.
    DelayedRead {
        read: Box<delay::Read>,
        found: delay::Found,
    },
    CreateLog(Arc<LogEntry>),
    ChangeLog(Arc<LogEntry>),
    RemoveLog(Arc<LogEntry>),
    Group {
        token: Token,
        vhost: Text,
        group: Text,
        request: Box<GroupRequest>,
        /// The coordinator's number of the transaction that offsets are part of, else 0.
        transaction: u64,
    },
    /// What a consumer of a stream says to the group that it goes by; not answered, but by what is in it.
    Follow(Box<Follow>),
    ListGroups {
        token: Token,
        vhost: Text,
    },
    /// Retains a message on a topic of the broker's own, until the broker stops.
    Announce {
        vhost: Text,
        message: Arc<Message>,
    },
    /// Keeps or clears the retained message of a topic; confirmed when durable.
    Retain {
        vhost: Text,
        message: Arc<Message>,
        token: Option<Token>,
    },
    Retained {
        token: Token,
        vhost: Text,
        filter: Pattern,
    },
    /// The client of a session looks retained messages up.
    LookUp(QueueId),
    /// What a lookup has found comes to the session that it was for.
    Replay {
        queue: QueueId,
        replay: Box<Replay>,
    },
    /// Dead letters of a queue have arrived where they were to go.
    Buried {
        queue: QueueId,
        sequences: Vec<Sequence>,
    },
    /// Dead letters of a share group have arrived where they were to go.
    BuriedShare(Box<ShareBurial>),
    /// Dead letters of a queue have not arrived everywhere.
    Undelivered {
        queue: QueueId,
        letters: Vec<Undelivered>,
    },
    /// A read that a queue asked for.
    Loaded {
        queue: QueueId,
        loaded: Box<Loaded>,
    },
    /// A read of a log that a cursor asked for.
    LogLoaded {
        queue: QueueId,
        loaded: Box<CursorLoaded>,
    },
    /// A cursor begins anew at these offsets of its partitions; answered once that is committed.
    ResetCursor {
        queue: QueueId,
        offsets: Vec<(u32, Offset)>,
        reply: oneshot::Sender<()>,
    },
    /// Answered with the ready messages, unsettled ones, those that wait for their next delivery, and consumers of each.
    Count {
        queues: Vec<QueueId>,
        reply: oneshot::Sender<Vec<[u64; 4]>>,
    },
    /// Drops the retained messages and groups of a vhost; answered once that is committed.
    ForgetVhost {
        vhost: Text,
        reply: oneshot::Sender<()>,
    },
    /// Answered with how far readers are, with what waits in sessions or without.
    Standings {
        sessions: bool,
        reply: oneshot::Sender<Vec<Standing>>,
    },
    Report(oneshot::Sender<Report>),
    /// Answered once everything before it is committed.
    Drain(oneshot::Sender<()>),
}

impl Op {
    /// Whether it takes deliveries off a consumer, or gives it more room for them, and nothing else comes of it.
    pub(crate) fn makes_room(&self) -> bool {
        match self {
            Op::Settle { outcome, .. } => *outcome == Outcome::Accept,
            Op::Received { .. } | Op::Completed { .. } | Op::Credit { .. } => true,
            _ => false,
        }
    }
}

const _: () = assert!(size_of::<Op>() <= 96);

/// What a shard holds, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) queues: u64,
    pub(crate) ready: u64,
    pub(crate) unsettled: u64,
    /// Messages that came back and wait for their next delivery.
    pub(crate) delayed_retries: u64,
    pub(crate) consumers: u64,
    pub(crate) held_bytes: u64,
    pub(crate) partitions: u64,
    pub(crate) groups: u64,
    pub(crate) retained: u64,
    pub(crate) retained_bytes: u64,
    /// Sessions whose clients are away.
    pub(crate) sessions_away: u64,
    /// Messages in sessions.
    pub(crate) session_messages: u64,
    /// Bytes of the bodies of those that wait to be delivered.
    pub(crate) session_bytes: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Report) {
        self.queues += other.queues;
        self.ready += other.ready;
        self.unsettled += other.unsettled;
        self.delayed_retries += other.delayed_retries;
        self.consumers += other.consumers;
        self.held_bytes += other.held_bytes;
        self.partitions += other.partitions;
        self.groups += other.groups;
        self.retained += other.retained;
        self.retained_bytes += other.retained_bytes;
        self.sessions_away += other.sessions_away;
        self.session_messages += other.session_messages;
        self.session_bytes += other.session_bytes;
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        let gauge = |name, help, value| Sample {
            name,
            help,
            counter: false,
            labels: Vec::new(),
            value,
        };
        vec![
            gauge("trivium_queues", "Queues, sessions included", self.queues),
            gauge(
                "trivium_queue_messages_ready",
                "Messages ready for delivery",
                self.ready,
            ),
            gauge(
                "trivium_queue_messages_unsettled",
                "Messages delivered and not settled",
                self.unsettled,
            ),
            gauge(
                "trivium_queue_messages_delayed_retry",
                "Messages that came back and wait for their next delivery",
                self.delayed_retries,
            ),
            gauge("trivium_consumers", "Consumers of queues", self.consumers),
            gauge(
                "trivium_queue_memory_bytes",
                "Queue messages in memory",
                self.held_bytes,
            ),
            gauge(
                "trivium_log_partitions",
                "Partitions of logs",
                self.partitions,
            ),
            gauge("trivium_groups", "Consumer groups", self.groups),
            gauge(
                "trivium_retained_messages",
                "Retained messages",
                self.retained,
            ),
            gauge(
                "trivium_retained_bytes",
                "Retained messages, in bytes of memory",
                self.retained_bytes,
            ),
            gauge(
                "trivium_sessions_away",
                "Sessions of MQTT clients that are not connected",
                self.sessions_away,
            ),
            gauge(
                "trivium_session_messages",
                "Messages in sessions of MQTT clients",
                self.session_messages,
            ),
            gauge(
                "trivium_session_bytes",
                "Bodies of messages that wait in sessions of MQTT clients, in bytes",
                self.session_bytes,
            ),
        ]
    }
}
