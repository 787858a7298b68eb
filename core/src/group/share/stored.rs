//! The members of a share group as a row, so that a restart of the broker is nothing to them: whoever says something
//! within its session time-out goes on under its epoch. What the group knows of partitions has rows of its own.
//!
//! Written with each change of members, subscriptions or the assignment, not when a member is told of it: any epoch up to
//! that of the assignment is a member's own after a restart.

use std::time::Instant;

use bytes::Bytes;

use super::{Member, ShareGroup};
use crate::{
    group::directory::read_partition,
    properties::Text,
    store::{
        StoreError,
        values::{Reader, Writer},
    },
};

/// Beside formats 1 and 2, the members of groups of the classic and of the consumer protocol: first only the epoch of a
/// group, now its members.
pub(in crate::group) const FORMATS: [u8; 2] = [3, 4];
const FORMAT: u8 = FORMATS[1];

impl ShareGroup {
    /// The row, if it is to be written.
    pub fn due_row(&mut self) -> Option<Bytes> {
        let is_due = !std::mem::replace(&mut self.is_stored, true);
        is_due.then(|| self.write_members())
    }

    fn write_members(&self) -> Bytes {
        let mut writer = Writer::new(FORMAT);
        writer.varint(u64::from(self.epoch as u32));
        writer.varint(u64::from(self.target_epoch as u32));
        let logs: Vec<_> = self.logs.iter().collect();
        writer.list(&logs, |writer, (log, partitions)| {
            writer.bytes(*log);
            writer.varint(u64::from(**partitions));
        });
        writer.varint(self.members.len() as u64);
        for (id, member) in &self.members {
            writer.text(id);
            writer.option(member.rack.as_ref(), |writer, rack| writer.text(rack));
            writer.text(&member.client);
            writer.text(&member.host);
            let names: Vec<_> = member.names.iter().collect();
            writer.list(&names, |writer, name| writer.text(name));
            let assigned: Vec<_> = member.assigned.iter().collect();
            writer.list(&assigned, |writer, (log, partition)| {
                writer.bytes(log);
                writer.varint(u64::from(*partition));
            });
        }
        writer.done()
    }

    /// Takes the members that were found when the broker opened. Their sessions begin with [`ShareGroup::resume`].
    pub fn restore_members(&mut self, row: Bytes, now: Instant) -> Result<(), StoreError> {
        let (format, mut reader) = Reader::versioned(row, FORMAT)?;
        self.epoch = reader.varint()? as u32 as i32;
        self.target_epoch = self.epoch;
        self.is_stored = true;
        if format != FORMAT {
            return Ok(());
        }
        self.target_epoch = reader.varint()? as u32 as i32;
        self.logs = reader.list(read_partition)?.into_iter().collect();
        for _ in 0..reader.varint()? {
            let id: Text = reader.text()?;
            let member = Member {
                epoch: self.target_epoch,
                previous_epoch: None,
                rack: reader.option(Reader::text)?,
                client: reader.text()?,
                host: reader.text()?,
                names: reader.list(Reader::text)?.into_iter().collect(),
                assigned: reader.list(read_partition)?.into_iter().collect(),
                told: false,
                alive_until: now,
            };
            self.members.insert(id, member);
        }
        Ok(())
    }
}
