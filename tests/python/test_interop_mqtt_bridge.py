"""Mosquitto as a bridge: its level has the high bit set, and it wants nothing back of what it brings."""

import queue
import shutil
import socket
import subprocess

import pytest

import interop
from clients import Device, eventually


class Address:
    """Mosquitto where tests expect a broker."""

    def __init__(self, port):
        self._port = port

    def port(self, _protocol):
        return self._port


@pytest.fixture
def bridged(request, broker, name, tmp_path):
    """A Mosquitto that has everything below a name in common with the broker."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        interop.need("mosquitto")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(f"""
        listener {port} 127.0.0.1
        allow_anonymous true
        connection {name}
        address 127.0.0.1:{broker.port('mqtt')}
        bridge_protocol_version {request.param}
        remote_clientid {name}-bridge
        notifications false
        restart_timeout 1
        topic # both 2 here/ {name}/
    """)
    process = subprocess.Popen([program, "-c", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def accepts():
        try:
            return Device(Address(port))
        except OSError:
            assert process.poll() is None
            return None

    device = eventually(accepts)
    yield device
    device.close()
    process.terminate()
    process.wait()


@pytest.mark.parametrize("bridged", ["mqttv31", "mqttv311", "mqttv50"], indirect=True)
def test_a_bridge_carries_both_ways_and_brings_nothing_back(bridged, broker, name):
    with Device(broker) as device:
        bridged.subscribe("here/#", qos=2)
        device.subscribe(f"{name}/#", qos=2)

        def is_up():
            device.publish(f"{name}/up", b"", qos=1)
            try:
                return bridged.next(within=0.5)
            except queue.Empty:
                return None

        eventually(is_up)
        device.settle()
        bridged.settle()
        for qos in (0, 1, 2):
            bridged.publish("here/out", f"out {qos}".encode(), qos=qos)
            device.publish(f"{name}/in", f"in {qos}".encode(), qos=qos)
        ours = [(it.topic, it.payload) for it in device.take(6)]
        theirs = [(it.topic, it.payload) for it in bridged.take(6)]
        for qos in (0, 1, 2):
            assert ours.count((f"{name}/out", f"out {qos}".encode())) == 1
            assert theirs.count(("here/in", f"in {qos}".encode())) == 1
        # Once more each way, behind which nothing of before is left.
        bridged.publish("here/last", b"", qos=1)
        device.publish(f"{name}/last", b"", qos=1)
        assert {device.next().topic, device.next().topic} == {f"{name}/last"}
        assert {bridged.next().topic, bridged.next().topic} == {"here/last"}
