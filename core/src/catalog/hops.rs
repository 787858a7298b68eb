//! What an exchange of the type `x-federation-upstream` lets through to a broker downstream: RabbitMQ's federation
//! declares one at the broker it copies from, so that copies do not go round.

use super::headers::same_value;
use crate::{
    command::ExchangeSpec,
    properties::{Text, Value},
};

/// The header in which federation notes, hop by hop, where a message has been.
const RECEIVED_FROM: &str = "x-received-from";

/// How far messages may have come, and where they go to next.
#[derive(Clone, Debug)]
pub(crate) struct Hops {
    max: usize,
    /// A cluster and a virtual host there, as `x-received-from` spells them.
    downstream: Vec<(&'static str, Value)>,
}

impl Hops {
    /// Reads `x-max-hops` (1 when absent), `x-downstream-name` and `x-downstream-vhost`.
    pub(crate) fn new(spec: &ExchangeSpec) -> Hops {
        let argument = |wanted: &str| {
            let found = spec.arguments.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        let max = argument("x-max-hops").and_then(|value| value.integer());
        let downstream = [
            ("cluster-name", argument("x-downstream-name")),
            ("vhost", argument("x-downstream-vhost")),
        ];
        Hops {
            max: max.map_or(1, |max| usize::try_from(max).unwrap_or(0)),
            downstream: downstream
                .into_iter()
                .filter_map(|(field, value)| Some((field, value?)))
                .collect(),
        }
    }

    /// Whether a message with these headers goes on: it has not come too far, and has not been downstream.
    pub(crate) fn allow(&self, headers: &[(Text, Value)]) -> bool {
        let hops = headers.iter().find(|(name, _)| name == RECEIVED_FROM);
        let Some((_, Value::Array(hops))) = hops else {
            return true;
        };
        hops.len() < self.max && !hops.iter().any(|hop| self.is_downstream(hop))
    }

    fn is_downstream(&self, hop: &Value) -> bool {
        let Value::Table(hop) = hop else {
            return false;
        };
        let says = |(field, value): &(&str, Value)| {
            hop.iter()
                .any(|(name, said)| name == field && same_value(said, value))
        };
        !self.downstream.is_empty() && self.downstream.iter().all(says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ExchangeKind;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn hops(arguments: &[(&str, Value)]) -> Hops {
        Hops::new(&ExchangeSpec {
            kind: ExchangeKind::FederationUpstream,
            durable: true,
            auto_delete: false,
            internal: true,
            arguments: table(arguments),
        })
    }

    fn table(entries: &[(&str, Value)]) -> Vec<(Text, Value)> {
        entries
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect()
    }

    fn been(places: &[(&str, &str)]) -> Vec<(Text, Value)> {
        let hop = |(cluster, vhost): &(&str, &str)| {
            Value::Table(table(&[
                ("cluster-name", text(cluster)),
                ("vhost", text(vhost)),
            ]))
        };
        let places = Value::Array(places.iter().map(hop).collect());
        table(&[(RECEIVED_FROM, places)])
    }

    #[test]
    fn a_message_that_was_never_copied_goes_on() {
        assert!(hops(&[]).allow(&[]));
        assert!(hops(&[("x-max-hops", Value::I64(1))]).allow(&table(&[("other", text("x"))])));
    }

    #[test]
    fn copies_go_as_far_as_agreed() {
        let two = hops(&[("x-max-hops", Value::I64(2))]);
        assert!(two.allow(&been(&[("a", "/")])));
        assert!(!two.allow(&been(&[("a", "/"), ("b", "/")])));
        assert!(!hops(&[]).allow(&been(&[("a", "/")])));
    }

    #[test]
    fn nothing_goes_back_to_where_it_was() {
        let to_a = hops(&[
            ("x-max-hops", Value::I64(9)),
            ("x-downstream-name", text("a")),
            ("x-downstream-vhost", text("/")),
        ]);
        assert!(!to_a.allow(&been(&[("b", "/"), ("a", "/")])));
        assert!(to_a.allow(&been(&[("b", "/"), ("a", "other")])));
    }
}
