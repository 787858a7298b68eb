//! Kafka: prebuilt record batches to the partitions of one topic, and fetches from them without a group.
//!
//! Everything goes to the address given, so the broker there must lead all partitions: a single node.

mod batch;
mod codec;
mod consumer;
mod producer;

use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::inbox::Inbox;
use crate::options::{Load, Mode, parse_bytes};
use crate::plan::{self, Target};
use codec::{Reader, Response, Writer};
use consumer::Consumer;
use producer::Producer;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub load: Load,
    /// Host and port of the broker
    #[arg(short, long, default_value = "127.0.0.1:9092")]
    pub address: String,
    #[arg(short, long, default_value = "trivium-load")]
    pub topic: String,
    /// Partitions of the topic when it is made
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub partitions: i32,
    /// Use a topic that exists, and leave it
    #[arg(long)]
    pub predeclared: bool,
    /// Keep the topic when both sides have run
    #[arg(long)]
    pub keep: bool,
    /// 0, 1 or -1 (all)
    #[arg(long, value_parser = parse_acks, allow_hyphen_values = true, default_value = "all")]
    pub acks: i16,
    /// Bytes of a record batch at most
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes, default_value = "64k")]
    pub batch: usize,
    /// Milliseconds to wait for a batch to fill at a fixed rate
    #[arg(long, value_name = "MS", default_value_t = 5)]
    pub linger: u64,
    /// Produce requests of a connection that may be unanswered
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub in_flight: usize,
    /// Bytes of a fetch response at most
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "8m")]
    pub fetch_max: usize,
    /// Bytes of one partition in a fetch response at most
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "1m")]
    pub partition_max: usize,
    /// Bytes that a fetch waits for
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "1")]
    pub fetch_min: usize,
    /// Milliseconds that a fetch waits
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub fetch_wait: i32,
}

pub async fn run(options: Options) -> anyhow::Result<String> {
    anyhow::ensure!(options.partitions > 0, "at least one partition is needed");
    anyhow::ensure!(
        options.topic.len() <= 249,
        "the name of the topic is too long"
    );
    anyhow::ensure!(options.batch <= 1 << 27, "batches are limited to 128 MiB");
    let fits = options
        .fetch_max
        .max(options.partition_max)
        .max(options.fetch_min)
        <= i32::MAX as usize;
    anyhow::ensure!(fits, "fetch sizes are limited to 2 GiB");
    let busy =
        !options.load.mode.consumes() || options.load.consumers <= options.partitions as usize;
    anyhow::ensure!(
        busy,
        "more consumers than partitions: some would have nothing to read"
    );
    plan::run(&options, &options.load).await
}

fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "-1" | "all" => Ok(-1),
        _ => Err(format!("'{text}' is none of 0, 1, all")),
    }
}

/// ListOffsets: the timestamps that stand for the first record and for the next to be written.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const LEADER_ATTEMPTS: u32 = 100;
const LEADER_PAUSE: Duration = Duration::from_millis(50);

/// A connection on which one request is made after the other.
struct Calls {
    stream: TcpStream,
    inbox: Inbox,
}

impl Calls {
    async fn open(options: &Options) -> anyhow::Result<Calls> {
        Ok(Calls {
            stream: plan::connect(&options.address).await?,
            inbox: Inbox::new(),
        })
    }

    async fn call<R>(
        &mut self,
        request: Writer,
        read: impl FnOnce(Reader<'_>) -> anyhow::Result<R>,
    ) -> anyhow::Result<R> {
        self.stream
            .write_all(&request.finish())
            .await
            .context("cannot write to the broker")?;
        loop {
            if let Some(response) = Response::read(self.inbox.unread())? {
                let (result, length) = (read(response.body), response.length);
                self.inbox.consume(length);
                return result;
            }
            let count = self
                .stream
                .read(self.inbox.room())
                .await
                .context("cannot read from the broker")?;
            anyhow::ensure!(count > 0, "the broker closed the connection during set-up");
            self.inbox.filled(count);
        }
    }

    /// Makes the topic and waits until its partitions answer.
    async fn create_topic(&mut self, options: &Options) -> anyhow::Result<()> {
        const ALREADY_EXISTS: i16 = 36;
        let create = Writer::request(codec::CREATE_TOPICS, 0)
            .int32(1)
            .string(&options.topic);
        let create = create
            .int32(options.partitions)
            .int16(1)
            .int32(0)
            .int32(0)
            .int32(10_000)
            .int8(0);
        self.call(create, |mut body| {
            body.int32()?;
            body.count()?;
            body.string()?;
            match body.int16()? {
                ALREADY_EXISTS => Ok(()),
                error => codec::check(error, "to create the topic"),
            }
        })
        .await?;
        for partition in 0..options.partitions {
            self.offset(options, partition, EARLIEST).await?;
        }
        Ok(())
    }

    /// The offset of a partition at `timestamp`. A new topic has no leader for a moment.
    async fn offset(
        &mut self,
        options: &Options,
        partition: i32,
        timestamp: i64,
    ) -> anyhow::Result<i64> {
        for _ in 0..LEADER_ATTEMPTS {
            match self.list_offset(options, partition, timestamp).await? {
                (codec::UNKNOWN_TOPIC | codec::NO_LEADER | codec::NOT_LEADER, _) => {
                    tokio::time::sleep(LEADER_PAUSE).await;
                }
                (error, offset) => return codec::check(error, "to list offsets").map(|()| offset),
            }
        }
        anyhow::bail!(
            "partition {partition} of topic {} has no leader here",
            options.topic
        )
    }

    async fn list_offset(
        &mut self,
        options: &Options,
        partition: i32,
        timestamp: i64,
    ) -> anyhow::Result<(i16, i64)> {
        let list = Writer::request(codec::LIST_OFFSETS, 0)
            .int32(-1)
            .int32(1)
            .string(&options.topic);
        self.call(
            list.int32(1).int32(partition).int64(timestamp),
            |mut body| {
                body.count()?;
                body.string()?;
                body.count()?;
                body.int32()?;
                let error = body.int16()?;
                body.int64()?;
                Ok((error, body.int64()?))
            },
        )
        .await
    }
}

impl Target for Options {
    type Sink = Producer;
    type Source = Consumer;
    const PROTOCOL: &'static str = "kafka";

    async fn prepare(&self) -> anyhow::Result<()> {
        match self.predeclared {
            true => Ok(()),
            false => Calls::open(self).await?.create_topic(self).await,
        }
    }

    async fn publisher(&self, index: usize) -> anyhow::Result<(TcpStream, Inbox, Producer)> {
        let calls = Calls::open(self).await?;
        Ok((calls.stream, calls.inbox, Producer::new(self, index)))
    }

    /// Partitions are dealt to the consumers in turn. Alone, a consumer begins with the first record;
    /// beside publishers, with the first that they write.
    async fn consumer(&self, index: usize) -> anyhow::Result<(TcpStream, Inbox, Consumer)> {
        let mut calls = Calls::open(self).await?;
        let mut positions = Vec::new();
        let from = if self.load.mode == Mode::Consume {
            EARLIEST
        } else {
            LATEST
        };
        for partition in (index as i32..self.partitions).step_by(self.load.consumers) {
            let offset = calls.offset(self, partition, from).await?;
            positions.push((partition, offset));
        }
        Ok((calls.stream, calls.inbox, Consumer::new(self, positions)))
    }

    async fn clean_up(&self) -> anyhow::Result<()> {
        if self.predeclared || self.keep || self.load.mode != Mode::Both {
            return Ok(());
        }
        let delete = Writer::request(codec::DELETE_TOPICS, 0)
            .int32(1)
            .string(&self.topic)
            .int32(10_000);
        Calls::open(self).await?.call(delete, |_| Ok(())).await
    }

    fn fan_out(&self) -> u64 {
        1
    }

    fn acknowledges(&self) -> bool {
        self.acks != 0
    }
}
