//! How far this shard's readers are.

use super::Shard;
use crate::{
    catalog::group_filter,
    lag::{Reader, ReaderKind, Standing, Standpoint},
    properties::Text,
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
        let queues = self.queues.values();
        let cursors = queues.filter(|queue| queue.entry.source.is_some());
        cursors.flat_map(move |queue| {
            let mut consumers = queue.consumer_connections();
            let first = consumers.find_map(|connection| self.mailbox(connection));
            let protocol = first.map(|mailbox| mailbox.protocol.clone());
            let reader = reader(queue, ReaderKind::Cursor, protocol);
            queue.cursor_standpoints().map(move |at| {
                let reader = reader.clone();
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
            let reader = reader(queue, ReaderKind::Session, Some(Text::from_static("mqtt")));
            let at = Standpoint::Messages(count);
            Standing { reader, at }
        })
    }
}

fn reader(queue: &Queue, kind: ReaderKind, protocol: Option<Text>) -> Reader {
    Reader {
        vhost: queue.entry.vhost.clone(),
        kind,
        protocol,
        // A group that shares a log is called what its members subscribe to.
        name: group_filter(&queue.entry.name).unwrap_or_else(|| queue.entry.name.clone()),
        state: "",
        members: queue.consumers().into(),
    }
}
