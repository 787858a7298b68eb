"""Apache Kafka beside Trivium while applications move: MirrorMaker 2 copies topics and the positions of groups."""

import queue
import subprocess
import threading
import time
from collections import Counter

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

import interop
import kafka_java
from apache_kafka import ApacheKafka
from clients import PATIENCE, eventually

PARTITIONS, COUNT = 3, 3000
# Of the first record, in milliseconds; what is much older than now would be deleted by retention.
START = int(time.time() * 1000) - 60_000
RETENTION = "777000000"
# MirrorMaker starts three Connect workers' worth of topics and clients before it copies anything.
SOON = 240


@pytest.fixture(scope="module")
def apache(tmp_path_factory):
    """A node of Apache Kafka."""
    node = ApacheKafka(tmp_path_factory.mktemp("kafka") / "node", kafka_java.jars()).start()
    yield node
    node.close()


class MirrorMaker:
    """Copies the topics that begin with a name, each record once, and what their groups have committed."""

    def __init__(self, old, new, name, directory):
        settings = directory / "mirror.properties"
        lines = {
            "clusters": "old,new",
            "old.bootstrap.servers": old,
            "new.bootstrap.servers": new,
            "old->new.enabled": "true",
            "new->old.enabled": "false",
            "old->new.topics": f"{name}.*",
            "old->new.groups": f"{name}.*",
            "new.exactly.once.source.support": "enabled",
            "dedicated.mode.enable.internal.rest": "true",
            "listeners": "http://127.0.0.1:0",
            "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
            "replication.factor": 1,
            "checkpoints.topic.replication.factor": 1,
            "heartbeats.topic.replication.factor": 1,
            "offset-syncs.topic.replication.factor": 1,
            "offset.storage.replication.factor": 1,
            "status.storage.replication.factor": 1,
            "config.storage.replication.factor": 1,
            "sync.group.offsets.enabled": "true",
            "sync.group.offsets.interval.seconds": 1,
            "emit.checkpoints.interval.seconds": 1,
            "emit.heartbeats.enabled": "false",
            "refresh.topics.interval.seconds": 1,
            "refresh.groups.interval.seconds": 1,
            "sync.topic.configs.interval.seconds": 1,
            "offset.lag.max": 0,
            "offset.flush.interval.ms": 1000,
        }
        settings.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        self._output = []
        self._process = subprocess.Popen(
            ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{kafka_java.jars()}/*",
             "org.apache.kafka.connect.mirror.MirrorMaker", str(settings)],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=directory,
        )
        interop.drain(self._process.stdout, self._output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        print("".join(self._output)[-5000:])


class Mirrored(threading.Thread):
    """What arrives in a topic, with a consumer that waits for the topic to appear."""

    def __init__(self, broker, topic):
        super().__init__(daemon=True)
        self.records, self.ending = queue.Queue(), threading.Event()
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka, "group.id": f"{topic}-reader", "auto.offset.reset": "earliest",
            "isolation.level": "read_committed", "topic.metadata.refresh.interval.ms": 500,
            "enable.auto.commit": False,
        })
        self.consumer.subscribe([topic])
        self.start()

    def run(self):
        while not self.ending.is_set():
            record = self.consumer.poll(0.2)
            if record is not None and record.error() is None:
                self.records.put(record)
        self.consumer.close()

    def take(self, count):
        return [self.records.get(timeout=SOON) for _ in range(count)]

    def end(self):
        self.ending.set()
        self.join(PATIENCE)


def fill(apache, topic, first=0):
    producer = confluent_kafka.Producer({"bootstrap.servers": apache.kafka, "compression.type": "gzip", "linger.ms": 5})
    for number in range(first, first + COUNT):
        producer.produce(
            topic, f"v{number}", f"k{number % 100}", partition=number % PARTITIONS, timestamp=START + number,
            headers=[("number", str(number).encode()), ("none", None), ("number", b"again")],
        )
    assert producer.flush(SOON) == 0


def numbered(record):
    number = int(record.value()[1:])
    assert record.key() == f"k{number % 100}".encode()
    assert record.partition() == number % PARTITIONS
    assert record.timestamp() == (confluent_kafka.TIMESTAMP_CREATE_TIME, START + number)
    assert record.headers() == [("number", str(number).encode()), ("none", None), ("number", b"again")]
    return number


def read_all(apache, topic, group):
    """A group that has read and committed everything."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": apache.kafka, "group.id": group})
    positions = [confluent_kafka.TopicPartition(topic, it, 2 * COUNT // PARTITIONS) for it in range(PARTITIONS)]

    def is_committed():
        try:
            return consumer.commit(offsets=positions, asynchronous=False)
        except confluent_kafka.KafkaException as error:
            # The first group of a new node waits for its coordinator.
            assert error.args[0].retriable() or error.args[0].code() == confluent_kafka.KafkaError.NOT_COORDINATOR
            return None
    eventually(is_committed)
    consumer.close()


def ends(broker, topic):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "nobody"})
    partitions = [confluent_kafka.TopicPartition(topic, it) for it in range(PARTITIONS)]
    found = [consumer.get_watermark_offsets(it, PATIENCE)[1] for it in partitions]
    consumer.close()
    return found


def committed(broker, topic, group):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": group})
    asked = [confluent_kafka.TopicPartition(topic, it) for it in range(PARTITIONS)]
    found = [it.offset for it in consumer.committed(asked, PATIENCE)]
    consumer.close()
    return found


def test_mirror_maker_brings_topics_and_groups(apache, own_broker, name, tmp_path):
    """Records are the same and there once, over a kill -9 in the middle; settings and positions follow."""
    broker, topic, group = own_broker(), f"{name}-orders", f"{name}-billing"
    old = AdminClient({"bootstrap.servers": apache.kafka})
    old.create_topics([NewTopic(topic, PARTITIONS, 1, config={"retention.ms": RETENTION})])[topic].result(PATIENCE)
    fill(apache, topic)
    with MirrorMaker(apache.kafka, broker.kafka, name, tmp_path):
        mirrored = Mirrored(broker, topic)
        seen = Counter(map(numbered, mirrored.take(100)))
        broker.kill()
        broker.start()
        fill(apache, topic, COUNT)
        seen.update(map(numbered, mirrored.take(2 * COUNT - 100)))
        assert seen == Counter(range(2 * COUNT))
        assert mirrored.records.empty()
        mirrored.end()

        # A position is translated to where the group has certainly been: not before the first, not beyond the last.
        read_all(apache, topic, group)
        eventually(lambda: min(committed(broker, topic, group)) > 0, within=SOON)
        assert all(here <= end for here, end in zip(committed(broker, topic, group), ends(broker, topic), strict=True))

        resource = ConfigResource(ResourceType.TOPIC, topic)
        new = AdminClient({"bootstrap.servers": broker.kafka})

        def retention():
            settings = new.describe_configs([resource])[resource].result(PATIENCE)
            return settings["retention.ms"].value == RETENTION
        eventually(retention, within=SOON)
