//! The connection loop, for every [`Protocol`].
//!
//! ```text
//!        ┌──────────────────────────── turn ────────────────────────────┐
//!  wait ─┤ events, timeout, whole frames ──► one submit ──► one write   ├─► wait
//!        └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! `wait` writes, reads, receives and watches the clock at once, so a peer that only writes or only
//! reads stalls nobody. What is kept for a peer is bounded: input is read only while the backlog of
//! output is below [`BACKLOG_MAX`] and the front end wants it, and deliveries are bounded by the link's
//! window, which [`Link::flushed`] opens again.

mod alarm;
mod block;
mod spare;

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::SocketAddr,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tracing::{Span, debug, info, info_span};
use trivium_core::{Event, Link, Now, Reply, Stopped};
use trivium_protocol::{CloseReason, Effects, Output, Protocol};

use self::alarm::Alarm;
use crate::{clock, traffic::Traffic};

/// Input is not read while more output than this is unwritten.
const BACKLOG_MAX: usize = 1 << 20;
/// Input that may be waiting for its end before the peer has proved who it is.
const UNAUTHENTICATED_INPUT_MAX: usize = 128 << 10;
/// How long a peer may take to prove who it is.
const UNAUTHENTICATED_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a peer may take to read the last words, and then to close its side.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a connection through which messages pass is silent before it rests.
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// Slices of one vectored write.
const SLICES_MAX: usize = 64;

/// Serves one connection to its end. `held` counts its traffic, and is dropped at the end.
///
/// Everything is in the future from the start and nothing is moved, because ten thousand idle connections are ten
/// thousand of these futures: what is rare is in boxes.
pub fn serve<S, T>(
    stream: S,
    protocol: Box<dyn Protocol>,
    link: Link,
    about: About,
    held: T,
) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: Deref<Target = Traffic>,
{
    let mut connection = Connection {
        stream,
        protocol,
        link,
        held,
        about,
        span: None,
        input: BytesMut::new(),
        unread: false,
        events: Vec::new(),
        effects: Effects::new(),
        unflushed: false,
        unheard: false,
        unauthenticated: Some(clock::now().instant + UNAUTHENTICATED_TIME_MAX),
        idle_at: None,
        alarm: Alarm::default(),
    };
    async move {
        let end = connection.turns().await.err().unwrap_or(End::Closed);
        Box::pin(connection.end(end)).await;
    }
}

/// What log lines say about a connection.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The listener's name.
    pub protocol: &'static str,
    /// Whom the connection is with.
    pub peer: SocketAddr,
}

impl About {
    fn span(&self) -> Span {
        info_span!("connection", protocol = self.protocol, peer = %self.peer)
    }
}

struct Connection<S, T> {
    stream: S,
    protocol: Box<dyn Protocol>,
    link: Link,
    held: T,
    about: About,
    /// Entered while the front end is at work; `None` while the connection is idle.
    span: Option<Box<Span>>,
    /// Read and not yet taken by the front end.
    input: BytesMut,
    /// Whether `input` holds bytes that the front end has not been shown.
    unread: bool,
    /// Received and not yet shown to the front end; empty between turns.
    events: Vec<Event>,
    /// What the front end wants done; the commands are empty between turns.
    effects: Effects,
    /// Whether there was something to write, or events that might have led to it, since the link last heard that all
    /// of it was written.
    unflushed: bool,
    /// Whether a subscriber had to catch up with what the peer publishes when it was last looked.
    unheard: bool,
    /// Until when the peer must have authenticated; `None` once it has.
    unauthenticated: Option<Instant>,
    /// When it rests, if nothing comes before.
    idle_at: Option<Instant>,
    alarm: Alarm,
}

/// Why there are no more turns.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed")]
    Closed,
    #[error("peer closed the connection")]
    Eof,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Front(CloseReason),
    #[error("{0}")]
    Stopped(#[from] Stopped),
}

impl From<CloseReason> for End {
    fn from(reason: CloseReason) -> End {
        End::Front(reason)
    }
}

impl<S, T> Connection<S, T>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: Deref<Target = Traffic>,
{
    async fn turns(&mut self) -> Result<(), End> {
        while !self.protocol.is_closed() {
            self.wait().await?;
            let began = self.begin()?;
            self.submit().await?;
            self.flush().await?;
            self.settle(began);
        }
        Ok(())
    }

    /// Waits until there is something to do: input, events, a timeout, or room for more input because
    /// the backlog is written.
    async fn wait(&mut self) -> Result<(), End> {
        poll_fn(|context| self.poll_wait(context)).await
    }

    fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let reads = self.wants_input();
        if reads && self.unread {
            return Poll::Ready(Ok(()));
        }
        let mut woken = !self.effects.output.is_empty()
            && poll_write(
                &mut self.stream,
                &mut self.effects.output,
                &self.held,
                context,
            )?
            .is_ready();
        if reads
            && let Poll::Ready(count) =
                block::poll_read(&mut self.stream, &mut self.input, context)?
        {
            if count == 0 {
                return Poll::Ready(Err(End::Eof));
            }
            self.held.receive(count);
            self.unread = true;
            woken = true;
        }
        woken |= self.link.poll_receive(&mut self.events, context).is_ready();
        let deadlines = [
            self.protocol.next_timeout(),
            self.unauthenticated,
            self.idle_at,
            self.link.held_until(),
        ];
        let alarm_at = deadlines.into_iter().flatten().min();
        woken |= self.alarm.poll(alarm_at, context).is_ready();
        if woken {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Begins a turn, and tells when.
    fn begin(&mut self) -> Result<Instant, End> {
        let now = clock::now();
        self.handle(now)?;
        Ok(now.instant)
    }

    /// Shows the front end what came: events first, because they may be what it waits for.
    fn handle(&mut self, now: Now) -> Result<(), End> {
        self.notice_holds(now);
        if self.idle_at.is_some_and(|at| at <= now.instant) {
            if !self.is_quiet() {
                self.idle_at = Some(now.instant + IDLE_AFTER);
            } else {
                self.rest();
                if !self.is_due(now) {
                    return Ok(());
                }
            }
        }
        spare::take(&mut self.effects);
        let about = self.about;
        let span = self.span.get_or_insert_with(|| Box::new(about.span()));
        let span = Span::clone(span);
        let _entered = span.enter();
        // What cannot be sent to the peer is done with, too: it takes no room on the way.
        self.unflushed |= !self.events.is_empty();
        for event in self.events.drain(..) {
            if is_authentication(&event) {
                self.unauthenticated = None;
            }
            self.protocol.handle_event(now, event, &mut self.effects)?;
        }
        if self
            .protocol
            .next_timeout()
            .is_some_and(|at| at <= now.instant)
        {
            self.protocol.handle_timeout(now, &mut self.effects)?;
        }
        // One more request may have an answer of megabytes, so input that is here waits as well
        // while the peer does not read.
        if self.unread && self.wants_input() && !self.protocol.is_closed() {
            self.protocol
                .handle_input(now, &mut self.input, &mut self.effects)?;
            // What a front end leaves behind when it stops wanting input is shown to it again.
            self.unread = !self.protocol.wants_input() && !self.input.is_empty();
            block::give_back(&mut self.input);
        }
        // The log keeps memory for as many spans as there ever were at once, and this turn may wait among thousands.
        if !self.link.is_busy() {
            self.span = None;
        }
        self.check_stranger(now)
    }

    /// What a peer says that is held back is not heard, so it is not to be taken for dead.
    fn notice_holds(&mut self, now: Now) {
        self.unheard |= self.link.held_until().is_some();
        if self.unheard {
            self.protocol.was_unheard(now);
            self.link.waited(now.instant);
            self.unheard = self.link.held_until().is_some();
        }
    }

    async fn submit(&mut self) -> Result<(), Stopped> {
        if self.effects.commands.is_empty() {
            return Ok(());
        }
        self.link.submit(&mut self.effects.commands).await
    }

    /// Writes what the socket takes without waiting; `wait` writes the rest.
    async fn flush(&mut self) -> Result<(), End> {
        if !self.effects.output.is_empty() {
            self.unflushed = true;
            let Connection {
                stream,
                effects,
                held: traffic,
                ..
            } = self;
            poll_fn(
                |context| match poll_write(stream, &mut effects.output, traffic, context) {
                    Poll::Pending => Poll::Ready(Ok(())),
                    written => written,
                },
            )
            .await?;
        }
        if self.unflushed && self.effects.output.is_empty() {
            self.unflushed = false;
            self.link.flushed().await?;
        }
        Ok(())
    }

    fn wants_input(&self) -> bool {
        self.effects.output.len() < BACKLOG_MAX
            && self.link.held_until().is_none()
            && self.protocol.wants_input()
    }

    /// A peer that has not said who it is gets little memory and little time.
    fn check_stranger(&self, now: Now) -> Result<(), End> {
        let too_much = self.input.len() > UNAUTHENTICATED_INPUT_MAX;
        match self.unauthenticated {
            Some(_) if too_much => {
                Err(CloseReason::Protocol("too much input before authentication".into()).into())
            }
            Some(at) if at <= now.instant => {
                Err(CloseReason::Timeout("not authenticated in time".into()).into())
            }
            _ => Ok(()),
        }
    }

    /// After a turn: what a connection keeps between two turns is little, so that ten thousand idle ones cost little.
    /// Where messages pass, what speeds them up is kept until a second has brought nothing.
    fn settle(&mut self, now: Instant) {
        if !self.effects.output.is_empty() {
            return;
        }
        spare::give_back(&mut self.effects);
        if self.link.is_busy() {
            self.idle_at = Some(now + IDLE_AFTER);
        } else if self.protocol.wants_input() {
            self.rest();
        }
    }

    /// Gives back what is made anew when it is needed.
    fn rest(&mut self) {
        self.idle_at = None;
        self.events = Vec::new();
        self.span = None;
        self.link.rest();
        self.protocol.rest();
    }

    /// Whether the turn has brought nothing.
    fn is_quiet(&self) -> bool {
        self.events.is_empty() && !self.unread && self.effects.output.is_empty()
    }

    /// Whether a deadline has passed.
    fn is_due(&self, now: Now) -> bool {
        let deadlines = [self.protocol.next_timeout(), self.unauthenticated];
        deadlines.into_iter().flatten().any(|at| at <= now.instant)
    }

    async fn end(mut self, end: End) {
        let span = self
            .span
            .take()
            .map_or_else(|| self.about.span(), |span| *span);
        debug!(parent: &span, %end, "connection ended");
        match end {
            End::Closed => return self.farewell().await,
            End::Front(reason) => info!(parent: &span, %reason, "connection closed"),
            End::Eof | End::Io(_) | End::Stopped(_) => {}
        }
        if !self.protocol.is_closed() {
            let now = clock::now();
            span.in_scope(|| self.protocol.handle_disconnect(now, &mut self.effects));
            let _ = self.submit().await;
        }
    }

    /// Sends the last words and waits for the peer to close: closing a socket with unread input would
    /// take them away from a peer that has not read them yet.
    async fn farewell(self) {
        let Connection {
            mut stream,
            link,
            held,
            mut effects,
            ..
        } = self;
        drop(link);
        let last_words = async {
            poll_fn(|context| poll_write(&mut stream, &mut effects.output, &held, context)).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(FAREWELL_TIME_MAX, last_words).await;
    }
}

/// Ready once everything is written.
fn poll_write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    output: &mut Output,
    traffic: &Traffic,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !output.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = output.slices(&mut slices);
        let written =
            ready!(Pin::new(&mut *stream).poll_write_vectored(context, &slices[..filled]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        traffic.send(written);
        output.advance(written);
    }
    Poll::Ready(Ok(()))
}

fn is_authentication(event: &Event) -> bool {
    matches!(
        event,
        Event::Done {
            result: Ok(Reply::Authenticated { .. }),
            ..
        }
    )
}

#[cfg(test)]
mod tests;
