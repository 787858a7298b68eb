"""What Produce and administrators' requests are answered, and what is stored of odd batches, beside the recorded answers
of Apache Kafka 4.3.1. With TEST_KAFKA_JARS, a folder of its jars, it is asked again itself."""

import json
import os

import pytest

import kafka_answers
import kafka_batches
from apache_kafka import ApacheKafka

JARS = os.environ.get("TEST_KAFKA_JARS")
CASES = kafka_batches.all_cases()
GROUPS = sorted({name.split(":")[0] if ":" in name else "" for name in CASES})

# What a compressed record says of its length is passed over by Kafka's broker, and stops its consumers.
UNREADABLE = [
    f"{codec}: {what}" for codec in ("gzip", "snappy", "lz4", "zstd") for what in (
        "a record longer than it is", "a record shorter than it is", "a record of a negative length",
        "a record of a huge length", "a length over 32 bits",
    )
]
REFUSED_HERE = {name: 87 for name in UNREADABLE} | {
    "lz4 with a wrong checksum": -1,  # Java's consumers do not look at it, librdkafka's stop at it
    "no batch at all": 87,  # Kafka never answers
}

# Answers that Kafka gives by accident, or for what there is not here.
OTHERWISE = {
    "DescribeTopicPartitions: empty": [[17, False]],
    "DeleteRecords: internal": [17],
    "min.insync.replicas of the broker": [0, "", []],
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Apache Kafka's answers to batches and to requests."""
    if not JARS:
        return json.loads(kafka_batches.RECORDED.read_text()), json.loads(kafka_answers.RECORDED.read_text())
    kafka = ApacheKafka(tmp_path_factory.mktemp("kafka") / "data", JARS).start()
    try:
        return plain(batches(kafka.port, CASES)), plain(kafka_answers.answers(kafka.port))
    finally:
        kafka.close()


def plain(answers):
    return json.loads(json.dumps(answers))


def batches(port, names, prefix="parity"):
    return {name: kafka_batches.produced(port, f"{prefix}-{list(CASES).index(name)}", *CASES[name]) for name in names}


def is_as_expected(name, found, wanted):
    if name in REFUSED_HERE:
        return found["code"] == REFUSED_HERE[name] and found["stored"] is None
    # Where Kafka says nothing more than the code, there may be a word here.
    text = {"text": None} if wanted.get("text", "") is None else {}
    return {**found, **text} == wanted


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group or "headers")
def test_batches(broker, name, expected, group):
    names = [it for it in CASES if it.startswith(f"{group}:")] if group else [it for it in CASES if ":" not in it]
    found = plain(batches(broker.port("kafka"), names, name))
    wrong = {it: (answer, expected[0][it]) for it, answer in found.items() if not is_as_expected(it, answer, expected[0][it])}
    assert not wrong


def test_requests(own_broker, expected):
    found = plain(kafka_answers.answers(own_broker().port("kafka")))
    assert {it: (answer, expected[1][it]) for it, answer in found.items() if answer != OTHERWISE.get(it, expected[1][it])} == {}
