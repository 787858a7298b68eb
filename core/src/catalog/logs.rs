//! Logs: created with their captures and tap, deleted.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Actor, Applied, Catalog, Effect, Outcome, bindings::End, check, policies::Policies,
    routes::LogEntry,
};
use crate::{
    access::Operation,
    command::{Binding, Destination, LogSpec},
    event::{Kind, LogInfo, Refusal},
    id::{LogId, Offset},
    log::{Settings, Tail},
    properties::Text,
    store::{
        Batch, Table,
        keys::{catalog as keys, fill},
        values::{catalog::LogRow, write_position},
    },
    topic::{Grammar, Pattern, Step},
};

/// Partitions of a log at most: each costs memory as soon as the log is there.
const PARTITIONS_MAX: u32 = 10_000;

/// Where logs meet the other protocols unless their settings say otherwise (DESIGN section 3.2).
pub(crate) const SQUARE: &str = "amq.topic";

impl Catalog {
    pub(super) fn create_log(
        &mut self,
        by: &Actor,
        name: &Text,
        spec: &LogSpec,
        validate_only: bool,
    ) -> Result<Applied, Refusal> {
        self.may(by, Operation::Configure, Kind::Log, name)?;
        let spec = &self.permitted(by, name, spec);
        let captures = self.check_log(by, name, spec)?;
        let uuid = Uuid::new_v4().into_bytes();
        let mut info = LogInfo {
            name: name.clone(),
            id: LogId(self.next_id),
            uuid,
            spec: spec.clone(),
        };
        if validate_only {
            return Ok(Outcome::Log(info).into());
        }
        let mut applied = Applied::default();
        info.id = LogId(self.next_id(true, &mut applied));
        let new = LogEntry::new(by.vhost.clone(), info.clone(), by.user.clone());
        applied
            .batch
            .put(Table::Catalog, keys::log(info.id), new.row());
        let policies = self.policies_of_log(&new);
        let log = Arc::new(new.under(policies));
        self.routes_mut().put_log(log.clone());
        for capture in captures {
            applied.batch.append(self.bind(by, &capture)?.batch);
        }
        applied.outcome = Outcome::Log(info);
        applied.effects.push(Effect::LogCreated(log));
        Ok(applied)
    }

    /// A user who may not use `amq.topic` gets a log that does not meet other protocols there, unless it was
    /// asked for.
    fn permitted(&self, by: &Actor, name: &Text, spec: &LogSpec) -> LogSpec {
        let mut spec = spec.clone();
        let off = |setting| (Text::from_static(setting), Text::from_static("off"));
        let square = |operation| self.may(by, operation, Kind::Exchange, SQUARE);
        if setting(&spec, "mq.bind").is_none()
            && (square(Operation::Read).is_err()
                || self.may(by, Operation::Write, Kind::Log, name).is_err())
        {
            spec.settings.push(off("mq.bind"));
        }
        if setting(&spec, "mq.tap").is_none() && square(Operation::Write).is_err() {
            spec.settings.push(off("mq.tap"));
        }
        spec
    }

    /// The bindings that a new log is to have, or why it may not be.
    fn check_log(&self, by: &Actor, name: &Text, spec: &LogSpec) -> Result<Vec<Binding>, Refusal> {
        check::not_reserved(Kind::Log, name)?;
        let (routes, vhost) = (&self.routes, &by.vhost);
        if routes.log(vhost, name).is_some() {
            return Err(Refusal::Exists {
                kind: Kind::Log,
                name: name.clone(),
                vhost: vhost.clone(),
            });
        }
        if routes.queue(vhost, name).is_some() {
            return Err(Refusal::Exists {
                kind: Kind::Queue,
                name: name.clone(),
                vhost: vhost.clone(),
            });
        }
        self.has_room(by, Kind::Log, name)?;
        check_partitions(spec.partitions)?;
        Settings::parse(&spec.settings).map_err(|text| Refusal::Invalid(text.into()))?;
        self.check_tap(by, name, spec)?;
        let captures = captures(name, spec)?;
        for capture in &captures {
            self.may_bind(by, capture)?;
            self.check_source(by, capture)?;
        }
        Ok(captures)
    }

    /// Sets and resets settings. What is captured and tapped changes with them.
    pub(super) fn alter_log(
        &mut self,
        by: &Actor,
        name: &Text,
        changes: &[(Text, Option<Text>)],
        validate_only: bool,
    ) -> Result<Applied, Refusal> {
        let old = self.configurable_log(by, name)?;
        let mut info = old.info.clone();
        for (changed, value) in changes {
            info.spec.settings.retain(|(name, _)| name != changed);
            let set = value.clone().map(|value| (changed.clone(), value));
            info.spec.settings.extend(set);
        }
        Settings::parse(&info.spec.settings).map_err(|text| Refusal::Invalid(text.into()))?;
        self.check_tap(by, name, &info.spec)?;
        let (before, after) = (captures(name, &old.info.spec)?, captures(name, &info.spec)?);
        let added: Vec<_> = after.iter().filter(|it| !before.contains(it)).collect();
        let dropped: Vec<_> = before.iter().filter(|it| !after.contains(it)).collect();
        // All that could refuse comes first: what is done below is done as a whole.
        for capture in &added {
            self.check_source(by, capture)?;
        }
        for capture in added.iter().chain(&dropped) {
            self.may_bind(by, capture)?;
        }
        if validate_only {
            return Ok(Outcome::Log(info).into());
        }
        let taps = |(name, _): &(Text, _)| name == "mq.tap" || name == "mq.route.key";
        let tapped_by = match changes.iter().any(taps) {
            true => by.user.clone(),
            false => old.tapped_by.clone(),
        };
        let mut applied = self.change_log(&old, info, tapped_by);
        // An exchange that goes with its last binding is not to go in between.
        for capture in added {
            applied.absorb(self.bind(by, capture)?);
        }
        for capture in dropped {
            applied.absorb(self.unbind(by, capture)?);
        }
        Ok(applied)
    }

    pub(super) fn add_partitions(
        &mut self,
        by: &Actor,
        name: &Text,
        partitions: u32,
        validate_only: bool,
    ) -> Result<Applied, Refusal> {
        let old = self.configurable_log(by, name)?;
        let mut info = old.info.clone();
        check_partitions(partitions)?;
        if partitions <= info.spec.partitions {
            let text = format!(
                "The topic {name} currently has {} partition(s); {partitions} would not be an increase.",
                info.spec.partitions
            );
            return Err(Refusal::Invalid(text.into()));
        }
        info.spec.partitions = partitions;
        if validate_only {
            return Ok(Outcome::Log(info).into());
        }
        Ok(self.change_log(&old, info, old.tapped_by.clone()))
    }

    fn configurable_log(&self, by: &Actor, name: &Text) -> Result<Arc<LogEntry>, Refusal> {
        self.may(by, Operation::Configure, Kind::Log, name)?;
        let log = self.routes.log(&by.vhost, name).cloned();
        log.ok_or_else(|| check::not_found(Kind::Log, name, by))
    }

    /// Puts a log that is there under another description.
    fn change_log(&mut self, old: &LogEntry, info: LogInfo, tapped_by: Text) -> Applied {
        let mut applied = Applied::default();
        let log = old.changed(info.clone(), tapped_by);
        let row = log.row();
        applied.batch.put(Table::Catalog, keys::log(info.id), row);
        let is_mapped_anew = log.is_mapped_otherwise(old);
        if is_mapped_anew {
            log.begin_fill(&mut applied.batch);
        }
        self.replace_log(log, &mut applied);
        if is_mapped_anew && let Some(log) = self.routes.log(&old.vhost, &info.name) {
            applied.effects.push(Effect::Mapped(log.clone()));
        }
        applied.outcome = Outcome::Log(info);
        applied
    }

    /// Has a changed log act as it now is.
    pub(super) fn replace_log(&mut self, log: LogEntry, applied: &mut Applied) {
        let log = Arc::new(log);
        self.routes_mut().put_log(log.clone());
        self.refresh_cursors(&log, applied);
        for number in self.bindings.to(&End::Log(log.info.id)) {
            self.refresh_binding(number, applied);
        }
        applied.effects.push(Effect::LogChanged(log));
    }

    fn check_tap(&self, by: &Actor, name: &Text, spec: &LogSpec) -> Result<(), Refusal> {
        let maps = setting(spec, "mq.retain.map").is_some_and(|value| value == "true");
        let tap = tap(name, spec);
        if maps && tap.as_deref() != Some(SQUARE) {
            let text = format!("mq.retain.map needs a log with mq.tap={SQUARE}");
            return Err(Refusal::Invalid(text.into()));
        }
        let Some(exchange) = tap else {
            return Ok(());
        };
        if self.routes.exchange(&by.vhost, &exchange).is_none() {
            return Err(check::not_found(Kind::Exchange, &exchange, by));
        }
        self.may(by, Operation::Write, Kind::Exchange, &exchange)
    }

    pub(super) fn delete_log(&mut self, by: &Actor, name: &Text) -> Result<Applied, Refusal> {
        self.may(by, Operation::Configure, Kind::Log, name)?;
        let Some(log) = self.routes.log(&by.vhost, name).cloned() else {
            return Err(check::not_found(Kind::Log, name, by));
        };
        let mut applied = Applied {
            unused: self.cursors_of(&log),
            ..Applied::default()
        };
        self.remove_bindings_to(&End::Log(log.info.id), &mut applied);
        let feeds = self.routes.feeds_of(log.info.id);
        let feeds: Vec<_> = feeds.map(|feed| feed.number).collect();
        let unused = feeds.into_iter();
        let unused = unused.filter_map(|number| self.remove_binding(number, &mut applied));
        let unused = unused.collect();
        self.remove_exchanges(unused, &mut applied);
        self.routes_mut().remove_log(&log);
        applied.batch.delete(Table::Catalog, keys::log(log.info.id));
        if log.settings.retain_map {
            for partition in 0..log.info.spec.partitions {
                let key = fill(log.info.id, partition);
                applied.batch.delete(Table::State, key);
            }
        }
        applied.effects.push(Effect::LogRemoved(log));
        Ok(applied)
    }
}

fn check_partitions(partitions: u32) -> Result<(), Refusal> {
    if (1..=PARTITIONS_MAX).contains(&partitions) {
        return Ok(());
    }
    let text = format!("a log has between 1 and {PARTITIONS_MAX} partitions, not {partitions}");
    Err(Refusal::Invalid(text.into()))
}

impl LogEntry {
    pub(crate) fn new(vhost: Text, info: LogInfo, tapped_by: Text) -> LogEntry {
        LogEntry::with_tails(vhost, info, tapped_by, &[], Policies::default())
    }

    fn row(&self) -> Bytes {
        LogRow::write(&self.vhost, &self.info, &self.tapped_by)
    }

    /// The same log under another description, with the same partitions and perhaps more.
    fn changed(&self, info: LogInfo, tapped_by: Text) -> LogEntry {
        let policies = self.policies.clone();
        LogEntry::with_tails(self.vhost.clone(), info, tapped_by, &self.tails, policies)
    }

    /// The same log under other policies.
    pub(super) fn under(&self, policies: Policies) -> LogEntry {
        let (info, tapped_by) = (self.info.clone(), self.tapped_by.clone());
        LogEntry::with_tails(self.vhost.clone(), info, tapped_by, &self.tails, policies)
    }

    /// Whether what is retained of its keys (`mq.retain.map`) is something else than of the same log before.
    fn is_mapped_otherwise(&self, before: &LogEntry) -> bool {
        let maps = |log: &LogEntry| {
            log.settings
                .retain_map
                .then(|| log.settings.route_key.clone())
        };
        maps(self) != maps(before)
    }

    /// Notes that all that it has is to be retained; or that nothing is, where it maps no more.
    fn begin_fill(&self, batch: &mut Batch) {
        for partition in 0..self.info.spec.partitions {
            let key = fill(self.info.id, partition);
            match self.settings.retain_map {
                true => batch.put(Table::State, key, write_position(Offset(0))),
                false => batch.delete(Table::State, key),
            }
        }
    }

    fn with_tails(
        vhost: Text,
        info: LogInfo,
        tapped_by: Text,
        tails: &[Arc<Tail>],
        policies: Policies,
    ) -> LogEntry {
        let tails = (0..info.spec.partitions as usize)
            .map(|number| tails.get(number).cloned().unwrap_or_default())
            .collect();
        let tap = tap(&info.name, &info.spec);
        let root_wildcards =
            setting(&info.spec, "mq.tap.root.wildcards").is_some_and(|value| value == "true");
        // Settings were checked when the log was created; a format that is newer than this program is the default.
        let mut settings = Settings::parse(&info.spec.settings).unwrap_or_default();
        policies.bound(&mut settings);
        LogEntry {
            tails,
            settings,
            policies,
            tap,
            root_wildcards,
            tapped_by,
            vhost,
            info,
        }
    }
}

/// The exchange that is offered what is appended.
fn tap(name: &str, spec: &LogSpec) -> Option<Text> {
    match setting(spec, "mq.tap") {
        Some(exchange) if exchange == "off" || exchange.is_empty() => None,
        Some(exchange) => Some(exchange.clone()),
        None if is_internal(name) => None,
        None => Some(SQUARE.into()),
    }
}

/// What the log records of what is published elsewhere: `mq.bind` as a list of `exchange:pattern`.
fn captures(name: &Text, spec: &LogSpec) -> Result<Vec<Binding>, Refusal> {
    let Some(list) = setting(spec, "mq.bind") else {
        let spells_itself = Pattern::new(name.clone(), Grammar::Dots)
            .steps()
            .all(|step| matches!(step, Step::Token(_)));
        let wanted = !is_internal(name) && spells_itself;
        return Ok(wanted
            .then(|| capture(name, SQUARE.into(), name.clone()))
            .into_iter()
            .collect());
    };
    let items = list
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty() && *item != "off");
    items
        .map(|item| match item.split_once(':') {
            Some((exchange, pattern)) => Ok(capture(name, exchange.into(), pattern.into())),
            None => Err(Refusal::Invalid(
                format!("mq.bind: expected exchange:pattern, not '{item}'").into(),
            )),
        })
        .collect()
}

fn capture(log: &Text, source: Text, key: Text) -> Binding {
    Binding {
        source,
        destination: Destination::Log(log.clone()),
        key,
        grammar: Grammar::Dots,
        arguments: Vec::new(),
        subscription: None,
    }
}

fn setting<'a>(spec: &'a LogSpec, name: &str) -> Option<&'a Text> {
    spec.settings
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value)
}

/// Names that are never captured or tapped (DESIGN section 3.2).
fn is_internal(name: &str) -> bool {
    name.starts_with("amq.") || name.starts_with('$') || name.starts_with("__")
}
