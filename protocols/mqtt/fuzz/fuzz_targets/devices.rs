//! Devices that follow the rules and have bad luck, and a stranger who does not, against the whole core: the bytes say
//! who does what, where the streams are cut, when the time passes and when the broker crashes. What must hold is in
//! `tests/devices`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/devices/mod.rs"]
mod devices;

fuzz_target!(|data: &[u8]| devices::play(devices::Chance::Script(data), 400));
