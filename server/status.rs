//! The broker's own topics, `$SYS/…`: what Mosquitto tells on them, from the counters that `/metrics` shows too.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};
use trivium_core::{Broker, Grammar, Message, Native, Origin, Persistence, Text, Topic};
use trivium_mqtt::Mqtt3;
use trivium_protocol::Frontend;

use crate::{clock, listen::Counters, shutdown::Stop};

/// The vhost of MQTT clients.
const VHOST: &str = "/";
/// Over how many minutes loads are averaged.
const MINUTES: [u32; 3] = [1, 5, 15];

/// What is counted, and who counts it.
pub struct Sources {
    pub broker: Broker,
    /// The MQTT front ends, each once.
    pub frontends: Vec<Arc<dyn Frontend>>,
    /// The traffic of their listeners.
    pub traffic: Vec<Counters>,
}

/// Values by the names of their series in `/metrics`.
type Values = HashMap<&'static str, u64>;

impl Sources {
    async fn read(&self) -> Values {
        let mut values = Values::new();
        let counted = self.frontends.iter().flat_map(|it| it.samples());
        for sample in self.broker.samples().await.into_iter().chain(counted) {
            *values.entry(sample.name).or_default() += sample.value;
        }
        for sample in self.traffic.iter().flat_map(|it| it.samples("mqtt")) {
            *values.entry(sample.name).or_default() += sample.value as u64;
        }
        values
    }
}

/// Publishes what has changed at every interval, until the server stops.
pub async fn run(sources: Sources, period: Duration, mut stop: Stop) {
    let origin = Arc::new(Origin {
        protocol: "mqtt".into(),
        vhost: VHOST.into(),
        ..Origin::default()
    });
    let mut status = Status::new(clock::now().instant);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.wait() => return,
        }
        let values = sources.read().await;
        let changed = status.update(&values, clock::now().instant);
        let messages = changed
            .into_iter()
            .map(|(topic, value)| message(topic, value, &origin));
        let messages = messages.collect();
        if sources
            .broker
            .announce(&VHOST.into(), messages)
            .await
            .is_err()
        {
            return;
        }
    }
}

/// At QoS 0: what a client missed is no longer true.
fn message(topic: String, value: String, origin: &Arc<Origin>) -> Arc<Message> {
    let topic = Topic::new(Text::from(topic), Grammar::Slashes);
    Arc::new(Message {
        persistence: Persistence::Transient,
        retain: true,
        native: Native {
            dialect: &Mqtt3,
            block: Bytes::new(),
        },
        ..Message::plain(
            "amq.topic".into(),
            topic,
            Bytes::from(value),
            origin.clone(),
        )
    })
}

/// What was published last, and what averages are made of.
struct Status {
    started: Instant,
    updated: Instant,
    published: HashMap<String, String>,
    loads: HashMap<&'static str, Load>,
}

/// Events per minute, averaged over the last minutes with more weight on the later ones.
#[derive(Default)]
struct Load {
    count: u64,
    averages: [f64; MINUTES.len()],
}

impl Load {
    /// Takes a counter's value `elapsed` seconds after its last one.
    fn update(&mut self, count: u64, elapsed: f64) {
        let rate = count.saturating_sub(self.count) as f64 * 60.0 / elapsed;
        self.count = count;
        for (average, minutes) in self.averages.iter_mut().zip(MINUTES) {
            let weight = (-elapsed / (60.0 * f64::from(minutes))).exp();
            *average = rate + weight * (*average - rate);
        }
    }
}

impl Status {
    fn new(started: Instant) -> Status {
        Status {
            started,
            updated: started,
            published: HashMap::new(),
            loads: HashMap::new(),
        }
    }

    /// Topics with values that are not as they were published last.
    fn update(&mut self, values: &Values, now: Instant) -> Vec<(String, String)> {
        let mut all = vec![
            (
                "version".to_owned(),
                concat!("trivium version ", env!("CARGO_PKG_VERSION")).to_owned(),
            ),
            ("uptime".to_owned(), {
                let uptime = now.saturating_duration_since(self.started);
                format!("{} seconds", uptime.as_secs())
            }),
        ];
        let numbers = numbers(values);
        all.extend(numbers.map(|(topic, value)| (topic.to_owned(), value.to_string())));
        all.extend(self.averages(values, now));
        let mut changed = Vec::new();
        for (topic, value) in all {
            let topic = format!("$SYS/broker/{topic}");
            if self.published.get(&topic) != Some(&value) {
                self.published.insert(topic.clone(), value.clone());
                changed.push((topic, value));
            }
        }
        changed
    }

    fn averages(&mut self, values: &Values, now: Instant) -> Vec<(String, String)> {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.updated = now;
        let mut averages = Vec::new();
        for (topic, series) in LOADS {
            let load = self.loads.entry(topic).or_default();
            if elapsed > 0.0 {
                load.update(value(values, series), elapsed);
            }
            for (average, minutes) in load.averages.iter().zip(MINUTES) {
                averages.push((
                    format!("load/{topic}/{minutes}min"),
                    format!("{average:.2}"),
                ));
            }
        }
        averages
    }
}

/// Counters of which averages are told.
const LOADS: [(&str, &str); 9] = [
    ("messages/received", "trivium_mqtt_packets_received_total"),
    ("messages/sent", "trivium_mqtt_packets_sent_total"),
    ("publish/dropped", "trivium_messages_dropped_total"),
    ("publish/received", "trivium_mqtt_publishes_received_total"),
    ("publish/sent", "trivium_mqtt_publishes_sent_total"),
    ("bytes/received", "trivium_received_bytes_total"),
    ("bytes/sent", "trivium_sent_bytes_total"),
    ("sockets", "trivium_connections_opened_total"),
    ("connections", "trivium_mqtt_connects_total"),
];

fn value(values: &Values, series: &str) -> u64 {
    values.get(series).copied().unwrap_or_default()
}

/// What is told as it is counted.
fn numbers(values: &Values) -> impl Iterator<Item = (&'static str, u64)> {
    let value = |series| value(values, series);
    let (connected, away) = (
        value("trivium_mqtt_clients"),
        value("trivium_sessions_away"),
    );
    let retained = value("trivium_retained_messages");
    let stored = retained + value("trivium_session_messages");
    [
        ("clients/total", connected + away),
        ("clients/inactive", away),
        ("clients/disconnected", away),
        ("clients/active", connected),
        ("clients/connected", connected),
        ("clients/maximum", value("trivium_mqtt_clients_max")),
        ("clients/expired", value("trivium_sessions_expired_total")),
        ("messages/stored", stored),
        (
            "messages/received",
            value("trivium_mqtt_packets_received_total"),
        ),
        ("messages/sent", value("trivium_mqtt_packets_sent_total")),
        ("store/messages/count", stored),
        (
            "store/messages/bytes",
            value("trivium_retained_bytes") + value("trivium_session_bytes"),
        ),
        ("subscriptions/count", value("trivium_subscriptions")),
        (
            "shared_subscriptions/count",
            value("trivium_shared_subscriptions"),
        ),
        ("retained messages/count", retained),
        (
            "publish/messages/dropped",
            value("trivium_messages_dropped_total"),
        ),
        (
            "publish/messages/received",
            value("trivium_mqtt_publishes_received_total"),
        ),
        (
            "publish/messages/sent",
            value("trivium_mqtt_publishes_sent_total"),
        ),
        (
            "publish/bytes/received",
            value("trivium_mqtt_payload_received_bytes_total"),
        ),
        (
            "publish/bytes/sent",
            value("trivium_mqtt_payload_sent_bytes_total"),
        ),
        ("bytes/received", value("trivium_received_bytes_total")),
        ("bytes/sent", value("trivium_sent_bytes_total")),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(changed: &[(String, String)], topic: &str) -> Option<String> {
        let topic = format!("$SYS/broker/{topic}");
        let found = changed.iter().find(|(name, _)| *name == topic);
        found.map(|(_, value)| value.clone())
    }

    #[test]
    fn only_what_has_changed_is_told_again() {
        let start = clock::now().instant;
        let mut status = Status::new(start);
        let mut values = Values::from([("trivium_mqtt_clients", 3), ("trivium_sessions_away", 2)]);
        let first = status.update(&values, start);
        assert_eq!(told(&first, "clients/total").as_deref(), Some("5"));
        assert_eq!(told(&first, "uptime").as_deref(), Some("0 seconds"));
        assert_eq!(status.update(&values, start), []);
        values.insert("trivium_mqtt_clients", 4);
        let then = status.update(&values, start + Duration::from_secs(10));
        assert_eq!(told(&then, "clients/total").as_deref(), Some("6"));
        assert_eq!(told(&then, "uptime").as_deref(), Some("10 seconds"));
        assert_eq!(told(&then, "clients/disconnected"), None);
    }

    #[test]
    fn a_steady_load_is_its_rate_per_minute() {
        let mut load = Load::default();
        for step in 1..=1000 {
            load.update(step * 50, 10.0);
        }
        assert!(
            load.averages
                .iter()
                .all(|average| (average - 300.0).abs() < 1.0)
        );
        load.update(50_000, 60.0);
        let [one, five, fifteen] = load.averages;
        assert!(
            one < 111.0 && one < five && five < fifteen,
            "{one} {five} {fifteen}"
        );
    }
}
