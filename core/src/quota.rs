//! What the whole broker may have at most, and the channels of a user's connections, counted against `max-channels`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{properties::Text, snapshot::Snapshot};

/// What there may be at most over all vhosts and users; 0 is no limit. A limit refuses what is more, and takes nothing
/// away from what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all protocols.
    pub connections: u64,
    /// AMQP channels, over all connections.
    pub channels: u64,
    /// Queues, MQTT sessions and logs.
    pub queues: u64,
    /// Exchanges, those that every vhost has among them.
    pub exchanges: u64,
    /// Vhosts.
    pub vhosts: u64,
}

/// The limit, if it is one.
pub(crate) fn limit(most: u64) -> Option<u64> {
    (most > 0).then_some(most)
}

/// One of what is counted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicU64>);

impl Counted {
    /// Counts one more; `None` when that makes more than `limit`.
    pub(crate) fn one_more(of: &Arc<AtomicU64>, limit: Option<u64>) -> Option<Counted> {
        let before = of.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(of.clone());
        limit.is_none_or(|limit| before < limit).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The channels that a user has open, over all connections, and those of the whole broker. Every channel counts, so that
/// a limit that is set later holds for what is open by then; the user's limit is looked up as each channel is opened.
#[derive(Clone, Debug)]
pub struct ChannelQuota {
    user: Text,
    of_user: Arc<AtomicU64>,
    of_all: Arc<AtomicU64>,
    limit_of_all: Option<u64>,
    snapshot: Arc<Snapshot>,
}

/// An open channel; it counts until it is dropped.
#[derive(Debug)]
pub struct ChannelPlace {
    _of_user: Counted,
    _of_all: Counted,
}

/// As many channels are open as there may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooManyChannels {
    /// The user's `max-channels`.
    #[error(
        "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
    )]
    OfUser {
        /// Whose channels.
        user: Text,
        /// How many there may be.
        limit: u64,
    },
    /// The broker's.
    #[error(
        "number of channels opened on node '{NODE}' has reached the maximum allowed limit of ({limit})"
    )]
    OfBroker {
        /// How many there may be.
        limit: u64,
    },
}

/// What the broker is called where RabbitMQ names a node.
pub const NODE: &str = "trivium@localhost";

impl ChannelQuota {
    pub(crate) fn new(
        user: Text,
        of_user: Arc<AtomicU64>,
        of_all: Arc<AtomicU64>,
        limit_of_all: Option<u64>,
        snapshot: Arc<Snapshot>,
    ) -> ChannelQuota {
        ChannelQuota {
            user,
            of_user,
            of_all,
            limit_of_all,
            snapshot,
        }
    }

    /// Takes a place for one more channel.
    pub fn open(&self) -> Result<ChannelPlace, TooManyChannels> {
        let of_all = Counted::one_more(&self.of_all, self.limit_of_all);
        let routes = self.snapshot.load();
        let limit = routes.access().user_limit(&self.user, "max-channels");
        let of_user = Counted::one_more(&self.of_user, limit);
        match (of_all, of_user) {
            (Some(_of_all), Some(_of_user)) => Ok(ChannelPlace { _of_user, _of_all }),
            (None, _) => Err(TooManyChannels::OfBroker {
                limit: self.limit_of_all.unwrap_or_default(),
            }),
            (_, None) => Err(TooManyChannels::OfUser {
                user: self.user.clone(),
                limit: limit.unwrap_or_default(),
            }),
        }
    }
}
