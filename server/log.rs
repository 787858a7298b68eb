//! Log lines: for people on a terminal, for machines as JSON; never a body or a credential.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging to standard error, panics included. To be called once, by the program.
pub fn start(log: &Log) {
    let filter = EnvFilter::new(log.level.directives());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match log.format {
        LogFormat::Text => lines
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .init(),
        LogFormat::Json => lines.json().init(),
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}
