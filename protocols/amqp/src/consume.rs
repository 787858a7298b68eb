//! The arguments of basic.consume (RabbitMQ's extensions) as what the core is asked for.

use std::time::Duration;

use trivium_core::{
    FollowSpec, Offset, StreamFilter, StreamSpec, StreamStart, Text, Timestamp, Value, stream_age,
};

use crate::{error::Error, field_table::Table};

/// The arguments of basic.consume, and what an error says they were given for.
#[derive(Debug)]
pub struct Arguments<'a> {
    /// What was sent.
    pub table: &'a Table,
    /// The queue.
    pub queue: &'a str,
    /// Its vhost.
    pub vhost: &'a str,
}

impl Arguments<'_> {
    /// What `x-priority` says.
    pub fn priority(&self) -> Result<i64, Error> {
        Ok(self.whole_number("x-priority")?.unwrap_or(0))
    }

    /// What `x-consumer-timeout` says, in milliseconds.
    pub fn timeout(&self) -> Result<Option<Duration>, Error> {
        const NAME: &str = "x-consumer-timeout";
        let timeout = self.whole_number(NAME)?.map(|timeout| {
            u64::try_from(timeout)
                .map(Duration::from_millis)
                .map_err(|_| self.invalid(NAME, &format!("{{value_negative,{timeout}}}")))
        });
        timeout.transpose()
    }

    /// Where a consumer of a stream begins, and what it wants of it; `None` if nothing is said of either.
    pub fn stream(&self, tag: &Text, now: Timestamp) -> Result<Option<Box<StreamSpec>>, Error> {
        // LavinMQ's clients say null for "where I was".
        let offset = self.get("x-stream-offset").filter(|it| **it != Value::Null);
        let filter = self.get("x-stream-filter").and_then(filter_values);
        let follow = self.follow(tag, offset.is_some());
        let follow = follow.map_err(|why| self.invalid("x-group", &why))?;
        if offset.is_none() && filter.is_none() && follow.is_none() {
            return Ok(None);
        }
        let from = offset.map(|offset| start(offset, now)).transpose();
        let from = from.map_err(|why| self.invalid("x-stream-offset", &why))?;
        let match_unfiltered = self.get("x-stream-match-unfiltered");
        let filter = filter.map(|values| StreamFilter {
            values,
            match_unfiltered: match_unfiltered == Some(&Value::Bool(true)),
        });
        Ok(Some(Box::new(StreamSpec {
            from: from.unwrap_or_default(),
            filter,
            follow,
        })))
    }

    /// The name that a consumer of a stream goes by, so that the broker keeps where it was: what `x-group` says, else
    /// the tag of a consumer that does not say where to begin (or wants to be tracked all the same, LavinMQ's
    /// `x-stream-automatic-offset-tracking`).
    fn follow(&self, tag: &Text, has_offset: bool) -> Result<Option<FollowSpec>, String> {
        let (group, required) = match self.get("x-group") {
            Some(Value::Text(group)) if !group.is_empty() => (group, true),
            Some(Value::Text(_)) => return Err("it is empty".into()),
            Some(other) => return Err(format!("expected longstr, got {}", other.type_name())),
            None => {
                let tracked = self.get("x-stream-automatic-offset-tracking");
                let tracked = tracked == Some(&Value::Bool(true)) || !has_offset;
                if !tracked || is_generated(tag) {
                    return Ok(None);
                }
                (tag, false)
            }
        };
        Ok(Some(FollowSpec {
            group: group.clone(),
            client: tag.clone(),
            protocol: "amqp",
            required,
            own: false,
            anew: false,
        }))
    }

    fn whole_number(&self, name: &str) -> Result<Option<i64>, Error> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value.integer().map(Some).ok_or_else(|| {
            let why = format!("\"expected integer, got {}\"", value.type_name());
            self.invalid(name, &why)
        })
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let mut arguments = self.table.iter();
        let found = arguments.find(|(argument, _)| argument == name);
        found.map(|(_, value)| value)
    }

    fn invalid(&self, argument: &str, why: &str) -> Error {
        let Arguments { queue, vhost, .. } = self;
        Error::precondition(format!(
            "invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}': {why}"
        ))
    }
}

/// Whether nobody chose the tag: a server's, or what client libraries make up anew for each consumer (pika's and
/// aiormq's `ctag1.` and 32 digits, the Go client's `ctag-`, Bunny's `bunny-`, Node's and others' random ids).
fn is_generated(tag: &str) -> bool {
    let is_hex = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    let numbered = tag.strip_prefix("ctag").map(|rest| {
        let rest = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        rest.starts_with('.') || rest.starts_with('-')
    });
    tag.is_empty()
        || tag.starts_with("amq.")
        || tag.starts_with("bunny-")
        || numbered == Some(true)
        || tag.bytes().all(|byte| byte.is_ascii_digit())
        || (tag.len() >= 32 && is_hex(tag))
}

/// `first`, `last`, `next`, an interval back from now, a time, or an offset.
fn start(value: &Value, now: Timestamp) -> Result<StreamStart, String> {
    match value {
        Value::Text(text) => match &**text {
            "first" => Ok(StreamStart::First),
            "last" => Ok(StreamStart::Last),
            "next" => Ok(StreamStart::Next),
            interval => {
                let age = stream_age(interval).ok_or_else(|| "invalid_max_age".to_owned())?;
                Ok(StreamStart::AtTime(before(now, age)))
            }
        },
        Value::Timestamp(seconds) => Ok(StreamStart::AtTime(seconds.saturating_mul(1000))),
        other => match other.integer() {
            Some(offset) => Ok(StreamStart::Offset(Offset(offset.max(0).unsigned_abs()))),
            None => Err("invalid_offset_arg".to_owned()),
        },
    }
}

fn before(now: Timestamp, age: Duration) -> u64 {
    now.0
        .saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// One value or an array of them.
fn filter_values(value: &Value) -> Option<Vec<Text>> {
    match value {
        Value::Text(text) => Some(vec![text.clone()]),
        Value::Array(values) => {
            let texts = values.iter().filter_map(|value| match value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            });
            Some(texts.collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(10_000_000);

    fn stream(
        tag: &'static str,
        arguments: &[(&'static str, Value)],
    ) -> Result<Option<Box<StreamSpec>>, Error> {
        let table = arguments
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()));
        let arguments = Arguments {
            table: &table.collect(),
            queue: "q",
            vhost: "/",
        };
        arguments.stream(&tag.into(), NOW)
    }

    fn parsed(arguments: Vec<(&'static str, Value)>) -> Option<StreamSpec> {
        stream("", &arguments).unwrap().map(|spec| *spec)
    }

    fn from(value: Value) -> StreamStart {
        parsed(vec![("x-stream-offset", value)]).unwrap().from
    }

    #[test]
    fn every_form_of_an_offset_is_read() {
        assert_eq!(from(Value::Text("first".into())), StreamStart::First);
        assert_eq!(from(Value::Text("last".into())), StreamStart::Last);
        assert_eq!(from(Value::Text("next".into())), StreamStart::Next);
        assert_eq!(from(Value::I32(7)), StreamStart::Offset(Offset(7)));
        assert_eq!(from(Value::I64(7)), StreamStart::Offset(Offset(7)));
        assert_eq!(from(Value::I8(-7)), StreamStart::Offset(Offset(0)));
        assert_eq!(from(Value::Timestamp(5)), StreamStart::AtTime(5000));
        assert_eq!(
            from(Value::Text("1h".into())),
            StreamStart::AtTime(6_400_000)
        );
        assert_eq!(from(Value::Text("9Y".into())), StreamStart::AtTime(0));
        for wrong in [Value::Text("soon".into()), Value::Bool(true)] {
            assert!(stream("", &[("x-stream-offset", wrong)]).is_err());
        }
        assert!(parsed(vec![("x-priority", Value::I32(1))]).is_none());
    }

    #[test]
    fn a_consumer_goes_by_its_group_or_by_a_tag_that_somebody_chose() {
        let named = |tag: &'static str, arguments: &[(&'static str, Value)]| {
            stream(tag, arguments).map(|spec| {
                spec.and_then(|spec| spec.follow)
                    .map(|it| (it.group, it.required))
            })
        };
        let text = |text: &'static str| Value::Text(text.into());
        let by = |name: &'static str, required| Ok::<_, Error>(Some((Text::from(name), required)));
        assert_eq!(named("audit", &[]).unwrap(), by("audit", false).unwrap());
        let null = ("x-stream-offset", Value::Null);
        assert_eq!(
            named("audit", &[null]).unwrap(),
            by("audit", false).unwrap()
        );
        let group = ("x-group", text("g"));
        let first = ("x-stream-offset", text("first"));
        assert_eq!(named("audit", std::slice::from_ref(&first)).unwrap(), None);
        let tracked = ("x-stream-automatic-offset-tracking", Value::Bool(true));
        let found = named("audit", &[first.clone(), tracked]).unwrap();
        assert_eq!(found, by("audit", false).unwrap());
        assert_eq!(named("", &[first, group]).unwrap(), by("g", true).unwrap());
        for wrong in [text(""), Value::I8(1)] {
            assert!(named("audit", &[("x-group", wrong)]).is_err());
        }
        for made_up in [
            "",
            "amq.ctag-AbC-1",
            "ctag1.0123456789abcdef0123456789abcdef",
            "ctag-trivium-7",
            "bunny-1700000000000-123",
            "7",
            "0b0f7a52-27a3-4a9c-93a9-0f5f7ad6c7a1",
        ] {
            assert_eq!(named(made_up, &[]).unwrap(), None, "{made_up}");
        }
    }

    #[test]
    fn a_filter_is_a_value_or_several() {
        let filter = |arguments| parsed(arguments).and_then(|spec| spec.filter);
        let text = |text: &'static str| Value::Text(text.into());
        let one = filter(vec![("x-stream-filter", text("a"))]).unwrap();
        assert_eq!((one.values.len(), one.match_unfiltered), (1, false));
        let several = Value::Array(vec![text("a"), Value::I8(1), text("b")]);
        let several = filter(vec![
            ("x-stream-filter", several),
            ("x-stream-match-unfiltered", Value::Bool(true)),
        ])
        .unwrap();
        assert_eq!((several.values.len(), several.match_unfiltered), (2, true));
        assert_eq!(filter(vec![("x-stream-offset", text("first"))]), None);
    }
}
