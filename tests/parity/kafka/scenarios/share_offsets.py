"""Share groups as administrators see and move them, among groups of other kinds; and how often records come."""

from play import scenario

from scenarios.sharing import ACCEPT, REJECT, RELEASE, RENEW, Member, a_group, part, records


class Admin:
    """Asks about the offsets of one group, on a connection of its own."""

    def __init__(self, play, group):
        self.group, self.at = group, play.connect()

    def describe(self, topics=None, version=1, group=None):
        """`topics` is pairs of a name and partitions; without it, all that the group has."""
        asked = topics and [{"topic_name": name, "partitions": partitions} for name, partitions in topics]
        wanted = [{"group_id": self.group if group is None else group, "topics": asked}]
        return self.at("DescribeShareGroupOffsets", version, groups=wanted)

    def describe_at(self, start):
        """The same, once the group stands there: acknowledgements are written behind their answers."""
        return self.at.until(
            lambda found: [part.get("start_offset") for group in found["groups"] for topic in group.get("topics", [])
                           for part in topic["partitions"]] == [start],
            "DescribeShareGroupOffsets", 1, groups=[{"group_id": self.group, "topics": None}])

    def alter(self, *topics, group=None):
        """Each topic is a name and pairs of a partition and an offset."""
        return self.at("AlterShareGroupOffsets", 0, group_id=self.group if group is None else group, topics=[
            {"topic_name": name, "partitions": [{"partition_index": at, "start_offset": to} for at, to in offsets]}
            for name, *offsets in topics])

    def delete(self, *names, group=None):
        return self.at("DeleteShareGroupOffsets", 0, group_id=self.group if group is None else group, topics=[
            {"topic_name": name} for name in names])

    def show(self, *groups):
        return self.at("ShareGroupDescribe", 1, group_ids=list(groups or [self.group]))


def a_group_that_was(play, topic, suffix="group"):
    """A group without members that has begun with a topic of one partition and four records."""
    group = a_group(play, suffix)
    records(play, topic, 4)
    it = Member(play, group).join(topic)
    it.take(topic)
    it.at.quiet("ShareAcknowledge", 1, group_id=group, member_id=it.id, share_session_epoch=it.session,
                topics=[part(topic, (0, 1, [ACCEPT]))])
    it.fetch(-1, quiet=True)
    it.beat(-1, quiet=True)
    return group


def commit(play, group, topic):
    """Makes a group of the classic protocol that has nothing but offsets."""
    offset = {"partition_index": 0, "committed_offset": 0, "committed_metadata": ""}
    return play.stage.quiet("OffsetCommit", 8, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[
        {"name": topic.name, "partitions": [offset]}])


@scenario
def descriptions(play):
    topic, group = play.topic(partitions=2), a_group(play)
    a = Admin(play, group)
    a.show(group, "", play.q("none"))
    a.at("ShareGroupDescribe", 1, group_ids=[])
    it = Member(play, group).join(topic)
    a.show(group)
    a.at("ShareGroupDescribe", 1, group_ids=[group, group], include_authorized_operations=True)
    it.beat(-1, quiet=True)
    a.show(group)


@scenario
def of_a_group_that_is_not_there(play):
    topic, group = play.topic(), a_group(play)
    a = Admin(play, group)
    a.describe()
    a.describe([(topic.name, [0])])
    a.describe(version=0)
    a.describe([])
    a.describe(group="")
    a.at("DescribeShareGroupOffsets", 1, groups=[])
    a.delete(topic.name)
    a.delete(topic.name, play.q("none"))
    a.delete()
    a.delete(topic.name, group="")
    a.alter((topic.name, (0, 1)), group="")
    a.alter()
    a.show()
    a.alter((play.q("none"), (0, 1)), group=play.q("of-nothing"))
    a.show(play.q("of-nothing"))
    a.alter((topic.name, (0, 1)))
    a.show()
    a.describe()
    a.delete(topic.name)
    a.describe()
    a.show()


@scenario
def of_a_group_with_members(play):
    topic, group = play.topic(), a_group(play)
    records(play, topic, 4)
    a, it = Admin(play, group), Member(play, group).join(topic)
    a.describe()
    it.take(topic)
    it.acknowledge(it.session, part(topic, (0, 0, [ACCEPT])))
    a.describe_at(1)
    a.describe(version=0)
    a.describe([(topic.name, [0])])
    a.alter((topic.name, (0, 1)))
    a.alter((play.q("none"), (0, 1)))
    a.alter()
    a.delete(topic.name)
    a.delete(play.q("none"))
    a.delete()
    a.at("DeleteGroups", 2, groups_names=[group])


@scenario
def altered(play):
    topic, other = play.topic(), play.topic("other")
    group = a_group_that_was(play, topic)
    a = Admin(play, group)
    a.alter((topic.name, (0, 1)))
    a.describe()
    a.alter((topic.name, (0, 99)))
    a.describe()
    a.alter((topic.name, (0, -1)))
    a.describe()
    a.alter((topic.name, (0, 3)))
    a.describe()
    a.alter((topic.name, (7, 0)))
    a.alter((topic.name, (0, 2), (7, 0)))
    a.describe()
    a.alter((topic.name, (0, 1), (0, 2)))
    a.alter((topic.name, (0, 1)), (topic.name, (0, 2)))
    a.alter((play.q("none"), (0, 1)))
    a.alter((play.q("none"), (0, 1)), (topic.name, (0, 2)))
    a.alter(("", (0, 1)))
    a.alter((topic.name,))
    a.alter()
    a.alter((other.name, (0, 0)))
    a.describe()
    a.show()


@scenario
def altered_to_offsets_that_make_no_sense(play):
    topic = play.topic()
    group = a_group_that_was(play, topic)
    a = Admin(play, group)
    a.alter((topic.name, (0, -2)))
    a.alter((topic.name, (0, -(2**63))))


@scenario
def read_where_altered(play):
    topic = play.topic()
    group = a_group_that_was(play, topic)
    a = Admin(play, group)
    for number, start in enumerate((1, 3)):
        a.alter((topic.name, (0, start)))
        it = Member(play, group, number + 2).join(topic)
        play.note(play.shown(it.take(topic)))
        it.fetch(-1, quiet=True)
        it.beat(-1, quiet=True)


@scenario
def deleted(play):
    topic, other = play.topic(), play.topic("other")
    group = a_group_that_was(play, topic)
    a = Admin(play, group)
    a.delete(play.q("none"))
    a.delete("")
    a.delete()
    a.delete(other.name)
    a.describe()
    a.delete(topic.name, play.q("none"), topic.name)
    a.describe()
    a.delete(topic.name)
    a.show()
    it = Member(play, group, 2).join(topic)
    play.note(play.shown(it.take(topic)))
    it.fetch(-1, quiet=True)
    it.beat(-1, quiet=True)
    a.at("DeleteGroups", 2, groups_names=[group])
    a.show()
    a.describe()


@scenario
def of_groups_of_other_kinds(play):
    topic, group = play.topic(), play.q("simple")
    play.coordinator(group, 0)
    commit(play, group, topic)
    a, it = Admin(play, group), Member(play, group)
    it.beat(0, [topic.name])
    it.beat(1)
    it.beat(-1)
    a.show()
    a.describe()
    a.describe([(topic.name, [0])])
    a.alter((topic.name, (0, 0)))
    a.alter()
    a.delete(topic.name)
    it.fetch(0, part(topic))
    it.acknowledge(1, part(topic, (0, 0, [ACCEPT])))


@scenario
def of_other_requests_for_share_groups(play):
    topic, live = play.topic(), a_group(play, "live")
    was = a_group_that_was(play, topic, "was")
    Member(play, live, 2).join(topic)
    offset = {"partition_index": 0, "committed_offset": 0, "committed_metadata": ""}
    for group in (live, was):
        a = play.connect()
        for version in (2, 8, 9):
            a("OffsetCommit", version, group_id=group, generation_id_or_member_epoch=-1, member_id="", topics=[
                {"name": topic.name, "partitions": [offset]}])
        a("OffsetFetch", 8, groups=[{"group_id": group, "topics": [{"name": topic.name, "partition_indexes": [0]}]}])
        a("OffsetDelete", 0, group_id=group, topics=[{"name": topic.name, "partitions": [{"partition_index": 0}]}])
        a("DescribeGroups", 6, groups=[group])
        a("Heartbeat", 4, group_id=group, generation_id=1, member_id="m")
        a("LeaveGroup", 5, group_id=group, members=[{"member_id": "m"}])
        a("JoinGroup", 9, group_id=group, session_timeout_ms=30_000, rebalance_timeout_ms=60_000, member_id="",
          protocol_type="consumer", protocols=[{"name": "range", "metadata": b""}])
        a("DeleteGroups", 2, groups_names=[group])


@scenario
def acknowledged_in_fetches(play):
    topic, group = play.topic(), a_group(play)
    records(play, topic, 6)
    it = Member(play, group).join(topic)
    it.take(topic)
    at = iter(range(it.session, 1000))
    told = lambda *batches, **fields: it.fetch(next(at), part(topic, *batches), **fields)  # noqa: E731
    told((0, 0, [ACCEPT]))
    told((0, 0, [ACCEPT]))
    told((1, 1, [7]))
    told((1, 1, [REJECT]), (2, 2, [ACCEPT]))
    told((4, 4, [ACCEPT]), (4, 4, [ACCEPT]))
    told((50, 50, [ACCEPT]))
    told((3, 3, [RENEW]), version=2)
    told((3, 3, [RENEW]), version=2, is_renew_ack=True)
    told((3, 3, [RENEW]), version=2, is_renew_ack=True, max_wait_ms=0, max_records=0, max_bytes=0)
    it.fetch(next(at), part(topic, (4, 4, [ACCEPT]), partition=7))
    it.fetch(-1, part(topic, (3, 3, [ACCEPT])))


@scenario
def delivered_too_often(play):
    topic, group = play.topic(), a_group(play)
    records(play, topic, 1)
    it = Member(play, group).join(topic)
    it.take(topic)
    for count in range(2, 6):
        it.acknowledge(it.session, part(topic, (0, 0, [RELEASE])))
        play.note(f"{count}: {play.shown(again(play, it))}")
    it.acknowledge(it.session, part(topic, (0, 0, [RELEASE])))
    it.fetch(it.session + 1)


def again(play, member):
    """Fetches in a session until there is something."""
    found = {}

    def fetched():
        nonlocal found
        found = member.fetch(member.session, quiet=True)
        member.session += 1
        return any(it.get("acquired_records") for topic in found.get("responses", []) for it in topic["partitions"])

    member.session += 1
    play.wait(fetched)
    return found


@scenario
def delivered_often_together(play):
    topic, group = play.topic(), a_group(play)
    records(play, topic, 2)
    it = Member(play, group).join(topic)
    it.take(topic)
    for _ in range(3):
        it.acknowledge(it.session, part(topic, (0, 1, [RELEASE])))
        play.note(play.shown(again(play, it)))
