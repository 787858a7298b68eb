//! The state machine of one open channel: methods become commands, answers and deliveries become frames.
//!
//! Definitions and consumers are answered by the core, and the connection handles no further input until they
//! are (see [`Session::ask`]): a failing declaration closes the channel before what was sent after it is carried
//! out. Publishes and acknowledgements never wait.

mod consuming;
mod definitions;
mod direct_reply;
mod publishing;
mod transaction;

pub use direct_reply::PSEUDO_QUEUE;

use rustc_hash::FxHashMap;
use trivium_core::{
    Change, ChannelPlace, ChannelQuota, Command, ConsumeSpec, ConsumerId, Outcome, Refusal, Reply,
    Text, TooManyChannels,
};
use trivium_protocol::{Effects, Output};

use self::{
    direct_reply::{Replies, is_reply_name},
    transaction::Transaction,
};
use crate::{
    confirm::Confirms,
    consume,
    definition::name,
    deliver::Destination,
    error::{Error, ReplyCode},
    frame::put_method,
    method::Method,
    publish::{Content, Publish},
    session::{Session, Then},
    unsettled::Unsettled,
};

/// Class and method of basic.publish, for closing a channel because of a message.
pub const PUBLISH: (u16, u16) = (60, 40);

/// An open channel.
#[derive(Debug)]
pub struct Channel {
    number: u16,
    /// What an empty queue name means.
    last_queue: Text,
    /// For consumers started from now on.
    prefetch: Option<u32>,
    /// All consumers together have a prefetch.
    is_limited: bool,
    consumers: FxHashMap<Text, ConsumerId>,
    /// The numbers under which basic.get settles, by queue.
    getters: FxHashMap<Text, ConsumerId>,
    unsettled: Unsettled,
    /// The message whose frames are coming in.
    content: Option<Content>,
    confirms: Option<Confirms>,
    transaction: Option<Transaction>,
    replies: Option<Replies>,
    /// Publish tokens of this channel are greater; others are of an earlier channel with its number.
    publish_tokens_before: u64,
    last_publish_token: u64,
    /// Its place among the channels of its user.
    _place: Option<ChannelPlace>,
    /// The turn and exchange of the last publish that had a token although nobody waits for its confirm.
    probed: (u64, Text),
}

impl Channel {
    /// Opens a channel, if its user may have one more.
    pub fn open(number: u16, session: &Session) -> Result<Channel, TooManyChannels> {
        let quota = session.channels.as_ref();
        Ok(Channel {
            _place: quota.map(ChannelQuota::open).transpose()?,
            number,
            last_queue: Text::new(),
            prefetch: None,
            is_limited: false,
            consumers: FxHashMap::default(),
            getters: FxHashMap::default(),
            unsettled: Unsettled::default(),
            content: None,
            confirms: None,
            transaction: None,
            replies: None,
            publish_tokens_before: session.publish_tokens,
            last_publish_token: session.publish_tokens,
            probed: (0, Text::new()),
        })
    }

    /// Ends consumers and gives back what they hold.
    pub fn close(&mut self, session: &mut Session, effects: &mut Effects) {
        session.publish_tokens = session.publish_tokens.max(self.last_publish_token);
        for (_, consumer) in self.consumers.drain() {
            session.consumers.remove(&consumer);
            effects.commands.push(Command::Cancel {
                token: session.next_token(),
                consumer,
            });
        }
        if self.is_limited {
            self.set_prefetch(0, true, effects);
        }
        self.forget_transaction();
        self.requeue_all(Outcome::Requeue, effects);
    }

    /// Whether a message has begun to come.
    pub fn awaits_content(&self) -> bool {
        self.content.is_some()
    }

    /// Carries out a method; `Err` says what to close.
    pub fn handle_method(
        &mut self,
        method: Method,
        session: &mut Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        if self.content.is_some() {
            return Err(unexpected(self.content.as_ref()));
        }
        let id = method.id();
        match method {
            Method::BasicPublish {
                immediate: true, ..
            } => Err(not_implemented("immediate=true")),
            Method::BasicPublish {
                exchange,
                routing_key,
                mandatory,
                ..
            } => {
                self.content = Some(Content::Header(Publish {
                    exchange,
                    routing_key,
                    mandatory,
                }));
                Ok(())
            }
            Method::BasicAck {
                delivery_tag,
                multiple,
            } => self.settle(delivery_tag, multiple, Outcome::Accept, effects),
            Method::BasicNack {
                delivery_tag,
                multiple,
                requeue,
            } => self.settle(delivery_tag, multiple, nacked(requeue), effects),
            Method::BasicReject {
                delivery_tag,
                requeue,
            } => self.settle(delivery_tag, false, rejected(requeue), effects),
            Method::BasicRecoverAsync { requeue: true } => {
                self.requeue_all(Outcome::Release, effects);
                Ok(())
            }
            Method::BasicRecover { requeue: true } => {
                self.requeue_all(Outcome::Release, effects);
                self.send(Method::BasicRecoverOk {}, effects)
            }
            Method::BasicRecover { .. } | Method::BasicRecoverAsync { .. } => {
                Err(not_implemented("requeue=false"))
            }
            Method::BasicQos { prefetch_size, .. } if prefetch_size != 0 => Err(not_implemented(
                format!("prefetch_size!=0 ({prefetch_size})"),
            )),
            Method::BasicQos {
                prefetch_count,
                global,
                ..
            } => {
                self.set_prefetch(prefetch_count, global, effects);
                self.send(Method::BasicQosOk {}, effects)
            }
            Method::BasicConsume {
                queue,
                consumer_tag,
                no_ack,
                exclusive,
                no_wait,
                arguments,
                ..
            } => {
                let queue = self.queue(queue)?;
                let arguments = consume::Arguments {
                    table: &arguments,
                    queue: &queue,
                    vhost: &session.origin.vhost,
                };
                let spec = ConsumeSpec {
                    auto_ack: no_ack,
                    prefetch: self.prefetch,
                    exclusive,
                    stream: arguments.stream(&consumer_tag, session.now)?,
                    priority: arguments.priority()?,
                    timeout: arguments.timeout()?,
                    channel: Some(self.number),
                    ..ConsumeSpec::default()
                };
                self.consume(queue, consumer_tag, spec, no_wait, session, effects)
            }
            Method::BasicCancel {
                consumer_tag,
                no_wait,
            } => self.cancel(consumer_tag, no_wait, session, effects),
            Method::BasicGet { queue, no_ack, .. } => self.get(queue, no_ack, session, effects),
            Method::ConfirmSelect { .. } if self.transaction.is_some() => {
                Err(Error::precondition("cannot switch from tx to confirm mode"))
            }
            Method::ConfirmSelect { no_wait } => {
                self.confirms
                    .get_or_insert_with(|| Confirms::new(self.last_publish_token));
                if no_wait {
                    Ok(())
                } else {
                    self.send(Method::ConfirmSelectOk {}, effects)
                }
            }
            Method::ChannelFlow { active: true } => {
                self.send(Method::ChannelFlowOk { active: true }, effects)
            }
            Method::ChannelFlow { active: false } => Err(not_implemented("active=false")),
            Method::AccessRequest { .. } => {
                self.send(Method::AccessRequestOk { ticket: 1 }, effects)
            }
            Method::ChannelOpen { .. } => Err(Error::connection(
                ReplyCode::ChannelError,
                "second 'channel.open' seen",
            )),
            Method::TxSelect {} => self.select_transactions(effects),
            Method::TxCommit {} => self.commit(session, effects),
            Method::TxRollback {} => self.rollback(effects),
            Method::QueueDeclare { queue, no_wait, .. } if is_reply_name(&queue) => {
                self.declare_replies(queue, no_wait, session, effects)
            }
            definition => {
                let (change, then) = self.definition(definition)?;
                if let Change::DeclareQueue { spec, .. } = &change {
                    session.has_exclusive_queues |= spec.exclusive;
                }
                session.ask(self.number, id, then, effects, |token| Command::Define {
                    token,
                    change,
                });
                Ok(())
            }
        }
    }

    /// The core has done what `then` waits for.
    pub fn handle_reply(
        &mut self,
        then: Then,
        result: Result<Reply, Refusal>,
        session: &mut Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        if let (Then::Consuming { consumer, .. }, Err(_)) = (&then, &result) {
            self.forget(*consumer, session);
        }
        let (then, result) = match (then, result) {
            (Then::Committed { settled }, Err(refusal)) => {
                return Err(self.handle_commit_failed(settled, refusal));
            }
            other => other,
        };
        let method = match (then, result?) {
            (Then::Reply(method), _) => method,
            (Then::Committed { .. }, _) => Some(Method::TxCommitOk {}),
            (Then::FoundReplies { queue, no_wait }, _) => {
                return self.replies_declared(queue, no_wait, effects);
            }
            (
                Then::Declared { no_wait },
                Reply::Queue {
                    name,
                    messages,
                    consumers,
                    ..
                },
            ) => {
                self.last_queue = name.clone();
                let declared = Method::QueueDeclareOk {
                    queue: name,
                    message_count: count(messages),
                    consumer_count: consumers,
                };
                (!no_wait).then_some(declared)
            }
            (Then::Purged { no_wait }, Reply::Deleted { messages }) => {
                (!no_wait).then_some(Method::QueuePurgeOk {
                    message_count: count(messages),
                })
            }
            (Then::Deleted { no_wait }, Reply::Deleted { messages }) => {
                (!no_wait).then_some(Method::QueueDeleteOk {
                    message_count: count(messages),
                })
            }
            (Then::Consuming { consumer, no_wait }, reply) => {
                if let Reply::ReplyAddress { address } = reply {
                    self.set_reply_address(address);
                }
                let tag = session
                    .consumers
                    .get(&consumer)
                    .map(|consumer| consumer.tag.clone());
                tag.filter(|_| !no_wait)
                    .map(|consumer_tag| Method::BasicConsumeOk { consumer_tag })
            }
            (
                Then::Cancelled {
                    consumer,
                    tag,
                    no_wait,
                },
                _,
            ) => {
                self.forget(consumer, session);
                (!no_wait).then_some(Method::BasicCancelOk { consumer_tag: tag })
            }
            (
                Then::Got { consumer, auto_ack },
                Reply::Got {
                    delivery: Some(delivery),
                    remaining,
                },
            ) => {
                let tag = self.tag(consumer, auto_ack, &delivery);
                let converted = self
                    .destination(session.frame_max, &mut effects.output)
                    .get_ok(tag, remaining, &delivery);
                if let Some(dropped) = converted {
                    session.converted.count(&delivery.message, dropped);
                }
                None
            }
            (Then::Got { .. }, _) => Some(Method::BasicGetEmpty {
                reserved_1: Text::new(),
            }),
            (then, reply) => {
                debug_assert!(false, "{reply:?} does not answer {then:?}");
                None
            }
        };
        method.map_or(Ok(()), |method| self.send(method, effects))
    }

    /// An empty name is that of the queue declared last (queue.bind, section 1.7.2.3).
    fn queue(&self, queue: Text) -> Result<Text, Error> {
        if !queue.is_empty() {
            return Ok(name(queue));
        }
        if self.last_queue.is_empty() {
            return Err(Error::channel(
                ReplyCode::NotFound,
                "no previously declared queue",
            ));
        }
        Ok(self.last_queue.clone())
    }

    fn send(&self, method: Method, effects: &mut Effects) -> Result<(), Error> {
        put_method(effects.output.buffer(), self.number, &method);
        Ok(())
    }

    fn destination<'a>(&self, frame_max: u32, output: &'a mut Output) -> Destination<'a> {
        Destination {
            output,
            channel: self.number,
            frame_max: frame_max as usize,
        }
    }
}

fn count(messages: u64) -> u32 {
    messages.try_into().unwrap_or(u32::MAX)
}

/// RabbitMQ 4.3 takes a rejected message for one that could not be handled …
fn rejected(requeue: bool) -> Outcome {
    if requeue {
        Outcome::Requeue
    } else {
        Outcome::Reject
    }
}

/// … and one that was given back by nack for one that nobody has tried to handle.
fn nacked(requeue: bool) -> Outcome {
    if requeue {
        Outcome::Release
    } else {
        Outcome::Reject
    }
}

/// A frame came where `content` asks for another.
fn unexpected(content: Option<&Content>) -> Error {
    let text = match content {
        None => "expected method frame, got non method frame instead",
        Some(Content::Header(_)) => {
            "expected content header for class 60, got non content header frame instead"
        }
        Some(Content::Body(_)) => "expected content body, got non content body frame instead",
    };
    Error::connection(ReplyCode::UnexpectedFrame, text)
}

fn not_implemented(what: impl Into<Text>) -> Error {
    Error::connection(ReplyCode::NotImplemented, what)
}
