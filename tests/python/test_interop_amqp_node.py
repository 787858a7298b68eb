"""Node: amqplib and rascal."""

import shutil

import pytest

import interop

AMQPLIB = [
    "work_queue", "topic_exchange", "rpc", "retry", "ttl", "priorities", "returns_and_nacks", "headers_exchange",
    "channel_errors", "consumer_cancelled",
]
RASCAL = ["publish_and_subscribe", "republished_then_dead_lettered", "delayed_retry", "returned"]


@pytest.fixture(scope="module")
def node():
    """The folder in which the programs and their modules are."""
    interop.need("node", "npm")

    def install(place):
        for file in ("package.json", "package-lock.json"):
            shutil.copy(interop.PROGRAMS / "node" / file, place)
        return ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)]

    place = interop.installed("node", install, ["package.json", "package-lock.json"])
    for program in (interop.PROGRAMS / "node").glob("*.js"):
        shutil.copy(program, place)
    return place


def test_amqplib(node, broker, name):
    interop.tell(["node", node / "amqplib.js"], AMQPLIB, broker, name)


def test_amqplib_recovers_when_the_broker_is_back(node, own_broker, name):
    interop.tell(["node", node / "amqplib.js"], ["recovery"], own_broker(), name)


def test_rascal(node, broker, name):
    interop.tell(["node", node / "rascal.js"], RASCAL, broker, name)
