//! Moves messages whose time has come from delayed exchanges to where those lead.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{HEADER, Ready, Waiting, delay_ms, negated};
use crate::{
    broker::Inner,
    catalog::{Facts, Targets},
    id::ConnectionId,
    link::{Mailbox, Outgoing},
    message::{Message, Native},
    shard::Op,
    topic::Topic,
};

/// Messages moved in one storage batch at most.
const BATCH_MAX: usize = 1024;

/// Runs until the broker stops. What is in `ready` is bounded by its senders.
pub(crate) async fn run(inner: Arc<Inner>, mut ready: mpsc::UnboundedReceiver<Ready>) {
    let mailbox = Arc::new(Mailbox::new(ConnectionId(0)));
    let mut outgoing = Outgoing::express(inner.shards.len());
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while ready.recv_many(&mut batch, BATCH_MAX).await > 0 {
        for ready in batch.drain(..) {
            offer(&inner, ready, &mut outgoing);
        }
        if outgoing.flush(&inner, &mailbox).await.is_err() {
            return;
        }
    }
}

fn offer(inner: &Inner, ready: Ready, outgoing: &mut Outgoing) {
    let message = Arc::new(released(&ready.waiting.message));
    let targets = route(inner, &ready, &message);
    targets.remember(&message);
    inner.forward(&message, &targets, outgoing);
    let shard = inner.shard_of_exchange(ready.entry.id);
    outgoing.push(shard, Op::Moved(Box::new(ready)));
    outgoing.spanned |= 1 << shard;
}

/// Where the message goes now; nowhere if its exchange has gone meanwhile.
fn route(inner: &Inner, ready: &Ready, message: &Message) -> Targets {
    let routes = inner.snapshot.load();
    let mut targets = Targets::default();
    let mut facts = || {
        let mut facts = Facts::of(message);
        // Also where the message's own encoding cannot say that it was delayed.
        facts.properties.headers.retain(|(name, _)| name != HEADER);
        facts
    };
    let Waiting { also, .. } = &ready.waiting;
    let topics: Vec<&Topic> = std::iter::once(&message.topic).chain(&**also).collect();
    let client = &message.origin.client;
    routes.route_due(&ready.entry, &topics, &mut facts, client, &mut targets);
    targets
}

/// The message as it is delivered: its header says by the sign that it was delayed.
fn released(message: &Message) -> Message {
    let Native { dialect, block } = &message.native;
    let delay = delay_ms(&message.properties().headers);
    let block = match delay {
        Some(delay) => dialect.with_header(block, HEADER, &negated(delay)),
        None => block.clone(),
    };
    let dialect = *dialect;
    Message {
        native: Native { dialect, block },
        ..message.clone()
    }
}
