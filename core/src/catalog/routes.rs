//! Where messages go: an immutable snapshot of what is declared, published anew with every change and
//! sharing with its predecessor everything that the change did not touch.

mod table;
mod targets;
mod walk;

use std::{borrow::Cow, hash::RandomState, sync::Arc};

use imbl::OrdMap;

use self::table::Table;
use super::{
    admin::{VHOST_LIMITS, limits_of},
    check::text_argument,
    feeds::Feed,
    policies::{Policies, Policy, Subject},
    small_map::SmallMap,
};
use crate::{
    access::{Access, limit},
    client_quota::{ClientQuotas, QuotaEntity, QuotaValues},
    command::{Binding, ExchangeKind, ExchangeSpec, QueueSpec},
    definitions::{ParameterDefinition, PolicyDefinition, VhostDefinition},
    delay::DelayEntry,
    event::LogInfo,
    history::Remembering,
    id::{ConnectionId, LogId, LogUuid, QueueId},
    link::Claim,
    log::{Settings, Tail},
    properties::Text,
    queue::QueueSettings,
    topic::{Grammar, Topic},
};

pub(super) use self::table::Edge;
pub(crate) use self::table::Place;
pub(crate) use self::targets::{LogTarget, QueueTarget, Targets};

/// A queue as declared.
#[derive(Clone, Debug)]
pub(crate) struct QueueEntry {
    pub id: QueueId,
    pub vhost: Text,
    /// The client identifier when it is a session's.
    pub name: Text,
    pub spec: QueueSpec,
    /// The log that it is a cursor of.
    pub source: Option<Arc<LogEntry>>,
    /// What `spec` and the policies that match the name come to.
    pub settings: Arc<QueueSettings>,
    /// The only connection that may use it.
    pub owner: Option<ConnectionId>,
    /// The policies that count for it.
    pub policies: Policies,
    /// Who acts for it, when it is a session.
    pub claim: Option<Arc<Claim>>,
    /// The groups that a session takes part in.
    pub shares: super::shares::Shares,
}

/// A log as created.
#[derive(Debug)]
pub(crate) struct LogEntry {
    pub info: LogInfo,
    pub vhost: Text,
    /// The committed end of each partition.
    pub tails: Arc<[Arc<Tail>]>,
    /// What its description and the policies come to.
    pub settings: Settings,
    /// The policies that count for it, if it is a stream.
    pub policies: Policies,
    /// The exchange that is offered what is appended directly.
    pub tap: Option<Text>,
    /// Whether patterns that begin with a wildcard see what is tapped.
    pub root_wildcards: bool,
    /// Whose permissions count for what the tap offers; nobody's where that is not known.
    pub tapped_by: Text,
}

/// The snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    /// Differs between any two snapshots; greater is later.
    pub generation: u64,
    access: Arc<Access>,
    /// By vhost, component and name.
    parameters: OrdMap<ParameterName, Arc<ParameterDefinition>>,
    /// By vhost, whether it is an operator's, and name.
    policies: OrdMap<(Text, bool, Text), Arc<Policy>>,
    client_quotas: Arc<ClientQuotas>,
    /// Bindings by way of logs, by the log and their numbers.
    feeds: OrdMap<(LogId, u64), Arc<Feed>>,
    vhosts: SmallMap<Text, Arc<Vhost>, RandomState>,
}

/// The vhost (none for the broker's own), component and name of a parameter.
type ParameterName = (Option<Text>, Text, Text);

type Names<V> = SmallMap<Text, V, RandomState>;

#[derive(Clone, Debug, Default)]
struct Vhost {
    about: Arc<VhostDefinition>,
    exchanges: Names<Arc<Exchange>>,
    /// Share one name space with `logs`.
    queues: Names<Arc<QueueEntry>>,
    sessions: Names<Arc<QueueEntry>>,
    logs: OrdMap<Text, Arc<LogEntry>>,
    /// The names of `logs`.
    log_ids: OrdMap<LogUuid, Text>,
}

#[derive(Clone, Debug)]
struct Exchange {
    spec: Arc<ExchangeSpec>,
    /// Where goes what matches no binding, by argument or policy.
    alternate: Option<Text>,
    policies: Policies,
    table: Table,
    /// It keeps messages for a while.
    delay: Option<Arc<DelayEntry>>,
    /// It remembers messages for bindings to come.
    remembering: Option<Remembering>,
}

impl Routes {
    /// Whether there is such a vhost.
    pub(crate) fn vhost_exists(&self, vhost: &str) -> bool {
        self.vhosts.get(vhost).is_some()
    }

    /// Who may do what.
    pub(crate) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Whether it routes by topics, so that permissions on topics count.
    pub(crate) fn is_topic_exchange(&self, vhost: &str, exchange: &str) -> bool {
        let spec = self.exchange(vhost, exchange);
        spec.is_some_and(|spec| spec.routes_as() == Some(ExchangeKind::Topic))
    }

    pub(super) fn access_mut(&mut self) -> &mut Access {
        Arc::make_mut(&mut self.access)
    }

    /// How fast clients may be.
    pub(crate) fn client_quotas(&self) -> &Arc<ClientQuotas> {
        &self.client_quotas
    }

    pub(super) fn put_client_quota(&mut self, entity: QuotaEntity, values: QuotaValues) {
        Arc::make_mut(&mut self.client_quotas).put(entity, values);
    }

    #[cfg(test)]
    pub(crate) fn set_client_quotas(&mut self, quotas: ClientQuotas) {
        self.client_quotas = Arc::new(quotas);
    }

    /// All vhosts.
    pub(crate) fn vhosts(&self) -> impl Iterator<Item = &Arc<VhostDefinition>> {
        self.vhosts.values().map(|vhost| &vhost.about)
    }

    /// A vhost as it is set up.
    pub(crate) fn vhost(&self, name: &str) -> Option<&Arc<VhostDefinition>> {
        self.vhosts.get(name).map(|vhost| &vhost.about)
    }

    /// Queues, sessions and logs of a vhost.
    pub(crate) fn queue_count(&self, vhost: &str) -> usize {
        self.vhosts.get(vhost).map_or(0, |vhost| {
            vhost.queues.len() + vhost.sessions.len() + vhost.logs.len()
        })
    }

    /// The exchanges of a vhost, the default one among them.
    pub(crate) fn exchange_count(&self, vhost: &str) -> usize {
        let vhost = self.vhosts.get(vhost);
        vhost.map_or(0, |vhost| 1 + vhost.exchanges.len())
    }

    /// The limits of a vhost.
    pub(crate) fn vhost_limit(&self, vhost: &Text, name: &str) -> Option<u64> {
        let component = Text::from_static(VHOST_LIMITS);
        let key = (
            Some(vhost.clone()),
            component.clone(),
            Text::from_static("limits"),
        );
        let parameter = self.parameters.get(&key)?;
        limit(&limits_of(&parameter.value), name)
    }

    /// The queues of a vhost, in no order; sessions are not among them.
    pub(crate) fn queues(&self, vhost: &str) -> impl Iterator<Item = &Arc<QueueEntry>> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.queues.values())
    }

    /// All parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Arc<ParameterDefinition>> {
        self.parameters.values()
    }

    /// All policies.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    pub(super) fn put_policy(&mut self, policy: Policy) {
        let PolicyDefinition {
            vhost,
            operator,
            name,
            ..
        } = &policy.definition;
        let key = (vhost.clone(), *operator, name.clone());
        self.policies.insert(key, Arc::new(policy));
    }

    pub(super) fn remove_policy(&mut self, vhost: &Text, name: &Text, operator: bool) -> bool {
        let key = (vhost.clone(), operator, name.clone());
        self.policies.remove(&key).is_some()
    }

    pub(super) fn put_parameter(&mut self, parameter: ParameterDefinition) {
        let ParameterDefinition {
            vhost,
            component,
            name,
            ..
        } = parameter.clone();
        self.parameters
            .insert((vhost, component, name), Arc::new(parameter));
    }

    pub(super) fn remove_parameter(
        &mut self,
        vhost: Option<&Text>,
        component: &Text,
        name: &Text,
    ) -> bool {
        let name = (vhost.cloned(), component.clone(), name.clone());
        self.parameters.remove(&name).is_some()
    }

    /// The names of a vhost's exchanges.
    pub(super) fn exchange_names(&self, vhost: &str) -> impl Iterator<Item = &Text> {
        self.exchanges(vhost).map(|(name, _)| name)
    }

    /// The exchanges of a vhost, in no order.
    pub(crate) fn exchanges(
        &self,
        vhost: &str,
    ) -> impl Iterator<Item = (&Text, &Arc<ExchangeSpec>)> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.exchanges.iter())
            .map(|(name, exchange)| (name, &exchange.spec))
    }

    /// A queue by name; sessions have names of their own.
    pub(crate) fn queue(&self, vhost: &str, name: &str) -> Option<&Arc<QueueEntry>> {
        self.vhosts.get(vhost)?.queues.get(name)
    }

    /// The queue of an MQTT client.
    pub(crate) fn session(&self, vhost: &str, client: &str) -> Option<&Arc<QueueEntry>> {
        self.vhosts.get(vhost)?.sessions.get(client)
    }

    /// A log by name.
    pub(crate) fn log(&self, vhost: &str, name: &str) -> Option<&Arc<LogEntry>> {
        self.vhosts.get(vhost)?.logs.get(name)
    }

    /// The log of an id.
    pub(crate) fn log_of_id(&self, vhost: &str, id: &LogUuid) -> Option<&Arc<LogEntry>> {
        let vhost = self.vhosts.get(vhost)?;
        vhost.logs.get(vhost.log_ids.get(id)?)
    }

    /// The logs of a vhost, by name.
    pub(crate) fn logs(&self, vhost: &str) -> impl Iterator<Item = &Arc<LogEntry>> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.logs.values())
    }

    /// The logs of all vhosts.
    pub(crate) fn all_logs(&self) -> impl Iterator<Item = &Arc<LogEntry>> {
        self.vhosts.values().flat_map(|vhost| vhost.logs.values())
    }

    /// What an exchange was declared as.
    pub(crate) fn exchange(&self, vhost: &str, name: &str) -> Option<&Arc<ExchangeSpec>> {
        Some(&self.vhosts.get(vhost)?.exchanges.get(name)?.spec)
    }

    /// Whether there is such an exchange; the default one always is.
    pub(crate) fn exchange_exists(&self, vhost: &str, name: &str) -> bool {
        (name.is_empty() && self.vhost_exists(vhost)) || self.exchange(vhost, name).is_some()
    }

    /// The delayed exchanges of all vhosts.
    pub(crate) fn delays(&self) -> impl Iterator<Item = &Arc<DelayEntry>> {
        let exchanges = self
            .vhosts
            .values()
            .flat_map(|vhost| vhost.exchanges.values());
        exchanges.filter_map(|exchange| exchange.delay.as_ref())
    }

    /// What a delayed exchange is known by.
    pub(super) fn delay(&self, vhost: &str, name: &str) -> Option<&Arc<DelayEntry>> {
        self.vhosts.get(vhost)?.exchanges.get(name)?.delay.as_ref()
    }

    /// Adds a vhost, or changes what is known about it. Whether it is new.
    pub(super) fn put_vhost(&mut self, about: VhostDefinition) -> bool {
        let about = Arc::new(about);
        if let Some(vhost) = self.vhosts.get_mut(&*about.name) {
            Arc::make_mut(vhost).about = about;
            return false;
        }
        let name = about.name.clone();
        let vhost = Vhost {
            about,
            ..Vhost::default()
        };
        self.vhosts.insert(name, Arc::new(vhost));
        true
    }

    /// Removes a vhost with its parameters.
    pub(super) fn remove_vhost(&mut self, name: &Text) {
        self.vhosts.remove(&**name);
        let of_vhost = |key: &ParameterName| key.0.as_ref() == Some(name);
        let parameters: Vec<_> = self
            .parameters
            .keys()
            .filter(|key| of_vhost(key))
            .cloned()
            .collect();
        for key in parameters {
            self.parameters.remove(&key);
        }
        let policies = std::mem::take(&mut self.policies).into_iter();
        self.policies = policies.filter(|((vhost, ..), _)| vhost != name).collect();
    }

    pub(super) fn put_exchange(
        &mut self,
        vhost: &Text,
        name: Text,
        spec: ExchangeSpec,
        delay: Option<Arc<DelayEntry>>,
    ) {
        let policies = self.policies_of(vhost, Subject::Exchange, &name);
        let exchange = Exchange {
            alternate: alternate(&spec, &policies),
            policies,
            table: Table::new(&spec),
            delay,
            remembering: Remembering::new(&spec),
            spec: Arc::new(spec),
        };
        self.vhost_mut(vhost)
            .exchanges
            .insert(name, Arc::new(exchange));
    }

    /// Whether there is any policy in a vhost.
    pub(super) fn has_policies(&self, vhost: &Text) -> bool {
        self.policies_in(vhost, false).next().is_some()
            || self.policies_in(vhost, true).next().is_some()
    }

    fn policies_in(&self, vhost: &Text, operator: bool) -> impl Iterator<Item = &Arc<Policy>> {
        let start = (vhost.clone(), operator, Text::new());
        self.policies
            .range(start..)
            .map(|(_, policy)| policy)
            .take_while(move |policy| {
                let definition = &policy.definition;
                definition.vhost == *vhost && definition.operator == operator
            })
    }

    /// The policies that count for what has that name: of those that match the one with the greatest priority, and
    /// of several the first by name.
    pub(super) fn policies_of(&self, vhost: &Text, subject: Subject, name: &str) -> Policies {
        let first = |operator| {
            let matching = self
                .policies_in(vhost, operator)
                .filter(|policy| policy.applies(subject, name));
            matching.reduce(|best, other| {
                if other.definition.priority > best.definition.priority {
                    other
                } else {
                    best
                }
            })
        };
        Policies {
            policy: first(false).cloned(),
            operator: first(true).cloned(),
        }
    }

    /// The policies of an exchange.
    pub(crate) fn exchange_policies(&self, vhost: &str, name: &str) -> Option<&Policies> {
        Some(&self.vhosts.get(vhost)?.exchanges.get(name)?.policies)
    }

    /// Makes policies count for the exchanges of a vhost.
    pub(super) fn apply_policies_to_exchanges(&mut self, vhost: &Text) {
        let names: Vec<Text> = self.exchange_names(vhost).cloned().collect();
        for name in names {
            let policies = self.policies_of(vhost, Subject::Exchange, &name);
            if let Some(exchange) = self.vhost_mut(vhost).exchanges.get_mut(&*name) {
                let exchange = Arc::make_mut(exchange);
                exchange.alternate = alternate(&exchange.spec, &policies);
                exchange.policies = policies;
            }
        }
    }

    pub(super) fn remove_exchange(&mut self, vhost: &str, name: &str) {
        self.vhost_mut(vhost).exchanges.remove(name);
    }

    pub(super) fn put_queue(&mut self, queue: Arc<QueueEntry>) {
        self.vhost_mut(&queue.vhost)
            .queues_of(queue.spec.session)
            .insert(queue.name.clone(), queue);
    }

    pub(super) fn remove_queue(&mut self, queue: &QueueEntry) {
        self.vhost_mut(&queue.vhost)
            .queues_of(queue.spec.session)
            .remove(&*queue.name);
    }

    pub(super) fn put_log(&mut self, log: Arc<LogEntry>) {
        let vhost = self.vhost_mut(&log.vhost);
        vhost.log_ids.insert(log.info.uuid, log.info.name.clone());
        vhost.logs.insert(log.info.name.clone(), log);
    }

    pub(super) fn remove_log(&mut self, log: &LogEntry) {
        let vhost = self.vhost_mut(&log.vhost);
        vhost.log_ids.remove(&log.info.uuid);
        vhost.logs.remove(&*log.info.name);
    }

    /// Adds a binding, or replaces the one of the same number.
    pub(super) fn bind(&mut self, vhost: &str, number: u64, binding: &Binding, edge: Edge) {
        let exchange = self.vhost_mut(vhost).exchanges.get_mut(&*binding.source);
        if let Some(exchange) = exchange.map(Arc::make_mut) {
            exchange.table.bind(number, binding, edge);
            if let Some(remembering) = &mut exchange.remembering {
                remembering.bindings += 1;
            }
        }
    }

    /// What an exchange remembers.
    pub(super) fn remembering(&self, vhost: &str, name: &str) -> Option<&Remembering> {
        let exchange = self.vhosts.get(vhost)?.exchanges.get(name)?;
        exchange.remembering.as_ref()
    }

    /// All bindings by way of logs.
    pub(crate) fn feeds(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.feeds.values()
    }

    /// Those by way of one log.
    pub(crate) fn feeds_of(&self, log: LogId) -> impl Iterator<Item = &Arc<Feed>> {
        self.feeds
            .range((log, 0)..=(log, u64::MAX))
            .map(|(_, feed)| feed)
    }

    /// Whether there is this one.
    pub(crate) fn has_feed(&self, log: LogId, number: u64) -> bool {
        self.feeds.contains_key(&(log, number))
    }

    pub(super) fn put_feed(&mut self, feed: Arc<Feed>) {
        self.feeds.insert((feed.log, feed.number), feed);
    }

    pub(super) fn remove_feed(&mut self, number: u64) -> Option<Arc<Feed>> {
        let feed = self.feeds().find(|feed| feed.number == number)?.clone();
        self.feeds.remove(&(feed.log, number))
    }

    pub(super) fn unbind(&mut self, vhost: &str, number: u64, binding: &Binding) {
        if let Some(table) = self.table_mut(vhost, &binding.source) {
            table.unbind(number, binding);
        }
    }

    fn table_mut(&mut self, vhost: &str, exchange: &str) -> Option<&mut Table> {
        let exchange = self.vhost_mut(vhost).exchanges.get_mut(exchange)?;
        Some(&mut Arc::make_mut(exchange).table)
    }

    fn vhost_mut(&mut self, vhost: &str) -> &mut Vhost {
        Arc::make_mut(
            self.vhosts
                .get_mut(vhost)
                .expect("a connection is in a vhost that exists"),
        )
    }
}

impl Vhost {
    fn queues_of(&mut self, session: bool) -> &mut Names<Arc<QueueEntry>> {
        if session {
            &mut self.sessions
        } else {
            &mut self.queues
        }
    }
}

fn alternate(spec: &ExchangeSpec, policies: &Policies) -> Option<Text> {
    let by_policy = policies.policy.as_ref();
    text_argument(&spec.arguments, "alternate-exchange")
        .or_else(|| by_policy?.text("alternate-exchange"))
        .cloned()
}

/// The topic as a routing key or name.
pub(crate) fn dots(topic: &Topic) -> Cow<'_, str> {
    match topic.grammar() {
        Grammar::Dots => Cow::Borrowed(topic.text()),
        Grammar::Slashes => Cow::Owned(topic.render(Grammar::Dots).to_string()),
    }
}
