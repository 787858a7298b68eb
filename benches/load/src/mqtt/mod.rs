//! MQTT 3.1.1 and 5: QoS 0 and 1, several topics, subscribers of one or of each.

mod codec;
mod publisher;
mod subscriber;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::inbox::Inbox;
use crate::options::{Load, Mode};
use crate::plan::{self, Target};
use codec::{Credentials, Packet, Version};
use publisher::Publisher;
use subscriber::Subscriber;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub load: Load,
    /// Host and port of the broker
    #[arg(short, long, default_value = "127.0.0.1:1883")]
    pub address: String,
    #[arg(short, long)]
    pub user: Option<String>,
    #[arg(long)]
    pub password: Option<String>,
    /// Version of the protocol
    #[arg(long, value_name = "3|5", value_parser = parse_version, default_value = "3")]
    pub mqtt: Version,
    /// Topic; with several topics, the levels before the number
    #[arg(short, long, default_value = "trivium/load")]
    pub topic: String,
    /// Number of topics, which the connections take in turn: as many as connections are pairs, 1 is a fan-out
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub topics: usize,
    /// Filter of the subscribers instead of the topics
    #[arg(long)]
    pub filter: Option<String>,
    /// Quality of service of messages and subscriptions
    #[arg(short, long, value_parser = clap::value_parser!(u8).range(0..=1), default_value_t = 0)]
    pub qos: u8,
    /// QoS 1 messages that a publisher may have unacknowledged
    #[arg(short, long, value_name = "N", default_value_t = 100)]
    pub window: u64,
}

pub async fn run(options: Options) -> anyhow::Result<String> {
    anyhow::ensure!(options.topics > 0, "at least one topic is needed");
    anyhow::ensure!(options.topic.len() <= 60_000, "the topic is too long");
    let texts = [&options.user, &options.password, &options.filter];
    let fit = texts.into_iter().flatten().all(|text| text.len() <= 60_000);
    anyhow::ensure!(fit, "user, password or filter is too long");
    let even = options.filter.is_some() || options.load.consumers % options.topics == 0;
    anyhow::ensure!(
        even || options.load.mode != Mode::Both,
        "every topic needs the same number of consumers: --consumers must be a multiple of --topics"
    );
    plan::run(&options, &options.load).await
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "3" | "3.1.1" | "4" => Ok(Version::V3),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err(format!("'{text}' is neither 3 nor 5")),
    }
}

impl Options {
    fn topic_name(&self, index: usize) -> String {
        match self.topics {
            1 => self.topic.clone(),
            topics => format!("{}/{}", self.topic, index % topics),
        }
    }

    /// An open connection and how many messages it may have unacknowledged.
    async fn open(&self, role: &str, index: usize) -> anyhow::Result<(TcpStream, Inbox, u64)> {
        let (mut stream, mut inbox) = (plan::connect(&self.address).await?, Inbox::new());
        let credentials = Credentials { user: self.user.as_deref(), password: self.password.as_deref() };
        let client = format!("load-{role}-{index}-{}", std::process::id());
        let connect = codec::connect(self.mqtt, &client, &credentials);
        let connack = call(&mut stream, &mut inbox, &connect, codec::CONNACK).await?;
        let allowed = codec::accepted(&connack, self.mqtt)?;
        Ok((stream, inbox, allowed))
    }
}

/// Writes `request` and waits for a packet of `kind`, of which it returns the body.
async fn call(stream: &mut TcpStream, inbox: &mut Inbox, request: &[u8], kind: u8) -> anyhow::Result<Vec<u8>> {
    stream.write_all(request).await.context("cannot write to the broker")?;
    loop {
        if let Some(packet) = Packet::read(inbox.unread())? {
            let (found, body, length) = (packet.kind(), packet.body.to_vec(), packet.length);
            inbox.consume(length);
            anyhow::ensure!(found == kind, "the broker answered with packet type {} during set-up", found >> 4);
            return Ok(body);
        }
        let count = stream.read(inbox.room()).await.context("cannot read from the broker")?;
        anyhow::ensure!(count > 0, "the broker closed the connection during set-up");
        inbox.filled(count);
    }
}

impl Target for Options {
    type Sink = Publisher;
    type Source = Subscriber;
    const PROTOCOL: &'static str = "mqtt";

    async fn prepare(&self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn publisher(&self, index: usize) -> anyhow::Result<(TcpStream, Inbox, Publisher)> {
        let (stream, inbox, allowed) = self.open("x", index).await?;
        Ok((stream, inbox, Publisher::new(self, index, allowed)))
    }

    async fn consumer(&self, index: usize) -> anyhow::Result<(TcpStream, Inbox, Subscriber)> {
        let (mut stream, mut inbox, _) = self.open("y", index).await?;
        let filter = self.filter.clone().unwrap_or_else(|| self.topic_name(index));
        let subscribe = codec::subscribe(self.mqtt, &filter, self.qos);
        let suback = call(&mut stream, &mut inbox, &subscribe, codec::SUBACK).await?;
        let granted = suback.last().is_some_and(|code| *code < 0x80);
        anyhow::ensure!(granted, "the broker refused the subscription to {filter}");
        Ok((stream, inbox, Subscriber::new(self.mqtt)))
    }

    async fn clean_up(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn fan_out(&self) -> u64 {
        let topics = if self.filter.is_some() { 1 } else { self.topics };
        (self.load.consumers / topics).max(1) as u64
    }

    fn acknowledges(&self) -> bool {
        self.qos > 0
    }
}
