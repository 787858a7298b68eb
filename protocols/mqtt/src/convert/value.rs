//! Typed values as the text of a user property, and back by their tag.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Number, Value as Json};
use trivium_core::Value;

/// The field-type letter. Texts that no user property can hold travel as bytes.
pub fn tag(value: &Value) -> char {
    match value {
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
        Value::Text(_) | Value::Bytes(_) => 'x',
        Value::Timestamp(_) => 'T',
        Value::Array(_) => 'A',
        Value::Table(_) => 'F',
    }
}

/// The text that stands for a value.
pub fn to_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::I8(value) => value.to_string(),
        Value::U8(value) => value.to_string(),
        Value::I16(value) => value.to_string(),
        Value::U16(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Decimal(scale, value) => format!("{value}e-{scale}"),
        Value::Text(value) => value.to_string(),
        Value::Bytes(value) => BASE64_STANDARD.encode(value),
        Value::Timestamp(value) => value.to_string(),
        Value::Array(_) | Value::Table(_) => to_json(value).to_string(),
    }
}

/// The value that a text of this tag stands for; `None` when it does not.
pub fn from_text(text: &str, tag: &str) -> Option<Value> {
    Some(match tag {
        "V" => Value::Null,
        "t" => Value::Bool(text.parse().ok()?),
        "b" => Value::I8(text.parse().ok()?),
        "B" => Value::U8(text.parse().ok()?),
        "s" => Value::I16(text.parse().ok()?),
        "u" => Value::U16(text.parse().ok()?),
        "I" => Value::I32(text.parse().ok()?),
        "i" => Value::U32(text.parse().ok()?),
        "l" => Value::I64(text.parse().ok()?),
        "f" => Value::F32(text.parse().ok()?),
        "d" => Value::F64(text.parse().ok()?),
        "D" => {
            let (value, scale) = text.split_once("e-")?;
            Value::Decimal(scale.parse().ok()?, value.parse().ok()?)
        }
        "x" => Value::Bytes(BASE64_STANDARD.decode(text).ok()?.into()),
        "T" => Value::Timestamp(text.parse().ok()?),
        // The parser bounds nesting.
        "A" | "F" => from_json(serde_json::from_str(text).ok()?),
        _ => return None,
    })
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::F32(value) => Number::from_f64((*value).into()).map_or(Json::Null, Json::Number),
        Value::F64(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::I8(value) => (*value).into(),
        Value::U8(value) => (*value).into(),
        Value::I16(value) => (*value).into(),
        Value::U16(value) => (*value).into(),
        Value::I32(value) => (*value).into(),
        Value::U32(value) => (*value).into(),
        Value::I64(value) => (*value).into(),
        Value::Timestamp(value) => (*value).into(),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Table(entries) => Json::Object(
            entries
                .iter()
                .map(|(name, value)| (name.to_string(), to_json(value)))
                .collect::<Map<_, _>>(),
        ),
        text => Json::String(to_text(text)),
    }
}

fn from_json(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::I64(value),
            None => Value::F64(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.into()),
        Json::Array(items) => Value::Array(items.into_iter().map(from_json).collect()),
        Json::Object(map) => Value::Table(
            map.into_iter()
                .map(|(name, value)| (name.into(), from_json(value)))
                .collect(),
        ),
    }
}
