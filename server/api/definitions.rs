//! Definitions in RabbitMQ's JSON format: the file that it exports and imports, and the requests for it.

use axum::{Json, Router, body::Bytes, extract::Path, http::StatusCode, routing::get};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value as JsonValue, json};
use trivium_core::{
    Binding, BindingDefinition, Definitions, Destination, ExchangeDefinition, ExchangeKind,
    ExchangeSpec, Grammar, HashAlgorithm, LogDefinition, LogSpec, ParameterDefinition, Password,
    PasswordHash, Permission, PermissionDefinition, PolicyDefinition, QueueDefinition, QueueSpec,
    Scope, Text, TopicPermission, TopicPermissionDefinition, UserDefinition, Value,
    VhostDefinition,
};

use super::{
    Answer, Failure, Session,
    json::{Object, from_table, from_value, texts, to_value},
    quotas,
};
use crate::http::Status;

/// The version of RabbitMQ that clients find, the same as over AMQP.
const RABBITMQ_VERSION: &str = "4.0.0";

/// Where RabbitMQ keeps operator policies in its format.
const OPERATOR_POLICY: &str = "operator_policy";

pub(super) fn router() -> Router<std::sync::Arc<Status>> {
    Router::new()
        .route("/definitions", get(export).post(import).put(import))
        .route(
            "/definitions/{vhost}",
            get(export_vhost).post(import_vhost).put(import_vhost),
        )
}

async fn export(mut session: Session) -> Answer {
    let all = session.export(None, Scope::All).await?;
    Ok(Json(write(&all)))
}

async fn export_vhost(mut session: Session, Path(vhost): Path<String>) -> Answer {
    let all = session
        .export(Some(vhost.as_str().into()), Scope::All)
        .await?;
    Ok(Json(write(&all)))
}

async fn import(mut session: Session, body: Bytes) -> Result<StatusCode, Failure> {
    let definitions = read(&body, None).map_err(Failure::BadRequest)?;
    session.import_document(definitions).await
}

async fn import_vhost(
    mut session: Session,
    Path(vhost): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    // A vhost that is not there cannot be exported either.
    session
        .export(Some(vhost.as_str().into()), Scope::SetUp)
        .await?;
    let definitions = read(&body, Some(&vhost)).map_err(Failure::BadRequest)?;
    session.import_document(definitions).await
}

/// Which broker and format this is.
pub(super) fn about() -> JsonValue {
    json!({
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "Trivium",
        "product_version": env!("CARGO_PKG_VERSION"),
    })
}

/// Definitions as RabbitMQ exports them.
pub(crate) fn write(all: &Definitions) -> JsonValue {
    let mut document = about();
    document["rabbitmq_definition_format"] = "cluster".into();
    document["users"] = all.users.iter().map(write_user).collect();
    document["vhosts"] = all.vhosts.iter().map(write_vhost).collect();
    document["permissions"] = all.permissions.iter().map(write_permission).collect();
    document["topic_permissions"] = all
        .topic_permissions
        .iter()
        .map(write_topic_permission)
        .collect();
    let (of_vhosts, global): (Vec<_>, Vec<_>) = all
        .parameters
        .iter()
        .partition(|parameter| parameter.vhost.is_some());
    let (operator, policies): (Vec<_>, Vec<_>) =
        all.policies.iter().partition(|policy| policy.operator);
    let parameters = of_vhosts.into_iter().map(write_parameter);
    document["parameters"] = parameters
        .chain(operator.into_iter().map(write_operator_policy))
        .collect();
    document["global_parameters"] = global.into_iter().map(write_parameter).collect();
    document["policies"] = policies.into_iter().map(write_policy).collect();
    document["queues"] = all.queues.iter().map(write_queue).collect();
    document["exchanges"] = all.exchanges.iter().map(write_exchange).collect();
    document["bindings"] = all.bindings.iter().map(write_binding).collect();
    document["trivium_logs"] = all.logs.iter().map(write_log).collect();
    let quotas = all.client_quotas.iter().map(quotas::write);
    document["trivium_client_quotas"] = quotas.collect();
    document
}

pub(super) fn write_user(user: &UserDefinition) -> JsonValue {
    let (hash, algorithm) = match &user.password {
        Password::Hashed(hash) => (STANDARD.encode(hash.salted()), hash.algorithm()),
        _ => (String::new(), HashAlgorithm::default()),
    };
    json!({
        "name": &*user.name,
        "password_hash": hash,
        "hashing_algorithm": algorithm.name(),
        "tags": texts(&user.tags),
        "limits": write_limits(user.limits.as_deref().unwrap_or_default()),
    })
}

pub(super) fn write_limits(limits: &[(Text, i64)]) -> JsonValue {
    let limits = limits
        .iter()
        .map(|(name, value)| (name.to_string(), JsonValue::from(*value)));
    JsonValue::Object(limits.collect())
}

pub(super) fn write_vhost(vhost: &VhostDefinition) -> JsonValue {
    let kind = vhost.default_queue_type.as_deref().unwrap_or("undefined");
    json!({
        "name": &*vhost.name,
        "description": &*vhost.description,
        "tags": texts(&vhost.tags),
        "default_queue_type": kind,
        "metadata": {
            "description": &*vhost.description,
            "tags": texts(&vhost.tags),
            "default_queue_type": kind,
        },
    })
}

pub(super) fn write_permission(definition: &PermissionDefinition) -> JsonValue {
    let Permission {
        configure,
        write,
        read,
    } = &definition.permission;
    json!({
        "user": &*definition.user, "vhost": &*definition.vhost,
        "configure": &**configure, "write": &**write, "read": &**read,
    })
}

pub(super) fn write_topic_permission(definition: &TopicPermissionDefinition) -> JsonValue {
    let TopicPermission { write, read } = &definition.permission;
    json!({
        "user": &*definition.user, "vhost": &*definition.vhost, "exchange": &*definition.exchange,
        "write": &**write, "read": &**read,
    })
}

pub(super) fn write_parameter(parameter: &ParameterDefinition) -> JsonValue {
    let mut written = json!({ "name": &*parameter.name, "value": from_value(&parameter.value) });
    if let Some(vhost) = &parameter.vhost {
        written["vhost"] = (**vhost).into();
        written["component"] = (*parameter.component).into();
    }
    written
}

pub(super) fn write_policy(policy: &PolicyDefinition) -> JsonValue {
    json!({
        "vhost": &*policy.vhost, "name": &*policy.name, "pattern": &*policy.pattern,
        "apply-to": &*policy.apply_to, "priority": policy.priority,
        "definition": from_table(&policy.definition),
    })
}

fn write_operator_policy(policy: &PolicyDefinition) -> JsonValue {
    json!({
        "vhost": &*policy.vhost, "name": &*policy.name, "component": OPERATOR_POLICY,
        "value": {
            "pattern": &*policy.pattern, "apply-to": &*policy.apply_to, "priority": policy.priority,
            "definition": from_table(&policy.definition),
        },
    })
}

fn write_queue(queue: &QueueDefinition) -> JsonValue {
    let mut arguments = from_table(&queue.spec.arguments);
    let kind = arguments["x-queue-type"]
        .as_str()
        .unwrap_or("classic")
        .to_owned();
    arguments["x-queue-type"] = kind.as_str().into();
    json!({
        "name": &*queue.name, "vhost": &*queue.vhost, "type": kind,
        "durable": queue.spec.durable, "auto_delete": queue.spec.auto_delete,
        "arguments": arguments,
    })
}

fn write_exchange(exchange: &ExchangeDefinition) -> JsonValue {
    let spec = &exchange.spec;
    json!({
        "name": &*exchange.name, "vhost": &*exchange.vhost, "type": spec.kind.name(),
        "durable": spec.durable, "auto_delete": spec.auto_delete, "internal": spec.internal,
        "arguments": from_table(&spec.arguments),
    })
}

fn write_log(log: &LogDefinition) -> JsonValue {
    let settings = log.spec.settings.iter();
    let settings = settings.map(|(name, value)| (name.to_string(), JsonValue::from(&**value)));
    json!({
        "name": &*log.name, "vhost": &*log.vhost, "partitions": log.spec.partitions,
        "settings": JsonValue::Object(settings.collect()),
    })
}

pub(super) fn write_binding(definition: &BindingDefinition) -> JsonValue {
    let binding = &definition.binding;
    let (kind, destination) = match &binding.destination {
        Destination::Queue(name) | Destination::Session(name) | Destination::Log(name) => {
            ("queue", name)
        }
        Destination::Exchange(name) => ("exchange", name),
    };
    json!({
        "source": &*binding.source, "vhost": &*definition.vhost, "destination": &**destination,
        "destination_type": kind, "routing_key": &*binding.key,
        "arguments": from_table(&binding.arguments),
    })
}

/// Reads a document. What names no vhost is in `vhost`. An error says which item of which list is wrong.
pub(crate) fn read(document: &[u8], vhost: Option<&str>) -> Result<Definitions, String> {
    let document: JsonValue =
        serde_json::from_slice(document).map_err(|error| format!("not JSON: {error}"))?;
    let document = Object::new(&document)?;
    let old = is_before_3_6(&document);
    let mut all = Definitions {
        users: list(&document, "users", |it| read_user(it, old))?,
        vhosts: list(&document, "vhosts", |it| {
            read_vhost(it, it.required("name")?)
        })?,
        permissions: list(&document, "permissions", |it| read_permission(it, vhost))?,
        topic_permissions: list(&document, "topic_permissions", |it| {
            read_topic_permission(it, vhost)
        })?,
        policies: list(&document, "policies", |it| {
            read_policy(it, in_vhost(it, vhost)?, it.required("name")?, false)
        })?,
        parameters: Vec::new(),
        exchanges: list(&document, "exchanges", |it| read_exchange(it, vhost))?,
        queues: list(&document, "queues", |it| read_queue(it, vhost))?,
        logs: list(&document, "trivium_logs", |it| read_log(it, vhost))?,
        bindings: list(&document, "bindings", |it| read_binding(it, vhost))?,
        client_quotas: list(&document, "trivium_client_quotas", quotas::read)?,
    };
    let parameters = list(&document, "parameters", |it| {
        Ok((
            it.required("component")?,
            in_vhost(it, vhost)?,
            it.required("name")?,
            value(it)?,
        ))
    })?;
    for (component, vhost, name, value) in parameters {
        if component == OPERATOR_POLICY {
            let policy = Object::new(value)
                .and_then(|it| read_policy(&it, vhost, name.clone(), true))
                .map_err(|why| format!("operator policy '{name}': {why}"))?;
            all.policies.push(policy);
        } else {
            all.parameters.push(ParameterDefinition {
                vhost: Some(vhost),
                component,
                name,
                value: to_value(value),
            });
        }
    }
    let global = list(&document, "global_parameters", |it| {
        Ok(ParameterDefinition {
            vhost: None,
            component: Text::new(),
            name: it.required("name")?,
            value: to_value(value(it)?),
        })
    })?;
    all.parameters.extend(global);
    Ok(all)
}

fn list<'d, T>(
    document: &Object<'d>,
    name: &str,
    read: impl Fn(&Object<'d>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let items = document.list(name)?.iter().enumerate();
    items
        .map(|(at, item)| {
            Object::new(item)
                .and_then(|item| read(&item))
                .map_err(|why| format!("{name}[{at}]: {why}"))
        })
        .collect()
}

fn value<'d>(it: &Object<'d>) -> Result<&'d JsonValue, String> {
    it.get("value").ok_or_else(|| "value is missing".to_owned())
}

fn in_vhost(it: &Object<'_>, vhost: Option<&str>) -> Result<Text, String> {
    match it.text("vhost")? {
        Some(vhost) => Ok(vhost),
        None => vhost
            .map(Text::from)
            .ok_or_else(|| "vhost is missing".to_owned()),
    }
}

/// Brokers before 3.6 hashed with MD5 and did not say so.
fn is_before_3_6(document: &Object<'_>) -> bool {
    let version = document.text("rabbit_version").ok().flatten();
    let Some(version) = version else { return false };
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < (3, 6),
        _ => false,
    }
}

/// A user, in a document or put on its own. Without a password or hash, an existing one stays.
pub(super) fn read_user(it: &Object<'_>, old: bool) -> Result<UserDefinition, String> {
    let name = it.required("name")?;
    let password = match (it.text("password")?, it.text("password_hash")?) {
        (Some(password), _) if !password.is_empty() => Password::Plain(password.as_bytes().clone()),
        (_, Some(hash)) if hash.is_empty() => Password::None,
        (_, Some(hash)) => Password::Hashed(read_hash(&hash, it, old)?),
        (Some(_), None) => Password::None,
        (None, None) => Password::Unchanged,
    };
    let limits = match it.get("limits") {
        None => None,
        Some(JsonValue::Array(items)) if items.is_empty() => Some(Vec::new()),
        Some(limits) => Some(read_limits(limits)?),
    };
    Ok(UserDefinition {
        name,
        password,
        tags: it.tags("tags")?,
        limits,
    })
}

fn read_hash(hash: &str, it: &Object<'_>, old: bool) -> Result<PasswordHash, String> {
    let algorithm = match it.text("hashing_algorithm")? {
        None if old => HashAlgorithm::Md5,
        None => HashAlgorithm::default(),
        Some(name) => HashAlgorithm::named(&name)
            .ok_or_else(|| format!("unknown hashing algorithm '{name}'"))?,
    };
    let salted = STANDARD
        .decode(hash)
        .map_err(|error| format!("password_hash is not base64: {error}"))?;
    PasswordHash::new(algorithm, salted.into())
        .ok_or_else(|| format!("password_hash has not the length of {}", algorithm.name()))
}

pub(super) fn read_limits(limits: &JsonValue) -> Result<Vec<(Text, i64)>, String> {
    let limits = limits.as_object().ok_or("limits: expected an object")?;
    limits
        .iter()
        .map(|(name, value)| {
            let number = value
                .as_i64()
                .ok_or_else(|| format!("{name}: expected a whole number"))?;
            Ok((name.as_str().into(), number))
        })
        .collect()
}

/// A vhost; what `metadata` says counts before what is said beside it.
pub(super) fn read_vhost(it: &Object<'_>, name: Text) -> Result<VhostDefinition, String> {
    let metadata = it.get("metadata").map(Object::new).transpose()?;
    let text = |name| match metadata.as_ref().and_then(|it| it.text(name).transpose()) {
        Some(found) => found.map(Some),
        None => it.text(name),
    };
    let tags = match metadata.as_ref().filter(|it| it.get("tags").is_some()) {
        Some(metadata) => metadata.tags("tags")?,
        None => it.tags("tags")?,
    };
    let kind = match text("default_queue_type")? {
        Some(kind) => Some(kind),
        None => it.text("defaultqueuetype")?,
    };
    Ok(VhostDefinition {
        name,
        description: text("description")?.unwrap_or_default(),
        tags,
        default_queue_type: kind
            .filter(|kind| kind != "undefined" && !kind.is_empty())
            .map(|kind| kind_name(&kind)),
    })
}

/// RabbitMQ also takes its modules' names.
fn kind_name(kind: &str) -> Text {
    kind.trim_start_matches("rabbit_")
        .trim_end_matches("_queue")
        .into()
}

fn read_permission(it: &Object<'_>, vhost: Option<&str>) -> Result<PermissionDefinition, String> {
    Ok(PermissionDefinition {
        vhost: in_vhost(it, vhost)?,
        user: it.required("user")?,
        permission: read_patterns(it)?,
    })
}

pub(super) fn read_patterns(it: &Object<'_>) -> Result<Permission, String> {
    Ok(Permission {
        configure: it.required("configure")?,
        write: it.required("write")?,
        read: it.required("read")?,
    })
}

pub(super) fn read_topic_permission(
    it: &Object<'_>,
    vhost: Option<&str>,
) -> Result<TopicPermissionDefinition, String> {
    Ok(TopicPermissionDefinition {
        vhost: in_vhost(it, vhost)?,
        user: it.required("user")?,
        exchange: it.required("exchange")?,
        permission: TopicPermission {
            write: it.required("write")?,
            read: it.required("read")?,
        },
    })
}

pub(super) fn read_policy(
    it: &Object<'_>,
    vhost: Text,
    name: Text,
    operator: bool,
) -> Result<PolicyDefinition, String> {
    Ok(PolicyDefinition {
        vhost,
        name,
        operator,
        pattern: it.required("pattern")?,
        apply_to: it
            .text("apply-to")?
            .unwrap_or_else(|| Text::from_static(if operator { "queues" } else { "all" })),
        priority: it.number("priority")?.unwrap_or_default(),
        definition: it.table("definition")?,
    })
}

fn read_exchange(it: &Object<'_>, vhost: Option<&str>) -> Result<ExchangeDefinition, String> {
    let kind = it.required("type")?;
    Ok(ExchangeDefinition {
        vhost: in_vhost(it, vhost)?,
        name: it.required("name")?,
        spec: ExchangeSpec {
            kind: ExchangeKind::named(&kind)
                .ok_or_else(|| format!("unknown exchange type '{kind}'"))?,
            durable: it.flag("durable")?,
            auto_delete: it.flag("auto_delete")?,
            internal: it.flag("internal")?,
            arguments: it.table("arguments")?,
        },
    })
}

pub(super) fn read_queue(it: &Object<'_>, vhost: Option<&str>) -> Result<QueueDefinition, String> {
    let mut arguments = it.table("arguments")?;
    let declared = arguments.iter().any(|(name, _)| name == "x-queue-type");
    if let Some(kind) = it.text("type")?.filter(|_| !declared) {
        arguments.push((Text::from_static("x-queue-type"), Value::Text(kind)));
    }
    Ok(QueueDefinition {
        vhost: in_vhost(it, vhost)?,
        name: it.required("name")?,
        spec: QueueSpec {
            durable: it.flag("durable")?,
            auto_delete: it.flag("auto_delete")?,
            arguments,
            ..QueueSpec::default()
        },
    })
}

fn read_log(it: &Object<'_>, vhost: Option<&str>) -> Result<LogDefinition, String> {
    let settings = it.table("settings")?.into_iter();
    let settings = settings.map(|(name, value)| match value {
        Value::Text(text) => Ok((name, text)),
        _ => Err(format!("settings.{name}: expected a string")),
    });
    let partitions = it.number("partitions")?.unwrap_or(1);
    Ok(LogDefinition {
        vhost: in_vhost(it, vhost)?,
        name: it.required("name")?,
        spec: LogSpec {
            partitions: u32::try_from(partitions)
                .map_err(|_| "partitions is out of range".to_owned())?,
            settings: settings.collect::<Result<_, String>>()?,
        },
    })
}

fn read_binding(it: &Object<'_>, vhost: Option<&str>) -> Result<BindingDefinition, String> {
    let name = it.required("destination")?;
    let destination = match it.text("destination_type")?.as_deref() {
        Some("exchange") => Destination::Exchange(name),
        Some("queue") | None => Destination::Queue(name),
        Some(other) => return Err(format!("unknown destination_type '{other}'")),
    };
    Ok(BindingDefinition {
        vhost: in_vhost(it, vhost)?,
        binding: Binding {
            source: it.required("source")?,
            destination,
            key: it.text("routing_key")?.unwrap_or_default(),
            grammar: Grammar::Dots,
            arguments: it.table("arguments")?,
            subscription: None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RabbitMQ 3 and 4 write them: tags as a string or a list, metadata or not, operator policies as parameters.
    const DOCUMENT: &str = r#"{
        "rabbit_version": "3.12.1",
        "users": [
            {"name": "ada", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
             "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "administrator,management",
             "limits": {"max-connections": 5}},
            {"name": "x509", "password_hash": "", "tags": ["monitoring"]}
        ],
        "vhosts": [{"name": "shop", "metadata": {"description": "d", "tags": ["t"], "default_queue_type": "quorum"}}],
        "permissions": [{"user": "ada", "vhost": "shop", "configure": ".*", "write": "^q", "read": ""}],
        "topic_permissions": [{"user": "ada", "vhost": "shop", "exchange": "amq.topic", "write": "a", "read": "b"}],
        "parameters": [
            {"vhost": "shop", "component": "operator_policy", "name": "cap",
             "value": {"pattern": ".*", "apply-to": "queues", "priority": 1, "definition": {"max-length": 10}}},
            {"vhost": "shop", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 7}}
        ],
        "global_parameters": [{"name": "cluster_name", "value": "rabbit@here"}],
        "policies": [{"vhost": "shop", "name": "p", "pattern": "^q", "apply-to": "queues", "priority": 2,
                      "definition": {"message-ttl": 1000, "dead-letter-exchange": "dlx"}}],
        "queues": [{"name": "q", "vhost": "shop", "durable": true, "auto_delete": false,
                    "arguments": {"x-queue-type": "quorum", "x-max-length": 3}}],
        "exchanges": [{"name": "x", "vhost": "shop", "type": "x-consistent-hash", "durable": true,
                       "auto_delete": false, "internal": false, "arguments": {"hash-header": "h"}}],
        "bindings": [{"source": "x", "vhost": "shop", "destination": "q", "destination_type": "queue",
                      "routing_key": "2", "arguments": {}}]
    }"#;

    #[test]
    fn what_is_written_is_what_was_read() {
        let all = read(DOCUMENT.as_bytes(), None).unwrap();
        assert_eq!(all.users[0].tags.len(), 2);
        assert_eq!(all.users[1].password, Password::None);
        assert_eq!(all.vhosts[0].default_queue_type.as_deref(), Some("quorum"));
        assert!(all.policies.iter().any(|policy| policy.operator));
        assert_eq!(all.parameters.len(), 2);
        let written = serde_json::to_vec(&write(&all)).unwrap();
        let mut again = read(&written, None).unwrap();
        // Limits that nobody set are written as none.
        again.users[1].limits = None;
        assert_eq!(again, all);
    }

    #[test]
    fn hashes_of_old_brokers_are_md5() {
        let document = |version| {
            format!(
                r#"{{"rabbit_version": "{version}", "users": [{{"name": "a", "tags": "",
                    "password_hash": "AQIDBAAAAAAAAAAAAAAAAAAAAAA="}}]}}"#
            )
        };
        assert!(read(document("3.5.7").as_bytes(), None).is_ok());
        let refused = read(document("3.6.0").as_bytes(), None).unwrap_err();
        assert!(refused.starts_with("users[0]: password_hash"), "{refused}");
    }

    #[test]
    fn an_error_says_where_it_is() {
        let why = |document: &str| read(document.as_bytes(), None).unwrap_err();
        assert!(why("[]").contains("object"));
        assert!(why("{").starts_with("not JSON"));
        assert_eq!(why(r#"{"queues": {}}"#), "queues: expected a list");
        assert_eq!(
            why(r#"{"queues": [{"name": "q"}]}"#),
            "queues[0]: vhost is missing"
        );
        let exchange = r#"{"exchanges": [{"name": "x", "vhost": "/", "type": "nosuch"}]}"#;
        assert_eq!(
            why(exchange),
            "exchanges[0]: unknown exchange type 'nosuch'"
        );
    }

    #[test]
    fn a_document_of_a_vhost_names_none() {
        let document = r#"{"queues": [{"name": "q", "durable": true}]}"#;
        let all = read(document.as_bytes(), Some("shop")).unwrap();
        assert_eq!(all.queues[0].vhost, "shop");
    }
}
