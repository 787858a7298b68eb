//! The PROXY protocol, versions 1 and 2 (haproxy's `proxy-protocol.txt`): whom a connection is really with, as
//! the proxy in front says it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Both versions begin with so many bytes at least, and tell themselves apart in them.
const START: usize = 12;
const SIGNATURE: [u8; START] = *b"\r\n\r\n\0\r\nQUIT\n";
/// A line of version 1 at most, with its end.
const LINE_MAX: usize = 107;

/// Whom a connection is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The proxy itself, which asks whether the server is well.
    Proxy,
    /// Somebody whom the proxy does not name.
    Unknown,
    /// A client, by its address.
    Client(SocketAddr),
}

impl Source {
    /// The address that counts for what is allowed. Somebody unknown has none, so that a client behind a proxy on this
    /// machine is never taken for one on this machine.
    pub fn address(self, proxy: SocketAddr) -> SocketAddr {
        match self {
            Source::Proxy => proxy,
            Source::Unknown => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            Source::Client(address) => address,
        }
    }
}

/// Takes the header off a connection, to the byte: what follows is the protocol's. There is no guessing: a connection
/// without a header is refused (section 2).
pub async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Source> {
    let mut start = [0; START];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        read_binary(stream).await
    } else if start.starts_with(b"PROXY ") {
        read_line(stream, start).await
    } else {
        Err(invalid("no PROXY header"))
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Version 1: `PROXY TCP4 source destination sport dport`. Byte by byte, because what follows is not the header's.
async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, start: [u8; START]) -> io::Result<Source> {
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_MAX {
            return Err(invalid("PROXY line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line[..line.len() - 2]).ok_or_else(|| invalid("PROXY line is malformed"))
}

fn parse_line(line: &[u8]) -> Option<Source> {
    // Whatever follows is ignored, also if it is no text.
    if line == b"PROXY UNKNOWN" || line.starts_with(b"PROXY UNKNOWN ") {
        return Some(Source::Unknown);
    }
    let mut words = std::str::from_utf8(line).ok()?.split(' ').skip(1);
    let family = words.next()?;
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let (source, _destination) = (address(words.next()?)?, address(words.next()?)?);
    let (port, _to_port) = (parse_port(words.next()?)?, parse_port(words.next()?)?);
    let whole = words.next().is_none();
    whole.then_some(Source::Client(SocketAddr::new(source, port)))
}

/// Digits without a sign and without heading zeroes, as the specification has them.
fn parse_port(text: &str) -> Option<u16> {
    let canonical = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// Version 2, behind its signature: version and command, family, length, addresses, further values. Its length says
/// where it ends, whatever the command and the family are.
async fn read_binary<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Source> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    if !matches!(command, LOCAL | PROXY) {
        return Err(invalid("PROXY version or command is not known"));
    }
    let mut rest = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut rest).await?;
    if command == LOCAL {
        return Ok(Source::Proxy);
    }
    parse_addresses(family, &rest)
}

fn parse_addresses(family: u8, rest: &[u8]) -> io::Result<Source> {
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    // Of address families and of transports.
    const FAMILY_MAX: u8 = 3;
    const TRANSPORT_MAX: u8 = 2;
    let too_short = || invalid("PROXY header is too short");
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match family {
        TCP4 => match rest.first_chunk::<4>() {
            Some(source) if rest.len() >= 12 => {
                Ok(Source::Client(SocketAddr::from((*source, port(8)))))
            }
            _ => Err(too_short()),
        },
        TCP6 => match rest.first_chunk::<16>() {
            Some(source) if rest.len() >= 36 => {
                Ok(Source::Client(SocketAddr::from((*source, port(32)))))
            }
            _ => Err(too_short()),
        },
        _ if family >> 4 > FAMILY_MAX || family & 0x0f > TRANSPORT_MAX => {
            Err(invalid("PROXY family or transport is not known"))
        }
        // Datagrams, sockets of Unix, and what is not specified: nobody who could be named.
        _ => Ok(Source::Unknown),
    }
}

#[cfg(test)]
mod tests;
