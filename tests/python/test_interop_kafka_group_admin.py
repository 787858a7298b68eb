"""Groups as administrators see them: settings, offsets, members; and what share groups read."""

import time

import confluent_kafka
import pytest
from confluent_kafka import AcknowledgeType, KafkaException, ShareConsumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from clients import PATIENCE, eventually, read_topic


@pytest.fixture
def admin(broker):
    client = KafkaAdminClient(bootstrap_servers=broker.kafka)
    yield client
    client.close()


def create(broker, topic, partitions=1):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(PATIENCE)


def produce(broker, topic, values, partition=0, timestamp=0, **settings):
    """`timestamp` is in ms; 0 is the time at which each record is produced."""
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, **settings})
    for value in values:
        producer.produce(topic, value, key="k", partition=partition, timestamp=timestamp)
    assert producer.flush(PATIENCE) == 0


def group(name, settings=None):
    return ConfigResource(ConfigResourceType.GROUP, name, settings)


def configure(admin, name, **settings):
    changed = {key.replace("_", "."): value for key, value in settings.items()}
    admin.alter_configs([group(name, changed)], incremental=True)


def described(admin, resource):
    found = admin.describe_configs([resource], config_filter="all")
    (of_type,) = found.values()
    return {name: it for name, it in of_type[resource.name].items()}


def test_settings_are_set_shown_listed_and_reset(admin, name):
    before = described(admin, group(name))
    assert before["share.auto.offset.reset"]["value"] == "latest"
    assert before["consumer.session.timeout.ms"]["value"] == "45000"
    configure(admin, name, share_isolation_level="read_committed", share_record_lock_duration_ms="15000")
    after = described(admin, group(name))
    assert after["share.isolation.level"]["value"] == "read_committed"
    assert after["share.record.lock.duration.ms"]["value"] == "15000"
    assert after["share.session.timeout.ms"]["value"] == "45000"
    listed = admin.list_config_resources([ConfigResourceType.GROUP])
    assert name in str(listed)
    assert name not in str(admin.list_groups()), "settings are no group"
    admin.reset_configs([group(name, ["share.isolation.level", "share.record.lock.duration.ms"])])
    assert described(admin, group(name))["share.isolation.level"]["value"] == "read_uncommitted"
    assert name not in str(admin.list_config_resources([ConfigResourceType.GROUP]))


@pytest.mark.parametrize(("setting", "value", "text"), [
    ("consumer.session.timeout.ms", "1000", "must be greater than or equal to group.consumer.min.session.timeout.ms"),
    ("share.heartbeat.interval.ms", "x", "Not a number of type INT"),
    ("share.isolation.level", "dirty", "String must be one of: read_committed, read_uncommitted"),
    ("share.auto.offset.reset", "by_duration:1h", "or of the format 'by_duration:<PnDTnHnMn.nS>'"),
])
def test_what_cannot_be_set_is_refused_with_a_reason(admin, name, setting, value, text):
    answer = admin.alter_configs([group(name, {setting: value})], incremental=True)
    assert text in str(answer)
    assert name not in str(admin.list_config_resources([ConfigResourceType.GROUP]))


def test_clients_metrics_are_described_as_unused(admin):
    found = described(admin, ConfigResource(ConfigResourceType.CLIENT_METRICS, "all"))
    assert found["interval.ms"]["value"] == "300000"
    assert "all" not in str(admin.list_config_resources([ConfigResourceType.CLIENT_METRICS]))


class Share:
    """A member of a share group that accepts what it gets, or does what `decide` says."""

    def __init__(self, broker, name, topic=None):
        self.seen = []
        self.consumer = ShareConsumer({
            "bootstrap.servers": broker.kafka, "group.id": name, "share.acknowledgement.mode": "explicit",
        })
        self.consumer.subscribe([topic or name])

    def poll(self, decide=lambda message: AcknowledgeType.ACCEPT):
        for message in self.consumer.poll(0.2) or []:
            if message.error() is None:
                self.seen.append(message.value().decode())
                self.consumer.acknowledge(message, decide(message))
        self.consumer.commit_sync()

    def close(self):
        self.consumer.close()


def test_a_share_group_begins_where_its_settings_say(broker, admin, name):
    create(broker, name)
    produce(broker, name, ["a", "b"])
    configure(admin, name, share_auto_offset_reset="earliest")
    member = Share(broker, name)
    eventually(lambda: member.poll() or member.seen == ["a", "b"])
    member.close()
    other = f"{name}-recent"
    configure(admin, other, share_auto_offset_reset="by_duration:PT1H")
    member = Share(broker, other, name)
    eventually(lambda: member.poll() or member.seen == ["a", "b"])
    member.close()


def test_a_share_group_reads_committed_records_only_when_told_so(broker, admin, name):
    create(broker, name)
    configure(admin, name, share_auto_offset_reset="earliest", share_isolation_level="read_committed")
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions(PATIENCE)
    produce(broker, name, ["plain"])
    member = Share(broker, name)
    eventually(lambda: member.poll() or member.seen == ["plain"])
    producer.begin_transaction()
    producer.produce(name, "aborted")
    producer.flush(PATIENCE)
    produce(broker, name, ["behind"])
    ends = time.monotonic() + 2
    while time.monotonic() < ends:
        member.poll()
    assert member.seen == ["plain"], "nothing behind an open transaction"
    producer.abort_transaction(PATIENCE)
    producer.begin_transaction()
    producer.produce(name, "committed")
    producer.commit_transaction(PATIENCE)
    eventually(lambda: member.poll() or len(member.seen) == 3)
    assert member.seen == ["plain", "behind", "committed"]
    member.close()


REJECTED, EXCEEDED = b"Offset rejected by client.", b"Offset delivery count exceeded the threshold."


def dead_letters(broker, topic, count):
    records = read_topic(broker, topic, count)
    return {record.offset: (dict(record.headers), record.key, record.value) for record in records}


def about(group, topic, offset, deliveries, reason):
    named = {"topic": topic, "partition": "0", "offset": str(offset), "group": group, "delivery.count": str(deliveries)}
    return {f"__dlq.errors.{name}": value.encode() for name, value in named.items()} | {"__dlq.errors.message": reason}


def test_what_a_share_group_gives_up_goes_to_its_dead_letter_topic(broker, admin, name):
    create(broker, name)
    create(broker, f"{name}-dead")
    configure(
        admin, name, share_auto_offset_reset="earliest", share_delivery_count_limit="2",
        errors_deadletterqueue_topic_name=f"{name}-dead", errors_deadletterqueue_copy_record_enable="true",
    )
    produce(broker, name, ["good", "bad", "again"])

    def decide(message):
        return {
            b"good": AcknowledgeType.ACCEPT, b"bad": AcknowledgeType.REJECT, b"again": AcknowledgeType.RELEASE,
        }[message.value()]

    member = Share(broker, name)
    eventually(lambda: member.poll(decide) or sorted(member.seen) == ["again", "again", "bad", "good"])
    found = dead_letters(broker, f"{name}-dead", 2)
    member.close()
    assert found == {
        0: (about(name, name, 1, 1, REJECTED), b"k", b"bad"),
        1: (about(name, name, 2, 2, EXCEEDED), b"k", b"again"),
    }


def test_dead_letters_say_no_more_than_where_unless_they_are_to_be_copied(broker, admin, name):
    create(broker, name)
    create(broker, f"{name}-dead")
    settings = {"share_auto_offset_reset": "earliest", "errors_deadletterqueue_topic_name": f"{name}-dead"}
    configure(admin, name, **settings)
    produce(broker, name, [str(number) for number in range(50)])
    member = Share(broker, name)
    eventually(lambda: member.poll(lambda _: AcknowledgeType.REJECT) or len(member.seen) == 50)
    found = dead_letters(broker, f"{name}-dead", 50)
    member.close()
    assert [(key, value) for _, key, value in found.values()] == [(None, None)] * 50
    offsets = [int(headers["__dlq.errors.offset"]) for headers, _, _ in found.values()]
    assert sorted(offsets) == list(range(50))


def test_each_dead_letter_arrives_once_whenever_the_broker_is_killed(own_broker, name):
    """Everything is rejected while the broker is killed again and again: one dead letter for each record."""
    count = 5000
    broker = own_broker()
    create(broker, name)
    create(broker, f"{name}-dead")
    admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
    configure(
        admin, name, share_auto_offset_reset="earliest", errors_deadletterqueue_topic_name=f"{name}-dead",
        share_delivery_count_limit="10",
    )
    admin.close()
    # Whole batches are given out.
    produce(broker, name, [str(number) for number in range(count)], **{"batch.num.messages": 100})
    member = Share(broker, name)

    def dead():
        consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": "watch"})
        try:
            return consumer.get_watermark_offsets(TopicPartition(f"{name}-dead", 0), PATIENCE)[1]
        except KafkaException:
            return 0
        finally:
            consumer.close()

    def reject():
        try:
            member.poll(lambda _: AcknowledgeType.REJECT)
        except KafkaException:
            pass

    for _ in range(3):
        # A poll has 500 records and a batch at most: each kill comes before everything is rejected.
        reject()
        reject()
        assert dead() < count
        broker.kill()
        broker.start()
    eventually(lambda: reject() or dead() >= count, 2 * PATIENCE)
    member.close()
    assert dead() == count
    found = dead_letters(broker, f"{name}-dead", count)
    offsets = [int(headers["__dlq.errors.offset"]) for headers, _, _ in found.values()]
    assert sorted(offsets) == list(range(count))
