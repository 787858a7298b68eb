//! A map that is nearly always tiny: a vector of exactly its entries up to [`FEW_MAX`], a hash table above.

use std::{hash::Hash, mem};

use rustc_hash::FxHashMap;

/// Entries that are cheaper to search one by one than to hash.
const FEW_MAX: usize = 8;

#[derive(Debug)]
pub(crate) enum FewMap<K, V> {
    Few(Vec<(K, V)>),
    Many(Box<FxHashMap<K, V>>),
}

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        FewMap::Few(Vec::new())
    }
}

impl<K: Hash + Eq, V> FewMap<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self {
            FewMap::Few(few) => few.iter().find(|(known, _)| known == key).map(|(_, v)| v),
            FewMap::Many(many) => many.get(key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            FewMap::Few(few) => {
                let found = few.iter_mut().find(|(known, _)| known == key);
                found.map(|(_, v)| v)
            }
            FewMap::Many(many) => many.get_mut(key),
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self {
            FewMap::Few(few) => match few.iter().position(|(known, _)| *known == key) {
                Some(at) => few[at].1 = value,
                None if few.len() < FEW_MAX => {
                    few.reserve_exact(1);
                    few.push((key, value));
                }
                None => {
                    let mut many: FxHashMap<K, V> = mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    *self = FewMap::Many(Box::new(many));
                }
            },
            FewMap::Many(many) => {
                many.insert(key, value);
            }
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let (few, many) = match self {
            FewMap::Few(few) => (few.as_mut_slice(), None),
            FewMap::Many(many) => (Default::default(), Some(many)),
        };
        let few = few.iter_mut().map(|(k, v)| (&*k, v));
        few.chain(many.into_iter().flat_map(|many| many.iter_mut()))
    }

    pub(crate) fn into_values(self) -> impl Iterator<Item = V> {
        let (few, many) = match self {
            FewMap::Few(few) => (few, None),
            FewMap::Many(many) => (Vec::new(), Some(many)),
        };
        let few = few.into_iter().map(|(_, v)| v);
        few.chain(many.into_iter().flat_map(|many| many.into_values()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_the_same_map() {
        let mut map = FewMap::default();
        for round in 1..=2 {
            for key in 0..20u64 {
                map.insert(key, key * round);
            }
        }
        assert!(matches!(map, FewMap::Many(_)));
        for (_, value) in map.iter_mut() {
            *value += 1;
        }
        *map.get_mut(&3).unwrap() = 100;
        assert_eq!(
            (map.get(&2), map.get(&3), map.get(&20)),
            (Some(&5), Some(&100), None)
        );
        assert_eq!(map.into_values().sum::<u64>(), 20 + 2 * 190 + 100 - 7);
    }

    #[test]
    fn one_entry_has_memory_for_one() {
        let mut map = FewMap::default();
        map.insert(1, "first");
        map.insert(1, "second");
        assert_eq!(map.get(&1), Some(&"second"));
        let FewMap::Few(few) = map else {
            panic!("many")
        };
        assert_eq!(few.capacity(), 1);
    }
}
