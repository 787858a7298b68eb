//! The example of `docs/add-a-protocol.md` against a socket: a protocol that the broker did not know.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

#[allow(dead_code, reason = "the example's own main is not run here")]
#[path = "../examples/line_protocol.rs"]
mod line_protocol;

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use trivium::{Config, Server};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Client {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Client {
    async fn connect(server: &Server) -> Client {
        let (reader, writer) = TcpStream::connect(server.address("lines").unwrap())
            .await
            .unwrap()
            .into_split();
        Client {
            lines: BufReader::new(reader).lines(),
            writer,
        }
    }

    async fn say(&mut self, line: &str) {
        self.writer
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn hear(&mut self, expected: &str) {
        let heard =
            tokio::time::timeout(std::time::Duration::from_secs(120), self.lines.next_line()).await;
        assert_eq!(
            heard.expect("an answer").unwrap().as_deref(),
            Some(expected)
        );
    }

    async fn ask(&mut self, line: &str, answer: &str) {
        self.say(line).await;
        self.hear(answer).await;
    }
}

/// A server that speaks lines only, and its folder.
async fn server() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config {
        data_dir: folder.path().join("data"),
        ..Config::default()
    };
    config.http.listen = ANY_PORT;
    let server = Server::start(config, vec![line_protocol::endpoint(ANY_PORT)])
        .await
        .unwrap();
    (server, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_from_publisher_to_subscribers() {
    let (server, _folder) = server().await;
    let (mut one, mut two) = (
        Client::connect(&server).await,
        Client::connect(&server).await,
    );
    one.ask("SUB orders/+", "OK").await;
    one.ask("SUB stock/#", "OK").await;
    two.ask("PUB orders/eu three beers, please", "OK").await;
    one.hear("MSG 1 orders/eu three beers, please").await;
    two.ask("PUB orders/eu/north none", "OK").await;
    two.ask("PUB stock/beer/cellar 12", "OK").await;
    one.hear("MSG 2 stock/beer/cellar 12").await;
    one.ask("ACK 1", "OK").await;
    one.ask("QUIT", "BYE").await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_and_the_connection_lives_on() {
    let (server, _folder) = server().await;
    let mut client = Client::connect(&server).await;
    let usage = "ERR expected PUB topic text, SUB filter, ACK n or QUIT";
    client.ask("GET / HTTP/1.1", usage).await;
    client.ask("PUB", usage).await;
    client.ask("ACK many", "ERR not a number").await;
    client.ask("ACK 99", "OK").await;
    client.ask("PUB a b", "OK").await;
    client.say(&"x".repeat(70_000)).await;
    client.hear("ERR line too long").await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_may_come_all_at_once() {
    let (server, _folder) = server().await;
    let mut client = Client::connect(&server).await;
    client.say("SUB t\nPUB t 1\nPUB t 2\nQUIT").await;
    let mut all = String::new();
    client
        .lines
        .into_inner()
        .read_to_string(&mut all)
        .await
        .unwrap();
    assert_eq!(all.lines().filter(|line| *line == "OK").count(), 3, "{all}");
    assert!(all.ends_with("BYE\n"), "{all}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_says_goodbye() {
    let (server, _folder) = server().await;
    let mut client = Client::connect(&server).await;
    client.ask("PUB a b", "OK").await;
    let (stopped, ()) = tokio::join!(server.stop(), client.hear("BYE"));
    stopped.unwrap();
}
