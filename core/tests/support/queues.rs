//! Queues with arguments: declaring them, what tests say to them, what they are told of deaths.

use std::sync::Arc;

use trivium_core::{
    Change, Command, ConsumeSpec, ConsumerId, Delivery, DeliveryId, Message, Outcome, QueueSpec,
    Refusal, Reply, Text, Token, Value, store::memory::MemoryStore,
};

use super::{Client, PATIENCE, durable, message};

pub fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

pub fn text(text: &str) -> Value {
    Value::Text(text.into())
}

pub fn arguments(arguments: &[(&str, Value)]) -> Vec<(Text, Value)> {
    arguments
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect()
}

/// A client that declares queues with arguments.
pub trait Declaring {
    async fn declare(&mut self, name: &str, with: &[(&str, Value)]);
    async fn count(&mut self, name: &str) -> u64;
    /// Waits until a queue has so many messages ready.
    async fn until(&mut self, name: &str, count: u64);
    /// Whether the publish was taken.
    async fn offer(&mut self, exchange: &str, key: &str, body: &str) -> Result<(), Refusal>;
    async fn publish_message(&mut self, message: Message);
    async fn take(&mut self, queue: &str) -> Option<Delivery>;
    /// Waits until what was done before would survive a crash.
    async fn make_durable(&mut self);
}

impl Declaring for Client {
    async fn declare(&mut self, name: &str, with: &[(&str, Value)]) {
        let spec = QueueSpec {
            arguments: arguments(with),
            ..durable()
        };
        let name = name.into();
        self.define(Change::DeclareQueue { name, spec })
            .await
            .expect("the arguments are sound");
    }

    async fn count(&mut self, name: &str) -> u64 {
        let (name, session) = (name.into(), false);
        match self.define(Change::ExpectQueue { name, session }).await {
            Ok(Reply::Queue { messages, .. }) => messages,
            other => panic!("{other:?}"),
        }
    }

    async fn until(&mut self, name: &str, count: u64) {
        let reached = async {
            while self.count(name).await != count {
                // Whatever leads there may be in another shard, which notices the time with an operation.
                self.touch_shards().await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{} messages in {name}, not {count}", self.count(name).await);
        }
    }

    async fn offer(&mut self, exchange: &str, key: &str, body: &str) -> Result<(), Refusal> {
        let token = self.token();
        self.submit(publish(Some(token), message(exchange, key, body)))
            .await;
        self.confirmed(token).await
    }

    async fn publish_message(&mut self, message: Message) {
        let token = self.token();
        self.submit(publish(Some(token), message)).await;
        self.confirmed(token).await.expect("nothing refuses it");
    }

    async fn take(&mut self, queue: &str) -> Option<Delivery> {
        let (consumer, queue) = (ConsumerId(u32::MAX), Text::from(queue));
        let get = |token| Command::Get {
            token,
            consumer,
            queue,
            auto_ack: true,
        };
        match self.ask(get).await {
            Ok(Reply::Got { delivery, .. }) => delivery,
            other => panic!("{other:?}"),
        }
    }

    async fn make_durable(&mut self) {
        self.queue("barrier").await;
        self.publish("", "barrier", "").await;
    }
}

pub fn publish(token: Option<Token>, message: Message) -> Command {
    Command::Publish {
        token,
        message: Arc::new(message),
        mandatory: false,
    }
}

pub fn with_lifetime(key: &str, body: &str, expiry_ms: u64) -> Message {
    Message {
        expiry_ms: Some(expiry_ms),
        ..message("", key, body)
    }
}

pub fn with_priority(key: &str, body: &str, priority: u8) -> Message {
    Message {
        priority: Some(priority),
        ..message("", key, body)
    }
}

pub fn prefetch(limit: u32) -> ConsumeSpec {
    ConsumeSpec {
        prefetch: Some(limit),
        ..ConsumeSpec::default()
    }
}

pub fn settle(consumer: u32, delivery: u64, outcome: Outcome) -> Command {
    Command::Settle {
        consumer: ConsumerId(consumer),
        deliveries: DeliveryId(delivery)..=DeliveryId(delivery),
        outcome,
    }
}

/// A header of a message, as its readers see it.
pub fn header(message: &Message, name: &str) -> Option<Value> {
    let headers = message.properties().headers;
    headers
        .into_iter()
        .find(|(of, _)| of == name)
        .map(|(_, value)| value)
}

/// The deaths of a message: queue, reason and count, the latest first.
pub fn deaths(message: &Message) -> Vec<(String, String, i64)> {
    let Some(Value::Array(records)) = header(message, "x-death") else {
        return Vec::new();
    };
    let field = |record: &Value, name: &str| match record {
        Value::Table(fields) => fields
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, value)| value.clone()),
        _ => None,
    };
    let string = |record: &Value, name| match field(record, name) {
        Some(Value::Text(text)) => text.to_string(),
        other => panic!("{other:?}"),
    };
    let count = |record: &Value| match field(record, "count") {
        Some(Value::I64(count)) => count,
        other => panic!("{other:?}"),
    };
    records
        .iter()
        .map(|record| {
            (
                string(record, "queue"),
                string(record, "reason"),
                count(record),
            )
        })
        .collect()
}

pub fn death(queue: &str, reason: &str, count: i64) -> (String, String, i64) {
    (queue.to_owned(), reason.to_owned(), count)
}
