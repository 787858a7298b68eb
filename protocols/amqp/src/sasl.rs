//! Credentials out of the response to connection.start (section 1.4.2.3), by SASL mechanism.

use bytes::Bytes;
use trivium_core::{Credentials, Text, Value};

use crate::{
    error::{Error, ReplyCode},
    field_table,
};

/// What connection.start offers.
pub fn mechanisms(anonymous: bool) -> &'static str {
    if anonymous {
        "PLAIN AMQPLAIN ANONYMOUS"
    } else {
        "PLAIN AMQPLAIN"
    }
}

/// Reads the response of a mechanism.
pub fn credentials(
    mechanism: &str,
    response: &Bytes,
    loopback: bool,
    anonymous: bool,
) -> Result<Credentials, Error> {
    let read = match mechanism {
        // RFC 4505: the response is a trace that nobody needs.
        "ANONYMOUS" if anonymous => return Ok(Credentials::Anonymous { loopback }),
        "PLAIN" => plain(response),
        "AMQPLAIN" => amqplain(response),
        unknown => {
            let text = format!("unknown authentication mechanism '{unknown}'");
            return Err(Error::connection(ReplyCode::CommandInvalid, text));
        }
    };
    let (user, password) = read.ok_or_else(|| {
        Error::connection(
            ReplyCode::SyntaxError,
            format!("invalid {mechanism} response"),
        )
    })?;
    Ok(Credentials::Password {
        user,
        password,
        loopback,
    })
}

/// RFC 4616: authorization identity (not used), NUL, user, NUL, password.
fn plain(response: &Bytes) -> Option<(Text, Bytes)> {
    let mut parts = response.split(|byte| *byte == 0);
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    match parts.next() {
        Some(_) => None,
        None => Some((
            Text::try_from(response.slice_ref(user)).ok()?,
            response.slice_ref(password),
        )),
    }
}

/// A field table without its length: `LOGIN` and `PASSWORD`.
fn amqplain(response: &Bytes) -> Option<(Text, Bytes)> {
    let table = field_table::decode(response).ok()?;
    let field = |wanted: &str| {
        table
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value)
    };
    match (field("LOGIN")?, field("PASSWORD")?) {
        (Value::Text(user), Value::Text(password)) => {
            Some((user.clone(), password.as_bytes().clone()))
        }
        (Value::Text(user), Value::Bytes(password)) => Some((user.clone(), password.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mechanism: &str, response: &'static [u8]) -> Option<(String, Vec<u8>)> {
        match credentials(mechanism, &Bytes::from_static(response), true, false) {
            Ok(Credentials::Password { user, password, .. }) => {
                Some((user.to_string(), password.to_vec()))
            }
            _ => None,
        }
    }

    #[test]
    fn both_mechanisms_give_user_and_password() {
        let guest = Some(("guest".to_owned(), b"secret".to_vec()));
        assert_eq!(read("PLAIN", b"\0guest\0secret"), guest);
        assert_eq!(read("PLAIN", b"admin\0guest\0secret"), guest);
        assert_eq!(
            read(
                "AMQPLAIN",
                b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x06secret"
            ),
            guest
        );
    }

    #[test]
    fn anonymous_is_what_the_operator_allows() {
        let offered = |anonymous| credentials("ANONYMOUS", &Bytes::new(), true, anonymous);
        assert!(matches!(
            offered(true),
            Ok(Credentials::Anonymous { loopback: true })
        ));
        assert!(offered(false).is_err());
        assert!(!mechanisms(false).contains("ANONYMOUS"));
    }

    #[test]
    fn anything_else_is_refused() {
        for response in [&b""[..], b"guest", b"\0guest", b"\0a\0b\0c", b"\0\xff\0b"] {
            assert_eq!(read("PLAIN", response), None);
        }
        assert_eq!(read("AMQPLAIN", b"\x05LOGINS\0\0\0\x05guest"), None);
        assert_eq!(read("EXTERNAL", b""), None);
    }
}
