"""The laws of conversions (DESIGN 3.4), over random messages and real clients.

P→queue→P and P→log→P are the identity; P→Q→P is the identity for all that both can express: a client of Q hands on
what it gets, as it gets it. The seed is in the name of each test and in what it says when it fails; LAW_SEED sets it.
"""

import datetime
import os
import queue
import random
import string
import time
from decimal import Decimal

import pika
import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Consumer, Producer
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from clients import PATIENCE, Device, pika_channel, publish_properties, take
from management import Management

SEED = int(os.environ.get("LAW_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
CASES = int(os.environ.get("LAW_CASES", "400"))
NOW = int(time.time()) - 600
# What a protocol adds to say where a message is, and what a list of types is for.
ADDED = {"x-key", "x-stream-offset", "x-stream-partition", "timestamp_in_ms", "mq.types", "x-mqtt-publish-qos"}
# Lifetimes in ms: they are seconds in MQTT, and get shorter while a message is on its way.
LIFETIMES = (600_000, 10_000_000)
LEFT_AT_LEAST = 2 * PATIENCE * 1000


def same_lifetime(sent, got):
    """Whether a lifetime in ms is what was left of the one that was sent, in seconds rounded up."""
    return sent == got if None in (sent, got) else sent - LEFT_AT_LEAST <= got < sent + 1000


class Maker:
    """Random parts of messages."""

    def __init__(self, *about):
        self.rng = random.Random(f"{SEED} {about}")

    def text(self, most=12):
        alphabet = string.ascii_letters + string.digits + " .,:%/+*#-_[]{}\"\\éß→𝄞"
        return "".join(self.rng.choice(alphabet) for _ in range(self.rng.randrange(most + 1)))

    def bytes(self, most=20):
        return self.rng.randbytes(self.rng.randrange(most + 1))

    def maybe(self, make, odds=0.5):
        return make() if self.rng.random() < odds else None

    def names(self, most=5):
        return [f"h{n}{self.text(6)}" for n in range(self.rng.randrange(most + 1))]

    def value(self, depth=2):
        """A value of any type that pika writes."""
        rng = self.rng
        kinds = [
            self.text, self.bytes, lambda: rng.random() < 0.5, lambda: rng.randrange(-1 << 31, 1 << 31),
            lambda: rng.randrange(-1 << 63, 1 << 63), lambda: None,
            lambda: Decimal(rng.randrange(-10**8, 10**8)).scaleb(-rng.randrange(6)),
            lambda: datetime.datetime.fromtimestamp(rng.randrange(1 << 31), datetime.timezone.utc),
        ]
        if depth:
            kinds += [
                lambda: [self.value(depth - 1) for _ in range(rng.randrange(4))],
                lambda: {name: self.value(depth - 1) for name in self.names(3)},
            ]
        return rng.choice(kinds)()


class Amqp:
    name = "amqp"

    def __init__(self, broker):
        self.broker = broker
        self.manager = pika_channel(broker)
        self.channel = self.manager.__enter__()
        self.channel.confirm_delivery()

    def close(self):
        self.manager.__exit__(None, None, None)

    def make(self, maker, through):
        # Records always have a time: the broker's, where a publisher gives none.
        timed = 1 if through == "kafka" else 0.5
        properties = {
            "content_type": maker.maybe(maker.text), "content_encoding": maker.maybe(maker.text),
            "message_id": maker.maybe(maker.text), "correlation_id": maker.maybe(maker.text),
            "reply_to": maker.maybe(lambda: f"q{maker.rng.randrange(100)}"), "type": maker.maybe(maker.text),
            "app_id": maker.maybe(maker.text), "priority": maker.maybe(lambda: maker.rng.randrange(10)),
            "delivery_mode": maker.rng.choice([1, 2]), "timestamp": maker.maybe(lambda: NOW + maker.rng.randrange(60), timed),
            "expiration": maker.maybe(lambda: str(maker.rng.randrange(*LIFETIMES)), 0.3),
            "user_id": maker.maybe(lambda: "guest", 0.2),
        }
        headers = {name: maker.value() for name in maker.names()}
        for name, value in [("x-mqtt-retain", True), ("CC", ["nobody.cc"]), ("BCC", ["nobody.bcc"])]:
            if maker.rng.random() < 0.2:
                headers[name] = value
        return maker.bytes(), {**properties, "headers": headers}

    def listen(self, key):
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.queue_bind(self.queue, "amq.topic", key)

    def send(self, key, messages):
        for body, properties in messages:
            self.channel.basic_publish("amq.topic", key, body, pika.BasicProperties(**properties))

    def receive(self, count):
        fields = ["content_type", "content_encoding", "message_id", "correlation_id", "reply_to", "type", "app_id",
                  "priority", "delivery_mode", "timestamp", "user_id", "expiration", "headers"]
        taken = take(self.channel, self.queue, count)
        return [(body, {it: getattr(properties, it) for it in fields}) for _, properties, body in taken]

    def same(self, sent, got):
        (body, properties), (got_body, got_properties) = sent, got
        own = {name: value for name, value in properties["headers"].items() if name != "BCC"}
        headers = {name: value for name, value in (got_properties["headers"] or {}).items()
                   if name not in ADDED or name in own}
        lifetimes = [it["expiration"] and int(it["expiration"]) for it in (properties, got_properties)]
        expected = {**properties, "headers": own, "expiration": got_properties["expiration"]}
        return same_lifetime(*lifetimes) and (body, expected) == (got_body, {**got_properties, "headers": headers})


class Kafka:
    name = "kafka"

    def __init__(self, broker):
        self.broker = broker
        self.producer = Producer({"bootstrap.servers": broker.kafka, "linger.ms": 5})

    def close(self):
        self.consumer.close()

    def make(self, maker, through):
        headers = [(name, maker.maybe(maker.bytes if maker.rng.random() < 0.3 else lambda: maker.text().encode(), 0.9))
                   for name in maker.names()]
        if through != "amqp" and headers:
            headers.append(maker.rng.choice(headers))
        if maker.rng.random() < 0.2:
            headers.append(("mq.retain", b"1"))
        at = NOW * 1000 + maker.rng.randrange(60_000)
        value = maker.maybe(maker.bytes, 0.9)
        return {"key": maker.maybe(maker.bytes, 0.8), "value": value, "headers": headers, "timestamp": at}

    def listen(self, key):
        admin = KafkaAdminClient(bootstrap_servers=self.broker.kafka)
        admin.create_topics([NewTopic(key, 1, 1, topic_configs={"mq.key": "none"})])
        admin.close()
        self.consumer = Consumer({"bootstrap.servers": self.broker.kafka, "group.id": f"g-{key}",
                                  "auto.offset.reset": "earliest", "enable.auto.commit": False})
        self.consumer.subscribe([key])

    def send(self, key, messages):
        errors = []
        for message in messages:
            message = {name: value for name, value in message.items() if value is not None}
            self.producer.produce(key, **message, on_delivery=lambda error, _: errors.append(error))
        assert self.producer.flush(PATIENCE) == 0 and set(errors) <= {None}

    def receive(self, count):
        found = []
        deadline = time.monotonic() + 2 * PATIENCE
        while len(found) < count and time.monotonic() < deadline:
            found += [it for it in self.consumer.consume(count - len(found), 0.5) if not it.error()]
        assert len(found) == count
        return [{"key": it.key(), "value": it.value(), "headers": it.headers() or [],
                 "timestamp": it.timestamp()[1] if it.timestamp()[0] == TIMESTAMP_CREATE_TIME else None}
                for it in found]

    def same(self, sent, got):
        own = {name for name, _ in sent["headers"]}
        headers = [(name, value) for name, value in got["headers"]
                   if name in own or not (name in ADDED or name.startswith("mq."))]
        at = got["timestamp"] if sent["timestamp"] else None
        # What is a property or the message's own elsewhere comes back before the other headers.
        first = sorted(headers, key=lambda it: it[0] != "mq.retain")
        expected = sorted(sent["headers"], key=lambda it: it[0] != "mq.retain")
        return {**sent, "headers": expected} == {**got, "headers": first, "timestamp": at}


class Mqtt:
    name = "mqtt"

    def __init__(self, broker):
        self.device = Device(broker)
        # One for all messages: those of different QoS may overtake each other.
        self.qos = random.Random(SEED).choice([1, 2])

    def close(self):
        self.device.close()

    def make(self, maker, through):
        pairs = [(name, maker.text()) for name in maker.names()]
        if through != "amqp" and pairs:
            pairs.append((pairs[0][0], maker.text()))
        own = {
            "ContentType": maker.maybe(maker.text), "CorrelationData": maker.maybe(maker.bytes),
            "ResponseTopic": maker.maybe(lambda: f"r/{maker.rng.randrange(9)}.x//%2E"),
            "PayloadFormatIndicator": maker.maybe(lambda: 1), "UserProperty": pairs or None,
            "MessageExpiryInterval": maker.maybe(lambda: maker.rng.randrange(*LIFETIMES) // 1000, 0.3),
            "retain": maker.rng.random() < 0.2,
        }
        text = own["PayloadFormatIndicator"]
        return maker.text().encode() if text else maker.bytes(), own

    def listen(self, key):
        self.device.subscribe(key.replace(".", "/"), qos=2, retainAsPublished=True)

    def send(self, key, messages):
        # All under way at once: a round trip for each would be most of the time on a busy machine.
        under_way = []
        for payload, own in messages:
            given = {name: value for name, value in own.items() if value is not None}
            retain = given.pop("retain")
            properties = publish_properties(**given)
            topic = key.replace(".", "/")
            under_way.append(self.device.client.publish(topic, payload, self.qos, retain, properties))
        for number, info in enumerate(under_way):
            info.wait_for_publish(PATIENCE)
            assert info.is_published(), f"{number} of {len(under_way)} publishes acknowledged"

    def receive(self, count):
        fields = ["ContentType", "CorrelationData", "ResponseTopic", "PayloadFormatIndicator", "UserProperty",
                  "MessageExpiryInterval"]
        found = []
        while len(found) < count:
            try:
                found.append(self.device.next())
            except queue.Empty:
                raise AssertionError(f"{len(found)} of {count} messages, the last: {found[-1:]}") from None
        return [(it.payload, {name: getattr(it.properties, name, None) for name in fields} | {"retain": it.retain})
                for it in found]

    def same(self, sent, got):
        (payload, own), (got_payload, got_own) = sent, got
        names = {name for name, _ in own["UserProperty"] or []}
        pairs = [(name, value) for name, value in got_own["UserProperty"] or []
                 if name in names or not (name in ADDED or name.startswith("mq."))]
        lifetimes = [it["MessageExpiryInterval"] and it["MessageExpiryInterval"] * 1000 for it in (own, got_own)]
        expected = {**own, "MessageExpiryInterval": got_own["MessageExpiryInterval"]}
        found = {**got_own, "UserProperty": pairs or None}
        return same_lifetime(*lifetimes) and (payload, expected) == (got_payload, found)


PROTOCOLS = {it.name: it for it in (Amqp, Kafka, Mqtt)}


@pytest.mark.parametrize("through", PROTOCOLS)
@pytest.mark.parametrize("origin", PROTOCOLS)
def test_there_and_back_is_the_identity(broker, name, origin, through):
    """Of one protocol it is P→queue→P or P→log→P, of two it is P→Q→P."""
    print(f"LAW_SEED={SEED}")
    try:
        go_there_and_back(broker, name, origin, through)
    except BaseException:
        print(what_waits(broker))
        raise


def what_waits(broker):
    """What is in the broker's queues, sessions and logs, and with whom."""
    management = Management(broker)
    queues = management.get("queues")
    lines = [f"{it['name']}: {it.get('messages_ready')} ready, {it.get('messages_unacknowledged')} unacknowledged, "
             f"{it.get('consumers')} consumers" for it in queues if it.get("messages") or it.get("consumers")]
    return "\n".join([*lines, *map(str, management.get("lag"))])


def go_there_and_back(broker, name, origin, through):
    there, back = f"{name}.there", f"{name}.back"
    first, relay, last = PROTOCOLS[origin](broker), PROTOCOLS[through](broker), PROTOCOLS[origin](broker)
    if origin == "kafka":
        # A tap needs a log to read from.
        first.listen(there)
    if through == "kafka" and origin != "kafka":
        helper = Kafka(broker)
        helper.listen(back)
        helper.close()
    if origin != "kafka" or through != "kafka":
        relay.listen(there)
    else:
        relay = first
    last.listen(back)
    maker = Maker(origin, through)
    messages = [first.make(maker, through) for _ in range(CASES)]
    first.send(there, messages)
    relay.send(back, relay.receive(CASES))
    got = last.receive(CASES)
    for number, (sent, arrived) in enumerate(zip(messages, got)):
        assert first.same(sent, arrived), f"LAW_SEED={SEED} case {number}: {sent} became {arrived}"
    for it in {first, relay, last}:
        if not isinstance(it, Kafka) or hasattr(it, "consumer"):
            it.close()
