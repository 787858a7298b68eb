"""Transactions as pika speaks them: all or nothing, over queues, logs and acknowledgements."""

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from clients import bodies, eventually, pika_channel, take

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        yield it


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def test_nothing_is_seen_before_the_commit(broker, channel, name):
    channel.queue_declare(name)
    channel.tx_select()
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", name, body)
    with pika_channel(broker) as other:
        assert ready(other, name) == 0
        channel.tx_commit()
        assert ready(other, name) == 3
    assert [body for _, _, body in take(channel, name, 3)] == [b"1", b"2", b"3"]


def test_a_rollback_forgets_and_leaves_deliveries_unsettled(broker, channel, name):
    channel.queue_declare(name)
    channel.basic_publish("", name, b"old")
    channel.tx_select()
    method, _, _ = channel.basic_get(name)
    channel.basic_ack(method.delivery_tag)
    channel.basic_publish("", name, b"new")
    channel.tx_rollback()
    assert ready(channel, name) == 0, "the old one is unsettled, the new one was never there"
    channel.basic_nack(method.delivery_tag, requeue=True)
    channel.tx_commit()
    [(method, _, body)] = take(channel, name, 1)
    assert (body, method.redelivered) == (b"old", True)


def test_the_modes_exclude_each_other(broker):
    with pika_channel(broker) as channel:
        channel.tx_select()
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.confirm_delivery()
        assert closed.value.reply_text == "PRECONDITION_FAILED - cannot switch from tx to confirm mode"
        channel = channel.connection.channel()
        channel.confirm_delivery()
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.tx_select()
        assert closed.value.reply_text == "PRECONDITION_FAILED - cannot switch from confirm to tx mode"
        channel = channel.connection.channel()
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.tx_commit()
        assert closed.value.reply_text == "PRECONDITION_FAILED - channel is not transactional"


def test_a_publish_to_nowhere_fails_in_the_transaction(channel, name):
    channel.tx_select()
    channel.basic_publish(name, "key", b"lost")
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.tx_commit()
    assert (closed.value.reply_code, closed.value.reply_text) == (
        404,
        f"NOT_FOUND - no exchange '{name}' in vhost '/'",
    )


def test_an_uncommitted_transaction_ends_with_its_channel(broker, channel, name):
    channel.queue_declare(name)
    channel.basic_publish("", name, b"old")
    other = channel.connection.channel()
    other.tx_select()
    method, _, _ = other.basic_get(name)
    other.basic_ack(method.delivery_tag)
    other.basic_publish("", name, b"new")
    other.close()
    eventually(lambda: ready(channel, name) == 1)
    assert [body for _, _, body in take(channel, name, 1)] == [b"old"]


@pytest.mark.parametrize("durability", ["os", "sync"])
def test_a_kill_leaves_no_transaction_half_done(own_broker, durability):
    """Each transaction moves one message from one queue to four others; the broker is killed among them."""
    sources, targets, rounds = "source", ["a", "b", "c", "d"], 4
    broker = own_broker(durability=durability, shards=3)
    with pika_channel(broker) as channel:
        for queue in [sources, *targets]:
            channel.queue_declare(queue, durable=True)
        for number in range(400):
            channel.basic_publish("", sources, str(number).encode(), PERSISTENT)
    committed = 0
    for _ in range(rounds):
        channel = pika.BlockingConnection(pika.URLParameters(broker.amqp_url)).channel()
        channel.tx_select()
        for _ in range(20):
            move(channel, sources, targets)
            channel.tx_commit()
            committed += 1
        # One more whose commit nobody has answered.
        move(channel, sources, targets)
        channel._impl.tx_commit()
        channel.connection._flush_output(lambda: True)
        broker.kill()
        broker.start()
        with pika_channel(broker) as check:
            counts = {queue: ready(check, queue) for queue in [sources, *targets]}
            moved = counts["a"]
            assert committed <= moved <= committed + 1
            assert counts == {sources: 400 - moved, **{queue: moved for queue in targets}}
            committed = moved


def move(channel, source, targets):
    method, _, body = channel.basic_get(source)
    for queue in targets:
        channel.basic_publish("", queue, body, PERSISTENT)
    channel.basic_ack(method.delivery_tag)


def test_a_queue_that_rejects_makes_the_commit_fail(channel, name):
    """As in RabbitMQ: what the other queues took stays."""
    full = f"{name}-full"
    channel.queue_declare(full, auto_delete=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.queue_declare(name)
    channel.basic_publish("", full, b"first")
    eventually(lambda: ready(channel, full) == 1)
    transacting = channel.connection.channel()
    transacting.tx_select()
    transacting.basic_publish("", full, b"second")
    transacting.basic_publish("", name, b"other")
    with pytest.raises(ChannelClosedByBroker) as closed:
        transacting.tx_commit()
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - partial tx completion",
    )
    assert (ready(channel, full), ready(channel, name)) == (1, 1)
    channel.queue_delete(full)
    channel.queue_delete(name)
