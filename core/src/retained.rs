//! Retained messages of one vhost: the last one of each topic, found by patterns.
//!
//! Topics are kept in the order of their levels, so that what a pattern can match lies together and the
//! search jumps from one candidate to the next: wildcards cost what they return.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rustc_hash::FxHashMap;

use crate::{
    event::Retained,
    message::Message,
    properties::Text,
    time::Timestamp,
    topic::{Grammar, Pattern, Step, Topic, escape},
};

/// What may be retained in each vhost, over all shards; 0 is no limit.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    messages_max: u64,
    bytes_max: u64,
    vhosts: Mutex<FxHashMap<Text, Arc<Usage>>>,
}

/// What the shards retain of one vhost.
#[derive(Debug, Default)]
struct Usage {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Quota {
    pub(crate) fn new(messages_max: u64, bytes_max: u64) -> Quota {
        Quota {
            messages_max,
            bytes_max,
            vhosts: Mutex::default(),
        }
    }

    fn usage(&self, vhost: &Text) -> Arc<Usage> {
        let mut vhosts = self.vhosts.lock().unwrap_or_else(PoisonError::into_inner);
        vhosts.entry(vhost.clone()).or_default().clone()
    }

    /// Whether there is room for what is more in a vhost; when there is, it is taken.
    fn take(&self, usage: &Usage, messages: u64, bytes: u64) -> bool {
        let fits = |counter: &AtomicU64, more: u64, max: u64| {
            let all = counter.fetch_add(more, Relaxed) + more;
            more == 0 || max == 0 || all <= max
        };
        let both = [
            fits(&usage.messages, messages, self.messages_max),
            fits(&usage.bytes, bytes, self.bytes_max),
        ];
        let taken = both == [true, true];
        if !taken {
            usage.give_back(messages, bytes);
        }
        taken
    }
}

impl Usage {
    fn give_back(&self, messages: u64, bytes: u64) {
        self.messages.fetch_sub(messages, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

/// The retained messages of one vhost.
#[derive(Debug, Default)]
pub(crate) struct RetainedStore {
    messages: BTreeMap<Levels, Retained>,
    /// When those expire that ever do.
    expiring: BTreeSet<(Timestamp, Levels)>,
    bytes: usize,
    usage: Arc<Usage>,
    quota: Arc<Quota>,
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
    pub(crate) fn new(vhost: &Text, quota: &Arc<Quota>) -> RetainedStore {
        RetainedStore {
            usage: quota.usage(vhost),
            quota: quota.clone(),
            ..RetainedStore::default()
        }
    }

    /// Replaces the message of a topic, if there is room for the new one.
    pub(crate) fn set(
        &mut self,
        topic: &Topic,
        message: Arc<Message>,
        accepted: Timestamp,
    ) -> Result<Option<Retained>, Full> {
        let levels = Levels::of(topic);
        let (old, new) = (self.messages.get(&levels), message.size() as u64);
        let messages = u64::from(old.is_none());
        let old = old.map_or(0, |old| old.message.size() as u64);
        if !self
            .quota
            .take(&self.usage, messages, new.saturating_sub(old))
        {
            return Err(Full);
        }
        self.usage.give_back(0, old.saturating_sub(new));
        Ok(self.put(levels, message, accepted))
    }

    /// As [`RetainedStore::set`], of what was found in the store: limits do not delete.
    pub(crate) fn recover(&mut self, topic: &Topic, message: Arc<Message>, accepted: Timestamp) {
        self.usage.messages.fetch_add(1, Relaxed);
        let bytes = message.size() as u64;
        self.usage.bytes.fetch_add(bytes, Relaxed);
        self.put(Levels::of(topic), message, accepted);
    }

    fn put(
        &mut self,
        levels: Levels,
        message: Arc<Message>,
        accepted: Timestamp,
    ) -> Option<Retained> {
        self.bytes += message.size();
        let retained = Retained { message, accepted };
        if let Some(at) = expiry(&retained) {
            self.expiring.insert((at, levels.clone()));
        }
        let at = expiry(&retained);
        let old = self.messages.insert(levels.clone(), retained)?;
        self.bytes -= old.message.size();
        if let Some(before) = expiry(&old).filter(|before| Some(*before) != at) {
            self.expiring.remove(&(before, levels));
        }
        Some(old)
    }

    /// Removes the message of a topic.
    pub(crate) fn clear(&mut self, topic: &Topic) -> Option<Retained> {
        self.remove(&Levels::of(topic))
    }

    fn remove(&mut self, levels: &Levels) -> Option<Retained> {
        let old = self.messages.remove(levels)?;
        self.bytes -= old.message.size();
        self.usage.give_back(1, old.message.size() as u64);
        if let Some(at) = expiry(&old) {
            self.expiring.remove(&(at, levels.clone()));
        }
        Some(old)
    }

    /// Removes one message whose time is up. Returns its topic, in the grammar of slashes.
    pub(crate) fn expire_one(&mut self, now: Timestamp) -> Option<Text> {
        let (_, levels) = self.expiring.first().filter(|(at, _)| *at <= now)?.clone();
        self.remove(&levels);
        Some(levels.0)
    }

    /// Removes any one message. Returns its topic, in the grammar of slashes.
    pub(crate) fn pop(&mut self) -> Option<Text> {
        let (levels, _) = self.messages.first_key_value()?;
        let levels = levels.clone();
        self.remove(&levels);
        Some(levels.0)
    }

    /// When the first expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiring.first().map(|(at, _)| *at)
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

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// When a message is of no use any more.
fn expiry(retained: &Retained) -> Option<Timestamp> {
    let expiry_ms = retained.message.expiry_ms?;
    Some(Timestamp(retained.accepted.0.saturating_add(expiry_ms)))
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
            retained
                .set(&slashes(topic), message(topic), Timestamp(1))
                .unwrap();
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
        let old = retained.set(&dots, message("new"), Timestamp(2));
        assert!(old.unwrap().is_some());
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
        retained
            .set(&slashes("a/1"), message("longer"), Timestamp(1))
            .unwrap();
        assert_eq!((retained.len(), retained.bytes()), (3, 12));
    }

    #[test]
    fn what_expires_goes_in_the_order_of_its_time() {
        let mut retained = retained(&["stays"]);
        let mut put = |topic, expiry_ms| {
            let message = Message {
                expiry_ms,
                ..(*message(topic)).clone()
            };
            retained
                .set(&slashes(topic), Arc::new(message), Timestamp(1))
                .unwrap();
        };
        put("late", Some(20));
        put("early", Some(10));
        put("cleared", Some(5));
        put("replaced", Some(5));
        put("replaced", None);
        retained.clear(&slashes("cleared"));
        assert_eq!(retained.next_expiry(), Some(Timestamp(11)));
        assert_eq!(retained.expire_one(Timestamp(10)), None);
        assert_eq!(retained.expire_one(Timestamp(30)), Some("early".into()));
        assert_eq!(retained.expire_one(Timestamp(30)), Some("late".into()));
        assert_eq!(retained.expire_one(Timestamp(30)), None);
        assert_eq!(found(&retained, "#"), ["replaced", "stays"]);
        assert_eq!((retained.len(), retained.bytes()), (2, 13));
    }

    #[test]
    fn limits_count_over_the_shards_of_a_vhost() {
        let quota = Arc::new(Quota::new(3, 10));
        let [mut one, mut two] =
            [(), ()].map(|()| RetainedStore::new(&Text::from_static("/"), &quota));
        let mut other = RetainedStore::new(&Text::from_static("other"), &quota);
        let set = |store: &mut RetainedStore, topic: &str, body: &str| {
            store
                .set(&slashes(topic), message(body), Timestamp(1))
                .is_ok()
        };
        assert!(set(&mut one, "a", "1234"));
        assert!(set(&mut two, "b", "1234"));
        assert!(!set(&mut one, "c", "123"), "bytes");
        assert!(set(&mut one, "c", "12"));
        assert!(!set(&mut two, "d", ""), "messages");
        assert!(!set(&mut one, "a", "12345"), "bytes of a replacement");
        assert!(set(&mut one, "a", "1"), "a smaller replacement");
        assert!(set(&mut two, "b", "1234567"));
        assert!(set(&mut other, "a", "1234567890"), "another vhost");
        assert!(two.clear(&slashes("b")).is_some());
        assert!(set(&mut one, "d", "1234567"));
    }

    #[test]
    fn wildcards_skip_what_they_cannot_match() {
        let mut retained = RetainedStore::default();
        for device in 0..100 {
            for sensor in 0..100 {
                retained
                    .set(
                        &slashes(&format!("d{device}/s{sensor}/x")),
                        message(""),
                        Timestamp(1),
                    )
                    .unwrap();
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
