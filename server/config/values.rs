//! The types of values that the standard library has no word for, each parsed from text.

use std::{fmt, str::FromStr, thread::available_parallelism, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use trivium_core::SHARDS_MAX;

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Written and synced: survives a power cut.
    Sync,
    /// Written to the operating system: survives a kill of the process.
    Os,
    /// As `Os`, and synced this often.
    Interval(Duration),
}

impl FromStr for Durability {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Durability, Self::Err> {
        const EXPECTED: &str = "expected sync, os or interval:<milliseconds>";
        match text.split_once(':') {
            None if text == "sync" => Ok(Durability::Sync),
            None if text == "os" => Ok(Durability::Os),
            Some(("interval", ms)) => match ms.parse() {
                Ok(ms @ 1..) => Ok(Durability::Interval(Duration::from_millis(ms))),
                _ => Err("expected interval:<milliseconds>, at least 1"),
            },
            _ => Err(EXPECTED),
        }
    }
}

/// A number of shards, 1 to [`SHARDS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards(usize);

impl Shards {
    /// As many as there are cores.
    pub fn per_core() -> Shards {
        Shards(available_parallelism().map_or(1, |cores| cores.get().min(SHARDS_MAX)))
    }

    /// The number.
    pub const fn count(self) -> usize {
        self.0
    }
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Shards, Self::Err> {
        match text.parse() {
            Ok(count @ 1..=SHARDS_MAX) => Ok(Shards(count)),
            _ => Err(format!("expected a number from 1 to {SHARDS_MAX}")),
        }
    }
}

/// A number of bytes, written as `65536`, `64KiB`, `256MiB` or `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

impl Size {
    /// So many times 1,048,576 bytes.
    pub const fn mebibytes(count: usize) -> Size {
        Size(count << 20)
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Size, Self::Err> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match text[digits.len()..].trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err("expected a size such as 65536, 64KiB, 256MiB or 1GiB"),
        };
        let count: usize = digits
            .parse()
            .map_err(|_| "expected a size such as 65536, 64KiB, 256MiB or 1GiB")?;
        count.checked_mul(unit).map(Size).ok_or("too large")
    }
}

/// How large an AMQP message may be: as RabbitMQ has it, at most 128 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSize(pub usize);

impl MessageSize {
    /// RabbitMQ's default since 4.0.
    pub const DEFAULT: MessageSize = MessageSize(16 << 20);
}

impl FromStr for MessageSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<MessageSize, Self::Err> {
        match text.parse::<Size>()? {
            Size(bytes) if bytes <= 128 << 20 => Ok(MessageSize(bytes)),
            _ => Err("at most 128MiB"),
        }
    }
}

/// A type of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultQueueType {
    Classic,
    Quorum,
    Stream,
}

impl DefaultQueueType {
    const ALL: [DefaultQueueType; 3] = [
        DefaultQueueType::Classic,
        DefaultQueueType::Quorum,
        DefaultQueueType::Stream,
    ];

    /// As in `x-queue-type`.
    pub fn name(self) -> &'static str {
        match self {
            DefaultQueueType::Classic => "classic",
            DefaultQueueType::Quorum => "quorum",
            DefaultQueueType::Stream => "stream",
        }
    }
}

impl FromStr for DefaultQueueType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<DefaultQueueType, Self::Err> {
        let mut all = DefaultQueueType::ALL.into_iter();
        all.find(|kind| kind.name() == text)
            .ok_or("expected classic, quorum or stream")
    }
}

/// How large an AMQP frame may be, all overhead included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameMax(pub u32);

impl FrameMax {
    /// RabbitMQ's default.
    pub const DEFAULT: FrameMax = FrameMax(131_072);
}

impl FromStr for FrameMax {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<FrameMax, Self::Err> {
        match text.parse::<Size>()? {
            // A frame is read whole before it is looked at.
            Size(bytes @ 4096..=16_777_216) => Ok(FrameMax(bytes as u32)),
            _ => Err("from 4KiB to 16MiB"),
        }
    }
}

/// A number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub u32);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Duration {
        Duration::from_millis(millis.0.into())
    }
}

impl FromStr for Millis {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Millis, Self::Err> {
        text.parse()
            .map(Millis)
            .map_err(|_| "expected a number of milliseconds")
    }
}

/// A host name or address and a port, as other machines reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<HostPort, Self::Err> {
        const EXPECTED: &str = "expected host:port";
        let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().map_err(|_| EXPECTED)?;
        if host.is_empty() || port == 0 {
            return Err(EXPECTED);
        }
        Ok(HostPort {
            host: host.to_owned(),
            port,
        })
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<LogFormat, Self::Err> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("expected text or json"),
        }
    }
}

/// Which events are logged: a level, or levels by target as in `info,trivium_amqp=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// In the syntax of `tracing_subscriber::EnvFilter`, checked.
    pub fn directives(&self) -> &str {
        &self.0
    }
}

impl Default for Filter {
    fn default() -> Filter {
        Filter("info".to_owned())
    }
}

impl FromStr for Filter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Filter, Self::Err> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let is_level = |level: &str| LEVELS.contains(&level);
        let known = |directive: &str| is_level(directive.rsplit('=').next().unwrap_or_default());
        if text.split(',').all(known) && tracing_subscriber::EnvFilter::try_new(text).is_ok() {
            return Ok(Filter(text.to_owned()));
        }
        Err(
            "expected off, error, warn, info, debug or trace, or a list such as info,trivium_amqp=debug",
        )
    }
}

/// Reads a value from its text, whatever type the layer gave it: the environment knows only text.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = match Scalar::deserialize(deserializer)? {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Integer(value) => value.to_string(),
        Scalar::Float(value) => value.to_string(),
        Scalar::Text(value) => value,
    };
    text.parse()
        .map_err(|error| D::Error::custom(format!("'{text}': {error}")))
}

/// As [`parsed`], for keys without a default.
pub(super) fn parsed_some<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    parsed(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a single value")]
enum Scalar {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_one_of_three() {
        assert_eq!("sync".parse(), Ok(Durability::Sync));
        assert_eq!("os".parse(), Ok(Durability::Os));
        assert_eq!(
            "interval:200".parse(),
            Ok(Durability::Interval(Duration::from_millis(200)))
        );
        for bad in [
            "",
            "fsync",
            "interval",
            "interval:",
            "interval:0",
            "interval:-1",
            "sync:1",
        ] {
            assert!(bad.parse::<Durability>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shards_are_as_many_as_the_core_can_have() {
        assert_eq!("1".parse(), Ok(Shards(1)));
        assert_eq!("64".parse(), Ok(Shards(64)));
        for bad in ["", "0", "65", "-1", "two", "99999999999999999999"] {
            assert!(bad.parse::<Shards>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!("65536".parse(), Ok(Size(65536)));
        assert_eq!("64KiB".parse(), Ok(Size(65536)));
        assert_eq!("2 GiB".parse(), Ok(Size(2 << 30)));
        for bad in ["", "MiB", "1MB", "-1", "1.5GiB", "99999999999GiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn advertised_addresses_have_a_host_and_a_port() {
        assert_eq!(
            "broker.example:9092".parse(),
            Ok(HostPort {
                host: "broker.example".into(),
                port: 9092
            })
        );
        assert_eq!(
            "[::1]:9092".parse(),
            Ok(HostPort {
                host: "::1".into(),
                port: 9092
            })
        );
        for bad in ["", "broker", ":9092", "broker:0", "broker:x"] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn log_filters_are_levels_by_target() {
        assert!("debug".parse::<Filter>().is_ok());
        assert!("info,trivium_amqp=trace".parse::<Filter>().is_ok());
        assert!("loud".parse::<Filter>().is_err());
    }
}
