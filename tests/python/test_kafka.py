"""Kafka as kafka-python, confluent-kafka (librdkafka) and aiokafka speak it."""

import asyncio
import time
import uuid

import confluent_kafka
import confluent_kafka.admin
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata

from clients import PATIENCE, eventually, read_topic

HEADERS = [("b", b"2"), ("a", b"1"), ("b", b"\xff\x00"), ("empty", b"")]
# What kafka-python needs to compress.
LIBRARIES = {"snappy": "snappy", "lz4": "lz4.frame", "zstd": "zstandard"}
# A minute ago: what is much older is removed by retention, sooner or later.
THEN = int(time.time() - 60) * 1000


@pytest.fixture
def producer(broker):
    it = KafkaProducer(bootstrap_servers=broker.kafka)
    yield it
    it.close()


@pytest.fixture
def admin(broker):
    it = KafkaAdminClient(bootstrap_servers=broker.kafka)
    yield it
    it.close()


def consumer_of(broker, *topics, **settings):
    return KafkaConsumer(
        *topics, bootstrap_servers=broker.kafka, auto_offset_reset="earliest", **settings
    )


def take(consumer, count):
    records = []

    def more():
        for batch in consumer.poll(timeout_ms=500).values():
            records.extend(batch)
        return len(records) >= count

    eventually(more)
    assert len(records) == count
    return records


def confluent(broker, group="", **settings):
    return confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka,
        "group.id": group or uuid.uuid4().hex,
        "auto.offset.reset": "earliest",
        **settings,
    })


def take_confluent(consumer, count):
    records = []

    def more():
        for record in consumer.consume(count - len(records), 0.5):
            assert record.error() is None, record.error()
            records.append(record)
        return len(records) == count

    eventually(more)
    return records


def test_record_comes_back_as_it_was_sent(broker, producer, name):
    sent = producer.send(name, b"value", key=b"key", headers=HEADERS, timestamp_ms=THEN + 123).get(PATIENCE)
    producer.send(name, None, key=b"gone").get(PATIENCE)
    producer.send(name, b"").get(PATIENCE)
    assert (sent.topic, sent.partition, sent.offset) == (name, 0, 0)
    first, tombstone, empty = read_topic(broker, name, 3)
    assert (first.key, first.value, first.timestamp) == (b"key", b"value", THEN + 123)
    assert list(first.headers) == HEADERS
    assert (tombstone.key, tombstone.value) == (b"gone", None)
    assert (empty.key, empty.value) == (None, b"")


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_codecs_of_kafka_python(broker, name, codec):
    if library := LIBRARIES.get(codec):
        pytest.importorskip(library)
    producer = KafkaProducer(bootstrap_servers=broker.kafka, compression_type=codec, linger_ms=20)
    for number in range(200):
        producer.send(name, b"%d" % number * 50)
    producer.close()
    assert [it.value for it in read_topic(broker, name, 200)] == [b"%d" % it * 50 for it in range(200)]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_codecs_of_librdkafka(broker, name, codec):
    producer = confluent_kafka.Producer({
        "bootstrap.servers": broker.kafka, "compression.type": codec, "linger.ms": 20, "enable.idempotence": True,
    })
    for number in range(200):
        producer.produce(name, b"%d" % number * 50, headers=[*HEADERS, ("null", None)])
    assert producer.flush(PATIENCE) == 0
    consumer = confluent(broker)
    consumer.subscribe([name])
    records = take_confluent(consumer, 200)
    consumer.close()
    assert [it.value() for it in records] == [b"%d" % it * 50 for it in range(200)]
    assert records[0].headers() == [*HEADERS, ("null", None)]


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_acks(broker, name, acks):
    producer = KafkaProducer(bootstrap_servers=broker.kafka, acks=acks, enable_idempotence=False)
    for number in range(20):
        producer.send(name, b"%d" % number)
    producer.close()
    assert [it.value for it in read_topic(broker, name, 20)] == [b"%d" % it for it in range(20)]


def test_large_batches(broker, name):
    producer = KafkaProducer(bootstrap_servers=broker.kafka, batch_size=900_000, linger_ms=50)
    for number in range(2_000):
        producer.send(name, b"%06d" % number * 200)
    producer.close()
    records = read_topic(broker, name, 2_000)
    assert [it.offset for it in records] == list(range(2_000))
    assert all(it.value == b"%06d" % it.offset * 200 for it in records)


def test_record_that_is_too_large_is_refused(broker, name):
    producer = confluent_kafka.Producer({
        "bootstrap.servers": broker.kafka, "message.max.bytes": 5_000_000,
    })
    errors = []
    producer.produce(name, bytes(2_000_000), on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(PATIENCE) == 0
    assert errors[0].code() == confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE


def test_topics_are_created_described_and_deleted(broker, admin, name):
    admin.create_topics([NewTopic(name, 3, 1, topic_configs={"retention.ms": "60000"})])
    with pytest.raises(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(name, 3, 1)])
    assert name in admin.list_topics()
    [described] = admin.describe_topics([name])
    assert sorted(it["partition_index"] for it in described["partitions"]) == [0, 1, 2]
    client = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.kafka})
    resource = confluent_kafka.admin.ConfigResource("topic", name)
    configs = client.describe_configs([resource])[resource].result(PATIENCE)
    assert configs["retention.ms"].value == "60000"
    admin.delete_topics([name])
    assert name not in admin.list_topics()
    with pytest.raises(UnknownTopicOrPartitionError):
        admin.delete_topics([name])


def test_admin_of_librdkafka(broker, name):
    client = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.kafka})
    client.create_topics([confluent_kafka.admin.NewTopic(name, 2, 1)])[name].result(PATIENCE)
    metadata = client.list_topics(name, timeout=PATIENCE)
    assert len(metadata.topics[name].partitions) == 2
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        client.create_topics([confluent_kafka.admin.NewTopic(name, 2, 1)])[name].result(PATIENCE)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS
    client.delete_topics([name])[name].result(PATIENCE)


def test_missing_topic_is_not_created_for_a_consumer_that_does_not_ask(broker, name):
    consumer = confluent(broker, **{"allow.auto.create.topics": False})
    consumer.subscribe([name])
    error = eventually(lambda: (record := consumer.poll(0.5)) and record.error())
    assert error.code() == confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART
    consumer.close()


def test_keys_choose_the_partition(broker, admin, producer, name):
    admin.create_topics([NewTopic(name, 4, 1)])
    for number in range(100):
        producer.send(name, b"%d" % number, key=b"key-%d" % (number % 10))
    producer.flush()
    by_key = {}
    for record in read_topic(broker, name, 100):
        by_key.setdefault(record.key, []).append(record)
    assert len(by_key) == 10
    assert len({records[0].partition for records in by_key.values()}) > 1
    for records in by_key.values():
        assert len({it.partition for it in records}) == 1
        assert [int(it.value) for it in records] == sorted(int(it.value) for it in records)


def test_offsets_by_time_and_position(broker, producer, name):
    for number in range(10):
        producer.send(name, b"%d" % number, timestamp_ms=THEN + number * 1000)
        producer.flush()
    consumer, partition = consumer_of(broker), TopicPartition(name, 0)
    consumer.assign([partition])
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition]) == {partition: 10}
    found = consumer.offsets_for_times({partition: THEN + 3_500})[partition]
    assert (found.offset, found.timestamp) == (4, THEN + 4_000)
    assert consumer.offsets_for_times({partition: THEN + 3_600_000})[partition] is None
    consumer.seek(partition, 7)
    assert [it.offset for it in take(consumer, 3)] == [7, 8, 9]
    consumer.seek_to_beginning(partition)
    assert [it.offset for it in take(consumer, 10)] == list(range(10))
    consumer.seek_to_end(partition)
    assert consumer.position(partition) == 10
    consumer.close()


def test_offset_out_of_range_resets(broker, producer, name):
    producer.send(name, b"only").get(PATIENCE)
    consumer, partition = consumer_of(broker), TopicPartition(name, 0)
    consumer.assign([partition])
    consumer.seek(partition, 1_000)
    assert [it.value for it in take(consumer, 1)] == [b"only"]
    consumer.close()


def test_manual_commits_are_where_a_group_goes_on(broker, producer, name):
    for number in range(10):
        producer.send(name, b"%d" % number)
    producer.flush()
    partition = TopicPartition(name, 0)
    first = consumer_of(broker, name, group_id=name, enable_auto_commit=False)
    assert len(take(first, 10)) == 10
    first.commit({partition: OffsetAndMetadata(6, "note", -1)})
    assert first.committed(partition) == 6
    first.close()
    second = consumer_of(broker, name, group_id=name, enable_auto_commit=False)
    assert [it.offset for it in take(second, 4)] == [6, 7, 8, 9]
    second.close()
    other = consumer_of(broker, name, group_id=name + "-other", enable_auto_commit=False)
    assert [it.offset for it in take(other, 10)] == list(range(10))
    other.close()


def test_group_shares_partitions_and_rebalances(broker, admin, name):
    """The second member takes half of the partitions; when it leaves, the first has them all again."""
    admin.create_topics([NewTopic(name, 4, 1)])
    settings = {"group_id": name, "heartbeat_interval_ms": 100, "session_timeout_ms": 6000}
    first, second = consumer_of(broker, name, **settings), consumer_of(broker, name, **settings)

    def shares(*expected):
        def shared():
            for member in (first, second)[: len(expected)]:
                member.poll(timeout_ms=50)
            return tuple(len(it.assignment()) for it in (first, second)[: len(expected)]) == expected

        eventually(shared)

    shares(4)
    shares(2, 2)
    assert first.assignment().isdisjoint(second.assignment())
    second.close()
    shares(4)
    first.close()


def test_group_of_librdkafka_rebalances(broker, admin, producer, name):
    admin.create_topics([NewTopic(name, 2, 1)])
    settings = {"heartbeat.interval.ms": 100, "session.timeout.ms": 6000}
    first, second = confluent(broker, name, **settings), confluent(broker, name, **settings)
    first.subscribe([name])
    second.subscribe([name])
    seen = {0: [], 1: []}

    def both():
        for number, member in enumerate((first, second)):
            if record := member.poll(0.05):
                seen[number].append(record)
        return len(first.assignment()) == len(second.assignment()) == 1

    eventually(both)
    for partition in (0, 1):
        producer.send(name, b"p%d" % partition, partition=partition)
    producer.flush()
    eventually(lambda: both() and seen[0] and seen[1])
    assert {it[0].value() for it in seen.values()} == {b"p0", b"p1"}
    first.close()
    second.close()


def test_waiting_consumer_gets_a_record_promptly(broker, producer, name):
    """The fetch of a consumer that waits is answered by the append, not by its time limit."""
    producer.send(name, b"first").get(PATIENCE)
    consumer = consumer_of(broker, name, fetch_max_wait_ms=2_000 * PATIENCE, request_timeout_ms=3_000 * PATIENCE)
    take(consumer, 1)
    consumer.poll(timeout_ms=50)
    started = time.monotonic()
    producer.send(name, b"second")
    take(consumer, 1)
    assert time.monotonic() - started < PATIENCE
    consumer.close()


def test_log_and_group_survive_a_restart(own_broker):
    broker = own_broker()
    producer = KafkaProducer(bootstrap_servers=broker.kafka)
    for number in range(100):
        producer.send("kept", b"%d" % number)
    producer.close()
    consumer = consumer_of(broker, "kept", group_id="g", enable_auto_commit=False)
    take(consumer, 100)
    consumer.commit({TopicPartition("kept", 0): OffsetAndMetadata(40, "", -1)})
    consumer.close()
    broker.restart()
    consumer = consumer_of(broker, "kept", group_id="g", enable_auto_commit=False)
    assert [it.offset for it in take(consumer, 60)] == list(range(40, 100))
    consumer.close()
    producer = KafkaProducer(bootstrap_servers=broker.kafka)
    assert producer.send("kept", b"next").get(PATIENCE).offset == 100
    producer.close()


def test_clients_go_on_after_a_restart(own_broker):
    """The same producer and consumer, the same addresses, another process."""
    broker = own_broker()
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "reconnect.backoff.max.ms": 200})
    consumer = confluent(broker, **{"reconnect.backoff.max.ms": 200, "session.timeout.ms": 6000})
    producer.produce("t", b"before")
    assert producer.flush(PATIENCE) == 0
    consumer.subscribe(["t"])
    assert take_confluent(consumer, 1)[0].value() == b"before"
    broker.restart()
    producer.produce("t", b"after")
    assert producer.flush(PATIENCE) == 0
    values = []

    def arrived():
        record = consumer.poll(0.5)
        if record and not record.error():
            values.append(record.value())
        return b"after" in values

    eventually(arrived)
    consumer.close()


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_aiokafka(broker, name, codec):
    if codec in LIBRARIES:
        pytest.importorskip("cramjam")
    producer = AIOKafkaProducer(bootstrap_servers=broker.kafka, compression_type=codec, enable_idempotence=True)
    consumer = AIOKafkaConsumer(
        name, bootstrap_servers=broker.kafka, group_id=name, auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with asyncio.timeout(PATIENCE), producer, consumer:
        for number in range(50):
            await producer.send(name, b"%d" % number, key=b"k", headers=[("h", b"%d" % number)])
        await producer.flush()
        records = [await consumer.getone() for _ in range(50)]
        assert [it.value for it in records] == [b"%d" % it for it in range(50)]
        assert records[7].headers == (("h", b"7"),)
        await consumer.commit()
        partition = next(iter(consumer.assignment()))
        assert await consumer.committed(partition) == 50
