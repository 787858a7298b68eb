//! The way of a message through exchanges.

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::{
    super::{
        SQUARE,
        spread::{self, Facts, HashOn},
        topic_trie::Leading,
    },
    Exchange, LogEntry, Routes, Targets, Vhost, dots,
    table::{Edge, Place, Table},
};
use crate::{
    delay::{DelayEntry, delay_ms},
    event::{Kind, Refusal},
    history::Recall,
    message::Message,
    topic::Topic,
};

impl Routes {
    /// Adds to `targets` where a message goes by its topics, of which most have one: each destination once, however
    /// many bindings match.
    ///
    /// `facts` is asked at most once, by exchanges that look at more than the topic. `client` is the publisher's client
    /// identifier, which subscriptions with "no local" leave out.
    pub(crate) fn route(
        &self,
        vhost: &str,
        exchange: &str,
        topics: &[&Topic],
        facts: &mut dyn FnMut() -> Facts,
        client: &str,
        targets: &mut Targets,
    ) -> Result<(), Refusal> {
        let Some(names) = self.vhosts.get(vhost) else {
            return Err(Refusal::NoVhost(vhost.into()));
        };
        if exchange.is_empty() {
            names.route_by_name(topics, targets);
            return Ok(());
        }
        if let Some(topic) = topics.iter().find(|topic| topic.is_brokers()) {
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
        Walk::new(names, topics, facts, client, Leading::Any, true, targets).run(start);
        Ok(())
    }

    /// Adds to `targets` who hears of one of the broker's own topics: as [`Routes::route`] by `amq.topic`, which takes them
    /// from nobody else.
    pub(crate) fn route_announced(&self, vhost: &str, topic: &Topic, targets: &mut Targets) {
        if let Some(names) = self.vhosts.get(vhost)
            && let Some(start) = names.exchanges.get(SQUARE)
        {
            let facts = &mut Facts::default;
            Walk::new(names, &[topic], facts, "", Leading::Any, false, targets).run(start);
        }
    }

    /// Adds to `targets` where a message goes that a delayed exchange has kept; nowhere if that has gone.
    pub(crate) fn route_due(
        &self,
        delay: &DelayEntry,
        topics: &[&Topic],
        facts: &mut dyn FnMut() -> Facts,
        client: &str,
        targets: &mut Targets,
    ) {
        let names = self.vhosts.get(&*delay.vhost);
        let start = names.and_then(|names| names.exchanges.get(&*delay.exchange));
        if let (Some(names), Some(start)) = (names, start)
            && start.delay.as_ref().is_some_and(|own| own.id == delay.id)
        {
            Walk::new(names, topics, facts, client, Leading::Any, true, targets).run(start);
        }
    }

    /// Adds to `targets` where a new binding has a message go that its exchange remembers.
    pub(crate) fn route_recalled(&self, recall: &Recall, message: &Message, targets: &mut Targets) {
        match &recall.to {
            Place::Queue(queue) => targets.push_queue(queue, None),
            Place::Log(log) => targets.push_log(log, false),
            Place::Exchange(name) => {
                let names = self.vhosts.get(&*recall.vhost);
                let start = names.and_then(|names| names.exchanges.get(&**name));
                if let (Some(names), Some(start)) = (names, start) {
                    let facts = &mut || Facts::of(message);
                    let topics = &[&message.topic];
                    Walk::new(names, topics, facts, "", Leading::Any, true, targets).run(start);
                }
            }
        }
    }

    /// Adds to `targets` where a dead letter goes. Internal exchanges take it, and one that is not there leads nowhere.
    pub(crate) fn route_dead(
        &self,
        vhost: &str,
        message: &Message,
        topics: &[&Topic],
        targets: &mut Targets,
    ) {
        let Some(names) = self.vhosts.get(vhost) else {
            return;
        };
        if message.exchange.is_empty() {
            return names.route_by_name(topics, targets);
        }
        if topics.iter().any(|topic| topic.is_brokers()) {
            return;
        }
        if let Some(start) = names.exchanges.get(&*message.exchange) {
            let mut facts = || Facts::of(message);
            Walk::new(names, topics, &mut facts, "", Leading::Any, true, targets).run(start);
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
        Walk::new(names, &[topic], facts, "", leading, false, targets).run(start);
    }

    /// Whether a record of `log` that is offered under a topic with this beginning may reach anybody.
    pub(crate) fn tap_may_match(&self, log: &LogEntry, prefix: &[String]) -> bool {
        let Some(names) = self.vhosts.get(&log.vhost) else {
            return false;
        };
        let Some(start) = log.tap.as_ref().and_then(|tap| names.exchanges.get(tap)) else {
            return false;
        };
        let leading = if log.root_wildcards {
            Leading::Any
        } else {
            Leading::Literal
        };
        let hears = |edge: &Edge| !matches!(edge.to, Place::Log(_));
        match &start.table {
            Table::Topic(trie) if start.alternate.is_none() && start.delay.is_none() => {
                trie.may_match(prefix, leading, &hears)
            }
            _ => true,
        }
    }
}

impl Vhost {
    /// What the default exchange does.
    fn route_by_name(&self, topics: &[&Topic], targets: &mut Targets) {
        for topic in topics {
            let name = dots(topic);
            if let Some(queue) = self.queues.get(&*name) {
                // What a cursor has comes from its log only.
                if queue.source.is_none() {
                    targets.push_queue(queue, None);
                }
            } else if let Some(log) = self.logs.get(&*name) {
                targets.push_log(log, false);
            }
        }
        targets.merge();
    }
}

/// One message on its way through exchanges. Each exchange is visited once, for all topics, so cycles end, and an
/// alternate takes only what no topic has led anywhere.
struct Walk<'r, 'm> {
    vhost: &'r Vhost,
    topics: &'m [&'m Topic],
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
        topics: &'m [&'m Topic],
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
            topics,
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
        self.targets.histories.extend(exchange.remembering.clone());
        self.matched = false;
        let topics = self.topics;
        match &exchange.table {
            Table::Direct(keys) => {
                for topic in topics {
                    let edges = keys.get(&*dots(topic));
                    let edges = edges.into_iter().flat_map(|edges| edges.values());
                    edges.for_each(|edge| self.follow(edge, start));
                }
            }
            Table::Fanout(edges) => edges.values().for_each(|edge| self.follow(edge, start)),
            Table::Topic(trie) => {
                for topic in topics {
                    trie.for_each_match(topic, self.leading, |edge| self.follow(edge, start));
                }
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
                for topic in topics {
                    let hash = on.hash(&dots(topic), || {
                        let facts = self.facts.decode();
                        self.facts = Lazy::Decoded(facts.clone());
                        *facts
                    });
                    let weight = |number| weights.get(&number).copied().unwrap_or(1);
                    let chosen = spread::consistent(edges.iter(), weight, hash);
                    chosen.into_iter().for_each(|edge| self.follow(edge, start));
                }
                self.targets.by_headers |= *on != HashOn::RoutingKey;
            }
            Table::Random(edges) => {
                self.targets.by_headers = true;
                let chosen = spread::random(edges.iter());
                chosen.into_iter().for_each(|edge| self.follow(edge, start));
            }
            Table::Federation(hops, edges) => {
                let facts = self.facts.decode();
                if hops.allow(&facts.properties.headers) {
                    edges.values().for_each(|edge| self.follow(edge, start));
                }
                self.facts = Lazy::Decoded(facts);
                self.targets.by_headers = true;
            }
            Table::Modulus(edges) => {
                for topic in topics {
                    let chosen = spread::modulus(edges.iter(), &dots(topic));
                    chosen.into_iter().for_each(|edge| self.follow(edge, start));
                }
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
            Place::Log(log) if self.logs => self.targets.push_log(log, edge.guarded),
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
