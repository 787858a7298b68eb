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
    c.fill(t.q(), "abc")
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


def filled_with_priorities(t, c, properties=None):
    for body, priority in (("a0", 0), ("b2", 2), ("c1", 1), ("d3", 3), ("e0", 0), ("f1", 1)):
        c.publish("", t.q(), body, {"priority": priority, **(properties or {})})


@scenario
def too_many_with_priorities(t):
    c = t.channel()
    to_morgue(t, c, **{"x-max-priority": 3, "x-max-length": 3})
    filled_with_priorities(t, c)
    c.wait_messages(t.q("morgue"), 3)
    c.drain(t.q())
    c.get(t.q("morgue"), no_ack=True)
    c.drain(t.q("morgue"))


@scenario
def too_many_bytes_with_priorities(t):
    c = t.channel()
    to_morgue(t, c, **{"x-max-priority": 3, "x-max-length-bytes": 5})
    filled_with_priorities(t, c)
    c.wait_messages(t.q("morgue"), 4)
    c.drain(t.q())
    c.drain(t.q("morgue"))


@scenario
def refused_whatever_the_priority(t):
    c = t.channel()
    to_morgue(t, c, **{"x-max-priority": 3, "x-max-length": 1, "x-overflow": "reject-publish-dlx"})
    c("confirm.select")
    for body, priority in (("low", 0), ("high", 3)):
        c.publish_sure("", t.q(), body, {"priority": priority})
    c.get_when_there(t.q("morgue"))
    c.drain(t.q())


@scenario
def expired_of_several_priorities(t):
    c = t.channel()
    to_morgue(t, c, **{"x-max-priority": 3, "x-message-ttl": 60})
    filled_with_priorities(t, c)
    c.wait_messages(t.q("morgue"), 6)
    c.drain(t.q())


@scenario
def the_priority_goes_along(t):
    c = t.channel()
    c.declare(t.q("morgue"), args={"x-max-priority": 3})
    c.declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    filled_with_priorities(t, c, {"delivery_mode": 2})
    c.wait_messages(t.q(), 6)
    for _ in range(6):
        c.get(t.q())
    c.nack(6, multiple=True)
    c.wait_messages(t.q("morgue"), 6)
    c.get(t.q("morgue"), no_ack=True)
    c.drain(t.q("morgue"))


@scenario
def too_many_for_itself(t):
    c = t.channel()
    c.declare(t.q(), args={"x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q()})
    c("confirm.select")
    for body in "abcd":
        c.publish_sure("", t.q(), body)
    c.silent()
    c.drain(t.q())


@scenario
def too_many_all_around(t):
    """Two full queues, each the other's morgue."""
    c = t.channel()
    for name, other in (("one", "two"), ("two", "one")):
        c.declare(t.q(name), args={"x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q(other)})
    c("confirm.select")
    for body in "abcd":
        c.publish_sure("", t.q("one"), body)
    c.silent()
    c.get(t.q("one"), no_ack=True)
    c.get(t.q("two"), no_ack=True)
    c.drain(t.q("one"))
    c.drain(t.q("two"))


@scenario
def length_zero(t):
    c = t.channel()
    to_morgue(t, c, **{"x-max-length": 0})
    c.publish("", t.q(), "m")
    c.get_when_there(t.q("morgue"))


@scenario
def ttl_zero(t):
    c = t.channel()
    to_morgue(t, c, **{"x-message-ttl": 0})
    c.publish("", t.q(), "by the queue")
    c.get_when_there(t.q("morgue"))
    c.declare(t.q("plain"), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    c.publish("", t.q("plain"), "by itself", {"expiration": "0"})
    c.get_when_there(t.q("morgue"))


@scenario
def requeued_when_it_is_too_late(t):
    c = t.channel()
    to_morgue(t, c)
    c.publish("", t.q(), "m", {"expiration": "3000"})
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    c.next(3.5)
    c.nack(1, requeue=True)
    c.get_when_there(t.q("morgue"))


@scenario
def requeued_where_there_is_no_room(t):
    c = t.channel()
    to_morgue(t, c, **{"x-max-length": 1})
    c("confirm.select")
    c.publish_sure("", t.q(), "a")
    c.get(t.q())
    c.publish_sure("", t.q(), "b")
    c.nack(1, requeue=True)
    c.get_when_there(t.q("morgue"))
    c.drain(t.q())


@scenario
def a_full_morgue(t):
    c = t.channel()
    c.declare(t.q("morgue"), args={"x-max-length": 1, "x-overflow": "reject-publish"})
    c.declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    c.fill(t.q(), "abc")
    for _ in range(3):
        c.get(t.q())
    c.nack(3, multiple=True)
    c.wait_messages(t.q("morgue"), 1)
    c.silent()
    c.drain(t.q("morgue"))
    c.drain(t.q())


@scenario
def copies_find_their_own_ways(t):
    """CC and BCC route a dead letter as they did the message, where it has no routing key of the queue's."""
    c = t.channel()
    c.exchange(t.q("dlx"), "direct")
    for name in ("one", "two", "hidden", "set"):
        c.declare(t.q(f"dead.{name}"))
        c.bind(t.q(f"dead.{name}"), t.q("dlx"), t.q(name))
    for name in ("one", "two", "hidden"):
        c.declare(t.q(name), args={"x-dead-letter-exchange": t.q("dlx")})
    c.declare(t.q("three"), args={"x-dead-letter-exchange": t.q("dlx"), "x-dead-letter-routing-key": t.q("set")})
    headers = {"CC": [t.q("two"), t.q("three")], "BCC": [t.q("hidden")], "kept": True}
    c.publish("", t.q("one"), "m", {"headers": headers})
    for name in ("one", "two", "hidden", "three"):
        got = c.get_when_there(t.q(name), no_ack=False)
        c.reject(got.delivery_tag)
        for dead in ("set",) if name == "three" else ("one", "two", "hidden"):
            c.get_when_there(t.q(f"dead.{dead}"))


@scenario
def copies_in_a_retry_loop(t):
    """Counts go by queue and reason; a message that came by CC goes round by CC."""
    c = t.channel()
    c.exchange(t.q("retry"), "fanout")
    c.exchange(t.q("back"), "direct")
    c.declare(t.q("work"), args={"x-dead-letter-exchange": t.q("retry")})
    c.declare(t.q("wait"), args={"x-dead-letter-exchange": t.q("back"), "x-message-ttl": 30})
    c.bind(t.q("wait"), t.q("retry"))
    c.bind(t.q("work"), t.q("back"), t.q("work"))
    c.publish("", t.q("nowhere"), "m", {"headers": {"CC": [t.q("work")]}, "expiration": "50000"})
    for _ in range(3):
        got = c.get_when_there(t.q("work"), no_ack=False)
        c.reject(got.delivery_tag)
    c.get_when_there(t.q("work"))


@scenario
def several_reasons_in_one_queue(t):
    c = t.channel()
    c.declare(t.q("back"), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q()})
    c.declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("back"), "x-max-length": 1})

    def rejected(queue):
        got = c.get_when_there(queue, no_ack=False)
        c.reject(got.delivery_tag)

    c.publish("", t.q(), "m")
    for queue in (t.q(), t.q("back"), t.q(), t.q("back")):
        rejected(queue)
    c.wait_messages(t.q(), 1)
    c.publish("", t.q(), "in its place")
    rejected(t.q("back"))
    c.wait_messages(t.q("back"), 1)
    c.drain(t.q("back"))
    c.get_when_there(t.q())


@scenario
def the_first_expiration_is_remembered(t):
    c = t.channel()
    c.declare(t.q("last"))
    c.declare(t.q("second"), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("last")})
    c.declare(t.q("first"), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("second")})
    c.publish("", t.q("first"), "m", {"expiration": "30"})
    got = c.get_when_there(t.q("second"), no_ack=False)
    c.reject(got.delivery_tag)
    c.get_when_there(t.q("last"))


@scenario
def through_an_internal_exchange(t):
    c = t.channel()
    c.exchange(t.q("dlx"), "fanout", internal=True)
    c.declare(t.q("morgue"))
    c.bind(t.q("morgue"), t.q("dlx"))
    c.declare(t.q(), args={"x-dead-letter-exchange": t.q("dlx")})
    c.publish("", t.q(), "m")
    got = c.get_when_there(t.q(), no_ack=False)
    c.reject(got.delivery_tag)
    c.get_when_there(t.q("morgue"))


@scenario
def by_headers(t):
    c = t.channel()
    c.exchange(t.q("dlx"), "headers")
    c.declare(t.q("own"))
    c("queue.bind", queue=t.q("own"), exchange=t.q("dlx"), args={"own": 1})
    c.declare(t.q("other"))
    c("queue.bind", queue=t.q("other"), exchange=t.q("dlx"), args={"own": 2})
    c.declare(t.q(), args={"x-dead-letter-exchange": t.q("dlx")})
    c.publish("", t.q(), "m", {"headers": {"own": 1}})
    got = c.get_when_there(t.q(), no_ack=False)
    c.reject(got.delivery_tag)
    c.get_when_there(t.q("own"))
    c.drain(t.q("other"))


@scenario
def nobody_returns_a_dead_letter(t):
    c = t.channel()
    c.exchange(t.q("dlx"))
    c.declare(t.q(), args={"x-dead-letter-exchange": t.q("dlx"), "x-message-ttl": 20})
    c("confirm.select")
    c.publish_sure("", t.q(), "m", mandatory=True)
    c.next(0.3)
    c.counts(t.q())


@scenario
def a_deleted_queue_buries_nothing(t):
    c, other = t.channel(), t.channel()
    to_morgue(t, c)
    c.fill(t.q(), "ab")
    c.get(t.q())
    c.get(t.q())
    other("queue.delete", queue=t.q())
    c.reject(1)
    c.nack(2, requeue=True)
    c.silent()
    c.drain(t.q("morgue"))
