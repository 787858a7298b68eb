//! Published messages that the broker has still to acknowledge.

/// A ring of send times by message number.
///
/// Invariant: numbers below `base` are settled, `next` is the next to be sent, and at most
/// `limit` numbers lie between them.
pub struct Window {
    base: u64,
    next: u64,
    limit: u64,
    /// Send time by number modulo the length; 0 is settled.
    sent_ns: Vec<u64>,
}

impl Window {
    /// `limit` is how many messages may wait for their acknowledgement, at least 1.
    pub fn new(limit: u64) -> Window {
        let limit = limit.max(1);
        let slots = usize::try_from(limit)
            .unwrap_or(usize::MAX / 2)
            .next_power_of_two();
        Window {
            base: 0,
            next: 0,
            limit,
            sent_ns: vec![0; slots],
        }
    }

    /// Messages that may be sent now. After the window was full it opens again by quarters, so that
    /// neither side falls into writing message by message.
    pub fn room(&self) -> u64 {
        let room = self.limit - (self.next - self.base);
        if room < (self.limit / 4).max(1) {
            0
        } else {
            room
        }
    }

    pub fn is_empty(&self) -> bool {
        self.base == self.next
    }

    pub fn send(&mut self, sent_ns: u64) {
        let slot = self.slot(self.next);
        self.sent_ns[slot] = sent_ns.max(1);
        self.next += 1;
    }

    /// Settles one message; `None` when it was not waiting.
    pub fn settle(&mut self, number: u64) -> Option<u64> {
        if !(self.base..self.next).contains(&number) {
            return None;
        }
        let slot = self.slot(number);
        let sent_ns = std::mem::take(&mut self.sent_ns[slot]);
        while self.base < self.next && self.sent_ns[self.slot(self.base)] == 0 {
            self.base += 1;
        }
        (sent_ns != 0).then_some(sent_ns)
    }

    /// Settles everything up to and with `number`.
    pub fn settle_through(&mut self, number: u64, mut settled: impl FnMut(u64)) {
        while self.base < self.next && self.base <= number {
            let slot = self.slot(self.base);
            match std::mem::take(&mut self.sent_ns[slot]) {
                0 => {}
                sent_ns => settled(sent_ns),
            }
            self.base += 1;
        }
    }

    /// The first number from `base` on that leaves `rest` when divided by `modulus`: what a packet
    /// identifier, which begins again after 65,535, stands for.
    pub fn number_of(&self, rest: u64, modulus: u64) -> u64 {
        self.base + (rest + modulus - self.base % modulus) % modulus
    }

    fn slot(&self, number: u64) -> usize {
        number as usize & (self.sent_ns.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(limit: u64) -> Window {
        let mut window = Window::new(limit);
        (0..limit).for_each(|number| window.send(100 + number));
        window
    }

    #[test]
    fn a_full_window_opens_when_a_quarter_is_settled() {
        let mut window = filled(8);
        assert_eq!(window.room(), 0);
        assert_eq!(window.settle(0), Some(100));
        assert_eq!(window.room(), 0);
        assert_eq!(window.settle(1), Some(101));
        assert_eq!(window.room(), 2);
    }

    #[test]
    fn acknowledgements_out_of_order_keep_the_slots_until_the_gap_closes() {
        let mut window = filled(4);
        assert_eq!(window.settle(2), Some(102));
        assert_eq!(window.settle(2), None);
        assert_eq!(window.settle(9), None);
        assert_eq!(window.room(), 0);
        let mut times = Vec::new();
        window.settle_through(3, |sent| times.push(sent));
        assert_eq!(times, [100, 101, 103]);
        assert!(window.is_empty());
    }

    #[test]
    fn a_packet_identifier_names_the_waiting_message() {
        let mut window = Window::new(4);
        for _ in 0..70_000u64 {
            window.send(1);
            let last = window.next - 1;
            assert_eq!(window.number_of(last % 65_535, 65_535), last);
            window.settle(last);
        }
    }
}
