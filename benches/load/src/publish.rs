//! The publishing side: blocks of messages encoded once, stamped in place and written whole.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::board::Board;
use crate::inbox::Inbox;
use crate::pace::{Pace, Timer};
use crate::report::latencies;
use crate::window::Window;

/// What a protocol knows about publishing on one connection that is already open.
pub trait Sink: Send + 'static {
    /// Messages of one write at most.
    fn block(&self) -> u64;
    /// Messages that may wait for an acknowledgement; `None` when the broker sends none.
    fn window(&self) -> Option<u64>;
    /// False while a request must be answered before the next.
    fn is_ready(&self) -> bool {
        true
    }
    /// How long messages that are due may wait for the block to fill.
    fn linger_ns(&self) -> u64 {
        0
    }
    /// Stamps `count` messages numbered from `first`, at most [`Sink::block`] of them, and gives their bytes.
    fn stamp(&mut self, first: u64, count: u64, sent_ns: &dyn Fn(u64) -> u64) -> &[u8];
    /// A request that the broker answers only after it has taken all that was sent before.
    fn barrier(&mut self) -> Vec<u8>;
    /// Takes whole replies off `input` and returns the bytes taken.
    fn on_input(
        &mut self,
        input: &[u8],
        acknowledgements: &mut Acknowledgements,
    ) -> anyhow::Result<usize>;
}

/// What the broker has answered to one publisher.
pub struct Acknowledgements {
    window: Window,
    pub latencies: Histogram<u64>,
    settled: u64,
    refused: u64,
    passed_barrier: bool,
    now_ns: u64,
    measured_from_ns: u64,
}

impl Acknowledgements {
    pub fn new(window: u64) -> Acknowledgements {
        Acknowledgements {
            window: Window::new(window),
            latencies: latencies(),
            settled: 0,
            refused: 0,
            passed_barrier: false,
            now_ns: 0,
            measured_from_ns: 0,
        }
    }

    pub fn accept(&mut self, number: u64) {
        if let Some(sent_ns) = self.window.settle(number) {
            self.record(sent_ns);
        }
    }

    /// The waiting message whose number is `rest` modulo `modulus`.
    pub fn number_of(&self, rest: u64, modulus: u64) -> u64 {
        self.window.number_of(rest, modulus)
    }

    pub fn accept_through(&mut self, number: u64) {
        let (now_ns, from_ns, settled, latencies) = (
            self.now_ns,
            self.measured_from_ns,
            &mut self.settled,
            &mut self.latencies,
        );
        self.window.settle_through(number, |sent_ns| {
            *settled += 1;
            if sent_ns >= from_ns {
                latencies.saturating_record(now_ns.saturating_sub(sent_ns).max(1));
            }
        });
    }

    pub fn refuse(&mut self, number: u64) {
        self.refused += u64::from(self.window.settle(number).is_some());
    }

    pub fn refuse_through(&mut self, number: u64) {
        let refused = &mut self.refused;
        self.window.settle_through(number, |_| *refused += 1);
    }

    pub fn pass_barrier(&mut self) {
        self.passed_barrier = true;
    }

    fn record(&mut self, sent_ns: u64) {
        self.settled += 1;
        if sent_ns >= self.measured_from_ns {
            self.latencies
                .saturating_record(self.now_ns.saturating_sub(sent_ns).max(1));
        }
    }

    fn begin(&mut self, board: &Board) {
        self.now_ns = board.now_ns();
        self.measured_from_ns = board.measured_from_ns.load(Relaxed);
    }

    fn flush(&mut self, board: &Board) {
        if self.settled + self.refused > 0 {
            board.acknowledged.fetch_add(self.settled, Relaxed);
            board.refused.fetch_add(self.refused, Relaxed);
            board.last_ns.fetch_max(self.now_ns, Relaxed);
            (self.settled, self.refused) = (0, 0);
        }
    }
}

/// How much one publisher sends and until when.
pub struct Task {
    pub pace: Pace,
    pub count: u64,
    /// No message is begun after this, in ns since the epoch.
    pub deadline_ns: u64,
    /// How long to wait for the broker after the last message.
    pub patience: Duration,
}

/// Consumers that make no progress for this long have lost what is missing.
const LAG_PATIENCE: Duration = Duration::from_secs(2);

/// One publisher at work.
pub struct Publisher<S> {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    inbox: Inbox,
    sink: S,
    board: Arc<Board>,
    task: Task,
    timer: Timer,
    sent: u64,
}

enum Next {
    Send(u64),
    AwaitReply,
    AwaitTime(u64),
    AwaitConsumers,
    Finish,
}

impl<S: Sink> Publisher<S> {
    pub fn new(
        stream: TcpStream,
        inbox: Inbox,
        sink: S,
        board: Arc<Board>,
        task: Task,
    ) -> anyhow::Result<Publisher<S>> {
        let (reader, writer) = stream.into_split();
        let timer = Timer::new().context("cannot make a timer")?;
        Ok(Publisher {
            reader,
            writer,
            inbox,
            sink,
            board,
            task,
            timer,
            sent: 0,
        })
    }

    /// Publishes to the end of the task and until everything is acknowledged.
    pub async fn drive(mut self) -> anyhow::Result<Histogram<u64>> {
        let mut replies = Acknowledgements::new(self.sink.window().unwrap_or(1));
        loop {
            match self.next(&replies) {
                Next::Send(count) => self.send(count, &mut replies).await?,
                Next::AwaitReply => self.receive(&mut replies).await?,
                Next::AwaitTime(ns) => tokio::select! {
                    biased;
                    slept = self.timer.sleep(ns) => slept.context("cannot sleep")?,
                    read = self.reader.read(self.inbox.room()) => self.received(read, &mut replies)?,
                },
                Next::AwaitConsumers => tokio::select! {
                    biased;
                    () = self.board.progress(LAG_PATIENCE) => {}
                    read = self.reader.read(self.inbox.room()) => self.received(read, &mut replies)?,
                },
                Next::Finish => break,
            }
        }
        let patience = self.task.patience;
        let finished = tokio::time::timeout(patience, self.finish(&mut replies)).await;
        finished.context("the broker did not acknowledge the last messages in time")??;
        Ok(replies.latencies)
    }

    fn next(&self, replies: &Acknowledgements) -> Next {
        let now_ns = self.board.now_ns();
        let left = self.task.count - self.sent;
        if left == 0 || now_ns >= self.task.deadline_ns {
            return Next::Finish;
        }
        let due = self.task.pace.due(now_ns).saturating_sub(self.sent);
        if due < left.min(self.sink.block()) {
            let planned_ns = self.task.pace.planned_ns(self.sent, now_ns) + self.sink.linger_ns();
            if now_ns < planned_ns {
                return Next::AwaitTime(planned_ns.min(self.task.deadline_ns) - now_ns);
            }
        }
        let window = self
            .sink
            .window()
            .map_or(u64::MAX, |_| replies.window.room());
        if window == 0 || !self.sink.is_ready() {
            return Next::AwaitReply;
        }
        match self.board.lag_room() {
            0 => Next::AwaitConsumers,
            lag => Next::Send(left.min(due).min(window).min(lag).min(self.sink.block())),
        }
    }

    /// Writes one block. Replies are taken meanwhile: a broker may stop reading until they are.
    async fn send(&mut self, count: u64, replies: &mut Acknowledgements) -> anyhow::Result<()> {
        let now_ns = self.board.now_ns();
        let (first, pace) = (self.sent, &self.task.pace);
        if self.sink.window().is_some() {
            (first..first + count)
                .for_each(|number| replies.window.send(pace.planned_ns(number, now_ns)));
        }
        self.sent += count;
        self.board.published.fetch_add(count, Relaxed);
        let mut block = self
            .sink
            .stamp(first, count, &|number| pace.planned_ns(number, now_ns));
        let outcome = loop {
            tokio::select! {
                biased;
                read = self.reader.read(self.inbox.room()) => match read {
                    Ok(count @ 1..) => self.inbox.filled(count),
                    Ok(0) => break Err(std::io::ErrorKind::UnexpectedEof.into()),
                    Err(error) => break Err(error),
                },
                written = self.writer.write(block) => match written {
                    Ok(count) if count < block.len() => block = &block[count..],
                    _ => break written.map(|_| ()),
                },
            }
        };
        // The broker's own words, when it left some, say more than a broken pipe.
        self.take_replies(replies)?;
        outcome.context("the broker closed a publisher's connection")?;
        // A socket that takes everything would otherwise keep this thread from the consumers.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn receive(&mut self, replies: &mut Acknowledgements) -> anyhow::Result<()> {
        let read = self.reader.read(self.inbox.room()).await;
        self.received(read, replies)
    }

    fn received(
        &mut self,
        read: std::io::Result<usize>,
        replies: &mut Acknowledgements,
    ) -> anyhow::Result<()> {
        let count = read.context("cannot read from the broker")?;
        anyhow::ensure!(count > 0, "the broker closed a publisher's connection");
        self.inbox.filled(count);
        self.take_replies(replies)
    }

    fn take_replies(&mut self, replies: &mut Acknowledgements) -> anyhow::Result<()> {
        if self.inbox.unread().is_empty() {
            return Ok(());
        }
        replies.begin(&self.board);
        let used = self.sink.on_input(self.inbox.unread(), replies)?;
        self.inbox.consume(used);
        replies.flush(&self.board);
        Ok(())
    }

    async fn finish(&mut self, replies: &mut Acknowledgements) -> anyhow::Result<()> {
        while self.sink.window().is_some() && !replies.window.is_empty() {
            self.receive(replies).await?;
        }
        let barrier = self.sink.barrier();
        self.writer
            .write_all(&barrier)
            .await
            .context("cannot write to the broker")?;
        while !replies.passed_barrier {
            self.receive(replies).await?;
        }
        self.board.last_ns.fetch_max(self.board.now_ns(), Relaxed);
        Ok(())
    }
}
