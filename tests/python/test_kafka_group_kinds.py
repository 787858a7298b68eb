"""Groups without members stay what they are: what administrators see of them is the same after `kill -9`."""

import confluent_kafka
from confluent_kafka import ShareConsumer
from confluent_kafka.admin import AdminClient, NewTopic

import kafka_schemas  # noqa: F401, makes messages known
from clients import PATIENCE, eventually, make_durable
from kafka_wire import Wire, message

KINDS = ("consumers", "readers", "classic", "joined", "share", "simple")
GROUP_ID_NOT_FOUND = 69


def seen(port, groups):
    """What ListGroups and DescribeGroups say of each group."""
    with Wire(port) as wire:
        found = wire.call("ListGroups", 5, states_filter=[], types_filter=[]).groups
        listed = {it.group_id: (it.group_type.lower(), it.protocol_type, it.group_state) for it in found}
        found = wire.call("DescribeGroups", 6, groups=groups, include_authorized_operations=False).groups
        described = {it.group_id: (it.error_code, it.group_state, it.protocol_type, it.protocol_data) for it in found}
        return {group: (listed.get(group), described[group]) for group in groups}


def consume(address, topic, group, commit, **settings):
    """Comes and goes, and leaves offsets behind or not."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        **settings,
    })
    consumer.subscribe([topic])
    eventually(lambda: consumer.poll(0.1) is not None)
    if commit:
        consumer.commit(asynchronous=False)
    consumer.close()


def share(address, port, topic, group):
    """Comes and goes."""
    consumer = ShareConsumer({"bootstrap.servers": address, "group.id": group})
    consumer.subscribe([topic])

    def is_in():
        consumer.poll(0.1)
        listed, _ = seen(port, [group])[group]
        return listed is not None and listed[2] == "Stable"

    eventually(is_in)
    consumer.close()


def one_of_each(address, port, name):
    """Groups of every kind that have had a member, by their kinds."""
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(name, 1)])[name].result(PATIENCE)
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    producer.produce(name, b"v")
    assert producer.flush(PATIENCE) == 0
    groups = {kind: f"{name}-{kind}" for kind in KINDS}
    consume(address, name, groups["consumers"], True, **{"group.protocol": "consumer"})
    consume(address, name, groups["readers"], False, **{"group.protocol": "consumer"})
    consume(address, name, groups["classic"], True)
    consume(address, name, groups["joined"], False)
    share(address, port, name, groups["share"])
    Topic = message("OffsetCommitRequest.OffsetCommitRequestTopic")
    Partition = message("OffsetCommitRequest.OffsetCommitRequestTopic.OffsetCommitRequestPartition")
    offset = Partition(partition_index=0, committed_offset=1, committed_leader_epoch=-1, committed_metadata="")
    with Wire(port) as wire:
        wire.call("FindCoordinator", 3, key=groups["simple"], key_type=0)
        answer = wire.call(
            "OffsetCommit", 8, group_id=groups["simple"], generation_id_or_member_epoch=-1, member_id="",
            group_instance_id=None, topics=[Topic(name=name, partitions=[offset])],
        )
        assert answer.topics[0].partitions[0].error_code == 0
    return groups


# As Apache Kafka 4.3.1 was recorded to show them, before a kill and after it.
EXPECTED = {
    "consumers": (("consumer", "consumer", "Empty"), (GROUP_ID_NOT_FOUND, "Dead", "", "")),
    "readers": (("consumer", "consumer", "Empty"), (GROUP_ID_NOT_FOUND, "Dead", "", "")),
    "classic": (("classic", "consumer", "Empty"), (0, "Empty", "consumer", "")),
    "joined": (("classic", "consumer", "Empty"), (0, "Empty", "consumer", "")),
    "share": (("share", "share", "Empty"), (GROUP_ID_NOT_FOUND, "Dead", "", "")),
    "simple": (("classic", "", "Empty"), (0, "Empty", "", "")),
}


def test_groups_without_members_are_the_same_after_a_kill(own_broker, name):
    broker = own_broker()
    port = broker.port("kafka")
    groups = one_of_each(broker.kafka, port, name)
    expected = {groups[kind]: it for kind, it in EXPECTED.items()}
    eventually(lambda: seen(port, list(groups.values())) == expected)
    for _ in range(2):
        broker.kill()
        broker.start()
        assert seen(port, list(groups.values())) == expected
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    described = admin.describe_consumer_groups([groups["consumers"]])
    assert described[groups["consumers"]].result(PATIENCE).state.name == "EMPTY"
    # Each goes on as what it was.
    consume(broker.kafka, name, groups["readers"], True, **{"group.protocol": "consumer"})
    consume(broker.kafka, name, groups["joined"], True)
    assert seen(port, list(groups.values())) == expected


def test_members_of_a_share_group_go_on_after_a_kill(own_broker, name):
    broker = own_broker()
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(name, 2)])[name].result(PATIENCE)

    def beat(wire, member, epoch, names=None):
        answer = wire.call("ShareGroupHeartbeat", 1, group_id=name, member_id=member, member_epoch=epoch,
                           subscribed_topic_names=names)
        told = answer.assignment.topic_partitions if answer.assignment else []
        return answer.error_code, answer.member_epoch, [it.partitions for it in told]

    with Wire(broker.port("kafka")) as wire:
        assert beat(wire, "a", 0, [name]) == (0, 2, [[0, 1]])
        beat(wire, "b", 0, [name])
        assert beat(wire, "a", 2) == (0, 3, [[0]])
    make_durable(broker)
    broker.kill()
    broker.start()
    assert seen(broker.port("kafka"), [name])[name][0] == ("share", "share", "Stable")
    with Wire(broker.port("kafka")) as wire:
        assert beat(wire, "a", 3) == (0, 3, [[0]])
        assert beat(wire, "b", 3) == (0, 3, [[1]])
        assert beat(wire, "b", 4)[0] == 110, "no epoch of its"
        assert beat(wire, "b", -1) == (0, -1, [])
        assert beat(wire, "a", 3) == (0, 4, [[0, 1]])
