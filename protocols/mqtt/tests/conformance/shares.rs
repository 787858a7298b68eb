//! Section 4.8.2: shared subscriptions.

use crate::world::*;
use trivium_mqtt::packet::{Ack, Packet, Publish, Qos, Reason, Subscribe};

const SHARE: &str = "$share/g/a";

/// A member of the group, whose session lasts.
fn member<'w>(world: &'w World, id: &str, qos: Qos) -> Client<'w> {
    let mut client = world.durable(V5, id);
    assert_eq!(client.subscribe(SHARE, qos), [Reason(qos as u8)]);
    client.settle();
    client
}

fn publish(world: &World, qos: Qos, payload: &str) {
    world.connected(V5, "publisher").publish_with(Publish {
        qos,
        ..message("a", payload)
    });
}

/// What has come to a client so far, of which nothing is acknowledged.
fn messages(client: &mut Client<'_>) -> Vec<Publish> {
    let packets = client.before_pong().into_iter();
    let messages = packets.map(|packet| match packet {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    });
    messages.collect()
}

/// One message of QoS 2 that has gone to one of two members: who has it, it, and who has not.
fn given<'w>(world: &'w World) -> (&'static str, Client<'w>, Publish, Client<'w>) {
    let (mut one, mut two) = (
        member(world, "one", Qos::ExactlyOnce),
        member(world, "two", Qos::ExactlyOnce),
    );
    publish(world, Qos::ExactlyOnce, "x");
    for _ in 0..1000 {
        if let Some(publish) = messages(&mut one).pop() {
            return ("one", one, publish, two);
        }
        if let Some(publish) = messages(&mut two).pop() {
            return ("two", two, publish, one);
        }
    }
    panic!("nobody has it");
}

#[test]
fn mqtt_4_8_2_1() {
    let world = World::new();
    let mut client = world.connected(V5, "c");
    for filter in ["$share//a", "$share/", "$share//"] {
        let refused = client.subscribe(filter, Qos::AtLeastOnce);
        assert_eq!(refused, [Reason::FILTER_INVALID], "{filter}");
    }
    assert_eq!(
        client.subscribe("$share/g/a", Qos::AtLeastOnce),
        [Reason(1)]
    );
}

#[test]
fn mqtt_4_8_2_2() {
    // No wildcards in the name, and a filter behind it.
    let world = World::new();
    let mut client = world.connected(V5, "c");
    for filter in ["$share/g+/a", "$share/#/a", "$share/g#/a"] {
        let mut other = world.connected(V5, "other");
        other.send(Packet::Subscribe(Subscribe {
            packet_id: 1,
            subscription_id: None,
            start: None,
            filters: vec![filter_of(filter, Qos::AtLeastOnce)],
        }));
        other.closed_with(Reason::MALFORMED_PACKET);
    }
    for filter in ["$share/+/a", "$share/g", "$share/g/"] {
        let refused = client.subscribe(filter, Qos::AtLeastOnce);
        assert_eq!(refused, [Reason::FILTER_INVALID], "{filter}");
    }
    // The filter may begin with a slash, and have all that filters have.
    for (filter, topic) in [("$share/g//a", "/a"), ("$share/g/+/#", "b/c")] {
        assert_eq!(
            client.subscribe(filter, Qos::AtLeastOnce),
            [Reason(1)],
            "{filter}"
        );
        client.publish(topic, topic);
        assert_eq!(client.take().topic, topic);
        client.unsubscribe(&[filter]);
    }
}

/// The last member that leaves takes the group with it, and stays connected.
#[test]
fn a_group_ends_and_its_last_member_goes_on() {
    let world = World::new();
    let mut client = member(&world, "c", Qos::ExactlyOnce);
    assert_eq!(client.unsubscribe(&[SHARE]), [Reason::SUCCESS]);
    assert_eq!(client.before_pong(), []);
    assert_eq!(client.subscribe(SHARE, Qos::AtLeastOnce), [Reason(1)]);
    publish(&world, Qos::AtLeastOnce, "x");
    assert_eq!(client.take().payload, "x");
}

#[test]
fn mqtt_4_8_2_3() {
    // Each member gets what it gets at its own granted QoS.
    let world = World::new();
    for granted in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut client = member(&world, "c", granted);
        for published in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            publish(&world, published, "x");
            assert_eq!(client.take().qos, granted.min(published));
        }
        client.unsubscribe(&[SHARE]);
    }
}

#[test]
fn mqtt_4_8_2_4() {
    // A message of QoS 2 stays with the member that it was sent to, until that one is back.
    let world = World::new();
    let (id, first, sent, mut second) = given(&world);
    first.vanish();
    assert_eq!(messages(&mut second), []);
    let mut first = world.durable(V5, id);
    let again = first.message();
    assert_eq!(
        (again.packet_id, again.dup, &again.payload[..]),
        (sent.packet_id, true, &b"x"[..])
    );
    first.send(Packet::PubRec(Ack::new(again.packet_id, Reason::SUCCESS)));
    assert_eq!(
        first.packet(),
        Packet::PubRel(Ack::new(again.packet_id, Reason::SUCCESS))
    );
    assert_eq!(messages(&mut second), []);
}

/// Retained messages are not for groups (section 4.8.2).
#[test]
fn a_group_gets_no_retained_messages() {
    let world = World::new();
    world.connected(V5, "publisher").publish_with(Publish {
        retain: true,
        qos: Qos::AtLeastOnce,
        ..message("a", "kept")
    });
    let mut client = member(&world, "c", Qos::AtLeastOnce);
    assert_eq!(client.before_pong(), []);
    client.subscribe("a", Qos::AtLeastOnce);
    assert_eq!(client.take().payload, "kept");
}

/// A member that subscribes again gets what comes at its new QoS, and nothing is lost in between.
#[test]
fn a_member_changes_its_qos() {
    let world = World::new();
    let mut client = member(&world, "c", Qos::AtMostOnce);
    for granted in [
        Qos::AtLeastOnce,
        Qos::AtMostOnce,
        Qos::ExactlyOnce,
        Qos::AtMostOnce,
        Qos::AtLeastOnce,
    ] {
        assert_eq!(client.subscribe(SHARE, granted), [Reason(granted as u8)]);
        client.settle();
        publish(&world, Qos::AtLeastOnce, "x");
        let got = client.take();
        assert_eq!(got.qos, granted.min(Qos::AtLeastOnce));
        assert_eq!(client.before_pong(), []);
    }
}

/// Messages of a group that become the session's do not hold up what is in the session before them.
#[test]
fn a_group_does_not_hold_up_its_members_own_subscriptions() {
    let world = World::new();
    let mut client = world.client(V5);
    client.connect("c", |connect| {
        lasting(connect);
        connect.receive_maximum = 1;
    });
    client.subscribe("own", Qos::AtLeastOnce);
    client.subscribe(SHARE, Qos::ExactlyOnce);
    client.settle();
    let mut other = world.connected(V5, "other");
    for round in ["1", "2", "3"] {
        publish(&world, Qos::ExactlyOnce, round);
        other.publish("own", round);
        other.publish("own", round);
    }
    let mut taken = Vec::new();
    while taken.len() < 9 {
        let message = client.take();
        taken.push((message.topic.to_string(), message.payload.to_vec()));
    }
    taken.sort();
    let mut wanted = Vec::new();
    for round in ["1", "2", "3"] {
        wanted.push(("a".to_owned(), round.into()));
        wanted.extend([
            ("own".to_owned(), round.into()),
            ("own".to_owned(), round.into()),
        ]);
    }
    wanted.sort();
    assert_eq!(taken, wanted);
}

#[test]
fn mqtt_4_8_2_5() {
    // When that member's session ends first, nobody else gets the message.
    let world = World::new();
    let (id, first, _, mut second) = given(&world);
    first.vanish();
    let fresh = world.connected(V5, id);
    publish(&world, Qos::AtLeastOnce, "next");
    assert_eq!(second.take().payload, "next");
    assert_eq!(messages(&mut second), []);
    fresh.disconnect();
}

#[test]
fn mqtt_4_8_2_6() {
    // A message that its member refuses is nobody else's.
    let world = World::new();
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut first = member(&world, "first", qos);
        publish(&world, qos, "refused");
        let sent = first.message();
        let mut second = member(&world, "second", qos);
        let refusal = Ack::new(sent.packet_id, Reason::IMPLEMENTATION_SPECIFIC);
        first.send(match qos {
            Qos::ExactlyOnce => Packet::PubRec(refusal),
            _ => Packet::PubAck(refusal),
        });
        assert_eq!(first.before_pong(), []);
        first.unsubscribe(&[SHARE]);
        first.disconnect();
        publish(&world, qos, "next");
        assert_eq!(second.take().payload, "next");
        assert_eq!(messages(&mut second), []);
        second.unsubscribe(&[SHARE]);
        second.disconnect();
    }
}
