//! Ranges that were forgotten, merged before they are written as range tombstones.
//!
//! A queue that is written and consumed all the time forgets its head with every few chunks.
//! Every reader pays for every tombstone in a memtable, so tombstones are written now and then and
//! for as long a range as possible, not one per hint.

use std::{collections::BTreeMap, ops::Bound, ops::Range};

use bytes::Bytes;
use trivium_core::store::Table;

/// Sets of keys per table, as disjoint ranges that do not touch.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// End by start.
    ranges: [BTreeMap<Bytes, Bytes>; Table::ALL.len()],
    count: usize,
}

impl Forgotten {
    pub(super) fn insert(&mut self, table: Table, range: Range<Bytes>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        let ranges = &mut self.ranges[table as usize];
        while let Some((found_start, found_end)) = last_before(ranges, &end) {
            if found_end < start {
                break;
            }
            ranges.remove(&found_start);
            self.count -= 1;
            start = start.min(found_start);
            end = end.max(found_end);
        }
        ranges.insert(start, end);
        self.count += 1;
    }

    /// Takes the range that holds `key` out.
    pub(super) fn take_range_of(&mut self, table: Table, key: &[u8]) -> Option<Range<Bytes>> {
        let ranges = &mut self.ranges[table as usize];
        let (start, end) = last_before(ranges, key).filter(|(_, end)| key < end)?;
        ranges.remove(&start);
        self.count -= 1;
        Some(start..end)
    }

    /// Takes everything out, table by table in ascending order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Table, Range<Bytes>)> + use<> {
        let ranges = std::mem::take(self).ranges;
        Table::ALL
            .into_iter()
            .zip(ranges)
            .flat_map(|(table, ranges)| {
                ranges
                    .into_iter()
                    .map(move |(start, end)| (table, start..end))
            })
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// The last range that starts at `key` or before.
fn last_before(ranges: &BTreeMap<Bytes, Bytes>, key: &[u8]) -> Option<(Bytes, Bytes)> {
    let bounds = (Bound::Unbounded, Bound::Included(key));
    let (start, end) = ranges.range::<[u8], _>(bounds).next_back()?;
    Some((start.clone(), end.clone()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Bytes {
        Bytes::copy_from_slice(&[n])
    }

    /// The ranges that are left of some, as pairs of start and end.
    fn merged(ranges: &[(u8, u8)]) -> Vec<(u8, u8)> {
        let mut forgotten = Forgotten::default();
        for &(start, end) in ranges {
            forgotten.insert(Table::State, key(start)..key(end));
        }
        let count = forgotten.len();
        let taken: Vec<_> = forgotten
            .take()
            .map(|(_, range)| (range.start[0], range.end[0]))
            .collect();
        assert_eq!(count, taken.len());
        assert!(forgotten.is_empty());
        taken
    }

    #[test]
    fn ranges_that_touch_become_one() {
        assert_eq!(merged(&[(0, 3), (3, 5), (5, 9)]), [(0, 9)]);
        assert_eq!(merged(&[(5, 9), (0, 3), (3, 5)]), [(0, 9)]);
        assert_eq!(merged(&[(0, 3), (4, 5)]), [(0, 3), (4, 5)]);
        assert_eq!(merged(&[(4, 4)]), []);
    }

    #[test]
    fn a_range_is_found_by_a_key_in_it() {
        let mut forgotten = Forgotten::default();
        forgotten.insert(Table::State, key(2)..key(5));
        assert_eq!(forgotten.take_range_of(Table::State, &[1]), None);
        assert_eq!(forgotten.take_range_of(Table::State, &[5]), None);
        assert_eq!(forgotten.take_range_of(Table::Messages, &[3]), None);
        assert_eq!(
            forgotten.take_range_of(Table::State, &[4, 9]),
            Some(key(2)..key(5))
        );
        assert!(forgotten.is_empty());
    }

    proptest! {
        #[test]
        fn holds_the_same_keys_in_the_fewest_ranges(ranges in prop::collection::vec((0u8..40, 0u8..40), 0..12)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let merged = merged(&ranges);
            for n in 0..40 {
                let holds = |ranges: &[(u8, u8)]| ranges.iter().any(|&(start, end)| (start..end).contains(&n));
                prop_assert_eq!(holds(&merged), holds(&ranges));
            }
            prop_assert!(merged.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
