//! The catalog from its rows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Applied, Catalog,
    bindings::{Bindings, Bound, Identity},
    feeds,
    policies::{Policies, Policy},
    routes::{LogEntry, QueueEntry, Routes},
};
use crate::{
    access::{Access, Granted, GrantedTopics},
    definitions::VhostDefinition,
    delay::DelayEntry,
    event::LogInfo,
    id::{LogId, QueueId},
    properties::Text,
    queue::QueueSettings,
    quota::Limits,
    store::{
        Batch, StoreError, Table,
        keys::{TRANSIENT_QUEUE, catalog as keys},
        values::{
            admin,
            catalog::{BindingRow, ExchangeRow, LogRow, QueueRow, ShareRow, read_next_id},
        },
    },
};

/// The vhost that is always there.
const DEFAULT_VHOST: &str = "/";

impl Catalog {
    /// Reads what was declared, from all rows of [`Table::Catalog`] in any order. The batch removes rows
    /// that lead nowhere, and adds those of what every broker has.
    pub(crate) fn recover(
        rows: Vec<(Bytes, Bytes)>,
        configured: Option<&(Text, Text)>,
    ) -> Result<(Catalog, Batch), StoreError> {
        let mut catalog = Catalog {
            members: Default::default(),
            routes: Arc::new(Routes::default()),
            queues: BTreeMap::new(),
            owned: HashMap::new(),
            bindings: Bindings::default(),
            cursors: BTreeMap::new(),
            next_id: 1,
            default_queue_type: "classic",
            subscriptions_max: 0,
            limits: Limits::default(),
            last_settings: Arc::default(),
        };
        let mut applied = Applied::default();
        let (vhosts, rows): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|(key, _)| key.first() == Some(&keys::VHOST));
        if vhosts.is_empty() {
            let vhost = VhostDefinition {
                name: DEFAULT_VHOST.into(),
                description: "Default virtual host".into(),
                ..VhostDefinition::default()
            };
            let row = admin::write_vhost(&vhost);
            applied
                .batch
                .put(Table::Catalog, keys::vhost(DEFAULT_VHOST), row);
            catalog.add_vhost(vhost);
        }
        for (_, value) in vhosts {
            catalog.add_vhost(admin::read_vhost(value)?);
        }
        let (bindings, things): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|(key, _)| key.first() == Some(&keys::BINDING));
        for (key, value) in things {
            catalog.recover_thing(&key, value)?;
        }
        let vhosts: Vec<Text> = catalog
            .routes
            .vhosts()
            .map(|vhost| vhost.name.clone())
            .collect();
        for vhost in vhosts {
            if catalog.routes.has_policies(&vhost) {
                catalog.apply_policies(&vhost, &mut applied);
            }
        }
        catalog.recover_cursors(&mut applied);
        catalog.recover_log_groups(&mut applied);
        catalog.renumber_transient(&mut applied);
        catalog.furnish(configured, &mut applied);
        for (key, value) in bindings {
            if !catalog.recover_binding(number(&key)?, BindingRow::read(value)?) {
                applied.batch.delete(Table::Catalog, key);
            }
        }
        Ok((catalog, applied.batch))
    }

    fn recover_thing(&mut self, key: &[u8], value: Bytes) -> Result<(), StoreError> {
        match key.first() {
            Some(&keys::FORMAT) => {}
            Some(&keys::NEXT_ID) => self.next_id = self.next_id.max(read_next_id(value)?),
            Some(&keys::EXCHANGE) => {
                let row = ExchangeRow::read(value)?;
                self.known_vhost(&row.vhost)?;
                let delay = row.delay.map(|id| {
                    Arc::new(DelayEntry {
                        id,
                        vhost: row.vhost.clone(),
                        exchange: row.name.clone(),
                    })
                });
                self.next_id = self.next_id.max(row.delay.map_or(0, |id| id + 1));
                self.routes_mut()
                    .put_exchange(&row.vhost, row.name, row.spec, delay);
            }
            Some(&keys::QUEUE) => {
                let (id, row) = (QueueId(number(key)?), QueueRow::read(value)?);
                self.known_vhost(&row.vhost)?;
                self.next_id = self.next_id.max((id.0 & !TRANSIENT_QUEUE) + 1);
                let QueueRow { vhost, name, spec } = row;
                let settings = self.settings(QueueSettings::effective(&spec, &[], &[]));
                self.put_queue(Arc::new(QueueEntry {
                    id,
                    vhost,
                    name,
                    source: None,
                    settings,
                    policies: Policies::default(),
                    claim: spec.session.then(Arc::default),
                    shares: Arc::default(),
                    spec,
                    owner: None,
                }));
            }
            Some(&keys::LOG) => {
                let (id, row) = (LogId(number(key)?), LogRow::read(value)?);
                self.known_vhost(&row.vhost)?;
                self.next_id = self.next_id.max(id.0 + 1);
                let info = LogInfo {
                    name: row.name,
                    id,
                    uuid: row.uuid,
                    spec: row.spec,
                };
                self.routes_mut()
                    .put_log(Arc::new(LogEntry::new(row.vhost, info, row.tapped_by)));
            }
            Some(&keys::USER) => self.recovered_access().put_user(admin::read_user(value)?),
            Some(&keys::PERMISSION) => {
                let row = admin::read_permission(value)?;
                let granted = Granted::new(row.permission).map_err(StoreError::corrupt)?;
                self.recovered_access().grant(row.vhost, row.user, granted);
            }
            Some(&keys::TOPIC_PERMISSION) => {
                let row = admin::read_topic_permission(value)?;
                let granted = GrantedTopics::new(row.permission).map_err(StoreError::corrupt)?;
                self.recovered_access()
                    .grant_topics(row.vhost, row.user, row.exchange, granted);
            }
            Some(&keys::POLICY) => {
                let policy = admin::read_policy(value)?;
                let policy = Policy::new(policy).map_err(StoreError::corrupt)?;
                self.routes_mut().put_policy(policy);
            }
            Some(&keys::PARAMETER) => {
                let parameter = admin::read_parameter(value)?;
                self.routes_mut().put_parameter(parameter);
            }
            Some(&keys::CLIENT_QUOTA) => {
                let (entity, values) = admin::read_client_quota(value)?;
                self.routes_mut().put_client_quota(entity, values);
            }
            Some(&keys::SHARE) => {
                let (session, name) = keys::share_parts(key)
                    .ok_or_else(|| StoreError::Corrupt("share key".into()))?;
                self.recover_share(session, name, ShareRow::read(value)?);
            }
            kind => {
                return Err(StoreError::Corrupt(
                    format!("unknown kind of catalog row {kind:?}").into(),
                ));
            }
        }
        Ok(())
    }

    /// A session that began transient and became durable keeps its number while the process lives. What is
    /// stored under such a number is forgotten by a restart, so it goes on under a new one.
    fn renumber_transient(&mut self, applied: &mut Applied) {
        let transient = self.queues.split_off(&QueueId(TRANSIENT_QUEUE));
        for (old, queue) in transient {
            let id = QueueId(self.next_id(true, applied));
            applied.batch.delete(Table::Catalog, keys::queue(old));
            let queue = QueueEntry {
                id,
                ..(*queue).clone()
            };
            self.store_queue(&queue, false, applied);
            self.renumber_member(old, &queue, applied);
            self.put_queue(Arc::new(queue));
        }
    }

    /// False when one of its ends is not there any more.
    fn recover_binding(&mut self, number: u64, row: BindingRow) -> bool {
        let BindingRow { vhost, binding } = row;
        let Some(place) = self.find(&vhost, &binding.destination) else {
            return false;
        };
        if !self.is_stored(&vhost, &binding.source, &place) {
            return false;
        }
        if feeds::is_fed(&binding) && self.feed_source(&vhost, &binding).is_none() {
            return false;
        }
        let identity = Identity::new(&vhost, place.end(&vhost), &binding);
        self.put_binding(
            number,
            Bound {
                identity: Arc::new(identity),
                binding,
                stored: true,
            },
            place,
        );
        true
    }

    fn recovered_access(&mut self) -> &mut Access {
        self.routes_mut().access_mut()
    }

    fn known_vhost(&self, vhost: &str) -> Result<(), StoreError> {
        if self.routes.vhost_exists(vhost) {
            return Ok(());
        }
        Err(StoreError::Corrupt(
            format!("row of vhost '{vhost}', which is not there").into(),
        ))
    }
}

fn number(key: &[u8]) -> Result<u64, StoreError> {
    keys::number(key)
        .ok_or_else(|| StoreError::Corrupt("key of a catalog row has a wrong length".into()))
}
