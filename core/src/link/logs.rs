//! What administrators ask of logs.

use super::Link;
use crate::{
    access::Operation,
    catalog::LogEntry,
    event::{Kind, PartitionInfo, Reply},
    id::{Offset, Token},
    properties::Text,
    shard::Op,
};

impl Link {
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
