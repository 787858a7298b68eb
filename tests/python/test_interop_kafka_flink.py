"""Apache Flink: a job that copies a topic exactly once, by a transaction for each of its checkpoints."""

import subprocess
import time
from collections import Counter

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import interop
from clients import PATIENCE
from kafka_java import COPY

COUNT, ROUNDS = 2000, 3
# From the start of a virtual machine to the first checkpoint, and from a kill to the next one.
SOON = 240
OPEN = ["--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED"]


@pytest.fixture(scope="module")
def java():
    """The command that runs the job; skips where there is no Java."""
    interop.need("java", "javac", "mvn")
    source = interop.PROGRAMS / "flink" / "CopyJob.java"

    def install(place):
        fetch = ["mvn", "-B", "-q", COPY, "-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}"]
        compile = ["javac", "-nowarn", "-cp", f"{place}/jars/*", "-d", f"{place}/classes", str(source)]
        return ["sh", "-ec", '"$@"; exec ' + " ".join(f"'{it}'" for it in compile), "sh", *fetch]

    place = interop.installed("flink", install, ["pom.xml", "CopyJob.java"])
    return ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", *OPEN, "-cp", f"{place}/classes:{place}/jars/*"]


def fill(broker, topic, first):
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "enable.idempotence": True})
    for number in range(first, first + COUNT):
        producer.produce(topic, str(number))
    assert producer.flush(PATIENCE) == 0


class Committed:
    """What has been committed to a topic, each value with how often it is there."""

    def __init__(self, broker, topic):
        self.seen = Counter()
        self._consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka, "group.id": f"{topic}-reader", "auto.offset.reset": "earliest",
            "isolation.level": "read_committed", "enable.auto.commit": False,
        })
        self._consumer.subscribe([topic])

    def wait_for(self, count, job):
        """Reads until there are so many values."""
        deadline = time.monotonic() + SOON
        while len(self.seen) < count:
            assert time.monotonic() < deadline, f"{len(self.seen)} of {count}"
            assert job.poll() is None, "the job has ended"
            record = self._consumer.poll(0.5)
            if record is not None and record.error() is None:
                self.seen[int(record.value())] += 1

    def close(self):
        self._consumer.close()


def test_a_job_copies_exactly_once(java, own_broker, name, tmp_path):
    """Over failures of the job, which begins again at its last checkpoint, and kills of the broker."""
    broker, source, target = own_broker(), f"{name}-in", f"{name}-out"
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    for done in admin.create_topics([NewTopic(source, 4, 1), NewTopic(target, 4, 1)]).values():
        done.result(PATIENCE)
    with open(tmp_path / "flink.log", "wb") as log:
        job = subprocess.Popen(
            [*java, "CopyJob", broker.kafka, source, target, str(tmp_path / "checkpoints"), str(COUNT + COUNT // 2)],
            stdout=log, stderr=log,
        )
    committed = Committed(broker, target)
    try:
        for first in range(0, ROUNDS * COUNT, COUNT):
            fill(broker, source, first)
            committed.wait_for(first + 1, job)
            broker.kill()
            broker.start()
        committed.wait_for(ROUNDS * COUNT, job)
    finally:
        committed.close()
        job.kill()
        job.wait()
    assert committed.seen == Counter(range(ROUNDS * COUNT))
