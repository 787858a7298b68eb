//! CC and BCC: headers that name more routing keys (RabbitMQ's sender-selected distribution).

use trivium_core::{Grammar, Text, Topic};

use crate::{
    field_table::{RawValue, strings},
    properties::Block,
};

/// The header whose keys stay with the message.
pub const CC: &str = "CC";
/// The header that nobody who gets the message sees.
pub const BCC: &str = "BCC";

/// The topics that CC and BCC add, or what is wrong with them.
pub fn topics(block: &Block<'_>) -> Result<Box<[Topic]>, String> {
    let mut topics = Vec::new();
    for (name, value) in [(CC, block.cc()), (BCC, block.bcc())] {
        let Some(value) = value else { continue };
        topics.extend(keys(name, value)?.map(|key| Topic::new(key, Grammar::Dots)));
    }
    Ok(topics.into())
}

/// The strings of an array; what else is in it does not count.
fn keys<'a>(
    name: &str,
    value: RawValue<'a>,
) -> Result<impl Iterator<Item = Text> + use<'a>, String> {
    if value.tag != b'A' {
        let found = value.type_name();
        return Err(format!(
            "invalid message: {{unacceptable_type_in_header,\"{name}\",{found}}}"
        ));
    }
    Ok(strings(value.bytes).filter_map(|key| std::str::from_utf8(key).ok().map(Text::from)))
}
