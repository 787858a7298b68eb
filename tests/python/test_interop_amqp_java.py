"""Java: RabbitMQ's client and Spring AMQP."""

import subprocess

import pytest

import interop

CLIENT = [
    "work_queue", "topic_exchange", "rpc", "retry", "priorities", "returns_and_confirms", "transactions", "header_types", "errors",
]
SPRING = ["confirms_and_returns", "simple_listener", "dead_letter_after_retries", "rpc", "transactions"]
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


@pytest.fixture(scope="module")
def java():
    """The command that runs a class."""
    interop.need("java", "javac", "mvn")

    def install(place):
        return ["mvn", "-B", "-q", COPY, "-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}"]

    place = interop.installed("java", install, ["pom.xml"])
    sources = [str(it) for it in (interop.PROGRAMS / "java").glob("*.java")]
    compiled = subprocess.run(
        ["javac", "-nowarn", "-cp", f"{place}/jars/*", "-d", str(place / "classes"), *sources], check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=interop.INSTALL_WITHIN,
    )
    assert compiled.returncode == 0, compiled.stdout
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{place}/classes:{place}/jars/*"]


def test_java_client(java, broker, name):
    interop.tell([*java, "JavaClient"], CLIENT, broker, name)


def test_java_client_recovers_when_the_broker_is_back(java, own_broker, name):
    interop.tell([*java, "JavaClient"], ["recovery"], own_broker(), name)


def test_spring(java, broker, name):
    interop.tell([*java, "SpringClient"], SPRING, broker, name)


def test_spring_recovers_when_the_broker_is_back(java, own_broker, name):
    interop.tell([*java, "SpringClient"], ["recovery"], own_broker(), name)
