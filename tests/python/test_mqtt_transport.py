"""What lies below MQTT: WebSocket, and the PROXY protocol."""

import base64
import os
import socket
import struct

import pytest
from paho.mqtt import client as mqtt

from clients import PATIENCE, Device

CONNECT = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c"
ACCEPTED = b"\x20\x02\0\0"
NOT_AUTHORIZED = b"\x20\x02\0\x05"
PINGREQ, PINGRESP = b"\xc0\0", b"\xd0\0"


def connect(broker, protocol="mqtt"):
    return socket.create_connection(("127.0.0.1", broker.port(protocol)), PATIENCE)


def read(stream, length):
    """So many bytes, or those that came before the end."""
    data = b""
    while len(data) < length:
        try:
            part = stream.recv(length - len(data))
        except ConnectionResetError:
            break
        if not part:
            break
        data += part
    return data


@pytest.mark.parametrize("version", [mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5])
def test_mqtt_over_websocket(broker, name, version):
    """In both directions, with what comes over TCP."""
    with Device(broker, version=version, transport="websockets") as device, Device(broker) as other:
        device.subscribe(f"{name}/#", qos=1)
        other.publish(f"{name}/a", b"over TCP")
        assert device.next().payload == b"over TCP"
        for size in [0, 1, 125, 126, 65_535, 65_536, 1_000_000]:
            device.publish(f"{name}/b", b"x" * size)
            assert len(device.next().payload) == size


def upgrade(stream, **headers):
    lines = {
        "Host": "x", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), "Sec-WebSocket-Protocol": "mqtt",
    } | headers
    request = "GET /mqtt HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines.items())
    stream.sendall(request.encode() + b"\r\n")
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        response += read(stream, 1) or pytest.fail(f"closed after {response}")
    return response


def frame(first, payload):
    """As a client sends it, with a mask that is no accident."""
    mask = os.urandom(4)
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
    return bytes([first]) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def test_packets_span_and_share_frames(broker):
    """MQTT-6.0.0-2."""
    with connect(broker, "mqtt.websocket") as stream:
        assert b" 101 " in upgrade(stream)
        for at in range(len(CONNECT)):
            stream.sendall(frame(0x82, CONNECT[at:at + 1]))
        assert read(stream, 6) == b"\x82\x04" + ACCEPTED
        stream.sendall(frame(0x02, PINGREQ[:1]) + frame(0x89, b"?"))
        assert read(stream, 3) == b"\x8a\x01?"
        stream.sendall(frame(0x80, PINGREQ[1:] + PINGREQ))
        assert read(stream, 6) == b"\x82\x04" + PINGRESP * 2
        stream.sendall(frame(0x88, b"\x03\xe9"))
        assert read(stream, 100) == b"\x88\x02\x03\xe9"


def test_text_frames_close(broker):
    """MQTT-6.0.0-1."""
    with connect(broker, "mqtt.websocket") as stream:
        upgrade(stream)
        stream.sendall(frame(0x81, CONNECT))
        assert read(stream, 100) == b"\x88\x02\x03\xeb"


def test_pages_of_elsewhere_are_kept_out(broker, own_broker):
    foreign = {"Origin": "https://app.example", "Host": "app.example"}
    with connect(broker, "mqtt.websocket") as stream:
        assert b" 403 " in upgrade(stream, **foreign)
    with connect(broker, "mqtt.websocket") as stream:
        assert b" 101 " in upgrade(stream, Origin="http://localhost:3000")
    open_broker = own_broker(mqtt__websocket__origins="https://app.example")
    with connect(open_broker, "mqtt.websocket") as stream:
        assert b" 101 " in upgrade(stream, **foreign)


def binary(source, port):
    body = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", port, 1883)
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H", len(body)) + body


@pytest.mark.parametrize("header, answer", [
    (b"PROXY TCP4 127.0.0.1 127.0.0.1 5 1883\r\n", ACCEPTED),
    (b"PROXY TCP4 192.0.2.7 127.0.0.1 5 1883\r\n", NOT_AUTHORIZED),
    (b"PROXY UNKNOWN\r\n", NOT_AUTHORIZED),
    (binary("127.0.0.1", 5), ACCEPTED),
    (binary("192.0.2.7", 5), NOT_AUTHORIZED),
    (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0", ACCEPTED),  # LOCAL: the proxy itself, which is on this machine
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\0", NOT_AUTHORIZED),  # PROXY, and nobody named
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x41\0\x0c" + bytes(12), b""),
    (b"PROXY TCP4 127.0.0.1 127.0.0.1 05 1883\r\n", b""),
    (b"", b""),
])
def test_the_peer_is_whom_the_proxy_names(own_broker, header, answer):
    """A client that comes through a proxy on this machine is not on this machine."""
    broker = own_broker(mqtt__proxy_protocol="true")
    with connect(broker) as stream:
        stream.sendall(header + CONNECT)
        assert read(stream, 4) == answer


def test_proxied_websockets_and_other_protocols(own_broker):
    broker = own_broker(mqtt__websocket__proxy_protocol="true", amqp__proxy_protocol="true")
    with connect(broker, "mqtt.websocket") as stream:
        stream.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 5 1883\r\n")
        upgrade(stream)
        stream.sendall(frame(0x82, CONNECT))
        assert read(stream, 6) == b"\x82\x04" + NOT_AUTHORIZED
    with connect(broker, "amqp") as stream:
        stream.sendall(binary("192.0.2.7", 5) + b"AMQP\0\0\x09\x01")
        assert read(stream, 1) == b"\x01"
