"""tx.select, commit, rollback: publishes and acknowledgements."""

from play import scenario


@scenario
def publishes_wait_for_the_commit(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q("a"))
    c.declare(t.q("b"))
    c("tx.select")
    c.publish("", t.q("a"), "one")
    c.publish("", t.q("b"), "two")
    c.publish("", t.q("a"), "three")
    other.counts(t.q("a"))
    c("tx.commit")
    other.drain(t.q("a"))
    other.drain(t.q("b"))
    c.publish("", t.q("a"), "never")
    c("tx.rollback")
    other.drain(t.q("a"))
    c("tx.commit")
    c("tx.select")


@scenario
def acknowledgements_wait_too(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q())
    other.fill(t.q(), "abcd")
    c("tx.select")
    c.get(t.q())
    c.get(t.q())
    c.ack(1)
    c("tx.rollback")
    # Rolled back: still not acknowledged, and can be acknowledged again.
    c.ack(1)
    c.ack(2)
    c("tx.commit")
    c.get(t.q())
    c.nack(3, requeue=True)
    c("tx.rollback")
    other.counts(t.q())
    c.nack(3, requeue=True)
    c("tx.commit")
    other.wait_messages(t.q(), 2)
    other.drain(t.q())


@scenario
def closing_rolls_back(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q())
    other.publish("", t.q(), "got")
    other.wait_messages(t.q(), 1)
    c("tx.select")
    c.get(t.q())
    c.ack(1)
    c.publish("", t.q(), "lost")
    c.close()
    other.wait_messages(t.q(), 1)
    other.drain(t.q())


@scenario
def acknowledged_twice_in_one_transaction(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c("tx.select")
    c.get(t.q())
    c.ack(1)
    c.ack(1)
    c("tx.commit")


@scenario
def unknown_tag(t):
    c = t.channel()
    c("tx.select")
    c.ack(5)
    c.silent()
    c("tx.commit") if c.is_open else None


@scenario
def mandatory(t):
    c = t.channel()
    c("tx.select")
    c.publish("", t.q("nowhere"), "returned when committed", mandatory=True)
    c.silent()
    c("tx.commit")
    c.silent()


@scenario
def missing_exchange(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    c("tx.select")
    c.publish("", t.q(), "before")
    c.publish(t.q("nowhere"), "k", "error")
    c.silent()
    if c.is_open:
        c("tx.commit")
    other.drain(t.q())


@scenario
def recover_in_a_transaction(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c("tx.select")
    c.get(t.q())
    c("basic.recover", requeue=True)
    c.get_when_there(t.q())


@scenario
def rejected_with_requeue(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q())
    other.publish("", t.q(), "m")
    other.wait_messages(t.q(), 1)
    c("tx.select")
    c.get(t.q())
    c.reject(1, requeue=True)
    other.counts(t.q())
    c("tx.commit")
    other.wait_messages(t.q(), 1)
    other.get(t.q(), no_ack=True)


@scenario
def mandatory_between_others(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    c("tx.select")
    c.publish("", t.q(), "there", mandatory=True)
    c.publish("", t.q("nowhere"), "one", mandatory=True)
    c.publish("", t.q("nowhere"), "dropped")
    c.publish("", t.q("nowhere"), "two", mandatory=True)
    c.send("tx.commit")
    for _ in range(3):
        c.next()
    c.publish("", t.q("nowhere"), "rolled back", mandatory=True)
    c("tx.rollback")
    c.silent()
    other.drain(t.q())


@scenario
def the_queue_goes_before_the_commit(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    other.declare(t.q("kept"))
    c("tx.select")
    c.publish("", t.q(), "lost", mandatory=True)
    c.publish("", t.q("kept"), "kept", mandatory=True)
    other("queue.delete", queue=t.q())
    c.send("tx.commit")
    c.next()
    c.silent()
    other.drain(t.q("kept"))


@scenario
def the_exchange_goes_before_the_commit(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    other.exchange(t.q("x"), "fanout")
    other.bind(t.q(), t.q("x"))
    c("tx.select")
    c.publish(t.q("x"), "", "one", mandatory=True)
    c.publish("", t.q(), "two")
    other("exchange.delete", exchange=t.q("x"))
    c.send("tx.commit")
    c.next()
    c.silent()
    other.drain(t.q())


@scenario
def an_error_ends_it(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    other.publish("", t.q(), "m")
    other.wait_messages(t.q(), 1)
    c("tx.select")
    c.publish("", t.q(), "lost")
    c.get(t.q())
    c.ack(1)
    c("queue.declare", queue=t.q("missing"), passive=True)
    other.wait_messages(t.q(), 1)
    other.get(t.q(), no_ack=True)
    other.drain(t.q())


@scenario
def an_unknown_tag_among_others(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    other.fill(t.q(), "ab")
    c("tx.select")
    c.get(t.q())
    c.get(t.q())
    c.ack(1)
    c.ack(7, multiple=True)
    c.next()
    other.wait_messages(t.q(), 2)


@scenario
def all_acknowledged_at_once(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    other.fill(t.q(), "abcd")
    c("tx.select")
    for _ in range(4):
        c.get(t.q())
    c.ack(2, multiple=True)
    c.nack(0, requeue=True, multiple=True)
    c("tx.commit")
    other.wait_messages(t.q(), 2)
    other.drain(t.q())
    c.ack(0, multiple=True)
    c("tx.commit")


@scenario
def what_is_pending_counts_for_the_limit(t):
    """Room for more deliveries comes with the commit."""
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    other.fill(t.q(), "abcd")
    c("tx.select")
    c("basic.qos", prefetch_count=2)
    c.consume(t.q(), "tag")
    c.bodies(2)
    c.ack(2, multiple=True)
    c.silent()
    c.send("tx.commit")
    answers = [c.wire.receive(c.number) for _ in range(3)]
    t.note(f"then {sorted(it.body.decode() if it.body else it.name for it in answers)}")


@scenario
def rejected_without_requeue(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q("morgue"))
    other.declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    other.fill(t.q(), "ab")
    c("tx.select")
    c.get(t.q())
    c.get(t.q())
    c.reject(1)
    c.nack(2)
    other.counts(t.q("morgue"))
    c("tx.commit")
    other.wait_messages(t.q("morgue"), 2)
    other.drain(t.q("morgue"))


@scenario
def recovered_with_acknowledgements_pending(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    other.fill(t.q(), "ab")
    c("tx.select")
    c.get(t.q())
    c.get(t.q())
    c.ack(1)
    c("basic.recover", requeue=True)
    other.wait_messages(t.q(), 1)
    c("tx.commit")
    other.drain(t.q())


@scenario
def too_many_in_a_transaction(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q(), args={"x-max-length": 2})
    c("tx.select")
    for body in "abcd":
        c.publish("", t.q(), body)
    c("tx.commit")
    other.wait_messages(t.q(), 2)
    other.drain(t.q())


@scenario
def no_way_back_from_a_transaction(t):
    c = t.channel()
    c("tx.select")
    c("tx.select")
    c.publish("", t.q("nowhere"), "m", mandatory=True)
    c.close()
    c = t.channel()
    c("tx.select")
    c.publish("", t.q("nowhere"), "m", immediate=True)
    c.next()
