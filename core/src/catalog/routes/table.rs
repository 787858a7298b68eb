//! The bindings of an exchange, kept so that it finds those that match.

use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::{
    super::{
        headers::HeaderMatch,
        hops::Hops,
        small_map::SmallMap,
        spread::{self, HashOn},
        topic_trie::TopicTrie,
    },
    LogEntry, Names, QueueEntry,
};
use crate::{
    command::{Binding, ExchangeKind, ExchangeSpec, Subscription},
    properties::Text,
    topic::{Grammar, Pattern, Topic},
};

/// The bindings of an exchange, by how it routes. Each has a number.
#[derive(Clone, Debug)]
pub(super) enum Table {
    Direct(Names<Edges>),
    Fanout(Edges),
    Topic(TopicTrie<Edge>),
    Headers(SmallMap<u64, (Arc<HeaderMatch>, Edge), FxBuildHasher>),
    /// With the weight of each binding.
    Hash(HashOn, Edges, SmallMap<u64, u32, FxBuildHasher>),
    Random(Edges),
    Modulus(Edges),
    Federation(Hops, Edges),
}

pub(super) type Edges = SmallMap<u64, Edge, FxBuildHasher>;

/// Where a binding leads.
#[derive(Clone, Debug)]
pub(in super::super) struct Edge {
    pub to: Place,
    pub subscription: Option<Subscription>,
    /// It is a log's own setting: publishers need permission on the log as well.
    pub guarded: bool,
}

/// A destination, found.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Queue(Arc<QueueEntry>),
    Log(Arc<LogEntry>),
    Exchange(Arc<str>),
}

impl Table {
    pub(super) fn new(spec: &ExchangeSpec) -> Table {
        // The catalog has checked what a delayed exchange says.
        match spec.routes_as().unwrap_or(ExchangeKind::Fanout) {
            ExchangeKind::Direct => Table::Direct(Names::default()),
            ExchangeKind::Fanout => Table::Fanout(Edges::default()),
            ExchangeKind::Topic => Table::Topic(TopicTrie::default()),
            ExchangeKind::Headers => Table::Headers(SmallMap::default()),
            ExchangeKind::ConsistentHash => {
                // The catalog has checked the arguments.
                let on = HashOn::new(spec).unwrap_or(HashOn::RoutingKey);
                Table::Hash(on, Edges::default(), SmallMap::default())
            }
            ExchangeKind::Random | ExchangeKind::LocalRandom => Table::Random(Edges::default()),
            ExchangeKind::ModulusHash => Table::Modulus(Edges::default()),
            ExchangeKind::RecentHistory | ExchangeKind::Delayed => Table::Fanout(Edges::default()),
            ExchangeKind::FederationUpstream => {
                Table::Federation(Hops::new(spec), Edges::default())
            }
        }
    }

    pub(super) fn bind(&mut self, number: u64, binding: &Binding, edge: Edge) {
        match self {
            Table::Direct(keys) => {
                let key = direct_key(binding);
                match keys.get_mut(&*key) {
                    Some(edges) => edges.insert(number, edge),
                    None => {
                        let mut edges = Edges::default();
                        edges.insert(number, edge);
                        keys.insert(key, edges);
                    }
                }
            }
            Table::Fanout(edges)
            | Table::Random(edges)
            | Table::Modulus(edges)
            | Table::Federation(_, edges) => {
                edges.insert(number, edge);
            }
            Table::Hash(_, edges, weights) => {
                // The catalog has checked the key.
                weights.insert(number, spread::weight(&binding.key).unwrap_or(1));
                edges.insert(number, edge);
            }
            Table::Topic(trie) => trie.insert(&pattern(binding), number, edge),
            Table::Headers(edges) => {
                // The catalog has checked the arguments; from a damaged row none is better than a wrong one.
                if let Ok(condition) = HeaderMatch::new(&binding.arguments) {
                    edges.insert(number, (Arc::new(condition), edge));
                }
            }
        }
    }

    pub(super) fn unbind(&mut self, number: u64, binding: &Binding) {
        match self {
            Table::Direct(keys) => {
                let key = direct_key(binding);
                if let Some(edges) = keys.get_mut(&*key) {
                    edges.remove(&number);
                    if edges.is_empty() {
                        keys.remove(&*key);
                    }
                }
            }
            Table::Fanout(edges)
            | Table::Random(edges)
            | Table::Modulus(edges)
            | Table::Federation(_, edges) => {
                edges.remove(&number);
            }
            Table::Hash(_, edges, weights) => {
                edges.remove(&number);
                weights.remove(&number);
            }
            Table::Topic(trie) => trie.remove(&pattern(binding), number),
            Table::Headers(edges) => {
                edges.remove(&number);
            }
        }
    }
}

fn direct_key(binding: &Binding) -> Text {
    Topic::new(binding.key.clone(), binding.grammar).render(Grammar::Dots)
}

fn pattern(binding: &Binding) -> Pattern {
    Pattern::new(binding.key.clone(), binding.grammar)
}
