//! DescribeClientQuotas and AlterClientQuotas: what is set, for users, client ids and addresses. What it means for the
//! requests of a client is in [`crate::throttle`].

use std::net::IpAddr;

use trivium_core::{
    Change, Command, QuotaEntity, QuotaKind, QuotaName, QuotaValues, Refusal, Reply, Text,
};

use crate::{
    call::{Answer, Call, Job, Step},
    error::ErrorCode,
    messages::quotas::*,
};

const USER: &str = "user";
const CLIENT: &str = "client-id";
const IP: &str = "ip";

/// How a filter matches the name of an entity.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

type Fault = (ErrorCode, String);

/// Quotas being looked for.
struct Describing {
    request: DescribeClientQuotasRequest,
}

pub(crate) fn describe(request: DescribeClientQuotasRequest, call: &mut Call<'_>) -> Step {
    match check(&request.components) {
        Ok(()) => {
            call.submit(0, |token| Command::ListClientQuotas { token });
            Step::Wait(Box::new(Describing { request }))
        }
        Err(fault) => call.respond(&refused(fault)),
    }
}

fn refused((error_code, text): Fault) -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse {
        error_code,
        error_message: Some(text.into()),
        entries: None,
        ..Default::default()
    }
}

/// As Kafka's `ClientQuotasImage.describe` has it.
fn check(components: &[QuotaFilter]) -> Result<(), Fault> {
    let invalid = |text: String| Err((ErrorCode::INVALID_REQUEST, text));
    for (at, component) in components.iter().enumerate() {
        let kind = &component.entity_type;
        if !matches!(&**kind, USER | CLIENT | IP) {
            if kind.is_empty() {
                return invalid("Invalid empty entity type.".into());
            }
            let text = format!("Unsupported entity type {kind}");
            return Err((ErrorCode::UNSUPPORTED_VERSION, text));
        }
        let same = |other: &QuotaFilter| other.entity_type == *kind;
        if components[..at].iter().any(same) {
            return invalid(format!(
                "Entity type {kind} cannot appear more than once in the filter."
            ));
        }
        match (component.match_type, &component.r#match) {
            (EXACT, Some(_)) | (DEFAULT | ANY, None) => {}
            (EXACT, None) => {
                return invalid(
                    "Request specified MATCH_TYPE_EXACT, but set match string to null.".into(),
                );
            }
            (how @ (DEFAULT | ANY), Some(_)) => {
                let how = if how == DEFAULT {
                    "DEFAULT"
                } else {
                    "SPECIFIED"
                };
                return invalid(format!(
                    "Request specified MATCH_TYPE_{how}, but also specified a match string."
                ));
            }
            (other, _) => return invalid(format!("Unknown match type {other}")),
        }
    }
    let has = |kind| components.iter().any(|it| it.entity_type == kind);
    if has(IP) && (has(USER) || has(CLIENT)) {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.".into(),
        );
    }
    Ok(())
}

impl Describing {
    fn matches(&self, entity: &QuotaEntity) -> bool {
        let part = |kind: &str| match kind {
            USER => entity.user.as_ref(),
            CLIENT => entity.client.as_ref(),
            _ => entity.address.as_ref(),
        };
        let fits = |filter: &QuotaFilter| match (part(&filter.entity_type), filter.match_type) {
            (None, _) => false,
            (Some(QuotaName::Of(name)), EXACT) => Some(name) == filter.r#match.as_ref(),
            (Some(name), DEFAULT) => *name == QuotaName::Default,
            (Some(_), kind) => kind == ANY,
        };
        let parts = [&entity.user, &entity.client, &entity.address];
        let parts = parts.into_iter().flatten().count();
        let components = &self.request.components;
        components.iter().all(fits) && (!self.request.strict || parts == components.len())
    }
}

impl Job for Describing {
    fn on_answer(self: Box<Self>, _part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let found = answer.reply(|reply| match reply {
            Reply::ClientQuotas(all) => Some(all),
            _ => None,
        });
        match found {
            Ok(mut all) => {
                all.retain(|(entity, _)| self.matches(entity));
                call.respond(&DescribeClientQuotasResponse {
                    error_message: Some(Text::new()),
                    entries: Some(all.into_iter().map(entry).collect()),
                    ..Default::default()
                })
            }
            Err(refusal) => call.respond(&refused((code(&refusal), refusal.to_string()))),
        }
    }
}

fn entry((entity, values): (QuotaEntity, QuotaValues)) -> QuotaEntry {
    let part = |kind: &'static str, name: Option<QuotaName>| {
        Some(EntityData {
            entity_type: Text::from_static(kind),
            entity_name: match name? {
                QuotaName::Of(name) => Some(name),
                QuotaName::Default => None,
            },
        })
    };
    let parts = [
        part(USER, entity.user),
        part(CLIENT, entity.client),
        part(IP, entity.address),
    ];
    let value = |(kind, value): (QuotaKind, f64)| QuotaValue {
        key: Text::from_static(kind.name()),
        value: value.into(),
    };
    QuotaEntry {
        entity: parts.into_iter().flatten().collect(),
        values: values.into_iter().map(value).collect(),
    }
}

/// Quotas being changed.
struct Altering {
    response: AlterClientQuotasResponse,
    left: usize,
}

pub(crate) fn alter(request: AlterClientQuotasRequest, call: &mut Call<'_>) -> Step {
    let mut job = Altering {
        response: AlterClientQuotasResponse::default(),
        left: 0,
    };
    for entry in request.entries {
        let named = in_order(entry.entity);
        let mut answered = job.response.entries.iter_mut();
        if let Some(same) = answered.find(|known| known.entity == named) {
            fail(same, duplicate(&named));
            continue;
        }
        let part = job.response.entries.len();
        let mut result = AlteredQuota::default();
        match entity(&named).and_then(|entity| Ok((entity, changes(&named, &entry.ops)?))) {
            Ok((entity, changes)) => {
                job.left += 1;
                let validate_only = request.validate_only;
                call.define(
                    part,
                    Change::AlterClientQuota {
                        entity,
                        changes,
                        validate_only,
                    },
                );
            }
            Err(fault) => fail(&mut result, fault),
        }
        result.entity = named;
        job.response.entries.push(result);
    }
    match job.left {
        0 => call.respond(&job.response),
        _ => Step::Wait(Box::new(job)),
    }
}

fn fail(result: &mut AlteredQuota, (code, text): Fault) {
    (result.error_code, result.error_message) = (code, Some(text.into()));
}

/// What an entity consists of, as Kafka lists it: each type once, of which the last counts.
fn in_order(parts: Vec<EntityData>) -> Vec<EntityData> {
    let mut ordered: Vec<EntityData> = Vec::with_capacity(parts.len());
    for part in parts {
        match ordered
            .iter_mut()
            .find(|it| it.entity_type == part.entity_type)
        {
            Some(known) => *known = part,
            None => ordered.push(part),
        }
    }
    let place = |part: &EntityData| {
        [CLIENT, USER, IP]
            .iter()
            .position(|it| part.entity_type == *it)
    };
    ordered.sort_by_key(place);
    ordered
}

/// What is changed twice in a request is not changed again.
fn duplicate(entity: &[EntityData]) -> Fault {
    let part = |part: &EntityData| {
        let name = part.entity_name.as_deref().unwrap_or("null");
        format!("{}={name}", part.entity_type)
    };
    let entries: Vec<_> = entity.iter().map(part).collect();
    let entries = entries.join(", ");
    let text = format!("Ignoring duplicate entity ClientQuotaEntity(entries={{{entries}}})");
    (ErrorCode::INVALID_REQUEST, text)
}

fn entity(parts: &[EntityData]) -> Result<QuotaEntity, Fault> {
    let invalid = |text: String| (ErrorCode::INVALID_REQUEST, text);
    let mut entity = QuotaEntity::default();
    for EntityData {
        entity_type,
        entity_name,
    } in parts
    {
        let slot = match &**entity_type {
            USER => &mut entity.user,
            CLIENT => &mut entity.client,
            IP => &mut entity.address,
            other => {
                return Err(invalid(format!(
                    "Unhandled client quota entity type: {other}"
                )));
            }
        };
        let name = match entity_name {
            Some(name) if name.is_empty() => {
                return Err(invalid(format!("Empty {entity_type} not supported")));
            }
            Some(name) if &**entity_type == IP => {
                QuotaName::Of(address(name).ok_or_else(|| {
                    invalid(format!("{name} is not a valid IP or resolvable host."))
                })?)
            }
            Some(name) => QuotaName::Of(name.clone()),
            None => QuotaName::Default,
        };
        *slot = Some(name);
    }
    Ok(entity)
}

/// An address in the form in which connections have it. Names of hosts are not looked up.
fn address(text: &str) -> Option<Text> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical().to_string().into())
}

fn changes(entity: &[EntityData], ops: &[QuotaOp]) -> Result<Vec<(QuotaKind, Option<f64>)>, Fault> {
    let invalid = |text: String| (ErrorCode::INVALID_REQUEST, text);
    let mut changes: Vec<(QuotaKind, Option<f64>)> = Vec::new();
    for QuotaOp { key, value, remove } in ops {
        let Some(kind) = QuotaKind::named(key) else {
            match remove {
                // What there is not is not set.
                true => continue,
                false => return Err(invalid(format!("Invalid configuration key {key}"))),
            }
        };
        if changes.iter().any(|(known, _)| *known == kind) {
            return Err(duplicate(entity));
        }
        let value = value.get();
        if !remove {
            whole(kind, value).map_err(invalid)?;
        }
        changes.push((kind, (!remove).then_some(value)));
    }
    Ok(changes)
}

/// So near to a whole number a value counts as one.
const WHOLE_WITHIN: f64 = 1e-6;

/// Refuses a fraction, and what is too large, of limits that are whole numbers to Kafka.
fn whole(kind: QuotaKind, value: f64) -> Result<(), String> {
    let (most, kind_of_number) = match kind {
        QuotaKind::Produce | QuotaKind::Consume => (i64::MAX as f64, "a LONG"),
        QuotaKind::Connect => (f64::from(i32::MAX), "an INT"),
        QuotaKind::Request | QuotaKind::Mutation => return Ok(()),
    };
    let key = kind.name();
    if value > most {
        return Err(format!(
            "Proposed value for {key} is too large for {kind_of_number}."
        ));
    }
    match (value - value.round()).abs() <= WHOLE_WITHIN {
        true => Ok(()),
        false => Err(format!("{key} cannot be a fractional value.")),
    }
}

fn code(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::Denied(_) => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        refusal => ErrorCode::from(refusal),
    }
}

impl Job for Altering {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        if let Err(refusal) = answer.reply(Some)
            && let Some(result) = self.response.entries.get_mut(part)
        {
            fail(result, (code(&refusal), refusal.to_string()));
        }
        self.left -= 1;
        match self.left {
            0 => call.respond(&self.response),
            _ => Step::Wait(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ApiKey, script::Script};

    fn part(kind: &'static str, name: Option<&'static str>) -> EntityData {
        EntityData {
            entity_type: kind.into(),
            entity_name: name.map(Text::from_static),
        }
    }

    fn op(key: &'static str, value: f64, remove: bool) -> QuotaOp {
        QuotaOp {
            key: key.into(),
            value: value.into(),
            remove,
        }
    }

    fn alter(script: &mut Script, entity: Vec<EntityData>, ops: Vec<QuotaOp>) {
        let entries = vec![AlterQuotaEntry { entity, ops }];
        let request = AlterClientQuotasRequest {
            entries,
            validate_only: false,
        };
        script.send(ApiKey::AlterClientQuotas, 1, &request);
    }

    #[test]
    fn a_change_becomes_a_definition() {
        let mut script = Script::open();
        let entity = vec![part(USER, Some("u")), part(CLIENT, None)];
        let ops = vec![
            op("producer_byte_rate", 1000.0, false),
            op("consumer_byte_rate", 0.0, true),
        ];
        alter(&mut script, entity, ops);
        let token = script.command(|command| match command {
            Command::Define {
                token,
                change:
                    Change::AlterClientQuota {
                        entity,
                        changes,
                        validate_only: false,
                    },
            } => {
                assert_eq!(entity.user, Some(QuotaName::Of("u".into())));
                assert_eq!(entity.client, Some(QuotaName::Default));
                let expected = [
                    (QuotaKind::Produce, Some(1000.0)),
                    (QuotaKind::Consume, None),
                ];
                assert_eq!(changes, expected);
                Some(token)
            }
            _ => None,
        });
        script.done(token, Err(Refusal::Denied("no".into())));
        let response: AlterClientQuotasResponse = script.response(ApiKey::AlterClientQuotas, 1);
        assert_eq!(
            response.entries[0].error_code,
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        );
        assert_eq!(response.entries[0].entity.len(), 2);
    }

    #[test]
    fn what_cannot_be_set_is_an_invalid_request() {
        let rate = || vec![op("producer_byte_rate", 5.0, false)];
        let user = || vec![part(USER, Some("u"))];
        let bad = [
            (
                vec![part(IP, Some("localhost"))],
                vec![op("connection_creation_rate", 5.0, false)],
            ),
            (
                vec![part(IP, None)],
                vec![op("connection_creation_rate", 5.5, false)],
            ),
            (vec![part("group", Some("g"))], rate()),
            (vec![part(USER, Some(""))], rate()),
            (user(), vec![op("bytes", 5.0, false)]),
            (user(), vec![op("producer_byte_rate", 5.5, false)]),
            (user(), [rate(), rate()].concat()),
        ];
        for (entity, ops) in bad {
            let mut script = Script::open();
            alter(&mut script, entity, ops);
            let response: AlterClientQuotasResponse = script.response(ApiKey::AlterClientQuotas, 1);
            assert_eq!(response.entries[0].error_code, ErrorCode::INVALID_REQUEST);
        }
    }

    fn found(components: Vec<QuotaFilter>, strict: bool) -> Vec<Vec<EntityData>> {
        let of = |name: &'static str| Some(QuotaName::Of(name.into()));
        let default = || Some(QuotaName::Default);
        let all = [
            (of("a"), None),
            (of("a"), of("c")),
            (default(), None),
            (None, of("c")),
        ];
        let all = all.map(|(user, client)| {
            let values = vec![(QuotaKind::Produce, 1.0)];
            let entity = QuotaEntity {
                user,
                client,
                address: None,
            };
            (entity, values)
        });
        let mut script = Script::open();
        let request = DescribeClientQuotasRequest { components, strict };
        script.send(ApiKey::DescribeClientQuotas, 1, &request);
        let token = script.command(|command| match command {
            Command::ListClientQuotas { token } => Some(token),
            _ => None,
        });
        script.done(token, Ok(Reply::ClientQuotas(all.into())));
        let response: DescribeClientQuotasResponse =
            script.response(ApiKey::DescribeClientQuotas, 1);
        let entries = response.entries.unwrap().into_iter();
        entries.map(|entry| entry.entity).collect()
    }

    fn filter(kind: &'static str, match_type: i8, name: Option<&'static str>) -> QuotaFilter {
        QuotaFilter {
            entity_type: kind.into(),
            match_type,
            r#match: name.map(Text::from_static),
        }
    }

    #[test]
    fn filters_choose_by_name_default_and_presence() {
        let user_a = || vec![part(USER, Some("a"))];
        let both = || vec![part(USER, Some("a")), part(CLIENT, Some("c"))];
        assert_eq!(found(vec![], false).len(), 4);
        assert_eq!(found(vec![], true).len(), 0);
        let exact = || vec![filter(USER, EXACT, Some("a"))];
        assert_eq!(found(exact(), false), [user_a(), both()]);
        assert_eq!(found(exact(), true), [user_a()]);
        let default = vec![filter(USER, DEFAULT, None)];
        assert_eq!(found(default, false), [vec![part(USER, None)]]);
        assert_eq!(found(vec![filter(CLIENT, ANY, None)], false).len(), 2);
        assert!(found(vec![filter(IP, ANY, None)], false).is_empty());
    }

    #[test]
    fn filters_that_make_no_sense_are_refused() {
        let bad = [
            vec![filter(USER, EXACT, None)],
            vec![filter(USER, ANY, Some("a"))],
            vec![filter(USER, 7, None)],
            vec![filter(USER, ANY, None), filter(USER, DEFAULT, None)],
            vec![filter(USER, ANY, None), filter(IP, ANY, None)],
        ];
        for components in bad {
            let mut script = Script::open();
            let request = DescribeClientQuotasRequest {
                components,
                strict: false,
            };
            script.send(ApiKey::DescribeClientQuotas, 0, &request);
            let response: DescribeClientQuotasResponse =
                script.response(ApiKey::DescribeClientQuotas, 0);
            assert_eq!(response.error_code, ErrorCode::INVALID_REQUEST);
            assert_eq!(response.entries, None);
        }
    }
}
