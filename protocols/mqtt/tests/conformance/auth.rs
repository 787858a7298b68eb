//! Section 4.12: enhanced authentication, with SCRAM as the method.

use crate::world::*;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use trivium_mqtt::packet::{Auth, ConnAck, Connect, Packet, Reason};

const METHOD: &str = "SCRAM-SHA-256";

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn auth(reason: Reason, data: &str) -> Packet {
    Packet::Auth(Auth {
        reason,
        method: Some(METHOD.into()),
        data: Some(Bytes::copy_from_slice(data.as_bytes())),
    })
}

fn first(user: &str) -> String {
    format!("n,,n={user},r=fyko+d2lbbFgONRv9qkxdawL")
}

/// The client's last message upon a challenge, and what the server must prove.
fn proof(user: &str, password: &str, challenge: &str) -> (String, String) {
    let mut fields = challenge.split(',');
    let nonce = fields.next().unwrap().strip_prefix("r=").unwrap();
    let salt = STANDARD
        .decode(fields.next().unwrap().strip_prefix("s=").unwrap())
        .unwrap();
    let iterations: u32 = fields
        .next()
        .unwrap()
        .strip_prefix("i=")
        .unwrap()
        .parse()
        .unwrap();
    let mut block = mac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
    let mut salted = block.clone();
    for _ in 1..iterations {
        block = mac(password.as_bytes(), &block);
        salted
            .iter_mut()
            .zip(&block)
            .for_each(|(all, one)| *all ^= one);
    }
    let bare = first(user).split_off(3);
    let without_proof = format!("c=biws,r={nonce}");
    let signed = format!("{bare},{challenge},{without_proof}");
    let key = mac(&salted, b"Client Key");
    let signature = mac(&Sha256::digest(&key), signed.as_bytes());
    let proof: Vec<u8> = key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    let server = mac(&mac(&salted, b"Server Key"), signed.as_bytes());
    (
        format!("{without_proof},p={}", STANDARD.encode(proof)),
        format!("v={}", STANDARD.encode(server)),
    )
}

/// Sends a CONNECT that begins a login; the challenge.
fn begin(client: &mut Client<'_>, user: &str) -> String {
    let connect = Connect {
        authentication_method: Some(METHOD.into()),
        authentication_data: Some(first(user).into_bytes().into()),
        ..Connect::new(V5, "c".into())
    };
    client.send(Packet::Connect(Box::new(connect)));
    challenge(client)
}

fn challenge(client: &mut Client<'_>) -> String {
    match client.packet() {
        Packet::Auth(Auth {
            reason: Reason::CONTINUE_AUTHENTICATION,
            method,
            data,
        }) => {
            assert_eq!(method.as_deref(), Some(METHOD));
            String::from_utf8(data.unwrap().to_vec()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn logged_in<'w>(world: &'w World) -> (Client<'w>, ConnAck) {
    let mut client = world.client(V5);
    let challenge = begin(&mut client, "guest");
    let (proof, server) = proof("guest", "guest", &challenge);
    client.send(auth(Reason::CONTINUE_AUTHENTICATION, &proof));
    match client.packet() {
        Packet::ConnAck(ack) => {
            assert_eq!(ack.authentication_data.as_deref(), Some(server.as_bytes()));
            (client, ack)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn mqtt_4_12_0_1() {
    // A method that is not known.
    let world = World::new();
    let mut client = world.client(V5);
    let ack = client.connect("c", |connect| {
        connect.authentication_method = Some("X".into())
    });
    assert_eq!(ack.reason, Reason::BAD_AUTHENTICATION_METHOD);
    client.closed();
}

#[test]
fn mqtt_4_12_0_2() {
    // More is needed: AUTH with 0x18.
    let world = World::new();
    let challenge = begin(&mut world.client(V5), "guest");
    assert!(challenge.starts_with("r=fyko+d2lbbFgONRv9qkxdawL"));
}

#[test]
fn mqtt_4_12_0_3() {
    // A client that answers with anything but 0x18 is out of turn.
    let world = World::new();
    let mut client = world.client(V5);
    begin(&mut client, "guest");
    client.send(auth(Reason::RE_AUTHENTICATE, "x"));
    assert!(
        matches!(client.packet(), Packet::ConnAck(ack) if ack.reason == Reason::PROTOCOL_ERROR)
    );
    client.closed();
}

#[test]
fn mqtt_4_12_0_4() {
    // Wrong passwords and users that are not there look alike and end the connection.
    let world = World::new();
    for (user, password) in [("guest", "wrong"), ("nobody", "guest")] {
        let mut client = world.client(V5);
        let challenge = begin(&mut client, user);
        let (proof, _) = proof(user, password, &challenge);
        client.send(auth(Reason::CONTINUE_AUTHENTICATION, &proof));
        assert!(
            matches!(client.packet(), Packet::ConnAck(ack) if ack.reason == Reason::NOT_AUTHORIZED)
        );
        client.closed();
    }
    // `guest` comes from this machine only, whatever it can prove.
    let mut client = world.client_from(V5, "192.0.2.7:5");
    let challenge = begin(&mut client, "guest");
    let (proof, _) = proof("guest", "guest", &challenge);
    client.send(auth(Reason::CONTINUE_AUTHENTICATION, &proof));
    assert!(matches!(client.packet(), Packet::ConnAck(ack) if ack.reason.is_error()));
}

#[test]
fn mqtt_4_12_0_5() {
    // The method stays the same, in AUTH and in CONNACK.
    let world = World::new();
    let (_client, ack) = logged_in(&world);
    assert_eq!(ack.authentication_method.as_deref(), Some(METHOD));
    let mut client = world.client(V5);
    begin(&mut client, "guest");
    client.send(Packet::Auth(Auth {
        reason: Reason::CONTINUE_AUTHENTICATION,
        method: Some("SCRAM-SHA-512".into()),
        data: None,
    }));
    assert!(
        matches!(client.packet(), Packet::ConnAck(ack) if ack.reason == Reason::PROTOCOL_ERROR)
    );
}

#[test]
fn mqtt_4_12_0_6() {
    // Without a method, there is none in CONNACK, and no AUTH.
    let world = World::new();
    let mut client = world.client(V5);
    let ack = client.connect("c", |_| ());
    assert_eq!(
        (ack.authentication_method, ack.authentication_data),
        (None, None)
    );
    client
        .send(auth(Reason::RE_AUTHENTICATE, "x"))
        .closed_with(Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_3_1_2_30() {
    // Before CONNACK only AUTH and DISCONNECT may come.
    let world = World::new();
    let mut client = world.client(V5);
    begin(&mut client, "guest");
    client.send(Packet::PingReq);
    assert!(
        matches!(client.packet(), Packet::ConnAck(ack) if ack.reason == Reason::PROTOCOL_ERROR)
    );
    client.closed();
}

#[test]
fn mqtt_4_12_1_1() {
    // Again, by the same method, while other packets go on; another one is a protocol error.
    let world = World::new();
    let (mut client, _) = logged_in(&world);
    client.send(auth(Reason::RE_AUTHENTICATE, &first("guest")));
    let challenge = challenge(&mut client);
    assert_eq!(client.before_pong(), []);
    let (proof, server) = proof("guest", "guest", &challenge);
    client.send(auth(Reason::CONTINUE_AUTHENTICATION, &proof));
    assert_eq!(client.packet(), auth(Reason::SUCCESS, &server));
    client.send(Packet::Auth(Auth {
        reason: Reason::RE_AUTHENTICATE,
        method: Some("SCRAM-SHA-512".into()),
        data: None,
    }));
    client.closed_with(Reason::PROTOCOL_ERROR);
}

#[test]
fn mqtt_4_12_1_2() {
    // A login that fails ends the connection.
    let world = World::new();
    let (mut client, _) = logged_in(&world);
    client.send(auth(Reason::RE_AUTHENTICATE, &first("guest")));
    let challenge = challenge(&mut client);
    let (proof, _) = proof("guest", "wrong", &challenge);
    client.send(auth(Reason::CONTINUE_AUTHENTICATION, &proof));
    client.closed_with(Reason::NOT_AUTHORIZED);
}

/// What is in the broker's AUTH packets besides the method and its data.
fn rest_of_auth() -> Vec<u8> {
    let world = World::new();
    let mut client = world.client(V5);
    client.send(Packet::Connect(Box::new(Connect {
        authentication_method: Some(METHOD.into()),
        authentication_data: Some(first("guest").into_bytes().into()),
        ..Connect::new(V5, "c".into())
    })));
    let packet = client.raw_packet();
    assert_eq!(&packet[..3], [0xf0, packet.len() as u8 - 2, 0x18]);
    let mut ids = property_ids(&packet, 3);
    ids.retain(|id| ![0x15, 0x16].contains(id));
    ids
}

#[test]
fn mqtt_3_15_2_2() {
    // No reason string.
    assert!(!rest_of_auth().contains(&0x1f));
    // A method's own data cannot be left out: who cannot take it is refused before it is sent.
    let world = World::new();
    let mut client = world.client(V5);
    client.send(Packet::Connect(Box::new(Connect {
        maximum_packet_size: Some(40),
        authentication_method: Some(METHOD.into()),
        authentication_data: Some(first("guest").into_bytes().into()),
        ..Connect::new(V5, "c".into())
    })));
    client.expect(&[0x20, 3, 0, 0x95, 0]).closed();
}

#[test]
fn mqtt_3_15_2_3() {
    // No user properties.
    assert_eq!(rest_of_auth(), [0u8; 0]);
}
