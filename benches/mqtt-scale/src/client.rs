//! A connection that writes and counts packets of MQTT 3.1.1, with as little of its own as can be.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

pub const PUBLISH: u8 = 0x30;
pub const SUBACK: u8 = 0x90;
pub const PUBACK: u8 = 0x40;

/// Connections per source address, below the number of ports that it has.
const PER_ADDRESS: usize = 4000;
/// Connections that are being opened at once.
const AT_ONCE: usize = 64;

/// Opens `count` connections.
pub async fn connect_all(port: u16, count: usize, prefix: &str) -> anyhow::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for index in 0..count {
        if opening.len() == AT_ONCE
            && let Some(opened) = opening.join_next().await
        {
            streams.push(opened??);
        }
        let client = format!("{prefix}{index}");
        opening.spawn(async move { connect(port, index, &client).await });
    }
    while let Some(opened) = opening.join_next().await {
        streams.push(opened??);
    }
    Ok(streams)
}

/// A connection with a clean session and no keep alive.
pub async fn connect(port: u16, index: usize, client: &str) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let source = Ipv4Addr::new(127, 0, 0, 2 + (index / PER_ADDRESS) as u8);
    socket.bind(SocketAddr::from((source, 0)))?;
    let mut stream = socket
        .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .await
        .with_context(|| format!("connection {index}"))?;
    stream.set_nodelay(true)?;
    let mut body = b"\0\x04MQTT\x04\x02\0\0".to_vec();
    put_text(client, &mut body);
    stream.write_all(&packet(0x10, &body)).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    anyhow::ensure!(answer == [0x20, 2, 0, 0], "refused: {answer:x?}");
    Ok(stream)
}

pub fn publish(topic: &str, qos: u8, retain: bool, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(topic, &mut body);
    if qos > 0 {
        body.extend([0, 1]);
    }
    body.extend(payload);
    packet(PUBLISH | qos << 1 | u8::from(retain), &body)
}

pub fn subscribe<'a>(filters: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    subscribe_at(0, filters)
}

pub fn subscribe_at<'a>(qos: u8, filters: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut body = vec![0, 1];
    for filter in filters {
        put_text(filter, &mut body);
        body.push(qos);
    }
    packet(0x82, &body)
}

fn put_text(text: &str, body: &mut Vec<u8>) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend(body);
    bytes
}

/// What a subscriber has taken.
pub struct Taken {
    pub count: usize,
    /// When the last one came.
    pub last: Instant,
    /// The longest time before one of them.
    pub silence: Duration,
}

/// Counts packets of one type, however they are cut.
#[derive(Debug, Default)]
pub struct Counter {
    carry: Vec<u8>,
}

impl Counter {
    /// Reads until `wanted` packets of a type have come.
    pub async fn read(
        &mut self,
        stream: &mut TcpStream,
        kind: u8,
        wanted: usize,
    ) -> anyhow::Result<()> {
        let mut seen = self.count(kind);
        let mut buffer = vec![0; 16 << 10];
        while seen < wanted {
            let length = stream.read(&mut buffer).await?;
            anyhow::ensure!(length > 0, "closed after {seen} of {wanted} packets");
            self.carry.extend(&buffer[..length]);
            seen += self.count(kind);
        }
        Ok(())
    }

    /// Reads PUBLISH packets until `wanted` have come, or none for as long as `patience`; those of QoS 1 are
    /// acknowledged.
    pub async fn take(
        &mut self,
        stream: &mut TcpStream,
        wanted: usize,
        patience: Duration,
    ) -> anyhow::Result<Taken> {
        let (mut seen, mut last, mut silence) = (0, Instant::now(), Duration::ZERO);
        let (mut buffer, mut acks) = (vec![0; 64 << 10], Vec::new());
        while seen < wanted {
            let Ok(read) = timeout(patience, stream.read(&mut buffer)).await else {
                break;
            };
            let length = read?;
            anyhow::ensure!(length > 0, "closed after {seen} of {wanted} messages");
            self.carry.extend(&buffer[..length]);
            put_acks(&self.carry, &mut acks);
            let more = self.count(PUBLISH);
            if more > 0 {
                silence = silence.max(last.elapsed());
                (seen, last) = (seen + more, Instant::now());
            }
            stream.write_all(&acks).await?;
            acks.clear();
        }
        Ok(Taken {
            count: seen,
            last,
            silence,
        })
    }

    /// Takes the whole packets off what is there.
    fn count(&mut self, kind: u8) -> usize {
        let (mut at, mut seen) = (0, 0);
        while let Some(length) = length(&self.carry[at..]) {
            seen += usize::from(self.carry[at] & 0xf0 == kind);
            at += length;
        }
        self.carry.drain(..at);
        seen
    }
}

/// Acknowledges the PUBLISH packets of QoS 1 among the whole packets of `input`.
fn put_acks(input: &[u8], acks: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(length) = length(&input[at..]) {
        let packet = &input[at..at + length];
        if packet[0] & 0xf6 == PUBLISH | 1 << 1 {
            let header = 1
                + packet[1..]
                    .iter()
                    .position(|byte| byte & 0x80 == 0)
                    .unwrap_or(0)
                + 1;
            let topic = usize::from(packet[header]) << 8 | usize::from(packet[header + 1]);
            let id = header + 2 + topic;
            acks.extend([PUBACK, 2, packet[id], packet[id + 1]]);
        }
        at += length;
    }
}

/// The length of the whole packet at the front.
fn length(input: &[u8]) -> Option<usize> {
    let mut body = 0;
    for (index, byte) in input.get(1..)?.iter().take(4).enumerate() {
        body |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let total = 2 + index + body;
            return (total <= input.len()).then_some(total);
        }
    }
    None
}
