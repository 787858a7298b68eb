"""RabbitMQ beside Trivium while applications move: definitions, shovels and federation, which are RabbitMQ's own clients."""

import json
import subprocess
from decimal import Decimal

import pika
import pytest

import interop
from broker import binary
from clients import PATIENCE, bodies, eventually, pika_channel, take
from rabbitmq import RabbitMQ, is_installed

COUNT = 500


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory):
    """A RabbitMQ that can move messages by itself."""
    if not is_installed():
        interop.need("rabbitmq-server")
    node = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"), plugins=("rabbitmq_shovel", "rabbitmq_federation")).start()
    yield node
    node.close()


def uri(broker):
    """With no path, which is the default virtual host; `/` would be one with an empty name to RabbitMQ's client."""
    return broker.amqp_url.rstrip("/")


def fill(broker, queue, count=COUNT, first=0):
    """Persistent messages with properties of several types, confirmed."""
    with pika_channel(broker) as channel:
        channel.queue_declare(queue, durable=True)
        channel.confirm_delivery()
        for number in range(first, first + count):
            properties = pika.BasicProperties(
                delivery_mode=2, content_type="text/plain", correlation_id=f"c{number}", priority=3,
                headers={"number": number, "ratio": Decimal("0.5"), "tags": ["a", {"b": True}]},
            )
            channel.basic_publish("", queue, f"m{number}", properties, mandatory=True)


def shovel(rabbitmq, name, **definition):
    rabbitmq.control("set_parameter", "shovel", name, json.dumps({"ack-mode": "on-confirm", **definition}))


def assert_all_there(messages, count=COUNT):
    assert bodies(messages) == [f"m{number}".encode() for number in range(count)]
    for number, (_, properties, _) in enumerate(messages):
        assert properties.headers["number"] == number
        assert properties.headers["ratio"] == Decimal("0.5")
        assert properties.headers["tags"] == ["a", {"b": True}]
        assert (properties.delivery_mode, properties.content_type) == (2, "text/plain")
        assert (properties.correlation_id, properties.priority) == (f"c{number}", 3)


def test_a_shovel_brings_a_queue(rabbitmq, broker, name):
    fill(rabbitmq, name)
    with pika_channel(broker) as channel:
        channel.queue_declare(name, durable=True)
        shovel(rabbitmq, name, **{
            "src-uri": uri(rabbitmq), "src-queue": name, "dest-uri": uri(broker), "dest-queue": name,
            "src-delete-after": "queue-length", "dest-add-forward-headers": True,
        })
        messages = take(channel, name, COUNT)
    assert_all_there(messages)
    assert messages[0][1].headers["x-shovelled"][0]["shovel-name"] == name


def test_a_shovel_brings_a_queue_back(rabbitmq, broker, name):
    """The way back is what makes it safe to try."""
    fill(broker, name)
    with pika_channel(rabbitmq) as channel:
        channel.queue_declare(name, durable=True)
        shovel(rabbitmq, name, **{
            "src-uri": uri(broker), "src-queue": name, "dest-uri": uri(rabbitmq), "dest-queue": name,
        })
        assert_all_there(take(channel, name, COUNT))
    rabbitmq.control("clear_parameter", "shovel", name)


def test_a_shovel_loses_nothing_over_a_kill(rabbitmq, own_broker, name):
    """On-confirm shovels send again what the broker had not confirmed when it was killed."""
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.queue_declare(name, durable=True)
    with pika_channel(rabbitmq) as source:
        fill(rabbitmq, name)
        shovel(rabbitmq, name, **{
            "src-uri": uri(rabbitmq), "src-queue": name, "dest-uri": uri(broker), "dest-queue": name,
            "src-prefetch-count": 10, "reconnect-delay": 1,
        })
        eventually(lambda: source.queue_declare(name, passive=True).method.message_count < COUNT)
        broker.kill()
    fill(rabbitmq, name, COUNT, first=COUNT)
    broker.start()
    missing = {f"m{number}".encode() for number in range(2 * COUNT)}
    with pika_channel(broker) as channel:
        for _, _, body in channel.consume(name, auto_ack=True, inactivity_timeout=PATIENCE):
            assert body is not None, missing
            missing.discard(body)
            if not missing:
                break
    rabbitmq.control("clear_parameter", "shovel", name)


def upstream(rabbitmq, broker, name, pattern, to):
    definition = json.dumps({"uri": uri(broker), "reconnect-delay": 1})
    rabbitmq.control("set_parameter", "federation-upstream", name, definition)
    policy = json.dumps({"federation-upstream": name})
    rabbitmq.control("set_policy", "--apply-to", to, name, pattern, policy)


def forget(rabbitmq, name):
    rabbitmq.control("clear_policy", name)
    rabbitmq.control("clear_parameter", "federation-upstream", name)


def test_an_exchange_federates_from_trivium(rabbitmq, broker, name):
    """What is published to Trivium reaches a queue that is still with RabbitMQ, by the bindings it has there."""
    with pika_channel(broker) as here, pika_channel(rabbitmq) as there:
        here.exchange_declare(name, "topic", durable=True)
        there.exchange_declare(name, "topic", durable=True)
        queue = there.queue_declare("", exclusive=True).method.queue
        there.queue_bind(queue, name, "orders.#")
        upstream(rabbitmq, broker, name, f"^{name}$", "exchanges")

        seen = []

        def federated(key, body):
            """Publishes until a link is there to bring it; whether it was brought."""
            here.basic_publish(name, "invoices.eu", b"nobody there wants this")
            here.basic_publish(name, key, body)
            method, properties, got = there.basic_get(queue, auto_ack=True)
            if method is not None:
                seen.append((method.routing_key, got, properties.headers["x-received-from"][0]["exchange"]))
            return (key, body, name) in seen
        for key in ("orders.eu", "orders.us"):
            eventually(lambda: federated(key, key.encode()))
    assert {key for key, _, _ in seen} == {"orders.eu", "orders.us"}
    forget(rabbitmq, name)


def test_a_queue_federates_from_trivium(rabbitmq, broker, name):
    """Consumers at RabbitMQ get what waits at Trivium."""
    fill(broker, name, 100)
    with pika_channel(rabbitmq) as there:
        there.queue_declare(name, durable=True)
        upstream(rabbitmq, broker, name, f"^{name}$", "queues")
        messages = take(there, name, 100)
    assert_all_there(messages, 100)
    forget(rabbitmq, name)


def test_definitions_move(rabbitmq, own_broker, name, tmp_path):
    """Everything that RabbitMQ exports is there after one command, passwords included."""
    rabbitmq.control("add_vhost", name)
    rabbitmq.control("add_user", name, "secret word")
    rabbitmq.control("set_permissions", "-p", name, name, ".*", ".*", ".*")
    rabbitmq.control("set_policy", "-p", name, "ttl", "^work", json.dumps({"message-ttl": 60000}))
    parameters = {"virtual_host": name, "credentials": pika.PlainCredentials(name, "secret word")}
    with pika_channel(rabbitmq, **parameters) as channel:
        channel.exchange_declare("orders", "topic", durable=True)
        channel.queue_declare("work", durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind("work", "orders", "eu.#")
    exported = tmp_path / "definitions.json"
    rabbitmq.control("export_definitions", str(exported))
    broker = own_broker()
    subprocess.run(
        [binary(), "definitions", "import", str(exported), "--http", broker.addresses["http"],
         "--user", "guest", "--password", "guest"], check=True, timeout=60,
    )
    with pika_channel(broker, **parameters) as channel:
        channel.basic_publish("orders", "eu.de", b"after the move")
        assert bodies(take(channel, "work", 1)) == [b"after the move"]
