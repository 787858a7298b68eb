"""Go: amqp091-go."""

import os
import subprocess

import pytest

import interop

STORIES = [
    "work_queue", "topic_exchange", "rpc", "retry", "returns_and_nacks", "priorities", "transactions",
    "errors_and_cancellation",
]


@pytest.fixture(scope="module")
def program():
    interop.need("go")
    place = interop.home() / "go"
    place.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOPATH": str(place / "path"), "GOFLAGS": "-mod=readonly -modcacherw"}
    built = subprocess.run(
        ["go", "build", "-o", str(place / "stories"), "."], cwd=interop.PROGRAMS / "go", env=environment, check=False,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=interop.INSTALL_WITHIN,
    )
    assert built.returncode == 0, built.stdout
    return [place / "stories"]


def test_go(program, broker, name):
    interop.tell(program, STORIES, broker, name)


def test_go_is_told_of_the_end_and_dials_again(program, own_broker, name):
    interop.tell(program, ["recovery"], own_broker(), name)
