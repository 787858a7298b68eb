"""What RabbitMQ's clients rely on here and there, row by row: names, frames, priorities, limits and the end."""

import re
import time

import pika
import pytest

from amqp_wire import Wire
from clients import PATIENCE, pika_channel
from management import Management

BASE64 = r"[A-Za-z0-9_-]{22}"


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        yield it


def test_names_that_the_broker_chooses_look_like_rabbitmqs(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert re.fullmatch(f"amq\\.gen-{BASE64}", queue)


def test_consumer_tags_that_the_broker_chooses_look_like_rabbitmqs(broker):
    wire = Wire(broker.port("amqp")).open()
    wire.call("channel.open", 1)
    queue = wire.call("queue.declare", 1, queue="", exclusive=True).queue
    tag = wire.call("basic.consume", 1, queue=queue, consumer_tag="").consumer_tag
    assert tag.startswith("amq.ctag-")
    wire.close_socket()


def test_a_frame_may_be_eight_bytes_over_the_size_agreed_and_no_more(broker):
    """RabbitMQ counts the payload only: a frame of frame_max and its eight bytes around it is taken."""
    for over, taken in [(8, True), (9, False)]:
        wire = Wire(broker.port("amqp")).open(frame_max=4096)
        wire.call("channel.open", 1)
        queue = wire.call("queue.declare", 1, queue="", exclusive=True).queue
        wire.publish(1, "", queue, b"x" * (4088 + over), frame_max=4096 + over)
        if taken:
            assert len(wire.call("basic.get", 1, queue=queue, no_ack=True).body) == 4096
        else:
            assert wire.receive(0).code == 501
        wire.close_socket()


def test_a_quorum_queue_tells_priorities_0_to_31_apart(channel, name):
    """Strictly, without being asked; 4 without a priority, 31 for more (RabbitMQ 4.3)."""
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    for priority in (0, None, 5, 31, 200, 30):
        properties = pika.BasicProperties(delivery_mode=2, priority=priority)
        channel.basic_publish("", name, str(priority).encode(), properties)
    found = [channel.basic_get(name, auto_ack=True)[2].decode() for _ in range(6)]
    assert found == ["31", "200", "30", "5", "None", "0"]
    channel.queue_delete(name)


def test_the_first_consumer_of_a_classic_queue_is_the_active_one(channel, name):
    """Whatever priority a later one has, also before there is a message; of those that wait the highest is next."""
    channel.queue_declare(name, exclusive=True, arguments={"x-single-active-consumer": True})
    got = []

    def consume(tag, priority):
        def told(_channel, _method, _properties, body):
            got.append((tag, body))

        channel.basic_consume(name, told, True, consumer_tag=tag, arguments={"x-priority": priority})

    def is_next(tag, body):
        channel.basic_publish("", name, body)
        deadline = time.monotonic() + PATIENCE
        while not got and time.monotonic() < deadline:
            channel.connection.process_data_events(0.05)
        assert got.pop() == (tag, body)

    for tag, priority in [("first", 1), ("low", 2), ("high", 9)]:
        consume(tag, priority)
    is_next("first", b"a")
    channel.basic_cancel("first")
    is_next("high", b"b")


def test_a_client_that_does_not_answer_does_not_hold_up_a_stopping_broker(own_broker):
    broker = own_broker()
    wire = Wire(broker.port("amqp")).open()
    started = time.monotonic()
    broker.stop()
    # A second for the answer, five for the socket, where the broker waits ten for whoever is at work.
    assert time.monotonic() - started < 9
    closed = wire.receive(0)
    assert (closed.name, closed.code) == ("connection.close", 320)
    wire.close_socket()


def test_requests_to_the_management_api_are_no_connections(broker, name):
    admin = Management(broker)
    admin.put("users", name, password="secret", tags="management")
    admin.put("permissions", "/", name, configure=".*", write=".*", read=".*")
    admin.put("user-limits", name, "max-connections", value=1)
    credentials = pika.PlainCredentials(name, "secret")
    with pika_channel(broker, credentials=credentials) as channel:
        channel.queue_declare("", exclusive=True)
        assert Management(broker, name, "secret").get("whoami")["name"] == name
    admin.delete("users", name)
