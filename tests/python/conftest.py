"""Brokers and names for every test."""

import itertools
import os

import pytest

from broker import Broker
from rabbitmq import RabbitMQ

_numbers = itertools.count()


def make_broker(directory, **settings):
    """Trivium; or RabbitMQ with TEST_BROKER=rabbitmq, which proves tests of RabbitMQ's clients themselves."""
    if os.environ.get("TEST_BROKER") == "rabbitmq":
        return RabbitMQ(directory)
    return Broker(directory, **settings)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """One broker for all the tests that leave it running."""
    shared = make_broker(tmp_path_factory.mktemp("shared") / "data").start()
    yield shared
    print("".join(shared.log))  # shown when the end is not a clean one
    shared.close()


@pytest.fixture
def own_broker(tmp_path):
    """Starts brokers that a test may stop, kill and start again."""
    started = []

    def start(**settings):
        started.append(make_broker(tmp_path / f"data{len(started)}", **settings).start())
        return started[-1]

    yield start
    for it in started:
        it.close()


@pytest.fixture
def name():
    """A name that no other test has."""
    return f"t{os.getpid()}-{next(_numbers)}"
