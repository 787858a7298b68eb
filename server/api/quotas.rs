//! Quotas of clients in documents of definitions.
//!
//! ```text
//! {"user": NAME, "client-id": NAME, "ip": ADDRESS, "limits": {"producer_byte_rate": 1000.0, …}}
//! ```
//! Who is not named is not in it; `<default>` is whoever has no quota by name, as Kafka's tools write it.

use serde_json::{Value as Json, json};
use trivium_core::{ClientQuotaDefinition, QuotaEntity, QuotaKind, QuotaName, Text};

use super::json::Object;

const DEFAULT: &str = "<default>";

pub(super) fn write(quota: &ClientQuotaDefinition) -> Json {
    let limits = quota.limits.iter();
    let limits = limits.map(|(kind, limit)| (kind.name().to_owned(), Json::from(*limit)));
    let mut written = json!({ "limits": Json::Object(limits.collect()) });
    let QuotaEntity {
        user,
        client,
        address,
    } = &quota.entity;
    for (key, name) in [("user", user), ("client-id", client), ("ip", address)] {
        match name {
            Some(QuotaName::Of(name)) => written[key] = (**name).into(),
            Some(QuotaName::Default) => written[key] = DEFAULT.into(),
            None => {}
        }
    }
    written
}

pub(super) fn read(it: &Object<'_>) -> Result<ClientQuotaDefinition, String> {
    let name = |key| {
        let name = |name: Text| match &*name {
            DEFAULT => QuotaName::Default,
            _ => QuotaName::Of(name),
        };
        Ok::<_, String>(it.text(key)?.map(name))
    };
    let entity = QuotaEntity {
        user: name("user")?,
        client: name("client-id")?,
        address: name("ip")?,
    };
    let limits = it.get("limits").and_then(Json::as_object);
    let limits = limits.ok_or("limits must be an object")?.iter();
    let limit = |(name, limit): (&String, &Json)| {
        let kind = QuotaKind::named(name).ok_or_else(|| format!("unknown limit '{name}'"))?;
        let limit = limit.as_f64();
        Ok((
            kind,
            limit.ok_or_else(|| format!("{name} must be a number"))?,
        ))
    };
    Ok(ClientQuotaDefinition {
        entity,
        limits: limits.map(limit).collect::<Result<_, String>>()?,
    })
}
