//! What administrators ask for.

use super::Link;
use crate::{
    command::Scope,
    event::{Event, ExchangeInfo, Kind, Refusal, Reply},
    id::Token,
    properties::Text,
};

impl Link {
    pub(super) fn export(&mut self, token: Token, vhost: Option<Text>, scope: Scope) {
        let (broker, by) = (self.broker.clone(), self.actor.clone());
        self.reads.make().push(Box::pin(async move {
            let result = broker.export(&by, vhost.as_ref(), scope).await;
            Event::Done {
                token,
                result: result.map(|all| Reply::Definitions(Box::new(all))),
            }
        }));
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
        let routes = self.routing.current().clone();
        let seen = match routes.may_look(&self.actor.user, vhost.as_ref()) {
            Ok(seen) => seen,
            Err(refusal) => return self.done(token, Err(refusal)),
        };
        let broker = self.broker.clone();
        self.reads.make().push(Box::pin(async move {
            let result = broker.describe_queues(&routes, &seen, name.as_ref()).await;
            let result = result.and_then(|found| match name {
                Some(name) if found.is_empty() => Err(missing(Kind::Queue, name, vhost)),
                _ => Ok(Reply::Queues(found)),
            });
            Event::Done { token, result }
        }));
    }

    /// How far the readers of a vhost, or of all that the user may look at, are.
    pub(super) fn describe_lag(&mut self, token: Token, vhost: Option<Text>) {
        let routes = self.routing.current().clone();
        let seen = match routes.may_look(&self.actor.user, vhost.as_ref()) {
            Ok(seen) => seen,
            Err(refusal) => return self.done(token, Err(refusal)),
        };
        let broker = self.broker.clone();
        self.reads.make().push(Box::pin(async move {
            let result = broker.lag(&routes, &seen, true).await;
            let result = result.map(Reply::Lag);
            Event::Done { token, result }
        }));
    }

    pub(super) fn describe_exchanges(
        &mut self,
        token: Token,
        vhost: Option<Text>,
        name: Option<Text>,
    ) {
        let routes = self.routing.current().clone();
        let result = routes
            .may_look(&self.actor.user, vhost.as_ref())
            .and_then(|seen| {
                let found: Vec<ExchangeInfo> = seen
                    .iter()
                    .flat_map(|vhost| routes.describe_exchanges(vhost, name.as_ref()))
                    .collect();
                match name {
                    Some(name) if found.is_empty() => Err(missing(Kind::Exchange, name, vhost)),
                    _ => Ok(Reply::Exchanges(found)),
                }
            });
        self.done(token, result);
    }
}

fn missing(kind: Kind, name: Text, vhost: Option<Text>) -> Refusal {
    let vhost = vhost.unwrap_or_default();
    Refusal::NotFound { kind, name, vhost }
}
