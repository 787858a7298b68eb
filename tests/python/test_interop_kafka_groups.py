"""Groups as librdkafka and administrators use them: the consumer protocol (KIP-848) and the tools' requests."""

import uuid

import confluent_kafka
import pytest
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from clients import PATIENCE, eventually, make_durable


@pytest.fixture
def admin(broker):
    return AdminClient({"bootstrap.servers": broker.kafka})


def create(admin, topic, partitions):
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(PATIENCE)


def produce(broker, topic, count, partitions):
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
    for number in range(count):
        producer.produce(topic, str(number), partition=number % partitions)
    producer.flush(PATIENCE)


class Member:
    """A consumer of the new protocol that remembers what it got and what it has."""

    def __init__(self, broker, group, topics, **settings):
        self.seen = []
        self.owned = set()
        self.rebalances = []
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka,
            "group.id": group,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 500,
            **settings,
        })
        self.consumer.subscribe(topics, on_assign=self.assigned, on_revoke=self.revoked)

    def assigned(self, consumer, partitions):
        self.rebalances.append(len(partitions))
        self.owned |= {(p.topic, p.partition) for p in partitions}
        consumer.incremental_assign(partitions)

    def revoked(self, consumer, partitions):
        self.rebalances.append(-len(partitions))
        self.owned -= {(p.topic, p.partition) for p in partitions}
        consumer.incremental_unassign(partitions)

    def poll(self):
        for message in self.consumer.consume(100, 0.1):
            if message.error() is None:
                self.seen.append(message.value().decode())

    def close(self):
        self.consumer.close()


def test_partitions_are_shared_and_given_back(broker, admin, name):
    create(admin, name, 4)
    produce(broker, name, 40, 4)
    first = Member(broker, name, [name])
    eventually(lambda: first.poll() or len(first.seen) == 40)
    assert len(first.owned) == 4
    second = Member(broker, name, [name])

    def shared():
        first.poll()
        second.poll()
        return len(first.owned) == len(second.owned) == 2

    eventually(shared)
    assert first.owned.isdisjoint(second.owned)
    first.close()
    eventually(lambda: second.poll() or len(second.owned) == 4)
    second.close()


def test_the_group_is_described_as_one_of_consumers(broker, admin, name):
    create(admin, name, 2)
    member = Member(broker, name, [name], **{"client.id": "me"})
    eventually(lambda: member.poll() or len(member.owned) == 2)

    def stable():
        member.poll()
        described = admin.describe_consumer_groups([name])[name].result(PATIENCE)
        return described if described.state == ConsumerGroupState.STABLE else None

    described = eventually(stable)
    assert described.type == confluent_kafka.ConsumerGroupType.CONSUMER
    assert [it.client_id for it in described.members] == ["me"]
    assignment = described.members[0].assignment.topic_partitions
    assert sorted(it.partition for it in assignment) == [0, 1]
    listed = admin.list_consumer_groups().result(PATIENCE).valid
    assert name in [it.group_id for it in listed]
    member.close()


def test_a_pattern_follows_new_topics(broker, admin, name):
    create(admin, f"{name}-a", 1)
    member = Member(broker, name, [f"^{name}-.*"])
    eventually(lambda: member.poll() or len(member.owned) == 1)
    create(admin, f"{name}-b", 2)
    eventually(lambda: member.poll() or len(member.owned) == 3)
    member.close()


@pytest.mark.parametrize("settings", [{}, {"group.instance.id": "one"}])
def test_a_restart_of_the_broker_is_no_rebalance_for_members(own_broker, name, settings):
    broker = own_broker()
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    create(admin, name, 2)
    produce(broker, name, 10, 2)
    member = Member(broker, name, [name], **settings, **{"enable.auto.commit": False, "reconnect.backoff.max.ms": 200})
    eventually(lambda: member.poll() or len(member.seen) == 10)
    make_durable(broker)
    broker.kill()
    broker.start()
    produce(broker, name, 4, 2)
    eventually(lambda: member.poll() or len(member.seen) >= 14)
    member.consumer.commit(asynchronous=False)
    described = admin.describe_consumer_groups([name])[name].result(PATIENCE)
    assert described.state == ConsumerGroupState.STABLE
    assert member.rebalances == [2], "no rebalance"
    assert len(member.seen) == 14, "nothing was read again"
    member.close()


def test_offsets_are_listed_altered_and_deleted_and_groups_too(broker, admin, name):
    create(admin, name, 2)
    produce(broker, name, 10, 2)
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": name, "auto.offset.reset": "earliest",
    })
    consumer.subscribe([name])
    eventually(lambda: consumer.consume(10, 0.2) and consumer.commit(asynchronous=False))
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        admin.delete_consumer_groups([name])[name].result(PATIENCE)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.NON_EMPTY_GROUP
    consumer.close()
    to = ConsumerGroupTopicPartitions(name, [TopicPartition(name, 0, 3), TopicPartition(name, 1, 4)])
    admin.alter_consumer_group_offsets([to])[name].result(PATIENCE)
    listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(PATIENCE)
    assert sorted((it.partition, it.offset) for it in listed.topic_partitions) == [(0, 3), (1, 4)]
    admin.delete_consumer_groups([name])[name].result(PATIENCE)
    listed = admin.list_consumer_groups().result(PATIENCE).valid
    assert name not in [it.group_id for it in listed]


def test_static_members_come_back_without_a_rebalance(broker, admin, name):
    create(admin, name, 2)
    settings = {"group.instance.id": uuid.uuid4().hex}
    member = Member(broker, name, [name], **settings)
    eventually(lambda: member.poll() or len(member.owned) == 2)
    member.close()
    again = Member(broker, name, [name], **settings)
    eventually(lambda: again.poll() or len(again.owned) == 2)
    again.close()


@pytest.mark.parametrize("settings", [{}, {"group.instance.id": "one"}])
def test_a_restart_of_the_broker_is_no_rebalance_for_classic_members(own_broker, name, settings):
    broker = own_broker()
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    create(admin, name, 2)
    produce(broker, name, 10, 2)
    assigned = []
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": name, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "heartbeat.interval.ms": 300, "reconnect.backoff.max.ms": 200, **settings,
    })
    consumer.subscribe([name], on_assign=lambda _, partitions: assigned.append(len(partitions)))
    seen = []

    def read(count):
        for message in consumer.consume(10, 0.1):
            if message.error() is None:
                seen.append(message.value().decode())
        return len(seen) >= count

    eventually(lambda: read(10))
    make_durable(broker)
    broker.kill()
    broker.start()
    produce(broker, name, 4, 2)
    eventually(lambda: read(14))
    consumer.commit(asynchronous=False)
    described = admin.describe_consumer_groups([name])[name].result(PATIENCE)
    assert described.state == ConsumerGroupState.STABLE
    assert assigned == [2], "no rebalance"
    assert len(seen) == 14, "nothing was read again"
    consumer.close()
