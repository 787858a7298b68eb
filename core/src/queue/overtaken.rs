//! Retained messages on their way to a session, and what of them is out of date before it arrives.
//!
//! A lookup is answered by other shards than the session's, so a message that replaces what was found may be in the
//! session before what was found is. A session therefore remembers, while lookups are under way, on which topics it has
//! got messages that were retained, and takes no older ones after them. That nothing is missed rests on the order in which
//! shards hear of things: a session knows of a lookup before any shard answers it, and a message is with the shard that
//! retains it before it is with its subscribers (see `Outgoing::push_first`).
//!
//! Messages that several clients publish to one topic at one time have no order, here as elsewhere.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Arrival, Budget, Queue, Session};
use crate::{
    event::Retained,
    id::{BindingTag, Token},
    message::Message,
    properties::Text,
    rare::Rare,
    shard::Turn,
    topic::{Grammar, Topic},
};

/// Topics are remembered up to this size; on those beyond it an older message may come after a newer one.
const TOPICS_BYTES_MAX: usize = 4 << 20;

/// Lookups under way, and what has come since the first of them began.
#[derive(Debug, Default)]
pub(super) struct Overtaken {
    lookups: u32,
    /// In the grammar of slashes.
    topics: FxHashSet<Text>,
    bytes: usize,
}

impl Overtaken {
    fn note(&mut self, topic: &Topic) {
        // A copy, so that it does not hold on to a read buffer.
        let topic = Text::from(&*topic.render(Grammar::Slashes));
        if self.bytes + topic.len() <= TOPICS_BYTES_MAX {
            let length = topic.len();
            if self.topics.insert(topic) {
                self.bytes += length;
            }
        }
    }

    fn has(&self, topic: &Topic) -> bool {
        !self.topics.is_empty() && self.topics.contains(&topic.render(Grammar::Slashes))
    }
}

/// What a lookup has found.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) token: Token,
    /// What goes through the session.
    pub(crate) messages: Vec<Arc<Message>>,
    pub(crate) tag: BindingTag,
    /// What goes past it; told unless it is empty.
    pub(crate) direct: Vec<Retained>,
}

impl Queue {
    /// The client looks retained messages up; [`Queue::replay`] follows.
    pub(crate) fn look_up(&mut self) {
        if let Some(session) = &mut self.session {
            session.overtaken.make().lookups += 1;
        }
    }

    /// Takes what a lookup has found, as far as nothing newer has come. Returns what goes to the client past the queue:
    /// it is to be told at once, so that what comes later stays behind it.
    pub(crate) fn replay(
        &mut self,
        replay: Replay,
        budget: &mut Budget,
        turn: &mut Turn,
    ) -> Vec<Retained> {
        let Replay {
            messages,
            tag,
            mut direct,
            ..
        } = replay;
        // Taken out, so that what is looked up does not count as newer than itself.
        let session = self.session.as_mut();
        let mut overtaken = session.map(|it| std::mem::take(&mut it.overtaken));
        let is_news = |message: &Message| {
            let overtaken = overtaken.as_ref().and_then(Rare::get);
            overtaken.is_none_or(|overtaken| !overtaken.has(&message.topic))
        };
        direct.retain(|found| is_news(&found.message));
        for message in messages.into_iter().filter(|message| is_news(message)) {
            // A session refuses nothing.
            let _ = self.enqueue(Arrival::new(message, tag), budget, turn);
        }
        if let Some(all) = overtaken.as_mut().and_then(Rare::get_mut) {
            all.lookups = all.lookups.saturating_sub(1);
        }
        if let (Some(session), Some(mut overtaken)) = (&mut self.session, overtaken) {
            overtaken.drop_if(|overtaken| overtaken.lookups == 0);
            session.overtaken = overtaken;
        }
        direct
    }
}

/// A message that is retained as well has come.
pub(super) fn note(session: &mut Option<Box<Session>>, message: &Message) {
    if let Some(overtaken) = session.as_mut().and_then(|it| it.overtaken.get_mut()) {
        overtaken.note(&message.topic);
    }
}
