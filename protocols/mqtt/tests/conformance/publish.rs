//! Section 3.3: PUBLISH.

use crate::world::*;
use bytes::{Bytes, BytesMut};
use trivium_mqtt::packet::{
    Ack, Filter, Packet, Publish, Qos, Reason, RetainHandling, Version,
    property::{id, put_binary, put_u8, put_user},
};

fn pair(world: &World) -> (Client<'_>, Client<'_>) {
    let mut subscriber = world.connected(V5, "subscriber");
    subscriber.subscribe("#", Qos::AtLeastOnce);
    (subscriber, world.connected(V5, "publisher"))
}

#[test]
fn mqtt_3_3_1_1() {
    // What was not acknowledged comes again with DUP.
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    world.connected(V5, "other").publish("a", "x");
    assert!(!client.message().dup);
    client.vanish();
    let mut client = world.durable(V5, "c");
    assert!(client.take().dup);
}

#[test]
fn mqtt_3_3_1_2() {
    each_closes(
        &[(&[V5], &[0x38, 4, 0, 1, b'a', 0])],
        Reason::MALFORMED_PACKET,
    );
    let world = World::new();
    let (mut subscriber, mut publisher) = pair(&world);
    publisher.publish_with(message("a", "x"));
    assert!(!subscriber.take().dup);
}

#[test]
fn mqtt_3_3_1_3() {
    let world = World::new();
    let (mut subscriber, mut publisher) = pair(&world);
    publisher.publish_with(Publish {
        dup: true,
        qos: Qos::AtLeastOnce,
        ..message("a", "x")
    });
    assert!(!subscriber.take().dup);
}

#[test]
fn mqtt_3_3_1_4() {
    each_closes(
        &[(&[V5], &[0x36, 6, 0, 1, b'a', 0, 1, 0])],
        Reason::MALFORMED_PACKET,
    );
}

fn retained(topic: &str, payload: &str) -> Publish {
    Publish {
        retain: true,
        qos: Qos::AtLeastOnce,
        ..message(topic, payload)
    }
}

/// What a new subscription to a topic is sent at once.
fn kept(world: &World, topic: &str) -> Vec<(Bytes, bool)> {
    let mut late = world.connected(V5, "late");
    late.subscribe(topic, Qos::AtMostOnce);
    late.subscribe("fence", Qos::AtMostOnce);
    let mut kept = Vec::new();
    late.send(Packet::Publish(message("fence", "fence")));
    loop {
        let got = late.take();
        if got.topic == "fence" {
            return kept;
        }
        kept.push((got.payload, got.retain));
    }
}

#[test]
fn mqtt_3_3_1_5() {
    let world = World::new();
    let mut publisher = world.connected(V5, "publisher");
    publisher.publish_with(retained("a", "old"));
    publisher.publish_with(retained("a", "new"));
    assert_eq!(kept(&world, "a"), [("new".into(), true)]);
}

#[test]
fn mqtt_3_3_1_6() {
    let world = World::new();
    let (mut subscriber, mut publisher) = pair(&world);
    publisher.publish_with(retained("a", "old"));
    publisher.publish_with(retained("a", ""));
    subscriber.take_all(&["old", ""]);
    assert_eq!(kept(&world, "a"), []);
}

#[test]
fn mqtt_3_3_1_7() {
    let world = World::new();
    world
        .connected(V5, "publisher")
        .publish_with(retained("a", ""));
    assert_eq!(kept(&world, "a"), []);
}

#[test]
fn mqtt_3_3_1_8() {
    let world = World::new();
    let mut publisher = world.connected(V5, "publisher");
    publisher.publish_with(retained("a", "kept"));
    publisher.publish("a", "passing");
    publisher.publish("a", "");
    publisher.publish("b", "passing");
    assert_eq!(kept(&world, "a"), [("kept".into(), true)]);
    assert_eq!(kept(&world, "b"), []);
}

/// How many retained messages a first and a second SUBSCRIBE bring.
fn handled(handling: RetainHandling) -> (usize, usize) {
    let world = World::new();
    world
        .connected(V5, "publisher")
        .publish_with(retained("a", "x"));
    let mut client = world.connected(V5, "c");
    client.subscribe("fence", Qos::AtMostOnce);
    let mut count = || {
        client.subscribe_with(
            None,
            vec![Filter {
                retain_handling: handling,
                ..filter_of("a", Qos::AtMostOnce)
            }],
        );
        client.send(Packet::Publish(message("fence", "fence")));
        let mut seen = 0;
        while client.take().topic != "fence" {
            seen += 1;
        }
        seen
    };
    (count(), count())
}

#[test]
fn mqtt_3_3_1_9() {
    assert_eq!(handled(RetainHandling::Always), (1, 1));
}

#[test]
fn mqtt_3_3_1_10() {
    assert_eq!(handled(RetainHandling::IfNew), (1, 0));
}

#[test]
fn mqtt_3_3_1_11() {
    assert_eq!(handled(RetainHandling::Never), (0, 0));
}

#[test]
fn mqtt_3_3_1_12() {
    let world = World::new();
    let (mut subscriber, mut publisher) = pair(&world);
    publisher.publish_with(retained("a", "x"));
    assert!(!subscriber.take().retain);
}

#[test]
fn mqtt_3_3_1_13() {
    let world = World::new();
    let mut subscriber = world.connected(V5, "subscriber");
    let kept = Filter {
        retain_as_published: true,
        ..filter_of("#", Qos::AtLeastOnce)
    };
    subscriber.subscribe_with(None, vec![kept]);
    let mut publisher = world.connected(V5, "publisher");
    publisher.publish_with(retained("a", "x"));
    publisher.publish("a", "y");
    assert!(subscriber.take().retain);
    assert!(!subscriber.take().retain);
}

#[test]
fn mqtt_3_3_2_2() {
    each_closes(
        &[
            (&[V5], &[0x30, 4, 0, 1, b'#', 0]),
            (&[V5], &[0x30, 6, 0, 3, b'a', b'/', b'+', 0]),
        ],
        Reason::MALFORMED_PACKET,
    );
}

#[test]
fn mqtt_3_3_2_3() {
    let world = World::new();
    let mut subscriber = world.connected(V5, "subscriber");
    subscriber.subscribe("a/+/c", Qos::AtLeastOnce);
    world.connected(V5, "publisher").publish("a/b/c", "x");
    assert_eq!(subscriber.take().topic, "a/b/c");
}

/// What a message with these properties arrives with.
fn forwarded(block: &[u8]) -> Bytes {
    let world = World::new();
    let (mut subscriber, mut publisher) = pair(&world);
    publisher.publish_with(Publish {
        block: Bytes::copy_from_slice(block),
        qos: Qos::AtLeastOnce,
        ..message("a", "x")
    });
    subscriber.take().block
}

fn unaltered(put: impl Fn(&mut BytesMut)) {
    let mut block = BytesMut::new();
    put(&mut block);
    assert_eq!(forwarded(&block), block);
}

#[test]
fn mqtt_3_3_2_4() {
    unaltered(|block| put_u8(block, id::PAYLOAD_FORMAT, Some(1)));
    unaltered(|block| put_u8(block, id::PAYLOAD_FORMAT, Some(0)));
}

#[test]
fn mqtt_3_3_2_5() {
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.disconnect();
    let mut publisher = world.connected(V5, "publisher");
    publisher.publish_with(Publish {
        expiry: Some(5),
        qos: Qos::AtLeastOnce,
        ..message("a", "short")
    });
    publisher.publish("a", "long");
    advance(6.0);
    let mut client = world.durable(V5, "c");
    client.take_all(&["long"]);
    // Nor what has expired while it waited for a place in the window.
    client.vanish();
    let mut client = world.client(V5);
    client.connect("c", |connect| {
        lasting(connect);
        connect.receive_maximum = 1;
    });
    publisher.publish("a", "first");
    let first = client.message();
    publisher.publish_with(Publish {
        expiry: Some(5),
        qos: Qos::AtLeastOnce,
        ..message("a", "short")
    });
    publisher.publish("a", "last");
    assert_eq!(client.before_pong(), []);
    advance(6.0);
    client.send(Packet::PubAck(Ack::new(first.packet_id, Reason::SUCCESS)));
    client.take_all(&["last"]);
}

#[test]
fn mqtt_3_3_2_6() {
    let world = World::new();
    let mut client = world.durable(V5, "c");
    client.subscribe("a", Qos::AtLeastOnce);
    client.disconnect();
    world.connected(V5, "publisher").publish_with(Publish {
        expiry: Some(100),
        qos: Qos::AtLeastOnce,
        ..message("a", "x")
    });
    advance(40.0);
    let left = world.durable(V5, "c").take().expiry.unwrap();
    assert!((55..=60).contains(&left), "{left}");
}

#[test]
fn mqtt_3_3_2_7() {
    let world = World::new();
    let aliased = |client: &mut Client<'_>, topic: &str| {
        client.publish_with(Publish {
            alias: Some(3),
            qos: Qos::AtLeastOnce,
            ..message(topic, "x")
        });
    };
    let mut client = world.connected(V5, "c");
    aliased(&mut client, "topic");
    aliased(&mut client, "");
    client.disconnect();
    let mut client = world.connected(V5, "c");
    client.send(Packet::Publish(Publish {
        alias: Some(3),
        ..message("", "x")
    }));
    client.closed_with(Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_3_2_8() {
    each_closes(
        &[(&[V5], &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0])],
        Reason::TOPIC_ALIAS_INVALID,
    );
}

#[test]
fn mqtt_3_3_2_9() {
    each_closes(
        &[(&[V5], &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 17])],
        Reason::TOPIC_ALIAS_INVALID,
    );
}

#[test]
fn mqtt_3_3_2_11() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| connect.topic_alias_maximum = 2);
    client.subscribe("#", Qos::AtMostOnce);
    let mut other = world.connected(V5, "other");
    for number in 0..5 {
        other.publish(&format!("room/{number}"), "x");
        assert!(
            client
                .take()
                .alias
                .is_none_or(|alias| (1..=2).contains(&alias))
        );
    }
}

#[test]
fn mqtt_3_3_2_12() {
    let world = World::new();
    let (mut subscriber, mut publisher) = pair(&world);
    for topic in ["topic", ""] {
        for alias in 1..=16 {
            let topic = if topic.is_empty() {
                String::new()
            } else {
                format!("{topic}{alias}")
            };
            publisher.publish_with(Publish {
                alias: Some(alias),
                qos: Qos::AtLeastOnce,
                ..message(&topic, "x")
            });
            assert_eq!(subscriber.take().topic, format!("topic{alias}"));
        }
    }
}

#[test]
fn mqtt_3_3_2_13() {
    each_closes(
        &[(&[V5], &[0x30, 8, 0, 1, b'a', 4, 0x08, 0, 1, 0xff])],
        Reason::MALFORMED_PACKET,
    );
}

#[test]
fn mqtt_3_3_2_14() {
    each_closes(
        &[(&[V5], &[0x30, 8, 0, 1, b'a', 4, 0x08, 0, 1, b'#'])],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn mqtt_3_3_2_15() {
    unaltered(|block| put_binary(block, id::RESPONSE_TOPIC, Some("answers/1")));
}

#[test]
fn mqtt_3_3_2_16() {
    unaltered(|block| put_binary(block, id::CORRELATION_DATA, Some([0, 255, 1])));
}

#[test]
fn mqtt_3_3_2_17() {
    unaltered(|block| put_user(block, "name", "value"));
}

#[test]
fn mqtt_3_3_2_18() {
    unaltered(|block| {
        for (name, value) in [("b", "1"), ("a", "2"), ("b", "1"), ("", "")] {
            put_user(block, name, value);
        }
    });
}

#[test]
fn mqtt_3_3_2_19() {
    each_closes(
        &[(&[V5], &[0x30, 8, 0, 1, b'a', 4, 0x03, 0, 1, 0xff])],
        Reason::MALFORMED_PACKET,
    );
}

#[test]
fn mqtt_3_3_2_20() {
    unaltered(|block| put_binary(block, id::CONTENT_TYPE, Some("text/plain")));
}

#[test]
fn mqtt_3_3_4_1() {
    let world = World::new();
    let (mut subscriber, mut publisher) = pair(&world);
    // Nothing at QoS 0, PUBACK at QoS 1.
    publisher.bytes(&[0x30, 4, 0, 1, b'a', 0]);
    assert_eq!(publisher.before_pong(), []);
    publisher
        .bytes(&[0x32, 6, 0, 1, b'a', 0, 9, 0])
        .expect(&[0x40, 2, 0, 9]);
    assert_eq!(subscriber.take().qos, Qos::AtMostOnce);
    assert_eq!(subscriber.take().qos, Qos::AtLeastOnce);
}

#[test]
fn mqtt_3_3_4_2() {
    overlapping_subscriptions_bring_the_greatest_qos(V5);
}

/// One copy, at the greatest QoS that is granted, in whatever order the subscriptions were made.
pub fn overlapping_subscriptions_bring_the_greatest_qos(version: Version) {
    use Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
    for granted in [
        [AtMostOnce, AtLeastOnce],
        [AtLeastOnce, AtMostOnce],
        [ExactlyOnce, AtLeastOnce],
        [AtLeastOnce, ExactlyOnce],
    ] {
        let world = World::new();
        let mut subscriber = world.connected(version, "subscriber");
        for (number, (filter, qos)) in (1..).zip(["a/#", "a/+"].into_iter().zip(granted)) {
            let id = version.is_5().then_some(number);
            subscriber.subscribe_with(id, vec![filter_of(filter, qos)]);
        }
        subscriber.subscribe("fence", AtLeastOnce);
        let mut publisher = world.connected(version, "publisher");
        publisher.publish_with(Publish {
            qos: ExactlyOnce,
            ..message("a/b", "x")
        });
        assert_eq!(Some(subscriber.take().qos), granted.into_iter().max());
        subscriber.nothing_before(&mut publisher, "fence");
    }
}

#[test]
fn mqtt_3_3_4_3() {
    let world = World::new();
    let mut subscriber = world.connected(V5, "subscriber");
    subscriber.subscribe_with(Some(268_435_455), vec![filter_of("a", Qos::AtLeastOnce)]);
    let mut publisher = world.connected(V5, "publisher");
    publisher.publish("a", "x");
    assert_eq!(subscriber.take().subscriptions[..], [268_435_455]);
    // On retained messages too.
    publisher.publish_with(retained("b", "x"));
    subscriber.subscribe_with(Some(5), vec![filter_of("b", Qos::AtLeastOnce)]);
    assert_eq!(subscriber.take().subscriptions[..], [5]);
}

#[test]
fn mqtt_3_3_4_4() {
    let world = World::new();
    let mut subscriber = world.connected(V5, "subscriber");
    subscriber.subscribe_with(Some(1), vec![filter_of("a/#", Qos::AtLeastOnce)]);
    subscriber.subscribe_with(Some(2), vec![filter_of("a/+", Qos::AtLeastOnce)]);
    subscriber.subscribe("a/b", Qos::AtLeastOnce);
    world.connected(V5, "publisher").publish("a/b", "x");
    let mut ids = subscriber.take().subscriptions.to_vec();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn mqtt_3_3_4_5() {
    // A share in a group and a subscription of one's own are two copies: each has its own identifier.
    let world = World::new();
    let mut subscriber = world.connected(V5, "subscriber");
    subscriber.subscribe_with(Some(1), vec![filter_of("a", Qos::AtLeastOnce)]);
    subscriber.subscribe_with(Some(2), vec![filter_of("$share/g/a", Qos::AtLeastOnce)]);
    world.connected(V5, "publisher").publish("a", "x");
    let mut ids = [subscriber.take(), subscriber.take()].map(|it| it.subscriptions.to_vec());
    ids.sort();
    assert_eq!(ids, [[1], [2]]);
}

#[test]
fn mqtt_3_3_4_6() {
    each_closes(
        &[(&[V5], &[0x30, 6, 0, 1, b'a', 2, 0x0b, 1])],
        Reason::PROTOCOL_ERROR,
    );
}

#[test]
fn mqtt_3_3_4_7() {
    // The client's overrun, where rules are strict; where they are not, the client waits.
    let world = World::with(|options| {
        (options.strict, options.receive_maximum) = (trivium_mqtt::Strict::everywhere(), 2);
    });
    let mut client = world.connected(V5, "c");
    let mut packets = BytesMut::new();
    for packet_id in 1..=3 {
        let publish = Publish {
            packet_id,
            qos: Qos::AtLeastOnce,
            retain: true,
            ..message("a", "x")
        };
        Packet::Publish(publish).encode(V5, &mut packets);
    }
    client
        .bytes(&packets)
        .closed_with(Reason::RECEIVE_MAXIMUM_EXCEEDED);
}

#[test]
fn mqtt_3_3_4_9() {
    let world = World::new();
    let mut subscriber = world.client(V5);
    subscriber.connect("subscriber", |connect| connect.receive_maximum = 2);
    subscriber.subscribe("#", Qos::AtLeastOnce);
    let mut publisher = world.connected(V5, "publisher");
    for payload in ["1", "2", "3"] {
        publisher.publish("a", payload);
    }
    let first = subscriber.message();
    assert_eq!(subscriber.message().payload, "2");
    assert_eq!(subscriber.before_pong(), []);
    subscriber.send(Packet::PubAck(Ack::new(first.packet_id, Reason::SUCCESS)));
    assert_eq!(subscriber.message().payload, "3");
    // It holds for a group and for subscriptions of one's own together.
    let mut member = world.client(V5);
    member.connect("member", |connect| connect.receive_maximum = 2);
    member.subscribe("own", Qos::AtLeastOnce);
    member.subscribe("$share/g/shared", Qos::AtLeastOnce);
    for payload in ["1", "2"] {
        publisher.publish("own", payload);
        publisher.publish("shared", payload);
    }
    let taken = [member.message().packet_id, member.message().packet_id];
    assert_eq!(member.before_pong(), []);
    for packet_id in taken {
        member.send(Packet::PubAck(Ack::new(packet_id, Reason::SUCCESS)));
    }
    member.take();
    member.take();
}

#[test]
fn mqtt_3_3_4_10() {
    // The window is full; everything but PUBLISH is answered all the same.
    let world = World::new();
    let mut subscriber = world.client(V5);
    subscriber.connect("subscriber", |connect| connect.receive_maximum = 1);
    subscriber.subscribe("a", Qos::AtLeastOnce);
    world.connected(V5, "publisher").publish("a", "1");
    subscriber.message();
    assert_eq!(subscriber.subscribe("b", Qos::AtLeastOnce), [Reason(1)]);
    assert_eq!(subscriber.before_pong(), []);
    assert_eq!(subscriber.unsubscribe(&["b"]), [Reason::SUCCESS]);
}
