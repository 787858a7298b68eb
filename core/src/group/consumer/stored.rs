//! The members of a group of the consumer protocol as a row, so that a restart of the broker is no rebalance: whoever
//! says something within its session time-out goes on under its epoch, with what it has.
//!
//! Written when all members have arrived at an assignment. A broker that goes down before they have finds the
//! assignment before: whoever was at a later epoch is fenced, lets go of everything and joins again.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Assignor, Classic, ConsumerGroup, LEAVE_STATIC, Member, compile};
use crate::{
    group::directory::read_partition,
    properties::Text,
    store::{
        StoreError,
        values::{Reader, Writer},
    },
};

/// Beside format 1, the members of a group of the classic protocol.
pub(in crate::group) const FORMAT: u8 = 2;

impl ConsumerGroup {
    /// The row, if it is to be written: the members have changed, and have all arrived.
    pub fn due_row(&mut self) -> Option<Bytes> {
        let has_arrived =
            |it: &Member| it.has_arrived(self.target_epoch) || it.epoch == LEAVE_STATIC;
        let is_assigned = self.epoch == self.target_epoch || self.members.is_empty();
        let is_due = !self.is_stored && is_assigned && self.members.values().all(has_arrived);
        self.is_stored |= is_due;
        is_due.then(|| self.write())
    }

    fn write(&self) -> Bytes {
        let mut writer = Writer::new(FORMAT);
        writer.varint(u64::from(self.epoch as u32));
        writer.bool(self.assignor == Assignor::Range);
        writer.varint(self.members.len() as u64);
        for member in self.members.values() {
            write_member(&mut writer, member);
        }
        writer.done()
    }

    /// Takes the members that were found when the broker opened. Their sessions begin with [`ConsumerGroup::resume`].
    pub fn restore(&mut self, row: Bytes, now: Instant) -> Result<(), StoreError> {
        let (_, mut reader) = Reader::versioned(row, FORMAT)?;
        self.epoch = reader.varint()? as u32 as i32;
        self.target_epoch = self.epoch;
        if reader.bool()? {
            self.assignor = Assignor::Range;
        }
        for _ in 0..reader.varint()? {
            let member = read_member(&mut reader, self.epoch, now)?;
            let owned = member.assigned.keys();
            self.owners
                .extend(owned.map(|partition| (*partition, member.id.clone())));
            self.target
                .insert(member.id.clone(), member.assigned.keys().copied().collect());
            if let Some(instance) = &member.instance {
                self.instances.insert(instance.clone(), member.id.clone());
            }
            self.members.insert(member.id.clone(), member);
        }
        self.is_stored = true;
        Ok(())
    }

    /// All rows were found: the sessions of members begin.
    pub fn resume(&mut self, now: Instant) {
        let session = self.settings.consumer_session;
        for member in self.members.values_mut() {
            let classic = member.classic.as_ref();
            member.alive_until = now + classic.map_or(session, |it| it.session_timeout);
        }
    }
}

fn write_member(writer: &mut Writer, member: &Member) {
    writer.text(&member.id);
    writer.option(member.instance.as_ref(), |writer, name| writer.text(name));
    writer.option(member.rack.as_ref(), |writer, rack| writer.text(rack));
    writer.text(&member.client);
    writer.text(&member.host);
    writer.bool(member.epoch == LEAVE_STATIC);
    writer.option(member.assignor, |writer, assignor| {
        writer.text(assignor.name());
    });
    writer.varint(member.rebalance_timeout.as_millis() as u64);
    let subscription = &member.subscription;
    let names: Vec<_> = subscription.names.iter().collect();
    writer.list(&names, |writer, name| writer.text(name));
    let pattern = subscription.pattern.as_ref();
    writer.option(pattern, |writer, (text, _)| writer.text(text));
    writer.bool(subscription.is_pattern_new);
    let logs: Vec<_> = subscription.logs.iter().collect();
    writer.list(&logs, |writer, (log, partitions)| {
        writer.bytes(*log);
        writer.varint(u64::from(**partitions));
    });
    let assigned: Vec<_> = member.assigned.keys().collect();
    writer.list(&assigned, |writer, (log, partition)| {
        writer.bytes(log);
        writer.varint(u64::from(*partition));
    });
    writer.option(member.classic.as_ref(), |writer, classic| {
        writer.varint(classic.session_timeout.as_millis() as u64);
        writer.list(&classic.protocols, |writer, (name, metadata)| {
            writer.text(name);
            writer.bytes(metadata);
        });
    });
}

fn read_member(reader: &mut Reader, epoch: i32, now: Instant) -> Result<Member, StoreError> {
    let id = reader.text()?;
    let instance = reader.option(Reader::text)?;
    let mut member = Member::new(id, instance, now);
    member.rack = reader.option(Reader::text)?;
    (member.client, member.host) = (reader.text()?, reader.text()?);
    member.previous_epoch = epoch;
    member.epoch = match reader.bool()? {
        true => LEAVE_STATIC,
        false => epoch,
    };
    let assignor = reader.option(Reader::text)?;
    member.assignor = assignor.and_then(|name| Assignor::find(&name));
    member.rebalance_timeout = Duration::from_millis(reader.varint()?);
    let subscription = &mut member.subscription;
    subscription.names = reader.list(Reader::text)?.into_iter().collect();
    let pattern: Option<Text> = reader.option(Reader::text)?;
    // It was compiled when it came.
    subscription.pattern = compile(pattern.as_ref()).ok().flatten().flatten();
    subscription.is_pattern_new = reader.bool()?;
    subscription.logs = reader.list(read_partition)?.into_iter().collect();
    let assigned = reader.list(read_partition)?.into_iter();
    member.assigned = assigned.map(|partition| (partition, epoch)).collect();
    let classic = reader.option(|reader| {
        Ok(Classic {
            session_timeout: Duration::from_millis(reader.varint()?),
            protocols: reader.list(|reader| Ok((reader.text()?, reader.bytes()?)))?,
            owes: None,
        })
    })?;
    member.classic = classic.map(Box::new);
    Ok(member)
}
