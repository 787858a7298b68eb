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
    let even = options.filter.is_some() || options.load.consumers.is_multiple_of(options.topics);
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
        let credentials = Credentials {
            user: self.user.as_deref(),
            password: self.password.as_deref(),
        };
        let client = format!("load-{role}-{index}-{}", std::process::id());
        let connect = codec::connect(self.mqtt, &client, &credentials);
        let connack = call(&mut stream, &mut inbox, &connect, codec::CONNACK).await?;
        let allowed = codec::accepted(&connack, self.mqtt)?;
        Ok((stream, inbox, allowed))
    }
}

/// Writes `request` and waits for a packet of `kind`, of which it returns the body.
async fn call(
    stream: &mut TcpStream,
    inbox: &mut Inbox,
    request: &[u8],
    kind: u8,
) -> anyhow::Result<Vec<u8>> {
    stream
        .write_all(request)
        .await
        .context("cannot write to the broker")?;
    loop {
        if let Some(packet) = Packet::read(inbox.unread())? {
            let (found, body, length) = (packet.kind(), packet.body.to_vec(), packet.length);
            inbox.consume(length);
            anyhow::ensure!(
                found == kind,
                "the broker answered with packet type {} during set-up",
                found >> 4
            );
            return Ok(body);
        }
        let count = stream
            .read(inbox.room())
            .await
            .context("cannot read from the broker")?;
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
        let filter = self
            .filter
            .clone()
            .unwrap_or_else(|| self.topic_name(index));
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
        let topics = if self.filter.is_some() {
            1
        } else {
            self.topics
        };
        (self.load.consumers / topics).max(1) as u64
    }

    fn acknowledges(&self) -> bool {
        self.qos > 0
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Options {
        let words = std::iter::once("mqtt").chain(line.split(' '));
        Line::try_parse_from(words).unwrap().options
    }

    /// A broker of one subscriber and one publisher, which answers every packet as it should but
    /// swallows the publish of number `lost`.
    async fn fake_broker(listener: TcpListener, lost: usize) -> anyhow::Result<()> {
        let (forward, mut forwarded) = mpsc::unbounded_channel::<Vec<u8>>();
        let mut subscriber = accept(&listener).await?;
        let mut inbox = Inbox::new();
        answer(&mut subscriber, &mut inbox, &[0x20, 2, 0, 0]).await?;
        answer(&mut subscriber, &mut inbox, &[0x90, 3, 0, 1, 0]).await?;
        tokio::spawn(async move {
            while let Some(packet) = forwarded.recv().await {
                subscriber.write_all(&packet).await?;
            }
            while subscriber.read(&mut [0; 4096]).await? > 0 {}
            anyhow::Ok(())
        });
        let (mut publisher, mut inbox) = (accept(&listener).await?, Inbox::new());
        answer(&mut publisher, &mut inbox, &[0x20, 2, 0, 0]).await?;
        for number in 0.. {
            let packet = next(&mut publisher, &mut inbox).await?;
            match packet[0] & 0xF0 {
                codec::PUBLISH => {
                    if packet[0] & 0x06 != 0 {
                        // The topic "t" is three bytes behind a fixed header of two.
                        publisher
                            .write_all(&[0x40, 2, packet[5], packet[6]])
                            .await?;
                    }
                    if number != lost {
                        forward.send(packet)?;
                    }
                }
                _ => publisher.write_all(&[codec::PINGRESP, 0]).await?,
            }
        }
        Ok(())
    }

    async fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
        let stream = listener.accept().await?.0;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn answer(stream: &mut TcpStream, inbox: &mut Inbox, reply: &[u8]) -> anyhow::Result<()> {
        next(stream, inbox).await?;
        Ok(stream.write_all(reply).await?)
    }

    async fn next(stream: &mut TcpStream, inbox: &mut Inbox) -> anyhow::Result<Vec<u8>> {
        loop {
            if let Some(packet) = Packet::read(inbox.unread())? {
                let bytes = inbox.unread()[..packet.length].to_vec();
                inbox.consume(bytes.len());
                return Ok(bytes);
            }
            let count = stream.read(inbox.room()).await?;
            anyhow::ensure!(count > 0, "closed");
            inbox.filled(count);
        }
    }

    async fn report(line: &str, lost: usize) -> serde_json::Value {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(fake_broker(listener, lost));
        let options = parse(&format!("{line} -t t --json -a {address}"));
        serde_json::from_str(&run(options).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn every_message_is_counted_once_on_both_sides() {
        let report = report("both -C 2000 -s 60 -q 1 -w 10", usize::MAX).await;
        let expected = serde_json::json!({
            "published": 2000, "refused": 0, "consumed": 2000, "lost": 0, "gaps": 0, "disordered": 0
        });
        assert_eq!(report["checks"], expected);
        assert_eq!(report["published"]["messages"], 2000);
        assert!(report["consumed"]["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    }

    #[tokio::test]
    async fn a_lost_message_is_seen() {
        let report = report("both -C 100 -s 60 --drain 0.1", 50).await;
        assert_eq!(
            (&report["checks"]["lost"], &report["checks"]["gaps"]),
            (&1.into(), &1.into())
        );
    }

    #[tokio::test]
    async fn a_fixed_rate_is_kept() {
        let report = report("both -s 60 -r 2000 -z 0.5", usize::MAX).await;
        let published = report["checks"]["published"].as_u64().unwrap();
        assert!(
            (900..=1000).contains(&published),
            "{published} messages in half a second"
        );
    }

    #[test]
    fn connections_pair_up_or_fan_out() {
        assert_eq!(parse("both -x 10 -y 10 --topics 10").fan_out(), 1);
        assert_eq!(parse("both -y 10").fan_out(), 10);
        assert_eq!(parse("both --topics 3 -t a").topic_name(4), "a/1");
        assert!(Line::try_parse_from(["mqtt", "both", "-q", "2"]).is_err());
    }
}
