//! Exchanges: declared, checked, deleted; those that delete themselves go with their last binding.

use super::{Actor, Applied, Catalog, Outcome, bindings::ExchangeName, check};
use crate::{
    command::{ExchangeKind, ExchangeSpec},
    event::{Kind, Refusal},
    properties::Text,
    store::{Table, keys::catalog as keys, values::catalog::ExchangeRow},
};

/// The exchanges of every vhost, which have no rows.
pub(super) const PREDECLARED: [(&str, ExchangeKind); 5] = [
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

impl Catalog {
    pub(super) fn add_vhost(&mut self, vhost: &str) {
        let routes = self.routes_mut();
        routes.add_vhost(vhost.into());
        for (name, kind) in PREDECLARED {
            let spec = ExchangeSpec {
                kind,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: Vec::new(),
            };
            routes.put_exchange(vhost, name.into(), spec);
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
        if let Some(current) = self.routes.exchange(&by.vhost, name) {
            return check::same_exchange(name, current, spec, by).map(|()| Applied::default());
        }
        check::not_reserved(Kind::Exchange, name)?;
        let mut applied = Applied::default();
        if spec.durable {
            let row = ExchangeRow::write(&by.vhost, name, spec);
            applied
                .batch
                .put(Table::Catalog, keys::exchange(&by.vhost, name), row);
        }
        self.routes_mut()
            .put_exchange(&by.vhost, name.clone(), spec.clone());
        Ok(applied)
    }

    pub(super) fn expect_exchange(&self, by: &Actor, name: &Text) -> Result<Applied, Refusal> {
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
