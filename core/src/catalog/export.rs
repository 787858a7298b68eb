//! What is set up and declared, as definitions.

use super::{Actor, Catalog};
use crate::{
    access::User,
    command::Scope,
    definitions::{
        BindingDefinition, ClientQuotaDefinition, Definitions, ExchangeDefinition, LogDefinition,
        ParameterDefinition, Password, PermissionDefinition, PolicyDefinition, QueueDefinition,
        TopicPermissionDefinition, UserDefinition, VhostDefinition,
    },
    event::Refusal,
    properties::Text,
};

/// Tags of users who may look at what is theirs.
pub(super) const MANAGEMENT: [&str; 4] =
    ["administrator", "monitoring", "policymaker", "management"];

impl Catalog {
    /// Everything that is set up, of all vhosts or of one. Users and parameters of the broker are for
    /// administrators; monitoring sees all vhosts, others those that they may enter.
    pub(crate) fn export(
        &self,
        by: &Actor,
        vhost: Option<&Text>,
        scope: Scope,
    ) -> Result<Definitions, Refusal> {
        let access = self.routes.access();
        let tagged = |tag| access.has_tag(&by.user, tag);
        let everything = by.is_broker() || tagged("administrator");
        if !everything && !MANAGEMENT.into_iter().any(tagged) {
            let text = format!("user '{}' may not use the management interface", by.user);
            return Err(Refusal::Denied(text.into()));
        }
        if let Some(vhost) = vhost {
            self.check_vhost(vhost)?;
        }
        let sees_all = everything || tagged("monitoring");
        let of = |v: &Text| {
            vhost.is_none_or(|vhost| vhost == v)
                && (sees_all || access.check_vhost(v, &by.user).is_ok())
        };
        let whole = everything && vhost.is_none();
        let mut all = self.export_set_up(&of, whole);
        if scope == Scope::All {
            self.export_declared(&of, &mut all);
        }
        Ok(all)
    }

    fn export_set_up(&self, of: &dyn Fn(&Text) -> bool, whole: bool) -> Definitions {
        let routes = &self.routes;
        let access = routes.access();
        let mut all = Definitions {
            vhosts: routes
                .vhosts()
                .filter(|it| of(&it.name))
                .map(|it| VhostDefinition::clone(it))
                .collect(),
            policies: routes
                .policies()
                .map(|it| &it.definition)
                .filter(|it| of(&it.vhost))
                .map(PolicyDefinition::clone)
                .collect(),
            parameters: routes
                .parameters()
                .filter(|it| it.vhost.as_ref().map_or(whole, of))
                .map(|it| ParameterDefinition::clone(it))
                .collect(),
            ..Definitions::default()
        };
        if whole {
            all.users = access.users().map(|user| describe_user(user)).collect();
            let quotas = routes.client_quotas().iter();
            let quotas = quotas.map(|(entity, limits)| ClientQuotaDefinition {
                entity: entity.clone(),
                limits: limits.clone(),
            });
            all.client_quotas = quotas.collect();
        }
        let permissions = access.permissions().filter(|(v, ..)| of(v));
        all.permissions = permissions
            .map(|(vhost, user, permission)| PermissionDefinition {
                vhost: vhost.clone(),
                user: user.clone(),
                permission: permission.clone(),
            })
            .collect();
        let topics = access.topic_permissions().filter(|(v, ..)| of(v));
        all.topic_permissions = topics
            .map(
                |(vhost, user, exchange, permission)| TopicPermissionDefinition {
                    vhost: vhost.clone(),
                    user: user.clone(),
                    exchange: exchange.clone(),
                    permission: permission.clone(),
                },
            )
            .collect();
        all
    }

    fn export_declared(&self, of: &dyn Fn(&Text) -> bool, all: &mut Definitions) {
        let routes = &self.routes;
        for vhost in routes.vhosts().filter(|vhost| of(&vhost.name)) {
            let vhost = &vhost.name;
            let mut exchanges: Vec<_> = routes
                .exchanges(vhost)
                .filter(|(name, _)| !name.starts_with("amq."))
                .map(|(name, spec)| ExchangeDefinition {
                    vhost: vhost.clone(),
                    name: name.clone(),
                    spec: (**spec).clone(),
                })
                .collect();
            exchanges.sort_by(|a, b| a.name.cmp(&b.name));
            all.exchanges.append(&mut exchanges);
            for log in routes.logs(vhost) {
                let (vhost, name) = (vhost.clone(), log.info.name.clone());
                if log.is_stream() {
                    let spec = log.queue_spec();
                    all.queues.push(QueueDefinition { vhost, name, spec });
                } else {
                    let spec = log.info.spec.clone();
                    all.logs.push(LogDefinition { vhost, name, spec });
                }
            }
        }
        // In the order of their creation.
        let queues = self
            .queues()
            .filter(|queue| of(&queue.vhost) && !queue.spec.session && queue.owner.is_none());
        all.queues.extend(queues.map(|queue| QueueDefinition {
            vhost: queue.vhost.clone(),
            name: queue.name.clone(),
            spec: queue.spec.clone(),
        }));
        all.bindings = self
            .bindings
            .all()
            .filter(|(vhost, _)| of(vhost))
            .filter(|(_, binding)| binding.subscription.is_none())
            .map(|(vhost, binding)| BindingDefinition {
                vhost: vhost.clone(),
                binding: binding.clone(),
            })
            .collect();
    }
}

fn describe_user(user: &User) -> UserDefinition {
    UserDefinition {
        name: user.name.clone(),
        password: match &user.password {
            Some(hash) => Password::Hashed(hash.clone()),
            None => Password::None,
        },
        tags: user.tags.clone(),
        limits: Some(user.limits.clone()),
    }
}
