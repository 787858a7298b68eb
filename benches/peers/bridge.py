"""A bridge between Apache Kafka and Mosquitto or RabbitMQ, as people write one who have no Trivium.

Nothing is acknowledged on one side before the other has acknowledged it, many at a time. Prints `ready` and runs
until it is killed.
"""

import argparse
import asyncio
import threading

import aio_pika
import confluent_kafka
import pika
from paho.mqtt import client as mqtt

QUEUE, AMQP, KAFKA, MQTT = "bridge", "bridge.load", "bridge.load", "bridge/load"
AT_ONCE = 500


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("source")
    options.add_argument("target")
    for it in ("amqp", "kafka", "mqtt"):
        options.add_argument(f"--{it}")
    options = options.parse_args()
    if options.source == "kafka":
        from_kafka(options)
    else:
        to_kafka(options)


def ready():
    print("ready", flush=True)


def to_kafka(options):
    producer = confluent_kafka.Producer({"bootstrap.servers": options.kafka, "acks": "all", "linger.ms": 5})

    def forward(body, acknowledge):
        producer.produce(KAFKA, body, on_delivery=lambda error, _: error is None and acknowledge())
        producer.poll(0)

    if options.source == "mqtt":
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, manual_ack=True)
        client.on_connect = lambda client, *_: client.subscribe(MQTT, 1)
        client.on_subscribe = lambda *_: ready()
        client.on_message = lambda client, _, it: forward(it.payload, lambda: client.ack(it.mid, it.qos))
        connect_mqtt(client, options)
        threading.Thread(target=client.loop_forever, daemon=True).start()
        while True:
            producer.poll(0.1)
    channel = connect_amqp(options)
    channel.basic_qos(prefetch_count=AT_ONCE)
    ready()
    for method, _, body in channel.consume(QUEUE, inactivity_timeout=0.01):
        if method is None:
            producer.poll(0)
        else:
            forward(body, lambda tag=method.delivery_tag: channel.basic_ack(tag))


def from_kafka(options):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": options.kafka, "group.id": "bridge", "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    })
    assigned = threading.Event()
    consumer.subscribe([KAFKA], on_assign=lambda *_: assigned.set())
    send = to_mqtt(options) if options.target == "mqtt" else to_amqp(options)
    while True:
        records = consumer.consume(AT_ONCE, 0.05)
        if assigned.is_set():
            ready()
            assigned.clear()
        bodies = [it.value() for it in records if it.error() is None]
        if bodies:
            send(bodies)
            consumer.commit(asynchronous=False)


def to_mqtt(options):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(AT_ONCE)
    connect_mqtt(client, options)
    client.loop_start()

    def send(bodies):
        for it in [client.publish(MQTT, body, 1) for body in bodies]:
            it.wait_for_publish()

    return send


def to_amqp(options):
    connect_amqp(options).connection.close()  # for its queue

    async def connect():
        connection = await aio_pika.connect(f"amqp://guest:guest@{options.amqp}/")
        return (await connection.channel()).default_exchange

    loop = asyncio.new_event_loop()
    exchange = loop.run_until_complete(connect())

    async def publish(bodies):
        messages = [aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT) for body in bodies]
        await asyncio.gather(*(exchange.publish(it, QUEUE) for it in messages))

    return lambda bodies: loop.run_until_complete(publish(bodies))


def connect_mqtt(client, options):
    host, port = options.mqtt.rsplit(":", 1)
    client.connect(host, int(port))


def connect_amqp(options):
    host, port = options.amqp.rsplit(":", 1)
    channel = pika.BlockingConnection(pika.ConnectionParameters(host, int(port))).channel()
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_bind(QUEUE, "amq.topic", AMQP)
    return channel


if __name__ == "__main__":
    main()
