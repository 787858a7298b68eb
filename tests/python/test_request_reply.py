"""Request and reply between every two protocols, by stock clients that know nothing of each other."""

import threading

import pika
import pytest
from confluent_kafka import Consumer, Producer
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from paho.mqtt import client as mqtt

from clients import PATIENCE, Device, pika_channel, publish_properties

CORRELATION = b"c-1"


def create_topics(broker, *topics):
    admin = KafkaAdminClient(bootstrap_servers=broker.kafka)
    admin.create_topics([NewTopic(topic, 1, 1) for topic in topics])
    admin.close()


def produce(broker, topic, value, headers):
    producer = Producer({"bootstrap.servers": broker.kafka})
    producer.produce(topic, value, headers=[(name, header) for name, header in headers if header is not None])
    assert producer.flush(PATIENCE) == 0


def next_record(broker, topic):
    consumer = Consumer({
        "bootstrap.servers": broker.kafka, "group.id": f"of-{topic}", "auto.offset.reset": "earliest",
    })
    try:
        consumer.subscribe([topic])
        record = consumer.poll(PATIENCE)
        assert record is not None and record.error() is None
        return record.value(), dict(record.headers() or [])
    finally:
        consumer.close()


class Names:
    """Where requests go and where each kind of requester is answered."""

    def __init__(self, name):
        self.requests, self.answers = f"{name}.requests", f"{name}.answers"
        self.requests_topic, self.answers_topic = f"{name}/requests", f"{name}/answers"


# Responders: each is the tutorial's of its client, takes one request and answers where that says.


def amqp_responder(broker, names, ready):
    with pika_channel(broker) as channel:
        channel.queue_declare(f"{names.requests}-rpc", auto_delete=True)
        channel.queue_bind(f"{names.requests}-rpc", "amq.topic", names.requests)

        def on_request(channel, method, properties, body):
            channel.basic_publish(
                exchange="", routing_key=properties.reply_to,
                properties=pika.BasicProperties(correlation_id=properties.correlation_id), body=body[::-1],
            )
            channel.basic_ack(method.delivery_tag)
            channel.stop_consuming()

        channel.basic_consume(f"{names.requests}-rpc", on_request)
        ready.set()
        channel.connection.call_later(PATIENCE, channel.stop_consuming)
        channel.start_consuming()


def mqtt_responder(broker, names, ready):
    with Device(broker) as device:
        device.subscribe(names.requests_topic)
        ready.set()
        request = device.next()
        answer = publish_properties(CorrelationData=request.properties.CorrelationData)
        device.publish(request.properties.ResponseTopic, request.payload[::-1], properties=answer)


def kafka_responder(broker, names, ready):
    """It answers on the topic that the header names: `mqtt:` and the MQTT spelling of one are the requester's."""
    ready.set()
    value, headers = next_record(broker, names.requests)
    topic = headers["reply-to"].decode().removeprefix("mqtt:").replace("/", ".")
    produce(broker, topic, value[::-1], [("correlation-id", headers["correlation-id"])])


# Requesters: each sends a request and returns the answer and its correlation.


def amqp_requester(broker, names, reply_to=None):
    """With a queue of its own, or `reply_to`: the pseudo-queue of direct replies, or a stream."""
    with pika_channel(broker) as channel:
        if reply_to is None:
            reply_to = channel.queue_declare("", exclusive=True).method.queue
        got = []
        direct = reply_to == "amq.rabbitmq.reply-to"
        arguments = {} if direct or reply_to.startswith("amq.gen") else {"x-stream-offset": "first"}
        channel.basic_qos(prefetch_count=10)
        channel.basic_consume(reply_to, lambda _c, _m, properties, body: got.append((body, properties)), auto_ack=direct,
                              arguments=arguments)
        request = pika.BasicProperties(reply_to=reply_to, correlation_id=CORRELATION.decode())
        channel.basic_publish("amq.topic", names.requests, b"ping", request)
        for _ in range(PATIENCE * 10):
            if got:
                break
            channel.connection.process_data_events(0.1)
        [(body, properties)] = got
        return body, properties.correlation_id.encode()


def amqp_direct_requester(broker, names):
    return amqp_requester(broker, names, "amq.rabbitmq.reply-to")


def amqp_topic_requester(broker, names):
    """Answered on a Kafka topic, which it reads as a stream."""
    return amqp_requester(broker, names, names.answers)


def mqtt_requester(broker, names):
    with Device(broker) as device:
        device.subscribe(names.answers_topic)
        request = publish_properties(ResponseTopic=names.answers_topic, CorrelationData=CORRELATION)
        device.publish(names.requests_topic, b"ping", properties=request)
        reply = device.next()
        return reply.payload, reply.properties.CorrelationData


def kafka_requester(broker, names):
    produce(broker, names.requests, b"ping", [("reply-to", names.answers.encode()), ("correlation-id", CORRELATION)])
    value, headers = next_record(broker, names.answers)
    return value, headers["correlation-id"]


def kafka_requester_answered_on_mqtt(broker, names):
    """The record names an MQTT topic, where somebody else of the requester's listens."""
    with Device(broker) as device:
        device.subscribe(names.answers_topic)
        reply_to = f"mqtt:{names.answers_topic}".encode()
        produce(broker, names.requests, b"ping", [("reply-to", reply_to), ("correlation-id", CORRELATION)])
        reply = device.next()
        return reply.payload, reply.properties.CorrelationData


ANY = [amqp_topic_requester, mqtt_requester, kafka_requester, kafka_requester_answered_on_mqtt]
PAIRS = [
    *[(requester, amqp_responder) for requester in (amqp_requester, amqp_direct_requester, *ANY)],
    *[(requester, mqtt_responder) for requester in (amqp_requester, amqp_direct_requester, *ANY)],
    # What answers by producing to a topic can answer where a topic leads: not to a queue of AMQP's by its name.
    *[(requester, kafka_responder) for requester in ANY],
]


@pytest.mark.parametrize(
    "requester, responder", PAIRS, ids=[f"{one.__name__}-{other.__name__}" for one, other in PAIRS]
)
def test_every_requester_is_answered(broker, name, requester, responder):
    names = Names(name)
    create_topics(broker, names.requests, names.answers)
    ready = threading.Event()
    thread = threading.Thread(target=responder, args=(broker, names, ready))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        assert requester(broker, names) == (b"gnip", CORRELATION)
    finally:
        thread.join(2 * PATIENCE)
    assert not thread.is_alive()


def test_version_3_answers_where_it_was_told_beforehand(broker, name):
    """3.1.1 has no Response Topic; a device that knows the queue by its name answers there all the same."""
    with pika_channel(broker) as channel, Device(broker, version=mqtt.MQTTv311) as device:
        channel.queue_declare(name, auto_delete=True)
        got = []
        channel.basic_consume(name, lambda _c, _m, _p, body: got.append(body), auto_ack=True)
        device.subscribe(f"{name}/requests")
        channel.basic_publish("amq.topic", f"{name}.requests", b"ping")
        device.publish(f"$queue/{name}", device.next().payload[::-1])
        for _ in range(PATIENCE * 10):
            if got:
                break
            channel.connection.process_data_events(0.1)
        assert got == [b"gnip"]


def test_who_answers_needs_the_right_to_publish_there(own_broker):
    """The address is no permission: an AMQP client that may not write on `amq.topic` cannot answer by it."""
    from management import Management

    broker = own_broker()
    management = Management(broker)
    management.put("users", "replier", password="secret", tags="")
    management.put("permissions", "/", "replier", configure="", write="^amq\\.default$", read="")
    credentials = pika.PlainCredentials("replier", "secret")
    with Device(broker) as device, pika_channel(broker, credentials=credentials) as channel:
        device.subscribe("answers/1")
        channel.basic_publish("", "amq.mqtt-reply.answers.1", b"forged")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            channel.queue_declare("x", passive=True)
        assert refused.value.reply_code == 403
        assert device.settle() == []
