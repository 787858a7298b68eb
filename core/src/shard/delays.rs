//! What a shard does for delayed exchanges.

use super::{Op, Shard, Turn, confirm};
use crate::id::ConnectionId;

impl Shard {
    pub(super) fn apply_delay(&mut self, from: ConnectionId, op: Op, turn: &mut Turn) {
        match op {
            Op::Delay(arrival) => {
                let token = arrival.token;
                self.delays.put(*arrival, turn.now.wall, &mut turn.batch);
                confirm(from, token, turn);
            }
            Op::Moved(ready) => self.delays.moved(&ready, &mut turn.batch),
            Op::CreateDelay(entry) => self.delays.add(entry, true),
            Op::RemoveDelay(id) => self.delays.remove(id, &mut turn.batch),
            Op::DelayedRead { read, found } => self.delays.loaded(&read, found),
            _ => {}
        }
    }
}
