//! What the channels of one connection share: who they are, consumers by number, and the one command whose answer
//! the connection waits for.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use trivium_core::{
    ChannelQuota, Command, ConsumerId, ConversionTally, Origin, Text, Timestamp, Token,
};
use trivium_protocol::Effects;

use crate::{Options, method::Method, unsettled::Taken};

/// Shared by the channels of an open connection.
#[derive(Debug)]
pub struct Session {
    /// What the broker's operator decided.
    pub options: Options,
    /// Who publishes: user and vhost.
    pub origin: Arc<Origin>,
    /// The largest frame either side may send, all overhead included.
    pub frame_max: u32,
    /// Whether the client understands basic.cancel from the broker.
    pub cancel_notify: bool,
    /// What counts channels, once the connection is in a vhost.
    pub channels: Option<ChannelQuota>,
    /// Consumers of all channels.
    pub consumers: FxHashMap<ConsumerId, Consumer>,
    /// What the connection waits for; no input is handled meanwhile.
    pub pending: Option<Pending>,
    /// Counts calls of `handle_input`.
    pub turn: u64,
    /// The time of the last of them.
    pub now: Timestamp,
    /// It has declared queues of its own.
    pub has_exclusive_queues: bool,
    /// What was delivered that came by other protocols.
    pub converted: ConversionTally,
    /// Whether messages may claim to be another user's.
    pub impersonator: bool,
    /// Publish tokens of channels opened from now on are greater, so that no closed channel's tokens return.
    pub publish_tokens: u64,
    tag_prefix: String,
    tags: u64,
    last_consumer: ConsumerId,
    last_token: Token,
}

/// A consumer and where its messages go.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its channel.
    pub channel: u16,
    /// Its tag on that channel.
    pub tag: Text,
    /// Its deliveries need no acknowledgement.
    pub auto_ack: bool,
}

/// A command under way and what its answer leads to.
#[derive(Debug)]
pub struct Pending {
    /// The command's.
    pub token: Token,
    /// The channel that asked; 0 for the connection.
    pub channel: u16,
    /// Class and method that asked, for closing a channel with.
    pub method: (u16, u16),
    /// What follows.
    pub then: Then,
}

/// What follows an answer of the core.
#[derive(Debug)]
pub enum Then {
    /// connection.tune, or a refused login.
    Authenticated { mechanism: Text },
    /// connection.open-ok.
    Entered { vhost: Text },
    /// connection.close-ok.
    Left,
    /// This method; none if the client does not wait.
    Reply(Option<Method>),
    /// queue.declare-ok.
    Declared { no_wait: bool },
    /// queue.purge-ok.
    Purged { no_wait: bool },
    /// queue.delete-ok.
    Deleted { no_wait: bool },
    /// basic.consume-ok.
    Consuming { consumer: ConsumerId, no_wait: bool },
    /// tx.commit-ok; these deliveries are unsettled still if it failed.
    Committed { settled: Vec<Taken> },
    /// queue.declare-ok for an address that replies go to.
    FoundReplies { queue: Text, no_wait: bool },
    /// basic.cancel-ok.
    Cancelled {
        consumer: ConsumerId,
        tag: Text,
        no_wait: bool,
    },
    /// basic.get-ok or basic.get-empty.
    Got {
        consumer: ConsumerId,
        auto_ack: bool,
    },
}

impl Session {
    /// A session whose generated consumer tags begin with `tag_prefix`.
    pub fn new(options: Options, converted: ConversionTally, tag_prefix: String) -> Session {
        Session {
            options,
            converted,
            origin: Arc::new(Origin {
                protocol: Text::from_static("amqp"),
                ..Origin::default()
            }),
            frame_max: crate::connection::HANDSHAKE_FRAME_MAX,
            cancel_notify: false,
            channels: None,
            consumers: FxHashMap::default(),
            pending: None,
            turn: 0,
            now: Timestamp::default(),
            has_exclusive_queues: false,
            impersonator: false,
            publish_tokens: 0,
            tag_prefix,
            tags: 0,
            last_consumer: ConsumerId(0),
            last_token: Token(0),
        }
    }

    /// Sends a command and waits for its answer.
    pub fn ask(
        &mut self,
        channel: u16,
        method: (u16, u16),
        then: Then,
        effects: &mut Effects,
        command: impl FnOnce(Token) -> Command,
    ) {
        let token = self.next_token();
        self.pending = Some(Pending {
            token,
            channel,
            method,
            then,
        });
        effects.commands.push(command(token));
    }

    /// A token that nobody waits for.
    pub fn next_token(&mut self) -> Token {
        self.last_token = self.last_token.next();
        self.last_token
    }

    /// A number for a new consumer.
    pub fn next_consumer(&mut self) -> ConsumerId {
        self.last_consumer = self.last_consumer.next();
        self.last_consumer
    }

    /// A consumer tag that no other consumer has.
    pub fn next_consumer_tag(&mut self) -> Text {
        self.tags += 1;
        format!("amq.ctag-{}-{:x}", self.tag_prefix, self.tags).into()
    }
}
