//! How far this shard's readers are.

use super::Shard;
use crate::lag::{ReaderKind, Standing, Standpoint};

impl Shard {
    /// Its groups and cursors, and what waits in sessions if that is asked for.
    pub(super) fn standings(&self, sessions: bool) -> Vec<Standing> {
        let mut found = self.groups.standings();
        found.extend(self.cursor_standings());
        if sessions {
            found.extend(self.session_standings());
        }
        found
    }

    fn cursor_standings(&self) -> impl Iterator<Item = Standing> {
        self.queues.values().flat_map(|queue| {
            let members = u64::from(queue.consumers());
            queue.cursor_standpoints().map(move |at| Standing {
                vhost: queue.entry.vhost.clone(),
                kind: ReaderKind::Cursor,
                protocol: (members > 0).then_some("amqp"),
                name: queue.entry.name.clone(),
                state: "",
                members,
                at,
            })
        })
    }

    fn session_standings(&self) -> impl Iterator<Item = Standing> {
        let waiting = self.queues.values().filter_map(|queue| {
            let count = queue.ready() + queue.unsettled();
            (queue.session.is_some() && count > 0).then_some((queue, count))
        });
        waiting.map(|(queue, count)| {
            let (vhost, name) = (queue.entry.vhost.clone(), queue.entry.name.clone());
            Standing {
                vhost,
                kind: ReaderKind::Session,
                protocol: Some("mqtt"),
                name,
                state: "",
                members: queue.consumers().into(),
                at: Standpoint::Messages(count),
            }
        })
    }
}
