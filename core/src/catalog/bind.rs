//! Binding and unbinding.

use std::sync::Arc;

use super::{
    Actor, Applied, Catalog, Effect, Outcome,
    bindings::{Bound, End, ExchangeName, Identity},
    check, feeds,
    headers::HeaderMatch,
    is_group,
    routes::{Edge, Place, QueueEntry},
    spread, topic_trie,
};
use crate::{
    command::{Binding, Destination, ExchangeKind},
    event::{Kind, Refusal},
    history::Recall,
    properties::Text,
    store::{Table, keys::catalog as keys, values::catalog::BindingRow},
};

impl Catalog {
    pub(super) fn bind(&mut self, by: &Actor, binding: &Binding) -> Result<Applied, Refusal> {
        let place = self.check_binding(by, binding)?;
        let identity = Identity::new(&by.vhost, place.end(&by.vhost), binding);
        let existing = self.bindings.number(&identity);
        if let (None, Place::Queue(queue)) = (existing, &place) {
            self.check_subscriptions(queue)?;
        }
        let mut applied = Applied::from(Outcome::Bound {
            created: existing.is_none(),
        });
        // What a log captures by its own setting stays that, also if it is bound by hand (or by definitions) as well.
        let leads_to_log = matches!(place, Place::Log(_));
        let unchanged = |number| {
            self.bindings
                .get(number)
                .is_some_and(|bound| leads_to_log || bound.binding == *binding)
        };
        if !existing.is_some_and(unchanged) {
            let number = existing.unwrap_or_else(|| self.bindings.next_number());
            let stored = self.is_stored(&by.vhost, &binding.source, &place);
            if stored {
                let row = BindingRow::write(&by.vhost, binding);
                applied
                    .batch
                    .put(Table::Catalog, keys::binding(number), row);
            }
            if feeds::is_fed(binding) {
                let log = self.feed_source(&by.vhost, binding);
                applied.effects.extend(log.map(Effect::Fed));
            }
            self.put_binding(
                number,
                Bound {
                    identity: Arc::new(identity),
                    binding: binding.clone(),
                    stored,
                },
                place.clone(),
            );
            if existing.is_none() && !feeds::is_fed(binding) {
                let of = self.routes.remembering(&by.vhost, &binding.source);
                let recall = of.map(|of| Recall {
                    of: of.clone(),
                    vhost: by.vhost.clone(),
                    to: place,
                });
                applied.effects.extend(recall.map(Effect::Recalled));
            }
        }
        Ok(applied)
    }

    /// Whether a client's session may have another subscription. Groups have the one that they were made for.
    pub(super) fn check_subscriptions(&self, queue: &QueueEntry) -> Result<(), Refusal> {
        if !queue.spec.session || self.subscriptions_max == 0 || is_group(&queue.name) {
            return Ok(());
        }
        let subscriptions = self.bindings.count_to(&End::Queue(queue.id)) + queue.shares.len();
        if subscriptions < self.subscriptions_max {
            return Ok(());
        }
        let text = format!(
            "a session has at most {} subscriptions",
            self.subscriptions_max
        );
        Err(Refusal::Quota(text.into()))
    }

    pub(super) fn unbind(&mut self, by: &Actor, binding: &Binding) -> Result<Applied, Refusal> {
        not_default(binding)?;
        self.may_bind(by, binding)?;
        let Some(place) = self.find(&by.vhost, &binding.destination) else {
            return Ok(Outcome::Unbound { existed: false }.into());
        };
        place.may_be_used(by)?;
        let identity = Identity::new(&by.vhost, place.end(&by.vhost), binding);
        let number = self.bindings.number(&identity);
        let mut applied = Applied::from(Outcome::Unbound {
            existed: number.is_some(),
        });
        let unused = number.and_then(|number| self.remove_binding(number, &mut applied));
        self.remove_exchanges(unused.into_iter().collect(), &mut applied);
        Ok(applied)
    }

    /// Where a binding leads, if it may be made.
    fn check_binding(&self, by: &Actor, binding: &Binding) -> Result<Place, Refusal> {
        not_default(binding)?;
        self.may_bind(by, binding)?;
        self.check_source(by, binding)?;
        let Some(place) = self.find(&by.vhost, &binding.destination) else {
            let (kind, name) = match &binding.destination {
                Destination::Queue(name) | Destination::Session(name) => (Kind::Queue, name),
                Destination::Exchange(name) => (Kind::Exchange, name),
                Destination::Log(name) => (Kind::Log, name),
            };
            return Err(check::not_found(kind, name, by));
        };
        place.may_be_used(by)?;
        if let Place::Queue(queue) = &place
            && queue.source.is_some()
        {
            let text = format!(
                "queue '{}' in vhost '{}' is a cursor: its messages are those of its log, and it cannot be bound",
                queue.name, queue.vhost
            );
            return Err(Refusal::Invalid(text.into()));
        }
        if feeds::is_fed(binding) {
            self.check_feed(by, binding)?;
        }
        Ok(place)
    }

    /// Whether a binding may lead from where it does.
    pub(super) fn check_source(&self, by: &Actor, binding: &Binding) -> Result<(), Refusal> {
        not_default(binding)?;
        let Some(source) = self.routes.exchange(&by.vhost, &binding.source) else {
            return Err(check::not_found(Kind::Exchange, &binding.source, by));
        };
        if source.routes_as() == Some(ExchangeKind::Topic)
            && topic_trie::is_too_deep(&binding.key, binding.grammar)
        {
            let text = format!(
                "a binding key has at most {} levels",
                topic_trie::LEVELS_MAX
            );
            return Err(Refusal::Invalid(text.into()));
        }
        if source.routes_as() == Some(ExchangeKind::ConsistentHash) {
            spread::weight(&binding.key)?;
        }
        if source.routes_as() == Some(ExchangeKind::Headers) {
            HeaderMatch::new(&binding.arguments).map_err(Refusal::Invalid)?;
        }
        Ok(())
    }

    pub(super) fn find(&self, vhost: &str, destination: &Destination) -> Option<Place> {
        let routes = &self.routes;
        match destination {
            // A log is what RabbitMQ calls a queue of type stream.
            Destination::Queue(name) => match routes.queue(vhost, name) {
                Some(queue) => Some(Place::Queue(queue.clone())),
                None => routes.log(vhost, name).cloned().map(Place::Log),
            },
            Destination::Session(client) => {
                routes.session(vhost, client).cloned().map(Place::Queue)
            }
            Destination::Log(name) => routes.log(vhost, name).cloned().map(Place::Log),
            Destination::Exchange(name) => routes
                .exchange(vhost, name)
                .map(|_| Place::Exchange((&**name).into())),
        }
    }

    /// A binding survives a restart when both of its ends do.
    pub(super) fn is_stored(&self, vhost: &str, source: &str, place: &Place) -> bool {
        let durable = |name: &str| {
            self.routes
                .exchange(vhost, name)
                .is_some_and(|spec| spec.durable)
        };
        let end = match place {
            Place::Queue(queue) => queue.spec.durable,
            Place::Log(_) => true,
            Place::Exchange(name) => durable(name),
        };
        end && durable(source)
    }

    pub(super) fn put_binding(&mut self, number: u64, bound: Bound, place: Place) {
        if feeds::is_fed(&bound.binding) {
            let vhost = bound.identity.source.0.clone();
            self.put_feed(number, &vhost, &bound.binding, &place);
            self.bindings.insert(number, bound);
            return;
        }
        let edge = Edge {
            to: place,
            subscription: bound.binding.subscription,
            guarded: matches!(bound.binding.destination, Destination::Log(_)),
        };
        let vhost = bound.identity.source.0.clone();
        self.routes_mut().bind(&vhost, number, &bound.binding, edge);
        self.bindings.insert(number, bound);
    }

    /// Makes a binding lead to its destination as that is now described.
    pub(super) fn refresh_binding(&mut self, number: u64, applied: &mut Applied) {
        let Some(mut bound) = self.bindings.get(number).cloned() else {
            return;
        };
        let vhost = bound.identity.source.0.clone();
        let Some(place) = self.find(&vhost, &bound.binding.destination) else {
            return;
        };
        let stored = self.is_stored(&vhost, &bound.binding.source, &place);
        if stored && !bound.stored {
            let row = BindingRow::write(&vhost, &bound.binding);
            applied
                .batch
                .put(Table::Catalog, keys::binding(number), row);
        }
        if bound.stored && !stored {
            applied.batch.delete(Table::Catalog, keys::binding(number));
        }
        bound.stored = stored;
        self.put_binding(number, bound, place);
    }

    /// Removes a binding. Returns its source if that is to go with its last binding, which this was.
    pub(super) fn remove_binding(
        &mut self,
        number: u64,
        applied: &mut Applied,
    ) -> Option<ExchangeName> {
        let bound = self.bindings.remove(number)?;
        let source = bound.identity.source.clone();
        match feeds::is_fed(&bound.binding) {
            true => self.remove_feed(number, applied),
            false => self.routes_mut().unbind(&source.0, number, &bound.binding),
        }
        if bound.stored {
            applied.batch.delete(Table::Catalog, keys::binding(number));
        }
        let auto_delete = self
            .routes
            .exchange(&source.0, &source.1)
            .is_some_and(|spec| spec.auto_delete);
        (auto_delete && !self.bindings.any_from(&source)).then_some(source)
    }

    pub(super) fn remove_bindings_to(&mut self, end: &End, applied: &mut Applied) {
        let numbers = self.bindings.to(end);
        let unused = numbers
            .into_iter()
            .filter_map(|number| self.remove_binding(number, applied))
            .collect();
        self.remove_exchanges(unused, applied);
    }
}

impl Place {
    pub(super) fn end(&self, vhost: &Text) -> End {
        match self {
            Place::Queue(queue) => End::Queue(queue.id),
            Place::Log(log) => End::Log(log.info.id),
            Place::Exchange(name) => End::Exchange((vhost.clone(), Text::from(&**name))),
        }
    }

    fn may_be_used(&self, by: &Actor) -> Result<(), Refusal> {
        match self {
            Place::Queue(queue) => check::may_use(queue, by),
            Place::Log(_) | Place::Exchange(_) => Ok(()),
        }
    }
}

fn not_default(binding: &Binding) -> Result<(), Refusal> {
    let to_default = matches!(&binding.destination, Destination::Exchange(name) if name.is_empty());
    if binding.source.is_empty() || to_default {
        Err(check::default_exchange())
    } else {
        Ok(())
    }
}
