//! Consumers of queues, and single messages: where what a client names is.

use std::sync::Arc;

use super::{Feed, Link};
use crate::{
    access::Operation,
    catalog::LogEntry,
    command::ConsumeSpec,
    event::{Kind, Refusal, Reply},
    id::{ConsumerId, QueueId, Token},
    properties::Text,
    shard::Op,
};

impl Link {
    pub(super) fn consume(
        &mut self,
        token: Token,
        consumer: ConsumerId,
        name: Text,
        spec: ConsumeSpec,
    ) {
        if !spec.session {
            self.trace_source(consumer, &name);
        }
        let log = self.log_named(&name, spec.session);
        let kind = log.as_ref().map_or(Kind::Queue, |_| Kind::Log);
        if let Some(only) = spec.only.filter(|only| *only != kind) {
            let permit = self.routing.permit(Operation::Read, Kind::Queue, &name);
            let refusal = permit.err().unwrap_or_else(|| self.not_found(only, &name));
            self.done(token, Err(refusal));
        } else if let Some(log) = log {
            self.consume_log(token, consumer, &log, spec);
        } else if let Some((shard, queue)) = self.resolve(token, consumer, &name, spec.session) {
            let channel = spec
                .channel
                .map(|channel| self.channels.make().join(channel, consumer));
            let consume = Op::Consume {
                token,
                consumer,
                queue,
                spec,
                channel,
            };
            self.outgoing.push(shard, consume);
        }
    }

    pub(super) fn get(&mut self, token: Token, consumer: ConsumerId, name: &Text, auto_ack: bool) {
        if let Some(log) = self.log_named(name, false) {
            let (name, vhost) = (&log.info.name, &log.vhost);
            let text = format!(
                "basic.get not supported by stream queues queue '{name}' in vhost '{vhost}'"
            );
            self.done(token, Err(Refusal::NotImplemented(text.into())));
        } else if let Some((shard, queue)) = self.resolve(token, consumer, name, false) {
            let get = Op::Get {
                token,
                consumer,
                queue,
                auto_ack,
            };
            self.outgoing.push(shard, get);
        }
    }

    pub(super) fn cancel(&mut self, token: Token, consumer: ConsumerId) {
        self.forget_source(consumer);
        match self.consumers.get(&consumer) {
            Some(&Feed { shard, .. }) => {
                self.outgoing.push(shard, Op::Cancel { token, consumer });
            }
            None => {
                self.refuse_replies(consumer);
                self.end_stream(consumer, true);
                self.done(token, Ok(Reply::Ok));
            }
        }
    }

    /// The log that is seen as a queue of this name.
    fn log_named(&mut self, name: &Text, session: bool) -> Option<Arc<LogEntry>> {
        let routes = self.routing.current();
        let taken = session || routes.queue(&self.actor.vhost, name).is_some();
        if taken {
            return None;
        }
        routes.log(&self.actor.vhost, name).cloned()
    }

    /// Finds a queue for a consumer and remembers where it is; answers if there is none.
    fn resolve(
        &mut self,
        token: Token,
        consumer: ConsumerId,
        name: &Text,
        session: bool,
    ) -> Option<(usize, QueueId)> {
        if !session && let Err(refusal) = self.routing.permit(Operation::Read, Kind::Queue, name) {
            self.done(token, Err(refusal));
            return None;
        }
        let routes = self.routing.current();
        let vhost = &self.actor.vhost;
        let entry = if session {
            routes.session(vhost, name)
        } else {
            routes.queue(vhost, name)
        };
        let entry = entry.cloned();
        if let Some(log) = entry.as_ref().and_then(|entry| entry.source.as_ref())
            && let Err(refusal) = self
                .routing
                .permit(Operation::Read, Kind::Log, &log.info.name)
        {
            self.done(token, Err(refusal));
            return None;
        }
        match entry {
            Some(entry) => {
                let (shard, id) = (self.broker.shard_of_queue(entry.id), entry.id);
                self.consumers.insert(consumer, Feed::from(shard));
                Some((shard, id))
            }
            None => {
                let refusal = self.not_found(Kind::Queue, name);
                self.done(token, Err(refusal));
                None
            }
        }
    }
}
