//! Reason codes (MQTT 5 section 2.4) and what a peer did wrong.

use super::Version;

/// A reason code. Which codes a packet may carry is checked where it is decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reason(pub u8);

macro_rules! reasons {
    ($($name:ident = $value:literal;)*) => {
        #[allow(missing_docs, reason = "the names are the specification's")]
        impl Reason {
            $(pub const $name: Reason = Reason($value);)*
        }
    };
}

reasons! {
    SUCCESS = 0x00;
    DISCONNECT_WITH_WILL = 0x04;
    NO_MATCHING_SUBSCRIBERS = 0x10;
    NO_SUBSCRIPTION_EXISTED = 0x11;
    CONTINUE_AUTHENTICATION = 0x18;
    RE_AUTHENTICATE = 0x19;
    UNSPECIFIED = 0x80;
    MALFORMED_PACKET = 0x81;
    PROTOCOL_ERROR = 0x82;
    IMPLEMENTATION_SPECIFIC = 0x83;
    UNSUPPORTED_VERSION = 0x84;
    CLIENT_ID_NOT_VALID = 0x85;
    BAD_USER_OR_PASSWORD = 0x86;
    NOT_AUTHORIZED = 0x87;
    SERVER_UNAVAILABLE = 0x88;
    SERVER_SHUTTING_DOWN = 0x8b;
    BAD_AUTHENTICATION_METHOD = 0x8c;
    KEEP_ALIVE_TIMEOUT = 0x8d;
    SESSION_TAKEN_OVER = 0x8e;
    FILTER_INVALID = 0x8f;
    TOPIC_NAME_INVALID = 0x90;
    PACKET_ID_IN_USE = 0x91;
    PACKET_ID_NOT_FOUND = 0x92;
    RECEIVE_MAXIMUM_EXCEEDED = 0x93;
    TOPIC_ALIAS_INVALID = 0x94;
    PACKET_TOO_LARGE = 0x95;
    QUOTA_EXCEEDED = 0x97;
    ADMINISTRATIVE_ACTION = 0x98;
    PAYLOAD_FORMAT_INVALID = 0x99;
    QOS_NOT_SUPPORTED = 0x9b;
    USE_ANOTHER_SERVER = 0x9c;
    SERVER_MOVED = 0x9d;
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9e;
}

impl Reason {
    /// Whether the code says that something failed.
    pub fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The return code of a 3.1 or 3.1.1 CONNACK that says the same (3.1.1 section 3.2.2.3).
    pub fn return_code(self) -> u8 {
        match self {
            Reason::SUCCESS => 0,
            Reason::UNSUPPORTED_VERSION => 1,
            Reason::CLIENT_ID_NOT_VALID => 2,
            Reason::BAD_USER_OR_PASSWORD => 4,
            Reason::NOT_AUTHORIZED => 5,
            _ => 3,
        }
    }

    /// What a return code of a 3.1 or 3.1.1 CONNACK says.
    pub fn from_return_code(code: u8) -> Option<Reason> {
        Some(match code {
            0 => Reason::SUCCESS,
            1 => Reason::UNSUPPORTED_VERSION,
            2 => Reason::CLIENT_ID_NOT_VALID,
            3 => Reason::SERVER_UNAVAILABLE,
            4 => Reason::BAD_USER_OR_PASSWORD,
            5 => Reason::NOT_AUTHORIZED,
            _ => return None,
        })
    }

    /// The byte that a CONNACK of this version carries.
    pub fn in_connack(self, version: Version) -> u8 {
        if version.is_5() {
            self.0
        } else {
            self.return_code()
        }
    }
}

/// A peer broke a rule: the reason code that says so, and a text for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Violation {
    /// What a version 5 DISCONNECT says.
    pub reason: Reason,
    /// What was wrong.
    pub text: &'static str,
}

impl Violation {
    /// The packet cannot be parsed.
    pub const fn malformed(text: &'static str) -> Violation {
        Violation {
            reason: Reason::MALFORMED_PACKET,
            text,
        }
    }

    /// The packet can be parsed, and may not be sent.
    pub const fn protocol(text: &'static str) -> Violation {
        Violation {
            reason: Reason::PROTOCOL_ERROR,
            text,
        }
    }
}
