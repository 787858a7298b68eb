//! Messages to the client: basic.deliver, basic.get-ok and basic.return with their content (section 4.2.6), each in one
//! pass over the output and, for messages that came by AMQP, without allocation.

use bytes::{BufMut, BytesMut};
use trivium_core::{Delivery, Dialect, Message};
use trivium_protocol::Output;

use crate::{
    foreign,
    frame::{END, FrameKind, OVERHEAD, put_frame, put_header, put_method},
    method::Method,
    properties::{self, Basic},
    rewrite::{self, Returns},
    wire::put_short_string,
};

/// The class id of basic.
const BASIC: u16 = 60;
const DELIVER: u16 = 60;
const GET_OK: u16 = 71;
const RETURN: u16 = 50;

/// Where frames go: a channel of a connection with its negotiated frame size.
pub struct Destination<'a> {
    /// The connection's output.
    pub output: &'a mut Output,
    /// The channel.
    pub channel: u16,
    /// The largest frame, all overhead included.
    pub frame_max: usize,
}

impl Destination<'_> {
    /// Appends a method frame.
    pub fn method(&mut self, method: &Method) {
        put_method(self.output.buffer(), self.channel, method);
    }

    /// Appends basic.deliver and the message. How many headers were left out, if it came by another protocol.
    pub fn deliver(
        &mut self,
        consumer_tag: &str,
        delivery_tag: u64,
        delivery: &Delivery,
    ) -> Option<usize> {
        let message = &*delivery.message;
        self.content_method(
            DELIVER,
            message,
            |out| {
                put_short_string(out, consumer_tag);
                out.put_u64(delivery_tag);
                out.put_u8(delivery.redelivered.into());
            },
            |_| (),
        );
        self.content(message, Returns::of(delivery))
    }

    /// Appends basic.get-ok and the message, as [`Destination::deliver`].
    pub fn get_ok(
        &mut self,
        delivery_tag: u64,
        remaining: u64,
        delivery: &Delivery,
    ) -> Option<usize> {
        let message = &*delivery.message;
        self.content_method(
            GET_OK,
            message,
            |out| {
                out.put_u64(delivery_tag);
                out.put_u8(delivery.redelivered.into());
            },
            |out| out.put_u32(remaining.try_into().unwrap_or(u32::MAX)),
        );
        self.content(message, Returns::of(delivery))
    }

    /// Appends basic.return and the message.
    pub fn basic_return(&mut self, reply_code: u16, reply_text: &str, message: &Message) {
        self.content_method(
            RETURN,
            message,
            |out| {
                out.put_u16(reply_code);
                put_short_string(out, reply_text);
            },
            |_| (),
        );
        self.content(message, Returns::default());
    }

    /// A method of basic whose fields are exchange and routing key with others before and behind.
    fn content_method(
        &mut self,
        method: u16,
        message: &Message,
        before: impl FnOnce(&mut BytesMut),
        behind: impl FnOnce(&mut BytesMut),
    ) {
        put_frame(
            self.output.buffer(),
            FrameKind::Method,
            self.channel,
            |out| {
                out.put_u16(BASIC);
                out.put_u16(method);
                before(out);
                put_short_string(out, &message.exchange);
                put_short_string(out, &foreign::routing_key(&message.topic));
                behind(out);
            },
        );
    }

    /// The content header and as many body frames as the frame size asks for. How many headers were left out, if the
    /// message came by another protocol.
    fn content(&mut self, message: &Message, returns: Returns) -> Option<usize> {
        let size = message.body.as_ref().map_or(0, |body| body.len());
        let mut dropped = None;
        let frame_max = self.frame_max;
        put_frame(
            self.output.buffer(),
            FrameKind::Header,
            self.channel,
            |out| {
                out.put_u16(BASIC);
                out.put_u16(0);
                out.put_u64(size as u64);
                dropped = put_properties(message, returns, frame_max, out);
            },
        );
        let payload_max = self.frame_max - OVERHEAD;
        let Some(body) = &message.body else {
            return dropped;
        };
        if size > 0 && size <= payload_max {
            put_header(self.output.buffer(), FrameKind::Body, self.channel, size);
            self.output.body(body);
            self.output.buffer().put_u8(END);
            return dropped;
        }
        for start in (0..size).step_by(payload_max) {
            let piece = body.slice(start..size.min(start + payload_max));
            put_header(
                self.output.buffer(),
                FrameKind::Body,
                self.channel,
                piece.len(),
            );
            self.output.body(&piece);
            self.output.buffer().put_u8(END);
        }
        dropped
    }
}

/// The message's properties. How many headers were left out, if it came by another protocol.
fn put_properties(
    message: &Message,
    returns: Returns,
    frame_max: usize,
    out: &mut BytesMut,
) -> Option<usize> {
    if message.native.dialect.id() != Basic.id() {
        return Some(properties::encode(message, returns, frame_max, out));
    }
    if returns == Returns::default() && message.origin.deaths.is_none() {
        out.put_slice(&message.native.block);
    } else {
        rewrite::put_with_history(message, returns, out);
    }
    None
}
