//! How topics and QoS are carried between MQTT and the other protocols: the broker's own way, or RabbitMQ's for
//! migrations (DESIGN sections 3.1 and 3.4).

use std::borrow::Cow;

use trivium_core::{Grammar, Message, Persistence, Text, Topic};

use crate::{
    packet::Qos,
    reader,
    topic::{is_shared, shared},
};

/// What is done as RabbitMQ does it. By default nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// `/` is `.` and nothing is escaped, so that `v1.0/x`, `v1/0/x` and AMQP's `v1.0.x` are one topic.
    pub plain_topics: bool,
    /// What an AMQP publisher says to be transient (delivery mode 1) is sent at QoS 0.
    pub qos_by_delivery_mode: bool,
}

impl Translation {
    /// The topic that a client publishes to. Plain topics have a level at each dot: that is the topic that they come
    /// back as.
    pub fn name<'a>(&self, name: &'a Text) -> Cow<'a, Text> {
        if !self.plain_topics || name.starts_with('$') || !name.contains('.') {
            return Cow::Borrowed(name);
        }
        Cow::Owned(name.replace('.', "/").into())
    }

    /// The filter that a client subscribes to. In plain ones `*` is a wildcard too, as in AMQP's patterns.
    pub fn filter(&self, filter: Text) -> Text {
        if !self.plain_topics || !filter.contains(['.', '*']) || reader::is_reader(&filter) {
            return filter;
        }
        let plain = |filter: &str| {
            let levels = filter.split(['.', '/']);
            let levels: Vec<_> = levels
                .map(|level| if level == "*" { "+" } else { level })
                .collect();
            levels.join("/")
        };
        match shared(&filter) {
            Some((_, inner)) if inner.starts_with('$') => filter,
            Some((group, inner)) => format!("$share/{group}/{}", plain(inner)).into(),
            None if is_shared(&filter) || filter.starts_with('$') => filter,
            None => plain(&filter).into(),
        }
    }

    /// A message's topic as a client gets it.
    pub fn rendered<'a>(&self, topic: &'a Topic) -> Cow<'a, str> {
        match topic.grammar() {
            Grammar::Slashes => Cow::Borrowed(&**topic.text()),
            // Wildcards cannot be in an MQTT topic, so they stay escaped.
            Grammar::Dots if self.plain_topics => {
                let text = topic.text().replace('.', "/");
                Cow::Owned(text.replace('+', "%2B").replace('#', "%23"))
            }
            Grammar::Dots => Cow::Owned(topic.render(Grammar::Slashes).to_string()),
        }
    }

    /// The greatest QoS that a message is sent at. MQTT's own have one; for others it is the subscription's.
    pub fn qos(&self, message: &Message) -> Qos {
        let dialect = message.native.dialect;
        let is_native = MQTT_IDS.contains(&dialect.id());
        match message.persistence {
            Persistence::Transient if is_native => Qos::AtMostOnce,
            Persistence::Persistent | Persistence::Unset if is_native => Qos::AtLeastOnce,
            Persistence::Transient
                if self.qos_by_delivery_mode
                    && dialect.asks_for_transience(&message.native.block) =>
            {
                Qos::AtMostOnce
            }
            _ => Qos::ExactlyOnce,
        }
    }
}

/// The dialects of MQTT: see [`trivium_core::Dialect::id`].
const MQTT_IDS: [u8; 2] = [2, 3];

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Translation = Translation {
        plain_topics: true,
        qos_by_delivery_mode: false,
    };

    #[test]
    fn design_3_1_plain_topics_have_a_level_at_each_dot() {
        let name = |name: &str| PLAIN.name(&name.into()).to_string();
        assert_eq!(name("v1.0/x"), "v1/0/x");
        assert_eq!(name("a/b"), "a/b");
        assert_eq!(name("$queue/a.b"), "$queue/a.b");
        let filter = |filter: &str| PLAIN.filter(filter.into()).to_string();
        assert_eq!(filter("v1.0/+/#"), "v1/0/+/#");
        assert_eq!(filter("a/*"), "a/+");
        assert_eq!(filter("a*/b"), "a*/b");
        assert_eq!(filter("$share/g.1/v1.0/#"), "$share/g.1/v1/0/#");
        for untouched in [
            "$share/g.1",
            "$share/g/$stream/a.b",
            "$queue/a.b",
            "$stream/a.b",
            "$SYS/a.b",
        ] {
            assert_eq!(filter(untouched), untouched);
        }
    }

    #[test]
    fn design_3_1_plain_topics_are_given_without_escapes() {
        let given = |text: &str| {
            PLAIN
                .rendered(&Topic::new(text.into(), Grammar::Dots))
                .into_owned()
        };
        assert_eq!(given("a.b/c"), "a/b/c");
        assert_eq!(given("a%2Eb"), "a%2Eb");
        assert_eq!(given("a+.#"), "a%2B/%23");
    }

    #[test]
    fn nothing_is_changed_by_default() {
        let own = Translation::default();
        assert_eq!(*own.name(&"v1.0/x".into()), "v1.0/x");
        assert_eq!(own.filter("v1.0/*".into()), "v1.0/*");
        let topic = Topic::new("v1%2E0.x".into(), Grammar::Dots);
        assert_eq!(own.rendered(&topic), "v1.0/x");
    }
}
