"""Java: Kafka Streams, share consumers and the command-line tools of Apache Kafka 4.3."""

import subprocess
import threading
import time
from collections import Counter

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

import interop
from clients import PATIENCE, eventually
from test_interop_kafka_transactions import read_to_end

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
SHARES = ["records_are_shared", "release_and_reject", "delivery_count_is_limited", "closing_gives_back"]
TOOLS = "org.apache.kafka.tools."


@pytest.fixture(scope="module")
def java():
    """The command that runs a class."""
    interop.need("java", "javac", "mvn")

    def install(place):
        return ["mvn", "-B", "-q", COPY, "-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}"]

    place = interop.installed("kafka-java", install, ["pom.xml"])
    sources = [str(it) for it in (interop.PROGRAMS / "kafka-java").glob("*.java")]
    compiled = subprocess.run(
        ["javac", "-nowarn", "-cp", f"{place}/jars/*", "-d", str(place / "classes"), *sources], check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=interop.INSTALL_WITHIN,
    )
    assert compiled.returncode == 0, compiled.stdout
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{place}/classes:{place}/jars/*"]


def tool(java, broker, name, *arguments, given=""):
    """What a tool of Kafka prints."""
    done = subprocess.run(
        [*java, TOOLS + name, "--bootstrap-server", broker.kafka, *arguments], input=given, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_share_consumers(java, broker, name):
    interop.tell([*java, "ShareStories"], SHARES, broker, name, {"KAFKA": broker.kafka})


def test_tools_know_groups_of_every_kind(java, broker, name):
    tool(java, broker, "TopicCommand", "--create", "--topic", name, "--partitions", "2")
    tool(java, broker, "ConsoleProducer", "--topic", name, given="a\nb\nc\n")
    for protocol in ("classic", "consumer"):
        read = tool(
            java, broker, "consumer.ConsoleConsumer", "--topic", name, "--group", f"{name}-{protocol}", "--from-beginning",
            "--max-messages", "3", "--timeout-ms", "20000", "--command-property", f"group.protocol={protocol}",
        )
        assert {"a", "b", "c"} <= set(read.split())
    listed = tool(java, broker, "consumer.group.ConsumerGroupCommand", "--list", "--type", "consumer")
    assert f"{name}-consumer" in listed and f"{name}-classic" not in listed
    described = tool(java, broker, "consumer.group.ConsumerGroupCommand", "--describe", "--group", f"{name}-consumer")
    rows = [row.split() for row in described.splitlines() if row.startswith(name)]
    assert sum(int(row[3]) for row in rows) == 3 and {row[5] for row in rows} == {"0"}
    tool(
        java, broker, "consumer.group.ConsumerGroupCommand", "--reset-offsets", "--group", f"{name}-classic", "--topic",
        name, "--to-earliest", "--execute",
    )
    deleted = tool(java, broker, "consumer.group.ConsumerGroupCommand", "--delete", "--group", f"{name}-classic")
    assert "successful" in deleted
    # The group comes into being with its first member.
    tool(java, broker, "consumer.ConsoleShareConsumer", "--topic", name, "--group", f"{name}-share", "--timeout-ms", "4000")
    tool(
        java, broker, "consumer.group.ShareGroupCommand", "--reset-offsets", "--group", f"{name}-share", "--topic", name,
        "--to-earliest", "--execute",
    )
    shared = tool(
        java, broker, "consumer.ConsoleShareConsumer", "--topic", name, "--group", f"{name}-share", "--max-messages", "3",
        "--timeout-ms", "20000",
    )
    assert {"a", "b", "c"} <= set(shared.split())
    assert f"{name}-share" in tool(java, broker, "consumer.group.ShareGroupCommand", "--list")


def test_tools_know_transactions(java, broker, name):
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    producer.produce(name, "open")
    producer.flush(PATIENCE)
    listed = tool(java, broker, "TransactionsCommand", "list")
    row = next(row.split() for row in listed.splitlines() if row.startswith(name))
    assert row[3] == "Ongoing"
    described = tool(java, broker, "TransactionsCommand", "describe", "--transactional-id", name)
    assert f"{name}-0" in described
    producers = tool(java, broker, "TransactionsCommand", "describe-producers", "--topic", name, "--partition", "0")
    assert row[2] in producers
    tool(java, broker, "TransactionsCommand", "abort", "--topic", name, "--partition", "0", "--start-offset", "0")
    assert read_to_end(broker, name) == []


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


def test_streams_counts_exactly_once_though_it_is_killed(java, broker, name, tmp_path):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    topics = [NewTopic(f"{name}-{it}", 2) for it in ("in", "copy", "counts")]
    for created in admin.create_topics(topics).values():
        created.result(PATIENCE)
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka})
    words = ["red", "green", "blue"]
    app = Streams(java, broker, name, tmp_path, "exactly_once_v2")
    total = 0
    try:
        for round_number in range(3):
            for number in range(300):
                producer.produce(f"{name}-in", f"{words[number % 3]} {round_number}-{number}", key=str(number))
                total += 1
            producer.flush(PATIENCE)

            def is_moving(before=round_number * 300):
                assert app.process.poll() is None, "".join(app.output)
                return len(read_to_end(broker, f"{name}-copy")) > before

            eventually(is_moving, 60)
            if round_number < 2:
                app.kill()
                app.start()
        eventually(lambda: len(read_to_end(broker, f"{name}-copy")) >= total, 60)
        copies = Counter(read_to_end(broker, f"{name}-copy"))
        assert len(copies) == total and set(copies.values()) == {1}, "each once"

        def is_counted():
            found = counts(broker, f"{name}-counts")
            return all(found.get(word) == total // 3 for word in words)

        eventually(is_counted, 60)
    finally:
        app.kill()
