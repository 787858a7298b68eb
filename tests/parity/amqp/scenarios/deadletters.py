"""Dead-lettering: why, where to, and what the headers say."""

from play import Typed, scenario


def to_morgue(t, c, **more):
    c.declare(t.q("morgue"))
    c.declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue"), **more})


@scenario
def rejected(t):
    c = t.channel()
    to_morgue(t, c)
    c.publish("", t.q(), "m", {"headers": {"own": 1}, "message_id": "x", "delivery_mode": 2})
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.reject(1)
    c.get_when_there(t.q("morgue"))


@scenario
def nacked_several(t):
    c = t.channel()
    to_morgue(t, c)
    for body in "abc":
        c.publish("", t.q(), body)
    c.wait_messages(t.q(), 3)
    for _ in range(3):
        c.get(t.q())
    c.nack(3, multiple=True)
    c.wait_messages(t.q("morgue"), 3)
    c.drain(t.q("morgue"))


@scenario
def expired_by_the_queue(t):
    c = t.channel()
    to_morgue(t, c, **{"x-message-ttl": 50})
    c.publish("", t.q(), "m")
    c.get_when_there(t.q("morgue"))


@scenario
def expired_by_itself(t):
    c = t.channel()
    to_morgue(t, c)
    c.publish("", t.q(), "m", {"expiration": "50"})
    c.get_when_there(t.q("morgue"))


@scenario
def too_many(t):
    c = t.channel()
    to_morgue(t, c, **{"x-max-length": 1})
    c.publish("", t.q(), "a")
    c.publish("", t.q(), "b")
    c.get_when_there(t.q("morgue"))
    c.drain(t.q())


@scenario
def too_many_bytes(t):
    c = t.channel()
    to_morgue(t, c, **{"x-max-length-bytes": 5})
    c.publish("", t.q(), "aaaa")
    c.publish("", t.q(), "bbbb")
    c.get_when_there(t.q("morgue"))


@scenario
def the_routing_key_is_kept(t):
    c = t.channel()
    c.exchange(t.q("dlx"), "topic")
    c.declare(t.q("morgue"))
    c.bind(t.q("morgue"), t.q("dlx"), "#")
    c.declare(t.q(), args={"x-dead-letter-exchange": t.q("dlx")})
    c.bind(t.q(), "amq.topic", f"{t.q()}.*")
    c.publish("amq.topic", f"{t.q()}.key", "m")
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.reject(1)
    c.get_when_there(t.q("morgue"))


@scenario
def copies(t):
    c = t.channel()
    c.exchange(t.q("dlx"), "fanout")
    c.declare(t.q("morgue"))
    c.bind(t.q("morgue"), t.q("dlx"))
    c.declare(t.q("keep"), args={"x-dead-letter-exchange": t.q("dlx")})
    c.declare(t.q("set"), args={"x-dead-letter-exchange": t.q("dlx"), "x-dead-letter-routing-key": "elsewhere"})
    for name in ("keep", "set"):
        c.publish("", t.q(name), "m", {"headers": {"CC": ["also"], "BCC": ["hidden"]}})
        c.wait_messages(t.q(name), 1)
        got = c.get(t.q(name))
        c.reject(got.delivery_tag)
        c.get_when_there(t.q("morgue"))


@scenario
def through_a_retry_loop(t):
    """The usual retry: rejected into a waiting queue, expired back, and counted."""
    c = t.channel()
    c.declare(t.q("work"), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("wait")})
    c.declare(t.q("wait"), args={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("work"), "x-message-ttl": 30,
    })
    c.publish("", t.q("work"), "m")
    for _ in range(3):
        got = c.get_when_there(t.q("work"), no_ack=False)
        c.reject(got.delivery_tag)
    c.get_when_there(t.q("work"))


@scenario
def an_expiring_cycle_ends(t):
    c = t.channel()
    c.declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q(), "x-message-ttl": 30})
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 0)
    c.next(0.3)
    c.counts(t.q())


@scenario
def a_rejected_cycle_goes_on(t):
    c = t.channel()
    c.declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q()})
    c.publish("", t.q(), "m")
    for _ in range(2):
        got = c.get_when_there(t.q(), no_ack=False)
        c.reject(got.delivery_tag)
    c.get_when_there(t.q())


@scenario
def missing_exchange(t):
    c = t.channel()
    c.declare(t.q(), args={"x-dead-letter-exchange": t.q("nowhere")})
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.reject(1)
    c.silent()
    c.counts(t.q())


@scenario
def exchange_declared_later(t):
    c = t.channel()
    c.declare(t.q(), args={"x-dead-letter-exchange": t.q("dlx")})
    c.exchange(t.q("dlx"), "fanout")
    c.declare(t.q("morgue"))
    c.bind(t.q("morgue"), t.q("dlx"))
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.reject(1)
    c.get_when_there(t.q("morgue"))


@scenario
def purging_and_deleting_do_not(t):
    c = t.channel()
    to_morgue(t, c)
    c.publish("", t.q(), "purged")
    c.wait_messages(t.q(), 1)
    c("queue.purge", queue=t.q())
    c.publish("", t.q(), "deleted")
    c.wait_messages(t.q(), 1)
    c("queue.delete", queue=t.q())
    c.silent()
    c.counts(t.q("morgue"))


@scenario
def several_reasons(t):
    c = t.channel()
    c.declare(t.q("last"))
    c.declare(t.q("second"), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("last"), "x-message-ttl": 30})
    c.declare(t.q("first"), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("second"), "x-max-length": 1})
    c.publish("", t.q("first"), "a", {"expiration": "60000"})
    c.publish("", t.q("first"), "b")
    c.get_when_there(t.q("last"))


@scenario
def sent_with_a_death_of_its_own(t):
    c = t.channel()
    to_morgue(t, c)
    death = {"queue": t.q(), "reason": "rejected", "count": Typed("l", 7), "exchange": "", "routing-keys": [t.q()], "time": Typed("T", 1600000000)}
    c.publish("", t.q(), "m", {"headers": {"x-death": [death]}})
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.reject(1)
    c.get_when_there(t.q("morgue"))


@scenario
def sent_with_a_death_that_is_none(t):
    c = t.channel()
    to_morgue(t, c)
    for value in ("nonsense", 5, ["a", 1], [{"queue": 5}], None):
        c.publish("", t.q(), "m", {"headers": {"x-death": value, "x-first-death-queue": "mine"}})
        got = c.get_when_there(t.q(), no_ack=False)
        c.reject(got.delivery_tag)
        c.get_when_there(t.q("morgue"))


@scenario
def to_several_queues(t):
    c = t.channel()
    c.exchange(t.q("dlx"), "fanout")
    for name in "ab":
        c.declare(t.q(name))
        c.bind(t.q(name), t.q("dlx"))
    c.declare(t.q(), args={"x-dead-letter-exchange": t.q("dlx")})
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.reject(1)
    c.get_when_there(t.q("a"))
    c.get_when_there(t.q("b"))


@scenario
def by_alternate_exchange(t):
    c = t.channel()
    c.exchange(t.q("ae"), "fanout")
    c.exchange(t.q("dlx"), "direct", args={"alternate-exchange": t.q("ae")})
    c.declare(t.q("morgue"))
    c.bind(t.q("morgue"), t.q("ae"))
    c.declare(t.q(), args={"x-dead-letter-exchange": t.q("dlx")})
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.reject(1)
    c.get_when_there(t.q("morgue"))
