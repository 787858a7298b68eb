//! Stories of the catalog: one rule each, with the texts that clients see; a seeded comparison with a
//! list of bindings; recovery.

mod exchanges;
mod logs;
mod model;
mod queues;
mod recovery;
mod sessions;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    command::{Binding, Destination, ExchangeKind, ExchangeSpec, LogSpec, QueueSpec, Subscription},
    id::BindingTag,
    properties::{Properties, Value},
    store::Write,
    topic::{Grammar, Topic},
};

/// A catalog, the rows it wrote, and the connection that acts.
struct Story {
    catalog: Catalog,
    rows: BTreeMap<Bytes, Bytes>,
    by: Actor,
}

impl Story {
    fn new() -> Story {
        let by = Actor {
            connection: ConnectionId(1),
            user: "guest".into(),
            vhost: "/".into(),
        };
        Story {
            catalog: Catalog::recover(Vec::new(), None).unwrap().0,
            rows: BTreeMap::new(),
            by,
        }
    }

    fn write(&mut self, batch: Batch) {
        for write in batch.into_writes() {
            match write {
                Write::Put(Table::Catalog, key, value) => drop(self.rows.insert(key, value)),
                Write::Delete(Table::Catalog, key) => drop(self.rows.remove(&key)),
                other => panic!("the catalog does not write {other:?}"),
            }
        }
    }

    fn apply(&mut self, change: Change) -> Result<Applied, Refusal> {
        let mut applied = self.catalog.apply(&self.by, &change)?;
        self.write(std::mem::take(&mut applied.batch));
        Ok(applied)
    }

    fn ok(&mut self, change: Change) -> Outcome {
        self.apply(change).unwrap().outcome
    }

    fn refused(&mut self, change: Change) -> String {
        let (generation, rows) = (self.catalog.routes.generation, self.rows.clone());
        let refusal = self.apply(change).unwrap_err().to_string();
        assert_eq!(
            (generation, rows),
            (self.catalog.routes.generation, self.rows.clone()),
            "changed nothing"
        );
        refusal
    }

    fn remove(&mut self, name: &str) -> Vec<Effect> {
        let id = self.catalog.routes.queue("/", name).unwrap().id;
        let applied = self.catalog.remove_queue(id).unwrap();
        self.write(applied.batch);
        applied.effects
    }

    fn restart(&mut self) {
        let rows = self
            .rows
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let (catalog, batch) = Catalog::recover(rows, None).unwrap();
        self.catalog = catalog;
        self.write(batch);
    }

    /// The names of the destinations, queues first.
    fn route(&self, exchange: &str, key: &str) -> Vec<String> {
        names(&self.targets(exchange, key, ""))
    }

    fn targets(&self, exchange: &str, key: &str, client: &str) -> Targets {
        self.targets_of_all(exchange, &[key], client)
    }

    fn targets_of_all(&self, exchange: &str, keys: &[&str], client: &str) -> Targets {
        let mut targets = Targets::default();
        let topic = |key: &&str| Topic::new((*key).into(), Grammar::Dots);
        let topics: Vec<Topic> = keys.iter().map(topic).collect();
        self.catalog
            .routes()
            .route(
                "/",
                exchange,
                &topics.iter().collect::<Vec<_>>(),
                &mut Facts::default,
                client,
                &mut targets,
            )
            .unwrap();
        targets
    }

    fn tapped(&self, log: &str) -> Vec<String> {
        let routes = self.catalog.routes();
        let mut targets = Targets::default();
        let topic = Topic::new(log.into(), Grammar::Dots);
        routes.route_tapped(
            routes.log("/", log).unwrap(),
            &topic,
            &mut Facts::default,
            &mut targets,
        );
        names(&targets)
    }
}

fn names(targets: &Targets) -> Vec<String> {
    let queues = targets
        .queues
        .iter()
        .map(|target| target.queue.name.to_string());
    queues
        .chain(
            targets
                .logs
                .iter()
                .map(|target| target.log.info.name.to_string()),
        )
        .collect()
}

fn plain() -> QueueSpec {
    QueueSpec {
        durable: true,
        exclusive: false,
        auto_delete: false,
        expires: None,
        session: false,
        arguments: Vec::new(),
    }
}

fn queue(name: &str) -> Change {
    Change::DeclareQueue {
        name: name.into(),
        spec: plain(),
    }
}

fn queue_as(name: &str, spec: QueueSpec) -> Change {
    Change::DeclareQueue {
        name: name.into(),
        spec,
    }
}

fn queue_with(name: &str, argument: &str, value: Value) -> Change {
    queue_as(
        name,
        QueueSpec {
            arguments: vec![(argument.into(), value)],
            ..plain()
        },
    )
}

fn session(client: &str, durable: bool) -> Change {
    queue_as(
        client,
        QueueSpec {
            session: true,
            durable,
            ..plain()
        },
    )
}

fn exchange_spec(kind: ExchangeKind) -> ExchangeSpec {
    ExchangeSpec {
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Vec::new(),
    }
}

fn exchange(name: &str, kind: ExchangeKind) -> Change {
    Change::DeclareExchange {
        name: name.into(),
        spec: exchange_spec(kind),
    }
}

fn log(name: &str) -> Change {
    Change::CreateLog {
        name: name.into(),
        spec: LogSpec {
            partitions: 1,
            settings: Vec::new(),
        },
        validate_only: false,
    }
}

fn log_with(name: &str, settings: &[(&str, &str)]) -> Change {
    let settings = settings
        .iter()
        .map(|(name, value)| (Text::from(*name), Text::from(*value)))
        .collect();
    Change::CreateLog {
        name: name.into(),
        spec: LogSpec {
            partitions: 2,
            settings,
        },
        validate_only: false,
    }
}

fn binding(source: &str, key: &str, destination: Destination) -> Binding {
    Binding {
        source: source.into(),
        destination,
        key: key.into(),
        grammar: Grammar::Dots,
        arguments: Vec::new(),
        subscription: None,
    }
}

fn bind(source: &str, key: &str, queue: &str) -> Change {
    Change::Bind(binding(source, key, Destination::Queue(queue.into())))
}

fn unbind(source: &str, key: &str, queue: &str) -> Change {
    Change::Unbind(binding(source, key, Destination::Queue(queue.into())))
}

fn bind_exchange(source: &str, key: &str, to: &str) -> Change {
    Change::Bind(binding(source, key, Destination::Exchange(to.into())))
}

fn subscribe(client: &str, filter: &str, tag: u64, best_effort: bool, no_local: bool) -> Change {
    Change::Bind(Binding {
        grammar: Grammar::Slashes,
        subscription: Some(Subscription {
            tag: BindingTag(tag),
            best_effort,
            no_local,
        }),
        ..binding("amq.topic", filter, Destination::Session(client.into()))
    })
}

fn delete_exchange(name: &str) -> Change {
    Change::DeleteExchange {
        name: name.into(),
        if_unused: false,
    }
}
