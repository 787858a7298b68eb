//! Every binding by number, and found by what it is, where it leads from and where it leads.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;

use super::is_group;
use crate::{
    command::{Binding, Destination},
    id::{LogId, QueueId},
    properties::Text,
    store::values::catalog::arguments_key,
    topic::Grammar,
};

/// An exchange, by vhost and name.
pub(super) type ExchangeName = (Text, Text);

/// What a binding leads to, in a form that stays the same when the thing is described anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    Exchange(ExchangeName),
    Queue(QueueId),
    Log(LogId),
}

/// What makes a binding another one than the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub source: ExchangeName,
    pub end: End,
    key: Text,
    grammar: Grammar,
    arguments: Bytes,
}

impl Identity {
    pub(super) fn new(vhost: &Text, end: End, binding: &Binding) -> Identity {
        Identity {
            source: (vhost.clone(), binding.source.clone()),
            end,
            key: binding.key.clone(),
            grammar: binding.grammar,
            arguments: arguments_key(&binding.arguments),
        }
    }
}

/// A binding that is in force.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub identity: Arc<Identity>,
    pub binding: Binding,
    /// Whether it has a row.
    pub stored: bool,
}

/// The bindings of all vhosts.
#[derive(Clone, Debug, Default)]
pub(super) struct Bindings {
    /// In boxes: the nodes of a map that grows at its end are half empty.
    by_number: BTreeMap<u64, Box<Bound>>,
    by_identity: HashMap<Arc<Identity>, u64>,
    from: HashMap<ExchangeName, BTreeSet<u64>>,
    to: HashMap<End, BTreeSet<u64>>,
    subscriptions: usize,
    /// The greatest number so far.
    last: u64,
}

impl Bindings {
    /// A number that no binding has had since the broker was opened.
    pub(super) fn next_number(&self) -> u64 {
        self.last + 1
    }

    pub(super) fn number(&self, identity: &Identity) -> Option<u64> {
        self.by_identity.get(identity).copied()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Bound> {
        self.by_number.get(&number).map(|bound| &**bound)
    }

    /// Every binding with its vhost, in the order in which they were made.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Text, &Binding)> {
        self.by_number
            .values()
            .map(|bound| (&bound.identity.source.0, &bound.binding))
    }

    fn from(&self, source: &ExchangeName) -> Vec<u64> {
        self.from
            .get(source)
            .map(|numbers| numbers.iter().copied().collect())
            .unwrap_or_default()
    }

    /// How many bindings lead to something.
    pub(super) fn count_to(&self, end: &End) -> usize {
        self.to.get(end).map_or(0, BTreeSet::len)
    }

    pub(super) fn any_from(&self, source: &ExchangeName) -> bool {
        self.from.contains_key(source)
    }

    /// Numbers of the bindings from and to an exchange.
    pub(super) fn around(&self, exchange: &ExchangeName) -> Vec<u64> {
        let mut numbers = self.from(exchange);
        numbers.extend(self.to(&End::Exchange(exchange.clone())));
        numbers
    }

    /// Numbers of the bindings that lead to `end`.
    pub(super) fn to(&self, end: &End) -> Vec<u64> {
        self.to
            .get(end)
            .map(|numbers| numbers.iter().copied().collect())
            .unwrap_or_default()
    }

    /// How many are subscriptions of one client.
    pub(super) fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Adds a binding, or replaces the one of that number, which has the same identity.
    pub(super) fn insert(&mut self, number: u64, bound: Bound) {
        self.last = self.last.max(number);
        let is_new = self
            .by_identity
            .insert(bound.identity.clone(), number)
            .is_none();
        self.subscriptions += usize::from(is_new && is_subscription(&bound.binding));
        self.from
            .entry(bound.identity.source.clone())
            .or_default()
            .insert(number);
        self.to
            .entry(bound.identity.end.clone())
            .or_default()
            .insert(number);
        self.by_number.insert(number, Box::new(bound));
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Bound> {
        let bound = self.by_number.remove(&number)?;
        self.by_identity.remove(&bound.identity);
        self.subscriptions -= usize::from(is_subscription(&bound.binding));
        remove_from(&mut self.from, &bound.identity.source, number);
        remove_from(&mut self.to, &bound.identity.end, number);
        Some(*bound)
    }
}

/// Whether it leads to the session of one client; a group has a queue of its own.
fn is_subscription(binding: &Binding) -> bool {
    matches!(&binding.destination, Destination::Session(name) if !is_group(name))
}

fn remove_from<K: std::hash::Hash + Eq>(
    index: &mut HashMap<K, BTreeSet<u64>>,
    key: &K,
    number: u64,
) {
    if let Some(numbers) = index.get_mut(key) {
        numbers.remove(&number);
        if numbers.is_empty() {
            index.remove(key);
        }
    }
}
