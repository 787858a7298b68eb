"""Cursors: queues whose messages are the records of a log, over AMQP 0-9-1 (docs/across.md)."""

import random
import threading

import pika
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from paho.mqtt import client as mqtt
from pika.exceptions import ChannelClosedByBroker

from clients import PATIENCE, Device, eventually, pika_channel, take
from management import Management


def topic(broker, name, partitions=1, **config):
    config = {"mq.tap": "off", **{key.replace("_", "."): value for key, value in config.items()}}
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(PATIENCE)


def produce(broker, name, values, **settings):
    producer = Producer({"bootstrap.servers": broker.kafka, **settings})
    for value in values:
        producer.produce(name, value, key=value, headers=[("kind", b"even" if int(value) % 2 == 0 else b"odd")])
    assert producer.flush(PATIENCE) == 0


def declare(channel, cursor, log, **arguments):
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    arguments = {"x-queue-type": "cursor", "x-source": log, **arguments}
    return channel.queue_declare(cursor, durable=True, arguments=arguments).method


def numbers(count, start=0):
    return [str(number).encode() for number in range(start, start + count)]


@pytest.fixture
def channel(broker):
    with pika_channel(broker) as it:
        yield it


def test_competing_consumers_over_a_topic(broker, channel, name):
    """Two connections share what a Kafka producer wrote to three partitions, each record once."""
    topic(broker, name, 3)
    produce(broker, name, numbers(300))
    declare(channel, f"{name}.work", name, x_stream_offset="first")
    assert declare(channel, f"{name}.work", name, x_stream_offset="first").message_count == 300
    found, done = [], threading.Event()

    def work():
        with pika_channel(broker) as own:
            own.basic_qos(prefetch_count=10)
            for method, properties, body in own.consume(f"{name}.work", inactivity_timeout=1):
                if method is None:
                    if done.is_set():
                        return
                    continue
                found.append(body)
                assert properties.headers["x-stream-partition"] in (0, 1, 2)
                assert properties.headers["kind"] in ("even", "odd", b"even", b"odd")
                own.basic_ack(method.delivery_tag)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    eventually(lambda: len(found) >= 300)
    produce(broker, name, numbers(50, 300))
    eventually(lambda: len(found) >= 350)
    done.set()
    for worker in workers:
        worker.join(PATIENCE)
    assert sorted(found, key=int) == numbers(350)


def test_devices_compete_for_the_records_of_a_log(broker, channel, name):
    """`$queue/<cursor>`: MQTT clients share the records, each once; what one had unacknowledged goes to another."""
    topic(broker, name, 3)
    cursor = f"{name}.work"
    declare(channel, cursor, name, x_stream_offset="first")
    produce(broker, name, numbers(300))
    holder = Device(broker, manual_ack=True)
    assert holder.subscribe(f"$queue/{cursor}") == [1]
    held = {holder.next().payload for _ in range(10)}
    holder.vanish()
    with Device(broker) as one, Device(broker, version=mqtt.MQTTv311) as other:
        assert one.subscribe(f"$queue/{cursor}") == other.subscribe(f"$queue/{cursor}") == [1]
        eventually(lambda: one.messages.qsize() + other.messages.qsize() >= 300)
        for batch in range(300, 500, 10):
            produce(broker, name, numbers(10, batch))
        eventually(lambda: one.messages.qsize() + other.messages.qsize() >= 500)
        shares = [device.settle() for device in (one, other)]
    assert all(shares)
    messages = shares[0] + shares[1]
    assert sorted((it.payload for it in messages), key=int) == numbers(500)
    assert held <= {it.payload for it in messages if it.dup}
    # Acknowledged for good: nobody gets them again.
    with Device(broker) as late:
        assert late.subscribe(f"$queue/{cursor}") == [1]
        assert late.settle() == []


def test_consumers_of_both_protocols_on_one_cursor(broker, channel, name):
    """AMQP and MQTT compete for the same records: each goes to one of them, and what either gives back to any."""
    topic(broker, name, 2)
    cursor = f"{name}.work"
    declare(channel, cursor, name, x_stream_offset="first")
    by_amqp, stop = {"seen": [], "done": []}, threading.Event()

    def work():
        with pika_channel(broker) as own:
            own.basic_qos(prefetch_count=5)
            for method, _, body in own.consume(cursor, inactivity_timeout=0.2):
                if method is None:
                    if stop.is_set():
                        return
                    continue
                # Every third is given back once; whoever comes next gets it.
                again = int(body) % 3 == 0 and body not in by_amqp["seen"] and not method.redelivered
                by_amqp["seen"].append(body)
                if again:
                    own.basic_nack(method.delivery_tag, requeue=True)
                else:
                    own.basic_ack(method.delivery_tag)
                    by_amqp["done"].append(body)

    worker = threading.Thread(target=work)
    worker.start()
    with Device(broker, ReceiveMaximum=5) as device:
        assert device.subscribe(f"$queue/{cursor}") == [1]
        for batch in range(0, 300, 20):
            produce(broker, name, numbers(20, batch))
        eventually(lambda: len(by_amqp["done"]) + device.messages.qsize() >= 300)
        stop.set()
        worker.join(PATIENCE)
        by_mqtt = device.settle()
    assert by_amqp["done"] and by_mqtt, "both have their part"
    assert sorted(by_amqp["done"] + [it.payload for it in by_mqtt], key=int) == numbers(300)
    given_back = set(by_amqp["seen"]) - set(by_amqp["done"])
    assert given_back <= {it.payload for it in by_mqtt if it.dup}
    assert channel.queue_declare(cursor, passive=True).method.message_count == 0


def test_a_poison_record_is_dead_lettered(broker, channel, name):
    topic(broker, name)
    produce(broker, name, numbers(3))
    dead = channel.queue_declare(f"{name}.dead", durable=True).method.queue
    declare(channel, f"{name}.work", name, x_stream_offset="first", x_delivery_limit=2,
            x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    channel.basic_qos(prefetch_count=1)
    seen = []
    for method, properties, body in channel.consume(f"{name}.work", inactivity_timeout=PATIENCE):
        assert method is not None
        seen.append((body, method.redelivered, (properties.headers or {}).get("x-delivery-count", 0)))
        if body == b"0":
            channel.basic_nack(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)
        if body == b"2":
            break
    channel.cancel()
    assert seen == [(b"0", False, 0), (b"0", True, 1), (b"0", True, 2), (b"1", False, 0), (b"2", False, 0)]
    (letter,) = take(channel, dead, 1)
    death = letter[1].headers["x-death"][0]
    assert (letter[2], death["reason"], death["queue"]) == (b"0", "delivery_limit", f"{name}.work")


def test_replay_over_http(broker, channel, name):
    """POST /api/queues/{vhost}/{name}/reset sends a cursor back: replay for AMQP consumers."""
    topic(broker, name)
    produce(broker, name, numbers(5))
    cursor = f"{name}.work"
    declare(channel, cursor, name, x_stream_offset="first")
    assert [it[2] for it in take(channel, cursor, 5)] == numbers(5)
    management = Management(broker)
    about = management.get("queues", "/", cursor)
    assert (about["type"], about["messages_ready"], about["arguments"]["x-source"]) == ("cursor", 0, name)
    where = f"queues/%2F/{cursor}/reset"
    assert management.ask("POST", where, {"offset": 3})[0] == 204
    assert [it[2] for it in take(channel, cursor, 2)] == numbers(2, 3)
    assert management.ask("POST", where, {"timestamp": 1})[0] == 204
    assert [it[2] for it in take(channel, cursor, 5)] == numbers(5)
    assert management.ask("POST", where, {"offset": "soon"})[0] == 400
    assert management.ask("POST", "queues/%2F/none/reset", {"offset": 3})[0] == 404


def test_a_filter_on_headers_and_keys(broker, channel, name):
    topic(broker, name)
    produce(broker, name, numbers(10))
    declare(channel, f"{name}.even", name, x_stream_offset="first", x_filter={"kind": "even"})
    declare(channel, f"{name}.seven", name, x_stream_offset="first", x_filter={"x-key": "7"})
    assert [it[2] for it in take(channel, f"{name}.even", 5)] == [b"0", b"2", b"4", b"6", b"8"]
    assert [it[2] for it in take(channel, f"{name}.seven", 1)] == [b"7"]
    eventually(lambda: declare(
        channel, f"{name}.even", name, x_stream_offset="first", x_filter={"kind": "even"}).message_count == 0)


def test_aborted_transactions_are_never_delivered(broker, channel, name):
    topic(broker, name)
    declare(channel, f"{name}.work", name)
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions(PATIENCE)
    for value, end in (("a", producer.commit_transaction), ("b", producer.abort_transaction),
                       ("c", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(name, value)
        producer.flush(PATIENCE)
        assert channel.basic_get(f"{name}.work")[0] is None, "while it is open"
        end(PATIENCE)
        if value != "b":
            assert [it[2] for it in take(channel, f"{name}.work", 1)] == [value.encode()]
    assert channel.basic_get(f"{name}.work")[0] is None


@pytest.mark.parametrize("arguments, code", [
    ({"x-queue-type": "cursor"}, 406),
    ({"x-queue-type": "cursor", "x-source": "none-of-this-name"}, 404),
])
def test_what_is_not_a_cursor_is_refused(broker, name, arguments, code):
    with pika_channel(broker) as channel:
        with pytest.raises(ChannelClosedByBroker) as refused:
            channel.queue_declare(name, durable=True, arguments=arguments)
        assert refused.value.reply_code == code


def test_a_cursor_takes_nothing_but_its_log(broker, channel, name):
    topic(broker, name)
    declare(channel, f"{name}.work", name)
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", f"{name}.work", b"no", mandatory=True)
    with pytest.raises(ChannelClosedByBroker) as refused:
        channel.queue_bind(f"{name}.work", "amq.topic", "k")
    assert refused.value.reply_code == 406
    # It goes with its log.
    admin = AdminClient({"bootstrap.servers": broker.kafka})
    admin.delete_topics([name])[name].result(PATIENCE)
    with pika_channel(broker) as other, pytest.raises(ChannelClosedByBroker) as refused:
        other.queue_declare(f"{name}.work", passive=True)
    assert refused.value.reply_code == 404


def consume_until_killed(broker, certain, acknowledged, random_, deliveries):
    """Acknowledges most of what comes, requeues the rest; notes what was acknowledged, and what for certain."""
    # What an earlier life acknowledged last may have been lost with it: a fence makes only this life's certain.
    since_fence = set()
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=20)
        for count, (method, _, body) in enumerate(channel.consume("work", inactivity_timeout=PATIENCE)):
            assert body not in certain, f"{body} was acknowledged for certain"
            if random_.random() < 0.8:
                acknowledged.add(body)
                since_fence.add(body)
                channel.basic_ack(method.delivery_tag)
            else:
                channel.basic_nack(method.delivery_tag, requeue=True)
            if count % 40 == 39:
                # Two answers of the cursor's shard: the batch of the acknowledgements is on its way, and
                # the confirm comes after it.
                for _ in range(2):
                    channel.queue_declare("work", passive=True)
                channel.basic_publish("", "fence", b"", pika.BasicProperties(delivery_mode=2))
                certain |= since_fence
                since_fence.clear()
            if count >= deliveries:
                broker.kill()
                return


def test_kill_under_load(own_broker):
    """What was acknowledged before a later confirm is never seen again, and nothing that was not acknowledged is lost."""
    broker = own_broker()
    topic(broker, "log", 2)
    with pika_channel(broker) as channel:
        declare(channel, "work", "log", x_stream_offset="first", x_delivery_limit=-1)
        channel.queue_declare("fence", durable=True)
    produced, certain, acknowledged, random_ = [], set(), set(), random.Random(7)
    for life in range(4):
        values = numbers(400, life * 400)
        produce(broker, "log", values, acks="all")
        produced += values
        try:
            consume_until_killed(broker, certain, acknowledged, random_, 200 + 50 * life)
        except (pika.exceptions.AMQPError, OSError):
            pass
        broker.start()
    found = set()
    with pika_channel(broker) as channel:
        while (left := channel.basic_get("work", auto_ack=True))[0] is not None:
            assert left[2] not in certain
            assert left[2] not in found, "twice"
            found.add(left[2])
    # Of what was acknowledged after the last fence nobody knows. All else is there, to the last record.
    assert set(produced) - acknowledged <= found
    assert len(certain) >= 4 * 160, "the fences were reached"
