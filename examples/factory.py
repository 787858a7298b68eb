#!/usr/bin/env python3
"""A factory on one broker, a kill -9 in the middle, and an account at the end.

    machines (paho, MQTT 5, QoS 2) ── factory/part/<machine> ──┬──► log factory.parts (captured)
                                                               └──► queue inspection ──► scrap (dead letters)
    log factory.parts ──► archive (confluent-kafka, a group of two)
                     └──► aggregator (confluent-kafka, transactions) ──► log factory.totals ──► queue totals (tapped)
    office (pika, confirms) ── factory.orders ──► log factory.orders ──► archive
    machines ── factory/calibrate, with a response topic ──► calibration (pika, the RPC server of every tutorial)
    machines ── factory/state/<machine>: retained "running", will "offline" ──► screen (paho, MQTT 3.1.1)

All clients are stock and reconnect as they would anywhere. `make demo-bridge` runs it on a broker of its own.
Exits with 1 if something that was acknowledged is missing, or something that is exactly once is there twice.
"""

import argparse
import collections
import json
import sys
import threading
import time

import confluent_kafka
import pika
from confluent_kafka.admin import AdminClient, NewTopic
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from own_broker import OwnBroker

PATIENCE = 60
MACHINES = [f"m{number}" for number in range(1, 7)]
BROKEN = MACHINES[-1]
PARTS, ORDERS, TOTALS = "factory.parts", "factory.orders", "factory.totals"


def main():
    options = argparse.ArgumentParser(description="A factory on one broker, with a kill -9 in the middle.")
    options.add_argument("--seconds", type=float, default=5, help="of work before each kill, and after the last")
    options.add_argument("--kills", type=int, default=1, help="how often")
    options = options.parse_args()
    seconds = options.seconds
    with OwnBroker() as broker:
        factory = Factory(broker.addresses)
        say(f"{len(MACHINES)} machines work, the office orders; {seconds:g} s until the broker is killed")
        for kill in range(options.kills):
            # paho publishes again what PUBREL has released when it connects in vain twice.
            eventually(lambda: all(it.connections > kill for it in factory.machines))
            time.sleep(seconds)
            factory.show_progress()
            broker.kill()
            say("kill -9")
            broker.start()
            say("the broker is there again")
        time.sleep(seconds)
        say(f"machine {BROKEN} loses its network; the others come to rest")
        factory.come_to_rest()
        balanced = account(factory)
        factory.close()
    return 0 if balanced else 1


class Factory:
    """Everybody who works here."""

    def __init__(self, addresses):
        self.addresses, self.stopping = addresses, threading.Event()
        set_up(addresses)
        self.calibration = Calibration(self)
        self.inspectors = [Inspector(self), Inspector(self)]
        self.archive = [Archivist(self), Archivist(self)]
        self.aggregator = Aggregator(self)
        self.office = Office(self)
        self.machines = [Machine(self, name) for name in MACHINES]

    def made(self):
        return set().union(*(it.acknowledged("factory/part/" + it.name) for it in self.machines))

    def asked(self):
        return set().union(*(it.acknowledged("factory/calibrate") for it in self.machines))

    def show_progress(self):
        say(f"so far {len(self.made())} parts acknowledged, {len(self.office.confirmed)} orders confirmed, "
            f"{sum(self.aggregator.counted.values())} parts counted in {self.aggregator.commits} transactions")

    def come_to_rest(self):
        for it in self.machines:
            it.stop()
        self.office.stop()
        self.machines[-1].break_down()

    def close(self):
        self.stopping.set()
        for it in [self.calibration, *self.inspectors, *self.archive, self.aggregator]:
            it.thread.join(PATIENCE)
        for it in self.machines:
            it.close()


def set_up(addresses):
    """The topics by Kafka, the queues by AMQP."""
    captured = {"mq.bind": "amq.topic:factory.part.*"}
    topics = [NewTopic(PARTS, 4, config=captured), NewTopic(ORDERS, 2), NewTopic(TOTALS, 1)]
    admin = AdminClient({"bootstrap.servers": addresses["kafka"]})
    for it in admin.create_topics(topics).values():
        it.result(PATIENCE)
    channel = connect(addresses).channel()
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "scrap"}
    channel.queue_declare("scrap", durable=True)
    channel.queue_declare("inspection", durable=True, arguments={"x-queue-type": "quorum", **dead})
    channel.queue_bind("inspection", "amq.topic", "factory.part.*")
    channel.queue_declare("calibration", durable=True)
    channel.queue_bind("calibration", "amq.topic", "factory.calibrate")
    channel.queue_declare("totals", durable=True)
    channel.queue_bind("totals", "amq.topic", TOTALS)
    channel.connection.close()


class Machine:
    """Makes parts (QoS 2), is calibrated now and then (request and reply), and tells its state (retained, will)."""

    def __init__(self, factory, name):
        self.name, self.answered, self.connections = name, set(), 0
        self._sent, self._acknowledged, self._stopping = {}, set(), threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self._client.will_set(f"factory/state/{name}", "offline", 1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_publish = lambda _client, _data, packet, *_: self._acknowledged.add(packet)
        self._client.on_message = lambda _client, _data, it: self.answered.add(it.properties.CorrelationData.decode())
        # Long enough for the broker to be there again, also on a busy machine: see above.
        self._client.reconnect_delay_set(3, 3)
        host, port = address(factory.addresses["mqtt"])
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600
        self._client.connect(host, port, properties=lasting)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _connected(self, client, *_):
        self.connections += 1
        client.subscribe(f"factory/answers/{self.name}", 1)
        client.publish(f"factory/state/{self.name}", "running", 1, retain=True)

    def acknowledged(self, topic):
        """The numbers of what was published on a topic and acknowledged."""
        return {number for packet, (where, number) in list(self._sent.items())
                if where == topic and packet in self._acknowledged}

    def _work(self):
        number = 0
        while not self._stopping.wait(0.01):
            number += 1
            part = f"{self.name}-{number}"
            self._publish("factory/part/" + self.name, part, 2)
            if number % 50 == 0:
                request = Properties(PacketTypes.PUBLISH)
                request.ResponseTopic = f"factory/answers/{self.name}"
                request.CorrelationData = part.encode()
                self._publish("factory/calibrate", part, 1, request)

    def _publish(self, topic, number, qos, properties=None):
        # Without a connection the client keeps it until it has one again.
        packet = self._client.publish(topic, number, qos, properties=properties).mid
        self._sent[packet] = (topic, number)

    def stop(self):
        """Makes no more parts, and waits until all are acknowledged."""
        self._stopping.set()
        self._thread.join(PATIENCE)
        eventually(lambda: set(self._sent) <= self._acknowledged)

    def break_down(self):
        """As if the cable were cut: no DISCONNECT."""
        self._client.loop_stop()
        self._client.socket().close()

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


class Worker:
    """Somebody on AMQP with a thread of their own, who connects again whenever the connection is lost."""

    def __init__(self, factory):
        self.factory = factory
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.factory.stopping.is_set():
            try:
                connection = connect(self.factory.addresses)
                self.work(connection.channel())
                connection.close()
            except (pika.exceptions.AMQPError, OSError):
                time.sleep(0.2)

    def consume(self, channel, queue):
        channel.basic_qos(prefetch_count=50)
        for method, properties, body in channel.consume(queue, inactivity_timeout=0.2):
            if self.factory.stopping.is_set():
                return
            if method is not None:
                yield method, properties, body.decode()


class Inspector(Worker):
    """Looks at each part; every tenth of a machine is scrap."""

    def __init__(self, factory):
        self.passed, self.scrapped, self.again = set(), set(), 0
        super().__init__(factory)

    def work(self, channel):
        for method, _, part in self.consume(channel, "inspection"):
            self.again += method.redelivered
            if defective(part):
                self.scrapped.add(part)
                channel.basic_reject(method.delivery_tag, requeue=False)
            else:
                self.passed.add(part)
                channel.basic_ack(method.delivery_tag)


class Calibration(Worker):
    """Answers to whatever `reply_to` says, and knows nothing of MQTT."""

    def work(self, channel):
        channel.confirm_delivery()
        for method, request, body in self.consume(channel, "calibration"):
            reply = pika.BasicProperties(correlation_id=request.correlation_id, delivery_mode=2)
            channel.basic_publish("", request.reply_to, f"calibrated after {body}", reply)
            channel.basic_ack(method.delivery_tag)


class Office(Worker):
    """Sends orders, each confirmed, one after another."""

    def __init__(self, factory):
        self.confirmed, self._closed = set(), threading.Event()
        super().__init__(factory)

    def work(self, channel):
        channel.confirm_delivery()
        while not self._closed.wait(0.005):
            order = f"order-{time.monotonic_ns()}"
            channel.basic_publish("amq.topic", ORDERS, order, pika.BasicProperties(delivery_mode=2))
            self.confirmed.add(order)
        self.factory.stopping.wait()

    def stop(self):
        self._closed.set()


class Archivist:
    """A member of a consumer group that commits what it has written down."""

    def __init__(self, factory):
        self.factory, self.records = factory, collections.Counter()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        settings = {"group.id": "archive", "auto.offset.reset": "earliest", "enable.auto.commit": False}
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.factory.addresses["kafka"], **QUIET, **settings})
        consumer.subscribe([PARTS, ORDERS])
        while not self.factory.stopping.is_set():
            records = [it for it in consumer.consume(500, 0.2) if it.error() is None]
            self.records.update((it.topic(), it.value().decode()) for it in records)
            if records:
                try:
                    consumer.commit(asynchronous=False)
                except confluent_kafka.KafkaException:
                    pass  # the records come again, or the next commit covers them
        consumer.close()


class Aggregator:
    """Counts parts by machine: what it reads, what it writes and how far it is are one transaction."""

    def __init__(self, factory):
        self.factory, self.counted, self.commits, self.restarts = factory, collections.Counter(), 0, -1
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.factory.stopping.is_set():
            self.restarts += 1
            # As a static member its next life takes over at once; another would wait until the group has given up this one.
            reading = {"group.id": "aggregator", "group.instance.id": "aggregator", "auto.offset.reset": "earliest",
                       "enable.auto.commit": False, "isolation.level": "read_committed"}
            servers = {"bootstrap.servers": self.factory.addresses["kafka"], **QUIET}
            consumer = confluent_kafka.Consumer({**servers, **reading})
            try:
                producer = confluent_kafka.Producer({**servers, "transactional.id": "aggregator"})
                producer.init_transactions(PATIENCE)
                consumer.subscribe([PARTS])
                while not self.factory.stopping.is_set():
                    self._transact(consumer, producer)
            except confluent_kafka.KafkaException:
                pass  # as after a crash: a new life begins with what was committed
            finally:
                consumer.close()

    def _transact(self, consumer, producer):
        records = [it for it in consumer.consume(200, 0.2) if it.error() is None]
        if not records:
            return
        counted = collections.Counter(it.value().decode().split("-")[0] for it in records)
        producer.begin_transaction()
        for machine, parts in counted.items():
            producer.produce(TOTALS, json.dumps({"machine": machine, "parts": parts}), machine)
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), PATIENCE)
        producer.commit_transaction(PATIENCE)
        self.counted.update(counted)
        self.commits += 1


def account(factory):
    """What each promised against what each found; whether everything is as it should be."""
    made, asked = factory.made(), factory.asked()
    bad = {it for it in made if defective(it)}

    def inspected(kind):
        return set().union(*(getattr(it, kind) for it in factory.inspectors))

    def archived(topic):
        return {value for it in factory.archive for where, value in list(it.records) if where == topic}

    def answered():
        return set().union(*(it.answered for it in factory.machines))

    eventually(lambda: asked <= answered() and made <= inspected("passed") | inspected("scrapped"))
    eventually(lambda: made <= archived(PARTS) and factory.office.confirmed <= archived(ORDERS))
    parts = read(factory.addresses, PARTS)
    totals = Totals(factory.addresses)
    eventually(lambda: totals.update() >= len(parts))
    scrap = set(drain(factory.addresses, "scrap"))
    tapped = sum(json.loads(it)["parts"] for it in drain(factory.addresses, "totals"))
    eventually(lambda: BROKEN in screen(factory.addresses, "offline"))
    working = set(MACHINES) - {BROKEN}
    redelivered = sum(it.again for it in factory.inspectors)

    print()
    lines = [
        check("parts acknowledged to machines (QoS 2)", len(made), "missing in the log", made - set(parts)),
        check("parts in the log", len(parts), "twice", doubled(parts)),
        check("parts passed by inspection", len(inspected("passed")), "missing", made - bad - inspected("passed")),
        check("parts scrapped (dead letters)", len(scrap), "missing", bad - scrap),
        check("orders confirmed to the office", len(factory.office.confirmed), "missing in the archive",
              factory.office.confirmed - archived(ORDERS)),
        check("parts in the archive", len(archived(PARTS)), "missing", set(parts) - archived(PARTS)),
        check("calibrations asked for", len(asked), "without an answer", asked - answered()),
        check("parts counted in transactions", totals.parts, "too many or too few", difference(totals.parts, len(parts))),
        check("counted, as the queue behind the tap says", tapped, "too many or too few", difference(tapped, len(parts))),
        check("machines shown as running", len(working), "shown otherwise",
              working ^ screen(factory.addresses, "running")),
        check("machines shown as offline by their will", 1, "shown otherwise",
              {BROKEN} ^ screen(factory.addresses, "offline")),
    ]
    say(f"{redelivered} parts were inspected again, the aggregator began again {factory.aggregator.restarts} times")
    say("the account balances" if all(lines) else "the account does NOT balance")
    return all(lines)


def check(what, count, wrong, which):
    """One line of the account; whether it is right."""
    print(f"  {what:45} {count:6}   {wrong}: {len(which)}", *sorted(map(str, which))[:5])
    return not which


def difference(one, other):
    return [] if one == other else [one - other]


class Totals:
    """What the aggregator has committed."""

    def __init__(self, addresses):
        self.addresses, self.parts = addresses, 0

    def update(self):
        self.parts = sum(json.loads(it)["parts"] for it in read(self.addresses, TOTALS))
        return self.parts


def read(addresses, topic):
    """All committed records of a topic, from its beginning to its present end."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": addresses["kafka"], "group.id": "account", "enable.auto.commit": False,
        "isolation.level": "read_committed", "enable.partition.eof": True, **QUIET,
    })
    partitions = list(consumer.list_topics(topic, PATIENCE).topics[topic].partitions)
    consumer.assign([confluent_kafka.TopicPartition(topic, it, 0) for it in partitions])
    ended, values = set(), []
    while len(ended) < len(partitions):
        for it in consumer.consume(1000, 1):
            if it.error() is None:
                values.append(it.value().decode())
            elif it.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                ended.add(it.partition())
    consumer.close()
    return values


def drain(addresses, queue):
    """Takes all that a queue has."""
    bodies, channel = [], connect(addresses).channel()
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        bodies.append(got[2].decode())
    channel.connection.close()
    return bodies


def screen(addresses, state):
    """The machines that somebody who comes now finds in this state (MQTT 3.1.1, retained messages)."""
    states, complete = {}, threading.Event()

    def arrived(_client, _data, it):
        states[it.topic.rsplit("/", 1)[1]] = it.payload.decode()
        if len(states) == len(MACHINES):
            complete.set()

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *_: client.subscribe("factory/state/+", 1)
    client.on_message = arrived
    client.connect(*address(addresses["mqtt"]))
    client.loop_start()
    complete.wait(PATIENCE)
    client.disconnect()
    client.loop_stop()
    return {machine for machine, it in states.items() if it == state}


# librdkafka writes to the terminal that the broker is away, which is the point of this; and when all brokers are away
# it forgets them, and a transaction that was waiting for one waits on until its time is up.
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 500, "metadata.recovery.strategy": "none"}


def connect(addresses):
    host, port = address(addresses["amqp"])
    return pika.BlockingConnection(pika.ConnectionParameters(host, port))


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def defective(part):
    return int(part.rsplit("-", 1)[1]) % 10 == 0


def doubled(values):
    return {value for value, times in collections.Counter(values).items() if times > 1}


def eventually(condition):
    """Waits until it holds; the account shows whether it did."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def say(what):
    print(f"{time.monotonic() - STARTED:5.1f} s  {what}", flush=True)


STARTED = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
