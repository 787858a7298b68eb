//! One run from the first connection to the report.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::consume::{self, Source, Tally};
use crate::inbox::Inbox;
use crate::options::{Load, Mode};
use crate::pace::Pace;
use crate::process::{self, Spent};
use crate::publish::{Publisher, Sink, Task};
use crate::report::{Checks, Cost, Report, Side, latencies};

/// A broker as one protocol reaches it.
pub trait Target {
    type Sink: Sink;
    type Source: Source;
    const PROTOCOL: &'static str;

    /// Makes what the run needs: queues, topics.
    async fn prepare(&self) -> anyhow::Result<()>;
    async fn publisher(&self, index: usize) -> anyhow::Result<(TcpStream, Inbox, Self::Sink)>;
    async fn consumer(&self, index: usize) -> anyhow::Result<(TcpStream, Inbox, Self::Source)>;
    /// Removes what the run alone needed.
    async fn clean_up(&self) -> anyhow::Result<()>;
    /// Deliveries of one published message when both sides run.
    fn fan_out(&self) -> u64;
    /// Whether the broker acknowledges what is published.
    fn acknowledges(&self) -> bool;
}

/// How often the run is looked at; figures carry their own time, so they do not depend on it.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS_PER_LINE: u32 = 25;
/// How long the last messages may wait for their acknowledgement.
const LAST_REPLY: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

pub async fn run<T: Target>(target: &T, load: &Load) -> anyhow::Result<String> {
    load.check()?;
    within(target.prepare()).await?;
    let max_lag = match (load.mode, load.max_lag) {
        (Mode::Both, limit @ 1..) => limit.saturating_mul(target.fan_out()),
        _ => u64::MAX,
    };
    let board = Arc::new(Board::new(target.fan_out(), max_lag));
    let (stop, stopped) = watch::channel(false);

    let mut consumers = JoinSet::new();
    for index in 0..load.consumers() {
        let (stream, inbox, source) = within(target.consumer(index)).await?;
        consumers.spawn(consume::drive(
            stream,
            inbox,
            source,
            Arc::clone(&board),
            stopped.clone(),
        ));
    }
    let mut connected = Vec::new();
    for index in 0..load.publishers() {
        connected.push(within(target.publisher(index)).await?);
    }

    let brokers = process::tree(&load.pid);
    process::reset_peak(&brokers);
    let mut watcher = Watcher::new(load, target.acknowledges(), brokers, Arc::clone(&board));
    let mut publishers = JoinSet::new();
    for (index, (stream, inbox, sink)) in connected.into_iter().enumerate() {
        let task = watcher.task(index);
        publishers.spawn(Publisher::new(stream, inbox, sink, Arc::clone(&board), task)?.drive());
    }

    let acknowledged = watcher.watch(&mut publishers, &mut consumers).await?;
    stop.send_replace(true);
    let mut tallies = Vec::new();
    while let Some(tally) = consumers.join_next().await {
        tallies.push(tally??);
    }
    let report = watcher.report(T::PROTOCOL, &acknowledged, &tallies)?;
    within(target.clean_up()).await?;
    report.render(load.json)
}

/// Opens a connection to `address`, a host and port.
pub async fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    Ok(stream)
}

async fn within<R>(step: impl Future<Output = anyhow::Result<R>>) -> anyhow::Result<R> {
    tokio::time::timeout(CONNECT_LIMIT, step)
        .await
        .context("the broker did not answer in time")?
}

/// Counters and costs at one moment.
#[derive(Clone, Copy)]
struct Snapshot {
    at_ns: u64,
    published: u64,
    consumed: u64,
    consumed_bytes: u64,
    broker: Spent,
    generator: Spent,
}

/// Looks at a run from outside: takes the snapshots between which it is measured, and sees its end.
struct Watcher<'a> {
    load: &'a Load,
    acknowledges: bool,
    brokers: Vec<u32>,
    board: Arc<Board>,
    start_ns: u64,
    measured_from_ns: u64,
    deadline_ns: u64,
    before: Snapshot,
    after: Option<Snapshot>,
}

impl<'a> Watcher<'a> {
    fn new(
        load: &'a Load,
        acknowledges: bool,
        brokers: Vec<u32>,
        board: Arc<Board>,
    ) -> Watcher<'a> {
        let start_ns = board.now_ns();
        let measured_from_ns = start_ns + load.warmup.as_nanos() as u64;
        let deadline_ns = load
            .run_time()
            .map_or(u64::MAX, |time| measured_from_ns + time.as_nanos() as u64);
        board.measured_from_ns.store(measured_from_ns, Relaxed);
        let before = snapshot(&board, acknowledges, &brokers);
        Watcher {
            load,
            acknowledges,
            brokers,
            board,
            start_ns,
            measured_from_ns,
            deadline_ns,
            before,
            after: None,
        }
    }

    fn task(&self, index: usize) -> Task {
        Task {
            pace: Pace::new(self.start_ns, self.load.rate, self.load.publishers),
            count: self.load.share(index),
            deadline_ns: self.deadline_ns,
            patience: LAST_REPLY,
        }
    }

    /// Returns at the end of the run with the latencies of the acknowledgements.
    async fn watch(
        &mut self,
        publishers: &mut JoinSet<anyhow::Result<Histogram<u64>>>,
        consumers: &mut JoinSet<anyhow::Result<Tally>>,
    ) -> anyhow::Result<Histogram<u64>> {
        let mut acknowledged = latencies();
        let mut line = Line::new(self.load.json);
        for look in 1.. {
            tokio::time::sleep(LOOK).await;
            while let Some(finished) = publishers.try_join_next() {
                acknowledged
                    .add(finished??)
                    .context("cannot add latencies")?;
            }
            if let Some(finished) = consumers.try_join_next() {
                finished??;
                anyhow::bail!("a consumer ended before the run did");
            }
            if self.look(publishers.is_empty()) {
                break;
            }
            if look % LOOKS_PER_LINE == 0 {
                line.show(&self.board, LOOK * LOOKS_PER_LINE);
            }
        }
        line.clear();
        Ok(acknowledged)
    }

    /// Takes the snapshots that are due. True at the end of the run.
    fn look(&mut self, published_all: bool) -> bool {
        let now_ns = self.board.now_ns();
        if self.before.at_ns < self.measured_from_ns {
            self.before = snapshot(&self.board, self.acknowledges, &self.brokers);
        }
        if self.after.is_none() && now_ns >= self.deadline_ns {
            self.after = Some(snapshot(&self.board, self.acknowledges, &self.brokers));
        }
        let quiet_ns = now_ns.saturating_sub(self.board.last_ns.load(Relaxed).max(self.start_ns));
        let quiet = quiet_ns > self.load.drain.as_nanos() as u64;
        let consumed = self.board.consumed.load(Relaxed);
        match self.load.mode {
            Mode::Publish => published_all,
            Mode::Both => published_all && (quiet || consumed >= self.expected()),
            Mode::Consume if self.deadline_ns < u64::MAX => now_ns >= self.deadline_ns,
            Mode::Consume => quiet || self.load.count.is_some_and(|count| consumed >= count),
        }
    }

    /// Deliveries that the consumers should see.
    fn expected(&self) -> u64 {
        match self.load.mode {
            Mode::Publish => 0,
            Mode::Consume => self.load.count.unwrap_or(0),
            Mode::Both => {
                (self.board.published.load(Relaxed) - self.board.refused.load(Relaxed))
                    * self.board.fan_out
            }
        }
    }

    fn report(
        &self,
        protocol: &'static str,
        acknowledged: &Histogram<u64>,
        tallies: &[Tally],
    ) -> anyhow::Result<Report> {
        let (before, board) = (self.before, &self.board);
        let after = self.after.unwrap_or_else(|| {
            let at_ns = board.last_ns.load(Relaxed).max(before.at_ns + 1);
            Snapshot {
                at_ns,
                ..snapshot(board, self.acknowledges, &self.brokers)
            }
        });
        let seconds = (after.at_ns - before.at_ns) as f64 / 1e9;
        let mut arrived = latencies();
        for tally in tallies {
            arrived
                .add(&tally.latencies)
                .context("cannot add latencies")?;
        }
        let published = after.published - before.published;
        let published_bytes = published * self.load.size as u64;
        let (consumed, consumed_bytes) = (
            after.consumed - before.consumed,
            after.consumed_bytes - before.consumed_bytes,
        );
        let (messages, bytes) = match self.load.mode {
            Mode::Publish => (published, published_bytes),
            Mode::Consume | Mode::Both => (consumed, consumed_bytes),
        };
        let mode = self.load.mode;
        let all_consumed = board.consumed.load(Relaxed);
        let cost = |before: Spent, after: Spent| {
            let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
            Cost::new(
                Spent {
                    cpu_seconds,
                    ..after
                },
                seconds,
                messages,
                bytes,
            )
        };
        Ok(Report {
            protocol,
            mode: format!("{mode:?}").to_lowercase(),
            seconds,
            published: mode
                .publishes()
                .then(|| Side::new(published, published_bytes, seconds, acknowledged)),
            consumed: mode
                .consumes()
                .then(|| Side::new(consumed, consumed_bytes, seconds, &arrived)),
            checks: Checks {
                published: board.published.load(Relaxed),
                refused: board.refused.load(Relaxed),
                consumed: all_consumed,
                lost: self.expected().saturating_sub(all_consumed),
                gaps: tallies.iter().map(|tally| tally.gaps).sum(),
                disordered: tallies.iter().map(|tally| tally.disordered).sum(),
            },
            broker: (!self.brokers.is_empty()).then(|| cost(before.broker, after.broker)),
            generator: cost(before.generator, after.generator),
        })
    }
}

fn snapshot(board: &Board, acknowledges: bool, brokers: &[u32]) -> Snapshot {
    let published = if acknowledges {
        &board.acknowledged
    } else {
        &board.published
    };
    Snapshot {
        at_ns: board.now_ns(),
        published: published.load(Relaxed),
        consumed: board.consumed.load(Relaxed),
        consumed_bytes: board.consumed_bytes.load(Relaxed),
        broker: process::spent(brokers),
        generator: process::spent(&[std::process::id()]),
    }
}

/// The live line on a terminal.
struct Line {
    visible: bool,
    published: u64,
    consumed: u64,
}

impl Line {
    fn new(json: bool) -> Line {
        Line {
            visible: !json && std::io::stderr().is_terminal(),
            published: 0,
            consumed: 0,
        }
    }

    fn show(&mut self, board: &Board, since: Duration) {
        let (published, consumed) = (board.published.load(Relaxed), board.consumed.load(Relaxed));
        let rate = |now: u64, before: u64| (now - before) as f64 / since.as_secs_f64();
        let (out, back) = (
            rate(published, self.published),
            rate(consumed, self.consumed),
        );
        self.write(&format!(
            "\r\x1b[Kpublished {published} ({out:.0}/s)  consumed {consumed} ({back:.0}/s)"
        ));
        (self.published, self.consumed) = (published, consumed);
    }

    fn clear(&self) {
        self.write("\r\x1b[K");
    }

    fn write(&self, text: &str) {
        if self.visible {
            // A terminal that has gone away does not end the run.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}
