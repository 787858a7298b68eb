"""Scenarios and their transcripts.

A scenario is a function over a `Play`. Whatever it sends and whatever it is answered becomes a line of
the transcript: `A1 > …` is sent, `A1 < …` received on channel 1 of connection A. `$` is the name of the
scenario; what differs from run to run (generated names, the time) is replaced by what it stands for.
"""

import base64
import html
import http.client
import json
import re
import string
import time

import amqp_wire
from amqp_wire import Closed, Typed, Wire

SCENARIOS = {}
LOGIN = "Basic " + base64.b64encode(b"guest:guest").decode()
# What a wait for "nothing comes" takes. It can only hide a difference, never make one.
QUIET = 0.25
# What is waited for comes within this, also where a dozen other things are at work.
WITHIN = 60

GENERATED = [
    (re.compile(r"amq\.gen-[A-Za-z0-9_-]{22}"), "amq.gen-"),
    (re.compile(r"amq\.ctag-[A-Za-z0-9_-]+"), "amq.ctag-"),
    (re.compile(r"amq\.rabbitmq\.reply-to\.[A-Za-z0-9_=+/.-]+"), "amq.rabbitmq.reply-to."),
    (re.compile(r"<[0-9]+\.[0-9]+\.[0-9]+>|<[a-z0-9]+@localhost[0-9.]+>"), "pid-"),
]


def scenario(function):
    """Registers a scenario under its module's and its own name."""
    module = function.__module__.rpartition(".")[2]
    SCENARIOS[f"{module}.{function.__name__}"] = function
    return function


class Play:
    """One run of one scenario against one broker."""

    def __init__(self, broker, name):
        self.broker, self.name = broker, name
        self.lines, self.generated = [], {}
        self.connections, self.main = [], None

    def run(self):
        try:
            SCENARIOS[self.name](self)
        except Exception as error:  # noqa: BLE001: whatever it is, it is part of what happened
            self.line(f"!! {type(error).__name__}: {error}")
        for connection in self.connections:
            connection.wire.close_socket()
        return self.lines

    def line(self, text):
        for pattern, prefix in GENERATED:
            text = pattern.sub(lambda found, prefix=prefix: self.stand_in(found[0], prefix), text)
        self.lines.append(text.replace(self.name, "$").replace("\r", "\\r").replace("\n", "\\n").rstrip())

    def stand_in(self, generated, prefix):
        known = self.generated.setdefault(prefix, {})
        return f"{prefix}({known.setdefault(generated, len(known) + 1)})"

    def note(self, text):
        self.line(f"-- {text}")

    def q(self, suffix=""):
        """A name that no other scenario uses."""
        return f"{self.name}{suffix and '.'}{suffix}"

    def connect(self, **options):
        """Another connection, negotiated."""
        connection = Connection(self, string.ascii_uppercase[len(self.connections)])
        self.connections.append(connection)
        connection.wire.open(**options)
        return connection

    def raw(self):
        """Another connection on which nothing has been said."""
        connection = Connection(self, string.ascii_uppercase[len(self.connections)])
        self.connections.append(connection)
        return connection

    def ask(self, verb, path, body=None):
        """The status and the answer of the management API. `$` in a path is the name of the scenario."""
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.port("http"), timeout=30)
        headers = {"Authorization": LOGIN, "Content-Type": "application/json"}
        connection.request(verb, "/api" + path.replace("$", self.name), body, headers)
        response = connection.getresponse()
        answer = response.read().decode()
        connection.close()
        return response.status, answer

    def api(self, verb, path, body=None):
        """Asks the management API. Only what it says about values that are not valid has a text that is compared."""
        told = "" if body is None else f" {body if isinstance(body, str) else json.dumps(body)}"
        status, answer = self.ask(verb, path, told[1:] or None)
        reason = json.loads(answer).get("reason", "") if status == 400 and answer.startswith("{") else ""
        invalid = f" {html.unescape(reason)}" if str(reason).startswith("Validation failed") else ""
        self.line(f"{verb} {path}{told}: {status}{invalid}")

    def shows(self, path, **wanted):
        """Waits until the management API tells this of something; RabbitMQ collects it once in a while."""
        deadline = time.monotonic() + WITHIN
        while True:
            _, answer = self.ask("GET", path)
            told = {key: json.loads(answer).get(key) or None for key in wanted}
            if told == wanted or time.monotonic() > deadline:
                return self.line(f"{path} shows {told}")
            time.sleep(0.1)

    def policy(self, name, definition, pattern=None, operator=False, **more):
        """Sets a policy for the objects whose names begin with that of the scenario, or match another pattern."""
        pattern = f"^{re.escape(self.q())}(\\.|$)" if pattern is None else pattern
        kind = "operator-policies" if operator else "policies"
        self.api("PUT", f"/{kind}/%2F/$.{name}", {"pattern": pattern, "definition": definition, **more})

    def channel(self):
        """A new channel on the scenario's main connection, which is made again when it was closed."""
        if self.main is None or self.main.is_closed:
            self.main = self.connect()
        return self.main.channel()


class Connection:
    def __init__(self, play, label):
        self.play, self.label = play, label
        self.wire = Wire(play.broker.port("amqp"))
        self.channels, self.is_closed = 0, False

    def channel(self, number=None):
        """Opens a channel. Not in the transcript, as nothing can be said about it."""
        self.channels = number or self.channels + 1
        channel = Channel(self, self.channels)
        self.wire.send("channel.open", self.channels)
        answer = self.wire.receive(self.channels)
        if answer.name != "channel.open-ok":
            channel.received(answer)
        return channel

    def zero(self):
        """What is said about the connection itself."""
        return Channel(self, 0)

    def bytes(self, data, what):
        self.play.line(f"{self.label} > {what}")
        try:
            self.wire.send_bytes(data)
        except OSError:
            self.play.line(f"{self.label} (cannot be written to)")

    def ended(self):
        """Whether the broker has ended the stream."""
        try:
            left = self.wire.receive(0)
            self.zero().received(left)
        except Closed:
            self.play.line(f"{self.label} (ended by the broker)")
        except AssertionError:
            self.play.line(f"{self.label} (still there)")

    def close(self):
        answer = self.wire.call("connection.close", 0, code=200, text="bye")
        self.play.line(f"{self.label} closed: {answer.name}")
        self.is_closed = True
        self.wire.close_socket()

    def drop(self):
        """Ends the stream without a word."""
        self.play.line(f"{self.label} dropped")
        self.is_closed = True
        self.wire.close_socket()


class Channel:
    """Calling it sends a method and waits for the answer: channel("queue.declare", queue="q")."""

    def __init__(self, connection, number):
        self.connection, self.number = connection, number
        self.play, self.wire = connection.play, connection.wire
        self.is_open = True

    def __call__(self, name, **fields):
        self.send(name, **fields)
        return self.next()

    def send(self, name, **fields):
        if "args" in fields:
            fields["arguments"] = fields.pop("args")
        self.play.line(f"{self.connection.label}{self.number} > {name}{sent(fields)}")
        self.wire.send(name, self.number, **fields)

    def next(self, within=None):
        """The next frame of this channel; within a time, nothing is an answer too."""
        try:
            method = self.wire.receive(self.number, within)
        except Closed:
            self.play.line(f"{self.connection.label} (ended by the broker)")
            self.connection.is_closed = True
            return None
        except AssertionError:
            self.play.line(f"{self.connection.label}{self.number} (no answer)")
            return None
        return self.received(method)

    def received(self, method):
        label = f"{self.connection.label}{self.number}"
        if method is None:
            self.play.line(f"{label} (nothing)")
            return None
        self.play.line(f"{label} < {shown(method)}")
        if method.name == "channel.close":
            self.is_open = False
            self.wire.send("channel.close-ok", self.number)
        elif method.name == "connection.close":
            self.connection.is_closed = True
            self.wire.send("connection.close-ok", 0)
        return method

    def silent(self):
        """Nothing comes (or what comes is told)."""
        return self.next(QUIET)

    # What scenarios do all the time

    def declare(self, queue="", **fields):
        return self("queue.declare", queue=queue, **fields)

    def exchange(self, exchange, type="direct", **fields):
        return self("exchange.declare", exchange=exchange, type=type, **fields)

    def bind(self, queue, exchange, routing_key="", **fields):
        return self("queue.bind", queue=queue, exchange=exchange, routing_key=routing_key, **fields)

    def consume(self, queue, consumer_tag="", **fields):
        return self("basic.consume", queue=queue, consumer_tag=consumer_tag, **fields)

    def publish(self, exchange, routing_key, body="", properties=None, **flags):
        told = f" {body!r}" if len(body) < 60 else f" ({len(body)} bytes)"
        if properties:
            told += f" {table(properties)}"
        told += sent(flags)
        self.play.line(
            f"{self.connection.label}{self.number} > basic.publish exchange={exchange} routing_key={routing_key}{told}"
        )
        self.wire.publish(self.number, exchange, routing_key, body, properties, **flags)

    def fill(self, queue, bodies, properties=None):
        """Publishes to a queue, and waits until it has as many messages."""
        for body in bodies:
            self.publish("", queue, body, properties)
        self.wait_messages(queue, len(bodies))

    def publish_sure(self, exchange, routing_key, body="", properties=None, **flags):
        """Publishes on a channel with confirms and reads until it is confirmed."""
        self.publish(exchange, routing_key, body, properties, **flags)
        while (answer := self.next()) is not None and answer.name == "basic.return":
            pass
        return answer

    def get(self, queue, **fields):
        return self("basic.get", queue=queue, **fields)

    def get_when_there(self, queue, **fields):
        """The next message of a queue, however long it takes to get there."""
        fields = {"no_ack": True, **fields}
        self.play.line(f"{self.connection.label}{self.number} > basic.get queue={queue}{sent(fields)} until it is there")
        deadline = time.monotonic() + WITHIN
        while True:
            answer = self.wire.call("basic.get", self.number, queue=queue, **fields)
            if answer.name != "basic.get-empty" or time.monotonic() > deadline:
                return self.received(answer)

    def wait_messages(self, queue, count):
        """Waits until a queue has so many messages that are ready."""
        deadline = time.monotonic() + WITHIN
        while True:
            answer = self.wire.call("queue.declare", self.number, queue=queue, passive=True)
            if answer.get("messages") == count or answer.name != "queue.declare-ok":
                break
            if time.monotonic() > deadline:
                break
        if answer.name == "queue.declare-ok":
            self.play.line(f"{self.connection.label}{self.number} {queue} has {answer.messages} messages")
        else:
            self.received(answer)

    def counts(self, queue):
        """Ready messages and consumers now."""
        answer = self.wire.call("queue.declare", self.number, queue=queue, passive=True)
        if answer.name != "queue.declare-ok":
            return self.received(answer)
        self.play.line(f"{self.connection.label}{self.number} {queue}: {answer.messages} messages, {answer.consumers} consumers")
        return answer

    def is_gone(self, queue):
        """Waits until a queue is not there any more, without using it (that would keep it); uses the channel up."""
        deadline = time.monotonic() + WITHIN
        while time.monotonic() < deadline:
            answer = self.wire.call("queue.bind", self.number, queue=queue, exchange="amq.direct", routing_key="gone?")
            if answer.name != "queue.bind-ok":
                return self.received(answer)
        self.play.line(f"{self.connection.label}{self.number} {queue} is still there")

    def take(self, count):
        """The next deliveries."""
        return [self.next() for _ in range(count)]

    def bodies(self, count):
        """The bodies of the next deliveries as one line."""
        found = []
        for _ in range(count):
            method = self.wire.receive(self.number, WITHIN)
            if method is None or method.name != "basic.deliver":
                self.received(method)
                break
            found.append(method)
        told = " ".join(f"{it.body.decode()}{'*' if it.redelivered else ''}" for it in found)
        self.play.line(f"{self.connection.label}{self.number} < deliveries: {told}")
        return found

    def drain(self, queue):
        """Everything that is ready in a queue, as one line."""
        found = []
        while True:
            method = self.wire.call("basic.get", self.number, queue=queue, no_ack=True)
            if method.name != "basic.get-ok":
                break
            found.append(f"{method.body.decode()}{'*' if method.redelivered else ''}")
        self.play.line(f"{self.connection.label}{self.number} {queue} holds: {' '.join(found)}")
        if method.name != "basic.get-empty":
            self.received(method)

    def confirms(self, count):
        """Reads until so many publishes are confirmed; brokers coalesce as they like, so the sum is told."""
        verdicts, other = {}, []
        while len(verdicts) < count:
            method = self.wire.receive(self.number, WITHIN)
            if method is None or method.name not in ("basic.ack", "basic.nack"):
                other.append(method)
                if method is None or method.name.endswith("close"):
                    break
                continue
            first = min(set(range(1, method.delivery_tag + 1)) - verdicts.keys()) if method.multiple else method.delivery_tag
            for tag in range(first, method.delivery_tag + 1):
                verdicts.setdefault(tag, method.name)
        for method in other:
            self.received(method)
        told = " ".join(f"{tag}:{name[6:]}" for tag, name in sorted(verdicts.items()))
        self.play.line(f"{self.connection.label}{self.number} < confirms: {told}")

    def ack(self, delivery_tag, multiple=False):
        self.send("basic.ack", delivery_tag=delivery_tag, multiple=multiple)

    def nack(self, delivery_tag, requeue=False, multiple=False):
        self.send("basic.nack", delivery_tag=delivery_tag, requeue=requeue, multiple=multiple)

    def reject(self, delivery_tag, requeue=False):
        self.send("basic.reject", delivery_tag=delivery_tag, requeue=requeue)

    def close(self):
        return self("channel.close", code=200, text="bye")


# Text


def sent(fields):
    """What was asked for; what was left at its default is not told."""
    return "".join(f" {key.rstrip('_')}={value_text(value)}" for key, value in fields.items() if value or value == 0 and not isinstance(value, bool))


def shown(method):
    fields = dict(method)
    if method.name in ("basic.ack", "basic.nack"):
        # From the broker these are confirms. How many it tells of at once is its own affair.
        fields = {"delivery_tag": method.delivery_tag}
    told = method.name + "".join(f" {key}={value_text(value)}" for key, value in fields.items())
    if method.properties is not None:
        told += f" {table(method.properties)} {content(method.body)}"
    return told


def content(body):
    return repr(body.decode("utf-8", "backslashreplace")) if len(body) < 60 else f"({len(body)} bytes)"


def table(fields):
    """In the order of names: the order on the wire is nobody's business."""
    return "{" + ", ".join(f"{key}: {value_text(fields[key], key)}" for key in sorted(fields)) + "}"


def value_text(value, key=""):
    if isinstance(value, Typed):
        letter, inner = value
        if letter == "T" and abs(inner - time.time()) < 3600:
            return "T:now"
        if letter == "F":
            return table(inner)
        if letter == "A":
            return "[" + ", ".join(value_text(it) for it in inner) + "]"
        return f"{letter}:{inner!r}"
    if isinstance(value, dict):
        return table(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


__all__ = ["Play", "SCENARIOS", "scenario", "amqp_wire", "Typed"]
