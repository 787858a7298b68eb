//! What administrators ask for.

use std::sync::Arc;

use super::Link;
use crate::{
    broker::Inner,
    catalog::Routes,
    command::Scope,
    event::{Event, ExchangeInfo, Kind, Refusal, Reply},
    id::Token,
    properties::Text,
};

impl Link {
    pub(super) fn export(&mut self, token: Token, vhost: Option<Text>, scope: Scope) {
        let (broker, by) = (self.broker.clone(), self.actor.clone());
        self.answer_when_read(token, async move {
            let all = broker.export(&by, vhost.as_ref(), scope).await?;
            Ok(Reply::Definitions(Box::new(all)))
        });
    }

    /// The quotas of clients, for administrators.
    pub(super) fn list_client_quotas(&mut self) -> Result<Reply, Refusal> {
        let routes = self.routing.current();
        if !routes.access().has_tag(&self.actor.user, "administrator") {
            let text = format!("user '{}' is not an administrator", self.actor.user);
            return Err(Refusal::Denied(text.into()));
        }
        let all = routes.client_quotas().iter();
        let all = all.map(|(entity, values)| (entity.clone(), values.clone()));
        Ok(Reply::ClientQuotas(all.collect()))
    }

    pub(super) fn describe_queues(
        &mut self,
        token: Token,
        vhost: Option<Text>,
        name: Option<Text>,
    ) {
        let about = vhost.clone();
        self.look(token, about, move |broker, routes, seen| async move {
            let found = broker
                .describe_queues(&routes, &seen, name.as_ref())
                .await?;
            match name {
                Some(name) if found.is_empty() => Err(missing(Kind::Queue, name, vhost)),
                _ => Ok(Reply::Queues(found)),
            }
        });
    }

    /// How far the readers of a vhost, or of all that the user may look at, are.
    pub(super) fn describe_lag(&mut self, token: Token, vhost: Option<Text>) {
        self.look(token, vhost, move |broker, routes, seen| async move {
            broker.lag(&routes, &seen, true).await.map(Reply::Lag)
        });
    }

    pub(super) fn describe_exchanges(
        &mut self,
        token: Token,
        vhost: Option<Text>,
        name: Option<Text>,
    ) {
        let about = vhost.clone();
        self.look(token, about, move |_, routes, seen| async move {
            let all = seen.iter();
            let found = all.flat_map(|vhost| routes.describe_exchanges(vhost, name.as_ref()));
            let found: Vec<ExchangeInfo> = found.collect();
            match name {
                Some(name) if found.is_empty() => Err(missing(Kind::Exchange, name, vhost)),
                _ => Ok(Reply::Exchanges(found)),
            }
        });
    }

    /// Looks at a vhost, or at all that the user may look at, and answers with what was found.
    fn look<F>(
        &mut self,
        token: Token,
        vhost: Option<Text>,
        look: impl FnOnce(Arc<Inner>, Arc<Routes>, Vec<Text>) -> F,
    ) where
        F: Future<Output = Result<Reply, Refusal>> + Send + 'static,
    {
        let routes = self.routing.current().clone();
        match routes.may_look(&self.actor.user, vhost.as_ref()) {
            Ok(seen) => self.answer_when_read(token, look(self.broker.clone(), routes, seen)),
            Err(refusal) => self.done(token, Err(refusal)),
        }
    }

    /// Answers with what is read aside, while the connection goes on.
    pub(super) fn answer_when_read(
        &mut self,
        token: Token,
        read: impl Future<Output = Result<Reply, Refusal>> + Send + 'static,
    ) {
        self.reads.make().push(Box::pin(async move {
            let result = read.await;
            Event::Done { token, result }
        }));
    }
}

fn missing(kind: Kind, name: Text, vhost: Option<Text>) -> Refusal {
    let vhost = vhost.unwrap_or_default();
    Refusal::NotFound { kind, name, vhost }
}
