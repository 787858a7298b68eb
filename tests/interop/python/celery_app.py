"""A Celery application with what real ones use: retries, ETA, groups, chords, late acknowledgement."""

import os
import threading
import time

from celery import Celery
from kombu import Exchange, Queue

PREFIX = os.environ["PREFIX"]

app = Celery("interop", broker=os.environ["AMQP_URL"], backend=os.environ.get("RESULT_BACKEND", "rpc://"))
app.conf.update(
    task_default_queue=f"{PREFIX}-celery",
    task_queues=[
        Queue(f"{PREFIX}-celery", Exchange(f"{PREFIX}-celery"), routing_key=f"{PREFIX}-celery"),
        Queue(f"{PREFIX}-urgent", Exchange(f"{PREFIX}-celery"), routing_key=f"{PREFIX}-urgent", queue_arguments={"x-max-priority": 10}),
    ],
    task_default_exchange=f"{PREFIX}-celery",
    task_default_routing_key=f"{PREFIX}-celery",
    control_exchange=f"{PREFIX}-pidbox",
    event_exchange=f"{PREFIX}-events",
    worker_prefetch_multiplier=4,
    task_track_started=True,
    result_expires=600,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
)


@app.task
def add(left, right):
    return left + right


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def third_time(self):
    """Fails twice."""
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task
def now():
    return time.time()


@app.task
def fails():
    raise ValueError("on purpose")


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def late(self):
    """Whether it was given to a worker before."""
    return bool(self.request.delivery_info["redelivered"])


@app.task(acks_late=True, reject_on_worker_lost=True)
def dies_once(path):
    """Ends the worker process the first time it runs."""
    if not os.path.exists(path):
        with open(path, "w", encoding="ascii"):
            pass
        os._exit(1)
    return "survived"


@app.task
def waits(seconds):
    threading.Event().wait(seconds)
    return "waited"
