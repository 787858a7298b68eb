"""A client of MQTT that says exactly what it is told to: packets in, packets out."""

import socket
import struct

from clients import PATIENCE

PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
HOUR = b"\x05\x11" + struct.pack(">I", 3600)


class Wire:
    """Of 3.1.1 (level 4) or 5. With version 5 a session lasts an hour."""

    def __init__(self, broker, client_id, clean=False, level=4):
        self.socket = socket.create_connection(("127.0.0.1", broker.port("mqtt")), PATIENCE)
        self._is_5 = level == 5
        name = client_id.encode()
        flags = b"\x02" if clean else b"\x00"
        variable = b"\x00\x04MQTT" + bytes([level]) + flags + b"\x00\x00" + (HOUR if self._is_5 else b"")
        self.send(0x10, variable + struct.pack(">H", len(name)) + name)
        kind, body = self.read()
        assert kind == 0x20 and body[1] == 0
        self.present = body[0] == 1

    def send(self, first, body):
        assert len(body) < 128
        self.socket.sendall(bytes([first, len(body)]) + body)

    def read(self):
        first, length, shift = self._exactly(1)[0], 0, 0
        while True:
            digit = self._exactly(1)[0]
            length |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return first, self._exactly(length)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            assert part, "closed"
            data += part
        return data

    def _properties(self):
        return b"\x00" if self._is_5 else b""

    def publish(self, topic, payload, packet_id, qos=2, dup=False):
        name = topic.encode()
        body = struct.pack(">H", len(name)) + name + struct.pack(">H", packet_id) + self._properties() + payload
        self.send(0x30 | qos << 1 | dup << 3, body)

    def read_publish(self):
        """First byte, topic, packet identifier and payload of the next packet, which is a PUBLISH."""
        return self.publish_in(*self.read())

    def publish_in(self, first, body):
        """The same of a packet that was read."""
        assert first >> 4 == 3, hex(first)
        length = struct.unpack(">H", body[:2])[0]
        topic, rest, packet_id = body[2:2 + length].decode(), body[2 + length:], 0
        if first & 6:
            packet_id, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
        if self._is_5:
            assert rest[0] < 128
            rest = rest[1 + rest[0]:]
        return first, topic, packet_id, rest

    def subscribe(self, topic, qos):
        name = topic.encode()
        filters = struct.pack(">H", len(name)) + name + bytes([qos])
        self.send(0x82, b"\x00\x01" + self._properties() + filters)
        assert self.read() == (0x90, b"\x00\x01" + self._properties() + bytes([qos]))

    def ack(self, first, packet_id):
        self.send(first, struct.pack(">H", packet_id))

    def expect_ack(self, first):
        """The packet identifier of the next packet, which is this acknowledgement of success."""
        kind, body = self.read()
        assert kind == first, hex(kind)
        assert len(body) == 2 or body[2] < 0x80, f"reason {body[2]:#x}"
        return struct.unpack(">H", body[:2])[0]

    def ping(self):
        """What comes before the answer to a ping."""
        self.send(0xC0, b"")
        packets = []
        while (packet := self.read()) != (0xD0, b""):
            packets.append(packet)
        return packets

    def close(self):
        self.socket.close()
