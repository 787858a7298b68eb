//! CC and BCC: headers that name more routing keys (RabbitMQ's sender-selected distribution).

use std::sync::Arc;

use trivium_core::{Grammar, Text, Topic};

use crate::{
    field_table::{RawValue, strings},
    properties::Block,
};

/// The header whose keys stay with the message.
pub const CC: &str = "CC";
/// The header that nobody who gets the message sees.
pub const BCC: &str = "BCC";

/// More routing keys of a message than its own.
#[derive(Debug, Default)]
pub struct Copies {
    /// Where CC and BCC lead.
    pub also: Box<[Topic]>,
    /// The keys of BCC.
    pub blind: Option<Arc<Vec<Text>>>,
}

impl Copies {
    /// What CC and BCC say, or what is wrong with them.
    pub fn new(block: &Block<'_>) -> Result<Copies, String> {
        let cc = block.cc().map(|value| keys(CC, value)).transpose()?;
        let bcc = block.bcc().map(|value| keys(BCC, value)).transpose()?;
        let blind = bcc.map(|keys| Arc::new(keys.collect::<Vec<Text>>()));
        let all = cc
            .into_iter()
            .flatten()
            .chain(blind.iter().flat_map(|keys| keys.iter().cloned()));
        let also = all.map(|key| Topic::new(key, Grammar::Dots)).collect();
        Ok(Copies { also, blind })
    }
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
