//! How far a group is, as the list of all readers has it.

use super::Group;
use crate::lag::{LogName, Reader, ReaderKind, Standing, Standpoint};

impl Group {
    /// Where it is in each partition that it has committed an offset of.
    pub fn standings(&self) -> Vec<Standing> {
        let kind = match (&self.share, &self.consumers) {
            (Some(_), _) => ReaderKind::Share,
            (None, Some(_)) => ReaderKind::Consumer,
            (None, None) if self.followers.is_empty() => ReaderKind::Classic,
            (None, None) => ReaderKind::Stream,
        };
        let members = self.member_count();
        let protocol = match kind {
            _ if members == 0 => None,
            ReaderKind::Stream => self.followers.protocol(),
            _ => Some("kafka"),
        };
        let committed = self.offsets.all().map(|it| Standpoint::Log {
            log: LogName::Name(it.log.clone()),
            partition: it.partition,
            offset: it.offset,
            ahead: 0,
        });
        let shared = self.share.iter().flat_map(|share| share.offsets(None));
        let shared = shared.map(|it| Standpoint::Log {
            log: LogName::Id(it.partition.0),
            partition: it.partition.1,
            offset: it.start,
            ahead: it.done_ahead,
        });
        let state = self.info().state;
        let reader = Reader {
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

    fn member_count(&self) -> u64 {
        let consumers = self.consumers.as_ref().map_or(0, |it| it.len());
        let share = self.share.as_ref().map_or(0, |it| it.len());
        (self.members.len() + consumers + share + self.followers.len()) as u64
    }
}
