//! Spans of messages, sent to an OpenTelemetry collector by OTLP over HTTP, as JSON.
//!
//! The core hands spans over by a channel with a bound and never waits; one task here sends them in batches. While the
//! collector cannot be reached spans are dropped and counted, and nothing else happens.

mod encode;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tracing::{info, warn};
use trivium_core::{Span, Tracer};

use self::encode::encode;
use crate::{
    clock,
    config::{Otlp, OtlpEndpoint},
    metrics::{Kind, Sample},
    shutdown::{self, Stop, Stopper},
};

/// Spans that wait to be sent, at most: a few hundred bytes each.
const WAITING_MAX: usize = 8_192;
/// Spans of one request, at most.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for more.
const LINGER: Duration = Duration::from_millis(500);
/// How long a collector may take for a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what is left may take when the broker stops.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// Pauses after a failure, doubled up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Bytes of an answer's head that are looked at.
const HEAD_MAX: usize = 16 << 10;

/// What came of spans.
#[derive(Debug)]
pub struct Counters {
    tracer: Arc<Tracer>,
    exported: AtomicU64,
    /// Those that were to be sent and could not be.
    lost: AtomicU64,
}

impl Counters {
    /// As metrics.
    pub fn samples(&self) -> [Sample; 2] {
        let counter = |name, help, value: u64| Sample::new(name, help, Kind::Counter, value as f64);
        let dropped = self.tracer.dropped() + self.lost.load(Ordering::Relaxed);
        [
            counter(
                "trivium_otlp_spans_exported_total",
                "Spans that the collector has taken",
                self.exported.load(Ordering::Relaxed),
            ),
            counter(
                "trivium_otlp_spans_dropped_total",
                "Spans that were dropped, because they came faster than the collector took them or it could not be reached",
                dropped,
            ),
        ]
    }
}

/// The task that sends spans.
pub struct Sending {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Sending {
    /// Sends what is left, for a short time.
    pub async fn stop(self) {
        self.stopper.stop();
        let _ = self.task.await;
    }
}

/// Begins to send spans to a collector: the tracer that makes them, their counters, and what sends them.
pub fn start(config: &Otlp, endpoint: OtlpEndpoint) -> (Arc<Tracer>, Arc<Counters>, Sending) {
    let (spans, taken) = mpsc::channel(WAITING_MAX);
    let ratio = config.sample_ratio.0;
    let tracer = Arc::new(Tracer::new(spans, ratio, clock::nanoseconds, rand::random));
    let counters = Arc::new(Counters {
        tracer: tracer.clone(),
        exported: AtomicU64::new(0),
        lost: AtomicU64::new(0),
    });
    info!(%endpoint, path = endpoint.path, "traces are sent by OTLP");
    let exporter = Exporter {
        endpoint,
        service: config.service_name.0.clone(),
        counters: counters.clone(),
        connection: None,
        pause: PAUSES.0,
        has_failed: false,
    };
    let (stopper, stop) = shutdown::channel();
    let task = tokio::spawn(exporter.run(taken, stop));
    (tracer, counters, Sending { stopper, task })
}

struct Exporter {
    endpoint: OtlpEndpoint,
    service: String,
    counters: Arc<Counters>,
    connection: Option<TcpStream>,
    pause: Duration,
    has_failed: bool,
}

impl Exporter {
    async fn run(mut self, mut spans: mpsc::Receiver<Span>, mut stop: Stop) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                count = spans.recv_many(&mut batch, BATCH_MAX) => if count == 0 { return },
                () = stop.wait() => break,
            }
            tokio::select! {
                _ = timeout(LINGER, gather(&mut spans, &mut batch)) => {}
                () = stop.wait() => break,
            }
            let sent = tokio::select! {
                sent = self.send(&batch) => sent,
                () = stop.wait() => break,
            };
            batch.clear();
            if !sent {
                tokio::select! {
                    () = tokio::time::sleep(self.pause) => {}
                    () = stop.wait() => break,
                }
            }
        }
        // The last words of those who say goodbye.
        let _ = timeout(LAST_PATIENCE, async {
            while gather_now(&mut spans, &mut batch) && self.send(&batch).await {
                batch.clear();
            }
        })
        .await;
    }

    /// Sends a batch; whether it was taken. What was not is counted and gone.
    async fn send(&mut self, batch: &[Span]) -> bool {
        let body = encode(&self.service, batch);
        let count = batch.len() as u64;
        match timeout(PATIENCE, self.post(&body)).await {
            Ok(Ok(status)) if (200..300).contains(&status) => {
                self.counters.exported.fetch_add(count, Ordering::Relaxed);
                self.pause = PAUSES.0;
                if std::mem::take(&mut self.has_failed) {
                    info!(endpoint = %self.endpoint, "the collector takes traces again");
                }
                return true;
            }
            Ok(Ok(status)) => self.complain(&format!("it answered {status}")),
            Ok(Err(error)) => self.complain(&error.to_string()),
            Err(_) => self.complain("it did not answer in time"),
        }
        self.connection = None;
        self.counters.lost.fetch_add(count, Ordering::Relaxed);
        self.pause = (self.pause * 2).min(PAUSES.1);
        false
    }

    /// Once per failure, not once per batch.
    fn complain(&mut self, why: &str) {
        if !std::mem::replace(&mut self.has_failed, true) {
            warn!(endpoint = %self.endpoint, why, "the collector does not take traces; they are dropped until it does");
        }
    }

    /// Posts a body; the status of the answer. A connection that was left open may have been closed meanwhile: then
    /// a new one is tried.
    async fn post(&mut self, body: &[u8]) -> std::io::Result<u16> {
        let request = self.request(body.len());
        if let Some(mut kept) = self.connection.take()
            && let Ok((status, keep)) = exchange(&mut kept, &request, body).await
        {
            self.connection = keep.then_some(kept);
            return Ok(status);
        }
        let host = &self.endpoint.host;
        let mut stream = TcpStream::connect((host.host.as_str(), host.port)).await?;
        stream.set_nodelay(true)?;
        let (status, keep) = exchange(&mut stream, &request, body).await?;
        self.connection = keep.then_some(stream);
        Ok(status)
    }

    fn request(&self, length: usize) -> Vec<u8> {
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: trivium/{}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
            self.endpoint.path,
            self.endpoint,
            env!("CARGO_PKG_VERSION"),
        )
        .into_bytes()
    }
}

/// Waits until the batch is full.
async fn gather(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    while batch.len() < BATCH_MAX {
        let room = BATCH_MAX - batch.len();
        if spans.recv_many(batch, room).await == 0 {
            // The broker has gone: what there is, is all.
            return;
        }
    }
}

/// Fills the batch with what is there; whether it holds anything.
fn gather_now(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> bool {
    while batch.len() < BATCH_MAX
        && let Ok(span) = spans.try_recv()
    {
        batch.push(span);
    }
    !batch.is_empty()
}

/// Sends a request; the answer's status, and whether the connection can be used again.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    body: &[u8],
) -> std::io::Result<(u16, bool)> {
    use std::io::{Error, ErrorKind};
    stream.write_all(request).await?;
    stream.write_all(body).await?;
    let mut read = Vec::new();
    loop {
        if read.len() > HEAD_MAX {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "the answer's head is too long",
            ));
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer.parse(&read);
        let parsed = parsed.map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let httparse::Status::Complete(head) = parsed else {
            continue;
        };
        let status = answer.code.unwrap_or_default();
        let left = unread(answer.headers, read.len() - head);
        return match left {
            Some(left) => Ok((status, discard(stream, left).await)),
            None => Ok((status, false)),
        };
    }
}

/// Bytes of the answer's body that have not come yet; `None` where the connection is better not used again.
fn unread(headers: &[httparse::Header<'_>], read: usize) -> Option<usize> {
    let value = |name: &str| {
        let mut named = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        std::str::from_utf8(named.next()?.value).ok()
    };
    if value("connection").is_some_and(|it| it.eq_ignore_ascii_case("close")) {
        return None;
    }
    let length: usize = value("content-length")?.trim().parse().ok()?;
    length.checked_sub(read).filter(|left| *left <= HEAD_MAX)
}

async fn discard(stream: &mut TcpStream, mut left: usize) -> bool {
    let mut unused = [0; 1024];
    while left > 0 {
        let room = left.min(unused.len());
        match stream.read(&mut unused[..room]).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => left -= count,
        }
    }
    true
}
