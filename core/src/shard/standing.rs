//! How far this shard's readers are.

use super::Shard;
use crate::{
    lag::{ReaderKind, Standing, Standpoint},
    properties::Text,
};

impl Shard {
    /// Its groups and taps, and what waits in sessions if that is asked for.
    pub(super) fn standings(&self, sessions: bool) -> Vec<Standing> {
        let mut found = self.groups.standings();
        let taps = self.partitions.iter().filter_map(|(id, partition)| {
            let at = Standpoint::Tap {
                log: id.0,
                partition: id.1,
                offset: partition.tap()?,
            };
            // What it is called is for those to say who know the log.
            Some(reader(Text::new(), Text::new(), ReaderKind::Tap, None, at))
        });
        found.extend(taps);
        if sessions {
            found.extend(self.session_standings());
        }
        found
    }

    fn session_standings(&self) -> impl Iterator<Item = Standing> {
        let waiting = self.queues.values().filter_map(|queue| {
            let count = queue.ready() + queue.unsettled();
            (queue.session.is_some() && count > 0).then_some((queue, count))
        });
        waiting.map(|(queue, count)| {
            let (vhost, name) = (queue.entry.vhost.clone(), queue.entry.name.clone());
            let at = Standpoint::Messages(count);
            let session = reader(vhost, name, ReaderKind::Session, Some("mqtt"), at);
            Standing {
                members: queue.consumers().into(),
                ..session
            }
        })
    }
}

/// A reader that is no group.
fn reader(
    vhost: Text,
    name: Text,
    kind: ReaderKind,
    protocol: Option<&'static str>,
    at: Standpoint,
) -> Standing {
    Standing {
        vhost,
        kind,
        protocol,
        name,
        state: "",
        members: 0,
        at,
    }
}
