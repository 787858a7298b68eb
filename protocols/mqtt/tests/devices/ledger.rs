//! What must come of everything that was published.

use std::collections::{BTreeMap, BTreeSet};

use trivium_mqtt::packet::Qos;

/// A message of a device.
#[derive(Clone, Debug)]
pub struct Message {
    pub publisher: usize,
    pub topic: &'static str,
    pub qos: Qos,
    /// When it was first sent, in steps.
    pub sent: u64,
    /// Whether it was sent again, which makes it another message at QoS 1.
    pub again: bool,
}

/// What must come of a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Never,
    Once,
    /// Nobody knows whether the broker had it.
    AtMostOnce,
}

/// What was published, and what of it has come to whom.
#[derive(Default)]
pub struct Ledger {
    pub messages: BTreeMap<String, Message>,
    /// Acknowledged, for the group, and not received by a member.
    pub group_requires: BTreeSet<String>,
    /// Received by a member of the group.
    pub group_seen: BTreeSet<String>,
    /// Received at QoS 2 by a member of the group.
    pub group_once: BTreeSet<String>,
    /// Of the wills that are decided.
    pub wills: BTreeMap<String, Fate>,
    /// How often each will came.
    pub wills_seen: BTreeMap<String, u32>,
}

impl Ledger {
    /// A will has come to the one who watches for wills.
    pub fn will_came(&mut self, text: &str) {
        let count = self.wills_seen.entry(text.to_owned()).or_default();
        *count += 1;
        assert_eq!(*count, 1, "{text} comes twice");
        let fate = self.wills.get(text);
        assert_ne!(fate, Some(&Fate::Never), "{text} was cancelled");
    }

    pub fn decide(&mut self, will: &str, fate: Fate) {
        let came = self.wills_seen.contains_key(will);
        assert!(
            fate != Fate::Never || !came,
            "{will} was cancelled and came"
        );
        self.wills.insert(will.to_owned(), fate);
    }

    /// The broker has crashed: what it had not yet published may be lost. Nobody waits for DISCONNECT, so a power cut
    /// may undo it.
    pub fn forgive_wills(&mut self, power: bool) {
        for (will, fate) in &mut self.wills {
            let forgiven = *fate == Fate::Once || *fate == Fate::Never && power;
            if forgiven && !self.wills_seen.contains_key(will) {
                *fate = Fate::AtMostOnce;
            }
        }
    }

    /// Wills that are still to come.
    pub fn missing_wills(&self) -> Vec<&String> {
        let due = self.wills.iter().filter(|(_, fate)| **fate == Fate::Once);
        let missing = due.filter(|(will, _)| !self.wills_seen.contains_key(*will));
        missing.map(|(will, _)| will).collect()
    }
}
