//! Exchanges: declared, checked, deleted; those that delete themselves go with their last binding.

use std::sync::Arc;

use super::{
    Actor, Applied, Catalog, Effect, Outcome, bindings::ExchangeName, check, spread::HashOn,
};
use crate::{
    access::Operation,
    command::{ExchangeKind, ExchangeSpec},
    definitions::VhostDefinition,
    delay::DelayEntry,
    event::{Kind, Refusal},
    history,
    properties::Text,
    store::{
        Table,
        keys::{TRANSIENT_QUEUE, catalog as keys},
        values::catalog::ExchangeRow,
    },
};

/// The exchanges of every vhost, which have no rows.
pub(super) const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
    ("amq.rabbitmq.trace", ExchangeKind::Topic),
];

impl Catalog {
    /// Adds a vhost with its exchanges, or changes what is known about it.
    pub(super) fn add_vhost(&mut self, about: VhostDefinition) {
        let vhost = &about.name.clone();
        let routes = self.routes_mut();
        if !routes.put_vhost(about) {
            return;
        }
        for (name, kind) in PREDECLARED {
            let spec = ExchangeSpec {
                kind,
                durable: true,
                auto_delete: false,
                internal: name == "amq.rabbitmq.trace",
                arguments: Vec::new(),
            };
            routes.put_exchange(vhost, name.into(), spec, None);
        }
    }

    pub(super) fn declare_exchange(
        &mut self,
        by: &Actor,
        name: &Text,
        spec: &ExchangeSpec,
    ) -> Result<Applied, Refusal> {
        if name.is_empty() {
            return Err(check::default_exchange());
        }
        self.may(by, Operation::Configure, Kind::Exchange, name)?;
        if let Some(current) = self.routes.exchange(&by.vhost, name) {
            return check::same_exchange(name, current, spec, by).map(|()| Applied::default());
        }
        check::not_reserved(Kind::Exchange, name)?;
        match spec.routes_as() {
            Some(ExchangeKind::ConsistentHash) => drop(HashOn::new(spec)?),
            Some(ExchangeKind::RecentHistory) => drop(history::length(spec)?),
            Some(_) => {}
            None => {
                let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
                return Err(Refusal::Invalid(text.into()));
            }
        }
        check::alternate_exchange(name, spec, by)?;
        if let Some(alternate) = check::text_argument(&spec.arguments, "alternate-exchange") {
            self.may(by, Operation::Read, Kind::Exchange, name)?;
            self.may(by, Operation::Write, Kind::Exchange, alternate)?;
        }
        self.has_room_for_exchange(by, name)?;
        let mut applied = Applied::default();
        let delay = self.new_delay(by, name, spec, &mut applied);
        if spec.durable {
            let number = delay.as_ref().map(|delay| delay.id);
            let row = ExchangeRow::write(&by.vhost, name, spec, number);
            applied
                .batch
                .put(Table::Catalog, keys::exchange(&by.vhost, name), row);
        }
        self.routes_mut()
            .put_exchange(&by.vhost, name.clone(), spec.clone(), delay);
        Ok(applied)
    }

    /// What a delayed exchange is to be known by.
    fn new_delay(
        &mut self,
        by: &Actor,
        name: &Text,
        spec: &ExchangeSpec,
        applied: &mut Applied,
    ) -> Option<Arc<DelayEntry>> {
        if spec.kind != ExchangeKind::Delayed {
            return None;
        }
        let mut id = self.next_id(spec.durable, applied);
        if !spec.durable {
            id |= TRANSIENT_QUEUE;
        }
        let delay = Arc::new(DelayEntry {
            id,
            vhost: by.vhost.clone(),
            exchange: name.clone(),
        });
        applied.effects.push(Effect::DelayCreated(delay.clone()));
        Some(delay)
    }

    pub(super) fn expect_exchange(&self, by: &Actor, name: &Text) -> Result<Applied, Refusal> {
        if name.is_empty() {
            return Err(check::default_exchange());
        }
        self.may_see(by, Kind::Exchange, name)?;
        if self.routes.exchange_exists(&by.vhost, name) {
            return Ok(Applied::default());
        }
        Err(check::not_found(Kind::Exchange, name, by))
    }

    pub(super) fn delete_exchange(
        &mut self,
        by: &Actor,
        name: &Text,
        if_unused: bool,
    ) -> Result<Applied, Refusal> {
        if name.is_empty() {
            return Err(check::default_exchange());
        }
        if name.starts_with("amq.") {
            let text = format!(
                "deletion of system exchange '{name}' in vhost '{}' not allowed",
                by.vhost
            );
            return Err(Refusal::Denied(text.into()));
        }
        self.may(by, Operation::Configure, Kind::Exchange, name)?;
        let exchange = (by.vhost.clone(), name.clone());
        if if_unused && self.bindings.any_from(&exchange) {
            return Err(Refusal::InUse {
                kind: Kind::Exchange,
                name: name.clone(),
                vhost: by.vhost.clone(),
            });
        }
        let mut applied = Applied::from(Outcome::Ok);
        self.remove_exchanges(vec![exchange], &mut applied);
        Ok(applied)
    }

    /// Removes exchanges with their bindings, and others that thereby lose their last one and delete themselves.
    pub(super) fn remove_exchanges(
        &mut self,
        mut exchanges: Vec<ExchangeName>,
        applied: &mut Applied,
    ) {
        while let Some(exchange) = exchanges.pop() {
            let (vhost, name) = &exchange;
            let Some(durable) = self.routes.exchange(vhost, name).map(|spec| spec.durable) else {
                continue;
            };
            let delay = self.routes.delay(vhost, name).cloned();
            applied.effects.extend(delay.map(Effect::DelayRemoved));
            self.routes_mut().remove_exchange(vhost, name);
            if durable {
                applied
                    .batch
                    .delete(Table::Catalog, keys::exchange(vhost, name));
            }
            for number in self.bindings.around(&exchange) {
                exchanges.extend(self.remove_binding(number, applied));
            }
        }
    }
}
