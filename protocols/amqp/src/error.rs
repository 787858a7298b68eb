//! Errors by who must act on them, and the one place where the core's refusals become reply codes (section 1.7 of
//! the specification's XML, texts as RabbitMQ's).

use trivium_core::{Refusal, Text};

use crate::{method::MethodError, wire::Malformed};

/// What the peer is told before a channel or the connection closes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The channel closes.
    #[error("channel: {code} - {text}")]
    Channel { code: ReplyCode, text: Text },
    /// The connection closes.
    #[error("connection: {code} - {text}")]
    Connection { code: ReplyCode, text: Text },
}

impl Error {
    /// The channel closes.
    pub fn channel(code: ReplyCode, text: impl Into<Text>) -> Error {
        Error::Channel {
            code,
            text: text.into(),
        }
    }

    /// The channel closes because something is not as the client assumes.
    pub fn precondition(text: impl Into<Text>) -> Error {
        Error::channel(ReplyCode::PreconditionFailed, text)
    }

    /// The connection closes.
    pub fn connection(code: ReplyCode, text: impl Into<Text>) -> Error {
        Error::Connection {
            code,
            text: text.into(),
        }
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Error {
        Error::connection(ReplyCode::SyntaxError, malformed.to_string())
    }
}

impl From<MethodError> for Error {
    fn from(error: MethodError) -> Error {
        let code = match error {
            MethodError::Unknown(..) => ReplyCode::CommandInvalid,
            MethodError::Malformed(..) => ReplyCode::SyntaxError,
        };
        Error::connection(code, error.to_string())
    }
}

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal;)*) => {
        /// A reply code: what went wrong, as the specification numbers it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ReplyCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl std::fmt::Display for ReplyCode {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(ReplyCode::$name => $text,)*
                })
            }
        }
    };
}

reply_codes! {
    /// A mandatory message had no destination; only in basic.return.
    NoRoute = 312 "NO_ROUTE";
    /// An operator closed the connection.
    ConnectionForced = 320 "CONNECTION_FORCED";
    /// The user may not.
    AccessRefused = 403 "ACCESS_REFUSED";
    /// No such thing.
    NotFound = 404 "NOT_FOUND";
    /// It belongs to another connection.
    ResourceLocked = 405 "RESOURCE_LOCKED";
    /// It is not as the client assumes.
    PreconditionFailed = 406 "PRECONDITION_FAILED";
    /// A frame cannot be read.
    FrameError = 501 "FRAME_ERROR";
    /// A frame holds illegal values.
    SyntaxError = 502 "SYNTAX_ERROR";
    /// Not at this time.
    CommandInvalid = 503 "COMMAND_INVALID";
    /// On a channel that is not open, or open already.
    ChannelError = 504 "CHANNEL_ERROR";
    /// Another kind of frame was expected.
    UnexpectedFrame = 505 "UNEXPECTED_FRAME";
    /// Not allowed by the rules of the broker.
    NotAllowed = 530 "NOT_ALLOWED";
    /// Not here.
    NotImplemented = 540 "NOT_IMPLEMENTED";
    /// The broker's fault.
    InternalError = 541 "INTERNAL_ERROR";
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        let text = refusal.to_string();
        match refusal {
            Refusal::NotFound { .. } | Refusal::Replaced { .. } => {
                Error::channel(ReplyCode::NotFound, text)
            }
            Refusal::Exists { .. }
            | Refusal::Inequivalent { .. }
            | Refusal::InUse { .. }
            | Refusal::NotEmpty { .. }
            | Refusal::Full { .. }
            | Refusal::Quota(_)
            | Refusal::Invalid(_)
            | Refusal::Records(_)
            | Refusal::Batch(_)
            | Refusal::TooLarge { .. }
            | Refusal::OffsetOutOfRange(_) => Error::channel(ReplyCode::PreconditionFailed, text),
            Refusal::Locked { .. } | Refusal::NoGet { .. } => {
                Error::channel(ReplyCode::ResourceLocked, text)
            }
            Refusal::ExclusiveUse { .. } | Refusal::Denied(_) => {
                Error::channel(ReplyCode::AccessRefused, text)
            }
            Refusal::NotImplemented(_) => Error::connection(ReplyCode::NotImplemented, text),
            Refusal::LoginRefused => Error::connection(ReplyCode::AccessRefused, text),
            Refusal::NoVhost(_) | Refusal::NotAllowed(_) => {
                Error::connection(ReplyCode::NotAllowed, text)
            }
            Refusal::Corrupt(_)
            | Refusal::OutOfOrderSequence
            | Refusal::ProducerFenced
            | Refusal::Transaction(_)
            | Refusal::StorageFailed(_) => Error::connection(ReplyCode::InternalError, text),
            Refusal::Stopping => Error::connection(ReplyCode::ConnectionForced, text),
        }
    }
}

/// Whether a refused publish closes its channel; all others are answered by basic.nack.
pub fn closes_publisher(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NotFound { .. } | Refusal::Denied(_))
}
