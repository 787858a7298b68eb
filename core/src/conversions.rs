//! How many messages were converted from one protocol's form to another's, and how many headers that left out.
//!
//! Whoever converts counts in a [`ConversionTally`] of its own, and shows with each turn what it has counted. A message
//! that stays in its form is not looked at.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{message::Message, metrics::Sample};

/// The forms that messages have, by the protocol that they are of. A log's records are of Kafka's form, whoever published
/// them; `other` are plug-ins, and the broker itself.
const FORMS: [&str; 4] = ["kafka", "amqp", "mqtt", "other"];

/// The form of a [dialect](crate::Dialect::id).
fn form(dialect: u8) -> usize {
    match dialect {
        0 => 0,
        1 => 1,
        2 | 3 => 2,
        _ => 3,
    }
}

/// What was converted to one protocol's form.
#[derive(Debug)]
pub struct Conversions {
    to: &'static str,
    from: [Counter; FORMS.len()],
}

#[derive(Debug, Default)]
struct Counter {
    messages: AtomicU64,
    dropped: AtomicU64,
}

impl Conversions {
    /// Nothing yet, to the form of `amqp`, `kafka` or `mqtt`.
    pub fn to(protocol: &'static str) -> Conversions {
        Conversions {
            to: protocol,
            from: Default::default(),
        }
    }

    /// Everything as it is now.
    pub fn samples(&self) -> Vec<Sample> {
        let others = FORMS.iter().zip(&self.from);
        let others = others.filter(|(from, _)| **from != self.to);
        let sample = |(from, name, help, value): (&'static str, _, _, &AtomicU64)| Sample {
            name,
            help,
            counter: true,
            labels: vec![("from", from), ("to", self.to)],
            value: value.load(Relaxed),
        };
        let messages = |(from, counter): (&&'static str, &'_ Counter)| {
            sample((
                from,
                "trivium_messages_converted_total",
                "Messages converted from the form of one protocol to that of another",
                &counter.messages,
            ))
        };
        let dropped = |(from, counter): (&&'static str, &'_ Counter)| {
            sample((
                from,
                "trivium_headers_dropped_total",
                "Headers that a conversion left out because the other form has no place for them",
                &counter.dropped,
            ))
        };
        let converted = others.clone().map(messages);
        converted.chain(others.map(dropped)).collect()
    }
}

/// What one connection or task has converted since all could see it. It counts one form at a time, since what a
/// connection gets is nearly always of one.
#[derive(Debug)]
pub struct ConversionTally {
    shared: Arc<Conversions>,
    dropped: u32,
    messages: u32,
    from: u8,
}

impl ConversionTally {
    /// Nothing yet.
    pub fn new(shared: &Arc<Conversions>) -> ConversionTally {
        ConversionTally {
            shared: shared.clone(),
            dropped: 0,
            messages: 0,
            from: 0,
        }
    }

    /// A message was converted, without so many of its headers. One that is of this form already does not count.
    pub fn count(&mut self, message: &Message, dropped: usize) {
        let from = form(message.native.dialect.id());
        if FORMS[from] == self.shared.to {
            return;
        }
        if usize::from(self.from) != from {
            self.fold();
            self.from = from as u8;
        }
        self.messages = self.messages.saturating_add(1);
        let dropped = dropped.try_into().unwrap_or(u32::MAX);
        self.dropped = self.dropped.saturating_add(dropped);
    }

    /// Shows what was counted.
    pub fn fold(&mut self) {
        if self.messages == 0 {
            return;
        }
        let counter = &self.shared.from[usize::from(self.from)];
        counter.messages.fetch_add(self.messages.into(), Relaxed);
        counter.dropped.fetch_add(self.dropped.into(), Relaxed);
        (self.messages, self.dropped) = (0, 0);
    }
}

impl Drop for ConversionTally {
    fn drop(&mut self) {
        self.fold();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        log::Records,
        message::{Dialect, Plain},
        topic::{Grammar, Topic},
    };

    #[derive(Debug)]
    struct Form(u8);

    impl Dialect for Form {
        fn id(&self) -> u8 {
            self.0
        }

        fn properties(&self, _: &Bytes) -> crate::Properties {
            Default::default()
        }
    }

    fn of(dialect: &'static dyn Dialect) -> Message {
        let topic = Topic::new("t".into(), Grammar::Dots);
        let mut message = Message::plain("".into(), topic, Bytes::new(), Arc::default());
        message.native.dialect = dialect;
        message
    }

    #[test]
    fn each_pair_of_forms_counts_for_itself_and_none_within_a_form() {
        static MQTT3: Form = Form(3);
        static MQTT5: Form = Form(2);
        static AMQP: Form = Form(1);
        let shared = Arc::new(Conversions::to("amqp"));
        let mut tally = ConversionTally::new(&shared);
        for (dialect, dropped) in [
            (&Records as &'static dyn Dialect, 0),
            (&Records, 2),
            (&AMQP, 5),
            (&MQTT5, 1),
            (&MQTT3, 0),
            (&Records, 0),
            (&Plain, 0),
        ] {
            tally.count(&of(dialect), dropped);
        }
        drop(tally);
        let shown: Vec<_> = shared
            .samples()
            .iter()
            .map(|it| (it.labels[0].1, it.value))
            .collect();
        assert_eq!(
            shown,
            [
                ("kafka", 3),
                ("mqtt", 2),
                ("other", 1),
                ("kafka", 2),
                ("mqtt", 1),
                ("other", 0)
            ]
        );
    }
}
