"""One cause, and what each protocol says of it (DESIGN 3.5). Sizes and keys of logs are in `test_captures.py`, a full
disk is in `test_shortage.py`."""

import pika
import pytest

from clients import Device, pika_channel
from management import Management
from test_captures import create, produce, refusal


def test_a_queue_that_is_full_and_refuses(broker, name):
    with pika_channel(broker) as channel, Device(broker) as device:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
        channel.queue_bind(queue, "amq.topic", f"{name}.a")
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", f"{name}.a", b"fits")
        with pytest.raises(pika.exceptions.NackError):
            channel.basic_publish("amq.topic", f"{name}.a", b"does not")
        assert refusal(device, f"{name}/a", b"does not") == 0x97
        assert channel.queue_declare(queue, passive=True).method.message_count == 1


def test_no_destination(broker, name):
    with pika_channel(broker) as channel, Device(broker) as device:
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.UnroutableError) as returned:
            channel.basic_publish("amq.topic", f"{name}.a", b"x", mandatory=True)
        assert returned.value.messages[0].method.reply_code == 312
        channel.basic_publish("amq.topic", f"{name}.a", b"x")
        assert refusal(device, f"{name}/a", b"x") == 0x10


def test_no_permission(own_broker, name):
    """Clients of Kafka and anonymous ones of MQTT act as guest."""
    broker = own_broker()
    create(broker, f"{name}.log")
    Management(broker).put("permissions", "/", "guest", configure="", write="^nothing$", read=".*")
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            channel.basic_publish("amq.topic", f"{name}.a", b"x")
        assert closed.value.reply_code == 403
    with Device(broker) as device:
        assert refusal(device, f"{name}/a", b"x") == 0x87
    [error] = produce(broker, f"{name}.log", {"value": b"x"})
    assert error.name() == "TOPIC_AUTHORIZATION_FAILED"
