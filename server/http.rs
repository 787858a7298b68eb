//! Health and metrics over HTTP.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use trivium_core::Broker;

use crate::{metrics, shutdown::Stop, traffic::Traffic};

/// What can be asked about a server.
pub struct Status {
    /// Each protocol's name and traffic.
    pub traffic: Vec<(&'static str, Arc<Traffic>)>,
    /// Set once every listener accepts.
    pub broker: OnceLock<Broker>,
    /// Set when the server stops.
    pub stop: Stop,
}

/// Answers until the task is aborted, so that a draining server can still be watched.
pub async fn serve(listener: TcpListener, status: Arc<Status>) {
    let router = Router::new()
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(ready))
        .route("/metrics", get(scrape))
        .with_state(status);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "http stopped");
    }
}

async fn ready(State(status): State<Arc<Status>>) -> (StatusCode, &'static str) {
    match status.broker.get() {
        _ if status.stop.is_stopped() => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        Some(_) => (StatusCode::OK, "ready\n"),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
    }
}

async fn scrape(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let mut samples = metrics::process();
    for (protocol, traffic) in &status.traffic {
        samples.extend(traffic.samples(protocol));
    }
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        metrics::render(samples),
    )
}
