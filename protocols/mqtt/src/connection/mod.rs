//! One MQTT connection.
//!
//! ```text
//!            CONNECT               session declared            DISCONNECT, violation, timeout
//! Connecting ───────► Opening ──────────────────────► Open ──────────────────────────────────► Closed
//!                        └── refused: CONNACK ──────────────────────────────────────────────────► ┘
//! ```
//!
//! While the connection is opening, and while a SUBSCRIBE is carried out, no input is taken.

mod alias;
mod auth;
mod breach;
mod handshake;
mod inbound;
mod open;
mod outbound;
mod shares;
mod subscriptions;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use trivium_core::{CancelReason, Event, Now, Text};
use trivium_protocol::{CloseReason, Effects, Peer, Protocol};

use self::{
    handshake::Opening,
    open::{Next, Open},
};
use crate::{
    Shared,
    packet::{self, Disconnect, Reason, Run, Version, Violation, kind, wire::Reader},
};

/// What an unknown peer may make us buffer.
const CONNECT_SIZE_MAX: usize = 128 * 1024;

/// The state machine of one connection.
pub struct Connection {
    shared: Arc<Shared>,
    /// The peer is on this machine.
    loopback: bool,
    phase: Phase,
    /// When input last came, or could come again.
    heard: Instant,
    /// The broker has no room for messages.
    is_short: bool,
}

enum Phase {
    /// Nothing has come yet.
    Connecting,
    /// CONNECT has come; the core is at work.
    Opening(Box<Opening>),
    /// CONNACK has been sent.
    Open(Box<Open>),
    /// Nothing more is read or written.
    Closed,
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>, peer: Peer, now: Now) -> Connection {
        Connection {
            shared,
            loopback: peer.is_loopback(),
            phase: Phase::Connecting,
            heard: now.instant,
            is_short: false,
        }
    }

    fn version(&self) -> Version {
        match &self.phase {
            Phase::Open(open) => open.version,
            _ => Version::V311,
        }
    }

    fn packet_max(&self) -> usize {
        match self.phase {
            Phase::Open(_) => self.shared.options.maximum_packet_size as usize,
            _ => CONNECT_SIZE_MAX,
        }
    }

    fn handle_batch(
        &mut self,
        now: Now,
        batch: &Bytes,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let mut previous = Text::new();
        let mut at = 0;
        while let Ok(Some(frame)) = packet::frame(&batch[at..], batch.len()) {
            let reader = Reader::new(batch, at + frame.header..at + frame.total());
            at += frame.total();
            match &mut self.phase {
                Phase::Connecting => self.handle_connect(now, frame.first, reader, effects)?,
                Phase::Open(open) => {
                    open.count_received(frame.first);
                    let options = &self.shared.options;
                    match open.handle_packet(
                        now,
                        frame.first,
                        reader,
                        &mut previous,
                        options,
                        effects,
                    ) {
                        Ok(Next::Go) => {}
                        Ok(Next::Close) => self.phase = Phase::Closed,
                        Err(violation) => return self.fail(violation, effects),
                    }
                }
                Phase::Opening(opening) if opening.awaits_proof() => {
                    self.handle_proof(frame.first, reader, effects)?
                }
                Phase::Opening(_) | Phase::Closed => return Ok(()),
            }
        }
        if let Phase::Open(open) = &mut self.phase {
            open.finish_turn(effects);
            open.tally.fold_sometimes(now);
        }
        Ok(())
    }

    /// Ends the connection because the peer broke a rule. Version 5 is told why (4.13.1-1), once it has its CONNACK.
    fn fail(&mut self, violation: Violation, effects: &mut Effects) -> Result<(), CloseReason> {
        if self.version().is_5() {
            self.close_with(
                Disconnect {
                    reason_string: Some(Text::from_static(violation.text)),
                    ..Disconnect::new(violation.reason)
                },
                effects,
            );
            return Ok(());
        }
        Err(CloseReason::Protocol(violation.to_string()))
    }

    /// Ends an open connection from this side; its will is published (3.1.2-8).
    fn close(&mut self, reason: Reason, effects: &mut Effects) {
        self.close_with(Disconnect::new(reason), effects);
    }

    fn close_with(&mut self, disconnect: Disconnect, effects: &mut Effects) {
        if let Phase::Open(open) = &mut self.phase {
            open.finish_turn(effects);
            open.detach(effects);
            open.say_goodbye(disconnect, effects.output.buffer());
        }
        self.phase = Phase::Closed;
    }

    fn set_shortage(&mut self, on: bool) {
        self.is_short = on;
        if let Phase::Open(open) = &mut self.phase {
            open.set_shortage(on);
        }
    }

    fn note_takeover(&self, now: Now) {
        let client = match &self.phase {
            Phase::Opening(opening) => opening.client_id(),
            Phase::Open(open) => &open.client_id,
            Phase::Connecting | Phase::Closed => return,
        };
        self.shared.takeovers.note(client, now.instant);
    }

    fn deadline(&self) -> Option<Instant> {
        let patience = match &self.phase {
            Phase::Connecting => self.shared.options.connect_timeout,
            Phase::Opening(opening) if opening.awaits_proof() => {
                self.shared.options.connect_timeout
            }
            Phase::Opening(opening) => return opening.held(),
            // 3.1.2-22: one and a half times the keep alive.
            Phase::Open(open) if open.keep_alive > 0 && self.wants_input() => {
                Duration::from_millis(u64::from(open.keep_alive) * 1500)
            }
            _ => return None,
        };
        Some(self.heard + patience)
    }

    fn take_event(
        &mut self,
        now: Now,
        event: Event,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        match (event, &mut self.phase) {
            (Event::Done { token, result }, Phase::Opening(_)) => {
                self.handle_opening(now, token, result, effects)
            }
            (Event::Done { token, result }, Phase::Open(open)) => {
                return open.handle_done(now, token, result, effects);
            }
            (Event::Deliver { deliveries, .. }, Phase::Opening(opening)) => {
                opening.early.extend(deliveries);
            }
            (
                Event::Deliver {
                    consumer,
                    deliveries,
                },
                Phase::Open(open),
            ) => {
                let share = open.shares.find(consumer);
                for delivery in deliveries {
                    open.outbound.deliver(
                        now,
                        consumer,
                        delivery,
                        share,
                        &mut effects.output,
                        &mut effects.commands,
                    );
                }
            }
            (Event::Confirmed { tokens }, Phase::Open(open)) => {
                open.handle_confirmed(&tokens, effects)
            }
            (Event::Unrouted { token }, Phase::Open(open)) => open.inbound.handle_unrouted(token),
            (Event::Unretained { token }, Phase::Open(open)) => {
                open.inbound.handle_unretained(token);
            }
            (Event::Refused { tokens, reason }, Phase::Open(open)) => {
                if let Err(violation) = open.handle_refused(&tokens, &reason, &mut effects.commands)
                {
                    return self.fail(violation, effects);
                }
            }
            // A group goes with its last member, which may be this one.
            (
                Event::Cancelled {
                    consumer,
                    reason: CancelReason::QueueDeleted,
                },
                Phase::Open(open),
            ) if consumer != outbound::CONSUMER => {
                // What was read has been deleted: the client is to find out.
                if let Some(what) = open.shares.forget(consumer) {
                    let token = subscriptions::UNANSWERED;
                    let command = what.map(|what| shares::unread(token, &open.client_id, &what));
                    effects.commands.extend(command);
                    self.close(Reason::ADMINISTRATIVE_ACTION, effects);
                }
            }
            // Sessions are deleted by a clean start of the same client.
            (
                Event::Cancelled {
                    reason: CancelReason::TakenOver | CancelReason::QueueDeleted,
                    ..
                },
                _,
            ) => {
                self.note_takeover(now);
                self.close(Reason::SESSION_TAKEN_OVER, effects);
            }
            (
                Event::Cancelled {
                    reason: CancelReason::Unreadable | CancelReason::TimedOut,
                    ..
                },
                _,
            ) => {
                self.close(Reason::UNSPECIFIED, effects);
            }
            (Event::Blocked { .. }, _) => self.set_shortage(true),
            (Event::Unblocked, _) => self.set_shortage(false),
            (Event::Shutdown, _) => self.shut_down(effects),
            _ => {}
        }
        Ok(())
    }
}

impl Protocol for Connection {
    fn handle_input(
        &mut self,
        now: Now,
        input: &mut BytesMut,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        // The time to send CONNECT is not made longer by sending it slowly.
        if !matches!(self.phase, Phase::Connecting) {
            self.heard = now.instant;
        }
        // 3.1.0-1; also what an HTTP request runs into, at its first byte.
        if matches!(self.phase, Phase::Connecting)
            && input
                .first()
                .is_some_and(|first| *first != kind::CONNECT << 4)
        {
            return Err(CloseReason::Protocol("first packet is not CONNECT".into()));
        }
        while self.wants_input() {
            let Run { length, fault } =
                packet::run(input, self.packet_max(), |frame| pauses(frame.kind()));
            if length > 0 {
                let batch = input.split_to(length).freeze();
                self.handle_batch(now, &batch, effects)?;
            }
            match fault {
                Some(violation) if self.wants_input() => return self.fail(violation, effects),
                _ if length == 0 => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    fn handle_event(
        &mut self,
        now: Now,
        event: Event,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let waited = !self.wants_input();
        self.take_event(now, event, effects)?;
        if let Phase::Open(open) = &mut self.phase {
            open.finish_turn(effects);
            open.tally.fold_sometimes(now);
        }
        if waited && self.wants_input() {
            self.heard = now.instant;
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Now, effects: &mut Effects) -> Result<(), CloseReason> {
        if self
            .deadline()
            .is_none_or(|deadline| now.instant < deadline)
        {
            return Ok(());
        }
        match &self.phase {
            Phase::Opening(opening) if opening.held().is_some() => {
                self.release(now, effects);
                Ok(())
            }
            Phase::Open(_) if self.version().is_5() => {
                self.close(Reason::KEEP_ALIVE_TIMEOUT, effects);
                Ok(())
            }
            Phase::Open(_) => Err(CloseReason::Timeout("keep alive timeout".into())),
            _ => Err(CloseReason::Timeout("no CONNECT in time".into())),
        }
    }

    fn was_unheard(&mut self, now: Now) {
        self.heard = now.instant;
    }

    fn handle_disconnect(&mut self, _now: Now, effects: &mut Effects) {
        if let Phase::Open(open) = &mut self.phase {
            open.finish_turn(effects);
            open.detach(effects);
        }
        self.phase = Phase::Closed;
    }

    fn rest(&mut self) {
        if let Phase::Open(open) = &mut self.phase {
            open.inbound.rest();
            open.outbound.rest();
            open.tally.fold();
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.deadline()
    }

    fn wants_input(&self) -> bool {
        match &self.phase {
            Phase::Connecting => true,
            Phase::Open(open) => open.wants_input(),
            Phase::Opening(opening) => opening.awaits_proof(),
            Phase::Closed => false,
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }
}

/// Whether a packet must be answered by the core before the next one is taken.
fn pauses(kind: u8) -> bool {
    matches!(
        kind,
        kind::CONNECT | kind::AUTH | kind::SUBSCRIBE | kind::UNSUBSCRIBE
    )
}
