//! Exchanges, queues and bindings as they are.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query},
    routing::get,
};
use serde_json::{Value as JsonValue, json};
use trivium_core::{Command, ExchangeInfo, PolicyInfo, QueueInfo, Reply, Scope, Text};

use super::{
    Answer, Failure, Names, Session, definitions::write_binding, json::from_table, only,
    page::Wanted,
};
use crate::http::Status;

pub(super) fn router() -> Router<Arc<Status>> {
    Router::new()
        .route("/queues", get(queues))
        .route("/queues/{vhost}", get(queues_of_vhost))
        .route("/queues/{vhost}/{name}", get(queue))
        .route("/exchanges", get(exchanges))
        .route("/exchanges/{vhost}", get(exchanges_of_vhost))
        .route("/exchanges/{vhost}/{name}", get(exchange))
        .route("/bindings", get(bindings))
        .route("/bindings/{vhost}", get(bindings_of_vhost))
}

async fn find_queues(
    session: &mut Session,
    vhost: Option<String>,
    name: Option<String>,
) -> Result<Vec<JsonValue>, Failure> {
    let describe = |token| Command::DescribeQueues {
        token,
        vhost: vhost.map(Text::from),
        name: name.map(Text::from),
    };
    match session.ask(describe).await? {
        Reply::Queues(queues) => Ok(queues.iter().map(write_queue).collect()),
        _ => Err(Failure::Unavailable),
    }
}

async fn queues(mut session: Session, Query(wanted): Query<Wanted>) -> Answer {
    let all = find_queues(&mut session, None, None).await?;
    wanted.of(all).map(Json)
}

async fn queues_of_vhost(
    mut session: Session,
    Path(vhost): Names<String>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let all = find_queues(&mut session, Some(vhost), None).await?;
    wanted.of(all).map(Json)
}

async fn queue(mut session: Session, Path((vhost, name)): Names<(String, String)>) -> Answer {
    only(find_queues(&mut session, Some(vhost), Some(name)).await?)
}

async fn find_exchanges(
    session: &mut Session,
    vhost: Option<String>,
    name: Option<String>,
) -> Result<Vec<JsonValue>, Failure> {
    let describe = |token| Command::DescribeExchanges {
        token,
        vhost: vhost.map(Text::from),
        name: name.map(Text::from),
    };
    match session.ask(describe).await? {
        Reply::Exchanges(exchanges) => Ok(exchanges.iter().map(write_exchange).collect()),
        _ => Err(Failure::Unavailable),
    }
}

async fn exchanges(mut session: Session, Query(wanted): Query<Wanted>) -> Answer {
    let all = find_exchanges(&mut session, None, None).await?;
    wanted.of(all).map(Json)
}

async fn exchanges_of_vhost(
    mut session: Session,
    Path(vhost): Names<String>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let all = find_exchanges(&mut session, Some(vhost), None).await?;
    wanted.of(all).map(Json)
}

/// The default exchange is asked for as `amq.default`.
async fn exchange(mut session: Session, Path((vhost, name)): Names<(String, String)>) -> Answer {
    let name = if name == "amq.default" {
        String::new()
    } else {
        name
    };
    only(find_exchanges(&mut session, Some(vhost), Some(name)).await?)
}

async fn bindings(mut session: Session) -> Answer {
    let all = session.export(None, Scope::All).await?.bindings;
    Ok(Json(all.iter().map(write_binding).collect()))
}

async fn bindings_of_vhost(mut session: Session, Path(vhost): Names<String>) -> Answer {
    let all = session
        .export(Some(vhost.into()), Scope::All)
        .await?
        .bindings;
    Ok(Json(all.iter().map(write_binding).collect()))
}

fn write_queue(queue: &QueueInfo) -> JsonValue {
    let spec = &queue.spec;
    let mut arguments = from_table(&spec.arguments);
    arguments["x-queue-type"] = queue.kind.into();
    let mut written = json!({
        "name": &*queue.name, "vhost": &*queue.vhost, "type": queue.kind, "state": "running",
        "durable": spec.durable, "auto_delete": spec.auto_delete, "exclusive": spec.exclusive,
        "arguments": arguments, "consumers": queue.consumers,
        "messages": queue.ready + queue.unsettled + queue.delayed,
        "messages_ready": queue.ready, "messages_unacknowledged": queue.unsettled,
        "messages_delayed": queue.delayed,
        "node": trivium_core::NODE,
    });
    write_policies(&queue.policies, &mut written);
    written
}

fn write_exchange(exchange: &ExchangeInfo) -> JsonValue {
    let spec = &exchange.spec;
    let mut written = json!({
        "name": &*exchange.name, "vhost": &*exchange.vhost, "type": spec.kind.name(),
        "durable": spec.durable, "auto_delete": spec.auto_delete, "internal": spec.internal,
        "arguments": from_table(&spec.arguments),
    });
    write_policies(&exchange.policies, &mut written);
    written
}

fn write_policies(policies: &PolicyInfo, written: &mut JsonValue) {
    written["policy"] = policies.policy.as_deref().into();
    written["operator_policy"] = policies.operator.as_deref().into();
    written["effective_policy_definition"] = from_table(&policies.effective);
}
