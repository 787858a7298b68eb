//! Frames of channels: handed to an open one, and the opening and closing of channels (section 1.5).

use bytes::Bytes;
use trivium_protocol::Effects;

use super::{Connection, Slot};
use crate::{
    channel::Channel,
    error::{Error, ReplyCode},
    frame::{Frame, FrameKind, put_method},
    method::{self, Method},
};

impl Connection {
    pub(super) fn handle_channel_frame(
        &mut self,
        frame: Frame,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let number = frame.channel;
        if self.blocking.is_on() {
            self.hold_back_publisher(&frame, effects);
        }
        match self.channels.get_mut(&number) {
            Some(Slot::Open(channel)) => match frame.kind {
                FrameKind::Header => channel.handle_header(frame.payload, &self.session, effects),
                FrameKind::Body => channel.handle_body(frame.payload, &self.session, effects),
                _ => match Method::decode(frame.payload)? {
                    Method::ChannelClose { .. } => {
                        channel.close(&mut self.session, effects);
                        self.channels.remove(&number);
                        put_method(effects.output.buffer(), number, &Method::ChannelCloseOk {});
                        Ok(())
                    }
                    Method::ChannelCloseOk {} => Ok(()),
                    method => channel.handle_method(method, &mut self.session, effects),
                },
            },
            Some(Slot::Closing) => {
                self.handle_closing_channel(&frame, effects);
                Ok(())
            }
            None => self.open_channel(frame, effects),
        }
    }

    /// After channel.close only its answer counts, or the client's own close that crossed it (1.5.2.5).
    pub(super) fn handle_closing_channel(&mut self, frame: &Frame, effects: &mut Effects) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match Method::decode(frame.payload.clone()) {
            Ok(Method::ChannelCloseOk {}) => {
                self.channels.remove(&frame.channel);
            }
            Ok(Method::ChannelClose { .. }) => {
                self.channels.remove(&frame.channel);
                put_method(
                    effects.output.buffer(),
                    frame.channel,
                    &Method::ChannelCloseOk {},
                );
            }
            _ => {}
        }
    }

    pub(super) fn open_channel(
        &mut self,
        frame: Frame,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let opens = frame.kind == FrameKind::Method && method::ids(&frame.payload) == (20, 10);
        if !opens {
            // A close-ok may be left over from a close that crossed ours.
            let left_over =
                frame.kind == FrameKind::Method && method::ids(&frame.payload) == (20, 41);
            return if left_over {
                Ok(())
            } else {
                Err(channel_error("expected 'channel.open'"))
            };
        }
        Method::decode(frame.payload)?;
        if frame.channel > self.channel_max || self.channels.len() >= self.channel_max.into() {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({})",
                self.channels.len(),
                self.channel_max
            );
            return Err(Error::connection(ReplyCode::NotAllowed, text));
        }
        let channel = Channel::open(frame.channel, &self.session)
            .map_err(|full| Error::connection(ReplyCode::NotAllowed, full.to_string()))?;
        self.channels
            .insert(frame.channel, Slot::Open(Box::new(channel)));
        put_method(
            effects.output.buffer(),
            frame.channel,
            &Method::ChannelOpenOk {
                reserved_1: Bytes::new(),
            },
        );
        Ok(())
    }
}

fn channel_error(text: &'static str) -> Error {
    Error::connection(ReplyCode::ChannelError, text)
}
