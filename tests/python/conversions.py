"""The table of conversions: what becomes of each field of a message on its way from one protocol to another.

`conversions.toml` says it; `test_conversions.py` shows it with clients; this renders it as `docs/conversions.md`:

    python tests/python/conversions.py > docs/conversions.md
"""

import datetime
import pathlib
import time
import tomllib
from decimal import Decimal

from amqp_wire import FLOATS, INTEGERS, Typed

TABLE = pathlib.Path(__file__).with_name("conversions.toml")
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "conversions.md"

PROTOCOLS = {"amqp": "AMQP 0-9-1", "kafka": "Kafka", "mqtt5": "MQTT 5", "mqtt3": "MQTT 3.1.1"}

# The letters of the types of numbers of AMQP.
NUMBERS = {*INTEGERS, *FLOATS}

# Something is there, and what it is depends on the moment.
ANY = "any:"
# The time of the test, in seconds or milliseconds, as a number or its digits.
NOW = "now:"


def load():
    return tomllib.loads(TABLE.read_text())


def value(given):
    """A value of the table as Python has it. TOML lacks bytes, null, decimal numbers and AMQP's types of numbers."""
    if isinstance(given, dict):
        return {value(name) if name.startswith("repeat:") else name: value(it) for name, it in given.items()}
    if isinstance(given, list):
        return [value(it) for it in given]
    if isinstance(given, datetime.datetime):
        return given.replace(tzinfo=None)
    if not isinstance(given, str):
        return given
    kind, _, rest = given.partition(":")
    match kind:
        case "hex":
            return bytes.fromhex(rest)
        case "null":
            return None
        case "decimal":
            return Decimal(rest)
        case "typed":
            letter, _, number = rest.partition(":")
            return Typed(letter, float(number) if letter in FLOATS else int(number))
        case "repeat":
            text, _, times = rest.partition("*")
            return text * int(times)
    return given


def matches(found, expected):
    """Whether two views are the same, where the expected one may leave values open."""
    if expected == ANY:
        return found is not None
    if expected == NOW:
        return any(abs(time.time() * unit - int(found)) < 3600 * unit for unit in (1, 1000))
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(matches(found[name], expected[name]) for name in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(matches, found, expected))
    if isinstance(expected, tuple) and isinstance(found, int):
        return expected[0] <= found <= expected[1]
    return type(found) is type(expected) and found == expected


def expected(table, row, receiver):
    """What a consumer of `receiver` finds of the message of a row, all of it."""
    always = table["always"][row["from"]].get(receiver, {})
    return value(merge(always, row[receiver]))


def merge(always, special):
    merged = dict(always)
    for name, it in special.items():
        both = isinstance(it, dict) and isinstance(merged.get(name), dict)
        merged[name] = merged[name] | it if both else it
    # `absent:` takes back what there is otherwise.
    return {name: it for name, it in merged.items() if it != "absent:"}


def receivers(row):
    return [protocol for protocol in PROTOCOLS if protocol in row]


def render(table):
    lines = [
        "# Conversions",
        "",
        "What becomes of each field of a message on its way from one protocol to another. This page is made from"
        " `tests/python/conversions.toml`, which a test checks with the clients pika, confluent-kafka, kafka-python and paho-mqtt:"
        " a consumer finds what is said here and nothing else. Numbers of"
        " types that pika cannot write are written and read frame by frame. The rules behind it:",
        "",
        *table["rules"].strip().splitlines(),
        "",
        "`hex:` stands before bytes that are not text, `null` is an absent value, and `any` something that depends on"
        " the moment. A field that a row does not name has the value that is always there.",
    ]
    for sender, name in PROTOCOLS.items():
        lines += ["", f"## From {name}", ""]
        always = table["always"][sender]
        for receiver in PROTOCOLS:
            if always.get(receiver):
                lines.append(f"- To {PROTOCOLS[receiver]} always: {shown(always[receiver])}")
        lines += [
            "",
            "| field | published | " + " | ".join(f"to {it}" for it in PROTOCOLS.values()) + " |",
            "|---|---|" + "---|" * len(PROTOCOLS),
        ]
        for row in table["row"]:
            if row["from"] == sender:
                given = [shown(row["publish"])]
                if "settings" in row:
                    given.append(f"to a topic with {shown(row['settings'])}")
                cells = [shown(row[it]) if it in row else "not delivered" for it in PROTOCOLS]
                lines.append(f"| {row['field']} | {' '.join(given)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def shown(fields):
    return ", ".join(f"`{name}` {text(it)}" for name, it in fields.items()) or "–"


def text(it):
    match it:
        case "null:":
            return "null"
        case "any:":
            return "any"
        case "now:":
            return "now"
        case "absent:":
            return "absent"
        case "":
            return "empty"
        case dict():
            return "(" + shown(it) + ")"
        case list():
            return "[" + ", ".join(map(text, it)) + "]"
        case datetime.datetime():
            return it.isoformat()
        case str() if it.startswith("typed:"):
            _, letter, number = it.split(":")
            return f"{number} as `{letter}`"
        case str():
            return "`" + it.replace("|", "\\|").replace("\0", "\\0") + "`"
        case bool():
            return str(it).lower()
    return str(it)


if __name__ == "__main__":
    print(render(load()), end="")
