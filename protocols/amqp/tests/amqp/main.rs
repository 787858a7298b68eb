//! Stories of an AMQP connection: bytes in, commands and bytes out. Every story runs twice, its bytes fed frame by
//! frame and one by one.

#![allow(clippy::unwrap_used, reason = "all of it is a test, helpers too")]

mod client;
mod conversions;
mod definitions;
mod delivering;
mod extensions;
mod handshake;
mod hostile;
mod publishing;
mod streams;
mod transactions;
