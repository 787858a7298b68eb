"""Every field of every protocol on its way to every other, by the table in `conversions.toml`."""

import datetime
import pprint
import socket

import pika
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes

import conversions
from amqp_wire import Typed, Wire
from clients import PATIENCE, Device, pika_channel, properties as mqtt_properties, publish_properties, read_topic, take

TABLE = conversions.load()
BASIC = [
    "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration",
    "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id",
]


class Topic:
    """One topic in the four spellings, and who publishes to it and reads it."""

    def __init__(self, broker, word, settings):
        self.broker, self.key, self.topic, self.settings = broker, f"{word}.eu", f"{word}/eu", settings
        self.wire = None

    def __enter__(self):
        settings = {"bootstrap.servers": self.broker.kafka}
        admin = AdminClient(settings)
        admin.create_topics([NewTopic(self.key, 1, config=self.settings)])[self.key].result(PATIENCE)
        self._connection = pika_channel(self.broker)
        self.channel = self._connection.__enter__()
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.queue_bind(self.queue, "amq.topic", self.key)
        self.channel.confirm_delivery()
        self.devices = {"mqtt5": Device(self.broker), "mqtt3": Device(self.broker, version=mqtt.MQTTv311)}
        for device in self.devices.values():
            device.subscribe(self.topic, qos=2)
        return self

    def speak_frame_by_frame(self):
        """AMQP clients from now on have the types of numbers that pika lacks."""
        self.wire = Wire(self.broker.port("amqp")).open()
        self.wire.call("channel.open", 1)
        queue = self.wire.call("queue.declare", 1, exclusive=True).queue
        self.wire.call("queue.bind", 1, queue=queue, exchange="amq.topic", routing_key=self.key)
        self.wire.call("basic.consume", 1, queue=queue, no_ack=True)

    def __exit__(self, *_):
        if self.wire:
            self.wire.close_socket()
        self._connection.__exit__(None, None, None)
        for device in self.devices.values():
            device.close()

    def publish(self, sender, fields):
        fields = dict(fields)
        body = fields.pop("body", "body")
        body = body.encode() if isinstance(body, str) else body
        getattr(self, f"by_{sender}")(body, **fields)

    def by_amqp(self, body, **properties):
        if self.wire:
            return self.wire.publish(1, "amq.topic", self.key, body, properties)
        self.channel.basic_publish("amq.topic", self.key, body, pika.BasicProperties(**properties))

    def by_kafka(self, body, key=None, headers=(), compression="none", **options):
        pairs = [(name, as_bytes(it)) for name, its in dict(headers).items() for it in listed(its)]
        producer = Producer({"bootstrap.servers": self.broker.kafka, "compression.type": compression})
        producer.produce(self.key, body, key=key, headers=pairs, **options)
        assert producer.flush(PATIENCE) == 0

    def by_mqtt5(self, body, qos=1, retain=False, user=(), will=False, dup=False, **properties):
        if dup:
            return self.send_again(body, 5)
        if user:
            properties["UserProperty"] = [(name, it) for name, its in user.items() for it in listed(its)]
        if will:
            given = mqtt_properties(PacketTypes.WILLMESSAGE, **properties)
            return self.leave_behind(body, qos, retain, properties=given)
        options = {"properties": publish_properties(**properties)} if properties else {}
        self.devices["mqtt5"].publish(self.topic, body, qos=qos, retain=retain, **options)

    def by_mqtt3(self, body, qos=1, retain=False, will=False, dup=False):
        if dup:
            return self.send_again(body, 4)
        if will:
            return self.leave_behind(body, qos, retain, mqtt.MQTTv311)
        self.devices["mqtt3"].publish(self.topic, body, qos=qos, retain=retain)

    def send_again(self, body, level):
        """A PUBLISH with DUP, which clients send only when a connection was lost."""
        no_properties = b"\0" if level == 5 else b""
        connect = b"\0\4MQTT" + bytes([level, 2]) + b"\0\x3c" + no_properties + b"\0\0"
        publish = len(self.topic).to_bytes(2) + self.topic.encode() + b"\0\7" + no_properties + body
        with socket.create_connection(("127.0.0.1", self.broker.port("mqtt")), PATIENCE) as connection:
            for kind, packet in ((0x10, connect), (0x3A, publish)):
                connection.sendall(bytes([kind, len(packet)]) + packet)
                assert connection.recv(100)

    def leave_behind(self, body, qos, retain, version=mqtt.MQTTv5, **properties):
        will = {"topic": self.topic, "payload": body, "qos": qos, "retain": retain, **properties}
        Device(self.broker, version=version, will=will).vanish()

    def found_by(self, receiver):
        return getattr(self, f"at_{receiver}")()

    def at_amqp(self):
        if self.wire:
            delivered = self.wire.expect(1, "basic.deliver")
            found = {name: unescaped(it) for name, it in delivered.properties.items() if name != "headers"}
            if "headers" in delivered.properties:
                found["headers"] = exact(delivered.properties["headers"])
            return found | {"body": as_text(delivered.body)}
        [(_, properties, body)] = take(self.channel, self.queue, 1)
        found = {name: it for name in BASIC if (it := getattr(properties, name)) is not None}
        if properties.headers:
            found["headers"] = plain(properties.headers)
        return found | {"body": as_text(body)}

    def at_kafka(self):
        [record] = read_topic(self.broker, self.key, 1)
        headers = {}
        for name, it in record.headers:
            headers.setdefault(name, []).append(as_text(it))
        found = {"key": as_text(record.key), "timestamp": record.timestamp, "body": as_text(record.value)}
        return found | ({"headers": flat(headers)} if headers else {})

    def at_mqtt5(self):
        message = self.devices["mqtt5"].next()
        found = {name: as_text(it) for name, it in message.properties.json().items() if name != "UserProperty"}
        # As JSON bytes would be hexadecimal digits.
        if hasattr(message.properties, "CorrelationData"):
            found["CorrelationData"] = as_text(message.properties.CorrelationData)
        user = {}
        for name, it in getattr(message.properties, "UserProperty", []):
            user.setdefault(name, []).append(it)
        found |= {"user": flat(user)} if user else {}
        return found | seen(message)

    def at_mqtt3(self):
        message = self.devices["mqtt3"].next()
        return seen(message)


def seen(message):
    """What MQTT of any version says of a message."""
    flags = {name: True for name in ("dup", "retain") if getattr(message, name)}
    return flags | {"body": as_text(message.payload), "qos": message.qos}


def exact(it):
    """Values as the table has them: numbers with the letters of their types, all else without."""
    match it:
        case dict():
            return {name: exact(at) for name, at in it.items()}
        case list():
            return [exact(at) for at in it]
        case Typed():
            letter, value = it
            return it if letter in conversions.NUMBERS else exact(value)
    return it


def plain(it):
    """Values as the table has them: pika marks long numbers and puts a zone to times."""
    match it:
        case dict():
            return {name: plain(at) for name, at in it.items()}
        case list():
            return [plain(at) for at in it]
        case datetime.datetime():
            return it.replace(tzinfo=None)
        case int() if not isinstance(it, bool):
            return int(it)
    return it


def unescaped(it):
    """What is not UTF-8 as bytes."""
    return as_text(it.encode("utf-8", "surrogateescape")) if isinstance(it, str) else it


def listed(it):
    return it if isinstance(it, list) else [it]


def flat(lists):
    return {name: its[0] if len(its) == 1 else its for name, its in lists.items()}


def as_bytes(it):
    return it.encode() if isinstance(it, str) else it


def as_text(it):
    """Bytes as text where they are; the table says `hex:` of the others."""
    try:
        return it.decode() if isinstance(it, bytes) else it
    except UnicodeDecodeError:
        return it


def describe(row):
    return f"{row['from']}: {row['field']}"


@pytest.mark.parametrize("row", TABLE["row"], ids=describe)
def test_field_on_its_way(broker, name, row):
    with Topic(broker, name, row.get("settings", {})) as topic:
        if row.get("frames"):
            topic.speak_frame_by_frame()
        topic.publish(row["from"], conversions.value(row["publish"]))
        wrong = {}
        for receiver in conversions.receivers(row):
            found, expected = topic.found_by(receiver), conversions.expected(TABLE, row, receiver)
            expected = {it: at.replace("{topic}", name) if isinstance(at, str) else at for it, at in expected.items()}
            if not conversions.matches(found, expected):
                wrong[receiver] = {"found": found, "expected": expected}
        assert not wrong, pprint.pformat(wrong, width=160)


def test_each_pair_of_protocols_is_in_the_table():
    pairs = {(row["from"], receiver) for row in TABLE["row"] for receiver in conversions.receivers(row)}
    assert pairs == {(one, other) for one in conversions.PROTOCOLS for other in conversions.PROTOCOLS}


def test_page_says_what_the_table_says():
    assert conversions.PAGE.read_text() == conversions.render(TABLE), "python tests/python/conversions.py > docs/conversions.md"
