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
    for body in "abcd":
        other.publish("", t.q(), body)
    other.wait_messages(t.q(), 4)
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
