"""Consoles and monitors that people look at: Kaskade, a console for a terminal, and kafkatop, which tells the lag of groups.

Both use librdkafka as it is; they are installed on first use below $TRIVIUM_INTEROP.
"""

import json
import subprocess
import sys

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import interop

RECORDS, READ, PARTITIONS = 30, 10, 3


@pytest.fixture(scope="module")
def consoles():
    def install(place):
        python = place / "venv/bin/python"
        packages = f"'{python}' -m pip install -q --disable-pip-version-check -r requirements.txt"
        return ["sh", "-c", f"'{sys.executable}' -m venv --clear '{place}/venv' && {packages}"]

    return interop.installed("kafka-consoles", install, ("requirements.txt",)) / "venv/bin"


@pytest.fixture
def watched(broker, name):
    """A topic that a member of a group has read a part of."""
    server = {"bootstrap.servers": broker.kafka}
    topic = NewTopic(name, PARTITIONS, config={"retention.ms": "3600000"})
    admin = AdminClient(server)
    admin.create_topics([topic])[name].result(30)
    producer = Producer(server)
    for number in range(RECORDS):
        producer.produce(name, f"{number}", partition=number % PARTITIONS)
    producer.flush(30)
    consumer = Consumer({
        **server, "group.id": name, "client.id": "watched", "auto.offset.reset": "earliest", "enable.auto.commit": False,
    })
    consumer.subscribe([name])
    assert consumer.consume(1, 30)
    read = {0: READ, 1: 0, 2: 0}
    consumer.commit(offsets=[TopicPartition(name, *it) for it in read.items()], asynchronous=False)
    yield name
    consumer.close()


def test_kaskade_shows_and_changes_topics(consoles, broker, watched):
    program = [consoles / "python", interop.PROGRAMS / "kafka-consoles/kaskade_pages.py"]
    stories = ["topics", "details", "create-and-delete"]
    interop.tell(program, stories, broker, watched, {"BOOTSTRAP": broker.kafka, "TERM": "xterm-256color"})


def test_kafkatop_tells_the_lag_of_groups(consoles, broker, watched):
    def run(*flags):
        command = [consoles / "kafkatop", "--kafka-broker", broker.kafka, *flags]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=interop.RUN_WITHIN)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    group = run("--summary-json", "--all")[watched]
    assert group["state"].endswith("STABLE")
    assert group["topics"] == {watched: {"partitions": PARTITIONS, "lag_max": 10, "lag_min": 0}}
    topic = run("--topicinfo-parts", "--text")["topics"][watched]
    assert [(it["leader"], it["nisrs"]) for it in topic["partinfo"]] == [(1, 1)] * PARTITIONS
