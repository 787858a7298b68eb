//! Sections 3.8 to 3.14: SUBSCRIBE, UNSUBSCRIBE, PINGREQ and DISCONNECT.

use super::{close, retain};
use crate::world::*;
use trivium_mqtt::packet::{Publish, Qos, Reason};

#[test]
fn mqtt311_3_8_1_1() {
    close(&[
        &[0x80, 6, 0, 1, 0, 1, b'a', 0],
        &[0x83, 6, 0, 1, 0, 1, b'a', 0],
    ]);
}

#[test]
fn mqtt311_3_8_3_1() {
    close(&[&[0x82, 6, 0, 1, 0, 1, 0xff, 0]]);
}

#[test]
fn mqtt311_3_8_3_2() {
    // Wildcards are there, so filters with them are granted and match.
    let world = World::new();
    let mut client = world.connected(V311, "c");
    assert_eq!(client.subscribe("a/+/#", Qos::AtLeastOnce), [Reason(1)]);
    client.publish("a/b/c", "x");
    assert_eq!(client.take().topic, "a/b/c");
}

#[test]
fn mqtt311_3_8_3_3() {
    close(&[&[0x82, 2, 0, 1]]);
}

#[test]
fn mqtt311_3_8_3_4() {
    // The requested QoS byte: 3, and the reserved bits.
    close(&[
        &[0x82, 6, 0, 1, 0, 1, b'a', 3],
        &[0x82, 6, 0, 1, 0, 1, b'a', 4],
        &[0x82, 6, 0, 1, 0, 1, b'a', 0x80],
    ]);
}

#[test]
fn mqtt311_3_8_4_1() {
    let world = World::new();
    assert_eq!(
        world.connected(V311, "c").subscribe("a", Qos::AtLeastOnce),
        [Reason(1)]
    );
}

#[test]
fn mqtt311_3_8_4_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0x82, 6, 0xab, 0xcd, 0, 1, b'a', 0])
        .expect(&[0x90, 3, 0xab, 0xcd, 0]);
}

#[test]
fn mqtt311_3_8_4_3() {
    // Subscribed again: replaced, and retained messages come again.
    let world = World::new();
    retain(&world, "kept");
    let mut client = world.connected(V311, "c");
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        client.subscribe("a", qos);
        let got = client.take();
        assert_eq!((&got.payload[..], got.qos), (&b"kept"[..], qos));
    }
    client.publish("a", "live");
    // The order of PUBACK and delivery was PUBACK's; one copy follows.
    assert_eq!(client.take().payload, "live");
    assert_eq!(client.before_pong(), []);
}

#[test]
fn mqtt311_3_8_4_4() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0x82, 10, 0, 1, 0, 1, b'a', 0, 0, 1, b'b', 1])
        .expect(&[0x90, 4, 0, 1, 0, 1]);
}

#[test]
fn mqtt311_3_8_4_5() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    let filters = vec![
        filter_of("a", Qos::AtMostOnce),
        filter_of("$share//x", Qos::AtMostOnce),
        filter_of("c", Qos::AtLeastOnce),
    ];
    assert_eq!(
        client.subscribe_with(None, filters),
        [Reason(0), Reason(0x80), Reason(1)]
    );
    // 3.1 has no failures: it is granted, and nothing comes.
    let mut client = world.connected(V31, "d");
    assert_eq!(client.subscribe("$share//x", Qos::AtMostOnce), [Reason(0)]);
}

#[test]
fn mqtt311_3_8_4_6() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("zero", Qos::AtMostOnce);
    client.subscribe("one", Qos::AtLeastOnce);
    let mut other = world.connected(V311, "other");
    for (topic, published, delivered) in [
        ("zero", Qos::AtLeastOnce, Qos::AtMostOnce),
        ("one", Qos::AtMostOnce, Qos::AtMostOnce),
        ("one", Qos::AtLeastOnce, Qos::AtLeastOnce),
    ] {
        other.publish_with(Publish {
            qos: published,
            ..message(topic, "x")
        });
        assert_eq!(client.take().qos, delivered);
    }
}

#[test]
fn mqtt311_3_9_3_1() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    let filters = vec![
        filter_of("a", Qos::AtLeastOnce),
        filter_of("b", Qos::AtMostOnce),
    ];
    assert_eq!(client.subscribe_with(None, filters), [Reason(1), Reason(0)]);
}

#[test]
fn mqtt311_3_9_3_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    for filter in ["a", "$share/g/a", "$share//a", "#"] {
        for reason in client.subscribe(filter, Qos::ExactlyOnce) {
            assert!([0, 1, 2, 0x80].contains(&reason.0));
        }
    }
}

#[test]
fn mqtt311_3_10_1_1() {
    close(&[&[0xa0, 5, 0, 1, 0, 1, b'a'], &[0xa3, 5, 0, 1, 0, 1, b'a']]);
}

#[test]
fn mqtt311_3_10_3_1() {
    close(&[&[0xa2, 5, 0, 1, 0, 1, 0xff]]);
}

#[test]
fn mqtt311_3_10_3_2() {
    close(&[&[0xa2, 2, 0, 1]]);
}

#[test]
fn mqtt311_3_10_4_1() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a/+", Qos::AtLeastOnce);
    client.unsubscribe(&["a/b", "A/+"]);
    client.publish("a/b", "still");
    assert_eq!(client.take().payload, "still");
    client.unsubscribe(&["a/+"]);
    client.publish("a/b", "unseen");
    assert_eq!(client.before_pong(), []);
}

#[test]
fn mqtt311_3_10_4_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.unsubscribe(&["a"]);
    assert_eq!(
        world.connected(V5, "other").publish("a", "x"),
        Reason::NO_MATCHING_SUBSCRIBERS
    );
}

#[test]
fn mqtt311_3_10_4_3() {
    let world = World::new();
    let mut client = world.durable(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    world.connected(V311, "other").publish("a", "begun");
    client.message();
    client.unsubscribe(&["a"]);
    client.vanish();
    assert_eq!(world.durable(V311, "c").take().payload, "begun");
}

#[test]
fn mqtt311_3_10_4_4() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client
        .bytes(&[0xa2, 5, 0xab, 0xcd, 0, 1, b'a'])
        .expect(&[0xb0, 2, 0xab, 0xcd]);
}

#[test]
fn mqtt311_3_10_4_5() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    assert_eq!(client.unsubscribe(&["never"]), []);
}

#[test]
fn mqtt311_3_10_4_6() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.subscribe("b", Qos::AtLeastOnce);
    client.unsubscribe(&["a", "b"]);
    let mut other = world.connected(V5, "other");
    for topic in ["a", "b"] {
        assert_eq!(other.publish(topic, "x"), Reason::NO_MATCHING_SUBSCRIBERS);
    }
}

#[test]
fn mqtt311_3_12_4_1() {
    let world = World::new();
    for version in V3 {
        world
            .connected(version, "c")
            .bytes(&[0xc0, 0])
            .expect(&[0xd0, 0]);
    }
}

#[test]
fn mqtt311_3_14_1_1() {
    close(&[&[0xe1, 0]]);
}

#[test]
fn mqtt311_3_14_4_2() {
    let world = World::new();
    let mut client = world.connected(V311, "c");
    client.bytes(&[0xe0, 0, 0xc0, 0]).closed();
}

#[test]
fn mqtt311_3_14_4_3() {
    let world = World::new();
    let mut watcher = world.connected(V311, "watcher");
    watcher.subscribe("gone", Qos::AtLeastOnce);
    for version in V3 {
        let mut client = world.client(version);
        client.connect("c", |connect| connect.will = Some(will("gone", "will")));
        client.bytes(&[0xe0, 0]).closed();
        client.vanish();
        let mut other = world.connected(V311, "other");
        watcher.nothing_before(&mut other, "gone");
    }
}
