"""One transaction over protocols: all of it or nothing, also when the broker is killed."""

import threading

import pika
import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic

from clients import PATIENCE, Device, bodies, pika_channel, take

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def create_topic(broker, topic):
    admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
    admin.create_topics([NewTopic(topic, 1, 1)])
    admin.close()


def values(broker, topic):
    """All committed records of a topic, as they are now."""
    consumer = KafkaConsumer(bootstrap_servers=broker.kafka, isolation_level="read_committed", enable_auto_commit=False)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end, found = consumer.end_offsets([partition])[partition], []
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=500).values():
                found += [it.value for it in records]
        return found
    finally:
        consumer.close(autocommit=False)


def test_tx_over_queues_and_logs(broker, name):
    """AMQP 0-9-1 tx: nothing before the commit, everything with it, nothing after a rollback."""
    topic = f"{name}.log"
    create_topic(broker, topic)
    with pika_channel(broker) as channel, pika_channel(broker) as other:
        channel.queue_declare(name, auto_delete=True)
        channel.tx_select()
        for end, expected in ((channel.tx_rollback, []), (channel.tx_commit, [b"yes"])):
            body = b"yes" if expected else b"no"
            channel.basic_publish("", name, body)
            channel.basic_publish("", topic, body)
            channel.basic_publish("amq.topic", topic, body)
            assert other.queue_declare(name, passive=True).method.message_count == 0
            assert values(broker, topic) == []
            end()
            assert values(broker, topic) == expected * 2
        assert bodies(take(other, name, 1)) == [b"yes"]


def test_consume_from_a_queue_and_write_to_a_log(broker, name):
    """The acknowledgement and the record are in one commit; without it the message is there again."""
    create_topic(broker, f"{name}.log")
    with pika_channel(broker) as setup:
        setup.queue_declare(name)
        for number in range(10):
            setup.basic_publish("", name, b"%d" % number)
        for commits in (False, True):
            with pika_channel(broker) as channel:
                channel.tx_select()
                for method, _, body in take(channel, name, 10, auto_ack=False):
                    channel.basic_publish("", f"{name}.log", body)
                    channel.basic_ack(method.delivery_tag)
                if commits:
                    channel.tx_commit()
            expected = [b"%d" % it for it in range(10)] if commits else []
            assert values(broker, f"{name}.log") == expected
        assert setup.queue_declare(name, passive=True).method.message_count == 0
        setup.queue_delete(name)


def test_kafka_transaction_reaches_everybody_at_commit(broker, name):
    """Queues and sessions by the tap, readers of the log by AMQP and MQTT, and Kafka's: all see it, or nobody."""
    create_topic(broker, name)
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions(PATIENCE)
    with pika_channel(broker) as channel, Device(broker) as tapped, Device(broker) as reader:
        bound = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(bound, "amq.topic", name)
        cursor = f"{name}-cursor"
        channel.queue_declare(cursor, durable=True, arguments={
            "x-queue-type": "cursor", "x-source": name, "x-stream-offset": "first",
        })
        tapped.subscribe(name)
        reader.subscribe(f"$stream/{name}?offset=first")
        streamed = []
        channel.basic_qos(prefetch_count=100)
        channel.basic_consume(name, lambda _c, _m, _p, body: streamed.append(body), arguments={"x-stream-offset": "first"})
        for word, end in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
            producer.begin_transaction()
            for _ in range(3):
                producer.produce(name, word)
            producer.flush(PATIENCE)
            assert tapped.settle() == [] and reader.settle() == []
            end(PATIENCE)
        assert [it.payload for it in tapped.take(3)] == [b"yes"] * 3
        assert [it.payload for it in reader.take(3)] == [b"yes"] * 3
        for _ in range(PATIENCE * 10):
            if len(streamed) >= 3:
                break
            channel.connection.process_data_events(0.1)
        assert streamed == [b"yes"] * 3
    with pika_channel(broker) as channel:
        assert bodies(take(channel, cursor, 3)) == [b"yes"] * 3
        channel.queue_delete(cursor)
    with Device(broker) as device:
        assert device.settle() == []
    assert values(broker, name) == [b"yes"] * 3


def test_captures_within_a_kafka_transaction(own_broker, name):
    """What is captured while a transaction is open on the log is no part of it: it stays, whatever becomes of that."""
    broker = own_broker()
    create_topic(broker, name)
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions(PATIENCE)
    with pika_channel(broker) as channel, Device(broker) as reader:
        channel.confirm_delivery()
        channel.queue_declare("heard", durable=True)
        channel.queue_bind("heard", "amq.topic", name)
        cursor = {"x-queue-type": "cursor", "x-source": name, "x-stream-offset": "first"}
        channel.queue_declare("cursor", durable=True, arguments=cursor)
        reader.subscribe(f"$stream/{name}?offset=first")
        expected, read = [], []
        for end, word in ((producer.abort_transaction, b"aborted"), (producer.commit_transaction, b"committed")):
            producer.begin_transaction()
            producer.produce(name, word)
            producer.flush(PATIENCE)
            captured = b"captured while it was " + word
            channel.basic_publish("amq.topic", name, captured, PERSISTENT)
            # Subscribers of the exchange have it at once; readers of the log wait for what is before it.
            assert bodies(take(channel, "heard", 1)) == [captured]
            assert values(broker, name) == expected
            assert reader.settle() == []
            end(PATIENCE)
            new = [captured] if word == b"aborted" else [word, captured]
            expected += new
            assert values(broker, name) == expected
            read += [it.payload for it in reader.take(len(new))]
        # By the tap, once: what was captured is not offered again.
        assert bodies(take(channel, "heard", 1)) == [b"committed"]
        assert read == expected
        assert bodies(take(channel, "cursor", 3)) == expected
        producer.begin_transaction()
        producer.produce(name, b"open")
        producer.flush(PATIENCE)
        channel.basic_publish("amq.topic", name, b"captured before a kill", PERSISTENT)
    broker.kill()
    broker.start()
    assert values(broker, name) == expected, "the transaction is open still"
    heir = Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    heir.init_transactions(PATIENCE)
    expected.append(b"captured before a kill")
    assert values(broker, name) == expected
    with pika_channel(broker) as channel:
        assert bodies(take(channel, "heard", 1)) == [b"captured before a kill"]
        assert bodies(take(channel, "cursor", 1)) == [b"captured before a kill"]
        assert channel.queue_declare("heard", passive=True).method.message_count == 0


def kill_while_moving(broker, queue, count, move):
    """Moves messages of a queue, a transaction each, until the broker is killed in the middle; starts it again."""
    moved = threading.Event()

    def run():
        try:
            with pika_channel(broker) as channel:
                channel.tx_select()
                for at in range(count):
                    method, _, body = channel.basic_get(queue)
                    if method is None:
                        break
                    move(channel, body)
                    channel.basic_ack(method.delivery_tag)
                    channel.tx_commit()
                    if at == 20:
                        moved.set()
        except (pika.exceptions.AMQPError, OSError):
            pass  # the broker was killed

    thread = threading.Thread(target=run)
    thread.start()
    moved.wait(PATIENCE)
    broker.kill()
    thread.join(PATIENCE)
    broker.start()


@pytest.mark.parametrize("kills", [3])
def test_tx_is_whole_after_a_kill(own_broker, name, kills):
    """Numbers move from a queue into a log and another queue, each move one commit, while the broker is killed."""
    broker = own_broker()
    topic, done = f"{name}.log", f"{name}-done"
    create_topic(broker, topic)
    count = 400
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        for queue in (name, done):
            channel.queue_declare(queue, durable=True)
        for number in range(count):
            channel.basic_publish("", name, b"%d" % number, PERSISTENT)

    def move(channel, body):
        channel.basic_publish("", topic, body, PERSISTENT)
        channel.basic_publish("", done, body, PERSISTENT)

    for _ in range(kills):
        kill_while_moving(broker, name, count, move)
        with pika_channel(broker) as channel:
            left = channel.queue_declare(name, passive=True).method.message_count
            arrived = channel.queue_declare(done, passive=True).method.message_count
        logged = values(broker, topic)
        assert len(logged) == len(set(logged)) == arrived == count - left
    with pika_channel(broker) as channel:
        assert sorted(bodies(take(channel, done, arrived))) == sorted(logged)


@pytest.mark.parametrize("kills", [3])
def test_tx_from_a_cursor_to_everything_is_whole_after_a_kill(own_broker, name, kills):
    """Records of a Kafka topic, taken by a cursor, go to a queue, a log, a session and the retained store, each exactly
    once: the acknowledgement of the record is in the same commit."""
    broker = own_broker()
    create_topic(broker, f"{name}.in")
    create_topic(broker, f"{name}.out")
    count = 300
    with Device(broker, "device", clean=False, expiry=3600) as device:
        assert device.subscribe(f"{name}/out") == [1]
    with pika_channel(broker) as channel:
        cursor = {"x-queue-type": "cursor", "x-source": f"{name}.in", "x-stream-offset": "first", "x-delivery-limit": -1}
        channel.queue_declare("work", durable=True, arguments=cursor)
        channel.queue_declare("out", durable=True)
        channel.queue_bind("out", "amq.topic", f"{name}.out")
    producer = Producer({"bootstrap.servers": broker.kafka})
    for number in range(count):
        producer.produce(f"{name}.in", b"%d" % number)
    assert producer.flush(PATIENCE) == 0
    retained = pika.BasicProperties(delivery_mode=2, headers={"x-mqtt-retain": True})

    def move(channel, body):
        channel.basic_publish("amq.topic", f"{name}.out", body, retained)

    for _ in range(kills):
        kill_while_moving(broker, "work", count, move)
        logged = values(broker, f"{name}.out")
        with pika_channel(broker) as channel:
            assert channel.queue_declare("work", passive=True).method.message_count == count - len(logged)
            assert channel.queue_declare("out", passive=True).method.message_count == len(logged)
        with Device(broker) as other:
            other.subscribe(f"{name}/#")
            assert [it.payload for it in other.settle()] == logged[-1:]
        assert logged == [b"%d" % it for it in range(len(logged))]
    assert logged
    with pika_channel(broker) as channel:
        assert bodies(take(channel, "out", len(logged))) == logged
    with Device(broker, "device", clean=False, expiry=3600) as device:
        assert [it.payload for it in device.settle()] == logged
