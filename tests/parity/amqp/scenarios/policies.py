"""Policies, users and definitions, as loaded from one file (definitions.json) by both brokers at start."""

from play import scenario


@scenario
def message_ttl(t):
    c = t.channel()
    c.declare(t.q("ttl"))
    c.publish("", t.q("ttl"), "m")
    c.wait_messages(t.q("ttl"), 1)
    c.wait_messages(t.q("ttl"), 0)


@scenario
def the_lower_of_policy_and_argument(t):
    c = t.channel()
    c.declare(t.q("length.1"), args={"x-max-length": 1})
    c.declare(t.q("length.9"), args={"x-max-length": 9})
    for name in ("length.1", "length.9"):
        for body in "abcde":
            c.publish("", t.q(name), body)
        c.wait_messages(t.q(name), 1 if name == "length.1" else 3)
        c.drain(t.q(name))


@scenario
def length(t):
    c = t.channel()
    c.declare(t.q("length"))
    c("confirm.select")
    for body in "abcde":
        c.publish_sure("", t.q("length"), body)
    c.drain(t.q("length"))


@scenario
def overflow(t):
    c = t.channel()
    c.declare(t.q("reject"))
    c("confirm.select")
    for body in "abc":
        c.publish_sure("", t.q("reject"), body)
    c.drain(t.q("reject"))


@scenario
def dead_letters(t):
    c = t.channel()
    c.declare("policies.morgue")
    c.declare(t.q("dead"))
    c.publish("", t.q("dead"), "m")
    got = c.get_when_there(t.q("dead"), no_ack=False)
    c.reject(got.delivery_tag)
    c.get_when_there("policies.morgue")


@scenario
def alternate_exchange(t):
    c = t.channel()
    c.exchange(t.q("alternate"))
    c.declare(t.q())
    c.bind(t.q(), "amq.fanout")
    c("confirm.select")
    c.publish_sure(t.q("alternate"), "nowhere", "m", mandatory=True)
    c.get_when_there(t.q())


@scenario
def the_highest_priority_is_chosen(t):
    c = t.channel()
    c.declare(t.q("chosen"))
    c("confirm.select")
    for body in "abcdef":
        c.publish_sure("", t.q("chosen"), body)
    c.drain(t.q("chosen"))


@scenario
def expires(t):
    c = t.channel()
    c.declare(t.q("expires"))
    c.is_gone(t.q("expires"))


@scenario
def policy_is_no_argument(t):
    c = t.channel()
    c.declare(t.q("ttl"))
    c.declare(t.q("ttl"), args={"x-message-ttl": 100})


@scenario
def imported(t):
    c = t.connect(vhost="other").channel()
    c.declare("imported", passive=True)
    c.declare("imported", durable=True, args={"x-max-length": 7})
    c.declare("imported", durable=True, args={"x-max-length": 8})
    d = t.channel()
    d("exchange.declare", exchange="imported", type="topic", durable=True)
    d("confirm.select")
    d.publish_sure("imported", "any.thing", "through the imported binding", mandatory=True)
    d.get_when_there("imported")


def as_reader(t):
    if getattr(t, "reader", None) is None or t.reader.is_closed:
        t.reader = t.connect(user="reader", password="secret")
    return t.reader.channel()


@scenario
def permissions(t):
    own = t.channel()
    own.declare(t.q())
    own.exchange(t.q("x"))
    as_reader(t).declare("own-queue")
    as_reader(t).declare(t.q())
    as_reader(t).declare(t.q(), passive=True)
    as_reader(t).declare("own-dlx", args={"x-dead-letter-exchange": "locked"})
    as_reader(t).declare("own-dlx2", args={"x-dead-letter-exchange": "open-topic"})
    as_reader(t).exchange("own-exchange")
    as_reader(t).exchange("own-ae", args={"alternate-exchange": "locked"})
    as_reader(t).exchange(t.q("x"))
    as_reader(t).exchange("locked", "topic", passive=True)
    as_reader(t)("exchange.delete", exchange=t.q("x"))
    as_reader(t).bind("own-queue", "locked", "k")
    as_reader(t).bind("own-queue", "own-exchange", "k")
    as_reader(t).bind("shared", "own-exchange", "k")
    as_reader(t)("queue.unbind", queue="own-queue", exchange="locked", routing_key="k")
    as_reader(t)("exchange.bind", destination="own-exchange", source="locked")
    as_reader(t)("exchange.bind", destination="locked", source="own-exchange")
    as_reader(t)("queue.purge", queue="own-queue")
    as_reader(t)("queue.purge", queue=t.q())
    as_reader(t)("queue.delete", queue=t.q())
    as_reader(t).get(t.q())
    as_reader(t).consume(t.q(), "tag")
    for exchange, key in [("", t.q()), ("locked", "k"), ("own-exchange", "k")]:
        c = as_reader(t)
        c("confirm.select")
        c.publish_sure(exchange, key, "m")
    as_reader(t)("queue.delete", queue="own-queue")


@scenario
def topic_permissions(t):
    own = t.connect(user="reader", password="secret")
    for key in ("reader.news", "other.news"):
        c = own.channel()
        c("confirm.select")
        c.publish_sure("open-topic", key, "m")
    own.channel().declare("own-topics")
    own.channel().bind("own-topics", "open-topic", "public.*")
    own.channel().bind("own-topics", "open-topic", "private.*")
    own.channel()("queue.unbind", queue="own-topics", exchange="open-topic", routing_key="private.*")


@scenario
def user_id_of_an_impersonator(t):
    for user, claimed in [("impostor", "guest"), ("reader", "guest"), ("reader", "reader")]:
        c = t.connect(user=user, password="secret").channel()
        c("confirm.select")
        c.publish_sure("" if user == "impostor" else "open-topic", "reader.k", "m", {"user_id": claimed})
