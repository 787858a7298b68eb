//! The consuming side: frames are counted where they lie in the read buffer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::board::Board;
use crate::inbox::Inbox;
use crate::report::latencies;
use crate::stamp::Stamp;

/// What a protocol knows about consuming on one connection that is already subscribed.
pub trait Source: Send + 'static {
    /// Takes whole frames off `input`, tells `tally` of each message, and appends what must be answered
    /// (acknowledgements, the next fetch) to `reply`. Returns the bytes taken.
    fn on_input(
        &mut self,
        input: &[u8],
        tally: &mut Tally,
        reply: &mut Vec<u8>,
    ) -> anyhow::Result<usize>;
    /// Appends what is still owed to the broker when the run is over.
    fn farewell(&mut self, _reply: &mut Vec<u8>) {}
    /// Whether messages of one publisher come in the order of their numbers.
    fn keeps_order(&self) -> bool {
        true
    }
}

/// What one consumer has seen.
pub struct Tally {
    pub latencies: Histogram<u64>,
    /// Messages that a publisher sent between two that came here. With competing consumers these are
    /// with another consumer; with one they are lost or late.
    pub gaps: u64,
    /// Messages that came again, or after a later one of the same publisher.
    pub disordered: u64,
    messages: u64,
    bytes: u64,
    now_ns: u64,
    measured_from_ns: u64,
    keeps_order: bool,
    /// The next sequence number by publisher; `None` until its first message.
    next: Vec<Option<u64>>,
}

/// Publishers that order is checked for; stamps of others only give their latency.
const PUBLISHERS_MAX: usize = 1 << 16;

impl Tally {
    pub fn new(keeps_order: bool) -> Tally {
        Tally {
            latencies: latencies(),
            gaps: 0,
            disordered: 0,
            messages: 0,
            bytes: 0,
            now_ns: 0,
            measured_from_ns: 0,
            keeps_order,
            next: Vec::new(),
        }
    }

    /// One message of `size` bytes, which begins with `body`.
    pub fn message(&mut self, body: &[u8], size: usize) {
        self.messages += 1;
        self.bytes += size as u64;
        if let Some(stamp) = Stamp::read(body) {
            self.stamped(stamp);
        }
    }

    fn stamped(&mut self, stamp: Stamp) {
        if stamp.sent_ns >= self.measured_from_ns {
            self.latencies
                .saturating_record(self.now_ns.saturating_sub(stamp.sent_ns).max(1));
        }
        if self.keeps_order {
            self.in_sequence(stamp);
        }
    }

    fn in_sequence(&mut self, stamp: Stamp) {
        let publisher = stamp.publisher as usize;
        if publisher >= self.next.len() {
            if publisher >= PUBLISHERS_MAX {
                return;
            }
            self.next.resize(publisher + 1, None);
        }
        match self.next[publisher] {
            Some(next) if stamp.sequence < next => {
                self.disordered += 1;
                return;
            }
            Some(next) => self.gaps += stamp.sequence - next,
            None => {}
        }
        self.next[publisher] = Some(stamp.sequence + 1);
    }

    /// `count` messages whose first has the offset `found` where `expected` was due.
    pub fn order(&mut self, expected: i64, found: i64, count: usize) {
        match found - expected {
            ahead @ 1.. => self.gaps += ahead as u64,
            0 => {}
            _ => self.disordered += count as u64,
        }
    }

    /// Messages and bytes since the last read.
    #[cfg(test)]
    pub fn counted(&self) -> (u64, u64) {
        (self.messages, self.bytes)
    }

    fn begin(&mut self, board: &Board) {
        self.now_ns = board.now_ns();
        self.measured_from_ns = board.measured_from_ns.load(Relaxed);
    }

    fn flush(&mut self, board: &Board) {
        if self.messages > 0 {
            board.consumed(self.messages, self.bytes, self.now_ns);
            (self.messages, self.bytes) = (0, 0);
        }
    }
}

/// Consumes until `stopped` says so.
pub async fn drive(
    mut stream: TcpStream,
    mut inbox: Inbox,
    mut source: impl Source,
    board: Arc<Board>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Tally> {
    let (mut tally, mut reply) = (Tally::new(source.keeps_order()), Vec::new());
    loop {
        tally.begin(&board);
        let used = source.on_input(inbox.unread(), &mut tally, &mut reply)?;
        inbox.consume(used);
        tally.flush(&board);
        if !reply.is_empty() {
            stream
                .write_all(&reply)
                .await
                .context("cannot write to the broker")?;
            reply.clear();
        }
        tokio::select! {
            biased;
            read = stream.read(inbox.room()) => {
                let count = read.context("cannot read from the broker")?;
                anyhow::ensure!(count > 0, "the broker closed a consumer's connection");
                inbox.filled(count);
            }
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    source.farewell(&mut reply);
    stream
        .write_all(&reply)
        .await
        .context("cannot write to the broker")?;
    stream
        .shutdown()
        .await
        .context("cannot close a consumer's connection")?;
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp;

    fn tally(sequences: &[u64]) -> Tally {
        let mut tally = Tally::new(true);
        tally.now_ns = 5_000;
        let mut body = stamp::body(32, 1);
        for sequence in sequences {
            Stamp::renew(&mut body, *sequence, 1_000);
            tally.message(&body, 32);
        }
        tally
    }

    #[test]
    fn gaps_and_repeats_are_told_apart() {
        let tally = tally(&[5, 6, 9, 9, 7, 10]);
        assert_eq!((tally.gaps, tally.disordered), (2, 2));
        assert_eq!((tally.messages, tally.bytes), (6, 192));
        assert_eq!(tally.latencies.len(), 6);
    }

    #[test]
    fn a_stamp_cannot_make_the_tally_grow_without_bound() {
        let mut tally = Tally::new(true);
        tally.message(&stamp::body(32, u32::MAX), 32);
        assert!(tally.next.is_empty());
    }
}
