//! `mqtt.*`: what the MQTT front end can be told.

use std::{net::SocketAddr, num::NonZeroU16, str::FromStr};

use serde::Deserialize;
use trivium_mqtt::{OnBreach, Options, Strict, Translation};

use crate::websocket::Origins;

use super::{
    loopback,
    values::{Size, parsed},
};

/// The largest packet that the protocol can say: five bytes of header and 268,435,455 of the rest.
const PACKET_MAX: usize = 268_435_460;

/// `mqtt.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// Whether the protocol is spoken at all.
    #[serde(deserialize_with = "parsed")]
    pub enabled: bool,
    /// Address and port to listen on.
    #[serde(deserialize_with = "parsed")]
    pub listen: SocketAddr,
    /// The largest packet that a client may send.
    #[serde(deserialize_with = "parsed")]
    pub maximum_packet_size: Size,
    /// QoS 1 and 2 messages under way to one client at once, at most.
    #[serde(deserialize_with = "parsed")]
    pub inflight_max: NonZeroU16,
    /// QoS 1 and 2 messages under way from one client at once, at most.
    #[serde(deserialize_with = "parsed")]
    pub receive_maximum: NonZeroU16,
    /// Messages that wait for a client that is away, at most; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub session_messages_max: u64,
    /// Bytes that wait for a client that is away, at most; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub session_bytes_max: Size,
    /// Retained messages of one vhost, at most; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub retained_messages_max: u64,
    /// Bytes of retained messages of one vhost, at most; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub retained_bytes_max: Size,
    /// Subscriptions of one session, at most; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub subscriptions_max: usize,
    /// Topic aliases that a client may use.
    #[serde(deserialize_with = "parsed")]
    pub topic_alias_maximum: u16,
    /// The longest keep alive in seconds that a version 5 client may have; 0 is no limit.
    #[serde(deserialize_with = "parsed")]
    pub keep_alive_max: u16,
    /// Whether payloads that say that they are UTF-8 are checked.
    #[serde(deserialize_with = "parsed")]
    pub validate_payload_format: bool,
    /// First level of the response topics that clients are given; empty gives none.
    #[serde(deserialize_with = "parsed")]
    pub response_information: String,
    /// Where clients are sent when the broker stops.
    #[serde(deserialize_with = "parsed")]
    pub server_reference: String,
    /// Whether every client is sent there.
    #[serde(deserialize_with = "parsed")]
    pub server_moved: bool,
    /// Seconds between two publishes on the broker's own topics, `$SYS/…`; 0 is never.
    #[serde(deserialize_with = "parsed")]
    pub sys_interval: u32,
    /// How topics are spelled in the other protocols.
    #[serde(deserialize_with = "parsed")]
    pub topic_mapping: TopicMapping,
    /// Whether an AMQP publisher's delivery mode lowers the QoS.
    #[serde(deserialize_with = "parsed")]
    pub qos_from_delivery_mode: QosFromDeliveryMode,
    /// Whether connections begin with a PROXY header.
    #[serde(deserialize_with = "parsed")]
    pub proxy_protocol: bool,
    /// Rules that devices break.
    pub strict: Rules,
    /// MQTT over WebSocket.
    pub websocket: WebSocket,
}

impl Default for Mqtt {
    fn default() -> Mqtt {
        let options = Options::default();
        let non_zero = |value| NonZeroU16::new(value).expect("not zero");
        Mqtt {
            enabled: true,
            listen: loopback(1883),
            maximum_packet_size: Size(options.maximum_packet_size as usize),
            inflight_max: non_zero(options.inflight_max),
            receive_maximum: non_zero(options.receive_maximum),
            session_messages_max: options.session_messages_max,
            session_bytes_max: Size(options.session_bytes_max as usize),
            retained_messages_max: 5_000_000,
            retained_bytes_max: Size(1 << 30),
            subscriptions_max: 10_000,
            topic_alias_maximum: options.topic_alias_maximum,
            keep_alive_max: options.keep_alive_max,
            validate_payload_format: options.validate_payload_format,
            response_information: options.response_information.to_string(),
            server_reference: options.server_reference.to_string(),
            server_moved: options.server_moved,
            sys_interval: 10,
            topic_mapping: TopicMapping::Reversible,
            qos_from_delivery_mode: QosFromDeliveryMode::Off,
            proxy_protocol: false,
            strict: Rules::default(),
            websocket: WebSocket::default(),
        }
    }
}

impl Mqtt {
    /// For a front end of this process; `instance` is a random number.
    pub fn options(&self, instance: u64) -> Options {
        let Rules {
            receive_maximum,
            resend,
            bridge,
            client_id,
        } = self.strict;
        Options {
            // A CONNECT may have 128 KiB before the limit is known to anybody.
            maximum_packet_size: self.maximum_packet_size.0.clamp(1, PACKET_MAX) as u32,
            inflight_max: self.inflight_max.get(),
            receive_maximum: self.receive_maximum.get(),
            session_messages_max: self.session_messages_max,
            session_bytes_max: self.session_bytes_max.0 as u64,
            topic_alias_maximum: self.topic_alias_maximum,
            keep_alive_max: self.keep_alive_max,
            validate_payload_format: self.validate_payload_format,
            response_information: self.response_information.as_str().into(),
            server_reference: self.server_reference.as_str().into(),
            server_moved: self.server_moved,
            strict: Strict {
                receive_maximum: receive_maximum.0,
                resend: resend.0,
                bridge: bridge.0,
                client_id: client_id.0,
            },
            translation: Translation {
                plain_topics: self.topic_mapping == TopicMapping::RabbitMq,
                qos_by_delivery_mode: self.qos_from_delivery_mode == QosFromDeliveryMode::RabbitMq,
            },
            secret: rand::random(),
            instance,
            ..Options::default()
        }
    }
}

/// `reversible` or `rabbitmq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicMapping {
    /// What is special elsewhere is escaped.
    Reversible,
    /// `/` is `.`, nothing is escaped.
    RabbitMq,
}

impl FromStr for TopicMapping {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<TopicMapping, Self::Err> {
        match text {
            "reversible" => Ok(TopicMapping::Reversible),
            "rabbitmq" => Ok(TopicMapping::RabbitMq),
            _ => Err("expected reversible or rabbitmq"),
        }
    }
}

/// `off` or `rabbitmq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosFromDeliveryMode {
    /// The QoS is the subscription's.
    Off,
    /// Delivery mode 1 is QoS 0.
    RabbitMq,
}

impl FromStr for QosFromDeliveryMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<QosFromDeliveryMode, Self::Err> {
        match text {
            "off" => Ok(QosFromDeliveryMode::Off),
            "rabbitmq" => Ok(QosFromDeliveryMode::RabbitMq),
            _ => Err("expected off or rabbitmq"),
        }
    }
}

/// `mqtt.websocket.*`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// Whether MQTT is spoken over WebSocket.
    #[serde(deserialize_with = "parsed")]
    pub enabled: bool,
    /// Address and port to listen on.
    #[serde(deserialize_with = "parsed")]
    pub listen: SocketAddr,
    /// The path of the request.
    #[serde(deserialize_with = "parsed")]
    pub path: UrlPath,
    /// Which pages of browsers may connect.
    #[serde(deserialize_with = "parsed")]
    pub origins: Origins,
    /// Whether connections begin with a PROXY header.
    #[serde(deserialize_with = "parsed")]
    pub proxy_protocol: bool,
}

impl Default for WebSocket {
    fn default() -> WebSocket {
        WebSocket {
            enabled: true,
            listen: loopback(8083),
            path: UrlPath("/mqtt".to_owned()),
            origins: Origins::default(),
            proxy_protocol: false,
        }
    }
}

/// A path, which begins with `/`.
#[derive(Clone, Debug)]
pub struct UrlPath(pub String);

impl FromStr for UrlPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<UrlPath, Self::Err> {
        match text.starts_with('/') && !text.contains(['?', '#', ' ']) {
            true => Ok(UrlPath(text.to_owned())),
            false => Err("expected a path such as /mqtt"),
        }
    }
}

impl FromStr for Origins {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Origins, Self::Err> {
        match text {
            "local" => Ok(Origins::Local),
            "any" => Ok(Origins::Any),
            list => {
                let origins: Vec<_> = list
                    .split(',')
                    .map(|origin| origin.trim().to_owned())
                    .collect();
                match origins.iter().all(|origin| origin.contains("://")) {
                    true => Ok(Origins::Listed(origins)),
                    false => Err(
                        "expected local, any, or a list such as https://app.example,http://10.0.0.5:3000",
                    ),
                }
            }
        }
    }
}

/// `mqtt.strict.*`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// More PUBLISH packets at once than the receive maximum.
    #[serde(deserialize_with = "parsed")]
    pub receive_maximum: Breach,
    /// DUP where 3.1 had it, and PUBLISH packets sent again on a live connection.
    #[serde(deserialize_with = "parsed")]
    pub resend: Breach,
    /// The high bit of the protocol level.
    #[serde(deserialize_with = "parsed")]
    pub bridge: Breach,
    /// Client identifiers of more than 23 characters in 3.1.
    #[serde(deserialize_with = "parsed")]
    pub client_id: Breach,
}

/// What is done about a client that breaks a rule: `log` or `disconnect`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breach(pub OnBreach);

impl FromStr for Breach {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Breach, Self::Err> {
        match text {
            "log" => Ok(Breach(OnBreach::Log)),
            "disconnect" => Ok(Breach(OnBreach::Disconnect)),
            _ => Err("expected log or disconnect"),
        }
    }
}
