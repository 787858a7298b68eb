//! One connection: requests in, responses out, in the same order.
//!
//! ```text
//! New ── first bytes / Authenticate ──► Authenticating ── Done ──► Open
//!                                            └─ the address connects too often ──► TurnedAway ── later ──► Closing
//! ```
//! Kafka handles one request of a connection at a time, and clients rely on it: a response never overtakes
//! another, and what a request changes is seen by the next. So input waits while a request does. Produce
//! requests alone overlap, up to [`IN_FLIGHT_MAX`] and [`IN_FLIGHT_BYTES_MAX`], their responses held back
//! until their turn.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{Buf, BytesMut};
use tracing::debug;
use trivium_core::{Command, Credentials, Event, Meters, Now, Reply, Token};
use trivium_protocol::{CloseReason, Effects, Output, Peer, Protocol};

use crate::{
    Options,
    api::ApiKey,
    call::{Answer, Call, Job, Session, Step},
    header::{Header, Parsed},
    serve::{self, fetch_sessions::Sessions},
    throttle::{Spent, Throttle},
    topics::Topics,
    wire::Frame,
};

/// Requests of one connection under way at most.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes of requests under way from which on no other is started.
const IN_FLIGHT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The token of the authentication, which no request has.
const AUTHENTICATION: Token = Token(u64::MAX);
/// The token of the question for quotas, which no request has either.
const METERS: Token = Token(u64::MAX - 1);

/// The state of one connection.
pub(crate) struct Connection {
    session: Session,
    state: State,
    /// Requests without a response yet, oldest first; numbered upwards from `first`.
    pending: VecDeque<Pending>,
    first: u32,
    pending_bytes: usize,
    /// False while a whole request that waits for all earlier ones is at the start of the input.
    next_overlaps: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Authenticating,
    Open,
    /// Too many connections come from its address (KIP-612): it is closed then.
    TurnedAway(Instant),
    Closing,
}

struct Pending {
    header: Header,
    bytes: usize,
    /// What it has cost its client.
    spent: Spent,
    progress: Progress,
}

enum Progress {
    Waiting(Box<dyn Job>),
    /// Waits for its turn; nothing to send for Produce with acks 0.
    Answered(Option<Frame>),
}

impl Connection {
    pub(crate) fn new(options: Arc<Options>, peer: Peer) -> Connection {
        Connection {
            session: Session {
                options,
                peer,
                topics: Topics::default(),
                fetches: Sessions::default(),
                shares: Default::default(),
                is_blocked: false,
                throttle: Throttle::default(),
            },
            state: State::New,
            pending: VecDeque::new(),
            first: 0,
            pending_bytes: 0,
            next_overlaps: true,
        }
    }

    /// The size of the request at the start of `input`, without its own four bytes, once it is there as a whole.
    fn next_request(&self, input: &BytesMut) -> Result<Option<usize>, CloseReason> {
        let Some(mut head) = input.get(..4) else {
            return Ok(None);
        };
        let size = head.get_i32();
        match usize::try_from(size) {
            Ok(size) if size <= self.session.options.max_request_size => {
                Ok((input.len() >= 4 + size).then_some(size))
            }
            _ => Err(CloseReason::Protocol(format!(
                "a request of {size} bytes is not possible here"
            ))),
        }
    }

    /// Whether a request may be started now.
    fn may_start(&self, is_produce: bool) -> bool {
        let overlaps = |pending: &Pending| match &pending.progress {
            Progress::Waiting(job) => job.may_overlap(),
            Progress::Answered(_) => true,
        };
        let room = self.pending.len() < IN_FLIGHT_MAX && self.pending_bytes < IN_FLIGHT_BYTES_MAX;
        self.pending.is_empty() || is_produce && room && self.pending.back().is_none_or(overlaps)
    }

    fn start(
        &mut self,
        now: Now,
        parsed: Parsed,
        bytes: usize,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let number = self.first.wrapping_add(self.pending.len() as u32);
        let mut spent = Spent::default();
        let (header, step) = match parsed {
            Parsed::NewerApiVersions(header) => {
                let frame = serve::api_versions::unsupported_version(&header);
                (header, Step::Respond(frame))
            }
            Parsed::Request(header, request) => {
                self.session.throttle.meet(&header.client_id);
                let cost = self.session.cost(now, bytes, spent);
                let mut call = Call::new(
                    &mut self.session,
                    &header,
                    &cost,
                    &mut effects.commands,
                    number,
                );
                let step = serve::start(request, &mut call);
                spent = self.session.charge(&cost);
                (header, step)
            }
        };
        let progress = advance(&header, step)?;
        self.pending_bytes += bytes;
        // Consumers have one request under way, ever; a queue begins with room for four.
        if self.pending.capacity() == 0 {
            self.pending.reserve_exact(1);
        }
        self.pending.push_back(Pending {
            header,
            bytes,
            spent,
            progress,
        });
        self.flush(&mut effects.output);
        Ok(())
    }

    /// Gives an answer of the core to the request that asked.
    fn on_answer(
        &mut self,
        now: Now,
        token: Token,
        answer: Answer,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let (number, part) = ((token.0 >> 32) as u32, token.0 as u32 as usize);
        let Some(pending) = self
            .pending
            .get_mut(number.wrapping_sub(self.first) as usize)
        else {
            return Ok(());
        };
        match std::mem::replace(&mut pending.progress, Progress::Answered(None)) {
            Progress::Waiting(job) => {
                let cost = self.session.cost(now, pending.bytes, pending.spent);
                let mut call = Call::new(
                    &mut self.session,
                    &pending.header,
                    &cost,
                    &mut effects.commands,
                    number,
                );
                let step = job.on_answer(part, answer, &mut call);
                pending.spent = self.session.charge(&cost);
                pending.progress = advance(&pending.header, step)?;
            }
            answered => pending.progress = answered,
        }
        self.flush(&mut effects.output);
        Ok(())
    }

    /// Sends the responses whose turn it is.
    fn flush(&mut self, output: &mut Output) {
        while let Some(Pending {
            progress: Progress::Answered(frame),
            bytes,
            ..
        }) = self.pending.front_mut()
        {
            if let Some(frame) = frame.take() {
                frame.send(output);
            }
            self.pending_bytes -= *bytes;
            self.first = self.first.wrapping_add(1);
            self.pending.pop_front();
        }
    }

    fn authenticate(&mut self, effects: &mut Effects) {
        self.state = State::Authenticating;
        let credentials = Credentials::Anonymous {
            loopback: self.session.peer.is_loopback(),
        };
        // What it is measured by comes before its first request.
        effects.commands.push(Command::Measure { token: METERS });
        effects.commands.push(Command::Authenticate {
            token: AUTHENTICATION,
            credentials,
        });
    }

    fn begin_metering(&mut self, now: Now, meters: Meters) {
        let address = self.session.peer.address.ip().to_canonical().to_string();
        let wait = meters.connect(&address.into(), now.wall);
        if !wait.is_zero() {
            self.state = State::TurnedAway(now.instant + wait);
        }
        self.session.throttle.begin(meters);
    }
}

/// What a step makes of its request.
fn advance(header: &Header, step: Step) -> Result<Progress, CloseReason> {
    match step {
        Step::Respond(frame) => Ok(Progress::Answered(Some(frame))),
        Step::Silence => Ok(Progress::Answered(None)),
        Step::Wait(job) => Ok(Progress::Waiting(job)),
        Step::Close(text) => Err(CloseReason::Protocol(format!(
            "{:?} from '{}': {text}",
            header.key, header.client_id
        ))),
    }
}

/// Whether the whole request at the start of `input` is a Produce request.
fn is_produce(input: &BytesMut) -> bool {
    input.get(4..6) == Some((ApiKey::Produce as i16).to_be_bytes().as_slice())
}

impl Protocol for Connection {
    fn handle_input(
        &mut self,
        now: Now,
        input: &mut BytesMut,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        self.next_overlaps = true;
        // Before anybody is asked: an HTTP request or a length of 2 GiB is not worth an authentication.
        self.next_request(input)?;
        if self.state == State::New {
            self.authenticate(effects);
        }
        while self.state == State::Open
            && self.session.throttle.muted_until().is_none()
            && let Some(size) = self.next_request(input)?
        {
            let is_produce = is_produce(input);
            if !self.may_start(is_produce) {
                self.next_overlaps = is_produce;
                break;
            }
            let mut frame = input.split_to(4 + size).freeze();
            frame.advance(4);
            let parsed = Header::parse(frame)?;
            self.start(now, parsed, size, effects)?;
        }
        Ok(())
    }

    fn handle_event(
        &mut self,
        now: Now,
        event: Event,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        match event {
            Event::Done {
                token: AUTHENTICATION,
                result,
            } => {
                result.map_err(|refusal| CloseReason::Protocol(refusal.to_string()))?;
                if self.state == State::Authenticating {
                    self.state = State::Open;
                }
                Ok(())
            }
            Event::Done {
                token: METERS,
                result,
            } => {
                if let Ok(Reply::Meters(meters)) = result {
                    self.begin_metering(now, meters);
                }
                Ok(())
            }
            Event::Done { token, result } => {
                self.on_answer(now, token, Answer::Done(result), effects)
            }
            Event::Fetched { token, partitions } => {
                self.on_answer(now, token, Answer::Fetched(partitions), effects)
            }
            Event::Shutdown => {
                self.state = State::Closing;
                Ok(())
            }
            Event::Blocked { .. } => {
                self.session.is_blocked = true;
                Ok(())
            }
            Event::Unblocked => {
                self.session.is_blocked = false;
                Ok(())
            }
            Event::Confirmed { .. }
            | Event::Refused { .. }
            | Event::Rejected { .. }
            | Event::Returned { .. }
            | Event::Unrouted { .. }
            | Event::Unretained { .. }
            | Event::HoldBack(_)
            | Event::GoOn(_)
            | Event::Deliver { .. }
            | Event::Cancelled { .. } => {
                debug!("event for a connection that neither publishes nor consumes");
                Ok(())
            }
        }
    }

    fn handle_timeout(&mut self, now: Now, _effects: &mut Effects) -> Result<(), CloseReason> {
        self.session.throttle.tick(now.instant);
        if matches!(self.state, State::TurnedAway(until) if until <= now.instant) {
            self.state = State::Closing;
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::TurnedAway(until) => Some(until),
            _ => self.session.throttle.muted_until(),
        }
    }

    fn wants_input(&self) -> bool {
        match self.state {
            State::New => true,
            State::Authenticating | State::TurnedAway(_) | State::Closing => false,
            State::Open => {
                self.session.throttle.muted_until().is_none() && self.may_start(self.next_overlaps)
            }
        }
    }

    /// A shutdown waits for what producers are to be told, not for what consumers wait for.
    fn is_closed(&self) -> bool {
        self.state == State::Closing
            && !self
                .pending
                .iter()
                .any(|pending| pending.header.key == ApiKey::Produce)
    }
}

#[cfg(test)]
mod tests {
    use trivium_core::Refusal;

    use super::*;
    use crate::{
        messages::{api_versions::*, group_offsets::*, groups::*, metadata::*},
        script::Script,
        wire::Malformed,
    };

    fn closes(bytes: &[u8]) -> String {
        match Script::open().bytes(bytes) {
            Err(CloseReason::Protocol(text)) => text,
            other => panic!("{other:?} for {bytes:?}"),
        }
    }

    #[test]
    fn who_may_not_connect_is_not_answered() {
        let mut script = Script::accepted();
        let request = script.request(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
        script.bytes(&request).unwrap();
        assert!(!script.wants_input(), "nothing is read before the answer");
        assert!(matches!(
            script.commands()[..],
            [
                Command::Measure { .. },
                Command::Authenticate {
                    credentials: Credentials::Anonymous { loopback: true },
                    ..
                },
            ]
        ));
        assert!(
            script
                .event(Event::Done {
                    token: AUTHENTICATION,
                    result: Err(Refusal::LoginRefused)
                })
                .is_err()
        );
        assert!(script.output().is_empty());
    }

    #[test]
    fn input_that_came_before_the_authentication_is_answered_after_it() {
        let mut script = Script::accepted();
        let request = script.request(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
        script.bytes(&request).unwrap();
        script.commands();
        script.done(
            AUTHENTICATION,
            Ok(Reply::Authenticated {
                user: "guest".into(),
                tags: Vec::new(),
            }),
        );
        let response: ApiVersionsResponse = script.response(ApiKey::ApiVersions, 0);
        assert_eq!(response.api_keys.len(), ApiKey::ALL.len());
    }

    #[test]
    fn foreign_and_hostile_sizes_close() {
        assert!(closes(b"GET / HTTP/1.1\r\n").contains("1195725856"));
        assert!(closes(b"\xff\xff\xff\xff").contains("-1"));
        assert!(closes(b"\x7f\xff\xff\xff").contains("2147483647"));
        assert!(
            Script::accepted().bytes(b"GET /").is_err(),
            "before anything is asked of the core"
        );
    }

    /// Kafka closes on anything that it does not serve, ApiVersions apart.
    #[test]
    fn what_is_not_served_closes() {
        for (key, version) in [(99, 0), (-1, 0), (3, 14), (3, -1), (0, 2), (88, 0)] {
            let request = [
                &[0, 0, 0, 10][..],
                &i16::to_be_bytes(key),
                &i16::to_be_bytes(version),
                &[0; 6],
            ]
            .concat();
            assert_eq!(
                closes(&request),
                format!("api key {key} version {version} is not supported")
            );
        }
    }

    #[test]
    fn a_huge_count_closes_and_allocates_nothing() {
        // Metadata v9 with 2^31 topics in 36 bytes.
        let request =
            b"\0\0\0\x20\0\x03\0\x09\0\0\0\x01\0\x0fcrash-tester-15\0\xff\xff\xff\xff\x0f\0";
        assert_eq!(request.len(), 36);
        assert_eq!(closes(request), Malformed::TooMany.to_string());
        // Metadata v1 with -5 topics.
        assert_eq!(
            closes(b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x01\xff\xff\xff\xff\xff\xfb"),
            Malformed::NegativeLength.to_string()
        );
        // A client id of 32 KiB in a request of ten bytes.
        assert_eq!(
            closes(b"\0\0\0\x0a\0\x03\0\x01\0\0\0\x01\x7f\xff"),
            Malformed::Truncated.to_string()
        );
    }

    /// Requests whole, and byte by byte: the same commands and responses.
    #[test]
    fn bytes_may_come_one_by_one() {
        let mut whole = Script::open();
        let request = whole.request(ApiKey::ApiVersions, 3, &introduction());
        whole.bytes(&request).unwrap();
        let mut slow = Script::open();
        for byte in &request {
            assert!(slow.wants_input());
            slow.bytes(&[*byte]).unwrap();
        }
        assert_eq!(slow.output(), whole.output());
    }

    fn introduction() -> ApiVersionsRequest {
        ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1.0".into(),
        }
    }

    /// One request at a time: what comes behind a fetch of offsets waits for it.
    #[test]
    fn a_request_waits_for_the_one_before() {
        let mut script = Script::open();
        let heartbeat = HeartbeatRequest {
            group_id: "g".into(),
            ..Default::default()
        };
        let first = script.request(ApiKey::Heartbeat, 0, &heartbeat);
        let second = script.request(
            ApiKey::OffsetFetch,
            1,
            &OffsetFetchRequest {
                topics: Some(vec![]),
                ..Default::default()
            },
        );
        script.bytes(&[first, second].concat()).unwrap();
        let token = script.command(|command| match command {
            Command::Group { token, .. } => Some(token),
            _ => None,
        });
        assert!(!script.wants_input());
        script.done(
            token,
            Ok(Reply::Group(Ok(trivium_core::group::GroupAnswer::Ok))),
        );
        assert_eq!(
            script
                .responses::<HeartbeatResponse>(ApiKey::Heartbeat, 0)
                .len(),
            1
        );
        assert!(
            matches!(script.commands()[..], [Command::Group { .. }]),
            "the second one starts"
        );
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_ignored() {
        let mut script = Script::open();
        script.done(Token(7 << 32), Ok(Reply::Ok));
        script.send(
            ApiKey::Metadata,
            1,
            &MetadataRequest {
                topics: Some(vec![]),
                ..Default::default()
            },
        );
        assert!(!script.output().is_empty());
    }

    #[test]
    fn a_shutdown_closes() {
        let mut script = Script::open();
        script.event(Event::Shutdown).unwrap();
        assert!(script.is_closed() && !script.wants_input());
    }
}
