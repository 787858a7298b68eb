//! AlterConfigs and IncrementalAlterConfigs: the settings of topics and groups, changed while they are in use.

use rustc_hash::FxHashMap;
use trivium_core::{
    Change, LogInfo, LogSpec, Refusal, Text,
    group::{GroupBounds, GroupRequest},
};

use crate::{
    call::{Answer, Call, Job, Step},
    config,
    error::ErrorCode,
    group_config,
    messages::configs::*,
    serve::{
        configs::{CLIENT_METRICS, GROUP},
        groups::{answer_of, ask},
        logs,
        topics::refused,
    },
    topics::{illegal, is_internal, is_legal},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

type Fault = (ErrorCode, String);

/// How a setting changes (KIP-339).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Operation {
    fn from_wire(number: i8) -> Option<Operation> {
        match number {
            0 => Some(Operation::Set),
            1 => Some(Operation::Delete),
            2 => Some(Operation::Append),
            3 => Some(Operation::Subtract),
            _ => None,
        }
    }
}

/// What a request does to one resource.
struct Resource {
    response: AlterConfigsResourceResponse,
    /// Settings that are not mentioned go back to their defaults.
    replaces: bool,
    changes: Vec<(Text, Operation, Option<Text>)>,
}

/// A request whose topics are looked up, then changed.
struct Altering {
    resources: Vec<Resource>,
    validate_only: bool,
    left: usize,
    incremental: bool,
}

pub(crate) fn replace(request: AlterConfigsRequest, call: &mut Call<'_>) -> Step {
    let resources = request.resources.into_iter().map(|resource| {
        let changes = resource.configs.into_iter();
        let changes = changes
            .map(|config| (config.name, Operation::Set, config.value))
            .collect();
        Resource {
            response: answer(resource.resource_type, resource.resource_name),
            replaces: true,
            changes,
        }
    });
    Altering::start(resources.collect(), request.validate_only, false, call)
}

pub(crate) fn change(request: IncrementalAlterConfigsRequest, call: &mut Call<'_>) -> Step {
    let resources = request.resources.into_iter().map(|resource| {
        let mut response = answer(resource.resource_type, resource.resource_name);
        let mut changes = Vec::with_capacity(resource.configs.len());
        for config in resource.configs {
            match Operation::from_wire(config.config_operation) {
                Some(operation) => changes.push((config.name, operation, config.value)),
                // Only a broker looks at what is for itself; a controller has nothing to say to this.
                None if resource.resource_type == BROKER => {
                    let text = format!("Unknown operations type {}", config.config_operation);
                    fail(&mut response, (ErrorCode::INVALID_REQUEST, text));
                }
                None => response.error_code = ErrorCode::UNKNOWN_SERVER_ERROR,
            }
        }
        Resource {
            response,
            replaces: false,
            changes,
        }
    });
    Altering::start(resources.collect(), request.validate_only, true, call)
}

fn answer(resource_type: i8, resource_name: Text) -> AlterConfigsResourceResponse {
    AlterConfigsResourceResponse {
        resource_type,
        resource_name,
        ..Default::default()
    }
}

fn fail(response: &mut AlterConfigsResourceResponse, (code, text): Fault) {
    (response.error_code, response.error_message) = (code, Some(text.into()));
}

impl Altering {
    fn start(
        mut resources: Vec<Resource>,
        validate_only: bool,
        incremental: bool,
        call: &mut Call<'_>,
    ) -> Step {
        let mut entries = FxHashMap::default();
        for Resource { response, .. } in &resources {
            let key = (response.resource_type, response.resource_name.clone());
            *entries.entry(key).or_insert(0) += 1;
        }
        for resource in &mut resources {
            let response = &mut resource.response;
            let key = (response.resource_type, response.resource_name.clone());
            if entries[&key] > 1 {
                let text = "Each resource must appear at most once.";
                fail(response, (ErrorCode::INVALID_REQUEST, text.into()));
            } else if !response.error_code.is_err()
                && let Err(fault) = check_resource(
                    response.resource_type,
                    &response.resource_name,
                    &resource.changes,
                    call.session.options.node_id,
                )
            {
                fail(response, fault);
            }
        }
        let job = Altering {
            resources,
            validate_only,
            left: 0,
            incremental,
        };
        let topics: Vec<_> = job.open(TOPIC).map(|(_, topic)| topic).collect();
        if topics.is_empty() {
            return job.alter_groups(call);
        }
        call.describe(0, Some(topics));
        Step::Wait(Box::new(job))
    }

    /// The resources of a kind of which nothing wrong is known yet, and their places.
    fn open(&self, kind: i8) -> impl Iterator<Item = (usize, Text)> {
        let open = move |(at, resource): (usize, &Resource)| {
            let response = &resource.response;
            let is_open = response.resource_type == kind && !response.error_code.is_err();
            is_open.then(|| (at, response.resource_name.clone()))
        };
        self.resources.iter().enumerate().filter_map(open)
    }

    /// Hands the changes of groups to their coordinators.
    fn alter_groups(mut self, call: &mut Call<'_>) -> Step {
        let open: Vec<_> = self.open(GROUP).collect();
        for (at, name) in open {
            let resource = &mut self.resources[at];
            match group_settings(resource, &call.session.options.group_bounds) {
                Ok(settings) => {
                    self.left += 1;
                    let configure = GroupRequest::Configure {
                        settings,
                        replaces: resource.replaces,
                        validate_only: self.validate_only,
                    };
                    ask(at + 1, name, configure, call);
                }
                Err(fault) => fail(&mut resource.response, fault),
            }
        }
        match self.left {
            0 => self.respond(call),
            _ => Step::Wait(Box::new(self)),
        }
    }

    fn described(mut self, answer: Answer, call: &mut Call<'_>) -> Step {
        let open: Vec<_> = self.open(TOPIC).collect();
        let found = match logs(answer) {
            Ok(found) => found,
            Err(refusal) => open.iter().map(|_| Err(refusal.clone())).collect(),
        };
        for ((at, name), log) in open.into_iter().zip(found) {
            let resource = &mut self.resources[at];
            let settings = match log {
                Ok(log) => settings(resource, &log),
                Err(Refusal::NotFound { .. }) => Err(no_topic(&name)),
                Err(refusal) => Err((ErrorCode::from(&refusal), refusal.to_string())),
            };
            match settings {
                Ok(settings) => {
                    self.left += 1;
                    let validate_only = self.validate_only;
                    // Part 0 was the description.
                    call.define(
                        at + 1,
                        Change::AlterLog {
                            name,
                            settings,
                            validate_only,
                        },
                    );
                }
                Err(fault) => fail(&mut resource.response, fault),
            }
        }
        self.alter_groups(call)
    }

    fn respond(self, call: &Call<'_>) -> Step {
        let responses = self.resources.into_iter().map(|it| it.response).collect();
        match self.incremental {
            true => call.respond(&IncrementalAlterConfigsResponse {
                responses,
                ..Default::default()
            }),
            false => call.respond(&AlterConfigsResponse {
                responses,
                ..Default::default()
            }),
        }
    }
}

impl Job for Altering {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        let Some(at) = part.checked_sub(1) else {
            return self.described(answer, call);
        };
        if let Some(resource) = self.resources.get_mut(at) {
            let fault = match resource.response.resource_type {
                GROUP => {
                    let failure = answer_of(answer).err();
                    failure.map(|failure| (failure.code(), failure.text().to_string()))
                }
                _ => {
                    let refusal = answer.reply(Some).err();
                    refusal.map(|refusal| (refused(&refusal), refusal.to_string()))
                }
            };
            if let Some(fault) = fault {
                fail(&mut resource.response, fault);
            }
        }
        self.left -= 1;
        match self.left {
            0 => self.respond(call),
            _ => Step::Wait(self),
        }
    }
}

fn check_resource(
    kind: i8,
    name: &Text,
    changes: &[(Text, Operation, Option<Text>)],
    node: i32,
) -> Result<(), Fault> {
    let deletes = |change: &(Text, Operation, Option<Text>)| change.1 == Operation::Delete;
    match kind {
        TOPIC if name.is_empty() => Err((
            ErrorCode::INVALID_REQUEST,
            "Default topic resources are not allowed.".into(),
        )),
        TOPIC if !is_legal(name) => Err((ErrorCode::INVALID_TOPIC_EXCEPTION, illegal(name))),
        TOPIC if is_internal(name) => Err(no_topic(name)),
        TOPIC => Ok(()),
        // Nothing is set beside the configuration, so there is nothing to take back: what
        // `kafka-reassign-partitions --verify` does to throttles.
        BROKER => {
            let set = changes.iter().filter(|change| !deletes(change));
            let set: Vec<_> = set
                .map(|(name, ..)| name.escape_debug().to_string())
                .collect();
            let text = match name.parse::<i32>() {
                Err(_) if !name.is_empty() => {
                    let name = name.escape_debug();
                    format!("Node id must be an integer, but it is: {name}")
                }
                Ok(id) if id != node => {
                    format!("Unexpected broker id, expected {node}, but received {id}")
                }
                // They are in its configuration.
                _ if !set.is_empty() => {
                    format!(
                        "Cannot update these configs dynamically: [{}]",
                        set.join(", ")
                    )
                }
                _ => return Ok(()),
            };
            Err((ErrorCode::INVALID_REQUEST, text))
        }
        GROUP if name.is_empty() => Err((
            ErrorCode::INVALID_REQUEST,
            "Default group resources are not allowed.".into(),
        )),
        GROUP => Ok(()),
        CLIENT_METRICS if name.is_empty() => Err((
            ErrorCode::INVALID_REQUEST,
            "Subscription name can't be empty".into(),
        )),
        CLIENT_METRICS => Err((
            ErrorCode::INVALID_REQUEST,
            "clients' metrics are not collected here".into(),
        )),
        _ => Err((
            ErrorCode::INVALID_REQUEST,
            format!("Unknown resource type {kind}"),
        )),
    }
}

/// What a group's coordinator is to set and reset.
fn group_settings(
    resource: &Resource,
    bounds: &GroupBounds,
) -> Result<Vec<(Text, Option<Text>)>, Fault> {
    let mut settings: Vec<(Text, Option<Text>)> = Vec::new();
    for (name, operation, value) in &resource.changes {
        if settings.iter().any(|(it, _)| it == name) {
            let text = "Error due to duplicate config keys";
            return Err((ErrorCode::INVALID_REQUEST, text.into()));
        }
        let value = match (operation, value) {
            (Operation::Delete, _) => None,
            (_, None) => {
                let text = format!("Null value not supported for : {name}");
                return Err((ErrorCode::INVALID_REQUEST, text));
            }
            (Operation::Set, Some(value)) => Some(value.clone()),
            (Operation::Append | Operation::Subtract, Some(_)) => {
                return Err(not_a_list(*operation, name));
            }
        };
        group_config::check(name, value.as_ref(), bounds)
            .map_err(|text| (ErrorCode::INVALID_CONFIG, text))?;
        settings.push((name.clone(), value));
    }
    Ok(settings)
}

/// What the core is to set and reset.
fn settings(resource: &Resource, log: &LogInfo) -> Result<Vec<(Text, Option<Text>)>, Fault> {
    let mut settings: Vec<(Text, Option<Text>)> = Vec::new();
    if resource.replaces {
        // Where the topic meets other protocols is not among what Kafka's tools replace.
        let unmentioned = log.spec.settings.iter().filter(|(name, _)| {
            !name.starts_with("mq.") && resource.changes.iter().all(|(it, ..)| it != name)
        });
        settings.extend(unmentioned.map(|(name, _)| (name.clone(), None)));
    }
    for (at, (name, operation, value)) in resource.changes.iter().enumerate() {
        if resource.changes[..at].iter().any(|(it, ..)| it == name) {
            let text = "Error due to duplicate config keys";
            return Err((ErrorCode::INVALID_REQUEST, text.into()));
        }
        let value = changed(&log.spec, name, *operation, value.as_ref())?;
        let value = value.map(|value| config::checked(name, &value));
        let value = value
            .transpose()
            .map_err(|text| (ErrorCode::INVALID_CONFIG, text))?;
        // What there is not is not set.
        if value.is_some() || config::check_name(name).is_ok() {
            settings.push((name.clone(), value));
        }
    }
    config::check_together(&resulting(&log.spec, &settings))
        .map_err(|text| (ErrorCode::INVALID_CONFIG, text))?;
    Ok(settings)
}

/// The settings of a topic after a change.
fn resulting(spec: &LogSpec, changes: &[(Text, Option<Text>)]) -> Vec<(Text, Text)> {
    let is_changed = |name: &Text| changes.iter().any(|(it, _)| it == name);
    let kept = spec.settings.iter().filter(|(name, _)| !is_changed(name));
    let set = changes
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    kept.cloned().chain(set).collect()
}

fn no_topic(name: &Text) -> Fault {
    (
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        format!("The topic '{name}' does not exist."),
    )
}

fn not_a_list(operation: Operation, name: &Text) -> Fault {
    let operation = match operation {
        Operation::Append => "APPEND",
        _ => "SUBTRACT",
    };
    let name = name.escape_debug();
    (
        ErrorCode::INVALID_CONFIG,
        format!("Can't {operation} to key {name} because its type is not LIST."),
    )
}

/// The new value of a setting; none is its default.
fn changed(
    spec: &LogSpec,
    name: &Text,
    operation: Operation,
    value: Option<&Text>,
) -> Result<Option<Text>, Fault> {
    if operation == Operation::Delete {
        return Ok(None);
    }
    let Some(value) = value else {
        let text = format!("Null value not supported for : {name}");
        return Err((ErrorCode::INVALID_REQUEST, text));
    };
    if operation == Operation::Set {
        return Ok(Some(value.clone()));
    }
    if !config::is_list(name) {
        return Err(not_a_list(operation, name));
    }
    let given = spec.settings.iter().find(|(it, _)| it == name);
    let current = given.map_or(config::default(name), |(_, value)| &**value);
    let words = |list: &str| -> Vec<String> {
        let words = list.split(',').map(str::trim);
        words
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut list = words(current);
    for word in words(value) {
        match operation {
            Operation::Append if !list.contains(&word) => list.push(word),
            Operation::Subtract => list.retain(|it| *it != word),
            _ => {}
        }
    }
    Ok(Some(list.join(",").into()))
}

#[cfg(test)]
mod tests {
    use trivium_core::{Command, Reply, Token};

    use super::*;
    use crate::{
        api::ApiKey,
        script::{Script, log, not_found},
    };

    fn incremental(
        topic: &'static str,
        configs: &[(&'static str, i8, Option<&'static str>)],
    ) -> IncrementalAlterConfigsRequest {
        let configs = configs
            .iter()
            .map(|(name, operation, value)| IncrementalAlterableConfig {
                name: (*name).into(),
                config_operation: *operation,
                value: value.map(Text::from),
            });
        IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsResource {
                resource_type: TOPIC,
                resource_name: topic.into(),
                configs: configs.collect(),
            }],
            validate_only: false,
        }
    }

    type Settings = Vec<(Text, Option<Text>)>;

    fn altered(script: &mut Script) -> (Token, Settings) {
        script.command(|command| match command {
            Command::Define {
                token,
                change: Change::AlterLog { settings, .. },
            } => Some((token, settings)),
            _ => None,
        })
    }

    fn with(settings: &[(&'static str, &'static str)]) -> LogInfo {
        let mut log = log("ab", 1);
        let given = settings.iter();
        log.spec.settings = given
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        log
    }

    /// KIP-339: set, delete, append, subtract.
    #[test]
    fn settings_change_one_by_one() {
        for (operation, value, before, after) in [
            (0, Some("compact"), "delete", Some("compact")),
            (1, None, "compact", None),
            (2, Some("compact"), "delete", Some("delete,compact")),
            (2, Some("compact"), "compact", Some("compact")),
            (3, Some("delete"), "compact,delete", Some("compact")),
        ] {
            let mut script = Script::open();
            let request = incremental("ab", &[("cleanup.policy", operation, value)]);
            script.send(ApiKey::IncrementalAlterConfigs, 1, &request);
            script.describe(vec![Ok(with(&[("cleanup.policy", before)]))]);
            let (token, settings) = altered(&mut script);
            assert_eq!(
                settings,
                [("cleanup.policy".into(), after.map(Text::from))],
                "{operation}"
            );
            script.done(token, Ok(Reply::Logs(vec![Ok(log("ab", 1))])));
            let response: IncrementalAlterConfigsResponse =
                script.response(ApiKey::IncrementalAlterConfigs, 1);
            assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
        }
    }

    #[test]
    fn what_is_wrong_is_told_per_resource() {
        for (name, operation, value, code) in [
            ("retention.ms", 0, Some("x"), 40),
            ("retention.ms", 0, None, 42),
            ("retention.ms", 2, Some("1"), 40),
            ("retention.msx", 0, Some("1"), 40),
        ] {
            let mut script = Script::open();
            let request = incremental("ab", &[(name, operation, value)]);
            script.send(ApiKey::IncrementalAlterConfigs, 0, &request);
            script.describe(vec![Ok(with(&[]))]);
            let response: IncrementalAlterConfigsResponse =
                script.response(ApiKey::IncrementalAlterConfigs, 0);
            assert_eq!(response.responses[0].error_code, ErrorCode(code), "{name}");
        }
        let mut script = Script::open();
        let mut request = incremental("none", &[("retention.ms", 0, Some("1"))]);
        let mut broker = request.resources[0].clone();
        broker.resource_type = BROKER;
        request.resources.push(broker);
        script.send(ApiKey::IncrementalAlterConfigs, 0, &request);
        script.describe(vec![Err(not_found("none"))]);
        let response: IncrementalAlterConfigsResponse =
            script.response(ApiKey::IncrementalAlterConfigs, 0);
        let codes: Vec<_> = response
            .responses
            .iter()
            .map(|it| it.error_code.0)
            .collect();
        assert_eq!(codes, [3, 42]);
    }

    /// `kafka-reassign-partitions --verify` takes throttles back that nobody has set.
    #[test]
    fn of_the_broker_nothing_is_set_and_so_there_is_nothing_to_take_back() {
        for (operation, code) in [(1, 0), (0, 42)] {
            let mut script = Script::open();
            let throttle = ("leader.replication.throttled.rate", operation, Some("1"));
            let mut request = incremental("1", &[throttle]);
            request.resources[0].resource_type = BROKER;
            script.send(ApiKey::IncrementalAlterConfigs, 1, &request);
            let response: IncrementalAlterConfigsResponse =
                script.response(ApiKey::IncrementalAlterConfigs, 1);
            assert_eq!(response.responses[0].error_code, ErrorCode(code));
        }
    }

    /// AlterConfigs: what is not mentioned is reset, but not where the topic meets other protocols.
    #[test]
    fn all_settings_are_replaced() {
        let mut script = Script::open();
        let request = AlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC,
                resource_name: "ab".into(),
                configs: vec![AlterableConfig {
                    name: "segment.ms".into(),
                    value: Some("9".into()),
                }],
            }],
            validate_only: false,
        };
        script.send(ApiKey::AlterConfigs, 2, &request);
        let before = [
            ("retention.ms", "5"),
            ("segment.ms", "7"),
            ("mq.tap", "off"),
        ];
        script.describe(vec![Ok(with(&before))]);
        let (_, settings) = altered(&mut script);
        let expected = [
            ("retention.ms".into(), None),
            ("segment.ms".into(), Some("9".into())),
        ];
        assert_eq!(settings, expected);
    }
}
