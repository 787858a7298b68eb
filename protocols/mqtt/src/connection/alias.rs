//! Topic aliases towards the client (3.3.2.3.4).

use rustc_hash::FxHashMap;
use trivium_core::Text;

/// A topic shorter than this costs less than the alias does.
const TOPIC_MIN: usize = 4;

/// Aliases given to topics on this connection: the first topics that come, while there are aliases.
#[derive(Debug, Default)]
pub struct Aliases {
    given: FxHashMap<Text, u16>,
    max: u16,
}

/// How a PUBLISH names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By its name.
    Name,
    /// By its name, which from now on this alias stands for.
    Introduce(u16),
    /// By this alias alone.
    Alias(u16),
}

impl Aliases {
    /// At most `max` aliases, as many as the client takes (3.1.2-26, 3.1.2-27).
    pub fn new(max: u16) -> Aliases {
        Aliases {
            given: FxHashMap::default(),
            max,
        }
    }

    /// How to name a topic now.
    pub fn naming(&self, topic: &str) -> Naming {
        if self.max == 0 || topic.len() < TOPIC_MIN {
            return Naming::Name;
        }
        match self.given.get(topic) {
            Some(alias) => Naming::Alias(*alias),
            None if self.given.len() < self.max.into() => {
                Naming::Introduce(self.given.len() as u16 + 1)
            }
            None => Naming::Name,
        }
    }

    /// A packet that introduces an alias has been written.
    pub fn introduced(&mut self, topic: &str, alias: u16) {
        self.given.insert(Text::from(topic), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_3_1_2_26_no_more_aliases_than_the_client_takes() {
        let mut aliases = Aliases::new(2);
        for (topic, alias) in [("first", 1), ("second", 2)] {
            assert_eq!(aliases.naming(topic), Naming::Introduce(alias));
            aliases.introduced(topic, alias);
            assert_eq!(aliases.naming(topic), Naming::Alias(alias));
        }
        assert_eq!(aliases.naming("third"), Naming::Name);
        assert_eq!(Aliases::new(0).naming("first"), Naming::Name);
    }
}
