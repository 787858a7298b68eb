"""Which consumer gets what: single active consumers, limits that several share, recovery, order of what comes back."""

from play import scenario

ACTIVE = {"x-single-active-consumer": True}


@scenario
def the_next_is_the_most_important(t):
    c = t.channel()
    c.declare(t.q(), args=ACTIVE)
    for tag, priority in (("first", 0), ("mid", 5), ("high", 9), ("low", -3)):
        c.consume(t.q(), tag, args={"x-priority": priority})
    for tag in ("first", "high", "mid"):
        c.publish("", t.q(), f"while {tag} is there")
        c.next()
        c("basic.cancel", consumer_tag=tag)
    c.publish("", t.q(), "the last")
    c.next()


@scenario
def closed_with_its_channel(t):
    c, first, second = t.channel(), t.channel(), t.channel()
    c.declare(t.q(), args=ACTIVE)
    first.consume(t.q(), "first")
    second.consume(t.q(), "second")
    for body in "ab":
        c.publish("", t.q(), body)
    first.bodies(2)
    first.ack(1)
    first.close()
    second.bodies(1)
    c.counts(t.q())


@scenario
def lost_with_its_connection(t):
    lost, c = t.connect(), t.channel()
    c.declare(t.q(), args=ACTIVE)
    first = lost.channel()
    first.consume(t.q(), "first")
    c.consume(t.q(), "second")
    for body in "ab":
        c.publish("", t.q(), body)
    first.bodies(2)
    lost.drop()
    c.bodies(2)


@scenario
def a_full_one_stays_active(t):
    c, second = t.channel(), t.channel()
    c.declare(t.q(), args=ACTIVE)
    c("basic.qos", prefetch_count=1)
    c.consume(t.q(), "first")
    second.consume(t.q(), "second")
    for body in "abc":
        c.publish("", t.q(), body)
    c.bodies(1)
    second.silent()
    c.silent()
    c.ack(1)
    c.bodies(1)


@scenario
def cancelled_with_deliveries_out(t):
    c, second = t.channel(), t.channel()
    c.declare(t.q(), args=ACTIVE)
    c("basic.qos", prefetch_count=2)
    c.consume(t.q(), "first")
    second.consume(t.q(), "second")
    for body in "abcd":
        c.publish("", t.q(), body)
    c.bodies(2)
    c("basic.cancel", consumer_tag="first")
    second.bodies(2)
    c.nack(2, requeue=True, multiple=True)
    second.bodies(2)


@scenario
def getting_beside_the_active_one(t):
    c = t.channel()
    c.declare(t.q(), args=ACTIVE)
    c("basic.qos", prefetch_count=1)
    c.consume(t.q(), "first")
    for body in "ab":
        c.publish("", t.q(), body)
    c.bodies(1)
    c.wait_messages(t.q(), 1)
    t.channel().get(t.q(), no_ack=True)


@scenario
def the_same_tag_comes_again(t):
    c, second = t.channel(), t.channel()
    c.declare(t.q(), args=ACTIVE)
    c.consume(t.q(), "first")
    second.consume(t.q(), "second")
    c("basic.cancel", consumer_tag="first")
    c.consume(t.q(), "first")
    c.publish("", t.q(), "m")
    c.silent()
    second.next()


@scenario
def auto_delete(t):
    c = t.channel()
    c.declare(t.q(), auto_delete=True, args=ACTIVE)
    c.consume(t.q(), "first")
    c.consume(t.q(), "second")
    c("basic.cancel", consumer_tag="first")
    c.counts(t.q())
    c("basic.cancel", consumer_tag="second")
    t.channel().is_gone(t.q())


@scenario
def a_shared_limit_over_queues(t):
    c = t.channel()
    for name in "ab":
        c.declare(t.q(name))
        for number in range(3):
            c.publish("", t.q(name), f"{name}{number}")
        c.wait_messages(t.q(name), 3)
    c("basic.qos", prefetch_count=4, global_=True)
    c.consume(t.q("a"), "a")
    c.bodies(3)
    c.consume(t.q("b"), "b")
    c.bodies(1)
    c.silent()
    c.ack(1)
    c.bodies(1)
    c.silent()
    c.ack(3, multiple=True)
    c.bodies(1)


@scenario
def a_shared_limit_set_while_consuming(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(t.q(), "tag")
    for number in range(3):
        c.publish("", t.q(), str(number))
    c.bodies(3)
    c("basic.qos", prefetch_count=2, global_=True)
    c.publish("", t.q(), "3")
    c.silent()
    c.ack(1)
    c.silent()
    c.ack(2)
    c.next()
    c.publish("", t.q(), "4")
    c.silent()
    c("basic.qos", prefetch_count=0, global_=True)
    c.next()


@scenario
def a_shared_limit_made_larger(t):
    c = t.channel()
    c.declare(t.q())
    for number in range(4):
        c.publish("", t.q(), str(number))
    c.wait_messages(t.q(), 4)
    c("basic.qos", prefetch_count=1, global_=True)
    c.consume(t.q(), "tag")
    c.bodies(1)
    c.silent()
    c("basic.qos", prefetch_count=3, global_=True)
    c.bodies(2)
    c.silent()


@scenario
def gets_count_for_a_shared_limit(t):
    c = t.channel()
    c.declare(t.q())
    for number in range(4):
        c.publish("", t.q(), str(number))
    c.wait_messages(t.q(), 4)
    c("basic.qos", prefetch_count=2, global_=True)
    c.get(t.q())
    c.consume(t.q(), "tag")
    c.next()
    c.next(0.3)


@scenario
def a_limit_of_its_own_does_not_count_gets(t):
    c = t.channel()
    c.declare(t.q())
    for number in range(4):
        c.publish("", t.q(), str(number))
    c.wait_messages(t.q(), 4)
    c("basic.qos", prefetch_count=1)
    c.get(t.q())
    c.get(t.q())
    c.consume(t.q(), "tag")
    c.bodies(1)
    c.silent()
    c.ack(2, multiple=True)
    c.silent()
    c.ack(3)
    c.bodies(1)


@scenario
def returned_in_order_to_two_queues(t):
    c = t.channel()
    for name in "ab":
        c.declare(t.q(name))
        for number in range(3):
            c.publish("", t.q(name), f"{name}{number}")
        c.wait_messages(t.q(name), 3)
    for name in "abab":
        c.get(t.q(name))
    c.nack(3, requeue=True, multiple=True)
    c.wait_messages(t.q("a"), 3)
    c.wait_messages(t.q("b"), 2)
    c.drain(t.q("a"))
    c.nack(0, requeue=True, multiple=True)
    c.wait_messages(t.q("b"), 3)
    c.drain(t.q("b"))


@scenario
def returned_by_two_consumers(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q())
    c.fill(t.q(), "abcdef")
    for channel in (c, other, c, other):
        channel.get(t.q())
    other.nack(2, requeue=True)
    c.wait_messages(t.q(), 3)
    c.nack(0, requeue=True, multiple=True)
    c.wait_messages(t.q(), 5)
    other.close()
    c.wait_messages(t.q(), 6)
    c.drain(t.q())


@scenario
def returned_with_priorities(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-priority": 3})
    for body, priority in (("a0", 0), ("b2", 2), ("c2", 2), ("d1", 1), ("e0", 0)):
        c.publish("", t.q(), body, {"priority": priority})
    c.wait_messages(t.q(), 5)
    for _ in range(4):
        c.get(t.q())
    c.publish("", t.q(), "f2", {"priority": 2})
    c.wait_messages(t.q(), 2)
    c.nack(4, requeue=True, multiple=True)
    c.wait_messages(t.q(), 6)
    c.drain(t.q())


@scenario
def recovered_with_numbers_that_go_on(t):
    c = t.channel()
    c.declare(t.q())
    c.fill(t.q(), "abc")
    c("basic.qos", prefetch_count=2)
    c.consume(t.q(), "tag")
    c.take(2)
    c.send("basic.recover", requeue=True)
    c.take(3)
    c.ack(1)
    c.next()


@scenario
def recovered_to_another_consumer(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q())
    c.fill(t.q(), "abc")
    c.get(t.q())
    c.get(t.q())
    other.consume(t.q(), "other")
    other.bodies(1)
    c("basic.recover", requeue=True)
    other.bodies(2)
    c("basic.recover", requeue=True)
    other.silent()


@scenario
def recovered_after_the_queue_is_gone(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    other("queue.delete", queue=t.q())
    c("basic.recover", requeue=True)
    c.declare(t.q())


@scenario
def equal_priorities_take_turns(t):
    c = t.channel()
    c.declare(t.q())
    c("basic.qos", prefetch_count=10)
    for tag, priority in (("low", 1), ("one", 2), ("two", 2)):
        c.consume(t.q(), tag, args={"x-priority": priority})
    for number in range(6):
        c.publish("", t.q(), str(number))
        c.next()


@scenario
def a_cancelled_consumer_is_passed_over(t):
    c = t.channel()
    c.declare(t.q())
    for tag in ("one", "two", "three"):
        c.consume(t.q(), tag)
    c("basic.cancel", consumer_tag="two")
    for number in range(4):
        c.publish("", t.q(), str(number))
        c.next()


@scenario
def exclusive_with_others_waiting(t):
    c = t.channel()
    c.declare(t.q(), args=ACTIVE)
    c.consume(t.q(), "first")
    t.channel().consume(t.q(), "second", exclusive=True)
    other = t.channel()
    other.declare(t.q("plain"))
    other.consume(t.q("plain"), "first")
    t.channel().consume(t.q("plain"), "second", exclusive=True)
