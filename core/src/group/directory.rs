//! The logs that groups can subscribe to, as a shard has been told of them.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::{
    catalog::LogEntry,
    properties::Text,
    store::{StoreError, values::Reader},
};

/// The random id of a log.
pub type LogUuid = [u8; 16];

/// A partition of a log.
pub(super) type TopicPartition = (LogUuid, u32);

/// A log, as far as groups care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownLog {
    pub uuid: LogUuid,
    pub partitions: u32,
}

/// Logs by vhost and name.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    logs: FxHashMap<Text, BTreeMap<Text, KnownLog>>,
    names: FxHashMap<LogUuid, Text>,
    /// Goes up with every change.
    generation: u64,
}

impl Directory {
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes a log as it is now; other settings than what groups care about are no change.
    pub fn insert(&mut self, entry: &LogEntry) {
        let known = KnownLog {
            uuid: entry.info.uuid,
            partitions: entry.tails.len() as u32,
        };
        let logs = self.logs.entry(entry.vhost.clone()).or_default();
        if logs.get(&entry.info.name) != Some(&known) {
            logs.insert(entry.info.name.clone(), known);
            self.names.insert(entry.info.uuid, entry.info.name.clone());
            self.generation += 1;
        }
    }

    pub fn remove(&mut self, entry: &LogEntry) {
        self.generation += 1;
        self.names.remove(&entry.info.uuid);
        if let Some(logs) = self.logs.get_mut(&entry.vhost) {
            logs.remove(&entry.info.name);
        }
    }

    pub fn find(&self, vhost: &str, name: &str) -> Option<&KnownLog> {
        self.logs.get(vhost)?.get(name)
    }

    /// The name of a log, if it is there.
    pub fn name(&self, uuid: LogUuid) -> Option<&Text> {
        self.names.get(&uuid)
    }

    /// Names, ascending.
    pub fn names(&self, vhost: &str) -> impl Iterator<Item = &Text> {
        self.logs.get(vhost).into_iter().flat_map(BTreeMap::keys)
    }
}

/// The id of a log, and a number, of a row.
pub(super) fn read_partition(reader: &mut Reader) -> Result<TopicPartition, StoreError> {
    let malformed = || StoreError::Corrupt("the id of a log is malformed".into());
    let id = reader.bytes()?;
    let id = id.as_ref().try_into().map_err(|_| malformed())?;
    let number = u32::try_from(reader.varint()?).map_err(|_| malformed())?;
    Ok((id, number))
}
