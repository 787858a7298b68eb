//! A subscription's options in the tag of its binding.
//!
//! The session outlives the connection, and with it the options of its subscriptions; so they are kept where
//! the core keeps the binding, and come back with each delivery.
//!
//! ```text
//! bits 0–1 QoS   2 retain as published   3 no local   4–31 subscription identifier (0 is none)   32 retained
//! ```

use trivium_core::BindingTag;

use crate::packet::{Filter, Qos};

const RETAIN_AS_PUBLISHED: u64 = 1 << 2;
const NO_LOCAL: u64 = 1 << 3;
const IDENTIFIER: u32 = 4;
const IDENTIFIER_MAX: u64 = 268_435_455;
const REPLAY: u64 = 1 << 32;

/// The options of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The granted QoS.
    pub qos: Qos,
    /// RETAIN is kept as it was published.
    pub retain_as_published: bool,
    /// Not what this client published.
    pub no_local: bool,
    /// 1 to 268,435,455.
    pub identifier: Option<u32>,
    /// Not a subscription's, but of a retained message that is sent because of it (3.3.1-8).
    pub replay: bool,
}

impl Options {
    /// What is granted of what was asked for: all of it.
    pub fn granted(filter: &Filter, identifier: Option<u32>) -> Options {
        Options {
            qos: filter.qos,
            retain_as_published: filter.retain_as_published,
            no_local: filter.no_local,
            identifier,
            replay: false,
        }
    }

    /// As a tag.
    pub fn tag(self) -> BindingTag {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        BindingTag(
            self.qos as u64
                | flag(self.retain_as_published, RETAIN_AS_PUBLISHED)
                | flag(self.no_local, NO_LOCAL)
                | flag(self.replay, REPLAY)
                | u64::from(self.identifier.unwrap_or(0)) << IDENTIFIER,
        )
    }

    /// From a tag.
    pub fn from_tag(tag: BindingTag) -> Options {
        let identifier = (tag.0 >> IDENTIFIER & IDENTIFIER_MAX) as u32;
        Options {
            qos: Qos::from_bits(tag.0 as u8).unwrap_or_default(),
            retain_as_published: tag.0 & RETAIN_AS_PUBLISHED != 0,
            no_local: tag.0 & NO_LOCAL != 0,
            identifier: (identifier != 0).then_some(identifier),
            replay: tag.0 & REPLAY != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn options_survive_the_tag(qos in 0u8..=2, retain_as_published: bool, no_local: bool, replay: bool, id in 0u32..=268_435_455) {
            let identifier = (id != 0).then_some(id);
            let options = Options { qos: Qos::from_bits(qos).unwrap(), retain_as_published, no_local, identifier, replay };
            prop_assert_eq!(Options::from_tag(options.tag()), options);
        }
    }
}
