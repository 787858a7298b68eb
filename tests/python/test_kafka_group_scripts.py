"""Groups told apart from Apache Kafka's by scripts of single requests: what Apache Kafka 4.3.1 was recorded to answer is what
is answered here. With TEST_KAFKA_JARS, a folder of its jars, it is asked again itself."""

import os

import pytest

import kafka_script
import kafka_scripts_classic  # noqa: F401, these are the scripts
import kafka_scripts_consumer  # noqa: F401
import kafka_scripts_group_admin  # noqa: F401
import kafka_scripts_offsets  # noqa: F401
from apache_kafka import ApacheKafka
from broker import Broker

JARS = os.environ.get("TEST_KAFKA_JARS")
SCRIPTS = [it for it in kafka_script.SCRIPTS if it != "ready"]


@pytest.fixture(scope="module")
def trivium(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("scripts") / "data", **kafka_script.OF_TRIVIUM).start()
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def apache(tmp_path_factory):
    if not JARS:
        pytest.skip("TEST_KAFKA_JARS is not set")
    node = ApacheKafka(tmp_path_factory.mktemp("apache") / "node", JARS, **kafka_script.OF_APACHE).start()
    try:
        kafka_script.transcript("ready", node.port)
        yield node
    finally:
        node.close()


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_answers_are_those_of_apache_kafka(trivium, script):
    assert kafka_script.transcript(script, trivium.port("kafka")) == kafka_script.recorded(script)


def test_apache_kafka_answers_as_it_was_recorded(apache):
    for script in SCRIPTS:
        assert kafka_script.transcript(script, apache.port) == kafka_script.recorded(script), script
