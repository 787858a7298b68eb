"""Queues and streams are declared and deleted over HTTP as in RabbitMQ's management API."""

from clients import bodies, pika_channel, take
from management import Management, path


def test_a_queue_is_declared_and_deleted(broker, name):
    api = Management(broker)
    queue = {"durable": True, "arguments": {"x-max-length": 3}}
    assert api.ask("PUT", path("queues", "/", name), queue)[0] == 201
    assert api.ask("PUT", path("queues", "/", name), queue)[0] == 204
    status, refused = api.ask("PUT", path("queues", "/", name), {"durable": True})
    assert (status, refused["error"]) == (400, "bad_request")
    assert "inequivalent arg 'x-max-length'" in refused["reason"]
    with pika_channel(broker) as channel:
        for number in range(5):
            channel.basic_publish("", name, b"%d" % number)
        channel.queue_declare(name, durable=True, arguments={"x-max-length": 3})
        assert api.ask("DELETE", path("queues", "/", name) + "?if-empty=true")[0] == 400
        assert bodies(take(channel, name, 3)) == [b"2", b"3", b"4"]
    assert api.ask("DELETE", path("queues", "/", name) + "?if-empty=true")[0] == 204
    assert api.ask("DELETE", path("queues", "/", name))[0] == 404


def test_a_stream_that_captures_and_a_cursor(broker, name):
    api = Management(broker)
    stream = {"durable": True, "arguments": {"x-queue-type": "stream", "x-mq.bind": f"amq.topic:{name}.#"}}
    assert api.ask("PUT", path("queues", "/", name), stream)[0] == 201
    cursor = {"durable": True, "arguments": {"x-queue-type": "cursor", "x-source": name, "x-stream-offset": "first"}}
    assert api.ask("PUT", path("queues", "/", f"{name}-c"), cursor)[0] == 201
    with pika_channel(broker) as channel:
        channel.basic_publish("amq.topic", f"{name}.a", b"captured")
        assert bodies(take(channel, f"{name}-c", 1)) == [b"captured"]
    assert api.ask("DELETE", path("queues", "/", name))[0] == 204
    assert api.ask("GET", path("queues", "/", f"{name}-c"))[0] == 404


def test_a_user_may_do_what_amqp_lets_them(broker, name):
    api, user = Management(broker), f"{name}-user"
    api.put("users", user, password="p", tags="management")
    api.put("permissions", "/", user, configure=f"{name}-own.*", write="", read="")
    theirs = Management(broker, user, "p")
    assert theirs.ask("PUT", path("queues", "/", f"{name}-own"), {})[0] == 201
    assert theirs.ask("PUT", path("queues", "/", f"{name}-other"), {})[0] == 401
    assert theirs.ask("DELETE", path("queues", "/", f"{name}-own"))[0] == 204
    api.delete("users", user)
