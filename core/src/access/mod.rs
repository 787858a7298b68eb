//! Who somebody is and what they may do: users with their proofs, permissions on names, permissions on topics.
//!
//! One [`Access`] is part of every snapshot of routes; whoever checks keeps it and remembers what it allowed
//! ([`Permits`]), so that a publish costs no look at a pattern.

mod password;
mod permission;
mod permits;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use imbl::OrdMap;

use self::permission::{refused, topic_refused};
pub(crate) use self::{
    password::Scram,
    permission::{Asker, Granted, GrantedTopics, Operation, compile},
    permits::Permits,
};
pub use self::{
    password::{HashAlgorithm, PasswordHash, ScramHash, ScramKeys},
    permission::{Permission, TopicPermission},
};
use crate::{
    command::Credentials,
    event::{Kind, Refusal},
    properties::Text,
};

/// Who acts where nobody has to say; from the loopback only, unless the configuration names it.
pub(crate) const GUEST: &str = "guest";

/// The salt of what is kept of `guest`'s well-known password: nothing is to be hidden.
const GUEST_SALT: &[u8; 16] = b"guestguestguest.";

static GUEST_SCRAM: LazyLock<Scram> =
    LazyLock::new(|| Scram::with_salt(GUEST_SALT, GUEST.as_bytes()));

/// A user.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// Unique in the broker.
    pub name: Text,
    /// Without one, no password is right.
    pub password: Option<PasswordHash>,
    /// `administrator`, `monitoring`, `policymaker`, `management`, `impersonator` mean something to the broker.
    pub tags: Vec<Text>,
    /// `max-connections` and `max-channels`; negative is no limit.
    pub limits: Vec<(Text, i64)>,
    /// Known only if the password was set in plain.
    pub(crate) scram: Option<Arc<Scram>>,
}

impl User {
    /// A user with a password.
    pub(crate) fn with_password(name: Text, password: &[u8], tags: Vec<Text>) -> User {
        User {
            name,
            password: Some(PasswordHash::of(password)),
            tags,
            limits: Vec::new(),
            scram: Some(Arc::new(Scram::of(password))),
        }
    }

    /// `guest`, as every new broker has it.
    pub(crate) fn guest() -> User {
        User {
            name: GUEST.into(),
            password: Some(PasswordHash::with_salt(&GUEST_SALT[..4], GUEST.as_bytes())),
            tags: vec!["administrator".into()],
            limits: Vec::new(),
            scram: None,
        }
    }

    /// Whether the user has a tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// The value of a limit, if there is one that limits.
    pub(crate) fn limit(&self, name: &str) -> Option<u64> {
        limit(&self.limits, name)
    }

    fn has_well_known_password(&self) -> bool {
        self.name == GUEST && *self == User::guest()
    }
}

/// The value of a limit, if there is one that limits.
pub(crate) fn limit(limits: &[(Text, i64)], name: &str) -> Option<u64> {
    let found = limits.iter().find(|(known, _)| known == name);
    found.and_then(|(_, value)| u64::try_from(*value).ok())
}

/// Permissions on topics by exchange.
type Topics = BTreeMap<Text, GrantedTopics>;

/// Everything about users.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    users: OrdMap<Text, Arc<User>>,
    /// By vhost and user.
    granted: OrdMap<(Text, Text), Arc<Granted>>,
    /// By vhost and user.
    topics: OrdMap<(Text, Text), Arc<Topics>>,
    /// The configuration names `guest`, so it is a user like any other.
    guest_from_anywhere: bool,
}

impl Access {
    /// The user that these credentials prove.
    pub(crate) fn authenticate(&self, credentials: &Credentials) -> Result<Arc<User>, Refusal> {
        match credentials {
            Credentials::Anonymous { loopback } => {
                let guest = self.users.get(GUEST).filter(|_| *loopback);
                guest.cloned().ok_or(Refusal::LoginRefused)
            }
            Credentials::Proven { user, loopback } => {
                let found = self.users.get(user);
                found
                    .filter(|_| self.may_come(user, *loopback))
                    .cloned()
                    .ok_or(Refusal::LoginRefused)
            }
            Credentials::Password {
                user,
                password,
                loopback,
            } => {
                let found = self.users.get(user);
                // A user that is not there takes as long as a wrong password.
                let hash = found.and_then(|user| user.password.clone());
                let known = hash.is_some() && !password.is_empty();
                let hash = hash.unwrap_or_else(|| PasswordHash::with_salt(&[0; 4], b""));
                let right = hash.verify(password) && known && self.may_come(user, *loopback);
                found
                    .filter(|_| right)
                    .cloned()
                    .ok_or(Refusal::LoginRefused)
            }
        }
    }

    /// Whether a user may connect from where the peer is.
    pub(crate) fn may_come(&self, user: &str, loopback: bool) -> bool {
        loopback || user != GUEST || self.guest_from_anywhere
    }

    /// What is known of a user's password for SCRAM. `None` when there is no such user, or when its password was
    /// imported as a hash.
    pub(crate) fn scram(&self, user: &str, hash: ScramHash) -> Option<ScramKeys> {
        let user = self.users.get(user)?;
        match &user.scram {
            Some(scram) => Some(scram.keys(hash).clone()),
            None if user.has_well_known_password() => Some(GUEST_SCRAM.keys(hash).clone()),
            None => None,
        }
    }

    pub(crate) fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// All users, by name.
    pub(crate) fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    pub(crate) fn has_tag(&self, user: &str, tag: &str) -> bool {
        self.user(user).is_some_and(|user| user.has_tag(tag))
    }

    /// The value of a user's limit, if there is one that limits.
    pub(crate) fn user_limit(&self, user: &str, name: &str) -> Option<u64> {
        self.user(user)?.limit(name)
    }

    /// All permissions: vhost, user and what is granted.
    pub(crate) fn permissions(&self) -> impl Iterator<Item = (&Text, &Text, &Permission)> {
        self.granted
            .iter()
            .map(|((vhost, user), granted)| (vhost, user, &granted.patterns))
    }

    /// All permissions on topics: vhost, user, exchange and what is granted.
    pub(crate) fn topic_permissions(
        &self,
    ) -> impl Iterator<Item = (&Text, &Text, &Text, &TopicPermission)> {
        self.topics.iter().flat_map(|((vhost, user), topics)| {
            topics
                .iter()
                .map(move |(exchange, granted)| (vhost, user, exchange, &granted.patterns))
        })
    }

    pub(crate) fn put_user(&mut self, user: User) {
        self.users.insert(user.name.clone(), Arc::new(user));
    }

    pub(crate) fn remove_user(&mut self, name: &str) -> bool {
        self.users.remove(name).is_some()
    }

    pub(crate) fn grant(&mut self, vhost: Text, user: Text, granted: Granted) {
        self.granted.insert((vhost, user), Arc::new(granted));
    }

    pub(crate) fn revoke(&mut self, vhost: &Text, user: &Text) -> bool {
        let key = (vhost.clone(), user.clone());
        self.granted.remove(&key).is_some()
    }

    pub(crate) fn grant_topics(
        &mut self,
        vhost: Text,
        user: Text,
        exchange: Text,
        granted: GrantedTopics,
    ) {
        let topics = self.topics.entry((vhost, user)).or_default();
        Arc::make_mut(topics).insert(exchange, granted);
    }

    pub(crate) fn revoke_topics(&mut self, vhost: &Text, user: &Text, exchange: &str) -> bool {
        let key = (vhost.clone(), user.clone());
        let Some(topics) = self.topics.get_mut(&key) else {
            return false;
        };
        let existed = Arc::make_mut(topics).remove(exchange).is_some();
        if topics.is_empty() {
            self.topics.remove(&key);
        }
        existed
    }

    pub(crate) fn let_guest_come_from_anywhere(&mut self) {
        self.guest_from_anywhere = true;
    }

    /// Whether `guest` still has the password that everybody knows.
    pub(crate) fn guest_is_well_known(&self) -> bool {
        self.user(GUEST)
            .is_some_and(|guest| guest.has_well_known_password())
    }

    pub(crate) fn granted(&self, vhost: &Text, user: &Text) -> Option<&Arc<Granted>> {
        self.granted.get(&(vhost.clone(), user.clone()))
    }

    fn topics(&self, vhost: &Text, user: &Text) -> Option<&Arc<Topics>> {
        self.topics.get(&(vhost.clone(), user.clone()))
    }

    /// Whether a user may enter a vhost.
    pub(crate) fn check_vhost(&self, vhost: &Text, user: &Text) -> Result<(), Refusal> {
        if self.granted(vhost, user).is_some() {
            return Ok(());
        }
        let text = format!("access to vhost '{vhost}' refused for user '{user}'");
        Err(Refusal::NotAllowed(text.into()))
    }

    /// Whether a user may do something with what has that name.
    pub(crate) fn check(
        &self,
        vhost: &Text,
        user: &Text,
        operation: Operation,
        kind: Kind,
        name: &str,
    ) -> Result<(), Refusal> {
        match self.granted(vhost, user) {
            Some(granted) if granted.allows(operation, name) => Ok(()),
            _ => Err(refused(operation, kind, name, vhost, user)),
        }
    }

    /// Whether a connection may use a routing key of a topic exchange. Without a permission on the exchange's
    /// topics, it may use all.
    pub(crate) fn check_topic(
        &self,
        vhost: &Text,
        user: &Text,
        client: &str,
        operation: Operation,
        exchange: &str,
        key: &str,
    ) -> Result<(), Refusal> {
        match self.topics(vhost, user) {
            None => Ok(()),
            Some(topics) => {
                let by = Asker {
                    user,
                    vhost,
                    client,
                };
                check_topic(topics, by, operation, exchange, key)
            }
        }
    }
}

fn check_topic(
    topics: &Topics,
    by: Asker<'_>,
    operation: Operation,
    exchange: &str,
    key: &str,
) -> Result<(), Refusal> {
    match topics.get(exchange) {
        Some(granted) if !granted.allows(operation, by, key) => {
            Err(topic_refused(operation, by, exchange, key))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(
        access: &Access,
        user: &str,
        password: &'static str,
        loopback: bool,
    ) -> Result<Text, Refusal> {
        let credentials = Credentials::Password {
            user: user.into(),
            password: password.into(),
            loopback,
        };
        access
            .authenticate(&credentials)
            .map(|user| user.name.clone())
    }

    fn access() -> Access {
        let mut access = Access::default();
        access.put_user(User::guest());
        access
    }

    #[test]
    fn guest_comes_from_the_loopback_only() {
        let access = access();
        assert_eq!(login(&access, "guest", "guest", true), Ok("guest".into()));
        for (user, password, loopback) in [
            ("guest", "guest", false),
            ("guest", "gues", true),
            ("guest", "guestguest", true),
            ("guest", "", true),
            ("", "", true),
            ("nobody", "", true),
        ] {
            let refused = login(&access, user, password, loopback);
            assert_eq!(refused, Err(Refusal::LoginRefused), "{user}/{password}");
        }
        let anonymous = |loopback| access.authenticate(&Credentials::Anonymous { loopback });
        assert!(anonymous(true).is_ok_and(|user| user.name == "guest"));
        assert_eq!(anonymous(false), Err(Refusal::LoginRefused));
    }

    #[test]
    fn a_user_without_password_has_no_right_one() {
        let mut access = access();
        let nobody = User {
            name: "x509".into(),
            password: None,
            ..User::guest()
        };
        access.put_user(nobody);
        assert_eq!(login(&access, "x509", "", true), Err(Refusal::LoginRefused));
        assert_eq!(
            login(&access, "x509", "guest", true),
            Err(Refusal::LoginRefused)
        );
    }

    #[test]
    fn scram_keys_are_there_for_passwords_that_were_set_in_plain() {
        let mut access = access();
        access.put_user(User::with_password("ada".into(), b"lovelace", Vec::new()));
        let hashed = User {
            name: "bob".into(),
            scram: None,
            ..User::with_password("bob".into(), b"x", Vec::new())
        };
        access.put_user(hashed);
        assert!(access.scram("ada", ScramHash::Sha512).is_some());
        assert!(access.scram("guest", ScramHash::Sha256).is_some());
        assert_eq!(access.scram("bob", ScramHash::Sha256), None);
        assert_eq!(access.scram("eve", ScramHash::Sha256), None);
    }
}
