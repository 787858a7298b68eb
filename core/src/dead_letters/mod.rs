//! Dead letters on their way from the queue that they died in to wherever its dead-letter exchange leads.
//!
//! Shards only say what died. This task routes it and hands over, as one span, the arrivals and the leave of the
//! source: so a dead letter is in one place or in the other, whatever happens between. Queues bound what may be on
//! its way ([`crate::queue`]).
//!
//! Letters that must arrive ([`registered`]) wait for the targets to confirm instead, and only then leave the source:
//! a crash in between may make two of one.

mod registered;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use tokio::sync::mpsc;

use self::registered::{Outcome, Registered};
pub(crate) use self::registered::{Target, Undelivered};

pub(crate) use crate::deaths::Reason;
use crate::{
    broker::Inner,
    catalog::{LogTarget, QueueEntry, Targets},
    deaths::{Death, Deaths},
    event::Event,
    id::{ConnectionId, QueueId, Sequence, Token},
    link::{Mailbox, Outgoing},
    log,
    message::{Message, Origin},
    properties::{Text, Value},
    queue::size,
    shard::Op,
    time::Timestamp,
    topic::{Grammar, Topic},
};

/// Memory of dead letters that are handed over, and committed, together.
const BATCH_BYTES: usize = 4 << 20;

/// Shards answer to this connection; nobody else's has the number.
const OFFICE: ConnectionId = ConnectionId(u64::MAX);

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
    /// Where it has arrived by an earlier attempt.
    pub(crate) arrived: SmallVec<[Target; 1]>,
}

/// A dead letter as it will arrive, and where.
struct Addressed {
    message: Arc<Message>,
    /// Topics that it goes by besides its own.
    also: Arc<[Topic]>,
    targets: Targets,
}

/// Routes what shards send until they end.
pub(crate) async fn run(inner: Arc<Inner>, mut letters: mpsc::UnboundedReceiver<Vec<DeadLetter>>) {
    let mailbox = Arc::new(Mailbox::new(OFFICE));
    let mut office = Office {
        outgoing: Outgoing::new(inner.shards.len()),
        left: FxHashMap::default(),
        undelivered: FxHashMap::default(),
        registered: Registered::default(),
        inner,
        bytes: 0,
    };
    loop {
        tokio::select! {
            turn = letters.recv() => {
                let Some(turn) = turn else { return };
                for letter in turn {
                    office.forward(letter);
                    if office.bytes >= BATCH_BYTES && !office.hand_over(&mailbox).await {
                        return;
                    }
                }
            }
            () = mailbox.arrived() => office.take_answers(mailbox.take()),
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
    /// What goes back to each queue.
    undelivered: FxHashMap<QueueId, Vec<Undelivered>>,
    registered: Registered,
    bytes: usize,
}

impl Office {
    fn forward(&mut self, letter: DeadLetter) {
        self.bytes += size(&letter.message);
        let addressed = self.address(&letter);
        if let (true, Some(sequence), Some(addressed)) = (
            letter.queue.settings.dead_letters_must_arrive,
            letter.sequence,
            &addressed,
        ) {
            let number = self.registered.open(&letter, sequence);
            self.send(addressed, Some(number));
            if addressed.targets.is_empty() {
                self.registered.refuse(number);
            }
            let outcome = self.registered.close(number);
            return self.conclude(outcome);
        }
        if let Some(addressed) = addressed {
            self.send(&addressed, None);
        }
        if let Some(sequence) = letter.sequence {
            self.left.entry(letter.queue.id).or_default().push(sequence);
        }
    }

    /// `None` if the letter goes nowhere.
    fn address(&self, letter: &DeadLetter) -> Option<Addressed> {
        let settings = &letter.queue.settings;
        let exchange = settings.dead_letter_exchange.clone()?;
        let key = settings.dead_letter_routing_key.as_ref();
        let copies = copies(&letter.message);
        let message = Arc::new(dead_letter(letter, exchange, key, &copies));
        let also = match key {
            Some(_) => Arc::default(),
            None => more_topics(&message, copies),
        };
        let topics: Vec<&Topic> = std::iter::once(&message.topic).chain(&*also).collect();
        let mut targets = Targets::default();
        let routes = self.inner.snapshot.load();
        routes.route_dead(&letter.queue.vhost, &message, &topics, &mut targets);
        let known = targets.logs.len();
        let publisher = &message.origin.user;
        targets
            .logs
            .retain(|target| target.takes_from(&routes, publisher));
        let denied = known - targets.logs.len();
        self.inner.metrics.capture_denied(denied as u64);
        if letter.reason != Reason::Rejected
            && let Some(deaths) = &message.origin.deaths
        {
            targets
                .queues
                .retain(|target| target.queue.spec.session || !deaths.is_cycle(&target.queue.name));
        }
        Some(Addressed {
            message,
            also,
            targets,
        })
    }

    /// Sends a message to its targets: to all at once, or to those that have to confirm the letter of a number.
    fn send(&mut self, addressed: &Addressed, number: Option<u64>) {
        let Addressed {
            message,
            also,
            targets,
        } = addressed;
        targets.remember(message);
        for target in &targets.queues {
            let queue = target.queue.id;
            let Some(token) = self.token(number, Target::Queue(queue)) else {
                continue;
            };
            let (shard, op) = self.inner.to_queue(target, message, token);
            self.push(shard, op, token.is_none());
        }
        for LogTarget { log: entry, .. } in &targets.logs {
            let record = log::record_from_message(message, &entry.settings);
            let bytes_max = self.inner.batch_bytes_max;
            if record
                .check(&entry.info.name, &entry.settings, bytes_max)
                .is_err()
            {
                number.inspect(|number| self.registered.refuse(*number));
                continue;
            }
            let log = entry.info.id;
            let Some(token) = self.token(number, Target::Log(log)) else {
                continue;
            };
            let (shard, op) = self.inner.to_log(entry, record, OFFICE, true, token);
            self.outgoing.count_record(message, &self.inner.metrics);
            self.push(shard, op, token.is_none());
        }
        for entry in &targets.delays {
            let Some(token) = self.token(number, Target::Delay(entry.id)) else {
                continue;
            };
            let (shard, op) = self.inner.to_delay(entry, message, also.clone(), token);
            self.push(shard, op, token.is_none());
        }
    }

    /// With what a target is to confirm, if the letter has a number; nothing at all if the target has it.
    fn token(&mut self, number: Option<u64>, target: Target) -> Option<Option<Token>> {
        match number {
            Some(number) => self.registered.expect(number, target).map(Some),
            None => Some(None),
        }
    }

    fn push(&mut self, shard: usize, op: Op, spanned: bool) {
        self.outgoing.push(shard, op);
        if spanned {
            self.outgoing.spanned |= 1 << shard;
        }
    }

    /// Shards have taken letters, or have not.
    fn take_answers(&mut self, events: Vec<Event>) {
        for event in events {
            let (tokens, taken) = match event {
                Event::Confirmed { tokens } => (tokens, true),
                Event::Refused { tokens, .. } => (tokens, false),
                _ => continue,
            };
            for token in tokens {
                let outcome = self.registered.answer(token, taken);
                self.conclude(outcome);
            }
        }
    }

    fn conclude(&mut self, outcome: Option<Outcome>) {
        match outcome {
            Some(Outcome::Arrived(queue, sequence)) => {
                self.left.entry(queue).or_default().push(sequence);
            }
            Some(Outcome::Undelivered(queue, letter)) => {
                self.undelivered.entry(queue).or_default().push(letter);
            }
            None => {}
        }
    }

    /// Hands over what was forwarded. False when the broker has ended.
    async fn hand_over(&mut self, mailbox: &Arc<Mailbox>) -> bool {
        for (queue, sequences) in std::mem::take(&mut self.left) {
            let shard = self.inner.shard_of_queue(queue);
            self.push(shard, Op::Buried { queue, sequences }, true);
        }
        for (queue, letters) in std::mem::take(&mut self.undelivered) {
            let shard = self.inner.shard_of_queue(queue);
            self.push(shard, Op::Undelivered { queue, letters }, false);
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

/// Where a message goes besides its own topic: also by the copies that nobody is shown.
fn more_topics(message: &Message, copies: Vec<Text>) -> Arc<[Topic]> {
    let blind = message
        .origin
        .blind_copies
        .iter()
        .flat_map(|keys| keys.iter());
    let keys = copies.into_iter().chain(blind.cloned());
    keys.map(|key| Topic::new(key, Grammar::Dots)).collect()
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
            // A key of the queue's own stands for all that the publisher gave.
            blind_copies: message
                .origin
                .blind_copies
                .clone()
                .filter(|_| key.is_none()),
            ..(*message.origin).clone()
        }),
        ..message.clone()
    }
}
