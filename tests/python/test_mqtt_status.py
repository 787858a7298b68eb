"""The broker's own topics, `$SYS/broker/…`, as Mosquitto names them."""

import shutil
import subprocess

import pytest
from paho.mqtt import client as mqtt

from clients import PATIENCE, Device, eventually, pika_channel
from management import Management

MOSQUITTO = {
    "version", "uptime", "clients/total", "clients/inactive", "clients/disconnected", "clients/active",
    "clients/connected", "clients/expired", "clients/maximum", "messages/stored", "messages/received", "messages/sent",
    "store/messages/count", "store/messages/bytes", "subscriptions/count", "shared_subscriptions/count",
    "retained messages/count", "publish/messages/dropped", "publish/messages/received", "publish/messages/sent",
    "publish/bytes/received", "publish/bytes/sent", "bytes/received", "bytes/sent",
} | {
    f"load/{what}/{minutes}min"
    for what in ("messages/received", "messages/sent", "publish/dropped", "publish/received", "publish/sent",
                 "bytes/received", "bytes/sent", "sockets", "connections")
    for minutes in (1, 5, 15)
}  # fmt: skip


@pytest.fixture
def status_broker(own_broker):
    return own_broker(mqtt__sys_interval=1)


class Status(dict):
    """What a subscriber of `$SYS/#` knows, by topic."""

    def __init__(self, device, topic="$SYS/#"):
        super().__init__()
        self.device, self.flags = device, {}
        device.client.subscribe(topic)
        device._acks.get(timeout=PATIENCE)

    def take(self, timeout=PATIENCE):
        message = self.device.messages.get(timeout=timeout)
        name = message.topic.removeprefix("$SYS/broker/")
        self[name] = message.payload.decode()
        self.flags.setdefault(name, message.retain)
        return name

    def expect(self, **wanted):
        """Waits until these values have been told; `__` stands for `/`."""
        wanted = {name.replace("__", "/"): str(value) for name, value in wanted.items()}
        eventually(lambda: wanted.items() <= self.items() or (self.take() and False))


@pytest.mark.parametrize("version", [mqtt.MQTTv311, mqtt.MQTTv5], ids=["3.1.1", "5"])
def test_all_of_mosquittos_topics_are_retained(status_broker, version):
    with Device(status_broker, "watcher", version=version) as device:
        status = Status(device)
        eventually(lambda: MOSQUITTO <= status.keys() or (status.take() and False))
        assert status.keys() == MOSQUITTO
        assert status["version"].startswith("trivium version ")
        assert status["uptime"].endswith(" seconds")
        with Device(status_broker, "late", version=version) as late:
            told = Status(late)
            eventually(lambda: told.take() == "version")
            assert told.flags["version"], "what was published before the subscription is retained"
        # Only what changes is told again. A subscription in the middle of the first time may bring things twice.
        for _ in range(2):
            eventually(lambda: status.take() == "uptime")
        again = []
        while again.count("uptime") < 2:
            again.append(status.take())
        assert "version" not in again and "clients/expired" not in again


def test_values_are_true(status_broker):
    with Device(status_broker, "watcher") as device, Device(status_broker, "other") as other:
        status = Status(device)
        status.expect(clients__connected=2, clients__total=2, clients__maximum=2, subscriptions__count=1)
        away = Device(status_broker, "away", expiry=3600)
        away.client.subscribe([("kept/#", mqtt.SubscribeOptions(qos=1)), ("$share/g/x", mqtt.SubscribeOptions(qos=1))])
        away._acks.get(timeout=PATIENCE)
        status.expect(clients__connected=3, subscriptions__count=2, shared_subscriptions__count=1)
        away.close()
        status.expect(clients__connected=2, clients__disconnected=1, clients__total=3, clients__maximum=3)
        before = int(status["publish/messages/received"]), int(status["publish/bytes/received"])
        for number in range(7):
            other.client.publish("kept/a", b"x" * 10, qos=1).wait_for_publish(PATIENCE)
        other.client.publish("shown", b"y" * 30, qos=1, retain=True).wait_for_publish(PATIENCE)
        status.expect(
            publish__messages__received=before[0] + 8, publish__bytes__received=before[1] + 100,
            store__messages__count=8, messages__stored=8, **{"retained messages__count": 1},
        )  # fmt: skip
        assert int(status["messages/received"]) > int(status["publish/messages/received"])
        assert int(status["publish/messages/sent"]) > len(MOSQUITTO)
        assert int(status["bytes/sent"]) > int(status["publish/bytes/sent"]) > 0
        assert float(status["load/publish/received/1min"]) > 0


def test_a_session_that_expires_is_counted(status_broker):
    Device(status_broker, "short", expiry=1).close()
    with Device(status_broker, "watcher") as device:
        Status(device).expect(clients__expired=1, clients__disconnected=0)


def test_wildcards_do_not_see_them(status_broker):
    with Device(status_broker, "watcher") as device, Device(status_broker, "all") as everything:
        for topic in ("#", "+/broker/uptime", "+/#"):
            everything.client.subscribe(topic)
            everything._acks.get(timeout=PATIENCE)
        status = Status(device, "$SYS/broker/uptime")
        for _ in range(3):
            status.take()
        everything.client.publish("mark", b"")
        assert everything.messages.get(timeout=PATIENCE).topic == "mark"


def test_nobody_else_publishes_there(status_broker):
    name = "$SYS/broker/uptime"
    with Device(status_broker, "watcher") as device, Device(status_broker, "liar") as liar:
        status = Status(device)
        eventually(lambda: status.take() == "version")
        # MQTT 5 is told 0x87, 3.1.1 gets an acknowledgement.
        told = []
        liar.client.on_publish = lambda _c, _u, _mid, reason, _p: told.append(reason)
        liar.client.publish(name, b"a lie", qos=1, retain=True)
        eventually(lambda: told)
        assert told[0].value == 0x87
        with Device(status_broker, "old", version=mqtt.MQTTv311) as old:
            old.client.publish(name, b"a lie", qos=1, retain=True).wait_for_publish(PATIENCE)
        # Nor by another protocol, whatever the way.
        with pika_channel(status_broker) as channel, pytest.raises(Exception) as refusal:
            channel.confirm_delivery()
            channel.basic_publish("amq.topic", "$SYS.broker.uptime", b"a lie")
        assert refusal.value.reply_code == 403
        with pika_channel(status_broker) as channel:
            channel.exchange_declare("liars", "fanout")
            channel.exchange_bind("amq.topic", "liars")
            dead = {"x-dead-letter-exchange": "amq.topic", "x-dead-letter-routing-key": "$SYS.broker.uptime"}
            channel.queue_declare("lies", arguments=dead)
            channel.basic_publish("", "lies", b"a lie")
            method, _, _ = next(channel.consume("lies", inactivity_timeout=PATIENCE))
            channel.basic_nack(method.delivery_tag, requeue=False)
            channel.queue_delete("lies")
        with Device(status_broker, "late") as late:
            assert Status(late, name).take() == "uptime"
        for _ in range(40):
            status.take()
            assert status["uptime"] != "a lie"


def test_a_topic_permission_hides_them(status_broker):
    management = Management(status_broker)
    management.put("users", "tenant", password="secret", tags="")
    management.put("permissions", "/", "tenant", configure=".*", write=".*", read=".*")
    management.put("topic-permissions", "/", "tenant", exchange="amq.topic", write=".*", read="^tenant")
    tenant = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "tenant", protocol=mqtt.MQTTv5)
    tenant.username_pw_set("tenant", "secret")
    answers = []
    tenant.on_connect = lambda client, *_: client.subscribe("$SYS/#")
    tenant.on_subscribe = lambda _c, _u, _mid, reasons, _p: answers.extend(reasons)
    tenant.connect("127.0.0.1", status_broker.port("mqtt"))
    tenant.loop_start()
    try:
        eventually(lambda: answers)
        assert answers[0].value == 0x87
    finally:
        tenant.disconnect()
        tenant.loop_stop()


def test_they_are_gone_with_the_process_and_can_be_switched_off(own_broker):
    broker = own_broker(mqtt__sys_interval=1)
    with Device(broker, "watcher") as device:
        assert Status(device, "$SYS/broker/uptime").take() == "uptime"
    broker.kill()
    broker._settings["mqtt__sys_interval"] = 0
    broker.start()
    with Device(broker, "watcher") as device:
        status = Status(device)
        device.client.subscribe("mark")
        device._acks.get(timeout=PATIENCE)
        device.client.publish("mark", b"")
        assert status.take() == "mark"


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto_sub is not installed")
def test_mosquitto_sub_reads_them(status_broker):
    command = ["mosquitto_sub", "-p", str(status_broker.port("mqtt")), "-t", "$SYS/#", "-C", "10", "-v", "-W", str(PATIENCE)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=2 * PATIENCE).stdout.splitlines()
    assert len(lines) == 10 and all(line.startswith("$SYS/broker/") for line in lines)
