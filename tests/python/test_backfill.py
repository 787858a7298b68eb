"""Bindings by way of a log: `x-backfill` (docs/across.md)."""

import threading

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pika.exceptions import ChannelClosedByBroker

from clients import PATIENCE, bodies, eventually, pika_channel, take

BACKFILL = {"x-backfill": "first"}


def topic(broker, name, partitions=1, **settings):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    settings = {setting.replace("_", "."): value for setting, value in settings.items()}
    admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(PATIENCE)


def produce(broker, name, numbers, partition=0):
    producer = Producer({"bootstrap.servers": broker.kafka, "acks": "all"})
    for number in numbers:
        producer.produce(name, b"%d" % number, partition=partition)
        producer.poll(0)
    assert producer.flush(PATIENCE) == 0


def test_a_new_queue_begins_with_what_a_topic_has(broker, name):
    """Produced by Kafka and published by AMQP, before and after the binding, in the order of the log."""
    topic(broker, name)
    produce(broker, name, range(5))
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", name, b"5")
        channel.queue_declare(f"{name}.audit", durable=True)
        channel.queue_bind(f"{name}.audit", "amq.topic", name, arguments=BACKFILL)
        produce(broker, name, [6])
        channel.basic_publish("amq.topic", name, b"7")
        produce(broker, name, [8])
        found = take(channel, f"{name}.audit", 9)
        assert [int(body) for _, _, body in found] == list(range(9))
        assert found[0][1].headers["x-stream-offset"] == 0


@pytest.mark.parametrize("arguments, code", [
    ({"x-backfill": "soon"}, 406), ({"x-backfill": "first", "x-source": "none-of-this-name"}, 404),
])
def test_what_makes_no_sense_is_refused(broker, name, arguments, code):
    with pika_channel(broker) as channel:
        channel.queue_declare(name, durable=True)
        with pytest.raises(ChannelClosedByBroker) as refused:
            channel.queue_bind(name, "amq.topic", name, arguments=arguments)
        assert refused.value.reply_code == code


def test_records_of_aborted_transactions_never_arrive(broker, name):
    """Neither those that are there nor those that come; what is open arrives when it is committed, in its place."""
    queue = f"{name}-queue"
    topic(broker, name)
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions(PATIENCE)

    def transact(values, end):
        producer.begin_transaction()
        for value in values:
            producer.produce(name, value)
        assert producer.flush(PATIENCE) == 0
        end(PATIENCE)

    transact([b"a", b"b"], producer.commit_transaction)
    transact([b"no"], producer.abort_transaction)
    with pika_channel(broker) as channel:
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, "amq.topic", name, arguments=BACKFILL)
        assert bodies(take(channel, queue, 2)) == [b"a", b"b"]
        transact([b"never"], producer.abort_transaction)
        producer.begin_transaction()
        producer.produce(name, b"c")
        assert producer.flush(PATIENCE) == 0
        produce(broker, name, [1])
        assert channel.basic_get(queue)[0] is None
        producer.commit_transaction(PATIENCE)
        assert bodies(take(channel, queue, 2)) == [b"c", b"1"]
        assert channel.basic_get(queue)[0] is None


def test_a_compacted_log_gives_what_it_has_kept(broker, name):
    queue = f"{name}-queue"
    topic(broker, name, cleanup_policy="compact", min_cleanable_dirty_ratio="0", segment_ms="1", min_compaction_lag_ms="0")
    producer = Producer({"bootstrap.servers": broker.kafka})
    for number in range(300):
        producer.produce(name, b"%d" % number, key=b"%d" % (number % 3))
    assert producer.flush(PATIENCE) == 0
    with pika_channel(broker) as channel:
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, "amq.topic", name, arguments=BACKFILL)
        found = []

        def has_all():
            while (got := channel.basic_get(queue, auto_ack=True))[0]:
                found.append(int(got[2]))
            return 299 in found

        eventually(has_all)
        # However much of it has been compacted by then: in order, once, and the newest of each key.
        assert found == sorted(set(found)) and {297, 298, 299} <= set(found)


@pytest.mark.parametrize("end", ["unbind", "delete"])
def test_a_binding_or_its_queue_goes_in_the_middle(broker, name, end):
    queue = f"{name}-queue"
    topic(broker, name)
    produce(broker, name, range(20_000))
    with pika_channel(broker) as channel:
        for _ in range(3):
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, "amq.topic", name, arguments=BACKFILL)
            if end == "unbind":
                channel.queue_unbind(queue, "amq.topic", name, arguments=BACKFILL)
            channel.queue_delete(queue)
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "amq.topic", name, arguments=BACKFILL)
        found = take(channel, queue, 20_000)
        assert [int(body) for _, _, body in found] == list(range(20_000))
        assert channel.basic_get(queue)[0] is None
        channel.queue_delete(queue)


def test_kill_while_a_producer_is_at_work(own_broker):
    """An idempotent producer goes on through the kills: its records are in the queue as they are in the log."""
    broker = own_broker()
    topic(broker, "log")
    with pika_channel(broker) as channel:
        channel.queue_declare("filled", durable=True)
        channel.queue_bind("filled", "amq.topic", "log", arguments=BACKFILL)
    producer = Producer({"bootstrap.servers": broker.kafka, "enable.idempotence": True, "linger.ms": 1,
                         "metadata.recovery.strategy": "none", "reconnect.backoff.max.ms": 200})
    sent, stopping = [], threading.Event()

    def work():
        while not stopping.is_set():
            producer.produce("log", b"%d" % len(sent))
            sent.append(len(sent))
            producer.poll(0.001)

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(3):
        before = len(sent)
        eventually(lambda: len(sent) > before + 300)
        broker.kill()
        broker.start()
    stopping.set()
    worker.join()
    assert producer.flush(PATIENCE) == 0
    with pika_channel(broker) as channel:
        found = take(channel, "filled", len(sent))
        assert [int(body) for _, _, body in found] == sent
        assert channel.basic_get("filled")[0] is None


def test_kill_in_the_middle(own_broker):
    """However often the broker dies meanwhile, each record arrives once and in the order of its partition."""
    broker = own_broker()
    topic(broker, "log", 2)
    each = 30_000
    for partition in range(2):
        produce(broker, "log", range(each), partition)
    with pika_channel(broker) as channel:
        channel.queue_declare("filled", durable=True)
        channel.queue_bind("filled", "amq.topic", "log", arguments=BACKFILL)
    more = 0

    def count():
        with pika_channel(broker) as channel:
            return channel.queue_declare("filled", passive=True).method.message_count

    seen = []
    for _ in range(3):
        seen.append(count())
        broker.kill()
        broker.start()
        for partition in range(2):
            produce(broker, "log", range(each + more, each + more + 100), partition)
        more += 100
    total = 2 * (each + more)
    eventually(lambda: count() >= total)
    by_partition = {0: [], 1: []}
    with pika_channel(broker) as channel:
        for _, properties, body in take(channel, "filled", total):
            by_partition[properties.headers["x-stream-partition"]].append(int(body))
        assert channel.basic_get("filled")[0] is None
    for found in by_partition.values():
        assert found == list(range(each + more)), f"killed at {seen}"
