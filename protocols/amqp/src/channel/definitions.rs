//! The methods of exchange and queue (sections 1.6 and 1.7) as what they change and what is answered.

use trivium_core::{Binding, Change, Destination, ExchangeSpec, Grammar, Text};

use super::Channel;
use crate::{
    definition::{QueueFlags, exchange_kind, name, queue_spec},
    error::{Error, ReplyCode},
    field_table::Table,
    method::Method,
    session::Then,
};

impl Channel {
    /// What a method of exchange or queue changes, and what is answered.
    pub(super) fn definition(&mut self, method: Method) -> Result<(Change, Then), Error> {
        Ok(match method {
            Method::ExchangeDeclare {
                exchange,
                passive: true,
                no_wait,
                ..
            } => (
                Change::ExpectExchange {
                    name: name(exchange),
                },
                reply(no_wait, Method::ExchangeDeclareOk {}),
            ),
            Method::ExchangeDeclare {
                exchange,
                kind,
                durable,
                auto_delete,
                internal,
                no_wait,
                arguments,
                ..
            } => {
                let spec = ExchangeSpec {
                    kind: exchange_kind(&kind)?,
                    durable,
                    auto_delete,
                    internal,
                    arguments,
                };
                (
                    Change::DeclareExchange {
                        name: name(exchange),
                        spec,
                    },
                    reply(no_wait, Method::ExchangeDeclareOk {}),
                )
            }
            Method::ExchangeDelete {
                exchange,
                if_unused,
                no_wait,
                ..
            } => (
                Change::DeleteExchange {
                    name: name(exchange),
                    if_unused,
                },
                reply(no_wait, Method::ExchangeDeleteOk {}),
            ),
            Method::ExchangeBind {
                destination,
                source,
                routing_key,
                no_wait,
                arguments,
                ..
            } => {
                let binding = binding(
                    source,
                    Destination::Exchange(name(destination)),
                    routing_key,
                    arguments,
                );
                (
                    Change::Bind(binding),
                    reply(no_wait, Method::ExchangeBindOk {}),
                )
            }
            Method::ExchangeUnbind {
                destination,
                source,
                routing_key,
                no_wait,
                arguments,
                ..
            } => {
                let binding = binding(
                    source,
                    Destination::Exchange(name(destination)),
                    routing_key,
                    arguments,
                );
                (
                    Change::Unbind(binding),
                    reply(no_wait, Method::ExchangeUnbindOk {}),
                )
            }
            Method::QueueDeclare {
                queue,
                passive: true,
                no_wait,
                ..
            } => (
                Change::ExpectQueue {
                    name: self.queue(queue)?,
                    session: false,
                },
                Then::Declared { no_wait },
            ),
            Method::QueueDeclare {
                queue,
                durable,
                exclusive,
                auto_delete,
                no_wait,
                arguments,
                ..
            } => {
                let flags = QueueFlags {
                    durable,
                    exclusive,
                    auto_delete,
                };
                let spec = queue_spec(flags, arguments);
                (
                    Change::DeclareQueue {
                        name: name(queue),
                        spec,
                    },
                    Then::Declared { no_wait },
                )
            }
            Method::QueueBind {
                queue,
                exchange,
                routing_key,
                no_wait,
                arguments,
                ..
            } => {
                let (queue, key) = self.queue_and_key(queue, routing_key)?;
                let binding = binding(exchange, Destination::Queue(queue), key, arguments);
                (
                    Change::Bind(binding),
                    reply(no_wait, Method::QueueBindOk {}),
                )
            }
            Method::QueueUnbind {
                queue,
                exchange,
                routing_key,
                arguments,
                ..
            } => {
                let (queue, key) = self.queue_and_key(queue, routing_key)?;
                let binding = binding(exchange, Destination::Queue(queue), key, arguments);
                (
                    Change::Unbind(binding),
                    reply(false, Method::QueueUnbindOk {}),
                )
            }
            Method::QueuePurge { queue, no_wait, .. } => (
                Change::PurgeQueue {
                    name: self.queue(queue)?,
                },
                Then::Purged { no_wait },
            ),
            Method::QueueDelete {
                queue,
                if_unused,
                if_empty,
                no_wait,
                ..
            } => (
                Change::DeleteQueue {
                    name: self.queue(queue)?,
                    session: false,
                    if_unused,
                    if_empty,
                },
                Then::Deleted { no_wait },
            ),
            other => {
                let (class, method) = other.id();
                let text = format!("method {class}.{method} is not for a broker on a channel");
                return Err(Error::connection(ReplyCode::CommandInvalid, text));
            }
        })
    }

    /// If both are empty, the key is the name of the queue too.
    pub(super) fn queue_and_key(&self, queue: Text, key: Text) -> Result<(Text, Text), Error> {
        let unnamed = queue.is_empty() && key.is_empty();
        let queue = self.queue(queue)?;
        let key = if unnamed { queue.clone() } else { key };
        Ok((queue, key))
    }
}

fn binding(source: Text, destination: Destination, key: Text, arguments: Table) -> Binding {
    Binding {
        source: name(source),
        destination,
        key,
        grammar: Grammar::Dots,
        arguments,
        subscription: None,
    }
}

fn reply(no_wait: bool, method: Method) -> Then {
    Then::Reply((!no_wait).then_some(method))
}
