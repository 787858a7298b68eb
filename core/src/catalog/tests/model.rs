//! Bindings and routing against a naive model.

use super::*;

/// The model: a list of bindings between what is there.
#[derive(Default)]
struct Model {
    queues: Vec<String>,
    exchanges: Vec<(String, ExchangeKind)>,
    bindings: Vec<(String, String, Destination)>,
}

impl Model {
    fn route(&self, exchange: &str, key: &str, seen: &mut Vec<String>, found: &mut Vec<String>) {
        if seen.iter().any(|name| name == exchange) {
            return;
        }
        seen.push(exchange.into());
        let Some((_, kind)) = self.exchanges.iter().find(|(name, _)| name == exchange) else {
            return;
        };
        for (_, pattern, to) in self
            .bindings
            .iter()
            .filter(|(source, ..)| source == exchange)
        {
            let matched = match kind {
                ExchangeKind::Direct => pattern == key,
                ExchangeKind::Topic => fits(
                    &pattern.split('.').collect::<Vec<_>>(),
                    &key.split('.').collect::<Vec<_>>(),
                ),
                ExchangeKind::Fanout | ExchangeKind::Headers => true,
                other => unreachable!("the model has no {other:?}"),
            };
            match to {
                Destination::Queue(name) if matched => found.push(name.to_string()),
                Destination::Exchange(name) if matched => self.route(name, key, seen, found),
                _ => {}
            }
        }
    }
}

fn fits(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], _) => (0..=key.len()).any(|skip| fits(rest, &key[skip..])),
        (["*", pattern @ ..], [_, key @ ..]) => fits(pattern, key),
        ([token, pattern @ ..], [first, key @ ..]) => token == first && fits(pattern, key),
        _ => false,
    }
}

/// A step of the model test; numbers choose among few names.
#[derive(Clone, Debug)]
enum Act {
    Queue(u8),
    RemoveQueue(u8),
    Exchange(u8),
    RemoveExchange(u8),
    Bind(bool, u8, u8, bool, String),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = "([ab*#])(\\.[ab*#]){0,3}";
    let act = prop_oneof![
        2 => (0u8..12).prop_map(Act::Queue),
        1 => (0u8..12).prop_map(Act::RemoveQueue),
        2 => (0u8..6).prop_map(Act::Exchange),
        1 => (0u8..6).prop_map(Act::RemoveExchange),
        9 => (prop::bool::weighted(0.8), 0u8..6, 0u8..12, any::<bool>(), key)
            .prop_map(|(add, from, to, queue, key)| Act::Bind(add, from, to, queue, key)),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..80)
}

fn perform(story: &mut Story, model: &mut Model, act: Act) {
    const KINDS: [ExchangeKind; 3] = [
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::Topic,
    ];
    match act {
        Act::Queue(n) => {
            let name = format!("q{n:02}");
            story.ok(queue(&name));
            if !model.queues.contains(&name) {
                model.queues.push(name);
            }
        }
        Act::RemoveQueue(n) => {
            let name = format!("q{n:02}");
            if model.queues.contains(&name) {
                story.remove(&name);
                model.queues.retain(|queue| *queue != name);
                model
                    .bindings
                    .retain(|(.., to)| *to != Destination::Queue(name.as_str().into()));
            }
        }
        Act::Exchange(n) => {
            let (name, kind) = (format!("x{n}"), KINDS[usize::from(n) % 3]);
            story.ok(exchange(&name, kind));
            if !model
                .exchanges
                .iter()
                .any(|(exchange, _)| *exchange == name)
            {
                model.exchanges.push((name, kind));
            }
        }
        Act::RemoveExchange(n) => {
            let name = format!("x{n}");
            story.ok(delete_exchange(&name));
            model.exchanges.retain(|(exchange, _)| *exchange != name);
            let end = Destination::Exchange(name.as_str().into());
            model
                .bindings
                .retain(|(source, _, to)| *source != name && *to != end);
        }
        Act::Bind(add, from, to, to_queue, key) => {
            let source = format!("x{from}");
            let to = if to_queue {
                Destination::Queue(format!("q{to:02}").into())
            } else {
                Destination::Exchange(format!("x{}", to % 6).into())
            };
            let change = binding(&source, &key, to.clone());
            let entry = (source, key, to);
            if !add {
                story.ok(Change::Unbind(change));
                model.bindings.retain(|bound| *bound != entry);
                return;
            }
            let source_there = model.exchanges.iter().any(|(name, _)| *name == entry.0);
            let end_there = match &entry.2 {
                Destination::Queue(name) => model.queues.iter().any(|queue| **name == *queue),
                Destination::Exchange(name) => model
                    .exchanges
                    .iter()
                    .any(|(exchange, _)| **name == *exchange),
                _ => false,
            };
            assert_eq!(
                story.apply(Change::Bind(change)).is_ok(),
                source_there && end_there
            );
            if source_there && end_there && !model.bindings.contains(&entry) {
                model.bindings.push(entry);
            }
        }
        Act::Restart => story.restart(),
    }
}

proptest! {
    #[test]
    fn routes_as_a_list_of_bindings_would(
        acts in acts(),
        keys in prop::collection::vec("[ab](\\.[ab]){0,3}", 1..6),
    ) {
        let (mut story, mut model) = (Story::new(), Model::default());
        for act in acts {
            perform(&mut story, &mut model, act);
        }
        for (exchange, _) in &model.exchanges {
            for key in &keys {
                let mut expected = Vec::new();
                model.route(exchange, key, &mut Vec::new(), &mut expected);
                expected.sort();
                expected.dedup();
                let mut found = story.route(exchange, key);
                found.sort();
                prop_assert_eq!(found, expected, "{} {}", exchange, key);
            }
        }
    }
}
