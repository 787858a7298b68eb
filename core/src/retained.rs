//! Retained messages of one vhost: the last one of each topic, found by patterns.
//!
//! Topics are kept in the order of their levels, so that what a pattern can match lies together and the
//! search jumps from one candidate to the next: wildcards cost what they return.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use crate::{
    event::Retained,
    message::Message,
    properties::Text,
    time::Timestamp,
    topic::{Grammar, Pattern, Step, Topic, escape},
};

/// The retained messages of one vhost.
#[derive(Debug, Default)]
pub(crate) struct RetainedStore {
    messages: BTreeMap<Levels, Retained>,
    bytes: usize,
}

/// A topic in the grammar of slashes, ordered level by level.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Levels(Text);

impl Levels {
    fn of(topic: &Topic) -> Levels {
        Levels(topic.render(Grammar::Slashes))
    }
}

impl Ord for Levels {
    /// The separator comes before every other byte, so that a topic is followed by what is below it.
    fn cmp(&self, other: &Levels) -> Ordering {
        let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
        self.0.bytes().map(rank).cmp(other.0.bytes().map(rank))
    }
}

impl PartialOrd for Levels {
    fn partial_cmp(&self, other: &Levels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl RetainedStore {
    /// Replaces the message of a topic. Returns the old one.
    pub(crate) fn set(
        &mut self,
        topic: &Topic,
        message: Arc<Message>,
        accepted: Timestamp,
    ) -> Option<Retained> {
        self.bytes += message.size();
        let old = self
            .messages
            .insert(Levels::of(topic), Retained { message, accepted });
        self.bytes -= old.as_ref().map_or(0, |old| old.message.size());
        old
    }

    /// Removes the message of a topic.
    pub(crate) fn clear(&mut self, topic: &Topic) -> Option<Retained> {
        let old = self.messages.remove(&Levels::of(topic))?;
        self.bytes -= old.message.size();
        Some(old)
    }

    /// At most `limit` messages whose topics match, in the order of their topics. Patterns that begin with a
    /// wildcard do not see topics that begin with `$` (MQTT 5, 4.7.2).
    pub(crate) fn matching(&self, pattern: &Pattern, limit: usize) -> Vec<Retained> {
        let wanted = Wanted::new(pattern);
        let mut found = Vec::new();
        let mut candidates = self.messages.range(Levels(Text::default())..);
        while found.len() < limit
            && let Some((topic, retained)) = candidates.next()
        {
            match wanted.look_at(&topic.0) {
                Verdict::Matches => found.push(retained.clone()),
                Verdict::Next => {}
                Verdict::End => break,
                Verdict::Seek(next) => candidates = self.messages.range(Levels(next.into())..),
            }
        }
        found
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Their size in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A pattern, taken apart for the search.
struct Wanted {
    /// The steps before the first `#`.
    head: Vec<Level>,
    /// The first `#` and what follows.
    tail: Vec<Level>,
    /// Topics that begin with `$` are out.
    hides_dollar: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Level {
    /// Spelled as in [`Levels`].
    Token(String),
    One,
    Many,
}

impl Level {
    /// Whether it matches exactly this level.
    fn takes(&self, level: &str) -> bool {
        match self {
            Level::Token(token) => token == level,
            Level::One => true,
            Level::Many => false,
        }
    }
}

/// What to do after looking at a topic.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Matches,
    Next,
    /// Nothing before this can match.
    Seek(String),
    /// Nothing that follows can match.
    End,
}

impl Verdict {
    /// Goes on behind a topic and all that is below it.
    fn behind(topic: &str) -> Verdict {
        Verdict::Seek(format!("{topic}\0"))
    }
}

impl Wanted {
    fn new(pattern: &Pattern) -> Wanted {
        let mut head: Vec<_> = pattern.steps().map(Level::from).collect();
        let hides_dollar = matches!(head.first(), Some(Level::One | Level::Many));
        let tail = head.split_off(
            head.iter()
                .position(|level| *level == Level::Many)
                .unwrap_or(head.len()),
        );
        Wanted {
            head,
            tail,
            hides_dollar,
        }
    }

    fn look_at(&self, topic: &str) -> Verdict {
        if self.hides_dollar && topic.starts_with('$') {
            // `%` is the character after `$`.
            return Verdict::Seek("%".into());
        }
        let mut parent = None;
        let mut rest = Some(topic);
        for wanted in &self.head {
            // What is below this topic comes next.
            let Some(here) = rest else {
                return Verdict::Next;
            };
            let start = topic.len() - here.len();
            let (level, below) = split_level(here);
            if let Level::Token(token) = wanted {
                match level.cmp(token) {
                    Ordering::Less => return Verdict::Seek(format!("{}{token}", &topic[..start])),
                    Ordering::Equal => {}
                    Ordering::Greater => return parent.map_or(Verdict::End, Verdict::behind),
                }
            }
            parent = Some(&topic[..start + level.len()]);
            rest = below;
        }
        match (rest, &self.tail[..]) {
            (None, []) | (_, [Level::Many]) => Verdict::Matches,
            (Some(_), []) => parent.map_or(Verdict::End, Verdict::behind),
            (rest, tail) => {
                let levels: Vec<_> = rest.into_iter().flat_map(|rest| rest.split('/')).collect();
                if glob(tail, &levels) {
                    Verdict::Matches
                } else {
                    Verdict::Next
                }
            }
        }
    }
}

impl From<Step<'_>> for Level {
    fn from(step: Step<'_>) -> Level {
        match step {
            Step::One => Level::One,
            Step::Many => Level::Many,
            Step::Token(token) => {
                let mut spelled = String::new();
                escape(&token, Grammar::Slashes, &mut spelled);
                Level::Token(spelled)
            }
        }
    }
}

/// The first level and what is behind its separator.
fn split_level(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (text, None),
    }
}

/// Whether levels match steps with `#` in any place. Going back to the last `#` is enough, because an
/// earlier one could take nothing that the last one cannot.
fn glob(steps: &[Level], levels: &[&str]) -> bool {
    let (mut step, mut level) = (0, 0);
    let mut last_many = None;
    while level < levels.len() {
        match (steps.get(step), last_many) {
            (Some(Level::Many), _) => {
                last_many = Some((step, level));
                step += 1;
            }
            (Some(wanted), _) if wanted.takes(levels[level]) => {
                step += 1;
                level += 1;
            }
            (_, Some((many, taken))) => {
                last_many = Some((many, taken + 1));
                (step, level) = (many + 1, taken + 1);
            }
            (_, None) => return false,
        }
    }
    steps[step..].iter().all(|step| *step == Level::Many)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{Native, Plain};

    fn message(body: &str) -> Arc<Message> {
        Arc::new(Message {
            exchange: "amq.topic".into(),
            topic: Topic::default(),
            body: Some(body.to_owned().into()),
            key: None,
            timestamp: None,
            expiry_ms: None,
            persistence: Default::default(),
            priority: None,
            retain: true,
            native: Native {
                dialect: &Plain,
                block: Default::default(),
            },
            origin: Default::default(),
        })
    }

    fn slashes(text: &str) -> Topic {
        Topic::new(text.into(), Grammar::Slashes)
    }

    fn retained(topics: &[&str]) -> RetainedStore {
        let mut retained = RetainedStore::default();
        for topic in topics {
            retained.set(&slashes(topic), message(topic), Timestamp(1));
        }
        retained
    }

    fn found(retained: &RetainedStore, filter: &str) -> Vec<String> {
        let found = retained.matching(&Pattern::new(filter.into(), Grammar::Slashes), usize::MAX);
        let body = |found: Retained| {
            String::from_utf8(found.message.body.clone().unwrap().into()).unwrap()
        };
        found.into_iter().map(body).collect()
    }

    #[test]
    fn filters_find_what_mqtt_5_section_4_7_says() {
        let retained = retained(&[
            "a", "a/b", "a/b/c", "a!", "/a", "b/b", "$SYS/up", "a/", "$SYS",
        ]);
        assert_eq!(found(&retained, "a/#"), ["a", "a/", "a/b", "a/b/c"]);
        assert_eq!(found(&retained, "+/b"), ["a/b", "b/b"]);
        assert_eq!(found(&retained, "a/+"), ["a/", "a/b"]);
        assert_eq!(found(&retained, "+/+/c"), ["a/b/c"]);
        assert_eq!(
            found(&retained, "#"),
            ["/a", "a", "a/", "a/b", "a/b/c", "a!", "b/b"]
        );
        assert_eq!(found(&retained, "+"), ["a", "a!"]);
        assert_eq!(found(&retained, "$SYS/#"), ["$SYS", "$SYS/up"]);
        assert_eq!(found(&retained, "nothing/+"), [""; 0]);
    }

    #[test]
    fn spellings_of_one_topic_are_one() {
        let mut retained = retained(&["v1.0/x"]);
        let dots = Topic::new("v1%2E0.x".into(), Grammar::Dots);
        assert!(retained.set(&dots, message("new"), Timestamp(2)).is_some());
        assert_eq!(found(&retained, "v1.0/+"), ["new"]);
        assert!(retained.clear(&dots).is_some());
        assert_eq!((retained.len(), retained.bytes()), (0, 0));
    }

    #[test]
    fn counts_bytes_and_keeps_to_the_limit() {
        let mut retained = retained(&["a/1", "a/2", "a/3"]);
        assert_eq!((retained.len(), retained.bytes()), (3, 9));
        assert_eq!(
            retained
                .matching(&Pattern::new("a/+".into(), Grammar::Slashes), 2)
                .len(),
            2
        );
        retained.set(&slashes("a/1"), message("longer"), Timestamp(1));
        assert_eq!((retained.len(), retained.bytes()), (3, 12));
    }

    #[test]
    fn wildcards_skip_what_they_cannot_match() {
        let mut retained = RetainedStore::default();
        for device in 0..100 {
            for sensor in 0..100 {
                retained.set(
                    &slashes(&format!("d{device}/s{sensor}/x")),
                    message(""),
                    Timestamp(1),
                );
            }
        }
        let wanted = Wanted::new(&Pattern::new("+/s50/x".into(), Grammar::Slashes));
        assert_eq!(wanted.look_at("d1/s1/x"), Verdict::Seek("d1/s50".into()));
        assert_eq!(wanted.look_at("d1/s51/x"), Verdict::Seek("d1\0".into()));
        assert_eq!(
            wanted.look_at("d1/s50/x/y"),
            Verdict::Seek("d1/s50/x\0".into())
        );
        assert_eq!(
            retained
                .matching(
                    &Pattern::new("+/s50/x".into(), Grammar::Slashes),
                    usize::MAX
                )
                .len(),
            100
        );
    }

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

    proptest! {
        #[test]
        fn finds_what_a_naive_matcher_finds(
            topics in prop::collection::vec("[ab$]{0,2}(/[ab!]{0,2}){0,4}", 1..40),
            filter in "([ab$]{0,2}|[+#])(/([ab!]{0,2}|[+#])){0,4}",
        ) {
            let topics: Vec<_> = topics.iter().map(String::as_str).collect();
            let retained = retained(&topics);
            let pattern = Pattern::new(filter.as_str().into(), Grammar::Slashes);
            let steps: Vec<_> = pattern.steps().collect();
            let leading = !matches!(steps[0], Step::Token(_));
            let sees = |topic: &&&str| !(leading && topic.starts_with('$')) && naive(&steps, &topic.split('/').collect::<Vec<_>>());
            let mut expected: Vec<_> = topics.iter().filter(sees).map(|topic| topic.to_string()).collect();
            expected.sort();
            expected.dedup();
            let mut found = found(&retained, &filter);
            found.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
