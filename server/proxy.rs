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
/// Addresses and further values of version 2 at most; what proxies send is far below.
const REST_MAX: u16 = 4096;

/// Takes the header off a connection. The peer's address as the proxy tells it; unspecified when it does not, so that a
/// client behind a proxy on this machine is never taken for one on this machine.
pub async fn read_header<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<SocketAddr> {
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

fn unknown() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
}

/// Version 1: `PROXY TCP4 source destination sport dport`. Byte by byte, because what follows is not the header's.
async fn read_line<S: AsyncRead + Unpin>(
    stream: &mut S,
    start: [u8; START],
) -> io::Result<SocketAddr> {
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_MAX {
            return Err(invalid("PROXY line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line).map_err(|_| invalid("PROXY line is not text"))?;
    parse_line(text.trim_end()).ok_or_else(|| invalid("PROXY line is malformed"))
}

fn parse_line(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(unknown());
    }
    let (source, destination) = (words.next()?, words.next()?);
    let (port, to_port) = (words.next()?, words.next()?);
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    address(destination)?;
    to_port.parse::<u16>().ok()?;
    let whole = words.next().is_none();
    whole.then_some(SocketAddr::new(address(source)?, port.parse().ok()?))
}

/// Version 2, behind its signature: version and command, family, length, addresses, further values.
async fn read_binary<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<SocketAddr> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = stream.read_u16().await?;
    if length > REST_MAX {
        return Err(invalid("PROXY header is too long"));
    }
    let mut rest = vec![0; length.into()];
    stream.read_exact(&mut rest).await?;
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match (command, family) {
        (LOCAL, _) => Ok(unknown()),
        (PROXY, TCP4) => match rest.first_chunk::<4>() {
            Some(source) if rest.len() >= 12 => Ok(SocketAddr::from((*source, port(8)))),
            _ => Err(invalid("PROXY header is too short")),
        },
        (PROXY, TCP6) => match rest.first_chunk::<16>() {
            Some(source) if rest.len() >= 36 => Ok(SocketAddr::from((*source, port(32)))),
            _ => Err(invalid("PROXY header is too short")),
        },
        (PROXY, _) => Ok(unknown()),
        _ => Err(invalid("PROXY version or command is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(header: &[u8]) -> Result<(SocketAddr, Vec<u8>), String> {
        let bytes = [header, b"payload"].concat();
        let mut stream = &bytes[..];
        let address = read_header(&mut stream).await;
        address
            .map(|address| (address, stream.to_vec()))
            .map_err(|error| error.to_string())
    }

    async fn source(header: &[u8]) -> String {
        let (address, rest) = read(header).await.unwrap();
        assert_eq!(rest, b"payload");
        address.to_string()
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn version_1_names_the_client() {
        assert_eq!(
            source(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\r\n").await,
            "192.0.2.7:56324"
        );
        assert_eq!(
            source(b"PROXY TCP6 2001:db8::7 2001:db8::1 5 1883\r\n").await,
            "[2001:db8::7]:5"
        );
        assert_eq!(source(b"PROXY UNKNOWN\r\n").await, "0.0.0.0:0");
        assert_eq!(source(b"PROXY UNKNOWN ::1 ::1 1 2\r\n").await, "0.0.0.0:0");
    }

    #[tokio::test]
    async fn version_2_names_the_client() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 7, 91];
        assert_eq!(source(&binary(0x21, 0x11, &four)).await, "192.0.2.7:56324");
        // Further values are passed over.
        let more = [&four[..], &[4, 0, 1, 0]].concat();
        assert_eq!(source(&binary(0x21, 0x11, &more)).await, "192.0.2.7:56324");
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        six[33] = 5;
        assert_eq!(source(&binary(0x21, 0x21, &six)).await, "[2001:db8::]:5");
        assert_eq!(source(&binary(0x20, 0, &[])).await, "0.0.0.0:0");
        assert_eq!(source(&binary(0x21, 0x31, &[0; 216])).await, "0.0.0.0:0");
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for header in [
            &b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c"[..],
            b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 66000 1\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1 1 1\r\n",
            b"PROXY SCTP 192.0.2.7 198.51.100.1 1 1\r\n",
            &[b'P'; 12],
            &binary(0x31, 0x11, &[0; 12]),
            &binary(0x22, 0x11, &[0; 12]),
            &binary(0x21, 0x11, &[0; 4]),
            &binary(0x21, 0x21, &[0; 12]),
        ] {
            assert!(read(header).await.is_err(), "{header:x?}");
        }
        let endless = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        assert_eq!(read(&endless).await.unwrap_err(), "PROXY line is too long");
        let long = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        assert_eq!(read(&long).await.unwrap_err(), "PROXY header is too long");
    }
}
