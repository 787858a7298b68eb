//! A message on its way in: basic.publish, its content header and its body frames, in any split (section 4.2.6).
//!
//! ```text
//! Start ── basic.publish ──► Header ── content header ──► Body ── body frames ──► a message
//!                                          └── no body ──► a message
//! ```

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use trivium_core::{Grammar, Message, Native, Origin, Text, Topic};

use crate::{
    channel::PSEUDO_QUEUE,
    copies::{self, Copies},
    error::{Error, ReplyCode},
    properties::{Basic, Block, MQTT_REPLY_PREFIX},
    rewrite::{with_reply_to, without_header},
    wire::Malformed,
};

static BASIC: Basic = Basic;
const BASIC_CLASS: u16 = 60;

/// The fields of basic.publish.
#[derive(Debug)]
pub struct Publish {
    /// The exchange.
    pub exchange: Text,
    /// The routing key.
    pub routing_key: Text,
    /// To be returned when it has no destination.
    pub mandatory: bool,
}

/// Who publishes, and what it may.
#[derive(Debug)]
pub struct Publisher<'a> {
    /// User and vhost.
    pub origin: &'a Arc<Origin>,
    /// Messages may claim to be another user's.
    pub is_impersonator: bool,
    /// The largest body in bytes.
    pub size_max: usize,
    /// Where replies to the pseudo-queue go, if the channel consumes from it.
    pub reply_address: Option<&'a Text>,
}

/// A message whose method frame was read.
#[derive(Debug)]
pub enum Content {
    /// The content header must come next.
    Header(Publish),
    /// Body frames must come next.
    Body(Draft),
}

/// A message whose content header was read.
#[derive(Debug)]
pub struct Draft {
    /// To be returned when it has no destination.
    pub mandatory: bool,
    /// Where CC and BCC lead.
    also: Box<[Topic]>,
    /// Shared from the start, so that it is never moved; nobody else has it yet.
    message: Arc<Message>,
    size: usize,
    /// What came in frames that did not hold the whole body. Grows with what arrives, not with what was announced.
    received: BytesMut,
}

impl Draft {
    /// Reads a content header and checks everything it says.
    pub fn new(publish: Publish, header: Bytes, by: &Publisher<'_>) -> Result<Draft, Error> {
        let size_max = by.size_max;
        let (size, block) = content_header(header)?;
        if size > size_max as u64 {
            return Err(Error::precondition(format!(
                "message size {size} is larger than configured max size {size_max}"
            )));
        }
        let mandatory = publish.mandatory;
        let (message, also) = message(publish, block, size == 0, by)?;
        Ok(Draft {
            mandatory,
            also,
            message,
            size: size as usize,
            received: BytesMut::new(),
        })
    }

    /// Whether the body is complete.
    pub fn is_complete(&self) -> bool {
        self.message.body.is_some()
    }

    /// Takes a body frame.
    pub fn append(&mut self, payload: Bytes) -> Result<(), Error> {
        let received = self.received.len() + payload.len();
        if received > self.size {
            let text = format!(
                "content body of {received} bytes exceeds the {} announced",
                self.size
            );
            return Err(Error::connection(ReplyCode::FrameError, text));
        }
        if payload.len() == self.size {
            self.set_body(payload);
            return Ok(());
        }
        // Doubling would copy a large body again and again; once a good part of it has come, the rest is believed.
        if received * 4 >= self.size {
            self.received.reserve(self.size - self.received.len());
        }
        self.received.extend_from_slice(&payload);
        if received == self.size {
            let body = self.received.split().freeze();
            self.set_body(body);
        }
        Ok(())
    }

    /// The message, complete, and the topics besides its own that it goes by.
    pub fn finish(self) -> (Arc<Message>, Box<[Topic]>) {
        debug_assert!(self.is_complete());
        (self.message, self.also)
    }

    fn set_body(&mut self, body: Bytes) {
        let message = Arc::get_mut(&mut self.message).expect("a draft is not shared yet");
        message.body = Some(body);
    }
}

/// The body size and the property block of a content header.
fn content_header(mut header: Bytes) -> Result<(u64, Bytes), Error> {
    let mut number = |size: usize| header.try_get_uint(size).map_err(|_| Malformed::Truncated);
    let class = number(2)? as u16;
    let _weight = number(2)?;
    let size = number(8)?;
    if class != BASIC_CLASS {
        let text = format!(
            "expected content header for class {BASIC_CLASS}, got one for class {class} instead"
        );
        return Err(Error::connection(ReplyCode::UnexpectedFrame, text));
    }
    Ok((size, header))
}

fn message(
    publish: Publish,
    block: Bytes,
    empty: bool,
    by: &Publisher<'_>,
) -> Result<(Arc<Message>, Box<[Topic]>), Error> {
    let given = Block::parse(&block)?;
    let Copies { also, blind } = Copies::new(&given).map_err(Error::precondition)?;
    let changed = rewritten(&given, &block, by.reply_address)?;
    let (block, properties) = match &changed {
        Some(changed) => (changed.clone(), Block::parse(changed)?),
        None => (block.clone(), given),
    };
    let origin = by.origin;
    if let Some(claimed) = properties
        .user_id()
        .filter(|claimed| *claimed != origin.user.as_bytes() && !by.is_impersonator)
    {
        let claimed = String::from_utf8_lossy(claimed);
        let text = format!(
            "user_id property set to '{claimed}' but authenticated user was '{}'",
            origin.user
        );
        return Err(Error::precondition(text));
    }
    let (exchange, topic) = address(publish.exchange, publish.routing_key);
    let message = Message {
        exchange,
        topic: Topic::new(topic, Grammar::Dots),
        body: empty.then(Bytes::new),
        key: properties.key().map(|key| block.slice_ref(key)),
        timestamp: properties.timestamp(),
        expiry_ms: properties.expiry_ms().map_err(Error::precondition)?,
        persistence: properties.persistence(),
        priority: properties.priority(),
        retain: properties.retain(),
        native: Native {
            dialect: &BASIC,
            block,
        },
        origin: match blind {
            None => origin.clone(),
            blind_copies => Arc::new(Origin {
                blind_copies,
                ..(**origin).clone()
            }),
        },
    };
    Ok((Arc::new(message), also))
}

/// The block as others are to see it, if that differs: without BCC, and with an address to reply to in place of the
/// pseudo-queue.
fn rewritten(
    properties: &Block<'_>,
    block: &Bytes,
    reply_address: Option<&Text>,
) -> Result<Option<Bytes>, Error> {
    let mut changed = None;
    if properties.bcc().is_some() {
        changed = Some(without_header(block, copies::BCC)?);
    }
    if properties.reply_to() == Some(PSEUDO_QUEUE.as_bytes()) {
        let address = reply_address
            .ok_or_else(|| Error::precondition("fast reply consumer does not exist"))?;
        changed = Some(with_reply_to(changed.as_ref().unwrap_or(block), address)?);
    }
    Ok(changed)
}

/// Replies to MQTT 5 requesters look like replies to a queue, and are published on `amq.topic` (DESIGN section 3.4).
fn address(exchange: Text, routing_key: Text) -> (Text, Text) {
    match routing_key.strip_prefix(MQTT_REPLY_PREFIX) {
        Some(topic) if exchange.is_empty() => {
            (Text::from_static("amq.topic"), routing_key.slice_ref(topic))
        }
        _ => (exchange, routing_key),
    }
}
