//! How far everything is that reads: consumer groups of all protocols, taps and sessions, in one list.

use std::sync::Arc;

use crate::{
    broker::Inner,
    catalog::{LogEntry, Routes},
    event::Refusal,
    id::{LogUuid, Offset},
    log::Tail,
    properties::Text,
};

/// What kind of reader one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReaderKind {
    /// A group of Kafka's classic protocol, or one that never had members.
    Classic,
    /// A group of Kafka's consumer protocol (KIP-848).
    Consumer,
    /// A share group (KIP-932).
    Share,
    /// Consumers of streams that go by a name.
    Stream,
    /// A queue that is a view over a log.
    Cursor,
    /// The tap of a log, which offers its records to an exchange.
    Tap,
    /// An MQTT session, which reads no log: what is queued for its client.
    Session,
}

impl ReaderKind {
    /// As it is spelled.
    pub fn name(self) -> &'static str {
        match self {
            ReaderKind::Classic => "classic",
            ReaderKind::Consumer => "consumer",
            ReaderKind::Share => "share",
            ReaderKind::Stream => "stream",
            ReaderKind::Cursor => "cursor",
            ReaderKind::Tap => "tap",
            ReaderKind::Session => "session",
        }
    }
}

/// One that reads logs, or has messages waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// Where it is.
    pub vhost: Text,
    /// What it is.
    pub kind: ReaderKind,
    /// The protocol of its members; `None` while there are none.
    pub protocol: Option<Text>,
    /// Its name: of the group, the exchange that is offered to, or the client.
    pub name: Text,
    /// As [`crate::group::GroupInfo`] has it; empty for what is no group.
    pub state: &'static str,
    /// Its members.
    pub members: u64,
}

/// How far a reader is in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Who.
    pub reader: Reader,
    /// Where it is in which log; `None` for sessions.
    pub place: Option<LagPlace>,
    /// Records or messages that it has still to read, or to settle.
    pub lag: u64,
}

/// A reader's place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LagPlace {
    /// The log.
    pub log: Text,
    /// Its partition.
    pub partition: u32,
    /// The next record to read.
    pub position: Offset,
    /// The oldest record kept.
    pub start: Offset,
    /// Where the next record goes.
    pub end: Offset,
    /// How old the next record to read is, in milliseconds, if that is known without reading: records at the end are
    /// in memory. 0 where there is none.
    pub age_ms: Option<u64>,
}

/// What a shard knows of one of its readers.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub reader: Reader,
    pub at: Standpoint,
}

/// Where it is, in the shard's terms.
#[derive(Clone, Debug)]
pub(crate) enum Standpoint {
    /// At an offset of a partition of a log; `ahead` records behind it are done with too.
    Log {
        log: LogName,
        partition: u32,
        offset: Offset,
        ahead: u64,
    },
    /// So many messages.
    Messages(u64),
}

/// By what a reader knows its log.
#[derive(Clone, Debug)]
pub(crate) enum LogName {
    Name(Text),
    Id(LogUuid),
}

impl Inner {
    /// How far the readers in these vhosts are, by vhost, kind and name; with what waits in sessions, or without.
    pub(crate) async fn lag(
        &self,
        routes: &Routes,
        vhosts: &[Text],
        sessions: bool,
    ) -> Result<Vec<Lag>, Refusal> {
        let now = (self.clock)().wall.0;
        let logs = vhosts.iter().flat_map(|vhost| routes.logs(vhost));
        let mut found: Vec<Lag> = logs.flat_map(|entry| taps(entry, now)).collect();
        for shard in 0..self.shards.len() {
            let standings = self.standings(shard, sessions).await?;
            let seen = standings
                .into_iter()
                .filter(|it| vhosts.contains(&it.reader.vhost));
            found.extend(seen.filter_map(|standing| lag(routes, now, standing)));
        }
        let order = |it: &Lag| {
            let place = it.place.as_ref();
            let place = place.map(|place| (place.log.clone(), place.partition));
            let Reader {
                vhost, kind, name, ..
            } = &it.reader;
            (vhost.clone(), *kind, name.clone(), place)
        };
        found.sort_by_cached_key(order);
        Ok(found)
    }
}

/// Of the tap of a log in each of its partitions.
fn taps(entry: &Arc<LogEntry>, now: u64) -> impl Iterator<Item = Lag> {
    let partitions = entry.tails.iter().zip(0..);
    partitions.filter_map(move |(tail, partition)| {
        let (name, at) = (entry.tap.clone()?, tail.tap()?);
        let place = place(entry, partition, at.position, now)?;
        let reader = Reader {
            vhost: entry.vhost.clone(),
            kind: ReaderKind::Tap,
            protocol: None,
            name,
            state: "",
            members: 0,
        };
        Some(Lag {
            reader,
            place: Some(place),
            lag: at.end.0.saturating_sub(at.position.0),
        })
    })
}

/// `None` for what is in a log that is not there.
fn lag(routes: &Routes, now: u64, Standing { reader, at }: Standing) -> Option<Lag> {
    let (place, lag) = match at {
        Standpoint::Messages(count) => (None, count),
        Standpoint::Log {
            log,
            partition,
            offset,
            ahead,
        } => {
            let entry = match log {
                LogName::Name(name) => routes.log(&reader.vhost, &name),
                LogName::Id(id) => routes.log_of_id(&reader.vhost, &id),
            };
            let place = place(entry?, partition, offset, now)?;
            let behind = place.end.0.saturating_sub(offset.0);
            (Some(place), behind.saturating_sub(ahead))
        }
    };
    Some(Lag { reader, place, lag })
}

fn place(entry: &Arc<LogEntry>, partition: u32, position: Offset, now: u64) -> Option<LagPlace> {
    let tail: &Arc<Tail> = entry.tails.get(partition as usize)?;
    let bounds = tail.bounds();
    let age_ms = match position < bounds.high_watermark {
        true => tail.time_of(position).map(|at| now.saturating_sub(at)),
        false => Some(0),
    };
    Some(LagPlace {
        log: entry.info.name.clone(),
        partition,
        position,
        start: bounds.log_start,
        end: bounds.high_watermark,
        age_ms,
    })
}
