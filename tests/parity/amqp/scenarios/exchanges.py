"""Exchanges: declaring, every kind of routing, bindings between them, alternates."""

from play import Typed, scenario


@scenario
def declared_again(t):
    t.channel().exchange(t.q())
    t.channel().exchange(t.q())
    t.channel().exchange(t.q(), passive=True)
    t.channel().exchange(t.q(), "topic", passive=True, durable=True)
    t.channel().exchange(t.q(), "topic")
    t.channel().exchange(t.q(), durable=True)
    t.channel().exchange(t.q(), auto_delete=True)
    t.channel().exchange(t.q(), internal=True)
    t.channel().exchange(t.q(), args={"x-whatever": 1})
    t.channel().exchange(t.q(), args={"alternate-exchange": "amq.fanout"})
    t.channel().exchange(t.q("ae"), args={"alternate-exchange": "amq.fanout"})
    t.channel().exchange(t.q("ae"), args={"alternate-exchange": "amq.direct"})
    t.channel().exchange(t.q("ae"))


@scenario
def bad_arguments(t):
    t.channel().exchange(t.q("ae"), args={"alternate-exchange": 5})
    t.channel().exchange(t.q("missing"), args={"alternate-exchange": "no-such"})


@scenario
def missing(t):
    t.channel().exchange(t.q(), passive=True)
    t.channel()("exchange.delete", exchange=t.q())
    t.channel()("exchange.bind", destination=t.q(), source="amq.direct")
    t.channel()("exchange.bind", destination="amq.direct", source=t.q())
    t.channel()("exchange.unbind", destination="amq.direct", source=t.q())
    t.channel()("exchange.unbind", destination="amq.direct", source="amq.fanout", routing_key="never")


@scenario
def unknown_type(t):
    t.channel().exchange(t.q(), "nosuch")


@scenario
def predeclared(t):
    c = t.channel()
    for name, kind in [("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                       ("amq.headers", "headers"), ("amq.match", "headers"), ("amq.rabbitmq.trace", "topic")]:
        c.exchange(name, kind, passive=True)
    c.exchange("amq.direct", "direct", durable=True)
    c.exchange("amq.direct", "direct")
    t.channel()("exchange.delete", exchange="amq.direct")


@scenario
def default_exchange_is_not_touched(t):
    t.channel().exchange("", "direct", passive=True)
    t.channel().exchange("", "direct", durable=True)
    t.channel()("exchange.delete", exchange="")
    c = t.channel()
    c.declare(t.q())
    c.bind(t.q(), "", "key")
    t.channel()("queue.unbind", queue=t.q(), exchange="", routing_key=t.q())
    t.channel()("exchange.bind", destination="", source="amq.direct")
    t.channel()("exchange.bind", destination="amq.direct", source="")


@scenario
def delete_conditions(t):
    c = t.channel()
    c.exchange(t.q())
    c.declare(t.q())
    c.bind(t.q(), t.q(), "k")
    c("exchange.delete", exchange=t.q(), if_unused=True)
    c = t.channel()
    c("exchange.delete", exchange=t.q())
    c("exchange.delete", exchange=t.q())


@scenario
def auto_delete_goes_with_its_last_binding(t):
    c = t.channel()
    c.exchange(t.q(), "fanout", auto_delete=True)
    c.declare(t.q("a"))
    c.bind(t.q("a"), t.q())
    c.exchange(t.q(), passive=True)
    c("queue.unbind", queue=t.q("a"), exchange=t.q())
    c.exchange(t.q(), passive=True)
    c = t.channel()
    c.exchange(t.q("x"), "fanout", auto_delete=True)
    c.bind(t.q("a"), t.q("x"))
    c("queue.delete", queue=t.q("a"))
    c.exchange(t.q("x"), passive=True)
    # A binding to it does not keep it, and its going is no reason to go.
    c = t.channel()
    c.exchange(t.q("y"), "fanout", auto_delete=True)
    c("exchange.bind", destination=t.q("y"), source="amq.fanout")
    c("exchange.unbind", destination=t.q("y"), source="amq.fanout")
    c.exchange(t.q("y"), passive=True)


@scenario
def internal_is_not_published_to(t):
    c = t.channel()
    c.exchange(t.q(), "fanout", internal=True)
    c.declare(t.q())
    c.bind(t.q(), t.q())
    c("exchange.bind", destination=t.q(), source="amq.direct", routing_key=t.q())
    c.publish("amq.direct", t.q(), "through another")
    c.get_when_there(t.q())
    c.publish(t.q(), "", "directly")
    c.next()


def routed(t, c, exchange, cases, queues):
    for key, headers in cases:
        properties = {"headers": headers} if headers is not None else None
        c.publish(exchange, key, "m", properties)
        for queue in queues:
            c.drain(queue)


@scenario
def direct(t):
    c = t.channel()
    c.exchange(t.q())
    for name, key in [("a", "k"), ("b", "k"), ("c", "other"), ("d", "")]:
        c.declare(t.q(name))
        c.bind(t.q(name), t.q(), key)
    routed(t, c, t.q(), [("k", None), ("other", None), ("", None), ("K", None)], [t.q(it) for it in "abcd"])


@scenario
def topic(t):
    c = t.channel()
    c.exchange(t.q(), "topic")
    patterns = ["#", "*", "a.*", "a.#", "#.c", "*.*", "a.#.c", "#.b.#", "", "a..c", "*.", "a.*.#", "#.#", "a*", "#a"]
    for number, pattern in enumerate(patterns):
        c.declare(t.q(str(number)))
        c.bind(t.q(str(number)), t.q(), pattern)
    for key in ["", "a", "b", "a.b", "a.c", "a.b.c", "a.b.b.c", "a..c", ".", "a.", ".a", "a*", "*", "#", "#a", "A"]:
        c.publish(t.q(), key, "m")
        hits = []
        for number, pattern in enumerate(patterns):
            got = c.wire.call("basic.get", c.number, queue=t.q(str(number)), no_ack=True)
            if got.name == "basic.get-ok":
                hits.append(pattern)
        t.note(f"{key!r} is matched by {hits}")


@scenario
def topic_binding_with_many_hashes(t):
    c = t.channel()
    c.declare(t.q())
    c.bind(t.q(), "amq.topic", "#.a.#.b.#")


HEADERS = [
    {"x-match": "all", "a": "1", "b": 2},
    {"x-match": "any", "a": "1", "b": 2},
    {"a": "1", "b": 2},
    {"x-match": "all"},
    {"x-match": "any"},
    {"x-match": "all", "x-hidden": "1"},
    {"x-match": "any", "x-hidden": "1"},
    {"x-match": "all", "a": None},
    {"x-match": "all", "b": Typed("l", 2)},
    {"x-match": "all", "b": Typed("d", 2.0)},
    {"x-match": "all", "t": True},
    {"x-match": "any-with-x", "x-hidden": "1"},
    {"x-match": "all-with-x", "x-hidden": "1", "a": "1"},
]
SENT = [
    None, {}, {"a": "1"}, {"b": 2}, {"a": "1", "b": 2}, {"a": "1", "b": 2, "c": 3}, {"a": "2", "b": 2}, {"x-hidden": "1"},
    {"a": b"1"}, {"b": Typed("l", 2)}, {"b": Typed("b", 2)}, {"b": Typed("d", 2.0)}, {"t": True}, {"t": "true"}, {"a": None},
    {"a": "1", "x-hidden": "1"},
]


def matched(t, bindings, sent):
    """Which bindings of a headers exchange each of the tables that are sent matches, by their places."""
    c = t.channel()
    c.exchange(t.q(), "headers")
    bound = []
    for number, arguments in enumerate(bindings):
        c.declare(t.q(str(number)))
        if c("queue.bind", queue=t.q(str(number)), exchange=t.q(), args=arguments).name == "queue.bind-ok":
            bound.append(number)
        else:
            c = t.channel()
    for headers in sent:
        c.publish(t.q(), "", "m", {"headers": headers} if headers is not None else None)
        hits = []
        for number in bound:
            got = c.wire.call("basic.get", c.number, queue=t.q(str(number)), no_ack=True)
            if got.name == "basic.get-ok":
                hits.append(number)
        t.note(f"{headers} is matched by {hits}")


@scenario
def headers(t):
    matched(t, HEADERS, SENT)


@scenario
def headers_binding_with_a_bad_match(t):
    for value in ["some", 5, ""]:
        c = t.channel()
        c.declare(t.q())
        c("queue.bind", queue=t.q(), exchange="amq.headers", args={"x-match": value})


@scenario
def bindings_that_differ_in_arguments(t):
    c = t.channel()
    c.declare(t.q())
    c("queue.bind", queue=t.q(), exchange="amq.headers", args={t.q("a"): 1})
    c("queue.bind", queue=t.q(), exchange="amq.headers", args={t.q("b"): 2})
    c.publish("amq.headers", "", "both", {"headers": {t.q("a"): 1, t.q("b"): 2}})
    c.drain(t.q())
    c("queue.unbind", queue=t.q(), exchange="amq.headers", args={t.q("a"): 1})
    c.publish("amq.headers", "", "a", {"headers": {t.q("a"): 1}})
    c.publish("amq.headers", "", "b", {"headers": {t.q("b"): 2}})
    c.drain(t.q())


@scenario
def exchange_to_exchange(t):
    c = t.channel()
    c.exchange(t.q("top"), "topic")
    c.exchange(t.q("left"), "direct")
    c.exchange(t.q("right"), "fanout")
    c.declare(t.q())
    c("exchange.bind", destination=t.q("left"), source=t.q("top"), routing_key="a.#")
    c("exchange.bind", destination=t.q("right"), source=t.q("top"), routing_key="#")
    c.bind(t.q(), t.q("left"), "a.b")
    c.bind(t.q(), t.q("right"))
    # One copy for each queue, however many ways there are.
    c.publish(t.q("top"), "a.b", "two ways")
    c.get(t.q(), no_ack=True)
    c.drain(t.q())
    # A cycle ends.
    c("exchange.bind", destination=t.q("top"), source=t.q("right"), routing_key="#")
    c.publish(t.q("right"), "x", "cycle")
    c.drain(t.q())
    c("exchange.unbind", destination=t.q("right"), source=t.q("top"), routing_key="#")
    c.publish(t.q("top"), "z", "unbound")
    c.drain(t.q())


@scenario
def alternate(t):
    c = t.channel()
    c.exchange(t.q("last"), "fanout")
    c.exchange(t.q("second"), "direct", args={"alternate-exchange": t.q("last")})
    c.exchange(t.q("first"), "direct", args={"alternate-exchange": t.q("second")})
    for name in ("one", "two", "rest"):
        c.declare(t.q(name))
    c.bind(t.q("one"), t.q("first"), "1")
    c.bind(t.q("two"), t.q("second"), "2")
    c("confirm.select")
    for key in "123":
        c.publish_sure(t.q("first"), key, key, mandatory=True)
    c.bind(t.q("rest"), t.q("last"))
    c.publish_sure(t.q("first"), "4", "4", mandatory=True)
    for name in ("one", "two", "rest"):
        c.drain(t.q(name))


@scenario
def alternate_in_a_circle(t):
    c = t.channel()
    c.exchange(t.q("a"), "direct", args={"alternate-exchange": t.q("b")})
    c.exchange(t.q("b"), "direct", args={"alternate-exchange": t.q("a")})
    c("confirm.select")
    c.publish_sure(t.q("a"), "nowhere", "returned", mandatory=True)


@scenario
def alternate_that_is_missing(t):
    c = t.channel()
    c.exchange(t.q(), "direct", args={"alternate-exchange": t.q("missing")})
    c("confirm.select")
    c.publish_sure(t.q(), "nowhere", "returned", mandatory=True)


@scenario
def default_exchange_routes_to_every_queue(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "by name")
    c.get_when_there(t.q())
    c("confirm.select")
    c.publish_sure("", t.q("missing"), "nobody", mandatory=True)


ODD_HEADERS = [
    {"a": [1, "two"]}, {"a": {"b": 1}}, {"a": Typed("T", 1600000000)}, {"a": Typed("D", (2, 314))}, {"a": Typed("f", 1.5)},
    {"a": Typed("d", 1.5)}, {"a": 1}, {"a": Typed("d", 1.0)}, {"a": True}, {"a": False}, {"a": b"bytes"}, {"a": "bytes"},
    {"a": ""}, {"a": None}, {"a": Typed("l", 1600000000)}, {"A": 1}, {"": 1}, {"a": 1, "x-b": 2, "x-match": "any"},
    {"a": Typed("b", 1)}, {"a": Typed("B", 255)}, {"a": Typed("s", -1)}, {"a": Typed("b", -1)}, {"a": []},
    {"a": [1, "two", None]}, {"a": {"b": Typed("l", 1)}}, {"a": [Typed("l", 1), "two"]}, {"a": "1.5"}, {"a": Typed("L", 1)},
]


@scenario
def headers_of_odd_types(t):
    matched(t, ODD_HEADERS, ODD_HEADERS)


@scenario
def headers_are_unbound_by_equal_arguments(t):
    c = t.channel()
    c.declare(t.q())
    for bound, unbound in [
        ({"a": 1}, {"a": Typed("l", 1)}), ({"a": 1}, {"a": 1, "x-match": "all"}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": "x"}, {"a": b"x"}), ({"a": 1}, {}),
    ]:
        c("queue.bind", queue=t.q(), exchange="amq.headers", routing_key=t.q(), args={t.q(): "mine", **bound})
        c("queue.unbind", queue=t.q(), exchange="amq.headers", routing_key=t.q(), args={t.q(): "mine", **unbound})
        c.publish("amq.headers", "", "m", {"headers": {t.q(): "mine", **bound}})
        c.silent()
        c.drain(t.q())
        c("queue.unbind", queue=t.q(), exchange="amq.headers", routing_key=t.q(), args={t.q(): "mine", **bound})


@scenario
def bindings_that_differ_in_keys_of_a_headers_exchange(t):
    c = t.channel()
    c.declare(t.q())
    for key in ("one", "two"):
        c("queue.bind", queue=t.q(), exchange="amq.headers", routing_key=key, args={t.q(): 1})
    c("queue.unbind", queue=t.q(), exchange="amq.headers", routing_key="one", args={t.q(): 1})
    c.publish("amq.headers", "whatever", "m", {"headers": {t.q(): 1}})
    c.wait_messages(t.q(), 1)
