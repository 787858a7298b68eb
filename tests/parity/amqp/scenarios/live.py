"""What an administrator changes over the management API while queues are in use: policies, limits, definitions."""

from play import scenario


def shown(t, queue, policy, operator, effective):
    names = {key: name and f"{t.name}.{name}" for key, name in (("policy", policy), ("operator_policy", operator))}
    t.shows(f"/queues/%2F/{queue}", **names, effective_policy_definition=effective or None)


def published(t, c, bodies, queue=""):
    for body in bodies:
        c.publish_sure("", t.q(queue), body)


@scenario
def length(t):
    c = t.channel()
    c.declare(t.q())
    c("confirm.select")
    published(t, c, "abcde")
    t.policy("p", {"max-length": 3})
    c.wait_messages(t.q(), 3)
    published(t, c, "f")
    c.counts(t.q())
    t.policy("p", {"max-length": 1, "overflow": "reject-publish"})
    c.silent()
    published(t, c, "g")
    c.drain(t.q())
    published(t, c, "hi")
    t.api("DELETE", "/policies/%2F/$.p")
    c.silent()
    published(t, c, "jk")
    c.drain(t.q())


@scenario
def dead_letters(t):
    c = t.channel()
    c.declare(t.q("morgue"))
    c.declare(t.q("other"))
    c.declare(t.q())
    pattern = f"^{t.q()}$"
    c("confirm.select")
    published(t, c, "abcd")
    c.get(t.q())
    c.reject(1)
    t.policy("p", {"dead-letter-exchange": "", "dead-letter-routing-key": t.q("morgue")}, pattern)
    c.get(t.q())
    c.silent()
    c.reject(2)
    c.get_when_there(t.q("morgue"))
    t.policy("p", {"dead-letter-exchange": "", "dead-letter-routing-key": t.q("other")}, pattern)
    c.silent()
    c.get(t.q())
    c.reject(4)
    c.get_when_there(t.q("other"))
    t.api("DELETE", "/policies/%2F/$.p")
    c.silent()
    c.get(t.q())
    c.reject(6)
    c.silent()
    c.counts(t.q("morgue"))
    c.counts(t.q("other"))


@scenario
def an_argument_counts_before_a_dead_letter_policy(t):
    c = t.channel()
    c.declare(t.q("morgue"))
    c.declare(t.q(), args={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": t.q("morgue")})
    t.policy("p", {"dead-letter-exchange": "amq.fanout", "dead-letter-routing-key": "elsewhere"}, f"^{t.q()}$")
    c("confirm.select")
    published(t, c, "a")
    c.get(t.q())
    c.reject(1)
    c.get_when_there(t.q("morgue"))


@scenario
def lengths_of_three_kinds(t):
    """Argument, policy and operator policy: the smallest."""
    c = t.channel()
    c.declare(t.q("few"), args={"x-max-length": 2})
    c.declare(t.q("many"), args={"x-max-length": 9})
    c.declare(t.q("plain"))
    c("confirm.select")
    t.policy("p", {"max-length": 4}, **{"apply-to": "queues"})
    t.policy("o", {"max-length": 3}, operator=True, **{"apply-to": "queues"})
    for queue in ("few", "many", "plain"):
        published(t, c, "abcdef", queue)
        c.drain(t.q(queue))
        shown(t, t.q(queue), "p", "o", {"max-length": 3})
    t.api("DELETE", "/operator-policies/%2F/$.o")
    c.silent()
    for queue in ("few", "many", "plain"):
        published(t, c, "abcdef", queue)
        c.drain(t.q(queue))


@scenario
def operator_policies_merge(t):
    c = t.channel()
    c.declare(t.q())
    t.policy("p", {"max-length": 7, "message-ttl": 60000, "dead-letter-exchange": "amq.fanout"}, priority=1)
    t.policy("o", {"message-ttl": 50, "max-length-bytes": 1000, "max-length": 9}, operator=True)
    merged = {"dead-letter-exchange": "amq.fanout", "max-length": 7, "max-length-bytes": 1000, "message-ttl": 50}
    shown(t, t.q(), "p", "o", merged)
    c.publish("", t.q(), "m")
    c.wait_messages(t.q(), 0)
    t.policy("o2", {"max-length": 1}, operator=True, priority=9)
    shown(t, t.q(), "p", "o2", {"dead-letter-exchange": "amq.fanout", "max-length": 1, "message-ttl": 60000})
    c("confirm.select")
    published(t, c, "ab")
    c.drain(t.q())
    t.api("DELETE", "/policies/%2F/$.p")
    shown(t, t.q(), None, "o2", {"max-length": 1})
    for name in ("o", "o2"):
        t.api("DELETE", f"/operator-policies/%2F/$.{name}")
    shown(t, t.q(), None, None, None)


@scenario
def priorities_and_kinds(t):
    c = t.channel()
    c.declare(t.q())
    c.exchange(t.q(), "direct")
    t.policy("exchanges", {"alternate-exchange": "amq.fanout"}, priority=9, **{"apply-to": "exchanges"})
    t.policy("low", {"max-length": 5}, priority=1, **{"apply-to": "queues"})
    shown(t, t.q(), "low", None, {"max-length": 5})
    t.policy("high", {"max-length": 2}, priority=2, **{"apply-to": "all"})
    shown(t, t.q(), "high", None, {"max-length": 2})
    t.policy("high", {"max-length": 2}, pattern="^nothing-of-ours$", priority=2, **{"apply-to": "all"})
    shown(t, t.q(), "low", None, {"max-length": 5})
    t.policy("high", {"max-length": 2}, priority=-2, **{"apply-to": "all"})
    shown(t, t.q(), "low", None, {"max-length": 5})
    for name in ("low", "high", "exchanges"):
        t.api("DELETE", f"/policies/%2F/$.{name}")
    t.api("DELETE", "/policies/%2F/$.high")
    shown(t, t.q(), None, None, None)


@scenario
def expires(t):
    c = t.channel()
    c.declare(t.q())
    c.consume(t.q(), "holder")
    t.policy("p", {"expires": 3000})
    c.next(3.5)
    c.counts(t.q())
    c("basic.cancel", consumer_tag="holder")
    t.channel().is_gone(t.q())
    c.declare(t.q())
    t.api("DELETE", "/policies/%2F/$.p")
    c.next(3.5)
    c.counts(t.q())


@scenario
def expires_of_a_queue_that_is_not_used(t):
    c = t.channel()
    c.declare(t.q())
    t.policy("p", {"expires": 200})
    t.channel().is_gone(t.q())


@scenario
def ttl(t):
    c = t.channel()
    c.declare(t.q())
    c("confirm.select")
    published(t, c, "a")
    t.policy("p", {"message-ttl": 100})
    published(t, c, "b")
    c.wait_messages(t.q(), 0)
    t.api("DELETE", "/policies/%2F/$.p")
    published(t, c, "c")
    c.next(0.4)
    c.drain(t.q())


@scenario
def alternate_exchange(t):
    c = t.channel()
    c.exchange(t.q("x"), "direct")
    c.exchange(t.q("ae"), "fanout")
    c.declare(t.q())
    c.bind(t.q(), t.q("ae"))
    c("confirm.select")
    c.publish_sure(t.q("x"), "k", "before", mandatory=True)
    t.policy("p", {"alternate-exchange": t.q("ae")}, f"^{t.q('x')}$")
    c.publish_sure(t.q("x"), "k", "meanwhile", mandatory=True)
    t.api("DELETE", "/policies/%2F/$.p")
    c.publish_sure(t.q("x"), "k", "after", mandatory=True)
    c.drain(t.q())


@scenario
def policies_that_are_none(t):
    for name, definition, more in [
        ("negative", {"max-length": -1}, {}), ("text", {"max-length": "five"}, {}), ("unknown", {"foo": 5}, {}),
        ("two-unknown", {"foo": 5, "bar": 6}, {}), ("ttl", {"message-ttl": -5}, {}), ("expires", {"expires": 0}, {}),
        ("overflow", {"overflow": "spill"}, {}), ("dlx", {"dead-letter-exchange": 5}, {}),
        ("empty", {}, {}), ("apply", {"max-length": 5}, {"apply-to": "everything"}),
        ("age", {"max-age": "1 fortnight"}, {}),
        ("limit", {"delivery-limit": -1}, {}), ("huge", {"message-ttl": 315360000001}, {}), ("alternate", {"alternate-exchange": 5}, {}),
        ("mode", {"queue-mode": "eager"}, {}), ("bytes", {"max-length-bytes": 1.5}, {}),
    ]:
        t.policy(name, definition, **more)
        t.api("DELETE", f"/policies/%2F/$.{name}")
    t.policy("pattern", {"max-length": 5}, pattern="(")
    t.api("PUT", "/policies/%2F/$.none", {})
    t.api("PUT", "/policies/%2F/$.none", {"pattern": "x"})
    t.api("PUT", "/policies/%2F/$.none", {"definition": {"max-length": 5}})
    t.api("PUT", "/policies/%2F/$.none", "no JSON")
    t.api("PUT", "/policies/nowhere/$.none", {"pattern": "x", "definition": {"max-length": 5}})
    t.api("GET", "/policies/%2F/$.none")


@scenario
def operator_policies_that_are_none(t):
    for name, definition in [
        ("dlx", {"dead-letter-exchange": "amq.fanout"}), ("overflow", {"overflow": "reject-publish"}),
        ("alternate", {"alternate-exchange": "amq.fanout"}), ("ok", {"max-length": 5, "expires": 100000}),
        ("unknown", {"foo": 5}),
    ]:
        t.policy(name, definition, operator=True)
        t.api("DELETE", f"/operator-policies/%2F/$.{name}")


def vhost(t, name, **limits):
    t.api("PUT", f"/vhosts/$.{name}")
    t.api("PUT", f"/permissions/$.{name}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
    for limit, value in limits.items():
        t.api("PUT", f"/vhost-limits/$.{name}/{limit.replace('_', '-')}", {"value": value})


@scenario
def queues_of_a_vhost(t):
    vhost(t, "v", max_queues=2)
    mine = t.connect(vhost=t.q("v"))
    for name in ("one", "two", "three", "two"):
        mine.channel().declare(name)
    mine.channel().declare("")
    mine.channel()("queue.delete", queue="one")
    mine.channel().declare("three")
    t.api("PUT", "/vhost-limits/$.v/max-queues", {"value": -1})
    mine.channel().declare("four")
    t.api("PUT", "/vhost-limits/$.v/max-queues", {"value": 0})
    mine.channel().declare("five")
    t.api("DELETE", "/vhost-limits/$.v/max-queues")
    mine.channel().declare("five")
    t.api("PUT", "/vhost-limits/$.v/max-nonsense", {"value": 1})
    t.api("PUT", "/vhost-limits/$.v/max-queues", {"value": "many"})
    t.api("DELETE", "/vhosts/$.v")


def refused(t, **options):
    """Opens a connection as far as it goes."""
    other = t.raw()
    other.wire.start(user=options.get("user", "guest"), password=options.get("user", "guest"))
    other.wire.send("connection.tune-ok", 0, channel_max=2047, frame_max=131072, heartbeat=0)
    other.zero()("connection.open", vhost=options.get("vhost", "/"))
    return other


@scenario
def connections_of_a_vhost(t):
    vhost(t, "v", max_connections=1)
    first = refused(t, vhost=t.q("v"))
    refused(t, vhost=t.q("v"))
    first.close()
    t.channel()("basic.qos")
    refused(t, vhost=t.q("v"))
    t.api("PUT", "/vhost-limits/$.v/max-connections", {"value": 0})
    refused(t, vhost=t.q("v"))
    t.api("DELETE", "/vhosts/$.v")
    refused(t, vhost=t.q("v"))


@scenario
def limits_of_a_user(t):
    t.api("PUT", "/users/$", {"password": t.q(), "tags": ""})
    t.api("PUT", "/permissions/%2F/$", {"configure": ".*", "write": ".*", "read": ".*"})
    t.api("PUT", "/user-limits/$/max-connections", {"value": 1})
    t.api("PUT", "/user-limits/$/max-channels", {"value": 2})
    first = refused(t, user=t.q())
    refused(t, user=t.q())
    for _ in range(3):
        first.channel()
    t.api("DELETE", "/user-limits/$/max-connections")
    t.api("PUT", "/user-limits/$/max-nonsense", {"value": 2})
    t.api("DELETE", "/users/$")


def imported(t, what, **definitions):
    t.note(what)
    t.api("POST", "/definitions", definitions)


@scenario
def definitions_that_are_awkward(t):
    name = t.q()
    t.note("what is no definitions")
    t.api("POST", "/definitions", "no JSON")
    t.api("POST", "/definitions", [])
    imported(t, "nothing")
    imported(t, "an unknown section", nonsense=[{"a": 1}])
    imported(t, "a queue of a missing vhost", queues=[{"name": name, "vhost": name, "durable": True, "auto_delete": False, "arguments": {}}])
    imported(t, "a queue without arguments", queues=[{"name": f"{name}.bare", "vhost": "/", "durable": True, "auto_delete": False}])
    imported(t, "a queue of its name only", queues=[{"name": f"{name}.least", "vhost": "/"}])
    imported(t, "a queue with bad arguments", queues=[{"name": f"{name}.bad", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {"x-message-ttl": -1}}])
    imported(t, "a queue that is there, otherwise", queues=[{"name": f"{name}.bare", "vhost": "/", "durable": False, "auto_delete": False, "arguments": {"x-max-length": 5}}])
    imported(t, "a name that a broker has given", queues=[{"name": f"amq.gen-{name}", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}])
    imported(t, "an exchange of an unknown type", exchanges=[{"name": name, "vhost": "/", "type": "nosuch", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}])
    imported(t, "the default exchange", exchanges=[{"name": "", "vhost": "/", "type": "direct", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}])
    imported(t, "a binding of what is missing", bindings=[{"source": name, "vhost": "/", "destination": f"{name}.bare", "destination_type": "queue", "routing_key": "k", "arguments": {}}])
    imported(t, "a user without a password", users=[{"name": name, "tags": []}])
    imported(t, "a user with a bad hash", users=[{"name": f"{name}.hash", "password_hash": "!!", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""}])
    imported(t, "a permission of a missing user", permissions=[{"user": f"{name}.nobody", "vhost": "/", "configure": "", "write": "", "read": ""}])
    imported(t, "a policy that is none", policies=[{"name": f"{name}.none", "vhost": "/", "pattern": "x", "definition": {"nonsense": 1}}])
    imported(t, "a parameter of an unknown component", parameters=[{"component": "nonsense", "vhost": "/", "name": name, "value": 1}])
    imported(t, "a global parameter", global_parameters=[{"name": name, "value": {"a": [1, "b"]}}])
    c = t.channel()
    c.declare(f"{name}.bare", passive=True)
    t.channel().declare(f"{name}.least", durable=True, passive=True)
    t.channel().declare(f"{name}.bad", passive=True)
    t.api("DELETE", f"/users/{name}")


@scenario
def definitions_of_a_vhost(t):
    vhost(t, "v")
    t.api("POST", "/definitions/$.v", {
        "queues": [{"name": "q", "durable": True, "auto_delete": False, "arguments": {"x-max-length": 3}}],
        "exchanges": [{"name": "x", "type": "topic", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}],
        "bindings": [{"source": "x", "destination": "q", "destination_type": "queue", "routing_key": "a.*", "arguments": {}}],
        "policies": [{"name": "p", "pattern": ".*", "apply-to": "queues", "definition": {"max-length": 2}, "priority": 0}],
    })
    c = t.connect(vhost=t.q("v")).channel()
    c("confirm.select")
    for body in "abc":
        c.publish_sure("x", "a.b", body, mandatory=True)
    c.drain("q")
    t.api("POST", "/definitions/nowhere", {"queues": []})
    t.api("DELETE", "/vhosts/$.v")


@scenario
def a_user_that_is_changed(t):
    t.api("PUT", "/users/$", {"password": t.q(), "tags": ""})
    refused(t, user=t.q())
    t.api("PUT", "/permissions/%2F/$", {"configure": "^own", "write": ".*", "read": ".*"})
    mine = t.connect(user=t.q(), password=t.q())
    mine.channel().declare(t.q())
    t.api("PUT", "/permissions/%2F/$", {"configure": ".*", "write": ".*", "read": ".*"})
    mine.channel().declare(t.q())
    t.api("PUT", "/permissions/%2F/$", {"configure": "(", "write": ".*", "read": ".*"})
    t.api("PUT", "/permissions/%2F/$", {"configure": ".*"})
    t.api("PUT", "/permissions/nowhere/$", {"configure": ".*", "write": ".*", "read": ".*"})
    t.api("PUT", "/permissions/%2F/nobody.$", {"configure": ".*", "write": ".*", "read": ".*"})
    t.api("PUT", "/users/$", {"password": "another", "tags": ""})
    mine.channel().declare(t.q(), passive=True)
    t.api("DELETE", "/users/$")
    t.api("DELETE", "/users/$")
