"""Exchanges, permissions, limits and policies, as AMQP clients meet them."""

import time
from contextlib import contextmanager

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from clients import PATIENCE, eventually, pika_channel, take
from management import Management


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        it.confirm_delivery()
        yield it


@contextmanager
def channel_error(code, text):
    with pytest.raises(ChannelClosedByBroker) as closed:
        yield
    assert (closed.value.reply_code, closed.value.reply_text) == (code, text)


def declare(channel, name, kind="direct", **options):
    return channel.exchange_declare(name, kind, **options)


def counts(channel, *queues):
    return [channel.queue_declare(queue, passive=True).method.message_count for queue in queues]


@pytest.mark.parametrize(
    "match, headers, routed",
    [
        ("all", {"a": 1, "b": "x"}, True),
        ("all", {"a": 1}, False),
        ("any", {"b": "x"}, True),
        ("any", {"x-h": True}, False),
        ("all-with-x", {"a": 1, "b": "x"}, False),
        ("all-with-x", {"a": 1, "b": "x", "x-h": True}, True),
        ("any-with-x", {"x-h": True}, True),
    ],
)
def test_headers_exchange_matches(channel, name, match, headers, routed):
    channel.queue_declare(name)
    channel.queue_bind(name, "amq.headers", arguments={"x-match": match, "a": 1, "b": "x", "x-h": True})
    channel.basic_publish("amq.headers", "", b"", pika.BasicProperties(headers=headers))
    assert counts(channel, name) == [int(routed)]
    channel.queue_delete(name)


def test_a_message_through_a_cycle_of_exchanges_comes_once(channel, name):
    one, two = f"{name}-1", f"{name}-2"
    declare(channel, one, "fanout")
    declare(channel, two, "fanout")
    channel.exchange_bind(two, one)
    channel.exchange_bind(one, two)
    channel.queue_declare(name)
    channel.queue_bind(name, one)
    channel.queue_bind(name, two, "again")
    channel.basic_publish(one, "k", b"once")
    assert counts(channel, name) == [1]
    channel.exchange_delete(one)
    channel.exchange_delete(two)


def test_what_matches_nothing_goes_to_the_alternate_exchange(channel, name):
    one, two = f"{name}-1", f"{name}-2"
    declare(channel, two, "direct", arguments={"alternate-exchange": one})
    declare(channel, one, "direct", arguments={"alternate-exchange": two})
    channel.queue_declare(name)
    channel.queue_bind(name, two, "caught")
    channel.basic_publish(one, "caught", b"", mandatory=True)
    assert counts(channel, name) == [1]
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(one, "nowhere", b"", mandatory=True)
    with channel_error(
        406,
        f"PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{one}' in vhost '/': "
        f"received none but current is the value '{two}' of type 'longstr'",
    ):
        declare(channel, one, "direct")


def test_internal_and_automatic_exchanges(broker, name):
    with pika_channel(broker) as channel:
        declare(channel, name, "fanout", internal=True)
        with channel_error(403, f"ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'"):
            channel.confirm_delivery()
            channel.basic_publish(name, "", b"")
    with pika_channel(broker) as channel:
        automatic = f"{name}-auto"
        declare(channel, automatic, "fanout", auto_delete=True)
        channel.queue_declare(name, exclusive=True)
        channel.queue_bind(name, automatic)
        channel.queue_unbind(name, automatic)
        with channel_error(404, f"NOT_FOUND - no exchange '{automatic}' in vhost '/'"):
            declare(channel, automatic, "fanout", passive=True)


@pytest.mark.parametrize("exchange", ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match", "amq.rabbitmq.trace"])
def test_predeclared_exchanges_are_there_and_stay(broker, exchange):
    with pika_channel(broker) as channel:
        declare(channel, exchange, passive=True)
        with channel_error(403, f"ACCESS_REFUSED - deletion of system exchange '{exchange}' in vhost '/' not allowed"):
            channel.exchange_delete(exchange)


def test_an_unknown_type_and_a_reserved_name(broker, name):
    with pika_channel(broker) as channel, channel_error(406, "PRECONDITION_FAILED - unknown exchange type 'nosuch'"):
        declare(channel, name, "nosuch")
    text = "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"
    with pika_channel(broker) as channel, channel_error(403, text):
        declare(channel, "amq.mine", "direct")


def test_a_consistent_hash_spreads_by_header_and_keeps_together(channel, name):
    queues = [f"{name}-{n}" for n in range(3)]
    declare(channel, name, "x-consistent-hash", arguments={"hash-header": "user"})
    for queue in queues:
        channel.queue_declare(queue)
        channel.queue_bind(queue, name, "1")
    for n in range(60):
        for _ in range(2):
            channel.basic_publish(name, "k", str(n).encode(), pika.BasicProperties(headers={"user": f"u{n}"}))
    found = {queue: [body for body in iter(lambda q=queue: take_one(channel, q), None)] for queue in queues}
    assert sum(map(len, found.values())) == 120
    for bodies in found.values():
        assert len(bodies) > 10
        assert all(bodies.count(body) == 2 for body in bodies)


def take_one(channel, queue):
    return channel.basic_get(queue, auto_ack=True)[2]


def test_a_random_exchange_spreads_one_key(channel, name):
    queues = [f"{name}-{n}" for n in range(2)]
    declare(channel, name, "x-random")
    for queue in queues:
        channel.queue_declare(queue)
        channel.queue_bind(queue, name)
    for _ in range(40):
        channel.basic_publish(name, "k", b"")
    one, two = counts(channel, *queues)
    assert one + two == 40 and one > 5 and two > 5


def test_delayed_messages_come_in_time_with_the_header_negated(channel, name):
    declare(channel, name, "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, name, "k")
    # Their times begin together: with the commit.
    publishing = channel.connection.channel()
    publishing.tx_select()
    for delay in (900, 300, 600, 0):
        publishing.basic_publish(name, "k", str(delay).encode(), pika.BasicProperties(headers={"x-delay": delay, "h": 1}))
    begun = time.monotonic()
    publishing.tx_commit()
    delays = []
    for method, properties, body in channel.consume(name, inactivity_timeout=PATIENCE):
        delay = int(body)
        assert properties.headers == {"x-delay": -delay, "h": 1}
        assert time.monotonic() - begun >= delay / 1000 - 0.01
        delays.append(delay)
        channel.basic_ack(method.delivery_tag)
        if len(delays) == 4:
            break
    channel.cancel()
    assert delays == [0, 300, 600, 900]


def test_delayed_messages_survive_a_kill_and_come_once(own_broker, name):
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        declare(channel, name, "x-delayed-message", durable=True, arguments={"x-delayed-type": "fanout"})
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, name)
        for n in range(200):
            properties = pika.BasicProperties(delivery_mode=2, headers={"x-delay": 100 + 10 * n})
            channel.basic_publish(name, "", str(n).encode(), properties)
        deadline = time.monotonic() + PATIENCE
        while counts(channel, name) == [0]:
            assert time.monotonic() < deadline
    broker.kill()
    broker.start()
    with pika_channel(broker) as channel:
        deadline = time.monotonic() + PATIENCE
        while counts(channel, name) != [200]:
            assert time.monotonic() < deadline, counts(channel, name)
        bodies = sorted(int(take_one(channel, name)) for _ in range(200))
        assert bodies == list(range(200))


def test_a_policy_reaches_a_queue_that_is_there(broker, channel, name):
    management = Management(broker)
    channel.queue_declare(name, durable=True)
    for n in range(5):
        channel.basic_publish("", name, str(n).encode())
    assert counts(channel, name) == [5]
    management.put("policies", "/", name, pattern=f"^{name}$", definition={"message-ttl": 1})
    deadline = time.monotonic() + PATIENCE
    while counts(channel, name) != [0]:
        assert time.monotonic() < deadline
    management.delete("policies", "/", name)
    channel.basic_publish("", name, b"stays")
    time_left = time.monotonic() + 0.1
    while time.monotonic() < time_left:
        assert counts(channel, name) == [1]


def test_limits_of_connections(broker, name):
    management = Management(broker)
    management.put("vhosts", name)
    management.put("users", name, password="secret", tags="")
    management.put("permissions", name, name, configure=".*", write=".*", read=".*")

    def connect():
        credentials = pika.PlainCredentials(name, "secret")
        return pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", broker.port("amqp"), name, credentials)
        )

    def refusal():
        with pytest.raises(pika.exceptions.AMQPConnectionError) as refused:
            connect()
        return str(refused.value.__cause__ or refused.value)

    with connect():
        management.put("user-limits", name, "max-connections", value=1)
        assert f"connection refused for user '{name}': user connection limit (1) is reached" in refusal()
        management.delete("user-limits", name, "max-connections")
        management.put("vhost-limits", name, "max-connections", value=1)
        text = f"access to vhost '{name}' refused for user '{name}': connection limit (1) is reached"
        assert text in refusal()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connect().close()
            break
        except pika.exceptions.AMQPConnectionError:
            assert time.monotonic() < deadline


def test_limits_of_channels(broker, name):
    management = Management(broker)
    management.put("users", name, password="secret", tags="")
    management.put("permissions", "/", name, configure=".*", write=".*", read=".*")
    credentials = pika.PlainCredentials(name, "secret")
    parameters = pika.ConnectionParameters("127.0.0.1", broker.port("amqp"), "/", credentials)
    with pika.BlockingConnection(parameters) as first:
        second = pika.BlockingConnection(parameters)
        channels = [first.channel(), first.channel()]
        management.put("user-limits", name, "max-channels", value=2)
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
            second.channel()
        assert (closed.value.reply_code, closed.value.reply_text) == (
            530,
            f"NOT_ALLOWED - number of channels opened for user '{name}' has reached the maximum allowed user limit of (2)",
        )
        channels.pop().close()
        with pika.BlockingConnection(parameters) as third:
            third.channel()
        # A channel that the broker has closed counts no more, nor do those of a connection that has gone.
        with pytest.raises(ChannelClosedByBroker):
            channels.pop().queue_declare(name, passive=True)
        first.channel()
        management.put("user-limits", name, "max-channels", value=-1)
        first.channel()
        first.channel()


def test_the_broker_has_a_default_queue_type(own_broker, name):
    broker = own_broker(amqp__default_queue_type="quorum")
    management = Management(broker)
    with pika_channel(broker) as channel:
        channel.queue_declare(name, durable=True)
        channel.queue_declare(name, durable=True)
        for suffix, options in (("exclusive", {"exclusive": True}), ("auto", {"auto_delete": True, "durable": True})):
            channel.queue_declare(f"{name}-{suffix}", **options)
        kinds = {queue["name"]: queue["type"] for queue in management.get("queues", "/")}
        assert kinds == {name: "quorum", f"{name}-exclusive": "classic", f"{name}-auto": "classic"}
        management.put("vhosts", "/", default_queue_type="stream")
        channel.queue_declare(f"{name}-stream", durable=True)
        assert management.get("queues", "/", f"{name}-stream")["type"] == "stream"


def test_policies_bound_a_stream_that_is_there(own_broker, name):
    broker = own_broker()
    management = Management(broker)
    with pika_channel(broker) as channel:
        arguments = {"x-queue-type": "stream", "x-max-age": "1h", "x-stream-max-segment-size-bytes": 1_000_000}
        channel.confirm_delivery()
        for suffix in ("age", "size"):
            channel.queue_declare(f"{name}-{suffix}", durable=True, arguments=arguments)
            for _ in range(100):
                channel.basic_publish("", f"{name}-{suffix}", b"x" * 100_000)

        def count(suffix):
            return channel.queue_declare(f"{name}-{suffix}", passive=True).method.message_count

        assert (count("age"), count("size")) == (100, 100)
        definition = {"max-age": "1s"}
        management.put("policies", "/", "age", **{"pattern": "-age$", "apply-to": "streams", "definition": definition})
        definition = {"max-length-bytes": 3_000_000}
        management.put("policies", "/", "size", **{"pattern": "-size$", "apply-to": "queues", "definition": definition})
        assert management.get("queues", "/", f"{name}-age")["policy"] == "age"
        eventually(lambda: count("age") == 0)
        eventually(lambda: count("size") <= 40)
        assert count("size") >= 20
        # What was published before can be declared again as it was.
        channel.queue_declare(f"{name}-age", durable=True, arguments=arguments)


def test_connections_of_a_user_that_is_deleted_are_closed(broker, name):
    management = Management(broker)
    management.put("users", name, password="secret", tags="")
    management.put("permissions", "/", name, configure=".*", write=".*", read=".*")
    credentials = pika.PlainCredentials(name, "secret")
    parameters = pika.ConnectionParameters("127.0.0.1", broker.port("amqp"), "/", credentials)
    connection = pika.BlockingConnection(parameters)
    management.delete("users", name)
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        connection.process_data_events(time_limit=10)
        connection.channel()
    assert closed.value.reply_code == 320


def test_publishing_without_permission_closes_the_channel(broker, name):
    management = Management(broker)
    management.put("users", name, password="secret", tags="")
    management.put("permissions", "/", name, configure="", write="^amq\\.topic$", read="")
    management.put("topic-permissions", "/", name, exchange="amq.topic", write="^ok", read="")
    credentials = pika.PlainCredentials(name, "secret")
    parameters = pika.ConnectionParameters("127.0.0.1", broker.port("amqp"), "/", credentials)
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", "ok.1", b"")
        text = f"write access to topic 'no' in exchange 'amq.topic' in vhost '/' refused for user '{name}'"
        with channel_error(403, f"ACCESS_REFUSED - {text}"):
            channel.basic_publish("amq.topic", "no", b"")
        channel = connection.channel()
        channel.confirm_delivery()
        text = f"write access to exchange 'amq.default' in vhost '/' refused for user '{name}'"
        with channel_error(403, f"ACCESS_REFUSED - {text}"):
            channel.basic_publish("", "q", b"")


def test_a_new_queue_begins_with_the_recent_history(channel, name):
    """Of the latest messages, those that do not ask to be forgotten, as they were published."""
    channel.exchange_declare(name, "x-recent-history", arguments={"x-recent-history-length": 3})
    for body in (b"1", b"2", b"3", b"4"):
        headers = {"x-recent-history-no-store": body == b"3", "n": int(body)}
        channel.basic_publish(name, f"key.{body.decode()}", body, pika.BasicProperties(headers=headers))
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, name, "whatever")
    found = take(channel, queue, 3)
    assert [(body, method.routing_key, properties.headers["n"]) for method, properties, body in found] == [
        (b"1", "key.1", 1),
        (b"2", "key.2", 2),
        (b"4", "key.4", 4),
    ]
    assert all(method.exchange == name and not method.redelivered for method, _, _ in found)
    channel.basic_publish(name, "later", b"5")
    assert take(channel, queue, 1)[0][2] == b"5"
    with channel_error(
        406,
        "PRECONDITION_FAILED - Invalid argument -1, 'x-recent-history-length' must be a positive integer",
    ):
        channel.exchange_declare(f"{name}.wrong", "x-recent-history", arguments={"x-recent-history-length": -1})
