//! Logs, what they capture and how they are tapped.

use super::*;

#[test]
fn logs_and_queues_share_names() {
    let mut story = Story::new();
    story.ok(log("orders"));
    story.ok(queue("jobs"));
    let text = "inequivalent arg 'x-queue-type' for queue 'orders' in vhost '/': received 'classic' but current is 'stream'";
    assert_eq!(story.refused(queue("orders")), text);
    assert_eq!(
        story.refused(log("orders")),
        "log 'orders' in vhost '/' exists already"
    );
    assert_eq!(
        story.refused(log("jobs")),
        "queue 'jobs' in vhost '/' exists already"
    );
}

#[test]
fn a_log_captures_and_is_tapped_under_its_name() {
    let mut story = Story::new();
    story.ok(log("orders.eu"));
    story.ok(queue("q"));
    story.ok(queue("all"));
    story.ok(bind("amq.topic", "orders.*", "q"));
    story.ok(bind("amq.topic", "#", "all"));
    assert_eq!(
        story.route("amq.topic", "orders.eu"),
        ["q", "all", "orders.eu"]
    );
    assert_eq!(story.route("", "orders.eu"), ["orders.eu"]);
    // Neither the log itself nor a pattern that begins with a wildcard.
    assert_eq!(story.tapped("orders.eu"), ["q"]);
    story.restart();
    assert_eq!(
        story.route("amq.topic", "orders.eu"),
        ["q", "all", "orders.eu"]
    );
    assert_eq!(story.tapped("orders.eu"), ["q"]);
    story.ok(Change::DeleteLog {
        name: "orders.eu".into(),
    });
    assert_eq!(story.route("amq.topic", "orders.eu"), ["q", "all"]);
}

#[test]
fn settings_say_otherwise() {
    let mut story = Story::new();
    story.ok(queue("all"));
    story.ok(bind("amq.topic", "#", "all"));
    let settings = [
        ("mq.bind", "amq.topic:a.#, amq.direct:k"),
        ("mq.tap.root.wildcards", "true"),
    ];
    story.ok(log_with("l", &settings));
    assert_eq!(story.route("amq.topic", "a.b"), ["all", "l"]);
    assert_eq!(story.route("amq.topic", "l"), ["all"]);
    assert_eq!(story.route("amq.direct", "k"), ["l"]);
    assert_eq!(story.tapped("l"), ["all"]);
    story.ok(log_with("off", &[("mq.tap", "off")]));
    assert_eq!(story.tapped("off"), [""; 0]);
    assert_eq!(
        story.refused(log_with("m", &[("mq.bind", "nope:k")])),
        "no exchange 'nope' in vhost '/'"
    );
    assert_eq!(
        story.refused(log_with("m", &[("mq.bind", "k")])),
        "mq.bind: expected exchange:pattern, not 'k'"
    );
}

#[test]
fn a_log_is_checked_before_it_is_made() {
    let mut story = Story::new();
    let spec = |partitions| LogSpec {
        partitions,
        settings: Vec::new(),
    };
    let create = |partitions, validate_only| Change::CreateLog {
        name: "l".into(),
        spec: spec(partitions),
        validate_only,
    };
    assert_eq!(
        story.refused(create(0, false)),
        "a log has between 1 and 10000 partitions, not 0"
    );
    assert_eq!(
        story.refused(create(u32::MAX, false)),
        "a log has between 1 and 10000 partitions, not 4294967295"
    );
    assert!(matches!(story.ok(create(3, true)), Outcome::Log(_)));
    assert!(story.catalog.routes().log("/", "l").is_none() && story.rows.is_empty());
    story.ok(create(3, false));
    assert_eq!(story.catalog.routes().log("/", "l").unwrap().tails.len(), 3);
}
