//! The read buffer of a connection: frames are read where they lie.

/// One read fills at most this; a longer frame makes the buffer grow to hold it.
const READ_BYTES: usize = 256 * 1024;

pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub fn new() -> Inbox {
        Inbox {
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
        }
    }

    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
    }

    /// Space for the next read; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        &mut self.buffer[self.end..]
    }

    pub fn filled(&mut self, count: usize) {
        self.end += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_frame_moves_to_the_front_and_the_buffer_grows_for_it() {
        let mut inbox = Inbox::new();
        inbox.room()[..4].copy_from_slice(b"abcd");
        inbox.filled(4);
        inbox.consume(3);
        assert_eq!(inbox.unread(), b"d");
        let room = inbox.room();
        assert_eq!(room.len(), READ_BYTES - 1);
        inbox.filled(READ_BYTES - 1);
        assert_eq!(inbox.room().len(), READ_BYTES);
        assert_eq!(inbox.unread()[0], b'd');
    }
}
