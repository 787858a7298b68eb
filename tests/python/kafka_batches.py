"""Record batches that no client would send, and what a broker makes of each: its answer, and what it has stored.

`python kafka_batches.py JARS` asks Apache Kafka, from a folder of its jars, and writes down what it says in
`kafka_batches.json`, which is what the tests expect of Trivium.
"""

import gzip
import json
import random
import re
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import cramjam
import lz4.frame
import zstandard

from kafka_wire import Wire, crc32c, message, varint

RECORDED = Path(__file__).with_suffix(".json")
NOW = int(time.time() * 1000)
HOUR = 3_600_000
PATIENCE = 10
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
COMPACTED = {"cleanup.policy": "compact"}
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


def record(value=b"value", key=b"key", at=0, later=0, headers=b"\0", attributes=0, size=None):
    """One record; `headers` is its whole section of them, `size` another length than its own."""
    body = bytes([attributes]) + varint(later) + varint(at) + section(key) + section(value) + headers
    return varint(len(body) if size is None else size) + body


def section(data):
    return varint(-1) if data is None else varint(len(data)) + data


def header(key, value):
    return section(key) + section(value)


def records(*values, **more):
    return b"".join(record(value, at=at, **more) for at, value in enumerate(values or (b"one", b"two", b"three")))


def packed(codec, plain):
    match codec:
        case "none":
            return plain
        case "gzip":
            return gzip.compress(plain, mtime=0)
        case "snappy":
            block = bytes(cramjam.snappy.compress_raw(plain))
            return b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, len(block)) + block
        case "raw snappy":
            return bytes(cramjam.snappy.compress_raw(plain))
        case "lz4":
            return lz4.frame.compress(plain, block_linked=False)
        case "zstd":
            return zstandard.ZstdCompressor().compress(plain)


def batch(body=None, codec="none", count=3, last=None, attributes=0, first=None, greatest=None, producer=(-1, -1, -1),
          base=0, epoch=-1, magic=2, crc=None, length=None, behind=b""):
    """A batch of version 2 around these plain records, or compressed ones if they are `bytes` of `codec` already."""
    body = packed(codec, records()) if body is None else body
    first = NOW if first is None else first
    greatest = first if greatest is None else greatest
    covered = struct.pack(">hiqqqhii", attributes | CODECS.get(codec.removeprefix("raw "), 0),
                          count - 1 if last is None else last, first, greatest, *producer, count) + body
    length = len(covered) + 9 if length is None else length
    return struct.pack(">qiibI", base, length, epoch, magic, crc32c(covered) if crc is None else crc) + covered + behind


def old(magic, values=(b"one",)):
    """A set of messages of version 0 or 1."""
    out = b""
    for value in values:
        time = struct.pack(">q", NOW) if magic else b""
        body = struct.pack(">bb", magic, 0) + time + struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
        out += struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body
    return out


def cases():
    """Names with what is produced: bytes, and where it is not 9, the version, and the settings of the topic."""
    yield "plain", batch()
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        yield from of_a_codec(codec)
    yield "raw snappy", batch(codec="raw snappy")
    yield "lz4 with checksums", batch(lz4.frame.compress(records(), content_checksum=True, block_checksum=True), "lz4")
    yield "lz4 with a size", batch(lz4.frame.compress(records(), store_size=True), "lz4")
    large = record(bytes(300_000))
    yield "lz4 of several blocks", batch(packed("lz4", large), "lz4", count=1)
    yield "lz4 with linked blocks", batch(lz4.frame.compress(large, block_linked=True), "lz4", count=1)
    yield "lz4 with blocks of 4 MB", batch(lz4.frame.compress(records(), block_size=7), "lz4")
    noise = record(random.Random(1).randbytes(200_000))
    yield "lz4 that cannot be compressed", batch(packed("lz4", noise), "lz4", count=1)
    yield "lz4 of two frames", batch(packed("lz4", records()[:20]) + packed("lz4", records()[20:]), "lz4")
    wrong = bytearray(lz4.frame.compress(records(), content_checksum=True))
    wrong[-1] ^= 1
    yield "lz4 with a wrong checksum", batch(bytes(wrong), "lz4")
    wrong = bytearray(packed("lz4", records()))
    wrong[6] ^= 1
    yield "lz4 with a wrong checksum of its header", batch(bytes(wrong), "lz4")
    yield "gzip of two members", batch(packed("gzip", records()[:20]) + packed("gzip", records()[20:]), "gzip")
    wrong = bytearray(packed("gzip", records()))
    wrong[-6] ^= 1
    yield "gzip with a wrong checksum", batch(bytes(wrong), "gzip")
    yield "zstd of two frames", batch(packed("zstd", records()[:20]) + packed("zstd", records()[20:]), "zstd")
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(records())
    yield "zstd with a checksum", batch(checked, "zstd")
    yield "zstd with a wrong checksum", batch(checked[:-1] + bytes([checked[-1] ^ 1]), "zstd")
    skipped = struct.pack("<II", 0x184D2A50, 4) + b"skip"
    strong = zstandard.ZstdCompressor(level=22).compressobj()
    strong = strong.compress(records()) + strong.flush()
    yield "zstd with a large window", batch(strong, "zstd")
    yield "zstd with a frame to skip", batch(skipped + packed("zstd", records()), "zstd")
    two = packed("snappy", records()[:20]), packed("snappy", records()[20:])
    yield "snappy of two blocks", batch(two[0] + two[1][16:], "snappy")
    yield "snappy of two streams", batch(two[0] + two[1], "snappy")
    for codec in (5, 6, 7):
        yield f"codec {codec}", batch(attributes=codec)
        yield f"codec {codec} in version 6", batch(attributes=codec), 6
    yield "zstd in version 6", batch(codec="zstd"), 6
    yield "zstd in version 7", batch(codec="zstd"), 7
    yield "lz4 in version 3", batch(codec="lz4"), 3
    yield "plain in version 11", batch(), 11
    for magic in (0, 1):
        yield f"magic {magic}", old(magic)
    yield "magic 1, two messages", old(1, (b"one", b"two"))
    for magic in (0, 1, 3, -1, 127):
        yield f"v2 with magic {magic}", batch(magic=magic)
    yield from of_headers()
    yield from of_times()


def of_a_codec(codec):
    plain = records()
    of = lambda body, **more: batch(packed(codec, body), codec, **more)  # noqa: E731
    yield codec, of(plain)
    yield f"{codec}: null and empty fields", of(record(None, None) + record(b"", b"", 1) + record(None, b"", 2))
    if codec != "none":
        whole = packed(codec, plain)
        yield f"{codec}: garbage", batch(b"\x01\x02garbage that no codec reads", codec)
        yield f"{codec}: no payload", batch(b"", codec)
        yield f"{codec}: cut off", batch(whole[:-7], codec)
        yield f"{codec}: cut off by a byte", batch(whole[:-1], codec)
        yield f"{codec}: bytes behind", batch(whole + b"behind", codec)
        yield f"{codec}: zeros behind", batch(whole + bytes(8), codec)
        middle = bytearray(packed(codec, records(b"a" * 3000, b"b" * 3000, b"c" * 3000)))
        middle[len(middle) // 2] ^= 0xFF
        yield f"{codec}: damaged in the middle", batch(bytes(middle), codec)
        yield f"{codec}: 8 MB of zeros", of(record(bytes(8 << 20)), count=1)
    yield f"{codec}: fewer records than it says", of(plain, count=4)
    yield f"{codec}: more records than it says", of(plain, count=2)
    yield f"{codec}: no records", of(b"")
    yield f"{codec}: bytes behind the records", of(plain + b"behind")
    yield f"{codec}: a zero behind the records", of(plain + b"\0")
    yield f"{codec}: the last record is cut off", of(plain[:-3])
    one = lambda it, **more: of(it, count=1, **more)  # noqa: E731
    yield f"{codec}: a record longer than it is", one(record(size=100))
    yield f"{codec}: a record longer than its fields", one(record(size=len(record()) - 1 + 3) + b"xyz")
    yield f"{codec}: a record shorter than it is", one(record(size=5))
    yield f"{codec}: a record of no bytes", one(varint(0))
    yield f"{codec}: a record of a negative length", one(varint(-1) + record()[1:])
    yield f"{codec}: a record of a huge length", one(varint(0x7FFFFFFF) + record()[1:])
    yield f"{codec}: a length that is no varint", one(b"\xff" * 11)
    yield f"{codec}: a length of 6 bytes", one(b"\x80\x80\x80\x80\x80\x01" + record()[1:])
    yield f"{codec}: a longer varint than needed", one(bytes([record()[0] + 2 | 0x80, 0]) + b"\0\x80\0" + record()[3:])
    yield f"{codec}: a length over 32 bits", one(b"\xff\xff\xff\xff\x7f" + record()[1:])
    body = lambda it: one(varint(len(it)) + it)  # noqa: E731
    yield f"{codec}: a key of length -2", body(b"\0\0\0" + varint(-2) + section(b"v") + b"\0")
    yield f"{codec}: a value of length -2", body(b"\0\0\0" + section(b"k") + varint(-2) + b"\0")
    yield f"{codec}: a key of length -2147483648", body(b"\0\0\0" + varint(-(1 << 31)) + section(b"v") + b"\0")
    yield f"{codec}: a key that is too long", body(b"\0\0\0" + varint(50) + b"k" + section(b"v") + b"\0")
    yield f"{codec}: a huge key", body(b"\0\0\0" + varint(0x7FFFFFFF) + b"k" + section(b"v") + b"\0")
    yield f"{codec}: a value that is too long", body(b"\0\0\0" + section(b"k") + varint(50) + b"v" + b"\0")
    yield f"{codec}: -1 headers", one(record(headers=varint(-1)))
    yield f"{codec}: a huge number of headers", one(record(headers=varint(0x7FFFFFFF)))
    yield f"{codec}: a header too few", one(record(headers=varint(2) + header(b"h", b"v")))
    yield f"{codec}: a header too many", one(record(headers=varint(0) + header(b"h", b"v")))
    yield f"{codec}: a header", one(record(headers=varint(1) + header(b"h", b"v")))
    yield f"{codec}: a header without a name", one(record(headers=varint(1) + header(None, b"v")))
    yield f"{codec}: a header with an empty name", one(record(headers=varint(1) + header(b"", b"v")))
    yield f"{codec}: a header with a name of length -2", one(record(headers=varint(1) + varint(-2) + section(b"v")))
    yield f"{codec}: a header that is not text", one(record(headers=varint(1) + header(b"\xff\xfe", b"v")))
    yield f"{codec}: a header without a value", one(record(headers=varint(1) + header(b"h", None)))
    yield f"{codec}: a header with a value of length -2", one(record(headers=varint(1) + section(b"h") + varint(-2)))
    yield f"{codec}: a header that is too long", one(record(headers=varint(1) + section(b"h") + varint(9) + b"v"))
    yield f"{codec}: attributes of records", of(records(attributes=0xFF))
    yield f"{codec}: offsets all 0", of(record(b"a") + record(b"b") + record(b"c"))
    yield f"{codec}: offsets in disorder", of(record(b"a", at=2) + record(b"b", at=1) + record(b"c", at=0))
    yield f"{codec}: offsets with gaps", of(record(b"a", at=0) + record(b"b", at=5) + record(b"c", at=9))
    yield f"{codec}: offsets from 1", of(record(b"a", at=1) + record(b"b", at=2) + record(b"c", at=3))
    yield f"{codec}: negative offsets", of(record(b"a", at=-3) + record(b"b", at=-2) + record(b"c", at=-1))
    yield f"{codec}: no key, compacted", of(record(b"a") + record(b"b", None, 1) + record(b"c", None, 2)), 9, COMPACTED
    yield f"{codec}: an empty key, compacted", of(records(key=b"")), 9, COMPACTED
    yield f"{codec}: a key of length -2, compacted", body(b"\0\0\0" + varint(-2) + section(b"v") + b"\0"), 9, COMPACTED
    yield f"{codec}: a greatest time that is not", of(plain, greatest=NOW + 5)
    yield f"{codec}: a greatest time that is too small", of(record(b"a") + record(b"b", at=1, later=7), count=2)
    yield f"{codec}: times in disorder", of(record(b"a", later=9) + record(b"b", at=1, later=-4), count=2, greatest=NOW + 9)
    yield f"{codec}: the bit of LogAppendTime", of(plain, attributes=8)
    yield f"{codec}: the bit of LogAppendTime, LogAppendTime", of(plain, attributes=8), 9, APPEND_TIME
    yield f"{codec}: the bit of LogAppendTime, null fields, LogAppendTime", \
        of(record(None, None), count=1, attributes=8), 9, APPEND_TIME
    yield f"{codec}: the bit of LogAppendTime and no times", of(plain, attributes=8, first=-1)
    yield f"{codec}: the bit of LogAppendTime, another greatest time", of(plain, attributes=8, greatest=NOW + 5)
    yield f"{codec}: five without keys, compacted", \
        of(b"".join(record(b"a", None, at=at) for at in range(5)), count=5), 9, COMPACTED
    yield f"{codec}: LogAppendTime", of(plain), 9, APPEND_TIME
    yield f"{codec}: too new", of(record(b"a") + record(b"b", at=1, later=2 * HOUR), count=2, greatest=NOW + 2 * HOUR)
    yield f"{codec}: too new, and not said so", of(record(b"a") + record(b"b", at=1, later=2 * HOUR), count=2)
    yield f"{codec}: only said to be too new", of(plain, greatest=NOW + 2 * HOUR)
    yield f"{codec}: too new in the bit of LogAppendTime", of(plain, greatest=NOW + 2 * HOUR, attributes=8)
    yield (f"{codec}: five that are too old", of(b"".join(record(b"a", at=at, later=-at * HOUR) for at in range(6)), count=6),
           9, {"message.timestamp.before.max.ms": str(HOUR // 2)})
    yield f"{codec}: no times", of(plain, first=-1)
    yield f"{codec}: no times, LogAppendTime", of(plain, first=-1), 9, APPEND_TIME
    yield f"{codec}: times below -1", of(plain, first=-100)
    yield f"{codec}: some without a time", of(record(b"a") + record(b"b", at=1, later=-1001), count=2, first=1000)
    yield f"{codec}: times that overflow", of(record(b"a", later=(1 << 63) - 1), count=1)
    yield f"{codec}: a huge time", of(plain, first=(1 << 63) - 1, greatest=(1 << 63) - 1)
    yield f"{codec}: every fault at once", of(record(b"a", None, later=2 * HOUR) + record(b"b", None, 1) + record(b"c", at=2,
                                              later=2 * HOUR)), 9, COMPACTED
    for other in ("uncompressed", "gzip", "lz4"):
        yield f"{codec}: times in disorder, to {other}", of(
            record(b"a", later=9) + record(b"b", at=1, later=-4), count=2, greatest=NOW + 9), 9, {"compression.type": other}
        yield f"{codec}: delete horizon and unused bits, to {other}", of(plain, attributes=-64), 9, {"compression.type": other}
        yield f"{codec}: offsets all 0, to {other}", of(record(b"a") + record(b"b") + record(b"c")), 9, {"compression.type": other}
        yield f"{codec}: a greatest time that is not, to {other}", of(plain, greatest=NOW + 5), 9, {"compression.type": other}
        yield f"{codec}: bytes behind the records, to {other}", of(plain + b"behind"), 9, {"compression.type": other}
        yield f"{codec}: attributes of records, to {other}", of(records(attributes=0xFF)), 9, {"compression.type": other}
        yield f"{codec}: a record longer than its fields, to {other}", \
            one(record(size=len(record()) - 1 + 3) + b"xyz"), 9, {"compression.type": other}
        yield f"{codec}: LogAppendTime, to {other}", of(plain, greatest=NOW + 5), 9, {"compression.type": other, **APPEND_TIME}


def of_headers():
    """The header of a batch, and what is around it."""
    yield "nothing", b""
    yield "no batch at all", None
    yield "three bytes", b"abc"
    yield "less than a header", batch()[:40]
    yield "a header alone", batch(b"", count=0, last=-1)
    yield "a header that counts one", batch(b"", count=1)
    yield "a batch that ends early", batch()[:-1]
    yield "two batches", batch() + batch()
    yield "two batches in version 3", batch() + batch(), 3
    yield "a byte behind", batch(behind=b"x")
    yield "bytes behind", batch(behind=b"twelve bytes")
    yield "20 bytes behind", batch(behind=b"twenty bytes behind.")
    yield "zeros behind", batch(behind=bytes(30))
    yield "half a batch behind", batch(behind=batch()[:50])
    yield "lz4, a byte behind", batch(codec="lz4", behind=b"x")
    yield "lz4, half a batch behind", batch(codec="lz4", behind=batch()[:50])
    yield "an old message behind", batch(behind=old(1))
    for length in (0, 13, 14, 30, 48, 49, -1, 1 << 30, -(1 << 31)):
        yield f"length {length}", batch(length=length)
    yield "a length beyond the end", batch(length=len(batch()) - 12 + 1)
    yield "a wrong checksum", batch(crc=7)
    yield "a wrong checksum of lz4", batch(codec="lz4", crc=7)
    for base in (1, -1, 1 << 40, -(1 << 63)):
        yield f"base offset {base}", batch(base=base)
    for epoch in (0, 5, -7):
        yield f"leader epoch {epoch}", batch(epoch=epoch)
    for count in (0, -1, -(1 << 31), (1 << 31) - 1):
        yield f"count {count}", batch(count=count, last=2)
        yield f"last offset delta {count}", batch(last=count)
    yield "count and last offset delta -1", batch(count=-1, last=-2)
    yield "count and last offset delta 2147483647", batch(count=(1 << 31) - 1, last=(1 << 31) - 2)
    yield "last offset delta too large", batch(last=5)
    yield "last offset delta too small", batch(last=1)
    yield "control", batch(attributes=0x20)
    yield "control and transactional", batch(attributes=0x30)
    yield "transactional without a producer", batch(attributes=0x10)
    yield "transactional with a producer", batch(attributes=0x10, producer=(7, 0, 0))
    yield "delete horizon", batch(attributes=0x40)
    yield "delete horizon of lz4", batch(codec="lz4", attributes=0x40)
    yield "delete horizon, greatest time wrong", batch(attributes=0x40, greatest=NOW + 5)
    yield "unused bits", batch(attributes=-128)
    yield "unused bits of lz4", batch(codec="lz4", attributes=-128)
    yield "unused bits, greatest time wrong", batch(attributes=-128, greatest=NOW + 5)
    for name, producer in {
        "no sequence": (7, 0, -1), "no epoch": (7, -1, 0), "epoch -2": (7, -2, 0), "sequence -2": (7, 0, -2),
        "id -2": (-2, 0, 0), "only a sequence": (-1, -1, 5), "only an epoch": (-1, 5, -1), "id -2 without more": (-2, -1, -1),
        "begins late": (7, 0, 5), "wraps": (7, 0, (1 << 31) - 2), "all is well": (7, 0, 0), "epoch 3": (7, 3, 0),
    }.items():
        yield f"producer: {name}", batch(producer=producer)
        yield f"producer: {name}, lz4", batch(codec="lz4", producer=producer)
    yield "too large", batch(record(bytes(2000)), count=1), 9, {"max.message.bytes": "1000"}
    yield "too large and damaged", batch(record(bytes(2000)), count=1, crc=7), 9, {"max.message.bytes": "1000"}
    yield "too large and malformed", batch(record(bytes(2000)), count=7), 9, {"max.message.bytes": "1000"}
    yield "too large when recompressed", batch(packed("lz4", record(bytes(9000))), "lz4", count=1), 9, {
        "max.message.bytes": "1000", "compression.type": "uncompressed"}
    yield "too large until recompressed", batch(record(bytes(9000)), count=1), 9, {
        "max.message.bytes": "1000", "compression.type": "lz4"}
    yield "base offset and a wrong checksum", batch(base=5, crc=7)
    yield "base offset and too large", batch(record(bytes(2000)), count=1, base=5), 9, {"max.message.bytes": "1000"}
    yield "control and a wrong checksum", batch(attributes=0x20, crc=7)
    yield "control and a wrong count", batch(attributes=0x20, count=9)
    yield "codec 5 and a wrong checksum", batch(attributes=5, crc=7)
    yield "codec 5 and a base offset", batch(attributes=5, base=4)
    yield "no sequence and a wrong count", batch(producer=(7, 0, -1), count=9)
    yield "a wrong epoch and malformed", batch(producer=(7, 0, 5), count=9)


def of_times():
    yield "a second too new by the batch, not by its records", batch(greatest=NOW + 2 * HOUR)
    yield "records at times of their own", batch(
        record(b"a") + record(b"b", at=1, later=5) + record(b"c", at=2, later=3), greatest=NOW + 5)


def all_cases():
    found = {}
    for name, data, *more in cases():
        assert name not in found, name
        found[name] = (data, *more, *(9, {})[len(more):])
    return found


def produced(port, name, data, version, settings):
    """What a broker says to a batch in a new topic, and what there is in the topic then."""
    Topic = message("CreateTopicsRequest.CreatableTopic")
    Config = message("CreateTopicsRequest.CreatableTopic.CreatableTopicConfig")
    with Wire(port) as wire:
        made = wire.call("CreateTopics", 5, timeout_ms=30_000, validate_only=False, topics=[Topic(
            name=name, num_partitions=1, replication_factor=1, assignments=[],
            configs=[Config(name=key, value=value) for key, value in settings.items()])])
        assert made.topics[0].error_code == 0, made
        answer = told(port, name, data, version)
        while answer["code"] in (3, 6):  # the broker has not heard of the topic yet
            answer = told(port, name, data, version)
        return {**answer, "stored": stored(wire, name)}


def told(port, name, data, version):
    Topic = message("ProduceRequest.TopicProduceData")
    Partition = message("ProduceRequest.TopicProduceData.PartitionProduceData")
    try:
        with Wire(port, patience=PATIENCE) as wire:
            answer = wire.call("Produce", version, transactional_id=None, acks=-1, timeout_ms=30_000, topic_data=[
                Topic(name=name, partition_data=[Partition(index=0, records=data)])])
    except TimeoutError:
        return {"code": "silence"}
    except ConnectionError:
        return {"code": "closed"}
    it = answer.responses[0].partition_responses[0]
    out = {"code": it.error_code, "base": it.base_offset, "time": "none" if it.log_append_time_ms == -1 else "broker's"}
    if version >= 5:
        out["start"] = it.log_start_offset
    if version >= 8:
        out["records"] = [[e.batch_index, told_of(e.batch_index_error_message, name)] for e in it.record_errors]
        out["text"] = told_of(it.error_message, name)
    return out


def told_of(text, name):
    """A text without the name of its topic and the times of its batch."""
    if text is None:
        return None
    return re.sub(r"-?\d{12,}", "TIME", text.replace(name, "TOPIC"))


def stored(wire, name):
    """The first batch of a topic: what its header says, and what its records are."""
    Topic = message("FetchRequest.FetchTopic")
    answer = wire.call(
        "Fetch", 12, max_wait_ms=0, min_bytes=0, max_bytes=1 << 24, isolation_level=0, session_id=0, session_epoch=-1,
        topics=[Topic(topic=name, partitions=[Topic.FetchPartition(
            partition=0, current_leader_epoch=-1, fetch_offset=0, last_fetched_epoch=-1, log_start_offset=-1,
            partition_max_bytes=1 << 24)])], forgotten_topics_data=[], rack_id="")
    data = bytes(answer.responses[0].partitions[0].records or b"")
    if not data:
        return None
    base, length, _, magic, crc = struct.unpack_from(">qiibI", data)
    attributes, last, first, greatest, *producer, count = struct.unpack_from(">hiqqqhii", data, 21)
    assert crc == crc32c(data[21:12 + length])
    codec = next(name for name, number in CODECS.items() if number == attributes & 7)
    plain = unpacked(codec, data[61:12 + length])
    return {
        "base": base, "behind": len(data) - 12 - length, "codec": codec, "attributes": attributes & ~7, "last": last,
        "first": when(first), "greatest": when(greatest), "producer": producer, "count": count,
        "records": plain[:200].hex() + ("" if len(plain) <= 200 else f"… {len(plain)}"),
    }


def when(time):
    """A time beside that of the test, as far as it is near."""
    if abs(time - NOW) < HOUR // 2 and time not in (NOW, NOW + 5, NOW + 7, NOW + 9):
        return "broker's"
    return f"NOW {time - NOW:+}" if abs(time - NOW) < 10 * HOUR else time


def unpacked(codec, data):
    try:
        match codec:
            case "none":
                return data
            case "gzip":
                return gzip.decompress(data)
            case "snappy" if data.startswith(b"\x82SNAPPY\0"):
                out, at = b"", 16
                while at < len(data):
                    if data.startswith(b"\x82SNAPPY\0", at):
                        at += 16
                    (size,) = struct.unpack_from(">i", data, at)
                    out += bytes(cramjam.snappy.decompress_raw(data[at + 4:at + 4 + size]))
                    at += 4 + size
                return out
            case "snappy":
                return bytes(cramjam.snappy.decompress_raw(data))
            case "lz4":
                return lz4.frame.decompress(data)
            case "zstd":
                return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(1 << 25)
    except Exception as error:  # what a broker has stored as it came
        return b"damaged"


def main(jars):
    from apache_kafka import ApacheKafka

    with tempfile.TemporaryDirectory() as directory:
        broker = ApacheKafka(directory + "/kafka", jars).start()
        try:
            found = {name: produced(broker.port, f"t{at}", *case) for at, (name, case) in enumerate(all_cases().items())}
        finally:
            broker.close()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(it, ensure_ascii=False)}" for name, it in found.items())
    RECORDED.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
