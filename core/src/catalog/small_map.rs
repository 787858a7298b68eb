//! A persistent map for places where most maps are tiny and a few are huge: a plain vector up to
//! [`FEW_MAX`] entries, a hash trie above, so that a clone never costs more than a few entries.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
};

use imbl::{GenericHashMap, shared_ptr::DefaultSharedPtr};

/// Entries that are cheaper to search one by one than to hash.
const FEW_MAX: usize = 8;

#[derive(Clone)]
pub(crate) enum SmallMap<K, V, S> {
    Few(Vec<(K, V)>),
    Many(GenericHashMap<K, V, S, DefaultSharedPtr>),
}

impl<K, V, S> Default for SmallMap<K, V, S> {
    fn default() -> Self {
        SmallMap::Few(Vec::new())
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for SmallMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmallMap::Few(few) => f
                .debug_map()
                .entries(few.iter().map(|(k, v)| (k, v)))
                .finish(),
            SmallMap::Many(many) => f.debug_map().entries(many.iter()).finish(),
        }
    }
}

impl<K, V, S> SmallMap<K, V, S>
where
    K: Hash + Eq + Clone,
    V: Clone,
    S: BuildHasher + Default + Clone,
{
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self {
            SmallMap::Few(few) => few.iter().find(|(k, _)| k.borrow() == key).map(|(_, v)| v),
            SmallMap::Many(many) => many.get(key),
        }
    }

    pub(crate) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self {
            SmallMap::Few(few) => few
                .iter_mut()
                .find(|(k, _)| (*k).borrow() == key)
                .map(|(_, v)| v),
            SmallMap::Many(many) => many.get_mut(key),
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self {
            SmallMap::Few(few) => match few.iter().position(|(k, _)| *k == key) {
                Some(at) => few[at].1 = value,
                None if few.len() < FEW_MAX => {
                    few.reserve_exact(1);
                    few.push((key, value));
                }
                None => {
                    let mut many = GenericHashMap::default();
                    many.extend(few.drain(..));
                    many.insert(key, value);
                    *self = SmallMap::Many(many);
                }
            },
            SmallMap::Many(many) => {
                many.insert(key, value);
            }
        }
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self {
            SmallMap::Few(few) => {
                let at = few.iter().position(|(k, _)| k.borrow() == key)?;
                Some(few.remove(at).1)
            }
            SmallMap::Many(many) => many.remove(key),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            SmallMap::Few(few) => few.is_empty(),
            SmallMap::Many(many) => many.is_empty(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            SmallMap::Few(few) => few.len(),
            SmallMap::Many(many) => many.len(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (few, many) = match self {
            SmallMap::Few(few) => (few.as_slice(), None),
            SmallMap::Many(many) => (Default::default(), Some(many)),
        };
        few.iter()
            .map(|(k, v)| (k, v))
            .chain(many.into_iter().flat_map(|many| many.iter()))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        let (few, many) = match self {
            SmallMap::Few(few) => (few.as_slice(), None),
            SmallMap::Many(many) => (Default::default(), Some(many)),
        };
        few.iter()
            .map(|(_, v)| v)
            .chain(many.into_iter().flat_map(|many| many.values()))
    }
}
