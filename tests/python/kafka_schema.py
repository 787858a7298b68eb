"""Kafka's messages from their schemas, to and from plain values: what no client would put together, too.

The schemas are Kafka's own, as kafka-python carries them, and those of `SHARE`, which it does not carry. Names are
written as in `group_id`. What a request leaves out has its default; what a version does not have is not written.
"""

import functools
import re
import struct
import uuid

from kafka.protocol.schemas import load_json

# A message, its key and versions; its fields by depth: name, type (`?` may be null), versions, default or tag.
SHARE = """
ShareGroupHeartbeatRequest 76 1
  group_id string
  member_id string
  member_epoch int32
  rack_id string?
  subscribed_topic_names []string?
ShareGroupHeartbeatResponse 76 1
  throttle_time_ms int32
  error_code int16
  error_message string?
  member_id string?
  member_epoch int32
  heartbeat_interval_ms int32
  assignment struct?
    topic_partitions []struct
      topic_id uuid
      partitions []int32
ShareGroupDescribeRequest 77 1
  group_ids []string
  include_authorized_operations bool
ShareGroupDescribeResponse 77 1
  throttle_time_ms int32
  groups []struct
    error_code int16
    error_message string?
    group_id string
    group_state string
    group_epoch int32
    assignment_epoch int32
    assignor_name string
    members []struct
      member_id string
      rack_id string?
      member_epoch int32
      client_id string
      client_host string
      subscribed_topic_names []string
      assignment struct
        topic_partitions []struct
          topic_id uuid
          topic_name string
          partitions []int32
    authorized_operations int32 0+ =-2147483648
ShareFetchRequest 78 1-2
  group_id string?
  member_id string?
  share_session_epoch int32
  max_wait_ms int32
  min_bytes int32
  max_bytes int32 0+ =2147483647
  max_records int32
  batch_size int32
  share_acquire_mode int8 2+
  is_renew_ack bool 2+
  topics []struct
    topic_id uuid
    partitions []struct
      partition_index int32
      acknowledgement_batches []struct
        first_offset int64
        last_offset int64
        acknowledge_types []int8
  forgotten_topics_data []struct
    topic_id uuid
    partitions []int32
ShareFetchResponse 78 1-2
  throttle_time_ms int32
  error_code int16
  error_message string?
  acquisition_lock_timeout_ms int32
  responses []struct
    topic_id uuid
    partitions []struct
      partition_index int32
      error_code int16
      error_message string?
      acknowledge_error_code int16
      acknowledge_error_message string?
      current_leader struct
        leader_id int32
        leader_epoch int32
      records records?
      acquired_records []struct
        first_offset int64
        last_offset int64
        delivery_count int16
  node_endpoints []struct
    node_id int32
    host string
    port int32
    rack string?
ShareAcknowledgeRequest 79 1-2
  group_id string?
  member_id string?
  share_session_epoch int32
  is_renew_ack bool 2+
  topics []struct
    topic_id uuid
    partitions []struct
      partition_index int32
      acknowledgement_batches []struct
        first_offset int64
        last_offset int64
        acknowledge_types []int8
ShareAcknowledgeResponse 79 1-2
  throttle_time_ms int32
  error_code int16
  error_message string?
  acquisition_lock_timeout_ms int32 2+
  responses []struct
    topic_id uuid
    partitions []struct
      partition_index int32
      error_code int16
      error_message string?
      current_leader struct
        leader_id int32
        leader_epoch int32
  node_endpoints []struct
    node_id int32
    host string
    port int32
    rack string?
DescribeShareGroupOffsetsRequest 90 0-1
  groups []struct
    group_id string
    topics []struct?
      topic_name string
      partitions []int32
DescribeShareGroupOffsetsResponse 90 0-1
  throttle_time_ms int32
  groups []struct
    group_id string
    topics []struct
      topic_name string
      topic_id uuid
      partitions []struct
        partition_index int32
        start_offset int64
        leader_epoch int32
        lag int64 1+ =-1
        error_code int16
        error_message string?
    error_code int16
    error_message string?
AlterShareGroupOffsetsRequest 91 0
  group_id string
  topics []struct
    topic_name string
    partitions []struct
      partition_index int32
      start_offset int64
AlterShareGroupOffsetsResponse 91 0
  throttle_time_ms int32
  error_code int16
  error_message string?
  responses []struct
    topic_name string
    topic_id uuid
    partitions []struct
      partition_index int32
      error_code int16
      error_message string?
DeleteShareGroupOffsetsRequest 92 0
  group_id string
  topics []struct
    topic_name string
DeleteShareGroupOffsetsResponse 92 0
  throttle_time_ms int32
  error_code int16
  error_message string?
  responses []struct
    topic_name string
    topic_id uuid
    error_code int16
    error_message string?
"""

NUMBERS = {"int8": ">b", "int16": ">h", "int32": ">i", "int64": ">q", "uint16": ">H", "uint32": ">I", "float64": ">d",
           "bool": ">?"}
NO_ID = uuid.UUID(int=0)


class Field:
    """A field: its type, in which versions it is, may be null and is behind a tag, and what it is by default."""

    def __init__(self, name, kind, versions, nullable, default, tag=None, tagged=None, fields=()):
        self.name, self.is_array, self.kind = name, kind.startswith("[]"), kind.removeprefix("[]")
        self.versions, self.nullable, self.tag, self.tagged = versions, nullable, tag, tagged
        self.fields = list(fields)
        if self.fields:
            self.kind = "struct"
        self.default = self._default(default)

    def is_in(self, version):
        return version in self.versions

    def is_tagged(self, version):
        return self.tagged is not None and version in self.tagged

    def _default(self, given):
        if given == "null":
            return None
        if self.is_array:
            return []
        if self.kind in NUMBERS:
            number = {"bool": lambda it: it in (True, "true"), "float64": float}.get(self.kind, lambda it: int(str(it), 0))
            return number(given if given not in (None, "") else 0)
        return {"string": given or "", "uuid": NO_ID, "struct": {}}.get(self.kind, b"")


class Message:
    """A request or a response."""

    def __init__(self, key, versions, flexible, fields):
        self.key, self.versions, self.flexible, self.fields = key, versions, flexible, fields

    def is_flexible(self, version):
        return version in self.flexible


def versions(text):
    """`3`, `3+`, `3-5` or `none`."""
    first, plus, last = re.fullmatch(r"(\d+)(\+?)(?:-(\d+))?", text).groups() if text != "none" else (1, "", 0)
    return range(int(first), 100 if plus else int(last if last is not None else first) + 1)


@functools.cache
def schema(name):
    """The message of this name, as in `FetchRequest`."""
    return _share()[name] if name in _share() else _of_json(load_json(name))


def _of_json(found):
    def field(it, outer):
        own = versions(it["versions"])
        tagged = versions(it["taggedVersions"]) if "taggedVersions" in it else None
        return Field(
            re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", it["name"]).lower(), it["type"], own,
            versions(it.get("nullableVersions", "none")), it.get("default"), it.get("tag"), tagged,
            [field(part, own) for part in it.get("fields", [])],
        )

    fields = [field(it, None) for it in found["fields"]]
    return Message(found["apiKey"], versions(found["validVersions"]), versions(found["flexibleVersions"]), fields)


@functools.cache
def _share():
    found, open_fields = {}, []
    for line in SHARE.strip().splitlines():
        depth, words = (len(line) - len(line.lstrip())) // 2, line.split()
        if depth == 0:
            message = found[words[0]] = Message(int(words[1]), versions(words[2]), versions("0+"), [])
            open_fields = [message.fields]
            continue
        name, kind, *more = words
        given = [it[1:] for it in more if it.startswith("=")]
        own = [it for it in more if not it.startswith("=")]
        field = Field(
            name, kind.rstrip("?"), versions(own[0] if own else "0+"), versions("0+" if kind.endswith("?") else "none"),
            given[0] if given else "null" if kind.endswith("?") else None,
        )
        del open_fields[depth:]
        open_fields[-1].append(field)
        open_fields.append(field.fields)
    return found


def request(name, version, correlation=0, client_id="wire", **fields):
    """A request with its header and its length."""
    message = schema(f"{name}Request")
    out = bytearray(struct.pack(">hhi", message.key, version, correlation))
    _write_text(out, client_id, False)
    if message.is_flexible(version):
        out += b"\0"
    _write_struct(out, message.fields, fields, version, message.is_flexible(version))
    return struct.pack(">i", len(out)) + bytes(out)


def response(name, version, frame):
    """The values of a response, behind its correlation id; whatever is not at its default."""
    message = schema(f"{name}Response")
    reader = Reader(frame[4:])
    flexible = message.is_flexible(version)
    if flexible and name != "ApiVersions":
        reader.tags()
    found = _read_struct(reader, message.fields, version, flexible)
    assert not reader.left(), f"{len(reader.left())} bytes behind {name} {version}"
    return found


def _write_struct(out, fields, values, version, flexible):
    unknown = set(values) - {it.name for it in fields}
    assert not unknown, f"there is no {unknown}"
    tagged = []
    for field in fields:
        if not field.is_in(version):
            continue
        value = values.get(field.name, field.default)
        if field.is_tagged(version):
            if value != field.default:
                tagged.append((field, value))
        else:
            _write(out, field, value, version, flexible)
    if flexible:
        out += _unsigned(len(tagged))
        for field, value in tagged:
            body = bytearray()
            _write(body, field, value, version, True)
            out += _unsigned(field.tag) + _unsigned(len(body)) + body


def _write(out, field, value, version, flexible):
    if field.is_array:
        size = -1 if value is None else len(value)
        out += _unsigned(size + 1) if flexible else struct.pack(">i", size)
        for it in value or []:
            _write_one(out, field, it, version, flexible)
    else:
        _write_one(out, field, value, version, flexible)


def _write_one(out, field, value, version, flexible):
    if field.kind in NUMBERS:
        out += struct.pack(NUMBERS[field.kind], value)
    elif field.kind == "uuid":
        out += value.bytes
    elif field.kind == "string":
        _write_text(out, value, flexible)
    elif field.kind == "struct":
        if field.nullable and version in field.nullable and not field.is_array:
            out += b"\xff" if value is None else b"\x01"
            if value is None:
                return
        _write_struct(out, field.fields, value, version, flexible)
    else:
        size = -1 if value is None else len(value)
        out += _unsigned(size + 1) if flexible else struct.pack(">i", size)
        out += value or b""


def _write_text(out, text, flexible):
    data = None if text is None else text.encode()
    size = -1 if data is None else len(data)
    out += _unsigned(size + 1) if flexible else struct.pack(">h", size)
    out += data or b""


def _unsigned(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return self.data[self.at :]

    def take(self, size):
        assert 0 <= size <= len(self.data) - self.at, "the response is too short"
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def unsigned(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def size(self, flexible, form):
        return self.unsigned() - 1 if flexible else self.number(form)

    def tags(self):
        """Tagged fields as bytes by their numbers."""
        return {self.unsigned(): self.take(self.unsigned()) for _ in range(self.unsigned())}


def _read_struct(reader, fields, version, flexible):
    found = {}
    for field in fields:
        if field.is_in(version) and not field.is_tagged(version):
            found[field.name] = _read(reader, field, version, flexible)
    if flexible:
        tags = reader.tags()
        for field in fields:
            if field.is_in(version) and field.is_tagged(version) and field.tag in tags:
                inner = Reader(tags.pop(field.tag))
                found[field.name] = _read(inner, field, version, True)
                assert not inner.left()
        assert not tags, f"unknown tags {tags}"
    defaults = {it.name: it.default for it in fields}
    return {name: value for name, value in found.items() if value != defaults[name]}


def _read(reader, field, version, flexible):
    if not field.is_array:
        return _read_one(reader, field, version, flexible)
    size = reader.size(flexible, ">i")
    return None if size < 0 else [_read_one(reader, field, version, flexible) for _ in range(size)]


def _read_one(reader, field, version, flexible):
    if field.kind in NUMBERS:
        return reader.number(NUMBERS[field.kind])
    if field.kind == "uuid":
        return uuid.UUID(bytes=bytes(reader.take(16)))
    if field.kind == "struct":
        is_optional = version in field.nullable and not field.is_array
        if is_optional and reader.number(">b") < 0:
            return None
        return _read_struct(reader, field.fields, version, flexible)
    size = reader.size(flexible, ">h" if field.kind == "string" else ">i")
    if size < 0:
        return None
    data = bytes(reader.take(size))
    return data.decode() if field.kind == "string" else data
