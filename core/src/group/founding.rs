//! What groups begin with: their settings, whether a group is there or not.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{
    GroupAnswer, GroupError, GroupReply, GroupRequest, bounds::GroupBounds, coordinator::GroupName,
    settings::GroupSettings, state::Group,
};
use crate::{
    properties::Text,
    store::{Batch, StoreError, Table, keys},
};

/// The settings of groups, and the group that comes into being with them.
#[derive(Debug)]
pub(super) struct Founding {
    /// Of groups that have their own.
    own: FxHashMap<GroupName, Arc<GroupSettings>>,
    /// Of all others.
    defaults: Arc<GroupSettings>,
    bounds: GroupBounds,
    initial_rebalance_delay: Duration,
}

impl Founding {
    pub fn new(initial_rebalance_delay: Duration, bounds: GroupBounds) -> Founding {
        Founding {
            own: FxHashMap::default(),
            defaults: Arc::new(GroupSettings::new(&bounds)),
            bounds,
            initial_rebalance_delay,
        }
    }

    /// A group of this name, without members.
    pub fn found(&self, name: &GroupName) -> Group {
        let settings = self.of(name).clone();
        Group::new(name.clone(), settings, self.initial_rebalance_delay)
    }

    fn of(&self, name: &GroupName) -> &Arc<GroupSettings> {
        self.own.get(name).unwrap_or(&self.defaults)
    }

    /// Whether a group has settings of its own.
    pub fn has_own(&self, name: &GroupName) -> bool {
        self.own.contains_key(name)
    }

    /// Names with settings of their own.
    pub fn names(&self) -> impl Iterator<Item = &GroupName> {
        self.own.keys()
    }

    /// Takes settings that were found when the broker opened.
    pub fn recover(&mut self, name: GroupName, row: Bytes) -> Result<(), StoreError> {
        let settings = Arc::new(GroupSettings::read(row, &self.bounds)?);
        self.own.insert(name, settings);
        Ok(())
    }

    /// Sets and resets settings of a group, or reads them: the answer, if that is what is asked for, and the settings
    /// that are new.
    pub fn configure(
        &mut self,
        name: &GroupName,
        request: &GroupRequest,
        batch: &mut Batch,
    ) -> Option<(GroupReply, Option<Arc<GroupSettings>>)> {
        let current = self.of(name);
        let (changes, replaces, validate_only) = match request {
            GroupRequest::Configure {
                settings,
                replaces,
                validate_only,
            } => (settings, *replaces, *validate_only),
            GroupRequest::Settings => {
                return Some((Ok(GroupAnswer::Settings(current.given.clone())), None));
            }
            _ => return None,
        };
        let before = match replaces {
            true => &self.defaults,
            false => current,
        };
        let settings = match before.changed(changes, &self.bounds) {
            Ok(settings) => Arc::new(settings),
            Err(text) => return Some((Err(GroupError::InvalidSettings(text.into())), None)),
        };
        let answer = Ok(GroupAnswer::Settings(settings.given.clone()));
        if validate_only {
            return Some((answer, None));
        }
        self.put(name, &settings, batch);
        Some((answer, Some(settings)))
    }

    fn put(&mut self, name: &GroupName, settings: &Arc<GroupSettings>, batch: &mut Batch) {
        let key = keys::group_settings(&name.0, &name.1);
        match settings.given.is_empty() {
            true => {
                self.own.remove(name);
                batch.delete(Table::State, key);
            }
            false => {
                batch.put(Table::State, key, settings.write());
                self.own.insert(name.clone(), settings.clone());
            }
        }
    }

    /// Forgets the settings of a vhost that goes.
    pub fn forget_vhost(&mut self, vhost: &Text, batch: &mut Batch) {
        self.own.retain(|name, _| {
            let goes = name.0 == *vhost;
            if goes {
                batch.delete(Table::State, keys::group_settings(&name.0, &name.1));
            }
            !goes
        });
    }
}
