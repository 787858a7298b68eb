//! Who may connect. Users come from the configuration so far: `guest`, from the loopback only, and one more.

use std::hint::black_box;

use crate::{command::Credentials, event::Refusal, properties::Text};

/// Who acts where nobody has to say.
const GUEST: &str = "guest";

/// The users.
#[derive(Clone)]
pub(crate) struct Access {
    user: Option<(Text, Text)>,
}

impl Access {
    /// `guest` and, from anywhere, the given user with its password. When that one is named `guest` too,
    /// it takes the other's place.
    pub(crate) fn new(user: Option<(Text, Text)>) -> Access {
        Access { user }
    }

    /// The user that these credentials prove.
    pub(crate) fn authenticate(&self, credentials: &Credentials) -> Result<Text, Refusal> {
        match credentials {
            Credentials::Anonymous { loopback: true } => Ok(GUEST.into()),
            Credentials::Anonymous { loopback: false } => Err(Refusal::LoginRefused),
            Credentials::Password {
                user,
                password,
                loopback,
            } => {
                let expected = self.password(user, *loopback);
                // A user that is not there takes as long as a wrong password.
                let same = same_bytes(expected.unwrap_or_default().as_bytes(), password);
                if expected.is_some() && same {
                    Ok(user.clone())
                } else {
                    Err(Refusal::LoginRefused)
                }
            }
        }
    }

    fn password(&self, user: &str, loopback: bool) -> Option<&str> {
        match &self.user {
            Some((name, password)) if name == user => Some(password),
            _ if user == GUEST && loopback => Some(GUEST),
            _ => None,
        }
    }
}

/// Compares in a time that depends on the length of what was `offered` only.
fn same_bytes(expected: &[u8], offered: &[u8]) -> bool {
    let mut difference = expected.len() ^ offered.len();
    for (i, byte) in offered.iter().enumerate() {
        let other = expected.get(i).copied().unwrap_or_default();
        difference = black_box(difference | usize::from(byte ^ other));
    }
    difference == 0
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
        access.authenticate(&Credentials::Password {
            user: user.into(),
            password: password.into(),
            loopback,
        })
    }

    #[test]
    fn guest_comes_from_the_loopback_only() {
        let access = Access::new(None);
        assert_eq!(login(&access, "guest", "guest", true), Ok("guest".into()));
        assert_eq!(
            login(&access, "guest", "guest", false),
            Err(Refusal::LoginRefused)
        );
        assert_eq!(
            login(&access, "guest", "gues", true),
            Err(Refusal::LoginRefused)
        );
        assert_eq!(
            login(&access, "guest", "guestguest", true),
            Err(Refusal::LoginRefused)
        );
        assert_eq!(login(&access, "", "", true), Err(Refusal::LoginRefused));
        assert_eq!(
            access.authenticate(&Credentials::Anonymous { loopback: true }),
            Ok("guest".into())
        );
        assert_eq!(
            access.authenticate(&Credentials::Anonymous { loopback: false }),
            Err(Refusal::LoginRefused)
        );
    }

    #[test]
    fn the_configured_user_comes_from_anywhere() {
        let access = Access::new(Some(("ada".into(), "lovelace".into())));
        assert_eq!(login(&access, "ada", "lovelace", false), Ok("ada".into()));
        assert_eq!(login(&access, "ada", "", false), Err(Refusal::LoginRefused));
        assert_eq!(login(&access, "guest", "guest", true), Ok("guest".into()));
    }

    #[test]
    fn a_configured_guest_replaces_the_well_known_password() {
        let access = Access::new(Some(("guest".into(), "secret".into())));
        assert_eq!(
            login(&access, "guest", "guest", true),
            Err(Refusal::LoginRefused)
        );
        assert_eq!(login(&access, "guest", "secret", false), Ok("guest".into()));
    }
}
