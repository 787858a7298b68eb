"""Go: the Paho client, over TCP and WebSocket."""

import shutil

import pytest

import interop


@pytest.fixture(scope="module")
def program():
    interop.need("go")

    def install(place):
        for file in ("go.mod", "go.sum", "main.go"):
            shutil.copy(interop.PROGRAMS / "mqtt-go" / file, place)
        return ["go", "build", "-C", str(place), "-o", "client", "."]

    return interop.installed("mqtt-go", install, ["go.mod", "go.sum", "main.go"]) / "client"


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_paho_go(program, broker, name, scheme):
    port = broker.port("mqtt.websocket" if scheme == "ws" else "mqtt")
    url = f"{scheme}://127.0.0.1:{port}" + ("/mqtt" if scheme == "ws" else "")
    interop.tell([program], ["every_qos", "session"], broker, name, {"MQTT_URL": url})
