//! What those who share the records of a partition know of it: which are with whom, and which are done with. It is the
//! state of a share group (KIP-932) and of a cursor, with one encoding.
//!
//! ```text
//!        start                             end
//!   done │ available, acquired, done, …     │ not looked at yet
//! ```
//! Only what lies between start and end takes memory, as runs of records of the same state. Whoever owns a window bounds
//! the records or the runs in it. The start moves on over what is done with.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Instant};

use bytes::Bytes;

use crate::{
    id::Offset,
    properties::Text,
    store::{
        StoreError,
        values::{Reader, Writer},
    },
};

/// Format 1 knew no records on their way to a dead-letter topic.
const FORMAT: u8 = 2;

/// States as they are stored; the first two are those of format 1.
const AVAILABLE: u8 = 0;
const DONE: u8 = 1;
const DYING: u8 = 2;
const REJECTED: u8 = 3;

/// A partition as a share group or a cursor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    start: u64,
    end: u64,
    /// By first record; without gaps from start to end.
    runs: BTreeMap<u64, Run>,
}

/// Records of the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    last: u64,
    state: State,
    /// How often they were delivered.
    deliveries: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Available,
    Acquired {
        member: Text,
        /// When it is taken back; `None` is never.
        until: Option<Instant>,
    },
    /// Given up, and on its way to the dead-letter topic.
    Dying {
        rejected: bool,
    },
    /// Accepted, or given up.
    Done,
}

/// Records that a member has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// The first.
    pub first: Offset,
    /// The last.
    pub last: Offset,
    /// How often they have been delivered, this time included.
    pub deliveries: u16,
}

/// What is to become of acquired records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// There is no such record.
    Gap,
    /// Done with it.
    Accept,
    /// For somebody else.
    Release,
    /// Nobody can do anything with it.
    Reject,
    /// Not done with it yet.
    Renew,
}

/// What becomes of records that come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// After so many deliveries they are given up; `u16::MAX` is never.
    pub deliveries_max: u16,
    /// What is given up goes to a dead-letter topic.
    pub has_dead_letters: bool,
}

/// Records that nobody will get any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenUp {
    pub first: u64,
    pub last: u64,
    pub deliveries: u16,
    /// A member rejected them; else they were delivered as often as is allowed.
    pub rejected: bool,
}

impl Window {
    /// Nothing of what is before `start` is for the group.
    pub fn new(start: Offset) -> Window {
        Window {
            start: start.0,
            end: start.0,
            runs: BTreeMap::new(),
        }
    }

    pub fn start(&self) -> Offset {
        Offset(self.start)
    }

    /// Records that are not done with.
    pub fn unfinished(&self) -> u64 {
        let runs = self.runs.iter();
        let open = runs.filter(|(_, run)| run.state != State::Done);
        open.map(|(first, run)| run.last - first + 1).sum()
    }

    /// Records that lie in the window.
    pub fn looked_at(&self) -> u64 {
        self.end - self.start
    }

    /// The first record that a member could get: in the window, or behind it while there is room.
    pub fn next_available(&self, records_max: u64) -> Option<Offset> {
        let mut runs = self.runs.iter();
        let found = runs.find(|(_, run)| run.state == State::Available);
        match found {
            Some((first, _)) => Some(Offset(*first)),
            None if self.end - self.start < records_max => Some(Offset(self.end)),
            None => None,
        }
    }

    /// The log begins at `to` now: what was before is gone. How many records nobody has got.
    pub fn trim(&mut self, to: Offset) -> u64 {
        if to.0 <= self.start {
            return 0;
        }
        self.split(to.0);
        let kept = self.runs.split_off(&to.0);
        let missed = count_available(&self.runs) + to.0.saturating_sub(self.end);
        self.runs = kept;
        self.start = to.0;
        self.end = self.end.max(to.0);
        self.advance();
        missed
    }

    /// Everything that a member could get up to `end` is done with; how many records that were.
    pub fn finish(&mut self, end: Offset) -> u64 {
        let end = end.0.max(self.end);
        let count = self.available() + end - self.end;
        if end > self.end {
            self.extend(end - 1);
        }
        for run in self.runs.values_mut() {
            if run.state == State::Available {
                run.state = State::Done;
            }
        }
        self.join_all();
        count
    }

    /// Records in the window that a member could get.
    pub fn available(&self) -> u64 {
        count_available(&self.runs)
    }

    /// The first record that was not looked at.
    pub fn end(&self) -> Offset {
        Offset(self.end)
    }

    /// Runs of records of the same state.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// How often a record was delivered, if a member could get it.
    pub fn is_available(&self, offset: Offset) -> Option<u16> {
        let (_, run) = self.runs.range(..=offset.0).next_back()?;
        let found = run.last >= offset.0 && run.state == State::Available;
        found.then_some(run.deliveries)
    }

    /// Gives a member what is available of `range`, of a batch that was read: about `records_max` records, or when
    /// that is `strict` not one more.
    pub fn acquire(
        &mut self,
        range: RangeInclusive<u64>,
        records_max: u64,
        strict: bool,
        member: &Text,
        until: Option<Instant>,
    ) -> Vec<Acquired> {
        self.extend(*range.end());
        self.split_around(&range);
        let mut acquired = Vec::new();
        let (mut left, mut from) = (records_max, *range.start());
        while left > 0
            && let Some(first) = self.first_available(from..=*range.end())
        {
            if strict {
                self.split(first.saturating_add(left));
            }
            let Some(run) = self.runs.get_mut(&first) else {
                break;
            };
            run.deliveries = run.deliveries.saturating_add(1);
            run.state = State::Acquired {
                member: member.clone(),
                until,
            };
            left = left.saturating_sub(run.last - first + 1);
            from = run.last + 1;
            acquired.push(Acquired {
                first: Offset(first),
                last: Offset(run.last),
                deliveries: run.deliveries,
            });
        }
        self.join(&range);
        acquired
    }

    fn first_available(&self, range: RangeInclusive<u64>) -> Option<u64> {
        if range.is_empty() {
            return None;
        }
        let mut runs = self.runs.range(range);
        let found = runs.find(|(_, run)| run.state == State::Available);
        found.map(|(first, _)| *first)
    }

    /// Records that applications never see: markers, and what was aborted.
    pub fn skip(&mut self, range: RangeInclusive<u64>) {
        self.extend(*range.end());
        self.split_around(&range);
        for (_, run) in self.runs.range_mut(range.clone()) {
            if run.state == State::Available {
                run.state = State::Done;
            }
        }
        self.join(&range);
    }

    /// Whether all of `range` is with the member.
    pub fn holds(&self, range: &RangeInclusive<u64>, member: &Text) -> bool {
        if range.is_empty() || *range.start() < self.start || *range.end() >= self.end {
            return false;
        }
        let before = self.runs.range(..=*range.start()).next_back();
        let within = self
            .runs
            .range(range.clone())
            .filter(|(first, _)| **first != *range.start());
        let is_held =
            |run: &Run| matches!(&run.state, State::Acquired { member: by, .. } if by == member);
        before
            .into_iter()
            .chain(within)
            .all(|(_, run)| is_held(run))
    }

    /// Decides the fate of records that are with a member. What was given up is returned.
    pub fn acknowledge(
        &mut self,
        range: RangeInclusive<u64>,
        acknowledgement: Acknowledgement,
        until: Option<Instant>,
        fate: Fate,
    ) -> Vec<GivenUp> {
        self.split_around(&range);
        let mut given_up = Vec::new();
        for (first, run) in self.runs.range_mut(range.clone()) {
            match acknowledgement {
                Acknowledgement::Gap | Acknowledgement::Accept => run.state = State::Done,
                Acknowledgement::Release => given_up.extend(run.release(*first, fate)),
                Acknowledgement::Reject => given_up.push(run.give_up(*first, true, fate)),
                Acknowledgement::Renew => {
                    if let State::Acquired { until: lock, .. } = &mut run.state {
                        *lock = until;
                    }
                }
            }
        }
        self.join(&range);
        given_up
    }

    /// Takes back what a member has, or what has been with anybody for too long.
    pub fn release(
        &mut self,
        fate: Fate,
        is_over: impl Fn(&Text, Option<Instant>) -> bool,
    ) -> (bool, Vec<GivenUp>) {
        let (mut changed, mut given_up) = (false, Vec::new());
        for (first, run) in &mut self.runs {
            if matches!(&run.state, State::Acquired { member, until } if is_over(member, *until)) {
                changed = true;
                given_up.extend(run.release(*first, fate));
            }
        }
        if changed {
            self.join_all();
        }
        (changed, given_up)
    }

    /// What is on its way to the dead-letter topic.
    pub fn dying(&self) -> Vec<GivenUp> {
        let dying = self.runs.iter().filter_map(|(first, run)| match run.state {
            State::Dying { rejected } => Some(run.given_up(*first, rejected)),
            _ => None,
        });
        dying.collect()
    }

    /// What was on its way has arrived, or will not.
    pub fn bury(&mut self, range: RangeInclusive<u64>) {
        self.split_around(&range);
        for (_, run) in self.runs.range_mut(range.clone()) {
            if matches!(run.state, State::Dying { .. }) {
                run.state = State::Done;
            }
        }
        self.join(&range);
    }

    /// When the first lock ends.
    pub fn next_deadline(&self) -> Option<Instant> {
        let locks = self.runs.values().filter_map(|run| match &run.state {
            State::Acquired { until, .. } => *until,
            _ => None,
        });
        locks.min()
    }

    /// Makes room for records up to and with `last`.
    fn extend(&mut self, last: u64) {
        if last < self.end {
            return;
        }
        let run = Run {
            last,
            state: State::Available,
            deliveries: 0,
        };
        self.runs.insert(self.end, run);
        self.end = last + 1;
    }

    fn split_around(&mut self, range: &RangeInclusive<u64>) {
        self.split(*range.start());
        self.split(range.end() + 1);
    }

    /// Has a run begin at `at`.
    fn split(&mut self, at: u64) {
        let Some((first, run)) = self.runs.range_mut(..at).next_back() else {
            return;
        };
        if run.last < at || *first == at {
            return;
        }
        let rest = run.clone();
        run.last = at - 1;
        self.runs.insert(at, rest);
    }

    /// Moves the start over what is done with.
    fn advance(&mut self) {
        while let Some(first) = self.runs.first_entry()
            && first.get().state == State::Done
        {
            self.start = first.get().last + 1;
            first.remove();
        }
    }

    /// Joins runs that have become alike in a range that has changed, and where it meets others.
    fn join(&mut self, range: &RangeInclusive<u64>) {
        let before = self.runs.range(..*range.start()).next_back();
        let mut at = before.map_or(*range.start(), |(first, _)| *first);
        let end = range.end().saturating_add(1);
        while let Some((&first, run)) = self.runs.range(at..=end).next() {
            let Some((&next, other)) = self.runs.range(first + 1..).next() else {
                break;
            };
            if next > end {
                break;
            }
            if !run.is_like(other) {
                at = next;
                continue;
            }
            let last = other.last;
            self.runs.remove(&next);
            if let Some(run) = self.runs.get_mut(&first) {
                run.last = last;
            }
            at = first;
        }
        self.advance();
    }

    fn join_all(&mut self) {
        self.join(&(self.start..=self.end));
    }

    /// What has to survive. Who has what does not: after a restart it is available again.
    pub fn write(&self) -> Bytes {
        let mut writer = Writer::with_capacity(FORMAT, 32);
        writer.varint(self.start);
        writer.varint(self.end);
        writer.varint(self.runs.len() as u64);
        for (first, run) in &self.runs {
            writer.varint(*first - self.start);
            writer.varint(run.last - first);
            writer.u8(match run.state {
                State::Available | State::Acquired { .. } => AVAILABLE,
                State::Done => DONE,
                State::Dying { rejected: false } => DYING,
                State::Dying { rejected: true } => REJECTED,
            });
            writer.varint(run.deliveries.into());
        }
        writer.done()
    }

    pub fn read(value: Bytes) -> Result<Window, StoreError> {
        let (_, mut reader) = Reader::versioned(value, FORMAT)?;
        let (start, end) = (reader.varint()?, reader.varint()?);
        let mut window = Window {
            start,
            end,
            runs: BTreeMap::new(),
        };
        for _ in 0..reader.varint()? {
            let first = start.saturating_add(reader.varint()?);
            let run = Run {
                last: first.saturating_add(reader.varint()?),
                state: match reader.u8()? {
                    AVAILABLE => State::Available,
                    DONE => State::Done,
                    DYING => State::Dying { rejected: false },
                    REJECTED => State::Dying { rejected: true },
                    _ => {
                        return Err(StoreError::Corrupt(
                            "state of a share group's records".into(),
                        ));
                    }
                },
                deliveries: reader.varint()? as u16,
            };
            window.runs.insert(first, run);
        }
        Ok(window)
    }
}

impl Run {
    fn is_like(&self, next: &Run) -> bool {
        let same = self.state == next.state && self.deliveries == next.deliveries;
        same || self.state == State::Done && next.state == State::Done
    }

    fn given_up(&self, first: u64, rejected: bool) -> GivenUp {
        GivenUp {
            first,
            last: self.last,
            deliveries: self.deliveries,
            rejected,
        }
    }

    fn give_up(&mut self, first: u64, rejected: bool, fate: Fate) -> GivenUp {
        self.state = match fate.has_dead_letters {
            true => State::Dying { rejected },
            false => State::Done,
        };
        self.given_up(first, rejected)
    }

    /// Available again, or given up when it was delivered as often as is allowed.
    fn release(&mut self, first: u64, fate: Fate) -> Option<GivenUp> {
        if self.deliveries < fate.deliveries_max || fate.deliveries_max == u16::MAX {
            self.state = State::Available;
            return None;
        }
        Some(self.give_up(first, false, fate))
    }
}

fn count_available(runs: &BTreeMap<u64, Run>) -> u64 {
    let runs = runs.iter();
    let open = runs.filter(|(_, run)| run.state == State::Available);
    open.map(|(first, run)| run.last - first + 1).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "somewhere to count from")]
    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(30))
    }

    fn fate(deliveries_max: u16) -> Fate {
        Fate {
            deliveries_max,
            has_dead_letters: false,
        }
    }

    fn ranges(acquired: &[Acquired]) -> Vec<(u64, u64, u16)> {
        acquired
            .iter()
            .map(|it| (it.first.0, it.last.0, it.deliveries))
            .collect()
    }

    #[test]
    fn records_are_acquired_once_and_the_start_follows_what_is_done() {
        let (mut window, soon) = (Window::new(Offset(10)), soon());
        let (a, b) = (Text::from("a"), Text::from("b"));
        assert_eq!(
            ranges(&window.acquire(10..=19, 100, false, &a, soon)),
            [(10, 19, 1)]
        );
        assert!(window.acquire(10..=19, 100, false, &b, soon).is_empty());
        assert_eq!(window.next_available(2000), Some(Offset(20)));
        assert!(window.holds(&(12..=14), &a) && !window.holds(&(12..=14), &b));
        assert!(!window.holds(&(9..=10), &a) && !window.holds(&(19..=20), &a));
        window.acknowledge(12..=14, Acknowledgement::Accept, soon, fate(5));
        assert_eq!(window.start(), Offset(10));
        window.acknowledge(10..=11, Acknowledgement::Accept, soon, fate(5));
        assert_eq!((window.start(), window.unfinished()), (Offset(15), 5));
        window.acknowledge(15..=15, Acknowledgement::Release, soon, fate(5));
        assert_eq!(
            ranges(&window.acquire(15..=30, 100, false, &b, soon)),
            [(15, 15, 2), (20, 30, 1)]
        );
    }

    /// KIP-1206: not one record more than the member asked for.
    #[test]
    fn a_strict_limit_splits_batches() {
        let (mut window, soon) = (Window::new(Offset(0)), soon());
        let a = Text::from("a");
        assert_eq!(
            ranges(&window.acquire(0..=9, 3, true, &a, soon)),
            [(0, 2, 1)]
        );
        assert_eq!(window.next_available(2000), Some(Offset(3)));
        assert_eq!(
            ranges(&window.acquire(0..=9, 3, false, &a, soon)),
            [(3, 9, 1)]
        );
    }

    #[test]
    fn what_was_delivered_too_often_is_given_up() {
        let (mut window, soon) = (Window::new(Offset(0)), soon());
        let a = Text::from("a");
        window.acquire(0..=1, 100, false, &a, soon);
        let rejected = window.acknowledge(1..=1, Acknowledgement::Reject, soon, fate(2));
        assert_eq!((rejected[0].first, rejected[0].rejected), (1, true));
        assert!(
            window
                .acknowledge(0..=0, Acknowledgement::Release, soon, fate(2))
                .is_empty()
        );
        window.acquire(0..=0, 100, false, &a, soon);
        let (changed, given_up) = window.release(fate(2), |_, until| until <= soon);
        assert!(changed);
        assert_eq!(
            (
                given_up[0].first,
                given_up[0].deliveries,
                given_up[0].rejected
            ),
            (0, 2, false)
        );
        assert_eq!(window.start(), Offset(2));
    }

    #[test]
    fn what_survives_is_available_with_its_count() {
        let (mut window, soon) = (Window::new(Offset(5)), soon());
        let a = Text::from("a");
        window.acquire(5..=9, 100, false, &a, soon);
        window.acknowledge(7..=7, Acknowledgement::Accept, soon, fate(5));
        let mut reopened = Window::read(window.write()).unwrap();
        assert_eq!(reopened.start(), Offset(5));
        let again = reopened.acquire(5..=9, 100, false, &a, soon);
        assert_eq!(ranges(&again), [(5, 6, 2), (8, 9, 2)]);
        window.trim(Offset(8));
        assert_eq!((window.start(), window.unfinished()), (Offset(8), 2));
        window.trim(Offset(50));
        assert_eq!(window.next_available(2000), Some(Offset(50)));
    }

    /// KIP-1191: what is given up holds the start until it has arrived, also over a restart.
    #[test]
    fn dead_letters_are_buried_when_they_have_arrived() {
        let (mut window, soon) = (Window::new(Offset(0)), soon());
        let (a, fate) = (
            Text::from("a"),
            Fate {
                deliveries_max: 1,
                has_dead_letters: true,
            },
        );
        window.acquire(0..=9, 100, false, &a, soon);
        window.acknowledge(0..=2, Acknowledgement::Reject, soon, fate);
        window.acknowledge(3..=3, Acknowledgement::Release, soon, fate);
        window.acknowledge(4..=9, Acknowledgement::Accept, soon, fate);
        assert_eq!(window.start(), Offset(0));
        assert!(window.acquire(0..=3, 100, false, &a, soon).is_empty());
        let mut window = Window::read(window.write()).unwrap();
        let dying: Vec<_> = window
            .dying()
            .iter()
            .map(|it| (it.first, it.last, it.rejected))
            .collect();
        assert_eq!(dying, [(0, 2, true), (3, 3, false)]);
        window.bury(0..=1);
        assert_eq!(window.start(), Offset(2));
        window.bury(2..=9);
        assert_eq!((window.start(), window.dying().len()), (Offset(10), 0));
    }

    /// Random operations against one state per record.
    #[test]
    fn runs_are_as_one_state_per_record() {
        const ENDS: u64 = 60;
        for seed in 0..300u64 {
            let mut random = seed;
            let mut below = |bound: u64| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(77_777);
                (random >> 33) % bound
            };
            let (mut window, soon) = (Window::new(Offset(0)), soon());
            // 0 not looked at, 1 available, 2 acquired, 3 done; and deliveries.
            let mut model = vec![(0u8, 0u16); ENDS as usize];
            let a = Text::from("a");
            for _ in 0..200 {
                let (first, length) = (below(ENDS - 5), below(5));
                let range = first..=first + length;
                if below(2) == 0 {
                    let first = first.max(window.start().0).min(ENDS - 6);
                    let range = first..=first + length;
                    let acquired = window.acquire(range.clone(), 1000, false, &a, soon);
                    let end = model
                        .iter()
                        .rposition(|(state, _)| *state > 0)
                        .map_or(0, |at| at + 1);
                    let looked_at = model.iter_mut().take(*range.end() as usize + 1);
                    looked_at
                        .skip(end)
                        .for_each(|record| record.0 = record.0.max(1));
                    let mut expected = Vec::new();
                    for at in range {
                        let record = &mut model[at as usize];
                        if record.0 == 1 {
                            *record = (2, record.1 + 1);
                            expected.push((at, record.1));
                        }
                    }
                    let got: Vec<_> = acquired
                        .iter()
                        .flat_map(|it| (it.first.0..=it.last.0).map(|at| (at, it.deliveries)))
                        .collect();
                    assert_eq!(got, expected, "seed {seed}");
                } else {
                    let held = range.clone().all(|at| model[at as usize].0 == 2);
                    assert_eq!(
                        window.holds(&range, &a),
                        held,
                        "seed {seed} {range:?} {window:?}"
                    );
                    if held {
                        let (acknowledgement, state) = match below(2) {
                            0 => (Acknowledgement::Accept, 3),
                            _ => (Acknowledgement::Release, 1),
                        };
                        window.acknowledge(range.clone(), acknowledgement, soon, fate(u16::MAX));
                        range.for_each(|at| model[at as usize].0 = state);
                    }
                }
                let start = model
                    .iter()
                    .position(|(state, _)| *state != 3)
                    .unwrap_or(model.len());
                assert_eq!(window.start().0, start as u64, "seed {seed}");
                assert_eq!(
                    Window::read(window.write()).unwrap().start(),
                    window.start()
                );
            }
        }
    }
}
