#!/usr/bin/env python3
"""A web shop on one broker: orders go out by AMQP and are seen by Kafka and MQTT, and the other way round.

    shop (pika) ── orders.<region> ──► analytics (kafka-python, a consumer group of two)
                                  └──► screens (paho-mqtt, orders/+)
    scanner (paho-mqtt) ── parcels/eu ──► billing (pika) and audit (kafka-python)
    planner (kafka-python) ── routes.eu ──► drivers (pika) and vans (paho-mqtt)

`make demo` runs it on a broker of its own. To use another one:
`examples/demo.py --amqp 127.0.0.1:5672 --kafka 127.0.0.1:9092 --mqtt 127.0.0.1:1883`.
Prints what went where, and exits with 1 if something did not arrive.
"""

import argparse
import json
import queue
import sys
import threading
import time
import uuid
from contextlib import contextmanager

import pika
from kafka import KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from own_broker import OwnBroker

PATIENCE = 60
# Topics of one run do not meet those of another on the same broker.
RUN = uuid.uuid4().hex[:6]
REGIONS = ("eu", "us")


def main():
    options = argparse.ArgumentParser(description="One message across AMQP, Kafka and MQTT.")
    for protocol in ("amqp", "kafka", "mqtt"):
        options.add_argument(f"--{protocol}", metavar="HOST:PORT")
    addresses = vars(options.parse_args())
    if all(addresses.values()):
        return run(addresses)
    if any(addresses.values()):
        options.error("give all three addresses, or none to start a broker")
    with OwnBroker() as broker:
        own = broker.addresses
        print(f"a broker of our own: AMQP {own['amqp']}, Kafka {own['kafka']}, MQTT {own['mqtt']}")
        return run(own)


def run(addresses):
    started = time.monotonic()
    scenes = [orders, parcels, routes]
    missing = sum(scene(addresses) for scene in scenes)
    print(f"\n{'everything arrived' if not missing else f'{missing} did not arrive'}, {time.monotonic() - started:.1f} s")
    return 1 if missing else 0


def orders(addresses):
    """AMQP to Kafka and MQTT."""
    print("\n== the shop publishes orders by AMQP (pika); a Kafka consumer group and MQTT screens get them")
    topics = {region: topic("orders", region) for region in REGIONS}
    create_topics(addresses, topics.values())
    group = Group(addresses, list(topics.values()), members=2)
    screens = Device(addresses, f"{RUN}-orders/+")
    sent = []
    with amqp_channel(addresses) as channel:
        channel.confirm_delivery()
        for number in range(6):
            region = REGIONS[number % 2]
            order = json.dumps({"order": number, "item": "beer"})
            properties = pika.BasicProperties(
                content_type="application/json", delivery_mode=2, headers={"priority": "high", "number": number}
            )
            channel.basic_publish("amq.topic", topics[region], order, properties)
            show("shop", f"amq.topic / {topics[region]}", order)
            sent.append(order)
    missing = expect("analytics", sent, group.records, with_headers=True)
    missing += expect("screen", sent, screens.messages)
    group.close()
    screens.close()
    return missing


def parcels(addresses):
    """MQTT to AMQP and Kafka."""
    print("\n== a scanner publishes parcels by MQTT (paho); an AMQP queue and a Kafka log get them")
    name = topic("parcels", "eu")
    create_topics(addresses, [name])
    audit = Group(addresses, [name], members=1)
    billing = Queue(addresses, topic("parcels", "*"))
    scanner = Device(addresses)
    sent = []
    for number in range(3):
        parcel = json.dumps({"parcel": number})
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        properties.UserProperty = [("scanner", "gate-4")]
        scanner.publish(name.replace(".", "/"), parcel, properties)
        show("scanner", name.replace(".", "/"), parcel)
        sent.append(parcel)
    missing = expect("billing", sent, billing.messages)
    missing += expect("audit", sent, audit.records, with_headers=True)
    for it in (audit, billing, scanner):
        it.close()
    return missing


def routes(addresses):
    """Kafka to AMQP and MQTT."""
    print("\n== a planner produces routes by Kafka (kafka-python); an AMQP queue and MQTT vans get them")
    name = topic("routes", "eu")
    create_topics(addresses, [name])
    drivers = Queue(addresses, topic("routes", "*"))
    vans = Device(addresses, f"{RUN}-routes/#")
    producer = KafkaProducer(bootstrap_servers=addresses["kafka"])
    sent = []
    for number in range(3):
        route = json.dumps({"route": number})
        headers = [("traceparent", f"00-{number}".encode())]
        producer.send(name, route.encode(), key=b"van-1", headers=headers).get(PATIENCE)
        show("planner", name, route)
        sent.append(route)
    missing = expect("driver", sent, drivers.messages)
    missing += expect("van", sent, vans.messages)
    producer.close()
    for it in (drivers, vans):
        it.close()
    return missing


class Group:
    """Members of a Kafka consumer group, each on a thread of its own."""

    def __init__(self, addresses, topics, members):
        self.records = queue.Queue()
        self._stopping = threading.Event()
        settings = {
            "group_id": f"{RUN}-{topics[0]}",
            "auto_offset_reset": "earliest",
            "heartbeat_interval_ms": 500,
            # The default would give the one partition of each topic to the same member.
            "partition_assignment_strategy": [RoundRobinPartitionAssignor],
        }
        self._threads = [
            threading.Thread(target=self._consume, args=(number, addresses["kafka"], topics, settings))
            for number in range(members)
        ]
        for it in self._threads:
            it.start()

    def _consume(self, number, address, topics, settings):
        consumer = KafkaConsumer(*topics, bootstrap_servers=address, **settings)
        while not self._stopping.is_set():
            for batch in consumer.poll(timeout_ms=100).values():
                for it in batch:
                    where = f"{it.topic}[{it.partition}]@{it.offset}, member {number}"
                    self.records.put((where, it.value.decode(), {k: v.decode() for k, v in it.headers}))
        consumer.close()

    def close(self):
        self._stopping.set()
        for it in self._threads:
            it.join(PATIENCE)


class Device:
    """An MQTT 5 client."""

    def __init__(self, addresses, *filters):
        self.messages = queue.Queue()
        ready = queue.Queue()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = lambda _c, _u, it: self.messages.put((it.topic, it.payload.decode(), {}))
        self._client.on_connect = lambda *_: ready.put("connected")
        self._client.on_subscribe = lambda *_: ready.put("subscribed")
        host, port = addresses["mqtt"].rsplit(":", 1)
        self._client.connect(host, int(port))
        self._client.loop_start()
        ready.get(timeout=PATIENCE)
        for it in filters:
            self._client.subscribe(it, 1)
            ready.get(timeout=PATIENCE)

    def publish(self, name, payload, properties):
        self._client.publish(name, payload, 1, properties=properties).wait_for_publish(PATIENCE)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


class Queue:
    """An AMQP queue bound to the square, consumed on a thread of its own."""

    def __init__(self, addresses, pattern):
        self.messages = queue.Queue()
        self._addresses, self._pattern = addresses, pattern
        self._stopping, bound = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._consume, args=(bound,))
        self._thread.start()
        if not bound.wait(PATIENCE):
            raise SystemExit(f"no queue for {pattern}")

    def _consume(self, bound):
        with amqp_channel(self._addresses) as channel:
            name = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(name, "amq.topic", self._pattern)
            bound.set()
            for method, properties, body in channel.consume(name, inactivity_timeout=0.1):
                if method is not None:
                    channel.basic_ack(method.delivery_tag)
                    self.messages.put((f"queue, key {method.routing_key}", body.decode(), properties.headers or {}))
                if self._stopping.is_set():
                    break

    def close(self):
        self._stopping.set()
        self._thread.join(PATIENCE)


@contextmanager
def amqp_channel(addresses):
    host, port = addresses["amqp"].rsplit(":", 1)
    connection = pika.BlockingConnection(pika.ConnectionParameters(host, int(port)))
    try:
        yield connection.channel()
    finally:
        connection.close()


def create_topics(addresses, names):
    """A Kafka client that asks for a topic's partitions creates it."""
    producer = KafkaProducer(bootstrap_servers=addresses["kafka"])
    for it in names:
        producer.partitions_for(it)
    producer.close()


def topic(word, region):
    return f"{RUN}-{word}.{region}"


def expect(who, sent, arrivals, with_headers=False):
    """Prints what arrives, in any order; the number of what does not."""
    wanted, deadline = list(sent), time.monotonic() + PATIENCE
    while wanted:
        try:
            where, body, headers = arrivals.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if body in wanted:
            wanted.remove(body)
        show(who, where, f"{body}  {headers}" if with_headers else body, arrow="──►")
    for it in wanted:
        show(who, "MISSING", it, arrow="──►")
    return len(wanted)


def show(who, where, what, arrow=""):
    print(f"  {arrow:4}{who:10} {where:38} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
