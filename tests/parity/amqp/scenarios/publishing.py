"""Publishing: errors, returns, confirms, CC and BCC, what of a message is changed on the way."""

from play import Typed, scenario


@scenario
def missing_exchange(t):
    c = t.channel()
    c.publish(t.q("nowhere"), "k", "lost")
    c.next()
    c = t.channel()
    c("confirm.select")
    c.publish(t.q("nowhere"), "k", "lost")
    c.next()


@scenario
def unroutable(t):
    c = t.channel()
    c.publish("", t.q(), "dropped")
    c.publish("", t.q(), "returned", {"message_id": "7", "headers": {"a": 1}}, mandatory=True)
    c.next()
    c.publish("amq.direct", t.q(), "returned too", mandatory=True)
    c.next()


@scenario
def confirms_are_numbered(t):
    c = t.channel()
    c("confirm.select")
    c.declare(t.q())
    for body in "abc":
        c.publish_sure("", t.q(), body)
    c.publish_sure("", t.q("nowhere"), "acked although it is nowhere")
    c.publish_sure("", t.q("nowhere"), "returned, then acked", mandatory=True)
    c("confirm.select")
    c.publish_sure("", t.q(), "numbers go on")


@scenario
def many_confirms(t):
    c = t.channel()
    c("confirm.select")
    c.declare(t.q(), durable=True)
    for number in range(50):
        c.wire.publish(c.number, "", t.q(), str(number), {"delivery_mode": 2})
    c.confirms(50)
    c.wait_messages(t.q(), 50)


@scenario
def returns_come_before_confirms(t):
    c = t.channel()
    c("confirm.select")
    for number in range(3):
        c.publish("", t.q(), str(number), mandatory=True)
    seen = []
    while len([it for it in seen if it.name == "basic.ack"]) == 0 or seen[-1].delivery_tag < 3:
        seen.append(c.wire.receive(c.number))
        if seen[-1].name == "basic.return":
            seen[-1]["delivery_tag"] = 0
    first_ack = [it.name for it in seen].index("basic.ack")
    returned = [it.body.decode() for it in seen if it.name == "basic.return"]
    t.note(f"returned {returned}; the first of them before any confirm: {first_ack > 0}")


@scenario
def confirm_and_tx_do_not_mix(t):
    c = t.channel()
    c("confirm.select")
    c("tx.select")
    c = t.channel()
    c("tx.select")
    c("confirm.select")
    t.channel()("tx.commit")
    t.channel()("tx.rollback")


@scenario
def immediate(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "now", immediate=True)
    c.next()


@scenario
def queue_deleted_with_unconfirmed(t):
    c = t.channel()
    c("confirm.select")
    c.declare(t.q())
    c.publish("", t.q(), "kept")
    c("queue.delete", queue=t.q()) if c.next() else None


@scenario
def expiration(t):
    for value in ["abc", "-1", "1.5", "", " 5", "60000", "0", "315360000000", "315360000001", "5s", "0x10"]:
        c = t.channel()
        c("confirm.select")
        c.publish("", t.q(), "m", {"expiration": value})
        c.next()


@scenario
def user_id(t):
    for value in ["guest", "bob", ""]:
        c = t.channel()
        c("confirm.select")
        c.publish("", t.q(), "m", {"user_id": value})
        c.next()


@scenario
def cc_and_bcc(t):
    c = t.channel()
    for name in "abcd":
        c.declare(t.q(name))
    c("confirm.select")
    headers = {"CC": [t.q("b"), t.q("a")], "BCC": [t.q("c")], "kept": "yes"}
    c.publish_sure("", t.q("a"), "to all", {"headers": headers})
    for name in "abcd":
        c.get(t.q(name), no_ack=True)
        c.get(t.q(name), no_ack=True)
    c.publish_sure("", t.q("nowhere"), "by CC only", {"headers": {"CC": [t.q("b")]}}, mandatory=True)
    c.get(t.q("b"), no_ack=True)
    c.publish_sure("", t.q("nowhere"), "by BCC only", {"headers": {"BCC": [t.q("b")]}}, mandatory=True)
    c.get(t.q("b"), no_ack=True)
    c.publish_sure("", t.q("nowhere"), "to nobody", {"headers": {"CC": [t.q("x")], "BCC": [t.q("y")]}}, mandatory=True)


@scenario
def cc_on_other_exchanges(t):
    c = t.channel()
    c.exchange(t.q(), "topic")
    for name, key in [("a", "a.*"), ("b", "b.#"), ("all", "#")]:
        c.declare(t.q(name))
        c.bind(t.q(name), t.q(), key)
    c.publish(t.q(), "a.1", "m", {"headers": {"CC": ["b.2.3", "a.2"]}})
    for name in ("a", "b", "all"):
        c.get(t.q(name), no_ack=True)
        c.drain(t.q(name))


@scenario
def cc_that_is_no_list(t):
    for headers in [{"CC": "key"}, {"BCC": 5}, {"CC": [5]}, {"CC": []}, {"CC": None}]:
        c = t.channel()
        c("confirm.select")
        c.publish("", t.q(), "m", {"headers": headers})
        c.next()


EVERYTHING = {
    "content_type": "text/plain", "content_encoding": "gzip", "delivery_mode": 2, "priority": 3, "correlation_id": "corr",
    "reply_to": "somewhere", "expiration": "60000", "message_id": "id-1", "timestamp": 1700000000, "type": "kind",
    "user_id": "guest", "app_id": "app", "cluster_id": "cluster",
    "headers": {
        "bool": True, "i8": Typed("b", -5), "u8": Typed("B", 250), "i16": Typed("s", -300), "u16": Typed("u", 65000),
        "i32": Typed("I", -70000), "u32": Typed("i", 4000000000), "i64": Typed("l", -(2**40)), "i64b": Typed("L", 2**40),
        "f32": Typed("f", 1.5), "f64": Typed("d", 2.25), "decimal": Typed("D", (2, 314)), "text": "\u00e4\u00f6\u00fc", "bytes": b"\x00\xff",
        "time": Typed("T", 1600000000), "void": None, "list": [1, "two", [3.0, None], {"four": 4}],
        "table": {"a": {"b": {"c": [True, False]}}}, "empty": "", "": "no name",
    },
}


@scenario
def everything_is_passed_on(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "m", EVERYTHING)
    c.get_when_there(t.q())
    c.publish("", t.q(), "", {"headers": {}, "correlation_id": "", "delivery_mode": 1, "priority": 0})
    c.get_when_there(t.q())
    c.publish("", t.q(), "", {"delivery_mode": 9, "priority": 255, "timestamp": 2**63})
    c.get_when_there(t.q())


@scenario
def bodies_of_many_sizes(t):
    c = t.channel()
    c.declare(t.q())
    for size in (0, 1, 131064, 131065, 300000, 1 << 20):
        c.publish("", t.q(), "x" * size)
        c.get_when_there(t.q())


@scenario
def ordering_of_a_channel(t):
    c = t.channel()
    c.declare(t.q())
    for number in range(300):
        c.wire.publish(c.number, "", t.q(), str(number))
    c.consume(t.q(), no_ack=True)
    c.bodies(300)


@scenario
def nothing_happens_after_the_error(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    c.publish(t.q("nowhere"), "k", "error")
    c.wire.publish(c.number, "", t.q(), "ignored")
    c.wire.send("queue.purge", c.number, queue=t.q())
    c.next()
    other.silent()
    other.drain(t.q())
