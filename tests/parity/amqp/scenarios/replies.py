"""Direct reply-to, and RPC over ordinary queues."""

from play import scenario

PSEUDO = "amq.rabbitmq.reply-to"


@scenario
def there_and_back(t):
    client, server = t.connect().channel(), t.connect().channel()
    server.declare(t.q())
    server.consume(t.q(), "server", no_ack=True)
    client.consume(PSEUDO, "client", no_ack=True)
    client.publish("", t.q(), "ask", {"reply_to": PSEUDO, "correlation_id": "1"})
    asked = server.next()
    reply_to = asked.properties["reply_to"]
    for body in ("answer", "and another"):
        server.publish("", reply_to, body, {"correlation_id": "1"}, mandatory=True)
        client.next()


@scenario
def without_a_consumer(t):
    c = t.channel()
    c.declare(t.q())
    c.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    c.next()


@scenario
def with_acknowledgement(t):
    t.channel().consume(PSEUDO, "client")


@scenario
def twice(t):
    c = t.channel()
    c.consume(PSEUDO, "one", no_ack=True)
    c.consume(PSEUDO, "two", no_ack=True)


@scenario
def cancelled_and_again(t):
    c = t.channel()
    c.consume(PSEUDO, "one", no_ack=True)
    c("basic.cancel", consumer_tag="one")
    c.consume(PSEUDO, "two", no_ack=True)


@scenario
def declared(t):
    c = t.channel()
    c.declare(PSEUDO)
    c.declare(PSEUDO, passive=True)
    other = t.channel()
    other.consume(PSEUDO, "client", no_ack=True)
    other.declare(PSEUDO, passive=True)


@scenario
def other_operations(t):
    t.channel().get(PSEUDO)
    t.channel()("queue.delete", queue=PSEUDO)
    t.channel()("queue.purge", queue=PSEUDO)
    t.channel()("queue.bind", queue=PSEUDO, exchange="amq.direct", routing_key="k")


@scenario
def replying_to_somebody_who_is_gone(t):
    client, server = t.connect(), t.channel()
    server.declare(t.q())
    channel = client.channel()
    channel.consume(PSEUDO, "client", no_ack=True)
    channel.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    asked = server.get_when_there(t.q())
    client.close()
    server("confirm.select")
    server.publish_sure("", asked.properties["reply_to"], "too late")
    server.declare(asked.properties["reply_to"], passive=True)


@scenario
def the_asker_is_still_there(t):
    client, server = t.channel(), t.connect().channel()
    server.declare(t.q())
    client.consume(PSEUDO, "client", no_ack=True)
    client.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    asked = server.get_when_there(t.q())
    server.declare(asked.properties["reply_to"], passive=True)


@scenario
def made_up_address(t):
    c = t.channel()
    c("confirm.select")
    c.publish_sure("", PSEUDO + ".made-up", "to nobody", mandatory=True)
    c.publish_sure("", PSEUDO, "to nobody", mandatory=True)


@scenario
def mandatory_request(t):
    c = t.channel()
    c("confirm.select")
    c.consume(PSEUDO, "client", no_ack=True)
    c.publish_sure("", t.q("nowhere"), "ask", {"reply_to": PSEUDO}, mandatory=True)


@scenario
def over_an_exclusive_queue(t):
    client, server = t.connect().channel(), t.connect().channel()
    server.declare(t.q())
    server.consume(t.q(), "server", no_ack=True)
    reply = client.declare("", exclusive=True).queue
    client.consume(reply, "client", no_ack=True)
    client.publish("", t.q(), "ask", {"reply_to": reply, "correlation_id": "1"})
    asked = server.next()
    server.publish("", asked.properties["reply_to"], "answer", {"correlation_id": asked.properties["correlation_id"]})
    client.next()


@scenario
def asked_on_another_channel(t):
    mine = t.connect()
    c, other = mine.channel(), mine.channel()
    c.declare(t.q())
    c.consume(PSEUDO, "client", no_ack=True)
    other.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    other.next()


@scenario
def exclusive_and_with_arguments(t):
    c = t.channel()
    c.consume(PSEUDO, "client", no_ack=True, exclusive=True, args={"x-priority": 5})
    c.declare(t.q())
    c.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    asked = c.get_when_there(t.q())
    c.publish("", asked.properties["reply_to"], "answer", {"headers": {"CC": ["x"]}, "expiration": "1"})
    c.next()


@scenario
def the_tag_is_taken(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(t.q(), "tag")
    c.consume(PSEUDO, "tag", no_ack=True)


@scenario
def cancelled_before_the_answer(t):
    c, server = t.channel(), t.connect().channel()
    c.declare(t.q())
    c.consume(PSEUDO, "client", no_ack=True)
    c.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    asked = server.get_when_there(t.q())
    c("basic.cancel", consumer_tag="client")
    server("confirm.select")
    server.publish_sure("", asked.properties["reply_to"], "too late", mandatory=True)
    c.silent()
    c.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    c.next()


@scenario
def a_made_up_address_in_a_request(t):
    c = t.channel()
    c.declare(t.q())
    for reply_to in (PSEUDO + ".made-up", PSEUDO + ".", "amq.rabbitmq.reply-to-mine", ""):
        c.publish("", t.q(), "ask", {"reply_to": reply_to})
        c.get_when_there(t.q())


@scenario
def a_request_to_an_exchange(t):
    c = t.channel()
    c.exchange(t.q(), "fanout")
    c.declare(t.q())
    c.bind(t.q(), t.q())
    c.consume(PSEUDO, "client", no_ack=True)
    c.publish(t.q(), "", "ask", {"reply_to": PSEUDO, "headers": {"own": 1}})
    asked = c.get_when_there(t.q())
    c.publish(t.q(), asked.properties["reply_to"], "to an exchange it is a key like any other")
    c.get_when_there(t.q())
    c.publish("", asked.properties["reply_to"], "answer", {"delivery_mode": 2, "priority": 3, "headers": {"BCC": ["x"], "own": 2}})
    c.next()


@scenario
def in_a_transaction(t):
    c, server = t.channel(), t.connect().channel()
    server.declare(t.q())
    c.consume(PSEUDO, "client", no_ack=True)
    c.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    asked = server.get_when_there(t.q())
    server("tx.select")
    server.publish("", asked.properties["reply_to"], "answer")
    c.silent()
    server("tx.commit")
    c.next()


@scenario
def bound_and_purged(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(PSEUDO, "client", no_ack=True)
    c.publish("", t.q(), "ask", {"reply_to": PSEUDO})
    address = c.get_when_there(t.q()).properties["reply_to"]
    for method, fields in [
        ("queue.bind", {"exchange": "amq.direct", "routing_key": "k"}), ("queue.purge", {}), ("queue.delete", {}),
        ("basic.get", {}), ("basic.consume", {"no_ack": True}), ("queue.declare", {}),
    ]:
        t.channel()(method, queue=address, **fields)
