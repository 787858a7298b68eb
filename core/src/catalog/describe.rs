//! What management shows of exchanges and queues.

use std::sync::Arc;

use super::{
    Routes,
    export::MANAGEMENT,
    policies::{Policies, Policy},
    routes::{LogEntry, QueueEntry},
};
use crate::{
    command::{ExchangeKind, ExchangeSpec},
    event::{ExchangeInfo, PolicyInfo, QueueInfo, Refusal},
    log::Bounds,
    properties::{Text, Value},
};

impl Routes {
    /// The vhosts that a user may look at: of those asked for, all for administrators and monitoring, otherwise
    /// those that the user may enter.
    pub(crate) fn may_look(&self, user: &Text, vhost: Option<&Text>) -> Result<Vec<Text>, Refusal> {
        let access = self.access();
        let tagged = |tag| access.has_tag(user, tag);
        if !MANAGEMENT.into_iter().any(tagged) {
            let text = format!("user '{user}' may not use the management interface");
            return Err(Refusal::Denied(text.into()));
        }
        if let Some(vhost) = vhost
            && !self.vhost_exists(vhost)
        {
            return Err(Refusal::NoVhost(vhost.clone()));
        }
        let sees_all = tagged("administrator") || tagged("monitoring");
        let asked = self.vhosts().map(|about| &about.name);
        let mut seen: Vec<Text> = asked
            .filter(|name| vhost.is_none_or(|vhost| vhost == *name))
            .filter(|name| sees_all || access.check_vhost(name, user).is_ok())
            .cloned()
            .collect();
        seen.sort();
        Ok(seen)
    }

    /// The exchanges of a vhost, or the one of that name.
    pub(crate) fn describe_exchanges(
        &self,
        vhost: &Text,
        name: Option<&Text>,
    ) -> Vec<ExchangeInfo> {
        let default = ExchangeSpec {
            kind: ExchangeKind::Direct,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Vec::new(),
        };
        let default = std::iter::once((Text::new(), default, PolicyInfo::default()));
        let declared = self.exchanges(vhost).map(|(name, spec)| {
            let policies = self.exchange_policies(vhost, name);
            let policies = policies.map(Policies::describe).unwrap_or_default();
            (name.clone(), (**spec).clone(), policies)
        });
        let mut found: Vec<_> = default
            .chain(declared)
            .filter(|(found, ..)| name.is_none_or(|name| name == found))
            .map(|(name, spec, policies)| ExchangeInfo {
                vhost: vhost.clone(),
                name,
                spec,
                policies,
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }
}

impl Policies {
    pub(super) fn describe(&self) -> PolicyInfo {
        let name = |policy: &Option<Arc<Policy>>| {
            let policy = policy.as_ref();
            policy.map(|policy| policy.definition.name.clone())
        };
        let mut effective: Vec<(Text, Value)> = Vec::new();
        for policy in [&self.policy, &self.operator].into_iter().flatten() {
            for (name, value) in &policy.definition.definition {
                match effective.iter_mut().find(|(known, _)| known == name) {
                    None => effective.push((name.clone(), value.clone())),
                    Some((_, current)) => {
                        let smaller = match (current.integer(), value.integer()) {
                            (Some(current), Some(value)) => value < current,
                            _ => true,
                        };
                        if smaller {
                            *current = value.clone();
                        }
                    }
                }
            }
        }
        PolicyInfo {
            policy: name(&self.policy),
            operator: name(&self.operator),
            effective,
        }
    }
}

impl QueueEntry {
    /// The queue, with nothing in it.
    pub(crate) fn describe(&self) -> QueueInfo {
        QueueInfo {
            vhost: self.vhost.clone(),
            name: self.name.clone(),
            kind: self.settings.kind.name(),
            spec: self.spec.clone(),
            policies: self.policies.describe(),
            ready: 0,
            unsettled: 0,
            delayed: 0,
            consumers: 0,
        }
    }
}

impl LogEntry {
    /// The log as a queue of type stream.
    pub(crate) fn describe(&self) -> QueueInfo {
        let bounds = self.tails.iter().map(|tail| tail.bounds());
        let kept = bounds.map(
            |Bounds {
                 log_start,
                 high_watermark,
                 ..
             }| high_watermark.0.saturating_sub(log_start.0),
        );
        QueueInfo {
            vhost: self.vhost.clone(),
            name: self.info.name.clone(),
            kind: "stream",
            spec: self.queue_spec(),
            policies: self.policies.describe(),
            ready: kept.sum(),
            unsettled: 0,
            delayed: 0,
            consumers: self.tails.first().map_or(0, |tail| tail.consumers().into()),
        }
    }
}
