//! A member of a group.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{DescribedMember, JoinedMember, coordinator::Caller};
use crate::properties::Text;

/// A member, from its first join until it leaves or falls silent.
#[derive(Debug)]
pub(super) struct Member {
    pub id: Text,
    /// Its static name.
    pub instance: Option<Text>,
    pub client: Text,
    pub host: Text,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// Names and metadata, preferred first.
    pub protocols: Vec<(Text, Bytes)>,
    pub assignment: Bytes,
    /// Its join, which waits for the generation to be complete.
    pub joining: Option<Caller>,
    /// Its sync, which waits for the leader's.
    pub syncing: Option<Caller>,
    /// It has not seen its id yet, so it cannot send heartbeats.
    pub is_new: bool,
    /// It has not asked for its part of this generation.
    pub owes_sync: bool,
    /// Gone if silent until then.
    pub alive_until: Instant,
}

impl Member {
    /// When it will be taken for dead. A member that waits for the broker is not expected to say anything,
    /// unless it is so new that its client may have given up and come back as another.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = self.syncing.is_some() || (self.joining.is_some() && !self.is_new);
        (!waits).then_some(self.alive_until)
    }

    pub fn touch(&mut self, now: Instant) {
        self.alive_until = now + self.session_timeout;
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// Its metadata for `protocol`.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub fn joined(&self, protocol: &str) -> JoinedMember {
        JoinedMember {
            member: self.id.clone(),
            instance: self.instance.clone(),
            metadata: self.metadata(protocol),
        }
    }

    pub fn described(&self, protocol: &str) -> DescribedMember {
        DescribedMember {
            member: self.id.clone(),
            instance: self.instance.clone(),
            client: self.client.clone(),
            host: self.host.clone(),
            metadata: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }
}
