"""Scripts for the administration of groups of every kind, see `kafka_script`."""

from kafka_script import script
from kafka_scripts_classic import joined, stable
from kafka_scripts_consumer import beat, share
from kafka_scripts_offsets import commit, delete, fetch


@script
def coordinators_are_found(run):
    a = run.client()
    a("FindCoordinator", 0, key=run.name("g"))
    a("FindCoordinator", 0, key="")
    for version in range(1, 4):
        for kind in (-1, 0, 1, 2, 3):
            a("FindCoordinator", version, key=run.name("g"), key_type=kind)
            a("FindCoordinator", version, key="", key_type=kind)
    for version in range(4, 7):
        for kind in (-1, 0, 1, 2, 3):
            a("FindCoordinator", version, coordinator_keys=[run.name("g"), "", "a:b", run.name("g")], key_type=kind)
        a("FindCoordinator", version, coordinator_keys=[], key_type=0)
    for key in ("g:AAAAAAAAAAAAAAAAAAAAAQ:0", "g:AAAAAAAAAAAAAAAAAAAAAQ:x", "g::0", ":AAAAAAAAAAAAAAAAAAAAAQ:0", "g:0",
                "a:g:AAAAAAAAAAAAAAAAAAAAAQ:0", "g:AAAA:0", "g:AAAAAAAAAAAAAAAAAAAAAQ:-1"):
        a("FindCoordinator", 6, coordinator_keys=[key], key_type=2)


def own(run):
    """Of a list of groups, this run's."""
    return lambda said: {**said, "groups": [it for it in said["groups"] if it["group_id"].startswith(run.prefix)]}


def of_each_kind(run):
    """A group of each kind and state: with members, without, without ever having had one."""
    a = run.client()
    topic, _ = run.consumed("t", 2)
    subscribed = b"\0\0\0\0\0\1" + len(topic).to_bytes(2, "big") + topic.encode() + b"\xff\xff\xff\xff"
    stable(a, run.name("classic"), protocols=[{"name": "range", "metadata": subscribed}])
    member, _ = stable(a, run.name("classic-empty"))
    a("LeaveGroup", 5, group_id=run.name("classic-empty"), members=[{"member_id": member}])
    commit(a, 8, run.name("simple"), topic, (0, 1, ""))
    joined(a, 3, run.name("completing"))
    joined(a, 4, run.name("pending"))
    stable(a, run.name("connect"), kind="connect")
    beat(a, run.name("consumer"), "m", 0, names=[topic])
    beat(a, run.name("consumer-empty"), "m", 0, names=[topic])
    beat(a, run.name("consumer-empty"), "m", -1)
    share(a, run.name("share"), "m", 0, names=[topic])
    share(a, run.name("share-empty"), "m", 0, names=[topic])
    share(a, run.name("share-empty"), "m", -1)
    return a, topic, [run.name(it) for it in (
        "classic", "classic-empty", "simple", "completing", "pending", "connect", "consumer", "consumer-empty", "share",
        "share-empty", "none",
    )]


@script
def groups_of_each_kind_are_listed(run):
    a, _, _ = of_each_kind(run)
    for version in range(6):
        a("ListGroups", version, keep=own(run))
    for states in (["Stable"], ["stable"], ["STABLE", "Empty"], ["Dead"], ["nonsense"], [""], ["Empty", "nonsense"],
                   ["CompletingRebalance"], ["PreparingRebalance"], ["Assigning"], ["Reconciling"], ["NotReady"]):
        a("ListGroups", 4, keep=own(run), states_filter=states)
    for types in (["classic"], ["Consumer"], ["SHARE"], ["share", "consumer"], ["streams"], ["nonsense"], [""], ["unknown"]):
        a("ListGroups", 5, keep=own(run), types_filter=types)
    a("ListGroups", 5, keep=own(run), types_filter=["classic"], states_filter=["empty"])


@script
def groups_of_each_kind_are_described(run):
    a, _, groups = of_each_kind(run)
    for version in range(7):
        a("DescribeGroups", version, groups=groups)
    a("DescribeGroups", 5, groups=[groups[0], groups[0]], include_authorized_operations=True)
    a("DescribeGroups", 6, groups=[])
    for version in (0, 1):
        a("ConsumerGroupDescribe", version, group_ids=[*groups, ""])
        a("ConsumerGroupDescribe", version, group_ids=[])
    a("ConsumerGroupDescribe", 1, group_ids=[run.name("consumer")] * 2, include_authorized_operations=True)
    a("ShareGroupDescribe", 1, group_ids=[*groups, ""])
    a("ShareGroupDescribe", 1, group_ids=[])
    a("ShareGroupDescribe", 1, group_ids=[run.name("share")] * 2, include_authorized_operations=True)


@script
def groups_of_each_kind_are_deleted(run):
    a, _, groups = of_each_kind(run)
    for version in range(3):
        a("DeleteGroups", version, groups_names=groups)
        a("DeleteGroups", version, groups_names=[])
    a("ListGroups", 5, keep=own(run))


@script
def groups_of_each_kind_and_their_offsets(run):
    a, topic, groups = of_each_kind(run)
    for group in groups:
        delete(a, group, (topic, [0]))
        fetch(a, 7, group, (topic, [0]))
        fetch(a, 9, group, (topic, [0]), member_id="m", member_epoch=1)
        commit(a, 8, group, topic, (0, 3, ""))
        commit(a, 9, group, topic, (0, 3, ""), member="m", generation=1)
        commit(a, 5, group, topic, (0, 3, ""), member="m", generation=1)
    a("ListGroups", 5, keep=own(run))


@script
def groups_of_each_kind_and_members_of_others(run):
    a, topic, groups = of_each_kind(run)
    b = run.client("b")
    for group in groups:
        share(b, group, "s", 0, names=[topic])
        share(b, group, "s", 1)
        share(b, group, "s", -1)
    for group in groups:
        if not group.endswith(("classic", "completing", "connect")):
            beat(b, group, "n", 0, names=[topic])
        beat(b, group, "n", 1)
        beat(b, group, "n", -1)
    for group in groups:
        b("Heartbeat", 4, group_id=group, member_id="x", generation_id=1)
        b("SyncGroup", 3, group_id=group, member_id="x", generation_id=1, assignments=[])
        b("LeaveGroup", 3, group_id=group, members=[{"member_id": "x"}, {"member_id": "", "group_instance_id": "i"}])
        if "share" not in group and group != groups[-1]:
            joined(b, 9, group, "x")
        joined(b, 9, group, kind="else", protocols=[{"name": "n", "metadata": b""}])
    a("ListGroups", 5, keep=own(run))


@script
def offsets_of_groups_that_share_nothing(run):
    a, topic, groups = of_each_kind(run)
    groups = [it for it in groups if "share" not in it]
    for version in (0, 1):
        for topics in (None, []):
            a("DescribeShareGroupOffsets", version, groups=[{"group_id": it, "topics": topics} for it in groups])
        a("DescribeShareGroupOffsets", version, groups=[])
    for group in groups:
        a("AlterShareGroupOffsets", 0, group_id=group, topics=[
            {"topic_name": topic, "partitions": [{"partition_index": 0, "start_offset": 0}]},
        ])
        a("DeleteShareGroupOffsets", 0, group_id=group, topics=[{"topic_name": topic}])
