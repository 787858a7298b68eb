"""Sessions as paho sees them: QoS 2, what survives a reconnect or a restart, wills, expiry."""

import queue
import threading
import time

import pika
import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes

from clients import PATIENCE, Device, eventually, gauge, make_durable, pika_channel, properties, publish_properties
from mqtt_wire import PUBACK, PUBCOMP, PUBREC, PUBREL, Wire

VERSIONS = [mqtt.MQTTv311, mqtt.MQTTv5]


@pytest.fixture(params=VERSIONS, ids=["3.1.1", "5"])
def version(request):
    return request.param


def until_away(broker, sessions=1):
    """Until the broker has heard that so many clients have gone whose sessions stay."""
    eventually(lambda: gauge(broker, "trivium_sessions_away") == sessions)


def has_expired(broker, client):
    """Whether a session has expired whose interval is a second. Whoever comes before that begins the interval anew."""
    time.sleep(1.2)
    with Device(broker, client, clean=False, expiry=1) as device:
        return not device.flags.session_present


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_qos_2_is_granted_and_delivered(broker, name, version, qos):
    with Device(broker, version=version) as subscriber, Device(broker, version=version) as publisher:
        assert subscriber.subscribe(name, qos=2) == [2]
        for number in range(50):
            publisher.publish(name, b"%d" % number, qos=qos)
        messages = subscriber.take(50)
        assert [it.payload for it in messages] == [b"%d" % it for it in range(50)]
        assert {it.qos for it in messages} == {qos}


@pytest.mark.parametrize("interrupt", ["reconnect", "restart", "kill"])
def test_a_message_published_again_after_an_interruption_is_there_once(own_broker, interrupt):
    broker = own_broker()
    subscriber = Device(broker, "subscriber", clean=False, expiry=3600)
    subscriber.subscribe("t", qos=2)
    subscriber.close()
    wire = Wire(broker, "publisher")
    wire.publish("t", b"once", 7)
    assert wire.expect_ack(PUBREC) == 7
    wire.close()
    if interrupt == "restart":
        broker.restart()
    elif interrupt == "kill":
        broker.kill()
        broker.start()
    wire = Wire(broker, "publisher")
    assert wire.present
    wire.publish("t", b"once", 7, dup=True)
    assert wire.expect_ack(PUBREC) == 7
    wire.ack(PUBREL, 7)
    assert wire.expect_ack(PUBCOMP) == 7
    wire.publish("t", b"another", 7)
    assert wire.expect_ack(PUBREC) == 7
    wire.ack(PUBREL, 7)
    assert wire.expect_ack(PUBCOMP) == 7
    wire.close()
    with Device(broker, "subscriber", clean=False, expiry=3600) as subscriber:
        assert [it.payload for it in subscriber.take(2)] == [b"once", b"another"]
        assert subscriber.settle() == []


@pytest.mark.parametrize("interrupt", ["reconnect", "restart", "kill"])
def test_what_is_in_flight_goes_on_under_its_identifier(own_broker, interrupt):
    """4.4.0-1: PUBLISH again with DUP, PUBREL again, both as they were; nothing that was finished."""
    broker = own_broker()
    wire = Wire(broker, "device")
    wire.subscribe("t/#", 2)
    with Device(broker) as publisher:
        for qos, payload in ((1, b"one"), (2, b"two"), (2, b"three"), (1, b"four"), (2, b"five")):
            publisher.publish(f"t/{payload.decode()}", payload, qos=qos)
    sent = [wire.read_publish() for _ in range(5)]
    assert [it[3] for it in sent] == [b"one", b"two", b"three", b"four", b"five"]
    assert not any(it[0] & 8 for it in sent)
    ids = [it[2] for it in sent]
    assert len(set(ids)) == 5
    wire.ack(PUBREC, ids[1])
    assert wire.expect_ack(PUBREL) == ids[1]
    wire.ack(PUBREC, ids[4])
    assert wire.expect_ack(PUBREL) == ids[4]
    wire.ack(PUBCOMP, ids[4])
    wire.ack(PUBACK, ids[3])
    wire.send(0xC0, b"")
    assert wire.read() == (0xD0, b"")
    wire.close()
    until_away(broker)
    with Device(broker) as publisher:
        publisher.publish("t/six", b"six", qos=1)
    if interrupt == "restart":
        broker.restart()
    elif interrupt == "kill":
        broker.kill()
        broker.start()
    wire = Wire(broker, "device")
    assert wire.present
    assert wire.expect_ack(PUBREL) == ids[1]
    again = [wire.read_publish() for _ in range(3)]
    assert [it[3] for it in again] == [b"one", b"three", b"six"]
    assert [it[2] for it in again[:2]] == [ids[0], ids[2]]
    assert all(it[0] & 8 for it in again[:2])
    assert interrupt == "kill" or not again[2][0] & 8
    assert again[2][2] not in ids
    wire.close()


def test_mqtt_3_3_4_9_receive_maximum_bounds_what_is_under_way(broker, name):
    received = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5, manual_ack=True)
    client.on_message = lambda _c, _u, message: received.put(message)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", broker.port("mqtt"), properties=properties(PacketTypes.CONNECT, ReceiveMaximum=3))
    client.loop_start()
    client.subscribe(name, 1)
    assert subscribed.wait(PATIENCE)
    with Device(broker) as publisher:
        for number in range(10):
            publisher.publish(name, b"%d" % number)
    first = [received.get(timeout=PATIENCE) for _ in range(3)]
    with pytest.raises(queue.Empty):
        received.get(timeout=0.3)
    client.ack(first[1].mid, 1)
    assert received.get(timeout=PATIENCE).payload == b"3"
    with pytest.raises(queue.Empty):
        received.get(timeout=0.3)
    client.disconnect()
    client.loop_stop()


def test_session_present_says_what_is_there(broker, name, version):
    def present(clean, expiry):
        with Device(broker, name, version=version, clean=clean, expiry=expiry) as device:
            return device.flags.session_present

    assert not present(False, 100)
    assert present(False, 100)
    assert not present(True, 100 if version == mqtt.MQTTv5 else 0)
    # 3.1.2-23: a session that ends with its connection is not there any more.
    assert present(False, 100) == (version == mqtt.MQTTv5)
    assert not present(True, 0)
    assert not present(False, 100)
    with Device(broker, name, version=version, clean=True):
        pass


def test_mqtt_3_1_4_3_a_taken_over_session_without_expiry_is_a_new_one(broker, name):
    first = Device(broker, name)
    first.subscribe(name)
    first.client.on_connect = None
    with Device(broker, name, clean=False, expiry=3600) as second:
        assert not second.flags.session_present
        assert first.disconnected().value == 0x8E
        first.client.loop_stop()
    with Device(broker, name, clean=True):
        pass


def test_mqtt_3_1_2_11_2_a_session_expires(broker, name):
    for end in ("at CONNECT", "at DISCONNECT"):
        device = Device(broker, name, clean=True, expiry=1 if end == "at CONNECT" else 3600)
        device.subscribe(name)
        if end == "at DISCONNECT":
            device.client.disconnect(properties=properties(PacketTypes.DISCONNECT, SessionExpiryInterval=1))
            device.client.loop_stop()
        else:
            device.vanish()
        eventually(lambda: has_expired(broker, name))


def test_a_session_expires_while_the_broker_is_down(own_broker):
    broker = own_broker()
    for client, expiry in (("short", 1), ("long", 3600)):
        Device(broker, client, clean=True, expiry=expiry).close()
    broker.stop()
    time.sleep(1.2)  # the interval itself
    broker.start()
    with Device(broker, "short", clean=False, expiry=1) as device:
        # Whoever comes in the moment in which the broker starts may find it still.
        found = device.flags.session_present
    assert not found or eventually(lambda: has_expired(broker, "short"))
    with Device(broker, "long", clean=False, expiry=1) as device:
        assert device.flags.session_present


def delayed_will(broker, name, delay, expiry, **options):
    will = {"topic": f"{name}/will", "payload": b"gone", "qos": 2,
            "properties": properties(PacketTypes.WILLMESSAGE, WillDelayInterval=delay, UserProperty=[("a", "b")])}
    return Device(broker, name, clean=False, expiry=expiry, will=will, **options)


def test_mqtt_3_1_3_9_a_will_waits_and_is_cancelled(broker, name):
    with Device(broker) as watcher:
        watcher.subscribe(f"{name}/#", qos=2)

        def comes_back_in_time():
            gone = delayed_will(broker, name, 2, 60).vanish()
            Device(broker, name, clean=False, expiry=3600).close()
            # The broker cannot have noticed before the socket was closed.
            in_time = time.monotonic() - gone < 2
            if not in_time:
                watcher.next()
            return in_time

        eventually(comes_back_in_time)
        with pytest.raises(queue.Empty):
            watcher.next(within=2.5)
        gone = delayed_will(broker, name, 1, 60).vanish()
        message = watcher.next()
        assert 0.9 < time.monotonic() - gone
        assert (message.payload, message.qos, message.properties.UserProperty) == (b"gone", 2, [("a", "b")])
        # 3.1.3.2.2: no longer than the session.
        delayed_will(broker, name, 3600, 0).vanish()
        assert watcher.next().payload == b"gone"
        delayed_will(broker, name, 3600, 3600).vanish()
        with Device(broker, name, clean=True):
            assert watcher.next().payload == b"gone"


@pytest.mark.parametrize("end", ["restart", "kill"])
def test_a_delayed_will_survives_the_broker(own_broker, end):
    broker = own_broker()
    watcher = Device(broker, "watcher", clean=False, expiry=3600)
    watcher.subscribe("d/#")
    watcher.close()
    delayed_will(broker, "d", 2, 3600).vanish()
    until_away(broker, 2)
    if end == "restart":
        broker.restart()
    else:
        broker.kill()
        broker.start()
    with Device(broker, "watcher", clean=False, expiry=3600) as watcher:
        assert watcher.next().payload == b"gone"
        assert watcher.settle() == []


@pytest.mark.parametrize("version", VERSIONS, ids=["3.1.1", "5"])
def test_mqtt_3_1_2_8_a_will_is_published_when_the_broker_was_killed(own_broker, version):
    """Also that of a session which ends with its connection; once, and not for who has said goodbye."""
    broker = own_broker()
    watcher = Device(broker, "watcher", clean=False, expiry=3600)
    watcher.subscribe("w/#")
    watcher.close()
    devices = [
        Device(broker, name, version=version, will={"topic": f"w/{name}", "payload": b"gone", "qos": 1})
        for name in ("stays", "leaves")
    ]
    devices[1].close()
    eventually(lambda: 'trivium_connections{protocol="mqtt"} 1\n' in broker.metrics())
    make_durable(broker)
    broker.kill()
    devices[0].client.loop_stop()
    broker.start()
    with Device(broker, "watcher", clean=False, expiry=3600) as watcher:
        assert watcher.next().topic == "w/stays"
        assert watcher.settle() == []


def test_mqtt_3_14_4_3_goodbye_drops_the_will(broker, name):
    with Device(broker) as watcher:
        watcher.subscribe(f"{name}/#")
        delayed_will(broker, name, 0, 60).close()
        assert watcher.settle() == []
        with Device(broker, name, clean=True):
            pass
        assert watcher.settle() == []


def test_retained_message_at_qos_2_survives_the_connection(broker, name):
    with Device(broker) as publisher:
        publisher.publish(f"{name}/r", b"kept", qos=2, retain=True,
                          properties=publish_properties(MessageExpiryInterval=100))
    wire = Wire(broker, name)
    wire.subscribe(f"{name}/#", 2)
    first, _, packet_id, payload = wire.read_publish()
    assert (first, payload) == (0x35, b"kept")
    wire.close()
    wire = Wire(broker, name)
    first, _, again, payload = wire.read_publish()
    assert (first, again, payload) == (0x3D, packet_id, b"kept")
    wire.close()
    Wire(broker, name, clean=True).close()


def test_mqtt_4_8_2_a_group_shares_what_matches(broker, name, version):
    members = [Device(broker, version=version) for _ in range(3)]
    for member in members:
        assert member.subscribe(f"$share/g/{name}/+", qos=1) == [1]
    with Device(broker, version=version) as whole, Device(broker, version=version) as publisher:
        whole.subscribe(f"{name}/+")
        for number in range(90):
            publisher.publish(f"{name}/{number % 3}", b"%d" % number)
        assert len(whole.take(90)) == 90
        shares = [[it.payload for it in member.settle()] for member in members]
        assert sorted(int(it) for share in shares for it in share) == list(range(90))
        assert all(len(share) > 10 for share in shares), [len(it) for it in shares]
        # 4.8.2-3: whoever leaves gets nothing more, the others get it all.
        members[0].unsubscribe(f"$share/g/{name}/+")
        members[1].close()
        for number in range(10):
            publisher.publish(f"{name}/0", b"%d" % number)
        assert [it.payload for it in members[2].take(10)] == [b"%d" % it for it in range(10)]
        assert members[0].settle() == []
    for member in (members[0], members[2]):
        member.close()


def test_the_last_member_leaves_and_stays_connected(broker, name):
    with Device(broker) as member:
        member.subscribe(f"$share/{name}/{name}")
        member.publish(name, b"shared")
        assert member.next().payload == b"shared"
        member.unsubscribe(f"$share/{name}/{name}")
        member.subscribe(name)
        member.publish(name, b"alone")
        assert member.next().payload == b"alone"
        member.settle()
        assert member.client.is_connected() and member._disconnects.empty()


@pytest.mark.parametrize("qos", [1, 2])
def test_what_a_member_leaves_behind_is_another_ones(broker, name, qos):
    """QoS 1 that is not acknowledged, and QoS 1 and 2 that was not sent yet, are not lost with a member."""
    holder = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5, manual_ack=True)
    held, subscribed = queue.Queue(), threading.Event()
    holder.on_message = lambda _c, _u, message: held.put(message)
    holder.on_subscribe = lambda *_: subscribed.set()
    holder.connect("127.0.0.1", broker.port("mqtt"), properties=properties(PacketTypes.CONNECT, ReceiveMaximum=2))
    holder.loop_start()
    holder.subscribe(f"$share/g/{name}", qos)
    assert subscribed.wait(PATIENCE)
    with Device(broker) as publisher:
        for number in range(10):
            publisher.publish(name, b"%d" % number, qos=qos)
    kept = {held.get(timeout=PATIENCE).payload for _ in range(2)} if qos == 1 else set()
    with Device(broker) as other:
        other.subscribe(f"$share/g/{name}", qos=qos)
        holder.loop_stop()
        holder._sock_close()
        expected = 10 if qos == 1 else 8
        taken = {it.payload for it in other.take(expected)}
        assert len(taken) == expected and kept <= taken
        assert other.settle() == []


def test_a_group_waits_for_its_persistent_member(own_broker):
    broker = own_broker()
    device = Device(broker, "member", clean=False, expiry=3600)
    device.subscribe("$share/g/jobs/#", qos=2)
    device.close()
    with Device(broker) as publisher:
        for number in range(20):
            publisher.publish("jobs/a", b"%d" % number, qos=1 + number % 2)
    broker.kill()
    broker.start()
    with Device(broker, "member", clean=False, expiry=3600) as device:
        assert device.flags.session_present
        messages = device.take(20)
        assert sorted(int(it.payload) for it in messages) == list(range(20))
        assert {(int(it.payload) % 2, it.qos) for it in messages} == {(0, 1), (1, 2)}
        assert device.settle() == []
    with Device(broker, "member", clean=True):
        pass
    with Device(broker) as publisher, Device(broker) as new:
        publisher.publish("jobs/a", b"for nobody")
        new.subscribe("$share/g/jobs/#")
        assert new.settle() == []


def test_mqtt_3_3_1_no_retained_messages_for_a_group(broker, name):
    with Device(broker) as device:
        device.publish(name, b"kept", retain=True)
        device.subscribe(f"$share/g/{name}")
        assert device.settle() == []
        device.publish(name, b"", retain=True)


def test_members_are_granted_their_own_qos(broker, name):
    with Device(broker) as one, Device(broker) as two, Device(broker) as publisher:
        one.subscribe(f"$share/g/{name}", qos=0)
        two.subscribe(f"$share/g/{name}", qos=2)
        for number in range(20):
            publisher.publish(name, b"%d" % number, qos=2)
        first, second = one.settle(), two.settle()
        assert {it.qos for it in first} == {0} and {it.qos for it in second} == {2}
        assert len(first) + len(second) == 20


@pytest.mark.parametrize("bound, kept", [(10, 10), (0, 25)], ids=["bound", "none"])
def test_a_client_that_is_away_has_a_bound(own_broker, bound, kept):
    """What comes beyond it is dropped; its publisher is acknowledged all the same, as with Mosquitto. 0 is no bound."""
    broker = own_broker(mqtt__session_messages_max=bound)
    device = Device(broker, "away", clean=False, expiry=3600)
    device.subscribe("t", qos=1)
    device.close()
    until_away(broker)
    with Device(broker) as publisher:
        for number in range(25):
            publisher.publish("t", b"%d" % number)
    with Device(broker, "away", clean=False, expiry=3600) as device:
        assert [it.payload for it in device.take(kept)] == [b"%d" % it for it in range(kept)]
        device.publish("t", b"room again")
        assert device.next().payload == b"room again"


def test_a_session_keeps_what_amqp_did_not_call_transient(own_broker):
    """DESIGN 3.3: unset is not false. Most clients of AMQP set no delivery mode, and mean no less by it."""
    broker = own_broker()
    Device(broker, "away", clean=False, expiry=3600).close()
    with Device(broker, "away", clean=False, expiry=3600) as device:
        device.subscribe("orders/#", qos=1)
    with pika_channel(broker) as channel:
        channel.confirm_delivery()
        for body, mode in ((b"unset", None), (b"transient", 1), (b"persistent", 2)):
            channel.basic_publish("amq.topic", "orders.eu", body, pika.BasicProperties(delivery_mode=mode))
    broker.kill()
    broker.start()
    with Device(broker, "away", clean=False, expiry=3600) as device:
        assert [it.payload for it in device.settle()] == [b"unset", b"persistent"]
