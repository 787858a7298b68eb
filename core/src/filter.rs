//! Which records of a log a cursor is for: `x-filter`.

use crate::{
    catalog::HeaderMatch,
    message::Message,
    properties::{Text, Value},
    topic::{Grammar, Pattern, Topic},
};

/// The entry that the key of a record has to match.
const KEY: &str = "x-key";
/// The entry that the routing key of a message has to match.
const ROUTING_KEY: &str = "x-routing-key";

/// What a cursor asks of records; all of it has to hold.
#[derive(Clone, Debug)]
pub(crate) struct RecordFilter {
    key: Option<Pattern>,
    routing_key: Option<Pattern>,
    headers: Option<HeaderMatch>,
}

impl RecordFilter {
    /// Reads a table of headers as of a binding of a headers exchange, with `x-match`, in which `x-key` and
    /// `x-routing-key` are patterns as of a topic exchange for the key of the record and the routing key of the message.
    pub(crate) fn new(table: &[(Text, Value)]) -> Result<RecordFilter, Text> {
        let pattern = |wanted: &str| {
            let found = table.iter().find(|(name, _)| name == wanted);
            match found.map(|(_, value)| value) {
                None => Ok(None),
                Some(Value::Text(text)) => Ok(Some(Pattern::new(text.clone(), Grammar::Dots))),
                Some(other) => {
                    let kind = other.type_name();
                    Err(Text::from(format!(
                        "{wanted} is a longstr pattern, not {kind}"
                    )))
                }
            }
        };
        let is_header = |(name, _): &&(Text, Value)| name != KEY && name != ROUTING_KEY;
        let headers: Vec<_> = table.iter().filter(is_header).cloned().collect();
        Ok(RecordFilter {
            key: pattern(KEY)?,
            routing_key: pattern(ROUTING_KEY)?,
            headers: match headers.is_empty() {
                true => None,
                false => Some(HeaderMatch::new(&headers)?),
            },
        })
    }

    /// Whether the cursor is for a record, seen as a message.
    pub(crate) fn wants(&self, message: &Message) -> bool {
        let has_key = |pattern: &Pattern| {
            let key = message.key.as_deref().map(std::str::from_utf8);
            matches!(key, Some(Ok(key)) if pattern.matches(&Topic::new(key.into(), Grammar::Dots)))
        };
        self.key.as_ref().is_none_or(has_key)
            && self
                .routing_key
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&message.topic))
            && self
                .headers
                .as_ref()
                .is_none_or(|wanted| wanted.matches(&message.properties().headers))
    }
}
