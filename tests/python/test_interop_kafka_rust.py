"""Rust: rskafka, which is Rust alone, in a package outside the workspace."""

import os
import subprocess

import pytest

import interop


@pytest.fixture(scope="module")
def program():
    interop.need("cargo")
    target = interop.home() / "kafka-rust"
    target.mkdir(parents=True, exist_ok=True)
    # Flags that are meant for the broker would compile the client again.
    environment = {k: v for k, v in os.environ.items() if k not in ("RUSTFLAGS", "CARGO_BUILD_TARGET")}
    built = subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--target-dir", str(target)], cwd=interop.PROGRAMS / "kafka-rust",
        env=environment, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=interop.INSTALL_WITHIN,
    )
    assert built.returncode == 0, built.stdout[-4000:]
    return target / "debug" / "trivium-interop-kafka"


def test_rskafka(program, broker, name):
    interop.tell([program], ["codecs", "offsets", "topics"], broker, name, {"KAFKA": broker.kafka})
