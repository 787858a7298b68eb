//! The members of a group as a row, here of the classic protocol, so that a restart of the broker is no rebalance: whoever
//! says something within its session time-out goes on in its generation.
//!
//! Written once for each generation, when its assignment is there, and when the last member has gone: a group without
//! members stays what it is, with its epoch, until it is forgotten. A member that left since then is silent after a
//! restart, and dropped like any other.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Group, State};
use crate::{
    group::{consumer::STORED_FORMAT, member::Member, share::STORED_FORMATS as SHARE_FORMATS},
    store::{
        Batch, StoreError, Table, keys,
        values::{Reader, Writer},
    },
    time::Now,
};

const FORMAT: u8 = 1;

/// What the store knows of a group's members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stored {
    /// Nothing, and there is nothing to be known.
    #[default]
    Nothing,
    /// An earlier generation, or other members.
    Stale,
    /// All there is to be known.
    Current,
    /// That there are no members.
    Empty,
    /// What it was under the other protocol.
    Other,
}

impl Group {
    /// The generation has its assignment, or a member of it has another id.
    pub(super) fn members_changed(&mut self) {
        self.stored = Stored::Stale;
    }

    /// The group goes on under the other protocol: what is stored is not so any more.
    pub(super) fn protocol_changed(&mut self) {
        if self.stored != Stored::Nothing {
            self.stored = Stored::Other;
        }
    }

    /// Deletes the row, if there is one.
    pub(super) fn forget_members(&mut self, batch: &mut Batch) {
        if self.stored != Stored::Nothing {
            batch.delete(
                Table::State,
                keys::group_members(&self.name.0, &self.name.1),
            );
            self.stored = Stored::Nothing;
        }
        self.members.clear();
    }

    /// Writes or deletes the row, if it is not as it should be.
    pub(super) fn store_members(&mut self, batch: &mut Batch) {
        let key = || keys::group_members(&self.name.0, &self.name.1);
        if let Some(share) = &mut self.share {
            if let Some(row) = share.due_row() {
                batch.put(Table::State, key(), row);
                self.stored = Stored::Current;
            }
            return;
        }
        if let Some(consumers) = &mut self.consumers {
            if let Some(row) = consumers.due_row() {
                batch.put(Table::State, key(), row);
                self.stored = Stored::Current;
            } else if self.stored == Stored::Other {
                batch.delete(Table::State, key());
                self.stored = Stored::Nothing;
            }
            return;
        }
        match (self.stored, self.members.is_empty(), self.state) {
            (Stored::Stale, false, State::Stable) => {
                batch.put(Table::State, key(), self.write_members());
                self.stored = Stored::Current;
            }
            (Stored::Stale | Stored::Current, true, State::Empty) => {
                batch.put(Table::State, key(), self.write_members());
                self.stored = Stored::Empty;
            }
            (Stored::Other, ..) => {
                batch.delete(Table::State, key());
                self.stored = Stored::Nothing;
            }
            _ => {}
        }
    }

    fn write_members(&self) -> Bytes {
        let mut writer = Writer::new(FORMAT);
        writer.varint(self.generation as u32 as u64);
        writer.text(&self.protocol_type);
        writer.text(&self.protocol);
        writer.text(&self.leader);
        writer.varint(self.members.len() as u64);
        for member in self.members.values() {
            writer.text(&member.id);
            writer.option(member.instance.as_ref(), |writer, name| writer.text(name));
            writer.text(&member.client);
            writer.text(&member.host);
            writer.varint(member.session_timeout.as_millis() as u64);
            writer.varint(member.rebalance_timeout.as_millis() as u64);
            writer.list(&member.protocols, |writer, (name, metadata)| {
                writer.text(name);
                writer.bytes(metadata);
            });
            writer.bytes(&member.assignment);
        }
        writer.done()
    }

    /// Takes the members that were found when the broker opened. Their sessions begin with [`Group::recovered`].
    pub fn restore_members(&mut self, row: Bytes, now: Instant) -> Result<(), StoreError> {
        if row.first().is_some_and(|it| SHARE_FORMATS.contains(it)) {
            self.share_mut().restore_members(row, now)?;
            self.stored = Stored::Current;
            return Ok(());
        }
        if row.first() == Some(&STORED_FORMAT) {
            let mut consumers = self.new_consumers();
            consumers.restore(row, now)?;
            self.consumers = Some(Box::new(consumers));
            self.stored = Stored::Current;
            return Ok(());
        }
        let mut reader = Reader::new(row, FORMAT)?;
        self.generation = reader.varint()? as u32 as i32;
        self.protocol_type = reader.text()?;
        self.protocol = reader.text()?;
        self.leader = reader.text()?;
        for _ in 0..reader.varint()? {
            let id = reader.text()?;
            let instance = reader.option(Reader::text)?;
            let (client, host) = (reader.text()?, reader.text()?);
            let session_timeout = Duration::from_millis(reader.varint()?);
            let rebalance_timeout = Duration::from_millis(reader.varint()?);
            let protocols = reader.list(|reader| Ok((reader.text()?, reader.bytes()?)))?;
            let assignment = reader.bytes()?;
            if let Some(instance) = &instance {
                self.instances.insert(instance.clone(), id.clone());
            }
            let member = Member {
                id: id.clone(),
                instance,
                client,
                host,
                session_timeout,
                rebalance_timeout,
                protocols,
                assignment,
                joining: None,
                syncing: None,
                is_new: false,
                owes_sync: false,
                alive_until: now + session_timeout,
            };
            self.members.insert(id, member);
        }
        (self.state, self.stored) = match self.members.is_empty() {
            true => (State::Empty, Stored::Empty),
            false => (State::Stable, Stored::Current),
        };
        Ok(())
    }

    /// All rows were found: the sessions of members begin.
    pub(super) fn resume_members(&mut self, now: Now) {
        for member in self.members.values_mut() {
            member.touch(now.instant);
        }
        if let Some(consumers) = &mut self.consumers {
            consumers.resume(now.instant);
        }
        if let Some(share) = &mut self.share {
            share.resume(now.instant);
        }
    }
}
