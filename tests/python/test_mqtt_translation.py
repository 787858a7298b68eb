"""Topics and QoS between MQTT and AMQP as RabbitMQ has them, for migrations (DESIGN 3.1 and 3.4)."""

import pika
import pytest
from paho.mqtt import client as mqtt

from clients import Device, pika_channel, take


@pytest.fixture
def migrated(own_broker):
    return own_broker(mqtt__topic_mapping="rabbitmq", mqtt__qos_from_delivery_mode="rabbitmq")


def bound(channel, key):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", key)
    channel.confirm_delivery()
    return queue


@pytest.mark.parametrize("version", [mqtt.MQTTv5, mqtt.MQTTv311])
def test_slashes_are_dots_and_nothing_is_escaped(migrated, version):
    with pika_channel(migrated) as channel, Device(migrated, version=version) as device:
        queue = bound(channel, "v1.0.#")
        device.subscribe("v1.0/+/state", "#", qos=1)
        device.publish("v1.0/a/state", b"up", retain=True)
        [(method, _, body)] = take(channel, queue, 1)
        assert (method.routing_key, body) == ("v1.0.a.state", b"up")
        # As from RabbitMQ: where the dot was, nobody knows.
        assert device.next().topic == "v1/0/a/state"
        channel.basic_publish("amq.topic", "v1.0.b/c.state", b"by AMQP")
        message = device.next()
        assert (message.topic, message.payload) == ("v1/0/b/c/state", b"by AMQP")
        assert device.settle() == []
        device.unsubscribe("v1.0/+/state")
        device.unsubscribe("#")
        channel.basic_publish("amq.topic", "v1.0.b.state", b"to nobody")
        assert device.settle() == []
    with Device(migrated, version=version) as late:
        late.subscribe("v1.0/a/#")
        message = late.next()
        assert (message.topic, message.payload, message.retain) == ("v1/0/a/state", b"up", True)


def test_groups_wills_and_queues(migrated):
    will = {"topic": "will.s/a.b", "payload": b"gone"}
    with pika_channel(migrated) as channel, Device(migrated) as device:
        device.subscribe("$share/g.1/will.s/#")
        Device(migrated, will=will).vanish()
        assert device.next().topic == "will/s/a/b"
        # Names of queues are no topics.
        channel.queue_declare("with.dots", exclusive=True)
        device.publish("$queue/with.dots", b"x")
        [(method, _, _)] = take(channel, "with.dots", 1)
        assert method.routing_key == "with.dots"


def test_only_an_explicit_delivery_mode_lowers_the_qos(migrated, own_broker):
    for broker, lowered in [(migrated, 0), (own_broker(), 1)]:
        with pika_channel(broker) as channel, Device(broker) as device:
            channel.confirm_delivery()
            device.subscribe("q/#", qos=1)
            for mode in (1, 2, None):
                channel.basic_publish("amq.topic", "q.a", b"x", pika.BasicProperties(delivery_mode=mode))
            assert [it.qos for it in device.take(3)] == [lowered, 1, 1]


def test_a_switch_that_means_nothing_is_refused(own_broker):
    with pytest.raises(AssertionError, match="mqtt.topic_mapping"):
        own_broker(mqtt__topic_mapping="plain")
