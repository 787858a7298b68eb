"""A kill -9 at every step of the QoS 2 handshake, in both directions, again and again, by packets (4.3.3 and 4.4.0-1)."""

import struct
import time

import pytest

from clients import Device, pika_channel, take
from mqtt_wire import PUBCOMP, PUBREC, PUBREL, Wire

STEPS = ["PUBLISH", "PUBREC", "PUBREL", "PUBCOMP"]
# So many clients are at the step when the broker is killed, and not all of them equally long.
CLIENTS = [(f"device-{level}-{number}", level) for level in (4, 5) for number in range(4)]
APART = 0.001
KILLS = 3


def kill(broker):
    broker.kill()
    broker.start()


class Publisher:
    """One message at QoS 2, and what is known of it. A kill may come after whatever was sent or heard last."""

    def __init__(self, broker, client_id, level):
        self.broker, self.client_id, self.level, self.attempts = broker, client_id, level, 0
        self.has_pubrec = False
        self.come_back()

    def come_back(self):
        self.wire = Wire(self.broker, self.client_id, level=self.level)

    def go_to(self, step, forgets=False):
        """As far as that packet. Whoever `forgets` has not seen PUBREC before its connection was lost."""
        if not self.has_pubrec or forgets:
            self.wire.publish("once", self.client_id.encode(), 7, dup=self.attempts > 0)
            self.attempts += 1
            if step == "PUBLISH":
                return
            assert self.wire.expect_ack(PUBREC) == 7
            self.has_pubrec = True
        if step == "PUBREC":
            return
        self.wire.ack(PUBREL, 7)
        if step == "PUBREL":
            return
        self.expect_pubcomp()

    def expect_pubcomp(self):
        """The release may have been durable before the kill: then the identifier is not known any more (0x92)."""
        first, body = self.wire.read()
        assert (first, body[:2]) == (PUBCOMP, struct.pack(">H", 7))
        assert body[2:3] in (b"", b"\x00", b"\x92")


@pytest.mark.parametrize("step, forgets", [(it, False) for it in STEPS] + [("PUBREC", True)])
def test_mqtt_4_3_3_what_a_client_publishes_is_there_once(own_broker, step, forgets):
    """A client that has seen PUBREC goes on with PUBREL, any other publishes again with DUP."""
    broker = own_broker()
    with pika_channel(broker) as channel:
        channel.queue_declare("kept", durable=True)
        channel.queue_bind("kept", "amq.topic", "once")
    reader = Wire(broker, "reader")
    reader.subscribe("once", 2)
    reader.close()
    publishers = [Publisher(broker, *it) for it in CLIENTS]
    for _ in range(KILLS):
        for it in publishers:
            it.go_to(step, forgets)
            time.sleep(APART)
        kill(broker)
        for it in publishers:
            it.come_back()
            assert it.wire.present
    for it in publishers:
        it.go_to("PUBCOMP")
        # 4.3.3-12: what comes under the identifier now is another message.
        it.wire.publish("once", b"then " + it.client_id.encode(), 7)
        assert it.wire.expect_ack(PUBREC) == 7
        it.wire.ack(PUBREL, 7)
        assert it.wire.expect_ack(PUBCOMP) == 7
        it.wire.close()
    expected = sorted(before + name.encode() for name, _ in CLIENTS for before in (b"", b"then "))
    with pika_channel(broker) as channel:
        assert sorted(body for _, _, body in take(channel, "kept", len(expected))) == expected
        assert channel.basic_get("kept")[0] is None
    with Device(broker, "reader", clean=False, expiry=3600) as device:
        assert sorted(it.payload for it in device.take(len(expected))) == expected
        assert device.settle() == []


class Subscriber:
    """Gets one message at QoS 2. A kill may come after whatever was sent or heard last."""

    def __init__(self, broker, client_id, level):
        self.broker, self.client_id, self.level = broker, client_id, level
        self.packet_id, self.has_released, self.is_done = None, False, False
        self.wire = Wire(broker, client_id, level=level)
        self.wire.subscribe(f"to/{client_id}", 2)

    def come_back(self):
        self.wire = Wire(self.broker, self.client_id, level=self.level)
        assert self.wire.present

    def go_to(self, step):
        if self.is_done:
            # Its PUBCOMP was sent and may not have been taken: then PUBREL comes again, and nothing else.
            self._see(self.wire.ping())
            return
        self._take(*self.wire.read())
        if self.has_released or step == "PUBLISH":
            return self._complete(step)
        self.wire.ack(PUBREC, self.packet_id)
        if step == "PUBREC":
            return None
        assert self.wire.expect_ack(PUBREL) == self.packet_id
        self.has_released = True
        return self._complete(step)

    def _complete(self, step):
        if step == "PUBCOMP":
            self.wire.ack(PUBCOMP, self.packet_id)
            self.is_done = True

    def _take(self, first, body):
        """PUBLISH the first time; then that with DUP or PUBREL, under the same identifier, and never PUBLISH after PUBREL."""
        if first == PUBREL:
            assert struct.unpack(">H", body[:2])[0] == self.packet_id
            self.has_released = True
            return
        first, topic, packet_id, payload = self.wire.publish_in(first, body)
        assert not self.has_released, "PUBLISH after PUBREL"
        assert (topic, payload) == (f"to/{self.client_id}", b"once")
        if self.packet_id is not None:
            assert packet_id == self.packet_id and first & 8, "sent again as another message"
        self.packet_id = packet_id

    def _see(self, packets):
        for first, body in packets:
            self._take(first, body)
            self.wire.ack(PUBCOMP, self.packet_id)


@pytest.mark.parametrize("step", STEPS)
def test_mqtt_4_4_0_1_what_a_client_gets_comes_once(own_broker, step):
    """PUBLISH comes again until PUBREC was taken, and PUBREL from then on, under the identifier that it had."""
    broker = own_broker()
    subscribers = [Subscriber(broker, *it) for it in CLIENTS]
    with Device(broker) as publisher:
        for it in subscribers:
            publisher.publish(f"to/{it.client_id}", b"once", qos=2)
    for _ in range(KILLS):
        for it in subscribers:
            it.go_to(step)
            time.sleep(APART)
        kill(broker)
        for it in subscribers:
            it.come_back()
    for it in subscribers:
        it.go_to("PUBCOMP")
        assert it.wire.ping() == []
        assert it.is_done
    with Device(broker) as publisher:
        for it in subscribers:
            publisher.publish(f"to/{it.client_id}", b"then", qos=2)
    for it in subscribers:
        first, _, packet_id, payload = it.wire.read_publish()
        assert payload == b"then" and packet_id != it.packet_id and not first & 8
        it.wire.close()
