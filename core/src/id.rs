//! Numbers with a meaning each, so that the compiler tells them apart.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            /// The next number.
            pub fn next(self) -> $name {
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A connection (a [`crate::Link`]), unique while the process lives.
    ConnectionId(u64);
    /// A consumer, chosen by its front end, unique within its connection.
    ConsumerId(u32);
    /// A front end's own correlation (confirm number, packet identifier, correlation id); it comes back untouched.
    Token(u64);
    /// A delivery to one consumer: 1, 2, 3 … without gaps.
    DeliveryId(u64);
    /// A queue, never used again.
    QueueId(u64);
    /// A log, never used again.
    LogId(u64);
    /// The position of a message in its queue.
    Sequence(u64);
    /// The position of a record in its partition.
    Offset(u64);
    /// An attribute of a binding that its owner wants back with each delivery (MQTT subscription options).
    BindingTag(u64);
}

/// The random id of a log, which differs when a log of its name is created again.
pub type LogUuid = [u8; 16];
