//! Declaring and deleting queues and streams, with what their user may do over AMQP.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query},
    http::StatusCode,
    routing::put,
};
use serde::Deserialize;
use trivium_core::{Change, Command, Reply};

use super::{Failure, Names, Session, access, definitions::read_queue};
use crate::http::Status;

pub(super) fn router() -> Router<Arc<Status>> {
    Router::new().route("/queues/{vhost}/{name}", put(declare).delete(delete))
}

/// `{"durable": …, "auto_delete": …, "arguments": {…}}`, each of which may be left out; 201 if it was not there, 204 if it
/// was there like that.
async fn declare(
    mut session: Session,
    Path((vhost, name)): Names<(String, String)>,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let json = access::body(&bytes, &[("name", &name)])?;
    let queue = access::parse(&json, |it| read_queue(it, Some(&vhost)))?;
    enter(&mut session, vhost).await?;
    let change = Change::DeclareQueue {
        name: queue.name,
        spec: queue.spec,
    };
    match session
        .ask(|token| Command::Define { token, change })
        .await?
    {
        Reply::Queue { created: true, .. } => Ok(StatusCode::CREATED),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

#[derive(Deserialize)]
struct Conditions {
    #[serde(default, rename = "if-unused")]
    if_unused: bool,
    #[serde(default, rename = "if-empty")]
    if_empty: bool,
}

/// With `if-unused=true` and `if-empty=true` only if it is; 204.
async fn delete(
    mut session: Session,
    Path((vhost, name)): Names<(String, String)>,
    Query(only): Query<Conditions>,
) -> Result<StatusCode, Failure> {
    enter(&mut session, vhost).await?;
    let there = Change::ExpectQueue {
        name: name.clone().into(),
        session: false,
    };
    let delete = Change::DeleteQueue {
        name: name.into(),
        session: false,
        if_unused: only.if_unused,
        if_empty: only.if_empty,
    };
    for change in [there, delete] {
        session
            .ask(|token| Command::Define { token, change })
            .await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Names are those of this vhost from now on.
pub(super) async fn enter(session: &mut Session, vhost: String) -> Result<(), Failure> {
    let vhost = vhost.into();
    session.ask(|token| Command::Enter { token, vhost }).await?;
    Ok(())
}
