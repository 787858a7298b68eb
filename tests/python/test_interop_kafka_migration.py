"""Rolling upgrades and downgrades between the classic and the consumer protocol under traffic (KIP-848)."""

import threading
import time
from collections import Counter

import confluent_kafka
import pytest
from confluent_kafka import ConsumerGroupState, ConsumerGroupType, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from clients import PATIENCE, eventually

PARTITIONS = 6
# Longer than a rebalance of three members takes on a busy machine.
SOON = 180


class Traffic(threading.Thread):
    """Numbers the records of each partition, until it is ended."""

    def __init__(self, broker, topic):
        super().__init__(daemon=True)
        self.topic, self.sent, self.ending = topic, 0, threading.Event()
        self.producer = confluent_kafka.Producer({
            "bootstrap.servers": broker.kafka, "enable.idempotence": True, "linger.ms": 5,
        })
        self.start()

    def run(self):
        while not self.ending.wait(0.01):
            for partition in range(PARTITIONS):
                self.producer.produce(self.topic, str(self.sent), partition=partition)
            self.sent += 1
        self.producer.flush(PATIENCE)

    def end(self):
        self.ending.set()
        self.join(PATIENCE)


class Member(threading.Thread):
    """A consumer that commits whatever it has seen before it asks for more."""

    def __init__(self, broker, group, topic, **settings):
        super().__init__(daemon=True)
        self.owned, self.seen, self.uncommitted = set(), [], set()
        self.ending, self.fault = threading.Event(), None
        self.cooperative = settings.get("partition.assignment.strategy", "cooperative-sticky") == "cooperative-sticky"
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": broker.kafka, "group.id": group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, **settings,
        })
        self.consumer.subscribe([topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.revoked)
        self.start()

    def assigned(self, consumer, partitions):
        if self.cooperative:
            self.owned |= {it.partition for it in partitions}
            consumer.incremental_assign(partitions)
        else:
            self.owned = {it.partition for it in partitions}
            consumer.assign(partitions)

    def revoked(self, consumer, partitions):
        self.owned -= {it.partition for it in partitions}
        if self.cooperative:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()

    def run(self):
        try:
            while not self.ending.is_set():
                self.take()
            self.consumer.close()
        except Exception as fault:  # noqa: BLE001, told by the test
            self.fault = fault

    def take(self):
        places = set()
        for message in self.consumer.consume(500, 0.05):
            if message.error() is None:
                places.add((message.partition(), message.offset()))
                self.seen.append((message.partition(), int(message.value())))
        if not places:
            return
        try:
            self.consumer.commit(asynchronous=False)
        except KafkaException:
            self.uncommitted |= {(partition, offset) for partition, offset in places}

    def end(self):
        self.ending.set()
        self.join(SOON)
        assert not self.is_alive() and self.fault is None, self.fault


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_rolling_upgrade_and_downgrade_loses_nothing(broker, name, strategy):
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(name, PARTITIONS)])[name].result(PATIENCE)
    classic = {
        "group.protocol": "classic", "partition.assignment.strategy": strategy,
        "heartbeat.interval.ms": 300, "session.timeout.ms": 10000,
    }
    consumer = {"group.protocol": "consumer"}
    traffic = Traffic(broker, name)
    everyone = []

    def start(settings):
        everyone.append(Member(broker, name, name, **settings))
        return everyone[-1]

    def settled(members, kind):
        """All partitions are shared out among all members, who all see new records."""
        def shared():
            owned = Counter(it for member in members for it in list(member.owned))
            return sorted(owned) == list(range(PARTITIONS)) and set(owned.values()) == {1}

        eventually(lambda: shared() or time.sleep(0.05), SOON)
        described = admin.describe_consumer_groups([name])[name].result(PATIENCE)
        assert described.type == kind and len(described.members) == len(members)
        sofar = traffic.sent
        eventually(
            lambda: len({it for member in members for it in member.seen[-200:] if it[1] >= sofar}) >= PARTITIONS
            or time.sleep(0.05), SOON,
        )

    members = [start(classic) for _ in range(3)]
    settled(members, ConsumerGroupType.CLASSIC)
    for settings, kinds in (
        (consumer, [ConsumerGroupType.CONSUMER] * 3),
        (classic, [ConsumerGroupType.CONSUMER, ConsumerGroupType.CONSUMER, ConsumerGroupType.CLASSIC]),
    ):
        for kind in kinds:
            members.pop(0).end()
            members.append(start(settings))
            settled(members, kind)
    eventually(
        lambda: admin.describe_consumer_groups([name])[name].result(PATIENCE).state == ConsumerGroupState.STABLE
        or time.sleep(0.1), SOON,
    )
    traffic.end()
    expected = {(partition, number) for partition in range(PARTITIONS) for number in range(traffic.sent)}

    def seen():
        return Counter(it for member in everyone for it in list(member.seen))

    eventually(lambda: len(seen()) == len(expected) or time.sleep(0.1), SOON)
    for member in members:
        member.end()
    assert set(seen()) == expected
    # Twice is only what could not be committed because the partition had gone to another meanwhile.
    twice = sum(count - 1 for count in seen().values())
    uncommitted = sum(len(member.uncommitted) for member in everyone)
    assert twice <= uncommitted, (twice, uncommitted)
    print(f"{len(expected)} records, {twice} of them twice, {uncommitted} not committed by who saw them first")
