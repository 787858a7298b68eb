//! Typed header values as the bytes or text of a protocol that has no types, and back by the types that `mq.types` lists.
//!
//! `mq.types` is `name:tag` joined by commas; tags are AMQP's field letters and strings need none. What is nested is
//! JSON, and the types inside are listed by path: `x-death[0].time:T`. A name is percent-escaped where it holds a
//! comma, colon or percent sign, and a nested one also where it holds what a path is made of.

use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use serde_json::{Map, Value as Json};

use crate::properties::{Text, Value};

/// Deeper values are left as the text that they are.
const NESTING_MAX: usize = 32;
/// What a list is made of, and what a path is.
const IN_LISTS: &[char] = &['%', ',', ':'];
const IN_PATHS: &[char] = &['%', ',', ':', '.', '[', ']'];

/// The types of one value: its own tag, and those of what is nested, by path.
#[derive(Debug, Default)]
pub struct TypeTags(Vec<(String, char)>);

impl TypeTags {
    /// Appends them to a list under construction.
    pub fn write(&self, name: &str, list: &mut String) {
        let name = escaped(name, IN_LISTS);
        for (path, tag) in &self.0 {
            let separator = if list.is_empty() { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(list, "{separator}{name}{path}:{tag}");
        }
    }
}

/// The bytes of a header value, none for null, and what is to be said about its types.
pub fn to_bytes(value: &Value) -> (Option<Bytes>, TypeTags) {
    let mut tags = TypeTags::default();
    if let Some(tag) = tag(value).filter(|tag| *tag != 'V') {
        tags.0.push((String::new(), tag));
    }
    let bytes = match value {
        Value::Null => return (None, tags),
        Value::Text(text) => text.clone().into_bytes(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Array(_) | Value::Table(_) => json(value, "", 0, &mut tags).to_string().into(),
        scalar => scalar_text(scalar).into(),
    };
    (Some(bytes), tags)
}

/// The text of a header value where headers are texts, and what is to be said about its types: bytes are base64 and
/// null is empty.
pub fn to_text(value: &Value) -> (String, TypeTags) {
    let (bytes, mut tags) = to_bytes(value);
    let text = match (value, bytes) {
        (_, None) => {
            tags.0.push((String::new(), 'V'));
            String::new()
        }
        (Value::Bytes(bytes), _) => BASE64.encode(bytes),
        (_, Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
    };
    (text, tags)
}

/// The AMQP field letter of what is not text.
fn tag(value: &Value) -> Option<char> {
    Some(match value {
        Value::Text(_) => return None,
        Value::Null => 'V',
        Value::Bool(_) => 't',
        Value::I8(_) => 'b',
        Value::U8(_) => 'B',
        Value::I16(_) => 's',
        Value::U16(_) => 'u',
        Value::I32(_) => 'I',
        Value::U32(_) => 'i',
        Value::I64(_) => 'l',
        Value::F32(_) => 'f',
        Value::F64(_) => 'd',
        Value::Decimal(..) => 'D',
        Value::Bytes(_) => 'x',
        Value::Timestamp(_) => 'T',
        Value::Array(_) => 'A',
        Value::Table(_) => 'F',
    })
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::Bool(v) => v.to_string(),
        Value::I8(v) => v.to_string(),
        Value::U8(v) => v.to_string(),
        Value::I16(v) => v.to_string(),
        Value::U16(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::Timestamp(v) => v.to_string(),
        Value::Decimal(scale, unscaled) => decimal_text(*scale, *unscaled),
        Value::Null | Value::Text(_) | Value::Bytes(_) | Value::Array(_) | Value::Table(_) => {
            String::new()
        }
    }
}

fn decimal_text(scale: u8, unscaled: i32) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

fn decimal(text: &str) -> Option<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let unscaled = format!("{whole}{fraction}").parse().ok()?;
    Some(Value::Decimal(fraction.len().try_into().ok()?, unscaled))
}

/// Numbers are JSON numbers, bytes are base64; of a name that comes twice in a nested table the last counts.
fn json(value: &Value, path: &str, depth: usize, tags: &mut TypeTags) -> Json {
    if depth > NESTING_MAX {
        return Json::Null;
    }
    let mut nested = |value: &Value, step: String| {
        let path = format!("{path}{step}");
        tags.0.extend(tag(value).map(|tag| (path.clone(), tag)));
        json(value, &path, depth + 1, tags)
    };
    match value {
        Value::Null => Json::Null,
        Value::Text(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => Json::String(BASE64.encode(bytes)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| nested(item, format!("[{at}]")))
            .collect(),
        Value::Table(entries) => {
            let entries = entries.iter().map(|(name, value)| {
                let json = nested(value, format!(".{}", escaped(name, IN_PATHS)));
                (name.to_string(), json)
            });
            Json::Object(entries.collect::<Map<_, _>>())
        }
        Value::Bool(v) => Json::Bool(*v),
        Value::F32(v) if v.is_finite() => Json::from(*v),
        Value::F64(v) if v.is_finite() => Json::from(*v),
        Value::I8(_)
        | Value::U8(_)
        | Value::I16(_)
        | Value::U16(_)
        | Value::I32(_)
        | Value::U32(_)
        | Value::I64(_)
        | Value::Timestamp(_) => scalar_text(value).parse().map_or(Json::Null, Json::Number),
        scalar => Json::String(scalar_text(scalar)),
    }
}

/// A parsed `mq.types`.
#[derive(Debug, Default)]
pub struct Types<'a>(HashMap<&'a str, char>);

impl<'a> Types<'a> {
    /// Reads a list; what makes no sense in it is left out.
    pub fn parse(list: &'a str) -> Types<'a> {
        let entries = list.split(',').filter_map(|entry| {
            let (path, tag) = entry.rsplit_once(':')?;
            let mut letters = tag.chars();
            let tag = letters.next().filter(|_| letters.next().is_none())?;
            Some((path, tag))
        });
        Types(entries.collect())
    }

    /// The value of a header. What does not fit its type is text, or bytes where it is not UTF-8.
    pub fn value(&self, name: &str, bytes: Option<Bytes>) -> Value {
        let Some(bytes) = bytes else {
            return Value::Null;
        };
        let path = escaped(name, IN_LISTS);
        let typed = match self.0.get(&*path) {
            Some('x') => return Value::Bytes(bytes),
            Some(tag @ ('A' | 'F')) => {
                let json = serde_json::from_slice(&bytes).ok();
                json.and_then(|json| self.nested(&json, &path, Some(*tag)))
            }
            Some(tag) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| scalar(*tag, text)),
            None => None,
        };
        typed.unwrap_or_else(|| match Text::try_from(bytes.clone()) {
            Ok(text) => Value::Text(text),
            Err(_) => Value::Bytes(bytes),
        })
    }

    /// The value of a header that [`to_text`] wrote. What does not fit its type stays text.
    pub fn value_of_text(&self, name: &str, text: &Text) -> Value {
        match self.0.get(&*escaped(name, IN_LISTS)) {
            Some('V') if text.is_empty() => Value::Null,
            Some('x') => match BASE64.decode(&**text) {
                Ok(bytes) => Value::Bytes(bytes.into()),
                Err(_) => Value::Text(text.clone()),
            },
            _ => self.value(name, Some(text.as_bytes().clone())),
        }
    }

    fn nested(&self, json: &Json, path: &str, tag: Option<char>) -> Option<Value> {
        let at = |json: &Json, path: String| {
            let tag = self.0.get(&*path).copied();
            self.nested(json, &path, tag)
        };
        Some(match (json, tag) {
            (Json::Null, _) => Value::Null,
            (Json::Array(items), _) => {
                let items = items
                    .iter()
                    .enumerate()
                    .map(|(n, item)| at(item, format!("{path}[{n}]")));
                Value::Array(items.collect::<Option<_>>()?)
            }
            (Json::Object(entries), _) => {
                let entries = entries.iter().map(|(name, item)| {
                    Some((
                        Text::from(name.as_str()),
                        at(item, format!("{path}.{}", escaped(name, IN_PATHS)))?,
                    ))
                });
                Value::Table(entries.collect::<Option<_>>()?)
            }
            (Json::String(text), Some('x')) => Value::Bytes(BASE64.decode(text).ok()?.into()),
            (Json::String(text), None) => Value::Text(text.as_str().into()),
            (Json::String(text), Some(tag)) => scalar(tag, text)?,
            (other, Some(tag)) => scalar(tag, &other.to_string())?,
            (Json::Bool(v), None) => Value::Bool(*v),
            (Json::Number(v), None) => v
                .as_i64()
                .map_or_else(|| v.as_f64().map(Value::F64), |v| Some(Value::I64(v)))?,
        })
    }
}

fn scalar(tag: char, text: &str) -> Option<Value> {
    Some(match tag {
        't' => Value::Bool(text.parse().ok()?),
        'b' => Value::I8(text.parse().ok()?),
        'B' => Value::U8(text.parse().ok()?),
        's' => Value::I16(text.parse().ok()?),
        'u' => Value::U16(text.parse().ok()?),
        'I' => Value::I32(text.parse().ok()?),
        'i' => Value::U32(text.parse().ok()?),
        'l' | 'L' => Value::I64(text.parse().ok()?),
        'f' => Value::F32(text.parse().ok()?),
        'd' => Value::F64(text.parse().ok()?),
        'D' => decimal(text)?,
        'T' => Value::Timestamp(text.parse().ok()?),
        _ => return None,
    })
}

fn escaped<'a>(name: &'a str, special: &[char]) -> Cow<'a, str> {
    if !name.contains(special) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 8);
    for character in name.chars() {
        match special.contains(&character) {
            // Writing to a string does not fail.
            true => drop(write!(out, "%{:02X}", character as u32)),
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(name: &str, value: &Value) -> (String, String) {
        let (bytes, tags) = to_bytes(value);
        let mut types = String::new();
        tags.write(name, &mut types);
        (
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned(),
            types,
        )
    }

    fn shown(text: &str, types: &str) -> (String, String) {
        (text.into(), types.into())
    }

    #[test]
    fn scalars_are_text_with_a_tag() {
        assert_eq!(list("n", &Value::I32(-5)), shown("-5", "n:I"));
        assert_eq!(list("b", &Value::Bool(true)), shown("true", "b:t"));
        assert_eq!(list("t", &Value::Timestamp(9)), shown("9", "t:T"));
        assert_eq!(list("d", &Value::Decimal(2, -5)), shown("-0.05", "d:D"));
        assert_eq!(list("app.x", &Value::I64(1)), shown("1", "app.x:l"));
        assert_eq!(list("a:b,c", &Value::I64(1)), shown("1", "a%3Ab%2Cc:l"));
        assert_eq!(list("s", &Value::Text("x".into())), shown("x", ""));
        assert!(to_bytes(&Value::Null).0.is_none());
    }

    #[test]
    fn what_is_nested_is_json_with_types_by_path() {
        let death = Value::Array(vec![Value::Table(vec![
            ("count".into(), Value::I64(2)),
            ("queue".into(), Value::Text("q".into())),
            ("time".into(), Value::Timestamp(8)),
            (
                "raw".into(),
                Value::Bytes(Bytes::from_static(b"\xff\x00\x01\x02")),
            ),
        ])]);
        let (text, types) = list("x-death", &death);
        assert_eq!(
            text,
            r#"[{"count":2,"queue":"q","raw":"/wABAg==","time":8}]"#
        );
        let expected =
            "x-death:A,x-death[0]:F,x-death[0].count:l,x-death[0].time:T,x-death[0].raw:x";
        assert_eq!(types, expected);
    }

    #[test]
    fn numbers_are_never_guessed_and_wrong_types_do_no_harm() {
        let types = Types::parse("a:I,b:?,c,d:xx,:,e:A");
        for (name, text) in [
            ("z", "12"),
            ("a", "twelve"),
            ("b", "1"),
            ("c", "1"),
            ("d", "1"),
            ("e", "[1,"),
        ] {
            assert_eq!(
                types.value(name, Some(text.into())),
                Value::Text(text.into()),
                "{name}"
            );
        }
        assert_eq!(
            types.value("z", Some(Bytes::from_static(b"\xff"))),
            Value::Bytes(Bytes::from_static(b"\xff"))
        );
        assert_eq!(types.value("z", None), Value::Null);
    }

    #[test]
    fn hostile_nesting_is_bounded() {
        let deep = "[".repeat(100_000);
        assert_eq!(
            Types::parse("a:A").value("a", Some(deep.clone().into())),
            Value::Text(deep.into())
        );
        let mut value = Value::Null;
        for _ in 0..100 {
            value = Value::Array(vec![value]);
        }
        assert!(to_bytes(&value).0.unwrap().len() < 100);
    }

    fn scalar_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::I8),
            any::<u8>().prop_map(Value::U8),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::Timestamp),
            (-1e30_f32..1e30).prop_map(Value::F32),
            (-1e300_f64..1e300).prop_map(Value::F64),
            (0..20_u8, -2_000_000_000..2_000_000_000_i32)
                .prop_map(|(scale, unscaled)| Value::Decimal(scale, unscaled)),
            "[ -~é]{0,8}".prop_map(|text| Value::Text(text.into())),
            proptest::collection::vec(any::<u8>(), 0..8)
                .prop_map(|bytes| Value::Bytes(bytes.into())),
            Just(Value::Null),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        scalar_value().prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map("[a-c.:,%\\[\\]]{0,3}", inner, 0..4).prop_map(
                    |entries| {
                        Value::Table(
                            entries
                                .into_iter()
                                .map(|(name, value)| (name.into(), value))
                                .collect(),
                        )
                    }
                ),
            ]
        })
    }

    proptest! {
        /// Every value comes back as it was, whatever its type.
        #[test]
        fn values_survive(value in value(), name in "[a-z:,%]{1,4}") {
            let (bytes, tags) = to_bytes(&value);
            let mut types = String::new();
            tags.write(&name, &mut types);
            prop_assert_eq!(Types::parse(&types).value(&name, bytes), value.clone());

            let (text, tags) = to_text(&value);
            let mut types = String::new();
            tags.write(&name, &mut types);
            prop_assert_eq!(Types::parse(&types).value_of_text(&name, &text.into()), value);
        }
    }
}
