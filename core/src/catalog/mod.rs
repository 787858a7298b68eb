//! The declared things of all vhosts, with one owner: exchanges, queues, sessions, logs and bindings.
//!
//! A change is checked, carried out, and described: what to write, what shards must hear of. Every
//! change ends in a new [`Routes`] snapshot, which is all that routing ever reads. The catalog does
//! no I/O and waits for nothing.

pub(crate) mod admin;
#[cfg(feature = "testing")]
mod bench;
mod bind;
mod bindings;
mod check;
mod client_quotas;
mod cursors;
mod describe;
mod exchanges;
mod export;
mod feeds;
mod headers;
mod hops;
mod logs;
mod permit;
mod policies;
mod queues;
mod recover;
mod routes;
mod shares;
mod small_map;
mod spread;
mod streams;
mod topic_trie;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

#[cfg(feature = "testing")]
pub use bench::Routing;
pub(crate) use feeds::Feed;
pub(crate) use headers::HeaderMatch;
pub(crate) use logs::SQUARE;
pub(crate) use routes::{
    LogEntry, LogTarget, Place, QueueEntry, QueueTarget, Routes, Targets, dots,
};
pub(crate) use shares::{group_filter, is_group};
pub(crate) use spread::Facts;
pub use streams::max_age as stream_age;
pub(crate) use topic_trie::LEVELS_MAX;

use self::bindings::Bindings;
use crate::{
    command::Change,
    delay::DelayEntry,
    event::{LogInfo, Refusal},
    history::Recall,
    id::{ConnectionId, LogId, QueueId},
    metrics::Sample,
    properties::Text,
    queue::QueueSettings,
    quota::Limits,
    store::{Batch, Table, keys::catalog as keys, values::catalog as values},
};

/// Who asks for a change.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub connection: ConnectionId,
    pub user: Text,
    pub vhost: Text,
}

/// All that is declared.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    routes: Arc<Routes>,
    queues: BTreeMap<QueueId, Arc<QueueEntry>>,
    /// Exclusive queues.
    owned: HashMap<ConnectionId, BTreeSet<QueueId>>,
    bindings: Bindings,
    /// The cursors of each log.
    cursors: BTreeMap<LogId, BTreeSet<QueueId>>,
    /// For the next queue or log.
    next_id: u64,
    /// The members of groups, by the group's queue.
    members: shares::Members,
    /// The type of queues in vhosts without a default of their own.
    default_queue_type: &'static str,
    /// Subscriptions of one session at most; 0 is no limit.
    subscriptions_max: usize,
    /// What there may be at most over all vhosts.
    limits: Limits,
    /// Those of the queue that was declared last.
    last_settings: Arc<QueueSettings>,
}

/// A change that is made, in memory; `batch` makes it durable.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub batch: Batch,
    pub outcome: Outcome,
    pub effects: Vec<Effect>,
    /// Queues that nobody needs any more.
    pub unused: Vec<QueueId>,
}

/// What a change came to.
#[derive(Clone, Debug, Default)]
pub(crate) enum Outcome {
    /// Done, or there was nothing to do.
    #[default]
    Ok,
    /// The queue is there.
    Queue {
        queue: Arc<QueueEntry>,
        created: bool,
    },
    /// The binding is there.
    Bound { created: bool },
    /// The binding is not there.
    Unbound { existed: bool },
    /// The log is there, or could be.
    Log(LogInfo),
    /// The queue may be deleted as far as the catalog knows. Nothing is removed yet: its shard knows
    /// messages and consumers, and [`Catalog::remove_queue`] is next.
    DeleteQueue {
        queue: Arc<QueueEntry>,
        if_unused: bool,
        if_empty: bool,
    },
    /// The queue to delete is not there, which is as good.
    NoQueue,
    /// The log is there, for who sees it as a queue.
    Stream { log: Arc<LogEntry>, created: bool },
    /// The log has gone, for who saw it as a queue.
    StreamDeleted,
    /// The queue may be purged.
    Purge { queue: Arc<QueueEntry> },
    /// What was to be removed is not there.
    Removed { existed: bool },
    /// The vhost may be deleted. Nothing is removed yet: its queues are first, and [`Catalog::remove_vhost`] is
    /// next.
    DeleteVhost { vhost: Text },
}

/// What shards must hear of.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    QueueCreated(Arc<QueueEntry>),
    /// A session's client asks for another expiry or durability.
    QueueChanged(Arc<QueueEntry>),
    LogCreated(Arc<LogEntry>),
    /// Its settings are others, or it has more partitions.
    LogChanged(Arc<LogEntry>),
    LogRemoved(Arc<LogEntry>),
    /// A binding by way of a log begins.
    Fed(Arc<LogEntry>),
    /// A log that has records has become the retained store of its keys, or under other topics, or is it no more.
    Mapped(Arc<LogEntry>),
    /// A binding from an exchange that remembers messages begins.
    Recalled(Recall),
    DelayCreated(Arc<DelayEntry>),
    DelayRemoved(Arc<DelayEntry>),
}

impl Applied {
    /// Adds what another change brings about, but for its outcome.
    fn absorb(&mut self, other: Applied) {
        self.batch.append(other.batch);
        self.effects.extend(other.effects);
        self.unused.extend(other.unused);
    }
}

impl From<Outcome> for Applied {
    fn from(outcome: Outcome) -> Applied {
        Applied {
            outcome,
            ..Applied::default()
        }
    }
}

impl Catalog {
    /// Sets how many subscriptions one session may have; those with more keep what they have. 0 is no limit.
    pub(crate) fn limit_subscriptions(&mut self, max: usize) {
        self.subscriptions_max = max;
    }

    /// Sets what there may be at most over all vhosts; what is more already stays.
    pub(crate) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Checks and makes a change; a refused one leaves everything as it was.
    pub(crate) fn apply(&mut self, by: &Actor, change: &Change) -> Result<Applied, Refusal> {
        match change {
            Change::Import(_) | Change::Remove(_) => {}
            _ => self.check_vhost(&by.vhost)?,
        }
        match change {
            Change::DeclareExchange { name, spec } => self.declare_exchange(by, name, spec),
            Change::ExpectExchange { name } => self.expect_exchange(by, name),
            Change::DeleteExchange { name, if_unused } => {
                self.delete_exchange(by, name, *if_unused)
            }
            Change::DeclareQueue { name, spec } => self.declare_queue(by, name, spec),
            Change::DeclareSession { client, spec, .. } => self.declare_session(by, client, spec),
            Change::ExpectQueue { name, session } => self.expect_queue(by, name, *session),
            Change::DeleteQueue {
                name,
                session,
                if_unused,
                if_empty,
            } => self.delete_queue(by, name, *session, *if_unused, *if_empty),
            Change::DeleteExclusiveQueues => Ok(Applied {
                unused: self.exclusive_queues(by.connection),
                ..Applied::default()
            }),
            Change::PurgeQueue { name } => self.purge_queue(by, name),
            Change::Bind(binding) => self.bind(by, binding),
            Change::Unbind(binding) => self.unbind(by, binding),
            Change::Join {
                client,
                group,
                filter,
                subscription,
                log,
            } => match log {
                None => self.join(by, client, group, filter, *subscription),
                Some(log) => self.join_log(by, client, (group, filter), *subscription, log),
            },
            Change::Leave {
                client,
                group,
                filter,
            } => self.leave(by, client, group, filter),
            Change::Read {
                client,
                what,
                subscription,
            } => self.read(by, client, what, *subscription),
            Change::Unread { client, what } => self.unread(by, client, what),
            Change::CreateLog {
                name,
                spec,
                validate_only,
            } => self.create_log(by, name, spec, *validate_only),
            Change::AlterLog {
                name,
                settings,
                validate_only,
            } => self.alter_log(by, name, settings, *validate_only),
            Change::AddPartitions {
                name,
                partitions,
                validate_only,
            } => self.add_partitions(by, name, *partitions, *validate_only),
            Change::DeleteLog { name } => self.delete_log(by, name),
            Change::AlterClientQuota {
                entity,
                changes,
                validate_only,
            } => self.alter_client_quota(by, entity, changes, *validate_only),
            Change::Import(definitions) => self.import(by, definitions),
            Change::Remove(removal) => self.remove(by, removal),
        }
    }

    /// What is declared, counted.
    pub(crate) fn samples(&self) -> [Sample; 2] {
        let shared: usize = self.members.values().map(BTreeMap::len).sum();
        let gauge = |name, help, value| Sample {
            name,
            help,
            counter: false,
            labels: Vec::new(),
            value: value as u64,
        };
        [
            gauge(
                "trivium_subscriptions",
                "Subscriptions of MQTT clients, shared ones not included",
                self.bindings.subscriptions(),
            ),
            gauge(
                "trivium_shared_subscriptions",
                "Shared subscriptions of MQTT clients",
                shared,
            ),
        ]
    }

    pub(crate) fn set_default_queue_type(&mut self, kind: &'static str) {
        self.default_queue_type = kind;
    }

    /// The current snapshot.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.routes.clone()
    }

    /// The queues that end with a connection.
    pub(crate) fn exclusive_queues(&self, of: ConnectionId) -> Vec<QueueId> {
        self.owned
            .get(&of)
            .map(|queues| queues.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Every queue and session of all vhosts, by id.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Arc<QueueEntry>> {
        self.queues.values()
    }

    /// A queue or session by id.
    pub(crate) fn queue(&self, id: QueueId) -> Option<&Arc<QueueEntry>> {
        self.queues.get(&id)
    }

    /// Every log of all vhosts.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &Arc<LogEntry>> {
        self.routes.all_logs()
    }

    /// The next snapshot in the making. Snapshots handed out before stay as they are.
    fn routes_mut(&mut self) -> &mut Routes {
        let routes = Arc::make_mut(&mut self.routes);
        routes.generation += 1;
        routes
    }

    /// Uses no number below `id` from now on.
    pub(crate) fn skip_ids_to(&mut self, id: u64) {
        self.next_id = self.next_id.max(id);
    }

    /// A number that was never used. Only durable things make it known to the store; others rely on
    /// [`Catalog::skip_ids_to`] after a restart.
    fn next_id(&mut self, durable: bool, applied: &mut Applied) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if durable {
            applied.batch.put(
                Table::Catalog,
                keys::next_id(),
                values::write_next_id(self.next_id),
            );
        }
        id
    }
}
