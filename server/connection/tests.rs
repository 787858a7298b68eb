//! The loop against a scripted front end, over in-memory streams and a real socket.

mod stalls;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use trivium_core::{Command, ConsumerId, DeliveryId, Origin, Outcome};

use super::*;
use crate::testing::broker;

/// What a test wants to know about its front end.
#[derive(Default)]
struct Log {
    disconnects: AtomicUsize,
    backlog_max: AtomicUsize,
}

/// Answers lines: `echo …`, `big <bytes>`, `pause` (reads on at the next timeout), `slow <bytes>` (both), `quit`, `fail`.
struct Lines {
    log: Arc<Log>,
    resume_at: Option<Instant>,
    closed: bool,
}

impl Protocol for Lines {
    fn handle_input(
        &mut self,
        now: Now,
        input: &mut BytesMut,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        self.log
            .backlog_max
            .fetch_max(effects.output.len(), Relaxed);
        while self.wants_input() && !self.closed {
            let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
                break;
            };
            let line = input.split_to(end).freeze();
            input.advance(1);
            self.handle_line(now, std::str::from_utf8(&line).unwrap(), effects)?;
        }
        Ok(())
    }

    fn handle_event(&mut self, _: Now, _: Event, _: &mut Effects) -> Result<(), CloseReason> {
        Ok(())
    }

    fn handle_timeout(&mut self, _: Now, _: &mut Effects) -> Result<(), CloseReason> {
        self.resume_at = None;
        Ok(())
    }

    fn handle_disconnect(&mut self, _: Now, _: &mut Effects) {
        self.log.disconnects.fetch_add(1, Relaxed);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.resume_at
    }

    fn wants_input(&self) -> bool {
        self.resume_at.is_none()
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

impl Lines {
    fn handle_line(
        &mut self,
        now: Now,
        line: &str,
        effects: &mut Effects,
    ) -> Result<(), CloseReason> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("echo", text) => effects
                .output
                .buffer()
                .extend_from_slice(format!("{text}\n").as_bytes()),
            ("big", size) => effects
                .output
                .body(&Bytes::from(vec![b'x'; size.parse().unwrap()])),
            ("slow", size) => {
                self.handle_line(now, &format!("big {size}"), effects)?;
                self.resume_at = Some(now.instant);
            }
            ("pause", _) => self.resume_at = Some(now.instant + Duration::from_millis(5)),
            ("quit", _) => {
                effects.output.buffer().extend_from_slice(b"bye\n");
                self.closed = true;
            }
            _ => return Err(CloseReason::Protocol(format!("no command {line}"))),
        }
        Ok(())
    }
}

/// Serves `stream` with a fresh front end; resolves to what it logged.
async fn serve_lines(stream: impl AsyncRead + AsyncWrite + Unpin) -> Arc<Log> {
    let log = Arc::new(Log::default());
    let lines = Lines {
        log: log.clone(),
        resume_at: None,
        closed: false,
    };
    let link = broker().await.connect(Origin::default());
    let about = About {
        protocol: "lines",
        peer: "127.0.0.1:1".parse().unwrap(),
    };
    serve(stream, Box::new(lines), link, about, &Traffic::default()).await;
    log
}

/// Runs `client` against a served connection; returns what it returns, and the front end's log.
async fn with_client<T>(pipe: usize, client: impl AsyncFnOnce(DuplexStream) -> T) -> (T, Arc<Log>) {
    let (ours, theirs) = duplex(pipe);
    let (log, out) = tokio::join!(serve_lines(theirs), client(ours));
    (out, log)
}

async fn read_to_end(mut stream: DuplexStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn answers_in_order_and_says_goodbye() {
    let (answer, log) = with_client(4096, async |mut stream| {
        stream
            .write_all(b"echo a\necho b\nquit\necho never\n")
            .await
            .unwrap();
        read_to_end(stream).await
    })
    .await;
    assert_eq!(answer, b"a\nb\nbye\n");
    assert_eq!(
        log.disconnects.load(Relaxed),
        0,
        "an orderly close is no disconnect"
    );
}

#[tokio::test]
async fn frames_may_come_byte_by_byte() {
    let (answer, _) = with_client(1, async |stream| {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut all = Vec::new();
        let (written, read) = tokio::join!(
            writer.write_all(b"echo one\necho two\nquit\n"),
            reader.read_to_end(&mut all)
        );
        written.unwrap();
        read.unwrap();
        all
    })
    .await;
    assert_eq!(answer, b"one\ntwo\nbye\n");
}

#[tokio::test]
async fn a_peer_that_reads_late_meets_a_bounded_backlog_and_gets_everything() {
    const LINES: usize = 4000;
    let (count, log) = with_client(1024, async |stream| {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let write = async {
            for _ in 0..LINES {
                writer.write_all(b"big 20000\n").await.unwrap();
            }
            writer.write_all(b"quit\n").await.unwrap();
        };
        let read = async {
            let (mut count, mut buffer) = (0, vec![0; 999]);
            loop {
                match reader.read(&mut buffer).await.unwrap() {
                    0 => return count,
                    n => count += n,
                }
            }
        };
        tokio::join!(write, read).1
    })
    .await;
    assert_eq!(count, LINES * 20000 + 4);
    // One turn reads at most the pipe's 1024 bytes, which is 103 lines.
    assert!(log.backlog_max.load(Relaxed) <= BACKLOG_MAX + 103 * 20000);
}

#[tokio::test]
async fn a_peer_that_only_writes_is_not_read_beyond_the_backlog() {
    let (accepted, log) = with_client(1024, async |mut stream| {
        let mut accepted = 0;
        // Nothing reads the answers, so at some point a write can only wait.
        while let Some(written) = futures_now(stream.write_all(b"big 20000\n")).await {
            written.unwrap();
            accepted += 1;
        }
        accepted
    })
    .await;
    assert!(
        accepted < 500,
        "{accepted} commands were taken from a peer that reads nothing"
    );
    assert_eq!(log.disconnects.load(Relaxed), 1);
}

/// One request at a time, all of them in one read: the answers wait for the peer, not in memory.
#[tokio::test]
async fn input_that_is_here_waits_for_the_backlog_too() {
    const LINES: usize = 100;
    let (answer, log) = with_client(4096, async |mut stream| {
        let lines = format!("{}quit\n", "slow 400000\n".repeat(LINES));
        stream.write_all(lines.as_bytes()).await.unwrap();
        read_to_end(stream).await
    })
    .await;
    assert_eq!(answer.len(), LINES * 400_000 + 4);
    assert!(log.backlog_max.load(Relaxed) <= BACKLOG_MAX);
}

/// The output of `future`, or `None` if it makes no progress while the other task is given every chance.
async fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..1000 {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(out) = polled {
            return Some(out);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn a_peer_that_vanishes_in_a_frame_is_a_disconnect() {
    let ((), log) = with_client(64, async |mut stream| {
        stream.write_all(b"echo par").await.unwrap();
    })
    .await;
    assert_eq!(log.disconnects.load(Relaxed), 1);
}

#[tokio::test]
async fn breaking_the_protocol_is_a_disconnect() {
    let (answer, log) = with_client(64, async |mut stream| {
        stream.write_all(b"nonsense\n").await.unwrap();
        read_to_end(stream).await
    })
    .await;
    assert!(answer.is_empty());
    assert_eq!(log.disconnects.load(Relaxed), 1);
}

#[tokio::test]
async fn input_left_behind_is_shown_again() {
    let (answer, _) = with_client(4096, async |mut stream| {
        stream
            .write_all(b"pause\necho later\nquit\n")
            .await
            .unwrap();
        read_to_end(stream).await
    })
    .await;
    assert_eq!(answer, b"later\nbye\n");
}

#[tokio::test]
async fn a_stranger_gets_little_memory() {
    let (sent, log) = with_client(1 << 20, async |mut stream| {
        stream.write_all(&vec![b'x'; 256 << 10]).await.unwrap();
        read_to_end(stream).await
    })
    .await;
    assert!(sent.is_empty());
    assert_eq!(log.disconnects.load(Relaxed), 1);
}

#[tokio::test]
async fn last_words_reach_a_peer_that_was_still_writing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (served, _) = listener.accept().await.unwrap();
    let serving = tokio::spawn(async move { serve_lines(served).await });
    client
        .write_all(&[&b"quit\n"[..], &[b'x'; 100_000]].concat())
        .await
        .unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"bye\n");
    drop(client);
    assert_eq!(serving.await.unwrap().disconnects.load(Relaxed), 0);
}

#[tokio::test]
async fn what_an_idle_connection_holds_is_given_back() {
    let (_client, stream) = duplex(64);
    let mut connection = Connection {
        stream,
        protocol: Box::new(Lines {
            log: Arc::default(),
            resume_at: None,
            closed: false,
        }),
        link: broker().await.connect(Origin::default()),
        held: &Traffic::default(),
        about: About {
            protocol: "lines",
            peer: "127.0.0.1:1".parse().unwrap(),
        },
        span: None,
        input: BytesMut::new(),
        unread: true,
        events: Vec::new(),
        effects: Effects {
            commands: Vec::with_capacity(100),
            ..Effects::new()
        },
        unflushed: false,
        unheard: false,
        unauthenticated: None,
        idle_at: None,
        alarm: Alarm::default(),
    };
    let start = clock::now();
    connection.handle(start).unwrap();
    connection.settle(start.instant);
    assert_eq!(connection.effects.commands.capacity(), 0);
    assert_eq!(connection.idle_at, None);
    // Where messages pass, more are to be expected.
    let settle = Command::Settle {
        consumer: ConsumerId(1),
        deliveries: DeliveryId(1)..=DeliveryId(1),
        outcome: Outcome::Accept,
    };
    connection.link.submit(&mut vec![settle]).await.unwrap();
    connection.settle(start.instant);
    assert_eq!(connection.idle_at, Some(start.instant + IDLE_AFTER));
    let later = Now {
        instant: start.instant + IDLE_AFTER,
        ..start
    };
    connection.handle(later).unwrap();
    assert_eq!(connection.idle_at, None);
    assert!(!connection.link.is_busy());
}
