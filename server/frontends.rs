//! The protocols that the program speaks: one entry each.

use crate::{config::Config, listen::Endpoint};

/// What `config` switches on.
pub fn standard(config: &Config) -> Vec<Endpoint> {
    let _ = config;
    Vec::new()
}
