//! A connection and the MQTT session that it is attached to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Feed, Link, Stopped};
use crate::{
    command::{Command, Outcome},
    event::{Event, Kind, Refusal, Reply},
    id::{BindingTag, ConnectionId, ConsumerId, DeliveryId, QueueId, Token},
    message::Message,
    properties::Text,
    queue::{Arrival, DueWill, Replay},
    shard::Op,
};

/// Which connection acts for a session. Whoever is not named hands nothing over any more, so that what a session
/// tells a new connection of its handshakes is true until that connection changes it.
#[derive(Debug, Default)]
pub(crate) struct Claim(Mutex<ConnectionId>);

impl Claim {
    pub(crate) fn lock(&self) -> MutexGuard<'_, ConnectionId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session of a connection.
pub(crate) struct Attached {
    queue: QueueId,
    shard: usize,
    claim: Arc<Claim>,
    connection: ConnectionId,
    client: Text,
}

impl Attached {
    /// Keeps others from claiming the session, if this connection has it still.
    pub(crate) fn hold(&self) -> Option<MutexGuard<'_, ConnectionId>> {
        Some(self.claim.lock()).filter(|holder| **holder == self.connection)
    }
}

impl Link {
    /// What an attached client asks of its session.
    pub(super) fn session_command(&mut self, command: Command) {
        match command {
            Command::Attach {
                token,
                consumer,
                client,
                prefetch,
                will,
            } => {
                let entry = self.routing.current().session(&self.actor.vhost, &client);
                let Some((queue, claim)) = entry
                    .cloned()
                    .and_then(|entry| Some((entry.id, entry.claim.clone()?)))
                else {
                    let refusal = self.not_found(Kind::Queue, &client);
                    return self.done(token, Err(refusal));
                };
                let (shard, connection) =
                    (self.broker.shard_of_queue(queue), self.mailbox.connection);
                self.consumers.insert(consumer, Feed::from(shard));
                *claim.lock() = connection;
                self.outgoing.push(
                    shard,
                    Op::Attach {
                        token,
                        consumer,
                        queue,
                        prefetch,
                        will,
                    },
                );
                let attached = Box::new(Attached {
                    queue,
                    shard,
                    claim,
                    connection,
                    client,
                });
                self.outgoing.attached = Some(attached);
            }
            Command::Detach { publish_will } => self.push_session(|queue| Op::Detach {
                queue,
                publish_will,
            }),
            Command::PublishOnce {
                token,
                message,
                packet_id,
            } => self.publish_once(token, &message, packet_id),
            Command::Release { token, packet_id } => self.push_session(|queue| Op::Release {
                queue,
                packet_id,
                token,
            }),
            Command::Received {
                token,
                consumer,
                deliveries,
            } => {
                if let Some(shard) = self.consumers.get(&consumer).map(|feed| feed.shard) {
                    self.outgoing.push(
                        shard,
                        Op::Received {
                            consumer,
                            deliveries,
                            token,
                        },
                    );
                }
            }
            Command::Replay {
                token,
                messages,
                tag,
                direct,
            } => {
                let replay = Box::new(Replay {
                    token,
                    messages,
                    tag,
                    direct,
                });
                self.push_session(|queue| Op::Replay { queue, replay });
            }
            Command::Shares { token } => {
                let client = self.outgoing.attached.as_ref().map(|it| it.client.clone());
                let routes = self.routing.current();
                let entry = client.and_then(|client| routes.session(&self.actor.vhost, &client));
                let shares = entry.iter().flat_map(|entry| entry.shares.iter());
                let shares = shares.map(|(name, share)| (name.clone(), share.tag));
                let reply = Reply::Shares(shares.collect());
                self.done(token, Ok(reply));
            }
            Command::Adopt {
                consumer,
                delivery,
                message,
                tag,
            } => self.adopt(consumer, delivery, message, tag),
            Command::Completed { packet_ids } => {
                self.push_session(|queue| Op::Completed { queue, packet_ids });
            }
            _ => {}
        }
    }

    /// The session, if there is one, is to know before any shard answers.
    pub(super) fn announce_lookup(&mut self) {
        if let Some(&Attached { queue, shard, .. }) = self.outgoing.attached.as_deref() {
            self.outgoing.push_first(shard, Op::LookUp(queue));
        }
    }

    fn push_session(&mut self, op: impl FnOnce(QueueId) -> Op) {
        if let Some(&Attached { queue, shard, .. }) = self.outgoing.attached.as_deref() {
            self.outgoing.push(shard, op(queue));
        }
    }

    /// Both sides of the move are one storage batch.
    fn adopt(
        &mut self,
        consumer: ConsumerId,
        delivery: DeliveryId,
        message: Arc<Message>,
        tag: BindingTag,
    ) {
        let Some(session) = self.outgoing.attached.as_ref().map(|it| it.shard) else {
            return;
        };
        let arrival = Arrival {
            promised: true,
            ..Arrival::new(message, tag)
        };
        self.push_session(|queue| Op::Enqueue {
            queue,
            arrival,
            token: None,
        });
        if let Some(group) = self.settle(consumer, delivery..=delivery, Outcome::Accept) {
            self.span(1 << session | 1 << group);
        }
    }

    /// Whether the connection is attached to a session that another has taken since.
    pub(super) fn has_lost_its_session(&self) -> bool {
        let attached = self.outgoing.attached.as_ref();
        attached.is_some_and(|attached| attached.hold().is_none())
    }

    /// Publishes with the identifier stored in the same batch (MQTT 5, 4.3.3).
    fn publish_once(&mut self, token: Token, message: &Arc<Message>, packet_id: u16) {
        let Some(&Attached { queue, shard, .. }) = self.outgoing.attached.as_deref() else {
            let refusal = Refusal::Invalid("no session".into());
            return self.refuse(Some(token), message.clone(), refusal);
        };
        let plan = match self.plan(message, &[]) {
            Ok(plan) => plan,
            Err(refusal) => return self.refuse(Some(token), message.clone(), refusal),
        };
        let is_routed = plan.is_routed();
        let (destinations, shards) = self.send(Some(token), message, plan);
        self.outgoing.push(
            shard,
            Op::Receive {
                queue,
                packet_id,
                token,
            },
        );
        self.span(shards | 1 << shard);
        self.confirms.expect(token, destinations + 1);
        if !is_routed {
            self.local.push(Event::Unrouted { token });
        }
    }

    fn span(&mut self, shards: u64) {
        if shards.count_ones() > 1 {
            self.outgoing.spanned |= shards;
        }
    }

    /// Publishes a will and drops its row, in one batch.
    pub(crate) async fn publish_will(&mut self, will: &DueWill) -> Result<(), Stopped> {
        let shard = self.broker.shard_of_queue(will.queue);
        let sent = match self.plan(&will.message, &[]) {
            Ok(plan) => self.send(None, &will.message, plan).1,
            Err(refusal) => {
                tracing::info!(client = %will.message.origin.client, %refusal, "will is not published");
                0
            }
        };
        self.outgoing.push(shard, Op::WillSent(will.queue));
        self.span(sent | 1 << shard);
        self.outgoing.flush(&self.broker, &self.mailbox).await
    }
}
