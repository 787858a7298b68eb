//! Basic properties (section 4.2.6.1): a word of flags, then the fields whose flag is set, highest bit first.
//!
//! A published block is validated in one pass and kept as it came; a consumer that speaks AMQP gets the
//! same bytes. [`Basic`] turns a stored block into neutral [`Properties`], and [`encode`] makes a
//! block for a message that came by another protocol.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use trivium_core::{
    Dialect, Message, Persistence, Properties, Text, Timestamp, Topic, Value, record_place,
};

use crate::{
    copies::{BCC, CC},
    field_table::{self, RawValue, Table},
    foreign,
    rewrite::Returns,
    wire::{Malformed, put_short_string},
};

/// The header that carries a record's key.
pub const KEY_HEADER: &str = "x-key";
/// The header that asks for a retained message, or says that it was one.
pub const RETAIN_HEADER: &str = "x-mqtt-retain";
/// The header with the milliseconds of a time whose property has seconds.
pub const TIME_HEADER: &str = "timestamp_in_ms";
/// The routing keys that lead to an MQTT 5 requester's response topic, which follows.
pub const MQTT_REPLY_PREFIX: &str = "amq.mqtt-reply.";

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
/// The flag of the headers.
pub const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
/// The flag of the lifetime.
pub const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const KIND: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
const UNKNOWN: u16 = 0b11;

/// The header that the last property is to protocols that have no place for it. It is of no use since version 0-9-1.
const CLUSTER_ID_HEADER: &str = "mq.cluster-id";

/// Bytes of a content header besides the headers, at most: its frame, its own fields, and ten strings with two numbers.
const BESIDE_HEADERS: usize = 8 + 14 + 10 * 256 + 10;

/// The longest `expiration` in milliseconds that RabbitMQ takes: ten years.
const EXPIRATION_MAX: u64 = 315_360_000_000;

/// A timestamp above this many seconds (the year 5138) must be meant in milliseconds.
const SECONDS_MAX: u64 = 100_000_000_000;

/// A property block taken apart, nothing copied. Strings are bytes: RabbitMQ does not ask for UTF-8 here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block<'a> {
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    headers: Option<&'a [u8]>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    correlation_id: Option<&'a [u8]>,
    reply_to: Option<&'a [u8]>,
    expiration: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
    timestamp: Option<u64>,
    timestamp_ms: Option<u64>,
    kind: Option<&'a [u8]>,
    user_id: Option<&'a [u8]>,
    app_id: Option<&'a [u8]>,
    cluster_id: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    cc: Option<RawValue<'a>>,
    bcc: Option<RawValue<'a>>,
    retain: bool,
}

impl<'a> Block<'a> {
    /// Takes a block apart and checks all of it.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Block<'a>, Malformed> {
        let input = &mut bytes;
        let flags = input.try_get_u16().map_err(|_| Malformed::Truncated)?;
        if flags & UNKNOWN != 0 {
            return Err(Malformed::UnknownProperties(flags));
        }
        let mut block = Block {
            content_type: short_if(flags & CONTENT_TYPE, input)?,
            content_encoding: short_if(flags & CONTENT_ENCODING, input)?,
            ..Block::default()
        };
        if flags & HEADERS != 0 {
            block.parse_headers(input)?;
        }
        block.delivery_mode = octet_if(flags & DELIVERY_MODE, input)?;
        block.priority = octet_if(flags & PRIORITY, input)?;
        block.correlation_id = short_if(flags & CORRELATION_ID, input)?;
        block.reply_to = short_if(flags & REPLY_TO, input)?;
        block.expiration = short_if(flags & EXPIRATION, input)?;
        block.message_id = short_if(flags & MESSAGE_ID, input)?;
        if flags & TIMESTAMP != 0 {
            block.timestamp = Some(input.try_get_u64().map_err(|_| Malformed::Truncated)?);
        }
        block.kind = short_if(flags & KIND, input)?;
        block.user_id = short_if(flags & USER_ID, input)?;
        block.app_id = short_if(flags & APP_ID, input)?;
        block.cluster_id = short_if(flags & CLUSTER_ID, input)?;
        match input.len() {
            0 => Ok(block),
            left => Err(Malformed::TrailingBytes(left)),
        }
    }

    fn parse_headers(&mut self, input: &mut &'a [u8]) -> Result<(), Malformed> {
        let length = input.try_get_u32().map_err(|_| Malformed::Truncated)?;
        let (headers, rest) = input
            .split_at_checked(length as usize)
            .ok_or(Malformed::Truncated)?;
        field_table::validate(headers, |name, value| match name {
            KEY_HEADER => self.key = key_of(value),
            TIME_HEADER => self.timestamp_ms = milliseconds_of(value),
            RETAIN_HEADER => self.retain = is_true(value),
            CC => self.cc = self.cc.or(Some(value)),
            BCC => self.bcc = self.bcc.or(Some(value)),
            _ => {}
        })?;
        self.headers = Some(headers);
        *input = rest;
        Ok(())
    }

    /// What delivery mode says; none is transient in AMQP.
    pub fn persistence(&self) -> Persistence {
        match self.delivery_mode {
            Some(2) => Persistence::Persistent,
            _ => Persistence::Transient,
        }
    }

    /// The priority, if any.
    pub fn priority(&self) -> Option<u8> {
        self.priority
    }

    /// The lifetime in milliseconds, or why `expiration` is none.
    pub fn expiry_ms(&self) -> Result<Option<u64>, String> {
        let Some(bytes) = self.expiration else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(bytes);
        let invalid = |why: String| format!("invalid expiration '{text}': {why}");
        let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        if end == 0 {
            return Err(invalid("no_integer".to_owned()));
        }
        if end < digits.len() {
            let rest = &digits[end..];
            return Err(invalid(format!("{{leftover_string,\"{rest}\"}}")));
        }
        // Numbers of up to 253 digits fit; those over 64 bits are too big all the same.
        let digits = digits.trim_start_matches('0');
        let is_negative = text.starts_with('-') && !digits.is_empty();
        match digits.parse::<u64>() {
            _ if is_negative => Err(invalid(format!("{{value_negative,-{digits}}}"))),
            _ if digits.is_empty() => Ok(Some(0)),
            Ok(number) if number <= EXPIRATION_MAX => Ok(Some(number)),
            _ => Err(invalid(format!("{{value_too_large,{digits}}}"))),
        }
    }

    /// Where replies are wanted.
    pub fn reply_to(&self) -> Option<&'a [u8]> {
        self.reply_to
    }

    /// The header table without its length.
    pub fn headers(&self) -> Option<&'a [u8]> {
        self.headers
    }

    /// The header [`CC`].
    pub fn cc(&self) -> Option<RawValue<'a>> {
        self.cc
    }

    /// The header [`BCC`].
    pub fn bcc(&self) -> Option<RawValue<'a>> {
        self.bcc
    }

    /// The lifetime as it is spelled.
    pub fn expiration(&self) -> Option<&'a [u8]> {
        self.expiration
    }

    /// Bytes before the headers, or where they would be.
    pub fn headers_at(&self) -> usize {
        let short = |field: Option<&[u8]>| field.map_or(0, |field| 1 + field.len());
        2 + short(self.content_type) + short(self.content_encoding)
    }

    /// When the publisher says that the message was made: to the millisecond, if the header [`TIME_HEADER`] says so of
    /// the same second.
    pub fn timestamp(&self) -> Option<Timestamp> {
        let at = self.timestamp?;
        let exact = self.timestamp_ms.filter(|ms| ms / 1000 == at);
        let ms = exact.unwrap_or(if at > SECONDS_MAX { at } else { at * 1000 });
        Some(Timestamp(ms))
    }

    /// The user that the publisher claims to be.
    pub fn user_id(&self) -> Option<&'a [u8]> {
        self.user_id
    }

    /// The record key: the header [`KEY_HEADER`] if it is a string or bytes.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Whether the message is to be retained for MQTT: the header [`RETAIN_HEADER`].
    pub fn retain(&self) -> bool {
        self.retain
    }
}

fn short_if<'a>(flag: u16, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    if flag == 0 {
        return Ok(None);
    }
    let length = input.try_get_u8().map_err(|_| Malformed::Truncated)?;
    let (field, rest) = input
        .split_at_checked(length.into())
        .ok_or(Malformed::Truncated)?;
    *input = rest;
    Ok(Some(field))
}

fn octet_if(flag: u16, input: &mut &[u8]) -> Result<Option<u8>, Malformed> {
    if flag == 0 {
        return Ok(None);
    }
    input
        .try_get_u8()
        .map(Some)
        .map_err(|_| Malformed::Truncated)
}

fn key_of(value: RawValue<'_>) -> Option<&[u8]> {
    matches!(value.tag, b'S' | b'x').then_some(value.bytes)
}

fn milliseconds_of(value: RawValue<'_>) -> Option<u64> {
    let bytes: [u8; 8] = value.bytes.try_into().ok()?;
    (value.tag == b'l').then_some(u64::from_be_bytes(bytes))
}

fn is_true(value: RawValue<'_>) -> bool {
    match value.tag {
        b't' => value.bytes != [0],
        b'S' => value.bytes == b"true",
        _ => false,
    }
}

/// The dialect of messages published by AMQP 0-9-1.
#[derive(Clone, Copy, Debug)]
pub struct Basic;

impl Dialect for Basic {
    fn id(&self) -> u8 {
        1
    }

    fn properties(&self, block: &Bytes) -> Properties {
        let Ok(parsed) = Block::parse(block) else {
            return Properties::default();
        };
        let bytes = |field: Option<&[u8]>| field.map(|field| block.slice_ref(field));
        let text = |field| bytes(field).and_then(|bytes| Text::try_from(bytes).ok());
        let mut properties = Properties {
            content_type: text(parsed.content_type),
            content_encoding: text(parsed.content_encoding),
            message_id: text(parsed.message_id),
            correlation_id: bytes(parsed.correlation_id),
            reply_to: text(parsed.reply_to),
            kind: text(parsed.kind),
            app_id: text(parsed.app_id),
            user_id: text(parsed.user_id),
            headers: bytes(parsed.headers)
                .map_or_else(Table::new, |headers| neutral_headers(&headers)),
        };
        take_long(&mut properties);
        put_others(&mut properties, &parsed, block);
        properties
    }

    fn leaves_persistence_open(&self, block: &Bytes) -> bool {
        Block::parse(block).is_ok_and(|block| block.delivery_mode.is_none())
    }

    fn headers(&self, block: &Bytes) -> usize {
        let headers = Block::parse(block).ok().and_then(|parsed| parsed.headers);
        let mut count = 0;
        let _ = headers.map(|headers| field_table::validate(headers, |_, _| count += 1));
        count
    }

    fn asks_for_transience(&self, block: &Bytes) -> bool {
        Block::parse(block).is_ok_and(|block| block.delivery_mode == Some(1))
    }

    fn with_header(&self, block: &Bytes, name: &str, value: &Value) -> Bytes {
        let headers = Block::parse(block).ok().and_then(|parsed| parsed.headers);
        let Some(headers) = headers.map(|headers| block.slice_ref(headers)) else {
            return block.clone();
        };
        let start = headers.as_ptr() as usize - block.as_ptr() as usize;
        let mut table = field_table::decode(&headers).unwrap_or_default();
        for (known, current) in &mut table {
            if *known == name {
                *current = value.clone();
            }
        }
        let mut encoded = BytesMut::new();
        field_table::encode(&table, &mut encoded);
        let mut changed = BytesMut::with_capacity(block.len() + 8);
        // Before the table is its length, which `encode` writes too.
        changed.put_slice(&block[..start - size_of::<u32>()]);
        changed.put_slice(&encoded);
        changed.put_slice(&block[start + headers.len()..]);
        changed.freeze()
    }
}

/// Headers for properties that have no place elsewhere: those that are not UTF-8, and the last one.
fn put_others(properties: &mut Properties, parsed: &Block<'_>, block: &Bytes) {
    let headers = &mut properties.headers;
    let texts = [
        ("content-type", parsed.content_type),
        ("content-encoding", parsed.content_encoding),
        ("message-id", parsed.message_id),
        ("reply-to", parsed.reply_to),
        ("mq.type", parsed.kind),
        ("mq.app-id", parsed.app_id),
        ("user-id", parsed.user_id),
    ];
    for (name, field) in texts {
        let field = field.filter(|field| std::str::from_utf8(field).is_err());
        headers.extend(field.map(|field| (name.into(), Value::Bytes(block.slice_ref(field)))));
    }
    let cluster_id = parsed.cluster_id.map(|id| block.slice_ref(id));
    let cluster_id = cluster_id.map(field_table::text_or_bytes);
    headers.extend(cluster_id.map(|id| (CLUSTER_ID_HEADER.into(), id)));
}

/// Headers for what does not fit the property of that name.
const LONG_NAMES: [&str; 7] = [
    "x-message-id",
    "x-type",
    "x-app-id",
    "x-user-id",
    "x-reply-to",
    "x-content-type",
    "x-content-encoding",
];

/// What does not fit a property of AMQP is a header here, as [`encode`] writes it, and a property elsewhere.
fn take_long(properties: &mut Properties) {
    let Properties { headers, .. } = properties;
    let position = |headers: &Table, name: &str, is_free: bool| {
        headers.iter().position(|(it, _)| is_free && it == name)
    };
    let is_free = properties.correlation_id.is_none();
    if let Some(at) = position(headers, "x-correlation-id", is_free) {
        properties.correlation_id = match &headers[at].1 {
            Value::Text(text) => Some(text.as_bytes().clone()),
            Value::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        };
        if properties.correlation_id.is_some() {
            headers.remove(at);
        }
    }
    let texts = [
        ("x-message-id", &mut properties.message_id),
        ("x-type", &mut properties.kind),
        ("x-app-id", &mut properties.app_id),
        ("x-user-id", &mut properties.user_id),
        ("x-reply-to", &mut properties.reply_to),
        ("x-content-type", &mut properties.content_type),
        ("x-content-encoding", &mut properties.content_encoding),
    ];
    for (name, slot) in texts {
        let Some(at) = position(headers, name, slot.is_none()) else {
            continue;
        };
        match &headers[at].1 {
            Value::Text(text) => *slot = Some(text.clone()),
            // Not a text, so it cannot be the property, but has its name.
            Value::Bytes(_) => {
                headers[at].0 = common_name(name).into();
                continue;
            }
            _ => continue,
        }
        headers.remove(at);
    }
}

/// What a header that stands for a property is called where no property is longer than another.
fn common_name(long: &str) -> String {
    match long {
        "x-type" | "x-app-id" => long.replacen("x-", "mq.", 1),
        _ => long.trim_start_matches("x-").into(),
    }
}

/// The headers less those that the message holds itself.
fn neutral_headers(bytes: &Bytes) -> Table {
    let mut headers = field_table::decode(bytes).unwrap_or_default();
    headers.retain(|(name, value)| match &**name {
        KEY_HEADER => !matches!(value, Value::Text(_) | Value::Bytes(_)),
        RETAIN_HEADER => false,
        _ => true,
    });
    foreign::repeated(headers)
}

/// Appends the property block of a message that came by another protocol (DESIGN section 3.4). The headers that it
/// has no room for are left out: it is one frame, and names have 255 bytes. How many that were.
pub fn encode(message: &Message, returns: Returns, frame_max: usize, out: &mut BytesMut) -> usize {
    let properties = message.properties();
    let dropped = properties
        .headers
        .iter()
        .filter(|(name, _)| !foreign::fits(name))
        .count();
    let mut headers = foreign::headers(message, &properties.headers);
    returns.add_to(&mut headers);
    // A client of another protocol handed on what it was told of a message of AMQP.
    let mark = (Text::from_static("mq.persistent"), Value::Text("0".into()));
    let is_transient = headers.contains(&mark);
    headers.retain(|it| *it != mark);
    let cluster_id = take_cluster_id(&mut headers);
    for (name, _) in headers
        .iter_mut()
        .filter(|(_, value)| matches!(value, Value::Bytes(_)))
    {
        if let Some(long) = LONG_NAMES.iter().find(|long| common_name(long) == **name) {
            *name = Text::from_static(long);
        }
    }
    let at = out.len();
    out.put_u16(0);
    let table_max = frame_max.saturating_sub(BESIDE_HEADERS);
    let mut writer = Writer {
        out,
        flags: 0,
        headers: &mut headers,
        table_max,
        dropped,
    };
    let correlation_id = properties.correlation_id.as_deref();
    let correlation_text = correlation_id.and_then(|id| std::str::from_utf8(id).ok());
    if let (Some(id), None) = (&properties.correlation_id, correlation_text) {
        writer
            .headers
            .push(("x-correlation-id".into(), Value::Bytes(id.clone())));
    }
    let reply_to = properties
        .reply_to
        .as_ref()
        .map(|reply_to| reply_address(message, reply_to));
    let expiration = message.expiry_ms.map(|ms| ms.to_string());
    // What does not fit into a short string becomes a header, so the strings are looked at before the headers are written.
    let correlation_text = writer.fitting("x-correlation-id", correlation_text);
    let reply_to = writer.fitting("x-reply-to", reply_to.as_deref());
    let message_id = writer.fitting("x-message-id", properties.message_id.as_deref());
    let kind = writer.fitting("x-type", properties.kind.as_deref());
    let user_id = writer.fitting("x-user-id", properties.user_id.as_deref());
    let app_id = writer.fitting("x-app-id", properties.app_id.as_deref());
    let content_type = writer.fitting("x-content-type", properties.content_type.as_deref());
    let content_encoding =
        writer.fitting("x-content-encoding", properties.content_encoding.as_deref());

    writer.short(CONTENT_TYPE, content_type);
    writer.short(CONTENT_ENCODING, content_encoding);
    writer.headers();
    let mode = match message.persistence {
        Persistence::Transient => Some(1),
        _ if is_transient => Some(1),
        // What a stream says of a message of AMQP that did not say.
        Persistence::Unset if record_place(&message.native).is_some() => None,
        _ => Some(2),
    };
    writer.octet(DELIVERY_MODE, mode);
    writer.octet(PRIORITY, message.priority);
    writer.short(CORRELATION_ID, correlation_text);
    writer.short(REPLY_TO, reply_to);
    writer.short(EXPIRATION, expiration.as_deref());
    writer.short(MESSAGE_ID, message_id);
    writer.timestamp(message.timestamp);
    writer.short(KIND, kind);
    writer.short(USER_ID, user_id);
    writer.short(APP_ID, app_id);
    writer.short(CLUSTER_ID, cluster_id.as_deref());
    let (flags, dropped) = (writer.flags, writer.dropped);
    out[at..at + 2].copy_from_slice(&flags.to_be_bytes());
    dropped
}

/// Removes the header [`CLUSTER_ID_HEADER`], if its value fits the property.
fn take_cluster_id(headers: &mut Table) -> Option<Text> {
    let at = headers
        .iter()
        .position(|(name, _)| name == CLUSTER_ID_HEADER)?;
    let fits = matches!(&headers[at].1, Value::Text(text) if text.len() <= usize::from(u8::MAX));
    match headers.remove(at) {
        (_, Value::Text(text)) if fits => Some(text),
        header => {
            headers.push(header);
            None
        }
    }
}

/// Where an AMQP client sends its reply so that it reaches the requester.
fn reply_address(message: &Message, reply_to: &Text) -> Text {
    let topic = match reply_to.strip_prefix("mqtt:") {
        // So records say it.
        Some(topic) => topic,
        None if message.topic.grammar() == trivium_core::Grammar::Dots => return reply_to.clone(),
        None => reply_to,
    };
    if let Some(queue) = topic.strip_prefix("$queue/") {
        return queue.into();
    }
    let topic = Topic::new(topic.into(), trivium_core::Grammar::Slashes);
    format!(
        "{MQTT_REPLY_PREFIX}{}",
        topic.render(trivium_core::Grammar::Dots)
    )
    .into()
}

/// Appends fields and remembers their flags.
struct Writer<'a> {
    out: &'a mut BytesMut,
    flags: u16,
    headers: &'a mut Table,
    /// Bytes of the headers at most.
    table_max: usize,
    /// Headers beyond that.
    dropped: usize,
}

/// Leaves out the largest headers until the rest fits. How many that were.
fn shorten(headers: &mut Table, bytes_max: usize) -> usize {
    let mut scratch = BytesMut::new();
    let mut sizes: Vec<(usize, usize)> = Vec::with_capacity(headers.len());
    for (at, header) in headers.iter().enumerate() {
        scratch.clear();
        field_table::encode(std::slice::from_ref(header), &mut scratch);
        sizes.push((scratch.len(), at));
    }
    // Each was counted with the length of a table.
    let mut size: usize = sizes.iter().map(|(size, _)| size).sum();
    sizes.sort_unstable();
    let mut dropped = Vec::new();
    while size > bytes_max
        && let Some((bytes, at)) = sizes.pop()
    {
        size -= bytes;
        dropped.push(at);
    }
    let mut at = 0..;
    headers.retain(|_| at.next().is_none_or(|at| !dropped.contains(&at)));
    dropped.len()
}

impl Writer<'_> {
    /// `text` if it fits a short string; otherwise it becomes a header of the given name.
    fn fitting<'t>(&mut self, header: &'static str, text: Option<&'t str>) -> Option<&'t str> {
        let text = text?;
        if text.len() <= usize::from(u8::MAX) {
            return Some(text);
        }
        self.headers
            .push((Text::from_static(header), Value::Text(text.into())));
        None
    }

    fn short(&mut self, flag: u16, text: Option<&str>) {
        if let Some(text) = text {
            self.flags |= flag;
            put_short_string(self.out, text);
        }
    }

    fn octet(&mut self, flag: u16, octet: Option<u8>) {
        if let Some(octet) = octet {
            self.flags |= flag;
            self.out.put_u8(octet);
        }
    }

    fn headers(&mut self) {
        if self.headers.is_empty() {
            return;
        }
        self.flags |= HEADERS;
        let at = self.out.len();
        field_table::encode(self.headers, self.out);
        if self.out.len() - at > self.table_max {
            self.out.truncate(at);
            self.dropped += shorten(self.headers, self.table_max);
            field_table::encode(self.headers, self.out);
        }
    }

    fn timestamp(&mut self, timestamp: Option<Timestamp>) {
        if let Some(Timestamp(ms)) = timestamp {
            self.flags |= TIMESTAMP;
            self.out.put_u64(ms / 1000);
        }
    }
}
