//! Enhanced authentication (section 4.12): SCRAM, at CONNECT and again later.
//!
//! ```text
//! CONNECT(first) ──► FindScram ──► AUTH 0x18 ◄──► AUTH 0x18(proof) ──► Authenticate ──► … CONNACK(last)
//! AUTH 0x19(first) ─► FindScram ─► AUTH 0x18 ◄──► AUTH 0x18(proof) ──► AUTH 0x00(last)
//! ```

use bytes::{Bytes, BytesMut};
use trivium_core::{Command, Credentials, Now, ScramKeys, Text};
use trivium_protocol::{
    CloseReason, Effects,
    scram::{self, Exchange},
};

use super::{
    Connection, Phase,
    handshake::{AUTHENTICATE, FIND_SCRAM},
};
use crate::{
    options::Options,
    packet::{Auth, Packet, Reason, Version, Violation, wire::Reader},
};

/// A method, and a login by it that is under way or done.
pub struct Login {
    method: Text,
    exchange: Option<Box<Exchange>>,
    /// Whether it is the client's turn.
    pub(super) awaits_proof: bool,
    /// What the method has to say last.
    pub(super) last: Option<Bytes>,
}

const NOT_AUTHORIZED: Violation = Violation {
    reason: Reason::NOT_AUTHORIZED,
    text: "not authorized",
};

impl Login {
    /// Begins with the client's first message, and asks for the user's keys.
    pub(super) fn begin(
        method: &Text,
        data: Option<&Bytes>,
        now: Now,
        options: &Options,
        commands: &mut Vec<Command>,
    ) -> Result<Login, Violation> {
        let hash = scram::mechanism(method).ok_or(Violation {
            reason: Reason::BAD_AUTHENTICATION_METHOD,
            text: "authentication method is not known",
        })?;
        let first = data.map(Bytes::as_ref).unwrap_or_default();
        let exchange = Exchange::begin(hash, first, &options.secret, now).ok_or(NOT_AUTHORIZED)?;
        commands.push(Command::FindScram {
            token: FIND_SCRAM,
            user: exchange.user().clone(),
            hash,
        });
        Ok(Login {
            method: Text::from(&**method),
            exchange: Some(Box::new(exchange)),
            awaits_proof: false,
            last: None,
        })
    }

    /// The method's name, as CONNACK repeats it.
    pub(super) fn method(&self) -> &Text {
        &self.method
    }

    /// The keys are found: it is the client's turn, if it takes packets of the size that is needed (3.1.2-24).
    pub(super) fn challenge(
        &mut self,
        keys: Option<ScramKeys>,
        packet_max: usize,
        out: &mut BytesMut,
    ) -> Result<(), Violation> {
        let Some(exchange) = &mut self.exchange else {
            return Ok(());
        };
        self.awaits_proof = true;
        let data = exchange.challenge(keys);
        self.say(Reason::CONTINUE_AUTHENTICATION, data, packet_max, out)
    }

    /// Takes the client's proof; who it is, if it is right.
    fn prove(&mut self, auth: &Auth) -> Result<Text, Violation> {
        // 4.12.0-5: the method stays what it was.
        if auth.method.as_ref() != Some(&self.method) {
            return Err(Violation::protocol("another authentication method"));
        }
        let exchange = self.exchange.take_if(|_| self.awaits_proof);
        let (Some(exchange), Reason::CONTINUE_AUTHENTICATION) = (exchange, auth.reason) else {
            return Err(Violation::protocol("AUTH out of turn"));
        };
        self.awaits_proof = false;
        let user = exchange.user().clone();
        let proof = auth.data.as_ref().map(Bytes::as_ref).unwrap_or_default();
        self.last = Some(exchange.finish(proof).ok_or(NOT_AUTHORIZED)?);
        Ok(user)
    }

    /// Nothing is in AUTH that could be left out of it.
    fn say(
        &self,
        reason: Reason,
        data: Bytes,
        packet_max: usize,
        out: &mut BytesMut,
    ) -> Result<(), Violation> {
        let auth = Auth {
            reason,
            method: Some(self.method.clone()),
            data: Some(data),
        };
        let before = out.len();
        Packet::Auth(auth).encode(Version::V5, out);
        if out.len() - before > packet_max {
            out.truncate(before);
            return Err(Violation {
                reason: Reason::PACKET_TOO_LARGE,
                text: "authentication needs larger packets than the client takes",
            });
        }
        Ok(())
    }

    /// Takes an AUTH of a connection that is open (4.12.1); `user` is who it is.
    pub(super) fn again(
        &mut self,
        auth: &Auth,
        user: &Text,
        now: Now,
        options: &Options,
        packet_max: usize,
        effects: &mut Effects,
    ) -> Result<(), Violation> {
        if auth.reason == Reason::RE_AUTHENTICATE {
            if auth.method.as_ref() != Some(&self.method) {
                return Err(Violation::protocol("another authentication method"));
            }
            let data = auth.data.as_ref();
            *self = Login::begin(&self.method, data, now, options, &mut effects.commands)?;
            return Ok(());
        }
        if self.prove(auth)? != *user {
            return Err(NOT_AUTHORIZED);
        }
        let last = self.last.take().unwrap_or_default();
        self.say(Reason::SUCCESS, last, packet_max, effects.output.buffer())
    }
}

impl Connection {
    /// Takes the client's proof, before CONNACK. Nothing but AUTH and DISCONNECT may come here (3.1.2-30).
    pub(super) fn handle_proof(
        &mut self,
        first: u8,
        reader: Reader<'_>,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        let loopback = self.loopback;
        let Phase::Opening(opening) = &mut self.phase else {
            return Ok(());
        };
        self.shared.counters.early(1, 0);
        let packet = Packet::decode(first, reader, Version::V5, &mut Text::new());
        let proved = packet.and_then(|packet| match (packet, &mut opening.login) {
            (Packet::Auth(auth), Some(login)) => login.prove(&auth).map(Some),
            (Packet::Disconnect(_), _) => Ok(None),
            _ => Err(Violation::protocol("neither AUTH nor DISCONNECT")),
        });
        match proved {
            Ok(Some(user)) => effects.commands.push(Command::Authenticate {
                token: AUTHENTICATE,
                credentials: Credentials::Proven { user, loopback },
            }),
            Ok(None) => self.phase = Phase::Closed,
            Err(violation) => self.refuse(Version::V5, violation.reason, effects),
        }
        Ok(())
    }
}
