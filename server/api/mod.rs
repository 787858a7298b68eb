//! RabbitMQ's management API, as far as it is here: definitions, users, vhosts, permissions, policies, limits, and
//! what exchanges and queues are like; and, which RabbitMQ has not, how far readers of logs are. A request is a connection of its own to the core, which decides what its
//! user may do and see; here it is only spelled in RabbitMQ's JSON.

mod access;
mod cursors;
mod declared;
pub mod definitions;
mod json;
mod lag;
mod limits;
mod page;
mod policies;
mod queues;
mod quotas;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Path},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value as JsonValue, json};
use trivium_core::{
    Change, Command, Credentials, Definitions, Event, Link, Origin, Refusal, Removal, Reply, Scope,
    Text, Token,
};

use crate::http::Status;

/// Bytes of a request's body at most: definitions of several 100,000 queues.
const BODY_MAX: usize = 256 << 20;

/// The routes below `/api`.
pub fn router() -> Router<Arc<Status>> {
    Router::new()
        .route("/overview", get(overview))
        .route("/whoami", get(whoami))
        .merge(definitions::router())
        .merge(access::router())
        .merge(policies::router())
        .merge(limits::router())
        .merge(declared::router())
        .merge(lag::router())
        .merge(cursors::router())
        .merge(queues::router())
        .fallback(async || Failure::NotFound)
        .layer(DefaultBodyLimit::max(BODY_MAX))
}

/// What clients read to know whom they talk to.
async fn overview(_: Session) -> Json<JsonValue> {
    let mut about = definitions::about();
    about["management_version"] = about["rabbitmq_version"].clone();
    about["node"] = trivium_core::NODE.into();
    Json(about)
}

async fn whoami(session: Session) -> Json<JsonValue> {
    Json(json!({ "name": &*session.user, "tags": json::texts(&session.tags) }))
}

/// One request's connection to the core.
pub(crate) struct Session {
    link: Link,
    pub(crate) user: Text,
    pub(crate) tags: Vec<Text>,
    token: u64,
}

impl Session {
    pub(crate) async fn ask(
        &mut self,
        command: impl FnOnce(Token) -> Command,
    ) -> Result<Reply, Failure> {
        self.hear(command).await?.map_err(Failure::from)
    }

    /// What the core answers to a command.
    async fn hear(
        &mut self,
        command: impl FnOnce(Token) -> Command,
    ) -> Result<Result<Reply, Refusal>, Failure> {
        self.token += 1;
        let asked = Token(self.token);
        let mut commands = vec![command(asked)];
        let stopped = |_| Failure::Unavailable;
        self.link.submit(&mut commands).await.map_err(stopped)?;
        let mut events = Vec::new();
        loop {
            self.link.receive(&mut events).await;
            for event in events.drain(..) {
                match event {
                    Event::Done { token, result } if token == asked => {
                        return Ok(result);
                    }
                    Event::Shutdown => return Err(Failure::Unavailable),
                    _ => {}
                }
            }
        }
    }

    /// What is set up, as far as the user may see it.
    pub(crate) async fn set_up(&mut self) -> Result<Definitions, Failure> {
        self.export(None, Scope::SetUp).await
    }

    pub(crate) async fn export(
        &mut self,
        vhost: Option<Text>,
        scope: Scope,
    ) -> Result<Definitions, Failure> {
        let export = |token| Command::Export {
            token,
            vhost,
            scope,
        };
        match self.ask(export).await? {
            Reply::Definitions(definitions) => Ok(*definitions),
            _ => Err(Failure::Unavailable),
        }
    }

    pub(crate) async fn import(&mut self, definitions: Definitions) -> Result<(), Failure> {
        let change = Change::Import(Box::new(definitions));
        self.ask(|token| Command::Define { token, change }).await?;
        Ok(())
    }

    /// Imports a document. What something in it refers to and is not there is told, as is whatever else is wrong with it.
    pub(crate) async fn import_document(
        &mut self,
        definitions: Definitions,
    ) -> Result<StatusCode, Failure> {
        let change = Change::Import(Box::new(definitions));
        match self.hear(|token| Command::Define { token, change }).await? {
            Ok(_) => Ok(StatusCode::NO_CONTENT),
            Err(refusal @ (Refusal::NotFound { .. } | Refusal::NoVhost(_))) => {
                Err(Failure::BadRequest(refusal.to_string()))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Puts something; 201 if it was not there, 204 otherwise.
    pub(crate) async fn put(
        &mut self,
        existed: bool,
        definitions: Definitions,
    ) -> Result<StatusCode, Failure> {
        self.import(definitions).await?;
        Ok(if existed {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::CREATED
        })
    }

    /// Removes something; 204 if it was there.
    pub(crate) async fn remove(&mut self, removal: Removal) -> Result<StatusCode, Failure> {
        let change = Change::Remove(removal);
        match self.ask(|token| Command::Define { token, change }).await? {
            Reply::Removed { existed: false } => Err(Failure::NotFound),
            _ => Ok(StatusCode::NO_CONTENT),
        }
    }
}

impl FromRequestParts<Arc<Status>> for Session {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        status: &Arc<Status>,
    ) -> Result<Session, Failure> {
        let broker = status.broker.get().ok_or(Failure::Unavailable)?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let loopback = peer.is_some_and(|peer| peer.0.ip().to_canonical().is_loopback());
        let (user, password) = basic(parts).ok_or(Failure::Unauthenticated)?;
        let credentials = Credentials::Password {
            user,
            password,
            loopback,
        };
        let origin = Origin {
            protocol: Text::from_static("http"),
            ..Origin::default()
        };
        let mut session = Session {
            link: broker.visit(origin),
            user: Text::new(),
            tags: Vec::new(),
            token: 0,
        };
        let authenticate = |token| Command::Authenticate { token, credentials };
        match session.ask(authenticate).await? {
            Reply::Authenticated { user, tags } => {
                (session.user, session.tags) = (user, tags);
                Ok(session)
            }
            _ => Err(Failure::Unauthenticated),
        }
    }
}

/// The user and password of the request (RFC 7617).
fn basic(parts: &Parts) -> Option<(Text, bytes::Bytes)> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.into(), password.to_owned().into()))
}

/// Why a request is not done.
#[derive(Debug)]
pub(crate) enum Failure {
    Unauthenticated,
    /// The user may not.
    Unauthorized(String),
    BadRequest(String),
    NotFound,
    Conflict(String),
    Unavailable,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let text = refusal.to_string();
        match refusal {
            Refusal::LoginRefused => Failure::Unauthenticated,
            Refusal::Denied(_) | Refusal::NotAllowed(_) => Failure::Unauthorized(text),
            Refusal::NotFound { .. } | Refusal::NoVhost(_) => Failure::NotFound,
            Refusal::Exists { .. } => Failure::Conflict(text),
            Refusal::StorageFailed(_) | Refusal::Stopping => Failure::Unavailable,
            _ => Failure::BadRequest(text),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error, reason) = match self {
            Failure::Unauthenticated => (
                StatusCode::UNAUTHORIZED,
                "not_authorized",
                "Not_Authorized".to_owned(),
            ),
            Failure::Unauthorized(reason) => (StatusCode::UNAUTHORIZED, "not_authorized", reason),
            Failure::BadRequest(reason) => (StatusCode::BAD_REQUEST, "bad_request", reason),
            Failure::NotFound => (
                StatusCode::NOT_FOUND,
                "Object Not Found",
                "Not Found".to_owned(),
            ),
            Failure::Conflict(reason) => (StatusCode::CONFLICT, "conflict", reason),
            Failure::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "broker does not serve".to_owned(),
            ),
        };
        let mut response =
            (status, Json(json!({ "error": error, "reason": reason }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// What a list or one of its items is answered with.
pub(crate) type Answer = Result<Json<JsonValue>, Failure>;

/// The names in a path, decoded.
pub(crate) type Names<T> = Path<T>;

/// The first of what was found.
pub(crate) fn only(mut found: Vec<JsonValue>) -> Answer {
    if found.is_empty() {
        return Err(Failure::NotFound);
    }
    Ok(Json(found.swap_remove(0)))
}
