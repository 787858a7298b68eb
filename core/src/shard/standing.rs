//! How far this shard's readers are.

use super::Shard;
use crate::{
    lag::{Reader, ReaderKind, Standing, Standpoint},
    queue::Queue,
};

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
            queue.cursor_standpoints().map(move |at| {
                let protocol = (queue.consumers() > 0).then_some("amqp");
                let reader = reader(queue, ReaderKind::Cursor, protocol);
                Standing { reader, at }
            })
        })
    }

    fn session_standings(&self) -> impl Iterator<Item = Standing> {
        let waiting = self.queues.values().filter_map(|queue| {
            let count = queue.ready() + queue.unsettled();
            (queue.session.is_some() && count > 0).then_some((queue, count))
        });
        waiting.map(|(queue, count)| {
            let reader = reader(queue, ReaderKind::Session, Some("mqtt"));
            let at = Standpoint::Messages(count);
            Standing { reader, at }
        })
    }
}

fn reader(queue: &Queue, kind: ReaderKind, protocol: Option<&'static str>) -> Reader {
    Reader {
        vhost: queue.entry.vhost.clone(),
        kind,
        protocol,
        name: queue.entry.name.clone(),
        state: "",
        members: queue.consumers().into(),
    }
}
