"""Streams over AMQP 0-9-1: declared, filled, read from anywhere, any number of times."""

from play import Typed, scenario

STREAM = {"x-queue-type": "stream"}


def filled(t, c, count):
    c.declare(t.q(), durable=True, args=STREAM)
    c("confirm.select")
    for number in range(count):
        c.wire.publish(c.number, "", t.q(), f"m{number}", {"headers": {"own": number}})
    c.confirms(count)


def read(t, offset, count):
    c = t.channel()
    c("basic.qos", prefetch_count=100)
    c.consume(t.q(), "tag", args={} if offset is None else {"x-stream-offset": offset})
    return c, c.take(count)


@scenario
def properties(t):
    t.channel().declare(t.q("ok"), durable=True, args=STREAM)
    t.channel().declare(t.q("transient"), args=STREAM)
    t.channel().declare(t.q("exclusive"), durable=True, exclusive=True, args=STREAM)
    t.channel().declare(t.q("auto-delete"), durable=True, auto_delete=True, args=STREAM)
    t.channel().declare("", durable=True, args=STREAM)
    t.channel().declare(t.q("ok"), durable=True)


@scenario
def arguments(t):
    for number, arguments in enumerate([
        {"x-max-age": "1h"}, {"x-max-age": "7D"}, {"x-max-age": 5}, {"x-max-length-bytes": 1000000},
        {"x-stream-max-segment-size-bytes": 1000000}, {"x-message-ttl": 5}, {"x-max-length": 5}, {"x-max-priority": 5},
        {"x-dead-letter-exchange": "a"}, {"x-expires": 1000}, {"x-single-active-consumer": True}, {"x-overflow": "drop-head"},
        {"x-initial-cluster-size": 1}, {"x-queue-leader-locator": "client-local"},
    ]):
        t.channel().declare(t.q(str(number)), durable=True, args={**STREAM, **arguments})


@scenario
def bad_age(t):
    t.channel().declare(t.q(), durable=True, args={**STREAM, "x-max-age": "soon"})


@scenario
def from_the_first(t):
    c = t.channel()
    filled(t, c, 3)
    read(t, "first", 3)
    read(t, "first", 3)


@scenario
def from_an_offset(t):
    c = t.channel()
    filled(t, c, 5)
    read(t, 3, 2)
    read(t, Typed("l", 4), 1)


@scenario
def from_the_next(t):
    c = t.channel()
    filled(t, c, 2)
    for offset in ("next", None):
        reader, _ = read(t, offset, 0)
        reader.silent()
        c.publish_sure("", t.q(), f"after {offset}")
        reader.next()


@scenario
def from_a_time(t):
    c = t.channel()
    filled(t, c, 3)
    read(t, Typed("T", 1600000000), 3)
    read(t, "1h", 3)


@scenario
def bad_offsets(t):
    c = t.channel()
    filled(t, c, 1)
    for offset in ("nonsense", True, -1, Typed("d", 1.5)):
        other = t.channel()
        other("basic.qos", prefetch_count=10)
        other.consume(t.q(), "tag", args={"x-stream-offset": offset})
        other.silent() if other.is_open else None


@scenario
def acknowledgements_are_credit(t):
    c = t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    c("confirm.select")
    # One by one: RabbitMQ keeps what comes together in chunks, and delivers the rest of a chunk beyond the credit.
    for number in range(6):
        c.publish_sure("", t.q(), f"m{number}", {"headers": {"own": number}})
    reader = t.channel()
    reader("basic.qos", prefetch_count=2)
    reader.consume(t.q(), "tag", args={"x-stream-offset": "first"})
    reader.bodies(2)
    reader.silent()
    reader.ack(2, multiple=True)
    reader.bodies(2)
    reader.nack(3, requeue=False)
    reader.bodies(1)


@scenario
def no_prefetch(t):
    c = t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    c.consume(t.q(), "tag")


@scenario
def no_ack(t):
    c = t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    c("basic.qos", prefetch_count=10)
    c.consume(t.q(), "tag", no_ack=True)


@scenario
def get(t):
    c = t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    c.get(t.q())


@scenario
def purge(t):
    c = t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    c("queue.purge", queue=t.q())


@scenario
def delete(t):
    c = t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    c("queue.delete", queue=t.q(), if_unused=True)
    c = t.channel()
    c("queue.delete", queue=t.q(), if_empty=True)
    c = t.channel()
    c("queue.delete", queue=t.q())
    c = t.channel()
    c.declare(t.q(), passive=True)


@scenario
def consumer_is_told_of_the_deletion(t):
    c, reader = t.channel(), t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    reader("basic.qos", prefetch_count=10)
    reader.consume(t.q(), "tag")
    c("queue.delete", queue=t.q())
    reader.next()


@scenario
def through_an_exchange(t):
    c = t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    c.bind(t.q(), "amq.topic", f"{t.q()}.#")
    c("confirm.select")
    c.publish_sure("amq.topic", f"{t.q()}.key", "m", {"message_id": "1", "delivery_mode": 2, "timestamp": 1600000000, "headers": {"a": [1, {"b": True}]}})
    read(t, "first", 1)


@scenario
def offsets_beyond_the_end(t):
    c = t.channel()
    filled(t, c, 2)
    for number, offset in enumerate([Typed("T", 4_000_000_000), Typed("l", 1000)]):
        reader, _ = read(t, offset, 0)
        reader.silent()
        c.publish_sure("", t.q(), f"after {number}")
        reader.silent()


@scenario
def offsets_of_every_integer_type(t):
    c = t.channel()
    filled(t, c, 3)
    for letter in "bBsuIilL":
        read(t, Typed(letter, 2), 1)


@scenario
def offsets_that_are_texts(t):
    c = t.channel()
    filled(t, c, 2)
    for offset in ("0", "1Y", "10M", "3s", "1w", "1.5h"):
        other = t.channel()
        other("basic.qos", prefetch_count=10)
        answer = other.consume(t.q(), "tag", args={"x-stream-offset": offset})
        if answer is not None and answer.name == "basic.consume-ok":
            other.take(2)


@scenario
def two_readers(t):
    c = t.channel()
    filled(t, c, 3)
    reader = t.channel()
    reader("basic.qos", prefetch_count=10)
    reader.consume(t.q(), "one", args={"x-stream-offset": "first"})
    reader.bodies(3)
    reader.consume(t.q(), "two", args={"x-stream-offset": 1})
    reader.bodies(2)
    reader("basic.cancel", consumer_tag="one")
    c.publish_sure("", t.q(), "m3", {"headers": {"own": 3}})
    reader.next()
    c.counts(t.q())


@scenario
def exclusive_reader(t):
    c = t.channel()
    filled(t, c, 1)
    first = t.channel()
    first("basic.qos", prefetch_count=10)
    first.consume(t.q(), "one", exclusive=True, args={"x-stream-offset": "first"})
    second = t.channel()
    second("basic.qos", prefetch_count=10)
    second.consume(t.q(), "two", args={"x-stream-offset": "first"})


@scenario
def recovering_a_reader(t):
    c = t.channel()
    filled(t, c, 2)
    reader, _ = read(t, "first", 2)
    reader("basic.recover", requeue=True)
    reader.next(0.3)


@scenario
def global_prefetch(t):
    c = t.channel()
    filled(t, c, 1)
    reader = t.channel()
    reader("basic.qos", prefetch_count=10, global_=True)
    reader.consume(t.q(), "tag", args={"x-stream-offset": "first"})


@scenario
def dead_letters_into_a_stream(t):
    c = t.channel()
    c.declare(t.q(), durable=True, args=STREAM)
    c.declare(t.q("work"), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q()})
    c.publish("", t.q("work"), "m", {"message_id": "1"})
    got = c.get_when_there(t.q("work"), no_ack=False)
    c.reject(got.delivery_tag)
    read(t, "first", 1)
