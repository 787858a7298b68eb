//! One request being answered: what it may use, and how it goes on.

use std::sync::Arc;

use trivium_core::{Change, Command, Fetched, Now, Refusal, Reply, Text, Token};
use trivium_protocol::Peer;

use crate::{
    Options,
    header::Header,
    message::Throttled,
    serve::fetch_sessions::Sessions,
    serve::share_session::ShareSessions,
    throttle::{Cost, Spent, Throttle},
    topics::Topics,
    wire::{Frame, Wire},
};

/// What the requests of a connection share.
pub(crate) struct Session {
    pub(crate) options: Arc<Options>,
    pub(crate) peer: Peer,
    pub(crate) topics: Topics,
    pub(crate) fetches: Sessions,
    pub(crate) shares: ShareSessions,
    /// The broker is short of disk or memory, and takes no records.
    pub(crate) is_blocked: bool,
    pub(crate) throttle: Throttle,
}

impl Session {
    /// What a step of a request costs.
    pub(crate) fn cost(&self, now: Now, bytes: usize, spent: Spent) -> Cost {
        Cost::new(&self.throttle, now, bytes, spent, self.options.clock)
    }

    /// Has the client wait as it was told, or is going to be; what the request has cost so far.
    pub(crate) fn charge(&mut self, cost: &Cost) -> Spent {
        self.throttle.mute(cost.now.instant, cost.wait());
        cost.spent()
    }

    /// Host and port that this client is to use.
    pub(crate) fn advertised(&self) -> (Text, i32) {
        let local = || self.peer.local.ip().to_canonical().to_string().into();
        let host = self.options.advertised_host.clone().unwrap_or_else(local);
        let port = self
            .options
            .advertised_port
            .unwrap_or(self.peer.local.port());
        (host, port.into())
    }
}

/// A request while it is being handled.
pub(crate) struct Call<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) header: &'a Header,
    pub(crate) cost: &'a Cost,
    commands: &'a mut Vec<Command>,
    number: u32,
}

impl<'a> Call<'a> {
    /// The request with this number of its connection.
    pub(crate) fn new(
        session: &'a mut Session,
        header: &'a Header,
        cost: &'a Cost,
        commands: &'a mut Vec<Command>,
        number: u32,
    ) -> Call<'a> {
        Call {
            session,
            header,
            cost,
            commands,
            number,
        }
    }

    /// The version of the request.
    pub(crate) fn version(&self) -> i16 {
        self.header.version
    }

    /// The client's address, as Kafka shows it in descriptions of groups.
    pub(crate) fn peer_host(&self) -> Text {
        format!("/{}", self.session.peer.address.ip().to_canonical()).into()
    }

    /// Asks the core; the answer comes back with `part`.
    pub(crate) fn submit(&mut self, part: usize, command: impl FnOnce(Token) -> Command) {
        let token = Token(u64::from(self.number) << 32 | part as u64);
        self.commands.push(command(token));
    }

    /// Asks for descriptions of these logs, or of all.
    pub(crate) fn describe(&mut self, part: usize, logs: Option<Vec<Text>>) {
        self.submit(part, |token| Command::DescribeLogs { token, logs });
    }

    /// Asks for a change.
    pub(crate) fn define(&mut self, part: usize, change: Change) {
        self.submit(part, |token| Command::Define { token, change });
    }

    /// Ends the request with this response, which says how long the client is to wait.
    pub(crate) fn respond(&self, response: &(impl Wire + Throttled)) -> Step {
        self.cost.answer(&self.session.throttle);
        let mut frame = self.header.response();
        let wait = self.cost.wait();
        if wait.is_zero() {
            response.write(&mut frame);
        } else {
            let mut response = response.clone();
            response.set_throttle(wait.as_millis().try_into().unwrap_or(i32::MAX));
            response.write(&mut frame);
        }
        Step::Respond(frame)
    }

    /// Whether so many partitions may be created or deleted now, by the client's quota.
    pub(crate) fn may_change(&self, partitions: u32, strict: bool) -> bool {
        let throttle = &self.session.throttle;
        self.cost.may_change(throttle, partitions, strict)
    }
}

/// How a request goes on.
pub(crate) enum Step {
    /// It is answered.
    Respond(Frame),
    /// It is done, and has no response (Produce with acks 0).
    Silence,
    /// It is answered by closing the connection.
    Close(String),
    /// It waits for the core.
    Wait(Box<dyn Job>),
}

/// A request that waits for answers of the core.
pub(crate) trait Job: Send {
    /// Takes the answer to the command submitted as `part`.
    fn on_answer(self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step;

    /// Whether the next request may be started while this one waits. Only for Produce: its appends keep
    /// their order in the core, and its responses are held back until it is their turn.
    fn may_overlap(&self) -> bool {
        false
    }
}

/// An answer of the core.
pub(crate) enum Answer {
    /// To any command but a fetch.
    Done(Result<Reply, Refusal>),
    /// To a fetch.
    Fetched(Vec<Fetched>),
}

impl Answer {
    /// The reply that `pick` takes, or why there is none.
    pub(crate) fn reply<T>(self, pick: impl FnOnce(Reply) -> Option<T>) -> Result<T, Refusal> {
        let Answer::Done(result) = self else {
            return Err(unexpected());
        };
        pick(result?).ok_or_else(unexpected)
    }
}

/// The core answered a command with a reply of another command: its fault, which is not to take a client down.
fn unexpected() -> Refusal {
    debug_assert!(false, "an answer that does not belong to its command");
    Refusal::StorageFailed("unexpected answer".into())
}
