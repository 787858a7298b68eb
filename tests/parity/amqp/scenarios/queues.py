"""Declaring, binding, purging and deleting queues: answers, errors, arguments."""

from play import Typed, scenario


@scenario
def declared_again(t):
    c = t.channel()
    c.declare(t.q())
    c.declare(t.q())
    c.declare(t.q(), passive=True)
    c.declare(t.q(), passive=True, durable=True, auto_delete=True)


@scenario
def passive_of_missing(t):
    t.channel().declare(t.q(), passive=True)


@scenario
def server_named(t):
    c = t.channel()
    c.declare("", exclusive=True)
    c.declare("", exclusive=True)
    c("queue.bind", exchange="amq.direct", routing_key="")
    c("queue.purge")
    c("queue.delete")


@scenario
def last_declared_is_meant(t):
    c = t.channel()
    c.declare(t.q(), exclusive=True)
    c("queue.bind", exchange="amq.direct", routing_key="")
    c.publish("amq.direct", t.q(), "by the queue's name")
    c.get("", no_ack=True)
    c.consume("", "tag", no_ack=True)
    c("basic.cancel", consumer_tag="tag")
    c("queue.declare", queue="", passive=True)
    c("queue.delete")


@scenario
def none_declared(t):
    t.channel()("queue.bind", exchange="amq.direct", routing_key="k")
    t.channel()("queue.purge")
    t.channel()("queue.delete")
    t.channel()("basic.get")
    t.channel()("basic.consume")
    t.channel()("queue.unbind", exchange="amq.direct")
    t.channel()("queue.declare", passive=True)


@scenario
def inequivalent_properties(t):
    t.channel().declare(t.q("d"), durable=True)
    t.channel().declare(t.q("d"))
    t.channel().declare(t.q("d"), durable=True, auto_delete=True)
    t.channel().declare(t.q("d"), durable=True, exclusive=True)
    t.channel().declare(t.q("t"), auto_delete=True)
    t.channel().declare(t.q("t"), durable=True, auto_delete=True)
    t.channel().declare(t.q("t"))


@scenario
def inequivalent_arguments(t):
    t.channel().declare(t.q("plain"))
    t.channel().declare(t.q("plain"), args={"x-message-ttl": 100})
    t.channel().declare(t.q("ttl"), args={"x-message-ttl": 60000})
    t.channel().declare(t.q("ttl"), args={"x-message-ttl": 60001})
    t.channel().declare(t.q("ttl"))
    t.channel().declare(t.q("ttl"), args={"x-message-ttl": Typed("l", 60000)})
    t.channel().declare(t.q("ttl"), args={"x-message-ttl": Typed("s", 600)})
    t.channel().declare(t.q("dlx"), args={"x-dead-letter-exchange": "a"})
    t.channel().declare(t.q("dlx"), args={"x-dead-letter-exchange": "b"})
    t.channel().declare(t.q("len"), args={"x-max-length": 10})
    t.channel().declare(t.q("len"), args={"x-max-length": 11})
    t.channel().declare(t.q("bytes"), args={"x-max-length-bytes": 10})
    t.channel().declare(t.q("bytes"), args={"x-max-length-bytes": 11})
    t.channel().declare(t.q("over"), args={"x-overflow": "drop-head"})
    t.channel().declare(t.q("over"), args={"x-overflow": "reject-publish"})
    t.channel().declare(t.q("over"))
    t.channel().declare(t.q("prio"), args={"x-max-priority": 3})
    t.channel().declare(t.q("prio"), args={"x-max-priority": 4})
    t.channel().declare(t.q("sac"), args={"x-single-active-consumer": True})
    t.channel().declare(t.q("sac"))
    t.channel().declare(t.q("exp"), args={"x-expires": 60000})
    t.channel().declare(t.q("exp"), args={"x-expires": 60001})
    t.channel().declare(t.q("type"), durable=True, args={"x-queue-type": "classic"})
    t.channel().declare(t.q("type"), durable=True)
    t.channel().declare(t.q("type"), durable=True, args={"x-queue-type": "quorum"})
    t.channel().declare(t.q("qq"), durable=True, args={"x-queue-type": "quorum"})
    t.channel().declare(t.q("qq"), durable=True)
    t.channel().declare(t.q("qq"), durable=True, args={"x-queue-type": "classic"})


@scenario
def unknown_arguments_are_not_compared(t):
    c = t.channel()
    c.declare(t.q("a"), args={"x-max-retries": 5, "x-whatever": "yes", "plain": True})
    c.declare(t.q("a"))
    c.declare(t.q("a"), args={"x-max-retries": 6})
    c.declare(t.q("b"))
    c.declare(t.q("b"), args={"x-whatever": "yes"})


@scenario
def legacy_arguments(t):
    t.channel().declare(t.q("lazy"), args={"x-queue-mode": "lazy"})
    t.channel().declare(t.q("default"), args={"x-queue-mode": "default"})
    t.channel().declare(t.q("v2"), args={"x-queue-version": 2})
    t.channel().declare(t.q("locator"), args={"x-queue-master-locator": "min-masters"})
    t.channel().declare(t.q("ha"), args={"x-ha-policy": "all"})


BAD = [
    ("x-message-ttl", -1),
    ("x-message-ttl", "100"),
    ("x-message-ttl", True),
    ("x-message-ttl", Typed("d", 1.5)),
    ("x-message-ttl", Typed("l", 315_360_000_000)),
    ("x-message-ttl", Typed("l", 315_360_000_001)),
    ("x-message-ttl", 0),
    ("x-expires", 0),
    ("x-expires", -1),
    ("x-expires", "soon"),
    ("x-expires", Typed("l", 315_360_000_001)),
    ("x-max-length", -1),
    ("x-max-length", "ten"),
    ("x-max-length", 0),
    ("x-max-length-bytes", -5),
    ("x-max-length-bytes", "ten"),
    ("x-max-priority", -1),
    ("x-max-priority", 256),
    ("x-max-priority", "high"),
    ("x-max-priority", 0),
    ("x-max-priority", 255),
    ("x-overflow", "drop-tail"),
    ("x-overflow", 5),
    ("x-dead-letter-exchange", 5),
    ("x-dead-letter-routing-key", "key-without-exchange"),
    ("x-dead-letter-routing-key", 5),
    ("x-single-active-consumer", "true"),
    ("x-single-active-consumer", 1),
    ("x-queue-type", "bad"),
    ("x-queue-type", 5),
    ("x-queue-mode", "eager"),
    ("x-queue-mode", 5),
    ("x-queue-version", 3),
    ("x-queue-version", "2"),
]


@scenario
def bad_arguments(t):
    for number, (argument, value) in enumerate(BAD):
        t.channel().declare(t.q(str(number)), args={argument: value})


@scenario
def bad_locator(t):
    t.channel().declare(t.q(), args={"x-queue-master-locator": "nowhere"})


@scenario
def integers_of_any_width(t):
    c = t.channel()
    for letter in "bBsuIil":
        c.declare(t.q(), args={"x-max-length": Typed(letter, 100)})


@scenario
def dead_letter_arguments_together(t):
    t.channel().declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k"})
    t.channel().declare(t.q("missing"), args={"x-dead-letter-exchange": "no-such-exchange"})


QUORUM = {"x-queue-type": "quorum"}


@scenario
def quorum_queue_properties(t):
    t.channel().declare(t.q("ok"), durable=True, args=QUORUM)
    t.channel().declare(t.q("transient"), args=QUORUM)
    t.channel().declare(t.q("exclusive"), durable=True, exclusive=True, args=QUORUM)
    t.channel().declare(t.q("auto-delete"), durable=True, auto_delete=True, args=QUORUM)
    t.channel().declare("", durable=True, args=QUORUM)


@scenario
def quorum_queue_arguments(t):
    for number, arguments in enumerate([
        {"x-max-priority": 5}, {"x-queue-mode": "lazy"}, {"x-delivery-limit": 3}, {"x-delivery-limit": -1},
        {"x-delivery-limit": "three"}, {"x-overflow": "reject-publish"}, {"x-overflow": "reject-publish-dlx"},
        {"x-message-ttl": 60000}, {"x-max-length": 5, "x-max-length-bytes": 100}, {"x-expires": 60000},
        {"x-single-active-consumer": True}, {"x-quorum-initial-group-size": 1}, {"x-max-in-memory-length": 5},
        {"x-dead-letter-exchange": "amq.direct", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"},
        {"x-dead-letter-strategy": "perhaps"}, {"x-quorum-initial-group-size": 0}, {"x-whatever": 1},
    ]):
        t.channel().declare(t.q(str(number)), durable=True, args={**QUORUM, **arguments})


@scenario
def arguments_of_another_type(t):
    t.channel().declare(t.q("limit"), args={"x-delivery-limit": 3})
    t.channel().declare(t.q("strategy"), args={"x-dead-letter-strategy": "at-most-once"})
    t.channel().declare(t.q("age"), args={"x-max-age": "1h"})
    t.channel().declare(t.q("group"), args={"x-quorum-initial-group-size": 3})


@scenario
def reserved_names(t):
    t.channel().declare("amq.mine")
    t.channel().declare("amq.mine", passive=True)
    t.channel().declare("amq.gen-mine")
    t.channel().exchange("amq.mine")
    t.channel().exchange("amq.mine", passive=True)


@scenario
def strange_names(t):
    c = t.channel()
    c.declare(t.q("with\r\nline\nbreaks"))
    c.declare(t.q("with spaces / and \u00fcml\u00e4uts"))
    c.declare((t.q() + "x" * 255)[:255])


@scenario
def exclusive_to_its_connection(t):
    mine, other = t.connect(), t.connect()
    mine.channel().declare(t.q(), exclusive=True)
    for method, fields in [
        ("queue.declare", {"exclusive": True}), ("queue.declare", {}), ("queue.declare", {"passive": True}),
        ("queue.bind", {"exchange": "amq.direct"}), ("queue.unbind", {"exchange": "amq.direct"}), ("queue.purge", {}),
        ("queue.delete", {}), ("basic.get", {}), ("basic.consume", {}),
    ]:
        other.channel()(method, queue=t.q(), **fields)
    c = other.channel()
    c.publish("", t.q(), "anybody may publish")
    c("confirm.select")
    mine.channel().get_when_there(t.q())
    mine.close()
    other.channel().declare(t.q(), passive=True)


@scenario
def exclusive_declared_again_without(t):
    t.channel().declare(t.q(), exclusive=True)
    t.channel().declare(t.q())
    t.channel().declare(t.q("shared"))
    t.channel().declare(t.q("shared"), exclusive=True)


@scenario
def auto_delete_goes_with_its_last_consumer(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q(), auto_delete=True)
    c.consume(t.q(), "one")
    other.consume(t.q(), "two")
    c("basic.cancel", consumer_tag="one")
    c.counts(t.q())
    other.close()
    c.is_gone(t.q())


@scenario
def auto_delete_stays_without_consumers(t):
    c = t.channel()
    c.declare(t.q(), auto_delete=True)
    c.publish("", t.q(), "got")
    c.get(t.q(), no_ack=True)
    c.silent()
    c.counts(t.q())


@scenario
def expires_when_unused(t):
    c = t.channel()
    c.declare(t.q(), args={"x-expires": 300})
    c.publish("", t.q(), "lost with the queue")
    t.channel().is_gone(t.q())


@scenario
def expires_not_with_a_consumer(t):
    c = t.channel()
    c.declare(t.q(), args={"x-expires": 3000})
    c.consume(t.q(), "holder")
    c.next(3.5)
    c.counts(t.q())
    c("basic.cancel", consumer_tag="holder")
    t.channel().is_gone(t.q())


@scenario
def counts_of_declare_purge_delete(t):
    c = t.channel()
    c.declare(t.q())
    c.fill(t.q(), "abcde")
    c.get(t.q())
    c.get(t.q())
    c.counts(t.q())
    c("queue.purge", queue=t.q())
    c.counts(t.q())
    c.publish("", t.q(), "f")
    c.wait_messages(t.q(), 1)
    c("basic.consume", queue=t.q(), consumer_tag="x")
    c.next()
    c.counts(t.q())
    c("queue.delete", queue=t.q())
    c.next(0.3)


@scenario
def delete_conditions(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "kept")
    c("queue.delete", queue=t.q(), if_empty=True)
    c = t.channel()
    c.consume(t.q(), "user")
    c.next()
    other = t.channel()
    other("queue.delete", queue=t.q(), if_unused=True)
    c("basic.cancel", consumer_tag="user")
    # What is not acknowledged does not count as a message of the queue.
    other = t.channel()
    other("queue.delete", queue=t.q(), if_unused=True, if_empty=True)


@scenario
def what_is_missing(t):
    t.channel()("queue.delete", queue=t.q())
    t.channel()("queue.purge", queue=t.q())
    t.channel()("queue.bind", queue=t.q(), exchange="amq.direct")
    t.channel()("queue.unbind", queue=t.q(), exchange="amq.direct")
    t.channel().declare(t.q())
    t.channel()("queue.bind", queue=t.q(), exchange=t.q("nowhere"))
    t.channel()("queue.unbind", queue=t.q(), exchange=t.q("nowhere"))
    t.channel()("queue.unbind", queue=t.q(), exchange="amq.direct", routing_key="never bound")
    t.channel()("basic.get", queue=t.q("missing"))
    t.channel()("basic.consume", queue=t.q("missing"))


@scenario
def bindings_are_counted_once(t):
    c = t.channel()
    c.declare(t.q())
    c.bind(t.q(), "amq.direct", t.q())
    c.bind(t.q(), "amq.direct", t.q())
    c.publish("amq.direct", t.q(), "once")
    c.wait_messages(t.q(), 1)
    c("queue.unbind", queue=t.q(), exchange="amq.direct", routing_key=t.q())
    c.publish("amq.direct", t.q(), "no more")
    c.counts(t.q())


@scenario
def nowait(t):
    c = t.channel()
    c.send("queue.declare", queue=t.q(), nowait=True)
    c.send("exchange.declare", exchange=t.q("x"), type="fanout", nowait=True)
    c.send("queue.bind", queue=t.q(), exchange=t.q("x"), nowait=True)
    c.publish(t.q("x"), "", "through")
    c.send("basic.consume", queue=t.q(), consumer_tag="n", nowait=True)
    c.next()
    c.send("basic.cancel", consumer_tag="n", nowait=True)
    c.send("queue.purge", queue=t.q(), nowait=True)
    c.send("queue.delete", queue=t.q(), nowait=True)
    c.send("exchange.delete", exchange=t.q("x"), nowait=True)
    c.send("confirm.select", nowait=True)
    c.publish("", "nobody", "confirmed")
    c.next()


@scenario
def durable_and_exclusive(t):
    c = t.channel()
    c.declare(t.q(), durable=True, exclusive=True)
    c.declare(t.q(), durable=True, exclusive=True)
    c.declare(t.q(), exclusive=True)
