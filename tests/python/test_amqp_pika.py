"""AMQP 0-9-1 as pika speaks it, blocking and callback-driven."""

import datetime
import os
import threading
from decimal import Decimal

import pika
import pytest
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

from clients import PATIENCE, bodies, eventually, pika_channel, take


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        yield it


def test_queue_is_declared_bound_purged_and_deleted(channel, name):
    assert channel.queue_declare(name).method.message_count == 0
    channel.queue_bind(name, "amq.direct", "key")
    channel.basic_publish("amq.direct", "key", b"one")
    channel.basic_publish("amq.direct", "other", b"lost")
    channel.queue_unbind(name, "amq.direct", "key")
    channel.basic_publish("amq.direct", "key", b"lost")
    assert channel.queue_declare(name, passive=True).method.message_count == 1
    assert channel.queue_purge(name).method.message_count == 1
    channel.basic_publish("", name, b"a")
    channel.basic_publish("", name, b"b")
    assert channel.queue_delete(name).method.message_count == 2
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(name, passive=True)
    assert closed.value.reply_code == 404


def test_queue_delete_minds_its_conditions(broker, name):
    with pika_channel(broker) as channel:
        channel.queue_declare(name)
        channel.basic_publish("", name, b"kept")
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.queue_delete(name, if_empty=True)
        assert closed.value.reply_code == 406
        assert closed.value.reply_text == f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty"
        channel = channel.connection.channel()
        assert channel.queue_delete(name).method.message_count == 1
        # Deleting what is not there is no error since RabbitMQ 3.2.
        assert channel.queue_delete(name).method.message_count == 0


@pytest.mark.parametrize(
    "kind, binding, hit, miss",
    [
        ("direct", "a.b", "a.b", "a.c"),
        ("fanout", "ignored", "anything", None),
        ("topic", "a.*.c.#", "a.b.c", "a.c"),
        ("topic", "#", "", None),
        ("topic", "*.b", "a.b", "a.b.c"),
    ],
)
def test_exchange_routes_by_key(channel, name, kind, binding, hit, miss):
    channel.exchange_declare(name, kind, auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert queue.startswith("amq.gen-")
    channel.queue_bind(queue, name, binding)
    if miss is not None:
        channel.basic_publish(name, miss, b"miss")
    channel.basic_publish(name, hit, b"hit")
    [(method, _, body)] = take(channel, queue, 1)
    assert (method.exchange, method.routing_key, body) == (name, hit, b"hit")


@pytest.mark.parametrize("match, headers, expected", [
    ("all", {"kind": "pdf", "pages": 3}, True),
    ("all", {"kind": "pdf"}, False),
    ("any", {"kind": "pdf"}, True),
    ("any", {"kind": "doc", "pages": 4}, False),
])
def test_headers_exchange(channel, name, match, headers, expected):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.headers", "", {"x-match": match, "kind": "pdf", "pages": 3})
    channel.confirm_delivery()
    properties = pika.BasicProperties(headers=headers)
    channel.basic_publish("amq.headers", name, b"x", properties)
    assert (channel.basic_get(queue, auto_ack=True)[2] == b"x") is expected


def test_message_is_delivered_once_however_many_bindings_match(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.topic", "twice.#")
    channel.queue_bind(queue, "amq.topic", "*.x")
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "twice.x", b"once")
    assert channel.queue_declare(queue, passive=True).method.message_count == 1


def test_exchange_to_exchange(channel, name):
    source, target = name + ".source", name + ".target"
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(target, "fanout")
    channel.exchange_bind(target, source, "logs.*")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, target)
    channel.basic_publish(source, "logs.info", b"through")
    assert bodies(take(channel, queue, 1)) == [b"through"]
    channel.exchange_unbind(target, source, "logs.*")
    channel.confirm_delivery()
    with pytest.raises(UnroutableError):
        channel.basic_publish(source, "logs.info", b"nowhere", mandatory=True)
    channel.exchange_delete(target)
    channel.exchange_delete(source)


def test_exchange_in_use_is_not_deleted(channel, name):
    channel.exchange_declare(name, "fanout")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.exchange_delete(name, if_unused=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text == f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"


def test_auto_delete_exchange_goes_with_its_last_binding(channel, name):
    channel.exchange_declare(name, "fanout", auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name)
    channel.queue_unbind(queue, name)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.exchange_declare(name, passive=True)
    assert closed.value.reply_text == f"NOT_FOUND - no exchange '{name}' in vhost '/'"


def test_work_is_shared_by_prefetch(broker, name):
    """A worker that is busy with its two messages gets no third; the other one does."""
    with pika_channel(broker) as channel, pika_channel(broker) as busy, pika_channel(broker) as quick:
        channel.queue_declare(name, auto_delete=False)
        channel.confirm_delivery()
        for number in range(10):
            channel.basic_publish("", name, str(number).encode())
        busy.basic_qos(prefetch_count=2)
        held = []
        busy.basic_consume(name, lambda _c, method, _p, body: held.append((method, body)))
        eventually(lambda: busy.connection.process_data_events(0.1) or len(held) >= 2)
        rest = []
        quick.basic_qos(prefetch_count=3)
        for method, _, body in quick.consume(name, inactivity_timeout=PATIENCE):
            assert method is not None
            quick.basic_ack(method.delivery_tag)
            rest.append(body)
            if len(rest) == 8:
                break
        busy.connection.process_data_events(0)
        assert [body for _, body in held] == [b"0", b"1"]
        assert rest == [str(it).encode() for it in range(2, 10)]
        busy.basic_ack(held[1][0].delivery_tag, multiple=True)
        busy.close()
        assert channel.queue_declare(name, passive=True).method.message_count == 0
        channel.queue_delete(name)


def test_requeued_messages_return_to_their_places(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    for number in range(5):
        channel.basic_publish("", name, str(number).encode())
    tags = [channel.basic_get(name)[0].delivery_tag for _ in range(4)]
    channel.basic_nack(tags[2], requeue=True)
    channel.basic_reject(tags[0], requeue=True)
    channel.basic_nack(tags[1], requeue=False)
    channel.basic_ack(tags[3])
    again = take(channel, name, 3)
    assert bodies(again) == [b"0", b"2", b"4"]
    assert [method.redelivered for method, _, _ in again] == [True, True, False]


def test_what_a_lost_channel_held_is_redelivered_in_order(broker, name):
    with pika_channel(broker) as channel:
        channel.queue_declare(name)
        channel.confirm_delivery()
        for number in range(6):
            channel.basic_publish("", name, str(number).encode())
        other = channel.connection.channel()
        taken = [other.basic_get(name) for _ in range(3)]
        assert bodies(taken) == [b"0", b"1", b"2"]
        other.close()
        assert bodies(take(channel, name, 6)) == [str(it).encode() for it in range(6)]
        channel.queue_delete(name)


def test_recover_requeues(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"again")
    assert eventually(lambda: channel.basic_get(name)[2]) == b"again"
    channel.basic_recover(requeue=True)
    method, _, body = channel.basic_get(name, auto_ack=True)
    assert (method.redelivered, body) == (True, b"again")


def test_unknown_delivery_tag_closes_the_channel(channel):
    channel.basic_ack(7)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare("", exclusive=True)
    assert closed.value.reply_code == 406
    assert closed.value.reply_text == "PRECONDITION_FAILED - unknown delivery tag 7"


def test_get_counts_what_remains(channel, name):
    channel.queue_declare(name, exclusive=True)
    assert channel.basic_get(name) == (None, None, None)
    channel.confirm_delivery()
    for _ in range(3):
        channel.basic_publish("", name, b"x")
    assert [channel.basic_get(name, auto_ack=True)[0].message_count for _ in range(3)] == [2, 1, 0]


def test_confirm_and_mandatory_return(channel, name):
    channel.confirm_delivery()
    with pytest.raises(UnroutableError) as returned:
        channel.basic_publish("amq.direct", name, b"back", pika.BasicProperties(app_id="me"), mandatory=True)
    [message] = returned.value.messages
    assert (message.method.reply_code, message.method.reply_text) == (312, "NO_ROUTE")
    assert (message.properties.app_id, message.body) == ("me", b"back")
    # Not mandatory: confirmed all the same.
    channel.basic_publish("amq.direct", name, b"dropped")
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"kept", mandatory=True)
    assert channel.basic_get(name, auto_ack=True)[2] == b"kept"


def test_consumer_learns_that_its_queue_is_gone(broker, name):
    with pika_channel(broker) as channel, pika_channel(broker) as other:
        channel.queue_declare(name)
        cancelled = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        tag = channel.basic_consume(name, lambda *_: None)
        other.queue_delete(name)
        eventually(lambda: channel.connection.process_data_events(0.1) or cancelled)
        assert cancelled == [tag]


def test_consumer_cancels_itself(channel, name):
    channel.queue_declare(name, exclusive=True)
    seen = []
    tag = channel.basic_consume(name, lambda _c, _m, _p, body: seen.append(body), auto_ack=True)
    channel.basic_publish("", name, b"one")
    eventually(lambda: channel.connection.process_data_events(0.1) or seen)
    channel.basic_cancel(tag)
    channel.confirm_delivery()
    channel.basic_publish("", name, b"two")
    channel.connection.process_data_events(0)
    assert seen == [b"one"]
    assert channel.basic_get(name, auto_ack=True)[2] == b"two"


def test_rpc(broker, name):
    def serve(channel):
        def answer(channel, method, properties, body):
            channel.basic_publish(
                "", properties.reply_to, body[::-1], pika.BasicProperties(correlation_id=properties.correlation_id)
            )
            channel.basic_ack(method.delivery_tag)
            channel.stop_consuming()

        channel.basic_consume(name, answer)
        channel.start_consuming()

    with pika_channel(broker) as server, pika_channel(broker) as client:
        server.queue_declare(name, exclusive=True)
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        replies = client.queue_declare("", exclusive=True).method.queue
        client.basic_publish("", name, b"abc", pika.BasicProperties(reply_to=replies, correlation_id="c-1"))
        [(_, properties, body)] = take(client, replies, 1)
        thread.join(PATIENCE)
        assert (properties.correlation_id, body) == ("c-1", b"cba")


def test_exclusive_queue_belongs_to_its_connection(broker, name):
    with pika_channel(broker) as owner, pika_channel(broker) as other:
        owner.queue_declare(name, exclusive=True)
        with pytest.raises(ChannelClosedByBroker) as closed:
            other.queue_declare(name, passive=True)
        assert closed.value.reply_code == 405
        assert closed.value.reply_text.startswith(
            f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'"
        )
        owner.connection.close()
        # The close was answered, so the queue is gone.
        again = other.connection.channel()
        with pytest.raises(ChannelClosedByBroker) as closed:
            again.queue_declare(name, passive=True)
        assert closed.value.reply_code == 404


def test_auto_delete_queue_goes_with_its_last_consumer(channel, name):
    channel.queue_declare(name, auto_delete=True)
    tag = channel.basic_consume(name, lambda *_: None)
    channel.basic_cancel(tag)
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare(name, passive=True)
    assert closed.value.reply_code == 404


def test_exclusive_consumer(broker, name):
    with pika_channel(broker) as first, pika_channel(broker) as second:
        first.queue_declare(name, auto_delete=True)
        first.basic_consume(name, lambda *_: None, exclusive=True)
        with pytest.raises(ChannelClosedByBroker) as closed:
            second.basic_consume(name, lambda *_: None)
        assert closed.value.reply_code == 403
        assert closed.value.reply_text == f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"


@pytest.mark.parametrize(
    "act, code, text",
    [
        (lambda c, n: c.queue_declare(n, passive=True), 404, "NOT_FOUND - no queue '{}' in vhost '/'"),
        (lambda c, n: c.basic_get(n), 404, "NOT_FOUND - no queue '{}' in vhost '/'"),
        (lambda c, n: c.basic_consume(n, print), 404, "NOT_FOUND - no queue '{}' in vhost '/'"),
        (lambda c, n: c.exchange_declare(n, passive=True), 404, "NOT_FOUND - no exchange '{}' in vhost '/'"),
        (lambda c, n: c.queue_bind("", n), 404, "NOT_FOUND - no previously declared queue"),
        (
            lambda c, n: (c.queue_declare(n, exclusive=True), c.queue_bind(n, "no-" + n)),
            404,
            "NOT_FOUND - no exchange 'no-{}' in vhost '/'",
        ),
        (
            lambda c, n: (c.queue_declare(n), c.queue_declare(n, durable=True)),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{}' in vhost '/': "
            "received 'true' but current is 'false'",
        ),
        (
            lambda c, n: (
                c.queue_declare(n, exclusive=True, arguments={"x-expires": 60000}),
                c.queue_declare(n, exclusive=True, arguments={"x-expires": 50000}),
            ),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue '{}' in vhost '/': "
            "received '50000' but current is '60000'",
        ),
        (
            lambda c, n: (c.exchange_declare(n, "direct", auto_delete=True), c.exchange_declare(n, "topic", auto_delete=True)),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{}' in vhost '/': "
            "received 'topic' but current is 'direct'",
        ),
        (
            lambda c, n: c.queue_declare("amq." + n),
            403,
            "ACCESS_REFUSED - queue name 'amq.{}' contains reserved prefix 'amq.*'",
        ),
        (
            lambda c, n: c.exchange_declare("amq." + n),
            403,
            "ACCESS_REFUSED - exchange name 'amq.{}' contains reserved prefix 'amq.*'",
        ),
        (
            lambda c, n: (c.queue_declare(n, exclusive=True), c.queue_bind(n, "")),
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
    ],
)
def test_channel_errors_are_worded_as_clients_know_them(channel, name, act, code, text):
    with pytest.raises(ChannelClosedByBroker) as closed:
        act(channel, name)
    assert (closed.value.reply_code, closed.value.reply_text) == (code, text.format(name))


def test_publish_to_a_missing_exchange_closes_the_channel_only(channel, name):
    channel.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_publish(name, "key", b"x")
    assert (closed.value.reply_code, closed.value.reply_text) == (404, f"NOT_FOUND - no exchange '{name}' in vhost '/'")
    assert channel.connection.channel().is_open


def test_unknown_exchange_type_closes_the_connection(channel, name):
    with pytest.raises((ConnectionClosedByBroker, ChannelClosedByBroker)) as closed:
        channel.exchange_declare(name, "no-such-type")
    assert closed.value.reply_code in (406, 503)


def test_wrong_password_is_refused(broker):
    with pytest.raises(ProbableAuthenticationError) as refused:
        with pika_channel(broker, credentials=pika.PlainCredentials("guest", "wrong")):
            pass
    assert "403" in str(refused.value)


def test_missing_vhost_is_refused(broker):
    with pytest.raises(ProbableAccessDeniedError) as refused:
        with pika_channel(broker, virtual_host="nowhere"):
            pass
    assert "(530) 'NOT_ALLOWED - vhost nowhere not found'" in str(refused.value)


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 10_000_000])
def test_bodies_of_every_size(channel, name, size):
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    body = os.urandom(size)
    channel.basic_publish("", name, body, pika.BasicProperties(delivery_mode=2))
    assert channel.basic_get(name, auto_ack=True)[2] == body


def test_body_that_is_too_large_is_refused(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    with pytest.raises((ChannelClosedByBroker, NackError)) as closed:
        channel.basic_publish("", name, bytes(17 << 20))
    assert closed.value.reply_code == 406
    assert "message size 17825792 is larger than configured max size 16777216" in closed.value.reply_text


HEADERS = {
    "bool": True,
    "int": 7,
    "negative": -1,
    "long": 1 << 40,
    "decimal": Decimal("12.34"),
    "string": "grüße",
    "empty": "",
    "bytes": b"\x00\xff\xfe",
    "time": datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc),
    "none": None,
    "list": [1, "two", [3, None]],
    "table": {"inner": {"deep": 1}, "flag": False},
}


def test_properties_and_headers_of_every_type(channel, name):
    sent = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="identity",
        headers=HEADERS,
        delivery_mode=2,
        priority=9,
        correlation_id="c",
        reply_to="r",
        expiration="600000",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        user_id="guest",
        app_id="a",
        cluster_id="k",
    )
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    channel.basic_publish("", name, b"x", sent)
    received = channel.basic_get(name, auto_ack=True)[1]
    assert received.headers == {**HEADERS, "time": received.headers["time"]}
    assert received.headers["time"].replace(tzinfo=None) == HEADERS["time"].replace(tzinfo=None)
    received.headers = sent.headers = None
    assert received == sent


def test_properties_that_are_absent_stay_absent(channel, name):
    channel.queue_declare(name, exclusive=True)
    channel.confirm_delivery()
    channel.basic_publish("", name, b"x")
    assert channel.basic_get(name, auto_ack=True)[1] == pika.BasicProperties()


def test_heartbeats_keep_an_idle_connection(broker):
    """At one beat a second a broker that sends none is given up after two."""
    with pika_channel(broker, heartbeat=1) as channel:
        channel.connection.process_data_events(4)
        assert channel.queue_declare("", exclusive=True).method.queue


def test_small_frames(broker, name):
    with pika_channel(broker, frame_max=4096) as channel:
        body = os.urandom(20_000)
        channel.queue_declare(name, exclusive=True)
        channel.confirm_delivery()
        channel.basic_publish("", name, body)
        assert channel.basic_get(name, auto_ack=True)[2] == body


def test_many_channels(broker):
    with pika_channel(broker) as channel:
        channels = [channel.connection.channel() for _ in range(200)]
        names = {it.queue_declare("", exclusive=True).method.queue for it in channels}
        assert len(names) == 200


def test_durable_survives_a_restart_and_transient_does_not(own_broker):
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.exchange_declare("kept", "topic", durable=True)
        channel.queue_declare("durable", durable=True)
        channel.queue_declare("transient")
        channel.queue_bind("durable", "kept", "a.#")
        channel.confirm_delivery()
        for number in range(100):
            channel.basic_publish("kept", "a.b", str(number).encode(), pika.BasicProperties(delivery_mode=2))
        channel.basic_publish("kept", "a.b", b"transient", pika.BasicProperties(delivery_mode=1))
        method, _, _ = channel.basic_get("durable")
        channel.basic_ack(method.delivery_tag)
        channel.basic_get("durable")
    broker.restart()
    with pika_channel(broker) as channel:
        messages = take(channel, "durable", 99)
        assert bodies(messages) == [str(it).encode() for it in range(1, 100)]
        channel.confirm_delivery()
        channel.basic_publish("kept", "a.c", b"still bound", mandatory=True)
        assert channel.basic_get("durable", auto_ack=True)[2] == b"still bound"
        with pytest.raises(ChannelClosedByBroker):
            channel.queue_declare("transient", passive=True)


class Pipeline:
    """A select connection that publishes with confirms and consumes, without ever blocking."""

    COUNT = 2000

    def __init__(self, broker, queue):
        self.queue, self.received, self.confirmed, self.error = queue, [], 0, None
        self.connection = pika.SelectConnection(
            pika.ConnectionParameters("127.0.0.1", broker.port("amqp")),
            on_open_callback=lambda it: it.channel(on_open_callback=self.on_channel),
            on_open_error_callback=self.fail,
            on_close_callback=lambda it, _: it.ioloop.stop(),
        )

    def run(self):
        self.connection.ioloop.call_later(PATIENCE, lambda: self.fail(None, "timeout"))
        self.connection.ioloop.start()

    def fail(self, _, error):
        self.error = error
        self.connection.ioloop.stop()

    def on_channel(self, channel):
        self.channel = channel
        channel.queue_declare(self.queue, exclusive=True, callback=self.on_queue)

    def on_queue(self, _):
        self.channel.confirm_delivery(self.on_confirm)
        self.channel.basic_qos(prefetch_count=100)
        self.channel.basic_consume(self.queue, self.on_message)
        for number in range(self.COUNT):
            self.channel.basic_publish("", self.queue, str(number).encode())

    def on_confirm(self, frame):
        assert isinstance(frame.method, pika.spec.Basic.Ack)
        # A tag is the count of messages confirmed so far, when multiple; tags come in order here.
        self.confirmed = frame.method.delivery_tag
        self.finish()

    def on_message(self, channel, method, _, body):
        self.received.append(int(body))
        channel.basic_ack(method.delivery_tag)
        self.finish()

    def finish(self):
        if self.confirmed == self.COUNT and len(self.received) == self.COUNT and self.connection.is_open:
            self.connection.close()


def test_select_connection_publishes_and_consumes_at_once(broker, name):
    pipeline = Pipeline(broker, name)
    pipeline.run()
    assert pipeline.error is None
    assert pipeline.received == list(range(Pipeline.COUNT))
