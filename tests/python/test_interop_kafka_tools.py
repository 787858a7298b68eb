"""Kafka's own command-line tools of release 4.3, checked for what a person reads, and Connect standalone."""

import json
import subprocess
import time

import confluent_kafka
import pytest

import kafka_java
from clients import PATIENCE, eventually
from test_interop_kafka_transactions import read_to_end


@pytest.fixture(scope="module")
def java():
    return kafka_java.command()


@pytest.fixture(scope="module")
def tool(java, broker):
    tools = kafka_java.Tools(java, broker)
    yield tools
    tools.close()


def rows(text, first):
    """Those lines of a table, in columns, that begin with a name."""
    return [row.split() for row in text.splitlines() if row.startswith(first)]


def written(path, **content):
    path.write_text(json.dumps({"version": 1, **content}))
    return str(path)


def test_topics(tool, name):
    created = tool("TopicCommand", "--create", "--topic", name, "--partitions", "3", "--config", "retention.ms=60000")
    assert f"Created topic {name}." in created
    assert f"Topic '{name}' already exists." in tool("TopicCommand", "--create", "--topic", name, status=1)
    assert name in tool("TopicCommand", "--list").split()
    described = tool("TopicCommand", "--describe", "--topic", name)
    assert "PartitionCount: 3\tReplicationFactor: 1" in described and "retention.ms=60000" in described
    assert f"Topic: {name}\tPartition: 2\tLeader: 1\tReplicas: 1\tIsr: 1" in described
    tool("TopicCommand", "--alter", "--topic", name, "--partitions", "4")
    assert "PartitionCount: 4" in tool("TopicCommand", "--describe", "--topic", name)
    fewer = tool("TopicCommand", "--alter", "--topic", name, "--partitions", "2", status=1)
    assert f"The topic {name} currently has 4 partition(s); 2 would not be an increase." in fewer
    assert name not in tool("TopicCommand", "--describe", "--under-replicated-partitions")
    tool("TopicCommand", "--delete", "--topic", name)
    assert name not in tool("TopicCommand", "--list").split()


def test_console_producer_and_consumer(tool, name):
    tool("TopicCommand", "--create", "--topic", name)
    properties = ["parse.key=true", "key.separator=:", "parse.headers=true", "headers.delimiter=|", "null.marker=NULL"]
    tool(
        "ConsoleProducer", "--topic", name, "--compression-codec", "gzip",
        *[it for value in properties for it in ("--reader-property", value)],
        given="one:1,two:2|key:value\nonly:3|gone:NULL\n",
    )
    shown = ["print.key=true", "print.headers=true", "print.partition=true", "print.offset=true", "null.literal=nothing"]
    read = tool(
        "consumer.ConsoleConsumer", "--topic", name, "--from-beginning", "--max-messages", "2", "--timeout-ms", "20000",
        *[it for value in shown for it in ("--formatter-property", value)],
    )
    assert "Partition:0\tOffset:0\tone:1,two:2\tkey\tvalue" in read
    assert "Partition:0\tOffset:1\tonly:3\tgone\tnothing" in read
    assert "Processed a total of 2 messages" in read


def test_groups(tool, name):
    tool("TopicCommand", "--create", "--topic", name, "--partitions", "2")
    tool("ConsoleProducer", "--topic", name, given="a\nb\nc\n")
    for protocol in ("classic", "consumer"):
        read = tool(
            "consumer.ConsoleConsumer", "--topic", name, "--group", f"{name}-{protocol}", "--from-beginning",
            "--max-messages", "3", "--timeout-ms", "20000", "--command-property", f"group.protocol={protocol}",
        )
        assert {"a", "b", "c"} <= set(read.split())
    groups = "consumer.group.ConsumerGroupCommand"
    listed = tool(groups, "--list", "--type", "consumer")
    assert f"{name}-consumer" in listed and f"{name}-classic" not in listed
    assert rows(tool(groups, "--list", "--state"), f"{name}-classic") == [[f"{name}-classic", "Empty"]]
    described = rows(tool(groups, "--describe", "--group", f"{name}-consumer"), name)
    assert sum(int(row[3]) for row in described) == 3 and {row[5] for row in described} == {"0"}
    reset = tool(
        groups, "--reset-offsets", "--group", f"{name}-classic", "--topic", name, "--to-earliest", "--execute"
    )
    assert {row[3] for row in rows(reset, name)} == {"0"}
    described = rows(tool(groups, "--describe", "--group", f"{name}-classic"), name)
    assert sum(int(row[5]) for row in described) == 3, "the lag"
    removed = tool(groups, "--delete-offsets", "--group", f"{name}-classic", "--topic", name)
    assert removed.count("Successful") == 2
    assert "successful" in tool(groups, "--delete", "--group", f"{name}-classic")
    assert f"Group {name}-nobody not found." in tool(groups, "--describe", "--group", f"{name}-nobody")
    kinds = {row[0]: row[1] for row in rows(tool("GroupsCommand", "--list"), name)}
    assert kinds == {f"{name}-consumer": "Consumer"}


def test_members_are_described(tool, broker, name):
    tool("TopicCommand", "--create", "--topic", name, "--partitions", "2")
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": name, "client.id": "me"})
    consumer.subscribe([name])
    eventually(lambda: consumer.poll(0.1) or len(consumer.assignment()) == 2)
    groups = "consumer.group.ConsumerGroupCommand"
    [state] = rows(tool(groups, "--describe", "--group", name, "--state"), name)
    assert state[3:6] == ["range", "Stable", "1"]
    [member] = rows(tool(groups, "--describe", "--group", name, "--members", "--verbose"), name)
    assert member[2:5] == ["/127.0.0.1", "me", "2"]
    consumer.close()


def test_share_groups(tool, name):
    tool("TopicCommand", "--create", "--topic", name)
    tool("ConsoleProducer", "--topic", name, given="a\nb\nc\n")
    # The group comes into being with its first member.
    tool("consumer.ConsoleShareConsumer", "--topic", name, "--group", name, "--timeout-ms", "3000")
    groups = "consumer.group.ShareGroupCommand"
    tool(groups, "--reset-offsets", "--group", name, "--topic", name, "--to-earliest", "--execute")
    shared = tool(
        "consumer.ConsoleShareConsumer", "--topic", name, "--group", name, "--max-messages", "3", "--timeout-ms", "20000"
    )
    assert {"a", "b", "c"} <= set(shared.split())
    assert name in tool(groups, "--list")
    [row] = rows(tool(groups, "--describe", "--group", name), name)
    assert row[:3] == [name, name, "0"]
    assert "successful" in tool(groups, "--delete", "--group", name)


def test_configs(tool, name):
    configs, topic = "kafka.admin.ConfigCommand", ["--entity-type", "topics", "--entity-name", name]
    tool("TopicCommand", "--create", "--topic", name, "--config", "retention.ms=60000")
    changed = tool(
        configs, "--alter", *topic, "--add-config", "max.message.bytes=2000,cleanup.policy=[compact,delete]",
        "--delete-config", "retention.ms",
    )
    assert f"Completed updating config for topic {name}." in changed
    own = tool(configs, "--describe", *topic)
    assert "max.message.bytes=2000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000" in own
    assert "cleanup.policy=compact,delete" in own and "retention.ms" not in own
    every = tool(configs, "--describe", *topic, "--all")
    assert "retention.ms=604800000 sensitive=false synonyms={}" in every
    assert "segment.bytes=1073741824 sensitive=false synonyms={DEFAULT_CONFIG:log.segment.bytes=1073741824}" in every
    refused = tool(configs, "--alter", *topic, "--add-config", "retention.ms=soon", status=1)
    assert "invalid value soon for configuration retention.ms" in refused.lower()
    brokers = tool(configs, "--describe", "--entity-type", "brokers", "--entity-name", "1", "--all")
    assert "num.partitions=1" in brokers and "node.id=1" in brokers


def test_offsets_and_records(tool, broker, tmp_path, name):
    tool("TopicCommand", "--create", "--topic", name, "--partitions", "2")
    producer, then = confluent_kafka.Producer({"bootstrap.servers": broker.kafka}), int(time.time() - 60) * 1000
    for number in range(10):
        producer.produce(name, str(number), partition=0, timestamp=then + number)
    producer.flush(PATIENCE)
    offsets = lambda *time: tool("GetOffsetShell", "--topic", name, *time).split()  # noqa: E731
    assert offsets() == [f"{name}:0:10", f"{name}:1:0"]
    assert offsets("--time", str(then + 4))[0] == f"{name}:0:4"
    assert offsets("--time", "max-timestamp")[0] == f"{name}:0:9"
    before = written(tmp_path / "before.json", partitions=[{"topic": name, "partition": 0, "offset": 6}])
    assert f"partition: {name}-0\tlow_watermark: 6" in tool("DeleteRecordsCommand", "--offset-json-file", before)
    assert offsets("--time", "earliest") == [f"{name}:0:6", f"{name}:1:0"]
    found = tool("LogDirsCommand", "--describe", "--topic-list", name)
    described = json.loads(next(line for line in found.splitlines() if line.startswith("{")))
    partitions = described["brokers"][0]["logDirs"][0]["partitions"]
    sizes = {it["partition"]: it["size"] for it in partitions}
    assert sizes[f"{name}-0"] > 0 and sizes[f"{name}-1"] == 0


def test_partitions_of_one_broker_stay_where_they_are(tool, tmp_path, name):
    tool("TopicCommand", "--create", "--topic", name)
    tool("LeaderElectionCommand", "--election-type", "preferred", "--topic", name, "--partition", "0")
    reassign = "reassign.ReassignPartitionsCommand"
    topics = written(tmp_path / "topics.json", topics=[{"topic": name}])
    proposed = tool(reassign, "--generate", "--topics-to-move-json-file", topics, "--broker-list", "1")
    assert f'"topic":"{name}","partition":0,"replicas":[1]' in proposed
    plan = written(tmp_path / "plan.json", partitions=[{"topic": name, "partition": 0, "replicas": [1]}])
    executed = tool(reassign, "--execute", "--reassignment-json-file", plan)
    assert f"Successfully started partition reassignment for {name}-0" in executed
    verified = tool(reassign, "--verify", "--reassignment-json-file", plan)
    assert f"Reassignment of partition {name}-0 is completed." in verified
    assert "No partition reassignments found." in tool(reassign, "--list")
    plan = written(tmp_path / "away.json", partitions=[{"topic": name, "partition": 0, "replicas": [2]}])
    assert "Unknown broker id 2" in tool(reassign, "--execute", "--reassignment-json-file", plan, status=1)


def test_the_cluster(tool):
    assert "Cluster ID: " in tool("ClusterTool", "cluster-id")
    [endpoint] = rows(tool("ClusterTool", "list-endpoints"), "1 ")
    assert endpoint[1] == "127.0.0.1" and endpoint[4:] == ["unfenced", "broker"]
    status = tool("MetadataQuorumCommand", "describe", "--status")
    assert "LeaderId:               1" in status and "CurrentObservers:       []" in status
    assert "Leader" in tool("MetadataQuorumCommand", "describe", "--replication")
    features = tool("FeatureCommand", "describe")
    assert "FinalizedVersionLevel: 4.3-IV0" in features and "transaction.version" in features
    versions = tool("BrokerApiVersionsCommand")
    assert "Produce(0): 0 to 13 [usable: 13]" in versions and "Fetch(1): 4 to 18 [usable: 18]" in versions


def test_transactions(tool, broker, name):
    # It stays open while several tools start and end.
    settings = {"transactional.id": name, "transaction.timeout.ms": 900_000}
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, **settings})
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    producer.produce(name, "open")
    producer.flush(PATIENCE)
    [row] = rows(tool("TransactionsCommand", "list"), name)
    assert row[3] == "Ongoing"
    described = tool("TransactionsCommand", "describe", "--transactional-id", name)
    assert f"{name}-0" in described
    producers = tool("TransactionsCommand", "describe-producers", "--topic", name, "--partition", "0")
    assert row[2] in producers
    assert name not in tool("TransactionsCommand", "find-hanging", "--broker-id", "1")
    tool("TransactionsCommand", "abort", "--topic", name, "--partition", "0", "--start-offset", "0")
    assert read_to_end(broker, name) == []


def test_what_kafkas_own_tests_ask_of_a_broker(tool, java, broker, name):
    """`ClientCompatibilityTest` decides by itself; the verifiable clients count."""
    tool("TopicCommand", "--create", "--topic", name)
    supported = ["offsets-for-times", "cluster-id", "create-topics", "describe-configs", "idempotent-producer", "describe-acls"]
    tool(
        "ClientCompatibilityTest", "--topic", name, "--num-cluster-nodes", "1", "--expect-record-too-large-exception", "false",
        *[it for what in supported for it in (f"--{what}-supported", "true")],
    )
    verifiable = lambda which, *arguments: [  # noqa: E731
        json.loads(line) for line in subprocess.run(
            [*java, f"org.apache.kafka.tools.Verifiable{which}", "--bootstrap-server", broker.kafka, "--topic", f"{name}-v",
             *arguments], check=True, text=True, stdout=subprocess.PIPE, timeout=240).stdout.splitlines()
    ]
    told = verifiable("Producer", "--max-messages", "200", "--throughput", "-1", "--acks", "-1")
    assert sum(it["name"] == "producer_send_success" for it in told) == 200
    assert next(it for it in told if it["name"] == "tool_data")["acked"] == 200
    told = verifiable(
        "Consumer", "--group-id", name, "--max-messages", "200", "--reset-policy", "earliest", "--verbose"
    )
    assert [int(it["value"]) for it in told if it["name"] == "record_data"] == list(range(200))
    assert any(it["name"] == "offsets_committed" and it["success"] for it in told)


CONNECT = """
bootstrap.servers={broker}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename={folder}/offsets
offset.flush.interval.ms=500
plugin.discovery=SERVICE_LOAD
consumer.heartbeat.interval.ms=200
listeners=http://127.0.0.1:0
"""
SOURCE = """
name={name}-source
connector.class=org.apache.kafka.connect.file.FileStreamSourceConnector
file={folder}/in
topic={name}
"""
SINK = """
name={name}-sink
connector.class=org.apache.kafka.connect.file.FileStreamSinkConnector
file={folder}/out
topics={name}
"""


def test_connect_copies_a_file_through_a_topic(java, broker, tmp_path, name):
    files = []
    for kind, text in (("worker", CONNECT), ("source", SOURCE), ("sink", SINK)):
        files.append(tmp_path / f"{kind}.properties")
        files[-1].write_text(text.format(broker=broker.kafka, folder=tmp_path, name=name))
    source, sink = tmp_path / "in", tmp_path / "out"
    source.write_text("".join(f"line {number}\n" for number in range(100)))
    command = [*java, "org.apache.kafka.connect.cli.ConnectStandalone", *map(str, files)]

    def copied(count):
        lines = sink.read_text().splitlines() if sink.exists() else []
        return lines == [f"line {number}" for number in range(count)]

    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as connect:
        try:
            for end in (100, 150):
                with source.open("a") as more:
                    more.writelines(f"line {number}\n" for number in range(100, end))
                eventually(lambda: copied(end) or connect.poll() is not None, 240)  # noqa: B023
                assert copied(end), (tmp_path / "log").read_text()[-3000:]
        finally:
            # It stops in order, and commits what it has read.
            connect.terminate()
            connect.wait(60)
    group = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": f"connect-{name}-sink"})
    [committed] = group.committed([confluent_kafka.TopicPartition(name, 0)], PATIENCE)
    assert committed.offset == 150
    group.close()
