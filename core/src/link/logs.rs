//! Appends to logs, how they are found, and what administrators ask of them.

use std::sync::Arc;

use bytes::Bytes;

use super::Link;
use crate::{
    access::Operation,
    catalog::LogEntry,
    event::{Kind, LogInfo, PartitionInfo, Refusal, Reply},
    id::{LogUuid, Offset, Token},
    log::Intake,
    properties::Text,
    shard::Op,
    transaction::TransactionPart,
};

impl Link {
    /// The log that a batch may be appended to.
    pub(super) fn appendable(
        &mut self,
        log: &Text,
        partition: u32,
        id: Option<LogUuid>,
    ) -> Result<Arc<LogEntry>, Refusal> {
        self.routing.permit(Operation::Write, Kind::Log, log)?;
        let found = self.routing.current().log(&self.actor.vhost, log).cloned();
        let entry = found
            .filter(|entry| (partition as usize) < entry.tails.len())
            .ok_or_else(|| self.not_found(Kind::Log, log))?;
        match id.is_none_or(|id| id == entry.info.uuid) {
            true => Ok(entry),
            false => Err(replaced(&entry)),
        }
    }

    pub(super) fn append(
        &mut self,
        token: Token,
        entry: &LogEntry,
        partition: u32,
        batch: Bytes,
        transaction: Option<TransactionPart>,
    ) {
        let name = entry.info.name.clone();
        let own = entry.settings.batch_bytes_max;
        let intake = Intake {
            log: &name,
            settings: &entry.settings,
            bytes_max: own.unwrap_or(self.broker.batch_bytes_max),
            now: (self.broker.clock)().wall,
        };
        let (header, batch) = match intake.take(batch) {
            Ok((header, batch)) => (Box::new(header), batch),
            Err(refusal) => {
                let log_start = start_of(entry, partition);
                let refusal = Box::new(refusal);
                return self.done(token, Ok(Reply::NotAppended { refusal, log_start }));
            }
        };
        let part = (entry.info.id, partition);
        let transaction = match self.admit(&header, transaction, part, &name) {
            Ok(number) => number,
            Err(refusal) => return self.done(token, Err(refusal)),
        };
        self.broker.metrics.appended(1, batch.len() as u64);
        self.outgoing.is_busy = true;
        self.trace_append(&name, partition, &batch);
        let shard = self.broker.shard_of_partition(entry.info.id, partition);
        self.outgoing.push(
            shard,
            Op::Append {
                log: entry.info.id,
                partition,
                header,
                batch,
                transaction,
                token,
            },
        );
    }

    /// Describes the logs of these ids, as far as they are there and may be seen.
    pub(super) fn find_logs(&mut self, token: Token, ids: &[LogUuid]) {
        let routes = self.routing.current().clone();
        let found = ids
            .iter()
            .filter_map(|id| routes.log_of_id(&self.actor.vhost, id));
        let mut logs: Vec<_> = found.map(|entry| Ok(entry.info.clone())).collect();
        logs.retain(|log: &Result<LogInfo, Refusal>| {
            let name = log.as_ref().map(|log| &log.name);
            name.is_ok_and(|name| self.routing.permit_any(Kind::Log, name).is_ok())
        });
        self.done(token, Ok(Reply::Logs(logs)));
    }

    /// Who may remove a log may remove its records.
    pub(super) fn trim(&mut self, token: Token, log: &Text, partition: u32, to: Option<Offset>) {
        if let Err(refusal) = self.routing.permit(Operation::Configure, Kind::Log, log) {
            return self.done(token, Err(refusal));
        }
        let found = self.routing.current().log(&self.actor.vhost, log);
        let id = found
            .filter(|entry| partition < entry.info.spec.partitions)
            .map(|entry| entry.info.id);
        let Some(id) = id else {
            let refusal = self.not_found(Kind::Log, log);
            return self.done(token, Err(refusal));
        };
        let shard = self.broker.shard_of_partition(id, partition);
        let partition = (id, partition);
        self.outgoing.push(
            shard,
            Op::Trim {
                token,
                partition,
                to,
            },
        );
    }

    pub(super) fn describe_partitions(&mut self, token: Token, names: Option<Vec<Text>>) {
        let routes = self.routing.current().clone();
        let vhost = self.actor.vhost.clone();
        let mut entries: Vec<_> = match &names {
            None => routes.logs(&vhost).collect(),
            Some(names) => names
                .iter()
                .filter_map(|name| routes.log(&vhost, name))
                .collect(),
        };
        entries.retain(|entry| self.routing.permit_any(Kind::Log, &entry.info.name).is_ok());
        let partitions = entries.into_iter().flat_map(|entry| partitions(entry));
        let reply = Reply::Partitions(partitions.collect());
        self.done(token, Ok(reply));
    }
}

/// A log is there, but not the one that is meant.
pub(super) fn replaced(entry: &LogEntry) -> Refusal {
    Refusal::Replaced {
        name: entry.info.name.clone(),
        vhost: entry.vhost.clone(),
    }
}

pub(super) fn no_partition(entry: &LogEntry) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Partition,
        name: entry.info.name.clone(),
        vhost: entry.vhost.clone(),
    }
}

fn partitions(entry: &LogEntry) -> impl Iterator<Item = PartitionInfo> {
    entry.tails.iter().enumerate().map(|(number, tail)| {
        let bounds = tail.bounds();
        PartitionInfo {
            log: entry.info.name.clone(),
            partition: number as u32,
            log_start: bounds.log_start,
            end: bounds.high_watermark,
            bytes: bounds.bytes,
        }
    })
}

/// Where a partition begins.
fn start_of(entry: &LogEntry, partition: u32) -> Offset {
    let tail = entry.tails.get(partition as usize);
    tail.map_or(Offset(0), |tail| tail.bounds().log_start)
}
