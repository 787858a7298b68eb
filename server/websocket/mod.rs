//! MQTT over WebSocket (MQTT 5 section 6; RFC 6455): a stream of bytes inside binary frames.
//!
//! ```text
//! TcpStream ── handshake ──► WebSocket: AsyncRead + AsyncWrite ──► the connection loop, as over TCP
//! ```
//!
//! Libraries for WebSocket hand out whole messages, and so keep as much memory for a connection as its peer announces.
//! Here nothing waits for the end of a frame: reading takes headers out and unmasks in place, in the buffer of
//! the connection loop; a write is one frame.

pub mod frame;
mod handshake;

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use self::{
    frame::{Control, Decoder, code},
    handshake::Answer,
};
pub use handshake::{Origins, Policy};

/// Bytes of one read at most.
const READ_MAX: usize = 16 << 10;
/// Slices of one frame at most, besides its header.
const SLICES_MAX: usize = 64;

/// Takes the opening handshake. Errors are those of the peer and of the socket.
pub async fn accept<S>(
    mut stream: S,
    policy: &Policy,
    local: SocketAddr,
) -> io::Result<WebSocket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match handshake::answer(&head, policy, local) {
            Answer::Incomplete => head.reserve(1024),
            Answer::Refuse(response) => {
                stream.write_all(response.as_bytes()).await?;
                stream.shutdown().await?;
                let status = response.lines().next().unwrap_or_default().to_owned();
                return Err(io::Error::other(status));
            }
            Answer::Upgrade { response, consumed } => {
                stream.write_all(response.as_bytes()).await?;
                head.drain(..consumed);
                return Ok(WebSocket::new(stream, head));
            }
        }
    }
}

/// The bytes of MQTT inside the frames of a connection.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    decoder: Decoder,
    /// Read with the handshake and not decoded yet.
    early: Vec<u8>,
    /// To be written before anything else: control frames, or the header of the frame that is being written.
    ahead: Vec<u8>,
    /// Payload that the frame that is being written still lacks.
    owed: usize,
    /// The last ping, which is answered between frames.
    ping: Option<Vec<u8>>,
    close: Close,
}

/// How far the closing handshake is (section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    /// Nobody has begun it.
    Open,
    /// The peer began it, or broke the protocol: a close frame with this code is to be written, nothing is read any more.
    Wanted(u16),
    /// We began it, and read on until the peer answers.
    Asked,
    /// Nothing more is read or written.
    Over,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn new(stream: S, early: Vec<u8>) -> WebSocket<S> {
        WebSocket {
            stream,
            decoder: Decoder::default(),
            early,
            ahead: Vec::new(),
            owed: 0,
            ping: None,
            close: Close::Open,
        }
    }

    /// Reads raw bytes into `buffer` and decodes them there; how many bytes of data they held. `None` at the end.
    fn poll_decode(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Option<usize>>> {
        let filled = if self.early.is_empty() {
            let mut raw = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut raw))?;
            raw.filled().len()
        } else {
            let length = self.early.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.early[..length]);
            self.early.drain(..length);
            length
        };
        if filled == 0 {
            return Poll::Ready(Ok(None));
        }
        let decoded = self.decoder.decode(&mut buffer[..filled]);
        match decoded.control {
            Some(Control::Ping(payload)) => self.ping = Some(payload),
            Some(Control::Close(code)) if self.close == Close::Open => {
                self.close = Close::Wanted(code);
            }
            Some(Control::Close(_)) => self.close = Close::Over,
            None => {}
        }
        Poll::Ready(Ok(Some(decoded.data)))
    }

    /// Writes what goes between frames. Ready as well when a frame is under way, which comes first.
    fn poll_between(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.owed > 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(payload) = self.ping.take() {
            frame::put_pong(&payload, &mut self.ahead);
        }
        if let Close::Wanted(code) = self.close {
            frame::put_close(code, &mut self.ahead);
            self.close = Close::Over;
        }
        self.poll_ahead(context)
    }

    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ahead.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.ahead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ahead.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the header that is ahead and as much of the frame's payload as there is, in one call; how much
    /// of the payload was written.
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        payload: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX + 1];
        let mut filled = 0;
        if !self.ahead.is_empty() {
            slices[0] = IoSlice::new(&self.ahead);
            filled = 1;
        }
        let mut left = self.owed;
        for part in payload.iter().take(SLICES_MAX) {
            let length = part.len().min(left);
            slices[filled] = IoSlice::new(&part[..length]);
            left -= length;
            filled += 1;
        }
        let stream = Pin::new(&mut self.stream);
        let written = ready!(stream.poll_write_vectored(context, &slices[..filled]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let header = written.min(self.ahead.len());
        self.ahead.drain(..header);
        self.owed -= written - header;
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
        Poll::Ready(Ok(written - header))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if matches!(self.close, Close::Wanted(_) | Close::Over) {
                // The answer is best effort: with a frame under way there is no place for it.
                ready!(self.poll_between(context))?;
                return Poll::Ready(Ok(()));
            }
            // Pongs must not keep what has come from being read.
            if let Poll::Ready(Err(error)) = self.poll_between(context) {
                return Poll::Ready(Err(error));
            }
            let room = buffer.remaining().min(READ_MAX);
            let raw = buffer.initialize_unfilled_to(room);
            match ready!(self.poll_decode(context, raw))? {
                None => return Poll::Ready(Ok(())),
                Some(0) => {}
                Some(data) => {
                    buffer.advance(data);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// What is written while a frame lacks payload must be the bytes that it was begun for, as with any stream that
    /// took a part of a write.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = slices
            .iter()
            .take(SLICES_MAX)
            .map(|slice| slice.len())
            .sum::<usize>();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if self.owed == 0 {
            ready!(self.poll_between(context))?;
            if self.close != Close::Open {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let mut header = std::mem::take(&mut self.ahead);
            frame::put_binary_header(total, &mut header);
            self.ahead = header;
            self.owed = total;
        }
        loop {
            match ready!(self.poll_frame(context, slices))? {
                0 if !self.ahead.is_empty() => {}
                written => return Poll::Ready(Ok(written)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.close == Close::Open && self.owed == 0 {
            frame::put_close(code::NORMAL, &mut self.ahead);
            self.close = Close::Asked;
        }
        ready!(self.poll_between(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
