"""kcat as Debian has it, over the librdkafka 2.0.2 of 2023."""

import json
import subprocess

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import interop
from clients import PATIENCE

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture
def kcat(broker):
    interop.need("kcat")

    def run(*arguments, given=""):
        done = subprocess.run(
            ["kcat", "-b", broker.kafka, "-q", *arguments], input=given, check=False, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def topic(broker, name):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(name, 2)])[name].result(PATIENCE)
    return name


def test_keys_headers_tombstones_and_times(kcat, topic):
    kcat("-P", "-t", topic, "-p", "0", "-K:", "-Z", "-H", "one=1", "-H", "two=", given="key:value\ngone:\n")
    kcat("-P", "-t", topic, "-p", "0", "-K:", given="key:\n")
    read = kcat("-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-f", "%p %o %k %S [%s] %h|")
    assert read == "0 0 key 5 [value] one=1,two=|0 1 gone -1 [] one=1,two=|0 2 key 0 [] |"
    [first, second, third] = [
        json.loads(line) for line in kcat("-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-J").splitlines()
    ]
    assert (first["headers"], first["payload"], first["tstype"]) == (["one", "1", "two", ""], "value", "create")
    assert second["payload"] is None and third["payload"] in ("", None)
    assert kcat("-C", "-t", topic, "-p", "0", "-o", f"s@{first['ts']}", "-c", "1", "-f", "%o") == "0"
    assert kcat("-Q", "-t", f"{topic}:0:{third['ts'] + 60_000}").split() == [topic, "[0]", "offset", "-1"]
    assert kcat("-Q", "-t", f"{topic}:0:{first['ts']}").split() == [topic, "[0]", "offset", "0"]


@pytest.mark.parametrize("codec", CODECS)
def test_codecs(kcat, topic, codec):
    lines = "".join(f"{codec} {number} {'x' * 100}\n" for number in range(500))
    kcat("-P", "-t", topic, "-p", "1", "-z", codec, "-X", "acks=all", given=lines)
    assert kcat("-C", "-t", topic, "-p", "1", "-o", "beginning", "-e") == lines
    assert kcat("-C", "-t", topic, "-p", "1", "-o", "-2", "-e") == "".join(lines.splitlines(keepends=True)[-2:])
    assert kcat("-C", "-t", topic, "-p", "1", "-o", "498", "-c", "1") == lines.splitlines(keepends=True)[498]


def test_metadata(kcat, broker, topic):
    told = json.loads(kcat("-L", "-J", "-t", topic))
    assert told["brokers"] == [{"id": 1, "name": broker.kafka}] and told["controllerid"] == 1
    partitions = sorted(told["topics"][0]["partitions"], key=lambda it: it["partition"])
    assert [(it["partition"], it["leader"], it["isrs"]) for it in partitions] == [(0, 1, [{"id": 1}]), (1, 1, [{"id": 1}])]
    listed = kcat("-L")
    assert f'topic "{topic}" with 2 partitions:' in listed and "(controller)" in listed


def test_a_group_goes_on_where_it_was(kcat, topic):
    kcat("-P", "-t", topic, "-p", "0", given="1\n2\n3\n")
    group = ["-G", topic, "-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=100", "-e", topic]
    assert sorted(kcat(*group).split()) == ["1", "2", "3"]
    kcat("-P", "-t", topic, "-p", "1", given="4\n")
    assert kcat(*group).split() == ["4"]


def test_a_transaction_and_idempotence(kcat, topic):
    kcat("-P", "-t", topic, "-p", "0", "-X", f"transactional.id={topic}", given="1\n2\n")
    kcat("-P", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", given="3\n")
    read = kcat("-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-X", "isolation.level=read_committed")
    assert read.split() == ["1", "2", "3"]
