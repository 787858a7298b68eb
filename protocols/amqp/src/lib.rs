//! The AMQP 0-9-1 front end, with RabbitMQ's extensions.
//!
//! ```text
//! bytes ─► frame ─► method ─► connection ─► channel ─► Command
//!                              │ sasl        ├ definition: declare, bind, delete
//!                              │ heartbeats  ├ publish: method, header, body ─► Message
//! bytes ◄──── frames ◄─────────┴─────────────┼ deliver ◄─ Event
//!                                            ├ unsettled: delivery tags ─► settle
//!                                            └ confirm ◄─ Event
//! ```
//!
//! Start reading at [`connection`]; [`method`] is the specification as a table.

pub mod channel;
pub mod confirm;
pub mod connection;
mod consume;
mod copies;
mod definition;
pub mod deliver;
pub mod error;
pub mod field_table;
pub mod foreign;
pub mod frame;
pub mod method;
pub mod properties;
pub mod publish;
pub mod rewrite;
mod sasl;
mod session;
mod settle;
mod unsettled;
pub mod wire;

use std::sync::Arc;

use trivium_core::{ConversionTally, Conversions, Dialect, Now, Sample};
use trivium_protocol::{Frontend, Peer, Protocol};

/// What the operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The largest body in bytes. RabbitMQ's default is 16 MiB, its upper bound 128 MiB.
    pub max_message_size: usize,
    /// Channels per connection at most, at least 1.
    pub channel_max: u16,
    /// Consumers per channel at most; 0 is no limit.
    pub consumer_max: usize,
    /// Bytes per frame at most, all overhead included, at least [`frame::SIZE_MIN`].
    pub frame_max: u32,
    /// The heartbeat that is proposed, in seconds; 0 proposes none. The client decides.
    pub heartbeat: u16,
    /// Whether the mechanism ANONYMOUS is offered. Who uses it acts as `guest`, from the loopback only.
    pub anonymous: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_message_size: 16 << 20,
            channel_max: 2047,
            consumer_max: 0,
            frame_max: 131_072,
            heartbeat: 60,
            anonymous: true,
        }
    }
}

/// The AMQP 0-9-1 front end.
#[derive(Debug)]
pub struct Amqp {
    options: Options,
    conversions: Arc<Conversions>,
}

impl Amqp {
    /// A front end with these options.
    pub fn new(options: Options) -> Amqp {
        Amqp {
            options,
            conversions: Arc::new(Conversions::to("amqp")),
        }
    }
}

impl Default for Amqp {
    fn default() -> Amqp {
        Amqp::new(Options::default())
    }
}

impl Frontend for Amqp {
    fn name(&self) -> &'static str {
        "amqp"
    }

    fn chooses_vhost(&self) -> bool {
        true
    }

    fn connect(&self, peer: Peer, now: Now) -> Box<dyn Protocol> {
        let converted = ConversionTally::new(&self.conversions);
        Box::new(connection::Connection::new(
            self.options,
            converted,
            peer,
            now,
        ))
    }

    fn dialects(&self) -> Vec<&'static dyn Dialect> {
        vec![&properties::Basic]
    }

    fn samples(&self) -> Vec<Sample> {
        self.conversions.samples()
    }
}
