//! Publishers that are held back for a session whose client reads, but not as fast as they publish.
//!
//! What nobody promised to deliver may be dropped. A client that reads is not to lose it only because many publish at
//! once, so where a session holds half of what it may, its publishers are not read any more:
//!
//! - as long as its client takes something within [`PATIENCE`], and nobody longer than [`HELD_MAX`] at a time;
//! - until there is room again, in the order in which they came to wait, each with room for as much as it brought.
//!
//! What they had under way when they were told, a turn each, is not dropped. A client that takes nothing for so long
//! holds nobody back until it has caught up, and loses its own messages: one that is stuck costs its publishers one such
//! wait, and none where it was stuck before it was far behind.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{Budget, Queue, arrivals::fleeting_max};
use crate::{event::Event, id::ConnectionId, shard::Turn};

/// A client that has taken nothing for so long does not count as reading.
const PATIENCE: Duration = Duration::from_secs(1);

/// A publisher waits no longer at a time, so that its client is not taken for dead.
const HELD_MAX: Duration = Duration::from_secs(10);

/// Shards have so many times their share of the memory for what was under way to clients that read.
const OVERDRAFT: usize = 4;

/// Until when those who are held back for one session wait, unless they are told before. It moves while they wait.
#[derive(Debug)]
pub struct Hold {
    since: Instant,
    /// Nanoseconds since then.
    until: AtomicU64,
}

impl Hold {
    fn new(now: Instant) -> Arc<Hold> {
        let hold = Hold {
            since: now,
            until: AtomicU64::new(0),
        };
        hold.extend(now);
        Arc::new(hold)
    }

    /// The client has taken something.
    fn extend(&self, now: Instant) {
        let until = now.saturating_duration_since(self.since) + PATIENCE;
        self.until.store(until.as_nanos() as u64, Relaxed);
    }

    pub(crate) fn until(&self) -> Instant {
        self.since + Duration::from_nanos(self.until.load(Relaxed))
    }
}

/// One publisher's wait.
#[derive(Clone, Debug)]
pub struct Wait {
    hold: Arc<Hold>,
    latest: Instant,
}

impl Wait {
    pub(crate) fn until(&self) -> Instant {
        self.hold.until().min(self.latest)
    }

    /// Whether it is for the session that this is of.
    pub(crate) fn is_for(&self, hold: &Arc<Hold>) -> bool {
        Arc::ptr_eq(&self.hold, hold)
    }
}

/// What the session knows of it.
#[derive(Debug)]
struct Waiting {
    /// Bytes that the publisher has brought since.
    brought: usize,
    latest: Instant,
}

/// A session that has much, and who waits for its client.
#[derive(Debug)]
pub(super) struct Pressure {
    hold: Arc<Hold>,
    waiting: FxHashMap<ConnectionId, Waiting>,
    /// The first to go on is in front.
    order: VecDeque<ConnectionId>,
    /// Bytes that those will bring who have gone on and not come again since the client last took something.
    expected: usize,
    going: FxHashMap<ConnectionId, usize>,
    /// The client has to catch up before anybody waits for it again.
    given_up: bool,
}

impl Pressure {
    fn new(now: Instant) -> Pressure {
        Pressure {
            hold: Hold::new(now),
            waiting: FxHashMap::default(),
            order: VecDeque::new(),
            expected: 0,
            going: FxHashMap::default(),
            given_up: false,
        }
    }

    /// Whether the client counts as reading.
    fn is_patient(&mut self, now: Instant) -> bool {
        if !self.given_up && self.hold.until() <= now {
            self.given_up = true;
            // They know the time as well.
            self.waiting = FxHashMap::default();
            self.order = VecDeque::new();
        }
        !self.given_up
    }

    fn wait(&mut self, publisher: ConnectionId, bytes: usize, turn: &mut Turn) {
        let now = turn.now.instant;
        let order = &mut self.order;
        let waiting = self.waiting.entry(publisher).or_insert_with(|| {
            order.push_back(publisher);
            Waiting {
                brought: 0,
                latest: now,
            }
        });
        waiting.brought += bytes;
        // New, or it has waited as long as it may and is here again.
        if waiting.latest <= now {
            waiting.latest = now + HELD_MAX;
            let wait = Wait {
                hold: self.hold.clone(),
                latest: waiting.latest,
            };
            turn.free.push(publisher, Event::HoldBack(Box::new(wait)));
        }
    }

    /// One who has gone on is here again.
    fn has_come(&mut self, publisher: ConnectionId) {
        self.expected -= self.going.remove(&publisher).unwrap_or_default();
    }

    /// Lets those in front go on for whom there is room; with `one`, the first whatever it will bring.
    fn let_go(&mut self, room: usize, one: bool, turn: &mut Turn) {
        while let Some(publisher) = self.order.front().copied() {
            let brought = self.waiting.get(&publisher).map_or(0, |it| it.brought);
            let first = one && self.expected == 0;
            if self.expected + brought > room && !first {
                return;
            }
            self.expected += brought;
            self.going.insert(publisher, brought);
            self.order.pop_front();
            self.waiting.remove(&publisher);
            let hold = self.hold.clone();
            turn.free.push(publisher, Event::GoOn(hold));
        }
    }
}

impl Queue {
    /// Whether there is room for so much of what may be dropped. While publishers wait for the client, all that they had
    /// under way has room.
    pub(super) fn has_fleeting_room(&self, size: usize, budget: &Budget, turn: &Turn) -> bool {
        if self.held_bytes + size <= fleeting_max(budget) {
            return true;
        }
        let pressure = self.session.as_ref().and_then(|it| it.pressure.as_deref());
        pressure.is_some_and(|it| !it.given_up && it.hold.until() > turn.now.instant)
            && budget.used + size <= budget.limit.saturating_mul(OVERDRAFT)
    }

    /// So many bytes that may be dropped have come from a publisher: it waits if the session has much and its client reads.
    pub(crate) fn press(
        &mut self,
        publisher: ConnectionId,
        bytes: usize,
        budget: &Budget,
        turn: &mut Turn,
    ) {
        let Some(session) = &mut self.session else {
            return;
        };
        if let Some(pressure) = &mut session.pressure {
            pressure.has_come(publisher);
        }
        // From here on it is watched whether the client reads.
        let much = fleeting_max(budget) / 4;
        if self.held_bytes < much {
            return;
        }
        let now = turn.now.instant;
        let pressure = session
            .pressure
            .get_or_insert_with(|| Box::new(Pressure::new(now)));
        if self.held_bytes >= much * 2 && pressure.is_patient(now) {
            pressure.wait(publisher, bytes, turn);
        }
    }

    /// The client has taken something.
    pub(super) fn progress(&mut self, now: Instant) {
        let pressure = self.session.as_mut().and_then(|it| it.pressure.as_mut());
        if let Some(pressure) = pressure.filter(|it| !it.given_up) {
            pressure.hold.extend(now);
            pressure.expected = 0;
            pressure.going.clear();
        }
    }

    /// Messages may have gone: publishers go on as far as there is room.
    pub(super) fn relieve(&mut self, budget: &Budget, turn: &mut Turn) {
        let Some(session) = &mut self.session else {
            return;
        };
        let Some(pressure) = &mut session.pressure else {
            return;
        };
        let much = fleeting_max(budget) / 4;
        let caught_up = self.held_bytes < much;
        if let Some(room) = (much * 2).checked_sub(self.held_bytes) {
            pressure.let_go(room, caught_up, turn);
        }
        if caught_up && pressure.order.is_empty() {
            session.pressure = None;
        }
    }
}
