//! What a client remembers and checks: one device over all of its connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use trivium_mqtt::packet::{
    Ack, Connect, Disconnect, Filter, Packet, Publish, Qos, Reason, Subscribe, Unsubscribe,
    Version, Will,
};

use super::{
    connection::Connection,
    ledger::{Fate, Ledger, Message},
    now,
};

/// Where only the group listens.
pub const SHARED_TOPIC: &str = "s/1";
/// The group's filter.
pub const SHARED: &str = "$share/g/s/+";
/// Where wills go.
pub const WILLS: &str = "w/1";
/// How long a session lasts that does not last for ever, and how long a delayed will waits.
const LASTS: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_secs(30);
/// What clocks may be apart, and what a story may take.
const SLACK: Duration = Duration::from_secs(2);

/// How long a session outlives its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    No,
    AWhile,
    Ever,
}

/// How a device wants to connect.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub lasts: Lasts,
    pub clean: bool,
    /// With a will, and with its delay in seconds.
    pub will: Option<Option<u32>>,
    /// The greatest topic alias that it takes.
    pub aliases: u16,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
}

impl Wish {
    /// Nothing but a session that lasts as it did.
    pub fn plain(lasts: Lasts) -> Wish {
        Wish {
            lasts,
            clean: false,
            will: None,
            aliases: 0,
            keep_alive: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exists {
    No,
    Yes,
    Unsure,
}

/// What is remembered from one connection to the next.
#[derive(Default)]
pub struct Session {
    /// Subscriptions that were confirmed and not touched since, by filter, with the step of their SUBACK.
    pub subscriptions: BTreeMap<&'static str, (Qos, u64)>,
    /// Whether it has ever asked to be in the group.
    pub was_member: bool,
    /// Acknowledged messages that must come and have not.
    pub required: BTreeSet<String>,
    /// How often each message came, other than as the same message sent again at QoS 2.
    seen: BTreeMap<String, u32>,
    /// The number of the latest message by publisher, topic and QoS.
    latest: BTreeMap<(usize, &'static str, u8, u8), u64>,
    /// Received at QoS 2 and not released.
    held: BTreeMap<u16, String>,
    /// Sent and not acknowledged to the end, oldest first.
    outgoing: Vec<(u16, Outgoing)>,
}

#[derive(Clone)]
struct Outgoing {
    text: String,
    topic: &'static str,
    qos: Qos,
    /// PUBREC has come.
    received: bool,
}

enum Asked {
    Subscribe(&'static str, Qos),
    Unsubscribe,
}

impl Session {
    /// How often a message has come.
    pub fn seen(&self, text: &str) -> u32 {
        self.seen.get(text).copied().unwrap_or_default()
    }
}

/// What the world has to know of a packet.
pub enum Heard {
    /// The broker has taken a message, and says whether anybody gets it.
    Acked { text: String, unrouted: bool },
}

/// A client.
pub struct Device {
    pub index: usize,
    id: String,
    pub version: Version,
    receive_maximum: u16,
    pub lasts: Lasts,
    /// The last CONNECT asked for a clean start, and no answer came yet.
    cleaning: bool,
    exists: Exists,
    pub session: Session,
    pub connection: Option<Connection>,
    /// CONNACK has come.
    pub connected: bool,
    /// When the last connection ended.
    left: Option<Instant>,
    /// The will of the connection, and whether it is delayed.
    will: Option<(String, bool)>,
    /// Wills of earlier connections, with when they are due.
    waiting_wills: Vec<(String, Instant)>,
    /// What the device still has to answer.
    owed: Vec<Packet>,
    asked: BTreeMap<u16, Asked>,
    /// PUBLISH packets of this connection that were not answered to the end.
    unfinished: BTreeMap<u16, String>,
    /// Of those, what counts for the receive maximum.
    quota_taken: BTreeSet<u16>,
    /// Released over this connection, and not used since.
    released: BTreeSet<u16>,
    pub pings: u32,
    aliases: BTreeMap<u16, String>,
    numbers: u64,
    packet_ids: u16,
}

impl Device {
    pub fn new(index: usize, version: Version, receive_maximum: u16) -> Device {
        Device {
            index,
            id: format!("device-{index}"),
            version,
            receive_maximum,
            lasts: Lasts::No,
            cleaning: true,
            exists: Exists::No,
            session: Session::default(),
            connection: None,
            connected: false,
            left: None,
            will: None,
            waiting_wills: Vec::new(),
            owed: Vec::new(),
            asked: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            quota_taken: BTreeSet::new(),
            released: BTreeSet::new(),
            pings: 0,
            aliases: BTreeMap::new(),
            numbers: 0,
            packet_ids: 100,
        }
    }

    fn write(&mut self, packet: &Packet) {
        let version = self.version;
        if let Some(connection) = &mut self.connection {
            #[allow(
                clippy::disallowed_methods,
                clippy::print_stderr,
                reason = "how to look at a story"
            )]
            if std::env::var_os("TRIVIUM_TELL").is_some() {
                eprintln!("{}: {packet:?}", self.id);
            }
            packet.encode(version, &mut connection.to_broker);
        }
    }

    /// Sends CONNECT over a new connection; one that is still open is forgotten and returned.
    pub fn connect(
        &mut self,
        connection: Connection,
        wish: Wish,
        crashed: Option<Instant>,
        ledger: &mut Ledger,
    ) -> Option<Connection> {
        let Wish {
            lasts,
            clean,
            will,
            aliases,
            keep_alive,
        } = wish;
        if self.must_be_gone(crashed) || self.connection.is_none() && self.has_run_out(crashed) {
            // Its state is not for another session, also when the answer is lost that says so.
            self.session = Session::default();
        }
        let forgotten = self.connection.take();
        match self.will.take() {
            Some((will, _)) if !self.connected => ledger.decide(&will, Fate::AtMostOnce),
            Some((will, true)) => self.waiting_wills.push((will, now().instant + DELAY)),
            Some((will, false)) => self.waiting_wills.push((will, now().instant)),
            None => {}
        }
        if forgotten.is_some() && (self.lasts == Lasts::No || self.exists == Exists::No) {
            self.exists = Exists::Unsure;
        }
        let is_5 = self.version.is_5();
        let clean = self.cleaning || if is_5 { clean } else { lasts == Lasts::No };
        if clean {
            self.lasts = if is_5 { lasts } else { Lasts::No };
            self.cleaning = true;
            self.session = Session::default();
            self.exists = Exists::Unsure;
        } else if !is_5 {
            self.lasts = Lasts::Ever;
        }
        self.begin(connection);
        let mut connect = Connect::new(self.version, self.id.as_str().into());
        connect.keep_alive = keep_alive;
        connect.session_expiry = match self.lasts {
            Lasts::No => 0,
            Lasts::AWhile => LASTS.as_secs() as u32,
            Lasts::Ever => u32::MAX,
        };
        connect.clean_start = clean;
        if is_5 {
            connect.receive_maximum = self.receive_maximum;
            connect.topic_alias_maximum = aliases;
        }
        if let Some(delay) = will {
            self.numbers += 1;
            let text = format!("will:{}:{}", self.index, self.numbers);
            let delay = delay.filter(|_| self.version.is_5());
            connect.will = Some(Will {
                topic: WILLS.into(),
                payload: Bytes::from(text.clone().into_bytes()),
                qos: Qos::AtLeastOnce,
                retain: false,
                delay: delay.unwrap_or_default(),
                expiry: None,
                block: Bytes::new(),
            });
            self.will = Some((text, delay.is_some() && self.lasts != Lasts::No));
        }
        self.write(&Packet::Connect(Box::new(connect)));
        forgotten
    }

    fn begin(&mut self, connection: Connection) {
        self.connection = Some(connection);
        self.connected = false;
        self.owed.clear();
        self.asked.clear();
        self.unfinished.clear();
        self.quota_taken.clear();
        self.released.clear();
        self.aliases.clear();
        self.pings = 0;
    }

    /// The connection is gone without a word.
    pub fn lost(&mut self, ledger: &mut Ledger) -> Option<Connection> {
        let connection = self.connection.take()?;
        if !self.connected {
            self.give_up_wills(ledger);
            self.exists = match self.exists {
                Exists::No if self.lasts != Lasts::No => Exists::Unsure,
                // Whether its time has begun anew, nobody knows.
                Exists::Yes if self.lasts == Lasts::AWhile => Exists::Unsure,
                exists => exists,
            };
        }
        match self.will.take() {
            Some((will, _)) if !self.connected => ledger.decide(&will, Fate::AtMostOnce),
            Some((will, true)) => self.waiting_wills.push((will, now().instant + DELAY)),
            Some((will, false)) => ledger.decide(&will, Fate::Once),
            None => {}
        }
        self.gone();
        Some(connection)
    }

    fn gone(&mut self) {
        self.connected = false;
        self.left = Some(now().instant);
        if self.lasts == Lasts::No {
            self.exists = Exists::No;
        }
    }

    fn give_up_wills(&mut self, ledger: &mut Ledger) {
        for (will, _) in self.waiting_wills.drain(..) {
            ledger.decide(&will, Fate::AtMostOnce);
        }
    }

    /// The broker has crashed.
    pub fn crashed(&mut self, ledger: &mut Ledger) {
        self.give_up_wills(ledger);
        if let Some((will, _)) = self.will.take() {
            ledger.decide(&will, Fate::AtMostOnce);
        }
        if self.connection.take().is_some() {
            if !self.connected && (self.exists == Exists::No || self.lasts == Lasts::AWhile) {
                self.exists = Exists::Unsure;
            }
            self.gone();
        }
    }

    /// Says DISCONNECT; the world sees to it that it arrives.
    pub fn goodbye(&mut self, with_will: bool, end_session: bool, ledger: &mut Ledger) {
        let with_will = with_will && self.version.is_5();
        let end_session = end_session && self.version.is_5();
        self.write(&Packet::Disconnect(Disconnect {
            reason: if with_will {
                Reason(4)
            } else {
                Reason::SUCCESS
            },
            session_expiry: end_session.then_some(0),
            ..Disconnect::default()
        }));
        match self.will.take() {
            Some((will, _)) if !with_will => ledger.decide(&will, Fate::Never),
            Some((will, true)) if !end_session => {
                self.waiting_wills.push((will, now().instant + DELAY))
            }
            Some((will, _)) => ledger.decide(&will, Fate::Once),
            None => {}
        }
        if end_session {
            self.lasts = Lasts::No;
        }
        self.gone();
    }

    /// Whether the session may have ended.
    pub fn may_be_gone(&self) -> bool {
        match (self.exists, self.lasts) {
            (Exists::No | Exists::Unsure, _) => true,
            (Exists::Yes, Lasts::AWhile) => self
                .left
                .is_some_and(|at| now().instant - at > LASTS - SLACK),
            (Exists::Yes, _) => false,
        }
    }

    fn must_be_gone(&self, crashed: Option<Instant>) -> bool {
        let known = self.exists == Exists::Yes && self.has_run_out(crashed);
        self.cleaning || self.exists == Exists::No || known
    }

    /// Whether the session's time is over, if nothing has come to the broker since.
    fn has_run_out(&self, crashed: Option<Instant>) -> bool {
        let away = self
            .left
            .map(|left| crashed.map_or(left, |crashed| crashed.max(left)));
        let elapsed = away.is_some_and(|at| now().instant - at > LASTS + SLACK);
        self.lasts == Lasts::AWhile && elapsed
    }

    /// Whether a message goes to this session for certain, and at which QoS.
    pub fn covers(&self, message: &Message) -> bool {
        let matching = |filter: &str| match filter {
            SHARED => false,
            "+" => !message.topic.contains('/'),
            filter => filter == message.topic,
        };
        let fits = |(filter, (qos, since)): (&&str, &(Qos, u64))| {
            matching(filter) && *qos > Qos::AtMostOnce && *since < message.sent
        };
        !self.may_be_gone()
            && message.qos > Qos::AtMostOnce
            && self.session.subscriptions.iter().any(fits)
    }

    /// Whether it is in the group for certain since before a message was sent.
    pub fn is_member(&self, message: &Message) -> bool {
        let since = self
            .session
            .subscriptions
            .get(SHARED)
            .map(|(_, since)| *since);
        !self.may_be_gone() && since.is_some_and(|since| since < message.sent)
    }

    /// Publishes, if there is a packet identifier left.
    pub fn publish(&mut self, topic: &'static str, qos: Qos, step: u64, ledger: &mut Ledger) {
        let used = |id: &u16| self.session.outgoing.iter().any(|(other, _)| other == id);
        let Some(packet_id) = (1..=6).find(|id| !used(id)) else {
            return;
        };
        self.numbers += 1;
        let text = format!("{}:{topic}:{}:{}", self.index, qos as u8, self.numbers);
        let message = Message {
            publisher: self.index,
            topic,
            qos,
            sent: step,
            again: false,
        };
        ledger.messages.insert(text.clone(), message);
        let outgoing = Outgoing {
            text,
            topic,
            qos,
            received: false,
        };
        self.send(packet_id, &outgoing, false);
        if qos > Qos::AtMostOnce {
            self.session.outgoing.push((packet_id, outgoing));
        }
    }

    fn send(&mut self, packet_id: u16, outgoing: &Outgoing, dup: bool) {
        self.write(&Packet::Publish(Publish {
            dup,
            qos: outgoing.qos,
            topic: outgoing.topic.into(),
            packet_id: if outgoing.qos == Qos::AtMostOnce {
                0
            } else {
                packet_id
            },
            payload: Bytes::from(outgoing.text.clone().into_bytes()),
            ..Publish::default()
        }));
    }

    fn take_packet_id(&mut self) -> u16 {
        self.packet_ids += 1;
        self.packet_ids
    }

    pub fn subscribe(&mut self, filter: &'static str, qos: Qos) {
        let packet_id = self.take_packet_id();
        self.session.subscriptions.remove(filter);
        self.session.was_member |= filter == SHARED;
        self.asked.insert(packet_id, Asked::Subscribe(filter, qos));
        self.write(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: None,
            start: None,
            filters: vec![Filter {
                filter: filter.into(),
                qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: Default::default(),
            }],
        }));
    }

    pub fn unsubscribe(&mut self, filter: &'static str, ledger: &Ledger) {
        let packet_id = self.take_packet_id();
        self.session.subscriptions.remove(filter);
        self.asked.insert(packet_id, Asked::Unsubscribe);
        self.write(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters: vec![filter.into()],
        }));
        let mut required = std::mem::take(&mut self.session.required);
        required.retain(|text| self.covers(&ledger.messages[text]));
        self.session.required = required;
    }

    pub fn ping(&mut self) {
        self.pings += 1;
        self.write(&Packet::PingReq);
    }

    /// Sends one of the answers that are owed.
    pub fn answer(&mut self, pick: impl FnOnce(u64) -> u64) -> bool {
        if self.owed.is_empty() {
            return false;
        }
        let index = pick(self.owed.len() as u64) as usize;
        let packet = self.owed.remove(index);
        match &packet {
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                self.unfinished.remove(&ack.packet_id);
                self.quota_taken.remove(&ack.packet_id);
            }
            _ => {}
        }
        self.write(&packet);
        true
    }

    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether nothing of what it said is still on its way.
    pub fn has_said_all(&self) -> bool {
        self.connection
            .as_ref()
            .is_none_or(|it| it.to_broker.is_empty())
    }

    /// How many messages of QoS 1 and 2 it has not answered to the end.
    pub fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// Whether all of its own messages are acknowledged to the end, and all of its questions answered.
    pub fn is_done(&self) -> bool {
        self.session.outgoing.is_empty() && self.asked.is_empty() && self.pings == 0
    }

    /// Whether the broker has closed its connection.
    pub fn is_over(&self) -> bool {
        self.connection.as_ref().is_some_and(|it| it.over)
    }

    /// Whether its CONNECT is made to wait.
    pub fn is_held(&self) -> bool {
        !self.connected && self.connection.as_ref().is_some_and(Connection::is_held)
    }

    /// How many messages of QoS 1 and 2 it takes at once.
    pub fn window(&self) -> usize {
        self.receive_maximum.into()
    }

    /// Time passes while nobody knows how far CONNECT has come.
    pub fn is_unsure(&mut self, ledger: &mut Ledger) {
        if self.connection.is_some() && !self.connected {
            self.give_up_wills(ledger);
            if self.exists == Exists::Yes && self.lasts == Lasts::AWhile {
                self.exists = Exists::Unsure;
            }
        }
    }

    /// What it waits for, for people.
    pub fn waits_for(&self) -> String {
        let outgoing: Vec<_> = self
            .session
            .outgoing
            .iter()
            .map(|(id, it)| (id, &it.text, it.received))
            .collect();
        format!(
            "device {}: connected {}, pings {}, outgoing {outgoing:?}, asked {:?}, requires {:?}",
            self.index,
            self.connected,
            self.pings,
            self.asked.keys(),
            self.session.required
        )
    }

    /// Takes a packet of the broker.
    pub fn hear(
        &mut self,
        packet: Packet,
        step: u64,
        crashed: Option<Instant>,
        ledger: &mut Ledger,
    ) -> Option<Heard> {
        if !self.connected {
            let Packet::ConnAck(ack) = packet else {
                panic!("{packet:?} before CONNACK");
            };
            assert_eq!(ack.reason, Reason::SUCCESS);
            self.opened(ack.session_present, crashed, ledger);
            return None;
        }
        match packet {
            Packet::Publish(publish) => self.receive(publish, ledger),
            Packet::PubAck(ack) => return Some(self.acked(&ack, Qos::AtLeastOnce)),
            Packet::PubRec(ack) => return Some(self.acked(&ack, Qos::ExactlyOnce)),
            Packet::PubRel(ack) => self.release(ack.packet_id),
            Packet::PubComp(ack) => {
                let at = self
                    .session
                    .outgoing
                    .iter()
                    .position(|(id, it)| *id == ack.packet_id && it.received);
                self.session
                    .outgoing
                    .remove(at.expect("a PUBCOMP that was asked for"));
            }
            Packet::SubAck(ack) => match self.asked.remove(&ack.packet_id) {
                Some(Asked::Subscribe(filter, qos)) => {
                    assert_eq!(ack.reasons, [Reason(qos as u8)]);
                    // Asked again meanwhile, it counts from the last answer.
                    let again = self
                        .asked
                        .values()
                        .any(|it| matches!(it, Asked::Subscribe(other, _) if *other == filter));
                    let undone = self
                        .asked
                        .values()
                        .any(|it| matches!(it, Asked::Unsubscribe));
                    if !again && !undone {
                        self.session.subscriptions.insert(filter, (qos, step));
                    }
                }
                _ => panic!("a SUBACK that nobody asked for"),
            },
            Packet::UnsubAck(ack) => match self.asked.remove(&ack.packet_id) {
                Some(Asked::Unsubscribe) => {}
                _ => panic!("an UNSUBACK that nobody asked for"),
            },
            Packet::PingResp => {
                self.pings = self
                    .pings
                    .checked_sub(1)
                    .expect("a PINGRESP that was asked for")
            }
            Packet::Disconnect(disconnect) => {
                assert!(
                    matches!(
                        disconnect.reason,
                        Reason::KEEP_ALIVE_TIMEOUT | Reason::SESSION_TAKEN_OVER
                    ),
                    "{disconnect:?}"
                );
            }
            other => panic!("{other:?} from the broker"),
        }
        None
    }

    fn opened(&mut self, present: bool, crashed: Option<Instant>, ledger: &mut Ledger) {
        let wrong = match present {
            true => self.must_be_gone(crashed),
            false => !self.may_be_gone() && !self.cleaning,
        };
        assert!(
            !wrong,
            "session present is {present}: {:?} {:?} {:?} after {:?}",
            self.exists,
            self.lasts,
            self.cleaning,
            self.left.map(|at| now().instant - at)
        );
        for (will, due) in self.waiting_wills.drain(..) {
            let over = !present || due <= now().instant;
            ledger.decide(&will, if over { Fate::Once } else { Fate::Never });
        }
        (self.connected, self.cleaning, self.exists, self.left) = (true, false, Exists::Yes, None);
        if !present {
            self.session = Session::default();
        }
        for (packet_id, outgoing) in self.session.outgoing.clone() {
            match outgoing.received {
                true => self.write(&Packet::PubRel(Ack::new(packet_id, Reason::SUCCESS))),
                false => {
                    self.send(packet_id, &outgoing, true);
                    if let Some(message) = ledger.messages.get_mut(&outgoing.text) {
                        message.again = true;
                    }
                }
            }
        }
    }

    fn acked(&mut self, ack: &Ack, qos: Qos) -> Heard {
        let at = self
            .session
            .outgoing
            .iter()
            .position(|(id, it)| *id == ack.packet_id && it.qos == qos);
        let at = at.expect("an acknowledgement of something that was sent");
        assert!(!ack.reason.is_error(), "{ack:?}");
        let outgoing = &mut self.session.outgoing[at].1;
        let text = outgoing.text.clone();
        let again = outgoing.received;
        assert!(!again, "PUBREC comes twice");
        if qos == Qos::ExactlyOnce {
            outgoing.received = true;
            self.owed
                .push(Packet::PubRel(Ack::new(ack.packet_id, Reason::SUCCESS)));
        } else {
            self.session.outgoing.remove(at);
        }
        Heard::Acked {
            text,
            unrouted: ack.reason == Reason::NO_MATCHING_SUBSCRIBERS,
        }
    }

    fn receive(&mut self, publish: Publish, ledger: &mut Ledger) {
        let topic = self.topic_of(&publish);
        let text = String::from_utf8_lossy(&publish.payload).into_owned();
        let Publish {
            packet_id,
            qos,
            dup,
            ..
        } = publish;
        if qos > Qos::AtMostOnce {
            assert_ne!(packet_id, 0);
            let before = self.unfinished.insert(packet_id, text.clone());
            assert_eq!(before, None, "{packet_id} is in use");
            self.quota_taken.insert(packet_id);
            assert!(
                self.quota_taken.len() <= self.receive_maximum.into(),
                "more than the receive maximum"
            );
            self.released.remove(&packet_id);
        }
        match qos {
            Qos::AtMostOnce => assert!(!dup),
            Qos::AtLeastOnce => self
                .owed
                .push(Packet::PubAck(Ack::new(packet_id, Reason::SUCCESS))),
            Qos::ExactlyOnce => {
                self.owed
                    .push(Packet::PubRec(Ack::new(packet_id, Reason::SUCCESS)));
                if let Some(held) = self.session.held.insert(packet_id, text.clone()) {
                    assert_eq!(held, text, "{packet_id} is in use");
                    assert!(dup, "{text} is sent again without DUP");
                    return;
                }
            }
        }
        if topic == WILLS {
            if self.count(&text) == 1 {
                ledger.will_came(&text);
            }
            return;
        }
        let Some(message) = ledger.messages.get(&text) else {
            return; // a stranger's
        };
        assert_eq!(topic, message.topic);
        assert!(qos <= message.qos);
        let count = self.count(&text);
        let may_double = match qos {
            // Whoever publishes at QoS 1 and does so again is taken twice (4.3.2).
            Qos::AtMostOnce => message.again,
            Qos::AtLeastOnce => dup || message.again || topic == SHARED_TOPIC,
            Qos::ExactlyOnce => false,
        };
        assert!(
            count == 1 || may_double,
            "{text} comes {count} times at {qos:?}, DUP {dup}"
        );
        self.session.required.remove(&text);
        if topic == SHARED_TOPIC {
            ledger.group_seen.insert(text.clone());
            ledger.group_requires.remove(&text);
            let new = qos < Qos::ExactlyOnce || ledger.group_once.insert(text.clone());
            assert!(new, "{text} comes to two of a group");
        } else if count == 1 && (qos > Qos::AtMostOnce || !message.again) {
            let number: u64 = text.rsplit(':').next().unwrap().parse().unwrap();
            let latest = self
                .session
                .latest
                .entry((
                    message.publisher,
                    message.topic,
                    message.qos as u8,
                    qos as u8,
                ))
                .or_default();
            assert!(number > *latest, "{text} comes after {latest}");
            *latest = number;
        }
    }

    fn count(&mut self, text: &str) -> u32 {
        let count = self.session.seen.entry(text.to_owned()).or_default();
        *count += 1;
        *count
    }

    fn topic_of(&mut self, publish: &Publish) -> String {
        match publish.alias {
            Some(alias) if publish.topic.is_empty() => self.aliases[&alias].clone(),
            Some(alias) => {
                self.aliases.insert(alias, publish.topic.to_string());
                publish.topic.to_string()
            }
            None => publish.topic.to_string(),
        }
    }

    fn release(&mut self, packet_id: u16) {
        assert!(
            self.released.insert(packet_id),
            "PUBREL comes twice for {packet_id}"
        );
        self.session.held.remove(&packet_id);
        self.owed
            .push(Packet::PubComp(Ack::new(packet_id, Reason::SUCCESS)));
    }
}
