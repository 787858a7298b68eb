"""Share groups: members, sessions, what is acquired and acknowledged."""

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
        self.session = epoch

        def acquired():
            asked = [part(topic)] if self.session == epoch else []
            found = self.fetch(self.session, *asked, version=version, quiet=True, **fields)
            assert not found.get("error_code"), found
            self.session += 1
            there = (it.get("acquired_records") for topic in found.get("responses", []) for it in topic["partitions"])
            return found if any(there) else None

        return self.play.wait(acquired, "there is nothing to acquire")

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
    it.beat(-2, [topic.name])
    it.beat(-3, [topic.name])
    it.beat(0, [topic.name], member_id="x" * 37)
    it.beat(0, [topic.name], group_id=" ")


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
    it.fetch(3, forgotten_topics_data=[{"topic_id": topic.id, "partitions": [7, -1]}, {"topic_id": NOBODY, "partitions": [0]}])
    it.fetch(4, forgotten_topics_data=[{"topic_id": topic.id, "partitions": [0]}])
    it.fetch(5)
    it.fetch(-1, part(topic))
    it.fetch(6)
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
    other.at.until(lambda it: it.get("responses"), "ShareFetch", 1, group_id=group, member_id=other.id, share_session_epoch=1,
                   max_wait_ms=60_000, min_bytes=0, max_records=500, batch_size=500, topics=[])


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
