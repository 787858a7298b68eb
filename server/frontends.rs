//! The protocols that the program speaks: one entry each.

use std::sync::Arc;

use trivium_amqp::Amqp;
use trivium_core::Text;
use trivium_kafka::Kafka;
use trivium_mqtt::Mqtt;

use crate::{config::Config, listen::Endpoint};

/// What `config` switches on.
pub fn standard(config: &Config) -> Vec<Endpoint> {
    let endpoints = [
        config.amqp.enabled.then(|| amqp(config)),
        config.kafka.enabled.then(|| kafka(config)),
        config.mqtt.enabled.then(|| mqtt(config)),
    ];
    endpoints.into_iter().flatten().collect()
}

fn amqp(config: &Config) -> Endpoint {
    let options = trivium_amqp::Options {
        max_message_size: config.amqp.max_message_size.0,
        channel_max: config.amqp.channel_max.get(),
        frame_max: config.amqp.frame_max.0,
        heartbeat: config.amqp.heartbeat,
        anonymous: config.amqp.anonymous,
    };
    Endpoint {
        name: "amqp",
        listen: config.amqp.listen,
        frontend: Box::new(move |_| Arc::new(Amqp { options })),
        client: |address| format!("pika.URLParameters('amqp://guest:guest@{address}/')"),
    }
}

fn kafka(config: &Config) -> Endpoint {
    let advertised = config.kafka.advertised.clone();
    let options = trivium_kafka::Options {
        advertised_host: advertised.as_ref().map(|to| Text::from(to.host.as_str())),
        advertised_port: advertised.map(|to| to.port),
        default_partitions: config.kafka.partitions.get(),
        ..trivium_kafka::Options::default()
    };
    Endpoint {
        name: "kafka",
        listen: config.kafka.listen,
        frontend: Box::new(move |cluster_id| {
            let cluster_id = cluster_id.into();
            Arc::new(Kafka {
                options: Arc::new(trivium_kafka::Options {
                    cluster_id,
                    ..options
                }),
            })
        }),
        client: |address| format!("KafkaProducer(bootstrap_servers='{address}')"),
    }
}

fn mqtt(config: &Config) -> Endpoint {
    let options = config.mqtt.options(rand::random());
    Endpoint {
        name: "mqtt",
        listen: config.mqtt.listen,
        frontend: Box::new(move |_| Arc::new(Mqtt::new(options))),
        client: |address| {
            let (host, port) = (address.ip(), address.port());
            format!("mosquitto_sub -h {host} -p {port} -t 'orders/#' -v")
        },
    }
}
