//! Spans as OTLP has them in JSON (opentelemetry-proto, `ExportTraceServiceRequest`), under the names of OpenTelemetry's
//! semantic conventions for messaging.

use std::fmt::Write;

use serde_json::{Value, json};
use trivium_core::{Span, TracedOperation as Operation};

/// A request with these spans.
pub fn encode(service: &str, spans: &[Span]) -> Vec<u8> {
    let spans: Vec<Value> = spans.iter().map(write).collect();
    let request = json!({
        "resourceSpans": [{
            "resource": { "attributes": [text("service.name", service)] },
            "scopeSpans": [{
                "scope": { "name": "trivium", "version": env!("CARGO_PKG_VERSION") },
                "spans": spans,
            }],
        }],
    });
    request.to_string().into_bytes()
}

/// SpanKind of OTLP.
const INTERNAL: u8 = 1;
const PRODUCER: u8 = 4;
const CONSUMER: u8 = 5;

fn write(span: &Span) -> Value {
    let (name, kind) = match span.operation {
        Operation::Publish => ("publish", PRODUCER),
        Operation::Route => ("route", INTERNAL),
        Operation::Deliver => ("deliver", CONSUMER),
    };
    let mut written = json!({
        "traceId": hex(&span.trace),
        "spanId": hex(&span.id),
        "name": format!("{name} {}", span.destination),
        "kind": kind,
        "startTimeUnixNano": span.start.to_string(),
        "endTimeUnixNano": span.end.max(span.start).to_string(),
        "attributes": attributes(span, name),
    });
    if let Some(parent) = &span.parent {
        written["parentSpanId"] = hex(parent).into();
        // Who consumes links to what the publisher made, whatever its parent is.
        if span.operation == Operation::Deliver {
            written["links"] = json!([{ "traceId": hex(&span.trace), "spanId": hex(parent) }]);
        }
    }
    if !span.trace_state.is_empty() {
        written["traceState"] = (*span.trace_state).into();
    }
    if let Some(error) = &span.error {
        written["status"] = json!({ "code": 2, "message": &**error });
    }
    written
}

fn attributes(span: &Span, name: &str) -> Vec<Value> {
    let details = &span.details;
    let system = match &*span.protocol {
        // What instrumentations of AMQP 0-9-1's clients say.
        "amqp" => "rabbitmq",
        protocol => protocol,
    };
    let mut found = vec![
        text("messaging.system", system),
        text("messaging.operation.name", name),
        text("messaging.destination.name", &span.destination),
    ];
    match span.operation {
        Operation::Publish => found.push(text("messaging.operation.type", "send")),
        Operation::Deliver => found.push(text("messaging.operation.type", "receive")),
        // It is the broker's own, and none of the types that there are.
        Operation::Route => {}
    }
    if let Some(size) = details.body_size {
        found.push(number("messaging.message.body.size", size));
    }
    if let Some((partition, offset)) = details.place {
        found.push(text(
            "messaging.destination.partition.id",
            &partition.to_string(),
        ));
        found.extend(offset.map(|offset| number("messaging.kafka.offset", offset)));
    }
    if let Some(key) = &details.routing_key {
        let name = match system {
            "rabbitmq" => "messaging.rabbitmq.destination.routing_key",
            _ => "trivium.topic",
        };
        found.push(text(name, key));
    }
    if let Some(count) = details.destinations {
        found.push(number("trivium.destinations", count));
    }
    if let Some(waited) = details.waited_ms {
        found.push(number("trivium.waited_ms", waited));
    }
    if span.error.is_some() {
        found.push(text("error.type", "refused"));
    }
    found
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// 64-bit numbers are texts in the JSON of protocol buffers.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
