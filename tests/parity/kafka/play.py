"""Scenarios and their transcripts.

A scenario is a function over a `Play`. Each request and what it is answered become two lines of the transcript:
`A > Fetch 16 {…}` and `A < {…}` on connection A, without what has its default in Kafka's schema. `$` is the name of
the scenario; what differs from run to run (ids, times, sizes, ports) is replaced by what it stands for.
"""

import string
import struct
import time
import uuid

from kafka_schema import request, response
from kafka_wire import Wire, batch

SCENARIOS = {}
# What is waited for comes within this, also where a dozen other things are at work.
WITHIN = 60
PAUSE = 0.02
# A coordinator that is not ready yet, or that has still to write what it decided.
PASSING = {14, 15, 16}
CONCURRENT_TRANSACTIONS = 51
TRANSACTIONAL, CONTROL = 0x10, 0x20
DAY = 86_400_000
GENERATED = {"session_id": "session", "cluster_id": "cluster"}
# Answers in which the order of topics and partitions is that of Kafka's hash tables.
UNORDERED = {
    "ListOffsets", "DeleteRecords", "ListTransactions", "OffsetForLeaderEpoch", "DescribeLogDirs", "ShareGroupDescribe",
    "DescribeShareGroupOffsets", "DeleteShareGroupOffsets",
}
# What a producer is told beside codes and offsets is compared elsewhere; the size of the volume is not told at all.
WITHOUT = {
    "Produce": {"error_message", "log_append_time_ms", "log_start_offset"},
    "DescribeLogDirs": {"total_bytes", "usable_bytes"},
}
SIZES = {"partition_size"}


def scenario(function):
    """Registers a scenario under its module's and its own name."""
    module = function.__module__.rpartition(".")[2]
    SCENARIOS[f"{module}.{function.__name__}"] = function
    return function


class Topic:
    """A topic that is there."""

    def __init__(self, name, id):
        self.name, self.id = name, id


class Producer:
    """A producer as the broker knows it."""

    def __init__(self, id, epoch, transactional_id=None):
        self.id, self.epoch, self.transactional_id = id, epoch, transactional_id

    @property
    def fields(self):
        """How requests of transactions name it."""
        return {"transactional_id": self.transactional_id, "producer_id": self.id, "producer_epoch": self.epoch}


class Play:
    """One run of one scenario against one broker."""

    def __init__(self, broker, name):
        self.name, self.port = name, broker.port if isinstance(broker.port, int) else broker.port("kafka")
        self.prefix = name.replace("_", "-")
        self.lines, self.known, self.connections, self.stood_in = [], {}, [], {}
        self.stage = None

    def run(self):
        try:
            self.stage = Connection(self, "-")
            # The first id that a broker gives out is 0, which a response that leaves out defaults does not show.
            self.stage.quiet("InitProducerId", 4, transactional_id=None)
            SCENARIOS[self.name](self)
        except Exception as error:  # noqa: BLE001: whatever it is, it is part of what happened
            self.line(f"!! {type(error).__name__}: {error}")
        for it in [self.stage, *self.connections]:
            if it:
                it.wire.close()
        return self.lines

    def line(self, text):
        self.lines.append(text.replace(self.prefix, "$").replace("\n", "\\n"))

    def note(self, text):
        self.line(f"-- {text}")

    def q(self, suffix=""):
        """A name that no other scenario uses."""
        return f"{self.prefix}{suffix and '-'}{suffix}"

    def connect(self):
        """Another connection."""
        self.connections.append(Connection(self, string.ascii_uppercase[len(self.connections)]))
        return self.connections[-1]

    def knows(self, value, what):
        """Shows a generated value as what it stands for."""
        self.known[value] = what
        return value

    def knows_member(self, id, what):
        """Shows a member's id as what it stands for."""
        self.known[id] = what

    def wait(self, wanted, otherwise="it does not become so"):
        """Until something is so; returns it."""
        deadline = time.monotonic() + WITHIN
        while not (found := wanted()):
            assert time.monotonic() < deadline, otherwise
            time.sleep(PAUSE)
        return found

    def topic(self, suffix="", partitions=1, **configs):
        """Makes a topic, quietly, and waits until it has leaders."""
        name = self.q(suffix)
        given = [{"name": key.replace("_", "."), "value": str(value)} for key, value in configs.items()]
        made = {"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": given}
        self.stage.quiet("CreateTopics", 7, topics=[made], timeout_ms=30_000)
        found = self.wait(lambda: self._with_leaders(name, partitions), f"{name} has no leaders")
        return Topic(name, self.knows(found["topic_id"], f"id({name})"))

    def _with_leaders(self, name, partitions):
        """What Metadata says of a topic, once all of its partitions have leaders."""
        asked = {"topics": [{"name": name}], "allow_auto_topic_creation": False}
        (found,) = self.stage.quiet("Metadata", 12, **asked)["topics"]
        there = [it for it in found.get("partitions", []) if not it.get("error_code")]
        return found if len(there) == partitions and self._is_served(name, partitions) else None

    def _is_served(self, name, partitions):
        """Metadata may be ahead of the partitions themselves."""
        wanted = [{"partition_index": it, "timestamp": -1} for it in range(partitions)]
        found = self.stage.quiet("ListOffsets", 7, replica_id=-1, topics=[{"name": name, "partitions": wanted}])
        return not any(it.get("error_code") for it in found["topics"][0]["partitions"])

    def produce(self, topic, *values, partition=0, timestamp=None, producer=None, sequence=0):
        """Writes one batch, quietly."""
        records, transactional_id = batch(*values, timestamp=timestamp), None
        if producer:
            attributes = TRANSACTIONAL if producer.transactional_id else 0
            transactional_id = producer.transactional_id
            records = batch(
                *values, timestamp=timestamp, producer_id=producer.id, epoch=producer.epoch, sequence=sequence,
                attributes=attributes,
            )
        found = self.stage.quiet("Produce", 11, transactional_id=transactional_id, acks=-1, timeout_ms=30_000, topic_data=[
            {"name": topic.name, "partition_data": [{"index": partition, "records": records}]}])
        (answer,) = found["responses"][0]["partition_responses"]
        assert not answer.get("error_code"), answer
        return answer.get("base_offset", 0)

    def producer(self, suffix=None, timeout=60_000):
        """A producer id and epoch; with a suffix, of a transactional id."""
        transactional_id = None if suffix is None else self.q(suffix)
        if transactional_id:
            self.coordinator(transactional_id, 1)
        found = self.stage.quiet(
            "InitProducerId", 4, transactional_id=transactional_id, transaction_timeout_ms=timeout)
        assert not found.get("error_code"), found
        id = self.knows_producer(found.get("producer_id", 0))
        return Producer(id, found.get("producer_epoch", 0), transactional_id)

    def coordinator(self, key, kind):
        """Waits until there is one."""
        self.stage.quiet("FindCoordinator", 4, key_type=kind, coordinator_keys=[key])

    def knows_producer(self, id):
        self.stood_in.setdefault(("producer", id), f"producer({sum(kind == 'producer' for kind, _ in self.stood_in) + 1})")
        return id

    def add(self, producer, topic, *partitions):
        """Adds partitions to a transaction of the first kind, quietly."""
        asked = {**_v3(producer), "v3_and_below_topics": [{"name": topic.name, "partitions": list(partitions)}]}
        found = self.stage.quiet("AddPartitionsToTxn", 3, **asked)
        codes = [it.get("partition_error_code") for topic in found["results_by_topic_v3_and_below"]
                 for it in topic["results_by_partition"]]
        assert not any(codes), found

    def end(self, producer, committed):
        """Ends a transaction of the first kind, quietly, and waits until it has ended in its partitions."""
        found = self.stage.quiet("EndTxn", 3, **producer.fields, committed=committed)
        assert not found.get("error_code"), found

        def has_ended():
            found = self.stage.quiet("DescribeTransactions", 0, transactional_ids=[producer.transactional_id])
            return found["transaction_states"][0]["transaction_state"].startswith("Complete")

        self.wait(has_ended, "the transaction does not end")

    def shown(self, value, name=""):
        """A value for the transcript."""
        if isinstance(value, dict):
            return "{" + " ".join(f"{key}={self.shown(it, key)}" for key, it in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(self.shown(it, name) for it in value) + "]"
        if isinstance(value, bytes):
            return self.shown_batches(value) if name == "records" else value.hex()
        if isinstance(value, uuid.UUID):
            return self.known.get(value, str(value))
        if "producer_id" in name and ("producer", value) in self.stood_in:
            return self.stood_in["producer", value]
        if name in GENERATED and value not in (0, None, "", -1, 99):
            known = self.stood_in.setdefault((name, value), f"{GENERATED[name]}({sum(n == name for n, _ in self.stood_in) + 1})")
            return known
        if name in SIZES and value > 0:
            return "bytes"
        if name in ("port", "log_dir") and value not in (0, ""):
            return name
        if "time" in name and isinstance(value, int) and abs(value - time.time() * 1000) < DAY:
            return "now"
        if isinstance(value, str):
            return self.known.get(value) or repr(value)
        return str(value)

    def shown_batches(self, data):
        """Batches by their offsets. What is cut off at the end of a fetch is left out, as by every client."""
        shown = []
        while len(data) >= 61:
            base, size = struct.unpack(">qi", data[:12])
            attributes, last, _, _, id, epoch, sequence, count = struct.unpack(">hiqqqhii", data[21:61])
            text = f"{base}..{base + last}"
            if id >= 0:
                text += f" {self.stood_in.get(('producer', id), id)}/{epoch} from {sequence}"
            if attributes & TRANSACTIONAL:
                text += " transactional"
            if attributes & CONTROL:
                text += " control"
            elif count != last + 1:
                text += f" of {count}"
            if len(data) >= 12 + size:
                shown.append(text)
            data = data[12 + size :]
        return "<" + "; ".join(shown) + ">"


def _v3(producer):
    return {f"v3_and_below_{key}": value for key, value in producer.fields.items()}


class Connection:
    """Calling it sends a request, waits for the answer, and tells of both."""

    def __init__(self, play, label):
        self.play, self.label = play, label
        self.wire, self.correlation = Wire(play.port, client_id=play.prefix), 0

    def __call__(self, name, version, **fields):
        return self._told(name, version, fields, self._settled(name, version, fields))

    def until(self, wanted, name, version, **fields):
        """Asks until the answer is what is wanted, and tells of the last time."""
        deadline = time.monotonic() + WITHIN
        while True:
            found = self._settled(name, version, fields)
            if found is None or wanted(found) or time.monotonic() > deadline:
                return self._told(name, version, fields, found)
            time.sleep(PAUSE)

    def quiet(self, name, version, **fields):
        """The same without a word."""
        return self._settled(name, version, fields)

    def unread(self, key, version, body=b""):
        """A request of bytes, and whether the broker ends the connection."""
        head = struct.pack(">hhih", key, version, self.correlation, -1)
        self.wire.send_bytes(struct.pack(">i", len(head) + len(body)) + head + body)
        try:
            frame = self.wire.receive_frame()
            self.play.line(f"{self.label} > {key} {version} {body.hex()}: {frame[4:].hex()}")
        except OSError:
            self.play.line(f"{self.label} > {key} {version} {body.hex()}: (ended by the broker)")

    def _told(self, name, version, fields, found):
        self.play.line(f"{self.label} > {name} {version} {self.play.shown(fields)}")
        if found is None:
            self.play.line(f"{self.label} (ended by the broker)")
        else:
            if found.get("producer_id", -1) >= 0:
                self.play.knows_producer(found["producer_id"])
            shown = without(found, WITHOUT.get(name, ()))
            self.play.line(f"{self.label} < {self.play.shown(ordered(shown) if name in UNORDERED else shown)}")
        return found

    def _settled(self, name, version, fields):
        """The answer, once a coordinator that is not ready has become so."""
        deadline = time.monotonic() + WITHIN
        while True:
            found = self._asked(name, version, fields)
            if found is None or not is_passing(found) or time.monotonic() > deadline:
                return found
            time.sleep(PAUSE)

    def _asked(self, name, version, fields):
        try:
            self.wire.send_bytes(request(name, version, self.correlation, self.play.prefix, **fields))
            frame = self.wire.receive_frame()
        except OSError:
            return None
        assert struct.unpack(">i", frame[:4]) == (self.correlation,)
        self.correlation += 1
        return response(name, version, frame)


def without(found, names):
    """An answer without some of its fields."""
    if isinstance(found, dict):
        return {key: without(it, names) for key, it in found.items() if key not in names}
    return [without(it, names) for it in found] if isinstance(found, list) else found


def ordered(found):
    """The lists of an answer in an order of their own."""
    if isinstance(found, dict):
        return {key: ordered(it) for key, it in found.items()}
    return sorted(map(ordered, found), key=repr) if isinstance(found, list) else found


def is_passing(found):
    """Whether any code in an answer says that it is to be asked again."""
    if isinstance(found, dict):
        return any(
            it in PASSING or it == CONCURRENT_TRANSACTIONS if name.endswith("error_code") else is_passing(it)
            for name, it in found.items()
        )
    return isinstance(found, list) and any(map(is_passing, found))

