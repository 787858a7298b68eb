//! Where messages go: an immutable snapshot of what is declared, published anew with every change and
//! sharing with its predecessor everything that the change did not touch.

use std::{borrow::Cow, hash::RandomState, sync::Arc};

use imbl::OrdMap;
use rustc_hash::{FxBuildHasher, FxHashSet};
use smallvec::SmallVec;

use super::{
    admin::{VHOST_LIMITS, limits_of},
    check::text_argument,
    headers::HeaderMatch,
    policies::{Policies, Policy, Subject},
    small_map::SmallMap,
    spread::{self, Facts, HashOn},
    topic_trie::{Leading, TopicTrie},
};
use crate::{
    access::{Access, limit},
    client_quota::{ClientQuotas, QuotaEntity, QuotaValues},
    command::{Binding, ExchangeKind, ExchangeSpec, QueueSpec, Subscription},
    definitions::{ParameterDefinition, PolicyDefinition, VhostDefinition},
    delay::{DelayEntry, delay_ms},
    event::{Kind, LogInfo, Refusal},
    id::{ConnectionId, LogUuid, QueueId},
    link::Claim,
    log::{Settings, Tail},
    message::Message,
    properties::Text,
    queue::QueueSettings,
    tags::Tags,
    topic::{Grammar, Pattern, Topic},
};

/// A queue as declared.
#[derive(Clone, Debug)]
pub(crate) struct QueueEntry {
    pub id: QueueId,
    pub vhost: Text,
    /// The client identifier when it is a session's.
    pub name: Text,
    pub spec: QueueSpec,
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
}

/// The destinations of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    pub queues: SmallVec<[QueueTarget; 2]>,
    pub logs: SmallVec<[Arc<LogEntry>; 1]>,
    /// Exchanges that keep it for a while.
    pub delays: SmallVec<[Arc<DelayEntry>; 1]>,
    /// More than the topic had a say, so another message of the same topic may go elsewhere.
    pub by_headers: bool,
}

/// A queue that a message goes to.
#[derive(Clone, Debug)]
pub(crate) struct QueueTarget {
    pub queue: Arc<QueueEntry>,
    /// Of all subscriptions that matched.
    pub tags: Tags,
    /// It need not be kept: all that matched are subscriptions with QoS 0.
    pub best_effort: bool,
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
}

/// The bindings of an exchange, by how it routes. Each has a number.
#[derive(Clone, Debug)]
enum Table {
    Direct(Names<Edges>),
    Fanout(Edges),
    Topic(TopicTrie<Edge>),
    Headers(SmallMap<u64, (Arc<HeaderMatch>, Edge), FxBuildHasher>),
    /// With the weight of each binding.
    Hash(HashOn, Edges, SmallMap<u64, u32, FxBuildHasher>),
    Random(Edges),
    Modulus(Edges),
}

type Edges = SmallMap<u64, Edge, FxBuildHasher>;

/// Where a binding leads.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub to: Place,
    pub subscription: Option<Subscription>,
}

/// A destination, found.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Queue(Arc<QueueEntry>),
    Log(Arc<LogEntry>),
    Exchange(Arc<str>),
}

impl Targets {
    /// Whether the message goes nowhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.logs.is_empty() && self.delays.is_empty()
    }

    /// Makes the targets empty, keeping their memory.
    #[cfg(feature = "testing")]
    pub(crate) fn clear(&mut self) {
        self.queues.clear();
        self.logs.clear();
        self.delays.clear();
    }

    fn push_queue(&mut self, queue: &Arc<QueueEntry>, subscription: Option<Subscription>) {
        self.queues.push(QueueTarget {
            queue: queue.clone(),
            tags: subscription
                .iter()
                .map(|subscription| subscription.tag)
                .collect(),
            best_effort: subscription.is_some_and(|subscription| subscription.best_effort),
        });
    }

    /// Makes each destination appear once.
    pub(crate) fn merge(&mut self) {
        if self.queues.len() > 1 {
            // Each look at an id of many is a miss in the processor's cache, so one look each.
            if self.queues.len() > 32 {
                self.queues.sort_by_cached_key(|target| target.queue.id);
            } else {
                self.queues.sort_unstable_by_key(|target| target.queue.id);
            }
            self.queues.dedup_by(|twin, kept| {
                let same = twin.queue.id == kept.queue.id;
                if same {
                    kept.tags.merge(&twin.tags);
                    kept.best_effort &= twin.best_effort;
                }
                same
            });
        }
        if self.logs.len() > 1 {
            self.logs.sort_unstable_by_key(|log| log.info.id);
            self.logs.dedup_by_key(|log| log.info.id);
        }
        if self.delays.len() > 1 {
            self.delays.sort_unstable_by_key(|delay| delay.id);
            self.delays.dedup_by_key(|delay| delay.id);
        }
    }
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

    /// Adds to `targets` where a message goes: each destination once, however many bindings match.
    ///
    /// `facts` is asked at most once, by exchanges that look at more than the topic. `client` is the publisher's client
    /// identifier, which subscriptions with "no local" leave out.
    pub(crate) fn route(
        &self,
        vhost: &str,
        exchange: &str,
        topic: &Topic,
        facts: &mut dyn FnMut() -> Facts,
        client: &str,
        targets: &mut Targets,
    ) -> Result<(), Refusal> {
        let Some(names) = self.vhosts.get(vhost) else {
            return Err(Refusal::NoVhost(vhost.into()));
        };
        if exchange.is_empty() {
            names.route_by_name(topic, targets);
            return Ok(());
        }
        if topic.is_brokers() {
            let text = format!("topic '{}' is the broker's own", topic.text());
            return Err(Refusal::Denied(text.into()));
        }
        let Some(start) = names.exchanges.get(exchange) else {
            return Err(Refusal::NotFound {
                kind: Kind::Exchange,
                name: exchange.into(),
                vhost: vhost.into(),
            });
        };
        if start.spec.internal {
            let text =
                format!("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'");
            return Err(Refusal::Denied(text.into()));
        }
        Walk::new(names, topic, facts, client, Leading::Any, true, targets).run(start);
        Ok(())
    }

    /// Adds to `targets` who hears of one of the broker's own topics: as [`Routes::route`] by `amq.topic`, which takes them
    /// from nobody else.
    pub(crate) fn route_announced(&self, vhost: &str, topic: &Topic, targets: &mut Targets) {
        if let Some(names) = self.vhosts.get(vhost)
            && let Some(start) = names.exchanges.get(super::SQUARE)
        {
            let facts = &mut Facts::default;
            Walk::new(names, topic, facts, "", Leading::Any, false, targets).run(start);
        }
    }

    /// Adds to `targets` where a message goes that a delayed exchange has kept; nowhere if that has gone.
    pub(crate) fn route_due(
        &self,
        delay: &DelayEntry,
        topic: &Topic,
        facts: &mut dyn FnMut() -> Facts,
        client: &str,
        targets: &mut Targets,
    ) {
        let names = self.vhosts.get(&*delay.vhost);
        let start = names.and_then(|names| names.exchanges.get(&*delay.exchange));
        if let (Some(names), Some(start)) = (names, start)
            && start.delay.as_ref().is_some_and(|own| own.id == delay.id)
        {
            Walk::new(names, topic, facts, client, Leading::Any, true, targets).run(start);
        }
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

    /// Adds to `targets` where a dead letter goes. Internal exchanges take it, and one that is not there leads nowhere.
    pub(crate) fn route_dead(
        &self,
        vhost: &str,
        message: &Message,
        topic: &Topic,
        targets: &mut Targets,
    ) {
        let Some(names) = self.vhosts.get(vhost) else {
            return;
        };
        if message.exchange.is_empty() {
            return names.route_by_name(topic, targets);
        }
        if topic.is_brokers() {
            return;
        }
        if let Some(start) = names.exchanges.get(&*message.exchange) {
            let mut facts = || Facts::of(message);
            Walk::new(names, topic, &mut facts, "", Leading::Any, true, targets).run(start);
        }
    }

    /// Adds to `targets` who is offered a record that was appended to `log`: as [`Routes::route`] by the
    /// log's tap, but to queues only, and patterns that begin with a wildcard do not see it unless the log
    /// opts in.
    pub(crate) fn route_tapped(
        &self,
        log: &LogEntry,
        topic: &Topic,
        facts: &mut dyn FnMut() -> Facts,
        targets: &mut Targets,
    ) {
        let Some(names) = self.vhosts.get(&log.vhost) else {
            return;
        };
        let Some(start) = log.tap.as_ref().and_then(|tap| names.exchanges.get(tap)) else {
            return;
        };
        if topic.is_brokers() {
            return;
        }
        let leading = if log.root_wildcards {
            Leading::Any
        } else {
            Leading::Literal
        };
        Walk::new(names, topic, facts, "", leading, false, targets).run(start);
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
        if let Some(table) = self.table_mut(vhost, &binding.source) {
            table.bind(number, binding, edge);
        }
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

    /// What the default exchange does.
    fn route_by_name(&self, topic: &Topic, targets: &mut Targets) {
        let name = dots(topic);
        if let Some(queue) = self.queues.get(&*name) {
            targets.push_queue(queue, None);
        } else if let Some(log) = self.logs.get(&*name) {
            targets.logs.push(log.clone());
        }
        targets.merge();
    }
}

impl Table {
    fn new(spec: &ExchangeSpec) -> Table {
        // The catalog has checked what a delayed exchange says.
        match spec.routes_as().unwrap_or(ExchangeKind::Fanout) {
            ExchangeKind::Direct => Table::Direct(Names::default()),
            ExchangeKind::Fanout => Table::Fanout(Edges::default()),
            ExchangeKind::Topic => Table::Topic(TopicTrie::default()),
            ExchangeKind::Headers => Table::Headers(SmallMap::default()),
            ExchangeKind::ConsistentHash => {
                // The catalog has checked the arguments.
                let on = HashOn::new(spec).unwrap_or(HashOn::RoutingKey);
                Table::Hash(on, Edges::default(), SmallMap::default())
            }
            ExchangeKind::Random | ExchangeKind::LocalRandom => Table::Random(Edges::default()),
            ExchangeKind::ModulusHash => Table::Modulus(Edges::default()),
            ExchangeKind::Delayed => Table::Fanout(Edges::default()),
        }
    }

    fn bind(&mut self, number: u64, binding: &Binding, edge: Edge) {
        match self {
            Table::Direct(keys) => {
                let key = direct_key(binding);
                match keys.get_mut(&*key) {
                    Some(edges) => edges.insert(number, edge),
                    None => {
                        let mut edges = Edges::default();
                        edges.insert(number, edge);
                        keys.insert(key, edges);
                    }
                }
            }
            Table::Fanout(edges) | Table::Random(edges) | Table::Modulus(edges) => {
                edges.insert(number, edge);
            }
            Table::Hash(_, edges, weights) => {
                // The catalog has checked the key.
                weights.insert(number, spread::weight(&binding.key).unwrap_or(1));
                edges.insert(number, edge);
            }
            Table::Topic(trie) => trie.insert(&pattern(binding), number, edge),
            Table::Headers(edges) => {
                // The catalog has checked the arguments; from a damaged row none is better than a wrong one.
                if let Ok(condition) = HeaderMatch::new(&binding.arguments) {
                    edges.insert(number, (Arc::new(condition), edge));
                }
            }
        }
    }

    fn unbind(&mut self, number: u64, binding: &Binding) {
        match self {
            Table::Direct(keys) => {
                let key = direct_key(binding);
                if let Some(edges) = keys.get_mut(&*key) {
                    edges.remove(&number);
                    if edges.is_empty() {
                        keys.remove(&*key);
                    }
                }
            }
            Table::Fanout(edges) | Table::Random(edges) | Table::Modulus(edges) => {
                edges.remove(&number);
            }
            Table::Hash(_, edges, weights) => {
                edges.remove(&number);
                weights.remove(&number);
            }
            Table::Topic(trie) => trie.remove(&pattern(binding), number),
            Table::Headers(edges) => {
                edges.remove(&number);
            }
        }
    }
}

fn alternate(spec: &ExchangeSpec, policies: &Policies) -> Option<Text> {
    let by_policy = policies.policy.as_ref();
    text_argument(&spec.arguments, "alternate-exchange")
        .or_else(|| by_policy?.text("alternate-exchange"))
        .cloned()
}

fn direct_key(binding: &Binding) -> Text {
    Topic::new(binding.key.clone(), binding.grammar).render(Grammar::Dots)
}

fn pattern(binding: &Binding) -> Pattern {
    Pattern::new(binding.key.clone(), binding.grammar)
}

/// The topic as a routing key or name.
pub(crate) fn dots(topic: &Topic) -> Cow<'_, str> {
    match topic.grammar() {
        Grammar::Dots => Cow::Borrowed(topic.text()),
        Grammar::Slashes => Cow::Owned(topic.render(Grammar::Dots).to_string()),
    }
}

/// One message on its way through exchanges. Each exchange is visited once, so cycles end.
struct Walk<'r, 'm> {
    vhost: &'r Vhost,
    topic: &'m Topic,
    facts: Lazy<'m>,
    client: &'m str,
    leading: Leading,
    /// Whether logs are destinations.
    logs: bool,
    targets: &'m mut Targets,
    /// Exchanges to visit.
    pending: SmallVec<[&'r Exchange; 4]>,
    /// Exchanges that are or were pending. Empty until one exchange leads to another.
    seen: FxHashSet<*const Exchange>,
    /// Whether the exchange that is being visited has a binding that matches.
    matched: bool,
}

/// What is known of a message, decoded when first wanted.
enum Lazy<'m> {
    Encoded(&'m mut dyn FnMut() -> Facts),
    Decoded(Box<Facts>),
}

impl Lazy<'_> {
    fn decode(&mut self) -> Box<Facts> {
        match self {
            Lazy::Encoded(decode) => Box::new(decode()),
            Lazy::Decoded(facts) => std::mem::take(facts),
        }
    }
}

impl<'r, 'm> Walk<'r, 'm> {
    fn new(
        vhost: &'r Vhost,
        topic: &'m Topic,
        facts: &'m mut dyn FnMut() -> Facts,
        client: &'m str,
        leading: Leading,
        logs: bool,
        targets: &'m mut Targets,
    ) -> Self {
        let facts = Lazy::Encoded(facts);
        let (pending, seen) = (SmallVec::new(), FxHashSet::default());
        Walk {
            vhost,
            topic,
            facts,
            client,
            leading,
            logs,
            targets,
            pending,
            seen,
            matched: false,
        }
    }

    fn run(mut self, start: &'r Exchange) {
        self.visit(start, start);
        while let Some(exchange) = self.pending.pop() {
            self.visit(exchange, start);
        }
        self.targets.merge();
    }

    fn visit(&mut self, exchange: &'r Exchange, start: &'r Exchange) {
        if let Some(delay) = &exchange.delay
            && self.is_to_wait()
        {
            self.targets.delays.push(delay.clone());
            return;
        }
        self.matched = false;
        let topic = self.topic;
        match &exchange.table {
            Table::Direct(keys) => {
                let edges = keys
                    .get(&*dots(topic))
                    .into_iter()
                    .flat_map(|edges| edges.values());
                edges.for_each(|edge| self.follow(edge, start));
            }
            Table::Fanout(edges) => edges.values().for_each(|edge| self.follow(edge, start)),
            Table::Topic(trie) => {
                trie.for_each_match(topic, self.leading, |edge| self.follow(edge, start))
            }
            Table::Headers(edges) => {
                let facts = self.facts.decode();
                let headers = &facts.properties.headers;
                let matching = edges
                    .values()
                    .filter(|(condition, _)| condition.matches(headers));
                matching.for_each(|(_, edge)| self.follow(edge, start));
                self.facts = Lazy::Decoded(facts);
                self.targets.by_headers = true;
            }
            Table::Hash(on, edges, weights) => {
                let hash = on.hash(&dots(topic), || {
                    let facts = self.facts.decode();
                    self.facts = Lazy::Decoded(facts.clone());
                    *facts
                });
                self.targets.by_headers |= *on != HashOn::RoutingKey;
                let weight = |number| weights.get(&number).copied().unwrap_or(1);
                let chosen = spread::consistent(edges.iter(), weight, hash);
                chosen.into_iter().for_each(|edge| self.follow(edge, start));
            }
            Table::Random(edges) => {
                self.targets.by_headers = true;
                let chosen = spread::random(edges.iter());
                chosen.into_iter().for_each(|edge| self.follow(edge, start));
            }
            Table::Modulus(edges) => {
                let chosen = spread::modulus(edges.iter(), &dots(topic));
                chosen.into_iter().for_each(|edge| self.follow(edge, start));
            }
        }
        if let (false, Some(alternate)) = (self.matched, &exchange.alternate) {
            self.enter(alternate, start);
        }
    }

    /// Whether the message asks a delayed exchange to keep it.
    fn is_to_wait(&mut self) -> bool {
        let facts = self.facts.decode();
        let delay = delay_ms(&facts.properties.headers);
        self.facts = Lazy::Decoded(facts);
        self.targets.by_headers = true;
        delay.is_some()
    }

    fn follow(&mut self, edge: &'r Edge, start: &'r Exchange) {
        self.matched = true;
        match &edge.to {
            Place::Queue(queue) => {
                let own = queue.spec.session && queue.name == self.client;
                if !(own
                    && edge
                        .subscription
                        .is_some_and(|subscription| subscription.no_local))
                {
                    self.targets.push_queue(queue, edge.subscription);
                }
            }
            Place::Log(log) if self.logs => self.targets.logs.push(log.clone()),
            Place::Log(_) => {}
            Place::Exchange(name) => self.enter(name, start),
        }
    }

    fn enter(&mut self, name: &str, start: &'r Exchange) {
        let Some(exchange) = self.vhost.exchanges.get(name) else {
            return;
        };
        if self.seen.is_empty() {
            self.seen.insert(start);
        }
        if self.seen.insert(&**exchange) {
            self.pending.push(exchange);
        }
    }
}
