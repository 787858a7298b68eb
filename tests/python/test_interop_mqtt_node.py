"""Node: mqtt.js over TCP and WebSocket."""

import shutil

import pytest

import interop

STORIES = ["every_qos", "retained", "will", "session"]


@pytest.fixture(scope="module")
def node():
    """The folder in which the program and its modules are."""
    place = interop.mqtt_js()
    shutil.copy(interop.PROGRAMS / "mqtt-node" / "mqtt.js", place)
    return place


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("scheme", ["mqtt", "ws"])
def test_mqtt_js(node, broker, name, scheme, version):
    port = broker.port("mqtt.websocket" if scheme == "ws" else "mqtt")
    path = "/mqtt" if scheme == "ws" else ""
    environment = {"URL": f"{scheme}://127.0.0.1:{port}{path}", "VERSION": str(version)}
    stories = STORIES + (["properties"] if version == 5 else [])
    interop.tell(["node", node / "mqtt.js"], stories, broker, name, environment)
