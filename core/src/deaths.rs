//! What a message went through before it came where it is: RabbitMQ's `x-death` and its companions.
//!
//! A dead letter keeps the properties of its publisher to the byte. Its deaths travel beside them and become headers
//! when somebody reads it ([`Message::properties`](crate::Message::properties)).

use crate::{
    properties::{Text, Value},
    time::Timestamp,
};

/// Why a message left a queue for its dead-letter exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A consumer rejected it.
    Rejected,
    /// Its time was up.
    Expired,
    /// There was no room.
    MaxLength,
    /// It came back too often.
    DeliveryLimit,
}

impl Reason {
    /// As the headers name it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// The deaths of a message in one queue for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The queue.
    pub queue: Text,
    /// Why.
    pub reason: Reason,
    /// How often.
    pub count: u64,
    /// The first time.
    pub time: Timestamp,
    /// The exchange that it had been published to, the first time.
    pub exchange: Text,
    /// The routing keys that it had been published with, the first time.
    pub routing_keys: Vec<Text>,
    /// The lifetime that its publisher gave it, in milliseconds.
    pub original_expiration: Option<u64>,
}

/// All deaths of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deaths {
    /// The latest first.
    pub records: Vec<Death>,
    /// The queue and reason of the first.
    pub first: (Text, Reason),
    /// The publisher's header `CC` has had its effect and is gone.
    pub without_copies: bool,
}

impl Deaths {
    /// The deaths of a message that died again.
    pub(crate) fn with(before: Option<&Deaths>, mut death: Death, without_copies: bool) -> Deaths {
        let Some(before) = before else {
            return Deaths {
                first: (death.queue.clone(), death.reason),
                records: vec![death],
                without_copies,
            };
        };
        let mut records = before.records.clone();
        let same = |of: &Death| of.queue == death.queue && of.reason == death.reason;
        if let Some(at) = records.iter().position(same) {
            death = records.remove(at);
            death.count += 1;
        }
        records.insert(0, death);
        Deaths {
            records,
            first: before.first.clone(),
            without_copies: without_copies || before.without_copies,
        }
    }

    /// Whether a message goes in circles: it has been in this queue, and since then no consumer has rejected it.
    pub(crate) fn is_cycle(&self, queue: &str) -> bool {
        let last_time = self.records.iter().position(|death| death.queue == queue);
        last_time.is_some_and(|at| {
            let since = &self.records[..=at];
            since.iter().all(|death| death.reason != Reason::Rejected)
        })
    }

    /// Puts the deaths into the headers of a message, in place of what its publisher may have claimed.
    pub fn add_to(&self, headers: &mut Vec<(Text, Value)>) {
        headers.retain(|(name, _)| !self.replaces(name));
        let records = self.records.iter().map(table).collect();
        headers.push(("x-death".into(), Value::Array(records)));
        let (queue, reason) = &self.first;
        let first = self
            .records
            .iter()
            .find(|death| death.queue == *queue && death.reason == *reason);
        for (which, death) in [("first", first), ("last", self.records.first())] {
            let Some(death) = death else { continue };
            for (what, text) in [
                ("exchange", death.exchange.clone()),
                ("queue", death.queue.clone()),
                ("reason", death.reason.name().into()),
            ] {
                headers.push((format!("x-{which}-death-{what}").into(), Value::Text(text)));
            }
        }
    }

    fn replaces(&self, header: &str) -> bool {
        header == "x-death"
            || header.starts_with("x-first-death-")
            || header.starts_with("x-last-death-")
            || (header == "CC" && self.without_copies)
    }
}

fn table(death: &Death) -> Value {
    let keys = death.routing_keys.iter().cloned().map(Value::Text);
    let mut fields: Vec<(Text, Value)> = Vec::with_capacity(7);
    if let Some(expiration) = death.original_expiration {
        let text = expiration.to_string();
        fields.push(("original-expiration".into(), Value::Text(text.into())));
    }
    fields.extend([
        ("count".into(), Value::I64(death.count as i64)),
        ("reason".into(), Value::Text(death.reason.name().into())),
        ("queue".into(), Value::Text(death.queue.clone())),
        ("time".into(), Value::Timestamp(death.time.0 / 1000)),
        ("exchange".into(), Value::Text(death.exchange.clone())),
        ("routing-keys".into(), Value::Array(keys.collect())),
    ]);
    Value::Table(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(queue: &str, reason: Reason) -> Death {
        Death {
            queue: queue.into(),
            reason,
            count: 1,
            time: Timestamp(5000),
            exchange: "x".into(),
            routing_keys: vec!["k".into()],
            original_expiration: None,
        }
    }

    fn deaths(events: &[(&str, Reason)]) -> Deaths {
        let mut deaths = None;
        for (queue, reason) in events {
            deaths = Some(Deaths::with(deaths.as_ref(), death(queue, *reason), false));
        }
        deaths.expect("there is an event")
    }

    #[test]
    fn the_same_death_is_counted_and_comes_first() {
        let deaths = deaths(&[
            ("a", Reason::Rejected),
            ("b", Reason::Expired),
            ("a", Reason::Rejected),
            ("a", Reason::MaxLength),
            ("b", Reason::Expired),
        ]);
        let summary: Vec<_> = deaths
            .records
            .iter()
            .map(|death| (&*death.queue, death.reason.name(), death.count))
            .collect();
        assert_eq!(
            summary,
            [
                ("b", "expired", 2),
                ("a", "maxlen", 1),
                ("a", "rejected", 2)
            ]
        );
        assert_eq!(deaths.first, ("a".into(), Reason::Rejected));
    }

    #[test]
    fn a_circle_without_rejection_is_a_cycle() {
        assert!(deaths(&[("a", Reason::Expired)]).is_cycle("a"));
        assert!(deaths(&[("a", Reason::Expired), ("b", Reason::MaxLength)]).is_cycle("a"));
        assert!(!deaths(&[("a", Reason::Expired), ("b", Reason::Rejected)]).is_cycle("a"));
        assert!(!deaths(&[("a", Reason::Rejected), ("b", Reason::Expired)]).is_cycle("a"));
        assert!(deaths(&[("a", Reason::Rejected), ("b", Reason::Expired)]).is_cycle("b"));
        assert!(!deaths(&[("a", Reason::Expired)]).is_cycle("b"));
    }

    #[test]
    fn deaths_become_headers() {
        let mut deaths = deaths(&[("a", Reason::Rejected), ("b", Reason::Expired)]);
        deaths.records[0].original_expiration = Some(100);
        deaths.without_copies = true;
        let mut headers = vec![
            ("CC".into(), Value::Array(Vec::new())),
            ("x-last-death-queue".into(), Value::Text("liar".into())),
            ("mine".into(), Value::Null),
        ];
        deaths.add_to(&mut headers);
        let names: Vec<_> = headers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            names,
            [
                "mine",
                "x-death",
                "x-first-death-exchange",
                "x-first-death-queue",
                "x-first-death-reason",
                "x-last-death-exchange",
                "x-last-death-queue",
                "x-last-death-reason"
            ]
        );
        let Value::Array(records) = &headers[1].1 else {
            panic!("{headers:?}");
        };
        let Value::Table(last) = &records[0] else {
            panic!("{records:?}");
        };
        let text = |text: &str| Value::Text(text.into());
        let expected: Vec<(Text, Value)> = vec![
            ("original-expiration".into(), text("100")),
            ("count".into(), Value::I64(1)),
            ("reason".into(), text("expired")),
            ("queue".into(), text("b")),
            ("time".into(), Value::Timestamp(5)),
            ("exchange".into(), text("x")),
            ("routing-keys".into(), Value::Array(vec![text("k")])),
        ];
        assert_eq!(*last, expected);
        assert_eq!(headers[3].1, text("a"));
        assert_eq!(headers[6].1, text("b"));
    }
}
