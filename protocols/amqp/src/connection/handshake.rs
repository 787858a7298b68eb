//! From the protocol header to connection.open-ok (sections 2.2.4 and 1.4.2): who the client is and what was agreed.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trivium_core::{Command, Now, Origin, Refusal, Reply, Text, Value};
use trivium_protocol::Effects;

use super::{Connection, State};
use crate::{
    Options,
    error::{Error, ReplyCode},
    field_table::Table,
    frame,
    method::Method,
    sasl,
    session::Then,
};

const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// What clients of 0-9 sent; RabbitMQ takes it for 0-9-1.
const OLD_PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x01\x01\x00\x09";
/// How long a refused login waits for its end, so that guessing takes time.
const REFUSED_LOGIN_DELAY: Duration = Duration::from_secs(1);
/// The version of RabbitMQ whose behaviour clients may assume (docs/amqp.md says why).
const COMPATIBLE_VERSION: &str = "4.0.0";

impl Connection {
    pub(super) fn handle_header(&mut self, input: &mut BytesMut, effects: &mut Effects) {
        let seen = input.len().min(PROTOCOL_HEADER.len());
        if ![PROTOCOL_HEADER, OLD_PROTOCOL_HEADER]
            .iter()
            .any(|header| header[..seen] == input[..seen])
        {
            effects.output.buffer().put_slice(PROTOCOL_HEADER);
            input.clear();
            self.state = State::Closed;
        } else if seen == PROTOCOL_HEADER.len() {
            input.advance(seen);
            self.state = State::StartOk;
            self.send(&start(self.session.options.anonymous), effects);
        }
    }

    pub(super) fn handle_start_ok(
        &mut self,
        client_properties: &Table,
        mechanism: Text,
        response: &Bytes,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        self.failure_close = has_capability(client_properties, "authentication_failure_close");
        self.session.cancel_notify = has_capability(client_properties, "consumer_cancel_notify");
        self.blocking.is_told = has_capability(client_properties, "connection.blocked");
        let anonymous = self.session.options.anonymous;
        let credentials = sasl::credentials(&mechanism, response, self.loopback, anonymous)?;
        self.state = State::Authenticating;
        let then = Then::Authenticated { mechanism };
        self.session
            .ask(0, (10, 11), then, effects, |token| Command::Authenticate {
                token,
                credentials,
            });
        Ok(())
    }

    pub(super) fn handle_authenticated(
        &mut self,
        result: Result<Reply, Refusal>,
        mechanism: &str,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        match result {
            Ok(reply) => {
                if let Reply::Authenticated { user, tags } = reply {
                    self.session.impersonator = tags.iter().any(|tag| tag == "impersonator");
                    self.set_origin(|origin| origin.user = user);
                }
                let Options {
                    channel_max,
                    frame_max,
                    heartbeat,
                    ..
                } = self.session.options;
                self.state = State::TuneOk;
                self.send(
                    &Method::ConnectionTune {
                        channel_max,
                        frame_max,
                        heartbeat,
                    },
                    effects,
                );
                Ok(())
            }
            Err(Refusal::LoginRefused) if !self.failure_close => {
                self.state = State::Closing {
                    until: now.instant + REFUSED_LOGIN_DELAY,
                };
                Ok(())
            }
            Err(Refusal::LoginRefused) => Err(Error::connection(
                ReplyCode::AccessRefused,
                format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
                ),
            )),
            Err(refusal) => Err(refusal.into()),
        }
    }

    pub(super) fn handle_tune_ok(
        &mut self,
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
    ) -> Result<(), Error> {
        let options = self.session.options;
        check_negotiated(
            "channel_max",
            channel_max.into(),
            1,
            options.channel_max.into(),
        )?;
        check_negotiated("frame_max", frame_max, frame::SIZE_MIN, options.frame_max)?;
        self.channel_max = channel_max;
        self.session.frame_max = frame_max;
        self.heartbeat = Duration::from_secs(heartbeat.into());
        self.state = State::Open;
        Ok(())
    }

    pub(super) fn handle_entered(
        &mut self,
        vhost: Text,
        result: Result<Reply, Refusal>,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        match result {
            Ok(reply) => {
                if let Reply::Entered { channels } = reply {
                    self.session.channels = Some(channels);
                }
                self.set_origin(|origin| origin.vhost = vhost);
                self.state = State::Running;
                self.send(
                    &Method::ConnectionOpenOk {
                        reserved_1: Text::new(),
                    },
                    effects,
                );
                Ok(())
            }
            Err(refusal @ (Refusal::Denied(_) | Refusal::NoVhost(_))) => Err(Error::connection(
                ReplyCode::NotAllowed,
                refusal.to_string(),
            )),
            Err(refusal) => Err(refusal.into()),
        }
    }

    pub(super) fn set_origin(&mut self, set: impl FnOnce(&mut Origin)) {
        set(Arc::make_mut(&mut self.session.origin));
    }
}

/// A client may ask for less than it was offered; 0, no limit, is more.
fn check_negotiated(field: &str, value: u32, min: u32, max: u32) -> Result<(), Error> {
    let (comparison, bound, limit) = match value {
        0 => ("higher", "maximum", max),
        _ if value < min => ("lower", "minimum", min),
        _ if value > max => ("higher", "maximum", max),
        _ => return Ok(()),
    };
    let detail = if value == 0 { " (no limit)" } else { "" };
    let text = format!(
        "negotiated {field} = {value}{detail} is {comparison} than the {bound} allowed value ({limit})"
    );
    Err(Error::connection(ReplyCode::NotAllowed, text))
}

fn has_capability(client_properties: &Table, wanted: &str) -> bool {
    client_properties.iter().any(|(name, value)| match value {
        Value::Table(capabilities) if name == "capabilities" => capabilities
            .iter()
            .any(|(name, value)| name == wanted && *value == Value::Bool(true)),
        _ => false,
    })
}

fn start(anonymous: bool) -> Method {
    let text = |text: &'static str| Value::Text(Text::from_static(text));
    let capabilities = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    let capabilities = capabilities
        .map(|name| (Text::from_static(name), Value::Bool(true)))
        .to_vec();
    Method::ConnectionStart {
        version_major: 0,
        version_minor: 9,
        server_properties: vec![
            (
                Text::from_static("capabilities"),
                Value::Table(capabilities),
            ),
            (Text::from_static("cluster_name"), text("trivium")),
            (
                Text::from_static("information"),
                text("Licensed under the Apache License 2.0"),
            ),
            (Text::from_static("platform"), text("Rust")),
            (Text::from_static("product"), text("Trivium")),
            (Text::from_static("version"), text(COMPATIBLE_VERSION)),
            (
                Text::from_static("trivium_version"),
                text(env!("CARGO_PKG_VERSION")),
            ),
        ],
        mechanisms: Bytes::from_static(sasl::mechanisms(anonymous).as_bytes()),
        locales: Bytes::from_static(b"en_US"),
    }
}
