//! Typed header values as the bytes or text of a protocol that has no types, and back by the types that `mq.types` lists.
//!
//! `mq.types` is `name:tag` joined by commas; tags are AMQP's field letters and strings need none. What is nested is
//! JSON, and the types inside are listed by path: `x-death[0].time:T`. A name is percent-escaped where it holds a
//! comma, colon or percent sign, and one that is nested, or beside nested ones, also where it holds what a path is made of.
//! Where a name stands more than once and not all of its values are strings, each of them is listed, in order, with the
//! tag `S` for a string.

mod json;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use self::json::Json;
use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;

use crate::properties::{Text, Value};

/// The tag of a string, which needs none but beside others of its name.
const TEXT: char = 'S';
/// Deeper values are left as the text that they are.
const NESTING_MAX: usize = 32;
/// What a list is made of, and what a path is.
const IN_LISTS: &[char] = &['%', ',', ':'];
const IN_PATHS: &[char] = &['%', ',', ':', '.', '[', ']'];

/// The types of one value: its own tag, and those of what is nested, by path.
#[derive(Debug, Default)]
pub struct TypeTags(Vec<(String, char)>);

/// A `mq.types` under construction.
#[derive(Debug)]
pub struct TypeList {
    text: String,
    /// What is escaped in the names of headers.
    special: &'static [char],
    /// Names of several values that are not all texts.
    mixed: HashSet<Text>,
}

impl TypeList {
    /// An empty list for these headers. Beside nested ones a name with a dot would look like a path.
    pub fn of(headers: &[(Text, Value)]) -> TypeList {
        let is_nested = |value: &Value| matches!(value, Value::Array(_) | Value::Table(_));
        TypeList {
            text: String::new(),
            special: match headers.iter().any(|(_, value)| is_nested(value)) {
                true => IN_PATHS,
                false => IN_LISTS,
            },
            mixed: mixed(headers),
        }
    }

    /// Appends the types of the next header.
    pub fn add(&mut self, name: &str, TypeTags(tags): &TypeTags) {
        let is_untagged = tags.first().is_none_or(|(path, _)| !path.is_empty());
        let text = (is_untagged && self.mixed.contains(name)).then_some(("", TEXT));
        let name = escaped(name, self.special);
        let tags = tags.iter().map(|(path, tag)| (&**path, *tag));
        for (path, tag) in text.into_iter().chain(tags) {
            let separator = if self.text.is_empty() { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(self.text, "{separator}{name}{path}:{tag}");
        }
    }

    /// The list; none where everything is text.
    pub fn finish(self) -> Option<String> {
        Some(self.text).filter(|text| !text.is_empty())
    }
}

/// Names that stand more than once, of which not all values are texts.
fn mixed(headers: &[(Text, Value)]) -> HashSet<Text> {
    let is_text = |value: &Value| matches!(value, Value::Text(_));
    if headers.len() < 2 || headers.iter().all(|(_, value)| is_text(value)) {
        return HashSet::new();
    }
    let mut known: HashMap<&Text, (usize, bool)> = HashMap::with_capacity(headers.len());
    for (name, value) in headers {
        let (count, texts) = known.entry(name).or_insert((0, true));
        *count += 1;
        *texts &= is_text(value);
    }
    let mixed = known
        .into_iter()
        .filter(|(_, (count, texts))| *count > 1 && !texts);
    mixed.map(|(name, _)| name.clone()).collect()
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
        Value::Array(_) | Value::Table(_) => {
            nested_json(value, "", 0, &mut tags).to_string().into()
        }
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

/// A number, a truth or a time as text; nothing for what is text, bytes or of several parts.
pub(crate) fn scalar_text(value: &Value) -> String {
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
fn nested_json(value: &Value, path: &str, depth: usize, tags: &mut TypeTags) -> Json {
    if depth > NESTING_MAX {
        return Json::Null;
    }
    let mut nested = |value: &Value, step: String| {
        let path = format!("{path}{step}");
        tags.0.extend(tag(value).map(|tag| (path.clone(), tag)));
        nested_json(value, &path, depth + 1, tags)
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
            let last: HashMap<&Text, usize> =
                (0..).zip(entries).map(|(at, (it, _))| (it, at)).collect();
            let entries = (0..)
                .zip(entries)
                .filter(|(at, (name, _))| last[name] == *at);
            let entries = entries.map(|(_, (name, value))| {
                let json = nested(value, format!(".{}", escaped(name, IN_PATHS)));
                (name.to_string(), json)
            });
            Json::Object(entries.collect())
        }
        Value::Bool(v) => Json::Bool(*v),
        Value::F32(v) if v.is_finite() => Json::float(serde_json::Value::from(*v)),
        Value::F64(v) if v.is_finite() => Json::float(serde_json::Value::from(*v)),
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

/// A parsed `mq.types`. It is asked for the values of headers in their order.
#[derive(Debug, Default)]
pub struct Types<'a> {
    /// By path: its first tag, and how many values of a name are listed.
    first: HashMap<&'a str, (char, u32)>,
    /// Tags of further values of a name, by the number of the value.
    more: HashMap<(u32, &'a str), char>,
    /// How many values were asked for, of the names of which several are listed.
    asked: HashMap<String, u32>,
}

/// What a list says of one value: its path, its tag, and which value of its name it is.
struct Found<'n>(Cow<'n, str>, char, u32);

impl<'a> Types<'a> {
    /// Reads a list; what makes no sense in it is left out.
    pub fn parse(list: &'a str) -> Types<'a> {
        let mut types = Types::default();
        // The nested value that the list is in.
        let mut stem: Option<(&str, u32)> = None;
        for entry in list.split(',') {
            let Some((path, tag)) = entry.rsplit_once(':') else {
                continue;
            };
            let mut letters = tag.chars();
            let Some(tag) = letters.next().filter(|_| letters.next().is_none()) else {
                continue;
            };
            let inside = stem.filter(|(stem, _)| {
                let rest = path.strip_prefix(stem);
                rest.is_some_and(|rest| rest.starts_with(['.', '[']))
            });
            let number = match inside {
                Some((_, number)) => number,
                None => {
                    let number = types.first.get(path).map_or(0, |(_, count)| *count);
                    stem = matches!(tag, 'A' | 'F').then_some((path, number));
                    number
                }
            };
            types.insert(path, tag, number);
        }
        types
    }

    fn insert(&mut self, path: &'a str, tag: char, number: u32) {
        if number == 0 {
            self.first.insert(path, (tag, 1));
            return;
        }
        self.more.insert((number, path), tag);
        if let Some((_, count)) = self.first.get_mut(path) {
            *count = number + 1;
        }
    }

    fn tag(&self, path: &str, number: u32) -> Option<char> {
        match number {
            0 => self.first.get(path).map(|(tag, _)| *tag),
            number => self.more.get(&(number, path)).copied(),
        }
    }

    /// The value of a header. What does not fit its type is text, or bytes where it is not UTF-8.
    pub fn value(&mut self, name: &str, bytes: Option<Bytes>) -> Value {
        let found = self.next(name);
        match bytes {
            Some(bytes) => self.typed(found, bytes),
            None => Value::Null,
        }
    }

    fn typed(&self, found: Option<Found<'_>>, bytes: Bytes) -> Value {
        let typed = match found {
            Some(Found(_, 'x', _)) => return Value::Bytes(bytes),
            Some(Found(path, tag @ ('A' | 'F'), number)) => {
                let json = serde_json::from_slice(&bytes).ok();
                json.and_then(|json| self.nested(&json, &path, Some(tag), number))
            }
            Some(Found(_, tag, _)) => std::str::from_utf8(&bytes)
                .ok()
                .and_then(|text| scalar(tag, text)),
            None => None,
        };
        typed.unwrap_or_else(|| match Text::try_from(bytes.clone()) {
            Ok(text) => Value::Text(text),
            Err(_) => Value::Bytes(bytes),
        })
    }

    /// The value of a header that [`to_text`] wrote. What does not fit its type stays text.
    pub fn value_of_text(&mut self, name: &str, text: &Text) -> Value {
        let found = self.next(name);
        match found.as_ref().map(|Found(_, tag, _)| *tag) {
            Some('V') if text.is_empty() => Value::Null,
            Some('x') => match BASE64.decode(&**text) {
                Ok(bytes) => Value::Bytes(bytes.into()),
                Err(_) => Value::Text(text.clone()),
            },
            _ => self.typed(found, text.as_bytes().clone()),
        }
    }

    /// What the list says of the next value of a name. A name that is listed once has one type for all.
    fn next<'n>(&mut self, name: &'n str) -> Option<Found<'n>> {
        let (path, (tag, count)) = self.find(name)?;
        if count == 1 {
            return Some(Found(path, tag, 0));
        }
        let asked = self.asked.entry(path.clone().into_owned()).or_default();
        let number = *asked;
        *asked += 1;
        let tag = self.tag(&path, number)?;
        Some(Found(path, tag, number))
    }

    /// The name of a header as the list has it, and its first tag.
    fn find<'n>(&self, name: &'n str) -> Option<(Cow<'n, str>, (char, u32))> {
        if self.first.is_empty() {
            return None;
        }
        let tagged = |name: Cow<'n, str>| Some((self.first.get(&*name).copied()?, name));
        let found = tagged(escaped(name, IN_PATHS)).or_else(|| {
            let plain = escaped(name, IN_LISTS);
            let mut stems = plain.match_indices(['.', '[']).map(|(at, _)| &plain[..at]);
            // What begins with the name of a nested header is a path into it.
            let is_path = stems.any(|stem| matches!(self.tag(stem, 0), Some('A' | 'F')));
            if is_path { None } else { tagged(plain) }
        });
        found.map(|(tag, name)| (name, tag))
    }

    fn nested(&self, json: &Json, path: &str, tag: Option<char>, number: u32) -> Option<Value> {
        let at = |json: &Json, path: String| {
            let tag = self.tag(&path, number);
            self.nested(json, &path, tag, number)
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
    use crate::laws::value;

    fn list(name: &str, value: &Value) -> (String, String) {
        let (bytes, tags) = to_bytes(value);
        let mut types = TypeList::of(&[(name.into(), value.clone())]);
        types.add(name, &tags);
        (
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned(),
            types.finish().unwrap_or_default(),
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
            r#"[{"count":2,"queue":"q","time":8,"raw":"/wABAg=="}]"#
        );
        let expected =
            "x-death:A,x-death[0]:F,x-death[0].count:l,x-death[0].time:T,x-death[0].raw:x";
        assert_eq!(types, expected);
    }

    #[test]
    fn numbers_are_never_guessed_and_wrong_types_do_no_harm() {
        let mut types = Types::parse("a:I,b:?,c,d:xx,:,e:A");
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
    fn values_of_one_name_have_a_type_each() {
        let values = [
            Value::Text("8".into()),
            Value::I32(8),
            Value::Array(vec![Value::I32(1)]),
            Value::Array(vec![Value::Bool(true)]),
        ];
        let headers: Vec<(Text, Value)> =
            values.iter().map(|it| ("h".into(), it.clone())).collect();
        let mut types = TypeList::of(&headers);
        for value in &values {
            types.add("h", &to_bytes(value).1);
        }
        let types = types.finish().unwrap();
        assert_eq!(types, "h:S,h:I,h:A,h[0]:I,h:A,h[0]:t");
        // One type is for all.
        let mut types = Types::parse("h:I");
        assert_eq!(types.value("h", Some("1".into())), Value::I32(1));
        assert_eq!(types.value("h", Some("2".into())), Value::I32(2));
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::laws::CASES))]

        /// So does each of several under one name.
        #[test]
        fn values_of_one_name_survive(values in proptest::collection::vec(value(), 1..5)) {
            let headers: Vec<(Text, Value)> = values.iter().map(|it| ("h".into(), it.clone())).collect();
            let list = |tags: Vec<&TypeTags>| {
                let mut types = TypeList::of(&headers);
                tags.into_iter().for_each(|tags| types.add("h", tags));
                types.finish().unwrap_or_default()
            };
            let written: Vec<_> = values.iter().map(to_bytes).collect();
            let text = list(written.iter().map(|(_, tags)| tags).collect());
            let mut types = Types::parse(&text);
            let back: Vec<_> = written.iter().map(|(bytes, _)| types.value("h", bytes.clone())).collect();
            prop_assert_eq!(&back, &values);
            let written: Vec<_> = values.iter().map(to_text).collect();
            let text = list(written.iter().map(|(_, tags)| tags).collect());
            let mut types = Types::parse(&text);
            let back: Vec<_> = written.iter().map(|(text, _)| types.value_of_text("h", &text.as_str().into())).collect();
            prop_assert_eq!(&back, &values);
        }

        /// Every value comes back as it was, whatever its type.
        #[test]
        fn values_survive(value in value(), name in "[a-z:,%]{1,4}") {
            let written = |tags| {
                let mut types = TypeList::of(&[(name.as_str().into(), value.clone())]);
                types.add(&name, &tags);
                types.finish().unwrap_or_default()
            };
            let (bytes, tags) = to_bytes(&value);
            prop_assert_eq!(Types::parse(&written(tags)).value(&name, bytes), value.clone());
            let (text, tags) = to_text(&value);
            prop_assert_eq!(Types::parse(&written(tags)).value_of_text(&name, &text.into()), value);
        }
    }
}
