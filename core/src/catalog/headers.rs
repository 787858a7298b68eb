//! What a headers exchange compares: the arguments of a binding with the headers of a message.

use super::check::plain;
use crate::properties::{Text, Value};

/// The condition of one binding of a headers exchange.
#[derive(Clone, Debug)]
pub(crate) struct HeaderMatch {
    any: bool,
    wanted: Vec<(Text, Value)>,
}

impl HeaderMatch {
    /// Reads `x-match` (`all` when absent) and the wanted headers; those named `x-…` count only with
    /// `all-with-x` and `any-with-x`.
    pub(crate) fn new(arguments: &[(Text, Value)]) -> Result<HeaderMatch, Text> {
        let (any, with_x) = match arguments
            .iter()
            .find(|(name, _)| name == "x-match")
            .map(|(_, value)| value)
        {
            None => (false, false),
            Some(Value::Text(mode)) => match &**mode {
                "all" => (false, false),
                "any" => (true, false),
                "all-with-x" => (false, true),
                "any-with-x" => (true, true),
                _ => {
                    let text = format!(
                        "Invalid x-match field value \"{mode}\"; expected all, any, all-with-x, or any-with-x"
                    );
                    return Err(text.into());
                }
            },
            Some(other) => {
                let text = format!(
                    "Invalid x-match field type {} (value {}); expected longstr",
                    other.type_name(),
                    plain(other)
                );
                return Err(text.into());
            }
        };
        let counts = |name: &Text| name != "x-match" && (with_x || !name.starts_with("x-"));
        let wanted = arguments
            .iter()
            .filter(|(name, _)| counts(name))
            .cloned()
            .collect();
        Ok(HeaderMatch { any, wanted })
    }

    /// Whether a message with these headers is wanted.
    pub(crate) fn matches(&self, headers: &[(Text, Value)]) -> bool {
        let has = |(name, wanted): &(Text, Value)| {
            headers
                .iter()
                .any(|(n, value)| n == name && agrees(wanted, value))
        };
        if self.any {
            self.wanted.iter().any(has)
        } else {
            self.wanted.iter().all(has)
        }
    }
}

/// An argument without a value asks only that the header is there.
fn agrees(wanted: &Value, value: &Value) -> bool {
    *wanted == Value::Null || same_value(wanted, value)
}

/// Whether two values are the same to a user: numbers of any width, times in seconds, text or bytes.
pub(crate) fn same_value(a: &Value, b: &Value) -> bool {
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (float(a), float(b)) {
        return a == b;
    }
    match (a, b) {
        (Value::Text(text), Value::Bytes(bytes)) | (Value::Bytes(bytes), Value::Text(text)) => {
            text.as_bytes() == bytes
        }
        _ => a == b,
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Timestamp(seconds) => Some((*seconds).into()),
        _ => value.integer().map(i128::from),
    }
}

fn float(value: &Value) -> Option<f64> {
    match *value {
        Value::F32(v) => Some(v.into()),
        Value::F64(v) => Some(v),
        _ => value.integer().map(|v| v as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: &[(&str, Value)], headers: &[(&str, Value)]) -> bool {
        let table = |entries: &[(&str, Value)]| -> Vec<(Text, Value)> {
            entries
                .iter()
                .map(|(name, value)| (Text::from(*name), value.clone()))
                .collect()
        };
        HeaderMatch::new(&table(arguments))
            .unwrap()
            .matches(&table(headers))
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn all_is_the_default() {
        let wanted = [("format", text("pdf")), ("copies", Value::I32(2))];
        assert!(check(
            &wanted,
            &[
                ("copies", Value::I64(2)),
                ("format", text("pdf")),
                ("more", Value::Null)
            ]
        ));
        assert!(!check(&wanted, &[("format", text("pdf"))]));
        assert!(!check(
            &wanted,
            &[("format", text("pdf")), ("copies", Value::I32(3))]
        ));
        assert!(check(&[], &[]));
    }

    #[test]
    fn any_needs_one() {
        let wanted = [
            ("x-match", text("any")),
            ("format", text("pdf")),
            ("copies", Value::I32(2)),
        ];
        assert!(check(&wanted, &[("copies", Value::U8(2))]));
        assert!(check(&wanted, &[("copies", Value::Timestamp(2))]));
        assert!(!check(&wanted, &[("copies", Value::U8(3))]));
        assert!(!check(&[("x-match", text("any"))], &[("a", Value::Null)]));
    }

    #[test]
    fn names_with_x_count_only_when_asked_for() {
        let wanted = |mode| [("x-match", text(mode)), ("x-tenant", text("a"))];
        assert!(check(&wanted("all"), &[]));
        assert!(!check(&wanted("all-with-x"), &[]));
        assert!(check(&wanted("all-with-x"), &[("x-tenant", text("a"))]));
        assert!(!check(&wanted("any"), &[("x-tenant", text("a"))]));
        assert!(check(&wanted("any-with-x"), &[("x-tenant", text("a"))]));
    }

    #[test]
    fn an_argument_without_value_asks_for_presence() {
        assert!(check(
            &[("format", Value::Null)],
            &[("format", Value::Bool(false))]
        ));
        assert!(!check(&[("format", Value::Null)], &[]));
    }

    #[test]
    fn a_wrong_mode_is_refused() {
        let mode = |value| {
            HeaderMatch::new(&[("x-match".into(), value)])
                .unwrap_err()
                .to_string()
        };
        let expected =
            "Invalid x-match field value \"some\"; expected all, any, all-with-x, or any-with-x";
        assert_eq!(mode(text("some")), expected);
        assert_eq!(
            mode(Value::I32(1)),
            "Invalid x-match field type signedint (value 1); expected longstr"
        );
    }
}
