//! Between JSON and the core's values.

use serde_json::{Map, Number, Value as Json};
use trivium_core::{Text, Value};

/// A value of the core as RabbitMQ's management shows it.
pub(super) fn from_value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(v) => (*v).into(),
        Value::I8(v) => (*v).into(),
        Value::U8(v) => (*v).into(),
        Value::I16(v) => (*v).into(),
        Value::U16(v) => (*v).into(),
        Value::I32(v) => (*v).into(),
        Value::U32(v) => (*v).into(),
        Value::I64(v) => (*v).into(),
        Value::F32(v) => float((*v).into()),
        Value::F64(v) => float(*v),
        Value::Decimal(scale, v) => float(f64::from(*v) / 10f64.powi((*scale).into())),
        Value::Text(v) => (**v).into(),
        Value::Bytes(v) => String::from_utf8_lossy(v).into(),
        Value::Timestamp(v) => (*v).into(),
        Value::Array(items) => items.iter().map(from_value).collect(),
        Value::Table(entries) => from_table(entries),
    }
}

fn float(value: f64) -> Json {
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}

/// Named values as an object.
pub(super) fn from_table(entries: &[(Text, Value)]) -> Json {
    let entries = entries
        .iter()
        .map(|(name, value)| (name.to_string(), from_value(value)));
    Json::Object(entries.collect())
}

/// JSON as the core takes it: whole numbers are 64 bits wide, as in RabbitMQ's tables.
pub(super) fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(v) => Value::Bool(*v),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::I64(whole),
            None => Value::F64(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Array(items) => Value::Array(items.iter().map(to_value).collect()),
        Json::Object(entries) => Value::Table(to_table(entries)),
    }
}

pub(super) fn to_table(entries: &Map<String, Json>) -> Vec<(Text, Value)> {
    entries
        .iter()
        .map(|(name, value)| (name.as_str().into(), to_value(value)))
        .collect()
}

/// Texts as a list.
pub(super) fn texts(texts: &[Text]) -> Json {
    texts.iter().map(|text| Json::from(&**text)).collect()
}

/// An object, with what is asked of its members; an error names the member.
pub(super) struct Object<'a>(pub(super) &'a Map<String, Json>);

impl<'a> Object<'a> {
    pub(super) fn new(json: &'a Json) -> Result<Object<'a>, String> {
        json.as_object()
            .map(Object)
            .ok_or_else(|| "expected an object".to_owned())
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<Text>, String> {
        self.member(name, "a string", |json| json.as_str().map(Text::from))
    }

    pub(super) fn required(&self, name: &str) -> Result<Text, String> {
        self.text(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, String> {
        let flag = self.member(name, "a boolean", |json| match json {
            // As rabbitmqadmin sends it.
            Json::String(text) => text.parse().ok(),
            json => json.as_bool(),
        });
        Ok(flag?.unwrap_or_default())
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, String> {
        self.member(name, "a whole number", |json| match json {
            Json::String(text) => text.parse().ok(),
            json => json.as_i64(),
        })
    }

    pub(super) fn table(&self, name: &str) -> Result<Vec<(Text, Value)>, String> {
        let table = self.member(name, "an object", |json| match json {
            // Erlang prints an empty object and an empty list the same way.
            Json::Array(items) if items.is_empty() => Some(Vec::new()),
            json => json.as_object().map(to_table),
        });
        Ok(table?.unwrap_or_default())
    }

    /// Tags: a list, or a string with commas.
    pub(super) fn tags(&self, name: &str) -> Result<Vec<Text>, String> {
        let tags = self.member(name, "a list or a string", |json| match json {
            Json::String(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|tag| !tag.is_empty())
                    .map(Text::from)
                    .collect(),
            ),
            Json::Array(items) => items
                .iter()
                .map(|item| item.as_str().map(Text::from))
                .collect(),
            _ => None,
        });
        Ok(tags?.unwrap_or_default())
    }

    pub(super) fn list(&self, name: &str) -> Result<&'a [Json], String> {
        let list = self.member(name, "a list", |json| json.as_array().map(Vec::as_slice));
        Ok(list?.unwrap_or_default())
    }

    fn member<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Json) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(json) => read(json)
                .map(Some)
                .ok_or_else(|| format!("{name}: expected {expected}")),
        }
    }
}
