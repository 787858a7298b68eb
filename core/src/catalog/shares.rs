//! Shared subscriptions (MQTT 5, 4.8.2): one queue per group and filter, with sessions as its members.
//!
//! The queue of a group is kept among the sessions, under a name that begins with U+0000 and is therefore no client's.
//! It goes away with its last member.

use std::{collections::BTreeMap, sync::Arc};

use super::{Actor, Applied, Catalog, Effect, Outcome, check, routes::QueueEntry};
use crate::{
    command::{Binding, Destination, QueueSpec, Subscription},
    event::{Kind, Refusal},
    id::QueueId,
    properties::Text,
    store::{Table, keys::catalog as keys, values::catalog::ShareRow},
    topic::Grammar,
};

/// The queue of a group; a group's name holds no separator.
pub(crate) fn queue_name(group: &str, filter: &str) -> Text {
    format!("\0{group}/{filter}").into()
}

/// Whether a session's name is that of a group's queue.
pub(crate) fn is_group(name: &str) -> bool {
    name.starts_with('\0')
}

/// Who takes part in which group, with its options.
pub(super) type Members = BTreeMap<QueueId, BTreeMap<QueueId, Subscription>>;

impl Catalog {
    /// Makes a client's session a member of a group, or changes its options.
    pub(super) fn join(
        &mut self,
        by: &Actor,
        client: &Text,
        group: &Text,
        filter: &Text,
        subscription: Subscription,
    ) -> Result<Applied, Refusal> {
        let Some(session) = self.routes.session(&by.vhost, client).cloned() else {
            return Err(check::not_found(Kind::Queue, client, by));
        };
        let binding = |to: &Text, subscription| Binding {
            source: Text::from_static("amq.topic"),
            destination: Destination::Session(to.clone()),
            key: filter.clone(),
            grammar: Grammar::Slashes,
            arguments: Vec::new(),
            subscription,
        };
        self.may_bind(by, &binding(client, None))?;
        self.check_source(by, &binding(client, None))?;
        let name = queue_name(group, filter);
        if !session.shares.iter().any(|(own, _)| *own == name) {
            self.check_subscriptions(&session)?;
        }
        let mut applied = Applied::default();
        let queue = match self.routes.session(&by.vhost, &name) {
            Some(queue) => queue.id,
            None => {
                let spec = QueueSpec {
                    durable: true,
                    session: true,
                    ..QueueSpec::default()
                };
                let created = self.create_queue(by, name.clone(), spec);
                applied.batch.append(created.batch);
                applied.effects.extend(created.effects);
                let Outcome::Queue { queue, .. } = created.outcome else {
                    return Err(check::not_found(Kind::Queue, client, by));
                };
                queue.id
            }
        };
        let members = self.members.entry(queue).or_default();
        let created = members.insert(session.id, subscription).is_none();
        let best_effort = members.values().all(|member| member.best_effort);
        let shares = with_share(&session, name.clone(), Some(subscription));
        self.change_shares(&session, shares, &name, &mut applied);
        let whole = Subscription {
            best_effort,
            no_local: false,
            ..subscription
        };
        let bound = self.bind(
            &Actor::broker(by.vhost.clone()),
            &binding(&name, Some(whole)),
        )?;
        applied.batch.append(bound.batch);
        applied.outcome = Outcome::Bound { created };
        Ok(applied)
    }

    /// Ends a client's part in a group.
    pub(super) fn leave(
        &mut self,
        by: &Actor,
        client: &Text,
        group: &Text,
        filter: &Text,
    ) -> Result<Applied, Refusal> {
        let name = queue_name(group, filter);
        let session = self.routes.session(&by.vhost, client).cloned();
        let queue = self.routes.session(&by.vhost, &name).map(|queue| queue.id);
        let mut applied = Applied::default();
        let mut existed = false;
        if let (Some(session), Some(queue)) = (session, queue) {
            existed = self.remove_member(queue, session.id, &mut applied);
            let shares = with_share(&session, name.clone(), None);
            self.change_shares(&session, shares, &name, &mut applied);
        }
        applied.outcome = Outcome::Unbound { existed };
        Ok(applied)
    }

    /// A session remembers what its client reads, or with other options.
    pub(super) fn read(
        &mut self,
        by: &Actor,
        client: &Text,
        what: &Text,
        subscription: Subscription,
    ) -> Result<Applied, Refusal> {
        let Some(session) = self.routes.session(&by.vhost, client).cloned() else {
            return Err(check::not_found(Kind::Queue, client, by));
        };
        if is_group(what) {
            return Err(Refusal::Invalid("the name is a group's".into()));
        }
        let created = !session.shares.iter().any(|(own, _)| own == what);
        if created {
            self.check_subscriptions(&session)?;
        }
        let mut applied = Applied::default();
        let shares = with_share(&session, what.clone(), Some(subscription));
        self.change_shares(&session, shares, what, &mut applied);
        applied.outcome = Outcome::Bound { created };
        Ok(applied)
    }

    /// Ends that.
    pub(super) fn unread(
        &mut self,
        by: &Actor,
        client: &Text,
        what: &Text,
    ) -> Result<Applied, Refusal> {
        let mut applied = Applied::default();
        let session = self.routes.session(&by.vhost, client).cloned();
        let reading = session.filter(|it| it.shares.iter().any(|(own, _)| own == what));
        applied.outcome = Outcome::Unbound {
            existed: reading.is_some(),
        };
        if let Some(session) = reading.filter(|_| !is_group(what)) {
            let shares = with_share(&session, what.clone(), None);
            self.change_shares(&session, shares, what, &mut applied);
        }
        Ok(applied)
    }

    /// A session has ended, and with it its part in groups.
    pub(super) fn leave_all(&mut self, session: &QueueEntry, applied: &mut Applied) {
        self.members.remove(&session.id);
        for (name, _) in session.shares.iter() {
            applied
                .batch
                .delete(Table::Catalog, keys::share(session.id, name));
            let group = self.routes.session(&session.vhost, name);
            if let Some(queue) = group.filter(|_| is_group(name)).map(|queue| queue.id) {
                self.remove_member(queue, session.id, applied);
            }
        }
    }

    fn remove_member(&mut self, queue: QueueId, session: QueueId, applied: &mut Applied) -> bool {
        let Some(members) = self.members.get_mut(&queue) else {
            return false;
        };
        let existed = members.remove(&session).is_some();
        if members.is_empty() {
            self.members.remove(&queue);
            applied.unused.push(queue);
        }
        existed
    }

    fn change_shares(
        &mut self,
        session: &Arc<QueueEntry>,
        shares: Shares,
        name: &Text,
        applied: &mut Applied,
    ) {
        let key = keys::share(session.id, name);
        match shares.iter().find(|(other, _)| other == name) {
            Some((_, subscription)) if session.spec.durable => {
                let row = ShareRow::write(*subscription);
                applied.batch.put(Table::Catalog, key, row);
            }
            _ => applied.batch.delete(Table::Catalog, key),
        }
        let session = Arc::new(QueueEntry {
            shares,
            ..(**session).clone()
        });
        self.put_queue(session.clone());
        applied.effects.push(Effect::QueueChanged(session));
    }

    /// A membership found in the store; false when session or group is not there any more.
    pub(super) fn recover_share(
        &mut self,
        session: QueueId,
        name: Text,
        subscription: Subscription,
    ) -> bool {
        let Some(entry) = self.queues.get(&session).cloned() else {
            return false;
        };
        if is_group(&name) {
            let Some(queue) = self.routes.session(&entry.vhost, &name).map(|it| it.id) else {
                return false;
            };
            self.members
                .entry(queue)
                .or_default()
                .insert(session, subscription);
        }
        let shares = with_share(&entry, name, Some(subscription));
        self.put_queue(Arc::new(QueueEntry {
            shares,
            ..(*entry).clone()
        }));
        true
    }

    /// Groups without members.
    pub(crate) fn unused_groups(&self) -> Vec<QueueId> {
        self.queues
            .values()
            .filter(|queue| queue.spec.session && is_group(&queue.name))
            .map(|queue| queue.id)
            .filter(|id| !self.members.contains_key(id))
            .collect()
    }
}

/// The groups that a session takes part in, by the names of their queues, and what else its client reads.
pub(crate) type Shares = Arc<[(Text, Subscription)]>;

fn with_share(session: &QueueEntry, name: Text, subscription: Option<Subscription>) -> Shares {
    let others = session.shares.iter().filter(|(other, _)| *other != name);
    others
        .cloned()
        .chain(subscription.map(|subscription| (name.clone(), subscription)))
        .collect()
}
