//! Stories of an AMQP connection: bytes in, commands and bytes out. Every story runs twice, its bytes fed frame by
//! frame and one by one.

mod client;
mod conversions;
mod definitions;
mod delivering;
mod handshake;
mod hostile;
mod publishing;
