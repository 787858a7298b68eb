//! What the broker counts. Counters move once per turn, not once per message.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{conversions::Conversions, shard::Count, store::StoreError};

/// Counters of a broker, since it was opened.
#[derive(Debug)]
pub struct Metrics {
    /// Of what is published, to records.
    pub(crate) conversions: Arc<Conversions>,
    published: AtomicU64,
    unroutable: AtomicU64,
    delivered: AtomicU64,
    settled: AtomicU64,
    dropped: AtomicU64,
    expired: AtomicU64,
    unretained: AtomicU64,
    cursor_lost: AtomicU64,
    sessions_expired: AtomicU64,
    batches: AtomicU64,
    batch_bytes: AtomicU64,
    fetched_bytes: AtomicU64,
    tapped: AtomicU64,
    untapped: AtomicU64,
    tap_denied: AtomicU64,
    capture_denied: AtomicU64,
    backfill_lost: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// One line of the metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name in the exposition.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Whether it only grows.
    pub counter: bool,
    /// What tells samples of one name apart.
    pub labels: Vec<(&'static str, &'static str)>,
    /// Its value.
    pub value: u64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            conversions: Arc::new(Conversions::to("kafka")),
            published: AtomicU64::default(),
            unroutable: AtomicU64::default(),
            delivered: AtomicU64::default(),
            settled: AtomicU64::default(),
            dropped: AtomicU64::default(),
            expired: AtomicU64::default(),
            unretained: AtomicU64::default(),
            cursor_lost: AtomicU64::default(),
            sessions_expired: AtomicU64::default(),
            batches: AtomicU64::default(),
            batch_bytes: AtomicU64::default(),
            fetched_bytes: AtomicU64::default(),
            tapped: AtomicU64::default(),
            untapped: AtomicU64::default(),
            tap_denied: AtomicU64::default(),
            capture_denied: AtomicU64::default(),
            backfill_lost: AtomicU64::default(),
            failed: AtomicBool::default(),
            failure: Mutex::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn count(&self, count: &Count) {
        add(&self.delivered, count.delivered);
        add(&self.settled, count.settled);
        add(&self.dropped, count.dropped);
        add(&self.expired, count.expired);
        add(&self.unretained, count.unretained);
        add(&self.cursor_lost, count.lost);
    }

    pub(crate) fn published(&self, messages: u64, unroutable: u64) {
        add(&self.published, messages);
        add(&self.unroutable, unroutable);
    }

    pub(crate) fn appended(&self, batches: u64, bytes: u64) {
        add(&self.batches, batches);
        add(&self.batch_bytes, bytes);
    }

    pub(crate) fn fetched(&self, bytes: u64) {
        add(&self.fetched_bytes, bytes);
    }

    pub(crate) fn tapped(&self, records: u64) {
        add(&self.tapped, records);
    }

    pub(crate) fn untapped(&self, records: u64) {
        add(&self.untapped, records);
    }

    pub(crate) fn tap_denied(&self, records: u64) {
        add(&self.tap_denied, records);
    }

    pub(crate) fn capture_denied(&self, messages: u64) {
        add(&self.capture_denied, messages);
    }

    pub(crate) fn backfill_lost(&self, records: u64) {
        add(&self.backfill_lost, records);
    }

    pub(crate) fn session_expired(&self) {
        add(&self.sessions_expired, 1);
    }

    pub(crate) fn storage_failed(&self, error: &StoreError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() {
            tracing::error!(%error, "storage failed: nothing more is acknowledged until the broker is restarted");
            self.failed.store(true, Ordering::Relaxed);
            *failure = Some(error.to_string());
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Why the store has failed, if it has.
    pub fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        let counter = |name, help, value: &AtomicU64| {
            let value = value.load(Ordering::Relaxed);
            Sample {
                name,
                help,
                counter: true,
                labels: Vec::new(),
                value,
            }
        };
        let mut samples = vec![
            counter(
                "trivium_messages_published_total",
                "Messages published to exchanges",
                &self.published,
            ),
            counter(
                "trivium_messages_unroutable_total",
                "Published messages that no binding matched",
                &self.unroutable,
            ),
            counter(
                "trivium_messages_delivered_total",
                "Messages delivered to consumers",
                &self.delivered,
            ),
            counter(
                "trivium_messages_settled_total",
                "Deliveries acknowledged, rejected or returned",
                &self.settled,
            ),
            counter(
                "trivium_messages_dropped_total",
                "Messages that nobody was promised and nobody took",
                &self.dropped,
            ),
            counter(
                "trivium_messages_expired_total",
                "Messages whose time was up",
                &self.expired,
            ),
            counter(
                "trivium_cursor_lost_total",
                "Records that retention removed, or that are damaged, before a cursor had delivered them",
                &self.cursor_lost,
            ),
            counter(
                "trivium_backfill_lost_total",
                "Records that are damaged and were left out by bindings by way of a log",
                &self.backfill_lost,
            ),
            counter(
                "trivium_retained_refused_total",
                "Messages that were not retained because a limit was reached",
                &self.unretained,
            ),
            counter(
                "trivium_sessions_expired_total",
                "Sessions of MQTT clients that did not come back in time",
                &self.sessions_expired,
            ),
            counter(
                "trivium_log_batches_total",
                "Record batches appended by producers",
                &self.batches,
            ),
            counter(
                "trivium_log_bytes_total",
                "Bytes of record batches appended by producers",
                &self.batch_bytes,
            ),
            counter(
                "trivium_log_fetched_bytes_total",
                "Bytes of record batches read",
                &self.fetched_bytes,
            ),
            counter(
                "trivium_tapped_records_total",
                "Records of logs offered to exchanges",
                &self.tapped,
            ),
            counter(
                "trivium_tap_unaddressed_records_total",
                "Records of logs that were offered to nobody because mq.route.key yields no topic for them",
                &self.untapped,
            ),
            counter(
                "trivium_tap_denied_records_total",
                "Records of logs that were offered to nobody because the user who had the log tapped may not publish there",
                &self.tap_denied,
            ),
            counter(
                "trivium_capture_denied_total",
                "Messages that were refused, or left out of a log, because their publisher may not write to a log that captures them",
                &self.capture_denied,
            ),
        ];
        samples.extend(self.conversions.samples());
        samples
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    if amount > 0 {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
