//! What administrators set up: imported all or nothing, removed one by one, exported.

use std::collections::BTreeSet;

use super::{Actor, Applied, Catalog, Outcome};
use crate::{
    access::{Access, GUEST, Granted, GrantedTopics, User},
    command::Change,
    definitions::{
        BindingDefinition, Definitions, ExchangeDefinition, LogDefinition, ParameterDefinition,
        Password, PermissionDefinition, QueueDefinition, Removal, TopicPermissionDefinition,
        UserDefinition, VhostDefinition,
    },
    event::Refusal,
    id::ConnectionId,
    properties::{Text, Value},
    store::{Table, keys::catalog as keys, values::admin as rows},
};

/// Users, vhosts and policies have names of at most so many bytes, as has everything that is named on the wire.
const NAME_MAX: usize = 255;

/// The queue types that a vhost may have as its default.
const QUEUE_TYPES: [&str; 3] = ["classic", "quorum", "stream"];

impl Actor {
    /// The broker itself, in a vhost.
    pub(crate) fn broker(vhost: Text) -> Actor {
        Actor {
            connection: ConnectionId(0),
            user: Text::from_static("trivium"),
            vhost,
        }
    }

    /// Whether nobody has to be asked.
    pub(super) fn is_broker(&self) -> bool {
        self.connection == ConnectionId(0)
    }
}

impl Catalog {
    /// Sets up everything in `definitions`; when one thing is refused, nothing has changed.
    pub(super) fn import(
        &mut self,
        by: &Actor,
        definitions: &Definitions,
    ) -> Result<Applied, Refusal> {
        self.may_import(by, definitions)?;
        // Everything but what is declared lives in the snapshot, which is cheap to keep.
        let before = self.routes.clone();
        let whole = definitions.declares().then(|| self.clone());
        let mut applied = Applied::default();
        let imported = self.import_all(definitions, &mut applied);
        if let Err(refusal) = imported {
            match whole {
                Some(whole) => *self = whole,
                None => self.routes = before,
            }
            return Err(refusal);
        }
        Ok(applied)
    }

    fn import_all(
        &mut self,
        definitions: &Definitions,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        for vhost in &definitions.vhosts {
            self.put_vhost(vhost, applied)?;
        }
        for user in &definitions.users {
            self.put_user(user, applied)?;
        }
        for permission in &definitions.permissions {
            self.grant(permission, applied)?;
        }
        for permission in &definitions.topic_permissions {
            self.grant_topics(permission, applied)?;
        }
        for parameter in &definitions.parameters {
            self.put_parameter(parameter, applied)?;
        }
        for quota in &definitions.client_quotas {
            self.import_client_quota(quota, applied)?;
        }
        for policy in &definitions.policies {
            self.put_policy(policy, applied)?;
        }
        let vhosts = definitions.policies.iter().map(|policy| &policy.vhost);
        for vhost in vhosts.collect::<BTreeSet<_>>() {
            self.apply_policies(vhost, applied);
        }
        for definition in &definitions.exchanges {
            self.import_exchange(definition, applied)?;
        }
        for definition in &definitions.queues {
            self.import_queue(definition, applied)?;
        }
        for definition in &definitions.logs {
            self.import_log(definition, applied)?;
        }
        for definition in &definitions.bindings {
            self.import_binding(definition, applied)?;
        }
        Ok(())
    }

    /// Administrators may set up anything, policymakers the policies of vhosts that they may enter.
    fn may_import(&self, by: &Actor, definitions: &Definitions) -> Result<(), Refusal> {
        let policies = Definitions {
            policies: definitions.policies.clone(),
            ..Definitions::default()
        };
        let of_policymaker = *definitions == policies
            && !definitions.policies.is_empty()
            && definitions
                .policies
                .iter()
                .all(|policy| !policy.operator && self.makes_policies(by, &policy.vhost));
        self.may_set_up(by, of_policymaker)
    }

    fn makes_policies(&self, by: &Actor, vhost: &Text) -> bool {
        let access = self.routes.access();
        access.has_tag(&by.user, "policymaker") && access.check_vhost(vhost, &by.user).is_ok()
    }

    pub(super) fn may_set_up(&self, by: &Actor, otherwise: bool) -> Result<(), Refusal> {
        let access = self.routes.access();
        if otherwise || by.is_broker() || access.has_tag(&by.user, "administrator") {
            return Ok(());
        }
        let text = format!("user '{}' is not an administrator", by.user);
        Err(Refusal::Denied(text.into()))
    }

    fn access_mut(&mut self) -> &mut Access {
        self.routes_mut().access_mut()
    }

    fn put_vhost(&mut self, vhost: &VhostDefinition, applied: &mut Applied) -> Result<(), Refusal> {
        check_name("vhost", &vhost.name)?;
        self.has_room_for_vhost(&vhost.name)?;
        if let Some(kind) = &vhost.default_queue_type
            && !QUEUE_TYPES.contains(&&**kind)
        {
            let text = format!("unsupported default queue type '{kind}'");
            return Err(Refusal::Invalid(text.into()));
        }
        applied.batch.put(
            Table::Catalog,
            keys::vhost(&vhost.name),
            rows::write_vhost(vhost),
        );
        self.add_vhost(vhost.clone());
        Ok(())
    }

    fn put_user(
        &mut self,
        definition: &UserDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        check_name("user", &definition.name)?;
        let old = self.routes.access().user(&definition.name).cloned();
        let name = definition.name.clone();
        let tags = definition.tags.clone();
        let mut user = match &definition.password {
            Password::Plain(password) if password.is_empty() => {
                return Err(Refusal::Invalid("a password is not empty".into()));
            }
            Password::Plain(password) => User::with_password(name, password, tags),
            Password::Hashed(hash) => {
                let same = old
                    .as_ref()
                    .filter(|old| old.password.as_ref() == Some(hash));
                User {
                    name,
                    password: Some(hash.clone()),
                    tags,
                    limits: Vec::new(),
                    scram: same.and_then(|old| old.scram.clone()),
                }
            }
            Password::None | Password::Unchanged => User {
                name,
                password: None,
                tags,
                limits: Vec::new(),
                scram: None,
            },
        };
        if let Some(old) = old {
            if definition.password == Password::Unchanged {
                (user.password, user.scram) = (old.password.clone(), old.scram.clone());
            }
            user.limits = old.limits.clone();
        }
        if let Some(limits) = &definition.limits {
            check_limits(limits, &["max-connections", "max-channels"])?;
            for (name, value) in limits {
                user.limits.retain(|(known, _)| known != name);
                user.limits.push((name.clone(), *value));
            }
        }
        self.store_user(user, applied);
        Ok(())
    }

    fn store_user(&mut self, user: User, applied: &mut Applied) {
        let row = rows::write_user(&user);
        applied
            .batch
            .put(Table::Catalog, keys::user(&user.name), row);
        self.access_mut().put_user(user);
    }

    fn grant(
        &mut self,
        definition: &PermissionDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let PermissionDefinition { vhost, user, .. } = definition;
        self.check_subject(vhost, user)?;
        let granted = Granted::new(definition.permission.clone()).map_err(Refusal::Invalid)?;
        applied.batch.put(
            Table::Catalog,
            keys::permission(vhost, user),
            rows::write_permission(definition),
        );
        self.access_mut()
            .grant(vhost.clone(), user.clone(), granted);
        Ok(())
    }

    fn grant_topics(
        &mut self,
        definition: &TopicPermissionDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let TopicPermissionDefinition {
            vhost,
            user,
            exchange,
            ..
        } = definition;
        self.check_subject(vhost, user)?;
        let granted =
            GrantedTopics::new(definition.permission.clone()).map_err(Refusal::Invalid)?;
        applied.batch.put(
            Table::Catalog,
            keys::topic_permission(vhost, user, exchange),
            rows::write_topic_permission(definition),
        );
        self.access_mut()
            .grant_topics(vhost.clone(), user.clone(), exchange.clone(), granted);
        Ok(())
    }

    fn check_subject(&self, vhost: &Text, user: &str) -> Result<(), Refusal> {
        self.check_vhost(vhost)?;
        if self.routes.access().user(user).is_none() {
            return Err(Refusal::Invalid(format!("no user '{user}'").into()));
        }
        Ok(())
    }

    pub(super) fn check_vhost(&self, vhost: &Text) -> Result<(), Refusal> {
        if self.routes.vhost_exists(vhost) {
            return Ok(());
        }
        Err(Refusal::NoVhost(vhost.clone()))
    }

    fn put_parameter(
        &mut self,
        parameter: &ParameterDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let ParameterDefinition {
            vhost,
            component,
            name,
            ..
        } = parameter;
        check_name("parameter", name)?;
        if let Some(vhost) = vhost {
            self.check_vhost(vhost)?;
        }
        if component == VHOST_LIMITS {
            check_limits(
                &limits_of(&parameter.value),
                &["max-connections", "max-queues"],
            )?;
        }
        applied.batch.put(
            Table::Catalog,
            keys::parameter(vhost.as_deref(), component, name),
            rows::write_parameter(parameter),
        );
        self.routes_mut().put_parameter(parameter.clone());
        Ok(())
    }

    fn import_exchange(
        &mut self,
        definition: &ExchangeDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let ExchangeDefinition { vhost, name, spec } = definition;
        self.check_vhost(vhost)?;
        if self.routes.exchange_exists(vhost, name) {
            return Ok(());
        }
        let change = Change::DeclareExchange {
            name: name.clone(),
            spec: spec.clone(),
        };
        self.as_broker(vhost, &change, applied)
    }

    fn import_queue(
        &mut self,
        definition: &QueueDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let QueueDefinition { vhost, name, spec } = definition;
        self.check_vhost(vhost)?;
        if name.is_empty() {
            return Err(Refusal::Invalid("a queue in definitions has a name".into()));
        }
        if self.routes.queue(vhost, name).is_some() || self.routes.log(vhost, name).is_some() {
            return Ok(());
        }
        let change = Change::DeclareQueue {
            name: name.clone(),
            spec: spec.clone(),
        };
        self.as_broker(vhost, &change, applied)
    }

    fn import_log(
        &mut self,
        definition: &LogDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let LogDefinition { vhost, name, spec } = definition;
        self.check_vhost(vhost)?;
        if self.routes.log(vhost, name).is_some() {
            return Ok(());
        }
        let change = Change::CreateLog {
            name: name.clone(),
            spec: spec.clone(),
            validate_only: false,
        };
        self.as_broker(vhost, &change, applied)
    }

    /// RabbitMQ exports bindings of exclusive queues too, which are not there without their connections.
    fn import_binding(
        &mut self,
        definition: &BindingDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let BindingDefinition { vhost, binding } = definition;
        self.check_vhost(vhost)?;
        match self.as_broker(vhost, &Change::Bind(binding.clone()), applied) {
            Err(refusal @ Refusal::NotFound { .. }) => {
                tracing::warn!(%refusal, "binding left out of an import");
                Ok(())
            }
            done => done,
        }
    }

    /// Makes a change on the broker's own behalf, as a part of a larger one.
    fn as_broker(
        &mut self,
        vhost: &Text,
        change: &Change,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        let mut part = self.apply(&Actor::broker(vhost.clone()), change)?;
        applied.batch.append(part.batch);
        applied.effects.append(&mut part.effects);
        Ok(())
    }

    /// Removes one thing.
    pub(super) fn remove(&mut self, by: &Actor, removal: &Removal) -> Result<Applied, Refusal> {
        let of_policymaker = match removal {
            Removal::Policy {
                vhost, operator, ..
            } => !operator && self.makes_policies(by, vhost),
            _ => false,
        };
        self.may_set_up(by, of_policymaker)?;
        let mut applied = Applied::default();
        let existed = match removal {
            Removal::User(name) => self.remove_user(name, &mut applied),
            Removal::Vhost(name) => {
                if !self.routes.vhost_exists(name) {
                    return Ok(Outcome::Removed { existed: false }.into());
                }
                return Ok(Outcome::DeleteVhost {
                    vhost: name.clone(),
                }
                .into());
            }
            Removal::Permission { vhost, user } => {
                let key = keys::permission(vhost, user);
                applied.batch.delete(Table::Catalog, key);
                self.access_mut().revoke(vhost, user)
            }
            Removal::TopicPermission {
                vhost,
                user,
                exchange,
            } => self.revoke_topics(vhost, user, exchange.as_ref(), &mut applied),
            Removal::Policy {
                vhost,
                name,
                operator,
            } => self.remove_policy(vhost, name, *operator, &mut applied),
            Removal::Parameter {
                vhost,
                component,
                name,
            } => {
                let key = keys::parameter(vhost.as_deref(), component, name);
                applied.batch.delete(Table::Catalog, key);
                self.routes_mut()
                    .remove_parameter(vhost.as_ref(), component, name)
            }
            Removal::UserLimit { user, name } => self.remove_user_limit(user, name, &mut applied),
        };
        applied.outcome = Outcome::Removed { existed };
        Ok(applied)
    }

    fn remove_user(&mut self, name: &Text, applied: &mut Applied) -> bool {
        let access = self.routes.access();
        let of_user = |user: &Text| user == name;
        let permissions: Vec<_> = access
            .permissions()
            .filter(|(_, user, _)| of_user(user))
            .map(|(vhost, _, _)| vhost.clone())
            .collect();
        let topics: Vec<_> = access
            .topic_permissions()
            .filter(|(_, user, ..)| of_user(user))
            .map(|(vhost, _, exchange, _)| (vhost.clone(), exchange.clone()))
            .collect();
        for vhost in permissions {
            let key = keys::permission(&vhost, name);
            applied.batch.delete(Table::Catalog, key);
            self.access_mut().revoke(&vhost, name);
        }
        for (vhost, exchange) in topics {
            self.revoke_topics(&vhost, name, Some(&exchange), applied);
        }
        applied.batch.delete(Table::Catalog, keys::user(name));
        self.access_mut().remove_user(name)
    }

    fn revoke_topics(
        &mut self,
        vhost: &Text,
        user: &Text,
        exchange: Option<&Text>,
        applied: &mut Applied,
    ) -> bool {
        let exchanges: Vec<Text> = self
            .routes
            .access()
            .topic_permissions()
            .filter(|(v, u, e, _)| {
                *v == vhost && *u == user && exchange.is_none_or(|exchange| exchange == *e)
            })
            .map(|(_, _, exchange, _)| exchange.clone())
            .collect();
        for exchange in &exchanges {
            let key = keys::topic_permission(vhost, user, exchange);
            applied.batch.delete(Table::Catalog, key);
            self.access_mut().revoke_topics(vhost, user, exchange);
        }
        !exchanges.is_empty()
    }

    fn remove_user_limit(&mut self, name: &Text, limit: &str, applied: &mut Applied) -> bool {
        let Some(user) = self.routes.access().user(name) else {
            return false;
        };
        let mut user = User::clone(user);
        let before = user.limits.len();
        user.limits.retain(|(known, _)| known != limit);
        let existed = user.limits.len() < before;
        self.store_user(user, applied);
        existed
    }

    /// Removes an empty vhost: its queues have been removed by their shards.
    pub(crate) fn remove_vhost(&mut self, vhost: &Text) -> Applied {
        let mut applied = Applied::default();
        let by = Actor::broker(vhost.clone());
        let logs: Vec<Text> = self
            .routes
            .logs(vhost)
            .map(|log| log.info.name.clone())
            .collect();
        for log in logs {
            if let Ok(removed) = self.delete_log(&by, &log) {
                applied.absorb(removed);
            }
        }
        let exchanges = self
            .routes
            .exchange_names(vhost)
            .map(|name| (vhost.clone(), name.clone()))
            .collect();
        self.remove_exchanges(exchanges, &mut applied);
        let access = self.routes.access().clone();
        for (_, user, _) in access.permissions().filter(|(v, ..)| *v == vhost) {
            let key = keys::permission(vhost, user);
            applied.batch.delete(Table::Catalog, key);
            self.access_mut().revoke(vhost, user);
        }
        for (_, user, ..) in access.topic_permissions().filter(|(v, ..)| *v == vhost) {
            self.revoke_topics(vhost, user, None, &mut applied);
        }
        let policies = self.routes.policies().map(|policy| &policy.definition);
        for policy in policies.filter(|it| it.vhost == *vhost) {
            let key = keys::policy(policy.operator, vhost, &policy.name);
            applied.batch.delete(Table::Catalog, key);
        }
        for parameter in self.routes.parameters() {
            if parameter.vhost.as_ref() == Some(vhost) {
                let key = keys::parameter(Some(vhost), &parameter.component, &parameter.name);
                applied.batch.delete(Table::Catalog, key);
            }
        }
        applied.batch.delete(Table::Catalog, keys::vhost(vhost));
        self.routes_mut().remove_vhost(vhost);
        applied.outcome = Outcome::Removed { existed: true };
        applied
    }

    /// What a broker has from the start: the vhost `/`, and a user who may do everything in it. The
    /// configuration may name another user besides.
    pub(crate) fn furnish(&mut self, configured: Option<&(Text, Text)>, applied: &mut Applied) {
        let access = self.routes.access();
        if access.users().next().is_none() {
            self.store_user(User::guest(), applied);
            self.grant_all("/".into(), GUEST.into(), applied);
        }
        let Some((name, password)) = configured else {
            return;
        };
        let access = self.routes.access();
        let replaces = name == GUEST && access.guest_is_well_known();
        if name == GUEST {
            self.access_mut().let_guest_come_from_anywhere();
        }
        if replaces || self.routes.access().user(name).is_none() {
            let tags = vec![Text::from_static("administrator")];
            let user = User::with_password(name.clone(), password.as_bytes(), tags);
            self.store_user(user, applied);
            self.grant_all("/".into(), name.clone(), applied);
        }
    }

    fn grant_all(&mut self, vhost: Text, user: Text, applied: &mut Applied) {
        let all = Text::from_static(".*");
        let definition = PermissionDefinition {
            vhost,
            user,
            permission: crate::access::Permission {
                configure: all.clone(),
                write: all.clone(),
                read: all,
            },
        };
        // Without the vhost `/`, which may have been deleted, there is nothing to grant.
        let _ = self.grant(&definition, applied);
    }
}

impl Definitions {
    /// Whether it has more than lives in the snapshot alone.
    fn declares(&self) -> bool {
        !(self.exchanges.is_empty()
            && self.queues.is_empty()
            && self.logs.is_empty()
            && self.bindings.is_empty())
    }
}

/// The component of the parameters that hold the limits of vhosts.
pub(crate) const VHOST_LIMITS: &str = "vhost-limits";

/// The limits in a parameter's value.
pub(crate) fn limits_of(value: &Value) -> Vec<(Text, i64)> {
    let Value::Table(entries) = value else {
        return Vec::new();
    };
    entries
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.integer()?)))
        .collect()
}

fn check_limits(limits: &[(Text, i64)], known: &[&str]) -> Result<(), Refusal> {
    match limits.iter().find(|(name, _)| !known.contains(&&**name)) {
        None => Ok(()),
        Some((name, value)) => {
            let text = format!(
                "Validation failed\n\nUnrecognised terms [{{<<\"{name}\">>,{value}}}] in limits\n"
            );
            Err(Refusal::Invalid(text.into()))
        }
    }
}

pub(super) fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    if (1..=NAME_MAX).contains(&name.len()) {
        return Ok(());
    }
    let text = format!("the name of a {what} has between 1 and {NAME_MAX} bytes");
    Err(Refusal::Invalid(text.into()))
}
