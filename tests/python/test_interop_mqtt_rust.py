"""Rust: rumqttc, both versions."""

import subprocess

import interop

STORIES = ["every_qos", "will", "session", "version_5"]


def test_rumqttc(broker, name):
    interop.need("cargo")
    place = interop.home() / "mqtt-rust"
    manifest = interop.PROGRAMS / "mqtt-rust" / "Cargo.toml"
    done = subprocess.run(
        ["cargo", "build", "--locked", "--manifest-path", manifest, "--target-dir", place], check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=interop.INSTALL_WITHIN,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    environment = {"MQTT_PORT": str(broker.port("mqtt"))}
    interop.tell([place / "debug" / "trivium-interop-mqtt"], STORIES, broker, name, environment)
