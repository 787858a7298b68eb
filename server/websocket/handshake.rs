//! The opening handshake (RFC 6455 section 4.2): which requests become WebSocket connections for MQTT.

use std::net::{IpAddr, SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use httparse::{EMPTY_HEADER, Header, Request, Status};
use sha1::{Digest, Sha1};

/// A request is not longer than this.
pub const HEAD_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
/// Section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Sub-protocols (MQTT 5 section 6.0; the second is of 3.1 clients), in the order of preference.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Which pages of browsers may connect. Programs that are no browsers name no origin and always may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Those of this machine, and of the very address that the request was sent to.
    #[default]
    Local,
    /// All.
    Any,
    /// Those listed, as `scheme://host[:port]`.
    Listed(Vec<String>),
}

/// What a request must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The path, which begins with `/`.
    pub path: String,
    /// Which pages may connect.
    pub origins: Origins,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has not come to its end.
    Incomplete,
    /// It is a WebSocket from now on: the response, and where in the input the frames begin.
    Upgrade { response: String, consumed: usize },
    /// It is refused with this response.
    Refuse(String),
}

/// Looks at the head of a request that came to `local`.
pub fn answer(input: &[u8], policy: &Policy, local: SocketAddr) -> Answer {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(input) {
        Ok(Status::Complete(consumed)) => match check(&request, policy, local) {
            Ok(response) => Answer::Upgrade { response, consumed },
            Err((status, more)) => refuse(status, more),
        },
        Ok(Status::Partial) if input.len() < HEAD_MAX => Answer::Incomplete,
        Ok(Status::Partial) => refuse("431 Request Header Fields Too Large", ""),
        Err(_) => refuse("400 Bad Request", ""),
    }
}

type Refusal = (&'static str, &'static str);

fn check(request: &Request<'_, '_>, policy: &Policy, local: SocketAddr) -> Result<String, Refusal> {
    const BAD: Refusal = ("400 Bad Request", "");
    let path = request.path.unwrap_or_default();
    if path.split('?').next() != Some(policy.path.as_str()) {
        return Err(("404 Not Found", ""));
    }
    if request.method != Some("GET") {
        return Err(("405 Method Not Allowed", "Allow: GET\r\n"));
    }
    let headers: &[Header<'_>] = request.headers;
    if !has_token(headers, "upgrade", "websocket") || !has_token(headers, "connection", "upgrade") {
        return Err(("426 Upgrade Required", "Upgrade: websocket\r\n"));
    }
    if value(headers, "sec-websocket-version") != Some("13") {
        return Err(("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\n"));
    }
    let key = value(headers, "sec-websocket-key").ok_or(BAD)?;
    if STANDARD.decode(key).map(|key| key.len()) != Ok(16) {
        return Err(BAD);
    }
    if let Some(origin) = value(headers, "origin")
        && !policy.origins.allow(origin, local)
    {
        return Err(("403 Forbidden", ""));
    }
    // MQTT 5, 6.0.0-3 and 6.0.0-4. A client that names none is taken for what it is.
    let named = values(headers, "sec-websocket-protocol").next().is_some();
    let chosen = PROTOCOLS
        .into_iter()
        .find(|protocol| has_token(headers, "sec-websocket-protocol", protocol));
    let chosen = match chosen {
        Some(protocol) => format!("Sec-WebSocket-Protocol: {protocol}\r\n"),
        None if named => return Err(BAD),
        None => String::new(),
    };
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{chosen}\r\n"
    ))
}

fn refuse(status: &str, more: &str) -> Answer {
    Answer::Refuse(format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n{more}\r\n"
    ))
}

fn values<'a>(headers: &'a [Header<'_>], name: &str) -> impl Iterator<Item = &'a str> {
    let named = headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| std::str::from_utf8(header.value).ok().map(str::trim))
}

fn value<'a>(headers: &'a [Header<'_>], name: &str) -> Option<&'a str> {
    values(headers, name).next()
}

/// Whether a header's list, in however many lines, has this member.
fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(','))
        .any(|member| member.trim().eq_ignore_ascii_case(token))
}

impl Origins {
    /// Whether pages of this origin may connect to `local`. The name in `Host` is of the page's choice and
    /// proves nothing.
    fn allow(&self, origin: &str, local: SocketAddr) -> bool {
        match self {
            Origins::Any => true,
            Origins::Listed(listed) => listed
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(origin)),
            Origins::Local => host(origin).is_some_and(|host| {
                let address = host.parse::<IpAddr>();
                host.eq_ignore_ascii_case("localhost")
                    || address.is_ok_and(|address| address.is_loopback() || address == local.ip())
            }),
        }
    }
}

/// The host of an origin, without the brackets of IPv6.
fn host(origin: &str) -> Option<&str> {
    let (_, authority) = origin.split_once("://")?;
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(change: impl Fn(String) -> String, origins: Origins) -> Answer {
        let request = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Protocol: chat, mqtt\r\n\r\n";
        let policy = Policy {
            path: "/mqtt".into(),
            origins,
        };
        let local = "10.0.0.1:8083".parse().unwrap();
        answer(change(request.into()).as_bytes(), &policy, local)
    }

    fn with_origin(origin: &str, origins: Origins) -> bool {
        let add =
            |request: String| request.replace("Host: x", &format!("Host: x\r\nOrigin: {origin}"));
        matches!(ask(add, origins), Answer::Upgrade { .. })
    }

    #[test]
    fn rfc6455_4_2_2_the_example_of_the_specification() {
        let Answer::Upgrade { response, consumed } = ask(|it| it + "frames", Origins::Local) else {
            panic!();
        };
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(response.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
        assert_eq!(consumed, ask_length());
    }

    fn ask_length() -> usize {
        let length = std::cell::Cell::new(0);
        let note = |request: String| {
            length.set(request.len());
            request
        };
        ask(note, Origins::Local);
        length.get()
    }

    #[test]
    fn mqtt_6_0_0_4_the_subprotocol_is_mqtts() {
        let only = |name: &'static str| move |it: String| it.replace("chat, mqtt", name);
        let Answer::Upgrade { response, .. } = ask(only("mqttv3.1"), Origins::Local) else {
            panic!();
        };
        assert!(response.contains("Sec-WebSocket-Protocol: mqttv3.1\r\n"));
        assert!(
            matches!(ask(only("chat"), Origins::Local), Answer::Refuse(it) if it.contains(" 400 "))
        );
        let none = |it: String| it.replace("Sec-WebSocket-Protocol", "X");
        assert!(
            matches!(ask(none, Origins::Local), Answer::Upgrade { response, .. } if !response.contains("Protocol:"))
        );
    }

    #[test]
    fn other_requests_are_told_what_is_wrong() {
        for (from, to, status) in [
            ("GET /mqtt", "GET /", " 404 "),
            ("GET", "POST", " 405 "),
            ("Upgrade: WebSocket", "X: y", " 426 "),
            ("Version: 13", "Version: 8", " 426 "),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", " 400 "),
            ("HTTP/1.1", "what", " 400 "),
        ] {
            let answer = ask(|it| it.replace(from, to), Origins::Local);
            assert!(
                matches!(&answer, Answer::Refuse(it) if it.contains(status)),
                "{to}: {answer:?}"
            );
        }
        let cut = |it: String| it[..it.len() - 1].to_owned();
        assert_eq!(ask(cut, Origins::Local), Answer::Incomplete);
        let long = |it: String| {
            it.replace("Host: x", &format!("Host: {}", "x".repeat(HEAD_MAX)))[..HEAD_MAX].to_owned()
        };
        assert!(matches!(ask(long, Origins::Local), Answer::Refuse(it) if it.contains(" 431 ")));
    }

    #[test]
    fn pages_of_elsewhere_are_kept_out_unless_they_are_let_in() {
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:80",
            "http://10.0.0.1",
        ] {
            assert!(with_origin(origin, Origins::Local), "{origin}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://x",
            "http://localhost.evil.example",
            "http://10.0.0.2",
        ] {
            assert!(!with_origin(origin, Origins::Local), "{origin}");
            assert!(with_origin(origin, Origins::Any), "{origin}");
        }
        let listed = Origins::Listed(vec!["https://app.example".into()]);
        assert!(with_origin("https://app.example", listed.clone()));
        assert!(!with_origin("http://app.example", listed));
    }
}
