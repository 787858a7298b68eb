"""Python: seeks, manual commits, rebalances and offsets in transactions of confluent-kafka, aiokafka and kafka-python."""

import asyncio

import confluent_kafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition as AioPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic as AioTopic
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition as PythonPartition
from kafka.structs import OffsetAndMetadata

from clients import PATIENCE, eventually
from test_interop_kafka_transactions import read_to_end


def create(broker, topic, partitions=1):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(PATIENCE)


def produce(broker, topic, values, partition=0, **settings):
    producer, errors = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, **settings}), []
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda error, _: error and errors.append(error))
    assert producer.flush(PATIENCE) == 0 and not errors, errors


def numbers(start, end):
    return [str(number).encode() for number in range(start, end)]


def member(broker, group, topic, **settings):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "heartbeat.interval.ms": 100, "session.timeout.ms": 6000, **settings,
    })
    consumer.subscribe([topic])
    return consumer


def take(consumer, count):
    values = []

    def more():
        values.extend(record.value() for record in consumer.consume(count - len(values), 0.3))
        return len(values) == count

    eventually(more)
    return values


def test_confluent_kafka_seeks_pauses_and_commits(broker, name):
    create(broker, name)
    produce(broker, name, numbers(0, 10), acks="all", **{"compression.type": "gzip"})
    consumer = member(broker, name, name)
    assert take(consumer, 10) == numbers(0, 10)
    consumer.seek(TopicPartition(name, 0, 7))
    assert take(consumer, 3) == numbers(7, 10)
    consumer.pause([TopicPartition(name, 0)])
    produce(broker, name, [b"later"])
    assert consumer.poll(0.3) is None
    consumer.resume([TopicPartition(name, 0)])
    assert take(consumer, 1) == [b"later"]
    [committed] = consumer.commit(offsets=[TopicPartition(name, 0, 6, metadata="a note")], asynchronous=False)
    assert committed.error is None
    [committed] = consumer.committed([TopicPartition(name, 0)], PATIENCE)
    assert (committed.offset, committed.metadata) == (6, "a note")
    consumer.close()
    again = member(broker, name, name)
    assert take(again, 5) == [*numbers(6, 10), b"later"]
    again.close()


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_confluent_kafka_rebalances_by_every_assignor(broker, name, strategy):
    create(broker, name, 4)
    settings = {"partition.assignment.strategy": strategy}
    first, second = member(broker, name, name, **settings), member(broker, name, name, **settings)

    def share(*expected):
        def shared():
            for it in (first, second)[: len(expected)]:
                assert it.poll(0.05) is None
            return tuple(len(it.assignment()) for it in (first, second)[: len(expected)]) == expected

        eventually(shared)

    share(2, 2)
    second.close()
    share(4)
    first.close()


def test_confluent_kafka_administers_topics(broker, name):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    create(broker, name)
    admin.create_partitions([NewPartitions(name, 3)])[name].result(PATIENCE)
    for policy, operation in (("delete,compact", AlterConfigOpType.APPEND), ("delete", AlterConfigOpType.SUBTRACT)):
        resource = ConfigResource("topic", name, incremental_configs=[
            ConfigEntry("retention.ms", "70000", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("cleanup.policy", "compact", incremental_operation=operation),
        ])
        admin.incremental_alter_configs([resource])[resource].result(PATIENCE)
        [configs] = admin.describe_configs([ConfigResource("topic", name)]).values()
        configs = configs.result(PATIENCE)
        assert (configs["retention.ms"].value, configs["cleanup.policy"].value) == ("70000", policy)
    produce(broker, name, numbers(0, 10))
    partition = TopicPartition(name, 0, 4)
    assert admin.delete_records([partition])[partition].result(PATIENCE).low_watermark == 4
    asked = {TopicPartition(name, 0): OffsetSpec.earliest(), TopicPartition(name, 1): OffsetSpec.latest()}
    found = {it.partition: future.result(PATIENCE).offset for it, future in admin.list_offsets(asked).items()}
    assert found == {0: 4, 1: 0}
    cluster = admin.describe_cluster().result(PATIENCE)
    assert [it.id for it in cluster.nodes] == [cluster.controller.id]


def test_kafka_python_copies_exactly_once(broker, name):
    """The offsets of the input are committed with the output; what is aborted is done again."""
    source, sink = name, f"{name}-out"
    create(broker, source)
    create(broker, sink)
    produce(broker, source, numbers(0, 20))
    consumer = KafkaConsumer(
        source, bootstrap_servers=broker.kafka, group_id=name, auto_offset_reset="earliest", enable_auto_commit=False,
        isolation_level="read_committed",
    )
    producer = KafkaProducer(bootstrap_servers=broker.kafka, transactional_id=name, acks="all")
    producer.init_transactions()
    partition, copied, aborted = PythonPartition(source, 0), 0, False
    while copied < 20:
        records = eventually(lambda: consumer.poll(timeout_ms=500, max_records=8).get(partition))
        producer.begin_transaction()
        for record in records:
            producer.send(sink, record.value)
        offset = OffsetAndMetadata(records[-1].offset + 1, "", -1)
        producer.send_offsets_to_transaction({partition: offset}, consumer.group_metadata())
        if copied and not aborted:
            producer.abort_transaction()
            consumer.seek(partition, copied)
            aborted = True
        else:
            producer.commit_transaction()
            copied += len(records)
            assert consumer.committed(partition) == copied
    producer.close()
    consumer.close()
    assert read_to_end(broker, sink) == [it.decode() for it in numbers(0, 20)]


async def joined(broker, group, topic):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=broker.kafka, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        heartbeat_interval_ms=100, session_timeout_ms=6000, metadata_max_age_ms=1000,
    )
    await consumer.start()
    return consumer


async def until(holds):
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.05)


async def test_aiokafka_administers_seeks_commits_and_rebalances(broker, name):
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.kafka)
    await admin.start()
    await admin.create_topics([AioTopic(name, 2, 1)])
    assert name in await admin.list_topics()
    produce(broker, name, numbers(0, 10))
    first = await joined(broker, name, name)
    await until(lambda: len(first.assignment()) == 2)
    partition = AioPartition(name, 0)
    async with asyncio.timeout(PATIENCE):
        assert [(await first.getone(partition)).value for _ in range(10)] == numbers(0, 10)
        first.seek(partition, 8)
        assert [(await first.getone(partition)).value for _ in range(2)] == numbers(8, 10)
        await first.commit({partition: (6, "a note")})
    second = await joined(broker, name, name)
    await until(lambda: len(first.assignment()) == len(second.assignment()) == 1)
    assert first.assignment() | second.assignment() == {partition, AioPartition(name, 1)}
    await second.stop()
    await until(lambda: len(first.assignment()) == 2)
    async with asyncio.timeout(PATIENCE):
        assert (await first.getone(partition)).offset == 6, "from where it was committed"
    offsets = await admin.list_consumer_group_offsets(name)
    assert offsets[partition] == (6, "a note")
    await first.stop()
    await admin.delete_topics([name])
    assert name not in await admin.list_topics()
    await admin.close()


async def test_aiokafka_commits_offsets_in_a_transaction(broker, name):
    source, sink = name, f"{name}-out"
    create(broker, source)
    create(broker, sink)
    produce(broker, source, numbers(0, 10))
    partition = AioPartition(source, 0)
    consumer = await joined(broker, name, source)
    producer = AIOKafkaProducer(bootstrap_servers=broker.kafka, transactional_id=name, acks="all")
    async with asyncio.timeout(PATIENCE), producer:
        records = [await consumer.getone() for _ in range(6)]
        for keeps in (False, True):
            try:
                async with producer.transaction():
                    for record in records:
                        await producer.send(sink, record.value)
                    await producer.send_offsets_to_transaction({partition: 6}, name)
                    if not keeps:
                        raise ZeroDivisionError
            except ZeroDivisionError:
                assert await consumer.committed(partition) is None
        assert await consumer.committed(partition) == 6
    await consumer.stop()
    assert read_to_end(broker, sink) == [it.decode() for it in numbers(0, 6)]
