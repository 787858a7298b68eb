//! Routing and declaring with many queues and bindings:
//! `cargo bench -p trivium-core --features testing --bench routing`.

use std::{hint::black_box, time::Instant};

use trivium_core::{Binding, Change, Destination, Grammar, QueueSpec, Routing, Text, Topic};

/// Measurements of which the best counts.
const ROUNDS: usize = 100;

fn main() {
    let mut routing = Routing::default();
    let topics: Vec<_> = (0..1000)
        .map(|i| topic(&format!("site/{}/device/{}/temp", i % 100, i * 97)))
        .collect();
    route("route: no binding", &topics, |topic| {
        routing.route("amq.topic", topic)
    });
    for queue in 0..100 {
        routing.apply(declare(&format!("q{queue}")));
    }
    let filters: Vec<_> = (0..100_000)
        .map(|i| format!("site/{}/device/{i}/+", i % 100))
        .collect();
    change("bind: one of 100,000 filters", &filters, |filter| {
        routing.apply(bind("amq.topic", filter, "q7"))
    });
    route("route: one hit in 100,000 filters", &topics, |topic| {
        routing.route("amq.topic", topic)
    });
    let misses: Vec<_> = (0..1000).map(|i| topic(&format!("plant/{i}"))).collect();
    route("route: no hit in 100,000 filters", &misses, |topic| {
        routing.route("amq.topic", topic)
    });
    let names: Vec<_> = (0..50_000).map(|i| format!("queue-{i}")).collect();
    change("declare: one of 50,000 queues", &names, |name| {
        routing.apply(declare(name))
    });
    change("bind: one of 50,000 queues to a fanout", &names, |name| {
        routing.apply(bind("amq.fanout", "", name))
    });
    let keys: Vec<_> = names.iter().step_by(50).map(|name| dots(name)).collect();
    route("route: default exchange, 50,000 queues", &keys, |name| {
        routing.route("", name)
    });
    route("route: fanout to 50,000 queues", &topics[..1], |topic| {
        routing.route("amq.fanout", topic)
    });
}

/// Prints nanoseconds per item, of the best of many rounds.
fn route<T>(name: &str, items: &[T], mut work: impl FnMut(&T) -> usize) {
    let best = (0..ROUNDS)
        .map(|_| round(items, &mut work))
        .min()
        .unwrap_or_default();
    print(name, best);
}

/// Prints nanoseconds per item, of the best hundred items in a row, because each can be done only once.
fn change<T>(name: &str, items: &[T], mut work: impl FnMut(&T)) {
    let best = items
        .chunks_exact(100)
        .map(|items| round(items, &mut work))
        .min()
        .unwrap_or_default();
    print(name, best);
}

#[allow(clippy::disallowed_methods)]
fn round<T, R>(items: &[T], mut work: impl FnMut(&T) -> R) -> u128 {
    let start = Instant::now();
    for item in items {
        black_box(work(item));
    }
    start.elapsed().as_nanos() / items.len() as u128
}

#[allow(clippy::print_stdout)]
fn print(name: &str, nanoseconds: u128) {
    println!("{name:<42} {nanoseconds:>9} ns");
}

fn topic(text: &str) -> Topic {
    Topic::new(text.into(), Grammar::Slashes)
}

fn dots(text: &str) -> Topic {
    Topic::new(Text::from(text), Grammar::Dots)
}

fn declare(name: &str) -> Change {
    let spec = QueueSpec {
        durable: false,
        exclusive: false,
        auto_delete: false,
        expires: None,
        session: false,
        arguments: Vec::new(),
    };
    Change::DeclareQueue {
        name: name.into(),
        spec,
    }
}

fn bind(exchange: &str, key: &str, queue: &str) -> Change {
    Change::Bind(Binding {
        source: exchange.into(),
        destination: Destination::Queue(queue.into()),
        key: key.into(),
        grammar: Grammar::Slashes,
        arguments: Vec::new(),
        subscription: None,
    })
}
