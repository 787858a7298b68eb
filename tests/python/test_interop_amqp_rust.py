"""Rust: lapin and amqprs, in a package outside the workspace."""

import os
import subprocess

import pytest

import interop

LAPIN = [
    "work_queue", "topic_exchange", "rpc", "retry", "returns_and_nacks", "priorities", "transaction",
]
AMQPRS = ["work_queue", "topic_exchange", "rpc", "dead_letters", "returns_and_nacks", "cancelled_and_closed"]


@pytest.fixture(scope="module")
def programs():
    """The folder of the compiled programs."""
    interop.need("cargo")
    target = interop.home() / "rust"
    target.mkdir(parents=True, exist_ok=True)
    # Flags that are meant for the broker would compile the clients again.
    environment = {k: v for k, v in os.environ.items() if k not in ("RUSTFLAGS", "CARGO_BUILD_TARGET")}
    built = subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--target-dir", str(target)], cwd=interop.PROGRAMS / "rust",
        env=environment, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=interop.INSTALL_WITHIN,
    )
    assert built.returncode == 0, built.stdout[-4000:]
    return target / "debug"


def test_lapin(programs, broker, name):
    interop.tell([programs / "lapin"], LAPIN, broker, name)


def test_lapin_recovers_when_the_broker_is_back(programs, own_broker, name):
    interop.tell([programs / "lapin"], ["recovery"], own_broker(), name)


def test_amqprs(programs, broker, name):
    interop.tell([programs / "amqprs"], AMQPRS, broker, name)
