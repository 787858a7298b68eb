//! Shared subscriptions (MQTT 5, 4.8.2): one queue per group and filter, with sessions as its members.
//!
//! The queue of a group is kept among the sessions, under a name that begins with U+0000 and is therefore no client's.
//! It goes away with its last member.
//!
//! The members of a group may share the records of a log instead. Its queue is a cursor then, and outlives its members
//! for a while: where workers are that come and go is not forgotten between them. Who unsubscribes says that it is not
//! needed any more; a session that ends does not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Actor, Applied, Catalog, Effect, Outcome, check, routes::QueueEntry};
use crate::{
    access::Operation,
    command::{Binding, Destination, QueueSpec, SharedLog, Subscription},
    event::{Kind, Refusal},
    id::QueueId,
    properties::Text,
    queue::QueueSettings,
    store::{Table, keys::catalog as keys, values::catalog::ShareRow},
    topic::Grammar,
};

/// How long a group that shares a log is kept without members: as long as the offsets of a group of Kafka's.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The queue of a group; a group's name holds no separator.
pub(crate) fn queue_name(group: &str, filter: &str) -> Text {
    format!("\0{group}/{filter}").into()
}

/// Whether a session's name is that of a group's queue.
pub(crate) fn is_group(name: &str) -> bool {
    name.starts_with('\0')
}

/// What the members of a group subscribe to, by its queue's name.
pub(crate) fn group_filter(name: &str) -> Option<Text> {
    let group = name.strip_prefix('\0')?;
    Some(format!("$share/{group}").into())
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

    /// Makes a client's session a member of a group that shares the records of a log, or changes its options.
    pub(super) fn join_log(
        &mut self,
        by: &Actor,
        client: &Text,
        (group, filter): (&Text, &Text),
        subscription: Subscription,
        shared: &SharedLog,
    ) -> Result<Applied, Refusal> {
        let Some(session) = self.routes.session(&by.vhost, client).cloned() else {
            return Err(check::not_found(Kind::Queue, client, by));
        };
        self.may(by, Operation::Read, Kind::Log, &shared.log)?;
        let Some(log) = self.routes.log(&by.vhost, &shared.log).cloned() else {
            return Err(check::not_found(Kind::Log, &shared.log, by));
        };
        let name = queue_name(group, filter);
        if !session.shares.iter().any(|(own, _)| *own == name) {
            self.check_subscriptions(&session)?;
        }
        let mut applied = Applied::default();
        let queue = match self.routes.session(&by.vhost, &name).cloned() {
            Some(queue) => {
                self.expire(&queue, None, &mut applied);
                queue.id
            }
            None => {
                let spec = QueueSpec {
                    durable: true,
                    session: true,
                    arguments: QueueSettings::cursor_arguments(&shared.log, shared.from),
                    ..QueueSpec::default()
                };
                applied = self.create_sourced(by, name.clone(), spec, Some(log));
                let Outcome::Queue { queue, .. } = &applied.outcome else {
                    return Err(check::not_found(Kind::Queue, client, by));
                };
                queue.id
            }
        };
        let members = self.members.entry(queue).or_default();
        let created = members.insert(session.id, subscription).is_none();
        let shares = with_share(&session, name.clone(), Some(subscription));
        self.change_shares(&session, shares, &name, &mut applied);
        if !matches!(applied.outcome, Outcome::Queue { .. }) {
            applied.outcome = Outcome::Bound { created };
        }
        Ok(applied)
    }

    /// How long the queue of a group is kept that nobody consumes.
    fn expire(&mut self, queue: &QueueEntry, expires: Option<Duration>, applied: &mut Applied) {
        if queue.spec.expires == expires {
            return;
        }
        let spec = QueueSpec {
            expires,
            ..queue.spec.clone()
        };
        let queue = Arc::new(QueueEntry {
            settings: self.settings(QueueSettings::effective(&spec, &[], &[])),
            spec,
            ..queue.clone()
        });
        self.store_queue(&queue, true, applied);
        self.put_queue(queue.clone());
        applied.effects.push(Effect::QueueChanged(queue));
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
            existed = self.remove_member(queue, session.id);
            if existed && !self.members.contains_key(&queue) {
                applied.unused.push(queue);
            }
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

    /// A session has ended, and with it its part in groups; or a group, and with it its members' parts.
    pub(super) fn leave_all(&mut self, session: &QueueEntry, applied: &mut Applied) {
        for member in self.members.remove(&session.id).into_iter().flatten() {
            if let Some(member) = self.queues.get(&member.0).cloned() {
                let shares = with_share(&member, session.name.clone(), None);
                self.change_shares(&member, shares, &session.name, applied);
            }
        }
        for (name, _) in session.shares.iter() {
            applied
                .batch
                .delete(Table::Catalog, keys::share(session.id, name));
            let group = self.routes.session(&session.vhost, name).cloned();
            let Some(group) = group.filter(|_| is_group(name)) else {
                continue;
            };
            let existed = self.remove_member(group.id, session.id);
            if existed && !self.members.contains_key(&group.id) {
                match group.source {
                    None => applied.unused.push(group.id),
                    Some(_) => self.expire(&group, Some(KEPT), applied),
                }
            }
        }
    }

    fn remove_member(&mut self, queue: QueueId, session: QueueId) -> bool {
        let Some(members) = self.members.get_mut(&queue) else {
            return false;
        };
        let existed = members.remove(&session).is_some();
        if members.is_empty() {
            self.members.remove(&queue);
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

    /// A session goes on under another number.
    pub(super) fn renumber_member(
        &mut self,
        old: QueueId,
        session: &QueueEntry,
        applied: &mut Applied,
    ) {
        for (name, subscription) in session.shares.iter() {
            let row = ShareRow::write(*subscription);
            let key = keys::share(session.id, name);
            applied.batch.delete(Table::Catalog, keys::share(old, name));
            applied.batch.put(Table::Catalog, key, row);
            let group = self.routes.session(&session.vhost, name);
            let members = group.and_then(|group| self.members.get_mut(&group.id));
            if let Some(members) = members.filter(|_| is_group(name)) {
                members.remove(&old);
                members.insert(session.id, *subscription);
            }
        }
    }

    /// Groups that share a log and whose members were there for as long as the broker are kept for a while.
    pub(super) fn recover_log_groups(&mut self, applied: &mut Applied) {
        let queues = self.queues.values();
        let groups = queues.filter(|queue| queue.source.is_some() && self.is_deserted(queue));
        for group in groups.cloned().collect::<Vec<_>>() {
            self.expire(&group, Some(KEPT), applied);
        }
    }

    /// Groups without members that nobody comes back to.
    pub(crate) fn unused_groups(&self) -> Vec<QueueId> {
        let queues = self.queues.values();
        let unused = queues.filter(|queue| queue.source.is_none() && self.is_deserted(queue));
        unused.map(|queue| queue.id).collect()
    }

    /// Whether a queue is that of a group without members.
    fn is_deserted(&self, queue: &QueueEntry) -> bool {
        queue.spec.session && is_group(&queue.name) && !self.members.contains_key(&queue.id)
    }

    /// Whether a queue is that of a group with members, which does not go because nobody consumes it now.
    pub(crate) fn has_members(&self, queue: QueueId) -> bool {
        self.members.contains_key(&queue)
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
