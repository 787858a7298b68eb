"""Consuming: delivery, prefetch, acknowledgement, requeue, recovery, priorities, cancellation."""

from play import Typed, scenario


def filled(t, c, bodies, **declare):
    c.declare(t.q(), **declare)
    for body in bodies:
        c.publish("", t.q(), body)
    c.wait_messages(t.q(), len(bodies))


@scenario
def delivery_and_ack(t):
    c = t.channel()
    filled(t, c, "abc")
    c.consume(t.q(), "tag")
    c.take(3)
    c.ack(2, multiple=True)
    c.reject(3, requeue=False)
    c("basic.cancel", consumer_tag="tag")
    c.counts(t.q())


@scenario
def generated_tag(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(t.q())
    c.consume(t.q())


@scenario
def tag_in_use(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(t.q(), "tag")
    c.consume(t.q(), "tag")


@scenario
def tag_of_another_channel(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q())
    c.consume(t.q(), "tag")
    other.consume(t.q(), "tag")
    c("basic.cancel", consumer_tag="tag")
    other.counts(t.q())


@scenario
def cancel_of_unknown(t):
    c = t.channel()
    c("basic.cancel", consumer_tag="nobody")


@scenario
def cancel_keeps_what_is_unacknowledged(t):
    c = t.channel()
    filled(t, c, "ab")
    c.consume(t.q(), "tag")
    c.take(2)
    c("basic.cancel", consumer_tag="tag")
    c.ack(1)
    c.nack(2, requeue=True)
    c.wait_messages(t.q(), 1)
    c.drain(t.q())


@scenario
def exclusive_consumer(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(t.q(), "first", exclusive=True)
    t.channel().consume(t.q(), "second")
    t.channel().consume(t.q(), "second", exclusive=True)
    t.channel().get(t.q())
    c("basic.cancel", consumer_tag="first")
    other = t.channel()
    other.consume(t.q(), "second")
    t.channel().consume(t.q(), "third", exclusive=True)


@scenario
def unknown_delivery_tags(t):
    for method, fields in [
        ("basic.ack", {"delivery_tag": 1}), ("basic.ack", {"delivery_tag": 99, "multiple": True}),
        ("basic.nack", {"delivery_tag": 1}), ("basic.reject", {"delivery_tag": 1}), ("basic.ack", {"delivery_tag": 0}),
        ("basic.reject", {"delivery_tag": 0}),
    ]:
        c = t.channel()
        c.send(method, **fields)
        c.next()
    # With nothing outstanding, "all" is nothing.
    c = t.channel()
    c.ack(0, multiple=True)
    c.silent()
    c.nack(0, multiple=True)
    c.silent()


@scenario
def acknowledged_twice(t):
    c = t.channel()
    filled(t, c, "a")
    c.get(t.q())
    c.ack(1)
    c.ack(1)
    c.next()


@scenario
def automatic_acks_are_not_acknowledged(t):
    c = t.channel()
    filled(t, c, "a")
    c.get(t.q(), no_ack=True)
    c.ack(1)
    c.next()


@scenario
def get_counts_down(t):
    c = t.channel()
    filled(t, c, "abc")
    for _ in range(4):
        c.get(t.q())


@scenario
def requeue_keeps_the_order(t):
    c = t.channel()
    filled(t, c, "abcdef")
    for _ in range(4):
        c.get(t.q())
    c.nack(3, requeue=True)
    c.nack(1, requeue=True)
    c.wait_messages(t.q(), 4)
    c.nack(4, requeue=True, multiple=True)
    c.wait_messages(t.q(), 6)
    c.drain(t.q())


@scenario
def requeued_is_redelivered(t):
    c = t.channel()
    filled(t, c, "ab")
    c("basic.qos", prefetch_count=1)
    c.consume(t.q(), "tag")
    c.next()
    c.nack(1, requeue=True)
    c.next()
    c.reject(2, requeue=True)
    c.next()
    c.ack(3)
    c.next()


@scenario
def closing_requeues(t):
    c, other = t.channel(), t.channel()
    filled(t, c, "abc")
    c.get(t.q())
    c.get(t.q())
    c.close()
    other.wait_messages(t.q(), 3)
    other.drain(t.q())


@scenario
def connection_dropped_requeues(t):
    lost, c = t.connect(), t.channel()
    filled(t, c, "abc")
    channel = lost.channel()
    channel.consume(t.q(), "tag")
    channel.take(3)
    channel.ack(1)
    channel("basic.qos")
    lost.drop()
    c.wait_messages(t.q(), 2)
    c.drain(t.q())


@scenario
def recover(t):
    c = t.channel()
    filled(t, c, "abc")
    c.get(t.q())
    c.get(t.q())
    c("basic.recover", requeue=True)
    c.wait_messages(t.q(), 3)
    c.drain(t.q())
    c.ack(1)
    c.next()


@scenario
def recover_with_a_consumer(t):
    c = t.channel()
    filled(t, c, "abc")
    c.consume(t.q(), "tag")
    c.take(3)
    c.send("basic.recover", requeue=True)
    c.take(4)


@scenario
def recover_async(t):
    c = t.channel()
    filled(t, c, "a")
    c.get(t.q())
    c.send("basic.recover-async", requeue=True)
    c.wait_messages(t.q(), 1)
    c.drain(t.q())


@scenario
def recover_without_requeue(t):
    t.channel()("basic.recover", requeue=False)


@scenario
def prefetch_per_consumer(t):
    c = t.channel()
    filled(t, c, "abcdefgh")
    c("basic.qos", prefetch_count=2)
    c.consume(t.q(), "first")
    c.take(2)
    c.silent()
    c("basic.qos", prefetch_count=1)
    c.consume(t.q(), "second")
    c.next()
    c.silent()
    c.ack(1)
    c.next()
    c.silent()


@scenario
def prefetch_per_channel(t):
    c = t.channel()
    filled(t, c, "abcdefgh")
    c("basic.qos", prefetch_count=3, global_=True)
    c.consume(t.q(), "first")
    c.bodies(3)
    c.consume(t.q(), "second")
    c.silent()
    c.ack(3, multiple=True)
    c.bodies(3)
    c.silent()


@scenario
def prefetch_of_both_kinds(t):
    c = t.channel()
    filled(t, c, "abcdefgh")
    c("basic.qos", prefetch_count=3, global_=True)
    c("basic.qos", prefetch_count=2)
    c.consume(t.q(), "first")
    c.bodies(2)
    c.silent()
    c.consume(t.q(), "second")
    c.bodies(1)
    c.silent()


@scenario
def prefetch_unlimited_again(t):
    c = t.channel()
    filled(t, c, "abcdef")
    c("basic.qos", prefetch_count=1)
    c("basic.qos", prefetch_count=0)
    c.consume(t.q(), "tag")
    c.bodies(6)


@scenario
def prefetch_does_not_hold_automatic_acks(t):
    c = t.channel()
    filled(t, c, "abcdef")
    c("basic.qos", prefetch_count=1)
    c.consume(t.q(), "tag", no_ack=True)
    c.bodies(6)


@scenario
def prefetch_size(t):
    t.channel()("basic.qos", prefetch_size=100)


@scenario
def no_local_is_ignored(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(t.q(), "tag", no_local=True)
    c.publish("", t.q(), "of this connection")
    c.next()


@scenario
def round_robin(t):
    c = t.channel()
    c.declare(t.q())
    c("basic.qos", prefetch_count=10)
    for tag in ("one", "two", "three"):
        c.consume(t.q(), tag)
    for number in range(6):
        c.publish("", t.q(), str(number))
        c.next()


@scenario
def consumer_priorities(t):
    c = t.channel()
    c.declare(t.q())
    c("basic.qos", prefetch_count=2)
    c.consume(t.q(), "low", args={"x-priority": -5})
    c.consume(t.q(), "high", args={"x-priority": 10})
    c.consume(t.q(), "default")
    for number in range(5):
        c.publish("", t.q(), str(number))
        c.next()
    c.ack(1)
    c.publish("", t.q(), "to high again")
    c.take(1)


@scenario
def bad_consumer_priority(t):
    for value in ["high", True, Typed("d", 1.0), Typed("l", 2**40)]:
        c = t.channel()
        c.declare(t.q())
        c.consume(t.q(), "tag", args={"x-priority": value})


@scenario
def unknown_consumer_arguments(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(t.q(), "tag", args={"x-whatever": 1, "x-cancel-on-ha-failover": True})


@scenario
def cancelled_by_deletion(t):
    c, other = t.channel(), t.channel()
    filled(t, c, "a")
    c.consume(t.q(), "tag")
    c.next()
    other("queue.delete", queue=t.q())
    c.next()
    # What was delivered of a queue that is gone can still be acknowledged.
    c.ack(1)
    c.silent()


@scenario
def not_told_without_the_capability(t):
    mine, other = t.connect(capabilities={}), t.connect()
    c = mine.channel()
    c.declare(t.q())
    c.consume(t.q(), "tag")
    other.channel()("queue.delete", queue=t.q())
    c.silent()
    c("basic.qos")


@scenario
def single_active_consumer(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q(), args={"x-single-active-consumer": True})
    c.consume(t.q(), "first")
    other.consume(t.q(), "second")
    for body in "abc":
        c.publish("", t.q(), body)
    c.bodies(3)
    other.silent()
    c.ack(1)
    c("basic.cancel", consumer_tag="first")
    c.publish("", t.q(), "d")
    other.bodies(1)
    c.nack(3, multiple=True, requeue=True)
    other.bodies(2)


@scenario
def single_active_consumer_and_exclusive(t):
    c = t.channel()
    c.declare(t.q(), args={"x-single-active-consumer": True})
    c.consume(t.q(), "first", exclusive=True)
    t.channel().get(t.q())


@scenario
def single_active_consumer_and_priority(t):
    c = t.channel()
    c.declare(t.q(), args={"x-single-active-consumer": True})
    c.consume(t.q(), "low", args={"x-priority": 1})
    c.consume(t.q(), "high", args={"x-priority": 9})
    c.publish("", t.q(), "a")
    c.next()
    c("basic.cancel", consumer_tag="low")
    c.publish("", t.q(), "b")
    c.next()


@scenario
def consumer_goes_on_after_a_get(t):
    c = t.channel()
    filled(t, c, "ab")
    c.get(t.q())
    c.consume(t.q(), "tag")
    c.next()
    c.publish("", t.q(), "c")
    c.next()
    c.ack(0, multiple=True)
    c("basic.cancel", consumer_tag="tag")
    c.counts(t.q())


@scenario
def flow(t):
    c = t.channel()
    c("channel.flow", active=True)
    c("channel.flow", active=False)


@scenario
def arguments_of_other_queue_types(t):
    c = t.channel()
    for kind in ("classic", "quorum", "stream"):
        c.declare(t.q(kind), durable=True, args={"x-queue-type": kind})
    for kind, arguments in [
        ("classic", {"x-stream-offset": "first"}), ("classic", {"x-cancel-on-ha-failover": True}),
        ("classic", {"x-whatever": True}), ("quorum", {"x-stream-offset": "first"}), ("stream", {"x-priority": 5}),
    ]:
        c = t.channel()
        c("basic.qos", prefetch_count=10)
        c.consume(t.q(kind), "tag", args=arguments)
