//! What a user may do in a vhost: patterns on names, for each kind of operation (RabbitMQ's access control).

use std::{borrow::Cow, fmt};

use regex::Regex;

use crate::{
    event::{Kind, Refusal},
    properties::Text,
};

/// Bytes of a pattern at most, compiled. What it may cost to match follows from the length of a name.
const COMPILED_MAX: usize = 1 << 20;

/// What the default exchange is called where permissions are concerned.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// Creating, changing, deleting.
    Configure,
    /// Sending messages to it.
    Write,
    /// Taking messages from it.
    Read,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Configure => "configure",
            Operation::Write => "write",
            Operation::Read => "read",
        })
    }
}

/// Patterns on the names in a vhost, as an administrator wrote them. An empty one matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// For declaring and deleting.
    pub configure: Text,
    /// For publishing and for being bound to.
    pub write: Text,
    /// For consuming and for being bound from.
    pub read: Text,
}

/// Patterns on the routing keys of one topic exchange. `{username}`, `{vhost}` and `{client_id}` stand for the
/// connection's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicPermission {
    /// For publishing.
    pub write: Text,
    /// For binding.
    pub read: Text,
}

/// A pattern, ready to match.
#[derive(Clone, Debug)]
enum Names {
    All,
    Some(Regex),
}

impl Names {
    fn new(pattern: &str) -> Result<Names, Text> {
        match pattern {
            ".*" | "^.*$" | "^.*" | ".*$" => Ok(Names::All),
            "" => compile("^$").map(Names::Some),
            pattern => compile(pattern).map(Names::Some),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Names::All => true,
            Names::Some(pattern) => pattern.is_match(name),
        }
    }
}

/// A pattern of an administrator's, as in permissions and policies: found anywhere in a name unless anchored.
pub(crate) fn compile(pattern: &str) -> Result<Regex, Text> {
    regex::RegexBuilder::new(pattern)
        .size_limit(COMPILED_MAX)
        .build()
        .map_err(|error| format!("'{pattern}' is not a regular expression: {error}").into())
}

/// A [`Permission`], ready to match.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) patterns: Permission,
    configure: Names,
    write: Names,
    read: Names,
}

impl Granted {
    pub(crate) fn new(patterns: Permission) -> Result<Granted, Text> {
        Ok(Granted {
            configure: Names::new(&patterns.configure)?,
            write: Names::new(&patterns.write)?,
            read: Names::new(&patterns.read)?,
            patterns,
        })
    }

    pub(crate) fn allows(&self, operation: Operation, name: &str) -> bool {
        let name = if name.is_empty() {
            DEFAULT_EXCHANGE
        } else {
            name
        };
        self.names(operation).matches(name)
    }

    /// Whether every name is allowed, so that there is nothing to remember.
    pub(crate) fn allows_all(&self, operation: Operation) -> bool {
        matches!(self.names(operation), Names::All)
    }

    fn names(&self, operation: Operation) -> &Names {
        match operation {
            Operation::Configure => &self.configure,
            Operation::Write => &self.write,
            Operation::Read => &self.read,
        }
    }
}

/// Who asks about a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) user: &'a str,
    pub(crate) vhost: &'a str,
    pub(crate) client: &'a str,
}

/// A [`TopicPermission`], ready to match where it is the same for all connections.
#[derive(Clone, Debug)]
pub(crate) struct GrantedTopics {
    pub(crate) patterns: TopicPermission,
    write: Option<Names>,
    read: Option<Names>,
}

impl GrantedTopics {
    pub(crate) fn new(patterns: TopicPermission) -> Result<GrantedTopics, Text> {
        let constant = |pattern: &str| {
            let sample = Asker {
                user: "u",
                vhost: "v",
                client: "c",
            };
            let names = Names::new(&expand(pattern, sample))?;
            Ok::<_, Text>((expand(pattern, sample) == pattern).then_some(names))
        };
        Ok(GrantedTopics {
            write: constant(&patterns.write)?,
            read: constant(&patterns.read)?,
            patterns,
        })
    }

    pub(crate) fn allows(&self, operation: Operation, by: Asker<'_>, key: &str) -> bool {
        let (names, pattern) = match operation {
            Operation::Write => (&self.write, &self.patterns.write),
            Operation::Read => (&self.read, &self.patterns.read),
            Operation::Configure => return true,
        };
        match names {
            Some(names) => names.matches(key),
            // It was checked with other names; these are literal in it, so it still is a pattern.
            None => Names::new(&expand(pattern, by)).is_ok_and(|names| names.matches(key)),
        }
    }
}

/// The pattern with its variables filled in, each as literal text: a client's name is never a pattern.
fn expand<'p>(pattern: &'p str, by: Asker<'_>) -> Cow<'p, str> {
    if !pattern.contains('{') {
        return Cow::Borrowed(pattern);
    }
    let expanded = [
        ("{username}", by.user),
        ("{vhost}", by.vhost),
        ("{client_id}", by.client),
    ];
    let mut rest = pattern;
    let mut filled = String::with_capacity(pattern.len());
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        let variable = expanded.iter().find(|(name, _)| from.starts_with(name));
        match variable {
            Some((name, value)) => {
                filled.push_str(&regex::escape(value));
                rest = &from[name.len()..];
            }
            None => {
                filled.push('{');
                rest = &from[1..];
            }
        }
    }
    filled.push_str(rest);
    Cow::Owned(filled)
}

/// The text of a refusal, which clients match on.
pub(crate) fn refused(
    operation: Operation,
    kind: Kind,
    name: &str,
    vhost: &str,
    user: &str,
) -> Refusal {
    let name = match (kind, name) {
        (Kind::Exchange, "") => DEFAULT_EXCHANGE,
        (_, name) => name,
    };
    let text = format!(
        "{operation} access to {kind} '{name}' in vhost '{vhost}' refused for user '{user}'"
    );
    Refusal::Denied(text.into())
}

/// The same for a routing key.
pub(crate) fn topic_refused(
    operation: Operation,
    by: Asker<'_>,
    exchange: &str,
    key: &str,
) -> Refusal {
    let Asker { user, vhost, .. } = by;
    let text = format!(
        "{operation} access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'"
    );
    Refusal::Denied(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(configure: &str, write: &str, read: &str) -> Granted {
        Granted::new(Permission {
            configure: configure.into(),
            write: write.into(),
            read: read.into(),
        })
        .unwrap()
    }

    #[test]
    fn patterns_are_found_anywhere_unless_anchored() {
        let granted = granted("", "orders", "^orders$|^amq.default$");
        assert!(granted.allows(Operation::Write, "old-orders-eu"));
        assert!(!granted.allows(Operation::Write, "invoices"));
        assert!(granted.allows(Operation::Read, "orders"));
        assert!(!granted.allows(Operation::Read, "orders2"));
        assert!(granted.allows(Operation::Read, ""), "the default exchange");
        assert!(!granted.allows(Operation::Configure, "a"));
        assert!(!granted.allows_all(Operation::Read));
    }

    #[test]
    fn a_variable_is_never_a_pattern() {
        let topics = GrantedTopics::new(TopicPermission {
            write: "^{username}\\.{client_id}\\..{1,3}$".into(),
            read: ".*".into(),
        })
        .unwrap();
        let by = |user| Asker {
            user,
            vhost: "/",
            client: "c+",
        };
        assert!(topics.allows(Operation::Write, by("ada"), "ada.c+.x"));
        assert!(!topics.allows(Operation::Write, by("ada"), "ada.ccc.x"));
        assert!(!topics.allows(Operation::Write, by(".*"), "ada.c+.x"));
        assert!(topics.allows(Operation::Read, by("ada"), "anything"));
    }

    #[test]
    fn a_wrong_pattern_is_refused() {
        assert!(compile("a(b").is_err());
        assert!(compile("a{1000}{1000}{1000}").is_err(), "too large");
    }
}
