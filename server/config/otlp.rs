//! `otlp.*`: where spans of messages are sent.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use super::values::{HostPort, parsed, parsed_some};

/// `otlp.*`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// An OpenTelemetry collector that takes OTLP over HTTP; nothing is traced without.
    #[serde(deserialize_with = "parsed_some")]
    pub endpoint: Option<OtlpEndpoint>,
    /// Which part of the messages that bring no trace context get a trace of their own, from 0 to 1.
    #[serde(deserialize_with = "parsed")]
    pub sample_ratio: Ratio,
    /// What the broker is called in traces.
    #[serde(deserialize_with = "parsed")]
    pub service_name: ServiceName,
}

/// The URL of a collector: `http://host:port`, with a path if it is not the standard one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    /// Whom to connect to.
    pub host: HostPort,
    /// The path that traces are posted to.
    pub path: String,
}

/// Where traces are posted to unless something else is said (OTLP, "OTLP/HTTP request").
const STANDARD_PATH: &str = "/v1/traces";

impl FromStr for OtlpEndpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<OtlpEndpoint, Self::Err> {
        const EXPECTED: &str = "expected http://host:port, with or without a path";
        let rest = text.strip_prefix("http://").ok_or(EXPECTED)?;
        let (host, path) = match rest.find('/') {
            Some(at) if at + 1 < rest.len() => (&rest[..at], &rest[at..]),
            Some(at) => (&rest[..at], STANDARD_PATH),
            None => (rest, STANDARD_PATH),
        };
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'?');
        if !path.bytes().all(is_plain) || !host.bytes().all(is_plain) {
            return Err(EXPECTED);
        }
        Ok(OtlpEndpoint {
            host: host.parse().map_err(|_| EXPECTED)?,
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = &self.host;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// A part of a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ratio(pub f64);

impl FromStr for Ratio {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Ratio, Self::Err> {
        match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Ratio(ratio)),
            _ => Err("expected a number from 0 to 1"),
        }
    }
}

/// A name that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(pub String);

impl Default for ServiceName {
    fn default() -> ServiceName {
        ServiceName("trivium".to_owned())
    }
}

impl FromStr for ServiceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ServiceName, Self::Err> {
        match text.is_empty() {
            true => Err("expected a name"),
            false => Ok(ServiceName(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_of_plain_http() {
        let read = |text: &str| {
            text.parse::<OtlpEndpoint>()
                .map(|it| (it.to_string(), it.path))
        };
        let standard = |host: &str| Ok((host.to_owned(), "/v1/traces".to_owned()));
        assert_eq!(read("http://127.0.0.1:4318"), standard("127.0.0.1:4318"));
        assert_eq!(read("http://collector:4318/"), standard("collector:4318"));
        assert_eq!(read("http://[::1]:4318"), standard("[::1]:4318"));
        let own = Ok(("c:1".to_owned(), "/x/v1/traces".to_owned()));
        assert_eq!(read("http://c:1/x/v1/traces"), own);
        for wrong in [
            "",
            "c:4318",
            "https://c:4318",
            "http://c",
            "http://:1",
            "http://c:1/a b",
            "http://c:1/\r\n",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!("1.01".parse::<Ratio>().is_err() && "NaN".parse::<Ratio>().is_err());
        assert_eq!("0.25".parse(), Ok(Ratio(0.25)));
    }
}
