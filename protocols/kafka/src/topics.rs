//! Names and ids of topics: which names are legal, and what a connection knows about ids.

use rustc_hash::FxHashMap;
use trivium_core::{LogInfo, Text};

use crate::{error::ErrorCode, wire::Uuid};

const NAME_MAX: usize = 249;

/// Whether a topic can have this name: 1 to 249 of letters, digits, `.`, `_` and `-`, and neither `.` nor `..`.
pub(crate) fn is_legal(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}

/// What is wrong with a name that [`is_legal`] refuses, in the words of Kafka's `Topic.validate`.
pub(crate) fn illegal(name: &str) -> String {
    let shown = name.escape_debug();
    let why = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.len() > NAME_MAX => {
            format!("the length of '{shown}' is longer than the max allowed length {NAME_MAX}")
        }
        _ => format!(
            "'{shown}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ),
    };
    format!("Topic name is invalid: {why}")
}

/// Whether the name is the broker's own: clients neither create nor delete it.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with("__")
}

/// The topic ids that a connection has met.
///
/// Learned from descriptions, and forgotten when the core does not find the log any more. An id may be stale: who
/// uses one says to the core which log is meant, or asks for it again.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    names: FxHashMap<Uuid, Text>,
    ids: FxHashMap<Text, Uuid>,
}

impl Topics {
    /// Remembers the id of a log, in place of an earlier one of the same name.
    pub(crate) fn learn(&mut self, log: &LogInfo) {
        let id = Uuid(log.uuid);
        if self.ids.get(&log.name) == Some(&id) {
            return;
        }
        if let Some(old) = self.ids.insert(log.name.clone(), id) {
            self.names.remove(&old);
        }
        self.names.insert(id, log.name.clone());
    }

    /// Forgets the log of an id, which is not there.
    pub(crate) fn forget_id(&mut self, id: Uuid) {
        if let Some(name) = self.names.remove(&id) {
            self.ids.remove(&name);
        }
    }

    /// Whether this is an id, but not of a log that is known.
    pub(crate) fn lacks(&self, id: Uuid) -> bool {
        !id.is_zero() && !self.names.contains_key(&id)
    }

    /// The name of an id.
    pub(crate) fn name(&self, id: Uuid) -> Option<&Text> {
        self.names.get(&id)
    }

    /// The id of a name, zero when it is not known.
    pub(crate) fn id(&self, name: &Text) -> Uuid {
        self.ids.get(name).copied().unwrap_or_default()
    }

    /// The name that a request means, which has names or, in later versions, ids.
    pub(crate) fn resolve(&self, by_id: bool, name: &Text, id: Uuid) -> Result<Text, ErrorCode> {
        match by_id {
            true => self.name(id).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
            false => Ok(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use trivium_core::{LogId, LogSpec};

    use super::*;

    #[test]
    fn names_are_what_kafka_takes() {
        for legal in ["a", "orders.eu", "A-b_c.0", &"x".repeat(249)] {
            assert!(is_legal(legal), "{legal}");
        }
        for illegal in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(250)] {
            assert!(!is_legal(illegal), "{illegal}");
        }
    }

    #[test]
    fn a_topic_that_is_created_again_has_one_id() {
        let log = |uuid| LogInfo {
            name: "t".into(),
            id: LogId(1),
            uuid: [uuid; 16],
            spec: LogSpec {
                partitions: 1,
                settings: vec![],
            },
        };
        let mut topics = Topics::default();
        topics.learn(&log(1));
        topics.learn(&log(2));
        assert_eq!(topics.name(Uuid([1; 16])), None);
        assert_eq!(topics.name(Uuid([2; 16])), Some(&"t".into()));
        topics.forget_id(Uuid([2; 16]));
        assert!(topics.lacks(Uuid([2; 16])) && !topics.lacks(Uuid::default()));
    }
}
