//! DescribeConfigs: the settings of topics and groups, and of the broker as far as tools ask for them.

use rustc_hash::{FxHashMap, FxHashSet};
use trivium_core::{
    LogInfo, LogSpec, Refusal, Text,
    group::{GroupAnswer, GroupBounds, GroupRequest},
};

use crate::{
    Options,
    call::{Answer, Call, Job, Session, Step},
    config::{Kind, SETTINGS, Setting, broker_name},
    error::{ErrorCode, is_missing_log},
    group_config::{GROUP_SETTINGS, broker_names},
    messages::describe::*,
    serve::{
        groups::{answer_of, ask},
        logs, text,
    },
    topics::{illegal, is_legal},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;
/// Where a value comes from.
const FROM_TOPIC: i8 = 1;
/// Set for all brokers of a cluster while they run.
const FROM_CLUSTER: i8 = 3;
const FROM_BROKER: i8 = 4;
const FROM_DEFAULT: i8 = 5;
const FROM_GROUP: i8 = 8;
/// How long the offsets of a group without members are kept: seven days.
const OFFSETS_RETENTION_MINUTES: u32 = 10_080;

/// A setting in force.
pub(super) struct InForce {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) value: Text,
    pub(super) source: i8,
}

/// All settings of a topic.
pub(super) fn in_force(spec: &LogSpec, options: &Options) -> impl Iterator<Item = InForce> {
    SETTINGS.iter().map(|setting| {
        let given = spec.settings.iter().find(|(name, _)| name == setting.name);
        let (value, source) = match given {
            Some((_, value)) => (value.clone(), FROM_TOPIC),
            None => of_broker(setting, options)
                .unwrap_or((Text::from_static(setting.default), FROM_DEFAULT)),
        };
        InForce {
            name: setting.name,
            kind: setting.kind,
            value,
            source,
        }
    })
}

const MIN_INSYNC: &str = "min.insync.replicas";

/// The value that the broker's own configuration gives to topics, where it is not Kafka's default.
fn of_broker(setting: &Setting, options: &Options) -> Option<(Text, i8)> {
    let value = match setting.name {
        "max.message.bytes" => options.max_message_bytes.to_string(),
        // A cluster with eligible leader replicas (KIP-966) has this set, to the same.
        MIN_INSYNC => return Some((setting.default.into(), FROM_CLUSTER)),
        _ => return None,
    };
    (value != setting.default).then(|| (value.into(), FROM_BROKER))
}

/// Topics and groups being looked up.
struct Describing {
    request: DescribeConfigsRequest,
    topics: Option<Result<Vec<Result<LogInfo, Refusal>>, Refusal>>,
    /// By the place of the resource.
    groups: FxHashMap<usize, Described>,
    left: usize,
}

pub(crate) fn start(mut request: DescribeConfigsRequest, call: &mut Call<'_>) -> Step {
    // Each once: a short request must not make a long response.
    let mut seen = FxHashSet::default();
    request
        .resources
        .retain(|resource| seen.insert((resource.resource_type, resource.resource_name.clone())));
    let topics = request
        .resources
        .iter()
        .filter(|resource| is_topic(resource));
    let names = topics.map(|topic| topic.resource_name.clone()).collect();
    call.describe(0, Some(names));
    let mut left = 1;
    for (at, resource) in request.resources.iter().enumerate() {
        if resource.resource_type == GROUP && !resource.resource_name.is_empty() {
            let name = resource.resource_name.clone();
            ask(at + 1, name, GroupRequest::Settings, call);
            left += 1;
        }
    }
    Step::Wait(Box::new(Describing {
        request,
        topics: None,
        groups: FxHashMap::default(),
        left,
    }))
}

fn is_topic(resource: &DescribeConfigsResource) -> bool {
    resource.resource_type == TOPIC && is_legal(&resource.resource_name)
}

impl Job for Describing {
    fn on_answer(mut self: Box<Self>, part: usize, answer: Answer, call: &mut Call<'_>) -> Step {
        match part.checked_sub(1) {
            None => self.topics = Some(logs(answer)),
            Some(at) => {
                self.groups.insert(at, group(answer, &call.session.options));
            }
        }
        self.left -= 1;
        match self.left {
            0 => self.respond(call),
            _ => Step::Wait(self),
        }
    }
}

impl Describing {
    fn respond(self, call: &Call<'_>) -> Step {
        let Describing {
            request,
            topics,
            mut groups,
            ..
        } = self;
        let found = topics.unwrap_or(Ok(Vec::new()));
        let refusal = found.as_ref().err().cloned();
        let mut found = found.into_iter().flatten();
        let mut response = DescribeConfigsResponse::default();
        let invalid = |text: &'static str| Err((ErrorCode::INVALID_REQUEST, Some(text.into())));
        for (at, resource) in request.resources.into_iter().enumerate() {
            let described = match resource.resource_type {
                _ if is_topic(&resource) => {
                    topic(found.next(), refusal.as_ref(), &call.session.options)
                }
                TOPIC => Err((
                    ErrorCode::INVALID_TOPIC_EXCEPTION,
                    Some(illegal(&resource.resource_name).into()),
                )),
                BROKER => broker(&resource.resource_name, call.session),
                GROUP => groups
                    .remove(&at)
                    .unwrap_or_else(|| invalid("Group name must not be empty")),
                CLIENT_METRICS if resource.resource_name.is_empty() => {
                    invalid("Client metrics subscription name must not be empty")
                }
                CLIENT_METRICS => Ok(client_metrics()),
                _ => invalid(
                    "This most likely occurs because of a request being malformed by the client library or the \
                     message was sent to an incompatible broker. See the broker logs for more details.",
                ),
            };
            response
                .results
                .push(result(resource, described, request.include_synonyms));
        }
        call.respond(&response)
    }
}

/// The settings of a group.
fn group(answer: Answer, options: &Options) -> Described {
    let given = match answer_of(answer) {
        Ok(GroupAnswer::Settings(given)) => given,
        Ok(_) => return Err((ErrorCode::UNKNOWN_SERVER_ERROR, None)),
        Err(failure) => return Err((failure.code(), Some(failure.text()))),
    };
    let in_force = GROUP_SETTINGS.iter().map(|setting| {
        let own = given.iter().find(|(name, _)| name == setting.name);
        let (value, source) = match own {
            Some((_, value)) => (value.clone(), FROM_GROUP),
            None => {
                let bounds = options.group_bounds.of(setting.name);
                let default = bounds.map(|it| it.default.to_string().into());
                of_configuration(default, setting.default)
            }
        };
        row(setting.name, value, setting.kind(), source)
    });
    Ok(in_force.collect())
}

/// A value of the broker's configuration, and where it is from: not Kafka's default, or that.
fn of_configuration(value: Option<Text>, default: &'static str) -> (Text, i8) {
    match value {
        Some(value) if value != default => (value, FROM_BROKER),
        _ => (default.into(), FROM_DEFAULT),
    }
}

/// What the broker has of its own for the settings of groups: their defaults and bounds.
fn group_bounds(options: &Options) -> impl Iterator<Item = DescribeConfigsResourceResult> {
    let kafka = GroupBounds::default();
    let numbers = GROUP_SETTINGS.iter().filter_map(move |setting| {
        let bounds = options.group_bounds.of(setting.name)?;
        Some((setting, bounds, kafka.of(setting.name)?))
    });
    numbers.flat_map(|(setting, bounds, kafka)| {
        let values = [bounds.default, bounds.min, bounds.max];
        let kafka = [kafka.default, kafka.min, kafka.max];
        let rows = broker_names(setting.name)
            .into_iter()
            .zip(values)
            .zip(kafka);
        rows.map(|((name, value), default)| {
            let source = match value == default {
                true => FROM_DEFAULT,
                false => FROM_BROKER,
            };
            DescribeConfigsResourceResult {
                name: name.into(),
                ..row("", value.to_string().into(), setting.kind(), source)
            }
        })
    })
}

/// Nobody subscribes to clients' metrics here: every subscription has Kafka's defaults (KIP-714).
fn client_metrics() -> Vec<DescribeConfigsResourceResult> {
    vec![
        row("interval.ms", "300000".into(), Kind::Int(100), FROM_DEFAULT),
        row("match", "".into(), Kind::List, FROM_DEFAULT),
        row("metrics", "".into(), Kind::List, FROM_DEFAULT),
    ]
}

type Described = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, Option<Text>)>;

fn result(
    resource: DescribeConfigsResource,
    described: Described,
    synonyms: bool,
) -> DescribeConfigsResult {
    let (mut configs, (error_code, error_message)) = match described {
        // Kafka's brokers say nothing in an empty text.
        Ok(configs) => (configs, (ErrorCode::NONE, Some(Text::new()))),
        Err(error) => (Vec::new(), error),
    };
    let keys = resource.configuration_keys.as_ref();
    if let Some(keys) = keys.filter(|keys| !keys.is_empty()) {
        configs.retain(|config| keys.contains(&config.name));
    }
    if synonyms {
        for config in &mut configs {
            config.synonyms = synonyms_of(config, resource.resource_type);
        }
    }
    let DescribeConfigsResource {
        resource_type,
        resource_name,
        ..
    } = resource;
    DescribeConfigsResult {
        error_code,
        error_message,
        resource_type,
        resource_name,
        configs,
    }
}

/// Where a value could come from, the place that it comes from first.
fn synonyms_of(
    config: &DescribeConfigsResourceResult,
    resource_type: i8,
) -> Vec<DescribeConfigsSynonym> {
    let synonym = |name: Text, value: Option<Text>, source| DescribeConfigsSynonym {
        name,
        value,
        source,
    };
    let (name, value) = (config.name.clone(), config.value.clone());
    let of_broker: Option<(Text, Text)> = match resource_type {
        TOPIC => SETTINGS
            .iter()
            .find(|setting| name == setting.name)
            .and_then(|setting| Some((broker_name(&name)?.into(), setting.default.into()))),
        GROUP => GROUP_SETTINGS
            .iter()
            .find(|setting| name == setting.name)
            .filter(|setting| matches!(setting.kind(), Kind::Int(_)))
            .map(|setting| {
                let [broker, ..] = broker_names(setting.name);
                (broker.into(), setting.default.into())
            }),
        _ => None,
    };
    let own = [FROM_TOPIC, FROM_GROUP].contains(&config.config_source);
    match (own, of_broker) {
        (_, Some((broker, default))) if name == MIN_INSYNC => {
            let first = own.then(|| synonym(name, value, config.config_source));
            let others = [FROM_CLUSTER, FROM_DEFAULT];
            let others =
                others.map(|source| synonym(broker.clone(), Some(default.clone()), source));
            first.into_iter().chain(others).collect()
        }
        (true, of_broker) => {
            let of_broker = of_broker.map(|(name, value)| synonym(name, Some(value), FROM_DEFAULT));
            let first = synonym(name, value, config.config_source);
            std::iter::once(first).chain(of_broker).collect()
        }
        (false, Some((broker, _))) => vec![synonym(broker, value, config.config_source)],
        // What topics have from nowhere else has no synonym.
        (false, None) if resource_type == TOPIC && !name.starts_with("mq.") => Vec::new(),
        (false, None) => vec![synonym(name, value, config.config_source)],
    }
}

fn topic(
    log: Option<Result<LogInfo, Refusal>>,
    refusal: Option<&Refusal>,
    options: &Options,
) -> Described {
    if let Some(refusal) = refusal {
        return Err((ErrorCode::from(refusal), text(refusal)));
    }
    match log {
        Some(Ok(log)) => Ok(in_force(&log.spec, options)
            .map(|it| row(it.name, it.value, it.kind, it.source))
            .collect()),
        Some(Err(refusal)) if is_missing_log(&refusal) => {
            Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(Text::new())))
        }
        Some(Err(refusal)) => Err((ErrorCode::from(&refusal), text(&refusal))),
        None => Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None)),
    }
}

fn row(
    name: &'static str,
    value: Text,
    kind: Kind,
    config_source: i8,
) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: Text::from_static(name),
        value: Some(value),
        read_only: false,
        config_source,
        config_type: kind.code(),
        ..Default::default()
    }
}

/// What tools look at. The empty name stands for defaults of all brokers that are set while they run: there are none.
fn broker(name: &str, session: &Session) -> Described {
    let options = &session.options;
    let invalid = |text: String| Err((ErrorCode::INVALID_REQUEST, Some(text.into())));
    match name.parse::<i32>() {
        _ if name.is_empty() => return Ok(Vec::new()),
        Err(_) => {
            let name = name.escape_debug();
            return invalid(format!("Broker id must be an integer, but it is: {name}"));
        }
        Ok(id) if id != options.node_id => {
            let node = options.node_id;
            return invalid(format!(
                "Unexpected broker id, expected {node} or empty string, but received {id}"
            ));
        }
        Ok(_) => {}
    }
    let number = |value: &dyn ToString| -> Text { value.to_string().into() };
    let partitions = options.default_partitions;
    let (host, port) = session.advertised();
    let listeners = number(&format!("PLAINTEXT://{host}:{port}"));
    let mut rows = vec![
        row(
            "advertised.listeners",
            listeners.clone(),
            Kind::List,
            FROM_BROKER,
        ),
        row(
            "auto.create.topics.enable",
            number(&options.auto_create_topics),
            Kind::Boolean,
            FROM_BROKER,
        ),
        row(
            "default.replication.factor",
            "1".into(),
            Kind::Int(1),
            FROM_BROKER,
        ),
        row(
            "delete.topic.enable",
            "true".into(),
            Kind::Boolean,
            FROM_DEFAULT,
        ),
        row(
            "broker.id",
            number(&options.node_id),
            Kind::Int(0),
            FROM_BROKER,
        ),
        row(
            "log.cleanup.policy",
            "delete".into(),
            Kind::List,
            FROM_DEFAULT,
        ),
        row(
            "log.retention.hours",
            "168".into(),
            Kind::Int(1),
            FROM_DEFAULT,
        ),
        row(
            "log.segment.bytes",
            "1073741824".into(),
            Kind::Int(1),
            FROM_DEFAULT,
        ),
        row(
            "transaction.max.timeout.ms",
            "900000".into(),
            Kind::Int(1),
            FROM_DEFAULT,
        ),
        row("listeners", listeners, Kind::List, FROM_BROKER),
        row(
            "log.dirs",
            options.data_dir.clone(),
            Kind::Text,
            FROM_BROKER,
        ),
        row(
            "message.max.bytes",
            number(&options.max_message_bytes),
            Kind::Int(0),
            FROM_BROKER,
        ),
        row(
            "node.id",
            number(&options.node_id),
            Kind::Int(0),
            FROM_BROKER,
        ),
        row(
            "num.partitions",
            number(&partitions),
            Kind::Int(1),
            FROM_BROKER,
        ),
        row(
            "offsets.retention.minutes",
            number(&OFFSETS_RETENTION_MINUTES),
            Kind::Int(1),
            FROM_DEFAULT,
        ),
        row(
            "socket.request.max.bytes",
            number(&options.max_request_size),
            Kind::Int(1),
            FROM_BROKER,
        ),
    ];
    rows.extend(group_bounds(options));
    rows.iter_mut().for_each(|row| row.read_only = true);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use trivium_core::Command;

    use super::*;
    use crate::{
        api::ApiKey,
        messages::configs::*,
        script::{Script, log, not_found},
    };

    fn resource(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
        let keys = keys.map(|keys| keys.iter().map(|key| Text::from(*key)).collect());
        DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: keys,
        }
    }

    #[test]
    fn a_topic_has_all_settings_and_where_they_come_from() {
        for version in 1..=4 {
            let mut script = Script::open();
            let resources = vec![resource(TOPIC, "none", None), resource(TOPIC, "ab", None)];
            let request = DescribeConfigsRequest {
                resources,
                include_synonyms: true,
                ..Default::default()
            };
            script.send(ApiKey::DescribeConfigs, version, &request);
            let settings = vec![("cleanup.policy".into(), "compact".into())];
            let spec = LogSpec {
                partitions: 1,
                settings,
            };
            script.describe(vec![
                Err(not_found("none")),
                Ok(LogInfo {
                    spec,
                    ..log("ab", 1)
                }),
            ]);
            let response: DescribeConfigsResponse =
                script.response(ApiKey::DescribeConfigs, version);
            assert_eq!(
                response.results[0].error_code,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            );
            let configs = &response.results[1].configs;
            assert_eq!(configs.len(), SETTINGS.len());
            let find = |name: &str| configs.iter().find(|config| config.name == name).unwrap();
            assert_eq!(
                (
                    find("cleanup.policy").value.as_deref(),
                    find("cleanup.policy").config_source
                ),
                (Some("compact"), 1)
            );
            assert_eq!(
                (
                    find("retention.ms").value.as_deref(),
                    find("retention.ms").config_source
                ),
                (Some("604800000"), 5)
            );
            assert_eq!(find("retention.ms").synonyms, []);
            let synonyms = &find("cleanup.policy").synonyms;
            let synonyms: Vec<_> = synonyms.iter().map(|it| (&*it.name, it.source)).collect();
            assert_eq!(synonyms, [("cleanup.policy", 1), ("log.cleanup.policy", 5)]);
        }
    }

    #[test]
    fn only_what_is_asked_for_and_only_what_there_is() {
        let mut script = Script::open();
        let resources = vec![
            resource(BROKER, "1", Some(&["num.partitions", "nothing"])),
            resource(BROKER, "7", None),
            resource(8, "1", None),
            resource(TOPIC, "a/b", None),
        ];
        script.send(
            ApiKey::DescribeConfigs,
            4,
            &DescribeConfigsRequest {
                resources,
                ..Default::default()
            },
        );
        script.describe(vec![]);
        let response: DescribeConfigsResponse = script.response(ApiKey::DescribeConfigs, 4);
        let codes: Vec<_> = response
            .results
            .iter()
            .map(|result| result.error_code.0)
            .collect();
        assert_eq!(codes, [0, 42, 42, 17]);
        let names: Vec<_> = response.results[0]
            .configs
            .iter()
            .map(|config| &*config.name)
            .collect();
        assert_eq!(names, ["num.partitions"]);
    }

    /// Kafka's `group.consumer.*` and `group.share.*` bound what groups may set (KIP-848, KIP-932).
    #[test]
    fn bounds_of_groups_are_settings_of_the_broker() {
        let mut options = Options::default();
        options.group_bounds.lock.min = 1000;
        let mut script = Script::open_with(options);
        let names = [
            "group.consumer.max.session.timeout.ms",
            "group.share.record.lock.duration.ms",
            "group.share.min.record.lock.duration.ms",
        ];
        let request = DescribeConfigsRequest {
            resources: vec![resource(BROKER, "1", Some(&names))],
            ..Default::default()
        };
        script.send(ApiKey::DescribeConfigs, 4, &request);
        script.describe(vec![]);
        let response: DescribeConfigsResponse = script.response(ApiKey::DescribeConfigs, 4);
        let configs = &response.results[0].configs;
        let mut rows: Vec<_> = configs
            .iter()
            .map(|row| (&*row.name, row.value.as_deref().unwrap(), row.config_source))
            .collect();
        rows.sort();
        assert_eq!(
            rows,
            [
                (names[0], "60000", FROM_DEFAULT),
                (names[2], "1000", FROM_BROKER),
                (names[1], "30000", FROM_DEFAULT),
            ]
        );

        let set = |value: &str| IncrementalAlterConfigsRequest {
            resources: vec![IncrementalAlterConfigsResource {
                resource_type: GROUP,
                resource_name: "g".into(),
                configs: vec![IncrementalAlterableConfig {
                    name: "share.record.lock.duration.ms".into(),
                    config_operation: 0,
                    value: Some(value.into()),
                }],
            }],
            ..Default::default()
        };
        script.send(ApiKey::IncrementalAlterConfigs, 1, &set("999"));
        let refused: IncrementalAlterConfigsResponse =
            script.response(ApiKey::IncrementalAlterConfigs, 1);
        assert!(refused.responses[0].error_code.is_err());
        script.send(ApiKey::IncrementalAlterConfigs, 1, &set("1000"));
        let settings = script.command(|command| match command {
            Command::Group { request, .. } => Some(request),
            _ => None,
        });
        assert!(matches!(settings, GroupRequest::Configure { .. }));
    }
}
