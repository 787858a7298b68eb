//! The published routes: swapped when a declaration changes, read without waiting.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use crate::catalog::Routes;

/// The newest routes. Readers keep theirs and look at the generation, which costs one atomic load.
#[derive(Debug)]
pub(crate) struct Snapshot {
    generation: AtomicU64,
    routes: RwLock<Arc<Routes>>,
    /// What readers hold while they have no use for any; its generation is nobody's.
    nothing: Arc<Routes>,
}

impl Snapshot {
    pub(crate) fn new(routes: Arc<Routes>) -> Snapshot {
        let mut nothing = Routes::default();
        nothing.generation = u64::MAX;
        Snapshot {
            generation: AtomicU64::new(routes.generation),
            routes: RwLock::new(routes),
            nothing: Arc::new(nothing),
        }
    }

    /// Publishes new routes.
    pub(crate) fn store(&self, routes: Arc<Routes>) {
        let mut current = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        self.generation.store(routes.generation, Ordering::Release);
        *current = routes;
    }

    pub(crate) fn load(&self) -> Arc<Routes> {
        self.routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Routes without anything, older than any.
    pub(crate) fn nothing(&self) -> Arc<Routes> {
        self.nothing.clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
