//! rumqttc, which speaks 3.1.1, and its client of version 5. Topics begin with `PREFIX`.

use std::{env, time::Duration};

use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, Publish, QoS, v5};
use tokio::time::timeout;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(60);

fn var(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

struct Client {
    client: AsyncClient,
    events: rumqttc::EventLoop,
}

impl Client {
    fn new(id: &str, change: impl FnOnce(&mut MqttOptions)) -> Client {
        let port = var("MQTT_PORT").parse().unwrap_or(1883);
        let mut options = MqttOptions::new(format!("{}-{id}", var("PREFIX")), "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        change(&mut options);
        let (client, events) = AsyncClient::new(options, 100);
        Client { client, events }
    }

    async fn until<T>(&mut self, pick: impl Fn(Packet) -> Option<T>) -> Result<T> {
        loop {
            if let Event::Incoming(packet) = timeout(PATIENCE, self.events.poll()).await??
                && let Some(picked) = pick(packet)
            {
                return Ok(picked);
            }
        }
    }

    async fn subscribe(&mut self, filter: String, qos: QoS) -> Result<()> {
        self.client.subscribe(filter, qos).await?;
        self.until(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await
    }

    async fn next(&mut self) -> Result<Publish> {
        self.until(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        })
        .await
    }
}

async fn every_qos() -> Result<()> {
    let topic = format!("{}/q", var("PREFIX"));
    let mut client = Client::new("qos", |_| ());
    client.subscribe(topic.clone(), QoS::ExactlyOnce).await?;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.client.publish(&topic, qos, false, "x").await?;
        let got = client.next().await?;
        assert_eq!((got.qos, &got.payload[..]), (qos, &b"x"[..]));
    }
    Ok(())
}

async fn will() -> Result<()> {
    let topic = format!("{}/gone", var("PREFIX"));
    let mut watcher = Client::new("watcher", |_| ());
    watcher.subscribe(topic.clone(), QoS::AtLeastOnce).await?;
    let mut client = Client::new("will", |options| {
        options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false));
    });
    client.until(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await?;
    drop(client);
    assert_eq!(watcher.next().await?.payload, "gone");
    Ok(())
}

async fn session() -> Result<()> {
    let topic = format!("{}/s", var("PREFIX"));
    let durable = |options: &mut MqttOptions| {
        options.set_clean_session(false);
    };
    let mut first = Client::new("session", durable);
    first.subscribe(topic.clone(), QoS::AtLeastOnce).await?;
    drop(first);
    let mut other = Client::new("other", |_| ());
    other.client.publish(&topic, QoS::AtLeastOnce, false, "while away").await?;
    other.until(|packet| matches!(packet, Packet::PubAck(_)).then_some(())).await?;
    assert_eq!(Client::new("session", durable).next().await?.payload, "while away");
    Ok(())
}

async fn version_5() -> Result<()> {
    use v5::{Event, Incoming, mqttbytes::QoS};
    let topic = format!("{}/five", var("PREFIX"));
    let port = var("MQTT_PORT").parse().unwrap_or(1883);
    let options = v5::MqttOptions::new(format!("{}-five", var("PREFIX")), "127.0.0.1", port);
    let (client, mut events) = v5::AsyncClient::new(options, 100);
    client.subscribe(&topic, QoS::AtLeastOnce).await?;
    loop {
        match timeout(PATIENCE, events.poll()).await?? {
            Event::Incoming(Incoming::SubAck(_)) => {
                let properties = v5::mqttbytes::v5::PublishProperties {
                    user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
                    content_type: Some("text/plain".into()),
                    ..Default::default()
                };
                client
                    .publish_with_properties(&topic, QoS::AtLeastOnce, false, "x", properties)
                    .await?;
            }
            Event::Incoming(Incoming::Publish(got)) => {
                let properties = got.properties.unwrap_or_default();
                assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
                assert_eq!(properties.user_properties.len(), 2);
                return Ok(());
            }
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() {
    for story in env::args().skip(1) {
        let told = match story.as_str() {
            "every_qos" => tokio::spawn(async { every_qos().await.map_err(|error| error.to_string()) }),
            "will" => tokio::spawn(async { will().await.map_err(|error| error.to_string()) }),
            "session" => tokio::spawn(async { session().await.map_err(|error| error.to_string()) }),
            _ => tokio::spawn(async { version_5().await.map_err(|error| error.to_string()) }),
        };
        match told.await {
            Ok(Ok(())) => println!("ok {story}"),
            Ok(Err(why)) => println!("failed {story}: {why}"),
            Err(why) => println!("failed {story}: {why}"),
        }
    }
}
