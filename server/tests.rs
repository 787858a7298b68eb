//! The server around a front end that misbehaves on request.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use trivium_core::{Dialect, Event, Now};
use trivium_protocol::{CloseReason, Effects, Frontend, Peer, Protocol};

use super::*;

/// Sends back what it gets; panics at `!`.
struct Echo;

impl Frontend for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn connect(&self, _: Peer, _: Now) -> Box<dyn Protocol> {
        Box::new(Echo)
    }

    fn dialects(&self) -> Vec<&'static dyn Dialect> {
        Vec::new()
    }
}

impl Protocol for Echo {
    fn handle_input(
        &mut self,
        _: Now,
        input: &mut BytesMut,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        assert!(!input.contains(&b'!'), "asked to");
        effects.output.buffer().extend_from_slice(&input.split());
        Ok(())
    }

    fn handle_event(&mut self, _: Now, _: Event, _: &mut Effects) -> Result<(), CloseReason> {
        Ok(())
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Effects) -> Result<(), CloseReason> {
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        None
    }

    fn wants_input(&self) -> bool {
        true
    }

    fn is_closed(&self) -> bool {
        false
    }
}

async fn server(max_connections: &str) -> Server {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config {
        max_connections: max_connections.parse().unwrap(),
        ..Config::default()
    };
    config.http.enabled = false;
    let echo = Endpoint {
        name: "echo",
        listen: any_port,
        frontend: Box::new(|_| Arc::new(Echo)),
        client: |address| address.to_string(),
    };
    Server::start_over(testing::store(), config, vec![echo])
        .await
        .unwrap()
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address("echo").unwrap())
        .await
        .unwrap()
}

/// What comes back for four bytes; less when the connection is closed.
async fn echo(stream: &mut TcpStream, bytes: &[u8; 4]) -> Vec<u8> {
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.take(4).read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn a_fault_in_one_connection_ends_no_other() {
    let server = server("10").await;
    let (mut good, mut bad) = (connect(&server).await, connect(&server).await);
    assert_eq!(echo(&mut good, b"here").await, b"here");
    assert_eq!(echo(&mut bad, b"boo!").await, b"");
    assert_eq!(echo(&mut good, b"fine").await, b"fine");
    drop(good);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_a_free_place_is_taken() {
    let server = server("1").await;
    let mut first = connect(&server).await;
    assert_eq!(echo(&mut first, b"here").await, b"here");
    assert_eq!(echo(&mut connect(&server).await, b"over").await, b"");
    drop(first);
    let retried = async { while echo(&mut connect(&server).await, b"next").await != b"next" {} };
    tokio::time::timeout(Duration::from_secs(20), retried)
        .await
        .unwrap();
    server.stop().await.unwrap();
}
