"""Kafka's protocol by single requests, for what no client would send or show.

The messages are kafka-python's, made from Kafka's own schemas; the connection is a plain socket.
"""

import socket
import struct
import time

from kafka.protocol.api_message import ApiMessage

PATIENCE = 120


def _by_name():
    import kafka.protocol.admin  # noqa: F401
    import kafka.protocol.consumer  # noqa: F401
    import kafka.protocol.metadata  # noqa: F401
    import kafka.protocol.producer  # noqa: F401

    found, todo = {}, [ApiMessage]
    while todo:
        for it in todo.pop().__subclasses__():
            found[it.__name__] = it
            todo.append(it)
    return found


MESSAGES = _by_name()


class Wire:
    """One connection. `call` sends a request by its name in Kafka's schemas and returns the response."""

    def __init__(self, port, client_id="wire", patience=PATIENCE, source=None):
        self.socket = socket.create_connection(("127.0.0.1", port), patience, source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client_id, self.correlation, self.open = client_id, 0, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def call(self, name, version, **fields):
        self.send(name, version, **fields)
        return self.receive()

    def send(self, name, version, **fields):
        self.send_bytes(encoded(name, version, self.correlation, self.client_id, **fields))
        self.open.append((self.correlation, MESSAGES[f"{name}Response"], version))
        self.correlation += 1

    def send_bytes(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next response; responses come in the order of their requests."""
        correlation, response, version = self.open.pop(0)
        frame = self.receive_frame()
        assert struct.unpack(">i", frame[:4]) == (correlation,)
        return response.decode(frame, version=version, header=True)

    def receive_frame(self):
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def is_silent_for(self, seconds):
        """Whether nothing comes within this time."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) is None
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)

    def is_closed(self):
        """Waits until the other side has closed."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if not self.socket.recv(4096):
                    return True
            except ConnectionResetError:
                return True
        return False

    def _exactly(self, size):
        data = bytearray()
        while len(data) < size:
            piece = self.socket.recv(min(1 << 20, size - len(data)))
            if not piece:
                raise ConnectionError("closed by the other side")
            data += piece
        return bytes(data)


def message(name):
    """The class of a message or of a part of one: `CreateTopicsRequest`, `CreateTopicsRequest.CreatableTopic`."""
    name, *parts = name.split(".")
    it = MESSAGES[name]
    for part in parts:
        it = getattr(it, part)
    return it


def encoded(name, version, correlation=0, client_id="wire", **fields):
    """A request with its header and its length."""
    request = message(f"{name}Request")(version=version, **fields)
    request.with_header(correlation, client_id)
    return bytes(request.encode(version=version, header=True, framed=True))


def batch(*values, key=None, producer_id=-1, epoch=-1, sequence=-1, attributes=0, timestamp=None):
    """A record batch of version 2."""
    timestamp = int(time.time() * 1000) if timestamp is None else timestamp
    records = b""
    for at, value in enumerate(values):
        body = b"\0" + varint(0) + varint(at) + _section(key) + _section(value) + varint(0)
        records += varint(len(body)) + body
    covered = struct.pack(
        ">hiqqqhii", attributes, len(values) - 1, timestamp, timestamp, producer_id, epoch, sequence, len(values)
    ) + records
    return struct.pack(">qiibI", 0, len(covered) + 9, -1, 2, crc32c(covered)) + covered


def _section(data):
    return varint(-1) if data is None else varint(len(data)) + data


def varint(number):
    zigzag, out = (number << 1) ^ (number >> 63), bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _table():
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


_TABLE = _table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
