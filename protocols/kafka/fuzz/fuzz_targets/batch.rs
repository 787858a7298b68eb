//! What a producer calls a record batch, through all that the core does with one.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|batch: &[u8]| trivium_core::exercise_batch(batch));
