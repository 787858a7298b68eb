//! Sessions of MQTT clients.

use std::{sync::Arc, time::Duration};

use trivium_core::{
    Binding, BindingTag, Change, Command, ConsumeSpec, Destination, Grammar, Message, Persistence,
    QueueSpec, Reply, Subscription, Topic,
};

use super::{Client, durable, message};

/// A message of an MQTT client: QoS 0 is transient.
pub fn publish(topic: &str, body: &str, qos: u8) -> Message {
    Message {
        topic: Topic::new(topic.into(), Grammar::Slashes),
        persistence: if qos == 0 {
            Persistence::Transient
        } else {
            Persistence::Persistent
        },
        ..message("amq.topic", "", body)
    }
}

pub fn consume() -> ConsumeSpec {
    ConsumeSpec {
        session: true,
        takeover: true,
        prefetch: Some(10),
        ..ConsumeSpec::default()
    }
}

impl Client {
    pub async fn session(&mut self, client: &str, expires: Option<Duration>) -> bool {
        let spec = QueueSpec {
            session: true,
            expires,
            ..durable()
        };
        let name = client.into();
        match self.define(Change::DeclareQueue { name, spec }).await {
            Ok(Reply::Queue { created, .. }) => created,
            other => panic!("{other:?}"),
        }
    }

    pub async fn subscribe(
        &mut self,
        client: &str,
        filter: &str,
        tag: u64,
        qos: u8,
        no_local: bool,
    ) {
        let binding = Binding {
            source: "amq.topic".into(),
            destination: Destination::Session(client.into()),
            key: filter.into(),
            grammar: Grammar::Slashes,
            arguments: Vec::new(),
            subscription: Some(Subscription {
                tag: BindingTag(tag),
                best_effort: qos == 0,
                no_local,
            }),
        };
        self.define(Change::Bind(binding))
            .await
            .expect("both ends are there");
    }

    pub async fn send(&mut self, message: Message) {
        let token = self.token();
        self.submit(Command::Publish {
            token: Some(token),
            message: Arc::new(message),
            mandatory: false,
        })
        .await;
        self.confirmed(token).await.expect("nothing refuses it");
    }

    pub async fn ready(&mut self, client: &str) -> Option<(u64, u32)> {
        let name = client.into();
        match self
            .define(Change::ExpectQueue {
                name,
                session: true,
            })
            .await
        {
            Ok(Reply::Queue {
                messages,
                consumers,
                ..
            }) => Some((messages, consumers)),
            _ => None,
        }
    }
}
