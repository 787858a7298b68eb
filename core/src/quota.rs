//! The channels of a user's connections, counted against `max-channels`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{properties::Text, snapshot::Snapshot};

/// The channels that a user has open, over all connections. Every channel counts, so that a limit that is set later
/// holds for what is open by then; the limit is looked up as each channel is opened.
#[derive(Clone, Debug)]
pub struct ChannelQuota {
    user: Text,
    open: Arc<AtomicU64>,
    snapshot: Arc<Snapshot>,
}

/// A user's channel; it counts until it is dropped.
#[derive(Debug)]
pub struct ChannelPlace {
    open: Arc<AtomicU64>,
}

/// The user has as many channels open as `max-channels` allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
)]
pub struct TooManyChannels {
    user: Text,
    limit: u64,
}

impl ChannelQuota {
    pub(crate) fn new(user: Text, open: Arc<AtomicU64>, snapshot: Arc<Snapshot>) -> ChannelQuota {
        ChannelQuota {
            user,
            open,
            snapshot,
        }
    }

    /// Takes a place for one more channel.
    pub fn open(&self) -> Result<ChannelPlace, TooManyChannels> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let place = ChannelPlace {
            open: self.open.clone(),
        };
        let limit = self
            .snapshot
            .load()
            .access()
            .user_limit(&self.user, "max-channels");
        match limit {
            Some(limit) if before >= limit => Err(TooManyChannels {
                user: self.user.clone(),
                limit,
            }),
            _ => Ok(place),
        }
    }
}

impl Drop for ChannelPlace {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}
