//! Cursors: queues that are a view over a log. They go when their log goes.

use std::sync::Arc;

use super::{
    Actor, Applied, Catalog, Effect, check,
    routes::{LogEntry, QueueEntry},
};
use crate::{
    access::Operation,
    command::{QueueSpec, StreamStart},
    event::{Kind, Refusal},
    id::QueueId,
    queue::{QueueSettings, QueueType},
    store::{Table, keys::catalog as keys},
};

impl Catalog {
    /// The log that a queue is declared to be a cursor of, if it is, may be and can be.
    pub(super) fn cursor_source(
        &self,
        by: &Actor,
        spec: &QueueSpec,
    ) -> Result<Option<Arc<LogEntry>>, Refusal> {
        if check::queue_type(spec) != Some(QueueType::Cursor.name()) {
            return Ok(None);
        }
        let Some(name) = QueueSettings::source(spec) else {
            return Ok(None);
        };
        self.may(by, Operation::Read, Kind::Log, name)?;
        let Some(log) = self.routes.log(&by.vhost, name) else {
            return Err(check::not_found(Kind::Log, name, by));
        };
        let one = log.info.spec.partitions == 1;
        if !one && matches!(QueueSettings::start(spec), StreamStart::Offset(_)) {
            let text = format!(
                "invalid arg 'x-stream-offset': log '{name}' in vhost '{}' has {} partitions, and a number is for one",
                by.vhost, log.info.spec.partitions
            );
            return Err(Refusal::Invalid(text.into()));
        }
        Ok(Some(log.clone()))
    }

    /// Has the cursors of a log follow it as it is now.
    pub(super) fn refresh_cursors(&mut self, log: &Arc<LogEntry>, applied: &mut Applied) {
        for id in self.cursors_of(log) {
            let Some(old) = self.queues.get(&id) else {
                continue;
            };
            let queue = Arc::new(QueueEntry {
                source: Some(log.clone()),
                ..(**old).clone()
            });
            self.put_queue(queue.clone());
            applied.effects.push(Effect::QueueChanged(queue));
        }
    }

    pub(super) fn cursors_of(&self, log: &LogEntry) -> Vec<QueueId> {
        let cursors = self.cursors.get(&log.info.id);
        cursors.into_iter().flatten().copied().collect()
    }

    /// Gives the cursors that were read from the store their logs. One whose log is not there was about to go with it.
    pub(super) fn recover_cursors(&mut self, applied: &mut Applied) {
        let cursors = self.queues.values();
        let cursors: Vec<_> = cursors
            .filter(|queue| queue.settings.kind == QueueType::Cursor)
            .cloned()
            .collect();
        for queue in cursors {
            let name = QueueSettings::source(&queue.spec);
            let log = name.and_then(|name| self.routes.log(&queue.vhost, name).cloned());
            match log {
                Some(log) => self.put_queue(Arc::new(QueueEntry {
                    source: Some(log),
                    ..(*queue).clone()
                })),
                None => {
                    self.queues.remove(&queue.id);
                    self.leave_all(&queue, applied);
                    self.routes_mut().remove_queue(&queue);
                    let key = keys::queue(queue.id);
                    applied.batch.delete(Table::Catalog, key);
                }
            }
        }
    }

    pub(super) fn note_cursor(&mut self, queue: &QueueEntry, is_there: bool) {
        let Some(log) = queue.source.as_ref().map(|log| log.info.id) else {
            return;
        };
        let cursors = self.cursors.entry(log).or_default();
        match is_there {
            true => cursors.insert(queue.id),
            false => cursors.remove(&queue.id),
        };
        if cursors.is_empty() {
            self.cursors.remove(&log);
        }
    }
}
