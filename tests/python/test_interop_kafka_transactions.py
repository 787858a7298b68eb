"""Transactions as librdkafka, aiokafka and kafka-python do them (KIP-98, KIP-447, KIP-890)."""

import asyncio
import uuid

import confluent_kafka
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaProducer

from clients import PATIENCE, eventually


def transactional(broker, identity, **settings):
    producer = confluent_kafka.Producer({
        "bootstrap.servers": broker.kafka,
        "transactional.id": identity,
        **settings,
    })
    producer.init_transactions(PATIENCE)
    return producer


def reader(broker, topic, isolation="read_committed"):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka,
        "group.id": uuid.uuid4().hex,
        "auto.offset.reset": "earliest",
        "isolation.level": isolation,
        "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(topic, PATIENCE).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    return consumer


def read_to_end(broker, topic, isolation="read_committed"):
    """What an application sees up to the end that there is for it."""
    consumer = reader(broker, topic, isolation)
    values, ended, wanted = [], set(), len(consumer.assignment())

    def is_over():
        for message in consumer.consume(500, 0.5):
            if message.error() is None:
                values.append(message.value().decode())
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
        return len(ended) == wanted

    eventually(is_over)
    consumer.close()
    return values


def create(broker, topic, partitions):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(PATIENCE)


def test_commits_are_seen_and_aborts_are_not(broker, name):
    create(broker, name, 3)
    producer = transactional(broker, name)
    for round_number in range(6):
        producer.begin_transaction()
        for number in range(30):
            producer.produce(name, f"{round_number}-{number}", partition=number % 3)
        producer.flush(PATIENCE)
        if round_number % 2:
            producer.abort_transaction(PATIENCE)
        else:
            producer.commit_transaction(PATIENCE)
    expected = sorted(f"{r}-{n}" for r in (0, 2, 4) for n in range(30))
    assert sorted(read_to_end(broker, name)) == expected
    assert len(read_to_end(broker, name, "read_uncommitted")) == 180


def test_an_open_transaction_ends_what_readers_see(broker, name):
    create(broker, name, 1)
    producer = transactional(broker, name)
    producer.begin_transaction()
    producer.produce(name, "open")
    producer.flush(PATIENCE)
    plain = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
    plain.produce(name, "behind it")
    plain.flush(PATIENCE)
    assert read_to_end(broker, name) == []
    consumer = reader(broker, name)
    assert consumer.get_watermark_offsets(TopicPartition(name, 0), PATIENCE) == (0, 0)
    consumer.close()
    producer.commit_transaction(PATIENCE)
    assert read_to_end(broker, name) == ["open", "behind it"]


def test_a_new_producer_fences_the_old_one(broker, name):
    create(broker, name, 1)
    old = transactional(broker, name)
    old.begin_transaction()
    old.produce(name, "lost")
    old.flush(PATIENCE)
    new = transactional(broker, name)
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        old.commit_transaction(PATIENCE)
    assert refused.value.args[0].fatal()
    new.begin_transaction()
    new.produce(name, "kept")
    new.commit_transaction(PATIENCE)
    assert read_to_end(broker, name) == ["kept"]


def test_a_transaction_whose_time_is_up_is_aborted(broker, name):
    create(broker, name, 1)
    producer = transactional(broker, name, **{"transaction.timeout.ms": 4000, "message.timeout.ms": 4000})
    producer.begin_transaction()
    producer.produce(name, "late")
    producer.flush(PATIENCE)
    eventually(lambda: "aborted: its time is up" in "".join(broker.log))
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        producer.commit_transaction(PATIENCE)
    assert refused.value.args[0].fatal()
    assert read_to_end(broker, name) == []


def test_offsets_are_committed_with_what_was_made_of_the_input(broker, name):
    source, sink = name, name + "-out"
    create(broker, source, 2)
    create(broker, sink, 2)
    plain = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
    for number in range(40):
        plain.produce(source, str(number), partition=number % 2)
    plain.flush(PATIENCE)
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka,
        "group.id": name,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    })
    consumer.subscribe([source])
    producer = transactional(broker, name)
    done, rounds = [], 0

    def work():
        nonlocal rounds
        messages = [m for m in consumer.consume(7, 0.5) if m.error() is None]
        if not messages:
            return len(done) == 40
        rounds += 1
        producer.begin_transaction()
        for message in messages:
            producer.produce(sink, message.value())
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), PATIENCE
        )
        if rounds == 2:
            producer.abort_transaction(PATIENCE)
            for partition in consumer.committed(consumer.assignment(), PATIENCE):
                partition.offset = max(partition.offset, 0)
                consumer.seek(partition)
        else:
            producer.commit_transaction(PATIENCE)
            done.extend(message.value().decode() for message in messages)
        return len(done) == 40

    eventually(work)
    committed = consumer.committed([TopicPartition(source, 0), TopicPartition(source, 1)], PATIENCE)
    assert [partition.offset for partition in committed] == [20, 20]
    consumer.close()
    assert sorted(read_to_end(broker, sink), key=int) == [str(number) for number in range(40)]


def test_transactions_survive_the_broker(own_broker, name):
    broker = own_broker()
    create(broker, name, 2)
    producer = transactional(broker, name)
    producer.begin_transaction()
    producer.produce(name, "aborted", partition=0)
    producer.flush(PATIENCE)
    producer.abort_transaction(PATIENCE)
    producer.begin_transaction()
    producer.produce(name, "before", partition=0)
    producer.flush(PATIENCE)
    broker.kill()
    broker.start()
    assert read_to_end(broker, name) == []
    producer.produce(name, "after", partition=1)
    producer.commit_transaction(PATIENCE)
    broker.kill()
    broker.start()
    assert sorted(read_to_end(broker, name)) == ["after", "before"]


def test_aiokafka_commits_and_aborts(broker, name):
    async def run():
        producer = AIOKafkaProducer(bootstrap_servers=broker.kafka, transactional_id=name)
        await producer.start()
        try:
            async with producer.transaction():
                await producer.send_and_wait(name, b"kept")
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction():
                    await producer.send_and_wait(name, b"dropped")
                    raise ZeroDivisionError
        finally:
            await producer.stop()

    asyncio.run(run())
    assert read_to_end(broker, name) == ["kept"]


def test_kafka_python_commits_and_aborts(broker, name):
    producer = KafkaProducer(bootstrap_servers=broker.kafka, transactional_id=name)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(name, b"kept").get(PATIENCE)
    producer.commit_transaction()
    producer.begin_transaction()
    producer.send(name, b"dropped").get(PATIENCE)
    producer.abort_transaction()
    producer.close()
    assert read_to_end(broker, name) == ["kept"]
