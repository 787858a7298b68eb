//! What the front end is told by whoever runs the broker.

use std::time::Duration;

use trivium_core::Text;
use trivium_protocol::scram::Secret;

use crate::translation::Translation;

/// What the front end needs to know, checked by whoever built it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest packet that a client may send, in bytes, once it is connected.
    pub maximum_packet_size: u32,
    /// PUBLISH packets of QoS 1 and 2 under way to one client at once, at most; the client may ask for fewer.
    pub inflight_max: u16,
    /// PUBLISH packets of QoS 1 and 2 under way from one client at once, at most.
    pub receive_maximum: u16,
    /// The greatest topic alias that a client may use.
    pub topic_alias_maximum: u16,
    /// Topic aliases that are used towards one client, at most; the client may ask for fewer.
    pub topic_aliases_sent: u16,
    /// The longest keep alive of a version 5 client in seconds; who asks for more, or for none, is told
    /// (3.2.2-21). 0 is no limit. Version 3 clients cannot be told and are never held to it.
    pub keep_alive_max: u16,
    /// Whether a payload that says it is UTF-8 must be (3.3.2.3.2).
    pub validate_payload_format: bool,
    /// The first level of the topics that response information gives to a client (3.2.2.3.15); none when empty.
    pub response_information: Text,
    /// Where clients may go when this broker stops or has moved; none when empty (4.11).
    pub server_reference: Text,
    /// Whether every client is sent to `server_reference` for good (0x9D).
    pub server_moved: bool,
    /// Messages that wait for one client with a session that outlives its connection; what comes when there are as many
    /// is dropped. 0 is no limit.
    pub session_messages_max: u64,
    /// As `session_messages_max`, in bytes.
    pub session_bytes_max: u64,
    /// How long a client may take to send CONNECT, and each answer of an authentication.
    pub connect_timeout: Duration,
    /// A random secret of this process, from which nonces are made.
    pub secret: Secret,
    /// A random number of this process, so that the client identifiers it assigns were never assigned before.
    pub instance: u64,
    /// What is done about clients that break a rule as devices in the field do.
    pub strict: Strict,
    /// What is carried to other protocols as RabbitMQ does it.
    pub translation: Translation,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            maximum_packet_size: 16 * 1024 * 1024,
            inflight_max: 1024,
            receive_maximum: 1024,
            topic_alias_maximum: 16,
            topic_aliases_sent: 32,
            keep_alive_max: 0,
            validate_payload_format: false,
            response_information: Text::from_static("replies"),
            server_reference: Text::new(),
            server_moved: false,
            session_messages_max: 100_000,
            session_bytes_max: 256 << 20,
            connect_timeout: Duration::from_secs(10),
            secret: [0; 32],
            instance: 0,
            strict: Strict::default(),
            translation: Translation::default(),
        }
    }
}

/// Rules that the specification ends a connection for, and devices in the field break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strict {
    /// A version 5 client sends more PUBLISH packets at once than the receive maximum (3.3.4-9). When logged, it
    /// waits in its socket as version 3 clients do.
    pub receive_maximum: OnBreach,
    /// A 3.1.1 client sets DUP on SUBSCRIBE, UNSUBSCRIBE or PUBREL, as 3.1 had it (2.2.2-1), or a version 5
    /// client sends a PUBLISH again on a live connection (4.4.0-1). When logged, it is taken as it is.
    pub resend: OnBreach,
    /// The level of the protocol has its high bit set, as bridges do. When logged, the client is a bridge:
    /// it does not get back what it published, and RETAIN is kept as published.
    pub bridge: OnBreach,
    /// A 3.1 client has an identifier of more than 23 characters (3.1 section 3.1). When logged, it keeps it.
    pub client_id: OnBreach,
}

impl Strict {
    /// Every rule ends the connection.
    pub const fn everywhere() -> Strict {
        Strict {
            receive_maximum: OnBreach::Disconnect,
            resend: OnBreach::Disconnect,
            bridge: OnBreach::Disconnect,
            client_id: OnBreach::Disconnect,
        }
    }
}

/// What is done about a client that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBreach {
    /// It is logged, once per connection, and the device goes on working.
    #[default]
    Log,
    /// The connection is ended with the specification's reason.
    Disconnect,
}
