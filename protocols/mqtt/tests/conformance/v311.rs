//! The statements of 3.1.1, by their numbers there. Where 3.1 has the same rule it is told to 3.1 as well.

mod behaviour;
mod connect;
mod format;
mod publish;
mod subscribe;

use crate::world::*;
use trivium_mqtt::packet::{Packet, Publish, Qos, Reason};

const NO_REASON: Reason = Reason::UNSPECIFIED;

/// That each of these ends a connection of 3.1 and of 3.1.1.
fn close(bytes: &[&[u8]]) {
    let cases: Vec<(&[_], &[u8])> = bytes.iter().map(|bytes| (&V3[..], *bytes)).collect();
    each_closes(&cases, NO_REASON);
}

fn close_311(bytes: &[&[u8]]) {
    let cases: Vec<(&[_], &[u8])> = bytes.iter().map(|bytes| (&[V311][..], *bytes)).collect();
    each_closes(&cases, NO_REASON);
}

/// A CONNECT of 3.1.1 with these flags and payload ends without an answer.
fn refused_silently(flags: u8, payload: &[u8]) {
    let world = World::new();
    let body = [&[0, 4], &b"MQTT"[..], &[4, flags, 0, 60], payload].concat();
    let mut client = world.client(V311);
    client
        .bytes(&[&[0x10, body.len() as u8], &body[..]].concat())
        .closed();
}

/// What is retained for a filter.
fn kept(world: &World, topic: &str) -> Vec<Publish> {
    let mut late = world.connected(V311, "late");
    late.subscribe(topic, Qos::AtLeastOnce);
    let publish = |packet| match packet {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    };
    late.before_pong().into_iter().map(publish).collect()
}

fn retain(world: &World, payload: &str) {
    world.connected(V311, "publisher").publish_with(Publish {
        retain: true,
        qos: Qos::AtLeastOnce,
        ..message("a", payload)
    });
}
