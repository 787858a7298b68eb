//! The configuration: every key with its type, default and meaning, merged from four layers.
//!
//! Defaults, then the file, then the environment, then flags; the last that names a key wins. A value is
//! parsed into its type here, once, and trusted from then on. An error names the key and the layer.

mod kafka;
mod layers;
mod mqtt;
mod otlp;
mod values;

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU16, NonZeroUsize},
    path::PathBuf,
};

use serde::Deserialize;

pub use kafka::Kafka;
pub use layers::{ConfigError, Layers};
pub use mqtt::Mqtt;
pub use otlp::{Otlp, OtlpEndpoint};
pub use values::{
    DefaultQueueType, Durability, Filter, FrameMax, HostPort, LogFormat, MessageSize, Millis,
    Shards, Size,
};
use values::{parsed, parsed_some};

use crate::args::ServeArgs;

/// What the broker is told by whoever runs it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything durable lives; created when it is not there.
    #[serde(deserialize_with = "parsed")]
    pub data_dir: PathBuf,
    /// What an acknowledgement means.
    #[serde(deserialize_with = "parsed")]
    pub durability: Durability,
    /// Number of shards; one per core is right for most.
    #[serde(deserialize_with = "parsed")]
    pub shards: Shards,
    /// Connections at most, over all protocols; more are closed as they come.
    #[serde(deserialize_with = "parsed")]
    pub max_connections: NonZeroUsize,
    /// Connections that have logged in, over all protocols; more are refused as their protocol does it. 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub connection_max: u64,
    /// Queues, MQTT sessions and logs of all vhosts; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub cluster_queue_limit: u64,
    /// Exchanges of all vhosts, predeclared ones among them; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub cluster_exchange_limit: u64,
    /// Vhosts; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub vhost_max: u64,
    /// Bytes of queued messages kept in memory, over all queues; what is beyond is read back from disk.
    #[serde(deserialize_with = "parsed")]
    pub queue_memory: Size,
    /// Bytes of record batches kept in memory for readers at the ends of logs.
    #[serde(deserialize_with = "parsed")]
    pub log_memory: Size,
    /// Bytes that the store keeps in memory: what is not yet in its files, and what was read from them lately.
    #[serde(deserialize_with = "parsed")]
    pub storage_memory: Size,
    /// Bytes that must be free where the data directory is, or publishers are held back; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub disk_free_limit: Size,
    /// Bytes of memory that the process may use before publishers are held back; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub memory_limit: Size,
    /// A user that is created at start and may connect from anywhere.
    #[serde(deserialize_with = "parsed_some")]
    pub default_user: Option<String>,
    /// That user's password.
    #[serde(deserialize_with = "parsed_some")]
    pub default_pass: Option<String>,
    /// AMQP 0-9-1.
    pub amqp: Amqp,
    /// The Kafka protocol.
    pub kafka: Kafka,
    /// MQTT 3.1, 3.1.1 and 5.
    pub mqtt: Mqtt,
    /// Health, metrics and management.
    pub http: Http,
    /// What is set up at start.
    pub definitions: Definitions,
    /// What is logged, and how.
    pub log: Log,
    /// Where spans of messages are sent.
    pub otlp: Otlp,
}

impl Config {
    /// Reads all layers: `args`, the process's environment and the file that they name.
    pub fn load(args: &ServeArgs) -> Result<Config, ConfigError> {
        Layers::of_process(args)?.config()
    }

    /// The user to create at start, and its password.
    pub fn user(&self) -> Option<(&str, &str)> {
        self.default_user
            .as_deref()
            .zip(self.default_pass.as_deref())
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: PathBuf::from("./trivium-data"),
            durability: Durability::Sync,
            shards: Shards::per_core(),
            max_connections: NonZeroUsize::new(65_536).expect("not zero"),
            connection_max: 0,
            cluster_queue_limit: 0,
            cluster_exchange_limit: 0,
            vhost_max: 0,
            queue_memory: Size::mebibytes(128),
            log_memory: Size::mebibytes(64),
            storage_memory: Size::mebibytes(160),
            disk_free_limit: Size::mebibytes(50),
            memory_limit: Size::mebibytes(0),
            default_user: None,
            default_pass: None,
            amqp: Amqp::default(),
            kafka: Kafka::default(),
            mqtt: Mqtt::default(),
            http: Http::default(),
            definitions: Definitions::default(),
            log: Log::default(),
            otlp: Otlp::default(),
        }
    }
}

/// `amqp.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amqp {
    /// Whether the protocol is spoken at all.
    #[serde(deserialize_with = "parsed")]
    pub enabled: bool,
    /// Address and port to listen on.
    #[serde(deserialize_with = "parsed")]
    pub listen: SocketAddr,
    /// Whether the SASL mechanism ANONYMOUS is offered, for clients of this machine.
    #[serde(deserialize_with = "parsed")]
    pub anonymous: bool,
    /// The largest body of a message.
    #[serde(deserialize_with = "parsed")]
    pub max_message_size: MessageSize,
    /// The largest frame that is offered to clients.
    #[serde(deserialize_with = "parsed")]
    pub frame_max: FrameMax,
    /// Channels per connection at most.
    #[serde(deserialize_with = "parsed")]
    pub channel_max: NonZeroU16,
    /// Channels of all connections at most; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub channel_max_per_node: u64,
    /// Consumers per channel at most; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub consumer_max_per_channel: usize,
    /// The heartbeat interval that is offered, in seconds; 0 is none.
    #[serde(deserialize_with = "parsed")]
    pub heartbeat: u16,
    /// The type of durable, shared queues that are declared without one, where a vhost has no default of its own.
    #[serde(deserialize_with = "parsed")]
    pub default_queue_type: DefaultQueueType,
    /// Whether connections begin with a PROXY header.
    #[serde(deserialize_with = "parsed")]
    pub proxy_protocol: bool,
}

impl Default for Amqp {
    fn default() -> Amqp {
        Amqp {
            enabled: true,
            listen: loopback(5672),
            anonymous: true,
            max_message_size: MessageSize::DEFAULT,
            frame_max: FrameMax::DEFAULT,
            channel_max: NonZeroU16::new(2047).expect("not zero"),
            channel_max_per_node: 0,
            consumer_max_per_channel: 0,
            heartbeat: 60,
            default_queue_type: DefaultQueueType::Classic,
            proxy_protocol: false,
        }
    }
}

/// `http.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Whether health and metrics are served at all.
    #[serde(deserialize_with = "parsed")]
    pub enabled: bool,
    /// Address and port to listen on.
    #[serde(deserialize_with = "parsed")]
    pub listen: SocketAddr,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            enabled: true,
            listen: loopback(15672),
        }
    }
}

/// `definitions.*`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Definitions {
    /// A file in RabbitMQ's JSON format that is imported whenever the broker starts.
    #[serde(deserialize_with = "parsed_some")]
    pub file: Option<PathBuf>,
}

/// `log.*`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    #[serde(deserialize_with = "parsed")]
    pub format: LogFormat,
    /// Which events are logged.
    #[serde(deserialize_with = "parsed")]
    pub level: Filter,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
