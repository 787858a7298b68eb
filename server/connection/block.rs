//! Where bytes are read into: one block of memory per worker thread, filled from end to end by whatever
//! connections it serves.
//!
//! An idle connection holds no read buffer, and a small message that is kept as a slice of what was read
//! shares its block with its neighbours instead of pinning one of its own.

use std::{
    cell::Cell,
    future::Future,
    io, mem,
    pin::pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of a block; about what a socket holds, and small enough to stay in cache.
const BLOCK: usize = 128 << 10;
/// A block with less room than this is not read into any more.
const ROOM_MIN: usize = 16 << 10;
/// An unfinished frame up to this size is copied out of the block and back; a longer one keeps its memory.
const CARRY_MAX: usize = 4 << 10;
/// A frame that is longer than a block grows by its own length, and at most by this.
const GROWTH_MAX: usize = 1 << 20;

thread_local! {
    /// The rest of this thread's block; empty while a connection uses it.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Reads behind what `input` holds; 0 is the end of the stream.
pub(super) fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if input.len() > CARRY_MAX {
        input.reserve(input.len().clamp(ROOM_MIN, GROWTH_MAX));
        return pin!(stream.read_buf(input)).poll(context);
    }
    let mut block = SPARE.take();
    if block.capacity() < input.len() + ROOM_MIN {
        block.reserve(BLOCK);
    }
    block.extend_from_slice(input);
    let read = pin!(stream.read_buf(&mut block)).poll(context);
    match read {
        Poll::Ready(Ok(1..)) => *input = block,
        _ => put_back(block),
    }
    read
}

/// Returns the rest of a block to its thread, once the front end has taken what it could.
pub(super) fn give_back(input: &mut BytesMut) {
    if input.len() <= CARRY_MAX {
        let carry = BytesMut::from(&input[..]);
        put_back(mem::replace(input, carry));
    }
}

fn put_back(mut block: BytesMut) {
    block.clear();
    let other = SPARE.take();
    let roomier = if other.capacity() > block.capacity() {
        other
    } else {
        block
    };
    // What grew for a long frame is not kept.
    if roomier.capacity() <= 2 * BLOCK {
        SPARE.set(roomier);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Buf;

    use super::*;

    async fn read(mut bytes: &[u8], input: &mut BytesMut) {
        poll_fn(|context| poll_read(&mut bytes, input, context))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn connections_of_a_thread_share_a_block() {
        let (mut one, mut two) = (BytesMut::new(), BytesMut::new());
        read(b"first", &mut one).await;
        let kept = one.split().freeze();
        give_back(&mut one);
        read(b"second", &mut two).await;
        assert_eq!(two.as_ptr() as usize, kept.as_ptr() as usize + kept.len());
        assert_eq!((&kept[..], &two[..]), (&b"first"[..], &b"second"[..]));
    }

    #[tokio::test]
    async fn an_unfinished_frame_stays_with_its_connection() {
        let (mut one, mut two) = (BytesMut::new(), BytesMut::new());
        read(b"done|begun", &mut one).await;
        one.advance(5);
        give_back(&mut one);
        read(b"other", &mut two).await;
        give_back(&mut two);
        read(b" and ended", &mut one).await;
        assert_eq!(&one[..], b"begun and ended");
        assert_eq!(&two[..], b"other");
    }

    #[tokio::test]
    async fn a_long_frame_is_read_into_memory_of_its_own() {
        let long = vec![7; 3 * BLOCK];
        let (mut rest, mut input) = (&long[..], BytesMut::new());
        while !rest.is_empty() {
            poll_fn(|context| poll_read(&mut rest, &mut input, context))
                .await
                .unwrap();
            give_back(&mut input);
        }
        assert_eq!(input, long);
        input.clear();
        give_back(&mut input);
        assert!(SPARE.take().capacity() <= 2 * BLOCK);
    }

    #[tokio::test]
    async fn the_end_of_a_stream_leaves_what_was_unfinished() {
        let mut input = BytesMut::from("begun");
        let end = poll_fn(|context| poll_read(&mut &b""[..], &mut input, context)).await;
        assert_eq!(end.unwrap(), 0);
        assert_eq!(input, "begun");
    }
}
