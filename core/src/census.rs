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
    groups: Mutex<Groups>,
    /// All that have logged in.
    pub(crate) connections: Arc<AtomicU64>,
    /// The channels that all of them have open.
    pub(crate) channels: Arc<AtomicU64>,
}

type Groups = FxHashMap<Group, Members>;

#[derive(Debug, Default)]
struct Members {
    connections: FxHashMap<ConnectionId, Weak<Mailbox>>,
    /// The channels that they have open.
    channels: Arc<AtomicU64>,
}

/// A connection's place in a group, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    census: Arc<Census>,
    group: Group,
    connection: ConnectionId,
    /// The channels that the group's connections have open.
    pub(crate) channels: Arc<AtomicU64>,
}

impl Census {
    /// A place in a group; `None` when it has as many connections as it may have.
    pub(crate) fn seat(
        self: &Arc<Census>,
        group: Group,
        limit: Option<u64>,
        mailbox: &Arc<Mailbox>,
    ) -> Option<Seat> {
        let mut groups = self.groups();
        let taken = groups
            .get(&group)
            .map_or(0, |members| members.connections.len() as u64);
        if limit.is_some_and(|limit| taken >= limit) {
            return None;
        }
        let members = groups.entry(group.clone()).or_default();
        members
            .connections
            .insert(mailbox.connection, Arc::downgrade(mailbox));
        let channels = members.channels.clone();
        drop(groups);
        Some(Seat {
            census: self.clone(),
            group,
            connection: mailbox.connection,
            channels,
        })
    }

    /// Tells the connections of a group to close.
    pub(crate) fn evict(&self, group: &Group) {
        let members: Vec<Weak<Mailbox>> = match self.groups().get(group) {
            Some(members) => members.connections.values().cloned().collect(),
            None => return,
        };
        for mailbox in members.iter().filter_map(Weak::upgrade) {
            mailbox.put(vec![Event::Shutdown]);
        }
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut groups = self.census.groups();
        if let Some(members) = groups.get_mut(&self.group) {
            members.connections.remove(&self.connection);
            if members.connections.is_empty() {
                groups.remove(&self.group);
            }
        }
    }
}
