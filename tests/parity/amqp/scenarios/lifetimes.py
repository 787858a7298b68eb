"""How long queues and exchanges are there: leases, exclusive owners, what goes with what."""

from play import scenario

# Used after a third of it, four times: there is time for a busy machine.
SOON = {"x-expires": 4000}


@scenario
def consumers_come_and_go(t):
    c = t.channel()
    c.declare(t.q(), args={"x-expires": 4500})
    for _ in range(3):
        c.consume(t.q(), "tag")
        c.next(1.2)
        c("basic.cancel", consumer_tag="tag")
        c.next(1.2)
    c.counts(t.q())
    t.channel().is_gone(t.q())


@scenario
def getting_is_using(t):
    c = t.channel()
    c.declare(t.q(), args=SOON)
    for _ in range(4):
        c.next(1.4)
        c.get(t.q())
    t.channel().is_gone(t.q())


@scenario
def declaring_is_using(t):
    c = t.channel()
    c.declare(t.q(), args=SOON)
    for _ in range(4):
        c.next(1.4)
        c.declare(t.q(), args=SOON)
    t.channel().is_gone(t.q())


@scenario
def publishing_is_not_using(t):
    c = t.channel()
    c.declare(t.q(), args=SOON)
    c.bind(t.q(), "amq.fanout")
    for _ in range(4):
        c.next(1.4)
        c.publish("", t.q(), "m")
    t.channel().is_gone(t.q())


@scenario
def gone_with_what_is_unacknowledged(t):
    c = t.channel()
    c.declare(t.q(), args=SOON)
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c.get(t.q())
    t.channel().is_gone(t.q())
    c.ack(1)
    c.silent()
    c.declare(t.q())


@scenario
def gone_without_dead_letters(t):
    c = t.channel()
    c.declare(t.q("morgue"))
    c.declare(t.q(), args={**SOON, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    c.publish("", t.q(), "m")
    t.channel().is_gone(t.q())
    c.drain(t.q("morgue"))


@scenario
def auto_delete_before_its_lease(t):
    c = t.channel()
    c.declare(t.q(), auto_delete=True, args={"x-expires": 60000})
    c.consume(t.q(), "tag")
    c("basic.cancel", consumer_tag="tag")
    t.channel().is_gone(t.q())


@scenario
def auto_delete_never_used_ends_with_its_lease(t):
    c = t.channel()
    c.declare(t.q(), auto_delete=True, args=SOON)
    t.channel().is_gone(t.q())


@scenario
def exclusive_is_free_after_the_close(t):
    """Whoever has seen close-ok finds the name free."""
    for number in range(5):
        mine = t.connect()
        mine.channel().declare(t.q(), exclusive=True)
        mine.close()
        t.channel().declare(t.q(), passive=True)


@scenario
def exclusive_is_taken_again(t):
    first, second = t.connect(), t.connect()
    c = first.channel()
    c.declare(t.q(), exclusive=True)
    c.publish("", t.q(), "of the first")
    c.wait_messages(t.q(), 1)
    first.close()
    second.channel().declare(t.q(), exclusive=True)


@scenario
def exclusive_goes_with_a_connection_that_is_lost(t):
    lost = t.connect()
    c = lost.channel()
    c.declare(t.q(), exclusive=True)
    c.consume(t.q(), "tag")
    lost.drop()
    t.channel().is_gone(t.q())


@scenario
def exclusive_stays_when_its_channel_goes(t):
    mine = t.connect()
    c, other = mine.channel(), mine.channel()
    c.declare(t.q(), exclusive=True)
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 1)
    c.close()
    other.consume(t.q(), "tag")
    other.next()
    t.connect().channel()("queue.delete", queue=t.q())
    other("queue.delete", queue=t.q())


@scenario
def exclusive_and_auto_delete(t):
    mine = t.connect()
    c = mine.channel()
    c.declare(t.q(), exclusive=True, auto_delete=True)
    c.consume(t.q(), "tag")
    c("basic.cancel", consumer_tag="tag")
    mine.channel().is_gone(t.q())


@scenario
def exclusive_consumer_of_an_exclusive_queue(t):
    mine = t.connect()
    c, other = mine.channel(), mine.channel()
    c.declare(t.q(), exclusive=True)
    c.consume(t.q(), "one", exclusive=True)
    other.consume(t.q(), "two")


@scenario
def exclusive_and_its_bindings(t):
    mine, c = t.connect(), t.channel()
    c.exchange(t.q("x"), "fanout", auto_delete=True)
    own = mine.channel()
    own.declare(t.q(), exclusive=True)
    own.bind(t.q(), t.q("x"))
    mine.close()
    c.exchange(t.q("x"), "fanout", passive=True)


@scenario
def a_chain_of_auto_delete_exchanges(t):
    """The last binding of one goes with the exchange that it led to."""
    c = t.channel()
    for name in ("a", "b", "c"):
        c.exchange(t.q(name), "fanout", auto_delete=True)
    c.declare(t.q())
    c("exchange.bind", destination=t.q("b"), source=t.q("a"))
    c("exchange.bind", destination=t.q("c"), source=t.q("b"))
    c.bind(t.q(), t.q("c"))
    c("queue.delete", queue=t.q())
    for name in ("c", "b", "a"):
        t.channel().exchange(t.q(name), "fanout", passive=True)


@scenario
def a_deleted_destination_unbinds(t):
    c = t.channel()
    c.exchange(t.q("source"), "fanout", auto_delete=True)
    c.exchange(t.q("destination"), "fanout")
    c("exchange.bind", destination=t.q("destination"), source=t.q("source"))
    c("exchange.delete", exchange=t.q("destination"))
    c.exchange(t.q("source"), "fanout", passive=True)


@scenario
def unused_is_without_bindings_from_it(t):
    c = t.channel()
    c.exchange(t.q("x"), "fanout")
    c.exchange(t.q("y"), "fanout")
    c("exchange.bind", destination=t.q("x"), source=t.q("y"))
    c("exchange.delete", exchange=t.q("x"), if_unused=True)
    c.exchange(t.q("x"), "fanout")
    c("exchange.bind", destination=t.q("x"), source=t.q("y"))
    c("exchange.delete", exchange=t.q("y"), if_unused=True)


@scenario
def an_alternate_comes_and_goes(t):
    c = t.channel()
    c.exchange(t.q("ae"), "fanout")
    c.exchange(t.q(), "direct", args={"alternate-exchange": t.q("ae")})
    c.declare(t.q())
    c.bind(t.q(), t.q("ae"))
    c("confirm.select")
    c.publish_sure(t.q(), "k", "through the alternate", mandatory=True)
    c("exchange.delete", exchange=t.q("ae"), if_unused=True)
    c = t.channel()
    c("confirm.select")
    c("exchange.delete", exchange=t.q("ae"))
    c.publish_sure(t.q(), "k", "returned", mandatory=True)
    c.exchange(t.q("ae"), "fanout")
    c.bind(t.q(), t.q("ae"))
    c.publish_sure(t.q(), "k", "through it again", mandatory=True)
    c.drain(t.q())


@scenario
def alternates_of_exchanges_on_the_way(t):
    """Each exchange on the way has its own alternate, whatever the others found."""
    c = t.channel()
    c.exchange(t.q("ae"), "fanout")
    c.exchange(t.q("top"), "fanout")
    c.exchange(t.q("mid"), "direct", internal=True, args={"alternate-exchange": t.q("ae")})
    c("exchange.bind", destination=t.q("mid"), source=t.q("top"))
    for name in ("all", "some", "rest"):
        c.declare(t.q(name))
    c.bind(t.q("all"), t.q("top"))
    c.bind(t.q("some"), t.q("mid"), "some")
    c.bind(t.q("rest"), t.q("ae"))
    c("confirm.select")
    for key in ("some", "other"):
        c.publish_sure(t.q("top"), key, key, mandatory=True)
    c.publish_sure(t.q("top"), "some", "CC", {"headers": {"CC": ["other"]}}, mandatory=True)
    for name in ("all", "some", "rest"):
        c.drain(t.q(name))


@scenario
def an_internal_alternate(t):
    c = t.channel()
    c.exchange(t.q("ae"), "fanout", internal=True)
    c.exchange(t.q(), "headers", args={"alternate-exchange": t.q("ae")})
    c.declare(t.q())
    c.bind(t.q(), t.q("ae"))
    c("confirm.select")
    c.publish_sure(t.q(), "", "m", mandatory=True)
    c.drain(t.q())
    c.publish_sure(t.q("ae"), "", "m")
