//! How far everything is that reads, whatever its protocol: one list for groups, taps and sessions.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query},
    routing::get,
};
use serde_json::{Value as JsonValue, json};
use trivium_core::{Command, Lag, Reply, Text};

use super::{Answer, Failure, Names, Session, page::Wanted};
use crate::http::Status;

pub(super) fn router() -> Router<Arc<Status>> {
    Router::new()
        .route("/lag", get(all))
        .route("/lag/{vhost}", get(of_vhost))
        .route("/lag/{vhost}/{name}", get(of_reader))
}

async fn all(mut session: Session, Query(wanted): Query<Wanted>) -> Answer {
    let found = find(&mut session, None).await?;
    wanted.of(found.iter().map(write).collect()).map(Json)
}

async fn of_vhost(
    mut session: Session,
    Path(vhost): Names<String>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let found = find(&mut session, Some(vhost)).await?;
    wanted.of(found.iter().map(write).collect()).map(Json)
}

/// All readers of one name; 404 where there are none.
async fn of_reader(mut session: Session, Path((vhost, name)): Names<(String, String)>) -> Answer {
    let found = find(&mut session, Some(vhost)).await?;
    let named: Vec<JsonValue> = found
        .iter()
        .filter(|lag| *lag.reader.name == *name)
        .map(write)
        .collect();
    match named.is_empty() {
        true => Err(Failure::NotFound),
        false => Ok(Json(named.into())),
    }
}

async fn find(session: &mut Session, vhost: Option<String>) -> Result<Vec<Lag>, Failure> {
    let vhost = vhost.map(Text::from);
    match session
        .ask(|token| Command::DescribeLag { token, vhost })
        .await?
    {
        Reply::Lag(found) => Ok(found),
        _ => Err(Failure::Unavailable),
    }
}

fn write(lag: &Lag) -> JsonValue {
    let mut written = json!({
        "vhost": &*lag.reader.vhost,
        "name": &*lag.reader.name,
        "kind": lag.reader.kind.name(),
        "protocol": lag.reader.protocol.as_deref(),
        "state": lag.reader.state,
        "members": lag.reader.members,
        "lag": lag.lag,
    });
    if let Some(place) = &lag.place {
        written["log"] = (*place.log).into();
        written["partition"] = place.partition.into();
        written["position"] = place.position.0.into();
        written["log_start"] = place.start.0.into();
        written["log_end"] = place.end.0.into();
        written["lag_ms"] = place.age_ms.into();
    }
    written
}
