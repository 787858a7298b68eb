//! The load generator on its own, for machines that have no `trivium`.

use clap::Parser;

/// Drives any AMQP 0-9-1, Kafka or MQTT broker at full speed or at a fixed rate.
#[derive(Parser)]
#[command(name = "trivium-load", version)]
struct Program {
    #[command(flatten)]
    args: trivium_load::Args,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    trivium_load::run(Program::parse().args).await
}
