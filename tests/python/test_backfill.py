"""Bindings by way of a log: `x-backfill` (docs/across.md)."""

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pika.exceptions import ChannelClosedByBroker

from clients import PATIENCE, eventually, pika_channel, take

BACKFILL = {"x-backfill": "first"}


def topic(broker, name, partitions=1):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(PATIENCE)


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
