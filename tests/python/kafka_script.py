"""Scripts of single requests to Kafka's protocol, and what is answered: the same from Apache Kafka and from here.

A script says what several clients ask, step by step. Running it gives a transcript: a line for each answer, in which
everything that differs from run to run (ids, ports, the names of this run) has a name of its own. `python kafka_script.py
JARS [SCRIPT...]` runs the scripts against Apache Kafka, from a folder of its jars, and writes down the transcripts, which
are what the tests expect of Trivium.
"""

import json
import re
import sys
import tempfile
import uuid
from pathlib import Path

import kafka_schemas  # noqa: F401, makes messages known
from clients import eventually
from kafka_wire import Wire, message

RECORDED = Path(__file__).parent / "kafka_scripts"
# What Apache Kafka is to do as Trivium is told to do: nobody waits for others, and assignments are there at once.
OF_APACHE = {
    "group.initial.rebalance.delay.ms": 0,
    "group.consumer.assignment.interval.ms": 0,
    "group.share.assignment.interval.ms": 0,
    "group.consumer.assignor.offload.enable": "false",
    "group.share.assignor.offload.enable": "false",
    "auto.create.topics.enable": "false",
}
OF_TRIVIUM = {"kafka__initial_rebalance_delay_ms": 0}
RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SHORT_ID = re.compile(r"[A-Za-z0-9_-]{22}")
# Of a pattern that cannot be read, the words of the library that reads it.
REASON = re.compile(r"(is not a valid regular expression): .*")
SCRIPTS = {}


def script(function):
    """Makes a function a script; it is given a `Run`."""
    SCRIPTS[function.__name__] = function
    return function


class Run:
    """One run of a script against a broker."""

    def __init__(self, port, prefix):
        self.port, self.prefix, self.lines = port, prefix, []
        self._clients, self._known = [], {}

    def name(self, name):
        """The name of a topic or a group in this run, which no other run has."""
        return f"{self.prefix}{name}"

    def client(self, name="a"):
        self._clients.append(Client(self, name))
        return self._clients[-1]

    def topic(self, name, partitions=1):
        """Creates a topic; its name and its id."""
        wire, topic = self.client("topics"), self.name(name)
        Topic = message("CreateTopicsRequest.CreatableTopic")
        wanted = message("MetadataRequest.MetadataRequestTopic")(topic_id=uuid.UUID(int=0), name=topic)
        new = Topic(name=topic, num_partitions=partitions, replication_factor=1, assignments=[], configs=[])
        (made,) = wire.wire.call("CreateTopics", 7, topics=[new], timeout_ms=10_000, validate_only=False).topics
        assert made.error_code == 0, made
        # The broker is about to hear of it.
        eventually(lambda: not wire.wire.call("Metadata", 12, topics=[wanted]).topics[0].error_code)
        self._know(str(made.topic_id), f"<{name}>")
        return topic, made.topic_id

    def consumed(self, name, partitions=1):
        """Creates a topic; its name and its id, once every coordinator of groups has heard of it."""
        topic, id = self.topic(name, partitions)
        wire = self.client("probe").wire
        for at in range(16):
            joins = {"group_id": f"probe-{self.prefix}{name}-{at}", "member_id": "m", "rebalance_timeout_ms": 1000,
                     "topic_partitions": [], "subscribed_topic_names": [topic]}
            eventually(lambda joins=joins: wire.call("ConsumerGroupHeartbeat", 1, member_epoch=0, **joins).assignment.topic_partitions)
            wire.call("ConsumerGroupHeartbeat", 1, member_epoch=-1, group_id=joins["group_id"], member_id="m")
        return topic, id

    def note(self, line):
        self.lines.append(line)

    def close(self):
        for it in self._clients:
            it.wire.close()

    def _know(self, text, name):
        self._known[text] = name

    def told(self, value, key=""):
        """A value of an answer as the transcript has it."""
        match value:
            case dict():
                return {k: self.told(v, k) for k, v in value.items() if k != "throttle_time_ms"}
            case list():
                items = [self.told(it, key) for it in value]
                return sorted(items, key=json.dumps) if key in SETS else items
            case uuid.UUID():
                return self._known.get(str(value), str(value))
            case set():
                return sorted(value)
            case bytes():
                return self._text(value.decode("latin-1"), key)
            case str():
                return self._text(value, key)
            case int() if key == "port" and value == self.port:
                return "<port>"
        return value

    def _text(self, text, key):
        def member(found):
            met = sum(it.startswith("<id ") for it in self._known.values())
            return self._known.setdefault(found[0], f"<id {met}>")

        text = text.replace(self.prefix, "")
        text = REASON.sub(r"\1.", text)
        if key == "member_id" and SHORT_ID.fullmatch(text):
            return SHORT_ID.sub(member, text)
        for known, name in self._known.items():
            text = text.replace(known, name)
        return RANDOM_ID.sub(member, text)


# Lists whose order says nothing.
SETS = ("members", "results", "topics", "groups", "topic_partitions", "partitions", "subscribed_topic_names")


class Client:
    """One connection of a run, by whose name its answers are noted."""

    def __init__(self, run, name):
        self.run, self.name, self.open = run, name, []
        self.wire = Wire(run.port, client_id=name)

    def __call__(self, api, version, keep=None, **fields):
        self.send(api, version, **fields)
        return self.receive(keep)

    def send(self, api, version, **fields):
        request = message(f"{api}Request")
        self.wire.send(api, version, **{name: made(request, name, value) for name, value in fields.items()})
        self.open.append(f"{self.name}: {api} {version}")

    def receive(self, keep=None):
        """The next answer, which is noted; `keep` leaves out of it what is of other runs."""
        answer, what = self.wire.receive(), self.open.pop(0)
        said = answer.to_dict(json=False)
        if " ShareGroup" in what:
            said = blurred(said)
        if keep:
            said = keep(said)
        self.run.note(f"{what} {json.dumps(self.run.told(said))}")
        return answer


def blurred(value, key=""):
    """What is said of share groups, without epochs and assignments: Kafka initialises partitions aside, at its leisure, and
    assigns them when that is done."""
    match value:
        case dict():
            return {k: blurred(v, k) for k, v in value.items() if k != "assignment"}
        case list():
            return [blurred(it) for it in value]
        case int() if key.endswith("epoch") and value > 0:
            return "<epoch>"
        case str():
            return re.sub(r"epoch \(\d+\)|coordinator \(\d+\)", "epoch <epoch>", value)
    return value


def made(container, name, value):
    """A field's value with the messages' classes in place of dicts."""
    field = container._struct.fields[name]
    of = lambda it: field.data_class(**{k: made(field.data_class, k, v) for k, v in it.items()})  # noqa: E731
    if isinstance(value, dict):
        return of(value)
    if isinstance(value, list) and field.is_struct_array():
        return [of(it) for it in value]
    return value


def transcript(name, port):
    """What the broker at this port answers to a script."""
    run = Run(port, f"s{uuid.uuid4().hex[:12]}-")
    try:
        SCRIPTS[name](run)
    finally:
        run.close()
    return run.lines


def recorded(name):
    return json.loads((RECORDED / f"{name}.json").read_text())


def record(jars, names):
    from apache_kafka import ApacheKafka

    with tempfile.TemporaryDirectory() as directory:
        kafka = ApacheKafka(Path(directory) / "kafka", jars, **OF_APACHE).start()
        try:
            transcript("ready", kafka.port)
            for name in names or [it for it in SCRIPTS if it != "ready"]:
                lines = transcript(name, kafka.port)
                (RECORDED / f"{name}.json").write_text(json.dumps(lines, indent=0) + "\n")
        finally:
            kafka.close()


if __name__ == "__main__":
    import kafka_script  # this module, but as the scripts know it
    import kafka_scripts_classic  # noqa: F401
    import kafka_scripts_consumer  # noqa: F401
    import kafka_scripts_group_admin  # noqa: F401
    import kafka_scripts_offsets  # noqa: F401

    kafka_script.record(sys.argv[1], sys.argv[2:])
