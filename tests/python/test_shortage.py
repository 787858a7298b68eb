"""Publishers while memory is short, by protocol (DESIGN section 3.5): what is not taken is never acknowledged.

AMQP is in test_amqp_protocol.py.
"""

import socket
import struct

import confluent_kafka
import confluent_kafka.admin
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaStorageError
from paho.mqtt import client as mqtt

from clients import PATIENCE, Device, eventually


@pytest.fixture
def broker(own_broker):
    """Takes nothing until it is started again with another limit."""
    broker = own_broker(memory_limit="1MiB")
    eventually(lambda: any("held back" in line for line in broker.log))
    return broker


def test_kafka_producers_are_told(broker, name):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.kafka})
    admin.create_topics([confluent_kafka.admin.NewTopic(name, 1)])[name].result(PATIENCE)
    producer = KafkaProducer(bootstrap_servers=broker.kafka, retries=0)
    with pytest.raises(KafkaStorageError):
        producer.send(name, b"refused").get(PATIENCE)
    producer.close()
    # librdkafka tries again by itself, and gives up in time.
    heard = []
    patient = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "delivery.timeout.ms": 2000})
    patient.produce(name, b"refused too", on_delivery=lambda error, _: heard.append(error))
    assert patient.flush(PATIENCE) == 0
    assert len(heard) == 1 and heard[0] is not None
    partition = TopicPartition(name, 0)
    consumer = KafkaConsumer(bootstrap_servers=broker.kafka)
    assert consumer.end_offsets([partition]) == {partition: 0}
    consumer.close()


def test_mqtt_5_publishers_are_told(broker, name):
    reasons = []
    with Device(broker, version=mqtt.MQTTv5) as device:
        device.subscribe(f"{name}/#", qos=1)
        device.client.on_publish = lambda *arguments: reasons.append(arguments[3].value)
        device.client.publish(f"{name}/a", b"refused", qos=1)
        eventually(lambda: reasons)
        assert reasons == [0x97]
        # The answer comes behind whatever was on its way.
        device.unsubscribe(f"{name}/#")
        assert device.messages.empty()


def test_mqtt_3_publishers_wait_in_their_sockets(broker, name):
    """Version 3 cannot be told: no PUBACK comes for what was not read, and PINGREQ behind it has no answer."""
    def text(value):
        return struct.pack(">H", len(value)) + value

    connect = text(b"MQTT") + b"\x04\x02\x00\x3c" + text(name.encode())
    publish = text(name.encode()) + b"\x00\x01"
    with socket.create_connection(("127.0.0.1", broker.port("mqtt")), PATIENCE) as peer:
        peer.sendall(bytes([0x10, len(connect)]) + connect)
        assert peer.recv(4) == b"\x20\x02\x00\x00"
        peer.sendall(bytes([0x32, len(publish)]) + publish)
        # What had been read is taken.
        assert peer.recv(4) == b"\x40\x02\x00\x01"
        peer.sendall(b"\xc0\x00")
        peer.settimeout(1)
        with pytest.raises(TimeoutError):
            peer.recv(1)
