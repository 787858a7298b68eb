//! How stored values are laid out: a format byte, then fields written with [`Writer`] and read with [`Reader`].
//!
//! A reader never panics and never allocates more than the bytes it is given; what it cannot read is
//! [`StoreError::Corrupt`].

pub(crate) mod admin;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::StoreError;
use crate::properties::{Text, Value};

/// Writes fields: varints, texts, bytes.
#[derive(Debug, Default)]
pub(crate) struct Writer(BytesMut);

impl Writer {
    /// A value of the given format.
    pub(crate) fn new(format: u8) -> Writer {
        let mut writer = Writer(BytesMut::with_capacity(64));
        writer.u8(format);
        writer
    }

    pub(crate) fn with_capacity(format: u8, capacity: usize) -> Writer {
        let mut writer = Writer(BytesMut::with_capacity(capacity));
        writer.u8(format);
        writer
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.put_u8(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    /// LEB128.
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.put_u8(value as u8);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.0.put_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Presence and the rest.
    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.varint(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    /// A typed value, as in headers and arguments.
    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.u8(b'V'),
            Value::Bool(v) => {
                self.u8(b't');
                self.bool(*v);
            }
            Value::I8(v) => {
                self.u8(b'b');
                self.0.put_i8(*v);
            }
            Value::U8(v) => {
                self.u8(b'B');
                self.u8(*v);
            }
            Value::I16(v) => {
                self.u8(b's');
                self.0.put_i16(*v);
            }
            Value::U16(v) => {
                self.u8(b'u');
                self.0.put_u16(*v);
            }
            Value::I32(v) => {
                self.u8(b'I');
                self.0.put_i32(*v);
            }
            Value::U32(v) => {
                self.u8(b'i');
                self.0.put_u32(*v);
            }
            Value::I64(v) => {
                self.u8(b'l');
                self.0.put_i64(*v);
            }
            Value::F32(v) => {
                self.u8(b'f');
                self.0.put_u32(v.to_bits());
            }
            Value::F64(v) => {
                self.u8(b'd');
                self.0.put_u64(v.to_bits());
            }
            Value::Decimal(scale, v) => {
                self.u8(b'D');
                self.u8(*scale);
                self.0.put_i32(*v);
            }
            Value::Text(v) => {
                self.u8(b'S');
                self.text(v);
            }
            Value::Bytes(v) => {
                self.u8(b'x');
                self.bytes(v);
            }
            Value::Timestamp(v) => {
                self.u8(b'T');
                self.0.put_u64(*v);
            }
            Value::Array(items) => {
                self.u8(b'A');
                self.list(items, Writer::value);
            }
            Value::Table(entries) => {
                self.u8(b'F');
                self.table(entries);
            }
        }
    }

    /// Named values in order.
    pub(crate) fn table(&mut self, entries: &[(Text, Value)]) {
        self.list(entries, |writer, (name, value)| {
            writer.text(name);
            writer.value(value);
        });
    }

    pub(crate) fn done(self) -> Bytes {
        self.0.freeze()
    }
}

/// Reads what [`Writer`] wrote; texts and bytes are slices of the value.
pub(crate) struct Reader(Bytes);

/// Deeper than any front end accepts.
const NESTING_MAX: usize = 64;

impl Reader {
    /// Opens a value and checks its format.
    pub(crate) fn new(mut value: Bytes, format: u8) -> Result<Reader, StoreError> {
        match value.try_get_u8() {
            Ok(found) if found == format => Ok(Reader(value)),
            Ok(found) => Err(StoreError::Corrupt(
                format!("unknown value format {found}, expected {format}").into(),
            )),
            Err(_) => Err(StoreError::Corrupt("empty value".into())),
        }
    }

    /// Opens a value of any format up to `newest`, and says of which.
    pub(crate) fn versioned(mut value: Bytes, newest: u8) -> Result<(u8, Reader), StoreError> {
        match value.try_get_u8() {
            Ok(found) if (1..=newest).contains(&found) => Ok((found, Reader(value))),
            Ok(found) => Err(StoreError::Corrupt(
                format!("unknown value format {found}, expected at most {newest}").into(),
            )),
            Err(_) => Err(StoreError::Corrupt("empty value".into())),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, StoreError> {
        self.0.try_get_u8().map_err(short)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, StoreError> {
        Ok(self.u8()? != 0)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, StoreError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(StoreError::Corrupt("varint is too long".into()))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, StoreError> {
        let length = self.varint()?;
        if length > self.0.len() as u64 {
            return Err(StoreError::Corrupt(
                "length runs past the end of a value".into(),
            ));
        }
        Ok(self.0.split_to(length as usize))
    }

    pub(crate) fn text(&mut self) -> Result<Text, StoreError> {
        Text::try_from(self.bytes()?).map_err(|_| StoreError::Corrupt("text is not UTF-8".into()))
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        if self.bool()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let count = self.varint()?;
        let mut items = Vec::with_capacity(count.min(self.0.len() as u64).min(1024) as usize);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(crate) fn value(&mut self) -> Result<Value, StoreError> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value, StoreError> {
        if depth > NESTING_MAX {
            return Err(StoreError::Corrupt("value is nested too deeply".into()));
        }
        Ok(match self.u8()? {
            b'V' => Value::Null,
            b't' => Value::Bool(self.bool()?),
            b'b' => Value::I8(self.0.try_get_i8().map_err(short)?),
            b'B' => Value::U8(self.u8()?),
            b's' => Value::I16(self.0.try_get_i16().map_err(short)?),
            b'u' => Value::U16(self.0.try_get_u16().map_err(short)?),
            b'I' => Value::I32(self.0.try_get_i32().map_err(short)?),
            b'i' => Value::U32(self.0.try_get_u32().map_err(short)?),
            b'l' => Value::I64(self.0.try_get_i64().map_err(short)?),
            b'f' => Value::F32(f32::from_bits(self.0.try_get_u32().map_err(short)?)),
            b'd' => Value::F64(f64::from_bits(self.0.try_get_u64().map_err(short)?)),
            b'D' => Value::Decimal(self.u8()?, self.0.try_get_i32().map_err(short)?),
            b'S' => Value::Text(self.text()?),
            b'x' => Value::Bytes(self.bytes()?),
            b'T' => Value::Timestamp(self.0.try_get_u64().map_err(short)?),
            b'A' => Value::Array(self.list(|reader| reader.value_at(depth + 1))?),
            b'F' => {
                Value::Table(self.list(|reader| Ok((reader.text()?, reader.value_at(depth + 1)?)))?)
            }
            tag => {
                return Err(StoreError::Corrupt(
                    format!("unknown value tag {tag}").into(),
                ));
            }
        })
    }

    pub(crate) fn table(&mut self) -> Result<Vec<(Text, Value)>, StoreError> {
        self.list(|reader| Ok((reader.text()?, reader.value()?)))
    }
}

fn short(_: bytes::TryGetError) -> StoreError {
    StoreError::Corrupt("value ends too early".into())
}

/// Rows of [`super::Table::Catalog`].
pub(crate) mod catalog {
    use std::time::Duration;

    use super::{Bytes, Reader, StoreError, Text, Writer};
    use crate::{
        command::{
            Binding, Destination, ExchangeKind, ExchangeSpec, LogSpec, QueueSpec, Subscription,
        },
        event::LogInfo,
        id::BindingTag,
        topic::Grammar,
    };

    const FORMAT: u8 = 1;

    /// An exchange with its vhost and name.
    #[derive(Debug, PartialEq)]
    pub(crate) struct ExchangeRow {
        pub vhost: Text,
        pub name: Text,
        pub spec: ExchangeSpec,
        /// The number of a delayed exchange.
        pub delay: Option<u64>,
    }

    /// A queue with its vhost and name; its id is in the key.
    #[derive(Debug, PartialEq)]
    pub(crate) struct QueueRow {
        pub vhost: Text,
        pub name: Text,
        pub spec: QueueSpec,
    }

    /// A log with its vhost and name; its id is in the key.
    #[derive(Debug, PartialEq)]
    pub(crate) struct LogRow {
        pub vhost: Text,
        pub name: Text,
        pub uuid: [u8; 16],
        pub spec: LogSpec,
        /// Who it is tapped for; nobody in rows of the first format.
        pub tapped_by: Text,
    }

    /// A binding with its vhost; its number is in the key.
    #[derive(Debug, PartialEq)]
    pub(crate) struct BindingRow {
        pub vhost: Text,
        pub binding: Binding,
    }

    /// The next number for a queue or log.
    pub(crate) fn write_next_id(next: u64) -> Bytes {
        let mut writer = Writer::new(FORMAT);
        writer.varint(next);
        writer.done()
    }

    pub(crate) fn read_next_id(value: Bytes) -> Result<u64, StoreError> {
        Reader::new(value, FORMAT)?.varint()
    }

    impl ExchangeRow {
        /// Only durable exchanges have rows, so that is not said in them.
        pub(crate) fn write(
            vhost: &str,
            name: &str,
            spec: &ExchangeSpec,
            delay: Option<u64>,
        ) -> Bytes {
            let mut writer = Writer::new(FORMAT);
            writer.text(vhost);
            writer.text(name);
            writer.u8(match spec.kind {
                ExchangeKind::Direct => 0,
                ExchangeKind::Fanout => 1,
                ExchangeKind::Topic => 2,
                ExchangeKind::Headers => 3,
                ExchangeKind::ConsistentHash => 4,
                ExchangeKind::Random => 5,
                ExchangeKind::LocalRandom => 6,
                ExchangeKind::ModulusHash => 7,
                ExchangeKind::Delayed => 8,
                ExchangeKind::FederationUpstream => 9,
                ExchangeKind::RecentHistory => 10,
            });
            writer.bool(spec.auto_delete);
            writer.bool(spec.internal);
            writer.table(&spec.arguments);
            if let Some(delay) = delay {
                writer.varint(delay);
            }
            writer.done()
        }

        pub(crate) fn read(value: Bytes) -> Result<ExchangeRow, StoreError> {
            let mut reader = Reader::new(value, FORMAT)?;
            let (vhost, name) = (reader.text()?, reader.text()?);
            let kind = match reader.u8()? {
                0 => ExchangeKind::Direct,
                1 => ExchangeKind::Fanout,
                2 => ExchangeKind::Topic,
                3 => ExchangeKind::Headers,
                4 => ExchangeKind::ConsistentHash,
                5 => ExchangeKind::Random,
                6 => ExchangeKind::LocalRandom,
                7 => ExchangeKind::ModulusHash,
                8 => ExchangeKind::Delayed,
                9 => ExchangeKind::FederationUpstream,
                10 => ExchangeKind::RecentHistory,
                kind => return Err(unknown("exchange kind", kind)),
            };
            let (auto_delete, internal) = (reader.bool()?, reader.bool()?);
            let arguments = reader.table()?;
            let delay = match kind {
                ExchangeKind::Delayed => Some(reader.varint()?),
                _ => None,
            };
            Ok(ExchangeRow {
                delay,
                vhost,
                name,
                spec: ExchangeSpec {
                    kind,
                    durable: true,
                    auto_delete,
                    internal,
                    arguments,
                },
            })
        }
    }

    impl QueueRow {
        /// Only durable queues have rows, so that is not said in them.
        pub(crate) fn write(vhost: &str, name: &str, spec: &QueueSpec) -> Bytes {
            let mut writer = Writer::new(FORMAT);
            writer.text(vhost);
            writer.text(name);
            writer.bool(spec.auto_delete);
            writer.option(spec.expires, |writer, expires| {
                writer.varint(expires.as_millis() as u64)
            });
            writer.bool(spec.session);
            writer.table(&spec.arguments);
            writer.done()
        }

        pub(crate) fn read(value: Bytes) -> Result<QueueRow, StoreError> {
            let mut reader = Reader::new(value, FORMAT)?;
            let (vhost, name) = (reader.text()?, reader.text()?);
            let auto_delete = reader.bool()?;
            let expires = reader.option(Reader::varint)?.map(Duration::from_millis);
            let session = reader.bool()?;
            let arguments = reader.table()?;
            let spec = QueueSpec {
                durable: true,
                exclusive: false,
                auto_delete,
                expires,
                session,
                arguments,
            };
            Ok(QueueRow { vhost, name, spec })
        }
    }

    impl LogRow {
        /// The second format knows who the log is tapped for.
        const FORMAT: u8 = 2;

        pub(crate) fn write(vhost: &str, info: &LogInfo, tapped_by: &str) -> Bytes {
            let LogInfo {
                name, uuid, spec, ..
            } = info;
            let mut writer = Writer::new(LogRow::FORMAT);
            writer.text(vhost);
            writer.text(name);
            writer.bytes(uuid);
            writer.varint(spec.partitions.into());
            writer.list(&spec.settings, |writer, (name, value)| {
                writer.text(name);
                writer.text(value);
            });
            writer.text(tapped_by);
            writer.done()
        }

        pub(crate) fn read(value: Bytes) -> Result<LogRow, StoreError> {
            let (format, mut reader) = Reader::versioned(value, LogRow::FORMAT)?;
            let (vhost, name) = (reader.text()?, reader.text()?);
            let uuid = reader.bytes()?[..]
                .try_into()
                .map_err(|_| StoreError::Corrupt("uuid is not 16 bytes".into()))?;
            let partitions = u32::try_from(reader.varint()?)
                .map_err(|_| StoreError::Corrupt("number of partitions is out of range".into()))?;
            let settings = reader.list(|reader| Ok((reader.text()?, reader.text()?)))?;
            let tapped_by = match format {
                1 => Text::new(),
                _ => reader.text()?,
            };
            Ok(LogRow {
                tapped_by,
                vhost,
                name,
                uuid,
                spec: LogSpec {
                    partitions,
                    settings,
                },
            })
        }
    }

    /// That a session takes part in a group; which is in the key.
    pub(crate) struct ShareRow;

    impl ShareRow {
        pub(crate) fn write(subscription: Subscription) -> Bytes {
            let mut writer = Writer::new(FORMAT);
            writer.varint(subscription.tag.0);
            writer.bool(subscription.best_effort);
            writer.done()
        }

        pub(crate) fn read(value: Bytes) -> Result<Subscription, StoreError> {
            let mut reader = Reader::new(value, FORMAT)?;
            Ok(Subscription {
                tag: BindingTag(reader.varint()?),
                best_effort: reader.bool()?,
                no_local: false,
            })
        }
    }

    impl BindingRow {
        pub(crate) fn write(vhost: &str, binding: &Binding) -> Bytes {
            let mut writer = Writer::new(FORMAT);
            writer.text(vhost);
            writer.text(&binding.source);
            let (kind, name) = match &binding.destination {
                Destination::Queue(name) => (0, name),
                Destination::Session(name) => (1, name),
                Destination::Exchange(name) => (2, name),
                Destination::Log(name) => (3, name),
            };
            writer.u8(kind);
            writer.text(name);
            writer.text(&binding.key);
            writer.u8(match binding.grammar {
                Grammar::Dots => 0,
                Grammar::Slashes => 1,
            });
            writer.table(&binding.arguments);
            writer.option(binding.subscription, |writer, subscription| {
                writer.varint(subscription.tag.0);
                writer.bool(subscription.best_effort);
                writer.bool(subscription.no_local);
            });
            writer.done()
        }

        pub(crate) fn read(value: Bytes) -> Result<BindingRow, StoreError> {
            let mut reader = Reader::new(value, FORMAT)?;
            let (vhost, source) = (reader.text()?, reader.text()?);
            let destination = match (reader.u8()?, reader.text()?) {
                (0, name) => Destination::Queue(name),
                (1, name) => Destination::Session(name),
                (2, name) => Destination::Exchange(name),
                (3, name) => Destination::Log(name),
                (kind, _) => return Err(unknown("destination", kind)),
            };
            let key = reader.text()?;
            let grammar = match reader.u8()? {
                0 => Grammar::Dots,
                1 => Grammar::Slashes,
                grammar => return Err(unknown("grammar", grammar)),
            };
            let arguments = reader.table()?;
            let subscription = reader.option(|reader| {
                let tag = BindingTag(reader.varint()?);
                Ok(Subscription {
                    tag,
                    best_effort: reader.bool()?,
                    no_local: reader.bool()?,
                })
            })?;
            Ok(BindingRow {
                vhost,
                binding: Binding {
                    source,
                    destination,
                    key,
                    grammar,
                    arguments,
                    subscription,
                },
            })
        }
    }

    /// Arguments without regard to their order, as RabbitMQ compares those of bindings.
    pub(crate) fn arguments_key(arguments: &[(Text, crate::properties::Value)]) -> Bytes {
        if arguments.is_empty() {
            return Bytes::new();
        }
        let mut sorted = arguments.to_vec();
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut writer = Writer::new(FORMAT);
        writer.table(&sorted);
        writer.done()
    }

    fn unknown(what: &str, found: u8) -> StoreError {
        StoreError::Corrupt(format!("unknown {what} {found}").into())
    }
}

/// How far a binding by way of a log is.
pub(crate) fn write_position(offset: crate::id::Offset) -> Bytes {
    let mut writer = Writer::with_capacity(1, 10);
    writer.varint(offset.0);
    writer.done()
}

pub(crate) fn read_position(value: Bytes) -> Result<crate::id::Offset, StoreError> {
    Ok(crate::id::Offset(Reader::new(value, 1)?.varint()?))
}
