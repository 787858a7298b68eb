"""Requests of administrators, and what a broker answers: names that are not legal, changes that cannot be, quotas.

`python kafka_answers.py JARS` asks Apache Kafka, from a folder of its jars, and writes down what it says in
`kafka_answers.json`, which is what the tests expect of Trivium.
"""

import json
import sys
import tempfile
import time
import uuid
from pathlib import Path

from kafka_wire import Wire, batch, message

RECORDED = Path(__file__).with_suffix(".json")
TOPIC, BROKER, GROUP, METRICS = 2, 4, 32, 16
NONE = uuid.UUID(int=0)
ILLEGAL = {"empty": "", "dots": "..", "a blank": "a b", "too long": "x" * 250, "missing": "no-such", "internal": "__consumer_offsets"}


def answers(port):
    """Answers by name. The topic `there` is there, with two partitions."""
    found = {}
    with Wire(port) as wire:
        create(wire, "there", 2)
        for name, topic in ILLEGAL.items():
            for request, ask in OF_TOPICS.items():
                found[f"{request}: {name}"] = ask(wire, topic)
        for name, ask in OF_CONFIGS.items():
            found[name] = ask(wire)
        for name, ask in OF_QUOTAS:
            found[f"quotas: {name}"] = ask(wire)
    return found


def create(wire, name, partitions):
    Topic = message("CreateTopicsRequest.CreatableTopic")
    topic = Topic(name=name, num_partitions=partitions, replication_factor=1, assignments=[], configs=[])
    wire.call("CreateTopics", 7, timeout_ms=30_000, validate_only=False, topics=[topic])
    while any(it.error_code for it in wire.call("Metadata", 12, topics=[
            message("MetadataRequest.MetadataRequestTopic")(name=name, topic_id=NONE)]).topics):
        time.sleep(0.05)


def create_partitions(wire, topic):
    Topic = message("CreatePartitionsRequest.CreatePartitionsTopic")
    answer = wire.call("CreatePartitions", 3, topics=[Topic(name=topic, count=3, assignments=None)], timeout_ms=1000,
                       validate_only=True)
    return [(it.error_code, it.error_message) for it in answer.results]


def delete_topics(wire, topic):
    State = message("DeleteTopicsRequest.DeleteTopicState")
    answer = wire.call("DeleteTopics", 6, topics=[State(name=topic, topic_id=NONE)], timeout_ms=1000)
    return [(it.error_code, it.error_message) for it in answer.responses]


def delete_records(wire, topic):
    Topic = message("DeleteRecordsRequest.DeleteRecordsTopic")
    answer = wire.call("DeleteRecords", 2, timeout_ms=1000, topics=[
        Topic(name=topic, partitions=[Topic.DeleteRecordsPartition(partition_index=0, offset=0)])])
    return [p.error_code for t in answer.topics for p in t.partitions]


def list_offsets(wire, topic):
    Topic = message("ListOffsetsRequest.ListOffsetsTopic")
    answer = wire.call("ListOffsets", 7, replica_id=-1, isolation_level=0, topics=[Topic(name=topic, partitions=[
        Topic.ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=-1)])])
    return [p.error_code for t in answer.topics for p in t.partitions]


def produce(wire, topic):
    Topic = message("ProduceRequest.TopicProduceData")
    data = Topic(name=topic, partition_data=[Topic.PartitionProduceData(index=0, records=batch(b"v"))])
    answer = wire.call("Produce", 9, transactional_id=None, acks=-1, timeout_ms=1000, topic_data=[data])
    return [p.error_code for t in answer.responses for p in t.partition_responses]


def produce_two_batches(wire, topic):
    Topic = message("ProduceRequest.TopicProduceData")
    data = Topic(name=topic, partition_data=[Topic.PartitionProduceData(index=0, records=batch(b"v") * 2)])
    answer = wire.call("Produce", 9, transactional_id=None, acks=-1, timeout_ms=1000, topic_data=[data])
    return [p.error_code for t in answer.responses for p in t.partition_responses]


def describe_partitions(wire, topic):
    Topic = message("DescribeTopicPartitionsRequest.TopicRequest")
    answer = wire.call("DescribeTopicPartitions", 0, topics=[Topic(name=topic)], response_partition_limit=9, cursor=None)
    return [(t.error_code, t.is_internal) for t in answer.topics]


def metadata(wire, topic):
    Topic = message("MetadataRequest.MetadataRequestTopic")
    answer = wire.call("Metadata", 12, topics=[Topic(name=topic, topic_id=NONE)], allow_auto_topic_creation=False)
    return [t.error_code for t in answer.topics]


def describe_producers(wire, topic):
    Topic = message("DescribeProducersRequest.TopicRequest")
    answer = wire.call("DescribeProducers", 0, topics=[Topic(name=topic, partition_indexes=[0])])
    return [(p.error_code, p.error_message) for t in answer.topics for p in t.partitions]


def leader_epoch(wire, topic):
    Topic = message("OffsetForLeaderEpochRequest.OffsetForLeaderTopic")
    answer = wire.call("OffsetForLeaderEpoch", 4, replica_id=-2, topics=[Topic(topic=topic, partitions=[
        Topic.OffsetForLeaderPartition(partition=0, current_leader_epoch=-1, leader_epoch=0)])])
    return [p.error_code for t in answer.topics for p in t.partitions]


def elect(wire, topic):
    Topic = message("ElectLeadersRequest.TopicPartitions")
    answer = wire.call("ElectLeaders", 2, election_type=0, timeout_ms=1000,
                       topic_partitions=[Topic(topic=topic, partitions=[0])])
    return [answer.error_code, [(p.error_code, p.error_message) for t in answer.replica_election_results
                                for p in t.partition_result]]


def change(wire, kind, resource, *changes, validate=True):
    Resource = message("IncrementalAlterConfigsRequest.AlterConfigsResource")
    Config = message("IncrementalAlterConfigsRequest.AlterConfigsResource.AlterableConfig")
    answer = wire.call("IncrementalAlterConfigs", 1, validate_only=validate, resources=[Resource(
        resource_type=kind, resource_name=resource,
        configs=[Config(name=key, config_operation=operation, value=value) for key, operation, value in changes])])
    return [(it.error_code, it.error_message) for it in answer.responses]


def replace(wire, kind, resource, *configs):
    Resource = message("AlterConfigsRequest.AlterConfigsResource")
    answer = wire.call("AlterConfigs", 2, validate_only=True, resources=[Resource(
        resource_type=kind, resource_name=resource,
        configs=[Resource.AlterableConfig(name=key, value=value) for key, value in configs])])
    return [(it.error_code, it.error_message) for it in answer.responses]


def described(wire, kind, resource, *keys):
    Resource = message("DescribeConfigsRequest.DescribeConfigsResource")
    answer = wire.call("DescribeConfigs", 4, include_synonyms=True, include_documentation=False, resources=[
        Resource(resource_type=kind, resource_name=resource, configuration_keys=list(keys) or None)])
    it = answer.results[0]
    return [it.error_code, it.error_message, [
        (c.name, c.value, c.read_only, c.config_source, c.is_sensitive, c.config_type,
         [(s.name, s.value, s.source) for s in c.synonyms]) for c in it.configs if keys]]


OF_TOPICS = {
    "CreatePartitions": create_partitions, "DeleteTopics": delete_topics, "DeleteRecords": delete_records,
    "ListOffsets": list_offsets, "Produce": produce, "Produce of two batches": produce_two_batches,
    "DescribeTopicPartitions": describe_partitions, "Metadata": metadata, "DescribeProducers": describe_producers,
    "OffsetForLeaderEpoch": leader_epoch, "ElectLeaders": elect,
    "IncrementalAlterConfigs": lambda wire, topic: change(wire, TOPIC, topic, ("retention.ms", 0, "1")),
    "AlterConfigs": lambda wire, topic: replace(wire, TOPIC, topic, ("retention.ms", "1")),
    "DescribeConfigs": lambda wire, topic: described(wire, TOPIC, topic, "retention.ms"),
}

OF_CONFIGS = {
    "unknown operation": lambda wire: change(wire, TOPIC, "there", ("retention.ms", 7, "1")),
    "negative operation": lambda wire: change(wire, TOPIC, "there", ("retention.ms", -1, "1")),
    "unknown operation of a broker": lambda wire: change(wire, BROKER, "1", ("log.retention.ms", 7, "1")),
    "null value": lambda wire: change(wire, TOPIC, "there", ("retention.ms", 0, None)),
    "nothing to append": lambda wire: change(wire, TOPIC, "there", ("cleanup.policy", 2, None)),
    "unknown resource": lambda wire: change(wire, 99, "there", ("retention.ms", 0, "1")),
    "resource without changes": lambda wire: change(wire, TOPIC, "there"),
    "empty key": lambda wire: change(wire, TOPIC, "there", ("", 0, "1")),
    "replaced with a null": lambda wire: replace(wire, TOPIC, "there", ("retention.ms", None)),
    "replaced twice": lambda wire: replace(wire, TOPIC, "there", ("retention.ms", "1"), ("retention.ms", "2")),
    "unknown resource replaced": lambda wire: replace(wire, 99, "there", ("retention.ms", "1")),
    "unknown resource described": lambda wire: described(wire, 99, "there", "retention.ms"),
    "min.insync.replicas": lambda wire: described(wire, TOPIC, "there", "min.insync.replicas"),
    "min.insync.replicas of the broker": lambda wire: described(wire, BROKER, "1", "min.insync.replicas"),
    "broker 7": lambda wire: described(wire, BROKER, "7", "min.insync.replicas"),
    "broker x": lambda wire: described(wire, BROKER, "x", "min.insync.replicas"),
    "unknown key described": lambda wire: described(wire, TOPIC, "there", "no.such"),
}


def alter(*ops, entity=(("user", "u"),), validate=False, twice=False):
    def ask(wire):
        Entry = message("AlterClientQuotasRequest.EntryData")
        entry = Entry(entity=[Entry.EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
                      ops=[Entry.OpData(key=key, value=value or 0.0, remove=value is None) for key, value in ops])
        answer = wire.call("AlterClientQuotas", 1, entries=[entry] * (1 + twice), validate_only=validate)
        return [(it.error_code, it.error_message, [(e.entity_type, e.entity_name) for e in it.entity])
                for it in answer.entries]
    return ask


def describe(*components, strict=False):
    def ask(wire):
        Component = message("DescribeClientQuotasRequest.ComponentData")
        answer = wire.call("DescribeClientQuotas", 1, strict=strict, components=[
            Component(entity_type=kind, match_type=how, match=name) for kind, how, name in components])
        entries = answer.entries and sorted(
            ([sorted([e.entity_type, e.entity_name or ""] for e in it.entity), sorted([v.key, v.value] for v in it.values)]
             for it in answer.entries))
        return [answer.error_code, answer.error_message, entries]
    return ask


def waited(ask):
    """As `ask`, until the answer is what the change before it leads to: Kafka's broker hears of it later."""
    def again(wire):
        previous = ask(wire)
        for _ in range(4):
            time.sleep(0.1)
            if (now := ask(wire)) == previous:
                return now
            previous = now
        return previous
    return again


RATE = ("producer_byte_rate", 1000.0)
OF_QUOTAS = [
    ("a user", alter(RATE)), ("a client", alter(RATE, entity=(("client-id", "c"),))),
    ("both", alter(("consumer_byte_rate", 7.0), entity=(("user", "u"), ("client-id", "c")))),
    ("in the other order", alter(("request_percentage", 50.5), entity=(("client-id", "c"), ("user", "v")))),
    ("default user", alter(RATE, entity=(("user", None),))), ("default client", alter(RATE, entity=(("client-id", None),))),
    ("both defaults", alter(RATE, entity=(("user", None), ("client-id", None)))),
    ("a user's default client", alter(RATE, entity=(("user", "u"), ("client-id", None)))),
    ("an address", alter(("connection_creation_rate", 5.0), entity=(("ip", "10.0.0.1"),))),
    ("an address of six", alter(("connection_creation_rate", 5.0), entity=(("ip", "::1"),))),
    ("default address", alter(("connection_creation_rate", 9.0), entity=(("ip", None),))),
    ("only validated", alter(RATE, entity=(("user", "w"),), validate=True)),
    ("an empty user", alter(RATE, entity=(("user", ""),))),
    ("an odd user", alter(RATE, entity=(("user", "ä /:%"),))),
    ("an empty address", alter(("connection_creation_rate", 5.0), entity=(("ip", ""),))),
    ("unknown entity", alter(RATE, entity=(("group", "g"),))), ("no entity", alter(RATE, entity=())),
    ("an entity without a type", alter(RATE, entity=(("", "g"),))),
    ("a user twice", alter(RATE, entity=(("user", "u"), ("user", "v")))),
    ("an address and a user", alter(("connection_creation_rate", 5.0), entity=(("ip", "10.0.0.1"), ("user", "u")))),
    ("an address and a client", alter(("connection_creation_rate", 5.0), entity=(("ip", "10.0.0.1"), ("client-id", "u")))),
    ("unknown key", alter(("bytes", 1.0))), ("unknown key removed", alter(("bytes", None))),
    ("a fraction of bytes", alter(("producer_byte_rate", 1.5))), ("no bytes", alter(("producer_byte_rate", 0.0))),
    ("negative", alter(("request_percentage", -1.0))), ("infinite", alter(("producer_byte_rate", float("inf")))),
    ("huge", alter(("producer_byte_rate", 1e19))),
    ("a fraction of connections", alter(("connection_creation_rate", 1.5), entity=(("ip", "10.0.0.1"),))),
    ("too many connections", alter(("connection_creation_rate", 3e9), entity=(("ip", "10.0.0.1"),))),
    ("no connections", alter(("connection_creation_rate", 0.0), entity=(("ip", "10.0.0.2"),))),
    ("a key of addresses for a user", alter(("connection_creation_rate", 1.0))),
    ("a key of users for an address", alter(RATE, entity=(("ip", "10.0.0.1"),))),
    ("a fraction of changes", alter(("controller_mutation_rate", 0.25))),
    ("nearly a whole number", alter(("producer_byte_rate", 1.0000000001), entity=(("user", "near"),))),
    ("nothing", alter(entity=(("user", "n"),))),
    ("a key twice", alter(("producer_byte_rate", 1.0), ("producer_byte_rate", 2.0), entity=(("user", "k"),))),
    ("an entity twice", alter(("producer_byte_rate", 1.0), entity=(("user", "t"),), twice=True)),
    ("what is not set removed", alter(("producer_byte_rate", None), entity=(("user", "none"),))),
    ("everything described", waited(describe())), ("everything, strictly", describe(strict=True)),
    ("of a user", describe(("user", 0, "u"))), ("of a user, strictly", describe(("user", 0, "u"), strict=True)),
    ("of the default user", describe(("user", 1, None))),
    ("of the default user, strictly", describe(("user", 1, None), strict=True)),
    ("of any user", describe(("user", 2, None))), ("of any user, strictly", describe(("user", 2, None), strict=True)),
    ("of user and client", describe(("user", 0, "u"), ("client-id", 0, "c"))),
    ("of user and any client", describe(("user", 0, "u"), ("client-id", 2, None))),
    ("of default user and default client", describe(("user", 1, None), ("client-id", 1, None))),
    ("of any client", describe(("client-id", 2, None))), ("of an address", describe(("ip", 0, "10.0.0.1"))),
    ("of any address", describe(("ip", 2, None))), ("of the default address", describe(("ip", 1, None))),
    ("of an address and a user", describe(("ip", 0, "10.0.0.1"), ("user", 0, "u"))),
    ("of address and client", describe(("ip", 2, None), ("client-id", 2, None))),
    ("of an unknown type", describe(("group", 0, "g"))), ("of no type", describe(("", 0, "g"))),
    ("of a type twice", describe(("user", 0, "u"), ("user", 0, "v"))),
    ("of an unknown match", describe(("user", 3, "u"))), ("of a negative match", describe(("user", -1, "u"))),
    ("of an exact null", describe(("user", 0, None))), ("of a default with a name", describe(("user", 1, "u"))),
    ("of any with a name", describe(("user", 2, "u"))), ("of nobody", describe(("user", 0, "nobody"))),
    ("of an empty name", describe(("user", 0, ""))),
]


def main(jars):
    from apache_kafka import ApacheKafka

    with tempfile.TemporaryDirectory() as directory:
        broker = ApacheKafka(directory + "/kafka", jars).start()
        try:
            found = answers(broker.port)
        finally:
            broker.close()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(it, ensure_ascii=False)}" for name, it in found.items())
    RECORDED.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
