//! What the routing benchmark needs of a catalog, which is not public.

use std::sync::Arc;

use super::{Actor, Catalog, Facts, Routes, Targets};
use crate::{command::Change, id::ConnectionId, topic::Topic};

/// A catalog of one vhost and its current snapshot.
pub struct Routing {
    catalog: Catalog,
    by: Actor,
    routes: Arc<Routes>,
    targets: Targets,
}

impl Default for Routing {
    fn default() -> Routing {
        let (catalog, _) = Catalog::recover(Vec::new(), None).expect("no rows are no damaged rows");
        let by = Actor {
            connection: ConnectionId(1),
            user: "guest".into(),
            vhost: "/".into(),
        };
        let routes = catalog.routes();
        Routing {
            catalog,
            by,
            routes,
            targets: Targets::default(),
        }
    }
}

impl Routing {
    /// Makes a change and takes the new snapshot while the old one is still held, as a broker does.
    pub fn apply(&mut self, change: Change) {
        self.catalog
            .apply(&self.by, &change)
            .expect("the benchmark asks for what may be");
        self.routes = self.catalog.routes();
    }

    /// Routes one message; returns to how many queues.
    pub fn route(&mut self, exchange: &str, topic: &Topic) -> usize {
        self.targets.clear();
        let routed = self.routes.route(
            "/",
            exchange,
            &[topic],
            &mut Facts::default,
            "",
            &mut self.targets,
        );
        routed.map_or(0, |()| self.targets.queues.len())
    }
}
