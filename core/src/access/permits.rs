//! What one connection was allowed lately.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Access, Asker, Granted, Operation, Topics, check_topic, refused};
use crate::{
    event::{Kind, Refusal},
    properties::Text,
};

/// Names remembered per connection; when there are more, all are forgotten.
const REMEMBERED_MAX: usize = 1024;

/// The permissions of one connection, with what they have allowed since they were last changed.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    user: Text,
    vhost: Text,
    /// What the rest was taken from, once somebody has asked.
    access: Option<Arc<Access>>,
    granted: Option<Arc<Granted>>,
    topics: Option<Arc<Topics>>,
    allowed: FxHashSet<(Operation, Text)>,
}

impl Permits {
    /// Those of another user, or in another vhost.
    pub(crate) fn set_actor(&mut self, user: Text, vhost: Text) {
        *self = Permits {
            user,
            vhost,
            ..Permits::default()
        };
    }

    /// Gives back the memory for what was allowed.
    pub(crate) fn rest(&mut self) {
        self.allowed = FxHashSet::default();
    }

    /// Forgets what was allowed if `access` is another than it was.
    pub(crate) fn update(&mut self, access: &Arc<Access>) {
        if !self
            .access
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, access))
        {
            self.reload(access);
        }
    }

    fn reload(&mut self, access: &Arc<Access>) {
        self.granted = access.granted(&self.vhost, &self.user).cloned();
        self.topics = access.topics(&self.vhost, &self.user).cloned();
        self.access = Some(access.clone());
        self.allowed.clear();
    }

    /// Whether the connection may do something with what has that name.
    pub(crate) fn check(
        &mut self,
        operation: Operation,
        kind: Kind,
        name: &Text,
    ) -> Result<(), Refusal> {
        let granted = self.granted.as_ref();
        if granted.is_some_and(|granted| granted.allows_all(operation)) {
            return Ok(());
        }
        let question = (operation, name.clone());
        if self.allowed.contains(&question) {
            return Ok(());
        }
        if !granted.is_some_and(|granted| granted.allows(operation, name)) {
            return Err(refused(operation, kind, name, &self.vhost, &self.user));
        }
        if self.allowed.len() >= REMEMBERED_MAX {
            self.allowed.clear();
        }
        // A copy, so that no read buffer is held on to.
        self.allowed.insert((operation, Text::from(&**name)));
        Ok(())
    }

    /// Whether any key of a topic exchange may be refused.
    pub(crate) fn restricts_topics(&self) -> bool {
        self.topics.is_some()
    }

    /// Whether the connection may use a routing key of a topic exchange.
    pub(crate) fn check_topic(
        &self,
        operation: Operation,
        exchange: &str,
        key: &str,
        client: &str,
    ) -> Result<(), Refusal> {
        let Some(topics) = &self.topics else {
            return Ok(());
        };
        let by = Asker {
            user: &self.user,
            vhost: &self.vhost,
            client,
        };
        check_topic(topics, by, operation, exchange, key)
    }
}
