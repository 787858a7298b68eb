//! What MQTT connections count: locally with every packet, for all to see once per second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use trivium_core::{Now, Sample};

/// How long a busy connection may keep what it has counted to itself.
const PERIOD: Duration = Duration::from_secs(1);

/// Of all connections of a front end.
#[derive(Debug, Default)]
pub struct Counters {
    connected: AtomicU64,
    connected_max: AtomicU64,
    connects: AtomicU64,
    packets_received: AtomicU64,
    packets_sent: AtomicU64,
    publishes_received: AtomicU64,
    publishes_sent: AtomicU64,
    payload_received: AtomicU64,
    payload_sent: AtomicU64,
}

impl Counters {
    /// A CONNECT has come.
    pub(crate) fn connect(&self) {
        self.connects.fetch_add(1, Relaxed);
        self.packets_received.fetch_add(1, Relaxed);
    }

    /// A packet has come or gone before there was a [`Tally`].
    pub(crate) fn early(&self, received: u64, sent: u64) {
        self.packets_received.fetch_add(received, Relaxed);
        self.packets_sent.fetch_add(sent, Relaxed);
    }

    /// Everything as it is now.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let sample = |name, help, counter, value: &AtomicU64| Sample {
            name,
            help,
            counter,
            labels: Vec::new(),
            value: value.load(Relaxed),
        };
        vec![
            sample(
                "trivium_mqtt_clients",
                "MQTT clients now connected",
                false,
                &self.connected,
            ),
            sample(
                "trivium_mqtt_clients_max",
                "MQTT clients connected at once, at most so far",
                false,
                &self.connected_max,
            ),
            sample(
                "trivium_mqtt_connects_total",
                "CONNECT packets received",
                true,
                &self.connects,
            ),
            sample(
                "trivium_mqtt_packets_received_total",
                "MQTT packets received",
                true,
                &self.packets_received,
            ),
            sample(
                "trivium_mqtt_packets_sent_total",
                "MQTT packets sent",
                true,
                &self.packets_sent,
            ),
            sample(
                "trivium_mqtt_publishes_received_total",
                "PUBLISH packets received",
                true,
                &self.publishes_received,
            ),
            sample(
                "trivium_mqtt_publishes_sent_total",
                "PUBLISH packets sent",
                true,
                &self.publishes_sent,
            ),
            sample(
                "trivium_mqtt_payload_received_bytes_total",
                "Payloads of PUBLISH packets received",
                true,
                &self.payload_received,
            ),
            sample(
                "trivium_mqtt_payload_sent_bytes_total",
                "Payloads of PUBLISH packets sent",
                true,
                &self.payload_sent,
            ),
        ]
    }
}

/// Packets one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Packets that are not PUBLISH.
    pub(crate) others: u32,
    pub(crate) publishes: u32,
    /// Bytes of their payloads.
    pub(crate) payload: u64,
}

impl Passed {
    /// A PUBLISH.
    pub(crate) fn publish(&mut self, payload: usize) {
        self.publishes += 1;
        self.payload += payload as u64;
    }

    fn fold(&mut self, packets: &AtomicU64, publishes: &AtomicU64, payload: &AtomicU64) {
        let Passed {
            others,
            publishes: published,
            payload: bytes,
        } = std::mem::take(self);
        packets.fetch_add(u64::from(others) + u64::from(published), Relaxed);
        if published > 0 {
            publishes.fetch_add(published.into(), Relaxed);
            payload.fetch_add(bytes, Relaxed);
        }
    }
}

/// What one connection has counted since all could see it. It is connected for as long as this lasts.
#[derive(Debug)]
pub struct Tally {
    counters: Arc<Counters>,
    pub(crate) received: Passed,
    pub(crate) sent: Passed,
    folded: Instant,
}

impl Tally {
    /// Of a client that is told just now that it is connected.
    pub(crate) fn new(counters: &Arc<Counters>, now: Now) -> Tally {
        let connected = counters.connected.fetch_add(1, Relaxed) + 1;
        counters.connected_max.fetch_max(connected, Relaxed);
        Tally {
            counters: counters.clone(),
            received: Passed::default(),
            sent: Passed {
                others: 1,
                ..Passed::default()
            },
            folded: now.instant,
        }
    }

    /// Shows what was counted, if that is some time ago.
    pub(crate) fn fold_sometimes(&mut self, now: Now) {
        if now.instant.saturating_duration_since(self.folded) >= PERIOD {
            self.folded = now.instant;
            self.fold();
        }
    }

    /// Shows what was counted.
    pub(crate) fn fold(&mut self) {
        let Counters {
            packets_received,
            packets_sent,
            publishes_received,
            publishes_sent,
            payload_received,
            payload_sent,
            ..
        } = &*self.counters;
        if self.received != Passed::default() {
            self.received
                .fold(packets_received, publishes_received, payload_received);
        }
        if self.sent != Passed::default() {
            self.sent.fold(packets_sent, publishes_sent, payload_sent);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.fold();
        self.counters.connected.fetch_sub(1, Relaxed);
    }
}
