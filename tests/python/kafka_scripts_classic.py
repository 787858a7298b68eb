"""Scripts for the classic group protocol, see `kafka_script`."""

import time

from kafka_script import script

META = b"\0\0\0\0\0\0\xff\xff\xff\xff"
RANGE = [{"name": "range", "metadata": META}]
NOT_READY = (14, 15, 16)


@script
def ready(run):
    """Waits until the broker coordinates groups, transactions and partitions of share groups."""
    a = run.client()
    deadline = time.monotonic() + 60

    def wait(api, version, **fields):
        while (code := refused(a.wire.call(api, version, **fields))) in NOT_READY:
            assert time.monotonic() < deadline, code

    for kind, key in ((1, run.name("t")), (2, f"{run.name('g')}:AAAAAAAAAAAAAAAAAAAAAQ:0")):
        wait("FindCoordinator", 6, coordinator_keys=[key], key_type=kind)
    for at in range(32):
        group = run.name(f"g{at}")
        wait("FindCoordinator", 6, coordinator_keys=[group], key_type=0)
        wait("Heartbeat", 4, group_id=group, member_id="m", generation_id=1)


def refused(answer):
    return answer.coordinators[0].error_code if hasattr(answer, "coordinators") else answer.error_code


def join(client, version, group, member="", protocols=RANGE, kind="consumer", session=30_000, rebalance=30_000, **more):
    client.send("JoinGroup", version, **{
        "group_id": group, "session_timeout_ms": session, "member_id": member, "protocol_type": kind, "protocols": protocols,
        **({"rebalance_timeout_ms": rebalance} if version else {}), **more,
    })
    return client


def joined(client, version, group, *arguments, **more):
    return join(client, version, group, *arguments, **more).receive()


def sync(client, version, group, member, generation, assignments=None, **more):
    assignments = [{"member_id": who, "assignment": what} for who, what in (assignments or {}).items()]
    client.send("SyncGroup", version, group_id=group, member_id=member, generation_id=generation, assignments=assignments, **more)
    return client


def beat(client, version, group, member, generation, **more):
    return client("Heartbeat", version, group_id=group, member_id=member, generation_id=generation, **more)


def leave(client, version, group, *members):
    if version < 3:
        return client("LeaveGroup", version, group_id=group, member_id=members[0])
    each = [{"member_id": it} if isinstance(it, str) else {"member_id": it[0], "group_instance_id": it[1]} for it in members]
    return client("LeaveGroup", version, group_id=group, members=each)


def describe(client, version, *groups, **more):
    return client("DescribeGroups", version, groups=list(groups), **more)


def stable(client, group, version=5, **more):
    """A group of one member; its id and generation."""
    it = joined(client, version, group, **more)
    if it.error_code == 79:
        it = joined(client, version, group, it.member_id, **more)
    sync(client, 3, group, it.member_id, it.generation_id, {it.member_id: b"all"}).receive()
    return it.member_id, it.generation_id


@script
def classic_life_in_every_version(run):
    for version in range(10):
        a, group = run.client(), run.name(f"g{version}")
        it = joined(a, version, group)
        if version >= 4:
            it = joined(a, version, group, it.member_id)
        names = {"protocol_type": "consumer", "protocol_name": "range"} if version >= 5 else {}
        describe(a, min(version, 6), group)
        sync(a, min(version, 5), group, it.member_id, it.generation_id, {it.member_id: b"all"}, **names).receive()
        describe(a, min(version, 6), group)
        beat(a, min(version, 4), group, it.member_id, it.generation_id)
        leave(a, min(version, 5), group, it.member_id)
        describe(a, min(version, 6), group)
        again = joined(a, min(version, 3), group)
        sync(a, 0, group, again.member_id, again.generation_id).receive()
        leave(a, 0, group, again.member_id)


@script
def classic_joins_that_are_refused(run):
    a, group = run.client(), run.name("g")
    for version in (0, 3, 4, 5, 9):
        joined(a, version, "")
        joined(a, version, group, "nobody")
        joined(a, version, group, session=5_999)
        joined(a, version, group, session=1_800_001)
        joined(a, version, group, session=-1)
        joined(a, version, group, kind="")
        joined(a, version, group, protocols=[])
        joined(a, version, run.name(f"h{version}"), rebalance=0)
        joined(a, version, run.name(f"i{version}"), rebalance=-1)
        describe(a, 6, group, run.name(f"h{version}"))
    joined(a, 9, run.name("h"), "", reason="r" * 300)
    joined(a, 9, run.name("h"), "nobody", group_instance_id="i")
    joined(a, 5, run.name("h"), "", group_instance_id="")
    joined(a, 5, run.name("k"), "", group_instance_id="i" * 300)
    joined(a, 9, run.name("l"), "", protocols=RANGE * 2)


@script
def classic_what_a_member_cannot_join_with(run):
    a, b, group = run.client(), run.client("b"), run.name("g")
    member, generation = stable(a, group)
    for version in (3, 5, 9):
        joined(b, version, group, kind="connect")
        joined(b, version, group, protocols=[{"name": "other", "metadata": b""}])
        joined(b, version, group, protocols=[])
        joined(b, version, group, kind="")
        joined(b, version, group, session=1)
        joined(b, version, group, "nobody")
        joined(b, version, group, "nobody", kind="connect")
        joined(b, version, group, member, kind="connect")
        joined(b, version, group, member, protocols=[])
    beat(a, 4, group, member, generation)
    describe(a, 5, group)
    describe(a, 6, group, include_authorized_operations=True)


@script
def classic_who_speaks_out_of_turn(run):
    a, group = run.client(), run.name("g")
    for version in (0, 3, 4):
        beat(a, version, "", "m", 1)
        beat(a, version, group, "m", 1)
    for version in (0, 3, 5):
        sync(a, version, "", "m", 1).receive()
        sync(a, version, group, "m", 1).receive()
    for version in (0, 2, 3, 5):
        leave(a, version, "", "m")
        leave(a, version, group, "m")
    member, generation = stable(a, group)
    for other in (-1, 0, generation - 1, generation + 1):
        beat(a, 4, group, member, other)
        sync(a, 5, group, member, other).receive()
    beat(a, 4, group, "other", generation)
    beat(a, 4, group, "", generation)
    beat(a, 4, group, member, generation, group_instance_id="i")
    sync(a, 5, group, "other", generation).receive()
    sync(a, 5, group, member, generation, group_instance_id="i").receive()
    sync(a, 5, group, member, generation, protocol_type="connect", protocol_name="range").receive()
    sync(a, 5, group, member, generation, protocol_type="consumer", protocol_name="other").receive()
    sync(a, 5, group, member, generation, protocol_type="", protocol_name="").receive()
    sync(a, 5, group, member, generation, protocol_type="consumer").receive()
    sync(a, 5, group, member, generation, protocol_name="range").receive()
    sync(a, 5, group, member, generation, {member: b"else"}, protocol_type="consumer", protocol_name="range").receive()
    sync(a, 4, group, member, generation, {"ghost": b"else"}).receive()
    leave(a, 5, group, "other", ("", "i"), (member, "i"), "")
    beat(a, 4, group, member, generation)
    leave(a, 3, group)
    leave(a, 5, group, member, member)
    beat(a, 4, group, member, generation)
    sync(a, 4, group, member, generation).receive()
    leave(a, 0, group, member)
    leave(a, 4, group, member, ("", "i"))
    joined(a, 5, group, member)


@script
def classic_an_assignment_for_some(run):
    a, group = run.client(), run.name("g")
    it = joined(a, 3, group)
    sync(a, 3, group, it.member_id, it.generation_id, {"ghost": b"x"}).receive()
    describe(a, 6, group)
    sync(a, 3, group, it.member_id, it.generation_id, {it.member_id: b"x"}).receive()
    again = joined(a, 3, group, it.member_id)
    sync(a, 3, group, it.member_id, again.generation_id, {it.member_id: b"x"}).receive()
    describe(a, 6, group)


def pair(run, group, **more):
    """Two members of one generation, both waiting for their assignments: clients, ids, generation."""
    a, b = run.client("a"), run.client("b")
    leader = joined(a, 3, group, **more)
    sync(a, 3, group, leader.member_id, leader.generation_id, {leader.member_id: b"a"}).receive()
    join(b, 3, group, **more)
    wait(a, group, leader.member_id, leader.generation_id)
    join(a, 3, group, leader.member_id, **more).receive()
    follower = b.receive()
    return a, b, leader.member_id, follower.member_id, follower.generation_id


def wait(client, group, member, generation, code=27):
    """Until a heartbeat is told this."""
    deadline = time.monotonic() + 60
    while client.wire.call("Heartbeat", 4, group_id=group, member_id=member, generation_id=generation).error_code != code:
        assert time.monotonic() < deadline


@script
def classic_two_members(run):
    group = run.name("g")
    a, b, first, second, generation = pair(run, group)
    beat(b, 4, group, second, generation)
    describe(a, 6, group)
    sync(b, 3, group, second, generation)
    sync(a, 3, group, first, generation, {first: b"one", second: b"two"}).receive()
    b.receive()
    describe(a, 6, group)
    # A follower that joins again with what it had is told the same generation; the leader makes a new one.
    again = joined(b, 3, group, second)
    beat(a, 4, group, first, again.generation_id)
    join(a, 3, group, first)
    wait(b, group, second, generation)
    sync(b, 3, group, second, generation).receive()
    describe(b, 6, group)
    joined(b, 3, group, second)
    it = a.receive()
    sync(a, 3, group, first, it.generation_id, {first: b"1", second: b"2"}).receive()
    sync(b, 3, group, second, it.generation_id).receive()
    # Another metadata of a follower makes a new one, too.
    join(b, 3, group, second, [{"name": "range", "metadata": b"new"}])
    wait(a, group, first, it.generation_id)
    join(a, 3, group, first).receive()
    now = b.receive().generation_id
    sync(a, 3, group, first, now, {first: b"1", second: b"2"}).receive()
    sync(b, 3, group, second, now).receive()
    # The leader leaves.
    leave(a, 3, group, first)
    beat(b, 4, group, second, now)
    joined(b, 3, group, second)
    describe(b, 6, group)


@script
def classic_joining_while_assigning(run):
    group = run.name("g")
    a, b, first, second, generation = pair(run, group)
    joined(b, 3, group, second)
    joined(a, 3, group, first)
    describe(a, 6, group)
    sync(b, 3, group, second, generation)
    # A member with other metadata ends the generation while others wait for it.
    join(a, 3, group, first, [{"name": "range", "metadata": b"new"}])
    b.receive()
    beat(b, 4, group, second, generation)
    joined(b, 3, group, second)
    a.receive()


@script
def classic_choosing_a_protocol(run):
    both = [{"name": "x", "metadata": b"x"}, {"name": "y", "metadata": b"y"}]
    other = [{"name": "z", "metadata": b"z"}, {"name": "y", "metadata": b"y"}, {"name": "x", "metadata": b"x"}]
    group, a, b = run.name("g"), run.client("a"), run.client("b")
    one = joined(a, 3, group, protocols=both, kind="anything")
    join(b, 3, group, protocols=other, kind="anything")
    wait(a, group, one.member_id, one.generation_id)
    joined(a, 3, group, one.member_id, both, "anything")
    b.receive()
    describe(a, 6, group)
    sync(a, 3, group, one.member_id, 2, {one.member_id: b""}).receive()
    a("OffsetDelete", 0, group_id=group, topics=[{"name": run.name("t"), "partitions": [{"partition_index": 0}]}])
    a("DeleteGroups", 2, groups_names=[group])


@script
def classic_a_second_join_in_place_of_the_first(run):
    group = run.name("g")
    a, b, first, second, generation = pair(run, group)
    sync(b, 3, group, second, generation)
    sync(a, 3, group, first, generation, {first: b"1", second: b"2"}).receive()
    b.receive()
    join(a, 3, group, first)
    wait(b, group, second, generation)
    twice = run.client("c")
    join(twice, 3, group, first)
    beat(twice.run.client("d"), 4, group, first, generation)
    joined(b, 3, group, second)
    twice.receive()


@script
def classic_members_leave_together(run):
    group = run.name("g")
    a, b, first, second, generation = pair(run, group)
    sync(b, 3, group, second, generation)
    leave(a, 5, group, first, "ghost", second, second)
    describe(a, 6, group)
    a("DeleteGroups", 2, groups_names=[group, group, run.name("none")])
    describe(a, 5, group)


@script
def classic_a_member_id_is_required(run):
    a, group = run.client(), run.name("g")
    new = joined(a, 4, group)
    describe(a, 6, group)
    beat(a, 4, group, new.member_id, 0)
    sync(a, 4, group, new.member_id, 0).receive()
    a("DeleteGroups", 2, groups_names=[group])
    joined(a, 4, group, new.member_id, group_instance_id=None)
    other = joined(a, 9, run.name("h"))
    leave(a, 3, run.name("h"), other.member_id)
    joined(a, 9, run.name("h"), other.member_id)


@script
def classic_static_members(run):
    group, a, b = run.name("g"), run.client("a"), run.client("b")
    one = joined(a, 5, group, group_instance_id="i")
    sync(a, 3, group, one.member_id, one.generation_id, {one.member_id: b"x"}, group_instance_id="i").receive()
    describe(a, 6, group)
    # It comes back without its id: the place, the assignment and the generation are its own again.
    two = joined(b, 5, group, group_instance_id="i")
    beat(a, 4, group, one.member_id, one.generation_id, group_instance_id="i")
    beat(a, 4, group, one.member_id, one.generation_id)
    sync(a, 5, group, one.member_id, one.generation_id, group_instance_id="i").receive()
    joined(a, 5, group, one.member_id, group_instance_id="i")
    leave(a, 3, group, (one.member_id, "i"))
    sync(b, 5, group, two.member_id, two.generation_id, group_instance_id="i").receive()
    sync(b, 5, group, two.member_id, two.generation_id).receive()
    beat(b, 4, group, two.member_id, two.generation_id, group_instance_id="i")
    beat(b, 4, group, two.member_id, two.generation_id, group_instance_id="j")
    beat(b, 4, group, "ghost", two.generation_id, group_instance_id="j")
    beat(b, 4, group, "", two.generation_id, group_instance_id="i")
    joined(b, 9, group, "ghost", group_instance_id="j")
    # In version 9 a restarted leader is told to assign nothing.
    three = joined(b, 9, group, group_instance_id="i")
    describe(b, 6, group)
    leave(b, 3, group, ("", "j"), ("ghost", "i"))
    leave(b, 3, group, ("", "i"))
    describe(b, 6, group)
    beat(b, 4, group, three.member_id, three.generation_id)


@script
def classic_a_static_member_with_something_new(run):
    group, a, b = run.name("g"), run.client("a"), run.client("b")
    one = joined(a, 5, group, group_instance_id="i")
    sync(a, 3, group, one.member_id, one.generation_id, {one.member_id: b"x"}, group_instance_id="i").receive()
    # Other metadata, the same protocol: no rebalance (the leader is not told to assign).
    joined(b, 5, group, protocols=[{"name": "range", "metadata": b"new"}], group_instance_id="i")
    describe(b, 6, group)
    # Another protocol: a new generation.
    joined(b, 5, group, protocols=[{"name": "other", "metadata": b"new"}], group_instance_id="i")
    describe(b, 6, group)


@script
def classic_a_static_member_replaced_while_it_waits(run):
    group, a, b = run.name("g"), run.client("a"), run.client("b")
    one = joined(a, 5, group, group_instance_id="i")
    two = joined(b, 5, group, group_instance_id="i")
    sync(a, 3, group, one.member_id, one.generation_id, {one.member_id: b"x"}, group_instance_id="i").receive()
    sync(b, 3, group, two.member_id, two.generation_id, {two.member_id: b"x"}, group_instance_id="i").receive()
    c = run.client("c")
    join(c, 4, group)
    c.receive()
    describe(c, 6, group)
