//! Whether a connection may do what it asks for.

use super::{Actor, Catalog};
use crate::{
    access::Operation,
    command::{Binding, Destination, ExchangeKind},
    event::{Kind, Refusal},
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

    /// By the limit of queues in a vhost, which counts sessions and logs too.
    pub(super) fn has_room(&self, by: &Actor, kind: Kind, name: &str) -> Result<(), Refusal> {
        let vhost = &by.vhost;
        let Some(limit) = self.routes.vhost_limit(vhost, "max-queues") else {
            return Ok(());
        };
        if by.is_broker() || (self.routes.queue_count(vhost) as u64) < limit {
            return Ok(());
        }
        let text = format!(
            "cannot declare {kind} '{name}': queue limit in vhost '{vhost}' ({limit}) is reached"
        );
        Err(Refusal::Invalid(text.into()))
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
