"""kill -9 under load: what was acknowledged by any of the three protocols is there afterwards."""

import threading
import time

import confluent_kafka
import pika
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata
from paho.mqtt import client as mqtt
from paho.mqtt.client import mqtt_ms_resend_pubrel

from clients import PATIENCE, Device, bodies, eventually, pika_channel, read_topic, take

ROUNDS = 4


class Publisher(threading.Thread):
    """Publishes until the broker is gone; remembers what was acknowledged."""

    topic = "kept/session"

    def __init__(self, broker, round_number, wanted, topic=topic):
        super().__init__(daemon=True)
        self.topic, self.wanted = topic, wanted
        self.enough = threading.Event()
        self.broker, self.round = broker, round_number
        self.acknowledged = set()
        self.gone = threading.Event()
        self.start()

    def acknowledge(self, body):
        self.acknowledged.add(body)
        if len(self.acknowledged) >= self.wanted:
            self.enough.set()

    def body(self, number):
        return b"%d-%d" % (self.round, number)


class AmqpPublisher(Publisher):
    """Windows of confirms: the blocking connection waits for each, so one message is under way."""

    def run(self):
        try:
            with pika_channel(self.broker) as channel:
                channel.confirm_delivery()
                number = 0
                while True:
                    body = self.body(number)
                    persistent = pika.BasicProperties(delivery_mode=2)
                    channel.basic_publish("", "kept", body, persistent)
                    self.acknowledge(body)
                    number += 1
        except (pika.exceptions.AMQPError, OSError):
            pass


class KafkaPublisher(Publisher):
    """Batches of an idempotent producer with acks=all, many under way."""

    def run(self):
        producer = confluent_kafka.Producer({
            "bootstrap.servers": self.broker.kafka, "acks": "all", "enable.idempotence": True, "linger.ms": 2,
            "queue.buffering.max.messages": 2000, "log_level": 0, "error_cb": lambda _: None,
        })
        number = 0
        while not self.gone.is_set():
            try:
                producer.produce("kept.log", self.body(number), on_delivery=self.delivered)
                number += 1
                producer.poll(0)
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
        producer.purge()
        producer.flush(PATIENCE)

    def delivered(self, error, record):
        if error is None:
            self.acknowledge(record.value())


class MqttPublisher(Publisher):
    """QoS 1 with a window of 20 unacknowledged messages."""

    def run(self):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        bodies_by_mid = {}
        room = threading.Semaphore(20)

        def acknowledged(_client, _userdata, mid, reason, _properties):
            assert not reason.is_failure
            self.acknowledge(bodies_by_mid[mid])
            room.release()

        client.on_publish = acknowledged
        client.connect("127.0.0.1", self.broker.port("mqtt"))
        client.on_disconnect = lambda *_: self.gone.set()
        client.loop_start()
        number = 0
        while not self.gone.is_set():
            if not room.acquire(timeout=1):
                continue
            # Known before it can be acknowledged: paho numbers its packets in order.
            body = self.body(number)
            bodies_by_mid[number % 65535 + 1] = body
            client.publish(self.topic, body, 1)
            number += 1
        client.loop_stop()


def drain_queue(broker):
    with pika_channel(broker) as channel:
        drained = []
        while (message := channel.basic_get("kept", auto_ack=True))[0] is not None:
            drained.append(message)
        return bodies(drained)


def read_log(broker):
    consumer = KafkaConsumer(
        bootstrap_servers=broker.kafka, auto_offset_reset="earliest", enable_auto_commit=False
    )
    partition = TopicPartition("kept.log", 0)
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
    end = consumer.end_offsets([partition])[partition]
    records = []

    def all_read():
        for batch in consumer.poll(timeout_ms=500).values():
            records.extend(batch)
        return consumer.position(partition) >= end

    eventually(all_read)
    consumer.close()
    assert [it.offset for it in records] == list(range(end))
    return [it.value for it in records]


def read_session(broker, end):
    """Whatever waits for the session; the last message, `end`, was published after the restart."""
    with Device(broker) as publisher:
        publisher.publish("kept/session", end)
    device = Device(broker, "session", clean=False, expiry=3600)
    assert device.flags.session_present
    received = []
    while (message := device.next()).payload != end:
        received.append(message.payload)
    device.close()
    return received


@pytest.mark.parametrize("durability", ["sync", "os"])
def test_acknowledged_messages_survive_kill(own_broker, durability):
    broker = own_broker(durability=durability)
    with pika_channel(broker) as channel:
        channel.queue_declare("kept", durable=True)
    device = Device(broker, "session", clean=False, expiry=3600)
    device.subscribe("kept/session")
    device.close()

    logged = set()
    for round_number in range(ROUNDS):
        # In the middle of things: each has had acknowledgements, at another count in every round.
        kinds = (AmqpPublisher, KafkaPublisher, MqttPublisher)
        publishers = [kind(broker, round_number, wanted=50 + 37 * round_number) for kind in kinds]
        assert all(it.enough.wait(PATIENCE) for it in publishers)
        broker.kill()
        for it in publishers:
            it.gone.set()
        for it in publishers:
            it.join(PATIENCE)
        amqp, kafka, mqtt_ = (it.acknowledged for it in publishers)
        broker.start()

        # What is drained here is durable with the confirms of the next round.
        queued = drain_queue(broker)
        assert amqp <= set(queued), f"lost: {sorted(amqp - set(queued))[:10]}"
        assert len(queued) == len(set(queued)), "a message came twice, or one that was acknowledged came back"
        assert len(queued) <= len(amqp) + 1

        logged |= kafka
        values = read_log(broker)
        assert logged <= set(values), f"lost: {sorted(logged - set(values))[:10]}"
        assert len(values) == len(set(values)), "an idempotent producer's record is there twice"

        received = read_session(broker, b"end of %d" % round_number)
        assert mqtt_ <= set(received), f"lost: {sorted(mqtt_ - set(received))[:10]}"


class Publisher(mqtt.Client):
    """paho that does not forget what it has released. The real one publishes it again, as another message, when it connects
    in vain twice, which it does where the broker takes a while to be there again."""

    def _messages_reconnect_reset_out(self):
        released = [it for it in self._out_messages.values() if it.state == mqtt_ms_resend_pubrel]
        super()._messages_reconnect_reset_out()
        for message in released:
            message.state = mqtt_ms_resend_pubrel


def test_qos_2_is_exactly_once_over_kill(own_broker):
    """A client that connects again and goes on with its handshakes: each message is in session and queue once."""
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.queue_declare("kept", durable=True)
        channel.queue_bind("kept", "amq.topic", "once")
    device = Device(broker, "session", clean=False, expiry=3600)
    device.subscribe("once", qos=2)
    device.close()

    client = Publisher(mqtt.CallbackAPIVersion.VERSION2, "publisher", protocol=mqtt.MQTTv311, clean_session=False)
    client.max_inflight_messages_set(10)
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", broker.port("mqtt"))
    client.loop_start()
    sent = []
    for round_number in range(ROUNDS):
        eventually(client.is_connected)
        sent += [client.publish("once", b"%d" % (len(sent) + it), 2) for it in range(400)]
        wanted = len(sent) - 400 + 50 + 37 * round_number
        eventually(lambda: sum(it.is_published() for it in sent) >= wanted)
        broker.kill()
        broker.start()
    for it in sent:
        it.wait_for_publish(PATIENCE)
        assert it.is_published()
    client.disconnect()
    client.loop_stop()

    expected = [b"%d" % it for it in range(len(sent))]
    queued = drain_queue(broker)
    assert len(queued) == len(set(queued)), "a message came twice"
    assert queued == expected
    device = Device(broker, "session", clean=False, expiry=3600)
    received = [it.payload for it in device.take(len(sent))]
    assert received == expected
    assert device.settle() == []
    device.close()


def test_offsets_and_retained_messages_survive_kill(own_broker):
    broker = own_broker()
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "log_level": 0})
    for number in range(100):
        producer.produce("t", b"%d" % number)
    assert producer.flush(PATIENCE) == 0
    partition = TopicPartition("t", 0)
    consumer = KafkaConsumer(bootstrap_servers=broker.kafka, group_id="g", enable_auto_commit=False)
    consumer.assign([partition])
    consumer.commit({partition: OffsetAndMetadata(42, "", -1)})
    with Device(broker) as device:
        device.publish("state", b"on", retain=True)
        device.publish("cleared", b"on", retain=True)
        device.publish("cleared", b"", retain=True)
    broker.kill()
    consumer.close(autocommit=False)
    broker.start()
    consumer = KafkaConsumer(bootstrap_servers=broker.kafka, group_id="g", enable_auto_commit=False)
    assert consumer.committed(partition) == 42
    consumer.close()
    assert len(read_topic(broker, "t", 100)) == 100
    with Device(broker) as device:
        device.subscribe("state", "cleared")
        message = device.next()
        assert (message.topic, message.payload, message.retain) == ("state", b"on", True)
        assert device.settle() == []


def test_one_publish_reaches_all_or_none_over_kill(own_broker):
    """A queue, a log and a session hold the same messages of one publisher, whenever the process ends."""
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.queue_declare("kept", durable=True)
        channel.queue_bind("kept", "amq.topic", "kept.log")
    confluent_kafka.Producer({"bootstrap.servers": broker.kafka}).list_topics("kept.log", timeout=PATIENCE)

    for round_number in range(ROUNDS):
        publisher = MqttPublisher(broker, round_number, wanted=100 + 31 * round_number, topic="kept/log")
        assert publisher.enough.wait(PATIENCE)
        broker.kill()
        publisher.gone.set()
        publisher.join(PATIENCE)
        broker.start()
    queued = drain_queue(broker)
    assert queued == read_log(broker)


def test_records_are_offered_exactly_once_over_kill(own_broker):
    """The tap's position is stored with what it queued: after any end, the queue holds each record once."""
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.queue_declare("kept", durable=True)
        channel.queue_bind("kept", "amq.topic", "kept.log")
    for round_number in range(ROUNDS):
        publisher = KafkaPublisher(broker, round_number, wanted=2000 + 777 * round_number)
        assert publisher.enough.wait(PATIENCE)
        broker.kill()
        publisher.gone.set()
        publisher.join(PATIENCE)
        broker.start()
    logged = read_log(broker)
    with pika_channel(broker) as channel:
        assert bodies(take(channel, "kept", len(logged))) == logged
        channel.connection.process_data_events(0.5)
        assert channel.queue_declare("kept", passive=True).method.message_count == 0
