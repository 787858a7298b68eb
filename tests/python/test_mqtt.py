"""MQTT 3.1.1 and 5 as paho speaks them."""

import queue

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import MQTTProtocolVersion

from clients import PATIENCE, Device, publish_properties

VERSIONS = [mqtt.MQTTv311, mqtt.MQTTv5]


@pytest.fixture(params=VERSIONS, ids=["3.1.1", "5"])
def version(request):
    return request.param


@pytest.mark.parametrize("qos", [0, 1])
def test_publish_and_subscribe(broker, name, version, qos):
    with Device(broker, version=version) as subscriber, Device(broker, version=version) as publisher:
        assert subscriber.subscribe(name, qos=qos) == [qos]
        for number in range(100):
            publisher.publish(name, b"%d" % number, qos=1)
        messages = subscriber.take(100)
        assert [it.payload for it in messages] == [b"%d" % it for it in range(100)]
        assert {(it.topic, it.qos, it.retain) for it in messages} == {(name, qos, False)}
        publisher.publish(name, b"lower", qos=0)
        assert (message := subscriber.next()).payload == b"lower" and message.qos == 0
        subscriber.unsubscribe(name)
        publisher.publish(name, b"unseen")
        assert subscriber.settle() == []


@pytest.mark.parametrize("pattern, hits, misses", [
    ("+/x", ["a/x", "/x"], ["a/b/x", "x"]),
    ("a/#", ["a", "a/b", "a/b/c"], ["b", "ab"]),
    ("a/+/c", ["a/b/c", "a//c"], ["a/c", "a/b/c/d"]),
    ("+", ["a"], ["/a", "a/"]),
    ("/+", ["/a"], ["a"]),
])
def test_wildcards(broker, name, version, pattern, hits, misses):
    with Device(broker, version=version) as device:
        device.subscribe(f"{name}/{pattern}")
        for topic in [*misses, *hits]:
            device.publish(f"{name}/{topic}", b"x")
        assert [it.topic for it in device.take(len(hits))] == [f"{name}/{it}" for it in hits]
        assert device.settle() == []


def test_topics_keep_every_character(broker, name, version):
    topics = [f"{name}/a.b/c*d/e%2Ef/ü 😀", f"/{name}//", f"{name}/" + "x" * 400]
    with Device(broker, version=version) as device:
        device.subscribe(f"{name}/#", f"/{name}/#")
        for topic in topics:
            device.publish(topic, b"x")
        assert [it.topic for it in device.take(3)] == topics


def test_dollar_topics_are_the_brokers_own(broker, name, version):
    """Acknowledged (in version 5 as not authorized), and nothing is published."""
    with Device(broker, version=version) as device:
        reasons = queue.Queue()
        device.client.on_publish = lambda _c, _u, _mid, reason, _p: reasons.put(reason.value)
        device.subscribe(f"+/{name}", f"$SYS/{name}")
        device.publish(f"$SYS/{name}", b"x")
        assert reasons.get(timeout=PATIENCE) == (0x87 if version == mqtt.MQTTv5 else 0)
        assert device.settle() == []


def test_retained_message(broker, name, version):
    with Device(broker, version=version) as publisher:
        publisher.publish(f"{name}/a", b"old", retain=True)
        publisher.publish(f"{name}/a", b"new", retain=True)
        publisher.publish(f"{name}/b", b"b", retain=True)
    with Device(broker, version=version) as subscriber:
        subscriber.subscribe(f"{name}/+")
        messages = {it.topic: it for it in subscriber.take(2)}
        assert {topic: it.payload for topic, it in messages.items()} == {f"{name}/a": b"new", f"{name}/b": b"b"}
        assert all(it.retain for it in messages.values())
        subscriber.publish(f"{name}/a", b"", retain=True)
        assert subscriber.next().payload == b""
    with Device(broker, version=version) as late:
        late.subscribe(f"{name}/+")
        assert late.next().topic == f"{name}/b"
        assert late.settle() == []


@pytest.mark.parametrize("clean_end", [True, False])
def test_will(broker, name, version, clean_end):
    will = {"topic": f"{name}/will", "payload": b"gone", "qos": 1}
    with Device(broker, version=version) as watcher:
        watcher.subscribe(f"{name}/#")
        device = Device(broker, name, version=version, will=will)
        if clean_end:
            device.close()
            assert watcher.settle() == []
        else:
            device.vanish()
            assert watcher.next().payload == b"gone"


def test_silence_ends_a_connection(broker, name, version):
    """One and a half times the keep alive without a packet, and the will is published."""
    will = {"topic": name, "payload": b"silent", "qos": 1}
    with Device(broker, version=version) as watcher:
        watcher.subscribe(name)
        device = Device(broker, name + "-silent", version=version, keepalive=1, will=will)
        device.client._check_keepalive = lambda: None
        device.client.reconnect_delay_set(60, 60)
        assert watcher.next().payload == b"silent"
        device.client.loop_stop()


def test_keep_alive_keeps_a_connection(broker, name, version):
    with Device(broker, version=version, keepalive=4) as device, Device(broker, version=version) as other:
        device.subscribe(name)
        with pytest.raises(queue.Empty):
            device.next(within=7)
        other.publish(name, b"still there")
        assert device.next().payload == b"still there"
        assert device._disconnects.empty()


def test_session_keeps_messages_over_a_restart(own_broker, version):
    broker = own_broker()
    device = Device(broker, "device", version=version, clean=False, expiry=3600)
    assert not device.flags.session_present
    device.subscribe("work/#")
    device.close()
    with Device(broker, version=version) as publisher:
        for number in range(50):
            publisher.publish("work/a", b"%d" % number)
        publisher.publish("config", b"kept", retain=True)
    broker.restart()
    with Device(broker, "device", version=version, clean=False, expiry=3600) as device:
        assert device.flags.session_present
        assert [it.payload for it in device.take(50)] == [b"%d" % it for it in range(50)]
        device.publish("work/b", b"still subscribed")
        assert device.next().payload == b"still subscribed"
        device.subscribe("config")
        assert (message := device.next()).payload == b"kept" and message.retain
    with Device(broker, "device", version=version, clean=True) as device:
        assert not device.flags.session_present
        device.publish("work/c", b"unseen")
        assert device.settle() == []


def test_unacknowledged_message_comes_again(broker, name, version):
    first = Device(broker, name, version=version, clean=False, expiry=3600, manual_ack=True)
    first.subscribe(name)
    first.publish(name, b"again")
    assert not first.next().dup
    first.vanish()
    with Device(broker, name, version=version, clean=False, expiry=3600) as second:
        message = second.next()
        assert (message.payload, message.dup) == (b"again", True)
    with Device(broker, name, version=version, clean=True):
        pass


def test_takeover(broker, name, version):
    first = Device(broker, name, version=version)
    first.client.on_connect = None
    with Device(broker, name, version=version) as second:
        reason = first.disconnected()
        if version == mqtt.MQTTv5:
            assert reason.value == 0x8E
        first.client.loop_stop()
        second.subscribe(name)
        second.publish(name, b"mine")
        assert second.next().payload == b"mine"


def test_properties_of_version_5(broker, name):
    users = [("b", "2"), ("a", "1"), ("b", "3"), ("", "")]
    sent = publish_properties(
        UserProperty=users, ContentType="text/plain", ResponseTopic="answers/1", CorrelationData=b"\x00\xff",
        PayloadFormatIndicator=1, MessageExpiryInterval=600,
    )
    with Device(broker) as device:
        device.subscribe(name)
        device.publish(name, "ü".encode(), properties=sent)
        received = device.next().properties
    assert received.UserProperty == users
    assert (received.ContentType, received.ResponseTopic, received.CorrelationData) == ("text/plain", "answers/1", b"\x00\xff")
    assert received.PayloadFormatIndicator == 1
    assert 500 <= received.MessageExpiryInterval <= 600


def test_expired_message_is_not_delivered(broker, name):
    device = Device(broker, name, clean=False, expiry=3600)
    device.subscribe(name, name + "/end")
    device.close()
    with Device(broker) as publisher, Device(broker) as clock:
        clock.subscribe(name + "/clock")
        publisher.publish(name, b"short", properties=publish_properties(MessageExpiryInterval=1))
        publisher.publish(name, b"long", properties=publish_properties(MessageExpiryInterval=100))
        with pytest.raises(queue.Empty):
            clock.next(within=1.5)
    with Device(broker, name, clean=False) as device:
        assert device.next().payload == b"long"
        assert device.settle() == []


def test_request_and_response(broker, name):
    with Device(broker) as server, Device(broker) as client:
        server.subscribe(f"{name}/service")
        client.subscribe(f"{name}/replies")
        request = publish_properties(ResponseTopic=f"{name}/replies", CorrelationData=b"7")
        client.publish(f"{name}/service", b"ping", properties=request)
        asked = server.next()
        answer = publish_properties(CorrelationData=asked.properties.CorrelationData)
        server.publish(asked.properties.ResponseTopic, asked.payload[::-1], properties=answer)
        reply = client.next()
        assert (reply.payload, reply.properties.CorrelationData) == (b"gnip", b"7")


def test_subscription_options(broker, name):
    with Device(broker) as device, Device(broker) as other:
        device.subscribe(name, noLocal=True, retainAsPublished=True)
        device.publish(name, b"own")
        other.publish(name, b"other", retain=True)
        message = device.next()
        assert (message.payload, message.retain) == (b"other", True)
        assert device.settle() == []


@pytest.mark.parametrize("size", [0, 127, 128, 16_384, 1_000_000])
def test_payloads_of_every_size(broker, name, version, size):
    with Device(broker, version=version) as device:
        device.subscribe(name)
        device.publish(name, payload := b"x" * size)
        assert device.next().payload == payload


def test_versions_talk_to_each_other(broker, name):
    with Device(broker, version=MQTTProtocolVersion.MQTTv311) as old, Device(broker) as new:
        old.subscribe(name)
        new.subscribe(name)
        new.publish(name, b"x", properties=publish_properties(UserProperty=[("a", "1")]))
        assert (old.next().payload, new.next().properties.UserProperty) == (b"x", [("a", "1")])
