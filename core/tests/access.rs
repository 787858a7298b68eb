//! Who may do what: logging in, vhosts, permissions on names and topics, limits, and that they are durable.

mod support;

use std::sync::Arc;

use support::{
    Client, durable, exchange, message, open,
    queues::{Declaring, settle},
};
use trivium_core::{
    Binding, Broker, Change, Command, ConsumeSpec, ConsumerId, Credentials, Definitions,
    Destination, Event, ExchangeKind, Grammar, Limits, LogSpec, Message, Origin, Outcome,
    ParameterDefinition, Password, Pattern, Permission, PermissionDefinition, PolicyDefinition,
    Refusal, Removal, Reply, Scope, TopicPermission, TopicPermissionDefinition, UserDefinition,
    Value, VhostDefinition, store::memory::MemoryStore,
};

fn user(name: &str, password: &'static str, tags: &[&str]) -> UserDefinition {
    UserDefinition {
        name: name.into(),
        password: Password::Plain(password.into()),
        tags: tags.iter().map(|tag| (*tag).into()).collect(),
        limits: None,
    }
}

fn permission(user: &str, configure: &str, write: &str, read: &str) -> PermissionDefinition {
    PermissionDefinition {
        vhost: "/".into(),
        user: user.into(),
        permission: Permission {
            configure: configure.into(),
            write: write.into(),
            read: read.into(),
        },
    }
}

async fn import(admin: &mut Client, definitions: Definitions) -> Result<Reply, Refusal> {
    admin.define(Change::Import(Box::new(definitions))).await
}

/// Of a protocol in which clients choose their vhost.
async fn login_outside(
    broker: &Broker,
    name: &str,
    password: &'static str,
) -> Result<Client, Refusal> {
    authenticated(Client::outside(broker), name, password).await
}

/// Of a protocol in which clients are in `/`.
async fn login(broker: &Broker, name: &str, password: &'static str) -> Result<Client, Refusal> {
    authenticated(Client::new(broker), name, password).await
}

async fn authenticated(
    mut client: Client,
    name: &str,
    password: &'static str,
) -> Result<Client, Refusal> {
    let credentials = Credentials::Password {
        user: name.into(),
        password: password.into(),
        loopback: false,
    };
    client
        .ask(|token| Command::Authenticate { token, credentials })
        .await?;
    Ok(client)
}

async fn enter(client: &mut Client, vhost: &str) -> Result<Reply, Refusal> {
    let vhost = vhost.into();
    client.ask(|token| Command::Enter { token, vhost }).await
}

fn text(result: Result<Reply, Refusal>) -> String {
    result.expect_err("it is refused").to_string()
}

fn declare(name: &str) -> Change {
    Change::DeclareQueue {
        name: name.into(),
        spec: durable(),
    }
}

fn bind(source: &str, queue: &str, key: &str) -> Change {
    Change::Bind(Binding {
        source: source.into(),
        destination: Destination::Queue(queue.into()),
        key: key.into(),
        grammar: Grammar::Dots,
        arguments: Vec::new(),
        subscription: None,
    })
}

async fn publish(client: &mut Client, exchange: &str, key: &str) -> Result<(), Refusal> {
    let token = client.token();
    let message = Arc::new(message(exchange, key, "x"));
    client
        .submit(Command::Publish {
            token: Some(token),
            message,
            mandatory: false,
        })
        .await;
    client.confirmed(token).await
}

/// Ada may configure `ada-…`, write to `amq.topic`, `amq.default` and her queues, and read those and `amq.topic`.
async fn broker_of_ada(store: &Arc<MemoryStore>) -> (Broker, Client) {
    let broker = open(store.clone()).await;
    let mut admin = Client::new(&broker);
    let definitions = Definitions {
        users: vec![user("ada", "lovelace", &["management"])],
        permissions: vec![permission(
            "ada",
            "^ada-",
            "^(ada-.*|amq\\.topic|amq\\.default)$",
            "^(ada-.*|amq\\.topic)$",
        )],
        ..Definitions::default()
    };
    import(&mut admin, definitions).await.expect("it is sound");
    (broker, admin)
}

/// Access control: configure, write and read by pattern on the name, with the texts that clients see.
#[tokio::test]
async fn operations_are_checked_by_name() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    admin.queue("bob").await;
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    assert_eq!(
        text(ada.define(declare("bob")).await),
        "configure access to queue 'bob' in vhost '/' refused for user 'ada'"
    );
    ada.define(declare("ada-1")).await.unwrap();
    assert_eq!(
        text(ada.define(bind("amq.direct", "ada-1", "k")).await),
        "read access to exchange 'amq.direct' in vhost '/' refused for user 'ada'"
    );
    assert_eq!(
        text(ada.define(bind("amq.topic", "bob", "k")).await),
        "write access to queue 'bob' in vhost '/' refused for user 'ada'"
    );
    ada.define(bind("amq.topic", "ada-1", "#")).await.unwrap();
    publish(&mut ada, "amq.topic", "a.b").await.unwrap();
    publish(&mut ada, "", "bob").await.unwrap();
    let refused = publish(&mut ada, "amq.fanout", "k").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "write access to exchange 'amq.fanout' in vhost '/' refused for user 'ada'"
    );
    assert_eq!(ada.get("ada-1").await.as_deref(), Some("x"));
    let read_bob = "read access to queue 'bob' in vhost '/' refused for user 'ada'";
    let get = ada
        .ask(|token| Command::Get {
            token,
            consumer: ConsumerId(1),
            queue: "bob".into(),
            auto_ack: true,
        })
        .await;
    assert_eq!(text(get), read_bob);
    let consume = ada
        .ask(|token| Command::Consume {
            token,
            consumer: ConsumerId(2),
            queue: "bob".into(),
            spec: ConsumeSpec::default(),
        })
        .await;
    assert_eq!(text(consume), read_bob);
    let purge = ada.define(Change::PurgeQueue { name: "bob".into() }).await;
    assert_eq!(text(purge), read_bob);
    let delete = Change::DeleteExchange {
        name: "nope".into(),
        if_unused: false,
    };
    assert_eq!(
        text(ada.define(delete).await),
        "configure access to exchange 'nope' in vhost '/' refused for user 'ada'"
    );
    let mut spec = exchange(ExchangeKind::Direct);
    let alternate = Value::Text("amq.fanout".into());
    spec.arguments = vec![("alternate-exchange".into(), alternate)];
    let alternate = Change::DeclareExchange {
        name: "ada-x".into(),
        spec,
    };
    assert_eq!(
        text(ada.define(alternate).await),
        "write access to exchange 'amq.fanout' in vhost '/' refused for user 'ada'"
    );
    let mut spec = durable();
    let exchange = Value::Text("amq.fanout".into());
    spec.arguments = vec![("x-dead-letter-exchange".into(), exchange)];
    let dead_letter = Change::DeclareQueue {
        name: "ada-2".into(),
        spec,
    };
    assert_eq!(
        text(ada.define(dead_letter).await),
        "write access to exchange 'amq.fanout' in vhost '/' refused for user 'ada'"
    );
    // Asking whether something is there takes any permission on it.
    let expect = |name: &str| Change::ExpectQueue {
        name: name.into(),
        session: false,
    };
    assert!(ada.define(expect("ada-1")).await.is_ok());
    assert!(matches!(
        ada.define(expect("bob")).await,
        Err(Refusal::Denied(_))
    ));
}

/// What was allowed once is not allowed for ever: a change is seen by connections that are there.
#[tokio::test]
async fn a_change_of_permissions_is_seen_at_once() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    publish(&mut ada, "amq.topic", "k").await.unwrap();
    let definitions = Definitions {
        permissions: vec![permission("ada", "", "^amq\\.fanout$", "")],
        ..Definitions::default()
    };
    import(&mut admin, definitions).await.unwrap();
    assert!(publish(&mut ada, "amq.topic", "k").await.is_err());
    publish(&mut ada, "amq.fanout", "k").await.unwrap();
    let removal = Removal::Permission {
        vhost: "/".into(),
        user: "ada".into(),
    };
    let removed = admin.define(Change::Remove(removal)).await;
    assert!(matches!(removed, Ok(Reply::Removed { existed: true })));
    assert!(publish(&mut ada, "amq.fanout", "k").await.is_err());
}

/// Topic permissions: on the routing key of a topic exchange, for publishing and binding.
#[tokio::test]
async fn topics_are_checked_by_routing_key() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let definitions = Definitions {
        topic_permissions: vec![TopicPermissionDefinition {
            vhost: "/".into(),
            user: "ada".into(),
            exchange: "amq.topic".into(),
            permission: TopicPermission {
                write: "^{username}\\.".into(),
                read: "^(ada|news)\\.".into(),
            },
        }],
        ..Definitions::default()
    };
    import(&mut admin, definitions).await.unwrap();
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    publish(&mut ada, "amq.topic", "ada.in").await.unwrap();
    let refused = publish(&mut ada, "amq.topic", "bob.in").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "write access to topic 'bob.in' in exchange 'amq.topic' in vhost '/' refused for user 'ada'"
    );
    ada.define(declare("ada-1")).await.unwrap();
    ada.define(bind("amq.topic", "ada-1", "news.#"))
        .await
        .unwrap();
    assert_eq!(
        text(ada.define(bind("amq.topic", "ada-1", "#")).await),
        "read access to topic '#' in exchange 'amq.topic' in vhost '/' refused for user 'ada'"
    );
}

/// Logs are names like any other: writing, reading, configuring.
#[tokio::test]
async fn logs_are_checked_by_name() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let create = |name: &str| Change::CreateLog {
        name: name.into(),
        spec: LogSpec {
            partitions: 1,
            settings: Vec::new(),
        },
        validate_only: false,
    };
    admin.define(create("secret")).await.unwrap();
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    assert!(matches!(
        ada.define(create("other")).await,
        Err(Refusal::Denied(_))
    ));
    ada.define(create("ada-log")).await.unwrap();
    let logs = ada
        .ask(|token| Command::DescribeLogs { token, logs: None })
        .await;
    let Ok(Reply::Logs(logs)) = logs else {
        panic!("{logs:?}")
    };
    let names: Vec<_> = logs
        .iter()
        .map(|log| log.as_ref().unwrap().name.to_string())
        .collect();
    assert_eq!(names, ["ada-log"]);
    let batch = bytes::Bytes::from_static(b"not looked at");
    let append = ada
        .ask(|token| Command::Append {
            id: None,
            token,
            log: "secret".into(),
            partition: 0,
            batch,
            transaction: None,
        })
        .await;
    assert_eq!(
        text(append),
        "write access to log 'secret' in vhost '/' refused for user 'ada'"
    );
}

/// DESIGN section 3.2: a capture needs write permission on the log as well as on the exchange.
#[tokio::test]
async fn what_a_log_captures_is_written_to_it_by_whoever_publishes() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    admin.with_log("secret", &[]).await;
    admin
        .with_log("ada-log", &[("mq.bind", "amq.topic:open.#")])
        .await;
    admin.queue("heard").await;
    admin.bind("amq.topic", "#", "heard").await;
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    for _ in 0..2 {
        let refused = publish(&mut ada, "amq.topic", "secret").await;
        assert_eq!(
            refused.expect_err("it would be written").to_string(),
            "write access to log 'secret' in vhost '/' refused for user 'ada'"
        );
        publish(&mut ada, "amq.topic", "open.one").await.unwrap();
    }
    assert_eq!(admin.read("ada-log", 0, 0).await, ["x", "x"]);
    assert_eq!(admin.queue_counts("heard").await.0, 2, "all or nothing");
    assert_eq!(denied(&broker).await, 2);

    // Definitions that have the binding as well do not open it.
    admin
        .define(bind("amq.topic", "secret", "secret"))
        .await
        .unwrap();
    assert!(publish(&mut ada, "amq.topic", "secret").await.is_err());
    // What is bound by hand is for everybody who may publish to the exchange.
    admin
        .define(bind("amq.topic", "secret", "by.hand"))
        .await
        .unwrap();
    publish(&mut ada, "amq.topic", "by.hand").await.unwrap();
    assert_eq!(admin.read("secret", 0, 0).await, ["x"]);

    let all = Definitions {
        permissions: vec![permission("ada", ".*", ".*", ".*")],
        ..Definitions::default()
    };
    import(&mut admin, all).await.unwrap();
    publish(&mut ada, "amq.topic", "secret").await.unwrap();
    assert_eq!(admin.read("secret", 0, 0).await, ["x", "x"]);
}

async fn denied(broker: &Broker) -> u64 {
    let samples = broker.samples().await.into_iter();
    let mut denied = samples.filter(|sample| sample.name == "trivium_capture_denied_total");
    denied.next().expect("it is counted").value
}

/// A dead letter is captured as what its publisher has written: nothing gets into a log by way of a queue.
#[tokio::test]
async fn a_dead_letter_is_captured_if_its_publisher_may_write_to_the_log() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    admin.with_log("secret", &[]).await;
    let to_secret = [
        ("x-dead-letter-exchange", Value::Text("amq.topic".into())),
        ("x-dead-letter-routing-key", Value::Text("secret".into())),
    ];
    admin.declare("q", &to_secret).await;
    admin.queue("heard").await;
    admin.bind("amq.topic", "secret", "heard").await;
    for (user, body) in [("ada", "hers"), ("guest", "ours")] {
        let origin = Origin {
            user: user.into(),
            ..Origin::default()
        };
        let dying = Message {
            origin: Arc::new(origin),
            ..message("", "q", body)
        };
        admin.publish_message(dying).await;
    }
    admin.consume(1, "q", ConsumeSpec::default()).await;
    for delivery in 1..=2 {
        admin.delivery().await;
        admin.submit(settle(1, delivery, Outcome::Reject)).await;
    }
    admin.filled("heard", 2).await;
    assert_eq!(admin.read("secret", 0, 0).await, ["ours"]);
    assert_eq!(denied(&broker).await, 1);
}

/// connection.open: a vhost that is not there, one that the user may not enter.
#[tokio::test]
async fn vhosts_are_entered_by_permission() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let definitions = Definitions {
        vhosts: vec![VhostDefinition {
            name: "shop".into(),
            ..VhostDefinition::default()
        }],
        ..Definitions::default()
    };
    import(&mut admin, definitions).await.unwrap();
    let mut ada = login_outside(&broker, "ada", "lovelace").await.unwrap();
    assert_eq!(text(enter(&mut ada, "nope").await), "vhost nope not found");
    assert_eq!(
        text(enter(&mut ada, "shop").await),
        "access to vhost 'shop' refused for user 'ada'"
    );
    enter(&mut ada, "/").await.unwrap();
}

/// Users, vhosts, permissions and limits are there after a restart, also when nothing is shut down.
#[tokio::test]
async fn what_is_set_up_survives_a_crash() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let limits = Value::Table(vec![("max-queues".into(), Value::I64(1))]);
    let definitions = Definitions {
        vhosts: vec![VhostDefinition {
            name: "shop".into(),
            description: "for sale".into(),
            tags: vec!["eu".into()],
            default_queue_type: Some("quorum".into()),
        }],
        parameters: vec![ParameterDefinition {
            vhost: Some("/".into()),
            component: "vhost-limits".into(),
            name: "limits".into(),
            value: limits,
        }],
        ..Definitions::default()
    };
    import(&mut admin, definitions).await.unwrap();
    let export = |token| Command::Export {
        token,
        vhost: None,
        scope: Scope::All,
    };
    let Ok(Reply::Definitions(before)) = admin.ask(export).await else {
        panic!("no definitions");
    };
    drop((broker, admin));
    let store = store.crash(1);
    let broker = open(Arc::new(store)).await;
    let mut admin = Client::new(&broker);
    let Ok(Reply::Definitions(after)) = admin.ask(export).await else {
        panic!("no definitions");
    };
    assert_eq!(after, before);
    assert_eq!(after.vhosts.len(), 2);
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    ada.define(declare("ada-1")).await.unwrap();
    assert_eq!(
        text(ada.define(declare("ada-2")).await),
        "cannot declare queue 'ada-2': queue limit in vhost '/' (1) is reached"
    );
    // What is there may be declared again.
    ada.define(declare("ada-1")).await.unwrap();
}

/// Definitions are for administrators; what is refused changes nothing.
#[tokio::test]
async fn definitions_are_all_or_nothing_and_for_administrators() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    let definitions = Definitions {
        users: vec![user("eve", "apple", &["administrator"])],
        ..Definitions::default()
    };
    assert!(matches!(
        import(&mut ada, definitions.clone()).await,
        Err(Refusal::Denied(_))
    ));
    let damaged = Definitions {
        permissions: vec![permission("eve", "(", "", "")],
        ..definitions.clone()
    };
    assert!(matches!(
        import(&mut admin, damaged).await,
        Err(Refusal::Invalid(_))
    ));
    assert!(login_outside(&broker, "eve", "apple").await.is_err());
    import(&mut admin, definitions).await.unwrap();
    assert!(login_outside(&broker, "eve", "apple").await.is_ok());
    let removed = admin
        .define(Change::Remove(Removal::User("eve".into())))
        .await;
    assert!(matches!(removed, Ok(Reply::Removed { existed: true })));
    assert!(login_outside(&broker, "eve", "apple").await.is_err());
}

/// Deleting a vhost deletes everything in it, also what is retained, and takes no commit per queue.
#[tokio::test]
async fn a_vhost_goes_with_everything_in_it() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let definitions = Definitions {
        vhosts: vec![VhostDefinition {
            name: "shop".into(),
            ..VhostDefinition::default()
        }],
        permissions: vec![PermissionDefinition {
            vhost: "shop".into(),
            ..permission("guest", ".*", ".*", ".*")
        }],
        ..Definitions::default()
    };
    import(&mut admin, definitions.clone()).await.unwrap();
    let mut clerk = Client::new(&broker);
    enter(&mut clerk, "shop").await.unwrap();
    clerk.queue("q").await;
    clerk.bind("amq.topic", "k", "q").await;
    clerk.publish("", "q", "x").await;
    for number in 0..200 {
        clerk.queue(&format!("q{number}")).await;
    }
    for number in 0..10 {
        let retained = Message {
            retain: true,
            ..message("amq.topic", &format!("topic.{number}"), "kept")
        };
        clerk.publish_message(retained).await;
    }
    assert_eq!(retained(&mut clerk).await, 10);
    let remove = || Change::Remove(Removal::Vhost("shop".into()));
    let removed = admin.define(remove()).await;
    assert!(matches!(removed, Ok(Reply::Removed { existed: true })));
    let removed = admin.define(remove()).await;
    assert!(matches!(removed, Ok(Reply::Removed { existed: false })));
    assert_eq!(
        text(clerk.define(declare("q")).await),
        "vhost shop not found"
    );
    assert!(publish(&mut clerk, "", "q").await.is_err());
    import(&mut admin, definitions).await.unwrap();
    let mut clerk = Client::new(&broker);
    enter(&mut clerk, "shop").await.unwrap();
    assert_eq!(clerk.queue("q").await, (0, 0));
    assert_eq!(retained(&mut clerk).await, 0);
    admin.make_durable().await;
    let broker = open(Arc::new(store.crash(1))).await;
    let mut clerk = Client::new(&broker);
    enter(&mut clerk, "shop").await.unwrap();
    assert_eq!(retained(&mut clerk).await, 0);
}

/// How many retained messages there are.
async fn retained(client: &mut Client) -> usize {
    let filter = Pattern::new("#".into(), Grammar::Slashes);
    let reply = client
        .ask(|token| Command::Retained { token, filter })
        .await;
    match reply {
        Ok(Reply::Retained(found)) => found.len(),
        other => panic!("{other:?}"),
    }
}

/// Clients of protocols without vhosts are in `/` with their login, and count for its limit.
#[tokio::test]
async fn a_login_enters_the_vhost_where_there_is_no_choice() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let limits = Definitions {
        users: vec![user("eve", "apple", &[])],
        parameters: vec![ParameterDefinition {
            vhost: Some("/".into()),
            component: "vhost-limits".into(),
            name: "limits".into(),
            value: Value::Table(vec![("max-connections".into(), Value::I64(1))]),
        }],
        ..Definitions::default()
    };
    import(&mut admin, limits).await.unwrap();
    let refused = login(&broker, "eve", "apple").await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "access to vhost '/' refused for user 'eve'"
    );
    let first = login(&broker, "ada", "lovelace").await.unwrap();
    let refused = login(&broker, "ada", "lovelace").await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "access to vhost '/' refused for user 'ada': connection limit (1) is reached"
    );
    let mut outside = login_outside(&broker, "ada", "lovelace").await.unwrap();
    assert!(enter(&mut outside, "/").await.is_err());
    drop(first);
    login(&broker, "ada", "lovelace").await.unwrap();
}

/// max-connections of users and vhosts, with RabbitMQ's texts; a connection that goes leaves its place.
#[tokio::test]
async fn connections_are_limited() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let mut first = login_outside(&broker, "ada", "lovelace").await.unwrap();
    enter(&mut first, "/").await.unwrap();
    let limited = |limit| UserDefinition {
        password: Password::Unchanged,
        limits: Some(vec![("max-connections".into(), limit)]),
        ..user("ada", "", &[])
    };
    let users = |limit| Definitions {
        users: vec![limited(limit)],
        ..Definitions::default()
    };
    import(&mut admin, users(1)).await.unwrap();
    let mut second = login_outside(&broker, "ada", "lovelace").await.unwrap();
    assert_eq!(
        text(enter(&mut second, "/").await),
        "connection refused for user 'ada': user connection limit (1) is reached"
    );
    let refused = login(&broker, "ada", "lovelace").await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "connection refused for user 'ada': user connection limit (1) is reached"
    );
    import(&mut admin, users(-1)).await.unwrap();
    drop(first);
    let limits = Definitions {
        parameters: vec![ParameterDefinition {
            vhost: Some("/".into()),
            component: "vhost-limits".into(),
            name: "limits".into(),
            value: Value::Table(vec![("max-connections".into(), Value::I64(1))]),
        }],
        ..Definitions::default()
    };
    import(&mut admin, limits).await.unwrap();
    enter(&mut second, "/").await.unwrap();
    let mut third = login_outside(&broker, "ada", "lovelace").await.unwrap();
    assert_eq!(
        text(enter(&mut third, "/").await),
        "access to vhost '/' refused for user 'ada': connection limit (1) is reached"
    );
    // Entering again is not another connection.
    enter(&mut second, "/").await.unwrap();
    drop(second);
    enter(&mut third, "/").await.unwrap();
}

/// The broker's own limits: connections of every protocol and user, and channels over all of them.
#[tokio::test]
async fn the_broker_has_limits_of_its_own() {
    let options = trivium_core::Options {
        limits: Limits {
            connections: 2,
            channels: 1,
            ..Limits::default()
        },
        user: Some(("ada".into(), "lovelace".into())),
        ..support::options()
    };
    let store = Arc::new(MemoryStore::new());
    let broker = Broker::open(store, options).await.unwrap();
    let first = login(&broker, "ada", "lovelace").await.unwrap();
    let mut second = login_outside(&broker, "ada", "lovelace").await.unwrap();
    let Ok(Reply::Entered { channels }) = enter(&mut second, "/").await else {
        panic!("no vhost");
    };
    let mut third = login_outside(&broker, "ada", "lovelace").await.unwrap();
    let refused = "connection refused: node connection limit (2) is reached";
    assert_eq!(text(enter(&mut third, "/").await), refused);
    let fourth = login(&broker, "ada", "lovelace").await.err().unwrap();
    assert_eq!(fourth.to_string(), refused);
    drop(first);
    let Ok(Reply::Entered { channels: others }) = enter(&mut third, "/").await else {
        panic!("no vhost");
    };
    let open = channels.open().unwrap();
    assert_eq!(
        others.open().unwrap_err().to_string(),
        "number of channels opened on node 'trivium@localhost' has reached the maximum allowed limit of (1)"
    );
    drop(open);
    others.open().unwrap();
}

/// `max-channels` counts over connections, by what the limit is when a channel is opened, and channels that were open
/// before there was one count too (RabbitMQ's per-user limits).
#[tokio::test]
async fn channels_are_limited() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let limit = |limit| Definitions {
        users: vec![UserDefinition {
            password: Password::Unchanged,
            limits: Some(vec![("max-channels".into(), limit)]),
            ..user("ada", "", &[])
        }],
        ..Definitions::default()
    };
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut client = login_outside(&broker, "ada", "lovelace").await.unwrap();
        match enter(&mut client, "/").await {
            Ok(Reply::Entered { channels }) => connections.push((client, channels)),
            other => panic!("{other:?}"),
        }
    }
    let [(_first, one), (_second, other)] = &connections[..] else {
        panic!("two connections");
    };
    let open = [one.open().unwrap(), one.open().unwrap()];
    import(&mut admin, limit(3)).await.unwrap();
    let third = other.open().unwrap();
    assert_eq!(
        one.open().unwrap_err().to_string(),
        "number of channels opened for user 'ada' has reached the maximum allowed user limit of (3)"
    );
    drop(third);
    let third = other.open().unwrap();
    import(&mut admin, limit(0)).await.unwrap();
    drop((open, third));
    one.open().unwrap_err();
    import(&mut admin, limit(-1)).await.unwrap();
    one.open().unwrap();
}

/// Whose user is deleted is told to close.
#[tokio::test]
async fn connections_go_with_their_user() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    admin
        .define(Change::Remove(Removal::User("ada".into())))
        .await
        .unwrap();
    ada.expect(|event| matches!(event, Event::Shutdown).then_some(()))
        .await;
    assert!(publish(&mut ada, "amq.topic", "k").await.is_err());
}

/// A durable, shared queue that says nothing is of the vhost's type; any other is classic.
#[tokio::test]
async fn a_vhost_has_a_default_queue_type() {
    let store = Arc::new(MemoryStore::new());
    let broker = open(store.clone()).await;
    let mut admin = Client::new(&broker);
    for (kind, transient) in [("quorum", "t1"), ("stream", "t2")] {
        let definitions = Definitions {
            vhosts: vec![VhostDefinition {
                name: "/".into(),
                default_queue_type: Some(kind.into()),
                ..VhostDefinition::default()
            }],
            ..Definitions::default()
        };
        import(&mut admin, definitions).await.unwrap();
        admin.define(declare(kind)).await.unwrap();
        admin.define(declare(kind)).await.unwrap();
        let spec = trivium_core::QueueSpec::default();
        let name = transient.into();
        admin
            .define(Change::DeclareQueue { name, spec })
            .await
            .unwrap();
        let describe = |token| Command::DescribeQueues {
            token,
            vhost: None,
            name: None,
        };
        let Ok(Reply::Queues(queues)) = admin.ask(describe).await else {
            panic!("no queues");
        };
        let of = |name: &str| queues.iter().find(|it| it.name == name).unwrap().kind;
        assert_eq!((of(kind), of(transient)), (kind, "classic"));
    }
}

/// The broker's default type is for vhosts that have none; theirs wins.
#[tokio::test]
async fn the_broker_has_a_default_queue_type() {
    let store = Arc::new(MemoryStore::new());
    let options = trivium_core::Options {
        default_queue_type: "quorum",
        ..support::options()
    };
    let broker = Broker::open(store, options).await.unwrap();
    let mut admin = Client::new(&broker);
    admin.define(declare("by-broker")).await.unwrap();
    let definitions = Definitions {
        vhosts: vec![VhostDefinition {
            name: "/".into(),
            default_queue_type: Some("classic".into()),
            ..VhostDefinition::default()
        }],
        ..Definitions::default()
    };
    import(&mut admin, definitions).await.unwrap();
    admin.define(declare("by-vhost")).await.unwrap();
    // What is there may be declared again, whatever the default is now.
    admin.define(declare("by-broker")).await.unwrap();
    let describe = |token| Command::DescribeQueues {
        token,
        vhost: None,
        name: None,
    };
    let Ok(Reply::Queues(queues)) = admin.ask(describe).await else {
        panic!("no queues");
    };
    let kinds: Vec<_> = queues.iter().map(|it| (&*it.name, it.kind)).collect();
    assert_eq!(kinds, [("by-broker", "quorum"), ("by-vhost", "classic")]);
}

/// The tag `policymaker`: policies of vhosts that the user may enter, and nothing else.
#[tokio::test]
async fn a_policymaker_makes_policies() {
    let store = Arc::new(MemoryStore::new());
    let (broker, mut admin) = broker_of_ada(&store).await;
    let tagged = Definitions {
        users: vec![user("ada", "lovelace", &["policymaker"])],
        vhosts: vec![VhostDefinition {
            name: "shop".into(),
            ..VhostDefinition::default()
        }],
        ..Definitions::default()
    };
    import(&mut admin, tagged).await.unwrap();
    let mut ada = login(&broker, "ada", "lovelace").await.unwrap();
    let policy = |vhost: &str, operator| Definitions {
        policies: vec![PolicyDefinition {
            vhost: vhost.into(),
            name: "p".into(),
            operator,
            pattern: "^ada-".into(),
            apply_to: "all".into(),
            priority: 0,
            definition: vec![("max-length".into(), Value::I64(1))],
        }],
        ..Definitions::default()
    };
    import(&mut ada, policy("/", false)).await.unwrap();
    for refused in [
        policy("/", true),
        policy("shop", false),
        Definitions::default(),
    ] {
        let refused = import(&mut ada, refused).await;
        assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    }
    let removal = |operator| Removal::Policy {
        vhost: "/".into(),
        name: "p".into(),
        operator,
    };
    let refused = ada.define(Change::Remove(removal(true))).await;
    assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    let removed = ada.define(Change::Remove(removal(false))).await;
    assert!(matches!(removed, Ok(Reply::Removed { existed: true })));
}
