"""What becomes of consumers whose broker, queue or patience ends, frame by frame."""

import pytest

from amqp_wire import CAPABILITIES, Wire

SECOND = 1000


@pytest.fixture
def opened(broker):
    """Makes connections with a channel each."""
    wires = []

    def open_one(**login):
        wire = Wire(broker.port("amqp")).open(**login)
        wires.append(wire)
        wire.call("channel.open", 1)
        return wire

    yield open_one
    for wire in wires:
        wire.close_socket()


def without(capability):
    return {name: value for name, value in CAPABILITIES.items() if name != capability}


def keep_a_message(wire, queue, time=SECOND):
    """A consumer that does not settle what it gets in time."""
    arguments = {"x-queue-type": "quorum", "x-consumer-timeout": time}
    wire.call("queue.declare", 1, queue=queue, durable=True, arguments=arguments)
    wire.publish(1, "", queue, b"kept")
    assert wire.call("basic.consume", 1, queue=queue, consumer_tag="slow").name == "basic.consume-ok"
    delivered = wire.expect(1, "basic.deliver")
    assert (delivered.body, delivered.redelivered) == (b"kept", False)
    return delivered


def is_there_again(wire, queue):
    got = wire.call("basic.get", 1, queue=queue, no_ack=True)
    assert (got.name, got.body, got.redelivered) == ("basic.get-ok", b"kept", True)


def test_a_consumer_that_takes_too_long_is_cancelled(opened, name):
    """RabbitMQ 4.3: basic.cancel to clients that understand it; what was held is ready again."""
    wire = opened()
    keep_a_message(wire, name)
    cancelled = wire.expect(1, "basic.cancel")
    assert cancelled.consumer_tag == "slow"
    is_there_again(wire, name)


def test_a_channel_that_cannot_be_told_of_the_timeout_is_closed(opened, name):
    """RabbitMQ 4.3: 406 to clients without consumer_cancel_notify."""
    wire = opened(capabilities=without("consumer_cancel_notify"))
    keep_a_message(wire, name)
    closed = wire.expect(1, "channel.close")
    assert closed.code == 406
    assert closed.text.startswith("PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out.")
    is_there_again(opened(), name)


def test_what_is_settled_in_time_costs_no_consumer(opened, name):
    wire = opened()
    delivered = keep_a_message(wire, name, time=3 * SECOND)
    wire.send("basic.ack", 1, delivery_tag=delivered.delivery_tag)
    assert wire.receive(1, within=4) is None
    wire.publish(1, "", name, b"next")
    assert wire.expect(1, "basic.deliver").body == b"next"


def test_only_an_expired_message_that_is_behind_the_head_is_left_out(opened, name):
    """Expired messages are never delivered, even when the head that hid them goes to a consumer of the same turn."""
    wire = opened()
    wire.call("queue.declare", 1, queue=name)
    wire.publish(1, "", name, b"head")
    wire.publish(1, "", name, b"expired", {"expiration": "1"})
    wire.publish(1, "", name, b"last")
    # The time of the second begins when it has arrived, which is before the next answer.
    assert wire.call("queue.declare", 1, queue=name, passive=True).name == "queue.declare-ok"
    assert wire.receive(1, within=0.1) is None
    wire.call("basic.consume", 1, queue=name, no_ack=True)
    assert [wire.expect(1, "basic.deliver").body for _ in range(2)] == [b"head", b"last"]
