"""ListOffsets, OffsetForLeaderEpoch and DeleteRecords."""

import time

from play import scenario

EARLIEST, LATEST, MAX, LOCAL, TIERED, PENDING = -2, -1, -3, -4, -5, -6


def listed(at, version, topic, *timestamps, partition=0, epoch=-1, isolation=0, replica=-1):
    """One request for each timestamp."""
    for timestamp in timestamps:
        wanted = {"partition_index": partition, "current_leader_epoch": epoch, "timestamp": timestamp}
        at("ListOffsets", version, replica_id=replica, isolation_level=isolation,
           topics=[{"name": topic, "partitions": [wanted]}])


@scenario
def of_an_empty_log(play):
    topic, a = play.topic(), play.connect()
    for version in range(1, 12):
        listed(a, version, topic.name, LATEST, EARLIEST, 5)
    listed(a, 11, topic.name, MAX, LOCAL, TIERED, PENDING, -7, -100)
    listed(a, 11, topic.name, LATEST, EARLIEST, isolation=1)


@scenario
def of_times(play):
    topic, a = play.topic(message_timestamp_before_max_ms=2**62), play.connect()
    for at in (1000, 3000, 2000, 3000):
        play.produce(topic, b"a", b"b", timestamp=at)
    listed(a, 1, topic.name, 0, 999, 1000, 1001, 2000, 2001, 3000, 3001, 2**62)
    listed(a, 11, topic.name, EARLIEST, LATEST, MAX, LOCAL, TIERED, PENDING, -7, 0, 1500)
    for version in range(1, 12):
        listed(a, version, topic.name, MAX, LOCAL, TIERED, PENDING)


@scenario
def of_what_is_not_there(play):
    topic, a = play.topic(), play.connect()
    for version in (1, 3, 4, 5, 6, 10, 11):
        listed(a, version, play.q("none"), LATEST, EARLIEST, 5)
        listed(a, version, topic.name, LATEST, partition=1)
        listed(a, version, topic.name, LATEST, partition=-1)
    listed(a, 7, "", LATEST)
    listed(a, 7, "a b", LATEST)
    a("ListOffsets", 7, replica_id=-1, topics=[])
    a("ListOffsets", 7, replica_id=-1, topics=[{"name": topic.name, "partitions": []}])


@scenario
def of_other_epochs(play):
    topic, a = play.topic(), play.connect()
    play.produce(topic, b"a")
    for epoch in (-1, 0, 1, 7, -2):
        listed(a, 7, topic.name, LATEST, EARLIEST, 0, MAX, epoch=epoch)


@scenario
def of_partitions_that_are_repeated(play):
    topic, a = play.topic(partitions=2), play.connect()
    play.produce(topic, b"a", b"b")
    one = {"partition_index": 0, "timestamp": LATEST}
    other = {"partition_index": 0, "timestamp": EARLIEST}
    third = {"partition_index": 1, "timestamp": LATEST}
    for version in (1, 7, 11):
        a("ListOffsets", version, replica_id=-1, topics=[{"name": topic.name, "partitions": [one, other, third]}])
        a("ListOffsets", version, replica_id=-1, topics=[
            {"name": topic.name, "partitions": [one]}, {"name": topic.name, "partitions": [third]},
        ])
        a("ListOffsets", version, replica_id=-1, topics=[
            {"name": topic.name, "partitions": [one]}, {"name": topic.name, "partitions": [one]},
        ])


@scenario
def of_replicas(play):
    topic, a = play.topic(), play.connect()
    play.produce(topic, b"a")
    for replica in (-1, -2, -3, 0, 1, 2):
        listed(a, 7, topic.name, LATEST, EARLIEST, 0, replica=replica)


@scenario
def of_isolation(play):
    topic, a, now = play.topic(), play.connect(), int(time.time() * 1000)
    play.produce(topic, b"a", timestamp=now)
    producer = play.producer("tx")
    play.add(producer, topic, 0)
    play.produce(topic, b"b", b"c", producer=producer, timestamp=now + 1)
    play.produce(topic, b"d", timestamp=now + 2)
    for isolation in (0, 1, 2, -1):
        listed(a, 7, topic.name, LATEST, EARLIEST, MAX, 2**62, isolation=isolation)
    play.end(producer, True)
    for isolation in (0, 1):
        listed(a, 7, topic.name, LATEST, EARLIEST, isolation=isolation)


@scenario
def of_times_behind_the_stable_offset(play):
    topic, a = play.topic(message_timestamp_before_max_ms=2**62), play.connect()
    play.produce(topic, b"a", timestamp=1000)
    producer = play.producer("tx")
    play.add(producer, topic, 0)
    play.produce(topic, b"b", producer=producer, timestamp=2000)
    play.produce(topic, b"c", timestamp=3000)
    for isolation in (0, 1):
        listed(a, 7, topic.name, 500, 1500, 2500, 3500, MAX, isolation=isolation)


@scenario
def of_deleted_records(play):
    topic, a = play.topic(message_timestamp_before_max_ms=2**62), play.connect()
    for at in (1000, 2000, 3000):
        play.produce(topic, b"a", b"b", timestamp=at)
    deleted(a, 2, topic.name, (0, 3))
    listed(a, 11, topic.name, EARLIEST, LATEST, MAX, LOCAL, TIERED, PENDING, 0, 1000, 1500, 2000, 2500)
    deleted(a, 2, topic.name, (0, -1))
    listed(a, 11, topic.name, EARLIEST, LATEST, MAX, LOCAL, 0, 1000, 2500, 3000)


def deleted(at, version, topic, *partitions, timeout=30_000):
    at("DeleteRecords", version, timeout_ms=timeout, topics=[
        {"name": topic, "partitions": [{"partition_index": it, "offset": offset} for it, offset in partitions]}])


@scenario
def deletions(play):
    topic, a = play.topic(partitions=2), play.connect()
    play.produce(topic, b"a", b"b", b"c")
    for version in (0, 1, 2):
        for offset in (0, 2, 1, 4, -2, -100, 2**62):
            deleted(a, version, topic.name, (0, offset))
        deleted(a, version, topic.name, (2, 0), (-1, 0))
        deleted(a, version, play.q("none"), (0, 0))
        deleted(a, version, topic.name, (1, -1), (0, 3))
        deleted(a, version, topic.name, (0, 3), (0, 3))
        deleted(a, version, topic.name, (0, 3), (0, 4), (1, 0))
        deleted(a, version, topic.name, (0, 4), (0, 3), (1, 0))
    a("DeleteRecords", 2, timeout_ms=1000, topics=[])
    a("DeleteRecords", 2, timeout_ms=1000, topics=[{"name": topic.name, "partitions": []}])
    deleted(a, 2, topic.name, (0, 3), timeout=0)
    deleted(a, 2, topic.name, (0, 3), timeout=-1)
    one = {"name": topic.name, "partitions": [{"partition_index": 0, "offset": 3}]}
    other = {"name": topic.name, "partitions": [{"partition_index": 1, "offset": 0}]}
    a("DeleteRecords", 2, timeout_ms=1000, topics=[one, other])
    a("DeleteRecords", 2, timeout_ms=1000, topics=[one, one])


@scenario
def deletions_of_what_must_not_be(play):
    compacted, both, a = play.topic("c", cleanup_policy="compact"), play.topic("b", cleanup_policy="compact,delete"), play.connect()
    deleted(a, 2, compacted.name, (0, 0))
    deleted(a, 2, both.name, (0, 0))
    deleted(a, 2, "", (0, 0))
    deleted(a, 2, "a b", (0, 0))


@scenario
def deletions_behind_the_stable_offset(play):
    topic, a = play.topic(), play.connect()
    play.produce(topic, b"a")
    producer = play.producer("tx")
    play.add(producer, topic, 0)
    play.produce(topic, b"b", producer=producer)
    play.produce(topic, b"c")
    deleted(a, 2, topic.name, (0, 2))
    deleted(a, 2, topic.name, (0, -1))
    listed(a, 7, topic.name, EARLIEST, LATEST)
    listed(a, 7, topic.name, LATEST, isolation=1)
    play.end(producer, True)
    listed(a, 7, topic.name, EARLIEST, LATEST, isolation=1)


@scenario
def ends_of_epochs(play):
    topic, empty, a = play.topic(), play.topic("empty"), play.connect()
    play.produce(topic, b"a", b"b")
    for version in (2, 3, 4):
        for name in (topic.name, empty.name, play.q("none")):
            for current in (-1, 0, 1):
                for wanted in (-1, 0, 1, 5):
                    asked = {"partition": 0, "current_leader_epoch": current, "leader_epoch": wanted}
                    fields = {"replica_id": -1} if version > 2 else {}
                    a("OffsetForLeaderEpoch", version, topics=[{"topic": name, "partitions": [asked]}], **fields)
    asked = {"current_leader_epoch": -1, "leader_epoch": 0}
    a("OffsetForLeaderEpoch", 4, replica_id=-1, topics=[
        {"topic": topic.name, "partitions": [{"partition": it, **asked} for it in (0, 1, -1, 0)]}])
    a("OffsetForLeaderEpoch", 4, replica_id=1, topics=[{"topic": topic.name, "partitions": [{"partition": 0, **asked}]}])
    a("OffsetForLeaderEpoch", 4, replica_id=-2, topics=[{"topic": topic.name, "partitions": [{"partition": 0, **asked}]}])
    a("OffsetForLeaderEpoch", 4, replica_id=-1, topics=[])
    a("OffsetForLeaderEpoch", 4, replica_id=-1, topics=[
        {"topic": topic.name, "partitions": [{"partition": 0, **asked}]},
        {"topic": topic.name, "partitions": [{"partition": 0, **asked}]},
    ])
