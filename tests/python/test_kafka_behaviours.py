"""What clients take a broker to be by: the ranges that it advertises, and codes that they act upon.

The names of errors are those of Kafka's protocol guide; what is not a client's to see elsewhere is asked for by single
requests.
"""

import struct
import time

import pytest
from kafka.protocol.broker_version_data import BROKER_API_VERSIONS

from clients import PATIENCE
from kafka_wire import Wire, batch, message

KAFKA = (4, 3)
# Streams groups (KIP-1071); telemetry is not served without a plugin by Kafka, either. The rest is between brokers.
NOT_SERVED = {88, 89}
BETWEEN_BROKERS = {83, 84, 85, 86, 87}
CONSUMER_PROTOCOL = b"\0\0\0\0\0\1\0\1t\xff\xff\xff\xff"
GROUP = 32


@pytest.fixture
def wire(broker, name):
    with Wire(broker.port("kafka"), client_id=name) as it:
        yield it


def test_the_advertised_ranges_are_those_that_tell_kafka_4_3(wire):
    """As kafka-python has recorded them from a broker of 4.3, which it takes one for by them."""
    versions = wire.call("ApiVersions", 4, client_software_name="test", client_software_version="1")
    advertised = {it.api_key: (it.min_version, it.max_version) for it in versions.api_keys}
    recorded = BROKER_API_VERSIONS[KAFKA]
    assert {key: it for key, it in advertised.items() if recorded.get(key) != it} == {}
    assert set(recorded) - set(advertised) == (NOT_SERVED | BETWEEN_BROKERS) & set(recorded)
    assert versions.finalized_features
    levels = {it.name: it.max_version_level for it in versions.finalized_features}
    assert (levels["transaction.version"], levels["group.version"], levels["share.version"]) == (2, 1, 1)


def test_a_version_to_come_is_answered_in_version_0_and_the_connection_goes_on(wire):
    """KIP-511: code 35, and ApiVersions' own range among what is listed."""
    body = struct.pack(">hhih", 18, 99, 7, 1) + b"c" + b"\0" + b"\x05what" + b"\xff" * 20
    wire.send_bytes(struct.pack(">i", len(body)) + body)
    answer = message("ApiVersionsResponse").decode(wire.receive_frame(), version=0, header=True)
    assert answer.error_code == 35
    assert [(it.api_key, it.min_version, it.max_version) for it in answer.api_keys if it.api_key == 18] == [(18, 0, 4)]
    assert wire.call("ApiVersions", 3, client_software_name="test", client_software_version="1").error_code == 0


def test_what_is_not_served_ends_the_connection(broker):
    for key, version in [(88, 0), (71, 0), (0, 2), (3, 14)]:
        with Wire(broker.port("kafka")) as it:
            body = struct.pack(">hhih", key, version, 1, -1)
            it.send_bytes(struct.pack(">i", len(body)) + body)
            assert it.is_closed(), (key, version)


def test_a_transaction_takes_no_longer_than_the_broker_allows(wire, name):
    """`transaction.max.timeout.ms` is 15 minutes: INVALID_TRANSACTION_TIMEOUT."""
    begin = lambda timeout: wire.call(  # noqa: E731
        "InitProducerId", 4, transactional_id=name, transaction_timeout_ms=timeout, producer_id=-1, producer_epoch=-1
    ).error_code
    assert [begin(15 * 60_000), begin(15 * 60_000 + 1), begin(0)] == [0, 50, 50]


def create(wire, name, partitions=1):
    Topic = message("CreateTopicsRequest.CreatableTopic")
    topic = Topic(name=name, num_partitions=partitions, replication_factor=1, assignments=[], configs=[])
    assert wire.call("CreateTopics", 5, topics=[topic], timeout_ms=10_000).topics[0].error_code == 0


def join_alone(wire, group):
    """The only member of a new group, with its generation."""
    Protocol = message("JoinGroupRequest.JoinGroupRequestProtocol")
    protocols = [Protocol(name="range", metadata=CONSUMER_PROTOCOL)]

    def join(member):
        return wire.call(
            "JoinGroup", 5, group_id=group, session_timeout_ms=60_000, rebalance_timeout_ms=60_000, member_id=member,
            group_instance_id=None, protocol_type="consumer", protocols=protocols,
        )

    refused = join("")
    assert refused.error_code == 79  # MEMBER_ID_REQUIRED
    joined = join(refused.member_id)
    assert joined.error_code == 0
    Assignment = message("SyncGroupRequest.SyncGroupRequestAssignment")
    assignments = [Assignment(member_id=joined.member_id, assignment=b"")]
    synced = wire.call(
        "SyncGroup", 3, group_id=group, generation_id=joined.generation_id, member_id=joined.member_id,
        group_instance_id=None, assignments=assignments,
    )
    assert synced.error_code == 0
    return joined.member_id, joined.generation_id


def test_a_producer_that_does_not_say_who_consumed_commits_in_its_transaction(wire, name):
    """KAFKA-18060: TxnOffsetCommit with an empty member, to a group with members; any other is held to its generation."""
    create(wire, name)
    member, generation = join_alone(wire, name)
    producer = wire.call(
        "InitProducerId", 4, transactional_id=name, transaction_timeout_ms=60_000, producer_id=-1, producer_epoch=-1
    )
    added = wire.call(
        "AddOffsetsToTxn", 3, transactional_id=name, producer_id=producer.producer_id,
        producer_epoch=producer.producer_epoch, group_id=name,
    )
    assert added.error_code == 0
    Topic = message("TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic")

    def commit(offset, generation, member):
        partition = Topic.TxnOffsetCommitRequestPartition(
            partition_index=0, committed_offset=offset, committed_leader_epoch=-1, committed_metadata=""
        )
        done = wire.call(
            "TxnOffsetCommit", 3, transactional_id=name, group_id=name, producer_id=producer.producer_id,
            producer_epoch=producer.producer_epoch, generation_id=generation, member_id=member, group_instance_id=None,
            topics=[Topic(name=name, partitions=[partition])],
        )
        return done.topics[0].partitions[0].error_code

    assert commit(7, generation + 1, member) == 22  # ILLEGAL_GENERATION
    assert commit(7, generation, "somebody") == 25  # UNKNOWN_MEMBER_ID
    assert commit(7, generation, member) == 0
    assert commit(8, -1, "") == 0
    ended = wire.call(
        "EndTxn", 3, transactional_id=name, producer_id=producer.producer_id,
        producer_epoch=producer.producer_epoch, committed=True,
    )
    assert ended.error_code == 0
    Wanted = message("OffsetFetchRequest.OffsetFetchRequestTopic")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        fetched = wire.call(
            "OffsetFetch", 7, group_id=name, topics=[Wanted(name=name, partition_indexes=[0])], require_stable=True
        ).topics[0].partitions[0]
        if fetched.error_code != 88:  # UNSTABLE_OFFSET_COMMIT
            break
    assert (fetched.error_code, fetched.committed_offset) == (0, 8)


def test_every_special_offset_is_told(wire, name):
    create(wire, name)
    Data = message("ProduceRequest.TopicProduceData")
    for at, timestamp in enumerate([5_000, 9_000, 7_000]):
        records = batch(b"v", timestamp=timestamp)
        data = Data(name=name, partition_data=[Data.PartitionProduceData(index=0, records=records)])
        done = wire.call("Produce", 9, transactional_id=None, acks=-1, timeout_ms=10_000, topic_data=[data])
        told = done.responses[0].partition_responses[0]
        assert (told.error_code, told.base_offset) == (0, at)
    Topic = message("ListOffsetsRequest.ListOffsetsTopic")

    def find(timestamp, version=11):
        partition = Topic.ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=timestamp)
        found = wire.call(
            "ListOffsets", version, replica_id=-1, isolation_level=0, timeout_ms=1000,
            topics=[Topic(name=name, partitions=[partition])],
        ).topics[0].partitions[0]
        return found.error_code, found.offset

    assert [find(it) for it in (-2, -1, -4, -3)] == [(0, 0), (0, 3), (0, 0), (0, 1)]
    # Nothing is tiered, so nothing is found and nothing waits for its upload.
    assert [find(it)[1] for it in (-5, -6)] == [-1, -1]
    assert [find(it) for it in (6_000, 9_000, 9_001)] == [(0, 1), (0, 1), (0, -1)]
    # An older client does not know them: UNSUPPORTED_VERSION.
    assert [find(-3, 6)[0], find(-5, 8)[0]] == [35, 35]


def test_settings_of_groups_are_replaced_by_the_older_request(wire, name):
    """AlterConfigs of a GROUP: what is not mentioned is reset, in force and kept; IncrementalAlterConfigs changes one."""
    Resource = message("AlterConfigsRequest.AlterConfigsResource")

    def replace(configs, validate_only=False):
        configs = [Resource.AlterableConfig(name=key, value=value) for key, value in configs.items()]
        resource = Resource(resource_type=GROUP, resource_name=name, configs=configs)
        done = wire.call("AlterConfigs", 2, resources=[resource], validate_only=validate_only)
        return done.responses[0]

    def change(key, value, operation):
        One = message("IncrementalAlterConfigsRequest.AlterConfigsResource")
        config = One.AlterableConfig(name=key, config_operation=operation, value=value)
        resource = One(resource_type=GROUP, resource_name=name, configs=[config])
        return wire.call("IncrementalAlterConfigs", 1, resources=[resource], validate_only=False).responses[0]

    def own():
        Wanted = message("DescribeConfigsRequest.DescribeConfigsResource")
        wanted = Wanted(resource_type=GROUP, resource_name=name, configuration_keys=None)
        found = wire.call("DescribeConfigs", 4, resources=[wanted], include_synonyms=False, include_documentation=False)
        # Source 8: the group's own.
        return {it.name: it.value for it in found.results[0].configs if it.config_source == 8}

    assert replace({"consumer.session.timeout.ms": "50000", "share.record.lock.duration.ms": "20000"}).error_code == 0
    assert own() == {"consumer.session.timeout.ms": "50000", "share.record.lock.duration.ms": "20000"}
    assert replace({"consumer.session.timeout.ms": "51000"}, validate_only=True).error_code == 0
    assert replace({"share.record.lock.duration.ms": "25000"}).error_code == 0
    assert own() == {"share.record.lock.duration.ms": "25000"}
    assert change("consumer.heartbeat.interval.ms", "6000", 0).error_code == 0
    assert own() == {"share.record.lock.duration.ms": "25000", "consumer.heartbeat.interval.ms": "6000"}
    refused = replace({"consumer.session.timeout.ms": "soon"})
    assert refused.error_code == 40 and "consumer.session.timeout.ms" in refused.error_message  # INVALID_CONFIG
    assert replace({}).error_code == 0
    assert own() == {}
