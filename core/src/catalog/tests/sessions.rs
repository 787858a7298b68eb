//! Sessions and their subscriptions.

use super::*;

#[test]
fn a_session_is_out_of_reach_of_names_and_changes_with_its_client() {
    let mut story = Story::new();
    story.ok(queue("c1"));
    story.ok(session("c1", false));
    story.ok(subscribe("c1", "a/+", 1, false, false));
    assert_eq!(story.route("", "c1"), ["c1"]);
    assert!(!story.targets("", "c1", "").queues[0].queue.spec.session);
    let Outcome::DeleteQueue { queue: found, .. } = story.ok(Change::DeleteQueue {
        name: "c1".into(),
        session: false,
        if_unused: false,
        if_empty: false,
    }) else {
        panic!()
    };
    assert!(!found.spec.session);
    let applied = story.apply(session("c1", true)).unwrap();
    assert!(matches!(
        applied.outcome,
        Outcome::Queue { created: false, .. }
    ));
    assert!(matches!(&applied.effects[..], [Effect::QueueChanged(queue)] if queue.spec.durable));
    assert!(
        story.targets("amq.topic", "a.b", "").queues[0]
            .queue
            .spec
            .durable
    );
    story.restart();
    assert_eq!(story.route("amq.topic", "a.b"), ["c1"]);
    let id = story.catalog.routes().session("/", "c1").unwrap().id;
    assert_eq!(id.0 & crate::store::keys::TRANSIENT_QUEUE, 0);
    story.ok(session("c1", false));
    story.restart();
    assert_eq!(story.route("amq.topic", "a.b"), [""; 0]);
}

#[test]
fn overlapping_subscriptions_deliver_once_with_all_tags() {
    let mut story = Story::new();
    story.ok(session("c1", true));
    story.ok(subscribe("c1", "a/+", 1, true, false));
    let first = story.targets("amq.topic", "a.b", "c1");
    assert!(first.queues[0].best_effort);
    story.ok(subscribe("c1", "a/#", 2, false, true));
    let both = story.targets("amq.topic", "a.b", "other");
    assert_eq!(both.queues.len(), 1);
    assert_eq!(both.queues[0].tags[..], [BindingTag(1), BindingTag(2)]);
    assert!(!both.queues[0].best_effort);
    // MQTT 5, 3.8.3.1: no local leaves out what the same client published.
    assert_eq!(
        story.targets("amq.topic", "a.b", "c1").queues[0].tags[..],
        [BindingTag(1)]
    );
    // Subscribing again replaces the options.
    assert!(matches!(
        story.ok(subscribe("c1", "a/+", 7, true, false)),
        Outcome::Bound { created: false }
    ));
    story.restart();
    assert_eq!(
        story.targets("amq.topic", "a.b", "").queues[0].tags[..],
        [BindingTag(2), BindingTag(7)]
    );
}

#[test]
fn filters_have_a_bounded_depth() {
    let mut story = Story::new();
    story.ok(session("c", true));
    let text = story.refused(subscribe("c", &"/".repeat(60_000), 1, false, false));
    assert_eq!(text, "a binding key has at most 256 levels");
}
