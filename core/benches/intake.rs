//! What it costs to check a producer's batch of about 64 KiB before it is stored, by codec and size of records; beside
//! it, what the checksum alone costs.

#![allow(clippy::print_stdout, reason = "a bench reports on the terminal")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use trivium_core::{packed_batch, takes_batch, validate_batch};

const BATCH_BYTES: usize = 64 << 10;
const RUN: Duration = Duration::from_millis(300);
const RUNS: usize = 5;

fn main() {
    println!("codec   record  sent    header  records  expanded");
    println!("         bytes  ratio  ns/record  ns/record  MB/s");
    for (codec, name) in [
        (0, "none"),
        (1, "gzip"),
        (2, "snappy"),
        (3, "lz4"),
        (4, "zstd"),
    ] {
        for record in [100, 1024] {
            let count = BATCH_BYTES / record;
            let batch = packed_batch(codec, count, |at| value(record, at));
            assert!(takes_batch(&batch), "{name}");
            let header = best(|| black_box(validate_batch(black_box(&batch))).is_ok());
            let all = best(|| takes_batch(black_box(&batch)));
            let per_record = |time: Duration| time.as_nanos() as f64 / count as f64;
            println!(
                "{name:7} {record:6} {:6.2} {:9.1} {:10.1} {:6.0}",
                batch.len() as f64 / (count * record) as f64,
                per_record(header),
                per_record(all.saturating_sub(header)),
                (count * record) as f64 / (all - header).as_secs_f64() / 1e6,
            );
        }
    }
}

/// Something like a line of JSON: it compresses to about a third.
fn value(bytes: usize, at: usize) -> Vec<u8> {
    let mut text = String::new();
    let mut number = at as u64 + 1;
    while text.len() < bytes {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!(
            "{{\"sensor\":{},\"reading\":{}}}",
            at % 50,
            number >> 40
        ));
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// The shortest time of a call, over some runs.
#[expect(clippy::disallowed_methods, reason = "a bench is a server to the core")]
fn best(call: impl Fn() -> bool) -> Duration {
    let run = || {
        let (begun, mut calls) = (Instant::now(), 0);
        while begun.elapsed() < RUN {
            assert!(call());
            calls += 1;
        }
        begun.elapsed() / calls
    };
    (0..RUNS).map(|_| run()).min().unwrap_or_default()
}
