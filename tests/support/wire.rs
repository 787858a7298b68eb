//! As much of each protocol as it takes to get to where one can misbehave: bytes, no library.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::Broker;

/// What is negotiated as AMQP's frame-max.
pub const FRAME_MAX: usize = 8192;

/// An AMQP connection with channel 1 open.
pub fn amqp(broker: &Broker) -> TcpStream {
    let mut stream = broker.connect("amqp");
    stream.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    expect_method(&mut stream, (10, 10));
    send_method(
        &mut stream,
        0,
        (10, 11),
        b"\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x0c\x00guest\x00guest\x05en_US",
    );
    expect_method(&mut stream, (10, 30));
    let frame_max = (FRAME_MAX as u32).to_be_bytes();
    let tune = [&[0, 16], &frame_max[..], &[0, 0]].concat();
    send_method(&mut stream, 0, (10, 31), &tune);
    send_method(&mut stream, 0, (10, 40), b"\x01/\x00\x00");
    expect_method(&mut stream, (10, 41));
    send_method(&mut stream, 1, (20, 10), b"\x00");
    expect_method(&mut stream, (20, 11));
    stream
}

/// An AMQP frame.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&[kind], &channel.to_be_bytes()[..], &size, payload, &[0xce]].concat()
}

/// Sends an AMQP method.
pub fn send_method(stream: &mut TcpStream, channel: u16, method: (u16, u16), arguments: &[u8]) {
    let (class, id) = (method.0.to_be_bytes(), method.1.to_be_bytes());
    let payload = [&class[..], &id, arguments].concat();
    stream.write_all(&frame(1, channel, &payload)).unwrap();
}

/// Reads one AMQP frame, which must be this method; its arguments.
pub fn expect_method(stream: &mut TcpStream, method: (u16, u16)) -> Vec<u8> {
    let mut head = [0; 7];
    stream.read_exact(&mut head).unwrap();
    let size = u32::from_be_bytes(head[3..].try_into().unwrap()) as usize;
    let mut rest = vec![0; size + 1];
    stream.read_exact(&mut rest).unwrap();
    let short = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    assert_eq!((head[0], (short(0), short(2))), (1, method), "{rest:?}");
    rest[4..size].to_vec()
}

/// Reads `connection.close`, which must have this code; its text.
pub fn expect_close(stream: &mut TcpStream, code: u16) -> String {
    let close = expect_method(stream, (10, 50));
    let text = String::from_utf8_lossy(&close[3..]).into_owned();
    assert_eq!(close[..2], code.to_be_bytes(), "{text}");
    text
}

/// A Kafka request with a header of version 1.
pub fn request(api: u16, version: u16, body: &[u8]) -> Vec<u8> {
    let head = [&api.to_be_bytes()[..], &version.to_be_bytes()].concat();
    let request = [&head, &b"\x00\x00\x00\x01\xff\xff"[..], body].concat();
    [&(request.len() as u32).to_be_bytes()[..], &request].concat()
}

/// A Kafka fetch (version 4) of everything from the beginning of partition 0.
pub fn fetch(topic: &str) -> Vec<u8> {
    // Replica -1, no waiting, at least 1 and at most 8 MiB, uncommitted; one topic, one partition.
    let limits =
        b"\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x01";
    let name = [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes()].concat();
    let partition =
        b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x00\x00";
    request(1, 4, &[&limits[..], &name, partition].concat())
}

/// An MQTT 5 connection.
pub fn mqtt(broker: &Broker) -> TcpStream {
    let mut stream = broker.connect("mqtt");
    stream
        .write_all(b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02it")
        .unwrap();
    let mut connack = [0; 2];
    stream.read_exact(&mut connack).unwrap();
    let mut rest = vec![0; connack[1].into()];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!((connack[0], rest[1]), (0x20, 0), "{rest:?}");
    stream
}
