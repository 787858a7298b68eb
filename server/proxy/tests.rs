//! What the specification asks of a receiver, rule by rule (haproxy's `proxy-protocol.txt`, sections 2, 2.1 and 2.2).

use super::*;

const FOUR: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 7, 91];
const PAYLOAD: &[u8] = b"payload";

/// What a header says, and what is left for the protocol.
async fn read(header: &[u8]) -> Result<(Source, Vec<u8>), String> {
    let bytes = [header, PAYLOAD].concat();
    let mut stream = &bytes[..];
    let source = read_header(&mut stream).await;
    source
        .map(|source| (source, stream.to_vec()))
        .map_err(|error| error.to_string())
}

/// What a header says that is one to the byte.
async fn source(header: &[u8]) -> Source {
    let (source, rest) = read(header).await.unwrap();
    assert_eq!(rest, PAYLOAD, "{header:x?}");
    source
}

async fn refusal(header: &[u8]) -> String {
    match read(header).await {
        Ok(taken) => panic!("{header:x?} was taken: {taken:?}"),
        Err(refusal) => refusal,
    }
}

fn client(address: &str) -> Source {
    Source::Client(address.parse().unwrap())
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

/// Section 2: the receiver does not guess whether there is a header.
#[tokio::test]
async fn a_connection_without_a_header_is_refused() {
    for bytes in [
        &b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c"[..],
        b"proxy TCP4 192.0.2.7 198.51.100.1 1 1\r\n",
        b"PROXY\tTCP4 192.0.2.7 198.51.100.1 1 1\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\r\n\r\n\0\r\nQUIT\r\n",
        &[b'P'; 12],
    ] {
        assert_eq!(refusal(bytes).await, "no PROXY header");
    }
}

/// Section 2: nothing is done before the header is whole, and a connection that ends within it is over.
#[tokio::test]
async fn a_part_of_a_header_is_none() {
    let line = &b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\r\n"[..];
    for header in [line, &binary(0x21, 0x11, &FOUR), &binary(0x20, 0, &[])] {
        for end in 0..header.len() {
            let mut stream = &header[..end];
            let error = read_header(&mut stream).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "at {end}");
        }
    }
}

/// Section 2: a header may come in any pieces.
#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    use tokio::io::AsyncWriteExt;

    for header in [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\r\n".to_vec(),
        binary(0x21, 0x11, &FOUR),
    ] {
        let (mut near, mut far) = tokio::io::duplex(1);
        let send = async move {
            far.write_all(&[&header[..], PAYLOAD].concat())
                .await
                .unwrap();
        };
        let take = async move {
            let source = read_header(&mut near).await.unwrap();
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            (source, rest)
        };
        let ((), (source, rest)) = tokio::join!(send, take);
        assert_eq!(source, client("192.0.2.7:56324"));
        assert_eq!(rest, PAYLOAD);
    }
}

/// Section 2.1: the client's address is the first, its port the third.
#[tokio::test]
async fn version_1_names_the_client() {
    for (line, address) in [
        ("TCP4 192.0.2.7 198.51.100.1 56324 1883", "192.0.2.7:56324"),
        ("TCP4 0.0.0.0 255.255.255.255 0 65535", "0.0.0.0:0"),
        ("TCP6 2001:db8::7 2001:db8::1 5 1883", "[2001:db8::7]:5"),
        ("TCP6 2001:DB8::A ::1 5 1883", "[2001:db8::a]:5"),
        (
            "TCP6 2001:db8:0:0:0:0:0:7 ::ffff:198.51.100.1 5 1883",
            "[2001:db8::7]:5",
        ),
    ] {
        let line = format!("PROXY {line}\r\n");
        assert_eq!(source(line.as_bytes()).await, client(address), "{line}");
    }
}

/// Section 2.1: behind UNKNOWN everything is ignored up to the end of the line.
#[tokio::test]
async fn version_1_may_name_nobody() {
    for line in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN ::1 ::1 1 2\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        b"PROXY UNKNOWN \xff\xfe\0\r\r\n",
    ] {
        assert_eq!(source(line).await, Source::Unknown);
    }
    for line in [
        &b"PROXY UNKNOWNS\r\n"[..],
        b"PROXY unknown\r\n",
        b"PROXY  UNKNOWN\r\n",
    ] {
        assert_eq!(refusal(line).await, "PROXY line is malformed");
    }
}

/// Section 2.1: a line has 107 characters at most, with its end.
#[tokio::test]
async fn version_1_has_a_greatest_length() {
    let line = |length: usize| {
        let filling = "x".repeat(length - "PROXY UNKNOWN \r\n".len());
        format!("PROXY UNKNOWN {filling}\r\n").into_bytes()
    };
    assert_eq!(source(&line(107)).await, Source::Unknown);
    assert_eq!(refusal(&line(108)).await, "PROXY line is too long");
    let endless = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
    assert_eq!(refusal(&endless).await, "PROXY line is too long");
}

/// Section 2.1: one space between words, both addresses of the family, ports without heading zeroes, CR and LF.
#[tokio::test]
async fn version_1_is_exact() {
    for line in [
        "TCP4 192.0.2.7 198.51.100.1 56324",
        "TCP4 192.0.2.7 198.51.100.1 1 1 1",
        "TCP4 192.0.2.7 198.51.100.1 1 1 ",
        "TCP4  192.0.2.7 198.51.100.1 1 1",
        "TCP4 192.0.2.7\t198.51.100.1 1 1",
        "TCP4 ::1 ::1 1 2",
        "TCP4 192.0.2.7 ::1 1 2",
        "TCP6 192.0.2.7 198.51.100.1 1 2",
        "TCP6 2001:db8::7::1 ::1 1 2",
        "TCP4 192.0.2.07 198.51.100.1 1 1",
        "TCP4 192.0.2.256 198.51.100.1 1 1",
        "TCP4 192.0.2 198.51.100.1 1 1",
        "TCP4 192.0.2.7 198.51.100.1 66000 1",
        "TCP4 192.0.2.7 198.51.100.1 1 65536",
        "TCP4 192.0.2.7 198.51.100.1 01 1",
        "TCP4 192.0.2.7 198.51.100.1 1 00",
        "TCP4 192.0.2.7 198.51.100.1 +1 1",
        "TCP4 192.0.2.7 198.51.100.1 -1 1",
        "TCP4 192.0.2.7 198.51.100.1 1 1\n",
        "TCP4 192.0.2.7 198.51.100.1 1 1\r",
        "SCTP 192.0.2.7 198.51.100.1 1 1",
        "UDP4 192.0.2.7 198.51.100.1 1 1",
        "TCP4",
        "",
    ] {
        let line = format!("PROXY {line}\r\n");
        assert!(read(line.as_bytes()).await.is_err(), "{line:?}");
    }
    // A line feed alone ends no line.
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 1 1\n";
    assert!(read(line).await.is_err());
}

/// Section 2.2: TCP over IPv4 and IPv6.
#[tokio::test]
async fn version_2_names_the_client() {
    let four = source(&binary(0x21, 0x11, &FOUR)).await;
    assert_eq!(four, client("192.0.2.7:56324"));
    let mut six = [0; 36];
    six[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    six[33] = 5;
    let six = source(&binary(0x21, 0x21, &six)).await;
    assert_eq!(six, client("[2001:db8::]:5"));
}

/// Section 2.2: LOCAL is the proxy's own connection, with the addresses that it has; family, addresses and further
/// values are passed over.
#[tokio::test]
async fn version_2_local_is_the_proxy_itself() {
    for (family, rest) in [
        (0x00, &[][..]),
        (0x11, &FOUR),
        (0x11, &[1, 2, 3]),
        (0xff, &[0xaa; 300]),
    ] {
        let header = binary(0x20, family, rest);
        assert_eq!(source(&header).await, Source::Proxy, "{family:x}");
    }
    let proxy = "127.0.0.1:4711".parse().unwrap();
    assert_eq!(Source::Proxy.address(proxy), proxy);
    assert!(!Source::Unknown.address(proxy).ip().is_loopback());
}

/// Section 2.2: what is not specified, and what is not TCP, is accepted and names nobody.
#[tokio::test]
async fn version_2_may_name_nobody() {
    for (family, length) in [
        (0x00, 0),
        (0x00, 12),
        (0x12, 12),
        (0x22, 36),
        (0x31, 216),
        (0x32, 216),
    ] {
        let header = binary(0x21, family, &vec![0; length]);
        assert_eq!(source(&header).await, Source::Unknown, "{family:x}");
    }
}

/// Section 2.2: other families and transports are invalid.
#[tokio::test]
async fn version_2_refuses_families_that_it_does_not_know() {
    for family in [0x13, 0x1f, 0x03, 0x41, 0x40, 0xf1, 0xff] {
        let header = binary(0x21, family, &[0; 216]);
        let refusal = refusal(&header).await;
        assert_eq!(refusal, "PROXY family or transport is not known");
    }
}

/// Section 2.2: the version is 2, the command LOCAL or PROXY.
#[tokio::test]
async fn version_2_refuses_versions_and_commands_that_it_does_not_know() {
    for command in (0..=u8::MAX).filter(|it| !matches!(it, 0x20 | 0x21)) {
        let refusal = refusal(&binary(command, 0x11, &FOUR)).await;
        assert_eq!(refusal, "PROXY version or command is not known");
    }
}

/// Section 2.2: the length says where the header ends; what follows the addresses is passed over.
#[tokio::test]
async fn version_2_ends_where_its_length_says() {
    let alpn = [1, 0, 4, b'm', b'q', b't', b't'];
    let nothing = [4, 0, 1, 0];
    for more in [&alpn[..], &nothing, &[0xff; 3], &[0; 65_535 - 12]] {
        let header = binary(0x21, 0x11, &[&FOUR[..], more].concat());
        assert_eq!(source(&header).await, client("192.0.2.7:56324"));
    }
}

/// Section 2.2: a length that does not hold the addresses of the family.
#[tokio::test]
async fn version_2_refuses_less_than_its_addresses() {
    for (family, length) in [(0x11, 0), (0x11, 4), (0x11, 11), (0x21, 12), (0x21, 35)] {
        let header = binary(0x21, family, &vec![0; length]);
        assert_eq!(refusal(&header).await, "PROXY header is too short");
    }
}
