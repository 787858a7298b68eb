"""Captures, taps and retained state over all protocols (DESIGN 3.2, 3.4 and 3.5), by stock clients."""

import time

import pika
import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError
from kafka.partitioner.default import murmur2
from paho.mqtt import client as mqtt

from clients import (
    PATIENCE, Device, bodies, eventually, make_durable, pika_channel, publish_properties, read_topic, take,
)
from management import Management

NOT_AUTHORIZED = 0x87


def create(broker, topic, partitions=1, **settings):
    admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
    settings = {name.replace("_", "."): value for name, value in settings.items()}
    admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=settings)])
    admin.close()


def produce(broker, topic, *records, **settings):
    """Records as dicts of confluent's `produce`; the errors that were reported."""
    producer = Producer({"bootstrap.servers": broker.kafka, **settings})
    errors = []
    for record in records:
        producer.produce(topic, on_delivery=lambda error, _: errors.append(error), **record)
    assert producer.flush(PATIENCE) == 0
    return errors


def test_settings_of_topics_capture_and_address(broker, name):
    """mq.bind, mq.key and mq.route.key as Kafka topic configs, at creation and changed later."""
    log = f"{name}-commands"
    create(broker, log, mq_bind=f"amq.topic:{name}.up.#", mq_key="level(3)", mq_route_key="${key}")
    with Device(broker) as device:
        device.subscribe(f"{name}/down/#")
        device.publish(f"{name}/up/7/temperature", b"21")
        [record] = read_topic(broker, log, 1)
        assert (record.key, record.value) == (b"7", b"21")
        assert produce(broker, log, {"key": f"{name}.down.7", "value": b"on"}) == [None]
        message = device.next()
        assert (message.topic, message.payload) == (f"{name}/down/7", b"on")
        # What was captured is never offered again: it would have come under its key.
        assert device.settle() == []

        admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
        template = {"mq.route.key": f"{name}.down." + "${header.to}.x"}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, log, template)])
        admin.close()
        headers = [("to", b"a.+/#")]
        assert produce(broker, log, {"key": "ignored", "value": b"by header", "headers": headers}) == [None]
        message = device.next()
        # One level, whatever is in the header.
        assert message.topic == f"{name}/down/a.%2B%2F%23/x"


def test_a_delayed_exchange_behind_a_tap(own_broker, name):
    """A record waits as its header says, for queues and not for logs; once, also over kill -9."""
    broker = own_broker()
    later = {"x-delayed-type": "topic"}
    with pika_channel(broker) as channel:
        channel.exchange_declare("later", "x-delayed-message", durable=True, arguments=later)
        channel.queue_declare("q", durable=True)
        channel.queue_bind("q", "later", name)
        channel.queue_declare("captured", durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_bind("captured", "later", "#")
        create(broker, name, mq_tap="later", mq_bind="later:#")
        begun = time.monotonic()
        delayed = {"value": b"late", "headers": [("x-delay", b"700")]}
        # One batch, so that the time of the first does not begin before the second is there.
        assert produce(broker, name, delayed, {"value": b"at once"}, **{"linger.ms": 10_000}) == [None, None]
        [(_, _, first), (_, properties, second)] = take(channel, "q", 2)
        assert (first, second) == (b"at once", b"late")
        assert time.monotonic() - begun >= 0.7
        assert properties.headers["x-delay"] == "700", "as its producer wrote it"
        # What is published there is captured when its time has come; what was tapped never is.
        channel.confirm_delivery()
        channel.basic_publish("later", "x", b"published", pika.BasicProperties(headers={"x-delay": 50}))
        assert [it.value for it in read_topic(broker, "captured", 1)] == [b"published"]
        assert [it.value for it in read_topic(broker, name, 3)] == [b"late", b"at once", b"published"]
        assert produce(broker, name, {"value": b"over a kill", "headers": [("x-delay", b"1500")]}) == [None]
        eventually(lambda: [it["lag"] for it in Management(broker).get("lag") if it["kind"] == "tap" and it["log"] == name] == [0])
    broker.kill()
    broker.start()
    with pika_channel(broker) as channel:
        assert bodies(take(channel, "q", 1)) == [b"over a kill"]
        assert channel.queue_declare("q", passive=True).method.message_count == 0
    assert len(read_topic(broker, name, 4)) == 4


def test_a_publisher_needs_permission_on_what_captures(own_broker, name):
    """DESIGN 3.2 and 3.5: whoever may use amq.topic does not thereby write to every topic of Kafka."""
    broker = own_broker()
    create(broker, "secret")
    create(broker, "open.a")
    management = Management(broker)
    management.put("users", "device", password="secret", tags="")
    management.put("permissions", "/", "device", configure="", write=r"^(amq\.topic|open.*)$", read="")
    device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    device.username_pw_set("device", "secret")
    answers = []
    device.on_publish = lambda _c, _u, _m, reason, _p: answers.append(reason.value)
    device.connect("127.0.0.1", broker.port("mqtt"))
    device.loop_start()
    for topic in ("open/a", "secret", "open/a", "secret"):
        device.publish(topic, topic, qos=1)
    eventually(lambda: len(answers) == 4)
    assert [it >= 0x80 for it in answers] == [False, True, False, True]
    assert answers[1] == NOT_AUTHORIZED
    credentials = pika.PlainCredentials("device", "secret")
    with pika_channel(broker, credentials=credentials) as channel:
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", "open.a", b"by amqp")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            channel.basic_publish("amq.topic", "secret", b"by amqp")
        assert refused.value.reply_code == 403 and "log 'secret'" in refused.value.reply_text
    assert [it.value for it in read_topic(broker, "open.a", 3)] == [b"open/a", b"open/a", b"by amqp"]
    assert produce(broker, "secret", {"value": b"first"}) == [None]
    assert [it.value for it in read_topic(broker, "secret", 1)] == [b"first"]
    assert "trivium_capture_denied_total 3\n" in broker.metrics()
    # A change counts at once.
    management.put("permissions", "/", "device", configure="", write=".*", read="")
    device.publish("secret", "now", qos=1)
    eventually(lambda: len(answers) == 5)
    assert answers[4] < 0x80
    device.disconnect()
    device.loop_stop()


def test_client_identifiers_are_kept_on_request(broker, name):
    """DESIGN 3.4: `mq.client-id` only where it is asked for."""
    create(broker, f"{name}.plain", mq_bind=f"amq.topic:{name}.a")
    create(broker, f"{name}.named", mq_bind=f"amq.topic:{name}.a", mq_client_id="true")
    with Device(broker, f"device-{name}") as device:
        device.publish(f"{name}/a", b"x")
    [plain], [named] = (read_topic(broker, f"{name}.{it}", 1) for it in ("plain", "named"))
    assert named.headers == [*plain.headers, ("mq.client-id", f"device-{name}".encode())]


@pytest.mark.parametrize("setting, value", [
    ("mq.client.id", "maybe"), ("mq.bind", "nothing"), ("mq.bind", "absent-exchange:a"), ("mq.tap", "absent-exchange"),
    ("mq.key", "level(x)"), ("mq.route.key", "${kee}"), ("mq.tap.root.wildcards", "yes"),
    ("mq.tap.max.lag.ms", "-5"), ("mq.retain.map", "true"),
])
def test_wrong_settings_are_refused(broker, name, setting, value):
    with pytest.raises(KafkaError) as refused:
        create(broker, name, **{setting.replace(".", "_"): value})
    said = str(refused.value)
    assert setting in said or value in said or value.split(":")[0] in said


def test_a_stream_of_amqp_and_of_the_api(broker, name):
    """The settings as arguments of queue.declare and in definitions; queue.bind of a stream is a capture."""
    with pika_channel(broker) as channel:
        arguments = {"x-queue-type": "stream", "x-mq.bind": f"amq.topic:{name}.#", "x-mq.tap": "amq.fanout"}
        channel.queue_declare(f"{name}-s", durable=True, arguments=arguments)
        channel.queue_declare(f"{name}-s", durable=True, arguments=arguments)
        heard = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(heard, "amq.fanout")
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", f"{name}.a", b"captured")
        channel.basic_publish("", f"{name}-s", b"direct")
        assert bodies(take(channel, heard, 1)) == [b"direct"]
        assert [record.value for record in read_topic(broker, f"{name}-s", 2)] == [b"captured", b"direct"]

        api = Management(broker)
        plain = {"name": f"{name}-t", "vhost": "/", "durable": True, "auto_delete": False,
                 "arguments": {"x-queue-type": "stream", "x-mq.tap": "amq.fanout"}}
        api.post("definitions", body={"queues": [plain]})
        assert api.get("queues", "/", f"{name}-t")["arguments"]["x-mq.tap"] == "amq.fanout"
        channel.queue_bind(f"{name}-t", "amq.topic", f"{name}.bound")
        channel.basic_publish("amq.topic", f"{name}.bound", b"bound")
        assert [record.value for record in read_topic(broker, f"{name}-t", 1)] == [b"bound"]
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            channel.queue_declare(f"{name}-s", durable=True, arguments={**arguments, "x-mq.tap": "amq.topic"})
        assert refused.value.reply_code == 406


def test_retained_from_anywhere(own_broker, name):
    broker = own_broker()
    def retained():
        with Device(broker) as device:
            device.subscribe(f"{name}/#")
            return {it.topic: it.payload for it in device.settle() if it.retain}

    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        by_amqp = pika.BasicProperties(headers={"x-mqtt-retain": True})
        channel.basic_publish("amq.topic", f"{name}.amqp", b"1", by_amqp)
    create(broker, f"{name}.kafka", mq_retain_compressed="true")
    create(broker, f"{name}.packed")
    sticky = [("mq.retain", b"true")]
    for codec in ["none", "gzip", "lz4"]:
        # Long enough to become shorter; the client sends it as it is otherwise.
        value = codec.encode() * 100
        record = {"value": value, "headers": sticky}
        assert produce(broker, f"{name}.kafka", record, **{"compression.type": codec}) == [None]
        expected = {f"{name}/amqp": b"1", f"{name}/kafka": value}
        eventually(lambda: retained() == expected)
    # Where nobody asks for it, compressed batches are not looked into.
    assert produce(broker, f"{name}.packed", {**record, "value": b"no" * 100}, **{"compression.type": "gzip"}) == [None]
    make_durable(broker)
    broker.kill()
    broker.start()
    assert retained() == expected
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", f"{name}.amqp", b"", by_amqp)
        # Elsewhere it is a header like any other.
        channel.basic_publish("amq.direct", f"{name}.direct", b"no", by_amqp)
        assert produce(broker, f"{name}.kafka", {"value": b"", "headers": sticky}) == [None]
        eventually(lambda: retained() == {})


def test_a_compacted_log_is_the_retained_store(own_broker, name):
    broker = own_broker()
    log = f"{name}-state"
    create(broker, log, cleanup_policy="compact", mq_retain_map="true", mq_bind=f"amq.topic:{name}.#")

    def retained(pattern="#"):
        with Device(broker) as device:
            device.subscribe(f"{name}/{pattern}")
            return {it.topic.split("/", 1)[1]: it.payload for it in device.settle() if it.retain}

    records = [{"key": f"{name}.{n}.state", "value": str(n)} for n in range(20)]
    produce(broker, log, *records, {"key": f"{name}.3.state", "value": None})
    expected = {f"{n}/state": str(n).encode() for n in range(20) if n != 3}
    eventually(lambda: retained() == expected)
    with Device(broker) as device:
        device.publish(f"{name}/4/state", b"by mqtt", retain=True)
        device.publish(f"{name}/5/state", b"", retain=True)
    expected["4/state"] = b"by mqtt"
    del expected["5/state"]
    eventually(lambda: retained() == expected)
    make_durable(broker)
    broker.kill()
    broker.start()
    assert retained() == expected
    assert retained("4/+") == {"4/state": b"by mqtt"}
    newest = {record.key: record.value for record in read_topic(broker, log, 23)}
    assert newest[f"{name}.4.state".encode()] == b"by mqtt"
    assert newest[f"{name}.5.state".encode()] is None


def test_a_log_with_records_becomes_the_retained_store(own_broker, name):
    """What a log has when `mq.retain.map` is set is retained, wherever the process is killed meanwhile."""
    broker = own_broker()
    log = f"{name}-state"
    settings = {"cleanup.policy": "compact", "mq.bind": f"amq.topic:{name}.#"}
    create(broker, log, partitions=3, **settings)
    # As the broker and Java's clients: otherwise a key of a device's would be in another partition.
    java = {"partitioner": "murmur2_random"}
    rounds, keys = 12, 1500
    for number in range(rounds):
        records = [{"key": f"{name}.{key}", "value": f"{number}".rjust(400)} for key in range(keys)]
        assert set(produce(broker, log, *records, **java)) == {None}
    gone = [{"key": f"{name}.{key}", "value": None} for key in range(0, keys, 10)]
    assert set(produce(broker, log, *gone, **java)) == {None}
    newest = f"{rounds - 1}".rjust(400).encode()
    expected = {f"{key}": newest for key in range(keys) if key % 10}

    def alter(**changed):
        admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, log, settings | changed)])
        admin.close()

    def retained():
        with Device(broker) as device:
            device.subscribe(f"{name}/#")
            return {it.topic.split("/", 1)[1]: it.payload for it in device.settle() if it.retain}

    on = {"mq.retain.map": "true"}
    for pause in (0, 0.02, 0.05, 0.1):
        alter(**on)
        time.sleep(pause)
        broker.kill()
        broker.start()
        eventually(lambda: retained() == expected)
        alter(**{"mq.retain.map": "false"})
        # What was retained stays; that it is not the log's any more shows once the log has something else.
        assert produce(broker, log, {"key": f"{name}.1", "value": f"off {pause}"}, **java) == [None]
        with Device(broker) as device:
            for key in list(expected)[2:200]:
                device.publish(f"{name}/{key}", b"", retain=True)
        for key in list(expected)[2:200]:
            del expected[key]
        assert retained() == expected
        expected["1"] = f"off {pause}".encode()
    alter(**on)
    with Device(broker) as device:
        device.publish(f"{name}/late", b"by mqtt", retain=True)
    expected["late"] = b"by mqtt"
    eventually(lambda: retained() == expected)


def test_all_or_nothing_by_size_and_key(broker, name):
    """DESIGN 3.5: where one destination refuses, none gets it, and each protocol says so in its own words."""
    create(broker, f"{name}.small", max_message_bytes="200", mq_bind=f"amq.topic:{name}.#")
    create(broker, f"{name}-keyed", cleanup_policy="compact", mq_bind=f"amq.topic:{name}.#", mq_key="property(id)")
    big, small = b"x" * 300, b"y"
    with pika_channel(broker) as channel, Device(broker) as device:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", f"{name}.#")
        channel.confirm_delivery()
        keyed = pika.BasicProperties(headers={"id": "1"})
        for body, how in [(big, keyed), (small, pika.BasicProperties())]:
            with pytest.raises(pika.exceptions.NackError):
                channel.basic_publish("amq.topic", f"{name}.a", body, how)
        assert refusal(device, f"{name}/a", big, id="1") == 0x97
        assert refusal(device, f"{name}/a", small) == 0x83
        [error] = produce(broker, f"{name}.small", {"value": big})
        assert error.name() == "MSG_SIZE_TOO_LARGE"
        [error] = produce(broker, f"{name}-keyed", {"value": small})
        assert error.name() in ("INVALID_RECORD", "_INVALID_RECORD")
        assert channel.queue_declare(queue, passive=True).method.message_count == 0

        channel.basic_publish("amq.topic", f"{name}.a", small, keyed)
        assert refusal(device, f"{name}/a", small, id="2") == 0
        assert len(take(channel, queue, 2)) == 2
        assert [it.key for it in read_topic(broker, f"{name}-keyed", 2)] == [b"1", b"2"]


def refusal(device, topic, body, **user):
    """The reason code of a PUBACK."""
    codes = []
    device.client.on_publish = lambda _client, _data, _mid, reason, _properties: codes.append(reason.value)
    told = publish_properties(UserProperty=list(user.items())) if user else None
    device.client.publish(topic, body, qos=1, properties=told)
    return eventually(lambda: codes and codes[0:1])[0]


def test_the_tap_is_exactly_once_over_kills(own_broker, name):
    """Every record reaches the queue once, whenever the process is killed."""
    broker = own_broker()
    create(broker, name, partitions=3)
    with pika_channel(broker) as channel:
        channel.queue_declare(f"{name}-q", durable=True)
        channel.queue_bind(f"{name}-q", "amq.topic", name)
    sent = []
    for kill in range(4):
        values = [f"{kill}-{n}" for n in range(3000)]
        records = [{"key": value, "value": value} for value in values]
        assert set(produce(broker, name, *records, **{"linger.ms": 1, "batch.num.messages": 50})) == {None}
        sent += values
        broker.kill()
        broker.start()
    with pika_channel(broker) as channel:
        got = [body.decode() for body in bodies(take(channel, f"{name}-q", len(sent)))]
        assert sorted(got) == sorted(sent)
        assert channel.queue_declare(f"{name}-q", passive=True).method.message_count == 0


def test_what_a_tap_offers_needs_the_permission_of_who_made_it(broker, name):
    """A user who may write to a log but not on every topic cannot reach those by the keys of records."""
    api = Management(broker)
    api.put("users", name, password="secret", tags="")
    api.put("permissions", "/", name, configure=".*", write=".*", read=".*")
    api.put("topic-permissions", "/", name, exchange="amq.topic", write=f"^{name}\\.ok", read=".*")
    with pika_channel(broker, credentials=pika.PlainCredentials(name, "secret")) as channel:
        arguments = {"x-queue-type": "stream", "x-mq.tap": "amq.topic", "x-mq.route.key": "${key}"}
        channel.queue_declare(f"{name}-log", durable=True, arguments=arguments)
    with Device(broker) as device:
        device.subscribe(f"{name}/#")
        produce(broker, f"{name}-log", {"key": f"{name}.secret", "value": b"no"}, {"key": f"{name}.ok", "value": b"yes"})
        assert device.next().payload == b"yes"
        assert device.settle() == []
    assert "trivium_tap_denied_records_total 1" in broker.metrics()


def test_keys_go_where_javas_clients_put_them(broker, name):
    """DESIGN 3.4: captured and directly published records share the partitions of Kafka's producers."""
    create(broker, name, partitions=7, mq_bind=f"amq.topic:{name}.#", mq_tap="off")
    keys = [f"{name}.{it}" for it in ("a", "b.c", "ü", "x%2Ey", "100%", "sensor-7.state")]
    with pika_channel(broker) as channel:
        for key in keys:
            channel.basic_publish("amq.topic", key, b"captured")
            channel.basic_publish("", name, b"direct", pika.BasicProperties(headers={"x-key": key}))
    with Device(broker) as device:
        for topic in ("dev/1", "dev/a.b"):
            device.publish(f"{name}/{topic}", b"captured")
    records = read_topic(broker, name, 2 * len(keys) + 2)
    wrong = [it.key for it in records if it.partition != (murmur2(it.key) & 0x7FFFFFFF) % 7]
    assert wrong == []


def test_logs_that_capture_each_other_hold_each_message_once(broker, name):
    """DESIGN 3.2: no loops, and one copy for each destination however many ways lead there."""
    everything = {"mq_bind": f"amq.topic:{name}.#", "mq_tap": "amq.topic", "mq_tap_root_wildcards": "true"}
    one, two = f"{name}.1", f"{name}.2"
    for log in (one, two):
        create(broker, log, **everything)
    with pika_channel(broker) as channel, Device(broker) as device:
        device.subscribe(f"{name}/#")
        channel.exchange_declare(name, "fanout", auto_delete=True)
        channel.exchange_bind(name, "amq.topic", f"{name}.#")
        channel.queue_bind(one, name)
        produce(broker, one, {"value": b"by Kafka"})
        channel.basic_publish("", two, b"direct")
        channel.basic_publish("amq.topic", f"{name}.x", b"by AMQP")
        assert sorted(it.payload for it in device.take(3)) == [b"by AMQP", b"by Kafka", b"direct"]
        assert device.settle() == []
    assert sorted(it.value for it in read_topic(broker, one, 2)) == [b"by AMQP", b"by Kafka"]
    assert sorted(it.value for it in read_topic(broker, two, 2)) == [b"by AMQP", b"direct"]
    # Nothing has come since, by way of the other.
    for log in (one, two):
        produce(broker, log, {"value": b"last"})
        assert read_topic(broker, log, 3)[-1].value == b"last"
