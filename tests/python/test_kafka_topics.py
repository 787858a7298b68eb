"""Topics by single requests: their ids, their limits, more partitions."""

import time
import uuid

import pytest
from kafka import KafkaConsumer

from clients import PATIENCE, eventually
from kafka_wire import Wire, batch, message

OUT_OF_RANGE, UNKNOWN_TOPIC, TOO_LARGE, UNKNOWN_ID, INCONSISTENT_ID = 1, 3, 10, 100, 103
LATEST_FETCH = 18


@pytest.fixture
def wire(broker):
    with Wire(broker.port("kafka")) as it:
        yield it


def create(wire, name, partitions=1, **configs):
    Topic = message("CreateTopicsRequest.CreatableTopic")
    configs = [Topic.CreatableTopicConfig(name=key, value=value) for key, value in configs.items()]
    topic = Topic(name=name, num_partitions=partitions, replication_factor=1, assignments=[], configs=configs)
    created = wire.call("CreateTopics", 7, topics=[topic], timeout_ms=10_000).topics[0]
    assert created.error_code == 0, created.error_message
    return created.topic_id


def delete(wire, name):
    Topic = message("DeleteTopicsRequest.DeleteTopicState")
    return wire.call("DeleteTopics", 6, topics=[Topic(name=name)], timeout_ms=10_000).responses[0].error_code


def produce_by_id(wire, topic_id, records=None):
    Data = message("ProduceRequest.TopicProduceData")
    partition = Data.PartitionProduceData(index=0, records=records or batch(b"v"))
    data = [Data(topic_id=topic_id, partition_data=[partition])]
    done = wire.call("Produce", 13, transactional_id=None, acks=-1, timeout_ms=10_000, topic_data=data)
    return done.responses[0].partition_responses[0]


def produce(wire, name, records, acks=-1):
    Data = message("ProduceRequest.TopicProduceData")
    data = [Data(name=name, partition_data=[Data.PartitionProduceData(index=0, records=records)])]
    done = wire.call("Produce", 12, transactional_id=None, acks=acks, timeout_ms=10_000, topic_data=data)
    return done.responses[0].partition_responses[0]


def fetch(wire, topic_id=None, session=0, epoch=-1, offset=0, last_epoch=-1, wait_ms=0, max_bytes=1 << 26):
    Topic = message("FetchRequest.FetchTopic")
    partition = Topic.FetchPartition(
        partition=0, current_leader_epoch=-1, fetch_offset=offset, last_fetched_epoch=last_epoch,
        log_start_offset=-1, partition_max_bytes=max_bytes,
    )
    topics = [Topic(topic_id=topic_id, partitions=[partition])] if topic_id else []
    return wire.call(
        "Fetch", LATEST_FETCH, max_wait_ms=wait_ms, min_bytes=1, max_bytes=max_bytes, isolation_level=0,
        session_id=session, session_epoch=epoch, topics=topics, forgotten_topics_data=[], rack_id="",
    )


def error(fetched):
    return fetched.responses[0].partitions[0].error_code


def test_an_id_of_a_topic_that_was_created_again_is_unknown_at_once(broker, wire, name):
    """KIP-516. The connection has used the old id, and nothing but a request tells it of the new topic."""
    old = create(wire, name)
    assert produce_by_id(wire, old).error_code == 0
    assert error(fetch(wire, old)) == 0
    with Wire(broker.port("kafka")) as other:
        assert delete(other, name) == 0
        new = create(other, name)
        assert new != old
        assert produce_by_id(other, new).error_code == 0
    assert produce_by_id(wire, old).error_code == UNKNOWN_ID
    assert error(fetch(wire, old)) == UNKNOWN_ID
    assert produce_by_id(wire, new).base_offset == 1, "nothing of the old id went into the new topic"


def test_every_request_by_id_means_that_topic(broker, wire, name):
    old = create(wire, name)
    Topic = message("MetadataRequest.MetadataRequestTopic")
    known = wire.call("Metadata", 12, topics=[Topic(topic_id=old, name=None)])
    assert known.topics[0].name == name
    with Wire(broker.port("kafka")) as other:
        delete(other, name)
        new = create(other, name)
    stale = wire.call("Metadata", 12, topics=[Topic(topic_id=old, name=None)])
    assert stale.topics[0].error_code == UNKNOWN_ID
    Commit = message("OffsetCommitRequest.OffsetCommitRequestTopic")
    partition = Commit.OffsetCommitRequestPartition(partition_index=0, committed_offset=5, committed_metadata="")
    committed = wire.call(
        "OffsetCommit", 10, group_id=name, generation_id_or_member_epoch=-1, member_id="",
        topics=[Commit(topic_id=old, partitions=[partition])],
    )
    assert committed.topics[0].partitions[0].error_code == UNKNOWN_ID
    Deleted = message("DeleteTopicsRequest.DeleteTopicState")
    gone = wire.call("DeleteTopics", 6, topics=[Deleted(topic_id=old)], timeout_ms=1000)
    assert gone.responses[0].error_code == UNKNOWN_ID
    assert error(fetch(wire, new)) == 0, "the new topic is still there"


def test_a_fetch_session_tells_that_the_topic_is_another(broker, wire, name):
    """KIP-516: in a session, the topic is known by the id that it had."""
    old = create(wire, name)
    opened = fetch(wire, old, epoch=0)
    assert opened.session_id > 0 and error(opened) == 0
    with Wire(broker.port("kafka")) as other:
        delete(other, name)
        gone = fetch(wire, session=opened.session_id, epoch=1)
        assert error(gone) in (UNKNOWN_TOPIC, UNKNOWN_ID)
        create(other, name)
    with Wire(broker.port("kafka")) as fresh:
        old = create(fresh, f"{name}-2")
        opened = fetch(fresh, old, epoch=0)
        with Wire(broker.port("kafka")) as other:
            delete(other, f"{name}-2")
            create(other, f"{name}-2")
        assert error(fetch(fresh, session=opened.session_id, epoch=1)) == INCONSISTENT_ID


def test_a_fetch_that_waits_is_told_that_its_topic_has_gone(broker, wire, name):
    topic_id = create(wire, name)
    begun = time.monotonic()
    with Wire(broker.port("kafka")) as other:
        Topic = message("FetchRequest.FetchTopic")
        partition = Topic.FetchPartition(
            partition=0, current_leader_epoch=-1, fetch_offset=0, last_fetched_epoch=-1, log_start_offset=-1,
            partition_max_bytes=1000,
        )
        other.send(
            "Fetch", LATEST_FETCH, max_wait_ms=2_000 * PATIENCE, min_bytes=1, max_bytes=1000, isolation_level=0, session_id=0,
            session_epoch=-1, topics=[Topic(topic_id=topic_id, partitions=[partition])], forgotten_topics_data=[],
            rack_id="",
        )
        assert other.is_silent_for(0.2)
        delete(wire, name)
        assert error(other.receive()) == UNKNOWN_ID
    assert time.monotonic() - begun < PATIENCE


def test_an_unknown_id_costs_a_look_and_is_unknown(wire):
    assert produce_by_id(wire, uuid.uuid4()).error_code == UNKNOWN_ID
    assert error(fetch(wire, uuid.uuid4())) == UNKNOWN_ID


def test_a_topic_may_take_batches_of_ten_megabytes(wire, name):
    """max.message.bytes is of a batch, as it is compressed; in force at once."""
    topic_id = create(wire, name, **{"max.message.bytes": "10000000"})
    large = batch(b"x" * 9_999_000)
    assert produce(wire, name, large).error_code == 0
    assert produce(wire, name, batch(b"x" * 10_000_000)).error_code == TOO_LARGE
    fetched = fetch(wire, topic_id, max_bytes=1000)
    assert len(fetched.responses[0].partitions[0].records) == len(large), "KIP-74: one batch whatever its size"
    Resource = message("IncrementalAlterConfigsRequest.AlterConfigsResource")
    config = Resource.AlterableConfig(name="max.message.bytes", config_operation=0, value="5000")
    changed = wire.call(
        "IncrementalAlterConfigs", 1, validate_only=False,
        resources=[Resource(resource_type=2, resource_name=name, configs=[config])],
    )
    assert changed.responses[0].error_code == 0
    assert produce(wire, name, batch(b"x" * 6000)).error_code == TOO_LARGE


def test_the_brokers_limit_is_that_of_topics_without_one(own_broker):
    broker = own_broker(kafka__max_message_bytes=2_000_000)
    with Wire(broker.port("kafka")) as wire:
        create(wire, "plain")
        create(wire, "small", **{"max.message.bytes": "5000"})
        assert produce(wire, "plain", batch(b"x" * 1_990_000)).error_code == 0
        assert produce(wire, "plain", batch(b"x" * 2_000_000)).error_code == TOO_LARGE
        assert produce(wire, "small", batch(b"x" * 6000)).error_code == TOO_LARGE
        Resource = message("DescribeConfigsRequest.DescribeConfigsResource")
        resources = [
            Resource(resource_type=kind, resource_name=name, configuration_keys=keys)
            for kind, name, keys in [(4, "1", ["message.max.bytes"]), (2, "plain", ["max.message.bytes"])]
        ]
        described = wire.call("DescribeConfigs", 4, resources=resources, include_synonyms=True)
        shown = [(it.configs[0].value, it.configs[0].config_source) for it in described.results]
        assert shown == [("2000000", 4), ("2000000", 4)], "a static setting of the broker"
    broker.restart()
    with Wire(broker.port("kafka")) as wire:
        assert produce(wire, "plain", batch(b"x" * 1_990_000)).error_code == 0


def test_min_insync_replicas_beyond_the_replicas_is_what_they_are(wire, name):
    """Kafka's Partition.effectiveMinIsr: never more than there are replicas, so one replica is enough for acks=all."""
    create(wire, name, **{"min.insync.replicas": "3"})
    assert produce(wire, name, batch(b"v"), acks=-1).error_code == 0


def test_a_fetcher_that_has_read_another_log_is_told_where_this_one_ends(wire, name):
    """KIP-595, as Partition.fetchRecords has it: more of epoch 0 than there is diverges; an epoch to come has no end."""
    topic_id = create(wire, name)
    produce(wire, name, batch(b"v"))
    same = fetch(wire, topic_id, offset=1, last_epoch=0).responses[0].partitions[0]
    assert same.error_code == 0 and same.diverging_epoch is None
    other = fetch(wire, topic_id, offset=5, last_epoch=0).responses[0].partitions[0]
    assert other.error_code == 0 and not other.records
    assert (other.diverging_epoch.epoch, other.diverging_epoch.end_offset) == (0, 1)
    assert error(fetch(wire, topic_id, offset=5)) == OUT_OF_RANGE, "who says no epoch, as consumers do"
    assert error(fetch(wire, topic_id, offset=1, last_epoch=5)) == OUT_OF_RANGE


def test_new_partitions_are_found_by_members_of_groups(broker, wire, name):
    """The classic protocol learns them by metadata, the consumer protocol is told by the broker."""
    create(wire, name)
    consumer = KafkaConsumer(
        name, bootstrap_servers=broker.kafka, group_id=name, metadata_max_age_ms=500, auto_offset_reset="earliest"
    )
    try:
        eventually(lambda: consumer.poll(100) is not None and len(consumer.assignment()) == 1)
        Topic = message("CreatePartitionsRequest.CreatePartitionsTopic")
        added = wire.call(
            "CreatePartitions", 3, topics=[Topic(name=name, count=4, assignments=None)], timeout_ms=10_000,
            validate_only=False,
        )
        assert added.results[0].error_code == 0
        eventually(lambda: consumer.poll(100) is not None and len(consumer.assignment()) == 4)
    finally:
        consumer.close()


def test_new_partitions_are_given_out_by_the_broker(broker, wire, name):
    confluent_kafka = pytest.importorskip("confluent_kafka")
    create(wire, name)
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": name, "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
    })
    try:
        consumer.subscribe([name])
        eventually(lambda: consumer.poll(0.1) is None and len(consumer.assignment()) == 1)
        Topic = message("CreatePartitionsRequest.CreatePartitionsTopic")
        wire.call(
            "CreatePartitions", 3, topics=[Topic(name=name, count=4, assignments=None)], timeout_ms=10_000,
            validate_only=False,
        )
        eventually(lambda: consumer.poll(0.1) is None and len(consumer.assignment()) == 4)
    finally:
        consumer.close()
