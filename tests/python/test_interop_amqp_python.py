"""Python's asynchronous clients and kombu as applications use them: pika's SelectConnection, aio-pika, kombu."""

import asyncio
import queue
import socket
import threading

import aio_pika
import kombu
import pika
import pytest
from aio_pika.patterns import RPC, Master
from kombu.mixins import ConsumerMixin
from kombu.pools import producers

from clients import PATIENCE, eventually, pika_channel


class SelectApplication:
    """The usual shape of an application over pika's SelectConnection: everything is a callback, and it connects again."""

    def __init__(self, broker, queue_name):
        self.parameters = pika.URLParameters(broker.amqp_url)
        self.queue_name = queue_name
        self.connection, self.channel = None, None
        self.seen, self.confirmed, self.returned = queue.Queue(), queue.Queue(), queue.Queue()
        self.ready, self.stopping = threading.Event(), False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopping:
            self.connection = pika.SelectConnection(
                self.parameters,
                on_open_callback=self.opened,
                on_open_error_callback=lambda connection, _: connection.ioloop.stop(),
                on_close_callback=self.closed,
            )
            self.connection.ioloop.start()

    def opened(self, connection):
        connection.channel(on_open_callback=self.channel_opened)

    def closed(self, connection, _):
        self.ready.clear()
        connection.ioloop.stop()

    def channel_opened(self, channel):
        self.channel = channel
        channel.add_on_return_callback(lambda _channel, method, _properties, body: self.returned.put((method.reply_text, body)))
        channel.confirm_delivery(lambda frame: self.confirmed.put((type(frame.method).__name__, frame.method.delivery_tag)))
        channel.basic_qos(prefetch_count=10, callback=self.limited)

    def limited(self, _):
        self.channel.queue_declare(self.queue_name, durable=True, callback=self.declared)

    def declared(self, _):
        self.channel.basic_consume(self.queue_name, self.delivered, callback=lambda _: self.ready.set())

    def delivered(self, channel, method, _, body):
        self.seen.put((body, method.redelivered))
        channel.basic_ack(method.delivery_tag)

    def publish(self, routing_key, body):
        properties = pika.BasicProperties(delivery_mode=2)
        self.connection.ioloop.add_callback_threadsafe(
            lambda: self.channel.basic_publish("", routing_key, body, properties, mandatory=True)
        )

    def stop(self):
        self.stopping = True
        self.connection.ioloop.add_callback_threadsafe(self.connection.close)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def test_select_connection(broker, name):
    application = SelectApplication(broker, name)
    assert application.ready.wait(PATIENCE)
    for number in range(50):
        application.publish(name, b"%d" % number)
    assert [application.seen.get(timeout=PATIENCE)[0] for _ in range(50)] == [b"%d" % number for number in range(50)]
    while application.confirmed.get(timeout=PATIENCE) != ("Ack", 50):
        pass
    application.publish(f"{name}-nowhere", b"lost")
    assert application.returned.get(timeout=PATIENCE) == ("NO_ROUTE", b"lost")
    assert application.confirmed.get(timeout=PATIENCE) == ("Ack", 51)
    application.stop()


def test_select_connection_connects_again(own_broker, name):
    broker = own_broker()
    application = SelectApplication(broker, name)
    assert application.ready.wait(PATIENCE)
    application.publish(name, b"before")
    assert application.seen.get(timeout=PATIENCE)[0] == b"before"
    application.ready.clear()  # it may hear late that the old connection is closed
    broker.restart()
    assert application.ready.wait(PATIENCE)
    application.publish(name, b"after")
    body, redelivered = application.seen.get(timeout=PATIENCE)
    if (body, redelivered) == (b"before", True):  # its acknowledgement was under way
        body, _ = application.seen.get(timeout=PATIENCE)
    assert body == b"after"
    application.stop()


def test_pika_blocking_dead_letter_retry(broker, name):
    """Rejected into a waiting queue, back after its TTL, counted by x-death, given up after three attempts."""
    with pika_channel(broker) as channel:
        wait = f"{name}-wait"
        channel.queue_declare(name, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
        channel.queue_declare(wait, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name, "x-message-ttl": 40})
        channel.basic_publish("", name, b"fails", pika.BasicProperties(headers={"own": 1}))
        counts = []
        for method, properties, _ in channel.consume(name, inactivity_timeout=PATIENCE):
            assert method is not None, counts
            deaths = properties.headers.get("x-death", [])
            counts.append(next((it["count"] for it in deaths if it["reason"] == "rejected"), 0))
            assert properties.headers["own"] == 1
            if len(counts) == 3:
                channel.basic_ack(method.delivery_tag)
                break
            channel.basic_reject(method.delivery_tag, requeue=False)
        channel.cancel()
        assert counts == [0, 1, 2]
        channel.queue_delete(name)
        channel.queue_delete(wait)


def test_pika_blocking_works_off_a_transaction(broker, name):
    with pika_channel(broker) as channel:
        channel.queue_declare(name, exclusive=True)
        channel.tx_select()
        channel.basic_publish("", name, b"rolled back")
        channel.tx_rollback()
        channel.basic_publish("", name, b"committed")
        assert channel.basic_get(name)[0] is None
        channel.tx_commit()
        assert channel.basic_get(name, auto_ack=True)[2] == b"committed"


async def test_aio_pika_rpc_and_master(broker, name):
    """The two patterns that aio-pika ships: remote calls, and a master with workers."""
    connection = await aio_pika.connect_robust(broker.amqp_url)
    async with connection:
        rpc = await RPC.create(await connection.channel())

        async def multiply(*, x, y):
            return x * y

        await rpc.register(f"{name}-multiply", multiply, auto_delete=True)
        calls = (rpc.call(f"{name}-multiply", kwargs={"x": n, "y": n}) for n in range(20))
        answers = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
        assert answers == [n * n for n in range(20)]
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=5)
        master, done = Master(channel), asyncio.Queue()

        async def work(*, number):
            await done.put(number)

        worker = await master.create_worker(f"{name}-work", work, auto_delete=True)
        for number in range(20):
            await master.create_task(f"{name}-work", {"number": number})
        seen = [await asyncio.wait_for(done.get(), PATIENCE) for _ in range(20)]
        assert sorted(seen) == list(range(20))
        await worker.close()


async def test_aio_pika_delayed_and_prioritised(broker, name):
    connection = await aio_pika.connect(broker.amqp_url)
    async with connection:
        channel = await connection.channel()
        urgent = await channel.declare_queue(f"{name}-urgent", exclusive=True, arguments={"x-max-priority": 5})
        later = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": urgent.name}
        waiting = await channel.declare_queue(f"{name}-waiting", exclusive=True, arguments=later)
        await channel.default_exchange.publish(aio_pika.Message(b"later", expiration=0.05), waiting.name)
        async with urgent.iterator(timeout=PATIENCE) as messages:
            async for message in messages:
                async with message.process():
                    assert message.body == b"later"
                    assert message.headers["x-first-death-reason"] == "expired"
                break
        for priority in (0, 5, 3):
            await channel.default_exchange.publish(aio_pika.Message(b"p%d" % priority, priority=priority), urgent.name)
        assert [(await urgent.get(no_ack=True)).body for _ in range(3)] == [b"p5", b"p3", b"p0"]


async def test_aio_pika_is_returned_and_refused(broker, name):
    connection = await aio_pika.connect(broker.amqp_url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        with pytest.raises(aio_pika.exceptions.DeliveryError):
            await channel.default_exchange.publish(aio_pika.Message(b"lost"), f"{name}-nowhere", mandatory=True)
        full = await channel.declare_queue(name, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await channel.default_exchange.publish(aio_pika.Message(b"fits"), full.name)
        with pytest.raises(aio_pika.exceptions.DeliveryError):
            await channel.default_exchange.publish(aio_pika.Message(b"too many"), full.name)


async def test_aio_pika_robust_connection_comes_back(own_broker, name):
    """Channels, the exclusive queue, its binding and its consumer are restored by the client."""
    broker = own_broker()
    connection = await aio_pika.connect_robust(broker.amqp_url, reconnect_interval=0.2, fail_fast=False)
    async with connection:
        # What comes back before the queue is bound again is an error, and published once more.
        channel = await connection.channel(on_return_raises=True)
        mine = await channel.declare_queue(name, exclusive=True)
        exchange = await channel.declare_exchange(f"{name}-x", "topic", durable=True)
        await mine.bind(exchange, "a.*")
        seen = asyncio.Queue()
        await mine.consume(lambda message: seen.put(message.body), no_ack=True)
        await exchange.publish(aio_pika.Message(b"before"), "a.1")
        assert await asyncio.wait_for(seen.get(), PATIENCE) == b"before"
        await asyncio.to_thread(broker.restart)

        async def published_again():
            while True:
                try:
                    await exchange.publish(aio_pika.Message(b"after"), "a.2", mandatory=True, timeout=5)
                    return
                except (aio_pika.exceptions.AMQPError, ConnectionError, RuntimeError, asyncio.TimeoutError):
                    await asyncio.sleep(0.1)

        await asyncio.wait_for(published_again(), 60)
        assert await asyncio.wait_for(seen.get(), PATIENCE) == b"after"


class KombuWorker(ConsumerMixin):
    """What sits below Celery, Nameko and home-made workers."""

    def __init__(self, connection, queues):
        self.connection, self.queues = connection, queues
        self.seen = queue.Queue()
        self.consuming = threading.Event()

    def get_consumers(self, Consumer, channel):  # noqa: N803: kombu calls it by this name
        return [Consumer(self.queues, callbacks=[self.handle], accept=["json"], prefetch_count=5)]

    def on_consume_ready(self, *_, **__):
        self.consuming.set()

    def handle(self, body, message):
        self.seen.put((body, message.headers, message.delivery_info["routing_key"]))
        message.ack()


def test_kombu_worker_and_producer_pool(broker, name):
    exchange = kombu.Exchange(f"{name}-x", "topic", durable=False, auto_delete=True)
    orders = kombu.Queue(f"{name}-orders", exchange, routing_key="orders.#", durable=False, max_priority=5, expires=60)
    with kombu.Connection(broker.amqp_url) as connection:
        worker = KombuWorker(connection.clone(), [orders])
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        assert worker.consuming.wait(PATIENCE)
        with producers[connection].acquire(block=True) as producer:
            for number in range(10):
                producer.publish(
                    {"order": number}, exchange=exchange, routing_key=f"orders.{number}", serializer="json", compression="zlib",
                    declare=[exchange], headers={"attempt": 1}, priority=1, retry=True, retry_policy={"max_retries": 3},
                )
        seen = [worker.seen.get(timeout=PATIENCE) for _ in range(10)]
        assert [body["order"] for body, _, _ in seen] == list(range(10))
        assert all(headers["attempt"] == 1 for _, headers, _ in seen)
        worker.should_stop = True
        thread.join(PATIENCE)


def test_kombu_simple_queue_and_requeue(broker, name):
    with kombu.Connection(broker.amqp_url) as connection:
        simple = connection.SimpleQueue(name)
        simple.put({"hello": "world"})
        message = simple.get(timeout=PATIENCE)
        assert message.payload == {"hello": "world"}
        message.requeue()
        again = simple.get(timeout=PATIENCE)
        assert again.delivery_info["redelivered"]
        again.ack()
        assert simple.qsize() == 0
        simple.clear()
        simple.close()


def test_kombu_worker_survives_a_restart(own_broker, name):
    broker = own_broker()
    durable = kombu.Queue(name, kombu.Exchange(f"{name}-x", "direct", durable=True), routing_key="k", durable=True)
    with kombu.Connection(broker.amqp_url, transport_options={"confirm_publish": True}) as connection:
        worker = KombuWorker(connection.clone(), [durable])
        worker.connect_max_retries = None
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        assert worker.consuming.wait(PATIENCE)
        broker.restart()

        def published():
            try:
                with producers[connection].acquire(block=True) as producer:
                    producer.publish({"n": 1}, exchange=f"{name}-x", routing_key="k", retry=True, timeout=5)
                return True
            except (OSError, socket.timeout, *connection.connection_errors):
                return False

        eventually(published)
        assert worker.seen.get(timeout=PATIENCE)[0] == {"n": 1}
        worker.should_stop = True
        thread.join(PATIENCE)
