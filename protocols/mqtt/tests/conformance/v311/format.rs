//! Sections 1 and 2: texts, headers and packet identifiers.

use super::close;
use crate::world::*;
use trivium_mqtt::packet::Qos;

#[test]
fn mqtt311_1_5_3_1() {
    close(&[
        &[0x30, 4, 0, 2, 0xc0, 0x80],
        &[0x30, 5, 0, 3, 0xed, 0xa0, 0x80],
        &[0x82, 6, 0, 1, 0, 1, 0xff, 0],
    ]);
}

#[test]
fn mqtt311_1_5_3_2() {
    close(&[&[0x30, 3, 0, 1, 0], &[0x82, 6, 0, 1, 0, 1, 0, 0]]);
}

#[test]
fn mqtt311_1_5_3_3() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("\u{feff}", Qos::AtLeastOnce);
    client.publish("\u{feff}", "kept");
    assert_eq!(client.take().topic, "\u{feff}");
}

#[test]
fn mqtt311_2_2_2_1() {
    // The bits of the fixed header that are reserved.
    close(&[
        &[0x41, 2, 0, 1],
        &[0x60, 2, 0, 1],
        &[0xc1, 0],
        &[0xe1, 0],
        &[0x80, 6, 0, 1, 0, 1, b'a', 0],
    ]);
}

#[test]
fn mqtt311_2_2_2_2() {
    close(&[&[0x00, 0], &[0xf0, 0], &[0x52, 2, 0, 1]]);
}

#[test]
fn mqtt311_2_3_1_1() {
    close(&[
        &[0x32, 5, 0, 1, b'a', 0, 0],
        &[0x82, 6, 0, 0, 0, 1, b'a', 0],
        &[0xa2, 5, 0, 0, 0, 1, b'a'],
    ]);
}

#[test]
fn mqtt311_2_3_1_4() {
    let world = World::new();
    for version in V3 {
        let mut client = world.connected(version, "c");
        client.subscribe("a", Qos::AtLeastOnce);
        client.publish("a", "1");
        client.publish("a", "2");
        let ids = (client.message().packet_id, client.message().packet_id);
        assert!(ids.0 != 0 && ids.1 != 0 && ids.0 != ids.1);
    }
}

#[test]
fn mqtt311_2_3_1_5() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtMostOnce);
    client
        .bytes(&[0x30, 5, 0, 1, b'a', 0, 7])
        .expect(&[0x30, 5, 0, 1, b'a', 0, 7]);
}

#[test]
fn mqtt311_2_3_1_6() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0x32, 5, 0, 1, b'a', 0x12, 0x34])
        .expect(&[0x40, 2, 0x12, 0x34]);
}

#[test]
fn mqtt311_2_3_1_7() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0x82, 6, 0x12, 0x34, 0, 1, b'a', 1])
        .expect(&[0x90, 3, 0x12, 0x34, 1]);
    client
        .bytes(&[0xa2, 5, 0x43, 0x21, 0, 1, b'a'])
        .expect(&[0xb0, 2, 0x43, 0x21]);
}
