"""Concurrent transactions while the broker and the producers are killed: none is lost, doubled, torn or seen after
its abort, and offsets only go up. A share group that reads committed records gets the same ones.

`TRIVIUM_CHECKER_SECONDS` makes it run longer; `make check-transactions` runs it for ten minutes.
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import confluent_kafka
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from clients import PATIENCE, eventually

SECONDS = float(os.environ.get("TRIVIUM_CHECKER_SECONDS", 12))
WORKERS = 4
PARTITIONS = 3
WORKER = Path(__file__).with_name("transaction_worker.py")


class Producers:
    """Processes that write transactions."""

    def __init__(self, broker, topic, place):
        self.broker, self.topic, self.place = broker, topic, place
        self.processes = {}
        for worker in range(WORKERS):
            self.notes(worker).touch()
            self.start(worker)

    def notes(self, worker):
        return self.place / f"notes-{worker}"

    def start(self, worker):
        self.processes[worker] = subprocess.Popen([
            sys.executable, str(WORKER), self.broker.kafka, self.topic, str(PARTITIONS), str(worker),
            str(self.notes(worker)),
        ], stderr=subprocess.DEVNULL)

    def kill(self, worker):
        self.processes[worker].kill()
        self.processes[worker].wait()

    def outcomes(self):
        """What is known of each transaction: its size and whether it was committed, aborted or neither."""
        outcomes = {}
        for worker in range(WORKERS):
            for line in self.notes(worker).read_text().splitlines():
                word, number, *size = line.split()
                key = (worker, int(number))
                if word == "begin":
                    outcomes[key] = (int(size[0]), "undecided")
                elif key in outcomes:
                    outcomes[key] = (outcomes[key][0], word)
        return outcomes


class Reader(threading.Thread):
    """Reads committed records from the beginning on, past every kill, until it is told to end at the end."""

    def __init__(self, broker, topic):
        super().__init__(daemon=True)
        self.broker, self.topic = broker, topic
        self.seen, self.fault = {}, None
        self.ending = threading.Event()
        self.start()

    def run(self):
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.broker.kafka, "group.id": "checker", "isolation.level": "read_committed",
            "enable.partition.eof": True, "auto.offset.reset": "error", "reconnect.backoff.max.ms": 200,
        })
        consumer.assign([TopicPartition(self.topic, it, 0) for it in range(PARTITIONS)])
        newest, ended = dict.fromkeys(range(PARTITIONS), -1), set()
        while not (self.ending.is_set() and len(ended) == PARTITIONS):
            for message in consumer.consume(200, 0.2):
                partition = message.partition()
                if message.error() is None:
                    if message.offset() <= newest[partition]:
                        self.fault = f"offset {message.offset()} of {partition} after {newest[partition]}"
                    newest[partition] = message.offset()
                    self.seen[partition, message.offset()] = message.value().decode()
                    ended.discard(partition)
                elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    ended.add(partition)
        consumer.close()

    def finish(self):
        self.ending.set()
        self.join(PATIENCE)
        assert not self.is_alive(), "the reader did not get to the end"
        assert self.fault is None, self.fault
        return self.seen


class Sharer(threading.Thread):
    """A member of a share group that reads committed records, past every kill. What it had accepted when the broker was
    killed may come again, so only what and where counts."""

    def __init__(self, broker, topic):
        super().__init__(daemon=True)
        self.broker, self.topic = broker, topic
        self.seen, self.ending = {}, threading.Event()
        admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
        admin.alter_configs([ConfigResource(ConfigResourceType.GROUP, f"{topic}-share", {
            "share.auto.offset.reset": "earliest", "share.isolation.level": "read_committed",
            "share.delivery.count.limit": "10",
        })], incremental=True)
        admin.close()
        self.start()

    def run(self):
        consumer = confluent_kafka.ShareConsumer({
            "bootstrap.servers": self.broker.kafka, "group.id": f"{self.topic}-share", "reconnect.backoff.max.ms": 200,
        })
        consumer.subscribe([self.topic])
        while not self.ending.is_set():
            try:
                for message in consumer.poll(0.2) or []:
                    if message.error() is None:
                        self.seen[message.partition(), message.offset()] = message.value().decode()
            except confluent_kafka.KafkaException:
                pass  # The broker is away.
        consumer.close()

    def finish(self, expected):
        eventually(lambda: len(self.seen) >= len(expected) or time.sleep(0.1))
        self.ending.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        assert self.seen == expected


def check(outcomes, seen):
    records = Counter(tuple(map(int, value.split())) for value in seen.values())
    doubled = [it for it, count in records.items() if count > 1]
    assert not doubled, f"written twice: {doubled[:10]}"
    found = Counter((worker, number) for worker, number, _, _ in records)
    for transaction, (size, outcome) in outcomes.items():
        count = found.pop(transaction, 0)
        assert count in (0, size), f"torn: {count} of {size} records of {transaction}, {outcome}"
        assert outcome != "committed" or count == size, f"lost: {transaction}"
        assert outcome != "aborted" or count == 0, f"aborted and seen: {transaction}"
    assert not found, f"never begun: {found}"


def test_transactions_are_all_or_nothing(own_broker, name, tmp_path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    broker = own_broker()
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(name, PARTITIONS)])[name].result(PATIENCE)
    producers, live = Producers(broker, name, tmp_path), Reader(broker, name)
    sharer = Sharer(broker, name)
    end = time.monotonic() + SECONDS
    kills = 0

    def committed():
        return sum(outcome == "committed" for _, outcome in producers.outcomes().values())

    try:
        while time.monotonic() < end:
            before = committed()
            eventually(lambda: committed() > before + chance.randrange(1, 200))
            if chance.random() < 0.5:
                worker = chance.randrange(WORKERS)
                producers.kill(worker)
                producers.start(worker)
            else:
                broker.kill()
                broker.start()
            kills += 1
        eventually(lambda: committed() > before)
    finally:
        for worker in range(WORKERS):
            producers.kill(worker)
    # What the killed left open is aborted by their successors.
    for worker in range(WORKERS):
        heir = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "transactional.id": f"{name}-{worker}"})
        heir.init_transactions(PATIENCE)
    outcomes = producers.outcomes()
    print(f"{len(outcomes)} transactions, {committed()} committed, {kills} kills")
    seen = Reader(broker, name).finish()
    check(outcomes, seen)
    # Whoever read along saw the same: nothing that was aborted later, and nothing moved.
    assert live.finish() == seen
    sharer.finish(seen)
