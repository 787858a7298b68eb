//! What turns write into: one set of buffers per worker thread, used by whatever connection has its turn. So a
//! connection between two turns holds none, unless its peer does not read.

use std::{cell::Cell, mem};

use trivium_protocol::Effects;

/// Buffers that have grown beyond this for one turn are not kept.
const OUTPUT_MAX: usize = 64 << 10;
const COMMANDS_MAX: usize = 256;

thread_local! {
    /// Empty while a connection uses them.
    static SPARE: Cell<Effects> = Cell::default();
}

/// Gives a connection that has no buffers those of its thread.
pub(super) fn take(effects: &mut Effects) {
    if effects.output.is_empty() && effects.commands.capacity() == 0 {
        *effects = SPARE.take();
    }
}

/// Takes them back if nothing is left in them.
pub(super) fn give_back(effects: &mut Effects) {
    if !effects.output.is_empty() || !effects.commands.is_empty() {
        return;
    }
    let mut used = mem::take(effects);
    let small = used.output.buffer().capacity() <= OUTPUT_MAX;
    if small && used.commands.capacity() <= COMMANDS_MAX {
        SPARE.set(used);
    }
}
