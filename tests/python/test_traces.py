"""Trace contexts pass through every hop by name, and spans of the broker reach a collector by OTLP."""

import json
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import confluent_kafka
import pika
import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from clients import PATIENCE, eventually, pika_channel, take
from test_interop_kafka_group_admin import create

STATE = "vendor=1,other=x"


def context(number, sampled=True):
    trace, parent = f"{number:032x}", f"{number + 1:016x}"
    return trace, parent, f"00-{trace}-{parent}-0{int(sampled)}"


class Collector:
    """Takes OTLP over HTTP as JSON, and keeps the spans."""

    def __init__(self, port=0):
        self.spans, self.services, self._lock = [], set(), threading.Lock()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
                collector.take(request)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def take(self, request):
        with self._lock:
            for resource in request["resourceSpans"]:
                self.services |= set(attributes(resource["resource"]).values())
                self.spans += [span for scope in resource["scopeSpans"] for span in scope["spans"]]

    def of(self, trace):
        with self._lock:
            return [span for span in self.spans if span["traceId"] == trace]

    def named(self, trace, count):
        """The spans of a trace by name, once there are `count` of them."""
        eventually(lambda: time.sleep(0.05) or len(self.of(trace)) >= count)
        found = self.of(trace)
        assert len(found) == count, [span["name"] for span in found]
        named = defaultdict(list)
        for span in found:
            named[span["name"]].append(span)
        return {name: spans[0] if len(spans) == 1 else spans for name, spans in named.items()}

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def attributes(of):
    values = {it["key"]: it["value"] for it in of["attributes"]}
    return {key: next(iter(value.values())) for key, value in values.items()}


@pytest.fixture
def collector():
    it = Collector()
    yield it
    it.close()


def otlp(own_broker, endpoint, **settings):
    return own_broker(otlp__endpoint=endpoint, **settings)


class MqttClient:
    """An MQTT 5 client that keeps what it gets."""

    def __init__(self, broker, client_id, **will):
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        self.found, self.subscribed = [], []
        self.client.on_message = lambda _c, _u, message: self.found.append(message)
        self.client.on_subscribe = lambda *_: self.subscribed.append(True)
        if will:
            self.client.will_set(**will)
        # It answers for itself only while the test waits for something of its.
        self.client.connect("127.0.0.1", broker.port("mqtt"), keepalive=3600)
        eventually(lambda: self.client.loop(0.1) or self.client.is_connected())

    def subscribe(self, filter_):
        self.subscribed.clear()
        self.client.subscribe(filter_, 1)
        eventually(lambda: self.client.loop(0.1) or self.subscribed)

    def publish(self, topic, parent):
        info = self.client.publish(topic, b"body", 1, properties=user_properties(parent))
        eventually(lambda: self.client.loop(0.1) or info.is_published())

    def next(self):
        eventually(lambda: self.client.loop(0.1) or self.found)
        message = self.found.pop(0)
        return dict(message.properties.UserProperty)

    def close(self):
        self.client.disconnect()
        self.client.loop(0.1)


def user_properties(parent, kind=PacketTypes.PUBLISH):
    properties = Properties(kind)
    properties.UserProperty = [("traceparent", parent), ("tracestate", STATE)]
    return properties


def amqp_properties(parent, **more):
    headers = {"traceparent": parent, "tracestate": STATE, **more.pop("headers", {})}
    return pika.BasicProperties(headers=headers, **more)


def consume_kafka(broker, topic, count):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.kafka, "group.id": f"{topic}-readers", "auto.offset.reset": "earliest",
    })
    consumer.subscribe([topic])
    found = []
    eventually(lambda: found.extend(consumer.consume(10, 0.2)) or len(found) >= count)
    consumer.close()
    return [{name: value.decode() for name, value in it.headers() or []} for it in found]


def produce_kafka(broker, topic, parent, compression="none"):
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.kafka, "compression.type": compression})
    producer.produce(topic, b"body", headers=[("traceparent", parent), ("tracestate", STATE)])
    assert producer.flush(PATIENCE) == 0


def carries(headers, parent):
    return (headers["traceparent"], headers["tracestate"]) == (parent, STATE)


@pytest.mark.parametrize("publisher", ["amqp", "kafka", "mqtt"])
def test_a_context_passes_from_each_protocol_to_each_other(broker, name, publisher):
    _, _, parent = context(77)
    create(broker, name)
    reader = MqttClient(broker, f"{name}-r")
    reader.subscribe(name)
    with pika_channel(broker) as channel:
        channel.queue_declare(f"{name}-q", exclusive=True)
        channel.queue_bind(f"{name}-q", "amq.topic", name)
        if publisher == "amqp":
            channel.basic_publish("amq.topic", name, b"body", amqp_properties(parent))
        elif publisher == "kafka":
            produce_kafka(broker, name, parent)
        else:
            MqttClient(broker, f"{name}-p").publish(name, parent)
        [(_, properties, _)] = take(channel, f"{name}-q", 1)
        assert carries(properties.headers, parent)
    assert carries(reader.next(), parent)
    reader.close()
    assert carries(consume_kafka(broker, name, 1)[0], parent)


def test_a_context_stays_with_dead_letters_delayed_messages_and_wills(broker, name):
    _, _, parent = context(78)
    with pika_channel(broker) as channel:
        channel.queue_declare(f"{name}-dead", exclusive=True)
        channel.queue_bind(f"{name}-dead", "amq.topic", f"{name}.dead")
        channel.queue_declare(f"{name}-q", arguments={
            "x-message-ttl": 1, "x-dead-letter-exchange": "amq.topic", "x-dead-letter-routing-key": f"{name}.dead",
        })
        channel.basic_publish("", f"{name}-q", b"", amqp_properties(parent))
        [(_, properties, _)] = take(channel, f"{name}-dead", 1)
        assert carries(properties.headers, parent) and properties.headers["x-death"]
        channel.queue_delete(f"{name}-q")
        channel.exchange_declare(f"{name}-x", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
        channel.queue_bind(f"{name}-dead", f"{name}-x")
        channel.basic_publish(f"{name}-x", "k", b"", amqp_properties(parent, headers={"x-delay": 5}))
        [(_, properties, _)] = take(channel, f"{name}-dead", 1)
        assert carries(properties.headers, parent)
        channel.exchange_delete(f"{name}-x")
        will = user_properties(parent, PacketTypes.WILLMESSAGE)
        client = MqttClient(broker, f"{name}-w", topic=f"{name}/dead", payload=b"", qos=1, properties=will)
        client.client.socket().close()
        [(_, properties, _)] = take(channel, f"{name}-dead", 1)
        assert carries(properties.headers, parent)


def test_a_context_stays_with_retained_messages_requests_and_readers_of_logs(broker, name):
    _, _, parent = context(79)
    with pika_channel(broker) as channel:
        retained = amqp_properties(parent, headers={"x-mqtt-retain": True})
        channel.basic_publish("amq.topic", f"{name}.state", b"on", retained)
        client = MqttClient(broker, f"{name}-c")
        client.subscribe(f"{name}/answers")
        client.subscribe(f"{name}/state")
        assert carries(client.next(), parent)
        channel.basic_publish("amq.topic", f"{name}.state", b"", retained)  # clears
        client.next()

        channel.queue_declare(f"{name}-q", exclusive=True)
        channel.queue_bind(f"{name}-q", "amq.topic", f"{name}.ask")
        request = user_properties(parent)
        request.ResponseTopic = f"{name}/answers"
        client.client.publish(f"{name}/ask", b"", 1, properties=request)
        client.client.loop(0.1)
        [(_, asked, _)] = take(channel, f"{name}-q", 1)
        assert carries(asked.headers, parent)
        channel.basic_publish("", asked.reply_to, b"", amqp_properties(parent))
        assert carries(client.next(), parent)

        create(broker, f"{name}.log")
        produce_kafka(broker, f"{name}.log", parent)
        client.subscribe(f"$stream/{name}.log?offset=first")
        assert carries(client.next(), parent)
        cursor = {"x-queue-type": "cursor", "x-source": f"{name}.log", "x-stream-offset": "first"}
        channel.queue_declare(f"{name}-cursor", durable=True, arguments=cursor)
        [(_, properties, _)] = take(channel, f"{name}-cursor", 1)
        assert carries(properties.headers, parent)
        channel.queue_delete(f"{name}-cursor")
        client.close()


def test_spans_of_one_publish_by_mqtt_lead_to_both_consumers(own_broker, collector, name):
    broker = otlp(own_broker, collector.endpoint, otlp__service_name="shop")
    trace, parent, header = context(4711)
    create(broker, name)
    with pika_channel(broker) as channel:
        channel.queue_declare(f"{name}-q", exclusive=True)
        channel.queue_bind(f"{name}-q", "amq.topic", name)
        MqttClient(broker, name).publish(name, header)
        # What consumers get is the publisher's own context.
        [(_, properties, _)] = take(channel, f"{name}-q", 1)
        assert carries(properties.headers, header)
    assert carries(consume_kafka(broker, name, 1)[0], header)
    spans = collector.named(trace, 4)
    assert collector.services == {"shop"}
    publish, route = spans["publish amq.topic"], spans["route amq.topic"]
    amqp, kafka = spans[f"deliver {name}-q"], spans[f"deliver {name}"]
    assert publish["parentSpanId"] == parent and route["parentSpanId"] == publish["spanId"]
    assert (publish["kind"], amqp["kind"], kafka["kind"]) == (4, 5, 5)
    for consumed in (amqp, kafka):
        assert consumed["parentSpanId"] == parent
        assert consumed["links"] == [{"traceId": trace, "spanId": parent}]
    assert all(span["traceState"] == STATE for span in (publish, route, amqp, kafka))
    assert len({span["spanId"] for span in (publish, route, amqp, kafka)}) == 4
    for span in (publish, route, amqp, kafka):
        age = time.time() - int(span["startTimeUnixNano"]) / 1e9
        assert -1 < age < 5 * PATIENCE and int(span["endTimeUnixNano"]) >= int(span["startTimeUnixNano"])
    said = attributes(publish)
    assert said["messaging.system"] == "mqtt" and said["messaging.operation.type"] == "send"
    assert (said["messaging.destination.name"], said["messaging.message.body.size"]) == ("amq.topic", "4")
    assert said["trivium.destinations"] == "2"
    said = attributes(amqp)
    assert said["messaging.system"] == "rabbitmq" and said["messaging.operation.type"] == "receive"
    assert (said["messaging.destination.name"], said["messaging.rabbitmq.destination.routing_key"]) == (f"{name}-q", name)
    said = attributes(kafka)
    assert said["messaging.system"] == "kafka" and said["messaging.operation.name"] == "deliver"
    assert (said["messaging.destination.partition.id"], said["messaging.kafka.offset"]) == ("0", "0")


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_spans_of_a_record_lead_to_subscribers(own_broker, collector, name, compression):
    broker = otlp(own_broker, collector.endpoint)
    trace, parent, header = context(815)
    create(broker, name)
    reader = MqttClient(broker, name)
    reader.subscribe(name)
    produce_kafka(broker, name, header, compression)
    assert carries(reader.next(), header)
    spans = collector.named(trace, 2)
    assert spans[f"publish {name}"]["parentSpanId"] == parent
    said = attributes(spans[f"publish {name}"])
    assert (said["messaging.system"], said["messaging.destination.partition.id"]) == ("kafka", "0")
    assert attributes(spans[f"deliver {name}"])["messaging.system"] == "mqtt"
    assert spans[f"deliver {name}"]["links"][0]["spanId"] == parent
    reader.close()


def test_the_flag_and_the_ratio_decide(own_broker, collector, name):
    broker = otlp(own_broker, collector.endpoint)
    sampled, _, header = context(1000)
    with pika_channel(broker) as channel:
        channel.queue_declare(name, exclusive=True)
        channel.basic_publish("", name, b"", amqp_properties(context(999, sampled=False)[2]))
        channel.basic_publish("", name, b"")
        channel.basic_publish("", name, b"", amqp_properties(header))
        take(channel, name, 3)
    collector.named(sampled, 3)
    assert len(collector.spans) == 3
    always = otlp(own_broker, collector.endpoint, otlp__sample_ratio=1)
    with pika_channel(always) as channel:
        channel.queue_declare(name, exclusive=True)
        channel.basic_publish("", name, b"", amqp_properties(context(999, sampled=False)[2]))
        channel.basic_publish("", name, b"")
        take(channel, name, 2)
    eventually(lambda: time.sleep(0.05) or len(collector.spans) == 6)
    roots = [span for span in collector.spans[3:] if "parentSpanId" not in span]
    assert sorted(span["name"] for span in roots) == [f"deliver {name}", f"publish {name}"]


def test_a_refused_publish_is_an_error(own_broker, collector, name):
    broker = otlp(own_broker, collector.endpoint)
    trace, _, header = context(2000)
    with pika_channel(broker) as channel:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker):
            channel.basic_publish(f"{name}-none", "k", b"", amqp_properties(header))
            channel.queue_declare(name, exclusive=True)
    publish = collector.named(trace, 2)[f"publish {name}-none"]
    assert publish["status"]["code"] == 2 and attributes(publish)["error.type"] == "refused"


def counted(broker, what):
    lines = broker.metrics().splitlines()
    return next(float(it.split()[1]) for it in lines if it.startswith(f"trivium_otlp_spans_{what}_total "))


def test_a_collector_that_is_not_there_costs_spans_and_nothing_else(own_broker, name):
    gone = Collector()
    endpoint, port = gone.endpoint, int(gone.endpoint.rsplit(":", 1)[1])
    gone.close()
    broker = otlp(own_broker, endpoint)
    count = 10_000
    with pika_channel(broker) as channel:
        channel.queue_declare(name, exclusive=True)
        for number in range(count):
            channel.basic_publish("", name, b"", amqp_properties(context(3000 + number)[2]))
        assert channel.queue_declare(name, passive=True).method.message_count == count
    assert eventually(lambda: counted(broker, "dropped")) > 0
    assert counted(broker, "exported") == 0
    back = Collector(port)
    # What waited, and what comes from now on, is taken again.
    eventually(lambda: time.sleep(0.1) or counted(broker, "exported"))
    assert back.spans
    back.close()
    began = time.monotonic()
    broker.stop()
    assert time.monotonic() - began < 30
    broker.start()


def test_nothing_is_traced_by_default(broker):
    assert "trivium_otlp" not in broker.metrics()
