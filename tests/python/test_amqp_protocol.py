"""The protocol's edges as real clients meet them: negotiation, extensions of RabbitMQ, being held back."""

import os
import socket
import struct
import threading
import time
from pathlib import Path

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from broker import Broker
from clients import PATIENCE, eventually, pika_channel, take

REPLY_TO = "amq.rabbitmq.reply-to"


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        yield it


def connect(broker, **changes):
    parameters = pika.URLParameters(broker.amqp_url)
    for key, value in changes.items():
        setattr(parameters, key, value)
    return pika.BlockingConnection(parameters)


# Negotiation (sections 1.4.2.4 and 4.2.3)


def test_capabilities_and_product_are_what_clients_look_for(channel):
    properties = channel.connection._impl.server_properties
    for capability in (
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ):
        assert properties["capabilities"][capability] is True, capability
    assert properties["product"] == "Trivium"
    assert properties["version"].split(".")[0] == "4"
    assert properties["cluster_name"]


@pytest.mark.parametrize("frame_max", [4096, 8192, 131072])
def test_a_client_chooses_its_frame_size(broker, name, frame_max):
    connection = connect(broker, frame_max=frame_max, channel_max=5, heartbeat=7)
    assert connection._impl.params.frame_max == frame_max
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    for size in (0, 1, frame_max - 9, frame_max - 8, frame_max - 7, 3 * frame_max, 1 << 20):
        body = os.urandom(size)
        channel.basic_publish("", name, body)
        assert take(channel, name, 1)[0][2] == body, size
    connection.close()


def test_more_channels_than_agreed_end_the_connection(broker):
    connection = connect(broker, channel_max=3)
    for _ in range(3):
        connection.channel()
    # pika itself would refuse a fourth.
    raw = connection._impl
    raw.params.channel_max = 65535
    with pytest.raises(ConnectionClosedByBroker) as closed:
        connection.channel(4)
    assert closed.value.reply_code == 530
    assert closed.value.reply_text == (
        "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)"
    )


def test_bodies_of_128_mebibytes(own_broker, name):
    broker = own_broker(amqp__max_message_size="128MiB")
    body = os.urandom(1 << 20) * 128
    with pika_channel(broker) as channel:
        channel.queue_declare(name)
        channel.confirm_delivery()
        channel.basic_publish("", name, body)
        assert take(channel, name, 1)[0][2] == body
        with pytest.raises(ChannelClosedByBroker) as closed:
            channel.basic_publish("", name, body + b"x")
        assert closed.value.reply_text == (
            "PRECONDITION_FAILED - message size 134217729 is larger than configured max size 134217728"
        )


def test_anonymous_acts_as_guest_where_it_is_allowed(own_broker, broker):
    class Anonymous(pika.credentials.ExternalCredentials):
        TYPE = "ANONYMOUS"

        def response_for(self, start):
            return self.TYPE, b""

    pika.credentials.VALID_TYPES.append(Anonymous)
    try:
        connection = connect(broker, credentials=Anonymous())
        assert connection.is_open
        connection.close()
        strict = own_broker(amqp__anonymous="false")
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            connect(strict, credentials=Anonymous())
    finally:
        pika.credentials.VALID_TYPES.remove(Anonymous)


def test_a_new_secret_is_taken(channel):
    channel.connection.update_secret("next", "the old one expires")
    assert channel.connection.is_open


def exchange_of_bytes(broker, sent):
    host, port = broker.addresses["amqp"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
        client.sendall(sent)
        received = b""
        while chunk := client.recv(4096):
            received += chunk
        return received


@pytest.mark.parametrize("header", [b"AMQP\0\0\x09\x02", b"AMQP\x03\x01\0\0", b"GET / HTTP/1.1\r\n\r\n"])
def test_another_protocol_is_answered_by_ours(broker, header):
    assert exchange_of_bytes(broker, header) == b"AMQP\0\0\x09\x01"


def test_silence_for_two_heartbeats_ends_the_connection(broker):
    connection = connect(broker, heartbeat=1)
    transport = connection._impl._transport
    raw = socket.socket(fileno=os.dup(transport._sock.fileno())) if hasattr(transport, "_sock") else None
    if raw is None:
        pytest.skip("this version of pika hides its socket")
    raw.settimeout(PATIENCE)
    raw.setblocking(True)
    heartbeats = 0
    try:
        # Nobody runs the client's loop, so it sends nothing.
        while chunk := raw.recv(4096):
            heartbeats += chunk.count(b"\x08\0\0\0\0\0\0\xce")
    except ConnectionError:
        pass
    assert 2 <= heartbeats <= 6, "one every half interval"


# Publishing


def test_cc_and_bcc_route_too_and_bcc_is_not_seen(channel, name):
    queues = [f"{name}-{suffix}" for suffix in ("a", "b", "c")]
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
    headers = {"CC": [queues[1], queues[0]], "BCC": [queues[2]], "other": 1}
    channel.basic_publish("", queues[0], b"x", pika.BasicProperties(headers=headers))
    for queue in queues:
        [(_, properties, _)] = take(channel, queue, 1)
        assert properties.headers == {"CC": [queues[1], queues[0]], "other": 1}
    assert all(channel.basic_get(queue)[0] is None for queue in queues)


@pytest.mark.parametrize(
    "properties, text",
    [
        ({"headers": {"CC": "q"}}, 'invalid message: {unacceptable_type_in_header,"CC",longstr}'),
        ({"expiration": "abc"}, "invalid expiration 'abc': no_integer"),
        ({"expiration": "-1"}, "invalid expiration '-1': {value_negative,-1}"),
        ({"user_id": "bob"}, "user_id property set to 'bob' but authenticated user was 'guest'"),
    ],
)
def test_bad_properties_are_406(channel, properties, text):
    channel.basic_publish("", "q", b"", pika.BasicProperties(**properties))
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.queue_declare("", exclusive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (406, f"PRECONDITION_FAILED - {text}")


def test_immediate_ends_the_connection(channel):
    frame = pika.spec.Basic.Publish(exchange="", routing_key="q", immediate=True)
    channel._impl._send_method(frame, (pika.BasicProperties(), b""))
    with pytest.raises(ConnectionClosedByBroker) as closed:
        channel.queue_declare("", exclusive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (540, "NOT_IMPLEMENTED - immediate=true")


# Direct reply-to


def serve_requests(broker, queue, count):
    with pika_channel(broker) as server:
        for method, properties, body in server.consume(queue, inactivity_timeout=PATIENCE):
            if method is None:
                return
            server.basic_publish(
                "",
                properties.reply_to,
                body.upper(),
                pika.BasicProperties(correlation_id=properties.correlation_id),
            )
            server.basic_ack(method.delivery_tag)
            count -= 1
            if count == 0:
                return


def test_replies_come_straight_back_to_many_requesters(broker, name):
    with pika_channel(broker) as channel:
        channel.queue_declare(name, exclusive=False)
    server = threading.Thread(target=serve_requests, args=(broker, name, 60))
    server.start()
    for requester in range(3):
        with pika_channel(broker) as channel:
            replies = []
            channel.basic_consume(
                REPLY_TO, lambda *reply: replies.append((reply[2].correlation_id, reply[3])), auto_ack=True
            )
            for number in range(20):
                properties = pika.BasicProperties(reply_to=REPLY_TO, correlation_id=str(number))
                channel.basic_publish("", name, f"{requester}-{number} ok".encode(), properties)
            deadline = time.monotonic() + PATIENCE
            while len(replies) < 20 and time.monotonic() < deadline:
                channel.connection.process_data_events(time_limit=1)
            assert replies == [(str(number), f"{requester}-{number} OK".encode()) for number in range(20)]
    server.join()
    with pika_channel(broker) as channel:
        channel.queue_delete(name)


def test_declaring_tells_whether_a_requester_is_there(broker, channel, name):
    declared = channel.queue_declare(REPLY_TO, passive=True).method
    assert (declared.queue, declared.message_count, declared.consumer_count) == (REPLY_TO, 0, 1)
    channel.queue_declare(name, exclusive=True)
    requester = channel.connection.channel()
    requester.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)
    requester.basic_publish("", name, b"", pika.BasicProperties(reply_to=REPLY_TO))
    address = take(channel, name, 1)[0][1].reply_to
    assert address.startswith(REPLY_TO + ".")
    channel.queue_declare(address, passive=True)
    requester.close()
    with pytest.raises(ChannelClosedByBroker) as closed:
        eventually(lambda: channel.queue_declare(address, passive=True) and False)
    assert closed.value.reply_text == f"NOT_FOUND - no queue '{address}' in vhost '/'"


def test_a_mandatory_reply_counts_as_routed_while_its_requester_is_there(channel, name):
    channel.queue_declare(name, exclusive=True)
    requester = channel.connection.channel()
    requester.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)
    requester.basic_publish("", name, b"", pika.BasicProperties(reply_to=REPLY_TO))
    address = take(channel, name, 1)[0][1].reply_to
    channel.confirm_delivery()
    channel.basic_publish("", address, b"reply", mandatory=True)
    requester.close()
    with pytest.raises(pika.exceptions.UnroutableError):
        eventually(lambda: channel.basic_publish("", address, b"late", mandatory=True))


@pytest.mark.parametrize(
    "script, text",
    [
        (lambda it: it.basic_consume(REPLY_TO, lambda *_: None), "reply consumer cannot acknowledge"),
        (
            lambda it: [it.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True) for _ in range(2)],
            "reply consumer already set",
        ),
        (
            lambda it: [
                it.basic_publish("", "q", b"", pika.BasicProperties(reply_to=REPLY_TO)),
                it.queue_declare("", exclusive=True),
            ],
            "fast reply consumer does not exist",
        ),
    ],
)
def test_misuse_of_direct_reply_to_is_406(channel, script, text):
    with pytest.raises(ChannelClosedByBroker) as closed:
        script(channel)
    assert (closed.value.reply_code, closed.value.reply_text) == (406, f"PRECONDITION_FAILED - {text}")


# Being held back

SHARED_MEMORY = Path("/dev/shm")
MARGIN = 256 << 20


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="there is no file system of memory to fill")
def test_publishers_are_held_back_while_the_disk_is_full(tmp_path, name):
    """On a file system of its own kind, so that nobody else's writes matter; a large file makes it full."""
    space = os.statvfs(SHARED_MEMORY)
    free = space.f_bavail * space.f_frsize
    if free < 4 * MARGIN:
        pytest.skip("the file system of memory is too small")
    directory = SHARED_MEMORY / f"trivium-{os.getpid()}-{name}"
    broker = Broker(directory / "data", disk_free_limit=free - 2 * MARGIN).start()
    ballast = directory / "ballast"
    try:
        with pika_channel(broker) as channel:
            heard = []
            channel.connection.add_on_connection_blocked_callback(
                lambda _, frame: heard.append(frame.method.reason)
            )
            channel.connection.add_on_connection_unblocked_callback(lambda *_: heard.append("unblocked"))
            channel.queue_declare(name)
            with open(ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 3 * MARGIN)
            eventually(lambda: any("held back" in line for line in broker.log))
            channel.connection.process_data_events(time_limit=0.1)
            assert heard == [], "only who publishes is told"
            channel.basic_publish("", name, b"held back")
            eventually(lambda: channel.connection.process_data_events(time_limit=0.1) or heard)
            assert heard == ["low on disk"]
            with pika_channel(broker) as other:
                assert other.queue_declare(name, passive=True).method.message_count == 0
            ballast.unlink()
            eventually(lambda: channel.connection.process_data_events(time_limit=0.1) or heard[1:])
            assert heard == ["low on disk", "unblocked"]
            assert take(channel, name, 1)[0][2] == b"held back"
    finally:
        ballast.unlink(missing_ok=True)
        broker.close()
        for path in sorted(directory.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        directory.rmdir()


def test_publishers_are_held_back_while_memory_is_short(own_broker, name):
    broker = own_broker(memory_limit="1MiB")
    connection = connect(broker)
    heard = []
    connection.add_on_connection_blocked_callback(lambda _, frame: heard.append(frame.method.reason))
    channel = connection.channel()
    eventually(lambda: any("held back" in line for line in broker.log))
    channel.basic_publish("", name, b"held back")
    eventually(lambda: connection.process_data_events(time_limit=0.1) or heard)
    assert heard == ["low on memory"]
    # The broker does not read, so it would not read a goodbye.
    broker.stop()
    broker.start()


def test_a_prefetch_of_the_channel_is_shared_by_its_consumers(broker, name):
    """basic.qos with global, as in RabbitMQ 3, over queues of any shard."""
    queues = [f"{name}-{number}" for number in range(4)]
    with pika_channel(broker) as channel:
        for queue in queues:
            channel.queue_declare(queue, exclusive=True)
            for number in range(5):
                channel.basic_publish("", queue, str(number).encode())
        channel.basic_qos(prefetch_count=3, global_qos=True)
        tags = []
        for queue in queues:
            channel.basic_consume(queue, lambda _, method, *rest: tags.append(method.delivery_tag))

        def holds(count):
            eventually(lambda: channel.connection.process_data_events(0.1) or len(tags) >= count)
            channel.connection.process_data_events(0.2)
            assert len(tags) == count

        holds(3)
        channel.basic_ack(tags[2], multiple=True)
        holds(6)
        channel.basic_qos(prefetch_count=0, global_qos=True)
        holds(20)
