//! What is declared: how it leads messages on, when it goes, and what a restart leaves of it.

mod support;

use std::{sync::Arc, time::Duration};

use support::{Client, durable, exchange, message, open};
use trivium_core::{
    Binding, Change, Command, ConsumeSpec, Destination, Event, ExchangeKind, ExchangeSpec, Grammar,
    QueueSpec, Refusal, Reply, store::memory::MemoryStore,
};

impl Client {
    async fn exchange(&mut self, name: &str, spec: ExchangeSpec) {
        let name = name.into();
        self.define(Change::DeclareExchange { name, spec })
            .await
            .expect("the name is free");
    }

    async fn declare(&mut self, name: &str, spec: QueueSpec) {
        let name = name.into();
        self.define(Change::DeclareQueue { name, spec })
            .await
            .expect("the name is free");
    }

    async fn lead(&mut self, source: &str, key: &str, to: &str) {
        let binding = Binding {
            source: source.into(),
            destination: Destination::Exchange(to.into()),
            key: key.into(),
            grammar: Grammar::Dots,
            arguments: Vec::new(),
            subscription: None,
        };
        self.define(Change::Bind(binding))
            .await
            .expect("both ends are there");
    }

    async fn unbind(&mut self, source: &str, key: &str, queue: &str) {
        let binding = Binding {
            source: source.into(),
            destination: Destination::Queue(queue.into()),
            key: key.into(),
            grammar: Grammar::Dots,
            arguments: Vec::new(),
            subscription: None,
        };
        self.define(Change::Unbind(binding))
            .await
            .expect("both ends are there");
    }

    async fn has_queue(&mut self, name: &str) -> bool {
        let name = name.into();
        let expect = Change::ExpectQueue {
            name,
            session: false,
        };
        self.define(expect).await.is_ok()
    }

    async fn has_exchange(&mut self, name: &str) -> bool {
        let name = name.into();
        self.define(Change::ExpectExchange { name }).await.is_ok()
    }

    async fn delete(&mut self, queue: &str) {
        let name = queue.into();
        self.define(Change::DeleteQueue {
            name,
            session: false,
            if_unused: false,
            if_empty: false,
        })
        .await
        .expect("nothing keeps it");
    }

    /// Publishes; whether it led anywhere.
    async fn leads_somewhere(&mut self, exchange: &str, key: &str) -> Result<bool, Refusal> {
        let token = self.token();
        self.submit(Command::Publish {
            token: Some(token),
            message: Arc::new(message(exchange, key, "probe")),
            mandatory: true,
        })
        .await;
        let mut led = true;
        loop {
            let answer = self
                .expect(|event| match event {
                    Event::Returned { token: of, .. } if *of == Some(token) => Some(None),
                    Event::Confirmed { tokens } if tokens.contains(&token) => Some(Some(Ok(()))),
                    Event::Refused { tokens, reason } if tokens.contains(&token) => {
                        Some(Some(Err(reason.clone())))
                    }
                    _ => None,
                })
                .await;
            match answer {
                None => led = false,
                Some(result) => return result.map(|()| led),
            }
        }
    }
}

#[tokio::test]
async fn a_message_goes_through_exchanges_and_reaches_a_queue_once() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    client.exchange("in", exchange(ExchangeKind::Direct)).await;
    client.exchange("all", exchange(ExchangeKind::Fanout)).await;
    client.exchange("some", exchange(ExchangeKind::Topic)).await;
    client.lead("in", "k.1", "all").await;
    client.lead("in", "k.1", "some").await;
    // A cycle ends where it began.
    client.lead("all", "", "in").await;
    client.queue("q").await;
    client.bind("all", "", "q").await;
    client.bind("some", "k.*", "q").await;
    client.bind("in", "k.1", "q").await;
    client.publish("in", "k.1", "once").await;
    assert_eq!(client.get("q").await.as_deref(), Some("once"));
    assert_eq!(client.get("q").await, None);
    assert_eq!(client.leads_somewhere("in", "k.2").await, Ok(false));
}

#[tokio::test]
async fn auto_delete_things_go_with_what_they_served() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let (mut client, mut user) = (Client::new(&broker), Client::new(&broker));
    let spec = ExchangeSpec {
        auto_delete: true,
        ..exchange(ExchangeKind::Fanout)
    };
    client.exchange("x", spec).await;
    let spec = QueueSpec {
        auto_delete: true,
        ..durable()
    };
    client.declare("q", spec).await;
    client.bind("x", "", "q").await;
    user.consume(1, "q", ConsumeSpec::default()).await;
    assert!(client.has_queue("q").await);
    drop(user);
    while client.has_queue("q").await {
        tokio::task::yield_now().await;
    }
    assert!(
        !client.has_exchange("x").await,
        "its last binding went with the queue"
    );
    client.queue("r").await;
    let spec = ExchangeSpec {
        auto_delete: true,
        ..exchange(ExchangeKind::Fanout)
    };
    client.exchange("y", spec).await;
    client.bind("y", "", "r").await;
    client.unbind("y", "", "r").await;
    assert!(!client.has_exchange("y").await);
}

#[tokio::test]
async fn a_restart_leaves_what_is_durable_and_bindings_between_it() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    let transient = ExchangeSpec {
        durable: false,
        ..exchange(ExchangeKind::Direct)
    };
    client
        .exchange("kept", exchange(ExchangeKind::Direct))
        .await;
    client.exchange("gone", transient).await;
    client.queue("q").await;
    let spec = QueueSpec {
        durable: false,
        ..durable()
    };
    client.declare("t", spec).await;
    client.bind("kept", "k", "q").await;
    client.bind("kept", "t", "t").await;
    client.bind("gone", "k", "q").await;
    client.lead("kept", "g", "gone").await;
    client.publish("kept", "k", "a").await;
    client.publish("kept", "t", "b").await;
    let broker = open(Arc::new(store.crash(7))).await;
    let mut client = Client::new(&broker);
    assert!(client.has_exchange("kept").await && !client.has_exchange("gone").await);
    assert!(client.has_queue("q").await && !client.has_queue("t").await);
    assert_eq!(client.get("q").await.as_deref(), Some("a"));
    assert_eq!(client.leads_somewhere("kept", "k").await, Ok(true));
    for key in ["t", "g"] {
        assert_eq!(
            client.leads_somewhere("kept", key).await,
            Ok(false),
            "{key}"
        );
    }
    assert!(matches!(
        client.leads_somewhere("gone", "k").await,
        Err(Refusal::NotFound { .. })
    ));
}

#[tokio::test]
async fn bindings_go_with_either_end() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut client = Client::new(&broker);
    client.exchange("x", exchange(ExchangeKind::Direct)).await;
    for queue in ["q", "r"] {
        client.queue(queue).await;
        client.bind("x", queue, queue).await;
        client.bind("amq.topic", queue, queue).await;
    }
    client.delete("q").await;
    client.queue("q").await;
    assert_eq!(client.leads_somewhere("x", "q").await, Ok(false));
    assert_eq!(client.leads_somewhere("amq.topic", "q").await, Ok(false));
    let delete = Change::DeleteExchange {
        name: "x".into(),
        if_unused: false,
    };
    client.define(delete).await.expect("nothing keeps it");
    client.exchange("x", exchange(ExchangeKind::Direct)).await;
    assert_eq!(client.leads_somewhere("x", "r").await, Ok(false));
    assert_eq!(client.leads_somewhere("amq.topic", "r").await, Ok(true));
    let broker = open(Arc::new(store.crash(3))).await;
    let mut client = Client::new(&broker);
    assert_eq!(client.leads_somewhere("x", "r").await, Ok(false));
    assert_eq!(client.leads_somewhere("amq.topic", "q").await, Ok(false));
    assert_eq!(client.leads_somewhere("amq.topic", "r").await, Ok(true));
}

#[tokio::test]
async fn a_queue_and_a_log_share_one_name_space() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut client = Client::new(&broker);
    client.queue("q").await;
    let spec = support::logs::log(1, &[]);
    assert!(matches!(
        client.log("q", spec.clone()).await,
        Err(Refusal::Exists { .. })
    ));
    client.log("l", spec).await.expect("the name is free");
    let declare = Change::DeclareQueue {
        name: "l".into(),
        spec: durable(),
    };
    assert!(matches!(
        client.define(declare).await,
        Err(Refusal::Inequivalent { .. })
    ));
}

/// A connection that goes while its declaration is under way takes its exclusive queue along all the same.
#[tokio::test]
async fn an_exclusive_queue_does_not_outlive_a_connection_that_went_early() {
    let broker = open(Arc::new(MemoryStore::new())).await;
    let mut watcher = Client::new(&broker);
    for round in 0..20 {
        let name = format!("e{round}");
        let mut early = Client::new(&broker);
        let spec = QueueSpec {
            exclusive: true,
            durable: false,
            ..durable()
        };
        let change = Change::DeclareQueue {
            name: name.as_str().into(),
            spec,
        };
        let token = early.token();
        {
            let declaring = early.submit(Command::Define { token, change });
            tokio::pin!(declaring);
            for _ in 0..round {
                let once = tokio::time::timeout(Duration::ZERO, &mut declaring);
                if once.await.is_ok() {
                    break;
                }
            }
        }
        drop(early);
        // Declared by then or not: after a while it is gone.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mine = watcher
            .define(Change::DeclareQueue {
                name: name.as_str().into(),
                spec: durable(),
            })
            .await;
        assert!(
            matches!(mine, Ok(Reply::Queue { created: true, .. })),
            "round {round}: {mine:?}"
        );
    }
}

/// The declaration of a queue and what it holds go in one commit.
#[tokio::test]
async fn a_queue_is_deleted_altogether_or_not_at_all() {
    for seed in 0..40 {
        let store = Arc::new(MemoryStore::new());
        let broker = open(store.clone()).await;
        let mut client = Client::new(&broker);
        client.queue("q").await;
        for body in ["a", "b", "c"] {
            client.publish("", "q", body).await;
        }
        store.hold();
        let deleting = tokio::spawn(async move { client.delete("q").await });
        while store.held() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..seed % 10 {
            tokio::task::yield_now().await;
        }
        let broker = open(Arc::new(store.crash(seed))).await;
        let mut client = Client::new(&broker);
        if client.has_queue("q").await {
            for body in ["a", "b", "c"] {
                assert_eq!(client.get("q").await.as_deref(), Some(body), "seed {seed}");
            }
        }
        deleting.abort();
    }
}
