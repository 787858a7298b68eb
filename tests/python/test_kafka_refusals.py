"""What administrators are told: codes and texts as Apache Kafka 4.3.1 was recorded to give them for the same requests."""

import uuid

import pytest

from kafka_wire import Wire, batch, message

TOPIC, BROKER, GROUP = 2, 4, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
NONE = uuid.UUID(int=0)


@pytest.fixture
def wire(broker, name):
    with Wire(broker.port("kafka"), client_id=name) as it:
        yield it


def create(wire, *topics, validate=False):
    """Each topic: its name, partitions, replicas, assignments and settings. Names with codes and texts."""
    Topic = message("CreateTopicsRequest.CreatableTopic")
    Placed = message("CreateTopicsRequest.CreatableTopic.CreatableReplicaAssignment")
    Config = message("CreateTopicsRequest.CreatableTopic.CreatableTopicConfig")
    answer = wire.call("CreateTopics", 7, timeout_ms=10_000, validate_only=validate, topics=[
        Topic(
            name=topic, num_partitions=partitions, replication_factor=replicas,
            assignments=[Placed(partition_index=at, broker_ids=brokers) for at, brokers in placed],
            configs=[Config(name=key, value=value) for key, value in configs],
        ) for topic, partitions, replicas, placed, configs in topics])
    return [(it.name, it.error_code, it.error_message) for it in answer.topics]


def change(wire, kind, resource, *changes, validate=True):
    """The code and text for changes of names, operations and values."""
    Resource = message("IncrementalAlterConfigsRequest.AlterConfigsResource")
    Config = message("IncrementalAlterConfigsRequest.AlterConfigsResource.AlterableConfig")
    answer = wire.call("IncrementalAlterConfigs", 1, validate_only=validate, resources=[Resource(
        resource_type=kind, resource_name=resource,
        configs=[Config(name=key, config_operation=operation, value=value) for key, operation, value in changes],
    )])
    return answer.responses[0].error_code, answer.responses[0].error_message


def described(wire, kind, resource, keys=None):
    Resource = message("DescribeConfigsRequest.DescribeConfigsResource")
    answer = wire.call("DescribeConfigs", 4, include_synonyms=True, include_documentation=False, resources=[
        Resource(resource_type=kind, resource_name=resource, configuration_keys=keys)])
    return answer.results[0]


@pytest.mark.parametrize(("topic", "why"), [
    ("", "the empty string is not allowed"),
    ("..", "'..' is not allowed"),
    ("a b", "'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
    ("x" * 250, f"the length of '{'x' * 250}' is longer than the max allowed length 249"),
])
def test_a_name_that_is_not_legal(wire, topic, why):
    assert create(wire, (topic, 1, 1, [], [])) == [(topic, 17, f"Topic name is invalid: {why}")]
    if topic:
        assert change(wire, TOPIC, topic, ("retention.ms", SET, "1")) == (17, f"Topic name is invalid: {why}")


@pytest.mark.parametrize(("partitions", "replicas", "placed", "code", "text"), [
    (0, 1, [], 37, "Number of partitions was set to an invalid non-positive value."),
    (1, 0, [], 38, "Replication factor must be larger than 0, or -1 to use the default value."),
    (1, 2, [], 38, "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached "
                   "because only 1 broker(s) are registered or some brokers have all their log directories cordoned."),
    (-1, -1, [(0, [1]), (2, [1])], 39, "partitions should be a consecutive 0-based integer sequence"),
    (-1, -1, [(0, [7])], 39, "The manual partition assignment includes broker 7, but no such broker is registered."),
    (-1, -1, [(0, [1, 1])], 39, "The manual partition assignment includes the broker 1 more than once."),
    (-1, -1, [(0, [])], 39, "The manual partition assignment includes an empty replica list."),
    (-1, -1, [(0, [1]), (0, [1])], 39, "Found multiple manual partition assignments for partition 0"),
    (1, -1, [(0, [1])], 42, "A manual partition assignment was specified, but numPartitions was not set to -1."),
    (-1, 1, [(0, [1])], 42, "A manual partition assignment was specified, but replication factor was not set to -1."),
])
def test_partitions_that_cannot_be(wire, name, partitions, replicas, placed, code, text):
    assert create(wire, (name, partitions, replicas, placed, [])) == [(name, code, text)]


SETTINGS = [
    ("retention.ms", "x", "Invalid value x for configuration retention.ms: Not a number of type LONG"),
    ("retention.ms", "-2", "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
    ("no.such", "1", "Unknown topic config name: no.such"),
    ("cleanup.policy", "none", "Invalid value none for configuration cleanup.policy: String must be one of: compact, delete"),
    ("compression.type", "brotli", "Invalid value brotli for configuration compression.type: String must be one of: "
                                   "uncompressed, zstd, lz4, snappy, gzip, producer"),
    ("segment.bytes", "13", "Invalid value 13 for configuration segment.bytes: Value must be at least 1048576"),
    ("min.cleanable.dirty.ratio", "1.5",
     "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1"),
    ("preallocate", "maybe", "Invalid value maybe for configuration preallocate: Expected value to be either true or false"),
    ("compression.gzip.level", "10",
     "Invalid value 10 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1"),
    ("compression.zstd.level", "100", "Invalid value 100 for configuration compression.zstd.level: Value must be no more than 22"),
    ("remote.storage.enable", "true", "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with "
                                      "remote log storage."),
]


@pytest.mark.parametrize(("setting", "value", "text"), SETTINGS)
def test_a_setting_that_a_topic_cannot_have(wire, name, setting, value, text):
    assert create(wire, (name, 1, 1, [], [(setting, value)]), validate=True) == [(name, 40, text)]
    create(wire, (name, 1, 1, [], []))
    assert change(wire, TOPIC, name, (setting, SET, value)) == (40, text)


def test_settings_are_kept_as_they_are_read(wire, name):
    given = [("delete.retention.ms", " 5 "), ("preallocate", "TRUE"), ("cleanup.policy", "compact, delete")]
    assert create(wire, (name, 1, 1, [], given)) == [(name, 0, None)]
    found = described(wire, TOPIC, name, [key for key, _ in given])
    assert {it.name: it.value for it in found.configs} == {
        "delete.retention.ms": "5", "preallocate": "true", "cleanup.policy": "compact,delete",
    }
    policy = next(it for it in found.configs if it.name == "cleanup.policy")
    assert [(it.name, it.value, it.source) for it in policy.synonyms] == [
        ("cleanup.policy", "compact,delete", 1), ("log.cleanup.policy", "delete", 5),
    ]
    # No key is every key, and neither policy keeps everything.
    assert len(described(wire, TOPIC, name, []).configs) == len(described(wire, TOPIC, name).configs) > 30
    for word in ("compact", "delete"):
        assert change(wire, TOPIC, name, ("cleanup.policy", SUBTRACT, word), validate=False) == (0, None)
    assert described(wire, TOPIC, name, ["cleanup.policy"]).configs[0].value == ""


def test_lags_of_compaction_that_contradict_each_other(wire, name):
    text = "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)"
    lags = [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]
    assert create(wire, (name, 1, 1, [], lags)) == [(name, 40, text)]
    create(wire, (name, 1, 1, [], lags[1:]))
    assert change(wire, TOPIC, name, ("min.compaction.lag.ms", SET, "10")) == (40, text)


def test_changes_that_are_refused(wire, name):
    create(wire, (name, 1, 1, [], []))
    it = lambda *changes: change(wire, TOPIC, name, *changes)  # noqa: E731
    assert it(("retention.ms", APPEND, "5")) == (40, "Can't APPEND to key retention.ms because its type is not LIST.")
    assert it(("no.such", SUBTRACT, "5")) == (40, "Can't SUBTRACT to key no.such because its type is not LIST.")
    assert it(("retention.ms", SET, "5"), ("retention.ms", DELETE, None)) == (42, "Error due to duplicate config keys")
    assert it(("no.such", DELETE, None)) == (0, None), "what there is not is not set"
    assert change(wire, TOPIC, "", ("retention.ms", SET, "5")) == (42, "Default topic resources are not allowed.")
    nothing = f"{name}-none"
    assert change(wire, TOPIC, nothing, ("retention.ms", SET, "5")) == (3, f"The topic '{nothing}' does not exist.")
    assert change(wire, 3, name, ("retention.ms", SET, "5")) == (42, "Unknown resource type 3")
    assert change(wire, BROKER, "7", ("node.id", SET, "5")) == (42, "Unexpected broker id, expected 1, but received 7")
    assert change(wire, BROKER, "x", ("node.id", SET, "5")) == (42, "Node id must be an integer, but it is: x")
    assert change(wire, BROKER, "1", ("node.id", SET, "5")) == (42, "Cannot update these configs dynamically: [node.id]")


# As Kafka lists them: value and the broker's setting that it is from. Assignments wait for nothing here.
OF_GROUPS = {
    "consumer.assignment.interval.ms": "0",
    "consumer.heartbeat.interval.ms": "5000",
    "consumer.session.timeout.ms": "45000",
    "share.assignment.interval.ms": "0",
    "share.delivery.count.limit": "5",
    "share.heartbeat.interval.ms": "5000",
    "share.partition.max.record.locks": "2000",
    "share.record.lock.duration.ms": "30000",
    "share.session.timeout.ms": "45000",
    "streams.assignment.interval.ms": "1000",
    "streams.heartbeat.interval.ms": "5000",
    "streams.initial.rebalance.delay.ms": "3000",
    "streams.num.standby.replicas": "0",
    "streams.session.timeout.ms": "45000",
}


def test_every_setting_of_a_group_is_listed(wire, name):
    found = {it.name: it for it in described(wire, GROUP, name).configs}
    for key, value in OF_GROUPS.items():
        it = found.pop(key)
        assert (it.value, it.config_source, it.config_type, it.read_only) == (value, 5, 3, False), key
        assert [(s.name, s.value, s.source) for s in it.synonyms] == [(f"group.{key}", value, 5)]
    assert {key: (it.value, it.config_type) for key, it in found.items()} == {
        "share.auto.offset.reset": ("latest", 2), "share.isolation.level": ("read_uncommitted", 2),
        "share.renew.acknowledge.enable": ("true", 1), "errors.deadletterqueue.topic.name": ("", 2),
        "errors.deadletterqueue.copy.record.enable": ("false", 1),
    }


@pytest.mark.parametrize(("setting", "value", "text"), [
    ("consumer.assignment.interval.ms", "-1",
     "Invalid value -1 for configuration consumer.assignment.interval.ms: Value must be at least 0"),
    ("consumer.assignment.interval.ms", "15001",
     "consumer.assignment.interval.ms must be less than or equal to group.consumer.max.assignment.interval.ms"),
    ("share.partition.max.record.locks", "4001",
     "share.partition.max.record.locks must be less than or equal to group.share.max.partition.max.record.locks"),
    ("streams.session.timeout.ms", "1",
     "streams.session.timeout.ms must be greater than or equal to group.streams.min.session.timeout.ms"),
    ("streams.num.standby.replicas", "3",
     "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas"),
    ("consumer.assignor.offload.enable", "false", "Unknown group config name: consumer.assignor.offload.enable"),
])
def test_a_setting_that_a_group_cannot_have(wire, name, setting, value, text):
    assert change(wire, GROUP, name, (setting, SET, value)) == (40, text)


def test_settings_of_streams_groups_are_kept(wire, name):
    """They mean nothing where there are no such groups, as in a Kafka cluster whose `streams.version` is 0."""
    setting = "streams.num.standby.replicas"
    assert change(wire, GROUP, name, (setting, SET, "2"), ("no.such", DELETE, None), validate=False) == (0, None)
    (it,) = described(wire, GROUP, name, [setting]).configs
    assert [(s.name, s.value, s.source) for s in it.synonyms] == [(setting, "2", 8), (f"group.{setting}", "0", 5)]


def test_topics_that_stand_in_a_request_twice(wire, name):
    one = (name, 1, 1, [], [])
    assert create(wire, one, one) == [(name, 42, "Duplicate topic name.")]
    create(wire, one)
    Grown = message("CreatePartitionsRequest.CreatePartitionsTopic")
    grown = [Grown(name=name, count=count, assignments=None) for count in (2, 3)]
    answer = wire.call("CreatePartitions", 3, topics=grown, timeout_ms=10_000, validate_only=False)
    assert [(it.name, it.error_code, it.error_message) for it in answer.results] == [(name, 42, "Duplicate topic name.")]
    State = message("DeleteTopicsRequest.DeleteTopicState")

    def delete(*topics):
        states = [State(name=topic, topic_id=id) for topic, id in topics]
        answer = wire.call("DeleteTopics", 6, topics=states, timeout_ms=10_000)
        return [(it.name, it.error_code, it.error_message) for it in answer.responses]

    known = wire.call("Metadata", 12, topics=None, allow_auto_topic_creation=False).topics
    id = next(it.topic_id for it in known if it.name == name)
    assert delete((name, NONE), (name, NONE)) == [(name, 42, "Duplicate topic name.")]
    assert delete((None, NONE)) == [(None, 42, "Neither topic name nor id were specified.")]
    assert delete((name, id)) == [(name, 42, "You may not specify both topic name and topic id.")]
    assert delete((f"{name}-none", NONE)) == [(f"{name}-none", 3, "This server does not host this topic-partition.")]
    assert delete((name, NONE)) == [(name, 0, None)]
    assert delete((None, id)) == [(None, 100, "This server does not host this topic ID.")]


def test_pages_begin_at_a_topic_that_was_asked_for(wire, name):
    create(wire, (name, 3, 1, [], []))
    Topic, Cursor = message("DescribeTopicPartitionsRequest.TopicRequest"), message("DescribeTopicPartitionsRequest.Cursor")

    def page(topic, partition):
        cursor = Cursor(topic_name=topic, partition_index=partition)
        answer = wire.call("DescribeTopicPartitions", 0, topics=[Topic(name=name)], response_partition_limit=2, cursor=cursor)
        return [(it.error_code, [p.partition_index for p in it.partitions]) for it in answer.topics]

    assert page(name, 1) == [(0, [1, 2])]
    assert page(name, -1) == [(42, [])]
    assert page(f"{name}-z", 0) == [(42, [])]


def test_elections_that_there_are_not(wire, name):
    create(wire, (name, 1, 1, [], []))
    Topic = message("ElectLeadersRequest.TopicPartitions")
    answer = wire.call("ElectLeaders", 2, election_type=7, timeout_ms=1000,
                       topic_partitions=[Topic(topic=name, partitions=[0])])
    (partition,) = answer.replica_election_results[0].partition_result
    assert (answer.error_code, partition.error_code, partition.error_message) == (42, 42, "Unknown election type 7")


def test_producers_that_are_half_known(wire, name):
    begin = lambda **fields: wire.call("InitProducerId", 5, **{  # noqa: E731
        "transactional_id": None, "transaction_timeout_ms": 60_000, "producer_id": -1, "producer_epoch": -1, **fields,
    }).error_code
    assert [begin(), begin(producer_id=5), begin(producer_epoch=5)] == [0, 42, 42]
    create(wire, (name, 1, 1, [], []))
    Topic = message("ProduceRequest.TopicProduceData")
    Partition = message("ProduceRequest.TopicProduceData.PartitionProduceData")
    records = batch(b"v", producer_id=7, epoch=0, sequence=-1)
    answer = wire.call("Produce", 11, transactional_id=None, acks=-1, timeout_ms=1000, topic_data=[
        Topic(name=name, partition_data=[Partition(index=0, records=records)]), Topic(name=name, partition_data=[]),
    ])
    assert [[it.error_code for it in topic.partition_responses] for topic in answer.responses] == [[87]]
