//! Sections 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.

use crate::world::*;
use trivium_mqtt::packet::{Ack, Filter, Packet, Publish, Qos, Reason};

const MALFORMED: Reason = Reason::MALFORMED_PACKET;

#[test]
fn mqtt_3_8_1_1() {
    each_closes(
        &[
            (&[V5], &[0x80, 7, 0, 1, 0, 0, 1, b'a', 0]),
            (&[V5], &[0x8a, 7, 0, 1, 0, 0, 1, b'a', 0]),
        ],
        MALFORMED,
    );
}

#[test]
fn mqtt_3_8_3_1() {
    each_closes(&[(&[V5], &[0x82, 7, 0, 1, 0, 0, 1, 0xff, 0])], MALFORMED);
}

#[test]
fn mqtt_3_8_3_2() {
    each_closes(&[(&[V5], &[0x82, 3, 0, 1, 0])], Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_8_3_3() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    let own = Filter {
        no_local: true,
        ..filter_of("a", Qos::AtLeastOnce)
    };
    client.subscribe_with(None, vec![own]);
    client.publish("a", "own");
    world.connected(V5, "other").publish("a", "other");
    assert_eq!(client.take().payload, "other");
}

#[test]
fn mqtt_3_8_3_4() {
    each_closes(
        &[(
            &[V5],
            &[[0x82, 16, 0, 1, 0, 0, 10].as_slice(), b"$share/g/a", &[4]].concat(),
        )],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn mqtt_3_8_3_5() {
    each_closes(
        &[
            (&[V5], &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x40]),
            (&[V5], &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x80]),
            (&[V5], &[0x82, 7, 0, 1, 0, 0, 1, b'a', 3]),
        ],
        MALFORMED,
    );
    // Retain handling 3, a subscription identifier of 0, and two of them.
    each_closes(
        &[
            (&[V5], &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30]),
            (&[V5], &[0x82, 9, 0, 1, 2, 0x0b, 0, 0, 1, b'a', 0]),
            (&[V5], &[0x82, 11, 0, 1, 4, 0x0b, 1, 0x0b, 2, 0, 1, b'a', 0]),
        ],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn mqtt_3_8_4_1() {
    let world = World::new();
    assert_eq!(
        world.connected(V5, "c").subscribe("a", Qos::AtLeastOnce),
        [Reason(1)]
    );
}

#[test]
fn mqtt_3_8_4_2() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.bytes(&[0x82, 7, 0xab, 0xcd, 0, 0, 1, b'a', 0]);
    client.expect(&[0x90, 4, 0xab, 0xcd, 0, 0]);
}

#[test]
fn mqtt_3_8_4_3() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("fence", Qos::AtLeastOnce);
    client.subscribe("a", Qos::AtMostOnce);
    client.subscribe("a", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
    other.publish("a", "once");
    let got = client.take();
    assert_eq!(
        (got.qos, &got.payload[..]),
        (Qos::AtLeastOnce, &b"once"[..])
    );
    client.nothing_before(&mut other, "fence");
}

#[test]
fn mqtt_3_8_4_4() {
    let world = World::new();
    world.connected(V5, "other").publish_with(Publish {
        retain: true,
        qos: Qos::AtLeastOnce,
        ..message("a", "kept")
    });
    let mut client = world.connected(V5, "c");
    for _ in 0..2 {
        client.subscribe("a", Qos::AtLeastOnce);
        assert_eq!(client.take().payload, "kept");
    }
}

#[test]
fn mqtt_3_8_4_5() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    let both = vec![
        filter_of("a", Qos::AtLeastOnce),
        filter_of("b", Qos::AtMostOnce),
    ];
    client.subscribe_with(None, both);
    let mut other = world.connected(V5, "other");
    for topic in ["a", "b"] {
        other.publish(topic, topic);
        assert_eq!(client.take().payload, topic);
    }
}

#[test]
fn mqtt_3_8_4_6() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    let filters: Vec<_> = ["a", "b", "c"]
        .map(|it| filter_of(it, Qos::AtLeastOnce))
        .into();
    assert_eq!(client.subscribe_with(None, filters), [Reason(1); 3]);
}

#[test]
fn mqtt_3_8_4_7() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        assert_eq!(client.subscribe("a", qos), [Reason(qos as u8)]);
    }
    // What is wrong with a filter is told for that filter.
    let filters = vec![
        filter_of("$share//a", Qos::AtLeastOnce),
        filter_of("a", Qos::AtLeastOnce),
    ];
    assert_eq!(
        client.subscribe_with(None, filters),
        [Reason::FILTER_INVALID, Reason(1)]
    );
}

#[test]
fn mqtt_3_8_4_8() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("zero", Qos::AtMostOnce);
    client.subscribe("one", Qos::AtLeastOnce);
    let mut other = world.connected(V5, "other");
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
fn mqtt_3_9_2_1() {
    // Nothing is in SUBACK that could be left out; a SUBSCRIBE whose answer would not fit is refused.
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.maximum_packet_size = Some(30));
    assert_eq!(client.subscribe("a", Qos::AtMostOnce), [Reason(0)]);
    let mut wanted = vec![0x82, 0, 0, 1, 0];
    for _ in 0..25 {
        wanted.extend([0, 1, b'a', 0]);
    }
    wanted[1] = (wanted.len() - 2) as u8;
    client.bytes(&wanted).closed_with(Reason::PACKET_TOO_LARGE);
}

#[test]
fn mqtt_3_9_2_2() {
    // SUBACK has an empty block of properties, when it refuses too, with and without room.
    for size in [20, 1000] {
        let world = World::new();
        let mut client = world.client(V5);
        client.connect("c", |connect| connect.maximum_packet_size = Some(size));
        client
            .bytes(b"\x82\x12\0\x07\0\0\x01a\0\0\x08$share/g\0")
            .expect(&[0x90, 5, 0, 7, 0, 0, 0x8f]);
    }
}

#[test]
fn mqtt_3_9_3_1() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    let filters = vec![
        filter_of("a", Qos::AtLeastOnce),
        filter_of("b", Qos::AtMostOnce),
        filter_of("c", Qos::AtLeastOnce),
    ];
    assert_eq!(
        client.subscribe_with(None, filters),
        [Reason(1), Reason(0), Reason(1)]
    );
}

#[test]
fn mqtt_3_9_3_2() {
    let codes = [
        0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2,
    ];
    let world = World::new();
    let mut client = world.connected(V5, "c");
    for filter in ["a", "#", "$share/g/a", "$share/g/", "$SYS/#"] {
        for reason in client.subscribe(filter, Qos::ExactlyOnce) {
            assert!(codes.contains(&reason.0), "{filter}: {reason:?}");
        }
    }
}

#[test]
fn mqtt_3_10_1_1() {
    each_closes(
        &[
            (&[V5], &[0xa0, 6, 0, 1, 0, 0, 1, b'a']),
            (&[V5], &[0xaa, 6, 0, 1, 0, 0, 1, b'a']),
        ],
        MALFORMED,
    );
}

#[test]
fn mqtt_3_10_3_1() {
    each_closes(&[(&[V5], &[0xa2, 6, 0, 1, 0, 0, 1, 0xff])], MALFORMED);
}

#[test]
fn mqtt_3_10_3_2() {
    each_closes(&[(&[V5], &[0xa2, 3, 0, 1, 0])], Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_10_4_1() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a/+", Qos::AtLeastOnce);
    // Only the filter itself, character by character, not what it matches.
    for other in ["a/b", "A/+", "a/#", "a/+/"] {
        assert_eq!(
            client.unsubscribe(&[other]),
            [Reason::NO_SUBSCRIPTION_EXISTED],
            "{other}"
        );
    }
    assert_eq!(client.unsubscribe(&["a/+"]), [Reason::SUCCESS]);
}

#[test]
fn mqtt_3_10_4_2() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.subscribe("fence", Qos::AtLeastOnce);
    client.unsubscribe(&["a"]);
    let mut other = world.connected(V5, "other");
    assert_eq!(other.publish("a", "late"), Reason::NO_MATCHING_SUBSCRIBERS);
    client.nothing_before(&mut other, "fence");
}

#[test]
fn mqtt_3_10_4_3() {
    // A delivery that began before UNSUBSCRIBE is carried through, also on the next connection.
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    world.connected(V5, "other").publish("a", "begun");
    client.message();
    client.unsubscribe(&["a"]);
    client.vanish();
    assert_eq!(world.durable(V5, "c").take().payload, "begun");
}

#[test]
fn mqtt_3_10_4_4() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.bytes(&[0xa2, 6, 0xab, 0xcd, 0, 0, 1, b'a']);
    client.expect(&[0xb0, 4, 0xab, 0xcd, 0, 0x11]);
}

#[test]
fn mqtt_3_10_4_5() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    assert_eq!(
        client.unsubscribe(&["never"]),
        [Reason::NO_SUBSCRIPTION_EXISTED]
    );
}

#[test]
fn mqtt_3_10_4_6() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.subscribe("c", Qos::AtLeastOnce);
    assert_eq!(
        client.unsubscribe(&["a", "b", "c"]),
        [
            Reason::SUCCESS,
            Reason::NO_SUBSCRIPTION_EXISTED,
            Reason::SUCCESS
        ]
    );
}

/// An UNSUBSCRIBE of what is there and of what is not, by a client who takes packets of up to `size` bytes.
fn unsubscribes(size: u32) {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.maximum_packet_size = Some(size));
    client.subscribe("a", Qos::AtMostOnce);
    client
        .bytes(&[0xa2, 9, 0, 7, 0, 0, 1, b'a', 0, 1, b'b'])
        .expect(&[0xb0, 5, 0, 7, 0, 0, 0x11]);
}

#[test]
fn mqtt_3_11_2_1() {
    // Nothing is in UNSUBACK that could be left out; an UNSUBSCRIBE whose answer would not fit is refused.
    unsubscribes(20);
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.maximum_packet_size = Some(30));
    let mut unwanted = vec![0xa2, 0, 0, 1, 0];
    for _ in 0..25 {
        unwanted.extend([0, 1, b'a']);
    }
    unwanted[1] = (unwanted.len() - 2) as u8;
    client
        .bytes(&unwanted)
        .closed_with(Reason::PACKET_TOO_LARGE);
}

#[test]
fn mqtt_3_11_2_2() {
    // No user properties, with all room for them.
    unsubscribes(1000);
}

#[test]
fn mqtt_3_11_3_1() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    client.subscribe("b", Qos::AtLeastOnce);
    assert_eq!(
        client.unsubscribe(&["a", "b"]),
        [Reason::NO_SUBSCRIPTION_EXISTED, Reason::SUCCESS]
    );
}

#[test]
fn mqtt_3_11_3_2() {
    let codes = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
    let world = World::new();
    let mut client = world.connected(V5, "c");
    for filter in ["a", "$share/g/a", "$SYS/#"] {
        for reason in client.unsubscribe(&[filter]) {
            assert!(codes.contains(&reason.0), "{filter}: {reason:?}");
        }
    }
}

/// Acknowledgements of what is not under way are passed over (4.3.2, not numbered).
#[test]
fn acknowledgements_of_nothing_are_passed_over() {
    let world = World::new();
    for version in ALL {
        let mut client = world.connected(version, "c");
        client.send(Packet::PubAck(Ack::new(900, Reason::SUCCESS)));
        assert_eq!(client.before_pong(), []);
    }
}
