"""Client quotas (KIP-13, KIP-124, KIP-219, KIP-546, KIP-599): set and shown by clients' tools, and their throttle times.

Connections without authentication are the user ANONYMOUS. A rate is measured over 11 samples of a second, and one
that has just begun as if it were 10 s old: so 20,000 bytes at once at 1,000 a second are 2,000 a second, and have to
wait (2,000 - 1,000) / 1,000 * 10 s.
"""

import time

import pytest

from kafka_wire import Wire, batch, encoded, message

SECOND = 1000
WINDOW = 10 * SECOND
RATE = 50_000


@pytest.fixture
def wire(broker, name):
    with Wire(broker.port("kafka"), client_id=name) as it:
        yield it


@pytest.fixture(autouse=True)
def no_quota_stays(broker):
    yield
    with Wire(broker.port("kafka"), client_id="cleaner") as it:
        for entity, values in quotas(it).items():
            changed = change(it, entity, {key: None for key in values})
            assert changed.error_code == 0


def change(wire, entity, values, validate_only=False):
    """Sets limits of an entity, a tuple of (type, name) pairs; a limit of None is removed."""
    Entry = message("AlterClientQuotasRequest.EntryData")
    ops = [Entry.OpData(key=key, value=value or 0.0, remove=value is None) for key, value in values.items()]
    entity = [Entry.EntityData(entity_type=kind, entity_name=name) for kind, name in entity]
    done = wire.call(
        "AlterClientQuotas", 1, entries=[Entry(entity=entity, ops=ops)], validate_only=validate_only
    )
    return done.entries[0]


def quotas(wire, *components, strict=False):
    Component = message("DescribeClientQuotasRequest.ComponentData")
    components = [Component(entity_type=kind, match_type=how, match=name) for kind, how, name in components]
    found = wire.call("DescribeClientQuotas", 1, components=components, strict=strict)
    assert found.error_code == 0, found
    return {
        tuple((part.entity_type, part.entity_name) for part in entry.entity): {it.key: it.value for it in entry.values}
        for entry in found.entries
    }


def create(wire, name, partitions=1, version=5, **more):
    Topic = message("CreateTopicsRequest.CreatableTopic")
    topic = Topic(name=name, num_partitions=partitions, replication_factor=1, assignments=[], configs=[])
    return wire.call("CreateTopics", version, topics=[topic], timeout_ms=10_000, **more)


def produce(wire, topic, size, acks=-1, read=True):
    Data = message("ProduceRequest.TopicProduceData")
    data = Data(name=topic, partition_data=[Data.PartitionProduceData(index=0, records=batch(b"x" * size))])
    wire.send("Produce", 9, transactional_id=None, acks=acks, timeout_ms=10_000, topic_data=[data])
    return wire.receive() if read else None


def fetch(wire, topic, offset=0, wait_ms=0, max_bytes=1 << 20):
    Topic = message("FetchRequest.FetchTopic")
    partition = Topic.FetchPartition(
        partition=0, current_leader_epoch=-1, fetch_offset=offset, last_fetched_epoch=-1, log_start_offset=-1,
        partition_max_bytes=max_bytes,
    )
    return wire.call(
        "Fetch", 12, max_wait_ms=wait_ms, min_bytes=1, max_bytes=max_bytes, isolation_level=0, session_id=0,
        session_epoch=-1, topics=[Topic(topic=topic, partitions=[partition])], forgotten_topics_data=[], rack_id="",
    )


def test_quotas_are_kept_and_shown(own_broker):
    broker = own_broker()
    wire = Wire(broker.port("kafka"))
    user, default = (("user", "u"),), (("user", None),)
    both, client = (("user", "u"), ("client-id", "c")), (("client-id", None),)
    assert change(wire, user, {"producer_byte_rate": 1000.0, "request_percentage": 12.5}).error_code == 0
    assert change(wire, default, {"consumer_byte_rate": 5.0}).error_code == 0
    assert change(wire, both, {"controller_mutation_rate": 0.5}).error_code == 0
    assert change(wire, client, {"producer_byte_rate": 7.0}).error_code == 0
    wire.close()
    broker.kill()
    broker.start()
    with Wire(broker.port("kafka")) as again:
        assert quotas(again) == {
            user: {"producer_byte_rate": 1000.0, "request_percentage": 12.5},
            default: {"consumer_byte_rate": 5.0}, both: {"controller_mutation_rate": 0.5},
            client: {"producer_byte_rate": 7.0},
        }
        assert set(quotas(again, ("user", 0, "u"))) == {user, both}
        assert set(quotas(again, ("user", 0, "u"), strict=True)) == {user}
        assert set(quotas(again, ("user", 1, None))) == {default}
        assert set(quotas(again, ("client-id", 2, None))) == {both, client}
        change(again, user, {"request_percentage": None})
        assert quotas(again, ("user", 0, "u"), strict=True) == {user: {"producer_byte_rate": 1000.0}}


def test_what_cannot_be_set_is_refused(wire):
    invalid = 42
    assert change(wire, (("user", "u"),), {"bytes": 1.0}).error_code == invalid
    assert change(wire, (("user", "u"),), {"producer_byte_rate": 1.5}).error_code == invalid
    assert change(wire, (("user", "u"),), {"request_percentage": -1.0}).error_code == invalid
    of_address = {"connection_creation_rate": 1.0}
    assert change(wire, (("ip", "10.0.0.1"),), {"producer_byte_rate": 1.0}).error_code == invalid
    assert change(wire, (("ip", "10.0.0.1"),), {"connection_creation_rate": 1.5}).error_code == invalid
    assert change(wire, (("ip", "10.0.0.1"),), {"connection_creation_rate": 1e12}).error_code == invalid
    assert change(wire, (("ip", "10.0.0.1"), ("user", "u")), of_address).error_code == invalid
    assert change(wire, (("user", "u"),), of_address).error_code == invalid
    assert change(wire, (("ip", "nowhere.invalid"),), of_address).error_code == invalid
    assert change(wire, (), {"producer_byte_rate": 1.0}).error_code == invalid
    assert change(wire, (("user", "u"),), {"producer_byte_rate": 1.0}, validate_only=True).error_code == 0
    assert quotas(wire) == {}


def test_a_producer_is_throttled_for_its_excess(broker, wire, name):
    """ClientQuotaManager: the whole request counts; the response goes out at once, the next request waits."""
    create(wire, name)
    change(wire, (("client-id", name),), {"producer_byte_rate": float(RATE)})
    Data = message("ProduceRequest.TopicProduceData")
    data = Data(name=name, partition_data=[Data.PartitionProduceData(index=0, records=batch(b"x" * 11 * RATE))])
    request = encoded("Produce", 9, client_id=name, transactional_id=None, acks=-1, timeout_ms=10_000, topic_data=[data])
    begun = time.monotonic()
    wire.send_bytes(request)
    answered = message("ProduceResponse").decode(wire.receive_frame(), version=9, header=True)
    assert answered.responses[0].partition_responses[0].error_code == 0
    rate = (len(request) - 4) / 10
    assert answered.throttle_time_ms == pytest.approx((rate - RATE) / RATE * WINDOW, abs=1)
    # It was answered at once; what comes next is not looked at before the time is over.
    wire.call("Metadata", 9, topics=[])
    assert time.monotonic() - begun >= answered.throttle_time_ms / SECOND


def test_acks_0_is_throttled_too(wire, name):
    create(wire, name)
    change(wire, (("client-id", name),), {"producer_byte_rate": float(RATE)})
    begun = time.monotonic()
    produce(wire, name, 11 * RATE, acks=0, read=False)
    wire.open.pop()
    wire.call("Metadata", 9, topics=[])
    assert time.monotonic() - begun > 0.8


def test_others_are_not_throttled(broker, wire, name):
    create(wire, name)
    change(wire, (("client-id", name),), {"producer_byte_rate": 1000.0})
    assert produce(wire, name, 20_000).throttle_time_ms > 0
    with Wire(broker.port("kafka"), client_id=f"{name}-2") as other:
        assert produce(other, name, 20_000).throttle_time_ms == 0
    with Wire(broker.port("kafka"), client_id=name) as same:
        assert produce(same, name, 100).throttle_time_ms > 0, "the client id is, however often it connects"


def test_the_most_specific_quota_counts(broker, wire, name):
    create(wire, name)
    change(wire, (("user", None),), {"producer_byte_rate": 1000.0})
    change(wire, (("user", "ANONYMOUS"),), {"producer_byte_rate": 2000.0})
    change(wire, (("user", "ANONYMOUS"), ("client-id", f"{name}-fast")), {"producer_byte_rate": 1e9})
    with Wire(broker.port("kafka"), client_id=f"{name}-fast") as fast:
        assert produce(fast, name, 100_000).throttle_time_ms == 0
    with Wire(broker.port("kafka"), client_id=f"{name}-slow") as slow:
        throttled = produce(slow, name, 30_000).throttle_time_ms
        assert throttled == pytest.approx((3_000 - 2_000) / 2_000 * WINDOW, abs=300)


def test_a_consumer_is_throttled_and_gets_nothing_meanwhile(broker, wire, name):
    """KIP-219: the response of a throttled fetch is empty. What fits into the window is returned at once."""
    create(wire, name)
    for _ in range(4):
        produce(wire, name, RATE)
    change(wire, (("client-id", name),), {"consumer_byte_rate": float(RATE // 10)})
    # The window is 10 s: 50,000 bytes, less than a batch; one batch is always returned (KIP-74).
    begun = time.monotonic()
    first = fetch(wire, name)
    assert first.throttle_time_ms > 0 and not first.responses
    wait = first.throttle_time_ms / SECOND
    change(wire, (("client-id", name),), {"consumer_byte_rate": 1e9})
    assert time.monotonic() - begun >= wait - 0.1
    data = fetch(wire, name)
    assert data.throttle_time_ms == 0 and data.responses[0].partitions[0].records


def test_requests_are_throttled_for_their_time(wire, name):
    """KIP-124: in per cent of a core; nobody waits for more than a window of a second."""
    create(wire, name)
    change(wire, (("client-id", name),), {"request_percentage": 0.000001})
    found = wire.call("Metadata", 9, topics=[])
    assert 0 < found.throttle_time_ms <= SECOND


def test_changes_are_throttled_by_partition(broker, wire, name):
    """KIP-599: a burst of 11 s is free and may be overdrawn once; new clients are told, old ones wait."""
    exceeded = 89
    change(wire, (("client-id", name),), {"controller_mutation_rate": 0.1})
    assert create(wire, f"{name}-1", partitions=12, version=7).topics[0].error_code == 0

    def other():
        return Wire(broker.port("kafka"), client_id=name)

    with other() as new:
        refused = create(new, f"{name}-2", version=7)
        assert refused.topics[0].error_code == exceeded
        assert 60 * SECOND < refused.throttle_time_ms <= 109 * SECOND, "12 of 1.1 are overdrawn by 10.9"
    with other() as old:
        created = create(old, f"{name}-2", version=5)
        assert created.topics[0].error_code == 0 and created.throttle_time_ms > 60 * SECOND
    Deleted = message("DeleteTopicsRequest.DeleteTopicState")
    with other() as new:
        gone = new.call("DeleteTopics", 6, topics=[Deleted(name=f"{name}-1")], timeout_ms=1000)
        assert gone.responses[0].error_code == exceeded
    More = message("CreatePartitionsRequest.CreatePartitionsTopic")
    with other() as new:
        topics = [More(name=f"{name}-1", count=14, assignments=None)]
        added = new.call("CreatePartitions", 3, topics=topics, timeout_ms=1000, validate_only=False)
        assert added.results[0].error_code == exceeded


def test_an_address_connects_as_often_as_it_may(broker, wire):
    """KIP-612: ten seconds' worth at once; a connection beyond that is closed within a second, and not answered."""
    address, others = "127.0.9.1", "127.0.9.2"

    def connect(source):
        it = Wire(broker.port("kafka"), source=(source, 0))
        it.send("ApiVersions", 0)
        return it

    assert change(wire, (("ip", address),), {"connection_creation_rate": 1.0}).error_code == 0
    assert change(wire, (("ip", None),), {"connection_creation_rate": 1000.0}).error_code == 0
    assert quotas(wire, ("ip", 0, address)) == {(("ip", address),): {"connection_creation_rate": 1.0}}
    assert set(quotas(wire, ("ip", 1, None))) == {(("ip", None),)}
    welcome, begun = [], time.monotonic()
    for _ in range(1000):
        started = time.monotonic()
        try:
            welcome.append(connect(address))
            assert welcome[-1].receive().error_code == 0
        except ConnectionError:
            welcome.pop()
            break
    # What it is told only by that is put off, so that it does not come again at once.
    assert time.monotonic() - started > 0.5
    # One more for each second that this took.
    assert 10 <= len(welcome) <= 10 + started - begun
    assert connect(others).receive().error_code == 0
    assert change(wire, (("ip", address),), {"connection_creation_rate": None}).error_code == 0
    assert connect(address).receive().error_code == 0
