"""amqp-tools, the command line programs of rabbitmq-c."""

import subprocess

import interop
from clients import PATIENCE


def run(command, *arguments, body=None, broker):
    return subprocess.run(
        [f"amqp-{command}", f"--url={broker.amqp_url.rstrip('/')}/%2f", *arguments], input=body, check=False, text=True,
        capture_output=True, timeout=PATIENCE,
    )


def test_published_got_and_consumed(broker, name):
    interop.need("amqp-publish", "amqp-get", "amqp-consume", "amqp-declare-queue", "amqp-delete-queue")
    assert run("declare-queue", "-q", name, "-d", broker=broker).stdout.strip() == name
    assert run("get", "-q", name, broker=broker).returncode == 2  # empty
    for body in ("one", "two", "three"):
        published = run("publish", "-r", name, "-b", body, "-p", "-C", "text/plain", broker=broker)
        assert published.returncode == 0, published.stderr
    assert run("get", "-q", name, broker=broker).stdout == "one"
    consumed = run("consume", "-q", name, "-c", "2", "cat", broker=broker)
    assert consumed.stdout == "twothree"
    assert run("delete-queue", "-q", name, broker=broker).stdout.strip() == "0"


def test_consumed_from_a_topic(broker, name):
    interop.need("amqp-consume", "amqp-publish")
    consumer = subprocess.Popen(
        ["amqp-consume", f"--url={broker.amqp_url.rstrip('/')}/%2f", "-e", "amq.topic", "-r", f"{name}.#", "-c", "1", "cat"],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    # It tells the name of its queue, to which the binding belongs, before it binds: so the message is sent again.
    deadline = 600
    while consumer.poll() is None and deadline:
        deadline -= 1
        assert run("publish", "-e", "amq.topic", "-r", f"{name}.news", "-b", "news", broker=broker).returncode == 0
        try:
            consumer.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    assert consumer.communicate(timeout=PATIENCE)[0].startswith("news")


def test_errors_are_told(broker, name):
    interop.need("amqp-get")
    missing = run("get", "-q", name, broker=broker)
    assert missing.returncode != 0
    assert f"NOT_FOUND - no queue '{name}' in vhost '/'" in missing.stderr
