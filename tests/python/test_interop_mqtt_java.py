"""Java: the Paho clients of both versions."""

import subprocess

import pytest

import interop

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


@pytest.fixture(scope="module")
def java():
    """The command that runs the program."""
    interop.need("java", "javac", "mvn")
    source = interop.PROGRAMS / "mqtt-java"

    def install(place):
        return ["mvn", "-B", "-q", COPY, "-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}"]

    place = interop.installed("mqtt-java", install, ["pom.xml"])
    compiled = subprocess.run(
        ["javac", "-nowarn", "-cp", f"{place}/jars/*", "-d", str(place / "classes"), str(source / "PahoClient.java")],
        check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=interop.INSTALL_WITHIN,
    )
    assert compiled.returncode == 0, compiled.stdout
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{place}/classes:{place}/jars/*"]


def test_paho_java(java, broker, name):
    environment = {"MQTT_URL": f"tcp://127.0.0.1:{broker.port('mqtt')}"}
    interop.tell([*java, "PahoClient"], ["every_qos", "session", "version_5"], broker, name, environment)
