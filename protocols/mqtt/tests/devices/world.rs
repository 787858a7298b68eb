//! A broker, its devices, and what happens to them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use trivium_core::{
    Broker, Command, Grammar, Link, Options, Origin, Pattern, Text, Token,
    store::{Durability, memory::MemoryStore},
};
use trivium_mqtt::{
    Mqtt, Mqtt3, Mqtt5,
    packet::{Qos, Version},
};

use super::{
    Chance, advance,
    connection::Connection,
    device::{Device, Heard, Lasts, SHARED, SHARED_TOPIC, WILLS, Wish},
    ledger::Ledger,
    now, stranger,
};

const FILTERS: [&str; 4] = ["a", "b", "+", SHARED];
const TOPICS: [&str; 3] = ["a", "b", SHARED_TOPIC];
const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
/// PUBLISH packets under way to one client.
const WINDOW: u16 = 4;
/// Where the end looks whether windows are free.
const FENCE: &str = "f/1";
/// The device that sees all wills.
const WATCHER: usize = 0;
/// How often the end looks before it gives up; the broker goes on in between as far as it can.
const LOOKS: u32 = 300;

pub struct World<'a> {
    chance: Chance<'a>,
    runtime: Runtime,
    store: Arc<MemoryStore>,
    broker: Broker,
    front: Mqtt,
    /// Has shards notice the time.
    clock: Link,
    devices: Vec<Device>,
    /// Connections that their devices have forgotten.
    forgotten: Vec<Connection>,
    stranger: Option<(Connection, Version)>,
    ledger: Ledger,
    step: u64,
    crashed: Option<Instant>,
    /// The latest step at which a member's session may have ended with messages of the group in it.
    risk: u64,
}

fn open(runtime: &Runtime, store: &Arc<MemoryStore>) -> Broker {
    let options = Options {
        shards: 2,
        durability: Durability::Synced,
        dialects: vec![&Mqtt5, &Mqtt3],
        queue_memory: 1 << 20,
        log_memory: 1 << 20,
        retained_messages_max: 0,
        retained_bytes_max: 0,
        session_subscriptions_max: 0,
        limits: Default::default(),
        batch_bytes_max: 1_048_588,
        initial_rebalance_delay: Duration::ZERO,
        groups: Default::default(),
        user: None,
        default_queue_type: "classic",
        clock: now,
    };
    runtime
        .block_on(Broker::open(store.clone(), options))
        .unwrap()
}

fn front() -> Mqtt {
    Mqtt::new(trivium_mqtt::Options {
        inflight_max: WINDOW,
        receive_maximum: 8,
        ..Default::default()
    })
}

fn clock(broker: &Broker) -> Link {
    broker.connect(Origin {
        protocol: "test".into(),
        user: "guest".into(),
        vhost: "/".into(),
        ..Origin::default()
    })
}

impl<'a> World<'a> {
    pub fn new(mut chance: Chance<'a>) -> World<'a> {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let store = Arc::new(MemoryStore::new());
        let broker = open(&runtime, &store);
        let mut devices = vec![Device::new(WATCHER, Version::V5, WINDOW)];
        for index in 1..4 {
            let version = *chance.of(&[Version::V5, Version::V311]);
            let window = if version.is_5() {
                1 + chance.below(3) as u16
            } else {
                WINDOW
            };
            devices.push(Device::new(index, version, window));
        }
        let clock = clock(&broker);
        let mut world = World {
            chance,
            runtime,
            store,
            broker,
            front: front(),
            clock,
            devices,
            forgotten: Vec::new(),
            stranger: None,
            ledger: Ledger::default(),
            step: 1,
            crashed: None,
            risk: 0,
        };
        world.watch();
        world
    }

    /// Connects the watcher and subscribes it to all wills.
    fn watch(&mut self) {
        self.connect(WATCHER, Wish::plain(Lasts::Ever));
        self.run(WATCHER);
        self.devices[WATCHER].subscribe(WILLS, Qos::ExactlyOnce);
        self.run(WATCHER);
        assert!(
            self.devices[WATCHER].is_done(),
            "{}",
            self.devices[WATCHER].waits_for()
        );
    }

    fn connect(&mut self, index: usize, wish: Wish) {
        let connection = Connection::new(&self.runtime, &self.broker, &self.front);
        let forgotten =
            self.devices[index].connect(connection, wish, self.crashed, &mut self.ledger);
        self.forgotten.extend(forgotten);
    }

    /// One thing happens. False when nothing more is to.
    pub fn step(&mut self) -> bool {
        self.step += 1;
        if self.chance.is_over() {
            return false;
        }
        let index = 1 + self.chance.below(3) as usize;
        match self.chance.below(32) {
            0..=2 => self.flow(index),
            3..=5 => self.read(index),
            6..=10 => self.publish(index),
            11..=13 => self.answer(index),
            14..=17 => self.run(index),
            18..=20 => self.subscribe(index),
            21 => self.unsubscribe(index),
            22..=24 => self.come(index),
            25 => self.leave(index),
            26 => self.goodbye(index),
            27 => self.stranger_acts(),
            28 => self.pass(),
            29 => self.crash(),
            30 => self.ping(index),
            _ => self.settle(),
        }
        self.review();
        true
    }

    fn flow(&mut self, index: usize) {
        if let Some(connection) = &mut self.devices[index].connection {
            let length = self.chance.part(connection.to_broker.len());
            connection.flow(&self.runtime, length);
            for _ in 0..self.chance.below(3) {
                connection.pump(&self.runtime);
            }
        }
    }

    fn read(&mut self, index: usize) {
        if let Some(connection) = &self.devices[index].connection {
            let length = self.chance.part(connection.to_client.len());
            self.hear(index, length);
        }
    }

    fn hear(&mut self, index: usize, length: usize) {
        let device = &mut self.devices[index];
        let version = device.version;
        let Some(connection) = &mut device.connection else {
            return;
        };
        let packets = connection.read(length, version);
        for packet in packets {
            let device = &mut self.devices[index];
            let heard = device.hear(packet, self.step, self.crashed, &mut self.ledger);
            if let Some(Heard::Acked { text, unrouted }) = heard {
                self.require(&text, unrouted);
            }
        }
    }

    /// The broker has answered for this message from now on.
    fn require(&mut self, text: &str, unrouted: bool) {
        let message = self.ledger.messages[text].clone();
        for device in &mut self.devices {
            if device.covers(&message) {
                assert!(!unrouted, "{text} is for device {}", device.index);
                if device.session.seen(text) == 0 {
                    device.session.required.insert(text.to_owned());
                }
            }
        }
        let members =
            message.topic == SHARED_TOPIC && self.devices.iter().any(|it| it.is_member(&message));
        let safe = message.qos == Qos::AtLeastOnce || self.risk < message.sent;
        let came = self.ledger.group_seen.contains(text);
        if members && safe && !came {
            self.ledger.group_requires.insert(text.to_owned());
        }
    }

    /// Forgets what the group may have lost with the sessions of its members.
    fn review(&mut self) {
        let risky = |device: &Device| device.session.was_member && device.may_be_gone();
        if self.devices.iter().any(risky) {
            self.risk = self.step;
            let messages = &self.ledger.messages;
            self.ledger
                .group_requires
                .retain(|text| messages[text].qos == Qos::AtLeastOnce);
        }
        let stays = |device: &Device| {
            device.session.subscriptions.contains_key(SHARED) && !device.may_be_gone()
        };
        if !self.devices.iter().any(stays) {
            self.ledger.group_requires.clear();
        }
    }

    fn publish(&mut self, index: usize) {
        let (topic, qos) = (*self.chance.of(&TOPICS), *self.chance.of(&QOS));
        let device = &mut self.devices[index];
        if device.connected && device.connection.is_some() {
            device.publish(topic, qos, self.step, &mut self.ledger);
        }
    }

    fn answer(&mut self, index: usize) {
        self.devices[index].answer(|limit| self.chance.below(limit));
    }

    fn subscribe(&mut self, index: usize) {
        let filter = *self.chance.of(&FILTERS);
        let qos = if filter == SHARED {
            *self.chance.of(&QOS[1..])
        } else {
            *self.chance.of(&QOS)
        };
        if self.devices[index].connected {
            self.devices[index].subscribe(filter, qos);
        }
    }

    fn unsubscribe(&mut self, index: usize) {
        let filter = *self.chance.of(&FILTERS);
        if self.devices[index].connected {
            self.devices[index].unsubscribe(filter, &self.ledger);
        }
    }

    fn ping(&mut self, index: usize) {
        if self.devices[index].connected {
            self.devices[index].ping();
        }
        if let Some(connection) = &mut self.devices[index].connection {
            connection.rest();
        }
    }

    /// A device connects, also over an open connection.
    fn come(&mut self, index: usize) {
        if self.devices[index].connection.is_some() && !self.chance.is(4) {
            return;
        }
        // Of two that have not heard from the broker, nobody knows which comes last.
        if !self.devices[index].connected {
            self.leave(index);
        }
        let lasts = match self.devices[index].version {
            Version::V5 => *self.chance.of(&[Lasts::AWhile, Lasts::Ever, Lasts::No]),
            _ => *self.chance.of(&[Lasts::Ever, Lasts::No]),
        };
        let wish = Wish {
            lasts,
            clean: self.chance.is(5),
            will: *self.chance.of(&[None, Some(None), Some(Some(30))]),
            aliases: self.chance.below(3) as u16,
            keep_alive: *self.chance.of(&[0, 0, 10]),
        };
        self.connect(index, wish);
        if self.chance.below(3) > 0 {
            self.run(index);
        }
    }

    /// A connection fails.
    fn leave(&mut self, index: usize) {
        if let Some(connection) = self.devices[index].lost(&mut self.ledger) {
            connection.fail(&self.runtime);
            self.settle();
        }
    }

    fn goodbye(&mut self, index: usize) {
        if !self.devices[index].connected || self.devices[index].is_over() {
            return;
        }
        self.run(index);
        if self.devices[index].is_over() || !self.devices[index].connected {
            return;
        }
        let (with_will, end) = (self.chance.is(2), self.chance.is(3));
        self.devices[index].goodbye(with_will, end, &mut self.ledger);
        let Some(mut connection) = self.devices[index].connection.take() else {
            return;
        };
        for _ in 0..LOOKS {
            let length = connection.to_broker.len();
            connection.flow(&self.runtime, length);
            if connection.over {
                break;
            }
            connection.pump(&self.runtime);
            self.yields(4);
        }
        assert!(connection.over, "DISCONNECT is not taken");
        connection.fail(&self.runtime);
        self.settle();
    }

    /// Lets everything that a device has said arrive, and what there is for it.
    fn arrive(&mut self, index: usize) {
        if let Some(connection) = &mut self.devices[index].connection {
            let length = connection.to_broker.len();
            connection.flow(&self.runtime, length);
        }
        self.settle();
        if let Some(connection) = &self.devices[index].connection {
            let length = connection.to_client.len();
            self.hear(index, length);
        }
    }

    /// Lets a device go on until it has nothing to say and nothing comes.
    fn run(&mut self, index: usize) {
        for _ in 0..6 {
            self.arrive(index);
            while self.devices[index].answer(|_| 0) {}
            if self.devices[index].has_said_all() {
                return;
            }
        }
    }

    /// Lets everything inside the broker come to rest.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let mut moved = false;
            for device in &mut self.devices {
                moved |= device
                    .connection
                    .as_mut()
                    .is_some_and(|it| it.pump(&self.runtime));
            }
            for connection in &mut self.forgotten {
                moved |= connection.pump(&self.runtime);
            }
            if let Some((connection, _)) = &mut self.stranger {
                moved |= connection.pump(&self.runtime);
            }
            self.yields(6);
            quiet = if moved { 0 } else { quiet + 1 };
        }
        for index in 0..self.devices.len() {
            if self.devices[index].is_over() {
                let length = self.devices[index]
                    .connection
                    .as_ref()
                    .map_or(0, |it| it.to_client.len());
                self.hear(index, length);
                if let Some(connection) = self.devices[index].lost(&mut self.ledger) {
                    connection.fail(&self.runtime);
                }
            }
        }
        self.review();
    }

    fn yields(&self, times: usize) {
        self.runtime.block_on(async {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Time passes.
    fn pass(&mut self) {
        self.settle();
        // What waits for CONNACK now may have connected before or after.
        for device in &mut self.devices {
            device.is_unsure(&mut self.ledger);
        }
        advance(Duration::from_secs(*self.chance.of(&[25, 70, 1])));
        self.touch();
        self.settle();
    }

    /// Has each shard do something, so that it notices the time.
    fn touch(&mut self) {
        let filter = Pattern::new(Text::from_static("nothing"), Grammar::Slashes);
        let mut commands = vec![Command::Retained {
            token: Token(1),
            filter,
        }];
        self.runtime.block_on(async {
            self.clock.submit(&mut commands).await.unwrap();
            let mut events = Vec::new();
            while events.is_empty() {
                self.clock.receive(&mut events).await;
            }
        });
    }

    /// The power fails, or the process is killed while it has nothing to do; the broker comes back.
    fn crash(&mut self) {
        if !self.chance.is(3) {
            return;
        }
        let (power, luck) = (self.chance.is(2), self.chance.below(1 << 20));
        self.store = Arc::new(if power {
            let yields = self.chance.below(6) as usize;
            self.yields(yields);
            self.store.crash(luck)
        } else {
            self.settle();
            self.store.kill(luck)
        });
        for device in &mut self.devices {
            device.crashed(&mut self.ledger);
        }
        self.ledger.forgive_wills(power);
        self.forgotten.clear();
        self.stranger = None;
        self.broker = open(&self.runtime, &self.store);
        self.clock = clock(&self.broker);
        self.front = front();
        self.crashed = Some(now().instant);
        self.connect(WATCHER, Wish::plain(Lasts::Ever));
        self.run(WATCHER);
    }

    fn stranger_acts(&mut self) {
        if self
            .stranger
            .as_ref()
            .is_none_or(|(connection, _)| connection.over)
        {
            let mut connection = Connection::new(&self.runtime, &self.broker, &self.front);
            let version = *self.chance.of(&[Version::V5, Version::V311, Version::V31]);
            if !self.chance.is(8) {
                connection
                    .to_broker
                    .extend_from_slice(&stranger::hello(version, &mut self.chance));
            }
            if let Some((before, _)) = self.stranger.replace((connection, version)) {
                before.fail(&self.runtime);
            }
        }
        let Some((connection, version)) = &mut self.stranger else {
            return;
        };
        for _ in 0..1 + self.chance.below(5) {
            let bytes = stranger::bytes(&mut self.chance, *version);
            connection.to_broker.extend_from_slice(&bytes);
        }
        let length = self.chance.part(connection.to_broker.len());
        connection.flow(&self.runtime, length);
        connection.pump(&self.runtime);
        // An unknown level may be answered in another version's form.
        connection.to_client.clear();
    }

    /// Everybody connects and takes what is left; nothing is missing, and every identifier and place in a window is
    /// free again.
    pub fn end(mut self) {
        self.stranger = None;
        for connection in std::mem::take(&mut self.forgotten) {
            connection.fail(&self.runtime);
        }
        self.settle();
        for look in 0..LOOKS {
            self.step += 1;
            for index in 0..self.devices.len() {
                if self.devices[index].connection.is_none() {
                    let lasts = self.devices[index].lasts;
                    self.connect(index, Wish::plain(lasts));
                }
                if look % 8 == 0 && self.devices[index].is_held() {
                    self.pass_a_second();
                }
                self.run(index);
            }
            self.review();
            if self.is_complete() {
                break;
            }
        }
        assert!(self.is_complete(), "{}", self.what_is_missing());
        self.windows_are_free();
    }

    fn pass_a_second(&mut self) {
        advance(Duration::from_millis(1100));
        self.touch();
        self.settle();
    }

    fn is_complete(&self) -> bool {
        let done = |device: &Device| {
            device.connected
                && device.is_done()
                && !device.owes()
                && device.session.required.is_empty()
        };
        self.devices.iter().all(done)
            && self.ledger.group_requires.is_empty()
            && self.ledger.missing_wills().is_empty()
    }

    fn what_is_missing(&self) -> String {
        let devices: Vec<_> = self.devices.iter().map(Device::waits_for).collect();
        format!(
            "{}\ngroup {:?}, wills {:?}",
            devices.join("\n"),
            self.ledger.group_requires,
            self.ledger.missing_wills()
        )
    }

    /// As many messages come without an acknowledgement as each window has places.
    fn windows_are_free(&mut self) {
        for index in 1..self.devices.len() {
            self.step += 1;
            self.devices[index].subscribe(FENCE, Qos::ExactlyOnce);
            self.run(index);
            for _ in 0..WINDOW + 2 {
                self.devices[WATCHER].publish(FENCE, Qos::ExactlyOnce, self.step, &mut self.ledger);
                self.run(WATCHER);
            }
            let window = self.devices[index].window();
            for _ in 0..LOOKS {
                self.arrive(index);
                if self.devices[index].unfinished() == window {
                    break;
                }
            }
            assert_eq!(
                self.devices[index].unfinished(),
                window,
                "places in the window of {}",
                self.devices[index].waits_for()
            );
            while self.devices[index].answer(|_| 0) {}
            self.run(index);
            self.devices[index].unsubscribe(FENCE, &self.ledger);
            self.run(index);
        }
    }
}
