//! Policies: settings for the queues and exchanges of a vhost whose names match a pattern. One policy and one
//! operator policy count for each: those that match with the greatest priority.

use std::sync::Arc;

use regex::Regex;

use super::{
    Applied, Catalog, Effect, LogEntry, QueueEntry, admin::check_name, bindings::End, check::plain,
    streams::max_age,
};
use crate::{
    access::compile,
    definitions::PolicyDefinition,
    event::Refusal,
    log::Settings,
    properties::{Text, Value},
    queue::{QueueSettings, QueueType},
    store::{Table, keys::catalog as keys, values::admin as rows},
};

/// A policy, ready to match.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) definition: PolicyDefinition,
    pattern: Regex,
}

/// What a policy may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Queue(QueueType),
    Stream,
    Exchange,
}

impl Policy {
    pub(super) fn new(definition: PolicyDefinition) -> Result<Policy, Refusal> {
        let pattern = compile(&definition.pattern).map_err(invalid)?;
        Ok(Policy {
            definition,
            pattern,
        })
    }

    pub(super) fn applies(&self, subject: Subject, name: &str) -> bool {
        let kind = match (&*self.definition.apply_to, subject) {
            ("all", _) => true,
            ("exchanges", subject) => subject == Subject::Exchange,
            ("queues", subject) => subject != Subject::Exchange,
            ("classic_queues", subject) => subject == Subject::Queue(QueueType::Classic),
            ("quorum_queues", subject) => subject == Subject::Queue(QueueType::Quorum),
            ("streams", subject) => subject == Subject::Stream,
            _ => false,
        };
        kind && self.pattern.is_match(name)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let mut settings = self.definition.definition.iter();
        let found = settings.find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// The value of a setting that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&Text> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// The policies that count for one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    pub(crate) policy: Option<Arc<Policy>>,
    pub(crate) operator: Option<Arc<Policy>>,
}

impl Policies {
    /// What a queue comes to with these.
    pub(crate) fn settings(&self, spec: &crate::command::QueueSpec) -> QueueSettings {
        let of = |policy: &Option<Arc<Policy>>| {
            let policy = policy.as_ref();
            policy.map_or(Vec::new(), |policy| policy.definition.definition.clone())
        };
        QueueSettings::effective(spec, &of(&self.policy), &of(&self.operator))
    }

    /// Bounds a stream by these too: the smaller of what it was declared with and what they say counts, of the size
    /// of segments what it was declared with.
    pub(super) fn bound(&self, settings: &mut Settings) {
        let mut segment_bytes = None;
        for policy in [&self.policy, &self.operator].into_iter().flatten() {
            let number = |name| policy.value(name).and_then(Value::integer);
            let bytes = |name| number(name).and_then(|bytes| u64::try_from(bytes).ok());
            let age = policy.text("max-age").and_then(|text| max_age(text));
            settings.retention = least(settings.retention, age);
            settings.retention_bytes = least(settings.retention_bytes, bytes("max-length-bytes"));
            segment_bytes = least(segment_bytes, bytes("stream-max-segment-size-bytes"));
        }
        settings.segment_bytes = settings.segment_bytes.or(segment_bytes);
    }

    fn same(&self, other: &Policies) -> bool {
        let same = |a: &Option<Arc<Policy>>, b: &Option<Arc<Policy>>| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same(&self.policy, &other.policy) && same(&self.operator, &other.operator)
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

impl Catalog {
    pub(super) fn put_policy(
        &mut self,
        policy: &PolicyDefinition,
        applied: &mut Applied,
    ) -> Result<(), Refusal> {
        check_name("policy", &policy.name)?;
        self.check_vhost(&policy.vhost)?;
        check(policy)?;
        let ready = Policy::new(policy.clone())?;
        applied.batch.put(
            Table::Catalog,
            keys::policy(policy.operator, &policy.vhost, &policy.name),
            rows::write_policy(policy),
        );
        self.routes_mut().put_policy(ready);
        Ok(())
    }

    pub(super) fn remove_policy(
        &mut self,
        vhost: &Text,
        name: &Text,
        operator: bool,
        applied: &mut Applied,
    ) -> bool {
        let key = keys::policy(operator, vhost, name);
        applied.batch.delete(Table::Catalog, key);
        let existed = self.routes_mut().remove_policy(vhost, name, operator);
        if existed {
            self.apply_policies(vhost, applied);
        }
        existed
    }

    /// The policies that count for a queue.
    pub(super) fn policies_of_queue(
        &self,
        vhost: &Text,
        name: &str,
        spec: &crate::command::QueueSpec,
    ) -> Policies {
        if spec.session || !self.routes.has_policies(vhost) {
            return Policies::default();
        }
        let kind = QueueSettings::effective(spec, &[], &[]).kind;
        self.routes.policies_of(vhost, Subject::Queue(kind), name)
    }

    /// The policies that count for a log: none unless it was declared as a stream.
    pub(super) fn policies_of_log(&self, log: &LogEntry) -> Policies {
        if !log.is_stream() || !self.routes.has_policies(&log.vhost) {
            return Policies::default();
        }
        let (vhost, name) = (&log.vhost, &log.info.name);
        self.routes.policies_of(vhost, Subject::Stream, name)
    }

    fn apply_policies_to_logs(&mut self, vhost: &Text, applied: &mut Applied) {
        let changed: Vec<LogEntry> = self
            .routes
            .logs(vhost)
            .filter_map(|log| {
                let policies = self.policies_of_log(log);
                (!policies.same(&log.policies)).then(|| log.under(policies))
            })
            .collect();
        for log in changed {
            self.replace_log(log, applied);
        }
    }

    /// Makes the policies of a vhost count for everything in it, live.
    pub(super) fn apply_policies(&mut self, vhost: &Text, applied: &mut Applied) {
        let changed: Vec<Arc<QueueEntry>> = self
            .queues
            .values()
            .filter(|queue| queue.vhost == *vhost && !queue.spec.session)
            .filter_map(|queue| {
                let policies = self.policies_of_queue(vhost, &queue.name, &queue.spec);
                (!policies.same(&queue.policies)).then(|| {
                    let settings = Arc::new(policies.settings(&queue.spec));
                    Arc::new(QueueEntry {
                        policies,
                        settings,
                        ..(**queue).clone()
                    })
                })
            })
            .collect();
        for queue in changed {
            let old = self.queues.get(&queue.id).map(|old| old.settings.clone());
            self.put_queue(queue.clone());
            for number in self.bindings.to(&End::Queue(queue.id)) {
                self.refresh_binding(number, applied);
            }
            if old.as_ref() != Some(&queue.settings) {
                applied.effects.push(Effect::QueueChanged(queue));
            }
        }
        self.apply_policies_to_logs(vhost, applied);
        self.routes_mut().apply_policies_to_exchanges(vhost);
    }
}

/// What a setting's value must be.
#[derive(Clone, Copy)]
enum Takes {
    Natural,
    Positive,
    Whole,
    Text,
    OneOf(&'static [&'static str]),
    Age,
    Anything,
}

/// RabbitMQ's settings: name, value, what it says of a wrong one, and whether an operator may set it.
static SETTINGS: [(&str, Takes, &str, bool); 35] = [
    (
        "alternate-exchange",
        Takes::Text,
        "alternate exchange name",
        false,
    ),
    (
        "dead-letter-exchange",
        Takes::Text,
        "dead letter exchange name",
        false,
    ),
    (
        "dead-letter-routing-key",
        Takes::Text,
        "dead letter routing key",
        false,
    ),
    (
        "dead-letter-strategy",
        Takes::OneOf(&["at-most-once", "at-least-once"]),
        "dead letter strategy",
        false,
    ),
    ("message-ttl", Takes::Natural, "message TTL", true),
    ("expires", Takes::Positive, "queue expiry", true),
    ("max-length", Takes::Natural, "maximum length", true),
    (
        "max-length-bytes",
        Takes::Natural,
        "maximum length in bytes",
        true,
    ),
    (
        "max-in-memory-length",
        Takes::Natural,
        "maximum memory in bytes",
        true,
    ),
    (
        "max-in-memory-bytes",
        Takes::Natural,
        "maximum memory in bytes",
        true,
    ),
    (
        "overflow",
        Takes::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
        "overflow value",
        true,
    ),
    ("delivery-limit", Takes::Whole, "delivery limit", true),
    (
        "queue-mode",
        Takes::OneOf(&["default", "lazy"]),
        "queue-mode value",
        false,
    ),
    ("queue-version", Takes::Natural, "queue version", true),
    ("queue-master-locator", Takes::Text, "master locator", false),
    (
        "queue-leader-locator",
        Takes::OneOf(&["client-local", "balanced", "random", "least-leaders"]),
        "queue leader locator value",
        false,
    ),
    (
        "initial-cluster-size",
        Takes::Positive,
        "cluster size",
        false,
    ),
    (
        "target-group-size",
        Takes::Positive,
        "target group size",
        true,
    ),
    ("max-age", Takes::Age, "max age", false),
    (
        "stream-max-segment-size-bytes",
        Takes::Natural,
        "segment size",
        false,
    ),
    (
        "stream-filter-size-bytes",
        Takes::Natural,
        "filter size",
        false,
    ),
    ("consumer-timeout", Takes::Natural, "consumer timeout", true),
    (
        "consumer-disconnected-timeout",
        Takes::Natural,
        "consumer disconnected timeout",
        true,
    ),
    (
        "delayed-retry-type",
        Takes::Text,
        "delayed retry type",
        false,
    ),
    (
        "delayed-retry-min",
        Takes::Natural,
        "delayed retry minimum",
        false,
    ),
    (
        "delayed-retry-max",
        Takes::Natural,
        "delayed retry maximum",
        false,
    ),
    (
        "federation-upstream",
        Takes::Text,
        "federation upstream",
        false,
    ),
    (
        "federation-upstream-set",
        Takes::Text,
        "federation upstream set",
        false,
    ),
    // Of brokers before 4.0, which mirrored queues: accepted so that their definitions can be imported.
    ("ha-mode", Takes::Text, "ha-mode", false),
    ("ha-params", Takes::Anything, "ha-params", false),
    ("ha-sync-mode", Takes::Text, "ha-sync-mode", false),
    (
        "ha-sync-batch-size",
        Takes::Natural,
        "ha-sync-batch-size",
        false,
    ),
    (
        "ha-promote-on-shutdown",
        Takes::Text,
        "ha-promote-on-shutdown",
        false,
    ),
    (
        "ha-promote-on-failure",
        Takes::Text,
        "ha-promote-on-failure",
        false,
    ),
    ("max-priority", Takes::Natural, "maximum priority", false),
];

/// What a policy may be applied to.
const APPLY_TO: [&str; 6] = [
    "all",
    "exchanges",
    "queues",
    "classic_queues",
    "quorum_queues",
    "streams",
];

fn check(policy: &PolicyDefinition) -> Result<(), Refusal> {
    if !APPLY_TO.contains(&&*policy.apply_to) {
        let text = format!(
            "apply-to '{}' unrecognised; should be one of: {}\n",
            policy.apply_to,
            APPLY_TO.join(", ")
        );
        return Err(invalid(text));
    }
    if policy.definition.is_empty() {
        return Err(invalid("no policy provided\n"));
    }
    let unknown: Vec<String> = policy
        .definition
        .iter()
        .filter(|(name, _)| {
            let known = SETTINGS.iter().find(|(known, ..)| **known == **name);
            known.is_none_or(|(.., for_operators)| policy.operator && !for_operators)
        })
        .map(|(name, value)| format!("{{<<\"{name}\">>,{}}}", term(value)))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        return Err(invalid(format!(
            "[{unknown}] are not recognised policy settings\n"
        )));
    }
    for (name, value) in &policy.definition {
        let known = SETTINGS.iter().find(|(known, ..)| **known == **name);
        if let Some((_, takes, what, _)) = known
            && !takes.takes(value)
        {
            return Err(invalid(format!("{} is not a valid {what}\n", term(value))));
        }
    }
    Ok(())
}

impl Takes {
    fn takes(self, value: &Value) -> bool {
        let number = value.integer();
        let text = match value {
            Value::Text(text) => Some(&**text),
            _ => None,
        };
        match self {
            Takes::Natural => number.is_some_and(|number| number >= 0),
            Takes::Positive => number.is_some_and(|number| number >= 1),
            Takes::Whole => number.is_some(),
            Takes::Text => text.is_some(),
            Takes::OneOf(words) => text.is_some_and(|text| words.contains(&text)),
            Takes::Age => text.is_some_and(|text| {
                let digits = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']);
                digits.is_some_and(|digits| digits.parse::<u32>().is_ok())
            }),
            Takes::Anything => true,
        }
    }
}

/// A value as Erlang prints it.
fn term(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("<<\"{text}\">>"),
        value => plain(value),
    }
}

fn invalid(reason: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(format!("Validation failed\n\n{reason}").into())
}
