//! The publisher's side of a channel: content coming in, confirms and returns going out.

use bytes::Bytes;
use trivium_core::{Command, Message, Refusal, Text, Token};
use trivium_protocol::{Effects, Output};

use super::{Channel, unexpected};
use crate::{
    confirm::PublishToken,
    error::{Error, ReplyCode, closes_publisher},
    publish::{Content, Draft, Publisher},
    session::Session,
};

impl Channel {
    /// A content header came.
    pub fn handle_header(
        &mut self,
        payload: Bytes,
        session: &Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let publish = match self.content.take() {
            Some(Content::Header(publish)) => publish,
            other => return Err(unexpected(other.as_ref())),
        };
        let by = Publisher {
            origin: &session.origin,
            is_impersonator: session.impersonator,
            size_max: session.options.max_message_size,
            reply_address: self.reply_address(),
        };
        let draft = Draft::new(publish, payload, &by)?;
        self.advance(draft, session.turn, effects)
    }

    /// A body frame came.
    pub fn handle_body(
        &mut self,
        payload: Bytes,
        session: &Session,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        let mut draft = match self.content.take() {
            Some(Content::Body(draft)) => draft,
            other => return Err(unexpected(other.as_ref())),
        };
        draft.append(payload)?;
        self.advance(draft, session.turn, effects)
    }

    /// Publishes a draft once it is complete.
    pub(super) fn advance(
        &mut self,
        draft: Draft,
        turn: u64,
        effects: &mut Effects,
    ) -> Result<(), Error> {
        if !draft.is_complete() {
            self.content = Some(Content::Body(draft));
            return Ok(());
        }
        let mandatory = draft.mandatory;
        let (message, also) = draft.finish();
        if self.transaction.is_some() {
            let token = self.next_publish_token();
            return self.stage(token, message, mandatory, also, effects);
        }
        let token = self.publish_token(&message.exchange, mandatory, turn);
        effects.commands.push(if also.is_empty() {
            Command::Publish {
                token,
                message,
                mandatory,
            }
        } else {
            Command::PublishCopies {
                token,
                message,
                mandatory,
                also,
            }
        });
        Ok(())
    }

    /// Without confirms, one publish of each turn and exchange has a token all the same, so that a missing exchange or
    /// permission is heard of; and so have mandatory ones, so that their return finds its channel.
    pub(super) fn publish_token(
        &mut self,
        exchange: &Text,
        mandatory: bool,
        turn: u64,
    ) -> Option<Token> {
        match &mut self.confirms {
            Some(confirms) => confirms.push(),
            None if !mandatory && self.probed.0 == turn && self.probed.1 == *exchange => {
                return None;
            }
            None => self.probed = (turn, exchange.clone()),
        }
        Some(self.next_publish_token())
    }

    fn next_publish_token(&mut self) -> Token {
        self.last_publish_token += 1;
        Token::from(PublishToken {
            channel: self.number,
            number: self.last_publish_token,
        })
    }

    /// A message is safe; the client is told by [`Channel::flush_confirms`].
    pub fn handle_confirmed(&mut self, number: u64) {
        if let Some(confirms) = &mut self.confirms {
            confirms.confirm(number);
        }
    }

    /// A message was refused. Without confirms, a client learns only of what closes its channel.
    pub fn handle_refused(
        &mut self,
        number: u64,
        reason: &Refusal,
        output: &mut Output,
    ) -> Result<(), Error> {
        if number <= self.publish_tokens_before {
            return Ok(());
        }
        if closes_publisher(reason) {
            return Err(reason.clone().into());
        }
        if let Some(confirms) = &mut self.confirms {
            confirms.refuse(number, self.number, output.buffer());
        }
        Ok(())
    }

    /// Tells the client what was confirmed.
    pub fn flush_confirms(&mut self, output: &mut Output) {
        if let Some(confirms) = &mut self.confirms {
            confirms.flush(self.number, output.buffer());
        }
    }

    /// A message had no destination.
    pub fn handle_returned(
        &mut self,
        number: u64,
        message: &Message,
        session: &Session,
        output: &mut Output,
    ) {
        if number <= self.publish_tokens_before {
            return;
        }
        let code = ReplyCode::NoRoute;
        self.destination(session.frame_max, output)
            .basic_return(code as u16, "NO_ROUTE", message);
    }
}
