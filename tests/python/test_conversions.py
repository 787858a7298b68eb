"""Every field of every protocol on its way to every other, by the table in `conversions.toml`."""

import datetime
import pprint

import pika
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from paho.mqtt import client as mqtt

import conversions
from clients import PATIENCE, Device, pika_channel, publish_properties, read_topic, take

TABLE = conversions.load()
BASIC = [
    "content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration",
    "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id",
]


class Topic:
    """One topic in the four spellings, and who publishes to it and reads it."""

    def __init__(self, broker, word):
        self.broker, self.key, self.topic = broker, f"{word}.eu", f"{word}/eu"

    def __enter__(self):
        settings = {"bootstrap.servers": self.broker.kafka}
        admin = AdminClient(settings)
        admin.create_topics([NewTopic(self.key, 1)])[self.key].result(PATIENCE)
        self.producer = Producer(settings)
        self._connection = pika_channel(self.broker)
        self.channel = self._connection.__enter__()
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.queue_bind(self.queue, "amq.topic", self.key)
        self.channel.confirm_delivery()
        self.devices = {"mqtt5": Device(self.broker), "mqtt3": Device(self.broker, version=mqtt.MQTTv311)}
        for device in self.devices.values():
            device.subscribe(self.topic, qos=2)
        return self

    def __exit__(self, *_):
        self._connection.__exit__(None, None, None)
        for device in self.devices.values():
            device.close()

    def publish(self, sender, fields):
        fields = dict(fields)
        body = fields.pop("body", "body")
        body = body.encode() if isinstance(body, str) else body
        getattr(self, f"by_{sender}")(body, **fields)

    def by_amqp(self, body, **properties):
        self.channel.basic_publish("amq.topic", self.key, body, pika.BasicProperties(**properties))

    def by_kafka(self, body, key=None, headers=(), **options):
        pairs = [(name, as_bytes(it)) for name, its in dict(headers).items() for it in listed(its)]
        self.producer.produce(self.key, body, key=key, headers=pairs, **options)
        assert self.producer.flush(PATIENCE) == 0

    def by_mqtt5(self, body, qos=1, retain=False, user=(), **properties):
        if user:
            properties["UserProperty"] = [(name, it) for name, its in user.items() for it in listed(its)]
        options = {"properties": publish_properties(**properties)} if properties else {}
        self.devices["mqtt5"].publish(self.topic, body, qos=qos, retain=retain, **options)

    def by_mqtt3(self, body, qos=1, retain=False):
        self.devices["mqtt3"].publish(self.topic, body, qos=qos, retain=retain)

    def found_by(self, receiver):
        return getattr(self, f"at_{receiver}")()

    def at_amqp(self):
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
        return found | {"body": as_text(message.payload), "qos": message.qos}

    def at_mqtt3(self):
        message = self.devices["mqtt3"].next()
        return {"body": as_text(message.payload), "qos": message.qos}


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
    with Topic(broker, name) as topic:
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
