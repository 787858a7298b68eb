//! Seeded stories of devices that follow the rules and have bad luck (`devices`): QoS 1 is never lost, QoS 2 never
//! doubled, a topic's order holds, a group loses nothing when members leave, wills come once or were cancelled, a
//! session is there for as long as it lasts, and every packet identifier is free again in the end.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod devices;

use devices::{Chance, play};

/// `TRIVIUM_SEEDS=from..to` plays other stories than the default ones.
#[test]
#[allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "how a test is told and tells what to run"
)]
fn devices_lose_nothing_and_double_nothing() {
    let wanted = std::env::var("TRIVIUM_SEEDS").ok();
    let (from, to) = wanted.map_or((0, 120), |wanted| {
        let (from, to) = wanted.split_once("..").expect("TRIVIUM_SEEDS is from..to");
        (from.parse().unwrap(), to.parse().unwrap())
    });
    for seed in from..to {
        let story = std::panic::catch_unwind(|| play(Chance::Dice(seed), 150));
        if let Err(panic) = story {
            eprintln!(
                "failed with seed {seed}: TRIVIUM_SEEDS={seed}..{}",
                seed + 1
            );
            std::panic::resume_unwind(panic);
        }
    }
}

/// Stories that a fuzzer has found to be different from each other.
#[test]
fn known_stories_end_well() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/known/devices");
    let mut stories = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let story = std::fs::read(entry.unwrap().path()).unwrap();
        play(Chance::Script(&story), 400);
        stories += 1;
    }
    assert!(stories > 10, "only {stories} stories");
}
