//! Policies, operator policies, and parameters of components.

use std::sync::Arc;

use axum::{Json, Router, body::Bytes, extract::Path, http::StatusCode, routing::get};
use serde_json::Value as JsonValue;
use trivium_core::{Definitions, Removal};

use super::{
    Answer, Failure, Names, Session,
    access::{body, parse},
    definitions::{read_policy, write_parameter, write_policy},
    only,
};
use crate::http::Status;

pub(super) fn router() -> Router<Arc<Status>> {
    Router::new()
        .merge(of_kind("/policies", false))
        .merge(of_kind("/operator-policies", true))
        .route("/parameters", get(parameters))
        .route("/global-parameters", get(global_parameters))
}

/// The same routes for both kinds.
fn of_kind(path: &str, operator: bool) -> Router<Arc<Status>> {
    let all = move |session| list(session, operator, None);
    let of_vhost = move |session, Path(vhost): Names<String>| list(session, operator, Some(vhost));
    let one = move |session, path| get_one(session, operator, path);
    let put = move |session, path, bytes| put_one(session, operator, path, bytes);
    let delete = move |session, path| delete_one(session, operator, path);
    Router::new()
        .route(path, get(all))
        .route(&format!("{path}/{{vhost}}"), get(of_vhost))
        .route(
            &format!("{path}/{{vhost}}/{{name}}"),
            get(one).put(put).delete(delete),
        )
}

async fn find(
    session: &mut Session,
    operator: bool,
    vhost: Option<&str>,
    name: Option<&str>,
) -> Result<Vec<JsonValue>, Failure> {
    let all = session.set_up().await?;
    if let Some(vhost) = vhost
        && !all.vhosts.iter().any(|known| known.name == vhost)
    {
        return Err(Failure::NotFound);
    }
    let wanted = all.policies.iter().filter(|policy| {
        policy.operator == operator
            && vhost.is_none_or(|vhost| policy.vhost == vhost)
            && name.is_none_or(|name| policy.name == name)
    });
    Ok(wanted.map(write_policy).collect())
}

async fn list(mut session: Session, operator: bool, vhost: Option<String>) -> Answer {
    let found = find(&mut session, operator, vhost.as_deref(), None).await?;
    Ok(Json(found.into()))
}

async fn get_one(
    mut session: Session,
    operator: bool,
    Path((vhost, name)): Names<(String, String)>,
) -> Answer {
    only(find(&mut session, operator, Some(&vhost), Some(&name)).await?)
}

async fn put_one(
    mut session: Session,
    operator: bool,
    Path((vhost, name)): Names<(String, String)>,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let json = body(&bytes, &[])?;
    let existing = find(&mut session, operator, Some(&vhost), Some(&name)).await?;
    let policy = parse(&json, |it| {
        read_policy(it, vhost.as_str().into(), name.as_str().into(), operator)
    })?;
    let definitions = Definitions {
        policies: vec![policy],
        ..Definitions::default()
    };
    session.put(!existing.is_empty(), definitions).await
}

async fn delete_one(
    mut session: Session,
    operator: bool,
    Path((vhost, name)): Names<(String, String)>,
) -> Result<StatusCode, Failure> {
    let removal = Removal::Policy {
        vhost: vhost.into(),
        name: name.into(),
        operator,
    };
    session.remove(removal).await
}

async fn parameters(mut session: Session) -> Answer {
    let all = session.set_up().await?.parameters;
    let of_vhosts = all.iter().filter(|parameter| parameter.vhost.is_some());
    Ok(Json(of_vhosts.map(write_parameter).collect()))
}

async fn global_parameters(mut session: Session) -> Answer {
    let all = session.set_up().await?.parameters;
    let global = all.iter().filter(|parameter| parameter.vhost.is_none());
    Ok(Json(global.map(write_parameter).collect()))
}
