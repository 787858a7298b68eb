//! Topic names and filters (MQTT 5 section 4.7).

/// Whether `name` may be published to: not empty, without wildcards (4.7.1-1, 4.7.3-1). Texts never hold U+0000.
pub fn is_name(name: &str) -> bool {
    // Without an early exit, so that it is compiled to a few vector instructions.
    let special = |found, byte| found | matches!(byte, b'+' | b'#' | 0);
    !name.is_empty() && !name.bytes().fold(false, special)
}

/// Whether `filter` is one: `#` alone in the last level, `+` alone in its level (4.7.1-1, 4.7.1-2).
pub fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard = level.contains(['+', '#']);
        if wildcard && level.len() > 1 || level == "#" && levels.peek().is_some() {
            return false;
        }
    }
    !filter.is_empty()
}

/// Whether a filter asks for a shared subscription (4.8.2).
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Whether a shared subscription's filter has a group name without wildcards and a filter (4.8.2-1, 4.8.2-2).
pub fn is_shared_filter(filter: &str) -> bool {
    shared(filter).is_some_and(|(group, filter)| is_name(group) && is_filter(filter))
}

/// The group and the filter of a shared subscription.
pub fn shared(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt_4_7_names_and_filters() {
        for name in ["a", "/", "a//b", " ", "$SYS/x", "a/ü"] {
            assert!(is_name(name) && is_filter(name), "{name}");
        }
        for filter in ["#", "+", "a/#", "+/+/#", "/+", "+/", "$SYS/#"] {
            assert!(is_filter(filter) && !is_name(filter), "{filter}");
        }
        for bad in ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "##", "++"] {
            assert!(!is_filter(bad) && !is_name(bad), "{bad}");
        }
    }

    #[test]
    fn mqtt_4_8_2_shared_filters() {
        assert!(is_shared_filter("$share/g/a/#"));
        for bad in [
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/g+/a",
            "$share/g/a#",
        ] {
            assert!(!is_shared_filter(bad), "{bad}");
        }
    }
}
