//! What exchanges of the type `x-recent-history` remember: the latest messages that were published to them, which every
//! new binding gets first.
//!
//! It is in memory and begins anew with the broker, as in RabbitMQ with Mnesia. What matters to a new binding is which
//! messages were routed without it, and the snapshot that routed a message knows how many bindings there had been: so
//! nothing that came by the binding comes again from the history.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    broker::Inner,
    catalog::{Place, Targets},
    command::{ExchangeKind, ExchangeSpec},
    event::Refusal,
    id::ConnectionId,
    link::{Mailbox, Outgoing},
    message::Message,
    properties::{Text, Value},
};

/// The argument that says how many messages are remembered.
const LENGTH: &str = "x-recent-history-length";

/// How many those are without it.
const LENGTH_DEFAULT: usize = 20;

/// The header of messages that are not to be remembered.
const NO_STORE: &str = "x-recent-history-no-store";

/// What a message costs besides what it says.
const OVERHEAD: usize = 200;

/// Bytes that an exchange remembers, unless its latest message alone has more; the oldest go.
const BYTES_MAX: usize = 8 << 20;

/// The latest messages of an exchange.
#[derive(Debug)]
pub(crate) struct History {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// With how many bindings there had been when each was routed.
    messages: VecDeque<(u64, Arc<Message>)>,
    bytes: usize,
}

/// An exchange's history, as a snapshot of the routes knows it.
#[derive(Clone, Debug)]
pub(crate) struct Remembering {
    pub(crate) history: Arc<History>,
    /// How many bindings there have been.
    pub(crate) bindings: u64,
}

/// A new binding, which is to get what an exchange remembers.
#[derive(Clone, Debug)]
pub(crate) struct Recall {
    pub(crate) of: Remembering,
    pub(crate) vhost: Text,
    pub(crate) to: Place,
}

impl Remembering {
    /// Of an exchange that is new; `None` if it is of another type.
    pub(crate) fn new(spec: &ExchangeSpec) -> Option<Remembering> {
        let most = match length(spec) {
            _ if spec.routes_as() != Some(ExchangeKind::RecentHistory) => return None,
            // The catalog has checked what an exchange says.
            Ok(length) => length,
            Err(_) => LENGTH_DEFAULT,
        };
        let history = Arc::new(History {
            most,
            kept: Mutex::default(),
        });
        Some(Remembering {
            history,
            bindings: 0,
        })
    }

    /// Remembers a message that has been routed, unless it says otherwise.
    pub(crate) fn remember(&self, message: &Arc<Message>) {
        let headers = message.properties().headers;
        let is_left_out = |(name, value)| name == NO_STORE && value == Value::Bool(true);
        if !headers.into_iter().any(is_left_out) {
            self.history.put(self.bindings, message);
        }
    }
}

/// How many messages an exchange is to remember.
pub(crate) fn length(spec: &ExchangeSpec) -> Result<usize, Refusal> {
    let mut arguments = spec.arguments.iter();
    let Some((_, length)) = arguments.find(|(name, _)| name == LENGTH) else {
        return Ok(LENGTH_DEFAULT);
    };
    let refused = |told: String| {
        let text = format!("Invalid argument {told}, '{LENGTH}' must be a positive integer");
        Err(Refusal::Invalid(text.into()))
    };
    match (length.integer(), length) {
        (Some(length), _) if length > 0 => Ok(usize::try_from(length).unwrap_or(usize::MAX)),
        (Some(length), _) => refused(length.to_string()),
        (None, Value::Text(text)) => refused(format!("<<\"{text}\">>")),
        (None, Value::Bool(value)) => refused(value.to_string()),
        (None, other) => refused(format!("{other:?}")),
    }
}

impl History {
    fn put(&self, bindings: u64, message: &Arc<Message>) {
        let message = Message::detached(message.clone());
        let mut kept = self.kept();
        kept.bytes += message.size() + OVERHEAD;
        kept.messages.push_back((bindings, message));
        while kept.messages.len() > self.most || (kept.bytes > BYTES_MAX && kept.messages.len() > 1)
        {
            if let Some((_, oldest)) = kept.messages.pop_front() {
                kept.bytes -= oldest.size() + OVERHEAD;
            }
        }
    }

    /// What was routed before there were so many bindings, the oldest first.
    fn before(&self, bindings: u64) -> Vec<Arc<Message>> {
        let kept = self.kept();
        let before = kept
            .messages
            .iter()
            .filter(|(routed, _)| *routed < bindings);
        before.map(|(_, message)| message.clone()).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Sends what an exchange remembers to where a new binding leads. Once the routes know the binding.
    pub(crate) async fn recall(&self, recall: &Recall) -> Result<(), Refusal> {
        let mut outgoing = Outgoing::express(self.shards.len());
        let routes = self.snapshot.load();
        for message in recall.of.history.before(recall.of.bindings) {
            let mut targets = Targets::default();
            routes.route_recalled(recall, &message, &mut targets);
            self.forward(&message, &targets, &mut outgoing);
        }
        let from = Arc::new(Mailbox::new(ConnectionId(0)));
        let sent = outgoing.flush(self, &from).await;
        sent.map_err(|_| Refusal::Stopping)
    }
}
