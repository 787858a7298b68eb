//! The server around a front end that misbehaves on request.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use trivium_core::{Change, Command, Credentials, Dialect, Event, Now, Origin, QueueSpec, Token};
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
    server_over(max_connections, Transport::default()).await
}

async fn server_over(max_connections: &str, transport: Transport) -> Server {
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
        transport,
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
    tokio::time::timeout(Duration::from_secs(120), retried)
        .await
        .unwrap();
    server.stop().await.unwrap();
}

/// The PROXY protocol, section 2.2: a header that does not come whole in time is none, and what it comes over is closed.
#[tokio::test]
async fn a_proxy_header_has_to_come_in_time() {
    assert_eq!(
        Transport::default().begins_within,
        Duration::from_secs(10),
        "as documented"
    );
    let transport = Transport {
        proxy_protocol: true,
        begins_within: Duration::from_millis(50),
        ..Transport::default()
    };
    let server = server_over("10", transport).await;
    for part in [
        &b""[..],
        b"PROXY TCP4 127.0.0.1 ",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
    ] {
        let mut stream = connect(&server).await;
        stream.write_all(part).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(9), stream.read_u8());
        assert!(closed.await.expect("long before the default").is_err());
    }
    server.stop().await.unwrap();
    let patient = Transport {
        proxy_protocol: true,
        ..Transport::default()
    };
    let server = server_over("10", patient).await;
    let mut stream = connect(&server).await;
    let whole = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n";
    stream.write_all(whole).await.unwrap();
    assert_eq!(echo(&mut stream, b"here").await, b"here");
    drop(stream);
    server.stop().await.unwrap();
}

/// The whole answer to a GET request.
async fn get(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.address("http").unwrap())
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_failed_store_is_not_ready_and_says_why() {
    let store = Arc::new(testing::Nowhere::default());
    let mut config = Config::default();
    config.http.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::start_over(store.clone(), config, Vec::new())
        .await
        .unwrap();
    assert!(
        get(&server, "/health/ready")
            .await
            .starts_with("HTTP/1.1 200")
    );

    store.broken.store(true, Ordering::Relaxed);
    declare_durable_queue(server.broker()).await;
    let ready = get(&server, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
    assert!(
        ready.contains("storage failed: storage is unavailable: no space left on device"),
        "{ready}"
    );
    assert!(
        get(&server, "/health/live")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let metrics = get(&server, "/metrics").await;
    assert!(
        metrics.contains("\ntrivium_ready 0\n") && metrics.contains("\ntrivium_storage_failed 1\n")
    );
    drop(server);
}

/// Declares one, and waits for the answer, whatever it is.
async fn declare_durable_queue(broker: &Broker) {
    let mut link = broker.connect(Origin {
        vhost: "/".into(),
        ..Origin::default()
    });
    let login = Command::Authenticate {
        token: Token(1),
        credentials: Credentials::Anonymous { loopback: true },
    };
    let spec = QueueSpec {
        durable: true,
        exclusive: false,
        auto_delete: false,
        expires: None,
        session: false,
        arguments: Vec::new(),
    };
    let declare = Command::Define {
        token: Token(2),
        change: Change::DeclareQueue {
            name: "jobs".into(),
            spec,
        },
    };
    for command in [login, declare] {
        link.submit(&mut vec![command]).await.unwrap();
        link.receive(&mut Vec::new()).await;
    }
}
