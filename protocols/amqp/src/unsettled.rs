//! The deliveries of one channel that wait for an acknowledgement (basic.ack, section 1.8.3.13).
//!
//! Delivery tags count over all consumers of a channel, in the order of delivery, so the deliveries lie in a
//! queue sorted by tag. One that is settled out of order leaves a hole; holes are swept out when they
//! outnumber the rest, so memory is bounded by what is unsettled.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;
use trivium_core::{ConsumerId, DeliveryId};

/// A delivery that is being settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its tag on the channel.
    pub tag: u64,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// Which of the consumer's.
    pub delivery: DeliveryId,
}

const SWEEP_MIN: usize = 64;

/// Delivered and not yet settled, oldest first.
#[derive(Debug, Default)]
pub struct Unsettled {
    entries: VecDeque<Entry>,
    holes: usize,
    last_tag: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u64,
    delivery: DeliveryId,
    consumer: ConsumerId,
    settled: bool,
}

impl Entry {
    fn taken(&self) -> Taken {
        Taken {
            tag: self.tag,
            consumer: self.consumer,
            delivery: self.delivery,
        }
    }
}

impl Unsettled {
    /// The tag of the next delivery, which needs no acknowledgement.
    pub fn skip(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// The tag of the next delivery, which is to be settled.
    pub fn push(&mut self, consumer: ConsumerId, delivery: DeliveryId) -> u64 {
        let tag = self.skip();
        self.entries.push_back(Entry {
            tag,
            delivery,
            consumer,
            settled: false,
        });
        tag
    }

    /// How many deliveries are unsettled that are not those of `others`.
    pub fn count_without(&self, others: &FxHashSet<ConsumerId>) -> usize {
        let counts = |entry: &&Entry| !entry.settled && !others.contains(&entry.consumer);
        self.entries.iter().filter(counts).count()
    }

    /// Takes one delivery; `None` if the tag is not one of an unsettled delivery.
    pub fn take(&mut self, tag: u64) -> Option<Taken> {
        let index = self.index(tag)?;
        let entry = &mut self.entries[index];
        if entry.settled {
            return None;
        }
        entry.settled = true;
        let taken = entry.taken();
        self.holes += 1;
        self.sweep();
        Some(taken)
    }

    /// Takes all deliveries up to `tag`, or all there are if it is 0; `None` if `tag` is not one of an unsettled delivery.
    pub fn take_through(&mut self, tag: u64) -> Option<impl Iterator<Item = Taken> + '_> {
        let count = match tag {
            0 => self.entries.len(),
            _ => {
                self.index(tag)
                    .filter(|index| !self.entries[*index].settled)?
                    + 1
            }
        };
        self.holes -= self
            .entries
            .range(..count)
            .filter(|entry| entry.settled)
            .count();
        Some(
            self.entries
                .drain(..count)
                .filter(|entry| !entry.settled)
                .map(|entry| entry.taken()),
        )
    }

    /// Puts deliveries back that were taken and are not settled after all.
    pub fn restore(&mut self, taken: Vec<Taken>) {
        if taken.is_empty() {
            return;
        }
        let mut entries: Vec<Entry> = self
            .entries
            .drain(..)
            .filter(|entry| !entry.settled)
            .collect();
        entries.extend(taken.into_iter().map(|taken| Entry {
            tag: taken.tag,
            delivery: taken.delivery,
            consumer: taken.consumer,
            settled: false,
        }));
        entries.sort_unstable_by_key(|entry| entry.tag);
        self.entries = entries.into();
        self.holes = 0;
    }

    fn index(&self, tag: u64) -> Option<usize> {
        let first = self.entries.front()?.tag;
        // Without gaps, the distance of the tags is the distance of the entries.
        let guess = usize::try_from(tag.checked_sub(first)?).ok()?;
        match self.entries.get(guess) {
            Some(entry) if entry.tag == tag => Some(guess),
            _ => self
                .entries
                .binary_search_by_key(&tag, |entry| entry.tag)
                .ok(),
        }
    }

    fn sweep(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.settled) {
            self.entries.pop_front();
            self.holes -= 1;
        }
        if self.holes > SWEEP_MIN && self.holes * 2 > self.entries.len() {
            self.entries.retain(|entry| !entry.settled);
            self.holes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONSUMER: ConsumerId = ConsumerId(7);

    fn delivered(count: u64) -> Unsettled {
        let mut unsettled = Unsettled::default();
        for delivery in 1..=count {
            assert_eq!(unsettled.push(CONSUMER, DeliveryId(delivery)), delivery);
        }
        unsettled
    }

    fn through(unsettled: &mut Unsettled, tag: u64) -> Option<Vec<u64>> {
        unsettled
            .take_through(tag)
            .map(|taken| taken.map(|taken| taken.delivery.0).collect())
    }

    #[test]
    fn a_tag_is_taken_once() {
        let mut unsettled = delivered(3);
        let taken = Taken {
            tag: 2,
            consumer: CONSUMER,
            delivery: DeliveryId(2),
        };
        assert_eq!(unsettled.take(2), Some(taken));
        assert_eq!(unsettled.take(2), None);
        assert_eq!(unsettled.take(4), None);
        assert_eq!(through(&mut unsettled, 2), None);
        assert_eq!(through(&mut unsettled, 3), Some(vec![1, 3]));
        assert_eq!(through(&mut unsettled, 0), Some(vec![]));
    }

    #[test]
    fn what_is_restored_is_in_its_place_again() {
        let mut unsettled = delivered(6);
        let mut taken = vec![unsettled.take(5).unwrap(), unsettled.take(2).unwrap()];
        unsettled.take(3).unwrap();
        taken.extend(unsettled.take_through(1).unwrap());
        unsettled.restore(taken);
        assert_eq!(through(&mut unsettled, 2), Some(vec![1, 2]));
        assert_eq!(unsettled.take(3), None);
        assert_eq!(through(&mut unsettled, 0), Some(vec![4, 5, 6]));
    }

    #[test]
    fn memory_is_bounded_by_what_is_unsettled() {
        let mut unsettled = delivered(1);
        for delivery in 2..10_000 {
            let tag = unsettled.push(CONSUMER, DeliveryId(delivery));
            assert!(unsettled.take(tag).is_some());
        }
        assert!(unsettled.entries.len() < 3 * SWEEP_MIN);
        assert_eq!(through(&mut unsettled, 1), Some(vec![1]));
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_map(steps in proptest::collection::vec((0u8..4, 0u64..40), 1..200)) {
            let mut unsettled = Unsettled::default();
            let mut model = std::collections::BTreeMap::new();
            for (step, tag) in steps {
                match step {
                    0 => { unsettled.skip(); }
                    1 => { let tag = unsettled.push(CONSUMER, DeliveryId(tag)); model.insert(tag, unsettled.last_tag); }
                    2 => prop_assert_eq!(unsettled.take(tag).is_some(), model.remove(&tag).is_some()),
                    _ => {
                        let known = tag == 0 || model.contains_key(&tag);
                        let taken = through(&mut unsettled, tag).map(|taken| taken.len());
                        let before = model.len();
                        if known {
                            model.retain(|key, _| tag != 0 && *key > tag);
                        }
                        prop_assert_eq!(taken, known.then_some(before - model.len()));
                    }
                }
            }
        }
    }
}
