//! How far a group is, as the list of all readers has it.

use bytes::Bytes;

use super::Group;
use crate::{
    lag::{self, LogName, ReaderKind, Standing, Standpoint},
    properties::Text,
    store::{
        Batch, StoreError, Table, keys,
        values::{Reader, Writer},
    },
};

/// Of the row that says what a group was last.
const FORMAT: u8 = 1;

impl Group {
    /// Where it is in each partition that it has committed an offset of.
    pub fn standings(&self) -> Vec<Standing> {
        let kind = match &self.share {
            Some(_) => ReaderKind::Share,
            None => self.kind,
        };
        let members = self.member_count();
        let protocol = match kind {
            _ if members == 0 => None,
            ReaderKind::Stream => self.followers.protocol(),
            _ => Some("kafka"),
        };
        let protocol = protocol.map(Text::from_static);
        let committed = self.offsets.all().map(|it| Standpoint::Log {
            log: LogName::Name(it.log.clone()),
            partition: it.partition,
            offset: it.offset,
            ahead: 0,
        });
        let shared = self.share.iter().flat_map(|share| share.offsets(None));
        let shared = shared.filter_map(|it| {
            Some(Standpoint::Log {
                log: LogName::Id(it.partition.0),
                partition: it.partition.1,
                offset: it.start?,
                ahead: it.done_ahead,
            })
        });
        let state = self.info().state;
        let reader = lag::Reader {
            vhost: self.name.0.clone(),
            kind,
            protocol,
            name: self.name.1.clone(),
            state,
            members,
        };
        let standing = |at| Standing {
            reader: reader.clone(),
            at,
        };
        committed.chain(shared).map(standing).collect()
    }

    /// What its members are. A group without members stays what it was, so that it goes by one name in metrics; rows say
    /// so of groups that are not of Kafka's classic protocol.
    pub(super) fn note_kind(&mut self, batch: &mut Batch) {
        let consumers = self.consumers.as_ref().filter(|it| !it.is_empty());
        let kind = if !self.followers.is_empty() {
            ReaderKind::Stream
        } else if consumers.is_some() {
            ReaderKind::Consumer
        } else if !self.members.is_empty() {
            ReaderKind::Classic
        } else {
            return;
        };
        if std::mem::replace(&mut self.kind, kind) == kind {
            return;
        }
        let key = keys::group_kind(&self.name.0, &self.name.1);
        match kind {
            ReaderKind::Classic => batch.delete(Table::State, key),
            _ => {
                let mut row = Writer::new(FORMAT);
                row.bool(kind == ReaderKind::Stream);
                batch.put(Table::State, key, row.done());
            }
        }
    }

    /// Takes a row that was found when the broker opened.
    pub fn restore_kind(&mut self, row: Bytes) -> Result<(), StoreError> {
        self.kind = match Reader::new(row, FORMAT)?.bool()? {
            true => ReaderKind::Stream,
            false => ReaderKind::Consumer,
        };
        if self.kind == ReaderKind::Consumer && self.consumers.is_none() {
            // Nobody was left in it.
            self.consumers = Some(Box::new(self.new_consumers()));
        }
        Ok(())
    }

    pub(super) fn forget_kind(&mut self, batch: &mut Batch) {
        if std::mem::replace(&mut self.kind, ReaderKind::Classic) != ReaderKind::Classic {
            let key = keys::group_kind(&self.name.0, &self.name.1);
            batch.delete(Table::State, key);
        }
    }

    fn member_count(&self) -> u64 {
        let consumers = self.consumers.as_ref().map_or(0, |it| it.len());
        let share = self.share.as_ref().map_or(0, |it| it.len());
        (self.members.len() + consumers + share + self.followers.len()) as u64
    }
}
