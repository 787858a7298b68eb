//! Sections 3.3 to 3.7: PUBLISH and its acknowledgements.

use super::{close, close_311, kept, retain};
use crate::publish::overlapping_subscriptions_bring_the_greatest_qos;
use crate::world::*;
use trivium_mqtt::packet::{Publish, Qos, Reason};

#[test]
fn mqtt311_3_3_1_1() {
    let world = World::new();
    let mut client = world.durable(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    world.connected(V311, "other").publish("a", "x");
    assert!(!client.message().dup);
    client.vanish();
    assert!(world.durable(V311, "c").take().dup);
}

#[test]
fn mqtt311_3_3_1_2() {
    close_311(&[&[0x38, 3, 0, 1, b'a']]);
}

#[test]
fn mqtt311_3_3_1_3() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V311, "other");
    other.publish_with(Publish {
        dup: true,
        qos: Qos::AtLeastOnce,
        ..message("a", "x")
    });
    assert!(!client.take().dup);
}

#[test]
fn mqtt311_3_3_1_4() {
    close(&[&[0x36, 5, 0, 1, b'a', 0, 1]]);
}

#[test]
fn mqtt311_3_3_1_5() {
    let world = World::new();
    retain(&world, "x");
    let found = kept(&world, "a");
    assert_eq!((found.len(), found[0].qos), (1, Qos::AtLeastOnce));
}

#[test]
fn mqtt311_3_3_1_6() {
    let world = World::new();
    retain(&world, "x");
    assert_eq!(kept(&world, "+").len(), 1);
}

#[test]
fn mqtt311_3_3_1_7() {
    let world = World::new();
    retain(&world, "old");
    retain(&world, "new");
    let found = kept(&world, "a");
    assert_eq!((found.len(), &found[0].payload[..]), (1, &b"new"[..]));
}

#[test]
fn mqtt311_3_3_1_8() {
    let world = World::new();
    retain(&world, "x");
    assert!(kept(&world, "a")[0].retain);
}

#[test]
fn mqtt311_3_3_1_9() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    retain(&world, "x");
    assert!(!client.take().retain);
}

#[test]
fn mqtt311_3_3_1_10() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    retain(&world, "x");
    retain(&world, "");
    client.take_all(&["x", ""]);
    assert_eq!(kept(&world, "a"), []);
}

#[test]
fn mqtt311_3_3_1_11() {
    let world = World::new();
    retain(&world, "");
    assert_eq!(kept(&world, "a"), []);
}

#[test]
fn mqtt311_3_3_1_12() {
    let world = World::new();
    retain(&world, "kept");
    world.connected(V311, "publisher").publish("a", "passing");
    assert_eq!(kept(&world, "a")[0].payload, "kept");
}

#[test]
fn mqtt311_3_3_2_1() {
    close(&[&[0x30, 1, 0], &[0x30, 3, 0, 9, b'a'], &[0x30, 2, 0, 0]]);
}

#[test]
fn mqtt311_3_3_2_2() {
    close(&[&[0x30, 3, 0, 1, b'#'], &[0x30, 5, 0, 3, b'a', b'/', b'+']]);
}

#[test]
fn mqtt311_3_3_2_3() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a/+", Qos::AtLeastOnce);
    client.publish("a/b", "x");
    assert_eq!(client.take().topic, "a/b");
}

#[test]
fn mqtt311_3_3_4_1() {
    let world = World::new();
    for version in V3 {
        let mut client = world.connected(version, "c");
        client.bytes(&[0x30, 3, 0, 1, b'a']);
        assert_eq!(client.before_pong(), []);
        client
            .bytes(&[0x32, 5, 0, 1, b'a', 0, 9])
            .expect(&[0x40, 2, 0, 9]);
        client
            .bytes(&[0x34, 5, 0, 1, b'a', 0, 9])
            .expect(&[0x50, 2, 0, 9]);
        client.bytes(&[0x62, 2, 0, 9]).expect(&[0x70, 2, 0, 9]);
    }
}

#[test]
fn mqtt311_3_3_5_1() {
    overlapping_subscriptions_bring_the_greatest_qos(V311);
}

#[test]
fn mqtt311_3_3_5_2() {
    // What is not authorised is acknowledged and goes nowhere.
    let world = World::new();
    for version in V3 {
        assert_eq!(
            world.connected(version, "c").publish("$SYS/x", "x"),
            Reason::SUCCESS
        );
    }
}

#[test]
fn mqtt311_3_6_1_1() {
    close(&[&[0x60, 2, 0, 1], &[0x61, 2, 0, 1]]);
}
