//! Whether a connection may do what it asks for.

use super::{Actor, Catalog};
use crate::{
    access::Operation,
    command::{Binding, Destination, ExchangeKind},
    event::{Kind, Refusal},
    quota::limit,
    topic::Topic,
};

impl Catalog {
    /// By permission on a name.
    pub(super) fn may(
        &self,
        by: &Actor,
        operation: Operation,
        kind: Kind,
        name: &str,
    ) -> Result<(), Refusal> {
        if by.is_broker() {
            return Ok(());
        }
        let access = self.routes.access();
        access.check(&by.vhost, &by.user, operation, kind, name)
    }

    /// By the limits of queues, of a vhost and of the broker, which count sessions and logs too.
    pub(super) fn has_room(&self, by: &Actor, kind: Kind, name: &str) -> Result<(), Refusal> {
        if by.is_broker() {
            return Ok(());
        }
        let vhost = &by.vhost;
        let of_vhost = self.routes.vhost_limit(vhost, "max-queues");
        if let Some(limit) =
            of_vhost.filter(|limit| self.routes.queue_count(vhost) as u64 >= *limit)
        {
            let text = format!(
                "cannot declare {kind} '{name}': queue limit in vhost '{vhost}' ({limit}) is reached"
            );
            return Err(Refusal::Invalid(text.into()));
        }
        let all = || -> usize {
            let vhosts = self.routes.vhosts();
            vhosts
                .map(|about| self.routes.queue_count(&about.name))
                .sum()
        };
        if let Some(limit) = limit(self.limits.queues).filter(|limit| all() as u64 >= *limit) {
            let text = format!(
                "cannot declare {kind} '{name}': queue limit in cluster ({limit}) is reached"
            );
            return Err(Refusal::Invalid(text.into()));
        }
        Ok(())
    }

    /// By the broker's limit of exchanges, which counts the predeclared ones too.
    pub(super) fn has_room_for_exchange(&self, by: &Actor, name: &str) -> Result<(), Refusal> {
        let all = || -> usize {
            let vhosts = self.routes.vhosts();
            vhosts
                .map(|about| self.routes.exchange_count(&about.name))
                .sum()
        };
        match limit(self.limits.exchanges) {
            Some(limit) if !by.is_broker() && all() as u64 >= limit => {
                let vhost = &by.vhost;
                let text = format!(
                    "cannot declare exchange '{name}' in vhost '{vhost}': exchange limit of {limit} is reached"
                );
                Err(Refusal::Invalid(text.into()))
            }
            _ => Ok(()),
        }
    }

    /// By the broker's limit of vhosts.
    pub(super) fn has_room_for_vhost(&self, name: &str) -> Result<(), Refusal> {
        match limit(self.limits.vhosts) {
            Some(limit)
                if !self.routes.vhost_exists(name)
                    && self.routes.vhosts().count() as u64 >= limit =>
            {
                let text =
                    format!("cannot create vhost '{name}': vhost limit of {limit} is reached");
                Err(Refusal::Invalid(text.into()))
            }
            _ => Ok(()),
        }
    }

    /// Any permission on a name is enough to ask whether the thing is there.
    pub(super) fn may_see(&self, by: &Actor, kind: Kind, name: &str) -> Result<(), Refusal> {
        self.may(by, Operation::Configure, kind, name)
            .or_else(|refusal| {
                let other = [Operation::Write, Operation::Read];
                let seen = other.map(|operation| self.may(by, operation, kind, name).is_ok());
                if seen.contains(&true) {
                    Ok(())
                } else {
                    Err(refusal)
                }
            })
    }

    /// A binding takes messages from its source and sends them to its destination. A session is its own client's.
    pub(super) fn may_bind(&self, by: &Actor, binding: &Binding) -> Result<(), Refusal> {
        let client = match &binding.destination {
            Destination::Session(client) => &**client,
            _ => "",
        };
        match &binding.destination {
            Destination::Queue(name) => self.may(by, Operation::Write, Kind::Queue, name)?,
            Destination::Log(name) => self.may(by, Operation::Write, Kind::Log, name)?,
            Destination::Exchange(name) => self.may(by, Operation::Write, Kind::Exchange, name)?,
            Destination::Session(_) => {}
        }
        self.may(by, Operation::Read, Kind::Exchange, &binding.source)?;
        let source = self.routes.exchange(&by.vhost, &binding.source);
        if by.is_broker()
            || source.is_none_or(|source| source.routes_as() != Some(ExchangeKind::Topic))
        {
            return Ok(());
        }
        let key = Topic::new(binding.key.clone(), binding.grammar);
        self.routes.access().check_topic(
            &by.vhost,
            &by.user,
            client,
            Operation::Read,
            &binding.source,
            &super::routes::dots(&key),
        )
    }
}
