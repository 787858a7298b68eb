//! What exchange.declare and queue.declare describe (sections 1.6.2.1 and 1.7.2.1), as far as it is spelled the AMQP
//! way. Whether it may be declared is for the core to say.

use trivium_core::{ExchangeKind, QueueSpec, Text};

use crate::{error::Error, field_table::Table};

/// A name as RabbitMQ takes it: without carriage returns and line feeds.
pub fn name(name: Text) -> Text {
    if name.contains(['\r', '\n']) {
        name.replace(['\r', '\n'], "").into()
    } else {
        name
    }
}

/// The kind of exchange that a type names.
pub fn exchange_kind(kind: &str) -> Result<ExchangeKind, Error> {
    ExchangeKind::named(kind)
        .ok_or_else(|| Error::precondition(format!("unknown exchange type '{kind}'")))
}

/// The flags of queue.declare.
#[derive(Clone, Copy, Debug)]
pub struct QueueFlags {
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to the connection.
    pub exclusive: bool,
    /// Goes away with its last consumer.
    pub auto_delete: bool,
}

/// What queue.declare describes. Arguments are for the core to check.
pub fn queue_spec(flags: QueueFlags, arguments: Table) -> QueueSpec {
    let QueueFlags {
        durable,
        exclusive,
        auto_delete,
    } = flags;
    QueueSpec {
        durable,
        exclusive,
        auto_delete,
        expires: None,
        session: false,
        arguments,
    }
}
