//! What is there after a restart, and snapshots.

use super::*;

#[test]
fn transient_things_and_their_bindings_end_with_the_process() {
    let mut story = Story::new();
    story.ok(queue("durable"));
    story.ok(queue_as(
        "transient",
        QueueSpec {
            durable: false,
            ..plain()
        },
    ));
    let spec = ExchangeSpec {
        durable: false,
        ..exchange_spec(ExchangeKind::Fanout)
    };
    story.ok(Change::DeclareExchange {
        name: "tx".into(),
        spec,
    });
    story.ok(exchange("dx", ExchangeKind::Fanout));
    for source in ["tx", "dx"] {
        for name in ["durable", "transient"] {
            story.ok(bind(source, "", name));
        }
    }
    assert_eq!(story.route("tx", ""), ["durable", "transient"]);
    let before = story.catalog.next_id;
    story.restart();
    assert!(!story.catalog.routes().exchange_exists("/", "tx"));
    assert_eq!(story.route("dx", ""), ["durable"]);
    assert!(story.catalog.next_id <= before);
    assert!(
        story
            .catalog
            .queues()
            .all(|queue| queue.id.0 < story.catalog.next_id)
    );
}

#[test]
fn numbers_are_not_used_again() {
    let mut story = Story::new();
    story.ok(queue("q"));
    let first = story.catalog.routes().queue("/", "q").unwrap().id;
    story.remove("q");
    story.restart();
    story.ok(queue("q"));
    assert!(story.catalog.routes().queue("/", "q").unwrap().id > first);
}

#[test]
fn dangling_rows_are_removed_and_damaged_ones_reported() {
    let mut story = Story::new();
    story.ok(queue("q"));
    story.ok(exchange("x", ExchangeKind::Direct));
    story.ok(bind("x", "k", "q"));
    story.rows.remove(&keys::exchange("/", "x"));
    story.restart();
    assert!(!story.rows.keys().any(|key| key[0] == keys::BINDING));
    let damaged = vec![(keys::queue(QueueId(1)), Bytes::from_static(b"\x01\xff"))];
    assert!(Catalog::recover(damaged, None).is_err());
    assert!(Catalog::recover(vec![(Bytes::from_static(b"?"), Bytes::new())], None).is_err());
}

#[test]
fn snapshots_stay_as_they_were() {
    let mut story = Story::new();
    let before = story.catalog.routes();
    story.ok(queue("q"));
    assert!(before.queue("/", "q").is_none());
    assert!(story.catalog.routes().queue("/", "q").is_some());
    assert!(story.catalog.routes().generation > before.generation);
}
