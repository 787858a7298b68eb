//! How exchanges that send each message to one of their bindings choose it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use super::routes::{Edge, Place};
use crate::{
    command::ExchangeSpec,
    event::Refusal,
    message::Message,
    properties::{Properties, Text, Value},
    time::Timestamp,
};

/// What routing may want to know of a message besides its topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) properties: Properties,
    pub(crate) timestamp: Option<Timestamp>,
}

impl Facts {
    pub(crate) fn of(message: &Message) -> Facts {
        Facts {
            properties: message.properties(),
            timestamp: message.timestamp,
        }
    }
}

/// What is hashed of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HashOn {
    RoutingKey,
    Header(Text),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl HashOn {
    /// What the arguments of an `x-consistent-hash` exchange ask for.
    pub(super) fn new(spec: &ExchangeSpec) -> Result<HashOn, Refusal> {
        let argument = |name: &str| {
            let mut arguments = spec.arguments.iter();
            arguments.find(|(known, _)| known == name).map(|(_, v)| v)
        };
        match (argument("hash-header"), argument("hash-property")) {
            (Some(_), Some(_)) => Err(Refusal::Invalid(
                "hash-header and hash-property are mutually exclusive".into(),
            )),
            (Some(Value::Text(header)), None) => Ok(HashOn::Header(header.clone())),
            (None, Some(Value::Text(property))) => match &**property {
                "message_id" => Ok(HashOn::MessageId),
                "correlation_id" => Ok(HashOn::CorrelationId),
                "timestamp" => Ok(HashOn::Timestamp),
                other => Err(Refusal::Invalid(
                    format!("unsupported property: {other}").into(),
                )),
            },
            (None, None) => Ok(HashOn::RoutingKey),
            (Some(_), None) => Err(Refusal::Invalid("hash-header is not text".into())),
            (None, Some(_)) => Err(Refusal::Invalid("hash-property is not text".into())),
        }
    }

    /// The hash of a message. `facts` is asked for when the key is not enough.
    pub(super) fn hash(&self, key: &str, facts: impl FnOnce() -> Facts) -> u64 {
        match self {
            HashOn::RoutingKey => hash(key),
            HashOn::Header(name) => {
                let headers = facts().properties.headers;
                let value = headers.iter().find(|(known, _)| known == name);
                hash(&value.map(|(_, value)| format!("{value:?}")))
            }
            HashOn::MessageId => hash(&facts().properties.message_id.as_deref()),
            HashOn::CorrelationId => hash(&facts().properties.correlation_id),
            HashOn::Timestamp => hash(&facts().timestamp.map(|at| at.0)),
        }
    }
}

/// The weight that the key of a binding to a consistent-hash exchange says.
pub(super) fn weight(key: &str) -> Result<u32, Refusal> {
    match key.parse::<i64>() {
        Err(_) => Err(Refusal::Invalid(
            format!("The binding key must be an integer: {key:?}").into(),
        )),
        Ok(weight) if weight <= 0 => Err(Refusal::Invalid(
            format!("The binding key must be greater than 0: {weight}").into(),
        )),
        Ok(weight) => Ok(u32::try_from(weight).unwrap_or(u32::MAX)),
    }
}

/// The edge that a message with this hash goes to: rendezvous hashing, so that an edge that comes takes its share
/// from the others, one that goes leaves its share to them, and nothing else moves.
pub(super) fn consistent<'e>(
    edges: impl Iterator<Item = (&'e u64, &'e Edge)>,
    weight: impl Fn(u64) -> u32,
    hash: u64,
) -> Option<&'e Edge> {
    let scored = edges.map(|(number, edge)| {
        let mixed = mix(hash ^ name_hash(edge));
        // In (0, 1], so that the logarithm is finite and not positive.
        let point = ((mixed >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        (-point.ln() / f64::from(weight(*number)), number, edge)
    });
    let least = scored.min_by(|(a, m, _), (b, n, _)| a.total_cmp(b).then(m.cmp(n)));
    least.map(|(_, _, edge)| edge)
}

/// The edge that a message with this key goes to as long as the bindings stay the same.
pub(super) fn modulus<'e>(
    edges: impl Iterator<Item = (&'e u64, &'e Edge)>,
    key: &str,
) -> Option<&'e Edge> {
    let mut edges: Vec<_> = edges.collect();
    edges.sort_unstable_by_key(|(number, _)| **number);
    let at = hash(key).checked_rem(edges.len() as u64)?;
    edges.get(at as usize).map(|(_, edge)| *edge)
}

/// Any edge, all with the same probability.
pub(super) fn random<'e>(edges: impl Iterator<Item = (&'e u64, &'e Edge)>) -> Option<&'e Edge> {
    static DRAWS: AtomicU64 = AtomicU64::new(0);
    let edges: Vec<_> = edges.collect();
    let draw = mix(DRAWS.fetch_add(1, Ordering::Relaxed));
    let at = draw.checked_rem(edges.len() as u64)?;
    edges.get(at as usize).map(|(_, edge)| *edge)
}

fn name_hash(edge: &Edge) -> u64 {
    match &edge.to {
        Place::Queue(queue) => hash(&*queue.name),
        Place::Log(log) => hash(&*log.info.name),
        Place::Exchange(name) => hash(name),
    }
}

/// The same in every process, so that messages of a key stay together over restarts.
fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
