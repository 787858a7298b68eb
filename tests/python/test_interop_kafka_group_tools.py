"""The tools of Apache Kafka 4.3 for groups: kafka-groups, kafka-consumer-groups and kafka-share-groups."""

import time

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition

from clients import PATIENCE, eventually
from test_interop_kafka_group_admin import create, produce
from test_interop_kafka_tools import java, tool  # noqa: F401, fixtures

CONSUMER_GROUPS = "consumer.group.ConsumerGroupCommand"
SHARE_GROUPS = "consumer.group.ShareGroupCommand"


def consume(broker, group, topic, count, **settings):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": group, "auto.offset.reset": "earliest",
        "max.poll.interval.ms": 900_000, **settings,
    })
    consumer.subscribe([topic])
    seen = []
    eventually(lambda: seen.extend(consumer.consume(10, 0.2)) or len(seen) >= count)
    consumer.commit(asynchronous=False)
    return consumer


def committed(broker, group, topic):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": group})
    try:
        return consumer.committed([TopicPartition(topic, 0)], PATIENCE)[0].offset
    finally:
        consumer.close()


def test_offsets_are_reset_in_every_way(tool, broker, name):  # noqa: F811
    create(broker, name)
    between = int(time.time()) - 60
    for value, at in (("a", -2), ("b", -1), ("c", 1), ("d", 2), ("e", 3)):
        produce(broker, name, [value], timestamp=between * 1000 + at)
    consume(broker, name, name, 5).close()
    assert committed(broker, name, name) == 5

    def reset(*how):
        tool(CONSUMER_GROUPS, "--reset-offsets", "--group", name, "--topic", name, "--execute", *how)
        return committed(broker, name, name)

    assert reset("--to-earliest") == 0
    assert reset("--shift-by", "3") == 3
    assert reset("--to-datetime", time.strftime("%Y-%m-%dT%H:%M:%S.000", time.gmtime(between))) == 2
    assert reset("--to-latest") == 5
    assert reset("--to-offset", "1") == 1
    assert reset("--by-duration", "PT1H") == 0
    assert reset("--to-current") == 0
    deleted = tool(CONSUMER_GROUPS, "--delete-offsets", "--group", name, "--topic", name)
    assert "Error" not in deleted
    assert committed(broker, name, name) == confluent_kafka.OFFSET_INVALID


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_groups_in_use_are_listed_and_described_and_refuse_to_go(tool, broker, name, protocol):  # noqa: F811
    create(broker, name)
    produce(broker, name, ["a"])
    consumer = consume(broker, name, name, 1, **{"group.protocol": protocol, "client.id": "me"})
    kind = protocol.capitalize()
    listed = tool("GroupsCommand", "--list")
    assert any(row.split()[:3] == [name, kind, "consumer"] for row in listed.splitlines()), listed
    listed = tool(CONSUMER_GROUPS, "--list", "--state", "stable", "--type", protocol)
    assert any(row.split()[0] == name for row in listed.splitlines() if row.strip()), listed
    members = tool(CONSUMER_GROUPS, "--describe", "--group", name, "--members", "--verbose")
    assert "me" in members and f"{name}:0" in members or f"{name}(0)" in members, members
    state = tool(CONSUMER_GROUPS, "--describe", "--group", name, "--state", "--verbose")
    assert "Stable" in state
    refused = tool(CONSUMER_GROUPS, "--delete", "--group", name)
    assert "GroupNotEmptyException" in refused
    refused = tool(CONSUMER_GROUPS, "--delete-offsets", "--group", name, "--topic", name)
    assert "GroupSubscribedToTopicException" in refused or "subscribed to" in refused, refused
    consumer.close()


def test_share_groups_are_described_moved_and_deleted(tool, broker, name):  # noqa: F811
    create(broker, name)
    produce(broker, name, ["a", "b", "c"])
    tool("consumer.ConsoleShareConsumer", "--topic", name, "--group", name, "--timeout-ms", "4000")
    tool(SHARE_GROUPS, "--reset-offsets", "--group", name, "--topic", name, "--to-earliest", "--execute")
    described = tool(SHARE_GROUPS, "--describe", "--group", name)
    (row,) = [row.split() for row in described.splitlines() if row.startswith(name)]
    assert row[3:5] == ["0", "3"], described
    listed = tool(SHARE_GROUPS, "--list", "--state", "empty")
    assert name in listed
    deleted = tool(SHARE_GROUPS, "--delete-offsets", "--group", name, "--topic", name)
    assert "Successful" in deleted or "Error" not in deleted, deleted
    tool(SHARE_GROUPS, "--delete", "--group", name)
    assert name not in tool(SHARE_GROUPS, "--list")
