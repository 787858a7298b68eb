//! The protocols that the program speaks: one entry each.

use std::sync::Arc;

use trivium_amqp::Amqp;
use trivium_core::Text;
use trivium_kafka::Kafka;
use trivium_mqtt::Mqtt;

use crate::{
    config::Config,
    listen::{Endpoint, Transport},
    websocket::Policy,
};

/// What `config` switches on.
pub fn standard(config: &Config) -> Vec<Endpoint> {
    let endpoints = [
        config.amqp.enabled.then(|| amqp(config)),
        config.kafka.enabled.then(|| kafka(config)),
    ];
    let mut endpoints: Vec<_> = endpoints.into_iter().flatten().collect();
    if config.mqtt.enabled {
        endpoints.extend(mqtt(config));
    }
    endpoints
}

fn amqp(config: &Config) -> Endpoint {
    let options = trivium_amqp::Options {
        max_message_size: config.amqp.max_message_size.0,
        channel_max: config.amqp.channel_max.get(),
        consumer_max: config.amqp.consumer_max_per_channel,
        frame_max: config.amqp.frame_max.0,
        heartbeat: config.amqp.heartbeat,
        anonymous: config.amqp.anonymous,
    };
    Endpoint {
        name: "amqp",
        listen: config.amqp.listen,
        frontend: Box::new(move |_| Arc::new(Amqp::new(options))),
        transport: proxied(config.amqp.proxy_protocol),
        client: |address| format!("pika.URLParameters('amqp://guest:guest@{address}/')"),
    }
}

fn kafka(config: &Config) -> Endpoint {
    let advertised = config.kafka.advertised.clone();
    let options = trivium_kafka::Options {
        advertised_host: advertised.as_ref().map(|to| Text::from(to.host.as_str())),
        advertised_port: advertised.map(|to| to.port),
        default_partitions: config.kafka.partitions.get(),
        data_dir: config.data_dir.display().to_string().into(),
        max_message_bytes: config.kafka.max_message_bytes.get() as usize,
        group_bounds: config.kafka.group.bounds().unwrap_or_default(),
        clock: Some(crate::clock::now),
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
        transport: proxied(config.kafka.proxy_protocol),
        client: |address| format!("KafkaProducer(bootstrap_servers='{address}')"),
    }
}

/// Over TCP and over WebSocket: one front end.
fn mqtt(config: &Config) -> Vec<Endpoint> {
    let frontend = Arc::new(Mqtt::new(config.mqtt.options(rand::random())));
    let settings = &config.mqtt.websocket;
    let over_tcp = Endpoint {
        name: "mqtt",
        listen: config.mqtt.listen,
        frontend: {
            let frontend = frontend.clone();
            Box::new(move |_| frontend)
        },
        transport: proxied(config.mqtt.proxy_protocol),
        client: |address| {
            let (host, port) = (address.ip(), address.port());
            format!("mosquitto_sub -h {host} -p {port} -t 'orders/#' -v")
        },
    };
    let over_websocket = settings.enabled.then(|| Endpoint {
        name: "mqtt.websocket",
        listen: settings.listen,
        frontend: Box::new(move |_| frontend),
        transport: Transport {
            proxy_protocol: settings.proxy_protocol,
            websocket: Some(Policy {
                path: settings.path.0.clone(),
                origins: settings.origins.clone(),
            }),
            ..Transport::default()
        },
        client: |address| format!("mqtt.connect('ws://{address}/mqtt')"),
    });
    [Some(over_tcp), over_websocket]
        .into_iter()
        .flatten()
        .collect()
}

fn proxied(proxy_protocol: bool) -> Transport {
    Transport {
        proxy_protocol,
        ..Transport::default()
    }
}
