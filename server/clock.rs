//! The one place where the program reads its clocks.

use std::time::{Duration, Instant, SystemTime};

use trivium_core::{Now, Timestamp};

/// Both clocks, read once per turn of a connection.
#[allow(
    clippy::disallowed_methods,
    reason = "this is where time is passed in from"
)]
pub fn now() -> Now {
    Now {
        instant: Instant::now(),
        wall: Timestamp(since_epoch(SystemTime::now()).as_millis() as u64),
    }
}

/// The wall clock, in nanoseconds since the Unix epoch.
#[allow(
    clippy::disallowed_methods,
    reason = "this is where time is passed in from"
)]
pub fn nanoseconds() -> u64 {
    since_epoch(SystemTime::now()).as_nanos() as u64
}

/// A clock that was never set reads as the epoch.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
