//! What handling an input or event brings about.

use trivium_core::Command;

use crate::Output;

/// Bytes for the peer and commands for the core, in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be written to the socket.
    pub output: Output,
    /// To be submitted to the core.
    pub commands: Vec<Command>,
}

impl Effects {
    /// Nothing yet.
    pub fn new() -> Effects {
        Effects::default()
    }
}
