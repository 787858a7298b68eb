"""Messages of Kafka that kafka-python does not know: members of the consumer and share protocols, and their groups.

Importing this makes them known to `kafka_wire`. A field is its name, its type with `?` where it may be null and with the
first version that has it, and its own fields if it has any.
"""

from unittest import mock

import kafka_wire
from kafka.protocol import api_data
from kafka.protocol.api_message import ApiMessage

PARTITIONS = [("TopicId", "uuid"), ("Partitions", "[]int32")]
NAMED = [("TopicId", "uuid"), ("TopicName", "string"), ("Partitions", "[]int32")]
NAMED_ASSIGNMENT = [("TopicPartitions", "[]TopicPartitions", NAMED)]
ERROR = [("ErrorCode", "int16"), ("ErrorMessage", "string?")]
DESCRIBE = [("GroupIds", "[]string"), ("IncludeAuthorizedOperations", "bool")]
BEATEN = [
    ("ThrottleTimeMs", "int32"), *ERROR, ("MemberId", "string?"), ("MemberEpoch", "int32"), ("HeartbeatIntervalMs", "int32"),
    ("Assignment", "Assignment?", [("TopicPartitions", "[]TopicPartitions", PARTITIONS)]),
]


def described(member):
    return [("ThrottleTimeMs", "int32"), ("Groups", "[]DescribedGroup", [
        *ERROR, ("GroupId", "string"), ("GroupState", "string"), ("GroupEpoch", "int32"), ("AssignmentEpoch", "int32"),
        ("AssignorName", "string"), ("Members", "[]Member", member), ("AuthorizedOperations", "int32"),
    ])]


MESSAGES = {
    "ConsumerGroupHeartbeat": (68, 1, [
        ("GroupId", "string"), ("MemberId", "string"), ("MemberEpoch", "int32"), ("InstanceId", "string?"),
        ("RackId", "string?"), ("RebalanceTimeoutMs", "int32"), ("SubscribedTopicNames", "[]string?"),
        ("SubscribedTopicRegex", "string?1"), ("ServerAssignor", "string?"),
        ("TopicPartitions", "[]TopicPartitions?", PARTITIONS),
    ], BEATEN),
    "ConsumerGroupDescribe": (69, 1, DESCRIBE, described([
        ("MemberId", "string"), ("InstanceId", "string?"), ("RackId", "string?"), ("MemberEpoch", "int32"),
        ("ClientId", "string"), ("ClientHost", "string"), ("SubscribedTopicNames", "[]string"),
        ("SubscribedTopicRegex", "string?"), ("Assignment", "Assignment", NAMED_ASSIGNMENT),
        ("TargetAssignment", "Assignment", NAMED_ASSIGNMENT), ("MemberType", "int8 1"),
    ])),
    "ShareGroupHeartbeat": (76, 1, [
        ("GroupId", "string"), ("MemberId", "string"), ("MemberEpoch", "int32"), ("RackId", "string?"),
        ("SubscribedTopicNames", "[]string?"),
    ], BEATEN),
    "ShareGroupDescribe": (77, 1, DESCRIBE, described([
        ("MemberId", "string"), ("RackId", "string?"), ("MemberEpoch", "int32"), ("ClientId", "string"),
        ("ClientHost", "string"), ("SubscribedTopicNames", "[]string"), ("Assignment", "Assignment", NAMED_ASSIGNMENT),
    ])),
    "DescribeShareGroupOffsets": (90, 1, [("Groups", "[]DescribedGroup", [
        ("GroupId", "string"), ("Topics", "[]Topic?", [("TopicName", "string"), ("Partitions", "[]int32")]),
    ])], [("ThrottleTimeMs", "int32"), ("Groups", "[]DescribedGroup", [
        ("GroupId", "string"), ("Topics", "[]Topic", [("TopicName", "string"), ("TopicId", "uuid"), ("Partitions", "[]Partition", [
            ("PartitionIndex", "int32"), ("StartOffset", "int64"), ("LeaderEpoch", "int32"), ("Lag", "int64 1"), *ERROR,
        ])]), *ERROR,
    ])]),
    "AlterShareGroupOffsets": (91, 0, [("GroupId", "string"), ("Topics", "[]Topic", [
        ("TopicName", "string"), ("Partitions", "[]Partition", [("PartitionIndex", "int32"), ("StartOffset", "int64")]),
    ])], [("ThrottleTimeMs", "int32"), *ERROR, ("Responses", "[]Topic", [
        ("TopicName", "string"), ("TopicId", "uuid"), ("Partitions", "[]Partition", [("PartitionIndex", "int32"), *ERROR]),
    ])]),
    "DeleteShareGroupOffsets": (92, 0, [("GroupId", "string"), ("Topics", "[]Topic", [("TopicName", "string")])], [
        ("ThrottleTimeMs", "int32"), *ERROR, ("Responses", "[]Topic", [("TopicName", "string"), ("TopicId", "uuid"), *ERROR]),
    ]),
}


def field(name, kind, fields=None):
    kind, _, first = kind.replace("?", "? ").replace("  ", " ").partition(" ")
    it = {"name": name, "type": kind.rstrip("?"), "versions": f"{first.strip() or 0}+"}
    if kind.endswith("?"):
        it.update(nullableVersions=it["versions"], default="null")
    if fields is not None:
        it["fields"] = [field(*each) for each in fields]
    return it


def make(name, key, newest, kind, fields):
    schema = {
        "apiKey": key, "type": kind.lower(), "name": f"{name}{kind}", "validVersions": f"0-{newest}", "flexibleVersions": "0+",
        "fields": [field(*each) for each in fields],
    }
    with mock.patch.object(api_data, "load_json", lambda *_, **__: schema):
        return type(ApiMessage)(schema["name"], (ApiMessage,), {})


for _name, (_key, _newest, _request, _response) in MESSAGES.items():
    for _kind, _fields in (("Request", _request), ("Response", _response)):
        kafka_wire.MESSAGES[f"{_name}{_kind}"] = make(_name, _key, _newest, _kind, _fields)
