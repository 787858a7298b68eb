//! The tap: offers what is appended to logs to the bindings of an exchange (DESIGN section 3.2).
//!
//! One task reads committed records behind the tails of the partitions, so that a producer never
//! waits for it. What a record leads to is written in one storage batch with the tap's new position,
//! so a record is offered once. Where no binding matches and nothing asks to be retained, batches are not even decoded:
//! the task is not woken, and the position moves along with the end of the partition, see `Tail::commit`.
//!
//! A log that becomes the retained store of its keys (`mq.retain.map`) when it has records already is read from its start
//! up to the tap's position before the tap goes on: `fill`.

mod fill;

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use crate::{
    access::{Operation, Permits},
    broker::Inner,
    catalog::{Facts, LEVELS_MAX, LogEntry, Routes, SQUARE, Targets, dots},
    command::{Fetch, FetchPartition, Isolation},
    event::{Aborted, Fetched, FetchedBatch, Kind, Refusal},
    id::{ConnectionId, LogId, Offset},
    link::{Mailbox, Outgoing},
    log::{self, Bounds, Step, walk},
    message::{Message, Origin},
    properties::Text,
    shard::Op,
    signals::Signals,
    store::keys::record_flags,
    time::Timestamp,
    topic::{Grammar, Topic},
};

/// Bytes of batches read at once for one partition, before others have their turn.
const READ_BYTES: usize = 1 << 20;

/// How long until what the store could not read is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is offered comes from, as its origin has it: no client of this protocol publishes messages.
const PROTOCOL: &str = "kafka";

/// Whether a message is a record that a tap has offered, and has not died in a queue since.
pub(crate) fn is_offered(message: &Message) -> bool {
    message.origin.protocol == PROTOCOL && message.origin.deaths.is_none()
}

/// Runs the tap of a broker. `positions` are where it was when the broker was last open.
pub(crate) async fn run(
    inner: Arc<Inner>,
    signals: Arc<Signals>,
    positions: FxHashMap<(LogId, u32), Offset>,
) {
    let mut tap = Tap {
        mailbox: Arc::new(Mailbox::new(ConnectionId(0))),
        outgoing: Outgoing::new(inner.shards.len()),
        inner,
        positions,
        entries: FxHashMap::default(),
        generation: None,
        routes: Arc::default(),
    };
    let known: Vec<_> = tap.positions.keys().copied().collect();
    known
        .into_iter()
        .for_each(|partition| signals.signal(partition));
    loop {
        let partition = signals.next().await;
        match tap.offer(partition).await {
            Ok(Progress::More) => signals.signal(partition),
            Ok(Progress::Done) => {}
            Err(Stop::Broker) => return,
            Err(Stop::Unreadable(reason)) => {
                tracing::error!(log = %partition.0, partition = partition.1, %reason, "tap cannot read a log");
                tokio::time::sleep(RETRY).await;
                signals.signal(partition);
            }
        }
    }
}

enum Progress {
    More,
    Done,
}

enum Stop {
    Broker,
    Unreadable(String),
}

struct Tap {
    inner: Arc<Inner>,
    mailbox: Arc<Mailbox>,
    outgoing: Outgoing,
    positions: FxHashMap<(LogId, u32), Offset>,
    /// The logs of the current routes that are tapped.
    entries: FxHashMap<LogId, Tapped>,
    generation: Option<u64>,
    routes: Arc<Routes>,
}

/// A log and who hears of its records.
struct Tapped {
    entry: Arc<LogEntry>,
    exchange: Text,
    /// For what is offered later.
    origin: Arc<Origin>,
    permits: Permits,
    /// Where all records go, if they go to one place; looked up when it is first wanted.
    audience: Option<Audience>,
}

/// Who hears of the records of a log.
#[derive(Clone)]
enum Audience {
    /// Nobody, whatever is in them.
    Nobody,
    /// The same for each.
    Same(Topic, Arc<Targets>),
    /// That is up to the record.
    Each,
}

impl Tapped {
    fn new(entry: &Arc<LogEntry>) -> Option<Tapped> {
        let exchange = entry.tap.clone()?;
        let origin = Origin {
            protocol: PROTOCOL.into(),
            vhost: entry.vhost.clone(),
            user: entry.tapped_by.clone(),
            ..Origin::default()
        };
        let mut permits = Permits::default();
        permits.set_actor(entry.tapped_by.clone(), entry.vhost.clone());
        Some(Tapped {
            entry: entry.clone(),
            exchange,
            origin: Arc::new(origin),
            permits,
            audience: None,
        })
    }

    fn audience(&mut self, routes: &Routes) -> Audience {
        if self.audience.is_none() {
            self.audience = Some(self.look_up(routes));
        }
        self.audience.clone().unwrap_or(Audience::Each)
    }

    fn look_up(&mut self, routes: &Routes) -> Audience {
        let name = &self.entry.info.name;
        if let Some(template) = &self.entry.settings.route_key {
            return match routes.tap_may_match(&self.entry, &template.prefix(name)) {
                true => Audience::Each,
                false => Audience::Nobody,
            };
        }
        let topic = Topic::new(name.clone(), Grammar::Dots);
        if !self.may_offer(routes, &topic) {
            return Audience::Nobody;
        }
        let mut targets = Targets::default();
        routes.route_tapped(&self.entry, &topic, &mut Facts::default, &mut targets);
        if targets.by_headers {
            Audience::Each
        } else if targets.is_empty() {
            Audience::Nobody
        } else {
            Audience::Same(topic, Arc::new(targets))
        }
    }

    /// Whether the one who had the log tapped may publish there.
    fn may_offer(&mut self, routes: &Routes, topic: &Topic) -> bool {
        if self.entry.tapped_by.is_empty() {
            return true;
        }
        self.permits.update(routes.access());
        let exchange = &self.exchange;
        let may = self
            .permits
            .check(Operation::Write, Kind::Exchange, exchange);
        may.is_ok()
            && (!self.permits.restricts_topics()
                || !routes.is_topic_exchange(&self.entry.vhost, exchange)
                || self
                    .permits
                    .check_topic(Operation::Write, exchange, &dots(topic), "")
                    .is_ok())
    }

    /// The topic under which a record is offered; none where it has none or the broker keeps it for itself.
    fn topic(&self, record: &log::Record) -> Option<Topic> {
        let (settings, name) = (&self.entry.settings, &self.entry.info.name);
        let topic = match &settings.route_key {
            Some(template) => template.render(name, record.key.as_ref(), &record.headers)?,
            None => Topic::new(name.clone(), Grammar::Dots),
        };
        let is_internal = topic.text().starts_with('$');
        let is_deep = topic.tokens().count() > LEVELS_MAX;
        (!is_internal && !is_deep).then_some(topic)
    }
}

/// Batches as they were read.
struct Stretch {
    batches: Vec<FetchedBatch>,
    aborted: Vec<Aborted>,
}

/// What was to be read is damaged up to `next`.
struct Damaged {
    next: Offset,
}

/// What a look at batches found.
struct Looked {
    /// The offset behind the last record looked at.
    next: Offset,
    /// Somebody is offered something, so that the new position needs a commit.
    offered: bool,
    /// Nobody ever is by these routes.
    quiet: bool,
}

impl Tap {
    async fn offer(&mut self, partition: (LogId, u32)) -> Result<Progress, Stop> {
        self.refresh();
        let Some(tapped) = self.entries.get(&partition.0) else {
            self.positions.remove(&partition);
            return Ok(Progress::Done);
        };
        let entry = tapped.entry.clone();
        let Some(tail) = entry.tails.get(partition.1 as usize) else {
            return Ok(Progress::Done);
        };
        let Bounds {
            log_start,
            last_stable,
            ..
        } = tail.bounds();
        let passed = tail.tap().map(|tap| tap.position).unwrap_or_default();
        let known = self.positions.get(&partition).copied().unwrap_or_default();
        let from = known.max(passed).max(log_start);
        let filled = tail.fill().filter(|_| entry.settings.retain_map);
        if let Some(filled) = filled.filter(|filled| *filled < from) {
            self.fill(&entry, partition, filled, from).await?;
            return Ok(Progress::More);
        }
        if from >= last_stable {
            if let Some(filled) = filled {
                self.note_filled(&entry, partition, filled, None);
                self.flush().await?;
            }
            return Ok(Progress::Done);
        }
        let Looked {
            next,
            offered,
            quiet,
        } = self.offer_records(&entry, partition.1, from).await?;
        let quiet = self.generation.filter(|_| quiet);
        self.positions.insert(partition, next);
        if offered || !tail.pass(from, next, quiet) {
            if let Some(filled) = filled {
                self.note_filled(&entry, partition, filled, Some(next));
            }
            self.advance(&entry, partition, next).await?;
        }
        Ok(if next < last_stable {
            Progress::More
        } else {
            Progress::Done
        })
    }

    fn refresh(&mut self) {
        let generation = self.inner.snapshot.generation();
        if self.generation != Some(generation) {
            self.routes = self.inner.snapshot.load();
            self.entries = self
                .routes
                .all_logs()
                .filter_map(|entry| Some((entry.info.id, Tapped::new(entry)?)))
                .collect();
            // What is looked up is as new as the routes, whatever has been published since.
            self.generation = Some(self.routes.generation);
        }
    }

    /// Queues what the records from `from` on lead to.
    async fn offer_records(
        &mut self,
        entry: &Arc<LogEntry>,
        partition: u32,
        from: Offset,
    ) -> Result<Looked, Stop> {
        let mut looked = Looked {
            next: from,
            offered: false,
            quiet: false,
        };
        let Some(audience) = self.audience(entry.info.id) else {
            return Ok(looked);
        };
        let maps = entry.settings.retain_map;
        looked.quiet = matches!(audience, Audience::Nobody) && !maps;
        let Stretch { batches, aborted } = match self.fetch(entry, partition, from).await? {
            Some(Ok(stretch)) => stretch,
            Some(Err(Damaged { next })) => {
                entry.tails[partition as usize].lose(next.0 - from.0);
                return Ok(Looked { next, ..looked });
            }
            None => return Ok(looked),
        };
        for step in walk(&batches, &aborted) {
            let step = step.map_err(unreadable)?;
            looked.next = step.behind;
            let is_captured = step.stored.flags & record_flags::CAPTURED != 0;
            // What an exchange led here has been heard there.
            let audience = match is_captured {
                true => &Audience::Nobody,
                false => &audience,
            };
            let is_heard = match audience {
                Audience::Nobody if is_captured => maps,
                Audience::Nobody => {
                    maps || log::may_retain(&step.stored.bytes, entry.settings.retain_compressed)
                }
                Audience::Same(..) | Audience::Each => true,
            };
            if step.shown && is_heard {
                let offered = self.offer_batch(entry, partition, from, &step, audience);
                self.inner.metrics.tapped(offered);
                looked.offered |= offered > 0;
            }
        }
        Ok(looked)
    }

    /// Reads committed batches from an offset on; none where nothing is there any more.
    async fn fetch(
        &mut self,
        entry: &Arc<LogEntry>,
        partition: u32,
        from: Offset,
    ) -> Result<Option<Result<Stretch, Damaged>>, Stop> {
        let tail = &entry.tails[partition as usize];
        let wanted = FetchPartition {
            log: entry.info.name.clone(),
            id: None,
            partition,
            from,
            max_bytes: READ_BYTES,
        };
        let fetch = Fetch {
            partitions: vec![wanted],
            min_bytes: 0,
            max_bytes: READ_BYTES,
            wait: Duration::ZERO,
            isolation: Isolation::Committed,
        };
        let tails = vec![Some((entry.info.id, tail.clone()))];
        let store = self.inner.committer.store().clone();
        let fetched = log::fetch(store.clone(), entry.vhost.clone(), tails, fetch).await;
        let Some(Fetched {
            result, aborted, ..
        }) = fetched.into_iter().next()
        else {
            return Ok(None);
        };
        match result {
            Ok(batches) => Ok(Some(Ok(Stretch { batches, aborted }))),
            // The log was deleted, or retention was faster: there is nothing to offer here.
            Err(Refusal::NotFound { .. } | Refusal::OffsetOutOfRange(_)) => Ok(None),
            Err(Refusal::Corrupt(reason)) => {
                let end = tail.bounds().last_stable;
                let place = (entry.info.id, partition);
                let next = log::behind_damage(&*store, place, from, end).await;
                let next = next.map_err(unreadable)?;
                tracing::error!(log = %entry.info.name, partition, %from, to = %next, %reason, "tap leaves out what is damaged");
                Ok(Some(Err(Damaged { next })))
            }
            Err(refusal) => Err(unreadable(refusal)),
        }
    }

    fn audience(&mut self, log: LogId) -> Option<Audience> {
        let tapped = self.entries.get_mut(&log)?;
        Some(tapped.audience(&self.routes))
    }

    /// How many of the records reach somebody.
    fn offer_batch(
        &mut self,
        entry: &LogEntry,
        partition: u32,
        from: Offset,
        step: &Step<'_>,
        audience: &Audience,
    ) -> u64 {
        let Some(tapped) = self.entries.get_mut(&entry.info.id) else {
            return 0;
        };
        let heeds_retain =
            entry.settings.retain_compressed || !log::is_compressed(&step.stored.bytes);
        let mut offered = 0;
        let (name, exchange) = (&entry.info.name, tapped.exchange.clone());
        let lost = step.each_record(name, partition, from, |offset, record| {
            let topic = match audience {
                Audience::Same(topic, _) => Some(topic.clone()),
                Audience::Nobody | Audience::Each => tapped.topic(&record),
            };
            let Some(topic) = topic else {
                self.inner.metrics.untapped(1);
                return;
            };
            let made = record.timestamp;
            let mut message = log::message_from_record(
                name,
                partition,
                offset,
                record,
                &exchange,
                &tapped.origin,
            );
            // What a producer wrote into a header says nothing about where its record is offered.
            (message.exchange, message.topic) = (exchange.clone(), topic);
            message.retain = (message.retain && heeds_retain) || entry.settings.retain_map;
            let retains = message.retain && exchange == SQUARE;
            let targets = match audience {
                Audience::Same(_, targets) => targets.clone(),
                Audience::Nobody if !retains => return,
                Audience::Nobody | Audience::Each => {
                    if !tapped.may_offer(&self.routes, &message.topic) {
                        self.inner.metrics.tap_denied(1);
                        return;
                    }
                    let mut targets = Targets::default();
                    if matches!(audience, Audience::Each) {
                        let mut facts = || Facts::of(&message);
                        self.routes
                            .route_tapped(entry, &message.topic, &mut facts, &mut targets);
                    }
                    Arc::new(targets)
                }
            };
            if targets.is_empty() {
                age(&mut message, made, (self.inner.clock)().wall);
            }
            offered += u64::from(push(
                &self.inner,
                &mut self.outgoing,
                &targets,
                Arc::new(message),
                retains,
            ));
        });
        entry.tails[partition as usize].lose(lost);
        offered
    }

    /// Stores the position together with what was queued.
    async fn advance(
        &mut self,
        entry: &LogEntry,
        partition: (LogId, u32),
        next: Offset,
    ) -> Result<(), Stop> {
        let shard = self.inner.shard_of_partition(entry.info.id, partition.1);
        let (log, number) = partition;
        self.outgoing.push(
            shard,
            Op::Tapped {
                log,
                partition: number,
                offset: next,
            },
        );
        if self.outgoing.spanned != 0 {
            self.outgoing.spanned |= 1 << shard;
        }
        self.flush().await
    }

    /// Hands over what was queued.
    async fn flush(&mut self) -> Result<(), Stop> {
        let flushed = self.outgoing.flush(&self.inner, &self.mailbox);
        flushed.await.map_err(|_| Stop::Broker)
    }
}

fn unreadable(refusal: Refusal) -> Stop {
    Stop::Unreadable(refusal.to_string())
}

/// What is only retained, perhaps long after it was made, has the time to live that its record has left. One whose time is
/// up clears, as the newest value of its key.
fn age(message: &mut Message, made: i64, now: Timestamp) {
    let (Some(expiry), Ok(made)) = (message.expiry_ms, u64::try_from(made)) else {
        return;
    };
    let left = made.saturating_add(expiry).saturating_sub(now.0);
    match left {
        0 => message.body = None,
        left => message.expiry_ms = Some(left.min(expiry)),
    }
}

/// Hands a record to all that it leads to, if it leads anywhere.
fn push(
    inner: &Inner,
    outgoing: &mut Outgoing,
    targets: &Targets,
    message: Arc<Message>,
    retains: bool,
) -> bool {
    targets.remember(&message);
    inner.forward(&message, targets, outgoing);
    if retains {
        let shard = inner.shard_of_name(&message.topic.render(Grammar::Slashes));
        let op = Op::Retain {
            vhost: message.origin.vhost.clone(),
            message,
            token: None,
        };
        // Whoever gets it finds it retained.
        outgoing.push_first(shard, op);
        outgoing.spanned |= 1 << shard;
    }
    retains || !targets.is_empty()
}
