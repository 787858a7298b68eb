"""What the tests ask of each client library again and again."""

import queue
import time
from contextlib import contextmanager, suppress

import pika
from kafka import KafkaConsumer
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from management import Management

# Seconds. Only what fails takes so long: a machine may be busy with a dozen other things.
PATIENCE = 120


def eventually(check, within=PATIENCE):
    """The first true answer of `check`, which is asked again and again, and once more when the time is over."""
    deadline, late = time.monotonic() + within, False
    while True:
        if answer := check():
            return answer
        if late:
            raise AssertionError(f"not within {within} s")
        time.sleep(0.001)  # for other threads and processes: a check of a list would not let go of its core
        late = time.monotonic() >= deadline


def gauge(broker, name):
    """The value of a metric that has no labels."""
    lines = broker.metrics().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} "))


def make_durable(broker):
    """Everything that the broker has been told so far survives a kill from now on.

    What consumers settle, and whatever else nobody waits for, is written by the way and promised with the next change
    that is confirmed. Each shard answers twice: with the second answer, the batch of the turn in which it gave the first
    is on its way to the store, where the confirmed change is behind it.
    """
    for _ in range(2):
        Management(broker).get("lag")
    with pika_channel(broker) as channel:
        channel.queue_delete(channel.queue_declare(f"durable-{time.monotonic_ns()}", durable=True).method.queue)


@contextmanager
def pika_channel(broker, **parameters):
    """A channel of a blocking connection of its own. It answers heartbeats only while the test asks it for something, so
    there are few."""
    parameters = {"heartbeat": 600, **parameters}
    connection = pika.BlockingConnection(
        pika.ConnectionParameters("127.0.0.1", broker.port("amqp"), **parameters)
    )
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def take(channel, queue_name, count, auto_ack=True, within=PATIENCE):
    """The next `count` messages of a queue, as (method, properties, body)."""
    taken = []
    for method, properties, body in channel.consume(queue_name, auto_ack=auto_ack, inactivity_timeout=within):
        assert method is not None, f"{len(taken)} of {count} messages of {queue_name}"
        taken.append((method, properties, body))
        if len(taken) == count:
            break
    channel.cancel()
    return taken


def bodies(messages):
    return [body for _, _, body in messages]


def read_topic(broker, topic, count, within=PATIENCE, **settings):
    """The first `count` records of a topic, read without a group."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=broker.kafka,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=within * 1000,
        **settings,
    )
    try:
        records = []
        for record in consumer:
            records.append(record)
            if len(records) == count:
                break
    finally:
        consumer.close(autocommit=False)
    assert len(records) == count, f"{len(records)} of {count} records of {topic}"
    return records


class Device:
    """An MQTT client whose events are waited for."""

    def __init__(self, broker, client_id="", version=mqtt.MQTTv5, clean=True, expiry=0, keepalive=60, will=None,
                 manual_ack=False, transport="tcp", **limits):
        """`limits` are further properties of CONNECT (MQTT 5)."""
        options = {} if version == mqtt.MQTTv5 else {"clean_session": clean}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=version, manual_ack=manual_ack,
            transport=transport, **options
        )
        self.messages = queue.Queue()
        self._connects, self._disconnects, self._acks = queue.Queue(), queue.Queue(), queue.Queue()
        self.client.on_connect = lambda _c, _u, flags, reason, properties: self._connects.put((flags, reason, properties))
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self._disconnects.put(reason)
        self.client.on_subscribe = lambda _c, _u, _mid, reasons, _p: self._acks.put(reasons)
        self.client.on_unsubscribe = lambda _c, _u, _mid, reasons, _p: self._acks.put(reasons)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        if will is not None:
            self.client.will_set(**will)
        options = {}
        if version == mqtt.MQTTv5:
            options = {"clean_start": clean}
            if expiry:
                limits["SessionExpiryInterval"] = expiry
            if limits:
                options["properties"] = properties(PacketTypes.CONNECT, **limits)
        port = broker.port("mqtt.websocket" if transport == "websockets" else "mqtt")
        self.client.connect("127.0.0.1", port, keepalive=keepalive, **options)
        self.client.loop_start()
        self.flags, self.reason, self.properties = self._connects.get(timeout=PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Says goodbye, behind the acknowledgements of all that has come: paho sends those after it has told of the
        message, so a DISCONNECT of another thread may overtake them."""
        if not self.client._out_messages:  # its thread waits for those
            self._end_thread()
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        """Drops the socket, as a dead battery does: no DISCONNECT. Returns when (of the monotonic clock)."""
        self._end_thread()  # it would connect again
        gone = time.monotonic()
        self.client._sock_close()
        return gone

    def _end_thread(self):
        """Ends paho's thread when it has written what it has to, at once and not with the second that it may sleep."""
        self.client._thread_terminate = True
        if self.client._sockpairW is not None:
            with suppress(BlockingIOError):  # it is awake
                self.client._sockpairW.send(b"\0")
        self.client.loop_stop()

    def subscribe(self, *filters, qos=1, **options):
        """Subscribes and returns the reason codes."""
        if options:
            pairs = [(it, SubscribeOptions(qos=qos, **options)) for it in filters]
        elif self.client._protocol == mqtt.MQTTv5:
            pairs = [(it, SubscribeOptions(qos=qos)) for it in filters]
        else:
            pairs = [(it, qos) for it in filters]
        self.client.subscribe(pairs)
        return [reason.value if isinstance(reason, ReasonCode) else reason for reason in self._acks.get(timeout=PATIENCE)]

    def unsubscribe(self, *filters):
        self.client.unsubscribe(list(filters))
        return self._acks.get(timeout=PATIENCE)

    def publish(self, topic, payload=b"", qos=1, **options):
        """Publishes, and returns when it is acknowledged (QoS 1) or written (QoS 0)."""
        info = self.client.publish(topic, payload, qos, **options)
        info.wait_for_publish(PATIENCE)
        assert info.is_published()

    def next(self, within=PATIENCE):
        return self.messages.get(timeout=within)

    def take(self, count):
        return [self.next() for _ in range(count)]

    def disconnected(self):
        return self._disconnects.get(timeout=PATIENCE)

    def settle(self):
        """Returns once whatever was sent to this device before has arrived: messages keep their order."""
        marker = f"settle/{id(self)}/{time.monotonic_ns()}"
        self.subscribe(marker, qos=1)
        self.publish(marker, qos=1)
        arrived = []
        while (message := self.next()).topic != marker:
            if not message.topic.startswith("settle/"):  # one of before a kill, whose acknowledgement was lost
                arrived.append(message)
        return arrived


def properties(packet, **values):
    """MQTT 5 properties of a packet."""
    result = Properties(packet)
    for name, value in values.items():
        setattr(result, name, value)
    return result


def publish_properties(**values):
    return properties(PacketTypes.PUBLISH, **values)
