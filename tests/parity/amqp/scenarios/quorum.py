"""Quorum queues: delivery limit and counts, dead-lettering, and what they refuse."""

from play import scenario


def declared(t, c, **arguments):
    c.declare(t.q(), durable=True, args={"x-queue-type": "quorum", **arguments})


@scenario
def published_and_consumed(t):
    c = t.channel()
    declared(t, c)
    c("confirm.select")
    for body in "abc":
        c.publish_sure("", t.q(), body, {"delivery_mode": 2})
    c.wait_messages(t.q(), 3)
    c("basic.qos", prefetch_count=10)
    c.consume(t.q(), "tag")
    c.take(3)
    c.ack(3, multiple=True)
    c("basic.cancel", consumer_tag="tag")
    c.wait_messages(t.q(), 0)


@scenario
def delivery_count(t):
    c = t.channel()
    declared(t, c)
    c("confirm.select")
    c.publish_sure("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    for _ in range(3):
        got = c.get_when_there(t.q(), no_ack=False)
        c.reject(got.delivery_tag, requeue=True)
    c.get_when_there(t.q())


@scenario
def delivery_limit(t):
    c = t.channel()
    c.declare(t.q("morgue"))
    declared(t, c, **{"x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    c("confirm.select")
    c.publish_sure("", t.q(), "m")
    for _ in range(3):
        got = c.get_when_there(t.q(), no_ack=False)
        c.reject(got.delivery_tag, requeue=True)
    c.get_when_there(t.q("morgue"))
    c.wait_messages(t.q(), 0)


@scenario
def delivery_limit_by_nack(t):
    c = t.channel()
    c.declare(t.q("morgue"))
    declared(t, c, **{"x-delivery-limit": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    c("confirm.select")
    c.publish_sure("", t.q(), "m")
    for _ in range(2):
        got = c.get_when_there(t.q(), no_ack=False)
        c.nack(got.delivery_tag, requeue=True)
    c.get_when_there(t.q("morgue"))


@scenario
def dead_letters(t):
    c = t.channel()
    c.declare(t.q("morgue"))
    declared(t, c, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    c("confirm.select")
    c.publish_sure("", t.q(), "m")
    got = c.get_when_there(t.q(), no_ack=False)
    c.reject(got.delivery_tag)
    c.get_when_there(t.q("morgue"))


@scenario
def at_least_once(t):
    c = t.channel()
    c.declare(t.q("morgue"), durable=True)
    declared(t, c, **{
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue"), "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    })
    c("confirm.select")
    c.publish_sure("", t.q(), "m")
    got = c.get_when_there(t.q(), no_ack=False)
    c.reject(got.delivery_tag)
    c.get_when_there(t.q("morgue"))


@scenario
def length_and_overflow(t):
    c = t.channel()
    declared(t, c, **{"x-max-length": 2})
    c("confirm.select")
    for body in "abc":
        c.publish_sure("", t.q(), body)
    c.wait_messages(t.q(), 2)
    c.drain(t.q())


@scenario
def message_ttl(t):
    c = t.channel()
    declared(t, c, **{"x-message-ttl": 100})
    c("confirm.select")
    c.publish_sure("", t.q(), "m")
    c.wait_messages(t.q(), 0)


@scenario
def delete_conditions(t):
    c = t.channel()
    declared(t, c)
    c("queue.delete", queue=t.q(), if_unused=True)
    c = t.channel()
    c("queue.delete", queue=t.q(), if_empty=True)


@scenario
def global_prefetch(t):
    c = t.channel()
    declared(t, c)
    c("basic.qos", prefetch_count=5, global_=True)
    c.consume(t.q(), "tag")


@scenario
def purge_counts(t):
    c = t.channel()
    declared(t, c)
    c("confirm.select")
    for body in "ab":
        c.publish_sure("", t.q(), body)
    c.wait_messages(t.q(), 2)
    c("queue.purge", queue=t.q())
    c("queue.delete", queue=t.q())


@scenario
def single_active_consumer(t):
    c, other = t.channel(), t.channel()
    declared(t, c, **{"x-single-active-consumer": True})
    c("basic.qos", prefetch_count=10)
    other("basic.qos", prefetch_count=10)
    c.consume(t.q(), "first")
    other.consume(t.q(), "second")
    for body in "ab":
        c.publish("", t.q(), body)
    c.bodies(2)
    other.silent()
    c("basic.cancel", consumer_tag="first")
    c.publish("", t.q(), "c")
    other.bodies(1)
