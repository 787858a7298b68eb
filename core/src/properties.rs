//! The neutral properties of a message: what every protocol's own block converts to and from.

use bytes::Bytes;
use bytestring::ByteString;

/// A validated UTF-8 string over shared bytes.
pub type Text = ByteString;

/// Properties and headers of a message in no protocol's encoding (DESIGN section 3.3).
///
/// What the message itself holds (body, key, topic, timestamp, expiry, persistence, priority) is not repeated here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<Text>,
    /// Encoding of the body, such as `gzip`.
    pub content_encoding: Option<Text>,
    /// The application's id of the message.
    pub message_id: Option<Text>,
    /// What a reply refers to; bytes, because MQTT's correlation data is.
    pub correlation_id: Option<Bytes>,
    /// Where a reply goes, in the terms of the origin's protocol.
    pub reply_to: Option<Text>,
    /// The application's name of the kind of message.
    pub kind: Option<Text>,
    /// The application that sent it.
    pub app_id: Option<Text>,
    /// The user that sent it, as it says.
    pub user_id: Option<Text>,
    /// Headers in order, duplicates kept.
    pub headers: Vec<(Text, Value)>,
}

/// A typed header value. The variants are the field types of AMQP 0-9-1 as RabbitMQ speaks it;
/// other protocols use `Text`, `Bytes` and `Null`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `V`: no value.
    Null,
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` (and `L`, which RabbitMQ reads as signed too)
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: unscaled value and decimal places.
    Decimal(u8, i32),
    /// `S`: text.
    Text(Text),
    /// `x`: bytes, and `S` that is not UTF-8.
    Bytes(Bytes),
    /// `T`: seconds since the Unix epoch.
    Timestamp(u64),
    /// `A`
    Array(Vec<Value>),
    /// `F`
    Table(Vec<(Text, Value)>),
}

impl Value {
    /// The value of an integer of any width.
    pub fn integer(&self) -> Option<i64> {
        Some(match self {
            Value::I8(v) => (*v).into(),
            Value::U8(v) => (*v).into(),
            Value::I16(v) => (*v).into(),
            Value::U16(v) => (*v).into(),
            Value::I32(v) => (*v).into(),
            Value::U32(v) => (*v).into(),
            Value::I64(v) => *v,
            _ => return None,
        })
    }

    /// RabbitMQ's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "void",
            Value::Bool(_) => "bool",
            Value::I8(_) => "byte",
            Value::U8(_) => "unsignedbyte",
            Value::I16(_) => "short",
            Value::U16(_) => "unsignedshort",
            Value::I32(_) => "signedint",
            Value::U32(_) => "unsignedint",
            Value::I64(_) => "long",
            Value::F32(_) => "float",
            Value::F64(_) => "double",
            Value::Decimal(..) => "decimal",
            Value::Text(_) => "longstr",
            Value::Bytes(_) => "binary",
            Value::Timestamp(_) => "timestamp",
            Value::Array(_) => "array",
            Value::Table(_) => "table",
        }
    }
}
