"""Celery with a real worker process and the rpc:// backend."""

import datetime
import importlib
import os
import subprocess
import sys
import time

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

import interop
from clients import eventually

PATIENCE = 120
READY = "ready."


class Worker:
    """A Celery worker in a process of its own, with two child processes."""

    def __init__(self, environment, prefix):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-l", "INFO", "-c", "2", "-n", f"{prefix}@interop",
             "--without-mingle", "--without-gossip"],
            cwd=interop.PROGRAMS / "python", env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.log = []
        for line in self.process.stdout:
            self.log.append(line)
            if READY in line:
                break
        assert self.process.poll() is None, "".join(self.log)
        interop.drain(self.process.stdout, self.log)

    def stop(self):
        """A warm shutdown waits for tasks; on a busy machine that may take longer than the test does."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def module_prefix():
    return f"celery{os.getpid()}"


@pytest.fixture(scope="module")
def app(broker, module_prefix):
    """The application as its clients import it."""
    environment = {"AMQP_URL": broker.amqp_url, "PREFIX": module_prefix}
    sys.path.insert(0, str(interop.PROGRAMS / "python"))
    saved = dict(os.environ)
    os.environ.update(environment)
    try:
        yield importlib.import_module("celery_app")
    finally:
        os.environ.clear()
        os.environ.update(saved)
        sys.path.pop(0)


@pytest.fixture(scope="module")
def worker(app, module_prefix):
    it = Worker({**os.environ}, module_prefix)
    yield it
    it.stop()


def test_results(app, worker):
    assert app.add.delay(2, 3).get(PATIENCE) == 5
    with pytest.raises(ValueError, match="on purpose"):
        app.fails.delay().get(PATIENCE)


def test_retries(app, worker):
    assert app.third_time.delay().get(PATIENCE) == 2


def test_countdown_and_eta(app, worker):
    start = time.time()
    later = app.now.apply_async(countdown=1)
    eta = app.now.apply_async(eta=datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1))
    assert later.get(PATIENCE) >= start + 1
    assert eta.get(PATIENCE) >= start + 1


def test_groups_chains_and_chords(app, worker):
    assert group(app.add.s(n, n) for n in range(10))().get(PATIENCE) == [2 * n for n in range(10)]
    assert chain(app.add.s(1, 2), app.add.s(10), app.add.s(100))().get(PATIENCE) == 113


def test_chords_are_not_for_the_rpc_backend(app, worker):
    """Celery refuses chords over rpc:// itself, whatever the broker is: results there are read once."""
    with pytest.raises(NotImplementedError):
        chord([app.add.s(n, n) for n in range(3)])(app.total.s()).get(PATIENCE)


def test_chords(broker, name, tmp_path):
    """With results in files, the broker carries the rest: the tasks, and the one that asks again and again if all are done."""
    environment = {**os.environ, "AMQP_URL": broker.amqp_url, "PREFIX": name, "RESULT_BACKEND": f"file://{tmp_path}"}
    program = "from celery_app import *; from celery import chord; print(chord([add.s(n, n) for n in range(5)])(total.s()).get(120))"
    it = Worker(environment, name)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=interop.PROGRAMS / "python", env=environment, text=True, check=False,
            capture_output=True, timeout=2 * PATIENCE,
        )
        assert done.stdout.strip() == "20", done.stderr + "".join(it.log[-30:])
    finally:
        it.stop()


def test_priority_queue(app, worker, module_prefix):
    results = [
        app.add.apply_async((n, 1), queue=f"{module_prefix}-urgent", routing_key=f"{module_prefix}-urgent", priority=n) for n in range(5)
    ]
    assert [it.get(PATIENCE) for it in results] == [n + 1 for n in range(5)]


def test_late_acknowledgement_of_a_lost_process(app, worker, tmp_path):
    assert app.late.delay().get(PATIENCE) is False
    assert app.dies_once.delay(str(tmp_path / "died")).get(PATIENCE) == "survived"


def test_remote_control(app, worker):
    """Broadcast over a fanout exchange, answers over direct routing, and a task that is revoked before its time."""
    control = app.app.control
    assert [list(it.values())[0] for it in control.ping(timeout=PATIENCE, limit=1)] == [{"ok": "pong"}]
    waiting = app.add.apply_async((1, 1), countdown=60)
    inspect = control.inspect(timeout=PATIENCE, limit=1)
    eventually(lambda: any(it["request"]["id"] == waiting.id for tasks in (inspect.scheduled() or {}).values() for it in tasks))
    waiting.revoke()
    eventually(lambda: any(waiting.id in ids for ids in (inspect.revoked() or {}).values()))
    # The worker tells of it when the time of the task has come; one that is due at once is told of at once.
    due = app.waits.apply_async((60,))
    eventually(lambda: any(it["id"] == due.id for tasks in (inspect.active() or {}).values() for it in tasks))
    due.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        due.get(PATIENCE)


def test_worker_comes_back_after_the_broker(own_broker, name):
    broker = own_broker()
    environment = {**os.environ, "AMQP_URL": broker.amqp_url, "PREFIX": name}
    ask = [sys.executable, "-c", "import celery_app; print(celery_app.add.delay(20, 22).get(120))"]
    call = {"cwd": interop.PROGRAMS / "python", "env": environment, "text": True, "capture_output": True, "timeout": 2 * PATIENCE}
    it = Worker(environment, name)
    try:
        assert subprocess.run(ask, check=False, **call).stdout.strip() == "42"
        broker.restart()
        again = subprocess.run(ask, check=False, **call)
        assert again.stdout.strip() == "42", again.stderr + "".join(it.log[-30:])
    finally:
        it.stop()
