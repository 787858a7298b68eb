"""Floating-point headers, which pika cannot write: single (`f`) and double (`d`) ones, to the other protocols and back."""

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from amqp_wire import Typed, Wire
from clients import PATIENCE, Device, publish_properties, read_topic

FLOATS = {"single": Typed("f", 1.5), "double": Typed("d", -0.1), "nested": {"inner": Typed("d", 1e300)}}
TEXTS = {"single": "1.5", "double": "-0.1"}


@pytest.fixture
def wire(broker):
    """A connection with a channel."""
    it = Wire(broker.port("amqp")).open()
    it.call("channel.open", 1)
    yield it
    it.close_socket()


def bound(wire, key):
    """A queue that gets what is published under a key of the town square."""
    queue = wire.call("queue.declare", 1, queue="", exclusive=True).queue
    wire.call("queue.bind", 1, queue=queue, exchange="amq.topic", routing_key=key)
    wire.call("basic.consume", 1, queue=queue, consumer_tag="tag", no_ack=True)
    return queue


def topic(broker, name):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(name, 1)])[name].result(PATIENCE)


def types(listed):
    return set(listed.split(","))


def headers_of(delivered):
    return delivered.properties["headers"]


def test_between_amqp_clients_floats_are_kept_to_the_bit(wire, name):
    bound(wire, name)
    wire.publish(1, "amq.topic", name, b"x", {"headers": FLOATS})
    found = headers_of(wire.expect(1, "basic.deliver"))
    assert found["double"] == Typed("d", -0.1)
    assert found["single"] == Typed("f", 1.5)
    assert found["nested"] == Typed("F", {"inner": Typed("d", 1e300)})


def test_to_kafka_floats_are_texts_that_say_their_type(broker, wire, name):
    topic(broker, name)
    wire.publish(1, "amq.topic", name, b"x", {"headers": {**FLOATS, "nested": {}}})
    [record] = read_topic(broker, name, 1)
    headers = dict(record.headers)
    assert {it: headers[it].decode() for it in TEXTS} == TEXTS
    assert {"single:f", "double:d"} <= types(headers["mq.types"].decode())


def test_from_kafka_texts_become_the_floats_that_they_were(broker, wire, name):
    topic(broker, name)
    bound(wire, name)
    headers = [(it, value.encode()) for it, value in TEXTS.items()]
    producer = Producer({"bootstrap.servers": broker.kafka})
    producer.produce(name, b"x", headers=[*headers, ("mq.types", b"single:f,double:d")])
    assert producer.flush(PATIENCE) == 0
    found = headers_of(wire.expect(1, "basic.deliver"))
    assert (found["single"], found["double"]) == (FLOATS["single"], FLOATS["double"])


def test_to_mqtt_and_back_floats_are_what_they_were(broker, wire, name):
    with Device(broker) as device:
        device.subscribe(name)
        wire.publish(1, "amq.topic", name, b"x", {"headers": {**FLOATS, "nested": {}}})
        user = dict(device.next().properties.UserProperty)
        assert {it: user[it] for it in TEXTS} == TEXTS
        assert {"single:f", "double:d"} <= types(user["mq.types"])
        bound(wire, name + ".back")
        pairs = [(it, user[it]) for it in ("single", "double")] + [("mq.types", "single:f,double:d")]
        device.publish(name + "/back", b"x", properties=publish_properties(UserProperty=pairs))
        found = headers_of(wire.expect(1, "basic.deliver"))
        assert (found["single"], found["double"]) == (FLOATS["single"], FLOATS["double"])


def test_from_kafka_a_text_that_is_no_float_stays_text(broker, wire, name):
    topic(broker, name)
    bound(wire, name)
    producer = Producer({"bootstrap.servers": broker.kafka})
    producer.produce(name, b"x", headers=[("single", b"much"), ("mq.types", b"single:f")])
    assert producer.flush(PATIENCE) == 0
    assert headers_of(wire.expect(1, "basic.deliver"))["single"] == Typed("S", "much")
