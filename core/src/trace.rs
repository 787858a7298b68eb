//! Spans of what the broker does with messages, as values: whoever runs the broker takes them and sends them on.
//!
//! A message's trace context (W3C Trace Context: the headers `traceparent` and `tracestate`) is its publisher's, and
//! stays so: spans of the broker are children of it and are never put into the message. Without a tracer nothing here
//! is called.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::{
    message::Message,
    properties::{Text, Value},
};

/// Makes spans, and hands them over without waiting: what does not fit is counted.
#[derive(Debug)]
pub struct Tracer {
    spans: mpsc::Sender<Span>,
    dropped: AtomicU64,
    /// Of messages without a context: those whose random number is below this.
    threshold: u64,
    /// Nanoseconds since the Unix epoch.
    clock: fn() -> u64,
    random: fn() -> u64,
}

/// Something that the broker did with a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub id: [u8; 8],
    /// What it is part of.
    pub parent: Option<[u8; 8]>,
    /// As the publisher set it.
    pub trace_state: Text,
    /// What was done.
    pub operation: Operation,
    /// The protocol of the client for whom it was done.
    pub protocol: Text,
    /// Where the message went or came from.
    pub destination: Text,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// What else is known.
    pub details: Details,
    /// Why it was refused.
    pub error: Option<Text>,
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Taken from its publisher and handed to its destinations.
    Publish,
    /// Its destinations found.
    Route,
    /// Given to a consumer.
    Deliver,
}

/// What else is known of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Bytes of the body.
    pub body_size: Option<u64>,
    /// The routing key, with dots.
    pub routing_key: Option<Text>,
    /// Partition and offset of a record.
    pub place: Option<(u32, Option<u64>)>,
    /// How many queues and logs it went to.
    pub destinations: Option<u64>,
    /// Milliseconds since the broker accepted it.
    pub waited_ms: Option<u64>,
}

/// The context that a message came with, or was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub trace: [u8; 16],
    pub parent: Option<[u8; 8]>,
    pub state: Text,
}

impl Tracer {
    /// A tracer whose spans go to `spans`. `ratio` of the messages without a context get a trace of their own.
    /// `clock` reads nanoseconds since the Unix epoch.
    pub fn new(
        spans: mpsc::Sender<Span>,
        ratio: f64,
        clock: fn() -> u64,
        random: fn() -> u64,
    ) -> Tracer {
        Tracer {
            spans,
            dropped: AtomicU64::new(0),
            threshold: (ratio.clamp(0.0, 1.0) * u64::MAX as f64) as u64,
            clock,
            random,
        }
    }

    /// Spans that were dropped because those before them had not been taken.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Whether a span would be taken: making one is not worth the while else.
    pub(crate) fn has_room(&self) -> bool {
        let room = self.spans.capacity() > 0;
        if !room {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        room
    }

    pub(crate) fn record(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn span_id(&self) -> [u8; 8] {
        // All zeros is no id.
        (self.random)().max(1).to_be_bytes()
    }

    /// The context under which spans of a message are made; `None` where none are: its trace is not sampled, or it has
    /// none and is not among those that get one.
    pub(crate) fn context(&self, message: &Message) -> Option<TraceContext> {
        let headers = message.properties().headers;
        let texts = headers
            .iter()
            .filter_map(|(name, value)| Some((&**name, text(value)?)));
        self.context_of(texts)
    }

    /// As [`Tracer::context`], of headers as texts.
    pub(crate) fn context_of<'a>(
        &self,
        headers: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<TraceContext> {
        let (mut parents, mut state) = (Vec::new(), Text::new());
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("traceparent") {
                parents.push(value);
            } else if name.eq_ignore_ascii_case("tracestate") && value.len() <= STATE_MAX {
                state = value.into();
            }
        }
        // Two of them are none (Trace Context, 3.2).
        let given = match parents[..] {
            [parent] => trace_parent(parent),
            _ => None,
        };
        match given {
            Some(TraceParent { sampled: false, .. }) => None,
            Some(TraceParent { trace, parent, .. }) => Some(TraceContext {
                trace,
                parent: Some(parent),
                state,
            }),
            None if self.threshold > 0 && (self.random)() <= self.threshold => {
                let halves = [(self.random)().max(1), (self.random)()];
                let mut trace = [0; 16];
                trace[..8].copy_from_slice(&halves[0].to_be_bytes());
                trace[8..].copy_from_slice(&halves[1].to_be_bytes());
                Some(TraceContext {
                    trace,
                    parent: None,
                    state: Text::new(),
                })
            }
            None => None,
        }
    }
}

/// Bytes of a `tracestate` that is passed on in spans, at most (Trace Context, 3.3.1.5). In messages it stays as it is.
const STATE_MAX: usize = 512;

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TraceParent {
    trace: [u8; 16],
    parent: [u8; 8],
    sampled: bool,
}

/// Reads a `traceparent` (Trace Context, 3.2.2): version, trace, parent and flags in lower-case hexadecimal; later
/// versions may say more behind that.
fn trace_parent(text: &str) -> Option<TraceParent> {
    let mut fields = text.trim().splitn(5, '-');
    let [version] = hex(fields.next()?)?;
    let trace = hex(fields.next()?)?;
    let parent = hex(fields.next()?)?;
    let [flags] = hex(fields.next()?)?;
    let is_known = version != 0xff && (version > 0 || fields.next().is_none());
    let is_valid = is_known && trace != [0; 16] && parent != [0; 8];
    is_valid.then_some(TraceParent {
        trace,
        parent,
        sampled: flags & 1 != 0,
    })
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tracer(ratio: f64) -> (Tracer, mpsc::Receiver<Span>) {
        let (spans, taken) = mpsc::channel(1);
        (Tracer::new(spans, ratio, || 5, || u64::MAX / 2), taken)
    }

    #[test]
    fn a_traceparent_is_read_as_the_specification_has_it() {
        let read = trace_parent(GOOD).unwrap();
        assert_eq!(read.trace[..2], [0x0a, 0xf7]);
        assert_eq!(read.parent[6..], [0x33, 0x31]);
        assert!(read.sampled);
        assert!(!trace_parent(&GOOD.replace("-01", "-00")).unwrap().sampled);
        assert!(trace_parent(&GOOD.replace("-01", "-03")).unwrap().sampled);
        // A later version may say more.
        assert!(trace_parent(&format!("cc{}-more", &GOOD[2..])).is_some());
        for wrong in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("ff{}", &GOOD[2..]),
            &GOOD.to_uppercase(),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-01",
        ] {
            assert_eq!(trace_parent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_sampled_flag_decides_and_without_a_context_the_ratio() {
        let (never, _) = tracer(0.0);
        let with =
            |tracer: &Tracer, headers: &[(&str, &str)]| tracer.context_of(headers.iter().copied());
        let found = with(&never, &[("traceparent", GOOD), ("tracestate", "a=1")]).unwrap();
        assert_eq!((&*found.state, found.parent.is_some()), ("a=1", true));
        let unsampled = GOOD.replace("-01", "-00");
        assert_eq!(with(&never, &[]), None);
        assert_eq!(
            with(&never, &[("traceparent", GOOD), ("traceparent", GOOD)]),
            None
        );
        let (always, _) = tracer(1.0);
        assert_eq!(with(&always, &[("traceparent", &unsampled)]), None);
        assert_eq!(with(&always, &[("traceparent", "?")]).unwrap().parent, None);
        let (rarely, _) = tracer(0.4);
        assert_eq!(with(&rarely, &[]), None);
        let (often, _) = tracer(0.6);
        assert!(with(&often, &[]).is_some());
    }

    #[test]
    fn spans_that_nobody_takes_are_counted() {
        let (tracer, taken) = tracer(0.0);
        let span = Span {
            trace: [1; 16],
            id: [1; 8],
            parent: None,
            trace_state: Text::new(),
            operation: Operation::Route,
            protocol: Text::new(),
            destination: Text::new(),
            start: 0,
            end: 0,
            details: Details::default(),
            error: None,
        };
        assert!(tracer.has_room());
        tracer.record(span.clone());
        tracer.record(span.clone());
        assert!(!tracer.has_room());
        assert_eq!(tracer.dropped(), 2);
        drop(taken);
        tracer.record(span);
        assert_eq!(tracer.dropped(), 3);
    }
}
