//! Watches what the broker is running out of: while disk or memory is short, publishers are held back.

use std::{path::PathBuf, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use trivium_core::{Broker, Text};

use crate::{config::Config, metrics, shutdown::Stop};

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(500);

/// What must be left, and what may be used.
#[derive(Clone, Debug)]
pub struct Limits {
    data_dir: PathBuf,
    /// Bytes that must be free where the data directory is; 0 is no limit.
    disk_free: usize,
    /// Bytes of memory that the process may use; 0 is no limit.
    memory: usize,
}

impl Limits {
    /// As configured.
    pub fn new(config: &Config) -> Limits {
        Limits {
            data_dir: config.data_dir.clone(),
            disk_free: config.disk_free_limit.0,
            memory: config.memory_limit.0,
        }
    }

    /// Why publishers are to be held back now, in RabbitMQ's words.
    fn shortage(&self) -> Option<&'static str> {
        let disk = self.disk_free > 0
            && self
                .disk_free()
                .is_some_and(|free| free < self.disk_free as u64);
        let memory = self.memory > 0
            && metrics::resident_bytes().is_some_and(|bytes| bytes > self.memory as f64);
        match (memory, disk) {
            (true, true) => Some("low on memory & disk"),
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (false, false) => None,
        }
    }

    /// `None` where there is no directory, as with a store that is not on this machine.
    fn disk_free(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(&self.data_dir).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// Tells the broker of every change until the server stops.
pub async fn run(limits: Limits, broker: Broker, mut stop: Stop) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.wait() => return,
        }
        let shortage = limits.shortage();
        if shortage == before {
            continue;
        }
        match shortage {
            Some(reason) => warn!(reason, "publishers are held back"),
            None => info!("publishers are let go"),
        }
        broker.block(shortage.map(Text::from_static));
        before = shortage;
    }
}
