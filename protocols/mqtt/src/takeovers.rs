//! Clients that take one session from each other again and again: two devices with the same identifier, each of
//! which connects anew as soon as it is thrown out. They are made to wait, or they would keep the broker busy.

use std::{
    collections::hash_map::Entry,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use trivium_core::Text;

/// Takeovers in a row from which on the next client waits.
const MANY: u32 = 5;

/// After so long without another, one takeover fewer counts.
const FADES: Duration = Duration::from_secs(2);

/// How long a client waits.
const WAIT: Duration = Duration::from_secs(1);

/// Client identifiers that are watched at once.
const CLIENTS_MAX: usize = 4096;

/// Who was taken over lately.
#[derive(Debug, Default)]
pub(crate) struct Takeovers {
    clients: Mutex<FxHashMap<Text, Count>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    takeovers: u32,
    last: Instant,
}

impl Count {
    fn at(self, now: Instant) -> u32 {
        let quiet = now.saturating_duration_since(self.last);
        let faded = quiet.as_millis() / FADES.as_millis();
        self.takeovers
            .saturating_sub(u32::try_from(faded).unwrap_or(u32::MAX))
    }
}

impl Takeovers {
    /// A connection has lost its session to another of the same client.
    pub(crate) fn note(&self, client: &Text, now: Instant) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX {
            clients.retain(|_, count| count.at(now) > 0);
        }
        let full = clients.len() >= CLIENTS_MAX;
        match clients.entry(client.clone()) {
            Entry::Occupied(mut entry) => {
                let takeovers = entry.get().at(now).saturating_add(1).min(MANY);
                entry.insert(Count {
                    takeovers,
                    last: now,
                });
            }
            Entry::Vacant(entry) if !full => {
                entry.insert(Count {
                    takeovers: 1,
                    last: now,
                });
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Until when a client that connects now has to wait.
    pub(crate) fn wait(&self, client: &Text, now: Instant) -> Option<Instant> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let count = clients.get(client)?;
        (count.at(now) >= MANY).then(|| now + WAIT)
    }
}
