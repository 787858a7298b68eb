"""Consumers of streams that go by a name: their offsets are those of a consumer group, for AMQP's clients and Kafka's."""

import confluent_kafka
import pika
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from pika.exceptions import ChannelClosedByBroker

from clients import PATIENCE, eventually, make_durable, pika_channel
from management import Management
from test_amqp_streams import declare, fill
from test_interop_kafka_tools import java, tool  # noqa: F401, fixtures

CONSUMER_GROUPS = "consumer.group.ConsumerGroupCommand"


class Reader:
    """A consumer of a stream on a connection of its own."""

    def __init__(self, broker, stream, tag=None, url=None, **arguments):
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        self._connection = pika.BlockingConnection(pika.URLParameters(url or broker.amqp_url))
        self._channel = self._connection.channel()
        self._channel.basic_qos(prefetch_count=100)
        self.found = []
        self._channel.basic_consume(
            stream, lambda _channel, method, _properties, body: self.found.append((method.delivery_tag, body)),
            consumer_tag=tag, arguments=arguments,
        )

    def read(self, count):
        """Waits for `count` messages in all; their bodies."""
        def come():
            self._connection.process_data_events(0.05)
            return len(self.found) >= count

        eventually(come, PATIENCE)
        return [body.decode() for _, body in self.found]

    def ack(self, count):
        """Acknowledges the first `count` messages, and waits until the broker has heard of it."""
        self._channel.basic_ack(self.found[count - 1][0], multiple=True)
        self._connection.channel().close()

    def has_nothing(self):
        self._connection.process_data_events(0.2)
        return not self.found

    def close(self):
        self._connection.close()


def committed(broker, group, topic):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    wanted = confluent_kafka.ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])
    found = admin.list_consumer_group_offsets([wanted])[group].result(PATIENCE)
    return found.topic_partitions[0].offset


@pytest.fixture
def stream(broker, name):
    with pika_channel(broker) as channel:
        declare(channel, name)
        fill(channel, name, 10)
        yield name


def numbers(first, last=10):
    return [str(number) for number in range(first, last)]


def test_a_group_resumes_and_first_only_counts_the_first_time(broker, stream, name):
    reader = Reader(broker, stream, x_group=f"{name}-g", x_stream_offset="first")
    assert reader.read(10) == numbers(0)
    reader.ack(4)
    reader.close()
    assert committed(broker, f"{name}-g", stream) == 4
    reader = Reader(broker, stream, x_group=f"{name}-g", x_stream_offset="first")
    assert reader.read(6) == numbers(4)
    reader.close()


def test_a_tag_is_a_name_where_no_offset_is_given(broker, stream, name):
    reader = Reader(broker, stream, tag=f"{name}-audit")
    assert reader.has_nothing()
    reader.close()
    with pika_channel(broker) as channel:
        fill(channel, stream, 2, start=10)
    # What came while it was away; null says the same as nothing.
    for arguments in ({}, {"x_stream_offset": None}):
        reader = Reader(broker, stream, tag=f"{name}-audit", **arguments)
        assert reader.read(2) == ["10", "11"]
        reader.close()
    reader = Reader(broker, stream, tag=f"{name}-audit", x_stream_offset=9)
    assert reader.read(3) == ["9", "10", "11"]
    reader.ack(3)
    reader.close()
    assert committed(broker, f"{name}-audit", stream) == 10


def test_tags_that_libraries_make_up_leave_no_groups_behind(broker, stream):
    def groups():
        listed = AdminClient({"bootstrap.servers": broker.kafka}).list_consumer_groups().result(PATIENCE)
        return {it.group_id for it in listed.valid if it.group_id.startswith(("ctag", "amq."))}

    Reader(broker, stream).close()
    assert groups() == set()


def test_a_name_survives_a_kill(own_broker, name):
    broker = own_broker()
    with pika_channel(broker) as channel:
        declare(channel, name)
        fill(channel, name, 10)
    reader = Reader(broker, name, x_group="g", x_stream_offset="first")
    reader.read(10)
    reader.ack(7)
    # An acknowledgement promises nothing by itself.
    eventually(lambda: committed(broker, "g", name) == 7)
    make_durable(broker)
    broker.kill()
    broker.start()
    reader = Reader(broker, name, x_group="g")
    assert reader.read(3) == numbers(7)
    reader.close()


def test_one_reads_at_a_time(broker, stream, name):
    first = Reader(broker, stream, x_group=f"{name}-g", x_stream_offset="first")
    first.read(10)
    first.ack(5)
    second = Reader(broker, stream, x_group=f"{name}-g")
    assert second.has_nothing()
    first.close()
    assert second.read(5) == numbers(5)
    second.close()


def test_kafkas_tools_list_describe_and_move_it(tool, broker, stream, name):  # noqa: F811
    group = f"{name}-g"
    reader = Reader(broker, stream, tag="me", x_group=group, x_stream_offset="first")
    reader.read(10)
    reader.ack(6)
    listed = tool(CONSUMER_GROUPS, "--list", "--state", "stable")
    assert any(row.split()[:1] == [group] for row in listed.splitlines()), listed

    def row():
        described = tool(CONSUMER_GROUPS, "--describe", "--group", group)
        return next(line.split() for line in described.splitlines() if line.startswith(group))

    # GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
    assert row()[1:6] == [stream, "0", "6", "10", "4"]
    assert row()[6].startswith("me@") and row()[-1] == "me"
    reset = ["--reset-offsets", "--group", group, "--topic", stream, "--to-offset", "2", "--execute"]
    refused = tool(CONSUMER_GROUPS, *reset, status=0)
    assert "Error" in refused, refused
    assert committed(broker, group, stream) == 6
    reader.close()
    tool(CONSUMER_GROUPS, *reset)
    assert row()[3] == "2"
    reader = Reader(broker, stream, tag="me", x_group=group)
    assert reader.read(8) == numbers(2)
    reader.close()
    tool(CONSUMER_GROUPS, "--delete", "--group", group)
    assert committed(broker, group, stream) == confluent_kafka.OFFSET_INVALID


def test_a_kafka_consumer_goes_on_where_an_amqp_consumer_was(broker, stream, name):
    reader = Reader(broker, stream, x_group=f"{name}-g", x_stream_offset="first")
    reader.read(10)
    reader.ack(8)
    reader.close()
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": f"{name}-g"})
    consumer.subscribe([stream])
    found = []
    eventually(lambda: found.extend(consumer.consume(10, 0.2)) or len(found) == 2)
    assert [it.value().decode() for it in found] == ["8", "9"]
    consumer.commit(asynchronous=False)
    consumer.close()
    reader = Reader(broker, stream, x_group=f"{name}-g")
    assert reader.has_nothing()
    reader.close()


def test_who_may_not_read_the_group_is_refused_or_reads_without_a_name(broker, stream, name):
    management = Management(broker)
    management.put("users", name, password="secret", tags="")
    management.put("permissions", "/", name, configure="^$", write="^$", read=f"^{stream}$")
    url = f"amqp://{name}:secret@{broker.addresses['amqp']}/"
    with pytest.raises(ChannelClosedByBroker) as closed:
        Reader(broker, stream, url=url, x_group=f"{name}-g")
    assert closed.value.reply_code == 403
    reader = Reader(broker, stream, tag=f"{name}-tag", url=url)
    assert reader.has_nothing()
    reader.close()
    assert committed(broker, f"{name}-tag", stream) == confluent_kafka.OFFSET_INVALID
    management.delete("users", name)


def test_a_group_of_kafka_members_is_not_an_amqp_consumers(broker, stream, name):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": f"{name}-g"})
    consumer.subscribe([stream])
    eventually(lambda: consumer.poll(0.1) or consumer.assignment())
    with pytest.raises((ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker)) as closed:
        Reader(broker, stream, x_group=f"{name}-g")
    assert "inconsistent group protocol" in closed.value.reply_text
    consumer.close()
    # On a queue there is nothing to keep.
    with pika_channel(broker) as channel:
        channel.queue_declare(f"{name}-q", exclusive=True)
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.basic_consume(f"{name}-q", lambda *_: None, arguments={"x-group": "g"})
        assert closed.value.reply_code == 406
