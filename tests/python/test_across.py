"""One message through several protocols: what the three have in common arrives whole."""

import base64
import datetime
import hashlib
import json
import queue
import threading
import time
from decimal import Decimal

import pika
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from paho.mqtt import client as mqtt

from clients import PATIENCE, Device, bodies, pika_channel, publish_properties, read_topic, take

# A minute ago, in s: what is much older is removed by retention, sooner or later.
THEN = int(time.time()) - 60
BODY = bytes(range(256))


class Square:
    """A topic, with a Kafka log, an AMQP queue and two MQTT subscribers that all see it."""

    def __init__(self, broker, channel, word):
        self.broker, self.channel = broker, channel
        self.key, self.topic = f"{word}.eu", f"{word}/eu"
        self.producer = KafkaProducer(bootstrap_servers=broker.kafka)
        self.producer.partitions_for(self.key)  # creates the topic
        self.queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(self.queue, "amq.topic", f"{word}.*")
        channel.confirm_delivery()
        self.device = Device(broker)
        self.device.subscribe(f"{word}/+")
        self.old = Device(broker, version=mqtt.MQTTv311)
        self.old.subscribe(f"{word}/#")

    def close(self):
        self.producer.close()
        self.device.close()
        self.old.close()

    def by_amqp(self, body=BODY, **properties):
        self.channel.basic_publish("amq.topic", self.key, body, pika.BasicProperties(**properties))

    def by_kafka(self, body=BODY, **options):
        return self.producer.send(self.key, body, **options).get(PATIENCE)

    def by_mqtt(self, body=BODY, **properties):
        self.device.publish(self.topic, body, properties=publish_properties(**properties))

    def at_amqp(self):
        [(method, properties, body)] = take(self.channel, self.queue, 1)
        assert method.routing_key == self.key
        return properties, body

    def at_kafka(self, count=1):
        return read_topic(self.broker, self.key, count)[-1]

    def at_mqtt(self):
        message = self.device.next()
        assert message.topic == self.topic
        return message

    def no_more(self):
        """Nobody got anything twice, and there are no loops."""
        assert self.device.settle() == []
        assert self.old.settle() == []
        assert self.channel.queue_declare(self.queue, passive=True).method.message_count == 0


@pytest.fixture
def square(broker, name):
    with pika_channel(broker) as channel:
        it = Square(broker, channel, name)
        yield it
        it.close()


def user_properties(message):
    return dict(message.properties.UserProperty) if hasattr(message.properties, "UserProperty") else {}


def test_mqtt_reaches_amqp_and_kafka(square):
    square.by_mqtt()
    properties, body = square.at_amqp()
    record = square.at_kafka()
    assert body == record.value == square.at_mqtt().payload == square.old.next().payload == BODY
    assert (record.topic, record.key) == (square.key, square.key.encode())
    square.no_more()
    assert len(read_topic(square.broker, square.key, 1)) == 1


def test_kafka_reaches_amqp_and_mqtt(square):
    sent = square.by_kafka(key=b"k", timestamp_ms=THEN * 1000 + 123)
    properties, body = square.at_amqp()
    assert body == square.at_mqtt().payload == square.old.next().payload == BODY
    assert properties.timestamp == THEN
    assert properties.delivery_mode == 2
    headers = properties.headers
    assert (headers["x-key"], headers["timestamp_in_ms"]) == ("k", THEN * 1000 + 123)
    assert (headers["x-stream-offset"], headers["x-stream-partition"]) == (sent.offset, sent.partition)
    square.no_more()


def test_amqp_reaches_kafka_and_mqtt(square):
    square.by_amqp(timestamp=THEN, content_type="text/plain", headers={"x-key": "k"})
    record, message = square.at_kafka(), square.at_mqtt()
    assert record.value == message.payload == square.old.next().payload == square.at_amqp()[1] == BODY
    assert (record.key, record.timestamp) == (b"k", THEN * 1000)
    assert dict(record.headers)["content-type"] == b"text/plain"
    assert message.properties.ContentType == "text/plain"
    square.no_more()


def test_message_without_a_time_gets_the_brokers(square):
    before = time.time() * 1000 - 1000
    square.by_mqtt()
    square.by_amqp()
    assert all(before < it.timestamp < time.time() * 1000 + 1000 for it in read_topic(square.broker, square.key, 2))


def test_mqtt_properties(square):
    users = [("b", "2"), ("a", "1"), ("b", "3")]
    square.by_mqtt(
        UserProperty=users, ContentType="text/plain", CorrelationData=b"\x00\xff", ResponseTopic="answers/1",
        PayloadFormatIndicator=1, MessageExpiryInterval=600,
    )
    properties, _ = square.at_amqp()
    assert properties.content_type == "text/plain"
    assert properties.reply_to == "amq.mqtt-reply.answers.1"
    assert 595_000 <= int(properties.expiration) <= 600_000
    assert (properties.headers["a"], properties.headers["b"]) == ("1", "3")
    assert properties.headers["x-correlation-id"] == b"\x00\xff"
    headers = square.at_kafka().headers
    assert [(k, v.decode()) for k, v in headers if k in "ab"] == users
    named = dict(headers)
    assert named["content-type"] == b"text/plain"
    assert named["correlation-id"] == b"\x00\xff"
    assert named["reply-to"] == b"mqtt:answers/1"
    assert named["mq.utf8"] == b"1"
    assert named["mq.ttl-ms"] == b"600000"


AMQP_HEADERS = {
    "string": "grüße",
    "int": 7,
    "long": 1 << 40,
    "bool": True,
    "bytes": b"\xff\x00",
    "none": None,
    "time": datetime.datetime(2024, 5, 6, 7, 8, 9),
    "decimal": Decimal("1.5"),
}


def types_of(text):
    return dict(pair.rsplit(":", 1) for pair in text.split(","))


def test_amqp_headers_of_every_type(square):
    square.by_amqp(headers=AMQP_HEADERS, message_id="m", type="t", app_id="a", priority=3, delivery_mode=1)
    record = dict(square.at_kafka().headers)
    assert record["string"] == "grüße".encode()
    assert (record["int"], record["long"], record["bool"]) == (b"7", b"1099511627776", b"true")
    assert (record["bytes"], record["none"], record["time"]) == (b"\xff\x00", None, b"1714979289")
    assert (record["message-id"], record["mq.type"], record["mq.app-id"], record["mq.priority"]) == (b"m", b"t", b"a", b"3")
    types = types_of(record["mq.types"].decode())
    assert types == types | {"int": "I", "bool": "t", "bytes": "x", "time": "T", "decimal": "D"}
    assert "string" not in types

    message = user_properties(square.at_mqtt())
    assert (message["string"], message["int"], message["bool"]) == ("grüße", "7", "true")
    assert base64.b64decode(message["bytes"]) == b"\xff\x00"
    assert types_of(message["mq.types"])["bytes"] == "x"
    assert (message["message-id"], message["mq.type"], message["mq.app-id"]) == ("m", "t", "a")


def test_header_types_come_back_to_amqp(square):
    """What Kafka got from AMQP, produced again as it is, is the same to AMQP."""
    scalars = {k: v for k, v in AMQP_HEADERS.items() if k != "none"}
    square.by_amqp(headers=scalars, correlation_id="c", content_type="x/y", type="t")
    first, _ = square.at_amqp()
    record = square.at_kafka()
    square.by_kafka(record.value, key=record.key, headers=list(record.headers))
    second, body = square.at_amqp()
    assert body == BODY
    assert {k: second.headers.get(k) for k in scalars} == first.headers
    assert (second.correlation_id, second.content_type, second.type) == ("c", "x/y", "t")


def test_kafka_headers(square):
    headers = [
        ("traceparent", b"00-1"), ("binary", b"\xff\x00"), ("twice", b"1"), ("twice", b"2"),
        ("content-type", b"text/plain"), ("correlation-id", b"c"), ("number", b"7"),
    ]
    square.by_kafka(key=b"\xff", headers=headers)
    properties, _ = square.at_amqp()
    assert (properties.content_type, properties.correlation_id) == ("text/plain", "c")
    expected = {"traceparent": "00-1", "binary": b"\xff\x00", "twice": "2", "number": "7", "x-key": b"\xff"}
    assert properties.headers == properties.headers | expected
    assert properties.headers["x-dup-headers"]["twice"] == ["1", "2"]
    message = square.at_mqtt()
    assert (message.properties.ContentType, message.properties.CorrelationData) == ("text/plain", b"c")
    users = message.properties.UserProperty
    assert [it for it in users if it[0] in ("traceparent", "twice", "number")] == [
        ("traceparent", "00-1"), ("twice", "1"), ("twice", "2"), ("number", "7"),
    ]
    assert base64.b64decode(dict(users)["binary"]) == b"\xff\x00"
    assert types_of(dict(users)["mq.types"])["binary"] == "x"


def test_tombstones(square):
    square.by_kafka(None, key=b"gone")
    properties, body = square.at_amqp()
    assert (body, properties.headers["mq.tombstone"], properties.headers["x-key"]) == (b"", True, "gone")
    message = square.at_mqtt()
    assert (message.payload, user_properties(message)["mq.tombstone"], message.retain) == (b"", "true", False)
    square.by_amqp(b"", headers={"mq.tombstone": True})
    square.by_amqp(b"")
    values = [it.value for it in read_topic(square.broker, square.key, 3)]
    assert values == [None, None, b""]


def test_expiry_and_retain_from_amqp(square):
    square.by_amqp(b"kept", expiration="1500", headers={"x-mqtt-retain": True})
    assert 1 <= square.at_mqtt().properties.MessageExpiryInterval <= 2
    square.by_amqp(b"forever", headers={"x-mqtt-retain": True})
    with Device(square.broker) as late:
        late.subscribe(square.topic)
        assert (message := late.next()).payload == b"forever" and message.retain
    square.device.publish(square.topic, b"", retain=True)


def test_persistent_session_gets_kafka_records_it_missed(square, name):
    Device(square.broker, name, clean=False, expiry=3600).close()
    with Device(square.broker, name, clean=False, expiry=3600) as device:
        device.subscribe(square.topic)
    for number in range(20):
        square.by_kafka(b"%d" % number)
    with Device(square.broker, name, clean=False) as device:
        assert [it.payload for it in device.take(20)] == [b"%d" % it for it in range(20)]


def test_many_records_keep_their_order_in_every_direction(square):
    expected = [b"%d" % it for it in range(500)]
    for body in expected:
        square.producer.send(square.key, body)
    square.producer.flush()
    assert bodies(take(square.channel, square.queue, 500)) == expected
    assert [it.payload for it in square.device.take(500)] == expected
    for body in expected:
        square.device.client.publish(square.topic, body, qos=1)
    assert bodies(take(square.channel, square.queue, 500)) == expected
    assert [it.value for it in read_topic(square.broker, square.key, 1000)] == expected * 2


def test_mqtt_requester_and_amqp_server(broker, name):
    """An RPC server that knows nothing of MQTT answers a device: it publishes to `reply_to`."""
    service = name.replace("-", "")

    def serve(channel):
        for _, properties, body in take(channel, service, 1):
            answer = pika.BasicProperties(correlation_id=properties.correlation_id)
            channel.basic_publish("", properties.reply_to, body[::-1], answer)
            # The answer is out before the connection closes.
            channel.exchange_declare("amq.topic", passive=True)

    with pika_channel(broker) as channel, Device(broker) as device:
        channel.queue_declare(service, auto_delete=True)
        channel.queue_bind(service, "amq.topic", f"{service}.requests")
        device.subscribe(f"{service}/replies/1.2")
        thread = threading.Thread(target=serve, args=(channel,))
        thread.start()
        request = publish_properties(ResponseTopic=f"{service}/replies/1.2", CorrelationData=b"c-1")
        device.publish(f"{service}/requests", b"ping", properties=request)
        reply = device.next()
        thread.join(PATIENCE)
    assert (reply.topic, reply.payload) == (f"{service}/replies/1.2", b"gnip")
    assert reply.properties.CorrelationData == b"c-1"


def test_amqp_requester_and_mqtt_server(broker, name):
    """A device that knows nothing of AMQP answers a client: it publishes to the Response Topic."""
    with pika_channel(broker) as channel, Device(broker) as device:
        replies = channel.queue_declare("", exclusive=True).method.queue
        device.subscribe(f"{name}/requests")
        properties = pika.BasicProperties(reply_to=replies, correlation_id="c-2")
        channel.basic_publish("amq.topic", f"{name}.requests", b"ping", properties)
        request = device.next()
        assert request.properties.ResponseTopic == f"$queue/{replies}"
        answer = publish_properties(CorrelationData=request.properties.CorrelationData)
        device.publish(request.properties.ResponseTopic, b"pong", properties=answer)
        [(_, properties, body)] = take(channel, replies, 1)
        assert (properties.correlation_id, body) == ("c-2", b"pong")


def test_names_collide_with_a_clear_error(broker, name):
    producer = KafkaProducer(bootstrap_servers=broker.kafka)
    producer.send(name, b"x").get(PATIENCE)
    producer.close()
    with pika_channel(broker) as channel:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            channel.queue_declare(name)
        assert refused.value.reply_code == 406
        assert "x-queue-type" in refused.value.reply_text


def test_topics_of_several_words_and_special_characters(broker, name):
    """A dot in an MQTT level is not a separator: it is escaped on the way and comes back."""
    with pika_channel(broker) as channel, Device(broker) as device:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", f"{name}.#")
        device.subscribe(f"{name}/#")
        for topic in (f"{name}/spBv1.0/G", f"{name}/a*b//", f"{name}/ü"):
            device.publish(topic, b"x")
            assert device.next().topic == topic
        keys = [method.routing_key for method, _, _ in take(channel, queue, 3)]
        assert keys == [f"{name}.spBv1%2E0.G", f"{name}.a%2Ab..", f"{name}.ü"]
        channel.confirm_delivery()
        for key in keys:
            channel.basic_publish("amq.topic", key, b"back")
        assert [it.topic for it in device.take(3)] == [f"{name}/spBv1.0/G", f"{name}/a*b//", f"{name}/ü"]


@pytest.mark.parametrize(
    ("topic", "key"),
    [
        ("/", "."),
        ("//", ".."),
        ("/a//b/", ".a..b."),
        ("a.b/c", "a%2Eb.c"),
        ("*", "%2A"),
        ("a/*/b*", "a.%2A.b%2A"),
        ("%2E/%2e", "%252E.%2e"),  # capitals only are escapes
        ("100%/%/%2", "100%.%.%2"),
        ("%252E", "%25252E"),
        ("%23/%2A", "%23.%252A"),
        ("ü/€/😀", "ü.€.😀"),
        ("a b/ ", "a b. "),
        (".", "%2E"),
        ("./..", "%2E.%2E%2E"),
        ("/".join(["l"] * 100), ".".join(["l"] * 100)),
    ],
)
def test_every_topic_has_a_key_and_comes_back_from_it(broker, name, topic, key):
    """DESIGN 3.1: the grammar is reversible, whatever the levels hold."""
    topic, key = f"{name}/{topic}", f"{name}.{key}"
    with pika_channel(broker) as channel, Device(broker) as device:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", f"{name}.#")
        device.subscribe(f"{name}/#")
        device.publish(topic, b"x")
        [(method, properties, _)] = take(channel, queue, 1)
        assert (method.routing_key, properties.headers) == (key, None)
        channel.basic_publish("amq.topic", key, b"back")
        assert [(it.topic, it.payload) for it in device.take(2)] == [(topic, b"x"), (topic, b"back")]


@pytest.mark.parametrize("letter", ["x", "ü", "€"])
def test_a_topic_over_255_bytes_is_cut_and_named_in_full(broker, name, letter):
    levels = [letter * 30] * 10
    key = ".".join([name, *levels])
    with pika_channel(broker) as channel, Device(broker) as device:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", f"{name}.#")
        device.publish("/".join([name, *levels]), b"x")
        [(method, properties, _)] = take(channel, queue, 1)
        kept, digest = method.routing_key.split("~")
        assert digest == hashlib.sha1(key.encode()).hexdigest()
        # Up to where a character begins.
        assert key.startswith(kept) and 214 - len(letter.encode()) < len(kept.encode()) <= 214
        assert properties.headers == {"x-mqtt-topic": key}


def test_quality_of_service_0_reaches_a_log(square):
    square.device.client.publish(square.topic, b"once", qos=0)
    record = square.at_kafka()
    assert (record.value, dict(record.headers)["mq.qos"]) == (b"once", b"0")


def test_nested_headers_are_json_to_kafka(square):
    square.by_amqp(headers={"list": [1, "two", None], "table": {"inner": {"deep": True}}})
    headers = dict(square.at_kafka().headers)
    assert json.loads(headers["list"]) == [1, "two", None]
    assert json.loads(headers["table"]) == {"inner": {"deep": True}}
    types = types_of(headers["mq.types"].decode())
    assert types == types | {"list": "A", "table": "F", "table.inner.deep": "t", "list[0]": "I"}


def test_large_bodies(square):
    body = BODY * 3500
    for publish in (square.by_amqp, square.by_kafka, square.by_mqtt):
        publish(body)
        assert square.at_amqp()[1] == body
        assert square.at_mqtt().payload == body
    assert [it.value for it in read_topic(square.broker, square.key, 3)] == [body] * 3


def test_message_that_is_too_large_for_a_log_reaches_nobody(square):
    """All destinations or none: the queue and the sessions could take it, the log cannot."""
    body = bytes(2_000_000)
    with pytest.raises(pika.exceptions.NackError):
        square.by_amqp(body)
    reasons = queue.Queue()
    square.device.client.on_publish = lambda _c, _u, _mid, reason, _p: reasons.put(reason.value)
    square.device.client.publish(square.topic, body, qos=1)
    assert reasons.get(timeout=PATIENCE) == 0x97
    square.no_more()


def test_partitions_of_a_topic_are_all_offered(broker, name):
    key = f"{name}.many"
    admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
    admin.create_topics([NewTopic(key, 4, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=broker.kafka)
    with pika_channel(broker) as channel:
        bound = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(bound, "amq.topic", key)
        for number in range(100):
            producer.send(key, b"%d" % number, partition=number % 4)
        producer.close()
        messages = take(channel, bound, 100)
    places = [(it.headers["x-stream-partition"], it.headers["x-stream-offset"]) for _, it, _ in messages]
    assert sorted(places) == [(partition, offset) for partition in range(4) for offset in range(25)]
    assert all(int(body) % 4 == place[0] for (_, _, body), place in zip(messages, places))


def test_topic_that_only_takes(broker, name):
    """`mq.tap=off`: what is produced stays in the log; what is published on the square still arrives in it."""
    key = f"{name}.quiet"
    admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
    admin.create_topics([NewTopic(key, 1, 1, topic_configs={"mq.tap": "off"})])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=broker.kafka)
    with Device(broker) as device:
        device.subscribe(f"{name}/quiet")
        producer.send(key, b"produced").get(PATIENCE)
        producer.close()
        device.publish(f"{name}/quiet", b"published")
        assert device.next().payload == b"published"
        assert [it.value for it in read_topic(broker, key, 2)] == [b"produced", b"published"]
        assert device.settle() == []


def test_mqtt_publish_does_not_create_a_topic(broker, name):
    with Device(broker) as device:
        device.publish(f"{name}/none", b"x")
    admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
    assert f"{name}.none" not in admin.list_topics()
    admin.close()


def test_backlog_of_a_session(broker, name):
    """More than fits a window, published by all three while the device is away."""
    with Device(broker, name, clean=False, expiry=3600) as device:
        device.subscribe(f"{name}/#")
    producer = KafkaProducer(bootstrap_servers=broker.kafka)
    with pika_channel(broker) as channel, Device(broker) as publisher:
        for number in range(2000):
            channel.basic_publish("amq.topic", f"{name}.amqp", b"%d" % number)
            producer.send(f"{name}.kafka", b"%d" % number)
            publisher.client.publish(f"{name}/mqtt", b"%d" % number, qos=1)
        publisher.publish(f"{name}/mqtt", b"2000")
        channel.queue_declare("", exclusive=True)  # everything before it has been taken
        producer.close()
        with Device(broker, name, clean=False) as device:
            by_topic = {}
            for message in device.take(6001):
                by_topic.setdefault(message.topic, []).append(int(message.payload))
    expected = list(range(2000))
    assert by_topic == {f"{name}/amqp": expected, f"{name}/kafka": expected, f"{name}/mqtt": [*expected, 2000]}
