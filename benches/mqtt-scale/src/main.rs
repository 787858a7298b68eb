//! What many MQTT connections, subscriptions and retained messages cost, for Trivium and for Mosquitto in one run.
//!
//! ```text
//! cargo run --release -p trivium-mqtt-scale -- [--only idle,fan-out] [--connections 15000]
//! ```
//!
//! Each broker is started on a free port of the loopback with a data directory of its own, does the same work, and is
//! ended. Connections come from several addresses of 127.0.0.0/8, because one address has few ports.

#![allow(
    clippy::disallowed_methods,
    reason = "a measuring program reads the clock"
)]

mod broker;
mod client;
mod scenarios;

use std::path::PathBuf;

use clap::Parser;

use crate::{
    broker::{Broker, Kind},
    scenarios::{Figure, Scenario},
};

#[derive(Clone, Debug, Parser)]
struct Options {
    /// Scenarios, all when empty: idle, fan-out, fan-in, retained, wildcards
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Brokers, both when empty: trivium, mosquitto
    #[arg(long, value_delimiter = ',')]
    brokers: Vec<Kind>,
    /// The binary of Trivium
    #[arg(long, default_value = "target/release/trivium")]
    trivium: PathBuf,
    /// Idle connections
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Subscribers of the fan-out, publishers of the fan-in
    #[arg(long, default_value_t = 10_000)]
    fan: usize,
    /// Retained messages
    #[arg(long, default_value_t = 100_000)]
    retained: usize,
    /// Wildcard subscriptions
    #[arg(long, default_value_t = 1_000_000)]
    subscriptions: usize,
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "the table is what the program is for")]
async fn main() -> anyhow::Result<()> {
    let mut options = Options::parse();
    if options.only.is_empty() {
        options.only = Scenario::ALL.to_vec();
    }
    if options.brokers.is_empty() {
        options.brokers = Kind::ALL.to_vec();
    }
    println!("| scenario | figure | {} |", names(&options.brokers));
    println!("|---|---{}|", "|---:".repeat(options.brokers.len()));
    for scenario in &options.only {
        let mut columns = Vec::new();
        for kind in &options.brokers {
            let broker = Broker::start(*kind, &options.trivium).await?;
            let figures = scenario.run(&broker, &options).await;
            broker.stop().await?;
            columns.push(figures?);
        }
        for row in rows(&columns) {
            println!("| {} {row} |", scenario.name());
        }
    }
    Ok(())
}

fn names(brokers: &[Kind]) -> String {
    let names: Vec<_> = brokers.iter().map(|kind| kind.name()).collect();
    names.join(" | ")
}

/// The same figures of each broker side by side.
fn rows(columns: &[Vec<Figure>]) -> Vec<String> {
    let first = columns.first().map_or(&[][..], Vec::as_slice);
    let row = |index: usize| {
        let cells = columns
            .iter()
            .map(|column| format!("| {}", column[index].value));
        format!(
            "| {} {}",
            first[index].name,
            cells.collect::<Vec<_>>().join(" ")
        )
    };
    (0..first.len()).map(row).collect()
}
