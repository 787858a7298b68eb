//! The methods of AMQP 0-9-1 with RabbitMQ's extensions, as data: one table makes the type, its decoder and its encoder.
//!
//! Ids and fields are those of the specification; `reserved_*` are its fields that mean nothing any more.

use bytes::{Bytes, BytesMut};
use trivium_core::Text;

use crate::{
    field_table::Table,
    wire::{Decoder, Encoder, Malformed},
};

/// Why a method frame makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// There is no such method.
    #[error("unknown method {0}.{1}")]
    Unknown(u16, u16),
    /// The fields of this method are not as they should be.
    #[error("method {0}.{1}: {2}")]
    Malformed(u16, u16, Malformed),
}

macro_rules! methods {
    ($($name:ident = ($class:literal, $method:literal) { $($field:ident: $type:ty),* })*) => {
        /// A method and its fields.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Method {
            $($name { $($field: $type),* },)*
        }

        impl Method {
            /// The class id and the method id.
            pub fn id(&self) -> (u16, u16) {
                match self {
                    $(Method::$name { .. } => ($class, $method),)*
                }
            }

            /// Appends class id, method id and fields: the payload of a method frame.
            pub fn encode(&self, out: &mut BytesMut) {
                let (class, method) = self.id();
                let mut encoder = Encoder::new(out);
                encoder.field(&class);
                encoder.field(&method);
                match self {
                    $(Method::$name { $($field),* } => { $(encoder.field($field);)* })*
                }
            }

            fn decode_fields(class: u16, method: u16, decoder: &mut Decoder) -> Result<Option<Method>, Malformed> {
                Ok(Some(match (class, method) {
                    $(($class, $method) => Method::$name { $($field: decoder.field::<$type>()?),* },)*
                    _ => return Ok(None),
                }))
            }
        }
    };
}

methods! {
    ConnectionStart = (10, 10) { version_major: u8, version_minor: u8, server_properties: Table, mechanisms: Bytes, locales: Bytes }
    ConnectionStartOk = (10, 11) { client_properties: Table, mechanism: Text, response: Bytes, locale: Text }
    ConnectionSecure = (10, 20) { challenge: Bytes }
    ConnectionSecureOk = (10, 21) { response: Bytes }
    ConnectionTune = (10, 30) { channel_max: u16, frame_max: u32, heartbeat: u16 }
    ConnectionTuneOk = (10, 31) { channel_max: u16, frame_max: u32, heartbeat: u16 }
    ConnectionOpen = (10, 40) { virtual_host: Text, reserved_1: Text, reserved_2: bool }
    ConnectionOpenOk = (10, 41) { reserved_1: Text }
    ConnectionClose = (10, 50) { reply_code: u16, reply_text: Text, class_id: u16, method_id: u16 }
    ConnectionCloseOk = (10, 51) {}
    ConnectionBlocked = (10, 60) { reason: Text }
    ConnectionUnblocked = (10, 61) {}
    ConnectionUpdateSecret = (10, 70) { new_secret: Bytes, reason: Text }
    ConnectionUpdateSecretOk = (10, 71) {}

    ChannelOpen = (20, 10) { reserved_1: Text }
    ChannelOpenOk = (20, 11) { reserved_1: Bytes }
    ChannelFlow = (20, 20) { active: bool }
    ChannelFlowOk = (20, 21) { active: bool }
    ChannelClose = (20, 40) { reply_code: u16, reply_text: Text, class_id: u16, method_id: u16 }
    ChannelCloseOk = (20, 41) {}

    AccessRequest = (30, 10) { realm: Text, exclusive: bool, passive: bool, active: bool, write: bool, read: bool }
    AccessRequestOk = (30, 11) { ticket: u16 }

    ExchangeDeclare = (40, 10) { reserved_1: u16, exchange: Text, kind: Text, passive: bool, durable: bool, auto_delete: bool, internal: bool, no_wait: bool, arguments: Table }
    ExchangeDeclareOk = (40, 11) {}
    ExchangeDelete = (40, 20) { reserved_1: u16, exchange: Text, if_unused: bool, no_wait: bool }
    ExchangeDeleteOk = (40, 21) {}
    ExchangeBind = (40, 30) { reserved_1: u16, destination: Text, source: Text, routing_key: Text, no_wait: bool, arguments: Table }
    ExchangeBindOk = (40, 31) {}
    ExchangeUnbind = (40, 40) { reserved_1: u16, destination: Text, source: Text, routing_key: Text, no_wait: bool, arguments: Table }
    ExchangeUnbindOk = (40, 51) {}

    QueueDeclare = (50, 10) { reserved_1: u16, queue: Text, passive: bool, durable: bool, exclusive: bool, auto_delete: bool, no_wait: bool, arguments: Table }
    QueueDeclareOk = (50, 11) { queue: Text, message_count: u32, consumer_count: u32 }
    QueueBind = (50, 20) { reserved_1: u16, queue: Text, exchange: Text, routing_key: Text, no_wait: bool, arguments: Table }
    QueueBindOk = (50, 21) {}
    QueuePurge = (50, 30) { reserved_1: u16, queue: Text, no_wait: bool }
    QueuePurgeOk = (50, 31) { message_count: u32 }
    QueueDelete = (50, 40) { reserved_1: u16, queue: Text, if_unused: bool, if_empty: bool, no_wait: bool }
    QueueDeleteOk = (50, 41) { message_count: u32 }
    QueueUnbind = (50, 50) { reserved_1: u16, queue: Text, exchange: Text, routing_key: Text, arguments: Table }
    QueueUnbindOk = (50, 51) {}

    BasicQos = (60, 10) { prefetch_size: u32, prefetch_count: u16, global: bool }
    BasicQosOk = (60, 11) {}
    BasicConsume = (60, 20) { reserved_1: u16, queue: Text, consumer_tag: Text, no_local: bool, no_ack: bool, exclusive: bool, no_wait: bool, arguments: Table }
    BasicConsumeOk = (60, 21) { consumer_tag: Text }
    BasicCancel = (60, 30) { consumer_tag: Text, no_wait: bool }
    BasicCancelOk = (60, 31) { consumer_tag: Text }
    BasicPublish = (60, 40) { reserved_1: u16, exchange: Text, routing_key: Text, mandatory: bool, immediate: bool }
    BasicReturn = (60, 50) { reply_code: u16, reply_text: Text, exchange: Text, routing_key: Text }
    BasicDeliver = (60, 60) { consumer_tag: Text, delivery_tag: u64, redelivered: bool, exchange: Text, routing_key: Text }
    BasicGet = (60, 70) { reserved_1: u16, queue: Text, no_ack: bool }
    BasicGetOk = (60, 71) { delivery_tag: u64, redelivered: bool, exchange: Text, routing_key: Text, message_count: u32 }
    BasicGetEmpty = (60, 72) { reserved_1: Text }
    BasicAck = (60, 80) { delivery_tag: u64, multiple: bool }
    BasicReject = (60, 90) { delivery_tag: u64, requeue: bool }
    BasicRecoverAsync = (60, 100) { requeue: bool }
    BasicRecover = (60, 110) { requeue: bool }
    BasicRecoverOk = (60, 111) {}
    BasicNack = (60, 120) { delivery_tag: u64, multiple: bool, requeue: bool }

    ConfirmSelect = (85, 10) { no_wait: bool }
    ConfirmSelectOk = (85, 11) {}

    TxSelect = (90, 10) {}
    TxSelectOk = (90, 11) {}
    TxCommit = (90, 20) {}
    TxCommitOk = (90, 21) {}
    TxRollback = (90, 30) {}
    TxRollbackOk = (90, 31) {}
}

impl Method {
    /// Reads the payload of a method frame.
    pub fn decode(payload: Bytes) -> Result<Method, MethodError> {
        let (class, id) = ids(&payload);
        let malformed = |error| MethodError::Malformed(class, id, error);
        let mut decoder = Decoder::new(payload);
        decoder.skip(4).map_err(malformed)?;
        let method = Method::decode_fields(class, id, &mut decoder).map_err(malformed)?;
        let method = method.ok_or(MethodError::Unknown(class, id))?;
        decoder.finish().map_err(malformed)?;
        Ok(method)
    }
}

/// The class and method ids at the start of a method frame's payload, 0 where there are none.
pub fn ids(payload: &[u8]) -> (u16, u16) {
    match payload {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use trivium_core::Value;

    use super::*;

    fn payload(method: &Method) -> Bytes {
        let mut out = BytesMut::new();
        method.encode(&mut out);
        out.freeze()
    }

    #[test]
    fn neighbouring_bits_share_an_octet() {
        let declare = Method::QueueDeclare {
            reserved_1: 0,
            queue: "q".into(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: true,
            no_wait: true,
            arguments: vec![("x".into(), Value::I32(1))],
        };
        assert_eq!(
            &payload(&declare)[..],
            b"\x00\x32\x00\x0a\0\0\x01q\x1a\0\0\0\x07\x01xI\0\0\0\x01"
        );
        assert_eq!(Method::decode(payload(&declare)), Ok(declare));
    }

    #[test]
    fn every_cut_of_a_method_is_truncated() {
        let consume = Method::BasicConsume {
            reserved_1: 0,
            queue: "jobs".into(),
            consumer_tag: "tag".into(),
            no_local: false,
            no_ack: true,
            exclusive: false,
            no_wait: false,
            arguments: Table::new(),
        };
        let whole = payload(&consume);
        for length in 4..whole.len() {
            let cut = Method::decode(whole.slice(..length));
            assert_eq!(
                cut,
                Err(MethodError::Malformed(60, 20, Malformed::Truncated))
            );
        }
    }

    #[test]
    fn unknown_ids_and_trailing_bytes_are_errors() {
        assert_eq!(
            Method::decode(Bytes::from_static(b"\0\x3c\x03\xe7")),
            Err(MethodError::Unknown(60, 999))
        );
        let trailing = Method::decode(Bytes::from_static(b"\0\x55\0\x0a\0!"));
        assert_eq!(
            trailing,
            Err(MethodError::Malformed(85, 10, Malformed::TrailingBytes(1)))
        );
    }
}
