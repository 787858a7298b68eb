//! Bodies that several queues share: stored once, in one chunk per publisher's turn.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;

use crate::store::{
    Batch, Table, keys,
    messages::{self, BodyReference},
};

/// The shared bodies of one turn of a publisher.
///
/// Whichever queue first stores a reference to it writes it too; all queues of the turn are in one
/// storage batch, so the others may rely on it.
#[derive(Debug)]
pub(crate) struct BodyChunk {
    number: u64,
    /// Set at the end of the publisher's turn, before any shard sees it.
    bodies: OnceLock<Vec<Bytes>>,
    written: AtomicBool,
}

impl BodyChunk {
    pub(crate) fn new(number: u64) -> BodyChunk {
        BodyChunk {
            number,
            bodies: OnceLock::new(),
            written: AtomicBool::new(false),
        }
    }

    /// Completes the chunk.
    pub(crate) fn fill(&self, bodies: Vec<Bytes>) {
        let filled = self.bodies.set(bodies);
        debug_assert!(filled.is_ok(), "a chunk is filled once");
    }

    /// Where a body of this chunk is.
    pub(crate) fn reference(&self, index: u32) -> BodyReference {
        BodyReference {
            number: self.number,
            index,
        }
    }

    /// Puts the chunk into the batch, unless it is in one already.
    pub(crate) fn write(&self, batch: &mut Batch) {
        if !self.written.swap(true, Ordering::Relaxed) {
            let bodies = self
                .bodies
                .get()
                .expect("a chunk is filled before a shard sees it");
            batch.put(
                Table::Bodies,
                keys::body_chunk(self.number),
                messages::encode_bodies(bodies),
            );
        }
    }
}
