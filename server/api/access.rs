//! Users, vhosts, permissions.

use std::sync::Arc;

use axum::{Json, Router, body::Bytes, extract::Path, http::StatusCode, routing::get};
use serde_json::Value as JsonValue;
use trivium_core::{
    Definitions, Permission, PermissionDefinition, Removal, Text, UserDefinition, VhostDefinition,
};

use super::{
    Answer, Failure, Names, Session,
    definitions::{
        read_patterns, read_topic_permission, read_user, read_vhost, write_permission,
        write_topic_permission, write_user, write_vhost,
    },
    json::Object,
    only,
};
use crate::http::Status;

type Done = Result<StatusCode, Failure>;

pub(super) fn router() -> Router<Arc<Status>> {
    Router::new()
        .route("/users", get(users))
        .route("/users/", get(users))
        .route("/users/{user}", get(user).put(put_user).delete(delete_user))
        .route("/users/{user}/permissions", get(permissions_of_user))
        .route("/users/{user}/topic-permissions", get(topics_of_user))
        .route("/vhosts", get(vhosts))
        .route(
            "/vhosts/{vhost}",
            get(vhost).put(put_vhost).delete(delete_vhost),
        )
        .route("/vhosts/{vhost}/permissions", get(permissions_of_vhost))
        .route("/vhosts/{vhost}/topic-permissions", get(topics_of_vhost))
        .route("/permissions", get(permissions))
        .route(
            "/permissions/{vhost}/{user}",
            get(permission).put(grant).delete(revoke),
        )
        .route("/topic-permissions", get(topics))
        .route(
            "/topic-permissions/{vhost}/{user}",
            get(topic).put(grant_topics).delete(revoke_topics),
        )
        .route(
            "/topic-permissions/{vhost}/{user}/{exchange}",
            axum::routing::delete(revoke_topic),
        )
}

/// A request's body as an object, with members that the path says.
pub(super) fn body(bytes: &[u8], members: &[(&str, &str)]) -> Result<JsonValue, Failure> {
    let mut json = if bytes.is_empty() {
        JsonValue::Object(Default::default())
    } else {
        serde_json::from_slice(bytes).map_err(|_| Failure::BadRequest("not_json".to_owned()))?
    };
    let Some(object) = json.as_object_mut() else {
        return Err(Failure::BadRequest("not_json".to_owned()));
    };
    for (name, value) in members {
        object.insert((*name).to_owned(), (*value).into());
    }
    Ok(json)
}

/// Reads a body by `read`.
pub(super) fn parse<T>(
    json: &JsonValue,
    read: impl FnOnce(&Object<'_>) -> Result<T, String>,
) -> Result<T, Failure> {
    Object::new(json)
        .and_then(|object| read(&object))
        .map_err(Failure::BadRequest)
}

async fn users(mut session: Session) -> Answer {
    let all = session.set_up().await?.users;
    Ok(Json(all.iter().map(write_user).collect()))
}

async fn find_user(session: &mut Session, name: &str) -> Result<Option<UserDefinition>, Failure> {
    let all = session.set_up().await?.users;
    Ok(all.into_iter().find(|user| user.name == name))
}

async fn user(mut session: Session, Path(name): Names<String>) -> Answer {
    let found = find_user(&mut session, &name).await?;
    only(found.iter().map(write_user).collect())
}

async fn put_user(mut session: Session, Path(name): Names<String>, bytes: Bytes) -> Done {
    let json = body(&bytes, &[("name", &name)])?;
    let definition = parse(&json, |it| read_user(it, false))?;
    let existed = find_user(&mut session, &name).await?.is_some();
    let definitions = Definitions {
        users: vec![definition],
        ..Definitions::default()
    };
    session.put(existed, definitions).await
}

async fn delete_user(mut session: Session, Path(name): Names<String>) -> Done {
    session.remove(Removal::User(name.into())).await
}

async fn vhosts(mut session: Session) -> Answer {
    let all = session.set_up().await?.vhosts;
    Ok(Json(all.iter().map(write_vhost).collect()))
}

async fn find_vhost(session: &mut Session, name: &str) -> Result<Option<VhostDefinition>, Failure> {
    let all = session.set_up().await?.vhosts;
    Ok(all.into_iter().find(|vhost| vhost.name == name))
}

async fn vhost(mut session: Session, Path(name): Names<String>) -> Answer {
    let found = find_vhost(&mut session, &name).await?;
    only(found.iter().map(write_vhost).collect())
}

/// Whoever creates a vhost may do everything in it.
async fn put_vhost(mut session: Session, Path(name): Names<String>, bytes: Bytes) -> Done {
    let json = body(&bytes, &[])?;
    let definition = parse(&json, |it| read_vhost(it, name.as_str().into()))?;
    let existed = find_vhost(&mut session, &name).await?.is_some();
    let all = Text::from_static(".*");
    let own = PermissionDefinition {
        vhost: name.as_str().into(),
        user: session.user.clone(),
        permission: Permission {
            configure: all.clone(),
            write: all.clone(),
            read: all,
        },
    };
    let definitions = Definitions {
        vhosts: vec![definition],
        permissions: if existed { Vec::new() } else { vec![own] },
        ..Definitions::default()
    };
    session.put(existed, definitions).await
}

async fn delete_vhost(mut session: Session, Path(name): Names<String>) -> Done {
    session.remove(Removal::Vhost(name.into())).await
}

async fn find_permissions(
    session: &mut Session,
    vhost: Option<&str>,
    user: Option<&str>,
) -> Result<Vec<JsonValue>, Failure> {
    let all = session.set_up().await?.permissions;
    let wanted = all.iter().filter(|it| {
        vhost.is_none_or(|vhost| it.vhost == vhost) && user.is_none_or(|user| it.user == user)
    });
    Ok(wanted.map(write_permission).collect())
}

async fn permissions(mut session: Session) -> Answer {
    let found = find_permissions(&mut session, None, None).await?;
    Ok(Json(found.into()))
}

async fn permissions_of_user(mut session: Session, Path(user): Names<String>) -> Answer {
    let found = find_permissions(&mut session, None, Some(&user)).await?;
    Ok(Json(found.into()))
}

async fn permissions_of_vhost(mut session: Session, Path(vhost): Names<String>) -> Answer {
    let found = find_permissions(&mut session, Some(&vhost), None).await?;
    Ok(Json(found.into()))
}

async fn permission(mut session: Session, Path((vhost, user)): Names<(String, String)>) -> Answer {
    only(find_permissions(&mut session, Some(&vhost), Some(&user)).await?)
}

async fn grant(
    mut session: Session,
    Path((vhost, user)): Names<(String, String)>,
    bytes: Bytes,
) -> Done {
    let json = body(&bytes, &[])?;
    let permission = parse(&json, read_patterns)?;
    let existing = find_permissions(&mut session, Some(&vhost), Some(&user)).await?;
    let definitions = Definitions {
        permissions: vec![PermissionDefinition {
            vhost: vhost.into(),
            user: user.into(),
            permission,
        }],
        ..Definitions::default()
    };
    session.put(!existing.is_empty(), definitions).await
}

async fn revoke(mut session: Session, Path((vhost, user)): Names<(String, String)>) -> Done {
    let (vhost, user) = (vhost.into(), user.into());
    session.remove(Removal::Permission { vhost, user }).await
}

async fn find_topics(
    session: &mut Session,
    vhost: Option<&str>,
    user: Option<&str>,
) -> Result<Vec<JsonValue>, Failure> {
    let all = session.set_up().await?.topic_permissions;
    let wanted = all.iter().filter(|it| {
        vhost.is_none_or(|vhost| it.vhost == vhost) && user.is_none_or(|user| it.user == user)
    });
    Ok(wanted.map(write_topic_permission).collect())
}

async fn topics(mut session: Session) -> Answer {
    let found = find_topics(&mut session, None, None).await?;
    Ok(Json(found.into()))
}

async fn topics_of_user(mut session: Session, Path(user): Names<String>) -> Answer {
    let found = find_topics(&mut session, None, Some(&user)).await?;
    Ok(Json(found.into()))
}

async fn topics_of_vhost(mut session: Session, Path(vhost): Names<String>) -> Answer {
    let found = find_topics(&mut session, Some(&vhost), None).await?;
    Ok(Json(found.into()))
}

async fn topic(mut session: Session, Path((vhost, user)): Names<(String, String)>) -> Answer {
    let found = find_topics(&mut session, Some(&vhost), Some(&user)).await?;
    if found.is_empty() {
        return Err(Failure::NotFound);
    }
    Ok(Json(found.into()))
}

async fn grant_topics(
    mut session: Session,
    Path((vhost, user)): Names<(String, String)>,
    bytes: Bytes,
) -> Done {
    let json = body(&bytes, &[("vhost", &vhost), ("user", &user)])?;
    let definition = parse(&json, |it| read_topic_permission(it, None))?;
    let existing = find_topics(&mut session, Some(&vhost), Some(&user)).await?;
    let definitions = Definitions {
        topic_permissions: vec![definition],
        ..Definitions::default()
    };
    session.put(!existing.is_empty(), definitions).await
}

async fn revoke_topics(mut session: Session, Path((vhost, user)): Names<(String, String)>) -> Done {
    let removal = Removal::TopicPermission {
        vhost: vhost.into(),
        user: user.into(),
        exchange: None,
    };
    session.remove(removal).await
}

async fn revoke_topic(
    mut session: Session,
    Path((vhost, user, exchange)): Names<(String, String, String)>,
) -> Done {
    let removal = Removal::TopicPermission {
        vhost: vhost.into(),
        user: user.into(),
        exchange: Some(exchange.into()),
    };
    session.remove(removal).await
}
