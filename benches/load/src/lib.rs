//! Load generator: publishes to and consumes from any broker of a protocol, and reports rates,
//! latencies, losses and what the broker spent.
//!
//! A protocol gives two small values: a [`publish::Sink`] (a block of messages encoded once, stamped
//! in place, and the reading of acknowledgements) and a [`consume::Source`] (frames counted where they
//! lie in the read buffer). The rest is the same for all: pacing, windows, lag, checks, the report.
//! Nothing is allocated or copied per message, because the generator shares the machine with the broker.
//!
//! ```text
//!   Plan ── starts ──▶ publish::drive (one per connection) ── socket ──▶ broker
//!     │                     │ waits for room                               │
//!     │ windows          Board (counters) ◀── consume::drive ◀── socket ───┘
//!     └──── Report ◀────────┘
//! ```
// A load generator lives by the clock.
#![allow(clippy::disallowed_methods)]

mod amqp;
mod board;
mod consume;
mod inbox;
mod kafka;
mod mqtt;
mod options;
mod pace;
mod plan;
mod process;
mod publish;
mod report;
mod stamp;
mod window;

use std::io::Write;

use anyhow::Context;

/// What to drive and how: `amqp`, `kafka` or `mqtt` with the options of each.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    protocol: Protocol,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Protocol {
    /// An AMQP 0-9-1 broker: queues through an exchange, the default one unless told otherwise
    Amqp(amqp::Options),
    /// A Kafka broker: topics with partitions, uncompressed v2 batches
    Kafka(kafka::Options),
    /// An MQTT 3.1.1 or 5 broker: QoS 0 and 1
    Mqtt(mqtt::Options),
}

/// Runs one load and writes its report to standard output.
///
/// # Errors
/// When the options contradict each other, the broker cannot be reached, refuses something or closes
/// a connection. Lost messages are part of the report, not an error.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let report = tokio::task::spawn_blocking(move || on_own_runtime(args)).await??;
    std::io::stdout()
        .write_all(report.as_bytes())
        .context("cannot write the report")
}

/// The caller's runtime may have a thread per core; the generator must leave the cores to the broker.
fn on_own_runtime(args: Args) -> anyhow::Result<String> {
    let threads = match &args.protocol {
        Protocol::Amqp(options) => options.load.threads,
        Protocol::Kafka(options) => options.load.threads,
        Protocol::Mqtt(options) => options.load.threads,
    };
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(threads.max(1))
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        match args.protocol {
            Protocol::Amqp(options) => amqp::run(options).await,
            Protocol::Kafka(options) => kafka::run(options).await,
            Protocol::Mqtt(options) => mqtt::run(options).await,
        }
    })
}
