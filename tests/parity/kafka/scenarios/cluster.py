"""Metadata and what administrators ask of brokers and partitions; keys and versions that are not served."""

import struct
import uuid

from play import scenario

NOBODY = uuid.UUID(int=7)


@scenario
def metadata_by_name(play):
    topic, a = play.topic(partitions=2), play.connect()
    for version in range(0, 14):
        more = {"allow_auto_topic_creation": False} if version >= 4 else {}
        if 8 <= version <= 10:
            more["include_cluster_authorized_operations"] = True
        if version >= 8:
            more["include_topic_authorized_operations"] = True
        a("Metadata", version, topics=[{"name": topic.name}], **more)
        a("Metadata", version, topics=[{"name": topic.name}, {"name": topic.name}], **more)
        if version >= 4:
            a("Metadata", version, topics=[{"name": play.q("none")}], **more)
            a("Metadata", version, topics=[{"name": play.q("none")}, {"name": topic.name}, {"name": play.q("none")}], **more)
        a("Metadata", version, topics=[{"name": ""}], **more)
        a("Metadata", version, topics=[{"name": "a b"}], **more)
        a("Metadata", version, topics=[{"name": "x" * 250}], **more)
        if version:
            a("Metadata", version, topics=[], **more)
    for version in (4, 12):
        a("Metadata", version, topics=[{"name": name} for name in (".", "..", "a/b", "ä")], allow_auto_topic_creation=True)


@scenario
def metadata_by_id(play):
    topic, a = play.topic(), play.connect()
    for version in (10, 11, 12, 13):
        for creation in (False, True):
            more = {"allow_auto_topic_creation": creation}
            a("Metadata", version, topics=[{"topic_id": topic.id, "name": None}], **more)
            a("Metadata", version, topics=[{"topic_id": NOBODY, "name": None}], **more)
            a("Metadata", version, topics=[{"topic_id": topic.id, "name": topic.name}], **more)
            a("Metadata", version, topics=[{"topic_id": NOBODY, "name": topic.name}], **more)
            a("Metadata", version, topics=[{"topic_id": topic.id, "name": None}, {"name": topic.name}], **more)
            a("Metadata", version, topics=[{"topic_id": topic.id, "name": None}, {"topic_id": NOBODY, "name": None}], **more)
            a("Metadata", version, topics=[{"name": None}], **more)


@scenario
def metadata_creates(play):
    a = play.connect()
    for version in (0, 3, 4, 9, 12):
        more = {"allow_auto_topic_creation": True} if version >= 4 else {}
        name = play.q(f"v{version}")

        def is_there(it):
            (found,) = it["topics"]
            return not found.get("error_code") and all(not part.get("error_code") for part in found["partitions"])

        def knows(it):
            if is_there(it) and "topic_id" in it["topics"][0]:
                play.knows(it["topics"][0]["topic_id"], "id")
            return is_there(it)

        a.until(knows, "Metadata", version, topics=[{"name": name}], **more)


@scenario
def clusters(play):
    a = play.connect()
    for version in (0, 1, 2):
        for operations in (False, True):
            a("DescribeCluster", version, include_cluster_authorized_operations=operations)
    for kind in (1, 2, 3, 0, -1):
        a("DescribeCluster", 1, endpoint_type=kind)
        a("DescribeCluster", 2, endpoint_type=kind, include_fenced_brokers=True)


@scenario
def pages(play):
    for name in ("a", "b", "c"):
        play.topic(name, partitions=3)
    a = play.connect()
    names = [play.q(it) for it in "cab"]

    def page(most, *topics, cursor=None):
        a("DescribeTopicPartitions", 0, topics=[{"name": it} for it in topics], response_partition_limit=most, cursor=cursor)

    for most in (1, 3, 4, 2000, 0, -1, 2**31 - 1):
        page(most, *names)
    page(10, names[0], names[0])
    page(10, play.q("none"))
    page(10, play.q("none"), *names)
    page(10, "")
    page(10, "a b")
    for name in (*names, play.q("0"), play.q("aa"), play.q("z"), ""):
        for partition in (0, 2, 3, 7, -1):
            page(4, *names, cursor={"topic_name": name, "partition_index": partition})


@scenario
def log_dirs(play):
    topic, a = play.topic(partitions=2), play.connect()
    play.produce(topic, b"v")
    for version in range(1, 6):
        for topics in (
            [{"topic": topic.name, "partitions": [0, 1]}], [{"topic": topic.name, "partitions": [1]}],
            [{"topic": topic.name, "partitions": []}], [{"topic": topic.name, "partitions": [7, -1]}],
            [{"topic": play.q("none"), "partitions": [0]}], [], [{"topic": "", "partitions": [0]}],
            [{"topic": topic.name, "partitions": [0, 0]}],
        ):
            a("DescribeLogDirs", version, topics=topics)


@scenario
def log_dirs_altered(play):
    topic, a = play.topic(partitions=2), play.connect()
    for version in (1, 2):
        for path in ("/no/such/dir", "", "relative"):
            a("AlterReplicaLogDirs", version, dirs=[{"path": path, "topics": [{"name": topic.name, "partitions": [0, 9]}]}])
        a("AlterReplicaLogDirs", version, dirs=[
            {"path": "/no/such/dir", "topics": [{"name": play.q("none"), "partitions": [0]}]}])
        a("AlterReplicaLogDirs", version, dirs=[])
        a("AlterReplicaLogDirs", version, dirs=[{"path": "/no/such/dir", "topics": []}])


@scenario
def elections(play):
    topic, a = play.topic(partitions=2), play.connect()
    for version in (0, 1, 2):
        for kind in (0, 1, 2, -1) if version else (None,):
            more = {} if kind is None else {"election_type": kind}
            for topics in (
                [{"topic": topic.name, "partitions": [0]}], [{"topic": topic.name, "partitions": [0, 1]}],
                [{"topic": topic.name, "partitions": [7]}], [{"topic": topic.name, "partitions": [-1]}],
                [{"topic": play.q("none"), "partitions": [0]}], [{"topic": topic.name, "partitions": []}], [],
                [{"topic": topic.name, "partitions": [0, 0]}], [{"topic": "", "partitions": [0]}],
            ):
                a("ElectLeaders", version, topic_partitions=topics, timeout_ms=10_000, **more)


@scenario
def reassignments(play):
    topic, a = play.topic(partitions=2), play.connect()

    def moved(version, name, partition, replicas, **fields):
        a("AlterPartitionReassignments", version, timeout_ms=10_000, **fields, topics=[
            {"name": name, "partitions": [{"partition_index": partition, "replicas": replicas}]}])

    for version in (0, 1):
        for replicas in ([1], [], [1, 1], [2], [1, 2], [-1], None):
            moved(version, topic.name, 0, replicas)
        for partition in (7, -1):
            moved(version, topic.name, partition, [1])
            moved(version, topic.name, partition, None)
        moved(version, play.q("none"), 0, [1])
        moved(version, play.q("none"), 0, None)
        moved(version, "", 0, [1])
        a("AlterPartitionReassignments", version, timeout_ms=10_000, topics=[])
        one = {"partition_index": 0, "replicas": [1]}
        a("AlterPartitionReassignments", version, timeout_ms=10_000, topics=[
            {"name": topic.name, "partitions": [one, one]}])
        a("AlterPartitionReassignments", version, timeout_ms=10_000, topics=[
            {"name": topic.name, "partitions": [one]}, {"name": topic.name, "partitions": [one]}])
    moved(1, topic.name, 0, [1, 2], allow_replication_factor_change=False)
    for topics in (None, [], [{"name": topic.name, "partition_indexes": [0, 7]}], [{"name": play.q("none"), "partition_indexes": [0]}]):
        a("ListPartitionReassignments", 0, timeout_ms=10_000, topics=topics)


@scenario
def quorums(play):
    a = play.connect()
    for version in (0, 1, 2):
        a("DescribeQuorum", version, topics=[{"topic_name": "other", "partitions": [{"partition_index": 0}]}])
        a("DescribeQuorum", version, topics=[{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 1}]}])
        a("DescribeQuorum", version, topics=[])


@scenario
def features(play):
    a = play.connect()
    a("UpdateFeatures", 2, timeout_ms=10_000, feature_updates=[], validate_only=True)
    for name, level, kind in (("metadata.version", 30, 1), ("metadata.version", 31, 1), ("no.such", 1, 1), ("metadata.version", 30, 7),
                              ("group.version", 0, 1), ("group.version", 1, 1), ("transaction.version", 3, 1)):
        a("UpdateFeatures", 2, timeout_ms=10_000, validate_only=True, feature_updates=[
            {"feature": name, "max_version_level": level, "upgrade_type": kind}])
        a("UpdateFeatures", 1, timeout_ms=10_000, validate_only=True, feature_updates=[
            {"feature": name, "max_version_level": level, "upgrade_type": kind}])


@scenario
def apis(play):
    """What is advertised is compared elsewhere, as this program serves other keys."""
    a = play.connect()
    for version in range(0, 5):
        found = a.quiet("ApiVersions", version, **({"client_software_name": "a", "client_software_version": "1"} if version >= 3 else {}))
        play.note([found.get("error_code", 0), sorted(set(found) - {"finalized_features_epoch"}), found["api_keys"][:30]])
    for name, software in (("", ""), ("a b", "1"), ("-", "1"), ("a", "v 1"), ("a-", "1"), ("a", ".1")):
        a("ApiVersions", 3, client_software_name=name, client_software_version=software)
    a("Metadata", 9, topics=[], allow_auto_topic_creation=False)


@scenario
def keys_that_are_not_served(play):
    for key in (4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 71, 72, 73, 82, 83, 84, 88, 89, 93, 94, 1000, -1):
        play.connect().unread(key, 0, struct.pack(">i", 0))


@scenario
def versions_that_are_not_served(play):
    for key, version in ((0, 14), (2, 0), (2, 12), (3, 14), (3, -1), (8, 1), (9, 0), (9, 11), (19, 1), (21, 3), (22, 6), (22, 7), (23, 1),
                         (24, 6), (26, 6), (28, 6), (60, 3), (66, 3), (76, 0), (76, 2), (78, 0), (78, 3), (79, 3), (90, 2), (91, 1)):
        play.connect().unread(key, version, b"\0" * 8)
