"""Quorum queues of RabbitMQ 4.3: messages that wait before they are delivered again, and what is counted of them."""

import time

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from amqp_wire import Wire
from clients import eventually, pika_channel
from management import Management

PERSISTENT = pika.BasicProperties(delivery_mode=2)
# Times are whole milliseconds, of a clock that is not the one of the test.
TICK = 0.01


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        yield it


def retrying(kind, least, most, **more):
    return {
        "x-queue-type": "quorum",
        "x-delayed-retry-type": kind,
        "x-delayed-retry-min": least,
        "x-delayed-retry-max": most,
        **more,
    }


def next_of(channel, queue):
    """The next message of a queue, once it is there."""
    found = []

    def look():
        method, properties, body = channel.basic_get(queue)
        if method is not None:
            found.append((method, properties.headers or {}, body))
        return found

    eventually(look)
    return found[0]


def test_a_rejected_message_waits_longer_each_time_and_dies_in_the_end(channel, name):
    dead = name + ".dead"
    channel.queue_declare(dead)
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-delivery-limit": 3}
    channel.queue_declare(name, durable=True, arguments=retrying("failed", 200, 500, **to_dead))
    channel.basic_publish("", name, b"poison", PERSISTENT)
    rejected = None
    for failures, least in [(0, 0), (1, 0.2), (2, 0.4), (3, 0.5)]:
        method, headers, _ = next_of(channel, name)
        if failures > 0:
            assert time.monotonic() - rejected >= least - TICK
            assert (headers["x-delivery-count"], headers["x-acquired-count"]) == (failures, failures)
        rejected = time.monotonic()
        channel.basic_reject(method.delivery_tag, requeue=True)
    _, headers, _ = next_of(channel, dead)
    assert headers["x-death"][0]["reason"] == "delivery_limit"
    channel.queue_delete(name)


def test_what_is_given_back_by_nack_is_no_failure(channel, name):
    channel.queue_declare(name, durable=True, arguments=retrying("failed", 3_600_000, 3_600_000))
    channel.basic_publish("", name, b"again", PERSISTENT)
    for returns in range(25):
        method, headers, _ = next_of(channel, name)
        assert headers.get("x-acquired-count", 0) == returns
        assert headers.get("x-delivery-count", 0) == 0
        channel.basic_nack(method.delivery_tag, requeue=True)
    channel.queue_delete(name)


def test_a_quorum_queue_without_delays_counts_every_return(channel, name):
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    channel.basic_publish("", name, b"again", PERSISTENT)
    method, headers, _ = next_of(channel, name)
    assert headers == {}
    channel.basic_nack(method.delivery_tag, requeue=True)
    _, headers, _ = next_of(channel, name)
    assert headers == {"x-acquired-count": 1, "x-delivery-count": 1}
    channel.queue_delete(name)


def test_a_policy_makes_messages_wait_but_an_operator_policy_may_not(broker, channel, name):
    management = Management(broker)
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    definition = {"delayed-retry-type": "all", "delayed-retry-min": 3_600_000}
    policy = {"pattern": f"^{name}$", "apply-to": "quorum_queues", "definition": definition}
    status, _ = management.ask("PUT", f"operator-policies/%2F/{name}", policy)
    assert status == 400
    status, _ = management.ask("PUT", f"policies/%2F/{name}", policy)
    assert status == 201
    channel.basic_publish("", name, b"later", PERSISTENT)
    method, _, _ = next_of(channel, name)
    channel.basic_nack(method.delivery_tag, requeue=True)
    eventually(lambda: management.get("queues", "/", name)["messages_delayed"] == 1)
    queue = management.get("queues", "/", name)
    assert (queue["messages"], queue["messages_ready"], queue["messages_unacknowledged"]) == (1, 0, 0)
    assert channel.queue_purge(name).method.message_count == 1
    management.delete("policies", "/", name)
    channel.queue_delete(name)


def test_what_waits_survives_a_kill(own_broker):
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        channel.queue_declare("q", durable=True, arguments=retrying("all", 5_000, 5_000))
        for body in (b"a", b"b"):
            channel.basic_publish("", "q", body, PERSISTENT)
        rejected = time.time()
        channel.basic_reject(next_of(channel, "q")[0].delivery_tag, requeue=True)
        # One queue writes in order: once this is confirmed, the wait is written.
        channel.basic_publish("", "q", b"c", PERSISTENT)
    broker.kill()
    broker.start()
    queue = Management(broker).get("queues", "/", "q")
    if time.time() - rejected < 5 - TICK:
        assert (queue["messages"], queue["messages_ready"], queue["messages_delayed"]) == (3, 2, 1)
    with pika_channel(broker) as channel:
        found = {}
        for _ in range(3):
            method, headers, body = next_of(channel, "q")
            found[body] = (method.redelivered, headers)
            assert body != b"a" or time.time() - rejected >= 5 - TICK
        assert [body for body in found if body != b"a"] == [b"b", b"c"]
        assert found[b"a"] == (True, {"x-acquired-count": 1, "x-delivery-count": 1})


def test_what_a_lost_channel_held_waits_too(broker, channel, name):
    channel.queue_declare(name, durable=True, arguments=retrying("failed", 300, 300))
    channel.basic_publish("", name, b"a", PERSISTENT)
    with pika_channel(broker) as other:
        next_of(other, name)
        lost = time.monotonic()
    next_of(channel, name)
    assert time.monotonic() - lost >= 0.3 - TICK
    channel.queue_delete(name)


@pytest.mark.parametrize(
    "arguments, why",
    [
        ({"x-delayed-retry-type": "sometimes"}, "invalid_delayed_retry_type"),
        ({"x-delayed-retry-min": -1}, "{value_negative,-1}"),
        ({"x-delayed-retry-max": "long"}, '"expected integer, got longstr"'),
    ],
)
def test_bad_arguments_are_406(broker, name, arguments, why):
    with pika_channel(broker) as channel:
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **arguments})
    assert closed.value.reply_code == 406
    assert closed.value.reply_text.endswith(why)


def test_a_consumer_has_a_time_limit_of_its_own(broker, channel, name):
    """`x-consumer-timeout` of basic.consume goes before that of the queue."""
    timed = {"x-queue-type": "quorum", "x-consumer-timeout": 3_600_000}
    channel.queue_declare(name, durable=True, arguments=timed)
    channel.basic_publish("", name, b"kept", PERSISTENT)
    wire = Wire(broker.port("amqp")).open()
    wire.call("channel.open", 1)
    arguments = {"x-consumer-timeout": 300}
    wire.call("basic.consume", 1, queue=name, consumer_tag="slow", arguments=arguments)
    assert wire.expect(1, "basic.deliver").body == b"kept"
    assert wire.expect(1, "basic.cancel").consumer_tag == "slow"
    assert next_of(channel, name)[2] == b"kept"
    wire.close_socket()
    channel.queue_delete(name)


def test_a_bad_time_limit_of_a_consumer_is_406(broker, channel, name):
    channel.queue_declare(name)
    for value, why in [(-1, "{value_negative,-1}"), ("soon", '"expected integer, got longstr"')]:
        with pika_channel(broker) as other:
            with pytest.raises(ChannelClosedByBroker) as closed:
                other.basic_consume(name, print, arguments={"x-consumer-timeout": value})
        text = f"PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue '{name}' in vhost '/': {why}"
        assert (closed.value.reply_code, closed.value.reply_text) == (406, text)
