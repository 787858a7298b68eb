//! The messages, one table each (see `message.rs`); names, fields and versions are those of the
//! protocol guide of Apache Kafka 4.3, in snake case.

pub mod admin;
pub mod api_versions;
pub mod configs;
pub mod consumer_groups;
pub mod describe;
pub mod fetch;
pub mod group_offsets;
pub mod groups;
pub mod metadata;
pub mod offsets;
pub mod produce;
pub mod producers;
pub mod quotas;
pub mod security;
pub mod share;
pub mod topics;
pub mod transactions;
