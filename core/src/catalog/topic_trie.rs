//! One persistent trie for AMQP topic patterns and MQTT filters: a change copies the path it touches
//! and shares the rest with older snapshots.
//!
//! Matching walks all states of the trie side by side, one topic token at a time (a `#` state stays
//! where it is), so it costs tokens × states whatever the patterns are: consecutive or many `#` do not
//! multiply. Patterns are kept in a canonical form: in a run of wildcards all `*` come before one `#`.

use std::{hash::RandomState, sync::Arc};

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::small_map::SmallMap;
use crate::{
    properties::Text,
    topic::{Grammar, Pattern, Step, Topic},
};

/// Levels of a pattern at most: what an AMQP key of 255 bytes can have, and a bound on recursion.
pub(crate) const LEVELS_MAX: usize = 256;

/// Values under patterns, each with a number that is unique within its pattern.
#[derive(Clone, Debug)]
pub(crate) struct TopicTrie<V> {
    root: Arc<Node<V>>,
}

#[derive(Clone, Debug)]
struct Node<V> {
    /// Keyed by unescaped token.
    tokens: SmallMap<Text, Arc<Node<V>>, RandomState>,
    /// `*`
    one: Option<Arc<Node<V>>>,
    /// `#`
    many: Option<Arc<Node<V>>>,
    /// Of patterns that end here.
    values: SmallMap<u64, V, FxBuildHasher>,
}

/// Which patterns may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leading {
    /// All.
    Any,
    /// Only those whose first step is not a wildcard.
    Literal,
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Node {
            tokens: SmallMap::default(),
            one: None,
            many: None,
            values: SmallMap::default(),
        }
    }
}

impl<V> Default for TopicTrie<V> {
    fn default() -> Self {
        TopicTrie {
            root: Arc::default(),
        }
    }
}

impl<V: Clone> TopicTrie<V> {
    /// Puts a value under a pattern, replacing the one of the same number.
    pub(crate) fn insert(&mut self, pattern: &Pattern, number: u64, value: V) {
        let mut node = Arc::make_mut(&mut self.root);
        for step in canonical(pattern) {
            node = Arc::make_mut(node.child_or_default(step));
        }
        node.values.insert(number, value);
    }

    /// Takes a value away; one that is not there is ignored.
    pub(crate) fn remove(&mut self, pattern: &Pattern, number: u64) {
        remove_below(&mut self.root, &canonical(pattern), number);
    }

    /// Calls `visit` for each pattern that matches, with its values.
    ///
    /// A topic whose first token begins with `$` is not seen by patterns that begin with a wildcard
    /// (MQTT 5, 4.7.2).
    pub(crate) fn for_each_match<'a>(
        &'a self,
        topic: &Topic,
        leading: Leading,
        mut visit: impl FnMut(&'a V),
    ) {
        let text: &str = topic.text();
        let leading = if text.starts_with('$') {
            Leading::Literal
        } else {
            leading
        };
        let mut visit = |node: &'a Node<V>| node.values.values().for_each(&mut visit);
        if text.is_empty() {
            // As RabbitMQ has it: an empty key has no tokens.
            walk(&self.root, std::iter::empty::<&str>(), leading, &mut visit);
        } else if text.contains('%') {
            walk(&self.root, topic.tokens(), leading, &mut visit);
        } else {
            walk(
                &self.root,
                text.split(topic.grammar().separator()),
                leading,
                &mut visit,
            );
        }
    }
}

impl<V: Clone> TopicTrie<V> {
    /// Whether a topic that begins with these tokens may match a pattern with a value of this kind.
    pub(crate) fn may_match(
        &self,
        prefix: &[String],
        leading: Leading,
        wanted: &impl Fn(&V) -> bool,
    ) -> bool {
        if prefix.is_empty() && leading == Leading::Literal {
            return self.root.tokens.values().any(|it| it.holds(wanted));
        }
        let mut found = false;
        walk(&self.root, prefix.iter(), leading, &mut |state| {
            found |= state.holds(wanted);
        });
        found
    }
}

impl<V: Clone> Node<V> {
    /// Whether this pattern, or one that goes on from it, has a value of this kind.
    fn holds(&self, wanted: &impl Fn(&V) -> bool) -> bool {
        self.values.values().any(wanted)
            || self.tokens.values().any(|child| child.holds(wanted))
            || self.one.iter().chain(&self.many).any(|it| it.holds(wanted))
    }

    fn child_or_default(&mut self, step: Step<'_>) -> &mut Arc<Node<V>> {
        match step {
            Step::One => self.one.get_or_insert_default(),
            Step::Many => self.many.get_or_insert_default(),
            Step::Token(token) => {
                if self.tokens.get(&*token).is_none() {
                    self.tokens.insert(Text::from(&*token), Arc::default());
                }
                self.tokens
                    .get_mut(&*token)
                    .expect("the token has just been inserted")
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.values.is_empty()
            && self.tokens.is_empty()
            && self.one.is_none()
            && self.many.is_none()
    }
}

/// A place that the walk is in.
struct State<'a, V> {
    node: &'a Node<V>,
    /// It was reached by `#`, so it may stay for any number of tokens.
    stays: bool,
}

type States<'a, V> = SmallVec<[State<'a, V>; 8]>;

fn walk<'a, V: Clone, T: AsRef<str>>(
    root: &'a Node<V>,
    tokens: impl Iterator<Item = T>,
    leading: Leading,
    visit: &mut impl FnMut(&'a Node<V>),
) {
    let (mut active, mut next) = (States::new(), States::new());
    let mut wildcards = leading == Leading::Any;
    enter(root, wildcards, &mut active);
    for token in tokens {
        for state in active.drain(..) {
            if let Some(child) = state.node.tokens.get(token.as_ref()) {
                enter(child, true, &mut next);
            }
            if let Some(child) = state.node.one.as_deref().filter(|_| wildcards) {
                enter(child, true, &mut next);
            }
            if state.stays {
                next.push(state);
            }
        }
        if next.is_empty() {
            return;
        }
        forget_twins(&mut next);
        std::mem::swap(&mut active, &mut next);
        wildcards = true;
    }
    active.iter().for_each(|state| visit(state.node));
}

/// Adds a node and, because `#` also stands for no token, the one behind its `#`.
fn enter<'a, V>(node: &'a Node<V>, wildcards: bool, states: &mut States<'a, V>) {
    states.push(State { node, stays: false });
    if let Some(many) = node.many.as_deref().filter(|_| wildcards) {
        states.push(State {
            node: many,
            stays: true,
        });
    }
}

/// A `#` node is reached from itself and from its parent; only these can be there twice.
fn forget_twins<V>(states: &mut States<'_, V>) {
    if states.iter().filter(|state| state.stays).count() > 1 {
        states.sort_unstable_by_key(|state| std::ptr::from_ref(state.node));
        states.dedup_by(|a, b| std::ptr::eq(a.node, b.node));
    }
}

/// Removes a value below `node`, pruning what becomes empty.
fn remove_below<V: Clone>(node: &mut Arc<Node<V>>, steps: &[Step<'_>], number: u64) {
    let Some((step, rest)) = steps.split_first() else {
        Arc::make_mut(node).values.remove(&number);
        return;
    };
    let node = Arc::make_mut(node);
    match step {
        Step::Token(token) => {
            let Some(child) = node.tokens.get_mut(&**token) else {
                return;
            };
            remove_below(child, rest, number);
            if child.is_empty() {
                node.tokens.remove(&**token);
            }
        }
        Step::One => remove_from_slot(&mut node.one, rest, number),
        Step::Many => remove_from_slot(&mut node.many, rest, number),
    }
}

fn remove_from_slot<V: Clone>(slot: &mut Option<Arc<Node<V>>>, rest: &[Step<'_>], number: u64) {
    let Some(child) = slot else { return };
    remove_below(child, rest, number);
    if child.is_empty() {
        *slot = None;
    }
}

/// The steps, with every run of wildcards that holds a `#` as its `*` and then one `#`.
fn canonical(pattern: &Pattern) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    if pattern.text().is_empty() {
        return steps;
    }
    let mut many = false;
    for step in pattern.steps() {
        match step {
            Step::Many => many = true,
            Step::One => steps.push(Step::One),
            Step::Token(_) => {
                if std::mem::take(&mut many) {
                    steps.push(Step::Many);
                }
                steps.push(step);
            }
        }
    }
    if many {
        steps.push(Step::Many);
    }
    steps
}

/// Whether a pattern has more levels than [`LEVELS_MAX`].
pub(crate) fn is_too_deep(text: &str, grammar: Grammar) -> bool {
    text.split(grammar.separator()).nth(LEVELS_MAX).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(steps: &[Step<'_>], tokens: &[&str]) -> bool {
        match (steps, tokens) {
            ([], []) => true,
            ([Step::Many, rest @ ..], _) => {
                (0..=tokens.len()).any(|skip| naive(rest, &tokens[skip..]))
            }
            ([Step::One, steps @ ..], [_, tokens @ ..]) => naive(steps, tokens),
            ([Step::Token(token), steps @ ..], [first, tokens @ ..]) => {
                token == first && naive(steps, tokens)
            }
            _ => false,
        }
    }

    /// Whether `pattern` matches `topic`, both in dots, by the definition.
    fn matches(pattern: &str, topic: &str, leading: Leading) -> bool {
        let tokens: Vec<_> = if topic.is_empty() {
            vec![]
        } else {
            topic.split('.').collect()
        };
        let spelled = Pattern::new(pattern.into(), Grammar::Dots);
        let steps: Vec<_> = if pattern.is_empty() {
            vec![]
        } else {
            spelled.steps().collect()
        };
        let wild = matches!(steps.first(), Some(Step::One | Step::Many));
        !(wild && (leading == Leading::Literal || topic.starts_with('$'))) && naive(&steps, &tokens)
    }

    fn found(trie: &TopicTrie<usize>, topic: &str, leading: Leading) -> Vec<usize> {
        let mut found = Vec::new();
        trie.for_each_match(&Topic::new(topic.into(), Grammar::Dots), leading, |value| {
            found.push(*value)
        });
        found.sort_unstable();
        found
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text.into(), Grammar::Dots)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn agrees_with_a_naive_matcher(
            patterns in prop::collection::vec("([ab$]?|[*#])(\\.([ab]?|[*#])){0,6}", 1..30),
            topics in prop::collection::vec("[ab$]?(\\.[ab]?){0,7}", 1..8),
            removed in prop::collection::vec(any::<bool>(), 30),
        ) {
            let mut trie = TopicTrie::default();
            for (i, text) in patterns.iter().enumerate() {
                trie.insert(&pattern(text), i as u64, i);
            }
            let before = trie.clone();
            for (i, text) in patterns.iter().enumerate().filter(|(i, _)| removed[*i]) {
                trie.remove(&pattern(text), i as u64);
            }
            for topic in &topics {
                for leading in [Leading::Any, Leading::Literal] {
                    let all: Vec<_> = (0..patterns.len()).filter(|i| matches(&patterns[*i], topic, leading)).collect();
                    prop_assert_eq!(found(&before, topic, leading), all.clone(), "{}", topic);
                    let left: Vec<_> = all.into_iter().filter(|i| !removed[*i]).collect();
                    prop_assert_eq!(found(&trie, topic, leading), left, "{}", topic);
                }
            }
            for (i, text) in patterns.iter().enumerate() {
                trie.remove(&pattern(text), i as u64);
            }
            prop_assert!(trie.root.is_empty());
        }
    }

    #[test]
    fn many_wildcards_do_not_multiply() {
        let mut trie = TopicTrie::default();
        let hostile = ["#.a"; 60].join(".");
        trie.insert(&pattern(&hostile), 1, 1);
        trie.insert(&pattern(&["#"; 100].join(".")), 2, 2);
        // Exponential matching would not end.
        assert_eq!(
            found(&trie, &format!("{}.b", ["a"; 120].join(".")), Leading::Any),
            [2]
        );
        assert_eq!(found(&trie, &["a"; 120].join("."), Leading::Any), [1, 2]);
    }

    #[test]
    fn a_token_may_hold_the_other_grammars_separator() {
        let mut trie = TopicTrie::default();
        trie.insert(&Pattern::new("v1.0/+".into(), Grammar::Slashes), 1, 1);
        assert_eq!(found(&trie, "v1%2E0.x", Leading::Any), [1]);
        assert_eq!(found(&trie, "v1.0.x", Leading::Any), [0; 0]);
    }

    #[test]
    fn an_empty_key_has_no_tokens() {
        let mut trie = TopicTrie::default();
        for (i, text) in ["", "*", "#"].into_iter().enumerate() {
            trie.insert(&pattern(text), i as u64, i);
        }
        assert_eq!(found(&trie, "", Leading::Any), [0, 2]);
    }
}
