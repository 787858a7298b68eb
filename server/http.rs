//! Health, metrics and management over HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use trivium_core::Broker;
use trivium_protocol::Frontend;
use trivium_storage::RocksStore;

use crate::{
    api, lag,
    listen::Counters,
    metrics::{self, Kind, Sample},
    otlp,
    shutdown::Stop,
    store,
};

/// What a browser finds.
const ABOUT: &str = "Trivium\n\n/health/live  /health/ready  /metrics  /api/overview and the rest of RabbitMQ's management API\n";

/// What can be asked about a server.
pub struct Status {
    /// Each protocol's name and traffic.
    pub traffic: Vec<(&'static str, Counters)>,
    /// The front ends, each once.
    pub frontends: Vec<Arc<dyn Frontend>>,
    /// The store, if it is our own.
    pub store: Option<Arc<RocksStore>>,
    /// Set once every listener accepts.
    pub broker: OnceLock<Broker>,
    /// What came of spans; set where messages are traced.
    pub traces: OnceLock<Arc<otlp::Counters>>,
    /// Set when the server stops.
    pub stop: Stop,
}

/// Answers until the task is aborted, so that a draining server can still be watched.
pub async fn serve(listener: TcpListener, status: Arc<Status>) {
    let router = Router::new()
        .route("/", get(async || ABOUT))
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(ready))
        .route("/metrics", get(scrape))
        .nest("/api", api::router())
        .with_state(status)
        .into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "http stopped");
    }
}

async fn ready(State(status): State<Arc<Status>>) -> (StatusCode, String) {
    match status.obstacle() {
        None => (StatusCode::OK, "ready\n".into()),
        Some(obstacle) => (StatusCode::SERVICE_UNAVAILABLE, format!("{obstacle}\n")),
    }
}

async fn scrape(State(status): State<Arc<Status>>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        metrics::render(status.samples().await),
    )
}

impl Status {
    /// Why nothing is served, or nothing durable.
    fn obstacle(&self) -> Option<String> {
        if self.stop.is_stopped() {
            return Some("stopping".into());
        }
        match self.broker.get() {
            None => Some("starting".into()),
            Some(broker) => broker
                .failure()
                .map(|reason| format!("storage failed: {reason}")),
        }
    }

    async fn samples(&self) -> Vec<Sample> {
        let mut samples = metrics::process();
        samples.push(Sample::new(
            "trivium_ready",
            "Whether /health/ready says so.",
            Kind::Gauge,
            self.obstacle().is_none().into(),
        ));
        for (protocol, traffic) in &self.traffic {
            samples.extend(traffic.samples(protocol));
        }
        let counted = self.frontends.iter().flat_map(|it| it.samples());
        samples.extend(counted.map(Sample::from));
        if let Some(broker) = self.broker.get() {
            samples.push(Sample::new(
                "trivium_storage_failed",
                "Whether a write has failed, so that nothing more is acknowledged.",
                Kind::Gauge,
                broker.failure().is_some().into(),
            ));
            samples.extend(broker.samples().await.into_iter().map(Sample::from));
            samples.extend(broker.lag().await.iter().flat_map(|all| lag::samples(all)));
            samples.extend(metrics::taps(&broker.taps()));
        }
        if let Some(traces) = self.traces.get() {
            samples.extend(traces.samples());
        }
        if let Some(store) = &self.store {
            samples.extend(store::samples(store));
        }
        samples
    }
}
