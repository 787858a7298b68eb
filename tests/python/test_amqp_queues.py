"""Queues as pika asks for them: RabbitMQ's arguments, dead letters, priorities and consumers."""

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, NackError

from clients import eventually, pika_channel

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        yield it


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def get(channel, queue):
    return channel.basic_get(queue, auto_ack=True)


def to(dead, **more):
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, **more}


@pytest.mark.parametrize(
    "arguments, why",
    [
        ({"x-message-ttl": -1}, "{value_negative,-1}"),
        ({"x-max-priority": 256}, "{max_value_exceeded,256}"),
        ({"x-overflow": "spill"}, "invalid_overflow"),
        ({"x-dead-letter-routing-key": "k"}, "routing_key_but_no_dlx_defined"),
        ({"x-max-length": "many"}, '"expected integer, got longstr"'),
    ],
)
def test_bad_arguments_close_the_channel(broker, name, arguments, why):
    with pika_channel(broker) as channel:
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.queue_declare(name, arguments=arguments)
    argument = next(iter(arguments))
    assert closed.value.reply_code == 406
    text = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/': {why}"
    assert closed.value.reply_text == text


def test_expired_messages_arrive_with_their_history(channel, name):
    dead = name + ".dead"
    channel.queue_declare(dead)
    channel.queue_declare(name, arguments=to(dead))
    sent = pika.BasicProperties(expiration="20", headers={"mine": 7}, content_type="text/plain")
    channel.basic_publish("", name, b"late", sent)
    eventually(lambda: ready(channel, dead) == 1)
    _, properties, body = get(channel, dead)
    assert (body, properties.content_type, properties.expiration) == (b"late", "text/plain", None)
    [death] = properties.headers.pop("x-death")
    assert death.pop("time").year > 2000
    assert death == {
        "count": 1,
        "reason": "expired",
        "queue": name,
        "exchange": "",
        "routing-keys": [name],
        "original-expiration": "20",
    }
    assert properties.headers == {
        "mine": 7,
        "x-first-death-exchange": "",
        "x-first-death-queue": name,
        "x-first-death-reason": "expired",
        "x-last-death-exchange": "",
        "x-last-death-queue": name,
        "x-last-death-reason": "expired",
    }


def test_rejected_messages_are_dead_lettered_and_counted(channel, name):
    wait = name + ".wait"
    channel.queue_declare(wait, arguments=to(name, **{"x-message-ttl": 10}))
    channel.queue_declare(name, arguments=to(wait))
    channel.basic_publish("", name, b"again")
    for count in range(4):
        eventually(lambda: ready(channel, name) == 1)
        method, properties, _ = channel.basic_get(name)
        deaths = (properties.headers or {}).get("x-death", [])
        assert [(it["queue"], it["count"]) for it in deaths] == (
            [(wait, count), (name, count)] if count else []
        )
        channel.basic_reject(method.delivery_tag, requeue=False)


def test_overflow_drops_the_oldest_or_refuses(broker, channel, name):
    channel.queue_declare(name, arguments={"x-max-length": 2})
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", name, body)
    assert ready(channel, name) == 2
    assert get(channel, name)[2] == b"2"
    full = name + ".full"
    channel.queue_declare(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    with pika_channel(broker) as confirming:
        confirming.confirm_delivery()
        confirming.basic_publish("", full, b"1")
        with pytest.raises(NackError):
            confirming.basic_publish("", full, b"2")
    assert ready(channel, full) == 1


def test_the_highest_priority_comes_first(channel, name):
    channel.queue_declare(name, arguments={"x-max-priority": 5})
    for priority in (0, 3, 9, 5, None, 3):
        properties = pika.BasicProperties(priority=priority)
        channel.basic_publish("", name, str(priority).encode(), properties)
    got = [get(channel, name)[2] for _ in range(6)]
    assert got == [b"9", b"5", b"3", b"3", b"0", b"None"]


def test_a_quorum_queue_counts_deliveries(channel, name):
    dead = name + ".dead"
    channel.queue_declare(dead)
    arguments = to(dead, **{"x-queue-type": "quorum", "x-delivery-limit": 2})
    channel.queue_declare(name, durable=True, arguments=arguments)
    channel.basic_publish("", name, b"poison", PERSISTENT)
    for count in (None, 1, 2):
        method, properties, _ = channel.basic_get(name)
        assert (properties.headers or {}).get("x-delivery-count") == count
        channel.basic_nack(method.delivery_tag, requeue=True)
    eventually(lambda: ready(channel, dead) == 1)
    assert get(channel, dead)[1].headers["x-death"][0]["reason"] == "delivery_limit"
    channel.queue_delete(name)


def test_one_consumer_at_a_time(broker, channel, name):
    channel.queue_declare(name, arguments={"x-single-active-consumer": True})
    got = []
    with pika_channel(broker) as first:
        first.basic_consume(name, lambda *it: got.append(("first", it[3])), auto_ack=True)
        channel.basic_consume(name, lambda *it: got.append(("second", it[3])), auto_ack=True)
        for body in (b"1", b"2"):
            channel.basic_publish("", name, body)

        def both():
            first.connection.process_data_events(0.01)
            channel.connection.process_data_events(0.01)
            return len(got) == 2

        eventually(both)
        assert got == [("first", b"1"), ("first", b"2")]
    channel.basic_publish("", name, b"3")
    eventually(lambda: channel.connection.process_data_events(0.01) or len(got) == 3)
    assert got[-1] == ("second", b"3")


def test_priority_of_consumers_and_a_bound_for_the_channel(broker, channel, name):
    channel.queue_declare(name)
    got = []
    channel.basic_qos(prefetch_count=3, global_qos=True)
    low = channel.basic_consume(name, lambda *it: got.append(("low", it[1].delivery_tag)))
    arguments = {"x-priority": 10}
    channel.basic_consume(
        name, lambda *it: got.append(("high", it[1].delivery_tag)), arguments=arguments
    )
    with pika_channel(broker) as publisher:
        for _ in range(5):
            publisher.basic_publish("", name, b"")
    eventually(lambda: channel.connection.process_data_events(0.01) or len(got) == 3)
    assert {which for which, _ in got} == {"high"}
    with pika_channel(broker) as other:
        eventually(lambda: ready(other, name) == 2)
    channel.basic_ack(got[-1][1], multiple=True)
    eventually(lambda: channel.connection.process_data_events(0.01) or len(got) == 5)
    channel.basic_cancel(low)


def test_a_queue_that_is_deleted_cancels_its_consumers(broker, channel, name):
    channel.queue_declare(name)
    cancelled = []
    channel.add_on_cancel_callback(cancelled.append)
    tag = channel.basic_consume(name, lambda *_: None)
    with pika_channel(broker) as other:
        with pytest.raises(ChannelClosedByBroker) as closed:
            other.queue_delete(name, if_unused=True)
        assert closed.value.reply_text == f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use"
    with pika_channel(broker) as other:
        other.queue_delete(name)
    eventually(lambda: channel.connection.process_data_events(0.01) or cancelled)
    assert cancelled[0].method.consumer_tag == tag


def test_priorities_lifetimes_and_deaths_survive_a_kill(own_broker):
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        channel.queue_declare("dead", durable=True)
        channel.queue_declare("q", durable=True, arguments=to("dead", **{"x-max-priority": 3}))
        for priority in (1, 3, 2):
            properties = pika.BasicProperties(delivery_mode=2, priority=priority)
            channel.basic_publish("", "q", str(priority).encode(), properties)
        late = pika.BasicProperties(delivery_mode=2, priority=3, expiration="1")
        method, _, body = channel.basic_get("q")
        assert body == b"3"
        channel.basic_publish("", "q", b"late", late)
        eventually(lambda: ready(channel, "dead") == 1)
        # Commits are in order: once this is confirmed, the dead letter is where it belongs for good.
        channel.basic_publish("", "dead", b"last", pika.BasicProperties(delivery_mode=2))
    broker.kill()
    broker.start()
    with pika_channel(broker) as channel:
        assert ready(channel, "q") == 3
        assert [get(channel, "q")[2] for _ in range(3)] == [b"3", b"2", b"1"]
        assert get(channel, "dead")[1].headers["x-death"][0]["reason"] == "expired"
