//! Cursors: queues over logs, which can be sent back. Trivium's own.

use std::sync::Arc;

use axum::{Router, body::Bytes, extract::Path, http::StatusCode, routing::post};
use serde_json::Value as JsonValue;
use trivium_core::{Command, Offset, StreamStart};

use super::{Failure, Names, Session, access::body, queues::enter};
use crate::http::Status;

pub(super) fn router() -> Router<Arc<Status>> {
    Router::new().route("/queues/{vhost}/{name}/reset", post(reset))
}

/// `{"offset": "first" | "last" | "next" | number}` or `{"timestamp": milliseconds}`, and `"partition"` for one of
/// several; 204.
async fn reset(
    mut session: Session,
    Path((vhost, name)): Names<(String, String)>,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let asked = body(&bytes, &[])?;
    let to = start(&asked).map_err(Failure::BadRequest)?;
    let partition = match &asked["partition"] {
        JsonValue::Null => None,
        number => Some(whole("partition", number).map_err(Failure::BadRequest)?),
    };
    let partition = partition
        .map(u32::try_from)
        .transpose()
        .map_err(|_| Failure::BadRequest("partition is out of range".to_owned()))?;
    enter(&mut session, vhost).await?;
    let queue = name.into();
    let reset = |token| Command::ResetCursor {
        token,
        queue,
        to,
        partition,
    };
    session.ask(reset).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn start(asked: &JsonValue) -> Result<StreamStart, String> {
    match (&asked["offset"], &asked["timestamp"]) {
        (JsonValue::Null, JsonValue::Null) => Err("offset or timestamp is missing".to_owned()),
        (JsonValue::Null, time) => whole("timestamp", time).map(StreamStart::AtTime),
        (JsonValue::String(word), JsonValue::Null) => match word.as_str() {
            "first" => Ok(StreamStart::First),
            "last" => Ok(StreamStart::Last),
            "next" => Ok(StreamStart::Next),
            _ => Err("offset is first, last, next or a number".to_owned()),
        },
        (offset, JsonValue::Null) => whole("offset", offset).map(Offset).map(StreamStart::Offset),
        _ => Err("either offset or timestamp, not both".to_owned()),
    }
}

fn whole(name: &str, value: &JsonValue) -> Result<u64, String> {
    let number = value.as_u64();
    number.ok_or_else(|| format!("{name} is not a whole number"))
}
