//! `mq.route.key`: the topic under which the tap offers a record (DESIGN section 3.2).
//!
//! A template is a topic in dots with placeholders. What a placeholder yields is data, so it never becomes a wildcard,
//! and it becomes more than one level only where the template says so: `devices.${key}.cmd` has three levels whatever
//! the key is, in `devices.${key:levels}` the key's dots separate levels. A template that is nothing but one
//! placeholder means a whole topic, so `${key}` is the inverse of `mq.key=topic`.

use bytes::Bytes;

use super::record::headers;
use crate::{
    properties::Text,
    topic::{Grammar, Topic, escape},
};

/// Bytes of a topic that a template yields at most; what MQTT can carry.
const TOPIC_BYTES_MAX: usize = u16::MAX as usize;

/// A template, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteKey(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// The log's name.
    Topic,
    Key {
        levels: bool,
    },
    Header {
        name: Text,
        levels: bool,
    },
}

impl RouteKey {
    /// Reads a template; none for the default, the log's name. An error says what is wrong with it.
    pub fn parse(template: &str) -> Result<Option<RouteKey>, &'static str> {
        if template.is_empty() {
            return Err("it is empty");
        }
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((literal, behind)) = rest.split_once("${") {
            let (placeholder, behind) = behind.split_once('}').ok_or("a `${` is not closed")?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.into()));
            }
            parts.push(Part::parse(placeholder)?);
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        let literals = parts.iter().filter_map(|part| match part {
            Part::Literal(literal) => Some(literal),
            _ => None,
        });
        if literals.flat_map(|it| it.chars()).any(|it| it == '\0') {
            return Err("a topic has no NUL");
        }
        if let [Part::Key { levels } | Part::Header { levels, .. }] = &mut parts[..] {
            *levels = true;
        }
        Ok((parts != [Part::Topic]).then_some(RouteKey(parts)))
    }

    /// The topic of a record of the log `name`, in dots; none where a key or header is missing or no text.
    pub fn render(&self, name: &str, key: Option<&Bytes>, section: &Bytes) -> Option<Topic> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Topic => text.push_str(name),
                Part::Key { levels } => put(key?, *levels, &mut text)?,
                Part::Header { name, levels } => {
                    let found = headers(section.clone()).filter(|(found, _)| found == name);
                    put(&found.last()?.1?, *levels, &mut text)?;
                }
            }
            if text.len() > TOPIC_BYTES_MAX {
                return None;
            }
        }
        Some(Topic::new(text.into(), Grammar::Dots))
    }

    /// The first levels of all topics that the log `name` can yield, in dots.
    pub fn prefix(&self, name: &str) -> Vec<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Topic => text.push_str(name),
                Part::Key { .. } | Part::Header { .. } => {
                    let known = text.rfind('.').map_or("", |at| &text[..at]);
                    let levels = known.split('.').map(str::to_owned);
                    return if known.is_empty() {
                        Vec::new()
                    } else {
                        levels.collect()
                    };
                }
            }
        }
        text.split('.').map(str::to_owned).collect()
    }
}

impl Part {
    fn parse(placeholder: &str) -> Result<Part, &'static str> {
        let (name, levels) = match placeholder.strip_suffix(":levels") {
            Some(name) => (name, true),
            None => (placeholder, false),
        };
        match (name, levels) {
            ("topic", _) => Ok(Part::Topic),
            ("key", _) => Ok(Part::Key { levels }),
            _ => match name.strip_prefix("header.") {
                Some(name) if !name.is_empty() => Ok(Part::Header {
                    name: name.into(),
                    levels,
                }),
                _ => Err("placeholders are ${topic}, ${key} and ${header.NAME}"),
            },
        }
    }
}

/// Adds what a placeholder stands for.
fn put(value: &[u8], levels: bool, text: &mut String) -> Option<()> {
    let value = std::str::from_utf8(value).ok()?;
    if value.contains('\0') {
        return None;
    }
    if levels {
        text.push_str(value);
    } else {
        escape(value, Grammar::Dots, text);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::write_headers;

    fn rendered(template: &str, key: Option<&'static str>) -> Option<String> {
        let headers = [
            ("to", Some("eu.north")),
            ("to", Some("us.*")),
            ("none", None),
        ]
        .map(|(name, value)| (Text::from(name), value.map(Bytes::from)));
        let section = write_headers(&headers);
        let template = RouteKey::parse(template).unwrap().unwrap();
        let topic = template.render("orders.eu", key.map(Bytes::from).as_ref(), &section)?;
        Some(topic.render(Grammar::Slashes).to_string())
    }

    #[test]
    fn a_placeholder_is_one_level_unless_it_is_the_whole_or_says_otherwise() {
        let key = Some("42.cmd/x");
        for (template, topic) in [
            ("${key}", "42/cmd%2Fx"),
            ("devices.${key}.out", "devices/42.cmd%2Fx/out"),
            ("devices.${key:levels}", "devices/42/cmd%2Fx"),
            ("${topic}.${key}", "orders/eu/42.cmd%2Fx"),
            ("x.${header.to}", "x/us.*"),
            ("${header.to}", "us/*"),
        ] {
            assert_eq!(
                rendered(template, key).as_deref(),
                Some(topic),
                "{template}"
            );
        }
    }

    #[test]
    fn what_is_missing_or_no_text_yields_no_topic() {
        assert_eq!(rendered("${key}", None), None);
        assert_eq!(rendered("a.${key}", Some("a\0b")), None);
        assert_eq!(rendered("${header.none}", None), None);
        assert_eq!(rendered("${header.other}", None), None);
        let long = RouteKey::parse("${key}").unwrap().unwrap();
        assert_eq!(
            long.render("l", Some(&vec![b'a'; 70_000].into()), &"\0".into()),
            None
        );
        assert_eq!(
            long.render("l", Some(&vec![0xff].into()), &"\0".into()),
            None
        );
    }

    #[test]
    fn wrong_templates_are_refused_and_the_default_is_none() {
        assert_eq!(RouteKey::parse("${topic}"), Ok(None));
        for wrong in ["", "${key", "${other}", "${header.}", "a\0", "${}"] {
            assert!(RouteKey::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_prefix_is_what_all_topics_begin_with() {
        let prefix = |template: &str| RouteKey::parse(template).unwrap().unwrap().prefix("o.eu");
        assert_eq!(prefix("${key}"), [""; 0]);
        assert_eq!(prefix("a.b${key}"), ["a"]);
        assert_eq!(prefix("${topic}.${key}.x"), ["o", "eu"]);
        assert_eq!(prefix("x.${topic}"), ["x", "o", "eu"]);
    }
}
