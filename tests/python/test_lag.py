"""One view of offsets and lag: groups of all protocols, taps and sessions, over HTTP and in the metrics."""

import re

import confluent_kafka
import pytest
from paho.mqtt import client as mqtt

from clients import PATIENCE, Device, eventually, pika_channel, take
from management import Management
from test_amqp_streams import declare, fill
from test_following import Reader
from test_interop_kafka_group_admin import create, produce


def readers(broker, name, user="guest", password="guest"):
    status, found = Management(broker, user, password).ask("GET", "lag")
    assert status == 200, found
    return [it for it in found if it.get("log") == name or it["name"] == name]


def series(broker, metric, **labels):
    """The values of the series of a metric that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in broker.metrics().splitlines() if line.startswith(metric + "{")]
    return [float(line.rsplit(" ", 1)[1]) for line in lines if all(it in line for it in wanted)]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_kafka_group(broker, name, protocol):
    create(broker, name)
    produce(broker, name, [str(number) for number in range(10)])
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": name, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "group.protocol": protocol,
    })
    consumer.subscribe([name])
    seen = []
    eventually(lambda: seen.extend(consumer.consume(10, 0.2)) or len(seen) == 10)
    consumer.commit(message=seen[6], asynchronous=False)
    [group] = [it for it in readers(broker, name) if it["kind"] != "tap"]
    age = group.pop("lag_ms")
    assert 0 <= age < 60_000
    assert group == {
        "vhost": "/", "name": name, "kind": protocol, "protocol": "kafka", "state": "Stable", "members": 1,
        "log": name, "partition": 0, "position": 7, "log_start": 0, "log_end": 10, "lag": 3,
    }
    assert series(broker, "trivium_group_lag", group=name, log=name, partition="0", vhost="/") == [3]
    assert series(broker, "trivium_group_offset", group=name) == [7]
    assert series(broker, "trivium_group_members", group=name) == [1]
    consumer.close()
    eventually(lambda: (it := readers(broker, name)) and it[0]["members"] == 0 and it[0]["protocol"] is None)
    found = Management(broker).get("lag", "/", name)
    assert [it["lag"] for it in found] == [3]


def test_an_amqp_consumer_of_a_stream(broker, name):
    with pika_channel(broker) as channel:
        declare(channel, name)
        fill(channel, name, 10)
    reader = Reader(broker, name, x_group=name, x_stream_offset="first")
    reader.read(10)
    reader.ack(4)
    [group] = readers(broker, name)
    assert (group["kind"], group["protocol"], group["state"], group["lag"]) == ("stream", "amqp", "Stable", 6)
    assert series(broker, "trivium_group_lag", group=name, kind="stream") == [6]
    reader.ack(10)
    [group] = readers(broker, name)
    assert (group["lag"], group["lag_ms"]) == (0, 0)
    reader.close()


def test_an_mqtt_reader_of_a_log(broker, name):
    create(broker, name)
    produce(broker, name, [str(number) for number in range(10)])
    client, group = f"{name}-reader", f"mqtt.{name}-reader"
    with Device(broker, client, clean=True, expiry=3600) as device:
        device.subscribe(f"$stream/{name}?offset=first", qos=1)
        eventually(lambda: [it["lag"] for it in readers(broker, group)] == [0])
        [found] = readers(broker, group)
        assert (found["kind"], found["protocol"], found["members"], found["position"]) == ("stream", "mqtt", 1, 10)
        assert series(broker, "trivium_group_offset", group=group, kind="stream", log=name) == [10]
    produce(broker, name, ["10", "11", "12"])
    eventually(lambda: [(it["lag"], it["members"]) for it in readers(broker, group)] == [(3, 0)])
    as_kafka_sees_it = confluent_kafka.Consumer({"bootstrap.servers": broker.kafka, "group.id": group})
    [committed] = as_kafka_sees_it.committed([confluent_kafka.TopicPartition(name, 0)], PATIENCE)
    as_kafka_sees_it.close()
    assert committed.offset == 10


def test_a_cursor(broker, name):
    create(broker, name)
    produce(broker, name, [str(number) for number in range(10)])
    with pika_channel(broker) as channel:
        channel.queue_declare(f"{name}-q", durable=True, arguments={
            "x-queue-type": "cursor", "x-source": name, "x-stream-offset": "first",
        })
        taken = take(channel, f"{name}-q", 6, auto_ack=False)
        for number in (0, 1, 3, 5):
            channel.basic_ack(taken[number][0].delivery_tag)
        channel.queue_declare(f"{name}-q", passive=True)
        [cursor] = [it for it in readers(broker, name) if it["kind"] == "cursor"]
        assert (cursor["name"], cursor["position"], cursor["log_end"], cursor["lag"]) == (f"{name}-q", 2, 10, 6)
        assert series(broker, "trivium_group_lag", group=f"{name}-q", kind="cursor", log=name) == [6]
        channel.queue_delete(f"{name}-q")


def test_a_tap_and_a_session(broker, name):
    create(broker, name)
    with pika_channel(broker) as channel:
        channel.queue_declare(f"{name}-q", exclusive=True)
        channel.queue_bind(f"{name}-q", "amq.topic", name)
        produce(broker, name, ["a", "b", "c"])

        def tapped():
            return [it for it in readers(broker, name) if it["kind"] == "tap" and it["position"] == 3]

        [tap] = eventually(tapped)
        assert (tap["name"], tap["log"], tap["lag"], tap["log_end"]) == ("amq.topic", name, 0, 3)
        assert series(broker, "trivium_tap_lag", log=name, exchange="amq.topic") == [0]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
    client.connect("127.0.0.1", broker.port("mqtt"))
    subscribed = []
    client.on_subscribe = lambda *_: subscribed.append(True)
    client.subscribe(f"{name}/x", 1)
    eventually(lambda: client.loop(0.1) or subscribed)
    client.disconnect()
    client.loop(0.1)

    def put():
        with pika_channel(broker) as channel:
            channel.confirm_delivery()
            channel.basic_publish("amq.topic", f"{name}.x", b"waits")
        found = [it for it in readers(broker, name) if it["kind"] == "session"]
        return found and found[0]["members"] == 0 and found

    [session] = eventually(put)
    assert session["protocol"] == "mqtt" and session["lag"] >= 1 and "log" not in session


def test_users_of_management_see_their_vhosts_and_others_nothing(broker, name):
    management = Management(broker)
    management.put("vhosts", name)
    with pika_channel(broker) as channel:
        declare(channel, name)
        fill(channel, name, 1)
    reader = Reader(broker, name, x_group=name, x_stream_offset="first")
    reader.read(1)
    management.put("users", name, password="secret", tags="management")
    assert readers(broker, name, name, "secret") == []
    assert Management(broker, name, "secret").ask("GET", "lag/%2F")[1] == []
    management.put("permissions", "/", name, configure="", write="", read="")
    assert [it["lag"] for it in readers(broker, name, name, "secret")] == [1]
    assert Management(broker).ask("GET", f"lag/%2F/{name}-none")[0] == 404
    assert Management(broker).ask("GET", f"lag/{name}-none")[0] == 404
    management.put("users", name, password="secret", tags="")
    assert Management(broker, name, "secret").ask("GET", "lag")[0] == 401
    reader.close()
    management.delete("users", name)
    management.delete("vhosts", name)


def test_a_scrape_is_valid(broker):
    for line in broker.metrics().splitlines():
        assert re.fullmatch(r'#.*|[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [-+0-9.e]+', line), line
