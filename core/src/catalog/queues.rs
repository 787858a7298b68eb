//! Queues and sessions: declared, checked, changed (sessions only), removed.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Actor, Applied, Catalog, Effect, Outcome,
    bindings::End,
    check,
    routes::{LogEntry, QueueEntry},
    streams,
};
use crate::{
    access::Operation,
    command::QueueSpec,
    event::{Kind, Refusal},
    id::QueueId,
    properties::{Text, Value},
    queue::QueueSettings,
    store::{
        Table,
        keys::{self, TRANSIENT_QUEUE},
        values::catalog::QueueRow,
    },
};

impl Catalog {
    pub(super) fn declare_queue(
        &mut self,
        by: &Actor,
        name: &Text,
        spec: &QueueSpec,
    ) -> Result<Applied, Refusal> {
        if spec.session {
            return self.declare_session(by, name, spec);
        }
        let typed = self.with_default_type(by, name, spec);
        let spec = typed.as_ref().unwrap_or(spec);
        if streams::is_stream(spec) && self.routes.queue(&by.vhost, name).is_none() {
            return self.declare_stream(by, name, spec);
        }
        let declared = spec;
        let mut spec = spec.clone();
        // As RabbitMQ has it: what ends with its connection does not survive a restart.
        spec.durable &= !spec.exclusive;
        let fresh = name.is_empty().then(fresh_name);
        let wanted = fresh.as_ref().unwrap_or(name);
        self.may(by, Operation::Configure, Kind::Queue, wanted)?;
        if let Some(queue) = self.routes.queue(&by.vhost, name) {
            check::same_queue(queue, &spec, by)?;
            return Ok(Outcome::Queue {
                queue: queue.clone(),
                created: false,
            }
            .into());
        }
        if let Some(log) = self.routes.log(&by.vhost, name) {
            return Err(check::is_a_log(log, check::queue_type(&spec)));
        }
        QueueSettings::check(name, &by.vhost, declared)?;
        let source = self.cursor_source(by, &spec)?;
        // A queue that a broker has named is restored under that name.
        if !(by.is_broker() && name.starts_with(GENERATED)) {
            check::not_reserved(Kind::Queue, name)?;
        }
        if let Some(exchange) = check::text_argument(&spec.arguments, "x-dead-letter-exchange") {
            self.may(by, Operation::Read, Kind::Queue, wanted)?;
            self.may(by, Operation::Write, Kind::Exchange, exchange)?;
        }
        self.has_room(by, Kind::Queue, wanted)?;
        let name = fresh.unwrap_or_else(|| name.clone());
        Ok(self.create_sourced(by, name, spec, source))
    }

    /// A new queue that says nothing about its type is of the vhost's default type or the broker's, if it can be.
    fn with_default_type(&self, by: &Actor, name: &Text, spec: &QueueSpec) -> Option<QueueSpec> {
        let about = self.routes.vhost(&by.vhost);
        let of_vhost = about.and_then(|about| about.default_queue_type.clone());
        let kind = of_vhost.unwrap_or_else(|| Text::from_static(self.default_queue_type));
        let plain = !spec.durable || spec.exclusive || spec.auto_delete || name.is_empty();
        // A declaration of one that is there may leave its type out.
        let exists = self.routes.queue(&by.vhost, name).is_some();
        if plain || kind == "classic" || check::queue_type(spec).is_some() || exists {
            return None;
        }
        let mut spec = spec.clone();
        let kind = Value::Text(kind);
        let name = Text::from_static("x-queue-type");
        spec.arguments.push((name, kind));
        Some(spec)
    }

    /// A session that is there already is changed to what its client now asks for.
    pub(super) fn declare_session(
        &mut self,
        by: &Actor,
        client: &Text,
        spec: &QueueSpec,
    ) -> Result<Applied, Refusal> {
        if client.is_empty() {
            return Err(Refusal::Invalid(
                "a session needs a client identifier".into(),
            ));
        }
        let Some(old) = self.routes.session(&by.vhost, client).cloned() else {
            self.has_room(by, Kind::Queue, client)?;
            return Ok(self.create_queue(by, client.clone(), spec.clone()));
        };
        let queue = QueueEntry {
            spec: spec.clone(),
            settings: self.settings(QueueSettings::effective(spec, &[], &[])),
            owner: spec.exclusive.then_some(by.connection),
            ..(*old).clone()
        };
        if queue.spec == old.spec && queue.owner == old.owner {
            return Ok(Outcome::Queue {
                queue: old,
                created: false,
            }
            .into());
        }
        let queue = Arc::new(queue);
        let mut applied = Applied::from(Outcome::Queue {
            queue: queue.clone(),
            created: false,
        });
        self.forget_owner(&old);
        self.put_queue(queue.clone());
        self.store_queue(&queue, old.spec.durable, &mut applied);
        for number in self.bindings.to(&End::Queue(queue.id)) {
            self.refresh_binding(number, &mut applied);
        }
        applied.effects.push(Effect::QueueChanged(queue));
        Ok(applied)
    }

    pub(super) fn expect_queue(
        &self,
        by: &Actor,
        name: &Text,
        session: bool,
    ) -> Result<Applied, Refusal> {
        if !session {
            self.may_see(by, Kind::Queue, name)?;
        }
        if let Some(log) = self.stream(by, name, session) {
            return Ok(Outcome::Stream {
                log,
                created: false,
            }
            .into());
        }
        match self.usable_queue(by, name, session)? {
            Some(queue) => Ok(Outcome::Queue {
                queue,
                created: false,
            }
            .into()),
            None => Err(check::not_found(Kind::Queue, name, by)),
        }
    }

    pub(super) fn purge_queue(&self, by: &Actor, name: &Text) -> Result<Applied, Refusal> {
        self.may(by, Operation::Read, Kind::Queue, name)?;
        if self.stream(by, name, false).is_some() {
            return Err(streams::not_purged(name, by));
        }
        match self.usable_queue(by, name, false)? {
            Some(queue) => Ok(Outcome::Purge { queue }.into()),
            None => Err(check::not_found(Kind::Queue, name, by)),
        }
    }

    pub(super) fn delete_queue(
        &mut self,
        by: &Actor,
        name: &Text,
        session: bool,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<Applied, Refusal> {
        if !session {
            self.may(by, Operation::Configure, Kind::Queue, name)?;
        }
        if self.stream(by, name, session).is_some() {
            return self.delete_stream(by, name);
        }
        match self.usable_queue(by, name, session)? {
            Some(queue) => Ok(Outcome::DeleteQueue {
                queue,
                if_unused,
                if_empty,
            }
            .into()),
            None => Ok(Outcome::NoQueue.into()),
        }
    }

    fn usable_queue(
        &self,
        by: &Actor,
        name: &Text,
        session: bool,
    ) -> Result<Option<Arc<QueueEntry>>, Refusal> {
        if session {
            return Ok(self.routes.session(&by.vhost, name).cloned());
        }
        let Some(queue) = self.routes.queue(&by.vhost, name) else {
            return Ok(None);
        };
        check::may_use(queue, by)?;
        Ok(Some(queue.clone()))
    }

    /// Removes a queue and its bindings: after its shard agreed to a deletion, or because it ended by itself.
    pub(crate) fn remove_queue(&mut self, id: QueueId) -> Option<Applied> {
        let queue = self.queues.remove(&id)?;
        let mut applied = Applied::default();
        self.remove_bindings_to(&End::Queue(id), &mut applied);
        self.forget_owner(&queue);
        self.note_cursor(&queue, false);
        self.leave_all(&queue, &mut applied);
        self.routes_mut().remove_queue(&queue);
        if queue.spec.durable {
            applied
                .batch
                .delete(Table::Catalog, keys::catalog::queue(id));
        }
        Some(applied)
    }

    /// The session that a connection of this client brings to its end: because it wants a new one, or because it
    /// lasts as long as a connection (MQTT 5, 3.1.2-4 and 3.1.2.11.2).
    pub(crate) fn outdated_session(
        &self,
        by: &Actor,
        client: &str,
        clean: bool,
    ) -> Option<QueueId> {
        let session = self.routes.session(&by.vhost, client)?;
        let fleeting = session
            .spec
            .expires
            .is_some_and(|expires| expires.is_zero());
        (clean || fleeting).then_some(session.id)
    }

    /// The same value for one queue after another that is set like it: most sessions are.
    pub(super) fn settings(&mut self, settings: QueueSettings) -> Arc<QueueSettings> {
        if *self.last_settings != settings {
            self.last_settings = Arc::new(settings);
        }
        self.last_settings.clone()
    }

    pub(super) fn create_queue(&mut self, by: &Actor, name: Text, spec: QueueSpec) -> Applied {
        self.create_sourced(by, name, spec, None)
    }

    pub(super) fn create_sourced(
        &mut self,
        by: &Actor,
        name: Text,
        spec: QueueSpec,
        source: Option<Arc<LogEntry>>,
    ) -> Applied {
        let mut applied = Applied::default();
        let mut id = self.next_id(spec.durable, &mut applied);
        if !spec.durable {
            id |= TRANSIENT_QUEUE;
        }
        let owner = spec.exclusive.then_some(by.connection);
        let policies = self.policies_of_queue(&by.vhost, &name, &spec);
        let queue = Arc::new(QueueEntry {
            id: QueueId(id),
            vhost: by.vhost.clone(),
            name,
            source,
            settings: self.settings(policies.settings(&spec)),
            policies,
            claim: spec.session.then(Arc::default),
            shares: Arc::default(),
            spec,
            owner,
        });
        self.put_queue(queue.clone());
        self.store_queue(&queue, false, &mut applied);
        applied.outcome = Outcome::Queue {
            queue: queue.clone(),
            created: true,
        };
        applied.effects.push(Effect::QueueCreated(queue));
        applied
    }

    pub(super) fn put_queue(&mut self, queue: Arc<QueueEntry>) {
        if let Some(owner) = queue.owner {
            self.owned.entry(owner).or_default().insert(queue.id);
        }
        self.note_cursor(&queue, true);
        self.queues.insert(queue.id, queue.clone());
        self.routes_mut().put_queue(queue);
    }

    pub(super) fn store_queue(&self, queue: &QueueEntry, was_stored: bool, applied: &mut Applied) {
        let key = keys::catalog::queue(queue.id);
        if queue.spec.durable {
            applied.batch.put(
                Table::Catalog,
                key,
                QueueRow::write(&queue.vhost, &queue.name, &queue.spec),
            );
        } else if was_stored {
            applied.batch.delete(Table::Catalog, key);
        }
    }

    fn forget_owner(&mut self, queue: &QueueEntry) {
        let Some(owner) = queue.owner else { return };
        if let Some(queues) = self.owned.get_mut(&owner) {
            queues.remove(&queue.id);
            if queues.is_empty() {
                self.owned.remove(&owner);
            }
        }
    }
}

/// What names of the broker's making begin with.
const GENERATED: &str = "amq.gen-";

/// `amq.gen-` and 22 characters that nobody can guess.
fn fresh_name() -> Text {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let random = Uuid::new_v4().as_u128();
    let digit = |i: u32| char::from(ALPHABET[(random.rotate_left(6 * i + 6) & 63) as usize]);
    let name: String = GENERATED.chars().chain((0..22).map(digit)).collect();
    name.into()
}
