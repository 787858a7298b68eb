//! A client that writes frames by hand, over an in-memory stream.

use tokio::io::{DuplexStream, duplex};

use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A frame with a mask of zeros, which changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// A connection whose client has sent `first` together with the request.
async fn connected(first: &[u8], room: usize) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (mut client, server) = duplex(room);
    let request = [REQUEST.as_bytes(), first].concat();
    let policy = Policy {
        path: "/mqtt".into(),
        origins: Origins::default(),
    };
    let local = "127.0.0.1:8083".parse().unwrap();
    let talk = async {
        client.write_all(&request).await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            response.push(client.read_u8().await.unwrap());
        }
        assert!(response.starts_with(b"HTTP/1.1 101 "));
    };
    let (accepted, ()) = tokio::join!(accept(server, &policy, local), talk);
    (accepted.unwrap(), client)
}

async fn read(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn mqtt_6_0_0_2_packets_span_and_share_frames() {
    let early = [frame(0x02, b"one pa"), frame(0x80, b"cket")].concat();
    let (mut socket, mut client) = connected(&early, 4096).await;
    assert_eq!(read(&mut socket, 10).await, b"one packet");
    client.write_all(&frame(0x82, b"two|three")).await.unwrap();
    assert_eq!(read(&mut socket, 9).await, b"two|three");
    socket.write_all(b"answer").await.unwrap();
    assert_eq!(read(&mut client, 8).await, b"\x82\x06answer");
}

#[tokio::test]
async fn mqtt_6_0_0_1_text_closes_with_1003() {
    let (mut socket, mut client) = connected(&frame(0x81, b"text"), 4096).await;
    assert_eq!(socket.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(read(&mut client, 4).await, [0x88, 2, 0x03, 0xeb]);
    assert!(socket.write(b"late").await.is_err());
}

#[tokio::test]
async fn rfc6455_5_5_pings_and_closes_are_answered() {
    let (mut socket, mut client) = connected(&frame(0x89, b"there?"), 4096).await;
    let asked = [frame(0x82, b"data"), frame(0x88, &[0x03, 0xe9])].concat();
    client.write_all(&asked).await.unwrap();
    assert_eq!(read(&mut socket, 4).await, b"data");
    assert_eq!(socket.read(&mut [0; 9]).await.unwrap(), 0);
    assert_eq!(read(&mut client, 8).await, b"\x8a\x06there?");
    assert_eq!(read(&mut client, 4).await, [0x88, 2, 0x03, 0xe9]);
}

/// A write that the socket takes in parts is one frame all the same, and a pong comes behind it.
#[tokio::test]
async fn a_frame_is_whole_however_slowly_it_is_taken() {
    let (mut socket, mut client) = connected(b"", 400).await;
    client.write_all(&frame(0x89, b"!")).await.unwrap();
    let payload: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    let sent = payload.clone();
    let write = async {
        let mut rest = &sent[..];
        let mut byte = [0];
        while !rest.is_empty() {
            let (first, second) = rest.split_at(rest.len() / 2);
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let step = std::future::poll_fn(|context| {
                let mut raw = ReadBuf::new(&mut byte);
                let _ = Pin::new(&mut socket).poll_read(context, &mut raw);
                Pin::new(&mut socket).poll_write_vectored(context, &slices)
            });
            let written = step.await.unwrap();
            rest = &rest[written..];
        }
        socket.shutdown().await.unwrap();
        socket
    };
    let read_all = async {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all
    };
    let (_socket, all) = tokio::join!(write, read_all);
    let pong = b"\x8a\x01!";
    let all = all
        .strip_prefix(pong)
        .map_or_else(|| all.clone(), <[u8]>::to_vec);
    assert_eq!(
        &all[..10],
        [&[0x82, 127][..], &100_000u64.to_be_bytes()].concat()
    );
    assert_eq!(&all[10..100_010], payload);
    assert!(all.ends_with(&[0x88, 2, 0x03, 0xe8]));
}
