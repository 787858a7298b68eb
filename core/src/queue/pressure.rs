//! Publishers that are held back for a session whose client reads, but not as fast as they publish.
//!
//! What nobody promised to deliver may be dropped. A client that reads as fast as it can is not to lose it only because
//! many publish at once, so before a session holds as much of it as it may, its publishers are not read for a while: until
//! most of it is delivered, or for [`HOLD_MAX`]. A client that has not caught up by then holds nobody back until it has,
//! so one that is slow or does not read costs others little and loses its own messages.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::{
    Budget, Queue,
    arrivals::{FLEETING_MIN, fleeting_max},
};
use crate::{event::Event, id::ConnectionId, shard::Turn};

/// How long publishers wait at most for a client to catch up.
const HOLD_MAX: Duration = Duration::from_millis(500);

/// Those who wait for a client.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    publishers: FxHashSet<ConnectionId>,
    /// Nobody waits longer, nor from then on, until the client has caught up.
    until: Option<Instant>,
}

impl Queue {
    /// Something has come from a publisher: it waits if the session has much and its client keeps reading.
    pub(crate) fn press(&mut self, publisher: ConnectionId, budget: &Budget, turn: &mut Turn) {
        if self.held_bytes < FLEETING_MIN / 2 || self.held_bytes < fleeting_max(budget) / 2 {
            return;
        }
        let Some(session) = &mut self.session else {
            return;
        };
        let pressure = session.pressure.make();
        match pressure.until {
            None if self.consumers.reads_whole_windows() => {
                pressure.until = Some(turn.now.instant + HOLD_MAX);
            }
            None => return,
            Some(until) if until <= turn.now.instant => {
                pressure.publishers.clear();
                return;
            }
            Some(_) => {}
        }
        if pressure.publishers.insert(publisher) {
            let until = pressure.until;
            turn.free.push(publisher, Event::HoldBack { until });
        }
    }

    /// Messages have gone: when there are few left, nobody waits any longer.
    pub(super) fn relieve(&mut self, budget: &Budget, turn: &mut Turn) {
        let Some(session) = &mut self.session else {
            return;
        };
        if session.pressure.get().is_none() || self.held_bytes >= fleeting_max(budget) / 4 {
            return;
        }
        for publisher in std::mem::take(&mut session.pressure)
            .into_inner()
            .publishers
        {
            turn.free.push(publisher, Event::HoldBack { until: None });
        }
    }
}
