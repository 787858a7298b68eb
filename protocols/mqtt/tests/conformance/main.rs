//! The numbered normative statements of MQTT 5 and 3.1.1 that bind a server, each by a test that is named by its number:
//! `mqtt_3_1_0_1` is MQTT-3.1.0-1 of version 5, `mqtt311_3_1_0_1` the one of 3.1.1. The table is `docs/mqtt-conformance.md`.
//!
//! Clients write bytes to the state machine; underneath is a whole broker over memory (`world`).
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod acks;
mod auth;
mod behaviour;
mod connack;
mod connect;
mod disconnect;
mod format;
mod publish;
mod qos2;
mod shares;
mod subscribe;
mod v311;
mod world;
