"""Go: franz-go, sarama and kafka-go (of Segmentio)."""

import shutil

import pytest

import interop

STORIES = {
    "franz": [
        "codecs", "records", "offsets_and_times", "classic_group", "eager_group", "consumer_group", "transactions",
        "exactly_once", "exactly_once_kip848", "share_group", "admin_topics", "admin_groups", "admin_cluster",
    ],
    "sarama": [
        "sync_producer", "async_producer", "old_and_new", "consumer_group", "offsets", "transactions", "exactly_once", "admin",
    ],
    "segmentio": ["write_and_read", "group", "admin"],
}
FILES = ("go.mod", "go.sum", "main.go", "franz.go", "sarama.go", "segmentio.go")


@pytest.fixture(scope="module")
def program():
    interop.need("go")

    def install(place):
        for file in FILES:
            shutil.copy(interop.PROGRAMS / "kafka-go" / file, place)
        return ["go", "build", "-C", str(place), "-o", "client", "."]

    return interop.installed("kafka-go", install, FILES) / "client"


@pytest.mark.parametrize("client", STORIES)
def test_clients_of_go(program, broker, name, client):
    interop.tell([program, client], STORIES[client], broker, name, {"KAFKA": broker.kafka})
