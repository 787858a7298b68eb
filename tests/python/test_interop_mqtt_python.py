"""Python: aiomqtt and gmqtt. Paho has `test_mqtt.py`."""

import asyncio

import aiomqtt
import gmqtt
import pytest

from clients import PATIENCE


@pytest.mark.parametrize("protocol", [aiomqtt.ProtocolVersion.V31, aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
@pytest.mark.parametrize("transport", ["tcp", "websockets"])
def test_aiomqtt(broker, name, protocol, transport):
    port = broker.port("mqtt" if transport == "tcp" else "mqtt.websocket")

    async def story():
        async with aiomqtt.Client("127.0.0.1", port, protocol=protocol, transport=transport) as client:
            await client.subscribe(f"{name}/+", qos=2)
            for qos in (0, 1, 2):
                await client.publish(f"{name}/a", f"qos {qos}", qos=qos)
            received = []
            async for message in client.messages:
                received.append((message.payload, message.qos))
                if len(received) == 3:
                    return received

    received = asyncio.run(asyncio.wait_for(story(), PATIENCE))
    assert received == [(b"qos 0", 0), (b"qos 1", 1), (b"qos 2", 2)]


@pytest.mark.parametrize("version", [4, 5])
def test_gmqtt(broker, name, version):
    async def story():
        client = gmqtt.Client(name)
        received = asyncio.Queue()
        subscribed = asyncio.Event()

        def on_message(_client, topic, payload, qos, properties):
            received.put_nowait((topic, payload, qos, properties))
            return 0

        client.on_message = on_message
        client.on_subscribe = lambda *_args, **_kwargs: subscribed.set()
        await client.connect("127.0.0.1", broker.port("mqtt"), version=version)
        client.subscribe(f"{name}/a", qos=1)
        await subscribed.wait()
        extra = {"user_property": [("a", "1"), ("a", "2")]} if version == 5 else {}
        client.publish(f"{name}/a", "hello", qos=1, **extra)
        topic, payload, qos, properties = await received.get()
        await client.disconnect()
        assert (topic, payload, qos) == (f"{name}/a", b"hello", 1)
        if version == 5:
            assert properties["user_property"] == [("a", "1"), ("a", "2")]

    asyncio.run(asyncio.wait_for(story(), PATIENCE))
