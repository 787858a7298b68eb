"""Limits of the whole broker, by RabbitMQ's names for them and with its codes and texts."""

import pika
import pytest
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, ConnectionClosedByBroker

from clients import eventually, pika_channel
from management import Management


def connect(broker):
    return pika.BlockingConnection(pika.URLParameters(broker.amqp_url))


def test_connections_of_the_broker(own_broker):
    broker = own_broker(connection_max=2)
    first, second = connect(broker), connect(broker)
    with pytest.raises(AMQPConnectionError) as refused:
        connect(broker)
    cause = refused.value.__cause__ or refused.value
    assert "(530) 'NOT_ALLOWED - connection refused: node connection limit (2) is reached'" in str(cause)
    # Requests to the management API are no connections, and one that goes leaves its place.
    assert Management(broker).get("whoami")["name"] == "guest"
    first.close()

    def has_room():
        try:
            connect(broker).close()
        except AMQPConnectionError:
            return False  # its answer to the goodbye comes first
        return True

    eventually(has_room)
    second.close()


def test_channels_of_the_broker(own_broker):
    broker = own_broker(amqp__channel_max_per_node=2)
    with connect(broker) as first:
        second = connect(broker)
        channels = [first.channel(), second.channel()]
        with pytest.raises(ConnectionClosedByBroker) as closed:
            second.channel()
        assert (closed.value.reply_code, closed.value.reply_text) == (
            530,
            "NOT_ALLOWED - number of channels opened on node 'trivium@localhost' "
            "has reached the maximum allowed limit of (2)",
        )
        first.channel()
        channels[0].close()
        first.channel()


def test_consumers_of_a_channel(own_broker):
    broker = own_broker(amqp__consumer_max_per_channel=2)
    connection = connect(broker)
    channel, other = connection.channel(), connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    tags = [channel.basic_consume(queue, print) for _ in range(2)]
    channel.basic_cancel(tags[0])
    channel.basic_consume(queue, print)
    other.basic_consume(queue, print)
    # Replies are not taken from a queue.
    channel.basic_consume("amq.rabbitmq.reply-to", print, auto_ack=True)
    with pytest.raises(ConnectionClosedByBroker) as closed:
        channel.basic_consume(queue, print)
    assert (closed.value.reply_code, closed.value.reply_text) == (
        530,
        "NOT_ALLOWED - reached maximum (2) of consumers per channel",
    )


def test_queues_of_the_broker(own_broker):
    """Over all vhosts, streams among them; what is there may be declared again, and gives its place back."""
    broker = own_broker(cluster_queue_limit=2)
    admin = Management(broker)
    admin.put("vhosts", "other")
    elsewhere = pika.ConnectionParameters("127.0.0.1", broker.port("amqp"), "other")
    with pika.BlockingConnection(elsewhere) as connection, pika_channel(broker) as channel:
        connection.channel().queue_declare("one", durable=True)
        channel.queue_declare("two", durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_declare("two", durable=True, arguments={"x-queue-type": "stream"})
        for arguments in ({}, {"x-queue-type": "quorum"}, {"x-queue-type": "stream"}):
            with pytest.raises(ChannelClosedByBroker) as closed:
                channel.connection.channel().queue_declare("three", durable=True, arguments=arguments)
            assert (closed.value.reply_code, closed.value.reply_text) == (
                406,
                "PRECONDITION_FAILED - cannot declare queue 'three': queue limit in cluster (2) is reached",
            )
        channel.queue_delete("two")
        channel.queue_declare("three", durable=True)


def test_exchanges_of_the_broker(own_broker):
    """The seven of each vhost count, as in RabbitMQ."""
    broker = own_broker(cluster_exchange_limit=8)
    with pika_channel(broker) as channel:
        channel.exchange_declare("one")
        channel.exchange_declare("one")
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.connection.channel().exchange_declare("two")
        assert (closed.value.reply_code, closed.value.reply_text) == (
            406,
            "PRECONDITION_FAILED - cannot declare exchange 'two' in vhost '/': exchange limit of 8 is reached",
        )
        channel.exchange_delete("one")
        channel.exchange_declare("two")


def test_vhosts_of_the_broker(own_broker):
    broker = own_broker(vhost_max=2)
    admin = Management(broker)
    admin.put("vhosts", "one")
    admin.put("vhosts", "one", description="again")
    status, answer = admin.ask("PUT", "vhosts/two", {})
    assert (status, answer["reason"]) == (400, "cannot create vhost 'two': vhost limit of 2 is reached")
    admin.delete("vhosts", "one")
    admin.put("vhosts", "two")
