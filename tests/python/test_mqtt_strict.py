"""Devices that break a rule: served as they are, or sent away where a switch says so (docs/mqtt.md)."""

import socket

import pytest

PATIENCE = 120


class Raw:
    """Bytes to and from the MQTT listener."""

    def __init__(self, broker):
        self._socket = socket.create_connection(("127.0.0.1", broker.port("mqtt")), PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, *packets):
        self._socket.sendall(b"".join(packets))

    def packet(self):
        """The next packet as (first byte, body); None when the broker has closed."""
        head = self._socket.recv(1)
        if not head:
            return None
        length, shift, more = 0, 0, True
        while more:
            byte = self._socket.recv(1)[0]
            length, shift, more = length | (byte & 0x7F) << shift, shift + 7, byte & 0x80
        body = b""
        while len(body) < length:
            body += self._socket.recv(length - len(body))
        return head[0], body


def packet(first, body):
    assert len(body) < 128
    return bytes([first, len(body)]) + body


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


def connect(level, client_id):
    name = "MQIsdp" if level & 0x7F == 3 else "MQTT"
    properties = b"\0" if level == 5 else b""
    return packet(0x10, text(name) + bytes([level, 2, 0, 60]) + properties + text(client_id))


def publish(topic, number, properties=b"\0"):
    return packet(0x34, text(topic) + number.to_bytes(2, "big") + properties + b"x")


@pytest.fixture(params=["log", "disconnect"])
def broker_that(request, own_broker):
    """A broker and whether it disconnects those who break the rule of that name."""

    def start(rule, **settings):
        settings[f"mqtt__strict__{rule}"] = request.param
        return own_broker(**settings), request.param == "disconnect"

    return start


def test_a_long_client_identifier_of_3_1(broker_that, name):
    """MQTT 3.1, 3.1: at most 23 characters."""
    broker, disconnects = broker_that("client_id")
    with Raw(broker) as device:
        device.send(connect(3, "x" * 24))
        assert device.packet() == (0x20, bytes([0, 2 if disconnects else 0]))


def test_a_bridge(broker_that, name):
    """Mosquitto sets the high bit of the level."""
    broker, disconnects = broker_that("bridge")
    with Raw(broker) as device:
        device.send(connect(0x84, name))
        assert device.packet() == (0x20, bytes([0, 1 if disconnects else 0]))


def test_a_subscription_with_dup(broker_that, name):
    """MQTT-3.8.1-1: the flags of SUBSCRIBE are reserved; 3.1 had DUP there."""
    broker, disconnects = broker_that("resend")
    with Raw(broker) as device:
        device.send(connect(4, name))
        assert device.packet() == (0x20, b"\0\0")
        device.send(packet(0x8A, b"\0\1" + text(name) + b"\0"))
        assert device.packet() == (None if disconnects else (0x90, b"\0\1\0"))


def test_more_than_the_receive_maximum(broker_that, name):
    """MQTT-3.3.4-9: no more than Receive Maximum packets at QoS 1 and 2 before they are acknowledged."""
    broker, disconnects = broker_that("receive_maximum", mqtt__receive_maximum=2)
    with Raw(broker) as device:
        device.send(connect(5, name))
        assert device.packet()[0] == 0x20
        device.send(*(publish(name, number) for number in (1, 2, 3)))
        answers = []
        while len(answers) < 3 and (answer := device.packet()) is not None:
            answers.append((answer[0], answer[1][:2]))
    if disconnects:
        first, body = answers[-1]
        assert (first, body[0]) == (0xE0, 0x93)
        assert (0x50, b"\0\3") not in answers
    else:
        assert answers == [(0x50, bytes([0, number])) for number in (1, 2, 3)]
