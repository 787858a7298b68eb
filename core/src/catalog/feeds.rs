//! Bindings by way of a log (`x-backfill`): their queue gets what the log has, and then what comes to the log.
//!
//! Nothing is routed by them. One task reads the log for each ([`crate::backfill`]), so a record is put into the queue
//! once, in the order of its partition, and what is there already before what comes.

use std::sync::Arc;

use super::{
    Actor, Applied, Catalog, check,
    headers::HeaderMatch,
    routes::{LogEntry, Place, QueueEntry},
};
use crate::{
    access::Operation,
    command::{Binding, Destination, ExchangeKind, StreamStart},
    event::{Kind, Refusal},
    id::LogId,
    message::Message,
    properties::{Text, Value},
    store::{Table, keys},
    topic::{Grammar, Pattern},
};

/// The argument that makes a binding one by way of a log: where it begins.
const BACKFILL: &str = "x-backfill";
/// The log; the one of the name of the binding's key if absent.
const SOURCE: &str = "x-source";

/// A binding by way of a log.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Of the binding; another has had it only before the broker was opened.
    pub number: u64,
    pub log: LogId,
    pub vhost: Text,
    pub log_name: Text,
    pub queue: Arc<QueueEntry>,
    pub exchange: Text,
    pub start: StreamStart,
    wanted: Wanted,
}

/// What an exchange of some type would have the queue get by the binding.
#[derive(Debug)]
enum Wanted {
    Everything,
    Key(Text),
    Pattern(Pattern),
    Headers(HeaderMatch),
}

impl Feed {
    /// Whether a record is for the queue. One that does not say where it was published was published there, under the
    /// log's name.
    pub(crate) fn wants(&self, message: &Message) -> bool {
        let by_exchange = message.exchange.is_empty() || message.exchange == self.exchange;
        by_exchange
            && match &self.wanted {
                Wanted::Everything => true,
                Wanted::Key(key) => message.topic.render(Grammar::Dots) == *key,
                Wanted::Pattern(pattern) => pattern.matches(&message.topic),
                Wanted::Headers(wanted) => wanted.matches(&message.properties().headers),
            }
    }
}

/// Whether a binding is by way of a log.
pub(super) fn is_fed(binding: &Binding) -> bool {
    matches!(binding.destination, Destination::Queue(_)) && argument(binding, BACKFILL).is_some()
}

fn argument<'a>(binding: &'a Binding, name: &str) -> Option<&'a Value> {
    let mut arguments = binding.arguments.iter();
    arguments.find(|(of, _)| of == name).map(|(_, value)| value)
}

/// The log that a binding is by way of.
fn source(binding: &Binding) -> Result<Text, Refusal> {
    match argument(binding, SOURCE) {
        None => Ok(binding.key.clone()),
        Some(Value::Text(name)) => Ok(name.clone()),
        Some(other) => {
            let kind = other.type_name();
            let text = format!("invalid arg '{SOURCE}': expected longstr, got {kind}");
            Err(Refusal::Invalid(text.into()))
        }
    }
}

fn start(binding: &Binding) -> Result<StreamStart, Refusal> {
    match argument(binding, BACKFILL) {
        Some(Value::Text(word)) if *word == "first" => Ok(StreamStart::First),
        // In seconds, as AMQP has it.
        Some(Value::Timestamp(seconds)) => Ok(StreamStart::AtTime(seconds.saturating_mul(1000))),
        _ => {
            let text = format!("invalid arg '{BACKFILL}': expected first or a timestamp");
            Err(Refusal::Invalid(text.into()))
        }
    }
}

fn wanted(binding: &Binding, kind: Option<ExchangeKind>) -> Result<Wanted, Refusal> {
    Ok(match kind {
        Some(ExchangeKind::Fanout) => Wanted::Everything,
        Some(ExchangeKind::Direct) => Wanted::Key(binding.key.clone()),
        Some(ExchangeKind::Topic) => {
            Wanted::Pattern(Pattern::new(binding.key.clone(), binding.grammar))
        }
        Some(ExchangeKind::Headers) => {
            let is_own = |(name, _): &&(Text, Value)| name != BACKFILL && name != SOURCE;
            let arguments: Vec<_> = binding.arguments.iter().filter(is_own).cloned().collect();
            Wanted::Headers(HeaderMatch::new(&arguments).map_err(Refusal::Invalid)?)
        }
        _ => {
            let text =
                format!("invalid arg '{BACKFILL}': the exchange's type does not choose by message");
            return Err(Refusal::Invalid(text.into()));
        }
    })
}

impl Catalog {
    /// Whether a binding by way of a log may be made.
    pub(super) fn check_feed(&self, by: &Actor, binding: &Binding) -> Result<(), Refusal> {
        let name = source(binding)?;
        self.may(by, Operation::Read, Kind::Log, &name)?;
        start(binding)?;
        let exchange = self.routes.exchange(&by.vhost, &binding.source);
        wanted(binding, exchange.and_then(|exchange| exchange.routes_as()))?;
        match self.routes.log(&by.vhost, &name) {
            Some(_) => Ok(()),
            None => Err(check::not_found(Kind::Log, &name, by)),
        }
    }

    /// The log of a binding by way of one, if both are there.
    pub(super) fn feed_source(&self, vhost: &str, binding: &Binding) -> Option<Arc<LogEntry>> {
        self.routes.log(vhost, &source(binding).ok()?).cloned()
    }

    /// Puts a binding by way of a log in force.
    pub(super) fn put_feed(&mut self, number: u64, vhost: &Text, binding: &Binding, place: &Place) {
        let Place::Queue(queue) = place else { return };
        let Some(log) = self.feed_source(vhost, binding) else {
            return;
        };
        let exchange = self.routes.exchange(vhost, &binding.source);
        let kind = exchange.and_then(|exchange| exchange.routes_as());
        let (Ok(start), Ok(wanted)) = (start(binding), wanted(binding, kind)) else {
            return;
        };
        let feed = Feed {
            number,
            log: log.info.id,
            vhost: vhost.clone(),
            log_name: log.info.name.clone(),
            queue: queue.clone(),
            exchange: binding.source.clone(),
            start,
            wanted,
        };
        self.routes_mut().put_feed(Arc::new(feed));
    }

    /// Takes a binding by way of a log out of force. What is written of it meanwhile is forgotten when the broker opens.
    pub(super) fn remove_feed(&mut self, number: u64, applied: &mut Applied) {
        if let Some(feed) = self.routes_mut().remove_feed(number)
            && let Some(log) = self.routes.log(&feed.vhost, &feed.log_name)
        {
            for partition in 0..log.tails.len() as u32 {
                let key = keys::feed(number, feed.log, partition);
                applied.batch.delete(Table::State, key);
            }
        }
    }
}
