//! The command line, as written. What it means is decided in [`crate::config`].

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::definitions::DefinitionsArgs;

/// One message broker for AMQP 0-9-1, Kafka and MQTT clients.
#[derive(Debug, Parser)]
#[command(name = "trivium", version, propagate_version = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
    /// Export or import what a running broker has set up and declared.
    Definitions(DefinitionsArgs),
    /// Load any AMQP 0-9-1, Kafka or MQTT broker, and report what it did.
    Bench(Box<trivium_load::Args>),
}

/// How to run the broker.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    after_help = "Settings come from defaults, the configuration file, TRIVIUM_* variables and flags; \
                        the last wins. docs/configuration.md lists them."
)]
pub struct ServeArgs {
    /// Configuration file [default: trivium.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where messages are kept [default: ./trivium-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Sets one key, as in `--set mqtt.enabled=false`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(format!("'{key}' is not a key"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn settings_are_split_at_the_first_equals_sign() {
        assert_eq!(
            assignment("default_pass=a=b"),
            Ok(("default_pass".into(), "a=b".into()))
        );
        assert!(assignment("nothing").is_err());
        assert!(assignment("a..b=1").is_err());
    }
}
