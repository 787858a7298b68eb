//! Quotas of clients, as Kafka has them: how fast a user and a client of a name may produce, consume, ask and change
//! what is declared, and how often an address may connect.
//!
//! [`ClientQuotas`] is what is set, part of the routing snapshot. [`ClientMeter`] measures one user's client against
//! it: whoever has the same quota shares one sensor. Nobody is refused: who is too fast is told how long to wait, and
//! its front end does not read from it for so long.

mod sensor;

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use imbl::OrdMap;
use rustc_hash::FxHashMap;

use self::sensor::{Bucket, Rate, SAMPLES, WINDOW};
use crate::{properties::Text, snapshot::Snapshot, time::Timestamp};

/// Sensors kept at most beside those that connections hold; clients choose their names.
const SENSORS_MAX: usize = 16_384;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaKind {
    /// Bytes of requests that append, per second.
    Produce,
    /// Bytes of records read, per second.
    Consume,
    /// Time of processors that requests take, in per cent of one.
    Request,
    /// Partitions created and deleted, per second.
    Mutation,
    /// Connections, per second; of addresses alone, which have no other.
    Connect,
}

impl QuotaKind {
    /// All of them.
    pub const ALL: [QuotaKind; 5] = [
        QuotaKind::Produce,
        QuotaKind::Consume,
        QuotaKind::Request,
        QuotaKind::Mutation,
        QuotaKind::Connect,
    ];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            QuotaKind::Produce => "producer_byte_rate",
            QuotaKind::Consume => "consumer_byte_rate",
            QuotaKind::Request => "request_percentage",
            QuotaKind::Mutation => "controller_mutation_rate",
            QuotaKind::Connect => "connection_creation_rate",
        }
    }

    /// The kind of a name.
    pub fn named(name: &str) -> Option<QuotaKind> {
        QuotaKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A name, or whoever has no quota by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaName {
    Of(Text),
    Default,
}

/// Whose quota it is: a user's, a client's, that of a user's client of a name, or an address's.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity {
    pub user: Option<QuotaName>,
    pub client: Option<QuotaName>,
    pub address: Option<QuotaName>,
}

/// The limits of one entity, by kind.
pub type QuotaValues = Vec<(QuotaKind, f64)>;

/// All quotas that are set.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientQuotas(OrdMap<QuotaEntity, QuotaValues>);

impl ClientQuotas {
    /// Sets the limits of an entity; without any, it has no quota.
    pub(crate) fn put(&mut self, entity: QuotaEntity, values: QuotaValues) {
        match values.is_empty() {
            true => drop(self.0.remove(&entity)),
            false => drop(self.0.insert(entity, values)),
        }
    }

    pub(crate) fn get(&self, entity: &QuotaEntity) -> Option<&QuotaValues> {
        self.0.get(entity)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &QuotaValues)> {
        self.0.iter()
    }

    /// The limit that holds for a user's client, and who shares it: the most specific entity that has one of this
    /// kind (Kafka documentation, 4.9 "Client quotas").
    fn find(&self, kind: QuotaKind, user: &Text, client: &Text) -> Option<(f64, Sharing)> {
        let name = |it: &Text| QuotaName::Of(it.clone());
        let users = [name(user), QuotaName::Default];
        let clients = [name(client), QuotaName::Default];
        let limit = |user: Option<&QuotaName>, client: Option<&QuotaName>| {
            let entity = QuotaEntity {
                user: user.cloned(),
                client: client.cloned(),
                address: None,
            };
            let found = self.0.get(&entity)?.iter().find(|(it, _)| *it == kind)?;
            Some(found.1)
        };
        for user in &users {
            for client in &clients {
                if let Some(limit) = limit(Some(user), Some(client)) {
                    return Some((limit, Sharing::UserAndClient));
                }
            }
            if let Some(limit) = limit(Some(user), None) {
                return Some((limit, Sharing::User));
            }
        }
        let of_client = clients.iter().find_map(|client| limit(None, Some(client)));
        Some((of_client?, Sharing::Client))
    }
}

impl ClientQuotas {
    /// How many connections of an address are taken, per second.
    fn of_address(&self, address: &Text) -> Option<f64> {
        let names = [QuotaName::Of(address.clone()), QuotaName::Default];
        names.into_iter().find_map(|name| {
            let entity = QuotaEntity {
                address: Some(name),
                ..QuotaEntity::default()
            };
            let mut limits = self.0.get(&entity)?.iter();
            limits.find_map(|(kind, limit)| (*kind == QuotaKind::Connect).then_some(*limit))
        })
    }
}

/// Who shares a limit: a default is one for each, not one for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    UserAndClient,
    User,
    Client,
}

/// Where meters come from; one per broker.
#[derive(Clone, Debug)]
pub struct Meters {
    snapshot: Arc<Snapshot>,
    sensors: Arc<Mutex<Sensors>>,
}

impl Meters {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Meters {
        Meters {
            snapshot,
            sensors: Arc::default(),
        }
    }

    /// Counts a connection of an address, and says for how long its end is to be put off if there are too many: that
    /// one is not taken, and does not count.
    pub fn connect(&self, address: &Text, now: Timestamp) -> Duration {
        let Some(limit) = self.snapshot.load().client_quotas().of_address(address) else {
            return Duration::ZERO;
        };
        let key = (QuotaKind::Connect, None, Some(address.clone()));
        let sensor = locked(&self.sensors).get(key);
        match &mut *locked(&sensor) {
            Sensor::Rate(rate) => {
                rate.record(1.0, now);
                let wait = rate.wait(limit, now);
                if !wait.is_zero() {
                    rate.record(-1.0, now);
                }
                wait.min(WINDOW)
            }
            Sensor::Bucket(_) => Duration::ZERO,
        }
    }

    /// What a user's client of a name is measured by.
    pub fn of(&self, user: Text, client: Text) -> ClientMeter {
        ClientMeter {
            meters: self.clone(),
            user,
            client,
            // No snapshot has this one.
            generation: Cell::new(u64::MAX),
            quotas: RefCell::default(),
            bounds: RefCell::default(),
        }
    }
}

type SensorKey = (QuotaKind, Option<Text>, Option<Text>);

/// What rates are measured with.
#[derive(Debug, Default)]
struct Sensors(FxHashMap<SensorKey, Arc<Mutex<Sensor>>>);

#[derive(Debug)]
enum Sensor {
    Rate(Rate),
    Bucket(Bucket),
}

impl Sensors {
    fn get(&mut self, key: SensorKey) -> Arc<Mutex<Sensor>> {
        if self.0.len() >= SENSORS_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, sensor| Arc::strong_count(sensor) > 1);
        }
        let new = || match key.0 {
            QuotaKind::Mutation => Sensor::Bucket(Bucket::default()),
            _ => Sensor::Rate(Rate::default()),
        };
        let new = Arc::new(Mutex::new(new()));
        self.0.entry(key).or_insert(new).clone()
    }
}

#[derive(Clone, Debug)]
struct Bound {
    limit: f64,
    sensor: Arc<Mutex<Sensor>>,
}

/// Measures one user's client. Where there is no quota, a look at it is one atomic load.
#[derive(Debug)]
pub struct ClientMeter {
    meters: Meters,
    user: Text,
    client: Text,
    /// Of the routes that the rest is from.
    generation: Cell<u64>,
    quotas: RefCell<Arc<ClientQuotas>>,
    bounds: RefCell<[Option<Bound>; QuotaKind::ALL.len()]>,
}

impl ClientMeter {
    /// The client that is measured.
    pub fn client(&self) -> &Text {
        &self.client
    }

    /// Whether there is a limit of this kind now.
    pub fn limits(&self, kind: QuotaKind) -> bool {
        self.refresh();
        self.bounds.borrow()[kind as usize].is_some()
    }

    /// Counts something, and says how long the client has to be left alone so that its rate comes down to the limit:
    /// (rate − limit) ÷ limit × window, as Kafka computes it.
    pub fn record(&self, kind: QuotaKind, amount: f64, now: Timestamp) -> Duration {
        self.with(kind, |limit, sensor| match sensor {
            Sensor::Rate(rate) => {
                rate.record(amount, now);
                rate.wait(limit, now)
            }
            Sensor::Bucket(bucket) => {
                bucket.take(amount, limit, now);
                bucket.wait(limit, now)
            }
        })
        .unwrap_or_default()
    }

    /// Takes back what was counted.
    pub fn unrecord(&self, kind: QuotaKind, amount: f64, now: Timestamp) {
        self.with(kind, |_, sensor| {
            if let Sensor::Rate(rate) = sensor {
                rate.record(-amount, now);
            }
        });
    }

    /// Counts something only if the limit is not exceeded already.
    ///
    /// # Errors
    /// How long it would have to wait.
    pub fn try_record(&self, kind: QuotaKind, amount: f64, now: Timestamp) -> Result<(), Duration> {
        let tried = self.with(kind, |limit, sensor| {
            let Sensor::Bucket(bucket) = sensor else {
                return Ok(());
            };
            let wait = bucket.wait(limit, now);
            if !wait.is_zero() {
                return Err(wait);
            }
            bucket.take(amount, limit, now);
            Ok(())
        });
        tried.unwrap_or(Ok(()))
    }

    /// What fits into the window at the limit; more in one piece would have to wait longer than that.
    pub fn window(&self, kind: QuotaKind) -> Option<f64> {
        let seconds = (SAMPLES - 1) as f64 * WINDOW.as_secs_f64();
        self.with(kind, |limit, _| limit * seconds)
    }

    fn with<T>(&self, kind: QuotaKind, act: impl FnOnce(f64, &mut Sensor) -> T) -> Option<T> {
        self.refresh();
        let bounds = self.bounds.borrow();
        let bound = bounds[kind as usize].as_ref()?;
        Some(act(bound.limit, &mut locked(&bound.sensor)))
    }

    fn refresh(&self) {
        let snapshot = &self.meters.snapshot;
        let generation = snapshot.generation();
        if self.generation.replace(generation) == generation {
            return;
        }
        let quotas = snapshot.load().client_quotas().clone();
        if Arc::ptr_eq(&quotas, &self.quotas.borrow()) {
            return;
        }
        let bounds = QuotaKind::ALL.map(|kind| self.bound(&quotas, kind));
        self.bounds.replace(bounds);
        self.quotas.replace(quotas);
    }

    fn bound(&self, quotas: &ClientQuotas, kind: QuotaKind) -> Option<Bound> {
        let (limit, sharing) = quotas.find(kind, &self.user, &self.client)?;
        let user = (sharing != Sharing::Client).then(|| self.user.clone());
        let client = (sharing != Sharing::User).then(|| self.client.clone());
        let sensor = locked(&self.meters.sensors).get((kind, user, client));
        Some(Bound { limit, sensor })
    }
}

/// Sensors are whole after every statement, so a panic elsewhere does not spoil them.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Routes;

    fn of(name: &'static str) -> Option<QuotaName> {
        Some(QuotaName::Of(name.into()))
    }

    fn entity(user: Option<QuotaName>, client: Option<QuotaName>) -> QuotaEntity {
        QuotaEntity {
            user,
            client,
            address: None,
        }
    }

    fn quotas(entries: &[(QuotaEntity, f64)]) -> ClientQuotas {
        let mut quotas = ClientQuotas::default();
        for (entity, limit) in entries {
            quotas.put(entity.clone(), vec![(QuotaKind::Produce, *limit)]);
        }
        quotas
    }

    /// The eight places in which Kafka looks, each with a limit of its own.
    #[test]
    fn the_most_specific_quota_holds() {
        let default = || Some(QuotaName::Default);
        let mut all = [
            (entity(of("u"), of("c")), 1.0, Sharing::UserAndClient),
            (entity(of("u"), default()), 2.0, Sharing::UserAndClient),
            (entity(of("u"), None), 3.0, Sharing::User),
            (entity(default(), of("c")), 4.0, Sharing::UserAndClient),
            (entity(default(), default()), 5.0, Sharing::UserAndClient),
            (entity(default(), None), 6.0, Sharing::User),
            (entity(None, of("c")), 7.0, Sharing::Client),
            (entity(None, default()), 8.0, Sharing::Client),
        ]
        .to_vec();
        while let Some((_, limit, sharing)) = all.first().cloned() {
            let entries: Vec<_> = all
                .iter()
                .map(|(it, limit, _)| (it.clone(), *limit))
                .collect();
            let found = quotas(&entries).find(QuotaKind::Produce, &"u".into(), &"c".into());
            assert_eq!(found, Some((limit, sharing)));
            all.remove(0);
        }
        let others = quotas(&[(entity(of("u"), None), 1.0), (entity(None, of("c")), 1.0)]);
        assert_eq!(
            others.find(QuotaKind::Produce, &"x".into(), &"y".into()),
            None
        );
        assert_eq!(
            others.find(QuotaKind::Consume, &"u".into(), &"c".into()),
            None
        );
    }

    fn meters(quotas: ClientQuotas) -> (Meters, Arc<Snapshot>) {
        let snapshot = Arc::new(Snapshot::new(Arc::new(Routes::default())));
        set(&snapshot, quotas);
        (Meters::new(snapshot.clone()), snapshot)
    }

    fn set(snapshot: &Snapshot, quotas: ClientQuotas) {
        let mut routes = Routes::clone(&snapshot.load());
        routes.generation += 1;
        routes.set_client_quotas(quotas);
        snapshot.store(Arc::new(routes));
    }

    /// A quota of a user is one for all of its clients, on all of its connections; a default is one for each.
    #[test]
    fn who_has_the_same_quota_shares_its_rate() {
        let (meters, _) = meters(quotas(&[
            (entity(of("u"), None), 1000.0),
            (entity(Some(QuotaName::Default), None), 1000.0),
        ]));
        let meter =
            |user: &'static str, client: &'static str| meters.of(user.into(), client.into());
        let now = Timestamp(50_000);
        let spend = |meter: &ClientMeter| meter.record(QuotaKind::Produce, 10_000.0, now);
        assert_eq!(spend(&meter("u", "a")), Duration::ZERO);
        assert_eq!(spend(&meter("u", "b")), Duration::from_secs(10));
        assert_eq!(spend(&meter("v", "a")), Duration::ZERO);
        assert_eq!(spend(&meter("w", "a")), Duration::ZERO);
    }

    #[test]
    fn a_change_holds_at_once() {
        let (meters, snapshot) = meters(ClientQuotas::default());
        let meter = meters.of("u".into(), "c".into());
        let now = Timestamp(50_000);
        assert!(!meter.limits(QuotaKind::Produce));
        assert_eq!(meter.record(QuotaKind::Produce, 1e9, now), Duration::ZERO);
        set(&snapshot, quotas(&[(entity(of("u"), None), 1000.0)]));
        assert!(meter.limits(QuotaKind::Produce));
        assert_eq!(
            meter.record(QuotaKind::Produce, 20_000.0, now),
            Duration::from_secs(10)
        );
        assert_eq!(meter.window(QuotaKind::Produce), Some(10_000.0));
        set(&snapshot, quotas(&[(entity(of("u"), None), 2000.0)]));
        assert_eq!(meter.record(QuotaKind::Produce, 0.0, now), Duration::ZERO);
        set(&snapshot, ClientQuotas::default());
        assert_eq!(meter.record(QuotaKind::Produce, 1e9, now), Duration::ZERO);
    }

    /// As Kafka's ConnectionQuotas: ten seconds' worth at once, then none for a second at most, whatever is missing.
    #[test]
    fn an_address_connects_as_often_as_it_may() {
        let address = |name| QuotaEntity {
            address: Some(name),
            ..QuotaEntity::default()
        };
        let mut quotas = ClientQuotas::default();
        let one = QuotaName::Of("10.0.0.1".into());
        quotas.put(address(one), vec![(QuotaKind::Connect, 2.0)]);
        quotas.put(
            address(QuotaName::Default),
            vec![(QuotaKind::Connect, 0.01)],
        );
        let (meters, snapshot) = meters(quotas);
        let connect = |address: &'static str, ms| meters.connect(&address.into(), Timestamp(ms));
        for _ in 0..20 {
            assert_eq!(connect("10.0.0.1", 50_000), Duration::ZERO);
        }
        assert_eq!(connect("10.0.0.1", 50_000), Duration::from_millis(500));
        assert_eq!(connect("10.0.0.1", 50_500), Duration::ZERO, "not counted");
        assert_eq!(
            connect("10.0.0.2", 50_000),
            WINDOW,
            "not even one in ten seconds"
        );
        set(&snapshot, ClientQuotas::default());
        assert_eq!(connect("10.0.0.1", 50_500), Duration::ZERO);
    }

    #[test]
    fn sensors_that_nobody_holds_are_bounded() {
        let default = entity(None, Some(QuotaName::Default));
        let (meters, _) = meters(quotas(&[(default, 1.0)]));
        for number in 0..SENSORS_MAX + 100 {
            let meter = meters.of("u".into(), number.to_string().into());
            meter.record(QuotaKind::Produce, 1.0, Timestamp(0));
        }
        assert!(locked(&meters.sensors).0.len() <= SENSORS_MAX);
    }
}
