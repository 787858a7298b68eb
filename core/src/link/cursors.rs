//! Moving cursors.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Link;
use crate::{
    access::Operation,
    catalog::QueueEntry,
    command::StreamStart,
    event::{Event, Kind, Refusal, Reply},
    id::{Offset, Token},
    log::{Position, Scan, Wanted},
    properties::Text,
    shard::Op,
};

/// Where to begin, by partition.
type Positions = Vec<(u32, Position)>;

impl Link {
    /// Has a cursor begin anew: in all partitions of its log, or in one.
    pub(super) fn reset_cursor(
        &mut self,
        token: Token,
        name: &Text,
        to: StreamStart,
        partition: Option<u32>,
    ) {
        let (entry, positions) = match self.find_cursor(name, to, partition) {
            Ok(found) => found,
            Err(refusal) => return self.done(token, Err(refusal)),
        };
        let broker = self.broker.clone();
        self.reads.make().push(Box::pin(async move {
            let store = broker.committer.store().clone();
            let result = async {
                let log = entry.source.clone().ok_or(Refusal::Stopping)?;
                let found = Scan::new(log, Wanted::All)
                    .read(store, &positions, 0, false)
                    .await;
                let offsets: Vec<(u32, Offset)> = found?
                    .into_iter()
                    .map(|found| (found.partition, found.from))
                    .collect();
                let (reply, done) = oneshot::channel();
                let queue = entry.id;
                let op = Op::ResetCursor {
                    queue,
                    offsets,
                    reply,
                };
                broker.ask_shard_of(queue, op).await?;
                done.await.map_err(|_| Refusal::Stopping)
            };
            let result = result.await.map(|()| Reply::Ok);
            Event::Done { token, result }
        }));
    }

    /// A cursor that the user may move, and where to.
    fn find_cursor(
        &mut self,
        name: &Text,
        to: StreamStart,
        partition: Option<u32>,
    ) -> Result<(Arc<QueueEntry>, Positions), Refusal> {
        self.routing.permit(Operation::Read, Kind::Queue, name)?;
        let found = self.routing.current().queue(&self.actor.vhost, name);
        let Some(entry) = found.cloned() else {
            return Err(self.not_found(Kind::Queue, name));
        };
        let Some(log) = entry.source.clone() else {
            let text = format!(
                "queue '{name}' in vhost '{}' is not a cursor",
                self.actor.vhost
            );
            return Err(Refusal::Invalid(text.into()));
        };
        let source = &log.info.name;
        self.routing.permit(Operation::Read, Kind::Log, source)?;
        let count = log.tails.len() as u32;
        if partition.is_some_and(|partition| partition >= count) {
            let text = format!("log '{source}' has {count} partitions");
            return Err(Refusal::Invalid(text.into()));
        }
        let is_number = matches!(to, StreamStart::Offset(_));
        if is_number && partition.is_none() && count > 1 {
            let text =
                format!("log '{source}' has {count} partitions, and an offset is of one of them");
            return Err(Refusal::Invalid(text.into()));
        }
        let wanted = (0..count).filter(|number| partition.is_none_or(|one| one == *number));
        let position = |number: u32| (number, Position::start(to, &log.tails[number as usize]));
        let positions = wanted.map(position).collect();
        Ok((entry, positions))
    }
}
