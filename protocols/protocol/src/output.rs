//! Bytes on their way to a socket: small frames coalesced, large bodies by reference.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// From this size on a body is queued by reference instead of copied.
const REFERENCE_MIN: usize = 4096;

/// Bytes to write. Frames are encoded straight into [`Output::buffer`]; bodies go through [`Output::body`],
/// which copies small ones and keeps large ones by reference for one vectored write.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    chunked: usize,
}

impl Output {
    /// Nothing to write.
    pub fn new() -> Output {
        Output::default()
    }

    /// Where frames are encoded. Only append.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a body.
    pub fn body(&mut self, body: &Bytes) {
        if body.len() < REFERENCE_MIN {
            self.tail.put_slice(body);
            return;
        }
        self.seal();
        self.chunked += body.len();
        self.chunks.push_back(body.clone());
    }

    /// Bytes not yet written.
    pub fn len(&self) -> usize {
        self.chunked + self.tail.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything as slices for a vectored write, as far as `slices` has room; returns how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let parts = self
            .chunks
            .iter()
            .map(Bytes::as_ref)
            .chain(std::iter::once(self.tail.as_ref()));
        for (slot, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slot = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    /// Takes `written` bytes off the front.
    pub fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.chunks.front_mut() {
            let step = written.min(front.len());
            front.advance(step);
            self.chunked -= step;
            written -= step;
            if !front.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        self.tail.advance(written);
    }

    /// Everything as one run of bytes, for tests.
    pub fn take(&mut self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.len());
        for chunk in self.chunks.drain(..) {
            all.put_slice(&chunk);
        }
        all.put_slice(&self.tail.split());
        self.chunked = 0;
        all.freeze()
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let sealed = self.tail.split().freeze();
            self.chunked += sealed.len();
            self.chunks.push_back(sealed);
        }
    }
}
