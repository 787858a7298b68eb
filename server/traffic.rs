//! What went over the sockets of one protocol, counted once per read, write and connection.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::{Kind, Sample};

/// The counters of one protocol.
#[derive(Debug, Default)]
pub struct Traffic {
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    received: AtomicU64,
    reads: AtomicU64,
    sent: AtomicU64,
    writes: AtomicU64,
}

impl Traffic {
    /// A connection was accepted.
    pub fn open(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    /// A connection that was accepted has ended.
    pub fn close(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    /// A connection was closed because there were too many.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// One read brought so many bytes.
    pub fn receive(&self, bytes: usize) {
        self.reads.fetch_add(1, Relaxed);
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// One write took so many bytes.
    pub fn send(&self, bytes: usize) {
        self.writes.fetch_add(1, Relaxed);
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    /// The counters as they are now.
    pub fn samples(&self, protocol: &'static str) -> Vec<Sample> {
        let closed = self.closed.load(Relaxed);
        let opened = self.opened.load(Relaxed);
        let counters = [
            (
                "trivium_connections_opened_total",
                "Connections accepted.",
                opened,
            ),
            (
                "trivium_connections_closed_total",
                "Connections that have ended.",
                closed,
            ),
            (
                "trivium_connections_refused_total",
                "Connections over the limit.",
                self.refused.load(Relaxed),
            ),
            (
                "trivium_received_bytes_total",
                "Bytes read from sockets.",
                self.received.load(Relaxed),
            ),
            (
                "trivium_reads_total",
                "Reads from sockets.",
                self.reads.load(Relaxed),
            ),
            (
                "trivium_sent_bytes_total",
                "Bytes written to sockets.",
                self.sent.load(Relaxed),
            ),
            (
                "trivium_writes_total",
                "Writes to sockets.",
                self.writes.load(Relaxed),
            ),
        ];
        let current = (
            "trivium_connections",
            "Connections now open.",
            opened.saturating_sub(closed),
        );
        let counters = counters.into_iter().map(|row| (Kind::Counter, row));
        counters
            .chain([(Kind::Gauge, current)])
            .map(|(kind, (name, help, value))| {
                Sample::new(name, help, kind, value as f64).with("protocol", protocol)
            })
            .collect()
    }
}
