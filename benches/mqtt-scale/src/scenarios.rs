//! The work, and the figures that come of it.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    runtime::Builder,
    task::{JoinHandle, JoinSet},
};

use crate::{
    Options,
    broker::Broker,
    client::{self, Counter, PUBACK, PUBLISH, SUBACK},
};

/// How long memory is left to settle before it is read: buffers of idle connections are given back.
const SETTLE: Duration = Duration::from_secs(4);
/// Messages of the fan-out, and of each publisher of the fan-in.
const FAN_OUT_MESSAGES: usize = 100;
const FAN_IN_MESSAGES: usize = 50;
/// A subscriber at QoS 0 that has heard nothing for so long has heard everything.
const QUIET: Duration = Duration::from_secs(5);
/// At QoS 1 nothing may be missing: a broker that says nothing for so long, on however busy a machine, has stalled.
const STALLED: Duration = Duration::from_secs(60);
/// Filters of one SUBSCRIBE.
const FILTERS_AT_ONCE: usize = 100;
/// Connections that hold the wildcard subscriptions, and messages published to them.
const HOLDERS: usize = 1000;
const PROBES: usize = 20_000;
const PAYLOAD: [u8; 64] = [b'x'; 64];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    Idle,
    FanOut,
    FanIn,
    Retained,
    Wildcards,
}

/// One line of the table for one broker.
pub struct Figure {
    pub name: &'static str,
    pub value: String,
}

fn figure(name: &'static str, value: String) -> Figure {
    Figure { name, value }
}

fn rate(count: usize, since: Instant) -> String {
    format!("{:.0}", count as f64 / since.elapsed().as_secs_f64())
}

fn seconds(since: Instant) -> String {
    format!("{:.2}", since.elapsed().as_secs_f64())
}

/// Microseconds of CPU for each of `count`.
fn micros(cpu: f64, count: usize) -> String {
    format!("{:.2}", cpu * 1e6 / count as f64)
}

impl Scenario {
    pub const ALL: [Scenario; 5] = [
        Scenario::Idle,
        Scenario::FanOut,
        Scenario::FanIn,
        Scenario::Retained,
        Scenario::Wildcards,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Scenario::Idle => "idle",
            Scenario::FanOut => "fan-out",
            Scenario::FanIn => "fan-in",
            Scenario::Retained => "retained",
            Scenario::Wildcards => "wildcards",
        }
    }

    pub async fn run(self, broker: &Broker, options: &Options) -> anyhow::Result<Vec<Figure>> {
        match self {
            Scenario::Idle => idle(broker, options.connections).await,
            Scenario::FanOut => fan_out(broker, options.fan).await,
            Scenario::FanIn => fan_in(broker, options.fan).await,
            Scenario::Retained => retained(broker, options.retained).await,
            Scenario::Wildcards => wildcards(broker, options.subscriptions).await,
        }
    }
}

/// Connections that do nothing, and then the same ones with a subscription each.
async fn idle(broker: &Broker, count: usize) -> anyhow::Result<Vec<Figure>> {
    let before = broker.resident()?;
    let (started, cpu) = (Instant::now(), broker.cpu()?);
    let streams = client::connect_all(broker.port, count, "idle").await?;
    let connects = rate(count, started);
    let cpu = broker.cpu()? - cpu;
    tokio::time::sleep(SETTLE).await;
    let connected = broker.resident()?.saturating_sub(before) / count as u64;
    let streams = each(streams, |index, mut stream| async move {
        let request = client::subscribe([format!("devices/{index}/commands").as_str()]);
        stream.write_all(&request).await?;
        Counter::default().read(&mut stream, SUBACK, 1).await?;
        Ok(stream)
    })
    .await?;
    tokio::time::sleep(SETTLE).await;
    let subscribed = broker.resident()?.saturating_sub(before) / count as u64;
    drop(streams);
    Ok(vec![
        figure("connections", count.to_string()),
        figure("connects/s", connects),
        figure("CPU µs per connect", micros(cpu, count)),
        figure("bytes per connection", connected.to_string()),
        figure("bytes with a subscription", subscribed.to_string()),
    ])
}

/// One publisher, and subscribers who all get everything.
async fn fan_out(broker: &Broker, subscribers: usize) -> anyhow::Result<Vec<Figure>> {
    let streams = client::connect_all(broker.port, subscribers, "sub").await?;
    let streams = each(streams, |_, mut stream| async move {
        stream.write_all(&client::subscribe(["news"])).await?;
        Counter::default().read(&mut stream, SUBACK, 1).await?;
        Ok(stream)
    })
    .await?;
    let mut publisher = client::connect(broker.port, 0, "publisher").await?;
    let one = client::publish("news", 0, false, &PAYLOAD);
    let started = Instant::now();
    publisher.write_all(&one).await?;
    let streams = each(streams, |_, mut stream| async move {
        Counter::default().read(&mut stream, PUBLISH, 1).await?;
        Ok(stream)
    })
    .await?;
    let once = format!("{:.1}", started.elapsed().as_secs_f64() * 1e3);
    let (started, cpu) = (Instant::now(), broker.cpu()?);
    let all = tokio::spawn(each(streams, |_, mut stream| async move {
        let wanted = FAN_OUT_MESSAGES;
        Counter::default().read(&mut stream, PUBLISH, wanted).await
    }));
    publisher.write_all(&one.repeat(FAN_OUT_MESSAGES)).await?;
    all.await??;
    let deliveries = subscribers * FAN_OUT_MESSAGES;
    let rate = rate(deliveries, started);
    Ok(vec![
        figure("ms until all have one message", once),
        figure("deliveries/s", rate),
        figure(
            "CPU µs per delivery",
            micros(broker.cpu()? - cpu, deliveries),
        ),
    ])
}

/// Publishers with a few messages each, and one subscriber: at QoS 0, where a broker may drop what the subscriber does
/// not take in time, and at QoS 1.
async fn fan_in(broker: &Broker, publishers: usize) -> anyhow::Result<Vec<Figure>> {
    let streams = client::connect_all(broker.port, publishers, "pub").await?;
    let (streams, at_most_once) = converge(broker, streams, 0).await?;
    let (_streams, at_least_once) = converge(broker, streams, 1).await?;
    let Converged {
        delivered,
        rate,
        cpu,
        ..
    } = at_most_once;
    let lost = publishers * FAN_IN_MESSAGES - delivered;
    Ok(vec![
        figure("QoS 0: delivered", delivered.to_string()),
        figure("QoS 0: dropped", lost.to_string()),
        figure("QoS 0: delivered/s", rate),
        figure("QoS 0: CPU µs per delivered message", cpu),
        figure("QoS 1: delivered", at_least_once.delivered.to_string()),
        figure("QoS 1: delivered/s", at_least_once.rate),
        figure("QoS 1: CPU µs per delivered message", at_least_once.cpu),
        figure("QoS 1: longest silence, ms", at_least_once.silence),
    ])
}

/// What came of many publishers and one subscriber.
struct Converged {
    delivered: usize,
    rate: String,
    cpu: String,
    silence: String,
}

async fn converge(
    broker: &Broker,
    streams: Vec<TcpStream>,
    qos: u8,
) -> anyhow::Result<(Vec<TcpStream>, Converged)> {
    let (level, name) = (format!("in{qos}"), format!("subscriber{qos}"));
    let mut subscriber = client::connect(broker.port, 0, &name).await?;
    let filter = format!("{level}/#");
    let request = client::subscribe_at(qos, [filter.as_str()]);
    subscriber.write_all(&request).await?;
    Counter::default().read(&mut subscriber, SUBACK, 1).await?;
    let messages = streams.len() * FAN_IN_MESSAGES;
    let (started, cpu) = (Instant::now(), broker.cpu()?);
    let patience = if qos == 0 { QUIET } else { STALLED };
    let read = alone(subscriber, async move |subscriber| {
        let taken = Counter::default()
            .take(subscriber, messages, patience)
            .await?;
        // A subscriber that went would let its publishers go on, and the stall look like a loss.
        anyhow::ensure!(
            qos == 0 || taken.count == messages,
            "stalled after {} of {messages} messages",
            taken.count
        );
        Ok(taken)
    })?;
    let published = each(streams, move |index, mut stream| {
        let one = client::publish(&format!("{level}/{index}"), qos, false, &PAYLOAD);
        async move {
            let mut acks = Counter::default();
            for _ in 0..FAN_IN_MESSAGES {
                stream.write_all(&one).await?;
                match qos {
                    0 => tokio::task::yield_now().await,
                    _ => acks.read(&mut stream, PUBACK, 1).await?,
                }
            }
            Ok(stream)
        }
    });
    let (streams, taken) = tokio::try_join!(published, async { read.await? })?;
    let delivered = taken.count;
    let seconds = taken.last.duration_since(started).as_secs_f64();
    let converged = Converged {
        delivered,
        rate: format!("{:.0}", delivered as f64 / seconds),
        cpu: micros(broker.cpu()? - cpu, delivered.max(1)),
        silence: taken.silence.as_millis().to_string(),
    };
    Ok((streams, converged))
}

/// Retained messages, published at QoS 1 and read by one wildcard.
async fn retained(broker: &Broker, count: usize) -> anyhow::Result<Vec<Figure>> {
    const AT_ONCE: usize = 100;
    let before = broker.resident()?;
    let mut publisher = client::connect(broker.port, 0, "publisher").await?;
    let (mut acks, started) = (Counter::default(), Instant::now());
    for from in (0..count).step_by(AT_ONCE) {
        let until = (from + AT_ONCE).min(count);
        let packets = (from..until).flat_map(|index| {
            let topic = format!("site/{}/meter/{index}", index % 100);
            client::publish(&topic, 1, true, &PAYLOAD)
        });
        publisher.write_all(&packets.collect::<Vec<u8>>()).await?;
        acks.read(&mut publisher, PUBACK, until - from).await?;
    }
    let stored = rate(count, started);
    let mut reader = client::connect(broker.port, 0, "reader").await?;
    let (started, cpu) = (Instant::now(), broker.cpu()?);
    reader
        .write_all(&client::subscribe(["site/+/meter/#"]))
        .await?;
    Counter::default().read(&mut reader, PUBLISH, count).await?;
    let read = seconds(started);
    let cpu = broker.cpu()? - cpu;
    let one = "site/7/meter/7";
    let (mut counter, started) = (Counter::default(), Instant::now());
    for _ in 0..100 {
        reader.write_all(&client::subscribe([one])).await?;
        counter.read(&mut reader, PUBLISH, 1).await?;
    }
    let single = format!("{:.0}", started.elapsed().as_secs_f64() * 1e4);
    tokio::time::sleep(SETTLE).await;
    let memory = broker.resident()?.saturating_sub(before) / count as u64;
    Ok(vec![
        figure("stored/s", stored),
        figure("s until a wildcard has all", read),
        figure("CPU µs per message", micros(cpu, count)),
        figure("µs until a filter without wildcards has one", single),
        figure("bytes per message", memory.to_string()),
    ])
}

/// Subscriptions with a wildcard each, and publishes that match one of them.
async fn wildcards(broker: &Broker, count: usize) -> anyhow::Result<Vec<Figure>> {
    let streams = client::connect_all(broker.port, HOLDERS, "holder").await?;
    let before = broker.resident()?;
    let per_holder = count / HOLDERS;
    let started = Instant::now();
    let streams = each(streams, move |index, mut stream| async move {
        let filters: Vec<_> = (0..per_holder)
            .map(|number| format!("home/{index}/+/sensor{number}/#"))
            .collect();
        let mut acks = Counter::default();
        for some in filters.chunks(FILTERS_AT_ONCE) {
            let request = client::subscribe(some.iter().map(String::as_str));
            stream.write_all(&request).await?;
            acks.read(&mut stream, SUBACK, 1).await?;
        }
        Ok(stream)
    })
    .await?;
    let subscribed = rate(count, started);
    tokio::time::sleep(SETTLE).await;
    let memory = broker.resident()?.saturating_sub(before) / count as u64;
    let (started, cpu) = (Instant::now(), broker.cpu()?);
    let per_connection = PROBES / HOLDERS;
    let read = tokio::spawn(each(streams, move |_, mut stream| async move {
        Counter::default()
            .read(&mut stream, PUBLISH, per_connection)
            .await
    }));
    let mut publisher = client::connect(broker.port, 0, "publisher").await?;
    for probe in 0..PROBES {
        let (holder, sensor) = (probe % HOLDERS, probe / HOLDERS);
        let topic = format!("home/{holder}/kitchen/sensor{sensor}/t");
        publisher
            .write_all(&client::publish(&topic, 0, false, &PAYLOAD))
            .await?;
    }
    read.await??;
    let rate = rate(PROBES, started);
    Ok(vec![
        figure("subscriptions/s", subscribed),
        figure("bytes per subscription", memory.to_string()),
        figure("matched publishes/s", rate),
        figure(
            "CPU µs per matched publish",
            micros(broker.cpu()? - cpu, PROBES),
        ),
    ])
}

/// Does something with a connection on a thread of its own, where it does not stand behind thousands of others.
fn alone<T: Send + 'static>(
    stream: TcpStream,
    work: impl AsyncFnOnce(&mut TcpStream) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<JoinHandle<anyhow::Result<T>>> {
    let stream = stream.into_std()?;
    Ok(tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut stream = TcpStream::from_std(stream)?;
            work(&mut stream).await
        })
    }))
}

/// Does something with each connection, all at once.
async fn each<T, F>(
    streams: Vec<TcpStream>,
    work: impl Fn(usize, TcpStream) -> F,
) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        tasks.spawn(work(index, stream));
    }
    let mut results = Vec::new();
    while let Some(done) = tasks.join_next().await {
        results.push(done??);
    }
    Ok(results)
}
