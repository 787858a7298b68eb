//! Two devices with one client identifier.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod peer;

use std::time::Duration;

use peer::{ALL, Feed, Peer};
use trivium_core::{CancelReason, ConsumerId, Event, Now};
use trivium_mqtt::{
    Mqtt, Options,
    packet::{Connect, Packet, Reason, Version},
};

fn connect(frontend: &Mqtt, now: Now, version: Version, client: &str) -> Peer {
    let mut peer = Peer::of(frontend, now, version);
    let connect = Connect::new(version, client.into());
    peer.send(Packet::Connect(Box::new(connect))).unwrap();
    peer
}

/// Whether the client has its CONNACK as soon as the core is done.
fn is_admitted(peer: &mut Peer) -> bool {
    peer.answer(true);
    let packets = peer.take_packets();
    matches!(&packets[..], [Packet::ConnAck(ack)] if ack.reason == Reason::SUCCESS)
}

fn take_over(peer: &mut Peer, now: Now) {
    peer.now = now;
    let reason = CancelReason::TakenOver;
    let consumer = ConsumerId(1);
    let result = peer.event(Event::Cancelled { consumer, reason });
    peer.assert_closed(result, Reason::SESSION_TAKEN_OVER);
}

/// After five takeovers in a row.
fn fight(frontend: &Mqtt, now: Now, version: Version) {
    for _ in 0..5 {
        let mut peer = connect(frontend, now, version, "c");
        assert!(is_admitted(&mut peer));
        take_over(&mut peer, now);
    }
}

#[test]
fn mqtt_3_1_4_3_devices_that_fight_for_a_session_wait() {
    for &version in ALL {
        let frontend = Mqtt::new(Options::default());
        let now = Peer::new(version, Feed::Whole).now;
        fight(&frontend, now, version);
        assert!(is_admitted(&mut connect(&frontend, now, version, "other")));
        let mut waits = connect(&frontend, now, version, "c");
        assert!(waits.take_commands().is_empty());
        assert!(!waits.protocol.wants_input());
        waits.wait(Duration::from_millis(999)).unwrap();
        assert!(!is_admitted(&mut waits));
        waits.wait(Duration::from_millis(1)).unwrap();
        assert!(is_admitted(&mut waits));
        // The fight goes on, as slowly as that.
        let later = waits.now;
        take_over(&mut waits, later);
        assert!(!is_admitted(&mut connect(&frontend, later, version, "c")));
    }
}

#[test]
fn a_fight_is_forgotten() {
    let frontend = Mqtt::new(Options::default());
    let mut now = Peer::new(Version::V5, Feed::Whole).now;
    fight(&frontend, now, Version::V5);
    now.instant += Duration::from_secs(2);
    assert!(is_admitted(&mut connect(&frontend, now, Version::V5, "c")));
}

#[test]
fn a_client_that_goes_while_it_waits_leaves_nothing() {
    let frontend = Mqtt::new(Options::default());
    let now = Peer::new(Version::V5, Feed::Whole).now;
    fight(&frontend, now, Version::V5);
    let mut waits = connect(&frontend, now, Version::V5, "c");
    waits.vanish();
    assert!(waits.protocol.is_closed());
    waits.wait(Duration::from_secs(2)).unwrap();
    assert!(waits.take_commands().is_empty());
    assert_eq!(waits.parted, None);
}
