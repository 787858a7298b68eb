//! Topics: lists of tokens, spelled in one of two grammars, reversibly (DESIGN section 3.1).
//!
//! MQTT splits on `/`, AMQP keys and Kafka names split on `.`. A token that holds the other
//! grammar's special characters is percent-escaped when it is rendered there; `%` itself is escaped
//! only where it would otherwise decode, so ordinary names never change.

use std::borrow::Cow;

use crate::properties::Text;

/// The first level of the topics on which the broker says how it is.
pub(crate) const BROKERS: &str = "$SYS";

/// How a topic's text is split into tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Grammar {
    /// AMQP routing keys and Kafka topic names: `.`, wildcards `*` and `#`.
    #[default]
    Dots,
    /// MQTT topics: `/`, wildcards `+` and `#`.
    Slashes,
}

impl Grammar {
    /// What separates tokens.
    pub fn separator(self) -> char {
        match self {
            Grammar::Dots => '.',
            Grammar::Slashes => '/',
        }
    }

    /// The wildcard for exactly one token.
    pub fn one(self) -> &'static str {
        match self {
            Grammar::Dots => "*",
            Grammar::Slashes => "+",
        }
    }

    /// The escapes of this grammar: the character and its two hex digits.
    fn escapes(self) -> [(char, &'static str); 3] {
        match self {
            Grammar::Dots => [('.', "2E"), ('*', "2A"), ('#', "23")],
            Grammar::Slashes => [('/', "2F"), ('+', "2B"), ('#', "23")],
        }
    }
}

/// A topic as its publisher spelled it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Topic {
    text: Text,
    grammar: Grammar,
}

impl Topic {
    /// A topic of the given spelling.
    pub fn new(text: Text, grammar: Grammar) -> Topic {
        Topic { text, grammar }
    }

    /// As it was spelled.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The grammar of [`Topic::text`].
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// The tokens, unescaped.
    pub fn tokens(&self) -> impl Iterator<Item = Cow<'_, str>> {
        tokens(&self.text, self.grammar)
    }

    /// Whether it is one of the broker's own topics, which only the broker publishes.
    pub(crate) fn is_brokers(&self) -> bool {
        let rest = self.text.strip_prefix(BROKERS);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(self.grammar.separator()))
    }

    /// The topic in another grammar; the same bytes when it is its own.
    pub fn render(&self, grammar: Grammar) -> Text {
        if grammar == self.grammar {
            return self.text.clone();
        }
        let mut out = String::with_capacity(self.text.len() + 8);
        for (i, token) in self.tokens().enumerate() {
            if i > 0 {
                out.push(grammar.separator());
            }
            escape(&token, grammar, &mut out);
        }
        out.into()
    }
}

/// Splits `text` into unescaped tokens.
pub fn tokens(text: &str, grammar: Grammar) -> impl Iterator<Item = Cow<'_, str>> {
    text.split(grammar.separator())
        .map(move |token| unescape(token, grammar))
}

fn unescape(token: &str, grammar: Grammar) -> Cow<'_, str> {
    if !token.contains('%') {
        return Cow::Borrowed(token);
    }
    let mut out = String::with_capacity(token.len());
    let mut rest = token;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        match escape_at(rest, grammar) {
            Some((character, length)) => {
                out.push(character);
                rest = &rest[length..];
            }
            None => {
                out.push('%');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What the escape sequence at the start of `text` stands for, and its length.
///
/// A sequence is `%` `25`* and one of the grammar's escapes: with no `25` it is the special
/// character; otherwise it is a `%` that was escaped because what follows would have decoded.
fn escape_at(text: &str, grammar: Grammar) -> Option<(char, usize)> {
    let digits = text.strip_prefix('%')?;
    if let Some((character, _)) = grammar
        .escapes()
        .into_iter()
        .find(|(_, hex)| digits.starts_with(hex))
    {
        return Some((character, 3));
    }
    let mut tail = digits;
    while let Some(rest) = tail.strip_prefix("25") {
        tail = rest;
    }
    let escaped = tail.len() < digits.len()
        && grammar
            .escapes()
            .iter()
            .any(|(_, hex)| tail.starts_with(hex));
    escaped.then_some(('%', 3))
}

pub(crate) fn escape(token: &str, grammar: Grammar, out: &mut String) {
    for (at, character) in token.char_indices() {
        let special = grammar
            .escapes()
            .into_iter()
            .find(|(special, _)| *special == character);
        match special {
            Some((_, hex)) => {
                out.push('%');
                out.push_str(hex);
            }
            None if character == '%' && escape_at(&token[at..], grammar).is_some() => {
                out.push_str("%25")
            }
            None => out.push(character),
        }
    }
}

/// A pattern over topics: an AMQP binding key or an MQTT filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Text,
    grammar: Grammar,
}

/// One step of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Exactly this token.
    Token(Cow<'a, str>),
    /// Any one token.
    One,
    /// Any number of tokens, none included.
    Many,
}

impl Pattern {
    /// A pattern of the given spelling.
    pub fn new(text: Text, grammar: Grammar) -> Pattern {
        Pattern { text, grammar }
    }

    /// As it was spelled.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The grammar of [`Pattern::text`].
    pub fn grammar(&self) -> Grammar {
        self.grammar
    }

    /// The steps. An unescaped `#`, `*` or `+` alone in its token is a wildcard; anything else is a token.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.text
            .split(self.grammar.separator())
            .map(|token| match token {
                "#" => Step::Many,
                _ if token == self.grammar.one() => Step::One,
                _ => Step::Token(unescape(token, self.grammar)),
            })
    }

    /// Whether a topic is one of this pattern, in whatever grammar either is spelled. Takes time with the product of
    /// their lengths at most.
    pub fn matches(&self, topic: &Topic) -> bool {
        let steps: Vec<Step<'_>> = self.steps().collect();
        let tokens: Vec<Cow<'_, str>> = topic.tokens().collect();
        let (mut step, mut token) = (0, 0);
        // Where to go on if what came since the last `Many` does not match: that takes one token more.
        let mut retry = None;
        loop {
            let agrees = match (steps.get(step), tokens.get(token)) {
                (None, None) => return true,
                (Some(Step::Many), _) => {
                    step += 1;
                    retry = Some((step, token));
                    continue;
                }
                (Some(Step::One), Some(_)) => true,
                (Some(Step::Token(wanted)), Some(found)) => wanted == found,
                _ => false,
            };
            if agrees {
                (step, token) = (step + 1, token + 1);
                continue;
            }
            match retry {
                Some((at, from)) if from < tokens.len() => {
                    retry = Some((at, from + 1));
                    (step, token) = (at, from + 1);
                }
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(slashes: &str, dots: &str) {
        let topic = Topic::new(slashes.into(), Grammar::Slashes);
        assert_eq!(topic.render(Grammar::Dots), dots);
        assert_eq!(
            Topic::new(dots.into(), Grammar::Dots).render(Grammar::Slashes),
            slashes
        );
    }

    #[test]
    fn renders_as_the_design_says() {
        check("orders/eu", "orders.eu");
        check("spBv1.0/G/NBIRTH", "spBv1%2E0.G.NBIRTH");
        check("/a//b/", ".a..b.");
        check("50%", "50%");
        check("100%25", "100%25");
        check("%2E", "%252E");
        check("a%2Fb", "a/b");
    }

    #[test]
    fn patterns_match_topics() {
        let matches = |pattern: &str, topic: &str| {
            let pattern = Pattern::new(pattern.into(), Grammar::Dots);
            pattern.matches(&Topic::new(topic.into(), Grammar::Dots))
        };
        for (pattern, topic) in [
            ("a", "a"),
            ("#", ""),
            ("#", "a.b"),
            ("*.b", "a.b"),
            ("a.#", "a"),
            ("#.c.#.e", "a.c.d.c.e"),
            ("#.*", "a"),
            ("a%2Eb", "a%2Eb"),
        ] {
            assert!(matches(pattern, topic), "{pattern} {topic}");
        }
        for (pattern, topic) in [
            ("a", "a.b"),
            ("*", "a.b"),
            ("#.c.#.e", "a.c.d"),
            ("#.*.*", "a"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, topic), "{pattern} {topic}");
        }
    }

    proptest! {
        #[test]
        fn rendering_is_reversible(text in "[a%25EFABab/.*+#]{0,24}") {
            for (here, there) in [(Grammar::Slashes, Grammar::Dots), (Grammar::Dots, Grammar::Slashes)] {
                let topic = Topic::new(text.as_str().into(), here);
                let back = Topic::new(topic.render(there), there);
                let tokens: Vec<_> = topic.tokens().collect();
                prop_assert_eq!(tokens, back.tokens().collect::<Vec<_>>());
            }
        }
    }
}
