"""Connections: negotiation, login, tuning, closing, and what is answered to nonsense."""

import struct

import amqp_wire
from amqp_wire import Closed, encode_method, frame, publish_frames
from play import scenario


@scenario
def server_properties(t):
    a = t.raw()
    a.wire.start()
    properties = a.wire.server_properties
    t.note(f"keys {sorted(properties)}")
    t.note(f"capabilities {sorted(properties['capabilities'].items())}")
    t.note(f"product {properties['product']}")


@scenario
def start_and_tune(t):
    a = t.raw()
    a.bytes(amqp_wire.PROTOCOL_HEADER, "protocol header")
    start = a.wire.expect(0, "connection.start")
    t.note(f"version {start.version_major}.{start.version_minor}, mechanisms {sorted(start.mechanisms.split())}, locales {start.locales}")
    zero = a.zero()
    zero("connection.start-ok", mechanism="PLAIN", response="\0guest\0guest", locale="en_US")
    zero.send("connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
    zero("connection.open", vhost="/")
    zero("connection.close", code=200, text="bye")
    a.ended()


@scenario
def protocol_headers(t):
    for header in [b"AMQP\0\0\x09\x01", b"AMQP\x01\x01\x00\x09", b"AMQP\0\0\x09\x02", b"AMQP\x01\x01\x08\x00",
                   b"AMQP\0\x01\0\0", b"AMQP\x03\x01\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0\x01", b"AMQPnonsense"]:
        a = t.raw()
        a.bytes(header, repr(header))
        try:
            answer = a.wire.receive(0, 3)
            told = "nothing" if answer is None else f"{answer.name} {answer.get('bytes', '')}"
            t.note(f"answered {told}")
            if answer is not None and answer.name == "protocol-header":
                a.ended()
        except Closed:
            t.note("ended")


def login(t, **options):
    a = t.raw()
    try:
        told = a.wire.start(**options)
        a.zero().received(told)
        if told.name == "connection.close":
            a.ended()
    except Closed:
        t.note("ended without a word")


@scenario
def wrong_password(t):
    login(t, password="wrong")
    login(t, password="wrong", capabilities={})
    login(t, user="nosuch")
    login(t, mechanism="AMQPLAIN", response=amqp_wire.encode_table({"LOGIN": "guest", "PASSWORD": "wrong"})[4:])


@scenario
def mechanisms(t):
    login(t, mechanism="AMQPLAIN", response=amqp_wire.encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:])
    login(t, mechanism="NOSUCH", response="")
    login(t, mechanism="EXTERNAL", response="")
    login(t, mechanism="PLAIN", response="nonsense")
    login(t, mechanism="AMQPLAIN", response="nonsense")


@scenario
def vhosts(t):
    for vhost, user in [("nope", "guest"), ("/", "nobody"), ("other", "reader"), ("other", "guest")]:
        a = t.raw()
        a.wire.start(user=user, password="guest" if user == "guest" else "secret")
        zero = a.zero()
        zero.send("connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
        zero("connection.open", vhost=vhost)


@scenario
def tuning(t):
    for tune in [
        {"channel_max": 0, "frame_max": 131072}, {"channel_max": 2047, "frame_max": 0}, {"channel_max": 1, "frame_max": 4096},
        {"channel_max": 2048, "frame_max": 131072}, {"channel_max": 2047, "frame_max": 131073}, {"channel_max": 2047, "frame_max": 4095},
        {"channel_max": 2047, "frame_max": 1}, {"channel_max": 2047, "frame_max": 8192, "heartbeat": 7},
    ]:
        a = t.raw()
        a.wire.start()
        zero = a.zero()
        zero.send("connection.tune-ok", **tune)
        zero("connection.open", vhost="/")


@scenario
def more_channels_than_agreed(t):
    a = t.connect(channel_max=2)
    a.channel(1)
    a.channel(2)
    a.channel(3)


@scenario
def a_channel_beyond_what_was_agreed(t):
    a = t.connect(channel_max=2)
    a.channel(7)


@scenario
def channel_opened_twice(t):
    a = t.connect()
    a.channel(1)
    a.wire.send("channel.open", 1)
    a.zero().next()


@scenario
def method_on_a_channel_that_is_not_open(t):
    a = t.connect()
    a.wire.send("basic.qos", 5, prefetch_count=1)
    a.zero().next()


@scenario
def channel_can_be_opened_again(t):
    a = t.connect()
    c = a.channel(1)
    c.declare(t.q(), passive=True)
    c = a.channel(1)
    c("basic.qos")
    c.close()
    c = a.channel(1)
    c("basic.qos")


@scenario
def ignored_after_channel_close_until_close_ok(t):
    a = t.connect()
    a.channel(1)
    a.wire.send("queue.declare", 1, queue=t.q("missing"), passive=True)
    told = a.wire.receive(1)
    t.note(f"{told.name} {told.code}")
    a.wire.send("queue.declare", 1, queue=t.q())
    a.wire.publish(1, "", t.q(), "ignored")
    a.wire.send("channel.close", 1, code=200, text="crossing")
    t.note(f"answered {a.wire.receive(1).name}")
    a.wire.send("channel.close-ok", 1)
    c = a.channel(1)
    c("queue.declare", queue=t.q(), passive=True)


@scenario
def closing_with_channels_open(t):
    a = t.connect()
    a.channel(1)
    a.channel(2)
    a.zero()("connection.close", code=200, text="bye")
    a.ended()


def told(t, data, what, before=None):
    a = t.connect()
    a.channel(1)
    if before:
        before(a)
    a.bytes(data, what)
    zero = a.zero()
    zero.next()
    if a.is_closed:
        a.ended()


@scenario
def frame_end_is_wrong(t):
    told(t, frame(1, 1, encode_method("basic.qos", {}))[:-1] + b"\x00", "a frame that ends with 0")


@scenario
def unknown_frame_type(t):
    told(t, frame(5, 1, b"x"), "a frame of type 5")


@scenario
def frame_too_large(t):
    told(t, struct.pack(">BHI", 1, 1, 200000), "the head of a frame of 200000 octets")


@scenario
def body_without_a_method(t):
    told(t, frame(3, 1, b"x"), "a body that nobody announced")


@scenario
def header_without_a_method(t):
    told(t, frame(2, 1, struct.pack(">HHQH", 60, 0, 1, 0)), "a header that nobody announced")


@scenario
def method_in_the_middle_of_content(t):
    told(t, frame(1, 1, encode_method("basic.publish", {})) + frame(1, 1, encode_method("basic.qos", {})), "a method instead of a header")


@scenario
def body_instead_of_a_header(t):
    told(t, frame(1, 1, encode_method("basic.publish", {})) + frame(3, 1, b"x"), "a body instead of a header")


@scenario
def header_of_another_class(t):
    told(t, frame(1, 1, encode_method("basic.publish", {})) + frame(2, 1, struct.pack(">HHQH", 50, 0, 1, 0)), "a header of class 50")


@scenario
def unknown_method(t):
    told(t, frame(1, 1, struct.pack(">HH", 60, 999)), "method 60.999")
    told(t, frame(1, 1, struct.pack(">HH", 99, 1)), "method 99.1")


@scenario
def truncated_method(t):
    told(t, frame(1, 1, encode_method("queue.declare", {"queue": "q"})[:7]), "a queue.declare that ends too early")


@scenario
def broken_table(t):
    broken = encode_method("queue.declare", {"queue": t.q()})[:-4] + b"\0\0\0\x05\x01aZ\0\0"
    told(t, frame(1, 1, broken), "a table with a value of type Z")


@scenario
def connection_method_on_a_channel(t):
    told(t, frame(1, 1, encode_method("connection.open", {"vhost": "/"})), "connection.open on channel 1")


@scenario
def channel_method_on_zero(t):
    told(t, frame(1, 0, encode_method("basic.qos", {})), "basic.qos on channel 0")


@scenario
def method_of_the_broker(t):
    told(t, frame(1, 1, encode_method("queue.declare-ok", {"queue": "q"})), "queue.declare-ok from a client")
    told(t, frame(1, 1, encode_method("basic.deliver", {})), "basic.deliver from a client")


@scenario
def tune_ok_again(t):
    told(t, frame(1, 0, encode_method("connection.tune-ok", {})), "connection.tune-ok once more")


@scenario
def content_in_many_pieces(t):
    a = t.connect()
    c = a.channel(1)
    c.declare(t.q())
    whole = publish_frames(1, "", t.q(), b"x" * 100, {"message_id": "m"}, frame_max=20)
    for at in range(0, len(whole), 7):
        a.wire.send_bytes(whole[at : at + 7])
    c.get_when_there(t.q())


@scenario
def empty_body_frames(t):
    a = t.connect()
    c = a.channel(1)
    c.declare(t.q())
    data = frame(1, 1, encode_method("basic.publish", {"routing_key": t.q()}))
    data += frame(2, 1, struct.pack(">HHQH", 60, 0, 2, 0)) + frame(3, 1, b"") + frame(3, 1, b"a") + frame(3, 1, b"") + frame(3, 1, b"b")
    a.bytes(data, "a body in four frames, two of them empty")
    c.get_when_there(t.q())


@scenario
def more_body_than_announced(t):
    data = frame(1, 1, encode_method("basic.publish", {"routing_key": t.q()}))
    data += frame(2, 1, struct.pack(">HHQH", 60, 0, 2, 0)) + frame(3, 1, b"abc")
    told(t, data, "three octets where two were announced")


@scenario
def interleaved_channels(t):
    a = t.connect()
    one = a.channel(1)
    a.channel(2)
    one.declare(t.q())
    for piece in range(3):
        for number in (1, 2):
            data = [
                frame(1, number, encode_method("basic.publish", {"routing_key": t.q()})),
                frame(2, number, struct.pack(">HHQH", 60, 0, 1, 0)),
                frame(3, number, b"%d" % number),
            ][piece]
            a.wire.send_bytes(data)
    one.wait_messages(t.q(), 2)
    # Nothing is promised of the order between channels.
    bodies = sorted(a.wire.call("basic.get", 1, queue=t.q(), no_ack=True).body for _ in range(2))
    t.note(f"{bodies}")


@scenario
def heartbeat_frames(t):
    a = t.connect()
    a.channel(1)
    a.bytes(frame(8, 0, b""), "a heartbeat")
    a.zero().silent()
    a.bytes(frame(8, 1, b""), "a heartbeat on channel 1")
    a.zero().silent()


@scenario
def update_secret(t):
    a = t.connect()
    a.zero()("connection.update-secret", secret="guest", reason="rotation")


@scenario
def access_request(t):
    t.channel()("access.request", realm="/data", active=True, read=True, write=True)


@scenario
def channel_error_spares_the_connection(t):
    c, other = t.channel(), t.channel()
    other.declare(t.q())
    c.declare(t.q("missing"), passive=True)
    other.publish("", t.q(), "still there")
    other.get_when_there(t.q())


@scenario
def connection_error_ends_all_channels(t):
    c, other = t.channel(), t.channel()
    c.declare(t.q(), exclusive=True)
    c("basic.qos", prefetch_size=1)
    other.next()
    t.channel().is_gone(t.q())
