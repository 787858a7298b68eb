//! Dead letters on their way from the queue that they died in to wherever its dead-letter exchange leads.
//!
//! Shards only say what died. This task routes it and hands over, as one span, the arrivals and the leave of the
//! source: so a dead letter is in one place or in the other, whatever happens between. Queues bound what may be on
//! its way ([`crate::queue`]).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

pub(crate) use crate::deaths::Reason;
use crate::{
    broker::Inner,
    catalog::{QueueEntry, Targets},
    deaths::{Death, Deaths},
    id::{ConnectionId, QueueId, Sequence},
    link::{Mailbox, Outgoing},
    log,
    message::{Message, Origin},
    properties::{Text, Value},
    queue::{Arrival, size},
    shard::Op,
    time::Timestamp,
    topic::{Grammar, Topic},
};

/// Memory of dead letters that are handed over, and committed, together.
const BATCH_BYTES: usize = 4 << 20;

/// A message that died.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// Where, as it was then.
    pub(crate) queue: Arc<QueueEntry>,
    /// Its place, if it had one.
    pub(crate) sequence: Option<Sequence>,
    pub(crate) message: Arc<Message>,
    pub(crate) reason: Reason,
    pub(crate) time: Timestamp,
}

/// Routes what shards send until they end.
pub(crate) async fn run(inner: Arc<Inner>, mut letters: mpsc::UnboundedReceiver<Vec<DeadLetter>>) {
    let mailbox = Arc::new(Mailbox::new(ConnectionId(0)));
    let mut office = Office {
        outgoing: Outgoing::new(inner.shards.len()),
        left: FxHashMap::default(),
        inner,
        bytes: 0,
    };
    while let Some(turn) = letters.recv().await {
        for letter in turn {
            office.forward(letter);
            if office.bytes >= BATCH_BYTES && !office.hand_over(&mailbox).await {
                return;
            }
        }
        if !office.hand_over(&mailbox).await {
            return;
        }
    }
}

struct Office {
    inner: Arc<Inner>,
    outgoing: Outgoing,
    /// What leaves each queue.
    left: FxHashMap<QueueId, Vec<Sequence>>,
    bytes: usize,
}

impl Office {
    fn forward(&mut self, letter: DeadLetter) {
        self.bytes += size(&letter.message);
        if let Some((message, targets)) = self.address(&letter) {
            self.send(message, &targets);
        }
        if let Some(sequence) = letter.sequence {
            self.left.entry(letter.queue.id).or_default().push(sequence);
        }
    }

    /// The dead letter as it will arrive, and where; `None` if it goes nowhere.
    fn address(&self, letter: &DeadLetter) -> Option<(Arc<Message>, Targets)> {
        let settings = &letter.queue.settings;
        let exchange = settings.dead_letter_exchange.clone()?;
        let key = settings.dead_letter_routing_key.as_ref();
        let copies = copies(&letter.message);
        let message = Arc::new(dead_letter(letter, exchange, key, &copies));
        let mut targets = Targets::default();
        let routes = self.inner.snapshot.load();
        let vhost = &letter.queue.vhost;
        routes.route_dead(vhost, &message, &message.topic, &mut targets);
        if key.is_none() && !copies.is_empty() {
            for key in copies {
                let topic = Topic::new(key, Grammar::Dots);
                routes.route_dead(vhost, &message, &topic, &mut targets);
            }
            targets.merge();
        }
        if letter.reason != Reason::Rejected
            && let Some(deaths) = &message.origin.deaths
        {
            targets
                .queues
                .retain(|target| target.queue.spec.session || !deaths.is_cycle(&target.queue.name));
        }
        Some((message, targets))
    }

    fn send(&mut self, message: Arc<Message>, targets: &Targets) {
        for target in &targets.queues {
            let shard = self.inner.shard_of_queue(target.queue.id);
            let arrival = Arrival {
                message: message.clone(),
                tags: target.tags.clone(),
                best_effort: target.best_effort,
                body: None,
            };
            let queue = target.queue.id;
            self.push(
                shard,
                Op::Enqueue {
                    queue,
                    arrival,
                    token: None,
                },
            );
        }
        for entry in &targets.logs {
            let record = log::record_from_message(&message, &entry.settings);
            if record.check(&entry.info.name, &entry.settings).is_err() {
                continue;
            }
            let partition =
                log::partition_for(record.key.as_deref(), entry.tails.len(), ConnectionId(0));
            let shard = self.inner.shard_of_partition(entry.info.id, partition);
            self.push(
                shard,
                Op::Capture {
                    log: entry.info.id,
                    partition,
                    record,
                    token: None,
                    captured: true,
                },
            );
        }
    }

    fn push(&mut self, shard: usize, op: Op) {
        self.outgoing.push(shard, op);
        self.outgoing.spanned |= 1 << shard;
    }

    /// Hands over what was forwarded. False when the broker has ended.
    async fn hand_over(&mut self, mailbox: &Arc<Mailbox>) -> bool {
        for (queue, sequences) in std::mem::take(&mut self.left) {
            let shard = self.inner.shard_of_queue(queue);
            self.push(shard, Op::Buried { queue, sequences });
        }
        self.bytes = 0;
        if self.outgoing.spanned.count_ones() == 1 {
            self.outgoing.spanned = 0;
        }
        self.outgoing.flush(&self.inner, mailbox).await.is_ok()
    }
}

/// The keys in the header `CC`: they count as routing keys of the message.
fn copies(message: &Message) -> Vec<Text> {
    let headers = message.properties().headers;
    let copies = headers.into_iter().find_map(|(name, value)| match value {
        Value::Array(keys) if name == "CC" => Some(keys),
        _ => None,
    });
    let keys = copies.into_iter().flatten();
    keys.filter_map(|key| match key {
        Value::Text(key) => Some(key),
        _ => None,
    })
    .collect()
}

fn dead_letter(
    letter: &DeadLetter,
    exchange: Text,
    key: Option<&Text>,
    copies: &[Text],
) -> Message {
    let message = &*letter.message;
    let own = message.topic.render(Grammar::Dots);
    let death = Death {
        queue: letter.queue.name.clone(),
        reason: letter.reason,
        count: 1,
        time: letter.time,
        exchange: message.exchange.clone(),
        routing_keys: std::iter::once(own).chain(copies.iter().cloned()).collect(),
        original_expiration: message.expiry_ms,
    };
    let deaths = Deaths::with(message.origin.deaths.as_deref(), death, key.is_some());
    let topic = match key {
        Some(key) => Topic::new(key.clone(), Grammar::Dots),
        None => message.topic.clone(),
    };
    Message {
        exchange,
        topic,
        expiry_ms: None,
        retain: false,
        origin: Arc::new(Origin {
            deaths: Some(Arc::new(deaths)),
            ..(*message.origin).clone()
        }),
        ..message.clone()
    }
}
