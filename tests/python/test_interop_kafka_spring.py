"""Spring for Apache Kafka, as applications with Spring Boot use it."""

import pytest

import interop
from kafka_java import COPY

STORIES = [
    "retry_topics", "dead_letters", "request_and_reply", "batches_acknowledged_in_part", "exactly_once_over_a_restart",
    "consumer_protocol", "share_listener",
]


@pytest.fixture(scope="module")
def spring():
    """The command that runs the stories; skips where there is no Java."""
    interop.need("java", "javac", "mvn")
    source = interop.PROGRAMS / "kafka-spring" / "SpringKafka.java"

    def install(place):
        fetch = ["mvn", "-B", "-q", COPY, "-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}"]
        compile = ["javac", "-parameters", "-nowarn", "-cp", f"{place}/jars/*", "-d", f"{place}/classes", str(source)]
        return ["sh", "-ec", '"$@"; exec ' + " ".join(f"'{it}'" for it in compile), "sh", *fetch]

    place = interop.installed("kafka-spring", install, ["pom.xml", "SpringKafka.java"])
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{place}/classes:{place}/jars/*", "SpringKafka"]


@pytest.mark.parametrize("story", STORIES)
def test_spring(spring, own_broker, name, story):
    broker = own_broker()
    interop.tell(spring, [story], broker, name, {"KAFKA": broker.kafka})
