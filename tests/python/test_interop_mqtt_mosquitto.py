"""mosquitto_pub and mosquitto_sub, as Debian has them."""

import subprocess

import pytest

import interop
from clients import PATIENCE


@pytest.fixture(params=["mqttv31", "mqttv311", "mqttv5"])
def mosquitto(request, broker):
    """Runs one of the programs in one version."""
    interop.need("mosquitto_pub", "mosquitto_sub")
    common = ["-h", "127.0.0.1", "-p", str(broker.port("mqtt")), "-V", request.param]

    def run(program, *arguments):
        done = subprocess.run(
            [program, *common, *arguments], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    run.lasting = ["-x", "600"] if request.param == "mqttv5" else []
    return run


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_retained_message(mosquitto, name, qos):
    mosquitto("mosquitto_pub", "-t", f"{name}/a", "-m", "kept", "-q", qos, "-r")
    told = mosquitto("mosquitto_sub", "-t", f"{name}/#", "-q", qos, "-C", "1", "-F", "%t %p %r")
    assert told == f"{name}/a kept 1\n"
    mosquitto("mosquitto_pub", "-t", f"{name}/a", "-n", "-r")


def test_a_session_is_kept(mosquitto, name):
    session = ["-i", f"{name}-sub", "-c", "-q", "2", "-t", f"{name}/s", *mosquitto.lasting]
    mosquitto("mosquitto_sub", *session, "-E")
    for text in ["1", "2", "3"]:
        mosquitto("mosquitto_pub", "-t", f"{name}/s", "-m", text, "-q", "2")
    assert mosquitto("mosquitto_sub", *session, "-C", "3") == "1\n2\n3\n"
