"""Streams over AMQP 0-9-1: queues that keep what was read (RabbitMQ's docs/streams)."""

import datetime
import time

import pika
import pytest
from kafka import KafkaProducer
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from clients import PATIENCE, eventually, pika_channel, read_topic

STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        yield it


@pytest.fixture
def stream(channel, name):
    declare(channel, name)
    yield name
    if channel.connection.is_open:
        channel.connection.channel().queue_delete(name)


def declare(channel, name, **arguments):
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    return channel.queue_declare(name, durable=True, arguments={**STREAM, **arguments}).method


def fill(channel, stream, count, start=0):
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    for number in range(start, start + count):
        confirming.basic_publish("", stream, str(number).encode())
    confirming.close()


def read(channel, stream, count, prefetch=10, within=PATIENCE, **arguments):
    """The first `count` messages of a consumer of its own, each acknowledged."""
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    reading = channel.connection.channel()
    reading.basic_qos(prefetch_count=prefetch)
    found = []
    consumed = reading.consume(stream, arguments=arguments, inactivity_timeout=within)
    for method, properties, body in consumed:
        assert method is not None, f"{len(found)} of {count} messages of {stream}"
        found.append((method, properties, body))
        reading.basic_ack(method.delivery_tag)
        if len(found) == count:
            break
    reading.close()
    return found


def bodies(found):
    return [int(body) for _, _, body in found]


def offsets(found):
    return [properties.headers["x-stream-offset"] for _, properties, _ in found]


def test_what_was_read_stays_for_others(channel, stream):
    fill(channel, stream, 50)
    for _ in range(2):
        found = read(channel, stream, 50, x_stream_offset="first")
        assert bodies(found) == list(range(50))
        assert offsets(found) == list(range(50))
        assert all(not method.redelivered for method, _, _ in found)
    assert channel.queue_declare(stream, passive=True).method.message_count == 50


@pytest.mark.parametrize("offset, first", [("first", 0), (30, 30), (0, 0), (-5, 0)])
def test_a_consumer_begins_where_it_says(channel, stream, offset, first):
    fill(channel, stream, 50)
    found = read(channel, stream, 50 - first, x_stream_offset=offset)
    assert bodies(found) == list(range(first, 50))


@pytest.mark.parametrize("arguments", [{}, {"x_stream_offset": "next"}, {"x_stream_offset": 1000}])
def test_next_begins_with_what_comes(broker, channel, stream, arguments):
    fill(channel, stream, 5)
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    with pika_channel(broker) as reading:
        reading.basic_qos(prefetch_count=10)
        found = []
        reading.basic_consume(stream, lambda *message: found.append(message[3]), arguments=arguments)
        fill(channel, stream, 5, start=5)
        eventually(lambda: reading.connection.process_data_events(0.1) or len(found) >= 5)
        assert found == [b"5", b"6", b"7", b"8", b"9"]


def test_last_begins_with_the_last_batch(channel, stream):
    fill(channel, stream, 5)
    found = read(channel, stream, 1, x_stream_offset="last")
    assert bodies(found) == [4]


def test_a_time_begins_with_what_came_since(broker, channel, stream):
    fill(channel, stream, 5)
    # Times of AMQP are whole seconds: the next one that begins after what is there.
    since = read_topic(broker, stream, 5)[-1].timestamp // 1000 + 1
    time.sleep(max(0, since - time.time()))
    fill(channel, stream, 5, start=5)
    found = read(channel, stream, 5, x_stream_offset=datetime.datetime.fromtimestamp(since, tz=datetime.timezone.utc))
    assert bodies(found) == [5, 6, 7, 8, 9]


def test_an_interval_begins_with_what_came_since(broker, channel, name):
    producer, now = KafkaProducer(bootstrap_servers=broker.kafka), int(time.time() * 1000)
    for number in range(10):
        at = now if number >= 5 else now - 2 * 3_600_000
        producer.send(name, str(number).encode(), timestamp_ms=at).get(PATIENCE)
    producer.close()
    assert bodies(read(channel, name, 5, x_stream_offset="1h")) == [5, 6, 7, 8, 9]
    assert bodies(read(channel, name, 10, x_stream_offset="3h")) == list(range(10))


def test_acknowledgements_are_credit(broker, channel, stream):
    fill(channel, stream, 10)
    with pika_channel(broker) as reading:
        reading.basic_qos(prefetch_count=3)
        tags = []
        reading.basic_consume(
            stream, lambda _, method, *rest: tags.append(method.delivery_tag), arguments={"x-stream-offset": "first"}
        )

        def holds(count):
            eventually(lambda: reading.connection.process_data_events(0.1) or len(tags) >= count)
            reading.connection.process_data_events(0.2)
            assert len(tags) == count

        holds(3)
        reading.basic_ack(tags[1])
        holds(4)
        reading.basic_nack(tags[3], multiple=True, requeue=True)
        holds(7)
        reading.basic_reject(tags[6], requeue=False)
        holds(8)


def test_filters_are_exact(channel, stream):
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    for number in range(30):
        headers = {"x-stream-filter-value": "abc"[number % 3]} if number % 5 else {}
        confirming.basic_publish("", stream, str(number).encode(), pika.BasicProperties(headers=headers))
    having = {value: [n for n in range(30) if n % 5 and "abc"[n % 3] == value] for value in "abc"}
    without = [n for n in range(30) if n % 5 == 0]

    def found(count, **arguments):
        return bodies(read(channel, stream, count, x_stream_offset="first", **arguments))

    assert found(len(having["a"]), x_stream_filter="a") == having["a"]
    two = sorted(having["a"] + having["b"])
    assert found(len(two), x_stream_filter=["a", "b"]) == two
    unfiltered = sorted(having["c"] + without)
    assert found(len(unfiltered), x_stream_filter=["c"], x_stream_match_unfiltered=True) == unfiltered


def test_messages_come_back_as_they_were_published(channel, stream):
    channel.exchange_declare(stream, "topic", auto_delete=True)
    channel.queue_bind(stream, stream, "orders.#")
    properties = pika.BasicProperties(
        content_type="text/plain",
        correlation_id="c",
        reply_to="r",
        message_id="m",
        type="t",
        app_id="a",
        priority=3,
        delivery_mode=2,
        headers={"n": 5, "list": [1, "x"], "table": {"k": True}},
    )
    channel.basic_publish(stream, "orders.eu", b"body", properties)
    channel.basic_publish("", stream, b"timed", pika.BasicProperties(timestamp=1_700_000_000))
    [(method, first, body), (_, second, _)] = read(channel, stream, 2, x_stream_offset="first")
    assert (method.exchange, method.routing_key, body) == (stream, "orders.eu", b"body")
    for name in ("content_type", "correlation_id", "reply_to", "message_id", "type", "app_id", "priority"):
        assert getattr(first, name) == getattr(properties, name), name
    assert first.timestamp is None
    expected = {**properties.headers, "x-stream-offset": 0, "x-stream-partition": 0}
    assert first.headers == expected
    assert second.timestamp == 1_700_000_000


def test_several_consumers_count_and_are_told_of_the_end(broker, channel, name):
    declare(channel, name)
    fill(channel, name, 3)
    with pika_channel(broker) as reading:
        reading.basic_qos(prefetch_count=10)
        cancelled = []
        reading.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        for _ in range(2):
            reading.basic_consume(name, lambda *_: None, arguments={"x-stream-offset": "first"})
        reading.connection.process_data_events(0.1)
        assert channel.queue_declare(name, passive=True).method.consumer_count == 2
        # As in RabbitMQ, whatever the conditions say.
        assert channel.queue_delete(name, if_unused=True, if_empty=True).method.message_count == 0
        eventually(lambda: reading.connection.process_data_events(0.1) or len(cancelled) == 2)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(name, passive=True)
    assert closed.value.reply_code == 404


def test_a_cancelled_consumer_gets_nothing_more(channel, stream):
    fill(channel, stream, 3)
    read(channel, stream, 3, x_stream_offset="first")
    eventually(lambda: channel.queue_declare(stream, passive=True).method.consumer_count == 0)


@pytest.mark.parametrize(
    "script, code, text",
    [
        (
            lambda it, name: it.basic_consume(name, lambda *_: None),
            406,
            "PRECONDITION_FAILED - consumer prefetch count is not set for stream {queue}",
        ),
        (
            lambda it, name: [it.basic_qos(prefetch_count=1), it.basic_consume(name, lambda *_: None, auto_ack=True)],
            540,
            "NOT_IMPLEMENTED - automatic acknowledgement not supported by stream {queue}",
        ),
        (
            lambda it, name: [
                it.basic_qos(prefetch_count=1),
                it.basic_qos(prefetch_count=5, global_qos=True),
                it.basic_consume(name, lambda *_: None),
            ],
            540,
            "NOT_IMPLEMENTED - {queue} does not support global qos",
        ),
        (
            lambda it, name: it.basic_get(name),
            540,
            "NOT_IMPLEMENTED - basic.get not supported by stream queues {queue}",
        ),
        (
            lambda it, name: it.queue_purge(name),
            540,
            "NOT_IMPLEMENTED - queue.purge not supported by stream queues {queue}",
        ),
        (
            lambda it, name: [
                it.basic_qos(prefetch_count=1),
                it.basic_consume(name, lambda *_: None, arguments={"x-stream-offset": "soon"}),
            ],
            406,
            "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for {queue}: invalid_max_age",
        ),
    ],
)
def test_what_streams_do_not_do(channel, stream, script, code, text):
    with pytest.raises((ChannelClosedByBroker, ConnectionClosedByBroker)) as closed:
        script(channel, stream)
    assert (closed.value.reply_code, closed.value.reply_text) == (
        code,
        text.format(queue=f"queue '{stream}' in vhost '/'"),
    )


@pytest.mark.parametrize(
    "flags, arguments, text",
    [
        ({"auto_delete": True}, {}, "invalid property 'auto-delete' for {queue}"),
        ({"exclusive": True}, {}, "invalid property 'exclusive-owner' for {queue}"),
        ({"durable": False}, {}, "invalid property 'non-durable' for {queue}"),
        ({}, {"x-max-age": "7"}, "invalid arg 'x-max-age' for {queue}: invalid_max_age"),
        ({}, {"x-max-length-bytes": -1}, "invalid arg 'x-max-length-bytes' for {queue}: {{value_negative,-1}}"),
        ({}, {"x-message-ttl": 1}, "invalid arg 'x-message-ttl' for {queue} of queue type rabbit_stream_queue"),
        (
            {},
            {"x-stream-max-segment-size-bytes": 3_000_000_001},
            "Exceeded max value for x-stream-max-segment-size-bytes",
        ),
        ({}, {"x-stream-filter-size-bytes": 15}, "Invalid value for  x-stream-filter-size-bytes"),
    ],
)
def test_bad_declarations_are_406(channel, name, flags, arguments, text):
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(name, **{"durable": True, **flags}, arguments={**STREAM, **arguments})
    expected = text.format(queue=f"queue '{name}' in vhost '/'")
    assert (closed.value.reply_code, closed.value.reply_text) == (406, f"PRECONDITION_FAILED - {expected}")


def test_a_declaration_is_checked_against_the_first(broker, channel, name):
    arguments = {"x-max-age": "7D", "x-max-length-bytes": 1_000_000}
    channel.queue_declare(name, durable=True, arguments={**STREAM, **arguments})
    channel.queue_declare(name, durable=True, arguments={**STREAM, **arguments})
    cases = [
        (
            {**STREAM, **arguments, "x-max-age": "8D"},
            f"inequivalent arg 'x-max-age' for queue '{name}' in vhost '/': received '8D' but current is '7D'",
        ),
        (
            {"x-queue-type": "classic"},
            f"inequivalent arg 'x-queue-type' for queue '{name}' in vhost '/': received 'classic' but current is 'stream'",
        ),
    ]
    for declared, text in cases:
        with pika_channel(broker) as other, pytest.raises(ChannelClosedByBroker) as closed:
            other.queue_declare(name, durable=True, arguments=declared)
        assert closed.value.reply_text == f"PRECONDITION_FAILED - {text}"
    channel.queue_delete(name)


def test_a_stream_survives_a_kill(own_broker, name):
    broker = own_broker()
    with pika_channel(broker) as channel:
        declare(channel, name, x_max_age="7D")
        channel.queue_bind(name, "amq.topic", "orders.#")
        fill(channel, name, 20)
    broker.kill()
    broker.start()
    with pika_channel(broker) as channel:
        declare(channel, name, x_max_age="7D")
        channel.basic_publish("amq.topic", "orders.eu", b"20")
        assert bodies(read(channel, name, 21, x_stream_offset="first")) == list(range(21))


def test_what_a_consumer_does_not_take_waits_on_disk(channel, stream):
    """More than a consumer's window and a read of the log: it goes on where it stopped."""
    confirming = channel.connection.channel()
    confirming.confirm_delivery()
    size = 100_000
    for number in range(60):
        confirming.basic_publish("", stream, str(number).encode().rjust(size))
    found = read(channel, stream, 60, prefetch=5, x_stream_offset="first")
    assert bodies(found) == list(range(60))


def test_a_kafka_topic_is_a_stream_by_its_name(broker, channel, name):
    producer = KafkaProducer(bootstrap_servers=broker.kafka)
    for number in range(10):
        producer.send(name, str(number).encode(), key=b"k", headers=[("h", b"v")]).get(PATIENCE)
    producer.close()
    found = read(channel, name, 10, x_stream_offset="first")
    assert bodies(found) == list(range(10))
    assert offsets(found) == list(range(10))
    method, properties, _ = found[0]
    assert (method.exchange, method.routing_key) == ("", name)
    assert properties.headers["h"] == "v" and properties.headers["x-key"] == "k"
    assert bodies(read(channel, name, 3, x_stream_offset=7)) == [7, 8, 9]


def test_a_stream_is_a_kafka_topic_by_its_name(broker, channel, stream):
    fill(channel, stream, 5)
    assert [int(record.value) for record in read_topic(broker, stream, 5)] == [0, 1, 2, 3, 4]


def test_retention_by_age_and_size_is_live(own_broker, name):
    broker = own_broker()
    with pika_channel(broker) as channel:
        declare(channel, f"{name}-age", x_max_age="1s")
        declare(channel, f"{name}-size", x_max_length_bytes=5_000_000, x_stream_max_segment_size_bytes=1_000_000)
        confirming = channel.connection.channel()
        confirming.confirm_delivery()
        for _ in range(200):
            confirming.basic_publish("", f"{name}-size", b"x" * 100_000)
        fill(channel, f"{name}-age", 10)

        def count(suffix):
            return channel.queue_declare(f"{name}-{suffix}", passive=True).method.message_count

        eventually(lambda: count("age") == 0)
        eventually(lambda: count("size") <= 60)
        assert count("size") >= 40
        found = read(channel, f"{name}-size", 1, x_stream_offset="first")
        assert offsets(found)[0] >= 140
