//! AMQP 0-9-1: queues through an exchange, confirms, prefetch and acknowledgements.

mod codec;
mod connection;
mod consumer;
mod publisher;

use tokio::net::TcpStream;

use crate::inbox::Inbox;
use crate::options::{Load, Mode};
use crate::plan::{self, Target};
use codec::{MethodFrame, method, string_table};
use connection::{CHANNEL, Connection};
use consumer::Consumer;
use publisher::Publisher;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub load: Load,
    /// Host and port of the broker
    #[arg(short, long, default_value = "127.0.0.1:5672")]
    pub address: String,
    #[arg(short, long, default_value = "guest")]
    pub user: String,
    #[arg(long, default_value = "guest")]
    pub password: String,
    #[arg(long, default_value = "/")]
    pub vhost: String,
    /// Name of the queue; with several queues, of the first part of their names
    #[arg(short, long, default_value = "trivium-load")]
    pub queue: String,
    /// Exchange to publish to; the queues are bound to it
    #[arg(long, default_value = "")]
    pub exchange: String,
    /// Key to publish with and to bind by, instead of the queue's name
    #[arg(long)]
    pub key: Option<String>,
    /// Number of queues, which the connections take in turn
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub queues: usize,
    /// `x-queue-type` of the queues
    #[arg(long, value_name = "TYPE")]
    pub queue_type: Option<String>,
    /// Durable queues
    #[arg(long)]
    pub durable: bool,
    /// Persistent messages, on durable queues
    #[arg(short, long)]
    pub persistent: bool,
    /// Use queues that exist, and leave them
    #[arg(long)]
    pub predeclared: bool,
    /// Keep the queues when both sides have run
    #[arg(long)]
    pub keep: bool,
    /// Messages that a publisher may have unconfirmed; 0 is without confirms
    #[arg(short = 'c', long, value_name = "N", default_value_t = 0)]
    pub confirm: u64,
    /// Unacknowledged messages of a consumer; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub prefetch: u16,
    /// Acknowledge every N messages at once
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub ack_every: u64,
    /// Consume without acknowledgements
    #[arg(long)]
    pub auto_ack: bool,
}

pub async fn run(options: Options) -> anyhow::Result<String> {
    anyhow::ensure!(options.queues > 0, "at least one queue is needed");
    anyhow::ensure!(
        options.queue.len() <= 240,
        "the name of the queue is too long"
    );
    let key = options.key.as_deref().unwrap_or_default();
    for (what, name) in [
        ("vhost", options.vhost.as_str()),
        ("exchange", &options.exchange),
        ("key", key),
    ] {
        anyhow::ensure!(name.len() <= 255, "the {what} is longer than 255 bytes");
    }
    let prefetched = u64::from(options.prefetch);
    let acks_in_time =
        options.ack_every > 0 && (prefetched == 0 || options.ack_every <= prefetched);
    anyhow::ensure!(
        options.auto_ack || acks_in_time,
        "--ack-every must be from 1 to --prefetch"
    );
    plan::run(&options, &options.load).await
}

impl Options {
    fn queue_name(&self, index: usize) -> String {
        match self.queues {
            1 => self.queue.clone(),
            queues => format!("{}-{}", self.queue, index % queues),
        }
    }

    fn routing_key(&self, index: usize) -> String {
        self.key.clone().unwrap_or_else(|| self.queue_name(index))
    }

    fn declare(&self, name: &str) -> Vec<u8> {
        const DURABLE: u8 = 1 << 1;
        let arguments = self
            .queue_type
            .iter()
            .flat_map(|kind| string_table(&[("x-queue-type", kind)]));
        MethodFrame::new(CHANNEL, method::QUEUE_DECLARE)
            .short(0)
            .short_string(name)
            .octet(if self.durable || self.persistent {
                DURABLE
            } else {
                0
            })
            .long_string(&arguments.collect::<Vec<u8>>())
            .finish()
    }

    fn bind(&self, queue: &str, key: &str) -> Vec<u8> {
        MethodFrame::new(CHANNEL, method::QUEUE_BIND)
            .short(0)
            .short_string(queue)
            .short_string(&self.exchange)
            .short_string(key)
            .octet(0)
            .long_string(&[])
            .finish()
    }

    async fn subscribe(&self, connection: &mut Connection, queue: &str) -> anyhow::Result<()> {
        const NO_ACK: u8 = 1 << 1;
        let qos = MethodFrame::new(CHANNEL, method::BASIC_QOS)
            .long(0)
            .short(self.prefetch)
            .octet(0)
            .finish();
        connection.call(&qos, method::BASIC_QOS_OK).await?;
        let consume = MethodFrame::new(CHANNEL, method::BASIC_CONSUME)
            .short(0)
            .short_string(queue)
            .short_string("")
            .octet(if self.auto_ack { NO_ACK } else { 0 })
            .long_string(&[])
            .finish();
        connection
            .call(&consume, method::BASIC_CONSUME_OK)
            .await
            .map(|_| ())
    }
}

impl Target for Options {
    type Sink = Publisher;
    type Source = Consumer;
    const PROTOCOL: &'static str = "amqp";

    async fn prepare(&self) -> anyhow::Result<()> {
        if self.predeclared {
            return Ok(());
        }
        let mut connection = Connection::open(self).await?;
        for index in 0..self.queues {
            let name = self.queue_name(index);
            connection
                .call(&self.declare(&name), method::QUEUE_DECLARE_OK)
                .await?;
            if !self.exchange.is_empty() {
                connection
                    .call(
                        &self.bind(&name, &self.routing_key(index)),
                        method::QUEUE_BIND_OK,
                    )
                    .await?;
            }
            if self.load.mode == Mode::Both {
                let purge = MethodFrame::new(CHANNEL, method::QUEUE_PURGE)
                    .short(0)
                    .short_string(&name)
                    .octet(0);
                connection
                    .call(&purge.finish(), method::QUEUE_PURGE_OK)
                    .await?;
            }
        }
        Ok(())
    }

    async fn publisher(&self, index: usize) -> anyhow::Result<(TcpStream, Inbox, Publisher)> {
        let mut connection = Connection::open(self).await?;
        if self.confirm > 0 {
            let select = MethodFrame::new(CHANNEL, method::CONFIRM_SELECT)
                .octet(0)
                .finish();
            connection.call(&select, method::CONFIRM_SELECT_OK).await?;
        }
        let publisher = Publisher::new(self, index, connection.frame_max);
        Ok((connection.stream, connection.inbox, publisher))
    }

    async fn consumer(&self, index: usize) -> anyhow::Result<(TcpStream, Inbox, Consumer)> {
        let mut connection = Connection::open(self).await?;
        self.subscribe(&mut connection, &self.queue_name(index))
            .await?;
        let ack_every = if self.auto_ack { 0 } else { self.ack_every };
        Ok((
            connection.stream,
            connection.inbox,
            Consumer::new(ack_every),
        ))
    }

    async fn clean_up(&self) -> anyhow::Result<()> {
        if self.predeclared || self.keep || self.load.mode != Mode::Both {
            return Ok(());
        }
        let mut connection = Connection::open(self).await?;
        for index in 0..self.queues {
            let delete = MethodFrame::new(CHANNEL, method::QUEUE_DELETE)
                .short(0)
                .short_string(&self.queue_name(index));
            connection
                .call(&delete.octet(0).finish(), method::QUEUE_DELETE_OK)
                .await?;
        }
        Ok(())
    }

    fn fan_out(&self) -> u64 {
        1
    }

    fn acknowledges(&self) -> bool {
        self.confirm > 0
    }
}
