"""Fetch: places, sizes, sessions, ids, epochs and isolation."""

import struct
import uuid

from play import scenario

NOBODY = uuid.UUID(int=7)
SOON = {"max_wait_ms": 0, "min_bytes": 0}
TOPIC_IDS = 13


def part(offset, partition=0, most=1 << 20, **more):
    return {"partition": partition, "fetch_offset": offset, "partition_max_bytes": most, **more}


def named(version, topic, *partitions):
    """A topic as the version names it."""
    if isinstance(topic, (uuid.UUID, str)):
        known = {"topic_id": topic} if isinstance(topic, uuid.UUID) else {"topic": topic}
    else:
        known = {"topic_id": topic.id} if version >= TOPIC_IDS else {"topic": topic.name}
    return {**known, "partitions": list(partitions)}


def fetched(at, version, *topics, **fields):
    if version < 15 and "replica_id" not in fields:
        fields["replica_id"] = -1
    if version >= 7 and "session_epoch" not in fields:
        fields["session_epoch"] = -1
    fields.setdefault("max_bytes", 1 << 20)
    return at("Fetch", version, **{**SOON, **fields}, topics=list(topics))


@scenario
def places(play):
    topic, a = play.topic(partitions=2), play.connect()
    for values in ((b"a", b"b", b"c"), (b"d",), (b"e", b"f")):
        play.produce(topic, *values)
    for version in range(4, 19):
        for offset in (0, 1, 3, 5, 6, 7, -1, -2, 2**62):
            fetched(a, version, named(version, topic, part(offset)))
        fetched(a, version, named(version, topic, part(0, partition=1)))
        fetched(a, version, named(version, topic, part(0, partition=2), part(0, partition=-1)))
    for version in (4, 11, 12):
        fetched(a, version, named(version, play.q("none"), part(0)))
        fetched(a, version, named(version, "a b", part(0)))
        fetched(a, version, named(version, "", part(0)))
    for version in (13, 16, 18):
        fetched(a, version, named(version, NOBODY, part(0)))
        fetched(a, version, named(version, uuid.UUID(int=0), part(0)))
        fetched(a, version, named(version, NOBODY, part(0)), named(version, topic, part(0)))
    fetched(a, 12)
    fetched(a, 17)
    fetched(a, 12, named(12, topic))
    fetched(a, 12, named(12, topic, part(0), part(3)))
    fetched(a, 12, named(12, topic, part(5)), named(12, topic, part(0, partition=1)))
    fetched(a, 12, named(12, topic, part(5)), named(12, topic, part(3)))


@scenario
def after_deletion_of_records(play):
    topic, a = play.topic(), play.connect()
    play.produce(topic, b"a", b"b", b"c")
    play.produce(topic, b"d")
    a("DeleteRecords", 2, timeout_ms=30_000, topics=[
        {"name": topic.name, "partitions": [{"partition_index": 0, "offset": 2}]}])
    for version in (4, 11, 16):
        for offset in (0, 1, 2, 3, 4, 5):
            fetched(a, version, named(version, topic, part(offset)))
    fetched(a, 16, named(16, topic, part(2, log_start_offset=7)))


@scenario
def sizes(play):
    topic, other, a = play.topic(partitions=2), play.topic("other"), play.connect()
    for _ in range(3):
        play.produce(topic, b"x" * 100, b"y" * 100)
        play.produce(topic, b"x" * 100, partition=1)
        play.produce(other, b"x" * 100)
    everything = [named(12, topic, part(0), part(0, 1)), named(12, other, part(0))]
    for most in (0, 1, 100, 250, 280, 300, 500, 1 << 20, -1, -(2**31)):
        fetched(a, 12, *everything, max_bytes=most)
    for most in (0, 1, 270, 500, 600, 800, -1, 2**31 - 1):
        fetched(a, 12, named(12, topic, part(0, most=most), part(0, 1)), named(12, other, part(0, most=most)))
        fetched(a, 17, named(17, topic, part(1, most=most)))
    for wait, least in ((0, 1 << 20), (1, 1 << 20), (0, 0), (0, -1), (-1, 1), (-1, 1 << 20)):
        fetched(a, 12, *everything, max_wait_ms=wait, min_bytes=least)
        fetched(a, 12, named(12, topic, part(6)), max_wait_ms=wait, min_bytes=least)


@scenario
def epochs(play):
    topic, a = play.topic(), play.connect()
    play.produce(topic, b"a", b"b")
    for version in (9, 11, 12, 16, 18):
        for epoch in (-1, 0, 1, 9, -2):
            fetched(a, version, named(version, topic, part(0, current_leader_epoch=epoch)))
            fetched(a, version, named(version, topic, part(9, current_leader_epoch=epoch)))
    for version in (12, 16, 18):
        for last in (-1, 0, 1, 5, -2):
            for offset in (0, 1, 2, 3):
                fetched(a, version, named(version, topic, part(offset, last_fetched_epoch=last)))
    fetched(a, 12, named(12, topic, part(0, current_leader_epoch=0, last_fetched_epoch=0)))
    fetched(a, 12, named(12, topic, part(0, current_leader_epoch=1, last_fetched_epoch=0)))


@scenario
def replicas(play):
    topic, a = play.topic(), play.connect()
    play.produce(topic, b"a", b"b")
    for version in (4, 11, 14):
        for replica in (-2, -3, 0, 1, 2):
            fetched(a, version, named(version, topic, part(0)), replica_id=replica)
            fetched(a, version, named(version, topic, part(9)), replica_id=replica)
    for version in (15, 18):
        for replica in ({"replica_id": -1}, {"replica_id": -2}, {"replica_id": 1, "replica_epoch": 0}, {"replica_id": 2},
                        {"replica_id": 1, "replica_epoch": -1}, {"replica_id": -1, "replica_epoch": 3}):
            fetched(a, version, named(version, topic, part(0)), replica_state=replica)
    for rack in ("", "r1", "x" * 300):
        fetched(a, 11, named(11, topic, part(0)), rack_id=rack)
        fetched(a, 16, named(16, topic, part(0)), rack_id=rack)
    fetched(a, 12, named(12, topic, part(0)), cluster_id=None)
    fetched(a, 12, named(12, topic, part(0)), cluster_id="x")
    fetched(a, 17, named(17, topic, part(0, replica_directory_id=NOBODY)))
    fetched(a, 18, named(18, topic, part(0, high_watermark=1)))


@scenario
def isolation(play):
    topic, a = play.topic(), play.connect()
    play.produce(topic, b"a")
    first, second, third = play.producer("1"), play.producer("2"), play.producer("3")
    for producer in (first, second, third):
        play.add(producer, topic, 0)
    play.produce(topic, b"b", producer=first)
    play.produce(topic, b"c", producer=second)
    for version in (4, 5, 11, 12, 13, 18):
        for level in (0, 1, 2, -1):
            for offset in (0, 1, 2, 3, 4):
                fetched(a, version, named(version, topic, part(offset)), isolation_level=level)
    play.end(second, False)
    play.produce(topic, b"d", producer=third)
    fetched(a, 12, named(12, topic, part(0)), isolation_level=1)
    play.end(first, True)
    fetched(a, 12, named(12, topic, part(0)), isolation_level=1)
    play.end(third, False)
    for version in (4, 12, 18):
        for level in (0, 1):
            for offset in (0, 2, 3, 4, 5, 6, 7, 8):
                fetched(a, version, named(version, topic, part(offset)), isolation_level=level)
        fetched(a, version, named(version, topic, part(0, most=1)), isolation_level=1)


@scenario
def many_aborted(play):
    topic, a = play.topic(partitions=2), play.connect()
    producer = play.producer("tx")
    for number in range(3):
        play.add(producer, topic, 0, 1)
        play.produce(topic, b"x" * 200, producer=producer, sequence=number)
        play.produce(topic, b"y", partition=1, producer=producer, sequence=number)
        play.end(producer, False)
    fetched(a, 12, named(12, topic, part(0), part(0, 1)), isolation_level=1)
    fetched(a, 12, named(12, topic, part(2), part(3, 1)), isolation_level=1)
    fetched(a, 12, named(12, topic, part(0, most=1), part(0, 1, most=400)), isolation_level=1)
    fetched(a, 12, named(12, topic, part(0)), isolation_level=0)


def opened(at, version, *topics):
    found = fetched(at, version, *topics, session_epoch=0)
    return found.get("session_id", 0)


@scenario
def sessions(play):
    topic, other, a = play.topic(partitions=2), play.topic("other"), play.connect()
    play.produce(topic, b"a")
    for version in (7, 11, 12, 13, 17, 18):
        id = opened(a, version, named(version, topic, part(0), part(0, 1)))
        at = {"session_id": id, "session_epoch": 1}
        fetched(a, version, **at)
        fetched(a, version, named(version, topic, part(1)), **{**at, "session_epoch": 2})
        fetched(a, version, **{**at, "session_epoch": 3})
        play.produce(topic, b"b", partition=1)
        fetched(a, version, **{**at, "session_epoch": 4})
        fetched(a, version, **{**at, "session_epoch": 4})
        fetched(a, version, **{**at, "session_epoch": 6})
        fetched(a, version, **{**at, "session_epoch": 5})
        fetched(a, version, named(version, other, part(0)), **{**at, "session_epoch": 6})
        fetched(a, version, named(version, topic, part(1, 7)), **{**at, "session_epoch": 7})
        fetched(a, version, **{**at, "session_epoch": 8})
        forgotten = {"topic_id": topic.id} if version >= TOPIC_IDS else {"topic": topic.name}
        fetched(a, version, forgotten_topics_data=[{**forgotten, "partitions": [0, 1, 7, 9]}], **{**at, "session_epoch": 9})
        play.produce(topic, b"c")
        fetched(a, version, **{**at, "session_epoch": 10})
        fetched(a, version, named(version, topic, part(0)), forgotten_topics_data=[{**forgotten, "partitions": [0]}],
                **{**at, "session_epoch": 11})
        fetched(a, version, **{**at, "session_epoch": 12})
        fetched(a, version, named(version, topic, part(0)), **{**at, "session_epoch": -1})
        fetched(a, version, **{**at, "session_epoch": 13})
        fetched(a, version, **{**at, "session_epoch": -1})


@scenario
def sessions_that_are_not_there(play):
    topic, a, b = play.topic(), play.connect(), play.connect()
    play.produce(topic, b"a")
    for version in (7, 12, 17):
        for id, epoch in ((0, 1), (0, -2), (99, 1), (99, 0), (99, -1), (-1, 0), (-1, 5), (0, 2**31 - 1)):
            found = fetched(a, version, named(version, topic, part(0)), session_id=id, session_epoch=epoch)
            play.knows(found.get("session_id", 0), "id")
    id = opened(a, 12, named(12, topic, part(0)))
    fetched(b, 12, session_id=id, session_epoch=1)
    fetched(a, 12, session_id=id, session_epoch=2)
    fetched(a, 12, session_id=id, session_epoch=3)
    again = opened(a, 12, named(12, topic, part(0)))
    fetched(a, 12, session_id=again, session_epoch=1)
    fetched(a, 12, named(12, topic, part(0)), session_id=again, session_epoch=0)
    fetched(a, 12, session_id=again, session_epoch=2)


@scenario
def sessions_without_partitions(play):
    topic, a = play.topic(), play.connect()
    for version in (7, 12, 17):
        id = opened(a, version)
        fetched(a, version, named(version, topic, part(0)), session_id=id, session_epoch=1)
        id = opened(a, version, named(version, topic, part(0)))
        fetched(a, version, named(version, topic, part(0)), session_id=id, session_epoch=0)


@scenario
def sessions_of_other_versions(play):
    """By name first, then by id, and the other way round."""
    topic, a = play.topic(), play.connect()
    play.produce(topic, b"a")
    id = opened(a, 12, named(12, topic, part(0)))
    fetched(a, 13, named(13, topic, part(0)), session_id=id, session_epoch=1)
    fetched(a, 12, session_id=id, session_epoch=2)
    id = opened(a, 13, named(13, topic, part(0)))
    fetched(a, 12, named(12, topic, part(0)), session_id=id, session_epoch=1)
    fetched(a, 13, session_id=id, session_epoch=2)


@scenario
def sessions_with_errors(play):
    topic, a = play.topic(), play.connect()
    for version in (12, 17):
        unknown = named(version, NOBODY, part(0)) if version >= TOPIC_IDS else named(version, play.q("none"), part(0))
        id = opened(a, version, unknown, named(version, topic, part(5)))
        fetched(a, version, session_id=id, session_epoch=1)
        fetched(a, version, session_id=id, session_epoch=2)
        fetched(a, version, named(version, topic, part(0)), session_id=id, session_epoch=3)
        fetched(a, version, session_id=id, session_epoch=4)


@scenario
def sessions_with_topics_that_are_deleted(play):
    topic, a, b = play.topic(), play.connect(), play.connect()
    play.produce(topic, b"a")
    by_id = opened(a, 17, named(17, topic, part(0)))
    by_name = opened(b, 12, named(12, topic, part(1)))
    play.stage.quiet("DeleteTopics", 6, topics=[{"name": topic.name}], timeout_ms=30_000)
    asked = {"topics": [{"name": topic.name}], "allow_auto_topic_creation": False}
    play.connect().until(lambda it: it["topics"][0].get("error_code"), "Metadata", 12, **asked)
    fetched(a, 17, session_id=by_id, session_epoch=1)
    fetched(b, 12, session_id=by_name, session_epoch=1)
    play.topic()
    fetched(a, 17, session_id=by_id, session_epoch=2)
    fetched(b, 12, session_id=by_name, session_epoch=2)
    fetched(a, 17, named(17, topic, part(0)))


@scenario
def epochs_of_sessions_go_round(play):
    """No session gets to the last epoch within a test; nothing may go on from a guess of it."""
    topic, a = play.topic(), play.connect()
    id = opened(a, 12, named(12, topic, part(0)))
    for epoch in (2**31 - 1, -2, -(2**31), 2, 1):
        fetched(a, 12, session_id=id, session_epoch=epoch)


@scenario
def bytes_that_are_no_fetch(play):
    for version in (3, 19, -1):
        play.connect().unread(1, version)
    play.connect().unread(1, 12, b"\0")
    play.connect().unread(1, 11, struct.pack(">iiii", -1, 0, 0, 0))
    play.connect().unread(1, 4, struct.pack(">iiiibi", -1, 0, 0, 1, 0, 1 << 20))
    play.connect().unread(1, 4, struct.pack(">iiiibi", -1, 0, 0, 1, 0, -1))
    play.connect().unread(1, 4, struct.pack(">iiiibi", -1, 0, 0, 1, 0, -2))
