//! Who is connected: connections by user and by vhost, for limits and for closing those whose user or vhost goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicU64};

use rustc_hash::FxHashMap;

use crate::{event::Event, id::ConnectionId, link::Mailbox, properties::Text};

/// What connections are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    User(Text),
    Vhost(Text),
}

/// The connections of users and vhosts.
#[derive(Debug, Default)]
pub(crate) struct Census {
    groups: Mutex<FxHashMap<Group, Arc<Members>>>,
    /// All that have logged in.
    pub(crate) connections: Arc<AtomicU64>,
    /// The channels that all of them have open.
    pub(crate) channels: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Members {
    connections: Mutex<FxHashMap<ConnectionId, Weak<Mailbox>>>,
    /// The channels that they have open.
    channels: Arc<AtomicU64>,
}

/// A connection's place in a group, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    members: Arc<Members>,
    connection: ConnectionId,
}

impl Census {
    /// A place in a group; `None` when it has as many connections as it may have.
    pub(crate) fn seat(
        &self,
        group: Group,
        limit: Option<u64>,
        mailbox: &Arc<Mailbox>,
    ) -> Option<Seat> {
        let mut groups = locked(&self.groups);
        if groups.len() == groups.capacity() && !groups.contains_key(&group) {
            groups.retain(|_, members| !locked(&members.connections).is_empty());
        }
        let members = groups.entry(group).or_default();
        let mut connections = locked(&members.connections);
        if limit.is_some_and(|limit| connections.len() as u64 >= limit) {
            return None;
        }
        connections.insert(mailbox.connection, Arc::downgrade(mailbox));
        Some(Seat {
            members: members.clone(),
            connection: mailbox.connection,
        })
    }

    /// Tells the connections of a group to close.
    pub(crate) fn evict(&self, group: &Group) {
        let Some(members) = locked(&self.groups).get(group).cloned() else {
            return;
        };
        let members: Vec<_> = locked(&members.connections).values().cloned().collect();
        for mailbox in members.iter().filter_map(Weak::upgrade) {
            mailbox.put(vec![Event::Shutdown]);
        }
    }
}

impl Seat {
    /// The channels that the group's connections have open.
    pub(crate) fn channels(&self) -> Arc<AtomicU64> {
        self.members.channels.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        locked(&self.members.connections).remove(&self.connection);
    }
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
