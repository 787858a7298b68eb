//! A partition by itself.

use std::time::{Duration, Instant};

use super::{upkeep::PRODUCER_EXPIRY, *};
use crate::{
    command::Isolation,
    log::{
        TailBudget,
        batch::tests::{batch, batch_at, produced},
        tail::Source,
        validate,
    },
    store::Write,
};

#[expect(clippy::disallowed_methods, reason = "only differences count")]
fn at(ms: u64) -> Now {
    thread_local!(static START: Instant = Instant::now());
    Now {
        instant: START.with(|start| *start) + Duration::from_millis(ms),
        wall: Timestamp(ms),
    }
}

fn partition(settings: Settings) -> Partition {
    let tail = Arc::new(Tail::new(Bounds::default(), TailBudget::new(64 << 20)));
    Partition::new(LogId(1), 0, settings, tail)
}

fn append(partition: &mut Partition, bytes: &Bytes) -> Result<Appended, Refusal> {
    partition.append(at(0), &validate(bytes).unwrap(), bytes.clone(), 0)
}

fn base(partition: &mut Partition, bytes: &Bytes) -> u64 {
    append(partition, bytes).unwrap().base.0
}

/// Ends a turn whose commit succeeds.
fn turn(partition: &mut Partition) -> Vec<Write> {
    let mut batch = Batch::new();
    if let Some(committed) = partition.seal(&mut batch, 0) {
        let _ = committed.publish(0);
    }
    batch.into_writes()
}

/// DESIGN section 3.2: retention does not remove what the tap has still to read, up to a configured lag.
#[test]
fn what_the_tap_has_to_read_outlives_retention_for_a_while() {
    let settings = [("retention.ms", "1000"), ("mq.tap.max.lag.ms", "5000")];
    let settings = settings.map(|(name, value)| (name.into(), value.into()));
    let mut partition = partition(Settings::parse(&settings).unwrap());
    partition.set_tap(Some(Offset(0)));
    for _ in 0..3 {
        base(&mut partition, &batch(&["a"]));
        partition.close_segment();
    }
    let _ = turn(&mut partition);
    let written = 1_000;
    partition.set_tap(Some(Offset(1)));
    partition.tick(at(written + 2_000));
    assert_eq!(
        (partition.log_start, partition.tap()),
        (Offset(1), Some(Offset(1)))
    );
    let _ = turn(&mut partition);
    assert_eq!(partition.tail().tap().unwrap().lost, 0);
    partition.tick(at(written + 7_000));
    assert_eq!(
        (partition.log_start, partition.tap()),
        (Offset(3), Some(Offset(3)))
    );
    assert_eq!(partition.tail().tap().unwrap().lost, 2);
}

/// A partition whose records nobody hears moves its tap with the batches, but not over one that may retain.
#[test]
fn a_quiet_tap_follows_without_rows_of_its_own() {
    let mut partition = partition(Settings::default());
    partition.set_tap(Some(Offset(0)));
    base(&mut partition, &batch(&["a"]));
    let mut sealed = Batch::new();
    let committed = partition.seal(&mut sealed, 7).unwrap();
    assert!(committed.publish(7), "the tap has to look who hears it");
    assert!(partition.tail().pass(Offset(0), Offset(1), Some(7)));
    base(&mut partition, &batch(&["a", "b"]));
    let committed = partition.seal(&mut sealed, 7).unwrap();
    assert_eq!(partition.tap, Some(Offset(3)), "stored with the batch");
    assert!(!committed.publish(7), "nobody is woken");
    assert_eq!(partition.tail().tap().unwrap().position, Offset(3));
    base(&mut partition, &batch(&["a"]));
    let committed = partition.seal(&mut sealed, 8).unwrap();
    assert_eq!(
        partition.tap,
        Some(Offset(3)),
        "by other routes it may be heard"
    );
    assert!(committed.publish(8));
}

fn record(value: &'static str) -> NewRecord {
    NewRecord {
        timestamp: None,
        key: None,
        value: Some(value.into()),
        headers: Bytes::from_static(b"\0"),
    }
}

/// The partition that a broker finds after these writes.
fn reopened(writes: &[Write]) -> Partition {
    let mut rows = std::collections::BTreeMap::new();
    for write in writes {
        match write {
            Write::Put(Table::State, key, value) => drop(rows.insert(key.clone(), value.clone())),
            Write::Delete(Table::State, key) => drop(rows.remove(key)),
            _ => {}
        }
    }
    let mut partition = partition(Settings::default());
    for (key, value) in rows {
        let number = keys::state_number(&key).unwrap_or_default();
        match key[0] {
            b'p' => partition.restore(value).unwrap(),
            b'g' => partition.restore_segment(number, value).unwrap(),
            b'd' => partition.restore_producer(number, value).unwrap(),
            other => panic!("unknown row {other}"),
        }
    }
    partition.show();
    partition
}

#[test]
fn offsets_count_up_and_bytes_are_stored_as_they_came() {
    let mut partition = partition(Settings::default());
    let (one, two) = (batch(&["a", "b"]), batch(&["c"]));
    assert_eq!(base(&mut partition, &one), 0);
    assert_eq!(base(&mut partition, &two), 2);
    assert_eq!(
        partition.tail().bounds(),
        Bounds::default(),
        "nothing is readable before the commit"
    );
    let writes = turn(&mut partition);
    let key = keys::record_batch(LogId(1), 0, Offset(1), 0);
    assert!(writes.contains(&Write::Put(Table::Records, key, one)));
    assert_eq!(partition.tail().bounds().high_watermark, Offset(3));
    assert!(
        turn(&mut partition).is_empty(),
        "a turn without a change writes nothing"
    );
}

#[test]
fn collected_messages_become_one_batch_in_the_order_of_arrival() {
    let mut partition = partition(Settings::default());
    partition.collect(at(5), &record("a"), true);
    partition.collect(at(6), &record("b"), true);
    assert_eq!(base(&mut partition, &batch(&["c"])), 2);
    partition.collect(at(7), &record("d"), false);
    turn(&mut partition);
    let (Source::Cached(batches), _) =
        partition
            .tail()
            .read(Offset(0), usize::MAX, Isolation::Uncommitted)
    else {
        panic!("not cached")
    };
    let found: Vec<_> = batches
        .iter()
        .map(|batch| (batch.base.0, batch.last.0, batch.flags))
        .collect();
    assert_eq!(
        found,
        [(0, 1, keys::record_flags::CAPTURED), (2, 2, 0), (3, 3, 0)]
    );
    let header = validate(&batches[0].bytes).unwrap();
    assert_eq!(
        (header.base_timestamp, header.max_timestamp),
        (5, 6),
        "the broker's clock decides"
    );
}

#[test]
fn a_repeated_batch_is_acknowledged_again_and_not_stored() {
    let mut partition = partition(Settings::default());
    let first = produced(batch(&["a", "b"]), 7, 0, 0);
    let second = produced(batch(&["c"]), 7, 0, 2);
    assert_eq!(base(&mut partition, &first), 0);
    assert_eq!(base(&mut partition, &second), 2);
    let again = append(&mut partition, &first).unwrap();
    assert_eq!((again.base, again.duplicate), (Offset(0), true));
    assert_eq!(partition.next, Offset(3));
}

#[test]
fn a_gap_is_out_of_order_and_so_is_what_is_older_than_five_batches() {
    let mut partition = partition(Settings::default());
    for sequence in 0..6 {
        append(&mut partition, &produced(batch(&["x"]), 7, 0, sequence)).unwrap();
    }
    for sequence in [0, 7, 100] {
        let refused = append(&mut partition, &produced(batch(&["x"]), 7, 0, sequence));
        assert_eq!(refused, Err(Refusal::OutOfOrderSequence), "{sequence}");
    }
    assert_eq!(
        append(&mut partition, &produced(batch(&["x"]), 7, 0, 1))
            .unwrap()
            .base,
        Offset(1)
    );
}

#[test]
fn epochs_fence_and_begin_at_zero() {
    let mut partition = partition(Settings::default());
    append(&mut partition, &produced(batch(&["x"]), 7, 3, 0)).unwrap();
    let mut send =
        |epoch, sequence| append(&mut partition, &produced(batch(&["x"]), 7, epoch, sequence));
    assert_eq!(send(2, 1), Err(Refusal::ProducerFenced));
    assert_eq!(send(4, 1), Err(Refusal::OutOfOrderSequence));
    assert!(send(4, 0).is_ok());
    assert_eq!(send(3, 1), Err(Refusal::ProducerFenced));
}

#[test]
fn an_unknown_producer_may_begin_anywhere_and_sequences_wrap() {
    let mut partition = partition(Settings::default());
    append(
        &mut partition,
        &produced(batch(&["a", "b"]), 7, 0, i32::MAX - 1),
    )
    .unwrap();
    assert!(append(&mut partition, &produced(batch(&["c"]), 7, 0, 0)).is_ok());
    append(
        &mut partition,
        &produced(batch(&["a", "b"]), 8, 0, i32::MAX),
    )
    .unwrap();
    assert!(append(&mut partition, &produced(batch(&["c"]), 8, 0, 1)).is_ok());
}

#[test]
fn state_survives_a_restart() {
    let mut partition = partition(Settings::default());
    let first = produced(batch(&["a"]), 7, 1, 0);
    append(&mut partition, &first).unwrap();
    append(&mut partition, &batch(&["b", "c", "d"])).unwrap();
    partition.trim(Offset(2)).unwrap();
    partition.set_tap(Some(Offset(2)));
    let mut reopened = reopened(&turn(&mut partition));
    assert_eq!(
        reopened.tail().bounds(),
        Bounds {
            log_start: Offset(2),
            high_watermark: Offset(4),
            last_stable: Offset(4),
            aborted_to: Offset(0),
            bytes: partition.bytes(),
        }
    );
    assert_eq!(reopened.tap(), Some(Offset(2)));
    assert!(append(&mut reopened, &first).unwrap().duplicate);
    assert_eq!(base(&mut reopened, &batch(&["e"])), 4);
    assert_eq!(
        reopened.open.bytes,
        partition.open.bytes + batch(&["e"]).len() as u64
    );
}

#[test]
fn producers_are_bounded_and_expire() {
    let mut partition = partition(Settings::default());
    for id in 0..PRODUCERS_MAX as i64 + 10 {
        append(&mut partition, &produced(batch(&["x"]), id, 0, 0)).unwrap();
    }
    assert_eq!(partition.producers.len(), PRODUCERS_MAX);
    let mut writes = turn(&mut partition);
    partition.tick(at(PRODUCER_EXPIRY.as_millis() as u64 + 1));
    writes.extend(turn(&mut partition));
    assert!(partition.producers.is_empty());
    assert!(reopened(&writes).producers.is_empty());
}

fn filled(settings: Settings) -> (Partition, Vec<Write>) {
    let mut partition = partition(settings);
    let value = "x".repeat(1 << 20);
    let mut writes = Vec::new();
    for n in 0..64 {
        let bytes = batch_at(1_000 + n, &[&value]);
        partition
            .append(at(0), &validate(&bytes).unwrap(), bytes, 0)
            .unwrap();
        writes.extend(turn(&mut partition));
    }
    (partition, writes)
}

#[test]
fn retention_by_size_removes_whole_segments() {
    let settings = Settings {
        retention_bytes: Some(20 << 20),
        retention: None,
        ..Settings::default()
    };
    let (mut partition, mut writes) = filled(settings);
    assert_eq!(partition.segments.len(), 4);
    partition.tick(at(0));
    writes.extend(turn(&mut partition));
    assert_eq!(
        partition.tail().bounds().log_start,
        Offset(32),
        "what stays is at least the limit"
    );
    assert_eq!(reopened(&writes).segments.len(), 2);
}

#[test]
fn retention_by_age_spares_what_the_tap_has_still_to_read() {
    let settings = Settings {
        retention: Some(Duration::from_millis(500)),
        ..Settings::default()
    };
    let (mut partition, _) = filled(settings);
    partition.set_tap(Some(Offset(20)));
    partition.tick(at(1_000_000));
    assert_eq!(partition.log_start, Offset(16));
    partition.set_tap(Some(Offset(64)));
    partition.tick(at(1_000_000));
    assert_eq!(
        partition.log_start,
        Offset(64),
        "the open segment goes as well"
    );
    turn(&mut partition);
    assert_eq!(
        partition
            .tail()
            .read(Offset(64), 1, Isolation::Uncommitted)
            .0,
        Source::End
    );
}

#[test]
fn trimming_beyond_the_end_is_out_of_range() {
    let mut partition = partition(Settings::default());
    append(&mut partition, &batch(&["a"])).unwrap();
    assert_eq!(
        partition.trim(Offset(2)),
        Err(Refusal::OffsetOutOfRange(Offset(2)))
    );
    partition.trim(Offset(1)).unwrap();
    partition.trim(Offset(0)).unwrap();
    assert_eq!(partition.log_start, Offset(1));
}
