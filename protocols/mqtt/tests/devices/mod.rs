//! Devices that follow the rules of MQTT and have bad luck, against a broker over memory: connections lost at any byte,
//! acknowledgements in any order, time that passes, a crash of the broker, a stranger who sends anything. Each device
//! remembers what the specification has a client remember, and a ledger knows what must come of it.
//!
//! The same world is driven by seeds (`model_devices.rs`) and by a fuzzer (`fuzz/fuzz_targets/devices.rs`).
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "a test may panic, and each of its drivers uses its own part"
)]

mod connection;
mod device;
mod ledger;
mod stranger;
mod world;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use trivium_core::{Now, Timestamp};

thread_local! {
    /// How far this thread's clocks are ahead. A world has a thread of its own.
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Makes the time pass.
fn advance(time: Duration) {
    AHEAD.set(AHEAD.get() + time);
}

#[allow(clippy::disallowed_methods, reason = "a test is a server to the core")]
fn now() -> Now {
    let wall = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        + AHEAD.get();
    Now {
        instant: Instant::now() + AHEAD.get(),
        wall: Timestamp(wall.as_millis() as u64),
    }
}

/// What is left to chance.
pub enum Chance<'a> {
    /// As deterministic as the seed.
    Dice(u64),
    /// As a fuzzer has it; nothing but 0 at the end.
    Script(&'a [u8]),
}

impl Chance<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        match self {
            Chance::Dice(state) => {
                *state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (*state >> 33) % limit
            }
            Chance::Script(bytes) => match bytes.split_first() {
                Some((first, rest)) => {
                    *bytes = rest;
                    u64::from(*first) % limit
                }
                None => 0,
            },
        }
    }

    fn is(&mut self, of: u64) -> bool {
        self.below(of) == 1
    }

    fn of<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len() as u64) as usize]
    }

    fn is_over(&self) -> bool {
        matches!(self, Chance::Script([]))
    }

    /// Some of so many bytes: all, or any number.
    fn part(&mut self, length: usize) -> usize {
        match self.below(4) {
            0 => self.below(length as u64 + 1) as usize,
            _ => length,
        }
    }
}

/// Plays one story of at most so many steps.
pub fn play(chance: Chance<'_>, steps: usize) {
    AHEAD.set(Duration::ZERO);
    let mut world = world::World::new(chance);
    for _ in 0..steps {
        if !world.step() {
            break;
        }
    }
    world.end();
}
