"""TTL, expiration, length, overflow and priorities of messages."""

from play import scenario

# Between a lifetime that ends and a lease that does not, there is time for a busy machine.
PATIENT, LONG = 1.0, 3.5


@scenario
def queue_ttl(t):
    c = t.channel()
    c.declare(t.q(), args={"x-message-ttl": 3000})
    c.publish("", t.q(), "a")
    c.publish("", t.q(), "b")
    c.wait_messages(t.q(), 2)
    c.wait_messages(t.q(), 0)
    c.get(t.q())


@scenario
def message_ttl(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "short", {"expiration": "3000"})
    c.publish("", t.q(), "long", {"expiration": "60000"})
    c.wait_messages(t.q(), 2)
    c.wait_messages(t.q(), 1)
    c.get(t.q(), no_ack=True)


@scenario
def the_lower_ttl_wins(t):
    c = t.channel()
    c.declare(t.q("short"), args={"x-message-ttl": 150})
    c.declare(t.q("long"), args={"x-message-ttl": 60000})
    c.publish("", t.q("short"), "a", {"expiration": "60000"})
    c.publish("", t.q("long"), "b", {"expiration": "150"})
    c.wait_messages(t.q("short"), 0)
    c.wait_messages(t.q("long"), 0)


@scenario
def only_the_head_expires(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "long", {"expiration": "60000"})
    c.publish("", t.q(), "short", {"expiration": "50"})
    c.next(PATIENT)
    c.counts(t.q())
    c.get(t.q(), no_ack=True)
    c.get(t.q(), no_ack=True)


@scenario
def ttl_zero_is_now_or_never(t):
    # Whether a delivery or the confirm is first on a channel is left to chance.
    c, publisher = t.channel(), t.channel()
    c.declare(t.q(), args={"x-message-ttl": 0})
    publisher("confirm.select")
    publisher.publish_sure("", t.q(), "nobody is there")
    c.get(t.q())
    c.consume(t.q(), "tag")
    publisher.publish_sure("", t.q(), "somebody is there")
    c.next()
    c.nack(1, requeue=True)
    c.silent()


@scenario
def requeued_expires_at_its_time(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "m", {"expiration": "3000"})
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.next(LONG)
    c.nack(1, requeue=True)
    c.silent()
    c.get(t.q())


@scenario
def delivered_does_not_expire(t):
    c = t.channel()
    c.declare(t.q(), args={"x-message-ttl": 3000})
    c.publish("", t.q(), "m")
    c.consume(t.q(), "tag")
    c.next()
    c.next(LONG)
    c.ack(1)
    c("basic.qos")


@scenario
def max_length_drops_the_head(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-length": 3})
    c("confirm.select")
    for body in "abcde":
        c.publish_sure("", t.q(), body)
    c.drain(t.q())


@scenario
def max_length_counts_what_is_ready(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-length": 2})
    c("confirm.select")
    c.publish_sure("", t.q(), "a")
    c.get(t.q())
    for body in "bcd":
        c.publish_sure("", t.q(), body)
    c.counts(t.q())
    c.nack(1, requeue=True)
    c.silent()
    c.drain(t.q())


@scenario
def max_length_bytes(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-length-bytes": 10})
    c("confirm.select")
    for body in ("aaaa", "bbbb", "cccc", "dd", "this is longer than all"):
        c.publish_sure("", t.q(), body, {"message_id": "properties do not count"})
        c.counts(t.q())
    c.drain(t.q())


@scenario
def max_length_zero(t):
    c, publisher = t.channel(), t.channel()
    c.declare(t.q(), args={"x-max-length": 0})
    publisher("confirm.select")
    publisher.publish_sure("", t.q(), "nobody")
    c.counts(t.q())
    c.consume(t.q(), "tag")
    publisher.publish_sure("", t.q(), "somebody")
    c.next()


@scenario
def reject_publish(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-length": 2, "x-overflow": "reject-publish"})
    c("confirm.select")
    for body in "abcd":
        c.publish_sure("", t.q(), body)
    c.publish_sure("", t.q(), "e", mandatory=True)
    c.get(t.q(), no_ack=True)
    c.publish_sure("", t.q(), "f")
    c.drain(t.q())


@scenario
def reject_publish_without_confirms(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-length": 1, "x-overflow": "reject-publish"})
    for body in "abc":
        c.publish("", t.q(), body)
    c.wait_messages(t.q(), 1)
    c.silent()
    c.drain(t.q())


@scenario
def reject_publish_by_one_of_two(t):
    c = t.channel()
    c.exchange(t.q(), "fanout")
    c.declare(t.q("full"), args={"x-max-length": 1, "x-overflow": "reject-publish"})
    c.declare(t.q("open"))
    c.bind(t.q("full"), t.q())
    c.bind(t.q("open"), t.q())
    c("confirm.select")
    for body in "abc":
        c.publish_sure(t.q(), "", body)
    c.drain(t.q("full"))
    c.drain(t.q("open"))


@scenario
def reject_publish_dlx(t):
    c = t.channel()
    c.declare(t.q("morgue"))
    c.declare(t.q(), args={
        "x-max-length": 1, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": t.q("morgue"),
    })
    c("confirm.select")
    for body in "abc":
        c.publish_sure("", t.q(), body)
    c.drain(t.q())
    c.get_when_there(t.q("morgue"))
    c.get_when_there(t.q("morgue"))


@scenario
def priorities(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-priority": 5})
    for priority in (1, 5, None, 0, 3, 9, 5, 1):
        properties = {} if priority is None else {"priority": priority}
        c.publish("", t.q(), f"p{priority}", properties)
    c.wait_messages(t.q(), 8)
    c.drain(t.q())


@scenario
def priorities_when_consumed(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-priority": 3})
    for number, priority in enumerate((0, 1, 2, 3, 3, 2, 1, 0)):
        c.publish("", t.q(), f"{number}p{priority}", {"priority": priority})
    c.wait_messages(t.q(), 8)
    c("basic.qos", prefetch_count=1)
    c.consume(t.q(), "tag")
    for tag in range(1, 9):
        c.bodies(1)
        c.ack(tag)


@scenario
def priorities_after_a_requeue(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-priority": 3})
    for body, priority in (("low", 0), ("mid", 1), ("high", 2), ("mid2", 1)):
        c.publish("", t.q(), body, {"priority": priority})
    c.wait_messages(t.q(), 4)
    c.get(t.q())
    c.get(t.q())
    c.nack(2, requeue=True)
    c.wait_messages(t.q(), 3)
    c.nack(1, requeue=True)
    c.wait_messages(t.q(), 4)
    c.drain(t.q())


@scenario
def priorities_and_length(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-priority": 3, "x-max-length": 3})
    c("confirm.select")
    for body, priority in (("a0", 0), ("b2", 2), ("c1", 1), ("d3", 3), ("e0", 0)):
        c.publish_sure("", t.q(), body, {"priority": priority})
    c.drain(t.q())


@scenario
def priorities_and_ttl(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-priority": 3})
    c("confirm.select")
    c.publish_sure("", t.q(), "high", {"priority": 3, "expiration": "60000"})
    c.publish_sure("", t.q(), "low", {"priority": 0, "expiration": "100"})
    c.next(PATIENT)
    c.counts(t.q())
    c.drain(t.q())


@scenario
def no_priorities_without_the_argument(t):
    c = t.channel()
    c.declare(t.q())
    for priority in (0, 9, 5):
        c.publish("", t.q(), f"p{priority}", {"priority": priority})
    c.wait_messages(t.q(), 3)
    c.drain(t.q())
