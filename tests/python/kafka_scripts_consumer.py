"""Scripts for the consumer and the share protocol (KIP-848, KIP-932), see `kafka_script`."""

import uuid

from kafka_script import script
from kafka_scripts_classic import joined, stable, sync


def beat(client, group, member, epoch, version=1, names=None, timeout=None, owned=None, **more):
    """A heartbeat of the consumer protocol; who joins says what it must."""
    if epoch == 0 and timeout is None:
        timeout = 30_000
    if epoch == 0 and owned is None:
        owned = []
    if owned is not None:
        owned = [{"topic_id": id, "partitions": partitions} for id, partitions in owned]
    return client("ConsumerGroupHeartbeat", version, group_id=group, member_id=member, member_epoch=epoch,
                  subscribed_topic_names=names, rebalance_timeout_ms=-1 if timeout is None else timeout,
                  topic_partitions=owned, **more)


def share(client, group, member, epoch, names=None, **more):
    return client("ShareGroupHeartbeat", 1, group_id=group, member_id=member, member_epoch=epoch,
                  subscribed_topic_names=names, **more)


def describe(client, *groups):
    return client("ConsumerGroupDescribe", 1, group_ids=list(groups))


@script
def consumers_join_and_leave(run):
    a, group = run.client(), run.name("g")
    topic, id = run.consumed("t", 3)
    for version in (0, 1):
        epoch = 2 + 2 * version
        beat(a, group, "m", 0, version, names=[topic])
        describe(a, group)
        beat(a, group, "m", epoch, version)
        beat(a, group, "m", epoch, version, owned=[(id, [0, 1, 2])])
        beat(a, group, "m", epoch, version, names=[topic], timeout=30_000, owned=[(id, [0, 1, 2])])
        beat(a, group, "m", epoch, version, names=[topic], timeout=30_000, owned=[(id, [])])
        beat(a, group, "m", -1, version)
        describe(a, group)
        beat(a, group, "m", -1, version)
        beat(a, group, "m", epoch, version)
    beat(a, group, "", 0, 0, names=[topic])
    describe(a, run.name("h"))


@script
def consumers_that_are_refused(run):
    a, group = run.client(), run.name("g")
    topic, id = run.consumed("t", 3)
    for version in (0, 1):
        beat(a, "", "m", 0, version, names=[topic])
        beat(a, "  ", "m", 0, version, names=[topic])
        beat(a, group, "", 1, version, names=[topic])
        beat(a, group, "", -1, version)
        if version:
            beat(a, group, "", 0, version, names=[topic])
        beat(a, group, " ", 0, version, names=[topic])
        beat(a, group, "m", -3, version, names=[topic])
        beat(a, group, "m", -2, version, names=[topic])
        beat(a, group, "m", -2, version, instance_id="")
        beat(a, group, "m", 0, version, names=[topic], instance_id="")
        beat(a, group, "m", 0, version, names=[topic], rack_id="")
        beat(a, group, "m", 0, version, names=[topic], timeout=-1)
        beat(a, group, "m", 0, version, names=[topic], timeout=0)
        beat(a, group, "m", 0, version, names=[topic], timeout=-5)
        beat(a, group, "m", 0, version)
        beat(a, group, "m", 0, version, names=[topic], owned=[(id, [0])])
        beat(a, group, "m", 0, version, names=[topic], server_assignor="nonsense")
        beat(a, group, "m", 0, version, names=[topic], server_assignor="")
        a("ConsumerGroupHeartbeat", version, group_id=group, member_id="m", member_epoch=0, rebalance_timeout_ms=1000,
          subscribed_topic_names=[topic])
        beat(a, group, "m", 1, version, server_assignor="nonsense")
    beat(a, group, "m", 0, subscribed_topic_regex="(")
    beat(a, group, "m", 0, subscribed_topic_regex="(?=x)")
    beat(a, group, "m", 0, subscribed_topic_regex="")
    beat(a, group, "m", 0, subscribed_topic_regex="", names=[])
    beat(a, group, "k", 0, subscribed_topic_regex="[a")
    beat(a, group, "m", 0, names=["a b", "", topic])
    beat(a, group, "m", 0, names=[])
    describe(a, group)


@script
def consumers_and_their_epochs(run):
    a, group = run.client(), run.name("g")
    topic, id = run.consumed("t", 4)
    beat(a, group, "m", 0, names=[topic])
    for epoch in (2, 5, 1, -2):
        beat(a, group, "m", epoch)
    beat(a, group, "m", 2, owned=[(uuid.UUID(int=9), [0])])
    beat(a, group, "m", 2, owned=[(id, [9])])
    beat(a, group, "m", 2, owned=[(id, [-1])])
    beat(a, group, "ghost", 2)
    beat(a, group, "ghost", -1)
    beat(a, group, "m", 2, instance_id="i")
    beat(a, group, "m", -1, instance_id="i")
    beat(a, group, "ghost", -2, instance_id="i")
    # A second member: the first is to let go of half before it gets it.
    beat(a, group, "n", 0, names=[topic])
    describe(a, group)
    beat(a, group, "n", 3)
    beat(a, group, "m", 2)
    beat(a, group, "m", 2)
    beat(a, group, "m", 2, owned=[(id, [0, 1, 2, 3])])
    describe(a, group)
    beat(a, group, "m", 2, owned=[(id, [0, 1])])
    beat(a, group, "m", 2, owned=[(id, [0, 1])])
    beat(a, group, "m", 2, owned=[(id, [0, 1, 2])])
    beat(a, group, "m", 2)
    beat(a, group, "m", 3)
    beat(a, group, "n", 3)
    describe(a, group)
    beat(a, group, "m", 0, names=[topic])
    beat(a, group, "m", 0, names=[topic])
    describe(a, group)
    beat(a, group, "m", -1)
    describe(a, group)
    beat(a, group, "n", 3)
    describe(a, group)
    beat(a, group, "n", 4, server_assignor="range")
    describe(a, group)
    beat(a, group, "n", 4, server_assignor="uniform")
    describe(a, group)


@script
def consumers_change_what_they_want(run):
    a, group = run.client(), run.name("g")
    one, one_id = run.consumed("t1", 2)
    two, two_id = run.consumed("t2", 2)
    beat(a, group, "m", 0, names=[one, run.name("none")], rack_id="r")
    describe(a, group)
    beat(a, group, "m", 2, names=[one, one])
    describe(a, group)
    beat(a, group, "m", 3, names=[one, two], owned=[(one_id, [0, 1])])
    describe(a, group)
    beat(a, group, "m", 4, names=[two])
    describe(a, group)
    beat(a, group, "m", 4, owned=[(two_id, [0, 1])])
    describe(a, group)
    beat(a, group, "m", 5, rack_id="s")
    describe(a, group)
    beat(a, group, "m", 5, names=[])
    beat(a, group, "m", 5, owned=[])
    beat(a, group, "m", 6, owned=[])
    describe(a, group)


@script
def consumers_with_static_names(run):
    a, b, group = run.client(), run.client("b"), run.name("g")
    topic, id = run.consumed("t", 2)
    beat(a, group, "m", 0, names=[topic], instance_id="i")
    beat(b, group, "n", 0, names=[topic], instance_id="i")
    beat(b, group, "n", 1, instance_id="i")
    beat(b, group, "n", 1, instance_id="j")
    beat(a, group, "m", 2)
    beat(a, group, "m", 2, instance_id="j")
    beat(a, group, "m", 2, instance_id="i")
    beat(a, group, "m", 1, instance_id="i")
    beat(b, group, "n", -2, instance_id="i")
    beat(b, group, "n", -1, instance_id="i")
    beat(a, group, "m", -2)
    beat(a, group, "m", -2, instance_id="i")
    describe(a, group)
    beat(a, group, "m", 1, instance_id="i")
    beat(a, group, "m", -2, instance_id="i")
    beat(b, group, "n", 0, names=[topic], instance_id="i")
    describe(b, group)
    beat(a, group, "m", 1, instance_id="i")
    beat(a, group, "m", 1)
    beat(b, group, "n", -2, instance_id="i")
    beat(b, group, "o", 0, names=[topic], instance_id="i", server_assignor="range")
    describe(b, group)
    beat(b, group, "o", -2, instance_id="i")
    beat(b, group, "o", 0, names=[topic], instance_id="i")
    beat(b, group, "p", 0, names=[topic], instance_id="k")
    beat(b, group, "o", -1, instance_id="i")
    describe(b, group)


@script
def consumers_with_patterns(run):
    a, group = run.client(), run.name("g")
    one, _ = run.consumed("p1", 1)
    two, _ = run.consumed("p2", 1)
    other, _ = run.consumed("q1", 1)
    beat(a, group, "m", 0, names=[other])
    for pattern in ("(", "[", "a(?=b)", "*", "a{2,1}", "\\", "(?<n>x)\\1"):
        beat(a, group, "m", 2, subscribed_topic_regex=pattern)
    beat(a, group, "m", 2)
    describe(a, group)


@script
def consumers_among_classic_members(run):
    a, b, group = run.client(), run.client("b"), run.name("g")
    topic, id = run.consumed("t", 2)
    subscribed = b"\0\1\0\0\0\1" + len(topic).to_bytes(2, "big") + topic.encode() + b"\xff\xff\xff\xff" + b"\0\0\0\0"
    metadata = [{"name": "range", "metadata": subscribed}]
    member, generation = stable(a, group, protocols=metadata)
    # Its assignment was not one of the consumer protocol.
    beat(b, group, "m", 0, names=[topic])
    for name, protocols, kind in (("connect", metadata, "connect"), ("bad", [{"name": "range", "metadata": b"??"}], "consumer")):
        stable(a, run.name(name), protocols=protocols, kind=kind)
        beat(b, run.name(name), "m", 0, names=[topic])
        beat(b, run.name(name), "m", 1)
    describe(a, group, run.name("connect"))
    # An empty one becomes one of the consumer protocol, and goes back.
    gone, _ = stable(a, run.name("e"), protocols=metadata)
    a("LeaveGroup", 5, group_id=run.name("e"), members=[{"member_id": gone}])
    beat(b, run.name("e"), "m", 0, names=[topic])
    beat(b, run.name("e"), "m", -1)
    back = joined(a, 3, run.name("e"), protocols=metadata)
    sync(a, 3, run.name("e"), back.member_id, back.generation_id, {back.member_id: b"x"}).receive()
    a("DescribeGroups", 6, groups=[run.name("e")])
    # A classic member of a group of consumers.
    beat(b, run.name("c"), "m", 0, names=[topic])
    new = joined(a, 9, run.name("c"), protocols=metadata)
    joined(a, 9, run.name("c"), kind="connect", protocols=metadata)
    joined(a, 9, run.name("c"), protocols=[{"name": "range", "metadata": b"??"}])
    joined(a, 9, run.name("c"), protocols=[])
    joined(a, 9, run.name("c"), "ghost", protocols=metadata)
    joined(a, 9, run.name("c"), "m", protocols=metadata)
    it = joined(a, 9, run.name("c"), new.member_id, protocols=metadata)
    for names in ({"protocol_type": "connect", "protocol_name": "range"}, {"protocol_type": "consumer", "protocol_name": "x"}):
        sync(a, 5, run.name("c"), it.member_id, it.generation_id, **names).receive()
    names = {"protocol_type": "consumer", "protocol_name": "range"}
    sync(a, 5, run.name("c"), "ghost", it.generation_id, **names).receive()
    sync(a, 5, run.name("c"), "m", it.generation_id, **names).receive()
    sync(a, 5, run.name("c"), it.member_id, it.generation_id + 1, **names).receive()
    sync(a, 5, run.name("c"), it.member_id, it.generation_id - 1, **names).receive()
    sync(a, 5, run.name("c"), it.member_id, it.generation_id, **names).receive()
    for who, when in ((it.member_id, it.generation_id), (it.member_id, 99), (it.member_id, 1), ("ghost", 1), ("m", 2)):
        a("Heartbeat", 4, group_id=run.name("c"), member_id=who, generation_id=when)
    describe(a, run.name("c"))
    a("DescribeGroups", 5, groups=[run.name("c")])
    a("LeaveGroup", 5, group_id=run.name("c"), members=[{"member_id": "m"}, {"member_id": "ghost"}, {"member_id": it.member_id}])
    describe(a, run.name("c"))


@script
def sharers_that_are_refused(run):
    a, group = run.client(), run.name("g")
    topic, _ = run.consumed("t", 1)
    share(a, "", "m", 0, names=[topic])
    share(a, " ", "m", 0, names=[topic])
    share(a, group, "", 0, names=[topic])
    share(a, group, " ", 0, names=[topic])
    share(a, group, "m", -2, names=[topic])
    share(a, group, "m", 0)
    share(a, group, "m", 0, names=[])
    share(a, group, "m", 0, names=[topic], rack_id="")
    a("ShareGroupDescribe", 1, group_ids=[group])


def settled(client, group, member, names):
    """A member that has its assignment, and its epoch."""
    said = client.wire.call("ShareGroupHeartbeat", 1, group_id=group, member_id=member, member_epoch=0,
                            subscribed_topic_names=names)
    while said.assignment is None or not said.assignment.topic_partitions:
        again = client.wire.call("ShareGroupHeartbeat", 1, group_id=group, member_id=member, member_epoch=said.member_epoch)
        said = again if again.assignment else said
    return said.member_epoch


@script
def sharers_join_and_leave(run):
    a, group = run.client(), run.name("g")
    topic, id = run.consumed("t", 1)
    other, _ = run.consumed("u", 1)
    epoch = settled(a, group, "m", [topic])
    a("ShareGroupDescribe", 1, group_ids=[group])
    for it in (epoch, epoch + 1, epoch + 9):
        share(a, group, "m", it)
    share(a, group, "m", 0, names=[topic])
    share(a, group, "m", 0)
    share(a, group, "m", epoch, names=[])
    share(a, group, "ghost", epoch)
    share(a, group, "ghost", -1)
    share(a, group, "m", -1)
    share(a, group, "m", -1)
    share(a, group, "m", epoch)
    a("ShareGroupDescribe", 1, group_ids=[group])
    epoch = settled(a, group, "m", [topic, topic, run.name("none")])
    share(a, group, "n", 0, names=[topic], rack_id="r")
    share(a, group, "m", epoch)
    a("ShareGroupDescribe", 1, group_ids=[group])
    share(a, group, "n", -1)
    share(a, group, "m", -1)
    a("DeleteGroups", 2, groups_names=[group])
    a("ShareGroupDescribe", 1, group_ids=[group])
