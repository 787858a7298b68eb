//! Where messages go: the snapshot of the catalog, and what this connection looked up lately.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{
    catalog::{Routes, Targets},
    event::Refusal,
    message::Message,
    properties::Text,
    snapshot::Snapshot,
    topic::Topic,
};

/// Topics remembered per connection; when there are more, all are forgotten.
const REMEMBERED_MAX: usize = 1024;

/// Routes messages against the current snapshot, and remembers where a topic led to.
pub(crate) struct Routing {
    snapshot: Arc<Snapshot>,
    routes: Arc<Routes>,
    remembered: FxHashMap<Topic, (Text, Arc<Targets>)>,
    last: Option<(Text, Topic, Arc<Targets>)>,
}

impl Routing {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Routing {
        let routes = snapshot.load();
        Routing {
            snapshot,
            routes,
            remembered: FxHashMap::default(),
            last: None,
        }
    }

    /// The current snapshot.
    pub(crate) fn current(&mut self) -> &Arc<Routes> {
        if self.snapshot.generation() != self.routes.generation {
            self.routes = self.snapshot.load();
            self.remembered.clear();
            self.last = None;
        }
        &self.routes
    }

    /// Where a message goes; the same `Arc` again and again for the same exchange and topic.
    pub(crate) fn route(
        &mut self,
        vhost: &str,
        message: &Message,
    ) -> Result<Arc<Targets>, Refusal> {
        self.current();
        if let Some((exchange, topic, targets)) = &self.last
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
        self.last = (!targets.by_headers).then_some(last);
        Ok(targets)
    }

    /// Where a message goes by its own topic and by others.
    pub(crate) fn route_all(
        &mut self,
        vhost: &str,
        message: &Message,
        also: &[Topic],
    ) -> Result<Arc<Targets>, Refusal> {
        let targets = self.route(vhost, message)?;
        if also.is_empty() {
            return Ok(targets);
        }
        let mut targets = Targets::clone(&targets);
        let mut headers = || message.properties().headers;
        for topic in also {
            self.routes.route(
                vhost,
                &message.exchange,
                topic,
                &mut headers,
                &message.origin.client,
                &mut targets,
            )?;
        }
        targets.merge();
        Ok(Arc::new(targets))
    }

    fn look_up(&mut self, vhost: &str, message: &Message) -> Result<Arc<Targets>, Refusal> {
        if let Some((exchange, targets)) = self.remembered.get(&message.topic)
            && *exchange == message.exchange
        {
            return Ok(targets.clone());
        }
        let mut targets = Targets::default();
        let mut headers = || message.properties().headers;
        let client = &message.origin.client;
        self.routes.route(
            vhost,
            &message.exchange,
            &message.topic,
            &mut headers,
            client,
            &mut targets,
        )?;
        let targets = Arc::new(targets);
        if !targets.by_headers {
            if self.remembered.len() >= REMEMBERED_MAX {
                self.remembered.clear();
            }
            self.remembered.insert(
                message.topic.clone(),
                (message.exchange.clone(), targets.clone()),
            );
        }
        Ok(targets)
    }
}
