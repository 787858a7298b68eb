//! Where messages go: the snapshot of the catalog, and what this connection looked up lately.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{
    access::{Operation, Permits},
    catalog::{Actor, Facts, LogTarget, Routes, Targets, dots},
    command::ExchangeKind,
    event::{Kind, Refusal},
    message::Message,
    properties::Text,
    rare::Rare,
    snapshot::Snapshot,
    topic::Topic,
};

/// Topics remembered per connection; when there are more, all are forgotten.
const REMEMBERED_MAX: usize = 1024;

/// Routes messages against the current snapshot, and remembers where a topic led to.
pub(crate) struct Routing {
    snapshot: Arc<Snapshot>,
    routes: Arc<Routes>,
    lately: Rare<Lately>,
    permits: Permits,
    captures_denied: u64,
}

/// Where messages of this connection went lately.
#[derive(Debug, Default)]
struct Lately {
    remembered: FxHashMap<Topic, (Text, Arc<Targets>)>,
    last: Option<(Text, Topic, Arc<Targets>)>,
}

impl Lately {
    fn forget(&mut self) {
        self.remembered.clear();
        self.last = None;
    }
}

impl Routing {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Routing {
        let routes = snapshot.nothing();
        Routing {
            snapshot,
            routes,
            lately: Rare::default(),
            permits: Permits::default(),
            captures_denied: 0,
        }
    }

    /// Whose permissions count from now on.
    pub(crate) fn set_actor(&mut self, actor: &Actor) {
        let Actor { user, vhost, .. } = actor.clone();
        self.permits.set_actor(user, vhost);
        self.lately = Rare::default();
    }

    /// Whether the connection may do something with what has that name.
    pub(crate) fn permit(
        &mut self,
        operation: Operation,
        kind: Kind,
        name: &Text,
    ) -> Result<(), Refusal> {
        self.current();
        self.permits.update(self.routes.access());
        self.permits.check(operation, kind, name)
    }

    /// Whether the connection may use a topic of `amq.topic` or another topic exchange.
    pub(crate) fn permit_topic(
        &mut self,
        operation: Operation,
        exchange: &str,
        topic: &Topic,
        client: &str,
    ) -> Result<(), Refusal> {
        self.current();
        self.permits.update(self.routes.access());
        if !self.permits.restricts_topics() {
            return Ok(());
        }
        self.permits
            .check_topic(operation, exchange, &dots(topic), client)
    }

    /// Whether the connection may do anything at all with what has that name.
    pub(crate) fn permit_any(&mut self, kind: Kind, name: &Text) -> Result<(), Refusal> {
        self.permit(Operation::Read, kind, name).or_else(|refusal| {
            self.permit(Operation::Write, kind, name)
                .or_else(|_| self.permit(Operation::Configure, kind, name))
                .map_err(|_| refusal)
        })
    }

    fn permit_publish(
        &mut self,
        vhost: &str,
        message: &Message,
        topic: &Topic,
    ) -> Result<(), Refusal> {
        let exchange = &message.exchange;
        self.permit(Operation::Write, Kind::Exchange, exchange)?;
        let spec = self.routes.exchange(vhost, exchange);
        if self.permits.restricts_topics()
            && spec.is_some_and(|spec| spec.routes_as() == Some(ExchangeKind::Topic))
        {
            let client = &message.origin.client;
            return self.permit_topic(Operation::Write, exchange, topic, client);
        }
        Ok(())
    }

    /// What a log captures is written to it by whoever publishes (DESIGN section 3.2).
    fn permit_captures(&mut self, targets: &Targets) -> Result<(), Refusal> {
        let guarded = targets.logs.iter().filter(|target| target.guarded);
        for LogTarget { log, .. } in guarded {
            self.permit(Operation::Write, Kind::Log, &log.info.name)
                .inspect_err(|_| self.captures_denied += 1)?;
        }
        Ok(())
    }

    /// How many publishes a log would have captured and their publisher may not write to it, since somebody asked.
    pub(crate) fn take_captures_denied(&mut self) -> u64 {
        std::mem::take(&mut self.captures_denied)
    }

    /// The current snapshot.
    pub(crate) fn current(&mut self) -> &Arc<Routes> {
        if self.snapshot.generation() != self.routes.generation {
            self.routes = self.snapshot.load();
            if let Some(lately) = self.lately.get_mut() {
                lately.forget();
            }
        }
        &self.routes
    }

    /// Lets go of the snapshot, until it is asked again.
    pub(crate) fn let_go(&mut self) {
        self.routes = self.snapshot.nothing();
        if let Some(lately) = self.lately.get_mut() {
            lately.forget();
        }
    }

    /// Lets go also of the memory for what was looked up and allowed.
    pub(crate) fn rest(&mut self) {
        self.routes = self.snapshot.nothing();
        self.lately = Rare::default();
        self.permits.rest();
    }

    /// Where a message goes; the same `Arc` again and again for the same exchange and topic.
    pub(crate) fn route(
        &mut self,
        vhost: &str,
        message: &Message,
    ) -> Result<Arc<Targets>, Refusal> {
        self.current();
        if let Some(lately) = self.lately.get()
            && let Some((exchange, topic, targets)) = &lately.last
            && *topic == message.topic
            && *exchange == message.exchange
        {
            return Ok(targets.clone());
        }
        let targets = self.look_up(vhost, message)?;
        let last = (
            message.exchange.clone(),
            message.topic.clone(),
            targets.clone(),
        );
        self.lately.make().last = (!targets.by_headers).then_some(last);
        Ok(targets)
    }

    /// Where a message goes by its own topic and by others.
    pub(crate) fn route_all(
        &mut self,
        vhost: &str,
        message: &Message,
        also: &[Topic],
    ) -> Result<Arc<Targets>, Refusal> {
        if also.is_empty() {
            return self.route(vhost, message);
        }
        self.current();
        let topics: Vec<&Topic> = std::iter::once(&message.topic).chain(also).collect();
        self.find_targets(vhost, message, &topics).map(Arc::new)
    }

    fn find_targets(
        &mut self,
        vhost: &str,
        message: &Message,
        topics: &[&Topic],
    ) -> Result<Targets, Refusal> {
        for topic in topics {
            self.permit_publish(vhost, message, topic)?;
        }
        let mut targets = Targets::default();
        let mut facts = || Facts::of(message);
        let client = &message.origin.client;
        self.routes.route(
            vhost,
            &message.exchange,
            topics,
            &mut facts,
            client,
            &mut targets,
        )?;
        self.permit_captures(&targets)?;
        Ok(targets)
    }

    fn look_up(&mut self, vhost: &str, message: &Message) -> Result<Arc<Targets>, Refusal> {
        if let Some(lately) = self.lately.get()
            && let Some((exchange, targets)) = lately.remembered.get(&message.topic)
            && *exchange == message.exchange
        {
            return Ok(targets.clone());
        }
        let targets = self.find_targets(vhost, message, &[&message.topic])?;
        let targets = Arc::new(targets);
        if !targets.by_headers {
            let remembered = &mut self.lately.make().remembered;
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(
                message.topic.clone(),
                (message.exchange.clone(), targets.clone()),
            );
        }
        Ok(targets)
    }
}
