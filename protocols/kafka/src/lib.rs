//! The Kafka front end: classic clients of Kafka's protocol over Trivium's logs and consumer groups.
//!
//! ```text
//! bytes ─ header ─ api ─ messages/* ─► serve/* ─ Command ─► core
//! bytes ◄──────── wire::Frame ◄─────── serve/* ◄─ Event ─── core
//! ```
//!
//! Start reading at [`api`], the table of what is served; [`messages`] are tables too, made into codecs by
//! `message`. `connection` keeps the order of requests and responses; each file of `serve` answers some APIs.

// A refusal carries names for its text; it is the rare case, and boxing it would be for the lint alone.
#![allow(clippy::result_large_err)]

pub mod api;
mod batch;
mod call;
mod config;
mod connection;
pub mod error;
mod group_config;
mod header;
mod message;
pub mod messages;
pub mod records;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod script;
mod serve;
mod throttle;
mod topics;
pub mod wire;

use std::sync::{Arc, atomic::AtomicI32};

use trivium_core::{Dialect, Now, Text, group::GroupBounds};
use trivium_protocol::{Frontend, Peer, Protocol};

/// The Kafka protocol.
#[derive(Clone, Debug, Default)]
pub struct Kafka {
    /// What all connections share.
    pub options: Arc<Options>,
}

/// Settings of the front end, checked by whoever built them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host name that clients are told to connect to; without one, the address that they connected to.
    pub advertised_host: Option<Text>,
    /// The port that clients are told to connect to; without one, the port that they connected to.
    pub advertised_port: Option<u16>,
    /// The id of this broker, at least 0.
    pub node_id: i32,
    /// Where the data is, for those who ask for sizes.
    pub data_dir: Text,
    /// The id of the cluster, not empty; it outlives restarts.
    pub cluster_id: Text,
    /// Whether a topic that a client asks for, and allows to be created, is created.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created without a number, at least 1.
    pub default_partitions: u32,
    /// Bytes of one request at most.
    pub max_request_size: usize,
    /// Bytes of one record batch at most.
    pub max_message_bytes: usize,
    /// What groups have without settings of their own, and between what these may lie.
    pub group_bounds: GroupBounds,
    /// The time, for quotas of how long requests take; without it, these do not count.
    pub clock: Option<fn() -> Now>,
    /// The next id of a fetch session. Ids are not reused, so no connection takes another's for its own.
    pub fetch_sessions: Arc<AtomicI32>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            advertised_host: None,
            advertised_port: None,
            node_id: 1,
            data_dir: "trivium-data".into(),
            cluster_id: "trivium".into(),
            auto_create_topics: true,
            default_partitions: 1,
            max_request_size: 100 * 1024 * 1024,
            max_message_bytes: 1_048_588,
            group_bounds: GroupBounds::default(),
            clock: None,
            fetch_sessions: Arc::new(AtomicI32::new(1)),
        }
    }
}

impl Frontend for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn connect(&self, peer: Peer, _now: Now) -> Box<dyn Protocol> {
        Box::new(connection::Connection::new(self.options.clone(), peer))
    }

    /// None: what Kafka clients send are records, which the core reads itself.
    fn dialects(&self) -> Vec<&'static dyn Dialect> {
        Vec::new()
    }
}
