"""`$share/<group>/$stream/<log>`: MQTT clients that share the records of a log, beside Kafka's share groups and cursors."""

import pytest
from confluent_kafka import Producer
from paho.mqtt import client as mqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from clients import PATIENCE, Device, eventually, make_durable, pika_channel
from management import Management
from test_interop_kafka_group_admin import Share, admin, configure  # noqa: F401 (a fixture)
from test_readers import ADMINISTRATIVE_ACTION, FAILURE, FILTER_INVALID, NOT_AUTHORIZED, create_topic, produce

NO_SUBSCRIPTION = 0x11


def shared(log, start="", group="workers"):
    return f"$share/{group}/$stream/{log}{start}"


def numbers(count, start=0):
    return [b"%d" % number for number in range(start, start + count)]


def payloads(messages):
    return sorted((it.payload for it in messages), key=int)


def arrived(*devices):
    """What has come to devices so far, each message once taken."""
    return [device.messages.get() for device in devices for _ in range(device.messages.qsize())]


def lags(broker, log, group="workers"):
    """How far the group is, by partition, as the view of all readers has it."""
    found = Management(broker).get("lag")
    own = [it for it in found if it["name"] == f"$share/{group}/$stream/{log}"]
    assert {(it["kind"], it["log"]) for it in own} <= {("cursor", log)}
    return [it["lag"] for it in sorted(own, key=lambda it: it["partition"])]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_members_share_the_records(broker, name, qos):
    """Each record goes to one member, of whatever version; what is done with does not come back."""
    create_topic(broker, name, 3)
    produce(broker, name, numbers(150))
    with Device(broker) as one, Device(broker, version=mqtt.MQTTv311) as other:
        assert one.subscribe(shared(name, "?offset=first"), qos=qos) == [qos]
        assert other.subscribe(shared(name), qos=qos) == [qos]
        found = {one: [], other: []}

        def complete(count):
            for device, messages in found.items():
                messages += arrived(device)
            return sum(map(len, found.values())) >= count

        eventually(lambda: complete(150))
        for batch in range(150, 300, 10):
            produce(broker, name, numbers(10, batch))
        eventually(lambda: complete(300))
        for device, messages in found.items():
            messages += device.settle()
            assert messages, "both have their part"
        messages = sum(found.values(), [])
        assert payloads(messages) == numbers(300)
        assert {(it.topic, it.qos) for it in messages} == {(name, qos)}
        eventually(lambda: lags(broker, name) == [0, 0, 0])
        with Device(broker) as late:
            assert late.subscribe(shared(name, "?offset=first"), qos=qos) == [qos], "the group is where it is"
            assert late.settle() == []


def test_what_a_member_leaves_goes_to_another(broker, name):
    """QoS 1: what is not acknowledged when a connection ends is redelivered, before anything new."""
    create_topic(broker, name)
    produce(broker, name, numbers(30))
    holder = Device(broker, manual_ack=True, ReceiveMaximum=10)
    assert holder.subscribe(shared(name, "?offset=first")) == [1]
    held = holder.take(10)
    for message in held[:4]:
        holder.client.ack(message.mid, message.qos)
    eventually(lambda: holder.messages.qsize() == 4)
    assert lags(broker, name) == [26]
    with Device(broker) as other:
        assert other.subscribe(shared(name)) == [1]
        rest = other.take(16)
        holder.vanish()
        back = other.take(10)
        assert payloads(rest) == numbers(16, 14)
        assert payloads(back) == numbers(10, 4)
        assert not any(it.dup for it in back), "it is the first time for this client (3.3.1-1)"
        assert other.settle() == []
        eventually(lambda: lags(broker, name) == [0])


def test_qos_2_stays_with_the_session_that_has_received_it(own_broker, name):
    """MQTT 5, 4.8.2: a message whose handshake has begun is its session's, and comes there once, also over kill -9."""
    broker = own_broker()
    create_topic(broker, name, 2)
    found = []
    with Device(broker, "one", clean=False, expiry=3600) as one:
        assert one.subscribe(shared(name, "?offset=first"), qos=2) == [2]
        produce(broker, name, numbers(100))
        eventually(lambda: found.extend(arrived(one)) or len(found) >= 40)
        broker.kill()
    found += arrived(one)
    # What waits for its PUBREL has come, though paho shows it only then: the next client knows nothing of it.
    found += one.client._in_messages.values()
    broker.start()
    with Device(broker, "one", clean=False, expiry=3600) as one, Device(broker, "two") as two:
        assert one.flags.session_present
        assert two.subscribe(shared(name), qos=2) == [2]
        eventually(lambda: found.extend(arrived(one, two)) or len({it.payload for it in found}) == 100)
        found += one.settle() + two.settle()
    # A client that is not told of its own crash keeps no record of identifiers over its connections: what it had
    # received and not completed it gets again, as DUP. The broker sends nothing else twice.
    fresh = [it.payload for it in found if not it.dup]
    assert len(fresh) == len(set(fresh))
    assert {it.payload for it in found} == set(numbers(100))


def test_the_place_outlives_members_and_kills(own_broker, name):
    """Workers without lasting sessions: nothing is lost, and what is settled does not come back."""
    broker = own_broker()
    create_topic(broker, name, 2)
    produced, settled, seen = [], set(), set()

    def more():
        produce(broker, name, batch := numbers(200, len(produced)))
        produced.extend(batch)

    def taken(messages):
        assert not (new := {it.payload for it in messages}) & settled, "it was acknowledged, and that was durable"
        seen.update(new)

    for _ in range(4):
        more()
        with Device(broker) as worker:
            assert worker.subscribe(shared(name, "?offset=first")) == [1]
            eventually(lambda: lags(broker, name) == [0, 0])
            taken(arrived(worker))
            assert seen == set(produced), "nothing is lost"
            make_durable(broker)
            settled |= seen
            more()
            taken(worker.take(100))
            broker.kill()
        taken(arrived(worker))
        broker.start()
    with Device(broker) as worker:
        assert worker.subscribe(shared(name, "?offset=first")) == [1]
        eventually(lambda: lags(broker, name) == [0, 0])
        taken(worker.settle())
    assert seen == set(produced), "nothing is lost"


def test_unsubscribing_forgets_the_place_and_a_session_that_ends_does_not(broker, name):
    create_topic(broker, name)
    produce(broker, name, numbers(5))
    for expected in (numbers(5), []):
        with Device(broker) as worker:
            assert worker.subscribe(shared(name, "?offset=first")) == [1]
            assert payloads(worker.settle()) == expected
    with Device(broker) as worker, Device(broker) as other:
        worker.subscribe(shared(name))
        other.subscribe(shared(name))
        worker.unsubscribe(shared(name))
        other.unsubscribe(shared(name))
        eventually(lambda: lags(broker, name) == [])
        assert [it.value for it in worker.unsubscribe(shared(name))] == [NO_SUBSCRIPTION]
        other.subscribe(shared(name, "?offset=3"))
        assert payloads(other.settle()) == numbers(2, 3)


def test_groups_of_all_protocols_over_one_log(broker, admin, name):  # noqa: F811
    """A share group of Kafka's, a cursor of AMQP's and a shared subscription: each gets all, none is in another's way."""
    create_topic(broker, name, 2)
    configure(admin, name, share_auto_offset_reset="earliest")
    produce(broker, name, numbers(40))
    member = Share(broker, name)
    with Device(broker) as device, Device(broker) as second, pika_channel(broker) as channel:
        assert device.subscribe(shared(name, "?offset=first")) == [1]
        assert second.subscribe(shared(name, "?offset=first", "others")) == [1]
        channel.queue_declare(f"{name}.q", durable=True, arguments={
            "x-queue-type": "cursor", "x-source": name, "x-stream-offset": "first"})
        produce(broker, name, numbers(40, 40))
        eventually(lambda: member.poll() or len(member.seen) == 80)
        by_amqp = []
        for method, _, body in channel.consume(f"{name}.q", inactivity_timeout=PATIENCE):
            by_amqp.append(body)
            channel.basic_ack(method.delivery_tag)
            if len(by_amqp) == 80:
                break
        channel.cancel()
        everything = numbers(80)
        assert sorted(by_amqp, key=int) == everything
        assert sorted(member.seen, key=int) == [it.decode() for it in everything]
        assert payloads(device.take(80)) == payloads(second.take(80)) == everything
        assert device.settle() == second.settle() == []
        eventually(lambda: lags(broker, name) == lags(broker, name, "others") == [0, 0])
        found = Management(broker).get("lag")
        kinds = sorted((it["kind"], str(it["protocol"])) for it in found if it.get("log") == name and it["partition"] == 0)
        assert kinds == [
            ("cursor", "None"), ("cursor", "mqtt"), ("cursor", "mqtt"), ("share", "kafka"), ("tap", "None")]
        channel.queue_delete(f"{name}.q")
    member.close()


def test_aborted_transactions_are_not_shared(broker, name):
    create_topic(broker, name)
    producer = Producer({"bootstrap.servers": broker.kafka, "transactional.id": name})
    producer.init_transactions(PATIENCE)
    with Device(broker) as device:
        assert device.subscribe(shared(name, "?offset=first")) == [1]
        for value, ends in ((b"no", producer.abort_transaction), (b"yes", producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(name, value)
            producer.flush(PATIENCE)
            ends(PATIENCE)
        assert device.next().payload == b"yes"
        assert device.settle() == []


@pytest.mark.parametrize("version", [mqtt.MQTTv5, mqtt.MQTTv311])
def test_what_cannot_be_shared_is_refused(broker, name, version):
    create_topic(broker, name)
    with pika_channel(broker) as channel, Device(broker, version=version) as device:
        channel.queue_declare(f"{name}.q")
        wrong = [shared("absent"), shared(name, "?offset=soon"), shared("__x"), shared(f"{name}.q"),
                 f"$share/g/$queue/{name}.q", "$share/g/$stream/"]
        reason = FILTER_INVALID if version == mqtt.MQTTv5 else FAILURE
        assert device.subscribe(*wrong, shared(name)) == [reason] * len(wrong) + [1]
        channel.queue_delete(f"{name}.q")


def test_permission_on_the_log(own_broker, name):
    broker = own_broker()
    management = Management(broker)
    management.put("users", "reader", password="secret", tags="")
    management.put("permissions", "/", "reader", configure="", write="", read="^open")
    for log in ("open", "shut"):
        create_topic(broker, log)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set("reader", "secret")
    acks = []
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: acks.extend(it.value for it in reasons)
    client.connect("127.0.0.1", broker.port("mqtt"))
    client.loop_start()
    client.subscribe([(shared(it), SubscribeOptions(qos=1)) for it in ("open", "shut")])
    eventually(lambda: len(acks) == 2)
    assert acks == [1, NOT_AUTHORIZED]
    client.disconnect()
    client.loop_stop()


def test_deleting_the_log_ends_the_group(broker, name):
    """Members are told, and one that was away has forgotten the group as well."""
    create_topic(broker, name)
    with Device(broker, f"{name}-away", clean=False, expiry=3600) as away:
        assert away.subscribe(shared(name)) == [1]
    with Device(broker, name, clean=False, expiry=3600) as device:
        assert device.subscribe(shared(name)) == [1]
        with pika_channel(broker) as channel:
            channel.queue_delete(name)
        assert device.disconnected().value == ADMINISTRATIVE_ACTION
    create_topic(broker, name)
    with Device(broker, f"{name}-away", clean=False, expiry=3600) as away:
        assert away.flags.session_present
        assert away.subscribe(f"{name}/x") == [1]
        assert lags(broker, name) == [], "nobody is in it"
        produce(broker, name, numbers(3))
        assert away.settle() == []
        assert away.subscribe(shared(name, "?offset=first")) == [1]
        assert payloads(away.take(3)) == numbers(3)
        assert away.settle() == []
    for client in (name, f"{name}-away"):
        Device(broker, client, clean=True).close()
