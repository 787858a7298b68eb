//! Exchanges and what is bound to them.

use super::*;

#[test]
fn the_default_exchange_cannot_be_touched() {
    let mut story = Story::new();
    story.ok(queue("q"));
    let text = "operation not permitted on the default exchange";
    assert_eq!(story.refused(exchange("", ExchangeKind::Direct)), text);
    assert_eq!(story.refused(delete_exchange("")), text);
    assert_eq!(story.refused(bind("", "q", "q")), text);
    assert_eq!(story.refused(unbind("", "q", "q")), text);
    assert_eq!(story.refused(bind_exchange("amq.topic", "q", "")), text);
    assert_eq!(story.route("", "q"), ["q"]);
    assert_eq!(
        story.refused(Change::ExpectExchange { name: "".into() }),
        text
    );
}

#[test]
fn an_alternate_exchange_is_a_string() {
    let mut story = Story::new();
    let spec = ExchangeSpec {
        arguments: vec![("alternate-exchange".into(), Value::I32(5))],
        ..exchange_spec(ExchangeKind::Direct)
    };
    let name = "x".into();
    assert_eq!(
        story.refused(Change::DeclareExchange { name, spec }),
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
    );
}

#[test]
fn an_exchange_declared_again_must_be_the_same() {
    let mut story = Story::new();
    story.ok(exchange("amq.match", ExchangeKind::Headers));
    story.ok(exchange("x", ExchangeKind::Direct));
    story.ok(exchange("x", ExchangeKind::Direct));
    assert_eq!(
        story.refused(exchange("x", ExchangeKind::Fanout)),
        "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'"
    );
    let alternate = vec![("alternate-exchange".into(), Value::Text("ae".into()))];
    let spec = ExchangeSpec {
        arguments: alternate,
        ..exchange_spec(ExchangeKind::Direct)
    };
    assert_eq!(
        story.refused(Change::DeclareExchange {
            name: "x".into(),
            spec
        }),
        "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received the value 'ae' of type 'longstr' but current is none"
    );
}

#[test]
fn exchanges_are_deleted_with_their_bindings() {
    let mut story = Story::new();
    story.ok(queue("q"));
    story.ok(exchange("x", ExchangeKind::Direct));
    story.ok(bind("x", "k", "q"));
    story.ok(bind_exchange("amq.topic", "t", "x"));
    let unused = Change::DeleteExchange {
        name: "x".into(),
        if_unused: true,
    };
    assert_eq!(story.refused(unused), "exchange 'x' in vhost '/' in use");
    assert_eq!(
        story.refused(delete_exchange("amq.direct")),
        "deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    );
    story.ok(delete_exchange("x"));
    story.ok(exchange("x", ExchangeKind::Fanout));
    assert_eq!(story.route("x", "k"), [""; 0]);
    assert_eq!(story.route("amq.topic", "t"), [""; 0]);
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding() {
    let mut story = Story::new();
    for name in ["a", "b"] {
        let spec = ExchangeSpec {
            auto_delete: true,
            ..exchange_spec(ExchangeKind::Fanout)
        };
        story.ok(Change::DeclareExchange {
            name: name.into(),
            spec,
        });
    }
    story.ok(queue("q"));
    story.ok(bind_exchange("a", "", "b"));
    story.ok(bind("b", "1", "q"));
    story.ok(bind("b", "2", "q"));
    story.ok(unbind("b", "1", "q"));
    assert!(story.catalog.routes().exchange_exists("/", "b"));
    story.remove("q");
    // With b its binding from a goes, which was a's last.
    assert!(!story.catalog.routes().exchange_exists("/", "b"));
    assert!(!story.catalog.routes().exchange_exists("/", "a"));
}

#[test]
fn internal_exchanges_take_from_exchanges_only() {
    let mut story = Story::new();
    story.ok(queue("q"));
    let spec = ExchangeSpec {
        internal: true,
        ..exchange_spec(ExchangeKind::Fanout)
    };
    story.ok(Change::DeclareExchange {
        name: "xi".into(),
        spec,
    });
    story.ok(bind("xi", "", "q"));
    story.ok(bind_exchange("amq.fanout", "", "xi"));
    assert_eq!(story.route("amq.fanout", "k"), ["q"]);
    let topic = Topic::new("k".into(), Grammar::Dots);
    let refusal = story
        .catalog
        .routes()
        .route(
            "/",
            "xi",
            &[&topic],
            &mut Facts::default,
            "",
            &mut Targets::default(),
        )
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "cannot publish to internal exchange 'xi' in vhost '/'"
    );
}

#[test]
fn cycles_of_exchanges_end_and_destinations_come_once() {
    let mut story = Story::new();
    story.ok(queue("q"));
    for name in ["a", "b", "c"] {
        story.ok(exchange(name, ExchangeKind::Fanout));
        story.ok(bind(name, "", "q"));
    }
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"), ("a", "a")] {
        story.ok(bind_exchange(from, "", to));
    }
    assert_eq!(story.route("a", "k"), ["q"]);
}

#[test]
fn the_alternate_exchange_takes_what_matches_nothing() {
    let mut story = Story::new();
    let to = |name: &str| vec![("alternate-exchange".into(), Value::Text(name.into()))];
    for (name, alternate) in [("a", "b"), ("b", "a")] {
        let spec = ExchangeSpec {
            arguments: to(alternate),
            ..exchange_spec(ExchangeKind::Direct)
        };
        story.ok(Change::DeclareExchange {
            name: name.into(),
            spec,
        });
    }
    story.ok(queue("q"));
    story.ok(queue("spare"));
    story.ok(bind("a", "k", "q"));
    story.ok(bind("b", "other", "spare"));
    assert_eq!(story.route("a", "k"), ["q"]);
    assert_eq!(story.route("a", "other"), ["spare"]);
    assert_eq!(story.route("a", "nothing"), [""; 0]);
    let of_all = |keys| names(&story.targets_of_all("a", keys, ""));
    assert_eq!(of_all(&["k", "other"]), ["q"], "one key has led somewhere");
    assert_eq!(of_all(&["nothing", "other"]), ["spare"]);
}

#[test]
fn headers_exchanges_ask_for_headers_once() {
    let mut story = Story::new();
    story.ok(queue("q"));
    let arguments = vec![("x-match".into(), Value::Text("some".into()))];
    let bad = Binding {
        arguments,
        ..binding("amq.headers", "", Destination::Queue("q".into()))
    };
    assert!(
        story
            .refused(Change::Bind(bad))
            .starts_with("Invalid x-match field value \"some\"")
    );
    for format in ["pdf", "txt"] {
        let arguments = vec![("format".into(), Value::Text(format.into()))];
        story.ok(Change::Bind(Binding {
            arguments,
            ..binding("amq.headers", "", Destination::Queue("q".into()))
        }));
    }
    let mut asked = 0;
    let mut targets = Targets::default();
    let mut headers = || {
        asked += 1;
        let headers = vec![("format".into(), Value::Text("pdf".into()))];
        let properties = Properties {
            headers,
            ..Properties::default()
        };
        Facts {
            properties,
            timestamp: None,
        }
    };
    let topic = Topic::default();
    story
        .catalog
        .routes()
        .route(
            "/",
            "amq.headers",
            &[&topic],
            &mut headers,
            "",
            &mut targets,
        )
        .unwrap();
    assert_eq!((names(&targets), asked), (vec!["q".to_string()], 1));
}
