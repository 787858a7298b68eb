"""MQTT clients that read logs (`$stream/…`) and queues (`$queue/…`), beside clients of AMQP and Kafka."""

import time

import pika
import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from clients import (
    PATIENCE, Device, bodies, eventually, make_durable, pika_channel, publish_properties, take,
)
from management import Management

FILTER_INVALID, NOT_AUTHORIZED, FAILURE = 0x8F, 0x87, 0x80
ADMINISTRATIVE_ACTION = 0x98


def create_topic(broker, topic, partitions=1, **settings):
    admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
    admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=settings)])
    admin.close()


def produce(broker, topic, values, **options):
    producer = Producer({"bootstrap.servers": broker.kafka})
    for value in values:
        producer.produce(topic, value, **options)
    assert producer.flush(PATIENCE) == 0


def numbers(messages):
    return [int(it.payload) for it in messages]


def users(message):
    return dict(getattr(message.properties, "UserProperty", []))


@pytest.fixture
def log(broker, name):
    topic = f"{name}.log"
    create_topic(broker, topic)
    produce(broker, topic, [b"%d" % it for it in range(10)])
    return topic


@pytest.mark.parametrize("version", [mqtt.MQTTv5, mqtt.MQTTv311])
@pytest.mark.parametrize("start, first", [
    ("?offset=first", 0), ("?offset=earliest", 0), ("?offset=4", 4), ("?offset=next", 10), ("", 10), ("?time=1000", 0),
    ("?time=1970-01-01", 0), ("?offset=1h", 0),
])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_log_is_read_from_where_it_is_told(broker, log, version, start, first, qos):
    with Device(broker, version=version) as device:
        granted = device.subscribe(f"$stream/{log}{start}", qos=qos)
        assert granted == [min(qos, 1)]
        produce(broker, log, [b"10"])
        messages = device.take(11 - first)
        assert numbers(messages) == list(range(first, 11))
        assert {it.topic for it in messages} == {log.replace(".", "/")}
        assert not any(it.retain or it.dup for it in messages)
        assert device.settle() == []


def test_start_in_user_properties(broker, log):
    """5.0: one filter for all, and where to begin beside it; what the filter says itself counts more."""
    with Device(broker) as device:
        start = Properties(PacketTypes.SUBSCRIBE)
        start.UserProperty = ("x-stream-offset", "7")
        device.client.subscribe([(f"$stream/{log}", SubscribeOptions(qos=1))], properties=start)
        assert numbers(device.take(3)) == [7, 8, 9]
    with Device(broker) as device:
        start = Properties(PacketTypes.SUBSCRIBE)
        start.UserProperty = ("x-stream-time", "0")
        device.client.subscribe([(f"$stream/{log}", SubscribeOptions(qos=1))], properties=start)
        assert numbers(device.take(10)) == list(range(10))


def test_all_partitions_each_in_its_order(broker, name):
    create_topic(broker, name, partitions=4)
    for partition in range(4):
        produce(broker, name, [b"%d" % it for it in range(50)], partition=partition, key=b"%d" % partition)
    with Device(broker) as device:
        device.subscribe(f"$stream/{name}?offset=first")
        got = {}
        for message in device.take(200):
            got.setdefault(users(message)["x-key"], []).append(int(message.payload))
    assert got == {str(partition): list(range(50)) for partition in range(4)}


def test_record_arrives_as_it_does_by_the_tap(broker, name):
    """The same properties on both ways."""
    create_topic(broker, name)
    with Device(broker) as tapped, Device(broker) as reader:
        tapped.subscribe(name)
        reader.subscribe(f"$stream/{name}")
        headers = [("a", b"1"), ("content-type", b"text/plain"), ("binary", b"\xff"), ("mq.ttl-ms", b"3600000")]
        produce(broker, name, [b"x"], key=b"k", headers=headers)
        one, other = tapped.next(), reader.next()
        assert (one.topic, one.payload) == (other.topic, other.payload)
        for message in (one, other):
            assert 3000 < message.properties.MessageExpiryInterval <= 3600
            del message.properties.MessageExpiryInterval
        assert one.properties.json() == other.properties.json()
        assert users(other)["x-key"] == "k" and other.properties.ContentType == "text/plain"


def test_expired_record_is_not_sent(broker, name):
    create_topic(broker, name)
    old = int(time.time() * 1000) - 60_000
    produce(broker, name, [b"old"], headers=[("mq.ttl-ms", b"1000")], timestamp=old)
    produce(broker, name, [b"new"])
    with Device(broker) as device:
        device.subscribe(f"$stream/{name}?offset=first")
        assert device.next().payload == b"new"


def test_a_lifetime_in_a_stream_counts_from_the_append(broker, name):
    """A stream's records have the broker's time, whatever time the publisher gives the message, if any."""
    with pika_channel(broker) as channel, Device(broker) as device, Device(broker) as reader:
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_bind(name, "amq.topic", f"{name}.#")
        reader.subscribe(f"$stream/{name}?offset=first")
        device.publish(f"{name}/a", b"by MQTT", properties=publish_properties(MessageExpiryInterval=600))
        old = pika.BasicProperties(expiration="600000", timestamp=1_500_000_000)
        channel.basic_publish("amq.topic", f"{name}.a", b"by AMQP", old)
        got = reader.take(2)
        assert [it.payload for it in got] == [b"by MQTT", b"by AMQP"]
        assert all(0 < it.properties.MessageExpiryInterval <= 600 for it in got)


def test_receive_maximum_bounds_what_a_log_sends(broker, log):
    with Device(broker, manual_ack=True, ReceiveMaximum=3) as device:
        device.subscribe(f"$stream/{log}?offset=first")
        assert numbers(first := device.take(3)) == [0, 1, 2]
        # What is sent at QoS 0 has no part in that, and comes after what was sent before.
        device.subscribe(f"{log}/marker", qos=0)
        device.publish(f"{log}/marker", b"-1", qos=0)
        assert numbers(device.take(1)) == [-1]
        for message in first:
            device.client.ack(message.mid, 1)
        assert numbers(device.take(3)) == [3, 4, 5]


def test_session_goes_on_where_it_has_acknowledged(own_broker, name):
    """A session that lasts keeps its reader and how far it has come, over a restart of the broker too."""
    broker, log = own_broker(), f"{name}.log"
    create_topic(broker, log)
    produce(broker, log, [b"%d" % it for it in range(10)])
    read = f"$stream/{log}?offset=first"
    with Device(broker, name, clean=False, expiry=3600) as device:
        device.subscribe(read)
        assert numbers(device.take(10)) == list(range(10))
    produce(broker, log, [b"10", b"11"])
    broker.restart()
    with Device(broker, name, clean=False, expiry=3600) as device:
        assert numbers(device.take(2)) == [10, 11]
        # As clients do after each connect: the same again goes on, too.
        device.subscribe(read)
        produce(broker, log, [b"12"])
        assert numbers(device.take(1)) == [12]
        # Another start is one.
        device.subscribe(f"$stream/{log}?offset=11")
        assert numbers(device.take(2)) == [11, 12]
        device.unsubscribe(f"$stream/{log}")
        produce(broker, log, [b"13"])
        assert device.settle() == []
    with Device(broker, name, clean=False, expiry=3600) as device:
        assert device.settle() == []
        device.subscribe(read)
        assert numbers(device.take(14)) == list(range(14))


def test_session_goes_on_over_kills(own_broker, name):
    """A lasting session loses nothing of a log, whenever the broker is killed, and does not begin anew."""
    broker = own_broker()
    create_topic(broker, name, 2)
    following, sent = [0, 0], [0, 0]
    device = Device(broker, "reader", clean=False, expiry=3600, ReceiveMaximum=20)
    assert device.subscribe(f"$stream/{name}?offset=first") == [1]

    def more(count):
        for partition in (0, 1):
            produce(broker, name, [b"%d:%d" % (partition, sent[partition] + it) for it in range(count)], partition=partition)
            sent[partition] += count

    def read(message):
        """Each partition in its order, without a gap; what comes again was not known to be acknowledged."""
        partition, number = map(int, message.payload.split(b":"))
        assert number <= following[partition], "a gap"
        following[partition] = max(following[partition], number + 1)
        return number >= settled[partition]

    settled = [0, 0]
    for life in range(4):
        more(150)
        while min(following) < 150 * life + 60:
            assert read(device.next()), "it was acknowledged before something that is durable"
        while not device.messages.empty():
            assert read(device.messages.get())
        sure = list(following)
        # How far it is is known, and then durable.
        known = lambda: [it["position"] for it in Management(broker).get("lag") if it["name"] == "mqtt.reader"]  # noqa: E731
        eventually(lambda: all(at >= least for at, least in zip(known(), sure, strict=True)))
        make_durable(broker)
        more(1)
        broker.kill()
        device.client.loop_stop()
        while not device.messages.empty():
            read(device.messages.get())
        settled = sure
        broker.start()
        device = Device(broker, "reader", clean=False, expiry=3600, ReceiveMaximum=20)
        assert device.flags.session_present
    while following != sent:
        assert read(device.next())
    assert all(read(it) for it in device.settle())
    device.close()


def test_aborted_transactions_are_not_read(broker, name):
    create_topic(broker, name)
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions(PATIENCE)
    with Device(broker) as device:
        device.subscribe(f"$stream/{name}")
        for value, end in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(name, value)
            producer.flush(PATIENCE)
            assert device.settle() == []
            end(PATIENCE)
        assert device.next().payload == b"yes"
        assert device.settle() == []


@pytest.mark.parametrize("version", [mqtt.MQTTv5, mqtt.MQTTv311])
def test_what_cannot_be_read_is_refused(broker, log, name, version):
    refused = FILTER_INVALID if version == mqtt.MQTTv5 else FAILURE
    with pika_channel(broker) as channel, Device(broker, version=version) as device:
        channel.queue_declare(name, auto_delete=True)
        wrong = [
            "$stream/none", f"$stream/{name}", "$stream/__x", f"$stream/{log}?offset=soon", f"$stream/{log}?x=1",
            "$stream/+", "$queue/none", f"$queue/{log}", "$queue/#", "$queue/+",
        ]
        for it in wrong:
            assert device.subscribe(it) == [refused], it
        channel.queue_declare(f"{name}-own", exclusive=True)
        locked = NOT_AUTHORIZED if version == mqtt.MQTTv5 else FAILURE
        assert device.subscribe(f"$queue/{name}-own") == [locked]
        # The others of the packet are granted all the same.
        assert device.subscribe("$queue/none", "a/b", f"$queue/{name}") == [refused, 1, 1]


def test_permissions(own_broker):
    broker = own_broker()
    management = Management(broker)
    management.put("users", "reader", password="secret", tags="")
    management.put("permissions", "/", "reader", configure="", write=r"^amq\.topic$", read="^open")
    with pika_channel(broker) as channel:
        for queue in ("open", "shut"):
            channel.queue_declare(queue)
            channel.queue_declare(f"{queue}-log", durable=True, arguments={"x-queue-type": "stream"})
            # A cursor takes the right to read its log, too.
            cursor = {"x-queue-type": "cursor", "x-source": f"{queue}-log"}
            channel.queue_declare(f"open-view-of-{queue}", durable=True, arguments=cursor)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set("reader", "secret")
    acks, published = [], []
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: acks.extend(it.value for it in reasons)
    client.on_publish = lambda _c, _u, _m, reason, _p: published.append(reason.value)
    client.connect("127.0.0.1", broker.port("mqtt"))
    client.loop_start()
    filters = ("$queue/open", "$queue/shut", "$queue/shut-none", "$stream/open-log", "$stream/shut-log", "$stream/shut")
    filters += ("$queue/open-view-of-open", "$queue/open-view-of-shut")
    client.subscribe([(it, SubscribeOptions(qos=1)) for it in filters])
    eventually(lambda: len(acks) == 8)
    assert acks == [1, 0x87, 0x87, 1, 0x87, 0x87, 1, 0x87]
    # Publishing needs the right to write on the default exchange, as in AMQP.
    client.publish("$queue/open", b"x", qos=1)
    eventually(lambda: published)
    assert published == [NOT_AUTHORIZED]
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def queue(broker, name):
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        channel.queue_declare(name, durable=True)
        yield channel
        channel.queue_delete(name)


def depth(channel, name):
    return channel.queue_declare(name, passive=True).method.message_count


@pytest.mark.parametrize("version", [mqtt.MQTTv5, mqtt.MQTTv311])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_queue_is_emptied(broker, queue, name, version, qos):
    for number in range(100):
        queue.basic_publish("", name, b"%d" % number, pika.BasicProperties(delivery_mode=2))
    with Device(broker, version=version) as device:
        assert device.subscribe(f"$queue/{name}", qos=qos) == [qos]
        messages = device.take(100)
        assert numbers(messages) == list(range(100))
        assert {(it.topic, it.qos) for it in messages} == {(name, qos)}
        assert device.settle() == []
    assert depth(queue, name) == 0


def test_consumers_of_all_protocols_compete(broker, queue, name):
    got = []
    with Device(broker) as one, Device(broker, version=mqtt.MQTTv311) as other:
        one.subscribe(f"$queue/{name}")
        other.subscribe(f"$queue/{name}")
        queue.basic_consume(name, lambda _c, _m, _p, body: got.append(body), auto_ack=True)
        for number in range(300):
            queue.basic_publish("", name, b"%d" % number)

        def all_have_come():
            queue.connection.process_data_events(0.05)
            return one.messages.qsize() + other.messages.qsize() + len(got) == 300

        eventually(all_have_come)
        shares = [[it.payload for it in device.take(device.messages.qsize())] for device in (one, other)] + [got]
    assert all(shares)
    assert sorted(int(body) for share in shares for body in share) == list(range(300))


def test_what_is_not_acknowledged_comes_back(broker, queue, name):
    queue.basic_publish("", name, b"x")
    device = Device(broker, manual_ack=True)
    device.subscribe(f"$queue/{name}")
    assert (first := device.next()).payload == b"x" and not first.dup
    device.vanish()
    [(method, _, body)] = take(queue, name, 1, auto_ack=False)
    assert (body, method.redelivered) == (b"x", True)
    queue.basic_nack(method.delivery_tag, requeue=True)
    with Device(broker) as device:
        device.subscribe(f"$queue/{name}")
        again = device.next()
        assert (again.payload, again.dup) == (b"x", True)
        assert device.settle() == []
    assert depth(queue, name) == 0


def test_session_consumes_while_it_is_connected(own_broker, name):
    broker = own_broker()
    persistent = pika.BasicProperties(delivery_mode=2)
    with pika_channel(broker) as channel, Device(broker, name, clean=False, expiry=3600) as device:
        channel.queue_declare(name, durable=True)
        device.subscribe(f"$queue/{name}")
        channel.basic_publish("", name, b"0")
        assert device.next().payload == b"0"
    with pika_channel(broker) as channel:
        channel.basic_publish("", name, b"1", persistent)
        # What the broker sends before it has heard of the goodbye comes back.
        eventually(lambda: depth(channel, name) == 1)
    broker.restart()
    with Device(broker, name, clean=False, expiry=3600) as device:
        assert device.next().payload == b"1"
        device.unsubscribe(f"$queue/{name}")
    with pika_channel(broker) as channel, Device(broker, name, clean=False) as device:
        channel.basic_publish("", name, b"2", persistent)
        assert device.settle() == []
        assert bodies(take(channel, name, 1)) == [b"2"]


def test_properties_of_a_queues_message(broker, queue, name):
    properties = pika.BasicProperties(
        content_type="text/plain", correlation_id="c", reply_to="answers", headers={"a": 1}, expiration="3600000",
    )
    queue.exchange_declare(f"{name}-all", "fanout", auto_delete=True)
    queue.queue_bind(name, f"{name}-all")
    with Device(broker) as device:
        device.subscribe(f"$queue/{name}")
        queue.basic_publish(f"{name}-all", "", b"x", properties)
        message = device.next()
    # It has no routing key, and a topic is never empty.
    assert message.topic == f"$queue/{name}"
    assert message.properties.ContentType == "text/plain"
    assert message.properties.CorrelationData == b"c"
    assert message.properties.ResponseTopic == "$queue/answers"
    assert users(message)["a"] == "1"
    assert 0 < message.properties.MessageExpiryInterval <= 3600


def test_message_over_the_clients_maximum_is_dead_lettered(broker, name):
    with pika_channel(broker) as channel:
        dead = channel.queue_declare("", exclusive=True).method.queue
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        channel.queue_declare(name, arguments=arguments, auto_delete=True)
        with Device(broker, MaximumPacketSize=1000) as device:
            device.subscribe(f"$queue/{name}")
            channel.basic_publish("", name, bytes(2000))
            channel.basic_publish("", name, b"small")
            assert device.next().payload == b"small"
            [(_, properties, body)] = take(channel, dead, 1)
        assert body == bytes(2000)
        assert properties.headers["x-death"][0]["reason"] == "rejected"


@pytest.mark.parametrize("kind", ["queue", "stream"])
def test_deleted_while_it_is_read(broker, name, kind):
    """There is no way to end a subscription from this side: the client is told to come again, and then what is wrong."""
    arguments = {"x-queue-type": "stream"} if kind == "stream" else {}
    with pika_channel(broker) as channel:
        channel.queue_declare(name, durable=True, arguments=arguments)
        with Device(broker, name, clean=False, expiry=3600) as device:
            assert device.subscribe(f"${kind}/{name}") == [1]
            channel.queue_delete(name)
            assert device.disconnected().value == ADMINISTRATIVE_ACTION
        with Device(broker, name, clean=True) as device:
            assert device.subscribe(f"${kind}/{name}") == [FILTER_INVALID]


def test_publish_to_a_queue(broker, queue, name):
    for version in (mqtt.MQTTv5, mqtt.MQTTv311):
        with Device(broker, version=version) as device:
            for qos in (0, 1, 2):
                device.publish(f"$queue/{name}", b"%d" % qos, qos=qos)
            messages = take(queue, name, 3)
            assert bodies(messages) == [b"0", b"1", b"2"]
            assert {(it.exchange, it.routing_key) for it, _, _ in messages} == {("", name)}
