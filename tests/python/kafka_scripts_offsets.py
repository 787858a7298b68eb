"""Scripts for what groups commit, see `kafka_script`."""

import uuid

from kafka_script import script
from kafka_scripts_classic import joined, stable

NOBODY = uuid.UUID(int=7)


def commit(client, version, group, topic, *partitions, member="", generation=-1, id=None, **more):
    """Each partition: its number, offset, note and, where there is one, leader epoch."""
    each = [
        {"partition_index": number, "committed_offset": offset, "committed_metadata": note,
         "committed_leader_epoch": epoch[0] if epoch else -1}
        for number, offset, note, *epoch in partitions
    ]
    topics = [{"partitions": each, **({"topic_id": id} if version >= 10 else {"name": topic})}]
    return client("OffsetCommit", version, group_id=group, generation_id_or_member_epoch=generation, member_id=member,
                  topics=topics, **more)


def fetch(client, version, group, *topics, every=False, **more):
    """Each topic: its name and partitions; in version 10, its id."""
    key = "topic_id" if version >= 10 else "name"
    asked = None if every else [{key: topic, "partition_indexes": list(numbers)} for topic, numbers in topics]
    if version < 8:
        return client("OffsetFetch", version, group_id=group, topics=asked, **more)
    stable = {"require_stable": more.pop("require_stable")} if "require_stable" in more else {}
    return client("OffsetFetch", version, groups=[{"group_id": group, "topics": asked, **more}], **stable)


@script
def offsets_without_members_in_every_version(run):
    a = run.client()
    topic, id = run.topic("t", 2)
    for version in range(2, 11):
        group = run.name(f"g{version}")
        commit(a, version, group, topic, (0, 5, "note"), (1, 0, None), (2, 1, ""), (-1, 1, ""), id=id)
        commit(a, version, group, run.name("none"), (0, 5, ""), id=NOBODY)
        commit(a, version, group, "", (0, 5, ""), id=uuid.UUID(int=0))
        commit(a, version, group, topic, (0, 6, "n" * 4096, 3), (1, -1, "n" * 4097), id=id)
        commit(a, version, group, topic, (0, -2, ""), id=id)
        commit(a, version, group, topic, (1, -1, ""), id=id)
        commit(a, version, group, topic, id=id)
        a("OffsetCommit", version, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[])
        commit(a, version, "", topic, (0, 7, ""), id=id)
        fetch(a, 7, group, (topic, [0, 1, 2]))
        for epoch in (0, 1):
            commit(a, version, group, topic, (0, 5, ""), generation=epoch, id=id)
        commit(a, version, group, topic, (0, 5, ""), member="ghost", id=id)
        commit(a, version, run.name(f"h{version}"), topic, (0, 5, ""), generation=1, member="ghost", id=id)
        commit(a, version, run.name(f"i{version}"), topic, (0, 5, ""), member="ghost", id=id)
        if version >= 7:
            commit(a, version, group, topic, (0, 5, ""), group_instance_id="i", id=id)
        a("DescribeGroups", 6, groups=[group])


@script
def offsets_of_members_in_every_version(run):
    a = run.client()
    topic, id = run.topic("t", 2)
    for version in range(2, 11):
        group = run.name(f"g{version}")
        member, generation = stable(a, group)
        commit(a, version, group, topic, (0, 5, "note"), member=member, generation=generation, id=id)
        for other in (-2, -1, 0, generation - 1, generation + 1):
            commit(a, version, group, topic, (0, 6, "note"), member=member, generation=other, id=id)
        commit(a, version, group, topic, (0, 6, ""), member="ghost", generation=generation, id=id)
        commit(a, version, group, topic, (0, 6, ""), member="", generation=generation, id=id)
        commit(a, version, group, topic, (0, 6, ""), id=id)
        commit(a, version, group, run.name("none"), (0, 6, ""), member="ghost", generation=generation, id=NOBODY)
        if version >= 7:
            commit(a, version, group, topic, (0, 6, ""), member=member, generation=generation, group_instance_id="i", id=id)
        a("LeaveGroup", 5, group_id=group, members=[{"member_id": member}])
        commit(a, version, group, topic, (0, 6, ""), member=member, generation=generation, id=id)
        commit(a, version, group, topic, (0, 9, ""), id=id)


@script
def offsets_while_a_group_is_changing(run):
    a = run.client()
    topic, id = run.topic("t", 2)
    for version in (2, 5, 9):
        group = run.name(f"g{version}")
        it = joined(a, 3, group)
        commit(a, version, group, topic, (0, 6, ""), member=it.member_id, generation=it.generation_id)
        b = run.client("b")
        member, generation = stable(b, run.name(f"h{version}"))
        c = run.client("c")
        c.send("JoinGroup", 3, group_id=run.name(f"h{version}"), session_timeout_ms=30_000, rebalance_timeout_ms=30_000,
               member_id="", protocol_type="consumer", protocols=[{"name": "range", "metadata": b""}])
        while b.wire.call("Heartbeat", 4, group_id=run.name(f"h{version}"), member_id=member,
                          generation_id=generation).error_code != 27:
            pass
        commit(b, version, run.name(f"h{version}"), topic, (0, 6, ""), member=member, generation=generation)


@script
def offsets_are_fetched_in_every_version(run):
    a, group, other = run.client(), run.name("g"), run.name("h")
    topic, id = run.topic("t", 3)
    second, second_id = run.topic("u", 1)
    commit(a, 8, group, topic, (0, 5, "note", 2), (2, 7, None))
    commit(a, 8, group, second, (0, 9, ""))
    for version in range(1, 11):
        name = id if version >= 10 else topic
        none = NOBODY if version >= 10 else run.name("none")
        fetch(a, version, group, (name, [0, 1, 2, 3, -1]), (none, [0, 5]))
        fetch(a, version, group, (name, []))
        fetch(a, version, group)
        if version >= 2:
            fetch(a, version, group, every=True)
            fetch(a, version, other, every=True)
        fetch(a, version, other, (name, [0]), (none, [0]))
        fetch(a, version, "", (name, [0]))
        if version >= 7:
            fetch(a, version, group, (name, [0, 1]), require_stable=True)
        if version >= 9:
            fetch(a, version, group, (name, [0]), member_id="m", member_epoch=1)
            fetch(a, version, group, (name, [0]), member_id=None, member_epoch=1)
            fetch(a, version, group, (name, [0]), member_id="m", member_epoch=-1)
            fetch(a, version, other, (name, [0]), member_id="m", member_epoch=1)
    fetch(a, 10, group, (uuid.UUID(int=0), [0]))
    for version in (8, 9, 10):
        a("OffsetFetch", version, groups=[])
        key, value = ("topic_id", id) if version >= 10 else ("name", topic)
        groups = [
            {"group_id": it, "topics": None if it == group else [{key: value, "partition_indexes": [0]}]}
            for it in (group, other, "", other)
        ]
        a("OffsetFetch", version, groups=groups)
    member, generation = stable(a, run.name("m"))
    fetch(a, 9, run.name("m"), (topic, [0]), member_id=member, member_epoch=generation)
    fetch(a, 9, run.name("m"), (topic, [0]), member_id=member, member_epoch=generation + 1)
    fetch(a, 9, run.name("m"), (topic, [0]), member_id="ghost", member_epoch=generation)
    a("DeleteTopics", 5, topic_names=[second], timeout_ms=10_000)


def delete(client, group, *topics):
    each = [{"name": it, "partitions": [{"partition_index": number} for number in numbers]} for it, numbers in topics]
    return client("OffsetDelete", 0, group_id=group, topics=each)


@script
def offsets_are_deleted(run):
    a, group = run.client(), run.name("g")
    topic, _ = run.topic("t", 2)
    other, _ = run.topic("u", 1)
    delete(a, "", (topic, [0]))
    delete(a, group, (topic, [0]))
    commit(a, 8, group, topic, (0, 5, ""), (1, 6, ""))
    commit(a, 8, group, other, (0, 5, ""))
    delete(a, group)
    delete(a, group, (topic, []))
    delete(a, group, (run.name("none"), [0]))
    delete(a, group, (topic, [0, 5, -1]))
    fetch(a, 7, group, (topic, [0, 1]), (other, [0]))
    delete(a, group, (topic, [1]), (other, [0]))
    a("DescribeGroups", 6, groups=[group])
    # A member that subscribes to one of two topics.
    subscribed = b"\0\1\0\0\0\1" + len(topic).to_bytes(2, "big") + topic.encode() + b"\xff\xff\xff\xff" + b"\0\0\0\0"
    commit(a, 8, run.name("h"), other, (0, 5, ""))
    member, generation = stable(a, run.name("h"), protocols=[{"name": "range", "metadata": subscribed}])
    commit(a, 8, run.name("h"), topic, (0, 5, ""), member=member, generation=generation)
    delete(a, run.name("h"), (topic, [0]), (other, [0]))
    a("DeleteGroups", 2, groups_names=[run.name("h")])
    fetch(a, 7, run.name("h"), (topic, [0]), (other, [0]))
    member, generation = stable(a, run.name("c"), kind="connect")
    delete(a, run.name("c"), (topic, [0]))
    member, generation = stable(a, run.name("bad"), protocols=[{"name": "range", "metadata": b"??"}])
    delete(a, run.name("bad"), (topic, [0]))
