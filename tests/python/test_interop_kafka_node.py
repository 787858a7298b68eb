"""Node: kafkajs."""

import shutil

import pytest

import interop

STORIES = [
    "keys_headers_and_gzip", "empty_values_and_tombstones", "acks", "idempotent_producer", "transactions",
    "offsets_in_a_transaction", "manual_commit", "seek_pause_and_resume", "two_members_rebalance", "admin_topics",
    "admin_groups", "admin_cluster",
]


@pytest.fixture(scope="module")
def node():
    """The folder in which the program and its modules are."""
    interop.need("node", "npm")
    files = ("package.json", "package-lock.json")

    def install(place):
        for file in files:
            shutil.copy(interop.PROGRAMS / "kafka-node" / file, place)
        return ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)]

    place = interop.installed("kafka-node", install, files)
    for program in ("kafka-node/kafkajs.js", "node/stories.js"):
        shutil.copy(interop.PROGRAMS / program, place)
    return place


def test_kafkajs(node, broker, name):
    interop.tell(["node", node / "kafkajs.js"], STORIES, broker, name, {"KAFKA": broker.kafka})


def test_kafkajs_recovers_when_the_broker_is_back(node, own_broker, name):
    broker = own_broker()
    interop.tell(["node", node / "kafkajs.js"], ["recovery"], broker, name, {"KAFKA": broker.kafka})
