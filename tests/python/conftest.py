"""Brokers and names for every test."""

import itertools
import os

import pytest

from broker import Broker

_numbers = itertools.count()


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """One broker for all the tests that leave it running."""
    shared = Broker(tmp_path_factory.mktemp("shared") / "data").start()
    yield shared
    print("".join(shared.log))  # shown when the end is not a clean one
    shared.close()


@pytest.fixture
def own_broker(tmp_path):
    """Starts brokers that a test may stop, kill and start again."""
    started = []

    def start(**settings):
        started.append(Broker(tmp_path / f"data{len(started)}", **settings).start())
        return started[-1]

    yield start
    for it in started:
        it.close()


@pytest.fixture
def name():
    """A name that no other test has."""
    return f"t{os.getpid()}-{next(_numbers)}"
