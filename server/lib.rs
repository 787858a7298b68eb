//! The server: front ends on listeners over one broker.
//!
//! [`run`] is what the program calls; [`Server`] is the same in steps, for tests and for programs that
//! bring a broker along. Start reading at [`Server::start`], then `listen`, then `connection`.

mod api;
pub mod args;
mod clock;
pub mod config;
mod connection;
pub mod definitions;
pub mod frontends;
mod http;
mod lag;
mod listen;
mod lock;
pub mod log;
mod metrics;
mod otlp;
mod proxy;
mod shutdown;
mod status;
mod store;
#[cfg(test)]
mod testing;
mod traffic;
mod watch;
pub mod websocket;

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tracing::{info, warn};
use trivium_core::{
    Broker, Limits, Options,
    store::{Durability, Store},
};
use trivium_protocol::Frontend;
use trivium_storage::RocksStore;

pub use crate::{
    config::Config,
    listen::{Endpoint, Transport},
    shutdown::Signals,
};
use crate::{
    http::Status,
    listen::Listener,
    lock::DirectoryLock,
    shutdown::{Stop, Stopper},
};

/// Serves `endpoints` until `shutdown` resolves, then drains and closes.
pub async fn run(
    config: Config,
    endpoints: Vec<Endpoint>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let server = Server::start(config, endpoints).await?;
    shutdown.await;
    server.stop().await
}

/// A running broker with its listeners.
pub struct Server {
    broker: Broker,
    addresses: BTreeMap<&'static str, SocketAddr>,
    stopper: Stopper,
    listeners: JoinSet<()>,
    http: Option<JoinHandle<()>>,
    watch: JoinHandle<()>,
    status: Option<JoinHandle<()>>,
    exporter: Option<otlp::Sending>,
    _lock: Option<DirectoryLock>,
}

impl Server {
    /// Starts over the data directory of `config`. All addresses are bound before anything is served.
    pub async fn start(config: Config, endpoints: Vec<Endpoint>) -> anyhow::Result<Server> {
        let lock = DirectoryLock::acquire(&config.data_dir)?;
        let opened = config.clone();
        let store = tokio::task::spawn_blocking(move || store::open(&opened)).await??;
        let cluster_id = store::cluster_id(&config)?;
        let bound = Bound::bind(&config, endpoints, &cluster_id, Some(store.clone()))?;
        bound.serve(&config, store, Some(lock)).await
    }

    /// Starts over a store of the caller's; the data directory of `config` is not touched.
    pub async fn start_over(
        store: Arc<dyn Store>,
        config: Config,
        endpoints: Vec<Endpoint>,
    ) -> anyhow::Result<Server> {
        Bound::bind(&config, endpoints, "trivium", None)?
            .serve(&config, store, None)
            .await
    }

    /// Where a protocol, or `http`, listens.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.get(name).copied()
    }

    /// The broker, for whoever wants a link without a socket.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Accepts no more, lets connections say goodbye, and closes the store.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stopper.stop();
        self.broker.shut_down();
        while self.listeners.join_next().await.is_some() {}
        // It ends with the listeners.
        let _ = self.watch.await;
        if let Some(status) = self.status {
            let _ = status.await;
        }
        let closed = self.broker.close().await;
        if let Some(exporter) = self.exporter {
            exporter.stop().await;
        }
        if let Some(http) = self.http {
            http.abort();
        }
        closed.context("closing the store")?;
        info!("stopped");
        Ok(())
    }
}

/// Everything bound and nothing served yet, except health and metrics.
struct Bound {
    listeners: Vec<Listener>,
    addresses: BTreeMap<&'static str, SocketAddr>,
    http: Option<JoinHandle<()>>,
    status: Arc<Status>,
    stopper: Stopper,
    stop: Stop,
}

impl Bound {
    fn bind(
        config: &Config,
        endpoints: Vec<Endpoint>,
        cluster_id: &str,
        store: Option<Arc<RocksStore>>,
    ) -> anyhow::Result<Bound> {
        let listeners = endpoints
            .into_iter()
            .map(|endpoint| Listener::bind(endpoint, cluster_id))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let http = config.http.enabled.then(|| bind_http(config)).transpose()?;
        let mut addresses: BTreeMap<_, _> = listeners
            .iter()
            .map(|it| (it.name(), it.address()))
            .collect();
        if let Some(http) = &http {
            addresses.insert("http", http.local_addr()?);
        }
        warn_of_strangers(config, &addresses);
        let (stopper, stop) = shutdown::channel();
        let traffic = listeners
            .iter()
            .map(|listener| (listener.name(), listener.traffic()))
            .collect();
        let frontends = unique(listeners.iter().map(Listener::frontend));
        let status = Arc::new(Status {
            traffic,
            frontends,
            store,
            broker: OnceLock::new(),
            traces: OnceLock::new(),
            stop: stop.clone(),
        });
        let http = http.map(|socket| tokio::spawn(http::serve(socket, status.clone())));
        Ok(Bound {
            listeners,
            addresses,
            http,
            status,
            stopper,
            stop,
        })
    }

    async fn serve(
        self,
        config: &Config,
        store: Arc<dyn Store>,
        lock: Option<DirectoryLock>,
    ) -> anyhow::Result<Server> {
        let dialects = self
            .listeners
            .iter()
            .flat_map(|listener| listener.frontend().dialects())
            .collect();
        let options = Options {
            dialects,
            ..broker_options(config)
        };
        let broker = Broker::open(store, options)
            .await
            .context("opening the broker")?;
        if let Some(file) = &config.definitions.file {
            definitions::import_at_start(&broker, file).await?;
        }
        let exporter = self.trace(config, &broker);
        let watch = tokio::spawn(watch::run(
            watch::Limits::new(config),
            broker.clone(),
            self.stop.clone(),
        ));
        let status = self.tell_status(config, &broker);
        let slots = Arc::new(Semaphore::new(config.max_connections.get()));
        let mut listeners = JoinSet::new();
        for listener in self.listeners {
            listeners.spawn(listener.serve(broker.clone(), slots.clone(), self.stop.clone()));
        }
        let _ = self.status.broker.set(broker.clone());
        let Bound {
            addresses,
            http,
            stopper,
            ..
        } = self;
        Ok(Server {
            broker,
            addresses,
            stopper,
            listeners,
            http,
            watch,
            status,
            exporter,
            _lock: lock,
        })
    }

    /// Has messages traced, if there is a collector to send spans to.
    fn trace(&self, config: &Config, broker: &Broker) -> Option<otlp::Sending> {
        let endpoint = config.otlp.endpoint.clone()?;
        let (tracer, counters, exporter) = otlp::start(&config.otlp, endpoint);
        broker.trace(tracer);
        let _ = self.status.traces.set(counters);
        Some(exporter)
    }

    /// Begins to publish on the broker's own topics, if MQTT is spoken and it is wanted.
    fn tell_status(&self, config: &Config, broker: &Broker) -> Option<JoinHandle<()>> {
        let listeners = self.listeners.iter();
        let spoken: Vec<_> = listeners
            .filter(|listener| listener.frontend().name() == "mqtt")
            .collect();
        if spoken.is_empty() || config.mqtt.sys_interval == 0 {
            return None;
        }
        let sources = status::Sources {
            broker: broker.clone(),
            frontends: unique(spoken.iter().map(|listener| listener.frontend())),
            traffic: spoken.iter().map(|listener| listener.traffic()).collect(),
        };
        let period = Duration::from_secs(config.mqtt.sys_interval.into());
        Some(tokio::spawn(status::run(
            sources,
            period,
            self.stop.clone(),
        )))
    }
}

/// Each front end once, however many listeners it has.
fn unique<'a>(frontends: impl Iterator<Item = &'a Arc<dyn Frontend>>) -> Vec<Arc<dyn Frontend>> {
    let mut found: Vec<Arc<dyn Frontend>> = Vec::new();
    for frontend in frontends {
        if !found.iter().any(|other| Arc::ptr_eq(other, frontend)) {
            found.push(frontend.clone());
        }
    }
    found
}

fn bind_http(config: &Config) -> anyhow::Result<TcpListener> {
    let socket = listen::bind("http", config.http.listen)?;
    let address = socket.local_addr()?;
    info!(protocol = "http", %address, "listening; try: curl http://{}/health/ready", listen::reachable(address));
    Ok(socket)
}

/// Everybody but `guest` from this machine must be a user, so an open address without users is of no use.
fn warn_of_strangers(config: &Config, addresses: &BTreeMap<&'static str, SocketAddr>) {
    for (name, address) in addresses {
        if *name != "http" && !address.ip().is_loopback() && config.user().is_none() {
            warn!(
                "{name}.listen {address} can be reached by others, but no user is configured: \
                   set default_user and default_pass"
            );
        }
    }
}

fn broker_options(config: &Config) -> Options {
    Options {
        shards: config.shards.count(),
        durability: match config.durability {
            config::Durability::Os => Durability::Written,
            // The store syncs at the interval instead of for each commit.
            config::Durability::Sync | config::Durability::Interval(_) => Durability::Synced,
        },
        dialects: Vec::new(),
        queue_memory: config.queue_memory.0,
        log_memory: config.log_memory.0,
        retained_messages_max: config.mqtt.retained_messages_max,
        retained_bytes_max: config.mqtt.retained_bytes_max.0 as u64,
        session_subscriptions_max: config.mqtt.subscriptions_max,
        limits: Limits {
            connections: config.connection_max,
            channels: config.amqp.channel_max_per_node,
            queues: config.cluster_queue_limit,
            exchanges: config.cluster_exchange_limit,
            vhosts: config.vhost_max,
        },
        batch_bytes_max: config.kafka.max_message_bytes.get() as usize,
        initial_rebalance_delay: config.kafka.initial_rebalance_delay_ms.into(),
        groups: config.kafka.group.bounds().unwrap_or_default(),
        user: config
            .user()
            .map(|(user, password)| (user.into(), password.into())),
        default_queue_type: config.amqp.default_queue_type.name(),
        clock: clock::now,
    }
}

#[cfg(test)]
mod tests;
