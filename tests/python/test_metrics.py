"""docs/metrics.md and `/metrics` say the same: each metric with its type and labels."""

import re
from pathlib import Path

import confluent_kafka
import pika
from confluent_kafka import TopicPartition
from paho.mqtt import client as mqtt

from clients import (
    PATIENCE, Device, eventually, make_durable, pika_channel, publish_properties, read_topic, take,
)
from test_interop_kafka_group_admin import Share, create, produce
from test_lag import series

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge) \| ((?:`[a-z_]+`(?:, )?)*) ?\| ([^|]+) \| (.+) \|$")
SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? ')


def documented():
    """Types and labels by name; the page has each name once."""
    found = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            row = ROW.match(line)
            assert row, line
            name, kind, labels, _unit, _meaning = row.groups()
            assert name not in found, name
            found[name] = kind, tuple(re.findall("[a-z_]+", labels))
    return found


def scraped(broker):
    """Types and labels by name; all samples of a name have the same labels."""
    types, found = {}, {}
    for line in broker.metrics().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            types[name] = kind
        elif not line.startswith("#"):
            name, labels = SAMPLE.match(line).groups()
            labels = tuple(re.findall(r'([a-z_]+)="(?:[^"\\]|\\.)*"', labels or ""))
            assert found.setdefault(name, (types[name], labels)) == (types[name], labels), line
    return found


def test_the_page_names_every_metric_and_no_other(own_broker, name):
    broker = own_broker(otlp__endpoint="http://127.0.0.1:9", otlp__sample_ratio=1)
    create(broker, name)
    produce(broker, name, ["a", "b", "c"])
    consumers = []
    for protocol in ("classic", "consumer"):
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka, "group.id": protocol, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "group.protocol": protocol})
        consumer.subscribe([name])
        consumers.append(consumer)
        eventually(lambda consumer=consumer: consumer.poll(0.2))
        consumer.commit(offsets=[TopicPartition(name, 0, 1)], asynchronous=False)
    member = Share(broker, "share", name)
    with pika_channel(broker) as channel, Device(broker, "reader", clean=False, expiry=3600) as device:
        eventually(lambda: member.poll() or series(broker, "trivium_group_members", kind="share"))
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "amq.topic", name)
        channel.queue_declare("cursor", durable=True, arguments={"x-queue-type": "cursor", "x-source": name})
        channel.queue_declare("stream", durable=True, arguments={"x-queue-type": "stream"})
        channel.basic_publish("", "stream", b"x")
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("stream", lambda ch, method, *_: ch.basic_ack(method.delivery_tag),
                              arguments={"x-group": "follower", "x-stream-offset": "first"})
        eventually(lambda: channel.connection.process_data_events(0.1) or series(broker, "trivium_group_offset", kind="stream"))
        device.subscribe(f"$stream/{name}", f"$share/g/$stream/{name}", "a/#")
        device.publish("a/b", b"kept", retain=True)
        produce(broker, name, ["d"])
        assert [body for *_, body in take(channel, "q", 1)] == [b"d"]
        kinds = {"classic", "consumer", "share", "stream", "cursor"}
        eventually(lambda: all(series(broker, "trivium_group_lag", kind=kind) for kind in kinds))
        found, page = scraped(broker), documented()
        assert sorted(set(found) - set(page)) == [], "metrics that the page does not name"
        assert sorted(set(page) - set(found)) == [], "names that are no metric"
        assert found == page
    member.close()
    for consumer in consumers:
        consumer.close()


def test_labels_stay_when_members_go(own_broker, name):
    """A group whose members are away is the series that it was, also after a kill."""
    broker = own_broker()
    create(broker, name)
    produce(broker, name, ["a", "b", "c"])
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "consumer", "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "group.protocol": "consumer"})
    consumer.subscribe([name])
    eventually(lambda: consumer.poll(0.2))
    consumer.commit(offsets=[TopicPartition(name, 0, 1)], asynchronous=False)
    with Device(broker, "reader", clean=False, expiry=3600) as device:
        device.subscribe(f"$stream/{name}?offset=first")
        assert len(device.take(3)) == 3
        eventually(lambda: series(broker, "trivium_group_offset", kind="stream") == [3])
    with Device(broker, "worker") as device:
        device.subscribe(f"$share/g/$stream/{name}?offset=first")
        assert len(device.take(3)) == 3
        eventually(lambda: series(broker, "trivium_group_lag", kind="cursor") == [0])
    consumer.close()

    def kinds():
        lines = [line for line in broker.metrics().splitlines() if line.startswith("trivium_group_members{")]
        return sorted((re.search('kind="([a-z]+)"', it)[1], float(it.rsplit(" ", 1)[1])) for it in lines)

    away = [("consumer", 0), ("cursor", 0), ("stream", 0)]
    eventually(lambda: kinds() == away)
    produce(broker, name, ["d"])
    make_durable(broker)
    broker.kill()
    broker.start()
    assert kinds() == away
    assert series(broker, "trivium_group_offset", kind="consumer", group="consumer") == [1]
    assert series(broker, "trivium_group_offset", kind="stream", group="mqtt.reader") == [3]
    # It is what it becomes: members of another protocol.
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "mqtt.reader", "group.protocol": "classic",
        "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.subscribe([name])
    eventually(lambda: consumer.poll(0.2))
    assert series(broker, "trivium_group_offset", group="mqtt.reader", kind="classic") == [3]
    consumer.close()


def conversions(broker):
    """What was converted and what was left out, by the protocols on both ends."""
    lines = broker.metrics().splitlines()
    found = {}
    for name, short in (("messages_converted", "converted"), ("headers_dropped", "dropped")):
        pattern = re.compile(rf'^trivium_{name}_total\{{from="([a-z]+)",to="([a-z]+)"\}} ([0-9]+)$')
        for line in filter(None, map(pattern.match, lines)):
            sender, receiver, count = line.groups()
            if int(count):
                found[f"{short} {sender} {receiver}"] = int(count)
    return found


def test_conversions_and_what_they_leave_out_are_counted(own_broker, name):
    """Reference: one message of each protocol to all three; within a protocol nothing is converted."""
    broker = own_broker()
    key, topic = f"{name}.a", f"{name}/a"
    create(broker, key)
    with pika_channel(broker) as channel, Device(broker) as device, Device(broker, version=mqtt.MQTTv311) as old:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", key)
        channel.confirm_delivery()
        for it in (device, old):
            it.subscribe(topic)

        def all_got_it():
            assert len(take(channel, queue, 1)) == len(device.take(1)) == len(old.take(1)) == 1

        headers = {"small": "v", "large": "v" * 65_536}
        channel.basic_publish("amq.topic", key, b"x", pika.BasicProperties(headers=headers))
        all_got_it()
        expected = {"converted amqp kafka": 1, "converted amqp mqtt": 2, "dropped amqp mqtt": 1 + 2}
        eventually(lambda: conversions(broker) == expected)

        user = [("n" * 256, "v"), ("small", "v")]
        device.publish(topic, b"x", properties=publish_properties(UserProperty=user))
        all_got_it()
        expected |= {"converted mqtt kafka": 1, "converted mqtt amqp": 1, "dropped mqtt amqp": 1}
        eventually(lambda: conversions(broker) == expected)

        producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
        producer.produce(key, b"x", headers=[("n" * 256, b"v"), ("small", b"v"), ("large", b"v" * 65_536)])
        assert producer.flush(PATIENCE) == 0
        all_got_it()
        expected |= {"converted kafka amqp": 1, "dropped kafka amqp": 1}
        expected |= {"converted kafka mqtt": 2, "dropped kafka mqtt": 1 + 3}
        eventually(lambda: conversions(broker) == expected)
        assert len(read_topic(broker, key, 3)) == 3
        assert conversions(broker) == expected
