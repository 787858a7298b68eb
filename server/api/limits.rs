//! Limits of vhosts and of users.

use std::sync::Arc;

use axum::{Json, Router, body::Bytes, extract::Path, http::StatusCode, routing::get};
use serde_json::{Value as JsonValue, json};
use trivium_core::{
    Definitions, ParameterDefinition, Password, Removal, Text, UserDefinition, Value,
};

use super::{
    Answer, Failure, Names, Session,
    access::{body, parse},
    definitions::write_limits,
    json::from_value,
};
use crate::http::Status;

/// How the limits of a vhost are kept.
const COMPONENT: &str = "vhost-limits";
const NAME: &str = "limits";

pub(super) fn router() -> Router<Arc<Status>> {
    Router::new()
        .route("/vhost-limits", get(vhosts))
        .route("/vhost-limits/{vhost}", get(vhost))
        .route(
            "/vhost-limits/{vhost}/{name}",
            axum::routing::put(put_vhost_limit).delete(delete_vhost_limit),
        )
        .route("/user-limits", get(users))
        .route("/user-limits/{user}", get(user))
        .route(
            "/user-limits/{user}/{name}",
            axum::routing::put(put_user_limit).delete(delete_user_limit),
        )
}

async fn find(session: &mut Session, vhost: Option<&str>) -> Result<Vec<JsonValue>, Failure> {
    let all = session.set_up().await?;
    let wanted = all.parameters.iter().filter(|it| {
        it.component == COMPONENT && vhost.is_none_or(|vhost| it.vhost.as_deref() == Some(vhost))
    });
    let written =
        wanted.map(|it| json!({ "vhost": it.vhost.as_deref(), "value": from_value(&it.value) }));
    Ok(written.collect())
}

async fn vhosts(mut session: Session) -> Answer {
    Ok(Json(find(&mut session, None).await?.into()))
}

async fn vhost(mut session: Session, Path(vhost): Names<String>) -> Answer {
    Ok(Json(find(&mut session, Some(&vhost)).await?.into()))
}

/// The limits that a vhost has.
async fn limits_of(session: &mut Session, vhost: &str) -> Result<Vec<(Text, Value)>, Failure> {
    let all = session.set_up().await?;
    if !all.vhosts.iter().any(|known| known.name == vhost) {
        return Err(Failure::NotFound);
    }
    let mut parameters = all.parameters.into_iter();
    let found =
        parameters.find(|it| it.component == COMPONENT && it.vhost.as_deref() == Some(vhost));
    Ok(match found.map(|it| it.value) {
        Some(Value::Table(limits)) => limits,
        _ => Vec::new(),
    })
}

fn set(vhost: String, limits: Vec<(Text, Value)>) -> Definitions {
    Definitions {
        parameters: vec![ParameterDefinition {
            vhost: Some(vhost.into()),
            component: COMPONENT.into(),
            name: NAME.into(),
            value: Value::Table(limits),
        }],
        ..Definitions::default()
    }
}

fn value(bytes: &[u8]) -> Result<i64, Failure> {
    let json = body(bytes, &[])?;
    parse(&json, |it| {
        it.number("value")?
            .ok_or_else(|| "value is missing".to_owned())
    })
}

async fn put_vhost_limit(
    mut session: Session,
    Path((vhost, name)): Names<(String, String)>,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let number = value(&bytes)?;
    let mut limits = limits_of(&mut session, &vhost).await?;
    limits.retain(|(known, _)| *known != name);
    limits.push((name.into(), Value::I64(number)));
    session.put(true, set(vhost, limits)).await
}

async fn delete_vhost_limit(
    mut session: Session,
    Path((vhost, name)): Names<(String, String)>,
) -> Result<StatusCode, Failure> {
    let mut limits = limits_of(&mut session, &vhost).await?;
    limits.retain(|(known, _)| *known != name);
    if limits.is_empty() {
        let removal = Removal::Parameter {
            vhost: Some(vhost.into()),
            component: COMPONENT.into(),
            name: NAME.into(),
        };
        return session.remove(removal).await;
    }
    session.put(true, set(vhost, limits)).await
}

async fn find_users(session: &mut Session, user: Option<&str>) -> Result<Vec<JsonValue>, Failure> {
    let all = session.set_up().await?.users;
    let limited = all.iter().filter_map(|it| {
        let limits = it.limits.as_deref().unwrap_or_default();
        let wanted = !limits.is_empty() && user.is_none_or(|user| it.name == user);
        wanted.then(|| json!({ "user": &*it.name, "value": write_limits(limits) }))
    });
    Ok(limited.collect())
}

async fn users(mut session: Session) -> Answer {
    Ok(Json(find_users(&mut session, None).await?.into()))
}

async fn user(mut session: Session, Path(user): Names<String>) -> Answer {
    Ok(Json(find_users(&mut session, Some(&user)).await?.into()))
}

async fn put_user_limit(
    mut session: Session,
    Path((user, name)): Names<(String, String)>,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let number = value(&bytes)?;
    let all = session.set_up().await?.users;
    let Some(known) = all.into_iter().find(|known| known.name == user) else {
        return Err(Failure::NotFound);
    };
    let definitions = Definitions {
        users: vec![UserDefinition {
            password: Password::Unchanged,
            limits: Some(vec![(name.into(), number)]),
            ..UserDefinition {
                limits: None,
                ..known
            }
        }],
        ..Definitions::default()
    };
    session.put(true, definitions).await
}

async fn delete_user_limit(
    mut session: Session,
    Path((user, name)): Names<(String, String)>,
) -> Result<StatusCode, Failure> {
    let (user, name) = (user.into(), name.into());
    session.remove(Removal::UserLimit { user, name }).await
}
