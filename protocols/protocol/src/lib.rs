//! What a front end is: the state machine of one connection, without I/O.
//!
//! A new protocol is a crate with a type that implements [`Protocol`], a [`Frontend`] that makes one
//! per connection, and one line of registration in the server.

mod effects;
mod output;
pub mod scram;

pub use effects::Effects;
pub use output::Output;

use std::{net::SocketAddr, time::Instant};

use bytes::BytesMut;
use trivium_core::{Dialect, Event, Now, Sample};

/// One connection of a protocol. A value, not a task: it does no I/O, reads no clock and spawns nothing,
/// so it is tested with scripts of bytes in and bytes out.
///
/// An error that the peer should hear of is not `Err`: the state machine writes its closing frame and
/// [`Protocol::is_closed`] turns true once nothing more is to be read. `Err` means that nothing more can be said.
pub trait Protocol: Send {
    /// Takes whole frames off `input`; what remains is an incomplete frame. Called again with more
    /// bytes behind what remained, or with the same bytes once [`Protocol::wants_input`] turns true again.
    fn handle_input(
        &mut self,
        now: Now,
        input: &mut BytesMut,
        effects: &mut Effects,
    ) -> Result<(), CloseReason>;

    /// Takes one event of the core.
    fn handle_event(
        &mut self,
        now: Now,
        event: Event,
        effects: &mut Effects,
    ) -> Result<(), CloseReason>;

    /// Called when [`Protocol::next_timeout`] has passed.
    fn handle_timeout(&mut self, now: Now, effects: &mut Effects) -> Result<(), CloseReason> {
        let _ = (now, effects);
        Ok(())
    }

    /// The peer has gone without a word, or broke the protocol (the last chance to publish a will).
    /// Output is not sent any more. Called at most once, and not after an orderly close.
    fn handle_disconnect(&mut self, now: Now, effects: &mut Effects) {
        let _ = (now, effects);
    }

    /// The broker has not listened to the peer until now, because a subscriber has to catch up with what it publishes: what
    /// the peer has said is not known yet, so it has not been silent. Called at times while that lasts, and when it is over.
    fn was_unheard(&mut self, now: Now) {
        let _ = now;
    }

    /// Nothing has come or gone for a while: memory that is made anew when it is needed may be given back.
    fn rest(&mut self) {}

    /// When [`Protocol::handle_timeout`] is wanted.
    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// False while a reply must come before more input may be read (a definition is under way).
    fn wants_input(&self) -> bool;

    /// Whether the connection is over, once the output is flushed.
    fn is_closed(&self) -> bool;
}

/// Makes the connections of one protocol.
pub trait Frontend: Send + Sync + 'static {
    /// `amqp`, `kafka`, `mqtt` …: the name in the configuration, in logs and in metrics.
    fn name(&self) -> &'static str;

    /// Whether clients say which vhost they want, after their login. Others are in `/` with their login.
    fn chooses_vhost(&self) -> bool {
        false
    }

    /// A new connection.
    fn connect(&self, peer: Peer, now: Now) -> Box<dyn Protocol>;

    /// The property encodings of this protocol's messages.
    fn dialects(&self) -> Vec<&'static dyn Dialect>;

    /// What it counts besides the traffic of its sockets, under names of its own.
    fn samples(&self) -> Vec<Sample> {
        Vec::new()
    }
}

/// Whom a connection is with.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The peer's address.
    pub address: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
}

impl Peer {
    /// Whether the peer is on this machine, by its own address.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// Why a connection ended without a word from its front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer broke the protocol in a way that the protocol answers by closing.
    Protocol(String),
    /// The peer was silent for too long.
    Timeout(String),
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloseReason::Protocol(text) | CloseReason::Timeout(text) => f.write_str(text),
        }
    }
}
