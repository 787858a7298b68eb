"""AMQP 0-9-1 frame by frame: what client libraries hide or refuse to send can be seen and sent.

One blocking connection, no threads. `call` sends a method and returns the broker's next frame on that
channel; nothing is answered by itself but a close. Tables keep the type letter of each value, because
the letter is part of what a broker answers.
"""

import socket
import struct
import time
from collections import deque

PATIENCE = 120
FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT, FRAME_END = 1, 2, 3, 8, 206
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

# Fields: o octet, h short, l long, L long long, s short string, S long string, b bit, t table.
METHODS = {
    "connection.start": (10, 10, "version_major:o version_minor:o server_properties:t mechanisms:S locales:S"),
    "connection.start-ok": (10, 11, "client_properties:t mechanism:s response:S locale:s"),
    "connection.secure": (10, 20, "challenge:S"),
    "connection.secure-ok": (10, 21, "response:S"),
    "connection.tune": (10, 30, "channel_max:h frame_max:l heartbeat:h"),
    "connection.tune-ok": (10, 31, "channel_max:h frame_max:l heartbeat:h"),
    "connection.open": (10, 40, "vhost:s capabilities:s insist:b"),
    "connection.open-ok": (10, 41, "known_hosts:s"),
    "connection.close": (10, 50, "code:h text:s class_id:h method_id:h"),
    "connection.close-ok": (10, 51, ""),
    "connection.blocked": (10, 60, "reason:s"),
    "connection.unblocked": (10, 61, ""),
    "connection.update-secret": (10, 70, "secret:S reason:s"),
    "connection.update-secret-ok": (10, 71, ""),
    "channel.open": (20, 10, "out_of_band:s"),
    "channel.open-ok": (20, 11, "channel_id:S"),
    "channel.flow": (20, 20, "active:b"),
    "channel.flow-ok": (20, 21, "active:b"),
    "channel.close": (20, 40, "code:h text:s class_id:h method_id:h"),
    "channel.close-ok": (20, 41, ""),
    "access.request": (30, 10, "realm:s exclusive:b passive:b active:b write:b read:b"),
    "access.request-ok": (30, 11, "ticket:h"),
    "exchange.declare": (
        40, 10, "ticket:h exchange:s type:s passive:b durable:b auto_delete:b internal:b nowait:b arguments:t"
    ),
    "exchange.declare-ok": (40, 11, ""),
    "exchange.delete": (40, 20, "ticket:h exchange:s if_unused:b nowait:b"),
    "exchange.delete-ok": (40, 21, ""),
    "exchange.bind": (40, 30, "ticket:h destination:s source:s routing_key:s nowait:b arguments:t"),
    "exchange.bind-ok": (40, 31, ""),
    "exchange.unbind": (40, 40, "ticket:h destination:s source:s routing_key:s nowait:b arguments:t"),
    "exchange.unbind-ok": (40, 51, ""),
    "queue.declare": (
        50, 10, "ticket:h queue:s passive:b durable:b exclusive:b auto_delete:b nowait:b arguments:t"
    ),
    "queue.declare-ok": (50, 11, "queue:s messages:l consumers:l"),
    "queue.bind": (50, 20, "ticket:h queue:s exchange:s routing_key:s nowait:b arguments:t"),
    "queue.bind-ok": (50, 21, ""),
    "queue.purge": (50, 30, "ticket:h queue:s nowait:b"),
    "queue.purge-ok": (50, 31, "messages:l"),
    "queue.delete": (50, 40, "ticket:h queue:s if_unused:b if_empty:b nowait:b"),
    "queue.delete-ok": (50, 41, "messages:l"),
    "queue.unbind": (50, 50, "ticket:h queue:s exchange:s routing_key:s arguments:t"),
    "queue.unbind-ok": (50, 51, ""),
    "basic.qos": (60, 10, "prefetch_size:l prefetch_count:h global_:b"),
    "basic.qos-ok": (60, 11, ""),
    "basic.consume": (
        60, 20, "ticket:h queue:s consumer_tag:s no_local:b no_ack:b exclusive:b nowait:b arguments:t"
    ),
    "basic.consume-ok": (60, 21, "consumer_tag:s"),
    "basic.cancel": (60, 30, "consumer_tag:s nowait:b"),
    "basic.cancel-ok": (60, 31, "consumer_tag:s"),
    "basic.publish": (60, 40, "ticket:h exchange:s routing_key:s mandatory:b immediate:b"),
    "basic.return": (60, 50, "code:h text:s exchange:s routing_key:s"),
    "basic.deliver": (60, 60, "consumer_tag:s delivery_tag:L redelivered:b exchange:s routing_key:s"),
    "basic.get": (60, 70, "ticket:h queue:s no_ack:b"),
    "basic.get-ok": (60, 71, "delivery_tag:L redelivered:b exchange:s routing_key:s messages:l"),
    "basic.get-empty": (60, 72, "cluster_id:s"),
    "basic.ack": (60, 80, "delivery_tag:L multiple:b"),
    "basic.reject": (60, 90, "delivery_tag:L requeue:b"),
    "basic.recover-async": (60, 100, "requeue:b"),
    "basic.recover": (60, 110, "requeue:b"),
    "basic.recover-ok": (60, 111, ""),
    "basic.nack": (60, 120, "delivery_tag:L multiple:b requeue:b"),
    "confirm.select": (85, 10, "nowait:b"),
    "confirm.select-ok": (85, 11, ""),
    "tx.select": (90, 10, ""),
    "tx.select-ok": (90, 11, ""),
    "tx.commit": (90, 20, ""),
    "tx.commit-ok": (90, 21, ""),
    "tx.rollback": (90, 30, ""),
    "tx.rollback-ok": (90, 31, ""),
}
FIELDS = {name: [it.split(":") for it in fields.split()] for name, (_, _, fields) in METHODS.items()}
BY_ID = {(class_id, method_id): name for name, (class_id, method_id, _) in METHODS.items()}
WITH_CONTENT = {"basic.publish", "basic.return", "basic.deliver", "basic.get-ok"}

PROPERTIES = (
    "content_type:s content_encoding:s headers:t delivery_mode:o priority:o correlation_id:s reply_to:s "
    "expiration:s message_id:s timestamp:L type:s user_id:s app_id:s cluster_id:s"
)
PROPERTY_FIELDS = [it.split(":") for it in PROPERTIES.split()]

INTEGERS = {"b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">q", "T": ">Q"}
FLOATS = {"f": ">f", "d": ">d"}
FIXED = {"o": ">B", "h": ">H", "l": ">I", "L": ">Q"}


class Typed(tuple):
    """A field value with its type letter: Typed("s", 5) is a signed 16-bit five."""

    def __new__(cls, letter, value):
        return super().__new__(cls, (letter, value))

    def __repr__(self):
        return f"{self[0]}:{self[1]!r}"


class Closed(Exception):
    """The broker ended the TCP connection."""


# Values


def octets(value):
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


def text(value):
    return value.decode("utf-8", "surrogateescape")


def short_string(value):
    value = octets(value)
    return struct.pack(">B", len(value)) + value


def long_string(value):
    value = octets(value)
    return struct.pack(">I", len(value)) + value


def encode_table(table):
    pairs = table.items() if isinstance(table, dict) else table
    return long_string(b"".join(short_string(key) + encode_value(value) for key, value in pairs))


def encode_value(value):
    letter, value = value if isinstance(value, Typed) else (letter_of(value), value)
    head = letter.encode()
    if letter in INTEGERS:
        return head + struct.pack(INTEGERS[letter], value)
    if letter in FLOATS:
        return head + struct.pack(FLOATS[letter], value)
    if letter == "t":
        return head + bytes([value])
    if letter == "D":
        return head + struct.pack(">Bi", *value)
    if letter in "Sx":
        return head + long_string(value)
    if letter == "A":
        return head + long_string(b"".join(map(encode_value, value)))
    if letter == "F":
        return head + encode_table(value)
    return head


def letter_of(value):
    """The letter that most clients choose for a value."""
    if isinstance(value, bool):
        return "t"
    if isinstance(value, int):
        return "I" if -(2**31) <= value < 2**31 else "l"
    letters = {float: "d", str: "S", bytes: "x", list: "A", dict: "F", type(None): "V"}
    return letters[type(value)]


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        assert len(piece) == count, "a frame ends too early"
        self.at += count
        return piece

    def number(self, layout):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def short_string(self):
        return text(self.take(self.number(">B")))

    def long_string(self):
        return self.take(self.number(">I"))

    def table(self):
        inner, table = Reader(self.long_string()), {}
        while inner.at < len(inner.data):
            key = inner.short_string()
            table[key] = inner.value()
        return table

    def value(self):
        letter = chr(self.number(">B"))
        if letter in INTEGERS:
            return Typed(letter, self.number(INTEGERS[letter]))
        if letter in FLOATS:
            return Typed(letter, self.number(FLOATS[letter]))
        if letter == "t":
            return Typed(letter, bool(self.number(">B")))
        if letter == "D":
            return Typed(letter, struct.unpack(">Bi", self.take(5)))
        if letter == "S":
            return Typed(letter, text(self.long_string()))
        if letter == "x":
            return Typed(letter, self.long_string())
        if letter == "A":
            inner, values = Reader(self.long_string()), []
            while inner.at < len(inner.data):
                values.append(inner.value())
            return Typed(letter, values)
        if letter == "F":
            return Typed(letter, self.table())
        assert letter == "V", f"field type {letter!r}"
        return Typed(letter, None)

    def field(self, kind):
        if kind == "s":
            return self.short_string()
        if kind == "S":
            return text(self.long_string())
        if kind == "t":
            return self.table()
        return self.number(FIXED[kind])


def plain(value):
    """A typed value without its letters."""
    if isinstance(value, Typed):
        return plain(value[1])
    if isinstance(value, dict):
        return {key: plain(it) for key, it in value.items()}
    if isinstance(value, list):
        return [plain(it) for it in value]
    return value


# Methods


class Method(dict):
    """A method with its fields by name, and with content its `properties` and `body`."""

    def __init__(self, name, **fields):
        super().__init__(fields)
        self.name = name
        self.properties, self.body = None, None

    def __getattr__(self, field):
        try:
            return self[field]
        except KeyError:
            raise AttributeError(field) from None


def encode_method(name, fields):
    class_id, method_id, _ = METHODS[name]
    unknown = fields.keys() - {field for field, _ in FIELDS[name]}
    assert not unknown, f"{name} has no {unknown}"
    out, bits = struct.pack(">HH", class_id, method_id), []
    for field, kind in FIELDS[name]:
        if kind == "b":
            bits.append(bool(fields.get(field)))
            continue
        out += pack_bits(bits)
        bits = []
        if kind in FIXED:
            out += struct.pack(FIXED[kind], fields.get(field, 0))
        elif kind == "t":
            out += encode_table(fields.get(field) or {})
        else:
            out += (short_string if kind == "s" else long_string)(fields.get(field, ""))
    return out + pack_bits(bits)


def pack_bits(bits):
    return bytes([sum(bit << place for place, bit in enumerate(bits))]) if bits else b""


def decode_method(payload):
    reader = Reader(payload)
    name = BY_ID[struct.unpack(">HH", reader.take(4))]
    fields, bits = {}, None
    for field, kind in FIELDS[name]:
        if kind == "b":
            value, place = bits or (reader.number(">B"), 0)
            fields[field] = bool(value >> place & 1)
            bits = (value, place + 1)
        else:
            bits = None
            fields[field] = reader.field(kind)
    return Method(name, **fields)


def encode_properties(properties):
    flags, out = 0, b""
    for place, (field, kind) in enumerate(PROPERTY_FIELDS):
        if (value := properties.get(field)) is None:
            continue
        flags |= 1 << 15 - place
        if kind == "s":
            out += short_string(value)
        else:
            out += encode_table(value) if kind == "t" else struct.pack(FIXED[kind], value)
    return struct.pack(">H", flags) + out


def decode_properties(reader):
    flags = reader.number(">H")
    return {
        field: reader.field(kind) for place, (field, kind) in enumerate(PROPERTY_FIELDS) if flags >> 15 - place & 1
    }


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([FRAME_END])


def publish_frames(channel, exchange, routing_key, body, properties=None, frame_max=131072, **flags):
    """The frames of one publish."""
    fields = dict(exchange=exchange, routing_key=routing_key, **flags)
    out = frame(FRAME_METHOD, channel, encode_method("basic.publish", fields))
    header = struct.pack(">HHQ", 60, 0, len(body)) + encode_properties(properties or {})
    out += frame(FRAME_HEADER, channel, header)
    for at in range(0, len(body), frame_max - 8):
        out += frame(FRAME_BODY, channel, body[at : at + frame_max - 8])
    return out


# Connections

CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


class Wire:
    """A connection: frames in and out."""

    def __init__(self, port, host="127.0.0.1", source=None, patience=PATIENCE):
        self.patience = patience
        self.socket = socket.create_connection((host, port), patience, source and (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.waiting = {}
        self.partial = {}
        self.server_properties = {}

    def close_socket(self):
        self.socket.close()

    # Negotiation

    def start(self, capabilities=None, user="guest", password="guest", mechanism="PLAIN", response=None):
        """Up to the broker's answer to the login: a tune, or what it says instead."""
        self.send_bytes(PROTOCOL_HEADER)
        start = self.expect(0, "connection.start")
        self.server_properties = plain(start.server_properties)
        properties = {"product": "wire", "capabilities": CAPABILITIES if capabilities is None else capabilities}
        if response is None:
            response = f"\0{user}\0{password}"
        self.send("connection.start-ok", 0, client_properties=properties, mechanism=mechanism, response=response,
                  locale="en_US")
        return self.receive(0)

    def open(self, vhost="/", channel_max=2047, frame_max=131072, heartbeat=0, **login):
        """The whole negotiation."""
        tune = self.start(**login)
        assert tune.name == "connection.tune", tune
        self.send("connection.tune-ok", 0, channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)
        self.send("connection.open", 0, vhost=vhost)
        self.expect(0, "connection.open-ok")
        return self

    # Sending

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, name, channel, **fields):
        self.send_bytes(frame(FRAME_METHOD, channel, encode_method(name, fields)))

    def publish(self, channel, exchange, routing_key, body=b"", properties=None, **flags):
        self.send_bytes(publish_frames(channel, exchange, routing_key, octets(body), properties, **flags))

    # Receiving

    def receive(self, channel, within=None):
        """The next method of a channel; None when none comes within the time, Closed at the end of the stream."""
        queue = self.waiting.setdefault(channel, deque())
        deadline = time.monotonic() + (self.patience if within is None else within)
        while not queue:
            if channel and (ended := self.waiting.get(0)):
                if ended[0].name == "connection.close":
                    return ended.popleft()
            if not self.read(deadline):
                if within is None:
                    raise AssertionError(f"nothing on channel {channel} within {self.patience} s")
                return None
        return queue.popleft()

    def expect(self, channel, name):
        method = self.receive(channel)
        assert method.name == name, f"{name} expected: {method.name} {dict(method)}"
        return method

    def call(self, name, channel, **fields):
        self.send(name, channel, **fields)
        return self.receive(channel)

    def read(self, deadline):
        """Reads what is there and sorts its frames; False when the deadline has passed."""
        left = deadline - time.monotonic()
        self.socket.settimeout(max(left, 0.001))
        try:
            data = self.socket.recv(1 << 18)
        except TimeoutError:
            return False
        except ConnectionResetError as error:
            raise Closed from error
        if not data:
            raise Closed
        self.buffer += data
        self.sort_frames()
        return True

    def sort_frames(self):
        at = 0
        while len(self.buffer) - at >= 8:
            if self.buffer[at : at + 4] == b"AMQP":
                self.deliver(0, Method("protocol-header", bytes=bytes(self.buffer[at : at + 8])))
                at += 8
                continue
            kind, channel, size = struct.unpack_from(">BHI", self.buffer, at)
            if len(self.buffer) - at < size + 8:
                break
            payload = bytes(self.buffer[at + 7 : at + 7 + size])
            assert self.buffer[at + 7 + size] == FRAME_END
            at += size + 8
            self.handle_frame(kind, channel, payload)
        del self.buffer[:at]

    def handle_frame(self, kind, channel, payload):
        if kind == FRAME_HEARTBEAT:
            return
        if kind == FRAME_METHOD:
            method = decode_method(payload)
            if method.name in WITH_CONTENT:
                self.partial[channel] = [method, None]
            else:
                self.deliver(channel, method)
            return
        method, size = self.partial[channel]
        if kind == FRAME_HEADER:
            reader = Reader(payload)
            _, _, size = struct.unpack(">HHQ", reader.take(12))
            method.properties, method.body = decode_properties(reader), bytearray()
            self.partial[channel][1] = size
        else:
            method.body += payload
        if len(method.body) == size:
            method.body = bytes(method.body)
            del self.partial[channel]
            self.deliver(channel, method)

    def deliver(self, channel, method):
        self.waiting.setdefault(channel, deque()).append(method)
