"""AMQP 0-9-1 as aio-pika speaks it, robust connections included."""

import asyncio

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError, QueueEmpty
from aio_pika.patterns import RPC

from clients import PATIENCE


@pytest.fixture
async def connection(broker):
    async with await aio_pika.connect_robust(broker.amqp_url) as it:
        yield it


async def test_publish_and_consume(connection, name):
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=10)
    queue = await channel.declare_queue(name, durable=True)
    for number in range(50):
        message = aio_pika.Message(str(number).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, name)
    seen = []
    async with asyncio.timeout(PATIENCE), queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                seen.append(int(message.body))
            if len(seen) == 50:
                break
    assert seen == list(range(50))
    await queue.delete()


@pytest.mark.parametrize("kind", list(aio_pika.ExchangeType)[:4])
async def test_exchange_types(connection, name, kind):
    channel = await connection.channel()
    exchange = await channel.declare_exchange(name, kind, auto_delete=True)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(exchange, "key", arguments={"x-match": "all", "h": 1})
    await exchange.publish(aio_pika.Message(b"x", headers={"h": 1}), "key")
    message = await queue.get(timeout=PATIENCE)
    await message.ack()
    assert message.body == b"x"
    await queue.unbind(exchange, "key", arguments={"x-match": "all", "h": 1})
    await queue.purge()
    with pytest.raises(QueueEmpty):
        await queue.get()


async def test_headers_that_pika_cannot_write(connection, name):
    headers = {"double": 2.5, "bytes": bytearray(b"\xff\x00"), "big": 1 << 62, "nested": {"list": [1.5, None, "x"]}}
    channel = await connection.channel()
    queue = await channel.declare_queue(name, exclusive=True)
    await channel.default_exchange.publish(aio_pika.Message(b"x", headers=headers), name)
    message = await queue.get(timeout=PATIENCE)
    await message.ack()
    assert dict(message.headers) == headers


async def test_mandatory_message_without_a_queue_comes_back(connection, name):
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    with pytest.raises(DeliveryError):
        await channel.default_exchange.publish(aio_pika.Message(b"x"), name, mandatory=True)


async def test_many_publishers_await_their_confirms(connection, name):
    channel = await connection.channel()
    queue = await channel.declare_queue(name, exclusive=True)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(
            *(channel.default_exchange.publish(aio_pika.Message(b"x"), name) for _ in range(1000))
        )
    assert (await queue.purge()).message_count == 1000


async def test_rpc_pattern(connection):
    """The pattern uses an exclusive queue, reply-to and a headers exchange for what was not routed."""
    rpc = await RPC.create(await connection.channel())

    async def double(*, number):
        return number * 2

    await rpc.register("double", double, auto_delete=True)
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*(rpc.call("double", {"number": it}) for it in range(20))) == [
            it * 2 for it in range(20)
        ]


async def test_a_transaction_is_committed_or_rolled_back(connection, name):
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue(name, auto_delete=True)
    async with asyncio.timeout(PATIENCE):
        async with channel.transaction():
            for body in (b"1", b"2"):
                await channel.default_exchange.publish(aio_pika.Message(body), name)
        with pytest.raises(ZeroDivisionError):
            async with channel.transaction():
                await channel.default_exchange.publish(aio_pika.Message(b"lost"), name)
                raise ZeroDivisionError
        found = [(await queue.get(no_ack=True)).body for _ in range(2)]
    assert found == [b"1", b"2"]
    with pytest.raises(QueueEmpty):
        await queue.get(no_ack=True)


async def test_robust_connection_comes_back(own_broker):
    broker = own_broker()
    async with await aio_pika.connect_robust(broker.amqp_url, reconnect_interval=0.05) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True)
        arrived = asyncio.Queue()

        async def consume(message):
            await arrived.put(message.body)
            await message.ack()

        await queue.consume(consume)
        await asyncio.to_thread(broker.kill)
        await asyncio.to_thread(broker.start)
        async with asyncio.timeout(PATIENCE), await aio_pika.connect(broker.amqp_url) as other:
            publisher = await other.channel()
            await publisher.default_exchange.publish(aio_pika.Message(b"after"), "kept")
            assert await arrived.get() == b"after"
