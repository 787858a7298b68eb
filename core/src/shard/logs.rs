//! What a shard does for partitions of logs.

use std::sync::Arc;

use bytes::Bytes;

use super::{Op, Shard, Turn, confirm, missing};
use crate::{
    broker::shard_of_partition,
    catalog::LogEntry,
    event::{Event, Kind, Reply},
    id::{ConnectionId, LogId, Offset},
    log::{self, Header, Marker, Partition, Tail},
    properties::Text,
    time::Now,
};

impl Shard {
    pub(super) fn apply_log(&mut self, from: ConnectionId, op: Op, turn: &mut Turn) {
        match op {
            Op::Capture {
                log,
                partition,
                record,
                token,
                captured,
            } => {
                if let Some(found) = self.partition(log, partition) {
                    found.collect(turn.now, &record, captured);
                }
                confirm(from, token, turn);
            }
            Op::Append {
                log,
                partition,
                header,
                batch,
                transaction,
                token,
            } => {
                // A duplicate repeats what may still be in flight; being held behind it, its answer is true then.
                let result = match self.partition(log, partition) {
                    Some(found) => Ok(appended(found, turn.now, &header, batch, transaction)),
                    None => Err(missing(Kind::Log)),
                };
                turn.in_order = true;
                turn.held.push(from, Event::Done { token, result });
            }
            Op::Trim {
                token,
                partition: (log, number),
                to,
            } => {
                let result = match self.partition(log, number) {
                    Some(found) => found
                        .delete_records(to)
                        .map(|log_start| Reply::Trimmed { log_start }),
                    None => Err(missing(Kind::Log)),
                };
                turn.in_order = true;
                turn.held.push(from, Event::Done { token, result });
            }
            Op::Tapped {
                log,
                partition,
                offset,
            } => {
                if let Some(found) = self.partition(log, partition) {
                    found.set_tap(Some(offset));
                }
            }
            Op::Compact {
                log,
                partition,
                changes,
            } => {
                if let Some(found) = self.partition(log, partition) {
                    found.compact(changes);
                }
            }
            Op::Compacted { log, partition, to } => {
                if let Some(found) = self.partition(log, partition) {
                    found.compacted(to);
                }
            }
            Op::CreateLog(entry) => self.create_log(&entry),
            Op::ChangeLog(entry) => self.change_log(&entry),
            Op::RemoveLog(entry) => self.remove_log(&entry, turn),
            Op::EndTransaction {
                marker,
                partitions,
                groups,
            } => self.end_transaction(&marker, &partitions, groups, turn),
            Op::WriteMarker {
                token,
                partition: (log, number),
                marker,
            } => {
                let result = match self.partition(log, number) {
                    Some(found) => found.end_transaction(turn.now, &marker).map(|()| Reply::Ok),
                    None => Err(missing(Kind::Log)),
                };
                turn.held.push(from, Event::Done { token, result });
            }
            Op::DescribeProducers { token, partition } => {
                let result = match self.partitions.get(&partition) {
                    Some(found) => Ok(Reply::Producers(found.describe_producers())),
                    None => Err(missing(Kind::Log)),
                };
                turn.free.push(from, Event::Done { token, result });
            }
            _ => {}
        }
    }

    /// Retention and what else partitions do by the clock, for those whose time has come.
    pub(super) fn keep_logs(&mut self, turn: &mut Turn) {
        for id in self.upkeep.due(turn.now.wall) {
            let Some(partition) = self.partitions.get_mut(&id) else {
                continue;
            };
            partition.tick(turn.now);
            turn.compactions.extend(partition.compaction(turn.now.wall));
            if partition.has_changed() {
                self.touched_partitions.insert(id);
            }
            let wanted = partition.next_tick(turn.now);
            self.upkeep.put(id, partition.upkeep(), wanted);
        }
    }

    /// Ends a transaction in what this shard owns of it. What has been deleted meanwhile needs no end.
    fn end_transaction(
        &mut self,
        marker: &Marker,
        partitions: &[(LogId, u32)],
        groups: Vec<(Text, Text)>,
        turn: &mut Turn,
    ) {
        for (log, number) in partitions {
            if let Some(found) = self.partition(*log, *number) {
                // Only an administrator's markers are refused.
                let _ = found.end_transaction(turn.now, marker);
            }
        }
        for group in groups {
            self.groups
                .end_transaction(turn.now, group, marker, &mut turn.batch);
        }
    }

    pub(super) fn partition(&mut self, log: LogId, number: u32) -> Option<&mut Partition> {
        let partition = self.partitions.get_mut(&(log, number))?;
        self.touched_partitions.insert((log, number));
        Some(partition)
    }

    pub(super) fn create_log(&mut self, entry: &LogEntry) {
        self.groups.know_log(entry);
        for (number, tail) in entry.tails.iter().enumerate() {
            let number = number as u32;
            if self.owns(entry.info.id, number) {
                let partition = self.new_partition(entry, number, tail);
                self.partitions.insert((entry.info.id, number), partition);
            }
        }
    }

    fn change_log(&mut self, entry: &LogEntry) {
        self.groups.know_log(entry);
        for (number, tail) in entry.tails.iter().enumerate() {
            let id = (entry.info.id, number as u32);
            if !self.owns(id.0, id.1) {
                continue;
            }
            match self.partition(id.0, id.1) {
                Some(found) => found.change(entry.settings.clone(), entry.tap.is_some()),
                None => {
                    let partition = self.new_partition(entry, id.1, tail);
                    self.partitions.insert(id, partition);
                }
            }
        }
    }

    fn remove_log(&mut self, entry: &LogEntry, turn: &mut Turn) {
        self.groups.forget_log(entry, &mut turn.batch);
        for number in 0..entry.tails.len() as u32 {
            if let Some(partition) = self.partitions.remove(&(entry.info.id, number)) {
                partition.tail().close();
                log::delete_log(entry.info.id, &mut turn.batch);
            }
        }
    }

    pub(super) fn owns(&self, log: LogId, number: u32) -> bool {
        shard_of_partition(log, number, self.place.count) == self.place.index
    }

    pub(super) fn new_partition(
        &self,
        entry: &LogEntry,
        number: u32,
        tail: &Arc<Tail>,
    ) -> Partition {
        tail.share(self.tails.clone());
        let mut partition =
            Partition::new(entry.info.id, number, entry.settings.clone(), tail.clone());
        partition.set_tap(entry.tap.is_some().then_some(Offset(0)));
        partition
    }
}

/// What a partition makes of a batch.
fn appended(
    partition: &mut Partition,
    now: Now,
    header: &Header,
    batch: Bytes,
    transaction: u64,
) -> Reply {
    match partition.append(now, header, batch, transaction) {
        Ok(appended) => Reply::Appended {
            base: appended.base,
            timestamp: appended.timestamp,
            log_start: appended.log_start,
        },
        Err(refusal) => Reply::NotAppended {
            refusal: Box::new(refusal),
            log_start: partition.log_start(),
        },
    }
}
