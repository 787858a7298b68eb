"""Share groups: members, sessions, what is acquired and acknowledged, and where groups stand."""

import uuid

from play import scenario

NOBODY = uuid.UUID(int=7)
GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)


class Member:
    """A member of a share group on a connection of its own."""

    def __init__(self, play, group, number=1):
        self.play, self.group, self.at = play, group, play.connect()
        self.id = str(uuid.UUID(int=number))
        play.knows_member(self.id, f"member({number})")

    def beat(self, epoch, topics=None, quiet=False, **fields):
        ask = self.at.quiet if quiet else self.at
        return ask("ShareGroupHeartbeat", 1, **{
            "group_id": self.group, "member_id": self.id, "member_epoch": epoch, "subscribed_topic_names": topics, **fields})

    def join(self, *topics):
        """Comes in, quietly, and waits for its partitions."""
        found = self.beat(0, [it.name for it in topics], quiet=True)
        assert not found.get("error_code"), found
        if not self._has(found, topics):
            self.play.wait(lambda: self._has(self.beat(self.epoch, quiet=True), topics))
        return self

    def _has(self, found, topics):
        self.epoch = found["member_epoch"]
        assigned = found.get("assignment") or {}
        return len(assigned.get("topic_partitions", [])) == len(topics)

    def fetch(self, epoch, *topics, version=1, quiet=False, **fields):
        ask = self.at.quiet if quiet else self.at
        return ask("ShareFetch", version, **{
            "group_id": self.group, "member_id": self.id, "share_session_epoch": epoch, "max_wait_ms": 100, "min_bytes": 0,
            "max_records": 500, "batch_size": 500, "topics": list(topics), **fields})

    def take(self, topic, epoch=0, version=1, **fields):
        """Opens a session, and asks until there is something to acquire."""
        found = self.fetch(epoch, part(topic), version=version, quiet=True, **fields)
        while not any(it.get("acquired_records") for topic in found.get("responses", []) for it in topic["partitions"]):
            assert not found.get("error_code"), found
            epoch += 1
            found = self.fetch(epoch, version=version, quiet=True, **fields)
        self.session = epoch + 1
        return found

    def acknowledge(self, epoch, *topics, version=1, **fields):
        return self.at("ShareAcknowledge", version, **{
            "group_id": self.group, "member_id": self.id, "share_session_epoch": epoch, "topics": list(topics), **fields})


def part(topic, *batches, partition=0):
    """A partition of a topic, with what became of records: first, last, types."""
    told = [{"first_offset": first, "last_offset": last, "acknowledge_types": types} for first, last, types in batches]
    return {"topic_id": getattr(topic, "id", topic), "partitions": [
        {"partition_index": partition, "acknowledgement_batches": told}]}


def from_the_start(play, group):
    play.stage.quiet("IncrementalAlterConfigs", 1, validate_only=False, resources=[{
        "resource_type": 32, "resource_name": group, "configs": [
            {"name": "share.auto.offset.reset", "config_operation": 0, "value": "earliest"}]}])


def a_group(play, suffix="group"):
    group = play.q(suffix)
    play.coordinator(group, 0)
    from_the_start(play, group)
    return group


@scenario
def members(play):
    topic, group = play.topic(), a_group(play)
    it = Member(play, group)
    it.beat(0, [])
    it.beat(0, None)
    it.beat(0, [topic.name], member_id="")
    it.beat(0, [topic.name], group_id="")
    it.beat(0, [topic.name], rack_id="")
    it.beat(0, [topic.name], rack_id="r")
    it.beat(-2, [topic.name])
    it.beat(-3, [topic.name])
    it.beat(5)
    it.beat(-1)
    it.beat(1)
    other = Member(play, group, 2)
    other.beat(-1)
    other.beat(1)
    other.beat(0, ["a b"])
    other.beat(0, [play.q("none")])
    other.beat(0, [""])
    other.beat(0, [topic.name], member_id="not-a-uuid")
    other.beat(0, [topic.name], member_id="x" * 40)


@scenario
def members_of_groups_of_another_kind(play):
    topic, group = play.topic(), a_group(play)
    offset = {"partition_index": 0, "committed_offset": 0, "committed_metadata": ""}
    play.stage.quiet("OffsetCommit", 8, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[
        {"name": topic.name, "partitions": [offset]}])
    Member(play, group).beat(0, [topic.name])
    Member(play, group, 2).beat(1)


@scenario
def descriptions(play):
    topic, group = play.topic(partitions=2), a_group(play)
    a = play.connect()
    a("ShareGroupDescribe", 1, group_ids=[group, "", play.q("none")])
    a("ShareGroupDescribe", 1, group_ids=[])
    it = Member(play, group).join(topic)
    a("ShareGroupDescribe", 1, group_ids=[group, group])
    it.beat(-1, quiet=True)
    a("ShareGroupDescribe", 1, group_ids=[group])


@scenario
def sessions(play):
    topic, group = play.topic(partitions=2), a_group(play)
    it, other = Member(play, group).join(topic), Member(play, group, 2)
    it.fetch(0, group_id=None)
    it.fetch(0, group_id="")
    it.fetch(0, part(topic), member_id=None)
    it.fetch(0, part(topic), member_id="")
    it.fetch(0, part(topic), member_id="not-a-uuid")
    it.fetch(1)
    it.fetch(5)
    it.fetch(-1)
    it.fetch(-2)
    it.fetch(0)
    it.fetch(0, part(topic))
    it.fetch(2)
    it.fetch(-5)
    it.fetch(1)
    it.fetch(1)
    it.fetch(2, part(topic, partition=7))
    it.fetch(3, part(topic, partition=-1))
    it.fetch(4, part(NOBODY))
    it.fetch(5, part(uuid.UUID(int=0)))
    it.fetch(6, forgotten_topics_data=[{"topic_id": topic.id, "partitions": [7, -1]}, {"topic_id": NOBODY, "partitions": [0]},
                                       {"topic_id": uuid.UUID(int=0), "partitions": [0]}])
    it.fetch(7)
    it.fetch(8, forgotten_topics_data=[{"topic_id": topic.id, "partitions": [0]}])
    it.fetch(9)
    it.fetch(-1, part(topic))
    it.fetch(10)
    it.acknowledge(1)
    it.acknowledge(0)
    it.fetch(0, part(topic))
    it.acknowledge(0)
    it.acknowledge(5)
    it.acknowledge(1)
    it.fetch(2)
    it.acknowledge(-1)
    it.acknowledge(3)
    other.fetch(0, part(topic))
    other.fetch(-1)
    other.acknowledge(1)
    other.acknowledge(-1)


@scenario
def sessions_of_other_connections(play):
    topic, group = play.topic(), a_group(play)
    it = Member(play, group).join(topic)
    it.fetch(0, part(topic))
    same = Member(play, group)
    same.fetch(1)
    it.fetch(1)


@scenario
def sessions_that_begin_with_acknowledgements(play):
    topic, group = play.topic(), a_group(play)
    it = Member(play, group).join(topic)
    it.fetch(0, part(topic, (0, 0, [ACCEPT])))
    it.acknowledge(0, part(topic, (0, 0, [ACCEPT])))


@scenario
def limits(play):
    topic, group = play.topic(), a_group(play)
    it = Member(play, group).join(topic)
    for fields in ({"max_records": 0}, {"max_records": -1}, {"batch_size": 0}, {"max_bytes": -1}, {"min_bytes": -1}, {"max_wait_ms": -1}):
        it.fetch(0, part(topic), **fields)
    for fields in ({"share_acquire_mode": 2}, {"share_acquire_mode": -1}, {"is_renew_ack": True}):
        it.fetch(0, part(topic), version=2, **fields)


def records(play, topic, *counts):
    for count in counts:
        play.produce(topic, *[b"v"] * count)


@scenario
def acquired(play):
    topic, group = play.topic(), a_group(play)
    records(play, topic, 3, 2, 1)
    it = Member(play, group).join(topic)
    play.note(play.shown(it.take(topic)))
    it.fetch(it.session)
    other = Member(play, group, 2).join(topic)
    other.fetch(0, part(topic))
    it.acknowledge(it.session + 1, part(topic, (1, 1, [RELEASE])))
    other.fetch(1)


@scenario
def acquired_by_number(play):
    for version, most, size, mode in ((1, 2, 500, 0), (1, 4, 2, 0), (2, 2, 500, 1), (2, 4, 2, 1), (2, 1, 1, 1)):
        topic, group = play.topic(f"{most}-{size}-{mode}"), a_group(play, f"g{most}-{size}-{mode}")
        records(play, topic, 3, 3, 3)
        it = Member(play, group).join(topic)
        more = {"share_acquire_mode": mode} if version > 1 else {}
        play.note(play.shown(it.take(topic, version=version, max_records=most, batch_size=size, **more)))
        it.fetch(it.session, version=version, max_records=most, batch_size=size, **more)


@scenario
def acknowledged(play):
    topic, group = play.topic(), a_group(play)
    records(play, topic, 10)
    it = Member(play, group).join(topic)
    it.take(topic)
    session = iter(range(it.session, 1000))
    told = lambda *batches, **fields: it.acknowledge(next(session), part(topic, *batches), **fields)  # noqa: E731
    told((0, 0, [ACCEPT]))
    told((0, 0, [ACCEPT]))
    told((1, 2, [ACCEPT, REJECT]))
    told((3, 4, [ACCEPT, ACCEPT, ACCEPT]))
    told((3, 5, [ACCEPT, ACCEPT]))
    told((3, 4, []))
    told((4, 3, [ACCEPT]))
    told((3, 3, [5]))
    told((3, 3, [-1]))
    told((3, 3, [RENEW]))
    told((3, 3, [RENEW]), version=2)
    told((3, 3, [RENEW]), version=2, is_renew_ack=True)
    told((3, 3, [ACCEPT]), version=2, is_renew_ack=True)
    told((3, 4, [ACCEPT]), (4, 5, [ACCEPT]))
    told((5, 6, [ACCEPT]), (3, 4, [ACCEPT]))
    told((3, 3, [GAP]))
    told((50, 60, [ACCEPT]))
    told((8, 12, [ACCEPT]))
    told((-1, 3, [ACCEPT]))
    told((4, 4, [RELEASE]))
    told((4, 4, [ACCEPT]))
    it.acknowledge(next(session), part(topic, (5, 5, [ACCEPT]), partition=7))
    it.acknowledge(next(session), part(NOBODY, (5, 5, [ACCEPT])))
    it.acknowledge(next(session), part(topic))
    it.acknowledge(next(session), part(topic, (5, 5, [ACCEPT])), part(topic, (6, 6, [ACCEPT])))
    other = Member(play, group, 2).join(topic)
    other.fetch(0, part(topic), max_records=1)
    other.acknowledge(1, part(topic, (7, 7, [ACCEPT])))


@scenario
def acknowledged_in_fetches(play):
    topic, group = play.topic(), a_group(play)
    records(play, topic, 6)
    it = Member(play, group).join(topic)
    it.take(topic)
    at = it.session
    it.fetch(at, part(topic, (0, 0, [ACCEPT])))
    it.fetch(at + 1, part(topic, (0, 0, [ACCEPT])))
    it.fetch(at + 2, part(topic, (1, 1, [7])))
    it.fetch(at + 3, part(topic, (1, 1, [RELEASE])))
    it.fetch(at + 4, part(topic, (1, 1, [REJECT]), (2, 2, [ACCEPT])))
    it.fetch(at + 5, part(topic, (3, 3, [RENEW])), version=2)
    it.fetch(at + 6, part(topic, (3, 3, [RENEW])), version=2, is_renew_ack=True)
    it.fetch(at + 7, part(topic, (3, 3, [RENEW])), version=2, is_renew_ack=True, max_wait_ms=0, max_records=0, max_bytes=0)
    it.fetch(-1, part(topic, (3, 3, [ACCEPT])))


@scenario
def delivered_too_often(play):
    topic, group = play.topic(), a_group(play)
    records(play, topic, 2)
    it = Member(play, group).join(topic)
    it.take(topic)
    for number in range(5):
        it.acknowledge(it.session, part(topic, (0, 1, [RELEASE])))
        it.fetch(it.session + 1)
        it.session += 2


@scenario
def offsets(play):
    topic, other, group = play.topic(partitions=2), play.topic("other"), a_group(play)
    records(play, topic, 4)
    a = play.connect()
    wanted = [{"topic_name": topic.name, "partitions": [0, 1, 7, -1]}, {"topic_name": play.q("none"), "partitions": [0]}]
    settled = lambda it: all(not part.get("error_code") for group in it["groups"] for topic in group.get("topics", [])  # noqa: E731
                             for part in topic["partitions"])
    for version in (0, 1):
        a("DescribeShareGroupOffsets", version, groups=[{"group_id": group, "topics": wanted}])
        a("DescribeShareGroupOffsets", version, groups=[{"group_id": group, "topics": None}])
        a("DescribeShareGroupOffsets", version, groups=[{"group_id": group, "topics": []}])
        a("DescribeShareGroupOffsets", version, groups=[{"group_id": "", "topics": None}])
        a("DescribeShareGroupOffsets", version, groups=[])
    altered = lambda name, *offsets, id=group: a("AlterShareGroupOffsets", 0, group_id=id, topics=[  # noqa: E731
        {"topic_name": name, "partitions": [{"partition_index": at, "start_offset": to} for at, to in offsets]}])
    altered(topic.name, (0, 1))
    deleted = lambda *names, id=group: a("DeleteShareGroupOffsets", 0, group_id=id, topics=[  # noqa: E731
        {"topic_name": name} for name in names])
    deleted(topic.name)
    it = Member(play, group).join(topic)
    play.note(play.shown(it.take(topic)))
    it.acknowledge(it.session, part(topic, (0, 1, [ACCEPT])))
    for version in (0, 1):
        a.until(settled, "DescribeShareGroupOffsets", version, groups=[
            {"group_id": group, "topics": [{"topic_name": topic.name, "partitions": [0, 1]}]}])
    a("DescribeShareGroupOffsets", 1, groups=[{"group_id": group, "topics": wanted}])
    altered(topic.name, (0, 1))
    deleted(topic.name)
    it.fetch(-1)
    it.beat(-1, quiet=True)
    altered(topic.name, (0, 1), (1, 0))
    altered(topic.name, (0, 99), (7, 0), (-1, 0))
    altered(topic.name, (0, -1))
    altered(topic.name, (0, -2))
    altered(play.q("none"), (0, 1))
    altered(other.name, (0, 0))
    altered("", (0, 1))
    altered(topic.name)
    altered(topic.name, (0, 1), id="")
    altered(topic.name, (0, 2), id=play.q("unknown"))
    a("AlterShareGroupOffsets", 0, group_id=group, topics=[])
    altered(topic.name, (0, 3))
    a("DescribeShareGroupOffsets", 1, groups=[{"group_id": group, "topics": None}])
    deleted(play.q("none"))
    deleted("")
    deleted()
    deleted(topic.name, id="")
    deleted(topic.name, id=play.q("nobody"))
    deleted(topic.name, play.q("none"))
    a("DescribeShareGroupOffsets", 1, groups=[{"group_id": group, "topics": None}])
    deleted(topic.name)


@scenario
def offsets_of_groups_of_another_kind(play):
    topic, group, a = play.topic(), a_group(play), play.connect()
    offset = {"partition_index": 0, "committed_offset": 0, "committed_metadata": ""}
    play.stage.quiet("OffsetCommit", 8, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[
        {"name": topic.name, "partitions": [offset]}])
    a("DescribeShareGroupOffsets", 1, groups=[{"group_id": group, "topics": None}])
    a("DescribeShareGroupOffsets", 1, groups=[{"group_id": group, "topics": [{"topic_name": topic.name, "partitions": [0]}]}])
    a("AlterShareGroupOffsets", 0, group_id=group, topics=[
        {"topic_name": topic.name, "partitions": [{"partition_index": 0, "start_offset": 0}]}])
    a("DeleteShareGroupOffsets", 0, group_id=group, topics=[{"topic_name": topic.name}])
    a("ShareGroupDescribe", 1, group_ids=[group])


@scenario
def requests_of_groups_for_share_groups(play):
    topic, group, a = play.topic(), a_group(play), play.connect()
    Member(play, group).join(topic)
    offset = {"partition_index": 0, "committed_offset": 0, "committed_metadata": ""}
    for version in (2, 8, 9):
        a("OffsetCommit", version, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[
            {"name": topic.name, "partitions": [offset]}])
    a("OffsetFetch", 8, groups=[{"group_id": group, "topics": [{"name": topic.name, "partition_indexes": [0]}]}])
    a("DeleteGroups", 2, groups_names=[group])
