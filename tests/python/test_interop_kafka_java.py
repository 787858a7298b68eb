"""Java: Kafka Streams, share consumers and what consoles ask, by the clients of Apache Kafka 4.3."""

import subprocess
import threading
import time
from collections import Counter

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import interop
import kafka_java
from clients import PATIENCE, eventually
from test_interop_kafka_transactions import read_to_end

SHARES = ["records_are_shared", "release_and_reject", "delivery_count_is_limited", "closing_gives_back"]
CONSOLES = ["brokers_page", "topics_page", "messages_page", "groups_page"]


@pytest.fixture(scope="module")
def java():
    """The command that runs a class."""
    return kafka_java.command()


def test_share_consumers(java, broker, name):
    interop.tell([*java, "ShareStories"], SHARES, broker, name, {"KAFKA": broker.kafka})


def test_requests_of_consoles(java, broker, name):
    interop.tell([*java, "ConsoleStories"], CONSOLES, broker, name, {"KAFKA": broker.kafka})


class Streams:
    """The application, which is killed and started again."""

    def __init__(self, java, broker, name, state, guarantee):
        self.command = [*java, "StreamsApp", broker.kafka, name, str(state), guarantee]
        self.output = []
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.output.extend, args=(self.process.stdout,), daemon=True).start()

    def kill(self):
        self.process.kill()
        self.process.wait()


def counts(broker, topic):
    """The newest count of each word."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": topic, "auto.offset.reset": "earliest",
        "isolation.level": "read_committed", "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(topic, PATIENCE).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, it, 0) for it in partitions])
    found, ended = {}, set()
    deadline = time.monotonic() + PATIENCE
    while len(ended) < len(partitions) and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            if message.error() is None:
                found[message.key().decode()] = int.from_bytes(message.value(), "big")
            else:
                ended.add(message.partition())
    consumer.close()
    return found


def test_streams_counts_exactly_once_though_both_are_killed(java, own_broker, name, tmp_path):
    """A word count and a copy, exactly once: the application, the broker, and both at once end by SIGKILL."""
    broker = own_broker()
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    topics = [NewTopic(f"{name}-{it}", 2) for it in ("in", "copy", "counts")]
    for created in admin.create_topics(topics).values():
        created.result(PATIENCE)
    words = ["red", "green", "blue"]
    app = Streams(java, broker, name, tmp_path / "state", "exactly_once_v2")
    total = 0

    def copied():
        assert app.process.poll() is None, "".join(app.output)
        return read_to_end(broker, f"{name}-copy")

    try:
        for killed in ([app], [broker], [broker, app], []):
            producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
            before = total
            for number in range(300):
                producer.produce(f"{name}-in", f"{words[number % 3]} {total}", key=str(number))
                total += 1
            assert producer.flush(PATIENCE) == 0
            eventually(lambda: len(copied()) > before)  # noqa: B023
            for it in killed:
                it.kill()
            for it in killed:
                it.start()
        eventually(lambda: len(copied()) >= total)
        assert Counter(copied()) == Counter(f"{words[it % 3]} {it}" for it in range(total)), "each once"
        expected = {word: total // 3 for word in words} | {str(it): 1 for it in range(total)}
        eventually(lambda: counts(broker, f"{name}-counts") == expected)
    finally:
        app.kill()
