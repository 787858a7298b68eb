"""Producers' ids, transactions of both kinds, and who may look at them."""

from kafka_wire import batch
from play import TRANSACTIONAL, Producer, scenario

# An id that no producer has.
NOBODY = 10**12


def begun(at, version, id, timeout=60_000, **fields):
    return at("InitProducerId", version, transactional_id=id, transaction_timeout_ms=timeout, **fields)


def who(play, found, id):
    return Producer(found.get("producer_id", 0), found.get("producer_epoch", 0), id)


def added(at, version, producer, topic, *partitions, **fields):
    topics = [{"name": topic, "partitions": list(partitions)}]
    if version < 4:
        fields = {**{f"v3_and_below_{key}": it for key, it in producer.fields.items()}, "v3_and_below_topics": topics, **fields}
    else:
        fields = {"transactions": [{**producer.fields, "topics": topics, **fields}]}
    return at("AddPartitionsToTxn", version, **fields)


def written(at, version, producer, topic, sequence=0, value=b"v", transactional_id=0, attributes=TRANSACTIONAL, partition=0):
    records = batch(value, producer_id=producer.id, epoch=producer.epoch, sequence=sequence, attributes=attributes)
    known = {"topic_id": topic.id} if version >= 13 else {"name": topic.name}
    return at("Produce", version, acks=-1, timeout_ms=30_000,
              transactional_id=producer.transactional_id if transactional_id == 0 else transactional_id,
              topic_data=[{**known, "partition_data": [{"index": partition, "records": records}]}])


def ended(at, version, producer, committed, **fields):
    return at("EndTxn", version, **{**producer.fields, "committed": committed, **fields})


def noted(at, version, producer, group, topic, partition=0, offset=1, **fields):
    return at("TxnOffsetCommit", version, **{**producer.fields, "group_id": group, **fields}, topics=[
        {"name": topic, "partitions": [{"partition_index": partition, "committed_offset": offset}]}])


@scenario
def ids(play):
    a = play.connect()
    for version in range(0, 6):
        begun(a, version, None)
        begun(a, version, None, timeout=0)
        begun(a, version, None, timeout=-1)
        begun(a, version, "")
    for version in (3, 4, 5):
        for id, epoch in ((NOBODY, -1), (-1, 5), (NOBODY, 5), (-2, -1), (-1, -2), (-2, -2), (2**62, 0)):
            begun(a, version, None, producer_id=id, producer_epoch=epoch)


@scenario
def transactional_ids(play):
    a, id = play.connect(), play.q("tx")
    play.coordinator(id, 1)
    for version in range(0, 6):
        begun(a, version, id)
    for timeout in (0, -1, -(2**31), 900_001, 2**31 - 1, 900_000, 1):
        begun(a, 4, id, timeout=timeout)
    for version in (3, 4, 5):
        found = begun(a, version, id)
        pid, epoch = found["producer_id"], found["producer_epoch"]
        begun(a, version, id, producer_id=pid, producer_epoch=epoch)
        begun(a, version, id, producer_id=pid, producer_epoch=epoch)
        begun(a, version, id, producer_id=pid, producer_epoch=epoch + 5)
        begun(a, version, id, producer_id=pid, producer_epoch=0)
        begun(a, version, id, producer_id=NOBODY, producer_epoch=epoch)
        begun(a, version, id, producer_id=pid, producer_epoch=-1)
        begun(a, version, id, producer_id=-1, producer_epoch=epoch)
    begun(a, 4, play.q("unknown"), producer_id=NOBODY, producer_epoch=3)
    begun(a, 4, play.q("x") + "x" * 250)


@scenario
def partitions_added(play):
    topic, a = play.topic(partitions=2), play.connect()
    producer = play.producer("tx")
    for version in (0, 1, 2, 3, 4, 5):
        added(a, version, producer, topic.name, 0, 1)
        added(a, version, producer, topic.name, 0, 5)
        added(a, version, producer, topic.name, -1)
        added(a, version, producer, play.q("none"), 0)
        added(a, version, producer, topic.name)
        added(a, version, Producer(producer.id, producer.epoch + 1, producer.transactional_id), topic.name, 0)
        added(a, version, Producer(producer.id, -1, producer.transactional_id), topic.name, 0)
        added(a, version, Producer(NOBODY, producer.epoch, producer.transactional_id), topic.name, 0)
        added(a, version, Producer(producer.id, producer.epoch, play.q("unknown")), topic.name, 0)
        added(a, version, Producer(producer.id, producer.epoch, ""), topic.name, 0)
        added(a, version, Producer(-1, -1, producer.transactional_id), topic.name, 0)


@scenario
def partitions_verified(play):
    """Not with a list of nothing: Kafka never answers that."""
    topic, a = play.topic(partitions=2), play.connect()
    producer = play.producer("tx")
    for version in (4, 5):
        added(a, version, producer, topic.name, 0, 1, verify_only=True)
        added(a, version, producer, topic.name, 0, verify_only=False)
        added(a, version, producer, topic.name, 0, 1, verify_only=True)
        added(a, version, producer, topic.name, 7, verify_only=True)
        added(a, version, Producer(producer.id, producer.epoch, play.q("unknown")), topic.name, 0, verify_only=True)
        play.end(producer, True)
        added(a, version, producer, topic.name, 0, verify_only=True)
    other = play.producer("other")
    topics = [{"name": topic.name, "partitions": [0, 1]}]
    a("AddPartitionsToTxn", 5, transactions=[{**producer.fields, "topics": topics}, {**other.fields, "topics": topics}])
    a("AddPartitionsToTxn", 5, transactions=[{**producer.fields, "topics": topics, "verify_only": True},
                                              {**other.fields, "topics": [{"name": topic.name, "partitions": [9]}]}])


@scenario
def offsets_added(play):
    a, group = play.connect(), play.q("group")
    producer = play.producer("tx")
    play.coordinator(group, 0)
    for version in range(0, 5):
        for id, epoch, name in (
            (producer.id, producer.epoch, group), (producer.id, producer.epoch, ""), (producer.id, producer.epoch + 1, group),
            (NOBODY, producer.epoch, group), (-1, -1, group),
        ):
            a("AddOffsetsToTxn", version, transactional_id=producer.transactional_id, producer_id=id, producer_epoch=epoch,
              group_id=name)
        for name in (play.q("unknown"), ""):
            a("AddOffsetsToTxn", version, transactional_id=name, producer_id=producer.id, producer_epoch=0, group_id=group)


@scenario
def offsets_committed(play):
    topic, a, group = play.topic(), play.connect(), play.q("group")
    producer = play.producer("tx")
    play.coordinator(group, 0)
    for version in range(0, 6):
        noted(a, version, producer, group, topic.name)
        a("AddOffsetsToTxn", 3, **producer.fields, group_id=group)
        noted(a, version, producer, group, topic.name)
        noted(a, version, producer, group, topic.name, partition=7)
        noted(a, version, producer, group, topic.name, partition=-1)
        noted(a, version, producer, group, topic.name, offset=-1)
        noted(a, version, producer, group, topic.name, offset=-7)
        noted(a, version, producer, group, play.q("none"))
        noted(a, version, producer, "", topic.name)
        noted(a, version, Producer(producer.id, producer.epoch + 1, producer.transactional_id), group, topic.name)
        noted(a, version, Producer(NOBODY, 0, producer.transactional_id), group, topic.name)
        if version >= 3:
            for member, generation in (("", 0), ("m", -1), ("m", 5), ("", -2)):
                noted(a, version, producer, group, topic.name, member_id=member, generation_id=generation)
            noted(a, version, producer, group, topic.name, group_instance_id="i", member_id="m", generation_id=1)
        noted(a, version, Producer(producer.id, producer.epoch, play.q("unknown")), group, topic.name)
    wanted = [{"name": topic.name, "partition_indexes": [0]}]
    for version in (7, 8, 9):
        asked = {"group_id": group, "topics": wanted} if version < 8 else {"groups": [{"group_id": group, "topics": wanted}]}
        a("OffsetFetch", version, **asked, require_stable=True)
        a("OffsetFetch", version, **asked, require_stable=False)
    play.end(producer, True)
    a("OffsetFetch", 8, groups=[{"group_id": group, "topics": wanted}], require_stable=True)


@scenario
def ends(play):
    topic, a = play.topic(), play.connect()
    for version in range(0, 5):
        producer = play.producer("tx")
        ended(a, version, producer, True)
        ended(a, version, producer, False)
        added(a, 3, producer, topic.name, 0)
        ended(a, version, producer, True, producer_epoch=producer.epoch + 1)
        ended(a, version, producer, True, producer_epoch=-1)
        ended(a, version, producer, True, producer_id=NOBODY)
        ended(a, version, producer, True, transactional_id=play.q("unknown"))
        ended(a, version, producer, True, transactional_id="")
        ended(a, version, producer, True)
        ended(a, version, producer, True)
        ended(a, version, producer, False)
        added(a, 3, producer, topic.name, 0)
        ended(a, version, producer, False)
        ended(a, version, producer, False)
        ended(a, version, producer, True)


@scenario
def ends_of_the_second_kind(play):
    topic, a = play.topic(), play.connect()
    producer = play.producer("tx")
    ended(a, 5, producer, True)
    found = ended(a, 5, producer, False)
    ended(a, 5, producer, False)
    ended(a, 5, producer, True)
    producer = who(play, found, producer.transactional_id)
    written(a, 12, producer, topic)
    ended(a, 5, producer, True, producer_epoch=producer.epoch + 1)
    ended(a, 5, producer, True, producer_epoch=producer.epoch - 1)
    found = ended(a, 5, producer, True)
    ended(a, 5, producer, True)
    ended(a, 5, producer, False)
    written(a, 12, producer, topic, sequence=1)
    producer = who(play, found, producer.transactional_id)
    written(a, 12, producer, topic, sequence=5)
    written(a, 12, producer, topic)
    written(a, 13, producer, topic, sequence=1)
    found = ended(a, 5, producer, False)
    ended(a, 5, producer, False)
    ended(a, 5, producer, True)
    producer = who(play, found, producer.transactional_id)
    ended(a, 5, producer, True)
    ended(a, 4, producer, True)


@scenario
def writes(play):
    """Apache Kafka asks its coordinator for several requests at once, and mixes up the codes of versions 10 and 11
    once in a while (48 and 120) when other scenarios run beside this one."""
    topic, a = play.topic(partitions=2), play.connect()
    producer = play.producer("tx")
    for version in (3, 8, 10, 11):
        written(a, version, producer, topic)
    added(a, 3, producer, topic.name, 0)
    written(a, 11, producer, topic, transactional_id=None)
    written(a, 11, producer, topic, transactional_id="")
    written(a, 11, producer, topic, transactional_id=play.q("another"))
    written(a, 11, producer, topic, attributes=0)
    written(a, 11, producer, topic)
    written(a, 11, producer, topic, partition=1)
    written(a, 11, Producer(producer.id, producer.epoch + 1, producer.transactional_id), topic, sequence=0)
    written(a, 11, Producer(producer.id, producer.epoch - 1, producer.transactional_id), topic, sequence=1)
    play.end(producer, True)
    written(a, 11, producer, topic, sequence=1)
    for version in (12, 13):
        second = play.producer("second")
        written(a, version, second, topic, attributes=0)
        written(a, version, second, topic)
        written(a, version, second, topic, sequence=1, transactional_id=None)
        written(a, version, Producer(second.id, second.epoch + 1, second.transactional_id), topic)
        written(a, version, Producer(second.id, second.epoch, play.q("unknown")), topic, sequence=1)
        ended(a, 5, second, True)
        written(a, version, second, topic, sequence=2)


@scenario
def a_new_producer_with_an_open_transaction(play):
    topic, a, b = play.topic(), play.connect(), play.connect()
    producer = play.producer("tx")
    play.add(producer, topic, 0)
    play.produce(topic, b"v", producer=producer)
    found = begun(b, 4, producer.transactional_id)
    written(a, 11, producer, topic, sequence=1)
    added(a, 3, producer, topic.name, 0)
    ended(a, 3, producer, True)
    a("AddOffsetsToTxn", 3, **producer.fields, group_id=play.q("group"))
    begun(a, 4, producer.transactional_id, producer_id=producer.id, producer_epoch=producer.epoch)
    newer = who(play, found, producer.transactional_id)
    ended(b, 3, newer, True)
    b("DescribeTransactions", 0, transactional_ids=[producer.transactional_id])


@scenario
def descriptions(play):
    topic, a = play.topic(partitions=2), play.connect()
    id = play.q("tx")
    a("DescribeTransactions", 0, transactional_ids=[id, "", play.q("unknown")])
    a("DescribeTransactions", 0, transactional_ids=[])
    producer = play.producer("tx")
    a("DescribeTransactions", 0, transactional_ids=[id, id])
    play.add(producer, topic, 1, 0)
    a("DescribeTransactions", 0, transactional_ids=[id])
    play.end(producer, True)
    a("DescribeTransactions", 0, transactional_ids=[id])
    play.add(producer, topic, 1)
    play.end(producer, False)
    a("DescribeTransactions", 0, transactional_ids=[id])
    play.stage.quiet("AddOffsetsToTxn", 3, **producer.fields, group_id=play.q("group"))
    found = a("DescribeTransactions", 0, transactional_ids=[id])
    play.note(len(found["transaction_states"][0].get("topics", [])))


@scenario
def lists(play):
    """Only of this scenario's transactions: a filter of producers stands in each request, or a pattern."""
    topic, a = play.topic(), play.connect()
    first, second, third = play.producer("tx1"), play.producer("tx2"), play.producer("tx3")
    play.add(first, topic, 0)
    play.add(second, topic, 0)
    play.end(second, True)
    ids = [first.id, second.id, third.id]
    for version in (0, 1, 2):
        for states in ([], ["Ongoing"], ["Empty", "CompleteCommit"], ["ongoing"], ["Nothing"], ["Ongoing", "Nothing"], [""],
                       ["Dead", "PrepareCommit", "PrepareAbort", "CompleteAbort", "PrepareEpochFence"]):
            a("ListTransactions", version, state_filters=states, producer_id_filters=ids)
        a("ListTransactions", version, state_filters=[], producer_id_filters=[first.id, NOBODY])
        a("ListTransactions", version, state_filters=[], producer_id_filters=[-1])
    for version in (1, 2):
        for least in (-1, 0, 10**9, -7):
            a("ListTransactions", version, state_filters=[], producer_id_filters=ids, duration_filter=least)
    own = play.q()
    for pattern in (f"{own}.*", f"{own}-tx1", f"{own}-tx", f".*{own}-tx[12]", "", None, f"{own}-tx1|nothing", f"^{own}-tx3$"):
        a("ListTransactions", 2, state_filters=[], producer_id_filters=ids, transactional_id_pattern=pattern)
    for pattern in ("(", "[", "*", "(?=x)", f"(?i){own.upper()}-TX1"):
        a("ListTransactions", 2, state_filters=[], producer_id_filters=ids, transactional_id_pattern=pattern)


@scenario
def producers(play):
    topic, a = play.topic(partitions=2), play.connect()
    asked = {"topics": [{"name": topic.name, "partition_indexes": [0, 1, 5, -1]}]}
    a("DescribeProducers", 0, **asked)
    idempotent = play.producer()
    play.produce(topic, b"v", b"w", producer=idempotent, sequence=3)
    a("DescribeProducers", 0, **asked)
    producer = play.producer("tx")
    play.add(producer, topic, 1)
    a("DescribeProducers", 0, **asked)
    play.produce(topic, b"v", partition=1, producer=producer)
    a("DescribeProducers", 0, **asked)
    play.produce(topic, b"v", b"w", partition=1, producer=producer, sequence=1)
    a("DescribeProducers", 0, **asked)
    play.end(producer, True)
    a.until(lambda it: it["topics"][0]["partitions"][1]["active_producers"][0].get("current_txn_start_offset", -1) < 0,
            "DescribeProducers", 0, **asked)
    play.add(producer, topic, 1)
    play.produce(topic, b"v", partition=1, producer=producer, sequence=3)
    a("DescribeProducers", 0, **asked)
    play.end(producer, False)
    a("DescribeProducers", 0, topics=[{"name": play.q("none"), "partition_indexes": [0]}])
    a("DescribeProducers", 0, topics=[{"name": "", "partition_indexes": [0]}, {"name": "a b", "partition_indexes": [0]}])
    a("DescribeProducers", 0, topics=[])
    a("DescribeProducers", 0, topics=[{"name": topic.name, "partition_indexes": []}])
    a("DescribeProducers", 0, topics=[{"name": topic.name, "partition_indexes": [0, 0]}])


@scenario
def markers(play):
    topic, a = play.topic(partitions=2), play.connect()
    producer = play.producer("tx")
    play.add(producer, topic, 0)
    play.produce(topic, b"v", producer=producer)

    def marked(version, result, epoch, *partitions, name=topic.name, id=producer.id, coordinator=0):
        return a("WriteTxnMarkers", version, markers=[{
            "producer_id": id, "producer_epoch": epoch, "transaction_result": result, "coordinator_epoch": coordinator,
            "topics": [{"name": name, "partition_indexes": list(partitions)}]}])

    for version in (1, 2):
        marked(version, True, producer.epoch, 5)
        marked(version, True, producer.epoch, 0, name=play.q("none"))
    a("WriteTxnMarkers", 1, markers=[])
    marked(1, False, producer.epoch, 0)
    a("DescribeProducers", 0, topics=[{"name": topic.name, "partition_indexes": [0]}])
    a("ListOffsets", 7, replica_id=-1, isolation_level=1, topics=[
        {"name": topic.name, "partitions": [{"partition_index": 0, "timestamp": -1}]}])
    marked(1, True, 5, 1, id=NOBODY)
    marked(1, True, 4, 1, id=NOBODY)
    a("DescribeProducers", 0, topics=[{"name": topic.name, "partition_indexes": [1]}])


@scenario
def coordinators(play):
    a = play.connect()
    for version in (0, 1, 2, 3):
        for kind in (0, 1, 2, 3, -1):
            if version or not kind:
                a("FindCoordinator", version, key=play.q("k"), **({"key_type": kind} if version else {}))
        a("FindCoordinator", version, key="", **({"key_type": 1} if version else {}))
    for version in (4, 5, 6):
        for kind in (0, 1, 2, 3, -1):
            a("FindCoordinator", version, key_type=kind, coordinator_keys=[play.q("k"), play.q("k")])
        a("FindCoordinator", version, key_type=1, coordinator_keys=["", play.q("k")])
        a("FindCoordinator", version, key_type=1, coordinator_keys=[])
    for key in ("", "g", "g:t:0", "g:AAAAAAAAAAAAAAAAAAAAAA:x", "g:AAAAAAAAAAAAAAAAAAAAAQ:0", ":AAAAAAAAAAAAAAAAAAAAAQ:0",
                "g:AAAAAAAAAAAAAAAAAAAAAQ:-1"):
        a("FindCoordinator", 6, key_type=2, coordinator_keys=[key])
