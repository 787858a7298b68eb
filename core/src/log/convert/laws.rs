//! P→log→P as a law, for messages of other protocols (DESIGN section 3.4).

use proptest::prelude::*;

use super::*;
use crate::laws::{CASES, Details, details, message, properties};

const AMQP: u8 = 1;
const MQTT: u8 = 2;

fn through_a_log(message: &Message) -> Message {
    let settings = Settings {
        key: KeyRule::None,
        ..Settings::default()
    };
    let record = record_from_message(message, &settings);
    let record = Record {
        offset_delta: 0,
        timestamp: record.timestamp.map_or(-1, |timestamp| timestamp.0 as i64),
        key: record.key,
        value: record.value,
        headers: record.headers,
    };
    let (log, exchange) = ("a.b".into(), "amq.topic".into());
    message_from_record(&log, 0, Offset(0), record, &exchange, &Arc::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn amqp_to_log_to_amqp(properties in properties(), details in details(), reply in any::<bool>()) {
        let reply_to = reply.then(|| "answers".into());
        let properties = Properties { reply_to, ..properties };
        let found = through_a_log(&details.clone().put(message(properties.clone(), AMQP)));
        prop_assert_eq!(found.properties(), properties);
        prop_assert_eq!(Details::of(&found), details);
    }

    /// Its QoS is the header `mq.qos`, and its reply topic is marked.
    #[test]
    fn mqtt_to_log_to_mqtt(properties in properties(), details in details()) {
        let reply_to = Some("a/b".into());
        let given = message(Properties { reply_to, ..properties.clone() }, MQTT);
        let found = through_a_log(&details.clone().put(given));
        let mut back = found.properties();
        prop_assert_eq!(back.reply_to.take(), Some("mqtt:a/b".into()));
        back.headers.retain(|(name, _)| name != names::QOS);
        prop_assert_eq!(back, properties);
        let persistence = Persistence::Persistent;
        prop_assert_eq!(Details::of(&found), Details { persistence, ..details });
    }
}
